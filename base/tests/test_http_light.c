/* What the light HTTP client does by itself, against servers made of a socket and a script: how answers are
 * framed, and uploads. What both clients promise is in test_http_client.c and test_http_tls.c. */
#include "http_fixture.h"

struct peer {
    int listener;
    uint16_t port;
    const char *answer; /* sent once `after` was read */
    const char *after;
    bool hangs_up; /* before it has read all */
    char *got;
    pthread_t thread;
};

static void *serve(void *arg)
{
    struct peer *p = arg;
    AUTO_BUF struct buf in = BUF_INIT;
    AUTO_CLOSE int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC);
    char piece[65536];
    ssize_t n;
    bool answered = false;
    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0) {
        buf_add(&in, piece, (size_t)n);
        if (answered || !strstr(in.data, p->after))
            continue;
        send(fd, p->answer, strlen(p->answer), MSG_NOSIGNAL);
        answered = true;
        if (p->hangs_up)
            break;
        shutdown(fd, SHUT_WR);
    }
    p->got = in.data ? xstrdup(in.data) : xstrdup("");
    return NULL;
}

static void peer_start(struct peer *p)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(p->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(p->listener, 10), 0);
    getsockname(p->listener, (struct sockaddr *)&address, &size);
    p->port = ntohs(address.sin_port);
    pthread_create(&p->thread, NULL, serve, p);
}

static void peer_end(struct peer *p)
{
    pthread_join(p->thread, NULL);
    close(p->listener);
    free(p->got);
}

/* The status, or minus one minus the kind of failure. */
static int ask(struct peer *p, struct http_call call, struct http_reply *reply)
{
    struct http_error error;
    AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u", p->port);
    struct http_client *client = http_client_new(&(struct http_client_config){.url = url});
    int rc = http_client_call(client, &call, reply, &error);
    http_client_free(client);
    return rc == 0 ? (int)reply->status : -1 - (int)error.kind;
}

#define PROTOCOL (-1 - (int)HTTP_PROTOCOL)
#define LOST (-1 - (int)HTTP_LOST)

Test(http_light, framing)
{
    static const struct {
        const char *answer, *body;
        int status;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n",
         "abcde", 200},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", NULL, PROTOCOL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n", NULL, PROTOCOL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", NULL, PROTOCOL},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", NULL, LOST},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc", NULL, PROTOCOL},
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\nContent-length:  2\r\n\r\nok", "ok", 201},
        {"HTTP/1.1 200 OK\r\n\r\nup to the end", "up to the end", 200},
        {"HTTP/1.0 404 No\r\nContent-Length: 2\r\n\r\nno", "no", 404},
        {"HTTP/1.1 204 Nothing\r\nContent-Length: 5\r\n\r\n", "", 204},
        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", NULL, PROTOCOL},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", NULL, PROTOCOL},
        {"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab", NULL, PROTOCOL},
        {"HTTP/2 200 OK\r\n\r\n", NULL, PROTOCOL},
        {"HTTP/1.1 200 OK\r\nX: ", NULL, LOST},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p = {.answer = cases[i].answer, .after = "\r\n\r\n"};
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        peer_start(&p);
        cr_expect_eq(ask(&p, (struct http_call){.path = "/"}, &reply), cases[i].status, "%zu", i);
        cr_expect(!cases[i].body || same_text(&reply.body, cases[i].body), "%zu", i);
        peer_end(&p);
    }
}

/* An upload of a stretch of the alphabet. */
struct letters {
    int64_t left;
};
static ssize_t pull(void *arg, char *to, size_t max)
{
    struct letters *l = arg;
    size_t n = l->left < (int64_t)max ? (size_t)l->left : max;
    for (size_t i = 0; i < n; i++)
        to[i] = (char)('a' + i % 26);
    l->left -= (int64_t)n;
    return (ssize_t)n;
}

Test(http_light, an_upload_in_chunks)
{
    struct peer p = {.answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", .after = "0\r\n\r\n"};
    struct letters letters = {5};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    peer_start(&p);
    /* Nobody says "continue": after a second the client goes on by itself. */
    cr_assert_eq(ask(&p,
                     (struct http_call){
                         .method = "PUT", .path = "/", .source = pull, .source_len = -1, .arg = &letters},
                     &reply),
                 200);
    pthread_join(p.thread, NULL);
    cr_expect_not_null(strstr(p.got, "Expect: 100-continue\r\n"));
    cr_expect_not_null(strstr(p.got, "\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"));
    close(p.listener);
    free(p.got);
}

Test(http_light, an_upload_that_is_refused_at_once)
{
    /* The refusal comes instead of "continue", and in the middle of the bytes, and before hanging up. */
    static const struct {
        const char *after;
        int64_t size;
        bool hangs_up;
    } cases[] = {{"\r\n\r\n", 50 << 20, false}, {"\r\n\r\nabc", 60000, false}, {"\r\n\r\n", 50 << 20, true}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct peer p = {.answer = "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
                         .after = cases[i].after,
                         .hangs_up = cases[i].hangs_up};
        struct letters letters = {cases[i].size};
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        peer_start(&p);
        cr_expect_eq(ask(&p,
                         (struct http_call){.method = "PUT",
                                            .path = "/",
                                            .source = pull,
                                            .source_len = cases[i].size,
                                            .arg = &letters},
                         &reply),
                     403, "%zu", i);
        cr_expect(same_text(&reply.body, "no"), "%zu", i);
        peer_end(&p);
    }
}

Test(http_light, an_upload_whose_source_gives_up)
{
    struct peer p = {.answer = "", .after = "never"};
    struct letters letters = {5};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    peer_start(&p);
    cr_expect_eq(ask(&p,
                     (struct http_call){
                         .method = "PUT", .path = "/", .source = pull, .source_len = 6, .arg = &letters},
                     &reply),
                 -1 - (int)HTTP_CALLBACK);
    peer_end(&p);
}
