/* Connections of the client that leave HTTP: the handshake by hand on a libcurl connection, and the stream.
 */
#include "http_client_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>

#define HEAD_MAX 16384

struct client_stream {
    struct stream stream;
    struct easy *easy;
    struct buf early; /* came behind the head */
};

static ssize_t from_curl(CURLcode code, size_t n)
{
    if (code == CURLE_OK)
        return (ssize_t)n;
    errno = code == CURLE_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t client_read(struct stream *s, void *to, size_t max)
{
    struct client_stream *c = (struct client_stream *)s;
    if (c->early.len > 0) {
        size_t n = c->early.len < max ? c->early.len : max;
        memcpy(to, c->early.data, n);
        buf_consume(&c->early, n);
        return (ssize_t)n;
    }
    size_t n = 0;
    CURLcode code = curl_easy_recv(c->easy->curl, to, max, &n);
    return from_curl(code, n);
}

static ssize_t client_write(struct stream *s, const void *from, size_t len)
{
    struct client_stream *c = (struct client_stream *)s;
    size_t n = 0;
    CURLcode code = curl_easy_send(c->easy->curl, from, len, &n);
    return from_curl(code, n);
}

static void client_close(struct stream *s)
{
    struct client_stream *c = (struct client_stream *)s;
    buf_done(&c->early);
    easy_free(c->easy);
    free(c);
}

static const struct stream_ops client_ops = {client_read, client_write, NULL, client_close};

/* Opens the connection (and TLS) without sending anything. */
static int open_connection(struct easy *e, const char *url, int64_t timeout_ms, curl_socket_t *fd,
                           struct http_error *error)
{
    curl_easy_setopt(e->curl, CURLOPT_URL, url);
    curl_easy_setopt(e->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(e->curl, CURLOPT_TIMEOUT_MS, timeout_ms > 0 ? (long)timeout_ms : 0L);
    CURLcode code = curl_easy_perform(e->curl);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(e->curl, CURLINFO_ACTIVESOCKET, fd);
    if (code == CURLE_OK)
        return 0;
    return client_fail(error, failure_of(e, code), e->error[0] ? e->error : curl_easy_strerror(code));
}

static bool one_line(const char *s)
{
    return strpbrk(s, "\r\n") == NULL;
}

/* The host part of "scheme://host[:port]". */
static const char *authority_of(const char *url)
{
    const char *p = strstr(url, "://");
    return p ? p + 3 : url;
}

static int write_head(struct buf *b, const char *url, const char *path, const char *protocol,
                      const struct http_header *headers, struct http_error *error)
{
    bool clean = path[0] == '/' && one_line(path) && !strchr(path, ' ') && one_line(protocol);
    buf_printf(b, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: %s\r\n", path,
               authority_of(url), protocol);
    for (const struct http_header *h = headers; h && h->name; h++) {
        clean = clean && one_line(h->name) && one_line(h->value);
        buf_printf(b, "%s: %s\r\n", h->name, h->value);
    }
    buf_add_str(b, "\r\n");
    return clean
               ? 0
               : client_fail(error, HTTP_PROTOCOL, "the path or a header has characters that it cannot have");
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

static unsigned status_of(const char *head)
{
    unsigned status = 0;
    return sscanf(head, "HTTP/1.1 %3u", &status) == 1 ? status : 0;
}

int http_client_upgrade(struct http_client *client, const char *path, const char *protocol,
                        const struct http_header *headers, int64_t timeout_ms, struct stream **out,
                        unsigned *status, struct http_error *error)
{
    int64_t end = clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : 30000);
    struct client_stream *c = xcalloc(1, sizeof(*c));
    c->easy = easy_new(client);
    c->stream = (struct stream){&client_ops, -1};
    AUTO_BUF struct buf head = BUF_INIT;
    AUTO_BUF struct buf got = BUF_INIT;
    size_t head_len = 0;
    curl_socket_t fd = -1;
    unsigned code = 0;
    if (status)
        *status = 0;
    if (write_head(&head, client->url, path, protocol, headers, error) < 0 ||
        open_connection(c->easy, client->url, end - clock_mono_ms(), &fd, error) < 0)
        goto fail;
    c->stream.fd = fd;
    if (stream_write_all(&c->stream, head.data, head.len, end - clock_mono_ms()) < 0) {
        client_fail(error, HTTP_LOST, "the connection was closed during the upgrade");
        goto fail;
    }
    if (read_head(&c->stream, &got, end, &head_len, error) < 0)
        goto fail;
    code = status_of(got.data);
    if (code != 101) {
        if (status)
            *status = code;
        client_fail(error, HTTP_PROTOCOL, "the server did not upgrade the connection");
        goto fail;
    }
    buf_add(&c->early, got.data + head_len, got.len - head_len);
    *out = &c->stream;
    return 0;
fail:
    if (c->easy->refused_by_peer)
        error->kind = HTTP_TLS_REFUSED;
    client_close(&c->stream);
    return -1;
}

static int probe(const char *url, const char *connect_to, int64_t timeout_ms, bool root,
                 char out[static SHA256_TEXT_SIZE], struct http_error *error)
{
    struct http_client *client =
        http_client_new(&(struct http_client_config){.url = url, .connect_to = connect_to});
    struct easy *e = easy_new(client);
    e->accept_any_root = true;
    curl_easy_setopt(e->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_socket_t fd;
    int result = open_connection(e, url, timeout_ms, &fd, error);
    const char *seen = root ? e->seen_root : e->seen_leaf;
    if (result == 0 && seen[0] == '\0')
        result = client_fail(error, HTTP_TLS_REFUSED, "the server has no certificate");
    if (result == 0)
        memcpy(out, seen, SHA256_TEXT_SIZE);
    easy_free(e);
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
