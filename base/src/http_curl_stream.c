/* Connections of the HTTP client on libcurl that carry something else than its calls. */
#include "http_curl_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>

struct easy_link {
    struct client_link link;
    struct easy *easy;
};

static ssize_t from_curl(CURLcode code, size_t n)
{
    if (code == CURLE_OK)
        return (ssize_t)n;
    errno = code == CURLE_AGAIN ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t link_read(struct stream *s, void *to, size_t max)
{
    struct easy_link *l = (struct easy_link *)s;
    size_t n = client_take_early(&l->link, to, max);
    if (n > 0)
        return (ssize_t)n;
    CURLcode code = curl_easy_recv(l->easy->curl, to, max, &n);
    return from_curl(code, n);
}

static ssize_t link_write(struct stream *s, const void *from, size_t len)
{
    size_t n = 0;
    CURLcode code = curl_easy_send(((struct easy_link *)s)->easy->curl, from, len, &n);
    return from_curl(code, n);
}

static void link_close(struct stream *s)
{
    struct easy_link *l = (struct easy_link *)s;
    buf_done(&l->link.early);
    easy_free(l->easy);
    free(l);
}

int client_connect(const struct http_client *client, bool any, int64_t end_ms, struct client_link **out,
                   struct http_error *error)
{
    static const struct stream_ops ops = {link_read, link_write, NULL, link_close};
    struct easy *e = easy_new(client);
    int64_t left = end_ms - clock_mono_ms();
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (any) {
        e->trust.accept_any_root = true;
        curl_easy_setopt(e->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    curl_easy_setopt(e->curl, CURLOPT_URL, client->url);
    curl_easy_setopt(e->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(e->curl, CURLOPT_TIMEOUT_MS, left > 0 ? (long)left : 1L);
    CURLcode code = curl_easy_perform(e->curl);
    if (code == CURLE_OK)
        code = curl_easy_getinfo(e->curl, CURLINFO_ACTIVESOCKET, &fd);
    if (code != CURLE_OK) {
        easy_failed(e, code, error);
        easy_free(e);
        return -1;
    }
    struct easy_link *l = xcalloc(1, sizeof(*l));
    l->link = (struct client_link){.stream = {&ops, fd}, .trust = &e->trust, .early = BUF_INIT};
    l->easy = e;
    *out = &l->link;
    return 0;
}
