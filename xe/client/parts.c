/* Images to a disk in parts (tus 1.0 over REST): what has come is kept by the server, so the same command
 * goes on where one before it broke or was interrupted. */
#include "moving.h"
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
    struct moving m; /* from the file; `done` is what counts on the server when it begins */
    char *metadata;  /* says which file it is, so that no other goes on with its upload */
    char *location;  /* NULL: no upload has begun */
};

static void parts_done(struct parts *p)
{
    if (p->m.fd >= 0)
        close(p->m.fd);
    free(p->metadata);
    free(p->location);
}

static int open_file(struct parts *p, struct xe_err *err)
{
    struct stat st;
    p->m.fd = open(p->filename, O_RDONLY | O_CLOEXEC);
    if (p->m.fd < 0 || fstat(p->m.fd, &st) < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", p->filename, strerror(errno));
        return -1;
    }
    off_t length = S_ISBLK(st.st_mode) ? lseek(p->m.fd, 0, SEEK_END) : S_ISREG(st.st_mode) ? st.st_size : -1;
    if (length <= 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: only a file or a block device with something in it can be resumed",
                   p->filename);
        return -1;
    }
    p->m.total = (uint64_t)length;
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
    p->m.done = (uint64_t)json_integer_value(json_object_get(item, "offset"));
    return !streq(metadata, p->metadata) ||
           (uint64_t)json_integer_value(json_object_get(item, "length")) != p->m.total;
}

static int begin_upload(struct parts *p, const char *path, const char *format, struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    AUTO_SECRET char *bearer = xasprintf("Bearer %s", p->c->session);
    AUTO_FREE char *with_format = xasprintf("%s?format=%s", path, format);
    char length[NUMBER_SIZE];
    snprintf(length, sizeof(length), "%llu", (unsigned long long)p->m.total);
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
        return xe_rest_refused(&reply, path, err);
    p->location = TAKE_PTR(reply.location);
    p->m.done = 0;
    return 0;
}

static int send_rest(struct parts *p, struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    AUTO_SECRET char *bearer = xasprintf("Bearer %s", p->c->session);
    char offset[NUMBER_SIZE];
    snprintf(offset, sizeof(offset), "%llu", (unsigned long long)p->m.done);
    const struct http_header headers[] = {
        {"Authorization", bearer}, {"Tus-Resumable", TUS_VERSION}, {"Upload-Offset", offset}, {NULL, NULL}};
    struct http_call call = {.method = "PATCH",
                             .path = p->location,
                             .headers = headers,
                             .source = xe_moving_pull,
                             .source_len = (int64_t)(p->m.total - p->m.done),
                             .arg = &p->m,
                             .content_type = "application/offset+octet-stream",
                             .timeout_ms = -1,
                             .stall_ms = XE_STALL_MS, /* the image is converted after the last byte */
                             .cancel = &xe_stop};
    struct http_error error;
    if (lseek(p->m.fd, (off_t)p->m.done, SEEK_SET) < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", p->filename, strerror(errno));
        return -1;
    }
    if (http_client_call(p->c->http, &call, &reply, &error) == 0)
        return reply.status == 204 ? 0 : xe_rest_refused(&reply, p->location, err);
    if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted: the same command goes on.");
    else
        xe_moving_failed(p->c, &p->m, p->filename, &error, err);
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
    struct parts p = {.c = ctx, .filename = filename, .m = {.fd = -1, .progress = progress, .arg = arg}};
    int rc = move(&p, path, format, anew, err);
    parts_done(&p);
    return rc;
}
