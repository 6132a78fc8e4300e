/* A pool that lives long: the same things made, changed, told of and destroyed again and again, for hours of
 * tasks' and sessions' time, and the memory that is allocated stays what it was. Counted by the allocator:
 * what a process has of the system says little. CORRAL_CHURN=N: so many rounds. */
#include "trial.h"

#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/gate.h>
#include <gate/session.h>
#include <gate/task.h>
#include <malloc.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__)
size_t __sanitizer_get_current_allocated_bytes(void); /* gcc has no header for it */
#define ALLOCATED() __sanitizer_get_current_allocated_bytes()
#else
#define ALLOCATED() mallinfo2().uordblks
#endif

#define WARM_UP 3
#define OBJECTS 60 /* a round */
#define SLACK (256u << 10)

static struct trial_server trial;

static void start(void)
{
    struct store *store;
    struct store_err cause;
    const struct store_config config = {.path = NULL, .max_tombstones = 500};
    cr_assert_eq(store_open(&store, &config, &cause), 0);
    trial_start_on(&trial, store);
}

static void stop(void)
{
    trial_stop(&trial);
}

TestSuite(churn, .init = start, .fini = stop, .timeout = 3600);

/* The result; decref. */
static json_t *call(const struct session *session, const char *method, json_t *params)
{
    AUTO_ANSWER struct trial_answer answer = {0};
    trial_call(&trial, session, method, params, &answer);
    cr_assert_not(answer.failed, "%s: %s %s", method, answer.code, answer.params[0]);
    json_t *value = json_loads(answer.json, JSON_DECODE_ANY, NULL);
    cr_assert_not_null(value, "%s", answer.json);
    return value;
}

static void done(json_t *value)
{
    json_decref(value);
}

/* As if the tasks that have ended had ended an hour and more ago. */
static void grow_old(void)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    struct tx *tx = store_begin(trial.server.store);
    const struct row **rows;
    size_t count = snapshot_by_name(snap, CLASS_task, "churn", &rows);
    for (size_t i = 0; i < count; i++) {
        struct task_row *task = task_row_mut(tx_edit(tx, CLASS_task, rows[i]->ref));
        task->finished -= 2 * 3600;
        task->created -= 2 * 3600;
    }
    free(rows);
    cr_assert_eq(server_commit(tx, &err), 0);
    tasks_sweep(&trial.server);
}

static void one_round(char token[static 128])
{
    struct session *session = trial_session(&trial, ROLE_POOL_ADMIN);
    for (int i = 0; i < OBJECTS; i++) {
        json_t *network =
            call(session, "network.create",
                 json_pack("[{s:s,s:{s:s}}]", "name_label", "churn", "other_config", "key", "value"));
        json_t *task = call(session, "task.create", json_pack("[ss]", "churn", "a task"));
        done(call(session, "network.set_name_description", json_pack("[Os]", network, "another text")));
        done(call(session, "network.add_to_other_config", json_pack("[Oss]", network, "more", "text")));
        done(call(session, "task.set_status", json_pack("[Os]", task, "success")));
        done(call(session, "network.get_record", json_pack("[O]", network)));
        if (i % 10 == 0) {
            json_t *events =
                call(session, "event.from", json_pack("[[s,s]sf]", "network", "task", token, 0.0));
            snprintf(token, 128, "%s", json_string_value(json_object_get(events, "token")));
            done(events);
        }
        done(call(session, "network.destroy", json_pack("[O]", network)));
        done(network);
        done(task);
    }
    done(call(session, "network.get_all_records", NULL));
    grow_old();
    session_close(&trial.server, session);
    session_unref(session);
}

/* What was thrown away is freed by other threads, a little later. */
static size_t settled(size_t wanted)
{
    int64_t until = clock_mono_ms() + 20000;
    size_t bytes = ALLOCATED();
    while (bytes > wanted && clock_mono_ms() < until) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        bytes = ALLOCATED();
    }
    return bytes;
}

Test(churn, memory_stays_what_it_was)
{
    const char *wanted = getenv("CORRAL_CHURN");
    long rounds = wanted ? strtol(wanted, NULL, 10) : 12;
    char token[128] = "";
    for (int i = 0; i < WARM_UP; i++)
        one_round(token);
    size_t before = ALLOCATED();
    struct store_stats at_first, at_last;
    store_stats(trial.server.store, &at_first);
    for (long i = 0; i < rounds; i++)
        one_round(token);
    size_t after = settled(before + SLACK);
    store_stats(trial.server.store, &at_last);
    cr_assert_leq(after, before + SLACK, "%zu bytes after %d rounds, %zu after %ld more", before, WARM_UP,
                  after, rounds);
    cr_assert_eq(at_last.rows, at_first.rows);
    cr_assert_gt(at_last.commits, at_first.commits + (uint64_t)rounds * OBJECTS);
}
