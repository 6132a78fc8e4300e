/* The host's own system, below a root of the test's: which files and programs each setting ends up in, what
 * is refused, what is put in place again. Programs are stand-ins that note their arguments. */
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <hv/system.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define WITHIN_MS 30000

struct place {
    char dir[64], root[80], tools[80], note[80];
    struct hv_system *sys;
    _Atomic int changes;
};

static void changed(void *ctx)
{
    struct place *p = ctx;
    atomic_fetch_add(&p->changes, 1);
}

static char *below(const struct place *p, const char *path)
{
    return xasprintf("%s%s", p->root, path);
}

static void put(const struct place *p, const char *path, const char *text)
{
    char *full AUTO_FREE = below(p, path);
    for (char *slash = strchr(full + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    cr_assert_eq(file_write_atomic(full, text, strlen(text), 0644), 0);
}

/* The caller frees; "" when there is none. */
static char *get(const struct place *p, const char *path)
{
    char *full AUTO_FREE = below(p, path), *text = file_read(full, 65536, NULL);
    return text ? text : xstrdup("");
}

static void tool(const struct place *p, const char *name, const char *says)
{
    char *path AUTO_FREE = xasprintf("%s/%s", p->tools, name);
    char *text AUTO_FREE = xasprintf("#!/bin/sh\necho \"%s $*\" >> %s/ran\n%s\n", name, p->root, says);
    cr_assert_eq(file_write_atomic(path, text, strlen(text), 0755), 0);
}

static void open_system(struct place *p)
{
    const struct hv_system_env env = {.state_file = p->note,
                                      .root = p->root,
                                      .tools = p->tools,
                                      .silence_s = 1,
                                      .changed = changed,
                                      .ctx = p};
    struct hv_err err = {0};
    cr_assert_eq(hv_system_open(&env, &p->sys, &err), 0, "%s", err.text);
}

static void begin(struct place *p)
{
    *p = (struct place){.dir = "/tmp/corral-system-XXXXXX"};
    cr_assert_not_null(mkdtemp(p->dir));
    snprintf(p->root, sizeof(p->root), "%s/root", p->dir);
    snprintf(p->tools, sizeof(p->tools), "%s/tools", p->dir);
    snprintf(p->note, sizeof(p->note), "%s/note", p->dir);
    mkdir(p->tools, 0755);
    put(p, "/ran", "");
    tool(p, "systemctl", "");
    tool(p, "timedatectl", "");
    tool(p, "chronyc", "");
    tool(p, "date", "");
}

static void end(struct place *p)
{
    const char *argv[] = {"rm", "-rf", p->dir, NULL};
    const struct proc_spec spec = {.argv = argv};
    const struct proc_run_options options = {.timeout_ms = WITHIN_MS};
    struct proc_result ran AUTO_PROC_RESULT = PROC_RESULT_INIT;
    hv_system_close(p->sys);
    cr_assert_eq(proc_run(&spec, &options, &ran), 0);
}

static void expect_file(const struct place *p, const char *path, const char *text)
{
    char *now AUTO_FREE = get(p, path);
    cr_assert_str_eq(now, text, "%s: %s", path, now);
}

static void expect_ran(const struct place *p, const char *lines)
{
    expect_file(p, "/ran", lines);
    put(p, "/ran", "");
}

static struct system_settings settings(void)
{
    struct system_settings s;
    system_settings_init(&s);
    return s;
}

static void must_set(struct place *p, enum system_part part, struct system_settings *s)
{
    struct hv_err err = {0};
    cr_assert_eq(hv_system_set(p->sys, part, s, &err), 0, "%s", err.text);
    system_settings_done(s);
}

static void must_refuse(struct place *p, enum system_part part, struct system_settings *s,
                        enum hv_err_kind kind)
{
    struct hv_err err = {0};
    cr_assert_eq(hv_system_set(p->sys, part, s, &err), -1);
    cr_assert_eq(err.kind, kind, "%s", err.text);
    system_settings_done(s);
}

static struct system_settings now(const struct place *p)
{
    struct system_settings s;
    hv_system_settings(p->sys, &s);
    return s;
}

static bool ssh_is(const struct place *p, bool open)
{
    struct system_settings s = now(p);
    bool is = s.ssh_enabled == open;
    system_settings_done(&s);
    return is;
}

static void until_ssh(const struct place *p, bool open)
{
    int64_t end_ms = clock_mono_ms() + WITHIN_MS;
    const struct timespec moment = {.tv_nsec = 20000000};
    while (!ssh_is(p, open) && clock_mono_ms() < end_ms)
        nanosleep(&moment, NULL);
    cr_assert(ssh_is(p, open));
}

/* ---- SSH ---- */

static void set_ssh(struct place *p, bool enabled, int64_t expiry, bool automatic)
{
    struct system_settings s = settings();
    s.ssh_enabled = enabled;
    s.ssh_expiry = expiry;
    s.ssh_auto = automatic;
    must_set(p, SYSTEM_PART_SSH, &s);
}

Test(system, ssh_opens_and_closes)
{
    struct place p;
    begin(&p);
    put(&p, "/lib/systemd/system/ssh.service", "");
    put(&p, "/etc/systemd/system/sockets.target.wants/ssh.socket", "");
    open_system(&p);
    cr_assert(ssh_is(&p, true)); /* the stand-in says that it is active */
    expect_ran(&p, "systemctl is-active --quiet ssh.service\n");
    set_ssh(&p, false, 0, false);
    expect_ran(&p, "systemctl disable --now ssh.socket\nsystemctl disable --now ssh.service\n");
    set_ssh(&p, true, 0, false);
    expect_ran(&p, "systemctl enable --now ssh.service\n");
    end(&p);
}

Test(system, ssh_closes_in_time_also_over_a_restart)
{
    struct place p;
    begin(&p);
    put(&p, "/lib/systemd/system/sshd.service", "");
    open_system(&p);
    set_ssh(&p, true, clock_unix_seconds() + 1, false);
    until_ssh(&p, false);
    set_ssh(&p, true, clock_unix_seconds() + 3600, false);
    hv_system_close(p.sys);
    /* It had closed while no agent ran. */
    char *text AUTO_FREE = file_read(p.note, 65536, NULL), *expiry = strstr(text, "\"ssh_expiry\":");
    cr_assert_not_null(expiry);
    expiry += strlen("\"ssh_expiry\":");
    cr_assert_eq(strspn(expiry, " 0123456789") >= 10, true);
    memset(expiry + strspn(expiry, " "), '1', 10); /* in 2005 */
    cr_assert_eq(file_write_atomic(p.note, text, strlen(text), 0600), 0);
    open_system(&p);
    until_ssh(&p, false);
    end(&p);
}

Test(system, ssh_opens_while_the_server_is_silent)
{
    struct place p;
    begin(&p);
    put(&p, "/lib/systemd/system/ssh.service", "");
    open_system(&p);
    hv_system_heard(p.sys);
    set_ssh(&p, false, 0, true);
    until_ssh(&p, true);
    int64_t end_ms = clock_mono_ms() + WITHIN_MS;
    const struct timespec moment = {.tv_nsec = 20000000};
    while (!ssh_is(&p, false) && clock_mono_ms() < end_ms) {
        hv_system_heard(p.sys);
        nanosleep(&moment, NULL);
    }
    cr_assert(ssh_is(&p, false));
    cr_assert_geq(atomic_load(&p.changes), 1);
    end(&p);
}

Test(system, what_a_host_does_not_have_is_refused_with_words)
{
    struct place p;
    begin(&p);
    open_system(&p);
    for (int part = 0; part <= SYSTEM_PART_DISPLAY; part++) {
        struct system_settings s = settings();
        if (part != SYSTEM_PART_CONSOLE_IDLE)
            must_refuse(&p, part, &s, HV_ERR_KIND_UNSUPPORTED);
        else
            system_settings_done(&s);
    }
    struct system_settings s = settings(), after = now(&p);
    str_assign(&s.syslog, "logs.example");
    must_refuse(&p, SYSTEM_PART_SYSLOG, &s, HV_ERR_KIND_UNSUPPORTED);
    cr_assert_eq(after.parts_count, 0);
    system_settings_done(&after);
    end(&p);
}

Test(system, an_agent_without_a_root_changes_nothing)
{
    struct place p;
    begin(&p);
    const struct hv_system_env env = {.state_file = p.note, .tools = p.tools};
    struct hv_err err;
    cr_assert_eq(hv_system_open(&env, &p.sys, &err), 0);
    for (int part = 0; part < SYSTEM_PART_IGMP_SNOOPING; part++) {
        struct system_settings s = settings();
        must_refuse(&p, part, &s, HV_ERR_KIND_UNSUPPORTED);
    }
    cr_assert_eq(hv_system_clock_set(p.sys, 1, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED);
    struct system_settings s = now(&p);
    cr_assert_not(s.managed);
    system_settings_done(&s);
    expect_file(&p, "/ran", "");
    end(&p);
}

Test(system, a_failed_program_leaves_the_note_as_it_was)
{
    struct place p;
    begin(&p);
    put(&p, "/lib/systemd/system/ssh.service", "");
    tool(&p, "systemctl", "[ $1 != disable ]");
    open_system(&p);
    struct system_settings s = settings();
    s.ssh_enabled = false;
    must_refuse(&p, SYSTEM_PART_SSH, &s, HV_ERR_KIND_IO);
    cr_assert(ssh_is(&p, true));
    end(&p);
}

/* ---- shells, zone, logs ---- */

Test(system, idle_shells_end)
{
    struct place p;
    begin(&p);
    open_system(&p);
    struct system_settings s = settings();
    s.console_idle_seconds = 600;
    must_set(&p, SYSTEM_PART_CONSOLE_IDLE, &s);
    expect_file(&p, "/etc/profile.d/corral-idle.sh",
                "# Written by hostd.\nTMOUT=600\nreadonly TMOUT\nexport TMOUT\n");
    s = settings();
    must_set(&p, SYSTEM_PART_CONSOLE_IDLE, &s);
    expect_file(&p, "/etc/profile.d/corral-idle.sh", "");
    end(&p);
}

Test(system, time_zones)
{
    struct place p;
    char target[256] = "";
    struct hv_err err;
    AUTO_STR_SET const struct str_set *zones = NULL;
    static const char *const bad[] = {"../../etc/passwd", "Europe/Nowhere", "-x", "Europe/Berlin\n"};
    begin(&p);
    put(&p, "/usr/share/zoneinfo/tzdata.zi",
        "# version\nR d 1 2\nZ Europe/Berlin 0:53 - LMT 1893\n1 - CET\n"
        "L Europe/Berlin Arctic/Longyearbyen\nL odd\n");
    put(&p, "/etc/hostname", "");
    open_system(&p);
    cr_assert_eq(hv_system_timezones(p.sys, &zones, &err), 0);
    cr_assert_eq(zones->count, 3);
    cr_assert(str_set_has(zones, "Europe/Berlin") && str_set_has(zones, "Arctic/Longyearbyen") &&
              str_set_has(zones, "UTC"));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct system_settings s = settings();
        str_assign(&s.timezone, bad[i]);
        must_refuse(&p, SYSTEM_PART_TIMEZONE, &s, HV_ERR_KIND_BAD_ARGUMENT);
    }
    struct system_settings s = settings();
    str_assign(&s.timezone, "Europe/Berlin");
    must_set(&p, SYSTEM_PART_TIMEZONE, &s);
    char *path AUTO_FREE = below(&p, "/etc/localtime");
    cr_assert_gt(readlink(path, target, sizeof(target) - 1), 0);
    cr_assert_str_eq(target, "/usr/share/zoneinfo/Europe/Berlin");
    expect_file(&p, "/etc/timezone", "Europe/Berlin\n");
    /* Another agent finds it so. */
    hv_system_close(p.sys);
    unlink(p.note);
    open_system(&p);
    s = now(&p);
    cr_assert_str_eq(s.timezone, "Europe/Berlin");
    system_settings_done(&s);
    end(&p);
}

Test(system, logs_go_elsewhere)
{
    static const char *const bad[] = {"-x", "a b", "a\"b", "a\nb", "a;b", "a,b", "$x", ""};
    struct place p;
    begin(&p);
    put(&p, "/etc/rsyslog.conf", "");
    open_system(&p);
    for (size_t i = 0; i < ARRAY_LEN(bad) - 1; i++) {
        struct system_settings s = settings();
        str_assign(&s.syslog, bad[i]);
        must_refuse(&p, SYSTEM_PART_SYSLOG, &s, HV_ERR_KIND_BAD_ARGUMENT);
    }
    put(&p, "/ran", "");
    struct system_settings s = settings();
    str_assign(&s.syslog, "logs.example");
    must_set(&p, SYSTEM_PART_SYSLOG, &s);
    expect_file(&p, "/etc/rsyslog.d/90-corral.conf",
                "# Written by hostd.\naction(type=\"omfwd\" target=\"logs.example\" port=\"514\" "
                "protocol=\"udp\")\n");
    expect_ran(&p, "systemctl restart rsyslog.service\n");
    s = settings();
    must_set(&p, SYSTEM_PART_SYSLOG, &s);
    expect_file(&p, "/etc/rsyslog.d/90-corral.conf", "");
    end(&p);
}

/* ---- the clock ---- */

static void set_ntp(struct place *p, enum ntp_mode mode, const char *server)
{
    struct system_settings s = settings();
    s.ntp_mode = mode;
    if (server)
        system_settings_add_ntp_servers(&s, server);
    must_set(p, SYSTEM_PART_NTP, &s);
}

Test(system, time_servers_by_timesyncd)
{
    static const char conf[] = "/etc/systemd/timesyncd.conf.d/zz-corral.conf";
    struct place p;
    begin(&p);
    put(&p, "/usr/lib/systemd/system/systemd-timesyncd.service", "");
    open_system(&p);
    put(&p, "/ran", "");
    set_ntp(&p, NTP_MODE_CUSTOM, "time.example");
    expect_file(&p, conf, "# Written by hostd.\n[Time]\nNTP=\nNTP=time.example\nFallbackNTP=\n");
    expect_ran(&p,
               "systemctl enable systemd-timesyncd.service\nsystemctl restart systemd-timesyncd.service\n");
    set_ntp(&p, NTP_MODE_FACTORY, NULL);
    expect_file(&p, conf, "# Written by hostd.\n[Time]\nNTP=\n");
    set_ntp(&p, NTP_MODE_DHCP, NULL);
    expect_file(&p, conf, "");
    put(&p, "/ran", "");
    set_ntp(&p, NTP_MODE_DISABLED, NULL);
    expect_ran(&p, "systemctl disable --now systemd-timesyncd.service\n");
    end(&p);
}

Test(system, time_servers_by_chrony)
{
    static const char own[] = "confdir /etc/chrony/conf.d\npool 2.debian.pool.ntp.org iburst\n"
                              "sourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\nmakestep 1 3\n";
    struct place p;
    begin(&p);
    put(&p, "/etc/chrony/chrony.conf", own);
    open_system(&p);
    put(&p, "/ran", "");
    set_ntp(&p, NTP_MODE_CUSTOM, "2001:db8::1");
    expect_file(&p, "/etc/chrony/sources.d/corral.sources", "server 2001:db8::1 iburst\n");
    expect_file(&p, "/etc/chrony/chrony.conf",
                "confdir /etc/chrony/conf.d\n#corral# pool 2.debian.pool.ntp.org iburst\n"
                "#corral# sourcedir /run/chrony-dhcp\nsourcedir /etc/chrony/sources.d\nmakestep 1 3\n");
    expect_ran(&p, "systemctl enable chrony.service\nsystemctl restart chrony.service\n");
    set_ntp(&p, NTP_MODE_FACTORY, NULL);
    expect_file(&p, "/etc/chrony/sources.d/corral.sources", "");
    char *text AUTO_FREE = get(&p, "/etc/chrony/chrony.conf");
    cr_assert(strstr(text, "\npool 2") && strstr(text, "#corral# sourcedir /run/chrony-dhcp"));
    set_ntp(&p, NTP_MODE_DHCP, NULL);
    set_ntp(&p, NTP_MODE_DISABLED, NULL);
    expect_file(&p, "/etc/chrony/chrony.conf", own);
    end(&p);
}

Test(system, odd_time_servers_are_refused)
{
    static const char *const bad[] = {"-x", "a b", "a\nserver b", "a#", "", NULL};
    struct place p;
    begin(&p);
    put(&p, "/etc/chrony/chrony.conf", "");
    open_system(&p);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct system_settings s = settings();
        s.ntp_mode = NTP_MODE_CUSTOM;
        if (bad[i])
            system_settings_add_ntp_servers(&s, bad[i]);
        must_refuse(&p, SYSTEM_PART_NTP, &s, HV_ERR_KIND_BAD_ARGUMENT);
    }
    end(&p);
}

Test(system, what_the_clock_follows)
{
    struct place p;
    struct hv_err err = {0};
    bool synchronized = false;
    begin(&p);
    put(&p, "/etc/chrony/chrony.conf", "");
    tool(&p, "timedatectl", "echo yes");
    tool(&p, "chronyc",
         "echo '^,*,192.0.2.1,2,6,377,1,0.1,0.1,0.1'; echo '^,?,time.example,0,6,0,1,0,0,0'; echo odd");
    open_system(&p);
    const struct str_map *servers = NULL;
    cr_assert_eq(hv_system_clock_status(p.sys, &synchronized, &servers, &err), 0, "%s", err.text);
    cr_assert(synchronized);
    cr_assert_str_eq(str_map_get(servers, "192.0.2.1"), "synchronized");
    cr_assert_str_eq(str_map_get(servers, "time.example"), "unreachable");
    str_map_unref(servers);
    char *conf AUTO_FREE = below(&p, "/etc/chrony/chrony.conf");
    unlink(conf);
    put(&p, "/lib/systemd/system/systemd-timesyncd.service", "");
    tool(&p, "timedatectl",
         "[ $1 = show ] && echo no || printf 'LinkNTPServers=\\nSystemNTPServers=a b\\nServerName=b\\n'");
    cr_assert_eq(hv_system_clock_status(p.sys, &synchronized, &servers, &err), 0, "%s", err.text);
    cr_assert_not(synchronized);
    cr_assert_str_eq(str_map_get(servers, "a"), "not in use");
    cr_assert_str_eq(str_map_get(servers, "b"), "being asked");
    str_map_unref(servers);
    end(&p);
}

Test(system, the_clock_is_set_only_while_it_follows_nobody)
{
    struct place p;
    struct hv_err err = {0};
    begin(&p);
    put(&p, "/etc/chrony/chrony.conf", "");
    open_system(&p);
    cr_assert_eq(hv_system_clock_set(p.sys, 1000, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_STATE);
    set_ntp(&p, NTP_MODE_DISABLED, NULL);
    put(&p, "/ran", "");
    cr_assert_eq(hv_system_clock_set(p.sys, 1000, &err), 0, "%s", err.text);
    expect_ran(&p, "date --utc --set=@1000\n");
    end(&p);
}

/* ---- the kernel's switches ---- */

Test(system, processors_sleep_no_deeper_and_again_after_a_restart)
{
    static const char *const states[] = {"POLL", "C1", "C1E", "C6"};
    static const struct {
        const char *limit, *off;
    } table[] = {{"1", "0001"}, {"0", "0111"}, {"6", "0000"}, {"", "0000"}, {"3", "0001"}};
    struct place p;
    begin(&p);
    put(&p, "/sys/devices/system/cpu/cpufreq/x", "");
    for (int i = 0; i < 4; i++) {
        char path[128];
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu1/cpuidle/state%d/name", i);
        put(&p, path, states[i]);
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu1/cpuidle/state%d/disable", i);
        put(&p, path, "0");
    }
    open_system(&p);
    for (size_t t = 0; t < ARRAY_LEN(table); t++) {
        struct system_settings s = settings();
        str_assign(&s.max_cstate, table[t].limit);
        must_set(&p, SYSTEM_PART_CSTATE, &s);
        for (int i = 0; i < 4; i++) {
            char path[128], want[2] = {table[t].off[i], '\0'};
            snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu1/cpuidle/state%d/disable", i);
            expect_file(&p, path, want);
        }
    }
    struct system_settings s = settings();
    str_assign(&s.max_cstate, "C1");
    must_refuse(&p, SYSTEM_PART_CSTATE, &s, HV_ERR_KIND_BAD_ARGUMENT);
    /* The last limit, 3, is in force again after a boot. */
    hv_system_close(p.sys);
    static const char deepest[] = "/sys/devices/system/cpu/cpu1/cpuidle/state3/disable";
    put(&p, deepest, "0");
    open_system(&p);
    int64_t end_ms = clock_mono_ms() + WITHIN_MS;
    for (bool done = false; !done && clock_mono_ms() < end_ms;) {
        char *text AUTO_FREE = get(&p, deepest);
        done = streq(text, "1");
    }
    expect_file(&p, deepest, "1");
    end(&p);
}

Test(system, screens_and_bridges)
{
    struct place p;
    begin(&p);
    put(&p, "/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n");
    put(&p, "/sys/class/vtconsole/vtcon0/bind", "1");
    put(&p, "/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n");
    put(&p, "/sys/class/vtconsole/vtcon1/bind", "1");
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof(path), "/sys/class/net/br%d/ifalias", i);
        put(&p, path, i == 1 ? "" : "corral:11111111-1111-4111-8111-111111111111\n");
        snprintf(path, sizeof(path), "/sys/class/net/br%d/bridge/multicast_snooping", i);
        put(&p, path, "0");
    }
    open_system(&p);
    struct system_settings s = settings();
    s.display = false;
    must_set(&p, SYSTEM_PART_DISPLAY, &s);
    expect_file(&p, "/sys/class/vtconsole/vtcon0/bind", "1");
    expect_file(&p, "/sys/class/vtconsole/vtcon1/bind", "0");
    s = settings();
    s.igmp_snooping = true;
    must_set(&p, SYSTEM_PART_IGMP_SNOOPING, &s);
    expect_file(&p, "/sys/class/net/br0/bridge/multicast_snooping", "1");
    expect_file(&p, "/sys/class/net/br1/bridge/multicast_snooping", "0"); /* not ours */
    put(&p, "/sys/class/net/br2/bridge/multicast_snooping", "0");
    hv_system_bridge_made(p.sys, "br2");
    expect_file(&p, "/sys/class/net/br2/bridge/multicast_snooping", "1");
    end(&p);
}

Test(system, a_simulated_host_has_all_of_it)
{
    struct place p;
    struct hv_err err = {0};
    begin(&p);
    const struct hv_system_env env = {.state_file = p.note, .root = p.tools, .simulated = true};
    cr_assert_eq(hv_system_open(&env, &p.sys, &err), 0, "%s", err.text);
    for (int part = 0; part <= SYSTEM_PART_IGMP_SNOOPING; part++) {
        struct system_settings s = settings();
        must_set(&p, part, &s);
    }
    end(&p);
}
