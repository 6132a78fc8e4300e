/* Values as XML-RPC <value> elements. Integers and most scalars are untagged text; only booleans, floats
 * and dates carry a type. */
#include <base/buf.h>
#include <base/clock.h>
#include <base/xml.h>
#include <jansson.h>
#include <math.h>
#include <model/model.h>

static void write_tagged(const char *tag, const char *text, struct buf *out)
{
    buf_printf(out, "<value><%s>%s</%s></value>", tag, text, tag);
}

static void write_double(double value, struct buf *out)
{
    char text[40];
    snprintf(text, sizeof(text), "%.16g", value);
    write_tagged("double", text, out);
}

static void write_plain(const char *text, struct buf *out)
{
    buf_add_str(out, "<value>");
    xml_write_text(out, text);
    buf_add_str(out, "</value>");
}

/* A scalar that is canonical text already. */
static void write_text(const struct type *type, const char *text, struct buf *out)
{
    if (type->kind == TYPE_BOOL)
        write_tagged("boolean", *text == 't' ? "1" : "0", out);
    else if (type->kind == TYPE_FLOAT)
        write_double(strtod(text, NULL), out);
    else if (type->kind == TYPE_DATETIME)
        write_tagged("dateTime.iso8601", text, out);
    else
        write_plain(text, out);
}

#define ARRAY_OPEN "<value><array><data>"
#define ARRAY_CLOSE "</data></array></value>"
#define STRUCT_OPEN "<value><struct>"
#define STRUCT_CLOSE "</struct></value>"

static void write_member_name(const char *name, struct buf *out)
{
    buf_add_str(out, "<member><name>");
    xml_write_text(out, name);
    buf_add_str(out, "</name>");
}

static void write_json(const struct type *type, const json_t *json, struct buf *out);

static void write_json_array(const struct type *item, const json_t *array, struct buf *out)
{
    buf_add_str(out, ARRAY_OPEN);
    size_t count = json_array_size(array);
    for (size_t i = 0; i < count; i++)
        write_json(item, json_array_get(array, i), out);
    buf_add_str(out, ARRAY_CLOSE);
}

/* A member of a record has its field's type; of an option there, the value itself stands. */
static const struct type *member_type(const struct type *type, const char *name)
{
    if (!type)
        return NULL;
    if (type->kind == TYPE_MAP)
        return type->item;
    const struct field_desc *field = type->cls ? field_find(type->cls, name) : NULL;
    if (!field)
        return NULL;
    return field->type->kind == TYPE_OPTION ? field->type->item : field->type;
}

static void write_json_object(const struct type *type, const json_t *object, struct buf *out)
{
    buf_add_str(out, STRUCT_OPEN);
    json_t *walked = (json_t *)(uintptr_t)object; /* iteration does not change it */
    for (void *at = json_object_iter(walked); at; at = json_object_iter_next(walked, at)) {
        const char *name = json_object_iter_key(at);
        write_member_name(name, out);
        write_json(member_type(type, name), json_object_iter_value(at), out);
        buf_add_str(out, "</member>");
    }
    buf_add_str(out, STRUCT_CLOSE);
}

/* `type` NULL: unknown, the JSON decides. */
static void write_json(const struct type *type, const json_t *json, struct buf *out)
{
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        write_json_object(type, json, out);
        break;
    case JSON_ARRAY:
        write_json_array(type ? type->item : NULL, json, out);
        break;
    case JSON_STRING:
        if (type)
            write_text(type, json_string_value(json), out);
        else
            write_plain(json_string_value(json), out);
        break;
    case JSON_INTEGER:
        if (type && type->kind == TYPE_FLOAT)
            write_double((double)json_integer_value(json), out);
        else
            buf_printf(out, "<value>%" JSON_INTEGER_FORMAT "</value>", json_integer_value(json));
        break;
    case JSON_REAL:
        write_double(json_real_value(json), out);
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        write_tagged("boolean", json_is_true(json) ? "1" : "0", out);
        break;
    case JSON_NULL:
        buf_add_str(out, "<value><nil/></value>");
        break;
    }
}

static void write_str_set(const struct type *item, const struct str_set *set, struct buf *out)
{
    buf_add_str(out, ARRAY_OPEN);
    for (uint32_t i = 0; set && i < set->count; i++)
        write_text(item, set->items[i], out);
    buf_add_str(out, ARRAY_CLOSE);
}

static void write_ref_set(const struct ref_set *set, struct buf *out)
{
    buf_add_str(out, ARRAY_OPEN);
    for (uint32_t i = 0; set && i < set->count; i++)
        write_plain(REF_TEXT(set->items[i]), out);
    buf_add_str(out, ARRAY_CLOSE);
}

static void write_enum_set(const struct enum_desc *en, uint64_t set, struct buf *out)
{
    buf_add_str(out, ARRAY_OPEN);
    for (; set; set &= set - 1)
        write_plain(en->values[__builtin_ctzll(set)], out);
    buf_add_str(out, ARRAY_CLOSE);
}

static void write_str_map(const struct type *item, const struct str_map *map, struct buf *out)
{
    buf_add_str(out, STRUCT_OPEN);
    for (uint32_t i = 0; map && i < map->count; i++) {
        write_member_name(map->pairs[i].key, out);
        write_text(item, map->pairs[i].value, out);
        buf_add_str(out, "</member>");
    }
    buf_add_str(out, STRUCT_CLOSE);
}

void cell_write_xml(const struct type *type, const union cell *cell, struct buf *out)
{
    switch (type->rep) {
    case REP_VOID:
        buf_add_str(out, "<value></value>");
        break;
    case REP_BOOL:
        write_tagged("boolean", cell->b ? "1" : "0", out);
        break;
    case REP_INT:
        if (type->kind == TYPE_DATETIME)
            write_tagged("dateTime.iso8601", datetime_format(cell->i, (char[DATETIME_TEXT_SIZE]){0}), out);
        else
            buf_printf(out, "<value>%lld</value>", (long long)cell->i);
        break;
    case REP_FLOAT:
        write_double(cell->d, out);
        break;
    case REP_ENUM:
        write_plain(type->en->values[cell->e], out);
        break;
    case REP_STRING:
        write_plain(cell->str, out);
        break;
    case REP_REF:
        write_plain(REF_TEXT(cell->ref), out);
        break;
    case REP_STR_SET:
        write_str_set(type->item, cell->str_set, out);
        break;
    case REP_REF_SET:
        write_ref_set(cell->ref_set, out);
        break;
    case REP_ENUM_SET:
        write_enum_set(type->item->en, cell->enum_set, out);
        break;
    case REP_STR_MAP:
        write_str_map(type->item, cell->str_map, out);
        break;
    case REP_JSON:
        if (cell->json)
            write_json(type, cell->json, out);
        else if (type->kind == TYPE_MAP || type->kind == TYPE_RECORD)
            buf_add_str(out, STRUCT_OPEN STRUCT_CLOSE);
        else
            buf_add_str(out, ARRAY_OPEN ARRAY_CLOSE);
        break;
    }
}
