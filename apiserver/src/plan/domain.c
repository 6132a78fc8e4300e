/* VM, VBD, VDI, VIF rows -> struct domain_config. How a VM boots and what hardware it has is in hardware.c.
 */
#include "domain.h"
#include "cloud_init.h"
#include "hardware.h"

#include "../handlers/vm_data.h"
#include "../rules/vbd_device.h"
#include "../server.h"
#include "scheduling.h"
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

static int unsupported(struct api_err *err, const char *field, const char *value, const char *reason)
{
    return err_value_not_supported(err, field, value, reason);
}

static enum end_action normal_exit(enum on_normal_exit action)
{
    return action == ON_NORMAL_EXIT_RESTART ? END_ACTION_RESTART : END_ACTION_DESTROY;
}

static enum end_action crash(enum on_crash_behaviour action)
{
    switch (action) {
    case ON_CRASH_BEHAVIOUR_DESTROY:
    case ON_CRASH_BEHAVIOUR_COREDUMP_AND_DESTROY:
        return END_ACTION_DESTROY;
    case ON_CRASH_BEHAVIOUR_RESTART:
    case ON_CRASH_BEHAVIOUR_COREDUMP_AND_RESTART:
    case ON_CRASH_BEHAVIOUR_RENAME_RESTART:
        return END_ACTION_RESTART;
    case ON_CRASH_BEHAVIOUR_PRESERVE:
        return END_ACTION_PRESERVE;
    }
    return END_ACTION_DESTROY;
}

static int plan_medium(const struct snapshot *snap, const struct vbd_row *vbd, struct domain_disk *disk,
                       struct api_err *err)
{
    if (vbd->empty || ref_is_null(vbd->VDI)) {
        disk->source = DISK_SOURCE_EMPTY;
        return 0;
    }
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, vbd->VDI));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    if (!sr)
        return fail_handle(err, CLASS_VDI, vbd->VDI);
    str_assign(&disk->sr, sr->uuid);
    if (streq(sr->content_type, "iso")) {
        disk->source = DISK_SOURCE_ISO;
        str_assign(&disk->iso, vdi->location);
    } else {
        disk->source = DISK_SOURCE_DISK;
        str_assign(&disk->disk, vdi->uuid);
    }
    return 0;
}

int plan_disk(const struct snapshot *snap, const struct vbd_row *vbd, struct domain_disk *disk,
              struct api_err *err)
{
    disk->cdrom = vbd->type == VBD_TYPE_CD;
    disk->read_only = disk->cdrom || vbd->mode == VBD_MODE_RO;
    disk->bus = disk->cdrom ? DISK_BUS_SATA : DISK_BUS_VIRTIO;
    int number;
    char name[VBD_DEVICE_NAME_SIZE];
    if (!vbd_device_parse(vbd->userdevice, &number))
        return err_invalid_device(err, vbd->userdevice);
    disk->index = number;
    str_assign(&disk->device, vbd_device_name(number, name));
    if (vbd->type == VBD_TYPE_FLOPPY)
        return unsupported(err, "VBD.type", "Floppy", "floppy drives are not built");
    struct disk_limits limits;
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT; /* words of an imported VM: it starts all the same */
    if (!disk->cdrom &&
        plan_limits(vbd->qos_algorithm_type, vbd->qos_algorithm_params, &limits, &ignored) == 0) {
        disk->max_iops = limits.max_iops;
        disk->max_kbytes = limits.max_kbytes;
    }
    return plan_medium(snap, vbd, disk, err);
}

#define KIND_KEY "corral:kind"
#define RATE_MAX 100000000 /* as domain_nic has it */

enum nic_kind plan_nic_kind(const struct network_row *network)
{
    const char *kind = network->other_config ? str_map_get(network->other_config, KIND_KEY) : NULL;
    return kind && streq(kind, "user") ? NIC_KIND_USER : NIC_KIND_BRIDGE;
}

static enum nic_locking locking_of(const struct vif_row *vif, const struct network_row *network)
{
    switch (vif->locking_mode) {
    case VIF_LOCKING_MODE_LOCKED:
        return NIC_LOCKING_LOCKED;
    case VIF_LOCKING_MODE_DISABLED:
        return NIC_LOCKING_CLOSED;
    case VIF_LOCKING_MODE_UNLOCKED:
        return NIC_LOCKING_OPEN;
    case VIF_LOCKING_MODE_NETWORK_DEFAULT:
        break;
    }
    return network->default_locking_mode == NETWORK_DEFAULT_LOCKING_MODE_DISABLED ? NIC_LOCKING_CLOSED
                                                                                  : NIC_LOCKING_OPEN;
}

static void add_allowed(const struct vif_row *vif, struct domain_nic *nic)
{
    for (size_t i = 0; vif->ipv4_allowed && i < vif->ipv4_allowed->count; i++)
        domain_nic_add_ipv4_allowed(nic, vif->ipv4_allowed->items[i]);
    for (size_t i = 0; vif->ipv6_allowed && i < vif->ipv6_allowed->count; i++)
        domain_nic_add_ipv6_allowed(nic, vif->ipv6_allowed->items[i]);
}

/* qos_algorithm_type=ratelimit, qos_algorithm_params:kbps: kilobytes in a second. What is no such number
 * limits nothing, as ever. */
static int64_t rate_of(const struct vif_row *vif)
{
    const char *kbps = str_map_get(vif->qos_algorithm_params, "kbps");
    char *end;
    if (!streq(vif->qos_algorithm_type, "ratelimit") || !kbps || *kbps < '1' || *kbps > '9')
        return 0;
    long long rate = strtoll(kbps, &end, 10);
    return *end ? 0 : rate < RATE_MAX ? rate : RATE_MAX;
}

int plan_nic(const struct snapshot *snap, const struct vif_row *vif, struct domain_nic *nic,
             struct api_err *err)
{
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, vif->network));
    if (!network)
        return fail_handle(err, CLASS_network, vif->network);
    nic->index = strtol(vif->device, NULL, 10);
    str_assign(&nic->mac, vif->MAC);
    nic->kind = plan_nic_kind(network);
    enum nic_locking locking = locking_of(vif, network);
    if (nic->kind == NIC_KIND_BRIDGE) {
        str_assign(&nic->bridge, network->bridge);
        nic->locking = locking;
        add_allowed(vif, nic);
        nic->rate_kbytes = rate_of(vif);
        for (size_t i = 0; vif->trunks && i < vif->trunks->count; i++)
            domain_nic_add_trunks(nic, vif->trunks->items[i]);
    } else if (locking == NIC_LOCKING_CLOSED) {
        nic->kind = NIC_KIND_NONE;
    }
    return 0;
}

static int plan_devices(const struct snapshot *snap, const struct vm_row *vm, struct domain_config *config,
                        struct api_err *err)
{
    bool resuming = vm->power_state != VM_POWER_STATE_HALTED;
    enum disk_bus bus;
    enum nic_model model;
    if (plan_bus(vm, &bus, err) < 0 || plan_nic_model(vm, &model, err) < 0)
        return -1;
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        bool left_out = vbd && resuming && !vbd->currently_attached;
        struct domain_disk *disk = vbd && !left_out ? domain_config_add_disks(config) : NULL;
        if (disk && plan_disk(snap, vbd, disk, err) < 0)
            return -1;
        if (disk && !disk->cdrom)
            disk->bus = bus;
    }
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        if (vif && (!resuming || vif->currently_attached) &&
            plan_nic(snap, vif, domain_config_add_nics(config), err) < 0)
            return -1;
        if (vif && config->nics_count)
            config->nics[config->nics_count - 1].model = model;
    }
    return plan_cloud_init(vm, bus, config, err);
}

#define NAME_MAX_BYTES 255
#define DISKS_MAX 64
#define NICS_MAX 16

/* The domain's name is for people and logs of the host: one line, not too long, and whole characters. */
static void plan_name(const struct vm_row *vm, struct domain_config *config)
{
    size_t len = strnlen(vm->name_label, NAME_MAX_BYTES + 1);
    if (len > NAME_MAX_BYTES)
        for (len = NAME_MAX_BYTES; len > 0 && (vm->name_label[len] & 0xc0) == 0x80;)
            len--;
    AUTO_FREE char *name = xstrndup(vm->name_label, len);
    for (char *p = name; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    str_assign(&config->name, name);
}

int plan_domain(const struct snapshot *snap, const struct vm_row *vm, bool start_paused,
                struct domain_config *out, struct api_err *err)
{
    AUTO_DOMAIN_CONFIG struct domain_config config;
    domain_config_init(&config);
    str_assign(&config.uuid, vm->uuid);
    plan_name(vm, &config);
    config.memory_bytes = vm->memory_dynamic_max > 0 ? vm->memory_dynamic_max : vm->memory_static_max;
    config.vcpus = vm->VCPUs_at_startup;
    config.vcpus_max = vm->VCPUs_max > vm->VCPUs_at_startup ? vm->VCPUs_max : 0;
    config.start_paused = start_paused;
    config.on_shutdown = normal_exit(vm->actions_after_shutdown);
    config.on_reboot = normal_exit(vm->actions_after_reboot);
    config.on_crash = crash(vm->actions_after_crash);
    config.coredump = vm->actions_after_crash == ON_CRASH_BEHAVIOUR_COREDUMP_AND_DESTROY ||
                      vm->actions_after_crash == ON_CRASH_BEHAVIOUR_COREDUMP_AND_RESTART;
    config.guest_data = true;
    str_map_assign(&config.data, vm_data_shared(vm));
    if (plan_scheduling(vm->VCPUs_params, &config, err) < 0 || plan_boot(vm, &config, err) < 0 ||
        plan_hardware(vm, &config, err) < 0 || plan_devices(snap, vm, &config, err) < 0)
        return -1;
    if (config.disks_count > DISKS_MAX || config.nics_count > NICS_MAX)
        return unsupported(err, "VM", vm->name_label, "a VM starts with up to 64 disks and 16 network cards");
    struct hv_err cause;
    if (domain_config_check(&config, &cause) < 0)
        return unsupported(err, "VM", vm->name_label, cause.text);
    *out = config;
    config = (struct domain_config){0}; /* moved: a zeroed one frees nothing */
    return 0;
}
