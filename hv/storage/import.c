/* Import: a stream of bytes becomes a disk's content. It is spooled to a temporary file, checked,
 * converted where the formats differ, and takes the disk's name by a rename: until then the disk is as
 * it was, and whatever fails leaves nothing. */
#include "storage_internal.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <hv/image.h>

#define PIECE ((size_t)256 << 10)
#define BLOCK ((size_t)4096)

static bool is_zero(const char *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* Writes runs of blocks, leaving out those of zeros. */
static int write_sparse(const struct spool *s, const char *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        size_t run = 0;
        while (done + run < len) {
            /* Blocks end at multiples of BLOCK in the file, whatever pieces the data comes in. */
            size_t to_edge = BLOCK - (size_t)((s->at + (int64_t)(done + run)) % (int64_t)BLOCK);
            size_t block = to_edge < len - done - run ? to_edge : len - done - run;
            if (is_zero(data + done + run, block)) {
                if (run > 0)
                    break;
                done += block;
                continue;
            }
            run += block;
        }
        if (run > 0 && file_write_at(s->fd, data + done, run, s->at + (int64_t)done) < 0)
            return -1;
        done += run;
    }
    return 0;
}

int spool_write(struct spool *s, const char *data, size_t len, struct storage_error *error)
{
    if ((int64_t)len > s->max - s->at)
        return storage_fail(error, STORAGE_DATA_LONG, "the data is longer than the %lld bytes that fit",
                            (long long)s->max);
    int rc = s->skip_zeros ? write_sparse(s, data, len) : file_write_at(s->fd, data, len, s->at);
    if (rc < 0)
        return storage_fail_errno(error, errno, "cannot write the disk's data");
    s->at += (int64_t)len;
    return 0;
}

/* Reads the stream to its end. */
static int spool_all(struct spool *s, const struct storage_source *source, const struct storage_job *job,
                     double progress_to, struct storage_error *error)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    double expected = source->length > 0 ? (double)source->length : (double)s->max;
    for (;;) {
        if (job_cancelled(job))
            return storage_fail(error, STORAGE_CANCELLED, "cancelled");
        ssize_t n = source->read(source->arg, piece, PIECE);
        if (n < 0)
            return storage_fail(error, STORAGE_DATA_SHORT, "the data broke off after %lld bytes",
                                (long long)s->at);
        if (n == 0)
            break;
        if (spool_write(s, piece, (size_t)n, error) < 0)
            return -1;
        job_progress(job, progress_to * (double)s->at / expected);
    }
    if (source->length >= 0 && s->at != source->length)
        return storage_fail(error, STORAGE_DATA_SHORT, "%lld bytes came of the %lld that were announced",
                            (long long)s->at, (long long)source->length);
    return 0;
}

/* Fills `spooled` from the stream; *got bytes came. An image is checked when it is whole: here it only has a
 * bound. */
static int spool_source(struct temp_file *spooled, const struct disk_file *d, enum disk_format format,
                        const struct storage_source *source, const struct storage_job *job,
                        double progress_to, int64_t *got, struct storage_error *error)
{
    struct spool s = {.fd = spooled->fd, .max = spool_max(d, format), .skip_zeros = format == DISK_RAW};
    if (source->length > s.max)
        return storage_fail(error, STORAGE_DATA_LONG, "the data has %lld bytes, %s than the disk's %lld",
                            (long long)source->length, format == DISK_RAW ? "more" : "far more",
                            (long long)d->virtual_size);
    if (spool_all(&s, source, job, progress_to, error) < 0)
        return -1;
    *got = s.at;
    return 0;
}

int64_t spool_max(const struct disk_file *d, enum disk_format format)
{
    return format == DISK_RAW ? d->virtual_size : image_bytes_max(d->virtual_size);
}

/* What was spooled is what its format says, and fits. Raw data gets the disk's size. */
static int check_spooled(const struct temp_file *spooled, const struct disk_file *d, enum disk_format format,
                         int64_t length, struct storage_error *error)
{
    int64_t virtual_size;
    if (format == DISK_RAW)
        return ftruncate(spooled->fd, d->virtual_size) == 0
                   ? 0
                   : storage_fail_errno(error, errno, "cannot size the disk's file");
    if (format == DISK_VHD)
        return vhd_check(spooled->fd, length, d->virtual_size, &virtual_size, error);
    if (format == DISK_VMDK)
        return vmdk_check(spooled->sr, spooled->fd, length, d->virtual_size, &virtual_size, error);
    return image_check_qcow2(spooled->sr, spooled->fd, d->virtual_size, &virtual_size, error);
}

int spool_settle(struct storage_sr *sr, struct temp_file *spooled, const struct disk_file *d,
                 enum disk_format format, int64_t length, const struct storage_job *job, double progress_from,
                 struct storage_error *error)
{
    AUTO_TEMP struct temp_file converted = TEMP_FILE_INIT;
    if (check_spooled(spooled, d, format, length, error) < 0)
        return -1;
    if (format == DISK_RAW && d->format == DISK_RAW)
        return temp_commit(spooled, d->name, true, error);
    if (temp_open(sr, &converted, error) < 0 || disk_make(&converted, d->format, d->virtual_size, error) < 0)
        return -1;
    struct conversion how = {.to = converted.fd,
                             .to_format = d->format,
                             .target_size = d->virtual_size,
                             .job = job,
                             .progress_from = progress_from,
                             .progress_to = 1};
    if (image_convert(sr, spooled->fd, format, &how, error) < 0 ||
        temp_commit(&converted, d->name, true, error) < 0)
        return -1;
    if (d->backing[0])
        layers_sweep(sr); /* it may have been the last on its base */
    return 0;
}

int storage_disk_import(struct storage_sr *sr, const char *location, enum disk_format format,
                        const struct storage_source *source, const struct storage_job *job,
                        struct storage_error *error)
{
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    AUTO_TEMP struct temp_file spooled = TEMP_FILE_INIT;
    int64_t got = 0;
    if (disk_refuse_change(sr, error) < 0 || disk_file_open(sr, location, O_RDONLY, &d, error) < 0 ||
        temp_open(sr, &spooled, error) < 0)
        return -1;
    double spooling = format == DISK_RAW && d.format == DISK_RAW ? 1 : 0.7;
    if (spool_source(&spooled, &d, format, source, job, spooling, &got, error) < 0)
        return -1;
    return spool_settle(sr, &spooled, &d, format, got, job, spooling, error);
}
