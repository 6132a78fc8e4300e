/* <class>-param-list, -get, -set, -add, -remove, -clear: one object found by uuid=, its fields shown
 * and changed. Everything is checked and converted before the first change is made. */
#include "run.h"

struct object {
    char *ref;
    const json_t *record;
};

static int find(struct xe_run_state *x, const struct xe_class *cls, struct object *o)
{
    const char *uuid;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_ref_by_uuid(x, cls->api, uuid, &o->ref) < 0)
        return -1;
    if (xe_record(x, cls->api, o->ref, &o->record) < 0)
        return -1;
    if (!o->record) {
        AUTO_JSON json_t *params = json_pack("[ss]", cls->api, o->ref);
        xe_err_set_api(&x->err, "HANDLE_INVALID", params);
        return -1;
    }
    return 0;
}

static int field_arg(struct xe_run_state *x, const struct xe_class *cls, const struct xe_field **f)
{
    const char *name;
    if (xe_arg_required(x, "param-name", &name) < 0)
        return -1;
    *f = xe_field_find(cls, name);
    return *f ? 0 : xe_unknown_field(x, cls, name);
}

static int read_only(struct xe_run_state *x, const struct xe_field *f)
{
    return xe_fail(x, XE_ERR_CLI, "Field '%s' is read-only.", f->name);
}

static int param_list(struct xe_run_state *x, const struct xe_class *cls, const struct object *o)
{
    AUTO_FREE bool *shown = xe_columns(cls, "all", NULL);
    return xe_print_record(x, cls, shown, o->ref, o->record, XE_VALUE_SHOWN);
}

static int param_get(struct xe_run_state *x, const struct xe_class *cls, const struct object *o)
{
    const struct xe_field *f;
    AUTO_VALUE struct xe_value v = {0};
    if (field_arg(x, cls, &f) < 0 || xe_field_value(x, cls, f, o->ref, o->record, XE_VALUE_ASKED, &v) < 0)
        return -1;
    const char *key = xe_arg(x, "param-key");
    if (!key && x->view.format == XE_FORMAT_JSON) {
        xe_out_json(x, xe_value_json(f, &v));
        return 0;
    }
    if (!key) {
        AUTO_FREE char *text = xe_value_text(f, &v);
        xe_out_item(x, text);
        return 0;
    }
    if (!(f->flags & XE_ACCESS_MAP) && f->shape != XE_MAP)
        return xe_fail(x, XE_ERR_CLI, "Field '%s' is not a map, so it has no keys.", f->name);
    for (size_t i = 0; v.keys && i < v.count; i++) {
        if (streq(v.keys[i], key)) {
            xe_out_item(x, v.items[i]);
            return 0;
        }
    }
    return xe_fail(x, XE_ERR_CLI, "Key %s not found in map", key);
}

/* ---- changes ---- */

/* A list of calls to make in order: [[method, params], ...]. */
static void plan(json_t *calls, const char *method, json_t *params)
{
    json_array_append_new(calls, json_pack("[so]", method, params));
}

static int execute(struct xe_run_state *x, json_t *calls)
{
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        json_t *answer = NULL;
        const char *method = json_string_value(json_array_get(call, 0));
        if (x->api->call(x->api->ctx, method, json_array_get(call, 1), NULL, &answer, &x->err) < 0)
            return -1;
        json_decref(answer);
    }
    return 0;
}

/* Replaces one key of a map: by its own message, by remove and add, or in a copy of the whole. */
static int plan_key(struct xe_run_state *x, const struct xe_field *f, const struct object *o, const char *key,
                    const char *text, json_t *whole, json_t *calls)
{
    AUTO_JSON json_t *value = xe_input(x, f->name, f->type, f->cls, f->texts, text);
    if (!value)
        return -1;
    if (f->put) {
        plan(calls, f->put, json_pack("[ssO]", o->ref, key, value));
    } else if (f->add) {
        if (json_object_get(json_object_get(o->record, f->from), key))
            plan(calls, f->remove, json_pack("[ss]", o->ref, key));
        plan(calls, f->add, json_pack("[ssO]", o->ref, key, value));
    } else if (f->whole) {
        json_t *map = json_object_get(whole, f->name);
        if (!map) {
            json_t *now = json_object_get(o->record, f->from);
            map = json_is_object(now) ? json_copy(now) : json_object();
            json_object_set_new(whole, f->name, map);
        }
        json_object_set(map, key, value);
    } else {
        return read_only(x, f);
    }
    return 0;
}

/* "a,b,c" as a set of the field's type. */
static json_t *set_input(struct xe_run_state *x, const struct xe_field *f, const char *text)
{
    AUTO_FREE char *copy = xstrdup(text);
    AUTO_JSON json_t *set = json_array();
    char *rest = copy, *item;
    while (*text && (item = strsep(&rest, ",")))
        if (json_array_append_new(set, xe_input(x, f->name, f->type, f->cls, f->texts, item)) < 0)
            return NULL;
    return TAKE_PTR(set);
}

static int plan_whole(struct xe_run_state *x, const struct xe_field *f, const struct object *o,
                      const char *text, json_t *calls)
{
    if (f->shape == XE_MAP)
        return xe_fail(x, XE_ERR_CLI, "Field '%s' is a map: say %s:key=value.", f->name, f->name);
    if (f->shape == XE_SET && !f->set) {
        if (!f->add && !f->whole)
            return read_only(x, f);
        return xe_fail(x, XE_ERR_CLI, "Field '%s' is a set: use param-add and param-remove.", f->name);
    }
    if (!f->set)
        return read_only(x, f);
    json_t *value = f->shape == XE_SET
                        ? set_input(x, f, text)
                        : xe_input(x, f->name, f->set_type ? f->set_type : f->type, f->cls, f->texts, text);
    if (!value)
        return -1;
    plan(calls, f->set, json_pack("[so]", o->ref, value));
    return 0;
}

/* Adds the setters of maps that are set whole. */
static void plan_maps(const struct xe_class *cls, const struct object *o, json_t *whole, json_t *calls)
{
    const char *name;
    json_t *map;
    json_object_foreach(whole, name, map)
        plan(calls, xe_field_find(cls, name)->whole, json_pack("[sO]", o->ref, map));
}

/* "name:key", or the old "name-key" when no field has that name. */
static const struct xe_field *map_field(const struct xe_class *cls, const struct xe_param *p,
                                        const char **key)
{
    for (size_t i = 0; i < cls->field_count; i++)
        if (cls->fields[i].shape == XE_MAP && (*key = xe_param_key(p, cls->fields[i].name)))
            return &cls->fields[i];
    return NULL;
}

static int param_set(struct xe_run_state *x, const struct xe_class *cls, const struct object *o)
{
    AUTO_JSON json_t *calls = json_array(), *whole = json_object();
    size_t changes = 0;
    for (size_t i = 0; i < x->param_count; i++) {
        const struct xe_param *p = &x->params[i];
        if (xe_param_standard(p->name) || streq(p->name, "uuid"))
            continue;
        const char *key = NULL;
        const struct xe_field *f = xe_field_find(cls, p->name);
        int rc;
        changes++;
        if (f)
            rc = plan_whole(x, f, o, p->value, calls);
        else if ((f = map_field(cls, p, &key)))
            rc = plan_key(x, f, o, key, p->value, whole, calls);
        else
            rc = xe_unknown_field(x, cls, p->name);
        if (rc < 0)
            return -1;
    }
    if (!changes)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: the field to set, as name=value");
    plan_maps(cls, o, whole, calls);
    return execute(x, calls);
}

static bool set_has(const json_t *set, const json_t *value)
{
    size_t i;
    const json_t *item;
    json_array_foreach(set, i, item)
    {
        if (json_equal(item, value))
            return true;
    }
    return false;
}

static int change_set(struct xe_run_state *x, const struct xe_field *f, const struct object *o,
                      const char *text, bool adding)
{
    AUTO_JSON json_t *value = xe_input(x, f->name, f->type, f->cls, f->texts, text), *calls = json_array();
    if (!value)
        return -1;
    const json_t *now = json_object_get(o->record, f->from);
    if (!adding && !set_has(now, value))
        return xe_fail(x, XE_ERR_CLI, "Key %s not found in set", text);
    const char *method = adding ? f->add : f->remove;
    if (method) {
        plan(calls, method, json_pack("[sO]", o->ref, value));
    } else if (f->whole) {
        json_t *set = json_array(), *item;
        size_t i;
        json_array_foreach(now, i, item) if (!json_equal(item, value)) json_array_append(set, item);
        if (adding)
            json_array_append(set, value);
        plan(calls, f->whole, json_pack("[so]", o->ref, set));
    } else {
        return read_only(x, f);
    }
    return execute(x, calls);
}

static int param_add(struct xe_run_state *x, const struct xe_class *cls, const struct object *o)
{
    const struct xe_field *f;
    if (field_arg(x, cls, &f) < 0)
        return -1;
    const char *key = xe_arg(x, "param-key");
    if (f->shape == XE_SET) {
        if (!key)
            return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: param-key");
        return change_set(x, f, o, key, true);
    }
    if (f->shape != XE_MAP)
        return xe_fail(x, XE_ERR_CLI, "Field '%s' is neither a set nor a map: use param-set.", f->name);
    AUTO_JSON json_t *calls = json_array(), *whole = json_object();
    size_t pairs = 0;
    for (size_t i = 0; i < x->param_count; i++) {
        const struct xe_param *p = &x->params[i];
        if (xe_param_standard(p->name) || streq(p->name, "uuid") || streq(p->name, "param-name") ||
            streq(p->name, "param-key"))
            continue;
        pairs++;
        if (json_object_get(json_object_get(o->record, f->from), p->name)) {
            AUTO_JSON json_t *params =
                json_pack("[ssss]", cls->api, f->name, xe_str(o->record, "uuid"), p->name);
            xe_err_set_api(&x->err, "MAP_DUPLICATE_KEY", params);
            return -1;
        }
        if (plan_key(x, f, o, p->name, p->value, whole, calls) < 0)
            return -1;
    }
    if (!pairs)
        return xe_fail(x, XE_ERR_USAGE, "Required parameter not found: the pairs to add, as key=value");
    plan_maps(cls, o, whole, calls);
    return execute(x, calls);
}

static int param_remove(struct xe_run_state *x, const struct xe_class *cls, const struct object *o)
{
    const struct xe_field *f;
    const char *key;
    if (field_arg(x, cls, &f) < 0 || xe_arg_required(x, "param-key", &key) < 0)
        return -1;
    if (f->shape == XE_SET)
        return change_set(x, f, o, key, false);
    if (f->shape != XE_MAP)
        return xe_fail(x, XE_ERR_CLI, "Field '%s' is neither a set nor a map.", f->name);
    json_t *now = json_object_get(o->record, f->from);
    if (!f->remove && !f->whole)
        return read_only(x, f);
    if (!json_object_get(now, key))
        return xe_fail(x, XE_ERR_CLI, "Key %s not found in map", key);
    AUTO_JSON json_t *calls = json_array();
    if (f->remove) {
        plan(calls, f->remove, json_pack("[ss]", o->ref, key));
    } else {
        json_t *map = json_copy(now);
        json_object_del(map, key);
        plan(calls, f->whole, json_pack("[so]", o->ref, map));
    }
    return execute(x, calls);
}

static int param_clear(struct xe_run_state *x, const struct xe_class *cls, const struct object *o)
{
    const struct xe_field *f;
    if (field_arg(x, cls, &f) < 0)
        return -1;
    AUTO_JSON json_t *calls = json_array();
    if (f->whole && f->shape != XE_ONE) {
        plan(calls, f->whole, json_pack("[so]", o->ref, f->shape == XE_SET ? json_array() : json_object()));
    } else if (f->remove) {
        const char *key;
        json_t *item;
        size_t i;
        if (f->shape == XE_MAP) {
            json_object_foreach(json_object_get(o->record, f->from), key, item)
                plan(calls, f->remove, json_pack("[ss]", o->ref, key));
        } else {
            json_array_foreach(json_object_get(o->record, f->from), i, item)
                plan(calls, f->remove, json_pack("[sO]", o->ref, item));
        }
    } else if (plan_whole(x, f, o, "", calls) < 0) {
        return -1;
    }
    return execute(x, calls);
}

int xe_run_param(struct xe_run_state *x, const struct xe_command *cmd)
{
    struct object o = {0};
    int rc = find(x, cmd->cls, &o);
    if (rc == 0) {
        switch ((enum xe_generated)cmd->generated) {
        case XE_PARAM_LIST:
            rc = param_list(x, cmd->cls, &o);
            break;
        case XE_PARAM_GET:
            rc = param_get(x, cmd->cls, &o);
            break;
        case XE_PARAM_SET:
            rc = param_set(x, cmd->cls, &o);
            break;
        case XE_PARAM_ADD:
            rc = param_add(x, cmd->cls, &o);
            break;
        case XE_PARAM_REMOVE:
            rc = param_remove(x, cmd->cls, &o);
            break;
        case XE_PARAM_CLEAR:
            rc = param_clear(x, cmd->cls, &o);
            break;
        case XE_NOT_GENERATED:
        case XE_LIST:
            rc = xe_fail(x, XE_ERR_CLI, "the command %s is not one of the param family", cmd->name);
            break;
        }
    }
    free(o.ref);
    return rc;
}
