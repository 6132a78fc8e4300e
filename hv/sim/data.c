/* What the agent in a simulated guest does with its file systems, and the data that guest and pool share. */
#include "sim.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <io/guest_data.h>
#include <stdio.h>

int sim_freeze(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
               bool *frozen, struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (d)
        *frozen = d->fs_frozen = d->info.guest.live && sim_word(d, "sim.no_freeze") < 0;
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : -1;
}

bool sim_thaw(struct hv_driver_state *sim, const char *uuid)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, NULL);
    bool frozen = d && d->fs_frozen && sim_word(d, "sim.thaws") < 0;
    if (d)
        d->fs_frozen = false;
    pthread_mutex_unlock(&sim->lock);
    return frozen;
}

/* With the lock held. -1: it is as before. */
static int keep(struct sim_domain *d, const struct hv_data_change *change, struct hv_err *err)
{
    AUTO_STR_MAP const struct str_map *data = str_map_ref(d->record.config.data);
    if (guest_data_change(&data, change->replace, change->set, change->remove, change->remove_count, err) < 0)
        return -1;
    str_map_assign(&d->record.config.data, TAKE_PTR(data));
    d->info.data_version = ++d->record.data_version;
    return sim_write_down(d, err);
}

static void guest_writes(struct sim_domain *d, const char *key, const char *value)
{
    const char *now = str_map_get(d->record.config.data, key);
    const struct str_pair pair = {key, value};
    AUTO_STR_MAP const struct str_map *set = str_map_new(&pair, 1);
    struct hv_err err;
    if ((!now || !streq(now, value)) && keep(d, &(struct hv_data_change){.set = set}, &err) < 0)
        log_warn("sim", "what a guest wrote cannot be kept", "error", err.text);
}

void sim_guest_data(struct sim_domain *d)
{
    if (!d->up || sim_word(d, "sim.data") < 0)
        return;
    const char *asked = str_map_get(d->record.config.data, "vm-data/sim/ask");
    guest_writes(d, "vm-data/sim/booted", "yes");
    if (asked)
        guest_writes(d, "vm-data/sim/answer", asked);
}

struct setting {
    struct hv_driver_state *sim;
    const char *uuid;
    const struct hv_data_change *change;
    struct hv_err *err;
    int outcome;
};

static void set_on_loop(void *arg)
{
    struct setting *s = arg;
    pthread_mutex_lock(&s->sim->lock);
    struct sim_domain *d = sim_find_live(s->sim, s->uuid, s->err);
    s->outcome = d ? keep(d, s->change, s->err) : -1;
    if (s->outcome == 0) {
        sim_guest_data(d);
        sim_changed(d, true);
    }
    pthread_mutex_unlock(&s->sim->lock);
}

int sim_data_set(struct hv_driver_state *sim, const char *uuid, const struct hv_data_change *change,
                 struct hv_err *err)
{
    struct setting setting = {.sim = sim, .uuid = uuid, .change = change, .err = err};
    loop_call(sim->loop, set_on_loop, &setting);
    return setting.outcome;
}

int sim_data(struct hv_driver_state *sim, const char *uuid, const struct str_map **data, int64_t *version,
             struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (d) {
        *data = str_map_ref(d->record.config.data);
        *version = d->record.data_version;
    }
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : -1;
}
