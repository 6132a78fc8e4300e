/* The clock: time servers by chrony or systemd-timesyncd, whichever the host has; whether the clock follows
 * them; and setting it by hand. */
#include "internal.h"
#include <base/mem.h>
#include <stdio.h>

#define CHRONY_CONF "/etc/chrony/chrony.conf"
#define CHRONY_SOURCES "/etc/chrony/sources.d/corral.sources"
#define CHRONY_UNIT "chrony.service"
#define MARK "#corral# " /* before a line of chrony.conf that is out of force */
#define TIMESYNCD_CONF "/etc/systemd/timesyncd.conf.d/zz-corral.conf"
#define TIMESYNCD_UNIT "systemd-timesyncd.service"
#define CONF_MAX 65536

static bool has_chrony(const struct hv_system *sys)
{
    return system_has(sys, CHRONY_CONF);
}

static int check_service(const struct hv_system *sys, struct hv_err *err)
{
    return has_chrony(sys) || system_has_unit(sys, TIMESYNCD_UNIT)
               ? 0
               : hv_fail(
                     err, HV_ERR_KIND_UNSUPPORTED,
                     "The host has neither chrony nor systemd-timesyncd: one of them has to be installed.");
}

static int check_servers(const struct system_settings *s, struct hv_err *err)
{
    for (size_t i = 0; i < s->ntp_servers_count; i++)
        if (!system_machine_ok(s->ntp_servers[i]))
            return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "A time server is a name or an address.");
    return s->ntp_mode == NTP_MODE_CUSTOM && s->ntp_servers_count == 0
               ? hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "No time server is named.")
               : 0;
}

/* ---- chrony ---- */

static bool begins(const char *line, const char *word)
{
    size_t len = strlen(word);
    return strncmp(line, word, len) == 0 && (line[len] == ' ' || line[len] == '\t');
}

/* Which lines of the distribution's file this mode puts out of force. */
static bool is_off(const char *line, enum ntp_mode mode)
{
    bool own = begins(line, "pool") || begins(line, "server") || begins(line, "peer");
    bool leased = begins(line, "sourcedir") && strstr(line, "dhcp");
    switch (mode) {
    case NTP_MODE_CUSTOM:
        return own || leased;
    case NTP_MODE_DHCP:
        return own;
    case NTP_MODE_FACTORY:
        return leased;
    case NTP_MODE_DISABLED:
        break;
    }
    return false;
}

static void rewrite(char *text, enum ntp_mode mode, struct buf *out)
{
    for (char *line, *rest = text; (line = strsep(&rest, "\n"));) {
        if (strncmp(line, MARK, strlen(MARK)) == 0)
            line += strlen(MARK);
        if (!rest && !*line)
            break; /* behind the last line */
        buf_printf(out, "%s%s\n", is_off(line, mode) ? MARK : "", line);
    }
}

static int apply_chrony(const struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    struct buf conf AUTO_BUF = BUF_INIT, sources AUTO_BUF = BUF_INIT;
    char *text AUTO_FREE = system_read(sys, CHRONY_CONF, CONF_MAX);
    if (!text)
        return hv_fail(err, HV_ERR_KIND_IO, "chrony's configuration cannot be read.");
    char *before AUTO_FREE = xstrdup(text);
    rewrite(text, s->ntp_mode, &conf);
    for (size_t i = 0; s->ntp_mode == NTP_MODE_CUSTOM && i < s->ntp_servers_count; i++)
        buf_printf(&sources, "server %s iburst\n", s->ntp_servers[i]);
    if (conf.data && !streq(conf.data, before) && system_write(sys, CHRONY_CONF, conf.data, err) < 0)
        return -1;
    int rc = sources.len ? system_write(sys, CHRONY_SOURCES, sources.data, err)
                         : system_remove(sys, CHRONY_SOURCES, err);
    if (rc < 0)
        return -1;
    if (s->ntp_mode == NTP_MODE_DISABLED)
        return system_ctl(sys, "disable", "--now", CHRONY_UNIT, err);
    return system_ctl(sys, "enable", NULL, CHRONY_UNIT, err) < 0
               ? -1
               : system_ctl(sys, "restart", NULL, CHRONY_UNIT, err);
}

/* ---- systemd-timesyncd ---- */

/* An empty NTP= forgets what other files said (the DHCP client's too); then FallbackNTP=, the distribution's,
 * counts. */
static int apply_timesyncd(const struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    struct buf text AUTO_BUF = BUF_INIT;
    buf_add_str(&text, "# Written by hostd.\n[Time]\nNTP=\n");
    if (s->ntp_mode == NTP_MODE_CUSTOM) {
        buf_add_str(&text, "NTP=");
        for (size_t i = 0; i < s->ntp_servers_count; i++)
            buf_printf(&text, "%s%s", i ? " " : "", s->ntp_servers[i]);
        buf_add_str(&text, "\nFallbackNTP=\n");
    }
    bool ours = s->ntp_mode == NTP_MODE_CUSTOM || s->ntp_mode == NTP_MODE_FACTORY;
    int rc =
        ours ? system_write(sys, TIMESYNCD_CONF, text.data, err) : system_remove(sys, TIMESYNCD_CONF, err);
    if (rc < 0)
        return -1;
    if (s->ntp_mode == NTP_MODE_DISABLED)
        return system_ctl(sys, "disable", "--now", TIMESYNCD_UNIT, err);
    return system_ctl(sys, "enable", NULL, TIMESYNCD_UNIT, err) < 0
               ? -1
               : system_ctl(sys, "restart", NULL, TIMESYNCD_UNIT, err);
}

int system_apply_ntp(struct hv_system *sys, const struct system_settings *s, struct hv_err *err)
{
    if (check_servers(s, err) < 0 || check_service(sys, err) < 0)
        return -1;
    return has_chrony(sys) ? apply_chrony(sys, s, err) : apply_timesyncd(sys, s, err);
}

/* ---- how it goes ---- */

static const char *word_of_state(char state)
{
    switch (state) {
    case '*':
        return "synchronized";
    case '+':
        return "combined";
    case '-':
        return "not combined";
    case 'x':
        return "wrong";
    case '~':
        return "too variable";
    default:
        return "unreachable";
    }
}

/* Lines of `chronyc -c sources`: mode, state, name, and numbers. */
static int chrony_status(const struct hv_system *sys, const struct str_map **servers, struct hv_err *err)
{
    const char *argv[] = {"chronyc", "-c", "sources", NULL};
    struct buf said AUTO_BUF = BUF_INIT;
    if (system_run(sys, argv, &said, err) < 0)
        return -1;
    for (char *line, *rest = said.data; rest && (line = strsep(&rest, "\n"));) {
        char name[256], state;
        if (sscanf(line, "%*c,%c,%255[^,],", &state, name) == 2)
            str_map_put(servers, name, word_of_state(state));
    }
    return 0;
}

/* Lines "LinkNTPServers=a b", "ServerName=a". */
static int timesyncd_status(const struct hv_system *sys, bool synchronized, const struct str_map **servers,
                            struct hv_err *err)
{
    const char *argv[] = {"timedatectl",
                          "show-timesync",
                          "--property=ServerName",
                          "--property=LinkNTPServers",
                          "--property=SystemNTPServers",
                          NULL};
    struct buf said AUTO_BUF = BUF_INIT;
    const char *current = NULL;
    if (system_run(sys, argv, &said, err) < 0)
        return -1;
    for (char *line, *rest = said.data; rest && (line = strsep(&rest, "\n"));) {
        char *value = strchr(line, '=');
        if (!value)
            continue;
        *value++ = '\0';
        if (streq(line, "ServerName"))
            current = value;
        else
            for (char *name; (name = strsep(&value, " "));)
                if (*name)
                    str_map_put(servers, name, "not in use");
    }
    if (current && *current)
        str_map_put(servers, current, synchronized ? "synchronized" : "being asked");
    return 0;
}

static void model_status(const struct system_settings *s, bool *synchronized, const struct str_map **servers)
{
    *synchronized = s->ntp_mode != NTP_MODE_DISABLED;
    for (size_t i = 0; s->ntp_mode == NTP_MODE_CUSTOM && i < s->ntp_servers_count; i++)
        str_map_put(servers, s->ntp_servers[i], i == 0 ? "synchronized" : "not in use");
}

static int real_status(struct hv_system *sys, bool *synchronized, const struct str_map **servers,
                       struct hv_err *err)
{
    const char *argv[] = {"timedatectl", "show", "--property=NTPSynchronized", "--value", NULL};
    struct buf said AUTO_BUF = BUF_INIT;
    if (check_service(sys, err) < 0 || system_run(sys, argv, &said, err) < 0)
        return -1;
    *synchronized = said.len >= 3 && strncmp(said.data, "yes", 3) == 0;
    return has_chrony(sys) ? chrony_status(sys, servers, err)
                           : timesyncd_status(sys, *synchronized, servers, err);
}

static int check_managed(const struct hv_system *sys, struct hv_err *err)
{
    return sys->env.root ? 0
                         : hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                                   "The host's agent may not look after its system: it was started without "
                                   "--system-root.");
}

int hv_system_clock_status(struct hv_system *sys, bool *synchronized, const struct str_map **servers,
                           struct hv_err *err)
{
    struct system_settings s;
    const struct str_map *found = NULL;
    bool follows = false;
    if (check_managed(sys, err) < 0)
        return -1;
    hv_system_settings(sys, &s);
    int rc = 0;
    if (sys->env.simulated)
        model_status(&s, &follows, &found);
    else if (s.ntp_mode != NTP_MODE_DISABLED)
        rc = real_status(sys, &follows, &found, err);
    system_settings_done(&s);
    if (rc < 0) {
        str_map_unref(found);
        return -1;
    }
    *synchronized = follows;
    *servers = found;
    return 0;
}

int hv_system_clock_set(struct hv_system *sys, int64_t unix_s, struct hv_err *err)
{
    struct system_settings s;
    if (check_managed(sys, err) < 0)
        return -1;
    hv_system_settings(sys, &s);
    bool free_running = s.ntp_mode == NTP_MODE_DISABLED;
    system_settings_done(&s);
    if (!free_running)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The clock follows time servers.");
    char *when AUTO_FREE = xasprintf("--set=@%lld", (long long)unix_s);
    const char *argv[] = {"date", "--utc", when, NULL};
    pthread_mutex_lock(&sys->change);
    int rc = system_run(sys, argv, NULL, err);
    pthread_mutex_unlock(&sys->change);
    return rc;
}
