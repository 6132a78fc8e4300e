/* host.set_*: settings of a host that have rules of their own. What a host here cannot do is refused. */
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define IQN_MAX 223 /* RFC 3720 */

/* The host's row, to be changed within *tx; NULL with *err when there is no such host. */
static struct host_row *edit_host(struct call *call, struct ref ref, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    struct host_row *host = tx_get(*tx, CLASS_host, ref) ? host_row_mut(tx_edit(*tx, CLASS_host, ref)) : NULL;
    if (!host) {
        tx_abort(*tx);
        fail_handle(err, CLASS_host, ref);
    }
    return host;
}

static int abort_with(struct tx *tx, int rc)
{
    tx_abort(tx);
    return rc;
}

static int check_host(const struct call *call, struct ref ref, struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_host, ref) ? 0 : fail_handle(err, CLASS_host, ref);
}

/* The server's plain port asks for that of the coordinator with each request: http/web.c. */
int handle_host_set_https_only(struct call *call, const struct host_set_https_only_args *args,
                               struct api_err *err)
{
    struct tx *tx;
    struct host_row *host = edit_host(call, args->self, &tx, err);
    if (!host)
        return -1;
    host->https_only = args->value;
    return server_commit(tx, err);
}

int handle_host_set_ssl_legacy(struct call *call, const struct host_set_ssl_legacy_args *args,
                               struct api_err *err)
{
    struct tx *tx;
    struct host_row *host = edit_host(call, args->self, &tx, err);
    if (!host)
        return -1;
    if (args->value)
        return abort_with(tx,
                          err_value_not_supported(err, "value", "true", "Old TLS versions are not spoken."));
    host->ssl_legacy = false;
    return server_commit(tx, err);
}

/* Old clients look into other_config. */
int handle_host_set_iscsi_iqn(struct call *call, const struct host_set_iscsi_iqn_args *args,
                              struct api_err *err)
{
    struct tx *tx;
    struct host_row *host = edit_host(call, args->host, &tx, err);
    if (!host)
        return -1;
    if (!*args->value || str_len(args->value) > IQN_MAX || strpbrk(args->value, " \t\r\n"))
        return abort_with(tx, err_invalid_value(err, "value", args->value));
    str_assign(&host->iscsi_iqn, args->value);
    str_map_put(&host->other_config, "iscsi_iqn", args->value);
    return server_commit(tx, err);
}

int handle_host_set_multipathing(struct call *call, const struct host_set_multipathing_args *args,
                                 struct api_err *err)
{
    struct tx *tx;
    struct host_row *host = edit_host(call, args->host, &tx, err);
    if (!host)
        return -1;
    if (args->value)
        return abort_with(tx, err_operation_not_allowed(
                                  err, "No kind of storage repository here is reached over several paths."));
    host->multipathing = false;
    str_map_put(&host->other_config, "multipathing", "false");
    return server_commit(tx, err);
}

int handle_host_set_numa_affinity_policy(struct call *call,
                                         const struct host_set_numa_affinity_policy_args *args,
                                         struct api_err *err)
{
    struct tx *tx;
    struct host_row *host = edit_host(call, args->self, &tx, err);
    if (!host)
        return -1;
    if (args->value == HOST_NUMA_AFFINITY_POLICY_BEST_EFFORT)
        return abort_with(
            tx, err_operation_not_allowed(err, "VMs run on any memory node: the host's scheduler chooses."));
    host->numa_affinity_policy = args->value;
    return server_commit(tx, err);
}

int handle_host_get_sched_gran(struct call *call, const struct host_get_sched_gran_args *args,
                               enum host_sched_gran *result, struct api_err *err)
{
    if (check_host(call, args->self, err) < 0)
        return -1;
    *result = HOST_SCHED_GRAN_CPU;
    return 0;
}

int handle_host_set_sched_gran(struct call *call, const struct host_set_sched_gran_args *args,
                               struct api_err *err)
{
    if (check_host(call, args->self, err) < 0)
        return -1;
    return args->value == HOST_SCHED_GRAN_CPU
               ? 0
               : err_operation_not_allowed(err, "Processors are shared out one by one, and not otherwise.");
}

/* ---- licences and packs: there are none ---- */

int handle_host_license_add(struct call *call, const struct host_license_add_args *args, struct api_err *err)
{
    return check_host(call, args->host, err) < 0 ? -1 : err_license_file_deprecated(err);
}

int handle_host_license_remove(struct call *call, const struct host_license_remove_args *args,
                               struct api_err *err)
{
    return check_host(call, args->host, err);
}

int handle_host_refresh_pack_info(struct call *call, const struct host_refresh_pack_info_args *args,
                                  struct api_err *err)
{
    return check_host(call, args->host, err);
}

/* On the coordinator, whose root asks. */
int handle_host_emergency_clear_mandatory_guidance(struct call *call, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    struct tx *tx;
    struct host_row *host = edit_host(call, pool ? pool->master : REF_NULL, &tx, err);
    if (!host)
        return -1;
    host->pending_guidances = 0;
    return server_commit(tx, err);
}

int handle_host_retrieve_wlb_evacuate_recommendations(
    struct call *call, const struct host_retrieve_wlb_evacuate_recommendations_args *args, json_t **result,
    struct api_err *err)
{
    (void)result;
    return check_host(call, args->self, err) < 0 ? -1 : err_wlb_not_initialized(err);
}
