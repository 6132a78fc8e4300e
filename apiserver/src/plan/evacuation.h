/* Whether the VMs of a host could all run elsewhere, and where. Pure: reads the snapshot. */
#pragma once
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

/* One VM that runs on the host. */
struct evacuation_step {
    struct ref vm;
    struct ref to;      /* null: it cannot move */
    struct api_err why; /* then the reason, as VM.assert_can_boot_here on the best of the others tells it */
};
struct evacuation {
    struct evacuation_step *steps;
    size_t count;
};
void evacuation_done(struct evacuation *plan);
#define AUTO_EVACUATION __attribute__((cleanup(evacuation_done)))

/* Every VM of the host, the largest first, to a host that is live, enabled and has the VM's storage, and
 * still has memory for it beside those that were placed before. Always fills *plan. */
void evacuation_plan(const struct snapshot *snap, const struct host_row *host, struct evacuation *plan);
/* 0, or CANNOT_EVACUATE_HOST with the reasons of all that cannot move. */
int evacuation_check(const struct evacuation *plan, struct api_err *err);
