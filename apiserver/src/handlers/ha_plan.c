/* pool.ha_*: questions about the restart plan, and how much of one there has to be. */
#include "../hosts/ha.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define PREVENT_MAX_S (365 * 86400)

static int most(const struct call *call, const struct failover_change *change)
{
    AUTO_FAILOVER struct failover_problem problem = {0};
    failover_problem_of(call->snapshot, change, &problem);
    int n = failover_max(&problem);
    return n < 0 ? 0 : n;
}

int handle_pool_ha_failover_plan_exists(struct call *call,
                                        const struct pool_ha_failover_plan_exists_args *args, bool *result,
                                        struct api_err *err)
{
    (void)err;
    AUTO_FAILOVER struct failover_problem problem = {0};
    failover_problem_of(call->snapshot, NULL, &problem);
    *result =
        args->n >= 0 && args->n <= (int64_t)problem.host_count && failover_exists(&problem, (size_t)args->n);
    return 0;
}

int handle_pool_ha_compute_max_host_failures_to_tolerate(struct call *call, int64_t *result,
                                                         struct api_err *err)
{
    (void)err;
    *result = most(call, NULL);
    return 0;
}

int handle_pool_ha_compute_hypothetical_max_host_failures_to_tolerate(
    struct call *call, const struct pool_ha_compute_hypothetical_max_host_failures_to_tolerate_args *args,
    int64_t *result, struct api_err *err)
{
    for (size_t i = 0; args->configuration && i < args->configuration->count; i++) {
        const struct str_pair *pair = &args->configuration->pairs[i];
        struct ref vm;
        if (!ref_parse(pair->key, &vm) || !snapshot_get(call->snapshot, CLASS_VM, vm))
            return err_handle_invalid(err, "VM", pair->key);
        if (*pair->value && !streq(pair->value, "restart") && !streq(pair->value, "best-effort"))
            return err_invalid_value(err, "ha_restart_priority", pair->value);
    }
    const struct failover_change change = {.priorities = args->configuration};
    *result = most(call, &change);
    return 0;
}

/* Where each protected VM of these hosts would go: {VM: {"host": reference}} or {"error_code": why not}. */
int handle_pool_ha_compute_vm_failover_plan(struct call *call,
                                            const struct pool_ha_compute_vm_failover_plan_args *args,
                                            json_t **result, struct api_err *err)
{
    const struct failover_change change = {.ended = args->failed_vms};
    AUTO_FAILOVER struct failover_problem p = {0};
    failover_problem_of(call->snapshot, &change, &p);
    AUTO_FREE bool *failed = xcalloc(p.host_count + 1, sizeof(*failed));
    AUTO_FREE size_t *to = xcalloc(p.vm_count + 1, sizeof(*to));
    for (size_t i = 0; args->failed_hosts && i < args->failed_hosts->count; i++) {
        size_t host = failover_host_index(&p, args->failed_hosts->items[i]);
        if (host == FAILOVER_NOWHERE)
            return fail_handle(err, CLASS_host, args->failed_hosts->items[i]);
        failed[host] = true;
    }
    failover_assign(&p, failed, to);
    *result = json_object();
    for (size_t i = 0; i < p.vm_count; i++) {
        if (p.vms[i].host != FAILOVER_NOWHERE && !failed[p.vms[i].host])
            continue;
        bool placed = to[i] != FAILOVER_NOWHERE;
        json_object_set_new(*result, REF_TEXT(p.vms[i].ref),
                            json_pack("{ss}", placed ? "host" : "error_code",
                                      placed ? REF_TEXT(p.hosts[to[i]].ref) : "NO_HOSTS_AVAILABLE"));
    }
    return 0;
}

int handle_pool_set_ha_host_failures_to_tolerate(
    struct call *call, const struct pool_set_ha_host_failures_to_tolerate_args *args, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, args->self));
    if (!pool)
        return fail_handle(err, CLASS_pool, args->self);
    if (args->value < 0)
        return err_invalid_value(err, "ha_host_failures_to_tolerate", "it is below zero");
    if (pool->ha_enabled && !pool->ha_allow_overcommit && args->value > most(call, NULL))
        return err_ha_no_plan(err);
    struct tx *tx = store_begin(call->server->store);
    pool_row_mut(tx_edit(tx, CLASS_pool, args->self))->ha_host_failures_to_tolerate = args->value;
    if (server_commit(tx, err) < 0)
        return -1;
    ha_plan_update(call->server);
    return 0;
}

/* The plan is computed whenever something has changed, and now. */
int handle_pool_ha_schedule_plan_recomputation(struct call *call, struct api_err *err)
{
    (void)err;
    ha_plan_update(call->server);
    return 0;
}

int handle_pool_ha_prevent_restarts_for(struct call *call,
                                        const struct pool_ha_prevent_restarts_for_args *args,
                                        struct api_err *err)
{
    if (args->seconds < 0 || args->seconds > PREVENT_MAX_S)
        return err_invalid_value(err, "seconds", "it is from 0 to a year's");
    ha_prevent(call->server->ha, args->seconds);
    return 0;
}
