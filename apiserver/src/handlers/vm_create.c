/* VM.create, destroy, set_is_a_template: VMs come and go as rows; their disks stay. */
#include "../blobs.h"
#include "../gate/generic.h"
#include "../gate/task.h"
#include "../rules/vm.h"
#include "../server.h"
#include "vm_kept.h"
#include "vm_state.h"
#include <base/clock.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* ---- create, destroy ---- */

static void settle_new_vm(struct tx *tx, struct vm_row *vm)
{
    char seed[UUID_TEXT_SIZE];
    vm->domid = -1;
    vm->is_control_domain = false;
    vm->power_state = VM_POWER_STATE_HALTED;
    if (!str_map_get(vm->other_config, "mac_seed"))
        str_map_put(&vm->other_config, "mac_seed", uuid_format(ref_new(), seed));
    if (vm->domain_type == DOMAIN_TYPE_UNSPECIFIED)
        vm->domain_type = *vm->PV_kernel && !*vm->HVM_boot_policy ? DOMAIN_TYPE_PV : DOMAIN_TYPE_HVM;
    struct row *metrics = tx_create(tx, CLASS_VM_metrics);
    vm->metrics = metrics->ref;
    vm_metrics_row_mut(metrics)->install_time = clock_unix_seconds();
}

/* A VM that comes with its saved memory (restored from elsewhere) has all that resuming needs. */
static int check_suspended(const struct vm_row *record, struct api_err *err)
{
    const char *missing = NULL;
    if (ref_is_null(record->suspend_VDI))
        missing = "suspend_VDI";
    else if (!*record->last_booted_record)
        missing = "last_booted_record";
    else if (!record->last_boot_CPU_flags || record->last_boot_CPU_flags->count == 0)
        missing = "last_boot_CPU_flags";
    return missing ? err_invalid_value(err, missing, "a VM that is made Suspended needs it") : 0;
}

int handle_vm_create(struct call *call, const struct vm_row *record, struct ref *result, struct api_err *err)
{
    bool suspended = record->power_state == VM_POWER_STATE_SUSPENDED;
    if (record->power_state != VM_POWER_STATE_HALTED && !suspended)
        return err_value_not_supported(err, "power_state",
                                       model_enum_vm_power_state.values[record->power_state],
                                       "a new VM is Halted or Suspended");
    if (suspended && check_suspended(record, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    struct row *row = tx_create(tx, CLASS_VM);
    if (generic_fill(tx, row, &record->row, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    settle_new_vm(tx, vm_row_mut(row));
    if (suspended)
        vm_row_mut(row)->power_state = VM_POWER_STATE_SUSPENDED;
    else
        vm_row_mut(row)->suspend_VDI = REF_NULL;
    *result = row->ref;
    return server_commit(tx, err);
}

static void delete_all(struct tx *tx, const struct class_desc *cls, const struct ref_set *set)
{
    AUTO_REF_SET const struct ref_set *refs = ref_set_ref(set); /* the row's own shrinks as they go */
    for (size_t i = 0; refs && i < refs->count; i++)
        tx_delete(tx, cls, refs->items[i]);
}

void vm_delete(struct tx *tx, struct ref ref)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    struct ref metrics = vm->metrics, guest = vm->guest_metrics, parent = vm->parent;
    AUTO_REF_SET const struct ref_set *children = ref_set_ref(vm->children);
    AUTO_REF_SET const struct ref_set *vbds = ref_set_ref(vm->VBDs);
    AUTO_REF_SET const struct ref_set *vifs = ref_set_ref(vm->VIFs);
    AUTO_REF_SET const struct ref_set *consoles = ref_set_ref(vm->consoles);
    AUTO_REF_SET const struct ref_set *vgpus = ref_set_ref(vm->VGPUs);
    AUTO_REF_SET const struct ref_set *vusbs = ref_set_ref(vm->VUSBs);
    blobs_delete(tx, vm->blobs);
    /* Those that came from it come from what it came from. */
    for (size_t i = 0; children && i < children->count; i++)
        if (tx_get(tx, CLASS_VM, children->items[i]))
            vm_row_mut(tx_edit(tx, CLASS_VM, children->items[i]))->parent = parent;
    delete_all(tx, CLASS_VBD, vbds);
    delete_all(tx, CLASS_VIF, vifs);
    delete_all(tx, CLASS_console, consoles);
    delete_all(tx, CLASS_VGPU, vgpus);
    delete_all(tx, CLASS_VUSB, vusbs);
    vtpm_delete_all(tx, vm);
    tx_delete(tx, CLASS_VM, ref);
    if (tx_get(tx, CLASS_VM_metrics, metrics))
        tx_delete(tx, CLASS_VM_metrics, metrics);
    if (tx_get(tx, CLASS_VM_guest_metrics, guest))
        tx_delete(tx, CLASS_VM_guest_metrics, guest);
}

int handle_vm_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->self));
    int rc = 0;
    if (!vm)
        rc = fail_handle(err, CLASS_VM, args->self);
    else if (vm->is_default_template)
        rc = err_vm_cannot_delete_default_template(err, REF_TEXT(args->self));
    else if (vm->is_control_domain)
        rc = err_operation_not_allowed(err, "The control domain of a host cannot be destroyed");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    vm_delete(tx, args->self);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

/* ---- templates ---- */

static int check_template(struct tx *tx, const struct vm_row *vm, struct api_err *err)
{
    const struct vm_view view = vm_view_of(tx, vm);
    return vm_operation_check(&view, vm->row.ref, VM_OPERATIONS_MAKE_INTO_TEMPLATE, err);
}

static void attach_all(struct tx *tx, const struct vm_row *vm)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++)
        vbd_row_mut(tx_edit(tx, CLASS_VBD, vm->VBDs->items[i]))->currently_attached = true;
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++)
        vif_row_mut(tx_edit(tx, CLASS_VIF, vm->VIFs->items[i]))->currently_attached = true;
}

/* Becoming a VM counts as its installation; one with saved memory (a copy of a checkpoint) has its devices
 * attached then. */
int handle_vm_set_is_a_template(struct call *call, const struct vm_set_is_a_template_args *args,
                                struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->self));
    int rc = vm ? 0 : fail_handle(err, CLASS_VM, args->self);
    if (rc == 0 && args->value && !vm->is_a_template)
        rc = check_template(tx, vm, err);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vm_row *edit = vm_row_mut(tx_edit(tx, CLASS_VM, args->self));
    edit->is_a_template = args->value;
    if (!args->value && edit->power_state == VM_POWER_STATE_SUSPENDED)
        attach_all(tx, edit);
    if (args->value) { /* what restarts VMs leaves templates alone */
        str_assign(&edit->ha_restart_priority, "");
        edit->ha_always_run = false;
    } else if (tx_get(tx, CLASS_VM_metrics, edit->metrics)) {
        vm_metrics_row_mut(tx_edit(tx, CLASS_VM_metrics, edit->metrics))->install_time = clock_unix_seconds();
    }
    return server_commit(tx, err);
}
