/* One thread takes connections in, each of which gets a thread of its own: a conversation first (hello.c,
 * within HELLO_MS), then bytes both ways. A connection is ended from elsewhere by shutting its socket down.
 */
#include "nbd.h"

#include "../front.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/trail.h"
#include "../handlers/storage.h"
#include "hello.h"
#include "upstream.h"
#include <arpa/inet.h>
#include <base/clock.h>
#include <base/listen.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <base/tls_accept.h>
#include <errno.h>
#include <fcntl.h>
#include <model/errors.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define HELLO_MS 30000
#define AGENT_MS 15000
#define CONNECTIONS_MAX 256
#define PERMISSION "vdi.get_nbd_info"

struct connection {
    struct nbd *nbd;
    struct connection *next;
    int fd;
    char peer[48];
    struct session *session; /* counted, once it is known; guarded by nbd->lock */
    /* The thread's own. */
    struct stream *stream; /* owns fd */
    struct nbd_hello hello;
    struct buf in, out;
    int64_t deadline_ms;
};

struct nbd {
    struct server *server;
    int fd; /* listening */
    uint16_t port;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended;
    struct connection *connections;
    size_t count;
    bool stop;
};

/* ---- the conversation ---- */

static int64_t left_ms(const struct connection *c)
{
    int64_t left = c->deadline_ms - clock_mono_ms();
    return left > 0 ? left : 0;
}

static int send_answer(struct connection *c)
{
    int rc = stream_write_all(c->stream, c->out.data, c->out.len, left_ms(c));
    buf_clear(&c->out);
    return rc;
}

static int read_more(struct connection *c)
{
    for (;;) {
        ssize_t n = stream_read(c->stream, buf_reserve(&c->in, 4096), 4096);
        if (n > 0) {
            buf_advance(&c->in, (size_t)n);
            return 0;
        }
        if (n == 0 || errno != EAGAIN || !stream_wait_readable(c->stream, left_ms(c)))
            return -1;
    }
}

/* What came before TLS is forgotten: it may be somebody else's. */
static int begin_tls(struct connection *c)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SECRET char *key = NULL;
    AUTO_FREE char *certificate = front_identity(c->nbd->server, &key, &err);
    struct tls_error cause = {"the server's certificate cannot be read"};
    int fd = dup(c->fd); /* the plain stream closes its own */
    struct stream *secure =
        certificate && fd >= 0 ? tls_accept(fd, certificate, key, left_ms(c), &cause) : NULL;
    if (!secure) {
        log_info("nbd", "no TLS with a client", "from", c->peer, "cause", cause.text);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    pthread_mutex_lock(&c->nbd->lock);
    stream_close(c->stream);
    c->stream = secure;
    c->fd = fd;
    pthread_mutex_unlock(&c->nbd->lock);
    buf_clear(&c->in);
    nbd_hello_secured(&c->hello);
    return 0;
}

/* ---- the disk ---- */

/* The session that the name holds, which the connection has from now on. */
static int admit(struct connection *c, const char *text, struct api_err *err)
{
    struct server *server = c->nbd->server;
    struct ref token;
    AUTO_SESSION struct session *session =
        ref_parse(text, &token) ? session_find(server->sessions, token) : NULL;
    if (!session)
        return err_session_invalid(err, "");
    int rc = roles_allow(session, PERMISSION, err);
    trail_door(server->trail, c->peer, session, PERMISSION, rc < 0 ? err : NULL);
    if (rc < 0)
        return -1;
    pthread_mutex_lock(&c->nbd->lock);
    struct session *old = c->session;
    c->session = session_ref(session);
    bool gone = session->gone;
    pthread_mutex_unlock(&c->nbd->lock);
    session_unref(old);
    return gone ? err_session_invalid(err, "") : 0;
}

static int connect_disk(struct connection *c, const char *uuid, struct stream **out, struct api_err *err)
{
    struct server *server = c->nbd->server;
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vdi_row *vdi = vdi_row(snapshot_by_uuid(snap, CLASS_VDI, uuid));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    const char *disk, *iso;
    struct hv_err cause;
    if (!sr)
        return err_uuid_invalid(err, "VDI", uuid);
    if (vdi->type == VDI_TYPE_CBT_METADATA)
        return err_vdi_incompatible_type(err, REF_TEXT(vdi->row.ref), model_enum_vdi_type.values[vdi->type]);
    if (storage_agent_get(server, snap, vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    storage_disk_name(sr, vdi, &disk, &iso);
    if (hv_disk_serve(at.agent, sr->uuid, disk, iso, AGENT_MS, out, &cause) < 0)
        return storage_fail(err, at.host, vdi->SR, vdi->row.ref, "copy", &cause);
    return 0;
}

/* The chosen export: 1 when bytes are to be carried to *disk, 0 when the client goes on asking, -1. */
static int open_export(struct connection *c, struct stream **disk)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    char uuid[NBD_UUID_SIZE], session[NBD_SESSION_SIZE];
    struct upstream_export export;
    int rc = nbd_name_parse(c->hello.name, uuid, session) ? 0 : err_invalid_value(&err, "export", "");
    if (rc == 0)
        rc = admit(c, session, &err);
    bool denied = rc < 0;
    if (rc == 0)
        rc = connect_disk(c, uuid, disk, &err);
    if (rc == 0 && upstream_begin(*disk, c->hello.structured, left_ms(c), &export) < 0) {
        stream_close(*disk);
        rc = fail_internal(&err, "The host does not serve the disk.");
    }
    if (rc < 0) {
        log_info("nbd", "refused", "from", c->peer, "error", err.code);
        enum nbd_refusal refusal = denied ? NBD_REFUSED_POLICY : NBD_REFUSED_UNKNOWN;
        return nbd_hello_refuse(&c->hello, refusal, err.code, &c->out) ? send_answer(c) : -1;
    }
    bool begins = nbd_hello_export(&c->hello, export.size, export.flags, &c->out);
    rc = send_answer(c);
    if (rc == 0 && begins) {
        log_info("nbd", "a disk is read", "vdi", uuid, "user", c->session->user, "from", c->peer);
        return 1;
    }
    stream_close(*disk);
    return rc;
}

/* Until an export is chosen for good: its stream; NULL: the connection is over. */
static struct stream *converse(struct connection *c)
{
    struct stream *disk;
    for (;;) {
        enum nbd_want want = nbd_hello_feed(&c->hello, &c->in, &c->out);
        if (send_answer(c) < 0)
            return NULL;
        int rc = 0;
        switch (want) {
        case NBD_WANT_MORE:
            rc = read_more(c);
            break;
        case NBD_WANT_TLS:
            rc = begin_tls(c);
            break;
        case NBD_WANT_EXPORT:
            rc = open_export(c, &disk);
            break;
        case NBD_WANT_END:
            return NULL;
        }
        if (rc != 0)
            return rc > 0 ? disk : NULL;
    }
}

static void serve(struct connection *c)
{
    enum nbd_policy policy;
    {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(c->nbd->server->store);
        policy = nbd_policy(snap);
    }
    if (policy == NBD_NOBODY)
        return;
    c->deadline_ms = clock_mono_ms() + HELLO_MS;
    nbd_hello_begin(&c->hello, policy == NBD_TLS, &c->out);
    struct stream *disk = send_answer(c) == 0 ? converse(c) : NULL;
    if (!disk)
        return;
    /* Requests that came right behind the choice. */
    if (stream_write_all(disk, c->in.data, c->in.len, HELLO_MS) == 0)
        stream_pump(c->stream, disk, -1, -1);
    stream_close(disk);
}

/* ---- connections ---- */

/* Clients may be silent for long; one that is gone is noticed all the same. */
static void set_up(int fd)
{
    const int on = 1, idle_s = 60, tries = 3;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
        log_debug("nbd", "a connection is not set up", "cause", strerror(errno));
}

static void *connection_run(void *arg)
{
    struct connection *c = arg;
    struct nbd *nbd = c->nbd;
    serve(c);
    pthread_mutex_lock(&nbd->lock);
    for (struct connection **at = &nbd->connections; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    pthread_mutex_unlock(&nbd->lock);
    stream_close(c->stream);
    session_unref(c->session);
    buf_done(&c->in);
    buf_done(&c->out);
    free(c);
    pthread_mutex_lock(&nbd->lock);
    nbd->count--;
    pthread_cond_broadcast(&nbd->ended);
    pthread_mutex_unlock(&nbd->lock);
    return NULL;
}

static void take_in(struct nbd *nbd, int fd, const struct sockaddr_storage *from, socklen_t len)
{
    pthread_t thread;
    pthread_attr_t attr;
    struct connection *c = xcalloc(1, sizeof(*c));
    set_up(fd);
    *c = (struct connection){.nbd = nbd, .fd = fd, .stream = stream_from_fd(fd)};
    if (getnameinfo((const struct sockaddr *)from, len, c->peer, sizeof(c->peer), NULL, 0, NI_NUMERICHOST))
        c->peer[0] = '\0';
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_mutex_lock(&nbd->lock);
    bool room = !nbd->stop && nbd->count < CONNECTIONS_MAX;
    if (room && pthread_create(&thread, &attr, connection_run, c) == 0) {
        c->next = nbd->connections;
        nbd->connections = c;
        nbd->count++;
        c = NULL;
    }
    pthread_mutex_unlock(&nbd->lock);
    pthread_attr_destroy(&attr);
    if (!c)
        return;
    log_warn("nbd", "a client is sent away: too many are connected", "from", c->peer);
    stream_close(c->stream);
    free(c);
}

static void *listen_run(void *arg)
{
    struct nbd *nbd = arg;
    for (;;) {
        struct sockaddr_storage from;
        socklen_t len = sizeof(from);
        int fd = accept4(nbd->fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);
        pthread_mutex_lock(&nbd->lock);
        bool stop = nbd->stop;
        pthread_mutex_unlock(&nbd->lock);
        if (fd >= 0)
            take_in(nbd, fd, &from, len);
        if (stop)
            return NULL;
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED) {
            log_warn("nbd", "no client can be let in", "cause", strerror(errno));
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL); /* no descriptors: in a moment again */
        }
    }
}

/* ---- life ---- */

struct nbd *nbd_open(struct server *server, const char *address, uint16_t port)
{
    char error[200];
    uint16_t bound;
    int fd = listen_tcp(address, port, &bound, error, sizeof(error));
    if (fd < 0) {
        log_error("nbd", "disks are not served", "cause", error);
        return NULL;
    }
    struct nbd *nbd = xcalloc(1, sizeof(*nbd));
    *nbd = (struct nbd){.server = server, .fd = fd, .port = bound};
    pthread_mutex_init(&nbd->lock, NULL);
    pthread_cond_init(&nbd->ended, NULL);
    if (pthread_create(&nbd->thread, NULL, listen_run, nbd) != 0)
        abort();
    return nbd;
}

uint16_t nbd_port(const struct nbd *nbd)
{
    return nbd->port;
}

void nbd_close(struct nbd *nbd)
{
    if (!nbd)
        return;
    pthread_mutex_lock(&nbd->lock);
    nbd->stop = true;
    for (struct connection *c = nbd->connections; c; c = c->next)
        shutdown(c->fd, SHUT_RDWR);
    pthread_mutex_unlock(&nbd->lock);
    shutdown(nbd->fd, SHUT_RDWR); /* wakes the thread that accepts */
    pthread_join(nbd->thread, NULL);
    pthread_mutex_lock(&nbd->lock);
    while (nbd->count)
        pthread_cond_wait(&nbd->ended, &nbd->lock);
    pthread_mutex_unlock(&nbd->lock);
    close(nbd->fd);
    pthread_cond_destroy(&nbd->ended);
    pthread_mutex_destroy(&nbd->lock);
    free(nbd);
}

void nbd_session_gone(struct nbd *nbd, const struct session *session)
{
    if (!nbd)
        return;
    pthread_mutex_lock(&nbd->lock);
    for (struct connection *c = nbd->connections; c; c = c->next)
        if (c->session == session)
            shutdown(c->fd, SHUT_RDWR);
    pthread_mutex_unlock(&nbd->lock);
}

/* ---- purposes ---- */

static bool add_purposes(const struct row *row, void *arg)
{
    *(uint64_t *)arg |= network_row(row)->purpose;
    return true;
}

enum nbd_policy nbd_policy(const struct snapshot *snap)
{
    uint64_t purposes = 0;
    snapshot_each(snap, CLASS_network, add_purposes, &purposes);
    if (purposes & 1ULL << NETWORK_PURPOSE_NBD)
        return NBD_TLS;
    return purposes & 1ULL << NETWORK_PURPOSE_INSECURE_NBD ? NBD_INSECURE : NBD_NOBODY;
}
