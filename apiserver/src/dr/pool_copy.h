/* A pool's database as bytes on a disk: 4 KiB with a line of JSON that says whose it is, of when, how long
 * and with which checksum; then a line of JSON for each row. Secrets, sessions, tasks, users and what every
 * pool makes anew are not in it. Whoever reads it trusts nothing: rows of known classes, fields of their
 * types, no more. Pure. */
#pragma once
#include <base/buf.h>
#include <base/ref.h>
#include <base/secret.h>
#include <db/store.h>

#define POOL_COPY_HEAD 4096
#define POOL_COPY_DISK_BYTES (INT64_C(256) << 20) /* virtual size of the disk that holds one */
#define POOL_COPY_MAX ((size_t)128 << 20)         /* of the rows */
#define POOL_COPY_ERROR 160

struct pool_copy_head {
    char pool[UUID_TEXT_SIZE];
    int64_t written; /* unix seconds */
    size_t size;     /* of the rows */
    char sha256[SHA256_TEXT_SIZE];
};

/* Head and rows. False: there are more rows than POOL_COPY_MAX; *out is empty. */
bool pool_copy_write(const struct snapshot *snap, const char *pool_uuid, int64_t now, struct buf *out);
/* Reads the first POOL_COPY_HEAD bytes. False: this is no copy. */
bool pool_copy_read_head(const char *data, struct pool_copy_head *out);
/* Makes a store in memory of the rows that follow the head. -1: `error` is a sentence. */
int pool_copy_load(const struct pool_copy_head *head, const char *rows, struct store **out,
                   char error[static POOL_COPY_ERROR]);
