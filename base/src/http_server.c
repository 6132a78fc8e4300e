/* Start and stop of an HTTP server, its sockets and its connections. A request's life is in
 * http_request.c, sleeping in http_sleep.c, answers in http_answer.c and http_upgrade.c. */
#include "http_internal.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/listen.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define PEM_MAX (256 * 1024)
#define BODIES_BYTES_MAX ((size_t)128 << 20)

static int fail(struct http_server_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static int fail(struct http_server_error *error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(error->text, sizeof(error->text), format, ap);
    va_end(ap);
    return -1;
}

/* ---- the listening socket ---- */

static int open_listener(const struct http_server_config *config, uint16_t *port,
                         struct http_server_error *error)
{
    AUTO_CLOSE int fd = listen_tcp(config->address, config->port, port, error->text, sizeof(error->text));
    if (fd < 0)
        return -1;
    if (!config->certificate_file && !listen_is_loopback(config->address))
        return fail(error, "plain HTTP is served on a loopback address only, not on %s", config->address);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return fail(error, "cannot listen on %s: %s", config->address, strerror(errno));
    return TAKE_FD(fd);
}

/* A socket of this path that nobody listens on any more goes; whatever else is there stays. */
static int clear_path(const struct sockaddr_un *address, struct http_server_error *error)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return fail(error, "%s is there already and no socket", address->sun_path);
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return fail(error, "another process listens on %s", address->sun_path);
    if (unlink(address->sun_path) < 0 && errno != ENOENT)
        return fail(error, "cannot remove the old socket %s: %s", address->sun_path, strerror(errno));
    return 0;
}

static int open_unix_listener(const char *path, struct http_server_error *error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return fail(error, "the path of a socket has at most %zu bytes: %.80s...",
                    sizeof(address.sun_path) - 1, path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (clear_path(&address, error) < 0)
        return -1;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, 1024) < 0)
        return fail(error, "cannot listen on %s: %s", path, strerror(errno));
    return TAKE_FD(fd);
}

/* ---- libmicrohttpd's callbacks about connections ---- */

/* Connections of this thread, if it is one of a server's. */
static _Thread_local unsigned own_connections;

bool http_request_is_alone(const struct http_request *req)
{
    return req->server->threads > 1 && own_connections == 1;
}

static enum MHD_Result on_accept(void *context, const struct sockaddr *peer, socklen_t len)
{
    const struct http_server *server = context;
    (void)peer, (void)len;
    if (!server->budget || atomic_load(&server->budget->connections) < server->budget->connections_max)
        return MHD_YES;
    log_debug("http", "a connection is refused: there are as many as there may be");
    return MHD_NO;
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    struct connection *c = *slot;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        c = xcalloc(1, sizeof(*c));
        c->server = server;
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->since_ms = clock_mono_ms();
        *slot = c;
        own_connections++;
        pthread_mutex_lock(&server->lock);
        link_add(&server->connections, &c->link);
        pthread_mutex_unlock(&server->lock);
        if (server->budget)
            atomic_fetch_add(&server->budget->connections, 1);
        tls_prepare(server, c, mhd);
    } else if (c) {
        pthread_mutex_lock(&server->lock);
        link_remove(&c->link);
        pthread_mutex_unlock(&server->lock);
        if (server->budget)
            atomic_fetch_sub(&server->budget->connections, 1);
        own_connections--;
        tls_identity_unref(c->identity);
        free(c);
        *slot = NULL;
    }
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Like libmicrohttpd's own, except that %00 stays as it is: it would cut the text short. */
static size_t unescape(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context, (void)connection;
    char *to = text;
    for (const char *from = text; *from;) {
        int high = from[0] == '%' ? hex_digit(from[1]) : -1;
        int low = high >= 0 ? hex_digit(from[2]) : -1;
        if (low >= 0 && (high | low) != 0) {
            *to++ = (char)(high << 4 | low);
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

static void on_message(void *context, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));
static void on_message(void *context, const char *format, va_list ap)
{
    (void)context;
    if (!log_enabled(LOG_DEBUG_LEVEL))
        return;
    char text[256];
    vsnprintf(text, sizeof(text), format, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_debug("http", text);
}

/* ---- start ---- */

static char *read_pem(const char *path, struct http_server_error *error)
{
    char *pem = file_read(path, PEM_MAX, NULL);
    if (!pem)
        fail(error, "cannot read %s: %s", path, strerror(errno));
    return pem;
}

static int load_tls(struct http_server *server, const struct http_server_config *config,
                    struct http_server_error *error)
{
    if (!config->certificate_file && !config->key_file && !config->client_ca_file)
        return 0;
    if (!config->certificate_file || !config->key_file)
        return fail(error, "TLS needs both a certificate and a key");
    server->tls = true;
    server->cert_pem = read_pem(config->certificate_file, error);
    server->key_pem = server->cert_pem ? read_pem(config->key_file, error) : NULL;
    if (!server->key_pem)
        return -1;
    if (!config->client_ca_file)
        return 0;
    server->client_certificates = true;
    server->client_name = config->client_name ? xstrdup(config->client_name) : NULL;
    server->client_suffix = config->client_suffix ? xstrdup(config->client_suffix) : NULL;
    server->trust_pem = read_pem(config->client_ca_file, error);
    return server->trust_pem ? 0 : -1;
}

static int start_daemon(struct http_server *server, const struct http_server_config *config, int listener,
                        struct http_server_error *error)
{
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
                     (server->tls ? MHD_USE_TLS : 0);
    struct MHD_OptionItem options[16];
    size_t n = 0;
#define OPTION(...) options[n++] = (struct MHD_OptionItem){__VA_ARGS__}
    OPTION(MHD_OPTION_LISTEN_SOCKET, listener, NULL);
    OPTION(MHD_OPTION_CONNECTION_LIMIT, config->connections_max ? config->connections_max : 10000, NULL);
    OPTION(MHD_OPTION_PER_IP_CONNECTION_LIMIT, config->connections_per_ip, NULL);
    /* A little later than our own, which has words for who is late (http_sleep.c). */
    OPTION(MHD_OPTION_CONNECTION_TIMEOUT, (intptr_t)(server->idle_timeout_ms / 1000 + 2), NULL);
    OPTION(MHD_OPTION_CONNECTION_MEMORY_LIMIT, config->head_bytes_max ? config->head_bytes_max : 16384, NULL);
    if (server->threads > 1)
        OPTION(MHD_OPTION_THREAD_POOL_SIZE, server->threads, NULL);
    if (server->tls) {
        OPTION(MHD_OPTION_HTTPS_MEM_CERT, 0, server->cert_pem);
        OPTION(MHD_OPTION_HTTPS_MEM_KEY, 0, server->key_pem);
        OPTION(MHD_OPTION_HTTPS_PRIORITIES, 0,
               (char *)(uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE");
    }
    if (server->trust_pem)
        OPTION(MHD_OPTION_HTTPS_MEM_TRUST, 0, server->trust_pem);
    OPTION(MHD_OPTION_END, 0, NULL);
#undef OPTION
    server->daemon =
        MHD_start_daemon(flags, 0, on_accept, server, request_on_access, server, MHD_OPTION_EXTERNAL_LOGGER,
                         on_message, NULL, MHD_OPTION_NOTIFY_COMPLETED, request_on_completed, server,
                         MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_UNESCAPE_CALLBACK,
                         unescape, server, MHD_OPTION_ARRAY, options, MHD_OPTION_END);
    if (!server->daemon)
        return server->tls ? fail(error, "the HTTP server does not start: are %s and %s a pair in PEM?",
                                  config->certificate_file, config->key_file)
                           : fail(error, "the HTTP server does not start");
    return 0;
}

static int start_watcher(struct http_server *server)
{
    server->watch_epoll = epoll_create1(EPOLL_CLOEXEC);
    server->watch_stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = server->watch_stop};
    if (server->watch_epoll < 0 || server->watch_stop < 0 ||
        epoll_ctl(server->watch_epoll, EPOLL_CTL_ADD, server->watch_stop, &event) < 0)
        return -1;
    errno = pthread_create(&server->watcher, NULL, watcher_main, server);
    return errno ? -1 : 0;
}

static void server_free(struct http_server *server)
{
    fd_close_cleanup(&server->watch_epoll);
    fd_close_cleanup(&server->watch_stop);
    fd_close_cleanup(&server->listener);
    pthread_mutex_destroy(&server->lock);
    pthread_cond_destroy(&server->quiet);
    tls_identity_unref(server->identity);
    if (server->key_pem)
        explicit_bzero(server->key_pem, strlen(server->key_pem));
    free(server->cert_pem);
    free(server->key_pem);
    free(server->trust_pem);
    free(server->client_name);
    free(server->client_suffix);
    free(server->socket_path);
    free(server->watched);
    free(server);
}

static struct http_server *server_new(const struct http_server_config *config)
{
    struct http_server *server = xcalloc(1, sizeof(*server));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&server->quiet, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&server->lock, NULL);
    link_init(&server->connections);
    link_init(&server->sleeping);
    link_init(&server->upgraded);
    server->watch_epoll = server->watch_stop = server->listener = -1;
    server->on_request = config->on_request;
    server->context = config->context;
    server->error_page = config->error_page;
    server->budget = config->budget;
    server->threads = config->threads ? config->threads : (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    server->socket_path = config->socket_path ? xstrdup(config->socket_path) : NULL;
    server->idle_timeout_ms = (config->idle_timeout_s ? config->idle_timeout_s : 60) * INT64_C(1000);
    server->body_timeout_ms = (config->body_timeout_s ? config->body_timeout_s : 120) * INT64_C(1000);
    server->reader_timeout_ms = (config->reader_timeout_s ? config->reader_timeout_s : 60) * INT64_C(1000);
    server->bodies_bytes_max = config->bodies_bytes_max ? config->bodies_bytes_max : BODIES_BYTES_MAX;
    return server;
}

int http_server_start(const struct http_server_config *config, struct http_server **out,
                      struct http_server_error *error)
{
    struct http_server *server = server_new(config);
    AUTO_CLOSE int listener = -1;
    if (load_tls(server, config, error) == 0)
        listener = config->socket_path ? open_unix_listener(config->socket_path, error)
                                       : open_listener(config, &server->port, error);
    if (listener < 0) {
        server_free(server);
        return -1;
    }
    if (start_watcher(server) < 0) {
        fail(error, "cannot start a thread: %s", strerror(errno));
        server_free(server);
        return -1;
    }
    if (start_daemon(server, config, listener, error) < 0) {
        eventfd_write(server->watch_stop, 1);
        pthread_join(server->watcher, NULL);
        server_free(server);
        return -1;
    }
    listener = -1; /* libmicrohttpd's now */
    *out = server;
    return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

/* ---- stop ---- */

void http_server_quiesce(struct http_server *server)
{
    if (server->quiesced)
        return; /* libmicrohttpd 0.9.75 would return the closed descriptor's number once more */
    server->quiesced = true;
    server->listener = MHD_quiesce_daemon(server->daemon);
    if (server->listener < 0)
        return;
    if (shutdown(server->listener, SHUT_RDWR) < 0)
        log_warn("http", "nobody is refused yet", "cause", strerror(errno));
    if (server->socket_path && unlink(server->socket_path) < 0)
        log_warn("http", "the socket could not be removed", "path", server->socket_path, "cause",
                 strerror(errno));
}

/* Answers that were given get a moment to leave. */
static void wait_until_inactive(struct http_server *server)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += 2;
    pthread_mutex_lock(&server->lock);
    int rc = 0;
    while (rc == 0 && atomic_load(&server->active) > 0)
        rc = pthread_cond_timedwait(&server->quiet, &server->lock, &end);
    pthread_mutex_unlock(&server->lock);
}

void http_server_stop(struct http_server *server)
{
    if (!server)
        return;
    http_server_quiesce(server);
    pthread_mutex_lock(&server->lock);
    server->ending = true;
    atomic_store(&server->stopping_now, true);
    pthread_mutex_unlock(&server->lock);
    sleepers_end(server);
    upgraded_end_all(server);
    wait_until_inactive(server);
    eventfd_write(server->watch_stop, 1);
    pthread_join(server->watcher, NULL);
    MHD_stop_daemon(server->daemon);
    server_free(server);
}
