/* Connections of the client that leave HTTP: the handshake by hand on a libcurl connection, and the stream.
 */
#include "http_client_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>

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
    if (client_write_upgrade(&head, client->url, path, protocol, headers, error) < 0 ||
        open_connection(c->easy, client->url, end - clock_mono_ms(), &fd, error) < 0)
        goto fail;
    c->stream.fd = fd;
    if (stream_write_all(&c->stream, head.data, head.len, end - clock_mono_ms()) < 0) {
        client_fail(error, HTTP_LOST, "the connection was closed during the upgrade");
        goto fail;
    }
    if (client_read_head(&c->stream, &got, end, &head_len, error) < 0)
        goto fail;
    code = client_status_of(got.data);
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
    if (c->easy->trust.refused_by_peer)
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
    e->trust.accept_any_root = true;
    curl_easy_setopt(e->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_socket_t fd;
    int result = open_connection(e, url, timeout_ms, &fd, error);
    const char *seen = root ? e->trust.seen_root : e->trust.seen_leaf;
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
