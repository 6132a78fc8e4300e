/* vm-uninstall, template-uninstall and the snapshot commands: what is about to be destroyed is
 * shown and confirmed, then VMs go first and their own disks after them. */
#include "run.h"
#include "xe_handlers.h"

/* The VDIs that belong to a VM: of VBDs marked as owner, and its suspend image. */
static int own_disks(struct xe_run_state *x, const char *vm, json_t *disks)
{
    const json_t *record, *vbd;
    size_t i;
    const json_t *ref;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    json_array_foreach(json_object_get(record, "VBDs"), i, ref)
    {
        if (xe_record(x, "VBD", json_string_value(ref), &vbd) < 0)
            return -1;
        const char *vdi = xe_str(vbd, "VDI");
        if (json_object_get(json_object_get(vbd, "other_config"), "owner") && !xe_ref_null(vdi))
            json_object_set_new(disks, vdi, json_true());
    }
    const char *suspended = xe_str(record, "suspend_VDI");
    if (!xe_ref_null(suspended))
        json_object_set_new(disks, suspended, json_true());
    return 0;
}

static int describe(struct xe_run_state *x, const char *kind, const char *api_class, const char *ref)
{
    const json_t *record;
    if (xe_record(x, api_class, ref, &record) < 0)
        return -1;
    if (record)
        xe_out_message(x, "%s: %s (%s)", kind, xe_str(record, "uuid"), xe_str(record, "name_label"));
    return 0;
}

static int describe_all(struct xe_run_state *x, const char *kind, json_t *vms, json_t *disks)
{
    const char *ref;
    json_t *ignored;
    xe_out_message(x, "The following items are about to be destroyed");
    json_object_foreach(vms, ref, ignored) if (describe(x, kind, "VM", ref) < 0) return -1;
    json_object_foreach(disks, ref, ignored) if (describe(x, "VDI", "VDI", ref) < 0) return -1;
    return 0;
}

static int destroy_vm(struct xe_run_state *x, const char *vm)
{
    const json_t *record;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    if (!streq(xe_str(record, "power_state"), "Halted") &&
        xe_call_task(x, "VM.hard_shutdown", json_pack("[s]", vm), NULL) < 0)
        return -1;
    return xe_call_task(x, "VM.destroy", json_pack("[s]", vm), NULL);
}

/* A disk that has gone with its VM (a suspend image) is no error. */
static int destroy_vdi(struct xe_run_state *x, const char *vdi)
{
    if (xe_call_task(x, "VDI.destroy", json_pack("[s]", vdi), NULL) == 0)
        return 0;
    if (!xe_err_is(&x->err, "HANDLE_INVALID"))
        return -1;
    xe_err_done(&x->err);
    return 0;
}

static int uninstall(struct xe_run_state *x, const char *kind, json_t *vms)
{
    AUTO_JSON json_t *disks = json_object();
    const char *ref;
    json_t *ignored;
    json_object_foreach(vms, ref, ignored) if (own_disks(x, ref, disks) < 0) return -1;
    if (describe_all(x, kind, vms, disks) < 0 || xe_confirm(x) < 0)
        return -1;
    json_object_foreach(vms, ref, ignored) if (destroy_vm(x, ref) < 0) return -1;
    json_object_foreach(disks, ref, ignored) if (destroy_vdi(x, ref) < 0) return -1;
    xe_out_message(x, "All objects destroyed");
    return 0;
}

/* A VM's snapshots go with it. */
static int add_with_snapshots(struct xe_run_state *x, const char *vm, json_t *vms)
{
    const json_t *record, *ref;
    size_t i;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    json_object_set_new(vms, vm, json_true());
    json_array_foreach(json_object_get(record, "snapshots"), i, ref)
        json_object_set_new(vms, json_string_value(ref), json_true());
    return 0;
}

int xe_cmd_vm_uninstall(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_REFS struct xe_refs refs = {0};
    AUTO_JSON json_t *vms = json_object();
    if (xe_select(x, cmd, &refs) < 0)
        return -1;
    for (size_t i = 0; i < refs.count; i++)
        if (add_with_snapshots(x, refs.items[i], vms) < 0)
            return -1;
    return uninstall(x, "VM", vms);
}

int xe_cmd_template_uninstall(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *vm = NULL;
    AUTO_JSON json_t *vms = json_object();
    const json_t *record;
    (void)cmd;
    if (xe_arg_required(x, "template-uuid", &uuid) < 0 || xe_ref_by_uuid(x, "VM", uuid, &vm) < 0 ||
        xe_record(x, "VM", vm, &record) < 0)
        return -1;
    if (!xe_true(record, "is_a_template"))
        return xe_fail(x, XE_ERR_CLI, "%s is not a template; use vm-uninstall", uuid);
    json_object_set_new(vms, vm, json_true());
    return uninstall(x, "Template", vms);
}

/* ---- snapshots, by snapshot-uuid= or uuid= ---- */

static int snapshot(struct xe_run_state *x, char **ref)
{
    const char *uuid = xe_arg(x, "snapshot-uuid") ? xe_arg(x, "snapshot-uuid") : xe_arg(x, "uuid");
    const json_t *record;
    if (!uuid)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: snapshot-uuid");
    AUTO_FREE char *vm = NULL;
    if (xe_ref_by_uuid(x, "VM", uuid, &vm) < 0 || xe_record(x, "VM", vm, &record) < 0)
        return -1;
    if (!xe_true(record, "is_a_snapshot"))
        return xe_fail(x, XE_ERR_CLI, "%s is not a snapshot", uuid);
    *ref = TAKE_PTR(vm);
    return 0;
}

int xe_cmd_snapshot_reset_powerstate(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *ref = NULL;
    (void)cmd;
    return snapshot(x, &ref) < 0 ? -1 : xe_call(x, "VM.power_state_reset", NULL, "[s]", ref);
}

int xe_cmd_snapshot_uninstall(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *vm = NULL;
    AUTO_JSON json_t *vms = json_object();
    (void)cmd;
    if (snapshot(x, &vm) < 0)
        return -1;
    json_object_set_new(vms, vm, json_true());
    return uninstall(x, "Snapshot", vms);
}

int xe_cmd_snapshot_destroy(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *vm = NULL;
    (void)cmd;
    return snapshot(x, &vm) < 0 ? -1 : destroy_vm(x, vm);
}

int xe_cmd_snapshot_revert(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *vm = NULL;
    (void)cmd;
    if (snapshot(x, &vm) < 0)
        return -1;
    return xe_call_task(x, "VM.revert", json_pack("[s]", vm), NULL);
}

static int from_snapshot(struct xe_run_state *x, const char *message, json_t *params)
{
    AUTO_JSON json_t *made = NULL;
    const char *description = xe_arg(x, "new-name-description");
    if (xe_call_task(x, message, params, &made) < 0)
        return -1;
    const char *ref = json_string_value(made);
    if (description && ref && xe_call(x, "VM.set_name_description", NULL, "[ss]", ref, description) < 0)
        return -1;
    return xe_print_uuid(x, "VM", ref);
}

int xe_cmd_snapshot_clone(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *vm = NULL;
    (void)cmd;
    if (snapshot(x, &vm) < 0)
        return -1;
    return from_snapshot(x, "VM.clone", json_pack("[ss]", vm, xe_arg(x, "new-name-label")));
}

int xe_cmd_snapshot_copy(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_FREE char *vm = NULL, *sr = NULL;
    const char *uuid = xe_arg(x, "sr-uuid");
    (void)cmd;
    if (snapshot(x, &vm) < 0 || (uuid && xe_ref_by_uuid(x, "SR", uuid, &sr) < 0))
        return -1;
    return from_snapshot(x, "VM.copy",
                         json_pack("[sss]", vm, xe_arg(x, "new-name-label"), sr ? sr : "OpaqueRef:NULL"));
}
