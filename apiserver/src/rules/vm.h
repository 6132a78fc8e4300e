/* Which operations a VM allows now: a pure function of what the VM is. Source of the tables: the XenAPI life
 * cycle of VMs (required power states, templates, snapshots, what may run side by side). */
#pragma once
#include <model/error.h>
#include <model/rows.h>

/* What the rules look at. */
struct vm_view {
    enum vm_power_state power_state;
    bool is_template, is_default_template, is_snapshot, is_control_domain;
    bool allow_clone_suspended;
    const struct str_map *blocked; /* operation -> reason */
    const struct str_map *current; /* task -> operation */
};
struct vm_view vm_view_of(const struct vm_row *vm);

/* 0, or -1 with the first refusal in the order of the API's reference: OPERATION_BLOCKED, VM_BAD_POWER_STATE,
 * OTHER_OPERATION_IN_PROGRESS, VM_IS_TEMPLATE, VM_IS_SNAPSHOT, PROVISION_ONLY_ALLOWED_ON_TEMPLATE,
 * REVERT_ONLY_ALLOWED_ON_SNAPSHOT, OPERATION_NOT_ALLOWED. */
int vm_operation_check(const struct vm_view *view, struct ref self, enum vm_operations operation,
                       struct api_err *err);
/* The set that the VM's allowed_operations shows: bit = enum vm_operations. */
uint64_t vm_operations_allowed(const struct vm_view *view);
