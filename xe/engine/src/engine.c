/* The way of one command: words, command, parameters checked, run, output, exit code. Start here,
 * then run.h; the tables behind it are generated from openapi/xe/. */
#include "run.h"

/* The command's own words once it is done, with {param} replaced. */
static void say(struct xe_run_state *x)
{
    AUTO_BUF struct buf text = BUF_INIT;
    for (const char *s = x->cmd->says; s && *s;) {
        size_t plain = strcspn(s, "{"), len = strcspn(s, "}");
        buf_add(&text, s, plain);
        s += plain;
        if (!*s)
            break;
        AUTO_FREE char *param = xstrndup(s + 1, len - plain - 1);
        const char *value = xe_arg(x, param);
        buf_add_str(&text, value ? value : "");
        s += len - plain + 1;
    }
    if (text.len)
        xe_out_item(x, text.data);
}

static int check_forced(struct xe_run_state *x)
{
    bool force = false;
    if (!x->cmd->forced)
        return 0;
    if (xe_arg_bool(x, "force", &force) < 0)
        return -1;
    return force ? 0
                 : xe_fail(x, XE_ERR_CLI, "%s This operation must be forced (use --force).", x->cmd->forced);
}

static int run_command(struct xe_run_state *x)
{
    const struct xe_command *cmd = x->cmd;
    if (!xe_command_built(cmd))
        return xe_fail(x, XE_ERR_CLI, "the command %s is not built yet", cmd->name);
    if (xe_args_check(x) < 0 || xe_view_check(x) < 0 || check_forced(x) < 0)
        return -1;
    if (cmd->flags & XE_LOCAL && x->api->log_in_locally)
        x->api->log_in_locally(x->api->ctx);
    if (cmd->generated == XE_LIST)
        return xe_run_list(x, cmd);
    if (cmd->generated)
        return xe_run_param(x, cmd);
    if (cmd->handler)
        return cmd->handler(x, cmd);
    if ((cmd->move ? xe_run_move(x, cmd) : xe_run_call(x, cmd)) < 0)
        return -1;
    say(x);
    return 0;
}

static int dispatch(struct xe_run_state *x)
{
    int rc = run_command(x);
    return rc < 0 && xe_detached(x) ? 0 : rc;
}

/* What the shell is told. */
static int exit_code(const struct xe_run_state *x, enum xe_err_kind kind)
{
    switch (kind) {
    case XE_ERR_TRANSPORT:
        return XE_EXIT_UNREACHABLE;
    case XE_ERR_UNFINISHED:
        return XE_EXIT_UNFINISHED;
    case XE_ERR_CANCELLED:
        return x->interrupted || (x->api->interrupted && x->api->interrupted(x->api->ctx))
                   ? XE_EXIT_INTERRUPTED
                   : XE_EXIT_FAILED;
    case XE_ERR_NONE:
    case XE_ERR_API:
    case XE_ERR_USAGE:
    case XE_ERR_CLI:
    case XE_ERR_PLAIN:
        break;
    }
    return XE_EXIT_FAILED;
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
    if (!command && x->param_count)
        return xe_fail(x, XE_ERR_USAGE, "Syntax error: there is no command, only --%s", x->params[0].name);
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

void xe_run_done(struct xe_run_state *x)
{
    xe_err_done(&x->err);
    xe_args_done(x);
    buf_done(&x->out);
    buf_done(&x->line);
    json_decref(x->objects);
    json_decref(x->wanted);
    json_decref(x->items);
    free(x->csv_head);
    free(x->spans);
    free(x->order);
}

int xe_run(const struct xe_api *api, int argc, const char *const *argv)
{
    struct xe_run_state x = {.api = api};
    int rc = run(&x, argc, argv);
    bool watched = x.view.watch && rc == 0; /* all was printed */
    if (x.minimal && !watched && (rc == 0 || x.line_started)) {
        buf_add(&x.out, x.line.data ? x.line.data : "", x.line.len);
        buf_add_char(&x.out, '\n');
    }
    if (rc == 0 && !watched)
        xe_view_end(&x);
    xe_out_flush(&x);
    int code = rc < 0 ? exit_code(&x, x.err.kind) : XE_EXIT_DONE;
    if (rc < 0)
        xe_print_failure(&x);
    xe_run_done(&x);
    return code;
}
