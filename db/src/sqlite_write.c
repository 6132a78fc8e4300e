/* Writing a batch as one transaction.
 *
 * A commit that fails is the delicate case: its frames may lie in the log complete, though SQLite said
 * no, and would come to life at the next start. So after a failed COMMIT a tiny transaction (the fence) is
 * written in the same place of the log. When it is durable, the frames of the failed one are overwritten:
 * then, and only then, "not applied" is certain. A write that failed (disk full) never got as far as the
 * last frame, which is the one that commits. */
#include "sqlite_impl.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>

#define FENCE_TRIES 3
#define FENCE_PAUSE_US 50000

/* Runs a statement that gives no rows, and makes it ready for the next use. */
static int step(struct sqlite_engine *engine, sqlite3_stmt *stmt, struct store_err *err)
{
    int result = sqlite3_step(stmt) == SQLITE_DONE ? 0 : sqlite_fail(engine, err, "write");
    sqlite3_reset(stmt);
    return result;
}

/* The same with what binding its values has come to: one that could not be bound would be NULL. */
static int step_bound(struct sqlite_engine *engine, sqlite3_stmt *stmt, int bound, struct store_err *err)
{
    /* branch: numbers and static texts need no memory */
    int result = bound == SQLITE_OK ? step(engine, stmt, err) : sqlite_fail(engine, err, "take a value");
    sqlite3_clear_bindings(stmt);
    return result;
}

static int prepare_upsert(struct sqlite_engine *engine, const struct class_plan *plan, sqlite3_stmt **slot,
                          struct store_err *err)
{
    if (*slot)
        return 0;
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_add_str(&sql, "INSERT INTO ");
    sql_add_name(&sql, plan->cls->name);
    buf_add_str(&sql, " (\"_ref\", \"_created\", \"_generation\"");
    for (uint16_t i = 0; i < plan->columns.count; i++) {
        buf_add_str(&sql, ", ");
        sql_add_name(&sql, plan->columns.items[i]->name);
    }
    buf_add_str(&sql, ") VALUES (?, ?, ?");
    for (uint16_t i = 0; i < plan->columns.count; i++)
        buf_add_str(&sql, ", ?");
    buf_add_str(&sql, ") ON CONFLICT (\"_ref\") DO UPDATE SET \"_created\" = excluded.\"_created\", "
                      "\"_generation\" = excluded.\"_generation\"");
    for (uint16_t i = 0; i < plan->columns.count; i++) {
        buf_add_str(&sql, ", ");
        sql_add_name(&sql, plan->columns.items[i]->name);
        buf_add_str(&sql, " = excluded.");
        sql_add_name(&sql, plan->columns.items[i]->name);
    }
    return sqlite_prepare(engine, slot, sql.data, err);
}

static int prepare_simple(struct sqlite_engine *engine, const char *before, const struct class_desc *cls,
                          const char *after, sqlite3_stmt **slot, struct store_err *err)
{
    if (*slot)
        return 0;
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_add_str(&sql, before);
    sql_add_name(&sql, cls->name);
    buf_add_str(&sql, after);
    return sqlite_prepare(engine, slot, sql.data, err);
}

static int upsert(struct sqlite_engine *engine, const struct engine_change *change, struct buf *scratch,
                  struct store_err *err)
{
    const struct class_plan *plan = plan_of(engine->schema, change->cls);
    sqlite3_stmt **slot = &engine->classes[change->cls->index].upsert;
    if (prepare_upsert(engine, plan, slot, err) != 0)
        return -1;
    char ref[REF_TEXT_SIZE];
    int rc = sqlite3_bind_text(*slot, 1, ref_format(change->ref, ref), -1, SQLITE_STATIC) |
             sqlite3_bind_int64(*slot, 2, (int64_t)change->row->created) |
             sqlite3_bind_int64(*slot, 3, (int64_t)change->row->generation);
    for (uint16_t i = 0; i < plan->columns.count && rc == SQLITE_OK; i++) {
        const struct field_desc *field = plan->columns.items[i];
        rc = value_bind(*slot, 4 + i, field->type, row_cell(change->row, field), scratch);
    }
    if (rc != SQLITE_OK)
        return sqlite_fail(engine, err, "take a value");
    int result = step(engine, *slot, err);
    sqlite3_clear_bindings(*slot);
    return result;
}

static int renew(struct sqlite_engine *engine, const struct engine_change *change, struct store_err *err)
{
    sqlite3_stmt **slot = &engine->classes[change->cls->index].renew;
    if (prepare_simple(engine, "UPDATE ", change->cls, " SET \"_generation\" = ?2 WHERE \"_ref\" = ?1", slot,
                       err) != 0)
        return -1;
    char ref[REF_TEXT_SIZE];
    int bound = sqlite3_bind_text(*slot, 1, ref_format(change->ref, ref), -1, SQLITE_STATIC) |
                sqlite3_bind_int64(*slot, 2, (int64_t)change->row->generation);
    return step_bound(engine, *slot, bound, err);
}

static int drop(struct sqlite_engine *engine, const struct engine_change *change, struct store_err *err)
{
    sqlite3_stmt **slot = &engine->classes[change->cls->index].drop;
    if (prepare_simple(engine, "DELETE FROM ", change->cls, " WHERE \"_ref\" = ?", slot, err) != 0)
        return -1;
    char ref[REF_TEXT_SIZE];
    int bound = sqlite3_bind_text(*slot, 1, ref_format(change->ref, ref), -1, SQLITE_STATIC);
    return step_bound(engine, *slot, bound, err);
}

static int write_changes(struct sqlite_engine *engine, const struct engine_batch *batch,
                         struct store_err *err)
{
    AUTO_BUF struct buf scratch = BUF_INIT;
    for (size_t i = 0; i < batch->count; i++) {
        const struct engine_change *change = &batch->changes[i];
        int result = !change->row              ? drop(engine, change, err)
                     : change->generation_only ? renew(engine, change, err)
                                               : upsert(engine, change, &scratch, err);
        if (result != 0)
            return -1;
    }
    return 0;
}

static int write_tombstones(struct sqlite_engine *engine, const struct engine_batch *batch,
                            struct store_err *err)
{
    if (sqlite_prepare(engine, &engine->tombstone_add,
                       "INSERT OR REPLACE INTO \"_tombstone\" VALUES (?, ?, ?, ?)", err) != 0)
        return -1;
    sqlite3_stmt *stmt = engine->tombstone_add;
    for (size_t i = 0; i < batch->tombstone_count; i++) {
        const struct store_tombstone *gone = &batch->tombstones[i];
        char ref[REF_TEXT_SIZE];
        int bound = sqlite3_bind_int64(stmt, 1, (int64_t)gone->deleted) |
                    sqlite3_bind_text(stmt, 2, gone->cls->name, -1, SQLITE_STATIC) |
                    sqlite3_bind_text(stmt, 3, ref_format(gone->ref, ref), -1, SQLITE_STATIC) |
                    sqlite3_bind_int64(stmt, 4, (int64_t)gone->created);
        if (step_bound(engine, stmt, bound, err) != 0)
            return -1;
    }
    return 0;
}

static int write_meta(struct sqlite_engine *engine, const char *key, uint64_t value, struct store_err *err)
{
    if (sqlite_prepare(engine, &engine->meta_put, "INSERT OR REPLACE INTO \"_meta\" VALUES (?, ?)", err) != 0)
        return -1;
    int bound = sqlite3_bind_text(engine->meta_put, 1, key, -1, SQLITE_STATIC) |
                sqlite3_bind_int64(engine->meta_put, 2, (int64_t)value);
    return step_bound(engine, engine->meta_put, bound, err);
}

static int write_one(struct sqlite_engine *engine, sqlite3_stmt **slot, const char *sql, uint64_t value,
                     struct store_err *err)
{
    if (sqlite_prepare(engine, slot, sql, err) != 0)
        return -1;
    return step_bound(engine, *slot, sqlite3_bind_int64(*slot, 1, (int64_t)value), err);
}

static int write_batch(struct sqlite_engine *engine, const struct engine_batch *batch, struct store_err *err)
{
    if (batch->undo_from &&
        write_one(engine, &engine->tombstone_undo, "DELETE FROM \"_tombstone\" WHERE generation >= ?",
                  batch->undo_from, err) != 0)
        return -1;
    if (write_changes(engine, batch, err) != 0 || write_tombstones(engine, batch, err) != 0)
        return -1;
    if (batch->forget_to &&
        (write_one(engine, &engine->tombstone_forget, "DELETE FROM \"_tombstone\" WHERE generation <= ?",
                   batch->forget_to, err) != 0 ||
         write_meta(engine, "oldest_token", batch->forget_to, err) != 0))
        return -1;
    return batch->reserve ? write_meta(engine, "reserve", batch->reserve, err) : 0;
}

/* After a failure; that itself has no say. */
static void roll_back(struct sqlite_engine *engine)
{
    if (!sqlite3_get_autocommit(engine->db))
        sqlite3_exec(engine->db, "ROLLBACK", NULL, NULL, NULL);
}

static bool fence(struct sqlite_engine *engine)
{
    static const char sql[] =
        "BEGIN IMMEDIATE; UPDATE \"_meta\" SET value = value + 1 WHERE key = 'fence'; COMMIT";
    for (int i = 0; i < FENCE_TRIES; i++) {
        if (sqlite3_exec(engine->db, sql, NULL, NULL, NULL) == SQLITE_OK)
            return true;
        roll_back(engine);
        usleep(FENCE_PAUSE_US);
    }
    return false;
}

/* What a failed COMMIT has left. */
static enum engine_result after_failed_commit(struct sqlite_engine *engine, int code)
{
    roll_back(engine);
    if (fence(engine))
        return ENGINE_NOT_APPLIED;
    if ((code & 0xff) == SQLITE_FULL || code == SQLITE_IOERR_WRITE || (code & 0xff) == SQLITE_BUSY)
        return ENGINE_NOT_APPLIED;
    log_error("store", "the file cannot be written: whether the last changes are in it is not known", "path",
              engine->path);
    return ENGINE_UNKNOWN;
}

/* Without it the log is written and not synced: what is in it survives this process, and is synced with the
 * next batch that is. Checkpoints sync in any case. */
static int set_synchronous(struct sqlite_engine *engine, bool on, struct store_err *err)
{
    if (engine->unsynced == !on)
        return 0;
    if (sqlite_run(engine, on ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", err) != 0)
        return -1;
    engine->unsynced = !on;
    return 0;
}

enum engine_result sqlite_apply(struct sqlite_engine *engine, const struct engine_batch *batch,
                                struct store_err *err)
{
    if (set_synchronous(engine, !batch->lazy, err) != 0 ||
        sqlite_prepare(engine, &engine->begin, "BEGIN IMMEDIATE", err) != 0 ||
        sqlite_prepare(engine, &engine->commit, "COMMIT", err) != 0 || step(engine, engine->begin, err) != 0)
        return ENGINE_NOT_APPLIED;
    if (sqlite_place_check(engine, err) != 0 || write_batch(engine, batch, err) != 0) {
        roll_back(engine);
        return ENGINE_NOT_APPLIED;
    }
    failpoint("store:written");
    if (step(engine, engine->commit, err) == 0) {
        failpoint("store:durable");
        if (batch->reserve)
            sqlite_note_newest(engine->path, batch->reserve);
        return ENGINE_DURABLE;
    }
    return after_failed_commit(engine, sqlite3_extended_errcode(engine->db));
}
