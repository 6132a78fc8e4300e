/* What a VM allows: every operation, for every kind of VM, in every power state, with every other operation
 * running, compared with the facts in vm_operations.txt; and in which order refusals come. */
#include "told.h"

#include <base/mem.h>
#include <criterion/criterion.h>
#include <model/errors.h>
#include <rules/vm.h>
#include <stdio.h>

enum kind { KIND_VM, KIND_TEMPLATE, KIND_DEFAULT_TEMPLATE, KIND_SNAPSHOT, KIND_CONTROL, KIND_COUNT };
static const char *const kind_names[] = {"vm", "template", "default-template", "snapshot", "control"};

static struct vm_view view_of(enum kind kind, enum vm_power_state state)
{
    return (struct vm_view){
        .power_state = state,
        .is_template = kind == KIND_TEMPLATE || kind == KIND_DEFAULT_TEMPLATE || kind == KIND_SNAPSHOT,
        .is_default_template = kind == KIND_DEFAULT_TEMPLATE,
        .is_snapshot = kind == KIND_SNAPSHOT,
        .is_control_domain = kind == KIND_CONTROL,
        .features = VM_FEATURE_ALL,
    };
}

/* ---- the facts ---- */

#define WORDS_MAX 64
struct fact {
    char name[80]; /* "state start", "allowed vm Halted" */
    char *words[WORDS_MAX];
    size_t count;
};
static struct fact *facts;
static size_t fact_count;

static void read_facts(void)
{
    FILE *file = fopen(TEST_DATA "/vm_operations.txt", "r");
    char line[4096];
    cr_assert_not_null(file);
    while (fgets(line, sizeof(line), file)) {
        char *colon = strchr(line, ':'), *save = NULL;
        if (line[0] == '#' || !colon)
            continue;
        *colon = '\0';
        facts = xreallocarray(facts, fact_count + 1, sizeof(*facts));
        struct fact *fact = &facts[fact_count++];
        fact->count = 0;
        snprintf(fact->name, sizeof(fact->name), "%.79s", line);
        for (char *w = strtok_r(colon + 1, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
            fact->words[fact->count++] = xstrdup(w);
    }
    fclose(file);
}

static void free_facts(void)
{
    for (size_t i = 0; i < fact_count; i++)
        for (size_t k = 0; k < facts[i].count; k++)
            free(facts[i].words[k]);
    free(facts);
}

TestSuite(rules_vm, .init = read_facts, .fini = free_facts);

static const struct fact *fact_of(const char *what, const char *name)
{
    AUTO_FREE char *wanted = *name ? xasprintf("%s %s", what, name) : xstrdup(what);
    for (size_t i = 0; i < fact_count; i++)
        if (streq(facts[i].name, wanted))
            return &facts[i];
    return NULL;
}

static bool says(const struct fact *fact, const char *word)
{
    for (size_t i = 0; fact && i < fact->count; i++)
        if (streq(fact->words[i], word))
            return true;
    return false;
}

#define FOR_OPERATIONS(op) for (int op = 0; op < model_enum_vm_operations.count; op++)
#define FOR_STATES(state) for (int state = 0; state < model_enum_vm_power_state.count; state++)
#define OP_NAME(op) (model_enum_vm_operations.values[op])
#define STATE_NAME(state) (model_enum_vm_power_state.values[state])

static const struct ref self = {1, 2};

static const char *refusal(const struct vm_view *view, enum vm_operations op, struct api_err *err)
{
    struct told told = TOLD_INIT;
    api_err_done(err);
    int rc = vm_operation_check(view, self, op, err);
    vm_operation_refusals(view, self, op, &(struct refusals){told_add, &told});
    told_agrees(&told, rc, err);
    return rc == 0 ? "" : err->code;
}

Test(rules_vm, every_kind_in_every_state)
{
    for (int kind = 0; kind < KIND_COUNT; kind++)
        FOR_STATES(state)
        {
            AUTO_FREE char *name = xasprintf("%s %s", kind_names[kind], STATE_NAME(state));
            const struct fact *fact = fact_of("allowed", name);
            struct vm_view view = view_of((enum kind)kind, (enum vm_power_state)state);
            uint64_t allowed = vm_operations_allowed(&view);
            cr_assert_not_null(fact, "%s", name);
            FOR_OPERATIONS(op)
            cr_expect_eq((allowed >> op & 1) != 0, says(fact, OP_NAME(op)), "%s: %s is %s", name, OP_NAME(op),
                         allowed >> op & 1 ? "allowed" : "refused");
        }
}

Test(rules_vm, what_is_listed_may_begin_and_what_is_not_hidden_is_listed)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct fact *hidden = fact_of("hidden", "");
    for (int kind = 0; kind < KIND_COUNT; kind++)
        FOR_STATES(state)
    FOR_OPERATIONS(op)
    {
        struct vm_view view = view_of((enum kind)kind, (enum vm_power_state)state);
        bool listed = vm_operations_allowed(&view) >> op & 1;
        bool may = *refusal(&view, (enum vm_operations)op, &err) == '\0';
        bool never = says(hidden, OP_NAME(op)) || op == VM_OPERATIONS_SNAPSHOT_WITH_QUIESCE;
        cr_expect_eq(listed, may && !never, "%s %s %s", kind_names[kind], STATE_NAME(state), OP_NAME(op));
    }
}

/* The state that an operation needs is told, with all that would do, before anything else is looked at. */
Test(rules_vm, states)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    FOR_OPERATIONS(op)
    FOR_STATES(state)
    {
        const struct fact *fact = fact_of("state", OP_NAME(op));
        struct vm_view view = view_of(KIND_VM, (enum vm_power_state)state);
        const char *code = refusal(&view, (enum vm_operations)op, &err);
        cr_assert_not_null(fact, "%s", OP_NAME(op));
        cr_expect_eq(streq(code, "VM_BAD_POWER_STATE"), !says(fact, STATE_NAME(state)), "%s while %s: %s",
                     OP_NAME(op), STATE_NAME(state), code);
    }
}

static bool goes_beside(const char *op, const char *running)
{
    const struct fact *fact = fact_of("beside", op);
    return says(fact, "*") ? !says(fact, running) : says(fact, running);
}

Test(rules_vm, every_operation_while_every_other_runs)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    FOR_OPERATIONS(op)
    FOR_OPERATIONS(running)
    FOR_STATES(state)
    {
        const struct str_pair pair = {"OpaqueRef:t", OP_NAME(running)};
        AUTO_STR_MAP const struct str_map *current = str_map_new(&pair, 1);
        struct vm_view view = view_of(KIND_VM, (enum vm_power_state)state);
        if (streq(refusal(&view, (enum vm_operations)op, &err), "VM_BAD_POWER_STATE"))
            continue;
        view.current = current;
        bool busy = streq(refusal(&view, (enum vm_operations)op, &err), "OTHER_OPERATION_IN_PROGRESS");
        cr_expect_eq(busy, !goes_beside(OP_NAME(op), OP_NAME(running)), "%s while %s", OP_NAME(op),
                     OP_NAME(running));
    }
}

/* Each single feature, for each operation: without any of those that it needs it is refused. */
Test(rules_vm, guest_features)
{
    static const struct {
        const char *word;
        unsigned feature;
    } features[] = {{"suspend", VM_FEATURE_SUSPEND},
                    {"shutdown", VM_FEATURE_SHUTDOWN},
                    {"poweroff", VM_FEATURE_POWEROFF},
                    {"reboot", VM_FEATURE_REBOOT},
                    {"vcpu-hotplug", VM_FEATURE_VCPU_HOTPLUG}};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    FOR_OPERATIONS(op)
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        const struct fact *fact = fact_of("needs", OP_NAME(op));
        struct vm_view view = view_of(KIND_VM, VM_POWER_STATE_RUNNING);
        bool may = *refusal(&view, (enum vm_operations)op, &err) == '\0';
        view.features = features[i].feature;
        bool lacks = streq(refusal(&view, (enum vm_operations)op, &err), "VM_LACKS_FEATURE");
        cr_expect_eq(lacks, may && fact && !says(fact, features[i].word), "%s with %s alone", OP_NAME(op),
                     features[i].word);
    }
}

/* What a VM has or belongs to rules out some operations, and those alone. */
Test(rules_vm, parts_and_groups)
{
    static const char *const reasons[] = {"VM_IS_IMMOBILE",
                                          "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION",
                                          "VM_HAS_PCI_ATTACHED",
                                          "VM_HAS_VGPU",
                                          "VM_HAS_VUSBS",
                                          "VM_IS_PART_OF_AN_APPLIANCE",
                                          "VM_ASSIGNED_TO_PROTECTION_POLICY",
                                          "VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE",
                                          "VTPM_MAX_AMOUNT_REACHED"};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        FOR_STATES(state)
    FOR_OPERATIONS(op)
    {
        struct vm_view view = view_of(KIND_VM, (enum vm_power_state)state);
        bool may = *refusal(&view, (enum vm_operations)op, &err) == '\0';
        view.immobile = i == 0;
        view.resets_disks = i == 1;
        view.has_pci = i == 2;
        view.has_vgpu = i == 3;
        view.has_vusb = i == 4;
        view.appliance = i == 5 ? self : REF_NULL;
        view.protection_policy = i == 6 ? self : REF_NULL;
        view.snapshot_schedule = i == 7 ? self : REF_NULL;
        view.vtpms = i == 8;
        const char *code = refusal(&view, (enum vm_operations)op, &err);
        const char *wanted = may && says(fact_of("refused", reasons[i]), OP_NAME(op)) ? reasons[i] : "";
        if (may)
            cr_expect_str_eq(code, wanted, "%s while %s", OP_NAME(op), STATE_NAME(state));
    }
    struct vm_view cached = view_of(KIND_VM, VM_POWER_STATE_RUNNING);
    cached.caches_reset = true;
    cr_expect_str_eq(refusal(&cached, VM_OPERATIONS_POOL_MIGRATE, &err),
                     "VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION");
}

Test(rules_vm, suspended_vms_are_cloned_when_the_pool_says_so)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct vm_view view = view_of(KIND_VM, VM_POWER_STATE_SUSPENDED);
    cr_expect_str_eq(refusal(&view, VM_OPERATIONS_CLONE, &err), "VM_BAD_POWER_STATE");
    view.allow_clone_suspended = true;
    cr_expect_str_eq(refusal(&view, VM_OPERATIONS_CLONE, &err), "");
    cr_expect_str_eq(refusal(&view, VM_OPERATIONS_COPY, &err), "");
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
