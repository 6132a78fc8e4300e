/* xe help: the usage, the lists of commands, one command in full. */
#include "run.h"
#include <stdio.h>

static const char USAGE[] = "Usage: xe <command>\n"
                            "  [ -s <server> ]            XenAPI server (127.0.0.1)\n"
                            "  [ -p <port> ]              its port (443, or 80 with --nossl)\n"
                            "  [ -u <user> ] [ -pw <password> | -pwf <password file> ]\n"
                            "  [ --ca <file> ]            the pool's CA certificate\n"
                            "  [ --nossl ]                plain HTTP, to a loopback address only\n"
                            "  [ --minimal ] [ --debug ]\n"
                            "  [ --multiple ]             let a selector pick several objects\n"
                            "  <command parameters>       name=value, name:key=value\n"
                            "\n"
                            "'xe help <command>' explains one command, 'xe help --all' lists them all.\n";

static void wrapped(struct xe_run_state *x, const char *title, bool (*belongs)(const struct xe_command *))
{
    size_t column = 0;
    buf_printf(&x->out, "\n%s\n", title);
    for (size_t i = 0; i < xe_command_count; i++) {
        const struct xe_command *c = &xe_commands[i];
        if ((c->flags & XE_CMD_HIDDEN) || !belongs(c))
            continue;
        size_t n = strlen(c->name) + 2;
        if (column == 0 || column + n > 74) {
            buf_add_str(&x->out, column ? ",\n    " : "    ");
            column = 4;
        } else {
            buf_add_str(&x->out, ", ");
        }
        buf_add_str(&x->out, c->name);
        column += n;
    }
    buf_add_char(&x->out, '\n');
}

static bool standard(const struct xe_command *c)
{
    return c->flags & XE_STANDARD;
}
static bool of_hosts(const struct xe_command *c)
{
    return xe_command_built(c) && strncmp(c->name, "host-", 5) == 0;
}
static bool of_vms(const struct xe_command *c)
{
    return xe_command_built(c) && strncmp(c->name, "vm-", 3) == 0;
}
static bool others(const struct xe_command *c)
{
    return xe_command_built(c) && strncmp(c->name, "vm-", 3) != 0 && strncmp(c->name, "host-", 5) != 0;
}
static bool not_built(const struct xe_command *c)
{
    return !xe_command_built(c);
}

static void names(struct xe_run_state *x, bool all)
{
    for (size_t i = 0; i < xe_command_count; i++)
        if (!(xe_commands[i].flags & XE_CMD_HIDDEN) && (all || standard(&xe_commands[i])))
            xe_out_item(x, xe_commands[i].name);
}

static char *joined(const char *const *list, const struct xe_command *selectors)
{
    AUTO_BUF struct buf b = BUF_INIT;
    for (; *list; list++)
        buf_printf(&b, "%s%s", b.len ? ", " : "", *list);
    if (selectors && selectors->selector)
        buf_printf(&b, "%s<%s-selectors>", b.len ? ", " : "", selectors->selector->name);
    return b.data ? buf_take(&b) : xstrdup("");
}

static void explain(struct xe_run_state *x, const struct xe_command *c)
{
    AUTO_FREE char *required = joined(c->required, NULL), *optional = joined(c->optional, c);
    AUTO_FREE char *help = xasprintf("%s%s", c->help, xe_command_built(c) ? "" : " Not built yet.");
    struct xe_cell cells[] = {{"command name", "", c->name},
                              {"reqd params", "", required},
                              {"optional params", "", optional},
                              {"description", "", help},
                              {"example", "", c->example ? c->example : ""}};
    size_t width = strlen("optional params") + 4;
    for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
        int pad = (int)(width - strlen(cells[i].name));
        if (i == 4 && !c->example)
            continue;
        if (i == 0)
            buf_printf(&x->out, "%s%*s: %s\n", cells[i].name, pad, "", cells[i].value);
        else
            buf_printf(&x->out, "%*s%s: %s\n", pad, "", cells[i].name, cells[i].value);
    }
    buf_add_str(&x->out, "\n\n");
}

void xe_help(struct xe_run_state *x, int argc, const char *const *argv)
{
    bool all = false, asked = false;
    for (int i = 0; i < argc; i++) {
        if (streq(argv[i], "--minimal") || streq(argv[i], "minimal=true"))
            x->minimal = true;
        else if (streq(argv[i], "--all") || streq(argv[i], "all=true"))
            all = true;
    }
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] == '-' || strchr(argv[i], '='))
            continue;
        const struct xe_command *c = xe_command_find(argv[i]);
        asked = true;
        if (c) {
            explain(x, c);
        } else {
            const char *near = xe_command_nearest(argv[i]);
            xe_fail(x, XE_ERR_PLAIN, "Unknown command '%s'%s%s%s", argv[i], near ? ". Did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
        }
    }
    if (asked)
        return;
    if (x->minimal) {
        names(x, all);
        return;
    }
    buf_add_str(&x->out, USAGE);
    if (!all) {
        wrapped(x, "A list of common commands follows:", standard);
        return;
    }
    wrapped(x, "Commands for hosts:", of_hosts);
    wrapped(x, "Commands for VMs:", of_vms);
    wrapped(x, "Other commands:", others);
    wrapped(x, "Known, but not built yet:", not_built);
}
