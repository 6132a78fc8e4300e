/* VM.set_xenstore_data and its like. The agent first, then the row: what a guest writes at the same time
 * comes by way of the agent (hosts/reconcile.c), which has every change of both sides in one order. */
#include "vm_data.h"

#include "vm_power.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <hv/domain.h>
#include <model/errors.h>

#define ATTEMPTS 100 /* each other change of the VM costs one */

static bool is_shared(const char *key)
{
    return strncmp(key, DOMAIN_DATA_PREFIX, strlen(DOMAIN_DATA_PREFIX)) == 0;
}

static const struct str_map *shared_of(const struct str_map *all)
{
    const struct str_map *shared = NULL;
    for (uint32_t i = 0; all && i < all->count; i++)
        if (is_shared(all->pairs[i].key))
            str_map_put(&shared, all->pairs[i].key, all->pairs[i].value);
    return shared;
}

const struct str_map *vm_data_shared(const struct vm_row *vm)
{
    return shared_of(vm->xenstore_data);
}

void vm_data_record(struct tx *tx, struct ref ref, const struct str_map *shared)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    AUTO_STR_MAP const struct str_map *all = str_map_ref(shared);
    for (uint32_t i = 0; vm->xenstore_data && i < vm->xenstore_data->count; i++)
        if (!is_shared(vm->xenstore_data->pairs[i].key))
            str_map_put(&all, vm->xenstore_data->pairs[i].key, vm->xenstore_data->pairs[i].value);
    if (!str_map_equal(all, vm->xenstore_data))
        str_map_assign(&vm_row_mut(tx_edit(tx, CLASS_VM, ref))->xenstore_data, TAKE_PTR(all));
}

/* ---- the domain ---- */

struct change {
    bool replace;
    const struct str_map *set; /* borrowed */
    const char *remove;        /* NULL: nothing */
};

static bool is_live(const struct vm_row *vm)
{
    return (vm->power_state == VM_POWER_STATE_RUNNING || vm->power_state == VM_POWER_STATE_PAUSED) &&
           !ref_is_null(vm->resident_on);
}

static int ask(struct hv_host *agent, struct call *call, const struct vm_row *vm, const struct change *change,
               struct hv_err *cause)
{
    struct hosts_op op;
    struct hv_domain_data_set_args args;
    struct hv_domain_data_set_result result;
    hosts_op_init(&op, call, 0);
    hv_domain_data_set_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    args.replace = change->replace;
    str_map_assign(&args.set, shared_of(change->set));
    if (change->remove)
        hv_domain_data_set_args_add_remove(&args, change->remove);
    int rc = hv_domain_data_set(agent, &op.op, &args, &result, cause);
    if (rc == 0)
        hv_domain_data_set_result_done(&result);
    hv_domain_data_set_args_done(&args);
    return rc;
}

/* A domain that ended meanwhile, or a host that cannot do it, is no reason to refuse: the row has it. */
static int tell_domain(struct call *call, const struct vm_row *vm, const struct change *change,
                       struct api_err *err)
{
    struct hv_err cause;
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, err);
    if (!agent)
        return -1;
    int rc = ask(agent, call, vm, change, &cause);
    hosts_put(call->server->hosts, agent);
    if (rc == 0 || cause.kind == HV_ERR_KIND_NOT_FOUND || cause.kind == HV_ERR_KIND_CRASHED ||
        cause.kind == HV_ERR_KIND_HALTED || cause.kind == HV_ERR_KIND_UNSUPPORTED)
        return 0;
    if (cause.kind == HV_ERR_KIND_BAD_ARGUMENT)
        return err_invalid_value(err, "xenstore_data", cause.text);
    return hosts_fail_vm(err, vm->row.ref, vm->resident_on, &cause);
}

void vm_data_settle(struct call *call, struct ref ref, const struct str_map *started)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    AUTO_STR_MAP const struct str_map *now = vm ? vm_data_shared(vm) : NULL;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct change change = {.replace = true, .set = now};
    if (vm && is_live(vm) && !str_map_equal(now, started) && tell_domain(call, vm, &change, &err) < 0)
        log_warn("vm", "what was set while a VM started did not reach it", "vm", vm->uuid);
}

/* ---- messages ---- */

static int fetch(struct call *call, const struct vm_row *vm, const struct str_map **data)
{
    struct hv_domain_data_args args;
    struct hv_domain_data_result result;
    struct hv_err cause;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct hv_host *agent = hosts_get(call->server->hosts, vm->resident_on, &err);
    if (!agent)
        return -1;
    hv_domain_data_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    int rc = hv_domain_data(agent, NULL, &args, &result, &cause);
    hv_domain_data_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return -1;
    *data = str_map_ref(result.data);
    hv_domain_data_result_done(&result);
    return 0;
}

/* `shared` (borrowed): what the domain has, into a row that nobody changed since before it was asked; NULL:
 * whatever the row is. 1: it was changed. */
static int record(struct call *call, struct ref ref, const struct change *change, const struct vm_row *seen,
                  const struct str_map *shared, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, ref));
    if (!now || (seen && seen->row.generation != now->row.generation)) {
        tx_abort(tx);
        return now ? 1 : fail_handle(err, CLASS_VM, ref);
    }
    struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, ref));
    if (change->replace)
        str_map_assign(&vm->xenstore_data, NULL);
    if (change->remove)
        str_map_del(&vm->xenstore_data, change->remove);
    for (uint32_t i = 0; change->set && i < change->set->count; i++)
        str_map_put(&vm->xenstore_data, change->set->pairs[i].key, change->set->pairs[i].value);
    if (seen)
        vm_data_record(tx, ref, shared);
    return server_commit(tx, err);
}

/* The row as the next transaction finds it, which a snapshot (what is on disk) may not be yet. NULL: gone. */
static struct row *newest(struct call *call, struct ref ref)
{
    struct tx *tx = store_begin(call->server->store);
    const struct row *now = tx_get(tx, CLASS_VM, ref);
    struct row *copy = now ? row_copy(now) : NULL;
    tx_abort(tx);
    return copy;
}

/* The guest may have answered the change already, and the row have that: what the domain has by now is what
 * the row gets. */
static int record_live(struct call *call, struct ref ref, const struct change *change, struct api_err *err)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        struct row *row = newest(call, ref);
        const struct vm_row *vm = row ? vm_row(row) : NULL;
        AUTO_STR_MAP const struct str_map *shared = NULL;
        bool known = vm && is_live(vm) && fetch(call, vm, &shared) == 0;
        int rc = known ? record(call, ref, change, vm, shared, err) : 1;
        if (row)
            row_unref(row);
        if (!known || rc != 1)
            return known ? rc : record(call, ref, change, NULL, NULL, err);
    }
    return fail_internal(err, "The VM changes all the time.");
}

/* What a guest could never be given is refused, also while it does not run. */
static int check(const struct vm_row *vm, const struct change *change, struct api_err *err)
{
    AUTO_STR_MAP const struct str_map *next = change->replace ? NULL : vm_data_shared(vm);
    struct hv_err cause;
    for (uint32_t i = 0; change->set && i < change->set->count; i++)
        if (is_shared(change->set->pairs[i].key))
            str_map_put(&next, change->set->pairs[i].key, change->set->pairs[i].value);
    return domain_data_check(next, &cause) == 0 ? 0 : err_invalid_value(err, "xenstore_data", cause.text);
}

static int apply(struct call *call, const struct vm_row *vm, const struct change *change, struct api_err *err)
{
    bool live = is_live(vm);
    struct ref ref = vm->row.ref;
    if (change->set && check(vm, change, err) < 0)
        return -1;
    if (live)
        return tell_domain(call, vm, change, err) < 0 ? -1 : record_live(call, ref, change, err);
    if (record(call, ref, change, NULL, NULL, err) < 0)
        return -1;
    /* It may have come to run meanwhile, with what was there before. */
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    return vm && is_live(vm) ? tell_domain(call, vm, change, err) : 0;
}

int handle_vm_set_xenstore_data(struct call *call, const struct vm_set_xenstore_data_args *args,
                                struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    const struct change change = {.replace = true, .set = args->value};
    return vm ? apply(call, vm, &change, err) : -1;
}

int handle_vm_add_to_xenstore_data(struct call *call, const struct vm_add_to_xenstore_data_args *args,
                                   struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    if (!vm)
        return -1;
    if (str_map_get(vm->xenstore_data, args->key))
        return err_map_duplicate_key(err, "VM", "xenstore_data", REF_TEXT(args->self), args->key);
    const struct str_pair pair = {args->key, args->value};
    AUTO_STR_MAP const struct str_map *set = str_map_new(&pair, 1);
    const struct change change = {.set = set};
    return apply(call, vm, &change, err);
}

int handle_vm_remove_from_xenstore_data(struct call *call,
                                        const struct vm_remove_from_xenstore_data_args *args,
                                        struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->self, err);
    const struct change change = {.remove = args->key};
    return vm ? apply(call, vm, &change, err) : -1;
}
