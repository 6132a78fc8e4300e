/* The hosts that reach all of a VM's storage and networks: found from these once, so that a choice among
 * thousands of hosts need not look for each of them along a storage repository's connections. Pure. */
#pragma once
#include <base/rc.h>
#include <db/store.h>
#include <model/rows.h>

struct reach {
    bool anywhere;               /* the VM has nothing that only some hosts reach */
    const struct ref_set *hosts; /* else these; they may have no rows any more */
};
/* Nobody reaches a disk that is not there; a device or network without a row asks for nothing. */
struct reach reach_of(const struct snapshot *snap, const struct vm_row *vm);
void reach_done(struct reach *reach);
bool reach_has(const struct reach *reach, struct ref host);
#define AUTO_REACH __attribute__((cleanup(reach_done)))
