/* What the handlers of power share: calls of a domain, and errors of starting one. */
#pragma once
#include "../hosts/hosts.h"
#include "../server.h"
#include <model/rows.h>

const struct vm_row *vm_find(struct call *call, struct ref vm, struct api_err *err);
/* An agent could not start or resume the VM. -1. */
int vm_start_failed(struct api_err *err, const struct vm_row *vm, struct ref host,
                    const struct hv_err *cause);
/* The row is still that of the domain which the agent was asked about: a hard shutdown, which overtakes other
 * operations, may have come in between. */
bool vm_same_domain(struct tx *tx, const struct vm_row *vm);
/* VM_BAD_POWER_STATE: the VM was stopped meanwhile. -1. */
int vm_gone(struct api_err *err, const struct vm_row *vm);
/* Ends the VM's domain at once. Nothing is recorded. */
int vm_end_domain(struct call *call, const struct vm_row *vm, struct api_err *err);
/* Waits as long as an operation on one of its disks keeps the VM from starting. VDI_IN_USE and its like. */
int vm_wait_for_disks(struct call *call, const struct vm_row *vm, struct api_err *err);
