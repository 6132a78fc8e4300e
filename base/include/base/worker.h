/* A bounded pool of threads for work that blocks. Any thread may submit; a job runs on one of the
 * pool's threads and may submit further jobs, but must not stop the pool. */
#pragma once
#include <stddef.h>

struct worker_pool;

struct worker_config {
    const char *name;     /* of the threads, at most 12 characters; copied */
    unsigned threads_min; /* kept for good; at least 1 */
    unsigned threads_max; /* started when all are busy, ended after `idle_ms` without work */
    unsigned queue_max;   /* jobs that may wait while all threads are busy */
    unsigned idle_ms;     /* 0: 10,000 */
};

/* NULL with errno: no thread could be started. */
struct worker_pool *worker_pool_new(const struct worker_config *config);
/* 0, or -1 when all threads are busy and the queue is full, or the pool is stopping: `run` will not be called. */
int worker_submit(struct worker_pool *pool, void (*run)(void *arg), void *arg);
/* Another threads_max (at least 1) from now on. Threads beyond it end when they have nothing to do; those
 * that must not go below threads_min stay. Any thread. */
void worker_pool_set_max(struct worker_pool *pool, unsigned threads_max);
/* Refuses new jobs, runs what is queued, waits for all, frees the pool. */
void worker_pool_stop(struct worker_pool *pool);
struct worker_stats {
    unsigned threads, busy, queued;
    unsigned long long done, refused;
};
void worker_pool_stats(struct worker_pool *pool, struct worker_stats *out);
