/* Packing VMs into what is left of the hosts: the largest first, each where the least room is left over; if
 * that fails, all ways are tried until a number of steps is used up. */
#include "failover.h"

#include <base/mem.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 20000  /* of one search for a packing */
#define SUBSETS_MAX 3000 /* sets of failed hosts that are looked at one by one */

void failover_problem_done(struct failover_problem *p)
{
    free(p->hosts);
    free(p->vms);
    free(p->allowed);
    *p = (struct failover_problem){0};
}

struct packing {
    const struct failover_problem *p;
    size_t *items; /* VMs to place, the largest first */
    size_t count;
    int64_t *room; /* of each host; INT64_MIN: takes none */
    size_t *to;
    size_t steps;
};

static bool fits(const struct packing *k, size_t vm, size_t host)
{
    return k->p->allowed[vm * k->p->host_count + host] && k->room[host] >= k->p->vms[vm].size;
}

/* Best fit: the host where least is left over. */
static bool pack_greedily(struct packing *k)
{
    bool all = true;
    for (size_t i = 0; i < k->count; i++) {
        size_t vm = k->items[i], best = FAILOVER_NOWHERE;
        for (size_t h = 0; h < k->p->host_count; h++)
            if (fits(k, vm, h) && (best == FAILOVER_NOWHERE || k->room[h] < k->room[best]))
                best = h;
        k->to[vm] = best;
        if (best != FAILOVER_NOWHERE)
            k->room[best] -= k->p->vms[vm].size;
        all &= best != FAILOVER_NOWHERE;
    }
    return all;
}

static bool pack_thoroughly(struct packing *k, size_t at)
{
    if (at == k->count)
        return true;
    size_t vm = k->items[at];
    for (size_t h = 0; h < k->p->host_count; h++) {
        if (!fits(k, vm, h))
            continue;
        if (k->steps == 0)
            return false;
        k->steps--;
        k->room[h] -= k->p->vms[vm].size;
        k->to[vm] = h;
        if (pack_thoroughly(k, at + 1))
            return true;
        k->room[h] += k->p->vms[vm].size;
    }
    return false;
}

static int larger_first(const void *a, const void *b, void *arg)
{
    const struct failover_problem *p = arg;
    const struct failover_vm *x = &p->vms[*(const size_t *)a], *y = &p->vms[*(const size_t *)b];
    if (x->size != y->size)
        return x->size > y->size ? -1 : 1;
    return ref_cmp(x->ref, y->ref);
}

static void reset(struct packing *k, const bool *failed)
{
    for (size_t h = 0; h < k->p->host_count; h++)
        k->room[h] = k->p->hosts[h].usable && !failed[h] ? k->p->hosts[h].free : INT64_MIN;
    for (size_t i = 0; i < k->p->vm_count; i++)
        k->to[i] = FAILOVER_NOWHERE;
}

bool failover_assign(const struct failover_problem *p, const bool *failed, size_t *to)
{
    AUTO_FREE size_t *items = xcalloc(p->vm_count + 1, sizeof(*items));
    AUTO_FREE size_t *greedy = xcalloc(p->vm_count + 1, sizeof(*greedy));
    AUTO_FREE int64_t *room = xcalloc(p->host_count + 1, sizeof(*room));
    struct packing k = {.p = p, .items = items, .room = room, .to = to, .steps = STEPS_MAX};
    for (size_t i = 0; i < p->vm_count; i++)
        if (p->vms[i].host == FAILOVER_NOWHERE || failed[p->vms[i].host])
            items[k.count++] = i;
    qsort_r(items, k.count, sizeof(*items), larger_first, (void *)p);
    reset(&k, failed);
    if (pack_greedily(&k))
        return true;
    memcpy(greedy, to, p->vm_count * sizeof(*to));
    reset(&k, failed);
    if (pack_thoroughly(&k, 0))
        return true;
    memcpy(to, greedy, p->vm_count * sizeof(*to));
    return false;
}

/* ---- whatever hosts fail ---- */

static size_t subsets(size_t n, size_t k)
{
    size_t count = 1;
    for (size_t i = 0; i < k; i++) {
        count = count * (n - i) / (i + 1);
        if (count > SUBSETS_MAX)
            return SUBSETS_MAX + 1;
    }
    return count;
}

/* The next set of the same size, in order; false: that was the last. */
static bool next_subset(bool *failed, size_t count)
{
    size_t i = count, ones = 0;
    while (i > 0 && failed[i - 1]) { /* those at the end */
        failed[--i] = false;
        ones++;
    }
    while (i > 0 && !failed[i - 1])
        i--;
    if (i == 0)
        return false;
    failed[i - 1] = false;
    for (size_t k = 0; k <= ones; k++)
        failed[i + k] = true;
    return true;
}

static bool exists_one_by_one(const struct failover_problem *p, size_t n)
{
    AUTO_FREE bool *failed = xcalloc(p->host_count + 1, sizeof(*failed));
    AUTO_FREE size_t *to = xcalloc(p->vm_count + 1, sizeof(*to));
    for (size_t i = 0; i < n; i++)
        failed[i] = true;
    do {
        if (!failover_assign(p, failed, to))
            return false;
    } while (next_subset(failed, p->host_count));
    return true;
}

static int descending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

/* sizes[k] becomes the largest that any host has as its k-th largest VM; how many there are. */
static size_t worst_host(const struct failover_problem *p, int64_t *sizes)
{
    AUTO_FREE int64_t *own = xcalloc(p->vm_count + 1, sizeof(*own));
    size_t most = 0;
    for (size_t h = 0; h < p->host_count; h++) {
        size_t count = 0;
        for (size_t i = 0; i < p->vm_count; i++)
            if (p->vms[i].host == h)
                own[count++] = p->vms[i].size;
        qsort(own, count, sizeof(*own), descending);
        for (size_t k = 0; k < count; k++)
            sizes[k] = k >= most || own[k] > sizes[k] ? own[k] : sizes[k];
        most = count > most ? count : most;
    }
    return most;
}

/* One case that is worse than all sets of n hosts: n times the worst host's VMs, in the rooms that are left
 * when the n largest are gone. What fits there fits in each of them. VMs that cannot run everywhere are not
 * planned for in this way. */
static bool exists_at_worst(const struct failover_problem *p, size_t n)
{
    for (size_t i = 0; i < p->vm_count * p->host_count; i++)
        if (!p->allowed[i])
            return false;
    AUTO_FREE int64_t *sizes = xcalloc(p->vm_count + 1, sizeof(*sizes));
    AUTO_FREE int64_t *room = xcalloc(p->host_count + 1, sizeof(*room));
    size_t worst = worst_host(p, sizes), rooms = 0, homeless = 0;
    for (size_t i = 0; i < p->vm_count; i++)
        homeless += p->vms[i].host == FAILOVER_NOWHERE;
    for (size_t h = 0; h < p->host_count; h++)
        if (p->hosts[h].usable)
            room[rooms++] = p->hosts[h].free;
    qsort(room, rooms, sizeof(*room), descending);
    size_t gone = n < rooms ? n : rooms;
    struct failover_problem w = {.host_count = rooms - gone, .vm_count = worst * n + homeless};
    w.hosts = xcalloc(w.host_count + 1, sizeof(*w.hosts));
    w.vms = xcalloc(w.vm_count + 1, sizeof(*w.vms));
    w.allowed = xmalloc(w.vm_count * w.host_count + 1);
    memset(w.allowed, true, w.vm_count * w.host_count + 1);
    for (size_t h = 0; h < w.host_count; h++)
        w.hosts[h] = (struct failover_host){.free = room[gone + h], .usable = true};
    size_t count = 0;
    for (size_t i = 0; i < worst * n; i++)
        w.vms[count++] = (struct failover_vm){.size = sizes[i % worst], .host = FAILOVER_NOWHERE};
    for (size_t i = 0; i < p->vm_count; i++)
        if (p->vms[i].host == FAILOVER_NOWHERE)
            w.vms[count++] = p->vms[i];
    AUTO_FREE bool *failed = xcalloc(w.host_count + 1, sizeof(*failed));
    AUTO_FREE size_t *to = xcalloc(w.vm_count + 1, sizeof(*to));
    bool exists = failover_assign(&w, failed, to);
    failover_problem_done(&w);
    return exists;
}

bool failover_exists(const struct failover_problem *p, size_t n)
{
    if (n > p->host_count)
        return false;
    return subsets(p->host_count, n) <= SUBSETS_MAX ? exists_one_by_one(p, n) : exists_at_worst(p, n);
}

int failover_max(const struct failover_problem *p)
{
    int most = -1;
    for (size_t n = 0; n == 0 || n < p->host_count; n++, most++)
        if (!failover_exists(p, n))
            break;
    return most;
}
