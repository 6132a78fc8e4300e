/* A download from an address that somebody else has named, for a server: pulled in the caller's speed, over
 * http or https (certificate verified), with few redirects, caps on size and time, and a guard that sees each
 * numeric address right before the connection to it, after names are resolved and after redirects, too.
 * Environment (proxies, .netrc) is not looked at. One thread at a time uses a fetch; calls block. */
#pragma once
#include <base/http_client.h>
#include <sys/socket.h>

struct http_fetch;
struct http_fetch_config {
    const char *url; /* may carry user:password@, which go to that server alone */
    /* May a connection go to this address? Any thread of the caller's; NULL: everywhere. */
    bool (*allow)(void *arg, const struct sockaddr *to);
    void *arg;
    const char *ca_pem;          /* certificates that are trusted besides the system's; NULL: none */
    unsigned connect_timeout_ms; /* 0: 5,000 */
    unsigned stall_ms;           /* no byte for so long, while the caller reads, ends it; 0: 60,000 */
    int64_t timeout_ms;          /* for the whole; 0: no limit */
    int64_t size_max;            /* bytes; more are HTTP_TOO_LARGE; 0: no limit */
    const _Atomic bool *cancel;  /* may be NULL; looked at several times a second */
};

/* Connects, follows redirects (never from https to http) and waits for the answer's head. Only status 200 is
 * success; another one is HTTP_PROTOCOL, and an address that the guard refuses HTTP_ADDRESS_REFUSED. */
int http_fetch_open(const struct http_fetch_config *config, struct http_fetch **out,
                    struct http_error *error);
/* As the server announced it; -1: it did not. */
int64_t http_fetch_length(const struct http_fetch *fetch);
/* > 0 bytes; 0: the whole came; -1: *error. */
ssize_t http_fetch_read(struct http_fetch *fetch, void *to, size_t max, struct http_error *error);
/* NULL is accepted. */
void http_fetch_close(struct http_fetch *fetch);
