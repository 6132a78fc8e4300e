/* Readers and writers at once, with failing batches in between: a plain program, so that it also runs
 * under ThreadSanitizer. stress [SECONDS] [FILE]. Exits 0 when nothing was wrong. */
#include "fault_engine.h"
#include "fixture.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <pthread.h>
#include <stdio.h>

#define WRITERS 3
#define READERS 3
#define ROWS 60

struct stress {
    struct store *store;
    struct fault_control control;
    _Atomic bool stop;
    _Atomic uint64_t commits, failures, reads, published, async_open;
    struct ref guests[ROWS], disks[ROWS];
};

static _Noreturn void wrong(const char *what)
{
    fprintf(stderr, "stress: %s\n", what);
    abort();
}

static unsigned roll(unsigned *seed, unsigned sides)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % sides;
}

/* Two rows that every transaction changes together: a reader must never see them differ. */
static void change_pair(struct stress *stress, struct tx *tx, unsigned *seed)
{
    unsigned at = roll(seed, ROWS / 2) * 2;
    int64_t size = (int64_t)tx_generation(tx);
    AS(disk, tx_edit(tx, DISK, stress->disks[at]))->size = size;
    AS(disk, tx_edit(tx, DISK, stress->disks[at + 1]))->size = size;
}

static void change_links(struct stress *stress, struct tx *tx, unsigned *seed)
{
    struct ref guest = stress->guests[roll(seed, ROWS)];
    if (tx_count(tx, LINK) > 200 || roll(seed, 3) == 0) {
        const struct ref_set *links = AS(guest, tx_get(tx, GUEST, guest))->links;
        if (links)
            tx_delete(tx, LINK, links->items[0]);
        return;
    }
    struct link_row *link = AS(link, tx_create(tx, LINK));
    link->guest = guest;
    link->disk = stress->disks[roll(seed, ROWS)];
    struct guest_row *row = AS(guest, tx_edit(tx, GUEST, guest));
    row->running ^= true;
    row->home = stress->disks[roll(seed, ROWS)];
    str_map_put(&row->other_config, "key", roll(seed, 2) ? "a" : "b");
}

static void on_async(void *arg, int result, uint64_t generation, const struct store_err *err)
{
    struct stress *stress = arg;
    (void)generation, (void)err;
    atomic_fetch_add(result ? &stress->failures : &stress->commits, 1);
    atomic_fetch_sub(&stress->async_open, 1);
}

static void *write_on(void *arg)
{
    struct stress *stress = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self() >> 8;
    while (!stress->stop) {
        struct tx *tx = store_begin(stress->store);
        change_pair(stress, tx, &seed);
        change_links(stress, tx, &seed);
        unsigned end = roll(&seed, 10);
        struct store_err err;
        if (end == 0) {
            tx_abort(tx);
        } else if (end == 1) {
            atomic_fetch_add(&stress->async_open, 1);
            tx_commit_async(tx, on_async, stress);
        } else if (end <= 4) {
            atomic_fetch_add(&stress->async_open, 1);
            int result = tx_commit_or_queue(tx, &err, on_async, stress);
            if (result <= 0)
                on_async(stress, result, 0, &err);
        } else {
            atomic_fetch_add(tx_commit(tx, NULL, &err) ? &stress->failures : &stress->commits, 1);
        }
    }
    return NULL;
}

static bool touch_row(const struct row *row, void *arg)
{
    size_t *bytes = arg;
    *bytes += row_json(row)->len + row_xml(row)->len;
    return true;
}

static bool touch_tombstone(const struct store_tombstone *gone, void *arg)
{
    *(size_t *)arg += gone->ref.hi & 1;
    return true;
}

static void *read_on(void *arg)
{
    struct stress *stress = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self() >> 7;
    uint64_t token = 0;
    size_t bytes = 0;
    const struct row *kept = NULL;
    while (!stress->stop) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(stress->store);
        unsigned at = roll(&seed, ROWS / 2) * 2;
        struct disk_row *a = AS(disk, snapshot_get(snap, DISK, stress->disks[at]));
        struct disk_row *b = AS(disk, snapshot_get(snap, DISK, stress->disks[at + 1]));
        if (a->size != b->size)
            wrong("a reader saw half a transaction");
        if (snapshot_by_uuid(snap, DISK, a->uuid) != &a->row)
            wrong("not found by uuid");
        if (roll(&seed, 20) == 0) {
            snapshot_each(snap, GUEST, touch_row, &bytes);
            snapshot_changes(snap, token, touch_row, touch_tombstone, &bytes);
            token = snapshot_generation(snap);
        }
        if (roll(&seed, 50) == 0) {
            row_unref(kept);
            kept = row_ref(&a->row);
        }
        if (roll(&seed, 200) == 0)
            token = store_wait(stress->store, token, clock_mono_ms() + 2);
        atomic_fetch_add(&stress->reads, 1);
    }
    row_unref(kept);
    return NULL;
}

static void *check_on(void *arg)
{
    struct stress *stress = arg;
    unsigned turn = 0;
    while (!stress->stop) {
        struct store_err err;
        if (store_check(stress->store, &err) != 0)
            wrong(err.text);
        struct store_stats stats;
        store_stats(stress->store, &stats);
        stress->control.next = ++turn % 8 == 0 ? FAULT_IO : turn % 8 == 4 ? FAULT_WRITTEN : FAULT_NONE;
    }
    stress->control.next = FAULT_NONE;
    return NULL;
}

static void on_publish(void *arg, uint64_t generation)
{
    struct stress *stress = arg;
    if (generation <= stress->published)
        wrong("publications out of order");
    stress->published = generation;
}

static void set_up(struct stress *stress, const char *path)
{
    struct store_err err;
    struct store_config config = fixture_config();
    config.max_tombstones = 50;
    struct engine *engine = NULL;
    if (!path)
        engine = engine_memory_new();
    else if (engine_sqlite_open(&engine, path, NULL, &err) != 0)
        wrong(err.text);
    engine = fault_engine_new(engine, &stress->control);
    if (store_open_engine(&stress->store, &config, engine, &err) != 0)
        wrong(err.text);
    struct tx *tx = store_begin(stress->store);
    for (int i = 0; i < ROWS; i++) {
        stress->guests[i] = tx_create(tx, GUEST)->ref;
        stress->disks[i] = tx_create(tx, DISK)->ref;
    }
    fixture_commit(tx);
}

int main(int argc, char **argv)
{
    static struct stress stress;
    log_init("stress", LOG_ERROR_LEVEL + (argc > 9)); /* failures are what this is about */
    int64_t end = clock_mono_ms() + 1000 * (argc > 1 ? atoi(argv[1]) : 2);
    set_up(&stress, argc > 2 ? argv[2] : NULL);
    struct store_watch *watch = store_watch(stress.store, on_publish, &stress);
    pthread_t threads[WRITERS + READERS + 1];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        if (pthread_create(&threads[i], NULL,
                           i < WRITERS             ? write_on
                           : i < WRITERS + READERS ? read_on
                                                   : check_on,
                           &stress) != 0)
            wrong("no thread");
    while (clock_mono_ms() < end)
        store_wait(stress.store, UINT64_MAX, end);
    stress.stop = true;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    store_unwatch(stress.store, watch);
    fixture_check(stress.store);
    store_close(stress.store);
    if (stress.async_open)
        wrong("a callback is missing");
    printf("%llu commits, %llu failures, %llu reads\n", (unsigned long long)stress.commits,
           (unsigned long long)stress.failures, (unsigned long long)stress.reads);
    return stress.commits && stress.reads ? 0 : 1;
}
