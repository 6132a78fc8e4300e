/* VDI.*: disks. A new one is made by the agent first and recorded then; whatever fails in between, the disk
 * goes again. The gate marks the operation on a VDI that exists. */
#include "../gate/task.h"
#include "../hosts/hosts.h"
#include "../rules/vdi_size.h"
#include "checks.h"
#include "storage.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdio.h>

/* What most messages begin with: the rows, and an agent that sees them. */
struct target {
    struct snapshot *snap; /* of now: a call may come here for a disk that it made itself */
    const struct vdi_row *vdi;
    const struct sr_row *sr;
    struct storage_agent at;
    struct hosts_op op;
};
static void target_done(struct target *t)
{
    storage_agent_put(&t->at);
    snapshot_unref(t->snap);
}
#define AUTO_TARGET __attribute__((cleanup(target_done)))

static int find_rows(struct call *call, struct ref ref, struct target *t, struct api_err *err)
{
    if (!t->snap)
        t->snap = store_snapshot(call->server->store);
    t->vdi = vdi_row(snapshot_get(t->snap, CLASS_VDI, ref));
    if (!t->vdi)
        return fail_handle(err, CLASS_VDI, ref);
    t->sr = sr_row(snapshot_get(t->snap, CLASS_SR, t->vdi->SR));
    return t->sr ? 0 : fail_handle(err, CLASS_SR, t->vdi->SR);
}

/* One call may come here for several disks (VM.clone): each has an operation of its own. */
static void begin_op(struct hosts_op *op, struct call *call)
{
    hosts_op_init(op, call, 0);
    hosts_op_next(op);
}

static int find_target(struct call *call, struct ref ref, struct ref and_sr, struct target *t,
                       struct api_err *err)
{
    if (find_rows(call, ref, t, err) < 0)
        return -1;
    begin_op(&t->op, call);
    return storage_agent_get(call->server, t->snap, t->vdi->SR, and_sr, &t->at, err);
}

static int fail_target(const struct target *t, const char *operation, const struct hv_err *cause,
                       struct api_err *err)
{
    return storage_fail(err, t->at.host, t->sr->row.ref, t->vdi->row.ref, operation, cause);
}

static int fail_size(struct api_err *err, const char *why)
{
    AUTO_FREE char *text = xasprintf("VDI Invalid size [%s]", why);
    return storage_fail_backend(err, BACKEND_FAILURE_INVALID_SIZE, text);
}

static int check_writable_sr(const struct sr_row *sr, struct api_err *err)
{
    return storage_sr_is_iso(sr) ? err_sr_operation_not_supported(err, REF_TEXT(sr->row.ref)) : 0;
}

/* How a disk is kept: sm_config:type or sm_config:image-format, else qcow2. */
static int choose_format(const struct str_map *sm_config, enum image_format *format, struct api_err *err)
{
    const char *word = str_map_get(sm_config, "image-format");
    if (!word)
        word = str_map_get(sm_config, "type");
    *format = IMAGE_FORMAT_QCOW2;
    if (!word || streq(word, "qcow2"))
        return 0;
    if (!streq(word, "raw"))
        return err_value_not_supported(err, "sm_config:type", word, "A disk is kept as raw or as qcow2.");
    *format = IMAGE_FORMAT_RAW;
    return 0;
}

/* ---- new disks ---- */

/* A disk that an agent is making or has just made, until its row is on disk. */
struct fresh {
    char uuid[UUID_TEXT_SIZE];
    const struct storage_agent *at;
    const struct sr_row *sr;
};

static int fresh_begin(struct fresh *fresh, const struct storage_agent *at, const struct sr_row *sr,
                       struct api_err *err)
{
    uuid_format(ref_new(), fresh->uuid);
    fresh->at = at;
    fresh->sr = sr;
    return storage_announce_disk(at->server, sr->row.ref, fresh->uuid, err);
}

/* The agent did not make it; whether there is a disk all the same is not known when it fell silent. */
static void fresh_failed(const struct fresh *fresh, const struct hv_err *cause)
{
    bool unknown = cause->kind == HV_ERR_KIND_UNREACHABLE || cause->kind == HV_ERR_KIND_DEADLINE;
    storage_undo_disk(fresh->at, fresh->sr, fresh->uuid, unknown ? DISK_MAYBE : DISK_NONE);
}

/* Takes over `info`. */
static int record_fresh(struct call *call, const struct fresh *fresh, struct disk_info *info,
                        const struct vdi_row *like, struct ref *result, struct api_err *err)
{
    struct sr_stats stats;
    struct ref sr = fresh->sr->row.ref;
    bool have_stats = storage_read_stats(fresh->at->agent, fresh->sr->uuid, &stats);
    struct tx *tx = store_begin(call->server->store);
    int rc;
    if (tx_get(tx, CLASS_SR, sr)) {
        *result = storage_add_vdi(tx, sr, fresh->uuid, info, like)->row.ref;
        task_note_made(tx, call, *result, fresh->uuid);
        storage_settle_disk(tx, sr, fresh->uuid);
        if (have_stats)
            storage_apply_stats(tx, sr, &stats);
        rc = server_commit(tx, err);
    } else {
        tx_abort(tx);
        rc = fail_handle(err, CLASS_SR, sr);
    }
    disk_info_done(info);
    if (rc < 0)
        storage_undo_disk(fresh->at, fresh->sr, fresh->uuid, DISK_MADE);
    else if (call->method)
        failpoint_of("made", call->method->name);
    return rc;
}

static int check_size(int64_t bytes, int64_t *size, struct api_err *err)
{
    *size = 0;
    return vdi_round_size(bytes, size) ? 0 : fail_size(err, "it must be more than 0 and at most 64 TiB");
}

int check_vdi_create(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct vdi_row *record = vdi_row(((const struct args_create *)args)->record);
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, record->SR));
    enum image_format format;
    int64_t size;
    (void)tx;
    if (!sr && refused(all, fail_handle(err, CLASS_SR, record->SR), err))
        return -1;
    if (sr && refused(all, check_writable_sr(sr, err), err))
        return -1;
    if (refused(all, choose_format(record->sm_config, &format, err), err) ||
        refused(all, check_size(record->virtual_size, &size, err), err))
        return -1;
    return sr ? storage_check_reached(call->server, call->snapshot, record->SR, REF_NULL, err) : 0;
}

int handle_vdi_create(struct call *call, const struct vdi_row *record, struct ref *result,
                      struct api_err *err)
{
    const struct args_create asked = {&record->row};
    struct hv_disk_create_args args;
    enum image_format format;
    int64_t size;
    if (check_vdi_create(call, NULL, &asked, NULL, err) < 0 ||
        choose_format(record->sm_config, &format, err) < 0 ||
        check_size(record->virtual_size, &size, err) < 0)
        return -1;
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, record->SR));
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    if (storage_agent_get(call->server, call->snapshot, record->SR, REF_NULL, &at, err) < 0)
        return -1;
    struct fresh fresh;
    struct hosts_op op;
    struct hv_disk_create_result made;
    struct hv_err cause;
    if (fresh_begin(&fresh, &at, sr, err) < 0)
        return -1;
    begin_op(&op, call);
    hv_disk_create_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, fresh.uuid);
    args.format = format;
    args.virtual_size_bytes = size;
    int rc = hv_disk_create(at.agent, &op.op, &args, &made, &cause);
    hv_disk_create_args_done(&args);
    if (rc < 0) {
        fresh_failed(&fresh, &cause);
        return storage_fail(err, at.host, record->SR, REF_NULL, "", &cause);
    }
    return record_fresh(call, &fresh, &made.info, record, result, err);
}

/* ---- destroy, forget ---- */

static int destroy_disk(struct target *t, struct api_err *err)
{
    struct hv_disk_destroy_args args;
    struct hv_disk_destroy_result result;
    struct hv_err cause;
    hv_disk_destroy_args_init(&args);
    str_assign(&args.sr, t->sr->uuid);
    str_assign(&args.disk, t->vdi->uuid);
    t->op.op.cancel = NULL; /* also done for a call that was cancelled and cleans up */
    int rc = hv_disk_destroy(t->at.agent, &t->op.op, &args, &result, &cause);
    hv_disk_destroy_args_done(&args);
    if (rc < 0)
        return fail_target(t, "destroy", &cause, err);
    hv_disk_destroy_result_done(&result);
    return 0;
}

int check_vdi_destroy(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                      struct api_err *err)
{
    AUTO_TARGET struct target t = {0};
    (void)tx;
    if (find_rows(call, ((const struct args_self *)args)->self, &t, err) < 0 ||
        refused(all, check_writable_sr(t.sr, err), err))
        return -1;
    return storage_check_reached(call->server, t.snap, t.vdi->SR, REF_NULL, err);
}

int handle_vdi_destroy(struct call *call, const struct args_self *args, struct api_err *err)
{
    AUTO_TARGET struct target t = {0};
    if (check_vdi_destroy(call, NULL, args, NULL, err) < 0 ||
        find_target(call, args->self, REF_NULL, &t, err) < 0)
        return -1;
    if (destroy_disk(&t, err) < 0)
        return -1;
    struct sr_stats stats;
    bool have_stats = storage_read_stats(t.at.agent, t.sr->uuid, &stats);
    struct tx *tx = store_begin(call->server->store);
    storage_remove_vdi(tx, args->self);
    if (call->method && call->method->cls == CLASS_VDI)
        task_note_done(tx, call, REF_NULL);
    if (have_stats)
        storage_apply_stats(tx, t.sr->row.ref, &stats);
    return server_commit(tx, err);
}

int handle_vdi_forget(struct call *call, const struct vdi_forget_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    storage_remove_vdi(tx, args->vdi);
    return server_commit(tx, err);
}

/* ---- size ---- */

static int record_size(struct call *call, struct ref vdi, struct disk_info *info, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    storage_update_vdi(tx, vdi, info);
    disk_info_done(info);
    return server_commit(tx, err);
}

static int check_new_size(const struct vdi_row *vdi, int64_t bytes, int64_t *size, struct api_err *err)
{
    if (check_size(bytes, size, err) < 0)
        return -1;
    return *size < vdi->virtual_size ? fail_size(err, "shrinking is not allowed") : 0;
}

int check_vdi_resize(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct vdi_resize_args *asked = args;
    AUTO_TARGET struct target t = {0};
    int64_t size;
    (void)tx;
    if (find_rows(call, asked->vdi, &t, err) < 0 || refused(all, check_writable_sr(t.sr, err), err) ||
        refused(all, check_new_size(t.vdi, asked->size, &size, err), err))
        return -1;
    return storage_check_reached(call->server, t.snap, t.vdi->SR, REF_NULL, err);
}

int handle_vdi_resize(struct call *call, const struct vdi_resize_args *args, struct api_err *err)
{
    AUTO_TARGET struct target t = {0};
    int64_t size;
    if (check_vdi_resize(call, NULL, args, NULL, err) < 0 ||
        find_target(call, args->vdi, REF_NULL, &t, err) < 0 ||
        check_new_size(t.vdi, args->size, &size, err) < 0)
        return -1;
    struct hv_disk_resize_args resize;
    struct hv_disk_resize_result result;
    struct hv_err cause;
    hv_disk_resize_args_init(&resize);
    str_assign(&resize.sr, t.sr->uuid);
    str_assign(&resize.disk, t.vdi->uuid);
    resize.virtual_size_bytes = size;
    int rc = hv_disk_resize(t.at.agent, &t.op.op, &resize, &result, &cause);
    hv_disk_resize_args_done(&resize);
    if (rc < 0)
        return fail_target(&t, "resize", &cause, err);
    return record_size(call, args->vdi, &result.info, err);
}

int storage_read_info(const struct storage_agent *at, const struct sr_row *sr, const char *disk,
                      const char *iso, struct disk_info *info, struct hv_err *cause)
{
    struct hv_disk_info_args args;
    struct hv_disk_info_result result;
    hv_disk_info_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    str_assign(&args.iso, iso);
    int rc = hv_disk_info(at->agent, NULL, &args, &result, cause);
    hv_disk_info_args_done(&args);
    if (rc == 0)
        *info = result.info;
    return rc;
}

int handle_vdi_update(struct call *call, const struct vdi_update_args *args, struct api_err *err)
{
    AUTO_TARGET struct target t = {0};
    struct disk_info info;
    struct hv_err cause;
    const char *disk, *iso;
    if (find_target(call, args->vdi, REF_NULL, &t, err) < 0)
        return -1;
    if (t.vdi->type == VDI_TYPE_CBT_METADATA)
        return 0; /* nothing of it changes */
    storage_disk_name(t.sr, t.vdi, &disk, &iso);
    if (storage_read_info(&t.at, t.sr, disk, iso, &info, &cause) < 0)
        return fail_target(&t, "update", &cause, err);
    return record_size(call, args->vdi, &info, err);
}

/* ---- introduce ---- */

/* In a file SR the location is the disk's uuid, and that of the VDI. */
static int introduced_uuid(const struct sr_row *sr, const struct vdi_introduce_args *args,
                           char uuid[UUID_TEXT_SIZE], struct api_err *err)
{
    struct ref given = ref_new();
    const char *word = storage_sr_is_iso(sr) || *args->uuid ? args->uuid : args->location;
    if (*word && !uuid_parse(word, &given))
        return err_uuid_invalid(err, "VDI", word);
    uuid_format(given, uuid);
    if (!storage_sr_is_iso(sr) && *args->location && !streq(args->location, uuid))
        return err_vdi_location_missing(err, REF_TEXT(sr->row.ref), args->location);
    return 0;
}

static int check_new_location(struct tx *tx, const struct sr_row *sr, const char *uuid, const char *location,
                              struct api_err *err)
{
    if (tx_by_uuid(tx, CLASS_VDI, uuid))
        return err_location_not_unique(err, REF_TEXT(sr->row.ref), location);
    for (size_t i = 0; sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, sr->VDIs->items[i]));
        if (vdi && streq(vdi->location, location))
            return err_location_not_unique(err, REF_TEXT(sr->row.ref), location);
    }
    return 0;
}

static int record_introduced(struct call *call, const struct vdi_introduce_args *args, const char *uuid,
                             const struct disk_info *info, struct ref *result, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, args->SR));
    int rc = sr ? check_new_location(tx, sr, uuid, *info->uuid ? info->uuid : info->name, err)
                : fail_handle(err, CLASS_SR, args->SR);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    struct vdi_row *vdi = storage_add_vdi(tx, args->SR, uuid, info, NULL);
    str_assign(&vdi->name_label, args->name_label);
    str_assign(&vdi->name_description, args->name_description);
    vdi->type = args->type;
    vdi->sharable = args->sharable;
    vdi->read_only = args->read_only || info->read_only;
    str_map_assign(&vdi->other_config, str_map_ref(args->other_config));
    str_map_assign(&vdi->xenstore_data, str_map_ref(args->xenstore_data));
    str_map_assign(&vdi->sm_config, str_map_ref(args->sm_config));
    *result = vdi->row.ref;
    return server_commit(tx, err);
}

int handle_vdi_introduce(struct call *call, const struct vdi_introduce_args *args, struct ref *result,
                         struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(call->snapshot, CLASS_SR, args->SR));
    char uuid[UUID_TEXT_SIZE];
    struct disk_info info;
    struct hv_err cause;
    if (!sr)
        return fail_handle(err, CLASS_SR, args->SR);
    if (introduced_uuid(sr, args, uuid, err) < 0)
        return -1;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    if (storage_agent_get(call->server, call->snapshot, args->SR, REF_NULL, &at, err) < 0)
        return -1;
    bool iso = storage_sr_is_iso(sr);
    if (storage_read_info(&at, sr, iso ? "" : uuid, iso ? args->location : "", &info, &cause) < 0) {
        if (cause.kind == HV_ERR_KIND_NOT_FOUND)
            return err_vdi_location_missing(err, REF_TEXT(args->SR), args->location);
        return storage_fail(err, at.host, args->SR, REF_NULL, "", &cause);
    }
    int rc = record_introduced(call, args, uuid, &info, result, err);
    disk_info_done(&info);
    return rc;
}
