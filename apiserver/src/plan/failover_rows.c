/* The pool's rows, and what is about to change in them, as a problem of packing. Sizes are those that a start
 * asks for (plan/squeeze.h), so that what is planned can be started. */
#include "failover.h"

#include "placement.h"
#include "reach.h"
#include "squeeze.h"
#include <base/mem.h>
#include <model/errors.h>

struct builder {
    const struct snapshot *snap;
    const struct failover_change *change;
    struct failover_problem *p;
};

static const struct failover_change nothing;

bool failover_is_protected(const struct vm_row *vm)
{
    return !vm->is_a_template && !vm->is_a_snapshot && !vm->is_control_domain && vm->ha_always_run &&
           streq(vm->ha_restart_priority, "restart");
}

size_t failover_host_index(const struct failover_problem *p, struct ref host)
{
    for (size_t i = 0; i < p->host_count; i++)
        if (ref_eq(p->hosts[i].ref, host))
            return i;
    return FAILOVER_NOWHERE;
}

static bool add_host(const struct row *row, void *arg)
{
    struct builder *b = arg;
    const struct host_row *host = host_row(row);
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(b->snap, CLASS_host_metrics, host->metrics));
    b->p->hosts[b->p->host_count++] = (struct failover_host){
        .ref = row->ref,
        .free = placement_guest_memory(b->snap, host),
        .usable = metrics && metrics->live && host->enabled && !ref_eq(row->ref, b->change->out)};
    return true;
}

/* Where it is going to run. */
static size_t place_of(const struct builder *b, const struct vm_row *vm)
{
    bool changes = ref_eq(vm->row.ref, b->change->vm);
    if ((changes && b->change->ends) || ref_set_has(b->change->ended, vm->row.ref))
        return FAILOVER_NOWHERE;
    if (changes && !ref_is_null(b->change->to))
        return failover_host_index(b->p, b->change->to);
    return failover_host_index(b->p, vm->resident_on);
}

static bool will_be_protected(const struct builder *b, const struct vm_row *vm, size_t place)
{
    bool changes = ref_eq(vm->row.ref, b->change->vm);
    const char *priority = str_map_get(b->change->priorities, REF_TEXT(vm->row.ref));
    if (priority)
        return streq(priority, "restart");
    if (changes && b->change->ends)
        return false;
    if (changes && b->change->priority)
        return streq(b->change->priority, "restart") && (place != FAILOVER_NOWHERE || vm->ha_always_run);
    if (changes && !ref_is_null(b->change->to))
        return streq(vm->ha_restart_priority, "restart");
    return failover_is_protected(vm);
}

static void add_protected(struct builder *b, const struct vm_row *vm, int64_t size, size_t place)
{
    size_t at = b->p->vm_count++, hosts = b->p->host_count;
    b->p->vms[at] = (struct failover_vm){.ref = vm->row.ref, .size = size, .host = place};
    AUTO_REACH struct reach reach = reach_of(b->snap, vm);
    for (size_t h = 0; h < hosts; h++)
        b->p->allowed[at * hosts + h] = reach_has(&reach, b->p->hosts[h].ref);
}

static bool add_vm(const struct row *row, void *arg)
{
    struct builder *b = arg;
    const struct vm_row *vm = vm_row(row);
    if (vm->is_a_template || vm->is_a_snapshot || vm->is_control_domain)
        return true;
    bool changes = ref_eq(row->ref, b->change->vm);
    const struct vm_row *as = changes && b->change->as ? b->change->as : vm;
    const struct squeeze_vm has = squeeze_vm_of(b->snap, as);
    size_t place = place_of(b, vm);
    if (place != FAILOVER_NOWHERE)
        b->p->hosts[place].free -= squeeze_least(&has);
    if (will_be_protected(b, vm, place))
        add_protected(b, vm, as->memory_dynamic_min + as->memory_overhead, place);
    return true;
}

void failover_problem_of(const struct snapshot *snap, const struct failover_change *change,
                         struct failover_problem *p)
{
    size_t hosts = snapshot_count(snap, CLASS_host), vms = snapshot_count(snap, CLASS_VM);
    struct builder b = {.snap = snap, .change = change ? change : &nothing, .p = p};
    *p = (struct failover_problem){.hosts = xcalloc(hosts + 1, sizeof(*p->hosts)),
                                   .vms = xcalloc(vms + 1, sizeof(*p->vms)),
                                   .allowed = xcalloc(vms * hosts + 1, sizeof(*p->allowed))};
    snapshot_each(snap, CLASS_host, add_host, &b);
    snapshot_each(snap, CLASS_VM, add_vm, &b);
}
