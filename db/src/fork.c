/* Forks: stores that begin with what a snapshot of another one shows and keep their changes to themselves.
 *
 * Nothing is copied: the trees of both share all that was there. What the snapshot sees has a birth up to its
 * generation, the fork's `floor`; the snapshot is held, so it stays, and the fork frees only what is younger.
 * There is no committer: the one thread that uses a fork leads each of its batches. */
#include "store_impl.h"
#include <base/mem.h>

struct store *store_fork(struct snapshot *base)
{
    const struct store *of = base->store;
    const struct version *v = base->version;
    struct store *store = store_new(&of->schema);
    size_t size = version_size(&of->schema);
    store->base = snapshot_ref(base);
    store->floor = store->frozen = v->generation;
    store->next_generation = v->generation + 1;
    store->reserved = UINT64_MAX; /* generations of a fork are nobody else's */
    store->max_tombstones = of->max_tombstones;
    store->engine = engine_memory_new();
    memcpy(store->head, v, size);
    snapshot_publish(store, memcpy(xmalloc(size), v, size), &store->pending.dead);
    return store;
}
