/* Fan-out of a console (hv/io/fanout.h). Each viewer has one end of a socket pair; its backlog above the
 * socket's own buffer is counted, and too much of it ends the viewer. */
#include "fanout.h"
#include <base/buf.h>
#include <base/mem.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct viewer {
    struct fanout *fanout;
    int fd;
    struct loop_source *source;
    struct buf backlog;
    struct viewer *next;
};

struct fanout {
    struct loop *loop;
    void (*input)(void *arg, const char *data, size_t len);
    void *arg;
    struct buf history;
    struct viewer *viewers;
    int viewer_count;
};

struct fanout *fanout_new(struct loop *loop, void (*input)(void *arg, const char *data, size_t len),
                          void *arg)
{
    struct fanout *f = xcalloc(1, sizeof(*f));
    *f = (struct fanout){.loop = loop, .input = input, .arg = arg};
    return f;
}

static void viewer_drop(struct viewer *viewer)
{
    struct fanout *f = viewer->fanout;
    for (struct viewer **at = &f->viewers; *at; at = &(*at)->next)
        if (*at == viewer) {
            *at = viewer->next;
            break;
        }
    f->viewer_count--;
    loop_remove(viewer->source);
    close(viewer->fd);
    buf_done(&viewer->backlog);
    free(viewer);
}

/* -1: the viewer is gone. */
static int viewer_flush(struct viewer *viewer)
{
    while (viewer->backlog.len > 0) {
        ssize_t n = send(viewer->fd, viewer->backlog.data, viewer->backlog.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        buf_consume(&viewer->backlog, (size_t)n);
    }
    return 0;
}

static void viewer_send(struct viewer *viewer, const char *data, size_t len)
{
    buf_add(&viewer->backlog, data, len);
    if (viewer_flush(viewer) < 0 || viewer->backlog.len > FANOUT_LAG) {
        viewer_drop(viewer);
        return;
    }
    loop_want(viewer->source, EPOLLIN | (viewer->backlog.len > 0 ? EPOLLOUT : 0u));
}

static void viewer_ready(void *arg, uint32_t events)
{
    struct viewer *viewer = arg;
    if (events & EPOLLOUT) {
        if (viewer_flush(viewer) < 0) {
            viewer_drop(viewer);
            return;
        }
        if (viewer->backlog.len == 0)
            loop_want(viewer->source, EPOLLIN);
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        return;
    char data[4096];
    ssize_t n = recv(viewer->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n > 0)
        viewer->fanout->input(viewer->fanout->arg, data, (size_t)n);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        viewer_drop(viewer);
}

void fanout_free(struct fanout *f)
{
    if (!f)
        return;
    while (f->viewers) {
        viewer_flush(f->viewers);
        viewer_drop(f->viewers);
    }
    buf_done(&f->history);
    free(f);
}

void fanout_write(struct fanout *f, const char *data, size_t len)
{
    if (len == 0)
        return;
    buf_add(&f->history, data, len);
    /* Trimmed in large steps, so that a byte costs no move of the whole. */
    if (f->history.len > 2 * FANOUT_SCROLLBACK)
        buf_consume(&f->history, f->history.len - FANOUT_SCROLLBACK);
    for (struct viewer *viewer = f->viewers, *next; viewer; viewer = next) {
        next = viewer->next;
        viewer_send(viewer, data, len);
    }
}

void fanout_history(const struct fanout *f, struct buf *out)
{
    size_t len = f->history.len < FANOUT_SCROLLBACK ? f->history.len : FANOUT_SCROLLBACK;
    if (len > 0)
        buf_add(out, f->history.data + f->history.len - len, len);
}

int fanout_attach(struct fanout *f, int *fd)
{
    if (f->viewer_count >= FANOUT_VIEWERS) {
        errno = EUSERS;
        return -1;
    }
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        return -1;
    struct viewer *viewer = xcalloc(1, sizeof(*viewer));
    *viewer = (struct viewer){.fanout = f, .fd = pair[0]};
    viewer->source = loop_add(f->loop, pair[0], EPOLLIN, viewer_ready, viewer);
    if (!viewer->source) {
        int failure = errno;
        close(pair[0]);
        close(pair[1]);
        free(viewer);
        errno = failure;
        return -1;
    }
    viewer->next = f->viewers;
    f->viewers = viewer;
    f->viewer_count++;
    *fd = pair[1];
    struct buf history AUTO_BUF = BUF_INIT;
    fanout_history(f, &history);
    if (history.len > 0)
        viewer_send(viewer, history.data, history.len);
    return 0;
}
