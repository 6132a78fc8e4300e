/* What a person looks at when something does not work: a VM or VDI with all that hangs on it. */
#include "drives.h"
#include "xe_handlers.h"

static int show_drive(struct xe_run_state *x, const char *vbd, const json_t *record, void *arg)
{
    static const char *const vdi[] = {
        "uuid,name-label,sr-uuid,sr-name-label,virtual-size,managed,missing,current-operations", NULL};
    static const char *const drive[] = {
        "uuid,userdevice,type,mode,empty,currently-attached,allowed-operations,"
        "current-operations",
        NULL};
    (void)arg;
    xe_out_message(x, "VBD %s:", xe_str(record, "userdevice"));
    if (xe_list_print(x, xe_class_find("vbd"), vbd, NULL, drive) < 0)
        return -1;
    return xe_true(record, "empty")
               ? 0
               : xe_list_print(x, xe_class_find("vdi"), xe_str(record, "VDI"), NULL, vdi);
}

int xe_hosts_for(struct xe_run_state *x, const char *vm,
                 void (*tell)(struct xe_run_state *x, const json_t *host, const char *why))
{
    const json_t *hosts;
    const char *ref;
    json_t *host;
    if (xe_records(x, "host", &hosts) < 0)
        return -1;
    json_object_foreach((json_t *)hosts, ref, host)
    {
        if (xe_call(x, "VM.assert_can_boot_here", NULL, "[ss]", vm, ref) == 0) {
            tell(x, host, NULL);
            continue;
        }
        if (x->err.kind != XE_ERR_API)
            return -1;
        AUTO_FREE char *why = xe_err_line(&x->err);
        xe_err_done(&x->err);
        tell(x, host, why);
    }
    return 0;
}

static void show_host(struct xe_run_state *x, const json_t *host, const char *why)
{
    xe_out_message(x, "Host %s (%s): %s", xe_str(host, "uuid"), xe_str(host, "name_label"),
                   why ? why : "could start the VM");
}

int xe_cmd_diagnostic_vm_status(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const columns[] = {
        "uuid,name-label,power-state,resident-on,allowed-operations,current-operations,blocked-operations",
        NULL};
    const char *uuid;
    AUTO_FREE char *vm = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "VM", uuid, &vm) < 0 ||
        xe_list_print(x, xe_class_find("vm"), vm, NULL, columns) < 0 ||
        xe_each_vbd(x, vm, show_drive, NULL) < 0)
        return -1;
    return xe_hosts_for(x, vm, show_host);
}

int xe_cmd_diagnostic_vdi_status(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const columns[] = {"uuid,vm-uuid,vm-name-label,userdevice,mode,currently-attached",
                                          NULL};
    const char *uuid;
    AUTO_FREE char *vdi = NULL;
    const json_t *record, *ref;
    size_t i;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "VDI", uuid, &vdi) < 0 ||
        xe_record(x, "VDI", vdi, &record) < 0 || xe_list_print(x, xe_class_find("vdi"), vdi, "all", NULL) < 0)
        return -1;
    json_array_foreach(
        json_object_get(record, "VBDs"), i,
        ref) if (xe_list_print(x, xe_class_find("vbd"), json_string_value(ref), NULL, columns) < 0) return -1;
    return 0;
}

int xe_cmd_diagnostic_db_stats(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *stats = NULL;
    AUTO_BUF struct buf line = BUF_INIT;
    const char *key;
    json_t *value;
    (void)cmd;
    if (xe_call(x, "Diagnostics.db_stats", &stats, "[]") < 0)
        return -1;
    json_object_foreach(stats, key, value) buf_printf(&line, " %s=%s", key, xe_str(stats, key));
    xe_out_message(x, "DB lock stats:%s", line.data ? line.data : "");
    return 0;
}
