/* Settings of the host's system: the note of them, changes, and the thread that closes SSH in time or opens
 * it while the pool's server is silent. The note is written before a change is told, after it was put in
 * place: a sudden end between the two leaves a change that nobody was promised. */
#include "internal.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <time.h>

#define NOTE_MAX 65536
#define AUTO_LOOK_MS 1000
#define RETRY_MS 10000

/* ---- the note ---- */

static int load(struct hv_system *sys, struct hv_err *err)
{
    char complaint[WIRE_COMPLAINT_SIZE];
    struct json_error why;
    size_t len = 0;
    char *text AUTO_FREE = file_read(sys->env.state_file, NOTE_MAX, &len);
    if (!text) {
        if (sys->env.root)
            system_observe(sys, &sys->settings);
        return 0;
    }
    json_t *json AUTO_JSON = json_parse(text, len, &why);
    struct system_settings loaded;
    if (!json || wire_decode(&system_settings_desc, json, &loaded, complaint) < 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The note of the host's settings is damaged.");
    system_settings_done(&sys->settings);
    sys->settings = loaded;
    return 0;
}

static int store(struct hv_system *sys, const struct system_settings *settings, struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT;
    wire_encode(&system_settings_desc, settings, &text);
    if (file_write_atomic(sys->env.state_file, text.data, text.len, 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The host's settings cannot be noted: %s", strerror(errno));
    return 0;
}

static bool has_part(const struct system_settings *s, const char *name)
{
    for (size_t i = 0; i < s->parts_count; i++)
        if (streq(s->parts[i], name))
            return true;
    return false;
}

/* ---- changes ---- */

void hv_system_settings(struct hv_system *sys, struct system_settings *out)
{
    pthread_mutex_lock(&sys->lock);
    system_settings_copy(out, &sys->settings);
    pthread_mutex_unlock(&sys->lock);
}

/* With `change` held; `next` moves. `by_silence`: SSH is open because the server is silent. */
static int put(struct hv_system *sys, enum system_part part, struct system_settings *next, bool by_silence,
               struct hv_err *err)
{
    int rc = system_apply(sys, part, next, err);
    if (rc == 0) {
        sys->again[part] = false;
        rc = store(sys, next, err);
    }
    if (rc < 0) {
        system_settings_done(next);
        return -1;
    }
    pthread_mutex_lock(&sys->lock);
    struct system_settings old = sys->settings;
    sys->settings = *next;
    if (part == SYSTEM_PART_SSH)
        sys->opened_by_silence = by_silence;
    pthread_cond_broadcast(&sys->news);
    pthread_mutex_unlock(&sys->lock);
    system_settings_done(&old);
    return 0;
}

int hv_system_set(struct hv_system *sys, enum system_part part, const struct system_settings *wanted,
                  struct hv_err *err)
{
    if (!sys->env.root && part != SYSTEM_PART_IGMP_SNOOPING) /* bridges are the agent's own */
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host's agent may not change its system: it was started without --system-root.");
    struct system_settings next;
    pthread_mutex_lock(&sys->change);
    hv_system_settings(sys, &next);
    system_take(part, &next, wanted);
    if (!has_part(&next, system_part_name(part)))
        system_settings_add_parts(&next, system_part_name(part));
    int rc = put(sys, part, &next, false, err);
    pthread_mutex_unlock(&sys->change);
    if (rc == 0)
        log_info("system", "a part of the host's system was set", "part", system_part_name(part));
    return rc;
}

void hv_system_bridge_made(struct hv_system *sys, const char *bridge)
{
    struct system_settings s;
    hv_system_settings(sys, &s);
    if (has_part(&s, system_part_name(SYSTEM_PART_IGMP_SNOOPING)))
        system_bridge_igmp(sys, bridge, s.igmp_snooping);
    system_settings_done(&s);
}

/* ---- SSH and time ---- */

void hv_system_heard(struct hv_system *sys)
{
    atomic_store(&sys->heard_ms, clock_mono_ms());
}

/* What SSH should be now by the clock; true when that is not what it is. With `lock` held. */
static bool ssh_is_due(const struct hv_system *sys, bool *open)
{
    const struct system_settings *s = &sys->settings;
    if (!s->managed)
        return false;
    bool silent = clock_mono_ms() - atomic_load(&sys->heard_ms) >= sys->env.silence_s * 1000;
    if (s->ssh_auto) {
        *open = silent;
        return silent != s->ssh_enabled && (silent || sys->opened_by_silence);
    }
    *open = false;
    return s->ssh_enabled && s->ssh_expiry > 0 && s->ssh_expiry <= clock_unix_seconds();
}

static bool turn_ssh(struct hv_system *sys, bool open)
{
    struct system_settings next;
    struct hv_err err;
    pthread_mutex_lock(&sys->change);
    hv_system_settings(sys, &next);
    next.ssh_enabled = open;
    bool ok = put(sys, SYSTEM_PART_SSH, &next, open, &err) == 0;
    pthread_mutex_unlock(&sys->change);
    if (ok)
        log_warn("system", open ? "SSH is open: the pool's server is silent" : "SSH is closed again");
    else
        log_warn("system", "SSH cannot be opened or closed when it should", "cause", err.text);
    if (ok && sys->env.changed)
        sys->env.changed(sys->env.ctx);
    return ok;
}

/* How long until SSH has to be looked at; -1: until something changes. With `lock` held. */
static int64_t next_look_ms(const struct hv_system *sys)
{
    const struct system_settings *s = &sys->settings;
    if (!s->managed)
        return -1;
    if (s->ssh_auto)
        return AUTO_LOOK_MS;
    if (!s->ssh_enabled || s->ssh_expiry == 0)
        return -1;
    int64_t left = s->ssh_expiry - clock_unix_seconds();
    /* The clock of the day may be set meanwhile. */
    return left <= 0 ? 100 : left > 30 ? 30000 : left * 1000;
}

static void wait_ms(struct hv_system *sys, int64_t ms)
{
    if (ms < 0) {
        pthread_cond_wait(&sys->news, &sys->lock);
        return;
    }
    int64_t until = clock_mono_ms() + ms;
    const struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_cond_timedwait(&sys->news, &sys->lock, &when);
}

/* What a boot or an upgrade of the system may have undone. */
static void put_again(struct hv_system *sys)
{
    struct hv_err err;
    struct system_settings now;
    for (int part = 0; part < SYSTEM_PARTS; part++) {
        pthread_mutex_lock(&sys->change);
        hv_system_settings(sys, &now);
        if (sys->again[part] && system_apply(sys, part, &now, &err) < 0)
            log_warn("system", "a part of the host's system is not as it was set", "part",
                     system_part_name(part), "cause", err.text);
        pthread_mutex_unlock(&sys->change);
        system_settings_done(&now);
    }
}

static void *look_after(void *arg)
{
    struct hv_system *sys = arg;
    put_again(sys);
    pthread_mutex_lock(&sys->lock);
    while (!sys->stopping) {
        bool open;
        if (!ssh_is_due(sys, &open)) {
            wait_ms(sys, next_look_ms(sys));
            continue;
        }
        pthread_mutex_unlock(&sys->lock);
        bool ok = turn_ssh(sys, open);
        pthread_mutex_lock(&sys->lock);
        if (!ok && !sys->stopping)
            wait_ms(sys, RETRY_MS);
    }
    pthread_mutex_unlock(&sys->lock);
    return NULL;
}

/* ---- begin and end ---- */

static int begin(struct hv_system *sys, struct hv_err *err)
{
    if (sys->env.simulated && system_model_make(sys, err) < 0)
        return -1;
    if (load(sys, err) < 0)
        return -1;
    sys->settings.managed = sys->env.root != NULL;
    for (int part = 0; part < SYSTEM_PARTS; part++)
        sys->again[part] = (sys->env.root || part == SYSTEM_PART_IGMP_SNOOPING) &&
                           has_part(&sys->settings, system_part_name(part));
    sys->opened_by_silence = sys->settings.ssh_auto && sys->settings.ssh_enabled;
    if (pthread_create(&sys->thread, NULL, look_after, sys) != 0)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "A thread cannot be started.");
    sys->running = true;
    return 0;
}

int hv_system_open(const struct hv_system_env *env, struct hv_system **out, struct hv_err *err)
{
    struct hv_system *sys = xcalloc(1, sizeof(*sys));
    pthread_condattr_t attr;
    sys->env = *env;
    system_settings_init(&sys->settings);
    atomic_store(&sys->heard_ms, clock_mono_ms());
    pthread_mutex_init(&sys->change, NULL);
    pthread_mutex_init(&sys->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&sys->news, &attr);
    pthread_condattr_destroy(&attr);
    if (begin(sys, err) < 0) {
        hv_system_close(sys);
        return -1;
    }
    *out = sys;
    return 0;
}

void hv_system_close(struct hv_system *sys)
{
    if (!sys)
        return;
    if (sys->running) {
        pthread_mutex_lock(&sys->lock);
        sys->stopping = true;
        pthread_cond_broadcast(&sys->news);
        pthread_mutex_unlock(&sys->lock);
        pthread_join(sys->thread, NULL);
    }
    system_settings_done(&sys->settings);
    pthread_cond_destroy(&sys->news);
    pthread_mutex_destroy(&sys->change);
    pthread_mutex_destroy(&sys->lock);
    free(sys);
}
