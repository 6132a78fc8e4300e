/* Reasons are errors of the API with a sentence of what would change them: all that hold are listed. */
#include "why.h"

#include "../rules/operations.h"
#include "../rules/vm.h"
#include "../server.h"
#include "park.h"
#include "task.h"
#include <base/buf.h>
#include <base/mem.h>
#include <db/store.h>
#include <model/errors.h>

/* ---- what would change it ---- */

/* Operations that take a VM to another power state. */
static const struct {
    enum vm_operations operation;
    enum vm_power_state to;
} ways[] = {
    {VM_OPERATIONS_START, VM_POWER_STATE_RUNNING},
    {VM_OPERATIONS_UNPAUSE, VM_POWER_STATE_RUNNING},
    {VM_OPERATIONS_RESUME, VM_POWER_STATE_RUNNING},
    {VM_OPERATIONS_PAUSE, VM_POWER_STATE_PAUSED},
    {VM_OPERATIONS_SUSPEND, VM_POWER_STATE_SUSPENDED},
    {VM_OPERATIONS_CLEAN_SHUTDOWN, VM_POWER_STATE_HALTED},
    {VM_OPERATIONS_HARD_SHUTDOWN, VM_POWER_STATE_HALTED},
};

/* "It would be allowed after clean_shutdown or hard_shutdown." */
static char *change_of_state(const struct vm_view *view, struct ref self, enum vm_operations operation)
{
    AUTO_BUF struct buf b = BUF_INIT;
    unsigned states = vm_operation_states(operation);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        if (!(states >> ways[i].to & 1) || vm_operation_check(view, self, ways[i].operation, &ignored) < 0)
            continue;
        buf_printf(&b, "%s%s", b.len ? " or " : "It would be allowed after ",
                   model_enum_vm_operations.values[ways[i].operation]);
    }
    if (!b.len)
        return xstrdup("No operation that is allowed now leads there.");
    buf_add_char(&b, '.');
    return buf_take(&b);
}

static const struct {
    const char *code, *change;
} changes[] = {
    {"OPERATION_BLOCKED", "Remove the operation from the object's blocked_operations."},
    {"OTHER_OPERATION_IN_PROGRESS", "Wait for the task that is in the way, or cancel it."},
    {"VM_IS_TEMPLATE", "Make a VM from the template (clone), and do it there."},
    {"VM_IS_SNAPSHOT", "Make a VM from the snapshot (clone), or revert the VM to it, and do it there."},
    {"PROVISION_ONLY_ALLOWED_ON_TEMPLATE", "Clone a template; what is cloned can be provisioned."},
    {"REVERT_ONLY_ALLOWED_ON_SNAPSHOT", "Name a snapshot of the VM."},
    {"VM_IS_IMMOBILE", "Remove nomigrate and nested-virt from the VM's platform, and start it anew."},
    {"OPERATION_NOT_ALLOWED", "Nothing: the host's own system is not managed like a VM."},
    {"VM_LACKS_FEATURE", "Install the guest tools, or use the operation's hard form."},
    {"VDI_ON_BOOT_MODE_INCOMPATIBLE_WITH_OPERATION", "Set on-boot=persist on the VM's disks."},
    {"VM_HAS_PCI_ATTACHED", "Shut the VM down and take the PCI device away."},
    {"VM_HAS_VGPU", "Shut the VM down and take the virtual GPU away."},
    {"VM_HAS_VUSBS", "Unplug the USB devices of the VM."},
    {"VM_IS_PART_OF_AN_APPLIANCE", "Take the VM out of its appliance."},
    {"VM_ASSIGNED_TO_PROTECTION_POLICY", "Take the VM out of its protection policy."},
    {"VM_ASSIGNED_TO_SNAPSHOT_SCHEDULE", "Take the VM out of its snapshot schedule."},
    {"VTPM_MAX_AMOUNT_REACHED", "Remove the VTPM that the VM has."},
    {"VM_BAD_POWER_STATE", "Bring the VM to one of the power states that are expected."},
    {"DEVICE_ALREADY_ATTACHED", "Unplug the device first."},
    {"DEVICE_ALREADY_DETACHED", "Plug the device first."},
    {"VDI_IN_USE", "Unplug the disk from the VM that uses it, or shut that VM down."},
    {"SR_HAS_PBD", "Unplug the PBDs of the SR on all hosts."},
    {"SR_NO_PBDS", "Plug a PBD of the SR on a host."},
    {"SR_NOT_ATTACHED", "Plug a PBD of the SR on a host."},
    {"HOST_NOT_ENOUGH_FREE_MEMORY", "Shut VMs down, lower memory_dynamic_min of some, or use another host."},
    {"HOST_DISABLED", "Enable the host."},
    {"HOST_OFFLINE", "Bring the host and its agent up."},
    {"HOST_NOT_LIVE", "Bring the host and its agent up."},
    {"NO_HOSTS_AVAILABLE", "Ask VM.assert_can_boot_here for each host: it tells what keeps the VM off it."},
    {"TASK_CANCELLED", "Somebody cancelled it: run it again."},
    {"RBAC_PERMISSION_DENIED", "Ask an administrator of the pool for the role that it names."},
    {"SR_FULL", "Remove disks or snapshots from the SR, or use another SR."},
};

static const char *change_of(const char *code)
{
    for (size_t i = 0; i < ARRAY_LEN(changes); i++)
        if (streq(changes[i].code, code))
            return changes[i].change;
    return "";
}

static json_t *reason(const struct api_err *err, const char *change)
{
    json_t *params = json_array();
    const struct error_desc *desc = err->desc ? err->desc : error_find(err->code);
    for (size_t i = 0; i < err->param_count; i++)
        json_array_append_new(params, json_string(err->params[i]));
    return json_pack("{s:s, s:o, s:s, s:s}", "code", err->code, "params", params, "message",
                     desc && desc->doc ? desc->doc : "", "change", change);
}

json_t *why_reason(const struct api_err *err)
{
    return reason(err, change_of(err->code));
}

/* ---- objects ---- */

static const struct row *find(struct tx *tx, const struct class_desc *cls, const char *object)
{
    struct ref ref;
    return ref_parse(object, &ref) ? tx_get(tx, cls, ref) : cls->uuid ? tx_by_uuid(tx, cls, object) : NULL;
}

static const char *text_of(const struct row *row, const struct field_desc *field)
{
    return field ? row_cell(row, field)->str : "";
}

struct reasons {
    struct tx *tx;
    const struct row *row;
    int operation;
    json_t *list;
};

static void add_reason(void *arg, const struct api_err *err)
{
    const struct reasons *r = arg;
    AUTO_FREE char *state = NULL;
    if (r->row->cls == CLASS_VM && streq(err->code, "VM_BAD_POWER_STATE")) {
        struct vm_view view = vm_view_of(r->tx, vm_row(r->row));
        state = change_of_state(&view, r->row->ref, (enum vm_operations)r->operation);
    }
    json_array_append_new(r->list, reason(err, state ? state : change_of(err->code)));
}

json_t *why_reasons(struct tx *tx, const struct row *row, int operation)
{
    struct reasons reasons = {tx, row, operation, json_array()};
    operation_refusals(tx, row, operation, &(struct refusals){add_reason, &reasons});
    return reasons.list;
}

json_t *why_operation(struct server *server, const char *cls_name, const char *object, const char *operation,
                      struct api_err *err)
{
    const struct class_desc *cls = class_find(cls_name);
    json_t *answer = NULL;
    if (!cls || !cls->row_size || !cls->uuid || !field_find(cls, "current_operations") ||
        !field_find(cls, "allowed_operations")) {
        err_invalid_value(err, "class", cls_name);
        return NULL;
    }
    int number = operation_find(cls, operation);
    if (number < 0) {
        err_invalid_value(err, "operation", operation);
        return NULL;
    }
    struct tx *tx = store_begin(server->store);
    const struct row *row = find(tx, cls, object);
    if (row) {
        json_t *reasons = why_reasons(tx, row, number);
        answer = json_pack("{s:s, s:s, s:s, s:s, s:b, s:o}", "class", cls->name, "uuid",
                           text_of(row, cls->uuid), "name", text_of(row, cls->name_label), "operation",
                           operation, "allowed", json_array_size(reasons) == 0, "reasons", reasons);
    } else {
        err_handle_invalid(err, cls->name, object);
    }
    tx_abort(tx);
    return answer;
}

/* ---- tasks ---- */

/* The error that the task ended with, as a reason. */
static json_t *failure(const struct task_row *task)
{
    const struct str_set *words = task->error_info;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (!words || !words->count)
        return json_array();
    size_t count = words->count - 1 < API_ERR_MAX_PARAMS ? words->count - 1 : API_ERR_MAX_PARAMS;
    api_err_set_code(&err, words->items[0], words->items + 1, count);
    err.desc = error_find(words->items[0]);
    return json_pack("[o]", reason(&err, change_of(words->items[0])));
}

/* What is in the way of a call that waits: each operation on the object with its task. */
static json_t *obstacles(const struct row *row)
{
    const struct field_desc *field = field_find(row->cls, "current_operations");
    const struct str_map *current = field ? row_cell(row, field)->str_map : NULL;
    json_t *reasons = json_array();
    for (size_t i = 0; current && i < current->count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        err_other_operation_in_progress(&err, row->cls->name, REF_TEXT(row->ref), current->pairs[i].value,
                                        current->pairs[i].key);
        json_array_append_new(reasons, reason(&err, change_of(err.code)));
    }
    return reasons;
}

json_t *why_task(struct server *server, const char *name, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct row *found = find(tx, CLASS_task, name);
    const struct class_desc *cls;
    struct ref object;
    json_t *answer = NULL;
    if (found) {
        const struct task_row *task = task_row(found);
        bool waits = task_is_pending(task) && parking_find(server->parking, found->ref, &cls, &object);
        const struct row *obstacle = waits ? tx_get(tx, cls, object) : NULL;
        json_t *waits_for =
            obstacle ? json_pack("{s:s, s:s, s:s}", "class", cls->name, "uuid", text_of(obstacle, cls->uuid),
                                 "name", text_of(obstacle, cls->name_label))
                     : json_null();
        answer = json_pack("{s:s, s:s, s:s, s:f, s:o, s:o}", "uuid", text_of(found, CLASS_task->uuid), "name",
                           task->name_label, "status", model_enum_task_status_type.values[task->status],
                           "progress", task->progress, "reasons",
                           obstacle ? obstacles(obstacle) : failure(task), "waits_for", waits_for);
    } else {
        err_handle_invalid(err, "task", name);
    }
    tx_abort(tx);
    return answer;
}
