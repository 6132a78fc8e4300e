/* The simulator's entry in the driver table: domains that exist in its clock alone. See sim.h for what they
 * can be told to do, guest.c for what they do. */
#include "sim.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <io/images.h>
#include <stdio.h>

#define DEFAULT_BOOT_MS 300
#define DOMID_BLOCK 64 /* written down at once */

/* ---- with the lock held ---- */

static struct sim_domain *find(struct hv_driver_state *sim, const char *uuid)
{
    struct sim_domain *d = sim->domains;
    while (d && !streq(d->info.uuid, uuid))
        d = d->next;
    return d;
}

struct sim_domain *sim_find_live(struct hv_driver_state *sim, const char *uuid, struct hv_err *err)
{
    struct sim_domain *d = find(sim, uuid);
    if (d && !d->starting && d->info.state != DOMAIN_STATE_GONE)
        return d;
    hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
    return NULL;
}

static struct sim_domain *find_in(struct hv_driver_state *sim, const char *uuid, enum domain_state wanted,
                                  const char *what, struct hv_err *err)
{
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (!d || d->info.state == wanted)
        return d;
    hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain is %s; only one that is %s can be %s.",
            domain_state_name(d->info.state), domain_state_name(wanted), what);
    return NULL;
}

static void unlink_domain(struct sim_domain *d)
{
    for (struct sim_domain **at = &d->sim->domains; *at; at = &(*at)->next)
        if (*at == d) {
            *at = d->next;
            break;
        }
    for (size_t i = 0; d->coming && i < d->record.config.disks_count; i++)
        disk_chain_done(&d->coming[i]);
    free(d->coming);
    rundir_record_done(&d->record);
    domain_info_done(&d->info);
    free(d);
}

int sim_write_down(struct sim_domain *d, struct hv_err *err)
{
    struct rundir dir = RUNDIR_INIT;
    if (rundir_open(d->sim->state_dir, d->info.uuid, &dir) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's folder is gone: %s", strerror(errno));
    d->record.reboots = d->info.reboots;
    d->record.boot_time = d->info.boot_time;
    int outcome = rundir_write_record(&dir, &d->record, err);
    const char *state = domain_state_name(d->info.state);
    int fd AUTO_CLOSE = openat(dir.fd, "state", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (outcome == 0 && (fd < 0 || write(fd, state, strlen(state)) < 0))
        outcome = hv_fail(err, HV_ERR_KIND_IO, "The domain's state cannot be written: %s", strerror(errno));
    rundir_close(&dir);
    return outcome;
}

void sim_changed(struct sim_domain *d, bool guest_only)
{
    struct domain_info info AUTO_DOMAIN_INFO;
    struct hv_driver_state *sim = d->sim;
    struct hv_err err;
    domain_info_copy(&info, &d->info);
    if (!guest_only && info.state != DOMAIN_STATE_GONE && sim_write_down(d, &err) < 0)
        log_warn("sim", "a domain cannot be written down", "domain", info.uuid, "error", err.text);
    pthread_cond_broadcast(&sim->changed);
    pthread_mutex_unlock(&sim->lock);
    if (sim->env.changed)
        sim->env.changed(sim->env.ctx, &info, guest_only);
    pthread_mutex_lock(&sim->lock);
}

void sim_end(struct sim_domain *d, enum end_reason reason, const char *text)
{
    struct hv_driver_state *sim = d->sim;
    struct rundir dir = RUNDIR_INIT;
    loop_timer_cancel(sim->loop, &d->timer);
    loop_timer_cancel(sim->loop, &d->mishap);
    fanout_free(TAKE_PTR(d->serial));
    sim_screens_close(&d->screens);
    if (rundir_open(sim->state_dir, d->info.uuid, &dir) == 0)
        rundir_remove(sim->state_dir, d->info.uuid, &dir);
    failpoint("end:folder-gone");
    d->info.state = DOMAIN_STATE_GONE;
    d->info.domid = -1;
    d->info.pid = 0;
    d->info.end_reason = d->leaving ? END_REASON_ASKED : reason;
    d->info.end_time = clock_unix_seconds();
    d->info.guest.live = false;
    str_assign(&d->info.end_text, d->leaving ? "It was ended on request." : text);
    bool keep = !d->leaving;
    if (keep && ended_write(sim->state_dir, &d->info) < 0)
        log_error("sim", "the end of a domain could not be written down", "domain", d->info.uuid);
    sim_changed(d, false);
    if (!keep)
        unlink_domain(d);
    pthread_cond_broadcast(&sim->changed);
}

int sim_wait_change(struct hv_driver_state *sim, const struct hv_deadline *deadline, struct hv_err *err)
{
    int64_t now = clock_mono_ms();
    if (deadline->cancelled && atomic_load(deadline->cancelled))
        return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
    if (now >= deadline->mono_ms)
        return hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not do it in time.");
    int64_t until = now + 50 < deadline->mono_ms ? now + 50 : deadline->mono_ms;
    struct timespec end = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_cond_timedwait(&sim->changed, &sim->lock, &end);
    return 0;
}

/* ---- things that happen on the loop ---- */

struct action {
    struct hv_driver_state *sim;
    const char *uuid;
    enum console_kind kind;
    int fd;
    struct hv_err err;
    int outcome;
};

static void typed(void *arg, const char *data, size_t len)
{
    struct sim_domain *d = arg;
    struct hv_driver_state *sim = d->sim;
    pthread_mutex_lock(&sim->lock);
    if (d->up && d->serial)
        fanout_write(d->serial, data, len);
    pthread_mutex_unlock(&sim->lock);
}

static void do_boot(void *arg)
{
    struct action *a = arg;
    pthread_mutex_lock(&a->sim->lock);
    struct sim_domain *d = find(a->sim, a->uuid);
    if (d->record.config.serial && !d->serial)
        d->serial = fanout_new(a->sim->loop, typed, d);
    sim_boot(d);
    sim_arm(d);
    pthread_mutex_unlock(&a->sim->lock);
}

static void do_go_on(void *arg)
{
    struct action *a = arg;
    pthread_mutex_lock(&a->sim->lock);
    struct sim_domain *d = find(a->sim, a->uuid);
    if (d->record.config.serial && !d->serial)
        d->serial = fanout_new(a->sim->loop, typed, d);
    sim_arm(d);
    pthread_mutex_unlock(&a->sim->lock);
}

void sim_go_on(struct hv_driver_state *sim, const char *uuid)
{
    struct action a = {.sim = sim, .uuid = uuid};
    loop_call(sim->loop, do_go_on, &a);
}

static void do_arm(void *arg)
{
    struct action *a = arg;
    pthread_mutex_lock(&a->sim->lock);
    struct sim_domain *d = find(a->sim, a->uuid);
    if (d && d->info.state != DOMAIN_STATE_GONE)
        sim_arm(d);
    pthread_mutex_unlock(&a->sim->lock);
}

void sim_rearm(struct hv_driver_state *sim, const char *uuid)
{
    struct action a = {.sim = sim, .uuid = uuid};
    loop_call(sim->loop, do_arm, &a);
}

static void do_destroy(void *arg)
{
    struct action *a = arg;
    pthread_mutex_lock(&a->sim->lock);
    struct sim_domain *d = find(a->sim, a->uuid);
    if (d && d->info.state != DOMAIN_STATE_GONE) {
        d->leaving = true;
        failpoint("end:decided");
        sim_end(d, END_REASON_ASKED, "");
    } else if (d) {
        unlink_domain(d);
    }
    ended_remove(a->sim->state_dir, a->uuid);
    pthread_mutex_unlock(&a->sim->lock);
}

static void do_reset(void *arg)
{
    struct action *a = arg;
    pthread_mutex_lock(&a->sim->lock);
    struct sim_domain *d = sim_find_live(a->sim, a->uuid, &a->err);
    a->outcome = d ? 0 : -1;
    if (d) {
        d->info.state = DOMAIN_STATE_RUNNING;
        d->info.end_reason = END_REASON_NONE;
        d->resets++;
        d->info.reboots++;
        d->info.boot_time = clock_unix_seconds();
        sim_boot(d);
        sim_arm(d);
        sim_changed(d, false);
    }
    pthread_mutex_unlock(&a->sim->lock);
}

static int attach(struct sim_domain *d, enum console_kind kind, int *fd, struct hv_err *err)
{
    const struct domain_config *config = &d->record.config;
    if (kind == CONSOLE_VNC ? !config->vnc : !d->serial)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain has no such console.");
    int outcome =
        kind == CONSOLE_VNC ? sim_screen_open(d->sim->loop, &d->screens, fd) : fanout_attach(d->serial, fd);
    return outcome == 0 ? 0 : hv_fail(err, HV_ERR_KIND_IN_USE, "The console has too many viewers.");
}

static void do_attach(void *arg)
{
    struct action *a = arg;
    pthread_mutex_lock(&a->sim->lock);
    struct sim_domain *d = sim_find_live(a->sim, a->uuid, &a->err);
    a->outcome = d ? attach(d, a->kind, &a->fd, &a->err) : -1;
    pthread_mutex_unlock(&a->sim->lock);
}

/* ---- the table ---- */

static int sim_probe(const struct hv_driver_env *env, struct host_facts *facts, struct hv_err *err)
{
    (void)env;
    (void)err;
    str_assign(&facts->driver, "sim");
    facts->accelerator = ACCELERATOR_SIM;
    str_assign(&facts->accelerator_reason, "The simulator runs no guest code.");
    str_assign(&facts->guest_isolation, "The simulator starts no process.");
    return 0;
}

static struct sim_domain *add_domain(struct hv_driver_state *sim, const struct rundir_record *record)
{
    struct sim_domain *d = xcalloc(1, sizeof(*d));
    d->sim = sim;
    d->record = *record;
    domain_info_init(&d->info);
    str_assign(&d->info.uuid, record->config.uuid);
    str_assign(&d->info.name, record->config.name);
    d->info.state = record->config.start_paused ? DOMAIN_STATE_PAUSED : DOMAIN_STATE_RUNNING;
    d->info.domid = record->domid;
    d->info.start_time = record->start_time;
    d->info.boot_time = record->boot_time;
    d->info.reboots = record->reboots;
    d->info.data_version = record->data_version;
    d->info.memory_bytes = record->config.memory_bytes;
    d->info.memory_target_bytes =
        record->memory_target_bytes > 0 ? record->memory_target_bytes : record->config.memory_bytes;
    d->info.memory_actual_bytes =
        sim_word(d, "sim.no_balloon") >= 0 ? record->config.memory_bytes : d->info.memory_target_bytes;
    d->info.vcpus = record->config.vcpus;
    d->paused_at_us = clock_unix_us();
    d->next = sim->domains;
    sim->domains = d;
    return d;
}

static void boot(struct hv_driver_state *sim, const char *uuid)
{
    struct action a = {.sim = sim, .uuid = uuid};
    loop_call(sim->loop, do_boot, &a);
}

static void adopt_one(struct hv_driver_state *sim, const char *uuid)
{
    struct rundir dir = RUNDIR_INIT;
    struct rundir_record record;
    size_t len;
    if (rundir_open(sim->state_dir, uuid, &dir) < 0)
        return;
    char *state AUTO_FREE = rundir_tail(&dir, "state", 32, &len);
    if (rundir_read_record(&dir, &record) < 0 || len == 0) {
        rundir_remove(sim->state_dir, uuid, &dir);
        return;
    }
    if (record.incoming) { /* it never ran here */
        rundir_record_done(&record);
        rundir_remove(sim->state_dir, uuid, &dir);
        return;
    }
    rundir_close(&dir);
    bool offered = record.offer != NULL;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = add_domain(sim, &record);
    for (int s = 0; s < DOMAIN_STATE_COUNT; s++)
        if (streq(state, domain_state_name((enum domain_state)s)))
            d->info.state = (enum domain_state)s;
    if (record.domid >= sim->domid_next)
        sim->domid_next = record.domid + 1;
    pthread_mutex_unlock(&sim->lock);
    boot(sim, uuid);
    if (offered)
        sim_hold(sim, uuid, true);
}

static void load_ended(struct hv_driver_state *sim, const char *file)
{
    struct domain_info info;
    if (ended_read(sim->state_dir, file, &info) < 0)
        return;
    struct rundir_record none = {.domid = 0};
    domain_config_init(&none.config);
    struct sim_domain *d = add_domain(sim, &none);
    domain_info_done(&d->info);
    d->info = info;
}

static void each(struct hv_driver_state *sim, const char *folder,
                 void (*fn)(struct hv_driver_state *, const char *))
{
    char *path AUTO_FREE = xasprintf("%s/%s", sim->state_dir, folder);
    DIR *list = opendir(path);
    for (struct dirent *e; list && (e = readdir(list));)
        if (e->d_name[0] != '.')
            fn(sim, e->d_name);
    if (list)
        closedir(list);
}

static int sim_open(const struct hv_driver_env *env, struct hv_driver_state **out, struct hv_err *err)
{
    if (rundir_prepare(env->state_dir, err) < 0)
        return -1;
    struct hv_driver_state *sim = xcalloc(1, sizeof(*sim));
    sim->env = *env;
    sim->state_dir = xstrdup(env->state_dir);
    sim->boot_ms = env->sim_boot_ms > 0 ? env->sim_boot_ms : DEFAULT_BOOT_MS;
    sim->loop = loop_new("sim");
    if (!sim->loop) {
        free(sim->state_dir);
        free(sim);
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The simulator's thread cannot be started: %s",
                       strerror(errno));
    }
    host_boot_id(sim->boot_id);
    char *path AUTO_FREE = xasprintf("%s/domid", sim->state_dir);
    char *domid AUTO_FREE = file_read(path, 64, NULL);
    sim->domid_next = domid ? strtoll(domid, NULL, 10) : 1;
    pthread_mutex_init(&sim->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sim->changed, &attr);
    pthread_condattr_destroy(&attr);
    each(sim, "run", adopt_one);
    each(sim, "ended", load_ended);
    *out = sim;
    return 0;
}

static void forget_all(void *arg)
{
    struct hv_driver_state *sim = arg;
    for (struct sim_domain *d = sim->domains; d; d = d->next) {
        loop_timer_cancel(sim->loop, &d->timer);
        loop_timer_cancel(sim->loop, &d->mishap);
        fanout_free(TAKE_PTR(d->serial));
        sim_screens_close(&d->screens);
    }
}

static void sim_close(struct hv_driver_state *sim)
{
    if (!sim)
        return;
    loop_call(sim->loop, forget_all, sim);
    loop_free(sim->loop);
    while (sim->domains)
        unlink_domain(sim->domains);
    pthread_cond_destroy(&sim->changed);
    pthread_mutex_destroy(&sim->lock);
    free(sim->state_dir);
    free(sim);
}

static unsigned sim_capabilities(const struct hv_driver_state *sim)
{
    (void)sim;
    return DRIVER_CAN_START | DRIVER_CAN_PAUSE | DRIVER_CAN_UEFI | DRIVER_CAN_KERNEL | DRIVER_CAN_VNC |
           DRIVER_CAN_SERIAL | DRIVER_CAN_GUEST_AGENT | DRIVER_CAN_CD_CHANGE | DRIVER_CAN_USER_NET |
           DRIVER_CAN_DISK_CLONE | DRIVER_CAN_SNAPSHOT | DRIVER_CAN_CHECKPOINT | DRIVER_CAN_SUSPEND |
           DRIVER_CAN_DISK_PLUG | DRIVER_CAN_NIC_PLUG | DRIVER_CAN_SET_VCPUS | DRIVER_CAN_SET_MEMORY |
           DRIVER_CAN_BRIDGE | DRIVER_CAN_MIGRATE | DRIVER_CAN_DISK_MOVE | DRIVER_CAN_CPU_MASK |
           DRIVER_CAN_CPU_WEIGHT | DRIVER_CAN_SECURE_BOOT | DRIVER_CAN_TPM | DRIVER_CAN_GUEST_KERNEL |
           DRIVER_CAN_GUEST_DATA;
}

/* Without a folder it has every kernel: its guests run none. */
static int sim_check(const struct hv_driver_state *sim, const struct domain_config *config,
                     struct hv_err *err)
{
    return sim->env.images_fd < 0 ? 0 : images_check(sim->env.images_fd, config, err);
}

/* The file has the number that the next agent begins with: those up to it are taken, or left out. */
static int64_t take_domid(struct hv_driver_state *sim)
{
    if (sim->domid_next < sim->domid_kept)
        return sim->domid_next++;
    sim->domid_kept = sim->domid_next + DOMID_BLOCK;
    char *path AUTO_FREE = xasprintf("%s/domid", sim->state_dir);
    char *text AUTO_FREE = xasprintf("%lld\n", (long long)sim->domid_kept);
    if (file_write_atomic(path, text, strlen(text), 0600) < 0)
        log_warn("sim", "the last domain number cannot be written down", "error", strerror(errno));
    return sim->domid_next++;
}

struct sim_domain *sim_make(struct hv_driver_state *sim, const struct domain_config *config, bool incoming,
                            struct hv_err *err)
{
    struct sim_domain *old = find(sim, config->uuid);
    struct rundir dir = RUNDIR_INIT;
    struct rundir_record record = {.domid = 0, .incoming = incoming};
    if (old && old->info.state != DOMAIN_STATE_GONE) {
        hv_fail(err, HV_ERR_KIND_EXISTS, "The domain runs on this host already.");
        return NULL;
    }
    if (old)
        unlink_domain(old);
    ended_remove(sim->state_dir, config->uuid);
    if (rundir_create(sim->state_dir, config->uuid, &dir, err) < 0)
        return NULL;
    rundir_close(&dir);
    domain_config_copy(&record.config, config);
    if (record.config.vcpus_max < record.config.vcpus)
        record.config.vcpus_max = record.config.vcpus;
    record.memory_target_bytes = config->memory_target_bytes;
    record.domid = take_domid(sim);
    record.start_time = record.boot_time = clock_unix_seconds();
    snprintf(record.boot_id, sizeof(record.boot_id), "%s", sim->boot_id);
    struct sim_domain *d = add_domain(sim, &record);
    if (sim_word(d, "sim.start_fails") < 0 && sim_write_down(d, err) == 0) {
        failpoint("start:recorded");
        return d;
    }
    if (sim_word(d, "sim.start_fails") >= 0)
        hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The guest could not be started: its arguments say so.");
    if (rundir_open(sim->state_dir, config->uuid, &dir) == 0)
        rundir_remove(sim->state_dir, config->uuid, &dir);
    unlink_domain(d);
    return NULL;
}

static int sim_start(struct hv_driver_state *sim, const struct domain_config *config,
                     struct disk_chain *chains, const struct hv_deadline *deadline, struct domain_info *info,
                     struct hv_err *err)
{
    (void)deadline;
    for (size_t i = 0; i < config->disks_count; i++)
        disk_chain_done(&chains[i]);
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_make(sim, config, false, err);
    if (d)
        domain_info_copy(info, &d->info);
    pthread_mutex_unlock(&sim->lock);
    if (!d)
        return -1;
    boot(sim, config->uuid);
    if (sim->env.changed)
        sim->env.changed(sim->env.ctx, info, false);
    return 0;
}

void sim_halt(struct sim_domain *d)
{
    d->info.state = DOMAIN_STATE_PAUSED;
    d->up_at -= clock_mono_ms(); /* what is left of the boot */
    d->paused_at_us = clock_unix_us();
    sim_changed(d, false);
}

static int sim_pause(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                     struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_in(sim, uuid, DOMAIN_STATE_RUNNING, "paused", err);
    if (d)
        sim_halt(d);
    pthread_mutex_unlock(&sim->lock);
    if (d)
        sim_rearm(sim, uuid);
    return d ? 0 : -1;
}

/* Its guests know no signals but the power button, which they do not feel either. */
static int sim_trigger(struct hv_driver_state *sim, const char *uuid, enum domain_signal signal, char key,
                       const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    const char text[] = {signal == DOMAIN_SIGNAL_SYSRQ ? key : '-', '\0'};
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_in(sim, uuid, DOMAIN_STATE_RUNNING, "given a signal", err);
    pthread_mutex_unlock(&sim->lock);
    if (d)
        log_info("sim", "a signal came", "domain", uuid, "signal", domain_signal_name(signal), "key", text);
    return d ? 0 : -1;
}

static int sim_unpause(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                       struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_in(sim, uuid, DOMAIN_STATE_PAUSED, "unpaused", err);
    if (d) {
        d->info.state = DOMAIN_STATE_RUNNING;
        str_assign(&d->info.paused_text, "");
        str_assign(&d->info.paused_disk, "");
        d->up_at += clock_mono_ms();
        d->paused_us += clock_unix_us() - d->paused_at_us;
        sim_changed(d, false);
    }
    pthread_mutex_unlock(&sim->lock);
    if (d)
        sim_rearm(sim, uuid);
    return d ? 0 : -1;
}

static int sim_shutdown(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                        struct hv_err *err)
{
    int outcome = 0;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_in(sim, uuid, DOMAIN_STATE_RUNNING, "shut down", err);
    if (d)
        d->leaving = d->asked_off = true;
    pthread_mutex_unlock(&sim->lock);
    if (!d)
        return -1;
    sim_rearm(sim, uuid);
    pthread_mutex_lock(&sim->lock);
    /* Until it is out of the table: it is told of as gone before that. */
    while (outcome == 0 && (d = find(sim, uuid)))
        outcome = sim_wait_change(sim, deadline, err);
    if (outcome < 0 && d)
        d->leaving = d->asked_off = false;
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

static int sim_reset(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                     struct hv_err *err)
{
    (void)deadline;
    struct action a = {.sim = sim, .uuid = uuid};
    loop_call(sim->loop, do_reset, &a);
    if (a.outcome < 0 && err)
        *err = a.err;
    return a.outcome;
}

static int sim_reboot(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    int outcome = 0;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_in(sim, uuid, DOMAIN_STATE_RUNNING, "rebooted", err);
    if (d)
        d->asked_reboot = true;
    pthread_mutex_unlock(&sim->lock);
    sim_rearm(sim, uuid);
    pthread_mutex_lock(&sim->lock);
    d = d ? sim_find_live(sim, uuid, err) : NULL;
    if (!d)
        outcome = -1;
    else if (!d->record.config.guest_agent || sim_word(d, "sim.no_agent") >= 0)
        outcome = hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                          "No agent answers in the guest: a clean reboot is not possible.");
    while (outcome == 0 && d &&
           (!d->up || sim_word(d, "sim.ignore_shutdown") >= 0 || sim_word(d, "sim.when_asked") >= 0)) {
        outcome = sim_wait_change(sim, deadline, err);
        d = sim_find_live(sim, uuid, outcome == 0 ? err : NULL);
        outcome = d ? outcome : -1;
    }
    if (d)
        d->asked_reboot = false;
    pthread_mutex_unlock(&sim->lock);
    return outcome < 0 ? -1 : sim_reset(sim, uuid, deadline, err);
}

int sim_destroy(struct hv_driver_state *sim, const char *uuid, const struct hv_deadline *deadline,
                struct hv_err *err)
{
    (void)deadline;
    (void)err;
    struct action a = {.sim = sim, .uuid = uuid};
    loop_call(sim->loop, do_destroy, &a);
    return 0;
}

static int sim_forget(struct hv_driver_state *sim, const char *uuid, struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find(sim, uuid);
    bool live = d && d->info.state != DOMAIN_STATE_GONE;
    pthread_mutex_unlock(&sim->lock);
    if (live)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain is not gone.");
    return sim_destroy(sim, uuid, NULL, err);
}

static int by_domid(const void *a, const void *b)
{
    const struct domain_info *x = a, *y = b;
    return x->domid < y->domid ? -1 : x->domid > y->domid;
}

static int sim_list(struct hv_driver_state *sim, struct domain_info **infos, size_t *count,
                    struct hv_err *err)
{
    (void)err;
    size_t n = 0;
    pthread_mutex_lock(&sim->lock);
    for (struct sim_domain *d = sim->domains; d; d = d->next)
        n++;
    struct domain_info *list = xcalloc(n + 1, sizeof(*list));
    n = 0;
    for (struct sim_domain *d = sim->domains; d; d = d->next)
        if (!d->starting)
            domain_info_copy(&list[n++], &d->info);
    pthread_mutex_unlock(&sim->lock);
    qsort(list, n, sizeof(*list), by_domid);
    *infos = list;
    *count = n;
    return 0;
}

static int sim_info(struct hv_driver_state *sim, const char *uuid, struct domain_info *info,
                    struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find(sim, uuid);
    if (d && d->starting)
        d = NULL;
    if (d)
        domain_info_copy(info, &d->info);
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
}

static int sim_config(struct hv_driver_state *sim, const char *uuid, struct domain_config *config,
                      struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (d)
        domain_config_copy(config, &d->record.config);
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : -1;
}

static int sim_stats(struct hv_driver_state *sim, const char *uuid, struct domain_stats *stats,
                     struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (d)
        sim_count(d, stats);
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : -1;
}

static int sim_guest_refresh(struct hv_driver_state *sim, const char *uuid,
                             const struct hv_deadline *deadline, struct guest_info *guest, struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = find_in(sim, uuid, DOMAIN_STATE_RUNNING, "asked", err);
    bool live = d && d->info.guest.live;
    if (live)
        guest_info_copy(guest, &d->info.guest);
    pthread_mutex_unlock(&sim->lock);
    if (live)
        return 0;
    return d ? hv_fail(err, HV_ERR_KIND_GUEST, "No agent answers in the guest.") : -1;
}

static int sim_cd_change(struct hv_driver_state *sim, const char *uuid, const struct domain_disk *drive,
                         struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    disk_chain_done(chain);
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (d)
        hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no CD drive %s.", drive->device);
    for (size_t i = 0; d && i < d->record.config.disks_count; i++) {
        struct domain_disk *disk = &d->record.config.disks[i];
        if (!disk->cdrom || !streq(disk->device, drive->device))
            continue;
        disk->source = drive->source;
        str_assign(&disk->sr, drive->sr ? drive->sr : "");
        str_assign(&disk->disk, drive->disk ? drive->disk : "");
        str_assign(&disk->iso, drive->iso ? drive->iso : "");
        outcome = sim_write_down(d, err);
    }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

static int sim_console_open(struct hv_driver_state *sim, const char *uuid, enum console_kind kind, int *fd,
                            struct hv_err *err)
{
    struct action a = {.sim = sim, .uuid = uuid, .kind = kind, .fd = -1};
    loop_call(sim->loop, do_attach, &a);
    if (a.outcome < 0 && err)
        *err = a.err;
    if (a.outcome == 0)
        *fd = a.fd;
    return a.outcome;
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
    .trigger = sim_trigger,
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
    .snapshot = sim_snapshot,
    .suspend = sim_suspend,
    .resume = sim_resume,
    .disk_limit = sim_disk_limit,
    .disk_plug = sim_disk_plug,
    .disk_unplug = sim_disk_unplug,
    .nic_plug = sim_nic_plug,
    .nic_unplug = sim_nic_unplug,
    .usb_unplug = sim_usb_unplug,
    .nic_update = sim_nic_update,
    .set_vcpus = sim_set_vcpus,
    .set_memory = sim_set_memory,
    .describe = sim_describe,
    .send = sim_send,
    .offered = sim_offered,
    .settle = sim_settle,
    .receive = sim_receive,
    .receive_disk = sim_receive_disk,
    .receive_memory = sim_receive_memory,
    .receive_run = sim_receive_run,
    .receive_drop = sim_receive_drop,
    .disk_move = sim_disk_move,
    .set_scheduling = sim_set_scheduling,
    .freeze = sim_freeze,
    .thaw = sim_thaw,
    .data = sim_data,
    .data_set = sim_data_set,
    .console_open = sim_console_open,
};
