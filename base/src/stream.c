/* Two-way byte streams: the one on a descriptor, whole writes, and the pump that joins two. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/stream.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

static ssize_t fd_read(struct stream *s, void *to, size_t max)
{
    return read(s->fd, to, max);
}

static ssize_t fd_write(struct stream *s, const void *from, size_t len)
{
    ssize_t n = send(s->fd, from, len, MSG_NOSIGNAL);
    return n < 0 && errno == ENOTSOCK ? write(s->fd, from, len) : n;
}

static void fd_shut_write(struct stream *s)
{
    shutdown(s->fd, SHUT_WR);
}

static void fd_close(struct stream *s)
{
    close(s->fd);
    free(s);
}

static const struct stream_ops fd_ops = {fd_read, fd_write, fd_shut_write, fd_close};

struct stream *stream_from_fd(int fd)
{
    struct stream *s = xmalloc(sizeof(*s));
    *s = (struct stream){&fd_ops, fd};
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    return s;
}

ssize_t stream_read(struct stream *s, void *to, size_t max)
{
    ssize_t n;
    do
        n = s->ops->read(s, to, max);
    while (n < 0 && errno == EINTR);
    return n;
}

ssize_t stream_write(struct stream *s, const void *from, size_t len)
{
    ssize_t n;
    do
        n = s->ops->write(s, from, len);
    while (n < 0 && errno == EINTR);
    return n;
}

void stream_close(struct stream *s)
{
    if (s)
        s->ops->close(s);
}

/* 1: ready; 0: the time is over. `end`: monotonic ms, -1: never. */
static int wait_fd(int fd, short events, int64_t end)
{
    for (;;) {
        int64_t left = end < 0 ? -1 : end - clock_mono_ms();
        if (end >= 0 && left < 0)
            return 0;
        struct pollfd p = {.fd = fd, .events = events};
        int n = poll(&p, 1, left > 1000000 ? 1000000 : (int)left);
        if (n > 0)
            return 1;
    }
}

int stream_write_all(struct stream *s, const void *from, size_t len, int64_t timeout_ms)
{
    int64_t end = timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms;
    const char *p = from;
    while (len > 0) {
        ssize_t n = stream_write(s, p, len);
        if (n >= 0) {
            p += n;
            len -= (size_t)n;
        } else if (errno != EAGAIN) {
            return -1;
        } else if (!wait_fd(s->fd, POLLOUT, end)) {
            errno = ETIMEDOUT;
            return -1;
        }
    }
    return 0;
}

int stream_wait_readable(struct stream *s, int64_t timeout_ms)
{
    return wait_fd(s->fd, POLLIN, timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms);
}

/* ---- the pump ---- */

#define PUMP_BUFFER 65536

/* One direction. */
struct lane {
    struct stream *from, *to;
    char *data;
    size_t start, len;
    bool ended; /* `from` has no more */
};

enum step { STEP_MOVED, STEP_BLOCKED, STEP_FAILED };

static enum step lane_fill(struct lane *l)
{
    if (l->ended || l->len > 0)
        return STEP_BLOCKED;
    ssize_t n = stream_read(l->from, l->data, PUMP_BUFFER);
    if (n < 0)
        return errno == EAGAIN ? STEP_BLOCKED : STEP_FAILED;
    l->ended = n == 0;
    l->start = 0;
    l->len = (size_t)n;
    return STEP_MOVED;
}

static enum step lane_drain(struct lane *l)
{
    if (l->len == 0)
        return STEP_BLOCKED;
    ssize_t n = stream_write(l->to, l->data + l->start, l->len);
    if (n < 0)
        return errno == EAGAIN ? STEP_BLOCKED : STEP_FAILED;
    l->start += (size_t)n;
    l->len -= (size_t)n;
    return STEP_MOVED;
}

/* Moves as much as goes without waiting. */
static enum step lane_run(struct lane *l)
{
    enum step moved = STEP_BLOCKED;
    for (int i = 0; i < 16; i++) {
        enum step filled = lane_fill(l), drained = lane_drain(l);
        if (filled == STEP_FAILED || drained == STEP_FAILED)
            return STEP_FAILED;
        if (filled == STEP_BLOCKED && drained == STEP_BLOCKED)
            return moved;
        moved = STEP_MOVED;
    }
    return moved;
}

enum pump_end stream_pump(struct stream *a, struct stream *b, int stop_fd, int64_t idle_ms)
{
    AUTO_FREE char *forth_data = xmalloc(PUMP_BUFFER);
    AUTO_FREE char *back_data = xmalloc(PUMP_BUFFER);
    struct lane forth = {.from = a, .to = b, .data = forth_data},
                back = {.from = b, .to = a, .data = back_data};
    int64_t last = clock_mono_ms();
    for (;;) {
        enum step x = lane_run(&forth), y = lane_run(&back);
        if (x == STEP_FAILED || y == STEP_FAILED)
            return PUMP_FAILED;
        if ((forth.ended && forth.len == 0) || (back.ended && back.len == 0))
            return PUMP_CLOSED;
        if (x == STEP_MOVED || y == STEP_MOVED) {
            last = clock_mono_ms();
            struct pollfd stop = {.fd = stop_fd, .events = POLLIN};
            if (poll(&stop, 1, 0) > 0)
                return PUMP_STOPPED;
            continue;
        }
        short a_events = (short)((forth.len == 0 ? POLLIN : 0) | (back.len > 0 ? POLLOUT : 0));
        short b_events = (short)((back.len == 0 ? POLLIN : 0) | (forth.len > 0 ? POLLOUT : 0));
        struct pollfd p[3] = {{a->fd, a_events, 0}, {b->fd, b_events, 0}, {stop_fd, POLLIN, 0}};
        int64_t left = idle_ms < 0 ? -1 : last + idle_ms - clock_mono_ms();
        if (idle_ms >= 0 && left <= 0)
            return PUMP_IDLE;
        poll(p, 3, left > 1000000 ? 1000000 : (int)left);
        if (p[2].revents)
            return PUMP_STOPPED;
        /* A side that hung up while nothing can be read from or written to it would spin. */
        if ((!a_events && p[0].revents) || (!b_events && p[1].revents))
            return PUMP_CLOSED;
    }
}
