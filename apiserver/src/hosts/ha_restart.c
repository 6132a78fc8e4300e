/* Protected VMs that ought to run and do not are started, by VM.start in their order; the same whether their
 * host has failed, they ended by themselves, or the server was away meanwhile. A VM that cannot be started,
 * or ends again soon, is tried again later and later, and then no more. */
#include "ha_internal.h"

#include "../gate/session.h"
#include "../handlers/alert.h"
#include "../sequence.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdlib.h>

#define FAILURES_MAX 5
#define LATER_MAX_MS (5 * 60 * 1000)
#define STABLE_FACTOR 12 /* of restart_ms: who ran so long begins with a clean slate */

struct batch {
    struct ha *ha;
};

static struct ha_attempt *attempt_of(struct ha *ha, struct ref vm)
{
    for (size_t i = 0; i < ha->attempt_count; i++)
        if (ref_eq(ha->attempts[i].vm, vm))
            return &ha->attempts[i];
    return NULL;
}

static struct ha_attempt *attempt_add(struct ha *ha, struct ref vm)
{
    ha->attempts = xreallocarray(ha->attempts, ha->attempt_count + 1, sizeof(*ha->attempts));
    ha->attempts[ha->attempt_count] = (struct ha_attempt){.vm = vm};
    return &ha->attempts[ha->attempt_count++];
}

static void tell_failed(struct tx *tx, void *arg)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, *(const struct ref *)arg));
    if (!vm)
        return;
    AUTO_FREE char *body = xasprintf("The protected VM '%s' could not be started again", vm->name_label);
    alert_add(tx, ALERT_HA_PROTECTED_VM_RESTART_FAILED, CLS_VM, vm->uuid, body);
}

/* Of VMs that were tried before: who runs for a while is forgotten, who ended again has failed once more. */
static void review(struct ha *ha, const struct snapshot *snap)
{
    int64_t now = clock_mono_ms(), stable = STABLE_FACTOR * ha->settings.restart_ms;
    for (size_t i = 0; i < ha->attempt_count;) {
        struct ha_attempt *a = &ha->attempts[i];
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, a->vm));
        bool runs = vm && !ref_is_null(vm->resident_on);
        if (runs && !a->started_ms)
            a->started_ms = now;
        if (!vm || !failover_is_protected(vm) || (runs && now > a->started_ms + stable))
            *a = ha->attempts[--ha->attempt_count];
        else
            i++;
    }
}

/* One more try begins: when the next one may be, if this one is of no use. False: no more are made. */
static bool count_attempt(struct ha *ha, struct ref vm)
{
    struct ha_attempt *a = attempt_of(ha, vm);
    bool first = !a;
    if (first)
        a = attempt_add(ha, vm);
    else
        a->failures++;
    int64_t later = ha->settings.restart_ms << (a->failures < 8 ? a->failures : 8);
    a->next_ms = clock_mono_ms() + (later < LATER_MAX_MS ? later : LATER_MAX_MS);
    a->started_ms = 0;
    if (!first && !a->told) {
        a->told = true;
        server_insist(ha->server, tell_failed, &vm);
    }
    if (a->failures == FAILURES_MAX)
        log_error("ha", "a protected VM is not started any more by itself", "vm",
                  OBJECT_TEXT(ha->server, CLASS_VM, vm));
    return a->failures < FAILURES_MAX;
}

/* ---- a batch ---- */

static json_t *params(void *arg, const struct sequence_step *step)
{
    const struct batch *b = arg;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(b->ha->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, step->object));
    const struct pool_row *pool = ha_pool(snap);
    bool wanted = vm && pool && pool->ha_enabled && vm->power_state == VM_POWER_STATE_HALTED &&
                  *vm->ha_restart_priority;
    return wanted ? json_pack("[sbb]", REF_TEXT(step->object), 0, 0) : NULL;
}

static void done(void *arg, const struct sequence_result *result)
{
    struct batch *b = arg;
    struct ha *ha = b->ha;
    log_info("ha", "VMs were started again", "done", LOG_INT(result->done), "failed",
             LOG_INT(result->failed));
    pthread_mutex_lock(&ha->lock);
    ha->restarting = false;
    pthread_cond_broadcast(&ha->changed);
    pthread_mutex_unlock(&ha->lock);
    free(b);
}

static bool open_session(struct ha *ha)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_IDENTITY struct identity who = identity_of_root("ha");
    struct session *session;
    if (ha->session && !ha->session->gone)
        return true;
    if (session_open(ha->server, &who, "ha", &session, &err) < 0) {
        log_warn("ha", "VMs cannot be started again now", "error", err.code);
        return false;
    }
    pthread_mutex_lock(&ha->lock);
    struct session *old = ha->session;
    ha->session = session;
    pthread_mutex_unlock(&ha->lock);
    session_unref(old);
    return true;
}

struct collection {
    struct ha *ha;
    struct sequence_step *steps;
    size_t count;
    int64_t last_order;
};

static void add_step(struct collection *c, const struct vm_row *vm, int64_t order)
{
    c->steps[c->count++] = (struct sequence_step){
        .object = vm->row.ref, .message = "VM.start", .order = order, .delay_s = vm->start_delay};
    c->last_order = order > c->last_order ? order : c->last_order;
}

static bool can_start(const struct vm_row *vm)
{
    return vm && vm->power_state == VM_POWER_STATE_HALTED &&
           !(vm->current_operations && vm->current_operations->count);
}

static bool consider(const struct row *row, void *arg)
{
    struct collection *c = arg;
    const struct vm_row *vm = vm_row(row);
    if (!failover_is_protected(vm) || !can_start(vm))
        return true;
    const struct ha_attempt *a = attempt_of(c->ha, row->ref);
    if (a && (a->failures >= FAILURES_MAX || clock_mono_ms() < a->next_ms))
        return true;
    if (count_attempt(c->ha, row->ref))
        add_step(c, vm, vm->order);
    return true;
}

/* After all protected ones, once. */
static void add_best_effort(struct collection *c, const struct snapshot *snap)
{
    int64_t order = c->last_order + 1;
    for (size_t i = 0; i < c->ha->best_effort_count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, c->ha->best_effort[i]));
        if (can_start(vm) && streq(vm->ha_restart_priority, "best-effort"))
            add_step(c, vm, order);
    }
    c->ha->best_effort_count = 0;
}

void ha_restart(struct ha *ha)
{
    pthread_mutex_lock(&ha->lock);
    bool not_now = ha->restarting || ha->stop || clock_mono_ms() < ha->prevent_until_ms;
    pthread_mutex_unlock(&ha->lock);
    if (not_now)
        return;
    /* Taken now: what the last batch has started runs in it. */
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(ha->server->store);
    review(ha, snap);
    AUTO_FREE struct sequence_step *steps =
        xcalloc(snapshot_count(snap, CLASS_VM) + ha->best_effort_count + 1, sizeof(*steps));
    struct collection c = {.ha = ha, .steps = steps};
    snapshot_each(snap, CLASS_VM, consider, &c);
    add_best_effort(&c, snap);
    if (c.count == 0 || !open_session(ha))
        return;
    struct batch *b = xcalloc(1, sizeof(*b));
    b->ha = ha;
    const struct sequence_spec spec = {
        .server = ha->server, .session = ha->session, .peer = "", .params = params, .done = done, .arg = b};
    pthread_mutex_lock(&ha->lock);
    ha->restarting = true;
    pthread_mutex_unlock(&ha->lock);
    sequence_start(&spec, steps, c.count);
}

void ha_restart_end(struct ha *ha)
{
    session_unref(ha->session);
    free(ha->attempts);
    free(ha->best_effort);
}
