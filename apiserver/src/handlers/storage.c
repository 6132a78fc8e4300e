/* What the handlers of storage share: finding an agent that sees an SR, its errors, sizes, rows of disks. */
#include "storage.h"

#include "../hosts/hosts.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

/* ---- agents ---- */

void storage_agent_put(struct storage_agent *agent)
{
    if (agent->agent)
        hosts_put(agent->server->hosts, agent->agent);
    *agent = STORAGE_AGENT_NONE;
}

static bool attached_on(const struct snapshot *snap, struct ref sr, struct ref host)
{
    const struct sr_row *row = sr_row(snapshot_get(snap, CLASS_SR, sr));
    for (size_t i = 0; row && row->PBDs && i < row->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, row->PBDs->items[i]));
        if (pbd && pbd->currently_attached && ref_eq(pbd->host, host))
            return true;
    }
    return false;
}

bool storage_seen_together(const struct snapshot *snap, struct ref a, struct ref b)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, a));
    for (size_t i = 0; sr && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && attached_on(snap, a, pbd->host) && attached_on(snap, b, pbd->host))
            return true;
    }
    return false;
}

bool storage_host_is_live(const struct snapshot *snap, struct ref host)
{
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    const struct row *metrics = row ? snapshot_get(snap, CLASS_host_metrics, row->metrics) : NULL;
    return metrics && host_metrics_row(metrics)->live;
}

int storage_agent_get(struct server *server, const struct snapshot *snap, struct ref sr, struct ref and_sr,
                      struct storage_agent *out, struct api_err *err)
{
    const struct sr_row *row = sr_row(snapshot_get(snap, CLASS_SR, sr));
    if (!row)
        return fail_handle(err, CLASS_SR, sr);
    err_sr_has_no_pbds(err, REF_TEXT(sr));
    for (size_t i = 0; row->PBDs && i < row->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, row->PBDs->items[i]));
        if (!pbd || !pbd->currently_attached)
            continue;
        if (!ref_is_null(and_sr) && !attached_on(snap, and_sr, pbd->host))
            continue;
        if (!storage_host_is_live(snap, pbd->host)) {
            err_host_offline(err, REF_TEXT(pbd->host));
            continue;
        }
        struct hv_host *agent = hosts_get(server->hosts, pbd->host, err);
        if (!agent)
            continue;
        api_err_done(err);
        *out = (struct storage_agent){server, pbd->host, agent};
        return 0;
    }
    return -1;
}

int storage_check_reached(struct server *server, const struct snapshot *snap, struct ref sr,
                          struct ref and_sr, struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    return storage_agent_get(server, snap, sr, and_sr, &at, err);
}

/* ---- errors ---- */

int storage_fail_backend(struct api_err *err, enum backend_failure failure, const char *text)
{
    static const char *const codes[] = {
        [BACKEND_FAILURE] = "SR_BACKEND_FAILURE",
        [BACKEND_FAILURE_IN_USE] = "SR_BACKEND_FAILURE_16",
        [BACKEND_FAILURE_NO_SPACE] = "SR_BACKEND_FAILURE_44",
        [BACKEND_FAILURE_VDI_AWAY] = "SR_BACKEND_FAILURE_46",
        [BACKEND_FAILURE_SR_AWAY] = "SR_BACKEND_FAILURE_47",
        [BACKEND_FAILURE_INVALID_SIZE] = "SR_BACKEND_FAILURE_79",
        [BACKEND_FAILURE_TOO_DEEP] = "SR_BACKEND_FAILURE_109",
        [BACKEND_FAILURE_UNRELATED] = "SR_BACKEND_FAILURE_460",
    };
    const char *params[] = {"", text, ""};
    return api_err_set_code(err, codes[failure], params, ARRAY_LEN(params));
}

int storage_fail(struct api_err *err, struct ref host, struct ref sr, struct ref vdi, const char *operation,
                 const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_NO_SPACE:
        return storage_fail_backend(err, BACKEND_FAILURE_NO_SPACE, cause->text);
    case HV_ERR_KIND_NOT_FOUND:
        return storage_fail_backend(
            err, ref_is_null(vdi) ? BACKEND_FAILURE_SR_AWAY : BACKEND_FAILURE_VDI_AWAY, cause->text);
    case HV_ERR_KIND_IN_USE:
        if (!ref_is_null(vdi))
            return err_vdi_in_use(err, REF_TEXT(vdi), operation);
        return storage_fail_backend(err, BACKEND_FAILURE_IN_USE, cause->text);
    case HV_ERR_KIND_TOO_DEEP:
        return storage_fail_backend(err, BACKEND_FAILURE_TOO_DEEP, cause->text);
    case HV_ERR_KIND_UNSUPPORTED:
        log_info("storage", "an agent refused what it cannot do", "cause", cause->text);
        return err_sr_operation_not_supported(err, REF_TEXT(sr));
    case HV_ERR_KIND_EXISTS:
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_BAD_STATE:
    case HV_ERR_KIND_FORMAT:
    case HV_ERR_KIND_IO:
        return storage_fail_backend(err, BACKEND_FAILURE, cause->text);
    case HV_ERR_KIND_NONE:
    case HV_ERR_KIND_UNREACHABLE:
    case HV_ERR_KIND_DEADLINE:
    case HV_ERR_KIND_NO_MEMORY:
    case HV_ERR_KIND_GUEST:
    case HV_ERR_KIND_DEVICE_MODEL:
    case HV_ERR_KIND_NO_KERNEL:
    case HV_ERR_KIND_NO_RAMDISK:
    case HV_ERR_KIND_CRASHED:
    case HV_ERR_KIND_HALTED:
    case HV_ERR_KIND_CANCELLED:
    case HV_ERR_KIND_DENIED:
    case HV_ERR_KIND_SUPERSEDED:
    case HV_ERR_KIND_INTERNAL:
        break;
    }
    return hosts_fail(err, host, cause);
}

/* ---- steps ---- */

int storage_attach(struct hv_host *agent, const struct hv_op *op, const char *sr_uuid, const char *type,
                   const struct str_map *config, struct sr_stats *stats, struct hv_err *cause)
{
    struct hv_sr_attach_args args;
    struct hv_sr_attach_result result;
    hv_sr_attach_args_init(&args);
    str_assign(&args.sr, sr_uuid);
    str_assign(&args.type, type);
    str_map_assign(&args.config, str_map_ref(config));
    int rc = hv_sr_attach(agent, op, &args, &result, cause);
    if (rc == 0) {
        *stats = result.stats;
        hv_sr_attach_result_done(&result);
    }
    hv_sr_attach_args_done(&args);
    return rc;
}

void storage_detach_quietly(struct hv_host *agent, const char *sr_uuid)
{
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id)};
    struct hv_sr_forget_args args;
    struct hv_sr_forget_result result;
    struct hv_err cause;
    hv_sr_forget_args_init(&args);
    str_assign(&args.sr, sr_uuid);
    if (hv_sr_forget(agent, &op, &args, &result, &cause) == 0)
        hv_sr_forget_result_done(&result);
    else
        log_error("storage", "an SR could not be detached while a failed call was undone", "sr", sr_uuid,
                  "cause", cause.text);
    hv_sr_forget_args_done(&args);
}

bool storage_read_stats(struct hv_host *agent, const char *sr_uuid, struct sr_stats *stats)
{
    struct hv_sr_stats_args args;
    struct hv_sr_stats_result result;
    struct hv_err cause;
    hv_sr_stats_args_init(&args);
    str_assign(&args.sr, sr_uuid);
    int rc = hv_sr_stats(agent, NULL, &args, &result, &cause);
    hv_sr_stats_args_done(&args);
    if (rc < 0) {
        log_warn("storage", "the space of an SR could not be read", "sr", sr_uuid, "cause", cause.text);
        return false;
    }
    *stats = result.stats;
    hv_sr_stats_result_done(&result);
    return true;
}

void storage_apply_stats(struct tx *tx, struct ref ref, const struct sr_stats *stats)
{
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, ref));
    /* Clients take size less utilisation for what is free, whoever uses the rest of the file system. */
    int64_t used = stats->physical_size_bytes - stats->physical_free_bytes;
    if (!sr || (sr->physical_size == stats->physical_size_bytes && sr->physical_utilisation == used))
        return;
    struct sr_row *edit = sr_row_mut(tx_edit(tx, CLASS_SR, ref));
    edit->physical_size = stats->physical_size_bytes;
    edit->physical_utilisation = used;
}

/* ---- rows ---- */

bool storage_sr_is_iso(const struct sr_row *sr)
{
    return streq(sr->type, "iso") || streq(sr->content_type, "iso");
}

void storage_disk_name(const struct sr_row *sr, const struct vdi_row *vdi, const char **disk,
                       const char **iso)
{
    bool file = storage_sr_is_iso(sr);
    *disk = file ? "" : vdi->uuid;
    *iso = file ? vdi->location : "";
}

static bool attached(struct tx *tx, const struct vdi_row *vdi, bool writing)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        if (vbd && vbd->currently_attached && (!writing || vbd->mode == VBD_MODE_RW))
            return true;
    }
    return false;
}

bool storage_vdi_attached(struct tx *tx, const struct vdi_row *vdi)
{
    return attached(tx, vdi, false);
}

bool storage_vdi_written(struct tx *tx, const struct vdi_row *vdi)
{
    return attached(tx, vdi, true);
}

static void add_allocation(struct tx *tx, struct ref sr, int64_t bytes)
{
    if (bytes != 0 && tx_get(tx, CLASS_SR, sr))
        sr_row_mut(tx_edit(tx, CLASS_SR, sr))->virtual_allocation += bytes;
}

static void copy_attributes(struct vdi_row *vdi, const struct vdi_row *like)
{
    str_assign(&vdi->name_label, like->name_label);
    str_assign(&vdi->name_description, like->name_description);
    vdi->type = like->type;
    vdi->sharable = like->sharable;
    vdi->read_only = like->read_only;
    str_map_assign(&vdi->other_config, str_map_ref(like->other_config));
    str_map_assign(&vdi->xenstore_data, str_map_ref(like->xenstore_data));
    str_map_assign(&vdi->sm_config, str_map_ref(like->sm_config));
    str_set_assign(&vdi->tags, str_set_ref(like->tags));
}

struct vdi_row *storage_add_vdi(struct tx *tx, struct ref sr, const char *uuid, const struct disk_info *info,
                                const struct vdi_row *like)
{
    struct vdi_row *vdi = vdi_row_mut(tx_create(tx, CLASS_VDI));
    add_allocation(tx, sr, info->virtual_size_bytes);
    str_assign(&vdi->uuid, uuid);
    vdi->SR = sr;
    str_assign(&vdi->location, *info->uuid ? info->uuid : info->name);
    vdi->virtual_size = info->virtual_size_bytes;
    vdi->physical_utilisation = info->physical_bytes;
    vdi->type = VDI_TYPE_USER;
    vdi->read_only = info->read_only;
    vdi->managed = true;
    vdi->missing = false;
    if (like)
        copy_attributes(vdi, like);
    return vdi;
}

void storage_remove_vdi(struct tx *tx, struct ref ref)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    if (!vdi)
        return;
    AUTO_REF_SET const struct ref_set *vbds = ref_set_ref(vdi->VBDs);
    for (size_t i = 0; vbds && i < vbds->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vbds->items[i]));
        if (!vbd || !ref_eq(vbd->VDI, ref))
            continue; /* it has another one since this transaction began */
        if (vbd->type != VBD_TYPE_CD) {
            tx_delete(tx, CLASS_VBD, vbds->items[i]);
            continue;
        }
        struct vbd_row *drive = vbd_row_mut(tx_edit(tx, CLASS_VBD, vbds->items[i]));
        drive->VDI = REF_NULL;
        drive->empty = true;
    }
    add_allocation(tx, vdi->SR, -vdi->virtual_size);
    tx_delete(tx, CLASS_VDI, ref);
}

void storage_update_vdi(struct tx *tx, struct ref ref, const struct disk_info *info)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    if (!vdi || (vdi->virtual_size == info->virtual_size_bytes &&
                 vdi->physical_utilisation == info->physical_bytes && !vdi->missing))
        return;
    add_allocation(tx, vdi->SR, info->virtual_size_bytes - vdi->virtual_size);
    struct vdi_row *edit = vdi_row_mut(tx_edit(tx, CLASS_VDI, ref));
    edit->virtual_size = info->virtual_size_bytes;
    edit->physical_utilisation = info->physical_bytes;
    edit->missing = false;
}
