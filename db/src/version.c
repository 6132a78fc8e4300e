/* Reading and changing a version of the database; keeps the maps of rows and all indexes in step. */
#include "version.h"
#include "hash.h"
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

struct trie_key entry_uuid_key(const void *leaf)
{
    const struct entry *entry = leaf;
    return trie_key(entry->uuid_hash, entry->ref);
}

struct trie_key entry_name_key(const void *leaf)
{
    const struct entry *entry = leaf;
    return trie_key(entry->name_hash, entry->ref);
}

struct trie_key edge_key(const void *leaf)
{
    const struct edge *edge = leaf;
    return trie_key(edge->target_hash, edge->ref);
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

static uint64_t text_hash(const struct version *v, const struct class_desc *cls, const char *text)
{
    return hash_bytes(v->hash_key, cls->index, text, strlen(text));
}

static const char *row_text(const struct row *row, const struct field_desc *field)
{
    return row_cell(row, field)->str;
}

struct text_search {
    const struct version *v;
    const struct class_desc *cls;
    const struct field_desc *field;
    const char *text;
    uint64_t hash;
    bool by_name;
    void (*fn)(const struct row *row, void *arg);
    void *arg;
    const struct row *first; /* without fn: where the search ends */
};

static bool text_visit(const void *leaf, void *arg)
{
    struct text_search *search = arg;
    const struct entry *entry = leaf;
    if ((search->by_name ? entry->name_hash : entry->uuid_hash) != search->hash)
        return false;
    const struct row *row = entry->cls == search->cls ? version_get(search->v, entry->cls, entry->ref) : NULL;
    if (!row || !streq(row_text(row, search->field), search->text))
        return true;
    if (!search->fn) {
        search->first = row;
        return false;
    }
    search->fn(row, search->arg);
    return true;
}

const struct row *version_by_uuid(const struct version *v, const struct class_desc *cls, const char *uuid)
{
    if (!cls->uuid || *uuid == '\0')
        return NULL;
    struct text_search search = {
        .v = v, .cls = cls, .field = cls->uuid, .text = uuid, .hash = text_hash(v, cls, uuid)};
    struct trie_key from = trie_key(search.hash, REF_NULL);
    trie_each(&v->uuids, entry_uuid_key, &from, text_visit, &search);
    return search.first;
}

struct unnamed_search {
    void (*fn)(const struct row *row, void *arg);
    void *arg;
};

static bool unnamed_visit(const void *leaf, void *arg)
{
    const struct unnamed_search *search = arg;
    const struct row *row = leaf;
    if (*row_text(row, row->cls->name_label) == '\0')
        search->fn(row, search->arg);
    return true;
}

void version_by_name(const struct version *v, const struct class_desc *cls, const char *name,
                     void (*fn)(const struct row *row, void *arg), void *arg)
{
    if (!cls->name_label)
        return;
    if (*name == '\0') {
        struct unnamed_search search = {fn, arg};
        trie_each(&v->rows[cls->index], row_ref_key, NULL, unnamed_visit, &search);
        return;
    }
    struct text_search search = {.v = v,
                                 .cls = cls,
                                 .field = cls->name_label,
                                 .text = name,
                                 .by_name = true,
                                 .hash = text_hash(v, cls, name),
                                 .fn = fn,
                                 .arg = arg};
    struct trie_key from = trie_key(search.hash, REF_NULL);
    trie_each(&v->names, entry_name_key, &from, text_visit, &search);
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

/* ---- plain references ---- */

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

/* An object leaves this version; if no reader can know it, it is freed at once. */
static void retire(const struct trie_edit *edit, enum garbage_kind kind, uint64_t birth, void *object)
{
    struct garbage now = {0}, *list = birth > edit->frozen ? &now : edit->dead;
    garbage_add(list, kind, object);
    if (list == &now)
        garbage_free_after(&now, edit->frozen, NULL);
}

static void edge_remove(struct version *v, const struct trie_edit *edit, uint64_t hash, struct ref ref)
{
    struct trie_key key = trie_key(hash, ref);
    struct edge *edge = (struct edge *)(uintptr_t)trie_remove(&v->edges, edge_key, edit, &key);
    assert(edge);
    retire(edit, GARBAGE_EDGE, edge->birth, edge);
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

/* Either may be NULL. */
static void edges_update(struct version *v, const struct trie_edit *edit, const struct row *old,
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

/* ---- uuid and name ---- */

static bool text_field_equal(const struct field_desc *field, const struct row *a, const struct row *b)
{
    return !field || str_eq(row_text(a, field), row_text(b, field));
}

static void entry_remove(struct version *v, const struct trie_edit *edit, const struct row *old)
{
    const struct class_desc *cls = old->cls;
    struct entry *entry = NULL;
    if (cls->uuid && *row_text(old, cls->uuid)) {
        struct trie_key key = trie_key(text_hash(v, cls, row_text(old, cls->uuid)), old->ref);
        entry = (struct entry *)(uintptr_t)trie_remove(&v->uuids, entry_uuid_key, edit, &key);
        assert(entry);
    }
    if (cls->name_label && *row_text(old, cls->name_label)) {
        struct trie_key key = trie_key(text_hash(v, cls, row_text(old, cls->name_label)), old->ref);
        entry = (struct entry *)(uintptr_t)trie_remove(&v->names, entry_name_key, edit, &key);
        assert(entry);
    }
    if (entry)
        retire(edit, GARBAGE_ENTRY, entry->birth, entry);
}

/* NULL: the row is in neither index. */
static struct entry *entry_new(const struct version *v, uint64_t birth, const struct row *row)
{
    const struct class_desc *cls = row->cls;
    struct entry made = {.birth = birth, .cls = cls, .ref = row->ref};
    made.has_uuid = cls->uuid && *row_text(row, cls->uuid);
    made.has_name = cls->name_label && *row_text(row, cls->name_label);
    if (!made.has_uuid && !made.has_name)
        return NULL;
    if (made.has_uuid)
        made.uuid_hash = text_hash(v, cls, row_text(row, cls->uuid));
    if (made.has_name)
        made.name_hash = text_hash(v, cls, row_text(row, cls->name_label));
    struct entry *entry = xmalloc(sizeof(*entry));
    *entry = made;
    return entry;
}

static void entry_add(struct version *v, const struct trie_edit *edit, const struct row *row)
{
    struct entry *entry = entry_new(v, edit->birth, row);
    if (entry && entry->has_uuid)
        trie_put(&v->uuids, entry_uuid_key, edit, entry);
    if (entry && entry->has_name)
        trie_put(&v->names, entry_name_key, edit, entry);
}

/* Either may be NULL. */
static void entry_update(struct version *v, const struct trie_edit *edit, const struct row *old,
                         const struct row *row)
{
    const struct class_desc *cls = old ? old->cls : row->cls;
    if (old && row && text_field_equal(cls->uuid, old, row) && text_field_equal(cls->name_label, old, row))
        return;
    if (old)
        entry_remove(v, edit, old);
    if (row)
        entry_add(v, edit, row);
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
    entry_update(v, edit, old, row);
    edges_update(v, edit, old, row);
    if (old)
        change_remove(v, edit, old);
    trie_put(&v->changes, row_change_key, edit, row);
    const void *before = trie_put(&v->rows[row->cls->index], row_ref_key, edit, row);
    assert(before == old);
    (void)before;
    if (old)
        retire(edit, GARBAGE_ROW, old->generation, (void *)(uintptr_t)old);
}

void version_delete(struct version *v, const struct trie_edit *edit, const struct row *old)
{
    entry_update(v, edit, old, NULL);
    edges_update(v, edit, old, NULL);
    change_remove(v, edit, old);
    struct trie_key key = row_ref_key(old);
    trie_remove(&v->rows[old->cls->index], row_ref_key, edit, &key);
    retire(edit, GARBAGE_ROW, old->generation, (void *)(uintptr_t)old);
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
        retire(edit, GARBAGE_TOMBSTONE, gone->deleted, (void *)(uintptr_t)gone);
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

static void build_edges(struct version *v, uint64_t birth, struct row *const *rows, size_t count)
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

bool version_build_changes(struct version *v, uint64_t birth, struct row *const *rows, size_t count)
{
    AUTO_FREE struct trie_item *items = xreallocarray(NULL, count, sizeof(*items));
    for (size_t i = 0; i < count; i++)
        items[i] = (struct trie_item){row_change_key(rows[i]), rows[i]};
    if (!trie_build(&v->changes, birth, items, count))
        return false;
    build_edges(v, birth, rows, count);
    return true;
}

void version_build_names(struct version *v, uint64_t birth, struct row *const *rows, size_t count)
{
    AUTO_FREE struct trie_item *uuids = xreallocarray(NULL, count, sizeof(*uuids));
    AUTO_FREE struct trie_item *names = xreallocarray(NULL, count, sizeof(*names));
    size_t uuid_count = 0, name_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct entry *entry = entry_new(v, birth, rows[i]);
        if (entry && entry->has_uuid)
            uuids[uuid_count++] = (struct trie_item){entry_uuid_key(entry), entry};
        if (entry && entry->has_name)
            names[name_count++] = (struct trie_item){entry_name_key(entry), entry};
    }
    bool distinct = trie_build(&v->uuids, birth, uuids, uuid_count);
    distinct &= trie_build(&v->names, birth, names, name_count);
    assert(distinct);
    (void)distinct;
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
