/* VM commands that are more than one call: start on a host, resume, clone, copy, snapshots, moving
 * within the pool. The plain ones (shutdown, reboot, pause, ...) are rows of openapi/xe/vm.toml. */
#include "run.h"
#include "xe_handlers.h"
#include <base/ref.h>
#include <base/secret.h>

/* A host named by uuid, name-label or hostname: its reference (the caller's). */
static int host_named(struct xe_run_state *x, const char *name, char **ref)
{
    const json_t *hosts, *found = NULL;
    const char *key, *found_ref = NULL;
    json_t *host;
    size_t matches = 0;
    if (xe_records(x, "host", &hosts) < 0)
        return -1;
    json_object_foreach((json_t *)hosts, key, host)
    {
        if (streq(xe_str(host, "uuid"), name) || streq(xe_str(host, "name_label"), name) ||
            streq(xe_str(host, "hostname"), name)) {
            found = host;
            found_ref = key;
            matches++;
        }
    }
    if (!found)
        return xe_fail(x, XE_ERR_CLI, "No matching hosts found");
    if (matches > 1)
        return xe_fail(x, XE_ERR_CLI, "several hosts are called '%s'; say the uuid", name);
    *ref = xstrdup(found_ref);
    return 0;
}

static int start_or_resume(struct xe_run_state *x, const char *vm, const char *message)
{
    bool paused = false, force = false;
    const char *on = xe_arg(x, "on");
    if (xe_arg_bool(x, "paused", &paused) < 0 || xe_arg_bool(x, "force", &force) < 0)
        return -1;
    if (!on)
        return xe_call_task(x, message, json_pack("[sbb]", vm, paused, force), NULL);
    AUTO_FREE char *host = NULL, *message_on = xasprintf("%s_on", message);
    if (host_named(x, on, &host) < 0)
        return -1;
    return xe_call_task(x, message_on, json_pack("[ssbb]", vm, host, paused, force), NULL);
}

static int start_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    (void)cmd;
    return start_or_resume(x, vm, "VM.start");
}

static int resume_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    (void)cmd;
    return start_or_resume(x, vm, "VM.resume");
}

int xe_cmd_vm_start(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, start_one);
}

int xe_cmd_vm_resume(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, resume_one);
}

/* Names the new VM's description when asked, and prints its uuid. */
static int made(struct xe_run_state *x, const json_t *vm)
{
    const char *description = xe_arg(x, "new-name-description"), *ref = json_string_value(vm);
    if (ref && description && xe_call(x, "VM.set_name_description", NULL, "[ss]", ref, description) < 0)
        return -1;
    return xe_print_uuid(x, "VM", ref);
}

static int make(struct xe_run_state *x, const char *message, json_t *params)
{
    AUTO_JSON json_t *vm = NULL;
    if (x->view.async && xe_arg(x, "new-name-description")) {
        json_decref(params);
        return xe_fail(x, XE_ERR_USAGE, "new-name-description is set afterwards, so --async cannot be");
    }
    return xe_call_task(x, message, params, &vm) < 0 ? -1 : made(x, vm);
}

static int clone_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    (void)cmd;
    return make(x, "VM.clone", json_pack("[ss]", vm, xe_arg(x, "new-name-label")));
}

static int copy_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    const char *uuid = xe_arg(x, "sr-uuid");
    AUTO_FREE char *sr = NULL;
    (void)cmd;
    if (uuid && xe_ref_by_uuid(x, "SR", uuid, &sr) < 0)
        return -1;
    return make(x, "VM.copy",
                json_pack("[sss]", vm, xe_arg(x, "new-name-label"), sr ? sr : "OpaqueRef:NULL"));
}

/* References of comma separated uuids. */
static int vdi_refs(struct xe_run_state *x, const char *uuids, json_t *refs)
{
    AUTO_FREE char *copy = xstrdup(uuids ? uuids : "");
    char *rest = copy, *uuid;
    while (*copy && (uuid = strsep(&rest, ","))) {
        AUTO_FREE char *ref = NULL;
        if (xe_ref_by_uuid(x, "VDI", uuid, &ref) < 0)
            return -1;
        json_array_append_new(refs, json_string(ref));
    }
    return 0;
}

static int snapshot_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    AUTO_JSON json_t *ignored = json_array();
    (void)cmd;
    if (vdi_refs(x, xe_arg(x, "ignore-vdi-uuids"), ignored) < 0)
        return -1;
    return make(x, "VM.snapshot", json_pack("[ssO]", vm, xe_arg(x, "new-name-label"), ignored));
}

static int quiesced_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    (void)cmd;
    return make(x, "VM.snapshot_with_quiesce", json_pack("[ss]", vm, xe_arg(x, "new-name-label")));
}

static int checkpoint_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    (void)cmd;
    return make(x, "VM.checkpoint", json_pack("[ss]", vm, xe_arg(x, "new-name-label")));
}

int xe_cmd_vm_clone(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, clone_one);
}

int xe_cmd_vm_copy(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, copy_one);
}

int xe_cmd_vm_snapshot(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, snapshot_one);
}

int xe_cmd_vm_snapshot_with_quiesce(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, quiesced_one);
}

int xe_cmd_vm_checkpoint(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, checkpoint_one);
}

static int migrate_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    const char *host = xe_arg(x, "host-uuid") ? xe_arg(x, "host-uuid") : xe_arg(x, "host");
    AUTO_FREE char *ref = NULL;
    (void)cmd;
    if (!host)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: host or host-uuid");
    if (host_named(x, host, &ref) < 0)
        return -1;
    json_t *options = json_object();
    for (const char *const *o = (const char *const[]){"live", "force", "compress", NULL}; *o; o++)
        if (xe_arg(x, *o))
            json_object_set_new(options, *o, json_string(xe_arg(x, *o)));
    return xe_call_task(x, "VM.pool_migrate", json_pack("[sso]", vm, ref, options), NULL);
}

int xe_cmd_vm_migrate(struct xe_run_state *x, const struct xe_command *cmd)
{
    if (xe_arg(x, "remote-master"))
        return xe_fail(x, XE_ERR_CLI, "moving a VM to another pool is not built yet");
    return xe_for_selected(x, cmd, migrate_one);
}

/* ---- bare VMs, crash dumps, Sysprep ---- */

int xe_cmd_vm_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name, *description = xe_arg(x, "name-description");
    const json_int_t most = (json_int_t)256 << 20, least = (json_int_t)128 << 20;
    AUTO_FREE char *vm = NULL;
    (void)cmd;
    if (xe_arg_required(x, "name-label", &name) < 0)
        return -1;
    json_t *record = json_pack(
        "{ss ss si sb ss sI sI sI sI s{} si si ss ss ss ss ss ss ss ss ss ss s{} s{} ss s{} ss}",
        "name_label", name, "name_description", description ? description : "", "user_version", 0,
        "is_a_template", 0, "affinity", "OpaqueRef:NULL", "memory_static_max", most, "memory_dynamic_max",
        most, "memory_dynamic_min", least, "memory_static_min", least, "VCPUs_params", "VCPUs_max", 1,
        "VCPUs_at_startup", 1, "actions_after_shutdown", "destroy", "actions_after_reboot", "restart",
        "actions_after_crash", "destroy", "PV_bootloader", "", "PV_kernel", "", "PV_ramdisk", "", "PV_args",
        "", "PV_bootloader_args", "", "PV_legacy_args", "", "HVM_boot_policy", "", "HVM_boot_params",
        "platform", "PCI_bus", "", "other_config", "recommendations", "");
    if (!record)
        return xe_fail(x, XE_ERR_CLI, "name-label must be text in UTF-8");
    if (xe_call_string(x, "VM.create", &vm, "[o]", record) < 0)
        return -1;
    return xe_print_uuid(x, "VM", vm);
}

static int crashdumps_of(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    const json_t *record, *dump;
    size_t i;
    (void)cmd;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    json_array_foreach(json_object_get(record, "crash_dumps"), i, dump)
    {
        if (xe_list_print(x, xe_class_find("crashdump"), json_string_value(dump), "all", NULL) < 0)
            return -1;
    }
    return 0;
}

int xe_cmd_vm_crashdump_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, crashdumps_of);
}

static int sysprep_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    const char *name, *given = xe_arg(x, "timeout");
    size_t len;
    AUTO_SECRET char *answers = NULL; /* holds the administrator's password */
    (void)cmd;
    if (xe_arg_required(x, "filename", &name) < 0)
        return -1;
    json_t *timeout = xe_input(x, "timeout", XE_FLOAT, NULL, NULL, given ? given : "300");
    if (!timeout)
        return -1;
    if (x->api->read_file(x->api->ctx, name, &answers, &len, &x->err) < 0) {
        json_decref(timeout);
        return -1;
    }
    return xe_call_task(x, "VM.sysprep", json_pack("[sso]", vm, answers, timeout), NULL);
}

int xe_cmd_vm_sysprep(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, sysprep_one);
}

static int bios_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    const json_t *record;
    (void)cmd;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    const json_t *strings = json_object_get(record, "bios_strings");
    if (json_object_size(strings) == 0)
        xe_out_message(x, "The BIOS strings of this VM have not yet been set.");
    else if (streq(xe_str(strings, "bios-vendor"), "Xen"))
        xe_out_message(x, "This VM is BIOS-generic.");
    else
        xe_out_message(x, "This VM is BIOS-customized.");
    return 0;
}

int xe_cmd_vm_is_bios_customized(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, bios_one);
}
