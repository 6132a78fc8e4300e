/* Rules of VBDs and VIFs follow the VM they belong to; those of VDIs and SRs follow who uses them. */
#include "device.h"

#include "../server.h"
#include <base/mem.h>
#include <model/errors.h>
#include <model/rows.h>

static const struct vm_row *vm_of(struct tx *tx, struct ref vm)
{
    return vm_row(tx_get(tx, CLASS_VM, vm));
}

static int not_running(const struct vm_row *vm, struct api_err *err)
{
    static const char *const names[] = {[VM_POWER_STATE_HALTED] = "halted",
                                        [VM_POWER_STATE_PAUSED] = "paused",
                                        [VM_POWER_STATE_RUNNING] = "running",
                                        [VM_POWER_STATE_SUSPENDED] = "suspended"};
    return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "running", names[vm->power_state]);
}

static int check_vbd(struct tx *tx, const struct vbd_row *vbd, enum vbd_operations op, struct api_err *err)
{
    const char *self = REF_TEXT(vbd->row.ref);
    const struct vm_row *vm = vm_of(tx, vbd->VM);
    bool media = op == VBD_OPERATIONS_INSERT || op == VBD_OPERATIONS_EJECT;
    bool unplug = op == VBD_OPERATIONS_UNPLUG || op == VBD_OPERATIONS_UNPLUG_FORCE;
    if (!vm)
        return fail_handle(err, CLASS_VM, vbd->VM);
    if (unplug && !vbd->unpluggable)
        return err_vbd_not_unpluggable(err, self);
    if (media && vbd->type != VBD_TYPE_CD)
        return err_vbd_not_removable_media(err, self);
    if (op == VBD_OPERATIONS_EJECT && vbd->empty)
        return err_vbd_is_empty(err, self);
    if (op == VBD_OPERATIONS_INSERT && !vbd->empty)
        return err_vbd_not_empty(err, self);
    if (media && vm->power_state == VM_POWER_STATE_SUSPENDED)
        return not_running(vm, err);
    if (media)
        return 0;
    if (vm->power_state != VM_POWER_STATE_RUNNING)
        return not_running(vm, err);
    if (op == VBD_OPERATIONS_PLUG && vbd->currently_attached)
        return err_device_already_attached(err, self);
    if (unplug && !vbd->currently_attached)
        return err_device_already_detached(err, self);
    return 0;
}

static int check_vif(struct tx *tx, const struct vif_row *vif, enum vif_operations op, struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vif->VM);
    if (!vm)
        return fail_handle(err, CLASS_VM, vif->VM);
    if (vm->power_state != VM_POWER_STATE_RUNNING)
        return not_running(vm, err);
    if (op == VIF_OPERATIONS_PLUG && vif->currently_attached)
        return err_device_already_attached(err, REF_TEXT(vif->row.ref));
    if (op == VIF_OPERATIONS_UNPLUG && !vif->currently_attached)
        return err_device_already_detached(err, REF_TEXT(vif->row.ref));
    return 0;
}

static bool vdi_attached(struct tx *tx, const struct vdi_row *vdi)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        if (vbd && vbd->currently_attached)
            return true;
    }
    return false;
}

static bool sr_plugged(struct tx *tx, const struct sr_row *sr)
{
    for (size_t i = 0; sr && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached)
            return true;
    }
    return false;
}

static int check_vdi(struct tx *tx, const struct vdi_row *vdi, enum vdi_operations op, struct api_err *err)
{
    const char *self = REF_TEXT(vdi->row.ref);
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, vdi->SR));
    bool live_ok = op == VDI_OPERATIONS_SNAPSHOT || op == VDI_OPERATIONS_RESIZE_ONLINE ||
                   op == VDI_OPERATIONS_BLOCKED || op == VDI_OPERATIONS_CLONE || op == VDI_OPERATIONS_MIRROR;
    if (!live_ok && vdi_attached(tx, vdi))
        return err_vdi_in_use(err, self, model_enum_vdi_operations.values[op]);
    if (op != VDI_OPERATIONS_FORGET && !sr_plugged(tx, sr))
        return err_sr_has_no_pbds(err, REF_TEXT(vdi->SR));
    bool iso_ok = op == VDI_OPERATIONS_UPDATE || op == VDI_OPERATIONS_FORGET || op == VDI_OPERATIONS_BLOCKED;
    if (sr && streq(sr->type, "iso") && !iso_ok)
        return err_sr_operation_not_supported(err, REF_TEXT(vdi->SR));
    return 0;
}

static int check_sr(struct tx *tx, const struct sr_row *sr, enum storage_operations op, struct api_err *err)
{
    const char *self = REF_TEXT(sr->row.ref);
    bool plugged = sr_plugged(tx, sr);
    switch (op) {
    case STORAGE_OPERATIONS_FORGET:
        return plugged ? err_sr_has_pbd(err, self) : 0;
    case STORAGE_OPERATIONS_DESTROY:
        if (plugged)
            return err_sr_has_pbd(err, self);
        if (!sr->PBDs || sr->PBDs->count == 0)
            return err_sr_has_no_pbds(err, self);
        if (sr->VDIs && sr->VDIs->count)
            return err_sr_not_empty(err);
        return streq(sr->type, "iso") ? err_sr_operation_not_supported(err, self) : 0;
    case STORAGE_OPERATIONS_SCAN:
    case STORAGE_OPERATIONS_UPDATE:
    case STORAGE_OPERATIONS_VDI_INTRODUCE:
        return plugged ? 0 : err_sr_has_no_pbds(err, self);
    case STORAGE_OPERATIONS_VDI_CREATE:
    case STORAGE_OPERATIONS_VDI_DESTROY:
    case STORAGE_OPERATIONS_VDI_RESIZE:
    case STORAGE_OPERATIONS_VDI_CLONE:
        if (streq(sr->type, "iso"))
            return err_sr_operation_not_supported(err, self);
        return plugged ? 0 : err_sr_has_no_pbds(err, self);
    default:
        return 0;
    }
}

int device_operation_check(struct tx *tx, const struct row *row, int operation, struct api_err *err)
{
    if (row->cls == CLASS_VBD)
        return check_vbd(tx, vbd_row(row), (enum vbd_operations)operation, err);
    if (row->cls == CLASS_VIF)
        return check_vif(tx, vif_row(row), (enum vif_operations)operation, err);
    if (row->cls == CLASS_VDI)
        return check_vdi(tx, vdi_row(row), (enum vdi_operations)operation, err);
    if (row->cls == CLASS_SR)
        return check_sr(tx, sr_row(row), (enum storage_operations)operation, err);
    return 0;
}

uint64_t device_operations_allowed(struct tx *tx, const struct row *row)
{
    const struct field_desc *current = field_find(row->cls, "current_operations");
    const struct field_desc *allowed_field = field_find(row->cls, "allowed_operations");
    const struct str_map *running = row_cell(row, current)->str_map;
    if (running && running->count)
        return 0;
    uint64_t allowed = 0;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    for (int op = 0; op < allowed_field->type->item->en->count; op++)
        if (device_operation_check(tx, row, op, &err) == 0)
            allowed |= (uint64_t)1 << op;
    return allowed;
}
