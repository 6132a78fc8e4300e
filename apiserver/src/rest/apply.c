/* POST /apply: brings the pool to what a document says, in one task whose steps are calls of the API through
 * the gate, with the rights of who asks. POST /undo takes the last one back alike. After each round the pool
 * is compared anew, so steps find what earlier ones have made, and whoever applies again after a failure or a
 * crash goes on. GET /state: the document of what there is. */
#include "change.h"
#include "desired.h"

#include "../gate/gate.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

#define ROUNDS_MAX 10

/* One at a time: two would undo each other's work. */
static _Atomic bool applying;

/* What is missing, and of what. */
typedef void compare_fn(const struct snapshot *snap, struct ref pool, const json_t *document,
                        struct desired *out);

/* It may last longer than the request that asked for it. */
struct apply {
    struct server *server;
    struct session *session; /* counted; the client may close it meanwhile */
    char *peer;
    json_t *document;
    compare_fn *compare;
    bool noted; /* the way back is, or is not wanted */
    struct ref task;
    const _Atomic bool *cancel;
    json_t *done; /* sentences */
    double fraction;
};

static void dropped(struct call *call)
{
    call_free(call);
}

static int run_step(struct apply *a, const struct desired_step *step, struct api_err *err)
{
    AUTO_JSON json_t *params = json_pack("[s]", REF_TEXT(a->session->token));
    if (a->cancel && *a->cancel)
        return err_task_cancelled(err, REF_TEXT(a->task));
    json_array_extend(params, step->params);
    struct call *call = call_new(a->server, step->message, params, false, a->peer, dropped);
    call->claim.parent = a->task;
    call->session = session_ref(a->session);
    json_decref(TAKE_PTR(params));
    if (gate_call_blocking(call, err) < 0)
        return -1;
    json_array_append_new(a->done, json_string(step->text));
    return 0;
}

/* How far it is, as far as the steps are known: what comes to light later does not take it back. */
static void tell_progress(struct apply *a, size_t left)
{
    size_t done = json_array_size(a->done);
    double fraction = (double)done / (double)(done + left + 1);
    if (fraction <= a->fraction)
        return;
    a->fraction = fraction;
    task_progress(a->server, a->task, fraction);
}

/* All that can be done now. */
static int run_round(struct apply *a, const struct desired *d, struct api_err *err)
{
    size_t before = json_array_size(a->done);
    for (size_t i = 0; i < d->count; i++) {
        tell_progress(a, d->count - i);
        if (d->steps[i].params && run_step(a, &d->steps[i], err) < 0)
            return -1;
    }
    if (json_array_size(a->done) > before)
        return 0;
    return err_operation_not_allowed(err, d->steps[0].text);
}

static int fail_reasons(const struct desired *d, struct api_err *err)
{
    AUTO_BUF struct buf text = BUF_INIT;
    size_t i;
    json_t *reason;
    json_array_foreach(d->reasons, i, reason)
    {
        buf_printf(&text, "%s%s: %s", i ? " " : "", json_string_value(json_object_get(reason, "object")),
                   json_string_value(json_object_get(reason, "why")));
        if (i == 9)
            break;
    }
    return err_operation_not_allowed(err, text.data);
}

static int run(struct apply *a, struct api_err *err)
{
    for (int round = 0; round < ROUNDS_MAX; round++) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(a->server->store);
        AUTO_DESIRED struct desired d = {0};
        a->compare(snap, a->server->pool_ref, a->document, &d);
        if (json_array_size(d.reasons))
            return fail_reasons(&d, err);
        if (d.count == 0)
            return 0;
        if (!a->noted && undo_note(a->server, a->session->user, snap, a->document, err) < 0)
            return -1;
        a->noted = true;
        snapshot_unref(TAKE_PTR(snap)); /* what follows may take long */
        if (run_round(a, &d, err) < 0)
            return -1;
    }
    return err_operation_not_allowed(err, "Something does not stay as the document says: look at the plan.");
}

/* The task's result: what was done, a list of sentences. */
static void write_steps(const struct apply *a, struct buf *xml)
{
    size_t count = json_array_size(a->done);
    AUTO_FREE const char **texts = xcalloc(count + 1, sizeof(*texts));
    for (size_t i = 0; i < count; i++)
        texts[i] = json_string_value(json_array_get(a->done, i));
    AUTO_STR_SET const struct str_set *list = str_list_new(texts, count);
    cell_write_xml(field_find(CLASS_VM, "tags")->type, &(union cell){.str_set = list}, xml);
}

static void carry_out(struct apply *a)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_BUF struct buf xml = BUF_INIT;
    int rc = run(a, &err);
    if (rc == 0 && a->compare == undo_compare)
        rc = undo_forget(a->server, &err);
    write_steps(a, &xml);
    atomic_store(&applying, false); /* who hears of the end may apply the next one */
    gate_task_end(a->server, a->task, xml.data, rc < 0 ? &err : NULL);
}

static void apply_done(struct apply *a)
{
    session_unref(a->session);
    json_decref(a->document);
    json_decref(a->done);
    free(a->peer);
}

/* The request is answered, now or later, by what becomes of the task. */
static void apply(struct rest *r, compare_fn *compare, json_t *document, const char *label)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct apply a = {.server = r->server, .compare = compare, .noted = compare == undo_compare};
    if (!change_read_wait(r)) {
        rest_done(r);
        return;
    }
    if (atomic_exchange(&applying, true)) {
        rest_problem(r->req, 409, "Conflict", "Another document is being applied: wait for its task.");
        rest_done(r);
        return;
    }
    if (gate_task_open(r->server, r->session, label, &r->claim, &a.task, &a.cancel, &err) < 0) {
        atomic_store(&applying, false);
        rest_fail(r, &err);
        rest_done(r);
        return;
    }
    a.session = session_ref(r->session);
    a.peer = xstrdup(http_request_peer(r->req));
    a.document = json_incref(document);
    a.done = json_array();
    r->task = a.task;
    change_await(r); /* which is gone from here on */
    carry_out(&a);
    apply_done(&a);
}

static void tell_plan(struct rest *r, compare_fn *compare, const json_t *document)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    AUTO_DESIRED struct desired d = {0};
    struct buf out = BUF_INIT;
    compare(snap, r->server->pool_ref, document, &d);
    AUTO_JSON json_t *steps = json_array();
    for (size_t i = 0; i < d.count; i++)
        json_array_append_new(steps, json_string(d.steps[i].text));
    AUTO_JSON json_t *answer = json_pack("{sO,sO}", "steps", steps, "reasons", d.reasons);
    json_write(&out, answer);
    rest_send(r->req, 200, NULL, NULL, &out);
}

void rest_apply(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    bool planned = false;
    if (plan_wanted(r, &planned)) {
        if (desired_check(r->body, &err) == 0 && !planned) {
            apply(r, desired_compare, r->body, "apply");
            return;
        }
        if (err.code)
            rest_fail(r, &err);
        else
            tell_plan(r, desired_compare, r->body);
    }
    rest_done(r);
}

void rest_undo(struct rest *r)
{
    bool planned = false;
    AUTO_JSON json_t *note = undo_read(r->server);
    if (plan_wanted(r, &planned)) {
        if (note && !planned) {
            apply(r, undo_compare, note, "undo");
            return;
        }
        if (!note)
            rest_problem(r->req, 409, "Conflict",
                         "There is nothing to take back: no document was applied since.");
        else
            tell_plan(r, undo_compare, note);
    }
    rest_done(r);
}

void rest_state(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    AUTO_JSON json_t *document = desired_export(snap);
    struct buf out = BUF_INIT;
    json_write(&out, document);
    rest_send(r->req, 200, NULL, NULL, &out);
    rest_done(r);
}
