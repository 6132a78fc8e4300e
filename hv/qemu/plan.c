/* The planner (plan.h). Whatever comes from a configuration goes into JSON arguments, or is a number, or is
 * checked text with commas doubled: no value can become an option. Every device is explicit (-nodefaults) and
 * every image has an explicit format and an explicit end of its chain. */
#include "plan.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>
#include <time.h>

#define PORTS_SLOT 0x10 /* of the first root port on the bus; eight to a slot */
#define PORTS_MIN 16
#define QUEUES_MAX 8
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

json_t *qemu_file_node(const char *name, long long fdset, enum image_format format, bool read_only)
{
    char path[40];
    /* An image that others stand on may be written later, when images are merged: its set then gets a
     * descriptor for that. */
    bool may_change = read_only && format == IMAGE_FORMAT_QCOW2;
    snprintf(path, sizeof(path), "/dev/fdset/%lld", fdset);
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:s, s:s}", "driver", "file", "node-name", name, "filename",
                     path, "read-only", read_only && !may_change, "auto-read-only", may_change, "discard",
                     "unmap", "locking", "on");
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

char *qemu_node_name(const char *name, size_t i, char out[static QEMU_NODE_SIZE])
{
    if (i == 0)
        snprintf(out, QEMU_NODE_SIZE, "%s", name);
    else
        snprintf(out, QEMU_NODE_SIZE, "%s-b%zu", name, i);
    return out;
}

/* Adds the nodes of a chain, the deepest image first; the top one is called `name`. */
static void plan_chain(struct qemu_plan *plan, const char *name, const struct disk_chain *chain)
{
    char below[QEMU_NODE_SIZE] = "";
    for (size_t i = chain->count; i-- > 0;) {
        const struct disk_node *image = &chain->nodes[i];
        char node[QEMU_NODE_SIZE], file[QEMU_NODE_SIZE + 8];
        qemu_node_name(name, i, node);
        snprintf(file, sizeof(file), "%s-file", node);
        bool read_only = i > 0 || image->read_only;
        option_json(plan, "-blockdev",
                    qemu_file_node(file, add_fdset(plan, image->fd, file), image->format, read_only));
        option_json(plan, "-blockdev",
                    qemu_format_node(node, file, image->format, read_only, below[0] ? below : NULL));
        snprintf(below, sizeof(below), "%s", node);
    }
}

bool qemu_disk_on_sata(const struct domain_disk *disk)
{
    return disk->cdrom || disk->bus != DISK_BUS_VIRTIO;
}

/* Place in the boot order, 1 first; 0: not booted from. Disks of one kind follow their index. */
static int boot_index(const struct domain_config *config, char kind, int64_t index)
{
    if (config->firmware == FIRMWARE_KERNEL || config->firmware == FIRMWARE_GUEST_KERNEL ||
        !config->boot_order)
        return 0;
    const char *at = strchr(config->boot_order, kind);
    return at ? (int)((at - config->boot_order) * 256 + index + 1) : 0;
}

char *qemu_nic_id(int64_t index, char out[static QEMU_DEVICE_ID_SIZE])
{
    snprintf(out, QEMU_DEVICE_ID_SIZE, "nic%d", (int)index);
    return out;
}

static void set_bus(json_t *device, const char *kind, int number)
{
    char bus[24];
    snprintf(bus, sizeof(bus), "%s%d", kind, number);
    json_object_set_new(device, "bus", json_string(bus));
}

static int queue_count(const struct domain_config *config)
{
    int64_t most = config->vcpus_max > config->vcpus ? config->vcpus_max : config->vcpus;
    return most < QUEUES_MAX ? (int)most : QUEUES_MAX;
}

json_t *qemu_disk_device(const struct domain_config *config, const struct domain_disk *disk, int port,
                         const char *node)
{
    char id[QEMU_DEVICE_ID_SIZE];
    bool sata = qemu_disk_on_sata(disk);
    json_t *device = json_object();
    json_object_set_new(device, "driver",
                        json_string(disk->cdrom ? "ide-cd"
                                    : sata      ? "ide-hd"
                                                : "virtio-blk-pci"));
    json_object_set_new(device, "id", json_string(qemu_device_id(disk->device, id)));
    set_bus(device, sata ? "ide." : "port", port);
    /* By itself QEMU takes the number of processors that are plugged in just then, and a resumed guest would
     * find another device. */
    if (!sata)
        json_object_set_new(device, "num-queues", json_integer(queue_count(config)));
    if (node)
        json_object_set_new(device, "drive", json_string(node));
    if (!disk->cdrom && disk->disk && *disk->disk)
        json_object_set_new(device, "serial", json_stringn(disk->disk, 18));
    int boot = boot_index(config, disk->cdrom ? 'd' : 'c', disk->index);
    if (boot > 0)
        json_object_set_new(device, "bootindex", json_integer(boot));
    return device;
}

static void plan_disk(struct qemu_plan *plan, const struct qemu_plan_input *in, size_t i, int *sata_port)
{
    const struct domain_disk *disk = &in->config->disks[i];
    char node[32], id[QEMU_DEVICE_ID_SIZE];
    snprintf(node, sizeof(node), "drive%d", (int)disk->index);
    bool present = in->chains[i].count > 0;
    if (present)
        plan_chain(plan, node, &in->chains[i]);
    int port = qemu_disk_on_sata(disk) ? (*sata_port)++
                                       : qemu_layout_port(in->layout, qemu_device_id(disk->device, id));
    option_json(plan, "-device", qemu_disk_device(in->config, disk, port, present ? node : NULL));
}

json_t *qemu_nic_netdev(const struct domain_nic *nic, const char *tap)
{
    char netdev[16];
    snprintf(netdev, sizeof(netdev), "net%d", (int)nic->index);
    switch (nic->kind) {
    case NIC_KIND_USER:
        return json_pack("{s:s, s:s, s:b}", "type", "user", "id", netdev, "restrict", nic->restricted);
    case NIC_KIND_BRIDGE:
        return json_pack("{s:s, s:s, s:s, s:b}", "type", "tap", "id", netdev, "fd", tap, "vhost", false);
    case NIC_KIND_NONE:
        break;
    }
    return NULL;
}

json_t *qemu_nic_device(const struct domain_config *config, const struct domain_nic *nic, int port)
{
    char id[QEMU_DEVICE_ID_SIZE], netdev[16];
    snprintf(netdev, sizeof(netdev), "net%d", (int)nic->index);
    static const char *const drivers[] = {
        [NIC_MODEL_VIRTIO] = "virtio-net-pci", [NIC_MODEL_E1000] = "e1000", [NIC_MODEL_RTL8139] = "rtl8139"};
    json_t *device = json_pack("{s:s, s:s, s:s}", "driver", drivers[nic->model], "id",
                               qemu_nic_id(nic->index, id), "mac", nic->mac);
    set_bus(device, "port", port);
    if (nic->kind != NIC_KIND_NONE)
        json_object_set_new(device, "netdev", json_string(netdev));
    int boot = boot_index(config, 'n', nic->index);
    if (boot > 0)
        json_object_set_new(device, "bootindex", json_integer(boot));
    else
        json_object_set_new(device, "romfile", json_string(""));
    return device;
}

static void plan_nic(struct qemu_plan *plan, const struct qemu_plan_input *in, size_t i)
{
    const struct domain_nic *nic = &in->config->nics[i];
    char id[QEMU_DEVICE_ID_SIZE], tap[16] = "";
    if (nic->kind == NIC_KIND_BRIDGE) {
        need_fd(plan, in->taps[i]);
        snprintf(tap, sizeof(tap), "%d", in->taps[i]);
    }
    json_t *netdev = qemu_nic_netdev(nic, tap);
    if (netdev)
        option_json(plan, "-netdev", netdev);
    option_json(plan, "-device",
                qemu_nic_device(in->config, nic, qemu_layout_port(in->layout, qemu_nic_id(nic->index, id))));
}

/* ---- slots ---- */

int qemu_layout_port(const json_t *layout, const char *id)
{
    int64_t port;
    return json_get_int(json_object_get(layout, "devices"), id, &port) ? (int)port : -1;
}

static int64_t port_count(const json_t *layout)
{
    int64_t ports;
    return json_get_int(layout, "ports", &ports) ? ports : 0;
}

static bool port_is_taken(const json_t *layout, int port)
{
    const char *id;
    json_t *at;
    json_object_foreach(json_object_get(layout, "devices"), id,
                        at) if (json_integer_value(at) == port) return true;
    return false;
}

int qemu_layout_take(json_t *layout, const char *id)
{
    int port = qemu_layout_port(layout, id);
    for (int i = 0; port < 0 && i < port_count(layout); i++)
        if (!port_is_taken(layout, i))
            port = i;
    if (port >= 0)
        json_object_set_new(json_object_get(layout, "devices"), id, json_integer(port));
    return port;
}

void qemu_layout_free(json_t *layout, const char *id)
{
    json_object_del(json_object_get(layout, "devices"), id);
}

/* Calls `each` for all that needs a port; stops at and gives the first that is not 0. */
static int each_device(const struct domain_config *config, int (*each)(void *, const char *), void *arg)
{
    char id[QEMU_DEVICE_ID_SIZE];
    int outcome = 0;
    for (size_t i = 0; outcome == 0 && i < config->disks_count; i++)
        if (!qemu_disk_on_sata(&config->disks[i]))
            outcome = each(arg, qemu_device_id(config->disks[i].device, id));
    for (size_t i = 0; outcome == 0 && i < config->nics_count; i++)
        outcome = each(arg, qemu_nic_id(config->nics[i].index, id));
    return outcome;
}

static int count_one(void *arg, const char *id)
{
    (void)id;
    ++*(int *)arg;
    return 0;
}

static int take_one(void *arg, const char *id)
{
    return qemu_layout_take(arg, id) < 0;
}

static int has_one(void *arg, const char *id)
{
    return qemu_layout_port(arg, id) < 0;
}

json_t *qemu_layout_new(const struct domain_config *config)
{
    int count = 0;
    each_device(config, count_one, &count);
    int ports = (count + QEMU_PORTS_SPARE + 7) / 8 * 8;
    ports = ports < PORTS_MIN ? PORTS_MIN : ports > QEMU_PORTS_MAX ? QEMU_PORTS_MAX : ports;
    json_t *layout = json_pack("{s:i, s:{}}", "ports", ports, "devices");
    each_device(config, take_one, layout);
    return layout;
}

bool qemu_layout_ok(const json_t *layout, const struct domain_config *config)
{
    json_t *devices = json_object_get(layout, "devices"), *at;
    int64_t ports = port_count(layout);
    bool taken[QEMU_PORTS_MAX] = {false};
    const char *id;
    int count = 0;
    if (ports < 1 || ports > QEMU_PORTS_MAX || !json_is_object(devices))
        return false;
    json_object_foreach(devices, id, at)
    {
        json_int_t port = json_integer_value(at);
        if (!json_is_integer(at) || port < 0 || port >= ports || taken[port])
            return false;
        taken[port] = true;
    }
    each_device(config, count_one, &count);
    return (size_t)count == json_object_size(devices) &&
           each_device(config, has_one, (void *)(uintptr_t)layout) == 0;
}

static void plan_ports(struct qemu_plan *plan, const json_t *layout)
{
    for (int i = 0; i < port_count(layout); i++)
        optionf(plan, "-device", "pcie-root-port,id=port%d,chassis=%d,multifunction=on,addr=%x.%d", i, i + 1,
                PORTS_SLOT + i / 8, i % 8);
}

/* A listening socket that the agent made: QEMU serves it and never sees its path. */
static void plan_socket(struct qemu_plan *plan, const char *id, int fd, const char *more)
{
    need_fd(plan, fd);
    optionf(plan, "-chardev", "socket,id=%s,fd=%d,server=on,wait=off%s", id, fd, more);
}

/* ---- devices of the host ---- */

char *qemu_usb_id(const char *path, char out[static QEMU_DEVICE_ID_SIZE])
{
    snprintf(out, QEMU_DEVICE_ID_SIZE, "hostusb-%s", path);
    for (char *c = out; *c; c++)
        if (*c == '.')
            *c = '_';
    return out;
}

/* With room for the tablet and all that a VM may have. */
static const char *usb_controller(const struct domain_config *config)
{
    return config->usb_count ? "qemu-xhci,id=usb0,p2=8,p3=8" : "qemu-xhci,id=usb0";
}

static void plan_host_devices(struct qemu_plan *plan, const struct domain_config *config)
{
    char id[QEMU_DEVICE_ID_SIZE];
    bool has_controller = config->vnc && config->tablet;
    if (config->usb_count && !has_controller)
        option(plan, "-device", usb_controller(config));
    for (size_t i = 0; i < config->usb_count; i++) {
        const struct domain_usb *usb = &config->usb[i];
        const char *dash = strchr(usb->path, '-');
        optionf(plan, "-device",
                "usb-host,bus=usb0.0,id=%s,hostbus=%d,hostport=%s,vendorid=0x%s,productid=0x%s",
                qemu_usb_id(usb->path, id), atoi(usb->path), dash ? dash + 1 : "", usb->vendor_id,
                usb->product_id);
    }
    for (size_t i = 0; i < config->pci_count; i++)
        optionf(plan, "-device", "vfio-pci,id=hostpci%zu,host=%s", i, config->pci[i]);
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
    if (in->agent_fd >= 0 || in->data_fd >= 0)
        option(plan, "-device", "virtio-serial-pci,id=vserial0");
    if (in->agent_fd >= 0) {
        plan_socket(plan, "agent0", in->agent_fd, "");
        option(plan, "-device",
               "virtserialport,bus=vserial0.0,nr=1,chardev=agent0,id=agent0,name=org.qemu.guest_agent.0");
    }
    if (in->data_fd >= 0) {
        plan_socket(plan, "data0", in->data_fd, "");
        option(plan, "-device",
               "virtserialport,bus=vserial0.0,nr=2,chardev=data0,id=data0,name=org.corral.data.0");
    }
    option(plan, "-display", "none");
    if (in->config->vnc) {
        /* Viewers are handed over one by one (QMP add_client); nothing listens. */
        option(plan, "-vnc", "none");
        optionf(plan, "-device", "%s,id=video0,vgamem_mb=%d",
                in->config->video == VIDEO_CARD_CIRRUS ? "cirrus-vga" : "VGA", (int)in->config->video_mib);
        if (in->config->tablet) {
            option(plan, "-device", usb_controller(in->config));
            option(plan, "-device", "usb-tablet,bus=usb0.0,id=tablet0");
        }
    }
}

/* The two halves of its TPM's channel: this end is connected already. */
static void plan_tpm(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    if (!in->config->tpm)
        return;
    need_fd(plan, in->tpm_fd);
    optionf(plan, "-chardev", "socket,id=tpmchar0,fd=%d", in->tpm_fd);
    option(plan, "-tpmdev", "emulator,id=tpm0,chardev=tpmchar0");
    option(plan, "-device", "tpm-crb,tpmdev=tpm0");
}

const char *qemu_cpu_words(enum accelerator accelerator)
{
    return accelerator == ACCELERATOR_KVM ? "host" : "max,la57=off";
}

/* What Windows guests use of a Hyper-V host, in the way that libvirt's documentation recommends. */
#define VIRIDIAN_WORDS                                                                                       \
    ",hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-vpindex=on,hv-runtime=on,hv-synic=on,hv-stimer=on,"   \
    "hv-time=on,hv-frequencies=on"

static void plan_processors(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    const struct domain_config *config = in->config;
    bool kvm = in->accelerator == ACCELERATOR_KVM;
    const char *nested = !kvm ? "" : config->nested ? ",vmx=on,svm=on" : ",vmx=off,svm=off";
    optionf(plan, "-cpu", "%s%s%s%s%s", qemu_cpu_words(in->accelerator), config->pae ? "" : ",pae=off,lm=off",
            config->nx ? "" : ",nx=off", config->viridian && kvm ? VIRIDIAN_WORDS : "", nested);
    struct buf smp AUTO_BUF = BUF_INIT;
    buf_printf(&smp, "cpus=%d", (int)config->vcpus);
    int most = (int)(config->vcpus_max > config->vcpus ? config->vcpus_max : config->vcpus);
    if (most > config->vcpus || config->cores_per_socket > 0)
        buf_printf(&smp, ",maxcpus=%d", most);
    if (config->cores_per_socket > 0)
        buf_printf(&smp, ",sockets=%d,cores=%d,threads=1", most / (int)config->cores_per_socket,
                   (int)config->cores_per_socket);
    option(plan, "-smp", smp.data);
}

static void plan_machine(struct qemu_plan *plan, const struct qemu_plan_input *in)
{
    const struct domain_config *config = in->config;
    bool uefi = config->firmware == FIRMWARE_UEFI;
    if (uefi) {
        /* Only the firmware, in its own mode of the processor, may write to the variables. */
        if (in->secure_boot)
            option(plan, "-global", "driver=cfi.pflash01,property=secure,value=on");
        option_json(plan, "-blockdev",
                    qemu_file_node("ovmf-code-file", add_fdset(plan, in->ovmf_code_fd, "ovmf-code-file"),
                                   IMAGE_FORMAT_RAW, true));
        option_json(plan, "-blockdev",
                    qemu_format_node("ovmf-code", "ovmf-code-file", IMAGE_FORMAT_RAW, true, NULL));
        option_json(plan, "-blockdev",
                    qemu_file_node("ovmf-vars-file", add_fdset(plan, in->ovmf_vars_fd, "ovmf-vars-file"),
                                   IMAGE_FORMAT_RAW, false));
        option_json(plan, "-blockdev",
                    qemu_format_node("ovmf-vars", "ovmf-vars-file", IMAGE_FORMAT_RAW, false, NULL));
    }
    /* One version for good: what a guest sees does not change with the host's QEMU. */
    optionf(plan, "-machine", QEMU_MACHINE ",usb=off,vmport=off,smm=%s,dump-guest-core=off%s%s%s",
            in->secure_boot ? "on" : "off", config->acpi ? "" : ",acpi=off", config->hpet ? "" : ",hpet=off",
            uefi ? ",pflash0=ovmf-code,pflash1=ovmf-vars" : "");
    option(plan, "-accel", in->accelerator == ACCELERATOR_KVM ? "kvm" : "tcg,thread=multi");
    plan_processors(plan, in);
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
    if (in->kernel_fd < 0)
        return;
    need_fd(plan, in->kernel_fd);
    optionf(plan, "-kernel", "/dev/fd/%d", in->kernel_fd);
    if (in->ramdisk_fd >= 0) {
        need_fd(plan, in->ramdisk_fd);
        optionf(plan, "-initrd", "/dev/fd/%d", in->ramdisk_fd);
    }
    if (in->cmdline && *in->cmdline)
        option(plan, "-append", in->cmdline);
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
    int sata = 0, ports = (int)config->nics_count;
    for (size_t i = 0; i < config->disks_count; i++) {
        const struct domain_disk *disk = &config->disks[i];
        if (!qemu_disk_on_sata(disk))
            ports++;
        else if (++sata > SATA_PORTS)
            return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                           "The domain has more than %d CD drives and IDE or SATA disks.", SATA_PORTS);
        if (qemu_disk_on_sata(disk) && !disk->cdrom && disk->read_only)
            return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                           "An IDE or SATA disk cannot be read-only; use virtio for %s.", disk->device);
    }
    if (!config->acpi && config->firmware == FIRMWARE_UEFI)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "UEFI does not start without ACPI.");
    if (!config->pae && config->firmware == FIRMWARE_UEFI)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "UEFI needs a 64-bit processor, and that needs PAE.");
    if (ports > QEMU_PORTS_MAX)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The domain has more disks and nics than it has slots.");
    return 0;
}

bool qemu_resets(const struct domain_config *config)
{
    return config->on_reboot == END_ACTION_RESTART && config->firmware != FIRMWARE_GUEST_KERNEL;
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
            qemu_resets(config) ? "reset" : "shutdown");
    /* Then both ends leave it in one state: its log tells them apart. */
    if (!qemu_resets(config))
        option(plan, "-trace", QEMU_OFF_TRACE);
    option(plan, "-device", "pvpanic");
    if (config->generation && *config->generation)
        optionf(plan, "-device", "vmgenid,id=generation0,guid=%s", config->generation);
    if (config->start_paused || in->incoming)
        option(plan, "-S", NULL);
    if (in->incoming)
        option(plan, "-incoming", "defer");
    plan_kernel(plan, in);
    plan_consoles(plan, in);
    plan_host_devices(plan, in->config);
    plan_tpm(plan, in);
    option(plan, "-object", "rng-builtin,id=rng0");
    option(plan, "-device", "virtio-rng-pci,rng=rng0");
    option(plan, "-device", "virtio-balloon-pci,id=balloon0");
    plan_ports(plan, in->layout);
    int port = 0;
    for (size_t i = 0; i < config->disks_count; i++)
        plan_disk(plan, in, i, &port);
    for (size_t i = 0; i < config->nics_count; i++)
        plan_nic(plan, in, i);
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
