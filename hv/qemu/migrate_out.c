/* A domain goes to another host (driver.h: send). QEMU migrates it through a socket pair that the agent
 * carries to the other side. With mirrored disks it stops before its last step, so that they become alike
 * while nothing writes; without, the guest does not wait for that. When all is over there, the offer is
 * written down: from then on the guest runs here only after the other side has refused. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define BANDWIDTH (INT64_C(1) << 40)
#define LOOK_MS 200
#define STALL_MS 90000 /* nothing moved for so long: the other side is gone */
#define MIRROR_SHARE 0.6
#define END_MS 30000

int qemu_describe(struct hv_driver_state *state, const char *uuid, struct save_header *header,
                  struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool whole = qemu_layout_ok(d->record.layout, &d->record.config),
         paused = d->info.state == DOMAIN_STATE_PAUSED;
    pthread_mutex_unlock(&d->lock);
    if (!whole)
        return hv_fail(
            err, HV_ERR_KIND_UNSUPPORTED,
            "The domain cannot be sent: its guest still holds a device that was taken away, or it was "
            "started by an older version.");
    if (domain_check_sendable(d, err) < 0 || domain_describe(d, SAVE_DATA_OFFSET, header, err) < 0)
        return -1;
    header->config.start_paused = paused;
    return 0;
}

static int prepare(struct qemu_domain *d, bool mirrors, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    if (domain_command(d, "migrate-set-capabilities",
                       json_pack("{s:[{s:s, s:b}, {s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability",
                                 "events", "state", 1, "capability", "pause-before-switchover", "state",
                                 mirrors, "capability", "auto-converge", "state", 1),
                       &soon, NULL, err) < 0)
        return -1;
    return domain_command(d, "migrate-set-parameters",
                          json_pack("{s:I}", "max-bandwidth", (json_int_t)BANDWIDTH), &soon, NULL, err);
}

static int begin(struct qemu_domain *d, const struct hv_send *send, struct hv_err *err)
{
    int pair[2];
    struct hv_deadline soon = domain_soon();
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "No socket for the domain's memory: %s", strerror(errno));
    int ours AUTO_CLOSE = pair[0];
    if (send->carry(send->ctx, NULL, pair[1], err) < 0 || domain_pass_fd(d, ours, "memory", err) < 0)
        return -1;
    if (domain_command(d, "migrate", json_pack("{s:s}", "uri", "fd:memory"), &soon, NULL, err) == 0)
        return 0;
    domain_command(d, "closefd", json_pack("{s:s}", "fdname", "memory"), &soon, NULL, NULL);
    return -1;
}

static int go_on(struct qemu_domain *d, struct mirrors *mirrors, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    if (mirrors_finish(mirrors, err) < 0)
        return -1;
    return domain_command(d, "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"), &soon, NULL,
                          err);
}

/* Until the other device model has all of it. After a failure the migration is over. */
static int wait_sent(struct qemu_domain *d, struct mirrors *mirrors, const struct hv_send *send, double from,
                     const struct hv_deadline *deadline, struct hv_err *err)
{
    char status[MIGRATION_STATUS_SIZE], why[160];
    double done, last = -1;
    int64_t moved_ms = clock_mono_ms();
    bool continued = false;
    for (;;) {
        int64_t seen = domain_job_news(d);
        if (domain_migration_status(d, status, &done, why, sizeof(why), err) < 0)
            return -1;
        if (streq(status, "completed"))
            return 0;
        if (streq(status, "failed") || streq(status, "cancelled") || streq(status, "none"))
            return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain could not be sent: %s",
                           *why ? why : "the connection to the other host ended");
        if (streq(status, "pre-switchover") && !continued) {
            if (go_on(d, mirrors, err) < 0)
                break;
            continued = true;
            continue;
        }
        if (done > last || done < last)
            moved_ms = clock_mono_ms();
        last = done;
        send->progress(send->ctx, from + (1 - from) * done * 0.98);
        if (domain_give_up(deadline, err) < 0)
            break;
        if (clock_mono_ms() - moved_ms > STALL_MS) {
            hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The other host takes nothing any more.");
            break;
        }
        domain_wait_jobs(d, seen, continued ? 5 : LOOK_MS);
    }
    domain_cancel_migration(d);
    return -1;
}

static int64_t downtime(struct qemu_domain *d)
{
    json_t *answer AUTO_JSON = NULL;
    struct hv_deadline soon = domain_soon();
    int64_t ms = 0;
    if (domain_command(d, "query-migrate", NULL, &soon, &answer, NULL) == 0)
        json_get_int(answer, "downtime", &ms);
    return ms * 1000;
}

static int transfer(struct qemu_domain *d, const struct hv_send *send, const struct hv_deadline *deadline,
                    struct hv_err *err)
{
    struct mirrors mirrors = {.d = d};
    double from = send->mirror_count > 0 ? MIRROR_SHARE : 0;
    int outcome = prepare(d, send->mirror_count > 0, err);
    for (size_t i = 0; outcome == 0 && i < send->mirror_count; i++)
        outcome = mirrors_add_remote(&mirrors, send->mirror[i], send, deadline, err);
    if (outcome == 0 && mirrors.count > 0)
        outcome = mirrors_wait(&mirrors, send->progress, send->ctx, from, deadline, err);
    failpoint("migrate-source:mirrored");
    if (outcome == 0)
        outcome = begin(d, send, err);
    if (outcome == 0)
        outcome = wait_sent(d, &mirrors, send, from, deadline, err);
    mirrors_done(&mirrors);
    if (outcome == 0)
        failpoint("migrate-source:stopped");
    return outcome;
}

/* ---- the offer ---- */

static void set_offer(struct rundir_record *record, void *arg)
{
    str_assign(&record->offer, arg ? arg : "");
    if (!arg) {
        str_unref(record->offer);
        record->offer = NULL;
    }
}

const char *qemu_offered(struct hv_driver_state *state, const char *uuid)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, NULL);
    if (!d)
        return NULL;
    pthread_mutex_lock(&d->lock);
    const char *offer = d->record.offer && !d->dead ? str_ref(d->record.offer) : NULL;
    pthread_mutex_unlock(&d->lock);
    return offer;
}

static void wait_dead(struct qemu_domain *d)
{
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + END_MS};
    pthread_mutex_lock(&d->lock);
    while (!d->dead && domain_wait(d, &deadline, NULL) == 0)
        ;
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (!dead)
        domain_kill(d);
}

/* Its device model died while the offer stood, and the offer was refused. */
static void correct_end(struct qemu_domain *d)
{
    struct domain_info info AUTO_DOMAIN_INFO;
    pthread_mutex_lock(&d->lock);
    d->info.end_reason = END_REASON_DEVICE_MODEL_DIED;
    str_assign(&d->info.moved_to, "");
    domain_info_copy(&info, &d->info);
    pthread_mutex_unlock(&d->lock);
    if (ended_write(d->driver->state_dir, &info) < 0)
        log_error("qemu", "the end of a domain could not be written down", "domain", d->uuid, "error",
                  strerror(errno));
    domain_publish(d, false);
}

static int settle(struct qemu_domain *d, const char *to, bool taken, struct hv_err *err)
{
    if (taken) {
        domain_moved(d, to);
        wait_dead(d);
        return 0;
    }
    pthread_mutex_lock(&d->lock);
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (!dead && domain_change(d, set_offer, NULL, err) == 0) {
        domain_release(d);
        return 0;
    }
    if (!dead && !d->dead)
        return -1;
    correct_end(d);
    return 0;
}

int qemu_settle(struct hv_driver_state *state, const char *uuid, const char *to, bool taken,
                struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    return d ? settle(d, to, taken, err) : -1;
}

int qemu_send(struct hv_driver_state *state, const char *uuid, const char *to, const struct hv_send *send,
              const struct hv_deadline *deadline, enum hv_offer *offer, struct hv_sent *sent,
              struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    *offer = HV_OFFER_REFUSED;
    if (!d || domain_guard(d, err) < 0)
        return -1;
    if (transfer(d, send, deadline, err) < 0 ||
        domain_change(d, set_offer, (void *)(uintptr_t)send->peer, err) < 0) {
        domain_release(d);
        return -1;
    }
    *offer = send->hand_over(send->ctx, err);
    int64_t now = clock_mono_us();
    struct hv_err why;
    switch (*offer) {
    case HV_OFFER_TAKEN:
        pthread_mutex_lock(&d->lock);
        sent->stopped_us = d->stopped_us ? now - d->stopped_us : 0;
        pthread_mutex_unlock(&d->lock);
        sent->downtime_us = downtime(d);
        return settle(d, to, true, err);
    case HV_OFFER_REFUSED:
        if (settle(d, to, false, &why) < 0)
            log_error("qemu", "a domain that was not taken does not go on", "domain", uuid, "error",
                      why.text);
        return -1;
    case HV_OFFER_UNKNOWN:
        break;
    }
    return -1;
}
