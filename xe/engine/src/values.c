/* Fields of records as text: follows references, renders by type, and joins sets and maps. The
 * rules of each format are those of the field's row in the tables. */
#include "run.h"
#include <stdio.h>

static const char NOT_IN_DATABASE[] = "<not in database>";

void xe_value_done(struct xe_value *value)
{
    for (size_t i = 0; i < value->count; i++) {
        free(value->items[i]);
        if (value->keys)
            free(value->keys[i]);
    }
    free(value->items);
    free(value->keys);
    *value = (struct xe_value){0};
}

static void add(struct xe_value *v, const char *key, char *item)
{
    v->items = xreallocarray(v->items, v->count + 1, sizeof *v->items);
    if (key) {
        v->keys = xreallocarray(v->keys, v->count + 1, sizeof *v->keys);
        v->keys[v->count] = xstrdup(key);
    }
    v->items[v->count++] = item;
}

static void set_text(struct xe_value *v, char *text)
{
    xe_value_done(v);
    add(v, NULL, text);
    v->single = true;
}

char *xe_value_text(const struct xe_field *f, const struct xe_value *v)
{
    AUTO_BUF struct buf b = BUF_INIT;
    for (size_t i = 0; i < v->count; i++) {
        if (i)
            buf_add_str(&b, f->joined);
        if (v->keys)
            buf_printf(&b, "%s: ", v->keys[i]);
        buf_add_str(&b, v->items[i]);
    }
    return b.data ? buf_take(&b) : xstrdup("");
}

const char *xe_shown(const struct xe_texts *texts, const char *wire)
{
    for (size_t i = 0; texts && i < texts->count; i++)
        if (streq(texts->rows[i].wire, wire))
            return texts->rows[i].shown;
    return wire;
}

/* One JSON value by the field's type. */
static int scalar(struct xe_run_state *x, const struct xe_field *f, const json_t *value, char **out)
{
    if (f->type == XE_REF) {
        const char *uuid;
        const char *ref = json_string_value(value);
        if (xe_uuid_of(x, f->cls, ref ? ref : "", &uuid) < 0)
            return -1;
        *out = xstrdup(uuid);
    } else if (json_is_string(value)) {
        *out = xstrdup(xe_shown(f->texts, json_string_value(value)));
    } else if (json_is_boolean(value)) {
        *out = xstrdup(json_is_true(value) ? "true" : "false");
    } else if (json_is_number(value) && f->type == XE_FLOAT) {
        double d = json_number_value(value);
        *out =
            f->flags & XE_WHOLE ? xasprintf("%.0f", d) : xasprintf("%.3f", f->flags & XE_KIB ? d / 1024 : d);
    } else if (json_is_integer(value)) {
        *out = xasprintf("%lld", (long long)json_integer_value(value));
    } else if (json_is_real(value)) {
        *out = xasprintf("%.3f", json_real_value(value));
    } else if (!value || json_is_null(value)) {
        *out = xstrdup("");
    } else {
        *out = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS);
    }
    return 0;
}

static int add_scalar(struct xe_run_state *x, const struct xe_field *f, const char *key, const json_t *value,
                      struct xe_value *out)
{
    char *text;
    if (scalar(x, f, value, &text) < 0)
        return -1;
    add(out, key, text);
    return 0;
}

/* A whole JSON value: sets and maps member by member. */
static int add_value(struct xe_run_state *x, const struct xe_field *f, const json_t *value,
                     struct xe_value *out)
{
    if (json_is_array(value)) {
        size_t i;
        const json_t *item;
        json_array_foreach(value, i, item) if (add_scalar(x, f, NULL, item, out) < 0) return -1;
        return 0;
    }
    if (json_is_object(value) && f->shape == XE_MAP) {
        const char *key;
        json_t *item;
        json_object_foreach((json_t *)value, key,
                            item) if (add_scalar(x, f, f->flags & XE_ACCESS_SET ? NULL : key, item, out) <
                                      0) return -1;
        return 0;
    }
    out->single = true;
    return add_scalar(x, f, NULL, value, out);
}

/* Follows hops[step..] from `record` and adds what `from` holds at each end. */
static int follow(struct xe_run_state *x, const struct xe_field *f, size_t step, const json_t *record,
                  struct xe_value *out)
{
    if (step == f->hop_count)
        return add_value(x, f, json_object_get(record, f->from), out);
    const struct xe_hop *hop = &f->hops[step];
    const json_t *link = json_object_get(record, hop->field), *next;
    if (!json_is_array(link)) {
        const char *ref = json_string_value(link);
        if (xe_record(x, hop->cls, ref ? ref : "", &next) < 0)
            return -1;
        if (next)
            return follow(x, f, step + 1, next, out);
        set_text(out, xstrdup(NOT_IN_DATABASE));
        return 0;
    }
    size_t i;
    const json_t *item;
    json_array_foreach(link, i, item)
    {
        if (xe_record(x, hop->cls, json_string_value(item), &next) < 0)
            return -1;
        if (next && follow(x, f, step + 1, next, out) < 0)
            return -1;
    }
    out->single = false;
    return 0;
}

/* "vbd_{device}_read" with members of the record in place of the braces (the caller's). */
static char *source_name(const char *pattern, const json_t *record)
{
    AUTO_BUF struct buf b = BUF_INIT;
    for (const char *s = pattern; *s; s++) {
        const char *end = *s == '{' ? strchr(s, '}') : NULL;
        if (!end) {
            buf_add_char(&b, *s);
            continue;
        }
        AUTO_FREE char *member = xstrndup(s + 1, (size_t)(end - s - 1));
        const json_t *value = json_object_get(record, member);
        if (json_is_integer(value))
            buf_add_int(&b, json_integer_value(value));
        else
            buf_add_str(&b, json_string_value(value) ? json_string_value(value) : "");
        s = end;
    }
    return buf_take(&b);
}

static int from_source(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field *f,
                       const char *ref, const json_t *record, struct xe_value *out)
{
    AUTO_FREE char *name = source_name(f->source, record);
    AUTO_FREE char *method = xasprintf("%s.query_data_source", f->on ? f->on_cls : cls->api);
    AUTO_JSON json_t *answer = NULL;
    if (xe_call(x, method, &answer, "[ss]", f->on ? xe_str(record, f->on) : ref, name) < 0)
        return -1;
    return add_value(x, f, answer, out);
}

static int from_call(struct xe_run_state *x, const struct xe_field *f, const char *ref, struct xe_value *out)
{
    AUTO_JSON json_t *answer = NULL;
    if (xe_call(x, f->call, &answer, f->call_self ? "[s]" : "[]", ref) < 0)
        return -1;
    return add_value(x, f, answer, out);
}

/* ---- the fields that no row can describe ---- */

/* The name of the one host that reaches an SR, "<shared>" when there are several. */
static int sr_host(struct xe_run_state *x, const json_t *record, struct xe_value *out)
{
    const json_t *pbds = json_object_get(record, "PBDs"), *pbd, *host;
    if (json_array_size(pbds) > 1) {
        set_text(out, xstrdup("<shared>"));
        return 0;
    }
    const char *ref = json_string_value(json_array_get(pbds, 0));
    if (xe_record(x, "PBD", ref ? ref : "", &pbd) < 0 || xe_record(x, "host", xe_str(pbd, "host"), &host) < 0)
        return -1;
    set_text(out, xstrdup(host ? xe_str(host, "name_label") : NOT_IN_DATABASE));
    return 0;
}

static int vdi_name(struct xe_run_state *x, const struct xe_field *f, const json_t *record,
                    struct xe_value *out)
{
    if (!xe_true(record, "empty"))
        return follow(x, f, 0, record, out);
    set_text(out, xstrdup("<EMPTY>"));
    return 0;
}

static int duplex(struct xe_run_state *x, const json_t *record, struct xe_value *out)
{
    const json_t *metrics;
    if (xe_record(x, "PIF_metrics", xe_str(record, "metrics"), &metrics) < 0)
        return -1;
    const char *text = !metrics                       ? NOT_IN_DATABASE
                       : !xe_true(metrics, "carrier") ? "unknown"
                       : xe_true(metrics, "duplex")   ? "full"
                                                      : "half";
    set_text(out, xstrdup(text));
    return 0;
}

static int vcpu_use(struct xe_run_state *x, const char *ref, const json_t *record, struct xe_value *out)
{
    const json_t *metrics;
    if (xe_record(x, "VM_metrics", xe_str(record, "metrics"), &metrics) < 0)
        return -1;
    json_int_t n = json_integer_value(json_object_get(metrics, "VCPUs_number"));
    for (json_int_t i = 0; i < n && i < 256; i++) {
        AUTO_FREE char *source = xasprintf("cpu%d", (int)i), *key = xasprintf("%d", (int)i);
        AUTO_JSON json_t *answer = NULL;
        if (xe_call(x, "VM.query_data_source", &answer, "[ss]", ref, source) < 0)
            return -1;
        add(out, key, xasprintf("%.3f", json_number_value(answer)));
    }
    return 0;
}

static int attachable(struct xe_run_state *x, const char *ref, struct xe_value *out)
{
    if (xe_call(x, "VBD.assert_attachable", NULL, "[s]", ref) == 0) {
        set_text(out, xstrdup("true"));
        return 0;
    }
    if (x->err.kind != XE_ERR_API || xe_err_is(&x->err, "NOT_IMPLEMENTED"))
        return -1;
    AUTO_FREE char *why = xe_err_line(&x->err);
    xe_err_done(&x->err);
    set_text(out, xasprintf("false. error: %s", why));
    return 0;
}

/* Whether the driver's active or selected variant is this one. */
static int variant_active(struct xe_run_state *x, const struct xe_field *f, const char *ref,
                          const json_t *record, struct xe_value *out)
{
    const json_t *driver;
    if (xe_record(x, f->hops[0].cls, xe_str(record, f->hops[0].field), &driver) < 0)
        return -1;
    set_text(out, xstrdup(driver && streq(xe_str(driver, f->from), ref) ? "true" : "false"));
    return 0;
}

static int special(struct xe_run_state *x, const struct xe_field *f, const char *ref, const json_t *record,
                   struct xe_value *out)
{
    switch ((enum xe_special)f->special) {
    case XE_SR_HOST:
        return sr_host(x, record, out);
    case XE_VDI_NAME:
        return vdi_name(x, f, record, out);
    case XE_RESOLUTION:
        set_text(out, xasprintf("%lldx%lld",
                                (long long)json_integer_value(json_object_get(record, "max_resolution_x")),
                                (long long)json_integer_value(json_object_get(record, "max_resolution_y"))));
        return 0;
    case XE_DUPLEX:
        return duplex(x, record, out);
    case XE_VCPU_USE:
        return vcpu_use(x, ref, record, out);
    case XE_ATTACHABLE:
        return attachable(x, ref, out);
    case XE_VARIANT_ACTIVE:
        return variant_active(x, f, ref, record, out);
    case XE_WITHHELD:
        set_text(out, xstrdup(""));
        return 0;
    case XE_PLAIN:
        break;
    }
    return follow(x, f, 0, record, out);
}

static int compute(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field *f,
                   const char *ref, const json_t *record, struct xe_value *out)
{
    if (f->source)
        return from_source(x, cls, f, ref, record, out);
    if (f->call)
        return from_call(x, f, ref, out);
    return special(x, f, ref, record, out);
}

int xe_field_value(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field *f,
                   const char *ref, const json_t *record, enum xe_value_mode mode, struct xe_value *out)
{
    struct xe_value v = {0};
    if (mode == XE_VALUE_LISTED && (f->flags & XE_EXPENSIVE)) {
        set_text(out, xstrdup("<expensive field>"));
        return 0;
    }
    if (compute(x, cls, f, ref, record, &v) < 0) {
        xe_value_done(&v);
        if (mode == XE_VALUE_ASKED || x->err.kind != XE_ERR_API)
            return -1;
        /* One field that the server cannot tell does not hide the others. */
        set_text(&v, xe_err_is(&x->err, "HANDLE_INVALID") ? xstrdup("<invalid reference>")
                                                          : xasprintf("<%s>", x->err.code));
        xe_err_done(&x->err);
    }
    *out = v;
    return 0;
}

static void want(struct xe_run_state *x, const char *api_class, const char *member)
{
    json_t *members = json_object_get(x->wanted, api_class);
    if (!members) {
        members = json_object();
        json_object_set_new(x->wanted, api_class, members);
    }
    json_object_set_new(members, member, json_true());
}

/* "{device}" in a source's name reads that member. */
static void want_source(struct xe_run_state *x, const char *api_class, const char *pattern)
{
    const char *open = strchr(pattern, '{'), *end = open ? strchr(open, '}') : NULL;
    if (!end)
        return;
    AUTO_FREE char *member = xstrndup(open + 1, (size_t)(end - open - 1));
    want(x, api_class, member);
}

void xe_field_want(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field *f)
{
    const char *api_class = cls->api;
    if (!x->wanted)
        x->wanted = json_object();
    for (size_t i = 0; i < f->hop_count; i++) {
        want(x, api_class, f->hops[i].field);
        api_class = f->hops[i].cls;
    }
    if (f->from)
        want(x, api_class, f->from);
    if (f->on)
        want(x, api_class, f->on);
    if (f->source)
        want_source(x, api_class, f->source);
    if (f->type == XE_REF && f->cls)
        want(x, f->cls, "uuid");
    switch ((enum xe_special)f->special) {
    case XE_SR_HOST:
        want(x, "PBD", "host");
        want(x, "host", "name_label");
        break;
    case XE_VDI_NAME:
        want(x, cls->api, "empty");
        break;
    case XE_RESOLUTION:
        want(x, cls->api, "max_resolution_y");
        break;
    case XE_DUPLEX:
        want(x, "PIF_metrics", "carrier");
        break;
    case XE_VCPU_USE:
    case XE_ATTACHABLE:
    case XE_VARIANT_ACTIVE:
    case XE_WITHHELD:
    case XE_PLAIN:
        break;
    }
}
