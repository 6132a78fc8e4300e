/* POST /apply: brings the pool to what a document says, in one task whose steps are calls of the API through
 * the gate, with the rights of who asks. POST /undo takes the last one back alike. After each round the pool
 * is compared anew, so steps find what earlier ones have made, and whoever applies again after a failure or a
 * crash goes on. GET /state: the document of what there is. */
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

struct apply {
    struct rest *rest;
    struct ref task;
    const _Atomic bool *cancel;
    json_t *done; /* sentences */
    /* What is missing, and of what. */
    void (*compare)(const struct snapshot *snap, struct ref pool, const json_t *document,
                    struct desired *out);
    const json_t *document;
    bool noted; /* the way back is, or is not wanted */
};

static void dropped(struct call *call)
{
    call_free(call);
}

static int run_step(struct apply *a, const struct desired_step *step, struct api_err *err)
{
    struct rest *r = a->rest;
    AUTO_JSON json_t *params = json_pack("[s]", REF_TEXT(r->session->token));
    if (a->cancel && *a->cancel)
        return err_task_cancelled(err, REF_TEXT(a->task));
    json_array_extend(params, step->params);
    struct call *call = call_new(r->server, step->message, params, false, http_request_peer(r->req), dropped);
    call->claim.parent = a->task;
    json_decref(TAKE_PTR(params));
    if (gate_call_blocking(call, err) < 0)
        return -1;
    json_array_append_new(a->done, json_string(step->text));
    return 0;
}

/* All that can be done now. */
static int run_round(struct apply *a, const struct desired *d, struct api_err *err)
{
    size_t before = json_array_size(a->done);
    for (size_t i = 0; i < d->count; i++)
        if (d->steps[i].params && run_step(a, &d->steps[i], err) < 0)
            return -1;
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
    struct rest *r = a->rest;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
        AUTO_DESIRED struct desired d = {0};
        a->compare(snap, r->server->pool_ref, a->document, &d);
        if (json_array_size(d.reasons))
            return fail_reasons(&d, err);
        if (d.count == 0)
            return 0;
        if (!a->noted && undo_note(r->server, r->session->user, snap, a->document, err) < 0)
            return -1;
        a->noted = true;
        snapshot_unref(TAKE_PTR(snap)); /* what follows may take long */
        if (run_round(a, &d, err) < 0)
            return -1;
        task_progress(r->server, a->task, (double)(round + 1) / ROUNDS_MAX);
    }
    return err_operation_not_allowed(err, "Something does not stay as the document says: look at the plan.");
}

static void tell_task(struct apply *a)
{
    struct rest *r = a->rest;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct task_row *task = task_row(snapshot_get(snap, CLASS_task, a->task));
    AUTO_JSON json_t *answer = json_pack("{sO}", "steps", a->done);
    struct buf out = BUF_INIT;
    json_object_set_new(answer, "task", task ? json_string(task->uuid) : json_null());
    json_write(&out, answer);
    rest_send(r->req, 200, NULL, NULL, &out);
}

static void apply(struct rest *r, struct apply a, const char *label)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (atomic_exchange(&applying, true)) {
        rest_problem(r->req, 409, "Conflict", "Another document is being applied: wait for its task.");
        return;
    }
    a.done = json_array();
    int rc = gate_task_open(r->server, r->session, label, &r->claim, &a.task, &a.cancel, &err);
    if (rc == 0) {
        rc = run(&a, &err);
        if (rc == 0 && a.compare == undo_compare)
            rc = undo_forget(r->server, &err);
        gate_task_end(r->server, a.task, "<value></value>", rc < 0 ? &err : NULL);
    }
    atomic_store(&applying, false);
    if (rc < 0)
        rest_fail(r, &err);
    else
        tell_task(&a);
    json_decref(a.done);
}

static void tell_plan(struct rest *r, const struct apply *a)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    AUTO_DESIRED struct desired d = {0};
    struct buf out = BUF_INIT;
    a->compare(snap, r->server->pool_ref, a->document, &d);
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
    bool planned;
    const struct apply a = {.rest = r, .compare = desired_compare, .document = r->body};
    if (plan_wanted(r, &planned)) {
        if (desired_check(r->body, &err) < 0)
            rest_fail(r, &err);
        else if (planned)
            tell_plan(r, &a);
        else
            apply(r, a, "apply");
    }
    rest_done(r);
}

void rest_undo(struct rest *r)
{
    bool planned;
    AUTO_JSON json_t *note = undo_read(r->server);
    const struct apply a = {.rest = r, .compare = undo_compare, .document = note, .noted = true};
    if (plan_wanted(r, &planned)) {
        if (!note)
            rest_problem(r->req, 409, "Conflict",
                         "There is nothing to take back: no document was applied since.");
        else if (planned)
            tell_plan(r, &a);
        else
            apply(r, a, "undo");
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
