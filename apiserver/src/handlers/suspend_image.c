#include "suspend_image.h"

#include "../hosts/hosts.h"
#include "storage.h"
#include <base/mem.h>
#include <model/errors.h>

static bool usable(const struct snapshot *snap, struct ref ref, struct ref host)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    if (!sr || storage_sr_is_iso(sr))
        return false;
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && ref_eq(pbd->host, host))
            return true;
    }
    return false;
}

int suspend_image_choose(const struct snapshot *snap, struct server *server, const struct vm_row *vm,
                         struct ref *sr, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, vm->resident_on));
    const struct ref choices[] = {vm->suspend_SR, pool ? pool->suspend_image_SR : REF_NULL,
                                  host ? host->suspend_image_sr : REF_NULL,
                                  pool ? pool->default_SR : REF_NULL};
    for (size_t i = 0; i < ARRAY_LEN(choices); i++)
        if (!ref_is_null(choices[i]) && usable(snap, choices[i], vm->resident_on)) {
            *sr = choices[i];
            return 0;
        }
    return err_vm_no_suspend_sr(err, REF_TEXT(vm->row.ref));
}

int suspend_image_size(struct server *server, const struct vm_row *vm, int64_t *bytes, struct api_err *err)
{
    struct hv_domain_suspend_size_args args;
    struct hv_domain_suspend_size_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    hv_domain_suspend_size_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    int rc = hv_domain_suspend_size(agent, NULL, &args, &result, &cause);
    hv_domain_suspend_size_args_done(&args);
    hosts_put(server->hosts, agent);
    if (rc < 0 && cause.kind == HV_ERR_KIND_NOT_FOUND)
        return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "running", "halted");
    if (rc < 0)
        return hosts_fail(err, vm->resident_on, &cause);
    *bytes = result.virtual_size_bytes;
    hv_domain_suspend_size_result_done(&result);
    return 0;
}

void suspend_image_describe(struct vdi_row *vdi)
{
    vdi->type = VDI_TYPE_SUSPEND;
    str_assign(&vdi->name_label, "Suspend image");
    str_assign(&vdi->name_description, "Suspend image");
    str_map_put(&vdi->sm_config, "type", "raw");
}
