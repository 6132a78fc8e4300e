/* The growing byte buffer: growth by doubling, formatted and decimal output. */
#include <base/buf.h>
#include <base/mem.h>
#include <stdio.h>

void buf_done(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT;
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    if (b->data)
        b->data[0] = '\0';
}

void buf_grow(struct buf *b, size_t more)
{
    size_t need, cap = b->cap ? b->cap : 64;
    if (__builtin_add_overflow(b->len, more, &need) || need >= SIZE_MAX / 2)
        need = SIZE_MAX - 1; /* cannot be had: xrealloc ends the process */
    while (cap <= need)
        cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
    b->data = xrealloc(b->data, cap);
    b->cap = cap;
}

void buf_add_int(struct buf *b, int64_t value)
{
    char text[20], *p = text + sizeof(text);
    uint64_t n = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do
        *--p = (char)('0' + n % 10);
    while (n /= 10);
    if (value < 0)
        *--p = '-';
    buf_add(b, p, (size_t)(text + sizeof(text) - p));
}

void buf_vprintf(struct buf *b, const char *format, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    char *to = buf_reserve(b, 127);
    size_t room = b->cap - b->len;
    int n = vsnprintf(to, room, format, ap);
    if (n >= 0 && (size_t)n >= room) {
        to = buf_reserve(b, (size_t)n);
        vsnprintf(to, (size_t)n + 1, format, again);
    }
    va_end(again);
    if (n < 0)
        abort(); /* only a broken format string or wide characters can do this */
    buf_advance(b, (size_t)n);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    buf_vprintf(b, format, ap);
    va_end(ap);
}

char *buf_take(struct buf *b)
{
    char *data = b->data;
    if (!data)
        return xstrdup("");
    data[b->len] = '\0';
    *b = BUF_INIT;
    return data;
}

void buf_consume(struct buf *b, size_t n)
{
    if (n >= b->len) {
        buf_clear(b);
        return;
    }
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}
