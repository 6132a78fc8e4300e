/* VMDK images (Virtual Disk Format 5.0) that are one file, monolithicSparse and streamOptimized: what an
 * upload must be before QEMU may see it, for other kinds name files that QEMU would open. */
#include "storage_internal.h"
#include <base/bytes.h>
#include <base/file.h>
#include <base/mem.h>
#include <stdio.h>

#define SECTOR INT64_C(512)
#define HEADER_SIZE 512
#define GRAIN_MIN 8 /* sectors; writers use 128 */
#define GRAIN_MAX 2048
#define TABLE_ENTRIES 512 /* of the format */
#define FLAG_MARKERS (UINT32_C(1) << 17)
#define SIZE_MAX_SECTORS (UINT64_C(1) << 37)
#define AT_END UINT64_MAX
#define FOOTER_AT (3 * SECTOR) /* from the end: a marker, the header once more, a marker */
/* The description is where QEMU looks for it, and no longer than it reads. */
#define TEXT_AT SECTOR
#define TEXT_SIZE ((size_t)20 * 512)

static int bad(struct storage_error *error, const char *what)
{
    return storage_fail(error, STORAGE_BAD_IMAGE, "the VMDK image %s", what);
}

/* ---- tables ---- */

struct tables {
    int fd;
    int64_t file_size, size; /* of the image, of the disk */
    int64_t grain;           /* bytes */
    bool packed;
    struct storage_error *error;
};

static bool holds(const struct tables *t, int64_t at, int64_t len)
{
    return at <= t->file_size && len <= t->file_size - at;
}

static int behind_the_end(const struct tables *t)
{
    return bad(t->error, "is damaged or cut short: a part lies behind its end");
}

/* The grain number `n` of the disk: QEMU would read zeros where the file has ended. */
static int check_grain(const struct tables *t, int64_t n, uint32_t sector)
{
    uint8_t marker[12];
    int64_t at = sector * SECTOR, left = t->size - n * t->grain, len = left < t->grain ? left : t->grain;
    if (sector <= 1) /* nothing, or zeros */
        return 0;
    if (t->packed) {
        if (!holds(t, at, sizeof(marker)) || file_read_at(t->fd, marker, sizeof(marker), at) < 0)
            return behind_the_end(t);
        len = (int64_t)sizeof(marker) + le32_get(marker + 8);
    }
    return holds(t, at, len) ? 0 : behind_the_end(t);
}

static int check_table(const struct tables *t, int64_t number, uint32_t sector)
{
    uint8_t table[TABLE_ENTRIES * 4];
    if (sector == 0)
        return 0;
    if (!holds(t, sector * SECTOR, sizeof(table)) ||
        file_read_at(t->fd, table, sizeof(table), sector * SECTOR) < 0)
        return behind_the_end(t);
    for (int64_t i = 0; i < TABLE_ENTRIES; i++) {
        int64_t n = number * TABLE_ENTRIES + i;
        if (n * t->grain < t->size && check_grain(t, n, le32_get(table + i * 4)) < 0)
            return -1;
    }
    return 0;
}

/* `h`: the header that counts. */
static int check_tables(const struct tables *t, const uint8_t *h)
{
    uint8_t piece[4096];
    uint64_t sector = le64_get(h + 56);
    int64_t covered = t->grain * TABLE_ENTRIES, count = (t->size + covered - 1) / covered;
    int64_t at = sector < SIZE_MAX_SECTORS ? (int64_t)sector * SECTOR : INT64_MAX;
    if (!holds(t, at, count * 4))
        return behind_the_end(t);
    for (int64_t done = 0; done < count;) {
        int64_t n = count - done < (int64_t)sizeof(piece) / 4 ? count - done : (int64_t)sizeof(piece) / 4;
        if (file_read_at(t->fd, piece, (size_t)n * 4, at + done * 4) < 0)
            return bad(t->error, "cannot be read");
        for (int64_t i = 0; i < n; i++)
            if (check_table(t, done + i, le32_get(piece + i * 4)) < 0)
                return -1;
        done += n;
    }
    return 0;
}

/* Of a footer only the places of the tables may differ. */
static bool same_disk(const uint8_t *a, const uint8_t *b)
{
    return memcmp(a, b, 48) == 0 && memcmp(a + 72, b + 72, 7) == 0;
}

/* Streams end with the header that counts: *h becomes that. */
static int take_footer(int fd, int64_t file_size, uint8_t h[static HEADER_SIZE], struct storage_error *error)
{
    uint8_t footer[HEADER_SIZE];
    if (le64_get(h + 56) != AT_END)
        return 0;
    if (file_size < FOOTER_AT + SECTOR ||
        file_read_at(fd, footer, sizeof(footer), file_size - FOOTER_AT + SECTOR) < 0 || !same_disk(h, footer))
        return bad(error, "is damaged or cut short: its end is not that of its beginning");
    memcpy(h, footer, sizeof(footer));
    return 0;
}

/* ---- the description ---- */

static bool has(const char *text, const char *word)
{
    return memmem(text, TEXT_SIZE, word, strlen(word)) != NULL;
}

/* A parent would be another file, and so would the parts of other kinds. */
static int check_text(int fd, int64_t file_size, const uint8_t *header, struct storage_error *error)
{
    AUTO_FREE char *text = xcalloc(1, TEXT_SIZE);
    int64_t left = file_size - TEXT_AT;
    if (le64_get(header + 28) * (uint64_t)SECTOR != TEXT_AT)
        return bad(error, "has its description where it is not usual");
    if (left > 0 && file_read_at(fd, text, left < (int64_t)TEXT_SIZE ? (size_t)left : TEXT_SIZE, TEXT_AT) < 0)
        return bad(error, "cannot be read");
    if (has(text, "parentFileNameHint") || (has(text, "parentCID=") && !has(text, "parentCID=ffffffff")))
        return bad(error, "needs another file, its parent");
    if (!has(text, "createType=\"monolithicSparse\"") && !has(text, "createType=\"streamOptimized\""))
        return bad(error, "is not one of a single file: qemu-img convert -O vmdk makes such a one");
    return 0;
}

/* ---- the header ---- */

int vmdk_check_head(int fd, int64_t file_size, int64_t size_max, int64_t *virtual_size,
                    struct storage_error *error)
{
    uint8_t h[HEADER_SIZE];
    if (file_size < HEADER_SIZE || file_read_at(fd, h, sizeof(h), 0) < 0 || memcmp(h, "KDMV", 4) != 0)
        return storage_fail(error, STORAGE_BAD_IMAGE, "the data is not a VMDK image of a single file");
    uint32_t version = le32_get(h + 4), packing = le16_get(h + 77);
    uint64_t capacity = le64_get(h + 12), grain = le64_get(h + 20);
    if (version < 1 || version > 3 || packing > 1 || (packing && !(le32_get(h + 8) & FLAG_MARKERS)))
        return bad(error, "is of a version that is not known here");
    /* Without a capacity QEMU would take the description for a list of files. */
    if (capacity == 0 || capacity > SIZE_MAX_SECTORS)
        return bad(error, "has an impossible size");
    if (grain < GRAIN_MIN || grain > GRAIN_MAX || (grain & (grain - 1)) != 0 ||
        le32_get(h + 44) != TABLE_ENTRIES)
        return bad(error, "has parts of a size that is not usual");
    int64_t size = (int64_t)capacity * SECTOR;
    if (size > size_max)
        return storage_fail(error, STORAGE_DATA_LONG, "the image has %lld bytes, more than the disk's %lld",
                            (long long)size, (long long)size_max);
    const struct tables tables = {.fd = fd,
                                  .file_size = file_size,
                                  .size = size,
                                  .grain = (int64_t)grain * SECTOR,
                                  .packed = packing == 1,
                                  .error = error};
    if (check_text(fd, file_size, h, error) < 0 || take_footer(fd, file_size, h, error) < 0 ||
        check_tables(&tables, h) < 0)
        return -1;
    *virtual_size = size;
    return 0;
}

int vmdk_check(const struct storage_sr *sr, int fd, int64_t file_size, int64_t size_max,
               int64_t *virtual_size, struct storage_error *error)
{
    if (vmdk_check_head(fd, file_size, size_max, virtual_size, error) < 0)
        return -1;
    return image_examine(sr, fd, DISK_VMDK, *virtual_size, error);
}
