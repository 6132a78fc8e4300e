/* One domain: its place in the table, its connection to the device model, and what it hears from there.
 * How it ends is in ending.c, its serial port in serial.c. */
#include "internal.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>

#define RECONNECT_MS 1000
#define SAME_REBOOT_MS 1000
#define REARM_MS 3000
#define SOON_MS 20000
#define ANSWER_MS 2000
#define DISK_ERROR_PAUSE_MS 10000 /* between two lines about a disk whose failures the guest is told of */
#define END_MS 3000               /* from the end of the connection until all is released */
#define SYNC_MS 3600000           /* one that hangs says its state when it goes on */
#define LOG_TAIL 65536
#define AGENT_PORT "agent0" /* id in plan.c */

struct qemu_domain *domain_new(struct hv_driver_state *driver, const char *uuid)
{
    struct qemu_domain *d = xcalloc(1, sizeof(*d));
    d->driver = driver;
    d->refs = 1;
    snprintf(d->uuid, sizeof(d->uuid), "%s", uuid);
    d->dir = RUNDIR_INIT;
    d->proc = d->tpm = (struct proc){-1, -1};
    d->serial_fd = d->serial_log_fd = -1;
    domain_info_init(&d->info);
    str_assign(&d->info.uuid, uuid);
    pthread_mutex_init(&d->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&d->changed, &attr);
    pthread_condattr_destroy(&attr);
    return d;
}

struct qemu_domain *domain_ref(struct qemu_domain *d)
{
    atomic_fetch_add(&d->refs, 1);
    return d;
}

void domain_unref(struct qemu_domain *d)
{
    if (!d || atomic_fetch_sub(&d->refs, 1) > 1)
        return;
    rundir_close(&d->dir);
    rundir_record_done(&d->record);
    free(d->end_note);
    domain_info_done(&d->info);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

void domain_unref_cleanup(struct qemu_domain **d)
{
    domain_unref(*d);
}

struct kept_user domain_user(const struct qemu_domain *d)
{
    const struct hv_driver_env *env = &d->driver->env;
    uid_t own = (uid_t)d->record.uid;
    if (geteuid() != 0)
        return (struct kept_user){(uid_t)-1, (gid_t)-1};
    return own ? (struct kept_user){own, own} : (struct kept_user){env->guest_uid, env->guest_gid};
}

/* With driver->lock held. */
static size_t table_index(const struct hv_driver_state *driver, const char *uuid)
{
    size_t i = 0;
    while (i < driver->count && !streq(driver->domains[i]->uuid, uuid))
        i++;
    return i;
}

struct qemu_domain *domain_find(struct hv_driver_state *driver, const char *uuid, struct hv_err *err)
{
    pthread_mutex_lock(&driver->lock);
    size_t i = table_index(driver, uuid);
    struct qemu_domain *d = i < driver->count ? domain_ref(driver->domains[i]) : NULL;
    pthread_mutex_unlock(&driver->lock);
    if (!d)
        hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
    return d;
}

bool domain_table_add(struct hv_driver_state *driver, struct qemu_domain *d)
{
    bool added = true;
    struct qemu_domain *old = NULL;
    pthread_mutex_lock(&driver->lock);
    size_t i = table_index(driver, d->uuid);
    if (i < driver->count) {
        pthread_mutex_lock(&driver->domains[i]->lock);
        added = driver->domains[i]->dead;
        pthread_mutex_unlock(&driver->domains[i]->lock);
        if (added)
            old = driver->domains[i];
    } else {
        driver->domains = xreallocarray(driver->domains, driver->count + 1, sizeof(struct qemu_domain *));
        driver->count++;
    }
    if (added)
        driver->domains[i] = domain_ref(d);
    pthread_mutex_unlock(&driver->lock);
    domain_unref(old);
    return added;
}

void domain_table_remove(struct hv_driver_state *driver, struct qemu_domain *d)
{
    bool removed = false;
    pthread_mutex_lock(&driver->lock);
    for (size_t i = 0; i < driver->count; i++)
        if (driver->domains[i] == d) {
            driver->domains[i] = driver->domains[--driver->count];
            removed = true;
            break;
        }
    pthread_mutex_unlock(&driver->lock);
    if (removed)
        domain_unref(d);
}

void domain_publish(struct qemu_domain *d, bool guest_only)
{
    struct domain_info info AUTO_DOMAIN_INFO;
    pthread_mutex_lock(&d->lock);
    bool listed = !d->starting;
    domain_info_copy(&info, &d->info);
    pthread_mutex_unlock(&d->lock);
    if (listed && d->driver->env.changed)
        d->driver->env.changed(d->driver->env.ctx, &info, guest_only);
}

int domain_wait(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    if (deadline->cancelled && atomic_load(deadline->cancelled))
        return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
    int64_t now = clock_mono_ms();
    if (now >= deadline->mono_ms)
        return hv_fail(err, HV_ERR_KIND_DEADLINE, "It was not done in time.");
    /* A cancellation is a flag that nobody signals: look at it now and then. */
    int64_t until = deadline->cancelled && now + 100 < deadline->mono_ms ? now + 100 : deadline->mono_ms;
    struct timespec end = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_cond_timedwait(&d->changed, &d->lock, &end);
    return 0;
}

bool domain_await_end(struct qemu_domain *d)
{
    struct hv_deadline moment = {.mono_ms = clock_mono_ms() + END_MS};
    pthread_mutex_lock(&d->lock);
    while (!d->dead && domain_wait(d, &moment, NULL) == 0)
        ;
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    return dead;
}

int domain_execute(struct qemu_domain *d, const char *command, json_t *arguments, int fd,
                   const struct hv_deadline *deadline, json_t **result, struct hv_err *err)
{
    pthread_mutex_lock(&d->lock);
    struct qmp *qmp = d->qmp ? qmp_ref(d->qmp) : NULL;
    pthread_mutex_unlock(&d->lock);
    int outcome = qmp ? qmp_execute(qmp, command, arguments, fd, deadline, result, err)
                      : hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model cannot be reached.");
    if (outcome < 0 && (!qmp || qmp_is_lost(qmp)))
        domain_await_end(d);
    qmp_unref(qmp);
    return outcome;
}

int domain_command(struct qemu_domain *d, const char *command, json_t *moved_arguments,
                   const struct hv_deadline *deadline, json_t **result, struct hv_err *err)
{
    json_t *arguments AUTO_JSON = moved_arguments;
    return domain_execute(d, command, arguments, -1, deadline, result, err);
}

struct hv_deadline domain_soon(void)
{
    return (struct hv_deadline){.mono_ms = clock_mono_ms() + SOON_MS};
}

int64_t domain_guest_limit(const struct hv_deadline *deadline)
{
    int64_t left = deadline->mono_ms - clock_mono_ms();
    return deadline->mono_ms - (left / 4 < ANSWER_MS ? left / 4 : ANSWER_MS);
}

struct qemu_domain *domain_find_active(struct hv_driver_state *state, const char *uuid, struct hv_err *err)
{
    struct qemu_domain *d = domain_find(state, uuid, err);
    if (!d)
        return NULL;
    pthread_mutex_lock(&d->lock);
    enum domain_state now = d->info.state;
    pthread_mutex_unlock(&d->lock);
    if (now == DOMAIN_STATE_RUNNING || now == DOMAIN_STATE_PAUSED)
        return d;
    hv_fail(err, now == DOMAIN_STATE_GONE ? HV_ERR_KIND_NOT_FOUND : HV_ERR_KIND_BAD_STATE,
            "The domain is %s; it has to be running or paused.", domain_state_name(now));
    domain_unref(d);
    return NULL;
}

struct record_change {
    struct qemu_domain *d;
    void (*change)(struct rundir_record *record, void *arg);
    void *arg;
    struct hv_err *err;
    int outcome;
};

static void change_on_loop(void *arg)
{
    struct record_change *c = arg;
    pthread_mutex_lock(&c->d->lock);
    if (c->d->dead || c->d->dir.fd < 0) {
        c->outcome = hv_fail(c->err, HV_ERR_KIND_DEVICE_MODEL, "The domain ended meanwhile.");
    } else {
        c->change(&c->d->record, c->arg);
        c->outcome = rundir_write_record(&c->d->dir, &c->d->record, c->err);
    }
    pthread_mutex_unlock(&c->d->lock);
}

int domain_change(struct qemu_domain *d, void (*change)(struct rundir_record *record, void *arg), void *arg,
                  struct hv_err *err)
{
    struct record_change c = {.d = d, .change = change, .arg = arg, .err = err};
    loop_call(d->driver->loop, change_on_loop, &c);
    return c.outcome;
}

/* ---- what the device model says: loop thread ---- */

/* True if it is new. */
static bool set_state(struct qemu_domain *d, enum domain_state state)
{
    pthread_mutex_lock(&d->lock);
    bool is_new = d->info.state != state;
    d->info.state = state;
    if (state == DOMAIN_STATE_RUNNING || state == DOMAIN_STATE_PAUSED)
        d->info.end_reason = END_REASON_NONE;
    if (state == DOMAIN_STATE_RUNNING) {
        str_assign(&d->info.paused_text, "");
        str_assign(&d->info.paused_disk, "");
    }
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    return is_new;
}

static enum domain_state state_of(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    enum domain_state state = d->info.state;
    pthread_mutex_unlock(&d->lock);
    return state;
}

/* SeaBIOS turns a soft reset into a hard one by resetting again at once: one reboot, two events. */
static void on_reset(struct qemu_domain *d)
{
    int64_t now = clock_mono_ms();
    bool same = d->last_reset_ms && now - d->last_reset_ms < SAME_REBOOT_MS;
    d->last_reset_ms = now;
    pthread_mutex_lock(&d->lock);
    d->resets++;
    pthread_cond_broadcast(&d->changed);
    if (same) {
        pthread_mutex_unlock(&d->lock);
        return;
    }
    d->info.reboots++;
    d->info.boot_time = clock_unix_seconds();
    d->record.reboots = d->info.reboots;
    d->info.virtio = false;
    d->record.boot_time = d->info.boot_time;
    struct hv_err err;
    bool written = rundir_write_record(&d->dir, &d->record, &err) == 0;
    pthread_mutex_unlock(&d->lock);
    domain_watch_again(d);
    if (!written)
        log_warn("qemu", "a reboot could not be written down", "domain", d->uuid, "error", err.text);
    domain_publish(d, false);
}

static void on_shutdown_event(struct qemu_domain *d, const json_t *data)
{
    const char *reason = "";
    json_get_string(data, "reason", &reason);
    if (streq(reason, "guest-shutdown"))
        domain_guest_ended(d, END_REASON_GUEST_SHUTDOWN);
    else if (streq(reason, "guest-reset"))
        domain_guest_ended(d, END_REASON_GUEST_REBOOT);
    else if (streq(reason, "guest-panic"))
        domain_guest_ended(d, END_REASON_GUEST_CRASH);
    /* host-qmp-quit is our own; after host-signal and the like the process ends, which is noticed as such. */
}

static void on_port(struct qemu_domain *d, const json_t *data)
{
    const char *id;
    bool open;
    if (d->qga && json_get_string(data, "id", &id) && streq(id, AGENT_PORT) &&
        json_get_bool(data, "open", &open))
        qga_port(d->qga, open);
}

static void on_balloon(struct qemu_domain *d, const json_t *data)
{
    int64_t actual;
    if (!json_get_int(data, "actual", &actual))
        return;
    pthread_mutex_lock(&d->lock);
    bool is_new = d->info.memory_actual_bytes != actual;
    d->info.memory_actual_bytes = actual;
    pthread_mutex_unlock(&d->lock);
    if (is_new)
        domain_publish(d, false);
}

static bool is_held(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    bool held = d->holding || d->record.held;
    pthread_mutex_unlock(&d->lock);
    return held;
}

/* What operations wait for that copy disks and memory. */
static void job_news(struct qemu_domain *d, const char *name, const json_t *data)
{
    bool job = strncmp(name, "BLOCK_JOB_", strlen("BLOCK_JOB_")) == 0;
    if (!job && !streq(name, "MIGRATION") && !streq(name, "STOP"))
        return;
    pthread_mutex_lock(&d->lock);
    d->job_news++;
    if (job && json_object_get(data, "error"))
        d->job_failed = true;
    if (streq(name, "STOP"))
        d->stopped_us = clock_mono_us();
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

/* The disk whose chain of images has this node on top; NULL: none. */
static const struct domain_disk *disk_of_node(const struct qemu_domain *d, const char *node)
{
    int index;
    if (sscanf(node, "drive%d", &index) != 1)
        return NULL;
    for (size_t i = 0; i < d->record.config.disks_count; i++)
        if (d->record.config.disks[i].index == index)
            return &d->record.config.disks[i];
    return NULL;
}

/* The device model stops the guest when there is no room, so that it loses nothing; a guest that is told of
 * other failures may try again at once, so those are not told here each time. */
static void on_disk_error(struct qemu_domain *d, const json_t *data)
{
    const char *node = "", *operation = "", *action = "", *reason = "";
    json_get_string(data, "node-name", &node);
    json_get_string(data, "operation", &operation);
    json_get_string(data, "action", &action);
    json_get_string(data, "reason", &reason);
    const struct domain_disk *disk = disk_of_node(d, node);
    bool stops = streq(action, "stop");
    if (!stops && clock_mono_ms() - d->disk_error_ms < DISK_ERROR_PAUSE_MS)
        return;
    d->disk_error_ms = clock_mono_ms();
    log_warn("qemu",
             stops ? "a disk failed, and the guest was paused: see to the disk's storage, then unpause it"
                   : "a disk failed, and the guest was told",
             "domain", d->uuid, "name", d->record.config.name, "device", disk ? disk->device : node, "disk",
             disk ? disk->disk : "", "sr", disk ? disk->sr : "", "operation", operation, "reason", reason);
    if (!stops)
        return;
    AUTO_STR const char *text =
        str_newf("%s: %s", streq(operation, "read") ? "cannot be read" : "cannot be written", reason);
    pthread_mutex_lock(&d->lock);
    str_assign(&d->info.paused_text, text);
    str_assign(&d->info.paused_disk, disk ? disk->disk : "");
    pthread_mutex_unlock(&d->lock);
}

static void on_event(void *arg, const char *name, const json_t *data)
{
    struct qemu_domain *d = arg;
    enum domain_state state = state_of(d);
    job_news(d, name, data);
    bool live = state == DOMAIN_STATE_RUNNING || state == DOMAIN_STATE_PAUSED;
    if (streq(name, "SHUTDOWN"))
        on_shutdown_event(d, data);
    else if (streq(name, "GUEST_PANICKED"))
        domain_guest_ended(d, END_REASON_GUEST_CRASH);
    else if (streq(name, "RESET"))
        on_reset(d);
    else if (streq(name, "STOP") && live && d->pending == END_REASON_NONE && !d->record.anew && !is_held(d)) {
        if (set_state(d, DOMAIN_STATE_PAUSED))
            domain_publish(d, false);
    } else if (streq(name, "RESUME")) {
        if (set_state(d, DOMAIN_STATE_RUNNING))
            domain_publish(d, false);
    } else if (streq(name, "VSERPORT_CHANGE"))
        on_port(d, data);
    else if (streq(name, "BALLOON_CHANGE"))
        on_balloon(d, data);
    else if (streq(name, "DEVICE_DELETED") || streq(name, "DEVICE_UNPLUG_GUEST_ERROR"))
        domain_device_event(d, name, data);
    else if (streq(name, "BLOCK_IO_ERROR"))
        on_disk_error(d, data);
}

static void on_lost(void *arg, const char *why)
{
    struct qemu_domain *d = arg;
    log_debug("qemu", "the connection to a device model ended", "domain", d->uuid, "reason", why);
    pthread_mutex_lock(&d->lock);
    struct qmp *qmp = TAKE_PTR(d->qmp);
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    qmp_close(qmp);
    if (!dead)
        loop_timer_set(d->driver->loop, &d->reconnect, clock_mono_ms() + RECONNECT_MS);
}

static void on_guest_info(void *arg, const struct guest_info *guest, bool changed)
{
    struct qemu_domain *d = arg;
    pthread_mutex_lock(&d->lock);
    guest_info_done(&d->info.guest);
    guest_info_copy(&d->info.guest, guest);
    d->guest_answers++;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    if (changed)
        domain_publish(d, true);
}

static void on_guest_refused(void *arg)
{
    struct qemu_domain *d = arg;
    pthread_mutex_lock(&d->lock);
    d->guest_refused = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

static void on_guest_frozen(void *arg, bool frozen)
{
    domain_fs_frozen(arg, frozen);
}

static void on_guest_lost(void *arg)
{
    struct qemu_domain *d = arg;
    loop_timer_set(d->driver->loop, &d->reconnect, clock_mono_ms() + 30 * RECONNECT_MS);
}

/* ---- connecting: loop thread ---- */

static void qmp_connect(struct qemu_domain *d)
{
    int fd = rundir_connect(&d->dir, "qmp");
    if (fd < 0) {
        loop_timer_set(d->driver->loop, &d->reconnect, clock_mono_ms() + RECONNECT_MS);
        return;
    }
    struct qmp_callbacks callbacks = {.event = on_event, .lost = on_lost, .arg = d};
    struct qmp *qmp = qmp_new(d->driver->loop, fd, &callbacks);
    pthread_mutex_lock(&d->lock);
    d->qmp = qmp;
    pthread_mutex_unlock(&d->lock);
}

static void agent_connect(struct qemu_domain *d)
{
    int fd = d->qga && !qga_is_connected(d->qga) ? rundir_connect(&d->dir, "agent") : -1;
    if (fd >= 0)
        qga_connected(d->qga, fd);
}

static void *run_sync(void *arg)
{
    struct qemu_domain *d = arg;
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + SYNC_MS};
    struct hv_err err;
    if (domain_sync(d, &deadline, &err) < 0)
        log_warn("qemu", "a device model does not say its state", "domain", d->uuid, "error", err.text);
    domain_unref(d);
    return NULL;
}

static void *run_devices(void *arg)
{
    struct qemu_domain *d = arg;
    domain_reconcile_devices(d);
    domain_unref(d);
    return NULL;
}

void domain_run_apart(struct qemu_domain *d, void *(*run)(void *))
{
    pthread_t thread;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, run, domain_ref(d)) != 0)
        domain_unref(d);
    pthread_attr_destroy(&attr);
}

void domain_sync_later(struct qemu_domain *d)
{
    domain_run_apart(d, run_sync);
}

void domain_devices_later(struct qemu_domain *d)
{
    domain_run_apart(d, run_devices);
}

static void fire_reconnect(void *arg)
{
    struct qemu_domain *d = arg;
    if (!d->qmp) {
        qmp_connect(d);
        if (d->qmp)
            domain_sync_later(d);
    }
    if (d->serial_fd < 0)
        serial_connect(d);
    agent_connect(d);
}

static void fire_kill(void *arg)
{
    struct qemu_domain *d = arg;
    log_warn("qemu", "a device model did not end and is killed", "domain", d->uuid);
    proc_signal(&d->proc, SIGKILL);
}

static void fire_rearm(void *arg)
{
    struct qemu_domain *d = arg;
    json_t *action AUTO_JSON = json_pack("{s:s}", "reboot", "shutdown");
    if (d->qmp)
        qmp_send(d->qmp, "set-action", action);
}

static void rearm_on_loop(void *arg)
{
    struct qemu_domain *d = arg;
    if (!d->dead && d->record.config.on_reboot != END_ACTION_RESTART)
        loop_timer_set(d->driver->loop, &d->rearm_timer, clock_mono_ms() + REARM_MS);
}

void domain_rearm_reboot(struct qemu_domain *d)
{
    loop_call(d->driver->loop, rearm_on_loop, d);
}

static void process_ready(void *arg, uint32_t events)
{
    (void)events;
    domain_process_ended(arg);
}

static void attach_on_loop(void *arg)
{
    struct qemu_domain *d = arg;
    struct loop *loop = d->driver->loop;
    domain_ref(d);
    d->reconnect = (struct loop_timer){.fire = fire_reconnect, .arg = d};
    d->kill_timer = (struct loop_timer){.fire = fire_kill, .arg = d};
    d->rearm_timer = (struct loop_timer){.fire = fire_rearm, .arg = d};
    domain_watch(d);
    qmp_connect(d);
    if (d->record.config.serial)
        serial_open(d, !d->is_child || d->is_anew);
    if (d->record.config.guest_agent) {
        struct qga_callbacks callbacks = {.info = on_guest_info,
                                          .lost = on_guest_lost,
                                          .refused = on_guest_refused,
                                          .frozen = on_guest_frozen,
                                          .arg = d};
        d->qga = qga_new(loop, &d->record.config, &callbacks);
        agent_connect(d);
        if (d->record.frozen)
            qga_thaw(d->qga);
    }
    domain_data_open(d);
    /* Last, since it may be readable already. */
    d->process_source = loop_add(loop, d->proc.pidfd, EPOLLIN, process_ready, d);
    if (!d->process_source)
        log_error("qemu", "a device model cannot be watched", "domain", d->uuid, "error", strerror(errno));
}

void domain_attach(struct qemu_domain *d)
{
    loop_call(d->driver->loop, attach_on_loop, d);
}

void domain_kill(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    if (d->proc.pidfd >= 0)
        proc_signal(&d->proc, SIGKILL);
    /* Only a process stuck in the kernel takes longer than a moment. */
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + 30000};
    while (!d->dead && domain_wait(d, &deadline, NULL) == 0)
        ;
    pthread_mutex_unlock(&d->lock);
}

/* ---- reading the state ---- */

struct status_report {
    struct qemu_domain *d;
    const char *status;
    bool port_open;
};

/* Of a guest that left its device model waiting while nobody listened. */
static bool powered_off(struct qemu_domain *d)
{
    size_t len;
    char *log AUTO_FREE = rundir_tail(&d->dir, "qemu.log", LOG_TAIL, &len);
    return !d->record.tells_off || memmem(log, len, QEMU_OFF_TRACE, strlen(QEMU_OFF_TRACE)) != NULL;
}

static void apply_status(void *arg)
{
    const struct status_report *report = arg;
    struct qemu_domain *d = report->d;
    const char *status = report->status;
    if (d->dead)
        return;
    if (d->qga)
        qga_port(d->qga, report->port_open);
    if (!d->is_child) {
        rearm_on_loop(d);
        /* An agent that answered the one before us has gone since. */
        pthread_mutex_lock(&d->lock);
        if (!report->port_open && d->info.guest.updated == 0)
            d->info.guest.updated = clock_unix_seconds();
        pthread_mutex_unlock(&d->lock);
    }
    bool waits = d->record.anew == d->proc.pid;
    if (!waits && !d->is_child)
        domain_rebooted(d);
    if (waits)
        domain_reboot_found(d);
    else if (streq(status, "running"))
        set_state(d, DOMAIN_STATE_RUNNING);
    else if (streq(status, "shutdown"))
        domain_guest_ended(d, powered_off(d) ? END_REASON_GUEST_SHUTDOWN : END_REASON_GUEST_REBOOT);
    else if (streq(status, "guest-panicked") || streq(status, "internal-error"))
        domain_guest_ended(d, END_REASON_GUEST_CRASH);
    else if (!is_held(d))
        set_state(d, DOMAIN_STATE_PAUSED);
}

static bool port_is_open(const json_t *chardevs)
{
    size_t i;
    json_t *chardev;
    const char *label;
    bool open = false;
    json_array_foreach((json_t *)(uintptr_t)chardevs, i,
                       chardev) if (json_get_string(chardev, "label", &label) && streq(label, AGENT_PORT))
        json_get_bool(chardev, "frontend-open", &open);
    return open;
}

/* Only an adopted or resumed guest can have less than all. */
static void read_balloon(struct qemu_domain *d, const struct hv_deadline *deadline)
{
    json_t *balloon AUTO_JSON = NULL;
    int64_t actual;
    if (d->is_child || domain_command(d, "query-balloon", NULL, deadline, &balloon, NULL) < 0 ||
        !json_get_int(balloon, "actual", &actual))
        return;
    pthread_mutex_lock(&d->lock);
    d->info.memory_actual_bytes = actual;
    pthread_mutex_unlock(&d->lock);
}

int domain_status(struct qemu_domain *d, const struct hv_deadline *deadline,
                  char status[static DOMAIN_STATUS_SIZE], struct hv_err *err)
{
    json_t *answer AUTO_JSON = NULL;
    const char *word = "";
    if (domain_command(d, "query-status", NULL, deadline, &answer, err) < 0)
        return -1;
    json_get_string(answer, "status", &word);
    snprintf(status, DOMAIN_STATUS_SIZE, "%s", word);
    return 0;
}

int domain_sync(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    json_t *chardevs AUTO_JSON = NULL;
    char word[DOMAIN_STATUS_SIZE];
    if (domain_status(d, deadline, word, err) < 0)
        return -1;
    if (!*word)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not say its state.");
    if (!d->is_child && domain_command(d, "query-chardev", NULL, deadline, &chardevs, err) < 0)
        return -1;
    read_balloon(d, deadline);
    struct status_report report = {.d = d, .status = word, .port_open = port_is_open(chardevs)};
    loop_call(d->driver->loop, apply_status, &report);
    return 0;
}
