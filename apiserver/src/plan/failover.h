/* Whether the protected VMs of a pool could all run again after hosts have failed, and where. Pure and
 * deterministic: the same pool gives the same plan. A plan that is found can be carried out; where packing is
 * hard one that exists may be missed, never the other way round. */
#pragma once
#include <base/ref.h>
#include <db/store.h>
#include <model/rows.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAILOVER_NOWHERE SIZE_MAX

struct failover_host {
    struct ref ref;
    int64_t free; /* bytes that VMs which run there leave, all of them squeezed; may be negative */
    bool usable;  /* takes VMs: live and enabled */
};

/* A protected VM. */
struct failover_vm {
    struct ref ref;
    int64_t size; /* what a start of it needs at least */
    size_t host;  /* index; FAILOVER_NOWHERE: it ought to run and does not, so it needs a place anyway */
};

struct failover_problem {
    struct failover_host *hosts;
    size_t host_count;
    struct failover_vm *vms;
    size_t vm_count;
    bool *allowed; /* [vm * host_count + host]: it could run there as far as storage and networks go */
};
void failover_problem_done(struct failover_problem *problem);
#define AUTO_FAILOVER __attribute__((cleanup(failover_problem_done)))

/* Places for the VMs of the hosts with failed[i], and for those that run nowhere: to[vm] is a host's index,
 * or FAILOVER_NOWHERE for VMs that need none (they run on) and for those that found none. False: some found
 * none; the others have theirs nevertheless, the largest first. */
bool failover_assign(const struct failover_problem *problem, const bool *failed, size_t *to);
/* Whatever n hosts fail together, there is room. */
bool failover_exists(const struct failover_problem *problem, size_t n);
/* The greatest n for which there is, as long as every smaller one has room too; at most one less than there
 * are hosts. -1: not even now, without any failure. */
int failover_max(const struct failover_problem *problem);

/* ---- a pool as a problem: failover_rows.c ---- */

/* What is about to change. Zeroed members are left out. */
struct failover_change {
    struct ref vm;                    /* the VM that the next ones are about */
    struct ref to;                    /* it is going to run there */
    bool ends;                        /* it is going to end */
    const char *priority;             /* its restart priority is going to be this, and it runs or is to run */
    const struct vm_row *as;          /* it is going to have the sizes of this copy of its row */
    struct ref out;                   /* this host is not going to take VMs any more */
    const struct ref_set *ended;      /* these VMs count as not running */
    const struct str_map *priorities; /* by VM reference: hypothetical ones, of all VMs that are named */
};
/* Protected are VMs with priority "restart" that are meant to run. `change` may be NULL. */
void failover_problem_of(const struct snapshot *snap, const struct failover_change *change,
                         struct failover_problem *problem);
/* Index of a host; FAILOVER_NOWHERE: it is not among them. */
size_t failover_host_index(const struct failover_problem *problem, struct ref host);
bool failover_is_protected(const struct vm_row *vm);
