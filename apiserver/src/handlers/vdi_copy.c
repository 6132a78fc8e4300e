/* VDI.copy, clone, snapshot: a disk from another one. */
#include "../gate/task.h"
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
