/* The end of a transaction: references to rows that are gone become null, the sets on the other side of
 * relations follow, and rows that are as they were drop out. The order matters: first deletions (which
 * edit the rows that refer), then references, then sets, then the verdict on each row. */
#include "store_impl.h"
#include <assert.h>
#include <base/mem.h>

/* "In the set `field` of the target, this member appears or disappears." */
struct delta {
    struct ref target;
    const struct field_desc *field;
    struct ref member;
    bool add;
    bool persist; /* the member's row is on disk, so the set is different after a restart too */
};
struct delta_list {
    struct delta *items;
    size_t count, cap;
};

/* ---- deletions ---- */

static bool is_target(struct ref ref, void *arg)
{
    return ref_eq(ref, *(const struct ref *)arg);
}

struct deletion {
    struct tx *tx;
    const struct class_desc *cls;
    struct ref ref;
};

static void plain_referrer(const struct class_desc *cls, struct ref ref, void *arg)
{
    struct deletion *gone = arg;
    struct tx_row *touched = tx_touch(gone->tx, cls, ref);
    const struct class_plan *plan = plan_of(&gone->tx->store->schema, cls);
    for (uint16_t i = 0; touched && touched->row && i < plan->plain.count; i++) {
        const struct field_desc *field = plan->plain.items[i];
        if (field_target(field) == gone->cls)
            cell_drop_refs(field, row_cell_mut(touched->row, field), is_target, &gone->ref);
    }
}

static void forget_row(struct tx *tx, const struct tx_row *deleted)
{
    struct deletion gone = {tx, deleted->cls, deleted->ref};
    const struct row *old = deleted->old; /* `deleted` moves when rows are touched */
    const struct class_plan *plan = plan_of(&tx->store->schema, old->cls);
    for (uint16_t i = 0; i < plan->derived.count; i++) {
        const struct field_desc *derived = plan->derived.items[i], *field = derived->inverse;
        const struct ref_set *members = row_cell(old, derived)->ref_set;
        for (uint32_t m = 0; members && m < members->count; m++) {
            struct tx_row *touched = tx_touch(tx, field->cls, members->items[m]);
            if (touched && touched->row)
                cell_drop_refs(field, row_cell_mut(touched->row, field), is_target, &gone.ref);
        }
    }
    version_referrers(tx->store->head, gone.ref, plain_referrer, &gone);
}

/* ---- references to what does not exist ---- */

struct target_search {
    struct tx *tx;
    const struct class_desc *cls;
};

static bool is_missing(struct ref ref, void *arg)
{
    const struct target_search *search = arg;
    const struct tx_row *there = tx_find(search->tx, search->cls, ref);
    return there ? !there->row : !version_get(search->tx->store->head, search->cls, ref);
}

static void clear_missing(struct tx *tx, const struct tx_row *row, const struct field_list *fields)
{
    for (uint16_t i = 0; i < fields->count; i++) {
        const struct field_desc *field = fields->items[i];
        union cell *cell = row_cell_mut(row->row, field);
        if (row->old && cell_equal(field->type, row_cell(row->old, field), cell))
            continue;
        struct target_search search = {tx, field_target(field)};
        cell_drop_refs(field, cell, is_missing, &search);
    }
}

/* ---- sets on the other side ---- */

static void delta_add(struct delta_list *list, const struct field_desc *field, struct ref target,
                      struct ref member, bool add)
{
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 32;
        list->items = xreallocarray(list->items, list->cap, sizeof(list->items[0]));
    }
    list->items[list->count++] = (struct delta){.target = target,
                                                .field = field->inverse,
                                                .member = member,
                                                .add = add,
                                                .persist = field->cls->flags & CLASS_PERSIST};
}

static void set_deltas(struct delta_list *list, const struct field_desc *field, struct ref member,
                       const struct ref_set *before, const struct ref_set *after)
{
    uint32_t b = 0, a = 0, before_count = before ? before->count : 0, after_count = after ? after->count : 0;
    while (b < before_count || a < after_count) {
        int order = b == before_count  ? 1
                    : a == after_count ? -1
                                       : ref_cmp(before->items[b], after->items[a]);
        if (order < 0)
            delta_add(list, field, before->items[b], member, false);
        else if (order > 0)
            delta_add(list, field, after->items[a], member, true);
        b += order <= 0;
        a += order >= 0;
    }
}

static void row_deltas(struct delta_list *list, const struct field_list *relations, const struct tx_row *row)
{
    for (uint16_t i = 0; i < relations->count; i++) {
        const struct field_desc *field = relations->items[i];
        const union cell *before = row->old ? row_cell(row->old, field) : NULL;
        const union cell *after = row->row ? row_cell(row->row, field) : NULL;
        if (field->type->rep == REP_REF_SET) {
            set_deltas(list, field, row->ref, before ? before->ref_set : NULL, after ? after->ref_set : NULL);
            continue;
        }
        struct ref from = before ? before->ref : REF_NULL, to = after ? after->ref : REF_NULL;
        if (ref_eq(from, to))
            continue;
        if (!ref_is_null(from))
            delta_add(list, field, from, row->ref, false);
        if (!ref_is_null(to))
            delta_add(list, field, to, row->ref, true);
    }
}

static int compare_deltas(const void *a, const void *b)
{
    const struct delta *x = a, *y = b;
    int order = ref_cmp(x->target, y->target);
    if (order == 0 && x->field != y->field)
        order = (uintptr_t)x->field < (uintptr_t)y->field ? -1 : 1;
    return order ? order : ref_cmp(x->member, y->member);
}

/* A set with room for `more` further members that only the caller holds. */
static struct ref_set *set_own(const struct ref_set *set, size_t more)
{
    size_t count = set ? set->count : 0, size = sizeof(*set) + (count + more) * sizeof(set->items[0]);
    if (set && __atomic_load_n(&set->refs, __ATOMIC_ACQUIRE) == 1)
        return more ? xrealloc((void *)(uintptr_t)set, size) : (struct ref_set *)(uintptr_t)set;
    struct ref_set *own = xmalloc(size);
    own->refs = 1;
    own->count = (uint32_t)count;
    if (count)
        memcpy(own->items, set->items, count * sizeof(set->items[0]));
    ref_set_unref(set);
    return own;
}

/* The first of items[from..to) that is not before `ref`. */
static size_t set_place(const struct ref_set *set, size_t from, size_t to, struct ref ref)
{
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (ref_cmp(set->items[middle], ref) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* Works from the back, so that each member moves at most once. There is room for the new ones. */
static void set_insert(struct ref_set *set, const struct delta *deltas, size_t count, size_t adds)
{
    size_t from = set->count, to = set->count + adds;
    set->count = (uint32_t)to;
    for (size_t d = count; d-- > 0;) {
        if (!deltas[d].add)
            continue;
        size_t at = set_place(set, 0, from, deltas[d].member);
        to -= from - at;
        memmove(&set->items[to], &set->items[at], (from - at) * sizeof(set->items[0]));
        set->items[--to] = deltas[d].member;
        from = at;
    }
}

static void set_remove(struct ref_set *set, const struct delta *deltas, size_t count)
{
    size_t kept = 0, from = 0;
    for (size_t d = 0; d < count; d++) {
        if (deltas[d].add)
            continue;
        size_t at = set_place(set, from, set->count, deltas[d].member);
        assert(at < set->count && ref_eq(set->items[at], deltas[d].member));
        memmove(&set->items[kept], &set->items[from], (at - from) * sizeof(set->items[0]));
        kept += at - from;
        from = at + 1;
    }
    memmove(&set->items[kept], &set->items[from], (set->count - from) * sizeof(set->items[0]));
    set->count = (uint32_t)(kept + set->count - from);
}

/* All deltas are of one set, in order of their members, no member twice. */
static void set_apply(const struct ref_set **slot, const struct delta *deltas, size_t count)
{
    size_t adds = 0;
    for (size_t i = 0; i < count; i++)
        adds += deltas[i].add;
    struct ref_set *set = set_own(*slot, adds);
    if (adds < count)
        set_remove(set, deltas, count);
    if (adds)
        set_insert(set, deltas, count, adds);
    *slot = set;
    if (set->count == 0) {
        ref_set_unref(set);
        *slot = NULL;
    }
}

static void drop_fragments(struct row *row)
{
    free(atomic_exchange(&row->json, NULL));
    free(atomic_exchange(&row->xml, NULL));
}

/* The overlay's entry for a row whose derived sets change; NULL when the row is gone. */
static struct tx_row *derived_target(struct tx *tx, const struct class_desc *cls, struct ref ref)
{
    struct tx_row *there = tx_find(tx, cls, ref);
    if (there)
        return there->row ? there : NULL;
    const struct row *old = version_get(tx->store->head, cls, ref);
    if (!old)
        return NULL;
    struct row *in_place = (struct row *)(uintptr_t)old;
    if (old->generation <= tx->store->frozen || atomic_load(&in_place->refs) != 1)
        return tx_add(tx, cls, ref, old, row_copy(old));
    drop_fragments(in_place);
    return tx_add(tx, cls, ref, old, in_place);
}

static void apply_deltas(struct tx *tx, struct delta_list *list)
{
    if (list->count > 1)
        qsort(list->items, list->count, sizeof(list->items[0]), compare_deltas);
    for (size_t start = 0, end; start < list->count; start = end) {
        const struct delta *first = &list->items[start];
        bool persist = false;
        for (end = start; end < list->count && list->items[end].field == first->field &&
                          ref_eq(list->items[end].target, first->target);
             end++)
            persist |= list->items[end].persist;
        const struct class_desc *cls = first->field->cls;
        struct tx_row *target = derived_target(tx, cls, first->target);
        if (!target)
            continue;
        const struct ref_set *set = row_cell(target->row, first->field)->ref_set;
        set_apply(&set, first, end - start);
        row_cell_mut(target->row, first->field)->ref_set = set;
        target->changed = true;
        /* At the next start the generation of CLASS_RUNTIME rows is new anyway. */
        if (persist && target->need < DISK_GENERATION && (cls->flags & CLASS_PERSIST) &&
            !(cls->flags & CLASS_RUNTIME))
            target->need = DISK_GENERATION;
    }
}

/* ---- the verdict ---- */

/* The store's own sets are as they were, whatever the body of the transaction did to them. */
static void restore_derived(const struct field_list *derived, const struct tx_row *row)
{
    for (uint16_t i = 0; i < derived->count; i++) {
        const struct field_desc *field = derived->items[i];
        const struct ref_set *kept = row->old ? row_cell(row->old, field)->ref_set : NULL;
        union cell *cell = row_cell_mut(row->row, field);
        assert(cell->ref_set == kept);
        if (cell->ref_set != kept) {
            ref_set_unref(cell->ref_set);
            cell->ref_set = ref_set_ref(kept);
        }
    }
}

static void judge(struct tx_row *row)
{
    bool persist = row->cls->flags & CLASS_PERSIST;
    if (!row->old || !row->row) {
        row->changed = row->old || row->row;
        row->need = persist && row->changed ? DISK_ROW : DISK_NOTHING;
        return;
    }
    for (uint16_t i = 0; i < row->cls->field_count && row->need != DISK_ROW; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if ((field->flags & FIELD_DERIVED) ||
            cell_equal(field->type, row_cell(row->old, field), row_cell(row->row, field)))
            continue;
        row->changed = true;
        if (persist && (field->flags & FIELD_PERSIST))
            row->need = DISK_ROW;
    }
}

void tx_relate(struct tx *tx)
{
    const struct schema *schema = &tx->store->schema;
    for (uint32_t i = 0; i < tx->count; i++)
        if (tx->rows[i].old && !tx->rows[i].row)
            forget_row(tx, &tx->rows[i]);
    struct delta_list deltas = {0};
    for (uint32_t i = 0; i < tx->count; i++) {
        struct tx_row *row = &tx->rows[i];
        const struct class_plan *plan = plan_of(schema, row->cls);
        if (row->row) {
            restore_derived(&plan->derived, row);
            clear_missing(tx, row, &plan->relations);
            clear_missing(tx, row, &plan->plain);
        }
        judge(row);
        row_deltas(&deltas, &plan->relations, row);
    }
    apply_deltas(tx, &deltas);
    free(deltas.items);
}
