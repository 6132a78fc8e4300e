/* One version of the whole database: a map of rows for each class, and the indexes beside them. The
 * writer changes the newest version (the head); snapshots are frozen copies of this struct. */
#pragma once
#include "garbage.h"
#include "schema.h"
#include "trie.h"
#include <db/store.h>

/* A row's place in the indexes by uuid and by name. It stays the same object over all versions of the
 * row, until one of the two changes. */
struct entry {
    uint64_t birth;
    const struct class_desc *cls;
    struct ref ref;
    uint64_t uuid_hash, name_hash;
    bool has_uuid, has_name; /* "" is in neither index */
};

/* "The row refers to the target", for references without a derived set on the other side. */
struct edge {
    uint64_t birth;
    uint64_t target_hash;
    const struct class_desc *cls; /* of the row that refers */
    struct ref ref;
};

struct version {
    const struct schema *schema;
    struct ref hash_key;
    uint64_t generation;
    uint64_t oldest_token;  /* deletions up to here are forgotten */
    uint64_t runtime_token; /* the same for rows that are not on disk: when the store was opened */
    uint64_t lazy_token;    /* the same for rows that may have been lost with the machine */
    struct trie changes;    /* rows by the generation of their last change */
    struct trie tombstones; /* by the generation of their deletion */
    struct trie uuids, names;
    struct trie edges; /* read by the writer only */
    struct trie rows[];
};

size_t version_size(const struct schema *schema);

/* ---- reading ---- */
const struct row *version_get(const struct version *v, const struct class_desc *cls, struct ref ref);
/* The smallest ref when several rows have that uuid. */
const struct row *version_by_uuid(const struct version *v, const struct class_desc *cls, const char *uuid);
/* Calls fn for each row with that name, in no order. */
void version_by_name(const struct version *v, const struct class_desc *cls, const char *name,
                     void (*fn)(const struct row *row, void *arg), void *arg);
/* Is a row of a class with names, which has one, found by it? */
bool version_has_name(const struct version *v, const struct row *row);
bool version_each(const struct version *v, const struct class_desc *cls,
                  bool (*fn)(const struct row *row, void *arg), void *arg);
/* Calls fn for each row that may hold a plain reference to the target: a few may not. */
void version_referrers(const struct version *v, struct ref target,
                       void (*fn)(const struct class_desc *cls, struct ref ref, void *arg), void *arg);
/* Is the row among them? */
bool version_has_referrer(const struct version *v, struct ref target, const struct row *row);

/* ---- writing: the head, by one thread ---- */
/* The row's generation and creation are set; its count moves in. `old`: the version that it replaces. */
void version_put(struct version *v, const struct trie_edit *edit, const struct row *old, struct row *row);
/* Takes a row out; without a tombstone. */
void version_delete(struct version *v, const struct trie_edit *edit, const struct row *old);
/* Gives a row that no reader can know yet a new generation, in place. */
void version_renew(struct version *v, const struct trie_edit *edit, struct row *row, uint64_t generation);
void version_bury(struct version *v, const struct trie_edit *edit, const struct store_tombstone *gone);
/* Forgets the oldest tombstones beyond `keep`. */
void version_forget(struct version *v, const struct trie_edit *edit, uint64_t keep);
/* Frees all that was born after `generation`. */
void version_free_after(struct version *v, uint64_t generation);

/* ---- a whole version at once, for loading: no two threads may build the same map ---- */
/* The map of a class. False: two rows have the same reference. */
bool version_build_rows(struct version *v, const struct class_desc *cls, uint64_t birth,
                        struct row *const *rows, size_t count);
/* The index of changes and the plain references. False: as above, in two classes. */
bool version_build_changes(struct version *v, uint64_t birth, struct row *const *rows, size_t count);
/* The indexes by uuid and by name. */
void version_build_names(struct version *v, uint64_t birth, struct row *const *rows, size_t count);

/* ---- parts of the above: names.c and edges.c; either row may be NULL ---- */
void names_update(struct version *v, const struct trie_edit *edit, const struct row *old,
                  const struct row *row);
void edges_update(struct version *v, const struct trie_edit *edit, const struct row *old,
                  const struct row *row);
void edges_build(struct version *v, uint64_t birth, struct row *const *rows, size_t count);

/* Keys of the leaves. */
struct trie_key row_ref_key(const void *row);
struct trie_key row_change_key(const void *row);
struct trie_key tombstone_key(const void *tombstone);
struct trie_key entry_uuid_key(const void *entry);
struct trie_key entry_name_key(const void *entry);
struct trie_key edge_key(const void *edge);
