/* Opening and closing a store, waiting for what is published, and figures. */
#include "store_impl.h"
#include <assert.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define DEFAULT_TOMBSTONES 100000

int store_err_set(struct store_err *err, enum store_errno code, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    err->code = code;
    vsnprintf(err->text, sizeof(err->text), format, ap);
    va_end(ap);
    return -1;
}

/* ---- life cycle ---- */

struct store *store_new(const struct schema *schema)
{
    struct store *store = xcalloc(1, sizeof(*store));
    store->schema = *schema;
    store->head = xcalloc(1, version_size(schema));
    pending_init(&store->pending);
    waiter_list_init(&store->notices);
    /* Held for microseconds: a short spin is cheaper than a sleep. */
    pthread_mutexattr_t spin;
    pthread_mutexattr_init(&spin);
    pthread_mutexattr_settype(&spin, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&store->writer, &spin);
    pthread_mutex_init(&store->head_lock, &spin);
    pthread_mutex_init(&store->chain_lock, &spin);
    pthread_mutex_init(&store->snap_lock, &spin);
    pthread_mutex_init(&store->watch_lock, NULL);
    pthread_mutexattr_destroy(&spin);
    pthread_cond_init(&store->healed, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&store->published, &attributes);
    pthread_cond_init(&store->work, &attributes);
    pthread_condattr_destroy(&attributes);
    return store;
}

static void store_free(struct store *store)
{
    if (store->engine)
        store->engine->ops->close(store->engine);
    pending_done(&store->pending);
    free(store->suspects);
    free(store->owed);
    free(store->tx.rows);
    refmap_done(&store->tx.map);
    pthread_cond_destroy(&store->published);
    pthread_cond_destroy(&store->healed);
    pthread_cond_destroy(&store->work);
    pthread_mutex_destroy(&store->watch_lock);
    pthread_mutex_destroy(&store->snap_lock);
    pthread_mutex_destroy(&store->chain_lock);
    pthread_mutex_destroy(&store->head_lock);
    pthread_mutex_destroy(&store->writer);
    if (!store->base)
        schema_done(&store->schema);
    free(store->head);
    free(store);
}

/* Frees all rows and the store; no thread uses it any more. */
static void store_drop(struct store *store)
{
    struct snapshot *last = store->current;
    assert(atomic_load(&last->refs) == 1 && !last->older); /* all snapshots are released */
    struct snapshot *base = store->base;
    version_free_after(store->head, store->floor);
    snapshot_unref(last);
    snapshot_free_trash(store);
    store_free(store);
    snapshot_unref(base);
}

int store_open_engine(struct store **out, const struct store_config *config, struct engine *engine,
                      struct store_err *err)
{
    struct schema schema;
    if (config->classes)
        schema_init(&schema, config->classes, config->class_count, config->schema_version);
    else
        schema_init(&schema, model_classes, model_class_count, model_schema_version);
    struct store *store = store_new(&schema);
    store->max_tombstones = config->max_tombstones ? config->max_tombstones : DEFAULT_TOMBSTONES;
    store->head->schema = &store->schema;
    store->head->hash_key = ref_new();
    store->engine = engine;
    if (store_load(store, err) != 0) {
        store_free(store);
        return -1;
    }
    size_t size = version_size(&store->schema);
    store->frozen = store->head->generation;
    snapshot_publish(store, memcpy(xmalloc(size), store->head, size), &store->pending.dead);
    if (committer_start(store) != 0) {
        store_drop(store);
        return store_err_set(err, STORE_E_IO, "no thread could be started");
    }
    *out = store;
    return 0;
}

int store_open(struct store **out, const struct store_config *config, struct store_err *err)
{
    struct engine *engine;
    if (!config->path)
        return store_open_engine(out, config, engine_memory_new(), err);
    if (engine_sqlite_open(&engine, config->path, NULL, err) != 0)
        return -1;
    return store_open_engine(out, config, engine, err);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    if (!store->base)
        committer_stop(store);
    assert(store->tx.count == 0);
    store_drop(store);
}

/* ---- waiting ---- */

struct store_watch *store_watch(struct store *store, void (*fn)(void *arg, uint64_t generation), void *arg)
{
    struct store_watch *watch = xmalloc(sizeof(*watch));
    pthread_mutex_lock(&store->watch_lock);
    *watch = (struct store_watch){store->watches, fn, arg};
    store->watches = watch;
    pthread_mutex_unlock(&store->watch_lock);
    return watch;
}

void store_unwatch(struct store *store, struct store_watch *watch)
{
    pthread_mutex_lock(&store->watch_lock);
    struct store_watch **at = &store->watches;
    while (*at != watch)
        at = &(*at)->next;
    *at = watch->next;
    pthread_mutex_unlock(&store->watch_lock);
    free(watch);
}

void store_call_watches(struct store *store, uint64_t generation)
{
    pthread_mutex_lock(&store->watch_lock);
    for (struct store_watch *watch = store->watches; watch; watch = watch->next)
        watch->fn(watch->arg, generation);
    pthread_mutex_unlock(&store->watch_lock);
}

uint64_t store_wait(struct store *store, uint64_t generation, int64_t deadline_mono_ms)
{
    struct timespec until = {.tv_sec = deadline_mono_ms / 1000,
                             .tv_nsec = (deadline_mono_ms % 1000) * 1000000};
    pthread_mutex_lock(&store->snap_lock);
    while (store->current->version->generation <= generation)
        if (pthread_cond_timedwait(&store->published, &store->snap_lock, &until) != 0)
            break;
    uint64_t newest = store->current->version->generation;
    pthread_mutex_unlock(&store->snap_lock);
    return newest;
}

/* ---- figures ---- */

void store_stats(struct store *store, struct store_stats *out)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    *out = (struct store_stats){
        .generation = snapshot_generation(snap),
        .commits = atomic_load(&store->commits),
        .batches = atomic_load(&store->batches),
        .failures = atomic_load(&store->failures),
        .last_commit_us = atomic_load(&store->last_commit_us),
        .queued = atomic_load(&store->queued),
        .failed_ms = atomic_load(&store->failed_ms),
        .disk_bytes = store->engine->ops->size(store->engine),
    };
    for (uint16_t i = 0; i < store->schema.class_count; i++)
        out->rows += snap->version->rows[i].count;
}
