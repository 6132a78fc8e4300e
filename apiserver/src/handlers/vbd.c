/* VBD.*: which VM has which disk, and media of CD drives. Making and removing a VBD changes rows alone: the
 * drive is there when the VM starts, or once it is plugged (vbd_plug.c). */
#include "../gate/task.h"
#include "../hosts/ha.h"
#include "../hosts/hosts.h"
#include "../plan/domain.h"
#include "../rules/vbd_device.h"
#include "../rules/vm.h"
#include "checks.h"
#include "storage.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- devices ---- */

/* Device numbers of a VM that are taken. */
struct taken {
    bool number[VBD_DEVICE_MAX + 1];
};

static void note_taken(struct taken *taken, const struct row *vbd)
{
    int number;
    if (vbd && vbd_device_parse(vbd_row(vbd)->userdevice, &number))
        taken->number[number] = true;
}

const struct str_set *storage_allowed_vbd_devices(const struct snapshot *snap, const struct vm_row *vm)
{
    struct taken taken = {{false}};
    char texts[VBD_DEVICE_MAX + 1][12];
    const char *items[VBD_DEVICE_MAX + 1];
    size_t count = 0;
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++)
        note_taken(&taken, snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
    for (int i = 0; i <= VBD_DEVICE_MAX; i++) {
        if (taken.number[i])
            continue;
        snprintf(texts[count], sizeof(texts[count]), "%d", i);
        items[count] = texts[count];
        count++;
    }
    return str_list_new(items, count);
}

/* The number of a new VBD's device, however its name is written; the lowest free one for "autodetect". */
static int choose_device(struct tx *tx, const struct vm_row *vm, const char *given, int *out,
                         struct api_err *err)
{
    struct taken taken = {{false}};
    int number = 0;
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++)
        note_taken(&taken, tx_get(tx, CLASS_VBD, vm->VBDs->items[i]));
    if (!streq(given, "autodetect")) {
        if (!vbd_device_parse(given, &number))
            return err_invalid_device(err, given);
        if (taken.number[number])
            return err_device_already_exists(err, given);
        *out = number;
        return 0;
    }
    while (number <= VBD_DEVICE_MAX && taken.number[number])
        number++;
    if (number > VBD_DEVICE_MAX)
        return err_invalid_device(err, given);
    *out = number;
    return 0;
}

/* ---- create, destroy, mode ---- */

/* What is being done to the VM reads its VBDs: they stay as they are until it is done. */
static int check_vm_quiet(const struct vm_row *vm, struct api_err *err)
{
    if (!vm->current_operations || vm->current_operations->count == 0)
        return 0;
    const struct str_pair *running = &vm->current_operations->pairs[0];
    return err_other_operation_in_progress(err, "VM", REF_TEXT(vm->row.ref), running->value, running->key);
}

static bool may_back_a_vbd(enum vdi_type type)
{
    switch (type) {
    case VDI_TYPE_SYSTEM:
    case VDI_TYPE_USER:
    case VDI_TYPE_EPHEMERAL:
    case VDI_TYPE_SUSPEND:
    case VDI_TYPE_CRASHDUMP:
    case VDI_TYPE_METADATA:
        return true;
    case VDI_TYPE_HA_STATEFILE:
    case VDI_TYPE_REDO_LOG:
    case VDI_TYPE_RRD:
    case VDI_TYPE_PVS_CACHE:
    case VDI_TYPE_CBT_METADATA:
        break;
    }
    return false;
}

/* A disk and a drive that shall have it. */
static int check_medium(const struct vdi_row *vdi, enum vbd_mode mode, struct api_err *err)
{
    const char *self = REF_TEXT(vdi->row.ref);
    if (!may_back_a_vbd(vdi->type))
        return err_vdi_incompatible_type(err, self, model_enum_vdi_type.values[vdi->type]);
    if (mode == VBD_MODE_RW && vdi->read_only)
        return err_vdi_readonly(err, self);
    return 0;
}

/* What it is to be, whatever the VM has. */
static int check_record(const struct vbd_row *record, const struct refusals *all, struct api_err *err)
{
    struct disk_limits limits;
    if (record->type == VBD_TYPE_FLOPPY &&
        refused(
            all,
            err_value_not_supported(err, "type", "Floppy", "Floppy drives are not built: use CD or Disk."),
            err))
        return -1;
    if (record->type == VBD_TYPE_CD && record->mode != VBD_MODE_RO &&
        refused(all, err_vbd_cds_must_be_readonly(err), err))
        return -1;
    if (record->type != VBD_TYPE_CD && record->empty &&
        refused(all, err_vbd_not_removable_media(err, "in constructor"), err))
        return -1;
    return plan_limits(record->qos_algorithm_type, record->qos_algorithm_params, &limits, err);
}

int check_vbd_create(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct vbd_row *record = vbd_row(((const struct args_create *)args)->record);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, record->VM));
    const struct vdi_row *vdi = record->empty ? NULL : vdi_row(tx_get(tx, CLASS_VDI, record->VDI));
    int number;
    if (!record->empty &&
        refused(all, ha_check_device(call->snapshot, record->VM, record->VDI, REF_NULL, err), err))
        return -1;
    if (!vm && refused(all, fail_handle(err, CLASS_VM, record->VM), err))
        return -1;
    if (refused(all, check_record(record, all, err), err))
        return -1;
    if (!record->empty && !vdi && refused(all, fail_handle(err, CLASS_VDI, record->VDI), err))
        return -1;
    if (vdi && refused(all, check_medium(vdi, record->mode, err), err))
        return -1;
    if (vm && refused(all, check_vm_quiet(vm, err), err))
        return -1;
    return vm ? choose_device(tx, vm, record->userdevice, &number, err) : 0;
}

int handle_vbd_create(struct call *call, const struct vbd_row *record, struct ref *result,
                      struct api_err *err)
{
    int number;
    const struct args_create args = {&record->row};
    struct tx *tx = store_begin(call->server->store);
    if (check_vbd_create(call, tx, &args, NULL, err) < 0 ||
        choose_device(tx, vm_row(tx_get(tx, CLASS_VM, record->VM)), record->userdevice, &number, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vbd_row *vbd = vbd_row_mut(tx_create(tx, CLASS_VBD));
    vbd->VM = record->VM;
    vbd->VDI = record->empty ? REF_NULL : record->VDI;
    AUTO_STR const char *userdevice = str_newf("%d", number);
    str_assign(&vbd->userdevice, userdevice);
    vbd->bootable = record->bootable;
    vbd->mode = record->mode;
    vbd->type = record->type;
    vbd->unpluggable = record->unpluggable;
    vbd->empty = record->empty;
    str_map_assign(&vbd->other_config, str_map_ref(record->other_config));
    str_assign(&vbd->qos_algorithm_type, record->qos_algorithm_type);
    str_map_assign(&vbd->qos_algorithm_params, str_map_ref(record->qos_algorithm_params));
    static const char *const algorithms[] = {PLAN_THROTTLE};
    str_set_assign(&vbd->qos_supported_algorithms, str_set_new(algorithms, ARRAY_LEN(algorithms)));
    *result = vbd->row.ref;
    return server_commit(tx, err);
}

int check_vbd_destroy(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                      struct api_err *err)
{
    struct ref self = ((const struct args_self *)args)->self;
    const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, self));
    const struct vm_row *vm = vbd ? vm_row(tx_get(tx, CLASS_VM, vbd->VM)) : NULL;
    (void)call;
    if (!vbd)
        return fail_handle(err, CLASS_VBD, self);
    if (vbd->currently_attached &&
        refused(all,
                err_operation_not_allowed(
                    err, "The VBD is attached to a running VM: unplug it or shut the VM down first."),
                err))
        return -1;
    return vm ? check_vm_quiet(vm, err) : 0;
}

int handle_vbd_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_vbd_destroy(call, tx, args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    tx_delete(tx, CLASS_VBD, args->self);
    return server_commit(tx, err);
}

int check_vbd_set_mode(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                       struct api_err *err)
{
    const struct vbd_set_mode_args *asked = args;
    const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, asked->self));
    (void)call;
    if (!vbd)
        return fail_handle(err, CLASS_VBD, asked->self);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, vbd->VM));
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, vbd->VDI));
    if (vm && vm->power_state != VM_POWER_STATE_HALTED &&
        refused(all, err_vm_bad_power_state(err, REF_TEXT(vbd->VM), "halted", vm_state_word(vm->power_state)),
                err))
        return -1;
    if (vbd->type == VBD_TYPE_CD && asked->value != VBD_MODE_RO &&
        refused(all, err_vbd_cds_must_be_readonly(err), err))
        return -1;
    if (vdi && refused(all, check_medium(vdi, asked->value, err), err))
        return -1;
    return vm ? check_vm_quiet(vm, err) : 0;
}

int handle_vbd_set_mode(struct call *call, const struct vbd_set_mode_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_vbd_set_mode(call, tx, args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    if (vbd_row(tx_get(tx, CLASS_VBD, args->self))->mode != args->value)
        vbd_row_mut(tx_edit(tx, CLASS_VBD, args->self))->mode = args->value;
    return server_commit(tx, err);
}

/* ---- media ---- */

/* A drive of a VM, and what the agent calls it. */
struct drive {
    const struct vbd_row *vbd;
    const struct vm_row *vm;
    char device[VBD_DEVICE_NAME_SIZE];
};

static int find_drive(struct call *call, struct ref ref, struct drive *drive, struct api_err *err)
{
    drive->vbd = vbd_row(snapshot_get(call->snapshot, CLASS_VBD, ref));
    if (!drive->vbd)
        return fail_handle(err, CLASS_VBD, ref);
    drive->vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, drive->vbd->VM));
    if (!drive->vm)
        return fail_handle(err, CLASS_VM, drive->vbd->VM);
    int number;
    if (!vbd_device_parse(drive->vbd->userdevice, &number))
        return err_invalid_device(err, drive->vbd->userdevice);
    vbd_device_name(number, drive->device);
    return 0;
}

static int fail_drive(const struct drive *drive, const struct hv_err *cause, struct api_err *err)
{
    if (cause->kind == HV_ERR_KIND_BAD_ARGUMENT)
        return err_vbd_not_removable_media(err, REF_TEXT(drive->vbd->row.ref));
    return hosts_fail_vm(err, drive->vm->row.ref, drive->vm->resident_on, cause);
}

static int insert_live(struct call *call, struct hv_host *agent, const struct drive *drive,
                       const struct sr_row *sr, const struct vdi_row *vdi, struct api_err *err)
{
    struct hosts_op op;
    struct hv_cd_insert_args args;
    struct hv_cd_insert_result result;
    struct hv_err cause;
    const char *disk, *iso;
    storage_disk_name(sr, vdi, &disk, &iso);
    hosts_op_init(&op, call, 0);
    hv_cd_insert_args_init(&args);
    str_assign(&args.domain, drive->vm->uuid);
    str_assign(&args.device, drive->device);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    str_assign(&args.iso, iso);
    int rc = hv_cd_insert(agent, &op.op, &args, &result, &cause);
    hv_cd_insert_args_done(&args);
    if (rc < 0)
        return fail_drive(drive, &cause, err);
    hv_cd_insert_result_done(&result);
    return 0;
}

static int eject_live(struct hv_host *agent, const struct hv_op *op, const struct drive *drive,
                      struct hv_err *cause)
{
    struct hv_cd_eject_args args;
    struct hv_cd_eject_result result;
    hv_cd_eject_args_init(&args);
    str_assign(&args.domain, drive->vm->uuid);
    str_assign(&args.device, drive->device);
    int rc = hv_cd_eject(agent, op, &args, &result, cause);
    hv_cd_eject_args_done(&args);
    if (rc == 0)
        hv_cd_eject_result_done(&result);
    return rc;
}

/* A VM that is not live must be at rest, and not about to have the drive. */
static int check_rest(const struct vm_row *vm, const struct vbd_row *vbd, struct api_err *err)
{
    if (vbd->currently_attached)
        return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "halted", "running");
    return check_vm_quiet(vm, err);
}

/* What the drive holds from now on; null: nothing. A VM that is not live must be at rest: what starts it has
 * read its drives. */
static int record_medium(struct call *call, const struct drive *drive, bool live, struct ref vdi,
                         struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, drive->vbd->row.ref));
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, drive->vm->row.ref));
    int rc = 0;
    if (!vbd || !vm)
        rc = fail_handle(err, CLASS_VBD, drive->vbd->row.ref);
    else if (!live)
        rc = check_rest(vm, vbd, err);
    if (rc == 0 && !ref_is_null(vdi) && !tx_get(tx, CLASS_VDI, vdi))
        rc = fail_handle(err, CLASS_VDI, vdi);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vbd_row *edit = vbd_row_mut(tx_edit(tx, CLASS_VBD, drive->vbd->row.ref));
    edit->VDI = vdi;
    edit->empty = ref_is_null(vdi);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

static bool is_live(const struct drive *drive)
{
    bool on =
        drive->vm->power_state == VM_POWER_STATE_RUNNING || drive->vm->power_state == VM_POWER_STATE_PAUSED;
    return on && drive->vbd->currently_attached;
}

static void take_out_again(struct hv_host *agent, const struct drive *drive)
{
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id)};
    struct hv_err cause;
    if (eject_live(agent, &op, drive, &cause) < 0)
        log_error("storage", "a medium stays in a drive although its insertion failed", "vm", drive->vm->uuid,
                  "device", drive->device, "cause", cause.text);
}

int check_vbd_insert(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct vbd_insert_args *asked = args;
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, asked->vdi));
    struct drive drive;
    (void)tx;
    if (find_drive(call, asked->vbd, &drive, err) < 0)
        return -1;
    if (!is_live(&drive) && refused(all, check_rest(drive.vm, drive.vbd, err), err))
        return -1;
    if (!vdi || !snapshot_get(call->snapshot, CLASS_SR, vdi->SR))
        return fail_handle(err, CLASS_VDI, asked->vdi);
    if (refused(all, check_medium(vdi, VBD_MODE_RO, err), err) ||
        refused(all, ha_check_device(call->snapshot, drive.vm->row.ref, asked->vdi, REF_NULL, err), err))
        return -1;
    return vdi->missing ? err_vdi_missing(err, REF_TEXT(vdi->SR), REF_TEXT(asked->vdi)) : 0;
}

int handle_vbd_insert(struct call *call, const struct vbd_insert_args *args, struct api_err *err)
{
    struct drive drive;
    if (check_vbd_insert(call, NULL, args, NULL, err) < 0 || find_drive(call, args->vbd, &drive, err) < 0)
        return -1;
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, args->vdi));
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, vdi->SR));
    if (!is_live(&drive))
        return record_medium(call, &drive, false, args->vdi, err);
    struct hv_host *agent = hosts_get(call->server->hosts, drive.vm->resident_on, err);
    if (!agent)
        return -1;
    int rc = insert_live(call, agent, &drive, sr, vdi, err);
    if (rc == 0) {
        rc = record_medium(call, &drive, true, args->vdi, err);
        if (rc < 0)
            take_out_again(agent, &drive);
    }
    hosts_put(call->server->hosts, agent);
    return rc;
}

int check_vbd_eject(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                    struct api_err *err)
{
    struct drive drive;
    (void)tx, (void)all;
    if (find_drive(call, ((const struct vbd_eject_args *)args)->vbd, &drive, err) < 0)
        return -1;
    return is_live(&drive) ? 0 : check_rest(drive.vm, drive.vbd, err);
}

int handle_vbd_eject(struct call *call, const struct vbd_eject_args *args, struct api_err *err)
{
    struct drive drive;
    if (check_vbd_eject(call, NULL, args, NULL, err) < 0 || find_drive(call, args->vbd, &drive, err) < 0)
        return -1;
    if (!is_live(&drive))
        return record_medium(call, &drive, false, REF_NULL, err);
    struct hv_host *agent = hosts_get(call->server->hosts, drive.vm->resident_on, err);
    if (!agent)
        return -1;
    struct hosts_op op;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    int rc = eject_live(agent, &op.op, &drive, &cause);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return fail_drive(&drive, &cause, err);
    return record_medium(call, &drive, true, REF_NULL, err);
}
