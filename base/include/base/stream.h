/* A two-way stream of bytes that never blocks: a descriptor, a connection upgraded by the HTTP server,
 * or one by the HTTP client. One thread at a time uses a stream. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stream {
    const struct stream_ops *ops;
    int fd; /* for poll(2). Read until EAGAIN before polling: bytes may wait above the descriptor */
};

struct stream_ops {
    /* > 0: bytes moved; 0: end of stream (read only); -1 with errno, EAGAIN when it would block. */
    ssize_t (*read)(struct stream *s, void *to, size_t max);
    ssize_t (*write)(struct stream *s, const void *from, size_t len);
    /* Tells the other side that nothing more comes, where the transport can; may be NULL. */
    void (*shut_write)(struct stream *s);
    /* Ends the connection and frees the stream. */
    void (*close)(struct stream *s);
};

/* Takes over `fd` (made non-blocking) and gives a heap stream. */
struct stream *stream_from_fd(int fd);
ssize_t stream_read(struct stream *s, void *to, size_t max);
ssize_t stream_write(struct stream *s, const void *from, size_t len);
/* NULL is accepted. */
void stream_close(struct stream *s);
/* Writes all of it within the time (-1: no limit). 0, or -1 with errno (ETIMEDOUT). */
int stream_write_all(struct stream *s, const void *from, size_t len, int64_t timeout_ms);
/* Waits until it can be read (or ended). 1, or 0 when the time is over. Call only after read gave EAGAIN. */
int stream_wait_readable(struct stream *s, int64_t timeout_ms);

/* Why a pump ended. */
enum pump_end { PUMP_CLOSED, PUMP_STOPPED, PUMP_FAILED, PUMP_IDLE };
/* Carries bytes both ways until one side has ended and what it sent is delivered, `stop_fd` (an eventfd, -1:
 * none) becomes readable, or `idle_ms` (-1: no limit) pass without a byte. Closes neither. Blocks: for a
 * thread of its own. */
enum pump_end stream_pump(struct stream *a, struct stream *b, int stop_fd, int64_t idle_ms);
