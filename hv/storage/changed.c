/* Which blocks of a disk changed between its snapshots. <disk>.cbt beside a disk says since which snapshot
 * (`prev`) and which base below it was on top then (`mark`); what changed since is what the images above that
 * base hold, so nothing is written while a guest runs, and nothing is lost with it. A snapshot gets a note of
 * its own, with the blocks that changed since the one before as a map; it outlives the snapshot's data.
 *
 * Order of a snapshot S of D: the note of S, then D's (prev S, mark the new base), then S gets its name. A
 * death in between leaves notes that say too much, never too little: what lacks a note reads as unrelated. */
#include "storage_internal.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define SUFFIX ".cbt"
#define MAGIC "CORRALCB"
#define HEADER_BYTES 512
#define VERSION 1
#define STEPS_MAX 65536

struct note {
    char prev[UUID_TEXT_SIZE]; /* snapshot that the map counts from; "": none */
    char mark[FILE_NAME_SIZE]; /* of a disk: what it stood on then; "": nothing */
    bool closed;               /* a snapshot's: the map is all of it */
    struct block_map map;
};
#define NOTE_INIT ((struct note){.closed = false})

static void note_done(struct note *n)
{
    map_done(&n->map);
}
#define AUTO_NOTE __attribute__((cleanup(note_done)))

static void note_name(char out[static FILE_NAME_SIZE], const char *uuid)
{
    snprintf(out, FILE_NAME_SIZE, "%s" SUFFIX, uuid);
}

bool changed_name_parse(const char *name, char uuid[static UUID_TEXT_SIZE])
{
    char text[UUID_TEXT_SIZE] = "";
    struct ref parsed;
    if (strlen(name) != 36 + strlen(SUFFIX) || strcmp(name + 36, SUFFIX) != 0)
        return false;
    memcpy(text, name, 36);
    if (!uuid_parse(text, &parsed))
        return false;
    uuid_format(parsed, uuid);
    return strncmp(uuid, name, 36) == 0;
}

/* ---- the file: magic 8, version 4, closed 4, size 8 (big endian), prev 40, mark 256, zeros; the map at 512
 * ---- */

static int note_write(const struct storage_sr *sr, const char *uuid, const struct note *n,
                      struct storage_error *error)
{
    AUTO_TEMP struct temp_file t = TEMP_FILE_INIT;
    char name[FILE_NAME_SIZE];
    uint8_t h[HEADER_BYTES] = {0};
    uint32_t version = htobe32(VERSION), closed = htobe32(n->closed);
    uint64_t size = htobe64((uint64_t)n->map.size);
    memcpy(h, MAGIC, 8);
    memcpy(h + 8, &version, 4);
    memcpy(h + 12, &closed, 4);
    memcpy(h + 16, &size, 8);
    memcpy(h + 24, n->prev, sizeof(n->prev));
    memcpy(h + 64, n->mark, sizeof(n->mark));
    note_name(name, uuid);
    size_t len = map_bytes(n->map.size);
    if (temp_open(sr, &t, error) < 0)
        return -1;
    if (file_write_at(t.fd, h, sizeof(h), 0) < 0 || file_write_at(t.fd, n->map.bits, len, HEADER_BYTES) < 0)
        return storage_fail_errno(error, errno, "cannot write which blocks changed");
    return temp_commit(&t, name, true, error);
}

static bool text_fits(const uint8_t *p, size_t size, char *out)
{
    if (!memchr(p, '\0', size))
        return false;
    memcpy(out, p, size);
    return true;
}

/* False: not such a file. The map is read when `with_map`. */
static bool note_parse(int fd, bool with_map, struct note *n)
{
    uint8_t h[HEADER_BYTES];
    uint32_t version, closed;
    uint64_t size;
    int64_t rounded;
    struct storage_error ignored;
    if (file_read_at(fd, h, sizeof(h), 0) < 0 || memcmp(h, MAGIC, 8) != 0)
        return false;
    memcpy(&version, h + 8, 4);
    memcpy(&closed, h + 12, 4);
    memcpy(&size, h + 16, 8);
    if (be32toh(version) != VERSION || be64toh(size) > INT64_MAX ||
        disk_check_size((int64_t)be64toh(size), &rounded, &ignored) < 0 ||
        !text_fits(h + 24, sizeof(n->prev), n->prev) || !text_fits(h + 64, sizeof(n->mark), n->mark))
        return false;
    n->closed = closed != 0;
    if (!with_map)
        return true;
    map_init(&n->map, (int64_t)be64toh(size));
    size_t len = map_bytes(n->map.size);
    if (file_read_at(fd, n->map.bits, len, HEADER_BYTES) == 0)
        return true;
    map_done(&n->map);
    return false;
}

bool changed_note_holds(int fd)
{
    AUTO_NOTE struct note n = NOTE_INIT;
    return note_parse(fd, true, &n);
}

/* 1: read; 0: there is none; -1: *error. */
static int note_read(const struct storage_sr *sr, const char *uuid, bool with_map, struct note *n,
                     struct storage_error *error)
{
    char name[FILE_NAME_SIZE];
    note_name(name, uuid);
    int fd AUTO_CLOSE = folder_open(sr, name, O_RDONLY);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return storage_fail_errno(error, errno, "cannot read which blocks changed");
    *n = NOTE_INIT;
    return note_parse(fd, with_map, n)
               ? 1
               : storage_fail(error, STORAGE_BAD_IMAGE, "the note of changed blocks is damaged");
}

bool changed_tracked(const struct storage_sr *sr, const char *uuid)
{
    char name[FILE_NAME_SIZE];
    note_name(name, uuid);
    return faccessat(sr->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int note_remove(const struct storage_sr *sr, const char *uuid, struct storage_error *error)
{
    char name[FILE_NAME_SIZE];
    note_name(name, uuid);
    if (unlinkat(sr->dir, name, 0) < 0 && errno != ENOENT)
        return storage_fail_errno(error, errno, "cannot remove the note of changed blocks");
    return folder_sync(sr, error);
}

/* ---- what changed ---- */

static bool same_block(int a, int b, int64_t at, uint8_t *left, uint8_t *right, struct storage_error *error)
{
    ssize_t n = pread(a, left, MAP_BLOCK, at), m = pread(b, right, MAP_BLOCK, at);
    if (n < 0 || m < 0)
        storage_fail_errno(error, errno, "cannot read the disk's data"); /* counts as changed */
    return n > 0 && n == m && memcmp(left, right, (size_t)n) == 0;
}

/* Raw disks, which have no images: by comparing with the snapshot, while that has its data. */
static void compare(const struct storage_sr *sr, const struct disk_file *disk, const char *prev,
                    struct block_map *map)
{
    AUTO_DISK_FILE struct disk_file old = DISK_FILE_INIT;
    struct storage_error ignored;
    if (!prev[0] || disk_file_open(sr, prev, O_RDONLY, &old, &ignored) < 0 || old.format != DISK_RAW) {
        map_set_from(map, 0);
        return;
    }
    AUTO_FREE uint8_t *left = xmalloc(MAP_BLOCK), *right = xmalloc(MAP_BLOCK);
    for (int64_t at = 0; at < map->size; at += MAP_BLOCK)
        if (!same_block(disk->fd, old.fd, at, left, right, &ignored))
            map_set(map, at / MAP_BLOCK);
}

/* Completes a disk's note to what changed until now: *n's map has the disk's size then. */
static int bring_up(const struct storage_sr *sr, const struct disk_layers *disk, struct note *n,
                    struct storage_error *error)
{
    struct block_map map;
    map_init(&map, disk->files[0].virtual_size);
    map_add(&map, &n->map);
    if (map.size > n->map.size)
        map_set_from(&map, n->map.size);
    map_done(&n->map);
    n->map = map;
    if (disk->files[0].format == DISK_RAW) {
        compare(sr, &disk->files[0], n->prev, &n->map);
        return 0;
    }
    size_t i = 0;
    for (; i < disk->count && !streq(disk->files[i].name, n->mark); i++)
        if (disk->files[i].format == DISK_QCOW2 && allocated_add(disk->files[i].fd, &n->map, error) < 0)
            return -1;
    if (i == disk->count) /* its content was replaced since, or never counted */
        map_set_from(&n->map, 0);
    return 0;
}

int changed_snapshot(const struct storage_sr *sr, const char *disk, const char *copy, const char *base,
                     struct storage_error *error)
{
    AUTO_NOTE struct note n = NOTE_INIT;
    AUTO_NOTE struct note fresh = NOTE_INIT;
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    int known = note_read(sr, disk, true, &n, error);
    if (known <= 0)
        return known;
    if (disk_layers_open(sr, disk, O_RDONLY, &layers, error) < 0)
        return -1;
    /* The image on top is the guest's since the snapshot. */
    struct disk_layers frozen = layers;
    bool layered = base[0] && layers.count > 1;
    if (layered) {
        frozen.files++;
        frozen.count--;
    }
    if (bring_up(sr, &frozen, &n, error) < 0)
        return -1;
    n.mark[0] = '\0';
    n.closed = true;
    if (note_write(sr, copy, &n, error) < 0)
        return -1;
    snprintf(fresh.prev, sizeof(fresh.prev), "%s", copy);
    snprintf(fresh.mark, sizeof(fresh.mark), "%s", layered ? base : "");
    map_init(&fresh.map, layers.files[0].virtual_size);
    return note_write(sr, disk, &fresh, error);
}

/* ---- each note of the folder ---- */

struct visit {
    const char *name; /* a prev or a mark that is looked for */
    const char *next; /* what takes its place */
    const struct note *gone;
    int fd; /* image that is merged away; -1: none */
    bool failed;
    struct storage_error *error;
};

static void heir(const struct storage_sr *sr, const char *file, void *arg)
{
    struct visit *v = arg;
    AUTO_NOTE struct note n = NOTE_INIT;
    char uuid[UUID_TEXT_SIZE];
    struct storage_error ignored;
    if (v->failed || !changed_name_parse(file, uuid) || note_read(sr, uuid, false, &n, &ignored) <= 0 ||
        !streq(n.prev, v->name) || note_read(sr, uuid, true, &n, &ignored) <= 0)
        return;
    map_add(&n.map, &v->gone->map);
    snprintf(n.prev, sizeof(n.prev), "%s", v->next);
    v->failed = note_write(sr, uuid, &n, v->error) < 0;
}

int changed_forget(const struct storage_sr *sr, const char *uuid, struct storage_error *error)
{
    AUTO_NOTE struct note n = NOTE_INIT;
    struct storage_error damaged;
    int known = note_read(sr, uuid, true, &n, &damaged);
    if (known == 0)
        return 0;
    struct visit v = {.name = uuid, .next = n.prev, .gone = &n, .fd = -1, .error = error};
    if (known > 0 && folder_each(sr, heir, &v) < 0)
        return storage_fail_errno(error, errno, "cannot read the directory");
    return v.failed ? -1 : note_remove(sr, uuid, error);
}

static void move_mark(const struct storage_sr *sr, const char *file, void *arg)
{
    struct visit *v = arg;
    AUTO_NOTE struct note n = NOTE_INIT;
    char uuid[UUID_TEXT_SIZE];
    struct storage_error ignored;
    if (v->failed || !changed_name_parse(file, uuid) || note_read(sr, uuid, false, &n, &ignored) <= 0 ||
        !streq(n.mark, v->name) || note_read(sr, uuid, true, &n, &ignored) <= 0)
        return;
    snprintf(n.mark, sizeof(n.mark), "%s", v->next);
    v->failed = allocated_add(v->fd, &n.map, v->error) < 0 || note_write(sr, uuid, &n, v->error) < 0;
}

int changed_merge(const struct storage_sr *sr, const char *lower, const char *upper, int upper_fd,
                  struct storage_error *error)
{
    struct visit v = {.name = lower, .next = upper, .fd = upper_fd, .error = error};
    if (folder_each(sr, move_mark, &v) < 0)
        return storage_fail_errno(error, errno, "cannot read the directory");
    return v.failed ? -1 : 0;
}

/* ---- for callers ---- */

int storage_changes_enable(struct storage_sr *sr, const char *location, struct storage_error *error)
{
    AUTO_NOTE struct note n = NOTE_INIT;
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    char uuid[UUID_TEXT_SIZE];
    if (disk_refuse_change(sr, error) < 0 || disk_check_uuid(location, uuid, error) < 0 ||
        disk_layers_open(sr, uuid, O_RDONLY, &layers, error) < 0)
        return -1;
    if (changed_tracked(sr, uuid))
        return 0;
    map_init(&n.map, layers.files[0].virtual_size);
    pthread_mutex_lock(&sr->layers);
    int outcome = note_write(sr, uuid, &n, error);
    pthread_mutex_unlock(&sr->layers);
    return outcome;
}

int storage_changes_disable(struct storage_sr *sr, const char *location, struct storage_error *error)
{
    char uuid[UUID_TEXT_SIZE];
    if (disk_refuse_change(sr, error) < 0 || disk_check_uuid(location, uuid, error) < 0)
        return -1;
    pthread_mutex_lock(&sr->layers);
    int outcome = note_remove(sr, uuid, error);
    pthread_mutex_unlock(&sr->layers);
    return outcome;
}

static int unrelated(struct storage_error *error)
{
    return storage_fail(error, STORAGE_UNRELATED,
                        "the blocks that changed between these disks are not known: they are not snapshots "
                        "of one disk in that order, made while changes were tracked");
}

/* What changed in `uuid` since the snapshot before it. */
static int read_step(struct storage_sr *sr, const char *uuid, struct note *n, struct storage_error *error)
{
    AUTO_DISK_LAYERS struct disk_layers layers = {0};
    int known = note_read(sr, uuid, true, n, error);
    if (known <= 0)
        return known < 0 ? -1 : unrelated(error);
    if (n->closed)
        return 0;
    return disk_layers_open(sr, uuid, O_RDONLY, &layers, error) < 0 ? -1 : bring_up(sr, &layers, n, error);
}

static int list(struct storage_sr *sr, const char *from, const char *to, struct block_map *sum,
                struct storage_error *error)
{
    char at[UUID_TEXT_SIZE];
    snprintf(at, sizeof(at), "%s", to);
    for (int steps = 0; steps < STEPS_MAX && !streq(at, from); steps++) {
        AUTO_NOTE struct note n = NOTE_INIT;
        if (!at[0])
            return unrelated(error);
        if (read_step(sr, at, &n, error) < 0)
            return -1;
        if (!sum->bits)
            map_init(sum, n.map.size);
        map_add(sum, &n.map);
        snprintf(at, sizeof(at), "%s", n.prev);
    }
    return streq(at, from) ? 0 : unrelated(error);
}

int storage_changes_list(struct storage_sr *sr, const char *from_location, const char *to_location,
                         uint8_t **bits, size_t *len, struct storage_error *error)
{
    char from[UUID_TEXT_SIZE], to[UUID_TEXT_SIZE];
    AUTO_NOTE struct note same = NOTE_INIT;
    struct block_map sum = {.size = 0};
    if (disk_check_uuid(from_location, from, error) < 0 || disk_check_uuid(to_location, to, error) < 0)
        return -1;
    pthread_mutex_lock(&sr->layers);
    int known = note_read(sr, from, true, &same, error);
    int outcome = known < 0 ? -1 : known == 0 ? unrelated(error) : list(sr, from, to, &sum, error);
    pthread_mutex_unlock(&sr->layers);
    if (outcome == 0 && !sum.bits)
        map_init(&sum, same.map.size);
    if (outcome < 0) {
        map_done(&sum);
        return -1;
    }
    *bits = sum.bits;
    *len = map_bytes(sum.size);
    return 0;
}

int storage_data_destroy(struct storage_sr *sr, const char *location, struct storage_error *error)
{
    char uuid[UUID_TEXT_SIZE];
    if (disk_refuse_change(sr, error) < 0 || disk_check_uuid(location, uuid, error) < 0)
        return -1;
    if (!changed_tracked(sr, uuid))
        return storage_fail(error, STORAGE_UNRELATED, "it is not noted for this disk which blocks changed");
    return disk_remove_files(sr, uuid, error);
}
