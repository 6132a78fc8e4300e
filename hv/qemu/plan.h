/* From a domain's configuration and opened descriptors to QEMU's arguments. Pure: opens, reads and asks
 * nothing, so that golden files can say what a configuration becomes (tests/golden/). */
#pragma once
#include <hv/driver.h>
#include <jansson.h>

/* ---- slots ----
 * Every virtio disk and nic sits behind a root port of its own, so that it can come and go while the guest
 * runs. A layout says which: {"ports": 16, "devices": {"disk-xvda": 0, "nic0": 1}}. It is made at the start,
 * kept in the domain's record and in the header of a suspended one, because a guest finds its devices by
 * their place. */
#define QEMU_PORTS_MAX 96
#define QEMU_PORTS_SPARE 8 /* at least that many are free at the start */
json_t *qemu_layout_new(const struct domain_config *config);
/* False: not a layout that has a place for each device of the configuration. */
bool qemu_layout_ok(const json_t *layout, const struct domain_config *config);
/* -1: it has none. */
int qemu_layout_port(const json_t *layout, const char *id);
/* A free port, from now on that device's; -1: all are taken. */
int qemu_layout_take(json_t *layout, const char *id);
void qemu_layout_free(json_t *layout, const char *id);

/* What the guest sees beside its devices, for suspended domains. */
#define QEMU_MACHINE "pc-q35-7.2"
const char *qemu_cpu_words(enum accelerator accelerator);

/* Descriptors keep their numbers in the device model; -1: absent. */
struct qemu_plan_input {
    const struct domain_config *config; /* checked */
    const struct disk_chain *chains;    /* one for each of config->disks */
    const int *taps;                    /* one for each of config->nics; -1 unless it is on a bridge */
    const char *binary;
    enum accelerator accelerator;
    int qmp_fd, serial_fd, agent_fd, data_fd; /* listening sockets */
    int serial_log_fd;
    int kernel_fd, ramdisk_fd;
    const char *cmdline; /* of that kernel; NULL: none */
    int ovmf_code_fd, ovmf_vars_fd;
    bool secure_boot; /* as decided: the code of ovmf_code_fd is the one that checks signatures */
    int tpm_fd;       /* connected to the TPM's control channel */
    int64_t now;      /* unix seconds, for a guest clock that is off UTC */
    const json_t *layout;
    bool incoming; /* the guest's state comes later; it stands still until then */
};

struct qemu_plan {
    char **argv; /* ended by NULL */
    size_t argc;
    int *fds; /* that the device model needs */
    size_t fd_count;
};
#define QEMU_PLAN_INIT ((struct qemu_plan){0})

/* A reboot of the guest's own accord is QEMU's matter alone; else it leaves QEMU waiting, as a power-off
 * does. */
bool qemu_resets(const struct domain_config *config);
/* Only a power-off is traced, into QEMU's log. */
#define QEMU_OFF_TRACE "qemu_system_shutdown_request"
/* What QEMU cannot have, beyond domain_config_check: too many devices, a read-only disk on SATA. */
int qemu_plan_check(const struct domain_config *config, struct hv_err *err);
/* 0, or -1: UNSUPPORTED or BAD_ARGUMENT. */
int qemu_plan_make(const struct qemu_plan_input *input, struct qemu_plan *plan, struct hv_err *err);
void qemu_plan_done(struct qemu_plan *plan);
#define AUTO_QEMU_PLAN __attribute__((cleanup(qemu_plan_done)))

/* Ids of a disk's device and block nodes, also used for media changes. */
#define QEMU_DEVICE_ID_SIZE 48
char *qemu_device_id(const char *device, char out[static QEMU_DEVICE_ID_SIZE]);
char *qemu_nic_id(int64_t index, char out[static QEMU_DEVICE_ID_SIZE]);
char *qemu_usb_id(const char *path, char out[static QEMU_DEVICE_ID_SIZE]);
bool qemu_disk_on_sata(const struct domain_disk *disk);
/* Arguments of device_add and netdev_add; the caller decrefs. `node`: the block node in it, NULL: none. */
json_t *qemu_disk_device(const struct domain_config *config, const struct domain_disk *disk, int port,
                         const char *node);
json_t *qemu_nic_device(const struct domain_config *config, const struct domain_nic *nic, int port);
/* NULL: it leads nowhere. `tap`: number or name of the descriptor of a nic on a bridge. */
json_t *qemu_nic_netdev(const struct domain_nic *nic, const char *tap);
/* Name of the node of image `i` of a disk's chain whose top is called `name`. */
#define QEMU_NODE_SIZE 64
char *qemu_node_name(const char *name, size_t i, char out[static QEMU_NODE_SIZE]);
/* Nodes of one image of a chain: the protocol node that reads `/dev/fdset/<set>` and the format node above
 * it, as arguments of blockdev-add. `backing`: node name of the image below, NULL: none. The caller decrefs.
 */
json_t *qemu_file_node(const char *name, long long fdset, enum image_format format, bool read_only);
json_t *qemu_format_node(const char *name, const char *file, enum image_format format, bool read_only,
                         const char *backing);
