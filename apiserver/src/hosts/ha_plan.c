/* The restart plan and what would break it. */
#include "../handlers/alert.h"
#include "ha.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

static bool exists(const struct snapshot *snap, const struct failover_change *change, int64_t failures)
{
    AUTO_FAILOVER struct failover_problem problem;
    failover_problem_of(snap, change, &problem);
    return failover_exists(&problem, (size_t)failures);
}

int ha_check_change(const struct snapshot *snap, const struct failover_change *change, struct api_err *err)
{
    const struct pool_row *pool = ha_pool(snap);
    if (!pool || !pool->ha_enabled || pool->ha_allow_overcommit)
        return 0;
    int64_t failures = pool->ha_host_failures_to_tolerate;
    if (!exists(snap, NULL, failures) || exists(snap, change, failures))
        return 0;
    return err_ha_operation_would_break_failover_plan(err);
}

/* ---- agility ---- */

struct search {
    const struct snapshot *snap;
    struct ref of; /* SR or network */
    bool missing;
};

static bool host_has_sr(const struct row *row, void *arg)
{
    struct search *s = arg;
    const struct sr_row *sr = sr_row(snapshot_get(s->snap, CLASS_SR, s->of));
    bool found = false;
    if (!host_row(row)->enabled)
        return true;
    for (size_t i = 0; sr && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(s->snap, CLASS_PBD, sr->PBDs->items[i]));
        found |= pbd && pbd->currently_attached && ref_eq(pbd->host, row->ref);
    }
    s->missing |= !found;
    return found;
}

static int check_sr(const struct snapshot *snap, struct ref ref, struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    struct search search = {.snap = snap, .of = ref};
    if (!sr)
        return fail_handle(err, CLASS_SR, ref);
    snapshot_each(snap, CLASS_host, host_has_sr, &search);
    return sr->shared && !search.missing ? 0 : err_ha_constraint_violation_sr_not_shared(err, REF_TEXT(ref));
}

/* A network with interfaces reaches the hosts that have one; any other can be made anywhere. */
static bool host_has_network(const struct row *row, void *arg)
{
    struct search *s = arg;
    const struct network_row *network = network_row(snapshot_get(s->snap, CLASS_network, s->of));
    bool found = !network || !network->PIFs || network->PIFs->count == 0 || !host_row(row)->enabled;
    for (size_t i = 0; !found && i < network->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(s->snap, CLASS_PIF, network->PIFs->items[i]));
        found = pif && ref_eq(pif->host, row->ref);
    }
    s->missing |= !found;
    return found;
}

static int check_network(const struct snapshot *snap, struct ref network, struct api_err *err)
{
    struct search search = {.snap = snap, .of = network};
    snapshot_each(snap, CLASS_host, host_has_network, &search);
    return search.missing ? err_ha_constraint_violation_network_not_shared(err, REF_TEXT(network)) : 0;
}

int ha_check_agile(const struct snapshot *snap, const struct vm_row *vm, struct api_err *err)
{
    if (vm->VGPUs && vm->VGPUs->count)
        return err_vm_has_vgpu(err, REF_TEXT(vm->row.ref));
    if (vm->VUSBs && vm->VUSBs->count)
        return err_vm_has_vusbs(err, REF_TEXT(vm->row.ref));
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        const struct vdi_row *vdi =
            vbd && !vbd->empty ? vdi_row(snapshot_get(snap, CLASS_VDI, vbd->VDI)) : NULL;
        if (vdi && check_sr(snap, vdi->SR, err) < 0)
            return -1;
    }
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        if (vif && check_network(snap, vif->network, err) < 0)
            return -1;
    }
    return 0;
}

int ha_check_device(const struct snapshot *snap, struct ref vm_ref, struct ref vdi_ref, struct ref network,
                    struct api_err *err)
{
    const struct pool_row *pool = ha_pool(snap);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, vm_ref));
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, vdi_ref));
    if (!pool || !pool->ha_enabled || !vm || !streq(vm->ha_restart_priority, "restart"))
        return 0;
    if (vdi && check_sr(snap, vdi->SR, err) < 0)
        return -1;
    return check_network(snap, network, err);
}

int ha_check_place(const struct snapshot *snap, const struct vm_row *vm, const struct vm_row *as,
                   struct ref host, struct api_err *err)
{
    const struct pool_row *pool = ha_pool(snap);
    const struct failover_change change = {.vm = vm->row.ref, .to = host, .as = as};
    if (!pool || !pool->ha_enabled)
        return 0;
    if (streq(vm->ha_restart_priority, "restart") && ha_check_agile(snap, vm, err) < 0)
        return -1;
    return ha_check_change(snap, &change, err);
}

/* ---- the pool's row ---- */

struct update {
    struct ref pool;
    int64_t plan;
    bool over;
};

static void record(struct tx *tx, void *arg)
{
    const struct update *u = arg;
    const struct pool_row *now = pool_row(tx_get(tx, CLASS_pool, u->pool));
    if (!now || !now->ha_enabled)
        return;
    int64_t before = now->ha_plan_exists_for;
    bool was_over = now->ha_overcommitted;
    if (before == u->plan && was_over == u->over)
        return;
    struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, u->pool));
    pool->ha_plan_exists_for = u->plan;
    pool->ha_overcommitted = u->over;
    AUTO_FREE char *body = xasprintf("There is a plan for %lld of %lld host failures", (long long)u->plan,
                                     (long long)now->ha_host_failures_to_tolerate);
    if (u->over && !was_over)
        alert_add(tx, ALERT_HA_POOL_OVERCOMMITTED, CLS_POOL, pool->uuid, body);
    if (u->plan < before)
        alert_add(tx, ALERT_HA_POOL_DROP_IN_PLAN_EXISTS_FOR, CLS_POOL, pool->uuid, body);
}

void ha_plan_update(struct server *server)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = ha_pool(snap);
    AUTO_FAILOVER struct failover_problem problem = {0};
    if (!pool || !pool->ha_enabled)
        return;
    failover_problem_of(snap, NULL, &problem);
    int64_t most = failover_max(&problem), wanted = pool->ha_host_failures_to_tolerate;
    struct update u = {.pool = pool->row.ref,
                       .plan = most < 0        ? 0
                               : most < wanted ? most
                                               : wanted,
                       .over = most < wanted};
    if (u.plan != pool->ha_plan_exists_for || u.over != pool->ha_overcommitted)
        server_insist(server, record, &u);
}
