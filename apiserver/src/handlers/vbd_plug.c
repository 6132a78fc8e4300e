/* VBD.plug, unplug, unplug_force, assert_attachable: disks that come and go while their VM runs. */
#include "../gate/task.h"
#include "../hosts/hosts.h"
#include "../plan/domain.h"
#include "../rules/operations.h"
#include "../rules/vbd_device.h"
#include "checks.h"
#include "storage.h"
#include "vm_power.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

struct drive {
    const struct vbd_row *vbd;
    const struct vm_row *vm;
    char device[VBD_DEVICE_NAME_SIZE];
    struct hv_host *agent;
};

/* Without its agent. */
static int find_rows(struct call *call, struct ref ref, struct drive *drive, struct api_err *err)
{
    int number;
    *drive = (struct drive){.vbd = vbd_row(snapshot_get(call->snapshot, CLASS_VBD, ref))};
    if (!drive->vbd)
        return fail_handle(err, CLASS_VBD, ref);
    drive->vm = vm_find(call, drive->vbd->VM, err);
    if (!drive->vm)
        return -1;
    if (!vbd_device_parse(drive->vbd->userdevice, &number))
        return err_invalid_device(err, drive->vbd->userdevice);
    vbd_device_name(number, drive->device);
    if (ref_is_null(drive->vm->resident_on))
        return vm_gone(err, drive->vm);
    return 0;
}

static int find_drive(struct call *call, struct ref ref, struct drive *drive, struct api_err *err)
{
    if (find_rows(call, ref, drive, err) < 0)
        return -1;
    drive->agent = hosts_get(call->server->hosts, drive->vm->resident_on, err);
    return drive->agent ? 0 : -1;
}

static int fail_drive(const struct call *call, const struct drive *drive, const struct hv_err *cause,
                      struct api_err *err)
{
    const char *self = REF_TEXT(drive->vbd->row.ref);
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, drive->vbd->VDI));
    switch (cause->kind) {
    case HV_ERR_KIND_GUEST:
        return err_device_detach_rejected(err, "VBD", self, cause->text);
    case HV_ERR_KIND_DEADLINE:
        return err_device_detach_timeout(err, "VBD", self);
    case HV_ERR_KIND_BAD_STATE:
    case HV_ERR_KIND_CRASHED:
    case HV_ERR_KIND_HALTED:
        return hosts_fail_vm(err, drive->vm->row.ref, drive->vm->resident_on, cause);
    case HV_ERR_KIND_EXISTS:
        return err_device_already_attached(err, self);
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_UNSUPPORTED:
        return err_operation_not_allowed(err, cause->text);
    case HV_ERR_KIND_NOT_FOUND: /* the SR is not on that host, or the disk not in it */
        return vdi ? err_vm_requires_sr(err, REF_TEXT(drive->vm->row.ref), REF_TEXT(vdi->SR))
                   : vm_gone(err, drive->vm);
    default:
        return storage_fail(err, drive->vm->resident_on, vdi ? vdi->SR : REF_NULL, drive->vbd->VDI, "attach",
                            cause);
    }
}

static int record_attached(struct call *call, const struct drive *drive, bool attached, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!vm_same_domain(tx, drive->vm) || !tx_get(tx, CLASS_VBD, drive->vbd->row.ref)) {
        tx_abort(tx);
        return vm_gone(err, drive->vm);
    }
    struct vbd_row *vbd = vbd_row_mut(tx_edit(tx, CLASS_VBD, drive->vbd->row.ref));
    vbd->currently_attached = attached;
    if (attached)
        str_assign(&vbd->device, drive->device);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

int check_vbd_plug(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                   struct api_err *err)
{
    const struct vbd_plug_args *asked = args;
    const struct vbd_row *vbd = vbd_row(snapshot_get(call->snapshot, CLASS_VBD, asked->self));
    struct drive drive;
    struct domain_disk disk;
    (void)tx;
    if (!vbd)
        return fail_handle(err, CLASS_VBD, asked->self);
    if (refused(all, find_rows(call, asked->self, &drive, err), err))
        return -1;
    domain_disk_init(&disk);
    int rc = plan_disk(call->snapshot, vbd, &disk, err);
    domain_disk_done(&disk);
    return rc;
}

int check_vbd_unplug(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    struct drive drive;
    (void)tx, (void)all;
    return find_rows(call, ((const struct vbd_unplug_args *)args)->self, &drive, err);
}

int handle_vbd_plug(struct call *call, const struct vbd_plug_args *args, struct api_err *err)
{
    struct drive drive;
    struct hosts_op op;
    struct hv_disk_plug_args plug;
    struct hv_disk_plug_result result;
    struct hv_err cause;
    if (find_drive(call, args->self, &drive, err) < 0)
        return -1;
    hv_disk_plug_args_init(&plug);
    int rc = plan_disk(call->snapshot, drive.vbd, &plug.disk, err);
    if (rc == 0) {
        hosts_op_init(&op, call, 0);
        str_assign(&plug.domain, drive.vm->uuid);
        rc = hv_disk_plug(drive.agent, &op.op, &plug, &result, &cause);
        if (rc < 0)
            fail_drive(call, &drive, &cause, err);
        else
            hv_disk_plug_result_done(&result);
    }
    hv_disk_plug_args_done(&plug);
    hosts_put(call->server->hosts, drive.agent);
    return rc < 0 ? -1 : record_attached(call, &drive, true, err);
}

static int unplug(struct call *call, struct ref ref, bool force, struct api_err *err)
{
    struct drive drive;
    struct hosts_op op;
    struct hv_disk_unplug_args args;
    struct hv_disk_unplug_result result;
    struct hv_err cause;
    if (find_drive(call, ref, &drive, err) < 0)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_disk_unplug_args_init(&args);
    str_assign(&args.domain, drive.vm->uuid);
    str_assign(&args.device, drive.device);
    args.force = force;
    int rc = hv_disk_unplug(drive.agent, &op.op, &args, &result, &cause);
    hv_disk_unplug_args_done(&args);
    hosts_put(call->server->hosts, drive.agent);
    if (rc < 0)
        return fail_drive(call, &drive, &cause, err);
    hv_disk_unplug_result_done(&result);
    return record_attached(call, &drive, false, err);
}

int handle_vbd_unplug(struct call *call, const struct vbd_unplug_args *args, struct api_err *err)
{
    return unplug(call, args->self, false, err);
}

int handle_vbd_unplug_force(struct call *call, const struct vbd_unplug_force_args *args, struct api_err *err)
{
    return unplug(call, args->self, true, err);
}

int handle_vbd_unplug_force_no_safety_check(struct call *call,
                                            const struct vbd_unplug_force_no_safety_check_args *args,
                                            struct api_err *err)
{
    return unplug(call, args->self, true, err);
}

/* ---- after a reboot ---- */

struct rebooted {
    struct server *server;
    struct ref vm;
};

/* Nobody else is about to attach it, and it may be attached. */
static bool may_attach(struct server *server, const struct vbd_row *vbd)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (vbd->currently_attached || vbd->empty || vbd->type != VBD_TYPE_DISK ||
        (vbd->current_operations && vbd->current_operations->count))
        return false;
    struct tx *tx = store_begin(server->store);
    bool may = operation_check(tx, CLASS_VBD, vbd->row.ref, VBD_OPERATIONS_ATTACH, &err) == 0;
    tx_abort(tx);
    return may;
}

/* The VBD went away, or the VM, while its disk was plugged in. */
static void take_back(struct hv_host *agent, const struct vm_row *vm, const char *device)
{
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id), .timeout_ms = 30000};
    struct hv_disk_unplug_args args;
    struct hv_disk_unplug_result result;
    struct hv_err cause;
    hv_disk_unplug_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    str_assign(&args.device, device);
    args.force = true;
    if (hv_disk_unplug(agent, &op, &args, &result, &cause) == 0)
        hv_disk_unplug_result_done(&result);
    hv_disk_unplug_args_done(&args);
}

static void plug_one(const struct rebooted *r, const struct snapshot *snap, const struct vm_row *vm,
                     const struct vbd_row *vbd, struct hv_host *agent)
{
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id), .timeout_ms = 60000};
    struct hv_disk_plug_args plug;
    struct hv_disk_plug_result result;
    struct hv_err cause = {.text = ""};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    hv_disk_plug_args_init(&plug);
    str_assign(&plug.domain, vm->uuid);
    int rc = plan_disk(snap, vbd, &plug.disk, &err);
    if (rc == 0 && (rc = hv_disk_plug(agent, &op, &plug, &result, &cause)) == 0)
        hv_disk_plug_result_done(&result);
    if (rc < 0) {
        log_warn("storage", "a disk is not plugged in after a reboot", "vm", vm->uuid, "vbd", vbd->uuid,
                 "cause", cause.text);
    } else {
        struct tx *tx = store_begin(r->server->store);
        if (vm_same_domain(tx, vm) && tx_get(tx, CLASS_VBD, vbd->row.ref)) {
            struct vbd_row *edit = vbd_row_mut(tx_edit(tx, CLASS_VBD, vbd->row.ref));
            edit->currently_attached = true;
            str_assign(&edit->device, plug.disk.device);
            rc = server_commit(tx, &err);
        } else {
            tx_abort(tx);
            rc = -1;
        }
        if (rc < 0)
            take_back(agent, vm, plug.disk.device);
    }
    hv_disk_plug_args_done(&plug);
}

static void plug_rebooted(void *arg)
{
    AUTO_FREE struct rebooted *r = arg;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, r->vm));
    struct hv_host *agent =
        vm && !ref_is_null(vm->resident_on) ? hosts_get(r->server->hosts, vm->resident_on, &err) : NULL;
    for (size_t i = 0; agent && vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && may_attach(r->server, vbd))
            plug_one(r, snap, vm, vbd, agent);
    }
    if (agent)
        hosts_put(r->server->hosts, agent);
}

void vbd_plug_rebooted(struct server *server, struct ref vm)
{
    struct rebooted *r = xcalloc(1, sizeof(*r));
    *r = (struct rebooted){.server = server, .vm = vm};
    if (worker_submit(server->workers, plug_rebooted, r) < 0)
        free(r);
}

int handle_vbd_assert_attachable(struct call *call, const struct vbd_assert_attachable_args *args,
                                 struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    int rc = operation_check(tx, CLASS_VBD, args->self, VBD_OPERATIONS_ATTACH, err);
    tx_abort(tx);
    return rc;
}
