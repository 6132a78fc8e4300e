/* Where a VM may run. Pure: reads the snapshot. */
#pragma once
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

/* Memory of a host that a VM under way to it counts on, though no row says so yet. */
struct placement_claim {
    struct ref vm, host;
    int64_t least;  /* stays its own when others need memory and it runs */
    int64_t bytes;  /* is its own now */
    int64_t wanted; /* others are asked to make room for so much */
};
struct placement_claims {
    const struct placement_claim *items;
    size_t count;
};

/* What is asked for. Zeroed members are left out. */
struct placement {
    const struct snapshot *snap;
    const struct vm_row *vm;
    const struct placement_claims *claims;
    bool force;              /* no checks of what might still work: VM.start's argument */
    const struct ref *avoid; /* hosts that have just failed */
    size_t avoid_count;
    double random; /* 0 to 1, without 1: which of several equally good hosts */
};

/* 0 if the VM could be started on the host now, else the first reason in the API's order:
 * MEMORY_CONSTRAINT_VIOLATION and VALUE_NOT_SUPPORTED, HANDLE_INVALID (VDI), HOST_NOT_LIVE, HOST_DISABLED,
 * VM_HOST_INCOMPATIBLE_VIRTUAL_HARDWARE_PLATFORM_VERSION, VM_REQUIRES_SR,
 * VM_REQUIRES_NETWORK, VM_REQUIRES_IOMMU, VM_REQUIRES_GPU, VM_REQUIRES_VUSB, HOST_NOT_ENOUGH_FREE_MEMORY,
 * HOST_NOT_ENOUGH_PCPUS. */
int placement_check(const struct placement *p, struct ref host, struct api_err *err);
/* The same told one by one, as long as `each` returns true: those that hold on any host, and those of this
 * one. False: it did not. `err` lives until `each` returns. */
typedef bool placement_refusal_fn(void *arg, struct api_err *err);
bool placement_refusals_anywhere(const struct placement *p, placement_refusal_fn *each, void *arg);
bool placement_refusals(const struct placement *p, struct ref host, placement_refusal_fn *each, void *arg);
/* Its affinity if that will do. Else of the hosts that pass: those with the fewest running members of the
 * VM's anti-affinity groups; of these those that have the memory at once, else those that have its most if
 * others give memory, else the rest; of these one at random, weighted by free memory. NO_HOSTS_AVAILABLE;
 * with one host in the pool its own reason is told instead. */
int placement_choose(const struct placement *p, struct ref *host, struct api_err *err);
/* Hosts that pass, in order of references. */
const struct ref_set *placement_possible(const struct snapshot *snap, const struct vm_row *vm);
/* Memory that VMs there or on their way (`claims` may be NULL) do not have; `squeezed`: if all gave what they
 * can. */
int64_t placement_free_memory(const struct snapshot *snap, const struct host_row *host,
                              const struct placement_claims *claims, bool squeezed);
/* What guests may have of it altogether. */
int64_t placement_guest_memory(const struct snapshot *snap, const struct host_row *host);
