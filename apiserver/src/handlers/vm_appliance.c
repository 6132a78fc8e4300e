/* VM_appliance.start, clean_shutdown, hard_shutdown, shutdown: VMs by their order, those of the same order at
 * once (sequence.h). One that fails does not keep the others. */
#include "../gate/work.h"
#include "../sequence.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

struct job {
    struct call *call;
    const char *message;
    bool start, paused;
    struct sequence_step *steps;
    size_t count;
};

static void job_free(struct job *job)
{
    free(job->steps);
    free(job);
}

/* NULL: the VM is as it shall be already. */
static json_t *params(void *arg, const struct sequence_step *step)
{
    const struct job *job = arg;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->call->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, step->object));
    if (!vm || (vm->power_state == VM_POWER_STATE_HALTED) != job->start)
        return NULL;
    if (job->start)
        return json_pack("[sbb]", REF_TEXT(step->object), job->paused, 0);
    return json_pack("[s]", REF_TEXT(step->object));
}

static void done(void *arg, const struct sequence_result *result)
{
    struct job *job = arg;
    struct call *call = job->call;
    int rc = sequence_cut_short(call, result);
    if (rc == 0 && result->failed)
        rc = err_operation_partially_failed(&call->err, call->method->name);
    job_free(job);
    work_end_taken(call, rc);
}

static void begin(struct call *call, void *arg)
{
    struct job *job = arg;
    struct sequence_spec spec = sequence_spec_of(call);
    spec.params = params;
    spec.done = done;
    spec.arg = job;
    sequence_start(&spec, job->steps, job->count);
}

/* `message`: what is done to each VM. */
static int all(struct call *call, struct ref self, const char *message, bool start, bool paused,
               struct api_err *err)
{
    const struct vm_appliance_row *appliance =
        vm_appliance_row(snapshot_get(call->snapshot, CLASS_VM_appliance, self));
    if (!appliance)
        return fail_handle(err, CLASS_VM_appliance, self);
    size_t most = appliance->VMs ? appliance->VMs->count : 0;
    struct job *job = xcalloc(1, sizeof(*job));
    *job = (struct job){.call = call, .message = message, .start = start, .paused = paused};
    job->steps = xcalloc(most + 1, sizeof(*job->steps));
    for (size_t i = 0; i < most; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, appliance->VMs->items[i]));
        if (vm)
            job->steps[job->count++] =
                (struct sequence_step){.object = vm->row.ref,
                                       .message = message,
                                       .order = start ? vm->order : -vm->order,
                                       .delay_s = start ? vm->start_delay : vm->shutdown_delay};
    }
    call->take_over = begin;
    call->take_over_arg = job;
    return 0;
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
