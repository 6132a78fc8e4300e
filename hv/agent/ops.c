/* Operations by id. Each is written down before it begins and again when it ended (journal.h, in
 * STATE/operations/), so that the same id never acts twice, also over a restart. Those with one key
 * in one queue run one after another. The journal is not synced: it has to outlive this process, and with
 * the host all domains end. */
#include "journal.h"
#include "merger.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define TABLE_SIZE 4096
#define KEEP_SECONDS (36 * 3600)
#define KEEP_MAX 20000
#define BARRED_MAX 1024

struct queue {
    char key[64]; /* "1:<uuid>" */
    struct agent_op *waiting;
    struct agent_op *running;
    struct queue *next;
};

struct ops {
    pthread_mutex_t lock;
    struct agent_op *table[TABLE_SIZE];
    size_t count;
    struct queue *queues;
    struct journal *journal;
    int64_t swept;
    unsigned unread; /* lines of the journal that are no records */
    /* Ids whose server has been told that they did not begin. A request that is still on its way ends with
     * this process, so they are kept nowhere else; the oldest make room. */
    char barred[BARRED_MAX][UUID_TEXT_SIZE];
    size_t barred_count;
};

struct job {
    struct agent *agent;
    struct queue *queue; /* NULL: no queue */
    struct agent_op *op;
};

static unsigned slot_of(const char *id)
{
    unsigned hash = 2166136261u;
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    return hash % TABLE_SIZE;
}

/* ---- the table; with the lock held ---- */

static struct agent_op *table_find(struct ops *ops, const char *id)
{
    struct agent_op *op = ops->table[slot_of(id)];
    while (op && !streq(op->id, id))
        op = op->next_in_table;
    return op;
}

static void table_add(struct ops *ops, struct agent_op *op)
{
    struct agent_op **slot = &ops->table[slot_of(op->id)];
    op->next_in_table = *slot;
    *slot = agent_op_ref(op);
    ops->count++;
}

/* Takes out what the pointer in the table points to. */
static void table_cut(struct ops *ops, struct agent_op **at)
{
    struct agent_op *op = *at;
    *at = op->next_in_table;
    ops->count--;
    journal_drop(ops->journal, &op->place);
    agent_op_unref(op);
}

/* Forgets what ended long ago, and the oldest when there are too many. */
static void sweep(struct ops *ops, int64_t now)
{
    int64_t keep = ops->count > KEEP_MAX ? 600 : KEEP_SECONDS;
    if (now - ops->swept < (ops->count > KEEP_MAX ? 60 : 3600))
        return;
    ops->swept = now;
    for (size_t i = 0; i < TABLE_SIZE; i++)
        for (struct agent_op **at = &ops->table[i]; *at;) {
            if (agent_op_is_over(*at) && now - (*at)->finished >= keep)
                table_cut(ops, at);
            else
                at = &(*at)->next_in_table;
        }
}

static bool is_barred(const struct ops *ops, const char *id)
{
    for (size_t i = 0; i < ops->barred_count && i < BARRED_MAX; i++)
        if (streq(ops->barred[i], id))
            return true;
    return false;
}

/* ---- making ---- */

/* The known operation of that id, if it is the same; else the new one, written down. */
static int admit(struct agent *agent, struct agent_op *fresh, struct agent_op **out, bool *known,
                 struct hv_err *err)
{
    struct ops *ops = agent->ops;
    struct buf text AUTO_BUF = BUF_INIT;
    pthread_mutex_lock(&ops->lock);
    if (is_barred(ops, fresh->id)) {
        pthread_mutex_unlock(&ops->lock);
        log_warn("ops", "a request came too late", "operation", fresh->id, "call", fresh->call->name);
        agent_op_unref(fresh);
        return hv_fail(err, HV_ERR_KIND_SUPERSEDED,
                       "The server was told before that this operation had not begun.");
    }
    struct agent_op *old = table_find(ops, fresh->id);
    if (old)
        agent_op_ref(old);
    else
        table_add(ops, fresh);
    agent_op_write(fresh, &text);
    sweep(ops, fresh->started);
    pthread_mutex_unlock(&ops->lock);
    *known = old != NULL;
    *out = old ? old : fresh;
    if (!old) {
        if (journal_add(ops->journal, &text, &fresh->place) == 0)
            return 0;
        hv_fail(err, errno == ENOSPC ? HV_ERR_KIND_NO_SPACE : HV_ERR_KIND_IO,
                "The host cannot write the operation down: %s", strerror(errno));
        ops_finish(agent, agent_op_ref(fresh), NULL, err);
        agent_op_unref(fresh);
        return -1;
    }
    bool same = old->call == fresh->call && streq(old->args_text, fresh->args_text);
    agent_op_unref(fresh);
    if (same)
        return 0;
    agent_op_unref(old);
    return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "That operation id belongs to another operation.");
}

bool ops_busy(struct agent *agent, const char *domain)
{
    bool busy = false;
    pthread_mutex_lock(&agent->ops->lock);
    for (const struct queue *q = agent->ops->queues; q && !busy; q = q->next)
        busy = q->running && q->running->call->queue == HV_QUEUE_DOMAIN && streq(q->running->key, domain);
    pthread_mutex_unlock(&agent->ops->lock);
    return busy;
}

/* ---- running ---- */

/* What may leave images that nobody needs any more, or let go of ones that could not be merged. */
static bool leaves_images(const struct agent_op *op)
{
    switch ((enum hv_call_id)(op->call - hv_calls)) {
    case HV_CALL_DISK_DESTROY:
    case HV_CALL_DATA_DESTROY:
    case HV_CALL_CHANGES_DISABLE:
    case HV_CALL_SR_ATTACH:
    case HV_CALL_DOMAIN_SNAPSHOT:
    case HV_CALL_DOMAIN_SHUTDOWN:
    case HV_CALL_DOMAIN_HARD_SHUTDOWN:
    case HV_CALL_DOMAIN_SUSPEND:
    case HV_CALL_DISK_UNPLUG:
        return true;
    default:
        return false;
    }
}

static bool runs(const struct domain_info *info)
{
    return info->state == DOMAIN_STATE_RUNNING || info->state == DOMAIN_STATE_PAUSED;
}

/* Does the operation begin on a domain that runs? */
static bool has_domain(struct agent *agent, const struct agent_op *op)
{
    struct domain_info info;
    if (op->call->queue != HV_QUEUE_DOMAIN || agent->driver->info(agent->state, op->key, &info, NULL) < 0)
        return false;
    bool there = runs(&info);
    domain_info_done(&info);
    return there;
}

void ops_blame_end(struct agent *agent, const struct agent_op *op, struct hv_err *err)
{
    struct domain_info info;
    switch (err->kind) {
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_BAD_STATE:
    case HV_ERR_KIND_GUEST:
    case HV_ERR_KIND_DEVICE_MODEL:
    case HV_ERR_KIND_INTERNAL:
        break;
    default:
        return;
    }
    if (agent->driver->info(agent->state, op->key, &info, NULL) < 0) {
        hv_fail(err, HV_ERR_KIND_HALTED, "The domain was ended meanwhile.");
        return;
    }
    bool crashed = info.state == DOMAIN_STATE_CRASHED || info.end_reason == END_REASON_GUEST_CRASH ||
                   info.end_reason == END_REASON_DEVICE_MODEL_DIED ||
                   info.end_reason == END_REASON_HOST_RESTARTED;
    if (!runs(&info))
        hv_fail(err, crashed ? HV_ERR_KIND_CRASHED : HV_ERR_KIND_HALTED, "The domain ended meanwhile. %s",
                info.end_text ? info.end_text : "");
    domain_info_done(&info);
}

static void run_handler(struct agent *agent, struct agent_op *op)
{
    struct hv_err err = {.kind = HV_ERR_KIND_INTERNAL, .text = "It failed without a reason."};
    void *result AUTO_FREE = xcalloc(1, op->call->result->size);
    bool ran = has_domain(agent, op);
    pthread_mutex_lock(&agent->ops->lock);
    op->state = OPERATION_STATE_RUNNING;
    pthread_mutex_unlock(&agent->ops->lock);
    wire_init(op->call->result, result);
    int outcome;
    if (atomic_load(&op->cancel))
        outcome = hv_fail(&err, HV_ERR_KIND_CANCELLED, "It was cancelled before it began.");
    else if (clock_mono_ms() >= op->deadline.mono_ms)
        outcome = hv_fail(&err, HV_ERR_KIND_DEADLINE, "Others before it took until its deadline.");
    else {
        if (op->call->queue == HV_QUEUE_DOMAIN)
            merger_yield_domain(agent->merger, op->key);
        failpoint_of("agent-begun", op->call->name);
        outcome = agent_handlers[op->call - hv_calls](agent, op, op->args, result, &err);
        if (outcome < 0 && ran)
            ops_blame_end(agent, op, &err);
        failpoint_of("agent-done", op->call->name);
    }
    if (leaves_images(op))
        merger_wake(agent->merger);
    ops_finish(agent, op, outcome == 0 ? result : NULL, &err);
    wire_done(op->call->result, result);
}

static struct queue *queue_for(struct ops *ops, const struct agent_op *op)
{
    char key[64];
    snprintf(key, sizeof(key), "%d:%s", (int)op->call->queue, op->key);
    for (struct queue *q = ops->queues; q; q = q->next)
        if (streq(q->key, key))
            return q;
    struct queue *q = xcalloc(1, sizeof(*q));
    snprintf(q->key, sizeof(q->key), "%s", key);
    q->next = ops->queues;
    ops->queues = q;
    return q;
}

static void drop_queue(struct ops *ops, struct queue *queue)
{
    for (struct queue **at = &ops->queues; *at; at = &(*at)->next)
        if (*at == queue) {
            *at = queue->next;
            break;
        }
    free(queue);
}

static void run_job(void *arg)
{
    struct job *job = arg;
    struct ops *ops = job->agent->ops;
    for (struct agent_op *op = job->op; op;) {
        run_handler(job->agent, op);
        op = NULL;
        if (!job->queue)
            break;
        pthread_mutex_lock(&ops->lock);
        op = job->queue->running = job->queue->waiting;
        if (op)
            job->queue->waiting = op->next_in_queue;
        else
            drop_queue(ops, job->queue);
        pthread_mutex_unlock(&ops->lock);
    }
    free(job);
}

/* A hard shutdown goes before all that waits; what waits for the guest, or saves it, gives up. */
static bool overtakes(const struct agent_op *op)
{
    return op->call == &hv_calls[HV_CALL_DOMAIN_HARD_SHUTDOWN];
}

static bool gives_way(const struct agent_op *op)
{
    switch ((enum hv_call_id)(op->call - hv_calls)) {
    case HV_CALL_DOMAIN_SHUTDOWN:
    case HV_CALL_DOMAIN_REBOOT:
    case HV_CALL_DOMAIN_ANEW:
    case HV_CALL_DOMAIN_SUSPEND:
    case HV_CALL_DOMAIN_RESUME:
    case HV_CALL_DOMAIN_SNAPSHOT:
    case HV_CALL_DOMAIN_RECEIVE:
    case HV_CALL_DOMAIN_SEND:
    case HV_CALL_DISK_MOVE:
    case HV_CALL_DISK_UNPLUG:
    case HV_CALL_NIC_UNPLUG:
    case HV_CALL_DOMAIN_SET_VCPUS:
        return true;
    default:
        return false;
    }
}

static void enqueue(struct ops *ops, struct queue *queue, struct agent_op *op)
{
    struct agent_op **at = &queue->waiting;
    if (overtakes(op)) {
        if (gives_way(queue->running))
            atomic_store(&queue->running->cancel, true);
    } else {
        while (*at)
            at = &(*at)->next_in_queue;
    }
    op->next_in_queue = *at;
    *at = op;
    (void)ops;
}

static void refuse_job(struct agent *agent, struct job *job)
{
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_IN_USE, "The host has too many operations at once; try again later.");
    struct agent_op *op = job->op;
    while (op) {
        ops_finish(agent, op, NULL, &err);
        op = NULL;
        if (!job->queue)
            break;
        pthread_mutex_lock(&agent->ops->lock);
        op = job->queue->running = job->queue->waiting;
        if (op)
            job->queue->waiting = op->next_in_queue;
        else
            drop_queue(agent->ops, job->queue);
        pthread_mutex_unlock(&agent->ops->lock);
    }
    free(job);
}

/* Takes one count of the op. */
static void dispatch(struct agent *agent, struct agent_op *op)
{
    struct ops *ops = agent->ops;
    struct job *job = xcalloc(1, sizeof(*job));
    *job = (struct job){.agent = agent, .op = op};
    if (op->call->queue != HV_QUEUE_NONE) {
        pthread_mutex_lock(&ops->lock);
        struct queue *queue = queue_for(ops, op);
        bool busy = queue->running != NULL;
        if (busy)
            enqueue(ops, queue, op);
        else
            queue->running = op;
        pthread_mutex_unlock(&ops->lock);
        job->queue = queue;
        if (busy) {
            free(job);
            return;
        }
    }
    if (worker_submit(agent->workers, run_job, job) < 0)
        refuse_job(agent, job);
}

int ops_begin(struct agent *agent, const char *id, const struct hv_call_desc *call, void *args,
              int64_t timeout_ms, struct agent_op **out, bool *known, struct hv_err *err)
{
    return admit(agent, agent_op_new(id, call, args, timeout_ms), out, known, err);
}

int ops_submit(struct agent *agent, const char *id, const struct hv_call_desc *call, void *args,
               int64_t timeout_ms, struct agent_op **out, struct hv_err *err)
{
    bool known;
    if (ops_begin(agent, id, call, args, timeout_ms, out, &known, err) < 0)
        return -1;
    if (!known)
        dispatch(agent, agent_op_ref(*out));
    return 0;
}

void ops_resume(struct agent *agent, struct agent_op *op)
{
    dispatch(agent, agent_op_ref(op));
}

void ops_finish(struct agent *agent, struct agent_op *op, const void *result, const struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT, record AUTO_BUF = BUF_INIT;
    if (result)
        wire_encode(op->call->result, result, &text);
    pthread_mutex_lock(&agent->ops->lock);
    op->finished = clock_unix_seconds();
    if (result) {
        op->result_text = buf_take(&text);
        op->progress = 1;
    } else {
        op->err = *err;
    }
    op->state = result ? OPERATION_STATE_DONE : OPERATION_STATE_FAILED;
    agent_op_write(op, &record);
    pthread_mutex_unlock(&agent->ops->lock);
    if (journal_add(agent->ops->journal, &record, &op->place) < 0)
        log_warn("ops", "the end of an operation cannot be written down", "operation", op->id, "error",
                 strerror(errno));
    if (!result)
        log_info("ops", "an operation failed", "operation", op->id, "call", op->call->name, "key", op->key,
                 "kind", hv_err_kind_name(err->kind), "text", err->text);
    events_operation(agent, op);
    waiters_wake(agent->waiters);
    agent_op_unref(op);
}

/* ---- asking ---- */

struct agent_op *ops_find(struct agent *agent, const char *id)
{
    pthread_mutex_lock(&agent->ops->lock);
    struct agent_op *op = table_find(agent->ops, id);
    if (op)
        agent_op_ref(op);
    pthread_mutex_unlock(&agent->ops->lock);
    return op;
}

struct agent_op *ops_find_or_bar(struct agent *agent, const char *id)
{
    struct ops *ops = agent->ops;
    pthread_mutex_lock(&ops->lock);
    struct agent_op *op = table_find(ops, id);
    if (op)
        agent_op_ref(op);
    else if (!is_barred(ops, id))
        snprintf(ops->barred[ops->barred_count++ % BARRED_MAX], UUID_TEXT_SIZE, "%s", id);
    pthread_mutex_unlock(&ops->lock);
    return op;
}

void ops_cancel(struct agent *agent, const char *id)
{
    struct agent_op *op = ops_find(agent, id);
    if (op)
        atomic_store(&op->cancel, true);
    agent_op_unref(op);
}

/* So that a server which wants none of these disks any more finds who is at it. */
static void list_made(const struct agent_op *op, struct operation_status *status)
{
    const char *disk = NULL;
    const struct hv_domain_snapshot_args *snapshot = NULL;
    switch ((enum hv_call_id)(op->call - hv_calls)) {
    case HV_CALL_DISK_CREATE:
        disk = ((const struct hv_disk_create_args *)op->args)->disk;
        break;
    case HV_CALL_DISK_COPY:
        disk = ((const struct hv_disk_copy_args *)op->args)->new_disk;
        break;
    case HV_CALL_DISK_CLONE:
        disk = ((const struct hv_disk_clone_args *)op->args)->new_disk;
        break;
    case HV_CALL_DISK_IMPORT:
        disk = ((const struct hv_disk_import_args *)op->args)->disk;
        break;
    case HV_CALL_DOMAIN_SNAPSHOT:
        snapshot = op->args;
        disk = snapshot->memory_disk;
        break;
    default:
        return;
    }
    if (disk && *disk)
        wire_strings_add(&status->makes, &status->makes_count, disk);
    for (size_t i = 0; snapshot && i < snapshot->disks_count; i++)
        wire_strings_add(&status->makes, &status->makes_count, snapshot->disks[i].new_disk);
}

static void fill_status(const struct agent_op *op, struct operation_status *status)
{
    str_assign(&status->id, op->id);
    str_assign(&status->call, op->call->name);
    str_assign(&status->key, op->key);
    list_made(op, status);
    status->state = op->state;
    status->progress = op->progress;
    status->started = op->started;
    status->finished = op->finished;
    if (op->state == OPERATION_STATE_FAILED) {
        status->error = op->err.kind;
        str_assign(&status->error_text, op->err.text);
    }
}

void ops_status(struct agent *agent, struct agent_op *op, struct operation_status *status)
{
    operation_status_init(status);
    pthread_mutex_lock(&agent->ops->lock);
    fill_status(op, status);
    pthread_mutex_unlock(&agent->ops->lock);
}

void ops_list(struct agent *agent, struct hv_operation_list_result *result)
{
    pthread_mutex_lock(&agent->ops->lock);
    for (size_t i = 0; i < TABLE_SIZE; i++)
        for (struct agent_op *op = agent->ops->table[i]; op; op = op->next_in_table)
            if (!agent_op_is_over(op))
                fill_status(op, hv_operation_list_result_add_operations(result));
    pthread_mutex_unlock(&agent->ops->lock);
}

void agent_op_progress(struct agent *agent, struct agent_op *op, double fraction)
{
    pthread_mutex_lock(&agent->ops->lock);
    bool step = (int)(fraction * 20) > (int)(op->progress * 20);
    if (fraction > op->progress)
        op->progress = fraction < 1 ? fraction : 1;
    pthread_mutex_unlock(&agent->ops->lock);
    if (step)
        events_operation(agent, op);
}

/* ---- after a restart ---- */

static void table_remove(struct ops *ops, struct agent_op *op)
{
    struct agent_op **at = &ops->table[slot_of(op->id)];
    while (*at != op)
        at = &(*at)->next_in_table;
    table_cut(ops, at);
}

/* A later record of an operation is in place of the earlier one. */
static void take_record(void *arg, const char *line, size_t len, struct journal_place place)
{
    struct ops *ops = arg;
    struct agent_op *op = agent_op_read(line, len), *before = op ? table_find(ops, op->id) : NULL;
    if (before)
        table_remove(ops, before);
    ops->unread += !op;
    if (!op || (agent_op_is_over(op) && clock_unix_seconds() - op->finished > KEEP_SECONDS)) {
        journal_drop(ops->journal, &place);
    } else {
        op->place = place;
        table_add(ops, op);
    }
    agent_op_unref(op);
}

int ops_open(struct agent *agent, struct hv_err *err)
{
    struct ops *ops = xcalloc(1, sizeof(*ops));
    pthread_mutex_init(&ops->lock, NULL);
    char *folder AUTO_FREE = agent_path(agent, "operations");
    ops->swept = clock_unix_seconds();
    agent->ops = ops;
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The folder of operations cannot be made: %s", strerror(errno));
    if (journal_open(folder, take_record, ops, &ops->journal) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The journal of operations cannot be read: %s", strerror(errno));
    if (ops->unread > 0)
        log_warn("ops", "records of operations cannot be read, and are dropped", "count",
                 LOG_INT(ops->unread));
    return 0;
}

void ops_recover(struct agent *agent)
{
    struct ops *ops = agent->ops;
    struct agent_op **open = NULL;
    size_t count = 0;
    for (size_t i = 0; i < TABLE_SIZE; i++)
        for (struct agent_op *op = ops->table[i]; op; op = op->next_in_table)
            if (!agent_op_is_over(op)) {
                open = xreallocarray(open, count + 1, sizeof(struct agent_op *));
                open[count++] = agent_op_ref(op);
            }
    for (size_t i = 0; i < count; i++) {
        recover_operation(agent, open[i]);
        agent_op_unref(open[i]);
    }
    free(open);
}
