/* The plans of classes, and references inside values. */
#include "schema.h"
#include <assert.h>
#include <base/mem.h>

static bool in_store(const struct class_desc *cls)
{
    return cls && cls->row_size > 0;
}

static const struct class_desc *ref_class(const struct type *type)
{
    return type->kind == TYPE_REF && in_store(type->cls) ? type->cls : NULL;
}

const struct class_desc *field_target(const struct field_desc *field)
{
    const struct type *type = field->type;
    if (type->rep == REP_REF)
        return ref_class(type);
    if (type->rep == REP_REF_SET)
        return ref_class(type->item);
    if (type->rep == REP_STR_MAP)
        return ref_class(type->key) ? ref_class(type->key) : ref_class(type->item);
    return NULL;
}

static void list_add(struct field_list *list, const struct field_desc *field)
{
    list->items = xreallocarray(list->items, (size_t)list->count + 1, sizeof(list->items[0]));
    list->items[list->count++] = field;
}

static void plan_init(struct class_plan *plan, const struct class_desc *cls)
{
    plan->cls = cls;
    for (uint16_t i = 0; cls->row_size && i < cls->field_count; i++) {
        const struct field_desc *field = &cls->fields[i];
        assert(field->index == i && field->cls == cls);
        if (field->flags & FIELD_DERIVED) {
            assert(field->inverse && field->type->rep == REP_REF_SET);
            list_add(&plan->derived, field);
            continue;
        }
        if ((cls->flags & CLASS_PERSIST) && (field->flags & FIELD_PERSIST))
            list_add(&plan->columns, field);
        if (!field_target(field))
            continue;
        if (field->inverse && (field->inverse->flags & FIELD_DERIVED)) {
            assert(field->inverse->inverse == field && field->inverse->cls == field_target(field));
            list_add(&plan->relations, field);
        } else {
            list_add(&plan->plain, field);
        }
    }
}

void schema_init(struct schema *schema, const struct class_desc *classes, uint16_t class_count, int version)
{
    *schema = (struct schema){.classes = classes, .class_count = class_count, .version = version};
    schema->plans = xcalloc(class_count, sizeof(schema->plans[0]));
    for (uint16_t i = 0; i < class_count; i++) {
        assert(classes[i].index == i);
        plan_init(&schema->plans[i], &classes[i]);
    }
}

void schema_done(struct schema *schema)
{
    for (uint16_t i = 0; i < schema->class_count; i++) {
        free(schema->plans[i].relations.items);
        free(schema->plans[i].plain.items);
        free(schema->plans[i].derived.items);
        free(schema->plans[i].columns.items);
    }
    free(schema->plans);
}

/* The side of a pair of a map that is a reference. */
static const char *pair_ref_text(const struct type *type, const struct str_pair *pair)
{
    return ref_class(type->key) ? pair->key : pair->value;
}

void cell_each_ref(const struct field_desc *field, const union cell *cell,
                   void (*fn)(struct ref ref, void *arg), void *arg)
{
    struct ref ref;
    if (field->type->rep == REP_REF) {
        if (!ref_is_null(cell->ref))
            fn(cell->ref, arg);
    } else if (field->type->rep == REP_REF_SET) {
        for (uint32_t i = 0; cell->ref_set && i < cell->ref_set->count; i++)
            fn(cell->ref_set->items[i], arg);
    } else if (field->type->rep == REP_STR_MAP) {
        for (uint32_t i = 0; cell->str_map && i < cell->str_map->count; i++)
            if (ref_parse(pair_ref_text(field->type, &cell->str_map->pairs[i]), &ref) && !ref_is_null(ref))
                fn(ref, arg);
    }
}

static bool drop_from_set(union cell *cell, bool (*gone)(struct ref ref, void *arg), void *arg)
{
    const struct ref_set *set = cell->ref_set;
    uint32_t count = set ? set->count : 0, kept = 0;
    AUTO_FREE struct ref *rest = xreallocarray(NULL, count, sizeof(*rest));
    for (uint32_t i = 0; i < count; i++)
        if (!gone(set->items[i], arg))
            rest[kept++] = set->items[i];
    if (kept == count)
        return false;
    cell->ref_set = ref_set_new(rest, kept);
    ref_set_unref(set);
    return true;
}

static bool drop_from_map(const struct type *type, union cell *cell, bool (*gone)(struct ref ref, void *arg),
                          void *arg)
{
    const struct str_map *map = cell->str_map;
    uint32_t count = map ? map->count : 0, kept = 0;
    AUTO_FREE struct str_pair *rest = xreallocarray(NULL, count, sizeof(*rest));
    for (uint32_t i = 0; i < count; i++) {
        struct ref ref;
        if (!ref_parse(pair_ref_text(type, &map->pairs[i]), &ref) || ref_is_null(ref) || !gone(ref, arg))
            rest[kept++] = map->pairs[i];
    }
    if (kept == count)
        return false;
    cell->str_map = str_map_new(rest, kept);
    str_map_unref(map);
    return true;
}

bool cell_drop_refs(const struct field_desc *field, union cell *cell, bool (*gone)(struct ref ref, void *arg),
                    void *arg)
{
    if (field->type->rep == REP_REF_SET)
        return drop_from_set(cell, gone, arg);
    if (field->type->rep == REP_STR_MAP)
        return drop_from_map(field->type, cell, gone, arg);
    if (ref_is_null(cell->ref) || !gone(cell->ref, arg))
        return false;
    cell->ref = REF_NULL;
    return true;
}
