/* Layout: magic, time, source count, for each archive its row count, for each source its state and its
 * rows, oldest first; at the end a checksum (FNV-1a, 64 bits) of all before it. */
#include "rrd_file.h"

#include "rrd_internal.h"
#include <base/mem.h>
#include <endian.h>
#include <math.h>

static const char magic[8] = "RRD1\r\n\x1a";

static uint64_t checksum(const uint8_t *data, size_t len)
{
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        sum = (sum ^ data[i]) * 0x100000001b3u;
    return sum;
}

static void put_u64(struct buf *out, uint64_t value)
{
    value = htole64(value);
    buf_add(out, &value, sizeof(value));
}

static void put_u32(struct buf *out, uint32_t value)
{
    value = htole32(value);
    buf_add(out, &value, sizeof(value));
}

static void put_double(struct buf *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_u64(out, bits);
}

static void put_float(struct buf *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    put_u32(out, bits);
}

static void put_source(const struct rrd *rrd, const struct rrd_source *source, struct buf *out)
{
    put_u32(out, (uint32_t)strlen(source->name));
    buf_add_str(out, source->name);
    put_u32(out, source->kind);
    put_double(out, source->min);
    put_double(out, source->max);
    put_double(out, source->value);
    put_double(out, source->unknown_sec);
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++) {
        const struct rrd_ring *ring = &rrd->rings[a];
        unsigned kept = rrd_cfs_kept(a), rows = rrd_shapes[a].rows;
        put_u32(out, source->cdp[a].unknown);
        for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
            put_double(out, source->cdp[a].value[cf]);
        for (unsigned i = 0; i < ring->count; i++) {
            unsigned row = (ring->head + rows - ring->count + i) % rows;
            for (unsigned cf = 0; cf < kept; cf++)
                put_float(out, source->rows[a][row * kept + cf]);
        }
    }
}

void rrd_encode(const struct rrd *rrd, struct buf *out)
{
    size_t begin = out->len;
    buf_add(out, magic, sizeof(magic));
    put_double(out, rrd->updated);
    put_u32(out, (uint32_t)rrd->count);
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++)
        put_u32(out, rrd->rings[a].count);
    for (size_t i = 0; i < rrd->count; i++)
        put_source(rrd, &rrd->sources[i], out);
    put_u64(out, checksum((const uint8_t *)out->data + begin, out->len - begin));
}

/* ---- reading ---- */

/* `ok` false: the bytes ended too early; what was read then is 0. */
struct reader {
    const uint8_t *at, *end;
    bool ok;
};

static const uint8_t *take(struct reader *r, size_t len)
{
    if (!r->ok || (size_t)(r->end - r->at) < len) {
        r->ok = false;
        return NULL;
    }
    r->at += len;
    return r->at - len;
}

static uint32_t get_u32(struct reader *r)
{
    uint32_t value = 0;
    const uint8_t *p = take(r, sizeof(value));
    if (p)
        memcpy(&value, p, sizeof(value));
    return le32toh(value);
}

static double get_double(struct reader *r)
{
    uint64_t bits = 0;
    double value;
    const uint8_t *p = take(r, sizeof(bits));
    if (p)
        memcpy(&bits, p, sizeof(bits));
    bits = le64toh(bits);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float get_float(struct reader *r)
{
    uint32_t bits = get_u32(r);
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static bool get_source(struct rrd *rrd, struct reader *r)
{
    uint32_t len = get_u32(r);
    const uint8_t *text = len <= RRD_NAME_MAX ? take(r, len) : NULL;
    uint32_t kind = get_u32(r);
    double min = get_double(r), max = get_double(r);
    if (!text || !r->ok || kind > RRD_ABSOLUTE)
        return false;
    AUTO_FREE char *name = xstrndup((const char *)text, len);
    if (strlen(name) != len || rrd_find(rrd, name))
        return false;
    struct rrd_source *source = rrd_source_add(rrd, name, (enum rrd_kind)kind, min, max);
    if (!source)
        return false;
    source->value = get_double(r);
    source->unknown_sec = get_double(r);
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++) {
        source->cdp[a].unknown = get_u32(r);
        for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
            source->cdp[a].value[cf] = get_double(r);
        for (unsigned i = 0; i < rrd->rings[a].count * rrd_cfs_kept(a); i++)
            source->rows[a][i] = get_float(r);
        if (source->cdp[a].unknown > rrd_shapes[a].pdp_per_row)
            return false;
    }
    return r->ok;
}

static bool get_all(struct rrd *rrd, struct reader *r)
{
    rrd->updated = get_double(r);
    uint32_t count = get_u32(r);
    if (!(rrd->updated >= 0 && rrd->updated < 1e12) || count > RRD_SOURCES_MAX)
        return false;
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++) {
        struct rrd_ring *ring = &rrd->rings[a];
        ring->count = ring->cap = get_u32(r);
        if (ring->count > rrd_shapes[a].rows)
            return false;
        ring->head = ring->count % rrd_shapes[a].rows;
    }
    for (uint32_t i = 0; i < count; i++)
        if (!get_source(rrd, r))
            return false;
    return r->ok && r->at == r->end;
}

struct rrd *rrd_decode(const void *data, size_t len)
{
    const uint8_t *bytes = data;
    uint64_t sum;
    if (len < sizeof(magic) + sizeof(sum) || memcmp(bytes, magic, sizeof(magic)) != 0)
        return NULL;
    memcpy(&sum, bytes + len - sizeof(sum), sizeof(sum));
    if (le64toh(sum) != checksum(bytes, len - sizeof(sum)))
        return NULL;
    struct reader r = {.at = bytes + sizeof(magic), .end = bytes + len - sizeof(sum), .ok = true};
    struct rrd *rrd = rrd_new(0);
    if (get_all(rrd, &r))
        return rrd;
    rrd_free(rrd);
    return NULL;
}
