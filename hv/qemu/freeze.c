/* Freezing the guest's file systems for an instant, by its agent. That they are frozen is written down before
 * the guest is asked, so that whatever becomes of this agent, the next one thaws them; and the conversation
 * with the guest thaws them by itself when nobody does in time (qga.h). */
#include "internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>

#define FREEZE_MS 12000
#define THAW_MS 10000

static void note(struct rundir_record *record, void *arg)
{
    record->frozen = *(const bool *)arg;
}

void domain_fs_frozen(struct qemu_domain *d, bool frozen)
{
    struct hv_err err;
    pthread_mutex_lock(&d->lock);
    bool news = d->record.frozen && !frozen;
    d->fs_frozen = frozen;
    if (!frozen)
        d->fs_thawing = d->record.frozen = false;
    int outcome = news && !d->dead ? rundir_write_record(&d->dir, &d->record, &err) : 0;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    if (outcome < 0)
        log_warn("guest", "it cannot be written down that a guest is thawed", "domain", d->uuid, "error",
                 err.text);
}

struct request {
    struct qemu_domain *d;
    bool thaw, taken;
};

static void ask_on_loop(void *arg)
{
    struct request *r = arg;
    struct qemu_domain *d = r->d;
    if (!d->qga || d->dead) {
        domain_fs_frozen(d, false);
        return;
    }
    pthread_mutex_lock(&d->lock);
    d->fs_thawing = true;
    pthread_mutex_unlock(&d->lock);
    r->taken = r->thaw || qga_freeze(d->qga);
    if (r->thaw)
        qga_thaw(d->qga);
    else if (!r->taken)
        domain_fs_frozen(d, false);
}

int qemu_freeze(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                bool *frozen, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    bool yes = true;
    if (!d || domain_change(d, note, &yes, err) < 0)
        return -1;
    struct request request = {.d = d};
    struct hv_deadline limit = {.mono_ms = clock_mono_ms() + FREEZE_MS, .cancelled = deadline->cancelled};
    loop_call(state->loop, ask_on_loop, &request);
    pthread_mutex_lock(&d->lock);
    while (request.taken && !d->dead && !d->fs_frozen && d->fs_thawing && domain_wait(d, &limit, NULL) == 0)
        ;
    *frozen = d->fs_frozen;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

bool qemu_thaw(struct hv_driver_state *state, const char *uuid)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, NULL);
    if (!d)
        return false;
    pthread_mutex_lock(&d->lock);
    bool frozen = d->fs_frozen, due = d->record.frozen;
    pthread_mutex_unlock(&d->lock);
    if (!due)
        return frozen;
    struct request request = {.d = d, .thaw = true};
    struct hv_deadline limit = {.mono_ms = clock_mono_ms() + THAW_MS};
    loop_call(state->loop, ask_on_loop, &request);
    pthread_mutex_lock(&d->lock);
    while (request.taken && !d->dead && d->fs_thawing && domain_wait(d, &limit, NULL) == 0)
        ;
    bool late = request.taken && !d->dead && d->fs_thawing;
    pthread_mutex_unlock(&d->lock);
    if (late)
        log_warn("guest", "a guest does not confirm that its file systems go on; it is asked again", "domain",
                 d->uuid);
    return frozen;
}
