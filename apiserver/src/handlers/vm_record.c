#include "vm_record.h"

#include <base/json.h>
#include <base/mem.h>

const char *vm_record_text(const struct vm_row *vm)
{
    /* Without the records inside, which would double with each snapshot of a snapshot. */
    struct row *plain = row_copy(&vm->row);
    str_assign(&vm_row_mut(plain)->last_booted_record, "");
    str_assign(&vm_row_mut(plain)->snapshot_metadata, "");
    const struct fragment *json = row_json(plain);
    const char *text = str_new_len(json->text, json->len);
    row_unref(plain);
    return text;
}

struct row *vm_record_read(const char *text)
{
    struct json_error error;
    AUTO_JSON json_t *json = json_parse(text, strlen(text), &error);
    char why[CELL_ERROR_SIZE];
    if (!json_is_object(json))
        return NULL;
    struct row *row = row_new(CLASS_VM, REF_NULL);
    for (size_t i = 0; i < CLASS_VM->field_count; i++) {
        const struct field_desc *field = &CLASS_VM->fields[i];
        const json_t *value = json_object_get(json, field->name);
        char cell[sizeof(union cell)] __attribute__((aligned(8)));
        if (!value || field->flags & FIELD_INTERNAL ||
            !cell_read_json(field->type, value, (union cell *)(void *)cell, why))
            continue; /* a field of another version of this server keeps its initial value */
        cell_done(field->type, row_cell_mut(row, field));
        cell_copy(field->type, row_cell_mut(row, field), (union cell *)(void *)cell);
        cell_done(field->type, (union cell *)(void *)cell);
    }
    return row;
}

static void take(struct row *to, const struct row *from, const struct field_desc *field)
{
    cell_done(field->type, row_cell_mut(to, field));
    cell_copy(field->type, row_cell_mut(to, field), row_cell(from, field));
}

void row_take_fields(struct row *to, const struct row *from)
{
    for (size_t i = 0; i < to->cls->field_count; i++) {
        const struct field_desc *field = &to->cls->fields[i];
        if (!(field->flags & FIELD_DERIVED) && field != to->cls->uuid)
            take(to, from, field);
    }
}

void vm_record_take_settings(struct vm_row *to, const struct vm_row *from)
{
    static const char *const settings[] = {
        "name_label",
        "name_description",
        "user_version",
        "affinity",
        "memory_overhead",
        "memory_target",
        "memory_static_max",
        "memory_dynamic_max",
        "memory_dynamic_min",
        "memory_static_min",
        "VCPUs_params",
        "VCPUs_max",
        "VCPUs_at_startup",
        "actions_after_softreboot",
        "actions_after_shutdown",
        "actions_after_reboot",
        "actions_after_crash",
        "PV_bootloader",
        "PV_kernel",
        "PV_ramdisk",
        "PV_args",
        "PV_bootloader_args",
        "PV_legacy_args",
        "HVM_boot_policy",
        "HVM_boot_params",
        "HVM_shadow_multiplier",
        "platform",
        "PCI_bus",
        "other_config",
        "last_boot_CPU_flags",
        "recommendations",
        "xenstore_data",
        "tags",
        "bios_strings",
        "start_delay",
        "shutdown_delay",
        "order",
        "suspend_SR",
        "version",
        "hardware_platform_version",
        "has_vendor_device",
        "reference_label",
        "domain_type",
        "NVRAM",
    };
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        take(&to->row, &from->row, field_find(CLASS_VM, settings[i]));
}

struct row *vm_record_as_booted(const struct vm_row *vm)
{
    static const char *const fixed[] = {
        "memory_static_max", "memory_dynamic_max", "memory_dynamic_min", "memory_static_min", "VCPUs_max",
        "VCPUs_at_startup",  "PV_bootloader",      "PV_kernel",          "PV_ramdisk",        "PV_args",
        "HVM_boot_policy",   "HVM_boot_params",    "platform",           "domain_type"};
    struct row *row = row_copy(&vm->row);
    struct row *booted = vm_record_read(vm->last_booted_record);
    for (size_t i = 0; booted && i < ARRAY_LEN(fixed); i++)
        take(row, booted, field_find(CLASS_VM, fixed[i]));
    if (booted)
        row_unref(booted);
    return row;
}
