/* Published versions. All that live are in a chain from the oldest to the newest; what a version used
 * last waits in its list until it and every older one are released:
 *
 * An object in the list of S was born at some version and left between S and the next one. When S goes,
 * the next older snapshot P still sees the object if that is at least as old as P; then it moves to P's
 * list, else nobody sees it any more and it is freed. */
#include "store_impl.h"
#include <assert.h>
#include <base/mem.h>

/* A reader frees at most this much itself. */
#define TRASH_LIMIT 256

void snapshot_publish(struct store *store, struct version *version, struct garbage *dead)
{
    struct snapshot *fresh = xcalloc(1, sizeof(*fresh));
    atomic_init(&fresh->refs, 1);
    fresh->store = store;
    fresh->version = version;
    pthread_mutex_lock(&store->chain_lock);
    struct snapshot *before = store->current; /* changed by this thread only */
    fresh->older = before;
    if (before) {
        before->newer = fresh;
        garbage_append(&before->dead, dead);
    }
    pthread_mutex_lock(&store->snap_lock);
    store->current = fresh;
    pthread_cond_broadcast(&store->published);
    pthread_mutex_unlock(&store->snap_lock);
    pthread_mutex_unlock(&store->chain_lock);
    if (before)
        snapshot_unref(before);
}

struct snapshot *store_snapshot(struct store *store)
{
    pthread_mutex_lock(&store->snap_lock);
    struct snapshot *snap = store->current;
    atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&store->snap_lock);
    return snap;
}

struct snapshot *snapshot_ref(struct snapshot *snap)
{
    atomic_fetch_add_explicit(&snap->refs, 1, memory_order_relaxed);
    return snap;
}

/* Takes a released snapshot out of the chain; its list is what nobody sees any more. */
static void unchain(struct snapshot *snap)
{
    struct store *store = snap->store;
    bool wake = false;
    pthread_mutex_lock(&store->chain_lock);
    struct snapshot *older = snap->older, *newer = snap->newer;
    if (older) {
        older->newer = newer;
        garbage_free_after(&snap->dead, older->version->generation, &older->dead);
    }
    if (newer)
        newer->older = older;
    if (snap->dead.count > TRASH_LIMIT && !pthread_equal(pthread_self(), store->committer)) {
        garbage_append(&store->trash, &snap->dead);
        wake = true;
    }
    pthread_mutex_unlock(&store->chain_lock);
    if (wake)
        pthread_cond_signal(&store->work);
}

void snapshot_unref(struct snapshot *snap)
{
    if (!snap || atomic_fetch_sub_explicit(&snap->refs, 1, memory_order_acq_rel) != 1)
        return;
    unchain(snap);
    garbage_free_after(&snap->dead, snap->store->floor, NULL);
    free(snap->version);
    free(snap);
}

void snapshot_unref_cleanup(struct snapshot **snap)
{
    snapshot_unref(*snap);
}

void snapshot_free_trash(struct store *store)
{
    pthread_mutex_lock(&store->chain_lock);
    struct garbage trash = store->trash;
    store->trash = (struct garbage){0};
    pthread_mutex_unlock(&store->chain_lock);
    garbage_free_after(&trash, store->floor, NULL);
}

/* ---- reading ---- */

uint64_t snapshot_generation(const struct snapshot *snap)
{
    return snap->version->generation;
}

const struct row *snapshot_get(const struct snapshot *snap, const struct class_desc *cls, struct ref ref)
{
    return version_get(snap->version, cls, ref);
}

const struct row *snapshot_by_uuid(const struct snapshot *snap, const struct class_desc *cls,
                                   const char *uuid)
{
    return version_by_uuid(snap->version, cls, uuid);
}

struct row_array {
    const struct row **items;
    size_t count, cap;
};

static void row_array_add(const struct row *row, void *arg)
{
    struct row_array *array = arg;
    if (array->count == array->cap) {
        array->cap = array->cap ? array->cap * 2 : 8;
        array->items = xreallocarray(array->items, array->cap, sizeof(array->items[0]));
    }
    array->items[array->count++] = row;
}

static int compare_creation(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *)a, *y = *(const struct row *const *)b;
    if (x->created != y->created)
        return x->created < y->created ? -1 : 1;
    return ref_cmp(x->ref, y->ref);
}

void rows_sort_by_creation(const struct row **rows, size_t count)
{
    if (count > 1)
        qsort(rows, count, sizeof(rows[0]), compare_creation);
}

size_t snapshot_by_name(const struct snapshot *snap, const struct class_desc *cls, const char *name,
                        const struct row ***rows)
{
    struct row_array array = {0};
    version_by_name(snap->version, cls, name, row_array_add, &array);
    rows_sort_by_creation(array.items, array.count);
    *rows = array.items;
    return array.count;
}

size_t snapshot_count(const struct snapshot *snap, const struct class_desc *cls)
{
    return snap->version->rows[cls->index].count;
}

void snapshot_each(const struct snapshot *snap, const struct class_desc *cls,
                   bool (*fn)(const struct row *row, void *arg), void *arg)
{
    version_each(snap->version, cls, fn, arg);
}

struct changes_walk {
    uint64_t since;
    bool (*row_fn)(const struct row *row, void *arg);
    bool (*deleted_fn)(const struct store_tombstone *gone, void *arg);
    void *arg;
};

static bool changed_visit(const void *leaf, void *arg)
{
    const struct changes_walk *walk = arg;
    return walk->row_fn(leaf, walk->arg);
}

static bool deleted_visit(const void *leaf, void *arg)
{
    const struct changes_walk *walk = arg;
    const struct store_tombstone *gone = leaf;
    return gone->created > walk->since || walk->deleted_fn(gone, walk->arg);
}

void snapshot_changes(const struct snapshot *snap, uint64_t since,
                      bool (*row_fn)(const struct row *row, void *arg),
                      bool (*deleted_fn)(const struct store_tombstone *gone, void *arg), void *arg)
{
    struct changes_walk walk = {since, row_fn, deleted_fn, arg};
    if (since >= snap->version->generation)
        return;
    struct trie_key from = trie_key(since + 1, REF_NULL);
    if (trie_each(&snap->version->changes, row_change_key, &from, changed_visit, &walk))
        trie_each(&snap->version->tombstones, tombstone_key, &from, deleted_visit, &walk);
}

uint64_t snapshot_oldest_token(const struct snapshot *snap)
{
    const struct version *v = snap->version;
    return v->oldest_token > v->runtime_token ? v->oldest_token : v->runtime_token;
}

uint64_t snapshot_oldest_token_of(const struct snapshot *snap, const struct class_desc *cls)
{
    const struct version *v = snap->version;
    if (!(cls->flags & CLASS_PERSIST))
        return snapshot_oldest_token(snap);
    return (cls->flags & CLASS_LAZY) && v->lazy_token > v->oldest_token ? v->lazy_token : v->oldest_token;
}
