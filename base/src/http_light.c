/* The light HTTP client: http_client.h on OpenSSL alone, for programs whose start counts. It knows what they
 * need: HTTP/1.1, one request after the other on kept connections, no proxies. Connections are in
 * http_light_wire.c, answers in http_light_answer.c, trust in http_client_tls.c. */
#include "http_light_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#define KEEP_MS 30000      /* as of the other client: servers close after 60 s */
#define EXPECT_ABOVE 65536 /* larger uploads ask first: a refusal is not lost among their bytes */
#define EXPECT_MS 1000     /* for a server that does not know how to answer that */
#define PIECE ((size_t)64 << 10)

static char *copy_or_null(const char *s)
{
    return s ? xstrdup(s) : NULL;
}

/* "host:port", "[v6]:port", "host": the parts are the caller's. */
static void split(const char *text, const char *default_port, char **host, char **port)
{
    bool bracketed = *text == '[';
    const char *end = bracketed ? strchr(text, ']') : strrchr(text, ':');
    if (bracketed && end) {
        *host = xstrndup(text + 1, (size_t)(end - text) - 1);
        end++;
    } else {
        end = end ? end : text + strlen(text);
        *host = xstrndup(text, (size_t)(end - text));
    }
    *port = xstrdup(*end == ':' ? end + 1 : default_port);
}

struct http_client *http_client_new(const struct http_client_config *config)
{
    struct http_client *client = xcalloc(1, sizeof(*client));
    signal(SIGPIPE, SIG_IGN); /* a peer that goes away must show as an error */
    client->url = xstrdup(config->url);
    client->tls = strncmp(config->url, "https://", 8) == 0;
    client->broken = !client->tls && strncmp(config->url, "http://", 7) != 0;
    split(client->broken ? "" : config->url + (client->tls ? 8 : 7), client->tls ? "443" : "80",
          &client->host, &client->port);
    split(config->connect_to ? config->connect_to : "", client->port, &client->connect_host,
          &client->connect_port);
    if (!*client->connect_host) {
        free(client->connect_host);
        client->connect_host = xstrdup(client->host);
    }
    client->ca_file = copy_or_null(config->ca_file);
    client->cert_file = copy_or_null(config->cert_file);
    client->key_file = copy_or_null(config->key_file);
    client->root_sha256 = copy_or_null(config->root_sha256);
    client->leaf_sha256 = copy_or_null(config->leaf_sha256);
    client->socket_path = copy_or_null(config->socket_path);
    client->no_name_check = (config->no_name_check && config->root_sha256) || config->leaf_sha256;
    client->connect_timeout_ms = config->connect_timeout_ms ? config->connect_timeout_ms : 5000;
    client->idle_max = config->idle_max ? config->idle_max : 8;
    client->idle = xcalloc(client->idle_max, sizeof(*client->idle));
    pthread_mutex_init(&client->lock, NULL);
    return client;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    char *const texts[] = {client->url,          client->host,         client->port,
                           client->connect_host, client->connect_port, client->socket_path,
                           client->ca_file,      client->cert_file,    client->key_file,
                           client->root_sha256,  client->leaf_sha256};
    for (unsigned i = 0; i < client->idle_count; i++)
        wire_close(client->idle[i]);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
    pthread_mutex_destroy(&client->lock);
    free(client->idle);
    free(client);
}

/* ---- kept connections ---- */

/* NULL: none that still lives. */
static struct wire *take_idle(struct http_client *client)
{
    for (;;) {
        struct wire *w = NULL;
        pthread_mutex_lock(&client->lock);
        if (client->idle_count > 0)
            w = client->idle[--client->idle_count];
        pthread_mutex_unlock(&client->lock);
        if (!w || (clock_mono_ms() - w->idle_since_ms < KEEP_MS && !wire_is_stale(w)))
            return w;
        wire_close(w);
    }
}

static void put_idle(struct http_client *client, struct wire *w)
{
    w->used = true;
    w->idle_since_ms = clock_mono_ms();
    pthread_mutex_lock(&client->lock);
    bool keep = client->idle_count < client->idle_max;
    if (keep)
        client->idle[client->idle_count++] = w;
    pthread_mutex_unlock(&client->lock);
    if (!keep)
        wire_close(w);
}

/* ---- the request ---- */

struct exchange {
    struct http_client *client;
    const struct http_call *call;
    const char *method;
    struct wire *wire;
    struct patience patience;
    struct answer answer;
    bool refused; /* the answer came before the upload's end */
};

static bool expects(const struct exchange *x)
{
    return x->call->source && (x->call->source_len < 0 || x->call->source_len > EXPECT_ABOVE);
}

static void write_head(const struct exchange *x, struct buf *b)
{
    const struct http_call *call = x->call;
    const char *authority = strstr(x->client->url, "://") + 3;
    buf_printf(b, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n", x->method, call->path, authority);
    for (const struct http_header *h = call->headers; h && h->name; h++)
        buf_printf(b, "%s: %s\r\n", h->name, h->value);
    if (call->body || call->source)
        buf_printf(b, "Content-Type: %s\r\n", call->content_type ? call->content_type : "application/json");
    if (call->source && call->source_len < 0)
        buf_add_str(b, "Transfer-Encoding: chunked\r\n");
    else if (call->source)
        buf_printf(b, "Content-Length: %lld\r\n", (long long)call->source_len);
    else if (call->body || (!streq(x->method, "GET") && !streq(x->method, "HEAD")))
        buf_printf(b, "Content-Length: %zu\r\n", call->body ? call->body_len : 0);
    if (expects(x))
        buf_add_str(b, "Expect: 100-continue\r\n");
    buf_add_str(b, "\r\n");
}

/* Once an answer that is no success came, the rest of an upload interests nobody. */
static bool is_refused(struct exchange *x)
{
    unsigned status;
    x->refused = x->refused || (answer_has_head(&x->answer, &status) && status >= 300);
    return x->refused;
}

static int send_all(struct exchange *x, const char *data, size_t len, struct http_error *error)
{
    while (len > 0 && !is_refused(x)) {
        ssize_t n = stream_write(&x->wire->stream, data, len);
        if (n > 0) {
            data += n;
            len -= (size_t)n;
            x->patience.moved_ms = clock_mono_ms();
            continue;
        }
        if (n < 0 && errno != EAGAIN) {
            /* Perhaps it said why before it hung up. */
            struct http_error ignored;
            while (!is_refused(x) && answer_peek(&x->answer, &ignored) > 0)
                continue;
            return x->refused ? 0 : client_fail(error, HTTP_LOST, "the connection was closed while sending");
        }
        if (patience_wait(&x->patience, x->wire->stream.fd, x->call->source ? POLLOUT | POLLIN : POLLOUT,
                          error) < 0 ||
            (x->call->source && answer_peek(&x->answer, error) < 0))
            return -1;
    }
    return 0;
}

/* Waits a little for leave to send the body. */
static int ask_first(struct exchange *x, struct http_error *error)
{
    int64_t end = clock_mono_ms() + EXPECT_MS;
    struct patience brief = x->patience;
    if (brief.end_ms < 0 || brief.end_ms > end)
        brief.end_ms = end;
    while (x->answer.in.len == 0 || !memmem(x->answer.in.data, x->answer.in.len, "\r\n\r\n", 4)) {
        int n = answer_peek(&x->answer, error);
        if (n < 0)
            return -1;
        if (n == 0 && patience_wait(&brief, x->wire->stream.fd, POLLIN, error) < 0)
            return error->kind == HTTP_TIMED_OUT ? 0 : -1;
    }
    return 0;
}

static int send_source(struct exchange *x, struct http_error *error)
{
    const struct http_call *call = x->call;
    AUTO_FREE char *piece = xmalloc(PIECE);
    bool chunked = call->source_len < 0;
    int64_t left = call->source_len;
    if (expects(x) && ask_first(x, error) < 0)
        return -1;
    while ((chunked || left > 0) && !is_refused(x)) {
        size_t max = chunked || left > (int64_t)PIECE ? PIECE : (size_t)left;
        ssize_t n = call->source(call->arg, piece, max);
        if (n < 0)
            return client_fail(error, HTTP_CALLBACK, "the transfer was given up on this side");
        AUTO_FREE char *line = chunked ? xasprintf("%zx\r\n", (size_t)n) : xstrdup("");
        if (n == 0 && !chunked)
            return client_fail(error, HTTP_CALLBACK, "the transfer has ended too early on this side");
        if (send_all(x, line, strlen(line), error) < 0 || send_all(x, piece, (size_t)n, error) < 0 ||
            (chunked && send_all(x, "\r\n", 2, error) < 0))
            return -1;
        if (n == 0)
            break;
        left -= n;
    }
    return 0;
}

static int send_request(struct exchange *x, struct http_error *error)
{
    AUTO_BUF struct buf head = BUF_INIT;
    const struct http_call *call = x->call;
    write_head(x, &head);
    bool joined = call->body && call->body_len < PIECE; /* one packet */
    if (joined)
        buf_add(&head, call->body, call->body_len);
    int rc = send_all(x, head.data, head.len, error);
    secret_wipe(head.data, head.len);
    if (rc == 0 && call->body && !joined)
        rc = send_all(x, call->body, call->body_len, error);
    return rc == 0 && call->source ? send_source(x, error) : rc;
}

/* ---- the call ---- */

static int exchange_on(struct exchange *x, struct http_reply *got, struct http_error *error)
{
    size_t max = x->call->body_max ? x->call->body_max : (size_t)16 << 20;
    x->refused = false;
    x->answer = (struct answer){.stream = &x->wire->stream,
                                .patience = &x->patience,
                                .call = x->call,
                                .reply = got,
                                .in = BUF_INIT,
                                .body_max = max};
    int rc = send_request(x, error) < 0 ? -1 : answer_read(&x->answer, error);
    if (rc < 0 && error->kind == HTTP_LOST && x->wire->trust.refused_by_peer)
        error->kind = HTTP_TLS_REFUSED;
    bool keep = rc == 0 && x->answer.reusable && !x->refused && x->answer.in.len == 0;
    buf_done(&x->answer.in);
    if (keep)
        put_idle(x->client, x->wire);
    else
        wire_close(x->wire);
    return rc;
}

int http_client_call(struct http_client *client, const struct http_call *call, struct http_reply *reply,
                     struct http_error *error)
{
    if (!client_is_clean(call))
        return client_fail(error, HTTP_PROTOCOL, "the path or a header has characters that it cannot have");
    struct http_reply got = HTTP_REPLY_INIT;
    int64_t now = clock_mono_ms();
    struct exchange x = {.client = client,
                         .call = call,
                         .method = call->method                 ? call->method
                                   : call->body || call->source ? "POST"
                                                                : "GET",
                         .patience = {.cancel = call->cancel,
                                      .end_ms = call->timeout_ms < 0
                                                    ? -1
                                                    : now + (call->timeout_ms ? call->timeout_ms : 30000),
                                      .stall_ms = call->stall_ms ? call->stall_ms : 60000,
                                      .moved_ms = now}};
    bool harmless = (streq(x.method, "GET") || streq(x.method, "HEAD")) && !call->source;
    for (;;) {
        bool kept = (x.wire = take_idle(client)) != NULL;
        if (!kept && wire_open(client, false, &x.patience, &x.wire, error) < 0)
            return -1;
        if (exchange_on(&x, &got, error) == 0)
            break;
        http_reply_done(&got);
        if (!kept || !harmless || error->kind != HTTP_LOST || x.answer.started)
            return -1;
    }
    *reply = got;
    return 0;
}

/* ---- leaving HTTP, and looking at certificates ---- */

int http_client_upgrade(struct http_client *client, const char *path, const char *protocol,
                        const struct http_header *headers, int64_t timeout_ms, struct stream **out,
                        unsigned *status, struct http_error *error)
{
    struct patience p = {.end_ms = clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : 30000)};
    struct wire *w = NULL;
    AUTO_BUF struct buf head = BUF_INIT;
    AUTO_BUF struct buf got = BUF_INIT;
    size_t head_len = 0;
    if (status)
        *status = 0;
    if (client_write_upgrade(&head, client->url, path, protocol, headers, error) < 0 ||
        wire_open(client, false, &p, &w, error) < 0)
        return -1;
    if (stream_write_all(&w->stream, head.data, head.len, p.end_ms - clock_mono_ms()) < 0) {
        client_fail(error, HTTP_LOST, "the connection was closed during the upgrade");
        goto fail;
    }
    if (client_read_head(&w->stream, &got, p.end_ms, &head_len, error) < 0)
        goto fail;
    unsigned code = client_status_of(got.data);
    if (code != 101) {
        if (status)
            *status = code;
        client_fail(error, HTTP_PROTOCOL, "the server did not upgrade the connection");
        goto fail;
    }
    buf_add(&w->early, got.data + head_len, got.len - head_len);
    *out = &w->stream;
    return 0;
fail:
    if (w->trust.refused_by_peer)
        error->kind = HTTP_TLS_REFUSED;
    wire_close(w);
    return -1;
}

static int probe(const char *url, const char *connect_to, int64_t timeout_ms, bool root,
                 char out[static SHA256_TEXT_SIZE], struct http_error *error)
{
    struct http_client *client =
        http_client_new(&(struct http_client_config){.url = url, .connect_to = connect_to});
    struct patience p = {.end_ms = clock_mono_ms() + (timeout_ms > 0 ? timeout_ms : 30000)};
    struct wire *w = NULL;
    int result = wire_open(client, true, &p, &w, error);
    if (result == 0) {
        const char *seen = root ? w->trust.seen_root : w->trust.seen_leaf;
        if (*seen)
            memcpy(out, seen, SHA256_TEXT_SIZE);
        else
            result = client_fail(error, HTTP_TLS_REFUSED, "the server has no certificate");
    }
    wire_close(w);
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
