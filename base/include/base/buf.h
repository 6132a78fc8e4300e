/* A growing byte buffer; always NUL-terminated after `len` once anything was added.
 * Not thread-safe. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
    char *data; /* NULL while empty */
    size_t len;
    size_t cap;
};
#define BUF_INIT ((struct buf){0})

void buf_done(struct buf *b);
/* Empties it, keeps the storage. */
void buf_clear(struct buf *b);
/* The slow half of buf_reserve: grows the storage. */
void buf_grow(struct buf *b, size_t more);
/* Makes room for `more` further bytes (and a NUL) and returns where they go; call buf_advance after
 * writing. Any pointer into the buffer got before is invalid afterwards. */
static inline char *buf_reserve(struct buf *b, size_t more)
{
    if (b->cap - b->len <= more)
        buf_grow(b, more);
    return b->data + b->len;
}
static inline void buf_advance(struct buf *b, size_t n)
{
    b->len += n;
    b->data[b->len] = '\0';
}
/* `data` must not point into the buffer itself. */
static inline void buf_add(struct buf *b, const void *data, size_t len)
{
    char *to = buf_reserve(b, len);
    if (len)
        memcpy(to, data, len);
    buf_advance(b, len);
}
static inline void buf_add_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}
static inline void buf_add_char(struct buf *b, char c)
{
    *buf_reserve(b, 1) = c;
    buf_advance(b, 1);
}
void buf_add_int(struct buf *b, int64_t value);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list ap) __attribute__((format(printf, 2, 0)));
/* The bytes as a heap string that the caller frees; the buffer is empty afterwards. Never NULL. */
char *buf_take(struct buf *b);
/* Removes `n` bytes (at most len) from the front. */
void buf_consume(struct buf *b, size_t n);

#define AUTO_BUF __attribute__((cleanup(buf_done)))
