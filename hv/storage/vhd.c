/* VHD images (Virtual Hard Disk Image Format Specification 1.0), fixed and dynamic: what an upload must be
 * before QEMU may see it, and its conversion. A differencing image refers to another file, so it is refused.
 */
#include "storage_internal.h"
#include <base/bytes.h>
#include <base/file.h>
#include <base/mem.h>
#include <stdio.h>

#define SECTOR INT64_C(512)
#define FOOTER_SIZE 512
#define HEADER_SIZE 1024
#define TYPE_FIXED 2
#define TYPE_DYNAMIC 3
#define TYPE_DIFFERENCING 4
#define SIZE_MAX_BYTES (INT64_C(2040) << 30) /* of the format */
#define BLOCK_MIN (UINT32_C(64) << 10)
#define BLOCK_MAX (UINT32_C(256) << 20)
#define TABLE_PIECE 4096
#define BLOCK_UNUSED UINT32_MAX

/* The ones' complement of the sum of all bytes but its own four. */
static bool checksum_holds(const uint8_t *p, size_t len, size_t at)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i++)
        if (i < at || i >= at + 4)
            sum += p[i];
    return ~sum == be32_get(p + at);
}

static int bad(struct storage_error *error, const char *what)
{
    return storage_fail(error, STORAGE_BAD_IMAGE, "the VHD image %s", what);
}

static bool read_at(int fd, void *to, size_t len, int64_t at)
{
    return file_read_at(fd, to, len, at) == 0;
}

/* Every block that the table names lies within the file. */
static int check_table(int fd, int64_t file_size, int64_t at, uint32_t entries, uint32_t block_size,
                       struct storage_error *error)
{
    uint8_t piece[TABLE_PIECE];
    int64_t bitmap = ((block_size / SECTOR + 7) / 8 + SECTOR - 1) / SECTOR * SECTOR;
    for (uint32_t done = 0; done < entries;) {
        uint32_t count = entries - done < TABLE_PIECE / 4 ? entries - done : TABLE_PIECE / 4;
        if (!read_at(fd, piece, (size_t)count * 4, at + (int64_t)done * 4))
            return bad(error, "is cut short in its table");
        for (uint32_t i = 0; i < count; i++) {
            uint32_t sector = be32_get(piece + (size_t)i * 4);
            if (sector != BLOCK_UNUSED && sector * SECTOR + bitmap + block_size > file_size)
                return bad(error, "is damaged or cut short: a block lies behind its end");
        }
        done += count;
    }
    return 0;
}

static int check_dynamic(int fd, int64_t file_size, int64_t header_at, int64_t virtual_size,
                         struct storage_error *error)
{
    uint8_t h[HEADER_SIZE];
    if (header_at < FOOTER_SIZE || header_at > file_size - HEADER_SIZE ||
        !read_at(fd, h, sizeof(h), header_at) || memcmp(h, "cxsparse", 8) != 0 ||
        !checksum_holds(h, sizeof(h), 36))
        return bad(error, "has no valid header of a dynamic disk");
    uint64_t table_at = be64_get(h + 16);
    uint32_t entries = be32_get(h + 28), block_size = be32_get(h + 32);
    if (block_size < BLOCK_MIN || block_size > BLOCK_MAX || (block_size & (block_size - 1)) != 0)
        return bad(error, "has blocks of a size that is not usual");
    /* The table covers the disk, and is not far larger. */
    int64_t needed = (virtual_size + block_size - 1) / block_size;
    if (entries < needed || entries > needed + (INT64_C(1) << 20))
        return bad(error, "has a table that does not fit its disk");
    if (table_at > (uint64_t)file_size || (int64_t)entries * 4 > file_size - (int64_t)table_at)
        return bad(error, "has a table behind its end");
    return check_table(fd, file_size, (int64_t)table_at, (uint32_t)needed, block_size, error);
}

int vhd_check(int fd, int64_t file_size, int64_t size_max, int64_t *virtual_size, struct storage_error *error)
{
    uint8_t f[FOOTER_SIZE];
    if (file_size < FOOTER_SIZE || !read_at(fd, f, sizeof(f), file_size - FOOTER_SIZE))
        return bad(error, "is too short");
    if (memcmp(f, "conectix", 8) != 0)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the data is not a VHD image, or is cut short");
    if (!checksum_holds(f, sizeof(f), 64))
        return bad(error, "has a wrong checksum");
    uint32_t type = be32_get(f + 60);
    uint64_t size = be64_get(f + 48), header_at = be64_get(f + 16);
    if (type == TYPE_DIFFERENCING)
        return bad(error, "is a differencing disk, which needs another file");
    if (type != TYPE_FIXED && type != TYPE_DYNAMIC)
        return bad(error, "is of a kind that is not known here");
    if (size == 0 || size % SECTOR != 0 || size > (uint64_t)SIZE_MAX_BYTES)
        return bad(error, "has an impossible size");
    if ((int64_t)size > size_max)
        return storage_fail(error, STORAGE_DATA_LONG, "the image has %lld bytes, more than the disk's %lld",
                            (long long)size, (long long)size_max);
    if (type == TYPE_FIXED && file_size - FOOTER_SIZE != (int64_t)size)
        return bad(error, "has not as much data as its footer says");
    /* QEMU looks at the copy in front first: both have to be the same. */
    uint8_t front[FOOTER_SIZE];
    if (type == TYPE_DYNAMIC && (!read_at(fd, front, sizeof(front), 0) || memcmp(front, f, sizeof(f)) != 0))
        return bad(error, "has two footers that differ");
    if (type == TYPE_FIXED && read_at(fd, front, sizeof(front), 0) && memcmp(front, "conectix", 8) == 0)
        return bad(error, "has data that looks like a footer itself: send it in raw form");
    if (type == TYPE_DYNAMIC &&
        (header_at > INT64_MAX || check_dynamic(fd, file_size, (int64_t)header_at, (int64_t)size, error) < 0))
        return header_at > INT64_MAX ? bad(error, "has no valid header of a dynamic disk") : -1;
    *virtual_size = (int64_t)size;
    return 0;
}

int vhd_make(struct temp_file *t, int64_t size, struct storage_error *error)
{
    char size_text[24];
    snprintf(size_text, sizeof(size_text), "%lld", (long long)size);
    if (size > SIZE_MAX_BYTES)
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "a VHD image has at most 2040 GiB");
    const char *const argv[] = {
        "create",         "-q",      "-f", "vpc", "-o", "subformat=dynamic,force_size=on",
        TOOL_PATH_SOURCE, size_text, NULL};
    return tool_run(t->sr,
                    &(struct tool_run){.argv = argv,
                                       .fds = &t->fd,
                                       .fd_count = 1,
                                       .timeout_ms = 60000,
                                       .file_size_max = (rlim_t)size / 64 + (64 << 20)},
                    error);
}
