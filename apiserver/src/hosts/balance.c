/* Driven by levels: whatever happened on a host, the shares are computed anew from the rows. Who is asked for
 * less than it has is believed to have given it when the agent says so (VM_metrics.memory_actual). */
#include "balance.h"

#include "../gate/task.h"
#include "../plan/placement.h"
#include "../plan/squeeze.h"
#include "../server.h"
#include "claims.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

#define MIB (INT64_C(1) << 20)
#define ROOM_MS 40000 /* how long a start waits for others to give memory */
#define STUCK_MS 5000 /* without a step towards its target: it will not move */
#define STEP_MS 500
#define SLACK (4 * MIB)

/* The VMs of a host, and what they share. */
struct field {
    struct squeeze_vm *vms;
    size_t count;
    int64_t bytes;   /* for them and who comes */
    int64_t claimed; /* what others on their way have; once they run they can be asked to give some */
};

static void field_done(struct field *f)
{
    free(f->vms);
}
#define AUTO_FIELD __attribute__((cleanup(field_done)))

/* With `newcomer` (NULL: none) as the last. */
static bool look(struct server *server, const struct snapshot *snap, struct ref ref,
                 const struct vm_row *newcomer, struct field *f)
{
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, ref));
    size_t most = host && host->resident_VMs ? host->resident_VMs->count : 0;
    if (!host)
        return false;
    f->vms = xcalloc(most + 1, sizeof(*f->vms));
    for (size_t i = 0; i < most; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (vm && !vm->is_control_domain && !(newcomer && ref_eq(vm->row.ref, newcomer->row.ref)))
            f->vms[f->count++] = squeeze_vm_of(snap, vm);
    }
    struct ref self = newcomer ? newcomer->row.ref : REF_NULL;
    if (newcomer)
        f->vms[f->count++] = squeeze_vm_of(snap, newcomer);
    f->claimed = newcomer ? claims_of_others(server->claims, snap, ref, self)
                          : claims_wanted(server->claims, snap, ref);
    f->bytes = placement_guest_memory(snap, host) - f->claimed;
    return true;
}

/* ---- asking ---- */

static void record_target(struct server *server, struct ref vm, int64_t target)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(server->store);
    if (!tx_get(tx, CLASS_VM, vm)) {
        tx_abort(tx);
        return;
    }
    vm_row_mut(tx_edit(tx, CLASS_VM, vm))->memory_target = target;
    if (server_commit(tx, &err) < 0)
        log_warn("balance", "a memory target could not be recorded", "vm", OBJECT_TEXT(server, CLASS_VM, vm));
}

static bool ask(struct server *server, const struct snapshot *snap, struct hv_host *agent, struct ref ref,
                int64_t target)
{
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    struct hv_domain_set_memory_args args;
    struct hv_domain_set_memory_result result;
    struct hv_err cause;
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id), .timeout_ms = 5000};
    hv_domain_set_memory_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    args.memory_bytes = target;
    int rc = hv_domain_set_memory(agent, &op, &args, &result, &cause);
    hv_domain_set_memory_args_done(&args);
    if (rc < 0) {
        log_info("balance", "a VM could not be asked for memory", "vm", vm->uuid, "cause", cause.text);
        return false;
    }
    hv_domain_set_memory_result_done(&result);
    log_debug("balance", "a VM is to have other memory", "vm", vm->uuid, "mib", LOG_INT(target / MIB));
    record_target(server, ref, target);
    return true;
}

static void note_keeps(struct server *server, struct ref vm, bool keeps)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(server->store);
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, vm));
    if (!now || now->keeps_memory == keeps) {
        tx_abort(tx);
        return;
    }
    log_info("balance", keeps ? "a VM's guest does not give up memory" : "a VM's guest gives up memory again",
             "vm", now->uuid);
    vm_row_mut(tx_edit(tx, CLASS_VM, vm))->keeps_memory = keeps;
    if (server_commit(tx, &err) < 0)
        log_warn("balance", "whether a guest gives up memory could not be recorded", "vm",
                 OBJECT_TEXT(server, CLASS_VM, vm));
}

/* ---- making room ---- */

/* How one VM comes along. */
struct trial {
    struct ref vm;
    int64_t asked, actual, since_ms;
};

struct room {
    struct call *call;
    const struct vm_row *vm;
    struct ref host;
    struct hv_host *agent;
    struct trial *trials;
    size_t count;
};

static struct trial *trial_of(struct room *room, const struct squeeze_vm *vm)
{
    for (size_t i = 0; i < room->count; i++)
        if (ref_eq(room->trials[i].vm, vm->ref))
            return &room->trials[i];
    room->trials = xreallocarray(room->trials, room->count + 1, sizeof(*room->trials));
    room->trials[room->count] =
        (struct trial){.vm = vm->ref, .actual = vm->actual, .since_ms = clock_mono_ms()};
    return &room->trials[room->count++];
}

/* Asks who has more than its part, and gives up on who does not follow. True: some are still on their way. */
static bool press(struct room *room, const struct snapshot *snap, struct field *f)
{
    struct server *server = room->call->server;
    int64_t now = clock_mono_ms();
    bool moving = false;
    for (size_t i = 0; i + 1 < f->count; i++) {
        struct squeeze_vm *vm = &f->vms[i];
        if (!vm->follows || (vm->actual <= vm->share && vm->target <= vm->share))
            continue;
        struct trial *t = trial_of(room, vm);
        if (vm->target > vm->share && t->asked != vm->share) {
            t->since_ms = now;
            if (!ask(server, snap, room->agent, vm->ref, vm->share)) {
                note_keeps(server, vm->ref, true);
                continue;
            }
            t->asked = vm->share;
        }
        if (vm->actual < t->actual)
            t->since_ms = now;
        t->actual = vm->actual;
        if (now - t->since_ms < STUCK_MS)
            moving = true;
        else if (vm->actual > vm->share + SLACK)
            note_keeps(server, vm->ref, true);
    }
    return moving;
}

static int not_enough(const struct squeeze_vm *vm, int64_t available, struct api_err *err)
{
    char a[24], b[24];
    snprintf(a, sizeof(a), "%" PRId64, vm->min + vm->overhead);
    snprintf(b, sizeof(b), "%" PRId64, available > 0 ? available : 0);
    return err_host_not_enough_free_memory(err, a, b);
}

/* 1: the VM has its room; 0: not yet; -1: it will not. */
static int try(struct room *room, bool last, uint64_t *seen, int64_t *granted, struct api_err *err)
{
    struct server *server = room->call->server;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct field f AUTO_FIELD = {0};
    *seen = snapshot_generation(snap);
    if (!look(server, snap, room->host, room->vm, &f))
        return fail_handle(err, CLASS_host, room->host);
    struct squeeze_vm *self = &f.vms[f.count - 1];
    int64_t left = squeeze_share(f.vms, f.count, f.bytes), available = f.bytes;
    claims_want(server->claims, room->vm->row.ref, self->share + self->overhead);
    for (size_t i = 0; i + 1 < f.count; i++)
        available -= squeeze_now(&f.vms[i]);
    int64_t share = available - self->overhead < self->share ? available - self->overhead : self->share;
    share = share < self->max ? share / MIB * MIB : share;
    bool moving = share < self->share && !last && press(room, snap, &f);
    /* All of its part, or what there is when nobody has more to give. */
    if (!moving && share >= self->min && claims_raise(server, room->vm->row.ref, share + self->overhead)) {
        *granted = share;
        return 1;
    }
    if (last || (!moving && left < 0 && f.claimed == 0))
        return not_enough(self, available, err);
    double gap = (double)(self->share + self->overhead);
    if (!ref_is_null(room->call->task) && available > 0)
        task_progress(server, room->call->task, 0.5 * (double)available / (gap > 0 ? gap : 1));
    return 0;
}

static int make_room(struct room *room, int64_t *granted, struct api_err *err)
{
    struct server *server = room->call->server;
    int64_t deadline = clock_mono_ms() + ROOM_MS;
    for (;;) {
        uint64_t seen;
        int64_t now = clock_mono_ms();
        int rc = try(room, now >= deadline, &seen, granted, err);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
        if (room->call->cancel && *room->call->cancel)
            return err_task_cancelled(err, REF_TEXT(room->call->task));
        if (server->closing)
            return fail_internal(err, "The server is stopping.");
        store_wait(server->store, seen, now + STEP_MS);
    }
}

int balance_make_room(struct call *call, const struct vm_row *vm, struct ref host, struct hv_host *agent,
                      int64_t *granted_bytes, struct api_err *err)
{
    struct room room = {.call = call, .vm = vm, .host = host, .agent = agent};
    int rc = make_room(&room, granted_bytes, err);
    free(room.trials);
    return rc;
}

/* ---- evening out ---- */

static bool is_busy(const struct snapshot *snap, struct ref ref)
{
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    return !vm || (vm->current_operations && vm->current_operations->count);
}

void balance_host(struct server *server, struct ref host, struct hv_host *agent)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct field f AUTO_FIELD = {0};
    if (!look(server, snap, host, NULL, &f) || f.count == 0)
        return;
    squeeze_share(f.vms, f.count, f.bytes);
    int64_t left = f.bytes;
    for (size_t i = 0; i < f.count; i++)
        left -= squeeze_now(&f.vms[i]);
    for (size_t i = 0; i < f.count; i++) {
        const struct squeeze_vm *vm = &f.vms[i];
        const struct vm_row *row = vm_row(snapshot_get(snap, CLASS_VM, vm->ref));
        if (row->keeps_memory && vm->actual <= vm->target + SLACK) {
            note_keeps(server, vm->ref, false);
            continue;
        }
        if (!vm->follows || is_busy(snap, vm->ref))
            continue;
        int64_t target = vm->share;
        if (target > vm->target && target - vm->target > left)
            target = vm->target + (left > 0 ? left / MIB * MIB : 0);
        int64_t change = target > vm->target ? target - vm->target : vm->target - target;
        bool end = target == vm->max || target == vm->min;
        if (change == 0 || (change < SLACK && !end))
            continue;
        if (ask(server, snap, agent, vm->ref, target) && target > vm->target)
            left -= change;
    }
}
