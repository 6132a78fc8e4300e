/* /vdis/{uuid}/uploads: disks sent in parts, by the protocol tus 1.0 (https://tus.io), with its extensions
 * creation, checksum, expiration and termination. What an upload is, stands in handlers/vdi_upload.h. */
#include "internal.h"

#include "../gate/roles.h"
#include "../gate/session.h"
#include "../handlers/vdi_upload.h"
#include "../http/digest.h"
#include "../http/raw_vdi.h"
#include "../http/transfer.h"
#include "../http/tus.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <stdio.h>
#include <time.h>

#define BYTES_TYPE "application/offset+octet-stream"
#define METADATA_MAX 1024
#define NUMBER_SIZE 24
#define DATE_SIZE 40

/* ---- what requests say ---- */

/* False: answered. A request that names no version is taken as one of ours. */
static bool read_version(struct rest *r)
{
    const char *version = http_request_header(r->req, "Tus-Resumable");
    if (!version || streq(version, TUS_VERSION))
        return true;
    rest_problem_with(r->req, 412, "Precondition Failed", "This server speaks tus " TUS_VERSION ".",
                      &(struct http_header){"Tus-Version", TUS_VERSION});
    return false;
}

static bool bad_header(struct rest *r, const char *name, const char *what)
{
    AUTO_FREE char *text = xasprintf("Header %s: %s", name, what);
    rest_problem(r->req, 400, "Bad Request", text);
    return false;
}

/* A number of at most 18 digits; false: answered. */
static bool read_number(struct rest *r, const char *name, int64_t *out)
{
    const char *text = http_request_header(r->req, name);
    size_t len = text ? strspn(text, "0123456789") : 0;
    if (len == 0 || text[len] || len > 18)
        return bad_header(r, name, "a number of bytes is needed.");
    *out = strtoll(text, NULL, 10);
    return true;
}

static bool may(struct rest *r)
{
    const struct http_action *action = ACTION_put_import_raw_vdi;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (roles_require(r->session, action->role, action->permission, &err) == 0)
        return true;
    rest_fail(r, &err);
    return false;
}

/* The disk of the path, and the upload that it has; null: answered. */
static struct ref find_vdi(struct rest *r, struct upload *upload, bool *has_upload)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct row *row = snapshot_by_uuid(snap, CLASS_VDI, r->target.uuid);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (!row) {
        err_handle_invalid(&err, "VDI", r->target.uuid);
        rest_fail(r, &err);
        return REF_NULL;
    }
    *has_upload = upload_of(vdi_row(row), upload);
    upload->sha256 = upload->metadata = NULL; /* of the row */
    return row->ref;
}

/* ---- answers ---- */

static char *http_date(int64_t seconds, char out[static DATE_SIZE])
{
    time_t when = (time_t)seconds;
    struct tm parts;
    gmtime_r(&when, &parts);
    if (strftime(out, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &parts) == 0)
        *out = '\0';
    return out;
}

static char *upload_path(const struct rest *r, const char *id)
{
    return xasprintf("/api/v1/vdis/%s/uploads/%s", r->target.uuid, id);
}

static void write_upload(const struct rest *r, const struct upload *u, const char *metadata, int64_t offset,
                         struct buf *out)
{
    char date[RFC3339_SIZE];
    AUTO_FREE char *path = upload_path(r, u->id);
    buf_printf(
        out,
        "{\"uuid\":\"%s\",\"location\":\"%s\",\"offset\":%lld,\"length\":%lld,\"finished\":%s,\"expires\":"
        "\"%s\",\"metadata\":",
        u->id, path, (long long)offset, (long long)u->length, u->open ? "false" : "true",
        rfc3339_format(u->until, date));
    json_write_string(out, metadata);
    buf_add_char(out, '}');
}

/* 200 with the state as JSON (of HEAD: without), or 204. */
static void answer_offset(struct rest *r, unsigned status, const struct upload *u, const char *metadata,
                          int64_t offset)
{
    static const char json[] = "application/json";
    char at[NUMBER_SIZE], length[NUMBER_SIZE], date[DATE_SIZE];
    struct buf out = BUF_INIT;
    bool is_json = status == 200;
    snprintf(at, sizeof(at), "%lld", (long long)offset);
    snprintf(length, sizeof(length), "%lld", (long long)u->length);
    const struct http_header headers[] = {
        {"Tus-Resumable", TUS_VERSION},
        {"Upload-Offset", at},
        {"Upload-Length", length},
        {"Upload-Expires", http_date(u->until, date)},
        {"Cache-Control", "no-store"},
        {"X-Content-Type-Options", "nosniff"},
        {*metadata ? "Upload-Metadata"
         : is_json ? "Content-Type"
                   : NULL,
         *metadata ? metadata : json},
        {*metadata && is_json ? "Content-Type" : NULL, json},
        {NULL, NULL},
    };
    if (is_json)
        write_upload(r, u, metadata, offset, &out);
    size_t len = out.len;
    http_answer(r->req, status, headers, len ? buf_take(&out) : xstrdup(""), len, HTTP_FREE);
}

/* The upload and its metadata (heap) as they are now. -1: answered. */
static int state_now(struct rest *r, struct upload *u, char **metadata)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct row *row = snapshot_by_uuid(snap, CLASS_VDI, r->target.uuid);
    if (row && upload_of(vdi_row(row), u) && streq(u->id, r->target.part)) {
        *metadata = xstrdup(u->metadata);
        u->sha256 = u->metadata = NULL; /* of the row */
        return 0;
    }
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    err_handle_invalid(&err, "upload", r->target.part);
    rest_fail(r, &err);
    return -1;
}

/* ---- POST /vdis/{uuid}/uploads ---- */

static bool read_metadata(struct rest *r, const char **out)
{
    const char *text = http_request_header(r->req, "Upload-Metadata");
    *out = text ? text : "";
    if (strlen(*out) > METADATA_MAX)
        return bad_header(r, "Upload-Metadata", "1024 characters at most.");
    for (const char *c = *out; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            return bad_header(r, "Upload-Metadata", "keys with values in base64, with commas between.");
    return true;
}

/* The digest that all bytes together shall have, in digits. */
static bool read_digest(struct rest *r, char out[static DIGEST_TEXT_SIZE])
{
    const char *text = http_request_header(r->req, "Repr-Digest");
    struct digest digest = {DIGEST_NONE, {0}};
    if (text && !digest_read(text, &digest))
        return bad_header(r, "Repr-Digest", "as in sha-256=:<base64>: (RFC 9530).");
    digest_text(digest.kind, digest.sum, out);
    return true;
}

static bool read_wish(struct rest *r, struct upload *wish, char sha256[static DIGEST_TEXT_SIZE])
{
    const char *format = http_request_query(r->req, "format");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    *wish = (struct upload){.format = IMAGE_FORMAT_RAW, .sha256 = sha256};
    if (!read_version(r) || !read_number(r, "Upload-Length", &wish->length) ||
        !read_metadata(r, &wish->metadata) || !read_digest(r, sha256))
        return false;
    if (!format || raw_format_parse(format, true, &wish->format))
        return true;
    err_value_not_supported(&err, "format", format, raw_formats(true));
    rest_fail(r, &err);
    return false;
}

void rest_upload_make(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct upload upload, before;
    char sha256[DIGEST_TEXT_SIZE], date[DATE_SIZE];
    bool has;
    struct ref vdi = REF_NULL;
    bool planned;
    if (plan_wanted(r, &planned) && may(r) && read_wish(r, &upload, sha256))
        vdi = find_vdi(r, &before, &has);
    if (!ref_is_null(vdi) && planned) {
        upload_plan_make(r, vdi, &upload);
    } else if (!ref_is_null(vdi) && upload_begin(r->server, vdi, &upload, &err) < 0) {
        rest_fail(r, &err);
    } else if (!ref_is_null(vdi)) {
        AUTO_FREE char *path = upload_path(r, upload.id);
        const struct http_header headers[] = {{"Location", path},
                                              {"Tus-Resumable", TUS_VERSION},
                                              {"Upload-Offset", "0"},
                                              {"Upload-Expires", http_date(upload.until, date)},
                                              {"Cache-Control", "no-store"},
                                              {NULL, NULL}};
        log_info("upload", "begun", "vdi", r->target.uuid, "upload", upload.id, "user", r->session->user,
                 "bytes", LOG_INT(upload.length));
        http_answer(r->req, 201, headers, "", 0, HTTP_STATIC);
    }
    rest_done(r);
}

/* ---- GET and HEAD ---- */

void rest_uploads_list(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_FREE char *metadata = NULL;
    struct upload u;
    struct buf out = BUF_INIT;
    bool has = false;
    int64_t offset;
    struct ref vdi = may(r) ? find_vdi(r, &u, &has) : REF_NULL;
    if (!ref_is_null(vdi) && !has) {
        buf_add_str(&out, "{\"items\":[]}");
        rest_send(r->req, 200, NULL, NULL, &out);
    } else if (!ref_is_null(vdi)) {
        memcpy(r->target.part, u.id, sizeof(u.id));
        if (upload_offset(r->server, vdi, u.id, &offset, NULL, &err) < 0) {
            rest_fail(r, &err);
        } else if (state_now(r, &u, &metadata) == 0) {
            buf_add_str(&out, "{\"items\":[");
            write_upload(r, &u, metadata, offset, &out);
            buf_add_str(&out, "]}");
            rest_send(r->req, 200, NULL, NULL, &out);
        }
    }
    rest_done(r);
}

void rest_upload_look(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_FREE char *metadata = NULL;
    struct upload u;
    bool has;
    int64_t offset;
    struct ref vdi = may(r) && read_version(r) ? find_vdi(r, &u, &has) : REF_NULL;
    if (!ref_is_null(vdi) && upload_offset(r->server, vdi, r->target.part, &offset, NULL, &err) < 0)
        rest_fail(r, &err);
    else if (!ref_is_null(vdi) && state_now(r, &u, &metadata) == 0)
        answer_offset(r, 200, &u, metadata, offset);
    rest_done(r);
}

/* ---- PATCH ---- */

/* Some bytes of an upload. */
struct piece {
    struct rest *r;
    struct transfer transfer;
    struct ref vdi;
    int64_t from, offset; /* where the client goes on; what counts */
    int64_t length;       /* of the upload */
    struct digest digest;
    struct digester *digester; /* NULL: no digest is known */
    bool mismatch;             /* the bytes have another digest */
    bool misplaced;            /* `from` is not what counts */
    bool late;                 /* the last byte has come before: only the end was missing */
};

static bool read_piece(struct rest *r, struct piece *p)
{
    const char *type = http_request_header(r->req, "Content-Type");
    const char *sum = http_request_header(r->req, "Upload-Checksum"),
               *digest = http_request_header(r->req, "Content-Digest");
    if (!read_version(r) || !read_number(r, "Upload-Offset", &p->from))
        return false;
    if (!type || !streq(type, BYTES_TYPE)) {
        rest_problem(r->req, 415, "Unsupported Media Type", "The bytes of an upload are " BYTES_TYPE ".");
        return false;
    }
    if (digest && !digest_read(digest, &p->digest))
        return bad_header(r, "Content-Digest", "as in sha-256=:<base64>: (RFC 9530).");
    if (sum && !digest_read_checksum(sum, &p->digest))
        return bad_header(r, "Upload-Checksum", "sha1 or sha256, and the digest in base64.");
    return true;
}

/* Bytes for the agent. Those that have another digest than was said break the stream before its end, so that
 * none of them counts. */
static ssize_t read_body(void *arg, void *data, size_t len)
{
    struct piece *p = arg;
    ssize_t n = transfer_read(&p->transfer, data, len);
    if (!p->digester || n < 0)
        return n;
    digester_add(p->digester, data, (size_t)n);
    if (n > 0 && p->transfer.done != p->transfer.length)
        return n;
    p->mismatch = !digest_fits(&p->digest, p->digester);
    digester_free(p->digester);
    p->digester = NULL;
    return p->mismatch ? -1 : n;
}

static int send_piece(struct piece *p, const struct hv_op *op, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(p->r->server->store);
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, p->vdi));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    struct hv_upload_write_args args;
    struct hv_upload_write_result result;
    struct hv_err cause;
    if (!sr)
        return fail_handle(err, CLASS_VDI, p->vdi);
    if (storage_agent_get(p->r->server, snap, vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    hv_upload_write_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.upload, p->r->target.part);
    args.length = p->length;
    args.from = p->from;
    args.size_bytes = p->transfer.length;
    args.whole = p->digest.kind != DIGEST_NONE;
    int rc = hv_upload_write(at.agent, op, &args, read_body, p, &result, &cause);
    hv_upload_write_args_done(&args);
    if (rc == 0) {
        p->offset = result.offset;
        hv_upload_write_result_done(&result);
        return 0;
    }
    storage_end_operation(at.agent, op->id);
    if (p->mismatch)
        return err_import_error(err, "the bytes have another digest than was announced");
    if (transfer_interrupted(&p->transfer, err))
        return -1;
    if (cause.kind == HV_ERR_KIND_FORMAT || cause.kind == HV_ERR_KIND_BAD_ARGUMENT)
        return err_import_error(err, cause.text);
    return storage_fail(err, at.host, vdi->SR, p->vdi, "import", &cause);
}

/* The byte that is missing for the client is there; what it sends is that byte. */
static int take_last(struct piece *p, struct api_err *err)
{
    char byte;
    ssize_t n = p->transfer.length == 0 ? 0 : read_body(p, &byte, 1);
    if (n == 1)
        p->offset = p->length;
    if (n >= 0)
        return 0;
    return transfer_interrupted(&p->transfer, err) ? -1 : err_import_error_premature_eof(err);
}

static int take_bytes(struct piece *p, const struct hv_op *op, struct api_err *err)
{
    bool all_there;
    if (upload_offset(p->r->server, p->vdi, p->r->target.part, &p->offset, &all_there, err) < 0)
        return -1;
    p->misplaced = p->from != p->offset;
    if (p->misplaced)
        return err_invalid_value(err, "Upload-Offset", http_request_header(p->r->req, "Upload-Offset"));
    if (p->transfer.length > p->length - p->from)
        return err_invalid_value(err, "Content-Length", "more than is left of the upload");
    return all_there ? take_last(p, err) : send_piece(p, op, err);
}

static int run(struct transfer *t, struct api_err *err)
{
    struct piece *p = t->arg;
    struct transfer_op keep, keep_end;
    struct hv_op op = transfer_op(t, &keep), end = transfer_op(t, &keep_end);
    t->object = xstrdup(p->r->target.uuid);
    if (upload_take(p->r->server, p->vdi, p->r->target.part, t->task, err) < 0)
        return -1;
    int rc = take_bytes(p, &op, err);
    if (rc == 0 && p->offset == p->length)
        rc = upload_finish(p->r->server, p->vdi, p->r->target.part, &end, err);
    upload_release(p->r->server, p->vdi, t->task);
    return rc;
}

static void answer_piece(struct piece *p, int rc, const struct api_err *err)
{
    AUTO_FREE char *metadata = NULL;
    struct upload u;
    if (rc > 0) {
        rest_busy(p->r->req);
    } else if (p->mismatch) {
        rest_problem(
            p->r->req, 460, "Checksum Mismatch",
            "The bytes have another digest than was announced: none of them counts, send them again.");
    } else if (p->misplaced) {
        AUTO_FREE char *text = xasprintf("The upload goes on at byte %lld.", (long long)p->offset);
        rest_problem(p->r->req, 409, "Conflict", text);
    } else if (rc < 0) {
        rest_fail(p->r, err);
    } else if (state_now(p->r, &u, &metadata) == 0) {
        answer_offset(p->r, 204, &u, metadata, p->offset);
    }
}

void rest_upload_write(struct rest *r)
{
    static const struct transfer_kind kind = {.label = "Importing raw VDI",
                                              .action = ACTION_put_import_raw_vdi,
                                              .word = "upload",
                                              .uploads = true,
                                              .run = run};
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_FREE char *metadata = NULL;
    struct upload u;
    struct piece p = {.r = r};
    bool has, planned;
    if (plan_wanted(r, &planned) && may(r) && read_piece(r, &p))
        p.vdi = find_vdi(r, &u, &has);
    if (ref_is_null(p.vdi) || state_now(r, &u, &metadata) < 0) {
        rest_done(r); /* answered */
        return;
    }
    if (planned) {
        upload_plan_write(r, p.vdi, &u, p.from);
        rest_done(r);
        return;
    }
    p.length = u.length;
    if (!u.open && p.from == u.length) { /* its client did not hear of the end */
        answer_offset(r, 204, &u, metadata, u.length);
        rest_done(r);
        return;
    }
    p.digester = p.digest.kind == DIGEST_NONE ? NULL : digester_new(p.digest.kind);
    p.transfer = (struct transfer){.server = r->server,
                                   .req = r->req,
                                   .kind = &kind,
                                   .length = http_request_content_length(r->req),
                                   .reader = r->reader,
                                   .session = r->session,
                                   .arg = &p};
    int rc = transfer_perform(&p.transfer, &err);
    answer_piece(&p, rc, &err);
    digester_free(p.digester);
    rest_done(r);
}

/* ---- DELETE ---- */

void rest_upload_drop(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_FREE char *metadata = NULL;
    struct upload u;
    bool has, planned;
    struct ref vdi = plan_wanted(r, &planned) && may(r) && read_version(r) ? find_vdi(r, &u, &has) : REF_NULL;
    if (!ref_is_null(vdi) && planned) {
        if (state_now(r, &u, &metadata) == 0)
            upload_plan_drop(r, vdi, &u);
    } else if (!ref_is_null(vdi) && upload_end(r->server, vdi, r->target.part, &err) < 0) {
        rest_fail(r, &err);
    } else if (!ref_is_null(vdi)) {
        static const struct http_header headers[] = {{"Tus-Resumable", TUS_VERSION}, {NULL, NULL}};
        log_info("upload", "ended by its client", "vdi", r->target.uuid, "upload", r->target.part, "user",
                 r->session->user);
        http_answer(r->req, 204, headers, "", 0, HTTP_STATIC);
    }
    rest_done(r);
}
