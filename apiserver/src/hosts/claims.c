/* The lock is held while a host is chosen, which reads the rows and blocks nobody for long. The rows are read
 * after the lock is taken: a claim that is no longer here belongs to a VM whose row says already where it
 * runs. */
#include "claims.h"

#include "../plan/placement.h"
#include "../plan/squeeze.h"
#include "../server.h"
#include "ha.h"
#include <base/mem.h>
#include <pthread.h>
#include <sys/random.h>

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

/* 0 to 1, without 1. */
static double draw(void)
{
    uint32_t number = 0;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        number = 0;
    return number / 4294967296.0;
}

static int choose(const struct claims *c, struct placement *p, const struct claims_wish *wish,
                  struct ref *host, struct api_err *err)
{
    const struct placement_claims claims = {.items = c->items, .count = c->count};
    p->claims = &claims;
    p->force = wish->force;
    p->avoid = wish->avoid;
    p->avoid_count = wish->avoid_count;
    p->random = draw();
    if (ref_is_null(wish->host))
        return placement_choose(p, host, err);
    *host = wish->host;
    return placement_check(p, wish->host, err);
}

int claims_take(struct server *server, struct ref vm_ref, const struct claims_wish *wish, struct ref *host,
                struct api_err *err)
{
    struct claims *c = server->claims;
    struct ref chosen;
    pthread_mutex_lock(&c->lock);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, vm_ref));
    struct placement p = {.snap = snap, .vm = wish->as ? wish->as : vm};
    int rc = vm ? choose(c, &p, wish, &chosen, err) : fail_handle(err, CLASS_VM, vm_ref);
    if (rc == 0 && !wish->restart)
        rc = ha_check_place(snap, vm, wish->as, chosen, err);
    if (rc == 0) {
        const struct squeeze_vm wants = squeeze_vm_of(snap, vm);
        if (c->count == c->cap) {
            c->cap = c->cap ? 2 * c->cap : 16;
            c->items = xreallocarray(c->items, c->cap, sizeof(*c->items));
        }
        c->items[c->count++] = (struct placement_claim){
            .vm = vm_ref, .host = chosen, .least = squeeze_least(&wants), .bytes = squeeze_least(&wants)};
        *host = chosen;
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

int claims_look(struct server *server, struct ref vm_ref, const struct claims_wish *wish, struct ref *host,
                struct api_err *err)
{
    struct claims *c = server->claims;
    pthread_mutex_lock(&c->lock);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, vm_ref));
    struct placement p = {.snap = snap, .vm = wish->as ? wish->as : vm};
    struct ref chosen;
    int rc = vm ? choose(c, &p, wish, &chosen, err) : fail_handle(err, CLASS_VM, vm_ref);
    pthread_mutex_unlock(&c->lock);
    if (rc == 0)
        *host = chosen;
    return rc;
}

static struct placement_claim *find(struct claims *c, struct ref vm)
{
    for (size_t i = 0; i < c->count; i++)
        if (ref_eq(c->items[i].vm, vm))
            return &c->items[i];
    return NULL;
}

/* With the lock held. */
static int64_t claimed_by_others(const struct claims *c, const struct snapshot *snap, struct ref host,
                                 struct ref vm, bool wanted)
{
    int64_t bytes = 0;
    for (size_t i = 0; i < c->count; i++) {
        const struct vm_row *other = vm_row(snapshot_get(snap, CLASS_VM, c->items[i].vm));
        bool counted = other && ref_eq(other->resident_on, host);
        if (ref_eq(c->items[i].host, host) && !ref_eq(c->items[i].vm, vm) && !counted)
            bytes +=
                wanted && c->items[i].wanted > c->items[i].bytes ? c->items[i].wanted : c->items[i].bytes;
    }
    return bytes;
}

int64_t claims_of_others(struct claims *c, const struct snapshot *snap, struct ref host, struct ref vm)
{
    pthread_mutex_lock(&c->lock);
    int64_t bytes = claimed_by_others(c, snap, host, vm, false);
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

int64_t claims_wanted(struct claims *c, const struct snapshot *snap, struct ref host)
{
    pthread_mutex_lock(&c->lock);
    int64_t bytes = claimed_by_others(c, snap, host, REF_NULL, true);
    pthread_mutex_unlock(&c->lock);
    return bytes;
}

void claims_want(struct claims *c, struct ref vm, int64_t bytes)
{
    pthread_mutex_lock(&c->lock);
    struct placement_claim *claim = find(c, vm);
    if (claim)
        claim->wanted = bytes;
    pthread_mutex_unlock(&c->lock);
}

bool claims_raise(struct server *server, struct ref vm, int64_t bytes)
{
    struct claims *c = server->claims;
    pthread_mutex_lock(&c->lock);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct placement_claim *claim = find(c, vm);
    const struct host_row *host = claim ? host_row(snapshot_get(snap, CLASS_host, claim->host)) : NULL;
    bool fits = host && placement_free_memory(snap, host, NULL, false) -
                                claimed_by_others(c, snap, claim->host, vm, false) >=
                            bytes;
    if (fits)
        claim->bytes = claim->wanted = bytes;
    pthread_mutex_unlock(&c->lock);
    return fits;
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
