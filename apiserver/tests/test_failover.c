/* The restart plan: against all ways of placing VMs on small pools, one worst case for all on large ones, and
 * rows of a pool as a problem. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <db/store.h>
#include <model/rows.h>
#include <plan/failover.h>
#include <stdlib.h>

#define MIB ((int64_t)1 << 20)

/* The same numbers each time. */
static unsigned draw(unsigned *seed, unsigned below)
{
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 16) % below;
}

static struct failover_problem make(unsigned *seed, size_t hosts, size_t vms, unsigned walls)
{
    struct failover_problem p = {.hosts = xcalloc(hosts + 1, sizeof(*p.hosts)),
                                 .host_count = hosts,
                                 .vms = xcalloc(vms + 1, sizeof(*p.vms)),
                                 .vm_count = vms,
                                 .allowed = xcalloc(hosts * vms + 1, sizeof(bool))};
    for (size_t h = 0; h < hosts; h++)
        p.hosts[h] =
            (struct failover_host){.ref = ref_new(), .free = 4 + draw(seed, 14), .usable = draw(seed, 8) > 0};
    for (size_t i = 0; i < vms; i++)
        p.vms[i] =
            (struct failover_vm){.ref = ref_new(),
                                 .size = 1 + draw(seed, 7),
                                 .host = draw(seed, 9) ? draw(seed, (unsigned)hosts) : FAILOVER_NOWHERE};
    for (size_t i = 0; i < hosts * vms; i++)
        p.allowed[i] = walls == 0 || draw(seed, walls) > 0;
    return p;
}

/* Every way to place the VMs from `at` on. */
static bool brute(const struct failover_problem *p, const bool *failed, int64_t *room, size_t at)
{
    while (at < p->vm_count && p->vms[at].host != FAILOVER_NOWHERE && !failed[p->vms[at].host])
        at++;
    if (at == p->vm_count)
        return true;
    for (size_t h = 0; h < p->host_count; h++) {
        if (failed[h] || !p->hosts[h].usable || !p->allowed[at * p->host_count + h] ||
            room[h] < p->vms[at].size)
            continue;
        room[h] -= p->vms[at].size;
        bool fits = brute(p, failed, room, at + 1);
        room[h] += p->vms[at].size;
        if (fits)
            return true;
    }
    return false;
}

static bool brute_exists(const struct failover_problem *p, size_t n)
{
    for (unsigned set = 0; set < 1u << p->host_count; set++) {
        bool failed[8];
        int64_t room[8];
        if ((size_t)__builtin_popcount(set) != n)
            continue;
        for (size_t h = 0; h < p->host_count; h++) {
            failed[h] = set >> h & 1;
            room[h] = p->hosts[h].free;
        }
        if (!brute(p, failed, room, 0))
            return false;
    }
    return true;
}

Test(failover, small_pools_as_trying_all_says)
{
    unsigned seed = 7, yes = 0, no = 0;
    for (int round = 0; round < 3000; round++) {
        struct failover_problem p = make(&seed, 1 + draw(&seed, 4), draw(&seed, 8), round % 2 ? 0 : 6);
        for (size_t n = 0; n < p.host_count; n++) {
            bool wanted = brute_exists(&p, n);
            cr_assert_eq(failover_exists(&p, n), wanted, "round %d, %zu failures", round, n);
            yes += wanted;
            no += !wanted;
        }
        int most = failover_max(&p);
        cr_assert(most < 0 || brute_exists(&p, (size_t)most));
        cr_assert(most + 1 >= (int)p.host_count || !brute_exists(&p, (size_t)most + 1));
        failover_problem_done(&p);
    }
    cr_assert(yes > 1000 && no > 1000, "%u %u", yes, no);
}

/* What is placed is placed where it fits, also when not everything is. */
Test(failover, places_are_real)
{
    unsigned seed = 11;
    for (int round = 0; round < 500; round++) {
        struct failover_problem p = make(&seed, 4, 9, 5);
        bool failed[4] = {draw(&seed, 2), draw(&seed, 2), draw(&seed, 2), false};
        size_t to[9], again[9];
        int64_t used[4] = {0};
        bool all = failover_assign(&p, failed, to);
        cr_assert_eq(failover_assign(&p, failed, again), all);
        cr_assert_arr_eq(to, again, sizeof(to));
        for (size_t i = 0; i < 9; i++) {
            bool homeless = p.vms[i].host == FAILOVER_NOWHERE || failed[p.vms[i].host];
            cr_assert(homeless || to[i] == FAILOVER_NOWHERE);
            cr_assert(!all || !homeless || to[i] != FAILOVER_NOWHERE);
            if (to[i] == FAILOVER_NOWHERE)
                continue;
            cr_assert(!failed[to[i]] && p.hosts[to[i]].usable && p.allowed[i * 4 + to[i]]);
            used[to[i]] += p.vms[i].size;
        }
        for (size_t h = 0; h < 4; h++)
            cr_assert(used[h] == 0 || used[h] <= p.hosts[h].free);
        failover_problem_done(&p);
    }
}

/* Too many sets of hosts to look at each: the one worst case is never too hopeful. */
Test(failover, large_pools_are_not_too_hopeful)
{
    unsigned seed = 3, yes = 0;
    for (int round = 0; round < 200; round++) {
        struct failover_problem p = make(&seed, 20, 14, 0);
        for (size_t h = 0; h < 20; h++)
            p.hosts[h].free += (int64_t)draw(&seed, 40);
        for (size_t n = 5; n < 9; n++) {
            if (!failover_exists(&p, n))
                continue;
            yes++;
            for (int sample = 0; sample < 5; sample++) {
                bool failed[20] = {false};
                size_t to[14];
                for (size_t k = 0; k < n;) {
                    size_t h = draw(&seed, 20);
                    k += !failed[h];
                    failed[h] = true;
                }
                cr_assert(failover_assign(&p, failed, to), "round %d, %zu failures", round, n);
            }
        }
        failover_problem_done(&p);
    }
    cr_assert_gt(yes, 50, "%u", yes);
}

Test(failover, nothing_to_protect)
{
    unsigned seed = 1;
    struct failover_problem p = make(&seed, 3, 0, 0), none = make(&seed, 0, 0, 0);
    cr_assert_eq(failover_max(&p), 2);
    cr_assert(failover_exists(&p, 3));
    cr_assert_not(failover_exists(&p, 4));
    cr_assert_eq(failover_max(&none), 0);
    failover_problem_done(&p);
    failover_problem_done(&none);
}

/* ---- rows ---- */

static struct store *store;
static struct tx *tx;
static struct snapshot *snap;

static struct ref make_host(int64_t memory)
{
    struct host_row *host = host_row_mut(tx_create(tx, CLASS_host));
    struct host_metrics_row *metrics = host_metrics_row_mut(tx_create(tx, CLASS_host_metrics));
    metrics->memory_total = memory;
    metrics->live = host->enabled = true;
    host->metrics = metrics->row.ref;
    return host->row.ref;
}

static struct ref make_vm(const char *priority, int64_t memory, struct ref host)
{
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    bool runs = !ref_is_null(host);
    vm->memory_static_max = vm->memory_dynamic_max = vm->memory_dynamic_min = memory;
    vm->VCPUs_max = vm->VCPUs_at_startup = 1;
    str_assign(&vm->ha_restart_priority, priority);
    vm->ha_always_run = runs && streq(priority, "restart");
    vm->power_state = runs ? VM_POWER_STATE_RUNNING : VM_POWER_STATE_HALTED;
    vm->resident_on = host;
    return vm->row.ref;
}

static int most_after(const struct failover_change *change)
{
    AUTO_FAILOVER struct failover_problem p;
    failover_problem_of(snap, change, &p);
    return failover_max(&p);
}

Test(failover, rows_and_what_is_about_to_change)
{
    struct store_err err;
    const struct store_config config = {.path = NULL};
    cr_assert_eq(store_open(&store, &config, &err), 0);
    tx = store_begin(store);
    struct ref a = make_host(1000 * MIB), b = make_host(1000 * MIB), c = make_host(1000 * MIB);
    struct ref first = make_vm("restart", 600 * MIB, a), other = make_vm("", 300 * MIB, b),
               idle = make_vm("restart", 600 * MIB, REF_NULL), big = make_vm("best-effort", 500 * MIB, c);
    cr_assert_eq(tx_commit(tx, NULL, &err), 0);
    snap = store_snapshot(store);
    const struct vm_row *row = vm_row(snapshot_get(snap, CLASS_VM, first));
    struct vm_row larger = *row, smaller = *row;
    larger.memory_dynamic_min = larger.memory_dynamic_max = 800 * MIB;
    smaller.memory_dynamic_min = smaller.memory_dynamic_max = 100 * MIB;
    const struct str_map *priorities = NULL;
    str_map_put(&priorities, REF_TEXT(big), "restart");
    const struct {
        const char *what;
        struct failover_change change;
        int wanted;
    } table[] = {
        {"as it is: b takes it, when b and c fail nobody", {.vm = REF_NULL}, 1},
        {"the other VM becomes protected: a has room for it", {.vm = other, .priority = "restart"}, 1},
        {"the large one on c becomes protected: b takes it, and then not both",
         {.vm = big, .priority = "restart"},
         1},
        {"the same by a map", {.priorities = priorities}, 1},
        {"a second one like the first starts on b: no host has 600 free", {.vm = idle, .to = b}, 0},
        {"it grows: no other host has so much", {.vm = first, .as = &larger}, 0},
        {"it shrinks: also c alone is enough", {.vm = first, .as = &smaller}, 2},
        {"it loses its protection", {.vm = first, .priority = ""}, 2},
        {"it ends", {.vm = first, .ends = true}, 2},
        {"b takes no more: c has not enough", {.out = b}, 0},
        {"c takes no more: b alone is enough for one failure", {.out = c}, 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        cr_expect_eq(most_after(&table[i].change), table[i].wanted, "%s: %d", table[i].what,
                     most_after(&table[i].change));
    str_map_unref(priorities);
    snapshot_unref(snap);
    store_close(store);
}
