/* store_check: everything that a version promises, verified the slow way. */
#include "store_impl.h"
#include <base/mem.h>

struct check {
    const struct version *v;
    struct store_err *err;
    int result;
    uint64_t rows, uuids, names, edges;
};

static bool fault(struct check *check, const struct row *row, const char *what, const char *field)
{
    check->result = store_err_set(check->err, STORE_E_CORRUPT, "%s %s: %s %s", row->cls->name,
                                  REF_TEXT(row->ref), what, field);
    return false;
}

static bool holds(const struct row *row, const struct field_desc *field, struct ref ref)
{
    const union cell *cell = row_cell(row, field);
    return field->type->rep == REP_REF ? ref_eq(cell->ref, ref) : ref_set_has(cell->ref_set, ref);
}

struct ref_check {
    struct check *check;
    const struct row *row;
    const struct field_desc *field;
    bool plain;
    bool good;
    struct ref *targets; /* of plain references, each once */
    size_t count;
};

static void check_ref(struct ref ref, void *arg)
{
    struct ref_check *at = arg;
    const struct row *target = version_get(at->check->v, field_target(at->field), ref);
    if (!target)
        at->good = fault(at->check, at->row, "dangling reference in", at->field->name);
    else if (!at->plain && !holds(target, at->field->inverse, at->row->ref))
        at->good = fault(at->check, at->row, "not in the set of the other side of", at->field->name);
    else if (at->plain && !version_has_referrer(at->check->v, ref, at->row))
        at->good = fault(at->check, at->row, "no edge for", at->field->name);
    if (!at->plain)
        return;
    for (size_t i = 0; i < at->count; i++)
        if (ref_eq(at->targets[i], ref))
            return;
    at->targets = xreallocarray(at->targets, at->count + 1, sizeof(at->targets[0]));
    at->targets[at->count++] = ref;
}

static bool check_references(struct check *check, const struct row *row)
{
    const struct class_plan *plan = plan_of(check->v->schema, row->cls);
    struct ref_check at = {.check = check, .row = row, .good = true};
    for (uint16_t i = 0; i < plan->relations.count; i++) {
        at.field = plan->relations.items[i];
        cell_each_ref(at.field, row_cell(row, at.field), check_ref, &at);
    }
    at.plain = true;
    for (uint16_t i = 0; i < plan->plain.count; i++) {
        at.field = plan->plain.items[i];
        cell_each_ref(at.field, row_cell(row, at.field), check_ref, &at);
    }
    check->edges += at.count;
    free(at.targets);
    return at.good;
}

static bool check_derived(struct check *check, const struct row *row)
{
    const struct class_plan *plan = plan_of(check->v->schema, row->cls);
    for (uint16_t i = 0; i < plan->derived.count; i++) {
        const struct field_desc *field = plan->derived.items[i];
        const struct ref_set *set = row_cell(row, field)->ref_set;
        for (uint32_t m = 0; set && m < set->count; m++) {
            const struct row *member = version_get(check->v, field->inverse->cls, set->items[m]);
            if (!member || !holds(member, field->inverse, row->ref))
                return fault(check, row, "a member does not refer back in", field->name);
            if (m > 0 && ref_cmp(set->items[m - 1], set->items[m]) >= 0)
                return fault(check, row, "disorder in", field->name);
        }
    }
    return true;
}

static bool check_indexes(struct check *check, const struct row *row)
{
    const struct class_desc *cls = row->cls;
    struct trie_key key = row_change_key(row);
    if (trie_get(&check->v->changes, row_change_key, &key) != row)
        return fault(check, row, "not among the changes", "");
    if (cls->uuid && *row_cell(row, cls->uuid)->str) {
        const struct row *found = version_by_uuid(check->v, cls, row_cell(row, cls->uuid)->str);
        if (!found || !str_eq(row_cell(found, cls->uuid)->str, row_cell(row, cls->uuid)->str))
            return fault(check, row, "not found by", cls->uuid->name);
        check->uuids++;
    }
    if (cls->name_label && *row_cell(row, cls->name_label)->str) {
        if (!version_has_name(check->v, row))
            return fault(check, row, "not found by", cls->name_label->name);
        check->names++;
    }
    return true;
}

static bool check_row(const struct row *row, void *arg)
{
    struct check *check = arg;
    check->rows++;
    if (row->generation > check->v->generation || row->created > row->generation || row->created == 0)
        return fault(check, row, "generation out of order", "");
    return check_indexes(check, row) && check_references(check, row) && check_derived(check, row);
}

static bool check_tombstone(const void *leaf, void *arg)
{
    struct check *check = arg;
    const struct store_tombstone *gone = leaf;
    if (!version_get(check->v, gone->cls, gone->ref) && gone->deleted <= check->v->generation &&
        gone->created < gone->deleted && gone->deleted > check->v->oldest_token)
        return true;
    check->result = store_err_set(
        check->err, STORE_E_CORRUPT,
        "%s %s: wrong tombstone (created %llu, deleted %llu; oldest %llu, now %llu)", gone->cls->name,
        REF_TEXT(gone->ref), (unsigned long long)gone->created, (unsigned long long)gone->deleted,
        (unsigned long long)check->v->oldest_token, (unsigned long long)check->v->generation);
    return false;
}

static int check_count(struct check *check, const char *what, uint64_t there, uint64_t expected)
{
    if (check->result == 0 && there != expected)
        check->result = store_err_set(check->err, STORE_E_CORRUPT, "%s: %llu instead of %llu", what,
                                      (unsigned long long)there, (unsigned long long)expected);
    return check->result;
}

int store_check(struct store *store, struct store_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(store);
    const struct version *v = snap->version;
    struct check check = {.v = v, .err = err};
    for (uint16_t i = 0; i < v->schema->class_count && check.result == 0; i++) {
        uint64_t before = check.rows;
        version_each(v, &v->schema->classes[i], check_row, &check);
        check_count(&check, v->schema->classes[i].name, v->rows[i].count, check.rows - before);
    }
    if (check.result == 0)
        trie_each(&v->tombstones, tombstone_key, NULL, check_tombstone, &check);
    check_count(&check, "changes", v->changes.count, check.rows);
    check_count(&check, "uuids", v->uuids.count, check.uuids);
    check_count(&check, "names", v->names.count, check.names);
    return check_count(&check, "edges", v->edges.count, check.edges);
}
