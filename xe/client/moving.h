/* Bytes on their way between a local file and the server, for transfer.c and parts.c. */
#pragma once
#include "client.h"

/* Ends a transfer in which no byte moves for so long. */
#define XE_STALL_MS (3600 * 1000)

struct moving {
    int fd;
    int failed; /* errno of the local side */
    uint64_t done, total;
    xe_progress_fn *progress;
    void *arg;
};

/* For struct http_call: `source` and `sink` of a struct moving. */
ssize_t xe_moving_pull(void *arg, char *to, size_t max);
int xe_moving_push(void *arg, const char *data, size_t len);
/* Says why the call has failed: the user's wish first, then local trouble with `filename`. Always -1. */
int xe_moving_failed(const struct xe_client *c, const struct moving *m, const char *filename,
                     const struct http_error *error, struct xe_err *err);
