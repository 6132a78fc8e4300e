/* Sending commands and waiting for what the client answers. */
#include "thin.h"

#include "frames.h"
#include <base/clock.h>
#include <base/mem.h>
#include <errno.h>

#define WRITE_MS 60000
/* The client sends Wait every five minutes while it works. */
#define SILENCE_MS (11LL * 60 * 1000)
#define GREETING_MS 30000
#define SLICE_MS 500 /* how often a wait looks whether the server ends */
#define READ_SIZE 65536

struct thin thin_init(struct stream *stream, const _Atomic bool *stop)
{
    return (struct thin){.stream = stream, .stop = stop};
}

void thin_done(struct thin *t)
{
    buf_done(&t->in);
    buf_done(&t->line);
}

static void send_all(struct thin *t, struct buf *out)
{
    if (!t->broken && stream_write_all(t->stream, out->data, out->len, WRITE_MS) < 0)
        t->broken = true;
    buf_done(out);
}

/* Reads until at least one more byte is in. -1: it will not come. */
static int receive(struct thin *t, int64_t silence_ms)
{
    int64_t until = clock_mono_ms() + silence_ms;
    while (!t->broken) {
        char *to = buf_reserve(&t->in, READ_SIZE);
        ssize_t n = stream_read(t->stream, to, READ_SIZE);
        if (n > 0) {
            buf_advance(&t->in, (size_t)n);
            return 0;
        }
        if (n == 0 || errno != EAGAIN || clock_mono_ms() >= until || *t->stop)
            t->broken = true;
        else
            stream_wait_readable(t->stream, SLICE_MS);
    }
    return -1;
}

static int receive_frame(struct thin *t, struct thin_frame *frame)
{
    for (;;) {
        int used = thin_read(t->in.data, t->in.len, frame);
        if (used > 0) {
            buf_consume(&t->in, (size_t)used);
            if (frame->reply != THIN_WAIT)
                return 0;
        } else if (used < 0) {
            t->broken = true;
            return -1;
        } else if (receive(t, SILENCE_MS) < 0) {
            return -1;
        }
    }
}

int thin_greet(struct thin *t)
{
    while (t->in.len < THIN_HELLO_SIZE)
        if (receive(t, GREETING_MS) < 0)
            return -1;
    if (!thin_hello_fits(t->in.data)) {
        t->broken = true;
        return -1;
    }
    buf_consume(&t->in, THIN_HELLO_SIZE);
    return 0;
}

/* ---- text ---- */

static void flush_line(struct thin *t)
{
    struct buf out = BUF_INIT;
    if (t->line.len == 0)
        return;
    thin_write_print(&out, t->line.data, t->line.len);
    buf_clear(&t->line);
    send_all(t, &out);
}

void thin_print(struct thin *t, const char *text, size_t len)
{
    const char *last = memrchr(text, '\n', len);
    if (last) {
        struct buf out = BUF_INIT;
        buf_add(&t->line, text, (size_t)(last - text));
        thin_write_print(&out, t->line.data, t->line.len);
        buf_clear(&t->line);
        send_all(t, &out);
        len -= (size_t)(last + 1 - text);
        text = last + 1;
    }
    buf_add(&t->line, text, len);
}

void thin_print_error(struct thin *t, const char *text, size_t len)
{
    struct buf out = BUF_INIT;
    thin_write_print_error(&out, text, len);
    send_all(t, &out);
}

void thin_exit(struct thin *t, int code)
{
    struct buf out = BUF_INIT;
    flush_line(t);
    thin_write_exit(&out, code);
    send_all(t, &out);
}

/* ---- what the client does ---- */

/* Pieces until the end of them. */
static enum thin_result receive_pieces(struct thin *t, size_t max, struct buf *out)
{
    struct thin_frame frame;
    for (;;) {
        if (receive_frame(t, &frame) < 0)
            return THIN_BROKEN;
        if (frame.reply == THIN_END)
            return THIN_DONE;
        if (frame.reply != THIN_CHUNK || frame.chunk_len > max - out->len) {
            t->broken = true;
            return THIN_BROKEN;
        }
        while (t->in.len < frame.chunk_len)
            if (receive(t, SILENCE_MS) < 0)
                return THIN_BROKEN;
        buf_add(out, t->in.data, frame.chunk_len);
        buf_consume(&t->in, frame.chunk_len);
    }
}

/* Sends the command in `out`, waits for OK or Failed. */
static enum thin_result ask(struct thin *t, struct buf *out)
{
    struct thin_frame frame;
    flush_line(t);
    send_all(t, out);
    if (receive_frame(t, &frame) < 0)
        return THIN_BROKEN;
    if (frame.reply == THIN_OK)
        return THIN_DONE;
    if (frame.reply == THIN_FAILED)
        return THIN_REFUSED;
    t->broken = true;
    return THIN_BROKEN;
}

enum thin_result thin_load(struct thin *t, const char *filename, size_t max, char **data, size_t *len)
{
    struct buf out = BUF_INIT;
    AUTO_BUF struct buf content = BUF_INIT;
    thin_write_load(&out, filename);
    enum thin_result rc = ask(t, &out);
    if (rc == THIN_DONE)
        rc = receive_pieces(t, max, &content);
    if (rc == THIN_DONE) {
        *len = content.len;
        *data = buf_take(&content);
    }
    return rc;
}

enum thin_result thin_prompt(struct thin *t, const char *question, size_t max, char **answer)
{
    struct buf out = BUF_INIT;
    AUTO_BUF struct buf line = BUF_INIT;
    thin_print(t, question, strlen(question));
    flush_line(t);
    thin_write_prompt(&out);
    send_all(t, &out);
    enum thin_result rc = receive_pieces(t, max, &line);
    if (rc != THIN_DONE)
        return rc;
    char *text = buf_take(&line);
    text[strcspn(text, "\r\n")] = '\0';
    *answer = text;
    return THIN_DONE;
}

enum thin_result thin_get(struct thin *t, const char *filename, const char *url)
{
    struct buf out = BUF_INIT;
    thin_write_get(&out, filename, url);
    return ask(t, &out);
}

enum thin_result thin_put(struct thin *t, const char *filename, const char *url)
{
    struct buf out = BUF_INIT;
    thin_write_put(&out, filename, url);
    return ask(t, &out);
}

enum thin_result thin_connect(struct thin *t, const char *url)
{
    struct buf out = BUF_INIT;
    thin_write_connect(&out, url);
    return ask(t, &out);
}
