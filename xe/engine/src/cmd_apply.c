/* Desired state: a document of networks, SRs and VMs, in YAML or JSON, that the server compares and applies.
 */
#include "run.h"
#include "xe_handlers.h"
#include <base/yaml.h>

#define APPLY "/api/v1/apply"
#define UNDO "/api/v1/undo"

static int read_document(struct xe_run_state *x, json_t **document)
{
    const char *file;
    AUTO_FREE char *data = NULL;
    size_t len;
    struct json_error error;
    if (xe_arg_required(x, "file", &file) < 0 ||
        x->api->read_file(x->api->ctx, file, &data, &len, &x->err) < 0)
        return -1;
    *document = yaml_parse(data, len, &error);
    if (*document)
        return 0;
    return xe_fail(x, XE_ERR_CLI, "%s:%d:%d: %s", file, error.line, error.column, error.text);
}

static void print_steps(struct xe_run_state *x, const json_t *answer)
{
    size_t i;
    json_t *step, *steps = json_object_get(answer, "steps");
    json_array_foreach(steps, i, step) xe_out_item(x, json_string_value(step));
    if (!json_array_size(steps) && !x->minimal && !json_array_size(json_object_get(answer, "reasons")))
        xe_note(x, "Nothing to do: it is as the document says.");
}

/* 0 when there are none. */
static int print_reasons(struct xe_run_state *x, const json_t *answer)
{
    AUTO_BUF struct buf text = BUF_INIT;
    size_t i;
    json_t *reason;
    json_array_foreach(json_object_get(answer, "reasons"), i, reason)
        buf_printf(&text, "%s%s: %s", i ? "\n" : "", xe_str(reason, "object"), xe_str(reason, "why"));
    return text.len ? xe_fail(x, XE_ERR_CLI, "it would be refused:\n%s", text.data) : 0;
}

/* A task of the server does it, which is followed as those of other long calls are. */
static int carry_out(struct xe_run_state *x, const char *path, json_t *document)
{
    AUTO_JSON json_t *answer = NULL, *steps = NULL;
    AUTO_FREE char *task = NULL;
    if (x->api->rest(x->api->ctx, "POST", path, document, &answer, &x->err) < 0)
        return -1;
    if (!json_object_get(answer, "steps")) { /* that was not all of it */
        if (xe_call_string(x, "task.get_by_uuid", &task, "[s]", xe_str(answer, "uuid")) < 0 ||
            xe_task_follow(x, task, &steps) < 0)
            return -1;
        json_object_set(answer, "steps", steps);
    }
    print_steps(x, answer);
    return 0;
}

int xe_cmd_apply(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *document = NULL;
    (void)cmd;
    return read_document(x, &document) < 0 ? -1 : carry_out(x, APPLY "?wait=0", document);
}

int xe_cmd_diff(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *document = NULL, *answer = NULL;
    (void)cmd;
    if (read_document(x, &document) < 0 ||
        x->api->rest(x->api->ctx, "POST", APPLY "?plan=true", document, &answer, &x->err) < 0)
        return -1;
    print_steps(x, answer);
    return print_reasons(x, answer);
}

int xe_cmd_undo(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *answer = NULL;
    bool plan = false;
    (void)cmd;
    if (xe_arg_bool(x, "plan", &plan) < 0)
        return -1;
    if (!plan)
        return carry_out(x, UNDO "?wait=0", NULL);
    if (x->api->rest(x->api->ctx, "POST", UNDO "?plan=true", NULL, &answer, &x->err) < 0)
        return -1;
    print_steps(x, answer);
    return print_reasons(x, answer);
}

int xe_cmd_export_state(struct xe_run_state *x, const struct xe_command *cmd)
{
    AUTO_JSON json_t *answer = NULL;
    (void)cmd;
    if (x->api->rest(x->api->ctx, "GET", "/api/v1/state", NULL, &answer, &x->err) < 0)
        return -1;
    xe_out_flush(x);
    yaml_write(&x->out, answer);
    return 0;
}
