/* VMSS.*: schedules of snapshots. Running them is schedules.c's. */
#include "../gate/generic.h"
#include "../plan/schedule.h"
#include "../schedules.h"
#include "../server.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define KEPT_MAX 10

static int check_kept(int64_t count, struct api_err *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)count);
    return count >= 1 && count <= KEPT_MAX ? 0 : err_invalid_value(err, "retained_snapshots", text);
}

static int check_type(enum vmss_type type, struct api_err *err)
{
    return type != VMSS_TYPE_SNAPSHOT_WITH_QUIESCE ? 0
                                                   : err_vm_snapshot_with_quiesce_not_supported(err, "", "");
}

int handle_vmss_create(struct call *call, const struct vmss_row *record, struct ref *result,
                       struct api_err *err)
{
    if (check_type(record->type, err) < 0 || check_kept(record->retained_snapshots, err) < 0 ||
        schedule_check(record->schedule, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    struct row *row = tx_create(tx, CLASS_VMSS);
    if (generic_fill(tx, row, &record->row, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    *result = row->ref;
    return server_commit(tx, err);
}

int handle_vmss_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct vmss_row *vmss = vmss_row(tx_get(tx, CLASS_VMSS, args->self));
    if (!vmss || (vmss->VMs && vmss->VMs->count)) {
        tx_abort(tx);
        return vmss ? err_vmss_has_vm(err) : fail_handle(err, CLASS_VMSS, args->self);
    }
    tx_delete(tx, CLASS_VMSS, args->self);
    return server_commit(tx, err);
}

/* A transaction with the row to change, or NULL with *err. */
static struct vmss_row *edit(struct call *call, struct ref self, struct tx **tx, struct api_err *err)
{
    *tx = store_begin(call->server->store);
    if (tx_get(*tx, CLASS_VMSS, self))
        return vmss_row_mut(tx_edit(*tx, CLASS_VMSS, self));
    tx_abort(*tx);
    fail_handle(err, CLASS_VMSS, self);
    return NULL;
}

int handle_vmss_set_retained_snapshots(struct call *call, const struct vmss_set_retained_snapshots_args *args,
                                       struct api_err *err)
{
    struct tx *tx;
    struct vmss_row *vmss = check_kept(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!vmss)
        return -1;
    vmss->retained_snapshots = args->value;
    return server_commit(tx, err);
}

int handle_vmss_set_frequency(struct call *call, const struct vmss_set_frequency_args *args,
                              struct api_err *err)
{
    struct tx *tx;
    struct vmss_row *vmss = edit(call, args->self, &tx, err);
    if (!vmss)
        return -1;
    vmss->frequency = args->value;
    return server_commit(tx, err);
}

int handle_vmss_set_type(struct call *call, const struct vmss_set_type_args *args, struct api_err *err)
{
    struct tx *tx;
    struct vmss_row *vmss = check_type(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!vmss)
        return -1;
    vmss->type = args->value;
    return server_commit(tx, err);
}

int handle_vmss_set_schedule(struct call *call, const struct vmss_set_schedule_args *args,
                             struct api_err *err)
{
    struct tx *tx;
    struct vmss_row *vmss = schedule_check(args->value, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!vmss)
        return -1;
    str_map_assign(&vmss->schedule, str_map_ref(args->value));
    return server_commit(tx, err);
}

int handle_vmss_add_to_schedule(struct call *call, const struct vmss_add_to_schedule_args *args,
                                struct api_err *err)
{
    AUTO_STR_MAP const struct str_map *pair = NULL;
    struct tx *tx;
    str_map_put(&pair, args->key, args->value);
    struct vmss_row *vmss = schedule_check(pair, err) < 0 ? NULL : edit(call, args->self, &tx, err);
    if (!vmss)
        return -1;
    if (vmss->schedule && str_map_get(vmss->schedule, args->key)) {
        AUTO_STR const char *uuid = str_ref(vmss->uuid);
        tx_abort(tx);
        return err_map_duplicate_key(err, "VMSS", "schedule", uuid, args->key);
    }
    str_map_put(&vmss->schedule, args->key, args->value);
    return server_commit(tx, err);
}

int handle_vmss_remove_from_schedule(struct call *call, const struct vmss_remove_from_schedule_args *args,
                                     struct api_err *err)
{
    struct tx *tx;
    struct vmss_row *vmss = edit(call, args->self, &tx, err);
    if (!vmss)
        return -1;
    str_map_del(&vmss->schedule, args->key);
    return server_commit(tx, err);
}

static void take_over(struct call *call, void *arg)
{
    (void)arg;
    const struct vmss_snapshot_now_args *args = call->args;
    schedules_run(call->server->schedules, call, args->vmss);
}

int handle_vmss_snapshot_now(struct call *call, const struct vmss_snapshot_now_args *args,
                             const char **result, struct api_err *err)
{
    (void)args;
    (void)result; /* the thread of schedules answers */
    (void)err;
    call->take_over = take_over;
    return 0;
}

/* For the server's own root: the schedule goes on from there. */
int handle_vmss_set_last_run_time(struct call *call, const struct vmss_set_last_run_time_args *args,
                                  struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VMSS, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VMSS, args->self);
    }
    vmss_row_mut(tx_edit(tx, CLASS_VMSS, args->self))->last_run_time = args->value;
    return server_commit(tx, err);
}
