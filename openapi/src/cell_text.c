/* Values as plain text: scalars in canonical form (what sets and maps hold), and the form that the
 * expressions of get_all_where compare. */
#include <assert.h>
#include <base/clock.h>
#include <base/json.h>
#include <model/model.h>

void cell_write_text(const struct type *type, const union cell *cell, struct buf *out)
{
    switch (type->rep) {
    case REP_VOID:
        break;
    case REP_BOOL:
        buf_add_str(out, cell->b ? "true" : "false");
        break;
    case REP_INT:
        if (type->kind == TYPE_DATETIME)
            buf_add_str(out, datetime_format(cell->i, (char[DATETIME_TEXT_SIZE]){0}));
        else
            buf_add_int(out, cell->i);
        break;
    case REP_FLOAT:
        json_write_real(out, cell->d);
        break;
    case REP_ENUM:
        buf_add_str(out, type->en->values[cell->e]);
        break;
    case REP_STRING:
        buf_add(out, cell->str, str_len(cell->str));
        break;
    case REP_REF:
        buf_add_str(out, REF_TEXT(cell->ref));
        break;
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
    case REP_JSON:
        assert(!"not a scalar");
        break;
    }
}

/* An atom of the set and map form. */
static void write_atom(const char *text, struct buf *out)
{
    buf_add_char(out, '\'');
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            buf_add_char(out, '\\');
        buf_add_char(out, *text);
    }
    buf_add_char(out, '\'');
}

/* Separates the members of a set or map. */
static void write_gap(bool *first, struct buf *out)
{
    if (!*first)
        buf_add_char(out, ' ');
    *first = false;
}

static void write_map(const struct str_map *map, struct buf *out)
{
    bool first = true;
    for (uint32_t i = 0; map && i < map->count; i++) {
        write_gap(&first, out);
        buf_add_char(out, '(');
        write_atom(map->pairs[i].key, out);
        buf_add_char(out, ' ');
        write_atom(map->pairs[i].value, out);
        buf_add_char(out, ')');
    }
}

void cell_write_db(const struct type *type, const union cell *cell, struct buf *out)
{
    bool first = true;
    switch (type->rep) {
    case REP_VOID:
    case REP_BOOL:
    case REP_INT:
    case REP_FLOAT:
    case REP_ENUM:
    case REP_STRING:
    case REP_REF:
        cell_write_text(type, cell, out);
        return;
    case REP_JSON:
        cell_write_json(type, cell, out);
        return;
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
        break;
    }
    buf_add_char(out, '(');
    if (type->rep == REP_STR_SET) {
        for (uint32_t i = 0; cell->str_set && i < cell->str_set->count; i++) {
            write_gap(&first, out);
            write_atom(cell->str_set->items[i], out);
        }
    } else if (type->rep == REP_REF_SET) {
        for (uint32_t i = 0; cell->ref_set && i < cell->ref_set->count; i++) {
            write_gap(&first, out);
            write_atom(REF_TEXT(cell->ref_set->items[i]), out);
        }
    } else if (type->rep == REP_ENUM_SET) {
        for (uint64_t set = cell->enum_set; set; set &= set - 1) {
            write_gap(&first, out);
            write_atom(type->item->en->values[__builtin_ctzll(set)], out);
        }
    } else {
        write_map(cell->str_map, out);
    }
    buf_add_char(out, ')');
}
