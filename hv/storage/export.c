/* Export: a disk's content as a stream, in raw form or as a qcow2 image. Where that is not the disk's own
 * form a converted copy is made in the SR first, because an image cannot be written front to back. */
#include "storage_internal.h"
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>

#define PIECE ((size_t)256 << 10)
#define SECTOR INT64_C(512)

static int send_file(int fd, int64_t from, int64_t length, const struct storage_sink *sink,
                     const struct storage_job *job, double progress_from, struct storage_error *error)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    if (sink->begin && sink->begin(sink->arg, length) < 0)
        return storage_fail(error, STORAGE_CANCELLED, "the receiver gave up");
    for (int64_t at = 0; at < length;) {
        if (job_cancelled(job))
            return storage_fail(error, STORAGE_CANCELLED, "cancelled");
        size_t want = length - at < (int64_t)PIECE ? (size_t)(length - at) : PIECE;
        ssize_t n = pread(fd, piece, want, from + at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return storage_fail_errno(error, errno, "cannot read the disk's data");
        if (n == 0)
            return storage_fail(error, STORAGE_IO, "the disk's file became shorter");
        if (sink->write(sink->arg, piece, (size_t)n) < 0)
            return storage_fail(error, STORAGE_CANCELLED, "the receiver gave up");
        at += n;
        job_progress(job, progress_from + (1 - progress_from) * (double)at / (double)length);
    }
    return 0;
}

/* ---- differences ---- */

#define GRAIN ((int64_t)64 << 10) /* as storage_changes_list has it */

/* A disk's content in raw form: its own file, or a copy. */
struct content {
    struct disk_layers layers;
    struct temp_file copy;
    int fd;
    int64_t size;
};

static void content_done(struct content *c)
{
    temp_done(&c->copy);
    disk_layers_done(&c->layers);
}
#define AUTO_CONTENT __attribute__((cleanup(content_done)))

static int content_open(struct storage_sr *sr, const char *location, const struct storage_job *job,
                        struct content *c, struct storage_error *error)
{
    if (disk_layers_open(sr, location, O_RDONLY, &c->layers, error) < 0)
        return -1;
    const struct disk_file *d = &c->layers.files[0];
    c->size = d->virtual_size;
    c->fd = d->fd;
    if (d->format == DISK_RAW)
        return 0;
    if (temp_open(sr, &c->copy, error) < 0 || disk_make(&c->copy, DISK_RAW, c->size, error) < 0)
        return -1;
    c->fd = c->copy.fd;
    struct conversion how = {.to = c->fd, .to_format = DISK_RAW, .target_size = c->size, .job = job};
    return image_convert_layers(sr, &c->layers, &how, error);
}

/* Reads `len` bytes, with zeroes behind the end. */
static int read_grain(const struct content *c, char *to, int64_t at, struct storage_error *error)
{
    int64_t want = c->size - at < GRAIN ? c->size - at : GRAIN, done = 0;
    memset(to, 0, (size_t)GRAIN);
    while (done < want) {
        ssize_t n = pread(c->fd, to + done, (size_t)(want - done), at + done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return storage_fail_errno(error, errno, "cannot read the disk's data");
        if (n == 0)
            break;
        done += n;
    }
    return 0;
}

/* Where nobody has noted what changed, the bytes tell. */
static int compare(const struct content *old, const struct content *now, const struct storage_job *job,
                   uint8_t **bits, size_t *len, struct storage_error *error)
{
    int64_t grains = (now->size + GRAIN - 1) / GRAIN;
    *len = (size_t)(grains + 7) / 8;
    *bits = xcalloc(*len + 1, 1);
    AUTO_FREE char *a = xmalloc((size_t)GRAIN), *b = xmalloc((size_t)GRAIN);
    for (int64_t i = 0; i < grains; i++) {
        if (job_cancelled(job))
            return storage_fail(error, STORAGE_CANCELLED, "cancelled");
        if (read_grain(old, a, i * GRAIN, error) < 0 || read_grain(now, b, i * GRAIN, error) < 0)
            return -1;
        if (memcmp(a, b, (size_t)GRAIN) != 0)
            (*bits)[i / 8] |= (uint8_t)(0x80 >> i % 8);
    }
    return 0;
}

int storage_disk_export_changes(struct storage_sr *sr, const char *base, const char *location,
                                const struct storage_sink *sink, const struct storage_job *job,
                                struct storage_error *error)
{
    AUTO_CONTENT struct content now = {.copy = TEMP_FILE_INIT, .fd = -1};
    AUTO_CONTENT struct content old = {.copy = TEMP_FILE_INIT, .fd = -1};
    AUTO_FREE uint8_t *bits = NULL;
    size_t len;
    const struct vhd_delta names = {.uuid = location, .parent = base};
    int rc = storage_changes_list(sr, base, location, &bits, &len, error);
    if (rc < 0 && error->kind != STORAGE_UNRELATED)
        return -1;
    if (content_open(sr, location, job, &now, error) < 0)
        return -1;
    if (rc < 0 &&
        (content_open(sr, base, job, &old, error) < 0 || compare(&old, &now, job, &bits, &len, error) < 0))
        return -1;
    return vhd_delta_send(now.fd, now.size, &names, bits, len, sink, job, error);
}

/* ---- all of it ---- */

int storage_disk_export(struct storage_sr *sr, const char *location, enum disk_format format,
                        const struct storage_sink *sink, const struct storage_job *job,
                        struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    if (disk_layers_open(sr, location, O_RDONLY, &layers, error) < 0)
        return -1;
    const struct disk_file *d = &layers.files[0];
    if (format == DISK_RAW && d->format == DISK_RAW)
        return send_file(d->fd, 0, d->virtual_size, sink, job, 0, error);
    AUTO_TEMP struct temp_file copy = TEMP_FILE_INIT;
    struct stat st;
    if (sr->kind->read_only)
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "an SR of type %s gives its disks in raw form only",
                            sr->kind->type);
    if (temp_open(sr, &copy, error) < 0 || disk_make(&copy, format, d->virtual_size, error) < 0)
        return -1;
    struct conversion how = {
        .to = copy.fd, .to_format = format, .target_size = d->virtual_size, .job = job, .progress_to = 0.5};
    if (image_convert_layers(sr, &layers, &how, error) < 0)
        return -1;
    if (fstat(copy.fd, &st) < 0)
        return storage_fail_errno(error, errno, "cannot look at the copy");
    return send_file(copy.fd, 0, st.st_size, sink, job, 0.5, error);
}

int storage_disk_export_part(struct storage_sr *sr, const char *location, int64_t from, int64_t length,
                             const struct storage_sink *sink, const struct storage_job *job,
                             struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    AUTO_TEMP struct temp_file copy = TEMP_FILE_INIT;
    if (disk_layers_open(sr, location, O_RDONLY, &layers, error) < 0)
        return -1;
    const struct disk_file *d = &layers.files[0];
    if (length < 0 && from >= 0 && from <= d->virtual_size)
        length = d->virtual_size - from;
    if (from < 0 || length < 0 || from > d->virtual_size || length > d->virtual_size - from)
        return storage_fail(error, STORAGE_BAD_SIZE, "the disk has no such part: it has %lld bytes",
                            (long long)d->virtual_size);
    if (d->format == DISK_RAW || length == 0)
        return send_file(d->fd, from, length, sink, job, 0, error);
    /* Whole sectors around it are copied. */
    int64_t start = from / SECTOR * SECTOR, end = (from + length + SECTOR - 1) / SECTOR * SECTOR;
    struct conversion how = {.to_format = DISK_RAW,
                             .target_size = end - start,
                             .job = job,
                             .progress_to = 0.5,
                             .at = start,
                             .count = end - start};
    if (temp_open(sr, &copy, error) < 0 || disk_make(&copy, DISK_RAW, end - start, error) < 0)
        return -1;
    how.to = copy.fd;
    if (image_convert_layers(sr, &layers, &how, error) < 0)
        return -1;
    return send_file(copy.fd, from - start, length, sink, job, 0.5, error);
}
