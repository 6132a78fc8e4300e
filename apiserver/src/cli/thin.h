/* One conversation with a thin client, over the connection of its POST /cli. Blocks: for a thread of its own.
 * Not thread-safe. Once a step has failed (the client is gone, silent for too long, or says nonsense) every
 * later one fails. */
#pragma once
#include <base/buf.h>
#include <base/stream.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct thin {
    struct stream *stream;    /* borrowed */
    const _Atomic bool *stop; /* the server is ending */
    struct buf in;            /* read, not used */
    struct buf line;          /* printed, not sent: see thin_print */
    bool broken;
};

struct thin thin_init(struct stream *stream, const _Atomic bool *stop);
void thin_done(struct thin *t);

/* Exchanges hellos (ours is sent already). -1: this client does not fit. */
int thin_greet(struct thin *t);
/* Text for the client's stdout, newlines included. What comes after the last newline waits for the rest,
 * because the client ends what it is told to print with one. */
void thin_print(struct thin *t, const char *text, size_t len);
void thin_print_error(struct thin *t, const char *text, size_t len);
/* Says goodbye with an exit code. */
void thin_exit(struct thin *t, int code);

enum thin_result { THIN_DONE, THIN_REFUSED, THIN_BROKEN };
/* A file of the client, at most `max` bytes; *data is the caller's. THIN_REFUSED: it could not be read. */
enum thin_result thin_load(struct thin *t, const char *filename, size_t max, char **data, size_t *len);
/* Shows the question, takes a line of at most `max` bytes without its newline. */
enum thin_result thin_prompt(struct thin *t, const char *question, size_t max, char **answer);
/* Lets the client move a file, or join its terminal, over a connection of its own. Takes as long as that. */
enum thin_result thin_get(struct thin *t, const char *filename, const char *url);
enum thin_result thin_put(struct thin *t, const char *filename, const char *url);
enum thin_result thin_connect(struct thin *t, const char *url);
