/* A differencing VHD, written front to back: of each block (2 MiB) with a change the sectors that changed. It
 * names its parent, which is the image of the other disk; whoever keeps both joins them. */
#include "storage_internal.h"
#include <base/bytes.h>
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>

#define SECTOR 512
#define FOOTER_SIZE 512
#define HEADER_SIZE 1024
#define BLOCK ((int64_t)2 << 20)
#define BLOCK_SECTORS (BLOCK / SECTOR)
#define BITMAP_SIZE (BLOCK_SECTORS / 8) /* a whole sector */
#define GRAIN ((int64_t)64 << 10)       /* of what is known to have changed */
#define EPOCH_2000 946684800
#define BLOCK_UNUSED UINT32_MAX

static void put_uuid(uint8_t *at, const char *text)
{
    for (int i = 0; i < 16 && *text; i++) {
        unsigned byte = 0;
        text += *text == '-';
        sscanf(text, "%2x", &byte);
        text += strlen(text) < 2 ? strlen(text) : 2;
        at[i] = (uint8_t)byte;
    }
}

static void put_checksum(uint8_t *bytes, size_t len, size_t at)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum += bytes[i];
    be32_put(bytes + at, ~sum);
}

/* Cylinders, heads and sectors as the specification computes them. */
static uint32_t geometry(int64_t size)
{
    int64_t sectors = size / SECTOR, most = (int64_t)65535 * 16 * 255;
    int64_t total = sectors < most ? sectors : most, per_track, heads, rest;
    if (total >= (int64_t)65535 * 16 * 63) {
        per_track = 255;
        heads = 16;
        rest = total / per_track;
    } else {
        per_track = 17;
        rest = total / per_track;
        heads = (rest + 1023) / 1024 < 4 ? 4 : (rest + 1023) / 1024;
        if (rest >= heads * 1024 || heads > 16) {
            per_track = 31;
            heads = 16;
            rest = total / per_track;
        }
        if (rest >= heads * 1024) {
            per_track = 63;
            heads = 16;
            rest = total / per_track;
        }
    }
    return (uint32_t)(rest / heads << 16 | heads << 8 | per_track);
}

static void make_footer(uint8_t f[static FOOTER_SIZE], int64_t size, const char *uuid)
{
    memset(f, 0, FOOTER_SIZE);
    memcpy(f, "conectix", 8);
    be32_put(f + 8, 2);
    be32_put(f + 12, 0x10000);
    be64_put(f + 16, FOOTER_SIZE); /* where the header is */
    be32_put(f + 24, (uint32_t)(clock_unix_seconds() - EPOCH_2000));
    memcpy(f + 28, "tap", 3); /* as readers know those whose size need not follow from the geometry */
    be32_put(f + 32, 0x10003);
    be64_put(f + 40, (uint64_t)size);
    be64_put(f + 48, (uint64_t)size);
    be32_put(f + 56, geometry(size));
    be32_put(f + 60, 4); /* differencing */
    put_uuid(f + 68, uuid);
    put_checksum(f, FOOTER_SIZE, 64);
}

static void make_header(uint8_t h[static HEADER_SIZE], uint32_t blocks, const char *parent)
{
    memset(h, 0, HEADER_SIZE);
    memcpy(h, "cxsparse", 8);
    memset(h + 8, 0xff, 8);
    be64_put(h + 16, FOOTER_SIZE + HEADER_SIZE); /* where the table is */
    be32_put(h + 24, 0x10000);
    be32_put(h + 28, blocks);
    be32_put(h + 32, (uint32_t)BLOCK);
    put_uuid(h + 40, parent);
    /* The parent's name: "<uuid>.vhd", UTF-16. */
    size_t at = 64;
    for (const char *c = parent; *c && at < 64 + 80; c++, at += 2)
        h[at + 1] = (uint8_t)*c;
    for (const char *c = ".vhd"; *c; c++, at += 2)
        h[at + 1] = (uint8_t)*c;
    put_checksum(h, HEADER_SIZE, 36);
}

struct delta {
    int fd;
    int64_t size;
    const uint8_t *bits;
    size_t bits_len;
    const struct storage_sink *sink;
    const struct storage_job *job;
    int64_t sent, length;
};

static bool has_changed(const struct delta *d, int64_t offset)
{
    int64_t grain = offset / GRAIN;
    return grain / 8 < (int64_t)d->bits_len && d->bits[grain / 8] & 0x80 >> grain % 8;
}

static bool block_changed(const struct delta *d, int64_t block)
{
    for (int64_t at = block * BLOCK; at < (block + 1) * BLOCK && at < d->size; at += GRAIN)
        if (has_changed(d, at))
            return true;
    return false;
}

static int send(struct delta *d, const void *data, size_t len, struct storage_error *error)
{
    if (job_cancelled(d->job))
        return storage_fail(error, STORAGE_CANCELLED, "cancelled");
    if (d->sink->write(d->sink->arg, data, len) < 0)
        return storage_fail(error, STORAGE_CANCELLED, "the receiver gave up");
    d->sent += (int64_t)len;
    job_progress(d->job, (double)d->sent / (double)d->length);
    return 0;
}

static int read_all(int fd, uint8_t *to, int64_t len, int64_t at, struct storage_error *error)
{
    if (file_read_at(fd, to, (size_t)len, at) == 0)
        return 0;
    return errno == ENODATA ? storage_fail(error, STORAGE_IO, "the disk's file became shorter")
                            : storage_fail_errno(error, errno, "cannot read the disk's data");
}

static int send_block(struct delta *d, int64_t block, uint8_t *buffer, struct storage_error *error)
{
    uint8_t bitmap[BITMAP_SIZE] = {0};
    memset(buffer, 0, (size_t)BLOCK);
    for (int64_t at = 0; at < BLOCK && block * BLOCK + at < d->size; at += GRAIN) {
        int64_t offset = block * BLOCK + at, len = d->size - offset < GRAIN ? d->size - offset : GRAIN;
        if (!has_changed(d, offset))
            continue;
        if (read_all(d->fd, buffer + at, len, offset, error) < 0)
            return -1;
        memset(bitmap + at / SECTOR / 8, 0xff, (size_t)(GRAIN / SECTOR / 8));
    }
    return send(d, bitmap, sizeof(bitmap), error) < 0 || send(d, buffer, (size_t)BLOCK, error) < 0 ? -1 : 0;
}

int vhd_delta_send(int fd, int64_t size, const struct vhd_delta *names, const uint8_t *bits, size_t bits_len,
                   const struct storage_sink *sink, const struct storage_job *job,
                   struct storage_error *error)
{
    struct delta d = {.fd = fd, .size = size, .bits = bits, .bits_len = bits_len, .sink = sink, .job = job};
    uint32_t blocks = (uint32_t)((size + BLOCK - 1) / BLOCK), used = 0;
    size_t table_size = ((size_t)blocks * 4 + SECTOR - 1) / SECTOR * SECTOR;
    AUTO_FREE uint8_t *table = xmalloc(table_size), *buffer = xmalloc((size_t)BLOCK);
    uint8_t footer[FOOTER_SIZE], header[HEADER_SIZE];
    int64_t data_at = FOOTER_SIZE + HEADER_SIZE + (int64_t)table_size;
    memset(table, 0xff, table_size);
    for (uint32_t i = 0; i < blocks; i++)
        if (block_changed(&d, i))
            be32_put(table + (size_t)i * 4,
                     (uint32_t)((data_at + (int64_t)used++ * (BITMAP_SIZE + BLOCK)) / SECTOR));
    d.length = data_at + (int64_t)used * (BITMAP_SIZE + BLOCK) + FOOTER_SIZE;
    make_footer(footer, size, names->uuid);
    make_header(header, blocks, names->parent);
    if (sink->begin && sink->begin(sink->arg, d.length) < 0)
        return storage_fail(error, STORAGE_CANCELLED, "the receiver gave up");
    if (send(&d, footer, sizeof(footer), error) < 0 || send(&d, header, sizeof(header), error) < 0 ||
        send(&d, table, table_size, error) < 0)
        return -1;
    for (uint32_t i = 0; i < blocks; i++)
        if (block_changed(&d, i) && send_block(&d, i, buffer, error) < 0)
            return -1;
    return send(&d, footer, sizeof(footer), error);
}
