/* What a joining host brings into its new pool: its repositories and disks, its networks, its halted VMs.
 * Rows keep their references and uuids, so nothing that refers to one of them has to be rewritten but what
 * points to the host itself and to networks that the new pool has already. References to what stays behind
 * become null. */
#include "members.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>

/* A VM's metrics go with it. */
static const struct class_desc *const moved[] = {CLASS_network, CLASS_SR,  CLASS_VDI, CLASS_PBD,
                                                 CLASS_VM,      CLASS_VBD, CLASS_VIF};

struct collecting {
    const struct snapshot *snap;
    json_t *rows;
    const json_t *renamed; /* reference here -> reference there */
};

static bool travels(const struct field_desc *field)
{
    return field->flags & FIELD_PERSIST && !(field->flags & FIELD_DERIVED);
}

/* Everything that is text and one of the references is exchanged: fields hold them as text in JSON. */
static json_t *renamed_value(const json_t *renamed, json_t *value)
{
    if (!json_is_string(value))
        return value;
    json_t *other = json_object_get(renamed, json_string_value(value));
    if (!other)
        return value;
    json_decref(value);
    return json_incref(other);
}

static void add_row(struct collecting *c, const struct row *row)
{
    json_t *fields = json_object();
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        AUTO_BUF struct buf text = BUF_INIT;
        struct json_error bad;
        if (!travels(field))
            continue;
        cell_write_json(field->type, row_cell(row, field), &text);
        json_t *value = json_parse(text.data, text.len, &bad);
        json_object_set_new(fields, field->name, renamed_value(c->renamed, value ? value : json_null()));
    }
    json_array_append_new(
        c->rows, json_pack("{sssssO}", "class", row->cls->name, "ref", REF_TEXT(row->ref), "fields", fields));
    json_decref(fields);
}

/* What the server makes for every pool anew is not taken along. */
static bool stays(const struct collecting *c, const struct row *row)
{
    if (json_object_get(c->renamed, REF_TEXT(row->ref)))
        return true;
    if (row->cls == CLASS_VM)
        return vm_row(row)->is_control_domain || vm_row(row)->is_default_template;
    if (row->cls != CLASS_VBD && row->cls != CLASS_VIF)
        return false;
    const struct row *vm =
        snapshot_get(c->snap, CLASS_VM, row->cls == CLASS_VBD ? vbd_row(row)->VM : vif_row(row)->VM);
    return !vm || stays(c, vm);
}

static bool collect(const struct row *row, void *arg)
{
    struct collecting *c = arg;
    if (stays(c, row))
        return true;
    add_row(c, row);
    const struct row *metrics =
        row->cls == CLASS_VM ? snapshot_get(c->snap, CLASS_VM_metrics, vm_row(row)->metrics) : NULL;
    if (metrics)
        add_row(c, metrics);
    return true;
}

json_t *rows_collect(const struct snapshot *snap, struct ref own_host, struct ref there,
                     const json_t *networks)
{
    AUTO_JSON json_t *renamed = networks ? json_deep_copy(networks) : json_object();
    json_object_set_new(renamed, REF_TEXT(own_host), json_string(REF_TEXT(there)));
    struct collecting c = {.snap = snap, .rows = json_array(), .renamed = renamed};
    for (size_t i = 0; i < ARRAY_LEN(moved); i++)
        snapshot_each(snap, moved[i], collect, &c);
    return c.rows;
}

/* ---- there ---- */

static int fill(struct row *row, const json_t *fields, struct api_err *err)
{
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        const json_t *value = json_object_get(fields, field->name);
        char complaint[CELL_ERROR_SIZE];
        union cell cell;
        if (!travels(field) || !value)
            continue;
        if (!cell_read_json(field->type, value, &cell, complaint))
            return fail_internal(err, "A row of the joining pool cannot be read: %s.%s", row->cls->name,
                                 field->name);
        cell_done(field->type, row_cell_mut(row, field));
        cell_copy(field->type, row_cell_mut(row, field), &cell);
        cell_done(field->type, &cell);
    }
    return 0;
}

static bool is_moved(const struct class_desc *cls)
{
    for (size_t i = 0; i < ARRAY_LEN(moved); i++)
        if (cls == moved[i])
            return true;
    return cls == CLASS_VM_metrics;
}

static int make_row(struct tx *tx, const json_t *json, struct api_err *err)
{
    const char *name, *text, *uuid = "";
    struct ref ref;
    const json_t *fields = json_object_get(json, "fields");
    if (!json_get_string(json, "class", &name) || !json_get_string(json, "ref", &text) ||
        !ref_parse(text, &ref) || ref_is_null(ref) || !json_is_object(fields))
        return fail_internal(err, "A row of the joining pool cannot be read.");
    const struct class_desc *cls = class_find(name);
    if (!cls || !is_moved(cls))
        return fail_internal(err, "A row of the joining pool is of a class that does not move: %s", name);
    if (tx_get(tx, cls, ref))
        return 0; /* a repeat */
    json_get_string(fields, "uuid", &uuid);
    if (*uuid && tx_by_uuid(tx, cls, uuid))
        return fail_internal(err, "The pool has a %s of this uuid already: %s", name, uuid);
    return fill(tx_create_as(tx, cls, ref), fields, err);
}

int rows_make(struct tx *tx, const json_t *rows, struct api_err *err)
{
    for (size_t i = 0; i < json_array_size(rows); i++)
        if (make_row(tx, json_array_get(rows, i), err) < 0)
            return -1;
    return 0;
}

void rows_unmake(struct tx *tx, const json_t *rows)
{
    for (size_t i = json_array_size(rows); i-- > 0;) {
        const char *name, *text;
        struct ref ref;
        const json_t *row = json_array_get(rows, i);
        if (!json_get_string(row, "class", &name) || !json_get_string(row, "ref", &text) ||
            !ref_parse(text, &ref))
            continue;
        const struct class_desc *cls = class_find(name);
        if (cls && is_moved(cls) && tx_get(tx, cls, ref))
            tx_delete(tx, cls, ref);
    }
}
