/* Policies are keys of other_config, of the VM or else of the pool:
 *   corral:on_host_down  shutdown (default), suspend, hard_shutdown, leave
 *   auto_poweron         true, of both the pool and the VM: it starts when its host comes up
 * A VM that was suspended on the way down is resumed on the way up, by the row's `restore`. */
#include "guests.h"

#include "../gate/session.h"
#include "../gate/work.h"
#include "../sequence.h"
#include "../server.h"
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

#define DOWN_KEY "corral:on_host_down"
#define AUTO_KEY "auto_poweron"
#define RESTORE_RESUME "resume"

struct round {
    struct server *server;
    struct ref host;
    struct session *session;
    struct call *call; /* NULL: the server's own */
    char *boot_id;     /* recorded at the end; NULL: nothing to record */
    bool down, last_resort;
    struct sequence_result before; /* of the first attempt */
    struct sequence_step *steps;
    size_t count, cap;
};

static void round_free(struct round *r)
{
    session_unref(r->session);
    free(r->boot_id);
    free(r->steps);
    free(r);
}

static void add(struct round *r, struct ref vm, const char *message, int64_t order, int64_t delay_s)
{
    if (r->count == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 16;
        r->steps = xreallocarray(r->steps, r->cap, sizeof(*r->steps));
    }
    r->steps[r->count++] =
        (struct sequence_step){.object = vm, .message = message, .order = order, .delay_s = delay_s};
}

static const struct pool_row *the_pool(const struct server *server, const struct snapshot *snap)
{
    return pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
}

static bool is_true(const struct str_map *map, const char *key)
{
    const char *value = str_map_get(map, key);
    return value && (streq(value, "true") || streq(value, "1"));
}

static bool runs(const struct vm_row *vm)
{
    return vm->power_state == VM_POWER_STATE_RUNNING || vm->power_state == VM_POWER_STATE_PAUSED;
}

/* ---- down ---- */

/* NULL: it is left alone. */
static const char *way_down(const struct pool_row *pool, const struct vm_row *vm, bool last_resort)
{
    const char *policy = str_map_get(vm->other_config, DOWN_KEY);
    if (!policy)
        policy = pool ? str_map_get(pool->other_config, DOWN_KEY) : NULL;
    if (policy && streq(policy, "leave"))
        return NULL;
    if (policy && streq(policy, "hard_shutdown"))
        return "VM.hard_shutdown";
    bool suspend = policy && streq(policy, "suspend") && vm->power_state == VM_POWER_STATE_RUNNING;
    return suspend && !last_resort ? "VM.suspend" : "VM.shutdown";
}

static void collect_down(struct round *r, const struct snapshot *snap)
{
    const struct pool_row *pool = the_pool(r->server, snap);
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, r->host));
    r->count = 0;
    for (size_t i = 0; host && host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        const char *message =
            vm && !vm->is_control_domain && runs(vm) ? way_down(pool, vm, r->last_resort) : NULL;
        if (message)
            add(r, vm->row.ref, message, -vm->order, vm->shutdown_delay);
    }
}

struct mark {
    struct ref vm;
    const char *restore;
};

static void set_restore(struct tx *tx, void *arg)
{
    const struct mark *mark = arg;
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, mark->vm));
    if (vm && !streq(vm->restore, mark->restore))
        str_assign(&vm_row_mut(tx_edit(tx, CLASS_VM, mark->vm))->restore, mark->restore);
}

/* ---- up ---- */

/* It ran here last, or nowhere yet and prefers this host or none that is in the pool. */
static bool belongs(const struct snapshot *snap, const struct vm_row *vm, struct ref host)
{
    if (snapshot_get(snap, CLASS_host, vm->last_host))
        return ref_eq(vm->last_host, host);
    return ref_eq(vm->affinity, host) || !snapshot_get(snap, CLASS_host, vm->affinity);
}

struct search {
    struct round *round;
    const struct snapshot *snap;
    bool starts;
};

static bool consider(const struct row *row, void *arg)
{
    struct search *s = arg;
    const struct vm_row *vm = vm_row(row);
    if (vm->is_a_template || vm->is_control_domain || !belongs(s->snap, vm, s->round->host))
        return true;
    if (vm->power_state == VM_POWER_STATE_SUSPENDED && streq(vm->restore, RESTORE_RESUME))
        add(s->round, row->ref, "VM.resume", vm->order, vm->start_delay);
    else if (vm->power_state == VM_POWER_STATE_HALTED && s->starts && is_true(vm->other_config, AUTO_KEY))
        add(s->round, row->ref, "VM.start", vm->order, vm->start_delay);
    return true;
}

static void collect_up(struct round *r, const struct snapshot *snap)
{
    const struct pool_row *pool = the_pool(r->server, snap);
    struct search s = {.round = r, .snap = snap, .starts = pool && is_true(pool->other_config, AUTO_KEY)};
    snapshot_each(snap, CLASS_VM, consider, &s);
}

/* ---- a round ---- */

static json_t *params(void *arg, const struct sequence_step *step)
{
    struct round *r = arg;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, step->object));
    const char *message = step->message;
    if (!vm)
        return NULL;
    if (r->down && (!runs(vm) || !ref_eq(vm->resident_on, r->host)))
        return NULL;
    if (streq(message, "VM.suspend")) {
        struct mark mark = {step->object, RESTORE_RESUME};
        server_insist(r->server, set_restore, &mark);
    }
    if (streq(message, "VM.start"))
        return vm->power_state == VM_POWER_STATE_HALTED ? json_pack("[sbb]", REF_TEXT(step->object), 0, 0)
                                                        : NULL;
    if (streq(message, "VM.resume"))
        return vm->power_state == VM_POWER_STATE_SUSPENDED ? json_pack("[sbb]", REF_TEXT(step->object), 0, 0)
                                                           : NULL;
    return json_pack("[s]", REF_TEXT(step->object));
}

static void begin(struct round *r);

static void record_boot(struct tx *tx, void *arg)
{
    const struct round *r = arg;
    if (tx_get(tx, CLASS_host, r->host))
        str_assign(&host_row_mut(tx_edit(tx, CLASS_host, r->host))->boot_id, r->boot_id);
}

static int tell(struct round *r, const struct sequence_result *result)
{
    struct call *call = r->call;
    if (sequence_cut_short(call, result) < 0)
        return -1;
    if (r->down && result->failed)
        return fail_internal(&call->err, "%zu VMs of the host did not end: %s", result->failed,
                             result->first_code);
    call->result.str = str_newf("%zu VMs %s, %zu failed", result->done,
                                r->down ? "suspended or shut down" : "started or resumed", result->failed);
    call->result_type = call->method->result;
    return 0;
}

/* Off the thread that ended the last call, which holds nothing, but may be one that must not wait: the rest
 * waits for the store. */
static void end(void *arg)
{
    struct round *r = arg;
    struct sequence_result result = r->before;
    struct call *call = r->call;
    log_info("guests", r->down ? "the VMs of a host were taken down" : "the VMs of a host were brought up",
             "host", OBJECT_TEXT(r->server, CLASS_host, r->host), "done", LOG_INT(result.done), "failed",
             LOG_INT(result.failed));
    if (r->boot_id && !result.left_out)
        server_insist(r->server, record_boot, r);
    if (!call)
        session_close(r->server, r->session);
    int rc = call ? tell(r, &result) : 0;
    round_free(r);
    if (call)
        work_end_taken(call, rc);
}

static void done(void *arg, const struct sequence_result *result)
{
    struct round *r = arg;
    bool again = r->down && !r->last_resort && result->failed && !result->left_out;
    r->before = *result;
    if (again) { /* what could not be suspended is shut down */
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
        r->last_resort = true;
        collect_down(r, snap);
        begin(r);
        return;
    }
    if (worker_submit(r->server->workers, end, r) < 0)
        end(r);
}

static void begin(struct round *r)
{
    struct sequence_spec spec =
        r->call ? sequence_spec_of(r->call) : (struct sequence_spec){.server = r->server, .peer = ""};
    spec.session = r->session;
    spec.params = params;
    spec.done = done;
    spec.arg = r;
    sequence_start(&spec, r->steps, r->count);
}

static struct round *round_new(struct server *server, struct ref host, bool down)
{
    struct round *r = xcalloc(1, sizeof(*r));
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    r->server = server;
    r->host = host;
    r->down = down;
    if (down)
        collect_down(r, snap);
    else
        collect_up(r, snap);
    return r;
}

static void take_over(struct call *call, void *arg)
{
    (void)call;
    begin(arg);
}

int guests_plugin(struct call *call, struct ref host, const char *fn, struct api_err *err)
{
    if (!streq(fn, "down") && !streq(fn, "up"))
        return err_xenapi_missing_plugin(err, fn);
    struct round *r = round_new(call->server, host, streq(fn, "down"));
    r->call = call;
    r->session = session_ref(call->session);
    call->take_over = take_over;
    call->take_over_arg = r;
    return 0;
}

void guests_host_connected(struct server *server, struct ref host, const char *boot_id, char begun[static 64])
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_IDENTITY struct identity who = identity_of_root("guests");
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    if (!row || !*boot_id || streq(row->boot_id, boot_id) || streq(begun, boot_id))
        return;
    struct round *r = round_new(server, host, false);
    r->boot_id = xstrdup(boot_id);
    if (!*row->boot_id) { /* it has just joined: nothing ran before */
        server_insist(server, record_boot, r);
        round_free(r);
        return;
    }
    if (session_open(server, &who, "guests", &r->session, &err) < 0) {
        log_warn("guests", "the VMs of a host are not brought up", "host", row->uuid, "error", err.code);
        round_free(r);
        return;
    }
    snprintf(begun, 64, "%s", boot_id);
    log_info("guests", "a host came up", "host", row->uuid, "vms", LOG_INT(r->count));
    begin(r);
}
