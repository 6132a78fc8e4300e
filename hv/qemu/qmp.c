/* QMP client (hv/qemu/qmp.h). Negotiation is pipelined: qmp_capabilities goes out before the greeting was
 * read, and commands right behind it, so that a start costs no extra round trip. Replies are matched by a
 * number; an event may come before the reply of the command that caused it. */
#include "qmp.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct waiter {
    int64_t id;
    bool done;
    json_t *reply; /* whole object; NULL: the connection was lost */
    struct waiter *next;
};

struct qmp {
    struct loop *loop;
    struct loop_source *source;
    struct qmp_callbacks callbacks;
    int fd;
    struct buf in;        /* loop thread */
    size_t scanned;       /* bytes of `in` known to hold no line end */
    pthread_mutex_t send; /* one command at a time on the wire; taken before `lock` */
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t answered;
    struct waiter *waiters;
    int64_t last_id;
    bool lost;
    _Atomic int refs;
};

static void fail_waiters(struct qmp *qmp)
{
    pthread_mutex_lock(&qmp->lock);
    qmp->lost = true;
    for (struct waiter *w = qmp->waiters; w; w = w->next)
        w->done = true;
    pthread_cond_broadcast(&qmp->answered);
    pthread_mutex_unlock(&qmp->lock);
}

static void lose(struct qmp *qmp, const char *why)
{
    loop_remove(qmp->source);
    qmp->source = NULL;
    shutdown(qmp->fd, SHUT_RDWR);
    fail_waiters(qmp);
    qmp->callbacks.lost(qmp->callbacks.arg, why);
}

/* True if a command waited for it; the message is the command's thread's alone then. */
static bool deliver_reply(struct qmp *qmp, json_t *message, int64_t id)
{
    bool found = false;
    pthread_mutex_lock(&qmp->lock);
    for (struct waiter *w = qmp->waiters; w; w = w->next)
        if (w->id == id && !w->done) {
            w->reply = message;
            w->done = true;
            found = true;
            pthread_cond_broadcast(&qmp->answered);
            break;
        }
    pthread_mutex_unlock(&qmp->lock);
    return found;
}

static const char *error_text(const json_t *message)
{
    const char *text = NULL;
    json_get_string(json_object_get(message, "error"), "desc", &text);
    return text ? text : "no reason was given";
}

/* NULL: understood; else why the connection cannot be used. May call back, which may not free the qmp. Takes
 * the message out of *slot if it hands it on. */
static const char *handle(struct qmp *qmp, json_t **slot)
{
    const json_t *message = *slot;
    const char *name;
    int64_t id;
    if (json_get_string(message, "event", &name)) {
        qmp->callbacks.event(qmp->callbacks.arg, name, json_object_get(message, "data"));
        return NULL;
    }
    if (json_object_get(message, "QMP"))
        return NULL;
    if (!json_get_int(message, "id", &id))
        return json_object_get(message, "error") ? "it did not understand a command"
                                                 : "it sent an unknown message";
    if (deliver_reply(qmp, *slot, id)) {
        *slot = NULL;
        return NULL;
    }
    if (json_object_get(message, "error")) {
        if (id == 0)
            return "it refused the negotiation";
        log_warn("qmp", "a command failed", "error", error_text(message));
    }
    return NULL;
}

static const char *handle_line(struct qmp *qmp, const char *line, size_t len)
{
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
        len--;
    if (len == 0)
        return NULL;
    struct json_error error;
    json_t *message AUTO_JSON = json_parse(line, len, &error);
    if (!json_is_object(message))
        return "it sent something that is not QMP";
    return handle(qmp, &message);
}

static const char *handle_input(struct qmp *qmp)
{
    size_t at = 0;
    for (;;) {
        size_t from = qmp->scanned > at ? qmp->scanned : at;
        char *end = qmp->in.len > from ? memchr(qmp->in.data + from, '\n', qmp->in.len - from) : NULL;
        if (!end)
            break;
        const char *why = handle_line(qmp, qmp->in.data + at, (size_t)(end - (qmp->in.data + at)));
        if (why)
            return why;
        at = (size_t)(end - qmp->in.data) + 1;
    }
    if (at > 0)
        buf_consume(&qmp->in, at);
    qmp->scanned = qmp->in.len;
    return qmp->in.len > QMP_LINE_MAX ? "it sent a line without end" : NULL;
}

static void readable(void *arg, uint32_t events)
{
    struct qmp *qmp = arg;
    (void)events;
    for (int round = 0; round < 16; round++) {
        char *to = buf_reserve(&qmp->in, 65536);
        ssize_t n = recv(qmp->fd, to, 65536, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            lose(qmp, n == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        buf_advance(&qmp->in, (size_t)n);
        const char *why = handle_input(qmp);
        if (why) {
            lose(qmp, why);
            return;
        }
    }
}

static int remaining_ms(const struct hv_deadline *deadline)
{
    int64_t left = deadline->mono_ms - clock_mono_ms();
    return left < 0 ? 0 : left > 3600000 ? 3600000 : (int)left;
}

static bool cancelled(const struct hv_deadline *deadline)
{
    return deadline->cancelled && atomic_load(deadline->cancelled);
}

/* Writes it all, the descriptor beside the first byte. -1 with errno. */
static int write_command(int socket, const char *text, size_t len, int fd, const struct hv_deadline *deadline)
{
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    for (size_t done = 0; done < len;) {
        struct iovec io = {.iov_base = (char *)(uintptr_t)text + done, .iov_len = len - done};
        struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
        if (done == 0 && fd >= 0) {
            memset(&control, 0, sizeof(control));
            message.msg_control = control.bytes;
            message.msg_controllen = sizeof(control.bytes);
            control.head = (struct cmsghdr){
                .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
            memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
        }
        ssize_t n = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            done += (size_t)n;
            continue;
        }
        if (errno == EINTR)
            continue;
        struct pollfd p = {.fd = socket, .events = POLLOUT};
        if (errno != EAGAIN)
            return -1;
        if (poll(&p, 1, remaining_ms(deadline)) == 0) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
    return 0;
}

static char *command_text(const char *command, const json_t *arguments, int64_t id)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "{\"execute\":");
    json_write_string(&text, command);
    if (arguments) {
        buf_add_str(&text, ",\"arguments\":");
        json_write(&text, arguments);
    }
    buf_printf(&text, ",\"id\":%lld}\n", (long long)id);
    return buf_take(&text);
}

/* Takes a number (0: a fresh one), registers the waiter if any, and writes. */
static int transmit(struct qmp *qmp, const char *command, const json_t *arguments, int fd,
                    struct waiter *waiter, bool first, const struct hv_deadline *deadline)
{
    pthread_mutex_lock(&qmp->send);
    pthread_mutex_lock(&qmp->lock);
    int64_t id = first ? 0 : ++qmp->last_id;
    bool lost = qmp->lost;
    if (waiter) {
        waiter->id = id;
        waiter->done = lost;
        waiter->next = qmp->waiters;
        qmp->waiters = waiter;
    }
    pthread_mutex_unlock(&qmp->lock);
    char *text AUTO_FREE = command_text(command, arguments, id);
    int result = lost ? 0 : write_command(qmp->fd, text, strlen(text), fd, deadline);
    int failure = errno;
    if (result < 0) {
        shutdown(qmp->fd, SHUT_RDWR); /* half a command may be on the wire */
        pthread_mutex_lock(&qmp->lock);
        qmp->lost = true;
        pthread_mutex_unlock(&qmp->lock);
    }
    pthread_mutex_unlock(&qmp->send);
    errno = failure;
    return result;
}

struct qmp *qmp_new(struct loop *loop, int fd, const struct qmp_callbacks *callbacks)
{
    struct qmp *qmp = xcalloc(1, sizeof(*qmp));
    *qmp = (struct qmp){.loop = loop, .fd = fd, .callbacks = *callbacks, .refs = 1};
    pthread_mutex_init(&qmp->send, NULL);
    pthread_mutex_init(&qmp->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&qmp->answered, &attr);
    pthread_condattr_destroy(&attr);
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    struct hv_deadline now = {.mono_ms = clock_mono_ms() + 1000};
    transmit(qmp, "qmp_capabilities", NULL, -1, NULL, true, &now);
    qmp->source = loop_add(loop, fd, EPOLLIN, readable, qmp);
    if (!qmp->source) {
        log_error("qmp", "the connection cannot be watched", "error", strerror(errno));
        qmp->lost = true;
    }
    return qmp;
}

struct qmp *qmp_ref(struct qmp *qmp)
{
    atomic_fetch_add(&qmp->refs, 1);
    return qmp;
}

void qmp_unref(struct qmp *qmp)
{
    if (!qmp || atomic_fetch_sub(&qmp->refs, 1) > 1)
        return;
    close(qmp->fd);
    buf_done(&qmp->in);
    pthread_cond_destroy(&qmp->answered);
    pthread_mutex_destroy(&qmp->lock);
    pthread_mutex_destroy(&qmp->send);
    free(qmp);
}

void qmp_close(struct qmp *qmp)
{
    if (!qmp)
        return;
    loop_remove(qmp->source);
    qmp->source = NULL;
    shutdown(qmp->fd, SHUT_RDWR);
    fail_waiters(qmp);
    qmp_unref(qmp);
}

static void forget_waiter(struct qmp *qmp, struct waiter *waiter)
{
    for (struct waiter **at = &qmp->waiters; *at; at = &(*at)->next)
        if (*at == waiter) {
            *at = waiter->next;
            break;
        }
}

/* Waits with the lock held; a cancellation is noticed within a quarter of a second. */
static void wait_answer(struct qmp *qmp, struct waiter *waiter, const struct hv_deadline *deadline)
{
    while (!waiter->done && !cancelled(deadline) && remaining_ms(deadline) > 0) {
        int64_t until = clock_mono_ms() + 250;
        if (!deadline->cancelled || deadline->mono_ms < until)
            until = deadline->mono_ms;
        struct timespec end = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        pthread_cond_timedwait(&qmp->answered, &qmp->lock, &end);
    }
}

static int judge(const struct waiter *waiter, const char *command, const struct hv_deadline *deadline,
                 json_t **result, struct hv_err *err)
{
    if (!waiter->done)
        return cancelled(deadline) ? hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.")
                                   : hv_fail(err, HV_ERR_KIND_DEADLINE,
                                             "The device model did not answer %s in time.", command);
    if (!waiter->reply)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The connection to the device model was lost.");
    if (json_object_get(waiter->reply, "error"))
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model refused %s: %s", command,
                       error_text(waiter->reply));
    if (result)
        *result = json_incref(json_object_get(waiter->reply, "return"));
    return 0;
}

int qmp_execute(struct qmp *qmp, const char *command, json_t *arguments, int fd,
                const struct hv_deadline *deadline, json_t **result, struct hv_err *err)
{
    struct waiter waiter = {0};
    int sent = transmit(qmp, command, arguments, fd, &waiter, false, deadline);
    pthread_mutex_lock(&qmp->lock);
    if (sent == 0)
        wait_answer(qmp, &waiter, deadline);
    forget_waiter(qmp, &waiter);
    pthread_mutex_unlock(&qmp->lock);
    int outcome = sent < 0
                      ? hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not take commands.")
                      : judge(&waiter, command, deadline, result, err);
    json_decref(waiter.reply);
    return outcome;
}

bool qmp_is_lost(struct qmp *qmp)
{
    pthread_mutex_lock(&qmp->lock);
    bool lost = qmp->lost;
    pthread_mutex_unlock(&qmp->lock);
    return lost;
}

void qmp_send(struct qmp *qmp, const char *command, json_t *arguments)
{
    /* Commands are short and the socket's buffer is not: waiting here means a device model that reads
     * nothing. */
    struct hv_deadline soon = {.mono_ms = clock_mono_ms() + 200};
    if (transmit(qmp, command, arguments, -1, NULL, false, &soon) < 0)
        log_warn("qmp", "a command could not be sent", "command", command, "error", strerror(errno));
}
