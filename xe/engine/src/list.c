/* <class>-list and the tables that other commands print: which fields, which objects, in blocks. */
#include "run.h"

/* Marks the fields that a params= text names. Unknown names are ignored, as scripts expect. */
static void mark_named(const struct xe_class *cls, const char *params, bool *shown)
{
    AUTO_FREE char *copy = xstrdup(params);
    char *rest = copy, *name;
    while ((name = strsep(&rest, ","))) {
        const struct xe_field *f = xe_field_find(cls, name);
        if (f)
            shown[f - cls->fields] = true;
    }
}

/* One flag a field: shown or not. The caller frees. */
bool *xe_columns(const struct xe_class *cls, const char *params, const char *const *defaults)
{
    bool *shown = xcalloc(cls->field_count + 1U, sizeof *shown);
    if (params && streq(params, "all")) {
        for (size_t i = 0; i < cls->field_count; i++)
            shown[i] = !(cls->fields[i].flags & XE_HIDDEN);
    } else if (params) {
        mark_named(cls, params, shown);
    } else if (defaults) {
        for (; *defaults; defaults++)
            mark_named(cls, *defaults, shown);
    } else {
        for (size_t i = 0; i < cls->column_count; i++)
            shown[cls->columns[i]] = true;
    }
    return shown;
}

/* The i-th field to print: as --columns names them, else in field order; NULL: not shown. */
static const struct xe_field *column(const struct xe_run_state *x, const struct xe_class *cls,
                                     const bool *shown, size_t i)
{
    if (x->order)
        return &cls->fields[x->order[i]];
    return shown[i] ? &cls->fields[i] : NULL;
}

static int record_json(struct xe_run_state *x, const struct xe_class *cls, const bool *shown, const char *ref,
                       const json_t *record, enum xe_value_mode mode)
{
    size_t columns = x->order ? x->order_count : cls->field_count;
    AUTO_JSON json_t *o = json_object();
    for (size_t i = 0; i < columns; i++) {
        const struct xe_field *f = column(x, cls, shown, i);
        AUTO_VALUE struct xe_value v = {0};
        if (!f)
            continue;
        if (xe_field_value(x, cls, f, ref, record, mode, &v) < 0)
            return -1;
        json_object_set_new(o, f->name, xe_value_json(f, &v));
    }
    xe_out_json(x, TAKE_PTR(o));
    return 0;
}

int xe_print_record(struct xe_run_state *x, const struct xe_class *cls, const bool *shown, const char *ref,
                    const json_t *record, enum xe_value_mode mode)
{
    size_t columns = x->order ? x->order_count : cls->field_count, n = 0;
    int rc = 0;
    if (x->view.format == XE_FORMAT_JSON)
        return record_json(x, cls, shown, ref, record, mode);
    struct xe_cell *cells = xcalloc(columns + 1, sizeof *cells);
    for (size_t i = 0; i < columns && rc == 0; i++) {
        const struct xe_field *f = column(x, cls, shown, i);
        AUTO_VALUE struct xe_value v = {0};
        if (!f)
            continue;
        rc = xe_field_value(x, cls, f, ref, record, mode, &v);
        if (rc < 0)
            break;
        cells[n++] = (struct xe_cell){f->name, f->tag, xe_value_text(f, &v)};
        if (x->minimal)
            break;
    }
    if (rc == 0 && n)
        xe_out_block(x, cells, n);
    for (size_t i = 0; i < n; i++)
        free((char *)cells[i].value);
    free(cells);
    return rc;
}

int xe_list_print(struct xe_run_state *x, const struct xe_class *cls, const char *ref, const char *params,
                  const char *const *defaults)
{
    const json_t *record;
    if (xe_record(x, cls->api, ref, &record) < 0)
        return -1;
    if (!record)
        return 0;
    AUTO_FREE bool *shown = xe_columns(cls, params, defaults);
    return xe_print_record(x, cls, shown, ref, record, XE_VALUE_LISTED);
}

/* What the columns and filters will read, so that the answers can be read without the rest. */
static void want_all(struct xe_run_state *x, const struct xe_class *cls, const bool *shown,
                     const struct xe_filters *filters)
{
    for (size_t i = 0; i < cls->field_count; i++) {
        if (!shown[i] || (cls->fields[i].flags & XE_EXPENSIVE))
            continue;
        xe_field_want(x, cls, &cls->fields[i]);
        if (x->minimal)
            break;
    }
    xe_filters_want(x, cls, filters);
}

/* The records to look at: one when uuid= says so, else the whole class. */
static int candidates(struct xe_run_state *x, const struct xe_class *cls, const char *uuid, json_t **out)
{
    if (!uuid) {
        const json_t *all;
        if (xe_records(x, cls->api, &all) < 0)
            return -1;
        *out = json_incref((json_t *)all);
        return 0;
    }
    AUTO_FREE char *ref = NULL;
    const json_t *record = NULL;
    x->bulk = false;
    int rc = xe_ref_by_uuid(x, cls->api, uuid, &ref);
    if (rc < 0 && !xe_err_is(&x->err, "UUID_INVALID"))
        return -1;
    if (rc == 0 && xe_record(x, cls->api, ref, &record) < 0)
        return -1;
    if (rc < 0)
        xe_err_done(&x->err);
    *out = json_object();
    if (record)
        json_object_set(*out, ref, (json_t *)record);
    return 0;
}

static bool implicit(const struct xe_class *cls, struct xe_filters *filters)
{
    for (size_t i = 0; i < cls->filter_count; i++) {
        filters->items = xreallocarray(filters->items, filters->count + 1, sizeof *filters->items);
        struct xe_filter *f = &filters->items[filters->count++];
        *f = (struct xe_filter){.field = xe_field_find(cls, cls->filters[i].wire),
                                .value = cls->filters[i].shown};
        if (strncmp(f->value, "/=", 2) == 0) { /* any other value */
            f->differs = true;
            f->value += 2;
        }
    }
    return true;
}

/* What a list is made of; read once, used again at every change with --watch. */
struct listing {
    const struct xe_class *cls;
    bool all;
    struct xe_filters given, filters;
    bool *shown;
};

static void listing_done(struct listing *l)
{
    xe_filters_done(&l->given);
    xe_filters_done(&l->filters);
    free(l->shown);
}

/* A name in params= that is no field is left out, as scripts expect, but not in silence. */
static void note_unknown(struct xe_run_state *x, const struct xe_class *cls, const char *params)
{
    AUTO_FREE char *copy = xstrdup(params && !streq(params, "all") ? params : "");
    char *rest = copy, *name;
    while ((name = strsep(&rest, ","))) {
        if (!*name || xe_field_find(cls, name))
            continue;
        const char *near = xe_field_nearest(cls, name);
        xe_note(x, "Left out: %s has no field '%s'.%s%s%s", cls->one, name, near ? " Did you mean '" : "",
                near ? near : "", near ? "'?" : "");
    }
}

static int read_listing(struct xe_run_state *x, struct listing *l)
{
    static const char *const own[] = {"params", NULL};
    static const char *const *const skip[] = {own, NULL};
    if (xe_arg_bool(x, "all", &l->all) < 0 || xe_filters_parse(x, l->cls, skip, &l->given) < 0 ||
        xe_view_columns(x, l->cls) < 0)
        return -1;
    if (!l->all) {
        implicit(l->cls, &l->filters);
        for (size_t i = 0; i < l->given.count; i++) {
            l->filters.items =
                xreallocarray(l->filters.items, l->filters.count + 1, sizeof *l->filters.items);
            l->filters.items[l->filters.count++] = l->given.items[i];
        }
    }
    l->shown = xe_columns(l->cls, xe_arg(x, "params"), NULL);
    note_unknown(x, l->cls, xe_arg(x, "params"));
    if (x->order)
        memset(l->shown, 0, l->cls->field_count);
    for (size_t i = 0; i < x->order_count; i++)
        l->shown[x->order[i]] = true;
    return 0;
}

/* The objects that fit, in their order. `records` holds them. */
static int fitting(struct xe_run_state *x, const struct listing *l, json_t *records, struct xe_rows *rows)
{
    const char *ref;
    json_t *record;
    void *first = json_object_iter(records);
    AUTO_QUERY struct query *query = NULL;
    if (xe_view_where(x, l->cls, first ? json_object_iter_value(first) : NULL, &query) < 0)
        return -1;
    json_object_foreach(records, ref, record)
    {
        bool match;
        if (xe_filters_match(x, l->cls, &l->filters, ref, record, &match) < 0)
            return -1;
        if (match && query && xe_view_fits(x, l->cls, query, ref, record, &match) < 0)
            return -1;
        if (!match)
            continue;
        rows->items = xreallocarray(rows->items, rows->count + 1, sizeof *rows->items);
        rows->items[rows->count++] = (struct xe_row){.ref = ref, .record = record};
    }
    return xe_view_sort(x, l->cls, rows);
}

static int list(struct xe_run_state *x, const struct listing *l)
{
    AUTO_JSON json_t *records = NULL;
    AUTO_ROWS struct xe_rows rows = {0};
    x->bulk = true;
    /* Filters and orders of their own may read anything. */
    if (!x->view.where && !x->view.sort)
        want_all(x, l->cls, l->shown, &l->filters);
    if (candidates(x, l->cls, l->all ? NULL : xe_arg(x, "uuid"), &records) < 0 ||
        fitting(x, l, records, &rows) < 0)
        return -1;
    for (size_t i = 0; i < rows.count; i++)
        if (xe_print_record(x, l->cls, l->shown, rows.items[i].ref, rows.items[i].record, XE_VALUE_LISTED) <
            0)
            return -1;
    return 0;
}

/* ---- --watch ---- */

/* Waits for a change of a class that the list was made of; `token` moves on. */
static int await_change(struct xe_run_state *x, const json_t *classes, char **token)
{
    for (bool first = !**token;; first = false) {
        AUTO_JSON json_t *answer = NULL;
        if (xe_call(x, "event.from", &answer, "[Osf]", classes, *token, first ? 0.0 : 30.0) < 0)
            return -1;
        free(*token);
        *token = xstrdup(xe_str(answer, "token"));
        if (first || json_array_size(json_object_get(answer, "events")))
            return 0;
    }
}

/* The classes whose records the list reads. */
static json_t *watched(struct xe_run_state *x, const struct listing *l)
{
    json_t *classes = json_array();
    const char *name;
    json_t *ignored;
    json_array_append_new(classes, json_string(l->cls->api));
    want_all(x, l->cls, l->shown, &l->filters);
    json_object_foreach(x->wanted, name, ignored) if (!streq(name, l->cls->api))
        json_array_append_new(classes, json_string(name));
    if (x->view.where || x->view.sort) {
        json_decref(x->wanted);
        x->wanted = NULL;
    }
    return classes;
}

static int watch(struct xe_run_state *x, const struct listing *l)
{
    AUTO_JSON json_t *classes = watched(x, l);
    AUTO_FREE char *token = xstrdup("");
    for (;;) {
        /* The token is older than what is shown, so no change is missed. */
        int rc = await_change(x, classes, &token);
        if (rc == 0)
            x->api->redraw(x->api->ctx);
        json_decref(x->objects);
        x->objects = NULL;
        free(x->csv_head);
        x->csv_head = NULL;
        if (rc < 0 || list(x, l) < 0)
            return x->err.kind == XE_ERR_CANCELLED ? 0 : -1;
        if (x->view.format == XE_FORMAT_JSON && !x->items)
            x->items = json_array();
        xe_view_end(x);
        if (x->minimal) {
            buf_printf(&x->out, "%s\n", x->line.data ? x->line.data : "");
            buf_clear(&x->line);
            x->line_started = false;
        }
        xe_out_flush(x);
    }
}

int xe_run_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    CLEANUP(listing_done) struct listing l = {.cls = cmd->cls};
    if (read_listing(x, &l) < 0)
        return -1;
    return x->view.watch ? watch(x, &l) : list(x, &l);
}
