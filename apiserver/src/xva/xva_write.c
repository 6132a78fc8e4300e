/* Writing archives with libarchive: ustar, its members in one go. */
#include "xva.h"

#include <archive.h>
#include <archive_entry.h>
#include <base/clock.h>
#include <base/digest.h>
#include <base/mem.h>
#include <stdio.h>
#include <xxhash.h>

#define OUT_BYTES 65536

struct xva_writer {
    struct archive *archive;
    int (*write)(void *arg, const void *data, size_t len);
    void *arg;
    bool failed;
    enum xva_checksum checksum;
    char id[XVA_NAME_SIZE]; /* of the disk that is being written */
    int64_t size, at;
    char *chunk;
    size_t filled;
};

static la_ssize_t on_write(struct archive *archive, void *arg, const void *data, size_t len)
{
    struct xva_writer *w = arg;
    (void)archive;
    /* libarchive 3.6 loses its buffers when a write fails: it is told that all is well. */
    if (!w->failed && w->write(w->arg, data, len) < 0)
        w->failed = true;
    return (la_ssize_t)len;
}

struct xva_writer *xva_writer_new(enum xva_compression compression, enum xva_checksum checksum,
                                  int (*write)(void *arg, const void *data, size_t len), void *arg)
{
    struct xva_writer *w = xcalloc(1, sizeof(*w));
    *w = (struct xva_writer){.write = write, .arg = arg, .checksum = checksum};
    w->chunk = xmalloc(XVA_CHUNK_BYTES);
    w->archive = archive_write_new();
    if (!w->archive)
        abort(); /* only memory can be missing */
    archive_write_set_format_ustar(w->archive);
    if (compression == XVA_GZIP) {
        archive_write_add_filter_gzip(w->archive);
        archive_write_set_filter_option(w->archive, "gzip", "compression-level", "1");
    } else if (compression == XVA_ZSTD) {
        archive_write_add_filter_zstd(w->archive);
        archive_write_set_filter_option(w->archive, "zstd", "compression-level", "3");
    }
    archive_write_set_bytes_per_block(w->archive, OUT_BYTES);
    archive_write_set_bytes_in_last_block(w->archive, 1);
    archive_write_open(w->archive, w, NULL, on_write, NULL);
    return w;
}

static int write_member(struct xva_writer *w, const char *name, const void *data, size_t len)
{
    struct archive_entry *entry = archive_entry_new();
    archive_entry_set_pathname(entry, name);
    archive_entry_set_size(entry, (la_int64_t)len);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0400);
    archive_entry_set_mtime(entry, clock_unix_seconds(), 0);
    int rc = archive_write_header(w->archive, entry);
    archive_entry_free(entry);
    if (rc != ARCHIVE_OK || (len > 0 && archive_write_data(w->archive, data, len) != (la_ssize_t)len))
        w->failed = true;
    return w->failed ? -1 : 0;
}

int xva_write_ova(struct xva_writer *w, const char *xml, size_t len)
{
    return write_member(w, "ova.xml", xml, len);
}

static void hash_text(enum xva_checksum checksum, const void *data, size_t len,
                      char out[static DIGEST_TEXT_SIZE])
{
    unsigned char sum[DIGEST_SIZE];
    if (checksum == XVA_XXHASH) {
        snprintf(out, DIGEST_TEXT_SIZE, "%016llX", (unsigned long long)XXH64(data, len, 0));
        return;
    }
    if (!digest_of(DIGEST_SHA1, data, len, sum))
        abort();
    digest_text(DIGEST_SHA1, sum, out);
}

static bool is_zero(const char *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int write_chunk(struct xva_writer *w)
{
    int64_t begin = w->at - (int64_t)w->filled;
    bool edge = begin == 0 || w->at == w->size;
    size_t len = w->filled;
    char name[XVA_NAME_SIZE + 24], sum[DIGEST_TEXT_SIZE];
    w->filled = 0;
    if (!edge && is_zero(w->chunk, len))
        return 0;
    snprintf(name, sizeof(name), "%s/%08lld", w->id, (long long)(begin / XVA_CHUNK_BYTES));
    if (write_member(w, name, w->chunk, len) < 0)
        return -1;
    hash_text(w->checksum, w->chunk, len, sum);
    strcat(name, w->checksum == XVA_XXHASH ? ".xxhash" : ".checksum");
    return write_member(w, name, sum, strlen(sum));
}

int xva_write_disk(struct xva_writer *w, const char *id, int64_t size)
{
    snprintf(w->id, sizeof(w->id), "%s", id);
    w->size = size;
    w->at = 0;
    w->filled = 0;
    return 0;
}

int xva_write_data(struct xva_writer *w, const void *data, size_t len)
{
    const char *from = data;
    while (len > 0) {
        size_t part = XVA_CHUNK_BYTES - w->filled < len ? XVA_CHUNK_BYTES - w->filled : len;
        memcpy(w->chunk + w->filled, from, part);
        w->filled += part;
        w->at += (int64_t)part;
        from += part;
        len -= part;
        if ((w->filled == XVA_CHUNK_BYTES || w->at == w->size) && write_chunk(w) < 0)
            return -1;
    }
    return 0;
}

int xva_write_end(struct xva_writer *w)
{
    return archive_write_close(w->archive) == ARCHIVE_OK && !w->failed ? 0 : -1;
}

void xva_writer_free(struct xva_writer *w)
{
    if (!w)
        return;
    w->failed = true; /* what is still in the archive's buffers goes nowhere */
    archive_write_free(w->archive);
    free(w->chunk);
    free(w);
}
