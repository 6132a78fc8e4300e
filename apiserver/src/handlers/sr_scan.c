/* SR.scan: what is on an SR against the rows of its VDIs.
 *
 * The list of disks is older than the transaction that compares, and VDIs come and go meanwhile. So a row
 * made since the list was asked for is left alone, and so is a disk whose row went away since. */
#include "storage.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdlib.h>

struct known {
    const char *location; /* borrowed from the row as it was before this transaction's changes */
    struct ref ref;
    bool seen;
};

static int by_location(const void *a, const void *b)
{
    return strcmp(((const struct known *)a)->location, ((const struct known *)b)->location);
}

/* The VDIs of the SR in order of location; the rows stay as long as `rows` is held. */
static struct known *list_known(struct tx *tx, const struct ref_set *vdis, const struct row **rows,
                                size_t *count)
{
    struct known *known = xcalloc((vdis ? vdis->count : 0) + 1, sizeof(*known));
    *count = 0;
    for (size_t i = 0; vdis && i < vdis->count; i++) {
        const struct row *row = tx_get(tx, CLASS_VDI, vdis->items[i]);
        if (!row)
            continue;
        rows[*count] = row_ref(row);
        known[*count] = (struct known){vdi_row(row)->location, row->ref, false};
        ++*count;
    }
    qsort(known, *count, sizeof(*known), by_location);
    return known;
}

static void introduce(struct tx *tx, const struct snapshot *before, const struct sr_row *sr,
                      const struct disk_info *disk)
{
    bool iso = storage_sr_is_iso(sr);
    char fresh[UUID_TEXT_SIZE];
    const char *uuid = iso ? uuid_format(ref_new(), fresh) : disk->uuid;
    if (!*uuid) {
        log_info("storage", "a file that is no disk of ours was left alone", "sr", sr->uuid, "file",
                 disk->name);
        return;
    }
    const struct sr_row *then = sr_row(snapshot_get(before, CLASS_SR, sr->row.ref));
    if (str_map_get(sr->unfinished_disks, uuid) || (then && str_map_get(then->unfinished_disks, uuid)))
        return; /* whoever makes it will add its row, or has removed it since the list was made */
    if (snapshot_by_uuid(before, CLASS_VDI, uuid))
        return; /* destroyed since the list was made */
    const struct vdi_row *other = vdi_row(tx_by_uuid(tx, CLASS_VDI, uuid));
    if (other) {
        log_warn("storage", "a disk has the uuid of a VDI in another SR and was left alone", "sr", sr->uuid,
                 "disk", uuid);
        return;
    }
    struct vdi_row *vdi = storage_add_vdi(tx, sr->row.ref, uuid, disk, NULL);
    if (iso) {
        str_assign(&vdi->name_label, disk->name);
        vdi->read_only = true;
    }
}

static void vanished(struct tx *tx, const struct snapshot *before, const struct sr_row *sr, struct ref ref)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    if (!vdi || vdi->row.created > snapshot_generation(before))
        return;
    if (vdi->type == VDI_TYPE_CBT_METADATA)
        return; /* it has no data */
    if (vdi->current_operations && vdi->current_operations->count)
        return; /* whoever works on it will tell */
    if (storage_sr_is_iso(sr) && !storage_vdi_attached(tx, vdi))
        storage_remove_vdi(tx, ref);
    else if (!vdi->missing)
        vdi_row_mut(tx_edit(tx, CLASS_VDI, ref))->missing = true;
}

/* Begins with the true sum; every change after it adds or takes its part. */
static void recount(struct tx *tx, const struct sr_row *sr)
{
    int64_t sum = 0;
    for (size_t i = 0; sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, sr->VDIs->items[i]));
        sum += vdi ? vdi->virtual_size : 0;
    }
    if (sr->virtual_allocation != sum)
        sr_row_mut(tx_edit(tx, CLASS_SR, sr->row.ref))->virtual_allocation = sum;
}

static void compare(struct tx *tx, const struct snapshot *before, const struct sr_row *sr,
                    const struct hv_sr_scan_result *found)
{
    size_t count, room = sr->VDIs ? sr->VDIs->count : 0;
    AUTO_FREE const struct row **rows = xcalloc(room + 1, sizeof(*rows));
    AUTO_FREE struct known *known = list_known(tx, sr->VDIs, rows, &count);
    for (size_t i = 0; i < found->disks_count; i++) {
        const struct disk_info *disk = &found->disks[i];
        struct known key = {.location = *disk->uuid ? disk->uuid : disk->name};
        struct known *there = bsearch(&key, known, count, sizeof(*known), by_location);
        if (there) {
            there->seen = true;
            storage_update_vdi(tx, there->ref, disk);
        } else {
            introduce(tx, before, sr, disk);
        }
    }
    for (size_t i = 0; i < count; i++)
        if (!known[i].seen)
            vanished(tx, before, sr, known[i].ref);
    for (size_t i = 0; i < count; i++)
        row_unref(rows[i]);
}

static int record(struct server *server, struct ref ref, const struct snapshot *before,
                  const struct hv_sr_scan_result *found, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct row *sr = tx_get(tx, CLASS_SR, ref);
    if (!sr) {
        tx_abort(tx);
        return fail_handle(err, CLASS_SR, ref);
    }
    sr = row_ref(sr); /* as it is now: its set of VDIs changes below */
    recount(tx, sr_row(sr));
    compare(tx, before, sr_row(sr), found);
    row_unref(sr);
    storage_apply_stats(tx, ref, &found->stats);
    return server_commit(tx, err);
}

int storage_scan(struct server *server, const struct storage_agent *at, struct ref ref,
                 const struct hv_op *op, struct api_err *err)
{
    storage_sweep_disks(server, ref, at->agent);
    AUTO_SNAPSHOT struct snapshot *before = store_snapshot(server->store);
    const struct sr_row *sr = sr_row(snapshot_get(before, CLASS_SR, ref));
    if (!sr)
        return fail_handle(err, CLASS_SR, ref);
    struct hv_sr_scan_args args;
    struct hv_sr_scan_result found;
    struct hv_err cause;
    hv_sr_scan_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    int rc = hv_sr_scan(at->agent, op, &args, &found, &cause);
    hv_sr_scan_args_done(&args);
    if (rc < 0)
        return storage_fail(err, at->host, ref, REF_NULL, "", &cause);
    rc = record(server, ref, before, &found, err);
    hv_sr_scan_result_done(&found);
    return rc;
}
