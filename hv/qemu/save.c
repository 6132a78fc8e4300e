/* Memory and devices of a domain into a file and back: QEMU's migration to and from a descriptor, behind our
 * header. The guest stands still while it is saved, so the size is bounded and the disks are of the same
 * instant. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

#define POLL_MS 50
#define BANDWIDTH (INT64_C(1) << 33) /* a limit is QEMU's habit; a file needs none */

/* ---- standing still ---- */

static void set_held(struct rundir_record *record, void *arg)
{
    record->held = *(const bool *)arg;
}

static bool set_holding(struct qemu_domain *d, bool holding)
{
    pthread_mutex_lock(&d->lock);
    d->holding = holding;
    bool running = d->info.state == DOMAIN_STATE_RUNNING;
    pthread_mutex_unlock(&d->lock);
    return running;
}

int domain_hold(struct qemu_domain *d, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    bool held = set_holding(d, true);
    /* One that the pool paused stays so. */
    if (domain_change(d, set_held, &held, err) == 0 &&
        (!held || domain_command(d, "stop", NULL, &soon, NULL, err) == 0))
        return 0;
    domain_release(d);
    return -1;
}

int domain_guard(struct qemu_domain *d, struct hv_err *err)
{
    bool held = set_holding(d, true);
    if (domain_change(d, set_held, &held, err) == 0)
        return 0;
    set_holding(d, false);
    return -1;
}

static void regain(struct qemu_domain *d)
{
    struct hv_err err;
    if (domain_regain_disks(d, &err) < 0)
        log_error("qemu", "a paused domain has its disks only when it runs again", "domain", d->uuid, "error",
                  err.text);
}

void domain_release(struct qemu_domain *d)
{
    struct hv_deadline soon = domain_soon();
    struct hv_err err;
    bool held = false;
    pthread_mutex_lock(&d->lock);
    bool was = d->record.held, dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (!was && !dead)
        regain(d);
    if (was && !dead && domain_command(d, "cont", NULL, &soon, NULL, &err) < 0) {
        log_error("qemu", "a domain that was stopped for a moment does not run on", "domain", d->uuid,
                  "error", err.text);
        domain_change(d, set_held, &held, NULL);
        set_holding(d, false);
        domain_sync_later(d); /* the pool is to know */
        return;
    }
    if (!dead)
        domain_change(d, set_held, &held, NULL);
    set_holding(d, false);
}

/* ---- QEMU's migration ---- */

/* Its status; progress is told. The caller frees nothing: `status` has room for all of QEMU's words. */
int domain_migration_status(struct qemu_domain *d, char status[static MIGRATION_STATUS_SIZE], double *done,
                            char *why, size_t why_size, struct hv_err *err)
{
    json_t *answer AUTO_JSON = NULL;
    struct hv_deadline soon = domain_soon();
    const char *word = "none", *desc = "";
    int64_t total = 0, remaining = 0;
    if (domain_command(d, "query-migrate", NULL, &soon, &answer, err) < 0)
        return -1;
    json_get_string(answer, "status", &word);
    json_get_string(answer, "error-desc", &desc);
    const json_t *ram = json_object_get(answer, "ram");
    json_get_int(ram, "total", &total);
    json_get_int(ram, "remaining", &remaining);
    snprintf(status, MIGRATION_STATUS_SIZE, "%s", word);
    snprintf(why, why_size, "%s", desc);
    *done = total > 0 ? 1 - (double)remaining / (double)total : 0;
    return 0;
}

static bool is_over(const char *status)
{
    return streq(status, "completed") || streq(status, "failed") || streq(status, "cancelled") ||
           streq(status, "none");
}

static void pause_a_moment(struct qemu_domain *d)
{
    struct hv_deadline moment = {.mono_ms = clock_mono_ms() + POLL_MS};
    pthread_mutex_lock(&d->lock);
    while (!d->dead && domain_wait(d, &moment, NULL) == 0)
        ;
    pthread_mutex_unlock(&d->lock);
}

void domain_cancel_migration(struct qemu_domain *d)
{
    struct hv_deadline soon = domain_soon();
    char status[MIGRATION_STATUS_SIZE], why[8];
    double done;
    domain_command(d, "migrate_cancel", NULL, &soon, NULL, NULL);
    while (clock_mono_ms() < soon.mono_ms &&
           domain_migration_status(d, status, &done, why, sizeof(why), NULL) == 0 && !is_over(status))
        pause_a_moment(d);
}

int domain_give_up(const struct hv_deadline *deadline, struct hv_err *err)
{
    if (deadline->cancelled && atomic_load(deadline->cancelled))
        return hv_fail(err, HV_ERR_KIND_CANCELLED, "It was cancelled.");
    if (clock_mono_ms() >= deadline->mono_ms)
        return hv_fail(err, HV_ERR_KIND_DEADLINE, "It was not done in time.");
    return 0;
}

static int explain(const struct hv_save *to, const char *why, struct hv_err *err)
{
    struct statvfs fs;
    if (fstatvfs(to->fd, &fs) == 0 && (int64_t)fs.f_bavail * (int64_t)fs.f_frsize < (INT64_C(1) << 20))
        return hv_fail(err, HV_ERR_KIND_NO_SPACE, "No space is left for the domain's state.");
    return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain's state could not be written: %s",
                   *why ? why : "no reason was given");
}

static int wait_saved(struct qemu_domain *d, const struct hv_save *to, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    char status[MIGRATION_STATUS_SIZE], why[160];
    double done;
    for (;;) {
        if (domain_migration_status(d, status, &done, why, sizeof(why), err) < 0)
            return -1;
        if (streq(status, "completed"))
            return 0;
        if (is_over(status))
            return explain(to, why, err);
        if (to->progress)
            to->progress(to->ctx, done * 0.98);
        if (domain_give_up(deadline, err) < 0) {
            domain_cancel_migration(d);
            return -1;
        }
        pause_a_moment(d);
    }
}

int domain_pass_fd(struct qemu_domain *d, int fd, const char *name, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    json_t *arguments AUTO_JSON = json_pack("{s:s}", "fdname", name);
    return domain_execute(d, "getfd", arguments, fd, &soon, NULL, err);
}

/* Hands the descriptor over under the name that `uri` then says. */
static int pass_state(struct qemu_domain *d, int fd, const char *command, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    int outcome = domain_pass_fd(d, fd, "state", err);
    if (outcome == 0 &&
        domain_command(d, command, json_pack("{s:s}", "uri", "fd:state"), &soon, NULL, err) < 0) {
        domain_command(d, "closefd", json_pack("{s:s}", "fdname", "state"), &soon, NULL, NULL);
        outcome = -1;
    }
    return outcome;
}

/* ---- what is written about it ---- */

static void platform_words(const struct hv_driver_state *state, char *out, size_t size)
{
    char model[80] = "";
    char *info AUTO_FREE =
        state->accelerator == ACCELERATOR_KVM ? file_read("/proc/cpuinfo", 1 << 20, NULL) : NULL;
    const char *line = info ? strstr(info, "\nmodel name") : NULL;
    if (line && (line = strchr(line, ':')))
        snprintf(model, sizeof(model), "%.*s", (int)strcspn(line + 1, "\n"), line + 1);
    snprintf(out, size, "%s %s %s%s, layout 1", QEMU_MACHINE, accelerator_name(state->accelerator),
             qemu_cpu_words(state->accelerator), model);
}

/* "7.2" of {"qemu": {"major": 7, "minor": 2, ...}}: what a processor of "all that there is" depends on. */
static int read_version(struct qemu_domain *d, char *out, size_t size, struct hv_err *err)
{
    json_t *version AUTO_JSON = NULL;
    struct hv_deadline soon = domain_soon();
    int64_t major, minor;
    if (domain_command(d, "query-version", NULL, &soon, &version, err) < 0)
        return -1;
    if (!json_get_int(json_object_get(version, "qemu"), "major", &major) ||
        !json_get_int(json_object_get(version, "qemu"), "minor", &minor))
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not say its version.");
    snprintf(out, size, "%lld.%lld", (long long)major, (long long)minor);
    return 0;
}

int domain_describe(struct qemu_domain *d, int64_t state_bytes, struct save_header *header,
                    struct hv_err *err)
{
    *header = (struct save_header){.driver = "qemu", .state_bytes = state_bytes};
    domain_config_init(&header->config);
    if (read_version(d, header->driver_version, sizeof(header->driver_version), err) < 0)
        return -1;
    platform_words(d->driver, header->platform, sizeof(header->platform));
    domain_config_done(&header->config);
    pthread_mutex_lock(&d->lock);
    domain_config_copy(&header->config, &d->record.config);
    header->layout = json_pack("{s:O, s:I}", "slots", d->record.layout, "memory_target",
                               (json_int_t)d->record.memory_target_bytes);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

int domain_save(struct qemu_domain *d, const struct hv_save *to, const struct hv_deadline *deadline,
                int64_t *state_bytes, struct hv_err *err)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct hv_deadline soon = domain_soon();
    pthread_mutex_lock(&d->lock);
    bool whole = qemu_layout_ok(d->record.layout, &d->record.config);
    pthread_mutex_unlock(&d->lock);
    if (!whole)
        return hv_fail(
            err, HV_ERR_KIND_UNSUPPORTED,
            "The domain cannot be saved: its guest still holds a device that was taken away, or it was "
            "started by an older version.");
    /* The capabilities may be left from an earlier attempt to send it elsewhere. */
    if (domain_check_sendable(d, err) < 0 ||
        domain_command(d, "migrate-set-capabilities",
                       json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability",
                                 "pause-before-switchover", "state", 0, "capability", "auto-converge",
                                 "state", 0),
                       &soon, NULL, err) < 0 ||
        domain_command(d, "migrate-set-parameters",
                       json_pack("{s:I}", "max-bandwidth", (json_int_t)BANDWIDTH), &soon, NULL, err) < 0 ||
        save_header_clear(to->fd, err) < 0)
        return -1;
    if (lseek(to->fd, SAVE_DATA_OFFSET, SEEK_SET) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The disk for the domain's state cannot be used: %s",
                       strerror(errno));
    if (pass_state(d, to->fd, "migrate", err) < 0)
        return -1;
    failpoint("save:begun");
    if (wait_saved(d, to, deadline, err) < 0)
        return -1;
    failpoint("save:written");
    int64_t end = lseek(to->fd, 0, SEEK_CUR);
    if (end <= SAVE_DATA_OFFSET || end > to->size_bytes)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The domain's state has an impossible size: %lld bytes.",
                       (long long)end);
    if (domain_describe(d, end, &header, err) < 0 || save_header_write(to->fd, &header, err) < 0)
        return -1;
    *state_bytes = end;
    return 0;
}

void domain_release_found(struct qemu_domain *d)
{
    pthread_mutex_lock(&d->lock);
    bool held = d->record.held, offered = d->record.offer != NULL;
    pthread_mutex_unlock(&d->lock);
    if (offered)
        return; /* another host may run it: it is for the agent to find out */
    mirrors_found(d);
    if (!held) {
        regain(d);
        return;
    }
    log_info("qemu", "a domain that was stopped for a moment runs on", "domain", d->uuid);
    domain_cancel_migration(d);
    domain_release(d);
}

int qemu_suspend(struct hv_driver_state *state, const char *uuid, const struct hv_save *to,
                 const struct hv_deadline *deadline, int64_t *state_bytes, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    if (!d || domain_hold(d, err) < 0)
        return -1;
    failpoint("suspend:held");
    if (domain_save(d, to, deadline, state_bytes, err) < 0) {
        domain_release(d);
        return -1;
    }
    failpoint("suspend:saved");
    struct hv_deadline soon = domain_soon();
    return qemu_destroy(state, uuid, &soon, err);
}

/* ---- loading ---- */

int qemu_load_check(const struct hv_driver_state *state, const struct save_header *header,
                    const struct domain_config *config, struct hv_err *err)
{
    char here[160];
    platform_words(state, here, sizeof(here));
    if (!streq(header->platform, here))
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The domain was suspended on another machine: %s, not %s.",
                       header->platform, here);
    if (!qemu_layout_ok(json_object_get(header->layout, "slots"), config))
        return hv_fail(err, HV_ERR_KIND_FORMAT,
                       "The suspended domain's header does not say where its devices are.");
    return 0;
}

int domain_check_version(struct qemu_domain *d, const struct save_header *header, struct hv_err *err)
{
    char version[32];
    if (read_version(d, version, sizeof(version), err) < 0)
        return -1;
    return streq(version, header->driver_version)
               ? 0
               : hv_fail(err, HV_ERR_KIND_FORMAT, "The domain was suspended by QEMU %s; this host has %s.",
                         header->driver_version, version);
}

/* A device model that cannot read a state ends, and says why in its log. */
int domain_explain_death(struct qemu_domain *d, struct hv_err *err)
{
    domain_await_end(d);
    pthread_mutex_lock(&d->lock);
    if (d->dead)
        hv_fail(err, d->killed ? HV_ERR_KIND_DEVICE_MODEL : HV_ERR_KIND_FORMAT,
                "The device model cannot use the suspended domain. %s",
                d->info.end_text ? d->info.end_text : "");
    pthread_mutex_unlock(&d->lock);
    return -1;
}

static int wait_loaded(struct qemu_domain *d, const struct save_header *header, const struct hv_save *from,
                       const struct hv_deadline *deadline, struct hv_err *err)
{
    char status[MIGRATION_STATUS_SIZE], why[160];
    double done;
    for (;;) {
        if (domain_migration_status(d, status, &done, why, sizeof(why), err) < 0)
            return domain_explain_death(d, err);
        if (streq(status, "completed"))
            return 0;
        if (streq(status, "failed"))
            return hv_fail(err, HV_ERR_KIND_FORMAT, "The device model cannot use the suspended domain: %s",
                           why);
        if (domain_give_up(deadline, err) < 0)
            return -1;
        if (from->progress)
            from->progress(from->ctx,
                           (double)lseek(from->fd, 0, SEEK_CUR) / (double)header->state_bytes * 0.98);
        pause_a_moment(d);
    }
}

/* The migration is said to be over a moment before the machine is. */
int domain_wait_machine(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    for (;;) {
        struct hv_deadline soon = domain_soon();
        char status[DOMAIN_STATUS_SIZE];
        if (domain_status(d, &soon, status, err) < 0)
            return domain_explain_death(d, err);
        if (!streq(status, "inmigrate"))
            return 0;
        if (domain_give_up(deadline, err) < 0)
            return -1;
        domain_wait_jobs(d, domain_job_news(d), 1);
    }
}

static void loaded(struct rundir_record *record, void *arg)
{
    record->incoming = false;
    record->held = *(const bool *)arg;
}

void domain_read_memory(struct qemu_domain *d, const struct save_header *header)
{
    json_t *balloon AUTO_JSON = NULL;
    struct hv_deadline soon = domain_soon();
    int64_t target = 0, actual = 0;
    json_get_int(header->layout, "memory_target", &target);
    if (domain_command(d, "query-balloon", NULL, &soon, &balloon, NULL) == 0)
        json_get_int(balloon, "actual", &actual);
    pthread_mutex_lock(&d->lock);
    if (target > 0 && target <= d->info.memory_bytes)
        d->record.memory_target_bytes = d->info.memory_target_bytes = target;
    if (actual > 0)
        d->info.memory_actual_bytes = actual;
    pthread_mutex_unlock(&d->lock);
}

int domain_load(struct qemu_domain *d, const struct save_header *header, const struct hv_save *from,
                const struct hv_deadline *deadline, struct hv_err *err)
{
    bool run = !d->record.config.start_paused;
    if (domain_check_version(d, header, err) < 0)
        return -1;
    if (lseek(from->fd, SAVE_DATA_OFFSET, SEEK_SET) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's state cannot be read: %s", strerror(errno));
    if (pass_state(d, from->fd, "migrate-incoming", err) < 0 ||
        wait_loaded(d, header, from, deadline, err) < 0 || domain_wait_machine(d, deadline, err) < 0)
        return -1;
    domain_read_memory(d, header);
    /* From here on an agent that dies leaves a guest that has run. */
    if (domain_change(d, loaded, &run, err) < 0)
        return -1;
    if (!run)
        return 0;
    struct hv_deadline soon = domain_soon();
    if (domain_command(d, "cont", NULL, &soon, NULL, err) < 0 ||
        domain_wait_state(d, DOMAIN_STATE_RUNNING, &soon, err) < 0)
        return -1;
    run = false;
    return domain_change(d, loaded, &run, err);
}
