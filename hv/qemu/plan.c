/* The planner (plan.h). Whatever comes from a configuration goes into JSON arguments, or is a number, or is
 * checked text with commas doubled: no value can become an option. Every device is explicit (-nodefaults) and
 * every image has an explicit format and an explicit end of its chain. */
#include "plan.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>
#include <time.h>

#define PCI_DEVICES_MAX 26
#define SATA_PORTS 6

static void add(struct qemu_plan *plan, char *moved)
{
    plan->argv = xreallocarray(plan->argv, plan->argc + 2, sizeof(*plan->argv));
    plan->argv[plan->argc++] = moved;
    plan->argv[plan->argc] = NULL;
}

static void option(struct qemu_plan *plan, const char *name, const char *value)
{
    add(plan, xstrdup(name));
    if (value)
        add(plan, xstrdup(value));
}

static void optionf(struct qemu_plan *plan, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void optionf(struct qemu_plan *plan, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    char *value = NULL;
    if (vasprintf(&value, format, ap) < 0)
        abort();
    va_end(ap);
    add(plan, xstrdup(name));
    add(plan, value);
}

static void option_json(struct qemu_plan *plan, const char *name, json_t *moved)
{
    struct buf text = BUF_INIT;
    json_write(&text, moved);
    json_decref(moved);
    add(plan, xstrdup(name));
    add(plan, buf_take(&text));
}

static void need_fd(struct qemu_plan *plan, int fd)
{
    plan->fds = xreallocarray(plan->fds, plan->fd_count + 1, sizeof(*plan->fds));
    plan->fds[plan->fd_count++] = fd;
}

/* Passes a descriptor as /dev/fdset/<set>; the set has the descriptor's own number. `owner` finds it again
 * when a medium is taken out. */
static long long add_fdset(struct qemu_plan *plan, int fd, const char *owner)
{
    need_fd(plan, fd);
    optionf(plan, "-add-fd", "fd=%d,set=%d,opaque=%s", fd, fd, owner);
    return fd;
}

char *qemu_device_id(const char *device, char out[static QEMU_DEVICE_ID_SIZE])
{
    snprintf(out, QEMU_DEVICE_ID_SIZE, "disk-%s", device);
    return out;
}

json_t *qemu_file_node(const char *name, long long fdset, bool read_only)
{
    char path[40];
    snprintf(path, sizeof(path), "/dev/fdset/%lld", fdset);
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:s}", "driver", "file", "node-name", name, "filename",
                     path, "read-only", read_only, "auto-read-only", 0, "discard", "unmap", "locking", "on");
}

json_t *qemu_format_node(const char *name, const char *file, enum image_format format, bool read_only,
                         const char *backing)
{
    json_t *node = json_pack("{s:s, s:s, s:s, s:b, s:s}", "driver", image_format_name(format), "node-name",
                             name, "file", file, "read-only", read_only, "discard", "unmap");
    /* Explicit also when there is none, so that the image's header is not asked. */
    if (format == IMAGE_FORMAT_QCOW2)
        json_object_set_new(node, "backing", backing ? json_string(backing) : json_null());
    return node;
}

/* Adds the nodes of a chain, the deepest image first; the top one is called `name`. */
static void plan_chain(struct qemu_plan *plan, const char *name, const struct disk_chain *chain)
{
    char below[64] = "";
    for (size_t i = chain->count; i-- > 0;) {
        const struct disk_node *image = &chain->nodes[i];
        char node[64], file[80];
        if (i == 0)
            snprintf(node, sizeof(node), "%s", name);
        else
            snprintf(node, sizeof(node), "%s-base%zu", name, i);
        snprintf(file, sizeof(file), "%s-file", node);
        bool read_only = i > 0 || image->read_only;
        option_json(plan, "-blockdev", qemu_file_node(file, add_fdset(plan, image->fd, file), read_only));
        option_json(plan, "-blockdev",
                    qemu_format_node(node, file, image->format, read_only, below[0] ? below : NULL));
        snprintf(below, sizeof(below), "%s", node);
    }
}

static bool on_sata(const struct domain_disk *disk)
{
    return disk->cdrom || disk->bus != DISK_BUS_VIRTIO;
}

/* Place in the boot order, 1 first; 0: not booted from. Disks of one kind follow their index. */
static int boot_index(const struct domain_config *config, char kind, int64_t index)
{
    if (config->firmware == FIRMWARE_KERNEL || !config->boot_order)
        return 0;
    const char *at = strchr(config->boot_order, kind);
    return at ? (int)((at - config->boot_order) * 256 + index + 1) : 0;
}

static void plan_disk(struct qemu_plan *plan, const struct qemu_plan_input *in, size_t i, int *port)
{
    const struct domain_disk *disk = &in->config->disks[i];
    char node[32], id[QEMU_DEVICE_ID_SIZE], bus[16];
    snprintf(node, sizeof(node), "drive%d", (int)disk->index);
    bool present = in->chains[i].count > 0;
    if (present)
        plan_chain(plan, node, &in->chains[i]);
    json_t *device = json_object();
    const char *driver = disk->cdrom ? "ide-cd" : on_sata(disk) ? "ide-hd" : "virtio-blk-pci";
    json_object_set_new(device, "driver", json_string(driver));
    json_object_set_new(device, "id", json_string(qemu_device_id(disk->device, id)));
    if (on_sata(disk)) {
        snprintf(bus, sizeof(bus), "ide.%d", (*port)++);
        json_object_set_new(device, "bus", json_string(bus));
    }
    if (present)
        json_object_set_new(device, "drive", json_string(node));
    if (!disk->cdrom && disk->disk && *disk->disk)
        json_object_set_new(device, "serial", json_stringn(disk->disk, 18));
    int boot = boot_index(in->config, disk->cdrom ? 'd' : 'c', disk->index);
    if (boot > 0)
        json_object_set_new(device, "bootindex", json_integer(boot));
    option_json(plan, "-device", device);
}

static void plan_nic(struct qemu_plan *plan, const struct domain_config *config, const struct domain_nic *nic)
{
    char id[16], netdev[16];
    snprintf(id, sizeof(id), "nic%d", (int)nic->index);
    snprintf(netdev, sizeof(netdev), "net%d", (int)nic->index);
    json_t *device = json_pack("{s:s, s:s, s:s}", "driver", "virtio-net-pci", "id", id, "mac", nic->mac);
    if (nic->kind == NIC_KIND_USER) {
        option_json(plan, "-netdev",
                    json_pack("{s:s, s:s, s:b}", "type", "user", "id", netdev, "restrict", nic->restricted));
        json_object_set_new(device, "netdev", json_string(netdev));
    }
    int boot = boot_index(config, 'n', nic->index);
    if (boot > 0)
        json_object_set_new(device, "bootindex", json_integer(boot));
    else
        json_object_set_new(device, "romfile", json_string(""));
    option_json(plan, "-device", device);
}

/* A listening socket that the agent made: QEMU serves it and never sees its path. */
static void plan_socket(struct qemu_plan *plan, const char *id, int fd, const char *more)
{
    need_fd(plan, fd);
    optionf(plan, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off%s", id, fd, more);
}

static void plan_consoles(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    plan_socket(plan, "qmp0", in->qmp_fd, "");
    option(plan, "-mon", "chardev=qmp0,mode=control");
    if (in->serial_fd >= 0) {
        char more[64];
        snprintf(more, sizeof(more), ",logfile=/dev/fdset/%lld,logappend=on",
                 add_fdset(plan, in->serial_log_fd, "serial-log"));
        plan_socket(plan, "serial0", in->serial_fd, more);
        option(plan, "-serial", "chardev:serial0");
    }
    if (in->agent_fd >= 0) {
        plan_socket(plan, "agent0", in->agent_fd, "");
        option(plan, "-device", "virtio-serial-pci,id=vserial0");
        option(plan, "-device",
               "virtserialport,bus=vserial0.0,nr=1,chardev=agent0,id=agent0,name=org.qemu.guest_agent.0");
    }
    option(plan, "-display", "none");
    if (in->config->vnc) {
        /* Viewers are handed over one by one (QMP add_client); nothing listens. */
        option(plan, "-vnc", "none");
        option(plan, "-device", "VGA,id=video0,vgamem_mb=16");
        option(plan, "-device", "qemu-xhci,id=usb0");
        option(plan, "-device", "usb-tablet,bus=usb0.0,id=tablet0");
    }
}

static void plan_machine(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    const struct domain_config *config = in->config;
    bool uefi = config->firmware == FIRMWARE_UEFI;
    if (uefi) {
        option_json(
            plan, "-blockdev",
            qemu_file_node("ovmf-code-file", add_fdset(plan, in->ovmf_code_fd, "ovmf-code-file"), true));
        option_json(plan, "-blockdev",
                    qemu_format_node("ovmf-code", "ovmf-code-file", IMAGE_FORMAT_RAW, true, NULL));
        option_json(
            plan, "-blockdev",
            qemu_file_node("ovmf-vars-file", add_fdset(plan, in->ovmf_vars_fd, "ovmf-vars-file"), false));
        option_json(plan, "-blockdev",
                    qemu_format_node("ovmf-vars", "ovmf-vars-file", IMAGE_FORMAT_RAW, false, NULL));
    }
    /* One version for good: what a guest sees does not change with the host's QEMU. */
    optionf(plan, "-machine", "pc-q35-7.2,usb=off,vmport=off,smm=off,dump-guest-core=off%s",
            uefi ? ",pflash0=ovmf-code,pflash1=ovmf-vars" : "");
    if (in->accelerator == ACCELERATOR_KVM) {
        option(plan, "-accel", "kvm");
        option(plan, "-cpu", "host");
    } else {
        option(plan, "-accel", "tcg,thread=multi");
        option(plan, "-cpu", "max,la57=off");
    }
    optionf(plan, "-smp", "cpus=%d", (int)config->vcpus);
    optionf(plan, "-m", "size=%lldM", (long long)((config->memory_bytes + (1 << 20) - 1) >> 20));
    optionf(plan, "-uuid", "%s", config->uuid);
    option(plan, "-global", "ICH9-LPC.disable_s3=1");
    option(plan, "-global", "ICH9-LPC.disable_s4=1");
}

static void plan_clock(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    if (in->config->rtc_offset_seconds == 0) {
        option(plan, "-rtc", "base=utc");
        return;
    }
    time_t guest = (time_t)(in->now + in->config->rtc_offset_seconds);
    struct tm tm;
    char text[40];
    gmtime_r(&guest, &tm);
    strftime(text, sizeof(text), "base=%Y-%m-%dT%H:%M:%S", &tm);
    option(plan, "-rtc", text);
}

static void plan_kernel(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    if (in->config->firmware != FIRMWARE_KERNEL)
        return;
    need_fd(plan, in->kernel_fd);
    optionf(plan, "-kernel", "/dev/fd/%d", in->kernel_fd);
    if (in->ramdisk_fd >= 0) {
        need_fd(plan, in->ramdisk_fd);
        optionf(plan, "-initrd", "/dev/fd/%d", in->ramdisk_fd);
    }
    if (in->config->cmdline && *in->config->cmdline)
        option(plan, "-append", in->config->cmdline);
}

static char *doubled_commas(const char *text)
{
    struct buf out = BUF_INIT;
    for (; *text; text++) {
        buf_add_char(&out, *text);
        if (*text == ',')
            buf_add_char(&out, ',');
    }
    return buf_take(&out);
}

static void plan_name(struct qemu_plan *plan, const struct domain_config *config)
{
    const char *name = config->name && *config->name ? config->name : config->uuid;
    char *safe AUTO_FREE = doubled_commas(name);
    optionf(plan, "-name", "guest=%s,debug-threads=on", safe);
}

int qemu_plan_check(const struct domain_config *config, struct hv_err *err)
{
    int sata = 0, pci = 4;
    for (size_t i = 0; i < config->disks_count; i++) {
        const struct domain_disk *disk = &config->disks[i];
        if (!on_sata(disk))
            pci++;
        else if (++sata > SATA_PORTS)
            return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                           "The domain has more than %d CD drives and IDE or SATA disks.", SATA_PORTS);
        if (on_sata(disk) && !disk->cdrom && disk->read_only)
            return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                           "An IDE or SATA disk cannot be read-only; use virtio for %s.", disk->device);
    }
    pci += (int)config->nics_count;
    if (pci > PCI_DEVICES_MAX)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The domain has more disks and nics than its PCI bus has room for.");
    return 0;
}

static void plan_security(struct qemu_plan *plan)
{
    option(plan, "-no-user-config", NULL);
    option(plan, "-nodefaults", NULL);
    option(plan, "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    option(plan, "-msg", "timestamp=on");
}

int qemu_plan_make(const struct qemu_plan_input *in, struct qemu_plan *plan, struct hv_err *err)
{
    const struct domain_config *config = in->config;
    if (qemu_plan_check(config, err) < 0)
        return -1;
    *plan = QEMU_PLAN_INIT;
    add(plan, xstrdup(in->binary));
    plan_name(plan, config);
    plan_security(plan);
    plan_machine(plan, in);
    plan_clock(plan, in);
    /* A guest that powers off or panics is kept, so that its end can still be told from a crash of the device
     * model by an agent that was away. */
    optionf(plan, "-action", "shutdown=pause,panic=pause,reboot=%s",
            config->on_reboot == END_ACTION_RESTART ? "reset" : "shutdown");
    option(plan, "-device", "pvpanic");
    if (config->start_paused)
        option(plan, "-S", NULL);
    plan_kernel(plan, in);
    plan_consoles(plan, in);
    option(plan, "-object", "rng-builtin,id=rng0");
    option(plan, "-device", "virtio-rng-pci,rng=rng0");
    int port = 0;
    for (size_t i = 0; i < config->disks_count; i++)
        plan_disk(plan, in, i, &port);
    for (size_t i = 0; i < config->nics_count; i++)
        plan_nic(plan, config, &config->nics[i]);
    return 0;
}

void qemu_plan_done(struct qemu_plan *plan)
{
    for (size_t i = 0; i < plan->argc; i++)
        free(plan->argv[i]);
    free(plan->argv);
    free(plan->fds);
    *plan = QEMU_PLAN_INIT;
}
