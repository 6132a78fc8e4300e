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

int xe_print_record(struct xe_run_state *x, const struct xe_class *cls, const bool *shown, const char *ref,
                    const json_t *record, enum xe_value_mode mode)
{
    struct xe_cell *cells = xcalloc(cls->field_count + 1U, sizeof *cells);
    size_t n = 0;
    int rc = 0;
    for (size_t i = 0; i < cls->field_count && rc == 0; i++) {
        const struct xe_field *f = &cls->fields[i];
        AUTO_VALUE struct xe_value v = {0};
        if (!shown[i])
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

int xe_run_list(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const char *const own[] = {"params", NULL};
    static const char *const *const skip[] = {own, NULL};
    const struct xe_class *cls = cmd->cls;
    AUTO_FILTERS struct xe_filters filters = {0}, given = {0};
    bool all = false;
    if (xe_arg_bool(x, "all", &all) < 0 || xe_filters_parse(x, cls, skip, &given) < 0)
        return -1;
    if (!all) {
        implicit(cls, &filters);
        for (size_t i = 0; i < given.count; i++) {
            filters.items = xreallocarray(filters.items, filters.count + 1, sizeof *filters.items);
            filters.items[filters.count++] = given.items[i];
        }
    }
    AUTO_FREE bool *shown = xe_columns(cls, xe_arg(x, "params"), NULL);
    AUTO_JSON json_t *records = NULL;
    x->bulk = true;
    want_all(x, cls, shown, &filters);
    if (candidates(x, cls, all ? NULL : xe_arg(x, "uuid"), &records) < 0)
        return -1;
    const char *ref;
    json_t *record;
    json_object_foreach(records, ref, record)
    {
        bool match;
        if (xe_filters_match(x, cls, &filters, ref, record, &match) < 0)
            return -1;
        if (match && xe_print_record(x, cls, shown, ref, record, XE_VALUE_LISTED) < 0)
            return -1;
    }
    return 0;
}
