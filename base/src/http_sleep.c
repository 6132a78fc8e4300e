/* Suspending and resuming requests, noticing clients that went away meanwhile, and ending all sleepers
 * when the server stops. The rules are in http_internal.h. */
#include "http_internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* the C library has an older one */
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>

bool request_claim(struct http_request *req)
{
    return !atomic_exchange(&req->claimed, true);
}

/* With server->lock. */
static void watch_begin(struct http_request *req)
{
    struct http_server *server = req->server;
    size_t fd = (size_t)req->socket->fd;
    if (fd >= server->watched_size) {
        size_t size = fd + 64;
        server->watched = xreallocarray(server->watched, size, sizeof(*server->watched));
        memset(server->watched + server->watched_size, 0,
               (size - server->watched_size) * sizeof(*server->watched));
        server->watched_size = size;
    }
    struct epoll_event event = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.fd = (int)fd};
    if (epoll_ctl(server->watch_epoll, EPOLL_CTL_ADD, (int)fd, &event) < 0)
        return; /* not noticed early then; the answer will fail */
    server->watched[fd] = req;
    req->watched_fd = (int)fd;
}

static void watch_end(struct http_request *req)
{
    if (req->watched_fd < 0)
        return;
    epoll_ctl(req->server->watch_epoll, EPOLL_CTL_DEL, req->watched_fd, NULL);
    req->server->watched[req->watched_fd] = NULL;
    req->watched_fd = -1;
}

bool request_sleep(struct http_request *req, bool watch)
{
    struct http_server *server = req->server;
    pthread_mutex_lock(&req->lock);
    if (req->woken) {
        req->woken = false;
        pthread_mutex_unlock(&req->lock);
        return false;
    }
    pthread_mutex_lock(&server->lock);
    bool stopping = server->stopping;
    if (!stopping) {
        MHD_suspend_connection(req->connection);
        req->asleep = true;
        link_add(&server->sleeping, &req->sleeping);
        req->watch = watch;
    }
    pthread_mutex_unlock(&server->lock);
    pthread_mutex_unlock(&req->lock);
    if (!stopping)
        return true;
    if (request_claim(req)) {
        answer_error_claimed(req, 503, "the server is stopping");
    } else {
        atomic_store(&req->cut, true);
        request_wake(req);
    }
    return false;
}

void request_wake(struct http_request *req)
{
    pthread_mutex_lock(&req->lock);
    bool resume = req->asleep;
    req->asleep = false;
    req->woken |= !resume;
    pthread_mutex_unlock(&req->lock); /* the first that the server thread takes when it is resumed */
    if (!resume)
        return;
    struct http_server *server = req->server;
    pthread_mutex_lock(&server->lock);
    watch_end(req);
    MHD_resume_connection(req->connection);
    link_remove(&req->sleeping);
    if (server->ending)
        pthread_cond_signal(&server->quiet);
    pthread_mutex_unlock(&server->lock);
}

void request_tell(struct http_request *req)
{
    if (req->closed && !atomic_exchange(&req->told, true))
        req->closed(req->closed_arg);
}

/* The client is gone: tells the handler; ends the connection when it was answered or is a stream. */
static void request_lost(struct http_request *req)
{
    atomic_store(&req->gone, true);
    if (atomic_load(&req->claimed)) {
        atomic_store(&req->cut, true);
        request_wake(req);
    } else {
        /* Stays suspended, and so its strings valid, until the handler has answered. */
        request_tell(req);
    }
}

static bool is_gone(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* True if the peer has closed and all that it sent was read from the socket. */
static bool peer_is_gone(int fd)
{
    int unread = 0;
    return is_gone(fd) && (ioctl(fd, FIONREAD, &unread) < 0 || unread == 0);
}

/* The descriptor may have got another owner since the event: while a request stands in the table, its
 * connection is suspended and the descriptor open, so the question is asked anew under the lock. */
static void on_hangup(struct http_server *server, int fd)
{
    struct http_request *req = NULL;
    pthread_mutex_lock(&server->lock);
    if ((size_t)fd < server->watched_size && server->watched[fd] && is_gone(fd)) {
        req = http_request_ref(server->watched[fd]);
        watch_end(req);
        req->watch = false;
    }
    pthread_mutex_unlock(&server->lock);
    if (!req)
        return;
    request_lost(req);
    http_request_unref(req);
}

/* Nothing was answered yet to who owes a head or body, so nobody else writes. One that is merely idle after
 * an answer is closed without words, and so is one with TLS, whose state is libmicrohttpd's. */
static void say_late(const struct http_server *server, const struct connection *c, int64_t since)
{
    static const char answer[] =
        "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/html\r\n"
        "Cache-Control: no-cache, no-store\r\nContent-Length: 59\r\n\r\n"
        "<html><body><h1>HTTP 408 Request Timeout</h1></body></html>";
    if (server->tls || (since > 0 && atomic_load_explicit(&c->served, memory_order_relaxed)))
        return;
    if (send(c->fd, answer, sizeof(answer) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        log_debug("http", "a slow client is gone");
}

/* Most requests sleep for less than the time between two looks, and need no watch. */
static void watch_sleepers(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    for (struct link *l = server->sleeping.next; l != &server->sleeping; l = l->next) {
        struct http_request *req = LINK_OF(struct http_request, sleeping, l);
        if (req->watch && req->watched_fd < 0)
            watch_begin(req);
    }
    pthread_mutex_unlock(&server->lock);
}

/* How fast a reader that is behind has to be. */
#define READER_BYTES_PER_S 1024

/* The reader has let a span go by and has taken neither all that lay ready at its beginning nor enough of it.
 * What the peer has acknowledged counts, so a stream with nothing to say is never behind; a local socket has
 * no such count. */
static bool reader_is_stuck(const struct http_server *server, struct connection *c, int64_t now)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof(info);
    int ready = 0;
    if (!atomic_load_explicit(&c->answering, memory_order_relaxed) || ioctl(c->fd, SIOCOUTQ, &ready) < 0 ||
        ready <= 0 || getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) < 0) {
        c->behind_since_ms = 0;
        return false;
    }
    if (c->behind_since_ms && info.tcpi_bytes_acked < c->behind_goal)
        return now - c->behind_since_ms > server->reader_timeout_ms;
    int64_t enough = server->reader_timeout_ms * READER_BYTES_PER_S / 1000;
    c->behind_since_ms = now;
    c->behind_goal = info.tcpi_bytes_acked + (uint64_t)(ready < enough ? ready : enough);
    return false;
}

/* What lies ready is dropped with the connection: its reader would not come to the end of it. */
static void cut_off(const struct connection *c)
{
    const struct linger none = {.l_onoff = 1};
    log_info("http", "a reader that is too slow was cut off");
    if (setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) < 0 || shutdown(c->fd, SHUT_RDWR) < 0)
        log_debug("http", "a slow reader is gone");
}

static void sweep_readers(struct http_server *server)
{
    int64_t now = clock_mono_ms();
    pthread_mutex_lock(&server->lock);
    for (struct link *l = server->connections.next; l != &server->connections; l = l->next) {
        struct connection *c = LINK_OF(struct connection, link, l);
        if (reader_is_stuck(server, c, now))
            cut_off(c);
    }
    pthread_mutex_unlock(&server->lock);
}

/* A connection that owes a head for too long, or a body, is shut down: libmicrohttpd's own timeout
 * starts anew with each byte. So is one whose peer closed in the middle of a body: libmicrohttpd 0.9.75
 * overlooks an end that arrived together with data, until that timeout. */
static void sweep(struct http_server *server)
{
    int64_t now = clock_mono_ms();
    pthread_mutex_lock(&server->lock);
    for (struct link *l = server->connections.next; l != &server->connections; l = l->next) {
        struct connection *c = LINK_OF(struct connection, link, l);
        int64_t since = atomic_load_explicit(&c->since_ms, memory_order_relaxed);
        bool late = since > 0 ? now - since > server->idle_timeout_ms : since < 0 && now > -since;
        if (late)
            say_late(server, c, since);
        if (late || (atomic_load_explicit(&c->in_body, memory_order_relaxed) && peer_is_gone(c->fd)))
            shutdown(c->fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
}

void *watcher_main(void *arg)
{
    struct http_server *server = arg;
    struct epoll_event events[64];
    int64_t next_sweep = clock_mono_ms() + 500, next_readers = next_sweep;
    for (;;) {
        int64_t wait = next_sweep - clock_mono_ms();
        int n = epoll_wait(server->watch_epoll, events, ARRAY_LEN(events), wait < 0 ? 0 : (int)wait);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == server->watch_stop)
                return NULL;
            on_hangup(server, events[i].data.fd);
        }
        if (clock_mono_ms() >= next_sweep) {
            sweep(server);
            watch_sleepers(server);
            next_sweep = clock_mono_ms() + 500;
        }
        if (clock_mono_ms() >= next_readers) {
            sweep_readers(server);
            next_readers = clock_mono_ms() + server->reader_timeout_ms / 10;
        }
    }
}

/* With server->lock. A count of some request that sleeps and was not told yet; NULL: none. */
static struct http_request *next_untold(struct http_server *server)
{
    for (struct link *l = server->sleeping.next; l != &server->sleeping; l = l->next) {
        struct http_request *req = LINK_OF(struct http_request, sleeping, l);
        if (!atomic_load(&req->claimed) && req->closed && !atomic_load(&req->told))
            return http_request_ref(req);
    }
    return NULL;
}

static void tell_all(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    for (struct http_request *req; (req = next_untold(server));) {
        pthread_mutex_unlock(&server->lock);
        request_tell(req);
        http_request_unref(req);
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
}

static void wait_for_sleepers(struct http_server *server)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec++;
    int rc = 0;
    pthread_mutex_lock(&server->lock);
    while (rc == 0 && server->sleeping.next != &server->sleeping)
        rc = pthread_cond_timedwait(&server->quiet, &server->lock, &end);
    server->stopping = true;
    pthread_mutex_unlock(&server->lock);
}

static void end_one(struct http_request *req)
{
    if (request_claim(req)) {
        answer_error_claimed(req, 503, "the server is stopping");
        return;
    }
    /* Somebody is just answering, or a stream of either direction waits: that is cut. */
    pthread_mutex_lock(&req->lock);
    bool streaming = !req->ready;
    pthread_mutex_unlock(&req->lock);
    if (streaming)
        atomic_store(&req->cut, true);
    request_wake(req);
}

void sleepers_end(struct http_server *server)
{
    tell_all(server);
    wait_for_sleepers(server);
    pthread_mutex_lock(&server->lock);
    while (server->sleeping.next != &server->sleeping) {
        struct http_request *req =
            http_request_ref(LINK_OF(struct http_request, sleeping, server->sleeping.next));
        pthread_mutex_unlock(&server->lock);
        end_one(req);
        http_request_unref(req);
        pthread_mutex_lock(&server->lock);
    }
    pthread_mutex_unlock(&server->lock);
}
