/* Rules of VBDs and VIFs: they follow the VM that they belong to, and the disk behind them. */
#include "device.h"

#include "../server.h"
#include "vm.h"
#include <base/mem.h>
#include <model/errors.h>

#define VBD_OP(name) (1u << VBD_OPERATIONS_##name)
#define VIF_OP(name) (1u << VIF_OPERATIONS_##name)

int operation_in_the_way(struct api_err *err, const struct row *row, const struct str_pair *running)
{
    return err_other_operation_in_progress(err, row->cls->name, REF_TEXT(row->ref), running->value,
                                           running->key);
}

static const struct vm_row *vm_of(struct tx *tx, struct ref vm)
{
    return vm_row(tx_get(tx, CLASS_VM, vm));
}

/* Devices do not come and go while the VM does. */
static int check_vm_busy(const struct vm_row *vm, struct api_err *err)
{
    static const char *const words[] = {"clean_shutdown", "hard_shutdown", "suspend", "pause"};
    for (size_t i = 0; vm->current_operations && i < vm->current_operations->count; i++)
        for (size_t k = 0; k < ARRAY_LEN(words); k++)
            if (streq(vm->current_operations->pairs[i].value, words[k])) {
                AUTO_FREE char *text =
                    xasprintf("Current operation on VM:%s is %s", REF_TEXT(vm->row.ref), words[k]);
                return err_operation_not_allowed(err, text);
            }
    return 0;
}

enum device_kind { DEVICE_VBD, DEVICE_VIF };

/* Guests may say that they cannot take devices while they run; those that say nothing can: the device model
 * plugs what the guest has been started with a driver for. */
static int check_hotplug(struct tx *tx, const struct vm_row *vm, enum device_kind kind, struct api_err *err)
{
    const struct vm_guest_metrics_row *guest =
        vm_guest_metrics_row(tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics));
    enum tristate_type can = TRISTATE_TYPE_UNSPECIFIED;
    if (guest)
        can = kind == DEVICE_VBD ? guest->can_use_hotplug_vbd : guest->can_use_hotplug_vif;
    if (can != TRISTATE_TYPE_NO)
        return 0;
    return err_operation_not_allowed(err, kind == DEVICE_VBD ? "VM states it does not support VBD hotplug."
                                                             : "VM states it does not support VIF hotplug.");
}

/* ---- VBD ---- */

/* Some other VBD has the disk, or is about to; *writing: one that writes. */
static bool others_have_disk(struct tx *tx, const struct vbd_row *self, const struct vdi_row *vdi,
                             bool *writing)
{
    bool any = false;
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        if (!vbd || vbd == self || ref_eq(vbd->row.ref, self->row.ref))
            continue;
        if (!vbd->currently_attached && !vbd->current_operations)
            continue;
        any = true;
        *writing |= vbd->mode == VBD_MODE_RW;
    }
    return any;
}

static const struct str_pair *vdi_busy(const struct vdi_row *vdi)
{
    for (size_t i = 0; vdi->current_operations && i < vdi->current_operations->count; i++) {
        const struct str_pair *running = &vdi->current_operations->pairs[i];
        if (!streq(running->value, "copy") && !streq(running->value, "mirror"))
            return running;
    }
    return NULL;
}

int vbd_sharing_check(struct tx *tx, const struct vbd_row *vbd, struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, vbd->VDI));
    bool writes = vbd->mode == VBD_MODE_RW, written = false;
    if (!vdi)
        return 0;
    const struct str_pair *busy = vdi_busy(vdi);
    if (vdi_upload_is_open(vdi)) {
        const char *params[] = {REF_TEXT(vdi->row.ref)};
        return api_err_set_code(err, "VDI_IN_USE", params, 1);
    }
    if (!vdi->managed)
        return err_vdi_not_managed(err, REF_TEXT(vdi->row.ref));
    if (busy)
        return operation_in_the_way(err, &vdi->row, busy);
    bool shared = others_have_disk(tx, vbd, vdi, &written);
    if (!vdi->sharable && shared && (writes || written)) {
        const char *params[] = {REF_TEXT(vdi->row.ref)};
        return api_err_set_code(err, "VDI_IN_USE", params, 1);
    }
    if (writes && vdi->read_only)
        return err_vdi_readonly(err, REF_TEXT(vdi->row.ref));
    return 0;
}

/* What the drive is and holds. */
static int check_drive(const struct vbd_row *vbd, enum vbd_operations op, struct api_err *err)
{
    const char *self = REF_TEXT(vbd->row.ref);
    unsigned bit = 1u << op;
    if (!vbd->unpluggable && bit & (VBD_OP(UNPLUG) | VBD_OP(UNPLUG_FORCE)))
        return err_vbd_not_unpluggable(err, self);
    if (vbd->type != VBD_TYPE_CD && bit & (VBD_OP(INSERT) | VBD_OP(EJECT)))
        return err_vbd_not_removable_media(err, self);
    if (op == VBD_OPERATIONS_EJECT && vbd->empty)
        return err_vbd_is_empty(err, self);
    if (op == VBD_OPERATIONS_INSERT && !vbd->empty)
        return err_vbd_not_empty(err, self);
    return 0;
}

/* What the VM's state allows. */
static int check_vbd_state(const struct vm_row *vm, const struct vbd_row *vbd, enum vbd_operations op,
                           struct api_err *err)
{
    unsigned bit = 1u << op;
    const unsigned plugging = VBD_OP(PLUG) | VBD_OP(UNPLUG) | VBD_OP(UNPLUG_FORCE);
    const unsigned holding = VBD_OP(PAUSE) | VBD_OP(UNPAUSE);
    if (vm->power_state == VM_POWER_STATE_RUNNING) {
        if (op == VBD_OPERATIONS_PLUG && vbd->currently_attached)
            return err_device_already_attached(err, REF_TEXT(vbd->row.ref));
        if (bit & (VBD_OP(UNPLUG) | VBD_OP(UNPLUG_FORCE)) && !vbd->currently_attached)
            return err_device_already_detached(err, REF_TEXT(vbd->row.ref));
    } else if (bit & plugging || (bit & holding && vm->power_state != VM_POWER_STATE_PAUSED)) {
        return vm_bad_state(err, vm, "running");
    }
    return 0;
}

static int check_vbd(struct tx *tx, const struct vbd_row *vbd, enum vbd_operations op, struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vbd->VM);
    unsigned bit = 1u << op;
    const unsigned plugging = VBD_OP(PLUG) | VBD_OP(UNPLUG) | VBD_OP(UNPLUG_FORCE);
    const struct str_map *current = vbd->current_operations;
    if (!vm)
        return fail_handle(err, CLASS_VM, vbd->VM);
    if (current && !(bit & (VBD_OP(PAUSE) | VBD_OP(UNPAUSE))))
        return operation_in_the_way(err, &vbd->row, &current->pairs[0]);
    if (check_drive(vbd, op, err) < 0 || check_vbd_state(vm, vbd, op, err) < 0)
        return -1;
    if (bit & (VBD_OP(PLUG) | VBD_OP(UNPLUG)) && check_vm_busy(vm, err) < 0)
        return -1;
    if (bit & plugging && vbd->type == VBD_TYPE_CD)
        return err_operation_not_allowed(
            err, "HVM CDROMs cannot be hotplugged/unplugged, only inserted or ejected");
    if (bit & plugging && check_hotplug(tx, vm, DEVICE_VBD, err) < 0)
        return -1;
    if (vbd->type == VBD_TYPE_CD && vm->power_state == VM_POWER_STATE_SUSPENDED &&
        bit & (VBD_OP(INSERT) | VBD_OP(EJECT)))
        return vm_bad_state(err, vm, "halted, running");
    if (vbd->empty || ref_is_null(vbd->VDI) || !(bit & (VBD_OP(ATTACH) | VBD_OP(PLUG) | VBD_OP(INSERT))))
        return 0;
    return vbd_sharing_check(tx, vbd, err);
}

/* ---- VIF ---- */

static int vif_in_the_way(const struct vif_row *vif, struct api_err *err)
{
    const char *list = str_new("");
    for (size_t i = 0; i < vif->current_operations->count; i++) {
        const char *more = str_newf("%s%s%s", list, i ? "; " : "", vif->current_operations->pairs[i].value);
        str_unref(list);
        list = more;
    }
    AUTO_FREE char *text = xasprintf("{%s}", list);
    str_unref(list);
    return err_other_operation_in_progress(err, "VIF", REF_TEXT(vif->row.ref), text,
                                           vif->current_operations->pairs[0].key);
}

static int check_vif(struct tx *tx, const struct vif_row *vif, enum vif_operations op, struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vif->VM);
    unsigned bit = 1u << op;
    const unsigned plugging = VIF_OP(PLUG) | VIF_OP(UNPLUG);
    if (!vm)
        return fail_handle(err, CLASS_VM, vif->VM);
    if (vif->current_operations)
        return vif_in_the_way(vif, err);
    if (!(bit & plugging))
        return 0;
    if (vm->is_control_domain)
        return err_operation_not_allowed(err, "VIFs of a control domain are not plugged");
    if (vm->power_state != VM_POWER_STATE_RUNNING)
        return vm_bad_state(err, vm, "running");
    if (op == VIF_OPERATIONS_PLUG && vif->currently_attached)
        return err_device_already_attached(err, REF_TEXT(vif->row.ref));
    if (op == VIF_OPERATIONS_UNPLUG && !vif->currently_attached)
        return err_device_already_detached(err, REF_TEXT(vif->row.ref));
    if (check_vm_busy(vm, err) < 0)
        return -1;
    return check_hotplug(tx, vm, DEVICE_VIF, err);
}

/* ---- VUSB ---- */

static int check_vusb(struct tx *tx, const struct vusb_row *vusb, enum vusb_operations op,
                      struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vusb->VM);
    if (!vm)
        return fail_handle(err, CLASS_VM, vusb->VM);
    if (vusb->current_operations)
        return operation_in_the_way(err, &vusb->row, &vusb->current_operations->pairs[0]);
    if (op == VUSB_OPERATIONS_ATTACH)
        return 0;
    if (vm->power_state != VM_POWER_STATE_RUNNING)
        return vm_bad_state(err, vm, "running");
    if (op == VUSB_OPERATIONS_PLUG && vusb->currently_attached)
        return err_device_already_attached(err, REF_TEXT(vusb->row.ref));
    if (op == VUSB_OPERATIONS_UNPLUG && !vusb->currently_attached)
        return err_device_already_detached(err, REF_TEXT(vusb->row.ref));
    return check_vm_busy(vm, err);
}

/* ---- appliances ---- */

static int check_appliance(struct tx *tx, const struct vm_appliance_row *self, enum vm_appliance_operation op,
                           struct api_err *err)
{
    size_t halted = 0, running = 0, live = 0;
    if (self->current_operations)
        return operation_in_the_way(err, &self->row, &self->current_operations->pairs[0]);
    if (!self->VMs)
        return err_operation_not_allowed(err, "Appliance has no VMs.");
    for (size_t i = 0; i < self->VMs->count; i++) {
        const struct vm_row *vm = vm_of(tx, self->VMs->items[i]);
        halted += vm && vm->power_state == VM_POWER_STATE_HALTED;
        running += vm && vm->power_state == VM_POWER_STATE_RUNNING;
        live += vm && vm->power_state != VM_POWER_STATE_HALTED;
    }
    if (op == VM_APPLIANCE_OPERATION_START
            ? halted == 0
            : (op == VM_APPLIANCE_OPERATION_HARD_SHUTDOWN ? live : running) == 0)
        return err_operation_not_allowed(err, "No VM of the appliance is in a state that allows this.");
    return 0;
}

/* ---- all classes ---- */

/* Classes without rules of their own: one operation at a time. */
static int check_exclusive(const struct row *row, struct api_err *err)
{
    const struct str_map *current = row_cell(row, field_find(row->cls, "current_operations"))->str_map;
    return current ? operation_in_the_way(err, row, &current->pairs[0]) : 0;
}

int device_operation_check(struct tx *tx, const struct row *row, int operation, struct api_err *err)
{
    if (row->cls == CLASS_VBD)
        return check_vbd(tx, vbd_row(row), (enum vbd_operations)operation, err);
    if (row->cls == CLASS_VIF)
        return check_vif(tx, vif_row(row), (enum vif_operations)operation, err);
    if (row->cls == CLASS_VUSB)
        return check_vusb(tx, vusb_row(row), (enum vusb_operations)operation, err);
    if (row->cls == CLASS_VDI)
        return vdi_operation_check(tx, vdi_row(row), (enum vdi_operations)operation, err);
    if (row->cls == CLASS_SR)
        return sr_operation_check(tx, sr_row(row), (enum storage_operations)operation, err);
    if (row->cls == CLASS_VM_appliance)
        return check_appliance(tx, vm_appliance_row(row), (enum vm_appliance_operation)operation, err);
    if (row->cls == CLASS_host)
        return host_operation_check(tx, host_row(row), (enum host_allowed_operations)operation, err);
    return check_exclusive(row, err);
}

uint64_t device_operations_allowed(struct tx *tx, const struct row *row, uint64_t among)
{
    const struct field_desc *allowed_field = field_find(row->cls, "allowed_operations");
    uint64_t allowed = 0;
    AUTO_API_ERR struct api_err err = {.quiet = true};
    for (int op = 0; op < allowed_field->type->item->en->count; op++)
        if (among >> op & 1 && device_operation_check(tx, row, op, &err) == 0)
            allowed |= (uint64_t)1 << op;
    return allowed;
}
