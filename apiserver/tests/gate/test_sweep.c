/* Which tasks the server clears away by itself. */
#include "trial.h"

#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/task.h>

static struct trial_server trial;

static void start(void)
{
    trial_start(&trial);
}

static void stop(void)
{
    trial_stop(&trial);
}

TestSuite(sweep, .init = start, .fini = stop, .timeout = 60);

static struct ref make(enum task_status_type status, int64_t created, int64_t finished)
{
    struct api_err err = API_ERR_INIT;
    const struct task_spec spec = {.label = "t", .description = ""};
    struct tx *tx = store_begin(trial.server.store);
    struct ref ref = task_create(tx, &spec);
    struct task_row *task = task_row_mut(tx_edit(tx, CLASS_task, ref));
    task->status = status;
    task->created = created;
    task->finished = finished;
    cr_assert_eq(server_commit(tx, &err), 0);
    return ref;
}

static bool there(struct ref ref)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    return snapshot_get(snap, CLASS_task, ref) != NULL;
}

Test(sweep, by_age)
{
    int64_t now = clock_unix_seconds(), minute = 60, day = 24 * 3600;
    const struct {
        const char *what;
        enum task_status_type status;
        int64_t created, finished;
        bool runs, stays;
    } cases[] = {
        {"finished lately", TASK_STATUS_TYPE_SUCCESS, now - 2 * day, now - 60 * minute, false, true},
        {"finished long ago", TASK_STATUS_TYPE_SUCCESS, now - 2 * day, now - 66 * minute, false, false},
        {"cancelled long ago", TASK_STATUS_TYPE_CANCELLED, now - 2 * day, now - 66 * minute, false, false},
        {"pending since this morning", TASK_STATUS_TYPE_PENDING, now - 23 * 3600, 0, false, true},
        {"pending since yesterday", TASK_STATUS_TYPE_PENDING, now - 25 * 3600, 0, false, false},
        {"running since yesterday", TASK_STATUS_TYPE_PENDING, now - 25 * 3600, 0, true, true},
    };
    struct ref refs[ARRAY_LEN(cases)];
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        refs[i] = make(cases[i].status, cases[i].created, cases[i].finished);
        if (cases[i].runs)
            task_running(trial.server.tasks, refs[i]);
    }
    tasks_sweep(&trial.server);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        cr_expect_eq(there(refs[i]), cases[i].stays, "%s", cases[i].what);
        if (cases[i].runs)
            task_ended(trial.server.tasks, refs[i]);
    }
}

Test(sweep, the_oldest_finished_beyond_200)
{
    int64_t now = clock_unix_seconds();
    struct ref pending = make(TASK_STATUS_TYPE_PENDING, now, 0), refs[250];
    for (size_t i = 0; i < ARRAY_LEN(refs); i++)
        refs[i] = make(TASK_STATUS_TYPE_FAILURE, now - 3000, now - 3000 + (int64_t)i);
    tasks_sweep(&trial.server);
    for (size_t i = 0; i < ARRAY_LEN(refs); i++)
        cr_expect_eq(there(refs[i]), i >= 51, "%zu", i);
    cr_expect(there(pending));
}

Test(sweep, one_that_is_to_be_destroyed_goes_when_it_ends)
{
    struct api_err err = API_ERR_INIT;
    struct ref ref = make(TASK_STATUS_TYPE_PENDING, clock_unix_seconds(), 0);
    struct tx *tx = store_begin(trial.server.store);
    str_map_put(&task_row_mut(tx_edit(tx, CLASS_task, ref))->current_operations, "task", "destroy");
    cr_assert_eq(server_commit(tx, &err), 0);
    tx = store_begin(trial.server.store);
    task_complete(tx, ref, "<value></value>", NULL);
    cr_assert_eq(server_commit(tx, &err), 0);
    cr_expect(!there(ref));
}
