/* Connections of both clients that leave HTTP, and looking at a server's certificates. */
#include "http_client_internal.h"
#include <base/clock.h>
#include <errno.h>
#include <string.h>

#define HEAD_MAX 16384
#define DEFAULT_MS 30000

static int64_t end_of(int64_t timeout_ms)
{
    return clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : DEFAULT_MS);
}

size_t client_take_early(struct client_link *link, void *to, size_t max)
{
    size_t n = link->early.len < max ? link->early.len : max;
    if (n > 0) {
        memcpy(to, link->early.data, n);
        buf_consume(&link->early, n);
    }
    return n;
}

static int write_request(struct buf *b, const struct http_client *client, const struct http_call *call,
                         const char *protocol, struct http_error *error)
{
    if (client_check_call(call, error) < 0)
        return -1;
    buf_printf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", call->path,
               client_authority(client), protocol);
    for (const struct http_header *h = call->headers; h && h->name; h++)
        buf_printf(b, "%s: %s\r\n", h->name, h->value);
    buf_add_str(b, "\r\n");
    return 0;
}

/* Reads up to the empty line; what comes behind it stays in `got` behind *head_len. */
static int read_head(struct stream *s, struct buf *got, int64_t end, size_t *head_len,
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

/* The handshake on a new connection. */
static int leave_http(struct client_link *link, const struct buf *request, int64_t end, unsigned *status,
                      struct http_error *error)
{
    AUTO_BUF struct buf got = BUF_INIT;
    size_t head_len = 0;
    if (stream_write_all(&link->stream, request->data, request->len, end - clock_mono_ms()) < 0)
        return client_fail(error, HTTP_LOST, "the connection was closed during the upgrade");
    if (read_head(&link->stream, &got, end, &head_len, error) < 0)
        return -1;
    unsigned code = client_status_of(got.data);
    if (code != 101) {
        *status = code;
        return client_fail(error, HTTP_PROTOCOL, "the server did not upgrade the connection");
    }
    buf_add(&link->early, got.data + head_len, got.len - head_len);
    return 0;
}

int http_client_upgrade(struct http_client *client, const char *path, const char *protocol,
                        const struct http_header *headers, int64_t timeout_ms, struct stream **out,
                        unsigned *status, struct http_error *error)
{
    const struct http_call call = {.path = path, .headers = headers};
    AUTO_BUF struct buf request = BUF_INIT;
    struct client_link *link = NULL;
    int64_t end = end_of(timeout_ms);
    unsigned ignored;
    status = status ? status : &ignored;
    *status = 0;
    if (write_request(&request, client, &call, protocol, error) < 0 ||
        client_connect(client, false, end, &link, error) < 0)
        return -1;
    if (leave_http(link, &request, end, status, error) < 0) {
        if (link->trust->refused_by_peer)
            client_fail(error, HTTP_TLS_REFUSED, link->trust->why);
        stream_close(&link->stream);
        return -1;
    }
    *out = &link->stream;
    return 0;
}

/* ---- certificates ---- */

static int probe(const char *url, const char *connect_to, int64_t timeout_ms, bool root,
                 char out[static SHA256_TEXT_SIZE], struct http_error *error)
{
    struct http_client *client =
        http_client_new(&(struct http_client_config){.url = url, .connect_to = connect_to});
    struct client_link *link = NULL;
    int result = client_connect(client, true, end_of(timeout_ms), &link, error);
    if (result == 0) {
        const char *seen = root ? link->trust->seen_root : link->trust->seen_leaf;
        if (*seen)
            memcpy(out, seen, SHA256_TEXT_SIZE);
        else
            result = client_fail(error, HTTP_TLS_REFUSED, "the server has no certificate");
        stream_close(&link->stream);
    }
    http_client_free(client);
    return result;
}

int http_probe_root(const char *url, const char *connect_to, int64_t timeout_ms,
                    char out[static SHA256_TEXT_SIZE], struct http_error *error)
{
    return probe(url, connect_to, timeout_ms, true, out, error);
}

int http_probe_leaf(const char *url, const char *connect_to, int64_t timeout_ms,
                    char out[static SHA256_TEXT_SIZE], struct http_error *error)
{
    return probe(url, connect_to, timeout_ms, false, out, error);
}
