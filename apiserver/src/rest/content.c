/* GET and HEAD /vdis/{uuid}/content: a disk's bytes. In raw form any part of them can be asked for, and the
 * ETag says whether two parts are of the same content, so a download that broke goes on where it stood. An
 * image of another form is made anew each time, never twice the same: it comes whole. */
#include "internal.h"

#include "../gate/roles.h"
#include "../handlers/storage.h"
#include "../http/range.h"
#include "../http/raw_vdi.h"
#include "../http/transfer.h"
#include "../rules/operations.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>

/* One download. */
struct content {
    struct rest *r;
    struct transfer transfer;
    enum image_format format;
    enum vdi_operations operation; /* that is marked */
    struct ref vdi;
    struct snapshot *snap;
    struct storage_agent at;
    int64_t size;  /* of the raw form */
    char etag[80]; /* in quotes; "": parts cannot be asked for */
    enum range_verdict verdict;
    struct byte_range range;
};

static const struct sr_row *sr_of(const struct content *c, const struct vdi_row **vdi)
{
    *vdi = vdi_row(snapshot_get(c->snap, CLASS_VDI, c->vdi));
    return *vdi ? sr_row(snapshot_get(c->snap, CLASS_SR, (*vdi)->SR)) : NULL;
}

/* Several may read a disk at a time, as several may copy it; a file of an ISO library is not copied. */
static int check(struct tx *tx, struct content *c, struct api_err *err)
{
    const struct row *row = tx_by_uuid(tx, CLASS_VDI, c->r->target.uuid);
    const struct sr_row *sr = row ? sr_row(tx_get(tx, CLASS_SR, vdi_row(row)->SR)) : NULL;
    if (!sr)
        return err_handle_invalid(err, "VDI", c->r->target.uuid);
    c->vdi = row->ref;
    c->operation = storage_sr_is_iso(sr) ? VDI_OPERATIONS_BLOCKED : VDI_OPERATIONS_COPY;
    if (storage_sr_is_iso(sr) && c->format != IMAGE_FORMAT_RAW)
        return err_sr_operation_not_supported(err, REF_TEXT(sr->row.ref));
    if (storage_vdi_written(tx, vdi_row(row)))
        return err_vdi_in_use(err, REF_TEXT(row->ref), "export");
    return operation_check(tx, CLASS_VDI, row->ref, (int)c->operation, err);
}

/* `task` null: looks only. */
static int mark(struct content *c, struct ref task, struct api_err *err)
{
    struct tx *tx = store_begin(c->r->server->store);
    int rc = check(tx, c, err);
    if (rc < 0 || ref_is_null(task)) {
        tx_abort(tx);
        return rc;
    }
    operation_mark(tx, CLASS_VDI, c->vdi, task, (int)c->operation);
    return server_commit(tx, err);
}

static void unmark(struct tx *tx, void *arg)
{
    struct content *c = arg;
    if (tx_get(tx, CLASS_VDI, c->vdi))
        operation_unmark(tx, CLASS_VDI, c->vdi, c->transfer.task);
}

/* Size and version as they are now, and what of it is asked for. */
static int look(struct content *c, struct api_err *err)
{
    const struct vdi_row *vdi;
    const char *disk, *iso;
    struct disk_info info;
    struct hv_err cause;
    c->snap = store_snapshot(c->r->server->store);
    const struct sr_row *sr = sr_of(c, &vdi);
    if (!sr)
        return err_handle_invalid(err, "VDI", c->r->target.uuid);
    if (storage_agent_get(c->r->server, c->snap, vdi->SR, REF_NULL, &c->at, err) < 0)
        return -1;
    storage_disk_name(sr, vdi, &disk, &iso);
    if (storage_read_info(&c->at, sr, disk, iso, &info, &cause) < 0)
        return storage_fail(err, c->at.host, vdi->SR, c->vdi, "export", &cause);
    c->size = info.virtual_size_bytes;
    c->verdict = RANGE_ALL;
    c->range = (struct byte_range){0, c->size};
    if (c->format == IMAGE_FORMAT_RAW && *info.version) {
        snprintf(c->etag, sizeof(c->etag), "\"%s\"", info.version);
        if (range_counts(http_request_header(c->r->req, "If-Range"), c->etag))
            c->verdict = range_read(http_request_header(c->r->req, "Range"), c->size, &c->range);
    }
    disk_info_done(&info);
    return 0;
}

/* ---- answers ---- */

#define HEADERS_MAX 8
#define RANGE_TEXT_SIZE 80

/* `range` is room for a text. Ended by a NULL name. */
static void head(const struct content *c, struct http_header headers[static HEADERS_MAX],
                 char range[static RANGE_TEXT_SIZE])
{
    size_t n = 0;
    headers[n++] = (struct http_header){"Content-Type", raw_format_type(c->format)};
    headers[n++] = (struct http_header){"Cache-Control", "no-cache"};
    headers[n++] = (struct http_header){"X-Content-Type-Options", "nosniff"};
    headers[n++] = (struct http_header){"Content-Disposition", "attachment"};
    headers[n++] = (struct http_header){"Accept-Ranges", *c->etag ? "bytes" : "none"};
    if (*c->etag)
        headers[n++] = (struct http_header){"ETag", c->etag};
    if (c->verdict == RANGE_PART) {
        snprintf(range, RANGE_TEXT_SIZE, "bytes %lld-%lld/%lld", (long long)c->range.from,
                 (long long)(c->range.from + c->range.length - 1), (long long)c->size);
        headers[n++] = (struct http_header){"Content-Range", range};
    }
    headers[n] = (struct http_header){NULL, NULL};
}

static void answer_no_such_part(const struct content *c)
{
    char range[RANGE_TEXT_SIZE];
    AUTO_FREE char *text = xasprintf("The disk has %lld bytes.", (long long)c->size);
    snprintf(range, sizeof(range), "bytes */%lld", (long long)c->size);
    rest_problem_with(c->r->req, 416, "Range Not Satisfiable", text,
                      &(struct http_header){"Content-Range", range});
}

static ssize_t nothing(void *arg, char *to, size_t max)
{
    (void)arg, (void)to, (void)max;
    return HTTP_PRODUCER_END;
}

/* What a GET would be answered, without the bytes. The length of an image is not known before it is made. */
static void answer_head(const struct content *c)
{
    static const struct http_producer no_bytes = {.produce = nothing};
    struct http_header headers[HEADERS_MAX];
    char range[RANGE_TEXT_SIZE];
    if (c->verdict == RANGE_NONE) {
        answer_no_such_part(c);
        return;
    }
    head(c, headers, range);
    http_answer_stream(c->r->req, c->verdict == RANGE_PART ? 206 : 200, headers,
                       c->format == IMAGE_FORMAT_RAW ? c->range.length : -1, &no_bytes, NULL);
}

static int begin_answer(void *arg, int64_t size)
{
    struct content *c = arg;
    struct http_header headers[HEADERS_MAX];
    char range[RANGE_TEXT_SIZE];
    head(c, headers, range);
    transfer_answer_with(&c->transfer, c->verdict == RANGE_PART ? 206 : 200, headers, size);
    return 0;
}

static int write_answer(void *arg, const void *data, size_t len)
{
    return transfer_write(&((struct content *)arg)->transfer, data, len);
}

/* ---- the bytes ---- */

static int send_disk(struct content *c, struct api_err *err)
{
    struct transfer_op keep;
    struct hv_op op = transfer_op(&c->transfer, &keep);
    struct hv_disk_export_args args;
    struct hv_err cause;
    const struct vdi_row *vdi;
    const char *disk, *iso;
    const struct sr_row *sr = sr_of(c, &vdi);
    storage_disk_name(sr, vdi, &disk, &iso);
    hv_disk_export_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    str_assign(&args.iso, iso);
    args.format = c->format;
    if (c->verdict == RANGE_PART) {
        args.from = c->range.from;
        args.length = c->range.length;
    }
    int rc = hv_disk_export(c->at.agent, &op, &args, begin_answer, write_answer, c, &cause);
    hv_disk_export_args_done(&args);
    if (rc == 0)
        return 0;
    storage_end_operation(c->at.agent, op.id);
    if (transfer_interrupted(&c->transfer, err))
        return -1;
    return storage_fail(err, c->at.host, vdi->SR, c->vdi, "export", &cause);
}

static int run(struct transfer *t, struct api_err *err)
{
    struct content *c = t->arg;
    t->object = xstrdup(c->r->target.uuid);
    if (mark(c, t->task, err) < 0)
        return -1;
    int rc = look(c, err);
    if (rc == 0 && c->verdict == RANGE_NONE)
        rc = err_invalid_value(err, "Range", http_request_header(c->r->req, "Range"));
    else if (rc == 0)
        rc = send_disk(c, err);
    server_insist(c->r->server, unmark, c);
    return rc;
}

static void answer_get(struct content *c)
{
    static const struct transfer_kind kind = {
        .label = "Exporting raw VDI", .action = ACTION_get_export_raw_vdi, .word = "download", .run = run};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    c->transfer = (struct transfer){.server = c->r->server,
                                    .req = c->r->req,
                                    .kind = &kind,
                                    .length = -1,
                                    .session = c->r->session,
                                    .arg = c};
    int rc = transfer_perform(&c->transfer, &err);
    if (transfer_end_answer(&c->transfer, rc == 0))
        return;
    if (rc > 0)
        rest_busy(c->r->req);
    else if (c->verdict == RANGE_NONE)
        answer_no_such_part(c);
    else
        rest_fail(c->r, &err);
}

static int read_format(struct content *c, struct api_err *err)
{
    const char *word = http_request_query(c->r->req, "format");
    c->format = IMAGE_FORMAT_RAW;
    if (!word || raw_format_parse(word, false, &c->format))
        return 0;
    return err_value_not_supported(err, "format", word, raw_formats(false));
}

void rest_content(struct rest *r)
{
    const struct http_action *action = ACTION_get_export_raw_vdi;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct content c = {.r = r, .at = STORAGE_AGENT_NONE, .verdict = RANGE_ALL};
    if (roles_require(r->session, action->role, action->permission, &err) < 0 || read_format(&c, &err) < 0 ||
        (r->method == HTTP_HEAD && (mark(&c, REF_NULL, &err) < 0 || look(&c, &err) < 0)))
        rest_fail(r, &err);
    else if (r->method == HTTP_HEAD)
        answer_head(&c);
    else
        answer_get(&c);
    storage_agent_put(&c.at);
    snapshot_unref(c.snap);
    rest_done(r);
}
