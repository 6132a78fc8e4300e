/* Measures the store against raw SQLite on the same file system, in the same run.
 *
 *   store_bench [--folder DIR] [--seconds S] [--rows N]
 *
 * Writes a line a figure; lines that begin with "ratio" are what the goals are about. */
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <db/store.h>
#include <getopt.h>
#include <model/rows.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>

#define VMS 1000
#define MAX_THREADS 32
#define ROUNDS 3

struct bench {
    char *path;
    double seconds;
    int rows;
    struct store *store;
    struct ref vms[VMS];
    _Atomic bool stop;
    _Atomic uint64_t done;
};

static _Noreturn void give_up(const char *what, const char *why)
{
    fprintf(stderr, "store_bench: %s: %s\n", what, why);
    exit(1);
}

static struct store *open_store(const char *path)
{
    struct store_config config = {.path = path};
    struct store *store;
    struct store_err err;
    if (store_open(&store, &config, &err) != 0)
        give_up("store_open", err.text);
    return store;
}

static void commit(struct tx *tx)
{
    struct store_err err;
    if (tx_commit(tx, NULL, &err) != 0)
        give_up("tx_commit", err.text);
}

static void remove_files(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", ".lock"};
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        AUTO_FREE char *name = xasprintf("%s%s", path, suffixes[i]);
        unlink(name);
    }
}

static void fill(struct bench *bench)
{
    struct tx *tx = store_begin(bench->store);
    for (int i = 0; i < VMS; i++) {
        struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
        AUTO_FREE char *name = xasprintf("vm-%d", i);
        str_assign(&vm->name_label, name);
        str_map_put(&vm->platform, "viridian", "true");
        bench->vms[i] = vm->row.ref;
    }
    commit(tx);
}

/* ---- durable changes ---- */

struct worker {
    pthread_t thread;
    struct bench *bench;
    unsigned number;
};

static void *change_on(void *arg)
{
    const struct worker *worker = arg;
    struct bench *bench = worker->bench;
    char name[32];
    for (unsigned i = 0; !bench->stop; i++) {
        snprintf(name, sizeof(name), "renamed-%u-%u", worker->number, i);
        struct tx *tx = store_begin(bench->store);
        struct row *row = tx_edit(tx, CLASS_VM, bench->vms[(worker->number * 31 + i) % VMS]);
        str_assign(&vm_row_mut(row)->name_label, name);
        commit(tx);
        atomic_fetch_add(&bench->done, 1);
    }
    return NULL;
}

static void *read_on(void *arg)
{
    const struct worker *worker = arg;
    struct bench *bench = worker->bench;
    uint64_t done = 0;
    for (unsigned i = 0; !bench->stop; i++) {
        struct snapshot *snap = store_snapshot(bench->store);
        const struct row *row = snapshot_get(snap, CLASS_VM, bench->vms[(worker->number * 31 + i) % VMS]);
        done += row->cls == CLASS_VM;
        snapshot_unref(snap);
    }
    atomic_fetch_add(&bench->done, done);
    return NULL;
}

/* Operations a second. */
static double run_threads(struct bench *bench, unsigned threads, void *(*fn)(void *arg))
{
    struct worker workers[MAX_THREADS];
    bench->stop = false;
    bench->done = 0;
    int64_t start = clock_mono_us();
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){.bench = bench, .number = i};
        if (pthread_create(&workers[i].thread, NULL, fn, &workers[i]) != 0)
            give_up("thread", "cannot be started");
    }
    usleep((useconds_t)(bench->seconds * 1e6));
    bench->stop = true;
    for (unsigned i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    return (double)bench->done * 1e6 / (double)(clock_mono_us() - start);
}

/* The least that SQLite can do for one change: one prepared UPDATE of one column in its transaction, in a
 * file that the store has made. */
static double run_raw(struct bench *bench, const char *path)
{
    sqlite3 *db;
    sqlite3_stmt *update;
    if (sqlite3_open(path, &db) != SQLITE_OK ||
        sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32768", NULL,
                     NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "UPDATE VM SET name_label = ?, _generation = ? WHERE _ref = ?", -1, &update,
                           NULL) != SQLITE_OK)
        give_up("raw SQLite", sqlite3_errmsg(db));
    char name[32];
    uint64_t done = 0;
    int64_t start = clock_mono_us(), end = start + (int64_t)(bench->seconds * 1e6);
    while (clock_mono_us() < end) {
        snprintf(name, sizeof(name), "renamed-0-%u", (unsigned)done);
        sqlite3_bind_text(update, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int64(update, 2, (int64_t)(1000 + done));
        sqlite3_bind_text(update, 3, REF_TEXT(bench->vms[done % VMS]), -1, SQLITE_TRANSIENT);
        if (sqlite3_step(update) != SQLITE_DONE || sqlite3_changes(db) != 1)
            give_up("raw SQLite", sqlite3_errmsg(db));
        sqlite3_reset(update);
        done++;
    }
    double result = (double)done * 1e6 / (double)(clock_mono_us() - start);
    sqlite3_finalize(update);
    sqlite3_close(db);
    return result;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(values[0]), compare_doubles);
    return values[count / 2];
}

/* Rounds of all in turn, so that a slow minute of the disk hits each alike. */
static void durable_changes(struct bench *bench)
{
    static const unsigned threads[] = {1, 8, 32};
    double raw[ROUNDS], store[ARRAY_LEN(threads)][ROUNDS];
    for (int round = 0; round < ROUNDS; round++) {
        AUTO_FREE char *raw_path = xasprintf("%s.raw", bench->path);
        bench->store = open_store(raw_path);
        fill(bench);
        store_close(bench->store);
        raw[round] = run_raw(bench, raw_path);
        remove_files(raw_path);
        bench->store = open_store(bench->path);
        fill(bench);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
            store[i][round] = run_threads(bench, threads[i], change_on);
        store_close(bench->store);
        remove_files(bench->path);
    }
    double base = median(raw, ROUNDS);
    printf("raw SQLite, one row a transaction: %.0f/s\n", base);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        double value = median(store[i], ROUNDS);
        printf("store, durable changes by %u threads: %.0f/s\n", threads[i], value);
        printf("ratio store_changes_%u_threads %.2f\n", threads[i], value / base);
    }
}

/* ---- in memory ---- */

static void in_memory(struct bench *bench)
{
    bench->store = open_store(NULL);
    fill(bench);
    static const unsigned threads[] = {1, 2, 8};
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        printf("snapshot and get by %u threads: %.0f/s\n", threads[i],
               run_threads(bench, threads[i], read_on));
    printf("changes without a disk by 1 thread: %.0f/s\n", run_threads(bench, 1, change_on));
    printf("changes without a disk by 8 threads: %.0f/s\n", run_threads(bench, 8, change_on));

    struct tx *tx = store_begin(bench->store);
    int64_t start = clock_mono_us();
    enum { EDITS = 100000 };
    for (int i = 0; i < EDITS; i++)
        tx_edit(tx, CLASS_VM, bench->vms[i % VMS]);
    tx_abort(tx);
    struct snapshot *snap = store_snapshot(bench->store);
    start = clock_mono_us();
    size_t bytes = 0;
    for (int i = 0; i < VMS; i++)
        bytes += row_json(snapshot_get(snap, CLASS_VM, bench->vms[i]))->len;
    double us = (double)(clock_mono_us() - start);
    printf("JSON of a VM, first time: %.2f us, %zu bytes\n", us / VMS, bytes / VMS);
    snapshot_unref(snap);
    store_close(bench->store);
}

/* ---- size ---- */

static double resident_mib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*s %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

/* One SR full of VDIs, each with a VBD of a VM: half VDIs, half the rest. */
static void fill_large(struct bench *bench)
{
    struct tx *tx = store_begin(bench->store);
    struct ref sr = tx_create(tx, CLASS_SR)->ref, vm = REF_NULL;
    int made = 1;
    for (int i = 0; made < bench->rows; i++) {
        if (i % 4 == 0) {
            struct vm_row *row = vm_row_mut(tx_create(tx, CLASS_VM));
            AUTO_FREE char *name = xasprintf("vm-%d", i);
            str_assign(&row->name_label, name);
            vm = row->row.ref;
            made++;
        }
        struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
        vdi->SR = sr;
        vdi->virtual_size = (int64_t)i << 20;
        struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
        vbd->VM = vm;
        vbd->VDI = vdi->row.ref;
        made += 2;
        if (i % 5000 == 4999) {
            commit(tx);
            tx = store_begin(bench->store);
        }
    }
    commit(tx);
}

static void large(struct bench *bench)
{
    double before = resident_mib();
    int64_t start = clock_mono_us();
    bench->store = open_store(bench->path);
    fill_large(bench);
    printf("rows made: %d in %.2f s\n", bench->rows, (double)(clock_mono_us() - start) / 1e6);
    start = clock_mono_us();
    store_close(bench->store);
    printf("closed in %.2f s\n", (double)(clock_mono_us() - start) / 1e6);
    start = clock_mono_us();
    bench->store = open_store(bench->path);
    double seconds = (double)(clock_mono_us() - start) / 1e6;
    printf("opened in %.2f s, %.2f us a row\n", seconds, seconds * 1e6 / bench->rows);
    printf("memory: about %.0f MiB, %.0f bytes a row\n", resident_mib() - before,
           (resident_mib() - before) * (1 << 20) / bench->rows);
    /* One more VDI into a set that is as large as it gets. */
    struct snapshot *snap = store_snapshot(bench->store);
    struct ref sr = REF_NULL;
    struct store_stats stats;
    store_stats(bench->store, &stats);
    snapshot_unref(snap);
    struct tx *tx = store_begin(bench->store);
    sr = tx_create(tx, CLASS_SR)->ref;
    for (int i = 0; i < bench->rows / 4; i++)
        vdi_row_mut(tx_create(tx, CLASS_VDI))->SR = sr;
    commit(tx);
    enum { MORE = 100 };
    start = clock_mono_us();
    for (int i = 0; i < MORE; i++) {
        tx = store_begin(bench->store);
        vdi_row_mut(tx_create(tx, CLASS_VDI))->SR = sr;
        commit(tx);
    }
    printf("a durable VDI more in a set of %d: %.0f us\n", bench->rows / 4,
           (double)(clock_mono_us() - start) / MORE);
    store_close(bench->store);
    remove_files(bench->path);
}

int main(int argc, char **argv)
{
    static struct bench bench = {.seconds = 1, .rows = 100000};
    const char *folder = ".";
    static const struct option options[] = {
        {"folder", required_argument, NULL, 'f'},
        {"seconds", required_argument, NULL, 's'},
        {"rows", required_argument, NULL, 'r'},
        {NULL, 0, NULL, 0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'f')
            folder = optarg;
        else if (option == 's')
            bench.seconds = atof(optarg);
        else if (option == 'r')
            bench.rows = atoi(optarg);
        else
            return 2;
    }
    log_init("store_bench", LOG_WARN_LEVEL);
    bench.path = xasprintf("%s/store-bench-%d.db", folder, (int)getpid());
    durable_changes(&bench);
    in_memory(&bench);
    large(&bench);
    free(bench.path);
    return 0;
}
