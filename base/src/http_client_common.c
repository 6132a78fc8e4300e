/* What both clients of http_client.h share: names of failures, requests that are what they look like, and the
 * handshake that leaves HTTP. */
#include "http_client_common.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HEAD_MAX 16384

static const char *const failure_names[] = {
    "cannot connect", "TLS refused", "timed out",        "connection lost", "answer too large",
    "cancelled",      "given up",    "not the protocol", "address refused",
};

const char *http_failure_name(enum http_failure kind)
{
    return failure_names[kind];
}

int client_fail(struct http_error *error, enum http_failure kind, const char *text)
{
    error->kind = kind;
    snprintf(error->text, sizeof(error->text), "%.*s", (int)sizeof(error->text) - 1, text);
    return -1;
}

void http_reply_done(struct http_reply *reply)
{
    buf_done(&reply->body);
    free(reply->content_type);
    free(reply->location);
    *reply = HTTP_REPLY_INIT;
}

/* No header, path or method can smuggle in a second line. */
static bool is_one_line(const char *s)
{
    return strpbrk(s, "\r\n") == NULL;
}

bool client_is_clean(const struct http_call *call)
{
    for (const struct http_header *h = call->headers; h && h->name; h++)
        if (!is_one_line(h->name) || !is_one_line(h->value))
            return false;
    return call->path[0] == '/' && is_one_line(call->path) && strchr(call->path, ' ') == NULL &&
           (!call->method || is_one_line(call->method)) &&
           (!call->content_type || is_one_line(call->content_type));
}

/* ---- leaving HTTP ---- */

/* The host part of "scheme://host[:port]". */
static const char *authority_of(const char *url)
{
    const char *p = strstr(url, "://");
    return p ? p + 3 : url;
}

int client_write_upgrade(struct buf *b, const char *url, const char *path, const char *protocol,
                         const struct http_header *headers, struct http_error *error)
{
    bool clean = path[0] == '/' && is_one_line(path) && !strchr(path, ' ') && is_one_line(protocol);
    buf_printf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", path,
               authority_of(url), protocol);
    for (const struct http_header *h = headers; h && h->name; h++) {
        clean = clean && is_one_line(h->name) && is_one_line(h->value);
        buf_printf(b, "%s: %s\r\n", h->name, h->value);
    }
    buf_add_str(b, "\r\n");
    return clean
               ? 0
               : client_fail(error, HTTP_PROTOCOL, "the path or a header has characters that it cannot have");
}

/* Reads up to the empty line; what comes behind it stays in `got` behind *head_len. */
int client_read_head(struct stream *s, struct buf *got, int64_t end, size_t *head_len,
                     struct http_error *error)
{
    for (;;) {
        char *blank = got->len ? strstr(got->data, "\r\n\r\n") : NULL;
        if (blank) {
            *head_len = (size_t)(blank - got->data) + 4;
            return 0;
        }
        if (got->len > HEAD_MAX || (got->len && memchr(got->data, '\0', got->len)))
            return client_fail(error, HTTP_PROTOCOL, "the answer to the upgrade is not HTTP");
        char piece[4096];
        ssize_t n = stream_read(s, piece, sizeof(piece));
        if (n > 0) {
            buf_add(got, piece, (size_t)n);
        } else if (n == 0 || errno != EAGAIN) {
            return client_fail(error, HTTP_LOST, "the connection was closed during the upgrade");
        } else {
            int64_t left = end - clock_mono_ms();
            if (left <= 0 || !stream_wait_readable(s, left))
                return client_fail(error, HTTP_TIMED_OUT, "no answer to the upgrade in time");
        }
    }
}

unsigned client_status_of(const char *head)
{
    unsigned status = 0;
    return sscanf(head, "HTTP/1.1 %3u", &status) == 1 ? status : 0;
}
