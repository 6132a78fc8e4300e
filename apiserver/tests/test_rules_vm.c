/* What a VM allows, for every kind of VM and every power state, and what may run side by side. The table is
 * the XenAPI's own: a guest with drivers, nothing blocked, nothing running. */
#include "rules/vm.h"

#include <base/mem.h>
#include <criterion/criterion.h>
#include <model/errors.h>

#define OP(name) ((uint64_t)1 << VM_OPERATIONS_##name)

enum kind { KIND_VM, KIND_TEMPLATE, KIND_DEFAULT_TEMPLATE, KIND_SNAPSHOT, KIND_CONTROL };

static struct vm_view view_of(enum kind kind, enum vm_power_state state)
{
    return (struct vm_view){
        .power_state = state,
        .is_template = kind == KIND_TEMPLATE || kind == KIND_DEFAULT_TEMPLATE || kind == KIND_SNAPSHOT,
        .is_default_template = kind == KIND_DEFAULT_TEMPLATE,
        .is_snapshot = kind == KIND_SNAPSHOT,
        .is_control_domain = kind == KIND_CONTROL,
    };
}

static const struct {
    enum kind kind;
    enum vm_power_state state;
    uint64_t allowed;
} table[] = {
    {KIND_VM, VM_POWER_STATE_HALTED,
     OP(CHANGING_NVRAM) | OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_SHADOW_MEMORY) |
         OP(CHANGING_STATIC_RANGE) | OP(CLONE) | OP(COPY) | OP(CREATE_VTPM) | OP(DESTROY) | OP(EXPORT) |
         OP(MAKE_INTO_TEMPLATE) | OP(METADATA_EXPORT) | OP(MIGRATE_SEND) | OP(SNAPSHOT) | OP(START) |
         OP(START_ON)},
    {KIND_VM, VM_POWER_STATE_PAUSED,
     OP(CHECKPOINT) | OP(HARD_REBOOT) | OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT) | OP(SNAPSHOT) | OP(UNPAUSE)},
    {KIND_VM, VM_POWER_STATE_SUSPENDED,
     OP(CHECKPOINT) | OP(DESTROY) | OP(EXPORT) | OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT) | OP(MIGRATE_SEND) |
         OP(RESUME) | OP(RESUME_ON) | OP(SNAPSHOT)},
    {KIND_VM, VM_POWER_STATE_RUNNING,
     OP(CHANGING_VCPUS_LIVE) | OP(CHANGING_DYNAMIC_RANGE) | OP(CHECKPOINT) | OP(CLEAN_REBOOT) |
         OP(CLEAN_SHUTDOWN) | OP(HARD_REBOOT) | OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT) | OP(MIGRATE_SEND) |
         OP(PAUSE) | OP(POOL_MIGRATE) | OP(SNAPSHOT) | OP(SUSPEND) | OP(SYSPREP)},
    {KIND_TEMPLATE, VM_POWER_STATE_HALTED,
     OP(CHANGING_NVRAM) | OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_SHADOW_MEMORY) |
         OP(CHANGING_STATIC_RANGE) | OP(CLONE) | OP(COPY) | OP(DESTROY) | OP(EXPORT) | OP(METADATA_EXPORT) |
         OP(MIGRATE_SEND) | OP(PROVISION)},
    {KIND_TEMPLATE, VM_POWER_STATE_PAUSED, OP(METADATA_EXPORT)},
    {KIND_TEMPLATE, VM_POWER_STATE_SUSPENDED,
     OP(DESTROY) | OP(EXPORT) | OP(METADATA_EXPORT) | OP(MIGRATE_SEND)},
    {KIND_TEMPLATE, VM_POWER_STATE_RUNNING,
     OP(CHANGING_DYNAMIC_RANGE) | OP(METADATA_EXPORT) | OP(MIGRATE_SEND)},
    {KIND_DEFAULT_TEMPLATE, VM_POWER_STATE_HALTED,
     OP(CHANGING_NVRAM) | OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_SHADOW_MEMORY) |
         OP(CHANGING_STATIC_RANGE) | OP(CLONE) | OP(COPY) | OP(EXPORT) | OP(METADATA_EXPORT) | OP(PROVISION)},
    {KIND_DEFAULT_TEMPLATE, VM_POWER_STATE_PAUSED, OP(METADATA_EXPORT)},
    {KIND_DEFAULT_TEMPLATE, VM_POWER_STATE_SUSPENDED, OP(EXPORT) | OP(METADATA_EXPORT)},
    {KIND_DEFAULT_TEMPLATE, VM_POWER_STATE_RUNNING, OP(CHANGING_DYNAMIC_RANGE) | OP(METADATA_EXPORT)},
    {KIND_SNAPSHOT, VM_POWER_STATE_HALTED,
     OP(CLONE) | OP(COPY) | OP(DESTROY) | OP(EXPORT) | OP(METADATA_EXPORT) | OP(REVERT)},
    {KIND_SNAPSHOT, VM_POWER_STATE_PAUSED, OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT) | OP(REVERT)},
    {KIND_SNAPSHOT, VM_POWER_STATE_SUSPENDED,
     OP(CLONE) | OP(COPY) | OP(DESTROY) | OP(EXPORT) | OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT) | OP(REVERT)},
    {KIND_SNAPSHOT, VM_POWER_STATE_RUNNING, OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT) | OP(REVERT)},
    {KIND_CONTROL, VM_POWER_STATE_HALTED,
     OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_STATIC_RANGE) | OP(METADATA_EXPORT) | OP(START) | OP(START_ON)},
    {KIND_CONTROL, VM_POWER_STATE_PAUSED, OP(METADATA_EXPORT)},
    {KIND_CONTROL, VM_POWER_STATE_SUSPENDED, OP(METADATA_EXPORT)},
    {KIND_CONTROL, VM_POWER_STATE_RUNNING,
     OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_STATIC_RANGE) | OP(METADATA_EXPORT)},
};

Test(rules_vm, every_kind_in_every_state)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct vm_view view = view_of(table[i].kind, table[i].state);
        uint64_t allowed = vm_operations_allowed(&view);
        for (int op = 0; op < model_enum_vm_operations.count; op++)
            cr_expect_eq(allowed >> op & 1, table[i].allowed >> op & 1, "kind %d, %s: %s is %s",
                         table[i].kind, model_enum_vm_power_state.values[table[i].state],
                         model_enum_vm_operations.values[op], allowed >> op & 1 ? "allowed" : "refused");
    }
}

static const struct ref self = {1, 2};

static const char *refusal(const struct vm_view *view, enum vm_operations op, struct api_err *err)
{
    api_err_done(err);
    return vm_operation_check(view, self, op, err) == 0 ? "" : err->code;
}

Test(rules_vm, the_state_is_told_with_those_that_would_do)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct vm_view view = view_of(KIND_VM, VM_POWER_STATE_HALTED);
    cr_assert_str_eq(refusal(&view, VM_OPERATIONS_HARD_SHUTDOWN, &err), "VM_BAD_POWER_STATE");
    cr_assert_str_eq(err.params[0], REF_TEXT(self));
    cr_assert_str_eq(err.params[1], "paused, suspended, running");
    cr_assert_str_eq(err.params[2], "halted");
}

Test(rules_vm, the_first_refusal_wins)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_STR_MAP const struct str_map *blocked = str_map_new(&(struct str_pair){"start", "not now"}, 1);
    AUTO_STR_MAP const struct str_map *current = str_map_new(&(struct str_pair){"OpaqueRef:t", "clone"}, 1);
    struct vm_view view = view_of(KIND_TEMPLATE, VM_POWER_STATE_RUNNING);
    view.blocked = blocked;
    view.current = current;
    cr_assert_str_eq(refusal(&view, VM_OPERATIONS_START, &err), "OPERATION_BLOCKED");
    cr_assert_str_eq(err.params[1], "not now");
    view.blocked = NULL;
    cr_assert_str_eq(refusal(&view, VM_OPERATIONS_START, &err), "VM_BAD_POWER_STATE");
    view.power_state = VM_POWER_STATE_HALTED;
    cr_assert_str_eq(refusal(&view, VM_OPERATIONS_START, &err), "OTHER_OPERATION_IN_PROGRESS");
    cr_assert_str_eq(err.params[0], "VM");
    cr_assert_str_eq(err.params[2], "clone");
    cr_assert_str_eq(err.params[3], "OpaqueRef:t");
    view.current = NULL;
    cr_assert_str_eq(refusal(&view, VM_OPERATIONS_START, &err), "VM_IS_TEMPLATE");
    cr_assert_str_eq(err.params[1], "start");
}

Test(rules_vm, kinds_are_told_apart)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct vm_view vm = view_of(KIND_VM, VM_POWER_STATE_HALTED);
    struct vm_view snapshot = view_of(KIND_SNAPSHOT, VM_POWER_STATE_HALTED);
    struct vm_view control = view_of(KIND_CONTROL, VM_POWER_STATE_RUNNING);
    cr_assert_str_eq(refusal(&vm, VM_OPERATIONS_PROVISION, &err), "PROVISION_ONLY_ALLOWED_ON_TEMPLATE");
    cr_assert_str_eq(refusal(&vm, VM_OPERATIONS_REVERT, &err), "REVERT_ONLY_ALLOWED_ON_SNAPSHOT");
    cr_assert_str_eq(refusal(&snapshot, VM_OPERATIONS_START, &err), "VM_IS_SNAPSHOT");
    cr_assert_str_eq(refusal(&control, VM_OPERATIONS_PAUSE, &err), "OPERATION_NOT_ALLOWED");
}

/* Does the first begin while the second runs? The VM is in a state that both need. */
static const struct {
    enum vm_operations op, running;
    enum vm_power_state state;
    bool allowed;
} pairs[] = {
    {VM_OPERATIONS_CLONE, VM_OPERATIONS_COPY, VM_POWER_STATE_HALTED, true},
    {VM_OPERATIONS_EXPORT, VM_OPERATIONS_CLONE, VM_POWER_STATE_HALTED, true},
    {VM_OPERATIONS_CLONE, VM_OPERATIONS_START, VM_POWER_STATE_HALTED, false},
    {VM_OPERATIONS_START, VM_OPERATIONS_START, VM_POWER_STATE_HALTED, false},
    {VM_OPERATIONS_SNAPSHOT, VM_OPERATIONS_CHECKPOINT, VM_POWER_STATE_RUNNING, true},
    {VM_OPERATIONS_SNAPSHOT, VM_OPERATIONS_SUSPEND, VM_POWER_STATE_RUNNING, false},
    {VM_OPERATIONS_HARD_SHUTDOWN, VM_OPERATIONS_CLEAN_SHUTDOWN, VM_POWER_STATE_RUNNING, true},
    {VM_OPERATIONS_HARD_SHUTDOWN, VM_OPERATIONS_HARD_SHUTDOWN, VM_POWER_STATE_RUNNING, false},
    {VM_OPERATIONS_HARD_REBOOT, VM_OPERATIONS_CLEAN_REBOOT, VM_POWER_STATE_RUNNING, true},
    {VM_OPERATIONS_HARD_REBOOT, VM_OPERATIONS_HARD_SHUTDOWN, VM_POWER_STATE_RUNNING, false},
    {VM_OPERATIONS_CLEAN_SHUTDOWN, VM_OPERATIONS_MIGRATE_SEND, VM_POWER_STATE_RUNNING, true},
    {VM_OPERATIONS_PAUSE, VM_OPERATIONS_MIGRATE_SEND, VM_POWER_STATE_RUNNING, false},
    {VM_OPERATIONS_GET_BOOT_RECORD, VM_OPERATIONS_HARD_SHUTDOWN, VM_POWER_STATE_RUNNING, true},
};

Test(rules_vm, what_runs_side_by_side)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        const struct str_pair pair = {"OpaqueRef:t", model_enum_vm_operations.values[pairs[i].running]};
        AUTO_STR_MAP const struct str_map *current = str_map_new(&pair, 1);
        struct vm_view view = view_of(KIND_VM, pairs[i].state);
        view.current = current;
        const char *expected = pairs[i].allowed ? "" : "OTHER_OPERATION_IN_PROGRESS";
        cr_expect_str_eq(refusal(&view, pairs[i].op, &err), expected, "%s while %s",
                         model_enum_vm_operations.values[pairs[i].op], pair.value);
    }
}
