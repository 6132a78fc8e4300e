/* Reading the whole file: every table once, in the order of the classes. */
#include "sqlite_impl.h"
#include <base/mem.h>

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

static int load_row(struct sqlite_engine *engine, const struct class_plan *plan, sqlite3_stmt *stmt,
                    const struct engine_sink *sink, struct store_err *err)
{
    struct ref ref;
    const char *text = (const char *)sqlite3_column_text(stmt, 0);
    if (!text || !ref_parse(text, &ref) || ref_is_null(ref))
        return damaged(engine, plan->cls, "_ref", err);
    struct row *row = row_new(plan->cls, ref);
    row->created = (uint64_t)sqlite3_column_int64(stmt, 1);
    row->generation = (uint64_t)sqlite3_column_int64(stmt, 2);
    const char *bad = row->created == 0 || row->created > row->generation ? "_generation" : NULL;
    for (uint16_t i = 0; i < plan->columns.count && !bad; i++) {
        const struct field_desc *field = plan->columns.items[i];
        if (!value_read(stmt, FIXED_COLUMNS + i, field->type, row_cell_mut(row, field)))
            bad = field->name;
    }
    if (bad) {
        row_unref(row);
        return damaged(engine, plan->cls, bad, err);
    }
    sink->row(sink->arg, row);
    return 0;
}

static int load_class(struct sqlite_engine *engine, const struct class_plan *plan,
                      const struct engine_sink *sink, struct store_err *err)
{
    AUTO_BUF struct buf sql = BUF_INIT;
    write_select(plan, &sql);
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    if (sqlite_prepare(engine, &stmt, sql.data, err) != 0)
        return -1;
    int rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
        if (load_row(engine, plan, stmt, sink, err) != 0)
            return -1;
    return rc == SQLITE_DONE ? 0 : sqlite_fail(engine, err, "read the file");
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

static int load_meta(struct sqlite_engine *engine, struct engine_meta *meta, struct store_err *err)
{
    int64_t reserve, oldest;
    if (sqlite_number(engine, "SELECT value FROM \"_meta\" WHERE key = 'reserve'", &reserve, err) != 0 ||
        sqlite_number(engine, "SELECT value FROM \"_meta\" WHERE key = 'oldest_token'", &oldest, err) != 0)
        return -1;
    meta->reserve = (uint64_t)reserve;
    meta->oldest_token = (uint64_t)oldest;
    return 0;
}

int sqlite_load(struct sqlite_engine *engine, const struct engine_sink *sink, struct engine_meta *meta,
                struct store_err *err)
{
    if (load_meta(engine, meta, err) != 0 || load_tombstones(engine, sink, err) != 0)
        return -1;
    for (uint16_t i = 0; i < engine->schema->class_count; i++) {
        const struct class_plan *plan = &engine->schema->plans[i];
        if ((plan->cls->flags & CLASS_PERSIST) && plan->cls->row_size &&
            load_class(engine, plan, sink, err) != 0)
            return -1;
    }
    return 0;
}
