/* Questions about VMs: may an operation begin, where could it run, what would it cost. */
#include "../hosts/ha.h"
#include "../plan/overhead.h"
#include "../rules/operations.h"
#include "../rules/vm.h"
#include "vm_power.h"
#include "vm_record.h"
#include <base/json.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define MIB (1LL << 20)

int handle_vm_assert_operation_valid(struct call *call, const struct vm_assert_operation_valid_args *args,
                                     struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    int rc = operation_check(tx, CLASS_VM, args->self, (int)args->op, err);
    tx_abort(tx);
    return rc;
}

int handle_vm_update_allowed_operations(struct call *call,
                                        const struct vm_update_allowed_operations_args *args,
                                        struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VM, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, args->self);
    }
    operations_refresh_touched(tx, CLASS_VM, args->self, NULL);
    return server_commit(tx, err);
}

int handle_vm_get_boot_record(struct call *call, const struct vm_get_boot_record_args *args, json_t **result,
                              struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    struct json_error why;
    if (!vm)
        return -1;
    struct row *row = vm_record_as_booted(vm);
    const struct fragment *text = row_json(row);
    json_t *json = json_parse(text->text, text->len, &why);
    row_unref(row);
    if (!json)
        return fail_internal(err, "The record of the VM's start cannot be read.");
    *result = json;
    return 0;
}

int handle_vm_compute_memory_overhead(struct call *call, const struct vm_compute_memory_overhead_args *args,
                                      int64_t *result, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm)
        return -1;
    *result = vm->memory_overhead;
    return 0;
}

/* The most memory that the VM could be given out of `total`, with what that much costs beside it. */
int handle_vm_maximise_memory(struct call *call, const struct vm_maximise_memory_args *args, int64_t *result,
                              struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    if (!vm)
        return -1;
    struct vm_row as = *vm; /* borrows its fields */
    as.memory_static_max = args->total;
    int64_t left = args->total > 0 ? args->total - overhead_of(&as) : 0;
    *result = left > 0 ? left / MIB * MIB : 0;
    return 0;
}

int handle_vm_get_cooperative(struct call *call, const struct vm_get_cooperative_args *args, bool *result,
                              struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    if (!vm)
        return -1;
    *result = !vm->keeps_memory;
    return 0;
}

int handle_vm_assert_agile(struct call *call, const struct vm_assert_agile_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    return vm ? ha_check_agile(call->snapshot, vm, err) : -1;
}

/* ---- what guests and hosts here have not ---- */

int handle_vm_call_plugin(struct call *call, const struct vm_call_plugin_args *args, const char **result,
                          struct api_err *err)
{
    (void)result;
    return vm_find(call, args->vm, err) ? err_xenapi_missing_plugin(err, args->plugin) : -1;
}

int handle_vm_call_host_plugin(struct call *call, const struct vm_call_host_plugin_args *args,
                               const char **result, struct api_err *err)
{
    (void)result;
    return vm_find(call, args->vm, err) ? err_xenapi_missing_plugin(err, args->plugin) : -1;
}

int handle_vm_sysprep(struct call *call, const struct vm_sysprep_args *args, struct api_err *err)
{
    if (!vm_find(call, args->self, err))
        return -1;
    return err_sysprep(err, REF_TEXT(args->self), "The guest has no agent that runs sysprep.");
}
