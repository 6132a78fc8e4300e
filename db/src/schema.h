/* What the store needs to know of the data model, worked out once from the descriptors: which fields
 * are references, which sets are derived from them, which fields have columns. */
#pragma once
#include <model/model.h>

struct field_list {
    const struct field_desc **items;
    uint16_t count;
};

struct class_plan {
    const struct class_desc *cls;
    struct field_list relations; /* references and free sets whose other side the store keeps */
    struct field_list plain;     /* references, sets and maps of references without another side */
    struct field_list derived;   /* the sets that the store keeps */
    struct field_list columns;   /* on disk, in the order of declaration; empty unless CLASS_PERSIST */
};

struct schema {
    const struct class_desc *classes;
    uint16_t class_count;
    int version;
    struct class_plan *plans; /* by class_desc.index */
};

void schema_init(struct schema *schema, const struct class_desc *classes, uint16_t class_count, int version);
void schema_done(struct schema *schema);

static inline const struct class_plan *plan_of(const struct schema *schema, const struct class_desc *cls)
{
    return &schema->plans[cls->index];
}

/* The class that a field's references point at, when its rows are in the store; else NULL. For a map
 * that is the class of its keys, or else that of its values. */
const struct class_desc *field_target(const struct field_desc *field);
/* Calls fn for each reference in the value (REP_REF, REP_REF_SET, REP_STR_MAP), null ones left out. */
void cell_each_ref(const struct field_desc *field, const union cell *cell,
                   void (*fn)(struct ref ref, void *arg), void *arg);
/* Removes the references for which `gone` is true. True: the value changed. */
bool cell_drop_refs(const struct field_desc *field, union cell *cell, bool (*gone)(struct ref ref, void *arg),
                    void *arg);
