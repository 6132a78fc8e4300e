/* Requests whose bodies are streams: disks coming in and going out or read over NBD, consoles. Each runs on a
 * worker (consoles on a pool of their own), since storage blocks. */
#include "agent.h"
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>

#define WINDOW (1u << 20)
#define STALL_MS 120000
#define LENGTH_BYTES 8
#define CONSOLE_PROTOCOL "corral-console"
#define NBD_PROTOCOL "corral-nbd"

struct stream_job {
    struct agent *agent;
    struct http_request *req;
    struct http_reader *reader; /* import */
    struct http_writer *writer; /* export, once begun */
    struct agent_op *op;
};

static void drop(struct stream_job *job)
{
    agent_op_unref(job->op);
    http_request_unref(job->req);
    free(job);
}

/* The arguments in the query, decoded; NULL: refused in err. */
static void *read_args(struct http_request *req, const struct hv_call_desc *call, struct hv_err *err)
{
    const char *text = http_request_query(req, "args");
    struct json_error bad;
    char complaint[WIRE_COMPLAINT_SIZE] = "The arguments are missing.";
    json_t *json AUTO_JSON = text ? json_parse(text, strlen(text), &bad) : NULL;
    void *args = xcalloc(1, call->args->size);
    if (json && wire_decode(call->args, json, args, complaint) == 0)
        return args;
    free(args);
    hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "%s", complaint);
    return NULL;
}

/* Begins the operation of a stream. */
static int begin(struct stream_job *job, enum hv_call_id id, struct hv_err *err)
{
    const char *op_id = http_request_query(job->req, "op"),
               *timeout = http_request_query(job->req, "timeout_ms");
    struct ref uuid;
    bool known;
    if (!op_id || !uuid_parse(op_id, &uuid))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The operation has no id.");
    void *args = read_args(job->req, &hv_calls[id], err);
    if (!args)
        return -1;
    int64_t timeout_ms = timeout ? strtoll(timeout, NULL, 10) : 0;
    if (ops_begin(job->agent, op_id, &hv_calls[id], args, timeout_ms, &job->op, &known, err) < 0)
        return -1;
    if (known)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT,
                       "A stream cannot be sent twice under one operation id.");
    return 0;
}

static void report(void *arg, double fraction)
{
    struct stream_job *job = arg;
    agent_op_progress(job->agent, job->op, fraction);
}

static ssize_t read_body(void *arg, void *to, size_t max)
{
    struct stream_job *job = arg;
    return http_reader_read(job->reader, to, max, STALL_MS);
}

enum disk_format stream_format(enum image_format format)
{
    switch (format) {
    case IMAGE_FORMAT_RAW:
        break;
    case IMAGE_FORMAT_QCOW2:
        return DISK_QCOW2;
    case IMAGE_FORMAT_VHD:
        return DISK_VHD;
    case IMAGE_FORMAT_VMDK:
        return DISK_VMDK;
    }
    return DISK_RAW;
}

/* ---- coming in ---- */

/* What one kind of stream does with the bytes, on a disk that nobody else has meanwhile. */
typedef int inward_fn(struct stream_job *job, struct sr *sr, const struct storage_source *source,
                      const struct storage_job *watch, void *result, struct hv_err *err);

static int import_disk(struct stream_job *job, struct sr *sr, const struct storage_source *source,
                       const struct storage_job *watch, void *result, struct hv_err *err)
{
    const struct hv_disk_import_args *args = job->op->args;
    struct hv_disk_import_result *imported = result;
    struct storage_error error;
    if (storage_disk_import(sr->storage, args->disk, stream_format(args->format), source, watch, &error) < 0)
        return storage_to_hv(err, &error);
    return srs_disk_info(job->agent, sr, args->disk, &imported->info, err);
}

static int write_upload(struct stream_job *job, struct sr *sr, const struct storage_source *source,
                        const struct storage_job *watch, void *result, struct hv_err *err)
{
    const struct hv_upload_write_args *args = job->op->args;
    struct hv_upload_write_result *written = result;
    struct storage_upload upload = {.uuid = args->upload, .length = args->length};
    struct storage_error error;
    if (storage_upload_write(sr->storage, &upload, args->from, args->whole, source, watch, &written->offset,
                             &error) < 0)
        return storage_to_hv(err, &error);
    return 0;
}

static int with_disk(struct stream_job *job, const char *sr_uuid, const char *disk, int64_t length,
                     inward_fn *take, void *result, struct hv_err *err)
{
    struct sr *sr = srs_get(job->agent, sr_uuid, err);
    if (!sr)
        return -1;
    struct storage_source source = {.read = read_body, .arg = job, .length = length};
    struct storage_job watch = {.progress = report, .arg = job, .cancel = &job->op->cancel};
    int outcome = disks_take(job->agent, sr_uuid, disk, true, err);
    if (outcome == 0) {
        outcome = take(job, sr, &source, &watch, result, err);
        disks_release(job->agent, sr_uuid, disk, true);
    }
    srs_put(job->agent, sr);
    return outcome;
}

/* Answers, and drops the job. */
static void end_inward(struct stream_job *job, const struct wire_struct *desc, void *result, int outcome,
                       const struct hv_err *err)
{
    if (outcome == 0)
        answer_result(job->req, desc, result);
    else
        answer_error(job->req, 200, err);
    http_reader_close(job->reader);
    wire_done(desc, result);
    drop(job);
}

static void import_job(void *arg)
{
    struct stream_job *job = arg;
    struct hv_disk_import_result result;
    struct hv_err err;
    hv_disk_import_result_init(&result);
    int outcome = begin(job, HV_CALL_DISK_IMPORT, &err);
    if (outcome == 0) {
        const struct hv_disk_import_args *args = job->op->args;
        outcome = with_disk(job, args->sr, args->disk, args->size_bytes, import_disk, &result, &err);
        ops_finish(job->agent, agent_op_ref(job->op), outcome == 0 ? &result : NULL, &err);
    }
    end_inward(job, &hv_disk_import_result_desc, &result, outcome, &err);
}

static void upload_job(void *arg)
{
    struct stream_job *job = arg;
    struct hv_upload_write_result result;
    struct hv_err err;
    hv_upload_write_result_init(&result);
    int outcome = begin(job, HV_CALL_UPLOAD_WRITE, &err);
    if (outcome == 0) {
        const struct hv_upload_write_args *args = job->op->args;
        outcome = with_disk(job, args->sr, args->upload, args->size_bytes, write_upload, &result, &err);
        ops_finish(job->agent, agent_op_ref(job->op), outcome == 0 ? &result : NULL, &err);
    }
    end_inward(job, &hv_upload_write_result_desc, &result, outcome, &err);
}

static int begin_body(void *arg, int64_t length)
{
    struct stream_job *job = arg;
    unsigned char head[LENGTH_BYTES];
    for (int i = 0; i < LENGTH_BYTES; i++)
        head[i] = (unsigned char)((uint64_t)length >> (8 * (LENGTH_BYTES - 1 - i)));
    const struct http_header headers[] = {{"Content-Type", "application/octet-stream"}, {NULL, NULL}};
    job->writer = http_writer_open(job->req, 200, headers, length < 0 ? -1 : length + LENGTH_BYTES, WINDOW);
    return http_writer_write(job->writer, head, sizeof(head), STALL_MS);
}

static int write_body(void *arg, const void *data, size_t len)
{
    struct stream_job *job = arg;
    return http_writer_write(job->writer, data, len, STALL_MS);
}

static int export_disk(struct stream_job *job, struct hv_err *err)
{
    const struct hv_disk_export_args *args = job->op->args;
    struct sr *sr = srs_get(job->agent, args->sr, err);
    if (!sr)
        return -1;
    struct storage_sink sink = {.begin = begin_body, .write = write_body, .arg = job};
    struct storage_job watch = {.progress = report, .arg = job, .cancel = &job->op->cancel};
    struct storage_error error;
    bool is_disk = args->disk && *args->disk;
    const char *location = is_disk ? args->disk : args->iso;
    int outcome = is_disk ? disks_take(job->agent, args->sr, location, false, err) : 0;
    if (outcome == 0) {
        enum disk_format format = stream_format(args->format);
        bool delta = args->base && *args->base, part = args->from > 0 || args->length >= 0;
        if (format == DISK_VMDK)
            outcome = hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "VMDK images are taken, not made.");
        else if (delta && (!is_disk || format != DISK_VHD || part))
            outcome = hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "Differences come as a VHD of a disk, whole.");
        else if (part && format != DISK_RAW)
            outcome = hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "Parts are of the raw form.");
        else if (part)
            outcome = storage_disk_export_part(sr->storage, location, args->from, args->length, &sink, &watch,
                                               &error) < 0
                          ? storage_to_hv(err, &error)
                          : 0;
        else if ((delta
                      ? storage_disk_export_changes(sr->storage, args->base, location, &sink, &watch, &error)
                      : storage_disk_export(sr->storage, location, format, &sink, &watch, &error)) < 0)
            outcome = storage_to_hv(err, &error);
        if (is_disk)
            disks_release(job->agent, args->sr, location, false);
    }
    srs_put(job->agent, sr);
    return outcome;
}

static void export_job(void *arg)
{
    struct stream_job *job = arg;
    struct hv_err err;
    int outcome = begin(job, HV_CALL_DISK_EXPORT, &err);
    if (outcome == 0) {
        struct hv_disk_export_result result = {.size_bytes = -1};
        outcome = export_disk(job, &err);
        ops_finish(job->agent, agent_op_ref(job->op), outcome == 0 ? &result : NULL, &err);
    }
    if (job->writer)
        http_writer_close(job->writer, outcome == 0);
    else
        answer_error(job->req, 422, &err); /* 200 is for the bytes */
    drop(job);
}

static void submit(struct agent *agent, struct http_request *req, struct http_reader *reader,
                   void (*run)(void *arg))
{
    struct stream_job *job = xcalloc(1, sizeof(*job));
    *job = (struct stream_job){.agent = agent, .req = http_request_ref(req), .reader = reader};
    if (worker_submit(agent->workers, run, job) == 0)
        return;
    struct hv_err err;
    hv_fail(&err, HV_ERR_KIND_IN_USE, "The host has too much to do; try again later.");
    answer_error(req, 503, &err);
    if (reader)
        http_reader_close(reader);
    drop(job);
}

void streams_import(struct agent *agent, struct http_request *req)
{
    submit(agent, req, http_reader_open(req, WINDOW), import_job);
}

void streams_upload(struct agent *agent, struct http_request *req)
{
    submit(agent, req, http_reader_open(req, WINDOW), upload_job);
}

void streams_export(struct agent *agent, struct http_request *req)
{
    submit(agent, req, NULL, export_job);
}

/* ---- carrying ---- */

struct carriage {
    struct agent *agent;
    struct stream *stream;
    int fd;
    char *early;
    size_t early_len;
};

static void carriage_free(struct carriage *c)
{
    stream_close(c->stream);
    if (c->fd >= 0)
        close(c->fd);
    free(c->early);
    free(c);
}

static void carry_job(void *arg)
{
    struct carriage *c = arg;
    struct stream *local = stream_from_fd(TAKE_FD(c->fd));
    if (c->early_len == 0 || stream_write_all(local, c->early, c->early_len, STALL_MS) == 0)
        stream_pump(c->stream, local, c->agent->stop_fd, -1);
    stream_close(local);
    carriage_free(c);
}

int streams_carry(struct agent *agent, struct stream *stream, int fd, const char *early, size_t early_len)
{
    struct carriage *c = xcalloc(1, sizeof(*c));
    *c = (struct carriage){.agent = agent, .stream = stream, .fd = fd};
    if (early_len > 0) {
        c->early = memcpy(xmalloc(early_len), early, early_len);
        c->early_len = early_len;
    }
    if (worker_submit(agent->consoles, carry_job, c) == 0)
        return 0;
    carriage_free(c);
    return -1;
}

/* ---- consoles ---- */

struct console {
    struct agent *agent;
    int fd; /* to the guest's console */
};

static void upgraded(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct console *c = arg;
    if (stream)
        streams_carry(c->agent, stream, TAKE_FD(c->fd), early, early_len);
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}

static unsigned status_of(enum hv_err_kind kind)
{
    switch (kind) {
    case HV_ERR_KIND_NOT_FOUND:
        return 404;
    case HV_ERR_KIND_BAD_STATE:
        return 409;
    case HV_ERR_KIND_IN_USE:
        return 503;
    case HV_ERR_KIND_UNSUPPORTED:
        return 404;
    default:
        return 500;
    }
}

static void console_job(void *arg)
{
    struct stream_job *job = arg;
    const char *domain = http_request_query(job->req, "domain"), *kind = http_request_query(job->req, "kind");
    const char *upgrade = http_request_header(job->req, "Upgrade");
    struct hv_err err;
    struct ref uuid;
    int fd = -1;
    bool vnc = kind && streq(kind, "vnc");
    if (!upgrade || !streq(upgrade, CONSOLE_PROTOCOL) || !domain || !uuid_parse(domain, &uuid) ||
        (!vnc && !(kind && streq(kind, "serial")))) {
        http_answer_error(job->req, 400,
                          "a console needs Upgrade: " CONSOLE_PROTOCOL ", domain, and kind serial or vnc");
    } else if (job->agent->driver->console_open(job->agent->state, domain, vnc ? CONSOLE_VNC : CONSOLE_SERIAL,
                                                &fd, &err) < 0) {
        answer_error(job->req, status_of(err.kind), &err);
    } else {
        struct console *c = xcalloc(1, sizeof(*c));
        *c = (struct console){.agent = job->agent, .fd = fd};
        const struct http_header headers[] = {{"Upgrade", CONSOLE_PROTOCOL}, {NULL, NULL}};
        http_upgrade(job->req, headers, upgraded, c);
    }
    drop(job);
}

void streams_console(struct agent *agent, struct http_request *req)
{
    submit(agent, req, NULL, console_job);
}

/* ---- disks over NBD ---- */

/* One connection, which has the disk for reading until it ends. */
struct service {
    struct agent *agent;
    struct sr *sr;
    char *location;
    bool taken;
    struct storage_server *server;
    struct stream *stream;
};

static void service_free(struct service *s)
{
    storage_serve_close(s->server);
    if (s->taken)
        disks_release(s->agent, s->sr->uuid, s->location, false);
    if (s->sr)
        srs_put(s->agent, s->sr);
    stream_close(s->stream);
    free(s->location);
    free(s);
}

static void serve_job(void *arg)
{
    struct service *s = arg;
    struct storage_error error;
    int fd;
    if (storage_serve_start(s->server, &fd, &error) < 0) {
        log_error("streams", "a disk cannot be served", "disk", s->location, "cause", error.text);
    } else {
        struct stream *local = stream_from_fd(fd);
        stream_pump(s->stream, local, s->agent->stop_fd, -1);
        stream_close(local);
    }
    service_free(s);
}

static void service_begin(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct service *s = arg;
    (void)early, (void)early_len; /* none: the server's side of NBD speaks first */
    s->stream = stream;
    if (!stream || worker_submit(s->agent->consoles, serve_job, s) < 0)
        service_free(s);
}

/* Exactly one of a uuid and the name of an ISO image. */
static int service_open(struct service *s, struct http_request *req, struct hv_err *err)
{
    const char *sr = http_request_query(req, "sr"), *disk = http_request_query(req, "disk"),
               *iso = http_request_query(req, "iso"), *upgrade = http_request_header(req, "Upgrade");
    struct storage_error error;
    struct ref uuid;
    bool is_disk = disk && *disk, is_iso = iso && *iso;
    if (!upgrade || !streq(upgrade, NBD_PROTOCOL) || !sr || !uuid_parse(sr, &uuid) || is_disk == is_iso)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "A disk is named by its SR and its uuid or file.");
    if (!(s->sr = srs_get(s->agent, sr, err)))
        return -1;
    s->location = xstrdup(is_disk ? disk : iso);
    if (is_disk && disks_take(s->agent, s->sr->uuid, s->location, false, err) < 0)
        return -1;
    s->taken = is_disk;
    if (storage_serve_open(s->sr->storage, s->location, &s->server, &error) < 0)
        return storage_to_hv(err, &error);
    return 0;
}

static void service_job(void *arg)
{
    struct stream_job *job = arg;
    struct service *s = xcalloc(1, sizeof(*s));
    struct hv_err err;
    s->agent = job->agent;
    if (service_open(s, job->req, &err) < 0) {
        answer_error(job->req, status_of(err.kind), &err);
        service_free(s);
    } else {
        const struct http_header headers[] = {{"Upgrade", NBD_PROTOCOL}, {NULL, NULL}};
        http_upgrade(job->req, headers, service_begin, s);
    }
    drop(job);
}

void streams_nbd(struct agent *agent, struct http_request *req)
{
    submit(agent, req, NULL, service_job);
}
