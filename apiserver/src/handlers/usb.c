/* PUSB.*, VUSB.*: USB devices of hosts, and VMs' connections to them. Which device of a group a VM gets is
 * chosen when it starts: one of its host. */
#include "../hosts/devices.h"
#include "../hosts/hosts.h"
#include "../server.h"
#include "vm_power.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define VUSBS_MAX 6

int handle_pusb_scan(struct call *call, const struct pusb_scan_args *args, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    if (!agent)
        return -1;
    int rc = devices_look(call->server, args->host, agent, err);
    hosts_put(call->server->hosts, agent);
    return rc;
}

/* A VM of the device's host that runs with a device of its group. */
static const struct vusb_row *in_use(struct tx *tx, const struct pusb_row *pusb)
{
    const struct usb_group_row *group = usb_group_row(tx_get(tx, CLASS_USB_group, pusb->USB_group));
    for (size_t i = 0; group && group->VUSBs && i < group->VUSBs->count; i++) {
        const struct vusb_row *vusb = vusb_row(tx_get(tx, CLASS_VUSB, group->VUSBs->items[i]));
        const struct vm_row *vm = vusb ? vm_row(tx_get(tx, CLASS_VM, vusb->VM)) : NULL;
        if (vm && vusb->currently_attached && ref_eq(vm->resident_on, pusb->host))
            return vusb;
    }
    return NULL;
}

int handle_pusb_set_passthrough_enabled(struct call *call,
                                        const struct pusb_set_passthrough_enabled_args *args,
                                        struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pusb_row *pusb = pusb_row(tx_get(tx, CLASS_PUSB, args->self));
    const struct vusb_row *user = pusb && !args->value ? in_use(tx, pusb) : NULL;
    int rc = !pusb  ? fail_handle(err, CLASS_PUSB, args->self)
             : user ? err_usb_already_attached(err, REF_TEXT(args->self), REF_TEXT(user->VM))
                    : 0;
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    if (pusb->passthrough_enabled != args->value)
        pusb_row_mut(tx_edit(tx, CLASS_PUSB, args->self))->passthrough_enabled = args->value;
    return server_commit(tx, err);
}

static int check_vusb(struct tx *tx, const struct vusb_create_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->VM));
    const struct usb_group_row *group = usb_group_row(tx_get(tx, CLASS_USB_group, args->USB_group));
    char most[8];
    if (!vm)
        return fail_handle(err, CLASS_VM, args->VM);
    if (!group)
        return fail_handle(err, CLASS_USB_group, args->USB_group);
    snprintf(most, sizeof(most), "%d", VUSBS_MAX);
    if (vm->VUSBs && vm->VUSBs->count >= VUSBS_MAX)
        return err_too_many_vusbs(err, most);
    if (group->VUSBs && group->VUSBs->count)
        return err_usb_group_conflict(err, REF_TEXT(args->USB_group));
    if (streq(vm->ha_restart_priority, "restart"))
        return err_operation_not_allowed(
            err, "A VM that is restarted on another host when its own fails can have no USB device.");
    return 0;
}

int handle_vusb_create(struct call *call, const struct vusb_create_args *args, struct ref *result,
                       struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_vusb(tx, args, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vusb_row *vusb = vusb_row_mut(tx_create(tx, CLASS_VUSB));
    vusb->VM = args->VM;
    vusb->USB_group = args->USB_group;
    str_map_assign(&vusb->other_config, str_map_ref(args->other_config));
    *result = vusb->row.ref;
    return server_commit(tx, err);
}

int handle_vusb_destroy(struct call *call, const struct vusb_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vusb_row *vusb = vusb_row(tx_get(tx, CLASS_VUSB, args->self));
    int rc = 0;
    if (!vusb)
        rc = fail_handle(err, CLASS_VUSB, args->self);
    else if (vusb->currently_attached)
        rc = err_operation_not_allowed(err, "The VUSB is attached to a running VM: unplug it first");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    tx_delete(tx, CLASS_VUSB, args->self);
    return server_commit(tx, err);
}

/* ---- unplug ---- */

static int take_away(struct call *call, const struct vm_row *vm, struct hv_host *agent,
                     const struct pusb_row *pusb, struct api_err *err)
{
    struct hosts_op op;
    struct hv_usb_unplug_args args;
    struct hv_usb_unplug_result result;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    hv_usb_unplug_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    str_assign(&args.path, pusb->path);
    int rc = hv_usb_unplug(agent, &op.op, &args, &result, &cause);
    hv_usb_unplug_args_done(&args);
    return rc < 0 ? hosts_fail_vm(err, vm->row.ref, vm->resident_on, &cause) : 0;
}

int handle_vusb_unplug(struct call *call, const struct vusb_unplug_args *args, struct api_err *err)
{
    const struct snapshot *snap = call->snapshot;
    const struct vusb_row *vusb = vusb_row(snapshot_get(snap, CLASS_VUSB, args->self));
    const struct vm_row *vm = vusb ? vm_row(snapshot_get(snap, CLASS_VM, vusb->VM)) : NULL;
    const struct usb_group_row *group =
        vusb ? usb_group_row(snapshot_get(snap, CLASS_USB_group, vusb->USB_group)) : NULL;
    if (!vm)
        return fail_handle(err, CLASS_VUSB, args->self);
    if (ref_is_null(vm->resident_on))
        return vm_gone(err, vm);
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    int rc = agent ? 0 : -1;
    for (size_t i = 0; rc == 0 && group && group->PUSBs && i < group->PUSBs->count; i++) {
        const struct pusb_row *pusb = pusb_row(snapshot_get(snap, CLASS_PUSB, group->PUSBs->items[i]));
        if (pusb && ref_eq(pusb->host, vm->resident_on))
            rc = take_away(call, vm, agent, pusb, err);
    }
    if (agent)
        hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    if (!vm_same_domain(tx, vm) || !tx_get(tx, CLASS_VUSB, args->self)) {
        tx_abort(tx);
        return vm_gone(err, vm);
    }
    vusb_row_mut(tx_edit(tx, CLASS_VUSB, args->self))->currently_attached = false;
    return server_commit(tx, err);
}
