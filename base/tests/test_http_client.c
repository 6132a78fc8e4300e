/* The HTTP client against servers that misbehave in a known way (a socket and a script) and against ours. */
#include "http_fixture.h"

/* A server made of one listening socket; for each connection it reads a head, sends `answer` and closes. */
struct script {
    int listener;
    uint16_t port;
    const char *const *answers; /* one a connection, ended by NULL; "" closes at once */
    pthread_t thread;
    _Atomic int requests;
};

static void *script_main(void *arg)
{
    struct script *s = arg;
    for (const char *const *answer = s->answers; *answer; answer++) {
        AUTO_CLOSE int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        /* "|" parts the answers to several requests on one connection. */
        for (const char *p = *answer;; p += *p == '|') {
            char head[4096];
            size_t len = 0;
            ssize_t n;
            while ((n = recv(fd, head + len, sizeof(head) - 1 - len, 0)) > 0) {
                len += (size_t)n;
                head[len] = '\0';
                if (strstr(head, "\r\n\r\n"))
                    break;
            }
            if (n <= 0)
                break;
            s->requests++;
            size_t run = strcspn(p, "|");
            send(fd, p, run, MSG_NOSIGNAL);
            p += run;
            if (!*p)
                break;
        }
    }
    return NULL;
}

static struct script *script_start(const char *const *answers)
{
    struct script *s = xcalloc(1, sizeof(*s));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(s->listener, (struct sockaddr *)&address, size), 0);
    cr_assert_eq(listen(s->listener, 10), 0);
    getsockname(s->listener, (struct sockaddr *)&address, &size);
    s->port = ntohs(address.sin_port);
    s->answers = answers;
    pthread_create(&s->thread, NULL, script_main, s);
    return s;
}
#define SCRIPT(...) script_start((const char *const[]){__VA_ARGS__, NULL})

static void script_end(struct script *s)
{
    shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    close(s->listener);
    free(s);
}

static struct http_client *client_of(const struct script *s)
{
    AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u", s->port);
    return http_client_new(&(struct http_client_config){.url = url});
}

static enum http_failure failure(struct http_client *client, struct http_call c)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    cr_assert_eq(http_client_call(client, &c, &reply, &error), -1, "answered with %u", reply.status);
    return error.kind;
}

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"

Test(http_client, nobody_listens)
{
    struct script *s = SCRIPT("");
    struct http_client *client = client_of(s);
    script_end(s);
    cr_assert_eq(failure(client, (struct http_call){.path = "/"}), HTTP_CANNOT_CONNECT);
    http_client_free(client);
    client = http_client_new(&(struct http_client_config){.url = "http://no-such-name.invalid"});
    cr_assert_eq(failure(client, (struct http_call){.path = "/"}), HTTP_CANNOT_CONNECT);
    http_client_free(client);
    client = http_client_new(&(struct http_client_config){.url = "file:///etc"});
    cr_assert_eq(failure(client, (struct http_call){.path = "/passwd"}), HTTP_PROTOCOL);
    http_client_free(client);
}

Test(http_client, a_server_that_closes_without_an_answer)
{
    struct script *s = SCRIPT("", "", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "garbage\r\n\r\n");
    struct http_client *client = client_of(s);
    cr_assert_eq(failure(client, (struct http_call){.path = "/"}), HTTP_LOST);
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .body = "x", .body_len = 1}), HTTP_LOST);
    cr_assert_eq(failure(client, (struct http_call){.path = "/"}), HTTP_LOST);
    enum http_failure kind = failure(client, (struct http_call){.path = "/"});
    cr_assert(kind == HTTP_PROTOCOL || kind == HTTP_LOST);
    http_client_free(client);
    script_end(s);
}

Test(http_client, a_call_with_an_effect_is_not_sent_twice)
{
    /* The kept connection is closed as the second request arrives. */
    struct script *s = SCRIPT(OK_HEAD "ok|", OK_HEAD "ok");
    struct http_client *client = client_of(s);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    cr_assert_eq(call(client, (struct http_call){.path = "/", .body = "1", .body_len = 1}, &reply), 200);
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .body = "2", .body_len = 1}), HTTP_LOST);
    cr_assert_eq(s->requests, 2);
    http_client_free(client);
    script_end(s);
}

Test(http_client, a_call_without_effect_is_repeated_on_a_new_connection)
{
    struct script *s = SCRIPT(OK_HEAD "ok|", OK_HEAD "ok");
    struct http_client *client = client_of(s);
    AUTO_HTTP_REPLY struct http_reply first = HTTP_REPLY_INIT;
    AUTO_HTTP_REPLY struct http_reply second = HTTP_REPLY_INIT;
    cr_assert_eq(call(client, (struct http_call){.path = "/"}, &first), 200);
    cr_assert_eq(call(client, (struct http_call){.path = "/"}, &second), 200);
    cr_assert_eq(s->requests, 3);
    http_client_free(client);
    script_end(s);
}

Test(http_client, connections_are_reused)
{
    struct script *s = SCRIPT(OK_HEAD "ok|" OK_HEAD "ok|" OK_HEAD "ok");
    struct http_client *client = client_of(s);
    for (int i = 0; i < 3; i++) {
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        cr_assert_eq(call(client, (struct http_call){.path = "/"}, &reply), 200);
        cr_assert(same_text(&reply.body, "ok"));
    }
    http_client_free(client);
    script_end(s);
}

Test(http_client, deadlines)
{
    /* An answer that never comes: the script waits for a second head. */
    struct script *s = SCRIPT("|x");
    struct http_client *client = client_of(s);
    int64_t begun = clock_mono_ms();
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .timeout_ms = 200}), HTTP_TIMED_OUT);
    cr_assert_lt(clock_mono_ms() - begun, 5000);
    http_client_free(client);
    script_end(s);
}

static void *cancel_when_asked(void *arg)
{
    struct script *s = ((void **)arg)[0];
    while (s->requests == 0)
        usleep(10000);
    *(_Atomic bool *)((void **)arg)[1] = true;
    return NULL;
}

Test(http_client, cancellation)
{
    struct script *s = SCRIPT("|x");
    struct http_client *client = client_of(s);
    _Atomic bool cancel = false;
    void *arg[] = {s, &cancel};
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_when_asked, arg);
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .cancel = &cancel}), HTTP_CANCELLED);
    pthread_join(thread, NULL);
    http_client_free(client);
    script_end(s);
}

Test(http_client, answers_are_capped)
{
    struct script *s = SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n0123456789", OK_HEAD "ok");
    struct http_client *client = client_of(s);
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .body_max = 5}), HTTP_TOO_LARGE);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    cr_assert_eq(call(client, (struct http_call){.path = "/", .body_max = 2}, &reply), 200);
    http_client_free(client);
    script_end(s);
}

static int count_bytes(void *arg, const char *data, size_t len)
{
    (void)data;
    *(size_t *)arg += len;
    return 0;
}
static int refuse_bytes(void *arg, const char *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return -1;
}

Test(http_client, sinks_get_good_answers_and_no_errors)
{
    struct script *s = SCRIPT(OK_HEAD "ok", "HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nbad", OK_HEAD "ok",
                              "HTTP/1.1 302 X\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n");
    struct http_client *client = client_of(s);
    size_t total = 0;
    struct http_call c = {.path = "/", .sink = count_bytes, .arg = &total};
    AUTO_HTTP_REPLY struct http_reply good = HTTP_REPLY_INIT;
    AUTO_HTTP_REPLY struct http_reply bad = HTTP_REPLY_INIT;
    AUTO_HTTP_REPLY struct http_reply moved = HTTP_REPLY_INIT;
    cr_assert(call(client, c, &good) == 200 && total == 2 && good.body.len == 0);
    cr_assert(call(client, c, &bad) == 500 && total == 2 && same_text(&bad.body, "bad"));
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .sink = refuse_bytes}), HTTP_CALLBACK);
    cr_assert_eq(call(client, (struct http_call){.path = "/"}, &moved), 302);
    cr_assert_str_eq(moved.location, "http://elsewhere/");
    http_client_free(client);
    script_end(s);
}

static int note_head(void *arg, const struct http_reply *reply)
{
    struct buf *seen = arg;
    buf_printf(seen, "%u %s %s;", reply->status, reply->etag ? reply->etag : "-",
               reply->content_range ? reply->content_range : "-");
    return reply->status == 206 ? 0 : -1;
}
static int note_bytes(void *arg, const char *data, size_t len)
{
    buf_add(arg, data, len);
    return 0;
}

Test(http_client, the_head_is_seen_before_the_bytes)
{
    struct script *s =
        SCRIPT("HTTP/1.1 206 X\r\nETag: \"a\"\r\ncontent-range: bytes 5-6/7\r\nContent-Length: 2\r\n\r\nok",
               "HTTP/1.1 416 X\r\nContent-Range: bytes */7\r\nContent-Length: 3\r\n\r\nbad", OK_HEAD "ok");
    struct http_client *client = client_of(s);
    AUTO_BUF struct buf seen = BUF_INIT;
    struct http_call c = {.path = "/", .head = note_head, .sink = note_bytes, .arg = &seen};
    AUTO_HTTP_REPLY struct http_reply part = HTTP_REPLY_INIT;
    AUTO_HTTP_REPLY struct http_reply none = HTTP_REPLY_INIT;
    cr_assert_eq(call(client, c, &part), 206);
    cr_assert(same_text(&seen, "206 \"a\" bytes 5-6/7;ok"), "%.*s", (int)seen.len, seen.data);
    cr_assert_eq(call(client, c, &none), 416);
    cr_assert_str_eq(none.content_range, "bytes */7");
    cr_assert_eq(failure(client, c), HTTP_CALLBACK);
    cr_assert(same_text(&seen, "206 \"a\" bytes 5-6/7;ok200 - -;"));
    http_client_free(client);
    script_end(s);
}

Test(http_client, nothing_smuggles_a_line)
{
    struct http_client *client = http_client_new(&(struct http_client_config){.url = "http://127.0.0.1:1"});
    static const struct http_header value[] = {{"X", "a\r\nY: b"}, {NULL, NULL}};
    static const struct http_header name[] = {{"X\n", "a"}, {NULL, NULL}};
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .headers = value}), HTTP_PROTOCOL);
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .headers = name}), HTTP_PROTOCOL);
    cr_assert_eq(failure(client, (struct http_call){.path = "/\r\nX: y"}), HTTP_PROTOCOL);
    cr_assert_eq(failure(client, (struct http_call){.path = "/a b"}), HTTP_PROTOCOL);
    cr_assert_eq(failure(client, (struct http_call){.path = "@evil/"}), HTTP_PROTOCOL);
    cr_assert_eq(failure(client, (struct http_call){.path = "/", .method = "GET\r\nX: y"}), HTTP_PROTOCOL);
    http_client_free(client);
}

Test(http_client, escaping)
{
    AUTO_BUF struct buf b = BUF_INIT;
    http_escape(&b, "OpaqueRef:a b&c=d/\xc3\xa9~-._%");
    cr_assert_str_eq(b.data, "OpaqueRef%3Aa%20b%26c%3Dd%2F%C3%A9~-._%25");
}

static void echo_done(struct http_request *req, char *data, size_t len, void *arg)
{
    (void)arg;
    http_answer(req, 200, NULL, data, len, HTTP_COPY);
}
static void echo(struct http_request *req, void *context)
{
    (void)context;
    http_read_body(req, 1000, echo_done, NULL);
}

struct caller {
    struct http_client *client;
    int number;
};
static void *call_often(void *arg)
{
    struct caller *c = arg;
    for (int i = 0; i < 200; i++) {
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        AUTO_FREE char *body = xasprintf("{\"n\":%d}", c->number * 1000 + i);
        cr_assert_eq(
            call(c->client, (struct http_call){.path = "/", .body = body, .body_len = strlen(body)}, &reply),
            200);
        cr_assert(same_text(&reply.body, body));
    }
    return NULL;
}

Test(http_client, many_threads_share_one_client)
{
    struct http_server *server = start((struct http_server_config){.on_request = echo, .threads = 2});
    struct http_client *client = plain_client(server);
    struct caller callers[6];
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        callers[i] = (struct caller){client, i};
        pthread_create(&threads[i], NULL, call_often, &callers[i]);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    http_client_free(client);
    http_server_stop(server);
}
