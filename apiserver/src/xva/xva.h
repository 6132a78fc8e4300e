/* XVA archives: a tar file with ova.xml, which describes objects, and then the data of disks. Pure: bytes
 * come and go through callbacks, which may block. One thread at a time uses a reader or writer.
 *
 * Layout: `ova.xml`; then for each disk a folder named by its object's id, with the data in chunks of 1 MiB
 * named 00000000, 00000001... Chunks of zeros are left out, but not the first and the last one. Behind each
 * chunk stands its checksum: <chunk>.xxhash (16 upper-case hexadecimal digits of XXH64 with seed 0) or
 * <chunk>.checksum (40 lower-case ones of SHA-1). The whole may be compressed by gzip or zstd. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define XVA_CHUNK_BYTES (1024 * 1024)
#define XVA_OVA_MAX (64 * 1024 * 1024) /* of ova.xml */
#define XVA_NAME_SIZE 128              /* of a member, with the NUL; longer ones are refused */

/* ---- writing ---- */
enum xva_compression { XVA_PLAIN, XVA_GZIP, XVA_ZSTD };
enum xva_checksum { XVA_XXHASH, XVA_SHA1 };

struct xva_writer;
/* `write` takes all of `len`, or gives -1 to end it all. */
struct xva_writer *xva_writer_new(enum xva_compression compression, enum xva_checksum checksum,
                                  int (*write)(void *arg, const void *data, size_t len), void *arg);
/* All of these: 0, or -1 because `write` failed. The data of the disks comes in the order of the bytes; its
 * length must be what was announced. */
int xva_write_ova(struct xva_writer *w, const char *xml, size_t len);
int xva_write_disk(struct xva_writer *w, const char *id, int64_t size);
int xva_write_data(struct xva_writer *w, const void *data, size_t len);
int xva_write_end(struct xva_writer *w);
void xva_writer_free(struct xva_writer *w);

/* ---- reading ---- */
enum xva_failure {
    XVA_OK,
    XVA_SOURCE,     /* the source failed, or gave up */
    XVA_SHORT,      /* the data ended too early */
    XVA_UNEXPECTED, /* a member that should not be there: `expected` and `found` */
    XVA_CHECKSUM,   /* data that is not what its checksum says */
    XVA_BAD,        /* anything else: `text` */
};
struct xva_error {
    enum xva_failure kind;
    char expected[XVA_NAME_SIZE + 24], found[XVA_NAME_SIZE];
    char text[160]; /* a sentence for a person */
};

struct xva_reader;
/* `read`: > 0 bytes, 0 at the end, -1. Plain tar, gzip and zstd are told apart by the bytes. `lenient`: wrong
 * and missing checksums are no error. */
struct xva_reader *xva_reader_new(ssize_t (*read)(void *arg, void *to, size_t max), void *arg, bool lenient);
/* The first member, which has to be ova.xml. */
int xva_read_ova(struct xva_reader *r, struct buf *out, struct xva_error *error);
/* The disk whose data comes next: 1 with its id, 0 at the end of the archive, -1. What the last one has left
 * unread is an error. */
int xva_read_disk(struct xva_reader *r, char id[static XVA_NAME_SIZE], struct xva_error *error);
/* Call before its data is read: how many bytes the disk has. Data beyond, and (unless lenient) an end before,
 * are errors. */
void xva_expect_size(struct xva_reader *r, int64_t size);
/* The disk's bytes in order, with zeros for chunks that were left out: > 0; 0 when all came; -1. */
ssize_t xva_read_data(struct xva_reader *r, void *to, size_t max, struct xva_error *error);
void xva_reader_free(struct xva_reader *r);

/* A chunk's or checksum's name: "<id>/<number>[.xxhash|.checksum]". False: it is none. */
enum xva_part { XVA_PART_CHUNK, XVA_PART_XXHASH, XVA_PART_SHA1 };
bool xva_name_parse(const char *name, char id[static XVA_NAME_SIZE], uint32_t *number, enum xva_part *part);
