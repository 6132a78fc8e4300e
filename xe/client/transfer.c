/* Disk images in and out, as streams between a local file and the server. */
#include "moving.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

ssize_t xe_moving_pull(void *arg, char *to, size_t max)
{
    struct moving *m = arg;
    ssize_t n;
    do
        n = read(m->fd, to, max);
    while (n < 0 && errno == EINTR && !xe_stop);
    if (n < 0) {
        m->failed = errno;
        return -1;
    }
    m->done += (uint64_t)n;
    return m->progress(m->arg, m->done, m->total) ? -1 : n;
}

int xe_moving_push(void *arg, const char *data, size_t len)
{
    struct moving *m = arg;
    for (size_t at = 0; at < len;) {
        ssize_t n = write(m->fd, data + at, len - at);
        if (n < 0 && errno == EINTR && !xe_stop)
            continue;
        if (n <= 0) {
            m->failed = n < 0 ? errno : EIO;
            return -1;
        }
        at += (size_t)n;
    }
    m->done += len;
    return m->progress(m->arg, m->done, m->total) ? -1 : 0;
}

int xe_moving_failed(const struct xe_client *c, const struct moving *m, const char *filename,
                     const struct http_error *error, struct xe_err *err)
{
    if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
    else if (m->failed)
        xe_err_set(err, XE_ERR_CLI, "%s: %s", filename, strerror(m->failed));
    else
        xe_http_failed(c, error, err);
    return -1;
}

static int refused(const struct http_reply *reply, struct xe_err *err)
{
    const char *why = reply->status == 401   ? ": the session is not accepted"
                      : reply->status == 403 ? ": your role does not allow it"
                      : reply->status == 404 ? ": there is no such disk, format or service"
                      : reply->status == 413 ? ": the image is larger than the disk"
                                             : "";
    xe_err_set(err, XE_ERR_PLAIN, "The server refused the transfer with HTTP status %u%s.", reply->status,
               why);
    return -1;
}

static int run(struct xe_client *c, struct http_call *call, struct moving *m, const char *filename,
               struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    const struct http_header headers[] = {{"Cookie", c->cookie}, {NULL, NULL}};
    struct http_error error;
    call->headers = headers;
    call->arg = m;
    call->timeout_ms = -1;
    call->stall_ms = XE_STALL_MS;
    call->cancel = &xe_stop;
    if (http_client_call(c->http, call, &reply, &error) < 0)
        return xe_moving_failed(c, m, filename, &error, err);
    xe_debug(c, "%s: status %u, %llu bytes", call->path, reply.status, (unsigned long long)m->done);
    return reply.status >= 200 && reply.status < 300 ? 0 : refused(&reply, err);
}

/* The server wants to know the length first: what comes from a pipe is kept in a file without a name until it
 * is complete. A descriptor, or -1 with *err. */
static int keep_input(int from, struct xe_err *err)
{
    AUTO_FREE char *piece = xmalloc(65536);
    AUTO_CLOSE int to = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    ssize_t n = 1;
    while (to >= 0 && !xe_stop && (n = read(from, piece, 65536)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        for (ssize_t at = 0, put; n > 0 && at < n; at += put)
            if ((put = write(to, piece + at, (size_t)(n - at))) <= 0)
                n = -1;
        if (n < 0)
            break;
    }
    if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
    else if (to < 0 || n < 0 || lseek(to, 0, SEEK_SET) < 0)
        xe_err_set(err, XE_ERR_CLI, "the input cannot be kept in /var/tmp: %s", strerror(errno));
    else
        return TAKE_FD(to);
    return -1;
}

int xe_upload(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
              struct xe_err *err)
{
    struct xe_client *c = ctx;
    bool standard = streq(filename, "-");
    AUTO_CLOSE int file = standard ? -1 : open(filename, O_RDONLY | O_CLOEXEC);
    struct stat st;
    struct moving m = {.fd = standard ? STDIN_FILENO : file, .progress = progress, .arg = arg};
    if (m.fd < 0 || fstat(m.fd, &st) < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", filename, strerror(errno));
        return -1;
    }
    if (S_ISDIR(st.st_mode)) {
        xe_err_set(err, XE_ERR_CLI, "%s is a folder, not a disk image", filename);
        return -1;
    }
    if (S_ISBLK(st.st_mode) && (st.st_size = lseek(m.fd, 0, SEEK_END)) >= 0)
        lseek(m.fd, 0, SEEK_SET);
    bool sized = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
    AUTO_CLOSE int kept = sized ? -1 : keep_input(m.fd, err);
    if (!sized) {
        if (kept < 0 || fstat(kept, &st) < 0)
            return -1;
        m.fd = kept;
    }
    m.total = (uint64_t)st.st_size;
    if (xe_rpc_login(c, err) < 0)
        return -1;
    struct http_call call = {.method = "PUT",
                             .path = path,
                             .source = xe_moving_pull,
                             .source_len = st.st_size,
                             .content_type = "application/octet-stream"};
    return run(c, &call, &m, filename, err);
}

int xe_download(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
                struct xe_err *err)
{
    struct xe_client *c = ctx;
    bool standard = streq(filename, "-");
    AUTO_FREE char *partial = xasprintf("%s.partial", filename);
    if (!standard && access(filename, F_OK) == 0) {
        xe_err_set(err, XE_ERR_CLI, "%s exists already", filename);
        return -1;
    }
    AUTO_CLOSE int file =
        standard ? -1 : open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct moving m = {.fd = standard ? STDOUT_FILENO : file, .progress = progress, .arg = arg};
    if (m.fd < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", partial, strerror(errno));
        return -1;
    }
    struct http_call call = {.method = "GET", .path = path, .sink = xe_moving_push};
    int rc = xe_rpc_login(c, err) < 0 ? -1 : run(c, &call, &m, filename, err);
    if (standard)
        return rc;
    if (rc == 0 && (fsync(file) < 0 || rename(partial, filename) < 0)) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", filename, strerror(errno));
        rc = -1;
    }
    if (rc < 0)
        unlink(partial);
    return rc;
}

int xe_read_file(void *ctx, const char *name, char **data, size_t *len, struct xe_err *err)
{
    (void)ctx;
    *data = file_read(name, 1 << 20, len);
    if (*data)
        return 0;
    xe_err_set(err, XE_ERR_CLI, "%s: %s", name, strerror(errno));
    return -1;
}

static uint64_t big_endian(const unsigned char *bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < 8; i++)
        n = n << 8 | bytes[i];
    return n;
}

int xe_disk_size(void *ctx, const char *filename, const char *format, int64_t *size, struct xe_err *err)
{
    unsigned char head[512] = {0};
    AUTO_CLOSE int fd = open(filename, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t end = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    (void)ctx;
    if (end < 0) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", filename, strerror(errno));
        return -1;
    }
    bool vhd = streq(format, "vhd");
    uint64_t found = (uint64_t)end;
    if (!streq(format, "raw")) {
        ssize_t n = pread(fd, head, sizeof(head), vhd && end >= 512 ? end - 512 : 0);
        if (n < 72 || memcmp(head, vhd ? "conectix" : "QFI\xfb", vhd ? 8 : 4) != 0) {
            xe_err_set(err, XE_ERR_CLI, "%s is not a %s image", filename, format);
            return -1;
        }
        if (!vhd && big_endian(head + 8)) {
            xe_err_set(err, XE_ERR_CLI, "%s needs another file below it: flatten it first (qemu-img convert)",
                       filename);
            return -1;
        }
        found = big_endian(head + (vhd ? 48 : 24));
    }
    if (found == 0 || found > INT64_MAX / 2) {
        xe_err_set(err, XE_ERR_CLI, "%s is empty", filename);
        return -1;
    }
    *size = (int64_t)found;
    return 0;
}
