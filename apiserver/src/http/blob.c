/* GET and PUT /blob?ref= or ?uuid=: the bytes of a blob (XenAPI: VM.create_new_blob and its like).
 *
 * Public blobs are read without a session. A page that a blob holds is no page of this server: the answer is
 * sandboxed, and what a browser is to make of it is said, not guessed. */
#include "../blobs.h"
#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../gate/trail.h"
#include "doors.h"
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRANSFERS_MAX 32 /* each holds a worker thread */
#define WINDOW_BYTES (256 * 1024)
#define STALL_MS (60 * 1000) /* a client that moves no byte for so long is given up */
#define CHUNK_BYTES (64 * 1024)

struct blob_job {
    struct server *server;
    struct http_request *req; /* counted */
    struct door_claim claim;
    bool writes;
    char *task_text;            /* NULL: no task */
    struct http_reader *reader; /* of an upload */
    int64_t length;
    struct snapshot *snapshot;
    const struct blob_row *blob; /* of the snapshot; NULL: unknown */

    struct session *session; /* NULL: nobody, for a public blob */
    bool temporary;
};

static _Atomic int job_count;

static void job_free(struct blob_job *job)
{
    if (job->reader)
        http_reader_close(job->reader);
    if (job->temporary)
        session_close(job->server, job->session);
    session_unref(job->session);
    door_claim_done(&job->claim);
    snapshot_unref(job->snapshot);
    free(job->task_text);
    http_request_unref(job->req);
    free(job);
    atomic_fetch_sub(&job_count, 1);
}

static const struct blob_row *find(const struct snapshot *snap, struct http_request *req)
{
    const char *text = http_request_query(req, "ref");
    struct ref ref;
    if (text)
        return ref_parse(text, &ref) ? blob_row(snapshot_get(snap, CLASS_blob, ref)) : NULL;
    return blob_row(snapshot_by_uuid(snap, CLASS_blob, http_request_query(req, "uuid")));
}

/* ---- the task ---- */

/* The client's task, when it named one: it ends with the transfer. */
static int begin_task(struct blob_job *job, struct ref *task, struct api_err *err)
{
    const _Atomic bool *cancel;
    struct ref adopt;
    *task = REF_NULL;
    if (!job->task_text)
        return 0;
    const struct task_row *row =
        ref_parse(job->task_text, &adopt) ? task_row(snapshot_get(job->snapshot, CLASS_task, adopt)) : NULL;
    if (!row)
        return err_handle_invalid(err, "task", job->task_text);
    if (!task_is_own(row, job->session) && roles_allow(job->session, "task.destroy/any", err) < 0)
        return -1;
    return gate_task_begin(job->server, job->session, "blob", adopt, task, &cancel, err);
}

/* ---- down ---- */

static unsigned status_of(const struct api_err *err)
{
    if (streq(err->code, "RBAC_PERMISSION_DENIED"))
        return 403;
    if (streq(err->code, "HANDLE_INVALID"))
        return 404;
    return streq(err->code, "IMPORT_ERROR_PREMATURE_EOF") ? 400 : 500;
}

/* What is no type of a header is sent as bytes. */
static const char *type_of(const struct blob_row *blob)
{
    for (const char *c = blob->mime_type; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            return "application/octet-stream";
    return blob->mime_type;
}

static bool send_file(struct blob_job *job, int fd, int64_t size)
{
    const struct http_header headers[] = {{"Content-Type", type_of(job->blob)},
                                          {"Cache-Control", "no-cache, no-store"},
                                          {"Content-Security-Policy", "sandbox; default-src 'none'"},
                                          {"X-Content-Type-Options", "nosniff"},
                                          {NULL, NULL}};
    struct http_writer *writer = http_writer_open(job->req, 200, headers, size, WINDOW_BYTES);
    AUTO_FREE char *chunk = xmalloc(CHUNK_BYTES);
    int64_t left = size;
    while (left > 0) {
        ssize_t got = read(fd, chunk, left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES);
        if (got <= 0 || http_writer_write(writer, chunk, (size_t)got, STALL_MS) < 0)
            break;
        left -= got;
    }
    http_writer_close(writer, left == 0);
    return left == 0;
}

static int send_blob(struct blob_job *job, struct api_err *err)
{
    int fd = blob_open(job->server, job->blob->uuid), rc = -1;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        log_error("blobs", "the bytes of a blob could not be read", "blob", job->blob->uuid, "cause",
                  strerror(errno));
        fail_internal(err, "The bytes could not be read.");
        http_answer_error(job->req, 500, "the bytes could not be read");
    } else if (!send_file(job, fd, st.st_size)) {
        fail_internal(err, "The client did not take all bytes.");
    } else {
        rc = 0;
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

/* A public blob goes to anybody: then there is nobody whose task it could be. */
static void download(struct blob_job *job)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref task = REF_NULL;
    if (job->session && begin_task(job, &task, &err) < 0) {
        door_fail(job->req, status_of(&err), &err);
        return;
    }
    int rc = send_blob(job, &err);
    if (!ref_is_null(task))
        gate_task_end(job->server, task, "<value></value>", rc < 0 ? &err : NULL);
}

/* ---- up ---- */

static int receive(struct blob_job *job, int fd, struct api_err *err)
{
    AUTO_FREE char *chunk = xmalloc(CHUNK_BYTES);
    int64_t done = 0;
    for (;;) {
        ssize_t got = http_reader_read(job->reader, chunk, CHUNK_BYTES, STALL_MS);
        if (got == 0)
            return done == job->length ? 0 : err_import_error_premature_eof(err);
        if (got < 0)
            return err_import_error_premature_eof(err);
        for (ssize_t at = 0; at < got;) {
            ssize_t put = write(fd, chunk + at, (size_t)(got - at));
            if (put < 0 && errno != EINTR)
                return fail_internal(err, "The bytes of the blob could not be kept: %s.", strerror(errno));
            at += put > 0 ? put : 0;
        }
        done += got;
    }
}

static int upload(struct blob_job *job, struct api_err *err)
{
    struct blob_upload upload;
    if (blob_upload_begin(job->server, job->blob->uuid, &upload) < 0)
        return fail_internal(err, "The bytes of the blob could not be kept: %s.", strerror(errno));
    if (receive(job, upload.fd, err) < 0) {
        blob_upload_abort(&upload);
        return -1;
    }
    return blob_upload_end(job->server, job->blob->row.ref, &upload, err);
}

static void upload_and_answer(struct blob_job *job)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct ref task;
    int rc = begin_task(job, &task, &err);
    if (rc == 0)
        rc = upload(job, &err);
    if (!ref_is_null(task))
        gate_task_end(job->server, task, "<value></value>", rc < 0 ? &err : NULL);
    trail_door(job->server->trail, job->claim.peer, job->session, ACTION_put_blob->permission,
               rc < 0 ? &err : NULL);
    log_info("blobs", rc < 0 ? "an upload was refused or failed" : "uploaded", "blob", job->blob->uuid,
             "user", job->session->user, "from", job->claim.peer, "error", rc < 0 ? err.code : "");
    if (rc < 0)
        door_fail(job->req, status_of(&err), &err);
    else
        http_answer(job->req, 200, NULL, "", 0, HTTP_STATIC);
}

/* ---- the door ---- */

/* On a worker. */
static void work(void *arg)
{
    struct blob_job *job = arg;
    bool open = !job->writes && job->blob && job->blob->public;
    if (!open)
        job->session = door_admit_claim(job->server, job->req, &job->claim,
                                        job->writes ? ACTION_put_blob : NULL, &job->temporary);
    if (open || job->session) {
        if (!job->blob)
            http_answer_error(job->req, 404, "there is no such blob");
        else if (job->writes)
            upload_and_answer(job);
        else
            download(job);
    }
    job_free(job);
}

static const char *refusal(struct http_request *req, bool writes, unsigned *status)
{
    *status = 400;
    if (!http_request_query(req, "ref") && !http_request_query(req, "uuid"))
        return "say which blob: ref= or uuid=";
    if (writes && http_request_content_length(req) < 0)
        return "an upload declares its Content-Length";
    *status = 413;
    return writes && http_request_content_length(req) > BLOB_BYTES_MAX ? "a blob has at most 128 MiB" : NULL;
}

static void begin(struct server *server, struct http_request *req, bool writes)
{
    unsigned status;
    const char *refused = refusal(req, writes, &status);
    if (refused) {
        http_answer_error(req, status, refused);
        return;
    }
    if (atomic_fetch_add(&job_count, 1) >= TRANSFERS_MAX) {
        atomic_fetch_sub(&job_count, 1);
        http_answer_error(req, 503, "too many transfers are running: try again later");
        return;
    }
    const char *task = http_request_cookie(req, "task_id");
    if (!task)
        task = http_request_query(req, "task_id");
    struct blob_job *job = xcalloc(1, sizeof(*job));
    *job = (struct blob_job){.server = server,
                             .req = http_request_ref(req),
                             .writes = writes,
                             .task_text = task ? xstrdup(task) : NULL,
                             .length = http_request_content_length(req),
                             .snapshot = store_snapshot(server->store)};
    door_claim_copy(req, &job->claim);
    job->blob = find(job->snapshot, req);
    if (writes)
        job->reader = http_reader_open(req, WINDOW_BYTES);
    if (worker_submit(server->workers, work, job) == 0)
        return;
    http_answer_error(req, 503, "the server is too busy now: try again in a moment");
    job_free(job);
}

void door_get_blob(struct server *server, struct http_request *req)
{
    begin(server, req, false);
}

void door_put_blob(struct server *server, struct http_request *req)
{
    begin(server, req, true);
}
