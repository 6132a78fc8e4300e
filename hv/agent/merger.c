/* Merges images of disks in the background: what snapshots left behind that are gone (hv/storage: "merging
 * images"). One at a time, on a thread of its own; whatever else is to be done with its disks or their domain
 * goes first: the merge is cut short and begun anew later.
 *
 * Disks that no domain has are merged by storage, those of one live domain by its device model, and those
 * that several live domains share wait until they are not shared. */
#include "merger.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <pthread.h>
#include <stdio.h>

#define SETTLE_MS 1000          /* after what may have left images behind */
#define AGAIN_MS 5000           /* something was in the way */
#define LOOK_MS (5 * 60 * 1000) /* in any case */
#define REFUSED_MS (10 * 60 * 1000)
#define REFUSED_MAX 64

struct refused {
    char lower[256];
    int64_t until_ms;
};

struct merger {
    struct agent *agent;
    int64_t settle_ms;
    pthread_mutex_t lock; /* guards the following */
    pthread_cond_t changed;
    int64_t next_ms; /* when to look */
    /* The merge that is under way. */
    bool active;
    char sr[UUID_TEXT_SIZE], domain[UUID_TEXT_SIZE]; /* "": of no domain */
    const struct storage_merge *what;
    _Atomic bool cancel;
    /* The merger's thread alone. */
    struct refused refused[REFUSED_MAX];
    int quarter; /* of the progress that was logged */
};

/* ---- for operations ---- */

static void wait_for_end(struct merger *m)
{
    atomic_store(&m->cancel, true);
    failpoint("merge-live:cut");
    while (m->active)
        pthread_cond_wait(&m->changed, &m->lock);
}

static bool concerns(const struct merger *m, const char *sr, const char *disk)
{
    if (!m->active || !streq(m->sr, sr))
        return false;
    for (size_t i = 0; disk && i < m->what->top_count; i++)
        if (streq(m->what->tops[i], disk))
            return true;
    return !disk;
}

void merger_yield_disk(struct merger *m, const char *sr, const char *disk)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    if (concerns(m, sr, disk))
        wait_for_end(m);
    pthread_mutex_unlock(&m->lock);
}

void merger_yield_domain(struct merger *m, const char *domain)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    if (m->active && *domain && streq(m->domain, domain))
        wait_for_end(m);
    pthread_mutex_unlock(&m->lock);
}

void merger_wake(struct merger *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    int64_t soon = clock_mono_ms() + m->settle_ms;
    if (soon < m->next_ms) {
        m->next_ms = soon;
        pthread_cond_broadcast(&m->changed);
    }
    pthread_mutex_unlock(&m->lock);
}

/* ---- which, and how ---- */

/* The live domain that has one of the disks; false: more than one has. `domain` "" when none has. */
static bool find_domain(struct agent *agent, const char *sr, const struct storage_merge *merge,
                        char domain[static UUID_TEXT_SIZE], char disk[static UUID_TEXT_SIZE])
{
    domain[0] = disk[0] = '\0';
    for (size_t i = 0; i < merge->top_count; i++) {
        char found[UUID_TEXT_SIZE];
        size_t users = disks_domain_of(agent, sr, merge->tops[i], found);
        if (users > 1 || (users == 1 && disk[0]))
            return false;
        if (users == 1) {
            snprintf(domain, UUID_TEXT_SIZE, "%s", found);
            snprintf(disk, UUID_TEXT_SIZE, "%s", merge->tops[i]);
        }
    }
    return true;
}

static bool is_refused(struct merger *m, const char *lower)
{
    for (size_t i = 0; i < REFUSED_MAX; i++)
        if (m->refused[i].until_ms > clock_mono_ms() && streq(m->refused[i].lower, lower))
            return true;
    return false;
}

static void refuse(struct merger *m, const char *lower)
{
    struct refused *oldest = &m->refused[0];
    for (size_t i = 1; i < REFUSED_MAX; i++)
        if (m->refused[i].until_ms < oldest->until_ms)
            oldest = &m->refused[i];
    snprintf(oldest->lower, sizeof(oldest->lower), "%s", lower);
    oldest->until_ms = clock_mono_ms() + REFUSED_MS;
}

/* Operations see it from here on; those that were there before are in its way. */
static bool enter(struct merger *m, const char *sr, const char *domain, const struct storage_merge *merge)
{
    pthread_mutex_lock(&m->lock);
    m->active = true;
    m->what = merge;
    m->quarter = 0;
    atomic_store(&m->cancel, false);
    snprintf(m->sr, sizeof(m->sr), "%s", sr);
    snprintf(m->domain, sizeof(m->domain), "%s", domain);
    pthread_mutex_unlock(&m->lock);
    char domain_now[UUID_TEXT_SIZE], disk_now[UUID_TEXT_SIZE];
    bool busy = !find_domain(m->agent, sr, merge, domain_now, disk_now) || !streq(domain, domain_now) ||
                (*domain && ops_busy(m->agent, domain));
    for (size_t i = 0; i < merge->top_count && !busy; i++)
        busy = disks_operated(m->agent, sr, merge->tops[i]);
    return !busy;
}

static void leave(struct merger *m)
{
    pthread_mutex_lock(&m->lock);
    m->active = false;
    m->what = NULL;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void progress(void *arg, double fraction)
{
    struct merger *m = arg;
    int quarter = (int)(fraction * 4);
    if (quarter <= m->quarter || quarter > 3)
        return;
    m->quarter = quarter;
    log_info("merge", "goes on", "sr", m->sr, "image", m->what->upper, "percent", LOG_INT(quarter * 25));
}

/* ---- doing ---- */

static int merge_live(struct merger *m, struct sr *sr, const struct storage_merge *merge, const char *disk,
                      struct hv_err *err)
{
    struct storage_error error;
    char **names;
    size_t count;
    int lower AUTO_CLOSE = -1, above AUTO_CLOSE = -1;
    if (!m->agent->driver->disk_merge)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "This host's driver merges no images.");
    if (storage_disk_image_names(sr->storage, disk, &names, &count, &error) < 0)
        return storage_to_hv(err, &error);
    struct hv_merge how = {
        .sr = sr->uuid, .disk = disk, .count = count, .name = merge->upper, .progress = progress, .ctx = m};
    for (size_t i = 1; i + 1 < count; i++)
        if (streq(names[i], merge->upper) && streq(names[i + 1], merge->lower))
            how.upper = i;
    int outcome = how.upper ? 0 : hv_fail(err, HV_ERR_KIND_BAD_STATE, "The disk's images changed.");
    if (outcome == 0 && (storage_merge_open(sr->storage, merge->lower, &lower, &error) < 0 ||
                         storage_merge_open(sr->storage, names[how.upper - 1], &above, &error) < 0))
        outcome = storage_to_hv(err, &error);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
    how.lower_fd = lower;
    how.above_fd = above;
    struct hv_deadline deadline = {.mono_ms = INT64_MAX, .cancelled = &m->cancel};
    return outcome < 0 ? -1 : m->agent->driver->disk_merge(m->agent->state, m->domain, &how, &deadline, err);
}

static int do_merge(struct merger *m, struct sr *sr, const struct storage_merge *merge, const char *disk,
                    struct hv_err *err)
{
    struct storage_error error;
    struct storage_job job = {.progress = progress, .arg = m, .cancel = &m->cancel};
    if (storage_merge_begin(sr->storage, merge, &error) < 0)
        return storage_to_hv(err, &error);
    if (m->domain[0]) {
        if (merge_live(m, sr, merge, disk, err) < 0)
            return -1;
    } else if (storage_merge_write(sr->storage, merge, &job, &error) < 0) {
        return storage_to_hv(err, &error);
    }
    return storage_merge_finish(sr->storage, merge, &error) < 0 ? storage_to_hv(err, &error) : 0;
}

enum step { STEP_DONE, STEP_BUSY, STEP_REFUSED };

static enum step merge_one(struct merger *m, struct sr *sr, const struct storage_merge *merge)
{
    char domain[UUID_TEXT_SIZE], disk[UUID_TEXT_SIZE];
    struct hv_err err = {.kind = HV_ERR_KIND_INTERNAL};
    if (is_refused(m, merge->lower) || !find_domain(m->agent, sr->uuid, merge, domain, disk))
        return STEP_REFUSED;
    /* A disk's own image is not merged while a guest writes it. */
    if (merge->of_disk && domain[0])
        return STEP_REFUSED;
    if (!enter(m, sr->uuid, domain, merge)) {
        leave(m);
        return STEP_BUSY;
    }
    log_info("merge", "images are merged", "sr", sr->uuid, "image", merge->upper, "into", merge->lower,
             "bytes", LOG_INT(merge->bytes), "domain", domain);
    int64_t begin = clock_mono_ms();
    int outcome = do_merge(m, sr, merge, disk, &err);
    bool cancelled = atomic_load(&m->cancel);
    leave(m);
    if (outcome == 0) {
        log_info("merge", "done", "sr", sr->uuid, "image", merge->upper, "ms",
                 LOG_INT(clock_mono_ms() - begin));
        events_publish(m->agent, EVENT_KIND_SR_CHANGED, sr->uuid);
        return STEP_DONE;
    }
    char domain_now[UUID_TEXT_SIZE], disk_now[UUID_TEXT_SIZE];
    bool ended = find_domain(m->agent, sr->uuid, merge, domain_now, disk_now) && !streq(domain, domain_now);
    if (cancelled || ended) {
        log_info("merge", "put off: something else is to be done", "sr", sr->uuid, "image", merge->upper);
        return STEP_BUSY;
    }
    log_warn("merge", "images cannot be merged", "sr", sr->uuid, "image", merge->upper, "error", err.text);
    refuse(m, merge->lower);
    return STEP_REFUSED;
}

/* True: something was in the way. */
static bool merge_in(struct merger *m, struct sr *sr)
{
    bool busy = false;
    for (bool again = true; again;) {
        AUTO_STORAGE_MERGES struct storage_merges merges = {.count = 0};
        struct storage_error error;
        again = false;
        if (storage_merges_find(sr->storage, &merges, &error) < 0) {
            log_warn("merge", "images cannot be looked at", "sr", sr->uuid, "error", error.text);
            return false;
        }
        for (size_t i = 0; i < merges.count && !again; i++) {
            enum step step = merge_one(m, sr, &merges.items[i]);
            again = step == STEP_DONE;
            busy = busy || step == STEP_BUSY;
        }
        if (again)
            busy = false;
    }
    return busy;
}

static bool merge_all(struct merger *m)
{
    bool busy = false;
    size_t count;
    struct sr **srs AUTO_FREE = srs_all(m->agent, &count);
    for (size_t i = 0; i < count; i++) {
        busy = merge_in(m, srs[i]) || busy;
        srs_put(m->agent, srs[i]);
    }
    return busy;
}

/* Until it is time; with the lock held. */
static void rest(struct merger *m)
{
    while (clock_mono_ms() < m->next_ms) {
        struct timespec end = {.tv_sec = m->next_ms / 1000, .tv_nsec = m->next_ms % 1000 * 1000000};
        pthread_cond_timedwait(&m->changed, &m->lock, &end);
    }
}

static void *merger_main(void *arg)
{
    struct merger *m = arg;
    for (;;) {
        pthread_mutex_lock(&m->lock);
        rest(m);
        m->next_ms = clock_mono_ms() + LOOK_MS;
        pthread_mutex_unlock(&m->lock);
        bool busy = merge_all(m);
        pthread_mutex_lock(&m->lock);
        int64_t again = clock_mono_ms() + AGAIN_MS;
        if (busy && again < m->next_ms)
            m->next_ms = again;
        pthread_mutex_unlock(&m->lock);
    }
    return NULL;
}

static void end_old_merges(struct agent *agent)
{
    struct domain_info *infos;
    size_t count;
    if (!agent->driver->disk_merge_end || agent->driver->list(agent->state, &infos, &count, NULL) < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        if (domain_state_is_live(infos[i].state))
            agent->driver->disk_merge_end(agent->state, infos[i].uuid);
        domain_info_done(&infos[i]);
    }
    free(infos);
}

int merger_start(struct agent *agent, struct hv_err *err)
{
    struct merger *m = xcalloc(1, sizeof(*m));
    pthread_condattr_t attr;
    pthread_t thread;
    m->agent = agent;
    m->settle_ms = SETTLE_MS;
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
    m->next_ms = clock_mono_ms() + m->settle_ms;
    end_old_merges(agent);
    int rc = pthread_create(&thread, NULL, merger_main, m);
    if (rc != 0) {
        free(m);
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "A thread cannot be started: %s", strerror(rc));
    }
    pthread_detach(thread);
    agent->merger = m;
    return 0;
}
