/* Requests that sleep: for the end of an operation, for events. A sleeping request costs memory and no
 * thread; one thread looks at all of them when something happened or a wait is over. */
#include "agent.h"
#include <base/clock.h>
#include <base/mem.h>

struct parked {
    struct http_request *req;
    struct agent_op *op;             /* an operation, or */
    const struct hv_call_desc *call; /* a read with arguments */
    void *args;
    int64_t until; /* mono ms */
    struct parked *next;
};

struct waiters {
    struct agent *agent;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct parked *list;
    bool stirred;
};

static void parked_free(struct parked *p)
{
    http_request_unref(p->req);
    agent_op_unref(p->op);
    if (p->args) {
        wire_done(p->call->args, p->args);
        free(p->args);
    }
    free(p);
}

static bool op_over(struct agent *agent, struct agent_op *op)
{
    struct operation_status status;
    ops_status(agent, op, &status);
    bool over = status.state == OPERATION_STATE_DONE || status.state == OPERATION_STATE_FAILED;
    operation_status_done(&status);
    return over;
}

static bool nothing_yet(const struct parked *p, const void *result)
{
    if (p->call == &hv_calls[HV_CALL_EVENTS_WAIT]) {
        const struct hv_events_wait_result *events = result;
        return events->events_count == 0 && !events->lost;
    }
    if (p->call == &hv_calls[HV_CALL_OPERATION_GET]) {
        const struct hv_operation_get_result *got = result;
        return got->status.state == OPERATION_STATE_QUEUED || got->status.state == OPERATION_STATE_RUNNING;
    }
    return false;
}

static void fix_cursor(struct parked *p, const void *result)
{
    /* "From now on" is decided once, not at each look. */
    if (p->call == &hv_calls[HV_CALL_EVENTS_WAIT])
        str_assign(&((struct hv_events_wait_args *)p->args)->cursor,
                   ((const struct hv_events_wait_result *)result)->cursor);
}

/* True when it was answered. */
static bool look(struct agent *agent, struct parked *p, bool over)
{
    if (p->op) {
        if (!over && !op_over(agent, p->op))
            return false;
        answer_op(agent, p->req, p->op);
        return true;
    }
    void *result AUTO_FREE = xcalloc(1, p->call->result->size);
    struct hv_err err;
    wire_init(p->call->result, result);
    int outcome = agent_handlers[p->call - hv_calls](agent, NULL, p->args, result, &err);
    bool answer = outcome < 0 || over || !nothing_yet(p, result);
    if (answer && outcome < 0)
        answer_error(p->req, 200, &err);
    else if (answer)
        answer_result(p->req, p->call->result, result);
    else
        fix_cursor(p, result);
    wire_done(p->call->result, result);
    return answer;
}

static void wait_news(struct waiters *w)
{
    int64_t until = clock_mono_ms() + 3600000;
    for (struct parked *p = w->list; p; p = p->next)
        until = p->until < until ? p->until : until;
    struct timespec end = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    if (!w->stirred)
        pthread_cond_timedwait(&w->news, &w->lock, &end);
    w->stirred = false;
}

/* Never ends: hostd does without tearing anything down. */
static _Noreturn void *run(void *arg)
{
    struct waiters *w = arg;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        wait_news(w);
        struct parked *list = TAKE_PTR(w->list);
        pthread_mutex_unlock(&w->lock);
        int64_t now = clock_mono_ms();
        struct parked *left = NULL, **end = &left;
        while (list) {
            struct parked *p = list;
            list = p->next;
            p->next = NULL;
            if (look(w->agent, p, p->until <= now)) {
                parked_free(p);
            } else {
                *end = p;
                end = &p->next;
            }
        }
        pthread_mutex_lock(&w->lock);
        *end = w->list;
        w->list = left;
    }
}

struct waiters *waiters_new(struct agent *agent)
{
    struct waiters *w = xcalloc(1, sizeof(*w));
    w->agent = agent;
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w->news, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&w->thread, NULL, run, w) != 0)
        abort();
    pthread_setname_np(w->thread, "waiters");
    return w;
}

void waiters_wake(struct waiters *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stirred = true;
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
}

static void park(struct waiters *w, struct parked *p, int64_t wait_ms)
{
    p->until = clock_mono_ms() + wait_ms;
    if (look(w->agent, p, wait_ms <= 0)) {
        parked_free(p);
        return;
    }
    pthread_mutex_lock(&w->lock);
    p->next = w->list;
    w->list = p;
    w->stirred = true; /* it may have happened between the look and now */
    pthread_cond_signal(&w->news);
    pthread_mutex_unlock(&w->lock);
}

void waiters_park_op(struct agent *agent, struct http_request *req, struct agent_op *op, int64_t wait_ms)
{
    struct parked *p = xcalloc(1, sizeof(*p));
    *p = (struct parked){.req = http_request_ref(req), .op = op};
    park(agent->waiters, p, wait_ms);
}

void waiters_park_read(struct agent *agent, struct http_request *req, const struct hv_call_desc *call,
                       void *args, int64_t wait_ms)
{
    struct parked *p = xcalloc(1, sizeof(*p));
    *p = (struct parked){.req = http_request_ref(req), .call = call, .args = args};
    park(agent->waiters, p, wait_ms);
}
