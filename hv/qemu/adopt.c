/* What an agent finds when it opens: domains that run on are adopted, those that ended meanwhile are
 * recorded with the reason, starts that never got a process are undone. */
#include "internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <io/kept.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>

#define ANSWER_MS 5000

static void fill_info(struct qemu_domain *d)
{
    const struct rundir_record *record = &d->record;
    str_assign(&d->info.name, record->config.name);
    d->info.state = DOMAIN_STATE_RUNNING;
    d->info.domid = record->domid;
    d->info.start_time = record->start_time;
    d->info.boot_time = record->boot_time;
    d->info.reboots = record->reboots;
    d->info.memory_bytes = d->info.memory_actual_bytes = record->config.memory_bytes;
    d->info.memory_target_bytes =
        record->memory_target_bytes > 0 ? record->memory_target_bytes : record->config.memory_bytes;
    d->info.vcpus = record->config.vcpus;
}

/* A pidfd of exactly the process that was written down; -1: it is gone. */
static int open_process(const struct rundir_pid *pid)
{
    int pidfd = pidfd_open(pid->pid, 0);
    if (pidfd >= 0 && process_start_ticks(pid->pid) == pid->start_ticks)
        return pidfd;
    if (pidfd >= 0)
        close(pidfd);
    return -1;
}

/* It ended while nobody looked. A guest that powers off leaves its device model waiting, so this is
 * either the host's restart or a death of the device model. */
static void record_end(struct hv_driver_state *state, struct qemu_domain *d)
{
    bool restarted = !streq(d->record.boot_id, state->boot_id);
    fill_info(d);
    d->info.state = DOMAIN_STATE_GONE;
    d->info.domid = -1;
    d->info.end_reason = d->record.offer ? END_REASON_MIGRATED /* as far as is known here */
                         : restarted     ? END_REASON_HOST_RESTARTED
                                         : END_REASON_DEVICE_MODEL_DIED;
    if (d->record.offer) {
        char *to AUTO_FREE = domain_offer_host(d->record.offer);
        str_assign(&d->info.moved_to, to);
    }
    d->info.end_time = clock_unix_seconds();
    char mark[KEPT_MARK_SIZE];
    kept_mark(state->state_dir, d->uuid, mark);
    str_assign(&d->info.kept_mark, mark);
    size_t len;
    char *words AUTO_FREE = rundir_tail(&d->dir, "qemu.log", 400, &len);
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)words[i] < 0x20 && words[i] != '\n') || (unsigned char)words[i] >= 0x7f)
            words[i] = '?';
    const char *text = restarted ? str_new("The host was restarted.")
                                 : str_newf("The device model ended while the agent was away.%s%s",
                                            len ? " It said: " : "", words);
    str_assign(&d->info.end_text, text);
    str_unref(text);
    if (ended_write(state->state_dir, &d->info) < 0)
        log_error("qemu", "the end of a domain could not be written down", "domain", d->uuid, "error",
                  strerror(errno));
    log_info("qemu", "a domain ended while the agent was away", "domain", d->uuid, "reason",
             end_reason_name(d->info.end_reason));
    tpm_end(d);
    serial_keep(d);
    rundir_remove(state->state_dir, d->uuid, &d->dir);
}

/* There is a record but no process number: the agent died around the start of the process. If one got as
 * far as holding the sockets it is told to end. */
static void undo_start(struct hv_driver_state *state, struct qemu_domain *d)
{
    static const char quit[] = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n";
    int fd AUTO_CLOSE = rundir_connect(&d->dir, "qmp");
    if (fd >= 0 && write(fd, quit, sizeof(quit) - 1) < 0)
        log_warn("qemu", "a device model without a number cannot be ended", "domain", d->uuid);
    log_info("qemu", "a start that was cut short is undone", "domain", d->uuid);
    tpm_end(d);
    rundir_remove(state->state_dir, d->uuid, &d->dir);
}

static void adopt_running(struct hv_driver_state *state, struct qemu_domain *d, pid_t pid, int pidfd)
{
    fill_info(d);
    d->proc = (struct proc){pid, pidfd};
    d->info.pid = pid;
    domain_table_add(state, d);
    domain_attach(d);
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + ANSWER_MS};
    struct hv_err err;
    if (domain_sync(d, &deadline, &err) < 0) {
        log_warn("qemu", "an adopted device model does not answer yet", "domain", d->uuid, "error", err.text);
        domain_sync_later(d);
    } else {
        log_info("qemu", "a running domain was adopted", "domain", d->uuid);
        domain_release_found(d);
        domain_reconcile_devices(d);
    }
}

/* It was being resumed: no guest code has run, and what it was filled from is untouched. */
static void undo_resume(struct hv_driver_state *state, struct qemu_domain *d, pid_t pid, int pidfd)
{
    struct proc proc = {pid, pidfd};
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    proc_signal(&proc, SIGKILL);
    if (poll(&p, 1, ANSWER_MS) != 1)
        log_warn("qemu", "a device model that was being filled does not end", "domain", d->uuid);
    close(pidfd);
    log_info("qemu", "a resume that was cut short is undone", "domain", d->uuid);
    tpm_end(d);
    rundir_remove(state->state_dir, d->uuid, &d->dir);
}

static void between_on_loop(void *arg)
{
    domain_reboot_found(arg);
}

/* Its guest rebooted, the old process is gone, and there is no other yet. */
static void adopt_between(struct hv_driver_state *state, struct qemu_domain *d)
{
    fill_info(d);
    domain_table_add(state, d);
    loop_call(state->loop, between_on_loop, d);
    log_info("qemu", "a guest is in the middle of a reboot", "domain", d->uuid);
}

static void adopt_one(struct hv_driver_state *state, const char *uuid)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_new(state, uuid);
    struct rundir_pid pid;
    if (rundir_open(state->state_dir, uuid, &d->dir) < 0)
        return;
    if (rundir_read_record(&d->dir, &d->record) < 0 || !streq(d->record.config.uuid, uuid)) {
        undo_start(state, d);
        return;
    }
    if (d->record.domid >= state->domid_next)
        state->domid_next = d->record.domid + 1;
    bool same_boot = streq(d->record.boot_id, state->boot_id), has_pid = rundir_read_pid(&d->dir, &pid) == 0;
    if (!has_pid && !d->record.anew) {
        undo_start(state, d);
        return;
    }
    int pidfd = has_pid && same_boot ? open_process(&pid) : -1;
    if (same_boot && d->record.anew && pidfd < 0 && (!has_pid || d->record.anew == pid.pid)) {
        adopt_between(state, d);
        return;
    }
    if (d->record.incoming && pidfd >= 0) {
        undo_resume(state, d, pid.pid, pidfd);
    } else if (d->record.incoming) {
        tpm_end(d);
        rundir_remove(state->state_dir, d->uuid, &d->dir);
    } else if (pidfd >= 0) {
        adopt_running(state, d, pid.pid, pidfd);
    } else {
        record_end(state, d);
    }
}

static void load_ended(struct hv_driver_state *state, const char *file_name)
{
    struct domain_info info;
    if (ended_read(state->state_dir, file_name, &info) < 0) {
        log_warn("qemu", "the record of an ended domain cannot be read", "file", file_name);
        return;
    }
    struct qemu_domain *d AUTO_DOMAIN = domain_new(state, info.uuid);
    domain_info_done(&d->info);
    d->info = info;
    d->dead = true;
    domain_table_add(state, d);
}

static int each_entry(const char *state_dir, const char *folder,
                      void (*each)(struct hv_driver_state *, const char *), struct hv_driver_state *state,
                      struct hv_err *err)
{
    char *path AUTO_FREE = xasprintf("%s/%s", state_dir, folder);
    DIR *list = opendir(path);
    if (!list)
        return hv_fail(err, HV_ERR_KIND_IO, "The agent's folder %s cannot be read: %s", folder,
                       strerror(errno));
    for (struct dirent *e; (e = readdir(list));)
        if (e->d_name[0] != '.')
            each(state, e->d_name);
    closedir(list);
    return 0;
}

int qemu_adopt_all(struct hv_driver_state *state, struct hv_err *err)
{
    /* Ends that adopt_one records are read by the second pass. */
    if (each_entry(state->state_dir, "run", adopt_one, state, err) < 0)
        return -1;
    return each_entry(state->state_dir, "ended", load_ended, state, err);
}
