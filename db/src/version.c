/* Reading and changing a version of the database; keeps the maps of rows and all indexes in step. */
#include "version.h"
#include <assert.h>
#include <base/mem.h>

struct trie_key row_ref_key(const void *leaf)
{
    return trie_key(0, ((const struct row *)leaf)->ref);
}

struct trie_key row_change_key(const void *leaf)
{
    const struct row *row = leaf;
    return trie_key(row->generation, row->ref);
}

struct trie_key tombstone_key(const void *leaf)
{
    const struct store_tombstone *gone = leaf;
    return trie_key(gone->deleted, gone->ref);
}

size_t version_size(const struct schema *schema)
{
    return sizeof(struct version) + schema->class_count * sizeof(struct trie);
}

/* ---- reading ---- */

const struct row *version_get(const struct version *v, const struct class_desc *cls, struct ref ref)
{
    struct trie_key key = trie_key(0, ref);
    return trie_get(&v->rows[cls->index], row_ref_key, &key);
}

struct each_row {
    bool (*fn)(const struct row *row, void *arg);
    void *arg;
};

static bool each_row_visit(const void *leaf, void *arg)
{
    const struct each_row *each = arg;
    return each->fn(leaf, each->arg);
}

bool version_each(const struct version *v, const struct class_desc *cls,
                  bool (*fn)(const struct row *row, void *arg), void *arg)
{
    struct each_row each = {fn, arg};
    return trie_each(&v->rows[cls->index], row_ref_key, NULL, each_row_visit, &each);
}

/* ---- rows ---- */

static void change_remove(struct version *v, const struct trie_edit *edit, const struct row *row)
{
    struct trie_key key = row_change_key(row);
    const void *gone = trie_remove(&v->changes, row_change_key, edit, &key);
    assert(gone == row);
    (void)gone;
}

void version_put(struct version *v, const struct trie_edit *edit, const struct row *old, struct row *row)
{
    assert(!old || (old->cls == row->cls && ref_eq(old->ref, row->ref) && old->generation < row->generation));
    names_update(v, edit, old, row);
    edges_update(v, edit, old, row);
    if (old)
        change_remove(v, edit, old);
    trie_put(&v->changes, row_change_key, edit, row);
    const void *before = trie_put(&v->rows[row->cls->index], row_ref_key, edit, row);
    assert(before == old);
    (void)before;
    if (old)
        garbage_retire(edit, GARBAGE_ROW, old->generation, (void *)(uintptr_t)old);
}

void version_delete(struct version *v, const struct trie_edit *edit, const struct row *old)
{
    names_update(v, edit, old, NULL);
    edges_update(v, edit, old, NULL);
    change_remove(v, edit, old);
    struct trie_key key = row_ref_key(old);
    trie_remove(&v->rows[old->cls->index], row_ref_key, edit, &key);
    garbage_retire(edit, GARBAGE_ROW, old->generation, (void *)(uintptr_t)old);
}

void version_renew(struct version *v, const struct trie_edit *edit, struct row *row, uint64_t generation)
{
    assert(row->generation > edit->frozen);
    change_remove(v, edit, row);
    row->generation = generation;
    trie_put(&v->changes, row_change_key, edit, row);
}

void version_bury(struct version *v, const struct trie_edit *edit, const struct store_tombstone *gone)
{
    struct store_tombstone *kept = xmalloc(sizeof(*kept));
    *kept = *gone;
    trie_put(&v->tombstones, tombstone_key, edit, kept);
}

void version_forget(struct version *v, const struct trie_edit *edit, uint64_t keep)
{
    while (v->tombstones.count > keep) {
        const struct store_tombstone *gone = trie_first(&v->tombstones);
        struct trie_key key = tombstone_key(gone);
        trie_remove(&v->tombstones, tombstone_key, edit, &key);
        v->oldest_token = gone->deleted;
        garbage_retire(edit, GARBAGE_TOMBSTONE, gone->deleted, (void *)(uintptr_t)gone);
    }
}

/* ---- a whole version ---- */

bool version_build_rows(struct version *v, const struct class_desc *cls, uint64_t birth,
                        struct row *const *rows, size_t count)
{
    AUTO_FREE struct trie_item *items = xreallocarray(NULL, count, sizeof(*items));
    for (size_t i = 0; i < count; i++)
        items[i] = (struct trie_item){row_ref_key(rows[i]), rows[i]};
    return trie_build(&v->rows[cls->index], birth, items, count);
}

bool version_build_changes(struct version *v, uint64_t birth, struct row *const *rows, size_t count)
{
    AUTO_FREE struct trie_item *items = xreallocarray(NULL, count, sizeof(*items));
    for (size_t i = 0; i < count; i++)
        items[i] = (struct trie_item){row_change_key(rows[i]), rows[i]};
    if (!trie_build(&v->changes, birth, items, count))
        return false;
    edges_build(v, birth, rows, count);
    return true;
}

/* ---- the end of a version ---- */

static void row_free_after(const void *leaf, void *arg)
{
    const struct row *row = leaf;
    if (row->generation > *(const uint64_t *)arg)
        row_unref(row);
}

static void tombstone_free_after(const void *leaf, void *arg)
{
    const struct store_tombstone *gone = leaf;
    if (gone->deleted > *(const uint64_t *)arg)
        free((void *)(uintptr_t)leaf);
}

static void edge_free_after(const void *leaf, void *arg)
{
    const struct edge *edge = leaf;
    if (edge->birth > *(const uint64_t *)arg)
        free((void *)(uintptr_t)leaf);
}

static void entry_uuid_free_after(const void *leaf, void *arg)
{
    const struct entry *entry = leaf;
    if (entry->birth > *(const uint64_t *)arg && !entry->has_name) /* the others: by the map of names */
        free((void *)(uintptr_t)leaf);
}

static void entry_name_free_after(const void *leaf, void *arg)
{
    const struct entry *entry = leaf;
    if (entry->birth > *(const uint64_t *)arg)
        free((void *)(uintptr_t)leaf);
}

void version_free_after(struct version *v, uint64_t generation)
{
    /* Trees that borrow their leaves come first, because freeing a tree reads only nodes and, for
     * leaves, what leaf_fn looks at. */
    trie_free_after(&v->changes, generation, NULL, NULL);
    trie_free_after(&v->uuids, generation, entry_uuid_free_after, &generation);
    trie_free_after(&v->names, generation, entry_name_free_after, &generation);
    trie_free_after(&v->edges, generation, edge_free_after, &generation);
    trie_free_after(&v->tombstones, generation, tombstone_free_after, &generation);
    for (uint16_t i = 0; i < v->schema->class_count; i++)
        trie_free_after(&v->rows[i], generation, row_free_after, &generation);
}
