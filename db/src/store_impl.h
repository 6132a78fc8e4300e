/* The inside of a store, shared by its files.
 *
 *   tx.c         the body of a transaction: an overlay of edited rows over the head
 *   relate.c     its end: references and derived sets put right
 *   commit.c     the end of a transaction: the change of the head, waiting, the committer thread
 *   batch.c      one batch: written, published, or rolled back
 *   snapshot.c   published versions and the garbage between them
 *   store.c      opening, closing, watches, figures
 *   fork.c       a store over a snapshot of another one
 *
 * Locks, in the order in which they are taken: writer, head_lock, chain_lock, snap_lock. watch_lock is
 * taken by itself (its callbacks may take snap_lock). */
#pragma once
#include "engine.h"
#include "refmap.h"
#include "version.h"
#include <db/store.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

/* How much of a changed row the disk has to hear of. */
enum disk_need { DISK_NOTHING, DISK_GENERATION, DISK_ROW };

/* A row in a transaction's overlay. */
struct tx_row {
    const struct class_desc *cls;
    struct ref ref;
    const struct row *old; /* in the head; NULL: created here */
    struct row *row;       /* the version being edited, one count; NULL: deleted. The same as `old`
                              (without a count) when that is changed in place */
    bool changed;          /* this and the next are worked out at the end */
    enum disk_need need;
};

#define TX_LOOKS 32

/* Rules ask for the same few rows again and again. */
struct tx_look {
    const struct class_desc *cls; /* NULL: none */
    struct ref ref;
    const struct row *row;
};

struct tx {
    struct store *store;
    uint64_t generation;
    struct tx_row *rows; /* in the order in which they were touched */
    uint32_t count, cap;
    struct refmap map;
    bool sync; /* see tx_sync */
    bool looked;
    struct tx_look looks[TX_LOOKS]; /* what was found in the head lately, by a part of the reference */
};

/* A transaction that waits for its batch. */
struct commit_waiter {
    struct commit_waiter *next;
    uint64_t generation;
    int result;           /* set before the waiter is told */
    struct store_err err; /* with result -1 */
    sem_t over;           /* posted, when done is NULL and it does not lead */
    bool may_lead;        /* it may write its batch itself, although it has a `done` */
    bool leads;           /* it does: its thread needs not be told */
    void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err);
    void *arg;
};

struct waiter_list {
    struct commit_waiter *first, **last;
};

struct pending_change {
    const struct class_desc *cls;
    struct ref ref;
    enum disk_need need;
};

/* What was committed into the head since the committer took it last. */
struct pending {
    struct waiter_list waiters;
    uint64_t waiter_count;
    struct refmap map; /* into changes */
    struct pending_change *changes;
    uint32_t count, cap;
    struct store_tombstone *tombstones;
    uint32_t tombstone_count, tombstone_cap;
    bool strict; /* some of it has to be synced before it is published: not only rows of CLASS_LAZY */
    struct garbage dead;
};

struct snapshot {
    _Atomic uint32_t refs;
    struct store *store;
    struct version *version;
    /* Guarded by chain_lock. `dead` is what this version sees and the next newer one does not. */
    struct snapshot *older, *newer;
    struct garbage dead;
};

struct store_watch {
    struct store_watch *next;
    void (*fn)(void *arg, uint64_t generation);
    void *arg;
};

struct store {
    struct schema schema;
    struct engine *engine;
    uint64_t max_tombstones;
    struct snapshot *base; /* of a fork: counted; NULL: it is none */
    uint64_t floor;        /* what was born up to here belongs to the base; 0: nothing */

    pthread_mutex_t writer; /* held from store_begin to the end of the transaction */
    struct tx tx;           /* the open one; guarded by writer */

    /* Guarded by head_lock; the head is changed only by the holder of writer too. */
    pthread_mutex_t head_lock;
    pthread_cond_t work;   /* for the committer */
    pthread_cond_t healed; /* `failed` was cleared */
    struct version *head;
    uint64_t frozen; /* generation of the head when the committer took it last */
    struct pending pending;
    bool writing;               /* some thread is at the engine */
    struct waiter_list notices; /* asynchronous commits that are over, in order: for the committer to tell */
    bool failed;                /* a batch failed and the head is about to go back to what is published */
    struct store_err failure;
    bool stopping;

    uint64_t next_generation; /* guarded by writer */

    pthread_t committer;
    bool closing_repair; /* the committer's: the last try was made */
    /* Of the thread that set `writing`. */
    uint64_t reserved; /* on disk: generations below this may be published */
    uint64_t undo_from;
    /* Written again with the next batch: of batches whose end is unknown, or that could not be written and
     * were published all the same (rows of CLASS_LAZY, with their tombstones). */
    struct pending_change *suspects;
    uint32_t suspect_count;
    struct store_tombstone *owed;
    uint32_t owed_count;
    uint64_t forgotten_on_disk;

    pthread_mutex_t chain_lock;
    struct garbage trash; /* guarded by chain_lock: for the committer to free */
    pthread_mutex_t snap_lock;
    pthread_cond_t published; /* `current` changed */
    struct snapshot *current; /* guarded by snap_lock */

    pthread_mutex_t watch_lock;
    struct store_watch *watches;

    _Atomic uint64_t commits, batches, failures, last_commit_us, queued;
    _Atomic int64_t failed_ms;
};

/* Generations are reserved on disk in blocks of this size. */
#define GENERATION_BLOCK (UINT64_C(1) << 20)

/* ---- relate.c ---- */
/* Puts references and derived sets right, and sets `changed` and `need` of every row of the overlay, to
 * which it adds rows. Derived sets of rows that no reader knows yet are changed in the head itself. The
 * caller holds head_lock; the transaction has to be applied afterwards. */
void tx_relate(struct tx *tx);

/* ---- tx.c ---- */
/* Both valid until the next row is touched. NULL: not in the overlay, or (tx_touch) no such row at all. */
struct tx_row *tx_find(const struct tx *tx, const struct class_desc *cls, struct ref ref);
struct tx_row *tx_touch(struct tx *tx, const struct class_desc *cls, struct ref ref);
struct tx_row *tx_add(struct tx *tx, const struct class_desc *cls, struct ref ref, const struct row *old,
                      struct row *row);
void tx_clear(struct tx *tx);

/* ---- commit.c ---- */
/* With head_lock, while nobody writes: something for the committer to do. */
bool committer_has_work(const struct store *store);
int committer_start(struct store *store);
/* Waits until all that is queued has been written and told, and ends the thread. */
void committer_stop(struct store *store);

/* ---- batch.c ---- */
void waiter_list_init(struct waiter_list *list);
void waiter_list_add(struct waiter_list *list, struct commit_waiter *waiter);
void pending_init(struct pending *pending);
void pending_done(struct pending *pending);
void pending_need(struct pending *pending, const struct class_desc *cls, struct ref ref, enum disk_need need);
void pending_tombstone(struct pending *pending, const struct store_tombstone *gone);
/* Takes all that is pending (which may be nothing but the suspects), makes it durable and publishes it, or
 * fails it. The caller has set `writing`
 * and holds no lock; `writing` is false afterwards. */
void batch_run(struct store *store);

/* ---- snapshot.c ---- */
/* Publishes a version: it becomes `current`. `dead` (emptied) is what the version before it used last. */
void snapshot_publish(struct store *store, struct version *version, struct garbage *dead);
/* Frees what readers left to the committer. */
void snapshot_free_trash(struct store *store);
void rows_sort_by_creation(const struct row **rows, size_t count);

/* ---- load.c ---- */
/* Fills the head from the engine. */
int store_load(struct store *store, struct store_err *err);

/* ---- store.c ---- */
/* Without rows, engine and committer. The schema is taken over. */
struct store *store_new(const struct schema *schema);
void store_call_watches(struct store *store, uint64_t generation);
struct trie_edit store_edit(struct store *store, uint64_t generation);
