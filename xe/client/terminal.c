/* Consoles: the user's terminal joined with a console web socket (raw mode, a key to leave, and the terminal
 * as it was on every way out), or viewers of a screen that connect to a local port or socket. */
#include "client.h"
#include <base/clock.h>
#include <base/mem.h>
#include <base/websocket.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

enum {
    DETACH = 0x1d,   /* Ctrl-] */
    DRAIN_MS = 1000, /* after stdin ended: so long without output, then leave */
    SEND_MS = 30000, /* a server that takes nothing for so long is gone */
};

static struct termios saved;
static volatile sig_atomic_t raw;

static void restore(void)
{
    if (raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    raw = 0;
}

static void restore_and_die(int number)
{
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

static void make_raw(void)
{
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
        return;
    struct termios t = saved;
    cfmakeraw(&t);
    atexit(restore);
    for (const int *s = (const int[]){SIGTERM, SIGHUP, SIGSEGV, SIGABRT, 0}; *s; s++)
        signal(*s, restore_and_die);
    raw = 1;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
}

struct session {
    int in, out; /* the terminal, or a viewer's connection */
    struct stream *stream;
    struct ws_reader reader;
    bool input_over, over, closed_by_server;
    int64_t quiet_since;
};

static int send_frame(struct session *s, enum ws_opcode opcode, const void *data, size_t len)
{
    AUTO_BUF struct buf b = BUF_INIT;
    uint8_t mask[4];
    if (getrandom(mask, sizeof mask, 0) != sizeof mask)
        return -1;
    ws_write_frame(&b, opcode, data, len, mask);
    return stream_write_all(s->stream, b.data, b.len, SEND_MS);
}

static bool write_out(int fd, const char *data, size_t len)
{
    while (len && !xe_stop) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EAGAIN) {
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 1000);
        } else if (n < 0 && errno != EINTR) {
            return false;
        } else if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static int take_frames(struct session *s, char *data, size_t len)
{
    struct ws_output out;
    for (;;) {
        switch (ws_read(&s->reader, &data, &len, &out)) {
        case WS_NEED_MORE:
            return 0;
        case WS_DATA:
            if (!write_out(s->out, out.data, out.len) && s->out != STDOUT_FILENO)
                s->over = true; /* the viewer has gone */
            s->quiet_since = clock_mono_ms();
            break;
        case WS_CONTROL:
            if (out.opcode == WS_PING && send_frame(s, WS_PONG, out.data, out.len) < 0)
                return -1;
            if (out.opcode == WS_CLOSE) {
                s->over = s->closed_by_server = true;
                return 0;
            }
            break;
        case WS_ERROR:
            return -1;
        }
    }
}

/* Everything that waits on the stream. */
static int from_server(struct session *s)
{
    char piece[16384];
    for (;;) {
        ssize_t n = stream_read(s->stream, piece, sizeof piece);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0) {
            s->over = s->closed_by_server = true;
            return 0;
        }
        if (take_frames(s, piece, (size_t)n) < 0 || s->over)
            return s->over ? 0 : -1;
    }
}

static int from_user(struct session *s)
{
    char piece[4096];
    ssize_t n = read(s->in, piece, sizeof piece);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0) {
        s->over |= s->in != STDIN_FILENO;
        s->input_over = true;
        s->quiet_since = clock_mono_ms();
        return 0;
    }
    char *leave = raw ? memchr(piece, DETACH, (size_t)n) : NULL;
    size_t len = leave ? (size_t)(leave - piece) : (size_t)n;
    if (leave)
        s->over = true;
    return len ? send_frame(s, WS_BINARY, piece, len) : 0;
}

static int join(struct session *s)
{
    if (from_server(s) < 0)
        return -1;
    while (!s->over && !xe_stop) {
        struct pollfd fds[] = {{.fd = s->stream->fd, .events = POLLIN},
                               {.fd = s->input_over ? -1 : s->in, .events = POLLIN}};
        int wait = 1000;
        if (s->input_over) {
            int64_t left = s->quiet_since + DRAIN_MS - clock_mono_ms();
            if (left <= 0)
                return 0;
            wait = (int)left;
        }
        if (poll(fds, 2, wait) < 0 && errno != EINTR)
            return -1;
        if (fds[1].revents && from_user(s) < 0)
            return -1;
        if (fds[0].revents && from_server(s) < 0)
            return -1;
    }
    return 0;
}

static void websocket_key(char out[static 25])
{
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        memset(bytes, 'x', sizeof bytes);
    AUTO_FREE char *text = base64_encode(bytes, sizeof bytes);
    snprintf(out, 25, "%s", text);
}

static int opening_failed(struct xe_client *c, unsigned status, const struct http_error *error,
                          struct xe_err *err)
{
    if (status == 404)
        xe_err_set(err, XE_ERR_CLI, "the console is gone; does the VM still run?");
    else if (status == 502)
        xe_err_set(err, XE_ERR_CLI,
                   "the VM's host does not answer; 'xe host-list params=name-label,host-metrics-live' "
                   "tells which do");
    else if (status == 503)
        xe_err_set(err, XE_ERR_CLI, "the console is in use and the pool allows one session at a time");
    else if (status)
        xe_err_set(err, XE_ERR_PLAIN, "The server refused the console with HTTP status %u.", status);
    else
        xe_http_failed(c, error, err);
    return -1;
}

/* Opens the web socket of a console. */
static int open_console(struct xe_client *c, const char *path, struct session *s, struct xe_err *err)
{
    struct http_error error;
    unsigned status = 0;
    char key[25];
    if (xe_rpc_login(c, err) < 0)
        return -1;
    websocket_key(key);
    const struct http_header headers[] = {{"Sec-WebSocket-Key", key},
                                          {"Sec-WebSocket-Version", "13"},
                                          {"Sec-WebSocket-Protocol", "binary"},
                                          {"Cookie", c->cookie},
                                          {NULL, NULL}};
    if (http_client_upgrade(c->http, path, "websocket", headers, 30000, &s->stream, &status, &error) < 0)
        return opening_failed(c, status, &error, err);
    ws_reader_init(&s->reader, false, 0);
    return 0;
}

/* A closing frame is good manners; the connection ends either way. */
static void close_console(struct xe_client *c, struct session *s)
{
    if (!s->closed_by_server && send_frame(s, WS_CLOSE, "\x03\xe8", 2) < 0)
        xe_debug(c, "the console was not closed in order");
    stream_close(s->stream);
}

int xe_console(void *ctx, const char *path, struct xe_err *err)
{
    struct xe_client *c = ctx;
    struct session s = {.in = STDIN_FILENO, .out = STDOUT_FILENO};
    if (open_console(c, path, &s, err) < 0)
        return -1;
    make_raw();
    if (raw)
        fprintf(stderr, "Connected to the console; press Ctrl-] to leave it.\r\n");
    int rc = join(&s);
    close_console(c, &s);
    bool terminal = raw;
    restore();
    if (terminal)
        fprintf(stderr, "\n%s\n",
                s.closed_by_server ? "The console was closed by the server." : "Left the console.");
    if (rc < 0) {
        xe_err_set(err, XE_ERR_TRANSPORT, "The console's connection broke.");
        return -1;
    }
    return 0;
}

/* ---- screens ---- */

/* Listens at a path, or at a port of the loopback address (0: any free one). Says where. */
static int listen_at(const char *where, char **told, struct xe_err *err)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(port);
    bool is_path = strchr(where, '/') != NULL;
    char *end;
    long number = strtol(where, &end, 10);
    if (is_path ? strlen(where) >= sizeof(local.sun_path)
                : *end || end == where || number < 0 || number > 65535) {
        xe_err_set(err, XE_ERR_CLI, "listen must be a port or the path of a socket, not '%s'", where);
        return -1;
    }
    AUTO_CLOSE int fd = socket(is_path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    port.sin_port = htons((uint16_t)number);
    if (is_path)
        strcpy(local.sun_path, where);
    mode_t mask = umask(0177); /* the socket is its user's alone */
    int rc = fd < 0    ? -1
             : is_path ? bind(fd, (struct sockaddr *)&local, sizeof(local))
                       : bind(fd, (struct sockaddr *)&port, sizeof(port));
    umask(mask);
    if (rc < 0 || listen(fd, 4) < 0 || (!is_path && getsockname(fd, (struct sockaddr *)&port, &len) < 0)) {
        xe_err_set(err, XE_ERR_CLI, "%s: %s", where, strerror(errno));
        return -1;
    }
    *told = is_path ? xstrdup(where) : xasprintf("127.0.0.1:%u", ntohs(port.sin_port));
    return TAKE_FD(fd);
}

static int show_to(struct xe_client *c, const char *path, int viewer, struct xe_err *err)
{
    struct session s = {.in = viewer, .out = viewer};
    if (open_console(c, path, &s, err) < 0)
        return -1;
    int rc = join(&s);
    close_console(c, &s);
    if (rc == 0)
        return 0;
    xe_err_set(err, XE_ERR_TRANSPORT, "The console's connection broke.");
    return -1;
}

int xe_screen(void *ctx, const char *path, const char *where, bool once, struct xe_err *err)
{
    struct xe_client *c = ctx;
    AUTO_FREE char *told = NULL;
    int rc = 0;
    if (xe_rpc_login(c, err) < 0)
        return -1;
    AUTO_CLOSE int fd = listen_at(where, &told, err);
    if (fd < 0)
        return -1;
    printf("%s\n", told);
    fflush(stdout);
    while (rc == 0 && !xe_stop) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, 1000) <= 0)
            continue;
        AUTO_CLOSE int viewer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (viewer < 0)
            continue;
        rc = show_to(c, path, viewer, err);
        if (once)
            break;
    }
    if (strchr(where, '/'))
        unlink(where);
    return rc;
}
