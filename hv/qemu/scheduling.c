/* How a domain shares the host's processors: weight and cap by a group of its own in a cgroup v2 tree
 * (CGROUP/corral/<uuid>), the mask by the affinity of the processors' threads, which needs no group. */
#include "internal.h"
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define PERIOD_US 100000
#define GROUP "corral"

/* ---- the tree ---- */

static int write_word(int folder, const char *name, const char *text)
{
    /* In a real tree the file is there; in a test's it is made. */
    int fd AUTO_CLOSE = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t len = strlen(text);
    return fd >= 0 && write(fd, text, len) == (ssize_t)len ? 0 : -1;
}

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = text; p && *p; p += strcspn(p, " \n"), p += strspn(p, " \n"))
        if (strncmp(p, word, len) == 0 && strchr(" \n", p[len]))
            return true;
    return false;
}

int scheduling_open(const char *cgroup)
{
    if (!cgroup || !*cgroup)
        return -1;
    char *path AUTO_FREE = xasprintf("%s/cgroup.controllers", cgroup);
    char *controllers AUTO_FREE = file_read(path, 4096, NULL);
    if (!has_word(controllers, "cpu")) {
        log_info("qemu", "weights and caps of processors are not possible here", "why",
                 "no cpu controller of cgroup v2", "cgroup", cgroup);
        return -1;
    }
    int root AUTO_CLOSE = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || (mkdirat(root, GROUP, 0755) < 0 && errno != EEXIST)) {
        log_warn("qemu", "weights and caps of processors are not possible here", "why", strerror(errno));
        return -1;
    }
    int group = openat(root, GROUP, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (group < 0 || write_word(root, "cgroup.subtree_control", "+cpu") < 0 ||
        write_word(group, "cgroup.subtree_control", "+cpu") < 0) {
        log_warn("qemu", "weights and caps of processors are not possible here", "why", strerror(errno));
        if (group >= 0)
            close(group);
        return -1;
    }
    return group;
}

/* Weight 256 of the API is the tree's 100. */
static int set_group(int folder, const struct domain_config *config, pid_t pid)
{
    char text[64];
    int64_t weight = config->cpu_weight > 0 ? (config->cpu_weight * 100 + 128) / 256 : 100;
    snprintf(text, sizeof(text), "%d", (int)(weight < 1 ? 1 : weight > 10000 ? 10000 : weight));
    if (write_word(folder, "cpu.weight", text) < 0)
        return -1;
    if (config->cpu_cap_percent > 0)
        snprintf(text, sizeof(text), "%lld %d", (long long)config->cpu_cap_percent * PERIOD_US / 100,
                 PERIOD_US);
    else
        snprintf(text, sizeof(text), "max %d", PERIOD_US);
    if (write_word(folder, "cpu.max", text) < 0)
        return -1;
    snprintf(text, sizeof(text), "%d", (int)pid);
    return write_word(folder, "cgroup.procs", text);
}

static int apply_group(struct qemu_domain *d, const struct domain_config *config, struct hv_err *err)
{
    int group = d->driver->cgroup_fd;
    bool usual = (config->cpu_weight == 0 || config->cpu_weight == 256) && config->cpu_cap_percent == 0;
    pthread_mutex_lock(&d->lock);
    pid_t pid = d->proc.pidfd >= 0 ? d->proc.pid : 0;
    pthread_mutex_unlock(&d->lock);
    if (group < 0 && !usual)
        log_warn("qemu", "the host cannot weigh or cap a domain's processors: it runs as others do", "domain",
                 d->uuid);
    if (group < 0 || pid == 0)
        return 0;
    if (mkdirat(group, d->uuid, 0755) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's control group cannot be made: %s", strerror(errno));
    int folder AUTO_CLOSE = openat(group, d->uuid, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder < 0 || set_group(folder, config, pid) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The domain's control group cannot be set: %s", strerror(errno));
    return 0;
}

void scheduling_remove(struct hv_driver_state *state, const char *uuid)
{
    static const char *const files[] = {"cpu.weight", "cpu.max", "cgroup.procs"};
    int group = state->cgroup_fd;
    if (group < 0 || unlinkat(group, uuid, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return;
    /* A test's tree, whose files are no kernel's. */
    int folder AUTO_CLOSE = openat(group, uuid, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    for (size_t i = 0; folder >= 0 && i < ARRAY_LEN(files); i++)
        unlinkat(folder, files[i], 0);
    if (unlinkat(group, uuid, AT_REMOVEDIR) < 0)
        log_warn("qemu", "a control group cannot be removed", "domain", uuid, "error", strerror(errno));
}

/* ---- the mask ---- */

static int set_affinity(const json_t *cpus, const cpu_set_t *set, struct hv_err *err)
{
    for (size_t i = 0; i < json_array_size(cpus); i++) {
        int64_t thread;
        /* One that has gone meanwhile is no failure. */
        if (json_get_int(json_array_get(cpus, i), "thread-id", &thread) && thread > 0 &&
            sched_setaffinity((pid_t)thread, sizeof(*set), set) < 0 && errno != ESRCH)
            return hv_fail(err, HV_ERR_KIND_IO, "A processor cannot be bound: %s", strerror(errno));
    }
    return 0;
}

static int apply_mask(struct qemu_domain *d, const char *mask, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    bool processors[HV_CPUS_MAX];
    cpu_set_t set;
    int count = (int)sysconf(_SC_NPROCESSORS_CONF);
    CPU_ZERO(&set);
    if (!hv_cpu_mask_parse(mask, processors, count < HV_CPUS_MAX ? count : HV_CPUS_MAX))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The mask %s names none of the host's %d processors.",
                       mask, count);
    for (int i = 0; i < count && i < HV_CPUS_MAX; i++)
        if (processors[i])
            CPU_SET(i, &set);
    json_t *cpus AUTO_JSON = NULL;
    if (domain_command(d, "query-cpus-fast", NULL, deadline, &cpus, err) < 0)
        return -1;
    return set_affinity(cpus, &set, err);
}

/* ---- the domain ---- */

int domain_schedule(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    pthread_mutex_lock(&d->lock);
    domain_config_copy(&config, &d->record.config);
    pthread_mutex_unlock(&d->lock);
    if (apply_group(d, &config, err) < 0)
        return -1;
    return config.cpu_mask && *config.cpu_mask ? apply_mask(d, config.cpu_mask, deadline, err) : 0;
}

static void set_record(struct rundir_record *record, void *arg)
{
    const struct domain_config *wanted = arg;
    record->config.cpu_weight = wanted->cpu_weight;
    record->config.cpu_cap_percent = wanted->cpu_cap_percent;
    str_assign(&record->config.cpu_mask, wanted->cpu_mask);
}

int qemu_set_scheduling(struct hv_driver_state *state, const char *uuid, const struct domain_config *wanted,
                        const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    if (!d || apply_mask(d, wanted->cpu_mask, deadline, err) < 0 || apply_group(d, wanted, err) < 0)
        return -1;
    return domain_change(d, set_record, (void *)(uintptr_t)wanted, err);
}
