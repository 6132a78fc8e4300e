/* A pool's certificates and a server whose handler answers by path, for the HTTP tests. */
#pragma once
#include <arpa/inet.h>
#include <base/clock.h>
#include <base/file.h>
#include <base/http_client.h>
#include <base/http_server.h>
#include <base/mem.h>
#include <base/pki.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

struct pool_files {
    char dir[40];
    char *ca, *ca_key, *server, *server_key, *client, *client_key;
};

static inline char *pem_path(const struct pool_files *f, const char *name)
{
    return xasprintf("%s/%s", f->dir, name);
}

static inline void issue(const struct pool_files *f, const char *cert, const char *key, const char *dns,
                         unsigned usage, unsigned days)
{
    struct pki_error error;
    struct pki_leaf leaf = {.common_name = "leaf",
                            .dns = (const char *const[]){dns, NULL},
                            .ip = usage & PKI_SERVER ? (const char *const[]){"127.0.0.1", NULL} : NULL,
                            .usage = usage,
                            .days = days};
    cr_assert_eq(pki_issue_files(f->ca, f->ca_key, &leaf, cert, key, &error), 0, "%s", error.text);
}

static inline struct pool_files pool_files_new(void)
{
    struct pool_files f = {.dir = "/tmp/corral-http-XXXXXX"};
    struct pki_error error;
    cr_assert_not_null(mkdtemp(f.dir));
    f.ca = pem_path(&f, "ca.pem");
    f.ca_key = pem_path(&f, "ca.key");
    f.server = pem_path(&f, "server.pem");
    f.server_key = pem_path(&f, "server.key");
    f.client = pem_path(&f, "client.pem");
    f.client_key = pem_path(&f, "client.key");
    cr_assert_eq(pki_create_ca("CA", 10, f.ca, f.ca_key, &error), 0, "%s", error.text);
    issue(&f, f.server, f.server_key, "server.test", PKI_SERVER, 10);
    issue(&f, f.client, f.client_key, "client.test", PKI_CLIENT, 10);
    return f;
}

static inline void pool_files_done(struct pool_files *f)
{
    char *const paths[] = {f->ca, f->ca_key, f->server, f->server_key, f->client, f->client_key};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        unlink(paths[i]);
        free(paths[i]);
    }
    rmdir(f->dir);
}

static inline struct http_server *start(struct http_server_config config)
{
    struct http_server *server;
    struct http_server_error error;
    if (!config.address)
        config.address = "127.0.0.1";
    cr_assert_eq(http_server_start(&config, &server, &error), 0, "%s", error.text);
    return server;
}

static inline struct http_client *plain_client(const struct http_server *server)
{
    AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u", http_server_port(server));
    return http_client_new(&(struct http_client_config){.url = url});
}

/* One call; fails the test unless an answer comes. */
static inline unsigned call(struct http_client *client, struct http_call c, struct http_reply *reply)
{
    struct http_error error;
    cr_assert_eq(http_client_call(client, &c, reply, &error), 0, "%s: %s", http_failure_name(error.kind),
                 error.text);
    return reply->status;
}

static inline int connect_raw(const struct http_server *server)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static inline void send_text(int fd, const char *text)
{
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* All that comes until the server closes the connection (or 10 s pass: the test fails). */
static inline char *receive_all(int fd)
{
    struct buf b = BUF_INIT;
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        cr_assert_eq(poll(&p, 1, 10000), 1, "the server neither answers nor closes");
        ssize_t n = recv(fd, buf_reserve(&b, 4096), 4096, 0);
        if (n <= 0)
            return buf_take(&b);
        buf_advance(&b, (size_t)n);
    }
}

/* Sends a request head (and more) and gives everything that comes back. */
static inline char *converse(const struct http_server *server, const char *text)
{
    AUTO_CLOSE int fd = connect_raw(server);
    send_text(fd, text);
    return receive_all(fd);
}

static inline void wait_for(sem_t *sem)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 10;
    int rc;
    while ((rc = sem_timedwait(sem, &end)) < 0 && errno == EINTR)
        ;
    cr_assert_eq(rc, 0, "an expected event did not come");
}

static inline bool same_text(const struct buf *b, const char *text)
{
    return b->len == strlen(text) && (b->len == 0 || memcmp(b->data, text, b->len) == 0);
}
