/* The commit of a transaction into the head, and the committer thread, which takes all that was
 * committed since its last turn, makes it durable as one batch, and publishes it. */
#include "store_impl.h"
#include <assert.h>
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <semaphore.h>

void pending_init(struct pending *pending)
{
    *pending = (struct pending){0};
    pending->last = &pending->first;
}

void pending_done(struct pending *pending)
{
    refmap_done(&pending->map);
    free(pending->changes);
    free(pending->tombstones);
    free(pending->dead.items);
}

static void pending_need(struct pending *pending, const struct class_desc *cls, struct ref ref,
                         enum disk_need need)
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

static void pending_tombstone(struct pending *pending, const struct store_tombstone *gone)
{
    if (pending->tombstone_count == pending->tombstone_cap) {
        pending->tombstone_cap = pending->tombstone_cap ? pending->tombstone_cap * 2 : 16;
        pending->tombstones =
            xreallocarray(pending->tombstones, pending->tombstone_cap, sizeof(pending->tombstones[0]));
    }
    pending->tombstones[pending->tombstone_count++] = *gone;
}

/* ---- into the head ---- */

struct trie_edit store_edit(struct store *store, uint64_t generation)
{
    return (struct trie_edit){.frozen = store->frozen, .birth = generation, .dead = &store->pending.dead};
}

static void apply_row(struct tx *tx, const struct trie_edit *edit, struct tx_row *row)
{
    struct store *store = tx->store;
    if (row->need != DISK_NOTHING)
        pending_need(&store->pending, row->cls, row->ref, row->need);
    if (!row->row) {
        struct store_tombstone gone = {row->cls, row->ref, row->old->created, tx->generation};
        version_bury(store->head, edit, &gone);
        if (row->cls->flags & CLASS_PERSIST)
            pending_tombstone(&store->pending, &gone);
        version_delete(store->head, edit, row->old);
    } else if (row->row == row->old) {
        version_renew(store->head, edit, row->row, tx->generation);
        row->row = NULL; /* was never the overlay's own */
    } else {
        row->row->generation = tx->generation;
        if (!row->old)
            row->row->created = tx->generation;
        version_put(store->head, edit, row->old, row->row);
        row->row = NULL; /* the count is the head's now */
    }
    row->old = NULL; /* may be freed */
}

/* True: the head has changed. */
static bool apply_tx(struct tx *tx)
{
    struct store *store = tx->store;
    tx_relate(tx);
    struct trie_edit edit = store_edit(store, tx->generation);
    bool any = false;
    for (uint32_t i = 0; i < tx->count; i++) {
        if (!tx->rows[i].changed)
            continue;
        any = true;
        apply_row(tx, &edit, &tx->rows[i]);
    }
    if (!any)
        return false;
    /* A tenth of slack, so that the oldest do not go one by one. */
    if (store->head->tombstones.count > store->max_tombstones + store->max_tombstones / 10)
        version_forget(store->head, &edit, store->max_tombstones);
    store->head->generation = tx->generation;
    return true;
}

static void enqueue(struct store *store, struct commit_waiter *waiter)
{
    waiter->next = NULL;
    *store->pending.last = waiter;
    store->pending.last = &waiter->next;
    store->pending.waiters++;
    atomic_fetch_add(&store->queued, 1);
    pthread_cond_signal(&store->work);
}

/* Ends the transaction. 1: `waiter` is queued. 0: there was nothing to do, *generation is the head's.
 * -1: a batch that it could have seen has failed. */
static int tx_end(struct tx *tx, struct commit_waiter *waiter, uint64_t *generation, struct store_err *err)
{
    struct store *store = tx->store;
    int result;
    pthread_mutex_lock(&store->head_lock);
    if (store->failed) {
        *err = store->failure;
        result = -1;
    } else if (tx->count > 0 && apply_tx(tx)) {
        waiter->generation = tx->generation;
        enqueue(store, waiter);
        result = 1;
    } else {
        *generation = store->head->generation;
        result = 0;
    }
    pthread_mutex_unlock(&store->head_lock);
    tx_clear(tx);
    pthread_mutex_unlock(&store->writer);
    return result;
}

struct blocking_wait {
    sem_t over;
    int result;
    uint64_t generation;
    struct store_err err;
};

static void blocking_done(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    struct blocking_wait *wait = arg;
    wait->result = result;
    wait->generation = generation;
    if (result)
        wait->err = *err;
    sem_post(&wait->over);
}

int tx_commit(struct tx *tx, uint64_t *generation, struct store_err *err)
{
    struct blocking_wait wait;
    uint64_t reached;
    struct commit_waiter waiter = {.done = blocking_done, .arg = &wait};
    sem_init(&wait.over, 0, 0);
    int result = tx_end(tx, &waiter, &reached, err);
    if (result == 1) { /* from here on `wait` is the committer's, until it posts */
        while (sem_wait(&wait.over) != 0) /* a signal */
            ;
        result = wait.result;
        reached = wait.generation;
        if (result)
            *err = wait.err;
    }
    sem_destroy(&wait.over);
    if (result == 0 && generation)
        *generation = reached;
    return result;
}

struct async_wait {
    struct commit_waiter waiter;
    void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err);
    void *arg;
};

static void async_done(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    struct async_wait *wait = arg;
    wait->done(wait->arg, result, generation, err);
    free(wait);
}

void tx_commit_async(struct tx *tx,
                     void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err),
                     void *arg)
{
    struct async_wait *wait = xmalloc(sizeof(*wait));
    *wait = (struct async_wait){.waiter = {.done = async_done, .arg = wait}, .done = done, .arg = arg};
    uint64_t generation = 0;
    struct store_err err;
    int result = tx_end(tx, &wait->waiter, &generation, &err);
    if (result != 1)
        async_done(wait, result, generation, &err);
}

/* ---- the committer ---- */

/* One turn of the committer. */
struct batch {
    struct pending taken;
    struct version *target; /* the head as it was when the batch was taken */
    struct engine_change *changes;
    size_t count;
    uint64_t reserve;
};

/* False: the store is closing and nothing is left to do. */
static bool batch_take(struct store *store, struct batch *batch)
{
    size_t size = version_size(&store->schema);
    for (;;) {
        snapshot_free_trash(store);
        pthread_mutex_lock(&store->head_lock);
        if (!store->pending.first && !store->stopping)
            pthread_cond_wait(&store->work, &store->head_lock);
        if (store->pending.first || store->stopping)
            break;
        pthread_mutex_unlock(&store->head_lock);
    }
    bool any = store->pending.first;
    if (any) {
        *batch = (struct batch){.taken = store->pending};
        pending_init(&store->pending);
        store->frozen = store->head->generation;
        batch->target = memcpy(xmalloc(size), store->head, size);
    }
    pthread_mutex_unlock(&store->head_lock);
    return any;
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
    batch->changes = xreallocarray(NULL, batch->taken.count, sizeof(batch->changes[0]));
    for (uint32_t i = 0; i < batch->taken.count; i++)
        change_add(batch, &batch->taken.changes[i]);
    if (newest + GENERATION_BLOCK / 2 > store->reserved)
        batch->reserve = newest + GENERATION_BLOCK;
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
    return ENGINE_DURABLE;
}

static void waiters_finish(struct store *store, struct commit_waiter *first, int result,
                           const struct store_err *err)
{
    for (struct commit_waiter *waiter = first, *next; waiter; waiter = next) {
        next = waiter->next; /* done may free the waiter */
        atomic_fetch_sub(&store->queued, 1);
        waiter->done(waiter->arg, result, waiter->generation, err);
    }
}

static void batch_publish(struct store *store, struct batch *batch)
{
    uint64_t generation = batch->target->generation;
    atomic_fetch_add(&store->commits, batch->taken.waiters);
    atomic_fetch_add(&store->batches, 1);
    snapshot_publish(store, batch->target, &batch->taken.dead);
    waiters_finish(store, batch->taken.first, 0, NULL);
    store_call_watches(store, generation);
}

/* What the batch has touched is written again with the next one, in case that it is on disk after all. */
static void remember_suspects(struct store *store, const struct batch *batch)
{
    store->suspects = xreallocarray(store->suspects, batch->taken.count, sizeof(store->suspects[0]));
    if (batch->taken.count)
        memcpy(store->suspects, batch->taken.changes, batch->taken.count * sizeof(store->suspects[0]));
    store->suspect_count = batch->taken.count;
    if (!store->undo_from)
        store->undo_from = store->current->version->generation + 1;
}

/* Puts the head back to what is published: this batch fails, and with it all that was built on it. */
static void batch_fail(struct store *store, struct batch *batch, enum engine_result why,
                       const struct store_err *err)
{
    if (why == ENGINE_UNKNOWN)
        remember_suspects(store, batch);
    pthread_mutex_lock(&store->head_lock);
    store->failed = true;
    store->failure = *err;
    pthread_mutex_unlock(&store->head_lock);

    /* The open transaction, if any, ends first: it reads the head. */
    pthread_mutex_lock(&store->writer);
    pthread_mutex_lock(&store->head_lock);
    const struct version *good = store->current->version; /* only this thread changes `current` */
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
    free(batch->target);
    waiters_finish(store, batch->taken.first, -1, err);
    waiters_finish(store, late.first, -1, err);
    pending_done(&late);
}

static void *committer_run(void *arg)
{
    struct store *store = arg;
    struct batch batch;
    while (batch_take(store, &batch)) {
        int64_t start = clock_mono_us();
        struct store_err err;
        batch_resolve(store, &batch);
        enum engine_result result = batch_write(store, &batch, &err);
        if (result == ENGINE_DURABLE) {
            batch_publish(store, &batch);
        } else {
            log_error("store", "a batch of changes could not be written", "why", err.text);
            batch_fail(store, &batch, result, &err);
        }
        free(batch.changes);
        pending_done(&batch.taken);
        atomic_store(&store->last_commit_us, (uint64_t)(clock_mono_us() - start));
    }
    return NULL;
}

int committer_start(struct store *store)
{
    return pthread_create(&store->committer, NULL, committer_run, store) == 0 ? 0 : -1;
}

void committer_stop(struct store *store)
{
    pthread_mutex_lock(&store->head_lock);
    store->stopping = true;
    pthread_cond_signal(&store->work);
    pthread_mutex_unlock(&store->head_lock);
    pthread_join(store->committer, NULL);
}
