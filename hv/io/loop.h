/* One thread that waits for many descriptors and timers and calls back. Everything that a driver hears
 * from its domains comes through it; callbacks must not block.
 *
 * loop_add, loop_want and loop_post: any thread. loop_remove and the timers: only callbacks (the loop's
 * own thread), so that nothing is freed under a callback. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_source;

/* NULL with errno: no descriptors or no thread. `name`: of the thread, at most 15 characters. */
struct loop *loop_new(const char *name);
/* Stops the thread after the posts made so far; sources that are left are forgotten, not closed. NULL is
 * allowed. */
void loop_free(struct loop *loop);

/* Watches `fd` (not taken over) for the EPOLL* events; `ready` gets those that are true, EPOLLERR and
 * EPOLLHUP included. NULL: the descriptor cannot be watched (errno). */
struct loop_source *loop_add(struct loop *loop, int fd, uint32_t events,
                             void (*ready)(void *arg, uint32_t events), void *arg);
void loop_want(struct loop_source *source, uint32_t events);
/* No callback comes after this. NULL is allowed. Close the descriptor afterwards. */
void loop_remove(struct loop_source *source);

/* Runs `fn` on the loop's thread, in the order of posting. */
void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);
/* The same, and waits until it ran. Not from the loop's thread. */
void loop_call(struct loop *loop, void (*fn)(void *arg), void *arg);

struct loop_timer {
    void (*fire)(void *arg);
    void *arg;
    /* The rest is the loop's. */
    int64_t due_ms;
    bool armed;
    struct loop_timer *next;
};
/* Fires once at clock_mono_ms() >= due_ms; replaces an earlier setting. The timer must stay where it is. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t due_ms);
void loop_timer_cancel(struct loop *loop, struct loop_timer *timer);
