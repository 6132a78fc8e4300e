/* Numbers of the protocol, and nothing that waits. */
#include "frames.h"

#include <string.h>

#define CHUNK_MAX (16 * 1024 * 1024)

enum kind { KIND_COMMAND = 9, KIND_RESPONSE = 10, KIND_BLOB = 11 };
enum command {
    COMMAND_PRINT = 0,
    COMMAND_LOAD = 1,
    COMMAND_PROMPT = 3,
    COMMAND_EXIT = 4,
    COMMAND_HTTP_GET = 12,
    COMMAND_HTTP_PUT = 13,
    COMMAND_PRINT_ERROR = 16,
    COMMAND_HTTP_CONNECT = 17,
};
enum response { RESPONSE_OK = 5, RESPONSE_FAILED = 6, RESPONSE_WAIT = 18 };
enum blob { BLOB_CHUNK = 7, BLOB_END = 8 };

static void add_number(struct buf *out, uint32_t value)
{
    const unsigned char bytes[] = {(unsigned char)value, (unsigned char)(value >> 8),
                                   (unsigned char)(value >> 16), (unsigned char)(value >> 24)};
    buf_add(out, bytes, sizeof(bytes));
}

static uint32_t number_at(const char *data)
{
    const unsigned char *b = (const unsigned char *)data;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

void thin_write_hello(struct buf *out)
{
    buf_add_str(out, THIN_MAGIC);
    add_number(out, THIN_MAJOR);
    add_number(out, THIN_MINOR);
}

bool thin_hello_fits(const char *hello)
{
    size_t magic = strlen(THIN_MAGIC);
    return memcmp(hello, THIN_MAGIC, magic) == 0 && number_at(hello + magic) == THIN_MAJOR;
}

/* A command with up to two strings. */
static void add_command(struct buf *out, enum command command, const char *a, size_t a_len, const char *b)
{
    size_t b_len = b ? strlen(b) : 0;
    add_number(out, (uint32_t)(8 + (a ? 4 + a_len : 0) + (b ? 4 + b_len : 0)));
    add_number(out, KIND_COMMAND);
    add_number(out, command);
    if (a) {
        add_number(out, (uint32_t)a_len);
        buf_add(out, a, a_len);
    }
    if (b) {
        add_number(out, (uint32_t)b_len);
        buf_add(out, b, b_len);
    }
}

void thin_write_print(struct buf *out, const char *text, size_t len)
{
    add_command(out, COMMAND_PRINT, text, len, NULL);
}

void thin_write_print_error(struct buf *out, const char *text, size_t len)
{
    add_command(out, COMMAND_PRINT_ERROR, text, len, NULL);
}

void thin_write_load(struct buf *out, const char *filename)
{
    add_command(out, COMMAND_LOAD, filename, strlen(filename), NULL);
}

void thin_write_prompt(struct buf *out)
{
    add_command(out, COMMAND_PROMPT, NULL, 0, NULL);
}

void thin_write_get(struct buf *out, const char *filename, const char *url)
{
    add_command(out, COMMAND_HTTP_GET, filename, strlen(filename), url);
}

void thin_write_put(struct buf *out, const char *filename, const char *url)
{
    add_command(out, COMMAND_HTTP_PUT, filename, strlen(filename), url);
}

void thin_write_connect(struct buf *out, const char *url)
{
    add_command(out, COMMAND_HTTP_CONNECT, url, strlen(url), NULL);
}

void thin_write_exit(struct buf *out, int code)
{
    add_number(out, 12);
    add_number(out, KIND_COMMAND);
    add_number(out, COMMAND_EXIT);
    add_number(out, (uint32_t)code);
}

static int read_response(uint32_t tag, struct thin_frame *out)
{
    switch (tag) {
    case RESPONSE_OK:
        out->reply = THIN_OK;
        return 12;
    case RESPONSE_FAILED:
        out->reply = THIN_FAILED;
        return 12;
    case RESPONSE_WAIT:
        out->reply = THIN_WAIT;
        return 12;
    default:
        return -1;
    }
}

int thin_read(const char *data, size_t len, struct thin_frame *out)
{
    if (len < 4)
        return 0;
    uint32_t size = number_at(data);
    if (size != 8 && size != 12)
        return -1;
    if (len < 4 + size)
        return 0;
    uint32_t kind = number_at(data + 4), tag = number_at(data + 8);
    if (kind == KIND_RESPONSE && size == 8)
        return read_response(tag, out);
    if (kind == KIND_BLOB && tag == BLOB_END && size == 8) {
        out->reply = THIN_END;
        return 12;
    }
    if (kind != KIND_BLOB || tag != BLOB_CHUNK || size != 12)
        return -1;
    uint32_t chunk = number_at(data + 12);
    if (chunk > CHUNK_MAX)
        return -1;
    *out = (struct thin_frame){.reply = THIN_CHUNK, .chunk_len = chunk};
    return 16;
}
