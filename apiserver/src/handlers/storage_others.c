/* What repositories of other kinds can do, and sizes that somebody else measured. No kind of repository here
 * can hold a local cache of shared disks (SM.features lacks SR_SUPPORTS_LOCAL_CACHING), so it is never on,
 * and switching it off is no change. */
#include "../server.h"
#include <handlers.h>
#include <model/errors.h>

int handle_host_enable_local_storage_caching(struct call *call,
                                             const struct host_enable_local_storage_caching_args *args,
                                             struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    if (!snapshot_get(call->snapshot, CLASS_SR, args->sr))
        return fail_handle(err, CLASS_SR, args->sr);
    return err_sr_operation_not_supported(err, REF_TEXT(args->sr));
}

int handle_host_disable_local_storage_caching(struct call *call,
                                              const struct host_disable_local_storage_caching_args *args,
                                              struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_host, args->host) ? 0
                                                                : fail_handle(err, CLASS_host, args->host);
}

int handle_pool_enable_local_storage_caching(struct call *call,
                                             const struct pool_enable_local_storage_caching_args *args,
                                             struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_pool, args->self))
        return fail_handle(err, CLASS_pool, args->self);
    return err_hosts_failed_to_enable_caching(err);
}

int handle_pool_disable_local_storage_caching(struct call *call,
                                              const struct pool_disable_local_storage_caching_args *args,
                                              struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_pool, args->self) ? 0
                                                                : fail_handle(err, CLASS_pool, args->self);
}

/* Nothing leaves a data path behind: the agent closes a domain's disks with the domain. */
int handle_host_sm_dp_destroy(struct call *call, const struct host_sm_dp_destroy_args *args,
                              struct api_err *err)
{
    return snapshot_get(call->snapshot, CLASS_host, args->host) ? 0
                                                                : fail_handle(err, CLASS_host, args->host);
}

int handle_lvhd_enable_thin_provisioning(struct call *call,
                                         const struct lvhd_enable_thin_provisioning_args *args,
                                         const char **result, struct api_err *err)
{
    (void)result;
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    if (!snapshot_get(call->snapshot, CLASS_SR, args->SR))
        return fail_handle(err, CLASS_SR, args->SR);
    return err_sr_operation_not_supported(err, REF_TEXT(args->SR));
}

/* ---- disks ---- */

static const struct vdi_row *find_vdi(struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_VDI, ref);
    if (!row)
        fail_handle(err, CLASS_VDI, ref);
    return vdi_row(row);
}

/* Without VDI_GENERATE_CONFIG: disks here are known by their uuids alone. */
int handle_vdi_generate_config(struct call *call, const struct vdi_generate_config_args *args,
                               const char **result, struct api_err *err)
{
    (void)result;
    const struct vdi_row *vdi = find_vdi(call, args->vdi, err);
    if (!vdi)
        return -1;
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    return err_sr_operation_not_supported(err, REF_TEXT(vdi->SR));
}

/* Without VDI_REVERT: a disk's content never goes back under its own name. VM.revert gives the VM other
 * disks. */
int handle_vdi_revert(struct call *call, const struct vdi_revert_args *args, struct api_err *err)
{
    const struct vdi_row *vdi = find_vdi(call, args->snapshot, err);
    if (!vdi)
        return -1;
    if (!vdi->is_a_snapshot)
        return err_operation_not_allowed(err, "The disk is no snapshot.");
    return err_unimplemented_in_sm_backend(err, "VDI.revert: revert the VM, or clone the snapshot");
}

/* ---- repositories ---- */

int handle_sr_make(struct call *call, const struct sr_make_args *args, const char **result,
                   struct api_err *err)
{
    (void)call, (void)args, (void)result;
    return err_message_deprecated(err);
}

enum size_field { SIZE_PHYSICAL, SIZE_ALLOCATED, SIZE_USED };

static int set_size(struct call *call, struct ref ref, enum size_field field, int64_t value,
                    struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_SR, ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_SR, ref);
    }
    struct sr_row *sr = sr_row_mut(tx_edit(tx, CLASS_SR, ref));
    *(field == SIZE_PHYSICAL    ? &sr->physical_size
      : field == SIZE_ALLOCATED ? &sr->virtual_allocation
                                : &sr->physical_utilisation) = value;
    return server_commit(tx, err);
}

/* Until the next scan says what is true. */
int handle_sr_set_physical_size(struct call *call, const struct sr_set_physical_size_args *args,
                                struct api_err *err)
{
    return set_size(call, args->self, SIZE_PHYSICAL, args->value, err);
}

int handle_sr_set_virtual_allocation(struct call *call, const struct sr_set_virtual_allocation_args *args,
                                     struct api_err *err)
{
    return set_size(call, args->self, SIZE_ALLOCATED, args->value, err);
}

int handle_sr_set_physical_utilisation(struct call *call, const struct sr_set_physical_utilisation_args *args,
                                       struct api_err *err)
{
    return set_size(call, args->self, SIZE_USED, args->value, err);
}
