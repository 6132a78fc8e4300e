/* The indexes by uuid and by name. A row has one entry in both, found by a keyed hash of the text; the
 * text itself is compared in the row. Rows without a text are in no index. */
#include "hash.h"
#include "version.h"
#include <assert.h>
#include <base/mem.h>

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

/* ---- searching ---- */

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

bool version_has_name(const struct version *v, const struct row *row)
{
    struct trie_key key = trie_key(text_hash(v, row->cls, row_text(row, row->cls->name_label)), row->ref);
    const struct entry *entry = trie_get(&v->names, entry_name_key, &key);
    return entry && entry->cls == row->cls;
}

/* ---- changing ---- */

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
        garbage_retire(edit, GARBAGE_ENTRY, entry->birth, entry);
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

void names_update(struct version *v, const struct trie_edit *edit, const struct row *old,
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
