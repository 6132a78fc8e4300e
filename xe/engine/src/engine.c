/* The way of one command: words, command, parameters checked, run, output, exit code. Start here,
 * then run.h; the tables behind it are generated from openapi/xe/. */
#include "run.h"

static int dispatch(struct xe_run_state *x)
{
    const struct xe_command *cmd = x->cmd;
    if (!xe_command_built(cmd))
        return xe_fail(x, XE_ERR_CLI, "the command %s is not built yet", cmd->name);
    if (xe_args_check(x) < 0)
        return -1;
    if (cmd->generated == XE_LIST)
        return xe_run_list(x, cmd);
    if (cmd->generated)
        return xe_run_param(x, cmd);
    return cmd->handler ? cmd->handler(x, cmd) : xe_run_call(x, cmd);
}

static int run(struct xe_run_state *x, int argc, const char *const *argv)
{
    const char *command;
    if (argc > 0 && streq(argv[0], "help")) {
        xe_help(x, argc - 1, argv + 1);
        return x->err.kind ? -1 : 0;
    }
    if (xe_args_parse(x, argc, argv, &command) < 0)
        return -1;
    if (!command) {
        xe_help(x, 0, NULL);
        return 0;
    }
    x->cmd = xe_command_find(command);
    if (!x->cmd) {
        const char *near = xe_command_nearest(command);
        return xe_fail(x, XE_ERR_USAGE, "Unknown command: %s%s%s%s", command, near ? "\nDid you mean '" : "",
                       near ? near : "", near ? "'?" : "");
    }
    return dispatch(x);
}

int xe_run(const struct xe_api *api, int argc, const char *const *argv)
{
    struct xe_run_state x = {.api = api};
    int rc = run(&x, argc, argv);
    if (x.minimal && (rc == 0 || x.line_started)) {
        buf_add(&x.out, x.line.data ? x.line.data : "", x.line.len);
        buf_add_char(&x.out, '\n');
    }
    xe_out_flush(&x);
    if (rc < 0)
        xe_print_failure(&x);
    xe_err_done(&x.err);
    xe_args_done(&x);
    buf_done(&x.out);
    buf_done(&x.line);
    json_decref(x.objects);
    json_decref(x.wanted);
    return rc < 0 ? 1 : 0;
}
