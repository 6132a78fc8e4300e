/* Messages of classes whose rows this server never makes: whoever names one is told that it is not there, and
 * whoever would make one why not. docs/administration.md says the same for operators. */
#include "../server.h"
#include <handlers.h>
#include <model/errors.h>

#define NO_VSWITCH "Hosts have the kernel's bridges, no virtual switch that a controller could command."
#define NO_PVS "No host has the PVS-Accelerator."

/* Nothing of these classes is ever there; but a row that is found is not called missing. */
static int find(const struct call *call, const struct class_desc *cls, struct ref ref, struct api_err *err)
{
    return snapshot_get(call->snapshot, cls, ref) ? 0 : fail_handle(err, cls, ref);
}

static int absent(const struct call *call, const struct class_desc *cls, struct ref ref, struct api_err *err)
{
    return find(call, cls, ref, err) < 0
               ? -1
               : fail_internal(err, "A %s is there, though none is ever made.", cls->name);
}

/* ---- old-style patches and updates of XenServer: this server has none, so no such row exists ---- */

int handle_pool_patch_apply(struct call *call, const struct pool_patch_apply_args *args, const char **result,
                            struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_pool_patch_pool_apply(struct call *call, const struct pool_patch_pool_apply_args *args,
                                 struct api_err *err)
{
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_pool_patch_precheck(struct call *call, const struct pool_patch_precheck_args *args,
                               const char **result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_pool_patch_clean(struct call *call, const struct pool_patch_clean_args *args, struct api_err *err)
{
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_pool_patch_pool_clean(struct call *call, const struct pool_patch_pool_clean_args *args,
                                 struct api_err *err)
{
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_pool_patch_destroy(struct call *call, const struct pool_patch_destroy_args *args,
                              struct api_err *err)
{
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_pool_patch_clean_on_host(struct call *call, const struct pool_patch_clean_on_host_args *args,
                                    struct api_err *err)
{
    return absent(call, CLASS_pool_patch, args->self, err);
}

int handle_host_patch_destroy(struct call *call, const struct host_patch_destroy_args *args,
                              struct api_err *err)
{
    return absent(call, CLASS_host_patch, args->self, err);
}

int handle_host_patch_apply(struct call *call, const struct host_patch_apply_args *args, const char **result,
                            struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_host_patch, args->self, err);
}

int handle_pool_update_precheck(struct call *call, const struct pool_update_precheck_args *args,
                                enum livepatch_status *result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_pool_update, args->self, err);
}

int handle_pool_update_apply(struct call *call, const struct pool_update_apply_args *args,
                             struct api_err *err)
{
    return absent(call, CLASS_pool_update, args->self, err);
}

int handle_pool_update_pool_apply(struct call *call, const struct pool_update_pool_apply_args *args,
                                  struct api_err *err)
{
    return absent(call, CLASS_pool_update, args->self, err);
}

int handle_pool_update_pool_clean(struct call *call, const struct pool_update_pool_clean_args *args,
                                  struct api_err *err)
{
    return absent(call, CLASS_pool_update, args->self, err);
}

int handle_pool_update_destroy(struct call *call, const struct pool_update_destroy_args *args,
                               struct api_err *err)
{
    return absent(call, CLASS_pool_update, args->self, err);
}

int handle_pool_update_attach(struct call *call, const struct pool_update_attach_args *args,
                              const char **result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_pool_update, args->self, err);
}

int handle_pool_update_detach(struct call *call, const struct pool_update_detach_args *args,
                              struct api_err *err)
{
    return absent(call, CLASS_pool_update, args->self, err);
}

/* ---- dumps of crashed hosts and VMs: a guest's memory is a file of its host, docs/vms.md ---- */

int handle_host_crashdump_destroy(struct call *call, const struct host_crashdump_destroy_args *args,
                                  struct api_err *err)
{
    return absent(call, CLASS_host_crashdump, args->self, err);
}

int handle_host_crashdump_upload(struct call *call, const struct host_crashdump_upload_args *args,
                                 struct api_err *err)
{
    return absent(call, CLASS_host_crashdump, args->self, err);
}

int handle_crashdump_destroy(struct call *call, const struct crashdump_destroy_args *args,
                             struct api_err *err)
{
    return absent(call, CLASS_crashdump, args->self, err);
}

/* ---- drivers of hosts that come in variants: a distribution's kernel has one of each ---- */

int handle_host_driver_select(struct call *call, const struct host_driver_select_args *args,
                              struct api_err *err)
{
    return absent(call, CLASS_Host_driver, args->self, err);
}

int handle_host_driver_deselect(struct call *call, const struct host_driver_deselect_args *args,
                                struct api_err *err)
{
    return absent(call, CLASS_Host_driver, args->self, err);
}

int handle_host_driver_rescan(struct call *call, const struct host_driver_rescan_args *args,
                              struct api_err *err)
{
    return find(call, CLASS_host, args->host, err);
}

int handle_driver_variant_select(struct call *call, const struct driver_variant_select_args *args,
                                 struct api_err *err)
{
    return absent(call, CLASS_Driver_variant, args->self, err);
}

/* ---- controllers of virtual switches: hosts have the kernel's bridges ---- */

int handle_sdn_controller_introduce(struct call *call, const struct sdn_controller_introduce_args *args,
                                    struct ref *result, struct api_err *err)
{
    (void)call;
    (void)args;
    (void)result;
    return err_operation_not_allowed(err, NO_VSWITCH);
}

int handle_sdn_controller_forget(struct call *call, const struct sdn_controller_forget_args *args,
                                 struct api_err *err)
{
    return absent(call, CLASS_SDN_controller, args->self, err);
}

/* ---- PVS-Accelerator: caches for streamed disks, a part of XenServer's own ---- */

int handle_pvs_site_introduce(struct call *call, const struct pvs_site_introduce_args *args,
                              struct ref *result, struct api_err *err)
{
    (void)call;
    (void)args;
    (void)result;
    return err_operation_not_allowed(err, NO_PVS);
}

int handle_pvs_site_forget(struct call *call, const struct pvs_site_forget_args *args, struct api_err *err)
{
    return absent(call, CLASS_PVS_site, args->self, err);
}

int handle_pvs_site_set_PVS_uuid(struct call *call, const struct pvs_site_set_PVS_uuid_args *args,
                                 struct api_err *err)
{
    return absent(call, CLASS_PVS_site, args->self, err);
}

int handle_pvs_server_introduce(struct call *call, const struct pvs_server_introduce_args *args,
                                struct ref *result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_PVS_site, args->site, err);
}

int handle_pvs_server_forget(struct call *call, const struct pvs_server_forget_args *args,
                             struct api_err *err)
{
    return absent(call, CLASS_PVS_server, args->self, err);
}

int handle_pvs_cache_storage_create(struct call *call, const struct pvs_cache_storage_row *record,
                                    struct ref *result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_PVS_site, record->site, err);
}

int handle_pvs_cache_storage_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    return absent(call, CLASS_PVS_cache_storage, args->self, err);
}

int handle_pvs_proxy_create(struct call *call, const struct pvs_proxy_create_args *args, struct ref *result,
                            struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_PVS_site, args->site, err);
}

int handle_pvs_proxy_destroy(struct call *call, const struct pvs_proxy_destroy_args *args,
                             struct api_err *err)
{
    return absent(call, CLASS_PVS_proxy, args->self, err);
}

/* ---- clusters of hosts for shared file systems: no cluster software is used ---- */

int handle_cluster_create(struct call *call, const struct cluster_create_args *args, struct ref *result,
                          struct api_err *err)
{
    (void)result;
    return find(call, CLASS_PIF, args->PIF, err) < 0 ? -1
                                                     : err_invalid_cluster_stack(err, args->cluster_stack);
}

int handle_cluster_destroy(struct call *call, const struct cluster_destroy_args *args, struct api_err *err)
{
    return absent(call, CLASS_Cluster, args->self, err);
}

int handle_cluster_get_network(struct call *call, const struct cluster_get_network_args *args,
                               struct ref *result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_Cluster, args->self, err);
}

int handle_cluster_pool_create(struct call *call, const struct cluster_pool_create_args *args,
                               struct ref *result, struct api_err *err)
{
    (void)result;
    return find(call, CLASS_network, args->network, err) < 0
               ? -1
               : err_invalid_cluster_stack(err, args->cluster_stack);
}

int handle_cluster_pool_force_destroy(struct call *call, const struct cluster_pool_force_destroy_args *args,
                                      struct api_err *err)
{
    return absent(call, CLASS_Cluster, args->self, err);
}

int handle_cluster_pool_destroy(struct call *call, const struct cluster_pool_destroy_args *args,
                                struct api_err *err)
{
    return absent(call, CLASS_Cluster, args->self, err);
}

int handle_cluster_pool_resync(struct call *call, const struct cluster_pool_resync_args *args,
                               struct api_err *err)
{
    return absent(call, CLASS_Cluster, args->self, err);
}

int handle_cluster_host_create(struct call *call, const struct cluster_host_create_args *args,
                               struct ref *result, struct api_err *err)
{
    (void)result;
    return absent(call, CLASS_Cluster, args->cluster, err);
}

int handle_cluster_host_destroy(struct call *call, const struct cluster_host_destroy_args *args,
                                struct api_err *err)
{
    return absent(call, CLASS_Cluster_host, args->self, err);
}

int handle_cluster_host_enable(struct call *call, const struct cluster_host_enable_args *args,
                               struct api_err *err)
{
    return absent(call, CLASS_Cluster_host, args->self, err);
}

int handle_cluster_host_force_destroy(struct call *call, const struct cluster_host_force_destroy_args *args,
                                      struct api_err *err)
{
    return absent(call, CLASS_Cluster_host, args->self, err);
}

int handle_cluster_host_forget(struct call *call, const struct cluster_host_forget_args *args,
                               struct api_err *err)
{
    return absent(call, CLASS_Cluster_host, args->self, err);
}

int handle_cluster_host_disable(struct call *call, const struct cluster_host_disable_args *args,
                                struct api_err *err)
{
    return absent(call, CLASS_Cluster_host, args->self, err);
}

/* ---- of hosts and the pool ---- */

/* A look finds none. */
int handle_host_rescan_drivers(struct call *call, const struct host_rescan_drivers_args *args,
                               struct api_err *err)
{
    return find(call, CLASS_host, args->self, err);
}

int handle_host_apply_guest_agent_config(struct call *call,
                                         const struct host_apply_guest_agent_config_args *args,
                                         struct api_err *err)
{
    return find(call, CLASS_host, args->host, err) < 0
               ? -1
               : err_operation_not_allowed(err, "Guests' agents take no settings from the pool.");
}

#define SECRET_BY_POOL "The pool's secret is replaced by pool.rotate_secret, which needs no steps of hosts."

int handle_host_notify_accept_new_pool_secret(struct call *call,
                                              const struct host_notify_accept_new_pool_secret_args *args,
                                              struct api_err *err)
{
    return find(call, CLASS_host, args->host, err) < 0 ? -1 : err_operation_not_allowed(err, SECRET_BY_POOL);
}

int handle_host_notify_send_new_pool_secret(struct call *call,
                                            const struct host_notify_send_new_pool_secret_args *args,
                                            struct api_err *err)
{
    return find(call, CLASS_host, args->host, err) < 0 ? -1 : err_operation_not_allowed(err, SECRET_BY_POOL);
}

int handle_host_cleanup_pool_secret(struct call *call, const struct host_cleanup_pool_secret_args *args,
                                    struct api_err *err)
{
    return find(call, CLASS_host, args->host, err) < 0 ? -1 : err_operation_not_allowed(err, SECRET_BY_POOL);
}

/* Without an address: the pool has none, as ever. */
int handle_pool_set_vswitch_controller(struct call *call, const struct pool_set_vswitch_controller_args *args,
                                       struct api_err *err)
{
    (void)call;
    return *args->address ? err_operation_not_allowed(err, NO_VSWITCH) : 0;
}

int handle_pool_initialize_wlb(struct call *call, const struct pool_initialize_wlb_args *args,
                               struct api_err *err)
{
    (void)call;
    (void)args;
    return err_licence_restriction(err, "WLB");
}

int handle_pool_retrieve_wlb_recommendations(struct call *call, json_t **result, struct api_err *err)
{
    (void)call;
    (void)result;
    return err_wlb_not_initialized(err);
}
