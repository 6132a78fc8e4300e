/* From a domain's configuration and opened descriptors to QEMU's arguments. Pure: opens, reads and asks
 * nothing, so that golden files can say what a configuration becomes (tests/golden/). */
#pragma once
#include <hv/driver.h>

/* Descriptors keep their numbers in the device model; -1: absent. */
struct qemu_plan_input {
    const struct domain_config *config; /* checked */
    const struct disk_chain *chains;    /* one for each of config->disks */
    const char *binary;
    enum accelerator accelerator;
    int qmp_fd, serial_fd, agent_fd; /* listening sockets */
    int serial_log_fd;
    int kernel_fd, ramdisk_fd;
    int ovmf_code_fd, ovmf_vars_fd;
    int64_t now; /* unix seconds, for a guest clock that is off UTC */
};

struct qemu_plan {
    char **argv; /* ended by NULL */
    size_t argc;
    int *fds; /* that the device model needs */
    size_t fd_count;
};
#define QEMU_PLAN_INIT ((struct qemu_plan){0})

/* What QEMU cannot have, beyond domain_config_check: too many devices, a read-only disk on SATA. */
int qemu_plan_check(const struct domain_config *config, struct hv_err *err);
/* 0, or -1: UNSUPPORTED or BAD_ARGUMENT. */
int qemu_plan_make(const struct qemu_plan_input *input, struct qemu_plan *plan, struct hv_err *err);
void qemu_plan_done(struct qemu_plan *plan);
#define AUTO_QEMU_PLAN __attribute__((cleanup(qemu_plan_done)))

/* Ids of a disk's device and block nodes, also used for media changes. */
#define QEMU_DEVICE_ID_SIZE 48
char *qemu_device_id(const char *device, char out[static QEMU_DEVICE_ID_SIZE]);
/* Nodes of one image of a chain: the protocol node that reads `/dev/fdset/<set>` and the format node above
 * it, as arguments of blockdev-add. `backing`: node name of the image below, NULL: none. The caller decrefs.
 */
json_t *qemu_file_node(const char *name, long long fdset, bool read_only);
json_t *qemu_format_node(const char *name, const char *file, enum image_format format, bool read_only,
                         const char *backing);
