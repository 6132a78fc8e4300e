/* event.from at moments that calls from outside cannot choose: while the thread that tells subscribers is
 * held up with another one. */
#include "trial.h"

#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/gate.h>
#include <gate/session.h>
#include <stdio.h>
#include <time.h>

static struct trial_server trial;

static void start(void)
{
    trial_start(&trial);
}

static void stop(void)
{
    trial_stop(&trial);
}

TestSuite(events, .init = start, .fini = stop, .timeout = 120);

static struct ref make_task(void)
{
    struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(trial.server.store);
    struct ref ref = tx_create(tx, CLASS_task)->ref;
    cr_assert_eq(server_commit(tx, &err), 0);
    return ref;
}

static void destroy_task(struct ref ref)
{
    struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(trial.server.store);
    tx_delete(tx, CLASS_task, ref);
    cr_assert_eq(server_commit(tx, &err), 0);
}

static json_t *from_params(const char *cls, const char *token, double timeout)
{
    return json_pack("[[s], s, f]", cls, token, timeout);
}

/* An answer whose token is good for the next call. */
static char *ask(const char *cls, const char *token, double timeout, json_t **events)
{
    AUTO_ANSWER struct trial_answer answer;
    const char *next = NULL;
    struct json_error bad;
    trial_call(&trial, trial.root, "event.from", from_params(cls, token, timeout), &answer);
    cr_assert_not(answer.failed, "%s", answer.code);
    AUTO_JSON json_t *got = json_parse(answer.json, strlen(answer.json), &bad);
    cr_assert(json_get_string(got, "token", &next));
    *events = json_incref(json_object_get(got, "events"));
    return xstrdup(next);
}

/* ---- the thread, held up ---- */

struct hold {
    sem_t held, go;
};

static void hold_up(struct call *call)
{
    struct hold *hold = call->reply;
    cr_assert_not(call->failed, "%s", call->err.code);
    call_free(call);
    sem_post(&hold->held);
    while (sem_wait(&hold->go) != 0)
        ;
}

/* A subscriber of networks takes its answer, and does not let go of the thread. */
static void begin_hold(struct hold *hold)
{
    AUTO_JSON json_t *none = NULL;
    AUTO_FREE char *token = ask("network", "", 0, &none);
    struct api_err err = API_ERR_INIT;
    sem_init(&hold->held, 0, 0);
    sem_init(&hold->go, 0, 0);
    AUTO_JSON json_t *params = from_params("network", token, 60);
    json_array_insert_new(params, 0, json_string(REF_TEXT(trial.root->token)));
    struct call *call = call_new(&trial.server, "event.from", params, false, "127.0.0.1", hold_up);
    call->reply = hold;
    gate_run(call);
    struct tx *tx = store_begin(trial.server.store);
    tx_create(tx, CLASS_network);
    cr_assert_eq(server_commit(tx, &err), 0);
    while (sem_wait(&hold->held) != 0)
        ;
}

static void end_hold(struct hold *hold)
{
    sem_post(&hold->go);
}

struct late {
    sem_t answered;
    char *json;
};

static void take_late(struct call *call)
{
    struct late *late = call->reply;
    late->json = call->failed ? NULL : xstrndup(call->raw, call->raw_len);
    call_free(call);
    sem_post(&late->answered);
}

/* It knows a task that came and went while the thread was held up: it hears that it went. */
Test(events, what_came_and_went_meanwhile)
{
    struct hold hold;
    struct late late = {.json = NULL};
    struct json_error bad;
    sem_init(&late.answered, 0, 0);
    begin_hold(&hold);
    struct ref task = make_task();
    AUTO_JSON json_t *events = NULL;
    AUTO_FREE char *token = ask("task", "", 0, &events);
    cr_assert_eq(json_array_size(events), 1);
    AUTO_JSON json_t *params = from_params("task", token, 5);
    json_array_insert_new(params, 0, json_string(REF_TEXT(trial.root->token)));
    struct call *call = call_new(&trial.server, "event.from", params, false, "127.0.0.1", take_late);
    call->reply = &late;
    gate_run(call);
    destroy_task(task);
    end_hold(&hold);
    while (sem_wait(&late.answered) != 0)
        ;
    cr_assert(late.json);
    AUTO_JSON json_t *got = json_parse(late.json, strlen(late.json), &bad);
    const json_t *told = json_object_get(got, "events"), *event = json_array_get(told, 0);
    const char *operation = NULL, *ref = NULL;
    cr_assert_eq(json_array_size(told), 1, "%s", late.json);
    cr_assert(json_get_string(event, "operation", &operation) && json_get_string(event, "ref", &ref));
    cr_assert_str_eq(operation, "del");
    cr_assert_str_eq(ref, REF_TEXT(task));
    free(late.json);
}
