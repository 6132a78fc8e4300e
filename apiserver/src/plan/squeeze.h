/* How much memory each VM of a host has between its least and its most. Pure. */
#pragma once
#include <db/store.h>
#include <model/rows.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct squeeze_vm {
    struct ref ref;
    int64_t min, max;       /* its dynamic range; max no more than it was booted with */
    int64_t actual, target; /* what it has; what it is asked to have. Both 0: it does not run yet */
    int64_t overhead;
    bool follows;  /* its guest does as it is asked: else it counts with what it has */
    int64_t share; /* set by squeeze_share */
};

/* What a VM of these rows has, or could have. */
struct squeeze_vm squeeze_vm_of(const struct snapshot *snap, const struct vm_row *vm);
/* What it takes of its host now (the more of actual and target), and if all of its host give what they can.
 * With the overhead. */
int64_t squeeze_now(const struct squeeze_vm *vm);
int64_t squeeze_least(const struct squeeze_vm *vm);
/* Shares `bytes` (overheads included): everybody that follows gets its least and the same part of what lies
 * between that and its most, in whole MiB; the others what they have. What is left over; negative: so much is
 * missing though everybody has its least. */
int64_t squeeze_share(struct squeeze_vm *vms, size_t count, int64_t bytes);
