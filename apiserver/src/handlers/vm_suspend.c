/* VM.suspend, resume, resume_on. The disk that takes the memory has its row, and the VM names it, before the
 * agent is asked; the operation on the agent has the disk's uuid for its id. So whatever dies in between, the
 * host's answer about that id says what became of the VM (hosts/reconcile.c). */
#include "../gate/gate.h"
#include "../gate/task.h"
#include "../hosts/balance.h"
#include "../hosts/claims.h"
#include "../hosts/networks.h"
#include "../plan/domain.h"
#include "../rules/vm.h"
#include "alert.h"
#include "disk_copies.h"
#include "suspend_image.h"
#include "vm_data.h"
#include "vm_kept.h"
#include "vm_power.h"
#include "vm_record.h"
#include "vm_state.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- suspend ---- */

struct image {
    struct ref vdi, sr;
    char uuid[UUID_TEXT_SIZE];
    char sr_uuid[UUID_TEXT_SIZE];
};

static int record_image(struct call *call, struct disk_copies *disks, size_t index, const struct vm_row *vm,
                        struct image *image, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct vdi_row *vdi = vm_same_domain(tx, vm) ? disk_copies_record(disks, tx, index) : NULL;
    const struct sr_row *sr = vdi ? sr_row(tx_get(tx, CLASS_SR, vdi->SR)) : NULL;
    if (!sr) {
        tx_abort(tx);
        return vm_gone(err, vm);
    }
    suspend_image_describe(vdi);
    image->vdi = vdi->row.ref;
    image->sr = vdi->SR;
    snprintf(image->uuid, sizeof(image->uuid), "%s", vdi->uuid);
    snprintf(image->sr_uuid, sizeof(image->sr_uuid), "%s", sr->uuid);
    vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref))->suspend_VDI = vdi->row.ref;
    return server_commit(tx, err);
}

static int make_image(struct call *call, const struct vm_row *vm, struct image *image, struct api_err *err)
{
    struct disk_copies disks;
    struct ref sr;
    int64_t size;
    size_t index;
    if (suspend_image_choose(call->snapshot, call->server, vm, &sr, err) < 0 ||
        suspend_image_size(call->server, vm, &size, err) < 0)
        return -1;
    disk_copies_init(&disks, call);
    int rc = disk_copies_add_new(&disks, sr, vm->resident_on, size, IMAGE_FORMAT_RAW, &index, err);
    if (rc == 0)
        rc = record_image(call, &disks, index, vm, image, err);
    disk_copies_done(&disks, rc == 0);
    return rc;
}

struct forgetting {
    struct ref vm, vdi;
};

static void forget_image(struct tx *tx, void *arg)
{
    const struct forgetting *f = arg;
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, f->vm));
    if (vm && ref_eq(vm->suspend_VDI, f->vdi))
        vm_row_mut(tx_edit(tx, CLASS_VM, f->vm))->suspend_VDI = REF_NULL;
    storage_discard_vdi(tx, f->vdi);
}

static int suspend_failed(struct call *call, const struct vm_row *vm, const struct image *image,
                          const struct hv_err *cause, struct api_err *err)
{
    bool unknown = cause->kind == HV_ERR_KIND_UNREACHABLE || cause->kind == HV_ERR_KIND_DEADLINE;
    if (!unknown) {
        struct forgetting f = {vm->row.ref, image->vdi};
        server_insist(call->server, forget_image, &f);
        storage_sweep(call->server, image->sr);
    }
    switch (cause->kind) {
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_BAD_STATE:
    case HV_ERR_KIND_CRASHED:
    case HV_ERR_KIND_HALTED:
        return hosts_fail_vm(err, vm->row.ref, vm->resident_on, cause);
    case HV_ERR_KIND_CANCELLED:
        return err_task_cancelled(err, REF_TEXT(call->task));
    default:
        return storage_fail(err, vm->resident_on, image->sr, image->vdi, "suspend", cause);
    }
}

static int record_suspended(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!vm_same_domain(tx, vm)) {
        tx_abort(tx);
        return vm_gone(err, vm);
    }
    AUTO_FREE char *body = xasprintf("VM '%s' suspended", vm->name_label);
    vm_state_suspended(tx, vm->row.ref);
    alert_add(tx, ALERT_VM_SUSPENDED, CLS_VM, vm->uuid, body);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

int handle_vm_suspend(struct call *call, const struct vm_suspend_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    struct image image;
    struct hosts_op op;
    struct hv_domain_suspend_args suspend;
    struct hv_domain_suspend_result result;
    struct hv_err cause;
    if (!vm || make_image(call, vm, &image, err) < 0)
        return -1;
    call_keep_row(call, &vm->row); /* much memory takes long */
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent) {
        struct forgetting f = {vm->row.ref, image.vdi};
        server_insist(call->server, forget_image, &f);
        return -1;
    }
    hosts_op_init(&op, call, 0);
    snprintf(op.id, sizeof(op.id), "%s", image.uuid);
    hv_domain_suspend_args_init(&suspend);
    str_assign(&suspend.domain, vm->uuid);
    str_assign(&suspend.sr, image.sr_uuid);
    str_assign(&suspend.disk, image.uuid);
    int rc = hv_domain_suspend(agent, &op.op, &suspend, &result, &cause);
    hv_domain_suspend_args_done(&suspend);
    if (rc == 0)
        vm_kept_take_last(call->server, agent, vm->row.ref, NULL);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return suspend_failed(call, vm, &image, &cause, err);
    hv_domain_suspend_result_done(&result);
    return record_suspended(call, vm, err);
}

/* ---- resume ---- */

static int record_resumed(struct call *call, const struct vm_row *vm, struct ref host,
                          const struct domain_info *info, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VM, vm->row.ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, vm->row.ref);
    }
    AUTO_FREE char *body = xasprintf("VM '%s' resumed", vm->name_label);
    vm_state_running(tx, vm->row.ref, host, info);
    alert_add(tx, ALERT_VM_RESUMED, CLS_VM, vm->uuid, body);
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

static int resume_on(struct call *call, const struct vm_row *vm, const struct vdi_row *image, struct ref host,
                     bool paused, struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, image->SR));
    struct hv_domain_resume_args args;
    struct hv_domain_resume_result result;
    struct domain_config config;
    struct hosts_op op;
    struct hv_err cause;
    if (!sr)
        return fail_handle(err, CLASS_SR, image->SR);
    struct row *booted = vm_record_as_booted(vm);
    int rc = plan_domain(call->snapshot, vm_row(booted), false, &config, err);
    row_unref(booted);
    if (rc < 0)
        return -1;
    struct hv_host *agent = networks_host(call->server, host, call->snapshot, vm, err);
    if (!agent) {
        domain_config_done(&config);
        return -1;
    }
    int64_t granted;
    if (balance_make_room(call, vm, host, agent, &granted, err) < 0) {
        domain_config_done(&config);
        hosts_put(call->server->hosts, agent);
        return -1;
    }
    config.memory_target_bytes = granted < config.memory_bytes ? granted : 0;
    if (vm_kept_give(call->snapshot, agent, vm, err) < 0) {
        hosts_put(call->server->hosts, agent);
        domain_config_done(&config);
        return -1;
    }
    hosts_op_init(&op, call, 0);
    hv_domain_resume_args_init(&args);
    domain_config_done(&args.config);
    args.config = config;
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, image->uuid);
    args.start_paused = paused;
    AUTO_STR_MAP const struct str_map *data = str_map_ref(config.data);
    rc = hv_domain_resume(agent, &op.op, &args, &result, &cause);
    hv_domain_resume_args_done(&args);
    if (rc < 0 && cause.kind != HV_ERR_KIND_EXISTS)
        vm_kept_drop(agent, vm);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return cause.kind == HV_ERR_KIND_CANCELLED ? err_task_cancelled(err, REF_TEXT(call->task))
                                                   : vm_start_failed(err, vm, host, &cause);
    /* It may have written to its disks by now: whatever happens, it is not ended and resumed again. If this
     * cannot be recorded, it is when the host is looked at. */
    rc = record_resumed(call, vm, host, &result.info, err);
    if (rc == 0)
        vm_data_settle(call, vm->row.ref, data);
    hv_domain_resume_result_done(&result);
    return rc;
}

/* `host` null: the best one. */
static int resume(struct call *call, struct ref ref, struct ref host, bool paused, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, ref, err);
    if (!vm)
        return -1;
    const struct vdi_row *image = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, vm->suspend_VDI));
    if (!image)
        return err_vm_has_no_suspend_vdi(err, REF_TEXT(ref));
    const struct claims_wish wish = {.host = host};
    if (claims_take(call->server, ref, &wish, &host, err) < 0)
        return -1;
    struct ref sr = image->SR;
    int rc = resume_on(call, vm, image, host, paused, err);
    claims_drop(call->server->claims, ref);
    if (rc == 0)
        storage_sweep(call->server, sr);
    return rc;
}

int handle_vm_resume(struct call *call, const struct vm_resume_args *args, struct api_err *err)
{
    return resume(call, args->vm, call->pinned_host, args->start_paused, err);
}

int handle_vm_resume_on(struct call *call, const struct vm_resume_on_args *args, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    return resume(call, args->vm, args->host, args->start_paused, err);
}
