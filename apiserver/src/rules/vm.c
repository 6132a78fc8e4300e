/* The tables of VM operations and the walk over them. */
#include "vm.h"

#include "pool.h"

#include <base/buf.h>
#include <base/mem.h>
#include <model/errors.h>

#define OP(name) ((uint64_t)1 << VM_OPERATIONS_##name)
#define HALTED (1u << VM_POWER_STATE_HALTED)
#define PAUSED (1u << VM_POWER_STATE_PAUSED)
#define RUNNING (1u << VM_POWER_STATE_RUNNING)
#define SUSPENDED (1u << VM_POWER_STATE_SUSPENDED)
#define ANY (HALTED | PAUSED | RUNNING | SUSPENDED)

/* Power states in which an operation may begin. An operation without a row is never allowed. */
static const uint8_t states_of[] = {
    [VM_OPERATIONS_SNAPSHOT] = ANY,
    [VM_OPERATIONS_CLONE] = HALTED,
    [VM_OPERATIONS_COPY] = HALTED,
    [VM_OPERATIONS_CREATE_TEMPLATE] = HALTED | SUSPENDED,
    [VM_OPERATIONS_REVERT] = ANY,
    [VM_OPERATIONS_CHECKPOINT] = PAUSED | SUSPENDED | RUNNING,
    [VM_OPERATIONS_SNAPSHOT_WITH_QUIESCE] = RUNNING,
    [VM_OPERATIONS_PROVISION] = HALTED,
    [VM_OPERATIONS_START] = HALTED,
    [VM_OPERATIONS_START_ON] = HALTED,
    [VM_OPERATIONS_PAUSE] = RUNNING,
    [VM_OPERATIONS_UNPAUSE] = PAUSED,
    [VM_OPERATIONS_CLEAN_SHUTDOWN] = RUNNING,
    [VM_OPERATIONS_CLEAN_REBOOT] = RUNNING,
    [VM_OPERATIONS_HARD_SHUTDOWN] = PAUSED | SUSPENDED | RUNNING,
    [VM_OPERATIONS_POWER_STATE_RESET] = ANY,
    [VM_OPERATIONS_HARD_REBOOT] = PAUSED | RUNNING,
    [VM_OPERATIONS_SUSPEND] = RUNNING,
    [VM_OPERATIONS_CSVM] = SUSPENDED,
    [VM_OPERATIONS_RESUME] = SUSPENDED,
    [VM_OPERATIONS_RESUME_ON] = SUSPENDED,
    [VM_OPERATIONS_POOL_MIGRATE] = RUNNING,
    [VM_OPERATIONS_MIGRATE_SEND] = HALTED | SUSPENDED | RUNNING,
    [VM_OPERATIONS_GET_BOOT_RECORD] = PAUSED | SUSPENDED | RUNNING,
    [VM_OPERATIONS_SEND_SYSRQ] = RUNNING,
    [VM_OPERATIONS_SEND_TRIGGER] = RUNNING,
    [VM_OPERATIONS_QUERY_SERVICES] = ANY,
    [VM_OPERATIONS_SHUTDOWN] = PAUSED | SUSPENDED | RUNNING,
    [VM_OPERATIONS_CALL_PLUGIN] = RUNNING,
    [VM_OPERATIONS_CHANGING_MEMORY_LIVE] = RUNNING,
    [VM_OPERATIONS_AWAITING_MEMORY_LIVE] = RUNNING,
    [VM_OPERATIONS_CHANGING_DYNAMIC_RANGE] = HALTED | RUNNING,
    [VM_OPERATIONS_CHANGING_STATIC_RANGE] = HALTED,
    [VM_OPERATIONS_CHANGING_MEMORY_LIMITS] = HALTED,
    [VM_OPERATIONS_CHANGING_SHADOW_MEMORY] = HALTED,
    [VM_OPERATIONS_CHANGING_SHADOW_MEMORY_LIVE] = RUNNING,
    [VM_OPERATIONS_CHANGING_VCPUS] = HALTED,
    [VM_OPERATIONS_CHANGING_VCPUS_LIVE] = RUNNING,
    [VM_OPERATIONS_CHANGING_NVRAM] = HALTED,
    [VM_OPERATIONS_ASSERT_OPERATION_VALID] = ANY,
    [VM_OPERATIONS_DATA_SOURCE_OP] = RUNNING,
    [VM_OPERATIONS_UPDATE_ALLOWED_OPERATIONS] = ANY,
    [VM_OPERATIONS_MAKE_INTO_TEMPLATE] = HALTED,
    [VM_OPERATIONS_IMPORT] = 0,
    [VM_OPERATIONS_EXPORT] = HALTED | SUSPENDED,
    [VM_OPERATIONS_METADATA_EXPORT] = ANY,
    [VM_OPERATIONS_REVERTING] = ANY,
    [VM_OPERATIONS_DESTROY] = HALTED | SUSPENDED,
    [VM_OPERATIONS_CREATE_VTPM] = HALTED,
    [VM_OPERATIONS_SYSPREP] = RUNNING,
};
#define OPERATION_COUNT ARRAY_LEN(states_of)

static const uint64_t changing = OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_STATIC_RANGE) |
                                 OP(CHANGING_MEMORY_LIMITS) | OP(CHANGING_SHADOW_MEMORY) |
                                 OP(CHANGING_VCPUS) | OP(CHANGING_NVRAM);
/* These change nothing: they are refused to no kind of VM. */
static const uint64_t harmless =
    OP(ASSERT_OPERATION_VALID) | OP(UPDATE_ALLOWED_OPERATIONS) | OP(QUERY_SERVICES) | OP(POWER_STATE_RESET);
static const uint64_t never_listed =
    OP(CREATE_TEMPLATE) | OP(POWER_STATE_RESET) | OP(CSVM) | OP(GET_BOOT_RECORD) | OP(SEND_SYSRQ) |
    OP(SEND_TRIGGER) | OP(QUERY_SERVICES) | OP(SHUTDOWN) | OP(CALL_PLUGIN) | OP(CHANGING_MEMORY_LIVE) |
    OP(AWAITING_MEMORY_LIVE) | OP(CHANGING_MEMORY_LIMITS) | OP(CHANGING_SHADOW_MEMORY_LIVE) |
    OP(CHANGING_VCPUS) | OP(ASSERT_OPERATION_VALID) | OP(DATA_SOURCE_OP) | OP(UPDATE_ALLOWED_OPERATIONS) |
    OP(IMPORT) | OP(REVERTING) | OP(SNAPSHOT_WITH_QUIESCE);
/* These take the guest's memory along. */
static const uint64_t moving = OP(SUSPEND) | OP(CHECKPOINT) | OP(POOL_MIGRATE) | OP(MIGRATE_SEND);

enum verdict {
    ALLOWED,
    REFUSED_BLOCKED,
    REFUSED_STATE,
    REFUSED_BUSY,
    REFUSED_TEMPLATE,
    REFUSED_SNAPSHOT,
    REFUSED_NOT_TEMPLATE,
    REFUSED_NOT_SNAPSHOT,
    REFUSED_IMMOBILE,
    REFUSED_CONTROL,
    REFUSED_FEATURE,
    REFUSED_ON_BOOT,
    REFUSED_PCI,
    REFUSED_VGPU,
    REFUSED_VUSB,
    REFUSED_APPLIANCE,
    REFUSED_POLICY,
    REFUSED_SCHEDULE,
    REFUSED_VTPM,
};

/* ---- what the rows say ---- */

static unsigned features_of(struct tx *tx, const struct vm_row *vm)
{
    static const struct {
        const char *key;
        unsigned feature;
    } keys[] = {{"feature-suspend", VM_FEATURE_SUSPEND},
                {"feature-shutdown", VM_FEATURE_SHUTDOWN},
                {"feature-poweroff", VM_FEATURE_POWEROFF},
                {"feature-reboot", VM_FEATURE_REBOOT},
                {"feature-vcpu-hotplug", VM_FEATURE_VCPU_HOTPLUG}};
    unsigned features = VM_FEATURES_OF_DEVICE_MODEL;
    const struct vm_guest_metrics_row *guest =
        vm_guest_metrics_row(tx_get(tx, CLASS_VM_guest_metrics, vm->guest_metrics));
    for (size_t i = 0; guest && i < ARRAY_LEN(keys); i++) {
        const char *value = str_map_get(guest->other, keys[i].key);
        if (value && streq(value, "1"))
            features |= keys[i].feature;
    }
    return guest && guest->PV_drivers_detected ? VM_FEATURE_ALL : features;
}

static bool is_true(const char *word)
{
    return word && (streq(word, "true") || streq(word, "1"));
}

static void look_at_disks(struct tx *tx, const struct vm_row *vm, struct vm_view *view)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vm->VBDs->items[i]));
        const struct vdi_row *vdi = vbd ? vdi_row(tx_get(tx, CLASS_VDI, vbd->VDI)) : NULL;
        if (!vdi || vdi->on_boot != ON_BOOT_RESET)
            continue;
        view->resets_disks = true;
        view->caches_reset |= vdi->allow_caching;
    }
}

struct vm_view vm_view_of(struct tx *tx, const struct vm_row *vm)
{
    struct vm_view view = {
        .power_state = vm->power_state,
        .is_template = vm->is_a_template,
        .is_default_template = vm->is_default_template,
        .is_snapshot = vm->is_a_snapshot,
        .is_control_domain = vm->is_control_domain,
        .immobile = is_true(str_map_get(vm->platform, "nomigrate")) ||
                    is_true(str_map_get(vm->platform, "nested-virt")),
        .features = features_of(tx, vm),
        .has_pci = vm->attached_PCIs != NULL,
        .has_vgpu = vm->VGPUs != NULL,
        .has_vusb = vm->VUSBs != NULL,
        .appliance = vm->appliance,
        .protection_policy = vm->protection_policy,
        .snapshot_schedule = vm->snapshot_schedule,
        .vtpms = vm->VTPMs ? vm->VTPMs->count : 0,
        .blocked = vm->blocked_operations,
        .current = vm->current_operations,
    };
    look_at_disks(tx, vm, &view);
    if (vm->power_state == VM_POWER_STATE_SUSPENDED) {
        const struct pool_row *pool = pool_in(tx);
        view.allow_clone_suspended =
            pool && is_true(str_map_get(pool->other_config, "allow_clone_suspended_vm"));
    }
    return view;
}

/* ---- the rules ---- */

static bool state_allows(const struct vm_view *v, enum vm_operations op)
{
    unsigned states = states_of[op];
    uint64_t bit = (uint64_t)1 << op;
    if (v->is_control_domain &&
        (bit & (OP(CHANGING_VCPUS) | OP(CHANGING_STATIC_RANGE) | OP(CHANGING_MEMORY_LIMITS))))
        states |= RUNNING;
    if ((bit & (OP(CLONE) | OP(COPY))) && (v->is_snapshot || v->allow_clone_suspended))
        states |= SUSPENDED;
    return states >> v->power_state & 1;
}

/* May `op` begin while `other` runs? */
static bool goes_beside(enum vm_operations op, enum vm_operations other)
{
    const uint64_t copies = OP(CLONE) | OP(COPY) | OP(EXPORT);
    const uint64_t snapshots = OP(SNAPSHOT) | OP(CHECKPOINT);
    uint64_t a = (uint64_t)1 << op, b = (uint64_t)1 << other;
    if ((a & copies && b & copies) || (a & snapshots && b & snapshots))
        return true;
    if (op == VM_OPERATIONS_GET_BOOT_RECORD)
        return true;
    if (op == VM_OPERATIONS_HARD_SHUTDOWN)
        return other != VM_OPERATIONS_HARD_SHUTDOWN;
    if (op == VM_OPERATIONS_HARD_REBOOT)
        return other != VM_OPERATIONS_HARD_SHUTDOWN && other != VM_OPERATIONS_HARD_REBOOT;
    return other == VM_OPERATIONS_MIGRATE_SEND &&
           a & (OP(METADATA_EXPORT) | OP(CLEAN_SHUTDOWN) | OP(CLEAN_REBOOT));
}

static bool is_in_the_way(enum vm_operations op, const struct str_pair *running)
{
    int other = enum_find(&model_enum_vm_operations, running->value);
    return other < 0 || !goes_beside(op, (enum vm_operations)other);
}

/* The first running operation that is in the way; NULL: none. */
static const struct str_pair *in_the_way(const struct vm_view *v, enum vm_operations op)
{
    for (size_t i = 0; v->current && i < v->current->count; i++)
        if (is_in_the_way(op, &v->current->pairs[i]))
            return &v->current->pairs[i];
    return NULL;
}

/* What a template, a snapshot, neither, or a host's own system allows. */
static enum verdict judge_kind(const struct vm_view *v, enum vm_operations op)
{
    uint64_t bit = (uint64_t)1 << op;
    uint64_t of_template = changing | OP(CLONE) | OP(COPY) | OP(EXPORT) | OP(METADATA_EXPORT) | OP(PROVISION);
    if (!v->is_default_template)
        of_template |= OP(DESTROY) | OP(MIGRATE_SEND);
    if (v->is_template && !v->is_snapshot && !(bit & (of_template | harmless)))
        return REFUSED_TEMPLATE;
    const uint64_t of_snapshot = OP(REVERT) | OP(CLONE) | OP(COPY) | OP(EXPORT) | OP(DESTROY) |
                                 OP(HARD_SHUTDOWN) | OP(METADATA_EXPORT);
    if (v->is_snapshot && !(bit & (of_snapshot | harmless)))
        return REFUSED_SNAPSHOT;
    if (op == VM_OPERATIONS_PROVISION && !v->is_template)
        return REFUSED_NOT_TEMPLATE;
    if (op == VM_OPERATIONS_REVERT && !v->is_snapshot)
        return REFUSED_NOT_SNAPSHOT;
    if (v->immobile && bit & moving)
        return REFUSED_IMMOBILE;
    const uint64_t of_control = OP(CHANGING_DYNAMIC_RANGE) | OP(CHANGING_STATIC_RANGE) |
                                OP(CHANGING_MEMORY_LIMITS) | OP(CHANGING_VCPUS) | OP(START) | OP(START_ON) |
                                OP(METADATA_EXPORT) | OP(DATA_SOURCE_OP);
    if (v->is_control_domain && !(bit & (of_control | harmless)))
        return REFUSED_CONTROL;
    return ALLOWED;
}

/* One of these features is needed for the operation on a guest that runs; 0: none. */
static unsigned needed_features(enum vm_operations op)
{
    if ((uint64_t)1 << op & moving)
        return VM_FEATURE_SUSPEND;
    if (op == VM_OPERATIONS_CLEAN_SHUTDOWN)
        return VM_FEATURE_SHUTDOWN | VM_FEATURE_POWEROFF;
    if (op == VM_OPERATIONS_CLEAN_REBOOT)
        return VM_FEATURE_SHUTDOWN | VM_FEATURE_REBOOT;
    return op == VM_OPERATIONS_CHANGING_VCPUS_LIVE ? VM_FEATURE_VCPU_HOTPLUG : 0;
}

/* What the VM's devices and groups allow. */
static enum verdict judge_parts(const struct vm_view *v, enum vm_operations op)
{
    uint64_t bit = (uint64_t)1 << op;
    unsigned needed = needed_features(op);
    if (v->power_state == VM_POWER_STATE_RUNNING && needed && !(needed & v->features))
        return REFUSED_FEATURE;
    if (v->resets_disks && bit & (OP(SNAPSHOT) | OP(CHECKPOINT) | OP(SUSPEND) | OP(SNAPSHOT_WITH_QUIESCE)))
        return REFUSED_ON_BOOT;
    if (v->caches_reset && op == VM_OPERATIONS_POOL_MIGRATE)
        return REFUSED_ON_BOOT;
    if (v->has_pci && bit & moving)
        return REFUSED_PCI;
    if (v->has_vgpu && bit & moving)
        return REFUSED_VGPU;
    if (v->has_vusb && bit & (moving | OP(SNAPSHOT)))
        return REFUSED_VUSB;
    if (op == VM_OPERATIONS_MAKE_INTO_TEMPLATE) {
        if (!ref_is_null(v->appliance))
            return REFUSED_APPLIANCE;
        if (!ref_is_null(v->protection_policy))
            return REFUSED_POLICY;
        if (!ref_is_null(v->snapshot_schedule))
            return REFUSED_SCHEDULE;
    }
    if (op == VM_OPERATIONS_CREATE_VTPM && v->vtpms > 0)
        return REFUSED_VTPM;
    return ALLOWED;
}

static enum verdict judge_block(const struct vm_view *v, enum vm_operations op)
{
    return v->blocked && str_map_get(v->blocked, model_enum_vm_operations.values[op]) ? REFUSED_BLOCKED
                                                                                      : ALLOWED;
}

static enum verdict judge_state(const struct vm_view *v, enum vm_operations op)
{
    return state_allows(v, op) ? ALLOWED : REFUSED_STATE;
}

static enum verdict judge_others(const struct vm_view *v, enum vm_operations op)
{
    return v->current && in_the_way(v, op) ? REFUSED_BUSY : ALLOWED;
}

/* In the order in which refusals are told. */
static enum verdict (*const judges[])(const struct vm_view *v, enum vm_operations op) = {
    judge_block, judge_state, judge_others, judge_kind, judge_parts};

static enum verdict judge(const struct vm_view *v, enum vm_operations op)
{
    enum verdict verdict = ALLOWED;
    for (size_t i = 0; i < ARRAY_LEN(judges) && verdict == ALLOWED; i++)
        verdict = judges[i](v, op);
    return verdict;
}

/* ---- words ---- */

const char *vm_state_word(enum vm_power_state state)
{
    switch (state) {
    case VM_POWER_STATE_HALTED:
        return "halted";
    case VM_POWER_STATE_PAUSED:
        return "paused";
    case VM_POWER_STATE_RUNNING:
        return "running";
    case VM_POWER_STATE_SUSPENDED:
        return "suspended";
    }
    return "unknown";
}

int vm_bad_state(struct api_err *err, const struct vm_row *vm, const char *expected)
{
    return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), expected, vm_state_word(vm->power_state));
}

static int bad_state(const struct vm_view *v, struct ref self, enum vm_operations op, struct api_err *err)
{
    static const enum vm_power_state order[] = {VM_POWER_STATE_HALTED, VM_POWER_STATE_PAUSED,
                                                VM_POWER_STATE_SUSPENDED, VM_POWER_STATE_RUNNING};
    AUTO_BUF struct buf expected = BUF_INIT;
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        if (!(states_of[op] >> order[i] & 1))
            continue;
        if (expected.len)
            buf_add_str(&expected, ", ");
        buf_add_str(&expected, vm_state_word(order[i]));
    }
    return err_vm_bad_power_state(err, REF_TEXT(self), expected.len ? expected.data : "",
                                  vm_state_word(v->power_state));
}

static int busy(struct ref self, const struct str_pair *running, struct api_err *err)
{
    return err_other_operation_in_progress(err, "VM", REF_TEXT(self), running->value, running->key);
}

static int refuse(const struct vm_view *v, struct ref self, enum vm_operations op, enum verdict verdict,
                  struct api_err *err)
{
    const char *name = model_enum_vm_operations.values[op];
    switch (verdict) {
    case ALLOWED:
        return 0;
    case REFUSED_BLOCKED:
        return err_operation_blocked(err, REF_TEXT(self), str_map_get(v->blocked, name));
    case REFUSED_STATE:
        return bad_state(v, self, op, err);
    case REFUSED_BUSY:
        return busy(self, in_the_way(v, op), err);
    case REFUSED_TEMPLATE:
        return err_vm_is_template(err, REF_TEXT(self), name);
    case REFUSED_SNAPSHOT:
        return err_vm_is_snapshot(err, REF_TEXT(self), name);
    case REFUSED_NOT_TEMPLATE:
        return err_provision_only_allowed_on_template(err);
    case REFUSED_NOT_SNAPSHOT:
        return err_revert_only_allowed_on_snapshot(err);
    case REFUSED_IMMOBILE:
        return err_vm_is_immobile(err, REF_TEXT(self));
    case REFUSED_CONTROL:
        return err_operation_not_allowed(err, "This operation is not allowed on dom0");
    case REFUSED_FEATURE:
        return err_vm_lacks_feature(err, REF_TEXT(self));
    case REFUSED_ON_BOOT:
        return err_vdi_on_boot_mode_incompatible_with_operation(err);
    case REFUSED_PCI:
        return err_vm_has_pci_attached(err, REF_TEXT(self));
    case REFUSED_VGPU:
        return err_vm_has_vgpu(err, REF_TEXT(self));
    case REFUSED_VUSB:
        return err_vm_has_vusbs(err, REF_TEXT(self));
    case REFUSED_APPLIANCE:
        return err_vm_is_part_of_an_appliance(err, REF_TEXT(self), REF_TEXT(v->appliance));
    case REFUSED_POLICY:
        return err_vm_assigned_to_protection_policy(err, REF_TEXT(self), REF_TEXT(v->protection_policy));
    case REFUSED_SCHEDULE:
        return err_vm_assigned_to_snapshot_schedule(err, REF_TEXT(self), REF_TEXT(v->snapshot_schedule));
    case REFUSED_VTPM:
        return err_vtpm_max_amount_reached(err, "1");
    }
    return 0;
}

int vm_operation_check(const struct vm_view *v, struct ref self, enum vm_operations op, struct api_err *err)
{
    return refuse(v, self, op, judge(v, op), err);
}

/* Takes away what a verdict came from, so that the same judge tells what else there is. False: that is not to
 * be told apart. */
static bool lift(struct vm_view *v, enum verdict verdict)
{
    switch (verdict) {
    case REFUSED_TEMPLATE:
        v->is_template = false;
        break;
    case REFUSED_SNAPSHOT:
        v->is_snapshot = false;
        break;
    case REFUSED_IMMOBILE:
        v->immobile = false;
        break;
    case REFUSED_FEATURE:
        v->features = VM_FEATURE_ALL;
        break;
    case REFUSED_ON_BOOT:
        v->resets_disks = v->caches_reset = false;
        break;
    case REFUSED_PCI:
        v->has_pci = false;
        break;
    case REFUSED_VGPU:
        v->has_vgpu = false;
        break;
    case REFUSED_VUSB:
        v->has_vusb = false;
        break;
    case REFUSED_APPLIANCE:
        v->appliance = REF_NULL;
        break;
    case REFUSED_POLICY:
        v->protection_policy = REF_NULL;
        break;
    default:
        return false;
    }
    return true;
}

void vm_operation_refusals(const struct vm_view *v, struct ref self, enum vm_operations op,
                           const struct refusals *all)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(judges); i++) {
        struct vm_view left = *v;
        enum verdict verdict;
        if (judges[i] == judge_others) {
            for (size_t k = 0; v->current && k < v->current->count; k++)
                if (is_in_the_way(op, &v->current->pairs[k]))
                    refused(all, busy(self, &v->current->pairs[k], &err), &err);
            continue;
        }
        do {
            verdict = judges[i](&left, op);
            refused(all, refuse(v, self, op, verdict, &err), &err);
        } while (lift(&left, verdict));
    }
}

unsigned vm_operation_states(enum vm_operations op)
{
    return states_of[op];
}

uint64_t vm_operations_allowed(const struct vm_view *v)
{
    uint64_t allowed = 0;
    for (size_t op = 0; op < OPERATION_COUNT; op++)
        if (!(never_listed >> op & 1) && judge(v, (enum vm_operations)op) == ALLOWED)
            allowed |= (uint64_t)1 << op;
    return allowed;
}
