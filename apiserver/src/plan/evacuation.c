/* First fit, largest first: not always the best that there is, but what it finds can be done. */
#include "evacuation.h"

#include "placement.h"
#include <base/buf.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdlib.h>

void evacuation_done(struct evacuation *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        api_err_done(&plan->steps[i].why);
    free(plan->steps);
    *plan = (struct evacuation){0};
}

struct search {
    const struct snapshot *snap;
    const struct vm_row *vm;
    struct ref from;
    struct placement_claims claims;
    struct ref best;
    int64_t best_free;
    struct api_err *why;
};

/* A reason that says something of the VM is worth more than that a host is away. */
static bool says_more(const struct api_err *old, const struct api_err *fresh)
{
    if (!old->code)
        return true;
    return old->desc == ERROR_HOST_NOT_LIVE ||
           (old->desc == ERROR_HOST_DISABLED && fresh->desc != ERROR_HOST_NOT_LIVE);
}

static bool consider(const struct row *row, void *arg)
{
    struct search *s = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (ref_eq(row->ref, s->from))
        return true;
    const struct placement p = {.snap = s->snap, .vm = s->vm, .claims = &s->claims};
    if (placement_check(&p, row->ref, &err) < 0) {
        if (says_more(s->why, &err)) {
            api_err_done(s->why);
            *s->why = err;
            err = API_ERR_INIT;
        }
        return true;
    }
    int64_t left = placement_free_memory(s->snap, host_row(row), &s->claims, true);
    if (left > s->best_free) {
        s->best_free = left;
        s->best = row->ref;
    }
    return true;
}

static int larger_first(const void *a, const void *b)
{
    const struct vm_row *x = *(const struct vm_row *const *)a, *y = *(const struct vm_row *const *)b;
    if (x->memory_dynamic_max != y->memory_dynamic_max)
        return x->memory_dynamic_max > y->memory_dynamic_max ? -1 : 1;
    return memcmp(&x->row.ref, &y->row.ref, sizeof(x->row.ref));
}

static size_t collect(const struct snapshot *snap, const struct host_row *host, const struct vm_row **vms)
{
    size_t count = 0;
    for (size_t i = 0; host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (vm && !vm->is_control_domain)
            vms[count++] = vm;
    }
    qsort(vms, count, sizeof(*vms), larger_first);
    return count;
}

void evacuation_plan(const struct snapshot *snap, const struct host_row *host, struct evacuation *plan)
{
    size_t most = host->resident_VMs ? host->resident_VMs->count : 0;
    AUTO_FREE const struct vm_row **vms = xcalloc(most + 1, sizeof(*vms));
    AUTO_FREE struct placement_claim *claims = xcalloc(most + 1, sizeof(*claims));
    size_t claimed = 0;
    *plan = (struct evacuation){.steps = xcalloc(most + 1, sizeof(*plan->steps)),
                                .count = collect(snap, host, vms)};
    for (size_t i = 0; i < plan->count; i++) {
        struct evacuation_step *step = &plan->steps[i];
        struct search s = {
            .snap = snap, .vm = vms[i], .from = host->row.ref, .best_free = INT64_MIN, .why = &step->why};
        s.claims = (struct placement_claims){claims, claimed};
        step->vm = vms[i]->row.ref;
        snapshot_each(snap, CLASS_host, consider, &s);
        step->to = s.best;
        if (!ref_is_null(s.best)) {
            api_err_done(&step->why);
            step->why = API_ERR_INIT;
            claims[claimed++] =
                (struct placement_claim){.vm = step->vm,
                                         .host = s.best,
                                         .least = vms[i]->memory_dynamic_max + vms[i]->memory_overhead,
                                         .bytes = vms[i]->memory_dynamic_max + vms[i]->memory_overhead};
        } else if (!step->why.code) {
            err_no_hosts_available(&step->why);
        }
    }
}

int evacuation_check(const struct evacuation *plan, struct api_err *err)
{
    AUTO_BUF struct buf text = BUF_INIT;
    for (size_t i = 0; i < plan->count; i++) {
        const struct api_err *why = &plan->steps[i].why;
        if (!ref_is_null(plan->steps[i].to))
            continue;
        if (text.len)
            buf_add_char(&text, '|');
        buf_add_str(&text, why->code);
        for (size_t k = 0; k < why->param_count; k++) {
            buf_add_char(&text, ',');
            buf_add_str(&text, why->params[k]);
        }
    }
    return text.len ? err_cannot_evacuate_host(err, text.data) : 0;
}
