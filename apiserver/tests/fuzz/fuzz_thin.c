/* Frames of thin clients: what the reader takes it takes whole, and it never reads beyond the end. */
#include <assert.h>
#include <base/mem.h>
#include <cli/frames.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct thin_frame frame = {0};
    size_t at = 0;
    if (size >= THIN_HELLO_SIZE)
        (void)thin_hello_fits((const char *)data);
    for (;;) {
        /* A copy of exactly this size, so that a step too far is seen. */
        char *copy = xmalloc(size - at + 1);
        memcpy(copy, data + at, size - at);
        int used = thin_read(copy, size - at, &frame);
        free(copy);
        if (used <= 0)
            return 0;
        assert((size_t)used <= size - at);
        at += (size_t)used;
        if (frame.reply == THIN_CHUNK)
            at += frame.chunk_len < size - at ? frame.chunk_len : size - at;
    }
}
