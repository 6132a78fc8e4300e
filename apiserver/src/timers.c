/* One thread and a binary heap of deadlines. */
#include "timers.h"

#include <base/clock.h>
#include <base/mem.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct timer {
    int64_t at_ms, period_ms;
    void (*fn)(void *arg);
    void *arg;
};

struct timers {
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct timer *heap;
    size_t count, cap;
    bool stop;
};

static void heap_push(struct timers *t, struct timer timer)
{
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->heap = xreallocarray(t->heap, t->cap, sizeof(*t->heap));
    }
    size_t at = t->count++;
    while (at > 0 && t->heap[(at - 1) / 2].at_ms > timer.at_ms) {
        t->heap[at] = t->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->heap[at] = timer;
}

static struct timer heap_pop(struct timers *t)
{
    struct timer top = t->heap[0], last = t->heap[--t->count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < t->count) {
        if (child + 1 < t->count && t->heap[child + 1].at_ms < t->heap[child].at_ms)
            child++;
        if (last.at_ms <= t->heap[child].at_ms)
            break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    t->heap[at] = last;
    return top;
}

static void wait_until(struct timers *t, int64_t at_ms)
{
    struct timespec when = {.tv_sec = at_ms / 1000, .tv_nsec = (at_ms % 1000) * 1000000};
    pthread_cond_timedwait(&t->changed, &t->lock, &when);
}

static void *timers_run(void *arg)
{
    struct timers *t = arg;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        if (t->count == 0) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        if (t->heap[0].at_ms > clock_mono_ms()) {
            wait_until(t, t->heap[0].at_ms);
            continue;
        }
        struct timer timer = heap_pop(t);
        if (timer.period_ms) {
            struct timer next = timer;
            next.at_ms = clock_mono_ms() + timer.period_ms;
            heap_push(t, next);
        }
        pthread_mutex_unlock(&t->lock);
        timer.fn(timer.arg);
        pthread_mutex_lock(&t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

struct timers *timers_new(void)
{
    struct timers *t = xcalloc(1, sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&t->thread, NULL, timers_run, t) != 0)
        abort();
    return t;
}

void timers_stop(struct timers *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    /* The thread is gone, and timers_add keeps nothing any more: the heap is ours. */
    for (size_t i = 0; i < t->count; i++)
        if (!t->heap[i].period_ms)
            t->heap[i].fn(t->heap[i].arg);
    t->count = 0;
}

void timers_free(struct timers *t)
{
    if (!t)
        return;
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t->heap);
    free(t);
}

static void timers_add(struct timers *t, int64_t delay_ms, int64_t period_ms, void (*fn)(void *arg),
                       void *arg)
{
    pthread_mutex_lock(&t->lock);
    bool stopped = t->stop;
    if (!stopped) {
        heap_push(t, (struct timer){clock_mono_ms() + delay_ms, period_ms, fn, arg});
        pthread_cond_signal(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    if (stopped && !period_ms)
        fn(arg);
}

void timers_after(struct timers *t, int64_t delay_ms, void (*fn)(void *arg), void *arg)
{
    timers_add(t, delay_ms, 0, fn, arg);
}

void timers_every(struct timers *t, int64_t period_ms, void (*fn)(void *arg), void *arg)
{
    timers_add(t, period_ms, period_ms, fn, arg);
}
