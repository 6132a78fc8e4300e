/* Frames of the thin command-line protocol, version 0.2: the genuine `xe` is a terminal that prints what it
 * is told, reads files and opens connections; every command runs in the server.
 *
 * A frame is a length (int32, little-endian, like every number here) and a payload; the payload begins with
 * its kind: 9 a command (of the server), 10 a response, 11 a piece of a file (both of the client). Strings
 * carry their length. Pure; any thread. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define THIN_MAGIC "XenSource thin CLI protocol"
#define THIN_MAJOR 0
#define THIN_MINOR 2
/* The magic and both version numbers: what each side sends first. */
#define THIN_HELLO_SIZE (sizeof(THIN_MAGIC) - 1 + 8)

void thin_write_hello(struct buf *out);
/* True if these THIN_HELLO_SIZE bytes are a hello of a client that speaks our major version. */
bool thin_hello_fits(const char *hello);

/* Commands. The client adds a newline to what it prints, but not to what goes to its stderr. */
void thin_write_print(struct buf *out, const char *text, size_t len);
void thin_write_print_error(struct buf *out, const char *text, size_t len);
/* Asks for a file; the answer is OK and pieces, or Failed. */
void thin_write_load(struct buf *out, const char *filename);
/* Asks for a line from the user; the answer comes as pieces. */
void thin_write_prompt(struct buf *out);
/* Asks the client to GET `url` into a file, to PUT a file there, or to CONNECT its terminal with it. A url
 * that begins with '/' is on this server. The answer is OK or Failed. */
void thin_write_get(struct buf *out, const char *filename, const char *url);
void thin_write_put(struct buf *out, const char *filename, const char *url);
void thin_write_connect(struct buf *out, const char *url);
void thin_write_exit(struct buf *out, int code);

enum thin_reply {
    THIN_OK,
    THIN_FAILED,
    THIN_WAIT,  /* the client is still at work: sent every five minutes */
    THIN_CHUNK, /* `chunk_len` bytes follow behind the frame */
    THIN_END,   /* of the pieces */
};
struct thin_frame {
    enum thin_reply reply;
    size_t chunk_len;
};
/* A client's frame from the front of `data`: how many bytes it took, 0: more are needed, -1: this is no
 * frame that a client sends. */
int thin_read(const char *data, size_t len, struct thin_frame *out);
