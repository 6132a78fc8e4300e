/* The guest's data port against guests of all kinds: each gets its answers, and one with bad manners costs
 * nobody else anything. */
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <io/guest_data.h>
#include <poll.h>
#include <qemu/data.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct fixture {
    struct loop *loop;
    struct data_port *port;
    const struct str_map *data;
    int64_t version;
    int peer, ours;
    bool disk_full;
    struct buf seen;
    sem_t lost;
};

static const struct str_map *on_data(void *arg, int64_t *version)
{
    struct fixture *f = arg;
    *version = f->version;
    return f->data;
}

static bool on_changed(void *arg, const struct str_map *data)
{
    struct fixture *f = arg;
    if (f->disk_full)
        return false;
    str_map_assign(&f->data, str_map_ref(data));
    f->version++;
    return true;
}

static void on_lost(void *arg)
{
    sem_post(&((struct fixture *)arg)->lost);
}

static void do_start(void *arg)
{
    struct fixture *f = arg;
    struct data_callbacks callbacks = {.data = on_data, .changed = on_changed, .lost = on_lost, .arg = f};
    f->port = data_new(f->loop, &callbacks);
    data_connected(f->port, f->ours);
}

static void do_free(void *arg)
{
    data_free(((struct fixture *)arg)->port);
}

static void start(struct fixture *f)
{
    int pair[2];
    *f = (struct fixture){.version = 1};
    sem_init(&f->lost, 0, 0);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->ours = pair[0];
    f->peer = pair[1];
    f->loop = loop_new("test");
    loop_call(f->loop, do_start, f);
}

static void stop(struct fixture *f)
{
    loop_call(f->loop, do_free, f);
    loop_free(f->loop);
    close(f->peer);
    buf_done(&f->seen);
    str_map_unref(f->data);
}

static void say(struct fixture *f, const char *text)
{
    cr_assert_eq(send(f->peer, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static char *hear(struct fixture *f)
{
    for (;;) {
        char *end = f->seen.len ? memchr(f->seen.data, '\n', f->seen.len) : NULL;
        if (end) {
            char *line = xstrndup(f->seen.data, (size_t)(end - f->seen.data));
            buf_consume(&f->seen, (size_t)(end - f->seen.data) + 1);
            return line;
        }
        struct pollfd p = {.fd = f->peer, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 20000), 1, "no answer");
        ssize_t n = read(f->peer, buf_reserve(&f->seen, 65536), 65536);
        cr_assert_gt(n, 0);
        buf_advance(&f->seen, (size_t)n);
    }
}

static void expect(struct fixture *f, const char *part)
{
    char *line AUTO_FREE = hear(f);
    cr_assert(strstr(line, part), "heard %s, not %s", line, part);
}

Test(data_port, writes_and_reads)
{
    struct fixture f;
    start(&f);
    say(&f, "\n{\"id\":1,\"op\":\"write\",\"key\":\"vm-data/x\",\"value\":\"y\"}\n");
    expect(&f, "{\"id\":1}");
    say(&f, "{\"id\":2,\"op\":\"re");
    say(&f, "ad\",\"key\":\"vm-data/x\"}\n{\"id\":3,\"op\":\"version\"}\n");
    expect(&f, "{\"id\":2,\"value\":\"y\"}");
    expect(&f, "{\"id\":3,\"version\":2");
    stop(&f);
}

Test(data_port, what_cannot_be_kept_is_an_error)
{
    struct fixture f;
    start(&f);
    f.disk_full = true;
    say(&f, "{\"id\":9,\"op\":\"write\",\"key\":\"vm-data/x\",\"value\":\"y\"}\n");
    expect(&f, "{\"id\":9,\"error\":\"io\"");
    stop(&f);
}

/* A program that died in the middle of a request does not spoil the next one's. */
Test(data_port, an_empty_line_ends_what_was_left_unfinished)
{
    struct fixture f;
    start(&f);
    say(&f, "{\"id\":1,\"op\":\"wri");
    say(&f, "\n{\"id\":2,\"op\":\"version\"}\n");
    expect(&f, "bad_request");
    expect(&f, "{\"id\":2,");
    stop(&f);
}

Test(data_port, a_line_without_end_is_skipped)
{
    struct fixture f;
    start(&f);
    char *much AUTO_FREE = xmalloc(64 * 1024 + 1);
    memset(much, 'x', 64 * 1024);
    much[64 * 1024] = '\0';
    say(&f, much);
    say(&f, much);
    say(&f, "\n{\"id\":1,\"op\":\"version\"}\n");
    expect(&f, "the line is too long");
    expect(&f, "{\"id\":1,");
    stop(&f);
}

/* Sends as fast as it can: it is answered at the rate of all, then cut off, and may come back. */
Test(data_port, a_flood_is_answered_slowly_and_then_cut_off)
{
    struct fixture f;
    start(&f);
    const char line[] = "{\"id\":1,\"op\":\"version\"}\n";
    int64_t begin = clock_mono_ms();
    int answers = 0;
    fcntl(f.peer, F_SETFL, O_NONBLOCK);
    while (sem_trywait(&f.lost) < 0) {
        char data[65536];
        ssize_t n = send(f.peer, line, strlen(line), MSG_NOSIGNAL);
        while ((n = read(f.peer, data, sizeof(data))) > 0)
            for (ssize_t i = 0; i < n; i++)
                answers += data[i] == '\n';
        struct pollfd p = {.fd = f.peer, .events = POLLIN | POLLOUT};
        poll(&p, 1, 10);
        cr_assert_lt(clock_mono_ms(), begin + 60000, "it is never cut off");
    }
    int64_t took = clock_mono_ms() - begin;
    cr_assert_leq(answers, DATA_BURST + DATA_RATE * (took / 1000 + 1) + 1, "%d answers in %lld ms", answers,
                  (long long)took);
    cr_assert_geq(answers, DATA_BURST);
    stop(&f);
}

/* It asks for much and takes no answer: nothing piles up here, and it goes on where it was. */
Test(data_port, who_takes_no_answers_is_not_read)
{
    struct fixture f;
    start(&f);
    char *value AUTO_FREE = xmalloc(DOMAIN_DATA_VALUE + 1);
    memset(value, 'v', DOMAIN_DATA_VALUE);
    value[DOMAIN_DATA_VALUE] = '\0';
    for (int i = 0; i < 10; i++) {
        char *line AUTO_FREE =
            xasprintf("{\"id\":1,\"op\":\"write\",\"key\":\"vm-data/k%d\",\"value\":\"%s\"}\n", i, value);
        say(&f, line);
        expect(&f, "{\"id\":1}");
    }
    for (int i = 0; i < 40; i++)
        say(&f, "{\"id\":2,\"op\":\"list\"}\n");
    say(&f, "{\"id\":3,\"op\":\"version\"}\n");
    for (int i = 0; i < 40; i++)
        expect(&f, "{\"id\":2,\"version\"");
    expect(&f, "{\"id\":3,");
    stop(&f);
}

Test(data_port, the_end_of_the_channel_is_told)
{
    struct fixture f;
    struct timespec end;
    start(&f);
    shutdown(f.peer, SHUT_RDWR);
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    cr_assert_eq(sem_timedwait(&f.lost, &end), 0);
    stop(&f);
}
