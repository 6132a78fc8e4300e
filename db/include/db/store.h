/* The store: every row of the pool in memory, every committed change durable in SQLite.
 *
 * Readers take a snapshot: an immutable, consistent view of the whole database that costs one
 * counter and never waits for a writer, nor makes one wait. Rows got from a snapshot are valid as
 * long as the snapshot is held (row_ref keeps one longer).
 *
 * Writers open a transaction. Transactions are serial: one is open at a time, and it sees all that
 * were committed before it, durable or not yet. So a transaction's body only touches memory; it never
 * calls an agent, waits, or does I/O. store_commit queues it and returns when a committer thread has
 * made it durable, together with all others that arrived meanwhile (one SQLite transaction, WAL,
 * synchronous=FULL), and has published it to readers. If that fails (disk full, I/O error) nothing of
 * it is published, nor of any transaction queued after it that could have seen it: all get the error,
 * and the store goes on from the last published state; the next commit tries the disk again.
 *
 * Generations: each transaction has one, larger than every one before, also across restarts. A row
 * carries the generation of its last change and of its creation. Deleted rows leave a tombstone, so
 * that store_changes can tell what vanished since a generation.
 *
 * Relations (field_desc.inverse) are kept on both sides by the store: when VBD.VM changes, the VBD
 * and the VMs on either end get new versions in the same transaction. A reference to a row that does
 * not exist when the transaction is committed becomes null (leaves its set), in every field.
 *
 * Rows of classes without CLASS_PERSIST, and fields without FIELD_PERSIST, are in memory only: a
 * transaction that changes nothing else costs no I/O, but is published in its turn. When the store is
 * opened, rows of CLASS_RUNTIME count as changed, because their runtime fields are back at their
 * initial values.
 *
 * Rows of classes with CLASS_LAZY are on disk too, but what changes them alone does not wait for it: it is
 * handed to the system before it is published, so it survives the end of this process, and is synced with
 * the next change of another class (or tx_sync). When it cannot be written it is published all the same and
 * written later. The machine's sudden end may lose the last such changes. */
#pragma once
#include <model/model.h>
#include <stdbool.h>
#include <stdint.h>

struct store;
struct snapshot;
struct tx;

enum store_errno {
    STORE_OK,
    STORE_E_DISK_FULL, /* no space; nothing was changed; a later commit may succeed */
    STORE_E_IO,        /* the engine could not write or read */
    STORE_E_NEWER,     /* the file was written by a newer version */
    STORE_E_CORRUPT,   /* the file is not a database of ours, or is damaged */
    STORE_E_BUSY,      /* another process has the file open */
    STORE_E_CLOSED,
};
struct store_err {
    enum store_errno code;
    char text[256]; /* a sentence for the log; may hold a path, so never for a client */
};

struct store_config {
    const char *path; /* of the SQLite file; NULL: memory only, for tests */
    /* Tombstones kept at least; older ones are dropped and raise store_oldest_token. 0: 100,000. */
    uint64_t max_tombstones;
    /* Another data model than the real one, for the store's own tests; NULL: model_classes. */
    const struct class_desc *classes;
    uint16_t class_count;
    int schema_version; /* of that model */
};

/* Opens or makes the file, migrates it if older, loads every row. *out only on success. An older copy in the
 * place of the file that was used last is told in the log, and no token from before is good then. */
int store_open(struct store **out, const struct store_config *config, struct store_err *err);
/* A store of its own that begins with what the snapshot shows: its changes are in memory only, seen by nobody
 * else, and gone with store_close. Costs no copy of rows, and the other store takes no notice. For one thread
 * at a time; not for tx_commit_async. Holds the snapshot. */
struct store *store_fork(struct snapshot *base);
/* Waits for queued commits, closes. No transaction may be open, all snapshots released. */
void store_close(struct store *store);

/* Writes a copy of the file at `path`, as of its last durable change, to the new file `to` (not synced). The
 * file may be open as a store, by this process or none. Slow; any thread. */
int store_copy_file(const char *path, const char *to, struct store_err *err);

/* The closed file `from`, of the same folder and without a log, becomes what the next opening of `path` finds
 * there: whoever has that open may go on, but what it writes is lost with the old content, which is kept as
 * <path>-replaced (and <path>-replaced-wal) until the next offer. For readers it is an older copy. 0: so it
 * is, however this process ends. */
int store_offer_file(const char *path, const char *from, struct store_err *err);

/* The file at `path`, which nobody has open, was written by another program since it was a store's: what it
 * holds now is taken for right, when SQLite finds no damage in it. */
int store_accept_file(const char *path, struct store_err *err);

/* ---- reading; any thread ---- */
struct snapshot *store_snapshot(struct store *store);
struct snapshot *snapshot_ref(struct snapshot *snap);
void snapshot_unref(struct snapshot *snap);
void snapshot_unref_cleanup(struct snapshot **snap);
#define AUTO_SNAPSHOT __attribute__((cleanup(snapshot_unref_cleanup)))

uint64_t snapshot_generation(const struct snapshot *snap);
/* NULL: no such row of this class. Borrowed. */
const struct row *snapshot_get(const struct snapshot *snap, const struct class_desc *cls, struct ref ref);
const struct row *snapshot_by_uuid(const struct snapshot *snap, const struct class_desc *cls,
                                   const char *uuid);
/* All rows with that name_label, in creation order; the caller frees *rows with free(). Borrowed rows. */
size_t snapshot_by_name(const struct snapshot *snap, const struct class_desc *cls, const char *name,
                        const struct row ***rows);
size_t snapshot_count(const struct snapshot *snap, const struct class_desc *cls);
/* Calls fn for each row of the class until it returns false. Order: by ref. */
void snapshot_each(const struct snapshot *snap, const struct class_desc *cls,
                   bool (*fn)(const struct row *row, void *arg), void *arg);

/* What changed after `since`, up to the snapshot: cost follows the number of changes. Rows come with
 * their current version, newest last; then what was deleted. A row created and deleted after `since`
 * appears in neither. */
struct store_tombstone {
    const struct class_desc *cls;
    struct ref ref;
    uint64_t created, deleted;
};
void snapshot_changes(const struct snapshot *snap, uint64_t since,
                      bool (*row_fn)(const struct row *row, void *arg),
                      bool (*deleted_fn)(const struct store_tombstone *gone, void *arg), void *arg);
/* A reader whose token (the `since` of snapshot_changes) is older than this has to start over, because
 * deletions after its token may be forgotten. The second form answers for one class: only rows of classes
 * without CLASS_PERSIST vanish without a tombstone when the store is opened anew (those of CLASS_LAZY when
 * the machine was started anew), so a reader of the others can go on with a token from before. */
uint64_t snapshot_oldest_token(const struct snapshot *snap);
uint64_t snapshot_oldest_token_of(const struct snapshot *snap, const struct class_desc *cls);

/* ---- writing ---- */
/* Waits for the open transaction of another thread, if any. Never fails. */
struct tx *store_begin(struct store *store);
/* The same for a thread that must not wait: NULL when that transaction goes on for longer than a millisecond,
 * or while the store takes back what could not be written. */
struct tx *store_begin_soon(struct store *store);
/* The generation that this transaction will have. */
uint64_t tx_generation(const struct tx *tx);
const struct row *tx_get(struct tx *tx, const struct class_desc *cls, struct ref ref);
const struct row *tx_by_uuid(struct tx *tx, const struct class_desc *cls, const char *uuid);
size_t tx_by_name(struct tx *tx, const struct class_desc *cls, const char *name, const struct row ***rows);
size_t tx_count(struct tx *tx, const struct class_desc *cls);
void tx_each(struct tx *tx, const struct class_desc *cls, bool (*fn)(const struct row *row, void *arg),
             void *arg);
/* For the first transaction of a store that was just opened, before anything was changed in it or read from a
 * snapshot: calls fn with each row of a CLASS_RUNTIME class, which may set its fields without FIELD_PERSIST
 * in place, unless they are references. That makes no new versions: the opening has made the rows new for
 * every reader. Several threads call it at once, each with a transaction that is for looking up alone; so
 * what fn sets, it must not read in other rows. */
void tx_settle(struct tx *tx, const struct class_desc *cls,
               void (*fn)(struct tx *tx, struct row *row, void *arg), void *arg);
/* A version that may be changed until commit; the same one when asked again. NULL: no such row.
 * Fields marked FIELD_DERIVED must not be touched; they show the state before the transaction until it is
 * committed. */
struct row *tx_edit(struct tx *tx, const struct class_desc *cls, struct ref ref);
/* The row counts as changed even if it stays equal: it gets a new generation. In memory only. */
void tx_renew(struct tx *tx, const struct class_desc *cls, struct ref ref);
/* A new row with fresh ref and uuid (when the class has one), all else initial. */
struct row *tx_create(struct tx *tx, const struct class_desc *cls);
/* The same with a reference of the caller's choice, which names no row of the class, nor did in this
 * transaction. */
struct row *tx_create_as(struct tx *tx, const struct class_desc *cls, struct ref ref);
/* References to it in other rows become null, it leaves all sets. */
void tx_delete(struct tx *tx, const struct class_desc *cls, struct ref ref);
/* The transaction waits for the disk also when it changes rows of CLASS_LAZY alone. */
void tx_sync(struct tx *tx);
/* Calls fn for each row created or edited so far; fn may edit further rows, which are not visited. */
void tx_each_touched(struct tx *tx,
                     void (*fn)(struct tx *tx, const struct class_desc *cls, struct ref ref, void *arg),
                     void *arg);
/* Ends the transaction. 0: durable and published, *generation (may be NULL) is its own. -1: certainly
 * not applied. A transaction without changes waits for what it could have seen. Blocks: not for a network
 * thread. */
int tx_commit(struct tx *tx, uint64_t *generation, struct store_err *err);
/* As tx_commit, but returns at once; `done` is called once from the committer thread (or from this
 * call, when there is nothing to write) and must not block. */
void tx_commit_async(struct tx *tx,
                     void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err),
                     void *arg);
/* As tx_commit when nobody else writes: 0 or -1, and `done` is not called. Otherwise 1, at once: the
 * transaction goes along with the next batch, and `done` is called as by tx_commit_async. */
int tx_commit_or_queue(struct tx *tx, struct store_err *err,
                       void (*done)(void *arg, int result, uint64_t generation, const struct store_err *err),
                       void *arg);
/* Ends the transaction without applying anything. */
void tx_abort(struct tx *tx);

/* ---- waiting ---- */
/* `fn` is called after each publication with the newest generation, one call at a time, by a thread that
 * commits: it must be quick and must not call into the store except store_snapshot. The watch is
 * removed by store_unwatch, which returns only when no call of fn is running. */
struct store_watch;
struct store_watch *store_watch(struct store *store, void (*fn)(void *arg, uint64_t generation), void *arg);
void store_unwatch(struct store *store, struct store_watch *watch);
/* Blocks until something was published after `generation` or the deadline (clock_mono_ms) passed.
 * Returns the newest published generation. Not for a network thread. */
uint64_t store_wait(struct store *store, uint64_t generation, int64_t deadline_mono_ms);

/* Figures for operators, since the store was opened: commits a batch is commits / batches. */
struct store_stats {
    uint64_t rows, generation, commits, batches, failures;
    uint64_t last_commit_us, queued;
    uint64_t disk_bytes; /* of the file and its log */
    int64_t failed_ms; /* clock_mono_ms of the last write that failed, if none has succeeded since; else 0 */
};
void store_stats(struct store *store, struct store_stats *out);

/* Walks everything and compares: both sides of each relation, references without a target, indexes, counts,
 * generations. 0, or -1 with a sentence about the first fault. Slow; for tests and diagnosis. */
int store_check(struct store *store, struct store_err *err);
