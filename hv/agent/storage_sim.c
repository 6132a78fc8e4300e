/* Storage under the simulator: repositories and imports as they are, but every disk is a sparse raw file, so
 * that nothing of QEMU is needed. */
#include "agent.h"
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

static int create_raw(struct storage_sr *sr, const char *uuid, int64_t virtual_size_bytes,
                      enum disk_format format, int64_t *out, struct storage_error *error)
{
    (void)format;
    return storage_disk_create(sr, uuid, virtual_size_bytes, DISK_RAW, out, error);
}

static int copy_bytes(int from, int to, int64_t size)
{
    /* Holes stay holes. */
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -1;
        off_t end = lseek(from, data, SEEK_HOLE);
        for (off_t in = data; in < end;) {
            off_t out = in;
            ssize_t n = copy_file_range(from, &in, to, &out, (size_t)(end - in), 0);
            if (n <= 0)
                return -1;
        }
        at = end;
    }
    return 0;
}

static int copy_raw(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                    const char *to_uuid, enum disk_format to_format, const struct storage_job *job,
                    struct storage_error *error)
{
    struct storage_disk disk;
    enum disk_format format;
    int64_t size;
    int from AUTO_CLOSE = -1, to AUTO_CLOSE = -1;
    (void)to_format;
    if (storage_disk_stat(sr, location, &disk, error) < 0)
        return -1;
    size = disk.virtual_size_bytes;
    storage_disk_done(&disk);
    if (storage_disk_open(sr, location, false, &from, &format, error) < 0 ||
        storage_disk_create(to_sr, to_uuid, size, DISK_RAW, &size, error) < 0)
        return -1;
    if (storage_disk_open(to_sr, to_uuid, true, &to, &format, error) == 0 &&
        copy_bytes(from, to, size) == 0 && !(job->cancel && atomic_load(job->cancel)))
        return 0;
    int failure = errno;
    bool cancelled = job->cancel && atomic_load(job->cancel);
    struct storage_error ignored;
    storage_disk_destroy(to_sr, to_uuid, &ignored);
    *error = (struct storage_error){.kind = cancelled           ? STORAGE_CANCELLED
                                            : failure == ENOSPC ? STORAGE_FULL
                                                                : STORAGE_IO};
    snprintf(error->text, sizeof(error->text), "the disk cannot be copied: %s",
             cancelled ? "it was cancelled" : strerror(failure));
    return -1;
}

const struct storage_table storage_simulated = {
    .sr_create = storage_sr_create,
    .sr_attach = storage_sr_attach,
    .disk_create = create_raw,
    .disk_copy = copy_raw,
};
