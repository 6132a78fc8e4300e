/* Which objects are meant: filters on fields of a class, and the selectors of VM, host and SR
 * commands (vm=, host=, sr= by uuid or name, or filters). */
#include "run.h"
#include <base/ref.h>
#include <strings.h>

void xe_filters_done(struct xe_filters *filters)
{
    free(filters->items);
    *filters = (struct xe_filters){0};
}

void xe_refs_done(struct xe_refs *refs)
{
    for (size_t i = 0; i < refs->count; i++)
        free(refs->items[i]);
    free(refs->items);
    *refs = (struct xe_refs){0};
}

static void refs_add(struct xe_refs *refs, const char *ref)
{
    refs->items = xreallocarray(refs->items, refs->count + 1, sizeof *refs->items);
    refs->items[refs->count++] = xstrdup(ref);
}

static void add_filter(struct xe_filters *f, struct xe_filter item)
{
    f->items = xreallocarray(f->items, f->count + 1, sizeof *f->items);
    f->items[f->count++] = item;
}

/* "field", "field:key", "field:contains". */
static int parse_one(struct xe_run_state *x, const struct xe_class *cls, const struct xe_param *p,
                     struct xe_filter *out)
{
    *out = (struct xe_filter){.field = xe_field_find(cls, p->name), .value = p->value};
    if (!out->field) {
        const char *colon = strchr(p->name, ':');
        AUTO_FREE char *base = colon ? xstrndup(p->name, (size_t)(colon - p->name)) : NULL;
        out->field = base ? xe_field_find(cls, base) : NULL;
        if (!out->field)
            return xe_unknown_field(x, cls, p->name);
        out->contains = out->field->flags & XE_ACCESS_SET && streq(colon + 1, "contains");
        out->key = colon + 1;
        if (!out->contains && (out->field->shape != XE_MAP || !colon[1]))
            return xe_unknown_field(x, cls, p->name);
    }
    if (strncmp(p->value, "/=", 2) == 0 && streq(x->cmd->name, "event-wait")) {
        out->differs = true;
        out->value += 2;
    }
    return 0;
}

static bool skipped(const char *const *const *skip, const char *name)
{
    for (; *skip; skip++)
        for (const char *const *s = *skip; *s; s++) {
            size_t n = strlen(*s);
            bool map = n && (*s)[n - 1] == ':';
            if (streq(*s, name) || (map && strncmp(*s, name, n) == 0))
                return true;
        }
    return false;
}

int xe_filters_parse(struct xe_run_state *x, const struct xe_class *cls, const char *const *const *skip,
                     struct xe_filters *out)
{
    for (size_t i = 0; i < x->param_count; i++) {
        struct xe_filter f;
        if (xe_param_standard(x->params[i].name) || skipped(skip, x->params[i].name))
            continue;
        if (parse_one(x, cls, &x->params[i], &f) < 0)
            return -1;
        add_filter(out, f);
    }
    return 0;
}

void xe_filters_want(struct xe_run_state *x, const struct xe_class *cls, const struct xe_filters *filters)
{
    for (size_t i = 0; i < filters->count; i++)
        xe_field_want(x, cls, filters->items[i].field);
}

static bool equal(const struct xe_field *f, const char *a, const char *b)
{
    return f->flags & XE_ANY_CASE ? strcasecmp(a, b) == 0 : streq(a, b);
}

static bool value_matches(const struct xe_filter *f, const struct xe_value *v)
{
    if (f->contains) {
        for (size_t i = 0; i < v->count; i++)
            if (equal(f->field, v->items[i], f->value))
                return true;
        return false;
    }
    if (f->key) {
        for (size_t i = 0; v->keys && i < v->count; i++)
            if (streq(v->keys[i], f->key))
                return equal(f->field, v->items[i], f->value);
        return false;
    }
    AUTO_FREE char *text = xe_value_text(f->field, v);
    return equal(f->field, text, f->value);
}

int xe_filters_match(struct xe_run_state *x, const struct xe_class *cls, const struct xe_filters *filters,
                     const char *ref, const json_t *record, bool *match)
{
    for (size_t i = 0; i < filters->count; i++) {
        const struct xe_filter *f = &filters->items[i];
        AUTO_VALUE struct xe_value v = {0};
        if (xe_field_value(x, cls, f->field, ref, record, XE_VALUE_SHOWN, &v) < 0)
            return -1;
        if (value_matches(f, &v) == f->differs) {
            *match = false;
            return 0;
        }
    }
    *match = true;
    return 0;
}

/* ---- selectors ---- */

/* Objects that a selector may pick at all: no templates and control domains unless the command
 * works on them. */
static bool eligible(const struct xe_command *cmd, const json_t *record)
{
    if (!streq(cmd->selector->name, "vm"))
        return true;
    if (xe_true(record, "is_control_domain"))
        return false;
    return (cmd->flags & XE_TEMPLATES) || !xe_true(record, "is_a_template");
}

/* The one object whose uuid begins so, if there is one. */
static int prefixed(struct xe_run_state *x, const struct xe_command *cmd, const char *name,
                    struct xe_refs *out)
{
    AUTO_FREE char *ref = NULL;
    if (xe_ref_by_prefix(x, cmd->selector->api, name, &ref) < 0)
        return -1;
    if (ref)
        refs_add(out, ref);
    return 0;
}

/* By uuid, else by name-label (and a host's hostname), without fetching the whole class. */
static int named(struct xe_run_state *x, const struct xe_command *cmd, const char *name, struct xe_refs *out)
{
    const char *api = cmd->selector->api;
    struct ref parsed;
    if (uuid_parse(name, &parsed)) {
        AUTO_FREE char *ref = NULL;
        if (xe_ref_by_uuid(x, api, name, &ref) == 0) {
            refs_add(out, ref);
            return 0;
        }
        if (!xe_err_is(&x->err, "UUID_INVALID"))
            return -1;
        xe_err_done(&x->err);
    }
    AUTO_FREE char *method = xasprintf("%s.get_by_name_label", api);
    AUTO_JSON json_t *refs = NULL;
    if (xe_call(x, method, &refs, "[s]", name) < 0)
        return -1;
    size_t i;
    json_t *ref;
    json_array_foreach(refs, i, ref) refs_add(out, json_string_value(ref));
    if (out->count)
        return 0;
    if (!streq(cmd->selector->name, "host"))
        return prefixed(x, cmd, name, out);
    const json_t *hosts;
    const char *key;
    json_t *record;
    if (xe_records(x, api, &hosts) < 0)
        return -1;
    json_object_foreach((json_t *)hosts, key, record) if (streq(xe_str(record, "hostname"), name))
        refs_add(out, key);
    return out->count ? 0 : prefixed(x, cmd, name, out);
}

static int everything(struct xe_run_state *x, const char *api, struct xe_refs *out)
{
    const json_t *all;
    const char *ref;
    json_t *ignored;
    if (xe_records(x, api, &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, ref, ignored) refs_add(out, ref);
    return 0;
}

/* Drops from `candidates` what does not fit. */
static int narrow(struct xe_run_state *x, const struct xe_command *cmd, const struct xe_filters *filters,
                  struct xe_refs *candidates)
{
    size_t kept = 0;
    for (size_t i = 0; i < candidates->count; i++) {
        const json_t *record;
        bool match = false;
        if (xe_record(x, cmd->selector->api, candidates->items[i], &record) < 0)
            return -1;
        if (record && eligible(cmd, record) &&
            xe_filters_match(x, cmd->selector, filters, candidates->items[i], record, &match) < 0)
            return -1;
        if (match) {
            char *ref = candidates->items[i];
            candidates->items[i] = candidates->items[kept];
            candidates->items[kept++] = ref;
        }
    }
    for (size_t i = kept; i < candidates->count; i++)
        free(candidates->items[i]);
    candidates->count = kept;
    return 0;
}

int xe_select(struct xe_run_state *x, const struct xe_command *cmd, struct xe_refs *out)
{
    const struct xe_class *cls = cmd->selector;
    const char *own[] = {cls->name, NULL};
    const char *const *const skip[] = {cmd->required, cmd->optional, own, NULL};
    AUTO_FILTERS struct xe_filters filters = {0};
    AUTO_REFS struct xe_refs refs = {0};
    if (xe_filters_parse(x, cls, skip, &filters) < 0)
        return -1;
    const char *name = xe_arg(x, cls->name), *uuid = xe_arg(x, "uuid");
    struct ref parsed;
    if (!name && uuid && uuid_parse(uuid, &parsed))
        name = uuid;
    int rc = name ? named(x, cmd, name, &refs) : everything(x, cls->api, &refs);
    if (rc < 0 || narrow(x, cmd, &filters, &refs) < 0)
        return -1;
    const char *plural = streq(cls->name, "vm") ? "VMs" : streq(cls->name, "host") ? "hosts" : "SRs";
    bool multiple = false;
    if (refs.count == 0)
        return xe_fail(x, XE_ERR_CLI, "No matching %s found", plural);
    if (xe_arg_bool(x, "multiple", &multiple) < 0)
        return -1;
    if (refs.count > 1 && !multiple)
        return xe_fail(x, XE_ERR_CLI,
                       "Multiple matches found. --multiple required to complete the operation");
    *out = refs;
    refs = (struct xe_refs){0};
    return 0;
}

int xe_for_selected(struct xe_run_state *x, const struct xe_command *cmd, xe_one_fn *one)
{
    AUTO_REFS struct xe_refs refs = {0};
    if (xe_select(x, cmd, &refs) < 0)
        return -1;
    if (refs.count == 1)
        return one(x, cmd, refs.items[0]) < 0 && !xe_detached(x) ? -1 : 0;
    size_t failed = 0;
    for (size_t i = 0; i < refs.count; i++) {
        if (one(x, cmd, refs.items[i]) == 0 || xe_detached(x))
            continue;
        if (x->err.kind == XE_ERR_CANCELLED || x->err.kind == XE_ERR_TRANSPORT)
            return -1;
        AUTO_FREE char *line = xe_err_line(&x->err);
        const char *uuid = refs.items[i];
        const json_t *record;
        xe_err_done(&x->err);
        if (xe_record(x, cmd->selector->api, refs.items[i], &record) == 0 && record)
            uuid = xe_str(record, "uuid");
        buf_printf(&x->out, "operation failed on %s: %s\n", uuid, line);
        failed++;
    }
    if (failed)
        return xe_fail(x, XE_ERR_CLI, "the operation failed on %zu of %zu objects", failed, refs.count);
    return 0;
}
