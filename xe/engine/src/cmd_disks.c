/* The disks of a VM: vm-disk-add, -remove, -resize, -list, and making drives. */
#include "drives.h"
#include "xe_handlers.h"

int xe_each_vbd(struct xe_run_state *x, const char *vm, xe_vbd_fn *visit, void *arg)
{
    const json_t *record, *vbd, *ref;
    size_t i;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    json_array_foreach(json_object_get(record, "VBDs"), i, ref)
    {
        if (xe_record(x, "VBD", json_string_value(ref), &vbd) < 0)
            return -1;
        if (vbd && visit(x, json_string_value(ref), vbd, arg) < 0)
            return -1;
    }
    return 0;
}

int xe_make_vbd(struct xe_run_state *x, const char *vm, const char *vdi, const char *device, const char *type,
                const char *mode, bool bootable, bool owner, char **vbd)
{
    const json_t *record;
    json_t *other_config = json_object();
    if (owner)
        json_object_set_new(other_config, "owner", json_string(""));
    json_t *drive = json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:b, s:b, s:o, s:s, s:{}}", "VM", vm, "VDI",
                              vdi, "userdevice", device, "bootable", bootable, "mode", mode, "type", type,
                              "unpluggable", 1, "empty", xe_ref_null(vdi), "other_config", other_config,
                              "qos_algorithm_type", "", "qos_algorithm_params");
    if (!drive)
        return xe_fail(x, XE_ERR_CLI, "the device, type and mode must be text in UTF-8");
    AUTO_FREE char *made = NULL;
    if (xe_call_string(x, "VBD.create", &made, "[o]", drive) < 0)
        return -1;
    if (xe_record(x, "VM", vm, &record) == 0 && streq(xe_str(record, "power_state"), "Running") &&
        xe_call_task(x, "VBD.plug", json_pack("[s]", made), NULL) < 0) {
        struct xe_err first = x->err;
        x->err = (struct xe_err){0};
        if (xe_call(x, "VBD.destroy", NULL, "[s]", made) < 0)
            xe_err_done(&x->err);
        x->err = first;
        return -1;
    }
    *vbd = TAKE_PTR(made);
    return 0;
}

/* sr-uuid=, else the pool's default SR (the caller's). */
static int target_sr(struct xe_run_state *x, char **sr)
{
    const char *uuid = xe_arg(x, "sr-uuid"), *pool;
    const json_t *record;
    if (uuid)
        return xe_ref_by_uuid(x, "SR", uuid, sr);
    if (xe_pool(x, &pool, &record) < 0)
        return -1;
    if (xe_ref_null(xe_str(record, "default_SR")))
        return xe_fail(x, XE_ERR_CLI, "the pool has no default SR; say sr-uuid");
    *sr = xstrdup(xe_str(record, "default_SR"));
    return 0;
}

static int disk_add_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    int64_t bytes = 0;
    AUTO_FREE char *sr = NULL, *vbd = NULL;
    AUTO_JSON json_t *vdi = NULL;
    (void)cmd;
    if (xe_arg_bytes(x, "disk-size", &bytes) < 0 || target_sr(x, &sr) < 0)
        return -1;
    json_t *disk = json_pack("{s:s, s:s, s:s, s:I, s:s, s:b, s:b, s:{}, s:{}, s:{}, s:[]}", "name_label",
                             "Created by xe", "name_description", "", "SR", sr, "virtual_size",
                             (json_int_t)bytes, "type", "user", "sharable", 0, "read_only", 0, "other_config",
                             "xenstore_data", "sm_config", "tags");
    if (xe_call_task(x, "VDI.create", json_pack("[o]", disk), &vdi) < 0)
        return -1;
    const char *ref = json_string_value(vdi);
    if (ref && xe_make_vbd(x, vm, ref, xe_arg(x, "device"), "Disk", "RW", false, true, &vbd) == 0)
        return 0;
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (ref && xe_call(x, "VDI.destroy", NULL, "[s]", ref) < 0)
        xe_note(x, "The new disk %s could not be destroyed again.", ref);
    xe_err_done(&x->err);
    x->err = first;
    return -1;
}

int xe_cmd_vm_disk_add(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, disk_add_one);
}

struct found {
    const char *device, *vbd, *vdi;
};

static int match_device(struct xe_run_state *x, const char *vbd, const json_t *record, void *arg)
{
    struct found *f = arg;
    (void)x;
    if (streq(xe_str(record, "userdevice"), f->device) && !streq(xe_str(record, "type"), "CD")) {
        f->vbd = vbd;
        f->vdi = xe_str(record, "VDI");
    }
    return 0;
}

static int disk_of(struct xe_run_state *x, const char *vm, struct found *f)
{
    if (xe_arg_required(x, "device", &f->device) < 0 || xe_each_vbd(x, vm, match_device, f) < 0)
        return -1;
    if (!f->vbd || xe_ref_null(f->vdi))
        return xe_fail(x, XE_ERR_CLI, "the VM has no disk %s; 'xe vm-disk-list' shows those it has",
                       f->device);
    return 0;
}

static int disk_remove_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    struct found f = {0};
    const json_t *record;
    (void)cmd;
    if (disk_of(x, vm, &f) < 0 || xe_record(x, "VBD", f.vbd, &record) < 0)
        return -1;
    if (xe_true(record, "currently_attached") &&
        xe_call_task(x, "VBD.unplug", json_pack("[s]", f.vbd), NULL) < 0)
        return -1;
    if (xe_call(x, "VBD.destroy", NULL, "[s]", f.vbd) < 0)
        return -1;
    return xe_call_task(x, "VDI.destroy", json_pack("[s]", f.vdi), NULL);
}

int xe_cmd_vm_disk_remove(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, disk_remove_one);
}

static int disk_resize_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    struct found f = {0};
    int64_t bytes = 0;
    (void)cmd;
    if (xe_arg_bytes(x, "disk-size", &bytes) < 0 || disk_of(x, vm, &f) < 0)
        return -1;
    return xe_call_task(x, "VDI.resize", json_pack("[sI]", f.vdi, (json_int_t)bytes), NULL);
}

int xe_cmd_vm_disk_resize(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, disk_resize_one);
}

/* ---- lists ---- */

struct listing {
    const char *type; /* "CD" or "Disk" */
    int number;
};

static int list_drive(struct xe_run_state *x, const char *vbd, const json_t *record, void *arg)
{
    static const char *const vbd_columns[] = {"uuid", "vm-name-label", "userdevice", NULL};
    static const char *const cd_columns[] = {"uuid", "vm-name-label", "userdevice", "empty", NULL};
    static const char *const vdi_columns[] = {"uuid", "name-label", "sr-name-label", "virtual-size", NULL};
    struct listing *l = arg;
    bool cd = streq(xe_str(record, "type"), "CD");
    if (cd != streq(l->type, "CD"))
        return 0;
    xe_out_message(x, "%s %d VBD:", l->type, l->number);
    if (xe_list_print(x, xe_class_find("vbd"), vbd, xe_arg(x, "vbd-params"), cd ? cd_columns : vbd_columns) <
        0)
        return -1;
    if (!xe_true(record, "empty")) {
        xe_out_message(x, "%s %d VDI:", l->type, l->number);
        if (xe_list_print(x, xe_class_find("vdi"), xe_str(record, "VDI"), xe_arg(x, "vdi-params"),
                          vdi_columns) < 0)
            return -1;
    }
    l->number++;
    return 0;
}

static int disk_list_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    struct listing l = {"Disk", 0};
    (void)cmd;
    return xe_each_vbd(x, vm, list_drive, &l);
}

static int cd_list_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    struct listing l = {"CD", 0};
    (void)cmd;
    return xe_each_vbd(x, vm, list_drive, &l);
}

int xe_cmd_vm_disk_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, disk_list_one);
}

int xe_cmd_vm_cd_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, cd_list_one);
}

int xe_cmd_snapshot_disk_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid = xe_arg(x, "snapshot-uuid") ? xe_arg(x, "snapshot-uuid") : xe_arg(x, "uuid");
    AUTO_FREE char *vm = NULL;
    if (!uuid)
        return xe_for_selected(x, cmd, disk_list_one);
    if (xe_ref_by_uuid(x, "VM", uuid, &vm) < 0)
        return -1;
    return disk_list_one(x, cmd, vm);
}

int xe_cmd_vbd_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *vm_uuid, *device, *vdi_uuid = xe_arg(x, "vdi-uuid");
    const char *type = xe_arg(x, "type"), *mode = xe_arg(x, "mode");
    bool bootable = false, unpluggable = true;
    AUTO_FREE char *vm = NULL, *vdi = NULL, *vbd = NULL;
    (void)cmd;
    if (xe_arg_required(x, "vm-uuid", &vm_uuid) < 0 || xe_arg_required(x, "device", &device) < 0 ||
        xe_arg_bool(x, "bootable", &bootable) < 0 || xe_arg_bool(x, "unpluggable", &unpluggable) < 0)
        return -1;
    if (xe_ref_by_uuid(x, "VM", vm_uuid, &vm) < 0 ||
        (vdi_uuid && xe_ref_by_uuid(x, "VDI", vdi_uuid, &vdi) < 0))
        return -1;
    if (!type)
        type = vdi ? "Disk" : "CD";
    if (!mode)
        mode = streq(type, "CD") ? "RO" : "RW";
    AUTO_JSON json_t *drive =
        json_pack("{s:s, s:s, s:s, s:b, s:s, s:s, s:b, s:b, s:{}, s:s, s:{}}", "VM", vm, "VDI",
                  vdi ? vdi : "OpaqueRef:NULL", "userdevice", device, "bootable", bootable, "mode", mode,
                  "type", type, "unpluggable", unpluggable, "empty", !vdi, "other_config",
                  "qos_algorithm_type", "", "qos_algorithm_params");
    return xe_call_string(x, "VBD.create", &vbd, "[O]", drive) < 0 ? -1 : xe_print_uuid(x, "VBD", vbd);
}
