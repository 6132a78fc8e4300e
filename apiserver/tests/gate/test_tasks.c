/* Tasks from their making to their end: what each step does to one in each state, also when the database
 * cannot be written. */
#include "trial.h"

#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fault_engine.h>
#include <gate/gate.h>
#include <gate/session.h>
#include <gate/task.h>
#include <gate/work.h>
#include <model/errors.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>

static struct trial_server trial;
static struct fault_control disk;

static void start(void)
{
    struct store *store;
    struct store_err cause;
    const struct store_config config = {.path = NULL};
    struct engine *engine = fault_engine_new(engine_memory_new(), &disk);
    cr_assert_eq(store_open_engine(&store, &config, engine, &cause), 0);
    trial_start_on(&trial, store);
}

static void stop(void)
{
    disk.next = FAULT_NONE;
    trial_stop(&trial);
}

TestSuite(tasks, .init = start, .fini = stop, .timeout = 240);

static void commit(struct tx *tx)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(server_commit(tx, &err), 0, "%s", err.code);
}

static struct ref make(const struct task_spec *spec)
{
    struct tx *tx = store_begin(trial.server.store);
    struct ref ref = task_create(tx, spec);
    commit(tx);
    return ref;
}

static struct ref make_in(enum task_status_type status)
{
    const struct task_spec spec = {
        .label = "t", .description = "", .message = "VM.start", .cancellable = true};
    struct ref ref = make(&spec);
    struct tx *tx = store_begin(trial.server.store);
    task_row_mut(tx_edit(tx, CLASS_task, ref))->status = status;
    commit(tx);
    return ref;
}

/* The row as of now; valid until the next call. NULL: there is none. */
static const struct task_row *now(struct ref ref)
{
    static const struct row *kept;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    const struct row *row = snapshot_get(snap, CLASS_task, ref);
    if (kept)
        row_unref(kept);
    kept = row ? row_ref(row) : NULL;
    return row ? task_row(kept) : NULL;
}

Test(tasks, ends)
{
    static const struct {
        enum task_status_type before;
        const char *mark; /* in current_operations */
        const char *error;
        int after; /* -1: gone */
    } table[] = {
        {TASK_STATUS_TYPE_PENDING, NULL, NULL, TASK_STATUS_TYPE_SUCCESS},
        {TASK_STATUS_TYPE_PENDING, "cancel", NULL, TASK_STATUS_TYPE_SUCCESS},
        {TASK_STATUS_TYPE_PENDING, "destroy", NULL, -1},
        {TASK_STATUS_TYPE_PENDING, "destroy", "TASK_CANCELLED", -1},
        {TASK_STATUS_TYPE_PENDING, NULL, "TASK_CANCELLED", TASK_STATUS_TYPE_CANCELLED},
        {TASK_STATUS_TYPE_PENDING, NULL, "VM_IS_TEMPLATE", TASK_STATUS_TYPE_FAILURE},
        {TASK_STATUS_TYPE_CANCELLING, NULL, "TASK_CANCELLED", TASK_STATUS_TYPE_CANCELLED},
        {TASK_STATUS_TYPE_CANCELLING, NULL, NULL, TASK_STATUS_TYPE_SUCCESS},
        {TASK_STATUS_TYPE_SUCCESS, NULL, "TASK_CANCELLED", TASK_STATUS_TYPE_SUCCESS},
        {TASK_STATUS_TYPE_FAILURE, "destroy", NULL, TASK_STATUS_TYPE_FAILURE},
        {TASK_STATUS_TYPE_CANCELLED, NULL, NULL, TASK_STATUS_TYPE_CANCELLED},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const char *params[] = {"a", "b"};
        struct ref ref = make_in(table[i].before);
        struct tx *tx = store_begin(trial.server.store);
        if (table[i].mark)
            str_map_put(&task_row_mut(tx_edit(tx, CLASS_task, ref))->current_operations, "task",
                        table[i].mark);
        if (table[i].error)
            api_err_set_code(&err, table[i].error, params, 2);
        task_complete(tx, ref, "<value>7</value>", table[i].error ? &err : NULL);
        task_complete(tx, ref_new(), "", NULL); /* nobody's */
        commit(tx);
        const struct task_row *task = now(ref);
        cr_assert_eq(task == NULL, table[i].after < 0, "row %zu", i);
        if (!task)
            continue;
        cr_assert_eq((int)task->status, table[i].after, "row %zu", i);
        bool ended =
            table[i].before == TASK_STATUS_TYPE_PENDING || table[i].before == TASK_STATUS_TYPE_CANCELLING;
        cr_assert_eq(task->finished != 0, ended, "row %zu", i);
        cr_assert_eq(task->allowed_operations == 0, ended, "row %zu", i);
        if (ended && !table[i].error)
            cr_assert_str_eq(task->result, "<value>7</value>");
        if (ended && table[i].error)
            cr_assert_str_eq(task->error_info->items[0], table[i].error);
        if (task->status == TASK_STATUS_TYPE_FAILURE && ended)
            cr_assert_str_eq(task->error_info->items[2], "b");
    }
}

Test(tasks, are_told_to_stop)
{
    static const struct {
        const char *what;
        bool runs, row;
        enum task_status_type status;
        enum fault fault;
        bool wanted, shown;
    } table[] = {
        {"runs", true, true, TASK_STATUS_TYPE_PENDING, FAULT_NONE, true, true},
        {"runs without a row", true, false, TASK_STATUS_TYPE_PENDING, FAULT_NONE, true, false},
        {"runs, but its row has ended", true, true, TASK_STATUS_TYPE_SUCCESS, FAULT_NONE, true, false},
        {"is nobody's", false, true, TASK_STATUS_TYPE_PENDING, FAULT_NONE, false, false},
        {"runs on a disk that is full", true, true, TASK_STATUS_TYPE_PENDING, FAULT_DISK_FULL, true, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct ref ref = table[i].row ? make_in(table[i].status) : ref_new();
        make_in(TASK_STATUS_TYPE_PENDING);
        struct ref others[] = {ref_new(), ref_new()};
        task_running(trial.server.tasks, others[0]);
        const _Atomic bool *flag = table[i].runs ? task_running(trial.server.tasks, ref) : NULL;
        task_running(trial.server.tasks, others[1]);
        disk.next = table[i].fault;
        cr_assert_eq(task_cancel(&trial.server, ref), table[i].wanted, "%s", table[i].what);
        disk.next = FAULT_NONE;
        cr_assert_eq(flag && *flag, table[i].wanted, "%s", table[i].what);
        const struct task_row *task = now(ref);
        cr_assert_eq(task && task->current_operations, table[i].shown, "%s", table[i].what);
        task_ended(trial.server.tasks, others[0]);
        if (table[i].runs)
            task_ended(trial.server.tasks, ref);
        task_ended(trial.server.tasks, ref_new());
        cr_assert_not(task_is_running(trial.server.tasks, ref));
        cr_assert(task_is_running(trial.server.tasks, others[1])); /* left to the server's end */
    }
}

Test(tasks, several_uploads_share_one)
{
    struct ref ref = make_in(TASK_STATUS_TYPE_PENDING);
    const _Atomic bool *first = task_running(trial.server.tasks, ref);
    cr_assert_eq(task_running(trial.server.tasks, ref), first);
    task_ended(trial.server.tasks, ref);
    cr_assert(task_is_running(trial.server.tasks, ref));
    task_ended(trial.server.tasks, ref);
    cr_assert_not(task_is_running(trial.server.tasks, ref));
}

Test(tasks, progress)
{
    static const struct {
        const char *what;
        bool runs;
        enum task_status_type status;
        double told, shown;
    } table[] = {
        {"half", true, TASK_STATUS_TYPE_PENDING, 0.5, 0.5},
        {"less than nothing", true, TASK_STATUS_TYPE_PENDING, -1, 0},
        {"more than all", true, TASK_STATUS_TYPE_PENDING, 2, 1},
        {"the same", true, TASK_STATUS_TYPE_PENDING, 0, 0},
        {"over", true, TASK_STATUS_TYPE_SUCCESS, 0.5, 0},
        {"nobody's", false, TASK_STATUS_TYPE_PENDING, 0.5, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct ref ref = make_in(table[i].status);
        if (table[i].runs)
            task_running(trial.server.tasks, ref);
        int64_t begun = clock_mono_ms();
        task_progress(&trial.server, ref, table[i].told);
        task_progress(&trial.server, ref, 0.25);
        bool soon = clock_mono_ms() < begun + 100; /* then the second word was dropped */
        commit(store_begin(trial.server.store));   /* what was told before is published */
        if (soon)
            cr_assert_float_eq(now(ref)->progress, table[i].shown, 1e-9, "%s", table[i].what);
        if (table[i].runs)
            task_ended(trial.server.tasks, ref);
    }
    struct ref gone = ref_new();
    task_running(trial.server.tasks, gone);
    task_progress(&trial.server, gone, 0.5); /* has no row */
    task_ended(trial.server.tasks, gone);
}

Test(tasks, belong_to_a_session_and_to_who_logged_in)
{
    AUTO_SESSION struct session *one = trial_session(&trial, ROLE_VM_OPERATOR);
    AUTO_SESSION struct session *again = trial_session(&trial, ROLE_VM_OPERATOR);
    AUTO_SESSION struct session *other = trial_session(&trial, ROLE_VM_ADMIN);
    struct session nobody = {.user = (char[]){""}, .sid = (char[]){""}};
    struct session member = {.user = (char[]){"u"}, .sid = (char[]){"S-1"}, .ref = ref_new()};
    struct ref parent = make_in(TASK_STATUS_TYPE_PENDING);
    const struct task_spec spec = {.label = "t", .description = "", .owner = one, .parent = parent};
    const struct task_spec lost = {.label = "t", .description = "", .owner = &member, .parent = ref_new()};
    struct ref ref = make(&spec), of_member = make(&lost);
    cr_assert(ref_eq(now(ref)->subtask_of, parent));
    cr_assert(ref_is_null(now(of_member)->subtask_of));
    cr_assert(ref_is_null(now(of_member)->session));
    cr_assert(task_is_own(now(ref), one));
    cr_assert(task_is_own(now(ref), again));
    cr_assert_not(task_is_own(now(ref), other));
    cr_assert_not(task_is_own(now(ref), &nobody));
    cr_assert(task_is_own(now(of_member), &member));
    session_close(&trial.server, one);
    session_close(&trial.server, again);
    session_close(&trial.server, other);
}

Test(tasks, what_a_restart_has_to_know)
{
    struct ref ref = make_in(TASK_STATUS_TYPE_PENDING), vdi = ref_new(), host = ref_new();
    const struct ref targets[] = {ref, REF_NULL, ref_new()};
    static const char create[] = "VDI.create", start_vm[] = "VM.start";
    const struct method_desc *methods[] = {method_find(create, sizeof(create) - 1),
                                           method_find(start_vm, sizeof(start_vm) - 1), NULL};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        for (size_t k = 0; k < ARRAY_LEN(methods); k++) {
            struct call call = {.task = targets[i], .method = methods[k]};
            struct tx *tx = store_begin(trial.server.store);
            task_note_agent(tx, targets[i], host, "id", "disk_create", "key");
            task_note_made(tx, &call, vdi, "the-uuid");
            commit(tx);
            if (i > 0)
                continue;
            const struct str_map *work = now(ref)->work;
            AUTO_FREE char *xml = xasprintf("<value>%s</value>", REF_TEXT(vdi));
            cr_assert_str_eq(str_map_get(work, TASK_WORK_AGENT), "id");
            if (k == 0)
                cr_assert_str_eq(str_map_get(work, TASK_WORK_DONE), xml);
            else
                cr_assert_not_null(str_map_get(work, TASK_WORK_MADE "the-uuid"));
        }
    struct call call = {.task = ref, .method = methods[1]};
    struct tx *tx = store_begin(trial.server.store);
    task_note_done(tx, &call, REF_NULL);
    commit(tx);
    cr_assert_str_eq(str_map_get(now(ref)->work, TASK_WORK_DONE), "<value></value>");
}

/* Changes of tasks alone never wait for the disk, nor fail with it; others do, and say so. */
Test(tasks, and_a_disk_that_fails)
{
    static const struct {
        enum fault fault;
        const char *words;
    } table[] = {{FAULT_DISK_FULL, "disk is full"}, {FAULT_IO, "could not be written"}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_ANSWER struct trial_answer made = {0}, answer = {0};
        trial_call(&trial, trial.root, "network.create",
                   json_pack("[{s:s,s:{}}]", "name_label", "n", "other_config"), &made);
        cr_assert_not(made.failed, "%s", made.code);
        json_t *network = json_loads(made.json, JSON_DECODE_ANY, NULL);
        disk.next = table[i].fault;
        trial_call(&trial, trial.root, "network.set_name_label", json_pack("[Os]", network, "new"), &answer);
        cr_assert_str_eq(answer.code, "INTERNAL_ERROR");
        cr_assert_not_null(strstr(answer.params[0], table[i].words), "%s", answer.params[0]);
        tasks_sweep(&trial.server);
        AUTO_ANSWER struct trial_answer async = {0};
        trial_call(&trial, trial.root, "Async.network.destroy", json_pack("[O]", network), &async);
        cr_assert_not(async.failed, "%s", async.code);
        disk.next = FAULT_NONE;
        json_decref(network);
    }
}

static void rename_networks(struct tx *tx, void *arg)
{
    int *tries = arg;
    if (++*tries == 11)
        disk.next = FAULT_NONE;
    str_assign(&network_row_mut(tx_create(tx, CLASS_network))->name_label, "insisted");
}

Test(tasks, ends_are_insisted_on)
{
    int tries = 0;
    disk.next = FAULT_IO;
    server_insist(&trial.server, rename_networks, &tries);
    cr_assert_eq(tries, 11);
    disk.next = FAULT_IO;
    trial.server.closing = true; /* then what is in memory only ends with it */
    tries = 11;
    server_insist(&trial.server, rename_networks, &tries);
    cr_assert_gt(tries, 12);
    trial.server.closing = false;
}

/* ---- a failure that says nothing ---- */

static sem_t ended;

static void expect_words(struct call *call)
{
    cr_expect(call->failed);
    cr_expect_str_eq(call->err.code, "INTERNAL_ERROR");
    cr_expect(strstr(call->err.params[0], "network.create failed"), "%s", call->err.params[0]);
    call_free(call);
    sem_post(&ended);
}

static void end_nameless(void (*finish)(struct call *, int))
{
    static const char name[] = "network.create";
    struct call *call = call_new(&trial.server, name, NULL, false, "127.0.0.1", expect_words);
    call->method = method_find(name, sizeof(name) - 1);
    call->session = session_ref(trial.root);
    call->task = make_in(TASK_STATUS_TYPE_PENDING);
    task_running(trial.server.tasks, call->task);
    sem_init(&ended, 0, 0);
    finish(call, -1);
    while (sem_wait(&ended) != 0)
        ;
    sem_destroy(&ended);
}

/* A handler that fails without an error is a defect: told as one, and found where assertions are on. */
#ifdef NDEBUG
Test(tasks, a_failure_without_an_error_is_a_defect)
{
    end_nameless(call_finish);
    end_nameless(work_end_taken);
}
#else
Test(tasks, a_failure_without_an_error_is_found, .signal = SIGABRT)
{
    end_nameless(call_finish);
}
Test(tasks, a_later_failure_without_an_error_is_found, .signal = SIGABRT)
{
    end_nameless(work_end_taken);
}
#endif

/* ---- dragged down by others ---- */

static void *write_network(void *arg)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(trial.server.store);
    tx_create(tx, CLASS_network);
    *(int *)arg = server_commit(tx, &err);
    return NULL;
}

static void *call_step(void *arg)
{
    (*(void (**)(void))arg)();
    return NULL;
}

static uint64_t queued(void)
{
    struct store_stats stats;
    store_stats(trial.server.store, &stats);
    return stats.queued;
}

/* Runs `step`, whose first commit is built on one that cannot be written. */
static void drag_down(void (*step)(void))
{
    pthread_t first, second;
    int rc = 0;
    disk.hold = true;
    pthread_create(&first, NULL, write_network, &rc);
    while (!disk.waiting)
        sched_yield();
    pthread_create(&second, NULL, call_step, &step);
    while (queued() < 2)
        sched_yield();
    disk.next = FAULT_IO;
    disk.hold = false;
    pthread_join(first, NULL);
    disk.next = FAULT_NONE;
    pthread_join(second, NULL);
    cr_assert_eq(rc, -1);
}

static struct ref shared_task, shared_vm;
static struct trial_answer shared_answer;

static void cancel_it(void)
{
    cr_assert(task_cancel(&trial.server, shared_task));
}

static void sweep_all(void)
{
    tasks_sweep(&trial.server);
}

static void open_task(void)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const _Atomic bool *cancel;
    struct ref task;
    cr_assert_eq(gate_task_begin(&trial.server, trial.root, "upload", REF_NULL, &task, &cancel, &err), -1);
    cr_assert_str_eq(err.code, "INTERNAL_ERROR");
}

static void adopt_task(void)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const _Atomic bool *cancel;
    struct ref task;
    cr_assert_eq(gate_task_begin(&trial.server, trial.root, "upload", shared_task, &task, &cancel, &err), -1);
}

static void start_vm(void)
{
    trial_call(&trial, trial.root, "VM.start", json_pack("[sbb]", REF_TEXT(shared_vm), 0, 0), &shared_answer);
}

static void start_vm_async(void)
{
    trial_call(&trial, trial.root, "Async.VM.start", json_pack("[sbb]", REF_TEXT(shared_vm), 0, 0),
               &shared_answer);
}

Test(tasks, what_is_built_on_a_change_that_fails)
{
    static const struct {
        const char *what;
        void (*step)(void);
        bool calls;
    } table[] = {
        {"cancel", cancel_it, false}, {"sweep", sweep_all, false}, {"open", open_task, false},
        {"adopt", adopt_task, false}, {"start", start_vm, true},   {"start, later", start_vm_async, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct task_spec spec = {.label = "t", .description = ""};
        shared_task = make(&spec);
        struct tx *tx = store_begin(trial.server.store);
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        shared_vm = vm->row.ref;
        vm->power_state = VM_POWER_STATE_HALTED;
        commit(tx);
        make_in(TASK_STATUS_TYPE_SUCCESS); /* long ago, so there is something to sweep */
        task_running(trial.server.tasks, shared_task);
        drag_down(table[i].step);
        task_ended(trial.server.tasks, shared_task);
        if (table[i].calls) {
            cr_assert_str_eq(shared_answer.code, "INTERNAL_ERROR", "%s: %s", table[i].what,
                             shared_answer.code);
            trial_answer_done(&shared_answer);
        }
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
        cr_assert_null(vm_row(snapshot_get(snap, CLASS_VM, shared_vm))->current_operations, "%s",
                       table[i].what);
    }
}

/* ---- tasks that clients have made ---- */

Test(tasks, are_adopted_by_their_owner_or_who_may)
{
    AUTO_SESSION struct session *weak = trial_session(&trial, ROLE_VM_OPERATOR);
    AUTO_SESSION struct session *strong = trial_session(&trial, ROLE_POOL_OPERATOR);
    const struct {
        const char *what;
        struct session *owner, *adopter;
        const char *code;
    } table[] = {
        {"own", weak, weak, ""},
        {"another's", strong, weak, "RBAC_PERMISSION_DENIED"},
        {"another's, by role", weak, strong, ""},
        {"nobody's", NULL, weak, "HANDLE_INVALID"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct task_spec spec = {.label = "t", .description = "", .owner = table[i].owner};
        struct ref task = table[i].owner ? make(&spec) : ref_new(), adopted;
        const _Atomic bool *cancel;
        int rc = 0;
        for (int again = 0; again < 2 && rc == 0; again++) {
            rc = gate_task_begin(&trial.server, table[i].adopter, "upload", task, &adopted, &cancel, &err);
            cr_assert_eq(rc, *table[i].code ? -1 : 0, "%s: %s", table[i].what, err.code);
        }
        cr_assert_str_eq(rc < 0 ? err.code : "", table[i].code, "%s", table[i].what);
        if (rc < 0)
            continue;
        cr_assert(ref_eq(adopted, task));
        cr_assert(now(task)->allowed_operations);
        gate_task_end(&trial.server, task, "<value></value>", NULL);
        task_ended(trial.server.tasks, task);
        cr_assert_eq(now(task)->status, TASK_STATUS_TYPE_SUCCESS);
    }
    session_close(&trial.server, weak);
    session_close(&trial.server, strong);
}

static sem_t answered;
static char answer_code[64];

static void note_code(struct call *call)
{
    snprintf(answer_code, sizeof(answer_code), "%s", call->failed ? call->err.code : "");
    call_free(call);
    sem_post(&answered);
}

/* A call that names a task: its own, another's by role, or none that there is. The VM is not there, which
 * comes after. */
Test(tasks, are_named_by_calls)
{
    AUTO_SESSION struct session *weak = trial_session(&trial, ROLE_VM_OPERATOR);
    AUTO_SESSION struct session *strong = trial_session(&trial, ROLE_POOL_OPERATOR);
    const struct {
        struct session *owner, *caller;
        const char *code;
    } table[] = {
        {weak, weak, "HANDLE_INVALID"},
        {strong, weak, "RBAC_PERMISSION_DENIED"},
        {weak, strong, "HANDLE_INVALID"},
        {NULL, weak, "HANDLE_INVALID"},
    };
    sem_init(&answered, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct task_spec spec = {.label = "t", .description = "", .owner = table[i].owner};
        AUTO_JSON json_t *params =
            json_pack("[ssbb]", REF_TEXT(table[i].caller->token), REF_TEXT(ref_new()), 0, 0);
        struct call *call = call_new(&trial.server, "VM.start", params, false, "", note_code);
        call->claim.adopt = table[i].owner ? make(&spec) : ref_new();
        struct ref task = call->claim.adopt;
        gate_run(call);
        while (sem_wait(&answered) != 0)
            ;
        cr_assert_str_eq(answer_code, table[i].code, "row %zu", i);
        if (table[i].owner) /* whoever made it says what becomes of it */
            cr_assert_eq(now(task)->status, TASK_STATUS_TYPE_PENDING, "row %zu", i);
    }
    sem_destroy(&answered);
    session_close(&trial.server, weak);
    session_close(&trial.server, strong);
}

/* ---- small changes, which have no task ---- */

#define CHANGES 20

struct changes {
    sem_t answered;
    _Atomic int failed;
};

static void count_answer(struct call *call)
{
    struct changes *changes = call->reply;
    changes->failed += call->failed && streq(call->err.code, "INTERNAL_ERROR");
    call_free(call);
    sem_post(&changes->answered);
}

static void change(struct changes *changes, struct ref vm, const char *word, int number)
{
    AUTO_FREE char *text = xasprintf("%s %d", word, number);
    AUTO_JSON json_t *params = json_pack("[s, s, s]", REF_TEXT(trial.root->token), REF_TEXT(vm), text);
    struct call *call = call_new(&trial.server, "VM.set_name_description", params, false, "", count_answer);
    call->reply = changes;
    gate_run(call);
}

static bool is_kept(struct ref vm)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    return strncmp(vm_row(snapshot_get(snap, CLASS_VM, vm))->name_description, "kept", 4) == 0;
}

/* More than there are workers (four): while one of them is at the disk, the others hold none, are not
 * answered, and share the next batch with its fate. */
Test(tasks, changes_wait_for_the_disk_without_a_worker)
{
    struct tx *tx = store_begin(trial.server.store);
    struct ref vm = tx_create(tx, CLASS_VM)->ref;
    commit(tx);
    for (int fault = FAULT_NONE; fault <= FAULT_IO; fault++) {
        struct changes changes = {0};
        struct store_stats stats = {0};
        int early;
        sem_init(&changes.answered, 0, 0);
        disk.hold = true;
        change(&changes, vm, fault ? "lost" : "kept", 0);
        while (!disk.waiting)
            sched_yield();
        for (int i = 1; i < CHANGES; i++)
            change(&changes, vm, fault ? "lost" : "kept", i);
        while (stats.queued < CHANGES)
            store_stats(trial.server.store, &stats);
        sem_getvalue(&changes.answered, &early);
        cr_expect_eq(early, 0, "answered before it is durable");
        disk.next = fault;
        disk.hold = false;
        for (int i = 0; i < CHANGES; i++)
            while (sem_wait(&changes.answered) != 0)
                ;
        disk.next = FAULT_NONE;
        cr_expect_eq(changes.failed, fault ? CHANGES : 0, "%d", changes.failed);
        cr_expect(is_kept(vm));
        sem_destroy(&changes.answered);
    }
}
