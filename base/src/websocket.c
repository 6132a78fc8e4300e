/* Web socket frames and the handshake's arithmetic (RFC 6455): pure code on buffers. */
#include <base/mem.h>
#include <base/secret.h>
#include <base/websocket.h>
#include <openssl/sha.h>
#include <strings.h>

/* ---- handshake ---- */

bool ws_accept(const char *key, char out[static WS_ACCEPT_SIZE])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    size_t len = strlen(key), raw_len = 0;
    if (len != 24)
        return false;
    AUTO_FREE char *raw = base64_decode(key, len, &raw_len);
    if (!raw || raw_len != 16)
        return false;
    char joined[24 + sizeof(guid)];
    memcpy(joined, key, 24);
    memcpy(joined + 24, guid, sizeof(guid));
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1((const unsigned char *)joined, sizeof(joined) - 1, digest);
    AUTO_FREE char *text = base64_encode(digest, sizeof(digest));
    memcpy(out, text, WS_ACCEPT_SIZE);
    return true;
}

/* ---- reading ---- */

void ws_reader_init(struct ws_reader *r, bool from_client, uint64_t message_max)
{
    *r = (struct ws_reader){.from_client = from_client, .message_max = message_max, .head_need = 2};
}

static bool is_control(uint8_t opcode)
{
    return opcode & 8;
}

static enum ws_event refuse(struct ws_reader *r, struct ws_output *out, enum ws_status status)
{
    r->closed = true;
    *out = (struct ws_output){.status = status};
    return WS_ERROR;
}

/* Checks what the first two bytes say, and how many more the head has. False: against the protocol. */
static bool start_head(struct ws_reader *r)
{
    uint8_t opcode = r->head[0] & 0x0f, size = r->head[1] & 0x7f;
    bool fin = r->head[0] & 0x80, masked = r->head[1] & 0x80;
    if (r->head[0] & 0x70 || masked != r->from_client)
        return false;
    if (is_control(opcode)) {
        if (opcode > WS_PONG || !fin || size > 125)
            return false;
    } else if (opcode > WS_BINARY || (opcode == WS_CONTINUATION) != r->in_message) {
        return false;
    }
    r->opcode = opcode;
    r->fin = fin;
    r->masked = masked;
    r->head_need = (uint8_t)(2 + (size == 126 ? 2 : size == 127 ? 8 : 0) + (masked ? 4 : 0));
    return true;
}

/* The whole head is here. False: a length that is not written in the shortest form, or too large. */
static bool finish_head(struct ws_reader *r, enum ws_status *status)
{
    uint8_t size = r->head[1] & 0x7f;
    size_t bytes = size == 126 ? 2 : size == 127 ? 8 : 0;
    uint64_t len = bytes ? 0 : size;
    for (size_t i = 0; i < bytes; i++)
        len = len << 8 | r->head[2 + i];
    *status = WS_STATUS_PROTOCOL;
    if ((bytes == 2 && len < 126) || (bytes == 8 && (len < 65536 || len >> 63)))
        return false;
    if (r->masked)
        memcpy(r->mask, r->head + 2 + bytes, 4);
    r->left = len;
    r->mask_at = 0;
    r->in_frame = true;
    r->head_len = 0;
    r->head_need = 2;
    if (is_control(r->opcode)) {
        r->control_len = 0;
        return true;
    }
    if (!r->in_message) {
        r->message_opcode = r->opcode;
        r->message_len = 0;
        r->in_message = true;
    }
    *status = WS_STATUS_TOO_BIG;
    if (r->message_max && (len > r->message_max || r->message_len > r->message_max - len))
        return false;
    r->message_len += len;
    return true;
}

static void unmask(struct ws_reader *r, char *data, size_t len)
{
    if (!r->masked)
        return;
    size_t i = 0;
    uint8_t turned[8];
    for (size_t k = 0; k < 8; k++)
        turned[k] = r->mask[(r->mask_at + k) & 3];
    uint64_t wide, w;
    memcpy(&wide, turned, 8);
    for (; i + 8 <= len; i += 8) {
        memcpy(&w, data + i, 8);
        w ^= wide;
        memcpy(data + i, &w, 8);
    }
    for (; i < len; i++)
        data[i] = (char)(data[i] ^ r->mask[(r->mask_at + i) & 3]);
    r->mask_at += len;
}

static void end_frame(struct ws_reader *r)
{
    r->in_frame = false;
    if (!is_control(r->opcode) && r->fin)
        r->in_message = false;
}

/* A close frame has no payload, or a status and valid text (section 5.5.1). */
static bool close_is_good(const struct ws_reader *r)
{
    if (r->control_len == 0)
        return true;
    if (r->control_len == 1)
        return false;
    unsigned code = (unsigned)r->control[0] << 8 | r->control[1];
    return ((code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
            (code >= 3000 && code <= 4999));
}

/* Takes the piece of the current frame that is here. */
static enum ws_event take_piece(struct ws_reader *r, char **input, size_t *len, struct ws_output *out)
{
    size_t n = r->left < *len ? (size_t)r->left : *len;
    char *data = *input;
    unmask(r, data, n);
    *input += n;
    *len -= n;
    r->left -= n;
    if (!is_control(r->opcode)) {
        bool ended = r->left == 0;
        *out =
            (struct ws_output){.opcode = r->message_opcode, .data = data, .len = n, .last = ended && r->fin};
        if (ended)
            end_frame(r);
        return WS_DATA;
    }
    memcpy(r->control + r->control_len, data, n);
    r->control_len = (uint8_t)(r->control_len + n);
    if (r->left > 0)
        return WS_NEED_MORE;
    end_frame(r);
    if (r->opcode == WS_CLOSE) {
        if (!close_is_good(r))
            return refuse(r, out, WS_STATUS_PROTOCOL);
        r->closed = true;
    }
    *out = (struct ws_output){
        .opcode = r->opcode, .data = (const char *)r->control, .len = r->control_len, .last = true};
    return WS_CONTROL;
}

enum ws_event ws_read(struct ws_reader *r, char **input, size_t *len, struct ws_output *out)
{
    for (;;) {
        if (r->closed) { /* nothing behind a close or an error counts */
            *input += *len;
            *len = 0;
            return WS_NEED_MORE;
        }
        /* A frame without payload is complete without further input. */
        if (r->in_frame && (*len > 0 || r->left == 0))
            return take_piece(r, input, len, out);
        if (*len == 0)
            return WS_NEED_MORE;
        r->head[r->head_len++] = (uint8_t) * (*input)++;
        --*len;
        if (r->head_len == 2 && !start_head(r))
            return refuse(r, out, WS_STATUS_PROTOCOL);
        enum ws_status status;
        if (r->head_len >= 2 && r->head_len == r->head_need && !finish_head(r, &status))
            return refuse(r, out, status);
    }
}

/* ---- writing ---- */

void ws_write_frame(struct buf *b, enum ws_opcode opcode, const void *data, size_t len, const uint8_t mask[4])
{
    uint8_t head[14];
    size_t n = 2;
    head[0] = (uint8_t)(0x80 | opcode);
    head[1] = mask ? 0x80 : 0;
    if (len < 126) {
        head[1] |= (uint8_t)len;
    } else {
        size_t bytes = len < 65536 ? 2 : 8;
        head[1] |= bytes == 2 ? 126 : 127;
        for (size_t i = 0; i < bytes; i++)
            head[n++] = (uint8_t)((uint64_t)len >> (8 * (bytes - 1 - i)));
    }
    if (mask) {
        memcpy(head + n, mask, 4);
        n += 4;
    }
    buf_add(b, head, n);
    size_t at = b->len;
    buf_add(b, data, len);
    for (size_t i = 0; mask && i < len; i++)
        b->data[at + i] = (char)(b->data[at + i] ^ mask[i & 3]);
}

void ws_write_close(struct buf *b, enum ws_status status, const uint8_t mask[4])
{
    uint8_t payload[2] = {(uint8_t)(status >> 8), (uint8_t)status};
    ws_write_frame(b, WS_CLOSE, payload, sizeof(payload), mask);
}
