/* host.*: what would become of the host's VMs if it went away. */
#include "../plan/evacuation.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

static int plan_for(struct call *call, struct ref ref, struct evacuation *plan, struct api_err *err)
{
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, ref));
    if (!host)
        return fail_handle(err, CLASS_host, ref);
    evacuation_plan(call->snapshot, host, plan);
    return 0;
}

int handle_host_assert_can_evacuate(struct call *call, const struct host_assert_can_evacuate_args *args,
                                    struct api_err *err)
{
    AUTO_EVACUATION struct evacuation plan = {0};
    return plan_for(call, args->host, &plan, err) < 0 ? -1 : evacuation_check(&plan, err);
}

int handle_host_get_vms_which_prevent_evacuation(
    struct call *call, const struct host_get_vms_which_prevent_evacuation_args *args, json_t **result,
    struct api_err *err)
{
    AUTO_EVACUATION struct evacuation plan = {0};
    if (plan_for(call, args->self, &plan, err) < 0)
        return -1;
    *result = json_object();
    for (size_t i = 0; i < plan.count; i++) {
        const struct evacuation_step *step = &plan.steps[i];
        if (!ref_is_null(step->to))
            continue;
        json_t *words = json_array();
        json_array_append_new(words, json_string(step->why.code));
        for (size_t k = 0; k < step->why.param_count; k++)
            json_array_append_new(words, json_string(step->why.params[k]));
        json_object_set_new(*result, REF_TEXT(step->vm), words);
    }
    return 0;
}

/* A guest that does not give up its memory is not waited for: none stands in the way. */
int handle_host_get_uncooperative_resident_VMs(struct call *call,
                                               const struct host_get_uncooperative_resident_VMs_args *args,
                                               const struct ref_set **result, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_host, args->self))
        return fail_handle(err, CLASS_host, args->self);
    *result = ref_set_new(NULL, 0);
    return 0;
}
