/* VM.snapshot, checkpoint, revert. */
#include "../gate/task.h"
#include "../rules/operations.h"
#include "alert.h"
#include "vm_copy.h"
#include "vm_kept.h"
#include "vm_power.h"
#include "vm_record.h"
#include "vm_state.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

int handle_vm_snapshot(struct call *call, const struct vm_snapshot_args *args, struct ref *result,
                       struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    const struct vm_copy how = {.call = call, .kind = VM_COPY_SNAPSHOT, .ignore = args->ignore_vdis};
    return vm ? vm_copy(&how, vm, args->new_name, result, err) : -1;
}

int handle_vm_checkpoint(struct call *call, const struct vm_checkpoint_args *args, struct ref *result,
                         struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    const struct vm_copy how = {.call = call, .kind = VM_COPY_CHECKPOINT};
    return vm ? vm_copy(&how, vm, args->new_name, result, err) : -1;
}

int handle_vm_snapshot_with_quiesce(struct call *call, const struct vm_snapshot_with_quiesce_args *args,
                                    struct ref *result, struct api_err *err)
{
    (void)result;
    if (!vm_find(call, args->vm, err))
        return -1;
    return err_vm_snapshot_with_quiesce_not_supported(err, REF_TEXT(args->vm),
                                                      "Snapshots with the guest's help are gone.");
}

/* ---- revert ---- */

struct reverting {
    struct call *call;
    struct ref vm, snapshot;
    struct vm_drives drives; /* of the snapshot, for the VM */
    struct ref *srs;         /* that disks went from */
    size_t sr_count;
};

static int begin(struct reverting *r, struct api_err *err)
{
    struct tx *tx = store_begin(r->call->server->store);
    if (operation_check(tx, CLASS_VM, r->vm, VM_OPERATIONS_REVERTING, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    operation_mark(tx, CLASS_VM, r->vm, r->call->task, VM_OPERATIONS_REVERTING);
    return server_commit(tx, err);
}

static void end(struct tx *tx, void *arg)
{
    const struct reverting *r = arg;
    operation_unmark(tx, CLASS_VM, r->vm, r->call->task);
}

/* The new disk that stands for this one, which the snapshot has; NULL: the snapshot does not have it. */
static struct vdi_row *successor(struct reverting *r, struct tx *tx, struct ref old)
{
    for (size_t i = 0; i < r->drives.count; i++) {
        const struct vm_drive *drive = &r->drives.items[i];
        if (drive->copied && ref_eq(r->drives.disks.items[drive->index].source->snapshot_of, old))
            return vdi_row_mut(tx_edit(tx, CLASS_VDI, drive->made));
    }
    return NULL;
}

static bool others_use(struct tx *tx, const struct vdi_row *vdi, struct ref vm)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        if (vbd && !ref_eq(vbd->VM, vm))
            return true;
    }
    return false;
}

/* The disk goes; its snapshots, the reverted one included, are those of its successor. */
static void replace_disk(struct reverting *r, struct tx *tx, const struct vdi_row *old, struct vdi_row *next)
{
    for (size_t i = 0; old->snapshots && i < old->snapshots->count; i++)
        if (tx_get(tx, CLASS_VDI, old->snapshots->items[i]))
            vdi_row_mut(tx_edit(tx, CLASS_VDI, old->snapshots->items[i]))->snapshot_of = next->row.ref;
    r->srs = xreallocarray(r->srs, r->sr_count + 1, sizeof(*r->srs));
    r->srs[r->sr_count++] = old->SR;
    storage_discard_vdi(tx, old->row.ref);
}

static bool snapshot_has_device(const struct reverting *r, const char *userdevice)
{
    for (size_t i = 0; i < r->drives.count; i++) {
        const struct vbd_row *vbd =
            vbd_row(snapshot_get(r->drives.disks.snap, CLASS_VBD, r->drives.items[i].vbd));
        if (streq(vbd->userdevice, userdevice))
            return true;
    }
    return false;
}

/* What the snapshot has takes the place of what the VM has. A disk that the snapshot does not have stays, and
 * stays with the VM if its place is free. */
static void remove_old(struct reverting *r, struct tx *tx, const struct ref_set *vbds,
                       const struct ref_set *vifs)
{
    for (size_t i = 0; vifs && i < vifs->count; i++)
        tx_delete(tx, CLASS_VIF, vifs->items[i]);
    for (size_t i = 0; vbds && i < vbds->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vbds->items[i]));
        if (!vbd)
            continue;
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, vbd->VDI));
        struct vdi_row *next = vdi && vbd->type == VBD_TYPE_DISK ? successor(r, tx, vbd->VDI) : NULL;
        bool stays = vbd->type == VBD_TYPE_DISK && !next && !snapshot_has_device(r, vbd->userdevice);
        if (stays)
            continue;
        struct ref ref = vbd->row.ref;
        if (next && !others_use(tx, vdi, r->vm))
            replace_disk(r, tx, vdi, next);
        if (tx_get(tx, CLASS_VBD, ref))
            tx_delete(tx, CLASS_VBD, ref);
    }
}

static void take_settings(struct tx *tx, struct vm_row *vm, const struct vm_row *snapshot)
{
    struct row *record = vm_record_read(snapshot->snapshot_metadata);
    vm_record_take_settings(vm, record ? vm_row(record) : snapshot);
    if (record)
        row_unref(record);
    if (!ref_is_null(vm->affinity) && !tx_get(tx, CLASS_host, vm->affinity))
        vm->affinity = REF_NULL;
    if (!ref_is_null(vm->suspend_SR) && !tx_get(tx, CLASS_SR, vm->suspend_SR))
        vm->suspend_SR = REF_NULL;
    str_assign(&vm->last_booted_record, snapshot->last_booted_record);
    vm_new_generation(vm);
}

static int record(struct reverting *r, struct api_err *err)
{
    struct tx *tx = store_begin(r->call->server->store);
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, r->vm));
    const struct vm_row *snapshot = vm_row(tx_get(tx, CLASS_VM, r->snapshot));
    struct ref memory;
    if (!now || !snapshot) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, now ? r->snapshot : r->vm);
    }
    AUTO_REF_SET const struct ref_set *vbds = ref_set_ref(now->VBDs);
    AUTO_REF_SET const struct ref_set *vifs = ref_set_ref(now->VIFs);
    vm_state_halted(tx, r->vm);
    if (vm_drives_record(&r->drives, tx, r->vm, false, r->drives.has_memory, &memory, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, r->vm));
    take_settings(tx, vm, snapshot);
    vm->parent = r->snapshot;
    if (r->drives.has_memory) {
        vm->power_state = VM_POWER_STATE_SUSPENDED;
        vm->suspend_VDI = memory;
    }
    vm_copy_vifs(tx, r->drives.disks.snap, snapshot, vm, true);
    vtpm_delete_all(tx, now);
    vtpm_copy_all(tx, snapshot, r->vm, true);
    remove_old(r, tx, vbds, vifs);
    AUTO_FREE char *body =
        xasprintf("VM '%s' was reverted to snapshot '%s'", vm->name_label, snapshot->name_label);
    alert_add(tx, ALERT_VM_SNAPSHOT_REVERTED, CLS_VM, vm->uuid, body);
    task_note_done(tx, r->call, REF_NULL);
    return server_commit(tx, err);
}

static int revert(struct reverting *r, const struct vm_row *snapshot, const struct vm_row *vm,
                  struct api_err *err)
{
    /* All that can fail comes before anything is taken from the VM. */
    if (vm_drives_add(&r->drives, snapshot, REF_NULL, NULL, err) < 0 ||
        disk_copies_make(&r->drives.disks, COPY_THIN, err) < 0)
        return -1;
    if (!ref_is_null(vm->resident_on) && vm_end_domain(r->call, vm, err) < 0)
        return -1;
    return record(r, err);
}

int handle_vm_revert(struct call *call, const struct vm_revert_args *args, struct api_err *err)
{
    struct reverting r = {.call = call, .snapshot = args->snapshot};
    const struct vm_row *snapshot = vm_find(call, args->snapshot, err);
    if (!snapshot)
        return -1;
    r.vm = snapshot->snapshot_of;
    if (begin(&r, err) < 0)
        return -1;
    vm_drives_init(&r.drives, call);
    snapshot = vm_row(snapshot_get(r.drives.disks.snap, CLASS_VM, args->snapshot));
    const struct vm_row *vm = vm_row(snapshot_get(r.drives.disks.snap, CLASS_VM, r.vm));
    int rc = vm && snapshot ? revert(&r, snapshot, vm, err) : fail_handle(err, CLASS_VM, r.vm);
    vm_drives_done(&r.drives, rc == 0);
    server_insist(call->server, end, &r);
    for (size_t i = 0; rc == 0 && i < r.sr_count; i++)
        storage_sweep(call->server, r.srs[i]);
    free(r.srs);
    return rc;
}

/* What an older server would have noted of a snapshot that it imported. */
int handle_vm_update_snapshot_metadata(struct call *call, const struct vm_update_snapshot_metadata_args *args,
                                       struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref missing = !tx_get(tx, CLASS_VM, args->vm) ? args->vm : args->snapshot_of;
    if (!tx_get(tx, CLASS_VM, missing)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, missing);
    }
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, args->vm));
    vm->is_a_snapshot = true;
    vm->snapshot_of = args->snapshot_of;
    vm->snapshot_time = args->snapshot_time;
    str_assign(&vm->transportable_snapshot_id, args->transportable_snapshot_id);
    return server_commit(tx, err);
}
