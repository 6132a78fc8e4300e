/* A still screen for the page's viewer: RFB 3.8 (RFC 6143) without security, one colour, raw encoding. */
#include "sim.h"
#include <base/buf.h>
#include <base/mem.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define WIDTH 160
#define HEIGHT 100
#define INPUT_MAX 65536

enum rfb_phase { RFB_VERSION, RFB_SECURITY, RFB_INIT, RFB_RUN };

struct sim_screen {
    struct loop *loop;
    struct loop_source *source;
    int fd;
    enum rfb_phase phase;
    struct buf in;
    struct sim_screen *next, **link;
};

static void rfb_close(struct sim_screen *r)
{
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    loop_remove(r->source);
    close(r->fd);
    buf_done(&r->in);
    free(r);
}

/* A viewer that does not take the little that is sent is dropped. */
static bool put(struct sim_screen *r, const void *data, size_t len)
{
    return send(r->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

static bool put_init(struct sim_screen *r)
{
    static const unsigned char init[] = {0,   WIDTH, 0,   HEIGHT, 32,  24,  0,   1,   0,   255, 0,
                                         255, 0,     255, 16,     8,   0,   0,   0,   0,   0,   0,
                                         0,   9,     'S', 'i',    'm', 'u', 'l', 'a', 't', 'e', 'd'};
    return put(r, init, sizeof(init));
}

static bool put_screen(struct sim_screen *r)
{
    static const unsigned char head[] = {0, 0, 0, 1, 0, 0, 0, 0, 0, WIDTH, 0, HEIGHT, 0, 0, 0, 0};
    static uint32_t pixels[WIDTH * HEIGHT];
    for (size_t i = 0; i < ARRAY_LEN(pixels); i++)
        pixels[i] = 0x00204060;
    return put(r, head, sizeof(head)) && put(r, pixels, sizeof(pixels));
}

/* Length of the client's message at the front; 0: not whole yet; -1: none that is known. */
static long message_len(const struct buf *in)
{
    const unsigned char *p = (const unsigned char *)in->data;
    size_t need;
    switch (p[0]) {
    case 0:
        need = 20;
        break;
    case 2:
        need = in->len < 4 ? 4 : 4 + 4u * ((unsigned)p[2] << 8 | p[3]);
        break;
    case 3:
        need = 10;
        break;
    case 4:
        need = 8;
        break;
    case 5:
        need = 6;
        break;
    case 6:
        need = in->len < 8 ? 8 : 8 + ((size_t)p[4] << 24 | (size_t)p[5] << 16 | (size_t)p[6] << 8 | p[7]);
        break;
    default:
        return -1;
    }
    if (need > INPUT_MAX)
        return -1;
    return in->len < need ? 0 : (long)need;
}

/* False: the viewer is to be dropped. */
static bool digest(struct sim_screen *r)
{
    static const unsigned char security[] = {1, 1}, security_ok[] = {0, 0, 0, 0};
    for (;;) {
        if (r->phase == RFB_VERSION && r->in.len >= 12) {
            buf_consume(&r->in, 12);
            r->phase = RFB_SECURITY;
            if (!put(r, security, sizeof(security)))
                return false;
        } else if (r->phase == RFB_SECURITY && r->in.len >= 1) {
            buf_consume(&r->in, 1);
            r->phase = RFB_INIT;
            if (!put(r, security_ok, sizeof(security_ok)))
                return false;
        } else if (r->phase == RFB_INIT && r->in.len >= 1) {
            buf_consume(&r->in, 1);
            r->phase = RFB_RUN;
            if (!put_init(r))
                return false;
        } else if (r->phase == RFB_RUN && r->in.len >= 1) {
            long len = message_len(&r->in);
            bool full = r->in.data[0] == 3 && len > 0 && r->in.data[1] == 0;
            if (len < 0 || (full && !put_screen(r)))
                return false;
            if (len == 0)
                return true;
            buf_consume(&r->in, (size_t)len);
        } else {
            return true;
        }
    }
}

static void ready(void *arg, uint32_t events)
{
    struct sim_screen *r = arg;
    ssize_t n = recv(r->fd, buf_reserve(&r->in, 4096), 4096, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR) && !(events & (EPOLLERR | EPOLLHUP)))
        return;
    if (n > 0)
        buf_advance(&r->in, (size_t)n);
    if (n <= 0 || r->in.len > INPUT_MAX || !digest(r))
        rfb_close(r);
}

int sim_screen_open(struct loop *loop, struct sim_screen **list, int *fd)
{
    int pair[2], size = 256 * 1024;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    struct sim_screen *r = xcalloc(1, sizeof(*r));
    *r = (struct sim_screen){.loop = loop, .fd = pair[0], .next = *list, .link = list};
    if (setsockopt(r->fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) < 0 /* a screen fits */
        || !put(r, "RFB 003.008\n", 12) || !(r->source = loop_add(loop, r->fd, EPOLLIN, ready, r))) {
        int failure = errno;
        close(pair[0]);
        close(pair[1]);
        free(r);
        errno = failure;
        return -1;
    }
    if (r->next)
        r->next->link = &r->next;
    *list = r;
    *fd = pair[1];
    return 0;
}

void sim_screens_close(struct sim_screen **list)
{
    while (*list)
        rfb_close(*list);
}
