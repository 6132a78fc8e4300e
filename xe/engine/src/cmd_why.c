/* why, task-why, task-wait: what the server says about an operation or a task, before or after. Nothing is
 * guessed here: reasons and what would change them come from the server's rules. */
#include "run.h"
#include "xe_handlers.h"

static void print_reasons(struct xe_run_state *x, const json_t *reasons)
{
    size_t i;
    const json_t *r;
    json_array_foreach(reasons, i, r)
    {
        buf_printf(&x->out, "    %s: %s\n", xe_str(r, "code"), xe_str(r, "message"));
        xe_explain(x, xe_str(r, "code"), json_object_get(r, "params"));
        if (*xe_str(r, "change"))
            buf_printf(&x->out, "        -> %s\n", xe_str(r, "change"));
    }
}

/* The object that one of the parameters names: its class and reference (the caller's). */
static int object_arg(struct xe_run_state *x, const char **cls, char **ref)
{
    static const struct {
        const char *param, *cls;
    } classes[] = {{"vm", "VM"},   {"host", "host"}, {"sr", "SR"},   {"vdi", "VDI"},
                   {"vbd", "VBD"}, {"vif", "VIF"},   {"pbd", "PBD"}, {"network", "network"},
                   {"pif", "PIF"}, {"pool", "pool"}};
    *cls = NULL;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        const char *name = xe_arg(x, classes[i].param);
        if (!name)
            continue;
        if (*cls)
            return xe_fail(x, XE_ERR_USAGE, "Name one object");
        *cls = classes[i].cls;
        if (xe_ref_by_uuid(x, *cls, name, ref) < 0)
            return -1;
    }
    return *cls ? 0 : xe_fail(x, XE_ERR_USAGE, "Name the object, as in vm=web1");
}

static int ask(struct xe_run_state *x, json_t *question, json_t **answer)
{
    int rc = x->api->rest(x->api->ctx, "POST", "/api/v1/why", question, answer, &x->err);
    json_decref(question);
    return rc;
}

/* Of a VM that could start by its own state. */
static void print_host(struct xe_run_state *x, const json_t *host, const char *why)
{
    buf_printf(&x->out, "    %s: %s\n", xe_str(host, "name_label"), why ? why : "could run it");
}

int xe_cmd_why(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *cls, *given;
    AUTO_FREE char *ref = NULL;
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "op", &given) < 0 || object_arg(x, &cls, &ref) < 0)
        return -1;
    AUTO_FREE char *operation = xstrdup(given);
    for (char *c = operation; *c; c++)
        *c = *c == '-' ? '_' : *c;
    if (ask(x, json_pack("{s:s, s:s, s:s}", "class", cls, "object", ref, "operation", operation), &answer) <
        0)
        return -1;
    if (x->view.format == XE_FORMAT_JSON) {
        xe_out_json(x, TAKE_PTR(answer));
        return 0;
    }
    bool allowed = xe_true(answer, "allowed");
    const char *name = *xe_str(answer, "name") ? xe_str(answer, "name") : xe_str(answer, "uuid");
    if (x->minimal || x->view.format == XE_FORMAT_CSV) {
        xe_out_item(x, allowed ? "allowed" : "refused");
        return 0;
    }
    buf_printf(&x->out, "%s of %s %s %s\n", operation, cls, name,
               allowed ? "would not be refused by its state." : "is refused now:");
    print_reasons(x, json_object_get(answer, "reasons"));
    if (allowed && streq(cls, "VM") && (streq(operation, "start") || streq(operation, "start_on")))
        return xe_hosts_for(x, ref, print_host);
    return 0;
}

static const char *how(const char *status)
{
    static const struct xe_text words[] = {{"success", "has succeeded"},
                                           {"failure", "has failed"},
                                           {"cancelled", "was cancelled"},
                                           {"cancelling", "is being cancelled"},
                                           {"pending", "is pending"}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (streq(words[i].wire, status))
            return words[i].shown;
    return status;
}

int xe_cmd_task_why(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *given;
    AUTO_FREE char *ref = NULL;
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (xe_arg_required(x, "task", &given) < 0 || xe_ref_by_uuid(x, "task", given, &ref) < 0 ||
        ask(x, json_pack("{s:s}", "task", ref), &answer) < 0)
        return -1;
    if (x->view.format == XE_FORMAT_JSON) {
        xe_out_json(x, TAKE_PTR(answer));
        return 0;
    }
    const json_t *obstacle = json_object_get(answer, "waits_for");
    if (x->minimal || x->view.format == XE_FORMAT_CSV) {
        xe_out_item(x, xe_str(answer, "status"));
        return 0;
    }
    buf_printf(&x->out, "The task %s (%s) %s", xe_str(answer, "uuid"), xe_str(answer, "name"),
               how(xe_str(answer, "status")));
    if (json_is_object(obstacle))
        buf_printf(&x->out, " and waits for %s %s:\n", xe_str(obstacle, "class"),
                   *xe_str(obstacle, "name") ? xe_str(obstacle, "name") : xe_str(obstacle, "uuid"));
    else if (streq(xe_str(answer, "status"), "pending"))
        buf_printf(&x->out, " and works: %d%%.\n",
                   (int)(json_number_value(json_object_get(answer, "progress")) * 100));
    else
        buf_add_str(&x->out, json_array_size(json_object_get(answer, "reasons")) ? ":\n" : ".\n");
    print_reasons(x, json_object_get(answer, "reasons"));
    return 0;
}

/* A reference that a task left as its result: the uuid of what it made. */
static int print_made(struct xe_run_state *x, const char *ref)
{
    static const char *const likely[] = {"VM", "VDI", "SR", "network", "pool"};
    for (size_t i = 0; i < ARRAY_LEN(likely); i++) {
        AUTO_FREE char *method = xasprintf("%s.get_uuid", likely[i]), *uuid = NULL;
        if (xe_call_string(x, method, &uuid, "[s]", ref) == 0) {
            xe_out_item(x, uuid);
            return 0;
        }
        if (x->err.kind != XE_ERR_API)
            return -1;
        xe_err_done(&x->err);
    }
    xe_out_item(x, ref);
    return 0;
}

int xe_cmd_task_wait(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid;
    AUTO_FREE char *ref = NULL, *label = NULL;
    AUTO_JSON json_t *result = NULL;
    (void)cmd;
    if (x->view.async)
        return xe_fail(x, XE_ERR_USAGE, "Waiting is all that task-wait does");
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, "task", uuid, &ref) < 0 ||
        xe_call_string(x, "task.get_name_label", &label, "[s]", ref) < 0 ||
        xe_task_wait(x, ref, label, &result) < 0)
        return -1;
    const char *text = json_string_value(result);
    if (!text || !*text)
        return 0;
    if (strncmp(text, "OpaqueRef:", 10) == 0)
        return print_made(x, text);
    xe_out_item(x, text);
    return 0;
}
