/* The worker pool: bounds, order of the end, statistics. No test waits by time. */
#include <base/mem.h>
#include <base/worker.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

struct gate {
    sem_t entered, leave;
    _Atomic int ran;
};

static void gate_init(struct gate *g)
{
    sem_init(&g->entered, 0, 0);
    sem_init(&g->leave, 0, 0);
    g->ran = 0;
}

static void wait_in_gate(void *arg)
{
    struct gate *g = arg;
    sem_post(&g->entered);
    sem_wait(&g->leave);
    g->ran++;
}

static void count_up(void *arg)
{
    ++*(_Atomic int *)arg;
}

static void leave_all(struct gate *g, int count)
{
    for (int i = 0; i < count; i++)
        sem_post(&g->leave);
}

Test(worker, threads_grow_to_the_maximum_and_no_further)
{
    struct gate g;
    gate_init(&g);
    struct worker_pool *pool = worker_pool_new(
        &(struct worker_config){.name = "test", .threads_min = 1, .threads_max = 3, .queue_max = 10});
    for (int i = 0; i < 5; i++)
        cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0);
    for (int i = 0; i < 3; i++)
        sem_wait(&g.entered);
    struct worker_stats stats;
    worker_pool_stats(pool, &stats);
    cr_assert(stats.threads == 3 && stats.busy == 3 && stats.queued == 2);
    leave_all(&g, 5);
    worker_pool_stop(pool);
    cr_assert_eq(g.ran, 5);
}

Test(worker, the_maximum_can_change)
{
    struct gate g;
    struct worker_stats stats;
    gate_init(&g);
    struct worker_pool *pool =
        worker_pool_new(&(struct worker_config){.threads_min = 2, .threads_max = 2, .queue_max = 10});
    for (int i = 0; i < 5; i++)
        cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0);
    sem_wait(&g.entered);
    sem_wait(&g.entered);
    worker_pool_set_max(pool, 3); /* starts one for what waits */
    sem_wait(&g.entered);
    worker_pool_set_max(pool, 1);
    leave_all(&g, 3);
    sem_wait(&g.entered); /* one of the three goes on */
    worker_pool_stats(pool, &stats);
    cr_assert(stats.busy == 1 && stats.queued == 1);
    leave_all(&g, 2);
    worker_pool_stop(pool);
    cr_assert_eq(g.ran, 5);
}

Test(worker, a_full_queue_refuses)
{
    struct gate g;
    gate_init(&g);
    struct worker_pool *pool =
        worker_pool_new(&(struct worker_config){.threads_min = 1, .threads_max = 1, .queue_max = 2});
    cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0);
    sem_wait(&g.entered);
    cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0);
    cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0);
    cr_assert_eq(worker_submit(pool, wait_in_gate, &g), -1);
    struct worker_stats stats;
    worker_pool_stats(pool, &stats);
    cr_assert(stats.queued == 2 && stats.refused == 1);
    leave_all(&g, 3);
    worker_pool_stop(pool);
    cr_assert_eq(g.ran, 3);
}

/* Nobody may wait here; but whoever finds a thread is not refused because the one before has not begun. */
Test(worker, without_a_queue_as_many_as_there_are_threads)
{
    struct worker_stats stats;
    for (int round = 0; round < 50; round++) {
        struct gate g;
        gate_init(&g);
        struct worker_pool *pool =
            worker_pool_new(&(struct worker_config){.threads_min = 1, .threads_max = 8});
        for (int i = 0; i < 8; i++)
            cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0, "job %d", i);
        cr_assert_eq(worker_submit(pool, wait_in_gate, &g), -1);
        for (int i = 0; i < 8; i++)
            sem_wait(&g.entered);
        worker_pool_set_max(pool, 20);
        for (int i = 8; i < 20; i++)
            cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0, "job %d", i);
        cr_assert_eq(worker_submit(pool, wait_in_gate, &g), -1);
        worker_pool_stats(pool, &stats);
        cr_assert_eq(stats.refused, 2);
        leave_all(&g, 20);
        worker_pool_stop(pool);
        cr_assert_eq(g.ran, 20);
    }
}

static void note_thread(void *arg)
{
    *(pthread_t *)arg = pthread_self();
}

/* Returns when it is done and its thread has nothing to do. */
static pthread_t run_alone(struct worker_pool *pool)
{
    pthread_t thread;
    struct worker_stats stats;
    worker_pool_stats(pool, &stats);
    unsigned long long done = stats.done;
    cr_assert_eq(worker_submit(pool, note_thread, &thread), 0);
    while (stats.done == done || stats.busy)
        worker_pool_stats(pool, &stats);
    return thread;
}

Test(worker, the_thread_that_was_busy_last_is_the_next)
{
    struct gate g;
    struct worker_stats stats;
    gate_init(&g);
    struct worker_pool *pool =
        worker_pool_new(&(struct worker_config){.threads_min = 4, .threads_max = 4, .queue_max = 10});
    for (int i = 0; i < 4; i++) /* now all have begun */
        cr_assert_eq(worker_submit(pool, wait_in_gate, &g), 0);
    for (int i = 0; i < 4; i++)
        sem_wait(&g.entered);
    leave_all(&g, 4);
    do
        worker_pool_stats(pool, &stats);
    while (stats.done < 4 || stats.busy);
    pthread_t first = run_alone(pool);
    for (int i = 0; i < 50; i++)
        cr_assert(pthread_equal(run_alone(pool), first));
    worker_pool_stop(pool);
}

Test(worker, stop_runs_what_is_queued)
{
    _Atomic int count = 0;
    struct worker_pool *pool =
        worker_pool_new(&(struct worker_config){.threads_min = 2, .threads_max = 4, .queue_max = 1000});
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(worker_submit(pool, count_up, &count), 0);
    worker_pool_stop(pool);
    cr_assert_eq(count, 1000);
}

struct chain {
    struct worker_pool *pool;
    _Atomic int left;
    sem_t done;
};

static void submit_next(void *arg)
{
    struct chain *c = arg;
    if (--c->left == 0)
        sem_post(&c->done);
    else
        cr_assert_eq(worker_submit(c->pool, submit_next, c), 0);
}

Test(worker, a_job_may_submit)
{
    struct chain c = {.left = 100};
    sem_init(&c.done, 0, 0);
    c.pool = worker_pool_new(&(struct worker_config){.threads_min = 1, .threads_max = 1, .queue_max = 1});
    cr_assert_eq(worker_submit(c.pool, submit_next, &c), 0);
    sem_wait(&c.done);
    worker_pool_stop(c.pool);
}

static void *submit_many(void *arg)
{
    struct worker_pool *pool = ((void **)arg)[0];
    for (int i = 0; i < 2000; i++)
        while (worker_submit(pool, count_up, ((void **)arg)[1]) < 0)
            sched_yield();
    return NULL;
}

Test(worker, many_threads_submit)
{
    _Atomic int count = 0;
    struct worker_pool *pool = worker_pool_new(
        &(struct worker_config){.threads_min = 1, .threads_max = 8, .queue_max = 16, .idle_ms = 1});
    void *arg[] = {pool, &count};
    pthread_t threads[4];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, submit_many, arg);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    worker_pool_stop(pool);
    cr_assert_eq(count, 8000);
}
