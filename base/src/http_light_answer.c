/* Answers of HTTP/1.1 for the light client: head, and body by length, in chunks or up to the end. */
#include "http_light_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HEAD_MAX ((size_t)64 << 10)
#define LINE_MAX_BYTES 1024
#define PIECE ((size_t)64 << 10)

enum framing { BY_LENGTH, BY_CHUNKS, BY_END };
struct frame {
    enum framing framing;
    uint64_t length;
};

static int lost(const struct answer *a, struct http_error *error)
{
    return client_fail(error, HTTP_LOST,
                       a->started ? "the connection was closed in the middle of the answer"
                                  : "the connection was closed without an answer");
}

static int odd(struct http_error *error)
{
    return client_fail(error, HTTP_PROTOCOL, "the answer is not HTTP");
}

int answer_peek(struct answer *a, struct http_error *error)
{
    char piece[16384];
    ssize_t n = stream_read(a->stream, piece, sizeof(piece));
    if (n > 0) {
        buf_add(&a->in, piece, (size_t)n);
        a->started = true;
        a->patience->moved_ms = clock_mono_ms();
        return 1;
    }
    return n < 0 && errno == EAGAIN ? 0 : lost(a, error);
}

/* Waits for more. */
static int fill(struct answer *a, struct http_error *error)
{
    int n;
    while ((n = answer_peek(a, error)) == 0)
        if (patience_wait(a->patience, a->stream->fd, POLLIN, error) < 0)
            return -1;
    return n < 0 ? -1 : 0;
}

/* ---- the head ---- */

static char *head_end(const struct answer *a)
{
    return a->in.len ? memmem(a->in.data, a->in.len, "\r\n\r\n", 4) : NULL;
}

bool answer_has_head(const struct answer *a, unsigned *status)
{
    *status = head_end(a) ? client_status_of(a->in.data) : 0;
    return *status >= 200;
}

/* The value of a header line if it has this name, else NULL; `line` ends with NUL. */
static const char *value_of(const char *line, const char *name)
{
    size_t len = strlen(name);
    if (strncasecmp(line, name, len) != 0 || line[len] != ':')
        return NULL;
    for (line += len + 1; *line == ' ' || *line == '\t'; line++)
        continue;
    return line;
}

static bool parse_length(const char *text, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    *out = n;
    return errno == 0 && !end[strspn(end, " \t")] && n <= INT64_MAX;
}

static void keep(char **to, const char *value)
{
    if (!*to)
        *to = xstrdup(value);
}

static int take_line(struct answer *a, const char *line, struct frame *frame, struct http_error *error)
{
    const char *value;
    if ((value = value_of(line, "Content-Length"))) {
        uint64_t before = frame->length;
        bool again = frame->framing == BY_LENGTH;
        if (!parse_length(value, &frame->length) || (again && before != frame->length))
            return odd(error);
        if (frame->framing == BY_END)
            frame->framing = BY_LENGTH;
    } else if ((value = value_of(line, "Transfer-Encoding"))) {
        if (strcasecmp(value, "chunked") != 0)
            return client_fail(error, HTTP_PROTOCOL, "the answer comes in an unknown encoding");
        frame->framing = BY_CHUNKS;
    } else if ((value = value_of(line, "Connection"))) {
        a->reusable = a->reusable && strcasecmp(value, "close") != 0;
    } else if ((value = value_of(line, "Content-Type"))) {
        keep(&a->reply->content_type, value);
    } else if ((value = value_of(line, "Location"))) {
        keep(&a->reply->location, value);
    } else if ((value = value_of(line, "ETag"))) {
        keep(&a->reply->etag, value);
    } else if ((value = value_of(line, "Content-Range"))) {
        keep(&a->reply->content_range, value);
    }
    return 0;
}

static int parse_head(struct answer *a, char *head, struct frame *frame, struct http_error *error)
{
    char *line = strsep(&head, "\n");
    a->reply->status = client_status_of(line);
    if (!a->reply->status && sscanf(line, "HTTP/1.0 %3u", &a->reply->status) != 1)
        return odd(error);
    a->reusable = strncmp(line, "HTTP/1.1", 8) == 0;
    *frame = (struct frame){.framing = BY_END};
    while ((line = strsep(&head, "\n"))) {
        line[strcspn(line, "\r")] = '\0';
        if (take_line(a, line, frame, error) < 0)
            return -1;
    }
    unsigned status = a->reply->status;
    if (status == 204 || status == 304 || (a->call->method && streq(a->call->method, "HEAD")))
        *frame = (struct frame){.framing = BY_LENGTH};
    a->reusable = a->reusable && frame->framing != BY_END;
    return 0;
}

static int read_head(struct answer *a, struct frame *frame, struct http_error *error)
{
    char *end;
    while (!(end = head_end(a))) {
        if (a->in.len > HEAD_MAX)
            return odd(error);
        if (fill(a, error) < 0)
            return -1;
    }
    size_t len = (size_t)(end - a->in.data);
    if (memchr(a->in.data, '\0', len))
        return odd(error);
    AUTO_FREE char *head = xstrndup(a->in.data, len);
    buf_consume(&a->in, len + 4);
    return parse_head(a, head, frame, error);
}

/* ---- the body ---- */

static int gave_up(struct http_error *error)
{
    return client_fail(error, HTTP_CALLBACK, "the transfer was given up on this side");
}

static int deliver(struct answer *a, const char *data, size_t len, struct http_error *error)
{
    const struct http_call *call = a->call;
    if (call->sink && a->reply->status >= 200 && a->reply->status < 300) {
        if (call->head && !a->head_shown && call->head(call->arg, a->reply) < 0)
            return gave_up(error);
        a->head_shown = true;
        return call->sink(call->arg, data, len) == 0 ? 0 : gave_up(error);
    }
    if (len > a->body_max - a->reply->body.len)
        return client_fail(error, HTTP_TOO_LARGE, "the answer is longer than allowed");
    buf_add(&a->reply->body, data, len);
    return 0;
}

/* Up to `len` bytes from what was read. */
static int deliver_some(struct answer *a, uint64_t *len, struct http_error *error)
{
    size_t n = a->in.len < *len ? a->in.len : (size_t)*len;
    if (n && deliver(a, a->in.data, n, error) < 0)
        return -1;
    buf_consume(&a->in, n);
    *len -= n;
    return 0;
}

static int by_length(struct answer *a, uint64_t len, struct http_error *error)
{
    for (;;) {
        if (deliver_some(a, &len, error) < 0)
            return -1;
        if (len == 0)
            return 0;
        if (fill(a, error) < 0)
            return -1;
    }
}

static int by_end(struct answer *a, struct http_error *error)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    uint64_t all = UINT64_MAX;
    for (;;) {
        if (deliver_some(a, &all, error) < 0)
            return -1;
        ssize_t n = stream_read(a->stream, piece, PIECE);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EAGAIN)
            return lost(a, error);
        if (n < 0 && patience_wait(a->patience, a->stream->fd, POLLIN, error) < 0)
            return -1;
        if (n > 0) {
            a->patience->moved_ms = clock_mono_ms();
            if (deliver(a, piece, (size_t)n, error) < 0)
                return -1;
        }
    }
}

/* A line without its end, in `line`. */
static int read_line(struct answer *a, char line[static LINE_MAX_BYTES], struct http_error *error)
{
    char *end;
    while (!(end = a->in.len ? memchr(a->in.data, '\n', a->in.len) : NULL)) {
        if (a->in.len >= LINE_MAX_BYTES)
            return odd(error);
        if (fill(a, error) < 0)
            return -1;
    }
    size_t len = (size_t)(end - a->in.data);
    if (len >= LINE_MAX_BYTES)
        return odd(error);
    memcpy(line, a->in.data, len);
    line[len] = '\0';
    line[strcspn(line, "\r")] = '\0';
    buf_consume(&a->in, len + 1);
    return 0;
}

static int by_chunks(struct answer *a, struct http_error *error)
{
    char line[LINE_MAX_BYTES];
    for (;;) {
        char *end;
        if (read_line(a, line, error) < 0)
            return -1;
        errno = 0;
        unsigned long long len = strtoull(line, &end, 16);
        if (!isxdigit((unsigned char)line[0]) || errno || len > INT64_MAX ||
            (end[strspn(end, " \t")] && end[strspn(end, " \t")] != ';'))
            return odd(error);
        if (len == 0)
            break;
        if (by_length(a, len, error) < 0 || read_line(a, line, error) < 0)
            return -1;
        if (line[0])
            return odd(error);
    }
    do { /* trailers */
        if (read_line(a, line, error) < 0)
            return -1;
    } while (line[0]);
    return 0;
}

int answer_read(struct answer *a, struct http_error *error)
{
    struct frame frame = {0};
    do {
        http_reply_done(a->reply);
        if (read_head(a, &frame, error) < 0)
            return -1;
    } while (a->reply->status < 200);
    switch (frame.framing) {
    case BY_LENGTH:
        return by_length(a, frame.length, error);
    case BY_CHUNKS:
        return by_chunks(a, error);
    case BY_END:
        break;
    }
    return by_end(a, error);
}
