/* PATCH: a JSON merge patch (RFC 7396) of the object's fields. Members of a map are merged, null removes a
 * key; every other field is replaced. */
#include "internal.h"

#include "../gate/patch.h"
#include "../gate/session.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>

/* The map with the patch put over it, as the XenAPI's JSON. NULL: *err. */
static json_t *merge(const struct snapshot *snap, const struct row *row, const struct field_desc *field,
                     const json_t *patch, struct api_err *err)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    const char *key;
    json_t *value;
    cell_write_json(field->type, row_cell(row, field), &text);
    AUTO_JSON json_t *map = json_parse(text.data, text.len, &error);
    json_object_foreach((json_t *)(uintptr_t)patch, key, value)
    {
        AUTO_FREE char *name = rest_key_read(snap, field->type->key, key, field->name, err);
        if (!name)
            return NULL;
        if (json_is_null(value)) {
            json_object_del(map, name);
            continue;
        }
        json_t *item = rest_value_read(snap, field->type->item, value, field->name, err);
        if (!item)
            return NULL;
        json_object_set_new(map, name, item);
    }
    return TAKE_PTR(map);
}

static int read_field(const struct snapshot *snap, const struct row *row, const char *name,
                      const json_t *value, struct patch_field *out, struct api_err *err)
{
    const struct field_desc *field = field_find(row->cls, name);
    if (!field || field->flags & (FIELD_INTERNAL | FIELD_REMOVED))
        return err_invalid_value(err, name, "There is no such field.");
    AUTO_FREE char *setter = xasprintf("set_%s", name);
    out->setter = message_of(row->cls, setter);
    if (!out->setter || out->setter->param_count != 2)
        return err_invalid_value(err, name, "This field cannot be set; perhaps there is an action for it.");
    const struct type *type = out->setter->params[1].type;
    if (type->kind == TYPE_MAP && json_is_object(value))
        out->value = merge(snap, row, field, value, err);
    else
        out->value = rest_value_read(snap, type, value, name, err);
    return out->value ? 0 : -1;
}

static void send_object(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct row *row = snapshot_by_uuid(snap, r->target.cls, r->target.uuid);
    struct buf out = BUF_INIT;
    char etag[ETAG_SIZE];
    if (row)
        rest_record_write(snap, row, NULL, &out);
    rest_send(r->req, row ? 200 : 204, NULL, row ? etag_format(row, etag) : NULL, &out);
}

static void apply(struct rest *r, const struct row *row, const struct patch_field *fields, size_t count)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    bool changed;
    /* A map was merged with this version: another one must not come between. */
    bool exact = http_request_header(r->req, "If-Match") != NULL;
    for (size_t i = 0; i < count; i++)
        exact = exact || fields[i].setter->params[1].type->kind == TYPE_MAP;
    if (patch_apply(r->server, r->session, http_request_peer(r->req), row->ref, fields, count,
                    exact ? row->generation : 0, &changed, &err) == 0)
        send_object(r);
    else if (changed)
        rest_problem(r->req, 412, "Precondition Failed",
                     "The object changed at the same time: nothing was done. Read it again.");
    else
        rest_fail(r, &err);
}

void rest_patch(struct rest *r)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    bool planned;
    const struct row *row = plan_wanted(r, &planned) && rest_may_read(r) ? rest_object(r, snap) : NULL;
    size_t count = 0, err_count = 0, max = json_object_size(r->body);
    const char *name;
    json_t *value;
    if (!row) {
        rest_done(r);
        return;
    }
    struct patch_field *fields = xcalloc(max ? max : 1, sizeof(*fields));
    struct api_err *errs = xcalloc(max ? max : 1, sizeof(*errs)); /* a plan tells all of them */
    json_object_foreach(r->body, name, value)
    {
        errs[err_count] = API_ERR_INIT;
        if (read_field(snap, row, name, value, &fields[count], &errs[err_count]) == 0)
            count++;
        else
            err_count++;
        if (err_count && !planned)
            break;
    }
    if (planned)
        plan_patch(r, row, fields, count, errs, err_count);
    else if (err_count)
        rest_fail(r, &errs[0]);
    else
        apply(r, row, fields, count);
    for (size_t i = 0; i < count; i++)
        json_decref(fields[i].value);
    for (size_t i = 0; i < err_count; i++)
        api_err_done(&errs[i]);
    free(fields);
    free(errs);
    rest_done(r);
}
