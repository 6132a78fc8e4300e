/* Disks that are written as a guest writes them, and what they must hold: for tests of images on each other.
 */
#pragma once
#include "fixture.h"

#define BLOCK INT64_C(65536)
#define BLOCKS 40
#define CHAIN_SIZE (BLOCKS * BLOCK - 1024) /* the last block is cut */

/* What a disk holds: one byte value a block. */
struct model {
    char uuid[37];
    char value[BLOCKS];
};

static inline void ok(struct fixture *f, int outcome)
{
    cr_assert_eq(outcome, 0, "%s: %s", storage_failure_name(f->error.kind), f->error.text);
}

static inline void make_disk(struct fixture *f, struct model *m, const char *uuid)
{
    int64_t made;
    *m = (struct model){.value = {0}};
    snprintf(m->uuid, sizeof(m->uuid), "%s", uuid);
    ok(f, storage_disk_create(f->sr, uuid, CHAIN_SIZE, DISK_QCOW2, &made, &f->error));
}

static inline void write_block(struct fixture *f, struct model *m, int block, char value)
{
    int64_t at = block * BLOCK, len = at + BLOCK < CHAIN_SIZE ? BLOCK : CHAIN_SIZE - at;
    AUTO_FREE char *path = xasprintf("%s/%s.qcow2", f->dir, m->uuid);
    AUTO_FREE char *command = value ? xasprintf("write -P %d %lld %lld", value, (long long)at, (long long)len)
                                    : xasprintf("write -z %lld %lld", (long long)at, (long long)len);
    RUN("qemu-io", "-f", "qcow2", "-c", command, path);
    m->value[block] = value;
}

static inline void check_disk(struct fixture *f, const struct model *m)
{
    struct memory_sink out = {0};
    struct storage_sink sink = {.begin = memory_begin, .write = memory_write, .arg = &out};
    ok(f, storage_disk_export(f->sr, m->uuid, DISK_RAW, &sink, NULL, &f->error));
    for (int64_t i = 0; i < CHAIN_SIZE; i++)
        cr_assert_eq(out.data[i], m->value[i / BLOCK], "disk %s holds %d at %lld, not %d", m->uuid,
                     out.data[i], (long long)i, m->value[i / BLOCK]);
    free(out.data);
}

static inline void snapshot_disk(struct fixture *f, const struct model *of, struct model *m, const char *uuid)
{
    *m = *of;
    snprintf(m->uuid, sizeof(m->uuid), "%s", uuid);
    ok(f, storage_disk_clone(f->sr, of->uuid, uuid, true, NULL, &f->error));
}

/* Does one merge as an agent at rest does it. False: there is none. */
static inline bool merge_one(struct fixture *f)
{
    AUTO_STORAGE_MERGES struct storage_merges merges = {.count = 0};
    ok(f, storage_merges_find(f->sr, &merges, &f->error));
    if (merges.count == 0)
        return false;
    ok(f, storage_merge_begin(f->sr, &merges.items[0], &f->error));
    ok(f, storage_merge_write(f->sr, &merges.items[0], NULL, &f->error));
    ok(f, storage_merge_finish(f->sr, &merges.items[0], &f->error));
    return true;
}

static inline int count_named(const struct fixture *f, const char *start, const char *end)
{
    int count = 0;
    DIR *dir = opendir(f->dir);
    for (const struct dirent *e; (e = readdir(dir));)
        count += strncmp(e->d_name, start, strlen(start)) == 0 && strlen(e->d_name) > strlen(end) &&
                 streq(e->d_name + strlen(e->d_name) - strlen(end), end);
    closedir(dir);
    return count;
}
