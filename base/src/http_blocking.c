/* The blocking ends of bodies: a ring of bytes between a server thread, which must never wait, and a
 * worker thread, which may. Freed when both have let go. */
#include <base/clock.h>
#include <base/http_server.h>
#include <base/mem.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

/* libmicrohttpd hands on at most this in one piece. */
#define READER_SPARE 65536

struct ring {
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    unsigned refs;
    char *data;
    size_t size, start, len;
    size_t
        window;  /* a reader's: from here on nothing more is wanted; the rest of `size` is for late comers */
    bool ended;  /* the writing side has written all */
    bool lost;   /* the server's side is gone, or failed */
    bool let_go; /* the worker's side is gone */
    bool was_full; /* reader: the connection sleeps until there is room */
    bool fail;     /* writer: cut the connection */
    struct http_request *req;
};
struct http_reader {
    struct ring ring;
    bool answered;
};
struct http_writer {
    struct ring ring;
};

static void ring_init(struct ring *r, struct http_request *req, size_t window)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&r->lock, NULL);
    r->refs = 2;
    r->size = window < 4096 ? 4096 : window;
    r->data = xmalloc(r->size);
    r->req = http_request_ref(req);
}

static void ring_unref(struct ring *r)
{
    pthread_mutex_lock(&r->lock);
    bool last = --r->refs == 0;
    pthread_mutex_unlock(&r->lock);
    if (!last)
        return;
    http_request_unref(r->req);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r->data);
    free(r);
}

static size_t ring_put(struct ring *r, const char *data, size_t len)
{
    size_t put = 0;
    while (put < len && r->len < r->size) {
        size_t end = (r->start + r->len) % r->size;
        size_t run = end < r->start ? r->start - end : r->size - end;
        run = run < len - put ? run : len - put;
        memcpy(r->data + end, data + put, run);
        r->len += run;
        put += run;
    }
    return put;
}

static size_t ring_get(struct ring *r, char *to, size_t max)
{
    size_t got = 0;
    while (got < max && r->len > 0) {
        size_t run = r->start + r->len <= r->size ? r->len : r->size - r->start;
        run = run < max - got ? run : max - got;
        memcpy(to + got, r->data + r->start, run);
        r->start = (r->start + run) % r->size;
        r->len -= run;
        got += run;
    }
    return got;
}

/* With the lock. False: the time is over. */
static bool ring_wait(struct ring *r, int64_t timeout_ms)
{
    if (timeout_ms < 0)
        return pthread_cond_wait(&r->changed, &r->lock) == 0;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += timeout_ms / 1000;
    end.tv_nsec += timeout_ms % 1000 * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    return pthread_cond_timedwait(&r->changed, &r->lock, &end) == 0;
}

/* ---- request body to worker ---- */

static size_t reader_take(void *arg, const char *data, size_t len)
{
    struct ring *r = arg;
    pthread_mutex_lock(&r->lock);
    size_t put = r->let_go ? len : ring_put(r, data, len);
    r->was_full = put < len;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return put;
}

static void reader_end(void *arg, bool ok)
{
    struct ring *r = arg;
    pthread_mutex_lock(&r->lock);
    if (ok)
        r->ended = true;
    else
        r->lost = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    ring_unref(r);
}

static bool reader_full(void *arg)
{
    struct ring *r = arg;
    pthread_mutex_lock(&r->lock);
    bool full = !r->let_go && r->len >= r->window;
    if (full)
        r->was_full = true;
    pthread_mutex_unlock(&r->lock);
    return full;
}

static const struct http_body_sink reader_sink = {
    .take = reader_take, .end = reader_end, .full = reader_full};

struct http_reader *http_reader_open(struct http_request *req, size_t window)
{
    struct http_reader *reader = xcalloc(1, sizeof(*reader));
    ring_init(&reader->ring, req, window + READER_SPARE);
    reader->ring.window = window;
    http_stream_body(req, &reader_sink, &reader->ring);
    return reader;
}

struct http_reader *http_reader_open_answered(struct http_request *req, const struct http_header *headers,
                                              size_t window)
{
    struct http_reader *reader = xcalloc(1, sizeof(*reader));
    ring_init(&reader->ring, req, window + READER_SPARE);
    reader->ring.window = window;
    reader->answered = true;
    if (!http_stream_body_answered(req, headers, &reader_sink, &reader->ring))
        reader_end(&reader->ring, false);
    http_request_unref(req); /* the answer's */
    return reader;
}

ssize_t http_reader_read(struct http_reader *reader, void *to, size_t max, int64_t timeout_ms)
{
    struct ring *r = &reader->ring;
    bool in_time = true;
    pthread_mutex_lock(&r->lock);
    while (r->len == 0 && !r->ended && !r->lost && in_time)
        in_time = ring_wait(r, timeout_ms);
    size_t got = ring_get(r, to, max);
    bool wake = got > 0 && r->was_full;
    if (wake)
        r->was_full = false;
    bool ended = r->ended, lost = r->lost;
    pthread_mutex_unlock(&r->lock);
    if (wake)
        http_body_wake(r->req);
    if (got > 0)
        return (ssize_t)got;
    if (ended)
        return 0;
    errno = lost ? ECONNRESET : ETIMEDOUT;
    return -1;
}

void http_reader_close(struct http_reader *reader)
{
    struct ring *r = &reader->ring;
    pthread_mutex_lock(&r->lock);
    r->let_go = true;
    r->len = 0;
    pthread_mutex_unlock(&r->lock);
    if (reader->answered)
        http_body_finish(r->req);
    else
        http_body_wake(r->req);
    ring_unref(r);
}

/* ---- worker to answer ---- */

static ssize_t writer_produce(void *arg, char *to, size_t max)
{
    struct ring *r = arg;
    pthread_mutex_lock(&r->lock);
    size_t got = ring_get(r, to, max);
    ssize_t result = got > 0 ? (ssize_t)got : r->fail ? HTTP_PRODUCER_FAIL : r->ended ? HTTP_PRODUCER_END : 0;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return result;
}

static void writer_done(void *arg)
{
    struct ring *r = arg;
    pthread_mutex_lock(&r->lock);
    r->lost = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    ring_unref(r);
}

static const struct http_producer writer_producer = {writer_produce, writer_done};

struct http_writer *http_writer_open(struct http_request *req, unsigned status,
                                     const struct http_header *headers, int64_t length, size_t window)
{
    struct http_writer *writer = xcalloc(1, sizeof(*writer));
    ring_init(&writer->ring, req, window);
    http_answer_stream(req, status, headers, length, &writer_producer, &writer->ring);
    return writer;
}

ssize_t http_writer_put(struct http_writer *writer, const void *data, size_t len, int64_t timeout_ms)
{
    struct ring *r = &writer->ring;
    bool in_time = true;
    pthread_mutex_lock(&r->lock);
    while (r->len == r->size && !r->lost && in_time)
        in_time = ring_wait(r, timeout_ms);
    bool lost = r->lost;
    size_t put = lost ? 0 : ring_put(r, data, len);
    pthread_mutex_unlock(&r->lock);
    if (put == 0) {
        errno = lost ? EPIPE : ETIMEDOUT;
        return -1;
    }
    http_producer_wake(r->req);
    return (ssize_t)put;
}

int http_writer_write(struct http_writer *writer, const void *data, size_t len, int64_t timeout_ms)
{
    const char *from = data;
    while (len > 0) {
        ssize_t put = http_writer_put(writer, from, len, timeout_ms);
        if (put < 0)
            return -1;
        from += put;
        len -= (size_t)put;
    }
    return 0;
}

void http_writer_close(struct http_writer *writer, bool ok)
{
    struct ring *r = &writer->ring;
    pthread_mutex_lock(&r->lock);
    r->ended = true;
    r->fail = !ok;
    if (!ok)
        r->len = 0;
    pthread_mutex_unlock(&r->lock);
    http_producer_wake(r->req);
    ring_unref(r);
}
