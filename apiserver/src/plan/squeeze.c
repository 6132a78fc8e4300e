#include "squeeze.h"

#include "../handlers/vm_record.h"

#define MIB (INT64_C(1) << 20)
#define MOST_BYTES (INT64_C(1) << 60) /* any more is as much, and sums of it do not overflow */

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

struct squeeze_vm squeeze_vm_of(const struct snapshot *snap, const struct vm_row *vm)
{
    struct squeeze_vm s = {.ref = vm->row.ref,
                           .min = least(vm->memory_dynamic_min, MOST_BYTES),
                           .max = least(vm->memory_dynamic_max, MOST_BYTES),
                           .overhead = vm->memory_overhead,
                           .follows = !vm->keeps_memory};
    if (vm->power_state == VM_POWER_STATE_SUSPENDED) /* it comes back with what it had */
        s.min = s.max = vm->memory_target > 0 ? vm->memory_target : vm->memory_dynamic_max;
    if (vm->power_state != VM_POWER_STATE_RUNNING && vm->power_state != VM_POWER_STATE_PAUSED)
        return s;
    const struct vm_metrics_row *metrics = vm_metrics_row(snapshot_get(snap, CLASS_VM_metrics, vm->metrics));
    if (vm->memory_target < vm->memory_dynamic_max) { /* else it was booted with as much */
        struct row *booted = vm_record_as_booted(vm);
        s.max = least(s.max, vm_row(booted)->memory_dynamic_max);
        row_unref(booted);
    }
    s.min = least(s.min, s.max);
    s.target = vm->memory_target > 0 ? least(vm->memory_target, s.max) : s.max;
    s.actual = metrics && metrics->memory_actual > 0 ? metrics->memory_actual : s.target;
    /* Who stands still gives nothing. */
    s.follows &= vm->power_state == VM_POWER_STATE_RUNNING;
    return s;
}

int64_t squeeze_now(const struct squeeze_vm *vm)
{
    return (vm->follows ? most(vm->actual, vm->target) : vm->actual) + vm->overhead;
}

int64_t squeeze_least(const struct squeeze_vm *vm)
{
    return vm->follows || vm->actual == 0 ? vm->min + vm->overhead : squeeze_now(vm);
}

/* Of what lies between, `left` of `spread` bytes are there. */
static int64_t part(const struct squeeze_vm *vm, int64_t left, int64_t spread)
{
    double f = spread > 0 ? (double)left / (double)spread : 1.0;
    f = f < 0 ? 0 : f > 1 ? 1 : f;
    int64_t more = (int64_t)(f * (double)(vm->max - vm->min));
    return f >= 1 ? vm->max : most(vm->min, (vm->min + more) / MIB * MIB);
}

int64_t squeeze_share(struct squeeze_vm *vms, size_t count, int64_t bytes)
{
    int64_t left = bytes, spread = 0;
    for (size_t i = 0; i < count; i++) {
        bool fixed = !vms[i].follows && vms[i].actual > 0;
        left -= squeeze_least(&vms[i]);
        spread += fixed ? 0 : vms[i].max - vms[i].min;
    }
    int64_t over = left;
    for (size_t i = 0; i < count; i++) {
        bool fixed = !vms[i].follows && vms[i].actual > 0;
        vms[i].share = fixed ? vms[i].actual : part(&vms[i], left, spread);
        over -= fixed ? 0 : vms[i].share - vms[i].min;
    }
    return over;
}
