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
static int check_vm_busy(const struct vm_row *vm, const struct refusals *all, struct api_err *err)
{
    static const char *const words[] = {"clean_shutdown", "hard_shutdown", "suspend", "pause"};
    for (size_t i = 0; vm->current_operations && i < vm->current_operations->count; i++)
        for (size_t k = 0; k < ARRAY_LEN(words); k++)
            if (streq(vm->current_operations->pairs[i].value, words[k])) {
                AUTO_FREE char *text =
                    xasprintf("Current operation on VM:%s is %s", REF_TEXT(vm->row.ref), words[k]);
                if (refused(all, err_operation_not_allowed(err, text), err))
                    return -1;
            }
    return 0;
}

/* What runs on the object itself: one operation at a time. */
static int check_running(const struct row *row, const struct str_map *current, const struct refusals *all,
                         struct api_err *err)
{
    for (size_t i = 0; current && i < current->count; i++)
        if (refused(all, operation_in_the_way(err, row, &current->pairs[i]), err))
            return -1;
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

/* Copies and mirrors read beside a guest. */
static int check_vdi_busy(const struct vdi_row *vdi, const struct refusals *all, struct api_err *err)
{
    for (size_t i = 0; vdi->current_operations && i < vdi->current_operations->count; i++) {
        const struct str_pair *running = &vdi->current_operations->pairs[i];
        if (!streq(running->value, "copy") && !streq(running->value, "mirror") &&
            refused(all, operation_in_the_way(err, &vdi->row, running), err))
            return -1;
    }
    return 0;
}

static int disk_in_use(struct api_err *err, const struct vdi_row *vdi)
{
    const char *params[] = {REF_TEXT(vdi->row.ref)};
    return api_err_set_code(err, "VDI_IN_USE", params, 1);
}

static int check_sharing(struct tx *tx, const struct vbd_row *vbd, const struct refusals *all,
                         struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, vbd->VDI));
    bool writes = vbd->mode == VBD_MODE_RW, written = false;
    if (!vdi)
        return 0;
    if (vdi_upload_is_open(vdi) && refused(all, disk_in_use(err, vdi), err))
        return -1;
    if (!vdi->managed && refused(all, err_vdi_not_managed(err, REF_TEXT(vdi->row.ref)), err))
        return -1;
    if (check_vdi_busy(vdi, all, err) < 0)
        return -1;
    bool shared = others_have_disk(tx, vbd, vdi, &written);
    if (!vdi->sharable && shared && (writes || written) && refused(all, disk_in_use(err, vdi), err))
        return -1;
    if (writes && vdi->read_only && refused(all, err_vdi_readonly(err, REF_TEXT(vdi->row.ref)), err))
        return -1;
    return 0;
}

int vbd_sharing_check(struct tx *tx, const struct vbd_row *vbd, struct api_err *err)
{
    return check_sharing(tx, vbd, NULL, err);
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

/* CDs come and go by their drive's door, and not while the VM's memory is on a disk. */
static int check_cd(const struct vm_row *vm, const struct vbd_row *vbd, enum vbd_operations op,
                    struct api_err *err)
{
    unsigned bit = 1u << op;
    if (vbd->type != VBD_TYPE_CD)
        return 0;
    if (bit & (VBD_OP(PLUG) | VBD_OP(UNPLUG) | VBD_OP(UNPLUG_FORCE)))
        return err_operation_not_allowed(
            err, "HVM CDROMs cannot be hotplugged/unplugged, only inserted or ejected");
    if (vm->power_state == VM_POWER_STATE_SUSPENDED && bit & (VBD_OP(INSERT) | VBD_OP(EJECT)))
        return vm_bad_state(err, vm, "halted, running");
    return 0;
}

static int check_vbd(struct tx *tx, const struct vbd_row *vbd, enum vbd_operations op,
                     const struct refusals *all, struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vbd->VM);
    unsigned bit = 1u << op;
    const unsigned plugging = VBD_OP(PLUG) | VBD_OP(UNPLUG) | VBD_OP(UNPLUG_FORCE);
    if (!vm)
        return fail_handle(err, CLASS_VM, vbd->VM);
    if (!(bit & (VBD_OP(PAUSE) | VBD_OP(UNPAUSE))) &&
        check_running(&vbd->row, vbd->current_operations, all, err) < 0)
        return -1;
    if (refused(all, check_drive(vbd, op, err), err) || refused(all, check_vbd_state(vm, vbd, op, err), err))
        return -1;
    if (bit & (VBD_OP(PLUG) | VBD_OP(UNPLUG)) && check_vm_busy(vm, all, err) < 0)
        return -1;
    if (refused(all, check_cd(vm, vbd, op, err), err))
        return -1;
    if (bit & plugging && vbd->type != VBD_TYPE_CD &&
        refused(all, check_hotplug(tx, vm, DEVICE_VBD, err), err))
        return -1;
    if (vbd->empty || ref_is_null(vbd->VDI) || !(bit & (VBD_OP(ATTACH) | VBD_OP(PLUG) | VBD_OP(INSERT))))
        return 0;
    return check_sharing(tx, vbd, all, err);
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

/* A device comes to a running VM that does not have it, and goes from one that has it. */
static int check_plug_state(const struct vm_row *vm, struct ref self, bool attached, bool plug, bool unplug,
                            struct api_err *err)
{
    if (vm->power_state != VM_POWER_STATE_RUNNING)
        return vm_bad_state(err, vm, "running");
    if (plug && attached)
        return err_device_already_attached(err, REF_TEXT(self));
    if (unplug && !attached)
        return err_device_already_detached(err, REF_TEXT(self));
    return 0;
}

static int check_vif(struct tx *tx, const struct vif_row *vif, enum vif_operations op,
                     const struct refusals *all, struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vif->VM);
    if (!vm)
        return fail_handle(err, CLASS_VM, vif->VM);
    if (vif->current_operations && refused(all, vif_in_the_way(vif, err), err))
        return -1;
    if (!(1u << op & (VIF_OP(PLUG) | VIF_OP(UNPLUG))))
        return 0;
    if (vm->is_control_domain &&
        refused(all, err_operation_not_allowed(err, "VIFs of a control domain are not plugged"), err))
        return -1;
    if (refused(all,
                check_plug_state(vm, vif->row.ref, vif->currently_attached, op == VIF_OPERATIONS_PLUG,
                                 op == VIF_OPERATIONS_UNPLUG, err),
                err) ||
        check_vm_busy(vm, all, err) < 0 || refused(all, check_hotplug(tx, vm, DEVICE_VIF, err), err))
        return -1;
    return 0;
}

/* ---- VUSB ---- */

static int check_vusb(struct tx *tx, const struct vusb_row *vusb, enum vusb_operations op,
                      const struct refusals *all, struct api_err *err)
{
    const struct vm_row *vm = vm_of(tx, vusb->VM);
    if (!vm)
        return fail_handle(err, CLASS_VM, vusb->VM);
    if (check_running(&vusb->row, vusb->current_operations, all, err) < 0)
        return -1;
    if (op == VUSB_OPERATIONS_ATTACH)
        return 0;
    if (refused(all,
                check_plug_state(vm, vusb->row.ref, vusb->currently_attached, op == VUSB_OPERATIONS_PLUG,
                                 op == VUSB_OPERATIONS_UNPLUG, err),
                err))
        return -1;
    return check_vm_busy(vm, all, err);
}

/* ---- appliances ---- */

static int check_appliance(struct tx *tx, const struct vm_appliance_row *self, enum vm_appliance_operation op,
                           const struct refusals *all, struct api_err *err)
{
    size_t halted = 0, running = 0, live = 0;
    if (check_running(&self->row, self->current_operations, all, err) < 0)
        return -1;
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

static int check(struct tx *tx, const struct row *row, int operation, const struct refusals *all,
                 struct api_err *err)
{
    if (row->cls == CLASS_VBD)
        return check_vbd(tx, vbd_row(row), (enum vbd_operations)operation, all, err);
    if (row->cls == CLASS_VIF)
        return check_vif(tx, vif_row(row), (enum vif_operations)operation, all, err);
    if (row->cls == CLASS_VUSB)
        return check_vusb(tx, vusb_row(row), (enum vusb_operations)operation, all, err);
    if (row->cls == CLASS_VDI)
        return vdi_operation_check(tx, vdi_row(row), (enum vdi_operations)operation, all, err);
    if (row->cls == CLASS_SR)
        return sr_operation_check(tx, sr_row(row), (enum storage_operations)operation, all, err);
    if (row->cls == CLASS_VM_appliance)
        return check_appliance(tx, vm_appliance_row(row), (enum vm_appliance_operation)operation, all, err);
    if (row->cls == CLASS_host)
        return host_operation_check(tx, host_row(row), (enum host_allowed_operations)operation, all, err);
    return check_running(row, row_cell(row, field_find(row->cls, "current_operations"))->str_map, all, err);
}

int device_operation_check(struct tx *tx, const struct row *row, int operation, struct api_err *err)
{
    return check(tx, row, operation, NULL, err);
}

void device_operation_refusals(struct tx *tx, const struct row *row, int operation,
                               const struct refusals *all)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    refused(all, check(tx, row, operation, all, &err), &err); /* what ends the checking is told, too */
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
