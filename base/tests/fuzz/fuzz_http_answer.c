/* Fuzz target (libFuzzer): any bytes as the answer to a call of the light HTTP client. The first byte says in
 * how small pieces they come. */
#include "../../src/http_light_internal.h"
#include <base/clock.h>
#include <base/mem.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct source {
    struct stream stream;
    const uint8_t *data;
    size_t len, piece;
};

static ssize_t source_read(struct stream *s, void *to, size_t max)
{
    struct source *source = (struct source *)s;
    size_t n = source->len < source->piece ? source->len : source->piece;
    n = n < max ? n : max;
    memcpy(to, source->data, n);
    source->data += n;
    source->len -= n;
    return (ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const struct stream_ops ops = {.read = source_read};
    if (len == 0)
        return 0;
    struct source source = {{&ops, -1}, data + 1, len - 1, (size_t)data[0] + 1};
    struct patience patience = {.end_ms = clock_mono_ms() + 10000};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    struct answer a = {.stream = &source.stream,
                       .patience = &patience,
                       .call = &(struct http_call){.path = "/"},
                       .reply = &reply,
                       .body_max = 65536};
    if (answer_read(&a, &error) == 0 && reply.body.len > a.body_max)
        __builtin_trap();
    buf_done(&a.in);
    return 0;
}
