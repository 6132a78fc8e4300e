/* Which agent makes which copy: a disk that a guest writes is copied by its domain's host, with all others of
 * that guest in one call; other disks by any host that sees them. */
#include "disk_copies.h"

#include "../hosts/hosts.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

void disk_copies_init(struct disk_copies *c, struct call *call)
{
    *c = (struct disk_copies){.call = call, .snap = store_snapshot(call->server->store)};
}

static struct disk_copy *add(struct disk_copies *c, size_t *index)
{
    c->items = xreallocarray(c->items, c->count + 1, sizeof(*c->items));
    *index = c->count;
    c->items[c->count] = (struct disk_copy){0};
    uuid_format(ref_new(), c->items[c->count].uuid);
    return &c->items[c->count++];
}

static const struct sr_row *sr_of(const struct disk_copies *c, struct ref sr)
{
    return sr_row(snapshot_get(c->snap, CLASS_SR, sr));
}

static int check_copied_sr(const struct snapshot *snap, struct ref ref, struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    if (!sr)
        return fail_handle(err, CLASS_SR, ref);
    return storage_sr_is_iso(sr) ? err_sr_operation_not_supported(err, REF_TEXT(ref)) : 0;
}

int disk_copies_check(const struct snapshot *snap, struct ref ref, struct ref sr, const struct refusals *all,
                      struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    if (!vdi)
        return fail_handle(err, CLASS_VDI, ref);
    if (refused(all, check_copied_sr(snap, vdi->SR, err), err))
        return -1;
    if (!ref_is_null(sr) && !ref_eq(sr, vdi->SR) && refused(all, check_copied_sr(snap, sr, err), err))
        return -1;
    return vdi->type == VDI_TYPE_CBT_METADATA
               ? err_vdi_incompatible_type(err, REF_TEXT(ref), model_enum_vdi_type.values[vdi->type])
               : 0;
}

int disk_copies_add(struct disk_copies *c, struct ref ref, struct ref sr, size_t *index, struct api_err *err)
{
    if (disk_copies_check(c->snap, ref, sr, NULL, err) < 0)
        return -1;
    const struct vdi_row *vdi = vdi_row(snapshot_get(c->snap, CLASS_VDI, ref));
    struct disk_copy *item = add(c, index);
    item->source = vdi;
    item->sr = ref_is_null(sr) ? vdi->SR : sr;
    return 0;
}

static bool is_tracked(const struct disk_copies *c, const struct disk_copy *item)
{
    return c->snapshots && item->source->cbt_enabled;
}

static int announce(struct disk_copies *c, struct disk_copy *item, struct api_err *err)
{
    if (storage_announce_disk(c->call->server, item->sr, item->uuid, err) < 0)
        return -1;
    item->announced = true;
    return 0;
}

/* After a call to an agent: what is known of the disk now. */
static void note_failure(struct disk_copy *item, const struct hv_err *cause)
{
    item->maybe = cause->kind == HV_ERR_KIND_UNREACHABLE || cause->kind == HV_ERR_KIND_DEADLINE;
}

static void note_made(struct disk_copy *item, const struct disk_info *info)
{
    disk_info_copy(&item->info, info);
    item->made = item->maybe = true;
}

static bool agent_of_host(struct disk_copies *c, struct ref host, struct storage_agent *at)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    struct hv_host *agent = hosts_get(c->call->server->hosts, host, &ignored);
    if (agent)
        *at = (struct storage_agent){c->call->server, host, agent};
    return agent != NULL;
}

int disk_copies_add_new(struct disk_copies *c, struct ref sr, struct ref host, int64_t size_bytes,
                        enum image_format format, size_t *index, struct api_err *err)
{
    const struct sr_row *row = sr_of(c, sr);
    struct hv_disk_create_args args;
    struct hv_disk_create_result made;
    struct hv_err cause;
    struct hosts_op op;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    if (!row)
        return fail_handle(err, CLASS_SR, sr);
    if ((ref_is_null(host) || !agent_of_host(c, host, &at)) &&
        storage_agent_get(c->call->server, c->snap, sr, REF_NULL, &at, err) < 0)
        return -1;
    struct disk_copy *item = add(c, index);
    item->sr = sr;
    if (announce(c, item, err) < 0)
        return -1;
    hosts_op_init(&op, c->call, 0);
    op.op.progress = NULL; /* the steps that take time tell theirs */
    hv_disk_create_args_init(&args);
    str_assign(&args.sr, row->uuid);
    str_assign(&args.disk, item->uuid);
    args.format = format;
    args.virtual_size_bytes = size_bytes;
    int rc = hv_disk_create(at.agent, &op.op, &args, &made, &cause);
    hv_disk_create_args_done(&args);
    if (rc < 0) {
        note_failure(item, &cause);
        return storage_fail(err, at.host, sr, REF_NULL, "", &cause);
    }
    note_made(item, &made.info);
    hv_disk_create_result_done(&made);
    return 0;
}

/* ---- disks of guests that run ---- */

/* The VM that writes the disk now; NULL: none. *reader: one that has it open, to say which host does. */
static const struct vm_row *writer_of(const struct disk_copies *c, const struct vdi_row *vdi,
                                      const struct vm_row **reader)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(c->snap, CLASS_VBD, vdi->VBDs->items[i]));
        const struct vm_row *vm = vbd ? vm_row(snapshot_get(c->snap, CLASS_VM, vbd->VM)) : NULL;
        if (!vm || !vbd->currently_attached || ref_is_null(vm->resident_on))
            continue;
        *reader = vm;
        if (vbd->mode == VBD_MODE_RW)
            return vm;
    }
    return NULL;
}

static int fail_live(const struct disk_copies *c, const struct vm_row *vm, const struct disk_copy *first,
                     const struct hv_err *cause, struct api_err *err)
{
    bool checkpoint = c->memory_of == vm;
    switch (cause->kind) {
    case HV_ERR_KIND_BAD_STATE:
        return err_vm_bad_power_state(err, REF_TEXT(vm->row.ref), "running; paused",
                                      vm->power_state == VM_POWER_STATE_PAUSED ? "paused" : "halted");
    case HV_ERR_KIND_DEVICE_MODEL:
        if (checkpoint)
            return err_vm_checkpoint_suspend_failed(err, REF_TEXT(vm->row.ref));
        return err_vm_snapshot_failed(err);
    case HV_ERR_KIND_CRASHED:
    case HV_ERR_KIND_HALTED:
        return hosts_fail_vm(err, vm->row.ref, vm->resident_on, cause);
    case HV_ERR_KIND_UNSUPPORTED:
        return err_operation_not_allowed(err, cause->text);
    default:
        return storage_fail(err, vm->resident_on, first ? first->sr : REF_NULL,
                            first && first->source ? first->source->row.ref : REF_NULL, "snapshot", cause);
    }
}

/* All disks that this VM writes, and its memory if that is wanted. */
static int make_live(struct disk_copies *c, const struct vm_row *vm, struct api_err *err)
{
    struct hv_domain_snapshot_args args;
    struct hv_domain_snapshot_result result;
    struct hv_err cause;
    struct hosts_op op;
    const struct vm_row *reader;
    struct disk_copy **wanted = xcalloc(c->count + 1, sizeof(struct disk_copy *));
    size_t count = 0;
    hv_domain_snapshot_args_init(&args);
    str_assign(&args.domain, vm->uuid);
    for (size_t i = 0; i < c->count; i++) {
        struct disk_copy *item = &c->items[i];
        if (!item->source || item->made || writer_of(c, item->source, &reader) != vm)
            continue;
        struct snapshot_disk *disk = hv_domain_snapshot_args_add_disks(&args);
        str_assign(&disk->sr, sr_of(c, item->sr)->uuid);
        str_assign(&disk->disk, item->source->uuid);
        str_assign(&disk->new_disk, item->uuid);
        disk->track = item->tracked = is_tracked(c, item);
        wanted[count++] = item;
    }
    if (c->memory_of == vm) {
        str_assign(&args.memory_sr, sr_of(c, c->items[c->memory].sr)->uuid);
        str_assign(&args.memory_disk, c->items[c->memory].uuid);
    }
    args.quiesce = c->quiesce;
    struct hv_host *agent = hosts_get(c->call->server->hosts, vm->resident_on, err);
    int rc = agent ? 0 : -1;
    if (agent) {
        hosts_op_init(&op, c->call, 0);
        rc = hv_domain_snapshot(agent, &op.op, &args, &result, &cause);
        for (size_t i = 0; i < count && rc < 0; i++)
            note_failure(wanted[i], &cause);
        if (rc < 0)
            fail_live(c, vm, count ? wanted[0] : NULL, &cause, err);
        hosts_put(c->call->server->hosts, agent);
    }
    hv_domain_snapshot_args_done(&args);
    if (rc == 0) {
        for (size_t i = 0; i < count && i < result.infos_count; i++)
            note_made(wanted[i], &result.infos[i]);
        c->quiesced = result.quiesced;
        if (c->memory_of == vm)
            c->items[c->memory].info.physical_bytes = result.state_bytes;
        if (result.infos_count != count)
            rc = fail_internal(err, "The host copied another number of disks than it was asked to.");
        hv_domain_snapshot_result_done(&result);
    }
    free(wanted);
    return rc;
}

/* ---- disks at rest ---- */

static enum image_format format_of(const struct vdi_row *vdi)
{
    const char *word = str_map_get(vdi->sm_config, "image-format");
    if (!word)
        word = str_map_get(vdi->sm_config, "type");
    bool raw = vdi->type == VDI_TYPE_SUSPEND || (word && streq(word, "raw"));
    return raw ? IMAGE_FORMAT_RAW : IMAGE_FORMAT_QCOW2;
}

static int make_full(struct disk_copies *c, struct disk_copy *item, const struct storage_agent *at,
                     struct hosts_op *op, struct hv_err *cause)
{
    struct hv_disk_copy_args args;
    struct hv_disk_copy_result made;
    hosts_op_next(op);
    hv_disk_copy_args_init(&args);
    str_assign(&args.sr, sr_of(c, item->source->SR)->uuid);
    str_assign(&args.disk, item->source->uuid);
    str_assign(&args.new_sr, sr_of(c, item->sr)->uuid);
    str_assign(&args.new_disk, item->uuid);
    args.format = format_of(item->source);
    int rc = hv_disk_copy(at->agent, &op->op, &args, &made, cause);
    hv_disk_copy_args_done(&args);
    if (rc == 0) {
        note_made(item, &made.info);
        hv_disk_copy_result_done(&made);
    }
    return rc;
}

static int make_thin(struct disk_copies *c, struct disk_copy *item, const struct storage_agent *at,
                     struct hosts_op *op, struct hv_err *cause)
{
    struct hv_disk_clone_args args;
    struct hv_disk_clone_result made;
    hv_disk_clone_args_init(&args);
    str_assign(&args.sr, sr_of(c, item->sr)->uuid);
    str_assign(&args.disk, item->source->uuid);
    str_assign(&args.new_disk, item->uuid);
    args.track = item->tracked = is_tracked(c, item);
    int rc = hv_disk_clone(at->agent, &op->op, &args, &made, cause);
    hv_disk_clone_args_done(&args);
    if (rc == 0) {
        note_made(item, &made.info);
        hv_disk_clone_result_done(&made);
    }
    return rc;
}

static int find_agent(struct disk_copies *c, const struct disk_copy *item, struct storage_agent *at,
                      struct api_err *err)
{
    const struct vm_row *reader = NULL;
    writer_of(c, item->source, &reader);
    if (reader && ref_eq(item->sr, item->source->SR) && agent_of_host(c, reader->resident_on, at))
        return 0;
    return storage_agent_get(c->call->server, c->snap, item->source->SR, item->sr, at, err);
}

static int make_at_rest(struct disk_copies *c, struct disk_copy *item, enum copy_kind kind, size_t step,
                        struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    struct hosts_op op;
    struct hv_err cause;
    if (!storage_seen_together(c->snap, item->source->SR, item->sr) && !ref_eq(item->source->SR, item->sr))
        return err_not_implemented(err, "VDI.copy between SRs that no host has both attached");
    if (find_agent(c, item, &at, err) < 0)
        return -1;
    hosts_op_init(&op, c->call, 0);
    op.progress_from = (double)step / (double)c->count;
    op.progress_to = (double)(step + 1) / (double)c->count;
    /* A saved memory stays raw, as it was written: thin copies change the format. */
    bool full = kind == COPY_FULL || item->source->type == VDI_TYPE_SUSPEND;
    int rc = full ? -1 : make_thin(c, item, &at, &op, &cause);
    if (full || (rc < 0 && cause.kind == HV_ERR_KIND_UNSUPPORTED)) {
        item->tracked = false;
        rc = make_full(c, item, &at, &op, &cause);
    }
    if (rc < 0) {
        note_failure(item, &cause);
        return storage_fail(err, at.host, item->source->SR, item->source->row.ref,
                            kind == COPY_FULL ? "copy" : "clone", &cause);
    }
    return 0;
}

/* ---- all of them ---- */

static void read_stats(struct disk_copies *c)
{
    for (size_t i = 0; i < c->count; i++) {
        bool known = false;
        for (size_t k = 0; k < i; k++)
            known |= ref_eq(c->items[k].sr, c->items[i].sr);
        AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        if (known || storage_agent_get(c->call->server, c->snap, c->items[i].sr, REF_NULL, &at, &ignored) < 0)
            continue;
        c->items[i].have_stats =
            storage_read_stats(at.agent, sr_of(c, c->items[i].sr)->uuid, &c->items[i].stats);
    }
}

int disk_copies_make(struct disk_copies *c, enum copy_kind kind, struct api_err *err)
{
    for (size_t i = 0; i < c->count; i++)
        if (!c->items[i].announced && announce(c, &c->items[i], err) < 0)
            return -1;
    if (c->memory_of && make_live(c, c->memory_of, err) < 0)
        return -1;
    for (size_t i = 0; i < c->count; i++) {
        const struct vm_row *writer, *reader = NULL;
        if (c->items[i].made)
            continue;
        writer = kind == COPY_THIN ? writer_of(c, c->items[i].source, &reader) : NULL;
        int rc = writer ? make_live(c, writer, err) : make_at_rest(c, &c->items[i], kind, i, err);
        if (rc < 0)
            return -1;
    }
    read_stats(c);
    return 0;
}

struct vdi_row *disk_copies_record(struct disk_copies *c, struct tx *tx, size_t index)
{
    struct disk_copy *item = &c->items[index];
    if (!tx_get(tx, CLASS_SR, item->sr))
        return NULL;
    struct vdi_row *vdi = storage_add_vdi(tx, item->sr, item->uuid, &item->info, item->source);
    vdi->cbt_enabled = item->tracked;
    storage_settle_disk(tx, item->sr, item->uuid);
    if (item->have_stats)
        storage_apply_stats(tx, item->sr, &item->stats);
    return vdi;
}

static void undo(struct disk_copies *c, const struct disk_copy *item)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    struct storage_agent at = {.server = c->call->server};
    const struct sr_row *sr = sr_of(c, item->sr);
    if (item->maybe && storage_agent_get(c->call->server, c->snap, item->sr, REF_NULL, &at, &ignored) < 0)
        log_warn("storage", "a disk made in vain stays until its SR is seen again", "disk", item->uuid);
    storage_undo_disk(&at, sr, item->uuid, item->made ? DISK_MADE : item->maybe ? DISK_MAYBE : DISK_NONE);
    storage_agent_put(&at);
}

void disk_copies_done(struct disk_copies *c, bool kept)
{
    for (size_t i = 0; i < c->count; i++) {
        if (!kept && c->items[i].announced)
            undo(c, &c->items[i]);
        if (c->items[i].made)
            disk_info_done(&c->items[i].info);
    }
    free(c->items);
    snapshot_unref(c->snap);
    *c = (struct disk_copies){0};
}
