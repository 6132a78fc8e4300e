/* The parts of a server as main.c puts them together, less what needs a file, a port or an agent. */
#include "trial.h"

#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <bootstrap.h>
#include <criterion/criterion.h>
#include <front.h>
#include <gate/commits.h>
#include <gate/event.h>
#include <gate/gate.h>
#include <gate/park.h>
#include <gate/session.h>
#include <gate/task.h>
#include <gate/work.h>
#include <hosts/claims.h>
#include <hosts/hosts.h>
#include <hosts/join.h>
#include <hosts/recover.h>
#include <http/console.h>
#include <metrics/metrics.h>
#include <schedules.h>
#include <stdio.h>
#include <timers.h>

void trial_start(struct trial_server *t)
{
    struct store *store;
    struct store_err cause;
    const struct store_config config = {.path = NULL};
    cr_assert_eq(store_open(&store, &config, &cause), 0);
    trial_start_on(t, store);
}

void trial_start_on(struct trial_server *t, struct store *store)
{
    struct server *s = &t->server;
    struct api_err err = API_ERR_INIT;
    const struct worker_config workers = {
        .name = "work", .threads_min = 2, .threads_max = 4, .queue_max = 100};
    *t = (struct trial_server){0};
    s->state_dir = "/nonexistent";
    s->store = store;
    cr_assert_eq(bootstrap(s, &err), 0);
    s->workers = worker_pool_new(&workers);
    s->login_workers = worker_pool_new(&workers);
    s->timers = timers_new();
    s->sessions = sessions_new();
    s->tasks = tasks_new();
    s->events = events_new(s, 0);
    s->joins = joins_new();
    s->claims = claims_new();
    s->console_tokens = console_tokens_new(s);
    s->operation_wait_ms = 10000;
    s->parking = parking_new(s);
    cr_assert((s->commits = commits_new(work_finish_changes)));
    cr_assert_eq(recovery_begin(s, &s->recovery, &err), 0);
    s->front = front_new(s);
    s->hosts = hosts_new(s, 0);
    s->metrics = metrics_new(s);
    cr_assert((s->schedules = schedules_new(s)));
    AUTO_IDENTITY struct identity root = identity_of_root("root");
    cr_assert_eq(session_open(s, &root, "test", &t->root, &err), 0);
}

void trial_stop(struct trial_server *t)
{
    struct server *s = &t->server;
    session_unref(t->root);
    timers_stop(s->timers);
    hosts_stop(s->hosts);
    parking_stop(s->parking);
    worker_pool_stop(s->login_workers);
    commits_close(s->commits);
    worker_pool_stop(s->workers);
    events_free(s->events);
    schedules_stop(s->schedules);
    metrics_stop(s->metrics);
    console_tokens_stop(s->console_tokens);
    console_tokens_free(s->console_tokens);
    metrics_free(s->metrics);
    schedules_free(s->schedules);
    hosts_free(s->hosts);
    parking_free(s->parking);
    commits_free(s->commits);
    recovery_free(s->recovery);
    claims_free(s->claims);
    front_free(s->front);
    timers_free(s->timers);
    joins_free(s->joins);
    tasks_free(s->tasks);
    sessions_free(s->sessions);
    store_close(s->store);
}

struct session *trial_session(struct trial_server *t, enum role role)
{
    struct session *session;
    struct api_err err = API_ERR_INIT;
    AUTO_IDENTITY struct identity who = {.user = xstrdup(role_name(role)), .sid = xstrdup(""), .role = role};
    cr_assert_eq(session_open(&t->server, &who, "test", &session, &err), 0);
    return session;
}

/* ---- calls ---- */

struct pending {
    sem_t over;
    struct trial_answer *answer;
};

static void take_answer(struct call *call)
{
    struct pending *pending = call->reply;
    if (!pending) { /* the work of an Async call, whose answer was its task */
        call_free(call);
        return;
    }
    struct trial_answer *answer = pending->answer;
    *answer = (struct trial_answer){.failed = call->failed};
    if (call->failed) {
        snprintf(answer->code, sizeof(answer->code), "%s", call->err.code);
        answer->param_count = call->err.param_count;
        for (size_t i = 0; i < call->err.param_count && i < 4; i++)
            snprintf(answer->params[i], sizeof(answer->params[i]), "%s", call->err.params[i]);
    } else if (call->raw) {
        answer->json = xstrndup(call->raw, call->raw_len);
    } else {
        struct buf out = BUF_INIT;
        if (call->result_type && call->result_type->kind != TYPE_VOID)
            cell_write_json(call->result_type, &call->result, &out);
        else
            buf_add_str(&out, "\"\"");
        answer->json = buf_take(&out);
    }
    call_free(call);
    sem_post(&pending->over);
}

void trial_answer_done(struct trial_answer *answer)
{
    free(answer->json);
    *answer = (struct trial_answer){0};
}

void trial_call(struct trial_server *t, const struct session *session, const char *method, json_t *params,
                struct trial_answer *answer)
{
    struct pending pending = {.answer = answer};
    json_t *all = params ? params : json_array();
    if (session)
        json_array_insert_new(all, 0, json_string(REF_TEXT(session->token)));
    sem_init(&pending.over, 0, 0);
    struct call *call = call_new(&t->server, method, all, false, "127.0.0.1", take_answer);
    call->reply = &pending;
    json_decref(all);
    gate_run(call);
    while (sem_wait(&pending.over) != 0)
        ;
    sem_destroy(&pending.over);
}
