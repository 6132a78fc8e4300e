/* Connections that leave HTTP. libmicrohttpd's own upgrade is not used: over TLS it forwards four bytes
 * at a time (0.9.75 has given all memory of the connection to the answer's head by then), does not hand on
 * the peer's end, and knows no other status than 101. Instead the connection stays suspended, so that
 * libmicrohttpd leaves it alone, and its socket and TLS session are used directly by one thread; closing
 * the stream resumes the connection, which then ends. */
#include "http_internal.h"
#include "tls_record.h"
#include <base/buf.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <sys/socket.h>

struct upgraded_stream {
    struct stream stream;
    struct http_request *req;
    struct tls_record tls; /* without a session: plain */
    struct buf head;       /* of the answer: what is not sent yet */
    struct link link;      /* server->lock */
};

/* Like send(2). After EAGAIN the caller comes again with the same bytes at the front. */
static ssize_t send_some(struct upgraded_stream *u, const void *from, size_t len)
{
    return u->tls.session ? tls_record_write(&u->tls, from, len)
                          : send(u->stream.fd, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

int direct_send(struct http_request *req, const void *from, size_t len)
{
    ssize_t n;
    if (req->server->tls) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        n = gnutls_record_send((gnutls_session_t)info->tls_session, from, len);
    } else {
        n = send(req->socket->fd, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    return n == (ssize_t)len ? 0 : -1;
}

static int send_head(struct upgraded_stream *u)
{
    while (u->head.len > 0) {
        ssize_t n = send_some(u, u->head.data, u->head.len);
        if (n < 0)
            return -1;
        buf_consume(&u->head, (size_t)n);
    }
    return 0;
}

static ssize_t upgraded_write(struct stream *s, const void *from, size_t len)
{
    struct upgraded_stream *u = (struct upgraded_stream *)s;
    if (send_head(u) < 0)
        return -1;
    return len ? send_some(u, from, len) : 0;
}

static ssize_t upgraded_read(struct stream *s, void *to, size_t max)
{
    struct upgraded_stream *u = (struct upgraded_stream *)s;
    if (u->head.len > 0 && send_head(u) < 0 && errno != EAGAIN)
        return -1;
    return u->tls.session ? tls_record_read(&u->tls, to, max) : recv(s->fd, to, max, MSG_DONTWAIT);
}

static void upgraded_shut_write(struct stream *s)
{
    struct upgraded_stream *u = (struct upgraded_stream *)s;
    if (u->tls.session)
        gnutls_bye(u->tls.session, GNUTLS_SHUT_WR);
    shutdown(s->fd, SHUT_WR);
}

static void upgraded_close(struct stream *s)
{
    struct upgraded_stream *u = (struct upgraded_stream *)s;
    struct http_request *req = u->req;
    struct http_server *server = req->server;
    atomic_store(&req->cut, true);
    /* Under the lock, so that the server is not freed between the two. */
    pthread_mutex_lock(&server->lock);
    link_remove(&u->link);
    MHD_resume_connection(req->connection);
    if (server->ending)
        pthread_cond_signal(&server->quiet);
    pthread_mutex_unlock(&server->lock);
    buf_done(&u->head);
    free(u);
    http_request_unref(req);
}

static const struct stream_ops upgraded_ops = {upgraded_read, upgraded_write, upgraded_shut_write,
                                               upgraded_close};

void upgrade_begin(struct http_request *req)
{
    struct http_server *server = req->server;
    struct upgraded_stream *u = xcalloc(1, sizeof(*u));
    u->stream = (struct stream){&upgraded_ops, req->socket->fd};
    u->req = http_request_ref(req);
    u->head = req->upgrade_head;
    req->upgrade_head = BUF_INIT;
    if (server->tls)
        u->tls.session =
            (gnutls_session_t)MHD_get_connection_info(req->connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)
                ->tls_session;
    pthread_mutex_lock(&server->lock);
    MHD_suspend_connection(req->connection);
    link_add(&server->upgraded, &u->link);
    if (server->stopping)
        shutdown(u->stream.fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    /* From here on it is no HTTP connection: the sweeper leaves it alone. */
    atomic_store_explicit(&req->socket->since_ms, 0, memory_order_relaxed);
    send_head(u); /* what does not go now goes with the first read or write */
    void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len) = req->upgraded;
    req->upgraded = NULL;
    upgraded(req->upgraded_arg, &u->stream, NULL, 0);
}

void head_write(struct buf *b, const char *status_line, const struct http_header *headers)
{
    buf_printf(b, "%s\r\n", status_line);
    for (const struct http_header *h = headers; h && h->name; h++) {
        if (strpbrk(h->name, "\r\n:") || strpbrk(h->value, "\r\n"))
            log_error("http", "header not sent: it has characters that a header cannot have", "header",
                      h->name);
        else
            buf_printf(b, "%s: %s\r\n", h->name, h->value);
    }
    buf_add_str(b, "\r\n");
}

/* `first`: what is sent before anything else. Moves here. */
static void
leave_http(struct http_request *req, struct buf *first,
           void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len), void *arg)
{
    bool late = true;
    if (request_claim(req)) {
        pthread_mutex_lock(&req->lock);
        bool gone = atomic_load(&req->gone), completed = req->completed;
        late = completed || gone;
        if (gone)
            atomic_store(&req->cut, true);
        if (!late) {
            req->upgrade_head = *first;
            *first = BUF_INIT;
            req->upgraded = upgraded;
            req->upgraded_arg = arg;
            req->ready = true;
        }
        pthread_mutex_unlock(&req->lock);
        if (!completed)
            request_wake(req);
    }
    buf_done(first);
    if (late)
        upgraded(arg, NULL, NULL, 0);
    http_request_unref(req);
}

void http_upgrade(struct http_request *req, const struct http_header *headers,
                  void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                  void *arg)
{
    struct buf head = BUF_INIT;
    head_write(&head, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade", headers);
    leave_http(req, &head, upgraded, arg);
}

void http_tunnel(struct http_request *req, const struct http_header *headers,
                 void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                 void *arg)
{
    struct buf head = BUF_INIT;
    head_write(&head, "HTTP/1.1 200 OK", headers);
    leave_http(req, &head, upgraded, arg);
}

void http_take_over(struct http_request *req, const void *first, size_t len,
                    void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                    void *arg)
{
    struct buf bytes = BUF_INIT;
    buf_add(&bytes, first, len);
    leave_http(req, &bytes, upgraded, arg);
}

void upgraded_end_all(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    for (struct link *l = server->upgraded.next; l != &server->upgraded; l = l->next)
        shutdown(LINK_OF(struct upgraded_stream, link, l)->stream.fd, SHUT_RDWR);
    while (server->upgraded.next != &server->upgraded)
        pthread_cond_wait(&server->quiet, &server->lock);
    pthread_mutex_unlock(&server->lock);
}
