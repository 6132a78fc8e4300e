/* What an RFB server might say, whole and in small pieces: both end the same. */
#include <base/mem.h>
#include <rfb/rfb.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rfb whole, pieces;
    enum rfb_status status = RFB_MORE;
    size_t at = 0;
    if (size > 1 << 16)
        return 0;
    rfb_init(&whole);
    rfb_init(&pieces);
    enum rfb_status wanted = rfb_feed(&whole, data, size);
    while (at < size && status == RFB_MORE) {
        size_t n = 1 + data[at] % 29;
        n = n < size - at ? n : size - at;
        status = rfb_feed(&pieces, data + at, n);
        at += n;
    }
    if (status != wanted || whole.picture.width != pieces.picture.width ||
        whole.picture.height != pieces.picture.height)
        abort();
    size_t bytes = (size_t)whole.picture.width * whole.picture.height * 3;
    if (bytes && memcmp(whole.picture.rgb, pieces.picture.rgb, bytes) != 0)
        abort();
    rfb_done(&whole);
    rfb_done(&pieces);
    return 0;
}
