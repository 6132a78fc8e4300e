/* Files of archives: what is read is written the same again, in every form. The checksum is put right, so
 * that what stands behind it is reached. */
#include <base/mem.h>
#include <rrd/rrd_file.h>
#include <rrd/rrd_write.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t checksum(const uint8_t *data, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ data[i]) * 0x100000001b3u;
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 16 || size > 1 << 20)
        return 0;
    AUTO_FREE uint8_t *bytes = xmalloc(size);
    memcpy(bytes, data, size);
    uint64_t sum = checksum(bytes, size - 8);
    memcpy(bytes + size - 8, &sum, 8); /* little-endian, as all machines that fuzz */
    struct rrd *rrd = rrd_decode(bytes, size);
    if (!rrd)
        return 0;
    AUTO_BUF struct buf out = BUF_INIT, text = BUF_INIT;
    rrd_encode(rrd, &out);
    if (out.len != size || memcmp(out.data, bytes, size) != 0)
        abort();
    rrd_write_xml(rrd, true, &text);
    const struct rrd_export item = {"vm:x:", rrd};
    const struct rrd_query query = {.start = -1000, .cfs = 7, .json = true};
    rrd_write_updates(&item, 1, &query, &text);
    struct rrd_sample sample = {"a", RRD_GAUGE, 0, 10, 1, true};
    rrd_update(rrd, rrd->updated + 7, &sample, 1);
    rrd_free(rrd);
    return 0;
}
