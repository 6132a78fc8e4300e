/* Connections that leave HTTP by an upgrade: the stream that their user gets, and their end when the
 * server stops. */
#include "http_internal.h"
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>

struct upgraded_stream {
    struct stream stream;
    struct http_server *server;
    struct MHD_UpgradeResponseHandle *handle;
    struct link link; /* server->lock */
    int socket_fd;    /* the connection's own under TLS, where stream.fd is one end of a pair; else -1 */
    unsigned gone;    /* sweeps that found the peer gone */
};

static ssize_t upgraded_read(struct stream *s, void *to, size_t max)
{
    return recv(s->fd, to, max, MSG_DONTWAIT);
}

static ssize_t upgraded_write(struct stream *s, const void *from, size_t len)
{
    return send(s->fd, from, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void upgraded_shut_write(struct stream *s)
{
    shutdown(s->fd, SHUT_WR);
}

static void upgraded_close(struct stream *s)
{
    struct upgraded_stream *u = (struct upgraded_stream *)s;
    struct http_server *server = u->server;
    /* Under the lock, so that the server is not freed between the two. */
    pthread_mutex_lock(&server->lock);
    link_remove(&u->link);
    MHD_upgrade_action(u->handle, MHD_UPGRADE_ACTION_CLOSE);
    if (server->stopping)
        pthread_cond_signal(&server->quiet);
    pthread_mutex_unlock(&server->lock);
    free(u);
}

static const struct stream_ops upgraded_ops = {upgraded_read, upgraded_write, upgraded_shut_write,
                                               upgraded_close};

static void on_upgraded(void *context, struct MHD_Connection *connection, void *request_context,
                        const char *extra, size_t extra_len, MHD_socket socket_fd,
                        struct MHD_UpgradeResponseHandle *handle)
{
    (void)connection, (void)request_context;
    struct http_request *req = context;
    struct http_server *server = req->server;
    struct upgraded_stream *u = xcalloc(1, sizeof(*u));
    fcntl(socket_fd, F_SETFD, FD_CLOEXEC);
    u->stream = (struct stream){&upgraded_ops, socket_fd};
    u->server = server;
    u->handle = handle;
    u->socket_fd = server->tls ? req->socket->fd : -1;
    pthread_mutex_lock(&server->lock);
    link_add(&server->upgraded, &u->link);
    if (server->stopping)
        shutdown(socket_fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    /* From here on it is no HTTP connection: the sweeper leaves it alone. */
    atomic_store_explicit(&req->socket->since_ms, 0, memory_order_relaxed);
    void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len) = req->upgraded;
    req->upgraded = NULL;
    upgraded(req->upgraded_arg, &u->stream, extra, extra_len);
    request_finish(req);
}

void http_upgrade(struct http_request *req, const struct http_header *headers,
                  void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                  void *arg)
{
    if (!request_claim(req)) {
        upgraded(arg, NULL, NULL, 0);
        http_request_unref(req);
        return;
    }
    struct MHD_Response *response = MHD_create_response_for_upgrade(on_upgraded, req);
    if (!response)
        abort(); /* only memory can be missing */
    for (const struct http_header *h = headers; h && h->name; h++)
        if (MHD_add_response_header(response, h->name, h->value) != MHD_YES)
            log_error("http", "header not sent: it has characters that a header cannot have", "header",
                      h->name);
    pthread_mutex_lock(&req->lock);
    bool late = req->completed;
    if (!late) {
        req->upgraded = upgraded;
        req->upgraded_arg = arg;
        req->response = response;
        req->status = MHD_HTTP_SWITCHING_PROTOCOLS;
        req->ready = true;
    }
    pthread_mutex_unlock(&req->lock);
    if (late) {
        MHD_destroy_response(response);
        upgraded(arg, NULL, NULL, 0);
    } else {
        request_wake(req);
    }
    http_request_unref(req);
}

/* Under TLS libmicrohttpd 0.9.75 does not hand on the peer's end to the pair. Two sweeps in a row give it
 * the time to hand on what came before. */
void upgraded_sweep(struct http_server *server)
{
    for (struct link *l = server->upgraded.next; l != &server->upgraded; l = l->next) {
        struct upgraded_stream *u = LINK_OF(struct upgraded_stream, link, l);
        u->gone = u->socket_fd >= 0 && peer_is_gone(u->socket_fd) ? u->gone + 1 : 0;
        if (u->gone == 2)
            shutdown(u->stream.fd, SHUT_RD);
    }
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
