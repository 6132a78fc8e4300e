/* Images to a disk in parts (tus 1.0 over REST): what has come is kept by the server, so the same command
 * goes on where one before it broke or was interrupted. */
#include "client.h"
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define TUS_VERSION "1.0.0"
#define NUMBER_SIZE 24

/* One file on its way. */
struct parts {
    struct xe_client *c;
    const char *filename;
    int fd;
    int64_t length, offset;
    char *metadata; /* says which file it is, so that no other goes on with its upload */
    char *location; /* NULL: no upload has begun */
    int failed;     /* errno of the local side */
    xe_progress_fn *progress;
    void *arg;
};

static void parts_done(struct parts *p)
{
    if (p->fd >= 0)
        close(p->fd);
    free(p->metadata);
    free(p->location);
}

static int open_file(struct parts *p, struct xe_err *err)
{
    struct stat st;
    p->fd = open(p->filename, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0 || fstat(p->fd, &st) < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", p->filename, strerror(errno));
        return -1;
    }
    p->length = S_ISBLK(st.st_mode) ? lseek(p->fd, 0, SEEK_END) : S_ISREG(st.st_mode) ? st.st_size : -1;
    if (p->length <= 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: only a file or a block device with something in it can be resumed",
                   p->filename);
        return -1;
    }
    AUTO_FREE char *said = xasprintf("%lld.%09ld", (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    AUTO_FREE char *modified = base64_encode(said, strlen(said));
    p->metadata = xasprintf("modified %s", modified);
    return 0;
}

/* The upload that the disk has, if it is of this file. 1: it is another's. */
static int find_upload(struct parts *p, const char *path, struct xe_err *err)
{
    AUTO_JSON json_t *page = NULL;
    const char *metadata = "", *location = "";
    if (xe_rpc_rest(p->c, "GET", path, NULL, &page, err) < 0)
        return -1;
    const json_t *item = json_array_get(json_object_get(page, "items"), 0);
    if (!item || json_is_true(json_object_get(item, "finished")))
        return 0;
    json_get_string(item, "metadata", &metadata);
    json_get_string(item, "location", &location);
    p->location = xstrdup(location);
    p->offset = json_integer_value(json_object_get(item, "offset"));
    return !streq(metadata, p->metadata) || json_integer_value(json_object_get(item, "length")) != p->length;
}

/* The server's reason: a problem of REST. */
static int refused(const struct http_reply *reply, struct xe_err *err)
{
    struct json_error bad;
    const char *code = NULL, *detail = "";
    AUTO_JSON json_t *problem = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    if (problem && json_get_string(problem, "code", &code)) {
        xe_err_set_api(err, code, json_object_get(problem, "params"));
        return -1;
    }
    if (problem)
        json_get_string(problem, "detail", &detail);
    xe_err_set(err, XE_ERR_PLAIN, "The server refused the transfer with HTTP status %u%s%s", reply->status,
               *detail ? ": " : ".", detail);
    return -1;
}

static int begin_upload(struct parts *p, const char *path, const char *format, struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    AUTO_SECRET char *bearer = xasprintf("Bearer %s", p->c->session);
    AUTO_FREE char *with_format = xasprintf("%s?format=%s", path, format);
    char length[NUMBER_SIZE];
    snprintf(length, sizeof(length), "%lld", (long long)p->length);
    const struct http_header headers[] = {{"Authorization", bearer},
                                          {"Tus-Resumable", TUS_VERSION},
                                          {"Upload-Length", length},
                                          {"Upload-Metadata", p->metadata},
                                          {NULL, NULL}};
    struct http_call call = {.method = "POST", .path = with_format, .headers = headers, .cancel = &xe_stop};
    struct http_error error;
    if (http_client_call(p->c->http, &call, &reply, &error) < 0) {
        xe_http_failed(p->c, &error, err);
        return -1;
    }
    if (reply.status != 201 || !reply.location)
        return refused(&reply, err);
    p->location = TAKE_PTR(reply.location);
    p->offset = 0;
    return 0;
}

static ssize_t pull(void *arg, char *to, size_t max)
{
    struct parts *p = arg;
    ssize_t n;
    do
        n = read(p->fd, to, max);
    while (n < 0 && errno == EINTR && !xe_stop);
    if (n < 0) {
        p->failed = errno;
        return -1;
    }
    p->offset += n;
    return p->progress(p->arg, (uint64_t)p->offset, (uint64_t)p->length) ? -1 : n;
}

static int send_rest(struct parts *p, struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    AUTO_SECRET char *bearer = xasprintf("Bearer %s", p->c->session);
    char offset[NUMBER_SIZE];
    snprintf(offset, sizeof(offset), "%lld", (long long)p->offset);
    const struct http_header headers[] = {
        {"Authorization", bearer}, {"Tus-Resumable", TUS_VERSION}, {"Upload-Offset", offset}, {NULL, NULL}};
    struct http_call call = {.method = "PATCH",
                             .path = p->location,
                             .headers = headers,
                             .source = pull,
                             .source_len = p->length - p->offset,
                             .arg = p,
                             .content_type = "application/offset+octet-stream",
                             .timeout_ms = -1,
                             .stall_ms = 3600 * 1000, /* the image is converted after the last byte */
                             .cancel = &xe_stop};
    struct http_error error;
    if (lseek(p->fd, p->offset, SEEK_SET) < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", p->filename, strerror(errno));
        return -1;
    }
    if (http_client_call(p->c->http, &call, &reply, &error) == 0)
        return reply.status == 204 ? 0 : refused(&reply, err);
    if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted: the same command goes on.");
    else if (p->failed)
        xe_err_set(err, XE_ERR_CLI, "%s: %s", p->filename, strerror(p->failed));
    else
        xe_http_failed(p->c, &error, err);
    return -1;
}

static int drop_upload(struct parts *p, struct xe_err *err)
{
    AUTO_JSON json_t *none = NULL;
    if (xe_rpc_rest(p->c, "DELETE", p->location, NULL, &none, err) < 0)
        return -1;
    free(p->location);
    p->location = NULL;
    return 0;
}

static int move(struct parts *p, const char *path, const char *format, bool anew, struct xe_err *err)
{
    if (open_file(p, err) < 0 || xe_rpc_login(p->c, err) < 0)
        return -1;
    int found = find_upload(p, path, err);
    if (found < 0)
        return -1;
    if (found == 1 && !anew) {
        xe_err_set(
            err, XE_ERR_CLI,
            "another file is on its way to this disk, or this one has changed since: resume=anew gives "
            "that up and begins with this one");
        return -1;
    }
    if (p->location && anew && drop_upload(p, err) < 0)
        return -1;
    if (!p->location && begin_upload(p, path, format, err) < 0)
        return -1;
    return send_rest(p, err);
}

int xe_upload_parts(void *ctx, const char *filename, const char *path, const char *format, bool anew,
                    xe_progress_fn *progress, void *arg, struct xe_err *err)
{
    struct parts p = {.c = ctx, .filename = filename, .fd = -1, .progress = progress, .arg = arg};
    int rc = move(&p, path, format, anew, err);
    parts_done(&p);
    return rc;
}
