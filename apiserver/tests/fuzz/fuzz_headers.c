/* Headers of transfers: a range that is answered lies within the bytes that there are, digests are read to
 * their end and no further. The first byte chooses how many bytes there are. */
#include <assert.h>
#include <base/mem.h>
#include <http/digest.h>
#include <http/range.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t sizes[] = {0, 1, 100, INT64_C(1) << 46, INT64_MAX};
    if (size < 1)
        return 0;
    int64_t bytes = sizes[data[0] % ARRAY_LEN(sizes)];
    char *text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    struct byte_range got;
    if (range_read(text, bytes, &got) == RANGE_PART)
        assert(got.from >= 0 && got.length > 0 && got.from < bytes && got.length <= bytes - got.from);
    struct digest digest;
    if (digest_read(text, &digest))
        assert(digest.kind == DIGEST_NONE || digest.kind == DIGEST_SHA256);
    if (digest_read_checksum(text, &digest))
        assert(digest.kind != DIGEST_NONE);
    free(text);
    return 0;
}
