/* Small objects: groups of VMs, graphics processors and USB devices; secrets with a UUID of the client's
 * choice. */
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* ---- VM groups: both sides are sets, which the store does not keep in step by itself ---- */

static void set_groups(struct tx *tx, struct vm_row *vm, const struct ref_set *groups)
{
    struct ref ref = vm->row.ref;
    for (size_t i = 0; vm->groups && i < vm->groups->count; i++) {
        struct vm_group_row *old = vm_group_row_mut(tx_edit(tx, CLASS_VM_group, vm->groups->items[i]));
        if (old)
            ref_set_assign(&old->VMs, ref_set_without(old->VMs, ref));
    }
    for (size_t i = 0; groups && i < groups->count; i++) {
        struct vm_group_row *now = vm_group_row_mut(tx_edit(tx, CLASS_VM_group, groups->items[i]));
        ref_set_assign(&now->VMs, ref_set_with(now->VMs, ref));
    }
    ref_set_assign(&vm->groups, ref_set_ref(groups));
}

int handle_vm_set_groups(struct call *call, const struct vm_set_groups_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->self));
    int rc = vm ? 0 : fail_handle(err, CLASS_VM, args->self);
    if (rc == 0 && vm->is_control_domain)
        rc = err_operation_not_allowed(err, "The control domain is in no group.");
    if (rc == 0 && args->value && args->value->count > 1)
        rc = err_too_many_groups(err);
    for (size_t i = 0; rc == 0 && args->value && i < args->value->count; i++)
        if (!tx_get(tx, CLASS_VM_group, args->value->items[i]))
            rc = fail_handle(err, CLASS_VM_group, args->value->items[i]);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    set_groups(tx, vm_row_mut(tx_edit(tx, CLASS_VM, args->self)), args->value);
    return server_commit(tx, err);
}

/* What a VM offers to the host's other programs: nothing does, here. */
int handle_vm_query_services(struct call *call, const struct vm_query_services_args *args,
                             const struct str_map **result, struct api_err *err)
{
    *result = NULL;
    return snapshot_get(call->snapshot, CLASS_VM, args->self) ? 0 : fail_handle(err, CLASS_VM, args->self);
}

int handle_vm_retrieve_wlb_recommendations(struct call *call,
                                           const struct vm_retrieve_wlb_recommendations_args *args,
                                           json_t **result, struct api_err *err)
{
    (void)result;
    return snapshot_get(call->snapshot, CLASS_VM, args->vm) ? err_wlb_not_initialized(err)
                                                            : fail_handle(err, CLASS_VM, args->vm);
}

/* ---- graphics processors ---- */

int handle_gpu_group_create(struct call *call, const struct gpu_group_create_args *args, struct ref *result,
                            struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct gpu_group_row *group = gpu_group_row_mut(tx_create(tx, CLASS_GPU_group));
    str_assign(&group->name_label, args->name_label);
    str_assign(&group->name_description, args->name_description);
    str_map_assign(&group->other_config, str_map_ref(args->other_config));
    *result = group->row.ref;
    return server_commit(tx, err);
}

/* "a;b", as such errors name several. */
static const char *join(const struct ref_set *refs)
{
    const char *text = str_new("");
    for (size_t i = 0; i < refs->count; i++) {
        const char *more = str_newf("%s%s%s", text, i ? ";" : "", REF_TEXT(refs->items[i]));
        str_unref(text);
        text = more;
    }
    return text;
}

int handle_gpu_group_destroy(struct call *call, const struct gpu_group_destroy_args *args,
                             struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct gpu_group_row *group = gpu_group_row(tx_get(tx, CLASS_GPU_group, args->self));
    int rc = group ? 0 : fail_handle(err, CLASS_GPU_group, args->self);
    if (group && group->PGPUs && group->PGPUs->count) {
        AUTO_STR const char *refs = join(group->PGPUs);
        rc = err_gpu_group_contains_pgpu(err, refs);
    } else if (group && group->VGPUs && group->VGPUs->count) {
        AUTO_STR const char *refs = join(group->VGPUs);
        rc = err_gpu_group_contains_vgpu(err, refs);
    }
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    tx_delete(tx, CLASS_GPU_group, args->self);
    return server_commit(tx, err);
}

/* ---- USB devices ---- */

int handle_usb_group_create(struct call *call, const struct usb_group_create_args *args, struct ref *result,
                            struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct usb_group_row *group = usb_group_row_mut(tx_create(tx, CLASS_USB_group));
    str_assign(&group->name_label, args->name_label);
    str_assign(&group->name_description, args->name_description);
    str_map_assign(&group->other_config, str_map_ref(args->other_config));
    *result = group->row.ref;
    return server_commit(tx, err);
}

int handle_usb_group_destroy(struct call *call, const struct usb_group_destroy_args *args,
                             struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct usb_group_row *group = usb_group_row(tx_get(tx, CLASS_USB_group, args->self));
    int rc = group ? 0 : fail_handle(err, CLASS_USB_group, args->self);
    if (group && group->PUSBs && group->PUSBs->count) {
        AUTO_STR const char *refs = join(group->PUSBs);
        rc = err_usb_group_contains_pusb(err, refs);
    } else if (group && group->VUSBs && group->VUSBs->count) {
        AUTO_STR const char *refs = join(group->VUSBs);
        rc = err_usb_group_contains_vusb(err, refs);
    }
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    tx_delete(tx, CLASS_USB_group, args->self);
    return server_commit(tx, err);
}

/* ---- secrets ---- */

int handle_secret_introduce(struct call *call, const struct secret_introduce_args *args, struct ref *result,
                            struct api_err *err)
{
    struct ref parsed;
    if (!uuid_parse(args->uuid, &parsed))
        return err_uuid_invalid(err, "secret", args->uuid);
    struct tx *tx = store_begin(call->server->store);
    if (tx_by_uuid(tx, CLASS_secret, args->uuid)) {
        tx_abort(tx);
        return err_db_uniqueness_constraint_violation(err, "secret", "uuid", args->uuid);
    }
    struct secret_row *secret = secret_row_mut(tx_create(tx, CLASS_secret));
    str_assign(&secret->uuid, args->uuid);
    str_assign(&secret->value, args->value);
    str_map_assign(&secret->other_config, str_map_ref(args->other_config));
    *result = secret->row.ref;
    return server_commit(tx, err);
}
