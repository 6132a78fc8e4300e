/* An HTTP client for one target: connections are kept and reused. Any thread; a call blocks its thread until
 * the answer, the deadline or the cancellation. Two libraries implement it (see README.md). */
#pragma once
#include <base/buf.h>
#include <base/http.h>
#include <base/secret.h>
#include <base/stream.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct http_client;

struct http_client_config {
    const char *url;                  /* "https://name:port" (or http://), no path */
    const char *connect_to;           /* "address:port" where the name really is; NULL: resolve the name */
    const char *socket_path;          /* a unix socket to connect to, whatever the URL's host; NULL: none */
    const char *ca_file;              /* PEM; NULL: the system's */
    const char *cert_file, *key_file; /* own certificate; NULL: none */
    /* Trust exactly the server whose chain ends in a root certificate (sent along by the server) with this
     * sha256 of its DER, in place of ca_file. Names and dates are still checked. */
    const char *root_sha256;
    /* Trust exactly the server certificate with this sha256 of its DER, whatever its issuer, name and dates:
     * what a person has accepted before (see http_probe_leaf). */
    const char *leaf_sha256;
    bool no_name_check;          /* with root_sha256 only: the chain counts, not the name */
    unsigned connect_timeout_ms; /* 0: 5,000 */
    unsigned idle_max;           /* connections kept for reuse; 0: 8 */
};
/* Strings are copied. Never NULL; what is wrong with the settings shows at the first call. */
struct http_client *http_client_new(const struct http_client_config *config);
/* No call may be under way. NULL is accepted. */
void http_client_free(struct http_client *client);

enum http_failure {
    HTTP_CANNOT_CONNECT, /* no such name, refused, unreachable, broken off in the handshake: nothing was sent
                          */
    /* Certificate or handshake, by either side: nothing was done. A server that refuses our certificate may
     * also show as HTTP_LOST: with TLS 1.3 it closes when the request is on its way already. */
    HTTP_TLS_REFUSED,
    HTTP_TIMED_OUT, /* it is not known whether the call had an effect */
    HTTP_LOST,      /* the connection broke: not known either */
    HTTP_TOO_LARGE, /* the answer exceeds body_max */
    HTTP_CANCELLED,
    HTTP_CALLBACK,        /* the caller's source or sink gave up */
    HTTP_PROTOCOL,        /* not HTTP, or not the upgrade that was asked for */
    HTTP_ADDRESS_REFUSED, /* by the guard of a fetch: see http_fetch.h */
};
struct http_error {
    enum http_failure kind;
    char text[200]; /* for the log */
};
const char *http_failure_name(enum http_failure kind);

struct http_reply {
    unsigned status;
    struct buf body;
    char *content_type, *location, *etag, *content_range; /* headers; NULL: not there */
};
#define HTTP_REPLY_INIT ((struct http_reply){0})
void http_reply_done(struct http_reply *reply);
#define AUTO_HTTP_REPLY __attribute__((cleanup(http_reply_done)))

struct http_call {
    const char *method;                /* NULL: GET, or POST when there is a body */
    const char *path;                  /* begins with '/'; escaped already */
    const struct http_header *headers; /* ended by a NULL name; may be NULL */
    const void *body;
    size_t body_len;
    const char *content_type; /* of the body; NULL: application/json */
    /* Instead of body: pulls the upload; > 0 bytes, 0 end, -1 give up. `source_len` -1: chunked. */
    ssize_t (*source)(void *arg, char *to, size_t max);
    int64_t source_len;
    /* Instead of collecting the answer of a 2xx: 0, or -1 to give up. Other statuses are still collected. */
    int (*sink)(void *arg, const char *data, size_t len);
    /* With a sink: sees the answer's status and headers before the first byte. 0, or -1 to give up. */
    int (*head)(void *arg, const struct http_reply *reply);
    void *arg;
    int64_t
        timeout_ms; /* for the whole call; 0: 30,000; -1: no limit (a stalled transfer ends after stall_ms) */
    unsigned stall_ms;          /* with timeout_ms -1: no byte either way for so long ends it; 0: 60,000 */
    size_t body_max;            /* of a collected answer; 0: 16 MiB */
    const _Atomic bool *cancel; /* may be NULL; looked at about once a second or more often */
};
/* 0: an answer came, whatever its status (no redirect is followed); -1: *error. When the server closed a kept
 * connection without a byte of an answer, a GET or HEAD is repeated on a new one; anything else is HTTP_LOST.
 * The first use of a client makes the process ignore SIGPIPE. */
int http_client_call(struct http_client *client, const struct http_call *call, struct http_reply *reply,
                     struct http_error *error);

/* Sends a GET with `Connection: Upgrade`, `Upgrade: protocol` and the headers, expects 101 and gives the
 * stream (its own connection). Another status: HTTP_PROTOCOL with *status set (else 0). `status` may be NULL.
 * The stream outlives the client. */
int http_client_upgrade(struct http_client *client, const char *path, const char *protocol,
                        const struct http_header *headers, int64_t timeout_ms, struct stream **out,
                        unsigned *status, struct http_error *error);

/* Connects without trusting anybody and gives the sha256 of the last certificate of the chain that the server
 * sends (its root, if it sends it): for showing to a person before trust on first use. Nothing is sent. */
int http_probe_root(const char *url, const char *connect_to, int64_t timeout_ms,
                    char out[static SHA256_TEXT_SIZE], struct http_error *error);

/* The same for the server's own certificate. */
int http_probe_leaf(const char *url, const char *connect_to, int64_t timeout_ms,
                    char out[static SHA256_TEXT_SIZE], struct http_error *error);
