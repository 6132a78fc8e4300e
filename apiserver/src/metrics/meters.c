/* See meters.h. Files are replaced by rename, without fsync: one that a power cut damaged has a wrong
 * checksum and is begun anew. */
#include "meters.h"

#include "../rrd/rrd_file.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define BUCKETS 1024
#define SAVE_PERIOD_S 900
#define SILENT_S 30 /* without a sample: no longer measured */
#define SAVES_MIN 2 /* in one call, if so many are due */
#define CALL_PERIOD_S 5

struct meters {
    pthread_rwlock_t lock; /* guards what follows, and all meters */
    struct meter *buckets[BUCKETS];
    size_t count;
    char *dir;
    pthread_mutex_t files; /* one writes at a time */
};

static const char *const kind_names[METER_KINDS] = {"vm", "host", "sr"};

const char *meter_kind_name(enum meter_kind kind)
{
    return kind_names[kind];
}

struct meters *meters_new(const char *dir)
{
    struct meters *m = xcalloc(1, sizeof(*m));
    m->dir = xstrdup(dir);
    pthread_rwlock_init(&m->lock, NULL);
    pthread_mutex_init(&m->files, NULL);
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        log_error("metrics", "the folder of measurements could not be made: none will be kept", "folder", dir,
                  "cause", strerror(errno));
    return m;
}

static void meter_free(struct meter *meter)
{
    rrd_free(meter->rrd);
    samples_done(&meter->latest);
    domain_look_done(&meter->domain);
    host_look_done(&meter->host);
    free(meter);
}

void meters_free(struct meters *m)
{
    if (!m)
        return;
    for (size_t b = 0; b < BUCKETS; b++)
        while (m->buckets[b]) {
            struct meter *meter = m->buckets[b];
            m->buckets[b] = meter->next;
            meter_free(meter);
        }
    pthread_rwlock_destroy(&m->lock);
    pthread_mutex_destroy(&m->files);
    free(m->dir);
    free(m);
}

void meters_read_lock(struct meters *m)
{
    pthread_rwlock_rdlock(&m->lock);
}

void meters_write_lock(struct meters *m)
{
    pthread_rwlock_wrlock(&m->lock);
}

void meters_unlock(struct meters *m)
{
    pthread_rwlock_unlock(&m->lock);
}

/* ---- the table ---- */

static size_t bucket_of(enum meter_kind kind, const char *uuid)
{
    struct ref ref = REF_NULL;
    uuid_parse(uuid, &ref);
    return (size_t)((ref.hi ^ ref.lo ^ ref.lo >> 32) + kind) % BUCKETS;
}

struct meter *meters_find(struct meters *m, enum meter_kind kind, const char *uuid)
{
    struct meter *meter = m->buckets[bucket_of(kind, uuid)];
    while (meter && (meter->kind != kind || !streq(meter->uuid, uuid)))
        meter = meter->next;
    return meter;
}

static char *path_of(const struct meters *m, enum meter_kind kind, const char *uuid)
{
    return xasprintf("%s/%s-%s.rrd", m->dir, kind_names[kind], uuid);
}

struct rrd *meters_load(struct meters *m, enum meter_kind kind, const char *uuid)
{
    struct ref ref;
    size_t len;
    if (!uuid_parse(uuid, &ref))
        return NULL;
    AUTO_FREE char *path = path_of(m, kind, uuid);
    AUTO_FREE char *data = file_read(path, RRD_BYTES_MAX, &len);
    if (!data) {
        if (errno != ENOENT)
            log_warn("metrics", "measurements could not be read", "file", path, "cause", strerror(errno));
        return NULL;
    }
    struct rrd *rrd = rrd_decode(data, len);
    if (!rrd)
        log_warn("metrics", "measurements are damaged and begin anew", "file", path);
    return rrd;
}

struct meter *meters_get(struct meters *m, enum meter_kind kind, const char *uuid, double time)
{
    struct meter *meter = meters_find(m, kind, uuid);
    if (meter)
        return meter;
    struct meter **bucket = &m->buckets[bucket_of(kind, uuid)];
    meter = xcalloc(1, sizeof(*meter));
    meter->kind = kind;
    snprintf(meter->uuid, sizeof(meter->uuid), "%s", uuid);
    meter->rrd = meters_load(m, kind, uuid);
    if (!meter->rrd)
        meter->rrd = rrd_new(time);
    /* Spread over the period, so that what began together is not saved together. */
    meter->saved = time - (double)(bucket_of(kind, uuid) % SAVE_PERIOD_S);
    meter->next = *bucket;
    *bucket = meter;
    m->count++;
    return meter;
}

void meter_sample(struct meter *meter, double time, struct samples *moved)
{
    rrd_update(meter->rrd, time, moved->items, moved->count);
    samples_done(&meter->latest);
    meter->latest = *moved;
    *moved = (struct samples){0};
    meter->dirty = true;
}

void meters_each(struct meters *m, void (*fn)(struct meter *meter, void *arg), void *arg)
{
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct meter *meter = m->buckets[b]; meter; meter = meter->next)
            fn(meter, arg);
}

/* ---- files ---- */

static bool write_file(const char *path, const struct buf *bytes)
{
    AUTO_FREE char *temporary = xasprintf("%s.new", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && file_write_all(fd, bytes->data, bytes->len) == 0;
    if (fd >= 0 && close(fd) < 0)
        ok = false;
    if (ok && rename(temporary, path) == 0)
        return true;
    log_error("metrics", "measurements could not be saved", "file", path, "cause", strerror(errno));
    unlink(temporary);
    return false;
}

static bool is_silent(const struct meter *meter, double now)
{
    return meter->rrd->updated < now - SILENT_S;
}

static bool is_due(const struct meter *meter, double now, bool all)
{
    return meter->dirty && (all || is_silent(meter, now) || meter->saved + SAVE_PERIOD_S <= now ||
                            meter->saved > now /* the clock was put back */);
}

/* Takes out of the table what is saved and no longer measured. */
static void unload_silent(struct meters *m, double now)
{
    meters_write_lock(m);
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct meter **at = &m->buckets[b]; *at;) {
            struct meter *meter = *at;
            if (meter->dirty || !is_silent(meter, now)) {
                at = &meter->next;
                continue;
            }
            *at = meter->next;
            m->count--;
            meter_free(meter);
        }
    meters_unlock(m);
}

/* What is to be written, gathered under the lock and named by uuid: a meter may be gone meanwhile. */
struct due {
    struct {
        enum meter_kind kind;
        char uuid[UUID_TEXT_SIZE];
    } * items;
    size_t count;
    double now;
    bool all;
};

static void add_due(struct meter *meter, void *arg)
{
    struct due *due = arg;
    if (!is_due(meter, due->now, due->all))
        return;
    due->items = xreallocarray(due->items, due->count + 1, sizeof(*due->items));
    due->items[due->count].kind = meter->kind;
    memcpy(due->items[due->count++].uuid, meter->uuid, UUID_TEXT_SIZE);
}

static bool save_one(struct meters *m, enum meter_kind kind, const char *uuid, double now)
{
    AUTO_BUF struct buf bytes = BUF_INIT;
    meters_write_lock(m);
    struct meter *meter = meters_find(m, kind, uuid);
    if (meter) {
        rrd_encode(meter->rrd, &bytes);
        meter->dirty = false;
        meter->saved = now;
    }
    meters_unlock(m);
    AUTO_FREE char *path = path_of(m, kind, uuid);
    if (!meter || write_file(path, &bytes))
        return true;
    meters_write_lock(m);
    meter = meters_find(m, kind, uuid);
    if (meter)
        meter->dirty = true;
    meters_unlock(m);
    return false;
}

bool meters_save(struct meters *m, double now, bool all)
{
    struct due due = {.now = now, .all = all};
    bool ok = true;
    pthread_mutex_lock(&m->files);
    meters_read_lock(m);
    meters_each(m, add_due, &due);
    size_t share = m->count * CALL_PERIOD_S / SAVE_PERIOD_S + SAVES_MIN;
    meters_unlock(m);
    for (size_t i = 0; i < due.count && (all || i < share); i++)
        if (!save_one(m, due.items[i].kind, due.items[i].uuid, now))
            ok = false;
    free(due.items);
    if (!all)
        unload_silent(m, now);
    pthread_mutex_unlock(&m->files);
    return ok;
}

/* ---- objects that are gone ---- */

static bool parse_name(const char *name, enum meter_kind *kind, char uuid[static UUID_TEXT_SIZE])
{
    struct ref ref;
    for (int k = 0; k < METER_KINDS; k++) {
        size_t len = strlen(kind_names[k]);
        if (strncmp(name, kind_names[k], len) != 0 || name[len] != '-' ||
            strlen(name + len + 1) < UUID_TEXT_SIZE - 1)
            continue;
        memcpy(uuid, name + len + 1, UUID_TEXT_SIZE - 1);
        uuid[UUID_TEXT_SIZE - 1] = '\0';
        *kind = (enum meter_kind)k;
        return uuid_parse(uuid, &ref);
    }
    return false;
}

static void sweep_files(struct meters *m, bool (*exists)(enum meter_kind kind, const char *uuid, void *arg),
                        void *arg)
{
    DIR *list = opendir(m->dir);
    for (struct dirent *e; list && (e = readdir(list));) {
        enum meter_kind kind;
        char uuid[UUID_TEXT_SIZE];
        if (!parse_name(e->d_name, &kind, uuid) || exists(kind, uuid, arg))
            continue;
        AUTO_FREE char *path = xasprintf("%s/%s", m->dir, e->d_name);
        if (unlink(path) < 0 && errno != ENOENT)
            log_warn("metrics", "measurements of a removed object could not be removed", "file", path,
                     "cause", strerror(errno));
    }
    if (list)
        closedir(list);
}

void meters_sweep(struct meters *m, bool (*exists)(enum meter_kind kind, const char *uuid, void *arg),
                  void *arg)
{
    pthread_mutex_lock(&m->files); /* nothing is written behind our back */
    meters_write_lock(m);
    for (size_t b = 0; b < BUCKETS; b++)
        for (struct meter **at = &m->buckets[b]; *at;) {
            struct meter *meter = *at;
            if (exists(meter->kind, meter->uuid, arg)) {
                at = &meter->next;
                continue;
            }
            *at = meter->next;
            m->count--;
            meter_free(meter);
        }
    meters_unlock(m);
    sweep_files(m, exists, arg);
    pthread_mutex_unlock(&m->files);
}
