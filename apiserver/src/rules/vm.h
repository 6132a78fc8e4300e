/* Which operations a VM allows now: a pure function of what the VM is. Source of the tables: the XenAPI life
 * cycle of VMs (required power states, templates, snapshots, guest features, what may run side by side). */
#pragma once
#include "../refusals.h"
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

/* What the guest, or its device model for it, says that it can do. */
enum vm_feature {
    VM_FEATURE_SUSPEND = 1 << 0,
    VM_FEATURE_SHUTDOWN = 1 << 1,
    VM_FEATURE_POWEROFF = 1 << 2,
    VM_FEATURE_REBOOT = 1 << 3,
    VM_FEATURE_VCPU_HOTPLUG = 1 << 4,
    VM_FEATURE_ALL = (1 << 5) - 1,
};
/* What the device model does for every guest, with or without an agent in it: it saves memory, plugs
 * processors in, and presses the power button. */
#define VM_FEATURES_OF_DEVICE_MODEL (VM_FEATURE_SUSPEND | VM_FEATURE_POWEROFF | VM_FEATURE_VCPU_HOTPLUG)

/* What the rules look at. */
struct vm_view {
    enum vm_power_state power_state;
    bool is_template, is_default_template, is_snapshot, is_control_domain;
    bool allow_clone_suspended;      /* of the pool */
    bool immobile;                   /* platform:nomigrate, or nested virtualisation */
    unsigned features;               /* enum vm_feature; looked at while Running */
    bool resets_disks, caches_reset; /* a VDI has on_boot=reset; and is cached on the host */
    bool has_pci, has_vgpu, has_vusb;
    struct ref appliance, protection_policy, snapshot_schedule;
    size_t vtpms;
    const struct str_map *blocked; /* operation -> reason */
    const struct str_map *current; /* task -> operation */
};
struct vm_view vm_view_of(struct tx *tx, const struct vm_row *vm);

/* 0, or -1 with the first refusal in the order of the API's reference: OPERATION_BLOCKED, VM_BAD_POWER_STATE,
 * OTHER_OPERATION_IN_PROGRESS, VM_IS_TEMPLATE, VM_IS_SNAPSHOT, PROVISION_ONLY_ALLOWED_ON_TEMPLATE,
 * REVERT_ONLY_ALLOWED_ON_SNAPSHOT, VM_IS_IMMOBILE, OPERATION_NOT_ALLOWED (control domain), VM_LACKS_FEATURE,
 * VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION, VM_HAS_PCI_ATTACHED, VM_HAS_VGPU, VM_HAS_VUSBS,
 * VM_IS_PART_OF_AN_APPLIANCE, VM_ASSIGNED_TO_PROTECTION_POLICY, VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE,
 * VTPM_MAX_AMOUNT_REACHED. */
int vm_operation_check(const struct vm_view *view, struct ref self, enum vm_operations operation,
                       struct api_err *err);
/* All refusals that hold together, one by one, in the same order. */
void vm_operation_refusals(const struct vm_view *view, struct ref self, enum vm_operations operation,
                           const struct refusals *all);
/* The power states in which it may begin: bit = enum vm_power_state. */
unsigned vm_operation_states(enum vm_operations operation);
/* The set that the VM's allowed_operations shows: bit = enum vm_operations. */
uint64_t vm_operations_allowed(const struct vm_view *view);
/* "halted", "running"...: power states as errors name them. */
const char *vm_state_word(enum vm_power_state state);
/* VM_BAD_POWER_STATE [vm, expected, actual]. -1. */
int vm_bad_state(struct api_err *err, const struct vm_row *vm, const char *expected);
