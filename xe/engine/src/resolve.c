/* Which object a text means where a uuid is asked for: the uuid, a name, or the beginning of a uuid that only
 * one object has. What fits nothing goes to the server, which says so in its own words. */
#include "run.h"
#include <base/ref.h>
#include <strings.h>

enum { PREFIX_MIN = 4, SHOWN_MAX = 10 };

/* Hexadecimal digits and dashes where a uuid has them. */
static bool prefix_like(const char *text)
{
    size_t n = strlen(text);
    if (n < PREFIX_MIN || n >= 36)
        return false;
    for (size_t i = 0; i < n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !strchr("0123456789abcdefABCDEF", text[i]))
            return false;
    }
    return true;
}

static bool has_names(const char *api_class)
{
    for (const char *const *c = xe_named_api_classes; *c; c++)
        if (streq(*c, api_class))
            return true;
    return false;
}

/* Several fit: which they are. */
static int ambiguous(struct xe_run_state *x, const char *api_class, const char *text, const json_t *refs)
{
    AUTO_BUF struct buf b = BUF_INIT;
    size_t i, n = json_array_size(refs);
    const json_t *ref;
    buf_printf(&b, "'%s' means %zu objects; say more of the uuid:", text, n);
    json_array_foreach(refs, i, ref)
    {
        const json_t *record;
        if (i == SHOWN_MAX) {
            buf_printf(&b, "\n    and %zu more", n - i);
            break;
        }
        if (xe_record(x, api_class, json_string_value(ref), &record) < 0)
            return -1;
        if (record)
            buf_printf(&b, "\n    %s%s%s", xe_str(record, "uuid"), *xe_str(record, "name_label") ? "  " : "",
                       xe_str(record, "name_label"));
    }
    return xe_fail(x, XE_ERR_CLI, "%s", b.data);
}

static int only_one(struct xe_run_state *x, const char *api_class, const char *text, const json_t *refs,
                    char **ref)
{
    if (json_array_size(refs) > 1)
        return ambiguous(x, api_class, text, refs);
    const char *found = json_string_value(json_array_get(refs, 0));
    *ref = found ? xstrdup(found) : NULL;
    return 0;
}

int xe_ref_by_prefix(struct xe_run_state *x, const char *api_class, const char *prefix, char **ref)
{
    const json_t *all;
    const char *key;
    json_t *record;
    AUTO_JSON json_t *refs = json_array();
    *ref = NULL;
    if (!prefix_like(prefix))
        return 0;
    if (xe_records(x, api_class, &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, key,
                        record) if (strncasecmp(xe_str(record, "uuid"), prefix, strlen(prefix)) == 0)
        json_array_append_new(refs, json_string(key));
    return only_one(x, api_class, prefix, refs, ref);
}

static int by_name(struct xe_run_state *x, const char *api_class, const char *name, char **ref)
{
    AUTO_FREE char *method = xasprintf("%s.get_by_name_label", api_class);
    AUTO_JSON json_t *refs = NULL;
    *ref = NULL;
    if (!*name || !has_names(api_class))
        return 0;
    if (xe_call(x, method, &refs, "[s]", name) < 0) {
        /* A class without that message: then there are no names. */
        if (x->err.kind != XE_ERR_API)
            return -1;
        xe_err_done(&x->err);
        return 0;
    }
    return only_one(x, api_class, name, refs, ref);
}

int xe_ref_by_uuid(struct xe_run_state *x, const char *api_class, const char *uuid, char **ref)
{
    AUTO_FREE char *method = xasprintf("%s.get_by_uuid", api_class), *found = NULL;
    struct ref parsed;
    if (!uuid_parse(uuid, &parsed)) {
        if (by_name(x, api_class, uuid, &found) < 0 ||
            (!found && xe_ref_by_prefix(x, api_class, uuid, &found) < 0))
            return -1;
        if (found) {
            *ref = TAKE_PTR(found);
            return 0;
        }
    }
    return xe_call_string(x, method, ref, "[s]", uuid);
}
