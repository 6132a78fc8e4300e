/* host.*: what one asks of a host, and whether it takes new VMs. */
#include "../gate/session.h"
#include "../hosts/guests.h"
#include "../hosts/ha.h"
#include "../hosts/hosts.h"
#include "../members/members.h"
#include "../plan/placement.h"
#include "../server.h"
#include "checks.h"
#include "host_rows.h"
#include "vm_state.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <time.h>

#define CLOCK_ANSWER_MS 5000

static int set_enabled(struct call *call, struct ref ref, bool enabled, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_host, ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_host, ref);
    }
    host_row_mut(tx_edit(tx, CLASS_host, ref))->enabled = enabled;
    return server_commit(tx, err);
}

int handle_host_enable(struct call *call, const struct host_enable_args *args, struct api_err *err)
{
    return set_enabled(call, args->host, true, err);
}

int check_host_disable(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                       struct api_err *err)
{
    const struct failover_change change = {.out = ((const struct host_disable_args *)args)->host};
    (void)tx, (void)all;
    return ha_check_change(call->snapshot, &change, err);
}

int handle_host_disable(struct call *call, const struct host_disable_args *args, struct api_err *err)
{
    return check_host_disable(call, NULL, args, NULL, err) < 0 ? -1
                                                               : set_enabled(call, args->host, false, err);
}

static const struct host_row *find_host(struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_host, ref);
    if (!row)
        fail_handle(err, CLASS_host, ref);
    return host_row(row);
}

/* What the clock of the host itself says. */
static int host_time(struct call *call, struct ref host, int64_t *unix_seconds, struct api_err *err)
{
    struct hv_host_stats_args args;
    struct hv_host_stats_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = CLOCK_ANSWER_MS};
    struct hv_host *agent = find_host(call, host, err) ? hosts_get(call->server->hosts, host, err) : NULL;
    if (!agent)
        return -1;
    hv_host_stats_args_init(&args);
    int rc = hv_host_stats(agent, &op, &args, &result, &cause);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, host, &cause);
    *unix_seconds = result.stats.time_us / 1000000;
    hv_host_stats_result_done(&result);
    return 0;
}

int handle_host_get_servertime(struct call *call, const struct host_get_servertime_args *args,
                               int64_t *result, struct api_err *err)
{
    return host_time(call, args->host, result, err);
}

int handle_host_compute_free_memory(struct call *call, const struct host_compute_free_memory_args *args,
                                    int64_t *result, struct api_err *err)
{
    const struct host_row *host = find_host(call, args->host, err);
    if (!host)
        return -1;
    int64_t left = placement_free_memory(call->snapshot, host, NULL, true);
    *result = left > 0 ? left : 0;
    return 0;
}

/* Seconds of the zone's own clock, as clients show them. */
int handle_host_get_server_localtime(struct call *call, const struct host_get_server_localtime_args *args,
                                     int64_t *result, struct api_err *err)
{
    struct tm local;
    int64_t now;
    if (host_time(call, args->host, &now, err) < 0)
        return -1;
    if (!localtime_r(&now, &local))
        return fail_internal(err, "The local time is not known.");
    *result = now + local.tm_gmtoff;
    return 0;
}

int handle_host_compute_memory_overhead(struct call *call,
                                        const struct host_compute_memory_overhead_args *args, int64_t *result,
                                        struct api_err *err)
{
    const struct host_row *host = find_host(call, args->host, err);
    if (!host)
        return -1;
    int64_t sum = host->memory_overhead;
    for (size_t i = 0; host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm =
            vm_row(snapshot_get(call->snapshot, CLASS_VM, host->resident_VMs->items[i]));
        if (vm)
            sum += vm->memory_overhead;
    }
    *result = sum;
    return 0;
}

int handle_host_is_in_emergency_mode(struct call *call, bool *result, struct api_err *err)
{
    (void)err;
    *result = members_in_emergency(call->server);
    return 0;
}

int handle_host_list_methods(struct call *call, const struct str_set **result, struct api_err *err)
{
    (void)call;
    (void)err;
    AUTO_FREE const char **names = xcalloc(model_method_count, sizeof(*names));
    for (size_t i = 0; i < model_method_count; i++)
        names[i] = model_methods[i].name;
    *result = str_set_new(names, model_method_count);
    return 0;
}

int handle_host_apply_edition(struct call *call, const struct host_apply_edition_args *args,
                              struct api_err *err)
{
    if (!find_host(call, args->host, err))
        return -1;
    return streq(args->edition, "free") ? 0 : err_invalid_edition(err, args->edition);
}

/* Hosts have one plugin of their own, and the API no extensions. */
int handle_host_call_plugin(struct call *call, const struct host_call_plugin_args *args, const char **result,
                            struct api_err *err)
{
    (void)result;
    if (!find_host(call, args->host, err))
        return -1;
    return streq(args->plugin, "guests") ? guests_plugin(call, args->host, args->fn, err)
                                         : err_xenapi_missing_plugin(err, args->plugin);
}

int handle_host_call_extension(struct call *call, const struct host_call_extension_args *args,
                               const char **result, struct api_err *err)
{
    (void)result;
    return find_host(call, args->host, err) ? err_message_method_unknown(err, args->call) : -1;
}

int handle_host_has_extension(struct call *call, const struct host_has_extension_args *args, bool *result,
                              struct api_err *err)
{
    *result = false;
    return find_host(call, args->host, err) ? 0 : -1;
}

static bool is_live(struct tx *tx, const struct host_row *host)
{
    const struct row *metrics = tx_get(tx, CLASS_host_metrics, host->metrics);
    return metrics && host_metrics_row(metrics)->live;
}

/* The operator's word that nothing runs there any more: its VMs may be started elsewhere. */
int handle_host_declare_dead(struct call *call, const struct host_declare_dead_args *args,
                             struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, args->host));
    if (!host || is_live(tx, host)) {
        tx_abort(tx);
        return host ? err_host_is_live(err, REF_TEXT(args->host)) : fail_handle(err, CLASS_host, args->host);
    }
    AUTO_REF_SET const struct ref_set *vms = ref_set_ref(host->resident_VMs);
    struct ref control = host->control_domain;
    for (size_t i = 0; vms && i < vms->count; i++)
        if (!ref_eq(vms->items[i], control))
            vm_state_halted(tx, vms->items[i]);
    log_warn("host", "declared dead: its VMs count as halted", "host",
             OBJECT_TEXT(call->server, CLASS_host, args->host), "user", call->session->user);
    return server_commit(tx, err);
}

static bool is_coordinator(struct call *call, struct tx *tx, struct ref host)
{
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, call->server->pool_ref));
    return pool && ref_eq(pool->master, host);
}

/* Takes the rows of a host that is gone for good out of the pool; one that still answers has to be ended
 * first. */
int handle_host_destroy(struct call *call, const struct host_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, args->self));
    int rc = 0;
    if (!host)
        rc = fail_handle(err, CLASS_host, args->self);
    else if (tx_count(tx, CLASS_host) > 1 && is_coordinator(call, tx, args->self))
        rc = err_host_cannot_destroy_self(err, REF_TEXT(args->self));
    else if (is_live(tx, host))
        rc = err_host_is_live(err, REF_TEXT(args->self));
    for (size_t i = 0; rc == 0 && host->resident_VMs && i < host->resident_VMs->count; i++)
        if (!ref_eq(host->resident_VMs->items[i], host->control_domain))
            rc = err_host_has_resident_vms(err, REF_TEXT(args->self));
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    host_rows_delete(tx, host);
    return server_commit(tx, err);
}
