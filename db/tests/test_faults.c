/* What happens when the disk does not do as it is told: full, I/O errors at every single operation, a
 * process killed at any moment. What was acknowledged is there, what failed is not. */
#include "fault_engine.h"
#include "fault_vfs.h"
#include "fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static size_t disks(struct store *store)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    return snapshot_count(snap, DISK);
}

static int add_disk(struct store *store, const char *name, struct store_err *err)
{
    struct tx *tx = store_begin(store);
    str_assign(&AS(disk, tx_create(tx, DISK))->name_label, name);
    return tx_commit(tx, NULL, err);
}

static bool has_disk(struct store *store, const char *name)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    AUTO_FREE const struct row **rows = NULL;
    return snapshot_by_name(snap, DISK, name, &rows) == 1;
}

static struct store *open_with(struct fault_control *control)
{
    struct store *store;
    struct store_err err;
    struct store_config config = fixture_config();
    struct engine *engine = fault_engine_new(engine_memory_new(), control);
    cr_assert_eq(store_open_engine(&store, &config, engine, &err), 0);
    return store;
}

/* ---- failures of batches ---- */

Test(faults, a_full_disk_publishes_nothing_and_the_next_commit_tries_again)
{
    struct fault_control control = {0};
    struct store *store = open_with(&control);
    struct store_err err;
    cr_assert_eq(add_disk(store, "good", &err), 0);
    control.next = FAULT_DISK_FULL;
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(add_disk(store, "bad", &err), -1);
        cr_assert_eq(err.code, STORE_E_DISK_FULL);
    }
    cr_assert_eq(disks(store), 1);
    fixture_check(store);
    control.next = FAULT_IO;
    cr_assert_eq(add_disk(store, "bad", &err), -1);
    cr_assert_eq(err.code, STORE_E_IO);
    control.next = FAULT_NONE;
    cr_assert_eq(add_disk(store, "better", &err), 0);
    cr_assert_eq(disks(store), 2);
    cr_assert(!has_disk(store, "bad"));
    struct store_stats stats;
    store_stats(store, &stats);
    cr_assert_eq(stats.failures, 4);
    cr_assert_eq(stats.queued, 0);
    fixture_check(store);
    store_close(store);
}

/* ---- rows that do not wait for the disk ---- */

static struct ref add_errand(struct store *store, const char *name, bool sync)
{
    struct tx *tx = store_begin(store);
    struct errand_row *errand = AS(errand, tx_create(tx, ERRAND));
    struct ref ref = errand->row.ref;
    str_assign(&errand->name_label, name);
    if (sync)
        tx_sync(tx);
    fixture_commit(tx);
    return ref;
}

static bool ignore_row(const struct row *row, void *arg)
{
    (void)row, (void)arg;
    return true;
}

static bool note_gone(const struct store_tombstone *gone, void *arg)
{
    *(struct ref *)arg = gone->ref;
    return true;
}

static void drop_errand(struct store *store, struct ref ref)
{
    struct tx *tx = store_begin(store);
    tx_delete(tx, ERRAND, ref);
    fixture_commit(tx);
}

static size_t errands(struct store *store)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    return snapshot_count(snap, ERRAND);
}

Test(faults, lazy_rows_do_not_wait_for_the_disk_unless_asked_or_with_others)
{
    struct fault_control control = {0};
    struct store *store = open_with(&control);
    struct store_err err;
    cr_assert_eq(add_disk(store, "the first batch reserves generations", &err), 0);
    int lazy = control.lazy;
    add_errand(store, "alone", false);
    cr_assert_eq(control.lazy, lazy + 1);
    add_errand(store, "asked", true);
    struct tx *tx = store_begin(store);
    tx_create(tx, ERRAND);
    tx_create(tx, DISK);
    fixture_commit(tx);
    cr_assert_eq(control.lazy, lazy + 1);
    store_close(store);
}

Test(faults, lazy_rows_are_published_on_a_full_disk_and_written_when_it_has_room)
{
    char folder[64], path[96];
    fixture_folder(folder);
    snprintf(path, sizeof(path), "%s/pool.db", folder);
    struct fault_control control = {0};
    struct store_config config = fixture_config();
    struct engine *engine;
    struct store *store;
    struct store_err err;
    cr_assert_eq(engine_sqlite_open(&engine, path, NULL, &err), 0);
    cr_assert_eq(store_open_engine(&store, &config, fault_engine_new(engine, &control), &err), 0);
    cr_assert_eq(add_disk(store, "good", &err), 0);
    struct ref old = add_errand(store, "old", false);
    struct snapshot *snap = store_snapshot(store);
    uint64_t token = snapshot_generation(snap);
    snapshot_unref(snap);
    control.next = FAULT_DISK_FULL;
    struct ref fresh = add_errand(store, "fresh", false);
    drop_errand(store, old);
    cr_assert_eq(errands(store), 1);
    cr_assert_eq(add_disk(store, "bad", &err), -1);
    cr_assert_eq(errands(store), 1, "a failed batch takes nothing with it that was published");
    control.next = FAULT_NONE;
    cr_assert_eq(add_disk(store, "better", &err), 0);
    fixture_check(store);
    store_close(store);

    store = fixture_open(path);
    snap = store_snapshot(store);
    cr_assert_not_null(snapshot_get(snap, ERRAND, fresh));
    cr_assert_null(snapshot_get(snap, ERRAND, old));
    cr_assert_leq(snapshot_oldest_token_of(snap, ERRAND), token);
    struct ref gone = REF_NULL;
    snapshot_changes(snap, token, ignore_row, note_gone, &gone);
    cr_assert(ref_eq(gone, old), "its tombstone was written late, but it was");
    snapshot_unref(snap);
    store_close(store);
    fixture_remove(folder);
}

static void ignore_result(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    (void)arg, (void)result, (void)generation, (void)err;
}

struct adder {
    pthread_t thread;
    struct store *store;
    char name[16];
    int result;
    struct store_err err;
};

static void *adder_run(void *arg)
{
    struct adder *adder = arg;
    adder->result = add_disk(adder->store, adder->name, &adder->err);
    return NULL;
}

static void adder_start(struct adder *adder, struct store *store, int number)
{
    adder->store = store;
    snprintf(adder->name, sizeof(adder->name), "d%d", number);
    cr_assert_eq(pthread_create(&adder->thread, NULL, adder_run, adder), 0);
}

static void wait_queued(struct store *store, uint64_t count)
{
    struct store_stats stats;
    do {
        sched_yield();
        store_stats(store, &stats);
    } while (stats.queued < count);
}

#define ADDERS 8

Test(faults, a_failed_batch_takes_all_with_it_that_could_have_seen_it)
{
    struct fault_control control = {.hold = true, .next = FAULT_DISK_FULL};
    struct store *store = open_with(&control);
    struct adder adders[ADDERS];
    for (int i = 0; i < ADDERS; i++) {
        adder_start(&adders[i], store, i);
        wait_queued(store, (uint64_t)i + 1);
    }
    /* An open transaction, too: it sees what is queued. */
    struct tx *tx = store_begin(store);
    cr_assert_eq(tx_count(tx, DISK), ADDERS);
    tx_create(tx, DISK);
    cr_assert_eq(disks(store), 0, "nothing is published before it is durable");
    control.hold = false;
    while (control.applied == 0)
        sched_yield();
    /* The committer may or may not have noticed: either way this one cannot succeed. */
    struct store_err err;
    cr_assert_eq(tx_commit(tx, NULL, &err), -1);
    cr_assert_eq(err.code, STORE_E_DISK_FULL);
    for (int i = 0; i < ADDERS; i++) {
        pthread_join(adders[i].thread, NULL);
        cr_assert_eq(adders[i].result, -1);
        cr_assert_eq(adders[i].err.code, STORE_E_DISK_FULL);
    }
    cr_assert_eq(disks(store), 0);
    control.next = FAULT_NONE;
    cr_assert_eq(add_disk(store, "after", &err), 0);
    cr_assert_eq(disks(store), 1);
    fixture_check(store);
    store_close(store);
}

static void *end_run(void *arg)
{
    struct adder *ender = arg;
    struct tx *tx = store_begin(ender->store);
    cr_assert_eq(tx_count(tx, DISK), 1, "it finds what it wants in the head");
    ender->result = tx_commit(tx, NULL, &ender->err);
    cr_assert(ender->result < 0 || disks(ender->store) == 1, "what it has seen is published once it returns");
    return NULL;
}

/* Whoever finds that all is as wanted already says so no earlier than it is durable. */
Test(faults, a_transaction_without_changes_waits_for_what_it_saw)
{
    for (int fault = FAULT_NONE; fault <= FAULT_DISK_FULL; fault++) {
        struct fault_control control = {.hold = true, .next = fault};
        struct store *store = open_with(&control);
        struct adder adder, ender = {.store = store};
        adder_start(&adder, store, 0);
        while (control.waiting == 0)
            sched_yield();
        cr_assert_eq(pthread_create(&ender.thread, NULL, end_run, &ender), 0);
        wait_queued(store, 2);
        cr_assert_eq(disks(store), 0);
        control.hold = false;
        pthread_join(ender.thread, NULL);
        pthread_join(adder.thread, NULL);
        cr_assert_eq(ender.result, fault == FAULT_NONE ? 0 : -1);
        cr_assert_eq(adder.result, ender.result);
        cr_assert_eq(disks(store), fault == FAULT_NONE);
        fixture_check(store);
        store_close(store);
    }
}

Test(faults, many_transactions_share_one_batch)
{
    struct fault_control control = {.hold = true};
    struct store *store = open_with(&control);
    struct adder adders[ADDERS];
    adder_start(&adders[0], store, 0);
    while (control.waiting == 0)
        sched_yield();
    for (int i = 1; i < ADDERS; i++)
        adder_start(&adders[i], store, i);
    wait_queued(store, ADDERS);
    control.hold = false;
    for (int i = 0; i < ADDERS; i++) {
        pthread_join(adders[i].thread, NULL);
        cr_assert_eq(adders[i].result, 0);
    }
    struct store_stats stats;
    store_stats(store, &stats);
    cr_assert_eq(stats.commits, ADDERS);
    cr_assert_eq(stats.batches, 2);
    cr_assert_eq(disks(store), ADDERS);
    store_close(store);
}

struct told {
    _Atomic int calls, result;
    _Atomic uint64_t generation;
    _Atomic enum store_errno code;
};

static void on_landed(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    struct told *told = arg;
    told->result = result;
    told->generation = generation;
    told->code = result < 0 ? err->code : STORE_OK;
    told->calls++;
}

/* With nobody else at the disk it is written at once, and never told; otherwise it is told when the batch
 * after is over. */
Test(faults, a_commit_that_need_not_wait)
{
    static const enum fault faults[] = {FAULT_NONE, FAULT_DISK_FULL, FAULT_IO};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct fault_control control = {.next = faults[i]};
        struct store *store = open_with(&control);
        struct told alone = {0}, behind = {0};
        struct store_err err;
        struct tx *tx = store_begin(store);
        tx_create(tx, DISK);
        cr_assert_eq(tx_commit_or_queue(tx, &err, on_landed, &alone), faults[i] ? -1 : 0);
        cr_assert_eq(disks(store), faults[i] ? 0 : 1);

        control.hold = true;
        control.next = FAULT_NONE;
        struct adder adder;
        adder_start(&adder, store, 1);
        while (control.waiting == 0)
            sched_yield();
        tx = store_begin(store);
        tx_create(tx, DISK);
        uint64_t generation = tx_generation(tx);
        cr_assert_eq(tx_commit_or_queue(tx, &err, on_landed, &behind), 1);
        cr_assert_eq(behind.calls, 0);
        control.next = faults[i];
        control.hold = false;
        pthread_join(adder.thread, NULL);
        store_close(store); /* waits for the call */
        cr_assert_eq(behind.calls, 1);
        cr_assert_eq(behind.result, faults[i] ? -1 : 0);
        cr_assert_eq(behind.code == STORE_OK, !faults[i]);
        cr_assert(faults[i] || behind.generation == generation);
        cr_assert_eq(alone.calls, 0);
    }
}

static void *soon_run(void *arg)
{
    struct adder *other = arg;
    struct tx *tx = store_begin_soon(other->store);
    other->result = tx ? 0 : -1;
    if (tx)
        tx_abort(tx);
    return NULL;
}

/* Who must not wait gets a transaction when none is open and none is being taken back. */
Test(faults, a_transaction_that_has_to_begin_soon)
{
    struct fault_control control = {.next = FAULT_NONE};
    struct store *store = open_with(&control);
    struct store_err err;
    struct tx *tx = store_begin_soon(store);
    cr_assert_not_null(tx);
    tx_create(tx, DISK);
    cr_assert_eq(tx_commit(tx, NULL, &err), 0);
    cr_assert_eq(disks(store), 1);
    tx = store_begin(store);
    struct adder other = {.store = store};
    cr_assert_eq(pthread_create(&other.thread, NULL, soon_run, &other), 0);
    pthread_join(other.thread, NULL);
    cr_assert_eq(other.result, -1, "another one is open");

    /* While a batch that failed waits for the open transaction, none begins. */
    control.hold = true;
    control.next = FAULT_DISK_FULL;
    tx_abort(tx);
    struct adder adder;
    adder_start(&adder, store, 1);
    while (control.waiting == 0)
        sched_yield();
    tx = store_begin(store);
    control.hold = false;
    while (control.applied < 2)
        sched_yield();
    tx_abort(tx);
    pthread_join(adder.thread, NULL);
    cr_assert_eq(adder.result, -1);
    control.next = FAULT_NONE;
    tx = store_begin_soon(store);
    cr_assert_not_null(tx, "the head is as it was");
    cr_assert_eq(tx_count(tx, DISK), 1);
    tx_abort(tx);
    store_close(store);
}

Test(faults, sets_that_grow_within_one_batch)
{
    struct fault_control control = {.hold = true};
    struct store *store = open_with(&control);
    struct tx *tx = store_begin(store);
    struct ref disk = tx_create(tx, DISK)->ref, links[6];
    tx_commit_async(tx, ignore_result, NULL);
    while (control.waiting == 0)
        sched_yield();
    struct snapshot *before = store_snapshot(store);
    for (int i = 0; i < 6; i++) { /* all in the next batch */
        tx = store_begin(store);
        links[i] = tx_create(tx, LINK)->ref;
        AS(link, tx_edit(tx, LINK, links[i]))->disk = disk;
        row_json(tx_get(tx, DISK, disk)); /* must not be remembered */
        if (i == 4)
            tx_delete(tx, LINK, links[2]);
        if (i == 5)
            AS(link, tx_edit(tx, LINK, links[0]))->disk = REF_NULL;
        tx_commit_async(tx, ignore_result, NULL);
    }
    control.hold = false;
    struct store_err err;
    cr_assert_eq(add_disk(store, "last", &err), 0);
    struct snapshot *after = store_snapshot(store);
    const struct row *row = snapshot_get(after, DISK, disk);
    cr_assert_eq(AS(disk, row)->links->count, 4);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(ref_set_has(AS(disk, row)->links, links[i]), i != 0 && i != 2);
    cr_assert_not_null(strstr(row_json(row)->text, REF_TEXT(links[5])));
    cr_assert_null(snapshot_get(before, DISK, disk));
    snapshot_unref(before);
    snapshot_unref(after);
    fixture_check(store);
    store_close(store);
}

/* ---- SQLite on a failing medium ---- */

struct place {
    char folder[64], copy_folder[64];
    char path[96], copy[96];
};

static struct place place_make(void)
{
    struct place place;
    fixture_folder(place.folder);
    fixture_folder(place.copy_folder);
    snprintf(place.path, sizeof(place.path), "%s/pool.db", place.folder);
    snprintf(place.copy, sizeof(place.copy), "%s/pool.db", place.copy_folder);
    return place;
}

static void place_remove(struct place *place)
{
    fixture_remove(place->folder);
    fixture_remove(place->copy_folder);
}

static struct store *open_faulty(const char *path)
{
    static bool registered;
    if (!registered)
        fault_vfs_register();
    registered = true;
    struct sqlite_options options = {.vfs = FAULT_VFS_NAME};
    struct engine *engine;
    struct store *store;
    struct store_err err;
    struct store_config config = fixture_config();
    cr_assert_eq(engine_sqlite_open(&engine, path, &options, &err), 0, "%s", err.text);
    cr_assert_eq(store_open_engine(&store, &config, engine, &err), 0, "%s", err.text);
    return store;
}

static void copy_file(const char *from, const char *to, const char *suffix)
{
    AUTO_FREE char *source = xasprintf("%s%s", from, suffix), *target = xasprintf("%s%s", to, suffix);
    AUTO_CLOSE int in = open(source, O_RDONLY);
    AUTO_CLOSE int out = open(target, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char block[65536];
    for (ssize_t n; (n = read(in, block, sizeof(block))) > 0;)
        cr_assert_eq(write(out, block, (size_t)n), n);
}

/* The files as they are now, as if the process had been killed. */
static struct store *open_copy(const struct place *place)
{
    copy_file(place->path, place->copy, "");
    copy_file(place->path, place->copy, "-wal");
    AUTO_FREE char *index = xasprintf("%s-shm", place->copy);
    unlink(index);
    return fixture_open(place->copy);
}

static void fail_next(int operations, int after, int times, int code)
{
    fault_vfs.operations = operations;
    fault_vfs.after = after;
    fault_vfs.code = code;
    fault_vfs.times = times;
}

Test(faults, nothing_is_acknowledged_before_the_log_is_synced)
{
    struct place place = place_make();
    struct store *store = open_faulty(place.path);
    struct store_err err;
    for (int i = 0; i < 20; i++) {
        cr_assert_eq(add_disk(store, "d", &err), 0);
        cr_assert(!fault_vfs.dirty);
    }
    store_close(store);
    place_remove(&place);
}

Test(faults, a_commit_that_failed_to_sync_does_not_come_back)
{
    struct place place = place_make();
    struct store *store = open_faulty(place.path);
    struct store_err err;
    cr_assert_eq(add_disk(store, "before", &err), 0);
    fail_next(VFS_SYNC, 0, 1, SQLITE_IOERR_FSYNC);
    cr_assert_eq(add_disk(store, "failed", &err), -1);
    cr_assert_eq(err.code, STORE_E_IO);
    struct store *copy = open_copy(&place);
    cr_assert(has_disk(copy, "before") && !has_disk(copy, "failed"));
    store_close(copy);
    cr_assert_eq(add_disk(store, "after", &err), 0);
    copy = open_copy(&place);
    cr_assert(has_disk(copy, "before") && !has_disk(copy, "failed") && has_disk(copy, "after"));
    fixture_check(copy);
    store_close(copy);
    store_close(store);
    place_remove(&place);
}

Test(faults, what_an_unknown_outcome_left_is_undone_when_the_disk_is_back)
{
    struct place place = place_make();
    struct store *store = open_faulty(place.path);
    struct store_err err;
    cr_assert_eq(add_disk(store, "before", &err), 0);
    fail_next(VFS_SYNC, 0, 1000, SQLITE_IOERR_FSYNC);
    cr_assert_eq(add_disk(store, "failed", &err), -1);
    cr_assert(!has_disk(store, "failed"));
    fail_next(0, 0, 0, 0);
    cr_assert_eq(add_disk(store, "after", &err), 0);
    struct store *copy = open_copy(&place);
    cr_assert(has_disk(copy, "before") && !has_disk(copy, "failed") && has_disk(copy, "after"));
    store_close(copy);
    store_close(store);
    place_remove(&place);
}

Test(faults, what_an_unknown_outcome_left_is_undone_without_a_further_commit)
{
    struct place place = place_make();
    struct store *store = open_faulty(place.path);
    struct store_err err;
    cr_assert_eq(add_disk(store, "before", &err), 0);
    fail_next(VFS_SYNC, 0, 1000, SQLITE_IOERR_FSYNC);
    cr_assert_eq(add_disk(store, "failed", &err), -1);
    fail_next(0, 0, 0, 0);
    fault_vfs.dirty = true;
    int64_t deadline = clock_mono_ms() + 20000;
    while (fault_vfs.dirty && clock_mono_ms() < deadline)
        sched_yield();
    struct store *copy = open_copy(&place);
    cr_assert(has_disk(copy, "before") && !has_disk(copy, "failed"));
    store_close(copy);
    /* And when the store is closed before that. */
    fail_next(VFS_SYNC, 0, 1000, SQLITE_IOERR_FSYNC);
    cr_assert_eq(add_disk(store, "failed", &err), -1);
    fail_next(0, 0, 0, 0);
    store_close(store);
    store = fixture_open(place.path);
    cr_assert(has_disk(store, "before") && !has_disk(store, "failed"));
    fixture_check(store);
    store_close(store);
    place_remove(&place);
}

/* Fails the nth operation, for every n, and compares what a restart finds with what was acknowledged. */
static void torture(int operations, int code, bool apply_anyway)
{
    enum { STEPS = 6 };
    struct place place = place_make();
    bool reached = true;
    for (int n = 0; reached; n++) {
        struct store *store = open_faulty(place.path);
        struct store_err err;
        bool good[STEPS];
        char names[STEPS][24];
        fault_vfs.apply_anyway = apply_anyway;
        fail_next(operations, n, 1, code);
        for (int i = 0; i < STEPS; i++) {
            snprintf(names[i], sizeof(names[i]), "%d-%d-%d", code, n, i);
            good[i] = add_disk(store, names[i], &err) == 0;
            if (i == 3)
                cr_assert_eq(has_disk(store, names[i]), good[i]);
        }
        reached = fault_vfs.times == 0;
        fail_next(0, 0, 0, 0);
        struct store *copy = open_copy(&place);
        for (int i = 0; i < STEPS; i++)
            cr_assert_eq(has_disk(copy, names[i]), good[i], "operation %d, commit %d", n, i);
        fixture_check(copy);
        store_close(copy);
        fixture_check(store);
        store_close(store);
    }
    place_remove(&place);
}

Test(faults, a_full_disk_at_every_write)
{
    torture(VFS_WRITE, SQLITE_FULL, false);
}

Test(faults, an_io_error_at_every_write)
{
    torture(VFS_WRITE, SQLITE_IOERR_WRITE, false);
}

Test(faults, an_io_error_at_every_write_that_yet_happened)
{
    torture(VFS_WRITE, SQLITE_IOERR_WRITE, true);
}

Test(faults, an_io_error_at_every_sync)
{
    torture(VFS_SYNC, SQLITE_IOERR_FSYNC, false);
}

Test(faults, the_kernel_says_that_the_file_may_not_grow)
{
    struct place place = place_make();
    struct store *store = fixture_open(place.path);
    struct store_err err;
    cr_assert_eq(add_disk(store, "before", &err), 0);
    AUTO_FREE char *wal = xasprintf("%s-wal", place.path);
    struct stat st;
    cr_assert_eq(stat(wal, &st), 0);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = (rlim_t)st.st_size + 10000;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct tx *tx = store_begin(store);
    for (int i = 0; i < 500; i++)
        str_assign(&AS(disk, tx_create(tx, DISK))->name_label, "too many");
    cr_assert_eq(tx_commit(tx, NULL, &err), -1);
    cr_assert_eq(err.code, STORE_E_DISK_FULL, "%s", err.text);
    cr_assert_eq(disks(store), 1);
    setrlimit(RLIMIT_FSIZE, &old);
    cr_assert_eq(add_disk(store, "after", &err), 0);
    store_close(store);
    store = fixture_open(place.path);
    cr_assert_eq(disks(store), 2);
    fixture_check(store);
    store_close(store);
    place_remove(&place);
}

/* ---- a killed process ---- */

#define WRITERS 4

struct writer {
    struct store *store;
    int pipe;
    int base; /* of the numbers that this one writes */
};

static void *writer_run(void *arg)
{
    const struct writer *writer = arg;
    for (int i = 0;; i++) {
        int number = writer->base + i;
        char name[16];
        snprintf(name, sizeof(name), "k%d", number);
        struct store_err err;
        if (add_disk(writer->store, name, &err) != 0)
            return NULL;
        if (write(writer->pipe, &number, sizeof(number)) != sizeof(number))
            return NULL;
    }
}

static _Noreturn void child(const char *path, int out, int round)
{
    struct store *store = fixture_open(path);
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){store, out, round * 1000000 + i * 100000};
        pthread_create(&threads[i], NULL, writer_run, &writers[i]);
    }
    pthread_join(threads[0], NULL);
    _exit(1);
}

Test(faults, a_killed_process_loses_nothing_that_it_acknowledged, .timeout = 240)
{
    enum { ROUNDS = 50 };
    struct place place = place_make();
    AUTO_FREE int *numbers = NULL;
    size_t count = 0;
    srand(7);
    for (int round = 0; round < ROUNDS; round++) {
        int ends[2];
        cr_assert_eq(pipe(ends), 0);
        pid_t pid = fork();
        if (pid == 0)
            child(place.path, ends[1], round);
        close(ends[1]);
        /* Killed after so many acknowledgements, at whatever it does then. */
        size_t until = count + (size_t)(rand() % 60) + 1;
        int number;
        while (count < until && read(ends[0], &number, sizeof(number)) == sizeof(number)) {
            numbers = xreallocarray(numbers, count + 1, sizeof(*numbers));
            numbers[count++] = number;
        }
        cr_assert_eq(count, until, "the child died by itself");
        kill(pid, SIGKILL);
        int status;
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        while (read(ends[0], &number, sizeof(number)) == sizeof(number)) { /* said before it died */
            numbers = xreallocarray(numbers, count + 1, sizeof(*numbers));
            numbers[count++] = number;
        }
        close(ends[0]);
        struct store *store = fixture_open(place.path);
        fixture_check(store);
        for (size_t i = 0; i < count; i++) {
            char name[16];
            snprintf(name, sizeof(name), "k%d", numbers[i]);
            cr_assert(has_disk(store, name), "%s is lost", name);
        }
        store_close(store);
    }
    place_remove(&place);
}
