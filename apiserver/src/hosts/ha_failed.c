/* A host that has failed: first it is made sure that its guests are gone, then its VMs are recorded as
 * halted, those with a restart priority are started elsewhere (ha_restart.c), and the host is armed anew when
 * it is back. */
#include "ha_internal.h"

#include "../handlers/alert.h"
#include "../handlers/vm_state.h"
#include "facts.h"
#include "hosts.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>

#define EXCLUDE_MS 10000 /* other hosts are to be judged meanwhile */

struct signs {
    bool answers, ended, silent, off;
    enum ha_state state;
    int64_t sequence;
    struct ref silent_by;
};

static struct signs signs_of(struct ha_peer *peer)
{
    pthread_mutex_lock(&peer->ha->lock);
    struct signs s = {.answers = peer->answers,
                      .ended = peer->ended,
                      .silent = peer->silent,
                      .off = peer->off,
                      .state = peer->state,
                      .sequence = peer->sequence,
                      .silent_by = peer->silent_by};
    pthread_mutex_unlock(&peer->ha->lock);
    return s;
}

/* Nothing that was asked before counts any more. */
static void begin_anew(struct ha_peer *peer)
{
    pthread_mutex_lock(&peer->ha->lock);
    peer->since_ms = peer->last_sign_ms = clock_mono_ms();
    peer->seen = peer->ended = peer->silent = peer->off = false;
    peer->stamp = 0;
    peer->state = HA_STATE_ARMED;
    pthread_mutex_unlock(&peer->ha->lock);
    peer->failed = peer->recorded = false;
}

/* The verdict is on the disk before the slot is read for the last time: a host that wakes up finds it. False:
 * the host lives after all, or it is not known. */
static bool exclude(struct ha_peer *peer, const struct signs *s)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct hv_ha_exclude_args args;
    struct hv_ha_exclude_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(peer->ha->server->hosts, s->silent_by, &err);
    if (!agent)
        return false;
    hv_ha_exclude_args_init(&args);
    str_assign(&args.host, peer->uuid);
    args.sequence = s->sequence;
    const struct hv_op op = {.timeout_ms = EXCLUDE_MS};
    int rc = hv_ha_exclude(agent, &op, &args, &result, &cause);
    hv_ha_exclude_args_done(&args);
    hosts_put(peer->ha->server->hosts, agent);
    if (rc < 0) {
        log_warn("ha", "a silent host cannot be excluded", "host", peer->uuid, "cause", cause.text);
        return false;
    }
    bool same = result.slot.sequence == s->sequence || result.slot.state == HA_SLOT_STATE_FENCED;
    hv_ha_exclude_result_done(&result);
    if (same)
        return true;
    pthread_mutex_lock(&peer->ha->lock);
    peer->silent = false; /* it will end its guests, and say so */
    peer->last_sign_ms = clock_mono_ms();
    pthread_mutex_unlock(&peer->ha->lock);
    return false;
}

/* ---- the rows ---- */

struct record {
    struct ha_peer *peer;
    bool fenced; /* by its own word */
    size_t halted, busy;
};

static bool is_busy(const struct vm_row *vm)
{
    return vm->current_operations && vm->current_operations->count;
}

/* VMs with an operation under way are its handler's until that is over: another round does them. */
static void record_failed(struct tx *tx, void *arg)
{
    struct record *r = arg;
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, r->peer->host));
    r->halted = r->busy = 0;
    if (!host)
        return;
    AUTO_REF_SET const struct ref_set *vms = ref_set_ref(host->resident_VMs);
    host_rows_live(tx, r->peer->host, false, 0);
    for (size_t i = 0; vms && i < vms->count; i++) {
        const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, vms->items[i]));
        if (!vm || vm->is_control_domain)
            continue;
        if (is_busy(vm)) {
            r->busy++;
            continue;
        }
        r->halted++;
        vm_state_halted(tx, vm->row.ref);
    }
    if (r->peer->failed)
        return;
    AUTO_FREE char *body =
        xasprintf("Host '%s' has failed; %zu VMs ran there", host->name_label, r->halted + r->busy);
    if (r->fenced)
        alert_add(tx, ALERT_HA_HOST_WAS_FENCED, CLS_HOST, host->uuid, body);
    else
        alert_add(tx, ALERT_HA_HOST_FAILED, CLS_HOST, host->uuid, body);
}

static void keep_best_effort(struct ha *ha, const struct ref_set *vms)
{
    for (size_t i = 0; vms && i < vms->count; i++) {
        ha->best_effort = xreallocarray(ha->best_effort, ha->best_effort_count + 1, sizeof(*ha->best_effort));
        ha->best_effort[ha->best_effort_count++] = vms->items[i];
    }
}

static void fail(struct ha_peer *peer, bool fenced)
{
    struct record r = {.peer = peer, .fenced = fenced};
    failpoint("ha-step:failed");
    server_insist(peer->ha->server, record_failed, &r);
    if (!peer->failed) {
        log_warn("ha", "a host has failed", "host", peer->uuid, "fenced", fenced ? "true" : "false", "vms",
                 LOG_INT(r.halted + r.busy));
        keep_best_effort(peer->ha, peer->best_effort);
        ref_set_unref(TAKE_PTR(peer->best_effort));
    }
    peer->failed = true;
    peer->recorded = r.busy == 0;
}

/* ---- back ---- */

static void record_back(struct tx *tx, void *arg)
{
    const struct ref *host = arg;
    host_rows_live(tx, *host, true, 0);
}

static void arm_again(struct ha_peer *peer)
{
    struct server *server = peer->ha->server;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ha_disk disk;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(server->hosts, peer->host, &err);
    const struct pool_row *pool = ha_pool(snap);
    if (!agent)
        return;
    int rc = -1;
    hv_fail(&cause, HV_ERR_KIND_BAD_STATE, "High availability is off.");
    if (pool && pool->ha_enabled && ha_disk_of(snap, server, &disk))
        rc = ha_arm(agent, &disk, &peer->ha->settings, &cause);
    hosts_put(server->hosts, agent);
    if (rc < 0) {
        log_warn("ha", "a host cannot be armed again", "host", peer->uuid, "cause", cause.text);
        return;
    }
    log_info("ha", "a host is armed again", "host", peer->uuid);
    begin_anew(peer);
    server_insist(server, record_back, &peer->host);
}

/* ---- each round ---- */

/* What would be tried once if the host failed now. */
static void note_best_effort(struct ha_peer *peer)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(peer->ha->server->store);
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, peer->host));
    size_t count = host && host->resident_VMs ? host->resident_VMs->count : 0, n = 0;
    AUTO_FREE struct ref *refs = xcalloc(count + 1, sizeof(*refs));
    for (size_t i = 0; i < count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (vm && streq(vm->ha_restart_priority, "best-effort"))
            refs[n++] = vm->row.ref;
    }
    ref_set_assign(&peer->best_effort, ref_set_new(refs, n));
}

static void tell_late(struct tx *tx, void *arg)
{
    const struct ha_peer *peer = arg;
    alert_add(tx, ALERT_HA_HEARTBEAT_APPROACHING_TIMEOUT, CLS_HOST, peer->uuid,
              "Nothing has been heard of the host for half the time after which it ends its guests");
}

/* Silence is told before it has consequences, once until the next sign of life. */
static void note_late(struct ha_peer *peer)
{
    pthread_mutex_lock(&peer->ha->lock);
    bool late = clock_mono_ms() - peer->last_sign_ms > peer->ha->settings.lease_ms / 2;
    bool news = late && !peer->late && !peer->off;
    peer->late = late;
    pthread_mutex_unlock(&peer->ha->lock);
    if (news)
        server_insist(peer->ha->server, tell_late, peer);
}

void ha_judge(struct ha_peer *peer)
{
    if (!peer->failed)
        note_late(peer);
    struct signs s = signs_of(peer);
    if (peer->failed && !peer->recorded) {
        fail(peer, s.ended);
    } else if (peer->failed) {
        /* Armed: it has lived on, and will find the verdict; then it is fenced. */
        if (s.answers && (s.state == HA_STATE_OFF || (s.state == HA_STATE_FENCED && s.ended)))
            arm_again(peer);
    } else if (s.ended || (s.silent && exclude(peer, &s))) {
        fail(peer, s.ended);
    } else if (s.answers && s.state == HA_STATE_OFF) {
        arm_again(peer);
    } else if (s.state != HA_STATE_FENCED) {
        note_best_effort(peer);
    }
}
