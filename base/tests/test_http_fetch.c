/* Downloads with a guard, from our own server. */
#include "http_fixture.h"
#include <base/http_fetch.h>

#define LARGE ((size_t)3 << 20)

static char large[LARGE];
static uint16_t port;
static struct http_request *held[2]; /* without an answer so far */
static size_t held_count;

static void lead(struct http_request *req, const char *to)
{
    const struct http_header headers[] = {{"Location", to}, {NULL, NULL}};
    http_answer(req, 302, headers, "on", 2, HTTP_STATIC);
}

static void on_request(struct http_request *req, void *context)
{
    (void)context;
    const char *path = http_request_path(req);
    AUTO_FREE char *other = xasprintf("http://127.0.0.2:%u/small", port);
    if (streq(path, "/large"))
        http_answer(req, 200, NULL, large, LARGE, HTTP_STATIC);
    else if (streq(path, "/small"))
        http_answer(req, 200, NULL, "small", 5, HTTP_STATIC);
    else if (streq(path, "/empty"))
        http_answer(req, 200, NULL, "", 0, HTTP_STATIC);
    else if (streq(path, "/near"))
        lead(req, "/small");
    else if (streq(path, "/far"))
        lead(req, other);
    else if (streq(path, "/circle"))
        lead(req, "/circle");
    else if (streq(path, "/file"))
        lead(req, "file:///etc/passwd");
    else if (streq(path, "/silent"))
        held[held_count++] = http_request_ref(req);
    else
        http_answer(req, 404, NULL, "no", 2, HTTP_STATIC);
}

static bool only_first(void *arg, const struct sockaddr *to)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)to;
    (*(int *)arg)++;
    return to->sa_family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

/* All of it; -1 with the failure. */
static ssize_t fetch(struct http_fetch_config config, struct buf *out, struct http_error *error)
{
    struct http_fetch *f;
    char piece[5000];
    ssize_t n;
    if (http_fetch_open(&config, &f, error) < 0)
        return -1;
    while ((n = http_fetch_read(f, piece, sizeof(piece), error)) > 0)
        buf_add(out, piece, (size_t)n);
    http_fetch_close(f);
    return n < 0 ? -1 : (ssize_t)out->len;
}

static const struct fetch_case {
    const char *path;
    ssize_t length; /* -1: `failure` */
    enum http_failure failure;
    int64_t size_max;
} cases[] = {
    {"/small", 5, 0, 0},
    {"/small", 5, 0, 5},
    {"/small", -1, HTTP_TOO_LARGE, 4},
    {"/large", (ssize_t)LARGE, 0, 0},
    {"/large", -1, HTTP_TOO_LARGE, (int64_t)LARGE - 1},
    {"/empty", 0, 0, 0},
    {"/near", 5, 0, 0},
    {"/far", -1, HTTP_ADDRESS_REFUSED, 0},
    {"/circle", -1, HTTP_PROTOCOL, 0},
    {"/file", -1, HTTP_PROTOCOL, 0},
    {"/nothing", -1, HTTP_PROTOCOL, 0},
    {"/a b", -1, HTTP_PROTOCOL, 0},
    {"/a\r\nX: y", -1, HTTP_PROTOCOL, 0},
};

Test(http_fetch, what_comes_and_what_does_not)
{
    struct http_server *server = start((struct http_server_config){.on_request = on_request});
    port = http_server_port(server);
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (char)(i * 31 + i / 4096);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u%s", port, cases[i].path);
        AUTO_BUF struct buf got = BUF_INIT;
        struct http_error error = {0};
        int asked = 0;
        struct http_fetch_config config = {
            .url = url, .allow = only_first, .arg = &asked, .size_max = cases[i].size_max};
        ssize_t length = fetch(config, &got, &error);
        cr_expect_eq(length, cases[i].length, "%s: %zd %s", url, length, error.text);
        if (length < 0)
            cr_expect_eq(error.kind, cases[i].failure, "%s: %s", url, error.text);
        else
            cr_expect(asked > 0, "%s: the guard was not asked", url);
        if (length == (ssize_t)LARGE)
            cr_expect_arr_eq(got.data, large, LARGE);
    }
    http_server_stop(server);
}

Test(http_fetch, the_guard_decides_before_anything_is_sent)
{
    /* Nobody listens there: a connection would fail in another way. */
    static const char *const urls[] = {"http://127.0.0.2:1/", "http://0x7f000002:1/", "http://[::1]:1/",
                                       "http://2130706434:1/", "https://127.0.0.2:1/"};
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        AUTO_BUF struct buf got = BUF_INIT;
        struct http_error error = {0};
        int asked = 0;
        struct http_fetch_config config = {.url = urls[i], .allow = only_first, .arg = &asked};
        cr_expect_eq(fetch(config, &got, &error), -1);
        cr_expect_eq(error.kind, HTTP_ADDRESS_REFUSED, "%s: %s", urls[i], error.text);
    }
}

static void *cancel_main(void *arg)
{
    struct timespec moment = {.tv_nsec = 50 * 1000 * 1000};
    nanosleep(&moment, NULL);
    *(_Atomic bool *)arg = true;
    return NULL;
}

Test(http_fetch, cancel_and_time)
{
    struct http_server *server = start((struct http_server_config){.on_request = on_request});
    AUTO_FREE char *url = xasprintf("http://127.0.0.1:%u/silent", http_server_port(server));
    AUTO_BUF struct buf got = BUF_INIT;
    struct http_error error = {0};
    _Atomic bool cancel = false;
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_main, (void *)&cancel);
    cr_expect_eq(fetch((struct http_fetch_config){.url = url, .cancel = &cancel}, &got, &error), -1);
    cr_expect_eq(error.kind, HTTP_CANCELLED, "%s", error.text);
    pthread_join(thread, NULL);
    cr_expect_eq(fetch((struct http_fetch_config){.url = url, .timeout_ms = 50}, &got, &error), -1);
    cr_expect_eq(error.kind, HTTP_TIMED_OUT, "%s", error.text);
    for (size_t n = 0; n < held_count; n++) {
        http_answer(held[n], 404, NULL, "", 0, HTTP_STATIC);
        http_request_unref(held[n]);
    }
    http_server_stop(server);
}
