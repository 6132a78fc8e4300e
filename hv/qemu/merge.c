/* Merging images of a live domain's disk: a block job of the device model writes one image into the one below
 * it while the guest runs on, and takes it out of the chain. The image that the guest writes is never merged:
 * what it holds is not whole in a file below before the change, so a death at the wrong moment would lose it.
 *
 * The header of the image above keeps the name that it has: the agent gives the lower file that name. */
#include "block.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <poll.h>

#define JOB "merge"
#define LOOK_MS 100
#define IMAGES_MAX 128

struct job {
    bool there, ended;
    double fraction;
    char error[160]; /* "": none */
};

/* Whoever waits for the merge to make way cuts no command short: one whose answer is not awaited is carried
 * out all the same, and what it began would be nobody's. So all are said with a deadline of their own. */
static int look(const struct block *b, struct job *job)
{
    json_t *jobs AUTO_JSON = NULL, *one;
    size_t i;
    const char *id, *text;
    int64_t now = 0, total = 0;
    *job = (struct job){.there = false};
    if (domain_command(b->d, "query-jobs", NULL, b->deadline, &jobs, b->err) < 0)
        return -1;
    json_array_foreach(jobs, i, one)
    {
        if (!json_get_string(one, "id", &id) || !streq(id, JOB))
            continue;
        job->there = true;
        job->ended = json_get_string(one, "status", &text) && streq(text, "concluded");
        if (json_get_string(one, "error", &text))
            snprintf(job->error, sizeof(job->error), "%s", text);
        if (json_get_int(one, "current-progress", &now) && json_get_int(one, "total-progress", &total) &&
            total > 0)
            job->fraction = (double)now / (double)total;
    }
    return 0;
}

static void job_command(const struct block *b, const char *command)
{
    domain_command(b->d, command, json_pack("{s:s}", "id", JOB), b->deadline, NULL, NULL);
}

/* Ends the job, whatever becomes of it: *job says that. The device model may be slow: this waits for it. */
static void cancel(struct qemu_domain *d, struct job *job)
{
    for (int turn = 0; turn < 300; turn++) {
        struct hv_deadline soon = domain_soon();
        struct block quiet = {.d = d, .deadline = &soon};
        if (look(&quiet, job) < 0 || !job->there || job->ended)
            return;
        job_command(&quiet, "job-cancel");
        poll(NULL, 0, LOOK_MS);
    }
}

static void dismiss(struct qemu_domain *d)
{
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = d, .deadline = &soon};
    job_command(&quiet, "job-dismiss");
}

/* Until the job has ended, by itself or because `until` says so. */
static int follow(const struct block *b, const struct hv_merge *merge, const struct hv_deadline *until,
                  struct job *job)
{
    for (;;) {
        struct hv_deadline soon = domain_soon();
        struct block now = {.d = b->d, .deadline = &soon, .err = b->err};
        bool cancelled = until->cancelled && atomic_load(until->cancelled);
        if (cancelled || clock_mono_ms() >= until->mono_ms || look(&now, job) < 0) {
            cancel(b->d, job);
            if (job->there && job->ended && !job->error[0])
                return 0;
            return hv_fail(b->err, HV_ERR_KIND_CANCELLED, "Something else is to be done with the domain.");
        }
        if (!job->there)
            return hv_fail(b->err, HV_ERR_KIND_DEVICE_MODEL, "The device model lost the job.");
        if (job->ended)
            return job->error[0]
                       ? hv_fail(b->err, HV_ERR_KIND_DEVICE_MODEL, "The device model says: %s", job->error)
                       : 0;
        if (merge->progress)
            merge->progress(merge->ctx, job->fraction);
        poll(NULL, 0, LOOK_MS);
    }
}

static int find_device(struct qemu_domain *d, const struct hv_merge *merge,
                       char id[static QEMU_DEVICE_ID_SIZE], struct hv_err *err)
{
    int outcome = hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain has not the disk %s.", merge->disk);
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++) {
        const struct domain_disk *disk = &d->record.config.disks[i];
        if (disk->source == DISK_SOURCE_DISK && streq(disk->sr, merge->sr) &&
            streq(disk->disk, merge->disk)) {
            qemu_device_id(disk->device, id);
            outcome = 0;
        }
    }
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

static int run(const struct block *b, const struct hv_merge *merge, const struct hv_deadline *until,
               char (*nodes)[QEMU_NODE_SIZE])
{
    struct job job;
    json_t *arguments = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "job-id", JOB, "device", nodes[0],
                                  "top-node", nodes[merge->upper], "base-node", nodes[merge->upper + 1],
                                  "backing-file", merge->name, "auto-dismiss", 0);
    failpoint("merge-live:begins");
    int outcome = block_command(b, "block-commit", arguments);
    if (outcome == 0)
        outcome = follow(b, merge, until, &job);
    else /* a slow device model may have begun it */
        cancel(b->d, &job);
    dismiss(b->d);
    return outcome;
}

int qemu_disk_merge(struct hv_driver_state *state, const char *uuid, const struct hv_merge *merge,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    struct hv_deadline begin = domain_soon();
    struct block b = {.d = d, .deadline = &begin, .err = err};
    char id[QEMU_DEVICE_ID_SIZE];
    char(*nodes)[QEMU_NODE_SIZE] AUTO_FREE = xcalloc(IMAGES_MAX, sizeof(*nodes));
    size_t count;
    if (!d || find_device(d, merge, id, err) < 0 || block_chain(&b, id, nodes, IMAGES_MAX, &count) < 0)
        return -1;
    if (count != merge->count || merge->upper < 1 || merge->upper + 1 >= count)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain has %zu images of the disk, not %zu.", count,
                       merge->count);
    struct block_loan lower = {.fd = -1}, above = {.fd = -1};
    int outcome = block_lend(&b, nodes[merge->upper + 1], merge->lower_fd, &lower);
    /* The one that the guest writes is open for writing. */
    if (outcome == 0 && merge->upper > 1)
        outcome = block_lend(&b, nodes[merge->upper - 1], merge->above_fd, &above);
    if (outcome == 0)
        outcome = run(&b, merge, deadline, nodes);
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = d, .deadline = &soon};
    if (outcome == 0)
        block_remove_node(&quiet, nodes[merge->upper]);
    block_return(&quiet, &lower);
    block_return(&quiet, &above);
    return outcome;
}

void qemu_disk_merge_end(struct hv_driver_state *state, const char *uuid)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, NULL);
    struct job job = {.there = false};
    if (!d)
        return;
    cancel(d, &job);
    if (!job.there)
        return;
    log_info("qemu", "ended a merge of images that was left alone", "domain", uuid, "outcome",
             job.error[0] ? job.error : "done");
    dismiss(d);
}
