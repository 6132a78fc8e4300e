/* Transfers: authentication, task, bytes with their waits, answer.
 *
 * An upload is answered with 200 as soon as the checks are over and before its body is read, as clients of
 * the XenAPI expect; how it went stands in the task. What is refused before has the error's status and code
 * as its answer, too. A download begins when its first bytes are there; a failure after that cuts the
 * connection. */
#include "transfer.h"

#include "task_claim.h"

#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../gate/trail.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <hv/client.h>
#include <model/errors.h>
#include <stdio.h>

#define TRANSFERS_MAX 32 /* each holds a worker thread */
#define READERS_MAX (2 * TRANSFERS_MAX)
#define WINDOW_BYTES (1024 * 1024)
#define SLICE_MS 1000            /* how often a wait looks at the cancel flag */
#define STALL_MS (5 * 60 * 1000) /* a client that moves no byte for so long is given up */
#define DRAIN_BYTES (1024 * 1024)
#define OPERATION_TIMEOUT_MS (24LL * 3600 * 1000)
/* Clients that do not know the length of what they send declare 1 PiB and close the connection at the end. */
#define OPEN_ENDED (INT64_C(1) << 50)

static _Atomic int transfer_count, reader_count;
static const _Atomic bool never;

/* ---- errors as HTTP ---- */

static unsigned status_of(const struct transfer *t, const struct api_err *err)
{
    static const struct {
        const char *code;
        unsigned status;
    } table[] = {
        {"RBAC_PERMISSION_DENIED", 403},
        {"HANDLE_INVALID", 404},
        {"UUID_INVALID", 404},
        {"VALUE_NOT_SUPPORTED", 404}, /* an unknown format, as the classic server says */
        {"INVALID_VALUE", 400},
        {"NOT_IMPLEMENTED", 501},
        {"VM_BAD_POWER_STATE", 409},
        {"VDI_IN_USE", 409},
        {"VDI_READONLY", 409},
        {"OTHER_OPERATION_IN_PROGRESS", 409},
        {"OPERATION_BLOCKED", 409},
        {"OPERATION_NOT_ALLOWED", 409},
        {"SR_OPERATION_NOT_SUPPORTED", 409},
        {"SR_HAS_NO_PBDS", 409},
        {"SR_BACKEND_FAILURE_44", 507},
        {"IMPORT_ERROR", 400},
        {"HOST_NOT_LIVE", 503},
        {"HOST_STILL_BOOTING", 503},
        {"HOST_OFFLINE", 503},
    };
    if (streq(err->code, "IMPORT_ERROR_CANNOT_HANDLE_CHUNKED"))
        return t->kind->chunked_status;
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (streq(err->code, table[i].code))
            return table[i].status;
    return 500;
}

/* ---- the request ---- */

const char *transfer_query(const struct transfer *t, const char *name)
{
    return http_request_query(t->req, name);
}

bool transfer_flag(const struct transfer *t, const char *name)
{
    const char *value = transfer_query(t, name);
    return value && streq(value, "true");
}

/* The task of the request. One that somebody else made needs the role that may touch it. */
static int check_adopted(const struct transfer *t, struct ref *adopt, struct api_err *err)
{
    const char *text = t->claim.task;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(t->server->store);
    if (!ref_parse(text, adopt) || ref_is_null(*adopt) || !snapshot_get(snap, CLASS_task, *adopt))
        return err_handle_invalid(err, "task", text);
    if (task_is_own(task_row(snapshot_get(snap, CLASS_task, *adopt)), t->session))
        return 0;
    return roles_allow(t->session, "task.adopt/any", err);
}

static int begin_task(struct transfer *t, struct api_err *err)
{
    struct task_claim claim;
    task_claim_read(t->req, &claim);
    int rc = t->claim.task ? check_adopted(t, &claim.adopt, err) : 0;
    if (rc == 0)
        rc = gate_task_open(t->server, t->session, t->kind->label, &claim, &t->task, &t->cancel, err);
    task_claim_done(&claim);
    return rc;
}

/* ---- waiting ---- */

static bool transfer_told_to_stop(const struct transfer *t)
{
    return *t->cancel || atomic_load(&t->server->closing);
}

void transfer_report(struct transfer *t, double fraction)
{
    task_progress(t->server, t->task, fraction);
}

bool transfer_interrupted(const struct transfer *t, struct api_err *err)
{
    if (*t->cancel)
        err_task_cancelled(err, REF_TEXT(t->task));
    else if (atomic_load(&t->server->closing))
        fail_internal(err, "The server was stopped in the middle of the transfer.");
    else if (t->lost && t->kind->uploads)
        err_import_error_premature_eof(err);
    else if (t->lost)
        err_vdi_copy_failed(err);
    else
        return false;
    return true;
}

struct hv_op transfer_op(struct transfer *t, struct transfer_op *keep)
{
    return (struct hv_op){
        .id = uuid_format(ref_new(), keep->id), .timeout_ms = OPERATION_TIMEOUT_MS, .cancel = t->cancel};
}

void transfer_call(struct transfer *t, struct call *call)
{
    *call = (struct call){.server = t->server,
                          .session = t->session,
                          .task = t->task,
                          .snapshot = store_snapshot(t->server->store),
                          .cancel = t->cancel};
}

void transfer_call_done(struct call *call)
{
    snapshot_unref(call->snapshot);
}

/* ---- bytes coming ---- */

int transfer_accept(struct transfer *t, struct api_err *err)
{
    char task[REF_TEXT_SIZE];
    const struct http_header headers[] = {
        {"Cache-Control", "no-cache, no-store"}, {"task-id", ref_format(t->task, task)}, {NULL, NULL}};
    t->reader = http_reader_open_answered(t->req, headers, WINDOW_BYTES);
    return t->length == 0 ? err_import_error_premature_eof(err) : 0;
}

/* The last hundredth is what comes after the bytes. */
static void report_body(struct transfer *t)
{
    if (t->length > 0 && !t->open_ended)
        transfer_report(t, 0.99 * (double)t->done / (double)t->length);
}

int transfer_await(struct transfer *t, struct api_err *err)
{
    ssize_t n = transfer_read(t, &t->first, 1);
    t->has_first = n == 1;
    if (n == 1 || transfer_interrupted(t, err))
        return n == 1 ? 0 : -1;
    return err_import_error_premature_eof(err);
}

static ssize_t pull(struct transfer *t, void *data, size_t len)
{
    ssize_t got = t->pull(t->pull_arg, data, len);
    if (got > 0)
        t->done += got;
    t->lost = got < 0;
    report_body(t);
    return got;
}

ssize_t transfer_read(void *transfer, void *data, size_t len)
{
    struct transfer *t = transfer;
    if (t->pull)
        return transfer_told_to_stop(t) ? -1 : pull(t, data, len);
    if (t->has_first && len > 0) {
        *(char *)data = t->first;
        t->has_first = false;
        return 1;
    }
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
        if (transfer_told_to_stop(t))
            return -1;
        if (!slow && t->open_ended)
            return 0;
        if (!slow || clock_mono_ms() >= deadline) {
            t->lost = true;
            return -1;
        }
    }
}

void transfer_drain(struct transfer *t)
{
    char piece[4096];
    int64_t end = t->done + DRAIN_BYTES;
    while (t->done < end && !transfer_told_to_stop(t)) {
        ssize_t got = http_reader_read(t->reader, piece, sizeof(piece), SLICE_MS);
        if (got <= 0)
            return;
        t->done += got;
    }
}

/* ---- bytes going ---- */

void transfer_answer_with(struct transfer *t, unsigned status, const struct http_header *headers,
                          int64_t length)
{
    t->length = length;
    t->writer = http_writer_open(t->req, status, headers, length, WINDOW_BYTES);
}

void transfer_answer(struct transfer *t, const char *type, const char *filename, int64_t length)
{
    char task[REF_TEXT_SIZE];
    AUTO_FREE char *disposition =
        filename ? xasprintf("attachment; filename=\"%s\"", filename) : xstrdup("attachment");
    const struct http_header headers[] = {{"Content-Type", type},
                                          {"Cache-Control", "no-cache, no-store"},
                                          {"Connection", "close"},
                                          {"task-id", ref_format(t->task, task)},
                                          {filename ? "Content-Disposition" : NULL, disposition},
                                          {NULL, NULL}};
    transfer_answer_with(t, 200, headers, length);
}

static int send_bytes(struct transfer *t, const void *data, size_t len)
{
    const char *from = data;
    int64_t deadline = clock_mono_ms() + STALL_MS;
    while (len > 0) {
        ssize_t put = http_writer_put(t->writer, from, len, SLICE_MS);
        bool slow = put < 0 && errno == ETIMEDOUT;
        if (transfer_told_to_stop(t))
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

int transfer_write(void *transfer, const void *data, size_t len)
{
    struct transfer *t = transfer;
    if (len == 0)
        return 0;
    if (send_held(t) < 0 || send_bytes(t, data, len - 1) < 0)
        return -1;
    t->held = ((const char *)data)[len - 1];
    t->holds = true;
    t->done += (int64_t)len;
    if (t->length > 0)
        transfer_report(t, (double)t->done / (double)t->length);
    return 0;
}

/* ---- one transfer ---- */

static void transfer_free(struct transfer *t)
{
    if (t->temporary)
        session_close(t->server, t->session);
    session_unref(t->session);
    door_claim_done(&t->claim);
    free(t->object);
    free(t->result);
    http_request_unref(t->req);
    free(t);
    atomic_fetch_sub(&transfer_count, 1);
}

static int run(struct transfer *t, struct api_err *err)
{
    if (t->kind->uploads && t->kind->chunked_status && t->length < 0)
        return err_import_error_cannot_handle_chunked(err);
    return t->kind->run(t, err);
}

bool transfer_end_answer(struct transfer *t, bool ok)
{
    if (!t->writer)
        return false;
    http_writer_close(t->writer, ok && send_held(t) == 0);
    t->writer = NULL;
    return true;
}

static void answer(struct transfer *t, int rc, const struct api_err *err)
{
    if (t->reader)
        http_reader_close(t->reader);
    else if (transfer_end_answer(t, rc == 0))
        return;
    else if (rc < 0)
        door_fail(t->req, status_of(t, err), err);
    else
        http_answer(t->req, 200, NULL, "", 0, HTTP_STATIC);
    t->reader = NULL;
}

/* The VM or disk that is moved, if there is one. */
static const struct row *moved(const struct transfer *t, const struct snapshot *snap)
{
    struct ref ref;
    if (!t->object || !ref_parse(t->object, &ref))
        return NULL;
    const struct row *vm = snapshot_get(snap, CLASS_VM, ref);
    return vm ? vm : snapshot_get(snap, CLASS_VDI, ref);
}

static void log_transfer(const struct transfer *t, int rc, const struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(t->server->store);
    const struct row *row = moved(t, snap);
    const char *uuid = row ? row_cell(row, row->cls->uuid)->str : t->object ? t->object : "";
    const char *name = row ? row_cell(row, row->cls->name_label)->str : "";
    if (rc == 0)
        log_info("transfer", "done", "what", t->kind->word, "object", uuid, "name", name, "user",
                 t->session->user, "from", t->claim.peer, "bytes", LOG_INT(t->done));
    else
        log_info("transfer", "refused or failed", "what", t->kind->word, "object", uuid, "name", name, "user",
                 t->session->user, "from", t->claim.peer, "bytes", LOG_INT(t->done), "error", err->code,
                 "details", err->param_count > 1 ? err->params[1] : "");
}

/* With a session: the task, the work, what is noted of them. */
static int perform(struct transfer *t, struct api_err *err)
{
    int rc = t->server->replaced ? err_host_still_booting(err) : begin_task(t, err);
    if (rc == 0) {
        rc = run(t, err);
        gate_task_end(t->server, t->task, t->result ? t->result : "<value></value>", rc < 0 ? err : NULL);
        t->cancel = &never; /* the flag went with the task */
    }
    trail_door(t->server->trail, t->claim.peer, t->session, t->kind->action->permission, rc < 0 ? err : NULL);
    log_transfer(t, rc, err);
    return rc;
}

/* On a worker. */
static void work(void *arg)
{
    struct transfer *t = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    t->session = door_admit_claim(t->server, t->req, &t->claim, t->kind->action, &t->temporary);
    if (!t->session) {
        transfer_free(t); /* answered */
        return;
    }
    int rc = perform(t, &err);
    answer(t, rc, &err);
    transfer_free(t);
}

static bool enter(void)
{
    if (atomic_fetch_add(&transfer_count, 1) < TRANSFERS_MAX)
        return true;
    atomic_fetch_sub(&transfer_count, 1);
    return false;
}

struct http_reader *transfer_reader(struct http_request *req)
{
    if (atomic_fetch_add(&reader_count, 1) < READERS_MAX)
        return http_reader_open(req, WINDOW_BYTES);
    atomic_fetch_sub(&reader_count, 1);
    return NULL;
}

void transfer_reader_close(struct http_reader *reader)
{
    http_reader_close(reader);
    atomic_fetch_sub(&reader_count, 1);
}

int transfer_perform(struct transfer *t, struct api_err *err)
{
    if (!enter())
        return 1;
    door_claim_copy(t->req, &t->claim);
    t->cancel = &never;
    int rc = perform(t, err);
    door_claim_done(&t->claim);
    free(t->object);
    free(t->result);
    t->object = t->result = NULL;
    atomic_fetch_sub(&transfer_count, 1);
    return rc;
}

void transfer_begin(struct server *server, struct http_request *req, const struct transfer_kind *kind)
{
    if (!enter()) {
        http_answer_error(req, 503, "too many transfers are running: try again later");
        return;
    }
    struct transfer *t = xcalloc(1, sizeof(*t));
    t->server = server;
    t->req = http_request_ref(req);
    t->kind = kind;
    door_claim_copy(req, &t->claim);
    t->length = kind->uploads ? http_request_content_length(req) : -1;
    t->open_ended = t->length >= OPEN_ENDED;
    if (worker_submit(server->workers, work, t) == 0)
        return; /* the request sleeps at its head until it is answered or accepted */
    http_answer_error(req, 503, "the server is too busy now: try again in a moment");
    transfer_free(t);
}
