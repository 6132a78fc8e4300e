/* The persistent radix tree of trie.h. A child is a pointer to a node, or to a leaf with its lowest bit
 * set. A node has at least two children; their chunks are the set bits of its bitmap, in order. */
#include "trie.h"
#include "garbage.h"
#include <assert.h>
#include <base/mem.h>

struct trie_node {
    uint64_t bitmap;
    uint64_t birth;
    uint8_t level;
    uint8_t cap;
    uintptr_t child[];
};

/* A word of 64 bits is cut into ten chunks of six bits and one of four: 33 levels in all. */
#define LEVELS_A_WORD 11
#define LEVEL_NONE 255

static unsigned chunk_at(const struct trie_key *key, unsigned level)
{
    uint64_t word = key->word[level / LEVELS_A_WORD];
    unsigned k = level % LEVELS_A_WORD;
    return k < 10 ? (unsigned)(word >> (58 - 6 * k)) & 63 : (unsigned)word & 15;
}

/* The first level in which two keys differ. */
static unsigned level_of_difference(const struct trie_key *a, const struct trie_key *b)
{
    for (unsigned i = 0; i < 3; i++) {
        uint64_t differ = a->word[i] ^ b->word[i];
        if (differ) {
            unsigned bit = (unsigned)__builtin_clzll(differ);
            return i * LEVELS_A_WORD + (bit < 60 ? bit / 6 : 10);
        }
    }
    return LEVEL_NONE;
}

static bool is_leaf(uintptr_t child)
{
    return child & 1;
}

static const void *leaf_of(uintptr_t child)
{
    return (const void *)(child & ~(uintptr_t)1);
}

static struct trie_node *node_of(uintptr_t child)
{
    return (struct trie_node *)child;
}

static unsigned count_of(const struct trie_node *node)
{
    return (unsigned)__builtin_popcountll(node->bitmap);
}

static bool has_chunk(const struct trie_node *node, unsigned chunk)
{
    return node->bitmap >> chunk & 1;
}

/* Where the child of that chunk is, or would be. */
static unsigned place_of(const struct trie_node *node, unsigned chunk)
{
    return (unsigned)__builtin_popcountll(node->bitmap & ((UINT64_C(1) << chunk) - 1));
}

uint64_t trie_node_birth(const struct trie_node *node)
{
    return node->birth;
}

void trie_node_free(struct trie_node *node)
{
    free(node);
}

static struct trie_node *node_alloc(unsigned cap)
{
    struct trie_node *node = xmalloc(sizeof(*node) + cap * sizeof(node->child[0]));
    node->cap = (uint8_t)cap;
    return node;
}

/* A node leaves this version. */
static void node_drop(const struct trie_edit *edit, struct trie_node *node)
{
    if (node->birth > edit->frozen)
        free(node);
    else
        garbage_add(edit->dead, GARBAGE_NODE, node);
}

/* Makes the node in *slot one that may be changed and has room for `cap` children. */
static struct trie_node *node_own(const struct trie_edit *edit, uintptr_t *slot, unsigned cap)
{
    struct trie_node *node = node_of(*slot);
    bool mine = node->birth > edit->frozen;
    if (mine && node->cap >= cap)
        return node;
    if (cap > node->cap && cap < 64) /* some slack for a node that grows; most are small or full */
        cap = cap < 6 ? cap + 1 : cap + cap / 4 < 64 ? cap + cap / 4 : 64;
    else if (cap < count_of(node))
        cap = count_of(node);
    struct trie_node *copy = node_alloc(cap);
    copy->bitmap = node->bitmap;
    copy->birth = edit->birth;
    copy->level = node->level;
    memcpy(copy->child, node->child, count_of(node) * sizeof(node->child[0]));
    node_drop(edit, node);
    *slot = (uintptr_t)copy;
    return copy;
}

static uintptr_t any_leaf(uintptr_t child)
{
    while (!is_leaf(child))
        child = node_of(child)->child[0];
    return child;
}

const void *trie_get(const struct trie *trie, trie_key_fn *key_of, const struct trie_key *key)
{
    uintptr_t at = trie->root;
    if (!at)
        return NULL;
    while (!is_leaf(at)) {
        const struct trie_node *node = node_of(at);
        unsigned chunk = chunk_at(key, node->level);
        if (!has_chunk(node, chunk))
            return NULL;
        at = node->child[place_of(node, chunk)];
    }
    struct trie_key found = key_of(leaf_of(at));
    return memcmp(&found, key, sizeof(found)) == 0 ? leaf_of(at) : NULL;
}

/* Splits the place of *slot at `level`, where the new leaf and all that is there differ. */
static void slot_split(const struct trie_edit *edit, uintptr_t *slot, unsigned level,
                       const struct trie_key *there, const struct trie_key *key, uintptr_t leaf)
{
    struct trie_node *node = node_alloc(2);
    unsigned old = chunk_at(there, level), fresh = chunk_at(key, level);
    node->bitmap = UINT64_C(1) << old | UINT64_C(1) << fresh;
    node->birth = edit->birth;
    node->level = (uint8_t)level;
    node->child[old < fresh ? 0 : 1] = *slot;
    node->child[old < fresh ? 1 : 0] = leaf;
    *slot = (uintptr_t)node;
}

static void node_insert(const struct trie_edit *edit, uintptr_t *slot, unsigned chunk, uintptr_t leaf)
{
    unsigned count = count_of(node_of(*slot));
    struct trie_node *node = node_own(edit, slot, count + 1);
    unsigned at = place_of(node, chunk);
    memmove(&node->child[at + 1], &node->child[at], (count - at) * sizeof(node->child[0]));
    node->child[at] = leaf;
    node->bitmap |= UINT64_C(1) << chunk;
}

/* A leaf that agrees with the key as far as any leaf of the tree does. */
static const void *nearest_leaf(uintptr_t at, const struct trie_key *key)
{
    while (!is_leaf(at)) {
        const struct trie_node *node = node_of(at);
        unsigned chunk = chunk_at(key, node->level);
        at = has_chunk(node, chunk) ? node->child[place_of(node, chunk)] : any_leaf(at);
    }
    return leaf_of(at);
}

const void *trie_put(struct trie *trie, trie_key_fn *key_of, const struct trie_edit *edit, const void *leaf)
{
    assert(edit->birth > edit->frozen && ((uintptr_t)leaf & 1) == 0);
    struct trie_key key = key_of(leaf);
    uintptr_t fresh = (uintptr_t)leaf | 1, *slot = &trie->root;
    if (!*slot) {
        *slot = fresh;
        trie->count = 1;
        return NULL;
    }
    struct trie_key near = key_of(nearest_leaf(*slot, &key));
    unsigned level = level_of_difference(&key, &near);
    while (!is_leaf(*slot) && node_of(*slot)->level < level) {
        struct trie_node *node = node_own(edit, slot, 0);
        slot = &node->child[place_of(node, chunk_at(&key, node->level))];
    }
    if (level == LEVEL_NONE) {
        const void *old = leaf_of(*slot);
        *slot = fresh;
        return old;
    }
    if (!is_leaf(*slot) && node_of(*slot)->level == level)
        node_insert(edit, slot, chunk_at(&key, level), fresh);
    else
        slot_split(edit, slot, level, &near, &key, fresh);
    trie->count++;
    return NULL;
}

static void node_remove(const struct trie_edit *edit, uintptr_t *slot, unsigned chunk)
{
    struct trie_node *node = node_of(*slot);
    unsigned at = place_of(node, chunk), count = count_of(node);
    if (count == 2) {
        *slot = node->child[1 - at];
        node_drop(edit, node);
        return;
    }
    node = node_own(edit, slot, 0);
    memmove(&node->child[at], &node->child[at + 1], (count - at - 1) * sizeof(node->child[0]));
    node->bitmap &= ~(UINT64_C(1) << chunk);
}

const void *trie_remove(struct trie *trie, trie_key_fn *key_of, const struct trie_edit *edit,
                        const struct trie_key *key)
{
    const void *gone = trie_get(trie, key_of, key);
    if (!gone)
        return NULL;
    trie->count--;
    uintptr_t *slot = &trie->root;
    if (is_leaf(*slot)) {
        *slot = 0;
        return gone;
    }
    for (;;) {
        const struct trie_node *node = node_of(*slot);
        unsigned chunk = chunk_at(key, node->level);
        if (is_leaf(node->child[place_of(node, chunk)])) {
            node_remove(edit, slot, chunk);
            return gone;
        }
        struct trie_node *mine = node_own(edit, slot, 0);
        slot = &mine->child[place_of(mine, chunk)];
    }
}

static bool each_below(uintptr_t at, bool (*fn)(const void *leaf, void *arg), void *arg)
{
    if (is_leaf(at))
        return fn(leaf_of(at), arg);
    const struct trie_node *node = node_of(at);
    unsigned count = count_of(node);
    for (unsigned i = 0; i < count; i++)
        if (!each_below(node->child[i], fn, arg))
            return false;
    return true;
}

/* `level` is where *from leaves the tree (it differs there from the leaf nearest to it), and `less` says
 * that it is smaller there than that leaf. */
static bool each_from(uintptr_t at, const struct trie_key *from, unsigned level, bool less,
                      bool (*fn)(const void *leaf, void *arg), void *arg)
{
    if (is_leaf(at) || node_of(at)->level > level)
        return less || level == LEVEL_NONE ? each_below(at, fn, arg) : true;
    const struct trie_node *node = node_of(at);
    unsigned chunk = chunk_at(from, node->level), count = count_of(node);
    unsigned i = place_of(node, chunk);
    /* At the level of the difference itself no child has the chunk: all later ones are larger. */
    if (node->level < level && !each_from(node->child[i++], from, level, less, fn, arg))
        return false;
    for (; i < count; i++)
        if (!each_below(node->child[i], fn, arg))
            return false;
    return true;
}

bool trie_each(const struct trie *trie, trie_key_fn *key_of, const struct trie_key *from,
               bool (*fn)(const void *leaf, void *arg), void *arg)
{
    if (!trie->root)
        return true;
    if (!from)
        return each_below(trie->root, fn, arg);
    struct trie_key near = key_of(nearest_leaf(trie->root, from));
    unsigned level = level_of_difference(from, &near);
    bool less = level != LEVEL_NONE && chunk_at(from, level) < chunk_at(&near, level);
    return each_from(trie->root, from, level, less, fn, arg);
}

const void *trie_first(const struct trie *trie)
{
    return trie->root ? leaf_of(any_leaf(trie->root)) : NULL;
}

static void free_after(uintptr_t at, uint64_t frozen, void (*leaf_fn)(const void *leaf, void *arg), void *arg)
{
    if (is_leaf(at)) {
        if (leaf_fn)
            leaf_fn(leaf_of(at), arg);
        return;
    }
    struct trie_node *node = node_of(at);
    if (node->birth <= frozen) /* and so are all nodes below */
        return;
    unsigned count = count_of(node);
    for (unsigned i = 0; i < count; i++)
        free_after(node->child[i], frozen, leaf_fn, arg);
    free(node);
}

void trie_free_after(struct trie *trie, uint64_t frozen, void (*leaf_fn)(const void *leaf, void *arg),
                     void *arg)
{
    if (trie->root)
        free_after(trie->root, frozen, leaf_fn, arg);
    *trie = (struct trie){0};
}

static int compare_items(const void *a, const void *b)
{
    const struct trie_key *x = &((const struct trie_item *)a)->key, *y = &((const struct trie_item *)b)->key;
    for (unsigned i = 0; i < 3; i++)
        if (x->word[i] != y->word[i])
            return x->word[i] < y->word[i] ? -1 : 1;
    return 0;
}

/* Items in order, no two alike. */
static uintptr_t build(uint64_t birth, const struct trie_item *items, size_t count)
{
    if (count == 1)
        return (uintptr_t)items[0].leaf | 1;
    unsigned level = level_of_difference(&items[0].key, &items[count - 1].key);
    uint64_t bitmap = 0;
    for (size_t i = 0; i < count; i++)
        bitmap |= UINT64_C(1) << chunk_at(&items[i].key, level);
    struct trie_node *node = node_alloc((unsigned)__builtin_popcountll(bitmap));
    node->bitmap = bitmap;
    node->birth = birth;
    node->level = (uint8_t)level;
    unsigned child = 0;
    for (size_t start = 0, end; start < count; start = end) {
        unsigned chunk = chunk_at(&items[start].key, level);
        for (end = start + 1; end < count && chunk_at(&items[end].key, level) == chunk;)
            end++;
        node->child[child++] = build(birth, items + start, end - start);
    }
    return (uintptr_t)node;
}

bool trie_build(struct trie *trie, uint64_t birth, struct trie_item *items, size_t count)
{
    *trie = (struct trie){0};
    if (count == 0)
        return true;
    qsort(items, count, sizeof(items[0]), compare_items);
    for (size_t i = 1; i < count; i++)
        if (compare_items(&items[i - 1], &items[i]) == 0)
            return false;
    *trie = (struct trie){build(birth, items, count), count};
    return true;
}
