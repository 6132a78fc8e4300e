/* The simulated guest: when it is up, what it says, how it ends. Loop thread, lock held. */
#include "sim.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#define POWER_OFF_MS 50

int64_t sim_word(const struct sim_domain *d, const char *word)
{
    const char *text = d->record.config.cmdline;
    size_t len = strlen(word);
    for (const char *p = text ? text : ""; *p;) {
        size_t n = strcspn(p, " ");
        if (n >= len && strncmp(p, word, len) == 0 && (n == len || p[len] == '='))
            return n == len ? 0 : strtoll(p + len + 1, NULL, 10);
        p += n;
        p += strspn(p, " ");
    }
    return -1;
}

void sim_say(struct sim_domain *d, const char *text)
{
    if (d->serial)
        fanout_write(d->serial, text, strlen(text));
}

static void fill_guest(struct sim_domain *d)
{
    struct guest_info *guest = &d->info.guest;
    guest_info_done(guest);
    guest_info_init(guest);
    if (!d->record.config.guest_agent || sim_word(d, "sim.no_agent") >= 0)
        return;
    guest->live = true;
    guest->updated = clock_unix_seconds();
    str_assign(&guest->agent_version, "1.0");
    str_assign(&guest->os_id, "simulated");
    str_assign(&guest->os_name, "Corral simulated guest 1.0");
    str_assign(&guest->os_version, "1.0");
    str_assign(&guest->kernel, "0.0-simulated");
    str_assign(&guest->hostname, *d->record.config.name ? d->record.config.name : "guest");
    for (size_t i = 0; i < d->record.config.nics_count; i++) {
        const struct domain_nic *nic = &d->record.config.nics[i];
        struct guest_address *address = guest_info_add_addresses(guest);
        const char *text = str_newf("10.0.2.%d", 15 + (int)nic->index);
        const char *device = str_newf("eth%d", (int)nic->index);
        str_assign(&address->address, text);
        str_assign(&address->device, device);
        str_assign(&address->mac, nic->mac);
        address->nic = nic->index;
        str_unref(text);
        str_unref(device);
    }
    struct guest_filesystem *root = guest_info_add_filesystems(guest);
    str_assign(&root->mountpoint, "/");
    str_assign(&root->type, "simfs");
    root->total_bytes = 1 << 30;
    root->used_percent = 25;
}

void sim_guest_nics(struct sim_domain *d)
{
    if (d->up)
        fill_guest(d);
}

void sim_boot(struct sim_domain *d)
{
    d->up = false;
    int64_t again_ms = d->resets > 0 ? sim_word(d, "sim.again_ms") : -1;
    int64_t boot_ms = again_ms >= 0 ? again_ms : d->sim->boot_ms;
    d->up_at = d->info.state == DOMAIN_STATE_PAUSED ? boot_ms : clock_mono_ms() + boot_ms;
    d->info.guest.live = false; /* what its agent said last stays known */
    char *line AUTO_FREE = xasprintf("\r\nCorral simulated guest: %s\r\nbooting...\r\n",
                                     *d->record.config.name ? d->record.config.name : "guest");
    sim_say(d, line);
}

/* As the QEMU driver does (hv/qemu/coredump.c): a file beside which nothing else is left. */
static const char *dump(struct sim_domain *d, const char *text)
{
    char *folder AUTO_FREE = xasprintf("%s/crashdumps", d->sim->state_dir);
    char *name AUTO_FREE = xasprintf("%lld-%s.core", (long long)clock_unix_seconds(), d->info.uuid);
    char *path AUTO_FREE = xasprintf("%s/%s", folder, name);
    if ((mkdir(folder, 0700) < 0 && errno != EEXIST) || file_write_atomic(path, "simulated", 9, 0600) < 0)
        return str_newf("%s Its memory could not be written: %s", text, strerror(errno));
    return str_newf("%s Its memory was written to crashdumps/%s of its host's agent.", text, name);
}

static bool bounces(const struct sim_domain *d)
{
    int64_t uptime = clock_unix_seconds() - d->info.boot_time;
    return uptime >= 0 && uptime < d->sim->env.min_uptime_s;
}

static void end_of_guest(struct sim_domain *d, enum end_reason reason, enum end_action action,
                         const char *said)
{
    bool crash = reason == END_REASON_GUEST_CRASH;
    AUTO_STR const char *text = crash && d->record.config.coredump ? dump(d, said) : str_new(said);
    if (action == END_ACTION_RESTART && reason != END_REASON_GUEST_REBOOT && bounces(d)) {
        const char *more = str_newf("%s It had run for a moment only, and is not started again.", text);
        str_unref(text);
        text = more;
        action = END_ACTION_DESTROY;
    }
    if (d->leaving || action == END_ACTION_DESTROY) {
        sim_end(d, reason, text);
        return;
    }
    if (action == END_ACTION_PRESERVE) {
        d->info.state = reason == END_REASON_GUEST_CRASH ? DOMAIN_STATE_CRASHED : DOMAIN_STATE_SHUTDOWN;
        d->info.end_reason = reason;
        str_assign(&d->info.end_text, text);
        d->info.end_time = clock_unix_seconds();
    } else {
        d->resets++;
        d->info.reboots++;
        d->info.boot_time = clock_unix_seconds();
        sim_boot(d);
    }
    sim_arm(d);
    sim_changed(d, false);
}

static void disk_full(struct sim_domain *d)
{
    const struct domain_config *config = &d->record.config;
    str_assign(&d->info.paused_text, "cannot be written: No space left on device");
    str_assign(&d->info.paused_disk, config->disks_count ? config->disks[0].disk : "");
    sim_halt(d);
}

static void fire_mishap(void *arg)
{
    struct sim_domain *d = arg;
    struct hv_driver_state *sim = d->sim;
    const struct domain_config *config = &d->record.config;
    pthread_mutex_lock(&sim->lock);
    if (sim_word(d, "sim.disk_full_ms") >= 0)
        disk_full(d);
    else if (sim_word(d, "sim.crash_ms") >= 0)
        end_of_guest(d, END_REASON_GUEST_CRASH, config->on_crash, "The guest's kernel panicked.");
    else if (sim_word(d, "sim.poweroff_ms") >= 0)
        end_of_guest(d, END_REASON_GUEST_SHUTDOWN, config->on_shutdown, "The guest powered off.");
    else
        end_of_guest(d, END_REASON_GUEST_REBOOT,
                     config->on_reboot == END_ACTION_RESTART ? END_ACTION_RESTART : END_ACTION_DESTROY,
                     "The guest rebooted, and its configuration says to end it then.");
    pthread_mutex_unlock(&sim->lock);
}

static void arm_mishap(struct sim_domain *d)
{
    static const char *const words[] = {"sim.crash_ms", "sim.poweroff_ms", "sim.reboot_ms",
                                        "sim.disk_full_ms"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        int64_t ms = sim_word(d, words[i]);
        if (ms < 0)
            continue;
        d->mishap = (struct loop_timer){.fire = fire_mishap, .arg = d};
        loop_timer_set(d->sim->loop, &d->mishap, clock_mono_ms() + ms);
        return;
    }
}

static void fire(void *arg)
{
    struct sim_domain *d = arg;
    struct hv_driver_state *sim = d->sim;
    pthread_mutex_lock(&sim->lock);
    if (d->up && d->asked_off) {
        sim_say(d, "\r\npower down.\r\n");
        end_of_guest(d, END_REASON_GUEST_SHUTDOWN, d->record.config.on_shutdown, "The guest powered off.");
    } else if (!d->up && d->info.state == DOMAIN_STATE_RUNNING && !d->held) {
        d->up = true;
        fill_guest(d);
        sim_say(d, "guest login: ");
        sim_guest_data(d);
        if (sim_word(d, "sim.when_asked") < 0)
            arm_mishap(d);
        sim_arm(d);
        sim_changed(d, true);
    }
    pthread_mutex_unlock(&sim->lock);
}

void sim_arm(struct sim_domain *d)
{
    struct loop *loop = d->sim->loop;
    loop_timer_cancel(loop, &d->timer);
    d->timer.fire = fire;
    d->timer.arg = d;
    if (d->info.state != DOMAIN_STATE_RUNNING || d->held) {
        loop_timer_cancel(loop, &d->mishap);
        return;
    }
    if (!d->up)
        loop_timer_set(loop, &d->timer, d->up_at);
    else if (d->asked_off && sim_word(d, "sim.ignore_shutdown") < 0)
        loop_timer_set(loop, &d->timer, clock_mono_ms() + POWER_OFF_MS);
    else if (d->asked_reboot && sim_word(d, "sim.when_asked") >= 0)
        arm_mishap(d);
}
