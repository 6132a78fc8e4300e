#include "replicas.h"

#include "../handlers/storage.h"
#include "pool_copy.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>

#define COLLECT_MS 500  /* what changes within so short a time goes into one copy */
#define STEP_MS 1000    /* how soon the end of the server is noticed */
#define RETRY_MS 60000  /* after a failure, without a change */
#define WRITE_MS 600000 /* one copy */
#define REST_FACTOR 10  /* writing takes at most this part of the time */
#define TARGETS_MAX 16

struct replicas {
    struct server *server;
    pthread_t thread;
    _Atomic bool stop;
    char sha256[SHA256_TEXT_SIZE];   /* of the rows that all targets hold; "": not known */
    struct ref targets[TARGETS_MAX]; /* that hold them */
    size_t target_count;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t free;  /* no disk is being written */
    struct ref writing;   /* null: none */
};

/* ---- one copy ---- */

struct source {
    const struct buf *data;
    size_t at;
};

static ssize_t give(void *arg, void *to, size_t max)
{
    struct source *s = arg;
    size_t n = s->data->len - s->at < max ? s->data->len - s->at : max;
    memcpy(to, s->data->data + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static void note_written(struct tx *tx, struct ref vdi, const struct disk_info *info, const struct sr_row *sr,
                         const struct sr_stats *stats)
{
    if (!tx_get(tx, CLASS_VDI, vdi))
        return;
    storage_update_vdi(tx, vdi, info);
    if (!vdi_row(tx_get(tx, CLASS_VDI, vdi))->metadata_latest)
        vdi_row_mut(tx_edit(tx, CLASS_VDI, vdi))->metadata_latest = true;
    if (stats && tx_get(tx, CLASS_SR, sr->row.ref))
        storage_apply_stats(tx, sr->row.ref, stats);
}

static int write_copy(struct server *server, struct ref ref, const struct buf *copy,
                      const _Atomic bool *cancel, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    if (!sr)
        return fail_handle(err, CLASS_VDI, ref);
    if (storage_agent_get(server, snap, vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    char id[UUID_TEXT_SIZE];
    struct hv_op op = {.id = uuid_format(ref_new(), id), .timeout_ms = WRITE_MS, .cancel = cancel};
    struct source source = {.data = copy};
    struct hv_disk_import_args args;
    struct hv_disk_import_result result;
    struct hv_err cause;
    hv_disk_import_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, vdi->uuid);
    args.format = IMAGE_FORMAT_RAW;
    args.size_bytes = (int64_t)copy->len;
    int rc = hv_disk_import(at.agent, &op, &args, give, &source, &result, &cause);
    hv_disk_import_args_done(&args);
    if (rc < 0) {
        storage_end_operation(at.agent, op.id);
        return storage_fail(err, at.host, sr->row.ref, ref, "import", &cause);
    }
    struct sr_stats stats;
    bool have_stats = storage_read_stats(at.agent, sr->uuid, &stats);
    struct tx *tx = store_begin(server->store);
    note_written(tx, ref, &result.info, sr, have_stats ? &stats : NULL);
    disk_info_done(&result.info);
    return server_commit(tx, err);
}

static int make_copy(struct server *server, struct buf *copy, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    if (!pool)
        return fail_handle(err, CLASS_pool, server->pool_ref);
    if (pool_copy_write(snap, pool->uuid, clock_unix_seconds(), copy))
        return 0;
    return fail_internal(err, "The database is too large for a copy on a disk.");
}

int replicas_write(struct server *server, struct ref vdi, const _Atomic bool *cancel, struct api_err *err)
{
    AUTO_BUF struct buf copy = BUF_INIT;
    return make_copy(server, &copy, err) < 0 ? -1 : write_copy(server, vdi, &copy, cancel, err);
}

/* ---- all of them, again and again ---- */

struct search {
    struct ref pool, found[TARGETS_MAX];
    size_t count;
};

static bool match(const struct row *row, void *arg)
{
    struct search *s = arg;
    const struct vdi_row *vdi = vdi_row(row);
    bool wanted = vdi->type == VDI_TYPE_METADATA || vdi->type == VDI_TYPE_REDO_LOG;
    if (wanted && ref_eq(vdi->metadata_of_pool, s->pool) && s->count < TARGETS_MAX)
        s->found[s->count++] = row->ref;
    return true;
}

static void find_targets(struct replicas *r, struct search *s)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    *s = (struct search){.pool = r->server->pool_ref};
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, s->pool));
    for (size_t i = 0; pool && pool->metadata_VDIs && i < pool->metadata_VDIs->count; i++) {
        const struct row *vdi = snapshot_get(snap, CLASS_VDI, pool->metadata_VDIs->items[i]);
        if (vdi)
            match(vdi, s);
    }
}

static bool holds(const struct replicas *r, struct ref vdi)
{
    for (size_t i = 0; i < r->target_count; i++)
        if (ref_eq(r->targets[i], vdi))
            return true;
    return false;
}

/* What changes with each copy that is written is no change. */
static void fingerprint(const struct buf *copy, char out[static SHA256_TEXT_SIZE])
{
    sha256_text(copy->data + POOL_COPY_HEAD, copy->len - POOL_COPY_HEAD, out);
}

/* Says that it is at a disk, if that still is to hold copies: one that is not by now will not be touched. */
static bool take_target(struct replicas *r, struct ref ref)
{
    pthread_mutex_lock(&r->lock);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    bool wanted = vdi && ref_eq(vdi->metadata_of_pool, r->server->pool_ref);
    if (wanted)
        r->writing = ref;
    pthread_mutex_unlock(&r->lock);
    return wanted;
}

static void leave_target(struct replicas *r)
{
    pthread_mutex_lock(&r->lock);
    r->writing = REF_NULL;
    pthread_cond_broadcast(&r->free);
    pthread_mutex_unlock(&r->lock);
}

void replicas_leave(struct replicas *r, struct ref vdi)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    while (ref_eq(r->writing, vdi))
        pthread_cond_wait(&r->free, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

/* False: some target could not be written. */
static bool round_of_copies(struct replicas *r)
{
    struct search s;
    char now[SHA256_TEXT_SIZE];
    AUTO_BUF struct buf copy = BUF_INIT;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    find_targets(r, &s);
    if (s.count == 0)
        return true;
    if (make_copy(r->server, &copy, &err) < 0) {
        log_error("replicas", "the database could not be copied", "error", err.code);
        return false;
    }
    fingerprint(&copy, now);
    if (strcmp(now, r->sha256) != 0)
        r->target_count = 0;
    memcpy(r->sha256, now, sizeof(now));
    bool all = true;
    for (size_t i = 0; i < s.count && !r->stop; i++) {
        AUTO_API_ERR struct api_err failed = API_ERR_INIT;
        if (holds(r, s.found[i]) || !take_target(r, s.found[i]))
            continue;
        int rc = write_copy(r->server, s.found[i], &copy, &r->stop, &failed);
        leave_target(r);
        if (rc == 0) {
            r->targets[r->target_count++] = s.found[i];
            continue;
        }
        all = false;
        if (!r->stop)
            log_warn("replicas", "a copy of the database could not be written", "vdi",
                     OBJECT_TEXT(r->server, CLASS_VDI, s.found[i]), "error", failed.code);
    }
    return all;
}

static void pause_ms(const struct replicas *r, int64_t ms)
{
    for (int64_t end = clock_mono_ms() + ms; !r->stop && clock_mono_ms() < end;) {
        struct timespec step = {.tv_nsec = 50 * 1000 * 1000};
        nanosleep(&step, NULL);
    }
}

static void *replicas_main(void *arg)
{
    struct replicas *r = arg;
    uint64_t seen = 0;
    int64_t retry_ms = 0;
    while (!r->stop) {
        uint64_t now = store_wait(r->server->store, seen, clock_mono_ms() + STEP_MS);
        if (now == seen && !(retry_ms && clock_mono_ms() >= retry_ms))
            continue;
        pause_ms(r, COLLECT_MS);
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
        seen = snapshot_generation(snap);
        snapshot_unref(TAKE_PTR(snap));
        int64_t begin = clock_mono_ms();
        retry_ms = round_of_copies(r) ? 0 : clock_mono_ms() + RETRY_MS;
        pause_ms(r, REST_FACTOR * (clock_mono_ms() - begin));
    }
    return NULL;
}

struct replicas *replicas_new(struct server *server)
{
    struct replicas *r = xcalloc(1, sizeof(*r));
    r->server = server;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->free, NULL);
    int rc = pthread_create(&r->thread, NULL, replicas_main, r);
    if (rc == 0)
        return r;
    log_error("replicas", "no thread for copies of the database could be started", "cause", strerror(rc));
    replicas_free(r);
    return NULL;
}

void replicas_stop(struct replicas *r)
{
    if (!r)
        return;
    r->stop = true;
    pthread_join(r->thread, NULL);
}

void replicas_free(struct replicas *r)
{
    if (!r)
        return;
    pthread_cond_destroy(&r->free);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
