/* Threads for one loop (parallel.h). */
#include "parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

struct parallel {
    size_t count, chunk;
    void (*fn)(void *arg, size_t from, size_t to, unsigned worker);
    void *arg;
    _Atomic size_t next;
    _Atomic unsigned workers;
};

static void *work(void *arg)
{
    struct parallel *p = arg;
    unsigned worker = atomic_fetch_add(&p->workers, 1);
    for (size_t from; (from = atomic_fetch_add(&p->next, p->chunk)) < p->count;)
        p->fn(p->arg, from, p->count - from < p->chunk ? p->count : from + p->chunk, worker);
    return NULL;
}

void parallel_run(size_t count, size_t chunk, void (*fn)(void *arg, size_t from, size_t to, unsigned worker),
                  void *arg)
{
    struct parallel p = {.count = count, .chunk = chunk, .fn = fn, .arg = arg};
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t threads[PARALLEL_MAX - 1];
    size_t started = 0;
    while (started < PARALLEL_MAX - 1 && (long)started + 1 < processors && (started + 1) * chunk < count &&
           pthread_create(&threads[started], NULL, work, &p) == 0)
        started++;
    work(&p);
    while (started > 0)
        pthread_join(threads[--started], NULL);
}
