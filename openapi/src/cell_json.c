/* Values as JSON text (the encodings of JSON-RPC). Text inside sets and maps is canonical already, so
 * only its quotes depend on the type. */
#include <base/clock.h>
#include <base/json.h>
#include <model/model.h>

/* Numbers and booleans stand bare; all other scalars are strings. */
static bool text_is_bare(const struct type *type)
{
    return type->kind == TYPE_INT || type->kind == TYPE_FLOAT || type->kind == TYPE_BOOL;
}

static void write_text(const struct type *type, const char *text, struct buf *out)
{
    if (text_is_bare(type))
        buf_add(out, text, str_len(text));
    else
        json_write_string_len(out, text, str_len(text));
}

static void write_ref(struct ref ref, struct buf *out)
{
    char *to = buf_reserve(out, REF_TEXT_SIZE + 2);
    to[0] = '"';
    ref_format(ref, to + 1);
    size_t len = strlen(to + 1);
    to[len + 1] = '"';
    buf_advance(out, len + 2);
}

static void write_str_set(const struct type *type, const struct str_set *set, struct buf *out)
{
    buf_add_char(out, '[');
    for (uint32_t i = 0; set && i < set->count; i++) {
        if (i)
            buf_add_char(out, ',');
        write_text(type->item, set->items[i], out);
    }
    buf_add_char(out, ']');
}

static void write_ref_set(const struct ref_set *set, struct buf *out)
{
    buf_add_char(out, '[');
    for (uint32_t i = 0; set && i < set->count; i++) {
        if (i)
            buf_add_char(out, ',');
        write_ref(set->items[i], out);
    }
    buf_add_char(out, ']');
}

static void write_enum_set(const struct enum_desc *en, uint64_t set, struct buf *out)
{
    buf_add_char(out, '[');
    bool first = true;
    for (; set; set &= set - 1) {
        if (!first)
            buf_add_char(out, ',');
        first = false;
        json_write_string(out, en->values[__builtin_ctzll(set)]);
    }
    buf_add_char(out, ']');
}

static void write_str_map(const struct type *type, const struct str_map *map, struct buf *out)
{
    buf_add_char(out, '{');
    for (uint32_t i = 0; map && i < map->count; i++) {
        if (i)
            buf_add_char(out, ',');
        json_write_string_len(out, map->pairs[i].key, str_len(map->pairs[i].key));
        buf_add_char(out, ':');
        write_text(type->item, map->pairs[i].value, out);
    }
    buf_add_char(out, '}');
}

void cell_write_json(const struct type *type, const union cell *cell, struct buf *out)
{
    switch (type->rep) {
    case REP_VOID:
        buf_add_str(out, "\"\"");
        break;
    case REP_BOOL:
        buf_add_str(out, cell->b ? "true" : "false");
        break;
    case REP_INT:
        if (type->kind == TYPE_DATETIME) {
            char text[DATETIME_TEXT_SIZE];
            buf_add_char(out, '"');
            buf_add_str(out, datetime_format(cell->i, text));
            buf_add_char(out, '"');
        } else {
            buf_add_int(out, cell->i);
        }
        break;
    case REP_FLOAT:
        json_write_real(out, cell->d);
        break;
    case REP_ENUM:
        json_write_string(out, type->en->values[cell->e]);
        break;
    case REP_STRING:
        json_write_string_len(out, cell->str, str_len(cell->str));
        break;
    case REP_REF:
        write_ref(cell->ref, out);
        break;
    case REP_STR_SET:
        write_str_set(type, cell->str_set, out);
        break;
    case REP_REF_SET:
        write_ref_set(cell->ref_set, out);
        break;
    case REP_ENUM_SET:
        write_enum_set(type->item->en, cell->enum_set, out);
        break;
    case REP_STR_MAP:
        write_str_map(type, cell->str_map, out);
        break;
    case REP_JSON:
        if (cell->json)
            json_write(out, cell->json);
        else
            buf_add_str(out, type->kind == TYPE_MAP || type->kind == TYPE_RECORD ? "{}" : "[]");
        break;
    }
}
