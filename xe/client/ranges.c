/* A disk into a file by ranges of its content (REST): what has come stays in FILE.partial, and
 * FILE.partial.of says of which disk and which version of it (its ETag), so the same command goes on where
 * one before it broke or was killed, and never joins parts of two contents. */
#include "moving.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define NOTE_MAX 4096

struct ranges {
    struct moving m; /* `done` is the length of the partial file */
    struct xe_client *c;
    const char *filename, *path;
    char *partial, *note; /* their names */
    char *etag;           /* of what is in the partial file; NULL: nothing that counts */
    bool changed;         /* the disk, since */
};

static void ranges_done(struct ranges *r)
{
    if (r->m.fd >= 0)
        close(r->m.fd);
    free(r->partial);
    free(r->note);
    free(r->etag);
}

static int local_trouble(const char *name, struct xe_err *err)
{
    xe_err_set(err, XE_ERR_CLI, "%s: %s", name, strerror(errno));
    return -1;
}

/* ---- the partial file ---- */

/* "PATH\nETAG\n". NULL: there is none, or it is of another disk. */
static char *read_note(const struct ranges *r)
{
    AUTO_FREE char *text = file_read(r->note, NOTE_MAX, NULL);
    char *rest = text, *path = strsep(&rest, "\n"), *etag = strsep(&rest, "\n");
    return path && etag && *etag && streq(path, r->path) ? xstrdup(etag) : NULL;
}

static int write_note(const struct ranges *r, const char *etag)
{
    AUTO_FREE char *text = xasprintf("%s\n%s\n", r->path, etag);
    return file_write_atomic(r->note, text, strlen(text), 0600);
}

static int open_partial(struct ranges *r, bool anew, struct xe_err *err)
{
    struct stat st;
    if (access(r->filename, F_OK) == 0) {
        xe_err_set(err, XE_ERR_CLI, "%s exists already", r->filename);
        return -1;
    }
    r->m.fd = open(r->partial, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (r->m.fd < 0 || fstat(r->m.fd, &st) < 0)
        return local_trouble(r->partial, err);
    if (!S_ISREG(st.st_mode)) {
        xe_err_set(err, XE_ERR_CLI, "%s is not a file", r->partial);
        return -1;
    }
    if (flock(r->m.fd, LOCK_EX | LOCK_NB) < 0) {
        xe_err_set(err, XE_ERR_CLI, "another xe writes %s", r->partial);
        return -1;
    }
    r->etag = anew || st.st_size == 0 ? NULL : read_note(r);
    if (!r->etag && ftruncate(r->m.fd, 0) < 0)
        return local_trouble(r->partial, err);
    off_t end = lseek(r->m.fd, 0, SEEK_END);
    if (end < 0)
        return local_trouble(r->partial, err);
    r->m.done = (uint64_t)end;
    return 0;
}

static int finish(const struct ranges *r, struct xe_err *err)
{
    if (fsync(r->m.fd) < 0 || rename(r->partial, r->filename) < 0)
        return local_trouble(r->filename, err);
    if (unlink(r->note) < 0 && errno != ENOENT)
        return local_trouble(r->note, err);
    return 0;
}

/* ---- the answer ---- */

/* What is about to come belongs behind what is there, or nothing is written. A content without a version
 * comes whole (200) and is not noted: the next attempt begins again. */
static int look(void *arg, const struct http_reply *reply)
{
    struct ranges *r = arg;
    uint64_t from = 0, to, total = 0;
    if (reply->status == 206 &&
        (!reply->content_range ||
         sscanf(reply->content_range, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64, &from, &to, &total) != 3))
        return -1;
    r->changed = r->etag && (from != r->m.done || !reply->etag || !streq(reply->etag, r->etag));
    if (r->changed || from != r->m.done)
        return -1;
    r->m.total = total;
    if (r->etag || !reply->etag || write_note(r, reply->etag) == 0)
        return 0;
    r->m.failed = errno;
    return -1;
}

static int take(void *arg, const char *data, size_t len)
{
    return xe_moving_push(&((struct ranges *)arg)->m, data, len);
}

static int fetch_failed(const struct ranges *r, const struct http_error *error, struct xe_err *err)
{
    if (r->changed)
        xe_err_set(err, XE_ERR_CLI,
                   "the disk has changed since %s was begun, so the rest does not fit: resume=anew begins "
                   "again, and a snapshot of the disk (vdi-snapshot) would stay as it is meanwhile",
                   r->partial);
    else if (xe_stop)
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted: the same command goes on.");
    else
        xe_moving_failed(r->c, &r->m, r->filename, error, err);
    return -1;
}

/* True if the answer says that nothing is left. */
static bool is_whole(const struct ranges *r, const struct http_reply *reply)
{
    uint64_t total;
    return reply->status == 416 && r->etag && reply->content_range &&
           sscanf(reply->content_range, "bytes */%" SCNu64, &total) == 1 && total == r->m.done;
}

static int fetch(struct ranges *r, struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    AUTO_SECRET char *bearer = xasprintf("Bearer %s", r->c->session);
    AUTO_FREE char *range = xasprintf("bytes=%" PRIu64 "-", r->m.done);
    const struct http_header headers[] = {
        {"Authorization", bearer}, {"Range", range}, {r->etag ? "If-Range" : NULL, r->etag}, {NULL, NULL}};
    struct http_call call = {.method = "GET",
                             .path = r->path,
                             .headers = headers,
                             .head = look,
                             .sink = take,
                             .arg = r,
                             .timeout_ms = -1,
                             .stall_ms = XE_STALL_MS,
                             .cancel = &xe_stop};
    struct http_error error;
    if (http_client_call(r->c->http, &call, &reply, &error) < 0)
        return fetch_failed(r, &error, err);
    xe_debug(r->c, "%s: status %u, %" PRIu64 " bytes are there", r->path, reply.status, r->m.done);
    if ((reply.status < 200 || reply.status > 299) && !is_whole(r, &reply))
        return xe_rest_refused(&reply, r->path, err);
    return finish(r, err);
}

int xe_download_parts(void *ctx, const char *filename, const char *path, bool anew, xe_progress_fn *progress,
                      void *arg, struct xe_err *err)
{
    struct ranges r = {.m = {.fd = -1, .progress = progress, .arg = arg},
                       .c = ctx,
                       .filename = filename,
                       .path = path,
                       .partial = xasprintf("%s.partial", filename),
                       .note = xasprintf("%s.partial.of", filename)};
    int rc = open_partial(&r, anew, err) < 0 || xe_rpc_login(r.c, err) < 0 ? -1 : fetch(&r, err);
    ranges_done(&r);
    return rc;
}
