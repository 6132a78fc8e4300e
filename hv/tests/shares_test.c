/* How domains share the host's processors, and how they end, on real QEMU. */
#include "agent_fixture.h"
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static struct fixture f;

static void stop(void)
{
    fixture_stop(&f);
}

static void start_qemu(void)
{
    fixture_start(&f, "qemu");
}

TestSuite(qemu, .init = start_qemu, .fini = stop, .timeout = 240);

/* hostd anew, with the options of f. */
static void again(void)
{
    fixture_kill(&f);
    fixture_launch(&f);
}

static char *content(const char *folder, const char *below, const char *name)
{
    char *path AUTO_FREE = xasprintf("%s/%s/%s", folder, below, name);
    char *text = file_read(path, 4096, NULL);
    if (text)
        text[strcspn(text, "\n")] = '\0';
    return text ? text : xstrdup("(none)");
}

/* The threads of a process that run a guest's processors: how many may run on exactly these. */
static int bound(int64_t pid, const char *list)
{
    char folder[64];
    int count = 0;
    snprintf(folder, sizeof(folder), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(folder);
    for (struct dirent *e; tasks && (e = readdir(tasks));) {
        char *name AUTO_FREE = content(folder, e->d_name, "comm");
        char path[512];
        snprintf(path, sizeof(path), "%s/%s/status", folder, e->d_name);
        char *status AUTO_FREE = strncmp(name, "CPU ", 4) == 0 ? file_read(path, 8192, NULL) : NULL;
        char *line = status ? strstr(status, "Cpus_allowed_list:\t") : NULL;
        if (!line)
            continue;
        line += strlen("Cpus_allowed_list:\t");
        line[strcspn(line, "\n")] = '\0';
        count += streq(line, list);
    }
    if (tasks)
        closedir(tasks);
    return count;
}

static int schedule(int64_t weight, int64_t cap, const char *mask, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_domain_set_scheduling_args args;
    struct hv_domain_set_scheduling_result result;
    hv_domain_set_scheduling_args_init(&args);
    str_assign(&args.domain, VM);
    args.weight = weight;
    args.cap_percent = cap;
    str_assign(&args.mask, mask);
    int rc = hv_domain_set_scheduling(f.host, &op, &args, &result, err);
    hv_domain_set_scheduling_args_done(&args);
    return rc;
}

Test(qemu, weight_cap_and_mask)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    char tree[128], file[256];
    snprintf(tree, sizeof(tree), "%s/cgroup", f.dir);
    snprintf(file, sizeof(file), "%s/cgroup.controllers", tree);
    mkdir(tree, 0700);
    cr_assert_eq(file_write_atomic(file, "cpuset cpu io\n", 14, 0600), 0);
    f.cgroup = tree;
    again();
    fixture_storage(&f);
    small_domain(&config);
    config.vcpus = 2;
    config.cpu_weight = 512;
    config.cpu_cap_percent = 150;
    str_assign(&config.cpu_mask, "0");
    struct domain_info info AUTO_DOMAIN_INFO = must_start(&f, &config);
    cr_assert_eq(bound(info.pid, "0"), 2);
    char *weight AUTO_FREE = content(tree, "corral/" VM, "cpu.weight");
    char *max AUTO_FREE = content(tree, "corral/" VM, "cpu.max");
    char *members AUTO_FREE = content(tree, "corral/" VM, "cgroup.procs");
    cr_assert_str_eq(weight, "200");
    cr_assert_str_eq(max, "150000 100000");
    cr_assert_eq(atoi(members), info.pid);
    /* Live, and again after a death of the agent. */
    cr_assert_eq(schedule(64, 0, "", &err), 0, "%s", err.text);
    cr_assert_eq(bound(info.pid, "0"), sysconf(_SC_NPROCESSORS_CONF) == 1 ? 2 : 0);
    again();
    cr_assert_eq(schedule(64, 50, "0", &err), 0, "%s", err.text);
    cr_assert_eq(bound(info.pid, "0"), 2);
    free(weight);
    free(max);
    weight = content(tree, "corral/" VM, "cpu.weight");
    max = content(tree, "corral/" VM, "cpu.max");
    cr_assert_str_eq(weight, "25");
    cr_assert_str_eq(max, "50000 100000");
    cr_assert_eq(schedule(64, 0, "4000", &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    cr_assert_eq(schedule(64, 0, "1000", &err), -1, "the host has no such processor");
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    snprintf(file, sizeof(file), "%s/corral/%s", tree, VM);
    cr_assert_neq(access(file, F_OK), 0, "the group goes with the domain");
}

Test(qemu, a_host_without_control_groups)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    config.cpu_weight = 512;
    struct domain_info info AUTO_DOMAIN_INFO = must_start(&f, &config);
    cr_assert_eq(schedule(512, 0, "0", &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED, "%s", err.text);
    cr_assert_eq(schedule(256, 0, "0", &err), 0, "%s", err.text);
    cr_assert_eq(bound(info.pid, "0"), 1);
}

static void crash(const char *cursor, enum domain_state wanted)
{
    struct stream *console = must_console(&f, "serial");
    must_see(console, "guest is up");
    cr_assert_eq(stream_write_all(console, "c", 1, 5000), 0);
    if (wanted != DOMAIN_STATE_RUNNING)
        must_become(&f, cursor, wanted, END_REASON_GUEST_CRASH, 60000);
    else
        must_see(console, "guest is up");
    stream_close(console);
}

Test(qemu, ends_of_a_guest_that_crashes)
{
    static const struct {
        enum end_action action;
        bool dump;
        const char *min_uptime;
        enum domain_state wanted;
        const char *text;
    } table[] = {
        {END_ACTION_DESTROY, true, NULL, DOMAIN_STATE_GONE, "crashdumps/"},
        {END_ACTION_RESTART, false, NULL, DOMAIN_STATE_RUNNING, NULL},
        {END_ACTION_RESTART, false, "3600", DOMAIN_STATE_GONE, "is not started again"},
        {END_ACTION_PRESERVE, true, NULL, DOMAIN_STATE_CRASHED, "crashdumps/"},
    };
    fixture_storage(&f);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct domain_config config AUTO_DOMAIN_CONFIG;
        f.min_uptime = table[i].min_uptime;
        again();
        small_domain(&config);
        config.on_crash = table[i].action;
        config.coredump = table[i].dump;
        char *cursor AUTO_FREE = cursor_now(&f);
        struct domain_info info AUTO_DOMAIN_INFO = must_start(&f, &config);
        crash(cursor, table[i].wanted);
        domain_info_done(&info);
        info = must_info(&f);
        cr_assert_eq(info.state, table[i].wanted, "row %zu", i);
        if (table[i].text)
            cr_assert(strstr(info.end_text, table[i].text), "row %zu: %s", i, info.end_text);
        if (info.state != DOMAIN_STATE_GONE)
            must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
        else
            must_call(&f, HV_CALL_DOMAIN_FORGET, VM);
    }
    cr_assert_geq(fixture_count(&f, "crashdumps"), 1);
    char folder[160];
    snprintf(folder, sizeof(folder), "%s/crashdumps", f.state);
    DIR *list = opendir(folder);
    for (struct dirent *e; (e = readdir(list));) {
        char path[512];
        struct stat st;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        if (e->d_name[0] == '.')
            continue;
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_geq(st.st_size, 32 << 20, "all of its memory is in %s", e->d_name);
    }
    closedir(list);
    /* What the port said stays, and of the run before too. */
    char *last AUTO_FREE = content(f.state, "serial", VM ".log"),
               *before AUTO_FREE = content(f.state, "serial", VM ".log.1");
    cr_assert_str_neq(last, "(none)");
    cr_assert_str_neq(before, "(none)");
}
