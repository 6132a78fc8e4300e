/* Export: a disk's content as a stream, in raw form or as a qcow2 image. Where that is not the disk's own
 * form a converted copy is made in the SR first, because an image cannot be written front to back. */
#include "storage_internal.h"
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>

#define PIECE ((size_t)256 << 10)

static int send_file(int fd, int64_t length, const struct storage_sink *sink, const struct storage_job *job,
                     double progress_from, struct storage_error *error)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    if (sink->begin && sink->begin(sink->arg, length) < 0)
        return storage_fail(error, STORAGE_CANCELLED, "the receiver gave up");
    for (int64_t at = 0; at < length;) {
        if (job_cancelled(job))
            return storage_fail(error, STORAGE_CANCELLED, "cancelled");
        size_t want = length - at < (int64_t)PIECE ? (size_t)(length - at) : PIECE;
        ssize_t n = pread(fd, piece, want, at);
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

int storage_disk_export(struct storage_sr *sr, const char *location, enum disk_format format,
                        const struct storage_sink *sink, const struct storage_job *job,
                        struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    if (disk_layers_open(sr, location, O_RDONLY, &layers, error) < 0)
        return -1;
    const struct disk_file *d = &layers.files[0];
    if (format == DISK_RAW && d->format == DISK_RAW)
        return send_file(d->fd, d->virtual_size, sink, job, 0, error);
    AUTO_TEMP struct temp_file copy = TEMP_FILE_INIT;
    struct stat st;
    if (sr->kind->read_only)
        return storage_fail(error, STORAGE_NOT_SUPPORTED, "an SR of type %s gives its disks in raw form only",
                            sr->kind->type);
    if (temp_open(sr, &copy, error) < 0 || disk_make(&copy, format, d->virtual_size, error) < 0)
        return -1;
    struct conversion how = {copy.fd, format, d->virtual_size, job, 0, 0.5};
    if (image_convert_layers(sr, &layers, &how, error) < 0)
        return -1;
    if (fstat(copy.fd, &st) < 0)
        return storage_fail_errno(error, errno, "cannot look at the copy");
    return send_file(copy.fd, st.st_size, sink, job, 0.5, error);
}
