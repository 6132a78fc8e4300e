/* The simulator's entry in the driver table. */
#include "internal.h"

#include <base/clock.h>
#include <base/log.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define BOOT_MS 200

static const unsigned can = DRIVER_CAN_START | DRIVER_CAN_PAUSE | DRIVER_CAN_UEFI | DRIVER_CAN_KERNEL |
                            DRIVER_CAN_VNC | DRIVER_CAN_SERIAL | DRIVER_CAN_GUEST_AGENT |
                            DRIVER_CAN_CD_CHANGE | DRIVER_CAN_USER_NET;

static int sim_probe(const struct hv_driver_env *env, struct host_facts *facts, struct hv_err *err)
{
    (void)env;
    (void)err;
    str_assign(&facts->driver, "sim");
    facts->accelerator = ACCELERATOR_SIM;
    str_assign(&facts->accelerator_reason, "The simulator: its guests exist in its clock alone");
    str_assign(&facts->guest_isolation, "Nothing runs");
    for (unsigned bit = 1; bit && driver_capability_name(bit); bit <<= 1)
        if (can & bit)
            wire_strings_add(&facts->capabilities, &facts->capabilities_count, driver_capability_name(bit));
    return 0;
}

static int make_folder(const char *path, struct hv_err *err)
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return hv_fail(err, HV_ERR_KIND_IO, "A folder for simulated domains cannot be made: %s", strerror(errno));
}

static int sim_open(const struct hv_driver_env *env, struct hv_driver_state **out, struct hv_err *err)
{
    AUTO_FREE char *dir = xasprintf("%s/run", env->state_dir);
    if (make_folder(dir, err) < 0)
        return -1;
    struct loop *loop = loop_new("sim");
    if (!loop)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The simulator's thread cannot be started: %s",
                       strerror(errno));
    struct hv_driver_state *state = xcalloc(1, sizeof(*state));
    *state = (struct hv_driver_state){.env = *env,
                                      .dir = TAKE_PTR(dir),
                                      .loop = loop,
                                      .boot_ms = env->sim_boot_ms ? env->sim_boot_ms : BOOT_MS};
    state->domid_next = 1;
    pthread_mutex_init(&state->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&state->changed, &attr);
    pthread_condattr_destroy(&attr);
    sim_load_all(state);
    *out = state;
    return 0;
}

/* On the loop's thread, the last thing that runs there. */
static void close_serials(void *arg)
{
    struct hv_driver_state *state = arg;
    for (struct sim_domain *d = state->domains; d; d = d->next) {
        loop_timer_cancel(state->loop, &d->timer);
        fanout_free(d->serial);
        d->serial = NULL;
    }
}

static void sim_close(struct hv_driver_state *state)
{
    loop_call(state->loop, close_serials, state);
    loop_free(state->loop);
    while (state->domains) {
        struct sim_domain *d = state->domains;
        state->domains = d->next;
        d->refs = 1; /* pokes that the loop did not get to */
        sim_release(d);
    }
    pthread_cond_destroy(&state->changed);
    pthread_mutex_destroy(&state->lock);
    free(state->dir);
    free(state);
}

static unsigned sim_capabilities(const struct hv_driver_state *state)
{
    (void)state;
    return can;
}

static int sim_check(const struct hv_driver_state *state, const struct domain_config *config,
                     struct hv_err *err)
{
    (void)state;
    (void)config;
    (void)err;
    return 0;
}

static int not_found(struct hv_err *err)
{
    return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "There is no such domain on this host");
}

/* Lock held. A live domain, or NULL with *err. */
static struct sim_domain *find_live(struct hv_driver_state *state, const char *uuid, struct hv_err *err)
{
    struct sim_domain *d = sim_find(state, uuid);
    if (d && domain_state_is_live(d->info.state))
        return d;
    not_found(err);
    return NULL;
}

static int sim_start(struct hv_driver_state *state, const struct domain_config *config,
                     struct disk_chain *chains, const struct hv_deadline *deadline, struct domain_info *info,
                     struct hv_err *err)
{
    (void)deadline;
    for (size_t i = 0; i < config->disks_count; i++)
        disk_chain_done(&chains[i]);
    pthread_mutex_lock(&state->lock);
    struct sim_domain *old = sim_find(state, config->uuid);
    if (old && domain_state_is_live(old->info.state)) {
        pthread_mutex_unlock(&state->lock);
        return hv_fail(err, HV_ERR_KIND_EXISTS, "The domain runs already");
    }
    if (old)
        sim_drop(old);
    pthread_mutex_unlock(&state->lock);
    struct sim_domain *d = sim_add(state, config);
    pthread_mutex_lock(&state->lock);
    d->info.state = config->start_paused ? DOMAIN_STATE_PAUSED : DOMAIN_STATE_RUNNING;
    d->info.domid = state->domid_next++;
    d->info.start_time = clock_unix_seconds();
    d->info.memory_bytes = config->memory_bytes;
    d->info.vcpus = config->vcpus;
    sim_boot(d);
    d->next = state->domains;
    state->domains = d;
    sim_save(d);
    domain_info_copy(info, &d->info);
    pthread_mutex_unlock(&state->lock);
    sim_poke(d);
    return 0;
}

/* From one state to another. */
static int set_state(struct hv_driver_state *state, const char *uuid, enum domain_state from,
                     enum domain_state to, struct hv_err *err)
{
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    int rc = d ? 0 : -1;
    if (d && d->info.state != from && d->info.state != to)
        rc = hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain is %s", domain_state_name(d->info.state));
    if (rc == 0) {
        d->info.state = to;
        sim_save(d);
        d->refs++;
    }
    pthread_mutex_unlock(&state->lock);
    if (rc < 0)
        return -1;
    sim_poke(d);
    sim_tell(state, uuid, false);
    pthread_mutex_lock(&state->lock);
    sim_release(d);
    pthread_mutex_unlock(&state->lock);
    return 0;
}

static int sim_pause(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                     struct hv_err *err)
{
    (void)deadline;
    return set_state(state, uuid, DOMAIN_STATE_RUNNING, DOMAIN_STATE_PAUSED, err);
}

static int sim_unpause(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                       struct hv_err *err)
{
    (void)deadline;
    return set_state(state, uuid, DOMAIN_STATE_PAUSED, DOMAIN_STATE_RUNNING, err);
}

static void wait_change(struct hv_driver_state *state, const struct hv_deadline *deadline)
{
    int64_t until = clock_mono_ms() + 100; /* the cancel flag has no bell */
    if (deadline->mono_ms < until)
        until = deadline->mono_ms;
    struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_cond_timedwait(&state->changed, &state->lock, &when);
}

static int gave_up(const struct hv_deadline *deadline, struct hv_err *err)
{
    if (deadline->cancelled && *deadline->cancelled)
        return hv_fail(err, HV_ERR_KIND_CANCELLED,
                       "The request to the guest was cancelled; it may still follow it");
    if (clock_mono_ms() >= deadline->mono_ms)
        return hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not do what it was asked in time");
    return 0;
}

/* Asks the guest and waits: for its end, or for one more reboot. */
static int ask(struct hv_driver_state *state, const char *uuid, enum sim_wish wish,
               const struct hv_deadline *deadline, struct hv_err *err)
{
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    if (!d || d->info.state != DOMAIN_STATE_RUNNING) {
        int rc = d ? hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain is %s", domain_state_name(d->info.state))
                   : -1;
        pthread_mutex_unlock(&state->lock);
        return rc;
    }
    int64_t reboots = d->info.reboots;
    d->refs++;
    if (!d->deaf)
        d->wish = wish;
    pthread_mutex_unlock(&state->lock);
    sim_poke(d);
    int rc = 0;
    pthread_mutex_lock(&state->lock);
    while (rc == 0 && d->info.state != DOMAIN_STATE_GONE && !d->dropped &&
           !(wish == SIM_WISH_REBOOT && d->info.reboots != reboots)) {
        rc = gave_up(deadline, err);
        if (rc == 0)
            wait_change(state, deadline);
    }
    if (rc == 0 && wish == SIM_WISH_SHUTDOWN && !d->dropped)
        sim_drop(d);
    sim_release(d);
    pthread_mutex_unlock(&state->lock);
    return rc;
}

static int sim_shutdown(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                        struct hv_err *err)
{
    return ask(state, uuid, SIM_WISH_SHUTDOWN, deadline, err);
}

static int sim_reboot(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    return ask(state, uuid, SIM_WISH_REBOOT, deadline, err);
}

static int sim_destroy(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                       struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = sim_find(state, uuid);
    if (d) {
        sim_end(d, END_REASON_ASKED, "ended on request");
        sim_drop(d);
    }
    pthread_mutex_unlock(&state->lock);
    return d ? 0 : not_found(err);
}

static int sim_reset(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
                     struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    if (d) {
        d->info.state = DOMAIN_STATE_RUNNING;
        d->info.reboots++;
        sim_boot(d);
        sim_save(d);
        pthread_cond_broadcast(&state->changed);
        d->refs++;
    }
    pthread_mutex_unlock(&state->lock);
    if (!d)
        return -1;
    sim_poke(d);
    sim_tell(state, uuid, false);
    pthread_mutex_lock(&state->lock);
    sim_release(d);
    pthread_mutex_unlock(&state->lock);
    return 0;
}

static int sim_forget(struct hv_driver_state *state, const char *uuid, struct hv_err *err)
{
    int rc = 0;
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = sim_find(state, uuid);
    if (d && domain_state_is_live(d->info.state))
        rc = hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain runs");
    else if (d)
        sim_drop(d);
    pthread_mutex_unlock(&state->lock);
    return rc;
}

/* ---- reading ---- */

static int by_domid(const void *a, const void *b)
{
    const struct domain_info *x = a, *y = b;
    return x->domid < y->domid ? -1 : x->domid > y->domid;
}

static int sim_list(struct hv_driver_state *state, struct domain_info **infos, size_t *count,
                    struct hv_err *err)
{
    (void)err;
    size_t n = 0;
    pthread_mutex_lock(&state->lock);
    for (struct sim_domain *d = state->domains; d; d = d->next)
        n++;
    struct domain_info *all = xcalloc(n + 1, sizeof(*all));
    n = 0;
    for (struct sim_domain *d = state->domains; d; d = d->next)
        domain_info_copy(&all[n++], &d->info);
    pthread_mutex_unlock(&state->lock);
    qsort(all, n, sizeof(*all), by_domid);
    *infos = all;
    *count = n;
    return 0;
}

static int sim_info(struct hv_driver_state *state, const char *uuid, struct domain_info *info,
                    struct hv_err *err)
{
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = sim_find(state, uuid);
    if (d)
        domain_info_copy(info, &d->info);
    pthread_mutex_unlock(&state->lock);
    return d ? 0 : not_found(err);
}

static int sim_config(struct hv_driver_state *state, const char *uuid, struct domain_config *config,
                      struct hv_err *err)
{
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    if (d)
        domain_config_copy(config, &d->config);
    pthread_mutex_unlock(&state->lock);
    return d ? 0 : -1;
}

static int sim_stats(struct hv_driver_state *state, const char *uuid, struct domain_stats *stats,
                     struct hv_err *err)
{
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    if (d) {
        domain_stats_init(stats);
        str_assign(&stats->uuid, uuid);
        stats->memory_bytes = d->info.memory_bytes;
    }
    pthread_mutex_unlock(&state->lock);
    return d ? 0 : -1;
}

static int sim_guest_refresh(struct hv_driver_state *state, const char *uuid,
                             const struct hv_deadline *deadline, struct guest_info *guest, struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    int rc = d ? 0 : -1;
    if (d && !d->info.guest.live)
        rc = hv_fail(err, HV_ERR_KIND_GUEST, "The guest's agent does not answer");
    else if (d)
        guest_info_copy(guest, &d->info.guest);
    pthread_mutex_unlock(&state->lock);
    return rc;
}

/* ---- devices ---- */

static struct domain_disk *find_drive(struct sim_domain *d, const char *device)
{
    for (size_t i = 0; i < d->config.disks_count; i++)
        if (streq(d->config.disks[i].device, device))
            return &d->config.disks[i];
    return NULL;
}

static int sim_cd_change(struct hv_driver_state *state, const char *uuid, const struct domain_disk *drive,
                         struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    disk_chain_done(chain);
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    struct domain_disk *disk = d ? find_drive(d, drive->device) : NULL;
    int rc = d ? 0 : -1;
    if (d && (!disk || !disk->cdrom))
        rc = hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no CD drive of that name");
    if (rc == 0) {
        disk->source = drive->source;
        str_assign(&disk->sr, drive->sr);
        str_assign(&disk->disk, drive->disk);
        str_assign(&disk->iso, drive->iso);
        sim_save(d);
    }
    pthread_mutex_unlock(&state->lock);
    return rc;
}

struct attach {
    struct sim_domain *d;
    int fd, error;
};

static void attach_serial(void *arg)
{
    struct attach *a = arg;
    if (!a->d->serial)
        a->error = ENOENT;
    else if (fanout_attach(a->d->serial, &a->fd) < 0)
        a->error = errno;
}

static int sim_console_open(struct hv_driver_state *state, const char *uuid, enum console_kind kind, int *fd,
                            struct hv_err *err)
{
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = find_live(state, uuid, err);
    if (d)
        d->refs++;
    pthread_mutex_unlock(&state->lock);
    if (!d)
        return -1;
    struct attach attach = {.d = d, .fd = -1};
    if (kind == CONSOLE_SERIAL)
        loop_call(state->loop, attach_serial, &attach);
    else if (sim_rfb_open(state->loop, &attach.fd) < 0)
        attach.error = errno;
    pthread_mutex_lock(&state->lock);
    sim_release(d);
    pthread_mutex_unlock(&state->lock);
    if (attach.error)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The console cannot be opened: %s", strerror(attach.error));
    *fd = attach.fd;
    return 0;
}

const struct hv_driver hv_sim_driver = {
    .name = "sim",
    .probe = sim_probe,
    .open = sim_open,
    .close = sim_close,
    .capabilities = sim_capabilities,
    .check = sim_check,
    .start = sim_start,
    .pause = sim_pause,
    .unpause = sim_unpause,
    .shutdown = sim_shutdown,
    .reboot = sim_reboot,
    .destroy = sim_destroy,
    .reset = sim_reset,
    .forget = sim_forget,
    .purge = sim_forget,
    .list = sim_list,
    .info = sim_info,
    .config = sim_config,
    .stats = sim_stats,
    .guest_refresh = sim_guest_refresh,
    .cd_change = sim_cd_change,
    .console_open = sim_console_open,
};
