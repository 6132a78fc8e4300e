/* Where a VM may run. Pure: reads the snapshot. */
#pragma once
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

/* Memory of a host that a VM under way to it counts on, though no row says so yet. */
struct placement_claim {
    struct ref vm, host;
    int64_t bytes;
};
struct placement_claims {
    const struct placement_claim *items;
    size_t count;
};

/* In all of these `claims` may be NULL: none. */

/* 0 if the VM could be started on the host now, else the first reason in the API's order:
 * MEMORY_CONSTRAINT_VIOLATION and VALUE_NOT_SUPPORTED, HOST_NOT_LIVE, HOST_DISABLED,
 * VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION, VM_REQUIRES_SR,
 * VM_REQUIRES_NETWORK, HOST_NOT_ENOUGH_FREE_MEMORY, HOST_NOT_ENOUGH_PCPUS. */
int placement_check(const struct snapshot *snap, const struct vm_row *vm, struct ref host,
                    const struct placement_claims *claims, struct api_err *err);
/* Its affinity if that will do, else the host with most free memory, else NO_HOSTS_AVAILABLE; with one host
 * in the pool its own reason is told instead. */
int placement_choose(const struct snapshot *snap, const struct vm_row *vm,
                     const struct placement_claims *claims, struct ref *host, struct api_err *err);
/* Hosts that pass, in order of references. */
const struct ref_set *placement_possible(const struct snapshot *snap, const struct vm_row *vm);
/* Memory that is not promised to VMs running there or on their way. */
int64_t placement_free_memory(const struct snapshot *snap, const struct host_row *host,
                              const struct placement_claims *claims);
