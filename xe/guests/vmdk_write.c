/* The writer of streamOptimized VMDK, front to back: header and descriptor, grains that are not all zero,
 * each behind its marker, tables of grains where one is full, their folder, and the header once more with
 * where that is. */
#include "guests.h"
#include "vmdk.h"
#include <base/buf.h>
#include <base/bytes.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

#define SECTOR 512
#define GRAIN_SECTORS 128
#define GRAIN ((size_t)GRAIN_SECTORS * SECTOR)
#define TABLE 512 /* grains of a table */
#define TABLE_SECTORS (TABLE * 4 / SECTOR)
#define DESCRIPTOR_SECTORS 20
#define OVERHEAD_SECTORS 128
#define AT_END UINT64_MAX

enum marker { MARKER_END, MARKER_TABLE, MARKER_FOLDER, MARKER_FOOTER };

struct writer {
    int from, to;
    int64_t capacity; /* bytes */
    uint64_t sector;  /* of the image: the next one */
    uint32_t table[TABLE], *folder;
    size_t tables;
    uint8_t *plain, *packed;
    char **problem;
};

static int fail(struct writer *w, const char *why)
{
    guest_problem(w->problem, "the disk cannot be packed: %s", why);
    return -1;
}

/* Whole sectors, filled up with zeroes. */
static int append(struct writer *w, const void *data, size_t len)
{
    static const uint8_t zeroes[SECTOR];
    size_t rest = (SECTOR - len % SECTOR) % SECTOR;
    if (file_write_all(w->to, data, len) < 0 || file_write_all(w->to, zeroes, rest) < 0)
        return fail(w, strerror(errno));
    w->sector += (len + rest) / SECTOR;
    return 0;
}

static int append_marker(struct writer *w, enum marker type, uint64_t sectors)
{
    uint8_t marker[SECTOR] = {0};
    le64_put(marker, sectors);
    le32_put(marker + 12, type);
    return append(w, marker, sizeof(marker));
}

static int append_header(struct writer *w, uint64_t folder)
{
    uint8_t head[SECTOR] = {0};
    memcpy(head, "KDMV", 4);
    le32_put(head + 4, 3);
    le32_put(head + 8, 0x30001); /* compressed grains, markers, line ends below */
    le64_put(head + 12, (uint64_t)w->capacity / SECTOR);
    le64_put(head + 20, GRAIN_SECTORS);
    le64_put(head + 28, 1);
    le64_put(head + 36, DESCRIPTOR_SECTORS);
    le32_put(head + 44, TABLE);
    le64_put(head + 56, folder);
    le64_put(head + 64, OVERHEAD_SECTORS);
    memcpy(head + 73, "\n \r\n", 4);
    le16_put(head + 77, 1); /* deflate */
    return append(w, head, sizeof(head));
}

static int append_descriptor(struct writer *w)
{
    uint8_t text[(OVERHEAD_SECTORS - 1) * SECTOR] = {0};
    uint64_t sectors = (uint64_t)w->capacity / SECTOR;
    snprintf((char *)text, DESCRIPTOR_SECTORS * SECTOR,
             "# Disk "
             "DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"streamOptimized\"\n\n"
             "# Extent description\nRW %" PRIu64 " SPARSE \"disk.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n"
             "ddb.adapterType = \"lsilogic\"\nddb.geometry.cylinders = \"%" PRIu64 "\"\n"
             "ddb.geometry.heads = \"255\"\nddb.geometry.sectors = \"63\"\nddb.virtualHWVersion = \"4\"\n",
             sectors, sectors / (255 * 63));
    return append(w, text, sizeof(text));
}

/* With zeroes behind the disk's end. */
static int read_grain(struct writer *w, int64_t at)
{
    size_t want = w->capacity - at < (int64_t)GRAIN ? (size_t)(w->capacity - at) : GRAIN;
    memset(w->plain, 0, GRAIN);
    if (file_read_at(w->from, w->plain, want, at) < 0)
        return fail(w, errno == ENODATA ? "it is shorter than its size" : strerror(errno));
    return 0;
}

static int append_grain(struct writer *w, int64_t at)
{
    uLongf size = compressBound(GRAIN);
    if (read_grain(w, at) < 0)
        return -1;
    if (w->plain[0] == 0 && memcmp(w->plain, w->plain + 1, GRAIN - 1) == 0)
        return 0;
    if (w->sector > UINT32_MAX)
        return fail(w, "an image of this kind ends at 2 TiB");
    if (compress2(w->packed + 12, &size, w->plain, GRAIN, Z_BEST_SPEED) != Z_OK)
        return fail(w, "its data cannot be deflated");
    w->table[at / (int64_t)GRAIN % TABLE] = (uint32_t)w->sector;
    le64_put(w->packed, (uint64_t)at / SECTOR);
    le32_put(w->packed + 8, size);
    return append(w, w->packed, size + 12);
}

static int append_numbers(struct writer *w, const uint32_t *numbers, size_t count)
{
    AUTO_FREE uint8_t *bytes = xcalloc(count, 4);
    for (size_t i = 0; i < count; i++)
        le32_put(bytes + 4 * i, numbers[i]);
    return append(w, bytes, 4 * count);
}

/* A table of nothing is not there. */
static int append_table(struct writer *w, size_t number)
{
    bool any = false;
    for (size_t i = 0; i < TABLE; i++)
        any = any || w->table[i];
    if (!any)
        return 0;
    if (append_marker(w, MARKER_TABLE, TABLE_SECTORS) < 0)
        return -1;
    w->folder[number] = (uint32_t)w->sector;
    int rc = append_numbers(w, w->table, TABLE);
    memset(w->table, 0, sizeof(w->table));
    return rc;
}

static int append_end(struct writer *w)
{
    if (append_marker(w, MARKER_FOLDER, (w->tables * 4 + SECTOR - 1) / SECTOR) < 0)
        return -1;
    uint64_t folder = w->sector;
    return append_numbers(w, w->folder, w->tables) < 0 || append_marker(w, MARKER_FOOTER, 1) < 0 ||
                   append_header(w, folder) < 0 || append_marker(w, MARKER_END, 0) < 0
               ? -1
               : 0;
}

static int write_all(struct writer *w, vmdk_watch_fn *watch, void *arg)
{
    const int64_t span = (int64_t)GRAIN * TABLE;
    if (append_header(w, AT_END) < 0 || append_descriptor(w) < 0)
        return -1;
    for (int64_t at = 0; at < w->capacity; at += (int64_t)GRAIN) {
        if (watch && watch(arg, (uint64_t)at, (uint64_t)w->capacity) != 0)
            return fail(w, "it was stopped");
        if (append_grain(w, at) < 0)
            return -1;
        bool full = at % span == span - (int64_t)GRAIN, last = at + (int64_t)GRAIN >= w->capacity;
        if ((full || last) && append_table(w, (size_t)(at / span)) < 0)
            return -1;
    }
    return append_end(w);
}

int vmdk_write(int from, int64_t capacity, int to, vmdk_watch_fn *watch, void *arg, char **problem)
{
    struct writer w = {.from = from, .to = to, .capacity = capacity, .problem = problem};
    *problem = NULL;
    if (capacity < SECTOR || capacity % SECTOR != 0 || capacity > INT64_C(1) << 46)
        return fail(&w, "a disk has whole sectors of 512 bytes");
    w.tables = (size_t)((capacity + (int64_t)GRAIN * TABLE - 1) / ((int64_t)GRAIN * TABLE));
    w.folder = xcalloc(w.tables, sizeof(*w.folder));
    w.plain = xmalloc(GRAIN);
    w.packed = xmalloc(compressBound(GRAIN) + 12);
    int rc = write_all(&w, watch, arg);
    free(w.folder);
    free(w.plain);
    free(w.packed);
    return rc;
}
