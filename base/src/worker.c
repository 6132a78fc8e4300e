/* The bounded worker pool: a ring of jobs, threads between a minimum and a maximum.
 *
 * The thread that was busy last is woken first: what it works with is still in the caches, and those beyond
 * the need can end. One is woken at a time: when it comes it wakes the next, if there is a job for that too.
 * So many short jobs at once are done by a few threads, and none waits for a job that blocks. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/worker.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

struct job {
    void (*run)(void *arg);
    void *arg;
};

/* A thread that waits. */
struct idler {
    struct idler *next;
    pthread_cond_t wake;
    bool called; /* and taken out of the list */
};

struct worker_pool {
    pthread_mutex_t lock; /* guards everything below */
    struct idler *idlers; /* the latest first */
    bool calling;         /* one was called that has not come yet */
    pthread_cond_t quiet; /* a thread ended */
    struct worker_config config;
    char name[13];
    struct job *ring; /* grows */
    unsigned ring_size, first, queued;
    unsigned threads, busy, idle;
    bool stopping;
    unsigned long long done, refused;
};

/* With the lock held, as all that follows. False: there is none. */
static bool call_idler(struct worker_pool *pool)
{
    struct idler *idler = pool->idlers;
    if (!idler)
        return false;
    pool->idlers = idler->next;
    pool->calling = idler->called = true;
    pthread_cond_signal(&idler->wake);
    return true;
}

static void call_for_jobs(struct worker_pool *pool)
{
    if (pool->queued > 0 && !pool->calling)
        call_idler(pool);
}

static void leave_idlers(struct worker_pool *pool, const struct idler *idler)
{
    struct idler **at = &pool->idlers;
    while (*at != idler)
        at = &(*at)->next;
    *at = idler->next;
}

static void idler_init(struct idler *idler)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&idler->wake, &attr);
    pthread_condattr_destroy(&attr);
}

/* Until it is called, for a job or the pool's end; false: waited idle_ms in vain. */
static bool wait_for_work(struct worker_pool *pool, struct idler *idler)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += pool->config.idle_ms / 1000;
    until.tv_nsec += (long)(pool->config.idle_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    idler->next = pool->idlers;
    idler->called = false;
    pool->idlers = idler;
    pool->idle++;
    int rc = 0;
    while (!idler->called && rc == 0)
        rc = pthread_cond_timedwait(&idler->wake, &pool->lock, &until);
    pool->idle--;
    if (idler->called)
        pool->calling = false;
    else
        leave_idlers(pool, idler);
    return idler->called;
}

static void *thread_main(void *arg)
{
    struct worker_pool *pool = arg;
    struct idler self;
    pthread_setname_np(pthread_self(), pool->name);
    idler_init(&self);
    pthread_mutex_lock(&pool->lock);
    while (pool->threads <= pool->config.threads_max || pool->stopping) {
        if (pool->queued == 0) {
            if (pool->stopping)
                break;
            if (!wait_for_work(pool, &self) && pool->threads > pool->config.threads_min)
                break;
            continue;
        }
        struct job job = pool->ring[pool->first];
        pool->first = (pool->first + 1) % pool->ring_size;
        pool->queued--;
        pool->busy++;
        call_for_jobs(pool);
        pthread_mutex_unlock(&pool->lock);
        job.run(job.arg);
        pthread_mutex_lock(&pool->lock);
        pool->busy--;
        pool->done++;
    }
    pool->threads--;
    call_for_jobs(pool); /* this one may have been called for one */
    pthread_cond_signal(&pool->quiet);
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_destroy(&self.wake);
    return NULL;
}

/* Signals stay with the daemon's main thread. */
static int start_thread(struct worker_pool *pool)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, &attr, thread_main, pool);
    if (rc == 0)
        pool->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

struct worker_pool *worker_pool_new(const struct worker_config *config)
{
    struct worker_pool *pool = xcalloc(1, sizeof(*pool));
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->quiet, NULL);
    pool->config = *config;
    pool->config.threads_min = config->threads_min ? config->threads_min : 1;
    pool->config.threads_max =
        config->threads_max > pool->config.threads_min ? config->threads_max : pool->config.threads_min;
    pool->config.idle_ms = config->idle_ms ? config->idle_ms : 10000;
    snprintf(pool->name, sizeof(pool->name), "%s", config->name ? config->name : "worker");
    pool->config.name = pool->name;
    pthread_mutex_lock(&pool->lock);
    int rc = 0;
    while (rc == 0 && pool->threads < pool->config.threads_min)
        rc = start_thread(pool);
    pthread_mutex_unlock(&pool->lock);
    if (rc == 0)
        return pool;
    worker_pool_stop(pool);
    errno = rc;
    return NULL;
}

/* Jobs that a thread is about to take do not wait. */
static bool is_full(const struct worker_pool *pool)
{
    return pool->queued + pool->busy >= pool->config.queue_max + pool->config.threads_max;
}

static void add_job(struct worker_pool *pool, struct job job)
{
    if (pool->queued == pool->ring_size) {
        unsigned size = pool->ring_size ? 2 * pool->ring_size : 16;
        struct job *ring = xcalloc(size, sizeof(*ring));
        for (unsigned i = 0; i < pool->queued; i++)
            ring[i] = pool->ring[(pool->first + i) % pool->ring_size];
        free(pool->ring);
        pool->ring = ring;
        pool->ring_size = size;
        pool->first = 0;
    }
    pool->ring[(pool->first + pool->queued) % pool->ring_size] = job;
    pool->queued++;
}

int worker_submit(struct worker_pool *pool, void (*run)(void *arg), void *arg)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->stopping || is_full(pool)) {
        pool->refused++;
        pthread_mutex_unlock(&pool->lock);
        return -1;
    }
    add_job(pool, (struct job){run, arg});
    /* Without a free thread for it start one; failing that, the job waits for its turn. */
    if (pool->queued > pool->idle && pool->threads < pool->config.threads_max)
        start_thread(pool);
    call_for_jobs(pool);
    pthread_mutex_unlock(&pool->lock);
    return 0;
}

void worker_pool_set_max(struct worker_pool *pool, unsigned threads_max)
{
    pthread_mutex_lock(&pool->lock);
    pool->config.threads_max = threads_max ? threads_max : 1;
    if (pool->config.threads_min > pool->config.threads_max)
        pool->config.threads_min = pool->config.threads_max;
    while (pool->queued > pool->idle && pool->threads < pool->config.threads_max && start_thread(pool) == 0)
        continue;
    while (call_idler(pool)) /* those beyond it end */
        ;
    pthread_mutex_unlock(&pool->lock);
}

void worker_pool_stop(struct worker_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    while (call_idler(pool))
        ;
    while (pool->threads > 0)
        pthread_cond_wait(&pool->quiet, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_cond_destroy(&pool->quiet);
    pthread_mutex_destroy(&pool->lock);
    free(pool->ring);
    free(pool);
}

void worker_pool_stats(struct worker_pool *pool, struct worker_stats *out)
{
    pthread_mutex_lock(&pool->lock);
    *out = (struct worker_stats){pool->threads, pool->busy, pool->queued, pool->done, pool->refused};
    pthread_mutex_unlock(&pool->lock);
}
