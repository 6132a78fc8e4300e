/* A domain's serial port: held by the agent for good, shown to many viewers. The device model itself also
 * appends all output to serial.log, so that scroll-back survives the agent; the agent keeps that file short.
 */
#include "internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define LOG_MAX (1024 * 1024)
#define TYPED_MAX (64 * 1024)
#define SETTLE_MS 200
#define MATCH_MAX 64

static void trim_log(struct qemu_domain *d)
{
    struct stat st;
    if (fstat(d->serial_log_fd, &st) < 0 || st.st_size <= LOG_MAX)
        return;
    struct buf history AUTO_BUF = BUF_INIT;
    fanout_history(d->serial, &history);
    if (ftruncate(d->serial_log_fd, 0) < 0 ||
        (history.len > 0 && write(d->serial_log_fd, history.data, history.len) < 0))
        log_warn("qemu", "a serial log cannot be shortened", "domain", d->uuid, "error", strerror(errno));
}

static void disconnect(struct qemu_domain *d)
{
    loop_remove(TAKE_PTR(d->serial_source));
    if (d->serial_fd >= 0)
        close(d->serial_fd);
    d->serial_fd = -1;
    buf_clear(&d->serial_in);
}

static void flush_typed(struct qemu_domain *d)
{
    while (d->serial_in.len > 0) {
        ssize_t n = send(d->serial_fd, d->serial_in.data, d->serial_in.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            break;
        buf_consume(&d->serial_in, (size_t)n);
    }
    loop_want(d->serial_source, EPOLLIN | (d->serial_in.len > 0 ? EPOLLOUT : 0u));
}

static void ready(void *arg, uint32_t events)
{
    struct qemu_domain *d = arg;
    if (events & EPOLLOUT)
        flush_typed(d);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    char data[16384];
    ssize_t n = recv(d->serial_fd, data, sizeof(data), MSG_DONTWAIT);
    if (n > 0 && d->serial_settling) {
        buf_add(&d->serial_held, data, (size_t)n);
    } else if (n > 0) {
        fanout_write(d->serial, data, (size_t)n);
        trim_log(d);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        disconnect(d);
    }
}

static void typed(void *arg, const char *data, size_t len)
{
    struct qemu_domain *d = arg;
    /* A guest that reads nothing loses keys, as on a real line. */
    if (d->serial_fd < 0 || d->serial_in.len + len > TYPED_MAX)
        return;
    buf_add(&d->serial_in, data, len);
    flush_typed(d);
}

void serial_connect(struct qemu_domain *d)
{
    if (!d->serial || d->serial_fd >= 0)
        return;
    d->serial_fd = rundir_connect(&d->dir, "serial");
    if (d->serial_fd >= 0)
        d->serial_source = loop_add(d->driver->loop, d->serial_fd, EPOLLIN, ready, d);
    if (!d->serial_source)
        log_warn("qemu", "a serial port cannot be reached", "domain", d->uuid, "error", strerror(errno));
}

size_t serial_before_held(const char *logged, size_t len, const struct buf *held)
{
    for (size_t at = 0; held->len > 0 && at < len; at++) {
        size_t n = held->len < len - at ? held->len : len - at;
        if (memcmp(logged + at, held->data, n < MATCH_MAX ? n : MATCH_MAX) == 0)
            return at;
    }
    return len;
}

/* The device model sends each byte to whoever is connected and then logs it. What it logged between the look
 * at the log and the new connection would be missing; so the log is looked at once more, a moment later, and
 * joined with what came over the connection since. */
static void settle(void *arg)
{
    struct qemu_domain *d = arg;
    struct buf logged AUTO_BUF = BUF_INIT;
    ssize_t n;
    while ((n = pread(d->serial_log_fd, buf_reserve(&logged, 65536), 65536,
                      d->serial_logged + (off_t)logged.len)) > 0 &&
           logged.len < FANOUT_SCROLLBACK)
        buf_advance(&logged, (size_t)n);
    d->serial_settling = false;
    fanout_write(d->serial, logged.data, serial_before_held(logged.data, logged.len, &d->serial_held));
    fanout_write(d->serial, d->serial_held.data, d->serial_held.len);
    buf_done(&d->serial_held);
}

static void take_over(struct qemu_domain *d)
{
    off_t size = lseek(d->serial_log_fd, 0, SEEK_END);
    size_t len = size < FANOUT_SCROLLBACK ? (size_t)(size > 0 ? size : 0) : FANOUT_SCROLLBACK;
    char *tail AUTO_FREE = xmalloc(len + 1);
    ssize_t n = pread(d->serial_log_fd, tail, len, size - (off_t)len);
    if (n > 0)
        fanout_write(d->serial, tail, (size_t)n);
    d->serial_logged = size;
    d->serial_settling = true;
    d->settle_timer = (struct loop_timer){.fire = settle, .arg = d};
    loop_timer_set(d->driver->loop, &d->settle_timer, clock_mono_ms() + SETTLE_MS);
}

void serial_open(struct qemu_domain *d, bool adopted)
{
    d->serial = fanout_new(d->driver->loop, typed, d);
    if (d->serial_log_fd < 0)
        d->serial_log_fd = rundir_log(&d->dir, "serial.log");
    if (adopted && d->serial_log_fd >= 0)
        take_over(d);
    serial_connect(d);
}

void serial_close(struct qemu_domain *d)
{
    /* What the guest wrote last may still wait in the socket. */
    char data[16384];
    ssize_t n;
    if (d->serial_settling)
        settle(d);
    loop_timer_cancel(d->driver->loop, &d->settle_timer);
    while (d->serial && d->serial_fd >= 0 && (n = recv(d->serial_fd, data, sizeof(data), MSG_DONTWAIT)) > 0)
        fanout_write(d->serial, data, (size_t)n);
    disconnect(d);
    fanout_free(TAKE_PTR(d->serial));
    if (d->serial_log_fd >= 0)
        close(d->serial_log_fd);
    d->serial_log_fd = -1;
    buf_done(&d->serial_in);
}

void serial_keep(struct qemu_domain *d)
{
    const char *state = d->driver->state_dir;
    char *folder AUTO_FREE = xasprintf("%s/serial", state),
                 *from AUTO_FREE = xasprintf("%s/run/%s/serial.log", state, d->uuid);
    char *to AUTO_FREE = xasprintf("%s/%s.log", folder, d->uuid), *older AUTO_FREE = xasprintf("%s.1", to);
    struct stat st;
    if (stat(from, &st) < 0 || st.st_size == 0)
        return;
    if ((mkdir(folder, 0700) < 0 && errno != EEXIST) || (rename(to, older) < 0 && errno != ENOENT) ||
        rename(from, to) < 0)
        log_warn("qemu", "a serial log is not kept", "domain", d->uuid, "error", strerror(errno));
}

void serial_purge(const struct hv_driver_state *state, const char *uuid)
{
    static const char *const endings[] = {"log", "log.1"};
    for (size_t i = 0; i < ARRAY_LEN(endings); i++) {
        char *path AUTO_FREE = xasprintf("%s/serial/%s.%s", state->state_dir, uuid, endings[i]);
        if (unlink(path) < 0 && errno != ENOENT)
            log_warn("qemu", "a serial log cannot be removed", "domain", uuid, "error", strerror(errno));
    }
}
