/* Changes: constructors, destructors, actions. Each is a message through the gate; one that can be a task is
 * one, so that a client that does not want to wait any longer gets the task and loses nothing.
 *
 *     gate: Async.X -> the task -> [event.from on the task]* -> its result or error
 *
 * No thread waits meanwhile. */
#include "change.h"

#include "../codec/xml_request.h"
#include "../gate/answer.h"
#include "../gate/filter.h"
#include "../gate/gate.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../http/doors.h"
#include "../refusals.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

/* How long constructors and destructors are waited for by default: until the gate itself gives up. */
#define WAIT_MAX_S 7200
/* The client may have gone: look again so often. */
#define LOOK_S 15

/* ---- answers ---- */

static void send_task(struct rest *r, const struct snapshot *snap, const struct row *task)
{
    struct buf out = BUF_INIT;
    AUTO_FREE char *location = xasprintf("/api/v1/tasks/%s", task_row(task)->uuid);
    rest_record_write(snap, task, NULL, &out);
    rest_send(r->req, 202, location, NULL, &out);
}

static void send_created(struct rest *r, const struct snapshot *snap, const struct type *type,
                         const union cell *cell)
{
    struct buf out = BUF_INIT;
    char etag[ETAG_SIZE];
    const struct row *row = snapshot_get(snap, type->cls, cell->ref);
    if (!row) { /* made, and gone again */
        buf_add_str(&out, "null");
        rest_send(r->req, 201, NULL, NULL, &out);
        return;
    }
    AUTO_FREE char *location =
        xasprintf("/api/v1/%s/%s", type->cls->collection, row_cell(row, type->cls->uuid)->str);
    rest_record_write(snap, row, NULL, &out);
    rest_send(r->req, 201, location, etag_format(row, etag), &out);
}

/* `cell` NULL: the message has no result. */
static void send_result(struct rest *r, const struct snapshot *snap, const union cell *cell)
{
    const struct type *type = r->message->result;
    struct buf out = BUF_INIT;
    if (r->target.kind == TARGET_OBJECT) {
        http_answer(r->req, 204, NULL, "", 0, HTTP_STATIC);
        return;
    }
    if (r->target.kind == TARGET_COLLECTION && cell && type->kind == TYPE_REF && type->cls->collection) {
        send_created(r, snap, type, cell);
        return;
    }
    buf_add_str(&out, "{\"result\":");
    if (cell)
        rest_value_write(snap, type, cell, &out);
    else
        buf_add_str(&out, "null");
    buf_add_char(&out, '}');
    rest_send(r->req, 200, NULL, NULL, &out);
}

/* A result as JSON of the XenAPI. */
static void send_wire(struct rest *r, const json_t *wire)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct type *type = r->message->result;
    char error[CELL_ERROR_SIZE];
    union cell cell;
    if (type->kind == TYPE_VOID) {
        send_result(r, snap, NULL);
    } else if (!wire || !cell_read_json(type, wire, &cell, error)) {
        rest_problem(r->req, 500, "Internal Server Error", "The result of the call cannot be shown.");
    } else {
        send_result(r, snap, &cell);
        cell_done(type, &cell);
    }
}

/* Of a document: what was done. */
static void send_steps(struct rest *r, const struct task_row *task, const json_t *steps)
{
    AUTO_JSON json_t *none = json_array();
    AUTO_JSON json_t *answer =
        json_pack("{sO,ss}", "steps", json_is_array(steps) ? steps : none, "task", task->uuid);
    struct buf out = BUF_INIT;
    json_write(&out, answer);
    rest_send(r->req, 200, NULL, NULL, &out);
}

/* The task's result is an XML-RPC value: read as the only parameter of a call. */
static void send_task_result(struct rest *r, const struct task_row *task)
{
    AUTO_FREE char *text =
        xasprintf("<methodCall><methodName>x</methodName><params><param>%s</param></params></methodCall>",
                  *task->result ? task->result : "<value></value>");
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request request = {0};
    if (xml_request_parse(text, strlen(text), &request, error) < 0) {
        rest_problem(r->req, 500, "Internal Server Error", "The result of the task cannot be read.");
        return;
    }
    const json_t *value = json_array_get(request.params, 0);
    if (r->message)
        send_wire(r, value);
    else
        send_steps(r, task, value);
    xml_request_done(&request);
}

static void send_task_error(struct rest *r, const struct task_row *task)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct str_set *info = task->error_info;
    uint32_t count = info ? info->count : 0;
    const struct error_desc *desc = count ? error_find(info->items[0]) : NULL;
    if (desc)
        api_err_set(&err, desc, info->items + 1, count - 1);
    else if (count)
        api_err_set_code(&err, info->items[0], info->items + 1, count - 1);
    else
        err_task_cancelled(&err, REF_TEXT(task->row.ref));
    rest_fail(r, &err);
}

/* ---- the task ---- */

static void finish(struct rest *r)
{
    idempotency_release(r);
    rest_done(r);
}

/* A client that has an error may come with the same key at once. */
static void fail(struct rest *r, const struct api_err *err)
{
    idempotency_release(r);
    rest_fail(r, err);
}

static void task_looked_at(struct call *call)
{
    struct rest *r = call->reply;
    bool failed = call->failed;
    if (failed)
        fail(r, &call->err); /* the session is gone, or the server stops */
    call_free(call);
    if (failed)
        finish(r);
    else
        change_await(r);
}

/* Comes back when the task has changed since the snapshot. */
static void look_later(struct rest *r, const struct snapshot *snap)
{
    struct server *server = r->server; /* `r` may be gone when the call returns */
    if (!doors_try_enter(server)) {
        rest_problem(r->req, 503, "Service Unavailable",
                     "The server is stopping; the task goes on or is put right.");
        finish(r);
        return;
    }
    char token[EVENT_TOKEN_SIZE];
    AUTO_FREE char *what = xasprintf("task/%s", REF_TEXT(r->task));
    double left_s = (double)(r->wait_until_ms - clock_mono_ms()) / 1000;
    event_token_format(snapshot_generation(snap), token);
    AUTO_JSON json_t *params = json_pack("[s[s]sf]", REF_TEXT(r->session->token), what, token,
                                         left_s < 0        ? 0
                                         : left_s > LOOK_S ? (double)LOOK_S
                                                           : left_s);
    struct call *call =
        call_new(r->server, "event.from", params, false, http_request_peer(r->req), task_looked_at);
    call->reply = r;
    json_decref(TAKE_PTR(params));
    gate_run(call);
    doors_leave(server);
}

void change_await(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct row *row = snapshot_get(snap, CLASS_task, r->task);
    const struct task_row *task = row ? task_row(row) : NULL;
    if (task && task_is_pending(task) && !r->gone && clock_mono_ms() < r->wait_until_ms) {
        look_later(r, snap);
        return;
    }
    idempotency_release(r); /* the task has the key; whoever has the answer may ask again at once */
    if (!task)
        rest_problem(r->req, 410, "Gone",
                     "The task was deleted before it ended: what it did is not known here.");
    else if (task_is_pending(task))
        send_task(r, snap, row);
    else if (task->status == TASK_STATUS_TYPE_SUCCESS)
        send_task_result(r, task);
    else
        send_task_error(r, task);
    finish(r);
}

static void task_made(struct call *call)
{
    struct rest *r = call->reply;
    if (!r) { /* after the task was answered */
        call_free(call);
        return;
    }
    call->reply = NULL;
    bool failed = call->failed;
    if (failed)
        fail(r, &call->err);
    else
        r->task = call->result.ref;
    call_free(call);
    if (failed)
        finish(r);
    else
        change_await(r);
}

static void call_ended(struct call *call)
{
    struct rest *r = call->reply;
    if (call->failed) {
        rest_fail(r, &call->err);
    } else if (call->raw) {
        struct json_error error;
        AUTO_JSON json_t *wire = json_parse(call->raw, call->raw_len, &error);
        send_wire(r, wire);
    } else {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
        send_result(r, snap,
                    call->result_type && call->result_type->kind != TYPE_VOID ? &call->result : NULL);
    }
    call_free(call);
    finish(r);
}

bool change_read_wait(struct rest *r)
{
    const char *text = http_request_query(r->req, "wait");
    int64_t seconds = r->target.kind == TARGET_ACTION ? 0 : WAIT_MAX_S;
    if (text) {
        char *end;
        seconds = strtol(text, &end, 10);
        end += *end == 's';
        if (*text < '0' || *text > '9' || *end || seconds > WAIT_MAX_S) {
            rest_problem(r->req, 400, "Bad Request",
                         "Query parameter wait: seconds from 0 to 7200, such as 30s.");
            return false;
        }
    }
    r->wait_until_ms = clock_mono_ms() + seconds * 1000;
    return true;
}

static void plan_on_worker(void *arg)
{
    struct rest *r = arg;
    plan_message(r, r->params);
    rest_done(r);
}

/* True: the message is not to be run. */
static bool only_planned(struct rest *r, json_t *params)
{
    bool wanted;
    if (plan_wanted(r, &wanted) && !wanted)
        return false;
    if (!wanted) {
        rest_done(r);
        return true;
    }
    r->params = json_incref(params);
    if (worker_submit(r->server->workers, plan_on_worker, r) < 0) {
        rest_busy(r->req);
        rest_done(r);
    }
    return true;
}

void change_run(struct rest *r, const struct method_desc *message, json_t *params)
{
    r->message = message;
    if (only_planned(r, params)) {
        json_decref(params);
        return;
    }
    AUTO_JSON json_t *all = json_array();
    bool async = message->flags & METHOD_ASYNC;
    json_array_append_new(all, json_string(REF_TEXT(r->session->token)));
    json_array_extend(all, params);
    json_decref(params);
    if (!change_read_wait(r)) {
        finish(r);
        return;
    }
    switch (async ? idempotency_begin(r) : idempotency_not_here(r)) {
    case KEY_NEW:
        break;
    case KEY_SEEN:
        change_await(r);
        return;
    case KEY_REFUSED:
        finish(r);
        return;
    }
    AUTO_FREE char *name = xasprintf("%s%s", async ? "Async." : "", message->name);
    struct call *call =
        call_new(r->server, name, all, false, http_request_peer(r->req), async ? task_made : call_ended);
    call->reply = r;
    call->pinned_host = r->pinned;
    call->claim = r->claim;
    r->claim = (struct task_claim){0};
    json_decref(TAKE_PTR(all)); /* the call may go to another thread */
    gate_run(call);
}

/* ---- parameters ---- */

static json_t *initial_of(const struct param_desc *param)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    cell_write_json(param->type, &param->initial, &text);
    return json_parse(text.data, text.len, &error);
}

static const struct param_desc *param_named(const struct method_desc *message, size_t from, const char *name)
{
    for (size_t i = from; i < message->param_count; i++)
        if (streq(message->params[i].name, name))
            return &message->params[i];
    return NULL;
}

static int check_names(const struct method_desc *message, size_t from, const json_t *body,
                       const struct refusals *all, struct api_err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, name, value)
    {
        if (!param_named(message, from, name) &&
            refused(all, err_invalid_value(err, name, "There is no such parameter."), err))
            return -1;
    }
    return 0;
}

/* What a client need not say in REST: no, and nothing in particular. */
static json_t *implied(const struct param_desc *param)
{
    if (param->optional)
        return initial_of(param);
    if (param->type->kind == TYPE_BOOL)
        return json_false();
    return param->type->kind == TYPE_MAP ? json_object() : NULL;
}

/* Named members of the body to positional parameters behind those that are there. -1: *err. With `all` those
 * that were told are left out. */
static int read_params(struct rest *r, const struct snapshot *snap, const struct method_desc *message,
                       size_t from, json_t *params, const struct refusals *all, struct api_err *err)
{
    if (check_names(message, from, r->body, all, err) < 0)
        return -1;
    for (size_t i = from; i < message->param_count; i++) {
        const struct param_desc *param = &message->params[i];
        const json_t *given = json_object_get(r->body, param->name);
        json_t *value = given ? rest_value_read(snap, param->type, given, param->name, err) : implied(param);
        if (!value && !given)
            err_invalid_value(err, param->name, "This parameter is missing.");
        if (refused(all, value ? 0 : -1, err))
            return -1;
        if (value)
            json_array_append_new(params, value);
    }
    return 0;
}

/* A constructor's record. NULL: *err; with `all` each member that is wrong was told. */
static json_t *read_record(struct rest *r, const struct snapshot *snap, const struct type *type,
                           const struct refusals *all, struct api_err *err)
{
    AUTO_JSON json_t *empty = json_object();
    const json_t *body = r->body ? r->body : empty;
    json_t *record = rest_value_read(snap, type, body, "body", err);
    const char *name;
    json_t *item;
    if (record || !all || !json_is_object(body))
        return record;
    api_err_done(err);
    json_object_foreach((json_t *)(uintptr_t)body, name, item)
    {
        AUTO_JSON json_t *one = json_pack("{sO}", name, item);
        AUTO_JSON json_t *read = rest_value_read(snap, type, one, "body", err);
        refused(all, read ? 0 : -1, err);
    }
    return NULL;
}

/* What a constructor wants to be told, and a client need not say: the value of a fresh row. */
void rest_complete_record(const struct class_desc *cls, json_t *record)
{
    struct row *fresh = row_new(cls, REF_NULL);
    for (size_t i = 0; i < cls->field_count; i++) {
        const struct field_desc *field = &cls->fields[i];
        AUTO_BUF struct buf text = BUF_INIT;
        struct json_error error;
        if (field->qualifier == FIELD_DYNAMIC_RO || field->flags & (FIELD_INTERNAL | FIELD_HAS_DEFAULT) ||
            json_object_get(record, field->name))
            continue;
        cell_write_json(field->type, row_cell(fresh, field), &text);
        json_object_set_new(record, field->name, json_parse(text.data, text.len, &error));
    }
    row_unref(fresh);
}

/* ---- requests ---- */

/* A message and its parameters as the body gives them. A plan is told all that is wrong with them. */
struct reading {
    const struct method_desc *message;
    json_t *params;
    struct refusals all;
    struct api_err err, *told;
    size_t told_count;
};

static void note_refusal(void *arg, const struct api_err *err)
{
    struct reading *reading = arg;
    reading->told = xreallocarray(reading->told, reading->told_count + 1, sizeof(*reading->told));
    reading->told[reading->told_count] = API_ERR_INIT;
    api_err_copy(&reading->told[reading->told_count++], err);
}

static void reading_begin(struct reading *reading, const struct method_desc *message)
{
    *reading = (struct reading){.message = message, .params = json_array()};
    reading->all = (struct refusals){note_refusal, reading};
}

static const struct refusals *who_hears(const struct rest *r, const struct reading *reading)
{
    return plan_is_wanted(r) ? &reading->all : NULL;
}

/* Runs or plans it, or answers why not. */
static void run_read(struct rest *r, struct reading *reading, int rc)
{
    if (rc == 0 && reading->told_count == 0) {
        change_run(r, reading->message, reading->params);
    } else {
        if (reading->told_count)
            plan_refused_params(r, reading->message, reading->told, reading->told_count);
        else
            rest_fail(r, &reading->err);
        json_decref(reading->params);
        rest_done(r);
    }
    for (size_t i = 0; i < reading->told_count; i++)
        api_err_done(&reading->told[i]);
    free(reading->told);
    api_err_done(&reading->err);
}

void rest_create(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct method_desc *create = message_of(r->target.cls, "create");
    struct reading reading;
    int rc = 0;
    if (!create) {
        AUTO_FREE char *text =
            xasprintf("Objects of class %s are not made by a client directly.", r->target.cls->name);
        rest_problem(r->req, 405, "Method Not Allowed", text);
        rest_done(r);
        return;
    }
    reading_begin(&reading, create);
    const struct refusals *all = who_hears(r, &reading);
    if (create->kind == METHOD_CREATE) {
        json_t *record = read_record(r, snap, create->params[0].type, all, &reading.err);
        if (record) {
            rest_complete_record(r->target.cls, record);
            json_array_append_new(reading.params, record);
        } else {
            rc = -1;
        }
    } else {
        rc = read_params(r, snap, create, 0, reading.params, all, &reading.err);
    }
    run_read(r, &reading, rc);
}

void rest_destroy(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct method_desc *destroy = message_of(r->target.cls, "destroy");
    const struct row *row = destroy ? rest_object(r, snap) : NULL;
    if (!destroy) {
        AUTO_FREE char *text =
            xasprintf("Objects of class %s are not deleted by a client directly.", r->target.cls->name);
        rest_problem(r->req, 405, "Method Not Allowed", text);
    }
    if (!row) {
        rest_done(r);
        return;
    }
    struct reading reading;
    reading_begin(&reading, destroy);
    json_array_append_new(reading.params, json_string(REF_TEXT(row->ref)));
    run_read(r, &reading,
             read_params(r, snap, destroy, 1, reading.params, who_hears(r, &reading), &reading.err));
}

void rest_action(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    bool object = r->target.uuid[0] != '\0';
    const struct row *row = object ? rest_object(r, snap) : NULL;
    if (object && !row) {
        rest_done(r);
        return;
    }
    struct reading reading;
    reading_begin(&reading, r->target.message);
    if (object)
        json_array_append_new(reading.params, json_string(REF_TEXT(row->ref)));
    run_read(r, &reading,
             read_params(r, snap, r->target.message, object, reading.params, who_hears(r, &reading),
                         &reading.err));
}
