/* console: the serial console of a running VM in the user's terminal. vnc: its screen for a viewer. */
#include "run.h"
#include "xe_handlers.h"

/* The web socket of the VM's console that speaks `protocol` (the caller's). */
static int find(struct xe_run_state *x, const char *vm, const char *protocol, const char *what, char **path)
{
    const json_t *record, *console, *ref;
    size_t i;
    if (xe_record(x, "VM", vm, &record) < 0)
        return -1;
    if (!streq(xe_str(record, "power_state"), "Running") && !streq(xe_str(record, "power_state"), "Paused"))
        return xe_fail(x, XE_ERR_CLI, "the VM %s is not running, so it has no console",
                       xe_str(record, "name_label"));
    json_array_foreach(json_object_get(record, "consoles"), i, ref)
    {
        if (xe_record(x, "console", json_string_value(ref), &console) < 0)
            return -1;
        if (!console || !streq(xe_str(console, "protocol"), protocol))
            continue;
        *path = xasprintf("/console?uuid=%s", xe_str(console, "uuid"));
        xe_out_flush(x);
        return 0;
    }
    return xe_fail(x, XE_ERR_CLI, "the VM %s has no %s", xe_str(record, "name_label"), what);
}

static int console_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    AUTO_FREE char *path = NULL;
    (void)cmd;
    if (find(x, vm, "vt100", "serial console", &path) < 0)
        return -1;
    return x->api->console(x->api->ctx, path, &x->err);
}

int xe_cmd_console(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, console_one);
}

static int screen_one(struct xe_run_state *x, const struct xe_command *cmd, const char *vm)
{
    AUTO_FREE char *path = NULL;
    bool once = false;
    (void)cmd;
    if (!x->api->screen)
        return xe_fail(x, XE_ERR_CLI, "this command listens where it runs: use Corral's own xe");
    if (xe_arg_bool(x, "once", &once) < 0 || find(x, vm, "rfb", "screen", &path) < 0)
        return -1;
    return x->api->screen(x->api->ctx, path, xe_arg(x, "listen") ? xe_arg(x, "listen") : "0", once, &x->err);
}

int xe_cmd_vnc(struct xe_run_state *x, const struct xe_command *cmd)
{
    return xe_for_selected(x, cmd, screen_one);
}
