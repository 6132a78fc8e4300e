/* VM_appliance.start, clean_shutdown, hard_shutdown, shutdown: VMs one after another, by their order, each
 * through the gate like a call of the same user. One that fails does not keep the others. */
#include "../gate/gate.h"
#include "../server.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

struct member {
    struct ref vm;
    int64_t order, delay; /* seconds to wait after it */
};

static int by_order(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    return (x->order > y->order) - (x->order < y->order);
}

static int by_reverse_order(const void *a, const void *b)
{
    return by_order(b, a);
}

/* Waits, unless cancelled. */
static int pause_for(struct call *call, int64_t seconds, struct api_err *err)
{
    int64_t end = clock_mono_ms() + seconds * 1000;
    while (clock_mono_ms() < end) {
        if (call->cancel && *call->cancel)
            return err_task_cancelled(err, REF_TEXT(call->task));
        if (call->server->closing)
            return fail_internal(err, "The server is stopping.");
        int64_t step = clock_mono_ms() + 500;
        store_wait(call->server->store, UINT64_MAX - 1, step < end ? step : end);
    }
    return 0;
}

/* The VM is as it shall be already. */
static bool nothing_to_do(const struct vm_row *vm, bool start)
{
    return start ? vm->power_state != VM_POWER_STATE_HALTED : vm->power_state == VM_POWER_STATE_HALTED;
}

static int act(struct call *call, const struct member *member, const char *message, bool start, bool paused)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, member->vm));
    if (!vm || nothing_to_do(vm, start))
        return 0;
    json_t *params =
        start ? json_pack("[sbb]", REF_TEXT(member->vm), paused, 0) : json_pack("[s]", REF_TEXT(member->vm));
    int rc = gate_call_within(call, message, params, &err);
    json_decref(params);
    if (rc < 0)
        log_warn("vm", "one VM of an appliance did not follow", "vm", vm->uuid, "message", message, "error",
                 err.code);
    return rc;
}

/* `message`: what is done to each VM. */
static int all(struct call *call, struct ref self, const char *message, bool start, bool paused,
               struct api_err *err)
{
    const struct vm_appliance_row *appliance =
        vm_appliance_row(snapshot_get(call->snapshot, CLASS_VM_appliance, self));
    size_t count = 0;
    int failed = 0;
    if (!appliance)
        return fail_handle(err, CLASS_VM_appliance, self);
    size_t most = appliance->VMs ? appliance->VMs->count : 0;
    AUTO_FREE struct member *members = xcalloc(most + 1, sizeof(*members));
    for (size_t i = 0; i < most; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, appliance->VMs->items[i]));
        if (vm)
            members[count++] = (struct member){
                .vm = vm->row.ref, .order = vm->order, .delay = start ? vm->start_delay : vm->shutdown_delay};
    }
    qsort(members, count, sizeof(*members), start ? by_order : by_reverse_order);
    for (size_t i = 0; i < count; i++) {
        if (call->cancel && *call->cancel)
            return err_task_cancelled(err, REF_TEXT(call->task));
        failed |= act(call, &members[i], message, start, paused);
        if (i + 1 < count && pause_for(call, members[i].delay, err) < 0)
            return -1;
    }
    return failed ? err_operation_partially_failed(err, call->method->name) : 0;
}

int handle_vm_appliance_start(struct call *call, const struct vm_appliance_start_args *args,
                              struct api_err *err)
{
    return all(call, args->self, "VM.start", true, args->paused, err);
}

int handle_vm_appliance_clean_shutdown(struct call *call, const struct vm_appliance_clean_shutdown_args *args,
                                       struct api_err *err)
{
    return all(call, args->self, "VM.clean_shutdown", false, false, err);
}

int handle_vm_appliance_hard_shutdown(struct call *call, const struct vm_appliance_hard_shutdown_args *args,
                                      struct api_err *err)
{
    return all(call, args->self, "VM.hard_shutdown", false, false, err);
}

int handle_vm_appliance_shutdown(struct call *call, const struct vm_appliance_shutdown_args *args,
                                 struct api_err *err)
{
    return all(call, args->self, "VM.shutdown", false, false, err);
}
