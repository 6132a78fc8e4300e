/* The inside of the SQLite engine, shared by its files.
 *
 *   sqlite.c         the file: lock, open, close
 *   sqlite_write.c   the writing of a batch, and what a failed commit has left
 *   sqlite_schema.c  tables, columns, versions, migrations
 *   sqlite_load.c    reading everything
 *   sqlite_sums.c    sums of pages: asked for, added to a file that has none (page_sums.c makes them)
 *   sqlite_offer.c   another database in the file's place
 *   sqlite_place.c   whether the file is still in its place
 *   sqlite_value.c   one value to a parameter, from a column, as a literal */
#pragma once
#include "engine.h"
#include <base/buf.h>
#include <sqlite3.h>

/* "Corr": marks our files (PRAGMA application_id). */
#define SQLITE_APPLICATION_ID 0x436f7272

struct class_statements {
    sqlite3_stmt *upsert, *renew, *drop;
};

struct sqlite_place {
    bool known;
    uint32_t dev_major, dev_minor;
    uint64_t ino;
};

struct sqlite_engine {
    struct engine engine;
    char *path;
    const char *vfs; /* with sums of pages, over the one that was asked for */
    int lock_fd;     /* of <path>.lock, held for the life of the engine */
    sqlite3 *db;
    struct sqlite_place file, log; /* where they were when they were opened */
    bool unsynced;                 /* PRAGMA synchronous is NORMAL now */
    bool loaded;                   /* it is whole, and may be written */
    const struct schema *schema;
    const struct migration *migrations;
    size_t migration_count;
    struct class_statements *classes; /* by class_desc.index; prepared on first use */
    sqlite3_stmt *begin, *commit, *meta_put, *tombstone_add, *tombstone_forget, *tombstone_undo;
};

/* ---- sqlite.c ---- */
/* Fills *err from the connection's last error; `doing` completes "could not ...". Returns -1. */
int sqlite_fail(struct sqlite_engine *engine, struct store_err *err, const char *doing);
/* The same for another connection to the file. */
int sqlite_fail_on(const struct sqlite_engine *engine, sqlite3 *db, struct store_err *err, const char *doing);
int sqlite_run(struct sqlite_engine *engine, const char *sql, struct store_err *err);
int sqlite_prepare(struct sqlite_engine *engine, sqlite3_stmt **slot, const char *sql, struct store_err *err);
/* Prepares, runs, and gives the first column of the first row as a number. */
int sqlite_number(struct sqlite_engine *engine, const char *sql, int64_t *out, struct store_err *err);
/* The lock that keeps a second process out, held until the descriptor is closed. -1 with *err. */
int sqlite_lock(const char *path, struct store_err *err);
void sqlite_finalize(sqlite3_stmt **stmt);
#define AUTO_STMT __attribute__((cleanup(sqlite_finalize)))

/* ---- sqlite_write.c ---- */
enum engine_result sqlite_apply(struct sqlite_engine *engine, const struct engine_batch *batch,
                                struct store_err *err);

/* ---- sqlite_newest.c ---- */
/* What was noted last; 0: nothing, or it cannot be read. */
uint64_t sqlite_newest(const char *file);
/* After the file has it. A failure is logged. */
void sqlite_note_newest(const char *file, uint64_t reserve);
/* What the file holds is another history: whatever anybody has read before is not of it. */
void sqlite_note_apart(const char *file);
/* Before the file is closed. */
void sqlite_note_end(struct sqlite_engine *engine);

/* ---- sqlite_offer.c ---- */
/* Under the lock, before the file is opened: puts in its place what was offered, if anything was. */
int sqlite_take_offer(const struct sqlite_engine *engine, struct store_err *err);

/* ---- sqlite_place.c ---- */
/* Before the file is made: refuses when it had content once, and has none. */
int sqlite_place_expect(const char *path, struct store_err *err);
/* When it has been opened. */
int sqlite_place_note(struct sqlite_engine *engine, struct store_err *err);
/* In a transaction that writes, when the log is there: are both what they were? */
int sqlite_place_check(struct sqlite_engine *engine, struct store_err *err);

/* ---- sqlite_sums.c ---- */
/* A new file's pages shall have sums. */
void sqlite_want_sums(sqlite3 *db);
/* Writes a file that has none anew, with sums. That it could not be done is logged, and does no harm. */
void sqlite_add_sums(struct sqlite_engine *engine);

/* ---- sqlite_schema.c ---- */
/* Makes or brings up to date all tables. *fresh: there were none. */
int sqlite_schema_update(struct sqlite_engine *engine, bool *fresh, struct store_err *err);
/* Appends a quoted name. */
void sql_add_name(struct buf *sql, const char *name);

/* ---- sqlite_load.c ---- */
int sqlite_load(struct sqlite_engine *engine, const struct engine_sink *sink, struct engine_meta *meta,
                struct store_err *err);

/* ---- sqlite_value.c ---- */
/* TEXT, INTEGER or REAL. */
const char *value_column_type(const struct type *type);
/* The value as an SQL literal, for DEFAULT. */
void value_write_literal(const struct type *type, const union cell *cell, struct buf *sql);
/* `scratch` is used for text that has to be made. The cell's own strings are borrowed until the
 * statement is reset. */
int value_bind(sqlite3_stmt *stmt, int at, const struct type *type, const union cell *cell,
               struct buf *scratch);
/* Replaces the initial value in the cell. False: the column does not hold such a value. */
bool value_read(sqlite3_stmt *stmt, int at, const struct type *type, union cell *cell);
