/* SR.enable_database_replication, pool.enable_redo_log and their opposites: disks that hold copies of the
 * pool's database (dr/replicas.h). A disk counts once a first copy is on it. */
#include "../dr/pool_copy.h"
#include "../dr/replicas.h"
#include "storage.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define DISKS_MAX 8 /* that hold copies */

static int check_sr(struct call *call, struct ref ref, struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, ref));
    bool attached = false;
    if (!sr)
        return fail_handle(err, CLASS_SR, ref);
    if (storage_sr_is_iso(sr) || sr->is_tools_sr)
        return err_sr_operation_not_supported(err, REF_TEXT(ref));
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, sr->PBDs->items[i]));
        attached = attached || (pbd && pbd->currently_attached);
    }
    return attached ? 0 : err_sr_has_no_pbds(err, REF_TEXT(ref));
}

/* ---- the disk ---- */

static int make_disk(struct call *call, struct ref sr, enum vdi_type type, const char *name,
                     const char *description, struct ref *out, struct api_err *err)
{
    struct row *row = row_new(CLASS_VDI, REF_NULL);
    struct vdi_row *record = vdi_row_mut(row);
    record->SR = sr;
    record->virtual_size = POOL_COPY_DISK_BYTES;
    record->type = type;
    str_assign(&record->name_label, name);
    str_assign(&record->name_description, description);
    int rc = handle_vdi_create(call, record, out, err);
    row_unref(row);
    return rc;
}

static void remove_disk(struct call *call, struct ref vdi)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (handle_vdi_destroy(call, &(struct args_self){.self = vdi}, &err) < 0)
        log_warn("replicas", "a disk for copies of the database could not be removed", "vdi",
                 OBJECT_TEXT(call->server, CLASS_VDI, vdi), "error", err.code);
}

/* From here on the thread keeps it up to date. */
static int count_in(struct call *call, struct ref ref, bool redo_log, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref pool_ref = call->server->pool_ref;
    if (!tx_get(tx, CLASS_VDI, ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VDI, ref);
    }
    struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, ref));
    vdi->metadata_of_pool = pool_ref;
    vdi->metadata_latest = true;
    if (redo_log) {
        struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, pool_ref));
        pool->redo_log_enabled = true;
        pool->redo_log_vdi = ref;
    }
    return server_commit(tx, err);
}

static int begin_copies(struct call *call, struct ref sr, enum vdi_type type, const char *name,
                        const char *description, struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    struct ref vdi;
    if (pool->metadata_VDIs && pool->metadata_VDIs->count >= DISKS_MAX)
        return err_no_more_redo_logs_allowed(err);
    if (make_disk(call, sr, type, name, description, &vdi, err) < 0)
        return -1;
    if (replicas_write(call->server, vdi, call->cancel, err) == 0 &&
        count_in(call, vdi, type == VDI_TYPE_REDO_LOG, err) == 0)
        return 0;
    remove_disk(call, vdi);
    return -1;
}

/* The disk of this type that holds this pool's database, in the SR or (null) anywhere. */
static struct ref find_disk(struct call *call, struct ref sr, enum vdi_type type)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    for (size_t i = 0; pool->metadata_VDIs && i < pool->metadata_VDIs->count; i++) {
        const struct vdi_row *vdi =
            vdi_row(snapshot_get(call->snapshot, CLASS_VDI, pool->metadata_VDIs->items[i]));
        if (vdi && vdi->type == type && (ref_is_null(sr) || ref_eq(vdi->SR, sr)))
            return vdi->row.ref;
    }
    return REF_NULL;
}

/* No copies go to the disk from here on, nor is one on its way: so it can be removed. Null is none. */
static int end_copies(struct call *call, struct ref ref, bool redo_log, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (tx_get(tx, CLASS_VDI, ref))
        vdi_row_mut(tx_edit(tx, CLASS_VDI, ref))->metadata_of_pool = REF_NULL;
    if (redo_log) {
        struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, call->server->pool_ref));
        pool->redo_log_enabled = false;
        pool->redo_log_vdi = REF_NULL;
    }
    if (server_commit(tx, err) < 0)
        return -1;
    if (ref_is_null(ref))
        return 0;
    replicas_leave(call->server->replicas, ref);
    return handle_vdi_destroy(call, &(struct args_self){.self = ref}, err);
}

/* ---- messages ---- */

int handle_sr_assert_supports_database_replication(
    struct call *call, const struct sr_assert_supports_database_replication_args *args, struct api_err *err)
{
    return check_sr(call, args->sr, err);
}

int handle_sr_enable_database_replication(struct call *call,
                                          const struct sr_enable_database_replication_args *args,
                                          struct api_err *err)
{
    if (check_sr(call, args->sr, err) < 0)
        return -1;
    if (!ref_is_null(find_disk(call, args->sr, VDI_TYPE_METADATA)))
        return 0;
    return begin_copies(call, args->sr, VDI_TYPE_METADATA, "Metadata for DR", "Used for disaster recovery",
                        err);
}

int handle_sr_disable_database_replication(struct call *call,
                                           const struct sr_disable_database_replication_args *args,
                                           struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_SR, args->sr))
        return fail_handle(err, CLASS_SR, args->sr);
    return end_copies(call, find_disk(call, args->sr, VDI_TYPE_METADATA), false, err);
}

int handle_pool_enable_redo_log(struct call *call, const struct pool_enable_redo_log_args *args,
                                struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    if (check_sr(call, args->sr, err) < 0)
        return -1;
    if (pool->redo_log_enabled)
        return err_redo_log_is_enabled(err);
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    if (begin_copies(call, args->sr, VDI_TYPE_REDO_LOG, "Redo log", "Used by the pool's redo log", &cause) ==
        0)
        return 0;
    return err_cannot_enable_redo_log(err, cause.code);
}

int handle_pool_disable_redo_log(struct call *call, struct api_err *err)
{
    return end_copies(call, find_disk(call, REF_NULL, VDI_TYPE_REDO_LOG), true, err);
}
