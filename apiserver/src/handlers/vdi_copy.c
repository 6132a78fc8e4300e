/* VDI.copy, clone, snapshot: a disk from another one. */
#include "../gate/task.h"
#include "checks.h"
#include "disk_copies.h"
#include <base/clock.h>
#include <handlers.h>
#include <model/errors.h>

/* `snapshot_of` null: a disk of its own. */
static int make_one(struct call *call, struct ref source, struct ref sr, enum copy_kind kind,
                    struct ref snapshot_of, struct ref *result, struct api_err *err)
{
    struct disk_copies copies;
    size_t index;
    disk_copies_init(&copies, call);
    copies.snapshots = !ref_is_null(snapshot_of);
    int rc = disk_copies_add(&copies, source, sr, &index, err);
    if (rc == 0)
        rc = disk_copies_make(&copies, kind, err);
    if (rc == 0) {
        struct tx *tx = store_begin(call->server->store);
        struct vdi_row *vdi = disk_copies_record(&copies, tx, index);
        if (vdi) {
            *result = vdi->row.ref;
            vdi->is_a_snapshot = !ref_is_null(snapshot_of);
            vdi->snapshot_of = snapshot_of;
            vdi->snapshot_time = vdi->is_a_snapshot ? clock_unix_seconds() : 0;
            task_note_done(tx, call, *result);
            rc = server_commit(tx, err);
        } else {
            tx_abort(tx);
            rc = fail_handle(err, CLASS_SR, sr);
        }
    }
    disk_copies_done(&copies, rc == 0);
    return rc;
}

/* That it can be copied, and that some host sees both its SR and the other one (null: its own). */
static int check_copy(struct call *call, struct ref ref, struct ref sr, const struct refusals *all,
                      struct api_err *err)
{
    if (refused(all, disk_copies_check(call->snapshot, ref, sr, all, err), err))
        return -1;
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, ref));
    return vdi ? storage_check_reached(call->server, call->snapshot, vdi->SR, sr, err) : 0;
}

int check_vdi_copy(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                   struct api_err *err)
{
    const struct vdi_copy_args *asked = args;
    (void)tx;
    if ((!ref_is_null(asked->base_vdi) || !ref_is_null(asked->into_vdi)) &&
        refused(all, err_not_implemented(err, "VDI.copy with base_vdi or into_vdi"), err))
        return -1;
    return check_copy(call, asked->vdi, asked->sr, all, err);
}

int check_vdi_thin_copy(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                        struct api_err *err)
{
    (void)tx;
    return check_copy(call, ((const struct vdi_clone_args *)args)->vdi, REF_NULL, all, err);
}

int handle_vdi_copy(struct call *call, const struct vdi_copy_args *args, struct ref *result,
                    struct api_err *err)
{
    if (!ref_is_null(args->base_vdi) || !ref_is_null(args->into_vdi))
        return err_not_implemented(err, "VDI.copy with base_vdi or into_vdi");
    return make_one(call, args->vdi, args->sr, COPY_FULL, REF_NULL, result, err);
}

int handle_vdi_clone(struct call *call, const struct vdi_clone_args *args, struct ref *result,
                     struct api_err *err)
{
    return make_one(call, args->vdi, REF_NULL, COPY_THIN, REF_NULL, result, err);
}

int handle_vdi_snapshot(struct call *call, const struct vdi_snapshot_args *args, struct ref *result,
                        struct api_err *err)
{
    return make_one(call, args->vdi, REF_NULL, COPY_THIN, args->vdi, result, err);
}
