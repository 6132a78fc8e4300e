/* Plain references: those without a set on the other side. The map of edges answers "who refers to this
 * row", which is asked when the row is deleted. */
#include "version.h"
#include <assert.h>
#include <base/mem.h>

struct trie_key edge_key(const void *leaf)
{
    const struct edge *edge = leaf;
    return trie_key(edge->target_hash, edge->ref);
}

/* References are random: mixing their halves is hash enough. */
static uint64_t target_hash(struct ref target)
{
    return target.hi ^ (target.lo << 31 | target.lo >> 33);
}

struct referrer_search {
    uint64_t hash;
    void (*fn)(const struct class_desc *cls, struct ref ref, void *arg);
    void *arg;
};

static bool referrer_visit(const void *leaf, void *arg)
{
    const struct referrer_search *search = arg;
    const struct edge *edge = leaf;
    if (edge->target_hash != search->hash)
        return false;
    search->fn(edge->cls, edge->ref, search->arg);
    return true;
}

void version_referrers(const struct version *v, struct ref target,
                       void (*fn)(const struct class_desc *cls, struct ref ref, void *arg), void *arg)
{
    struct referrer_search search = {target_hash(target), fn, arg};
    struct trie_key from = trie_key(search.hash, REF_NULL);
    trie_each(&v->edges, edge_key, &from, referrer_visit, &search);
}

bool version_has_referrer(const struct version *v, struct ref target, const struct row *row)
{
    struct trie_key key = trie_key(target_hash(target), row->ref);
    const struct edge *edge = trie_get(&v->edges, edge_key, &key);
    return edge && edge->cls == row->cls;
}

struct hash_list {
    uint64_t *items;
    size_t count, cap;
};

static void hash_list_add(struct ref ref, void *arg)
{
    struct hash_list *list = arg;
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 16;
        list->items = xreallocarray(list->items, list->cap, sizeof(list->items[0]));
    }
    list->items[list->count++] = target_hash(ref);
}

static int compare_hashes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The targets of a row's plain references, in order, each once. */
static struct hash_list targets_of(const struct class_plan *plan, const struct row *row)
{
    struct hash_list list = {0};
    for (uint16_t i = 0; row && i < plan->plain.count; i++)
        cell_each_ref(plan->plain.items[i], row_cell(row, plan->plain.items[i]), hash_list_add, &list);
    if (list.count > 1) {
        qsort(list.items, list.count, sizeof(list.items[0]), compare_hashes);
        size_t kept = 1;
        for (size_t i = 1; i < list.count; i++)
            if (list.items[i] != list.items[kept - 1])
                list.items[kept++] = list.items[i];
        list.count = kept;
    }
    return list;
}

static bool plain_refs_equal(const struct class_plan *plan, const struct row *a, const struct row *b)
{
    for (uint16_t i = 0; i < plan->plain.count; i++) {
        const struct field_desc *field = plan->plain.items[i];
        if (!cell_equal(field->type, row_cell(a, field), row_cell(b, field)))
            return false;
    }
    return true;
}

static void edge_remove(struct version *v, const struct trie_edit *edit, uint64_t hash, struct ref ref)
{
    struct trie_key key = trie_key(hash, ref);
    struct edge *edge = (struct edge *)(uintptr_t)trie_remove(&v->edges, edge_key, edit, &key);
    assert(edge);
    garbage_retire(edit, GARBAGE_EDGE, edge->birth, edge);
}

static struct edge *edge_new(uint64_t birth, uint64_t hash, const struct row *row)
{
    struct edge *edge = xmalloc(sizeof(*edge));
    *edge = (struct edge){.birth = birth, .target_hash = hash, .cls = row->cls, .ref = row->ref};
    return edge;
}

static void edge_add(struct version *v, const struct trie_edit *edit, uint64_t hash, const struct row *row)
{
    const void *before = trie_put(&v->edges, edge_key, edit, edge_new(edit->birth, hash, row));
    assert(!before);
    (void)before;
}

void edges_update(struct version *v, const struct trie_edit *edit, const struct row *old,
                  const struct row *row)
{
    const struct class_plan *plan = plan_of(v->schema, old ? old->cls : row->cls);
    if (plan->plain.count == 0 || (old && row && plain_refs_equal(plan, old, row)))
        return;
    struct hash_list before = targets_of(plan, old), after = targets_of(plan, row);
    size_t b = 0, a = 0;
    while (b < before.count || a < after.count) {
        if (a == after.count || (b < before.count && before.items[b] < after.items[a])) {
            edge_remove(v, edit, before.items[b++], old->ref);
        } else if (b == before.count || after.items[a] < before.items[b]) {
            edge_add(v, edit, after.items[a++], row);
        } else {
            a++;
            b++;
        }
    }
    free(before.items);
    free(after.items);
}

void edges_build(struct version *v, uint64_t birth, struct row *const *rows, size_t count)
{
    AUTO_FREE struct trie_item *items = NULL;
    size_t used = 0, cap = 0;
    for (size_t i = 0; i < count; i++) {
        struct hash_list targets = targets_of(plan_of(v->schema, rows[i]->cls), rows[i]);
        if (used + targets.count > cap) {
            cap = 2 * cap + targets.count;
            items = xreallocarray(items, cap, sizeof(*items));
        }
        for (size_t t = 0; t < targets.count; t++) {
            const struct edge *edge = edge_new(birth, targets.items[t], rows[i]);
            items[used++] = (struct trie_item){edge_key(edge), edge};
        }
        free(targets.items);
    }
    bool distinct = trie_build(&v->edges, birth, items, used);
    assert(distinct);
    (void)distinct;
}
