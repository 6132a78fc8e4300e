/* console: the serial console of a running VM in the user's terminal. */
#include "run.h"
#include "xe_handlers.h"

static int console_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    const json_t *record, *console, *ref;
    size_t i;
    (void)cmd;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    if (!streq(xe_str(record, "power_state"), "Running") && !streq(xe_str(record, "power_state"), "Paused"))
        return xe_fail(x, XE_ERR_CLI, "the VM %s is not running, so it has no console",
                       xe_str(record, "name_label"));
    json_array_foreach(json_object_get(record, "consoles"), i, ref)
    {
        if (xe_record(x, "console", json_string_value(ref), &console) < 0)
            return -1;
        if (!console || !streq(xe_str(console, "protocol"), "vt100"))
            continue;
        AUTO_FREE char *path = xasprintf("/console?uuid=%s", xe_str(console, "uuid"));
        xe_out_flush(x);
        return x->api->console(x->api->ctx, path, &x->err);
    }
    return xe_fail(x, XE_ERR_CLI, "the VM %s has no serial console", xe_str(record, "name_label"));
}

int xe_cmd_console(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, console_one);
}
