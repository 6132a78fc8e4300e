/* The transport of xe: one server, one session, opened at the first call and closed at the end. The
 * functions are the callbacks of struct xe_api; ctx is the struct xe_client. */
#pragma once
#include "options.h"
#include <base/http_client.h>
#include <xe/engine.h>

struct xe_client {
    struct xe_options *options;
    struct http_client *http; /* NULL until the first call */
    char *session;
    bool alone;        /* the session is of the server that answers, not of its pool */
    const char *other; /* the session of calls instead; NULL: none */
    unsigned last_id;
    char *cookie; /* "session_id=..." */
};

/* Set by the signal handler; a waiting call ends with XE_ERR_CANCELLED within a second. */
extern _Atomic bool xe_stop;

/* connect.c: the HTTP client with its trust settled. 0, or -1 with *err. */
int xe_connect(struct xe_client *c, struct xe_err *err);
/* rpc.c */
int xe_rpc_call(void *ctx, const char *method, json_t *params, const char *const *keep, json_t **result,
                struct xe_err *err);
/* Logs in unless it has been done. */
int xe_rpc_login(struct xe_client *c, struct xe_err *err);
void xe_rpc_logout(struct xe_client *c);
int xe_rpc_rest(void *ctx, const char *method, const char *path, json_t *body, json_t **result,
                struct xe_err *err);
/* The reason in an answer of REST that is no success: the API's error of its problem, or one sentence about
 * `what`. Always -1. */
int xe_rest_refused(const struct http_reply *reply, const char *what, struct xe_err *err);
const char *xe_rpc_session(void *ctx, struct xe_err *err);
void xe_rpc_use_session(void *ctx, const char *session);
/* Before the first call. */
void xe_rpc_log_in_locally(void *ctx);
/* One sentence about a failed exchange. */
void xe_http_failed(const struct xe_client *c, const struct http_error *error, struct xe_err *err);
/* transfer.c */
int xe_upload(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
              struct xe_err *err);
int xe_download(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
                struct xe_err *err);
/* parts.c */
int xe_upload_parts(void *ctx, const char *filename, const char *path, const char *format, bool anew,
                    xe_progress_fn *progress, void *arg, struct xe_err *err);
/* ranges.c */
int xe_download_parts(void *ctx, const char *filename, const char *path, bool anew, xe_progress_fn *progress,
                      void *arg, struct xe_err *err);
int xe_disk_size(void *ctx, const char *filename, const char *format, int64_t *size, struct xe_err *err);
int xe_read_file(void *ctx, const char *name, char **data, size_t *len, struct xe_err *err);
/* fetch.c */
int xe_fetch(void *ctx, const char *url, xe_progress_fn *progress, void *arg, char **file,
             struct xe_err *err);
/* build.c */
int xe_build_disk(void *ctx, const char *const *options, const char *password, xe_progress_fn *progress,
                  void *arg, char **file, struct xe_err *err);
void xe_drop_disk(void *ctx, const char *file);
/* An empty file for a disk, in a folder of its own; its descriptor and its path (the caller's, and
 * xe_drop_disk's). */
int xe_temporary_disk(char **file, struct xe_err *err);
/* ova.c */
int xe_open_ova(void *ctx, const char *filename, char **text, size_t *len, struct xe_err *err);
int xe_ova_disk(void *ctx, const char *filename, const char *member, int64_t capacity,
                xe_progress_fn *progress, void *arg, char **file, struct xe_err *err);
int xe_write_ova(void *ctx, const char *filename, const char *description, const struct xe_ova_disk *disks,
                 size_t count, int (*fetch)(void *arg, size_t disk, const char *file),
                 xe_progress_fn *progress, void *arg, struct xe_err *err);
/* terminal.c */
int xe_console(void *ctx, const char *path, struct xe_err *err);
int xe_screen(void *ctx, const char *path, const char *where, bool once, struct xe_err *err);
/* With --debug: one line on stderr. */
void xe_debug(const struct xe_client *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
