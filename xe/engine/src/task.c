/* Long calls: the call runs in a task, its end is waited for by events (no polling), Ctrl-C asks the
 * task to stop and waits for that end; the task is destroyed in every case. */
#include "run.h"
#include "xmlvalue.h"
#include <base/clock.h>
#include <stdio.h>

enum { ROUND_MS = 30000 };

/* The latest state of the task among the events, or NULL; *gone when it was destroyed by another. */
static json_t *task_state(json_t *answer, const char *task, bool *gone)
{
    json_t *state = NULL, *event;
    size_t i;
    json_array_foreach(json_object_get(answer, "events"), i, event)
    {
        if (!streq(xe_str(event, "ref"), task))
            continue;
        *gone = streq(xe_str(event, "operation"), "del");
        if (json_is_object(json_object_get(event, "snapshot")))
            state = json_object_get(event, "snapshot");
    }
    return state;
}

static bool over(const json_t *record)
{
    const char *status = xe_str(record, "status");
    return streq(status, "success") || streq(status, "failure") || streq(status, "cancelled");
}

/* Waits for the task's end: its record (the caller's). */
static int left_alone(struct xe_run_state *x, const char *task)
{
    AUTO_FREE char *uuid = NULL;
    if (xe_call_string(x, "task.get_uuid", &uuid, "[s]", task) < 0)
        return -1;
    return xe_fail(x, XE_ERR_UNFINISHED, "The task goes on; this waits for it: xe task-wait uuid=%s", uuid);
}

static int wait_for_end(struct xe_run_state *x, const char *task, struct xe_meter *meter, json_t **record)
{
    int64_t deadline =
        x->view.wait_seconds < 0 ? INT64_MAX : clock_mono_ms() + (int64_t)(x->view.wait_seconds * 1000);
    AUTO_FREE char *subscription = xasprintf("task/%s", task), *token = xstrdup("");
    bool cancelled = false;
    for (;;) {
        AUTO_JSON json_t *answer = NULL;
        int64_t left = deadline == INT64_MAX ? ROUND_MS : deadline - clock_mono_ms();
        if (left <= 0 && *token && !cancelled)
            return left_alone(x, task);
        double wait = left > ROUND_MS || cancelled ? ROUND_MS / 1000.0 : left > 0 ? (double)left / 1000 : 0;
        if (xe_call(x, "event.from", &answer, "[[s]sf]", subscription, token, wait) < 0) {
            if (x->err.kind != XE_ERR_CANCELLED || cancelled)
                return -1;
            cancelled = x->interrupted = true;
            xe_meter_end(meter);
            if (x->api->resume)
                x->api->resume(x->api->ctx);
            xe_note(x, "Cancelling; press Ctrl-C again to leave the task to the server.");
            if (xe_call(x, "task.cancel", NULL, "[s]", task) < 0)
                return -1;
            continue;
        }
        free(token);
        token = xstrdup(xe_str(answer, "token"));
        bool gone = false;
        json_t *state = task_state(answer, task, &gone);
        if (gone)
            return xe_fail(x, XE_ERR_CLI, "the task %s was destroyed before its end was seen", task);
        if (!state)
            continue;
        xe_meter_fraction(meter, json_number_value(json_object_get(state, "progress")));
        if (over(state)) {
            *record = json_incref(state);
            return 0;
        }
    }
}

static void drop_task(struct xe_run_state *x, const char *task)
{
    struct xe_err err = {0};
    json_t *answer = NULL;
    AUTO_JSON json_t *params = json_pack("[s]", task);
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    /* A task that is not destroyed ages out on the server; the command's own result stands. */
    if (x->api->call(x->api->ctx, "task.destroy", params, NULL, &answer, &err) == 0)
        json_decref(answer);
    xe_err_done(&err);
}

static int outcome(struct xe_run_state *x, const json_t *record, json_t **result)
{
    if (streq(xe_str(record, "status"), "success")) {
        if (result)
            *result = xe_xml_value(xe_str(record, "result"));
        return 0;
    }
    const json_t *info = json_object_get(record, "error_info");
    if (streq(xe_str(record, "status"), "cancelled") || json_array_size(info) == 0)
        return xe_fail(x, XE_ERR_CANCELLED, "The task was cancelled.");
    AUTO_JSON json_t *params = json_array();
    for (size_t i = 1; i < json_array_size(info); i++)
        json_array_append(params, json_array_get(info, i));
    const char *code = json_string_value(json_array_get(info, 0));
    xe_err_set_api(&x->err, code ? code : "INTERNAL_ERROR", params);
    return -1;
}

int xe_task_wait(struct xe_run_state *x, const char *task, const char *label, json_t **result)
{
    AUTO_JSON json_t *record = NULL;
    struct xe_meter meter = xe_meter_init(x, label ? label : x->cmd ? x->cmd->name : "", true);
    int rc = wait_for_end(x, task, &meter, &record);
    xe_meter_end(&meter);
    if (rc == 0) {
        drop_task(x, task);
        rc = outcome(x, record, result);
    }
    return rc;
}

/* --async: the uuid of the task is all that is printed. */
static int detach(struct xe_run_state *x, const char *task)
{
    AUTO_FREE char *uuid = NULL;
    if (xe_call_string(x, "task.get_uuid", &uuid, "[s]", task) < 0)
        return -1;
    xe_out_item(x, uuid);
    x->detached = true;
    return -1;
}

bool xe_detached(struct xe_run_state *x)
{
    bool detached = x->detached && x->err.kind == XE_ERR_NONE;
    x->detached = false;
    return detached;
}

int xe_call_task(struct xe_run_state *x, const char *method, json_t *params, json_t **result)
{
    AUTO_FREE char *async = xasprintf("Async.%s", method);
    AUTO_JSON json_t *task = NULL;
    xe_out_flush(x);
    if (xe_call_params(x, async, params, &task) < 0)
        return -1;
    if (!json_is_string(task))
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered %s without a task.", async);
    return xe_task_follow(x, json_string_value(task), result);
}

int xe_task_follow(struct xe_run_state *x, const char *task, json_t **result)
{
    return x->view.async ? detach(x, task) : xe_task_wait(x, task, NULL, result);
}

int xe_call_maybe_task(struct xe_run_state *x, bool async, const char *method, json_t *params,
                       json_t **result)
{
    return async ? xe_call_task(x, method, params, result) : xe_call_params(x, method, params, result);
}
