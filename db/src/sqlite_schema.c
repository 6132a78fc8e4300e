/* The tables: one a class, made from the descriptors, and two of the store's own. A file of an older
 * version is brought up to date: first the explicit steps of db/migrations, then whatever table or column
 * is missing. Columns that the model no longer has stay as they are. */
#include "sqlite_impl.h"
#include <base/log.h>
#include <base/mem.h>
#include <strings.h>

void sql_add_name(struct buf *sql, const char *name)
{
    buf_printf(sql, "\"%s\"", name); /* names of classes and fields have no quotes */
}

static void add_column(struct buf *sql, const struct field_desc *field)
{
    sql_add_name(sql, field->name);
    buf_printf(sql, " %s NOT NULL DEFAULT ", value_column_type(field->type));
    value_write_literal(field->type, &field->initial, sql);
}

/* Rows are wide, so the table has SQLite's row numbers, and the reference an index of its own. */
static int create_table(struct sqlite_engine *engine, const struct class_plan *plan, struct store_err *err)
{
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_add_str(&sql, "CREATE TABLE ");
    sql_add_name(&sql, plan->cls->name);
    buf_add_str(&sql, " (\"_ref\" TEXT PRIMARY KEY NOT NULL, \"_created\" INTEGER NOT NULL, "
                      "\"_generation\" INTEGER NOT NULL");
    for (uint16_t i = 0; i < plan->columns.count; i++) {
        buf_add_str(&sql, ",\n  ");
        add_column(&sql, plan->columns.items[i]);
    }
    buf_add_str(&sql, ")");
    return sqlite_run(engine, sql.data, err);
}

static int add_missing_column(struct sqlite_engine *engine, const struct class_desc *cls,
                              const struct field_desc *field, struct store_err *err)
{
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_add_str(&sql, "ALTER TABLE ");
    sql_add_name(&sql, cls->name);
    buf_add_str(&sql, " ADD COLUMN ");
    add_column(&sql, field);
    log_info("store", "adding a column to the file", "class", cls->name, "field", field->name);
    return sqlite_run(engine, sql.data, err);
}

/* `found` gets, for each column of the plan, whether the table has it. *exists: there is a table. */
static int find_columns(struct sqlite_engine *engine, const struct class_plan *plan, bool *found,
                        bool *exists, struct store_err *err)
{
    AUTO_STMT sqlite3_stmt *stmt = NULL;
    if (sqlite_prepare(engine, &stmt, "SELECT name FROM pragma_table_info(?)", err) != 0)
        return -1;
    sqlite3_bind_text(stmt, 1, plan->cls->name, -1, SQLITE_STATIC);
    int rc;
    *exists = false;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        *exists = true;
        for (uint16_t i = 0; i < plan->columns.count; i++)
            if (strcasecmp(plan->columns.items[i]->name, name) == 0) /* as SQLite compares */
                found[i] = true;
    }
    return rc == SQLITE_DONE ? 0 : sqlite_fail(engine, err, "read the layout of the file");
}

static int update_class(struct sqlite_engine *engine, const struct class_plan *plan, struct store_err *err)
{
    AUTO_FREE bool *found = xcalloc(plan->columns.count, sizeof(*found));
    bool exists;
    if (find_columns(engine, plan, found, &exists, err) != 0)
        return -1;
    if (!exists)
        return create_table(engine, plan, err);
    for (uint16_t i = 0; i < plan->columns.count; i++)
        if (!found[i] && add_missing_column(engine, plan->cls, plan->columns.items[i], err) != 0)
            return -1;
    return 0;
}

static int run_migrations(struct sqlite_engine *engine, int64_t version, struct store_err *err)
{
    for (size_t i = 0; i < engine->migration_count; i++) {
        const struct migration *step = &engine->migrations[i];
        if (step->version <= version || step->version > engine->schema->version)
            continue;
        log_info("store", "migrating the file", "to", LOG_INT(step->version));
        if (sqlite_run(engine, step->sql, err) != 0)
            return -1;
    }
    return 0;
}

static int update_tables(struct sqlite_engine *engine, bool fresh, int64_t version, struct store_err *err)
{
    if (fresh) {
        AUTO_BUF struct buf sql = BUF_INIT;
        buf_printf(&sql, "PRAGMA application_id = %d;", SQLITE_APPLICATION_ID);
        buf_add_str(&sql, "CREATE TABLE \"_meta\" (key TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;"
                          "CREATE TABLE \"_tombstone\" (generation INTEGER NOT NULL, class TEXT NOT NULL, "
                          "ref TEXT NOT NULL, created INTEGER NOT NULL, PRIMARY KEY (generation, ref)) "
                          "WITHOUT ROWID;"
                          "INSERT INTO \"_meta\" VALUES ('reserve', 0), ('oldest_token', 0), ('fence', 0);");
        if (sqlite_run(engine, sql.data, err) != 0)
            return -1;
    } else if (run_migrations(engine, version, err) != 0) {
        return -1;
    }
    for (uint16_t i = 0; i < engine->schema->class_count; i++)
        if ((engine->schema->classes[i].flags & CLASS_PERSIST) && engine->schema->classes[i].row_size &&
            update_class(engine, &engine->schema->plans[i], err) != 0)
            return -1;
    if (version == engine->schema->version && !fresh)
        return 0;
    AUTO_BUF struct buf sql = BUF_INIT;
    buf_printf(&sql, "PRAGMA user_version = %d", engine->schema->version);
    return sqlite_run(engine, sql.data, err);
}

int sqlite_schema_update(struct sqlite_engine *engine, bool *fresh, struct store_err *err)
{
    int64_t application, version, tables;
    if (sqlite_number(engine, "PRAGMA application_id", &application, err) != 0 ||
        sqlite_number(engine, "PRAGMA user_version", &version, err) != 0 ||
        sqlite_number(engine, "SELECT count(*) FROM sqlite_schema", &tables, err) != 0)
        return -1;
    *fresh = application == 0 && version == 0 && tables == 0;
    if (!*fresh && application != SQLITE_APPLICATION_ID)
        return store_err_set(err, STORE_E_CORRUPT, "%s is not a database of Corral", engine->path);
    if (version > engine->schema->version)
        return store_err_set(err, STORE_E_NEWER,
                             "%s was written by a newer version of Corral (schema %lld, this is %d)",
                             engine->path, (long long)version, engine->schema->version);
    if (sqlite_run(engine, "BEGIN IMMEDIATE", err) != 0)
        return -1;
    if (update_tables(engine, *fresh, version, err) != 0) {
        sqlite3_exec(engine->db, "ROLLBACK", NULL, NULL, NULL); /* the first error counts */
        return -1;
    }
    return sqlite_run(engine, "COMMIT", err);
}
