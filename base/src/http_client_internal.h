/* Shared by the two clients that http_client.h describes: the one on libcurl (http_curl*.c) and the light one
 * (http_light*.c). What is the same in both is in http_client*.c; each provides the two functions below and
 * http_client_call(). */
#pragma once
#include <base/http_client.h>
#include <pthread.h>

struct http_client {
    char *url, *connect_to, *socket_path, *ca_file, *cert_file, *key_file, *root_sha256, *leaf_sha256;
    bool no_name_check;
    unsigned connect_timeout_ms;
    pthread_mutex_t lock; /* guards what follows */
    void **idle;          /* connections kept for the next calls */
    unsigned idle_count, idle_max;
};

/* Kept connections must be younger than the idle timeout of the servers (60 s): a call that goes out just
 * while the server closes is lost. */
#define CLIENT_KEEP_S 30

/* A connection on which nothing was sent by HTTP's rules yet: a stream that first gives `early`. */
struct client_link {
    struct stream stream;
    const struct client_trust *trust;
    struct buf early; /* came behind the head of an answer */
};

/* Provided by each client: connects, with the handshake, until `end_ms` (monotonic). `any`: whoever
 * answers. 0, or -1 with *error. */
int client_connect(const struct http_client *client, bool any, int64_t end_ms, struct client_link **out,
                   struct http_error *error);
/* Provided by each client: closes and frees a kept connection. */
void client_close_kept(void *kept);

/* A kept connection, the one used last first; NULL: none. */
void *client_take_kept(struct http_client *client);
/* Keeps a connection, or closes it if there are enough. */
void client_keep(struct http_client *client, void *kept);

/* The host part of the URL, with its port if it names one. */
const char *client_authority(const struct http_client *client);
/* Always -1. */
int client_fail(struct http_error *error, enum http_failure kind, const char *text);
/* The method of a call that may leave it open. */
const char *client_method(const struct http_call *call);
/* The answer's longest body that is collected. */
size_t client_body_max(const struct http_call *call);
/* Fails unless no header, path or method smuggles in a second line. 0, or -1 with *error. */
int client_check_call(const struct http_call *call, struct http_error *error);
/* The status that a head tells; 0: it is none. */
unsigned client_status_of(const char *head);
/* Bytes that came early go first. > 0, or 0: there are none. */
size_t client_take_early(struct client_link *link, void *to, size_t max);

/* Whom to trust, beyond a CA file; strings borrowed. What was seen is noted at each handshake. */
struct client_trust {
    const char *root_sha256, *leaf_sha256;
    bool accept_any_root;
    bool refused_by_peer; /* a fatal TLS alert came */
    bool broken_off;      /* the handshake began, and neither side found anything wrong with it */
    char why[200];        /* the handshake failed; "": not known */
    char seen_root[SHA256_TEXT_SIZE], seen_leaf[SHA256_TEXT_SIZE];
};
/* Whoever keeps a trust for several handshakes forgets what the last one left. */
void client_trust_begin(struct client_trust *trust);
/* Lets an SSL_CTX judge by it. The trust has to live as long as the context. */
void client_trust_install(void *ssl_ctx, struct client_trust *trust);
