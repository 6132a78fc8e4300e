/* What the host is and how it is doing, read from /proc and uname. What the driver knows is added by its
 * probe. */
#include "agent.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <io/rundir.h>
#include <stdio.h>
#include <sys/utsname.h>

#define VERSION "0.1.0"

/* The value of the first "name   : value" line. The caller frees; NULL: none. */
static char *line_value(const char *text, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = text; line && *line;) {
        const char *end = strchrnul(line, '\n');
        const char *p = line + len;
        if (strncmp(line, name, len) == 0) {
            p += strspn(p, " \t");
            if (*p == ':') {
                p++;
                p += strspn(p, " \t");
                return xstrndup(p, (size_t)(end > p ? end - p : 0));
            }
        }
        line = *end ? end + 1 : NULL;
    }
    return NULL;
}

static int64_t line_number(const char *text, const char *name)
{
    char *value AUTO_FREE = line_value(text, name);
    return value ? strtoll(value, NULL, 10) : 0;
}

static void assign_line(const char **slot, const char *text, const char *name)
{
    char *value AUTO_FREE = line_value(text, name);
    str_assign(slot, value ? value : "");
}

static int count_sockets(const char *cpuinfo)
{
    /* Different "physical id" values; a machine that shows none has one socket. */
    bool seen[256] = {false};
    int count = 0;
    for (const char *p = cpuinfo; (p = strstr(p, "\nphysical id")); p++) {
        const char *colon = strchr(p, ':');
        int id = colon ? atoi(colon + 1) : 0;
        if (id >= 0 && id < 256 && !seen[id]) {
            seen[id] = true;
            count++;
        }
    }
    return count > 0 ? count : 1;
}

static void collect_cpu(struct host_facts *facts)
{
    char *cpuinfo AUTO_FREE = file_read("/proc/cpuinfo", 16 << 20, NULL);
    const char *text = cpuinfo ? cpuinfo : "";
    facts->cpu_count = sysconf(_SC_NPROCESSORS_ONLN);
    facts->cpu_sockets = count_sockets(text);
    assign_line(&facts->cpu_vendor, text, "vendor_id");
    assign_line(&facts->cpu_model_name, text, "model name");
    assign_line(&facts->cpu_flags, text, "flags");
    facts->cpu_family = line_number(text, "cpu family");
    facts->cpu_model = line_number(text, "model");
    facts->cpu_stepping = line_number(text, "stepping");
    char *mhz AUTO_FREE = line_value(text, "cpu MHz");
    facts->cpu_mhz = mhz ? strtod(mhz, NULL) : 0;
}

static int64_t meminfo(const char *name)
{
    char *text AUTO_FREE = file_read("/proc/meminfo", 1 << 16, NULL);
    return text ? line_number(text, name) * 1024 : 0;
}

int64_t facts_memory_free(void)
{
    return meminfo("MemAvailable");
}

int64_t facts_memory_total(const struct agent *agent)
{
    return agent->options.sim_memory_mib > 0 ? agent->options.sim_memory_mib << 20 : meminfo("MemTotal");
}

/* By itself a sixteenth, which is what a small system with this agent and its page cache needs. */
static int64_t memory_reserved(const struct agent *agent)
{
    const int64_t least = 128LL << 20, most = 2LL << 30;
    if (agent->options.reserve_mib >= 0)
        return agent->options.reserve_mib << 20;
    int64_t part = facts_memory_total(agent) / 16;
    return part < least ? least : part > most ? most : part;
}

void facts_boot(struct agent *agent, struct host_facts *facts)
{
    char *path AUTO_FREE = agent_path(agent, "run/.boot");
    char *text AUTO_FREE = file_read(path, 128, NULL);
    char kernel[40], uuid[UUID_TEXT_SIZE];
    host_boot_id(kernel);
    size_t len = strlen(kernel);
    if (text && strlen(text) == len + UUID_TEXT_SIZE && strncmp(text, kernel, len) == 0 && text[len] == ' ') {
        str_assign(&facts->boot_id, text + len + 1);
        return;
    }
    uuid_format(ref_new(), uuid);
    char *fresh AUTO_FREE = xasprintf("%s %s", kernel, uuid);
    if (file_write_atomic(path, fresh, strlen(fresh), 0600) < 0)
        log_warn("facts", "the boot cannot be noted: the next start of the agent counts as one", "error",
                 strerror(errno));
    str_assign(&facts->boot_id, uuid);
}

static void collect_system(struct host_facts *facts)
{
    struct utsname names;
    if (uname(&names) == 0) {
        str_assign(&facts->hostname, names.nodename);
        str_assign(&facts->kernel_version, names.release);
    }
    char *os AUTO_FREE = file_read("/etc/os-release", 1 << 16, NULL);
    char *name = os ? strstr(os, "PRETTY_NAME=\"") : NULL;
    if (name) {
        name += strlen("PRETTY_NAME=\"");
        name[strcspn(name, "\"\n")] = '\0';
        str_assign(&facts->os_name, name);
    }
    char *uptime AUTO_FREE = file_read("/proc/uptime", 128, NULL);
    facts->boot_time = clock_unix_seconds() - (uptime ? (int64_t)strtod(uptime, NULL) : 0);
    facts->agent_start_time = clock_unix_seconds();
}

void facts_collect(const struct agent *agent, struct host_facts *facts)
{
    str_assign(&facts->agent_version, VERSION);
    collect_cpu(facts);
    collect_system(facts);
    facts->memory_total_bytes = facts_memory_total(agent);
    facts->memory_reserved_bytes = memory_reserved(agent);
    facts->memory_free_bytes = facts_memory_free();
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void facts_images(struct agent *agent, struct host_facts *facts)
{
    DIR *list = agent->images_fd >= 0 ? opendir(agent->images_dir) : NULL;
    for (struct dirent *e; list && facts->images_count < 1000 && (e = readdir(list));)
        if (hv_file_name_ok(e->d_name) && e->d_type != DT_DIR)
            host_facts_add_images(facts, e->d_name);
    if (list)
        closedir(list);
    if (facts->images_count > 1)
        qsort(facts->images, facts->images_count, sizeof(facts->images[0]), by_name);
}
