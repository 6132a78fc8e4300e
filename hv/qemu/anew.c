/* Guests that bring their own kernel: what a reset of the device model would boot is the kernel that it was
 * started with. So their reboots leave the device model waiting, and another one takes its place, with the
 * kernel that the disk names by then; number, user and folder of the domain stay.
 *
 * The record names the process whose guest has rebooted from then until the other one runs, so that a later
 * agent goes on from wherever this one was: the process it names still there, none there, or another. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <signal.h>
#include <stdio.h>

#define AGAIN_MS 500
#define QUIT_MS 3000
#define KILL_MS 30000

bool domain_boots_anew(const struct qemu_domain *d)
{
    return d->record.config.firmware == FIRMWARE_GUEST_KERNEL;
}

static void tell(void *arg)
{
    struct qemu_domain *d = arg;
    const struct hv_driver_env *env = &d->driver->env;
    if (d->dead || !d->record.anew || !env->rebooted)
        return;
    if (env->rebooted(env->ctx, d->uuid) < 0)
        loop_timer_set(d->driver->loop, &d->anew_timer, clock_mono_ms() + AGAIN_MS);
}

void domain_reboot_found(struct qemu_domain *d)
{
    d->anew_timer = (struct loop_timer){.fire = tell, .arg = d};
    loop_timer_set(d->driver->loop, &d->anew_timer, clock_mono_ms());
}

void domain_reboot(struct qemu_domain *d)
{
    struct hv_err err;
    if (d->dead || d->record.anew)
        return;
    pthread_mutex_lock(&d->lock);
    d->record.anew = d->proc.pid;
    int written = rundir_write_record(&d->dir, &d->record, &err);
    d->resets++;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    if (written < 0)
        log_warn("qemu", "a reboot could not be written down", "domain", d->uuid, "error", err.text);
    failpoint("anew:noted");
    domain_reboot_found(d);
}

bool domain_goes_on(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    bool goes_on = d->record.anew && d->record.anew == d->proc.pid && !d->leaving;
    if (goes_on) {
        close(d->proc.pidfd);
        d->proc = (struct proc){-1, -1};
        d->info.pid = 0;
        d->info.guest.live = false;
        pthread_cond_broadcast(&d->changed);
    }
    pthread_mutex_unlock(&d->lock);
    if (goes_on)
        tpm_end(d);
    return goes_on;
}

/* With d->lock held: until the old process is gone. */
static void wait_gone(struct qemu_domain *d, int64_t within_ms)
{
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + within_ms};
    while (!d->dead && d->proc.pidfd >= 0 && domain_wait(d, &deadline, NULL) == 0)
        ;
}

/* `quit` writes what the device model still holds; one that does not listen is killed. */
static int end_old(struct qemu_domain *d, struct hv_err *err)
{
    struct hv_deadline gentle = {.mono_ms = clock_mono_ms() + QUIT_MS};
    pthread_mutex_lock(&d->lock);
    bool there = d->proc.pidfd >= 0;
    pthread_mutex_unlock(&d->lock);
    if (there)
        domain_command(d, "quit", NULL, &gentle, NULL, NULL);
    pthread_mutex_lock(&d->lock);
    wait_gone(d, QUIT_MS);
    if (!d->dead && d->proc.pidfd >= 0)
        proc_signal(&d->proc, SIGKILL);
    wait_gone(d, KILL_MS);
    bool gone = d->proc.pidfd < 0;
    pthread_mutex_unlock(&d->lock);
    return gone ? 0
                : hv_fail(err, HV_ERR_KIND_DEVICE_MODEL,
                          "The device model does not end, even killed: the host's kernel holds it.");
}

/* As a domain that was just made, but for what changed while it ran. */
static void reset_on_loop(void *arg)
{
    struct qemu_domain *d = arg;
    struct rundir_record *record = &d->record;
    rundir_clear(&d->dir);
    d->is_child = d->is_anew = true;
    d->pending = END_REASON_NONE;
    d->last_reset_ms = 0;
    d->dumping = false;
    free(TAKE_PTR(d->end_note));
    pthread_mutex_lock(&d->lock);
    record->config.start_paused = false;
    if (record->memory_target_bytes > 0)
        record->config.memory_target_bytes = record->memory_target_bytes;
    record->held = record->frozen = false;
    record->tells_off = true;
    json_decref(record->layout);
    record->layout = qemu_layout_new(&record->config);
    d->fs_frozen = d->fs_thawing = d->holding = false;
    d->stats_again_ms = 0;
    d->info.virtio = false;
    d->info.memory_actual_bytes = d->info.memory_bytes;
    pthread_mutex_unlock(&d->lock);
}

void domain_rebooted(struct qemu_domain *d)
{
    struct hv_err err;
    if (!d->record.anew)
        return;
    pthread_mutex_lock(&d->lock);
    d->record.anew = 0;
    d->record.reboots = ++d->info.reboots;
    d->record.boot_time = d->info.boot_time = clock_unix_seconds();
    int written = d->dead ? 0 : rundir_write_record(&d->dir, &d->record, &err);
    pthread_mutex_unlock(&d->lock);
    if (written < 0)
        log_warn("qemu", "a reboot could not be written down", "domain", d->uuid, "error", err.text);
}

static void rebooted_on_loop(void *arg)
{
    domain_rebooted(arg);
}

struct failure {
    struct qemu_domain *d;
    const char *text;
};

static void fail_on_loop(void *arg)
{
    const struct failure *failure = arg;
    struct qemu_domain *d = failure->d;
    if (d->dead)
        return;
    if (d->proc.pidfd < 0) {
        char *text AUTO_FREE =
            xasprintf("The guest rebooted. It could not be started again: %s", failure->text);
        domain_let_go(d);
        domain_end(d, END_REASON_GUEST_REBOOT, text);
        return;
    }
    free(d->end_note);
    d->end_note = xasprintf("It could not be started again: %s", failure->text);
    d->pending = END_REASON_GUEST_REBOOT;
}

/* Without its disks limited it does not run. */
static int limit_disks(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    pthread_mutex_lock(&d->lock);
    domain_config_copy(&config, &d->record.config);
    pthread_mutex_unlock(&d->lock);
    for (size_t i = 0; i < config.disks_count; i++) {
        const struct domain_disk *disk = &config.disks[i];
        if ((disk->max_iops || disk->max_kbytes) &&
            qemu_disk_limit(d->driver, d->uuid, disk->device, disk->max_iops, disk->max_kbytes, deadline,
                            err) < 0)
            return -1;
    }
    return 0;
}

static int start_other(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    const struct hv_driver_env *env = &d->driver->env;
    const struct domain_config *config = &d->record.config; /* nothing changes it meanwhile */
    struct disk_chain *chains AUTO_FREE = xcalloc(config->disks_count + 1, sizeof(*chains));
    size_t count = config->disks_count;
    if (!env->open_disks)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "Nobody can open its disks.");
    if (env->open_disks(env->ctx, config, chains, err) < 0)
        return -1;
    loop_call(d->driver->loop, reset_on_loop, d);
    failpoint("anew:cleared");
    int outcome = domain_start_process(d, chains, deadline, err);
    for (size_t i = 0; i < count; i++)
        disk_chain_done(&chains[i]);
    return outcome < 0 ? -1 : limit_disks(d, deadline, err);
}

int domain_replace(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    pthread_mutex_lock(&d->lock);
    bool due = !d->dead && d->record.anew;
    pthread_mutex_unlock(&d->lock);
    if (!due)
        return 0;
    if (end_old(d, err) < 0)
        return -1;
    failpoint("anew:ended");
    if (start_other(d, deadline, err) < 0) {
        struct failure failure = {.d = d, .text = err->text};
        loop_call(d->driver->loop, fail_on_loop, &failure);
        domain_kill(d);
        return -1;
    }
    loop_call(d->driver->loop, rebooted_on_loop, d);
    log_info("qemu", "a guest that brings its own kernel was booted anew", "domain", d->uuid);
    domain_publish(d, false);
    return 0;
}

int qemu_anew(struct hv_driver_state *state, const char *uuid, const struct hv_deadline *deadline,
              struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, NULL);
    return d ? domain_replace(d, deadline, err) : 0;
}
