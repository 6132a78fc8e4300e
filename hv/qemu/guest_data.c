/* The data of one domain that guest and pool share: kept in its record, so that it outlives the agent; served
 * to the guest by data.c; news of it go to the pool at most once a second. */
#include "internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <io/guest_data.h>
#include <stdio.h>

#define NEWS_MS 1000
#define RECONNECT_MS 2000

/* ---- loop thread ---- */

static void tell_later(struct qemu_domain *d)
{
    loop_timer_set(d->driver->loop, &d->data_timer, clock_mono_ms() + NEWS_MS);
}

static void fire_news(void *arg)
{
    struct qemu_domain *d = arg;
    if (!d->data_news)
        return;
    d->data_news = false;
    tell_later(d);
    domain_publish(d, true);
}

static void tell(struct qemu_domain *d)
{
    d->data_news = true;
    if (!d->data_timer.armed)
        fire_news(d);
}

/* Takes `data` for the domain's. -1: it cannot be written down, all is as before. */
static int keep(struct qemu_domain *d, const struct str_map *data, struct hv_err *err)
{
    pthread_mutex_lock(&d->lock);
    struct rundir_record *record = &d->record;
    AUTO_STR_MAP const struct str_map *old = str_map_ref(record->config.data);
    str_map_assign(&record->config.data, str_map_ref(data));
    record->data_version++;
    int outcome = rundir_write_record(&d->dir, record, err);
    if (outcome < 0) {
        str_map_assign(&record->config.data, TAKE_PTR(old));
        record->data_version--;
    }
    d->info.data_version = record->data_version;
    pthread_mutex_unlock(&d->lock);
    if (outcome == 0)
        tell(d);
    return outcome;
}

/* What the guest compares is another number after each start: it may remember one from before a suspend. */
static const struct str_map *guest_reads(void *arg, int64_t *version)
{
    struct qemu_domain *d = arg;
    *version = d->record.start_time * 1000000 + d->record.data_version;
    return d->record.config.data;
}

static bool guest_changed(void *arg, const struct str_map *data)
{
    struct qemu_domain *d = arg;
    struct hv_err err;
    if (keep(d, data, &err) == 0)
        return true;
    log_warn("guest", "what a guest wrote cannot be kept", "domain", d->uuid, "error", err.text);
    return false;
}

static void lost(void *arg)
{
    struct qemu_domain *d = arg;
    loop_timer_set(d->driver->loop, &d->data_again, clock_mono_ms() + RECONNECT_MS);
}

static void reconnect(void *arg)
{
    struct qemu_domain *d = arg;
    int fd = rundir_connect(&d->dir, "data");
    if (fd >= 0)
        data_connected(d->data, fd);
    else
        lost(d); /* a device model that is busy takes nobody */
}

void domain_data_open(struct qemu_domain *d)
{
    d->data_timer = (struct loop_timer){.fire = fire_news, .arg = d};
    pthread_mutex_lock(&d->lock);
    d->info.data_version = d->record.data_version;
    pthread_mutex_unlock(&d->lock);
    if (!d->record.config.guest_data)
        return;
    struct data_callbacks callbacks = {.data = guest_reads, .changed = guest_changed, .lost = lost, .arg = d};
    d->data = data_new(d->driver->loop, &callbacks);
    d->data_again = (struct loop_timer){.fire = reconnect, .arg = d};
    reconnect(d);
}

void domain_data_close(struct qemu_domain *d)
{
    loop_timer_cancel(d->driver->loop, &d->data_timer);
    loop_timer_cancel(d->driver->loop, &d->data_again);
    data_free(TAKE_PTR(d->data));
}

/* ---- operations ---- */

struct setting {
    struct qemu_domain *d;
    const struct hv_data_change *change;
    struct hv_err *err;
    int outcome;
};

static void set_on_loop(void *arg)
{
    struct setting *s = arg;
    const struct hv_data_change *c = s->change;
    if (s->d->dead || s->d->dir.fd < 0) {
        s->outcome = hv_fail(s->err, HV_ERR_KIND_NOT_FOUND, "The domain ended meanwhile.");
        return;
    }
    AUTO_STR_MAP const struct str_map *data = str_map_ref(s->d->record.config.data);
    s->outcome = guest_data_change(&data, c->replace, c->set, c->remove, c->remove_count, s->err);
    if (s->outcome == 0)
        s->outcome = keep(s->d, data, s->err);
}

int qemu_data_set(struct hv_driver_state *state, const char *uuid, const struct hv_data_change *change,
                  struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    struct setting setting = {.d = d, .change = change, .err = err};
    if (!d)
        return -1;
    loop_call(state->loop, set_on_loop, &setting);
    return setting.outcome;
}

int qemu_data(struct hv_driver_state *state, const char *uuid, const struct str_map **data, int64_t *version,
              struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool live = !d->dead;
    if (live) {
        *data = str_map_ref(d->record.config.data);
        *version = d->record.data_version;
    }
    pthread_mutex_unlock(&d->lock);
    return live ? 0 : hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
}
