/* Which blocks of a disk an image itself holds, read from the tables of a qcow2 file: what was written since
 * the image was laid over the one below. The file may be a guest's doing: nothing in it is believed. */
#include "storage_internal.h"
#include <base/file.h>
#include <base/mem.h>
#include <endian.h>

#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define L1_MAX_BYTES ((size_t)32 << 20) /* of the format */
#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define ENTRY_ZEROS UINT64_C(1)
#define ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define FEATURE_EXTENDED_L2 (UINT64_C(1) << 4)

struct tables {
    int fd;
    unsigned cluster_bits;
    int64_t size; /* of the disk */
    uint64_t l1_at;
    uint32_t l1_count;
};

static bool read_at(int fd, void *to, size_t len, uint64_t at)
{
    return at <= INT64_MAX - len && file_read_at(fd, to, len, (int64_t)at) == 0;
}

static int bad(struct storage_error *error, const char *what)
{
    return storage_fail(error, STORAGE_BAD_IMAGE, "the tables of an image cannot be read: %s", what);
}

static int read_header(int fd, struct tables *t, struct storage_error *error)
{
    struct qcow2_header header;
    uint8_t h[80] = {0};
    uint32_t bits, count, version;
    uint64_t at, features;
    if (!qcow2_header_read(fd, &header) || pread(fd, h, sizeof(h), 0) < 72)
        return bad(error, "it is not a qcow2 image");
    memcpy(&version, h + 4, 4);
    memcpy(&bits, h + 20, 4);
    memcpy(&count, h + 36, 4);
    memcpy(&at, h + 40, 8);
    memcpy(&features, h + 72, 8);
    *t = (struct tables){.fd = fd,
                         .cluster_bits = be32toh(bits),
                         .size = header.virtual_size,
                         .l1_at = be64toh(at),
                         .l1_count = be32toh(count)};
    if (be32toh(version) >= 3 && be64toh(features) & FEATURE_EXTENDED_L2)
        return bad(error, "extended entries");
    if (t->cluster_bits < CLUSTER_BITS_MIN || t->cluster_bits > CLUSTER_BITS_MAX)
        return bad(error, "clusters of an odd size");
    if ((size_t)t->l1_count * 8 > L1_MAX_BYTES)
        return bad(error, "a table that is too large");
    return 0;
}

static void note(struct block_map *map, int64_t from, int64_t len)
{
    int64_t end = from + len < map->size ? from + len : map->size;
    for (int64_t block = from / MAP_BLOCK; from < end && block <= (end - 1) / MAP_BLOCK; block++)
        map_set(map, block);
}

static int read_l2(const struct tables *t, uint64_t at, uint64_t *entries, int64_t from,
                   struct block_map *map, struct storage_error *error)
{
    size_t cluster = (size_t)1 << t->cluster_bits;
    if (!read_at(t->fd, entries, cluster, at))
        return bad(error, "it is cut short");
    for (size_t i = 0; i < cluster / 8; i++) {
        uint64_t entry = be64toh(entries[i]);
        int64_t begin = from + ((int64_t)i << t->cluster_bits);
        if (begin >= t->size)
            break;
        if (entry & (OFFSET_MASK | ENTRY_ZEROS | ENTRY_COMPRESSED))
            note(map, begin, (int64_t)cluster);
    }
    return 0;
}

int allocated_add(int fd, struct block_map *map, struct storage_error *error)
{
    struct tables t = {0};
    if (read_header(fd, &t, error) < 0)
        return -1;
    unsigned span_bits = t.cluster_bits + t.cluster_bits - 3;
    size_t cluster = (size_t)1 << t.cluster_bits;
    AUTO_FREE uint64_t *l1 = xmalloc((size_t)t.l1_count * 8 + 8);
    AUTO_FREE uint64_t *l2 = xmalloc(cluster);
    if (!read_at(fd, l1, (size_t)t.l1_count * 8, t.l1_at))
        return bad(error, "it is cut short");
    for (uint32_t i = 0; i < t.l1_count && (int64_t)((uint64_t)i << span_bits) < t.size; i++) {
        uint64_t at = be64toh(l1[i]) & OFFSET_MASK;
        if (at && read_l2(&t, at, l2, (int64_t)((uint64_t)i << span_bits), map, error) < 0)
            return -1;
    }
    return 0;
}

/* ---- maps ---- */

size_t map_bytes(int64_t size)
{
    return (size_t)((size + MAP_BLOCK * 8 - 1) / (MAP_BLOCK * 8));
}

void map_init(struct block_map *map, int64_t size)
{
    *map = (struct block_map){.size = size, .bits = xcalloc(1, map_bytes(size) + 1)};
}

void map_done(struct block_map *map)
{
    free(map->bits);
    *map = (struct block_map){0};
}

void map_set(struct block_map *map, int64_t block)
{
    map->bits[block / 8] |= (uint8_t)(0x80 >> (block % 8));
}

void map_set_from(struct block_map *map, int64_t at)
{
    note(map, at, map->size - at);
}

void map_add(struct block_map *map, const struct block_map *other)
{
    int64_t size = map->size < other->size ? map->size : other->size;
    for (size_t i = 0; i < map_bytes(size); i++)
        map->bits[i] |= other->bits[i];
}
