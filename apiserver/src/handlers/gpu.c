/* PCI.*, PGPU.*, GPU_group.*, VGPU.*: a host's graphics processors are passed to VMs whole (type
 * passthrough). Which one a VM gets is chosen when it starts. */
#include "../hosts/devices.h"
#include "../hosts/hosts.h"
#include "../plan/passthrough.h"
#include "../rules/vm.h"
#include "../server.h"
#include <base/mem.h>
#include <ctype.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdlib.h>

#define VGPU_DEVICES 16

/* "a;b", as such errors name several. */
static const char *join(const struct ref_set *refs)
{
    const char *text = str_new("");
    for (size_t i = 0; refs && i < refs->count; i++) {
        const char *more = str_newf("%s%s%s", text, i ? ";" : "", REF_TEXT(refs->items[i]));
        str_unref(text);
        text = more;
    }
    return text;
}

/* ---- whether the host itself uses a device ---- */

static int access_failed(struct api_err *err, struct ref host, const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_UNSUPPORTED:
        return err_vm_requires_iommu(err, REF_TEXT(host));
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_IN_USE:
    case HV_ERR_KIND_BAD_ARGUMENT:
        return err_operation_not_allowed(err, cause->text);
    default:
        return hosts_fail(err, host, cause);
    }
}

static int set_access(struct call *call, struct ref ref, bool host, enum pci_dom0_access *out,
                      struct api_err *err)
{
    const struct pci_row *pci = pci_row(snapshot_get(call->snapshot, CLASS_PCI, ref));
    struct hv_pci_access_args args;
    struct hv_pci_access_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = 10000};
    if (!pci)
        return fail_handle(err, CLASS_PCI, ref);
    if (host && pci->attached_VMs && pci->attached_VMs->count) {
        AUTO_STR const char *vms = join(pci->attached_VMs);
        return err_pgpu_in_use_by_vm(err, vms);
    }
    struct hv_host *agent = hosts_get(call->server->hosts, pci->host, err);
    if (!agent)
        return -1;
    hv_pci_access_args_init(&args);
    str_assign(&args.bus, pci->pci_id);
    args.host = host;
    int rc = hv_pci_access(agent, &op, &args, &result, &cause);
    hv_pci_access_args_done(&args);
    if (rc < 0)
        access_failed(err, pci->host, &cause);
    else
        rc = devices_look(call->server, pci->host, agent, err);
    hosts_put(call->server->hosts, agent);
    if (rc == 0)
        *out = (enum pci_dom0_access)result.access;
    return rc;
}

int handle_pci_disable_dom0_access(struct call *call, const struct pci_disable_dom0_access_args *args,
                                   enum pci_dom0_access *result, struct api_err *err)
{
    return set_access(call, args->self, false, result, err);
}

int handle_pci_enable_dom0_access(struct call *call, const struct pci_enable_dom0_access_args *args,
                                  enum pci_dom0_access *result, struct api_err *err)
{
    return set_access(call, args->self, true, result, err);
}

int handle_pci_get_dom0_access_status(struct call *call, const struct pci_get_dom0_access_status_args *args,
                                      enum pci_dom0_access *result, struct api_err *err)
{
    const struct pci_row *pci = pci_row(snapshot_get(call->snapshot, CLASS_PCI, args->self));
    struct hv_device_list_args list_args;
    struct hv_device_list_result list;
    struct hv_err cause;
    bool found = false;
    const struct hv_op op = {.timeout_ms = 10000};
    if (!pci)
        return fail_handle(err, CLASS_PCI, args->self);
    struct hv_host *agent = hosts_get(call->server->hosts, pci->host, err);
    if (!agent)
        return -1;
    hv_device_list_args_init(&list_args);
    int rc = hv_device_list(agent, &op, &list_args, &list, &cause);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, pci->host, &cause);
    for (size_t i = 0; i < list.pci_count; i++)
        if (streq(list.pci[i].bus, pci->pci_id)) {
            *result = (enum pci_dom0_access)list.pci[i].access;
            found = true;
        }
    hv_device_list_result_done(&list);
    return found ? 0 : err_operation_not_allowed(err, "The host does not have the device any more.");
}

static const struct pgpu_row *find_pgpu(struct call *call, struct ref ref, struct api_err *err)
{
    const struct pgpu_row *pgpu = pgpu_row(snapshot_get(call->snapshot, CLASS_PGPU, ref));
    if (!pgpu)
        fail_handle(err, CLASS_PGPU, ref);
    return pgpu;
}

int handle_pgpu_enable_dom0_access(struct call *call, const struct pgpu_enable_dom0_access_args *args,
                                   enum pci_dom0_access *result, struct api_err *err)
{
    const struct pgpu_row *pgpu = find_pgpu(call, args->self, err);
    return pgpu ? set_access(call, pgpu->PCI, true, result, err) : -1;
}

int handle_pgpu_disable_dom0_access(struct call *call, const struct pgpu_disable_dom0_access_args *args,
                                    enum pci_dom0_access *result, struct api_err *err)
{
    const struct pgpu_row *pgpu = find_pgpu(call, args->self, err);
    return pgpu ? set_access(call, pgpu->PCI, false, result, err) : -1;
}

/* ---- what a processor serves ---- */

static int check_types(struct tx *tx, const struct pgpu_row *pgpu, const struct ref_set *wanted,
                       struct api_err *err)
{
    for (size_t i = 0; wanted && i < wanted->count; i++) {
        if (!tx_get(tx, CLASS_VGPU_type, wanted->items[i]))
            return fail_handle(err, CLASS_VGPU_type, wanted->items[i]);
        if (!ref_set_has(pgpu->supported_VGPU_types, wanted->items[i])) {
            AUTO_STR const char *supported = join(pgpu->supported_VGPU_types);
            return err_vgpu_type_not_supported(err, REF_TEXT(wanted->items[i]), supported);
        }
    }
    for (size_t i = 0; pgpu->resident_VGPUs && i < pgpu->resident_VGPUs->count; i++) {
        const struct vgpu_row *vgpu = vgpu_row(tx_get(tx, CLASS_VGPU, pgpu->resident_VGPUs->items[i]));
        if (vgpu && !ref_set_has(wanted, vgpu->type))
            return err_pgpu_in_use_by_vm(err, REF_TEXT(vgpu->VM));
    }
    return 0;
}

enum change { CHANGE_SET, CHANGE_ADD, CHANGE_REMOVE };

static int change_types(struct call *call, struct ref self, enum change change, const struct ref_set *value,
                        struct ref one, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pgpu_row *pgpu = pgpu_row(tx_get(tx, CLASS_PGPU, self));
    const struct ref_set *now = pgpu ? pgpu->enabled_VGPU_types : NULL;
    AUTO_REF_SET const struct ref_set *wanted = change == CHANGE_SET   ? ref_set_ref(value)
                                                : change == CHANGE_ADD ? ref_set_with(now, one)
                                                                       : ref_set_without(now, one);
    if ((pgpu ? check_types(tx, pgpu, wanted, err) : fail_handle(err, CLASS_PGPU, self)) < 0) {
        tx_abort(tx);
        return -1;
    }
    AUTO_REF_SET const struct ref_set *supported = ref_set_ref(pgpu->supported_VGPU_types);
    pgpu_set_types(tx, self, supported, wanted);
    return server_commit(tx, err);
}

int handle_pgpu_set_enabled_VGPU_types(struct call *call, const struct pgpu_set_enabled_VGPU_types_args *args,
                                       struct api_err *err)
{
    return change_types(call, args->self, CHANGE_SET, args->value, REF_NULL, err);
}

int handle_pgpu_add_enabled_VGPU_types(struct call *call, const struct pgpu_add_enabled_VGPU_types_args *args,
                                       struct api_err *err)
{
    return change_types(call, args->self, CHANGE_ADD, NULL, args->value, err);
}

int handle_pgpu_remove_enabled_VGPU_types(struct call *call,
                                          const struct pgpu_remove_enabled_VGPU_types_args *args,
                                          struct api_err *err)
{
    return change_types(call, args->self, CHANGE_REMOVE, NULL, args->value, err);
}

static int check_group(struct tx *tx, const struct pgpu_row *pgpu, struct ref ref, struct api_err *err)
{
    const struct gpu_group_row *group = gpu_group_row(tx_get(tx, CLASS_GPU_group, ref));
    const struct pci_row *pci = pci_row(tx_get(tx, CLASS_PCI, pgpu->PCI));
    char kind[16] = "";
    if (!group)
        return fail_handle(err, CLASS_GPU_group, ref);
    for (size_t i = 0; pgpu->resident_VGPUs && i < pgpu->resident_VGPUs->count; i++) {
        const struct vgpu_row *vgpu = vgpu_row(tx_get(tx, CLASS_VGPU, pgpu->resident_VGPUs->items[i]));
        if (vgpu)
            return err_pgpu_in_use_by_vm(err, REF_TEXT(vgpu->VM));
    }
    if (pci)
        pci_kind(pci, kind);
    const struct str_set *kinds = group->GPU_types;
    if (!kinds || !kinds->count || str_set_has(kinds, kind))
        return 0;
    const char *text = str_new("");
    for (size_t i = 0; i < kinds->count; i++) {
        const char *more = str_newf("%s%s%s", text, i ? "; " : "", kinds->items[i]);
        str_unref(text);
        text = more;
    }
    AUTO_STR const char *all = str_newf("[%s]", text);
    str_unref(text);
    return err_pgpu_not_compatible_with_gpu_group(err, kind, all);
}

int handle_pgpu_set_GPU_group(struct call *call, const struct pgpu_set_GPU_group_args *args,
                              struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pgpu_row *pgpu = pgpu_row(tx_get(tx, CLASS_PGPU, args->self));
    if ((pgpu ? check_group(tx, pgpu, args->value, err) : fail_handle(err, CLASS_PGPU, args->self)) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct ref before = pgpu->GPU_group;
    pgpu_row_mut(tx_edit(tx, CLASS_PGPU, args->self))->GPU_group = args->value;
    gpu_group_refresh(tx, before);
    gpu_group_refresh(tx, args->value);
    return server_commit(tx, err);
}

static int64_t room(const struct snapshot *snap, const struct pgpu_row *pgpu, struct ref type)
{
    const struct device_source from = {.snap = snap};
    return ref_set_has(pgpu->enabled_VGPU_types, type) && pgpu_is_free(&from, pgpu, REF_NULL);
}

int handle_pgpu_get_remaining_capacity(struct call *call, const struct pgpu_get_remaining_capacity_args *args,
                                       int64_t *result, struct api_err *err)
{
    const struct pgpu_row *pgpu = find_pgpu(call, args->self, err);
    if (!pgpu)
        return -1;
    if (!snapshot_get(call->snapshot, CLASS_VGPU_type, args->vgpu_type))
        return fail_handle(err, CLASS_VGPU_type, args->vgpu_type);
    *result = room(call->snapshot, pgpu, args->vgpu_type);
    return 0;
}

/* ---- groups ---- */

int handle_gpu_group_get_remaining_capacity(struct call *call,
                                            const struct gpu_group_get_remaining_capacity_args *args,
                                            int64_t *result, struct api_err *err)
{
    const struct gpu_group_row *group =
        gpu_group_row(snapshot_get(call->snapshot, CLASS_GPU_group, args->self));
    if (!group)
        return fail_handle(err, CLASS_GPU_group, args->self);
    *result = 0;
    for (size_t i = 0; group->PGPUs && i < group->PGPUs->count; i++) {
        const struct pgpu_row *pgpu =
            pgpu_row(snapshot_get(call->snapshot, CLASS_PGPU, group->PGPUs->items[i]));
        *result += pgpu ? room(call->snapshot, pgpu, args->vgpu_type) : 0;
    }
    return 0;
}

static int refresh_group(struct call *call, struct ref self, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_GPU_group, self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_GPU_group, self);
    }
    gpu_group_refresh(tx, self);
    return server_commit(tx, err);
}

int handle_gpu_group_update_enabled_VGPU_types(struct call *call,
                                               const struct gpu_group_update_enabled_VGPU_types_args *args,
                                               struct api_err *err)
{
    return refresh_group(call, args->self, err);
}

int handle_gpu_group_update_supported_VGPU_types(
    struct call *call, const struct gpu_group_update_supported_VGPU_types_args *args, struct api_err *err)
{
    return refresh_group(call, args->self, err);
}

/* ---- virtual cards ---- */

static bool find_passthrough(const struct row *row, void *arg)
{
    if (vgpu_type_row(row)->implementation == VGPU_TYPE_IMPLEMENTATION_PASSTHROUGH)
        *(struct ref *)arg = row->ref;
    return true;
}

static int check_vgpu(struct tx *tx, const struct vgpu_create_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, args->VM));
    char *end;
    long number = strtol(args->device, &end, 10);
    if (!vm)
        return fail_handle(err, CLASS_VM, args->VM);
    if (!tx_get(tx, CLASS_GPU_group, args->GPU_group))
        return fail_handle(err, CLASS_GPU_group, args->GPU_group);
    if (!ref_is_null(args->type) && !tx_get(tx, CLASS_VGPU_type, args->type))
        return fail_handle(err, CLASS_VGPU_type, args->type);
    if (!isdigit((unsigned char)args->device[0]) || *end || number >= VGPU_DEVICES)
        return err_invalid_device(err, args->device);
    for (size_t i = 0; vm->VGPUs && i < vm->VGPUs->count; i++) {
        const struct vgpu_row *other = vgpu_row(tx_get(tx, CLASS_VGPU, vm->VGPUs->items[i]));
        if (other && strtol(other->device, NULL, 10) == number)
            return err_device_already_exists(err, args->device);
    }
    return vm->power_state == VM_POWER_STATE_HALTED ? 0 : vm_bad_state(err, vm, "halted");
}

int handle_vgpu_create(struct call *call, const struct vgpu_create_args *args, struct ref *result,
                       struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref type = args->type;
    if (check_vgpu(tx, args, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    if (ref_is_null(type))
        tx_each(tx, CLASS_VGPU_type, find_passthrough, &type);
    struct vgpu_row *vgpu = vgpu_row_mut(tx_create(tx, CLASS_VGPU));
    vgpu->VM = args->VM;
    vgpu->GPU_group = args->GPU_group;
    str_assign(&vgpu->device, args->device);
    str_map_assign(&vgpu->other_config, str_map_ref(args->other_config));
    vgpu->type = type;
    *result = vgpu->row.ref;
    return server_commit(tx, err);
}

int handle_vgpu_destroy(struct call *call, const struct vgpu_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vgpu_row *vgpu = vgpu_row(tx_get(tx, CLASS_VGPU, args->self));
    const struct vm_row *vm = vgpu ? vm_row(tx_get(tx, CLASS_VM, vgpu->VM)) : NULL;
    int rc = 0;
    if (!vgpu)
        rc = fail_handle(err, CLASS_VGPU, args->self);
    else if (vm && vm->power_state != VM_POWER_STATE_HALTED)
        rc = vm_bad_state(err, vm, "halted");
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    tx_delete(tx, CLASS_VGPU, args->self);
    return server_commit(tx, err);
}
