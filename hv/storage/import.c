/* Import: a stream of bytes becomes a disk's content. It is spooled to a temporary file, checked,
 * converted where the formats differ, and takes the disk's name by a rename: until then the disk is as
 * it was, and whatever fails leaves nothing. */
#include "storage_internal.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>

#define PIECE ((size_t)256 << 10)
#define BLOCK ((size_t)4096)

/* Where an upload is written to. */
struct spool {
    int fd;
    int64_t at, max; /* bytes so far; the most that is accepted */
    bool skip_zeros; /* leave holes (raw data only: a spooled image must be complete) */
};

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

static int spool_write(struct spool *s, const char *data, size_t len, struct storage_error *error)
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

static int import_raw(struct temp_file *spooled, const struct disk_file *d,
                      const struct storage_source *source, const struct storage_job *job, double progress_to,
                      struct storage_error *error)
{
    struct spool s = {.fd = spooled->fd, .max = d->virtual_size, .skip_zeros = true};
    if (source->length > d->virtual_size)
        return storage_fail(error, STORAGE_DATA_LONG, "the data has %lld bytes, more than the disk's %lld",
                            (long long)source->length, (long long)d->virtual_size);
    if (spool_all(&s, source, job, progress_to, error) < 0)
        return -1;
    if (ftruncate(spooled->fd, d->virtual_size) < 0)
        return storage_fail_errno(error, errno, "cannot size the disk's file");
    return 0;
}

/* An image is spooled as it comes, then checked. */
static int import_image(struct temp_file *spooled, const struct disk_file *d,
                        const struct storage_source *source, enum disk_format format,
                        const struct storage_job *job, double progress_to, struct storage_error *error)
{
    /* Data, tables and some snapshots: enough for an honest image, a bound for another. */
    int64_t max = d->virtual_size + d->virtual_size / 8 + (INT64_C(64) << 20), virtual_size;
    struct spool s = {.fd = spooled->fd, .max = max};
    if (source->length > max)
        return storage_fail(error, STORAGE_DATA_LONG,
                            "the data has %lld bytes, far more than the disk's %lld",
                            (long long)source->length, (long long)d->virtual_size);
    if (spool_all(&s, source, job, progress_to, error) < 0)
        return -1;
    if (format == DISK_VHD)
        return vhd_check(spooled->fd, s.at, d->virtual_size, &virtual_size, error);
    return image_check_qcow2(spooled->sr, spooled->fd, d->virtual_size, &virtual_size, error);
}

int storage_disk_import(struct storage_sr *sr, const char *location, enum disk_format format,
                        const struct storage_source *source, const struct storage_job *job,
                        struct storage_error *error)
{
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    AUTO_TEMP struct temp_file spooled = TEMP_FILE_INIT;
    AUTO_TEMP struct temp_file converted = TEMP_FILE_INIT;
    if (sr->kind->read_only)
        return storage_fail(error, STORAGE_READ_ONLY, "the disks of this SR are read-only");
    if (disk_file_open(sr, location, O_RDONLY, &d, error) < 0 || temp_open(sr, &spooled, error) < 0)
        return -1;
    bool as_it_is = format == DISK_RAW && d.format == DISK_RAW;
    if (format == DISK_RAW ? import_raw(&spooled, &d, source, job, as_it_is ? 1 : 0.7, error) < 0
                           : import_image(&spooled, &d, source, format, job, 0.7, error) < 0)
        return -1;
    if (as_it_is)
        return temp_commit(&spooled, d.name, true, error);
    if (temp_open(sr, &converted, error) < 0 || disk_make(&converted, d.format, d.virtual_size, error) < 0)
        return -1;
    struct conversion how = {converted.fd, d.format, d.virtual_size, job, 0.7, 1};
    if (image_convert(sr, spooled.fd, format, &how, error) < 0)
        return -1;
    if (temp_commit(&converted, d.name, true, error) < 0)
        return -1;
    if (d.backing[0])
        layers_sweep(sr); /* it may have been the last on its base */
    return 0;
}
