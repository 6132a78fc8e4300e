/* The numbers of one domain: processor time of its threads from /proc, disks from QMP. User-mode networking
 * counts nothing, so there are no numbers of nics. A device model that hangs costs one short wait, and is
 * then left alone for a while: the numbers of the host's other domains do not wait for it. */
#include "internal.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

#define ANSWER_MS 500
#define AGAIN_MS 30000

static void read_process(pid_t pid, struct domain_stats *stats)
{
    char *path AUTO_FREE = xasprintf("/proc/%d/stat", (int)pid);
    char *text AUTO_FREE = file_read(path, 4096, NULL);
    char *p = text ? strrchr(text, ')') : NULL;
    unsigned long long user, system;
    long pages;
    if (!p ||
        sscanf(p + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %*u %*u %ld",
               &user, &system, &pages) != 3)
        return;
    stats->cpu_ns = (int64_t)((user + system) * (1000000000ULL / (unsigned long)sysconf(_SC_CLK_TCK)));
    stats->memory_bytes = pages * sysconf(_SC_PAGESIZE);
}

/* The thread's times (Documentation/scheduler/sched-stats.rst). `thread` is what the device model says: below
 * its own process it can only name threads of its own. */
static void add_vcpu(pid_t pid, int64_t thread, struct domain_stats *stats)
{
    char *path AUTO_FREE = xasprintf("/proc/%d/task/%lld/schedstat", (int)pid, (long long)thread);
    char *text AUTO_FREE = file_read(path, 256, NULL);
    long long busy, wait;
    if (!text || sscanf(text, "%lld %lld", &busy, &wait) != 2)
        return;
    struct vcpu_stats *vcpu = domain_stats_add_vcpus(stats);
    vcpu->busy_ns = busy;
    vcpu->wait_ns = wait;
}

static int read_vcpus(struct qemu_domain *d, pid_t pid, struct domain_stats *stats)
{
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + ANSWER_MS};
    json_t *cpus AUTO_JSON = NULL, *cpu;
    size_t i;
    int64_t thread;
    if (domain_command(d, "query-cpus-fast", NULL, &deadline, &cpus, NULL) < 0)
        return -1;
    json_array_foreach(cpus, i, cpu) if (json_get_int(cpu, "thread-id", &thread))
        add_vcpu(pid, thread, stats);
    return 0;
}

static void add_disk(const struct domain_disk *config, const json_t *numbers, struct domain_stats *stats)
{
    struct disk_stats *disk = domain_stats_add_disks(stats);
    str_assign(&disk->device, config->device);
    str_assign(&disk->sr, config->sr);
    json_get_int(numbers, "rd_bytes", &disk->read_bytes);
    json_get_int(numbers, "wr_bytes", &disk->written_bytes);
    json_get_int(numbers, "rd_operations", &disk->read_ops);
    json_get_int(numbers, "wr_operations", &disk->write_ops);
    json_get_int(numbers, "rd_total_time_ns", &disk->read_ns);
    json_get_int(numbers, "wr_total_time_ns", &disk->write_ns);
}

static int read_disks(struct qemu_domain *d, struct domain_stats *stats)
{
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + ANSWER_MS};
    json_t *blocks AUTO_JSON = NULL, *block;
    size_t i;
    if (domain_command(d, "query-blockstats", NULL, &deadline, &blocks, NULL) < 0)
        return -1;
    pthread_mutex_lock(&d->lock);
    json_array_foreach(blocks, i, block)
    {
        const char *qdev;
        const struct domain_config *config = &d->record.config;
        for (size_t k = 0; json_get_string(block, "qdev", &qdev) && k < config->disks_count; k++) {
            char id[QEMU_DEVICE_ID_SIZE];
            if (qemu_qdev_is(qdev, qemu_device_id(config->disks[k].device, id)))
                add_disk(&config->disks[k], json_object_get(block, "stats"), stats);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return 0;
}

int qemu_stats(struct hv_driver_state *state, const char *uuid, struct domain_stats *stats,
               struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    pid_t pid = d->dead ? 0 : d->proc.pid;
    int64_t memory = d->info.memory_bytes, domid = d->info.domid;
    bool silent = clock_mono_ms() < d->stats_again_ms;
    pthread_mutex_unlock(&d->lock);
    if (pid <= 0)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain does not run.");
    domain_stats_init(stats);
    str_assign(&stats->uuid, uuid);
    stats->domid = domid;
    stats->guest_memory_bytes = memory;
    read_process(pid, stats);
    if (!silent && (read_vcpus(d, pid, stats) < 0 || read_disks(d, stats) < 0)) {
        pthread_mutex_lock(&d->lock);
        d->stats_again_ms = clock_mono_ms() + AGAIN_MS;
        pthread_mutex_unlock(&d->lock);
    }
    stats->time_us = clock_unix_us();
    return 0;
}
