/* Calls to the server, and a cache of records by class and reference for the life of one run. In
 * bulk mode (lists) a class is fetched whole at its first use, so the number of calls depends on
 * the classes involved, not on the number of objects. */
#include "run.h"
#include <stdarg.h>

/* So many single look-ups of a class, then the whole class is fetched at once. */
enum { SINGLES = 12 };

int xe_call_params(struct xe_run_state *x, const char *method, json_t *params, json_t **result)
{
    json_t *answer = NULL;
    int rc = x->api->call(x->api->ctx, method, params, NULL, &answer, &x->err);
    json_decref(params);
    if (rc < 0)
        return -1;
    if (result)
        *result = answer;
    else
        json_decref(answer);
    return 0;
}

static json_t *pack(const char *format, va_list args)
{
    json_error_t error;
    json_t *params = json_vpack_ex(&error, 0, format, args);
    return params ? params : json_array();
}

int xe_call(struct xe_run_state *x, const char *method, json_t **result, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    json_t *params = pack(format, args);
    va_end(args);
    return xe_call_params(x, method, params, result);
}

int xe_call_string(struct xe_run_state *x, const char *method, char **result, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    json_t *params = pack(format, args);
    va_end(args);
    AUTO_JSON json_t *answer = NULL;
    if (xe_call_params(x, method, params, &answer) < 0)
        return -1;
    if (!json_is_string(answer))
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered %s with something else than text.", method);
    *result = xstrdup(json_string_value(answer));
    return 0;
}

bool xe_ref_null(const char *ref)
{
    return !*ref || streq(ref, "OpaqueRef:NULL");
}

/* objects[class] = {"records": {...}, "whole": bool, "singles": n, "missing": {...}, "earlier": [...]} */
static json_t *class_cache(struct xe_run_state *x, const char *api_class)
{
    if (!x->objects)
        x->objects = json_object();
    json_t *c = json_object_get(x->objects, api_class);
    if (!c) {
        c = json_pack("{s:{},s:b,s:i,s:{},s:[]}", "records", "whole", 0, "singles", 0, "missing", "earlier");
        json_object_set_new(x->objects, api_class, c);
    }
    return c;
}

void xe_record_forget(struct xe_run_state *x, const char *api_class)
{
    if (x->objects)
        json_object_del(x->objects, api_class);
}

/* The members wanted of a class as a NULL-ended list (the caller frees the list), or NULL for all. */
static const char **keep_list(const struct xe_run_state *x, const char *api_class)
{
    json_t *members = x->wanted ? json_object_get(x->wanted, api_class) : NULL;
    if (!members)
        return NULL;
    const char **keep = xcalloc(json_object_size(members) + 1, sizeof *keep);
    size_t n = 0;
    const char *name;
    json_t *ignored;
    json_object_foreach(members, name, ignored) keep[n++] = name;
    return keep;
}

int xe_records(struct xe_run_state *x, const char *api_class, const json_t **records)
{
    json_t *c = class_cache(x, api_class);
    if (!json_is_true(json_object_get(c, "whole"))) {
        AUTO_FREE char *method = xasprintf("%s.get_all_records", api_class);
        AUTO_FREE const char **keep = keep_list(x, api_class);
        AUTO_JSON json_t *params = json_array();
        json_t *answer = NULL;
        if (x->api->call(x->api->ctx, method, params, keep, &answer, &x->err) < 0)
            return -1;
        if (!json_is_object(answer)) {
            json_decref(answer);
            return xe_fail(x, XE_ERR_TRANSPORT, "The server answered %s with something else than records.",
                           method);
        }
        /* Records that were handed out before stay valid. */
        json_array_append(json_object_get(c, "earlier"), json_object_get(c, "records"));
        json_object_set_new(c, "records", answer);
        json_object_set_new(c, "whole", json_true());
    }
    *records = json_object_get(c, "records");
    return 0;
}

static int fetch_one(struct xe_run_state *x, json_t *c, const char *api_class, const char *ref,
                     const json_t **record)
{
    AUTO_FREE char *method = xasprintf("%s.get_record", api_class);
    json_t *answer = NULL;
    if (xe_call(x, method, &answer, "[s]", ref) < 0) {
        if (!xe_err_is(&x->err, "HANDLE_INVALID"))
            return -1;
        xe_err_done(&x->err);
        json_object_set_new(json_object_get(c, "missing"), ref, json_true());
        return 0;
    }
    json_object_set_new(json_object_get(c, "records"), ref, answer);
    *record = answer;
    return 0;
}

int xe_record(struct xe_run_state *x, const char *api_class, const char *ref, const json_t **record)
{
    *record = NULL;
    if (xe_ref_null(ref))
        return 0;
    json_t *c = class_cache(x, api_class);
    *record = json_object_get(json_object_get(c, "records"), ref);
    if (*record || json_is_true(json_object_get(c, "whole")) ||
        json_object_get(json_object_get(c, "missing"), ref))
        return 0;
    json_int_t singles = json_integer_value(json_object_get(c, "singles"));
    if (!x->bulk && singles < SINGLES) {
        json_object_set_new(c, "singles", json_integer(singles + 1));
        return fetch_one(x, c, api_class, ref, record);
    }
    const json_t *all;
    if (xe_records(x, api_class, &all) < 0)
        return -1;
    *record = json_object_get(all, ref);
    return 0;
}

int xe_uuid_of(struct xe_run_state *x, const char *api_class, const char *ref, const char **uuid)
{
    const json_t *record;
    if (xe_record(x, api_class, ref, &record) < 0)
        return -1;
    *uuid = record ? xe_str(record, "uuid") : "<not in database>";
    return 0;
}

int xe_pool(struct xe_run_state *x, const char **ref, const json_t **record)
{
    const json_t *all;
    if (xe_records(x, "pool", &all) < 0)
        return -1;
    void *it = json_object_iter((json_t *)all);
    if (!it)
        return xe_fail(x, XE_ERR_TRANSPORT, "The server has no pool record.");
    *ref = json_object_iter_key(it);
    if (record)
        *record = json_object_iter_value(it);
    return 0;
}

int xe_coordinator(struct xe_run_state *x, const char **ref)
{
    const char *pool;
    const json_t *record = NULL;
    if (xe_pool(x, &pool, &record) < 0)
        return -1;
    *ref = xe_str(record, "master");
    if (xe_ref_null(*ref))
        return xe_fail(x, XE_ERR_CLI, "The pool has no host yet; say host-uuid=");
    return 0;
}
