/* Records of tasks and the flags of those that run. */
#include "task.h"

#include "../rules/pool.h"
#include "../server.h"
#include "session.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>

#define KEEP_FINISHED_SECONDS (65 * 60)
#define KEEP_PENDING_SECONDS (24 * 3600)
#define KEEP_COUNT 200
#define PROGRESS_PERIOD_MS 100

struct running {
    struct ref ref;
    unsigned users; /* several uploads may have adopted one task of a client */
    _Atomic bool cancel;
    int64_t progress_at_ms;
    struct running *next;
};

struct tasks {
    pthread_mutex_t lock; /* guards the list */
    struct running *running;
};

struct tasks *tasks_new(void)
{
    struct tasks *t = xcalloc(1, sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    return t;
}

void tasks_free(struct tasks *t)
{
    if (!t)
        return;
    while (t->running) {
        struct running *gone = t->running;
        t->running = gone->next;
        free(gone);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static struct running *find_locked(struct tasks *t, struct ref task)
{
    struct running *at = t->running;
    while (at && !ref_eq(at->ref, task))
        at = at->next;
    return at;
}

const _Atomic bool *task_running(struct tasks *t, struct ref task)
{
    pthread_mutex_lock(&t->lock);
    struct running *r = find_locked(t, task);
    if (!r) {
        r = xcalloc(1, sizeof(*r));
        r->ref = task;
        r->next = t->running;
        t->running = r;
    }
    r->users++;
    pthread_mutex_unlock(&t->lock);
    return &r->cancel;
}

void task_ended(struct tasks *t, struct ref task)
{
    pthread_mutex_lock(&t->lock);
    for (struct running **at = &t->running; *at; at = &(*at)->next)
        if (ref_eq((*at)->ref, task)) {
            struct running *gone = *at;
            if (--gone->users == 0) {
                *at = gone->next;
                free(gone);
            }
            break;
        }
    pthread_mutex_unlock(&t->lock);
}

bool task_is_running(struct tasks *t, struct ref task)
{
    pthread_mutex_lock(&t->lock);
    bool running = find_locked(t, task) != NULL;
    pthread_mutex_unlock(&t->lock);
    return running;
}

static bool request_cancel(struct tasks *t, struct ref task)
{
    pthread_mutex_lock(&t->lock);
    struct running *r = find_locked(t, task);
    if (r)
        r->cancel = true;
    pthread_mutex_unlock(&t->lock);
    return r != NULL;
}

bool task_is_pending(const struct task_row *task)
{
    return task->status == TASK_STATUS_TYPE_PENDING || task->status == TASK_STATUS_TYPE_CANCELLING;
}

bool task_cancel(struct server *server, struct ref ref)
{
    if (!request_cancel(server->tasks, ref))
        return false;
    struct tx *tx = store_begin(server->store);
    const struct task_row *task = task_row(tx_get(tx, CLASS_task, ref));
    if (!task || !task_is_pending(task)) {
        tx_abort(tx);
        return true;
    }
    /* The key is the task of the call that cancels, which has no row. */
    str_map_put(&task_row_mut(tx_edit(tx, CLASS_task, ref))->current_operations, REF_TEXT(ref_new()),
                "cancel");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) < 0)
        log_warn("task", "that a task is being cancelled could not be shown", "task", REF_TEXT(ref));
    return true;
}

/* ---- rows ---- */

/* Outlives the session. Not the subject: a group is one for all who are in it. */
static const char *owner_of(const struct session *session)
{
    return *session->sid ? session->sid : session->user;
}

bool task_is_own(const struct task_row *task, const struct session *session)
{
    const char *owner = owner_of(session);
    return ref_eq(task->session, session->ref) || (*owner && streq(task->owner, owner));
}

struct ref task_create(struct tx *tx, const struct task_spec *spec)
{
    struct row *row = tx_create(tx, CLASS_task);
    struct task_row *task = task_row_mut(row);
    str_assign(&task->name_label, spec->label);
    str_assign(&task->name_description, spec->description);
    task->status = TASK_STATUS_TYPE_PENDING;
    task->created = clock_unix_seconds();
    str_assign(&task->type, "<none/>");
    task->resident_on = pool_coordinator(tx);
    if (spec->owner) {
        str_assign(&task->owner, owner_of(spec->owner));
        if (tx_get(tx, CLASS_session, spec->owner->ref))
            task->session = spec->owner->ref;
    }
    if (!ref_is_null(spec->parent) && tx_get(tx, CLASS_task, spec->parent))
        task->subtask_of = spec->parent;
    if (spec->other_config)
        str_map_assign(&task->other_config, str_map_ref(spec->other_config));
    if (spec->mode)
        str_map_put(&task->work, TASK_WORK_MODE, spec->mode);
    if (spec->message)
        str_map_put(&task->work, TASK_WORK_MESSAGE, spec->message);
    if (spec->cancellable)
        task->allowed_operations = (uint64_t)1 << TASK_ALLOWED_OPERATIONS_CANCEL;
    return row->ref;
}

/* Words of an error as a set keeps no order: error_info is kept as text in the order of the wire. */
static const struct str_set *error_words(const struct api_err *err)
{
    const char *words[1 + API_ERR_MAX_PARAMS];
    words[0] = err->code;
    for (size_t i = 0; i < err->param_count; i++)
        words[1 + i] = err->params[i];
    return str_list_new(words, 1u + err->param_count);
}

/* A failure as clients of the classic server read it: the place where it arose. */
static void set_backtrace(struct task_row *task)
{
    const char *message = str_map_get(task->work, TASK_WORK_MESSAGE);
    AUTO_STR const char *text =
        str_newf("(((process poold)(filename %s)(line 0)))", message ? message : "task");
    str_assign(&task->backtrace, text);
}

static bool to_be_destroyed(const struct task_row *task)
{
    const char *operation = str_map_get(task->current_operations, "task");
    return operation && streq(operation, "destroy");
}

void task_complete(struct tx *tx, struct ref ref, const char *result_xml, const struct api_err *err)
{
    const struct task_row *now = task_row(tx_get(tx, CLASS_task, ref));
    if (!now || !task_is_pending(now))
        return;
    if (to_be_destroyed(now)) {
        tx_delete(tx, CLASS_task, ref);
        return;
    }
    struct task_row *task = task_row_mut(tx_edit(tx, CLASS_task, ref));
    task->allowed_operations = 0;
    str_map_assign(&task->current_operations, NULL);
    task->progress = 1.0;
    task->finished = clock_unix_seconds();
    if (!err) {
        str_assign(&task->result, result_xml);
        task->status = TASK_STATUS_TYPE_SUCCESS;
    } else if (streq(err->code, "TASK_CANCELLED")) {
        const char *words[] = {err->code, REF_TEXT(ref)};
        str_set_assign(&task->error_info, str_list_new(words, ARRAY_LEN(words)));
        task->status = TASK_STATUS_TYPE_CANCELLED;
    } else {
        str_set_assign(&task->error_info, error_words(err));
        task->status = TASK_STATUS_TYPE_FAILURE;
    }
    if (err)
        set_backtrace(task);
    str_map_assign(&task->work, NULL);
}

static void ignore_result(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    (void)arg;
    (void)generation;
    if (result < 0)
        log_warn("task", "the progress of a task could not be recorded", "cause", err->text);
}

void task_progress(struct server *server, struct ref ref, double fraction)
{
    struct tasks *t = server->tasks;
    pthread_mutex_lock(&t->lock);
    struct running *r = find_locked(t, ref);
    int64_t now = clock_mono_ms();
    bool due = r && now >= r->progress_at_ms;
    if (due)
        r->progress_at_ms = now + PROGRESS_PERIOD_MS;
    pthread_mutex_unlock(&t->lock);
    if (!due)
        return;
    struct tx *tx = store_begin(server->store);
    const struct task_row *row = task_row(tx_get(tx, CLASS_task, ref));
    if (!row || row->status != TASK_STATUS_TYPE_PENDING || row->progress == fraction) {
        tx_abort(tx);
        return;
    }
    task_row_mut(tx_edit(tx, CLASS_task, ref))->progress = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    tx_commit_async(tx, ignore_result, NULL);
}

struct old_task {
    struct ref ref;
    int64_t finished;
};
struct sweep {
    struct tasks *tasks;
    struct old_task *finished;
    struct ref *expired;
    size_t finished_count, expired_count;
    int64_t now;
};

static bool sweep_row(const struct row *row, void *arg)
{
    struct sweep *sweep = arg;
    const struct task_row *task = task_row(row);
    bool pending = task_is_pending(task);
    if (pending && task_is_running(sweep->tasks, row->ref))
        return true;
    int64_t limit = pending ? task->created + KEEP_PENDING_SECONDS : task->finished + KEEP_FINISHED_SECONDS;
    if (sweep->now > limit)
        sweep->expired[sweep->expired_count++] = row->ref;
    else if (!pending)
        sweep->finished[sweep->finished_count++] = (struct old_task){row->ref, task->finished};
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct old_task *x = a, *y = b;
    return x->finished < y->finished ? -1 : x->finished > y->finished;
}

void tasks_sweep(struct server *server)
{
    struct tx *tx = store_begin(server->store);
    size_t count = tx_count(tx, CLASS_task);
    AUTO_FREE struct old_task *finished = xcalloc(count + 1, sizeof(*finished));
    AUTO_FREE struct ref *expired = xcalloc(count + 1, sizeof(*expired));
    struct sweep sweep = {
        .tasks = server->tasks, .finished = finished, .expired = expired, .now = clock_unix_seconds()};
    tx_each(tx, CLASS_task, sweep_row, &sweep);
    for (size_t i = 0; i < sweep.expired_count; i++)
        tx_delete(tx, CLASS_task, expired[i]);
    size_t left = count - sweep.expired_count;
    if (left > KEEP_COUNT) {
        qsort(finished, sweep.finished_count, sizeof(*finished), by_age);
        for (size_t i = 0; i < sweep.finished_count && left > KEEP_COUNT; i++, left--)
            tx_delete(tx, CLASS_task, finished[i].ref);
    }
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) < 0)
        log_warn("task", "old tasks could not be removed");
}

/* ---- what a restart has to know ---- */

static const struct str_map **work_of(struct tx *tx, struct ref task)
{
    if (ref_is_null(task) || !tx_get(tx, CLASS_task, task))
        return NULL;
    return &task_row_mut(tx_edit(tx, CLASS_task, task))->work;
}

void task_note_agent(struct tx *tx, struct ref task, struct ref host, const char *id, const char *call,
                     const char *key)
{
    const struct str_map **work = work_of(tx, task);
    if (!work)
        return;
    str_map_put(work, TASK_WORK_HOST, REF_TEXT(host));
    str_map_put(work, TASK_WORK_AGENT, id);
    str_map_put(work, TASK_WORK_CALL, call);
    str_map_put(work, TASK_WORK_KEY, key);
    tx_sync(tx);
}

void task_note_away(struct tx *tx, struct ref task, const char *url, const char *what)
{
    const struct str_map **work = work_of(tx, task);
    if (!work)
        return;
    AUTO_STR const char *key = str_newf(TASK_WORK_AWAY "%s", what);
    str_map_put(work, key, url);
    tx_sync(tx);
}

void task_note_done(struct tx *tx, const struct call *call, struct ref result)
{
    const struct str_map **work = call->method ? work_of(tx, call->task) : NULL; /* else: within a transfer */
    if (!work)
        return;
    AUTO_STR const char *xml = str_newf("<value>%s</value>", ref_is_null(result) ? "" : REF_TEXT(result));
    str_map_put(work, TASK_WORK_DONE, xml);
}

void task_note_made(struct tx *tx, const struct call *call, struct ref vdi, const char *uuid)
{
    const struct str_map **work = work_of(tx, call->task);
    if (!work)
        return;
    if (call->method && call->method->cls == CLASS_VDI) {
        task_note_done(tx, call, vdi);
        return;
    }
    AUTO_STR const char *key = str_newf(TASK_WORK_MADE "%s", uuid);
    str_map_put(work, key, "");
}
