/* vm-export format=ova: a halted VM as an archive that other toolstacks read. */
#include "run.h"
#include "xe_handlers.h"
#include <guests.h>

struct ova {
    struct xe_run_state *x;
    json_t *guest;
    struct xe_ova_disk *disks; /* of guest, and the VDIs of the same places */
    char **vdis;
    size_t count;
    struct xe_meter meter;
};

static void ova_done(struct ova *o)
{
    json_decref(o->guest);
    for (size_t i = 0; i < o->count; i++) {
        free((char *)o->disks[i].member);
        free(o->vdis[i]);
    }
    free(o->disks);
    free(o->vdis);
}

static int64_t number(const json_t *record, const char *member)
{
    const json_t *n = json_object_get(record, member);
    return json_is_string(n) ? strtoll(json_string_value(n), NULL, 10) : json_integer_value(n);
}

static int add_disk(struct ova *o, const json_t *vbd)
{
    const char *ref = xe_str(vbd, "VDI");
    bool cdrom = streq(xe_str(vbd, "type"), "CD");
    const json_t *vdi = NULL;
    if (!cdrom && xe_record(o->x, "VDI", ref, &vdi) < 0)
        return -1;
    if (!cdrom && !vdi)
        return 0;
    int64_t size = cdrom ? 0 : number(vdi, "virtual_size");
    AUTO_FREE char *member = xasprintf("disk%zu.vmdk", o->count);
    json_array_append_new(
        json_object_get(o->guest, "disks"),
        json_pack("{s:s, s:b, s:I}", "path", cdrom ? "" : member, "cdrom", cdrom, "size", (json_int_t)size));
    if (cdrom)
        return 0;
    o->disks = xreallocarray(o->disks, o->count + 1, sizeof(*o->disks));
    o->vdis = xreallocarray(o->vdis, o->count + 1, sizeof(*o->vdis));
    o->disks[o->count] = (struct xe_ova_disk){TAKE_PTR(member), size};
    o->vdis[o->count++] = xstrdup(ref);
    return 0;
}

/* By the number of the device: the first is what it boots from. */
static int add_disks(struct ova *o, const json_t *vm)
{
    const json_t *list = json_object_get(vm, "VBDs");
    AUTO_FREE bool *done = xcalloc(json_array_size(list) + 1, sizeof(*done));
    for (size_t k = 0; k < json_array_size(list); k++) {
        const json_t *best = NULL;
        size_t found = 0;
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *vbd = NULL;
            if (done[i])
                continue;
            if (xe_record(o->x, "VBD", json_string_value(json_array_get(list, i)), &vbd) < 0)
                return -1;
            if (vbd && (!best || number(vbd, "userdevice") < number(best, "userdevice"))) {
                best = vbd;
                found = i;
            }
        }
        done[found] = true;
        if (best && add_disk(o, best) < 0)
            return -1;
    }
    return 0;
}

static int add_nics(struct ova *o, const json_t *vm)
{
    size_t i;
    const json_t *ref;
    json_array_foreach(json_object_get(vm, "VIFs"), i, ref)
    {
        const json_t *vif = NULL, *network = NULL;
        if (xe_record(o->x, "VIF", json_string_value(ref), &vif) < 0 ||
            (vif && xe_record(o->x, "network", xe_str(vif, "network"), &network) < 0))
            return -1;
        if (vif)
            json_array_append_new(json_object_get(o->guest, "nics"),
                                  json_pack("{s:s, s:s}", "mac", xe_str(vif, "MAC"), "network",
                                            network ? xe_str(network, "name_label") : ""));
    }
    return 0;
}

static int describe(struct ova *o, const char *ref)
{
    const json_t *vm = NULL;
    if (xe_record(o->x, "VM", ref, &vm) < 0 || !vm)
        return o->x->err.kind ? -1 : xe_fail(o->x, XE_ERR_CLI, "the VM is gone");
    if (!streq(xe_str(vm, "power_state"), "Halted"))
        return xe_fail(o->x, XE_ERR_CLI, "the VM has to be shut down first: an OVA holds no memory");
    const char *firmware = xe_str(json_object_get(vm, "HVM_boot_params"), "firmware");
    o->guest =
        json_pack("{s:s, s:s, s:I, s:I, s:s, s:[], s:[]}", "name", xe_str(vm, "name_label"), "description",
                  xe_str(vm, "name_description"), "memory", (json_int_t)number(vm, "memory_static_max"),
                  "vcpus", (json_int_t)number(vm, "VCPUs_max"), "firmware", firmware, "disks", "nics");
    if (*xe_str(vm, "PV_kernel"))
        xe_note(o->x, "Not in the archive: the VM is started by the host's kernel %s.",
                xe_str(vm, "PV_kernel"));
    return add_disks(o, vm) < 0 || add_nics(o, vm) < 0 ? -1 : 0;
}

static int fetch(void *arg, size_t disk, const char *file)
{
    struct ova *o = arg;
    AUTO_FREE char *route = xasprintf("/export_raw_vdi?vdi=%s&format=raw", o->vdis[disk]);
    xe_meter_end(&o->meter);
    int rc = xe_transfer_file(o->x, o->x->api->download, "Fetching", file, route, NULL);
    o->meter = xe_meter_init(o->x, "Packing", false);
    return rc;
}

static int draw(void *arg, uint64_t done, uint64_t total)
{
    xe_meter_bytes(&((struct ova *)arg)->meter, done, total);
    return 0;
}

int xe_export_ova(struct xe_run_state *x, const char *ref)
{
    CLEANUP(ova_done) struct ova o = {.x = x};
    const char *filename = xe_arg(x, "filename");
    if (!x->api->write_ova || streq(filename, "-"))
        return xe_fail(x, XE_ERR_CLI,
                       "an OVA is made where this command runs, as a file: use Corral's own xe");
    if (describe(&o, ref) < 0)
        return -1;
    AUTO_FREE char *description = guest_to_ovf(o.guest);
    o.meter = xe_meter_init(x, "Packing", false);
    int rc =
        x->api->write_ova(x->api->ctx, filename, description, o.disks, o.count, fetch, draw, &o, &x->err);
    xe_meter_end(&o.meter);
    if (rc == 0)
        xe_out_message(x, "Export succeeded");
    return rc;
}
