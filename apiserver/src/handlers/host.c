/* host.*: what one asks of a host, and whether it takes new VMs. */
#include "../blobs.h"
#include "../hosts/hosts.h"
#include "../plan/placement.h"
#include "../server.h"
#include <base/clock.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

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

int handle_host_disable(struct call *call, const struct host_disable_args *args, struct api_err *err)
{
    return set_enabled(call, args->host, false, err);
}

static const struct host_row *find_host(struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_host, ref);
    if (!row)
        fail_handle(err, CLASS_host, ref);
    return host_row(row);
}

int handle_host_get_servertime(struct call *call, const struct host_get_servertime_args *args,
                               int64_t *result, struct api_err *err)
{
    if (!find_host(call, args->host, err))
        return -1;
    *result = clock_unix_seconds();
    return 0;
}

int handle_host_compute_free_memory(struct call *call, const struct host_compute_free_memory_args *args,
                                    int64_t *result, struct api_err *err)
{
    const struct host_row *host = find_host(call, args->host, err);
    if (!host)
        return -1;
    int64_t left = placement_free_memory(call->snapshot, host, NULL);
    *result = left > 0 ? left : 0;
    return 0;
}

/* Takes the rows of a host that is gone for good out of the pool; one that still answers has to be ended
 * first. */
int handle_host_destroy(struct call *call, const struct host_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, args->self));
    const struct host_metrics_row *metrics =
        host ? host_metrics_row(tx_get(tx, CLASS_host_metrics, host->metrics)) : NULL;
    int rc = 0;
    if (!host)
        rc = fail_handle(err, CLASS_host, args->self);
    else if (metrics && metrics->live)
        rc = err_host_is_live(err, REF_TEXT(args->self));
    for (size_t i = 0; rc == 0 && host->resident_VMs && i < host->resident_VMs->count; i++)
        if (!ref_eq(host->resident_VMs->items[i], host->control_domain))
            rc = err_host_has_resident_vms(err, REF_TEXT(args->self));
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    struct ref metrics_ref = host->metrics, control = host->control_domain;
    AUTO_REF_SET const struct ref_set *pbds = ref_set_ref(host->PBDs);
    blobs_delete(tx, host->blobs);
    for (size_t i = 0; pbds && i < pbds->count; i++)
        tx_delete(tx, CLASS_PBD, pbds->items[i]);
    tx_delete(tx, CLASS_host, args->self);
    if (tx_get(tx, CLASS_host_metrics, metrics_ref))
        tx_delete(tx, CLASS_host_metrics, metrics_ref);
    if (tx_get(tx, CLASS_VM, control))
        tx_delete(tx, CLASS_VM, control);
    return server_commit(tx, err);
}
