/* Marks are entries of current_operations: task -> name of the operation. */
#include "operations.h"

#include "../gate/task.h"
#include "../server.h"
#include "device.h"
#include "vm.h"
#include <base/mem.h>
#include <model/errors.h>

static const struct field_desc *current_field(const struct class_desc *cls)
{
    return field_find(cls, "current_operations");
}

static const struct enum_desc *operation_enum(const struct class_desc *cls)
{
    return current_field(cls)->type->item->en;
}

const char *operation_name(const struct class_desc *cls, int operation)
{
    return operation_enum(cls)->values[operation];
}

int operation_find(const struct class_desc *cls, const char *name)
{
    return current_field(cls) ? enum_find(operation_enum(cls), name) : -1;
}

int operation_check(struct tx *tx, const struct class_desc *cls, struct ref object, int operation,
                    struct api_err *err)
{
    const struct row *row = tx_get(tx, cls, object);
    if (!row)
        return fail_handle(err, cls, object);
    if (cls == CLASS_VM) {
        struct vm_view view = vm_view_of(tx, vm_row(row));
        return vm_operation_check(&view, object, (enum vm_operations)operation, err);
    }
    return device_operation_check(tx, row, operation, err);
}

void operation_refusals(struct tx *tx, const struct row *row, int operation, const struct refusals *all)
{
    if (row->cls == CLASS_VM) {
        struct vm_view view = vm_view_of(tx, vm_row(row));
        vm_operation_refusals(&view, row->ref, (enum vm_operations)operation, all);
    } else {
        device_operation_refusals(tx, row, operation, all);
    }
}

void operation_mark(struct tx *tx, const struct class_desc *cls, struct ref object, struct ref task,
                    int operation)
{
    struct row *row = tx_edit(tx, cls, object);
    str_map_put(&row_cell_mut(row, current_field(cls))->str_map, REF_TEXT(task),
                operation_enum(cls)->values[operation]);
}

void operation_unmark(struct tx *tx, const struct class_desc *cls, struct ref object, struct ref task)
{
    const struct row *now = tx_get(tx, cls, object);
    if (!now || !str_map_get(row_cell(now, current_field(cls))->str_map, REF_TEXT(task)))
        return;
    str_map_del(&row_cell_mut(tx_edit(tx, cls, object), current_field(cls))->str_map, REF_TEXT(task));
}

static bool outranked(int operation)
{
    switch ((enum vm_operations)operation) {
    case VM_OPERATIONS_CLEAN_SHUTDOWN:
    case VM_OPERATIONS_CLEAN_REBOOT:
    case VM_OPERATIONS_HARD_REBOOT:
    case VM_OPERATIONS_POOL_MIGRATE:
    case VM_OPERATIONS_CALL_PLUGIN:
    case VM_OPERATIONS_SHUTDOWN:
    case VM_OPERATIONS_SUSPEND:
        return true;
    default:
        return false;
    }
}

static const struct str_map *outranked_by(const struct snapshot *snap, const struct class_desc *cls,
                                          struct ref object, int operation)
{
    if (cls != CLASS_VM || operation != VM_OPERATIONS_HARD_SHUTDOWN)
        return NULL;
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, object));
    return vm ? vm->current_operations : NULL;
}

static bool is_outranked(const struct str_pair *pair)
{
    int operation = enum_find(&model_enum_vm_operations, pair->value);
    return operation >= 0 && outranked(operation);
}

bool operation_overrules(const struct snapshot *snap, const struct class_desc *cls, struct ref object,
                         int operation)
{
    const struct str_map *current = outranked_by(snap, cls, object, operation);
    for (size_t i = 0; current && i < current->count; i++)
        if (is_outranked(&current->pairs[i]))
            return true;
    return false;
}

void operation_interrupt(struct server *server, const struct class_desc *cls, struct ref object,
                         int operation)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct str_map *current = outranked_by(snap, cls, object, operation);
    for (size_t i = 0; current && i < current->count; i++) {
        struct ref task;
        if (is_outranked(&current->pairs[i]) && ref_parse(current->pairs[i].key, &task))
            task_cancel(server, task);
    }
}

/* What an SR offers through messages of its disks and links. */
static uint64_t sr_operations_by_others(void)
{
    static const struct {
        enum storage_operations operation;
        const char *message;
    } table[] = {
        {STORAGE_OPERATIONS_VDI_CREATE, "VDI.create"},
        {STORAGE_OPERATIONS_VDI_INTRODUCE, "VDI.introduce"},
        {STORAGE_OPERATIONS_VDI_DESTROY, "VDI.destroy"},
        {STORAGE_OPERATIONS_VDI_RESIZE, "VDI.resize"},
        {STORAGE_OPERATIONS_VDI_CLONE, "VDI.clone"},
        {STORAGE_OPERATIONS_VDI_SNAPSHOT, "VDI.snapshot"},
        {STORAGE_OPERATIONS_VDI_ENABLE_CBT, "VDI.enable_cbt"},
        {STORAGE_OPERATIONS_VDI_DISABLE_CBT, "VDI.disable_cbt"},
        {STORAGE_OPERATIONS_VDI_DATA_DESTROY, "VDI.data_destroy"},
        {STORAGE_OPERATIONS_VDI_LIST_CHANGED_BLOCKS, "VDI.list_changed_blocks"},
        {STORAGE_OPERATIONS_PLUG, "PBD.plug"},
        {STORAGE_OPERATIONS_UNPLUG, "PBD.unplug"},
        {STORAGE_OPERATIONS_PBD_CREATE, "PBD.create"},
        {STORAGE_OPERATIONS_PBD_DESTROY, "PBD.destroy"},
    };
    uint64_t operations = 0;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct method_desc *m = method_find(table[i].message, strlen(table[i].message));
        if (m && (m->flags & METHOD_HANDLER))
            operations |= (uint64_t)1 << table[i].operation;
    }
    return operations;
}

/* Operations that some message of this server performs: others are never offered. */
static uint64_t built_operations(const struct class_desc *cls)
{
    static _Atomic uint64_t cache[256];
    uint64_t built = atomic_load_explicit(&cache[cls->index], memory_order_relaxed);
    if (built)
        return built;
    built = (uint64_t)1 << 63; /* computed */
    for (size_t i = 0; i < model_method_count; i++) {
        const struct method_desc *m = &model_methods[i];
        if (m->operation_param >= 0 && (m->flags & METHOD_HANDLER) &&
            m->params[m->operation_param].type->cls == cls)
            built |= (uint64_t)1 << m->operation;
    }
    if (cls == CLASS_SR)
        built |= sr_operations_by_others();
    if (cls == CLASS_VM) /* done by doors, and by set_is_a_template, which works both ways */
        built |= (uint64_t)1 << VM_OPERATIONS_EXPORT | (uint64_t)1 << VM_OPERATIONS_METADATA_EXPORT |
                 (uint64_t)1 << VM_OPERATIONS_MAKE_INTO_TEMPLATE;
    if (cls == CLASS_VM) /* its handler can only say why not */
        built &= ~((uint64_t)1 << VM_OPERATIONS_SYSPREP);
    if (cls == CLASS_VBD) /* done by VM.start */
        built |= (uint64_t)1 << VBD_OPERATIONS_ATTACH;
    if (cls == CLASS_VIF)
        built |= (uint64_t)1 << VIF_OPERATIONS_ATTACH;
    if (cls == CLASS_VUSB)
        built |= (uint64_t)1 << VUSB_OPERATIONS_ATTACH;
    if (cls == CLASS_host) /* done by the VMs that come */
        built |= (uint64_t)1 << HOST_ALLOWED_OPERATIONS_PROVISION |
                 (uint64_t)1 << HOST_ALLOWED_OPERATIONS_VM_START |
                 (uint64_t)1 << HOST_ALLOWED_OPERATIONS_VM_RESUME;
    atomic_store_explicit(&cache[cls->index], built, memory_order_relaxed);
    return built;
}

static uint64_t allowed_now(struct tx *tx, const struct row *row)
{
    uint64_t allowed;
    if (row->cls == CLASS_VM) {
        struct vm_view view = vm_view_of(tx, vm_row(row));
        allowed = vm_operations_allowed(&view);
    } else {
        allowed = device_operations_allowed(tx, row, built_operations(row->cls));
    }
    return allowed & built_operations(row->cls);
}

void operations_settle(struct tx *tx, struct row *row, void *arg)
{
    (void)arg;
    if (row->cls != CLASS_task)
        row_cell_mut(row, field_find(row->cls, "allowed_operations"))->enum_set = allowed_now(tx, row);
}

void operations_refresh(struct tx *tx, const struct class_desc *cls, struct ref object)
{
    const struct field_desc *field = field_find(cls, "allowed_operations");
    const struct row *row = tx_get(tx, cls, object);
    if (!field || !row || cls == CLASS_task)
        return;
    uint64_t allowed = allowed_now(tx, row);
    if (row_cell(row, field)->enum_set != allowed)
        row_cell_mut(tx_edit(tx, cls, object), field)->enum_set = allowed;
}

static void refresh_all(struct tx *tx, const struct class_desc *cls, const struct ref_set *refs)
{
    for (size_t i = 0; refs && i < refs->count; i++)
        operations_refresh(tx, cls, refs->items[i]);
}

/* The drives of a disk, and the VMs that they belong to. */
static void refresh_users(struct tx *tx, const struct vdi_row *vdi)
{
    for (size_t i = 0; vdi && vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        operations_refresh(tx, CLASS_VBD, vdi->VBDs->items[i]);
        if (vbd)
            operations_refresh(tx, CLASS_VM, vbd->VM);
    }
}

void operations_refresh_touched(struct tx *tx, const struct class_desc *cls, struct ref ref, void *arg)
{
    (void)arg;
    const struct row *row = tx_get(tx, cls, ref);
    operations_refresh(tx, cls, ref);
    if (cls == CLASS_VM) {
        for (size_t i = 0; vm_row(row)->VBDs && i < vm_row(row)->VBDs->count; i++) {
            const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vm_row(row)->VBDs->items[i]));
            operations_refresh(tx, CLASS_VBD, vm_row(row)->VBDs->items[i]);
            if (vbd && !ref_is_null(vbd->VDI))
                operations_refresh(tx, CLASS_VDI, vbd->VDI);
        }
        refresh_all(tx, CLASS_VIF, vm_row(row)->VIFs);
        refresh_all(tx, CLASS_VUSB, vm_row(row)->VUSBs);
        if (!ref_is_null(vm_row(row)->appliance))
            operations_refresh(tx, CLASS_VM_appliance, vm_row(row)->appliance);
    } else if (cls == CLASS_VBD) {
        operations_refresh(tx, CLASS_VM, vbd_row(row)->VM);
        operations_refresh(tx, CLASS_VDI, vbd_row(row)->VDI);
        refresh_users(tx, vdi_row(tx_get(tx, CLASS_VDI, vbd_row(row)->VDI)));
    } else if (cls == CLASS_PBD) {
        struct ref sr = pbd_row(row)->SR;
        const struct row *sr_now = tx_get(tx, CLASS_SR, sr);
        operations_refresh(tx, CLASS_SR, sr);
        if (sr_now)
            refresh_all(tx, CLASS_VDI, sr_row(sr_now)->VDIs);
    } else if (cls == CLASS_VDI) {
        operations_refresh(tx, CLASS_SR, vdi_row(row)->SR);
        refresh_users(tx, vdi_row(row));
    }
}
