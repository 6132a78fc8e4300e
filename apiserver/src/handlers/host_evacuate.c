/* host.evacuate: every VM of the host moves to where plan/evacuation.c finds room, some at a time. */
#include "../gate/work.h"
#include "../plan/evacuation.h"
#include "../sequence.h"
#include "../server.h"
#include "checks.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define BATCH 10 /* at a time, unless the call says otherwise */

struct job {
    struct call *call;
    struct evacuation plan;
    struct sequence_step *steps;
    size_t count;
};

static void job_free(struct job *job)
{
    evacuation_done(&job->plan);
    free(job->steps);
    free(job);
}

/* NULL: it is not there any more. */
static json_t *params(void *arg, const struct sequence_step *step)
{
    const struct job *job = arg;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->call->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, step->object));
    for (size_t i = 0; vm && !ref_is_null(vm->resident_on) && i < job->plan.count; i++)
        if (ref_eq(job->plan.steps[i].vm, step->object))
            return json_pack("[ss{ss}]", REF_TEXT(step->object), REF_TEXT(job->plan.steps[i].to), "live",
                             "true");
    return NULL;
}

static void done(void *arg, const struct sequence_result *result)
{
    struct job *job = arg;
    struct call *call = job->call;
    int rc = sequence_cut_short(call, result);
    if (rc == 0 && result->failed)
        rc = err_cannot_evacuate_host(&call->err, result->first_code);
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

/* Agents listen where they are managed: no other network carries guests. */
static int check_network(const struct call *call, const struct host_row *host, struct ref network,
                         struct api_err *err)
{
    if (ref_is_null(network))
        return 0;
    if (!snapshot_get(call->snapshot, CLASS_network, network))
        return fail_handle(err, CLASS_network, network);
    for (size_t i = 0; host->PIFs && i < host->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(call->snapshot, CLASS_PIF, host->PIFs->items[i]));
        if (pif && pif->management && ref_eq(pif->network, network))
            return 0;
    }
    return err_value_not_supported(err, "network", REF_TEXT(network),
                                   "guests go over the management network");
}

/* Everything that speaks against it, and the plan. */
static int look(const struct call *call, const struct host_evacuate_args *args, const struct refusals *all,
                struct evacuation *plan, struct api_err *err)
{
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, args->host));
    if (!host)
        return fail_handle(err, CLASS_host, args->host);
    if (refused(all, check_network(call, host, args->network, err), err))
        return -1;
    if (args->evacuate_batch_size < 0 &&
        refused(all, err_invalid_value(err, "evacuate_batch_size", "it is below zero"), err))
        return -1;
    evacuation_plan(call->snapshot, host, plan);
    return evacuation_check(plan, err);
}

int check_host_evacuate(struct call *call, struct tx *tx, const void *arguments, const struct refusals *all,
                        struct api_err *err)
{
    AUTO_EVACUATION struct evacuation plan = {0};
    (void)tx;
    return look(call, arguments, all, &plan, err);
}

int handle_host_evacuate(struct call *call, const struct host_evacuate_args *args, struct api_err *err)
{
    AUTO_EVACUATION struct evacuation plan = {0};
    if (look(call, args, NULL, &plan, err) < 0)
        return -1;
    int64_t batch = args->evacuate_batch_size > 0 ? args->evacuate_batch_size : BATCH;
    struct job *job = xcalloc(1, sizeof(*job));
    job->call = call;
    job->plan = plan;
    plan = (struct evacuation){0};
    job->steps = xcalloc(job->plan.count + 1, sizeof(*job->steps));
    for (size_t i = 0; i < job->plan.count; i++)
        job->steps[job->count++] = (struct sequence_step){
            .object = job->plan.steps[i].vm, .message = "VM.pool_migrate", .order = (int64_t)i / batch};
    call->take_over = begin;
    call->take_over_arg = job;
    return 0;
}
