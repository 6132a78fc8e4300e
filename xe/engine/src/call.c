/* Commands that are one call of the API: the table says which parameter of the command line becomes
 * which argument, and how the result is printed. */
#include "run.h"

static json_t *set_arg(struct xe_run_state *x, const struct xe_arg *a, const char *text)
{
    AUTO_FREE char *copy = xstrdup(text);
    AUTO_JSON json_t *set = json_array();
    char *rest = copy, *item;
    while (*text && (item = strsep(&rest, ",")))
        if (json_array_append_new(set, xe_input(x, a->param, a->type, a->cls, NULL, item)) < 0)
            return NULL;
    return TAKE_PTR(set);
}

static json_t *constant(const char *text)
{
    return json_loads(text ? text : "null", JSON_DECODE_ANY, NULL);
}

/* One argument; *absent when an optional one was not given. NULL: x->err. */
static json_t *argument(struct xe_run_state *x, const struct xe_arg *a, const char *selected, bool *absent)
{
    const char *ref;
    switch ((enum xe_arg_source)a->source) {
    case XE_ARG_SELECTED:
        return json_string(selected);
    case XE_ARG_POOL:
        return xe_pool(x, &ref, NULL) < 0 ? NULL : json_string(ref);
    case XE_ARG_COORDINATOR:
        return xe_coordinator(x, &ref) < 0 ? NULL : json_string(ref);
    case XE_ARG_CONST:
        return constant(a->json);
    case XE_ARG_PARAM:
        break;
    }
    if (a->shape == XE_MAP) {
        json_t *map = xe_arg_map(x, a->param);
        *absent = a->optional && json_object_size(map) == 0;
        return map;
    }
    const char *text = xe_arg(x, a->param);
    if (text && !*text && a->type == XE_REF && streq(a->param, "uuid")) {
        xe_fail(x, XE_ERR_CLI, "uuid= is empty: what was to fill it found nothing");
        return NULL;
    }
    if (text)
        return a->shape == XE_SET ? set_arg(x, a, text) : xe_input(x, a->param, a->type, a->cls, NULL, text);
    if (a->or_coordinator)
        return xe_coordinator(x, &ref) < 0 ? NULL : json_string(ref);
    *absent = a->optional;
    return constant(a->json);
}

/* The call's parameters: positional, or one record. NULL: x->err. */
static json_t *arguments(struct xe_run_state *x, const struct xe_command *cmd, const char *selected)
{
    AUTO_JSON json_t *params = json_array();
    json_t *record = NULL;
    size_t given = 0;
    for (size_t i = 0; i < cmd->arg_count; i++) {
        const struct xe_arg *a = &cmd->args[i];
        bool absent = false;
        json_t *value = argument(x, a, selected, &absent);
        if (!value)
            return NULL;
        if (a->member && !record) {
            record = json_object();
            json_array_append_new(params, record);
        }
        if (a->member)
            json_object_set_new(record, a->member, value);
        else
            json_array_append_new(params, value);
        if (!absent)
            given = json_array_size(params);
    }
    /* Trailing arguments that the user left out stay out: the server knows their defaults. */
    while (json_array_size(params) > given)
        json_array_remove(params, json_array_size(params) - 1);
    return TAKE_PTR(params);
}

/* The uuid of a new object, or of the one that its row says stands for it. */
static int print_object(struct xe_run_state *x, const struct xe_command *cmd, const char *ref)
{
    const json_t *record;
    if (!cmd->member.field)
        return xe_print_uuid(x, cmd->result_cls, ref);
    if (xe_record(x, cmd->result_cls, ref, &record) < 0)
        return -1;
    return xe_print_uuid(x, cmd->member.cls, xe_str(record, cmd->member.field));
}

static void print_text(struct xe_run_state *x, const struct xe_command *cmd, const char *text)
{
    if (cmd->flags & XE_MESSAGE)
        xe_out_message(x, "%s", xe_shown(cmd->shown, text));
    else
        xe_out_item(x, xe_shown(cmd->shown, text));
}

static int print_scalar(struct xe_run_state *x, const struct xe_command *cmd, const json_t *value)
{
    if (cmd->result_type == XE_REF && json_is_string(value))
        return print_object(x, cmd, json_string_value(value));
    if (json_is_object(value)) {
        xe_out_pairs(x, value);
        return 0;
    }
    AUTO_FREE char *text = json_is_string(value) ? xstrdup(json_string_value(value))
                           : json_is_real(value) ? xasprintf("%.3f", json_real_value(value))
                                                 : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    print_text(x, cmd, text ? text : "");
    return 0;
}

static int print_result(struct xe_run_state *x, const struct xe_command *cmd, const json_t *result)
{
    size_t i;
    const json_t *item;
    if (cmd->result_type == XE_VOID)
        return 0;
    if (!json_is_array(result))
        return print_scalar(x, cmd, result);
    json_array_foreach(result, i, item) if (print_scalar(x, cmd, item) < 0) return -1;
    return 0;
}

static int call_one(struct xe_run_state *x, const struct xe_command *cmd, const char *selected)
{
    const char *method = cmd->call;
    bool other = false;
    if (cmd->switch_param && xe_arg_bool(x, cmd->switch_param, &other) < 0)
        return -1;
    if (other)
        method = cmd->switch_call;
    json_t *params = arguments(x, cmd, selected);
    AUTO_JSON json_t *result = NULL;
    if (!params || xe_call_maybe_task(x, cmd->flags & XE_ASYNC, method, params, &result) < 0)
        return -1;
    return print_result(x, cmd, result);
}

int xe_run_call(struct xe_run_state *x, const struct xe_command *cmd)
{
    return cmd->selector ? xe_for_selected(x, cmd, call_one) : call_one(x, cmd, NULL);
}
