/* A growing byte buffer; always NUL-terminated after `len` once anything was added.
 * Not thread-safe. */
#pragma once
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* NULL while empty */
    size_t len;
    size_t cap;
};
#define BUF_INIT ((struct buf){0})

void buf_done(struct buf *b);
/* Empties it, keeps the storage. */
void buf_clear(struct buf *b);
/* Makes room for `more` further bytes and returns where they go; call buf_advance after writing. */
char *buf_reserve(struct buf *b, size_t more);
void buf_advance(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_add_int(struct buf *b, int64_t value);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The bytes as a heap string that the caller frees; the buffer is empty afterwards. Never NULL. */
char *buf_take(struct buf *b);
/* Removes `n` bytes from the front. */
void buf_consume(struct buf *b, size_t n);

#define AUTO_BUF __attribute__((cleanup(buf_done)))
