/* The lock guards the state; nothing is called with it held. Whoever finds that nothing runs and nothing is
 * left ends the sequence. It is counted by each call that runs, by the timer and by whoever works on it. */
#include "sequence.h"

#include "gate/gate.h"
#include "gate/session.h"
#include "gate/task.h"
#include "http/doors.h"
#include "server.h"
#include "timers.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define AT_ONCE 16
#define TICK_MS 250

struct sequence {
    struct sequence_spec spec;
    char *peer;
    struct sequence_step *steps;
    size_t count;

    _Atomic int refs;
    pthread_mutex_t lock; /* guards what follows */
    size_t next;          /* the first that was not begun */
    size_t running;
    int64_t place_delay_s; /* of the place that is under way */
    int64_t wait_until_ms; /* clock_mono_ms; before the next place */
    bool waiting, stopped, ended, ticking;
    struct sequence_result result;
    char first_code[64];
};

/* A call of a step. */
struct turn {
    struct sequence *sequence;
    const struct sequence_step *step;
};

static void advance(struct sequence *q);

static int by_order(const void *a, const void *b)
{
    const struct sequence_step *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return ref_cmp(x->object, y->object);
}

static struct sequence *hold(struct sequence *q)
{
    atomic_fetch_add(&q->refs, 1);
    return q;
}

static void release(struct sequence *q)
{
    if (atomic_fetch_sub(&q->refs, 1) != 1)
        return;
    session_unref(q->spec.session);
    pthread_mutex_destroy(&q->lock);
    free(q->peer);
    free(q->steps);
    free(q);
}

/* Asks the calls that run for the sequence's task to stop. */
static bool cancel_child(const struct row *row, void *arg)
{
    const struct sequence *q = arg;
    const struct task_row *task = task_row(row);
    if (ref_eq(task->subtask_of, q->spec.task) && task_is_pending(task))
        task_cancel(q->spec.server, row->ref);
    return true;
}

static void cancel_children(struct sequence *q)
{
    if (ref_is_null(q->spec.task))
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(q->spec.server->store);
    snapshot_each(snap, CLASS_task, cancel_child, q);
}

/* ---- one call ---- */

static void count_one(struct sequence *q, const char *code)
{
    pthread_mutex_lock(&q->lock);
    q->running--;
    if (*code && q->result.failed++ == 0)
        snprintf(q->first_code, sizeof(q->first_code), "%s", code);
    q->result.done += !*code;
    double fraction = (double)(q->result.done + q->result.failed) / (double)q->count;
    pthread_mutex_unlock(&q->lock);
    if (!ref_is_null(q->spec.task))
        task_progress(q->spec.server, q->spec.task, fraction);
}

static void answered(struct call *call)
{
    struct turn *turn = call->reply;
    struct sequence *q = turn->sequence;
    if (call->failed)
        log_warn("sequence", "one call of many failed", "message", call->name, "object",
                 REF_TEXT(turn->step->object), "error", call->err.code, "why",
                 call->err.param_count ? call->err.params[call->err.param_count - 1] : "");
    count_one(q, call->failed ? call->err.code : "");
    call_free(call);
    free(turn);
    advance(q);
    release(q);
}

static void begin(struct sequence *q, const struct sequence_step *step)
{
    AUTO_JSON json_t *params = q->spec.params(q->spec.arg, step);
    if (!params || !doors_try_enter(q->spec.server)) {
        count_one(q, params ? "INTERNAL_ERROR" : "");
        return;
    }
    json_array_insert_new(params, 0, json_string(REF_TEXT(q->spec.session->token)));
    struct turn *turn = xcalloc(1, sizeof(*turn));
    *turn = (struct turn){.sequence = hold(q), .step = step};
    struct call *call = call_new(q->spec.server, step->message, params, true, q->peer, answered);
    call->reply = turn;
    call->claim.parent = q->spec.task;
    /* The call changes the array on other threads, and they count what is in it. */
    json_decref(TAKE_PTR(params));
    gate_run(call);
    doors_leave(q->spec.server);
}

/* ---- the order ---- */

static void tick(void *arg);

/* With the lock held: whether to look again later. */
static bool wants_tick(struct sequence *q)
{
    if (q->ticking || q->ended || q->spec.server->closing || (!q->waiting && !q->spec.cancel))
        return false;
    return q->ticking = true;
}

/* With the lock held: the next step that may begin now, which then runs; NULL: none. */
static const struct sequence_step *take(struct sequence *q)
{
    if (q->ended)
        return NULL; /* the flag may be gone */
    q->stopped |= (q->spec.cancel && *q->spec.cancel) || q->spec.server->closing;
    if (q->stopped || q->next >= q->count || q->running >= AT_ONCE)
        return NULL;
    const struct sequence_step *step = &q->steps[q->next];
    bool new_place = q->next > 0 && q->steps[q->next - 1].order != step->order;
    if (new_place && q->running > 0)
        return NULL;
    if (new_place && !q->waiting && q->place_delay_s > 0) {
        q->waiting = true;
        q->wait_until_ms = clock_mono_ms() + q->place_delay_s * 1000;
    }
    if (q->waiting && clock_mono_ms() < q->wait_until_ms)
        return NULL;
    if (new_place)
        q->place_delay_s = 0;
    q->waiting = false;
    if (step->delay_s > q->place_delay_s)
        q->place_delay_s = step->delay_s;
    q->next++;
    q->running++;
    return step;
}

static void advance(struct sequence *q)
{
    for (;;) {
        pthread_mutex_lock(&q->lock);
        const struct sequence_step *step = take(q);
        bool over = !q->ended && !step && q->running == 0 && (q->stopped || q->next >= q->count);
        q->ended |= over;
        bool ticks = wants_tick(q);
        struct sequence_result result = q->result;
        result.left_out = q->count - q->next;
        pthread_mutex_unlock(&q->lock);
        if (over) {
            result.first_code = q->first_code;
            q->spec.done(q->spec.arg, &result);
            return;
        }
        if (ticks)
            timers_after(q->spec.server->timers, TICK_MS, tick, hold(q));
        if (!step)
            return;
        begin(q, step);
    }
}

static void tick(void *arg)
{
    struct sequence *q = arg;
    pthread_mutex_lock(&q->lock);
    q->ticking = false;
    bool cancelled = !q->ended && q->spec.cancel && *q->spec.cancel;
    pthread_mutex_unlock(&q->lock);
    if (cancelled)
        cancel_children(q);
    advance(q);
    release(q);
}

struct sequence_spec sequence_spec_of(const struct call *call)
{
    return (struct sequence_spec){.server = call->server,
                                  .session = call->session,
                                  .task = call->task,
                                  .cancel = call->cancel,
                                  .peer = call->peer};
}

int sequence_cut_short(struct call *call, const struct sequence_result *result)
{
    if (call->cancel && *call->cancel && result->left_out + result->failed > 0)
        return err_task_cancelled(&call->err, REF_TEXT(call->task));
    return result->left_out ? fail_internal(&call->err, "The server is stopping.") : 0;
}

void sequence_start(const struct sequence_spec *spec, const struct sequence_step *steps, size_t count)
{
    struct sequence *q = xcalloc(1, sizeof(*q));
    q->spec = *spec;
    q->spec.session = session_ref(spec->session);
    q->peer = xstrdup(spec->peer);
    q->steps = xcalloc(count + 1, sizeof(*q->steps));
    if (count > 0)
        memcpy(q->steps, steps, count * sizeof(*steps));
    q->count = count;
    qsort(q->steps, count, sizeof(*steps), by_order);
    pthread_mutex_init(&q->lock, NULL);
    atomic_init(&q->refs, 1);
    advance(q);
    release(q);
}
