/* VM.set_*: settings that have limits of their own. They take effect at the next start; what changes while
 * the VM runs is in vm_live.c. */
#include "../rules/vm.h"
#include "../server.h"
#include "storage.h"
#include <base/mem.h>
#include <handlers.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

#define MEMORY_MIN (16LL << 20)
#define VCPUS_LIMIT 254

struct memory {
    int64_t static_min, static_max, dynamic_min, dynamic_max;
};

static int check_memory(const struct memory *m, struct api_err *err)
{
    if (m->static_max < MEMORY_MIN)
        return err_memory_constraint_violation(err, "static_max is at least 16 MiB");
    if (m->static_min < 0 || m->static_min > m->dynamic_min || m->dynamic_min > m->dynamic_max ||
        m->dynamic_max > m->static_max)
        return err_memory_constraint_violation(err, "static_min <= dynamic_min <= dynamic_max <= static_max");
    return 0;
}

/* Opens a transaction with the VM, which has to be Halted. NULL after failing. */
static const struct vm_row *begin_halted(struct call *call, struct ref ref, struct tx **tx,
                                         struct api_err *err)
{
    *tx = store_begin(call->server->store);
    const struct vm_row *vm = vm_row(tx_get(*tx, CLASS_VM, ref));
    if (vm && vm->power_state == VM_POWER_STATE_HALTED)
        return vm;
    if (vm)
        vm_bad_state(err, vm, "halted");
    else
        fail_handle(err, CLASS_VM, ref);
    tx_abort(*tx);
    return NULL;
}

static struct memory memory_of(const struct vm_row *vm)
{
    return (struct memory){vm->memory_static_min, vm->memory_static_max, vm->memory_dynamic_min,
                           vm->memory_dynamic_max};
}

static int set_memory(struct tx *tx, struct ref ref, const struct memory *m, struct api_err *err)
{
    if (check_memory(m, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, ref));
    vm->memory_static_min = m->static_min;
    vm->memory_static_max = m->static_max;
    vm->memory_dynamic_min = m->dynamic_min;
    vm->memory_dynamic_max = m->dynamic_max;
    vm->memory_target = m->dynamic_max;
    return server_commit(tx, err);
}

int handle_vm_set_memory_limits(struct call *call, const struct vm_set_memory_limits_args *args,
                                struct api_err *err)
{
    struct tx *tx;
    const struct memory m = {args->static_min, args->static_max, args->dynamic_min, args->dynamic_max};
    return begin_halted(call, args->self, &tx, err) ? set_memory(tx, args->self, &m, err) : -1;
}

int handle_vm_set_memory(struct call *call, const struct vm_set_memory_args *args, struct api_err *err)
{
    struct tx *tx;
    const struct vm_row *vm = begin_halted(call, args->self, &tx, err);
    if (!vm)
        return -1;
    int64_t static_min = vm->memory_static_min < args->value ? vm->memory_static_min : args->value;
    const struct memory m = {static_min, args->value, args->value, args->value};
    return set_memory(tx, args->self, &m, err);
}

int handle_vm_set_memory_static_range(struct call *call, const struct vm_set_memory_static_range_args *args,
                                      struct api_err *err)
{
    struct tx *tx;
    const struct vm_row *vm = begin_halted(call, args->self, &tx, err);
    if (!vm)
        return -1;
    struct memory m = memory_of(vm);
    m.static_min = args->min;
    m.static_max = args->max;
    return set_memory(tx, args->self, &m, err);
}

/* One of the four numbers. */
static int set_one(struct call *call, struct ref ref, size_t offset, int64_t value, struct api_err *err)
{
    struct tx *tx;
    const struct vm_row *vm = begin_halted(call, ref, &tx, err);
    if (!vm)
        return -1;
    struct memory m = memory_of(vm);
    *(int64_t *)((char *)&m + offset) = value;
    return set_memory(tx, ref, &m, err);
}

int handle_vm_set_memory_static_max(struct call *call, const struct vm_set_memory_static_max_args *args,
                                    struct api_err *err)
{
    return set_one(call, args->self, offsetof(struct memory, static_max), args->value, err);
}

int handle_vm_set_memory_static_min(struct call *call, const struct vm_set_memory_static_min_args *args,
                                    struct api_err *err)
{
    return set_one(call, args->self, offsetof(struct memory, static_min), args->value, err);
}

static int refuse_vcpus(struct tx *tx, const char *field, int64_t value, const char *reason,
                        struct api_err *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, value);
    tx_abort(tx);
    return err_value_not_supported(err, field, text, reason);
}

int handle_vm_set_VCPUs_max(struct call *call, const struct vm_set_VCPUs_max_args *args, struct api_err *err)
{
    struct tx *tx;
    const struct vm_row *vm = begin_halted(call, args->self, &tx, err);
    if (!vm)
        return -1;
    if (args->value < 1 || args->value > VCPUS_LIMIT)
        return refuse_vcpus(tx, "VCPUs_max", args->value, "it is between 1 and 254", err);
    if (args->value < vm->VCPUs_at_startup)
        return refuse_vcpus(tx, "VCPUs_max", args->value, "it is not less than VCPUs_at_startup", err);
    vm_row_mut(tx_edit(tx, CLASS_VM, args->self))->VCPUs_max = args->value;
    return server_commit(tx, err);
}

int handle_vm_set_VCPUs_at_startup(struct call *call, const struct vm_set_VCPUs_at_startup_args *args,
                                   struct api_err *err)
{
    struct tx *tx;
    const struct vm_row *vm = begin_halted(call, args->self, &tx, err);
    if (!vm)
        return -1;
    if (args->value < 1 || args->value > vm->VCPUs_max)
        return refuse_vcpus(tx, "VCPUs_at_startup", args->value, "it is between 1 and VCPUs_max", err);
    vm_row_mut(tx_edit(tx, CLASS_VM, args->self))->VCPUs_at_startup = args->value;
    return server_commit(tx, err);
}

/* "" is paravirtual boot, anything else emulated hardware; domain_type says the same in new words. */
int handle_vm_set_HVM_boot_policy(struct call *call, const struct vm_set_HVM_boot_policy_args *args,
                                  struct api_err *err)
{
    struct tx *tx;
    if (!begin_halted(call, args->self, &tx, err))
        return -1;
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, args->self));
    str_assign(&vm->HVM_boot_policy, args->value);
    vm->domain_type = *args->value ? DOMAIN_TYPE_HVM : DOMAIN_TYPE_PV;
    return server_commit(tx, err);
}

int handle_vm_set_domain_type(struct call *call, const struct vm_set_domain_type_args *args,
                              struct api_err *err)
{
    struct tx *tx;
    if (!begin_halted(call, args->self, &tx, err))
        return -1;
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, args->self));
    vm->domain_type = args->value;
    str_assign(&vm->HVM_boot_policy, args->value == DOMAIN_TYPE_HVM ? "BIOS order" : "");
    return server_commit(tx, err);
}

int handle_vm_get_allowed_VBD_devices(struct call *call, const struct vm_get_allowed_VBD_devices_args *args,
                                      const struct str_set **result, struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, args->vm));
    if (!vm)
        return fail_handle(err, CLASS_VM, args->vm);
    *result = storage_allowed_vbd_devices(call->snapshot, vm);
    return 0;
}

int handle_vm_get_allowed_VIF_devices(struct call *call, const struct vm_get_allowed_VIF_devices_args *args,
                                      const struct str_set **result, struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(call->snapshot, CLASS_VM, args->vm));
    const char *names[16];
    char texts[16][4];
    size_t count = 0;
    if (!vm)
        return fail_handle(err, CLASS_VM, args->vm);
    for (int n = 0; n < 16; n++) {
        bool taken = false;
        for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
            const struct vif_row *vif = vif_row(snapshot_get(call->snapshot, CLASS_VIF, vm->VIFs->items[i]));
            taken |= vif && strtol(vif->device, NULL, 10) == n;
        }
        snprintf(texts[n], sizeof(texts[n]), "%d", n);
        if (!taken)
            names[count++] = texts[n];
    }
    *result = str_list_new(names, count);
    return 0;
}
