/* The QMP client against a scripted device model on a socket pair: good and bad manners. */
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <qemu/qmp.h>
#include <semaphore.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n"

struct fixture {
    struct loop *loop;
    struct qmp *qmp;
    int peer;
    struct buf seen;
    pthread_mutex_t lock;
    char events[512], why[128];
    sem_t event, lost;
    int got_fd;
};

static void on_event(void *arg, const char *name, const json_t *data)
{
    struct fixture *f = arg;
    const char *reason = NULL;
    json_get_string(data, "reason", &reason);
    pthread_mutex_lock(&f->lock);
    size_t n = strlen(f->events);
    snprintf(f->events + n, sizeof(f->events) - n, "%s(%s) ", name, reason ? reason : "");
    pthread_mutex_unlock(&f->lock);
    sem_post(&f->event);
}

static void on_lost(void *arg, const char *why)
{
    struct fixture *f = arg;
    snprintf(f->why, sizeof(f->why), "%s", why);
    sem_post(&f->lost);
}

static void start(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    pthread_mutex_init(&f->lock, NULL);
    sem_init(&f->event, 0, 0);
    sem_init(&f->lost, 0, 0);
    f->got_fd = -1;
    f->loop = loop_new("test");
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->peer = pair[1];
    struct qmp_callbacks callbacks = {.event = on_event, .lost = on_lost, .arg = f};
    f->qmp = qmp_new(f->loop, pair[0], &callbacks);
}

static void do_free(void *arg)
{
    struct fixture *f = arg;
    qmp_close(f->qmp);
}

static void stop(struct fixture *f)
{
    loop_call(f->loop, do_free, f);
    loop_free(f->loop);
    if (f->peer >= 0)
        close(f->peer);
    if (f->got_fd >= 0)
        close(f->got_fd);
    buf_done(&f->seen);
}

static void say(struct fixture *f, const char *text)
{
    size_t len = strlen(text);
    cr_assert_eq(send(f->peer, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* The next whole line from the client. */
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
        cr_assert_eq(poll(&p, 1, 20000), 1, "no command came");
        char bytes[4096], control[CMSG_SPACE(sizeof(int))];
        struct iovec io = {.iov_base = bytes, .iov_len = sizeof(bytes)};
        struct msghdr m = {
            .msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
        ssize_t n = recvmsg(f->peer, &m, MSG_CMSG_CLOEXEC);
        cr_assert_gt(n, 0);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        if (c && c->cmsg_type == SCM_RIGHTS)
            memcpy(&f->got_fd, CMSG_DATA(c), sizeof(int));
        buf_add(&f->seen, bytes, (size_t)n);
    }
}

static void skip(struct fixture *f)
{
    free(hear(f));
}

static void wait_for(sem_t *sem)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    cr_assert_eq(sem_timedwait(sem, &end), 0, "nothing happened");
}

static struct hv_deadline in_ms(int64_t ms)
{
    return (struct hv_deadline){.mono_ms = clock_mono_ms() + ms};
}

/* A command on its own thread, so that the test can play the device model. */
struct command {
    struct fixture *f;
    struct hv_deadline deadline;
    int fd, outcome;
    json_t *result;
    struct hv_err err;
    pthread_t thread;
};

static void *run_command(void *arg)
{
    struct command *c = arg;
    c->outcome = qmp_execute(c->f->qmp, "query-status", NULL, c->fd, &c->deadline, &c->result, &c->err);
    return NULL;
}

static void begin(struct command *c, struct fixture *f, int64_t ms)
{
    *c = (struct command){.f = f, .deadline = in_ms(ms), .fd = -1};
    pthread_create(&c->thread, NULL, run_command, c);
}

static void negotiate(struct fixture *f)
{
    char *line AUTO_FREE = hear(f);
    cr_assert_str_eq(line, "{\"execute\":\"qmp_capabilities\",\"id\":0}");
    say(f, GREETING "{\"return\":{},\"id\":0}\r\n");
}

Test(qmp, a_reply_reaches_its_command_though_an_event_comes_first)
{
    struct fixture f;
    struct command c;
    start(&f);
    negotiate(&f);
    begin(&c, &f, 20000);
    char *line AUTO_FREE = hear(&f);
    cr_assert_str_eq(line, "{\"execute\":\"query-status\",\"id\":1}");
    say(&f, "{\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}\r\n"
            "{\"return\":{\"status\":\"shut");
    say(&f, "down\"},\"id\":1}\r\n");
    pthread_join(c.thread, NULL);
    cr_assert_eq(c.outcome, 0, "%s", c.err.text);
    const char *status = "";
    cr_assert(json_get_string(c.result, "status", &status));
    cr_assert_str_eq(status, "shutdown");
    json_decref(c.result);
    wait_for(&f.event);
    cr_assert_str_eq(f.events, "SHUTDOWN(guest-shutdown) ");
    stop(&f);
}

Test(qmp, replies_of_two_commands_are_not_mixed_up)
{
    struct fixture f;
    struct command a, b;
    start(&f);
    negotiate(&f);
    begin(&a, &f, 20000);
    skip(&f);
    begin(&b, &f, 20000);
    skip(&f);
    say(&f, "{\"return\":{\"n\":2},\"id\":2}\n{\"return\":{\"n\":1},\"id\":1}\n");
    pthread_join(a.thread, NULL);
    pthread_join(b.thread, NULL);
    int64_t n = 0;
    cr_assert(json_get_int(a.result, "n", &n) && n == 1);
    cr_assert(json_get_int(b.result, "n", &n) && n == 2);
    json_decref(a.result);
    json_decref(b.result);
    stop(&f);
}

Test(qmp, an_error_carries_the_words_of_the_device_model)
{
    struct fixture f;
    struct command c;
    start(&f);
    negotiate(&f);
    begin(&c, &f, 20000);
    skip(&f);
    say(&f, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"not now\"},\"id\":1}\n");
    pthread_join(c.thread, NULL);
    cr_assert_eq(c.outcome, -1);
    cr_assert_eq(c.err.kind, HV_ERR_KIND_DEVICE_MODEL);
    cr_assert(strstr(c.err.text, "not now"));
    stop(&f);
}

Test(qmp, no_greeting_and_no_answer_end_at_the_deadline)
{
    struct fixture f;
    struct command c;
    start(&f);
    begin(&c, &f, 50);
    pthread_join(c.thread, NULL);
    cr_assert_eq(c.outcome, -1);
    cr_assert_eq(c.err.kind, HV_ERR_KIND_DEADLINE);
    stop(&f);
}

Test(qmp, a_late_reply_to_a_command_given_up_is_ignored)
{
    struct fixture f;
    struct command c;
    start(&f);
    negotiate(&f);
    begin(&c, &f, 50);
    skip(&f);
    pthread_join(c.thread, NULL);
    say(&f, "{\"return\":{},\"id\":1}\n{\"event\":\"STOP\"}\n");
    wait_for(&f.event);
    begin(&c, &f, 20000);
    skip(&f);
    say(&f, "{\"return\":{},\"id\":2}\n");
    pthread_join(c.thread, NULL);
    cr_assert_eq(c.outcome, 0);
    json_decref(c.result);
    stop(&f);
}

Test(qmp, a_cancelled_command_ends_soon)
{
    struct fixture f;
    struct command c;
    _Atomic bool cancel = true;
    start(&f);
    c = (struct command){.f = &f, .deadline = in_ms(60000), .fd = -1};
    c.deadline.cancelled = &cancel;
    run_command(&c);
    cr_assert_eq(c.outcome, -1);
    cr_assert_eq(c.err.kind, HV_ERR_KIND_CANCELLED);
    stop(&f);
}

Test(qmp, bad_manners_end_the_connection_and_free_who_waits)
{
    static const char *const noise[] = {
        "hello\n",
        "{\"id\":\n",
        "[1,2]\n",
        "{}\n",
        "{\"error\":{\"desc\":\"x\"}}\n",
        "{\"return\":{},\"id\":0}}\n",
        "{\"error\":{\"desc\":\"no\"},\"id\":0}\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(noise); i++) {
        struct fixture f;
        struct command c;
        start(&f);
        begin(&c, &f, 20000);
        skip(&f);
        skip(&f);
        say(&f, noise[i]);
        wait_for(&f.lost);
        pthread_join(c.thread, NULL);
        cr_assert_eq(c.outcome, -1, "case %zu", i);
        cr_assert_eq(c.err.kind, HV_ERR_KIND_DEVICE_MODEL);
        cr_assert(f.why[0]);
        stop(&f);
    }
}

Test(qmp, the_end_of_the_connection_frees_who_waits)
{
    struct fixture f;
    struct command c;
    start(&f);
    negotiate(&f);
    begin(&c, &f, 20000);
    skip(&f);
    close(f.peer);
    f.peer = -1;
    wait_for(&f.lost);
    pthread_join(c.thread, NULL);
    cr_assert_eq(c.err.kind, HV_ERR_KIND_DEVICE_MODEL);
    run_command(&c);
    cr_assert_eq(c.err.kind, HV_ERR_KIND_DEVICE_MODEL);
    stop(&f);
}

Test(qmp, a_line_without_end_is_cut_off)
{
    struct fixture f;
    start(&f);
    char block[65536];
    memset(block, ' ', sizeof(block));
    size_t sent = 0;
    while (sem_trywait(&f.lost) < 0) {
        ssize_t n = send(f.peer, block, sizeof(block), MSG_NOSIGNAL);
        if (n < 0) {
            wait_for(&f.lost);
            break;
        }
        sent += (size_t)n;
        cr_assert_lt(sent, 4u * QMP_LINE_MAX);
    }
    cr_assert_str_eq(f.why, "it sent a line without end");
    stop(&f);
}

Test(qmp, a_descriptor_travels_with_its_command)
{
    struct fixture f;
    struct command c;
    start(&f);
    negotiate(&f);
    int pipe_fds[2];
    cr_assert_eq(pipe(pipe_fds), 0);
    c = (struct command){.f = &f, .deadline = in_ms(20000), .fd = pipe_fds[0]};
    pthread_create(&c.thread, NULL, run_command, &c);
    skip(&f);
    cr_assert_geq(f.got_fd, 0);
    struct stat sent, got;
    cr_assert(fstat(pipe_fds[0], &sent) == 0 && fstat(f.got_fd, &got) == 0);
    cr_assert_eq(sent.st_ino, got.st_ino);
    say(&f, "{\"return\":{},\"id\":1}\n");
    pthread_join(c.thread, NULL);
    json_decref(c.result);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    stop(&f);
}
