/* Values in tables, in forms that a person can read with any SQLite tool: text as it is, numbers and
 * booleans as INTEGER or REAL, dates as ISO 8601 text, references as OpaqueRef:..., sets and maps as JSON. */
#include "sqlite_impl.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

/* Dates outside the years 0 to 9999 have no text form: they are kept as unix seconds. */
#define DATE_MIN INT64_C(-62167219200)
#define DATE_MAX INT64_C(253402300799)
#define DATE_TEXT_SIZE 21

const char *value_column_type(const struct type *type)
{
    if (type->rep == REP_BOOL || (type->rep == REP_INT && type->kind != TYPE_DATETIME))
        return "INTEGER";
    return type->rep == REP_FLOAT ? "REAL" : "TEXT";
}

/* "2025-03-19T04:16:24Z": the form that SQLite's own date functions read. */
static char *date_text(int64_t seconds, char out[static DATE_TEXT_SIZE])
{
    char plain[DATETIME_TEXT_SIZE];
    datetime_format(seconds, plain);
    snprintf(out, DATE_TEXT_SIZE, "%.4s-%.2s-%.12s", plain, plain + 4, plain + 6);
    return out;
}

static bool date_has_text(int64_t seconds)
{
    return seconds >= DATE_MIN && seconds <= DATE_MAX;
}

static void write_quoted(const char *text, struct buf *sql)
{
    buf_add_char(sql, '\'');
    for (; *text; text++) {
        if (*text == '\'')
            buf_add_char(sql, '\'');
        buf_add_char(sql, *text);
    }
    buf_add_char(sql, '\'');
}

void value_write_literal(const struct type *type, const union cell *cell, struct buf *sql)
{
    AUTO_BUF struct buf text = BUF_INIT;
    switch (type->rep) {
    case REP_VOID:
        buf_add_str(sql, "NULL");
        return;
    case REP_BOOL:
        buf_add_char(sql, cell->b ? '1' : '0');
        return;
    case REP_INT:
        if (type->kind == TYPE_DATETIME && date_has_text(cell->i))
            write_quoted(date_text(cell->i, (char[DATE_TEXT_SIZE]){0}), sql);
        else
            buf_add_int(sql, cell->i);
        return;
    case REP_FLOAT:
        if (isfinite(cell->d))
            json_write_real(sql, cell->d);
        else /* has no literal, and is nowhere a default */
            buf_add_str(sql, "0.0");
        return;
    case REP_STRING:
        write_quoted(cell->str ? cell->str : "", sql);
        return;
    case REP_ENUM:
    case REP_REF:
        cell_write_text(type, cell, &text);
        break;
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
    case REP_JSON:
        cell_write_json(type, cell, &text);
        break;
    }
    write_quoted(text.data ? text.data : "", sql);
}

static int bind_static(sqlite3_stmt *stmt, int at, const char *text)
{
    return sqlite3_bind_text(stmt, at, text, -1, SQLITE_STATIC);
}

static bool value_is_empty(const struct type *type, const union cell *cell)
{
    switch (type->rep) {
    case REP_STR_SET:
        return !cell->str_set;
    case REP_REF_SET:
        return !cell->ref_set;
    case REP_ENUM_SET:
        return cell->enum_set == 0;
    case REP_STR_MAP:
        return !cell->str_map;
    default:
        return false;
    }
}

int value_bind(sqlite3_stmt *stmt, int at, const struct type *type, const union cell *cell,
               struct buf *scratch)
{
    char text[REF_TEXT_SIZE];
    switch (type->rep) {
    case REP_VOID:
        return sqlite3_bind_null(stmt, at);
    case REP_BOOL:
        return sqlite3_bind_int(stmt, at, cell->b);
    case REP_INT:
        if (type->kind == TYPE_DATETIME && date_has_text(cell->i))
            return sqlite3_bind_text(stmt, at, date_text(cell->i, text), -1, SQLITE_TRANSIENT);
        return sqlite3_bind_int64(stmt, at, cell->i);
    case REP_FLOAT:
        if (isnan(cell->d)) /* SQLite would make it NULL */
            return bind_static(stmt, at, "NaN");
        return sqlite3_bind_double(stmt, at, cell->d);
    case REP_ENUM:
        return bind_static(stmt, at, type->en->values[cell->e]);
    case REP_STRING:
        return sqlite3_bind_text(stmt, at, cell->str, (int)str_len(cell->str), SQLITE_STATIC);
    case REP_REF:
        if (ref_is_null(cell->ref))
            return bind_static(stmt, at, REF_NULL_TEXT);
        return sqlite3_bind_text(stmt, at, ref_format(cell->ref, text), -1, SQLITE_TRANSIENT);
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
    case REP_JSON:
        if (value_is_empty(type, cell))
            return bind_static(stmt, at, type->rep == REP_STR_MAP ? "{}" : "[]");
        buf_clear(scratch);
        cell_write_json(type, cell, scratch);
        return sqlite3_bind_text64(stmt, at, scratch->data, scratch->len, SQLITE_TRANSIENT, SQLITE_UTF8);
    }
    __builtin_unreachable();
}

static bool read_json(const char *text, size_t len, const struct type *type, union cell *cell)
{
    char error[CELL_ERROR_SIZE];
    struct json_error cause;
    AUTO_JSON json_t *json = json_parse(text, len, &cause);
    return json && cell_read_json(type, json, cell, error);
}

/* Seconds bound to a TEXT column come back as digits. */
static bool read_far_date(const struct type *type, const char *text, union cell *cell)
{
    char *end;
    if (type->kind != TYPE_DATETIME || (*text != '-' && (*text < '0' || *text > '9')))
        return false;
    errno = 0;
    long long seconds = strtoll(text, &end, 10);
    if (*end || errno || date_has_text(seconds))
        return false;
    cell->i = seconds;
    return true;
}

bool value_read(sqlite3_stmt *stmt, int at, const struct type *type, union cell *cell)
{
    /* One look-up of the column: the sqlite3_column functions would each make theirs. */
    sqlite3_value *value = sqlite3_column_value(stmt, at);
    int stored = sqlite3_value_type(value);
    if (type->rep == REP_BOOL || type->rep == REP_INT || type->rep == REP_FLOAT) {
        if (stored == SQLITE_INTEGER && type->rep == REP_BOOL) {
            cell->b = sqlite3_value_int64(value) != 0;
            return true;
        }
        if (stored == SQLITE_INTEGER && type->rep == REP_INT) {
            cell->i = sqlite3_value_int64(value);
            return true;
        }
        if (type->rep == REP_FLOAT && (stored == SQLITE_FLOAT || stored == SQLITE_INTEGER)) {
            cell->d = sqlite3_value_double(value);
            return true;
        }
        if (stored != SQLITE_TEXT || type->rep == REP_BOOL)
            return false;
    }
    if (stored != SQLITE_TEXT)
        return false;
    const char *text = (const char *)sqlite3_value_text(value);
    size_t len = (size_t)sqlite3_value_bytes(value);
    bool empty = len == 2 && (memcmp(text, "[]", 2) == 0 || memcmp(text, "{}", 2) == 0);
    union cell fresh;
    switch (type->rep) {
    case REP_STRING:
        fresh.str = str_new_len(text, len);
        break;
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
    case REP_JSON:
        if (empty)
            cell_init(type, &fresh);
        else if (!read_json(text, len, type, &fresh))
            return false;
        break;
    default:
        if (!cell_read_text(type, text, &fresh) && !read_far_date(type, text, &fresh))
            return false;
        break;
    }
    /* An initial value is static, or nothing: there is no count to give back. */
    cell_done(type, cell);
    cell_copy(type, cell, &fresh);
    cell_done(type, &fresh);
    return true;
}
