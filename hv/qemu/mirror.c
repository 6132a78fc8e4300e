/* Disks that are copied while the guest writes to them: QEMU's mirror jobs, into the device model of another
 * host (over NBD, through a socket that only this device model is let into) or into another image here. The
 * names of jobs and of their targets begin with "mirror-", so that an agent that starts finds what another
 * one left. */
#include "block.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PREFIX "mirror-"
#define ACCEPT_MS 20000
#define LOOK_MS 200
#define FINISH_MS 60000

/* ---- waiting for news ---- */

int64_t domain_job_news(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    int64_t news = d->job_news;
    pthread_mutex_unlock(&d->lock);
    return news;
}

void domain_wait_jobs(struct qemu_domain *d, int64_t seen, int64_t wait_ms)
{
    struct hv_deadline moment = {.mono_ms = clock_mono_ms() + wait_ms};
    pthread_mutex_lock(&d->lock);
    while (!d->dead && d->job_news == seen && domain_wait(d, &moment, NULL) == 0)
        ;
    pthread_mutex_unlock(&d->lock);
}

static bool take_failure(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    bool failed = d->job_failed;
    d->job_failed = false;
    pthread_mutex_unlock(&d->lock);
    return failed;
}

/* ---- a door for one device model ---- */

struct door {
    int listener;
    char name[48];
    pid_t pid;
    const struct hv_send *send;
    const char *device;
    int outcome;
    struct hv_err err;
    pthread_t thread;
};

/* A socket of the abstract kind, for the device model can reach no path of ours; its name is a secret, and
 * who comes has to be that very process. */
static int door_open(struct door *door, struct hv_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *token AUTO_FREE = secret_token(24);
    snprintf(door->name, sizeof(door->name), "corral-%s", token);
    size_t len = strlen(door->name);
    memcpy(address.sun_path + 1, door->name, len);
    door->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door->listener >= 0 &&
        bind(door->listener, (struct sockaddr *)&address,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + len)) == 0 &&
        listen(door->listener, 4) == 0)
        return 0;
    return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for a disk's copy: %s", strerror(errno));
}

static int accept_it(const struct door *door)
{
    int64_t end = clock_mono_ms() + ACCEPT_MS;
    for (int64_t now; (now = clock_mono_ms()) < end;) {
        struct pollfd p = {.fd = door->listener, .events = POLLIN};
        struct ucred who;
        socklen_t size = sizeof(who);
        if (poll(&p, 1, (int)(end - now)) <= 0 || p.revents != POLLIN)
            return -1;
        int fd = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.pid == door->pid)
            return fd;
        close(fd);
    }
    return -1;
}

static void *door_thread(void *arg)
{
    struct door *door = arg;
    int fd = accept_it(door);
    door->outcome =
        fd < 0 ? hv_fail(&door->err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not come for the disk.")
               : door->send->carry(door->send->ctx, door->device, fd, &door->err);
    return NULL;
}

/* ---- jobs ---- */

/* The disk of that device; false: there is none that can be copied. */
static bool find_disk(struct qemu_domain *d, const char *device, struct domain_disk *out)
{
    bool found = false;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count && !found; i++) {
        const struct domain_disk *disk = &d->record.config.disks[i];
        found = streq(disk->device, device) && disk->source == DISK_SOURCE_DISK;
        if (found)
            domain_disk_copy(out, disk);
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

static int current_node(const struct block *b, const char *device, char *node, size_t size)
{
    char id[QEMU_DEVICE_ID_SIZE];
    if (block_current(b, qemu_device_id(device, id), node, size) < 0)
        return -1;
    return node[0] ? 0
                   : hv_fail(b->err, HV_ERR_KIND_BAD_ARGUMENT, "The device model does not know the disk %s.",
                             device);
}

static struct mirror *add(struct mirrors *m, const char *device)
{
    m->items = xreallocarray(m->items, m->count + 1, sizeof(*m->items));
    struct mirror *one = &m->items[m->count++];
    *one = (struct mirror){.target = ""};
    snprintf(one->device, sizeof(one->device), "%s", device);
    snprintf(one->job, sizeof(one->job), PREFIX "job-%s", device);
    return one;
}

static int begin_job(const struct block *b, const struct mirror *one, const char *source)
{
    return block_command(b, "blockdev-mirror",
                         json_pack("{s:s, s:s, s:s, s:s}", "job-id", one->job, "device", source, "target",
                                   one->target, "sync", "full"));
}

static void drop_target(struct qemu_domain *d, const char *node)
{
    struct hv_deadline soon = domain_soon();
    domain_command(d, "blockdev-del", json_pack("{s:s}", "node-name", node), &soon, NULL, NULL);
}

/* Its own connection to the other device model. */
static int add_target(const struct block *b, struct mirror *one, const struct hv_send *send)
{
    struct door door = {.listener = -1, .send = send, .device = one->device, .outcome = -1};
    pthread_mutex_lock(&b->d->lock);
    door.pid = b->d->proc.pid;
    pthread_mutex_unlock(&b->d->lock);
    char target[MIRROR_NAME_SIZE];
    snprintf(target, sizeof(target), PREFIX "nbd-%s", one->device);
    int outcome = door_open(&door, b->err);
    if (outcome == 0 && pthread_create(&door.thread, NULL, door_thread, &door) != 0)
        outcome = hv_fail(b->err, HV_ERR_KIND_INTERNAL, "No thread for a disk's copy.");
    else if (outcome == 0) {
        outcome = block_command(b, "blockdev-add",
                                json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:b}}", "driver", "nbd", "node-name",
                                          target, "export", one->device, "server", "type", "unix", "path",
                                          door.name, "abstract", 1));
        if (outcome < 0)
            shutdown(door.listener, SHUT_RDWR); /* wakes the thread */
        pthread_join(door.thread, NULL);
        if (outcome == 0)
            memcpy(one->target, target, sizeof(one->target));
        else if (door.outcome < 0 && door.err.kind != HV_ERR_KIND_NONE &&
                 door.err.kind != HV_ERR_KIND_DEVICE_MODEL && b->err)
            *b->err = door.err;
    }
    if (door.listener >= 0)
        close(door.listener);
    return outcome;
}

int mirrors_add_remote(struct mirrors *m, const char *device, const struct hv_send *send,
                       const struct hv_deadline *deadline, struct hv_err *err)
{
    struct block b = {.d = m->d, .deadline = deadline, .err = err};
    char source[64];
    struct domain_disk disk;
    if (m->count == 0)
        take_failure(m->d);
    if (!find_disk(m->d, device, &disk))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no disk %s that could be copied.",
                       device);
    domain_disk_done(&disk);
    struct mirror *one = add(m, device);
    if (current_node(&b, device, source, sizeof(source)) < 0 || add_target(&b, one, send) < 0)
        return -1;
    return begin_job(&b, one, source);
}

static json_t *query_jobs(struct qemu_domain *d, struct hv_err *err)
{
    json_t *jobs = NULL;
    struct hv_deadline soon = domain_soon();
    return domain_command(d, "query-block-jobs", NULL, &soon, &jobs, err) < 0 ? NULL : jobs;
}

static const json_t *find_job(const json_t *jobs, const char *name)
{
    size_t i;
    json_t *job;
    const char *id;
    json_array_foreach((json_t *)(uintptr_t)jobs, i,
                       job) if (json_get_string(job, "device", &id) && streq(id, name)) return job;
    return NULL;
}

static int broken(struct hv_err *err)
{
    return hv_fail(err, HV_ERR_KIND_IO, "A disk could not be copied: reading or writing it failed.");
}

/* 1: all are alike; 0: not yet. */
static int look(const struct mirrors *m, double *done, struct hv_err *err)
{
    int64_t total = 0, moved = 0, len, offset;
    json_t *jobs AUTO_JSON = query_jobs(m->d, err);
    bool all = true, ready;
    if (!jobs)
        return -1;
    for (size_t i = 0; i < m->count; i++) {
        const json_t *job = find_job(jobs, m->items[i].job);
        if (!job || !json_get_int(job, "len", &len) || !json_get_int(job, "offset", &offset) ||
            !json_get_bool(job, "ready", &ready))
            return broken(err);
        all = all && ready;
        total += len;
        moved += offset;
    }
    *done = total > 0 ? (double)moved / (double)total : 1;
    return all;
}

int mirrors_wait(struct mirrors *m, void (*progress)(void *ctx, double fraction), void *ctx, double share,
                 const struct hv_deadline *deadline, struct hv_err *err)
{
    for (;;) {
        int64_t seen = domain_job_news(m->d);
        double done;
        int alike = look(m, &done, err);
        if (alike != 0)
            return alike < 0 ? -1 : 0;
        if (progress)
            progress(ctx, done * share);
        if (domain_give_up(deadline, err) < 0)
            return -1;
        domain_wait_jobs(m->d, seen, LOOK_MS);
    }
}

/* Waits until no job of ours is left. */
static int wait_gone(const struct mirrors *m, struct hv_err *err)
{
    int64_t end = clock_mono_ms() + FINISH_MS;
    for (;;) {
        int64_t seen = domain_job_news(m->d);
        json_t *jobs AUTO_JSON = query_jobs(m->d, err);
        bool any = false;
        if (!jobs)
            return -1;
        for (size_t i = 0; i < m->count; i++)
            any = any || find_job(jobs, m->items[i].job);
        if (!any)
            return take_failure(m->d) ? broken(err) : 0;
        if (clock_mono_ms() >= end)
            return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "A disk's copy does not come to its end.");
        domain_wait_jobs(m->d, seen, 20);
    }
}

int mirrors_finish(struct mirrors *m, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    double done;
    /* A job that broke is gone, and must not pass for one that was ended. */
    if (m->count > 0 && look(m, &done, err) < 0)
        return -1;
    for (size_t i = 0; i < m->count; i++)
        if (domain_command(m->d, "block-job-cancel", json_pack("{s:s}", "device", m->items[i].job), &soon,
                           NULL, err) < 0)
            return -1;
    if (m->count > 0 && wait_gone(m, err) < 0)
        return -1;
    for (size_t i = 0; i < m->count; i++)
        drop_target(m->d, m->items[i].target);
    free(m->items);
    *m = (struct mirrors){.d = m->d};
    return 0;
}

void mirrors_done(struct mirrors *m)
{
    struct hv_deadline soon = domain_soon();
    struct hv_err ignored;
    for (size_t i = 0; i < m->count; i++)
        domain_command(m->d, "block-job-cancel",
                       json_pack("{s:s, s:b}", "device", m->items[i].job, "force", 1), &soon, NULL, NULL);
    if (m->count > 0)
        wait_gone(m, &ignored);
    for (size_t i = 0; i < m->count; i++)
        if (m->items[i].target[0])
            drop_target(m->d, m->items[i].target);
    free(m->items);
    *m = (struct mirrors){.d = m->d};
}

/* ---- moving a disk on this host ----
 * Before the job may change over, the record says where to ("move" in the layout); afterwards which image the
 * device has says whether it did. */

struct move {
    const char *device, *sr, *disk, *node;
    int64_t index;
};

static void note_move(struct rundir_record *record, void *arg)
{
    const struct move *m = arg;
    json_object_set_new(record->layout, "move",
                        json_pack("{s:s, s:s, s:s, s:s}", "device", m->device, "sr", m->sr, "disk", m->disk,
                                  "node", m->node));
}

static void forget_move(struct rundir_record *record, void *arg)
{
    (void)arg;
    json_object_del(record->layout, "move");
}

static void apply_move(struct rundir_record *record, void *arg)
{
    const struct move *m = arg;
    for (size_t i = 0; i < record->config.disks_count; i++) {
        struct domain_disk *disk = &record->config.disks[i];
        if (!streq(disk->device, m->device))
            continue;
        str_assign(&disk->sr, m->sr);
        str_assign(&disk->disk, m->disk);
    }
    json_object_del(record->layout, "move");
}

/* Whether the guest writes to the new image; -1: it cannot be said. */
static int has_moved(struct qemu_domain *d, const struct move *m, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    struct block b = {.d = d, .deadline = &soon, .err = err};
    char node[64];
    return current_node(&b, m->device, node, sizeof(node)) < 0 ? -1 : streq(node, m->node);
}

static int settle_move(struct qemu_domain *d, const struct move *m, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = d, .deadline = &soon};
    int moved = has_moved(d, m, err);
    if (moved < 0)
        return -1;
    if (domain_change(d, moved ? apply_move : forget_move, (void *)(uintptr_t)m, err) < 0)
        return -1;
    block_drop(&quiet, m->index);
    return moved;
}

int qemu_disk_move(struct hv_driver_state *state, const char *uuid, const struct domain_disk *now,
                   struct disk_chain *chain, const struct disk_chain *from,
                   void (*progress)(void *ctx, double fraction), void *ctx,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    struct block b = {.d = d, .deadline = deadline, .err = err};
    struct hv_deadline soon = domain_soon();
    struct mirrors mirrors = {.d = d};
    char node[QEMU_NODE_SIZE], source[64];
    (void)from;
    snprintf(node, sizeof(node), "drive%d-m%.12s", (int)now->index, now->disk);
    struct move move = {
        .device = now->device, .sr = now->sr, .disk = now->disk, .node = node, .index = now->index};
    int outcome = d ? 0 : -1;
    if (outcome == 0 &&
        (current_node(&b, now->device, source, sizeof(source)) < 0 || block_add_chain(&b, node, chain) < 0))
        outcome = -1;
    disk_chain_done(chain);
    if (outcome < 0) {
        if (d)
            block_drop(&b, now->index);
        return -1;
    }
    take_failure(d);
    struct mirror *one = add(&mirrors, now->device);
    snprintf(one->target, sizeof(one->target), "%s", node);
    outcome = begin_job(&b, one, source);
    if (outcome == 0)
        outcome = mirrors_wait(&mirrors, progress, ctx, 0.98, deadline, err);
    failpoint("disk-move:alike");
    if (outcome == 0)
        outcome = domain_change(d, note_move, &move, err);
    if (outcome < 0) {
        one->target[0] = '\0'; /* not a node of its own: it goes with the disk's */
        mirrors_done(&mirrors);
        block_drop(&(struct block){.d = d, .deadline = &soon}, now->index);
        return -1;
    }
    soon = domain_soon();
    outcome =
        domain_command(d, "block-job-complete", json_pack("{s:s}", "device", one->job), &soon, NULL, err);
    struct hv_err why;
    if (wait_gone(&mirrors, &why) < 0 && outcome == 0 && err) {
        *err = why;
        outcome = -1;
    }
    failpoint("disk-move:moved");
    free(mirrors.items);
    int moved = settle_move(d, &move, outcome == 0 ? err : &why);
    if (moved > 0)
        return 0;
    return outcome < 0 || moved < 0 ? -1 : broken(err);
}

void mirrors_found(struct qemu_domain *d)
{
    struct hv_deadline soon = domain_soon();
    struct hv_err err;
    struct mirrors left = {.d = d};
    json_t *jobs AUTO_JSON = query_jobs(d, NULL), *job;
    const char *id;
    size_t i;
    json_array_foreach(jobs, i, job)
    {
        if (json_get_string(job, "device", &id) && strncmp(id, PREFIX "job-", strlen(PREFIX "job-")) == 0) {
            struct mirror *one = add(&left, id + strlen(PREFIX "job-"));
            snprintf(one->target, sizeof(one->target), PREFIX "nbd-%s", one->device);
        }
    }
    mirrors_done(&left);
    /* A job that broke by itself has left its target. */
    pthread_mutex_lock(&d->lock);
    json_t *note AUTO_JSON = json_incref(json_object_get(d->record.layout, "move"));
    size_t count = d->record.held ? d->record.config.disks_count : 0;
    char(*targets)[MIRROR_NAME_SIZE] = xcalloc(count + 1, sizeof(*targets));
    struct move move = {.index = -1};
    for (i = 0; i < count; i++)
        snprintf(targets[i], sizeof(targets[i]), PREFIX "nbd-%s", d->record.config.disks[i].device);
    bool whole = json_get_string(note, "device", &move.device) && json_get_string(note, "sr", &move.sr) &&
                 json_get_string(note, "disk", &move.disk) && json_get_string(note, "node", &move.node);
    for (i = 0; whole && i < d->record.config.disks_count; i++)
        if (streq(d->record.config.disks[i].device, move.device))
            move.index = d->record.config.disks[i].index;
    pthread_mutex_unlock(&d->lock);
    for (i = 0; i < count; i++)
        drop_target(d, targets[i]);
    free(targets);
    if (whole && settle_move(d, &move, &err) < 0)
        log_error("qemu", "it cannot be seen which image a disk has", "domain", d->uuid, "error", err.text);
    (void)soon;
}
