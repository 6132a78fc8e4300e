/* The lock is held while a host is chosen, which reads the rows and blocks nobody for long. The rows are read
 * after the lock is taken: a claim that is no longer here belongs to a VM whose row says already where it
 * runs. */
#include "claims.h"

#include "../plan/placement.h"
#include "../server.h"
#include <base/mem.h>
#include <pthread.h>

struct claims {
    pthread_mutex_t lock; /* guards what follows */
    struct placement_claim *items;
    size_t count, cap;
};

struct claims *claims_new(void)
{
    struct claims *c = xcalloc(1, sizeof(*c));
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

void claims_free(struct claims *c)
{
    if (!c)
        return;
    free(c->items);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static int choose(const struct claims *c, const struct snapshot *snap, const struct vm_row *vm,
                  struct ref wanted, struct ref *host, struct api_err *err)
{
    const struct placement_claims claims = {.items = c->items, .count = c->count};
    if (ref_is_null(wanted))
        return placement_choose(snap, vm, &claims, host, err);
    *host = wanted;
    return placement_check(snap, vm, wanted, &claims, err);
}

int claims_take(struct server *server, struct ref vm_ref, struct ref wanted, struct ref *host,
                struct api_err *err)
{
    struct claims *c = server->claims;
    struct ref chosen;
    pthread_mutex_lock(&c->lock);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, vm_ref));
    int rc = vm ? choose(c, snap, vm, wanted, &chosen, err) : fail_handle(err, CLASS_VM, vm_ref);
    if (rc == 0) {
        if (c->count == c->cap) {
            c->cap = c->cap ? 2 * c->cap : 16;
            c->items = xreallocarray(c->items, c->cap, sizeof(*c->items));
        }
        c->items[c->count++] = (struct placement_claim){
            .vm = vm_ref, .host = chosen, .bytes = vm->memory_dynamic_max + vm->memory_overhead};
        *host = chosen;
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

void claims_drop(struct claims *c, struct ref vm)
{
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count; i++)
        if (ref_eq(c->items[i].vm, vm)) {
            c->items[i] = c->items[--c->count];
            break;
        }
    pthread_mutex_unlock(&c->lock);
}
