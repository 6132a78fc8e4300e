/* Moving a running VM. Two agents work at once: the destination's waits for the domain, the source's sends it
 * (openapi/agent/migration.toml); the source's word says what became of it. See vm_migrate.h for the disks.
 */
#include "vm_migrate.h"

#include "../gate/gate.h"
#include "../gate/task.h"
#include "../hosts/balance.h"
#include "../hosts/claims.h"
#include "../hosts/networks.h"
#include "../plan/domain.h"
#include "../plan/placement.h"
#include "alert.h"
#include "disk_copies.h"
#include "vm_kept.h"
#include "vm_power.h"
#include "vm_record.h"
#include "vm_state.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define KEY_OF "mirror_of" /* in sm_config of a new VDI: the reference of the one that it replaces */
#define KEY_VM "mirror_vm" /* and of the VM */
#define LIMIT_MS (24 * 3600 * 1000)

void journey_done(struct journey *j)
{
    free(j->disks);
    *j = (struct journey){0};
}

/* ---- the two VDIs of a disk that moves ---- */

struct pending {
    const char *vm; /* reference as text */
    struct ref *items;
    size_t count;
};

static bool find_pending(const struct row *row, void *arg)
{
    struct pending *p = arg;
    const char *vm = str_map_get(vdi_row(row)->sm_config, KEY_VM);
    if (vm && streq(vm, p->vm)) {
        p->items = xreallocarray(p->items, p->count + 1, sizeof(*p->items));
        p->items[p->count++] = row->ref;
    }
    return true;
}

static struct ref old_of(const struct vdi_row *vdi)
{
    struct ref old = REF_NULL;
    const char *text = str_map_get(vdi->sm_config, KEY_OF);
    return text && ref_parse(text, &old) ? old : REF_NULL;
}

struct snapshots {
    struct tx *tx;
    struct ref from, to;
    struct ref *items;
    size_t count;
};

static bool find_snapshot(const struct row *row, void *arg)
{
    struct snapshots *s = arg;
    if (ref_eq(vdi_row(row)->snapshot_of, s->from)) {
        s->items = xreallocarray(s->items, s->count + 1, sizeof(*s->items));
        s->items[s->count++] = row->ref;
    }
    return true;
}

static void replace(struct tx *tx, struct ref vm, struct ref old, struct ref new)
{
    struct snapshots s = {.tx = tx, .from = old, .to = new};
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, old));
    AUTO_REF_SET const struct ref_set *vbds = ref_set_ref(vdi ? vdi->VBDs : NULL);
    for (size_t i = 0; vbds && i < vbds->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vbds->items[i]));
        if (vbd && ref_eq(vbd->VM, vm))
            vbd_row_mut(tx_edit(tx, CLASS_VBD, vbd->row.ref))->VDI = new;
    }
    tx_each(tx, CLASS_VDI, find_snapshot, &s);
    for (size_t i = 0; i < s.count; i++)
        vdi_row_mut(tx_edit(tx, CLASS_VDI, s.items[i]))->snapshot_of = new;
    free(s.items);
    storage_discard_vdi(tx, old);
}

/* `wanted` null: all of the VM. */
static struct ref settle_disks(struct tx *tx, struct ref vm, struct ref wanted, bool take)
{
    struct ref result = REF_NULL;
    const char *text = str_new(REF_TEXT(vm));
    struct pending p = {.vm = text};
    tx_each(tx, CLASS_VDI, find_pending, &p);
    for (size_t i = 0; i < p.count; i++) {
        struct ref old = old_of(vdi_row(tx_get(tx, CLASS_VDI, p.items[i])));
        if (!take) {
            storage_discard_vdi(tx, p.items[i]);
            continue;
        }
        struct vdi_row *edit = vdi_row_mut(tx_edit(tx, CLASS_VDI, p.items[i]));
        str_map_del(&edit->sm_config, KEY_OF);
        str_map_del(&edit->sm_config, KEY_VM);
        replace(tx, vm, old, p.items[i]);
        if (ref_is_null(wanted) || ref_eq(old, wanted))
            result = p.items[i];
    }
    free(p.items);
    str_unref(text);
    return result;
}

struct ref vm_migrate_take_disks(struct tx *tx, struct ref vm, struct ref old)
{
    return settle_disks(tx, vm, old, true);
}

void vm_migrate_drop_disks(struct tx *tx, struct ref vm)
{
    settle_disks(tx, vm, REF_NULL, false);
}

void vm_migrate_arrived(struct tx *tx, struct ref ref, struct ref host, const struct domain_info *info)
{
    const struct vm_row *vm = vm_row(tx_get(tx, CLASS_VM, ref));
    const struct host_row *from = host_row(tx_get(tx, CLASS_host, vm->resident_on)),
                          *to = host_row(tx_get(tx, CLASS_host, host));
    AUTO_FREE char *body = xasprintf("VM '%s' migrated from host '%s' to host '%s'", vm->name_label,
                                     from ? from->name_label : "", to ? to->name_label : "");
    alert_add(tx, ALERT_VM_MIGRATED, CLS_VM, vm->uuid, body);
    vm_migrate_take_disks(tx, ref, REF_NULL);
    vm_state_moved(tx, ref, host, info);
}

void vm_migrate_sweep(struct server *server, const struct snapshot *before, struct ref ref)
{
    const struct vm_row *vm = vm_row(snapshot_get(before, CLASS_VM, ref));
    AUTO_SNAPSHOT struct snapshot *now = store_snapshot(server->store);
    for (size_t i = 0; vm && vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(before, CLASS_VBD, vm->VBDs->items[i]));
        const struct vdi_row *vdi = vbd ? vdi_row(snapshot_get(before, CLASS_VDI, vbd->VDI)) : NULL;
        if (vdi && !snapshot_get(now, CLASS_VDI, vdi->row.ref))
            storage_sweep(server, vdi->SR);
    }
    AUTO_STR const char *text = str_new(REF_TEXT(ref));
    struct pending p = {.vm = text};
    snapshot_each(before, CLASS_VDI, find_pending, &p);
    for (size_t i = 0; i < p.count; i++)
        if (!snapshot_get(now, CLASS_VDI, p.items[i]))
            storage_sweep(server, vdi_row(snapshot_get(before, CLASS_VDI, p.items[i]))->SR);
    free(p.items);
}

struct dropping {
    struct ref vm;
};

static void drop_disks(struct tx *tx, void *arg)
{
    vm_migrate_drop_disks(tx, ((const struct dropping *)arg)->vm);
}

static void drop_now(struct call *call, const struct journey *j)
{
    struct dropping d = {j->vm->row.ref};
    if (j->count == 0)
        return;
    server_insist(call->server, drop_disks, &d);
    for (size_t i = 0; i < j->count; i++)
        storage_sweep(call->server, j->disks[i].sr);
}

/* ---- checks ---- */

/* The VM without the disks that come along: what the destination has to have. The caller's count. */
static struct row *judged(const struct journey *j)
{
    struct row *row = row_copy(&j->vm->row);
    struct vm_row *vm = vm_row_mut(row);
    size_t count = 0;
    struct ref *left = xcalloc((vm->VBDs ? vm->VBDs->count : 0) + 1, sizeof(*left));
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        bool goes = false;
        for (size_t k = 0; k < j->count; k++)
            goes |= ref_eq(j->disks[k].vbd->row.ref, vm->VBDs->items[i]);
        if (!goes)
            left[count++] = vm->VBDs->items[i];
    }
    const struct ref_set *set = ref_set_new(left, count);
    ref_set_unref(vm->VBDs);
    vm->VBDs = set;
    free(left);
    return row;
}

int vm_migrate_check(struct call *call, const struct journey *j, struct api_err *err)
{
    struct row *as = judged(j);
    const struct placement p = {.snap = call->snapshot, .vm = vm_row(as)};
    int rc = placement_check(&p, j->host, err);
    row_unref(as);
    return rc;
}

/* ---- doing ---- */

/* The new VDIs, with what they are for. */
static int make_disks(struct call *call, struct journey *j, struct disk_copies *copies, struct api_err *err)
{
    if (j->count == 0)
        return 0;
    for (size_t i = 0; i < j->count; i++) {
        size_t index;
        if (disk_copies_add_new(copies, j->disks[i].sr, j->host, j->disks[i].vdi->virtual_size,
                                IMAGE_FORMAT_QCOW2, &index, err) < 0)
            return -1;
        copies->items[index].source = j->disks[i].vdi;
    }
    struct tx *tx = store_begin(call->server->store);
    for (size_t i = 0; i < j->count; i++) {
        struct vdi_row *vdi = vm_same_domain(tx, j->vm) ? disk_copies_record(copies, tx, i) : NULL;
        if (!vdi) {
            tx_abort(tx);
            return vm_gone(err, j->vm);
        }
        j->disks[i].made = vdi->row.ref;
        str_map_put(&vdi->sm_config, KEY_OF, REF_TEXT(j->disks[i].vdi->row.ref));
        str_map_put(&vdi->sm_config, KEY_VM, REF_TEXT(j->vm->row.ref));
    }
    return server_commit(tx, err);
}

static int patch_disks(struct call *call, const struct journey *j, struct domain_config *config,
                       struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    for (size_t i = 0; i < j->count; i++) {
        const struct vdi_row *made = vdi_row(snapshot_get(snap, CLASS_VDI, j->disks[i].made));
        const struct sr_row *sr = made ? sr_row(snapshot_get(snap, CLASS_SR, made->SR)) : NULL;
        if (!sr)
            return fail_handle(err, CLASS_VDI, j->disks[i].made);
        for (size_t k = 0; k < config->disks_count; k++)
            if (streq(config->disks[k].disk, j->disks[i].vdi->uuid)) {
                str_assign(&config->disks[k].sr, sr->uuid);
                str_assign(&config->disks[k].disk, made->uuid);
            }
    }
    return 0;
}

/* Where the cards lead there. */
static int patch_nics(struct call *call, const struct journey *j, struct hv_host *agent,
                      struct domain_config *config, struct api_err *err)
{
    for (size_t i = 0; j->networks && j->vm->VIFs && i < j->vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(call->snapshot, CLASS_VIF, j->vm->VIFs->items[i]));
        const char *text = vif ? str_map_get(j->networks, REF_TEXT(vif->row.ref)) : NULL;
        struct ref ref;
        if (!text)
            continue;
        const struct network_row *network =
            ref_parse(text, &ref) ? network_row(snapshot_get(call->snapshot, CLASS_network, ref)) : NULL;
        if (!network)
            return err_handle_invalid(err, "network", text);
        if (network_prepare(agent, j->host, call->snapshot, network, err) < 0)
            return -1;
        struct row *other = row_copy(&vif->row);
        vif_row_mut(other)->network = ref;
        int64_t index = strtol(vif->device, NULL, 10);
        int rc = 0;
        for (size_t k = 0; k < config->nics_count && rc == 0; k++)
            if (config->nics[k].index == index)
                rc = plan_nic(call->snapshot, vif_row(other), &config->nics[k], err);
        row_unref(other);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* The destination's part, beside the source's. */
struct receiving {
    struct hv_host *agent;
    struct hv_op op;
    char id[UUID_TEXT_SIZE];
    _Atomic bool cancel;
    struct hv_domain_receive_args args;
    struct hv_domain_receive_result result;
    struct hv_err cause;
    int rc;
};

static void *receive_thread(void *arg)
{
    struct receiving *r = arg;
    r->rc = hv_domain_receive(r->agent, &r->op, &r->args, &r->result, &r->cause);
    return NULL;
}

static int migrate_failed(struct call *call, const struct journey *j, const struct hv_err *sent,
                          const struct receiving *r, struct api_err *err)
{
    char needed[24];
    /* Who refused knows best why. */
    const struct hv_err *cause = r->rc < 0 && r->cause.kind != HV_ERR_KIND_UNREACHABLE &&
                                         r->cause.kind != HV_ERR_KIND_CANCELLED &&
                                         r->cause.kind != HV_ERR_KIND_DEADLINE
                                     ? &r->cause
                                     : sent;
    const char *vm = str_new(REF_TEXT(j->vm->row.ref)), *from = str_new(REF_TEXT(j->vm->resident_on)),
               *to = str_new(REF_TEXT(j->host));
    int rc;
    if (sent->kind == HV_ERR_KIND_CANCELLED)
        rc = err_task_cancelled(err, REF_TEXT(call->task));
    else if (sent->kind == HV_ERR_KIND_NOT_FOUND || sent->kind == HV_ERR_KIND_BAD_STATE ||
             sent->kind == HV_ERR_KIND_CRASHED || sent->kind == HV_ERR_KIND_HALTED)
        rc = hosts_fail_vm(err, j->vm->row.ref, j->vm->resident_on, sent);
    else if (cause->kind == HV_ERR_KIND_FORMAT)
        rc = err_vm_incompatible_with_this_host(err, vm, to, cause->text);
    else if (cause->kind == HV_ERR_KIND_NO_MEMORY) {
        snprintf(needed, sizeof(needed), "%lld", (long long)j->vm->memory_dynamic_max);
        rc = err_host_not_enough_free_memory(err, needed, "less");
    } else {
        rc = err_vm_migrate_failed(err, vm, from, to, cause->text);
    }
    str_unref(vm);
    str_unref(from);
    str_unref(to);
    return rc;
}

static int record_arrival(struct call *call, const struct journey *j, const struct domain_info *info,
                          struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!vm_same_domain(tx, j->vm)) {
        tx_abort(tx);
        return vm_gone(err, j->vm);
    }
    vm_migrate_arrived(tx, j->vm->row.ref, j->host, info);
    for (size_t i = 0; j->networks && i < j->networks->count; i++) {
        struct ref vif, network;
        if (ref_parse(j->networks->pairs[i].key, &vif) && ref_parse(j->networks->pairs[i].value, &network) &&
            tx_get(tx, CLASS_VIF, vif) && tx_get(tx, CLASS_network, network))
            vif_row_mut(tx_edit(tx, CLASS_VIF, vif))->network = network;
    }
    task_note_done(tx, call, call->method->result ? j->vm->row.ref : REF_NULL);
    return server_commit(tx, err);
}

/* Both agents; 0: it runs there. */
static int send_it(struct call *call, const struct journey *j, struct hv_host *source, struct hv_host *dest,
                   struct domain_config *moved, struct api_err *err)
{
    const struct host_row *from = host_row(snapshot_get(call->snapshot, CLASS_host, j->vm->resident_on)),
                          *to = host_row(snapshot_get(call->snapshot, CLASS_host, j->host));
    struct receiving r = {.agent = dest, .rc = -1};
    struct hv_domain_send_args args;
    struct hv_domain_send_result result;
    struct hosts_op op;
    struct hv_err cause = {.kind = HV_ERR_KIND_INTERNAL};
    pthread_t thread;
    uuid_format(ref_new(), r.id);
    r.op = (struct hv_op){.id = r.id, .timeout_ms = LIMIT_MS, .cancel = &r.cancel};
    hv_domain_receive_args_init(&r.args);
    domain_config_done(&r.args.config);
    r.args.config = *moved;
    domain_config_init(moved);
    hv_domain_send_args_init(&args);
    str_assign(&r.args.from, from->uuid);
    str_assign(&args.domain, j->vm->uuid);
    str_assign(&args.ticket, r.id);
    str_assign(&args.to, to->uuid);
    str_assign(&args.address, to->address);
    args.port = to->agent_port;
    for (size_t i = 0; i < j->count; i++) {
        hv_domain_receive_args_add_mirror(&r.args, j->disks[i].vbd->device);
        hv_domain_send_args_add_mirror(&args, j->disks[i].vbd->device);
    }
    int rc = -1;
    bool sent = false;
    if (pthread_create(&thread, NULL, receive_thread, &r) != 0) {
        fail_internal(err, "No thread for a migration.");
    } else {
        hosts_op_init(&op, call, LIMIT_MS);
        rc = hv_domain_send(source, &op.op, &args, &result, &cause);
        if (rc < 0)
            atomic_store(&r.cancel, true); /* it knows by itself, unless it was never asked */
        pthread_join(thread, NULL);
        sent = rc == 0;
        if (sent) {
            log_info("migrate", "a VM went to another host", "vm", j->vm->uuid, "to", to->uuid, "stopped_us",
                     LOG_INT(result.stopped_us), "device_model_us", LOG_INT(result.downtime_us));
            hv_domain_send_result_done(&result);
        }
        if (rc < 0)
            migrate_failed(call, j, &cause, &r, err);
        else if (r.rc == 0)
            rc = record_arrival(call, j, &r.result.info, err);
        else /* it runs there, and that host is looked at */
            rc = err_vm_migrate_failed(err, REF_TEXT(j->vm->row.ref), from->name_label, to->name_label,
                                       r.cause.text);
    }
    /* Where it is not known what became of the VM, its new disks stay until it is. */
    bool unknown = cause.kind == HV_ERR_KIND_UNREACHABLE || cause.kind == HV_ERR_KIND_DEADLINE;
    if (!sent && !unknown)
        drop_now(call, j);
    if (r.rc == 0)
        hv_domain_receive_result_done(&r.result);
    hv_domain_receive_args_done(&r.args);
    hv_domain_send_args_done(&args);
    return rc;
}

static int go(struct call *call, const struct journey *j, struct api_err *err)
{
    struct domain_config config;
    struct row *booted = vm_record_as_booted(j->vm);
    int rc = plan_domain(call->snapshot, vm_row(booted), false, &config, err);
    row_unref(booted);
    if (rc < 0) {
        drop_now(call, j);
        return -1;
    }
    struct hv_host *source = hosts_get(call->server->hosts, j->vm->resident_on, err);
    struct hv_host *dest = source ? networks_host(call->server, j->host, call->snapshot, j->vm, err) : NULL;
    rc = dest && patch_disks(call, j, &config, err) == 0 && patch_nics(call, j, dest, &config, err) == 0 ? 0
                                                                                                         : -1;
    int64_t granted;
    if (rc == 0)
        rc = balance_make_room(call, j->vm, j->host, dest, &granted, err);
    if (rc == 0)
        rc = vm_kept_give(call->snapshot, dest, j->vm, err);
    if (rc == 0) {
        rc = send_it(call, j, source, dest, &config, err);
        vm_kept_drop(rc == 0 ? source : dest, j->vm);
    } else {
        drop_now(call, j);
    }
    domain_config_done(&config);
    if (dest)
        hosts_put(call->server->hosts, dest);
    if (source)
        hosts_put(call->server->hosts, source);
    return rc;
}

static void sweep_old(struct call *call, const struct journey *j)
{
    for (size_t i = 0; i < j->count; i++)
        storage_sweep(call->server, j->disks[i].vdi->SR);
}

int vm_migrate(struct call *call, const struct journey *given, struct api_err *err)
{
    struct journey j = *given;
    struct disk_copies copies;
    struct ref host = j.host;
    struct row *as = judged(&j);
    const struct claims_wish wish = {.host = host, .as = vm_row(as)};
    int rc = claims_take(call->server, j.vm->row.ref, &wish, &host, err);
    row_unref(as);
    if (rc < 0)
        return -1;
    disk_copies_init(&copies, call);
    rc = make_disks(call, &j, &copies, err);
    disk_copies_done(&copies, rc == 0);
    if (rc == 0)
        rc = go(call, &j, err);
    claims_drop(call->server->claims, j.vm->row.ref);
    if (rc == 0)
        sweep_old(call, &j);
    return rc;
}

/* ---- one disk, on its host ---- */

static int move_disk(struct call *call, const struct journey *j, struct ref *result, struct api_err *err)
{
    const struct moving_disk *disk = &j->disks[0];
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct vdi_row *made = vdi_row(snapshot_get(snap, CLASS_VDI, disk->made));
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, disk->sr));
    struct hv_disk_move_args args;
    struct hv_disk_move_result moved;
    struct hosts_op op;
    struct hv_err cause;
    if (!made || !sr)
        return fail_handle(err, CLASS_SR, disk->sr);
    struct hv_host *agent = hosts_get(call->server->hosts, j->host, err);
    if (!agent) {
        drop_now(call, j);
        return -1;
    }
    hosts_op_init(&op, call, LIMIT_MS);
    hv_disk_move_args_init(&args);
    str_assign(&args.domain, j->vm->uuid);
    str_assign(&args.device, disk->vbd->device);
    str_assign(&args.new_sr, sr->uuid);
    str_assign(&args.new_disk, made->uuid);
    int rc = hv_disk_move(agent, &op.op, &args, &moved, &cause);
    hv_disk_move_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0) {
        if (cause.kind != HV_ERR_KIND_UNREACHABLE && cause.kind != HV_ERR_KIND_DEADLINE)
            drop_now(call, j);
        if (cause.kind == HV_ERR_KIND_CANCELLED)
            return err_task_cancelled(err, REF_TEXT(call->task));
        return cause.kind == HV_ERR_KIND_CRASHED || cause.kind == HV_ERR_KIND_HALTED
                   ? hosts_fail_vm(err, j->vm->row.ref, j->host, &cause)
                   : storage_fail(err, j->host, disk->sr, disk->vdi->row.ref, "mirror", &cause);
    }
    hv_disk_move_result_done(&moved);
    struct tx *tx = store_begin(call->server->store);
    *result = vm_migrate_take_disks(tx, j->vm->row.ref, disk->vdi->row.ref);
    task_note_done(tx, call, *result);
    return server_commit(tx, err);
}

int vm_migrate_disk(struct call *call, const struct journey *given, struct ref *result, struct api_err *err)
{
    struct journey j = *given;
    struct disk_copies copies;
    disk_copies_init(&copies, call);
    int rc = make_disks(call, &j, &copies, err);
    disk_copies_done(&copies, rc == 0);
    if (rc == 0)
        rc = move_disk(call, &j, result, err);
    if (rc == 0)
        sweep_old(call, &j);
    return rc;
}

/* ---- VM.pool_migrate ---- */

int handle_vm_pool_migrate(struct call *call, const struct vm_pool_migrate_args *args, struct api_err *err)
{
    const struct vm_row *vm = vm_find(call, args->vm, err);
    if (!vm)
        return -1;
    if (!snapshot_get(call->snapshot, CLASS_host, args->host))
        return fail_handle(err, CLASS_host, args->host);
    if (ref_eq(vm->resident_on, args->host))
        return 0; /* it is there */
    struct journey j = {.vm = vm, .host = args->host};
    return vm_migrate(call, &j, err);
}
