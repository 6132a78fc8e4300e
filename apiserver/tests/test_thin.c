/* Frames of the thin command-line protocol, byte by byte. */
#include <base/mem.h>
#include <cli/frames.h>
#include <criterion/criterion.h>

#define BYTES(text) text, sizeof(text) - 1

static void expect(struct buf *out, const char *bytes, size_t len)
{
    cr_expect_eq(out->len, len);
    cr_expect(out->len == len && memcmp(out->data, bytes, len) == 0);
    buf_done(out);
}

Test(thin, commands)
{
    struct buf out = BUF_INIT;
    thin_write_hello(&out);
    expect(&out, BYTES("XenSource thin CLI protocol\0\0\0\0\2\0\0\0"));
    thin_write_print(&out, "hi", 2);
    expect(&out, BYTES("\x0e\0\0\0\x09\0\0\0\0\0\0\0\2\0\0\0hi"));
    thin_write_print_error(&out, "", 0);
    expect(&out, BYTES("\x0c\0\0\0\x09\0\0\0\x10\0\0\0\0\0\0\0"));
    thin_write_load(&out, "a");
    expect(&out, BYTES("\x0d\0\0\0\x09\0\0\0\x01\0\0\0\x01\0\0\0"
                       "a"));
    thin_write_prompt(&out);
    expect(&out, BYTES("\x08\0\0\0\x09\0\0\0\x03\0\0\0"));
    thin_write_get(&out, "f", "/u");
    expect(&out, BYTES("\x13\0\0\0\x09\0\0\0\x0c\0\0\0\x01\0\0\0"
                       "f\x02\0\0\0/u"));
    thin_write_put(&out, "f", "/u");
    expect(&out, BYTES("\x13\0\0\0\x09\0\0\0\x0d\0\0\0\x01\0\0\0"
                       "f\x02\0\0\0/u"));
    thin_write_connect(&out, "/u");
    expect(&out, BYTES("\x0e\0\0\0\x09\0\0\0\x11\0\0\0\x02\0\0\0/u"));
    thin_write_exit(&out, 1);
    expect(&out, BYTES("\x0c\0\0\0\x09\0\0\0\x04\0\0\0\x01\0\0\0"));
}

Test(thin, answers)
{
    static const struct {
        const char *bytes;
        size_t len;
        int used;
        enum thin_reply reply;
        size_t chunk_len;
    } table[] = {
        {BYTES("\x08\0\0\0\x0a\0\0\0\x05\0\0\0"), 12, THIN_OK, 0},
        {BYTES("\x08\0\0\0\x0a\0\0\0\x06\0\0\0more"), 12, THIN_FAILED, 0},
        {BYTES("\x08\0\0\0\x0a\0\0\0\x12\0\0\0"), 12, THIN_WAIT, 0},
        {BYTES("\x0c\0\0\0\x0b\0\0\0\x07\0\0\0\x03\0\0\0abc"), 16, THIN_CHUNK, 3},
        {BYTES("\x08\0\0\0\x0b\0\0\0\x08\0\0\0"), 12, THIN_END, 0},
        {BYTES(""), 0, 0, 0},
        {BYTES("\x08\0\0"), 0, 0, 0},
        {BYTES("\x0c\0\0\0\x0b\0\0\0\x07\0\0\0\x03\0\0"), 0, 0, 0},
        {BYTES("\x08\0\0\0\x09\0\0\0\x05\0\0\0"), -1, 0, 0},                 /* a command */
        {BYTES("\x08\0\0\0\x0a\0\0\0\x07\0\0\0"), -1, 0, 0},                 /* no such response */
        {BYTES("\x0c\0\0\0\x0a\0\0\0\x05\0\0\0\0\0\0\0"), -1, 0, 0},         /* too long */
        {BYTES("\x08\0\0\0\x0b\0\0\0\x07\0\0\0"), -1, 0, 0},                 /* a piece without length */
        {BYTES("\x0c\0\0\0\x0b\0\0\0\x07\0\0\0\xff\xff\xff\xff"), -1, 0, 0}, /* a piece of -1 bytes */
        {BYTES("\xff\xff\xff\xff"), -1, 0, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct thin_frame frame = {.reply = 99};
        cr_expect_eq(thin_read(table[i].bytes, table[i].len, &frame), table[i].used, "row %zu", i);
        if (table[i].used > 0) {
            cr_expect_eq(frame.reply, table[i].reply, "row %zu", i);
            cr_expect(frame.reply != THIN_CHUNK || frame.chunk_len == table[i].chunk_len, "row %zu", i);
        }
    }
}
