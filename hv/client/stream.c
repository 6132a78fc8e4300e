/* Disk streams and consoles of the client; the protocol is described in client.c. */
#include "client_internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>

#define LENGTH_BYTES 8

static char *stream_path(const struct hv_host *host, const struct hv_call_desc *call, const struct hv_op *op,
                         const void *args)
{
    struct buf path = BUF_INIT, json AUTO_BUF = BUF_INIT;
    wire_encode(call->args, args, &json);
    int64_t timeout = op->timeout_ms > 0 ? op->timeout_ms : call->timeout_ms;
    buf_printf(&path, "/v1/%s?op=%s&term=%lld&timeout_ms=%lld&args=", call->name, op->id,
               (long long)host->term, (long long)timeout);
    http_escape(&path, json.data);
    return buf_take(&path);
}

static int check_op(const struct hv_op *op, struct hv_err *err)
{
    struct ref uuid;
    if (!op || !op->id || !uuid_parse(op->id, &uuid))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The operation has no id.");
    return 0;
}

struct upload {
    hv_read_fn *read;
    void *ctx;
    const struct hv_op *op;
    int64_t done, size;
};

static ssize_t upload_read(void *arg, char *to, size_t max)
{
    struct upload *up = arg;
    ssize_t n = up->read(up->ctx, to, max);
    if (n > 0) {
        up->done += n;
        if (up->op->progress && up->size > 0)
            up->op->progress(up->op->ctx, up->done < up->size ? (double)up->done / (double)up->size : 1.0);
    }
    return n;
}

/* An agent that refuses an upload in the middle answers while it is still being sent, and the connection may
 * break before the answer is read. The operation's record says what it was: true if it failed, with its
 * error. */
static bool refused_meanwhile(struct hv_host *host, const char *id, struct hv_err *err)
{
    struct hv_operation_get_args args;
    struct hv_operation_get_result result;
    struct hv_err ignored;
    const struct hv_op op = {.timeout_ms = 10000};
    hv_operation_get_args_init(&args);
    str_assign(&args.id, id);
    args.wait_ms = 5000;
    int rc = hv_operation_get(host, &op, &args, &result, &ignored);
    hv_operation_get_args_done(&args);
    if (rc < 0)
        return false;
    bool failed = result.status.state == OPERATION_STATE_FAILED;
    if (failed)
        hv_fail(err, result.status.error, "%s", result.status.error_text);
    hv_operation_get_result_done(&result);
    return failed;
}

/* Sends what `read` gives (`size` bytes, -1: unknown) as the body of a call. */
static int send_stream(struct hv_host *host, const struct hv_call_desc *desc, const struct hv_op *op,
                       const void *args, struct upload *up, void *result, struct hv_err *err)
{
    struct hv_err ignored;
    err = err ? err : &ignored;
    if (check_op(op, err) < 0 || hv_host_check(host, err) < 0)
        return -1;
    char *path AUTO_FREE = stream_path(host, desc, op, args);
    struct http_call call = {.method = "PUT",
                             .path = path,
                             .content_type = "application/octet-stream",
                             .source = upload_read,
                             .source_len = up->size,
                             .arg = up,
                             .timeout_ms = op->timeout_ms > 0 ? op->timeout_ms : -1,
                             .stall_ms = 600000, /* the image is converted after the last byte */
                             .cancel = op->cancel ? op->cancel : &host->interrupted};
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    struct http_error error;
    if (http_client_call(host->http, &call, &reply, &error) == 0)
        return hv_read_answer(desc, &reply, result, NULL, err);
    hv_http_failure(&error, err);
    if (err->kind == HV_ERR_KIND_UNREACHABLE)
        refused_meanwhile(host, op->id, err);
    return -1;
}

int hv_disk_import(struct hv_host *host, const struct hv_op *op, const struct hv_disk_import_args *args,
                   hv_read_fn *read, void *read_ctx, struct hv_disk_import_result *result, struct hv_err *err)
{
    struct upload up = {.read = read, .ctx = read_ctx, .op = op, .size = args->size_bytes};
    return send_stream(host, &hv_calls[HV_CALL_DISK_IMPORT], op, args, &up, result, err);
}

int hv_upload_write(struct hv_host *host, const struct hv_op *op, const struct hv_upload_write_args *args,
                    hv_read_fn *read, void *read_ctx, struct hv_upload_write_result *result,
                    struct hv_err *err)
{
    struct upload up = {.read = read, .ctx = read_ctx, .op = op, .size = args->size_bytes};
    return send_stream(host, &hv_calls[HV_CALL_UPLOAD_WRITE], op, args, &up, result, err);
}

struct download {
    int (*begin)(void *ctx, int64_t size_bytes);
    hv_write_fn *write;
    void *ctx;
    const struct hv_op *op;
    unsigned char length[LENGTH_BYTES];
    size_t length_got;
    int64_t done, size;
};

static int take_length(struct download *down, const char **data, size_t *len)
{
    while (down->length_got<LENGTH_BYTES && * len> 0) {
        down->length[down->length_got++] = (unsigned char)**data;
        (*data)++;
        (*len)--;
        if (down->length_got < LENGTH_BYTES)
            continue;
        uint64_t size = 0;
        for (int i = 0; i < LENGTH_BYTES; i++)
            size = size << 8 | down->length[i];
        down->size = (int64_t)size;
        if (down->begin && down->begin(down->ctx, down->size) != 0)
            return -1;
    }
    return 0;
}

static int download_write(void *arg, const char *data, size_t len)
{
    struct download *down = arg;
    if (take_length(down, &data, &len) < 0)
        return -1;
    if (len == 0)
        return 0;
    down->done += (int64_t)len;
    if (down->op->progress && down->size > 0)
        down->op->progress(down->op->ctx, (double)down->done / (double)down->size);
    return down->write(down->ctx, data, len);
}

int hv_disk_export(struct hv_host *host, const struct hv_op *op, const struct hv_disk_export_args *args,
                   int (*begin)(void *ctx, int64_t size_bytes), hv_write_fn *write, void *write_ctx,
                   struct hv_err *err)
{
    struct hv_err ignored;
    err = err ? err : &ignored;
    if (check_op(op, err) < 0 || hv_host_check(host, err) < 0)
        return -1;
    const struct hv_call_desc *desc = &hv_calls[HV_CALL_DISK_EXPORT];
    char *path AUTO_FREE = stream_path(host, desc, op, args);
    struct download down = {.begin = begin, .write = write, .ctx = write_ctx, .op = op, .size = -1};
    struct http_call call = {.method = "GET",
                             .path = path,
                             .sink = download_write,
                             .arg = &down,
                             .timeout_ms = op->timeout_ms > 0 ? op->timeout_ms : -1,
                             .stall_ms = 600000,
                             .cancel = op->cancel ? op->cancel : &host->interrupted};
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    struct http_error error;
    struct hv_disk_export_result result;
    if (http_client_call(host->http, &call, &reply, &error) < 0)
        return hv_http_failure(&error, err);
    if (reply.status != 200)
        return hv_read_answer(desc, &reply, &result, NULL, err);
    if (down.length_got < LENGTH_BYTES || (down.size >= 0 && down.done != down.size))
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The connection to the host's agent was lost.");
    return 0;
}

int hv_console_open(struct hv_host *host, const char *domain_uuid, const char *kind, int64_t timeout_ms,
                    struct stream **out, struct hv_err *err)
{
    struct ref uuid;
    struct hv_err ignored;
    err = err ? err : &ignored;
    if (!uuid_parse(domain_uuid, &uuid) || (!streq(kind, "serial") && !streq(kind, "vnc")))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "There is no such kind of console.");
    if (hv_host_check(host, err) < 0)
        return -1;
    char *path AUTO_FREE =
        xasprintf("/v1/console?domain=%s&kind=%s&term=%lld", domain_uuid, kind, (long long)host->term);
    unsigned status = 0;
    struct http_error error;
    if (http_client_upgrade(host->http, path, "corral-console", NULL, timeout_ms, out, &status, &error) == 0)
        return 0;
    switch (status) {
    case 403:
        return hv_fail(err, HV_ERR_KIND_SUPERSEDED, "Another server has taken over the pool.");
    case 404:
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run there, or has no such console.");
    case 409:
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain does not run, or its console is closed.");
    case 503:
        return hv_fail(err, HV_ERR_KIND_IN_USE, "The console has too many viewers.");
    case 0:
        return hv_http_failure(&error, err);
    default:
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The host's agent did not open the console.");
    }
}

int hv_disk_serve(struct hv_host *host, const char *sr, const char *disk, const char *iso, int64_t timeout_ms,
                  struct stream **out, struct hv_err *err)
{
    AUTO_BUF struct buf path = BUF_INIT;
    unsigned status = 0;
    struct http_error error;
    struct hv_err ignored;
    if (hv_host_check(host, err ? err : &ignored) < 0)
        return -1;
    buf_printf(&path, "/v1/nbd?term=%lld&sr=", (long long)host->term);
    http_escape(&path, sr);
    buf_add_str(&path, "&disk=");
    http_escape(&path, disk);
    buf_add_str(&path, "&iso=");
    http_escape(&path, iso);
    if (http_client_upgrade(host->http, path.data, "corral-nbd", NULL, timeout_ms, out, &status, &error) == 0)
        return 0;
    switch (status) {
    case 403:
        return hv_fail(err, HV_ERR_KIND_SUPERSEDED, "Another server has taken over the pool.");
    case 404:
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The disk is not there.");
    case 503:
        return hv_fail(err, HV_ERR_KIND_IN_USE, "The disk is in use, or the host has too much to do.");
    case 0:
        return hv_http_failure(&error, err);
    default:
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The host's agent does not serve the disk.");
    }
}
