/* Connections of the light HTTP client: sockets, and TLS by OpenSSL over them. */
#include "http_light_internal.h"
#include <arpa/inet.h>
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SLICE_MS 200 /* between looks at a cancellation */

int patience_wait(struct patience *p, int fd, short events, struct http_error *error)
{
    for (;;) {
        int64_t now = clock_mono_ms();
        int64_t left = p->end_ms >= 0 ? p->end_ms - now : p->moved_ms + p->stall_ms - now;
        if (p->cancel && *p->cancel)
            return client_fail(error, HTTP_CANCELLED, "cancelled");
        if (left <= 0)
            return client_fail(error, HTTP_TIMED_OUT, "nothing came in time");
        struct pollfd ready = {.fd = fd, .events = events};
        if (poll(&ready, 1, left < SLICE_MS ? (int)left : SLICE_MS) > 0)
            return 0;
    }
}

/* ---- bytes ---- */

/* What SSL_read and SSL_write say, as a stream does. */
static ssize_t from_ssl(struct wire *w, int n)
{
    if (n > 0)
        return n;
    int code = SSL_get_error(w->ssl, n), cause = errno;
    ERR_clear_error();
    if (code == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE ? EAGAIN
            : code == SSL_ERROR_SYSCALL && cause == EINTR               ? EINTR
                                                                        : ECONNRESET;
    return -1;
}

static ssize_t wire_read(struct stream *s, void *to, size_t max)
{
    struct wire *w = (struct wire *)s;
    size_t n = client_take_early(&w->link, to, max);
    if (n > 0)
        return (ssize_t)n;
    return w->ssl ? from_ssl(w, SSL_read(w->ssl, to, max > INT_MAX ? INT_MAX : (int)max))
                  : recv(s->fd, to, max, 0);
}

static ssize_t wire_write(struct stream *s, const void *from, size_t len)
{
    struct wire *w = (struct wire *)s;
    return w->ssl ? from_ssl(w, SSL_write(w->ssl, from, len > INT_MAX ? INT_MAX : (int)len))
                  : send(s->fd, from, len, MSG_NOSIGNAL);
}

static void wire_end(struct stream *s)
{
    wire_close((struct wire *)s);
}

void wire_close(struct wire *w)
{
    if (!w)
        return;
    if (w->ssl) {
        SSL_shutdown(w->ssl);
        SSL_free(w->ssl);
        ERR_clear_error();
    }
    SSL_CTX_free(w->context);
    if (w->link.stream.fd >= 0)
        close(w->link.stream.fd);
    buf_done(&w->link.early);
    free(w);
}

bool wire_is_stale(const struct wire *w)
{
    struct pollfd p = {.fd = w->link.stream.fd, .events = POLLIN};
    return w->link.early.len > 0 || poll(&p, 1, 0) != 0;
}

/* ---- TCP ---- */

static int failed_to_connect(struct http_error *error, const char *cause)
{
    return client_fail(error, HTTP_CANNOT_CONNECT, cause);
}

/* A connected descriptor, or -1. */
static int connect_to(int family, const struct sockaddr *address, socklen_t len, struct patience *p,
                      struct http_error *error)
{
    AUTO_CLOSE int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int problem = 0;
    socklen_t size = sizeof(problem);
    if (fd < 0)
        return failed_to_connect(error, strerror(errno));
    if (connect(fd, address, len) < 0) {
        if (errno != EINPROGRESS && errno != EINTR)
            return failed_to_connect(error, strerror(errno));
        if (patience_wait(p, fd, POLLOUT, error) < 0) {
            error->kind = error->kind == HTTP_TIMED_OUT ? HTTP_CANNOT_CONNECT : error->kind;
            return -1;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size) < 0 || problem)
            return failed_to_connect(error, strerror(problem ? problem : errno));
    }
    int on = 1;
    if (family != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
    return TAKE_FD(fd);
}

static int connect_unix(const char *path, struct patience *p, struct http_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return failed_to_connect(error, "the path of the socket is too long");
    memcpy(address.sun_path, path, strlen(path));
    return connect_to(AF_UNIX, (struct sockaddr *)&address, sizeof(address), p, error);
}

/* One address after the other. */
static int connect_tcp(const char *host, const char *port, struct patience *p, struct http_error *error)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *all;
    int rc = getaddrinfo(host, port, &hints, &all), fd = -1;
    if (rc == EAI_NONAME) { /* a name: that takes files and perhaps the network */
        hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
        rc = getaddrinfo(host, port, &hints, &all);
    }
    if (rc != 0)
        return failed_to_connect(error, gai_strerror(rc));
    for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next)
        fd = connect_to(a->ai_family, a->ai_addr, a->ai_addrlen, p, error);
    freeaddrinfo(all);
    return fd;
}

/* ---- TLS ---- */

static bool is_address(const char *host)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static int tls_failed(const struct wire *w, struct http_error *error)
{
    const char *cause = *w->trust.why ? w->trust.why : NULL;
    if (w->ssl && w->trust.broken_off)
        return client_fail(error, HTTP_CANNOT_CONNECT, "the connection was closed in the TLS handshake");
    if (!cause)
        cause = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    return client_fail(error, HTTP_TLS_REFUSED, cause ? cause : "the TLS handshake failed");
}

static bool prepare(const struct http_client *client, const char *host, bool any, struct wire *w)
{
    SSL_CTX *context = w->context = SSL_CTX_new(TLS_client_method());
    if (!context)
        abort(); /* only memory can be missing */
    w->trust = (struct client_trust){
        .root_sha256 = client->root_sha256, .leaf_sha256 = client->leaf_sha256, .accept_any_root = any};
    bool pinned = any || client->root_sha256 || client->leaf_sha256;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    client_trust_install(context, &w->trust);
    if (!pinned && (client->ca_file ? SSL_CTX_load_verify_locations(context, client->ca_file, NULL)
                                    : SSL_CTX_set_default_verify_paths(context)) != 1)
        return false;
    if (client->cert_file && (SSL_CTX_use_certificate_chain_file(context, client->cert_file) != 1 ||
                              SSL_CTX_use_PrivateKey_file(context, client->key_file, SSL_FILETYPE_PEM) != 1))
        return false;
    w->ssl = SSL_new(context);
    if (!w->ssl)
        abort();
    SSL_set_fd(w->ssl, w->link.stream.fd);
    return is_address(host) || SSL_set_tlsext_host_name(w->ssl, host) == 1;
}

/* Pinned roots come with the name, too, unless that was given up. */
static bool name_is_right(const struct http_client *client, const char *host, bool any, SSL *ssl)
{
    if (any || client->no_name_check)
        return true;
    X509 *cert = SSL_get0_peer_certificate(ssl);
    return cert && (is_address(host) ? X509_check_ip_asc(cert, host, 0)
                                     : X509_check_host(cert, host, 0, 0, NULL)) == 1;
}

static int handshake(const struct http_client *client, const char *host, bool any, struct wire *w,
                     struct patience *p, struct http_error *error)
{
    if (!prepare(client, host, any, w))
        return tls_failed(w, error);
    for (;;) {
        int n = SSL_connect(w->ssl);
        if (n == 1)
            break;
        int code = SSL_get_error(w->ssl, n);
        if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE)
            return tls_failed(w, error);
        if (patience_wait(p, w->link.stream.fd, code == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, error) < 0) {
            error->kind = error->kind == HTTP_TIMED_OUT ? HTTP_CANNOT_CONNECT : error->kind;
            return -1;
        }
    }
    return name_is_right(client, host, any, w->ssl)
               ? 0
               : client_fail(error, HTTP_TLS_REFUSED, "the certificate is of another name");
}

/* ---- both ---- */

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

/* By the address that the client was given, or else by the URL's name. */
static int connect_somewhere(const struct http_client *client, const char *host, const char *port,
                             struct patience *p, struct http_error *error)
{
    AUTO_FREE char *other_host = NULL, *other_port = NULL;
    if (client->socket_path)
        return connect_unix(client->socket_path, p, error);
    split(client->connect_to ? client->connect_to : "", port, &other_host, &other_port);
    return connect_tcp(*other_host ? other_host : host, other_port, p, error);
}

int wire_open(const struct http_client *client, bool any, struct patience *p, struct wire **out,
              struct http_error *error)
{
    static const struct stream_ops ops = {wire_read, wire_write, NULL, wire_end};
    AUTO_FREE char *host = NULL, *port = NULL;
    struct patience connecting = *p;
    int64_t end = clock_mono_ms() + client->connect_timeout_ms;
    bool tls = strncmp(client->url, "https://", 8) == 0;
    if (!tls && strncmp(client->url, "http://", 7) != 0)
        return client_fail(error, HTTP_PROTOCOL, "only http:// and https:// are spoken");
    if (connecting.end_ms < 0 || connecting.end_ms > end)
        connecting.end_ms = end;
    split(client_authority(client), tls ? "443" : "80", &host, &port);
    int fd = connect_somewhere(client, host, port, &connecting, error);
    if (fd < 0)
        return -1;
    struct wire *w = xcalloc(1, sizeof(*w));
    w->link = (struct client_link){.stream = {&ops, fd}, .trust = &w->trust, .early = BUF_INIT};
    if (tls && handshake(client, host, any, w, &connecting, error) < 0) {
        wire_close(w);
        return -1;
    }
    p->moved_ms = clock_mono_ms();
    *out = w;
    return 0;
}

int client_connect(const struct http_client *client, bool any, int64_t end_ms, struct client_link **out,
                   struct http_error *error)
{
    struct patience p = {.end_ms = end_ms};
    struct wire *w = NULL;
    if (wire_open(client, any, &p, &w, error) < 0)
        return -1;
    *out = &w->link;
    return 0;
}
