/* The error of the hv layer, and the small parts of <hv/driver.h> that belong to no driver. */
#include <base/mem.h>
#include <hv/driver.h>
#include <hv/err.h>
#include <stdarg.h>
#include <stdio.h>

int hv_fail(struct hv_err *err, enum hv_err_kind kind, const char *format, ...)
{
    if (!err)
        return -1;
    err->kind = kind;
    va_list ap;
    va_start(ap, format);
    vsnprintf(err->text, sizeof(err->text), format, ap);
    va_end(ap);
    return -1;
}

const char *driver_capability_name(unsigned bit)
{
    static const struct {
        unsigned bit;
        const char *name;
    } names[] = {
        {DRIVER_CAN_START, "start"},
        {DRIVER_CAN_PAUSE, "pause"},
        {DRIVER_CAN_UEFI, "uefi"},
        {DRIVER_CAN_KERNEL, "kernel"},
        {DRIVER_CAN_VNC, "vnc"},
        {DRIVER_CAN_SERIAL, "serial"},
        {DRIVER_CAN_GUEST_AGENT, "guest_agent"},
        {DRIVER_CAN_CD_CHANGE, "cd_change"},
        {DRIVER_CAN_USER_NET, "user_net"},
        {DRIVER_CAN_BRIDGE, "bridge"},
        {DRIVER_CAN_SECURE_BOOT, "secure_boot"},
        {DRIVER_CAN_TPM, "tpm"},
        {DRIVER_CAN_NESTED, "nested"},
        {DRIVER_CAN_GUEST_KERNEL, "guest_kernel"},
        {DRIVER_CAN_MIGRATE, "migrate"},
        {DRIVER_CAN_DISK_MOVE, "disk_move"},
        {DRIVER_CAN_GUEST_DATA, "guest_data"},
        {DRIVER_CAN_DISK_CLONE, "disk_clone"},
        {DRIVER_CAN_SNAPSHOT, "snapshot"},
        {DRIVER_CAN_CHECKPOINT, "checkpoint"},
        {DRIVER_CAN_SUSPEND, "suspend"},
        {DRIVER_CAN_DISK_PLUG, "disk_plug"},
        {DRIVER_CAN_NIC_PLUG, "nic_plug"},
        {DRIVER_CAN_SET_VCPUS, "set_vcpus"},
        {DRIVER_CAN_SET_MEMORY, "set_memory"},
        {DRIVER_CAN_CPU_MASK, "cpu_mask"},
        {DRIVER_CAN_CPU_WEIGHT, "cpu_weight"},
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].bit == bit)
            return names[i].name;
    return NULL;
}

void disk_chain_done(struct disk_chain *chain)
{
    for (size_t i = 0; i < chain->count; i++)
        if (chain->nodes[i].fd >= 0)
            close(chain->nodes[i].fd);
    free(chain->nodes);
    *chain = DISK_CHAIN_INIT;
}
