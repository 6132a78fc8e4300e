/* VM.*: power. Each message is one step on the agent between two transactions; the gate has marked the
 * operation before and unmarks it afterwards. */
#include "../rules/vm.h"
#include "../gate/gate.h"
#include "../hosts/balance.h"
#include "../hosts/claims.h"
#include "../hosts/ha.h"
#include "../hosts/hosts.h"
#include "../hosts/networks.h"
#include "../plan/domain.h"
#include "../plan/hardware.h"
#include "../plan/passthrough.h"
#include "../plan/placement.h"
#include "../rules/device.h"
#include "../server.h"
#include "alert.h"
#include "storage.h"
#include "vm_data.h"
#include "vm_firmware.h"
#include "vm_kept.h"
#include "vm_power.h"
#include "vm_record.h"
#include "vm_state.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define CLEAN_SHUTDOWN_MS (10 * 60 * 1000)
/* How long a start waits for copies of the VM's disks that are under way. */
#define DISKS_WAIT_MS (120 * 1000)

const struct vm_row *vm_find(struct call *call, struct ref vm, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_VM, vm);
    if (!row)
        fail_handle(err, CLASS_VM, vm);
    return vm_row(row);
}

/* ---- start ---- */

int vm_start_failed(struct api_err *err, const struct vm_row *vm, struct ref host, const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_NO_MEMORY: {
        char needed[24];
        snprintf(needed, sizeof(needed), "%lld", (long long)vm->memory_dynamic_max);
        return err_host_not_enough_free_memory(err, needed, "less");
    }
    case HV_ERR_KIND_DEVICE_MODEL:
    case HV_ERR_KIND_BAD_ARGUMENT:
        return err_failed_to_start_emulator(err, REF_TEXT(vm->row.ref), "qemu", cause->text);
    case HV_ERR_KIND_NO_KERNEL:
        return plan_kernel_missing(vm, err);
    case HV_ERR_KIND_NO_RAMDISK:
        return plan_ramdisk_missing(vm, err);
    case HV_ERR_KIND_NOT_FOUND:
        return err_vm_requires_vdi(err, REF_TEXT(vm->row.ref), cause->text);
    case HV_ERR_KIND_FORMAT:
        if (*vm->PV_bootloader && vm->power_state == VM_POWER_STATE_HALTED)
            return err_bootloader_failed(err, REF_TEXT(vm->row.ref), cause->text);
        return err_value_not_supported(err, "VM", vm->name_label, cause->text);
    default:
        return hosts_fail(err, host, cause);
    }
}

/* The domain runs but could not be recorded: it must not go on behind the database's back. */
static void take_back(struct hv_host *agent, struct call *call, const char *uuid)
{
    struct hosts_op op;
    struct hv_domain_hard_shutdown_args args;
    struct hv_domain_hard_shutdown_result result;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    op.op.cancel = NULL;
    hv_domain_hard_shutdown_args_init(&args);
    str_assign(&args.domain, uuid);
    if (hv_domain_hard_shutdown(agent, &op.op, &args, &result, &cause) < 0)
        log_error("vm", "a domain that could not be recorded could not be ended either; it will be adopted",
                  "vm", uuid, "cause", cause.text);
    hv_domain_hard_shutdown_args_done(&args);
}

/* An installer is started once. */
static void forget_installer(struct vm_row *vm)
{
    static const char *const keys[] = {PLAN_INSTALL_KERNEL, PLAN_INSTALL_RAMDISK, PLAN_INSTALL_ARGUMENTS};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        str_map_assign(&vm->other_config, str_map_without(vm->other_config, keys[i]));
}

static int record_start(struct call *call, const struct vm_row *vm, struct ref host,
                        const struct domain_info *info, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, vm->row.ref));
    if (!now) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, vm->row.ref);
    }
    vm_state_running(tx, vm->row.ref, host, info);
    AUTO_STR const char *record = vm_record_text(now);
    struct vm_row *edit = vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref));
    str_assign(&edit->last_booted_record, record);
    forget_installer(edit);
    AUTO_FREE char *body = xasprintf("VM '%s' started", vm->name_label);
    alert_add(tx, ALERT_VM_STARTED, CLS_VM, vm->uuid, body);
    return server_commit(tx, err);
}

/* The host's devices that it is to have are chosen, and nobody else gets them. */
static int take_devices(struct call *call, const struct vm_row *vm, struct ref host,
                        struct domain_config *config, struct api_err *err)
{
    if (!passthrough_wanted(vm))
        return 0;
    struct tx *tx = store_begin(call->server->store);
    const struct device_source from = {.tx = tx};
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, vm->row.ref));
    if ((now ? plan_passthrough(&from, now, host, config, err) : fail_handle(err, CLASS_VM, vm->row.ref)) <
        0) {
        tx_abort(tx);
        return -1;
    }
    return server_commit(tx, err);
}

static void give_back_devices(struct call *call, const struct vm_row *vm)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (!passthrough_wanted(vm))
        return;
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, vm->row.ref));
    if (now && now->power_state == VM_POWER_STATE_HALTED)
        passthrough_detach(tx, now);
    if (server_commit(tx, &err) < 0)
        log_warn("vm", "devices stay set aside for a VM that did not start", "vm", vm->uuid);
}

static int give_kept(struct call *call, struct hv_host *agent, const struct vm_row *vm, struct api_err *err)
{
    if (!vm_keeps(vm))
        return 0;
    if (vm_firmware_renew(call, agent, vm, err) < 0)
        return -1;
    AUTO_SNAPSHOT struct snapshot *now = store_snapshot(call->server->store);
    const struct vm_row *renewed = vm_row(snapshot_get(now, CLASS_VM, vm->row.ref));
    return vm_kept_give(now, agent, renewed ? renewed : vm, err);
}

/* `elsewhere`: whether another host may do what this one could not. */
static int start_on(struct call *call, const struct vm_row *vm, struct ref host, bool paused, bool *elsewhere,
                    struct api_err *err)
{
    int64_t granted;
    struct hv_domain_start_args args;
    struct hv_domain_start_result result;
    struct hv_err cause;
    struct hosts_op op;
    struct domain_config config;
    if (plan_domain(call->snapshot, vm, paused, &config, err) < 0)
        return -1;
    if (take_devices(call, vm, host, &config, err) < 0) {
        domain_config_done(&config);
        return -1;
    }
    struct hv_host *agent = networks_host(call->server, host, call->snapshot, vm, err);
    if (!agent) {
        domain_config_done(&config);
        return -1;
    }
    if (balance_make_room(call, vm, host, agent, &granted, err) < 0) {
        *elsewhere = err->desc == ERROR_HOST_NOT_ENOUGH_FREE_MEMORY;
        domain_config_done(&config);
        hosts_put(call->server->hosts, agent);
        return -1;
    }
    config.memory_target_bytes = granted < config.memory_bytes ? granted : 0;
    if (give_kept(call, agent, vm, err) < 0) {
        hosts_put(call->server->hosts, agent);
        domain_config_done(&config);
        return -1;
    }
    hosts_op_init(&op, call, 0);
    hv_domain_start_args_init(&args);
    domain_config_done(&args.config);
    args.config = config;
    AUTO_STR_MAP const struct str_map *data = str_map_ref(config.data);
    int rc = hv_domain_start(agent, &op.op, &args, &result, &cause);
    hv_domain_start_args_done(&args);
    if (rc < 0) {
        /* A host that was not reached may have begun nevertheless: nobody else does then. */
        *elsewhere = cause.kind == HV_ERR_KIND_NO_MEMORY ||
                     cause.kind == HV_ERR_KIND_BAD_STATE; /* a host that is fenced */
        vm_start_failed(err, vm, host, &cause);
        vm_kept_drop(agent, vm);
    } else {
        rc = record_start(call, vm, host, &result.info, err);
        if (rc < 0)
            take_back(agent, call, vm->uuid);
        else
            vm_data_settle(call, vm->row.ref, data);
        hv_domain_start_result_done(&result);
    }
    hosts_put(call->server->hosts, agent);
    return rc;
}

static int check_disks(struct tx *tx, const struct vm_row *vm, struct api_err *err)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && !vbd->empty && vbd_sharing_check(tx, vbd, err) < 0)
            return -1;
    }
    return 0;
}

int vm_wait_for_disks(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    int64_t deadline = clock_mono_ms() + DISKS_WAIT_MS;
    for (;;) {
        struct tx *tx = store_begin(call->server->store);
        uint64_t seen = tx_generation(tx);
        int rc = check_disks(tx, vm, err);
        tx_abort(tx);
        bool busy = rc < 0 && err->desc == ERROR_OTHER_OPERATION_IN_PROGRESS;
        if (!busy || clock_mono_ms() >= deadline)
            return rc;
        if (call->cancel && *call->cancel)
            return err_task_cancelled(err, REF_TEXT(call->task));
        if (call->server->closing)
            return fail_internal(err, "The server is stopping.");
        api_err_done(err);
        store_wait(call->server->store, seen - 1, clock_mono_ms() + 1000);
    }
}

#define HOSTS_TRIED_MAX 4

/* `host` null: the best one, and the next best when that has not the memory after all. */
static int start(struct call *call, struct ref ref, struct ref host, bool paused, bool force,
                 struct api_err *err)
{
    struct ref tried[HOSTS_TRIED_MAX], chosen;
    struct claims_wish wish = {
        .host = host, .avoid = tried, .force = force, .restart = ha_is_own(call->server->ha, call->session)};
    const struct vm_row *vm = vm_find(call, ref, err);
    if (!vm || vm_wait_for_disks(call, vm, err) < 0 ||
        claims_take(call->server, ref, &wish, &chosen, err) < 0)
        return -1;
    for (;;) {
        bool elsewhere = false;
        AUTO_API_ERR struct api_err none = API_ERR_INIT;
        int rc = start_on(call, vm, chosen, paused, &elsewhere, err);
        claims_drop(call->server->claims, ref);
        if (rc < 0)
            give_back_devices(call, vm);
        tried[wish.avoid_count++] = chosen;
        if (rc == 0 || !elsewhere || !ref_is_null(host) || wish.avoid_count == HOSTS_TRIED_MAX ||
            claims_take(call->server, ref, &wish, &chosen, &none) < 0)
            return rc;
        log_info("vm", "another host is tried", "vm", vm->uuid, "host",
                 OBJECT_TEXT(call->server, CLASS_host, chosen), "error", err->code);
        api_err_done(err);
    }
}

int handle_vm_start(struct call *call, const struct vm_start_args *args, struct api_err *err)
{
    return start(call, args->vm, call->pinned_host, args->start_paused, args->force, err);
}

int handle_vm_start_on(struct call *call, const struct vm_start_on_args *args, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    return start(call, args->vm, args->host, args->start_paused, args->force, err);
}

int handle_vm_assert_can_boot_here(struct call *call, const struct vm_assert_can_boot_here_args *args,
                                   struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    const struct placement p = {.snap = call->snapshot, .vm = vm};
    return vm ? placement_check(&p, args->host, err) : -1;
}

int handle_vm_get_possible_hosts(struct call *call, const struct vm_get_possible_hosts_args *args,
                                 const struct ref_set **result, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm)
        return -1;
    *result = placement_possible(call->snapshot, vm);
    return 0;
}

/* ---- what is done to a domain that runs ---- */

enum step { STEP_PAUSE, STEP_UNPAUSE, STEP_SHUTDOWN, STEP_HARD_SHUTDOWN, STEP_REBOOT, STEP_HARD_REBOOT };

/* The calls of one domain have one argument and no result: they share their struct's shape. */
static int agent_step(struct hv_host *agent, struct call *call, enum step step, const char *uuid,
                      struct hv_err *cause)
{
    static const enum hv_call_id calls[] = {
        [STEP_PAUSE] = HV_CALL_DOMAIN_PAUSE,       [STEP_UNPAUSE] = HV_CALL_DOMAIN_UNPAUSE,
        [STEP_SHUTDOWN] = HV_CALL_DOMAIN_SHUTDOWN, [STEP_HARD_SHUTDOWN] = HV_CALL_DOMAIN_HARD_SHUTDOWN,
        [STEP_REBOOT] = HV_CALL_DOMAIN_REBOOT,     [STEP_HARD_REBOOT] = HV_CALL_DOMAIN_HARD_REBOOT,
    };
    struct hv_domain_pause_args args;
    struct hv_domain_pause_result result;
    struct hosts_op op;
    bool waits = step == STEP_SHUTDOWN || step == STEP_REBOOT;
    hosts_op_init(&op, call, waits ? CLEAN_SHUTDOWN_MS : 0);
    hv_domain_pause_args_init(&args);
    str_assign(&args.domain, uuid);
    int rc = hv_call(agent, calls[step], &op.op, &args, &result, cause);
    hv_domain_pause_args_done(&args);
    return rc;
}

static int step_failed(struct api_err *err, const struct vm_row *vm, enum step step,
                       const struct hv_err *cause)
{
    bool waits = step == STEP_SHUTDOWN || step == STEP_REBOOT;
    switch (cause->kind) {
    case HV_ERR_KIND_GUEST:
    case HV_ERR_KIND_DEADLINE:
        if (waits)
            return err_vm_failed_shutdown_acknowledgment(err, REF_TEXT(vm->row.ref));
        break;
    case HV_ERR_KIND_UNSUPPORTED:
        if (step == STEP_REBOOT)
            return err_vm_lacks_feature(err, REF_TEXT(vm->row.ref));
        break;
    default:
        break;
    }
    return hosts_fail_vm(err, vm->row.ref, vm->resident_on, cause);
}

static int step_vm(struct call *call, const struct vm_row *vm, enum step step, struct api_err *err)
{
    struct hv_err cause;
    if (ref_is_null(vm->resident_on)) /* a forced shutdown came first */
        return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "running", "halted");
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    call_keep_row(call, &vm->row); /* a guest may take minutes to follow */
    int rc = agent_step(agent, call, step, vm->uuid, &cause);
    if (rc == 0 && (step == STEP_SHUTDOWN || step == STEP_HARD_SHUTDOWN))
        vm_kept_take_last(call->server, agent, vm->row.ref, NULL);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? step_failed(err, vm, step, &cause) : 0;
}

bool vm_same_domain(struct tx *tx, const struct vm_row *vm)
{
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, vm->row.ref));
    return now && now->domid == vm->domid && ref_eq(now->resident_on, vm->resident_on);
}

int vm_gone(struct api_err *err, const struct vm_row *vm)
{
    return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "running", "halted");
}

static int overtaken(struct tx *tx, const struct vm_row *vm, struct api_err *err)
{
    tx_abort(tx);
    return vm_gone(err, vm);
}

/* `tell`: a message is made of it. */
static int record_paused(struct call *call, const struct vm_row *vm, bool paused, bool tell,
                         struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!vm_same_domain(tx, vm))
        return overtaken(tx, vm, err);
    vm_state_paused(tx, vm->row.ref, paused);
    AUTO_FREE char *body = xasprintf("VM '%s' %s", vm->name_label, paused ? "paused" : "unpaused");
    if (tell && paused)
        alert_add(tx, ALERT_VM_PAUSED, CLS_VM, vm->uuid, body);
    else if (tell)
        alert_add(tx, ALERT_VM_UNPAUSED, CLS_VM, vm->uuid, body);
    return server_commit(tx, err);
}

/* Nothing is left to say when somebody else has recorded the end already. */
static int record_halted(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (vm_same_domain(tx, vm) &&
        vm_row(tx_get(tx, CLASS_VM, vm->row.ref))->power_state != VM_POWER_STATE_HALTED) {
        AUTO_FREE char *body = xasprintf("VM '%s' shut down", vm->name_label);
        vm_state_halted(tx, vm->row.ref);
        vm_state_unwanted(tx, vm->row.ref);
        alert_add(tx, ALERT_VM_SHUTDOWN, CLS_VM, vm->uuid, body);
    }
    return server_commit(tx, err);
}

/* The message of a reboot comes with the agent's event, as for reboots from inside. */
static int record_reboot(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    return record_paused(call, vm, false, false, err);
}

int handle_vm_pause(struct call *call, const struct vm_pause_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm || step_vm(call, vm, STEP_PAUSE, err) < 0)
        return -1;
    return record_paused(call, vm, true, true, err);
}

int handle_vm_unpause(struct call *call, const struct vm_unpause_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm || step_vm(call, vm, STEP_UNPAUSE, err) < 0)
        return -1;
    return record_paused(call, vm, false, true, err);
}

int handle_vm_clean_shutdown(struct call *call, const struct vm_clean_shutdown_args *args,
                             struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm || step_vm(call, vm, STEP_SHUTDOWN, err) < 0)
        return -1;
    return record_halted(call, vm, err);
}

int vm_end_domain(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    return step_vm(call, vm, STEP_HARD_SHUTDOWN, err);
}

/* Of a suspended VM: its saved memory goes. */
static int forget_memory(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(call->snapshot, CLASS_VDI, vm->suspend_VDI));
    struct ref sr = vdi ? vdi->SR : REF_NULL;
    if (record_halted(call, vm, err) < 0)
        return -1;
    if (!ref_is_null(sr))
        storage_sweep(call->server, sr);
    return 0;
}

static int hard_shutdown(struct call *call, const struct vm_row *vm, struct api_err *err)
{
    if (vm->power_state == VM_POWER_STATE_SUSPENDED)
        return forget_memory(call, vm, err);
    return step_vm(call, vm, STEP_HARD_SHUTDOWN, err) < 0 ? -1 : record_halted(call, vm, err);
}

int handle_vm_hard_shutdown(struct call *call, const struct vm_hard_shutdown_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    return vm ? hard_shutdown(call, vm, err) : -1;
}

/* Clean, and hard when the guest does not follow. */
int handle_vm_shutdown(struct call *call, const struct vm_shutdown_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm)
        return -1;
    if (vm->power_state == VM_POWER_STATE_RUNNING && step_vm(call, vm, STEP_SHUTDOWN, err) == 0)
        return record_halted(call, vm, err);
    if (err->code && streq(err->code, "TASK_CANCELLED"))
        return -1;
    api_err_done(err);
    return hard_shutdown(call, vm, err);
}

int handle_vm_clean_reboot(struct call *call, const struct vm_clean_reboot_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm || step_vm(call, vm, STEP_REBOOT, err) < 0)
        return -1;
    return record_reboot(call, vm, err);
}

int handle_vm_hard_reboot(struct call *call, const struct vm_hard_reboot_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm || step_vm(call, vm, STEP_HARD_REBOOT, err) < 0)
        return -1;
    return record_reboot(call, vm, err);
}

/* Forced to Halted in the rows, for a VM that no host runs any more; refused while its host still does. */
int handle_vm_power_state_reset(struct call *call, const struct vm_power_state_reset_args *args,
                                struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm)
        return -1;
    if (vm->is_control_domain)
        return err_operation_not_allowed(err, "The control domain is not reset");
    if (!ref_is_null(vm->resident_on)) {
        struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
        struct hv_domain_info_args info_args;
        struct hv_domain_info_result info;
        struct hv_err cause;
        struct hv_op op = {.timeout_ms = 5000};
        if (!agent)
            return -1;
        hv_domain_info_args_init(&info_args);
        str_assign(&info_args.domain, vm->uuid);
        int rc = hv_domain_info(agent, &op, &info_args, &info, &cause);
        bool live = rc == 0 && info.info.state != DOMAIN_STATE_GONE;
        hosts_put(call->server->hosts, agent);
        hv_domain_info_args_done(&info_args);
        if (rc == 0)
            hv_domain_info_result_done(&info);
        if (live)
            return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "halted", "running");
        if (rc < 0 && cause.kind != HV_ERR_KIND_NOT_FOUND)
            return hosts_fail(err, vm->resident_on, &cause);
    }
    return record_halted(call, vm, err);
}
