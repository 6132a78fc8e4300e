/* vm-import-xl, vm-import-libvirt, and vm-import of OVA and OVF: VMs from other toolstacks' descriptions. The
 * file is described (guests/guests.h), what has no place here is told, and then the VM is made; its disks are
 * copied, or ones that are here already are taken over. What was made goes again when a step fails. */
#include "run.h"
#include "xe_handlers.h"
#include <guests.h>
#include <inttypes.h>

struct import {
    const char
        *archive; /* its disks are in this OVA file, or beside this OVF file; NULL: files of their own */
    json_t *guest;
    char *sr, *vm;
    char **vdis; /* made so far */
    size_t vdi_count;
};

static void import_done(struct import *i)
{
    json_decref(i->guest);
    free(i->sr);
    free(i->vm);
    for (size_t k = 0; k < i->vdi_count; k++)
        free(i->vdis[k]);
    free(i->vdis);
}

static const char *text(const struct import *i, const char *member, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(i->guest, member));
    return s && *s ? s : otherwise;
}

static int64_t number(const json_t *o, const char *member, int64_t otherwise)
{
    const json_t *n = json_object_get(o, member);
    return n ? json_integer_value(n) : otherwise;
}

typedef json_t *reader_fn(const char *text, size_t len, char **problem);

static int describe(struct xe_run_state *x, const char *file, const char *data, size_t len, reader_fn *reader,
                    struct import *i)
{
    AUTO_FREE char *problem = NULL;
    size_t k;
    const json_t *n;
    i->guest = reader(data, len, &problem);
    if (!i->guest)
        return xe_fail(x, XE_ERR_CLI, "%s: %s", file, problem);
    if (xe_arg(x, "new-name-label"))
        json_object_set_new(i->guest, "name", json_string(xe_arg(x, "new-name-label")));
    json_array_foreach(json_object_get(i->guest, "notes"), k, n)
        xe_note(x, "Not taken over: %s%s%s (%s)", xe_str(n, "key"), *xe_str(n, "value") ? " = " : "",
                xe_str(n, "value"), xe_str(n, "why"));
    return 0;
}

static int read_guest(struct xe_run_state *x, reader_fn *reader, struct import *i)
{
    const char *file;
    AUTO_FREE char *data = NULL;
    size_t len;
    if (xe_arg_required(x, "file", &file) < 0 ||
        x->api->read_file(x->api->ctx, file, &data, &len, &x->err) < 0)
        return -1;
    return describe(x, file, data, len, reader, i);
}

/* ---- what would be made ---- */

static void show(struct xe_run_state *x, const struct import *i)
{
    const char *name;
    json_t *value;
    const json_t *item;
    size_t k, n = 0;
    if (x->view.format == XE_FORMAT_JSON) {
        xe_out_json(x, json_incref(i->guest));
        return;
    }
    size_t room = json_object_size(i->guest) + json_array_size(json_object_get(i->guest, "disks")) +
                  json_array_size(json_object_get(i->guest, "nics"));
    struct xe_cell *cells = xcalloc(room + 1, sizeof *cells);
    json_object_foreach(i->guest, name, value) if (!json_is_array(value)) cells[n++] = (struct xe_cell){
        name, "",
        json_is_string(value) ? xstrdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY)};
    json_array_foreach(json_object_get(i->guest, "disks"), k, item) cells[n++] =
        (struct xe_cell){"disk", "",
                         xasprintf("%s %s %s%s", xe_str(item, "device"), xe_str(item, "format"),
                                   *xe_str(item, "path") ? xe_str(item, "path") : "(empty)",
                                   xe_true(item, "cdrom") ? " (CD)" : "")};
    json_array_foreach(json_object_get(i->guest, "nics"), k, item) cells[n++] =
        (struct xe_cell){"nic", "",
                         xasprintf("%s %s%s", *xe_str(item, "mac") ? xe_str(item, "mac") : "(new address)",
                                   xe_str(item, "bridge"), xe_str(item, "network"))};
    xe_out_block(x, cells, n);
    for (k = 0; k < n; k++)
        free((char *)cells[k].value);
    free(cells);
}

/* ---- disks ---- */

/* A VDI that was said with vdi:DEVICE=: its reference, or NULL. */
static int given_vdi(struct xe_run_state *x, const char *device, char **ref)
{
    AUTO_JSON json_t *map = xe_arg_map(x, "vdi");
    const char *uuid = json_string_value(json_object_get(map, device));
    return uuid ? xe_ref_by_uuid(x, "VDI", uuid, ref) : 0;
}

/* Every file can be read and has a format that the server takes: before anything is made. */
static int check_disks(struct xe_run_state *x, struct import *i)
{
    size_t k;
    json_t *disk;
    json_array_foreach(json_object_get(i->guest, "disks"), k, disk)
    {
        const char *device = xe_str(disk, "device"), *format = xe_str(disk, "format"),
                   *path = xe_str(disk, "path");
        AUTO_FREE char *ref = NULL;
        int64_t size;
        if (xe_true(disk, "cdrom") || i->archive)
            continue;
        if (given_vdi(x, device, &ref) < 0)
            return -1;
        if (ref) {
            json_object_set_new(disk, "vdi", json_string(ref));
            continue;
        }
        if (!*path)
            return xe_fail(x, XE_ERR_CLI, "disk %s has no file; say vdi:%s=UUID", device, device);
        if (!streq(format, "raw") && !streq(format, "qcow2") && !streq(format, "vhd"))
            return xe_fail(
                x, XE_ERR_CLI,
                "disk %s is %s, which is not read here: make it qcow2 (qemu-img convert -f %s -O qcow2), or "
                "say vdi:%s=UUID of a disk that holds its content",
                device, format, format, device);
        if (!x->api->disk_size)
            return xe_fail(x, XE_ERR_CLI,
                           "disks are read where this command runs: use Corral's own xe, or say "
                           "vdi:%s=UUID of a disk that holds its content",
                           device);
        if (x->api->disk_size(x->api->ctx, path, format, &size, &x->err) < 0)
            return -1;
        json_object_set_new(disk, "size", json_integer(size));
    }
    return 0;
}

/* The image that the CD drive held, when an ISO library of the pool has one of that name. */
static int find_cd(struct xe_run_state *x, const char *path, char **ref)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    AUTO_JSON json_t *refs = NULL;
    if (!*name)
        return 0;
    if (xe_call(x, "VDI.get_by_name_label", &refs, "[s]", name) < 0)
        return -1;
    if (json_array_size(refs) == 1)
        *ref = xstrdup(json_string_value(json_array_get(refs, 0)));
    else
        xe_note(x, "The CD drive stays empty: no ISO library has one image called %s.", name);
    return 0;
}

static int draw(void *meter, uint64_t done, uint64_t total)
{
    xe_meter_bytes(meter, done, total);
    return 0;
}

static int send_archived(struct xe_run_state *x, const struct import *i, const json_t *disk, const char *name,
                         int64_t size, char **vdi)
{
    AUTO_FREE char *file = NULL;
    if (!*xe_str(disk, "path"))
        return xe_making_blank(x, name, i->sr, size, vdi);
    struct xe_meter meter = xe_meter_init(x, "Unpacking", false);
    int rc = x->api->ova_disk(x->api->ctx, i->archive, xe_str(disk, "path"), number(disk, "size", 0), draw,
                              &meter, &file, &x->err);
    xe_meter_end(&meter);
    if (rc < 0)
        return -1;
    rc = xe_making_disk(x, name, i->sr, size, file, "raw", vdi);
    x->api->drop_disk(x->api->ctx, file);
    return rc;
}

static int send_disk(struct xe_run_state *x, struct import *i, const json_t *disk, char **ref)
{
    AUTO_FREE char *name = xasprintf("%s %s", text(i, "name", ""), xe_str(disk, "device"));
    int64_t size = (number(disk, "size", 0) + (1 << 20) - 1) >> 20 << 20;
    char *vdi = NULL;
    int rc = i->archive
                 ? send_archived(x, i, disk, name, size, &vdi)
                 : xe_making_disk(x, name, i->sr, size, xe_str(disk, "path"), xe_str(disk, "format"), &vdi);
    if (vdi) {
        i->vdis = xreallocarray(i->vdis, i->vdi_count + 1, sizeof *i->vdis);
        i->vdis[i->vdi_count++] = vdi;
        *ref = xstrdup(vdi);
    }
    return rc;
}

static int make_disks(struct xe_run_state *x, struct import *i)
{
    size_t k;
    const json_t *disk;
    bool bootable = true;
    json_array_foreach(json_object_get(i->guest, "disks"), k, disk)
    {
        bool cdrom = xe_true(disk, "cdrom");
        AUTO_FREE char *ref = *xe_str(disk, "vdi") ? xstrdup(xe_str(disk, "vdi")) : NULL;
        if (!ref && (cdrom ? find_cd(x, xe_str(disk, "path"), &ref) : send_disk(x, i, disk, &ref)) < 0)
            return -1;
        const struct xe_new_vbd how = {.number = (unsigned)number(disk, "number", 0),
                                       .bootable = bootable && !cdrom,
                                       .readonly = xe_true(disk, "readonly"),
                                       .cdrom = cdrom};
        bootable &= cdrom;
        if (xe_making_vbd(x, i->vm, ref, &how) < 0)
            return -1;
    }
    return 0;
}

/* ---- network cards ---- */

/* A network of the pool with that bridge or that name, if there is one. */
static int find_network(struct xe_run_state *x, const char *bridge, const char *name, char **ref)
{
    const json_t *all;
    const char *key;
    json_t *network;
    if (xe_records(x, "network", &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, key, network)
    {
        bool fits = (*bridge && streq(xe_str(network, "bridge"), bridge)) ||
                    (*name && streq(xe_str(network, "name_label"), name)) ||
                    (*bridge && streq(xe_str(network, "name_label"), bridge));
        if (fits && !*ref)
            *ref = xstrdup(key);
    }
    return 0;
}

static int make_nics(struct xe_run_state *x, struct import *i)
{
    size_t k;
    const json_t *nic;
    json_array_foreach(json_object_get(i->guest, "nics"), k, nic)
    {
        const char *bridge = xe_str(nic, "bridge"), *name = xe_str(nic, "network"),
                   *given = xe_arg(x, "network-uuid");
        AUTO_FREE char *ref = NULL;
        if (!given && find_network(x, bridge, name, &ref) < 0)
            return -1;
        if (!ref) {
            if (xe_making_network(x, given, &ref) < 0)
                return -1;
            if (!ref) {
                xe_note(
                    x,
                    "Network card %zu is left out: the pool has no network for it; add one with vif-create.",
                    k);
                continue;
            }
            if (!given && (*bridge || *name))
                xe_note(x, "Network card %zu is on another network: the pool has none called %s%s.", k,
                        bridge, name);
        }
        const struct xe_new_vif how = {.number = (unsigned)k,
                                       .mac = xe_str(nic, "mac"),
                                       .mtu = (int)number(nic, "mtu", 0) ? (int)number(nic, "mtu", 0) : 1500,
                                       .kbps = number(nic, "kbps", 0)};
        if (xe_making_vif(x, i->vm, ref, &how) < 0)
            return -1;
    }
    return 0;
}

/* ---- the VM ---- */

/* Kernels are files of the hosts' folder of images, by their bare name. */
static const char *kernel_name(struct xe_run_state *x, const struct import *i, const char *member)
{
    const char *path = text(i, member, ""), *slash = strrchr(path, '/');
    if (*path)
        xe_note(x, "The file %s belongs into the hosts' folder of images (hostd --images).", path);
    return slash ? slash + 1 : path;
}

static json_t *record_of(struct xe_run_state *x, const struct import *i)
{
    const int64_t memory = number(i->guest, "memory", 512LL << 20), vcpus = number(i->guest, "vcpus", 1);
    const int64_t most = number(i->guest, "memory_max", memory), all = number(i->guest, "vcpus_max", vcpus);
    bool hvm = streq(text(i, "type", "hvm"), "hvm");
    const char *bootloader = text(i, "bootloader", hvm || text(i, "kernel", NULL) ? "" : "pygrub");
    json_t *boot = json_object();
    json_object_set_new(boot, "order", json_string(text(i, "boot", "cd")));
    if (text(i, "firmware", NULL))
        json_object_set_new(boot, "firmware", json_string(text(i, "firmware", "")));
    json_t *record =
        json_pack("{s:s, s:s, s:i, s:b, s:s, s:I, s:I, s:I, s:i, s:O, s:I, s:I, s:s, s:s, s:s}", "name_label",
                  text(i, "name", ""), "name_description", text(i, "description", ""), "user_version", 1,
                  "is_a_template", 0, "affinity", "OpaqueRef:NULL", "memory_static_max",
                  (json_int_t)(most > memory ? most : memory), "memory_dynamic_max", (json_int_t)memory,
                  "memory_dynamic_min", (json_int_t)memory, "memory_static_min", 0, "VCPUs_params",
                  json_object_get(i->guest, "vcpus_params"), "VCPUs_max",
                  (json_int_t)(all > vcpus ? all : vcpus), "VCPUs_at_startup", (json_int_t)vcpus,
                  "actions_after_shutdown", text(i, "on_poweroff", "destroy"), "actions_after_reboot",
                  text(i, "on_reboot", "restart"), "actions_after_crash", text(i, "on_crash", "restart"));
    json_t *more = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:O, s:s, s:{}, s:s}", "PV_bootloader", bootloader,
        "PV_kernel", kernel_name(x, i, "kernel"), "PV_ramdisk", kernel_name(x, i, "ramdisk"), "PV_args",
        text(i, "args", ""), "PV_bootloader_args", "", "PV_legacy_args", "", "HVM_boot_policy",
        hvm ? "BIOS order" : "", "HVM_boot_params", boot, "platform", json_object_get(i->guest, "platform"),
        "PCI_bus", "", "other_config", "recommendations", "");
    if (record && more)
        json_object_update(record, more);
    json_decref(more);
    return record;
}

static int make_vm(struct xe_run_state *x, struct import *i)
{
    json_t *record = record_of(x, i);
    AUTO_JSON json_t *made = NULL;
    if (!record)
        return xe_fail(x, XE_ERR_CLI, "the name must be text in UTF-8");
    if (xe_call_params(x, "VM.create", json_pack("[o]", record), &made) < 0)
        return -1;
    i->vm = xstrdup(json_string_value(made) ? json_string_value(made) : "");
    if (streq(text(i, "type", ""), "pvh") && xe_call(x, "VM.set_domain_type", NULL, "[ss]", i->vm, "pvh") < 0)
        return -1;
    return make_disks(x, i) < 0 || make_nics(x, i) < 0 ? -1 : 0;
}

/* `sr`: what the command line says, or NULL. */
static int make(struct xe_run_state *x, struct import *i, const char *sr)
{
    if (check_disks(x, i) < 0 || xe_making_sr(x, sr, &i->sr) < 0)
        return -1;
    if (make_vm(x, i) < 0) {
        xe_making_undo(x, i->vm, (const char *const *)i->vdis, i->vdi_count);
        return -1;
    }
    xe_record_forget(x, "VM");
    return xe_print_uuid(x, "VM", i->vm);
}

static int import(struct xe_run_state *x, reader_fn *reader)
{
    CLEANUP(import_done) struct import i = {0};
    bool dry = false;
    if (xe_arg_bool(x, "dry-run", &dry) < 0 || read_guest(x, reader, &i) < 0)
        return -1;
    if (!dry)
        return make(x, &i, xe_arg(x, "sr"));
    show(x, &i);
    return 0;
}

/* A machine that was moved keeps its addresses only when that is asked for. */
static void drop_addresses(const struct import *i)
{
    size_t k;
    json_t *nic;
    json_array_foreach(json_object_get(i->guest, "nics"), k, nic)
        json_object_set_new(nic, "mac", json_string(""));
}

int xe_import_ova(struct xe_run_state *x, const char *filename, const char *description, size_t len)
{
    CLEANUP(import_done) struct import i = {.archive = filename};
    bool dry = false, preserve = false;
    if (xe_arg_bool(x, "dry-run", &dry) < 0 || xe_arg_bool(x, "preserve", &preserve) < 0 ||
        describe(x, filename, description, len, guest_from_ovf, &i) < 0)
        return -1;
    if (!preserve)
        drop_addresses(&i);
    if (!dry)
        return make(x, &i, xe_arg(x, "sr-uuid"));
    show(x, &i);
    return 0;
}

int xe_cmd_vm_import_xl(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return import(x, guest_from_xl);
}

int xe_cmd_vm_import_libvirt(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return import(x, guest_from_libvirt);
}
