/* The SQLite engine: the file, its lock, opening and closing. One connection writes, in WAL mode with
 * synchronous=FULL (NORMAL for what need not be synced); see sqlite_write.c for how. */
#include "log_note.h"
#include "page_sums.h"
#include "sqlite_impl.h"
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/file.h>
#include <sys/stat.h>

#define BUSY_TIMEOUT_MS 5000

/* ---- helpers ---- */

/* Why the log's last operation failed, as the system said. */
static int log_errno(sqlite3 *db)
{
    sqlite3_file *file = NULL;
    int cause = 0;
    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) == SQLITE_OK && file &&
        file->pMethods)
        file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &cause);
    return cause;
}

static enum store_errno errno_of(sqlite3 *db)
{
    switch (sqlite3_errcode(db) & 0xff) {
    case SQLITE_FULL:
        return STORE_E_DISK_FULL;
    case SQLITE_IOERR: {
        if (sqlite3_extended_errcode(db) == SQLITE_IOERR_DATA)
            return STORE_E_CORRUPT;
        int cause = log_errno(db);
        return cause == ENOSPC || cause == EDQUOT || cause == EFBIG ? STORE_E_DISK_FULL : STORE_E_IO;
    }
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return STORE_E_CORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return STORE_E_BUSY;
    default:
        return STORE_E_IO;
    }
}

int sqlite_fail_on(const struct sqlite_engine *engine, sqlite3 *db, struct store_err *err, const char *doing)
{
    int64_t page = page_sums_damaged();
    if (page == 0)
        return store_err_set(err, errno_of(db), "%s: could not %s: %s", engine->path, doing,
                             sqlite3_errmsg(db));
    return store_err_set(err, STORE_E_CORRUPT,
                         "%s: could not %s: page %lld is damaged, or another program has written it",
                         engine->path, doing, (long long)page);
}

int sqlite_fail(struct sqlite_engine *engine, struct store_err *err, const char *doing)
{
    return sqlite_fail_on(engine, engine->db, err, doing);
}

int sqlite_run(struct sqlite_engine *engine, const char *sql, struct store_err *err)
{
    if (sqlite3_exec(engine->db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    return sqlite_fail(engine, err, "prepare the file");
}

int sqlite_prepare(struct sqlite_engine *engine, sqlite3_stmt **slot, const char *sql, struct store_err *err)
{
    if (*slot || sqlite3_prepare_v3(engine->db, sql, -1, SQLITE_PREPARE_PERSISTENT, slot, NULL) == SQLITE_OK)
        return 0;
    return sqlite_fail(engine, err, "prepare a statement");
}

void sqlite_finalize(sqlite3_stmt **stmt)
{
    sqlite3_finalize(*stmt);
    *stmt = NULL;
}

int sqlite_number(struct sqlite_engine *engine, const char *sql, int64_t *out, struct store_err *err)
{
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    if (sqlite_prepare(engine, &stmt, sql, err) != 0)
        return -1;
    int rc = sqlite3_step(stmt);
    if (rc == SQLITE_DONE)
        return store_err_set(err, STORE_E_CORRUPT, "%s: an entry of the file's own table is missing",
                             engine->path);
    if (rc != SQLITE_ROW)
        return sqlite_fail(engine, err, "read the file");
    *out = sqlite3_column_int64(stmt, 0);
    return 0;
}

/* ---- life cycle ---- */

static int engine_load(struct engine *base, const struct schema *schema, const struct engine_sink *sink,
                       struct engine_meta *meta, struct store_err *err)
{
    struct sqlite_engine *engine = (struct sqlite_engine *)base;
    engine->schema = schema;
    engine->classes = xcalloc(schema->class_count, sizeof(engine->classes[0]));
    if (sqlite_schema_update(engine, &meta->fresh, err) != 0)
        return -1;
    sqlite_add_sums(engine);
    engine->loaded = sqlite_load(engine, sink, meta, err) == 0;
    return engine->loaded ? 0 : -1;
}

static enum engine_result engine_apply(struct engine *base, const struct engine_batch *batch,
                                       struct store_err *err)
{
    return sqlite_apply((struct sqlite_engine *)base, batch, err);
}

static uint64_t engine_size(struct engine *base)
{
    const struct sqlite_engine *engine = (const struct sqlite_engine *)base;
    AUTO_FREE char *log = xasprintf("%s-wal", engine->path);
    struct stat st;
    uint64_t size = stat(engine->path, &st) == 0 ? (uint64_t)st.st_size : 0;
    return size + (stat(log, &st) == 0 ? (uint64_t)st.st_size : 0);
}

static void engine_close(struct engine *base)
{
    struct sqlite_engine *engine = (struct sqlite_engine *)base;
    if (engine->loaded)
        sqlite_note_end(engine);
    for (uint16_t i = 0; engine->classes && i < engine->schema->class_count; i++) {
        sqlite_finalize(&engine->classes[i].upsert);
        sqlite_finalize(&engine->classes[i].renew);
        sqlite_finalize(&engine->classes[i].drop);
    }
    sqlite_finalize(&engine->begin);
    sqlite_finalize(&engine->commit);
    sqlite_finalize(&engine->meta_put);
    sqlite_finalize(&engine->tombstone_add);
    sqlite_finalize(&engine->tombstone_forget);
    sqlite_finalize(&engine->tombstone_undo);
    if (engine->db && sqlite3_close(engine->db) != SQLITE_OK)
        log_error("store", "the file was not closed cleanly", "why", sqlite3_errmsg(engine->db));
    if (engine->lock_fd >= 0)
        close(engine->lock_fd); /* gives the lock back; the empty file stays */
    free(engine->classes);
    free(engine->path);
    free(engine);
}

/* One process at a time. The lock is on a file of its own, so that a person can read the database with
 * other tools while it is in use. */
int sqlite_lock(const char *path, struct store_err *err)
{
    AUTO_FREE char *lock = xasprintf("%s.lock", path);
    AUTO_CLOSE int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return store_err_set(err, STORE_E_IO, "%s: %s", lock, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return TAKE_FD(fd);
    if (errno == EWOULDBLOCK)
        return store_err_set(err, STORE_E_BUSY, "%s is in use by another process", path);
    return store_err_set(err, STORE_E_IO, "%s: %s", lock, strerror(errno));
}

/* Makes the file, for its owner only, before SQLite would make it as the umask says; its log and index
 * take the mode from it. */
static int make_file(struct sqlite_engine *engine, struct store_err *err)
{
    AUTO_CLOSE int fd = open(engine->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || ((st.st_mode & 077) && fchmod(fd, 0600) != 0))
        return store_err_set(err, STORE_E_IO, "%s: %s", engine->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return store_err_set(err, STORE_E_CORRUPT, "%s is not a file", engine->path);
    if (st.st_size > 0)
        return 0;
    AUTO_FREE char *copy = xstrdup(engine->path);
    AUTO_CLOSE int folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || fsync(folder) != 0)
        return store_err_set(err, STORE_E_IO, "the folder of %s: %s", engine->path, strerror(errno));
    return 0;
}

static int connect_file(struct sqlite_engine *engine, struct store_err *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(engine->path, &engine->db, flags, engine->vfs) != SQLITE_OK)
        return sqlite_fail(engine, err, "open it");
    sqlite3_extended_result_codes(engine->db, 1);
    sqlite3_busy_timeout(engine->db, BUSY_TIMEOUT_MS);
    sqlite_want_sums(engine->db);
    sqlite3_db_config(engine->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    static const char pragmas[] =
        "PRAGMA trusted_schema = OFF;"
        "PRAGMA cell_size_check = ON;"
        "PRAGMA journal_mode = WAL;"
        "PRAGMA synchronous = FULL;"
        "PRAGMA fullfsync = ON;"
        "PRAGMA checkpoint_fullfsync = ON;"
        "PRAGMA journal_size_limit = 67108864;" /* a large batch leaves no large log */
        "PRAGMA cache_size = -32768;";          /* KiB */
    if (sqlite_run(engine, pragmas, err) != 0)
        return -1;
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    if (sqlite_prepare(engine, &stmt, "PRAGMA journal_mode", err) != 0)
        return -1;
    if (sqlite3_step(stmt) != SQLITE_ROW || !streq((const char *)sqlite3_column_text(stmt, 0), "wal"))
        return store_err_set(err, STORE_E_IO, "%s: the file system does not support a write-ahead log",
                             engine->path);
    return 0;
}

int engine_sqlite_open(struct engine **out, const char *path, const struct sqlite_options *options,
                       struct store_err *err)
{
    static const struct engine_ops ops = {engine_load, engine_apply, engine_size, engine_close};
    struct sqlite_engine *engine = xcalloc(1, sizeof(*engine));
    engine->engine.ops = &ops;
    engine->path = xstrdup(path);
    engine->vfs = page_sums_over(options ? options->vfs : NULL);
    engine->migrations = options && options->migrations ? options->migrations : store_migrations;
    engine->migration_count =
        options && options->migrations ? options->migration_count : store_migration_count;
    if (!engine->vfs)
        store_err_set(err, STORE_E_IO, "%s: SQLite's layer of files is not there", path);
    engine->lock_fd = engine->vfs ? sqlite_lock(path, err) : -1;
    if (engine->lock_fd < 0 || sqlite_take_offer(engine, err) != 0 || sqlite_place_expect(path, err) != 0 ||
        make_file(engine, err) != 0 || log_note_check(path, err) != 0 || connect_file(engine, err) != 0 ||
        sqlite_place_note(engine, err) != 0) {
        engine_close(&engine->engine);
        return -1;
    }
    *out = &engine->engine;
    return 0;
}
