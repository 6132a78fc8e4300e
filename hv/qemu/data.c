/* The conversation about a guest's data (data.h): line by line, answered at once. */
#include "data.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <io/guest_data.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOKEN_MS (1000 / DATA_RATE)
#define FLOOD_MS 3000 /* a queue that is never empty for so long is no program's that waits for answers */

struct data_port {
    struct loop *loop;
    struct data_callbacks callbacks;
    int fd; /* -1: not connected */
    struct loop_source *source;
    struct loop_timer timer; /* of the next token, when there is none */
    struct buf in, out;
    bool skipping;     /* the rest of a line that is too long */
    bool empty;        /* the last line was: one is free, a flood of them is not */
    int tokens;        /* requests that may be answered now */
    int64_t filled_ms; /* when tokens were counted last */
    int64_t behind_ms; /* since when requests have been waiting for tokens; 0: none is */
};

static void cut_off(struct data_port *port, const char *why)
{
    if (port->fd < 0)
        return;
    log_debug("guest", "the channel of a guest's data was closed", "reason", why);
    loop_remove(port->source);
    port->source = NULL;
    close(port->fd);
    port->fd = -1;
    buf_done(&port->in);
    buf_done(&port->out);
    port->skipping = false;
    port->behind_ms = 0;
    loop_timer_cancel(port->loop, &port->timer);
    port->callbacks.lost(port->callbacks.arg);
}

static bool take_token(struct data_port *port)
{
    int64_t now = clock_mono_ms(), earned = (now - port->filled_ms) / TOKEN_MS;
    if (earned > 0) {
        port->filled_ms += earned * TOKEN_MS;
        port->tokens = earned > DATA_BURST - port->tokens ? DATA_BURST : port->tokens + (int)earned;
    }
    if (port->tokens > 0) {
        port->tokens--;
        return true;
    }
    if (port->behind_ms == 0)
        port->behind_ms = now;
    loop_timer_set(port->loop, &port->timer, port->filled_ms + TOKEN_MS);
    return false;
}

/* What is to be waited for: answers have to leave before more is read, and a token has to be there. */
static void want(struct data_port *port, bool read)
{
    if (port->fd >= 0)
        loop_want(port->source, port->out.len > 0 ? EPOLLOUT : read ? EPOLLIN : 0u);
}

static void flush(struct data_port *port)
{
    while (port->out.len > 0) {
        ssize_t n = send(port->fd, port->out.data, port->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            cut_off(port, strerror(errno));
        if (n < 0)
            return;
        buf_consume(&port->out, (size_t)n);
    }
}

static void handle_line(struct data_port *port, const char *line, size_t len)
{
    int64_t version;
    AUTO_STR_MAP const struct str_map *data =
        str_map_ref(port->callbacks.data(port->callbacks.arg, &version));
    size_t before = port->out.len;
    if (!guest_data_answer(&data, version, line, len, &port->out) ||
        port->callbacks.changed(port->callbacks.arg, data))
        return;
    port->out.len = before;
    guest_data_not_kept(line, len, &port->out);
}

/* Lines that are whole, as long as answers leave and tokens last. */
static void serve(struct data_port *port)
{
    char *end;
    bool more = true;
    while (port->fd >= 0 && port->out.len == 0 && port->in.len > 0 &&
           (end = memchr(port->in.data, '\n', port->in.len))) {
        size_t len = (size_t)(end - port->in.data);
        bool empty = len == 0 && !port->skipping;
        if ((!empty || port->empty) && !(more = take_token(port)))
            break;
        port->empty = empty;
        if (empty)
            ;
        else if (!port->skipping && len <= GUEST_DATA_LINE)
            handle_line(port, port->in.data, len);
        else
            guest_data_too_long(&port->out);
        port->skipping = false;
        buf_consume(&port->in, len + 1);
        flush(port);
    }
    if (more)
        port->behind_ms = 0;
    else if (clock_mono_ms() - port->behind_ms > FLOOD_MS) {
        cut_off(port, "it asks faster than it is answered");
        return;
    }
    if (port->in.len > GUEST_DATA_LINE && !memchr(port->in.data, '\n', port->in.len)) {
        port->skipping = true;
        buf_clear(&port->in);
    }
    want(port, more);
}

static void ready(void *arg, uint32_t events)
{
    struct data_port *port = arg;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        flush(port);
    if (port->fd >= 0 && port->out.len == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        ssize_t n = recv(port->fd, buf_reserve(&port->in, 4096), 4096, MSG_DONTWAIT);
        if (n > 0)
            buf_advance(&port->in, (size_t)n);
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            cut_off(port, n == 0 ? "it ended" : strerror(errno));
    }
    if (port->fd >= 0)
        serve(port);
}

static void fire(void *arg)
{
    struct data_port *port = arg;
    if (port->fd >= 0)
        serve(port);
}

struct data_port *data_new(struct loop *loop, const struct data_callbacks *callbacks)
{
    struct data_port *port = xcalloc(1, sizeof(*port));
    *port = (struct data_port){.loop = loop,
                               .callbacks = *callbacks,
                               .fd = -1,
                               .tokens = DATA_BURST,
                               .filled_ms = clock_mono_ms(),
                               .timer = {.fire = fire, .arg = port}};
    return port;
}

void data_free(struct data_port *port)
{
    if (!port)
        return;
    loop_timer_cancel(port->loop, &port->timer);
    loop_remove(port->source);
    if (port->fd >= 0)
        close(port->fd);
    buf_done(&port->in);
    buf_done(&port->out);
    free(port);
}

void data_connected(struct data_port *port, int fd)
{
    port->fd = fd;
    port->source = loop_add(port->loop, fd, EPOLLIN, ready, port);
    if (!port->source)
        cut_off(port, strerror(errno));
}
