/* What changes while a VM runs: memory (by the guest's balloon) and processors. The agent first, then the
 * row; what the guest makes of it is told by VM_metrics when the host is looked at. */
#include "../gate/task.h"
#include "../hosts/ha.h"
#include "../hosts/hosts.h"
#include "../plan/placement.h"
#include "../plan/scheduling.h"
#include "../rules/vm.h"
#include "vm_power.h"
#include "vm_record.h"
#include <base/clock.h>
#include <base/mem.h>
#include <handlers.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

static int fail_live(const struct vm_row *vm, const struct hv_err *cause, struct api_err *err)
{
    switch (cause->kind) {
    case HV_ERR_KIND_GUEST:
        return err_vm_lacks_feature(err, REF_TEXT(vm->row.ref));
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_UNSUPPORTED:
        return err_operation_not_allowed(err, cause->text);
    default:
        return hosts_fail_vm(err, vm->row.ref, vm->resident_on, cause);
    }
}

static bool is_live(const struct vm_row *vm)
{
    return vm->power_state == VM_POWER_STATE_RUNNING && !ref_is_null(vm->resident_on);
}

/* ---- memory ---- */

/* The guest cannot have more than it was started with. */
static int64_t booted_memory(const struct vm_row *vm)
{
    struct row *booted = vm_record_as_booted(vm);
    int64_t bytes = vm_row(booted)->memory_dynamic_max;
    row_unref(booted);
    return bytes;
}

static int balloon(struct call *call, const struct vm_row *vm, int64_t bytes, struct api_err *err)
{
    struct hosts_op op;
    struct hv_domain_set_memory_args args;
    struct hv_domain_set_memory_result result;
    struct hv_err cause;
    int64_t most = booted_memory(vm);
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_domain_set_memory_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    args.memory_bytes = bytes < most ? bytes : most;
    int rc = hv_domain_set_memory(agent, &op.op, &args, &result, &cause);
    hv_domain_set_memory_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return fail_live(vm, &cause, err);
    hv_domain_set_memory_result_done(&result);
    return 0;
}

/* What it may be asked to have at once: no more than its host has left, which else is given to it when others
 * have made room (hosts/balance.h). */
static int64_t reachable(struct call *call, const struct vm_row *vm, int64_t min, int64_t max)
{
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, vm->resident_on));
    int64_t most = booted_memory(vm), target = vm->memory_target > 0 ? vm->memory_target : most;
    int64_t left = host ? placement_free_memory(call->snapshot, host, NULL, false) : 0;
    max = max < most ? max : most;
    if (max <= target || max - target <= left)
        return max;
    target += left > 0 ? left : 0;
    return target > min ? target : min;
}

static int record_range(struct call *call, const struct vm_row *vm, int64_t min, int64_t max, int64_t target,
                        struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VM, vm->row.ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, vm->row.ref);
    }
    struct vm_row *edit = vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref));
    edit->memory_dynamic_min = min;
    edit->memory_dynamic_max = max;
    edit->memory_target = target;
    edit->keeps_memory = false;
    if (is_live(edit) && max > booted_memory(vm))
        edit->requires_reboot = true;
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

static int set_range(struct call *call, struct ref ref, const int64_t *min, const int64_t *max,
                     struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, ref, err);
    if (!vm)
        return -1;
    int64_t low = min ? *min : vm->memory_dynamic_min, high = max ? *max : vm->memory_dynamic_max;
    if (low < vm->memory_static_min || low > high || high > vm->memory_static_max)
        return err_memory_constraint_violation(err, "static_min <= dynamic_min <= dynamic_max <= static_max");
    struct vm_row as = *vm;
    as.memory_dynamic_min = low;
    as.memory_dynamic_max = high;
    const struct failover_change change = {.vm = ref, .as = &as};
    if (ha_check_change(call->snapshot, &change, err) < 0)
        return -1;
    int64_t target = is_live(vm) ? reachable(call, vm, low, high) : high;
    if (is_live(vm) && target != vm->memory_target && balloon(call, vm, target, err) < 0)
        return -1;
    return record_range(call, vm, low, high, target, err);
}

int handle_vm_set_memory_dynamic_range(struct call *call, const struct vm_set_memory_dynamic_range_args *args,
                                       struct api_err *err)
{
    return set_range(call, args->self, &args->min, &args->max, err);
}

int handle_vm_set_memory_dynamic_max(struct call *call, const struct vm_set_memory_dynamic_max_args *args,
                                     struct api_err *err)
{
    return set_range(call, args->self, NULL, &args->value, err);
}

int handle_vm_set_memory_dynamic_min(struct call *call, const struct vm_set_memory_dynamic_min_args *args,
                                     struct api_err *err)
{
    return set_range(call, args->self, &args->value, NULL, err);
}

int handle_vm_set_memory_target_live(struct call *call, const struct vm_set_memory_target_live_args *args,
                                     struct api_err *err)
{
    return set_range(call, args->self, &args->target, &args->target, err);
}

/* Near enough: a balloon moves in steps. */
#define TARGET_SLACK (INT64_C(4) << 20)
#define TARGET_WAIT_MS (256 * 1000)

int handle_vm_wait_memory_target_live(struct call *call, const struct vm_wait_memory_target_live_args *args,
                                      struct api_err *err)
{
    int64_t deadline = clock_mono_ms() + TARGET_WAIT_MS;
    for (;;) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, args->self));
        if (!vm)
            return fail_handle(err, CLASS_VM, args->self);
        if (vm->power_state != VM_POWER_STATE_RUNNING)
            return vm_bad_state(err, vm, "running");
        const struct vm_metrics_row *metrics =
            vm_metrics_row(snapshot_get(snap, CLASS_VM_metrics, vm->metrics));
        int64_t off = metrics ? metrics->memory_actual - vm->memory_target : 0;
        if (off <= TARGET_SLACK && off >= -TARGET_SLACK)
            return 0;
        if (call->cancel && *call->cancel)
            return err_task_cancelled(err, REF_TEXT(call->task));
        if (clock_mono_ms() >= deadline || call->server->closing || vm->keeps_memory)
            return err_vm_memory_target_wait_timeout(err);
        store_wait(call->server->store, snapshot_generation(snap), clock_mono_ms() + 1000);
    }
}

/* ---- processors ---- */

static int record_vcpus(struct call *call, const struct vm_row *vm, int64_t vcpus, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!vm_same_domain(tx, vm)) {
        tx_abort(tx);
        return vm_gone(err, vm);
    }
    vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref))->VCPUs_at_startup = vcpus;
    if (tx_get(tx, CLASS_VM_metrics, vm->metrics))
        vm_metrics_row_mut(tx_edit(tx, CLASS_VM_metrics, vm->metrics))->VCPUs_number = vcpus;
    task_note_done(tx, call, REF_NULL);
    return server_commit(tx, err);
}

int handle_vm_set_VCPUs_number_live(struct call *call, const struct vm_set_VCPUs_number_live_args *args,
                                    struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    struct hosts_op op;
    struct hv_domain_set_vcpus_args set;
    struct hv_domain_set_vcpus_result result;
    struct hv_err cause;
    char text[24];
    if (!vm)
        return -1;
    snprintf(text, sizeof(text), "%" PRId64, args->nvcpu);
    if (args->nvcpu < 1 || args->nvcpu > vm->VCPUs_max)
        return err_invalid_value(err, "VCPU values must satisfy: 0 < VCPUs <= VCPUs_max", text);
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_domain_set_vcpus_args_init(&set);
    str_assign(&set.domain, vm->uuid);
    set.vcpus = args->nvcpu;
    int rc = hv_domain_set_vcpus(agent, &op.op, &set, &result, &cause);
    hv_domain_set_vcpus_args_done(&set);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return fail_live(vm, &cause, err);
    hv_domain_set_vcpus_result_done(&result);
    return record_vcpus(call, vm, args->nvcpu, err);
}

static int schedule(struct call *call, const struct vm_row *vm, const struct domain_config *wanted,
                    struct api_err *err)
{
    struct hosts_op op;
    struct hv_domain_set_scheduling_args args;
    struct hv_domain_set_scheduling_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, call, 0);
    hv_domain_set_scheduling_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    args.weight = wanted->cpu_weight;
    args.cap_percent = wanted->cpu_cap_percent;
    str_assign(&args.mask, wanted->cpu_mask);
    int rc = hv_domain_set_scheduling(agent, &op.op, &args, &result, &cause);
    hv_domain_set_scheduling_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return fail_live(vm, &cause, err);
    hv_domain_set_scheduling_result_done(&result);
    return 0;
}

static int record_param(struct call *call, struct ref vm, const char *key, const char *value,
                        struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VM, vm)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, vm);
    }
    str_map_put(&vm_row_mut(tx_edit(tx, CLASS_VM, vm))->VCPUs_params, key, value);
    return server_commit(tx, err);
}

/* Unlike other maps' add_to messages it replaces what the key has. */
int handle_vm_add_to_VCPUs_params_live(struct call *call, const struct vm_add_to_VCPUs_params_live_args *args,
                                       struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    struct domain_config wanted AUTO_DOMAIN_CONFIG;
    domain_config_init(&wanted);
    if (!vm)
        return -1;
    if (!is_live(vm) && vm->power_state != VM_POWER_STATE_PAUSED)
        return vm_bad_state(err, vm, "running");
    AUTO_STR_MAP const struct str_map *params = str_map_ref(vm->VCPUs_params);
    str_map_put(&params, args->key, args->value);
    if (plan_scheduling(params, &wanted, err) < 0 || schedule(call, vm, &wanted, err) < 0)
        return -1;
    return record_param(call, args->self, args->key, args->value, err);
}

/* ---- page tables ---- */

static int check_multiplier(double value, struct api_err *err)
{
    char text[32];
    snprintf(text, sizeof(text), "%g", value);
    return value >= 1.0 && value <= 100.0 ? 0 : err_invalid_value(err, "multiplier", text);
}

static int record_multiplier(struct call *call, struct ref vm, double value, struct api_err *err)
{
    if (check_multiplier(value, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VM, vm)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, vm);
    }
    vm_row_mut(tx_edit(tx, CLASS_VM, vm))->HVM_shadow_multiplier = value;
    return server_commit(tx, err);
}

int handle_vm_set_HVM_shadow_multiplier(struct call *call,
                                        const struct vm_set_HVM_shadow_multiplier_args *args,
                                        struct api_err *err)
{
    return record_multiplier(call, args->self, args->value, err);
}

/* Hosts of this pool take what page tables need as it is needed: any factor is in force already. */
int handle_vm_set_shadow_multiplier_live(struct call *call,
                                         const struct vm_set_shadow_multiplier_live_args *args,
                                         struct api_err *err)
{
    return record_multiplier(call, args->self, args->multiplier, err);
}
