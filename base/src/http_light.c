/* The light HTTP client: http_client.h on OpenSSL alone, for programs whose start counts. It knows what they
 * need: HTTP/1.1, one request after the other on kept connections, no proxies. Connections are in
 * http_light_wire.c, answers in http_light_answer.c, trust in http_client_tls.c. */
#include "http_light_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#define EXPECT_ABOVE 65536 /* larger uploads ask first: a refusal is not lost among their bytes */
#define EXPECT_MS 1000     /* for a server that does not know how to answer that */
#define PIECE ((size_t)64 << 10)

/* ---- kept connections ---- */

/* NULL: none that still lives. */
static struct wire *take_living(struct http_client *client)
{
    struct wire *w;
    while ((w = client_take_kept(client)) != NULL) {
        if (clock_mono_ms() - w->idle_since_ms < CLIENT_KEEP_S * 1000 && !wire_is_stale(w))
            break;
        wire_close(w);
    }
    return w;
}

void client_close_kept(void *kept)
{
    wire_close(kept);
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
    buf_printf(b, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept: */*\r\n", x->method, call->path,
               client_authority(x->client));
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
        ssize_t n = stream_write(&x->wire->link.stream, data, len);
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
        if (patience_wait(&x->patience, x->wire->link.stream.fd, x->call->source ? POLLOUT | POLLIN : POLLOUT,
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
        if (n == 0 && patience_wait(&brief, x->wire->link.stream.fd, POLLIN, error) < 0)
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
    x->refused = false;
    x->answer = (struct answer){.stream = &x->wire->link.stream,
                                .patience = &x->patience,
                                .call = x->call,
                                .reply = got,
                                .in = BUF_INIT,
                                .body_max = client_body_max(x->call)};
    int rc = send_request(x, error) < 0 ? -1 : answer_read(&x->answer, error);
    if (rc < 0 && error->kind == HTTP_LOST && x->wire->trust.refused_by_peer)
        client_fail(error, HTTP_TLS_REFUSED, x->wire->trust.why);
    bool keep = rc == 0 && x->answer.reusable && !x->refused && x->answer.in.len == 0;
    buf_done(&x->answer.in);
    if (keep) {
        x->wire->idle_since_ms = clock_mono_ms();
        client_keep(x->client, x->wire);
    } else {
        wire_close(x->wire);
    }
    return rc;
}

int http_client_call(struct http_client *client, const struct http_call *call, struct http_reply *reply,
                     struct http_error *error)
{
    if (client_check_call(call, error) < 0)
        return -1;
    struct http_reply got = HTTP_REPLY_INIT;
    int64_t now = clock_mono_ms();
    struct exchange x = {.client = client,
                         .call = call,
                         .method = client_method(call),
                         .patience = {.cancel = call->cancel,
                                      .end_ms = call->timeout_ms < 0
                                                    ? -1
                                                    : now + (call->timeout_ms ? call->timeout_ms : 30000),
                                      .stall_ms = call->stall_ms ? call->stall_ms : 60000,
                                      .moved_ms = now}};
    bool harmless = (streq(x.method, "GET") || streq(x.method, "HEAD")) && !call->source;
    for (;;) {
        bool kept = (x.wire = take_living(client)) != NULL;
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
