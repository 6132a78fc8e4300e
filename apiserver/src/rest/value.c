/* Values between REST and the model: references are uuids (null for none), dates RFC 3339; all else as in the
 * JSON of the XenAPI. */
#include "internal.h"

#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <inttypes.h>
#include <math.h>
#include <model/errors.h>
#include <stdio.h>

bool field_is_public(const struct field_desc *field)
{
    return !(field->flags & (FIELD_INTERNAL | FIELD_SECRET | FIELD_REMOVED));
}

const struct field_desc *public_field(const struct class_desc *cls, const char *name)
{
    const struct field_desc *field = field_find(cls, name);
    return field && field_is_public(field) ? field : NULL;
}

char *etag_format(const struct row *row, char out[static ETAG_SIZE])
{
    snprintf(out, ETAG_SIZE, "\"%" PRIu64 "\"", row->generation);
    return out;
}

/* ---- to REST ---- */

static void write_ref(const struct snapshot *snap, const struct class_desc *cls, struct ref ref,
                      struct buf *out)
{
    const struct row *row = ref_is_null(ref) || !cls->row_size ? NULL : snapshot_get(snap, cls, ref);
    if (row && cls->uuid)
        json_write_string(out, row_cell(row, cls->uuid)->str);
    else
        buf_add_str(out, "null");
}

/* A scalar that is kept as canonical text. */
static void write_text(const struct snapshot *snap, const struct type *type, const char *text,
                       struct buf *out)
{
    union cell cell;
    if (type->kind == TYPE_STRING || !cell_read_text(type, text, &cell)) {
        json_write_string_len(out, text, str_len(text));
        return;
    }
    rest_value_write(snap, type, &cell, out);
    cell_done(type, &cell);
}

/* The same where JSON wants a string: the key of a map. */
static void write_key(const struct snapshot *snap, const struct type *type, const char *text, struct buf *out)
{
    struct buf value AUTO_BUF = BUF_INIT;
    write_text(snap, type, text, &value);
    if (value.len && value.data[0] == '"')
        buf_add(out, value.data, value.len);
    else
        json_write_string_len(out, text, str_len(text));
}

static void write_str_map(const struct snapshot *snap, const struct type *type, const struct str_map *map,
                          struct buf *out)
{
    buf_add_char(out, '{');
    for (uint32_t i = 0; map && i < map->count; i++) {
        if (i)
            buf_add_char(out, ',');
        write_key(snap, type->key, map->pairs[i].key, out);
        buf_add_char(out, ':');
        write_text(snap, type->item, map->pairs[i].value, out);
    }
    buf_add_char(out, '}');
}

static void write_ref_set(const struct snapshot *snap, const struct type *type, const struct ref_set *set,
                          struct buf *out)
{
    buf_add_char(out, '[');
    for (uint32_t i = 0; set && i < set->count; i++) {
        if (i)
            buf_add_char(out, ',');
        write_ref(snap, type->item->cls, set->items[i], out);
    }
    buf_add_char(out, ']');
}

void rest_value_write(const struct snapshot *snap, const struct type *type, const union cell *cell,
                      struct buf *out)
{
    char date[RFC3339_SIZE];
    if (type->kind == TYPE_DATETIME) {
        json_write_string(out, rfc3339_format(cell->i, date));
    } else if (type->rep == REP_REF) {
        write_ref(snap, type->cls, cell->ref, out);
    } else if (type->rep == REP_REF_SET) {
        write_ref_set(snap, type, cell->ref_set, out);
    } else if (type->rep == REP_STR_MAP) {
        write_str_map(snap, type, cell->str_map, out);
    } else if (type->rep == REP_JSON) {
        struct buf text AUTO_BUF = BUF_INIT;
        struct json_error error;
        cell_write_json(type, cell, &text);
        AUTO_JSON json_t *wire = json_parse(text.data, text.len, &error);
        rest_value_write_wire(snap, type, wire, out);
    } else if (type->kind == TYPE_VOID || (type->kind == TYPE_FLOAT && !isfinite(cell->d))) {
        buf_add_str(out, "null");
    } else {
        cell_write_json(type, cell, out);
    }
}

static void write_wire_record(const struct snapshot *snap, const struct class_desc *cls, const json_t *wire,
                              struct buf *out)
{
    const char *name;
    json_t *value;
    bool more = false;
    buf_add_char(out, '{');
    json_object_foreach((json_t *)(uintptr_t)wire, name, value)
    {
        const struct field_desc *field = public_field(cls, name);
        if (!field)
            continue;
        if (more)
            buf_add_char(out, ',');
        more = true;
        json_write_string(out, name);
        buf_add_char(out, ':');
        rest_value_write_wire(snap, field->type, value, out);
    }
    buf_add_char(out, '}');
}

static void write_wire_list(const struct snapshot *snap, const struct type *type, const json_t *wire,
                            struct buf *out)
{
    size_t i;
    json_t *item;
    buf_add_char(out, '[');
    json_array_foreach(wire, i, item)
    {
        if (i)
            buf_add_char(out, ',');
        rest_value_write_wire(snap, type->item, item, out);
    }
    buf_add_char(out, ']');
}

static void write_wire_map(const struct snapshot *snap, const struct type *type, const json_t *wire,
                           struct buf *out)
{
    const char *key;
    json_t *value;
    bool more = false;
    buf_add_char(out, '{');
    json_object_foreach((json_t *)(uintptr_t)wire, key, value)
    {
        const char *name AUTO_STR = str_new(key);
        if (more)
            buf_add_char(out, ',');
        more = true;
        write_key(snap, type->key, name, out);
        buf_add_char(out, ':');
        rest_value_write_wire(snap, type->item, value, out);
    }
    buf_add_char(out, '}');
}

void rest_value_write_wire(const struct snapshot *snap, const struct type *type, const json_t *wire,
                           struct buf *out)
{
    union cell cell;
    char error[CELL_ERROR_SIZE];
    switch (type->kind) {
    case TYPE_RECORD:
        write_wire_record(snap, type->cls, wire, out);
        return;
    case TYPE_MAP:
        write_wire_map(snap, type, wire, out);
        return;
    case TYPE_SET:
        write_wire_list(snap, type, wire, out);
        return;
    case TYPE_OPTION: /* as a list of none or one */
        if (json_array_size(wire) == 1)
            rest_value_write_wire(snap, type->item, json_array_get(wire, 0), out);
        else
            buf_add_str(out, "null");
        return;
    default:
        break;
    }
    if (type->kind == TYPE_VOID || !cell_read_json(type, wire, &cell, error)) {
        buf_add_str(out, "null");
        return;
    }
    rest_value_write(snap, type, &cell, out);
    cell_done(type, &cell);
}

static void write_field(const struct snapshot *snap, const struct row *row, const struct field_desc *field,
                        bool more, struct buf *out)
{
    if (more)
        buf_add_char(out, ',');
    json_write_string(out, field->name);
    buf_add_char(out, ':');
    rest_value_write(snap, field->type, row_cell(row, field), out);
}

void rest_record_write(const struct snapshot *snap, const struct row *row, const struct field_choice *choice,
                       struct buf *out)
{
    bool more = false;
    buf_add_char(out, '{');
    for (size_t i = 0; choice && i < choice->count; i++)
        write_field(snap, row, choice->fields[i], i > 0, out);
    for (size_t i = 0; !choice && i < row->cls->field_count; i++)
        if (field_is_public(&row->cls->fields[i])) {
            write_field(snap, row, &row->cls->fields[i], more, out);
            more = true;
        }
    buf_add_char(out, '}');
}

/* ---- from REST ---- */

static json_t *refuse(struct api_err *err, const char *where, const char *sentence)
{
    err_invalid_value(err, where, sentence);
    return NULL;
}

static json_t *read_ref(const struct snapshot *snap, const struct class_desc *cls, const json_t *json,
                        const char *where, struct api_err *err)
{
    struct ref ref = REF_NULL;
    if (json_is_null(json))
        return json_string(REF_NULL_TEXT);
    if (!json_is_string(json))
        return refuse(err, where, "A reference is the uuid of the object, or null.");
    const char *text = json_string_value(json);
    if (strncmp(text, "OpaqueRef:", 10) == 0 && ref_parse(text, &ref))
        return json_string(text);
    const struct row *row = cls->uuid ? snapshot_by_uuid(snap, cls, text) : NULL;
    if (!row) {
        err_uuid_invalid(err, cls->name, text);
        return NULL;
    }
    return json_string(REF_TEXT(row->ref));
}

static json_t *read_date(const json_t *json, const char *where, struct api_err *err)
{
    int64_t seconds;
    char text[DATETIME_TEXT_SIZE];
    if (!json_is_string(json) || !datetime_parse(json_string_value(json), &seconds))
        return refuse(err, where, "A date looks like 2026-01-31T12:00:00Z.");
    return json_string(datetime_format(seconds, text));
}

static json_t *read_list(const struct snapshot *snap, const struct type *type, const json_t *json,
                         const char *where, struct api_err *err)
{
    size_t i;
    json_t *item;
    if (!json_is_array(json))
        return refuse(err, where, "It is a list.");
    AUTO_JSON json_t *list = json_array();
    json_array_foreach(json, i, item)
    {
        json_t *value = rest_value_read(snap, type->item, item, where, err);
        if (!value)
            return NULL;
        json_array_append_new(list, value);
    }
    return TAKE_PTR(list);
}

char *rest_key_read(const struct snapshot *snap, const struct type *type, const char *key, const char *where,
                    struct api_err *err)
{
    union cell cell;
    if (type->kind == TYPE_STRING)
        return xstrdup(key);
    if (type->kind == TYPE_REF) {
        AUTO_JSON json_t *text = json_string(key);
        AUTO_JSON json_t *ref = read_ref(snap, type->cls, text, where, err);
        return ref ? xstrdup(json_string_value(ref)) : NULL;
    }
    if (!cell_read_text(type, key, &cell)) {
        AUTO_FREE char *sentence =
            xasprintf("'%.60s' is no key of this map: a key is one of %s.", key, type->name);
        err_invalid_value(err, where, sentence);
        return NULL;
    }
    cell_done(type, &cell);
    return xstrdup(key);
}

static json_t *read_map(const struct snapshot *snap, const struct type *type, const json_t *json,
                        const char *where, struct api_err *err)
{
    const char *key;
    json_t *item;
    if (!json_is_object(json))
        return refuse(err, where, "It is an object of keys and values.");
    AUTO_JSON json_t *map = json_object();
    json_object_foreach((json_t *)(uintptr_t)json, key, item)
    {
        AUTO_FREE char *name = rest_key_read(snap, type->key, key, where, err);
        json_t *value = name ? rest_value_read(snap, type->item, item, where, err) : NULL;
        if (!value)
            return NULL;
        json_object_set_new(map, name, value);
    }
    return TAKE_PTR(map);
}

static json_t *read_record(const struct snapshot *snap, const struct class_desc *cls, const json_t *json,
                           const char *where, struct api_err *err)
{
    const char *name;
    json_t *item;
    if (!json_is_object(json))
        return refuse(err, where, "It is an object of fields.");
    AUTO_JSON json_t *record = json_object();
    json_object_foreach((json_t *)(uintptr_t)json, name, item)
    {
        const struct field_desc *field = field_find(cls, name);
        if (!field || field->flags & FIELD_INTERNAL)
            return refuse(err, name, "There is no such field.");
        if (cls->row_size && field->qualifier == FIELD_DYNAMIC_RO)
            return refuse(err, name, "The server sets this field itself: leave it out.");
        json_t *value = rest_value_read(snap, field->type, item, name, err);
        if (!value)
            return NULL;
        json_object_set_new(record, name, value);
    }
    return TAKE_PTR(record);
}

json_t *rest_value_read(const struct snapshot *snap, const struct type *type, const json_t *json,
                        const char *where, struct api_err *err)
{
    union cell cell;
    char error[CELL_ERROR_SIZE];
    switch (type->kind) {
    case TYPE_REF:
        return read_ref(snap, type->cls, json, where, err);
    case TYPE_DATETIME:
        return read_date(json, where, err);
    case TYPE_SET:
        return read_list(snap, type, json, where, err);
    case TYPE_MAP:
        return read_map(snap, type, json, where, err);
    case TYPE_RECORD:
        return read_record(snap, type->cls, json, where, err);
    case TYPE_OPTION: {
        json_t *list = json_array();
        json_t *value = json_is_null(json) ? NULL : rest_value_read(snap, type->item, json, where, err);
        if (!json_is_null(json) && !value) {
            json_decref(list);
            return NULL;
        }
        if (value)
            json_array_append_new(list, value);
        return list;
    }
    default:
        break;
    }
    if ((type->kind == TYPE_INT || type->kind == TYPE_FLOAT) && !json_is_number(json))
        return refuse(err, where, "It is a number, without quotes.");
    if (!cell_read_json(type, json, &cell, error))
        return refuse(err, where, error);
    cell_done(type, &cell);
    return json_deep_copy(json);
}
