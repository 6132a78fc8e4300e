/* Reading the whole file: every table once, large ones by several threads with a connection each. */
#include "sqlite_impl.h"
#include <base/log.h>
#include <base/mem.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

#define FIXED_COLUMNS 3 /* _ref, _created, _generation */

static void write_select(const struct class_plan *plan, struct buf *sql)
{
    buf_add_str(sql, "SELECT \"_ref\", \"_created\", \"_generation\"");
    for (uint16_t i = 0; i < plan->columns.count; i++) {
        buf_add_str(sql, ", ");
        sql_add_name(sql, plan->columns.items[i]->name);
    }
    buf_add_str(sql, " FROM ");
    sql_add_name(sql, plan->cls->name);
}

static int damaged(const struct sqlite_engine *engine, const struct class_desc *cls, const char *column,
                   struct store_err *err)
{
    return store_err_set(err, STORE_E_CORRUPT, "%s: a row of table %s has no valid %s", engine->path,
                         cls->name, column);
}

/* NULL: the row is damaged, *err says how. */
static struct row *read_row(const struct sqlite_engine *engine, const struct class_plan *plan,
                            sqlite3_stmt *stmt, struct store_err *err)
{
    struct ref ref;
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    if (!text || !ref_parse(text, &ref) || ref_is_null(ref)) {
        damaged(engine, plan->cls, "_ref", err);
        return NULL;
    }
    struct row *row = row_new(plan->cls, ref);
    row->created = (uint64_t)sqlite3_column_int64(stmt, 1);
    row->generation = (uint64_t)sqlite3_column_int64(stmt, 2);
    const char *bad = row->created == 0 || row->created > row->generation ? "_generation" : NULL;
    for (uint16_t i = 0; i < plan->columns.count && !bad; i++) {
        const struct field_desc *field = plan->columns.items[i];
        if (!value_read(stmt, FIXED_COLUMNS + i, field->type, row_cell_mut(row, field)))
            bad = field->name;
    }
    if (!bad)
        return row;
    row_unref(row);
    damaged(engine, plan->cls, bad, err);
    return NULL;
}

/* ---- several readers ---- */

/* A range of a table's row numbers, or its index of references. */
struct load_job {
    const struct class_plan *plan;
    int64_t first, last;
    bool index;
};

struct parallel_load {
    struct sqlite_engine *engine;
    const struct engine_sink *sink;
    struct load_job *jobs;
    size_t job_count;
    bool large; /* some table has more than one range */
    _Atomic size_t next;
    pthread_mutex_t lock; /* of the sink and of what follows */
    bool failed;
    struct store_err err;
};

#define JOB_ROWS 20000
#define DELIVER_ROWS 256
#define MAX_READERS 4

/* The rows of one job, given to the sink in portions. */
static int run_job(struct parallel_load *load, sqlite3 *db, const struct load_job *job, struct store_err *err)
{
    AUTO_BUF struct buf sql = BUF_INIT;
    write_select(job->plan, &sql);
    buf_printf(&sql, " WHERE rowid BETWEEN %lld AND %lld", (long long)job->first, (long long)job->last);
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    struct row *rows[DELIVER_ROWS];
    size_t count = 0;
    int rc = sqlite3_prepare_v2(db, sql.data, -1, &stmt, NULL);
    int result = 0;
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) {
            rows[count] = read_row(load->engine, job->plan, stmt, err);
            if (!rows[count]) {
                result = -1;
                break;
            }
            count++;
        }
        if (count == DELIVER_ROWS || (rc != SQLITE_ROW && count > 0)) {
            pthread_mutex_lock(&load->lock);
            load->sink->rows(load->sink->arg, rows, count);
            pthread_mutex_unlock(&load->lock);
            count = 0;
        }
    }
    while (count > 0)
        row_unref(rows[--count]);
    if (result == 0 && rc != SQLITE_DONE)
        result = sqlite_fail_on(load->engine, db, err, "read the file");
    return result;
}

/* Nothing is taken from an index: its pages are read so that damage is told now, not when it is written.
 * SQLite counts in the smallest tree that has an entry for each row. */
static int read_index(struct parallel_load *load, sqlite3 *db, const struct load_job *job,
                      struct store_err *err)
{
    AUTO_BUF struct buf sql = BUF_INIT;
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    buf_add_str(&sql, "SELECT count(*) FROM ");
    sql_add_name(&sql, job->plan->cls->name);
    if (sqlite3_prepare_v2(db, sql.data, -1, &stmt, NULL) == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW)
        return 0;
    return sqlite_fail_on(load->engine, db, err, "read the file");
}

static void reader_run_on(struct parallel_load *load, sqlite3 *db)
{
    struct store_err err;
    for (size_t at; (at = atomic_fetch_add(&load->next, 1)) < load->job_count;) {
        const struct load_job *job = &load->jobs[at];
        if ((job->index ? read_index : run_job)(load, db, job, &err) == 0)
            continue;
        pthread_mutex_lock(&load->lock);
        if (!load->failed)
            load->err = err;
        load->failed = true;
        pthread_mutex_unlock(&load->lock);
        atomic_store(&load->next, load->job_count); /* nothing more to do for anyone */
    }
}

/* A reader beside the engine's own connection. When it cannot open the file the others do its work. */
static void *reader_run(void *arg)
{
    struct parallel_load *load = arg;
    sqlite3 *db = NULL;
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(load->engine->path, &db, flags, load->engine->vfs) == SQLITE_OK) {
        sqlite3_extended_result_codes(db, 1);
        reader_run_on(load, db);
    }
    sqlite3_close(db);
    return NULL;
}

static void add_job(struct parallel_load *load, struct load_job job)
{
    load->jobs = xreallocarray(load->jobs, load->job_count + 1, sizeof(load->jobs[0]));
    load->jobs[load->job_count++] = job;
}

static int add_jobs(struct parallel_load *load, const struct class_plan *plan, struct store_err *err)
{
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_add_str(&sql, "SELECT coalesce(max(rowid), 0) FROM ");
    sql_add_name(&sql, plan->cls->name);
    int64_t last;
    if (sqlite_number(load->engine, sql.data, &last, err) != 0)
        return -1;
    /* Row numbers are dense, but need not be: never more than a thousand ranges. */
    int64_t size = last / 1000 > JOB_ROWS ? last / 1000 : JOB_ROWS;
    for (int64_t first = 0, end;; first = end + 1) {
        end = last - first <= size ? INT64_MAX : first + size;
        add_job(load, (struct load_job){plan, first ? first : INT64_MIN, end, false});
        if (end == INT64_MAX)
            break;
        load->large = true;
    }
    add_job(load, (struct load_job){.plan = plan, .index = true});
    return 0;
}

static int load_rows(struct sqlite_engine *engine, const struct engine_sink *sink, struct store_err *err)
{
    struct parallel_load load = {.engine = engine, .sink = sink};
    int result = 0;
    for (uint16_t i = 0; i < engine->schema->class_count && result == 0; i++) {
        const struct class_plan *plan = &engine->schema->plans[i];
        if ((plan->cls->flags & CLASS_PERSIST) && plan->cls->row_size)
            result = add_jobs(&load, plan, err);
    }
    if (result == 0) {
        pthread_mutex_init(&load.lock, NULL);
        pthread_t readers[MAX_READERS];
        size_t count = 0, wanted = (size_t)sysconf(_SC_NPROCESSORS_ONLN) - 1;
        while (load.large && count < wanted && count < MAX_READERS &&
               pthread_create(&readers[count], NULL, reader_run, &load) == 0)
            count++;
        reader_run_on(&load, engine->db);
        while (count > 0)
            pthread_join(readers[--count], NULL);
        pthread_mutex_destroy(&load.lock);
        if (load.failed) {
            *err = load.err;
            result = -1;
        }
    }
    free(load.jobs);
    return result;
}

static const struct class_desc *class_named(const struct schema *schema, const char *name)
{
    for (uint16_t i = 0; name && i < schema->class_count; i++)
        if (streq(schema->classes[i].name, name))
            return &schema->classes[i];
    return NULL;
}

static int load_tombstones(struct sqlite_engine *engine, const struct engine_sink *sink,
                           struct store_err *err)
{
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    if (sqlite_prepare(engine, &stmt, "SELECT class, ref, created, generation FROM \"_tombstone\"", err) != 0)
        return -1;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        struct store_tombstone gone = {.created = (uint64_t)sqlite3_column_int64(stmt, 2),
                                       .deleted = (uint64_t)sqlite3_column_int64(stmt, 3)};
        const char *text = (const char *)sqlite3_column_text(stmt, 1);
        gone.cls = class_named(engine->schema, (const char *)sqlite3_column_text(stmt, 0));
        if (!gone.cls) /* the class has left the model, and its readers with it */
            continue;
        if (!text || !ref_parse(text, &gone.ref) || gone.deleted == 0)
            return store_err_set(err, STORE_E_CORRUPT, "%s: a tombstone is damaged", engine->path);
        sink->tombstone(sink->arg, &gone);
    }
    return rc == SQLITE_DONE ? 0 : sqlite_fail(engine, err, "read the file");
}

/* A number for this start of the machine; 0: not known. */
static int64_t boot_number(void)
{
    AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    char text[64];
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : 0;
    uint64_t hash = 14695981039346656037u;
    for (ssize_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)text[i]) * 1099511628211u;
    return n > 0 ? (int64_t)(hash >> 1) : 0;
}

/* Compares the start of the machine with the noted one, and notes it. */
static int load_boot(struct sqlite_engine *engine, struct engine_meta *meta, struct store_err *err)
{
    int64_t noted, now = boot_number();
    if (sqlite_number(engine, "SELECT coalesce(max(value), 0) FROM \"_meta\" WHERE key = 'boot'", &noted,
                      err) != 0)
        return -1;
    meta->same_boot = now != 0 && noted == now;
    if (meta->same_boot)
        return 0;
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_printf(&sql, "INSERT OR REPLACE INTO \"_meta\" VALUES ('boot', %lld)", (long long)now);
    if (sqlite_run(engine, sql.data, err) != 0) /* the next start will think the same, which does no harm */
        log_warn("store", "the start of the machine could not be noted", "why", err->text);
    return 0;
}

static int load_meta(struct sqlite_engine *engine, struct engine_meta *meta, struct store_err *err)
{
    int64_t reserve, oldest;
    if (sqlite_number(engine, "SELECT value FROM \"_meta\" WHERE key = 'reserve'", &reserve, err) != 0 ||
        sqlite_number(engine, "SELECT value FROM \"_meta\" WHERE key = 'oldest_token'", &oldest, err) != 0)
        return -1;
    meta->reserve = (uint64_t)reserve;
    meta->oldest_token = (uint64_t)oldest;
    uint64_t newest = meta->fresh ? 0 : sqlite_newest(engine->path);
    meta->newest = newest > meta->reserve ? newest : 0;
    return load_boot(engine, meta, err);
}

int sqlite_load(struct sqlite_engine *engine, const struct engine_sink *sink, struct engine_meta *meta,
                struct store_err *err)
{
    if (load_meta(engine, meta, err) != 0 || load_tombstones(engine, sink, err) != 0)
        return -1;
    return load_rows(engine, sink, err);
}
