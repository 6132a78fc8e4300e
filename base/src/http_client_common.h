/* Shared by the two clients that http_client.h describes: the one on libcurl and the light one. */
#pragma once
#include <base/http_client.h>

/* Always -1. */
int client_fail(struct http_error *error, enum http_failure kind, const char *text);
/* No header, path or method that smuggles in a second line. */
bool client_is_clean(const struct http_call *call);
/* The request for an upgrade, to a target "scheme://host[:port]". */
int client_write_upgrade(struct buf *b, const char *url, const char *path, const char *protocol,
                         const struct http_header *headers, struct http_error *error);
/* Reads up to the empty line, until `end` (monotonic ms); what comes behind it stays in `got` behind
 * *head_len. */
int client_read_head(struct stream *s, struct buf *got, int64_t end, size_t *head_len,
                     struct http_error *error);
/* Of a head; 0: that is none. */
unsigned client_status_of(const char *head);

/* Whom to trust, beyond a CA file; strings borrowed. What was seen is noted at each handshake. */
struct client_trust {
    const char *root_sha256, *leaf_sha256;
    bool accept_any_root;
    bool refused_by_peer; /* a fatal TLS alert came */
    char seen_root[SHA256_TEXT_SIZE], seen_leaf[SHA256_TEXT_SIZE];
};
/* Lets an SSL_CTX judge by it. The trust has to live as long as the context. */
void client_trust_install(void *ssl_ctx, struct client_trust *trust);
