/* How results are shown and waited for: --json, --csv, --columns, --sort, --where, --watch, --async, --wait.
 * A word that is a parameter of the command stays one. The filter language of --where is that of REST
 * (base/query.h): fields under their names in the API have the values of the API, fields under the names of
 * xe those that lists show. */
#include "run.h"
#include <stdio.h>

enum word { JSON, CSV, COLUMNS, SORT, WHERE, WATCH, ASYNC, WAIT };
static const struct {
    const char *name;
    enum word word;
    bool takes_value;
} words[] = {
    {"json", JSON, false},  {"csv", CSV, false},     {"columns", COLUMNS, true}, {"sort", SORT, true},
    {"where", WHERE, true}, {"watch", WATCH, false}, {"async", ASYNC, false},    {"wait", WAIT, false},
};

static int set_format(struct xe_run_state *x, enum xe_format format)
{
    if (x->view.format != XE_FORMAT_TEXT && x->view.format != format)
        return xe_fail(x, XE_ERR_USAGE, "Say --json or --csv, not both");
    x->view.format = format;
    return 0;
}

static int set_wait(struct xe_run_state *x, const char *value)
{
    char *end;
    x->view.wait = true;
    x->view.wait_seconds = -1;
    if (!value)
        return 0;
    double seconds = strtod(value, &end);
    if (*end == 's')
        end++;
    if (end == value || *end || !(seconds >= 0) || seconds > 1e9)
        return xe_fail(x, XE_ERR_USAGE, "--wait takes a number of seconds, not '%s'", value);
    x->view.wait_seconds = seconds;
    return 0;
}

static int apply(struct xe_run_state *x, enum word word, const char *value)
{
    struct xe_view *v = &x->view;
    switch (word) {
    case JSON:
        return set_format(x, XE_FORMAT_JSON);
    case CSV:
        return set_format(x, XE_FORMAT_CSV);
    case COLUMNS:
        v->columns = value;
        break;
    case SORT:
        v->sort = value;
        break;
    case WHERE:
        v->where = value;
        break;
    case WATCH:
        v->watch = true;
        break;
    case ASYNC:
        v->async = true;
        break;
    case WAIT:
        return set_wait(x, value);
    }
    return 0;
}

int xe_view_take(struct xe_run_state *x, int argc, const char *const *argv, int *i)
{
    const char *text = argv[*i] + 2;
    size_t len = strcspn(text, "=");
    const char *value = text[len] ? text + len + 1 : NULL;
    for (size_t w = 0; w < ARRAY_LEN(words); w++) {
        if (strncmp(words[w].name, text, len) != 0 || words[w].name[len])
            continue;
        if (words[w].takes_value && !value) {
            if (*i + 1 >= argc)
                return xe_fail(x, XE_ERR_USAGE, "--%s needs a value", words[w].name);
            value = argv[++*i];
        } else if (!words[w].takes_value && words[w].word != WAIT && value) {
            return xe_fail(x, XE_ERR_USAGE, "--%s takes no value", words[w].name);
        }
        return apply(x, words[w].word, value) < 0 ? -1 : 1;
    }
    return 0;
}

int xe_view_check(struct xe_run_state *x)
{
    const struct xe_view *v = &x->view;
    const struct xe_command *cmd = x->cmd;
    bool list = cmd->generated == XE_LIST;
    if (!list && (v->columns || v->sort || v->where || v->watch))
        return xe_fail(x, XE_ERR_USAGE, "--columns, --sort, --where and --watch are for lists");
    if ((v->async || v->wait_seconds > 0) && !(cmd->flags & XE_ASYNC))
        return xe_fail(x, XE_ERR_USAGE, "%s is not one task of the server, which could go on alone",
                       cmd->name);
    if (v->async && v->wait)
        return xe_fail(x, XE_ERR_USAGE, "Say --wait or --async, not both");
    if (x->minimal && v->format != XE_FORMAT_TEXT)
        return xe_fail(x, XE_ERR_USAGE, "--minimal is a format of its own");
    if (v->watch && !x->api->redraw)
        return xe_fail(x, XE_ERR_CLI, "--watch needs Corral's own xe");
    return 0;
}

/* ---- which fields ---- */

/* A field by its name here or, with underscores for dashes, in the API. */
static const struct xe_field *field(const struct xe_class *cls, const char *name)
{
    const struct xe_field *f = xe_field_find(cls, name);
    AUTO_FREE char *dashed = xstrdup(name);
    for (char *c = dashed; *c; c++)
        *c = *c == '_' ? '-' : *c;
    return f ? f : xe_field_find(cls, dashed);
}

int xe_view_columns(struct xe_run_state *x, const struct xe_class *cls)
{
    AUTO_FREE char *copy = x->view.columns ? xstrdup(x->view.columns) : NULL;
    char *rest = copy, *name;
    while ((name = strsep(&rest, ","))) {
        const struct xe_field *f = field(cls, name);
        if (!f)
            return xe_unknown_field(x, cls, name);
        x->order = xreallocarray(x->order, x->order_count + 1, sizeof *x->order);
        x->order[x->order_count++] = (uint16_t)(f - cls->fields);
    }
    return 0;
}

/* ---- order ---- */

void xe_rows_done(struct xe_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        for (size_t k = 0; rows->items[i].keys && k < rows->key_count; k++)
            free(rows->items[i].keys[k]);
        free(rows->items[i].keys);
    }
    free(rows->items);
    *rows = (struct xe_rows){0};
}

struct sorting {
    const bool *down;
    size_t count;
};

static int compare(const void *left, const void *right, void *arg)
{
    const struct xe_row *a = left, *b = right;
    const struct sorting *s = arg;
    for (size_t i = 0; i < s->count; i++) {
        int order = query_compare(a->keys[i], b->keys[i]);
        if (order)
            return s->down[i] ? -order : order;
    }
    return strcmp(a->ref, b->ref);
}

int xe_view_sort(struct xe_run_state *x, const struct xe_class *cls, struct xe_rows *rows)
{
    enum { KEYS_MAX = 8 };
    bool down[KEYS_MAX];
    AUTO_FREE char *copy = x->view.sort ? xstrdup(x->view.sort) : NULL;
    const struct xe_field *fields[KEYS_MAX];
    char *rest = copy, *name;
    size_t count = 0;
    while ((name = strsep(&rest, ","))) {
        if (count == KEYS_MAX)
            return xe_fail(x, XE_ERR_USAGE, "--sort takes at most %d fields", KEYS_MAX);
        down[count] = *name == '-';
        fields[count] = field(cls, name + down[count]);
        if (!fields[count++])
            return xe_unknown_field(x, cls, name + down[count - 1]);
    }
    if (!count)
        return 0;
    rows->key_count = count;
    for (size_t i = 0; i < rows->count; i++) {
        struct xe_row *row = &rows->items[i];
        row->keys = xcalloc(count, sizeof *row->keys);
        for (size_t k = 0; k < count; k++) {
            AUTO_VALUE struct xe_value v = {0};
            if (xe_field_value(x, cls, fields[k], row->ref, row->record, XE_VALUE_SHOWN, &v) < 0)
                return -1;
            row->keys[k] = xe_value_text(fields[k], &v);
        }
    }
    struct sorting sorting = {down, count};
    if (rows->count)
        qsort_r(rows->items, rows->count, sizeof *rows->items, compare, &sorting);
    return 0;
}

/* ---- --where ---- */

struct names {
    const struct xe_class *cls;
    const json_t *any;
};

static enum query_field known(void *arg, const char *name)
{
    const struct names *n = arg;
    const struct xe_field *f = xe_field_find(n->cls, name);
    if (!f || strchr(name, '_')) {
        const json_t *member = json_object_get(n->any, name);
        if (member)
            return json_is_object(member) ? QUERY_FIELD_MAP : QUERY_FIELD_PLAIN;
    }
    if (!f)
        f = field(n->cls, name);
    if (!f)
        return QUERY_FIELD_NONE;
    return f->shape == XE_MAP ? QUERY_FIELD_MAP : QUERY_FIELD_PLAIN;
}

int xe_view_where(struct xe_run_state *x, const struct xe_class *cls, const json_t *any, struct query **out)
{
    struct names names = {cls, any};
    struct query_error error;
    *out = x->view.where ? query_parse(x->view.where, known, &names, &error) : NULL;
    return x->view.where && !*out ? xe_fail(x, XE_ERR_USAGE, "--where: %s", error.text) : 0;
}

struct subject {
    struct xe_run_state *x;
    const struct xe_class *cls;
    const char *ref;
    const json_t *record;
    bool failed;
};

/* The class that a reference in this member of the record leads to, or NULL. */
static const char *class_behind(const struct xe_class *cls, const char *member)
{
    for (size_t i = 0; i < cls->field_count; i++) {
        const struct xe_field *f = &cls->fields[i];
        if (f->type == XE_REF && !f->hop_count && f->from && streq(f->from, member))
            return f->cls;
    }
    return NULL;
}

/* One scalar of a record as REST would compare it: references by uuid. */
static bool take_wire(struct subject *s, const char *member, const json_t *value, struct query_sink *sink)
{
    const char *text = json_string_value(value), *uuid;
    if (json_is_null(value))
        return sink->take(sink, NULL);
    if (json_is_boolean(value))
        return sink->take(sink, json_is_true(value) ? "true" : "false");
    if (!text) {
        AUTO_FREE char *number = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        return sink->take(sink, number ? number : "");
    }
    if (strncmp(text, "OpaqueRef:", 10) != 0)
        return sink->take(sink, text);
    const char *api_class = class_behind(s->cls, member);
    if (xe_ref_null(text))
        return sink->take(sink, NULL);
    if (!api_class)
        return sink->take(sink, text);
    if (xe_uuid_of(s->x, api_class, text, &uuid) < 0) {
        s->failed = true;
        return false;
    }
    return sink->take(sink, uuid);
}

static void wire_values(struct subject *s, const char *member, const char *key, struct query_sink *sink)
{
    const json_t *value = json_object_get(s->record, member), *item;
    size_t i;
    if (json_is_object(value)) {
        item = key ? json_object_get(value, key) : NULL;
        if (item)
            take_wire(s, member, item, sink);
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, item) if (!take_wire(s, member, item, sink)) return;
    } else {
        take_wire(s, member, value, sink);
    }
}

static void values(void *arg, const char *name, const char *key, struct query_sink *sink)
{
    struct subject *s = arg;
    const struct xe_field *f = xe_field_find(s->cls, name);
    AUTO_VALUE struct xe_value v = {0};
    if ((!f || strchr(name, '_')) && json_object_get(s->record, name)) {
        wire_values(s, name, key, sink);
        return;
    }
    f = f ? f : field(s->cls, name);
    if (s->failed || !f)
        return;
    if (xe_field_value(s->x, s->cls, f, s->ref, s->record, XE_VALUE_SHOWN, &v) < 0) {
        s->failed = true;
        return;
    }
    for (size_t i = 0; i < v.count; i++)
        if ((!key || (v.keys && streq(v.keys[i], key))) && !sink->take(sink, v.items[i]))
            return;
}

int xe_view_fits(struct xe_run_state *x, const struct xe_class *cls, const struct query *query,
                 const char *ref, const json_t *record, bool *fits)
{
    struct subject s = {x, cls, ref, record, false};
    *fits = query_matches(query, values, &s);
    return s.failed ? -1 : 0;
}

/* ---- JSON ---- */

static json_t *typed(const struct xe_field *f, const char *text)
{
    static const char *const unknown[] = {"<not in database>", "<expensive field>"};
    char *end;
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
        if (streq(text, unknown[i]))
            return json_null();
    if (f->type == XE_BOOL && (streq(text, "true") || streq(text, "false")))
        return json_boolean(streq(text, "true"));
    if (f->type == XE_INT && *text) {
        long long n = strtoll(text, &end, 10);
        if (!*end)
            return json_integer(n);
    }
    if (f->type == XE_FLOAT && *text) {
        double d = strtod(text, &end);
        if (!*end)
            return json_real(d);
    }
    return json_string(text);
}

json_t *xe_value_json(const struct xe_field *f, const struct xe_value *v)
{
    if (v->single || (!v->count && f->shape == XE_ONE && !(f->flags & (XE_ACCESS_SET | XE_ACCESS_MAP))))
        return v->count ? typed(f, v->items[0]) : json_null();
    json_t *all =
        v->keys || (f->shape == XE_MAP && !(f->flags & XE_ACCESS_SET)) ? json_object() : json_array();
    for (size_t i = 0; i < v->count; i++) {
        if (v->keys)
            json_object_set_new(all, v->keys[i], typed(f, v->items[i]));
        else
            json_array_append_new(all, typed(f, v->items[i]));
    }
    return all;
}

void xe_view_end(struct xe_run_state *x)
{
    size_t n = json_array_size(x->items);
    const json_t *value = x->items;
    if (x->view.format != XE_FORMAT_JSON || (!n && (!x->cmd || x->cmd->generated != XE_LIST)))
        return;
    if (n == 1 && x->cmd->generated != XE_LIST)
        value = json_array_get(x->items, 0);
    /* A list that is watched is one line a time, so that a program can read it. */
    size_t flags = JSON_ENCODE_ANY | (x->view.watch ? JSON_COMPACT : JSON_INDENT(2));
    AUTO_FREE char *text = json_dumps(value, flags);
    buf_printf(&x->out, "%s\n", text ? text : "[]");
    json_decref(x->items);
    x->items = NULL;
}
