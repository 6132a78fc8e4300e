/* Web socket frames: every split of the input, every refusal of RFC 6455, and the pump over sockets. */
#include <base/mem.h>
#include <base/websocket.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

Test(websocket, accept_of_the_rfc)
{
    char out[WS_ACCEPT_SIZE];
    cr_assert(ws_accept("dGhlIHNhbXBsZSBub25jZQ==", out));
    cr_assert_str_eq(out, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    cr_assert(!ws_accept("", out) && !ws_accept("dGhlIHNhbXBsZSBub25jZQ", out) &&
              !ws_accept("not base64 of 16 bytes!!", out) && !ws_accept("dGhlIHNhbXBsZSBub25jZQ==x", out));
}

/* What a reader makes of some bytes, as text: "B5!" is 5 bytes of a binary message that ends there. */
static char *digest_of(const char *bytes, size_t len, size_t piece, uint64_t max)
{
    struct ws_reader r;
    struct buf text = BUF_INIT;
    ws_reader_init(&r, true, max);
    for (size_t at = 0; at < len; at += piece) {
        size_t left = len - at < piece ? len - at : piece;
        char *copy = xmalloc(left), *input = copy;
        memcpy(copy, bytes + at, left);
        for (bool more = true; more;) {
            struct ws_output out;
            enum ws_event event = ws_read(&r, &input, &left, &out);
            if (event == WS_NEED_MORE) {
                more = left > 0;
            } else if (event == WS_ERROR) {
                buf_printf(&text, "E%d", out.status);
                free(copy);
                return buf_take(&text);
            } else {
                buf_printf(&text, "%c", "CTB?????XPO"[out.opcode]);
                buf_add(&text, out.data, out.len);
                if (out.last)
                    buf_add_char(&text, '!');
            }
        }
        free(copy);
    }
    return buf_take(&text);
}

/* Joins the pieces of a message: the digest of any split is then the same. */
static char *joined(const char *digest, char kind)
{
    struct buf text = BUF_INIT;
    for (const char *p = digest; *p; p++)
        if (*p != kind)
            buf_add_char(&text, *p);
    return buf_take(&text);
}

Test(websocket, frames_survive_every_split)
{
    static const uint8_t mask[4] = {1, 2, 3, 250};
    AUTO_BUF struct buf b = BUF_INIT;
    char large[70000];
    memset(large, 'x', sizeof(large));
    static const size_t sizes[] = {0, 1, 125, 126, 127, 65535, 65536, 70000};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
        ws_write_frame(&b, WS_BINARY, large, sizes[i], mask);
    ws_write_frame(&b, WS_PING, "hello", 5, mask);
    AUTO_FREE char *whole = digest_of(b.data, b.len, b.len, 0);
    AUTO_FREE char *whole_joined = joined(whole, 'B');
    cr_assert_eq(strlen(whole_joined), 1 + 2 + 126 + 127 + 128 + 65536 + 65537 + 70001 + strlen("Phello!"));
    static const size_t pieces[] = {1, 2, 3, 7, 13, 1000, 4096};
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        AUTO_FREE char *digest = digest_of(b.data, b.len, pieces[i], 0);
        AUTO_FREE char *digest_joined = joined(digest, 'B');
        cr_assert_str_eq(digest_joined, whole_joined, "piece %zu", pieces[i]);
    }
}

Test(websocket, fragments_with_a_ping_between)
{
    static const char bytes[] = "\x02\x82\0\0\0\0ab"        /* binary, not final */
                                "\x89\x81\0\0\0\0p"         /* ping */
                                "\x00\x81\0\0\0\0c"         /* continuation */
                                "\x80\x81\0\0\0\0d"         /* final continuation */
                                "\x81\x82\0\0\0\0hi"        /* text */
                                "\x88\x82\0\0\0\0\x03\xe8"; /* close 1000 */
    AUTO_FREE char *digest = digest_of(bytes, sizeof(bytes) - 1, sizeof(bytes), 0);
    cr_assert_str_eq(digest, "BabPp!BcBd!Thi!X\x03\xe8!");
}

Test(websocket, what_breaks_the_protocol)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *digest;
    } cases[] = {
        {"\x82\x01x", 3, "E1002"},                                         /* not masked */
        {"\xc2\x80\0\0\0\0", 6, "E1002"},                                  /* RSV1 */
        {"\x83\x80\0\0\0\0", 6, "E1002"},                                  /* unknown data opcode */
        {"\x8b\x80\0\0\0\0", 6, "E1002"},                                  /* unknown control opcode */
        {"\x09\x80\0\0\0\0", 6, "E1002"},                                  /* fragmented control */
        {"\x89\xfe\0\x7e\0\0\0\0", 8, "E1002"},                            /* long control */
        {"\x80\x80\0\0\0\0", 6, "E1002"},                                  /* continuation of nothing */
        {"\x02\x80\0\0\0\0\x82\x80\0\0\0\0", 12, "BE1002"},                /* new message inside one */
        {"\x82\xfe\0\x7d\0\0\0\0", 8, "E1002"},                            /* 16-bit length that fits 7 */
        {"\x82\xff\0\0\0\0\0\0\xff\xff\0\0\0\0", 14, "E1002"},             /* 64-bit length that fits 16 */
        {"\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0", 14, "E1002"},               /* top bit of the length */
        {"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, "E1009"}, /* too big */
        {"\x82\xe5\0\0\0\0", 6, "E1009"},         /* 101 bytes: over the cap of 100 */
        {"\x88\x81\0\0\0\0x", 7, "E1002"},        /* close with one byte */
        {"\x88\x82\0\0\0\0\x03\xed", 8, "E1002"}, /* close 1005 */
        {"\x88\x82\0\0\0\0\0\0", 8, "E1002"},     /* close 0 */
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_FREE char *digest = digest_of(cases[i].bytes, cases[i].len, cases[i].len, 100);
        cr_assert_str_eq(digest, cases[i].digest, "case %zu", i);
        AUTO_FREE char *slowly = digest_of(cases[i].bytes, cases[i].len, 1, 100);
        cr_assert_str_eq(slowly, cases[i].digest, "case %zu, byte by byte", i);
    }
}

Test(websocket, the_cap_is_for_all_fragments_together)
{
    AUTO_BUF struct buf b = BUF_INIT;
    static const char sixty[60];
    static const uint8_t mask[4];
    ws_write_frame(&b, WS_BINARY, sixty, 60, mask);
    b.data[0] = 0x02;
    ws_write_frame(&b, WS_CONTINUATION, sixty, 60, mask);
    struct ws_reader r;
    ws_reader_init(&r, true, 100);
    char *input = b.data;
    size_t left = b.len;
    struct ws_output out;
    cr_assert_eq(ws_read(&r, &input, &left, &out), WS_DATA);
    cr_assert_eq(ws_read(&r, &input, &left, &out), WS_ERROR);
    cr_assert_eq(out.status, WS_STATUS_TOO_BIG);
}

Test(websocket, nothing_behind_a_close_counts)
{
    static const char bytes[] = "\x88\x80\0\0\0\0\x82\x81\0\0\0\0x";
    AUTO_FREE char *digest = digest_of(bytes, sizeof(bytes) - 1, sizeof(bytes) - 1, 0);
    cr_assert_str_eq(digest, "X!");
}

/* ---- the pump ---- */

struct joint {
    struct stream *peer, *raw;
    int client, console, stop;
    struct ws_pump_options options;
    pthread_t thread;
    enum pump_end end;
};

static void *pump_main(void *arg)
{
    struct joint *j = arg;
    j->end = ws_pump(j->peer, j->raw, "\x82\x81\0\0\0\0e", 7, &j->options);
    stream_close(j->peer);
    stream_close(j->raw);
    return NULL;
}

static void joint_start(struct joint *j)
{
    int a[2], b[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    j->peer = stream_from_fd(a[0]);
    j->raw = stream_from_fd(b[0]);
    j->client = a[1];
    j->console = b[1];
    j->options.stop_fd = j->stop = eventfd(0, EFD_CLOEXEC);
    cr_assert_eq(pthread_create(&j->thread, NULL, pump_main, j), 0);
}

static void joint_end(struct joint *j)
{
    pthread_join(j->thread, NULL);
    close(j->client);
    close(j->console);
    close(j->stop);
}

static void expect_bytes(int fd, const char *bytes, size_t len)
{
    AUTO_FREE char *got = xmalloc(len + 1);
    for (size_t at = 0; at < len;) {
        struct pollfd p = {fd, POLLIN, 0};
        cr_assert_eq(poll(&p, 1, 10000), 1, "nothing came");
        ssize_t n = read(fd, got + at, len - at);
        cr_assert(n > 0, "the stream ended after %zu bytes", at);
        at += (size_t)n;
    }
    cr_assert_eq(memcmp(got, bytes, len), 0);
}

static void send_bytes(int fd, const char *bytes, size_t len)
{
    cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
}

Test(ws_pump, carries_both_ways_answers_pings_and_closes)
{
    struct joint j = {.options = {.idle_ms = -1}};
    joint_start(&j);
    expect_bytes(j.console, "e", 1); /* what came behind the handshake */
    send_bytes(j.client,
               "\x82\x83\x01\x01\x01\x01"
               "`cb",
               9);
    expect_bytes(j.console, "abc", 3);
    send_bytes(j.console, "login:", 6);
    expect_bytes(j.client, "\x82\x06login:", 8);
    send_bytes(j.client, "\x89\x82\0\0\0\0hi", 8);
    expect_bytes(j.client, "\x8a\x02hi", 4);
    send_bytes(j.client, "\x88\x82\0\0\0\0\x03\xe8", 8);
    expect_bytes(j.client, "\x88\x02\x03\xe8", 4);
    joint_end(&j);
    cr_assert_eq(j.end, PUMP_CLOSED);
}

Test(ws_pump, the_end_of_the_console_closes_the_socket)
{
    struct joint j = {.options = {.idle_ms = -1}};
    joint_start(&j);
    send_bytes(j.console, "bye", 3);
    shutdown(j.console, SHUT_RDWR);
    expect_bytes(j.client,
                 "\x82\x03"
                 "bye\x88\x02\x03\xe8",
                 9);
    joint_end(&j);
    cr_assert_eq(j.end, PUMP_CLOSED);
}

Test(ws_pump, stops_when_told)
{
    struct joint j = {.options = {.idle_ms = -1}};
    joint_start(&j);
    eventfd_write(j.stop, 1);
    expect_bytes(j.client, "\x88\x02\x03\xe9", 4);
    joint_end(&j);
    cr_assert_eq(j.end, PUMP_STOPPED);
}

Test(ws_pump, a_silent_peer_is_pinged_and_then_dropped)
{
    struct joint j = {.options = {.idle_ms = 150}};
    joint_start(&j);
    expect_bytes(j.client, "\x89\x00", 2);
    joint_end(&j);
    cr_assert_eq(j.end, PUMP_IDLE);
}

Test(ws_pump, a_broken_frame_ends_it)
{
    struct joint j = {.options = {.idle_ms = -1}};
    joint_start(&j);
    send_bytes(j.client, "\x82\x01x", 3);
    expect_bytes(j.client, "\x88\x02\x03\xea", 4);
    joint_end(&j);
    cr_assert_eq(j.end, PUMP_CLOSED);
}

Test(ws_pump, a_slow_console_bounds_memory)
{
    struct joint j = {.options = {.idle_ms = -1, .buffer_max = 65536}};
    joint_start(&j);
    expect_bytes(j.console, "e", 1);
    /* Nobody reads the console: the client must be blocked long before all of this went in. */
    struct timeval patience = {.tv_usec = 200000};
    setsockopt(j.client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    AUTO_BUF struct buf frame = BUF_INIT;
    static const uint8_t mask[4];
    static char zeros[60000];
    ws_write_frame(&frame, WS_BINARY, zeros, sizeof(zeros), mask);
    size_t sent = 0;
    for (ssize_t n; sent < ((size_t)64 << 20); sent += (size_t)n)
        if ((n = send(j.client, frame.data + sent % frame.len, frame.len - sent % frame.len, MSG_NOSIGNAL)) <=
            0)
            break;
    cr_assert_lt(sent, (size_t)8 << 20);
    eventfd_write(j.stop, 1);
    joint_end(&j);
    cr_assert_eq(j.end, PUMP_STOPPED);
}

/* ---- the plain pump ---- */

Test(stream_pump, ends_when_one_side_ended_and_all_is_delivered)
{
    int a[2], b[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    struct stream *left = stream_from_fd(a[0]), *right = stream_from_fd(b[0]);
    send_bytes(a[1], "to the right", 12);
    shutdown(a[1], SHUT_WR);
    cr_assert_eq(stream_pump(left, right, -1, -1), PUMP_CLOSED);
    expect_bytes(b[1], "to the right", 12);
    cr_assert_eq(stream_pump(right, left, -1, 50), PUMP_CLOSED);
    stream_close(left);
    stream_close(right);
    close(a[1]);
    close(b[1]);
}

Test(stream_pump, idles_out)
{
    int a[2], b[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a), 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b), 0);
    struct stream *left = stream_from_fd(a[0]), *right = stream_from_fd(b[0]);
    cr_assert_eq(stream_pump(left, right, -1, 50), PUMP_IDLE);
    stream_close(left);
    stream_close(right);
    close(a[1]);
    close(b[1]);
}
