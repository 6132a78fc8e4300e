/* Batches: what was committed into the head since the last one is made durable at once and published,
 * or taken back. One thread at a time is here: the one that set `writing`. */
#include "store_impl.h"
#include <assert.h>
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>

void waiter_list_init(struct waiter_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

void waiter_list_add(struct waiter_list *list, struct commit_waiter *waiter)
{
    waiter->next = NULL;
    *list->last = waiter;
    list->last = &waiter->next;
}

/* ---- what is pending ---- */

void pending_init(struct pending *pending)
{
    *pending = (struct pending){0};
    waiter_list_init(&pending->waiters);
}

void pending_done(struct pending *pending)
{
    refmap_done(&pending->map);
    free(pending->changes);
    free(pending->tombstones);
    free(pending->dead.items);
}

void pending_need(struct pending *pending, const struct class_desc *cls, struct ref ref, enum disk_need need)
{
    uint32_t at = refmap_get(&pending->map, cls, ref);
    if (at != REFMAP_NONE) {
        if (pending->changes[at].need < need)
            pending->changes[at].need = need;
        return;
    }
    if (pending->count == pending->cap) {
        pending->cap = pending->cap ? pending->cap * 2 : 16;
        pending->changes = xreallocarray(pending->changes, pending->cap, sizeof(pending->changes[0]));
    }
    refmap_add(&pending->map, cls, ref, pending->count);
    pending->changes[pending->count++] = (struct pending_change){cls, ref, need};
}

void pending_tombstone(struct pending *pending, const struct store_tombstone *gone)
{
    if (pending->tombstone_count == pending->tombstone_cap) {
        pending->tombstone_cap = pending->tombstone_cap ? pending->tombstone_cap * 2 : 16;
        pending->tombstones =
            xreallocarray(pending->tombstones, pending->tombstone_cap, sizeof(pending->tombstones[0]));
    }
    pending->tombstones[pending->tombstone_count++] = *gone;
}

/* ---- a batch ---- */

/* One batch. */
struct batch {
    struct pending taken;
    struct version *target; /* the head as it was when the batch was taken */
    struct engine_change *changes;
    size_t count;
    uint64_t reserve;
};

/* Freezes the head as it is: from now on its nodes are copied before they are changed. */
static void batch_take(struct store *store, struct batch *batch)
{
    size_t size = version_size(&store->schema);
    pthread_mutex_lock(&store->head_lock);
    assert(store->writing && (store->pending.waiters.first || store->suspect_count));
    *batch = (struct batch){.taken = store->pending};
    if (!batch->taken.waiters.first)
        waiter_list_init(&batch->taken.waiters);
    pending_init(&store->pending);
    store->frozen = store->head->generation;
    batch->target = memcpy(xmalloc(size), store->head, size);
    pthread_mutex_unlock(&store->head_lock);
}

static void change_add(struct batch *batch, const struct pending_change *pending)
{
    const struct row *row = version_get(batch->target, pending->cls, pending->ref);
    batch->changes[batch->count++] = (struct engine_change){
        .cls = pending->cls,
        .ref = pending->ref,
        .row = row,
        .generation_only = row && pending->need == DISK_GENERATION,
    };
}

/* The final state of every row that the disk has to hear of. */
static void batch_resolve(struct store *store, struct batch *batch)
{
    uint64_t newest = batch->target->generation;
    for (uint32_t i = 0; i < store->suspect_count; i++) {
        const struct pending_change *suspect = &store->suspects[i];
        pending_need(&batch->taken, suspect->cls, suspect->ref, DISK_ROW);
    }
    for (uint32_t i = 0; i < store->owed_count; i++)
        pending_tombstone(&batch->taken, &store->owed[i]);
    batch->changes = xreallocarray(NULL, batch->taken.count, sizeof(batch->changes[0]));
    for (uint32_t i = 0; i < batch->taken.count; i++)
        change_add(batch, &batch->taken.changes[i]);
    if (newest + GENERATION_BLOCK / 2 > store->reserved)
        batch->reserve = newest + GENERATION_BLOCK;
}

/* What readers must not see before it is synced: almost everything. */
static bool batch_is_strict(const struct store *store, const struct batch *batch)
{
    return batch->taken.strict || batch->reserve || store->undo_from ||
           batch->target->generation >= store->reserved;
}

static enum engine_result batch_write(struct store *store, struct batch *batch, struct store_err *err)
{
    const struct engine_batch work = {
        .changes = batch->changes,
        .count = batch->count,
        .tombstones = batch->taken.tombstones,
        .tombstone_count = batch->taken.tombstone_count,
        .forget_to = batch->target->oldest_token > store->forgotten_on_disk ? batch->target->oldest_token : 0,
        .undo_from = store->undo_from,
        .reserve = batch->reserve,
        .lazy = !batch_is_strict(store, batch),
    };
    if (work.count == 0 && work.tombstone_count == 0 && work.reserve == 0)
        return ENGINE_DURABLE; /* memory only */
    enum engine_result result = store->engine->ops->apply(store->engine, &work, err);
    if (result != ENGINE_DURABLE)
        return result;
    if (work.reserve)
        store->reserved = work.reserve;
    if (work.forget_to)
        store->forgotten_on_disk = work.forget_to;
    store->undo_from = 0;
    store->suspect_count = 0;
    store->owed_count = 0;
    return ENGINE_DURABLE;
}

/* Tells the threads that wait, but not the one that is here; those who want a call back are moved to
 * `notices`. */
static void waiters_finish(struct store *store, struct commit_waiter *first, int result,
                           const struct store_err *err, struct waiter_list *notices)
{
    for (struct commit_waiter *waiter = first, *next; waiter; waiter = next) {
        next = waiter->next; /* once it is told, the waiter is gone */
        atomic_fetch_sub(&store->queued, 1);
        waiter->result = result;
        if (result != 0)
            waiter->err = *err;
        if (waiter->leads)
            continue;
        if (waiter->done)
            waiter_list_add(notices, waiter);
        else
            sem_post(&waiter->over);
    }
}

static void batch_publish(struct store *store, struct batch *batch, struct waiter_list *notices)
{
    atomic_fetch_add(&store->commits, batch->taken.waiter_count);
    atomic_fetch_add(&store->batches, 1);
    /* The same as `current`: its waiters changed nothing. */
    if (batch->target->generation == store->current->version->generation)
        free(batch->target);
    else
        snapshot_publish(store, batch->target, &batch->taken.dead);
    waiters_finish(store, batch->taken.waiters.first, 0, NULL, notices);
}

/* What the batch has touched is written again with the next one. */
static void remember_suspects(struct store *store, const struct batch *batch)
{
    store->suspects = xreallocarray(store->suspects, batch->taken.count, sizeof(store->suspects[0]));
    if (batch->taken.count)
        memcpy(store->suspects, batch->taken.changes, batch->taken.count * sizeof(store->suspects[0]));
    store->suspect_count = batch->taken.count;
}

/* The batch is published though it could not be written. */
static void batch_postpone(struct store *store, const struct batch *batch)
{
    remember_suspects(store, batch);
    store->owed = xreallocarray(store->owed, batch->taken.tombstone_count, sizeof(store->owed[0]));
    if (batch->taken.tombstone_count)
        memcpy(store->owed, batch->taken.tombstones, batch->taken.tombstone_count * sizeof(store->owed[0]));
    store->owed_count = batch->taken.tombstone_count;
}

/* Puts the head back to what is published: this batch fails, and with it all that was built on it. */
static void batch_fail(struct store *store, struct batch *batch, enum engine_result why,
                       const struct store_err *err, struct waiter_list *notices)
{
    if (why == ENGINE_UNKNOWN) { /* it may be on disk after all */
        remember_suspects(store, batch);
        if (!store->undo_from)
            store->undo_from = store->current->version->generation + 1;
    }
    pthread_mutex_lock(&store->head_lock);
    store->failed = true;
    store->failure = *err;
    pthread_mutex_unlock(&store->head_lock);

    /* The open transaction, if any, ends first: it reads the head. */
    pthread_mutex_lock(&store->writer);
    pthread_mutex_lock(&store->head_lock);
    const struct version *good = store->current->version; /* only the thread that writes changes `current` */
    struct pending late = store->pending;
    pending_init(&store->pending);
    version_free_after(store->head, good->generation);
    garbage_free_after(&batch->taken.dead, good->generation, NULL);
    garbage_free_after(&late.dead, good->generation, NULL);
    memcpy(store->head, good, version_size(&store->schema));
    store->frozen = good->generation;
    store->failed = false;
    pthread_cond_broadcast(&store->healed);
    pthread_mutex_unlock(&store->head_lock);
    pthread_mutex_unlock(&store->writer);

    atomic_fetch_add(&store->failures, 1);
    atomic_store(&store->failed_ms, clock_mono_ms());
    free(batch->target);
    waiters_finish(store, batch->taken.waiters.first, -1, err, notices);
    waiters_finish(store, late.waiters.first, -1, err, notices);
    pending_done(&late);
}

void batch_run(struct store *store)
{
    struct batch batch;
    struct store_err err;
    struct waiter_list notices;
    waiter_list_init(&notices);
    int64_t start = clock_mono_us();
    uint64_t before = store->current->version->generation; /* only this thread changes `current` */
    batch_take(store, &batch);
    batch_resolve(store, &batch);
    enum engine_result result = batch_write(store, &batch, &err);
    if (result == ENGINE_DURABLE) {
        atomic_store(&store->failed_ms, 0);
        batch_publish(store, &batch, &notices);
    } else if (!batch_is_strict(store, &batch)) {
        if (store->suspect_count == 0)
            log_warn("store", "what need not be synced could not be written; it is tried again", "why",
                     err.text);
        batch_postpone(store, &batch);
        batch_publish(store, &batch, &notices);
    } else {
        log_error("store", "a batch of changes could not be written", "why", err.text);
        batch_fail(store, &batch, result, &err, &notices);
    }
    free(batch.changes);
    pending_done(&batch.taken);
    atomic_store(&store->last_commit_us, (uint64_t)(clock_mono_us() - start));
    uint64_t generation = store->current->version->generation;
    if (generation != before)
        store_call_watches(store, generation);

    pthread_mutex_lock(&store->head_lock);
    if (notices.first) {
        *store->notices.last = notices.first;
        store->notices.last = notices.last;
    }
    store->writing = false;
    bool wake = committer_has_work(store);
    pthread_mutex_unlock(&store->head_lock);
    if (wake)
        pthread_cond_signal(&store->work);
}
