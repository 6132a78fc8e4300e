/* PUT /import_raw_vdi and GET /export_raw_vdi: the content of a VDI as bytes of a request or an answer.
 *
 * Each runs on a worker, as a task (the client's own when task_id names one) and with an operation marked on
 * the VDI. The classic server answers an upload with 200 before it reads the body, and only the task tells
 * how it went; here the answer comes when the disk has the new content, with the error's status and code if
 * it does not, so the task is needed only for progress. A download begins when the agent has begun; a failure
 * after that cuts the connection. */
#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../handlers/storage.h"
#include "../rules/operations.h"
#include "doors.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>

#define TRANSFERS_MAX 32 /* each holds a worker thread */
#define WINDOW_BYTES (1024 * 1024)
#define SLICE_MS 1000            /* how often a wait looks at the cancel flag */
#define STALL_MS (5 * 60 * 1000) /* a client that moves no byte for so long is given up */
#define TRANSFER_TIMEOUT_MS (24LL * 3600 * 1000)

/* What differs between the two. */
struct direction {
    const char *label, *permission, *word;
    bool writes;
};
static const struct direction importing = {"Importing raw VDI", "http/put_import_raw_vdi", "import", true};
static const struct direction exporting = {"Exporting raw VDI", "http/get_export_raw_vdi", "export", false};

/* One transfer, from the request's head to its answer. */
struct transfer {
    struct server *server;
    struct http_request *req; /* counted */
    const struct direction *direction;
    struct door_claim claim;
    char *vdi_text, *format_text, *task_text, *unbuilt;
    int64_t length; /* of the body; -1: unknown */
    struct http_reader *reader;
    struct http_writer *writer; /* once the answer has begun */

    struct session *session;
    bool temporary;
    struct ref task;
    const _Atomic bool *cancel;
    struct ref vdi;
    enum image_format format;
    int64_t done;
    bool lost; /* the client went away, or stalled */
    /* A download's last byte so far waits until the task has ended and the mark is off: who has all bytes may
     * go on. */
    bool holds;
    char held;
};

static _Atomic int transfer_count;
static const _Atomic bool never;

/* ---- errors as HTTP ---- */

static unsigned status_of(const struct api_err *err)
{
    static const struct {
        const char *code;
        unsigned status;
    } table[] = {
        {"RBAC_PERMISSION_DENIED", 403},
        {"HANDLE_INVALID", 404},
        {"UUID_INVALID", 404},
        {"VALUE_NOT_SUPPORTED", 404}, /* an unknown format, as the classic server says */
        {"NOT_IMPLEMENTED", 501},
        {"VDI_IN_USE", 409},
        {"VDI_READONLY", 409},
        {"OTHER_OPERATION_IN_PROGRESS", 409},
        {"SR_OPERATION_NOT_SUPPORTED", 409},
        {"SR_HAS_NO_PBDS", 409},
        {"SR_BACKEND_FAILURE_44", 507},
        {"IMPORT_ERROR", 400},
        {"IMPORT_ERROR_CANNOT_HANDLE_CHUNKED", 400},
        {"HOST_NOT_LIVE", 503},
        {"HOST_OFFLINE", 503},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (streq(err->code, table[i].code))
            return table[i].status;
    return 500;
}

/* ---- before the bytes ---- */

static int choose_format(struct transfer *t, struct api_err *err)
{
    if (t->unbuilt)
        return err_not_implemented(err, t->unbuilt);
    if (streq(t->format_text, "raw"))
        t->format = IMAGE_FORMAT_RAW;
    else if (streq(t->format_text, "qcow2"))
        t->format = IMAGE_FORMAT_QCOW2;
    else
        return err_value_not_supported(err, "format", t->format_text, "it is raw or qcow2");
    return 0;
}

/* The task of the request. One that somebody else made needs the role that may touch it. */
static int begin_task(struct transfer *t, struct api_err *err)
{
    struct ref adopt = REF_NULL;
    if (t->task_text) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(t->server->store);
        if (!ref_parse(t->task_text, &adopt) || ref_is_null(adopt) || !snapshot_get(snap, CLASS_task, adopt))
            return err_handle_invalid(err, "task", t->task_text);
        const struct task_row *task = task_row(snapshot_get(snap, CLASS_task, adopt));
        if (!ref_eq(task->session, t->session->ref) &&
            roles_require(t->session, ROLE_POOL_OPERATOR, t->direction->permission, err) < 0)
            return -1;
    }
    return gate_task_begin(t->server, t->session, t->direction->label, adopt, &t->task, &t->cancel, err);
}

static const struct row *find_vdi(struct tx *tx, const char *text)
{
    struct ref ref;
    if (ref_parse(text, &ref))
        return tx_get(tx, CLASS_VDI, ref);
    return tx_by_uuid(tx, CLASS_VDI, text);
}

static int check_vdi(struct tx *tx, const struct transfer *t, const struct vdi_row *vdi, struct api_err *err)
{
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, vdi->SR));
    if (!sr)
        return fail_handle(err, CLASS_SR, vdi->SR);
    if (storage_sr_is_iso(sr) && (t->direction->writes || t->format != IMAGE_FORMAT_RAW))
        return err_sr_operation_not_supported(err, REF_TEXT(vdi->SR));
    if (t->direction->writes && vdi->read_only)
        return err_vdi_readonly(err, REF_TEXT(vdi->row.ref));
    if (t->direction->writes ? storage_vdi_attached(tx, vdi) : storage_vdi_written(tx, vdi))
        return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), t->direction->word);
    return operation_check(tx, CLASS_VDI, vdi->row.ref, VDI_OPERATIONS_BLOCKED, err);
}

static int mark(struct transfer *t, struct api_err *err)
{
    struct tx *tx = store_begin(t->server->store);
    const struct row *row = find_vdi(tx, t->vdi_text);
    int rc = row ? check_vdi(tx, t, vdi_row(row), err) : err_handle_invalid(err, "VDI", t->vdi_text);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    struct ref vdi = row->ref;
    operation_mark(tx, CLASS_VDI, vdi, t->task, VDI_OPERATIONS_BLOCKED);
    if (server_commit(tx, err) < 0)
        return -1;
    t->vdi = vdi;
    return 0;
}

/* Takes the mark off and records what became of the disk. */
static void unmark(struct transfer *t, const struct disk_info *info, const struct sr_stats *stats)
{
    struct tx *tx = store_begin(t->server->store);
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, t->vdi));
    operation_unmark(tx, CLASS_VDI, t->vdi, t->task);
    if (info)
        storage_update_vdi(tx, t->vdi, info);
    if (vdi && stats)
        storage_apply_stats(tx, vdi->SR, stats);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (server_commit(tx, &err) < 0)
        log_error("transfer", "the end of a transfer could not be recorded", "vdi", REF_TEXT(t->vdi));
}

/* ---- the bytes ---- */

static void report(struct transfer *t, double fraction)
{
    task_progress(t->server, t->task, fraction);
}

static void report_op(void *ctx, double fraction)
{
    struct transfer *t = ctx;
    if (t->length <= 0)
        report(t, fraction);
}

static bool told_to_stop(const struct transfer *t)
{
    return *t->cancel || atomic_load(&t->server->closing);
}

/* The last hundredth is the agent's to finish. */
static void report_body(struct transfer *t)
{
    if (t->length > 0)
        report(t, 0.99 * (double)t->done / (double)t->length);
}

static ssize_t read_body(void *ctx, void *data, size_t len)
{
    struct transfer *t = ctx;
    int64_t deadline = clock_mono_ms() + STALL_MS;
    for (;;) {
        ssize_t got = http_reader_read(t->reader, data, len, SLICE_MS);
        if (got >= 0) {
            t->done += got;
            report_body(t);
            return got;
        }
        bool slow = errno == ETIMEDOUT;
        report_body(t); /* the last time may have been too soon after the one before */
        if (told_to_stop(t))
            return -1;
        if (!slow || clock_mono_ms() >= deadline) {
            t->lost = true;
            return -1;
        }
    }
}

static int begin_answer(void *ctx, int64_t size)
{
    static const struct http_header headers[] = {
        {"Content-Type", "application/octet-stream"}, {"Cache-Control", "no-cache, no-store"}, {NULL, NULL}};
    struct transfer *t = ctx;
    t->length = size;
    t->writer = http_writer_open(t->req, 200, headers, size, WINDOW_BYTES);
    return 0;
}

static int send_bytes(struct transfer *t, const void *data, size_t len)
{
    const char *from = data;
    int64_t deadline = clock_mono_ms() + STALL_MS;
    while (len > 0) {
        ssize_t put = http_writer_put(t->writer, from, len, SLICE_MS);
        bool slow = put < 0 && errno == ETIMEDOUT;
        if (told_to_stop(t))
            return -1;
        if (put < 0 && (!slow || clock_mono_ms() >= deadline)) {
            t->lost = true;
            return -1;
        }
        if (put > 0) {
            from += put;
            len -= (size_t)put;
            deadline = clock_mono_ms() + STALL_MS;
        }
    }
    return 0;
}

static int send_held(struct transfer *t)
{
    bool holds = t->holds;
    t->holds = false;
    return send_bytes(t, &t->held, holds ? 1 : 0);
}

static int write_answer(void *ctx, const void *data, size_t len)
{
    struct transfer *t = ctx;
    if (len == 0)
        return 0;
    if (send_held(t) < 0 || send_bytes(t, data, len - 1) < 0)
        return -1;
    t->held = ((const char *)data)[len - 1];
    t->holds = true;
    t->done += (int64_t)len;
    if (t->length > 0)
        report(t, (double)t->done / (double)t->length);
    return 0;
}

static int import(struct transfer *t, const struct storage_agent *at, const struct hv_op *op,
                  const struct sr_row *sr, const struct vdi_row *vdi, struct disk_info *info,
                  struct hv_err *cause)
{
    struct hv_disk_import_args args;
    struct hv_disk_import_result result;
    hv_disk_import_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, vdi->uuid);
    args.format = t->format;
    args.size_bytes = t->length;
    int rc = hv_disk_import(at->agent, op, &args, read_body, t, &result, cause);
    hv_disk_import_args_done(&args);
    if (rc == 0)
        *info = result.info;
    return rc;
}

static int export(struct transfer *t, const struct storage_agent *at, const struct hv_op *op,
                  const struct sr_row *sr, const struct vdi_row *vdi, struct hv_err *cause)
{
    struct hv_disk_export_args args;
    const char *disk, *iso;
    storage_disk_name(sr, vdi, &disk, &iso);
    hv_disk_export_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    str_assign(&args.iso, iso);
    args.format = t->format;
    int rc = hv_disk_export(at->agent, op, &args, begin_answer, write_answer, t, cause);
    hv_disk_export_args_done(&args);
    return rc;
}

static int fail_move(const struct transfer *t, const struct storage_agent *at, struct ref sr,
                     const struct hv_err *cause, struct api_err *err)
{
    if (*t->cancel)
        return err_task_cancelled(err, REF_TEXT(t->task));
    if (atomic_load(&t->server->closing))
        return fail_internal(err, "The server was stopped in the middle of the transfer.");
    if (t->lost)
        return t->direction->writes ? err_import_error_premature_eof(err) : err_vdi_copy_failed(err);
    if (t->direction->writes &&
        (cause->kind == HV_ERR_KIND_FORMAT || cause->kind == HV_ERR_KIND_BAD_ARGUMENT))
        return err_import_error(err, cause->text);
    return storage_fail(err, at->host, sr, t->vdi, t->direction->word, cause);
}

/* With the mark on. */
static int move(struct transfer *t, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(t->server->store);
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, t->vdi));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    int rc = sr ? storage_agent_get(t->server, snap, vdi->SR, REF_NULL, &at, err)
                : fail_handle(err, CLASS_VDI, t->vdi);
    if (rc < 0) {
        unmark(t, NULL, NULL);
        return -1;
    }
    char id[UUID_TEXT_SIZE];
    const struct hv_op op = {.id = uuid_format(ref_new(), id),
                             .timeout_ms = TRANSFER_TIMEOUT_MS,
                             .cancel = t->cancel,
                             .progress = report_op,
                             .ctx = t};
    struct hv_err cause;
    struct disk_info info;
    struct sr_stats stats;
    if (!t->direction->writes) {
        rc = export(t, &at, &op, sr, vdi, &cause);
        unmark(t, NULL, NULL);
    } else if ((rc = import(t, &at, &op, sr, vdi, &info, &cause)) == 0) {
        bool have_stats = storage_read_stats(at.agent, sr->uuid, &stats);
        unmark(t, &info, have_stats ? &stats : NULL);
        disk_info_done(&info);
    } else {
        unmark(t, NULL, NULL);
    }
    return rc < 0 ? fail_move(t, &at, vdi->SR, &cause, err) : 0;
}

/* ---- one transfer ---- */

static void transfer_free(struct transfer *t)
{
    if (t->reader)
        http_reader_close(t->reader);
    if (t->temporary)
        session_close(t->server, t->session);
    session_unref(t->session);
    door_claim_done(&t->claim);
    free(t->vdi_text);
    free(t->format_text);
    free(t->task_text);
    free(t->unbuilt);
    http_request_unref(t->req);
    free(t);
    atomic_fetch_sub(&transfer_count, 1);
}

static int run(struct transfer *t, struct api_err *err)
{
    if (roles_require(t->session, ROLE_VM_ADMIN, t->direction->permission, err) < 0 ||
        choose_format(t, err) < 0)
        return -1;
    return mark(t, err) < 0 ? -1 : move(t, err);
}

static void answer(struct transfer *t, int rc, const struct api_err *err)
{
    if (t->writer)
        http_writer_close(t->writer, rc == 0 && send_held(t) == 0);
    else if (rc < 0)
        door_fail(t->req, status_of(err), err);
    else
        http_answer(t->req, 200, NULL, "", 0, HTTP_STATIC);
    t->writer = NULL;
}

/* On a worker. */
static void work(void *arg)
{
    struct transfer *t = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    t->session = door_authenticate_claim(t->server, t->req, &t->claim, &t->temporary);
    if (!t->session) {
        transfer_free(t); /* answered */
        return;
    }
    int rc = begin_task(t, &err);
    if (rc == 0) {
        rc = run(t, &err);
        AUTO_FREE char *result = t->direction->writes ? xasprintf("<value>%s</value>", REF_TEXT(t->vdi))
                                                      : xstrdup("<value></value>");
        gate_task_end(t->server, t->task, result, rc < 0 ? &err : NULL);
        t->cancel = &never; /* the flag went with the task */
    }
    log_info("transfer", rc < 0 ? "refused or failed" : "done", "what", t->direction->word, "vdi",
             t->vdi_text, "user", t->session->user, "from", t->claim.peer, "bytes", LOG_INT(t->done), "error",
             rc < 0 ? err.code : "");
    answer(t, rc, &err);
    transfer_free(t);
}

static char *copy_query(struct http_request *req, const char *name, const char *otherwise)
{
    const char *given = http_request_query(req, name);
    if (!given && streq(name, "task_id"))
        given = http_request_cookie(req, name);
    if (!given)
        given = otherwise;
    return given ? xstrdup(given) : NULL;
}

/* Parameters of the classic server that would change what happens, and that nobody wrote yet. */
static char *find_unbuilt(struct http_request *req)
{
    static const char *const names[] = {"sr_id", "sr_uuid", "base", "chunked"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (http_request_query(req, names[i]))
            return xasprintf("%s with %s", http_request_path(req), names[i]);
    return NULL;
}

/* Server thread. */
static void begin(struct server *server, struct http_request *req, const struct direction *direction)
{
    if (atomic_fetch_add(&transfer_count, 1) >= TRANSFERS_MAX) {
        atomic_fetch_sub(&transfer_count, 1);
        http_answer_error(req, 503, "too many transfers are running: try again later");
        return;
    }
    struct transfer *t = xcalloc(1, sizeof(*t));
    t->server = server;
    t->req = http_request_ref(req);
    t->direction = direction;
    door_claim_copy(req, &t->claim);
    t->vdi_text = copy_query(req, "vdi", "");
    t->format_text = copy_query(req, "format", "raw");
    t->task_text = copy_query(req, "task_id", NULL);
    t->unbuilt = find_unbuilt(req);
    t->length = direction->writes ? http_request_content_length(req) : -1;
    if (direction->writes)
        t->reader = http_reader_open(req, WINDOW_BYTES);
    if (worker_submit(server->workers, work, t) == 0)
        return;
    http_answer_error(req, 503, "the server is too busy now: try again in a moment");
    transfer_free(t);
}

void door_import_raw_vdi(struct server *server, struct http_request *req)
{
    begin(server, req, &importing);
}

void door_export_raw_vdi(struct server *server, struct http_request *req)
{
    begin(server, req, &exporting);
}
