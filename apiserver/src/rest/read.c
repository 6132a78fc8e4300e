/* Reading: one object, and pages of a class that fit a filter, in an order. */
#include "internal.h"

#include "../gate/permissions.h"
#include "../gate/roles.h"
#include "../gate/trail.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/query.h>
#include <base/secret.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX 100000
#define SORT_MAX 4

bool rest_may_read(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct method_desc *read = message_of(r->target.cls, "get_all_records");
    AUTO_FREE char *permission = permission_of_method(read);
    if (roles_require(r->session, read->role, permission, &err) == 0)
        return true;
    trail_door(r->server->trail, http_request_peer(r->req), r->session, permission, &err);
    rest_fail(r, &err);
    return false;
}

/* ---- one ---- */

/* A list of ETags, or *. Weak ones never match: a change has to name exactly what it was made from. */
static bool names_version(const char *header, const char *etag)
{
    const char *at = strstr(header, etag);
    if (streq(header, "*"))
        return true;
    return at && (at == header || strchr(" ,", at[-1]));
}

const struct row *rest_object(struct rest *r, const struct snapshot *snap)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    char etag[ETAG_SIZE];
    const struct row *row = snapshot_by_uuid(snap, r->target.cls, r->target.uuid);
    const char *wanted = http_request_header(r->req, "If-Match");
    if (!row) {
        err_uuid_invalid(&err, r->target.cls->name, r->target.uuid);
        rest_fail(r, &err);
        return NULL;
    }
    if (wanted && !names_version(wanted, etag_format(row, etag))) {
        rest_problem(r->req, 412, "Precondition Failed",
                     "The object has changed since the version that If-Match names: read it again.");
        return NULL;
    }
    return row;
}

/* ---- what to show, and in which order ---- */

struct sort_key {
    const struct field_desc *field;
    bool descending;
};

struct listing {
    const struct snapshot *snap;
    const struct query *query; /* NULL: all */
    struct field_choice choice;
    bool chosen;
    struct sort_key sort[SORT_MAX];
    size_t sort_count;
    const struct row **rows;
    size_t count, capacity;
};

static void listing_done(struct listing *l)
{
    free(l->choice.fields);
    free(l->rows);
}

static bool refuse_field(struct rest *r, const char *parameter, const char *name, size_t len)
{
    AUTO_FREE char *text = xasprintf("Query parameter %s: %s has no field '%.*s'.", parameter,
                                     r->target.cls->name, len > 60 ? 60 : (int)len, name);
    rest_problem(r->req, 400, "Bad Request", text);
    return false;
}

static const struct field_desc *field_named(const struct class_desc *cls, const char *name, size_t len)
{
    AUTO_FREE char *copy = xstrndup(name, len);
    return public_field(cls, copy);
}

/* "uuid,name_label" */
static bool read_choice(struct rest *r, struct listing *l)
{
    const char *text = http_request_query(r->req, "fields");
    if (!text || !*text)
        return true;
    l->chosen = true;
    l->choice.fields = xcalloc(r->target.cls->field_count, sizeof(struct field_desc *));
    for (const char *at = text; *at; at += *at == ',') {
        size_t len = strcspn(at, ",");
        const struct field_desc *field = field_named(r->target.cls, at, len);
        if (!field)
            return refuse_field(r, "fields", at, len);
        bool known = false;
        for (size_t i = 0; i < l->choice.count; i++)
            known = known || l->choice.fields[i] == field;
        if (!known)
            l->choice.fields[l->choice.count++] = field;
        at += len;
    }
    return true;
}

static bool is_scalar(const struct field_desc *field)
{
    return field->type->rep >= REP_BOOL && field->type->rep <= REP_REF;
}

/* "name_label,-memory_static_max" */
static bool read_sort(struct rest *r, struct listing *l)
{
    const char *text = http_request_query(r->req, "sort");
    for (const char *at = text ? text : ""; *at; at += *at == ',') {
        bool descending = *at == '-';
        at += descending;
        size_t len = strcspn(at, ",");
        const struct field_desc *field = field_named(r->target.cls, at, len);
        if (!field)
            return refuse_field(r, "sort", at, len);
        if (!is_scalar(field) || l->sort_count == SORT_MAX) {
            rest_problem(r->req, 400, "Bad Request",
                         is_scalar(field)
                             ? "Query parameter sort: at most 4 fields."
                             : "Query parameter sort: fields with one value, no sets and no maps.");
            return false;
        }
        l->sort[l->sort_count++] = (struct sort_key){field, descending};
        at += len;
    }
    return true;
}

static enum query_field known_field(void *arg, const char *name)
{
    const struct field_desc *field = public_field(arg, name);
    if (!field)
        return QUERY_FIELD_NONE;
    return field->type->kind == TYPE_MAP ? QUERY_FIELD_MAP : QUERY_FIELD_PLAIN;
}

/* The text of a value without what JSON puts around it. */
static bool take_json(struct query_sink *sink, const json_t *value)
{
    AUTO_BUF struct buf text = BUF_INIT;
    if (json_is_null(value))
        return sink->take(sink, NULL);
    if (json_is_string(value))
        return sink->take(sink, json_string_value(value));
    json_write(&text, value);
    return sink->take(sink, text.data);
}

struct subject {
    const struct snapshot *snap;
    const struct row *row;
};

/* NULL for a reference to nothing. */
static const char *uuid_of(const struct snapshot *snap, const struct class_desc *cls, struct ref ref)
{
    const struct row *row = ref_is_null(ref) || !cls->row_size ? NULL : snapshot_get(snap, cls, ref);
    return row && cls->uuid ? row_cell(row, cls->uuid)->str : NULL;
}

/* Text that is kept as it is shown. */
static bool is_plain_text(const struct type *type)
{
    return type->kind == TYPE_STRING || type->kind == TYPE_INT || type->kind == TYPE_BOOL ||
           type->kind == TYPE_ENUM;
}

static void take_set(const struct subject *s, const struct type *type, const union cell *cell,
                     struct query_sink *sink)
{
    const struct enum_desc *en = type->item->en;
    size_t strings = type->rep == REP_STR_SET && cell->str_set ? cell->str_set->count : 0;
    size_t refs = type->rep == REP_REF_SET && cell->ref_set ? cell->ref_set->count : 0;
    size_t bits = type->rep == REP_ENUM_SET ? en->count : 0;
    for (size_t i = 0; i < strings; i++)
        if (!sink->take(sink, cell->str_set->items[i]))
            return;
    for (size_t i = 0; i < refs; i++)
        if (!sink->take(sink, uuid_of(s->snap, type->item->cls, cell->ref_set->items[i])))
            return;
    for (size_t i = 0; i < bits; i++)
        if (cell->enum_set >> i & 1 && !sink->take(sink, en->values[i]))
            return;
}

/* The values that need no detour; false: it is another kind. */
static bool take_directly(const struct subject *s, const struct type *type, const union cell *cell,
                          const char *key, struct query_sink *sink)
{
    char text[32];
    const char *value;
    switch (type->rep) {
    case REP_STRING:
        sink->take(sink, cell->str);
        return true;
    case REP_BOOL:
        sink->take(sink, cell->b ? "true" : "false");
        return true;
    case REP_ENUM:
        sink->take(sink, type->en->values[cell->e]);
        return true;
    case REP_INT:
        if (type->kind == TYPE_DATETIME)
            rfc3339_format(cell->i, text);
        else
            snprintf(text, sizeof(text), "%" PRId64, cell->i);
        sink->take(sink, text);
        return true;
    case REP_REF:
        sink->take(sink, uuid_of(s->snap, type->cls, cell->ref));
        return true;
    case REP_STR_SET:
        if (!is_plain_text(type->item))
            return false;
        take_set(s, type, cell, sink);
        return true;
    case REP_REF_SET:
    case REP_ENUM_SET:
        take_set(s, type, cell, sink);
        return true;
    case REP_STR_MAP:
        if (!key || !is_plain_text(type->key) || !is_plain_text(type->item))
            return false;
        if ((value = str_map_get(cell->str_map, key)))
            sink->take(sink, value);
        return true;
    default:
        return false;
    }
}

static void values_of(void *arg, const char *name, const char *key, struct query_sink *sink)
{
    const struct subject *s = arg;
    const struct field_desc *field = public_field(s->row->cls, name);
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    size_t i;
    json_t *item;
    if (take_directly(s, field->type, row_cell(s->row, field), key, sink))
        return;
    rest_value_write(s->snap, field->type, row_cell(s->row, field), &text);
    if (text.data[0] != '[' && text.data[0] != '{' && text.data[0] != '"') {
        sink->take(sink, streq(text.data, "null") ? NULL : text.data);
        return;
    }
    AUTO_JSON json_t *value = json_parse(text.data, text.len, &error);
    if (key) {
        if ((item = json_object_get(value, key)))
            take_json(sink, item);
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, item) if (!take_json(sink, item)) break;
    } else {
        take_json(sink, value);
    }
}

static bool collect(const struct row *row, void *arg)
{
    struct listing *l = arg;
    struct subject subject = {l->snap, row};
    if (l->query && !query_matches(l->query, values_of, &subject))
        return true;
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? l->capacity * 2 : 64;
        l->rows = xreallocarray((void *)l->rows, l->capacity, sizeof(*l->rows));
    }
    l->rows[l->count++] = row;
    return true;
}

static int compare_cells(const struct type *type, const union cell *a, const union cell *b)
{
    switch (type->rep) {
    case REP_BOOL:
        return (int)a->b - (int)b->b;
    case REP_INT:
        return a->i < b->i ? -1 : a->i > b->i;
    case REP_FLOAT:
        return a->d < b->d ? -1 : a->d > b->d;
    case REP_ENUM:
        return strcmp(type->en->values[a->e], type->en->values[b->e]);
    case REP_STRING:
        return strcmp(a->str, b->str);
    default:
        return ref_cmp(a->ref, b->ref);
    }
}

static int compare_rows(const void *x, const void *y, void *arg)
{
    const struct row *a = *(const struct row *const *)x, *b = *(const struct row *const *)y;
    const struct listing *l = arg;
    for (size_t i = 0; i < l->sort_count; i++) {
        const struct field_desc *field = l->sort[i].field;
        int order = compare_cells(field->type, row_cell(a, field), row_cell(b, field));
        if (order)
            return l->sort[i].descending ? -order : order;
    }
    return ref_cmp(a->ref, b->ref);
}

/* ---- pages ----
 * A cursor is the last row of the page before: the values that it is sorted by and its reference. So a page
 * begins behind that place also when rows came, went or changed meanwhile. */

static char *cursor_make(const struct listing *l, const struct row *last)
{
    AUTO_JSON json_t *parts = json_array();
    AUTO_BUF struct buf text = BUF_INIT;
    for (size_t i = 0; i < l->sort_count; i++) {
        buf_clear(&text);
        cell_write_text(l->sort[i].field->type, row_cell(last, l->sort[i].field), &text);
        json_array_append_new(parts, json_string(text.data ? text.data : ""));
    }
    json_array_append_new(parts, json_string(REF_TEXT(last->ref)));
    buf_clear(&text);
    json_write(&text, parts);
    char *cursor = base64_encode(text.data, text.len);
    for (char *c = cursor; *c; c++) /* for addresses */
        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c == '=' ? '\0' : *c;
    return cursor;
}

/* A row that stands where the cursor was made; NULL: it is none for this listing. The caller's. */
static struct row *cursor_read(const struct listing *l, const struct class_desc *cls, const char *text)
{
    struct json_error error;
    struct ref ref;
    size_t len;
    AUTO_FREE char *plain = xstrdup(text);
    for (char *c = plain; *c; c++)
        *c = *c == '-' ? '+' : *c == '_' ? '/' : *c;
    AUTO_FREE char *decoded = base64_decode(plain, strlen(plain), &len);
    AUTO_JSON json_t *parts = decoded ? json_parse(decoded, len, &error) : NULL;
    const char *last = json_string_value(json_array_get(parts, l->sort_count));
    if (json_array_size(parts) != l->sort_count + 1 || !last || !ref_parse(last, &ref))
        return NULL;
    struct row *row = row_new(cls, ref);
    for (size_t i = 0; i < l->sort_count; i++) {
        const struct field_desc *field = l->sort[i].field;
        const char *value = json_string_value(json_array_get(parts, i));
        union cell cell;
        if (!value || !cell_read_text(field->type, value, &cell)) {
            row_unref(row);
            return NULL;
        }
        cell_done(field->type, row_cell_mut(row, field));
        cell_copy(field->type, row_cell_mut(row, field), &cell);
        cell_done(field->type, &cell);
    }
    return row;
}

/* Index of the first row behind the cursor. */
static bool find_start(struct rest *r, const struct listing *l, size_t *start)
{
    const char *text = http_request_query(r->req, "cursor");
    *start = 0;
    if (!text || !*text)
        return true;
    struct row *at = cursor_read(l, r->target.cls, text);
    if (!at) {
        rest_problem(
            r->req, 400, "Bad Request",
            "Query parameter cursor: take the value of 'next' from the page before, with the same sort.");
        return false;
    }
    size_t low = 0, high = l->count;
    const struct row *wanted = at;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare_rows(&l->rows[middle], &wanted, (void *)(uintptr_t)l) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    row_unref(at);
    *start = low;
    return true;
}

static bool read_limit(struct rest *r, size_t *out)
{
    const char *text = http_request_query(r->req, "limit");
    char *end;
    long limit = text ? strtol(text, &end, 10) : LIMIT_DEFAULT;
    if (text && (*text < '0' || *text > '9' || *end || limit < 1 || limit > LIMIT_MAX)) {
        rest_problem(r->req, 400, "Bad Request", "Query parameter limit: a number from 1 to 100000.");
        return false;
    }
    *out = (size_t)limit;
    return true;
}

static void send_page(struct rest *r, const struct listing *l, size_t start, size_t limit)
{
    struct buf out = BUF_INIT;
    size_t end = l->count - start > limit ? start + limit : l->count;
    buf_add_str(&out, "{\"items\":[");
    for (size_t i = start; i < end; i++) {
        if (i > start)
            buf_add_char(&out, ',');
        rest_record_write(l->snap, l->rows[i], l->chosen ? &l->choice : NULL, &out);
    }
    buf_printf(&out, "],\"total\":%zu,\"next\":", l->count);
    AUTO_FREE char *next = end < l->count ? cursor_make(l, l->rows[end - 1]) : NULL;
    if (next)
        json_write_string(&out, next);
    else
        buf_add_str(&out, "null");
    buf_add_char(&out, '}');
    rest_send(r->req, 200, NULL, NULL, &out);
}

static void list_page(struct rest *r, struct listing *l)
{
    const char *filter = http_request_query(r->req, "filter");
    struct query_error error;
    AUTO_QUERY struct query *query = NULL;
    size_t start, limit;
    if (!read_choice(r, l) || !read_sort(r, l) || !read_limit(r, &limit))
        return;
    if (filter && *filter) {
        query = query_parse(filter, known_field, (void *)(uintptr_t)r->target.cls, &error);
        if (!query) {
            rest_problem(r->req, 400, "Bad Request", error.text);
            return;
        }
        l->query = query;
    }
    snapshot_each(l->snap, r->target.cls, collect, l);
    l->query = NULL;
    if (l->sort_count && l->count) /* else by reference, as they come */
        qsort_r((void *)l->rows, l->count, sizeof(*l->rows), compare_rows, l);
    if (!find_start(r, l, &start))
        return;
    send_page(r, l, start, limit);
}

void rest_list(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    struct listing l = {.snap = snap};
    if (rest_may_read(r))
        list_page(r, &l);
    listing_done(&l);
    rest_done(r);
}

void rest_get(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    struct listing l = {.snap = snap};
    const struct row *row;
    char etag[ETAG_SIZE];
    if (rest_may_read(r) && read_choice(r, &l) && (row = rest_object(r, snap))) {
        struct buf out = BUF_INIT;
        const char *known = http_request_header(r->req, "If-None-Match");
        const struct http_header headers[] = {{"ETag", etag_format(row, etag)}, {NULL, NULL}};
        if (known && names_version(known, etag)) {
            http_answer(r->req, 304, headers, "", 0, HTTP_STATIC);
        } else {
            rest_record_write(snap, row, l.chosen ? &l.choice : NULL, &out);
            rest_send(r->req, 200, NULL, etag, &out);
        }
    }
    listing_done(&l);
    rest_done(r);
}
