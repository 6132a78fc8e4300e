/* What the server uses to command one host's agent. Every function blocks the calling worker thread until
 * the answer, an error or the deadline; no lock of the caller may be held. A `struct hv_host` may be used by
 * many threads at once.
 *
 * The calls themselves are described in openapi/agent/ and generated into <hv/calls.h>, one function each,
 * all of one shape (reads leave `op` out of their arguments' meaning: it may be NULL, then the call's own
 * deadline holds):
 *
 *     struct hv_op op = {.id = operation_uuid, .timeout_ms = 60000};
 *     struct hv_domain_start_args args;
 *     struct hv_domain_start_result result;
 *     struct hv_err err;
 *     hv_domain_start_args_init(&args);
 *     ... fill args.config ...
 *     if (hv_domain_start(host, &op, &args, &result, &err) == 0) {
 *         ... result.info.domid ...
 *         hv_domain_start_result_done(&result);
 *     } else if (err.kind == HV_ERR_KIND_EXISTS) ...
 *     hv_domain_start_args_done(&args);
 *
 * A repeat of an operation with the same id never does it twice: the agent answers with the first one's
 * result. HV_ERR_KIND_UNREACHABLE and HV_ERR_KIND_DEADLINE leave the outcome open: ask hv_operation_get,
 * or repeat with the same id. */
#pragma once
#include <base/stream.h>
#include <hv/calls.h>
#include <hv/err.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/types.h>

struct hv_host;

/* Where an agent is and how both sides prove who they are. Texts are copied. */
struct hv_host_address {
    const char *host_uuid; /* the certificate must name <host uuid>.host.corral.internal */
    const char *address;   /* IP address or name to connect to */
    int port;
    const char *ca_file;   /* PEM: the pool's CA */
    const char *cert_file; /* PEM: a client certificate of poold.corral.internal */
    const char *key_file;  /* PEM */
    int64_t term;          /* of the pool's server: agents take no orders from one of an earlier term */
    /* Only the certificate with this sha256 of its DER, in place of ca_file, and whatever its dates: for an
     * agent whose known certificate has ended. NULL: as ca_file says. */
    const char *leaf_sha256;
};
/* Connects lazily, so it fails only on bad arguments or unreadable certificates. */
int hv_host_open(const struct hv_host_address *address, struct hv_host **host, struct hv_err *err);
/* A stand-in that has no agent: every call and every stream fails at once with HV_ERR_KIND_UNREACHABLE, after
 * `asked` (on the calling thread) has heard of it. */
struct hv_host *hv_host_stand_in(const char *host_uuid, void (*asked)(void *arg, const char *host_uuid),
                                 void *arg);
/* Ends idle connections. No call may be running. NULL is allowed. */
void hv_host_close(struct hv_host *host);
/* Makes every running call fail soon with HV_ERR_KIND_UNREACHABLE and every later one at once: for the
 * server's shutdown and for hosts that leave. */
void hv_host_interrupt(struct hv_host *host);
const char *hv_host_uuid(const struct hv_host *host);

/* How a call is made. */
struct hv_op {
    const char *id;     /* uuid of the operation; needed by operations and streams, ignored by reads */
    int64_t timeout_ms; /* from now; 0: the call's own (openapi/agent/) */
    /* Set to true by any thread: the agent is asked to cancel; the call then ends with
     * HV_ERR_KIND_CANCELLED, or with success when it was too late. NULL: cannot be cancelled. */
    const _Atomic bool *cancel;
    /* Called on the calling thread with 0..1 as an operation goes on; NULL: not wanted. */
    void (*progress)(void *ctx, double fraction);
    /* Called once, on the calling thread, before an operation (not a stream) is sent: its name in
     * openapi/agent/ and the uuid that it is about. -1: it is not sent, and the call fails with
     * HV_ERR_KIND_INTERNAL. NULL: not wanted. */
    int (*begin)(void *ctx, struct hv_host *host, const char *call, const char *key);
    void *ctx;
};

/* The one road of all calls; use the generated hv_<call>() instead. `result` is initialised only on success.
 */
int hv_call(struct hv_host *host, enum hv_call_id call, const struct hv_op *op, const void *args,
            void *result, struct hv_err *err);

/* Streams. A callback runs on the calling thread.
 * Read: up to `len` bytes into `data`; 0: end; -1: the source failed, the import is abandoned and the disk
 * keeps its old content.
 * Write: all `len` bytes or -1: the export is abandoned. */
typedef ssize_t hv_read_fn(void *ctx, void *data, size_t len);
typedef int hv_write_fn(void *ctx, const void *data, size_t len);

int hv_disk_import(struct hv_host *host, const struct hv_op *op, const struct hv_disk_import_args *args,
                   hv_read_fn *read, void *read_ctx, struct hv_disk_import_result *result,
                   struct hv_err *err);
/* The same for a part of an upload: what came before a failure counts, unless args->whole. */
int hv_upload_write(struct hv_host *host, const struct hv_op *op, const struct hv_upload_write_args *args,
                    hv_read_fn *read, void *read_ctx, struct hv_upload_write_result *result,
                    struct hv_err *err);
/* `begin` (may be NULL) is called once before the first byte with the number of bytes to come, -1: unknown;
 * not 0 abandons the export. */
int hv_disk_export(struct hv_host *host, const struct hv_op *op, const struct hv_disk_export_args *args,
                   int (*begin)(void *ctx, int64_t size_bytes), hv_write_fn *write, void *write_ctx,
                   struct hv_err *err);

/* Connects to a console of a domain: kind "serial" (scroll-back first) or "vnc" (RFB). *out is a stream
 * (base/stream.h) that the caller closes; it outlives the host. Many viewers of one console may exist; one
 * that does not read is dropped. */
int hv_console_open(struct hv_host *host, const char *domain_uuid, const char *kind, int64_t timeout_ms,
                    struct stream **out, struct hv_err *err);

/* A disk (or, with `disk` "", the ISO image `iso`) to be read over NBD: *out is a connection to a server that
 * has one export, "disk", read-only, in the beginning of a handshake. Nobody may write the disk until the
 * stream is closed. */
int hv_disk_serve(struct hv_host *host, const char *sr, const char *disk, const char *iso, int64_t timeout_ms,
                  struct stream **out, struct hv_err *err);

/* hv_domain_start(), hv_sr_scan() and all the others. */
#include <hv/client_calls.h>
