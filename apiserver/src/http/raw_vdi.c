/* PUT /import_raw_vdi and GET /export_raw_vdi: the content of a VDI as bytes of a request or an answer, with
 * an operation marked on the VDI meanwhile. An upload to an SR (sr_id, sr_uuid) makes a VDI of the body's
 * length first. */
#include "raw_vdi.h"
#include "../gate/gate.h"
#include "../handlers/storage.h"
#include "../rules/operations.h"
#include "transfer.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* What is moved: a VDI, or first an SR alone. */
struct raw {
    struct transfer *t;
    enum image_format format;
    struct ref vdi;
    char base[UUID_TEXT_SIZE]; /* only what differs from this VDI is asked for; "": all */
};

const char *raw_formats(bool upload)
{
    return upload ? "it is raw, vhd, qcow2 or vmdk" : "it is raw, vhd or qcow2";
}

bool raw_format_parse(const char *word, bool upload, enum image_format *out)
{
    for (int f = 0; f < IMAGE_FORMAT_COUNT; f++)
        if ((upload || f != IMAGE_FORMAT_VMDK) && streq(word, image_format_name((enum image_format)f))) {
            *out = (enum image_format)f;
            return true;
        }
    return false;
}

const char *raw_format_type(enum image_format format)
{
    static const char *const types[IMAGE_FORMAT_COUNT] = {
        [IMAGE_FORMAT_RAW] = "application/octet-stream",
        [IMAGE_FORMAT_QCOW2] = "application/x-qemu-disk",
        [IMAGE_FORMAT_VHD] = "application/vhd",
        [IMAGE_FORMAT_VMDK] = "application/x-vmdk",
    };
    return types[format];
}

/* ---- before the bytes ---- */

static int choose_format(struct raw *r, struct api_err *err)
{
    /* Parameters that would change what happens, and that nobody wrote yet. */
    const char *const unbuilt = transfer_query(r->t, "chunked")                       ? "chunked"
                                : r->t->kind->uploads && transfer_query(r->t, "base") ? "base"
                                                                                      : NULL;
    if (unbuilt) {
        AUTO_FREE char *what = xasprintf("%s with %s", http_request_path(r->t->req), unbuilt);
        return err_not_implemented(err, what);
    }
    const char *word = transfer_query(r->t, "format");
    if (!word)
        word = "raw";
    if (raw_format_parse(word, r->t->kind->uploads, &r->format))
        return 0;
    return err_value_not_supported(err, "format", word, raw_formats(r->t->kind->uploads));
}

static const struct row *find(struct tx *tx, const struct class_desc *cls, const char *text)
{
    struct ref ref;
    if (ref_parse(text, &ref))
        return tx_get(tx, cls, ref);
    return tx_by_uuid(tx, cls, text);
}

/* Another VDI of the same SR, which is the older one. */
static int choose_base(struct raw *r, const char *vdi_text, struct api_err *err)
{
    const char *text = transfer_query(r->t, "base");
    if (!text)
        return 0;
    if (r->format != IMAGE_FORMAT_VHD)
        return err_value_not_supported(err, "base", text, "differences come as format=vhd");
    struct tx *tx = store_begin(r->t->server->store);
    const struct row *base = find(tx, CLASS_VDI, text), *row = find(tx, CLASS_VDI, vdi_text);
    int rc = !base  ? err_handle_invalid(err, "VDI", text)
             : !row ? err_handle_invalid(err, "VDI", vdi_text)
                    : 0;
    if (rc == 0 && !ref_eq(vdi_row(base)->SR, vdi_row(row)->SR))
        rc = err_value_not_supported(err, "base", text, "it is in another SR than the VDI");
    if (rc == 0)
        snprintf(r->base, sizeof(r->base), "%s", vdi_row(base)->uuid);
    tx_abort(tx);
    return rc;
}

static int check_vdi(struct tx *tx, const struct raw *r, const struct vdi_row *vdi, struct api_err *err)
{
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, vdi->SR));
    bool writes = r->t->kind->uploads;
    if (!sr)
        return fail_handle(err, CLASS_SR, vdi->SR);
    if (storage_sr_is_iso(sr) && (writes || r->format != IMAGE_FORMAT_RAW))
        return err_sr_operation_not_supported(err, REF_TEXT(vdi->SR));
    if (writes && vdi->read_only)
        return err_vdi_readonly(err, REF_TEXT(vdi->row.ref));
    if (writes ? storage_vdi_attached(tx, vdi) : storage_vdi_written(tx, vdi))
        return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), r->t->kind->word);
    return operation_check(tx, CLASS_VDI, vdi->row.ref, VDI_OPERATIONS_BLOCKED, err);
}

/* `for_good` false: looks only, for who asks whether an upload would be taken. */
static int mark(struct raw *r, const char *text, bool for_good, struct api_err *err)
{
    struct tx *tx = store_begin(r->t->server->store);
    const struct row *row = find(tx, CLASS_VDI, text);
    int rc = row ? check_vdi(tx, r, vdi_row(row), err) : err_handle_invalid(err, "VDI", text);
    if (rc < 0 || !for_good) {
        tx_abort(tx);
        return rc;
    }
    struct ref vdi = row->ref;
    operation_mark(tx, CLASS_VDI, vdi, r->t->task, VDI_OPERATIONS_BLOCKED);
    if (server_commit(tx, err) < 0)
        return -1;
    r->vdi = vdi;
    return 0;
}

/* Takes the mark off and records what became of the disk. */
static void unmark(struct raw *r, const struct disk_info *info, const struct sr_stats *stats)
{
    struct tx *tx = store_begin(r->t->server->store);
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, r->vdi));
    operation_unmark(tx, CLASS_VDI, r->vdi, r->t->task);
    if (info)
        storage_update_vdi(tx, r->vdi, info);
    if (vdi && stats)
        storage_apply_stats(tx, vdi->SR, stats);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) < 0)
        log_error("transfer", "the end of a transfer could not be recorded", "vdi",
                  OBJECT_TEXT(r->t->server, CLASS_VDI, r->vdi));
}

/* ---- the bytes ---- */

static void report_op(void *ctx, double fraction)
{
    struct transfer *t = ctx;
    if (t->length <= 0 || t->open_ended)
        transfer_report(t, 0.99 * fraction);
}

static int begin_answer(void *ctx, int64_t size)
{
    struct raw *r = ctx;
    transfer_answer(r->t, raw_format_type(r->format), NULL, size);
    return 0;
}

static int write_answer(void *ctx, const void *data, size_t len)
{
    return transfer_write(((struct raw *)ctx)->t, data, len);
}

static ssize_t read_body(void *ctx, void *data, size_t len)
{
    return transfer_read(((struct raw *)ctx)->t, data, len);
}

static int import(struct raw *r, const struct storage_agent *at, const struct hv_op *op,
                  const struct sr_row *sr, const struct vdi_row *vdi, struct disk_info *info,
                  struct hv_err *cause)
{
    struct hv_disk_import_args args;
    struct hv_disk_import_result result;
    hv_disk_import_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, vdi->uuid);
    args.format = r->format;
    args.size_bytes = r->t->open_ended ? -1 : r->t->length;
    int rc = hv_disk_import(at->agent, op, &args, read_body, r, &result, cause);
    hv_disk_import_args_done(&args);
    if (rc == 0)
        *info = result.info;
    return rc;
}

static int export(struct raw *r, const struct storage_agent *at, const struct hv_op *op,
                  const struct sr_row *sr, const struct vdi_row *vdi, struct hv_err *cause)
{
    struct hv_disk_export_args args;
    const char *disk, *iso;
    storage_disk_name(sr, vdi, &disk, &iso);
    hv_disk_export_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    str_assign(&args.iso, iso);
    str_assign(&args.base, r->base);
    args.format = r->format;
    int rc = hv_disk_export(at->agent, op, &args, begin_answer, write_answer, r, cause);
    hv_disk_export_args_done(&args);
    return rc;
}

static int fail_move(const struct raw *r, const struct storage_agent *at, struct ref sr,
                     const struct hv_err *cause, struct api_err *err)
{
    if (transfer_interrupted(r->t, err))
        return -1;
    if (r->t->kind->uploads && (cause->kind == HV_ERR_KIND_FORMAT || cause->kind == HV_ERR_KIND_BAD_ARGUMENT))
        return err_import_error(err, cause->text);
    return storage_fail(err, at->host, sr, r->vdi, r->t->kind->word, cause);
}

/* With the mark on. */
static int move(struct raw *r, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->t->server->store);
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, r->vdi));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    int rc = sr ? storage_agent_get(r->t->server, snap, vdi->SR, REF_NULL, &at, err)
                : fail_handle(err, CLASS_VDI, r->vdi);
    if (rc == 0 && r->t->kind->uploads && !r->t->reader)
        rc = transfer_accept(r->t, err);
    if (rc < 0) {
        unmark(r, NULL, NULL);
        return -1;
    }
    struct transfer_op keep;
    struct hv_op op = transfer_op(r->t, &keep);
    op.progress = report_op;
    op.ctx = r->t;
    struct hv_err cause;
    struct disk_info info;
    struct sr_stats stats;
    rc = r->t->kind->uploads ? import(r, &at, &op, sr, vdi, &info, &cause)
                             : export(r, &at, &op, sr, vdi, &cause);
    if (rc < 0)
        storage_end_operation(at.agent, op.id);
    if (rc == 0 && r->t->kind->uploads) {
        bool have_stats = storage_read_stats(at.agent, sr->uuid, &stats);
        unmark(r, &info, have_stats ? &stats : NULL);
        disk_info_done(&info);
    } else {
        unmark(r, NULL, NULL);
    }
    return rc < 0 ? fail_move(r, &at, vdi->SR, &cause, err) : 0;
}

/* ---- an upload that makes its VDI ---- */

static int make_vdi(struct raw *r, struct ref sr, struct api_err *err)
{
    struct row *record = row_new(CLASS_VDI, REF_NULL);
    struct vdi_row *vdi = vdi_row_mut(record);
    struct call call;
    str_assign(&vdi->name_label, "");
    vdi->SR = sr;
    vdi->virtual_size = r->t->length;
    vdi->type = VDI_TYPE_USER;
    transfer_call(r->t, &call);
    int rc = handle_vdi_create(&call, vdi, &r->vdi, err);
    transfer_call_done(&call);
    row_unref(record);
    return rc;
}

static void destroy_vdi(struct raw *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const struct args_self args = {.self = r->vdi};
    struct call call;
    transfer_call(r->t, &call);
    call.cancel = NULL;
    if (handle_vdi_destroy(&call, &args, &err) < 0)
        log_error("transfer", "a disk made for an upload that failed could not be removed", "vdi",
                  OBJECT_TEXT(r->t->server, CLASS_VDI, r->vdi), "error", err.code);
    transfer_call_done(&call);
}

static int import_to_sr(struct raw *r, const char *text, struct api_err *err)
{
    struct tx *tx = store_begin(r->t->server->store);
    const struct row *row = find(tx, CLASS_SR, text);
    struct ref sr = row ? row->ref : REF_NULL;
    tx_abort(tx);
    if (ref_is_null(sr))
        return err_handle_invalid(err, "SR", text);
    if (r->format != IMAGE_FORMAT_RAW || r->t->open_ended)
        return err_value_not_supported(err, "format", r->format == IMAGE_FORMAT_RAW ? "raw" : "an image",
                                       "a new VDI needs raw data of a known length");
    if (r->t->length == 0)
        return transfer_accept(r->t, err);
    if (make_vdi(r, sr, err) < 0)
        return -1;
    if (mark(r, REF_TEXT(r->vdi), true, err) == 0 && move(r, err) == 0)
        return 0;
    destroy_vdi(r);
    return -1;
}

/* ---- doors ---- */

static int run(struct transfer *t, struct api_err *err)
{
    struct raw r = {.t = t};
    const char *vdi = transfer_query(t, "vdi"), *sr = transfer_query(t, "sr_id");
    if (!sr)
        sr = transfer_query(t, "sr_uuid");
    t->object = xstrdup(vdi || !sr ? vdi ? vdi : "" : sr);
    if (choose_format(&r, err) < 0 || (!t->kind->uploads && choose_base(&r, t->object, err) < 0))
        return -1;
    int rc;
    if (t->kind->uploads && !vdi && sr) {
        rc = import_to_sr(&r, sr, err);
    } else if (t->kind->uploads && t->length == 0) {
        rc = mark(&r, t->object, false, err);
        return rc < 0 ? -1 : transfer_accept(t, err);
    } else {
        /* A length that nobody means is declared by those, too, who only ask whether they may. */
        if (t->kind->uploads && t->open_ended &&
            (mark(&r, t->object, false, err) < 0 || transfer_accept(t, err) < 0 ||
             transfer_await(t, err) < 0))
            return -1;
        rc = mark(&r, t->object, true, err);
        if (rc == 0)
            rc = move(&r, err);
    }
    if (rc == 0 && t->kind->uploads) {
        transfer_drain(t);
        t->result = xasprintf("<value>%s</value>", REF_TEXT(r.vdi));
    }
    return rc;
}

void door_import_raw_vdi(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {.label = "Importing raw VDI",
                                              .action = ACTION_put_import_raw_vdi,
                                              .word = "import",
                                              .uploads = true,
                                              .chunked_status = 404,
                                              .run = run};
    transfer_begin(server, req, &kind);
}

void door_export_raw_vdi(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {
        .label = "Exporting raw VDI", .action = ACTION_get_export_raw_vdi, .word = "export", .run = run};
    transfer_begin(server, req, &kind);
}
