/* Joins a web socket (server side) and a raw stream, with bounded buffers both ways. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/websocket.h>
#include <errno.h>
#include <poll.h>

#define PIECE 32768
#define CLOSE_WAIT_MS 2000

struct pump {
    struct stream *peer, *raw;
    const struct ws_pump_options *options;
    size_t buffer_max;
    struct ws_reader reader;
    struct buf to_peer, to_raw;
    bool raw_deaf;    /* raw cannot be written to */
    bool raw_ended;   /* no more from raw */
    bool peer_closed; /* the peer sent close, or broke the protocol */
    bool close_sent;
    enum pump_end end;
};

static void send_close(struct pump *p, enum ws_status status)
{
    if (!p->close_sent)
        ws_write_close(&p->to_peer, status, NULL);
    p->close_sent = true;
}

/* Everything that the peer sent, into to_raw; control frames are answered. */
static void take_frames(struct pump *p, char *data, size_t len)
{
    for (;;) {
        struct ws_output out;
        switch (ws_read(&p->reader, &data, &len, &out)) {
        case WS_NEED_MORE:
            if (len == 0)
                return;
            break;
        case WS_DATA:
            if (out.opcode == WS_TEXT && !p->options->text) {
                send_close(p, WS_STATUS_BAD_DATA);
                p->peer_closed = true;
                return;
            }
            buf_add(&p->to_raw, out.data, out.len);
            break;
        case WS_CONTROL:
            if (out.opcode == WS_PING && !p->close_sent)
                ws_write_frame(&p->to_peer, WS_PONG, out.data, out.len, NULL);
            if (out.opcode == WS_CLOSE) {
                send_close(p, WS_STATUS_NORMAL);
                p->peer_closed = true;
                return;
            }
            break;
        case WS_ERROR:
            send_close(p, out.status);
            p->peer_closed = true;
            return;
        }
    }
}

/* False: the stream failed or ended. *moved is set when something was written. */
static bool flush(struct stream *to, struct buf *b, bool *moved)
{
    size_t done = 0;
    while (done < b->len) {
        ssize_t n = stream_write(to, b->data + done, b->len - done);
        if (n < 0 && errno != EAGAIN)
            return false;
        if (n < 0)
            break;
        done += (size_t)n;
        *moved = true;
    }
    if (done > 0)
        buf_consume(b, done);
    return true;
}

/* 1: bytes were read; 0: nothing now; -1: failed or ended. */
static int read_peer(struct pump *p)
{
    char piece[PIECE];
    ssize_t n = stream_read(p->peer, piece, sizeof(piece));
    if (n > 0) {
        take_frames(p, piece, (size_t)n);
        return 1;
    }
    return n < 0 && errno == EAGAIN ? 0 : -1;
}

static int read_raw(struct pump *p)
{
    char piece[PIECE];
    ssize_t n = stream_read(p->raw, piece, sizeof(piece));
    if (n > 0) {
        ws_write_frame(&p->to_peer, WS_BINARY, piece, (size_t)n, NULL);
        return 1;
    }
    if (n < 0 && errno == EAGAIN)
        return 0;
    p->raw_ended = true;
    send_close(p, WS_STATUS_NORMAL);
    return 1;
}

/* The goodbye: what is left for the peer, for a moment. */
static void flush_close(struct pump *p)
{
    if (p->to_peer.len > 0)
        stream_write_all(p->peer, p->to_peer.data, p->to_peer.len, CLOSE_WAIT_MS);
}

/* Moves what goes without waiting. False: the pump is over, p->end says how. */
static bool run(struct pump *p, bool *moved, bool *heard)
{
    if (!flush(p->peer, &p->to_peer, moved)) {
        p->end = PUMP_FAILED;
        return false;
    }
    /* Raw takes nothing any more, but what it said before is still to be delivered. */
    if (p->raw_deaf || !flush(p->raw, &p->to_raw, moved)) {
        p->raw_deaf = true;
        buf_clear(&p->to_raw);
    }
    if ((p->peer_closed && p->to_raw.len == 0) || p->raw_ended) {
        p->end = PUMP_CLOSED;
        return false;
    }
    if (!p->peer_closed && p->to_raw.len < p->buffer_max && p->to_peer.len < 2 * p->buffer_max) {
        int n = read_peer(p);
        if (n < 0) {
            p->end = PUMP_CLOSED;
            return false;
        }
        *heard = *heard || n > 0;
        *moved = *moved || n > 0;
    }
    if (!p->close_sent && p->to_peer.len < p->buffer_max && read_raw(p) > 0)
        *moved = true;
    return true;
}

/* Waits until something can go on. False: stopped or idle. */
static bool wait_for_more(struct pump *p, int64_t *heard_at, int64_t *ping_at)
{
    int64_t idle = p->options->idle_ms, now = clock_mono_ms(), left = -1;
    if (idle >= 0) {
        if (now - *heard_at >= idle) {
            p->end = PUMP_IDLE;
            send_close(p, WS_STATUS_GOING_AWAY);
            return false;
        }
        if (now >= *ping_at) {
            if (!p->close_sent)
                ws_write_frame(&p->to_peer, WS_PING, "", 0, NULL);
            *ping_at = now + idle / 3 + 1;
            return true;
        }
        left = *ping_at - now < *heard_at + idle - now ? *ping_at - now : *heard_at + idle - now;
    }
    bool read_peer_now =
        !p->peer_closed && p->to_raw.len < p->buffer_max && p->to_peer.len < 2 * p->buffer_max;
    bool read_raw_now = !p->close_sent && p->to_peer.len < p->buffer_max;
    struct pollfd fds[3] = {
        {p->peer->fd, (short)((read_peer_now ? POLLIN : 0) | (p->to_peer.len ? POLLOUT : 0)), 0},
        {p->raw->fd, (short)((read_raw_now ? POLLIN : 0) | (p->to_raw.len ? POLLOUT : 0)), 0},
        {p->options->stop_fd, POLLIN, 0},
    };
    poll(fds, 3, left > 1000000 ? 1000000 : (int)left);
    if (fds[2].revents) {
        p->end = PUMP_STOPPED;
        send_close(p, WS_STATUS_GOING_AWAY);
        return false;
    }
    /* A side that hung up and is neither read nor written would make poll spin. */
    if ((!fds[0].events && fds[0].revents) || (!fds[1].events && fds[1].revents)) {
        p->end = PUMP_CLOSED;
        send_close(p, WS_STATUS_NORMAL);
        return false;
    }
    return true;
}

static void pump_run(struct pump *p)
{
    int64_t heard_at = clock_mono_ms();
    int64_t ping_at = heard_at + p->options->idle_ms / 3 + 1;
    unsigned busy = 0;
    for (;;) {
        bool moved = false, heard = false;
        if (!run(p, &moved, &heard))
            return;
        if (heard)
            heard_at = clock_mono_ms();
        /* Look at the stop descriptor and the clock now and then even when bytes never cease. */
        if (moved && ++busy % 64 != 0)
            continue;
        if (moved) {
            struct pollfd stop = {.fd = p->options->stop_fd, .events = POLLIN};
            if (poll(&stop, 1, 0) <= 0)
                continue;
        }
        if (!wait_for_more(p, &heard_at, &ping_at))
            return;
    }
}

enum pump_end ws_pump(struct stream *peer, struct stream *raw, const char *early, size_t early_len,
                      const struct ws_pump_options *options)
{
    struct pump p = {.peer = peer, .raw = raw, .options = options, .end = PUMP_CLOSED};
    p.buffer_max = options->buffer_max ? options->buffer_max : (size_t)256 << 10;
    ws_reader_init(&p.reader, true, 0);
    if (early_len > 0) {
        AUTO_FREE char *copy = xmalloc(early_len);
        memcpy(copy, early, early_len);
        take_frames(&p, copy, early_len);
    }
    pump_run(&p);
    flush_close(&p);
    buf_done(&p.to_peer);
    buf_done(&p.to_raw);
    return p.end;
}
