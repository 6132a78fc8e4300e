/* How the host is doing, from /proc. */
#include "agent.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <stdio.h>

#define STAT_MAX (1 << 20)
#define PIFS_MAX 1000

/* One line "cpuN user nice system idle iowait irq softirq ..." (proc_stat(5)); guests' time is in user. */
static bool read_cpu(const char *line, int64_t *busy_ns, int64_t *idle_ns)
{
    unsigned long long user, nice_time, system, idle, wait, irq = 0, soft = 0;
    int64_t tick_ns = 1000000000LL / sysconf(_SC_CLK_TCK);
    if (sscanf(line, "%*s %llu %llu %llu %llu %llu %llu %llu", &user, &nice_time, &system, &idle, &wait, &irq,
               &soft) < 5)
        return false;
    *busy_ns = (int64_t)(user + nice_time + system + irq + soft) * tick_ns;
    *idle_ns = (int64_t)(idle + wait) * tick_ns;
    return true;
}

static void read_cpus(struct host_stats *stats)
{
    char *text AUTO_FREE = file_read("/proc/stat", STAT_MAX, NULL);
    for (const char *line = text; line && strncmp(line, "cpu", 3) == 0;) {
        int64_t busy = 0, idle = 0;
        if (line[3] == ' ') {
            read_cpu(line, &stats->cpu_busy_ns, &stats->cpu_idle_ns);
        } else if (read_cpu(line, &busy, &idle)) {
            struct cpu_stats *cpu = host_stats_add_cpus(stats);
            cpu->busy_ns = busy;
            cpu->idle_ns = idle;
        }
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
}

/* Interfaces of the machine itself: those with a device behind them, and what containers have instead. */
static bool is_pif(const char *name)
{
    char path[80];
    snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
    return access(path, F_OK) == 0 || strncmp(name, "eth", 3) == 0;
}

/* "  eth0: bytes packets errs drop fifo frame compressed multicast bytes packets errs drop ..." */
static void read_pif(const char *line, struct host_stats *stats)
{
    char name[32];
    long long rx[4], tx[4];
    if (sscanf(line, " %31[^:]: %lld %lld %lld %lld %*d %*d %*d %*d %lld %lld %lld %lld", name, &rx[0],
               &rx[1], &rx[2], &rx[3], &tx[0], &tx[1], &tx[2], &tx[3]) != 9 ||
        !is_pif(name))
        return;
    struct pif_stats *pif = host_stats_add_pifs(stats);
    str_assign(&pif->device, name);
    pif->rx_bytes = rx[0];
    pif->rx_packets = rx[1];
    pif->rx_errors = rx[2] + rx[3];
    pif->tx_bytes = tx[0];
    pif->tx_packets = tx[1];
    pif->tx_errors = tx[2] + tx[3];
}

static void read_pifs(struct host_stats *stats)
{
    char *text AUTO_FREE = file_read("/proc/net/dev", STAT_MAX, NULL);
    const char *line = text ? strchr(text, '\n') : NULL; /* two lines of titles */
    line = line ? strchr(line + 1, '\n') : NULL;
    while (line && line[1] && stats->pifs_count < PIFS_MAX) {
        read_pif(line + 1, stats);
        line = strchr(line + 1, '\n');
    }
}

void host_numbers(const struct agent *agent, struct host_stats *stats)
{
    double load[1] = {0};
    stats->time = clock_unix_seconds();
    read_cpus(stats);
    read_pifs(stats);
    stats->time_us = clock_unix_us();
    stats->load_average = getloadavg(load, 1) == 1 ? load[0] : 0;
    stats->memory_total_bytes = facts_memory_total(agent);
    stats->memory_free_bytes = facts_memory_free();
}
