/* Values by representation: life cycle and comparison. One switch over enum rep each; the readers and
 * writers are in cell_json.c, cell_xml.c, cell_text.c and cell_read.c. */
#include <jansson.h>
#include <model/model.h>
#include <string.h>

void cell_init(const struct type *type, union cell *cell)
{
    switch (type->rep) {
    case REP_VOID:
        break;
    case REP_BOOL:
        cell->b = false;
        break;
    case REP_INT:
        cell->i = 0;
        break;
    case REP_FLOAT:
        cell->d = 0;
        break;
    case REP_ENUM:
        cell->e = 0;
        break;
    case REP_STRING:
        cell->str = "";
        break;
    case REP_REF:
        cell->ref = REF_NULL;
        break;
    case REP_STR_SET:
        cell->str_set = NULL;
        break;
    case REP_REF_SET:
        cell->ref_set = NULL;
        break;
    case REP_ENUM_SET:
        cell->enum_set = 0;
        break;
    case REP_STR_MAP:
        cell->str_map = NULL;
        break;
    case REP_JSON:
        cell->json = NULL;
        break;
    }
}

void cell_done(const struct type *type, union cell *cell)
{
    switch (type->rep) {
    case REP_VOID:
    case REP_BOOL:
    case REP_INT:
    case REP_FLOAT:
    case REP_ENUM:
    case REP_REF:
    case REP_ENUM_SET:
        break;
    case REP_STRING:
        str_unref(cell->str);
        break;
    case REP_STR_SET:
        str_set_unref(cell->str_set);
        break;
    case REP_REF_SET:
        ref_set_unref(cell->ref_set);
        break;
    case REP_STR_MAP:
        str_map_unref(cell->str_map);
        break;
    case REP_JSON:
        json_decref(cell->json);
        break;
    }
}

void cell_copy(const struct type *type, union cell *to, const union cell *from)
{
    switch (type->rep) {
    case REP_VOID:
        break;
    case REP_BOOL:
        to->b = from->b;
        break;
    case REP_INT:
        to->i = from->i;
        break;
    case REP_FLOAT:
        to->d = from->d;
        break;
    case REP_ENUM:
        to->e = from->e;
        break;
    case REP_STRING:
        to->str = str_ref(from->str);
        break;
    case REP_REF:
        to->ref = from->ref;
        break;
    case REP_STR_SET:
        to->str_set = str_set_ref(from->str_set);
        break;
    case REP_REF_SET:
        to->ref_set = ref_set_ref(from->ref_set);
        break;
    case REP_ENUM_SET:
        to->enum_set = from->enum_set;
        break;
    case REP_STR_MAP:
        to->str_map = str_map_ref(from->str_map);
        break;
    case REP_JSON:
        to->json = json_incref(from->json);
        break;
    }
}

static bool str_set_equal(const struct str_set *a, const struct str_set *b)
{
    if (a == b)
        return true;
    uint32_t count = a ? a->count : 0;
    if (count != (b ? b->count : 0))
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!str_eq(a->items[i], b->items[i]))
            return false;
    return true;
}

static bool ref_set_equal(const struct ref_set *a, const struct ref_set *b)
{
    if (a == b)
        return true;
    uint32_t count = a ? a->count : 0;
    return count == (b ? b->count : 0) &&
           (count == 0 || memcmp(a->items, b->items, count * sizeof(a->items[0])) == 0);
}

/* NULL stands for the empty value. */
static bool json_values_equal(const json_t *a, const json_t *b)
{
    if (a == b)
        return true;
    if (!a || !b) {
        const json_t *other = a ? a : b;
        return (json_is_array(other) && json_array_size(other) == 0) ||
               (json_is_object(other) && json_object_size(other) == 0);
    }
    return json_equal(a, b) == 1;
}

bool cell_equal(const struct type *type, const union cell *a, const union cell *b)
{
    switch (type->rep) {
    case REP_VOID:
        return true;
    case REP_BOOL:
        return a->b == b->b;
    case REP_INT:
        return a->i == b->i;
    case REP_FLOAT: {
        /* By bits: a NaN is equal to itself, and a change of sign of zero is a change. */
        double x = a->d, y = b->d;
        return memcmp(&x, &y, sizeof(x)) == 0;
    }
    case REP_ENUM:
        return a->e == b->e;
    case REP_STRING:
        return str_eq(a->str, b->str);
    case REP_REF:
        return ref_eq(a->ref, b->ref);
    case REP_STR_SET:
        return str_set_equal(a->str_set, b->str_set);
    case REP_REF_SET:
        return ref_set_equal(a->ref_set, b->ref_set);
    case REP_ENUM_SET:
        return a->enum_set == b->enum_set;
    case REP_STR_MAP:
        return str_map_equal(a->str_map, b->str_map);
    case REP_JSON:
        return json_values_equal(a->json, b->json);
    }
    __builtin_unreachable();
}
