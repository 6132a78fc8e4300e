/* Where a VM may run: each check in its order, the choice among hosts, and memory that others have claimed.
 */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <db/store.h>
#include <model/errors.h>
#include <model/rows.h>
#include <plan/placement.h>

#define MIB ((int64_t)1 << 20)

static struct store *store;
static struct tx *tx;
static struct snapshot *snap;

static void start(void)
{
    struct store_err err;
    const struct store_config config = {.path = NULL};
    cr_assert_eq(store_open(&store, &config, &err), 0);
    tx = store_begin(store);
}

static void stop(void)
{
    snapshot_unref(snap);
    store_close(store);
}

TestSuite(placement, .init = start, .fini = stop);

static void commit(void)
{
    struct store_err err;
    cr_assert_eq(tx_commit(tx, NULL, &err), 0);
    snapshot_unref(snap);
    snap = store_snapshot(store);
}

static struct ref make_host(int64_t memory, const char *cpus, bool live, bool enabled)
{
    struct host_row *host = host_row_mut(tx_create(tx, CLASS_host));
    struct host_metrics_row *metrics = host_metrics_row_mut(tx_create(tx, CLASS_host_metrics));
    metrics->memory_total = memory;
    metrics->live = live;
    host->metrics = metrics->row.ref;
    host->enabled = enabled;
    str_map_put(&host->cpu_info, "cpu_count", cpus);
    return host->row.ref;
}

static struct vm_row *make_vm(int64_t memory)
{
    struct vm_row *vm = vm_row_mut(tx_create(tx, CLASS_VM));
    vm->memory_static_max = vm->memory_dynamic_max = vm->memory_dynamic_min = memory;
    vm->VCPUs_max = vm->VCPUs_at_startup = 1;
    return vm;
}

static void run_on(struct vm_row *vm, struct ref host)
{
    vm->power_state = VM_POWER_STATE_RUNNING;
    vm->resident_on = host;
}

static const struct vm_row *vm_now(struct ref vm)
{
    return vm_row(snapshot_get(snap, CLASS_VM, vm));
}

static const char *verdict(struct ref vm, struct ref host)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct placement p = {.snap = snap, .vm = vm_now(vm)};
    return placement_check(&p, host, &err) < 0 ? error_find(err.code)->code : "fits";
}

Test(placement, each_reason)
{
    struct ref good = make_host(1024 * MIB, "2", true, true), dead = make_host(1024 * MIB, "2", false, true),
               closed = make_host(1024 * MIB, "2", true, false),
               small = make_host(100 * MIB, "2", true, true);
    struct vm_row *fine = make_vm(256 * MIB), *wide = make_vm(256 * MIB), *odd = make_vm(256 * MIB),
                  *none = make_vm(256 * MIB), *idle = make_vm(0), *stored = make_vm(256 * MIB);
    struct vm_row *modern = make_vm(256 * MIB), *future = make_vm(256 * MIB);
    modern->hardware_platform_version = 2;
    future->hardware_platform_version = 3;
    struct ref modern_ref = modern->row.ref, future_ref = future->row.ref;
    static const char *const hardware[] = {"0", "1", "2"};
    str_set_assign(&host_row_mut(tx_edit(tx, CLASS_host, good))->virtual_hardware_platform_versions,
                   str_set_new(hardware, ARRAY_LEN(hardware)));
    wide->VCPUs_max = 3;
    odd->memory_dynamic_min = 300 * MIB;
    none->VCPUs_at_startup = 0;
    struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    vdi->SR = tx_create(tx, CLASS_SR)->ref;
    vbd->VDI = vdi->row.ref;
    vbd->VM = stored->row.ref;
    struct ref sr = vdi->SR, fine_ref = fine->row.ref, wide_ref = wide->row.ref, odd_ref = odd->row.ref,
               none_ref = none->row.ref, idle_ref = idle->row.ref, stored_ref = stored->row.ref;
    commit();
    const struct {
        struct ref vm, host;
        const char *wanted;
    } table[] = {
        {fine_ref, good, "fits"},
        {fine_ref, REF_NULL, "HANDLE_INVALID"},
        {fine_ref, dead, "HOST_NOT_LIVE"},
        {fine_ref, closed, "HOST_DISABLED"},
        {fine_ref, small, "HOST_NOT_ENOUGH_FREE_MEMORY"},
        {wide_ref, good, "HOST_NOT_ENOUGH_PCPUS"},
        {odd_ref, good, "MEMORY_CONSTRAINT_VIOLATION"},
        {odd_ref, dead, "MEMORY_CONSTRAINT_VIOLATION"},
        {none_ref, good, "VALUE_NOT_SUPPORTED"},
        {idle_ref, good, "MEMORY_CONSTRAINT_VIOLATION"},
        {stored_ref, good, "VM_REQUIRES_SR"},
        {stored_ref, dead, "HOST_NOT_LIVE"},
        {modern_ref, good, "fits"},
        {future_ref, good, "VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION"},
        {future_ref, closed, "HOST_DISABLED"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        cr_assert_str_eq(verdict(table[i].vm, table[i].host), table[i].wanted, "row %zu", i);
    tx = store_begin(store);
    struct pbd_row *pbd = pbd_row_mut(tx_create(tx, CLASS_PBD));
    pbd->SR = sr;
    pbd->host = good;
    struct ref pbd_ref = pbd->row.ref;
    commit();
    cr_assert_str_eq(verdict(stored_ref, good), "VM_REQUIRES_SR", "a PBD that is not attached");
    tx = store_begin(store);
    pbd_row_mut(tx_edit(tx, CLASS_PBD, pbd_ref))->currently_attached = true;
    commit();
    cr_assert_str_eq(verdict(stored_ref, good), "fits");
}

Test(placement, memory_of_those_that_run_and_those_on_their_way)
{
    struct ref host = make_host(1000 * MIB, "8", true, true), other = make_host(1000 * MIB, "8", true, true);
    struct vm_row *running = make_vm(300 * MIB), *coming = make_vm(400 * MIB), *next = make_vm(301 * MIB);
    run_on(running, host);
    struct ref coming_ref = coming->row.ref, next_ref = next->row.ref;
    commit();
    const struct placement_claim items[] = {{coming_ref, host, 400 * MIB, 400 * MIB, 0}};
    const struct placement_claims claims = {items, 1};
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    cr_assert_eq(placement_free_memory(snap, row, NULL, true), 700 * MIB);
    cr_assert_eq(placement_free_memory(snap, row, &claims, true), 300 * MIB);
    cr_assert_eq(placement_free_memory(snap, host_row(snapshot_get(snap, CLASS_host, other)), &claims, true),
                 1000 * MIB);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(placement_check(&(struct placement){.snap = snap, .vm = vm_now(next_ref)}, host, &err), 0);
    cr_assert_eq(placement_check(&(struct placement){.snap = snap, .vm = vm_now(next_ref), .claims = &claims},
                                 host, &err),
                 -1);
    cr_assert_str_eq(err.code, "HOST_NOT_ENOUGH_FREE_MEMORY");
    /* It has arrived: its claim counts no more. */
    tx = store_begin(store);
    run_on(vm_row_mut(tx_edit(tx, CLASS_VM, coming_ref)), host);
    commit();
    row = host_row(snapshot_get(snap, CLASS_host, host));
    cr_assert_eq(placement_free_memory(snap, row, &claims, true), 300 * MIB);
}

static struct ref chosen(struct ref vm, const char **code)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref host = REF_NULL;
    *code =
        placement_choose(&(struct placement){.snap = snap, .vm = vm_now(vm), .random = 0.5}, &host, &err) < 0
            ? error_find(err.code)->code
            : "";
    return host;
}

Test(placement, the_choice)
{
    struct ref small = make_host(500 * MIB, "2", true, true), large = make_host(2000 * MIB, "2", true, true),
               closed = make_host(9000 * MIB, "2", true, false);
    struct vm_row *plain = make_vm(100 * MIB), *fond = make_vm(100 * MIB),
                  *fond_of_closed = make_vm(100 * MIB), *huge = make_vm(8000 * MIB);
    fond->affinity = small;
    fond_of_closed->affinity = closed;
    struct ref plain_ref = plain->row.ref, fond_ref = fond->row.ref, closed_ref = fond_of_closed->row.ref,
               huge_ref = huge->row.ref;
    commit();
    const char *code;
    cr_assert(ref_eq(chosen(plain_ref, &code), large), "the most free memory");
    cr_assert(ref_eq(chosen(fond_ref, &code), small), "its affinity");
    cr_assert(ref_eq(chosen(closed_ref, &code), large), "an affinity that will not do");
    chosen(huge_ref, &code);
    cr_assert_str_eq(code, "NO_HOSTS_AVAILABLE");
    AUTO_REF_SET const struct ref_set *possible = placement_possible(snap, vm_now(plain_ref));
    cr_assert_eq(possible->count, 2);
    cr_assert_not(ref_set_has(possible, closed));
}

/* Of a hundred draws, how many give `host`. */
static int picks_of(struct ref vm, struct ref host)
{
    int count = 0;
    for (int i = 0; i < 100; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct placement p = {.snap = snap, .vm = vm_now(vm), .random = i / 100.0};
        struct ref got = REF_NULL;
        cr_assert_eq(placement_choose(&p, &got, &err), 0);
        count += ref_eq(got, host);
    }
    return count;
}

Test(placement, equally_good_hosts_are_weighed_by_free_memory)
{
    struct ref small = make_host(500 * MIB, "2", true, true), large = make_host(1500 * MIB, "2", true, true);
    struct ref vm = make_vm(100 * MIB)->row.ref;
    commit();
    cr_assert_eq(picks_of(vm, large), 75);
    cr_assert_eq(picks_of(vm, small), 25);
}

Test(placement, memory_that_is_there_before_memory_that_others_would_give)
{
    struct ref crowded = make_host(4000 * MIB, "2", true, true),
               empty = make_host(600 * MIB, "2", true, true), tight = make_host(450 * MIB, "2", true, true);
    struct vm_row *elastic = make_vm(3900 * MIB), *vm = make_vm(500 * MIB);
    elastic->memory_dynamic_min = 100 * MIB;
    elastic->memory_target = 3900 * MIB;
    vm->memory_dynamic_min = 400 * MIB;
    run_on(elastic, crowded);
    struct ref ref = vm->row.ref, elastic_ref = elastic->row.ref;
    commit();
    cr_assert_str_eq(verdict(ref, crowded), "fits", "the other one can give memory");
    cr_assert_str_eq(verdict(ref, tight), "fits", "not all of it");
    cr_assert_eq(picks_of(ref, empty), 100);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, crowded));
    cr_assert_eq(placement_free_memory(snap, row, NULL, false), 100 * MIB);
    cr_assert_eq(placement_free_memory(snap, row, NULL, true), 3900 * MIB);
    /* A guest that does not give counts with all it has. */
    tx = store_begin(store);
    vm_row_mut(tx_edit(tx, CLASS_VM, elastic_ref))->keeps_memory = true;
    commit();
    cr_assert_str_eq(verdict(ref, crowded), "HOST_NOT_ENOUGH_FREE_MEMORY");
}

Test(placement, what_the_host_keeps_for_itself)
{
    struct ref host = make_host(1000 * MIB, "2", true, true);
    host_row_mut(tx_edit(tx, CLASS_host, host))->memory_reserved = 300 * MIB;
    struct ref fits = make_vm(700 * MIB)->row.ref, large = make_vm(701 * MIB)->row.ref;
    commit();
    cr_assert_str_eq(verdict(fits, host), "fits");
    cr_assert_str_eq(verdict(large, host), "HOST_NOT_ENOUGH_FREE_MEMORY");
}

Test(placement, vms_that_keep_apart)
{
    struct ref one = make_host(9000 * MIB, "2", true, true), two = make_host(1000 * MIB, "2", true, true);
    struct vm_group_row *group = vm_group_row_mut(tx_create(tx, CLASS_VM_group));
    group->placement = PLACEMENT_POLICY_ANTI_AFFINITY;
    struct vm_row *first = make_vm(100 * MIB), *second = make_vm(100 * MIB), *third = make_vm(100 * MIB);
    struct vm_row *const all[] = {first, second, third};
    struct ref group_ref = group->row.ref, third_ref = third->row.ref;
    for (size_t i = 0; i < 3; i++)
        ref_set_assign(&all[i]->groups, ref_set_new(&group_ref, 1));
    run_on(first, one);
    struct ref second_ref = second->row.ref;
    commit();
    cr_assert_eq(picks_of(second_ref, two), 100, "the other one runs on the large host");
    tx = store_begin(store);
    run_on(vm_row_mut(tx_edit(tx, CLASS_VM, second_ref)), two);
    commit();
    cr_assert_gt(picks_of(third_ref, one), 50, "one on each: memory decides");
    tx = store_begin(store);
    vm_group_row_mut(tx_edit(tx, CLASS_VM_group, group_ref))->placement = PLACEMENT_POLICY_NORMAL;
    run_on(vm_row_mut(tx_edit(tx, CLASS_VM, second_ref)), one);
    commit();
    cr_assert_gt(picks_of(third_ref, one), 50, "a group without a rule");
}

Test(placement, networks_that_only_some_hosts_reach)
{
    struct ref near = make_host(1000 * MIB, "2", true, true), far = make_host(1000 * MIB, "2", true, true);
    struct vm_row *vm = make_vm(100 * MIB);
    struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
    vif->network = tx_create(tx, CLASS_network)->ref;
    vif->VM = vm->row.ref;
    struct ref ref = vm->row.ref, network = vif->network;
    commit();
    cr_assert_str_eq(verdict(ref, far), "fits", "a network without interfaces is made anywhere");
    tx = store_begin(store);
    struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
    pif->host = near;
    pif->network = network;
    commit();
    cr_assert_str_eq(verdict(ref, near), "fits");
    cr_assert_str_eq(verdict(ref, far), "VM_REQUIRES_NETWORK");
}

Test(placement, force_and_hosts_that_failed)
{
    struct ref one = make_host(1000 * MIB, "2", true, true), two = make_host(1000 * MIB, "2", true, true);
    struct vm_row *wide = make_vm(100 * MIB), *plain = make_vm(100 * MIB);
    wide->VCPUs_max = 3;
    plain->affinity = one;
    struct ref wide_ref = wide->row.ref, plain_ref = plain->row.ref;
    commit();
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct placement forced = {.snap = snap, .vm = vm_now(wide_ref), .force = true};
    cr_assert_str_eq(verdict(wide_ref, one), "HOST_NOT_ENOUGH_PCPUS");
    cr_assert_eq(placement_check(&forced, one, &err), 0);
    const struct ref avoid[] = {one, two};
    struct placement p = {.snap = snap, .vm = vm_now(plain_ref), .avoid = avoid, .avoid_count = 1};
    struct ref got;
    cr_assert_eq(placement_choose(&p, &got, &err), 0);
    cr_assert(ref_eq(got, two));
    p.avoid_count = 2;
    cr_assert_eq(placement_choose(&p, &got, &err), -1);
    cr_assert_str_eq(err.code, "NO_HOSTS_AVAILABLE");
}

Test(placement, one_host_tells_its_own_reason)
{
    make_host(100 * MIB, "2", true, true);
    struct ref vm = make_vm(200 * MIB)->row.ref;
    commit();
    const char *code;
    chosen(vm, &code);
    cr_assert_str_eq(code, "HOST_NOT_ENOUGH_FREE_MEMORY");
}

Test(placement, no_host)
{
    struct ref vm = make_vm(200 * MIB)->row.ref;
    commit();
    const char *code;
    chosen(vm, &code);
    cr_assert_str_eq(code, "NO_HOSTS_AVAILABLE");
}

/* ---- the search finds what the check finds ---- */

#define HOSTS 12
#define KINDS 4

static uint32_t seed = 1;

static uint32_t below(uint32_t limit)
{
    seed = seed * 1664525 + 1013904223;
    return (seed >> 16) % limit;
}

static void make_disk(struct vm_row *vm, struct ref sr)
{
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    vbd->VM = vm->row.ref;
    vbd->empty = below(6) == 0;
    if (below(30) == 0) { /* a disk that has no row */
        vbd->VDI = ref_new();
        return;
    }
    struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
    vdi->SR = sr;
    vbd->VDI = vdi->row.ref;
}

static void make_random_vm(const struct ref *srs, const struct ref *networks, const struct ref *hosts)
{
    struct vm_row *vm = make_vm((1 + below(4)) * 100 * MIB);
    vm->VCPUs_max = 1 + below(3);
    if (below(10) == 0)
        vm->memory_dynamic_min = vm->memory_dynamic_max + 1;
    if (below(8) == 0)
        run_on(vm, hosts[below(HOSTS)]);
    for (uint32_t i = below(3); i > 0; i--)
        make_disk(vm, srs[below(KINDS)]);
    for (uint32_t i = below(3); i > 0; i--) {
        struct vif_row *vif = vif_row_mut(tx_create(tx, CLASS_VIF));
        vif->VM = vm->row.ref;
        vif->network = networks[below(KINDS)];
    }
}

static size_t checked; /* VMs that some hosts would do for, and others not */

static bool compare(const struct row *row, void *arg)
{
    const struct ref *hosts = arg;
    const struct ref_set *possible = placement_possible(snap, vm_row(row));
    size_t fit = 0;
    for (size_t i = 0; i < HOSTS; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct placement p = {.snap = snap, .vm = vm_row(row)};
        bool fits = placement_check(&p, hosts[i], &err) == 0;
        cr_assert_eq(ref_set_has(possible, hosts[i]), fits, "host %zu: %s", i, fits ? "fits" : err.code);
        fit += fits;
    }
    checked += fit > 0 && fit < HOSTS;
    ref_set_unref(possible);
    return true;
}

Test(placement, the_search_finds_what_the_check_finds)
{
    struct ref hosts[HOSTS], srs[KINDS], networks[KINDS];
    for (size_t i = 0; i < HOSTS; i++)
        hosts[i] = make_host((4 + below(20)) * 100 * MIB, below(2) ? "2" : "8", below(6) != 0, below(6) != 0);
    for (size_t k = 0; k < KINDS; k++) {
        srs[k] = tx_create(tx, CLASS_SR)->ref;
        networks[k] = tx_create(tx, CLASS_network)->ref;
        for (size_t i = 0; i < HOSTS; i++) {
            if (below(3)) {
                struct pbd_row *pbd = pbd_row_mut(tx_create(tx, CLASS_PBD));
                pbd->SR = srs[k];
                pbd->host = hosts[i];
                pbd->currently_attached = below(5) != 0;
            }
            if (k > 0 && below(3)) { /* the first one can be made anywhere */
                struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
                pif->network = networks[k];
                pif->host = hosts[i];
            }
        }
    }
    for (size_t i = 0; i < 200; i++)
        make_random_vm(srs, networks, hosts);
    commit();
    snapshot_each(snap, CLASS_VM, compare, hosts);
    cr_assert_gt(checked, 50, "only %zu VMs tell hosts apart", checked);
}
