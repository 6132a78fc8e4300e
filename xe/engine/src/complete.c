/* What may stand at the end of an unfinished command line: commands, their parameters, and values that the
 * server knows. One candidate a line, whole words; what ends in '=' or ':' goes on. For the shells'
 * completion: whatever goes wrong there is nothing to say about it. */
#include "run.h"

struct completion {
    struct xe_run_state *x;
    const char *word; /* as far as it is typed */
    struct buf out;
};

/* A candidate, if what was typed is its beginning. */
static void offer(struct completion *c, const char *before, const char *text, const char *after)
{
    AUTO_FREE char *whole = xasprintf("%s%s%s", before, text, after);
    if (strncmp(whole, c->word, strlen(c->word)) != 0 || strpbrk(whole, "\r\n"))
        return;
    buf_add_str(&c->out, whole);
    buf_add_char(&c->out, '\n');
}

static void offer_commands(struct completion *c)
{
    offer(c, "", "help", "");
    for (size_t i = 0; i < xe_command_count; i++)
        if (!(xe_commands[i].flags & XE_CMD_HIDDEN) && xe_command_built(&xe_commands[i]))
            offer(c, "", xe_commands[i].name, "");
}

static bool given(const struct completion *c, const char *name)
{
    return xe_arg(c->x, name) != NULL;
}

static void offer_list(struct completion *c, const char *const *names)
{
    for (; *names; names++) {
        size_t len = strlen(*names);
        bool map = len && (*names)[len - 1] == ':';
        if (map || !given(c, *names))
            offer(c, "", *names, map ? "" : "=");
    }
}

static void offer_fields(struct completion *c, const char *before, const struct xe_class *cls, bool assign)
{
    for (size_t i = 0; i < cls->field_count; i++) {
        const struct xe_field *f = &cls->fields[i];
        bool map = assign && f->shape == XE_MAP && c->x->cmd->generated != XE_LIST;
        if (!(f->flags & XE_HIDDEN) && (!assign || !given(c, f->name)))
            offer(c, before, f->name, map ? ":" : assign ? "=" : "");
    }
}

static void offer_parameters(struct completion *c)
{
    static const char *const views[] = {"--json", "--csv", "--minimal", NULL}, *const of_lists[] = {
                                                                                   "--columns=", "--sort=",
                                                                                   "--where=", "--watch",
                                                                                   NULL};
    const struct xe_command *cmd = c->x->cmd;
    offer_list(c, cmd->required);
    offer_list(c, cmd->optional);
    if (cmd->selector && !given(c, cmd->selector->name))
        offer(c, "", cmd->selector->name, "=");
    if (cmd->generated == XE_LIST || cmd->generated == XE_PARAM_SET)
        offer_fields(c, "", cmd->cls, true);
    if (strncmp(c->word, "--", 2) != 0)
        return;
    for (const char *const *v = views; *v; v++)
        offer(c, "", *v, "");
    for (const char *const *v = of_lists; cmd->generated == XE_LIST && *v; v++)
        offer(c, "", *v, "");
    if (cmd->flags & XE_ASYNC) {
        offer(c, "", "--async", "");
        offer(c, "", "--wait", "");
    }
}

/* ---- values ---- */

/* Of each object of a class: one member, or uuids. */
static void offer_objects(struct completion *c, const char *before, const struct xe_class *cls,
                          const char *member)
{
    static const char *const needed[] = {"is_a_template", "is_a_snapshot", "is_control_domain"};
    struct xe_run_state *x = c->x;
    const json_t *all;
    const char *ref;
    json_t *record, *keep = json_object();
    bool vms = streq(cls->api, "VM"), templates = streq(cls->name, "template"),
         snapshots = streq(cls->name, "snapshot");
    json_object_set_new(keep, member, json_true());
    for (size_t i = 0; vms && i < ARRAY_LEN(needed); i++)
        json_object_set_new(keep, needed[i], json_true());
    json_decref(x->wanted);
    x->wanted = json_pack("{s:o}", cls->api, keep);
    if (xe_records(x, cls->api, &all) < 0)
        return;
    json_object_foreach((json_t *)all, ref, record)
    {
        if (vms && (xe_true(record, "is_control_domain") || xe_true(record, "is_a_snapshot") != snapshots ||
                    (!snapshots && xe_true(record, "is_a_template") != templates)))
            continue;
        offer(c, before, xe_str(record, member), "");
    }
}

/* The class that a command speaks of: the longest beginning of its name that is one. */
static const struct xe_class *class_of(const char *command)
{
    AUTO_FREE char *name = xstrdup(command);
    for (char *dash; (dash = strrchr(name, '-'));) {
        *dash = '\0';
        const struct xe_class *cls = xe_class_find(name);
        if (cls)
            return cls;
    }
    return xe_class_find(command);
}

/* Operations of the object that `why` is asked about. */
static void offer_operations(struct completion *c, const char *before)
{
    const char *vm = xe_arg(c->x, "vm");
    AUTO_FREE char *ref = NULL;
    const json_t *record, *operation;
    size_t i;
    if (!vm || xe_ref_by_uuid(c->x, "VM", vm, &ref) < 0 || xe_record(c->x, "VM", ref, &record) < 0)
        return;
    json_array_foreach(json_object_get(record, "allowed_operations"), i, operation)
        offer(c, before, json_string_value(operation), "");
}

static void offer_booleans(struct completion *c, const char *before)
{
    offer(c, before, "true", "");
    offer(c, before, "false", "");
}

static const struct xe_field *field_of(const struct xe_command *cmd, const char *name)
{
    return cmd->cls ? xe_field_find(cmd->cls, name) : NULL;
}

static void offer_values(struct completion *c, const char *name)
{
    const struct xe_command *cmd = c->x->cmd;
    AUTO_FREE char *equals = xasprintf("%s=", name), *base = xstrdup(name), *before = NULL;
    const char *comma = strrchr(c->word, ',');
    size_t len = strlen(base);
    const struct xe_class *cls = cmd->cls ? cmd->cls : class_of(cmd->name), *other;
    const struct xe_field *f;
    bool listed = streq(name, "params") || streq(name, "--columns") || streq(name, "--sort");
    /* Behind a comma the next item is completed. */
    before = listed && comma ? xstrndup(c->word, (size_t)(comma - c->word) + 1) : xstrdup(equals);
    if (listed || streq(name, "param-name")) {
        if (streq(name, "params"))
            offer(c, before, "all", "");
        if (cls)
            offer_fields(c, before, cls, false);
    } else if (streq(name, "op")) {
        offer_operations(c, before);
    } else if (streq(name, "uuid")) {
        if (cls)
            offer_objects(c, before, cls, "uuid");
    } else if (len > 5 && streq(base + len - 5, "-uuid")) {
        base[len - 5] = '\0';
        if ((other = xe_class_find(base)))
            offer_objects(c, before, other, "uuid");
    } else if ((other = xe_class_find(name)) && !field_of(cmd, name)) {
        offer_objects(c, before, other, streq(name, "task") ? "uuid" : "name_label");
    } else if ((f = field_of(cmd, name))) {
        for (size_t i = 0; f->texts && i < f->texts->count; i++)
            offer(c, before, f->texts->rows[i].shown, "");
        if (f->type == XE_BOOL)
            offer_booleans(c, before);
        else if (streq(name, "name-label"))
            offer_objects(c, before, cmd->cls, "name_label");
    } else if (streq(name, "force") || streq(name, "live") || streq(name, "paused") ||
               streq(name, "dry-run")) {
        offer_booleans(c, before);
    }
}

/* ---- the line ---- */

static void complete(struct completion *c, int argc, const char *const *argv)
{
    const char *command, *eq = strchr(c->word, '=');
    if (argc == 1 || (argc == 2 && streq(argv[0], "help"))) {
        offer_commands(c);
        return;
    }
    if (xe_args_parse(c->x, argc - 1, argv, &command) < 0 || !command ||
        !(c->x->cmd = xe_command_find(command)))
        return;
    if (!eq) {
        offer_parameters(c);
        return;
    }
    AUTO_FREE char *name = xstrndup(c->word, (size_t)(eq - c->word));
    offer_values(c, name);
}

void xe_complete(const struct xe_api *api, int argc, const char *const *argv)
{
    struct xe_run_state x = {.api = api, .bulk = true};
    struct completion c = {.x = &x, .word = argc ? argv[argc - 1] : "", .out = BUF_INIT};
    if (argc > 0 && utf8_valid(c.word, strlen(c.word)))
        complete(&c, argc, argv);
    if (c.out.len)
        api->print(api->ctx, c.out.data, c.out.len);
    buf_done(&c.out);
    xe_run_done(&x);
}
