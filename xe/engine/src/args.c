/* The words of a command line: name=value, name:key=value, --name; and the checks that a command
 * has what it needs and nothing that it does not know. */
#include "run.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

static const char *const STANDARD[] = {"server", "password", "port",     "username",         "minimal",
                                       "force",  "multiple", "all",      "message-priority", "trace",
                                       "debug",  "nossl",    "database", "passwordfile",     "traceparent"};

bool xe_param_standard(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(STANDARD); i++)
        if (streq(name, STANDARD[i]))
            return true;
    return strncmp(name, "database:", 9) == 0;
}

static void add_param(struct xe_run_state *x, const char *word, const char *value)
{
    struct xe_param p = {.text = xstrdup(word)};
    char *eq = value ? NULL : strchr(p.text, '=');
    if (eq)
        *eq = '\0';
    p.name = p.text;
    p.value = value ? value : eq + 1;
    x->params = xreallocarray(x->params, x->param_count + 1, sizeof *x->params);
    x->params[x->param_count++] = p;
}

/* Whether the command has a parameter of the name before the '='. */
static bool declared(const char *command, const char *text)
{
    const struct xe_command *cmd = command ? xe_command_find(command) : NULL;
    size_t len = strcspn(text, "=");
    const char *const *const lists[] = {cmd ? cmd->required : NULL, cmd ? cmd->optional : NULL};
    for (size_t l = 0; cmd && l < ARRAY_LEN(lists); l++)
        for (const char *const *p = lists[l]; *p; p++)
            if (strncmp(*p, text, len) == 0 && !(*p)[len])
                return true;
    return false;
}

int xe_args_parse(struct xe_run_state *x, int argc, const char *const *argv, const char **command)
{
    *command = NULL;
    x->view.wait_seconds = -1;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!utf8_valid(word, strlen(word)))
            return xe_fail(x, XE_ERR_USAGE, "Syntax error: word %d of the command is not UTF-8", i + 1);
        int view = strncmp(word, "--", 2) == 0 && !declared(*command, word + 2)
                       ? xe_view_take(x, argc, argv, &i)
                       : 0;
        if (view < 0)
            return -1;
        if (view)
            continue;
        if (strncmp(word, "--", 2) == 0 && word[2])
            add_param(x, word + 2, strchr(word, '=') ? NULL : "true");
        else if (!*command && strchr(word, '='))
            return xe_fail(x, XE_ERR_USAGE, "Syntax error: the command comes first, before %s", word);
        else if (!*command)
            *command = word;
        else if (strchr(word, '='))
            add_param(x, word, NULL);
        else if (streq(word, "-f") && i + 1 < argc && declared(*command, "file="))
            add_param(x, "file", argv[++i]);
        else
            return xe_fail(x, XE_ERR_USAGE, "Syntax error: '%s' is not a parameter; one reads name=value",
                           word);
    }
    const char *minimal = xe_arg(x, "minimal");
    if (minimal && !xe_parse_bool(minimal, &x->minimal))
        return xe_fail(x, XE_ERR_USAGE, "Syntax error: minimal is true or false, not '%s'", minimal);
    return 0;
}

void xe_args_done(struct xe_run_state *x)
{
    for (size_t i = 0; i < x->param_count; i++)
        free(x->params[i].text);
    free(x->params);
}

const char *xe_arg(const struct xe_run_state *x, const char *name)
{
    for (size_t i = 0; i < x->param_count; i++)
        if (streq(x->params[i].name, name))
            return x->params[i].value;
    return NULL;
}

int xe_arg_required(struct xe_run_state *x, const char *name, const char **out)
{
    const char *value = xe_arg(x, name);
    if (!value)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: %s", name);
    *out = value;
    return 0;
}

bool xe_parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "t", "yes", "y", "1"}, *const no[] = {"false", "f", "no", "n",
                                                                                    "0"};
    for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
        if (strcasecmp(text, yes[i]) == 0) {
            *out = true;
            return true;
        }
        if (strcasecmp(text, no[i]) == 0) {
            *out = false;
            return true;
        }
    }
    return false;
}

bool xe_parse_bytes(const char *text, int64_t *out)
{
    static const struct {
        const char *suffix;
        int shift;
    } units[] = {{"", 0},     {"b", 0},    {"bytes", 0}, {"k", 10},   {"kb", 10},
                 {"kib", 10}, {"m", 20},   {"mb", 20},   {"mib", 20}, {"g", 30},
                 {"gb", 30},  {"gib", 30}, {"t", 40},    {"tb", 40},  {"tib", 40}};
    char *end;
    errno = 0;
    intmax_t n = strtoimax(text, &end, 10);
    if (end == text || errno || n < 0)
        return false;
    while (*end == ' ')
        end++;
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strcasecmp(end, units[i].suffix) != 0)
            continue;
        if (n > (INT64_MAX >> units[i].shift))
            return false;
        *out = (int64_t)n << units[i].shift;
        return true;
    }
    return false;
}

int xe_arg_bool(struct xe_run_state *x, const char *name, bool *out)
{
    const char *text = xe_arg(x, name);
    if (!text)
        return 0;
    if (!xe_parse_bool(text, out))
        return xe_fail(x, XE_ERR_CLI, "%s must be true or false, not '%s'", name, text);
    return 0;
}

int xe_arg_bytes(struct xe_run_state *x, const char *name, int64_t *out)
{
    const char *text = xe_arg(x, name);
    if (!text)
        return 0;
    if (!xe_parse_bytes(text, out))
        return xe_fail(x, XE_ERR_CLI, "%s must be a size like 1073741824, 512MiB or 10GiB, not '%s'", name,
                       text);
    return 0;
}

const char *xe_param_key(const struct xe_param *param, const char *name)
{
    size_t n = strlen(name);
    if (strncmp(param->name, name, n) != 0 || (param->name[n] != ':' && param->name[n] != '-') ||
        !param->name[n + 1])
        return NULL;
    return param->name + n + 1;
}

json_t *xe_arg_map(const struct xe_run_state *x, const char *name)
{
    json_t *map = json_object();
    for (size_t i = 0; i < x->param_count; i++) {
        const char *key = xe_param_key(&x->params[i], name);
        if (key)
            json_object_set_new(map, key, json_string(x->params[i].value));
    }
    return map;
}

/* Whether a NULL-ended list of parameter names takes this parameter. */
static bool list_takes(const char *const *list, const struct xe_param *param)
{
    for (; *list; list++) {
        size_t n = strlen(*list);
        bool map = n && (*list)[n - 1] == ':';
        if (!map && streq(*list, param->name))
            return true;
        if (map) {
            char *base = xstrndup(*list, n - 1);
            bool takes = xe_param_key(param, base) != NULL;
            free(base);
            if (takes)
                return true;
        }
    }
    return false;
}

/* "sr" for sr-uuid and sr-name-label: each name that begins with the word and goes on. */
static void longer_names(const char *word, const char *const *names, size_t count, struct buf *out)
{
    size_t len = strlen(word);
    for (size_t i = 0; i < count; i++)
        if (len && strncmp(names[i], word, len) == 0 && names[i][len] == '-')
            buf_printf(out, "%s%s", out->len ? "' or '" : "", names[i]);
}

static int unknown(struct xe_run_state *x, const char *name)
{
    AUTO_BUF struct buf longer = BUF_INIT;
    const char *names[64];
    const char *const *const lists[] = {x->cmd->required, x->cmd->optional};
    size_t n = 0;
    for (size_t l = 0; l < ARRAY_LEN(lists); l++)
        for (const char *const *p = lists[l]; *p && n < ARRAY_LEN(names); p++)
            names[n++] = *p;
    longer_names(name, names, n, &longer);
    const char *near = longer.len ? longer.data : xe_nearest(name, names, n);
    return xe_fail(x, XE_ERR_USAGE, "Unknown parameter: %s%s%s%s", name, near ? "\nDid you mean '" : "",
                   near ? near : "", near ? "'?" : "");
}

/* Lists, selectors and param-set, param-add check what the table does not name themselves, against the
 * fields. */
static bool takes_fields(const struct xe_command *cmd)
{
    return cmd->selector || cmd->flags & XE_ANY || cmd->generated == XE_LIST ||
           cmd->generated == XE_PARAM_SET || cmd->generated == XE_PARAM_ADD;
}

int xe_args_check(struct xe_run_state *x)
{
    const struct xe_command *cmd = x->cmd;
    /* First what is there and means nothing: it is often the name that a required one was given by mistake.
     */
    for (size_t i = 0; i < x->param_count && !takes_fields(cmd); i++) {
        const struct xe_param *p = &x->params[i];
        if (!xe_param_standard(p->name) && !list_takes(cmd->required, p) && !list_takes(cmd->optional, p))
            return unknown(x, p->name);
    }
    for (const char *const *r = cmd->required; *r; r++) {
        const char *ignored;
        if (xe_arg_required(x, *r, &ignored) < 0)
            return -1;
    }
    return 0;
}

void xe_usage_line(const struct xe_command *cmd, struct buf *out)
{
    buf_printf(out, "Usage: xe %s", cmd->name);
    for (const char *const *r = cmd->required; *r; r++)
        buf_printf(out, " %s=<%s>", *r, *r);
    if (cmd->selector)
        buf_printf(out, " <%s-selectors>", cmd->selector->name);
    size_t n = 0;
    while (cmd->optional[n])
        n++;
    for (size_t i = 0; i < n && n <= 24; i++) {
        const char *o = cmd->optional[i];
        size_t len = strlen(o);
        if (len && o[len - 1] == ':')
            buf_printf(out, " [%skey=<value>]", o);
        else
            buf_printf(out, " [%s=<%s>]", o, o);
    }
    if (n > 24)
        buf_add_str(out, " [<field>=<value> ...]");
    buf_add_char(out, '\n');
}
