/* A copy of the whole file, for another machine: SQLite's own, so that what is still in the log is in it. */
#include "page_sums.h"
#include "sqlite_impl.h"

#define BUSY_MS 10000

int store_copy_file(const char *path, const char *to, struct store_err *err)
{
    sqlite3 *db = NULL;
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    int rc = -1;
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, page_sums_over(NULL)) == SQLITE_OK) {
        sqlite_want_sums(db);
        sqlite3_busy_timeout(db, BUSY_MS);
        if (sqlite3_prepare_v2(db, "VACUUM INTO ?1", -1, &stmt, NULL) == SQLITE_OK &&
            sqlite3_bind_text(stmt, 1, to, -1, SQLITE_STATIC) == SQLITE_OK &&
            sqlite3_step(stmt) == SQLITE_DONE)
            rc = 0;
    }
    if (rc < 0)
        store_err_set(err, STORE_E_IO, "%s: could not be copied: %s", path, sqlite3_errmsg(db));
    sqlite_finalize(&stmt);
    sqlite3_close(db);
    return rc;
}
