/* Web sockets, RFC 6455: the handshake's arithmetic and frames as pure code on buffers, and a pump that
 * joins a web socket with a raw stream. No extensions. Not thread-safe. */
#pragma once
#include <base/buf.h>
#include <base/stream.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_ACCEPT_SIZE 29
/* Sec-WebSocket-Accept for a client's key (section 4.2.2). False: the key is not 16 bytes in base64. */
bool ws_accept(const char *key, char out[static WS_ACCEPT_SIZE]);

enum ws_opcode { WS_CONTINUATION = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };
/* Status codes of a close frame (section 7.4.1) that are used here. */
enum ws_status {
    WS_STATUS_NORMAL = 1000,
    WS_STATUS_GOING_AWAY = 1001,
    WS_STATUS_PROTOCOL = 1002,
    WS_STATUS_BAD_DATA = 1007,
    WS_STATUS_POLICY = 1008,
    WS_STATUS_TOO_BIG = 1009,
    WS_STATUS_ERROR = 1011
};

/* Reads frames from a byte stream. Data of a message is handed on in pieces as it arrives, so a long frame
 * needs no memory; only control frames (at most 125 bytes) are collected. */
struct ws_reader {
    bool from_client;     /* the peer must mask (server side); else it must not */
    uint64_t message_max; /* bytes in one message, all fragments together; 0: no limit */
    /* The rest is the reader's own. */
    uint8_t head[14], head_len, head_need;
    uint8_t control[125], control_len;
    uint8_t opcode, message_opcode, mask[4];
    bool fin, masked, in_frame, in_message, closed;
    uint64_t left, mask_at, message_len;
};
void ws_reader_init(struct ws_reader *r, bool from_client, uint64_t message_max);

enum ws_event {
    WS_NEED_MORE, /* all input was used */
    WS_DATA,    /* `data`, `len`: a piece of a message of `opcode`; `last` with the final piece (which may be
                   empty) */
    WS_CONTROL, /* a whole WS_PING, WS_PONG or WS_CLOSE with its payload */
    WS_ERROR,   /* the peer broke the protocol: `status` for the close frame */
};
struct ws_output {
    enum ws_opcode opcode;
    const char *data; /* points into the input (unmasked in place) or into the reader */
    size_t len;
    bool last;
    enum ws_status status;
};
/* Reads on from *input, which is advanced; the bytes are changed in place. Call until WS_NEED_MORE or
 * WS_ERROR. */
enum ws_event ws_read(struct ws_reader *r, char **input, size_t *len, struct ws_output *out);

/* Appends one whole frame. `mask`: NULL on the server's side, 4 random bytes on a client's. */
void ws_write_frame(struct buf *b, enum ws_opcode opcode, const void *data, size_t len,
                    const uint8_t mask[4]);
void ws_write_close(struct buf *b, enum ws_status status, const uint8_t mask[4]);

struct ws_pump_options {
    int stop_fd;     /* eventfd that ends the pump (close status 1001), -1: none */
    int64_t idle_ms; /* without a byte from the peer despite a ping every idle_ms / 3: ends; -1: no limit */
    bool text;       /* accept text frames too; binary is always accepted */
    size_t
        buffer_max; /* bytes that may wait for a slow side before the other is no longer read; 0: 256 KiB */
};
/* Carries the payload of the peer's messages to `raw` and the bytes of `raw` as binary frames to the peer;
 * answers pings and close. Server side (the peer masks). `early` are bytes that came behind the handshake.
 * Closes neither stream. Blocks. */
enum pump_end ws_pump(struct stream *peer, struct stream *raw, const char *early, size_t early_len,
                      const struct ws_pump_options *options);
