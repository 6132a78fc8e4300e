/* Disks on their way: asked for, and not recorded yet. SR.unfinished_disks names each from before the agent
 * is asked until its row is committed, so that a crash of either side in between leaves no disk that nobody
 * knows: when the SR is attached again or scanned, and now and then while a host of it answers, what no call
 * of this run waits for is removed. */
#include "storage.h"
#include "vdi_upload.h"

#include "../hosts/hosts.h"
#include "../hosts/recover.h"
#include "../server.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>

#define CANCEL_WAIT_MS 20000
#define LIST_MS 5000

/* Names this run of the server. */
static char run_id[UUID_TEXT_SIZE];
static pthread_once_t run_once = PTHREAD_ONCE_INIT;

static void make_run_id(void)
{
    uuid_format(ref_new(), run_id);
}

static const char *this_run(void)
{
    pthread_once(&run_once, make_run_id);
    return run_id;
}

int storage_announce_disk(struct server *server, struct ref sr, const char *uuid, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    if (!tx_get(tx, CLASS_SR, sr)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_SR, sr);
    }
    str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, sr))->unfinished_disks, uuid, this_run());
    return server_commit(tx, err);
}

void storage_settle_disk(struct tx *tx, struct ref sr, const char *uuid)
{
    const struct sr_row *row = sr_row(tx_get(tx, CLASS_SR, sr));
    if (row && str_map_get(row->unfinished_disks, uuid))
        str_map_del(&sr_row_mut(tx_edit(tx, CLASS_SR, sr))->unfinished_disks, uuid);
}

/* True: there certainly is no such disk. */
static bool destroy(struct hv_host *agent, const char *sr_uuid, const char *disk_uuid)
{
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id)};
    struct hv_disk_destroy_args args;
    struct hv_disk_destroy_result result;
    struct hv_err cause;
    hv_disk_destroy_args_init(&args);
    str_assign(&args.sr, sr_uuid);
    str_assign(&args.disk, disk_uuid);
    int rc = hv_disk_destroy(agent, &op, &args, &result, &cause);
    hv_disk_destroy_args_done(&args);
    if (rc == 0)
        hv_disk_destroy_result_done(&result);
    else
        log_error("storage", "a disk that nobody wants could not be removed yet", "sr", sr_uuid, "disk",
                  disk_uuid, "cause", cause.text);
    return rc == 0;
}

/* Gone, or left for a later sweep. */
static void record(struct server *server, struct ref sr, const char *uuid, bool gone)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(server->store);
    if (gone)
        storage_settle_disk(tx, sr, uuid);
    else if (tx_get(tx, CLASS_SR, sr))
        str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, sr))->unfinished_disks, uuid, "");
    if (server_commit(tx, &err) < 0)
        log_error("storage", "what became of a disk could not be recorded", "disk", uuid);
}

void storage_undo_disk(const struct storage_agent *at, const struct sr_row *sr, const char *uuid,
                       enum disk_left left)
{
    bool gone = left == DISK_NONE || (left == DISK_MADE && at->agent && destroy(at->agent, sr->uuid, uuid));
    record(at->server, sr->row.ref, uuid, gone);
    if (left == DISK_MAYBE && at->agent)
        storage_sweep_disks(at->server, sr->row.ref, at->agent);
}

void storage_discard_vdi(struct tx *tx, struct ref ref)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    if (!vdi)
        return;
    if (tx_get(tx, CLASS_SR, vdi->SR))
        str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, vdi->SR))->unfinished_disks, vdi->uuid, "");
    storage_remove_vdi(tx, ref);
}

void storage_sweep(struct server *server, struct ref sr)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    struct sr_stats stats;
    const struct sr_row *row = sr_row(snapshot_get(snap, CLASS_SR, sr));
    if (!row || storage_agent_get(server, snap, sr, REF_NULL, &at, &err) < 0)
        return; /* when the SR is attached again */
    storage_sweep_disks(server, sr, at.agent);
    if (!storage_read_stats(at.agent, row->uuid, &stats))
        return;
    struct tx *tx = store_begin(server->store);
    storage_apply_stats(tx, sr, &stats);
    if (server_commit(tx, &err) < 0)
        log_warn("storage", "the space of an SR could not be recorded", "sr", row->uuid);
}

/* ---- sweeping ---- */

void storage_end_operation(struct hv_host *agent, const char *id)
{
    struct hv_operation_cancel_args cancel;
    struct hv_operation_cancel_result cancelled;
    struct hv_operation_get_args get;
    struct hv_operation_get_result got;
    struct hv_err cause;
    hv_operation_cancel_args_init(&cancel);
    str_assign(&cancel.id, id);
    int rc = hv_operation_cancel(agent, NULL, &cancel, &cancelled, &cause);
    hv_operation_cancel_args_done(&cancel);
    if (rc < 0)
        return; /* what follows will fail too, and tell */
    hv_operation_cancel_result_done(&cancelled);
    hv_operation_get_args_init(&get);
    str_assign(&get.id, id);
    get.wait_ms = CANCEL_WAIT_MS;
    if (hv_operation_get(agent, NULL, &get, &got, &cause) == 0)
        hv_operation_get_result_done(&got);
    hv_operation_get_args_done(&get);
}

/* No call of this run waits for it, nor does anybody send it. */
static bool is_left(struct server *server, const struct str_pair *disk)
{
    if (upload_is_value(disk->value))
        return upload_may_go(server, disk->key, disk->value);
    return !streq(disk->value, this_run()) && !recovery_owns_disk(server, disk->key);
}

static bool makes_left(struct server *server, const struct sr_row *sr, const struct operation_status *op)
{
    for (size_t i = 0; i < op->makes_count; i++)
        for (size_t k = 0; k < sr->unfinished_disks->count; k++)
            if (streq(op->makes[i], sr->unfinished_disks->pairs[k].key) &&
                is_left(server, &sr->unfinished_disks->pairs[k]))
                return true;
    return false;
}

/* Ends what a host still does, or has taken up again after a restart, to make such a disk for a server that
 * is no more or for a call that was given up. False: it does not answer. */
static bool end_operations_on(struct server *server, const struct sr_row *sr, struct hv_host *agent)
{
    struct hv_operation_list_args args;
    struct hv_operation_list_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = LIST_MS};
    hv_operation_list_args_init(&args);
    int rc = hv_operation_list(agent, &op, &args, &result, &cause);
    hv_operation_list_args_done(&args);
    if (rc < 0)
        return false;
    for (size_t i = 0; i < result.operations_count; i++)
        if (makes_left(server, sr, &result.operations[i]))
            storage_end_operation(agent, result.operations[i].id);
    hv_operation_list_result_done(&result);
    return true;
}

/* The same on all hosts that have the SR attached. One that is away may have begun to make a disk and goes on
 * when it is back: until then nobody can say that there is no such disk, so that false stands for it. `agent`
 * is known to be there. */
static bool end_operations(struct server *server, const struct snapshot *snap, const struct sr_row *sr,
                           struct hv_host *agent)
{
    bool all = true;
    for (size_t i = 0; all && sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        if (!pbd || !pbd->currently_attached)
            continue;
        struct hv_host *other = hosts_get(server->hosts, pbd->host, &ignored);
        all = other && (other == agent || storage_host_is_live(snap, pbd->host)) &&
              end_operations_on(server, sr, other);
        if (other)
            hosts_put(server->hosts, other);
    }
    return all;
}

static bool has_left(struct server *server, const struct sr_row *sr)
{
    bool found = false;
    for (size_t i = 0; sr && sr->unfinished_disks && !found && i < sr->unfinished_disks->count; i++)
        found = is_left(server, &sr->unfinished_disks->pairs[i]);
    return found;
}

void storage_sweep_disks(struct server *server, struct ref ref, struct hv_host *agent)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    if (!has_left(server, sr) || !end_operations(server, snap, sr, agent))
        return;
    for (size_t i = 0; i < sr->unfinished_disks->count; i++) {
        const struct str_pair *disk = &sr->unfinished_disks->pairs[i];
        if (!is_left(server, disk))
            continue;
        bool gone = destroy(agent, sr->uuid, disk->key);
        if (gone)
            log_info("storage", "a disk that was never finished is removed", "sr", sr->uuid, "disk",
                     disk->key);
        if (gone || *disk->value)
            record(server, ref, disk->key, gone);
    }
}

/* Of the hosts that have the SR attached one is enough: the first that is live. */
static bool is_first(const struct snapshot *snap, const struct sr_row *sr, struct ref host)
{
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && storage_host_is_live(snap, pbd->host))
            return ref_eq(pbd->host, host);
    }
    return false;
}

void storage_sweep_host(struct server *server, struct ref host)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    for (size_t i = 0; row && row->PBDs && i < row->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, row->PBDs->items[i]));
        const struct sr_row *sr = pbd ? sr_row(snapshot_get(snap, CLASS_SR, pbd->SR)) : NULL;
        if (sr && pbd->currently_attached && has_left(server, sr) && is_first(snap, sr, host))
            storage_sweep(server, sr->row.ref);
    }
}

int storage_destroy_unused(struct server *server, const struct snapshot *snap, struct ref ref)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    if (!sr || (vdi->VBDs && vdi->VBDs->count))
        return 0;
    if (storage_agent_get(server, snap, vdi->SR, REF_NULL, &at, &err) < 0 ||
        !destroy(at.agent, sr->uuid, vdi->uuid))
        return -1;
    struct tx *tx = store_begin(server->store);
    storage_remove_vdi(tx, ref);
    return server_commit(tx, &err);
}
