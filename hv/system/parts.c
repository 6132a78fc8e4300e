/* The table of what the pool may set of a host's system: which members belong to each part, and how it is put
 * in place. */
#include "internal.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

bool system_machine_ok(const char *name)
{
    size_t len = strlen(name);
    return len > 0 && len <= 255 && name[0] != '-' && name[0] != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:") == len;
}

/* ---- SSH: those who are logged in stay ---- */

#define SSH_SOCKET "ssh.socket"

static const char *ssh_unit(const struct hv_system *sys)
{
    return system_has_unit(sys, "ssh.service")    ? "ssh.service"
           : system_has_unit(sys, "sshd.service") ? "sshd.service"
                                                  : NULL;
}

static int apply_ssh(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    const char *unit = ssh_unit(sys), *verb = s->ssh_enabled ? "enable" : "disable";
    if (!unit)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host has no SSH service: openssh-server is not installed.");
    /* A socket that starts it would open what was closed. */
    if (!s->ssh_enabled && system_has(sys, "/etc/systemd/system/sockets.target.wants/" SSH_SOCKET) &&
        system_ctl(sys, "disable", "--now", SSH_SOCKET, err) < 0)
        return -1;
    return system_ctl(sys, verb, "--now", unit, err);
}

static void take_ssh(struct system_settings *to, const struct system_settings *from)
{
    to->ssh_enabled = from->ssh_enabled;
    to->ssh_expiry = from->ssh_expiry;
    to->ssh_auto = from->ssh_auto;
}

/* ---- shells that nobody types into ---- */

#define IDLE_FILE "/etc/profile.d/corral-idle.sh"

static int apply_console_idle(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    if (s->console_idle_seconds == 0)
        return system_remove(sys, IDLE_FILE, err);
    char *text AUTO_FREE = xasprintf("# Written by hostd.\nTMOUT=%lld\nreadonly TMOUT\nexport TMOUT\n",
                                     (long long)s->console_idle_seconds);
    return system_write(sys, IDLE_FILE, text, err);
}

static void take_console_idle(struct system_settings *to, const struct system_settings *from)
{
    to->console_idle_seconds = from->console_idle_seconds;
}

/* ---- time servers: ntp.c ---- */

static void take_ntp(struct system_settings *to, const struct system_settings *from)
{
    to->ntp_mode = from->ntp_mode;
    for (size_t i = 0; i < to->ntp_servers_count; i++)
        str_unref(to->ntp_servers[i]);
    free(to->ntp_servers);
    to->ntp_servers = NULL;
    to->ntp_servers_count = 0;
    for (size_t i = 0; i < from->ntp_servers_count; i++)
        system_settings_add_ntp_servers(to, from->ntp_servers[i]);
}

/* ---- time zone ---- */

#define ZONES "/usr/share/zoneinfo/"
#define ZONE_LIST ZONES "tzdata.zi"
#define LOCALTIME "/etc/localtime"
#define TIMEZONE_FILE "/etc/timezone"
#define ZONE_LIST_MAX (1 << 20)
#define ZONE_COUNT_MAX 4096

/* Lines "Z Europe/Berlin ..." and "L Europe/Berlin Arctic/Longyearbyen": a zone, a further name of one. */
static char *zone_of_line(char *line)
{
    char *kind = strsep(&line, " "), *name = strsep(&line, " ");
    if (!name || (!streq(kind, "Z") && !streq(kind, "L")))
        return NULL;
    return streq(kind, "Z") ? name : strsep(&line, " ");
}

int hv_system_timezones(struct hv_system *sys, const struct str_set **zones, struct hv_err *err)
{
    char *text AUTO_FREE = sys->env.root ? system_read(sys, ZONE_LIST, ZONE_LIST_MAX) : NULL;
    if (!text)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       sys->env.root
                           ? "The host has no list of time zones: tzdata is not installed."
                           : "The host's agent may not look after its system: it was started without "
                             "--system-root.");
    const char **names AUTO_FREE = xcalloc(ZONE_COUNT_MAX, sizeof(*names));
    size_t count = 0;
    names[count++] = "UTC";
    for (char *line, *rest = text; count < ZONE_COUNT_MAX && (line = strsep(&rest, "\n"));) {
        const char *name = zone_of_line(line);
        if (name && *name)
            names[count++] = name;
    }
    *zones = str_set_new(names, count);
    return 0;
}

static int check_zone(struct hv_system *sys, const char *zone, struct hv_err *err)
{
    AUTO_STR_SET const struct str_set *zones = NULL;
    if (hv_system_timezones(sys, &zones, err) < 0)
        return -1;
    return str_set_has(zones, zone)
               ? 0
               : hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The host knows no such time zone.");
}

static int apply_timezone(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    const char *zone = *s->timezone ? s->timezone : "UTC";
    char *target AUTO_FREE = xasprintf("%s%s", ZONES, zone), *path AUTO_FREE = system_path(sys, LOCALTIME);
    char *fresh AUTO_FREE = xasprintf("%s.new", path), *line AUTO_FREE = xasprintf("%s\n", zone);
    if (check_zone(sys, zone, err) < 0 || system_write(sys, TIMEZONE_FILE, line, err) < 0)
        return -1;
    unlink(fresh);
    if (symlink(target, fresh) < 0 || rename(fresh, path) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The time zone cannot be set: %s", strerror(errno));
    return 0;
}

static void take_timezone(struct system_settings *to, const struct system_settings *from)
{
    str_assign(&to->timezone, from->timezone);
}

/* ---- sleep states of processors ---- */

#define CPUS "/sys/devices/system/cpu"

/* The number of "C1", "C1E", "C6"; of one that only polls, 0. */
static int level_of_name(const char *name)
{
    return name[0] == 'C' && name[1] >= '0' && name[1] <= '9' ? atoi(name + 1) : 0;
}

struct limiting {
    struct hv_system *sys;
    const char *cpu;
    int deepest; /* -1: no limit */
    size_t states;
};

static int limit_state(void *arg, const char *state, struct hv_err *err)
{
    const struct limiting *l = arg;
    char *name_path AUTO_FREE = xasprintf(CPUS "/%s/cpuidle/%s/name", l->cpu, state);
    char *switch_path AUTO_FREE = xasprintf(CPUS "/%s/cpuidle/%s/disable", l->cpu, state);
    char *name AUTO_FREE = system_read(l->sys, name_path, 64);
    if (!name || !system_has(l->sys, switch_path))
        return 0;
    bool off = l->deepest >= 0 && level_of_name(name) > l->deepest;
    return system_switch(l->sys, switch_path, off ? "1" : "0", err);
}

static int limit_cpu(void *arg, const char *cpu, struct hv_err *err)
{
    struct limiting *l = arg;
    size_t seen = 0;
    if (strspn(cpu + 3, "0123456789") != strlen(cpu + 3))
        return 0; /* cpufreq, cpuidle */
    char *folder AUTO_FREE = xasprintf(CPUS "/%s/cpuidle", cpu);
    l->cpu = cpu;
    int rc = system_each(l->sys, folder, "state", limit_state, l, &seen, err);
    l->states += seen;
    return rc;
}

static int apply_cstate(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    size_t digits = strspn(s->max_cstate, "0123456789");
    if (s->max_cstate[digits] || digits > 2)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The deepest sleep state is a number.");
    struct limiting l = {.sys = sys, .deepest = digits ? atoi(s->max_cstate) : -1};
    if (system_each(sys, CPUS, "cpu", limit_cpu, &l, NULL, err) < 0)
        return -1;
    return l.states
               ? 0
               : hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                         "The host's kernel does not put its processors to sleep by itself (no cpuidle).");
}

static void take_cstate(struct system_settings *to, const struct system_settings *from)
{
    str_assign(&to->max_cstate, from->max_cstate);
}

/* ---- the machine's own screen: consoles of the kernel that draw on it ---- */

#define SCREENS "/sys/class/vtconsole"

struct binding {
    struct hv_system *sys;
    bool on;
    size_t found;
};

static int bind_screen(void *arg, const char *console, struct hv_err *err)
{
    struct binding *b = arg;
    char *name_path AUTO_FREE = xasprintf(SCREENS "/%s/name", console);
    char *bind_path AUTO_FREE = xasprintf(SCREENS "/%s/bind", console);
    char *name AUTO_FREE = system_read(b->sys, name_path, 256);
    if (!name || strstr(name, "dummy"))
        return 0;
    b->found++;
    return system_switch(b->sys, bind_path, b->on ? "1" : "0", err);
}

static int apply_display(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    struct binding b = {.sys = sys, .on = s->display};
    if (system_each(sys, SCREENS, "vtcon", bind_screen, &b, NULL, err) < 0)
        return -1;
    return b.found
               ? 0
               : hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The host's kernel shows its console on no screen.");
}

static void take_display(struct system_settings *to, const struct system_settings *from)
{
    to->display = from->display;
}

/* ---- where logs go ---- */

#define SYSLOG_CONF "/etc/rsyslog.conf"
#define SYSLOG_FILE "/etc/rsyslog.d/90-corral.conf"

static int apply_syslog(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    bool there = system_has(sys, SYSLOG_CONF);
    if (*s->syslog && !system_machine_ok(s->syslog))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "Logs are sent to a machine's name or address.");
    if (!there && *s->syslog)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host cannot send its logs: rsyslog is not installed.");
    if (!there)
        return 0;
    char *text AUTO_FREE = xasprintf("# Written by hostd.\n"
                                     "action(type=\"omfwd\" target=\"%s\" port=\"514\" protocol=\"udp\")\n",
                                     s->syslog);
    int rc = *s->syslog ? system_write(sys, SYSLOG_FILE, text, err) : system_remove(sys, SYSLOG_FILE, err);
    return rc < 0 ? -1 : system_ctl(sys, "restart", NULL, "rsyslog.service", err);
}

static void take_syslog(struct system_settings *to, const struct system_settings *from)
{
    str_assign(&to->syslog, from->syslog);
}

/* ---- bridges ---- */

#define INTERFACES "/sys/class/net"
#define BRIDGE_NOTE "corral:" /* begins the alias of a bridge of ours: ../network/netlink.h */

void system_bridge_igmp(struct hv_system *sys, const char *bridge, bool on)
{
    char *path AUTO_FREE = xasprintf(INTERFACES "/%s/bridge/multicast_snooping", bridge);
    struct hv_err err;
    if (system_has(sys, path) && system_switch(sys, path, on ? "1" : "0", &err) < 0)
        log_warn("system", "a bridge does not watch IGMP as it should", "bridge", bridge, "cause", err.text);
}

static int bridge_igmp(void *arg, const char *name, struct hv_err *err)
{
    const struct binding *b = arg;
    char *alias_path AUTO_FREE = xasprintf(INTERFACES "/%s/ifalias", name);
    char *path AUTO_FREE = xasprintf(INTERFACES "/%s/bridge/multicast_snooping", name);
    char *alias AUTO_FREE = system_read(b->sys, alias_path, 512);
    if (!alias || strncmp(alias, BRIDGE_NOTE, strlen(BRIDGE_NOTE)) != 0 || !system_has(b->sys, path))
        return 0;
    return system_switch(b->sys, path, b->on ? "1" : "0", err);
}

static int apply_igmp_snooping(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    struct binding b = {.sys = sys, .on = s->igmp_snooping};
    return system_each(sys, INTERFACES, "", bridge_igmp, &b, NULL, err);
}

static void take_igmp_snooping(struct system_settings *to, const struct system_settings *from)
{
    to->igmp_snooping = from->igmp_snooping;
}

/* ---- the table ---- */

static const struct part {
    int (*apply)(struct hv_system *sys, const struct system_settings *s, struct hv_err *err);
    void (*take)(struct system_settings *to, const struct system_settings *from);
} parts[] = {
    [SYSTEM_PART_SSH] = {apply_ssh, take_ssh},
    [SYSTEM_PART_CONSOLE_IDLE] = {apply_console_idle, take_console_idle},
    [SYSTEM_PART_NTP] = {system_apply_ntp, take_ntp},
    [SYSTEM_PART_TIMEZONE] = {apply_timezone, take_timezone},
    [SYSTEM_PART_CSTATE] = {apply_cstate, take_cstate},
    [SYSTEM_PART_DISPLAY] = {apply_display, take_display},
    [SYSTEM_PART_SYSLOG] = {apply_syslog, take_syslog},
    [SYSTEM_PART_IGMP_SNOOPING] = {apply_igmp_snooping, take_igmp_snooping},
};

int system_apply(struct hv_system *sys, enum system_part part, const struct system_settings *s,
                 struct hv_err *err)
{
    return parts[part].apply(sys, s, err);
}

void system_take(enum system_part part, struct system_settings *to, const struct system_settings *from)
{
    parts[part].take(to, from);
}

/* ---- a system that nobody has set yet ---- */

static void observe_timezone(struct hv_system *sys, struct system_settings *s)
{
    char *path AUTO_FREE = system_path(sys, LOCALTIME);
    char target[PATH_MAX];
    ssize_t len = readlink(path, target, sizeof(target) - 1);
    target[len > 0 ? len : 0] = '\0';
    const char *zone = strstr(target, ZONES);
    if (zone && strlen(zone + strlen(ZONES)) <= 64)
        str_assign(&s->timezone, zone + strlen(ZONES));
}

void system_observe(struct hv_system *sys, struct system_settings *s)
{
    struct hv_err err;
    const char *unit = ssh_unit(sys);
    observe_timezone(sys, s);
    s->ssh_enabled = unit && system_ctl(sys, "is-active", "--quiet", unit, &err) == 0;
}
