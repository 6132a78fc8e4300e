/* Messages about objects: create and destroy; and logging out all outside users. */
#include "run.h"
#include "xe_handlers.h"

int xe_cmd_message_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const struct {
        const char *param, *cls;
    } kinds[] = {{"vm-uuid", "VM"}, {"host-uuid", "Host"}, {"sr-uuid", "SR"}, {"pool-uuid", "Pool"}};
    const char *name, *priority, *body, *cls = NULL, *uuid = NULL;
    (void)cmd;
    if (xe_arg_required(x, "name", &name) < 0 || xe_arg_required(x, "priority", &priority) < 0 ||
        xe_arg_required(x, "body", &body) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!xe_arg(x, kinds[i].param))
            continue;
        if (cls)
            return xe_fail(x, XE_ERR_CLI,
                           "a message is about one object: say only one of vm-uuid, host-uuid, sr-uuid, "
                           "pool-uuid");
        cls = kinds[i].cls;
        uuid = xe_arg(x, kinds[i].param);
    }
    if (!cls)
        return xe_fail(x, XE_ERR_USAGE,
                       "Required parameter not found: one of vm-uuid, host-uuid, sr-uuid, pool-uuid");
    json_t *number = xe_input(x, "priority", XE_INT, NULL, NULL, priority);
    if (!number)
        return -1;
    return xe_call(x, "message.create", NULL, "[sosss]", name, number, cls, uuid, body);
}

int xe_cmd_message_destroy(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *given = xe_arg(x, "uuids") ? xe_arg(x, "uuids") : xe_arg(x, "uuid");
    AUTO_JSON json_t *refs = json_array();
    (void)cmd;
    if (!given)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: uuid or uuids");
    AUTO_FREE char *copy = xstrdup(given);
    char *rest = copy, *uuid;
    while ((uuid = strsep(&rest, ","))) {
        AUTO_FREE char *ref = NULL;
        if (xe_ref_by_uuid(x, "message", uuid, &ref) < 0)
            return -1;
        json_array_append_new(refs, json_string(ref));
    }
    if (json_array_size(refs) == 1)
        return xe_call(x, "message.destroy", NULL, "[O]", json_array_get(refs, 0));
    return xe_call(x, "message.destroy_many", NULL, "[O]", refs);
}

/* A stamp in either of the forms that people write; the server takes the basic one. */
static int stamp_arg(struct xe_run_state *x, const char *name, json_t *filters)
{
    const char *text = xe_arg(x, name);
    if (!text)
        return 0;
    json_t *value = xe_input(x, name, XE_DATETIME, NULL, NULL, text);
    if (!value)
        return -1;
    json_object_set_new(filters, name, value);
    return 0;
}

int xe_cmd_message_destroy_all(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *priority = xe_arg(x, "priority");
    AUTO_JSON json_t *filters = json_object();
    (void)cmd;
    if (stamp_arg(x, "before", filters) < 0 || stamp_arg(x, "after", filters) < 0)
        return -1;
    if (priority && (!*priority || priority[strspn(priority, "0123456789")]))
        return xe_fail(x, XE_ERR_CLI, "Invalid priority format (expected positive integer)");
    if (priority)
        json_object_set_new(filters, "priority", json_string(priority));
    return xe_call(x, "message.destroy_all", NULL, "[O]", filters);
}

int xe_cmd_session_subject_identifier_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *all = NULL;
    size_t i;
    json_t *identifier;
    (void)cmd;
    if (xe_call(x, "session.get_all_subject_identifiers", &all, "[]") < 0)
        return -1;
    json_array_foreach(all, i, identifier)
    {
        const char *text = json_string_value(identifier);
        xe_out_block(x, &(struct xe_cell){"subject-identifier", " ( RO)", text ? text : ""}, 1);
    }
    return 0;
}

int xe_cmd_session_subject_identifier_logout_all(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *all = NULL;
    size_t i;
    json_t *identifier;
    (void)cmd;
    if (xe_call(x, "session.get_all_subject_identifiers", &all, "[]") < 0)
        return -1;
    json_array_foreach(all, i, identifier) if (xe_call(x, "session.logout_subject_identifier", NULL, "[O]",
                                                       identifier) < 0) return -1;
    return 0;
}
