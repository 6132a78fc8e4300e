/* The end of a transaction. It changes the head, is queued, and waits for its batch. The first thread to
 * queue while nobody writes takes the batch to the disk itself (no thread has to be woken for it);
 * whatever is queued meanwhile is the next batch, led by the next thread to commit or by the committer
 * thread. That thread also makes the calls back of asynchronous commits, so that they never run inside a
 * stranger's tx_commit; it sleeps while there are none. */
#include "store_impl.h"
#include <assert.h>
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <time.h>

/* ---- into the head ---- */

struct trie_edit store_edit(struct store *store, uint64_t generation)
{
    return (struct trie_edit){.frozen = store->frozen, .birth = generation, .dead = &store->pending.dead};
}

static void apply_row(struct tx *tx, const struct trie_edit *edit, struct tx_row *row)
{
    struct store *store = tx->store;
    if (row->need != DISK_NOTHING) {
        pending_need(&store->pending, row->cls, row->ref, row->need);
        store->pending.strict |= tx->sync || !(row->cls->flags & CLASS_LAZY);
    }
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

static uint64_t published_generation(struct store *store)
{
    pthread_mutex_lock(&store->snap_lock);
    uint64_t generation = store->current->version->generation;
    pthread_mutex_unlock(&store->snap_lock);
    return generation;
}

enum tx_fate {
    TX_FAILED = -1, /* a batch that it could have seen has failed */
    TX_NOTHING,     /* there was nothing to do; the waiter's generation is the head's */
    TX_QUEUED,      /* a waiter with a `done` may be gone already */
    TX_LEADS,       /* queued, and the caller has to run the batch */
};

static enum tx_fate queue_waiter(struct store *store, struct commit_waiter *waiter)
{
    waiter_list_add(&store->pending.waiters, waiter);
    atomic_fetch_add(&store->queued, 1);
    waiter->leads = !store->writing && (!waiter->done || waiter->may_lead);
    if (waiter->leads) {
        store->writing = true;
        return TX_LEADS;
    }
    if (!store->writing)
        pthread_cond_signal(&store->work);
    return TX_QUEUED;
}

/* Ends the transaction. One that changed nothing, because the head is as it wants it, waits for the head to
 * be durable: its caller, too, is about to say that it is so. */
static enum tx_fate tx_end(struct tx *tx, struct commit_waiter *waiter)
{
    struct store *store = tx->store;
    enum tx_fate fate = TX_NOTHING;
    pthread_mutex_lock(&store->head_lock);
    if (store->failed) {
        waiter->err = store->failure;
        fate = TX_FAILED;
    } else if (tx->count > 0 && apply_tx(tx)) {
        waiter->generation = tx->generation;
        store->pending.waiter_count++;
        fate = queue_waiter(store, waiter);
    } else {
        waiter->generation = store->head->generation;
        if (waiter->generation != published_generation(store))
            fate = queue_waiter(store, waiter);
    }
    pthread_mutex_unlock(&store->head_lock);
    tx_clear(tx);
    pthread_mutex_unlock(&store->writer);
    return fate;
}

int tx_commit(struct tx *tx, uint64_t *generation, struct store_err *err)
{
    struct store *store = tx->store;
    struct commit_waiter waiter = {.done = NULL};
    sem_init(&waiter.over, 0, 0);
    enum tx_fate fate = tx_end(tx, &waiter);
    if (fate == TX_LEADS)
        batch_run(store);
    else if (fate == TX_QUEUED)
        while (sem_wait(&waiter.over) != 0) /* branch: a signal with a handler, and there is none */
            ;
    sem_destroy(&waiter.over);
    int result = fate == TX_FAILED ? -1 : waiter.result;
    if (result != 0)
        *err = waiter.err;
    else if (generation)
        *generation = waiter.generation;
    return result;
}

static struct commit_waiter *
waiter_new(void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err), void *arg)
{
    struct commit_waiter *waiter = xcalloc(1, sizeof(*waiter));
    waiter->done = done;
    waiter->arg = arg;
    return waiter;
}

void tx_commit_async(struct tx *tx,
                     void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err),
                     void *arg)
{
    struct commit_waiter *waiter = waiter_new(done, arg);
    enum tx_fate fate = tx_end(tx, waiter);
    if (fate == TX_QUEUED)
        return; /* the waiter is the committer's now */
    done(arg, fate == TX_FAILED ? -1 : 0, waiter->generation, &waiter->err);
    free(waiter);
}

int tx_commit_or_queue(struct tx *tx, struct store_err *err,
                       void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err),
                       void *arg)
{
    struct store *store = tx->store;
    struct commit_waiter *waiter = waiter_new(done, arg);
    waiter->may_lead = true;
    enum tx_fate fate = tx_end(tx, waiter);
    if (fate == TX_QUEUED)
        return 1;
    if (fate == TX_LEADS)
        batch_run(store);
    int result = fate == TX_FAILED ? -1 : waiter->result;
    if (result != 0)
        *err = waiter->err;
    free(waiter);
    return result;
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

/* Calls back those who asked for it; head_lock is held before and after. False: there was nothing to tell. */
static bool committer_tell(struct store *store)
{
    struct commit_waiter *notices = store->notices.first;
    if (!notices)
        return false;
    waiter_list_init(&store->notices);
    pthread_mutex_unlock(&store->head_lock);
    tell(notices);
    pthread_mutex_lock(&store->head_lock);
    return true;
}

static void committer_write(struct store *store)
{
    store->writing = true;
    pthread_mutex_unlock(&store->head_lock);
    batch_run(store);
    pthread_mutex_lock(&store->head_lock);
}

/* How often a batch whose end is unknown is looked after when nobody commits. */
#define REPAIR_MS 1000

/* Waits for work. False: the store is closing and there is none. */
static bool committer_wait(struct store *store)
{
    /* Only the thread that writes changes suspect_count, and none does. */
    bool repair = !store->writing && store->suspect_count > 0;
    if (store->stopping && !store->writing) {
        if (!repair || store->closing_repair)
            return false;
        store->closing_repair = true;
        committer_write(store);
    } else if (repair) {
        int64_t ms = clock_mono_ms() + REPAIR_MS;
        struct timespec until = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
        if (pthread_cond_timedwait(&store->work, &store->head_lock, &until) == ETIMEDOUT && !store->writing)
            committer_write(store);
    } else {
        pthread_cond_wait(&store->work, &store->head_lock);
    }
    return true;
}

bool committer_has_work(const struct store *store)
{
    return store->notices.first || store->pending.waiters.first || store->suspect_count > 0 ||
           store->stopping;
}

static void *committer_run(void *arg)
{
    struct store *store = arg;
    pthread_mutex_lock(&store->head_lock);
    do {
        while (committer_tell(store))
            ;
        if (store->pending.waiters.first && !store->writing) {
            committer_write(store);
            continue;
        }
        pthread_mutex_unlock(&store->head_lock);
        snapshot_free_trash(store);
        pthread_mutex_lock(&store->head_lock);
        if (store->notices.first || (store->pending.waiters.first && !store->writing))
            continue;
        if (!committer_wait(store))
            break;
    } while (true);
    pthread_mutex_unlock(&store->head_lock);
    return NULL;
}

int committer_start(struct store *store)
{
    /* branch: a system without room for one more thread */
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
