/* The HTTP server: fast and late answers, bodies, limits, lost clients, stopping. */
#include "http_fixture.h"
#include <dirent.h>
#include <fcntl.h>

/* Shared between a test and its handler; one server a test. */
static struct {
    sem_t arrived, closed, ended, released;
    struct http_request *req;
    _Atomic int done_calls;
    _Atomic long taken;
    _Atomic bool ended_ok, blocked;
    bool word; /* that a stream begins with; used up by it */
    struct http_reader *reader;
    long wanted;
    char seen[512];
} t;

static void setup(void)
{
    sem_init(&t.arrived, 0, 0);
    sem_init(&t.closed, 0, 0);
    sem_init(&t.ended, 0, 0);
    sem_init(&t.released, 0, 0);
}

static const struct http_header text_plain[] = {{"Content-Type", "text/plain"}, {NULL, NULL}};

static void echo(struct http_request *req, char *data, size_t len, void *arg)
{
    (void)arg;
    t.done_calls++;
    http_answer(req, 200, text_plain, data, len, HTTP_COPY);
}

static void *answer_late(void *arg)
{
    http_answer(arg, 200, NULL, "late", 4, HTTP_STATIC);
    return NULL;
}

static void in_thread(void *(*run)(void *), void *arg)
{
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, run, arg), 0);
    pthread_detach(thread);
}

static void echo_late(struct http_request *req, char *data, size_t len, void *arg)
{
    (void)data, (void)len, (void)arg;
    in_thread(answer_late, req);
}

static void post_sem(void *arg)
{
    sem_post(arg);
}

struct production {
    long left;
    bool fails;
};
static ssize_t produce(void *arg, char *to, size_t max)
{
    struct production *p = arg;
    if (p->left == 0)
        return p->fails ? HTTP_PRODUCER_FAIL : HTTP_PRODUCER_END;
    size_t n = (long)max < p->left ? max : (size_t)p->left;
    memset(to, 'p', n);
    p->left -= (long)n;
    return (ssize_t)n;
}
static void produced(void *arg)
{
    free(arg);
    sem_post(&t.ended);
}
static const struct http_producer producer = {produce, produced};

/* Nothing, but for one word at the first time when `arg` is set. */
static ssize_t produce_nothing(void *arg, char *to, size_t max)
{
    bool *word = arg;
    if (word && *word && max >= 4) {
        *word = false;
        memcpy(to, "word", 4);
        return 4;
    }
    sem_post(&t.arrived);
    return 0;
}
static void produced_nothing(void *arg)
{
    (void)arg;
    sem_post(&t.ended);
}
static const struct http_producer silent = {produce_nothing, produced_nothing};

static size_t take(void *arg, const char *data, size_t len)
{
    (void)arg, (void)data;
    if (t.blocked) {
        sem_post(&t.arrived);
        return 0;
    }
    t.taken += (long)len;
    return len;
}
static void end(void *arg, bool ok)
{
    t.ended_ok = ok;
    if (ok)
        http_answer(arg, 200, NULL, "taken", 5, HTTP_STATIC);
    sem_post(&t.ended);
}
static const struct http_body_sink sink = {.take = take, .end = end};

static void *read_body(void *arg)
{
    char piece[3000];
    long total = 0;
    ssize_t n;
    while ((n = http_reader_read(t.reader, piece, sizeof(piece), 10000)) > 0)
        total += n;
    t.taken = total;
    t.ended_ok = n == 0;
    http_reader_close(t.reader);
    AUTO_FREE char *text = xasprintf("%ld", total);
    http_answer(arg, 200, NULL, text, strlen(text), HTTP_COPY);
    sem_post(&t.ended);
    return NULL;
}

/* Reads `t.wanted` bytes, all if -1. */
static void *read_answered(void *arg)
{
    static const struct http_header headers[] = {{"task-id", "1"}, {NULL, NULL}};
    struct http_reader *reader = http_reader_open_answered(arg, headers, 10000);
    char piece[3000];
    long total = 0;
    ssize_t n = 1;
    while (n > 0 && (t.wanted < 0 || total < t.wanted))
        if ((n = http_reader_read(reader, piece, sizeof(piece), 10000)) > 0)
            total += n;
    t.taken = total;
    t.ended_ok = n == 0;
    http_reader_close(reader);
    sem_post(&t.ended);
    return NULL;
}

static void *write_body(void *arg)
{
    struct http_writer *w = http_writer_open(arg, 200, text_plain, -1, 8192);
    char piece[5000];
    memset(piece, 'w', sizeof(piece));
    bool ok = true;
    for (int i = 0; i < 1000 && ok; i++)
        ok = http_writer_write(w, piece, sizeof(piece), 10000) == 0;
    http_writer_close(w, ok);
    t.ended_ok = ok;
    sem_post(&t.ended);
    return NULL;
}

static bool collect_query(void *arg, const char *name, const char *value)
{
    size_t len = strlen(arg);
    snprintf((char *)arg + len, 512 - len, "[%s=%s]", name, value);
    return true;
}

static void describe(struct http_request *req)
{
    t.seen[0] = '\0';
    http_request_each_query(req, collect_query, t.seen);
    const char *a = http_request_query(req, "a"), *cookie = http_request_cookie(req, "session_id");
    AUTO_FREE char *text = xasprintf(
        "%s %s a=%s %s cookie=%s host=%s peer=%s tls=%d name=%s", http_method_name(http_request_method(req)),
        http_request_path(req), a ? a : "-", t.seen, cookie ? cookie : "-", http_request_header(req, "HOST"),
        http_request_peer(req), http_request_is_tls(req),
        http_request_client_name(req) ? http_request_client_name(req) : "-");
    http_answer(req, 200, NULL, text, strlen(text), HTTP_COPY);
}

static void on_request(struct http_request *req, void *context)
{
    (void)context;
    const char *path = http_request_path(req);
    if (streq(path, "/hello"))
        http_answer(req, 200, text_plain, "hello", 5, HTTP_STATIC);
    else if (streq(path, "/alone"))
        http_answer(req, http_request_is_alone(req) ? 200 : 404, NULL, NULL, 0, HTTP_STATIC);
    else if (streq(path, "/echo"))
        http_read_body(req, 100000, echo, NULL);
    else if (streq(path, "/echo-late"))
        http_read_body(req, 100000, echo_late, NULL);
    else if (streq(path, "/late"))
        in_thread(answer_late, req);
    else if (streq(path, "/sleep")) {
        http_request_on_close(req, post_sem, &t.closed, NULL);
        t.req = req;
        sem_post(&t.arrived);
    } else if (streq(path, "/guarded")) {
        http_request_on_close(req, post_sem, &t.closed, post_sem);
        http_read_body(req, 100000, echo, NULL);
        sem_post(&t.arrived);
    } else if (streq(path, "/stream") || streq(path, "/stream-fail")) {
        struct production *p = xmalloc(sizeof(*p));
        *p = (struct production){3000000, streq(path, "/stream-fail")};
        http_answer_stream(req, 200, NULL, p->fails ? -1 : p->left, &producer, p);
    } else if (streq(path, "/silent") || streq(path, "/one-word")) {
        t.req = http_request_ref(req);
        t.word = streq(path, "/one-word");
        http_answer_stream(req, 200, NULL, -1, &silent, &t.word);
    } else if (streq(path, "/take")) {
        t.req = http_request_ref(req);
        http_stream_body(req, &sink, req);
    } else if (streq(path, "/read")) {
        t.reader = http_reader_open(req, 10000);
        in_thread(read_body, req);
    } else if (streq(path, "/answered")) {
        in_thread(read_answered, req);
    } else if (streq(path, "/write")) {
        in_thread(write_body, req);
    } else if (streq(path, "/forge")) {
        http_answer(req, 200,
                    (const struct http_header[]){
                        {"X-Good", "1"}, {"X-Bad", "1\r\nX-Forged: 1"}, {"X-Last", "1"}, {NULL, NULL}},
                    "x", 1, HTTP_STATIC);
    } else if (strncmp(path, "/describe", 9) == 0) {
        describe(req);
    } else {
        http_answer_error(req, 404, "no such path");
    }
}

static struct http_server *plain(void)
{
    setup();
    return start((struct http_server_config){.on_request = on_request, .threads = 2});
}

Test(http_server, plain_http_is_for_loopback_alone)
{
    static const char *const refused[] = {"0.0.0.0", "::", "192.0.2.1", "::ffff:127.0.0.1", "localhost", ""};
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct http_server *server;
        struct http_server_error error;
        struct http_server_config config = {.address = refused[i], .on_request = on_request};
        cr_assert_eq(http_server_start(&config, &server, &error), -1, "%s", refused[i]);
    }
    struct http_server *server =
        start((struct http_server_config){.address = "::1", .on_request = on_request});
    cr_assert_neq(http_server_port(server), 0);
    http_server_stop(server);
}

Test(http_server, nobody_gets_in_once_it_is_quiet)
{
    struct http_server *server = plain();
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(http_server_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    http_server_quiesce(server);
    http_server_quiesce(server);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_expect_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), -1);
    cr_expect_eq(errno, ECONNREFUSED);
    close(fd);
    http_server_stop(server);
}

Test(http_server, stopping_leaves_the_descriptor_that_took_the_listeners_number)
{
    struct http_server *server = plain();
    http_server_quiesce(server);
    enum { MANY = 64 };
    int taken[MANY];
    for (size_t i = 0; i < MANY; i++)
        cr_assert_geq(taken[i] = open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
    http_server_stop(server);
    for (size_t i = 0; i < MANY; i++)
        cr_assert_eq(close(taken[i]), 0, "descriptor %d was closed by the server", taken[i]);
}

/* The status line's length of an answer on a connection that stays open; 0: it was closed instead. */
static ssize_t ask(int fd)
{
    char answer[16];
    send(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, MSG_NOSIGNAL); /* may be closed already */
    struct pollfd p = {fd, POLLIN, 0};
    cr_assert_eq(poll(&p, 1, 20000), 1, "the server neither answers nor closes");
    ssize_t n = recv(fd, answer, sizeof(answer), 0);
    return n < 0 ? 0 : n;
}

Test(http_server, servers_share_a_budget_of_connections)
{
    struct http_budget budget = {.connections_max = 2};
    const struct http_server_config config = {.on_request = on_request, .threads = 1, .budget = &budget};
    setup();
    struct http_server *one = start(config), *two = start(config);
    int first = connect_raw(one);
    AUTO_CLOSE int second = connect_raw(two);
    cr_assert_gt(ask(first), 0);
    cr_assert_gt(ask(second), 0);
    AUTO_CLOSE int third = connect_raw(two);
    cr_assert_eq(ask(third), 0, "there is no third one, on either of them");
    cr_assert_gt(ask(second), 0);
    close(first);
    for (int64_t end = clock_mono_ms() + 20000;;) {
        AUTO_CLOSE int next = connect_raw(two);
        if (ask(next) > 0)
            break;
        cr_assert_lt(clock_mono_ms(), end, "a connection that ended does not count any more");
        usleep(10000);
    }
    http_server_stop(one);
    http_server_stop(two);
    cr_assert_eq(budget.connections, 0);
}

/* What the thread of this connection says. */
static bool is_alone(int fd)
{
    char answer[16] = "";
    send_text(fd, "GET /alone HTTP/1.1\r\nHost: x\r\n\r\n");
    struct pollfd p = {fd, POLLIN, 0};
    cr_assert_eq(poll(&p, 1, 20000), 1, "no answer");
    cr_assert_gt(recv(fd, answer, sizeof(answer) - 1, 0), 12);
    for (char rest[512]; recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0;)
        ;
    return strncmp(answer, "HTTP/1.1 200", 12) == 0;
}

Test(http_server, a_thread_with_one_connection_may_wait_if_there_is_another)
{
    setup();
    struct http_server *server = start((struct http_server_config){.on_request = on_request, .threads = 2}),
                       *single = start((struct http_server_config){.on_request = on_request, .threads = 1});
    int fds[6];
    size_t alone = 0;
    fds[0] = connect_raw(server);
    cr_expect(is_alone(fds[0]));
    cr_expect(is_alone(fds[0]), "it is still the only one");
    for (size_t i = 1; i < ARRAY_LEN(fds); i++) {
        fds[i] = connect_raw(server);
        is_alone(fds[i]); /* once it is answered, it is counted */
    }
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        alone += is_alone(fds[i]);
    cr_expect_leq(alone, 1, "six connections on two threads leave at most one alone: %zu", alone);
    AUTO_CLOSE int only = connect_raw(single);
    cr_expect_not(is_alone(only), "nobody else would take newcomers");
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
    http_server_stop(server);
    http_server_stop(single);
}

Test(http_server, a_taken_port_is_an_error)
{
    struct http_server *server = plain(), *second;
    struct http_server_error error;
    struct http_server_config config = {
        .address = "127.0.0.1", .port = http_server_port(server), .on_request = on_request};
    cr_assert_eq(http_server_start(&config, &second, &error), -1);
    cr_assert_not_null(strstr(error.text, "in use"), "%s", error.text);
    http_server_stop(server);
}

Test(http_server, answers_at_once_and_late)
{
    struct http_server *server = plain();
    struct http_client *client = plain_client(server);
    for (int i = 0; i < 100; i++) {
        AUTO_HTTP_REPLY struct http_reply fast = HTTP_REPLY_INIT;
        AUTO_HTTP_REPLY struct http_reply late = HTTP_REPLY_INIT;
        AUTO_HTTP_REPLY struct http_reply body = HTTP_REPLY_INIT;
        AUTO_HTTP_REPLY struct http_reply body_late = HTTP_REPLY_INIT;
        cr_assert_eq(call(client, (struct http_call){.path = "/hello"}, &fast), 200);
        cr_assert(same_text(&fast.body, "hello"));
        cr_assert_str_eq(fast.content_type, "text/plain");
        cr_assert_eq(call(client, (struct http_call){.path = "/late"}, &late), 200);
        cr_assert(same_text(&late.body, "late"));
        cr_assert_eq(call(client, (struct http_call){.path = "/echo", .body = "{}", .body_len = 2}, &body),
                     200);
        cr_assert(same_text(&body.body, "{}"));
        cr_assert_eq(
            call(client, (struct http_call){.path = "/echo-late", .body = "{}", .body_len = 2}, &body_late),
            200);
        cr_assert(same_text(&body_late.body, "late"));
    }
    http_client_free(client);
    http_server_stop(server);
}

Test(http_server, keeps_connections_alive)
{
    struct http_server *server = plain();
    AUTO_FREE char *all = converse(server, "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"
                                           "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
                                           "GET /late HTTP/1.1\r\nHost: x\r\n\r\n"
                                           "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    int answers = 0;
    for (const char *p = all; (p = strstr(p, "HTTP/1.1 200 OK")); p++)
        answers++;
    cr_assert_eq(answers, 4, "%s", all);
    cr_assert(strstr(all, "\r\n\r\nabc") && strstr(all, "\r\n\r\nlate"));
    http_server_stop(server);
}

Test(http_server, what_a_handler_learns)
{
    static const struct {
        const char *target, *says;
    } cases[] = {
        {"/describe?a=1&b=%20x+y&a=2&c&d=", "GET /describe a=1 [a=1][b= x y][a=2][c=][d=] cookie=tok host=h "
                                            "peer=127.0.0.1 tls=0 name=-"},
        {"/describe/%2e%2e/x%2Fy", "GET /describe/../x/y a=- "},
        {"/describe%00/x", "GET /describe%00/x "},
        {"/describe%zz%4", "GET /describe%zz%4 "},
        {"/describe?a=%00&b=%c3%a9", "a=%00 [a=%00][b=\xc3\xa9]"},
    };
    struct http_server *server = plain();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text = xasprintf("GET %s HTTP/1.1\r\nHost: h\r\nCookie: x=y; session_id=tok\r\n"
                                         "Connection: close\r\n\r\n",
                                         cases[i].target);
        AUTO_FREE char *all = converse(server, text);
        cr_assert_not_null(strstr(all, cases[i].says), "%s", all);
    }
    http_server_stop(server);
}

Test(http_server, cookies_in_every_form)
{
    static const struct {
        const char *header, *says;
    } cases[] = {
        {"session_id=a", "cookie=a "},
        {"x=y;session_id=a", "cookie=a "},
        {"x=y ; session_id=a ; z=", "cookie=a "},
        {"x=y&session_id=a&task_id=b", "cookie=a "},
        {"session_id=a; session_id=b", "cookie=a "},
        {"xsession_id=a; session_id", "cookie=- "},
        {"session_id=", "cookie= "},
        {"", "cookie=- "},
        {";;&& ;", "cookie=- "},
    };
    struct http_server *server = plain();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *text = xasprintf("GET /describe HTTP/1.1\r\nHost: h\r\nCookie: %s\r\n"
                                         "Connection: close\r\n\r\n",
                                         cases[i].header);
        AUTO_FREE char *all = converse(server, text);
        cr_expect_not_null(strstr(all, cases[i].says), "%s", all);
    }
    http_server_stop(server);
}

Test(http_server, heads_that_are_refused)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"BREW /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 501 "},
        {"CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 "},
        {"GET hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 "},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400 "},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 400 "},
        {"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 404 "},
        {"GET /hello HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "},
    };
    struct http_server *server = plain();
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *all = converse(server, cases[i].text);
        cr_assert(strstr(all, cases[i].says) != NULL || strstr(all, "HTTP/1.1 200") == all, "case %zu: %s", i,
                  all);
        cr_assert_not_null(strstr(all, cases[i].says + 8), "case %zu: %s", i, all);
    }
    /* A head larger than the connection's memory. */
    AUTO_FREE char *large = xcalloc(1, 40000);
    memset(large, 'x', 39999);
    AUTO_FREE char *text = xasprintf("GET /hello HTTP/1.1\r\nHost: x\r\nX-Large: %s\r\n\r\n", large);
    AUTO_CLOSE int fd = connect_raw(server);
    send(fd, text, strlen(text), MSG_NOSIGNAL);
    AUTO_FREE char *all = receive_all(fd);
    cr_assert(!strstr(all, " 200 "), "%s", all);
    http_server_stop(server);
}

Test(http_server, a_header_cannot_forge_another)
{
    struct http_server *server = plain();
    AUTO_FREE char *all = converse(server, "GET /forge HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    cr_assert(strstr(all, "X-Good: 1") && strstr(all, "X-Last: 1"), "%s", all);
    cr_assert_null(strstr(all, "Forged"), "%s", all);
    http_server_stop(server);
}

Test(http_server, bodies_up_to_the_cap_and_no_further)
{
    struct http_server *server = plain();
    struct http_client *client = plain_client(server);
    AUTO_FREE char *data = xmalloc(2000000);
    memset(data, 'b', 2000000);
    static const struct {
        size_t len;
        unsigned status;
    } cases[] = {{0, 200}, {1, 200}, {5000, 200}, {99999, 200}, {100000, 200}, {100001, 413}, {2000000, 413}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        unsigned status =
            call(client, (struct http_call){.path = "/echo", .body = data, .body_len = cases[i].len}, &reply);
        cr_assert_eq(status, cases[i].status, "%zu bytes: %u", cases[i].len, status);
        if (status == 200)
            cr_assert_eq(reply.body.len, cases[i].len);
    }
    cr_assert_eq(t.done_calls, 5);
    http_client_free(client);
    http_server_stop(server);
}

Test(http_server, a_declared_length_is_not_believed)
{
    struct http_server *server = plain();
    AUTO_FREE char *expecting = converse(server, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                                                 "Content-Length: 1000000000000\r\n\r\n");
    cr_assert(strncmp(expecting, "HTTP/1.1 413 ", 13) == 0, "%s", expecting);
    AUTO_FREE char *huge =
        converse(server, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\nabc");
    cr_assert(strncmp(huge, "HTTP/1.1 413 ", 13) == 0, "%s", huge);
    cr_assert_eq(t.done_calls, 0);
    http_server_stop(server);
}

static ssize_t pull(void *arg, char *to, size_t max)
{
    long *left = arg;
    size_t n = (long)max < *left ? max : (size_t)*left;
    memset(to, 'u', n);
    *left -= (long)n;
    return (ssize_t)n;
}

Test(http_server, chunked_bodies)
{
    struct http_server *server = plain();
    struct http_client *client = plain_client(server);
    static const long sizes[] = {0, 1, 100000, 100001, 500000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        long left = sizes[i];
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        unsigned status =
            call(client, (struct http_call){.path = "/echo", .source = pull, .source_len = -1, .arg = &left},
                 &reply);
        cr_assert_eq(status, sizes[i] <= 100000 ? 200 : 413);
        if (status == 200)
            cr_assert_eq((long)reply.body.len, sizes[i]);
    }
    http_client_free(client);
    http_server_stop(server);
}

Test(http_server, an_answer_before_the_body)
{
    struct http_server *server = plain();
    struct http_client *client = plain_client(server);
    for (int i = 0; i < 3; i++) {
        long left = 3000000;
        AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
        cr_assert_eq(
            call(client,
                 (struct http_call){
                     .path = "/nothing", .method = "PUT", .source = pull, .source_len = left, .arg = &left},
                 &reply),
            404);
    }
    http_client_free(client);
    http_server_stop(server);
}

static struct {
    struct http_client *client;
    unsigned status;
    long left;
} upload;

static void *upload_main(void *arg)
{
    struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    struct http_call c = {
        .path = arg, .method = "PUT", .source = pull, .source_len = upload.left, .arg = &upload.left};
    upload.status = http_client_call(upload.client, &c, &reply, &error) == 0 ? reply.status : 0;
    http_reply_done(&reply);
    return NULL;
}

Test(http_server, a_sink_that_is_full_stops_the_client)
{
    struct http_server *server = plain();
    upload.client = plain_client(server);
    upload.left = 50000000;
    t.blocked = true;
    pthread_t thread;
    static char path[] = "/take";
    pthread_create(&thread, NULL, upload_main, path);
    wait_for(&t.arrived);
    /* Asleep, with the sockets' buffers full at most. A wake-up with nothing changed is harmless. */
    http_body_wake(t.req);
    wait_for(&t.arrived);
    cr_assert_eq(t.taken, 0);
    t.blocked = false;
    http_body_wake(t.req);
    wait_for(&t.ended);
    pthread_join(thread, NULL);
    cr_assert(t.ended_ok && t.taken == 50000000 && upload.status == 200);
    http_request_unref(t.req);
    http_client_free(upload.client);
    http_server_stop(server);
}

Test(http_server, a_worker_reads_a_body_and_writes_one)
{
    struct http_server *server = plain();
    upload.client = plain_client(server);
    upload.left = 20000000;
    static char path[] = "/read";
    upload_main(path);
    cr_assert_eq(upload.status, 200);
    wait_for(&t.ended);
    cr_assert(t.ended_ok && t.taken == 20000000);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    cr_assert_eq(call(upload.client, (struct http_call){.path = "/write"}, &reply), 200);
    cr_assert_eq(reply.body.len, 5000000);
    wait_for(&t.ended);
    cr_assert(t.ended_ok);
    http_client_free(upload.client);
    http_server_stop(server);
}

/* Reads until the head of an answer is whole, or the connection's end. */
static char *receive_head(int fd)
{
    struct buf got = BUF_INIT;
    char piece[1000];
    ssize_t n;
    while (!(got.len && strstr(got.data, "\r\n\r\n")) && (n = recv(fd, piece, sizeof(piece), 0)) > 0)
        buf_add(&got, piece, (size_t)n);
    return buf_take(&got);
}

static const char early_head[] = "HTTP/1.1 200 OK\r\nConnection: close\r\ntask-id: 1\r\n\r\n";

Test(http_server, an_answer_that_comes_before_the_body)
{
    struct http_server *server = plain();
    char piece[100];
    t.wanted = -1;
    int fd = connect_raw(server);
    send_text(fd, "PUT /answered HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\n");
    AUTO_FREE char *head = receive_head(fd);
    cr_assert_str_eq(head, early_head);
    send_text(fd, "the body");
    cr_assert_eq(recv(fd, piece, sizeof(piece), 0), 0);
    wait_for(&t.ended);
    cr_assert(t.ended_ok && t.taken == 8);
    close(fd);

    /* Without a body, with one that comes along, and one that is longer than what anybody wants. */
    static const struct {
        const char *text;
        long wanted, taken;
    } cases[] = {
        {"PUT /answered HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", -1, 0},
        {"PUT /answered HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody", -1, 4},
        {"PUT /answered HTTP/1.0\r\nContent-Length: 1125899906842624\r\n\r\nbody", 4, 4},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        t.wanted = cases[i].wanted;
        AUTO_FREE char *all = converse(server, cases[i].text);
        cr_assert_str_eq(all, early_head);
        wait_for(&t.ended);
        cr_assert_eq(t.taken, cases[i].taken);
    }
    http_server_stop(server);
}

Test(http_server, an_early_answer_comes_after_100_continue)
{
    struct http_server *server = plain();
    t.wanted = -1;
    int fd = connect_raw(server);
    send_text(fd, "PUT /answered HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    AUTO_FREE char *first = receive_head(fd);
    cr_assert_str_eq(first, "HTTP/1.1 100 Continue\r\n\r\n");
    send_text(fd, "body");
    AUTO_FREE char *second = receive_head(fd);
    cr_assert_str_eq(second, early_head);
    wait_for(&t.ended);
    cr_assert_eq(t.taken, 4);
    close(fd);
    http_server_stop(server);
}

Test(http_server, a_client_that_goes_away_after_an_early_answer)
{
    struct http_server *server = plain();
    t.wanted = -1;
    int fd = connect_raw(server);
    send_text(fd, "PUT /answered HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    AUTO_FREE char *head = receive_head(fd);
    cr_assert_not_null(strstr(head, " 200 "), "%s", head);
    send_text(fd, "part");
    close(fd);
    wait_for(&t.ended);
    cr_assert(!t.ended_ok && t.taken == 4);
    http_server_stop(server);
}

Test(http_server, a_stop_ends_an_early_answer)
{
    struct http_server *server = plain();
    t.wanted = -1;
    int fd = connect_raw(server);
    send_text(fd, "PUT /answered HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    AUTO_FREE char *head = receive_head(fd);
    cr_assert_not_null(strstr(head, " 200 "), "%s", head);
    http_server_stop(server);
    wait_for(&t.ended);
    cr_assert(!t.ended_ok);
    close(fd);
}

Test(http_server, a_lost_uploader_is_told_to_the_reader)
{
    struct http_server *server = plain();
    int fd = connect_raw(server);
    send_text(fd, "PUT /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\npart");
    close(fd);
    wait_for(&t.ended);
    cr_assert(!t.ended_ok && t.taken == 4);
    http_server_stop(server);
}

Test(http_server, a_lost_downloader_is_told_to_the_writer)
{
    struct http_server *server = plain();
    int fd = connect_raw(server);
    int small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    send_text(fd, "GET /write HTTP/1.1\r\nHost: x\r\n\r\n");
    char piece[100];
    cr_assert_gt(recv(fd, piece, sizeof(piece), 0), 0);
    close(fd);
    wait_for(&t.ended);
    cr_assert(!t.ended_ok);
    http_server_stop(server);
}

Test(http_server, produced_bodies_and_their_failure)
{
    struct http_server *server = plain();
    struct http_client *client = plain_client(server);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    cr_assert_eq(call(client, (struct http_call){.path = "/stream"}, &reply), 200);
    cr_assert_eq(reply.body.len, 3000000);
    wait_for(&t.ended);
    struct http_error error;
    AUTO_HTTP_REPLY struct http_reply cut = HTTP_REPLY_INIT;
    cr_assert_eq(http_client_call(client, &(struct http_call){.path = "/stream-fail"}, &cut, &error), -1,
                 "a cut answer looks whole");
    cr_assert_eq(error.kind, HTTP_LOST, "%s", error.text);
    wait_for(&t.ended);
    http_client_free(client);
    http_server_stop(server);
}

Test(http_server, a_client_that_goes_away_while_we_think)
{
    struct http_server *server = plain();
    int fd = connect_raw(server);
    send_text(fd, "GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(&t.arrived);
    close(fd);
    wait_for(&t.closed);
    http_answer(t.req, 200, NULL, xstrdup("too late"), 8, HTTP_FREE);
    http_server_stop(server);
}

/* Whoever owes the answer may read the request until it is given, whatever became of the client. */
static void *read_request(void *arg)
{
    struct http_request *req = arg;
    const char *a = http_request_query(req, "a");
    wait_for(&t.released); /* the client is gone by now */
    cr_assert_str_eq(a, "1");
    cr_assert_str_eq(http_request_query(req, "b"), "two");
    cr_assert_str_eq(http_request_header(req, "host"), "h");
    cr_assert_str_eq(http_request_cookie(req, "session_id"), "tok");
    cr_assert_str_eq(http_request_peer(req), "127.0.0.1");
    cr_assert(strncmp(http_request_path(req), "/linger", 7) == 0);
    t.seen[0] = '\0';
    http_request_each_query(req, collect_query, t.seen);
    cr_assert_str_eq(t.seen, "[a=1][b=two]");
    http_answer(req, 200, NULL, xstrdup("x"), 1, HTTP_FREE);
    sem_post(&t.ended);
    return NULL;
}
static void linger_end(void *arg, bool ok)
{
    (void)arg;
    cr_assert(!ok);
    sem_post(&t.closed);
}
static const struct http_body_sink linger_sink = {.take = take, .end = linger_end};
static void linger(struct http_request *req, void *context)
{
    (void)context;
    if (streq(http_request_path(req), "/linger-body"))
        http_stream_body(req, &linger_sink, NULL);
    else
        http_request_on_close(req, post_sem, &t.closed, NULL);
    in_thread(read_request, req);
    sem_post(&t.arrived);
}
#define LINGER_HEAD "?a=1&b=two HTTP/1.1\r\nHost: h\r\nCookie: session_id=tok\r\n"
Test(http_server, a_request_stays_readable_when_its_client_is_gone)
{
    static const char *const requests[] = {
        "GET /linger" LINGER_HEAD "\r\n",
        "PUT /linger-body" LINGER_HEAD "Content-Length: 100\r\n\r\npart",
        "PUT /linger" LINGER_HEAD "Content-Length: 100\r\n\r\npart",
    };
    setup();
    struct http_server *server = start((struct http_server_config){.on_request = linger, .threads = 1});
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        int fd = connect_raw(server);
        send_text(fd, requests[i]);
        wait_for(&t.arrived);
        close(fd);
        wait_for(&t.closed);
        /* Other requests come and go on this thread meanwhile. */
        AUTO_FREE char *other = converse(server, "BREW / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        cr_assert_not_null(strstr(other, " 501 "));
        sem_post(&t.released);
        wait_for(&t.ended);
    }
    http_server_stop(server);
}

Test(http_server, a_client_that_goes_away_in_its_body)
{
    struct http_server *server = plain();
    sem_t *closed = &t.closed;
    int fd = connect_raw(server);
    send_text(fd, "POST /guarded HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\npart");
    wait_for(&t.arrived);
    close(fd);
    wait_for(closed); /* closed */
    wait_for(closed); /* released */
    cr_assert_eq(t.done_calls, 0);
    http_server_stop(server);
}

static int descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        count++;
    closedir(dir);
    return count;
}

/* Before it got anything, and after: its connection goes at once. */
Test(http_server, a_subscriber_that_goes_away)
{
    static const char *const paths[] = {"/silent", "/one-word"};
    struct http_server *server = plain();
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        int before = descriptors(), fd = connect_raw(server);
        AUTO_FREE char *head = xasprintf("GET %s HTTP/1.1\r\nHost: x\r\n\r\n", paths[i]);
        send_text(fd, head);
        wait_for(&t.arrived);
        http_producer_wake(t.req);
        wait_for(&t.arrived);
        close(fd);
        wait_for(&t.ended);
        http_producer_wake(t.req);
        http_request_unref(t.req);
        for (int64_t end = clock_mono_ms() + 20000; descriptors() > before && clock_mono_ms() < end;)
            usleep(10000);
        cr_expect(descriptors() <= before, "%s", paths[i]);
    }
    http_server_stop(server);
}

Test(http_server, stop_answers_sleepers_and_cuts_streams)
{
    struct http_server *server = plain();
    AUTO_CLOSE int sleeper = connect_raw(server);
    AUTO_CLOSE int subscriber = connect_raw(server);
    AUTO_CLOSE int idle = connect_raw(server);
    (void)idle; /* nothing is asked on it */
    send_text(sleeper, "GET /sleep HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(&t.arrived);
    struct http_request *asleep = t.req;
    send_text(subscriber, "GET /silent HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(&t.arrived);
    http_server_stop(server);
    AUTO_FREE char *answer = receive_all(sleeper);
    cr_assert(strncmp(answer, "HTTP/1.1 503 ", 13) == 0, "%s", answer);
    AUTO_FREE char *cut = receive_all(subscriber);
    cr_assert_null(strstr(cut, "\r\n0\r\n"), "the cut stream looks complete");
    /* Whoever still owes the answer gives it to nobody; a waker wakes nobody. */
    http_answer(asleep, 200, NULL, "x", 1, HTTP_COPY);
    http_producer_wake(t.req);
    http_request_unref(t.req);
}

Test(http_server, slow_heads_and_idle_connections_are_closed)
{
    setup();
    struct http_server *server =
        start((struct http_server_config){.on_request = on_request, .threads = 1, .idle_timeout_s = 1});
    AUTO_CLOSE int slow = connect_raw(server);
    int64_t begun = clock_mono_ms();
    /* A byte now and then keeps libmicrohttpd's own clock from running out. */
    for (;;) {
        if (send(slow, "X", 1, MSG_NOSIGNAL) < 0)
            break;
        struct pollfd p = {slow, POLLIN, 0};
        if (poll(&p, 1, 100) > 0)
            break;
        cr_assert_lt(clock_mono_ms() - begun, 8000, "a slow head holds its connection");
    }
    AUTO_CLOSE int idle = connect_raw(server), half = connect_raw(server), used = connect_raw(server);
    send_text(half, "GET / HTTP/1.1\r\nHost:");
    send_text(used, "GET /echo HTTP/1.1\r\nHost: x\r\n\r\n");
    AUTO_FREE char *late = receive_all(idle), *late_too = receive_all(half), *answers = receive_all(used);
    cr_assert_eq(strncmp(late, "HTTP/1.1 408 ", 13), 0, "%s", late);
    cr_assert_eq(strncmp(late_too, "HTTP/1.1 408 ", 13), 0, "%s", late_too);
    /* One that was served is merely idle. */
    cr_assert_null(strstr(answers, "408"), "%s", answers);
    http_server_stop(server);
}

Test(http_server, a_body_that_never_comes_is_answered)
{
    setup();
    struct http_server *server =
        start((struct http_server_config){.on_request = on_request, .threads = 1, .body_timeout_s = 1});
    AUTO_CLOSE int slow = connect_raw(server);
    send_text(slow, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nX");
    AUTO_FREE char *late = receive_all(slow);
    cr_assert_eq(strncmp(late, "HTTP/1.1 408 ", 13), 0, "%s", late);
    cr_assert_eq(t.done_calls, 0);
    http_server_stop(server);
}

/* Whoever comes too many is told, what is small is served, and all of it can be used again. */
Test(http_server, unfinished_bodies_share_a_bounded_memory)
{
    enum { CLIENTS = 20, PART = 60000 };
    setup();
    struct http_server *server = start(
        (struct http_server_config){.on_request = on_request, .threads = 2, .bodies_bytes_max = 200000});
    AUTO_FREE char *part = xmalloc(PART + 1);
    memset(part, 'x', PART);
    part[PART] = '\0';
    for (int round = 0; round < 3; round++) {
        int fds[CLIENTS], refused = 0;
        for (int i = 0; i < CLIENTS; i++) {
            fds[i] = connect_raw(server);
            send_text(fds[i],
                      "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 60001\r\n\r\n");
            send_text(fds[i], part);
        }
        AUTO_FREE char *small = converse(server, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                                 "Content-Length: 5\r\n\r\nsmall");
        cr_expect_not_null(strstr(small, "small"), "%s", small);
        for (int i = 0; i < CLIENTS; i++) {
            send_text(fds[i], "y");
            AUTO_FREE char *all = receive_all(fds[i]);
            close(fds[i]);
            refused += strncmp(all, "HTTP/1.1 503 ", 13) == 0;
            cr_expect(strncmp(all, "HTTP/1.1 503 ", 13) == 0 || strncmp(all, "HTTP/1.1 200 ", 13) == 0,
                      "%.40s", all);
        }
        cr_expect_gt(refused, 0);
        cr_expect_lt(refused, CLIENTS, "round %d", round);
    }
    http_server_stop(server);
}

Test(http_server, a_body_that_drips_is_closed)
{
    setup();
    struct http_server *server =
        start((struct http_server_config){.on_request = on_request, .threads = 1, .body_timeout_s = 1});
    AUTO_CLOSE int slow = connect_raw(server);
    send_text(slow, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
    int64_t begun = clock_mono_ms();
    for (;;) {
        if (send(slow, "X", 1, MSG_NOSIGNAL) < 0)
            break;
        struct pollfd p = {slow, POLLIN, 0};
        if (poll(&p, 1, 100) > 0)
            break;
        cr_assert_lt(clock_mono_ms() - begun, 8000, "a slow body holds its connection");
    }
    cr_assert_eq(t.done_calls, 0);
    http_server_stop(server);
}

#define LARGE (64 << 20)

static void answer_large(struct http_request *req, void *context)
{
    http_answer_release(req, 200, NULL, context, LARGE, post_sem, &t.released);
}

/* One that takes a byte now and then is cut off, and what it was to have is freed. Another one, slow too but
 * not beyond measure, goes on. */
Test(http_server, a_reader_that_takes_next_to_nothing_is_cut_off)
{
    setup();
    AUTO_FREE char *large = xcalloc(1, LARGE), *piece = xmalloc(16384);
    struct http_server *server = start((struct http_server_config){
        .on_request = answer_large, .context = large, .threads = 2, .reader_timeout_s = 2});
    AUTO_CLOSE int dripping = connect_raw(server), slow = connect_raw(server);
    send_text(dripping, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    send_text(slow, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    int64_t begun = clock_mono_ms(), before = begun, longest = 0;
    bool goes_on = true;
    while (sem_trywait(&t.released) < 0) {
        struct timespec step = {.tv_nsec = 50 * 1000 * 1000};
        nanosleep(&step, NULL);
        recv(dripping, piece, 1, MSG_DONTWAIT);
        goes_on = goes_on && recv(slow, piece, 16384, MSG_DONTWAIT) != 0;
        int64_t now = clock_mono_ms();
        longest = now - before > longest ? now - before : longest;
        before = now;
        cr_assert_lt(now - begun, 60000, "a reader that takes next to nothing holds its answer");
    }
    cr_expect(longest > 1000 || (goes_on && recv(slow, piece, 16384, 0) > 0));
    close(TAKE_FD(slow));
    wait_for(&t.released);
    http_server_stop(server);
}

Test(http_server, a_sleeper_outlives_the_idle_timeout)
{
    setup();
    struct http_server *server =
        start((struct http_server_config){.on_request = on_request, .threads = 1, .idle_timeout_s = 1});
    AUTO_CLOSE int fd = connect_raw(server);
    send_text(fd, "GET /sleep HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    wait_for(&t.arrived);
    struct pollfd p = {fd, POLLIN, 0};
    cr_assert_eq(poll(&p, 1, 2500), 0, "the connection was closed under a waiting request");
    http_answer(t.req, 200, NULL, "patience", 8, HTTP_STATIC);
    AUTO_FREE char *all = receive_all(fd);
    cr_assert_not_null(strstr(all, "patience"), "%s", all);
    http_server_stop(server);
}

/* Answers and disconnects race: whichever wins, nothing breaks (the sanitizers watch). */
static void *answer_quickly(void *arg)
{
    http_answer(arg, 200, NULL, "x", 1, HTTP_COPY);
    return NULL;
}
static void racing(struct http_request *req, void *context)
{
    (void)context;
    http_request_on_close(req, post_sem, &t.closed, NULL);
    in_thread(answer_quickly, req);
}
Test(http_server, answers_race_with_disconnects)
{
    setup();
    struct http_server *server = start((struct http_server_config){.on_request = racing, .threads = 2});
    for (int i = 0; i < 300; i++) {
        int fd = connect_raw(server);
        send_text(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        if (i % 3 == 0) {
            struct pollfd p = {fd, POLLIN, 0};
            cr_assert_eq(poll(&p, 1, 10000), 1);
        }
        close(fd);
    }
    http_server_stop(server);
}
