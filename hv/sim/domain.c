/* The table of domains, their files, and the clock that moves them. */
#include "internal.h"

#include <base/buf.h>
#include <base/clock.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define REBOOT_GAP_MS 10

struct sim_domain *sim_find(struct hv_driver_state *state, const char *uuid)
{
    struct sim_domain *d = state->domains;
    while (d && !streq(d->info.uuid, uuid))
        d = d->next;
    return d;
}

static char *file_of(const struct sim_domain *d)
{
    return xasprintf("%s/%s.json", d->state->dir, d->info.uuid);
}

void sim_save(const struct sim_domain *d)
{
    AUTO_BUF struct buf out = BUF_INIT;
    AUTO_FREE char *path = file_of(d);
    buf_add_str(&out, "{\"config\":");
    wire_encode(&domain_config_desc, &d->config, &out);
    buf_add_str(&out, ",\"info\":");
    wire_encode(&domain_info_desc, &d->info, &out);
    buf_add_str(&out, "}\n");
    if (file_write_atomic(path, out.data, out.len, 0600) < 0)
        log_warn("sim", "a simulated domain could not be saved", "domain", d->info.uuid, "cause",
                 strerror(errno));
}

void sim_release(struct sim_domain *d)
{
    if (--d->refs)
        return;
    domain_config_done(&d->config);
    domain_info_done(&d->info);
    free(d);
}

static void free_serial(void *arg)
{
    struct sim_domain *d = arg;
    loop_timer_cancel(d->state->loop, &d->timer);
    fanout_free(d->serial);
    d->serial = NULL;
    pthread_mutex_lock(&d->state->lock);
    pthread_mutex_t *lock = &d->state->lock;
    sim_release(d);
    pthread_mutex_unlock(lock);
}

void sim_drop(struct sim_domain *d)
{
    AUTO_FREE char *path = file_of(d);
    for (struct sim_domain **at = &d->state->domains; *at; at = &(*at)->next)
        if (*at == d) {
            *at = d->next;
            break;
        }
    d->dropped = true;
    if (unlink(path) < 0 && errno != ENOENT)
        log_warn("sim", "the file of a domain could not be removed", "domain", d->info.uuid, "cause",
                 strerror(errno));
    pthread_cond_broadcast(&d->state->changed);
    loop_post(d->state->loop, free_serial, d); /* with the table's count */
}

void sim_end(struct sim_domain *d, enum end_reason reason, const char *text)
{
    d->info.state = DOMAIN_STATE_GONE;
    d->info.end_reason = reason;
    d->info.end_time = clock_unix_seconds();
    d->info.domid = -1;
    d->info.guest.live = false;
    str_assign(&d->info.end_text, text);
    sim_save(d);
    pthread_cond_broadcast(&d->state->changed);
}

void sim_boot(struct sim_domain *d)
{
    d->boots_at_ms = clock_mono_ms() + d->state->boot_ms;
    d->wish = SIM_WISH_NONE;
    d->info.boot_time = clock_unix_seconds();
    d->info.guest.live = false;
    d->deaf = strstr(d->config.cmdline, "sim.hang") != NULL;
}

void sim_tell(struct hv_driver_state *state, const char *uuid, bool guest_only)
{
    struct domain_info info;
    pthread_mutex_lock(&state->lock);
    struct sim_domain *d = sim_find(state, uuid);
    if (d)
        domain_info_copy(&info, &d->info);
    pthread_mutex_unlock(&state->lock);
    if (!d)
        return;
    state->env.changed(state->env.ctx, &info, guest_only);
    domain_info_done(&info);
}

/* ---- the guest ---- */

static void print(struct sim_domain *d, const char *text)
{
    if (d->serial)
        fanout_write(d->serial, text, strlen(text));
}

/* Its agent answers: what it says of itself. */
static void booted(struct sim_domain *d)
{
    struct guest_info *guest = &d->info.guest;
    guest_info_done(guest);
    guest_info_init(guest);
    guest->live = true;
    guest->updated = clock_unix_seconds();
    str_assign(&guest->agent_version, "1.0");
    str_assign(&guest->os_id, "simulated");
    str_assign(&guest->os_name, "Simulated guest 1");
    str_assign(&guest->os_version, "1");
    str_assign(&guest->kernel, "1.0-sim");
    str_assign(&guest->hostname, "simulated");
    for (size_t i = 0; i < d->config.nics_count; i++) {
        struct guest_address *a = guest_info_add_addresses(guest);
        AUTO_STR const char *device = str_newf("eth%zu", i);
        AUTO_STR const char *address = str_newf("10.0.2.%zu", 15 + i);
        a->nic = d->config.nics[i].index;
        str_assign(&a->device, device);
        str_assign(&a->mac, d->config.nics[i].mac);
        str_assign(&a->address, address);
    }
    d->boots_at_ms = INT64_MAX;
    sim_save(d);
    print(d, "\r\nSimulated guest 1 ttyS0\r\n\r\nsimulated login: ");
}

/* The number behind `word=` among the kernel's arguments; -1: not there. */
static int64_t argument(const struct sim_domain *d, const char *word)
{
    const char *at = strstr(d->config.cmdline, word);
    return at && at[strlen(word)] == '=' ? strtoll(at + strlen(word) + 1, NULL, 10) : -1;
}

static void reboot(struct sim_domain *d)
{
    d->info.reboots++;
    sim_boot(d);
    sim_save(d);
    print(d, "\r\nRebooting.\r\n");
    pthread_cond_broadcast(&d->state->changed);
}

static void guest_ends(struct sim_domain *d, enum end_action action, enum end_reason reason, const char *text)
{
    if (action == END_ACTION_RESTART) {
        reboot(d);
        return;
    }
    if (action == END_ACTION_PRESERVE && reason != END_REASON_GUEST_REBOOT) {
        d->info.state = reason == END_REASON_GUEST_CRASH ? DOMAIN_STATE_CRASHED : DOMAIN_STATE_SHUTDOWN;
        d->info.end_reason = reason;
        d->info.guest.live = false;
        sim_save(d);
        return;
    }
    sim_end(d, reason, text);
}

/* What the guest does by itself a while after it booted. False: nothing now; *next is when. */
static bool own_deed(struct sim_domain *d, int64_t now, int64_t *next)
{
    static const struct {
        const char *word;
        enum end_reason reason;
    } deeds[] = {{"sim.poweroff", END_REASON_GUEST_SHUTDOWN},
                 {"sim.crash", END_REASON_GUEST_CRASH},
                 {"sim.reboot", END_REASON_GUEST_REBOOT}};
    for (size_t i = 0; i < ARRAY_LEN(deeds); i++) {
        int64_t after = argument(d, deeds[i].word);
        if (after < 0 || (deeds[i].reason == END_REASON_GUEST_REBOOT && d->info.reboots))
            continue;
        int64_t at = d->booted_at_ms + after;
        if (now < at) {
            *next = at;
            return false;
        }
        if (deeds[i].reason == END_REASON_GUEST_REBOOT)
            guest_ends(d, d->config.on_reboot, deeds[i].reason, "the guest rebooted");
        else if (deeds[i].reason == END_REASON_GUEST_CRASH)
            guest_ends(d, d->config.on_crash, deeds[i].reason, "the guest panicked");
        else
            guest_ends(d, d->config.on_shutdown, deeds[i].reason, "the guest powered off");
        return true;
    }
    return false;
}

/* One step of the domain's life. Returns whether something changed; *next is when to look again. */
static bool step(struct sim_domain *d, int64_t now, int64_t *next, bool *guest_only)
{
    *next = INT64_MAX;
    *guest_only = false;
    if (d->info.state != DOMAIN_STATE_RUNNING)
        return false;
    if (d->boots_at_ms != INT64_MAX) {
        if (now < d->boots_at_ms) {
            *next = d->boots_at_ms;
            return false;
        }
        booted(d);
        d->booted_at_ms = now;
        *next = now;
        *guest_only = true;
        return true;
    }
    enum sim_wish wish = d->wish;
    d->wish = SIM_WISH_NONE;
    if (wish == SIM_WISH_SHUTDOWN) {
        print(d, "\r\nThe system is going down NOW!\r\n");
        sim_end(d, END_REASON_ASKED, "shut down on request");
        return true;
    }
    if (wish == SIM_WISH_REBOOT) {
        reboot(d);
        *next = d->boots_at_ms;
        return true;
    }
    bool changed = own_deed(d, now, next);
    if (changed && d->info.state == DOMAIN_STATE_RUNNING)
        *next = now + REBOOT_GAP_MS;
    return changed;
}

static void run(void *arg)
{
    struct sim_domain *d = arg;
    struct hv_driver_state *state = d->state;
    int64_t next;
    bool guest_only, changed;
    pthread_mutex_lock(&state->lock);
    bool gone = d->dropped;
    changed = !gone && step(d, clock_mono_ms(), &next, &guest_only);
    AUTO_STR const char *uuid = str_ref(d->info.uuid);
    pthread_mutex_unlock(&state->lock);
    if (gone)
        return;
    if (next != INT64_MAX)
        loop_timer_set(state->loop, &d->timer, next);
    if (changed)
        sim_tell(state, uuid, guest_only);
}

static void poked(void *arg)
{
    struct sim_domain *d = arg;
    struct hv_driver_state *state = d->state;
    run(d);
    pthread_mutex_lock(&state->lock);
    sim_release(d);
    pthread_mutex_unlock(&state->lock);
}

void sim_poke(struct sim_domain *d)
{
    pthread_mutex_lock(&d->state->lock);
    d->refs++;
    pthread_mutex_unlock(&d->state->lock);
    loop_post(d->state->loop, poked, d);
}

/* Typed at the serial console: it echoes, and follows one word. */
static void typed(void *arg, const char *data, size_t len)
{
    struct sim_domain *d = arg;
    fanout_write(d->serial, data, len);
    if (memmem(data, len, "\r", 1) || memmem(data, len, "\n", 1))
        print(d, "\r\nsimulated login: ");
}

static void make_serial(void *arg)
{
    struct sim_domain *d = arg;
    d->serial = fanout_new(d->state->loop, typed, d);
    print(d, "Simulated firmware: booting.\r\n");
}

struct sim_domain *sim_add(struct hv_driver_state *state, const struct domain_config *config)
{
    struct sim_domain *d = xcalloc(1, sizeof(*d));
    d->state = state;
    d->refs = 1;
    d->timer = (struct loop_timer){.fire = run, .arg = d};
    d->boots_at_ms = INT64_MAX;
    domain_config_copy(&d->config, config);
    domain_info_init(&d->info);
    str_assign(&d->info.uuid, config->uuid);
    str_assign(&d->info.name, config->name);
    loop_call(state->loop, make_serial, d);
    return d;
}

/* ---- files ---- */

static void load(struct hv_driver_state *state, const char *path)
{
    char complaint[WIRE_COMPLAINT_SIZE] = "";
    struct json_error error;
    struct domain_config config;
    struct domain_info info;
    size_t len;
    AUTO_FREE char *text = file_read(path, 1 << 20, &len);
    AUTO_JSON json_t *json = text ? json_parse(text, len, &error) : NULL;
    if (!json || wire_decode(&domain_config_desc, json_object_get(json, "config"), &config, complaint) < 0) {
        log_warn("sim", "the file of a domain cannot be read", "file", path, "cause", complaint);
        return;
    }
    if (wire_decode(&domain_info_desc, json_object_get(json, "info"), &info, complaint) < 0) {
        log_warn("sim", "the file of a domain cannot be read", "file", path, "cause", complaint);
        domain_config_done(&config);
        return;
    }
    struct sim_domain *d = sim_add(state, &config);
    domain_config_done(&config);
    domain_info_done(&d->info);
    d->info = info;
    if (info.domid >= state->domid_next)
        state->domid_next = info.domid + 1;
    d->next = state->domains;
    state->domains = d;
    if (info.state == DOMAIN_STATE_RUNNING && !info.guest.live)
        sim_boot(d);
    sim_poke(d);
}

void sim_load_all(struct hv_driver_state *state)
{
    DIR *dir = opendir(state->dir);
    struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        size_t len = strlen(entry->d_name);
        AUTO_FREE char *path = xasprintf("%s/%s", state->dir, entry->d_name);
        if (len > 5 && streq(entry->d_name + len - 5, ".json"))
            load(state, path);
    }
    if (dir)
        closedir(dir);
}
