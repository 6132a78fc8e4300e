/* Sums of pages for files that have none: such a file is written anew beside itself and takes its own place.
 * Also new sums for a file that another program has written. */
#include "log_note.h"
#include "page_sums.h"
#include "sqlite_impl.h"
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>

void sqlite_want_sums(sqlite3 *db)
{
    int bytes = PAGE_SUM_BYTES;
    sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
}

/* A file of ours, in the file and not only in its log, whose pages have no sums. Asked of SQLite's own
 * descriptor: to close another one would give its locks back. */
static bool lacks_sums(struct sqlite_engine *engine)
{
    uint8_t head[32];
    sqlite3_file *file = NULL;
    sqlite3_int64 size = 0;
    return sqlite3_file_control(engine->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK && file &&
           file->pMethods && file->pMethods->xFileSize(file, &size) == SQLITE_OK && size > 0 &&
           file->pMethods->xRead(file, head, sizeof(head), 0) == SQLITE_OK &&
           head[HEAD_RESERVED] != PAGE_SUM_BYTES;
}

/* All of it goes through the log, so it is the old file or the new one whenever it ends. Pages that go back
 * into the file before its first one have no sum yet, which is no damage. */
void sqlite_add_sums(struct sqlite_engine *engine)
{
    struct store_err err;
    if (!lacks_sums(engine))
        return;
    log_info("store", "the file is written anew once, with a sum for each page", "path", engine->path);
    if (sqlite_run(engine, "VACUUM; PRAGMA wal_checkpoint(TRUNCATE)", &err) != 0)
        log_warn("store", "the file goes on without sums: damage inside of a value would not be noticed",
                 "why", err.text);
}

int store_accept_file(const char *path, struct store_err *err)
{
    AUTO_CLOSE int lock = sqlite_lock(path, err);
    if (lock < 0)
        return -1;
    sqlite3 *db = NULL;
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    sqlite_note_apart(path);
    /* Opened and closed without the sums: what is in the log goes into the file. */
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "PRAGMA integrity_check(1)", -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    const char *found = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(stmt, 0) : sqlite3_errmsg(db);
    int result = streq(found, "ok") ? 0 : store_err_set(err, STORE_E_CORRUPT, "%s: %s", path, found);
    sqlite_finalize(&stmt);
    sqlite3_close(db);
    if (result == 0 && log_note_drop(path) < 0)
        result = store_err_set(err, STORE_E_IO, "%s: %s", path, strerror(errno));
    if (result == 0 && !page_sums_renew(path))
        result = store_err_set(err, STORE_E_IO, "%s: %s", path, errno ? strerror(errno) : "it has no sums");
    return result;
}
