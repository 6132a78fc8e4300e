/* For each domain of the host and for each VM whose row says that it runs there, exactly one of: nothing to
 * do; the row is changed; an operation runs on the VM, whose handler will say what is true. */
#include "reconcile.h"

#include "../handlers/alert.h"
#include "../handlers/storage.h"
#include "../handlers/vm_data.h"
#include "../handlers/vm_kept.h"
#include "../handlers/vm_migrate.h"
#include "../handlers/vm_state.h"
#include "../server.h"
#include "hosts.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>

struct look {
    struct server *server;
    struct ref host;
    struct hv_host *agent;
    struct reconcile *state;
    int busy;
};

void reconcile_done(struct reconcile *state)
{
    free(state->counts);
    *state = (struct reconcile){0};
}

static bool is_busy(const struct vm_row *vm)
{
    return vm->current_operations && vm->current_operations->count;
}

static bool runs_here(const struct vm_row *vm, struct ref host)
{
    return ref_eq(vm->resident_on, host) &&
           (vm->power_state == VM_POWER_STATE_RUNNING || vm->power_state == VM_POWER_STATE_PAUSED);
}

/* What happened, as message name, priority and body. */
static void alert_end(struct tx *tx, const struct vm_row *vm, enum end_reason reason, const char *text)
{
    AUTO_FREE char *body = NULL;
    switch (reason) {
    case END_REASON_GUEST_SHUTDOWN:
    case END_REASON_GUEST_REBOOT:
    case END_REASON_ASKED:
        body = xasprintf("VM '%s' shut down forcibly or from inside: %s", vm->name_label,
                         *text ? text : "powered off");
        alert_add(tx, ALERT_VM_SHUTDOWN, CLS_VM, vm->uuid, body);
        return;
    case END_REASON_NONE:
    case END_REASON_GUEST_CRASH:
    case END_REASON_DEVICE_MODEL_DIED:
    case END_REASON_HOST_RESTARTED:
    case END_REASON_START_FAILED:
    case END_REASON_MIGRATED:
        break;
    }
    body = xasprintf("VM '%s' ended unexpectedly: %s", vm->name_label,
                     *text ? text : "its host no longer runs it");
    alert_add(tx, ALERT_VM_CRASHED, CLS_VM, vm->uuid, body);
}

/* The device model paused it because a disk failed: nobody asked for that, so somebody is told. */
static void alert_paused(struct tx *tx, const struct vm_row *vm, const struct domain_info *info)
{
    const struct vdi_row *vdi = vdi_row(tx_by_uuid(tx, CLASS_VDI, info->paused_disk));
    const struct sr_row *sr = vdi ? sr_row(tx_get(tx, CLASS_SR, vdi->SR)) : NULL;
    AUTO_FREE char *body = xasprintf("VM '%s' was paused: its disk '%s' (%s, in SR '%s') %s. When that is "
                                     "mended, 'xe vm-unpause' lets it go on.",
                                     vm->name_label, vdi ? vdi->name_label : "", info->paused_disk,
                                     sr ? sr->name_label : "", info->paused_text);
    log_warn("hosts", "a VM was paused because a disk failed", "vm", vm->uuid, "name", vm->name_label, "disk",
             info->paused_disk, "sr", sr ? sr->uuid : "", "sr_name", sr ? sr->name_label : "", "text",
             info->paused_text);
    alert_add(tx, ALERT_VM_PAUSED_BY_DISK, CLS_VM, vm->uuid, body);
}

/* What cannot be recorded now is found again by the next look. */
static bool commit(struct look *look, struct tx *tx, const char *what)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) == 0)
        return true;
    log_error("hosts", "what happened on a host could not be recorded", "what", what);
    look->busy++;
    return false;
}

/* The row as it is now, if it is still the one that was compared with the agent's list: a VM that was stopped
 * and started meanwhile is another matter. NULL: look again. */
static const struct vm_row *unchanged(struct look *look, struct tx *tx, const struct vm_row *seen)
{
    const struct vm_row *now = vm_row(tx_get(tx, CLASS_VM, seen->row.ref));
    if (now && now->row.generation == seen->row.generation && !is_busy(now))
        return now;
    look->busy++;
    tx_abort(tx);
    return NULL;
}

static void forget(struct look *look, const char *uuid)
{
    struct hv_domain_forget_args args;
    struct hv_domain_forget_result result;
    struct hv_err err;
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id)};
    hv_domain_forget_args_init(&args);
    str_assign(&args.domain, uuid);
    if (hv_domain_forget(look->agent, &op, &args, &result, &err) < 0)
        log_warn("hosts", "the agent kept the record of an ended domain", "domain", uuid, "cause", err.text);
    else
        hv_domain_forget_result_done(&result);
    hv_domain_forget_args_done(&args);
}

static bool is_live(enum domain_state state)
{
    return state == DOMAIN_STATE_RUNNING || state == DOMAIN_STATE_PAUSED;
}

/* ---- VMs on their way to disk ---- */

enum fate { FATE_UNKNOWN, FATE_UNDER_WAY, FATE_SUSPENDED, FATE_NOT_SUSPENDED };

/* What the agent says of the operation that writes the VM's memory: its id is the uuid of the disk. */
static enum fate suspend_fate(struct look *look, const struct vdi_row *image)
{
    struct hv_operation_get_args args;
    struct hv_operation_get_result result;
    struct hv_err err;
    hv_operation_get_args_init(&args);
    str_assign(&args.id, image->uuid);
    int rc = hv_operation_get(look->agent, NULL, &args, &result, &err);
    hv_operation_get_args_done(&args);
    if (rc < 0)
        return FATE_UNKNOWN;
    enum fate fate = FATE_NOT_SUSPENDED;
    if (result.status.state == OPERATION_STATE_QUEUED || result.status.state == OPERATION_STATE_RUNNING)
        fate = FATE_UNDER_WAY;
    else if (result.status.state == OPERATION_STATE_DONE)
        fate = FATE_SUSPENDED;
    hv_operation_get_result_done(&result);
    return fate;
}

/* The VM has a disk for its memory though its row says that it runs: this server ended in the middle of a
 * suspend. True: there was nothing to do, or it is done. */
static bool settle_suspend(struct look *look, const struct snapshot *snap, const struct vm_row *seen,
                           bool live, bool *halted)
{
    const struct vdi_row *image = vdi_row(snapshot_get(snap, CLASS_VDI, seen->suspend_VDI));
    *halted = true;
    if (!image || !runs_here(seen, look->host))
        return true;
    enum fate fate = suspend_fate(look, image);
    if (fate == FATE_UNKNOWN || fate == FATE_UNDER_WAY || (live && fate == FATE_SUSPENDED)) {
        look->busy++;
        return false;
    }
    *halted = fate == FATE_NOT_SUSPENDED;
    if (*halted && !live)
        return true; /* becoming Halted discards the disk */
    bool taken = vm_kept_take(look->server, look->agent, seen->row.ref, seen);
    struct tx *tx = store_begin(look->server->store);
    const struct vm_row *vm = unchanged(look, tx, seen);
    if (!vm)
        return false;
    if (*halted) {
        vm_row_mut(tx_edit(tx, CLASS_VM, vm->row.ref))->suspend_VDI = REF_NULL;
        storage_discard_vdi(tx, image->row.ref);
    } else {
        AUTO_FREE char *body = xasprintf("VM '%s' suspended", vm->name_label);
        alert_add(tx, ALERT_VM_SUSPENDED, CLS_VM, vm->uuid, body);
        vm_state_suspended(tx, vm->row.ref);
    }
    if (!commit(look, tx, "a suspend that was under way"))
        return false;
    if (taken && !live)
        vm_kept_drop(look->agent, seen);
    return true;
}

static bool operation_on(struct look *look, const char *uuid)
{
    struct hv_operation_list_args args;
    struct hv_operation_list_result result;
    struct hv_err err;
    bool found = false;
    hv_operation_list_args_init(&args);
    int rc = hv_operation_list(look->agent, NULL, &args, &result, &err);
    hv_operation_list_args_done(&args);
    if (rc < 0)
        return true;
    for (size_t i = 0; i < result.operations_count; i++)
        found |= streq(result.operations[i].key, uuid);
    hv_operation_list_result_done(&result);
    return found;
}

static bool record_end(struct look *look, const struct vm_row *seen, enum end_reason reason,
                       const char *text);

/* Whether the VM is live on that host. -1: it does not say. */
static int lives_at(struct look *look, struct ref host, const char *uuid, struct domain_info *info)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    struct hv_domain_info_args args;
    struct hv_domain_info_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = 5000};
    struct hv_host *agent = hosts_get(look->server->hosts, host, &ignored);
    if (!agent)
        return -1;
    hv_domain_info_args_init(&args);
    str_assign(&args.domain, uuid);
    int rc = hv_domain_info(agent, &op, &args, &result, &cause);
    hv_domain_info_args_done(&args);
    hosts_put(look->server->hosts, agent);
    if (rc < 0)
        return cause.kind == HV_ERR_KIND_NOT_FOUND ? 0 : -1;
    bool live = is_live(result.info.state);
    if (live)
        domain_info_copy(info, &result.info);
    hv_domain_info_result_done(&result);
    return live;
}

/* This host has given the VM to another one while this server was away. False: look again. */
static bool record_move(struct look *look, const struct snapshot *snap, const struct vm_row *seen,
                        const struct domain_info *info)
{
    const struct host_row *to = host_row(snapshot_by_uuid(snap, CLASS_host, info->moved_to));
    struct domain_info there;
    if (!runs_here(seen, look->host))
        return true; /* known already */
    int lives = to ? lives_at(look, to->row.ref, seen->uuid, &there) : 0;
    if (lives < 0) {
        look->busy++;
        return false;
    }
    if (lives == 0)
        return record_end(look, seen, END_REASON_NONE, info->end_text);
    struct tx *tx = store_begin(look->server->store);
    const struct vm_row *vm = unchanged(look, tx, seen);
    if (vm)
        vm_migrate_arrived(tx, vm->row.ref, to->row.ref, &there);
    domain_info_done(&there);
    if (!vm || !commit(look, tx, "a migration that was under way"))
        return false;
    vm_migrate_sweep(look->server, snap, seen->row.ref);
    return true;
}

/* A protected VM that ended by itself is to run again, if high availability is on; one whose guest powered
 * off, if the pool says so. */
static bool stays_wanted(const struct look *look, struct tx *tx, enum end_reason reason)
{
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, look->server->pool_ref));
    bool off = reason == END_REASON_GUEST_SHUTDOWN || reason == END_REASON_GUEST_REBOOT;
    return pool && pool->ha_enabled && reason != END_REASON_ASKED &&
           (!off || pool->ha_reboot_vm_on_internal_shutdown);
}

/* The VM ended without this server's doing. False: look again. */
static bool record_end(struct look *look, const struct vm_row *seen, enum end_reason reason, const char *text)
{
    if (!runs_here(seen, look->host))
        return true; /* known already */
    /* What its firmware has written down comes first. If that changes the row, the next look ends the VM. */
    bool taken = vm_kept_take(look->server, look->agent, seen->row.ref, seen);
    struct tx *tx = store_begin(look->server->store);
    const struct vm_row *vm = unchanged(look, tx, seen);
    if (!vm)
        return false;
    log_warn("hosts", "a VM ended by itself", "vm", vm->uuid, "name", vm->name_label, "reason",
             end_reason_name(reason), "text", text);
    alert_end(tx, vm, reason, text);
    vm_state_halted(tx, vm->row.ref);
    if (!stays_wanted(look, tx, reason))
        vm_state_unwanted(tx, seen->row.ref);
    if (!commit(look, tx, "the end of a VM"))
        return false;
    if (taken)
        vm_kept_drop(look->agent, seen);
    return true;
}

/* The guest is over but kept for a look, as its configuration asks: it stands still. */
static void record_kept(struct look *look, const struct vm_row *seen, const struct domain_info *info)
{
    if (!runs_here(seen, look->host) || seen->power_state != VM_POWER_STATE_RUNNING)
        return;
    struct tx *tx = store_begin(look->server->store);
    const struct vm_row *vm = unchanged(look, tx, seen);
    if (!vm)
        return;
    vm_state_paused(tx, vm->row.ref, true);
    alert_end(tx, vm, info->end_reason, info->end_text);
    commit(look, tx, "a VM that ended and is kept");
}

static bool runs_elsewhere(const struct vm_row *vm, struct ref host)
{
    return !ref_is_null(vm->resident_on) && !ref_eq(vm->resident_on, host) && runs_here(vm, vm->resident_on);
}

static void record_live(struct look *look, const struct vm_row *seen, const struct domain_info *info)
{
    if (runs_elsewhere(seen, look->host)) {
        /* Nothing is changed: if it does not run there, that host's own look will say so, and then it is
         * ours. */
        log_error("hosts", "a VM runs on two hosts: end one of its domains by hand", "vm", seen->uuid);
        return;
    }
    struct tx *tx = store_begin(look->server->store);
    const struct vm_row *vm = unchanged(look, tx, seen);
    bool paused = info->state == DOMAIN_STATE_PAUSED;
    if (!vm)
        return;
    if (!runs_here(vm, look->host) || vm->domid != info->domid) {
        log_info("hosts", "a VM runs that the database did not know to run", "vm", vm->uuid);
        if (!ref_eq(vm->resident_on, look->host))
            vm_migrate_take_disks(tx, vm->row.ref, REF_NULL);
        vm_state_running(tx, vm->row.ref, look->host, info);
    } else if ((vm->power_state == VM_POWER_STATE_PAUSED) != paused) {
        if (paused && *info->paused_text)
            alert_paused(tx, vm, info);
        vm_state_paused(tx, vm->row.ref, paused);
    }
    vm_state_guest(tx, seen->row.ref, &info->guest);
    vm_state_drivers(tx, seen->row.ref, info->virtio);
    vm_state_numbers(tx, seen->row.ref, info);
    commit(look, tx, "the state of a VM");
}

/* True when the row needs no change: most looks end here, without a transaction. */
static bool row_is_right(const struct snapshot *snap, const struct vm_row *vm, struct ref host,
                         const struct domain_info *info)
{
    const struct vm_guest_metrics_row *guest =
        vm_guest_metrics_row(snapshot_get(snap, CLASS_VM_guest_metrics, vm->guest_metrics));
    bool paused = info->state == DOMAIN_STATE_PAUSED;
    if (!runs_here(vm, host) || vm->domid != info->domid ||
        (vm->power_state == VM_POWER_STATE_PAUSED) != paused)
        return false;
    if (!vm_state_has_numbers(vm_metrics_row(snapshot_get(snap, CLASS_VM_metrics, vm->metrics)), info))
        return false;
    if (info->virtio && (!guest || !guest->PV_drivers_detected))
        return false;
    if (info->guest.updated == 0)
        return true;
    if (!info->guest.live)
        return !guest || !guest->live;
    return guest && guest->live && guest->last_updated == info->guest.updated;
}

static struct reboot_count *count_of(struct reconcile *state, struct ref vm)
{
    for (size_t i = 0; i < state->count; i++)
        if (ref_eq(state->counts[i].vm, vm))
            return &state->counts[i];
    state->counts = xreallocarray(state->counts, state->count + 1, sizeof(*state->counts));
    state->counts[state->count] = (struct reboot_count){.vm = vm, .domid = -1};
    return &state->counts[state->count++];
}

static void note_reboots(struct look *look, const struct vm_row *vm, const struct domain_info *info)
{
    struct reboot_count *count = count_of(look->state, vm->row.ref);
    if (count->domid != info->domid) {
        count->reboots = info->start_time >= look->state->since ? 0 : info->reboots;
        count->data_version = 0;
    }
    bool news = info->reboots > count->reboots;
    count->domid = info->domid;
    count->reboots = info->reboots;
    if (!news)
        return;
    struct tx *tx = store_begin(look->server->store);
    AUTO_FREE char *body = xasprintf("VM '%s' rebooted", vm->name_label);
    alert_add(tx, ALERT_VM_REBOOTED, CLS_VM, vm->uuid, body);
    commit(look, tx, "a reboot");
    vbd_plug_rebooted(look->server, vm->row.ref);
}

/* What the firmware of a VM that runs has written down is read when the agent says that it is new. */
static void note_kept(struct look *look, const struct vm_row *vm, const struct domain_info *info)
{
    if (!*info->kept_mark || !vm_keeps(vm))
        return;
    struct reboot_count *count = count_of(look->state, vm->row.ref);
    if (!streq(count->kept_mark, info->kept_mark) && vm_kept_take(look->server, look->agent, vm->row.ref, vm))
        snprintf(count->kept_mark, sizeof(count->kept_mark), "%s", info->kept_mark);
}

/* What the guest, or the pool while it ran, has written into the data that they share. */
static void note_data(struct look *look, const struct vm_row *seen, const struct domain_info *info)
{
    struct reboot_count *count = count_of(look->state, seen->row.ref);
    if (count->data_version == info->data_version)
        return;
    struct hv_domain_data_args args;
    struct hv_domain_data_result result;
    struct hv_err cause;
    hv_domain_data_args_init(&args);
    str_assign(&args.domain, info->uuid);
    int rc = hv_domain_data(look->agent, NULL, &args, &result, &cause);
    hv_domain_data_args_done(&args);
    if (rc < 0) {
        look->busy++; /* it ended, which the next look finds; or the agent does not answer */
        return;
    }
    /* Only into the row that was there before the agent was asked: what a client has set since is newer. */
    struct tx *tx = store_begin(look->server->store);
    const struct vm_row *vm = unchanged(look, tx, seen);
    if (vm) {
        vm_data_record(tx, vm->row.ref, result.data);
        if (commit(look, tx, "the data of a guest"))
            count->data_version = result.version;
    }
    hv_domain_data_result_done(&result);
}

static void look_at_domain(struct look *look, const struct snapshot *snap, const struct domain_info *info)
{
    const struct vm_row *vm = vm_row(snapshot_by_uuid(snap, CLASS_VM, info->uuid));
    if (!vm) {
        if (is_live(info->state))
            log_warn("hosts", "a domain runs that belongs to no VM of the pool", "domain", info->uuid);
        else
            forget(look, info->uuid);
        return;
    }
    if (is_busy(vm)) {
        look->busy++;
        return;
    }
    if (is_live(info->state)) {
        bool halted;
        /* Its saved memory is read as long as a resume goes on. */
        if (vm->power_state == VM_POWER_STATE_SUSPENDED && operation_on(look, info->uuid)) {
            look->busy++;
            return;
        }
        if (!ref_is_null(vm->suspend_VDI) && runs_here(vm, look->host)) {
            settle_suspend(look, snap, vm, true, &halted);
            return; /* the change makes another look */
        }
        note_reboots(look, vm, info);
        note_kept(look, vm, info);
        if (!row_is_right(snap, vm, look->host, info))
            record_live(look, vm, info);
        note_data(look, vm, info);
        return;
    }
    if (info->state != DOMAIN_STATE_GONE) {
        record_kept(look, vm, info);
        return;
    }
    if (info->end_reason == END_REASON_MIGRATED) {
        if (record_move(look, snap, vm, info))
            forget(look, info->uuid);
        return;
    }
    if (record_end(look, vm, info->end_reason, info->end_text))
        forget(look, info->uuid);
}

static bool listed(const struct hv_domain_list_result *list, const char *uuid)
{
    for (size_t i = 0; i < list->domains_count; i++)
        if (streq(list->domains[i].uuid, uuid))
            return true;
    return false;
}

/* VMs that should run here and that the agent does not know. */
static void look_for_lost(struct look *look, const struct snapshot *snap,
                          const struct hv_domain_list_result *list)
{
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, look->host));
    for (size_t i = 0; host && host->resident_VMs && i < host->resident_VMs->count; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, host->resident_VMs->items[i]));
        if (!vm || vm->is_control_domain || !runs_here(vm, look->host) || listed(list, vm->uuid))
            continue;
        bool halted;
        if (is_busy(vm))
            look->busy++;
        else if (settle_suspend(look, snap, vm, false, &halted) && halted)
            record_end(look, vm, END_REASON_NONE, "");
    }
}

int reconcile_host(struct server *server, struct ref host, struct hv_host *agent, struct reconcile *state)
{
    struct hv_domain_list_args args;
    struct hv_domain_list_result list;
    struct hv_err err;
    struct hv_op op = {.timeout_ms = 10000};
    struct look look = {.server = server, .host = host, .agent = agent, .state = state};
    if (!state->since)
        state->since = clock_unix_seconds();
    /* The rows first: a VM that starts after this look at them is in the list or busy in the rows. */
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    hv_domain_list_args_init(&args);
    if (hv_domain_list(agent, &op, &args, &list, &err) < 0)
        return -1;
    for (size_t i = 0; i < list.domains_count; i++)
        look_at_domain(&look, snap, &list.domains[i]);
    look_for_lost(&look, snap, &list);
    hv_domain_list_result_done(&list);
    return look.busy;
}
