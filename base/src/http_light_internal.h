/* Shared by the files of the light HTTP client. */
#pragma once
#include "http_client_internal.h"

/* One connection, plain or TLS. */
struct wire {
    struct client_link link;
    void *ssl, *context; /* SSL, SSL_CTX; NULL: plain */
    struct client_trust trust;
    int64_t idle_since_ms;
};

/* How long something may take, and who may stop it. */
struct patience {
    const _Atomic bool *cancel;
    int64_t end_ms; /* monotonic; -1: none, but not without a byte for stall_ms */
    int64_t stall_ms;
    int64_t moved_ms; /* when the last byte moved */
};
/* Waits until the descriptor is ready for `events` (of poll). 0, or -1: cancelled or too late. */
int patience_wait(struct patience *p, int fd, short events, struct http_error *error);

/* http_light_wire.c: connects, with the handshake. `any`: whoever answers (a probe). */
int wire_open(const struct http_client *client, bool any, struct patience *p, struct wire **out,
              struct http_error *error);
void wire_close(struct wire *wire);
/* True if the other side has closed it, or said something unasked. */
bool wire_is_stale(const struct wire *wire);

/* http_light_answer.c: one answer, in the making. */
struct answer {
    struct stream *stream;
    struct patience *patience;
    const struct http_call *call;
    struct http_reply *reply;
    struct buf in; /* read and not used yet */
    size_t body_max;
    bool started;    /* a byte came */
    bool head_shown; /* to the call's `head` */
    bool reusable;   /* once it was read: the connection can carry another call */
};
/* Reads the answer up to its end, without the interim ones before it. 0, or -1. */
int answer_read(struct answer *a, struct http_error *error);
/* Reads what is there: 1: more came, 0: nothing yet, -1: *error. */
int answer_peek(struct answer *a, struct http_error *error);
/* True once the whole head of a final answer is in `in`; its status. */
bool answer_has_head(const struct answer *a, unsigned *status);
