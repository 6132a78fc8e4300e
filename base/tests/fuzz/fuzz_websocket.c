/* Fuzz target (libFuzzer): web socket frames. The first byte chooses how the rest is cut into pieces;
 * whatever the pieces, the same events must come out. */
#include <base/mem.h>
#include <base/websocket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Payload bytes and events of a stream, pieces of data joined. */
static void read_all(const uint8_t *data, size_t len, size_t piece, bool from_client, struct buf *events)
{
    struct ws_reader reader;
    ws_reader_init(&reader, from_client, 100000);
    for (size_t at = 0; at < len; at += piece) {
        size_t left = len - at < piece ? len - at : piece;
        AUTO_FREE char *copy = xmalloc(left);
        memcpy(copy, data + at, left);
        char *input = copy;
        for (;;) {
            struct ws_output out;
            enum ws_event event = ws_read(&reader, &input, &left, &out);
            if (event == WS_NEED_MORE && left == 0)
                break;
            if (event == WS_ERROR) {
                buf_printf(events, "E%d", out.status);
                return;
            }
            if (event == WS_DATA || event == WS_CONTROL)
                buf_add(events, out.data, out.len);
            if (event == WS_CONTROL || (event == WS_DATA && out.last))
                buf_printf(events, "<%d>", out.opcode);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    AUTO_BUF struct buf whole = BUF_INIT;
    AUTO_BUF struct buf pieces = BUF_INIT;
    bool from_client = data[0] & 1;
    read_all(data + 1, len - 1, len - 1, from_client, &whole);
    read_all(data + 1, len - 1, (size_t)(data[0] >> 1) % 16 + 1, from_client, &pieces);
    if (whole.len != pieces.len || (whole.len && memcmp(whole.data, pieces.data, whole.len) != 0))
        abort();
    return 0;
}
