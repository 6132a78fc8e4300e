/* PBD.*: which hosts see which SR. See storage.h for intent and truth. */
#include "../hosts/ha.h"
#include "../hosts/hosts.h"
#include "alert.h"
#include "checks.h"
#include "storage.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* ---- create, destroy, configuration: rows alone ---- */

static const struct pbd_row *find_between(struct tx *tx, const struct sr_row *sr, struct ref host)
{
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && ref_eq(pbd->host, host))
            return pbd;
    }
    return NULL;
}

int check_pbd_create(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct pbd_row *record = pbd_row(((const struct args_create *)args)->record);
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, record->SR));
    (void)call;
    if (!sr && refused(all, fail_handle(err, CLASS_SR, record->SR), err))
        return -1;
    if (!tx_get(tx, CLASS_host, record->host))
        return fail_handle(err, CLASS_host, record->host);
    if (!sr)
        return 0;
    const struct pbd_row *there = find_between(tx, sr, record->host);
    if (there)
        return err_pbd_exists(err, REF_TEXT(record->SR), REF_TEXT(record->host), REF_TEXT(there->row.ref));
    return 0;
}

int handle_pbd_create(struct call *call, const struct pbd_row *record, struct ref *result,
                      struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct args_create args = {&record->row};
    if (check_pbd_create(call, tx, &args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    struct pbd_row *pbd = pbd_row_mut(tx_create(tx, CLASS_PBD));
    pbd->SR = record->SR;
    pbd->host = record->host;
    str_map_assign(&pbd->device_config, str_map_ref(record->device_config));
    str_map_assign(&pbd->other_config, str_map_ref(record->other_config));
    *result = pbd->row.ref;
    return server_commit(tx, err);
}

int check_pbd_unplugged(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                        struct api_err *err)
{
    struct ref self = ((const struct args_self *)args)->self;
    const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, self));
    (void)call, (void)all;
    if (!pbd)
        return fail_handle(err, CLASS_PBD, self);
    return pbd->currently_attached ? err_operation_not_allowed(err, "The PBD is plugged: unplug it first.")
                                   : 0;
}

int handle_pbd_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_pbd_unplugged(call, tx, args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    tx_delete(tx, CLASS_PBD, args->self);
    return server_commit(tx, err);
}

int handle_pbd_set_device_config(struct call *call, const struct pbd_set_device_config_args *args,
                                 struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (check_pbd_unplugged(call, tx, args, NULL, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    str_map_assign(&pbd_row_mut(tx_edit(tx, CLASS_PBD, args->self))->device_config, str_map_ref(args->value));
    return server_commit(tx, err);
}

/* ---- plug ---- */

static int check_sharable(const struct snapshot *snap, const struct sr_row *sr, const struct pbd_row *self,
                          struct api_err *err)
{
    for (size_t i = 0; !sr->shared && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && !ref_eq(pbd->row.ref, self->row.ref))
            return err_sr_not_sharable(err, REF_TEXT(sr->row.ref), REF_TEXT(self->host));
    }
    return 0;
}

/* Notes the intent and what became of it. */
static int record_plug(struct server *server, struct ref ref, bool wanted, bool attached,
                       const struct sr_stats *stats, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, ref));
    if (!pbd) {
        tx_abort(tx);
        return fail_handle(err, CLASS_PBD, ref);
    }
    if (pbd->attach_wanted != wanted || pbd->currently_attached != attached) {
        struct pbd_row *edit = pbd_row_mut(tx_edit(tx, CLASS_PBD, ref));
        edit->attach_wanted = wanted;
        edit->currently_attached = attached;
    }
    if (stats)
        storage_apply_stats(tx, pbd->SR, stats);
    return server_commit(tx, err);
}

int check_pbd_plug(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                   struct api_err *err)
{
    struct ref self = ((const struct pbd_plug_args *)args)->self;
    const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, self));
    (void)tx;
    if (!pbd)
        return fail_handle(err, CLASS_PBD, self);
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, pbd->SR));
    if (!sr)
        return fail_handle(err, CLASS_SR, pbd->SR);
    if (pbd->currently_attached)
        return 0;
    if (!storage_kind_known(call->snapshot, sr->type) &&
        refused(all, err_sr_unknown_driver(err, sr->type), err))
        return -1;
    return check_sharable(call->snapshot, sr, pbd, err);
}

int handle_pbd_plug(struct call *call, const struct pbd_plug_args *args, struct api_err *err)
{
    if (check_pbd_plug(call, NULL, args, NULL, err) < 0)
        return -1;
    const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, args->self));
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, pbd->SR));
    if (pbd->currently_attached)
        return 0;
    AUTO_STORAGE_AGENT struct storage_agent at = {.server = call->server, .host = pbd->host};
    at.agent = hosts_get(call->server->hosts, pbd->host, err);
    if (!at.agent)
        return -1;
    struct hosts_op op;
    struct sr_stats stats;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    if (storage_attach(at.agent, &op.op, sr->uuid, sr->type, pbd->device_config, &stats, &cause) < 0)
        return storage_fail(err, pbd->host, pbd->SR, REF_NULL, "", &cause);
    if (record_plug(call->server, args->self, true, true, &stats, err) < 0) {
        storage_detach_quietly(at.agent, sr->uuid);
        return -1;
    }
    AUTO_API_ERR struct api_err scan_err = API_ERR_INIT;
    hosts_op_next(&op);
    if (storage_scan(call->server, &at, pbd->SR, &op.op, &scan_err) < 0)
        log_warn("storage", "an SR could not be scanned after its PBD was plugged", "sr", sr->uuid, "error",
                 scan_err.code);
    return 0;
}

/* ---- unplug ---- */

/* Disks of the SR that VMs on this host have. */
static int check_unused(const struct snapshot *snap, const struct sr_row *sr, struct ref host,
                        const struct refusals *all, struct api_err *err)
{
    for (size_t i = 0; sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, sr->VDIs->items[i]));
        for (size_t k = 0; vdi && vdi->VBDs && k < vdi->VBDs->count; k++) {
            const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vdi->VBDs->items[k]));
            const struct vm_row *vm = vbd ? vm_row(snapshot_get(snap, CLASS_VM, vbd->VM)) : NULL;
            if (vm && vbd->currently_attached && ref_eq(vm->resident_on, host) &&
                refused(all, err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "unplug"), err))
                return -1;
        }
    }
    return 0;
}

static int detach(struct call *call, const struct pbd_row *pbd, const struct sr_row *sr, struct api_err *err)
{
    struct hv_host *agent = hosts_get(call->server->hosts, pbd->host, err);
    if (!agent)
        return -1;
    struct hosts_op op;
    struct hv_sr_forget_args args;
    struct hv_sr_forget_result result;
    struct hv_err cause;
    hosts_op_init(&op, call, 0);
    hv_sr_forget_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    int rc = hv_sr_forget(agent, &op.op, &args, &result, &cause);
    hv_sr_forget_args_done(&args);
    hosts_put(call->server->hosts, agent);
    if (rc < 0)
        return storage_fail(err, pbd->host, pbd->SR, REF_NULL, "unplug", &cause);
    hv_sr_forget_result_done(&result);
    return 0;
}

/* High availability is on, and its heartbeat disk is there. */
static bool holds_heartbeat(const struct call *call, const struct sr_row *sr)
{
    struct ha_disk disk;
    const struct pool_row *pool = ha_pool(call->snapshot);
    return pool && pool->ha_enabled && ha_disk_of(call->snapshot, call->server, &disk) &&
           streq(disk.sr, sr->uuid);
}

int check_pbd_unplug(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    struct ref self = ((const struct pbd_unplug_args *)args)->self;
    const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, self));
    (void)tx;
    if (!pbd)
        return fail_handle(err, CLASS_PBD, self);
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, pbd->SR));
    if (sr && holds_heartbeat(call, sr) && refused(all, err_ha_is_enabled(err), err))
        return -1;
    return sr && pbd->currently_attached ? check_unused(call->snapshot, sr, pbd->host, all, err) : 0;
}

int handle_pbd_unplug(struct call *call, const struct pbd_unplug_args *args, struct api_err *err)
{
    if (check_pbd_unplug(call, NULL, args, NULL, err) < 0)
        return -1;
    const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, args->self));
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, pbd->SR));
    if (sr && pbd->currently_attached && detach(call, pbd, sr, err) < 0)
        return -1;
    return record_plug(call->server, args->self, false, false, NULL, err);
}

/* ---- hosts that come ---- */

struct newcomer {
    struct tx *tx;
    struct ref host;
};

static bool link_shared(const struct row *row, void *arg)
{
    const struct newcomer *newcomer = arg;
    const struct sr_row *sr = sr_row(row);
    const struct row *first =
        sr->PBDs && sr->PBDs->count ? tx_get(newcomer->tx, CLASS_PBD, sr->PBDs->items[0]) : NULL;
    if (!sr->shared || !first || find_between(newcomer->tx, sr, newcomer->host))
        return true;
    const struct str_map *config = pbd_row(first)->device_config;
    struct pbd_row *pbd = pbd_row_mut(tx_create(newcomer->tx, CLASS_PBD));
    pbd->SR = sr->row.ref;
    pbd->host = newcomer->host;
    pbd->attach_wanted = true;
    str_map_assign(&pbd->device_config, str_map_ref(config));
    return true;
}

void storage_host_joined(struct tx *tx, struct ref host)
{
    struct newcomer newcomer = {tx, host};
    tx_each(tx, CLASS_SR, link_shared, &newcomer);
}

static void plug_failed(struct server *server, const struct pbd_row *pbd, const struct sr_row *sr,
                        const struct hv_err *cause)
{
    log_error("storage", "an SR could not be attached to a host that connected", "sr", sr->uuid, "cause",
              cause->text);
    if (!pbd->currently_attached)
        return; /* told before */
    struct tx *tx = store_begin(server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, pbd->host));
    if (tx_get(tx, CLASS_PBD, pbd->row.ref))
        pbd_row_mut(tx_edit(tx, CLASS_PBD, pbd->row.ref))->currently_attached = false;
    AUTO_STR const char *body = str_newf("SR %s (%s): %s", sr->name_label, sr->uuid, cause->text);
    if (host)
        alert_add(tx, ALERT_PBD_PLUG_FAILED_ON_SERVER_START, CLS_HOST, host->uuid, body);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) < 0)
        log_error("storage", "that an SR is not attached could not be recorded", "sr", sr->uuid);
}

/* The host has the SR attached: true, unless the PBD was unplugged or destroyed meanwhile. */
static bool record_again(struct server *server, struct ref ref, const struct sr_stats *stats)
{
    struct tx *tx = store_begin(server->store);
    const struct pbd_row *pbd = pbd_row(tx_get(tx, CLASS_PBD, ref));
    if (!pbd || !pbd->attach_wanted) {
        tx_abort(tx);
        return false;
    }
    if (!pbd->currently_attached)
        pbd_row_mut(tx_edit(tx, CLASS_PBD, ref))->currently_attached = true;
    storage_apply_stats(tx, pbd->SR, stats);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) < 0)
        log_error("storage", "that an SR is attached could not be recorded", "pbd",
                  OBJECT_TEXT(server, CLASS_PBD, ref));
    return true;
}

static void attach_again(struct server *server, const struct snapshot *snap, const struct pbd_row *pbd,
                         struct hv_host *agent)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, pbd->SR));
    if (!sr)
        return;
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id)};
    struct sr_stats stats;
    struct hv_err cause;
    if (storage_attach(agent, &op, sr->uuid, sr->type, pbd->device_config, &stats, &cause) == 0) {
        if (!record_again(server, pbd->row.ref, &stats))
            storage_detach_quietly(agent, sr->uuid);
        else
            storage_sweep_disks(server, pbd->SR, agent);
    } else if (cause.kind == HV_ERR_KIND_UNREACHABLE || cause.kind == HV_ERR_KIND_DEADLINE) {
        log_warn("storage", "a host went away before its SR was attached", "sr", sr->uuid, "cause",
                 cause.text);
    } else {
        plug_failed(server, pbd, sr, &cause);
    }
}

void storage_host_connected(struct server *server, struct ref host, struct hv_host *agent)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    for (size_t i = 0; row && row->PBDs && i < row->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, row->PBDs->items[i]));
        if (pbd && pbd->attach_wanted)
            attach_again(server, snap, pbd, agent);
    }
}
