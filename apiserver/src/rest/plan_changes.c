/* What a rehearsal has changed, told as steps: rows that it made, changed and deleted, for messages of which
 * plan_steps.c has nothing better to tell. Fields that follow from others, or are not kept, are left out. */
#include "plan.h"

#include "../gate/roles.h"
#include "../gate/session.h"
#include <base/json.h>
#include <base/mem.h>

struct changes {
    struct plan *p;
    const struct snapshot *now;
};

/* Tasks come and go with every call. */
static bool is_told(const struct class_desc *cls)
{
    return cls->collection && cls->flags & CLASS_PERSIST && cls != CLASS_task;
}

/* Values of objects that the session could not read are not told. */
static bool may_read(const struct plan *p, const struct class_desc *cls)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct method_desc *read = message_of(cls, "get_all_records");
    return read && roles_require_message(p->rest->session, read, &err) == 0;
}

static json_t *value_of(const struct snapshot *snap, const struct row *row, const struct field_desc *field)
{
    AUTO_BUF struct buf text = BUF_INIT;
    struct json_error error;
    rest_value_write(snap, field->type, row_cell(row, field), &text);
    return json_parse(text.data, text.len, &error);
}

static void tell_fields(const struct changes *c, const struct row *before, const struct row *after)
{
    bool readable = may_read(c->p, after->cls), any = false;
    for (size_t i = 0; i < after->cls->field_count; i++) {
        const struct field_desc *field = &after->cls->fields[i];
        if (field->flags & FIELD_DERIVED || !(field->flags & FIELD_PERSIST) || !field_is_public(field) ||
            cell_equal(field->type, row_cell(before, field), row_cell(after, field)))
            continue;
        AUTO_FREE char *text = xasprintf("Sets %s.", field->name);
        json_t *step = json_pack("{ss,so}", "do", text, "object", plan_name(before));
        if (readable) {
            json_object_set_new(step, "from", value_of(c->p->snap, before, field));
            json_object_set_new(step, "to", value_of(c->now, after, field));
        }
        json_array_append_new(c->p->steps, step);
        any = true;
    }
    if (any)
        plan_saw(c->p, before);
}

/* Its uuid would be another one. */
static void tell_made(const struct changes *c, const struct row *row)
{
    AUTO_FREE char *text = xasprintf("Makes a %s.", row->cls->name);
    json_t *name = plan_name(row);
    json_object_del(name, "uuid");
    json_array_append_new(c->p->steps, json_pack("{ss,so}", "do", text, "object", name));
}

static bool tell_row(const struct row *row, void *arg)
{
    const struct changes *c = arg;
    const struct row *before = snapshot_get(c->p->snap, row->cls, row->ref);
    if (is_told(row->cls) && before)
        tell_fields(c, before, row);
    else if (is_told(row->cls))
        tell_made(c, row);
    return true;
}

static bool tell_gone(const struct store_tombstone *gone, void *arg)
{
    const struct changes *c = arg;
    const struct row *before = is_told(gone->cls) ? plan_row(c->p, gone->cls, gone->ref) : NULL;
    if (before)
        plan_step(c->p, before, "Removes it.");
    return true;
}

void plan_changes(struct plan *p, struct rehearsal *rehearsal)
{
    AUTO_SNAPSHOT struct snapshot *now = rehearsal_snapshot(rehearsal);
    struct changes c = {p, now};
    snapshot_changes(now, snapshot_generation(p->snap), tell_row, tell_gone, &c);
}
