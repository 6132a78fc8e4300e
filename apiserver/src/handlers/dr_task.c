/* DR_task.*: another site's repositories in this pool for the time of a recovery. Those on the whitelist that
 * a host finds are introduced, plugged on every host and scanned; disks that hold a pool's database are told
 * by their content. The end takes out again what no VM uses. */
#include "../dr/database.h"
#include "../gate/gate.h"
#include "storage.h"
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* ---- finding ---- */

/* The uuid of the repository that the coordinator's host finds there; NULL: none. *found is the owner. */
static const char *probe(struct call *call, const struct dr_task_create_args *args, json_t **found,
                         struct api_err *err)
{
    const struct pool_row *pool = pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
    const struct sr_probe_ext_args ext = {
        .host = pool->master, .device_config = args->device_config, .type = args->type};
    const char *uuid = NULL;
    if (handle_sr_probe_ext(call, &ext, found, err) < 0)
        return NULL;
    if (!json_get_string(json_object_get(json_array_get(*found, 0), "sr"), "uuid", &uuid))
        return NULL;
    return uuid;
}

/* ---- bringing in ---- */

struct hosts_found {
    struct ref *refs;
    size_t count;
};

static bool note_host(const struct row *row, void *arg)
{
    struct hosts_found *h = arg;
    h->refs = xreallocarray(h->refs, h->count + 1, sizeof(*h->refs));
    h->refs[h->count++] = row->ref;
    return true;
}

static int plug_on(struct call *call, struct ref sr, struct ref host, const struct str_map *config,
                   struct api_err *err)
{
    struct row *row = row_new(CLASS_PBD, REF_NULL);
    struct pbd_row *record = pbd_row_mut(row);
    struct ref pbd;
    record->SR = sr;
    record->host = host;
    str_map_assign(&record->device_config, str_map_ref(config));
    int rc = handle_pbd_create(call, record, &pbd, err);
    row_unref(row);
    AUTO_JSON json_t *params = rc == 0 ? json_pack("[s]", REF_TEXT(pbd)) : NULL;
    return rc == 0 ? gate_call_within(call, "PBD.plug", params, err) : -1;
}

/* A call on rows of now. */
static struct call fresh_call(struct call *call)
{
    return (struct call){.server = call->server,
                         .session = call->session,
                         .task = call->task,
                         .snapshot = store_snapshot(call->server->store),
                         .cancel = call->cancel};
}

/* Disks with a pool's database are known by their size and their first bytes. */
static void tell_databases(struct call *call, struct ref sr_ref)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, sr_ref));
    for (size_t i = 0; sr && sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, sr->VDIs->items[i]));
        struct pool_copy_head head;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        if (!vdi || vdi->virtual_size != POOL_COPY_DISK_BYTES ||
            database_peek(call->server, vdi->row.ref, &head, &err) <= 0)
            continue;
        struct tx *tx = store_begin(call->server->store);
        if (tx_get(tx, CLASS_VDI, vdi->row.ref)) {
            struct vdi_row *edit = vdi_row_mut(tx_edit(tx, CLASS_VDI, vdi->row.ref));
            AUTO_STR const char *text = str_newf("Database of pool %s", head.pool);
            edit->type = VDI_TYPE_METADATA;
            str_assign(&edit->name_label, "Metadata for DR");
            str_assign(&edit->name_description, text);
        }
        if (server_commit(tx, &err) < 0)
            log_warn("dr", "a disk with a database could not be told", "vdi", vdi->uuid);
    }
}

static int plug_and_scan(struct call *call, struct ref sr, const struct str_map *config, struct api_err *err)
{
    struct hosts_found hosts = {0};
    snapshot_each(call->snapshot, CLASS_host, note_host, &hosts);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < hosts.count; i++)
        rc = plug_on(call, sr, hosts.refs[i], config, err);
    free(hosts.refs);
    if (rc < 0)
        return -1;
    struct call now = fresh_call(call);
    rc = handle_sr_scan(&now, &(struct sr_scan_args){.sr = sr}, err);
    snapshot_unref(now.snapshot);
    if (rc == 0)
        tell_databases(call, sr);
    return rc;
}

/* ---- taking out ---- */

static bool is_used(const struct snapshot *snap, const struct sr_row *sr)
{
    for (size_t i = 0; sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, sr->VDIs->items[i]));
        if (vdi && vdi->VBDs && vdi->VBDs->count)
            return true;
    }
    return false;
}

static int forget(struct call *call, const struct snapshot *snap, const struct sr_row *sr,
                  struct api_err *err)
{
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        AUTO_JSON json_t *params = json_pack("[s]", REF_TEXT(sr->PBDs->items[i]));
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && gate_call_within(call, "PBD.unplug", params, err) < 0)
            return -1;
    }
    AUTO_JSON json_t *params = json_pack("[s]", REF_TEXT(sr->row.ref));
    return gate_call_within(call, "SR.forget", params, err);
}

static void forget_quietly(struct call *call, struct ref ref)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    if (sr && forget(call, snap, sr, &err) < 0)
        log_warn("dr", "a repository that was brought in could not be taken out", "sr", sr->uuid, "error",
                 err.code);
}

/* ---- messages ---- */

static int make_task(struct call *call, struct ref sr, struct ref *result, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    *result = tx_create(tx, CLASS_DR_task)->ref;
    if (!ref_is_null(sr) && tx_get(tx, CLASS_SR, sr))
        sr_row_mut(tx_edit(tx, CLASS_SR, sr))->introduced_by = *result;
    return server_commit(tx, err);
}

static int introduce(struct call *call, const struct dr_task_create_args *args, const char *uuid,
                     struct ref *sr, struct api_err *err)
{
    AUTO_STR const char *kept = str_new(uuid), *name = str_new("Introduced for disaster recovery");
    const struct sr_introduce_args introduced = {.uuid = kept,
                                                 .name_label = name,
                                                 .name_description = "",
                                                 .type = args->type,
                                                 .content_type = "",
                                                 .shared = true};
    if (handle_sr_introduce(call, &introduced, sr, err) < 0)
        return -1;
    if (plug_and_scan(call, *sr, args->device_config, err) == 0)
        return 0;
    forget_quietly(call, *sr);
    return -1;
}

int handle_dr_task_create(struct call *call, const struct dr_task_create_args *args, struct ref *result,
                          struct api_err *err)
{
    AUTO_JSON json_t *found = NULL;
    struct ref sr = REF_NULL;
    const char *uuid = probe(call, args, &found, err);
    if (err->desc)
        return -1;
    for (size_t i = 0; args->whitelist && i < args->whitelist->count; i++)
        if (!uuid || !streq(args->whitelist->items[i], uuid))
            return err_uuid_invalid(err, "SR", args->whitelist->items[i]);
    bool wanted = uuid && str_set_has(args->whitelist, uuid);
    bool known = wanted && snapshot_by_uuid(call->snapshot, CLASS_SR, uuid);
    if (wanted && !known && introduce(call, args, uuid, &sr, err) < 0)
        return -1;
    if (make_task(call, sr, result, err) == 0)
        return 0;
    if (!ref_is_null(sr))
        forget_quietly(call, sr);
    return -1;
}

int handle_dr_task_destroy(struct call *call, const struct dr_task_destroy_args *args, struct api_err *err)
{
    const struct dr_task_row *task = dr_task_row(snapshot_get(call->snapshot, CLASS_DR_task, args->self));
    if (!task)
        return fail_handle(err, CLASS_DR_task, args->self);
    for (size_t i = 0; task->introduced_SRs && i < task->introduced_SRs->count; i++) {
        const struct sr_row *sr =
            sr_row(snapshot_get(call->snapshot, CLASS_SR, task->introduced_SRs->items[i]));
        if (sr && !is_used(call->snapshot, sr) && forget(call, call->snapshot, sr, err) < 0)
            return -1;
    }
    struct tx *tx = store_begin(call->server->store);
    if (tx_get(tx, CLASS_DR_task, args->self))
        tx_delete(tx, CLASS_DR_task, args->self);
    return server_commit(tx, err);
}
