/* The end of a transaction. It changes the head, is queued, and waits for its batch. The first thread to
 * queue while nobody writes takes the batch to the disk itself (no thread has to be woken for it);
 * whatever is queued meanwhile is the next batch, led by the next thread to commit or by the committer
 * thread. That thread also makes all calls back, so that they never run inside a stranger's tx_commit. */
#include "store_impl.h"
#include <assert.h>
#include <base/mem.h>

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

/* Ends the transaction. 1: `waiter` is queued; *lead: and the caller has to run the batch. 0: there was
 * nothing to do, waiter->generation is the head's. -1: a batch that it could have seen has failed. */
static int tx_end(struct tx *tx, struct commit_waiter *waiter, bool *lead)
{
    struct store *store = tx->store;
    int result;
    pthread_mutex_lock(&store->head_lock);
    if (store->failed) {
        waiter->err = store->failure;
        result = -1;
    } else if (tx->count > 0 && apply_tx(tx)) {
        waiter->generation = tx->generation;
        waiter_list_add(&store->pending.waiters, waiter);
        store->pending.waiter_count++;
        atomic_fetch_add(&store->queued, 1);
        *lead = !store->writing && !waiter->done;
        if (*lead)
            store->writing = true;
        else if (!store->writing)
            pthread_cond_signal(&store->work);
        result = 1;
    } else {
        waiter->generation = store->head->generation;
        result = 0;
    }
    pthread_mutex_unlock(&store->head_lock);
    tx_clear(tx);
    pthread_mutex_unlock(&store->writer);
    return result;
}

int tx_commit(struct tx *tx, uint64_t *generation, struct store_err *err)
{
    struct store *store = tx->store;
    struct commit_waiter waiter = {.done = NULL};
    bool lead = false;
    sem_init(&waiter.over, 0, 0);
    int result = tx_end(tx, &waiter, &lead);
    if (lead)
        batch_run(store);
    if (result == 1) {
        while (sem_wait(&waiter.over) != 0) /* a signal */
            ;
        result = waiter.result;
    }
    sem_destroy(&waiter.over);
    if (result != 0)
        *err = waiter.err;
    else if (generation)
        *generation = waiter.generation;
    return result;
}

void tx_commit_async(struct tx *tx,
                     void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err),
                     void *arg)
{
    struct commit_waiter *waiter = xcalloc(1, sizeof(*waiter));
    waiter->done = done;
    waiter->arg = arg;
    bool lead;
    int result = tx_end(tx, waiter, &lead);
    if (result == 1)
        return; /* the waiter is the committer's now */
    done(arg, result, waiter->generation, &waiter->err);
    free(waiter);
}

/* ---- the committer thread ---- */

static void tell(struct commit_waiter *first)
{
    for (struct commit_waiter *waiter = first, *next; waiter; waiter = next) {
        next = waiter->next;
        waiter->done(waiter->arg, waiter->result, waiter->generation, &waiter->err);
        free(waiter);
    }
}

static uint64_t published_generation(struct store *store)
{
    pthread_mutex_lock(&store->snap_lock);
    uint64_t generation = store->current->version->generation;
    pthread_mutex_unlock(&store->snap_lock);
    return generation;
}

/* One turn, with head_lock held before and after. False: there was nothing to do. */
static bool committer_turn(struct store *store)
{
    uint64_t generation = published_generation(store);
    if (store->notices.first || generation != store->announced) {
        struct commit_waiter *notices = store->notices.first;
        waiter_list_init(&store->notices);
        bool news = generation != store->announced;
        store->announced = generation;
        pthread_mutex_unlock(&store->head_lock);
        tell(notices);
        if (news)
            store_call_watches(store, generation);
        pthread_mutex_lock(&store->head_lock);
        return true;
    }
    if (store->pending.waiters.first && !store->writing) {
        store->writing = true;
        pthread_mutex_unlock(&store->head_lock);
        batch_run(store);
        pthread_mutex_lock(&store->head_lock);
        return true;
    }
    return false;
}

static void *committer_run(void *arg)
{
    struct store *store = arg;
    pthread_mutex_lock(&store->head_lock);
    for (;;) {
        if (committer_turn(store))
            continue;
        pthread_mutex_unlock(&store->head_lock);
        snapshot_free_trash(store);
        pthread_mutex_lock(&store->head_lock);
        if (committer_turn(store))
            continue;
        if (store->stopping && !store->writing)
            break;
        pthread_cond_wait(&store->work, &store->head_lock);
    }
    pthread_mutex_unlock(&store->head_lock);
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
