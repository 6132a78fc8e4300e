/* What a VM belongs to: appliances, schedules, restart plans; and texts of its firmware. */
#include "../hosts/ha.h"
#include "../rules/vm.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* Opens a transaction with the VM; NULL after failing. */
static struct vm_row *begin_edit(struct call *call, struct ref ref, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    if (tx_get(*tx, CLASS_VM, ref))
        return vm_row_mut(tx_edit(*tx, CLASS_VM, ref));
    tx_abort(*tx);
    fail_handle(err, CLASS_VM, ref);
    return NULL;
}

/* Ends a transaction that found something wrong. -1. */
static int refuse(struct tx *tx)
{
    tx_abort(tx);
    return -1;
}

static int check_plain(const struct vm_row *vm, const char *what, struct api_err *err)
{
    if (vm->is_control_domain)
        return err_operation_not_allowed(err, "This operation is not allowed on dom0");
    if (vm->is_a_snapshot)
        return err_vm_is_snapshot(err, REF_TEXT(vm->row.ref), what);
    return vm->is_a_template ? err_vm_is_template(err, REF_TEXT(vm->row.ref), what) : 0;
}

int handle_vm_set_appliance(struct call *call, const struct vm_set_appliance_args *args, struct api_err *err)
{
    struct tx *tx;
    struct vm_row *vm = begin_edit(call, args->self, &tx, err);
    if (!vm)
        return -1;
    if (!ref_is_null(args->value)) {
        if (!tx_get(tx, CLASS_VM_appliance, args->value)) {
            fail_handle(err, CLASS_VM_appliance, args->value);
            return refuse(tx);
        }
        if (check_plain(vm, "set_appliance", err) < 0)
            return refuse(tx);
    }
    vm->appliance = args->value;
    return server_commit(tx, err);
}

int handle_vm_set_snapshot_schedule(struct call *call, const struct vm_set_snapshot_schedule_args *args,
                                    struct api_err *err)
{
    struct tx *tx;
    struct vm_row *vm = begin_edit(call, args->self, &tx, err);
    if (!vm)
        return -1;
    if (!ref_is_null(args->value)) {
        if (!tx_get(tx, CLASS_VMSS, args->value)) {
            fail_handle(err, CLASS_VMSS, args->value);
            return refuse(tx);
        }
        if (check_plain(vm, "set_snapshot_schedule", err) < 0)
            return refuse(tx);
    }
    vm->snapshot_schedule = args->value;
    return server_commit(tx, err);
}

/* Whether the pool could keep that promise. */
static int check_priority(const struct call *call, const struct vm_set_ha_restart_priority_args *args,
                          struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct pool_row *pool = ha_pool(snap);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, args->self));
    const struct failover_change change = {.vm = args->self, .priority = args->value};
    if (!vm || !pool || !pool->ha_enabled || !streq(args->value, "restart"))
        return 0;
    return ha_check_agile(snap, vm, err) < 0 ? -1 : ha_check_change(snap, &change, err);
}

int handle_vm_set_ha_restart_priority(struct call *call, const struct vm_set_ha_restart_priority_args *args,
                                      struct api_err *err)
{
    struct tx *tx;
    bool restart = streq(args->value, "restart");
    if (!restart && !streq(args->value, "best-effort") && *args->value)
        return err_invalid_value(err, "ha_restart_priority", args->value);
    struct vm_row *vm = begin_edit(call, args->self, &tx, err);
    if (!vm)
        return -1;
    if (*args->value && check_plain(vm, "set_ha_restart_priority", err) < 0)
        return refuse(tx);
    if (check_priority(call, args, err) < 0)
        return refuse(tx);
    str_assign(&vm->ha_restart_priority, args->value);
    vm->ha_always_run = restart && vm->power_state == VM_POWER_STATE_RUNNING;
    return server_commit(tx, err);
}

int handle_vm_set_ha_always_run(struct call *call, const struct vm_set_ha_always_run_args *args,
                                struct api_err *err)
{
    struct tx *tx;
    struct vm_row *vm = begin_edit(call, args->self, &tx, err);
    if (!vm)
        return -1;
    if (args->value && check_plain(vm, "set_ha_always_run", err) < 0)
        return refuse(tx);
    vm->ha_always_run = args->value;
    return server_commit(tx, err);
}

int handle_vm_set_is_default_template(struct call *call, const struct vm_set_is_default_template_args *args,
                                      struct api_err *err)
{
    struct tx *tx;
    struct vm_row *vm = begin_edit(call, args->vm, &tx, err);
    if (!vm)
        return -1;
    vm->is_default_template = args->value;
    if (args->value)
        str_map_put(&vm->other_config, "default_template", "true");
    else
        str_map_del(&vm->other_config, "default_template");
    return server_commit(tx, err);
}

int handle_vm_copy_bios_strings(struct call *call, const struct vm_copy_bios_strings_args *args,
                                struct api_err *err)
{
    struct tx *tx;
    struct vm_row *vm = begin_edit(call, args->vm, &tx, err);
    if (!vm)
        return -1;
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, args->host));
    if (!host)
        fail_handle(err, CLASS_host, args->host);
    else if (vm->bios_strings && vm->bios_strings->count)
        err_vm_bios_strings_already_set(err);
    else {
        str_map_assign(&vm->bios_strings, str_map_ref(host->bios_strings));
        return server_commit(tx, err);
    }
    return refuse(tx);
}
