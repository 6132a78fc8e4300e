/* The reader of streamOptimized VMDK: the header, then grains of deflated data and tables, each behind a
 * marker of one sector. Only the markers are believed, and they only as far as they stay inside the file and
 * the disk. */
#include "vmdk.h"
#include "guests.h"
#include <base/bytes.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <unistd.h>
#include <zlib.h>

#define SECTOR 512
#define GRAIN_MAX 2048 /* sectors; writers use 128 */
#define FLAGS 0x30000  /* compressed grains, markers */

enum marker { MARKER_END, MARKER_TABLE, MARKER_FOLDER, MARKER_FOOTER };

struct image {
    int from, to;
    int64_t start, length, capacity; /* bytes */
    int64_t at;                      /* in the image: the next marker */
    size_t grain;                    /* bytes */
    uint8_t *packed, *plain;
    char **problem;
};

static int fail(struct image *v, const char *why)
{
    guest_problem(v->problem, "the VMDK image at byte %lld: %s", (long long)v->at, why);
    return -1;
}

static int read_at(struct image *v, void *to, size_t len, int64_t at)
{
    if (at < 0 || at > v->length || (int64_t)len > v->length - at)
        return fail(v, "it breaks off");
    if (file_read_at(v->from, to, len, v->start + at) < 0)
        return fail(v, errno == ENODATA ? "it breaks off" : strerror(errno));
    return 0;
}

static int write_grain(struct image *v, size_t len, int64_t at)
{
    return file_write_at(v->to, v->plain, len, at) < 0 ? fail(v, strerror(errno)) : 0;
}

/* Of capacity, grains and flags; the rest of the header is for other kinds. */
static int read_header(struct image *v)
{
    uint8_t head[SECTOR];
    if (read_at(v, head, sizeof(head), 0) < 0)
        return -1;
    if (memcmp(head, "KDMV", 4) != 0)
        return fail(v, "it is none");
    uint64_t capacity = le64_get(head + 12), grain = le64_get(head + 20), over = le64_get(head + 64);
    if ((le32_get(head + 8) & FLAGS) != FLAGS || le16_get(head + 77) != 1)
        return fail(
            v,
            "it is not streamOptimized: qemu-img convert -O vmdk -o subformat=streamOptimized makes it so");
    if (grain < 1 || grain > GRAIN_MAX || (grain & (grain - 1)) != 0 || over < 1 ||
        over > (uint64_t)v->length / SECTOR)
        return fail(v, "its header makes no sense");
    if (capacity != (uint64_t)v->capacity / SECTOR)
        return fail(v, "its disk has another size than the description says");
    v->grain = (size_t)grain * SECTOR;
    v->at = (int64_t)over * SECTOR;
    return 0;
}

/* A grain's data begins in its marker. */
static int read_grain(struct image *v, uint64_t sector, uint32_t size)
{
    uLongf plain = v->grain;
    if (sector >= (uint64_t)v->capacity / SECTOR || sector % (v->grain / SECTOR) != 0)
        return fail(v, "a part lies outside of the disk");
    int64_t at = (int64_t)sector * SECTOR;
    if (size > compressBound(v->grain) || read_at(v, v->packed, size, v->at + 12) < 0)
        return *v->problem ? -1 : fail(v, "a part is too large");
    if (uncompress(v->plain, &plain, v->packed, size) != Z_OK)
        return fail(v, "a part is damaged");
    int64_t left = v->capacity - at;
    v->at += ((int64_t)size + 12 + SECTOR - 1) / SECTOR * SECTOR;
    return write_grain(v, (int64_t)plain < left ? plain : (size_t)left, at);
}

/* 1: that was the last one. */
static int read_marker(struct image *v)
{
    uint8_t marker[SECTOR];
    if (read_at(v, marker, sizeof(marker), v->at) < 0)
        return -1;
    uint64_t value = le64_get(marker);
    uint32_t size = le32_get(marker + 8);
    if (size > 0)
        return read_grain(v, value, size);
    switch (le32_get(marker + 12)) {
    case MARKER_END:
        return 1;
    case MARKER_TABLE:
    case MARKER_FOLDER:
    case MARKER_FOOTER:
        if (value > (uint64_t)(v->length - v->at) / SECTOR)
            return fail(v, "it breaks off");
        v->at += (int64_t)(value + 1) * SECTOR;
        return 0;
    }
    return fail(v, "a marker is unknown");
}

static int read_all(struct image *v, vmdk_watch_fn *watch, void *arg)
{
    for (int rc = 0; rc == 0;) {
        if (watch && watch(arg, (uint64_t)v->at, (uint64_t)v->length) != 0)
            return fail(v, "it was stopped");
        rc = read_marker(v);
        if (rc < 0)
            return -1;
        if (rc == 1)
            break;
    }
    return ftruncate(v->to, v->capacity) < 0 ? fail(v, strerror(errno)) : 0;
}

int vmdk_read(int from, int64_t start, int64_t length, int64_t capacity, int to, vmdk_watch_fn *watch,
              void *arg, char **problem)
{
    struct image v = {
        .from = from, .to = to, .start = start, .length = length, .capacity = capacity, .problem = problem};
    *problem = NULL;
    if (capacity < SECTOR || capacity % SECTOR != 0 || capacity > INT64_C(1) << 46)
        return fail(&v, "a disk has whole sectors of 512 bytes");
    if (read_header(&v) < 0)
        return -1;
    v.packed = xmalloc(compressBound(v.grain));
    v.plain = xmalloc(v.grain);
    int rc = read_all(&v, watch, arg);
    free(v.packed);
    free(v.plain);
    return rc;
}
