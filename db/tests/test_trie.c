/* The persistent tree: against a sorted array, with old versions kept alive. */
#include "garbage.h"
#include "trie.h"
#include "version.h"
#include <base/mem.h>
#include <criterion/criterion.h>

/* Tombstones serve as leaves: their key is (deleted, ref). */
static struct store_tombstone *leaf_new(uint64_t prefix, struct ref ref)
{
    struct store_tombstone *leaf = xcalloc(1, sizeof(*leaf));
    leaf->deleted = prefix;
    leaf->ref = ref;
    return leaf;
}

static int compare_leaves(const void *a, const void *b)
{
    const struct store_tombstone *x = *(const struct store_tombstone *const *)a;
    const struct store_tombstone *y = *(const struct store_tombstone *const *)b;
    if (x->deleted != y->deleted)
        return x->deleted < y->deleted ? -1 : 1;
    return ref_cmp(x->ref, y->ref);
}

#define MAX 3000

struct model {
    const struct store_tombstone *leaves[MAX];
    size_t count;
};

struct walk {
    const struct model *model;
    size_t at, stop;
};

static bool walk_leaf(const void *leaf, void *arg)
{
    struct walk *walk = arg;
    cr_assert_lt(walk->at, walk->model->count);
    cr_assert_eq(walk->model->leaves[walk->at], leaf);
    return ++walk->at != walk->stop;
}

static void compare(const struct trie *trie, struct model *model, unsigned seed)
{
    qsort(model->leaves, model->count, sizeof(model->leaves[0]), compare_leaves);
    cr_assert_eq(trie->count, model->count);
    cr_assert_eq(trie_first(trie), model->count ? model->leaves[0] : NULL);
    struct walk walk = {.model = model, .stop = SIZE_MAX};
    cr_assert(trie_each(trie, tombstone_key, NULL, walk_leaf, &walk));
    cr_assert_eq(walk.at, model->count);
    for (size_t i = 0; i < model->count; i += 1 + model->count / 20) {
        struct trie_key key = tombstone_key(model->leaves[i]);
        cr_assert_eq(trie_get(trie, tombstone_key, &key), model->leaves[i]);
        walk.at = i;
        cr_assert(trie_each(trie, tombstone_key, &key, walk_leaf, &walk));
        cr_assert_eq(walk.at, model->count);
        /* From a key that is not there. */
        key.word[2]++;
        walk.at = i + 1;
        if (i + 1 < model->count && compare_leaves(&model->leaves[i], &model->leaves[i + 1]) < 0) {
            struct trie_key next = tombstone_key(model->leaves[i + 1]);
            if (memcmp(&next, &key, sizeof(key)) != 0) {
                cr_assert_null(trie_get(trie, tombstone_key, &key));
                cr_assert(trie_each(trie, tombstone_key, &key, walk_leaf, &walk));
                cr_assert_eq(walk.at, model->count);
            }
        }
        walk.at = i;
        walk.stop = i + 1;
        key = tombstone_key(model->leaves[i]);
        cr_assert(!trie_each(trie, tombstone_key, &key, walk_leaf, &walk), "ends when told to");
        walk.stop = SIZE_MAX;
    }
    struct trie_key key = {{seed, ~UINT64_C(0), ~UINT64_C(0)}}; /* between prefixes */
    walk.at = 0;
    while (walk.at < model->count && model->leaves[walk.at]->deleted <= seed)
        walk.at++;
    cr_assert(trie_each(trie, tombstone_key, &key, walk_leaf, &walk));
    cr_assert_eq(walk.at, model->count);
}

enum shape { RANDOM, SEQUENTIAL, CLOSE };

static struct store_tombstone *make(enum shape shape, uint64_t i)
{
    struct ref ref = ref_new();
    if (shape == SEQUENTIAL)
        return leaf_new(i + 1, (struct ref){1, 1});
    if (shape == CLOSE) /* differ in single bits, also the last */
        return leaf_new(7, (struct ref){UINT64_C(1) << (i % 64), i / 64});
    return leaf_new(1 + ref.hi % 50, ref); /* never 0: see garbage_free_after */
}

static void play(enum shape shape)
{
    struct trie trie = {0}, old = {0};
    struct garbage dead = {0};
    struct trie_edit edit = {.frozen = 0, .birth = 1, .dead = &dead};
    struct model *model = xcalloc(1, sizeof(*model)), *old_model = xcalloc(1, sizeof(*model));
    unsigned seed = 3;
    uint64_t made = 0;
    for (int i = 0; i < 6000; i++) {
        seed = seed * 1664525u + 1013904223u;
        unsigned what = (seed >> 8) % 8;
        if (what < 5 && model->count < MAX) {
            struct store_tombstone *leaf = make(shape, made++);
            cr_assert_null(trie_put(&trie, tombstone_key, &edit, leaf));
            model->leaves[model->count++] = leaf;
        } else if (model->count) {
            size_t at = (seed >> 12) % model->count;
            struct store_tombstone *leaf = (struct store_tombstone *)(uintptr_t)model->leaves[at];
            struct trie_key key = tombstone_key(leaf);
            if (what == 7) { /* replaced by a leaf of the same key */
                struct store_tombstone *same = leaf_new(leaf->deleted, leaf->ref);
                cr_assert_eq(trie_put(&trie, tombstone_key, &edit, same), leaf);
                model->leaves[at] = same;
            } else {
                cr_assert_eq(trie_remove(&trie, tombstone_key, &edit, &key), leaf);
                cr_assert_null(trie_remove(&trie, tombstone_key, &edit, &key));
                model->leaves[at] = model->leaves[--model->count];
            }
            garbage_add(&dead, GARBAGE_TOMBSTONE, leaf);
        }
        if (i % 1000 == 999) {
            /* The version before is still whole; then it goes, and this one is frozen. */
            compare(&old, old_model, seed % 60);
            compare(&trie, model, seed % 60);
            garbage_free_after(&dead, 0, NULL);
            old = trie;
            *old_model = *model;
            edit.frozen = edit.birth++;
        }
    }
    trie_free_after(&trie, 0, NULL, NULL);
    garbage_free_after(&dead, 0, NULL);
    for (size_t i = 0; i < model->count; i++)
        free((void *)(uintptr_t)model->leaves[i]);
    free(model);
    free(old_model);
}

Test(trie, random_keys)
{
    play(RANDOM);
}

Test(trie, sequential_keys)
{
    play(SEQUENTIAL);
}

Test(trie, keys_that_differ_in_one_bit)
{
    play(CLOSE);
}

Test(trie, an_abandoned_version_frees_only_its_own)
{
    struct trie kept = {0};
    struct garbage dead = {0};
    struct trie_edit edit = {.frozen = 0, .birth = 1, .dead = &dead};
    struct store_tombstone *leaves[200], *late[200];
    for (uint64_t i = 0; i < 200; i++)
        trie_put(&kept, tombstone_key, &edit, leaves[i] = make(SEQUENTIAL, i));
    struct trie head = kept;
    edit = (struct trie_edit){.frozen = 1, .birth = 2, .dead = &dead};
    for (uint64_t i = 0; i < 200; i++)
        trie_put(&head, tombstone_key, &edit, late[i] = make(SEQUENTIAL, 1000 + i));
    for (uint64_t i = 0; i < 100; i++) {
        struct trie_key key = tombstone_key(leaves[i * 2]);
        trie_remove(&head, tombstone_key, &edit, &key);
    }
    trie_free_after(&head, 1, NULL, NULL);
    garbage_free_after(&dead, 1, NULL); /* what it no longer used is used by the version before */
    for (uint64_t i = 0; i < 200; i++) {
        struct trie_key key = tombstone_key(leaves[i]);
        cr_assert_eq(trie_get(&kept, tombstone_key, &key), leaves[i]);
    }
    trie_free_after(&kept, 0, NULL, NULL);
    for (int i = 0; i < 200; i++) {
        free(leaves[i]);
        free(late[i]);
    }
}
