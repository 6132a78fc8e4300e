/* Uploads in parts: a file that is filled over many connections, and then becomes a disk's content.
 *
 * Behind its data, in a sector of its own, the file notes how much of it counts: what has been written to the
 * disk. The note is gone once `finish` has made the file what a disk is, which it only does with all of it.
 */
#include "storage_internal.h"
#include <base/bytes.h>
#include <base/digest.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>

#define PREFIX "upload-"
#define PIECE ((size_t)256 << 10)
#define SECTOR INT64_C(512)
#define NOTE_EVERY (INT64_C(32) << 20) /* so much at most is sent again after a crash */
#define NOTE_MAGIC "corralup"
#define NOTE_SIZE 16

struct upload {
    struct temp_file file; /* whose name is not for the sweep of temporary files */
    int64_t length, offset;
};

static void upload_close(struct upload *u)
{
    fd_close_cleanup(&u->file.fd);
}
#define AUTO_UPLOAD __attribute__((cleanup(upload_close)))
#define UPLOAD_INIT                                                                                          \
    {                                                                                                        \
        .file = TEMP_FILE_INIT                                                                               \
    }

static int64_t note_at(int64_t length)
{
    return (length + SECTOR - 1) / SECTOR * SECTOR;
}

bool upload_name_parse(const char *name)
{
    struct ref uuid;
    size_t len = sizeof(PREFIX) - 1;
    return strncmp(name, PREFIX, len) == 0 && uuid_parse(name + len, &uuid);
}

static int name_of(const char *uuid_text, char name[static FILE_NAME_SIZE], struct storage_error *error)
{
    char uuid[UUID_TEXT_SIZE];
    if (disk_check_uuid(uuid_text, uuid, error) < 0)
        return -1;
    snprintf(name, FILE_NAME_SIZE, PREFIX "%s", uuid);
    return 0;
}

int upload_remove(const struct storage_sr *sr, const char *uuid, struct storage_error *error)
{
    char name[FILE_NAME_SIZE];
    if (name_of(uuid, name, error) < 0)
        return -1;
    if (unlinkat(sr->dir, name, 0) < 0 && errno != ENOENT)
        return storage_fail_errno(error, errno, "cannot remove the upload's file");
    return 0;
}

/* Makes the data count up to `offset`. */
static int note(struct upload *u, int64_t offset, struct storage_error *error)
{
    uint8_t text[NOTE_SIZE];
    memcpy(text, NOTE_MAGIC, 8);
    be64_put(text + 8, (uint64_t)offset);
    if (fdatasync(u->file.fd) < 0 || file_write_at(u->file.fd, text, sizeof(text), note_at(u->length)) < 0 ||
        fdatasync(u->file.fd) < 0)
        return storage_fail_errno(error, errno, "cannot write the upload's data");
    u->offset = offset;
    return 0;
}

static int read_note(struct upload *u, struct storage_error *error)
{
    uint8_t text[NOTE_SIZE];
    struct stat st;
    if (fstat(u->file.fd, &st) < 0)
        return storage_fail_errno(error, errno, "cannot look at the upload's file");
    if (st.st_size != note_at(u->length) + SECTOR) {
        u->offset = u->length; /* it was whole when it was made a disk of */
        return 0;
    }
    if (file_read_at(u->file.fd, text, sizeof(text), note_at(u->length)) < 0)
        return storage_fail_errno(error, errno, "cannot read the upload's file");
    uint64_t offset = be64_get(text + 8);
    bool valid = memcmp(text, NOTE_MAGIC, 8) == 0 && offset <= (uint64_t)u->length;
    u->offset = valid ? (int64_t)offset : 0;
    return 0;
}

/* `work`: nobody else may meanwhile. */
static int upload_open(struct storage_sr *sr, const struct storage_upload *upload, bool work,
                       struct upload *out, struct storage_error *error)
{
    AUTO_UPLOAD struct upload u = UPLOAD_INIT;
    char name[FILE_NAME_SIZE];
    int64_t rounded;
    if (disk_refuse_change(sr, error) < 0 || name_of(upload->uuid, name, error) < 0 ||
        disk_check_size(upload->length, &rounded, error) < 0)
        return -1;
    u.file.sr = sr;
    snprintf(u.file.name, sizeof(u.file.name), "%.*s", (int)sizeof(u.file.name) - 1, name);
    u.length = upload->length;
    u.file.fd = folder_open(sr, name, O_RDWR);
    if (u.file.fd < 0)
        return errno == ENOENT ? storage_fail(error, STORAGE_NO_DISK, "there is no such upload in the SR")
                               : storage_fail_errno(error, errno, "cannot open the upload's file");
    if (work && flock(u.file.fd, LOCK_EX | LOCK_NB) < 0)
        return storage_fail_errno(error, errno, "another agent works on the upload");
    if (read_note(&u, error) < 0)
        return -1;
    *out = u;
    u.file.fd = -1;
    return 0;
}

static int upload_make(struct storage_sr *sr, const struct storage_upload *upload,
                       struct storage_error *error)
{
    AUTO_TEMP struct temp_file t = TEMP_FILE_INIT;
    char name[FILE_NAME_SIZE];
    int64_t rounded;
    if (disk_refuse_change(sr, error) < 0 || name_of(upload->uuid, name, error) < 0 ||
        disk_check_size(upload->length, &rounded, error) < 0 || temp_open(sr, &t, error) < 0)
        return -1;
    if (ftruncate(t.fd, note_at(upload->length) + SECTOR) < 0)
        return storage_fail_errno(error, errno, "cannot size the upload's file");
    return temp_commit(&t, name, false, error);
}

int storage_upload_look(struct storage_sr *sr, const struct storage_upload *upload, int64_t *offset,
                        struct storage_error *error)
{
    AUTO_UPLOAD struct upload u = UPLOAD_INIT;
    if (upload_open(sr, upload, false, &u, error) < 0)
        return -1;
    *offset = u.offset;
    return 0;
}

/* ---- writing ---- */

/* What an earlier attempt left behind the place where this one begins; zeros are left out then. */
static bool clear_rest(const struct upload *u, int64_t from)
{
    return fallocate(u->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from,
                     note_at(u->length) - from) == 0;
}

/* *at: behind the last byte that came. */
static int receive(struct upload *u, bool whole, const struct storage_source *source,
                   const struct storage_job *job, int64_t *at, struct storage_error *error)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    struct spool s = {.fd = u->file.fd, .at = u->offset, .max = u->length};
    int64_t from = u->offset;
    s.skip_zeros = from < u->length && clear_rest(u, from);
    for (ssize_t n;; *at = s.at) {
        if (job_cancelled(job))
            return storage_fail(error, STORAGE_CANCELLED, "cancelled");
        n = source->read(source->arg, piece, PIECE);
        if (n < 0)
            return storage_fail(error, STORAGE_DATA_SHORT, "the data broke off after %lld bytes",
                                (long long)(s.at - from));
        if (n == 0)
            break;
        if (spool_write(&s, piece, (size_t)n, error) < 0 ||
            (!whole && s.at - u->offset >= NOTE_EVERY && note(u, s.at, error) < 0))
            return -1;
        job_progress(job, (double)s.at / (double)u->length);
    }
    if (source->length >= 0 && s.at - from != source->length)
        return storage_fail(error, STORAGE_DATA_SHORT, "%lld bytes came of the %lld that were announced",
                            (long long)(s.at - from), (long long)source->length);
    return 0;
}

int storage_upload_write(struct storage_sr *sr, const struct storage_upload *upload, int64_t from, bool whole,
                         const struct storage_source *source, const struct storage_job *job, int64_t *offset,
                         struct storage_error *error)
{
    AUTO_UPLOAD struct upload u = UPLOAD_INIT;
    struct storage_error ignored;
    *offset = 0;
    if (upload_open(sr, upload, true, &u, error) < 0 &&
        (error->kind != STORAGE_NO_DISK || upload_make(sr, upload, error) < 0 ||
         upload_open(sr, upload, true, &u, error) < 0))
        return -1;
    *offset = u.offset;
    if (u.offset != from)
        return storage_fail(error, STORAGE_BAD_SIZE, "the upload goes on at byte %lld", (long long)u.offset);
    int64_t at = from;
    int outcome = receive(&u, whole, source, job, &at, error);
    if (outcome == 0)
        outcome = note(&u, at, error);
    else if (!whole)
        (void)note(&u, at, &ignored); /* what came is good; the first error is told */
    *offset = u.offset;
    return outcome;
}

/* ---- the end ---- */

static int check_digest(const struct upload *u, const char *sha256, const struct storage_job *job,
                        double progress_to, struct storage_error *error)
{
    AUTO_FREE char *piece = xmalloc(PIECE);
    AUTO_DIGESTER struct digester *digester = digester_new(DIGEST_SHA256);
    unsigned char sum[DIGEST_SIZE];
    char text[DIGEST_TEXT_SIZE];
    size_t n;
    for (int64_t at = 0; at < u->length; at += (int64_t)n) {
        n = u->length - at < (int64_t)PIECE ? (size_t)(u->length - at) : PIECE;
        if (job_cancelled(job))
            return storage_fail(error, STORAGE_CANCELLED, "cancelled");
        if (file_read_at(u->file.fd, piece, n, at) < 0)
            return storage_fail_errno(error, errno, "cannot read the upload's data");
        digester_add(digester, piece, n);
        job_progress(job, progress_to * (double)(at + (int64_t)n) / (double)u->length);
    }
    if (!digester_end(digester, sum))
        return storage_fail(error, STORAGE_IO, "OpenSSL makes no SHA-256");
    if (!streq(sha256, digest_text(DIGEST_SHA256, sum, text)))
        return storage_fail(error, STORAGE_BAD_IMAGE, "the data has another SHA-256 than was announced");
    return 0;
}

int storage_upload_finish(struct storage_sr *sr, const struct storage_upload *upload, const char *location,
                          enum disk_format format, const char *sha256, const struct storage_job *job,
                          struct storage_error *error)
{
    AUTO_UPLOAD struct upload u = UPLOAD_INIT;
    AUTO_DISK_FILE struct disk_file d = DISK_FILE_INIT;
    double before = *sha256 ? 0.3 : 0;
    if (upload_open(sr, upload, true, &u, error) < 0 || disk_file_open(sr, location, O_RDONLY, &d, error) < 0)
        return -1;
    if (u.offset != u.length)
        return storage_fail(error, STORAGE_DATA_SHORT, "%lld bytes of %lld have come", (long long)u.offset,
                            (long long)u.length);
    if (u.length > spool_max(&d, format))
        return storage_fail(error, STORAGE_DATA_LONG, "the data has %lld bytes, more than the disk takes",
                            (long long)u.length);
    if (*sha256 && check_digest(&u, sha256, job, before, error) < 0)
        return -1;
    if (ftruncate(u.file.fd, u.length) < 0)
        return storage_fail_errno(error, errno, "cannot size the upload's file");
    if (spool_settle(sr, &u.file, &d, format, u.length, job, before, error) == 0)
        return u.file.name[0] ? upload_remove(sr, upload->uuid, error) : 0;
    struct storage_error ignored;
    if (ftruncate(u.file.fd, note_at(u.length) + SECTOR) == 0)
        (void)note(&u, u.length, &ignored); /* without its note it counts as whole just so */
    return -1;
}
