/* High availability on this host: the watchdog (../ha/watchdog.h) is a process beside this one; here it is
 * started, kept running and asked. A thread gives it this agent's signs of life. When the watchdog has ended
 * the guests, no domain starts until the pool's server arms the host anew. */
#include "agent.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/proc.h>
#include <errno.h>
#include <ha/watchdog.h>
#include <poll.h>
#include <stdio.h>

#define PULSE_MAX_MS 1000
#define ASK_MS 2000
#define START_MS 20000 /* for the first write of a slot */
#define FRESH_MS 5000  /* a beat waits so long for the slots to be read */

struct ha {
    struct agent *agent;
    pthread_t thread;
    pthread_mutex_t arming; /* one arms or disarms at a time; taken before lock */
    pthread_mutex_t lock;   /* guards what follows */
    pthread_cond_t changed;
    bool armed;
    struct watchdog_config config; /* while armed */
    struct proc child;             /* pid 0: it is not ours */
    int64_t lease_until_ms;        /* as last heard of; 0: nothing was heard */
    _Atomic bool fenced;
};

/* ---- the process ---- */

/* With the lock held. */
static int start_watchdog(struct ha *ha, bool anew)
{
    char lease[24];
    snprintf(lease, sizeof(lease), "%lld", (long long)ha->lease_until_ms);
    const char *argv[] = {"/proc/self/exe",
                          "--watchdog",
                          ha->agent->options.state_dir,
                          ha->agent->driver == &hv_sim_driver ? "sim" : "qemu",
                          anew ? "anew" : lease,
                          NULL};
    const struct proc_spec spec = {.argv = argv, .stderr_fd = 2, .new_session = true};
    if (ha->child.pid)
        proc_forget(&ha->child);
    ha->child = (struct proc){0};
    return proc_start(&spec, &ha->child);
}

/* A child that ended is to be waited for. */
static void reap(struct ha *ha)
{
    int status;
    pthread_mutex_lock(&ha->lock);
    if (ha->child.pid && proc_wait(&ha->child, 0, &status) == 1)
        ha->child = (struct proc){0};
    pthread_mutex_unlock(&ha->lock);
}

static int ask(struct ha *ha, enum watchdog_request request, int64_t value, struct watchdog_status *status)
{
    if (watchdog_ask(ha->agent->options.state_dir, request, value, ASK_MS, status) < 0)
        return -1;
    pthread_mutex_lock(&ha->lock);
    ha->lease_until_ms = status->lease_until_ms;
    pthread_mutex_unlock(&ha->lock);
    return 0;
}

/* ---- fenced ---- */

/* All domains end: with QEMU the watchdog has ended their device models already. True: none is left. */
static bool end_domains(struct agent *agent)
{
    struct domain_info *infos;
    size_t count;
    struct hv_err err;
    bool none = true;
    if (agent->driver->list(agent->state, &infos, &count, &err) < 0)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + ASK_MS};
        if (infos[i].state != DOMAIN_STATE_GONE) {
            log_warn("ha", "a domain is ended", "domain", infos[i].uuid);
            if (agent->driver->destroy(agent->state, infos[i].uuid, &deadline, &err) < 0 &&
                err.kind != HV_ERR_KIND_NOT_FOUND)
                none = false;
        }
        domain_info_done(&infos[i]);
    }
    free(infos);
    return none;
}

static void on_fenced(struct ha *ha)
{
    struct watchdog_status status;
    if (!atomic_exchange(&ha->fenced, true)) {
        log_error("ha", "the host is fenced: its guests are ended");
        events_publish(ha->agent, EVENT_KIND_HOST_CHANGED, ha->agent->host_uuid);
    }
    if (end_domains(ha->agent) && ha->agent->driver == &hv_sim_driver)
        ask(ha, WATCHDOG_GONE, 0, &status);
}

int ha_check_start(struct agent *agent, struct hv_err *err)
{
    if (agent->ha && atomic_load(&agent->ha->fenced))
        return hv_fail(err, HV_ERR_KIND_BAD_STATE,
                       "The host has lost its pool and ended its guests; none starts until it is back.");
    return 0;
}

/* ---- signs of life ---- */

static void pulse(struct ha *ha)
{
    struct watchdog_status status;
    reap(ha);
    if (ask(ha, WATCHDOG_STATUS, 0, &status) == 0) {
        if (status.fenced)
            on_fenced(ha);
        return;
    }
    pthread_mutex_lock(&ha->lock);
    if (ha->armed && !ha->child.pid) {
        log_warn("ha", "the watchdog is started again");
        if (start_watchdog(ha, false) < 0)
            log_error("ha", "the watchdog cannot be started", "cause", strerror(errno));
    }
    pthread_mutex_unlock(&ha->lock);
}

static void *run(void *arg)
{
    struct ha *ha = arg;
    for (;;) {
        pthread_mutex_lock(&ha->lock);
        bool armed = ha->armed;
        int64_t ms = armed ? ha->config.interval_ms : PULSE_MAX_MS, until;
        ms = ms > PULSE_MAX_MS ? PULSE_MAX_MS : ms;
        until = clock_mono_ms() + ms;
        struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        pthread_cond_timedwait(&ha->changed, &ha->lock, &when);
        armed = ha->armed;
        pthread_mutex_unlock(&ha->lock);
        if (armed)
            pulse(ha);
        else
            reap(ha);
    }
    return NULL;
}

int ha_open(struct agent *agent, struct hv_err *err)
{
    struct ha *ha = xcalloc(1, sizeof(*ha));
    pthread_condattr_t attr;
    ha->agent = agent;
    pthread_mutex_init(&ha->arming, NULL);
    pthread_mutex_init(&ha->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&ha->changed, &attr);
    pthread_condattr_destroy(&attr);
    ha->armed = watchdog_config_read(agent->options.state_dir, &ha->config);
    agent->ha = ha;
    if (ha->armed && watchdog_was_fenced(agent->options.state_dir))
        on_fenced(ha);
    if (pthread_create(&ha->thread, NULL, run, ha) != 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "A thread cannot be started: %s", strerror(errno));
    return 0;
}

/* ---- arm and disarm ---- */

/* Ends the watchdog; if it does not answer, it has no guests to watch over in a moment. */
static void end_watchdog(struct ha *ha)
{
    struct watchdog_status status;
    pthread_mutex_lock(&ha->lock);
    ha->armed = false;
    watchdog_config_remove(ha->agent->options.state_dir);
    pthread_mutex_unlock(&ha->lock);
    int64_t until = clock_mono_ms() + ASK_MS;
    watchdog_ask(ha->agent->options.state_dir, WATCHDOG_DISARM, 0, ASK_MS, &status);
    while (watchdog_ask(ha->agent->options.state_dir, WATCHDOG_STATUS, 0, ASK_MS, &status) == 0 &&
           clock_mono_ms() < until)
        poll(NULL, 0, 20);
    pthread_mutex_lock(&ha->lock);
    watchdog_config_done(&ha->config);
    ha->lease_until_ms = 0;
    pthread_mutex_unlock(&ha->lock);
    watchdog_forget_fence(ha->agent->options.state_dir);
    atomic_store(&ha->fenced, false);
}

/* The caller frees. */
static char *disk_path(struct agent *agent, const char *uuid, const char *disk, struct hv_err *err)
{
    struct storage_error error;
    enum disk_format format;
    char link[64], path[4096];
    int fd AUTO_CLOSE = -1;
    struct sr *sr = srs_get(agent, uuid, err);
    if (!sr)
        return NULL;
    int rc = storage_disk_open(sr->storage, disk, true, &fd, &format, &error);
    srs_put(agent, sr);
    if (rc < 0) {
        storage_to_hv(err, &error);
        return NULL;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    if (n < 0 || path[0] != '/') {
        hv_fail(err, HV_ERR_KIND_IO, "The heartbeat disk has no path.");
        return NULL;
    }
    return xstrndup(path, (size_t)n);
}

static int read_config(struct agent *agent, const struct hv_ha_arm_args *args, struct watchdog_config *config,
                       struct hv_err *err)
{
    bool found = false;
    *config = (struct watchdog_config){.interval_ms = args->interval_ms,
                                       .lease_ms = args->lease_ms,
                                       .agent_ms = args->agent_ms,
                                       .hosts = xcalloc(args->hosts_count + 1, UUID_TEXT_SIZE)};
    snprintf(config->generation, sizeof(config->generation), "%s", args->generation);
    for (size_t i = 0; i < args->hosts_count; i++) {
        snprintf(config->hosts[config->host_count++], UUID_TEXT_SIZE, "%s", args->hosts[i]);
        if (streq(args->hosts[i], agent->host_uuid)) {
            config->own = i;
            found = true;
        }
    }
    if (!found)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "This host is not among the hosts.");
    config->path = disk_path(agent, args->sr, args->disk, err);
    return config->path ? 0 : -1;
}

static bool same_config(const struct watchdog_config *a, const struct watchdog_config *b)
{
    return streq(a->generation, b->generation) && a->own == b->own && a->host_count == b->host_count &&
           streq(a->path, b->path);
}

/* Until the slot was written, so that the others see this host. */
static int await_first_write(struct ha *ha, struct hv_err *err)
{
    struct watchdog_status status = {0};
    for (int64_t until = clock_mono_ms() + START_MS; clock_mono_ms() < until; poll(NULL, 0, 20)) {
        if (ask(ha, WATCHDOG_STATUS, 0, &status) == 0 && (status.written_ms || *status.error))
            break;
        reap(ha);
    }
    if (status.written_ms)
        return 0;
    return hv_fail(err, HV_ERR_KIND_IO, "%s",
                   *status.error ? status.error : "The heartbeat disk does not answer in time.");
}

static int arm(struct ha *ha, struct watchdog_config *config, struct hv_err *err)
{
    bool same = ha->armed && same_config(&ha->config, config);
    if (same && !atomic_load(&ha->fenced))
        return 0;
    if (atomic_load(&ha->fenced) && !end_domains(ha->agent))
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "Guests of before are not gone yet.");
    end_watchdog(ha);
    if (watchdog_config_write(ha->agent->options.state_dir, config) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The settings of the watchdog cannot be written: %s",
                       strerror(errno));
    pthread_mutex_lock(&ha->lock);
    ha->config = *config;
    *config = (struct watchdog_config){0};
    ha->armed = true;
    int rc = start_watchdog(ha, true);
    pthread_mutex_unlock(&ha->lock);
    if (rc < 0)
        hv_fail(err, HV_ERR_KIND_INTERNAL, "The watchdog cannot be started: %s", strerror(errno));
    else if (await_first_write(ha, err) == 0)
        return 0;
    end_watchdog(ha);
    return -1;
}

int agent_ha_arm(struct agent *agent, struct agent_op *op, const struct hv_ha_arm_args *args,
                 struct hv_ha_arm_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    AUTO_WATCHDOG_CONFIG struct watchdog_config config = {0};
    if (read_config(agent, args, &config, err) < 0)
        return -1;
    pthread_mutex_lock(&agent->ha->arming);
    int rc = arm(agent->ha, &config, err);
    pthread_mutex_unlock(&agent->ha->arming);
    if (rc == 0)
        log_info("ha", "the host is armed", "generation", args->generation);
    return rc;
}

/* With `arming` held: for the calls that touch the disk themselves. Path and generation are the caller's. */
static char *armed_disk(struct ha *ha, char generation[static UUID_TEXT_SIZE])
{
    pthread_mutex_lock(&ha->lock);
    char *path = ha->armed ? xstrdup(ha->config.path) : NULL;
    snprintf(generation, UUID_TEXT_SIZE, "%s", ha->armed ? ha->config.generation : "");
    pthread_mutex_unlock(&ha->lock);
    return path;
}

int agent_ha_disarm(struct agent *agent, struct agent_op *op, const struct hv_ha_disarm_args *args,
                    struct hv_ha_disarm_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    struct ha *ha = agent->ha;
    struct statefile_entry off = {.state = STATEFILE_OFF};
    struct statefile_error error;
    int rc = 0;
    pthread_mutex_lock(&ha->arming);
    AUTO_FREE char *path = armed_disk(ha, off.generation);
    bool fenced = atomic_load(&ha->fenced);
    if (path && args->everywhere && statefile_write(path, &off, &error) < 0)
        rc = hv_fail(err, HV_ERR_KIND_IO, "%s", error.text);
    if (fenced)
        end_domains(agent);
    if (path)
        end_watchdog(ha);
    pthread_mutex_unlock(&ha->arming);
    if (path)
        log_info("ha", "the host is disarmed");
    return rc;
}

/* ---- beats ---- */

/* The first status whose slots were read after the call began, if that comes soon. */
static int fresh_status(struct ha *ha, int64_t interval_ms, struct watchdog_status *status)
{
    int64_t begun = watchdog_now_ms(), until = clock_mono_ms() + 2 * interval_ms;
    if (until > clock_mono_ms() + FRESH_MS)
        until = clock_mono_ms() + FRESH_MS;
    int rc;
    while ((rc = ask(ha, WATCHDOG_STATUS, 0, status)) == 0 && status->read_ms < begun && !*status->error &&
           clock_mono_ms() < until)
        poll(NULL, 0, 10);
    return rc;
}

static enum ha_slot_state slot_state(enum statefile_state state)
{
    switch (state) {
    case STATEFILE_ALIVE:
        return HA_SLOT_STATE_ALIVE;
    case STATEFILE_FENCED:
        return HA_SLOT_STATE_FENCED;
    case STATEFILE_OFF:
        return HA_SLOT_STATE_OFF;
    case STATEFILE_NOTHING:
    case STATEFILE_OUT:
        break;
    }
    return HA_SLOT_STATE_NOTHING;
}

int agent_ha_beat(struct agent *agent, struct agent_op *op, const struct hv_ha_beat_args *args,
                  struct hv_ha_beat_result *result, struct hv_err *err)
{
    (void)op;
    (void)err;
    struct ha *ha = agent->ha;
    struct watchdog_status status;
    pthread_mutex_lock(&ha->lock);
    bool armed = ha->armed;
    size_t hosts = ha->config.host_count;
    int64_t interval_ms = ha->config.interval_ms;
    if (armed)
        str_assign(&result->generation, ha->config.generation);
    pthread_mutex_unlock(&ha->lock);
    result->state = !armed ? HA_STATE_OFF : atomic_load(&ha->fenced) ? HA_STATE_FENCED : HA_STATE_ARMED;
    if (!armed || ask(ha, WATCHDOG_STATUS, 0, &status) < 0)
        return 0; /* without a watchdog there is no sign of life */
    if (args->stamp > 0 && streq(args->instance, status.instance))
        ask(ha, WATCHDOG_RENEW, args->stamp, &status);
    int64_t begun = watchdog_now_ms();
    if (fresh_status(ha, interval_ms, &status) < 0)
        return 0;
    if (status.fenced)
        result->state = HA_STATE_FENCED;
    str_assign(&result->instance, status.instance);
    str_assign(&result->error, status.error);
    result->stamp = status.now_ms;
    result->gone = status.fenced && status.all_gone;
    result->reads = status.read_ms >= begun;
    for (size_t i = 0; result->reads && i < hosts; i++) {
        struct ha_slot *slot = hv_ha_beat_result_add_slots(result);
        slot->sequence = (int64_t)status.slots[i].sequence;
        slot->state = slot_state(status.slots[i].state);
    }
    return 0;
}

int agent_ha_exclude(struct agent *agent, struct agent_op *op, const struct hv_ha_exclude_args *args,
                     struct hv_ha_exclude_result *result, struct hv_err *err)
{
    (void)op;
    struct ha *ha = agent->ha;
    struct statefile_entry out = {.state = STATEFILE_OUT, .sequence = (uint64_t)args->sequence}, slot;
    struct statefile_error error;
    size_t index = SIZE_MAX;
    snprintf(out.host, sizeof(out.host), "%s", args->host);
    AUTO_FREE char *path = armed_disk(ha, out.generation);
    pthread_mutex_lock(&ha->lock);
    for (size_t i = 0; path && i < ha->config.host_count; i++)
        if (streq(ha->config.hosts[i], args->host))
            index = i;
    pthread_mutex_unlock(&ha->lock);
    if (!path)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The host takes no part in high availability.");
    if (index == SIZE_MAX)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The other host takes no part in high availability.");
    out.index = (uint32_t)statefile_verdict(index);
    if (statefile_write(path, &out, &error) < 0 ||
        statefile_read(path, statefile_slot(index), out.generation, &slot, &error) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "%s", error.text);
    result->slot.sequence = (int64_t)slot.sequence;
    result->slot.state = slot_state(slot.state);
    return 0;
}
