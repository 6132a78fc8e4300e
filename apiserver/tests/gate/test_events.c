/* event.from at moments that calls from outside cannot choose: while the thread that tells subscribers is
 * held up with another one, or has looked and not told yet. */
#include "trial.h"

#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/gate.h>
#include <gate/session.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

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

static void begin(struct late *late, const struct session *session, const char *method, json_t *params)
{
    json_array_insert_new(params, 0, json_string(REF_TEXT(session->token)));
    struct call *call = call_new(&trial.server, method, params, false, "127.0.0.1", take_late);
    late->json = NULL;
    sem_init(&late->answered, 0, 0);
    call->reply = late;
    gate_run(call);
    json_decref(params);
}

static void begin_late(struct late *late, const char *token, double timeout)
{
    begin(late, trial.root, "event.from", from_params("task", token, timeout));
}

/* The events; the caller frees them. */
static json_t *end_late(struct late *late)
{
    struct json_error bad;
    while (sem_wait(&late->answered) != 0)
        ;
    cr_assert(late->json);
    AUTO_JSON json_t *got = json_parse(late->json, strlen(late->json), &bad);
    free(late->json);
    return json_incref(json_is_array(got) ? got
                                          : json_object_get(got, "events")); /* event.next, event.from */
}

static bool says(const json_t *event, const char *operation, struct ref ref)
{
    const char *word = "", *text = "";
    json_get_string(event, "operation", &word);
    json_get_string(event, "ref", &text);
    return streq(word, operation) && streq(text, REF_TEXT(ref));
}

/* It knows a task that came and went while the thread was held up: it hears that it went. */
Test(events, what_came_and_went_meanwhile)
{
    struct hold hold;
    struct late late;
    begin_hold(&hold);
    struct ref task = make_task();
    AUTO_JSON json_t *events = NULL;
    AUTO_FREE char *token = ask("task", "", 0, &events);
    cr_assert_eq(json_array_size(events), 1);
    begin_late(&late, token, 5);
    destroy_task(task);
    end_hold(&hold);
    AUTO_JSON json_t *told = end_late(&late);
    cr_assert_eq(json_array_size(told), 1);
    cr_assert(says(json_array_get(told, 0), "del", task));
}

/* ---- the thread, between its look at the pool and the subscribers ---- */

static char folder[64];

static void start_with_failpoints(void)
{
    snprintf(folder, sizeof(folder), "/tmp/corral-events-XXXXXX");
    cr_assert(mkdtemp(folder));
    setenv("CORRAL_FAILPOINTS", folder, 1);
    start();
}

static char *in_folder(const char *name)
{
    return xasprintf("%s/%s", folder, name);
}

static void stop_with_failpoints(void)
{
    AUTO_FREE char *reached = in_folder("reached");
    stop();
    cr_assert_eq(remove(reached), 0);
    cr_assert_eq(remove(folder), 0);
}

TestSuite(looks, .init = start_with_failpoints, .fini = stop_with_failpoints, .timeout = 120);

static void arm(const char *order)
{
    AUTO_FREE char *path = in_folder("armed"), *fresh = in_folder("fresh");
    FILE *file = fopen(fresh, "w");
    cr_assert(file && fputs(order, file) >= 0 && fclose(file) == 0);
    cr_assert_eq(rename(fresh, path), 0);
}

/* At a new task, which is the result. */
static struct ref hold_a_look(const char *held)
{
    arm("hold events:look");
    struct ref fresh = make_task();
    while (access(held, F_OK) != 0)
        sched_yield();
    return fresh;
}

/* Whoever comes with a newer token than the thread's look is told nothing twice. */
Test(looks, a_subscriber_that_is_ahead)
{
    AUTO_FREE char *held = in_folder("held");
    struct late waiting, ahead;
    AUTO_JSON json_t *first = NULL, *second = NULL, *third = NULL;
    struct ref old = make_task();
    AUTO_FREE char *token = ask("task", "", 0, &first);
    begin_late(&waiting, token, 60);
    struct ref fresh = hold_a_look(held);
    AUTO_FREE char *newer = ask("task", token, 0, &second);
    cr_assert(json_array_size(second) == 1 && says(json_array_get(second, 0), "add", fresh));
    destroy_task(old);
    AUTO_FREE char *newest = ask("task", newer, 0, &third);
    cr_assert(json_array_size(third) == 1 && says(json_array_get(third, 0), "del", old));
    begin_late(&ahead, newest, 0.5);
    cr_assert_eq(remove(held), 0);
    AUTO_JSON json_t *told = end_late(&ahead), *others = end_late(&waiting);
    cr_expect_eq(json_array_size(told), 0, "it was told of %zu", json_array_size(told));
    cr_expect_geq(json_array_size(others), 1);
}

/* The same for the older calls: what a session has registered for begins there. */
Test(looks, a_registration_that_is_ahead)
{
    AUTO_FREE char *held = in_folder("held");
    AUTO_SESSION struct session *session = trial_session(&trial, ROLE_POOL_ADMIN);
    AUTO_ANSWER struct trial_answer registered = {0};
    struct late waiting, ahead;
    AUTO_JSON json_t *first = NULL;
    AUTO_FREE char *token = ask("task", "", 0, &first);
    begin_late(&waiting, token, 60);
    hold_a_look(held);
    make_task();
    trial_call(&trial, session, "event.register", json_pack("[[s]]", "task"), &registered);
    cr_assert_not(registered.failed, "%s", registered.code);
    begin(&ahead, session, "event.next", json_array());
    cr_assert_eq(remove(held), 0);
    json_decref(end_late(&waiting));
    /* Whoever waits after that is looked at after it, too. */
    AUTO_JSON json_t *all = NULL, *none = NULL;
    AUTO_FREE char *now = ask("network", "", 0, &all);
    free(ask("network", now, 0.3, &none));
    cr_expect_neq(sem_trywait(&ahead.answered), 0, "it was told of what was there when it registered");
    struct ref last = make_task();
    AUTO_JSON json_t *told = end_late(&ahead);
    cr_expect_eq(json_array_size(told), 1);
    cr_expect(says(json_array_get(told, 0), "add", last));
    session_close(&trial.server, session);
}

/* A class that is registered while the thread has looked at the registration already. */
Test(looks, a_class_that_is_registered_meanwhile)
{
    AUTO_FREE char *held = in_folder("held");
    AUTO_SESSION struct session *session = trial_session(&trial, ROLE_POOL_ADMIN);
    struct late waiting;
    static const char *const classes[] = {"network", "task"};
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        AUTO_ANSWER struct trial_answer registered = {0};
        if (i == 1) {
            arm("hold events:next");
            begin(&waiting, session, "event.next", json_array());
            while (access(held, F_OK) != 0)
                sched_yield();
        }
        trial_call(&trial, session, "event.register", json_pack("[[s]]", classes[i]), &registered);
        cr_assert_not(registered.failed, "%s", registered.code);
    }
    cr_assert_eq(remove(held), 0);
    struct ref task = make_task();
    AUTO_JSON json_t *told = end_late(&waiting);
    cr_expect_eq(json_array_size(told), 1);
    cr_expect(says(json_array_get(told, 0), "add", task));
    session_close(&trial.server, session);
}
