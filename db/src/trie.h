/* A persistent, ordered map: an immutable radix tree whose versions share what did not change.
 *
 * Keys are 24 bytes, compared as numbers from the first word to the last. A leaf is an object of the
 * caller's that knows its own key; the tree holds pointers to leaves and never frees one. A node
 * branches 64 ways on six bits of the key and skips bits in which its leaves agree, so random and
 * sequential keys both give shallow trees.
 *
 * Writing copies the nodes on the path to the change, except those that no reader can know yet: a
 * node carries the generation of its birth, and one born after `frozen` is changed in place. Replaced
 * nodes go to a list of garbage, for the caller to free when the last reader that may see them is gone.
 * One writer at a time; any number of readers of older versions, without any lock. */
#pragma once
#include <base/ref.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct trie_key {
    uint64_t word[3];
};

static inline struct trie_key trie_key(uint64_t prefix, struct ref ref)
{
    return (struct trie_key){{prefix, ref.hi, ref.lo}};
}

/* One version of a map. All zero: empty. */
struct trie {
    uintptr_t root;
    uint64_t count;
};

typedef struct trie_key trie_key_fn(const void *leaf);

struct garbage;
/* How a change is made. */
struct trie_edit {
    uint64_t frozen;      /* nodes born at or before this may be seen by readers */
    uint64_t birth;       /* of nodes that are made now; larger than `frozen` */
    struct garbage *dead; /* gets the nodes that this version no longer uses */
};

/* NULL: no such key. */
const void *trie_get(const struct trie *trie, trie_key_fn *key_of, const struct trie_key *key);
/* Puts the leaf under its key; returns the leaf that it replaces, or NULL. */
const void *trie_put(struct trie *trie, trie_key_fn *key_of, const struct trie_edit *edit, const void *leaf);
/* Removes and returns a leaf, or NULL. */
const void *trie_remove(struct trie *trie, trie_key_fn *key_of, const struct trie_edit *edit,
                        const struct trie_key *key);
/* Calls fn for each leaf whose key is at least *from (NULL: all), in order, until it returns false.
 * Returns false when fn did. */
bool trie_each(const struct trie *trie, trie_key_fn *key_of, const struct trie_key *from,
               bool (*fn)(const void *leaf, void *arg), void *arg);
/* The leaf of the smallest key, or NULL. */
const void *trie_first(const struct trie *trie);

/* Frees every node born after `frozen` that this version reaches, and calls leaf_fn (may be NULL) for
 * each leaf below such nodes, which may also be an older one. What is left of the version must not be used.
 */
void trie_free_after(struct trie *trie, uint64_t frozen, void (*leaf_fn)(const void *leaf, void *arg),
                     void *arg);

/* A whole tree at once, much faster than leaf by leaf. The items are put in order. False: two have the
 * same key; the tree is empty then. */
struct trie_item {
    struct trie_key key;
    const void *leaf;
};
bool trie_build(struct trie *trie, uint64_t birth, struct trie_item *items, size_t count);

struct trie_node;
uint64_t trie_node_birth(const struct trie_node *node);
void trie_node_free(struct trie_node *node);
