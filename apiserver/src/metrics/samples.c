/* See samples.h. Rates are left to the archives (DERIVE); what is a quotient of two counters, such as a
 * latency, is worked out here from one look to the next. */
#include "samples.h"

#include <base/mem.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define MIB (1024.0 * 1024.0)

void samples_done(struct samples *s)
{
    for (size_t i = 0; i < s->count; i++)
        free((char *)(uintptr_t)s->items[i].name);
    free(s->items);
    *s = (struct samples){0};
}

void samples_add(struct samples *s, bool standard, enum rrd_kind kind, double max, double value,
                 const char *name, ...)
{
    char text[RRD_NAME_MAX + 1];
    va_list ap;
    va_start(ap, name);
    vsnprintf(text, sizeof(text), name, ap);
    va_end(ap);
    if (s->count == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->items = xreallocarray(s->items, s->cap, sizeof(*s->items));
    }
    s->items[s->count++] = (struct rrd_sample){
        .name = xstrdup(text), .kind = kind, .min = 0, .max = max, .value = value, .standard = standard};
}

const struct rrd_sample *samples_find(const struct samples *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (streq(s->items[i].name, name))
            return &s->items[i];
    return NULL;
}

/* The usual kinds. */
static void gauge(struct samples *s, const char *name, double value)
{
    samples_add(s, true, RRD_GAUGE, INFINITY, value, "%s", name);
}

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* ---- I/O ---- */

static struct io_count io_of(const struct disk_stats *disk)
{
    return (struct io_count){disk->read_bytes, disk->written_bytes, disk->read_ops,
                             disk->write_ops,  disk->read_ns,       disk->write_ns};
}

static int64_t grown(int64_t before, int64_t after)
{
    return after > before ? after - before : 0;
}

/* What came between two looks; nothing when the counters began anew. */
static struct io_count io_between(const struct io_count *before, const struct io_count *after)
{
    return (struct io_count){
        grown(before->read_bytes, after->read_bytes), grown(before->written_bytes, after->written_bytes),
        grown(before->read_ops, after->read_ops),     grown(before->write_ops, after->write_ops),
        grown(before->read_ns, after->read_ns),       grown(before->write_ns, after->write_ns)};
}

void io_add(struct io_count *to, const struct io_count *more)
{
    to->read_bytes += more->read_bytes;
    to->written_bytes += more->written_bytes;
    to->read_ops += more->read_ops;
    to->write_ops += more->write_ops;
    to->read_ns += more->read_ns;
    to->write_ns += more->write_ns;
}

/* Mean time of one request in nanoseconds; 0 when there was none. */
static double mean_ns(int64_t ns, int64_t ops)
{
    return ops > 0 ? (double)ns / (double)ops : 0;
}

/* Part of the time in which requests were under way. */
static double busy_part(const struct io_count *moved, double interval_s)
{
    double part = interval_s > 0 ? seconds(moved->read_ns + moved->write_ns) / interval_s : 0;
    return part < 1 ? part : 1;
}

static void add_disk(struct samples *s, const struct disk_stats *disk, const struct io_count *moved,
                     double interval_s)
{
    const char *dev = disk->device;
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)disk->read_bytes, "vbd_%s_read", dev);
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)disk->written_bytes, "vbd_%s_write", dev);
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)disk->read_ops, "vbd_%s_iops_read", dev);
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)disk->write_ops, "vbd_%s_iops_write", dev);
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)(disk->read_ops + disk->write_ops),
                "vbd_%s_iops_total", dev);
    samples_add(s, true, RRD_GAUGE, INFINITY,
                mean_ns(moved->read_ns + moved->write_ns, moved->read_ops + moved->write_ops) / 1e3,
                "vbd_%s_latency", dev);
    samples_add(s, true, RRD_GAUGE, INFINITY, mean_ns(moved->read_ns, moved->read_ops) / 1e3,
                "vbd_%s_read_latency", dev);
    samples_add(s, true, RRD_GAUGE, INFINITY, mean_ns(moved->write_ns, moved->write_ops) / 1e3,
                "vbd_%s_write_latency", dev);
    samples_add(s, true, RRD_GAUGE, 1, busy_part(moved, interval_s), "vbd_%s_iowait", dev);
    samples_add(s, true, RRD_DERIVE, INFINITY, seconds(disk->read_ns + disk->write_ns), "vbd_%s_avgqu_sz",
                dev);
}

/* ---- domains ---- */

void domain_look_done(struct domain_look *look)
{
    free(look->disks);
    *look = (struct domain_look){0};
}

static const struct io_count *disk_before(const struct domain_look *look, const char *device)
{
    for (size_t i = 0; look->valid && i < look->disk_count; i++)
        if (streq(look->disks[i].device, device))
            return &look->disks[i].io;
    return NULL;
}

static void remember(struct domain_look *look, const struct domain_stats *now, int64_t run_ns)
{
    look->valid = true;
    look->domid = now->domid;
    look->time_us = now->time_us;
    look->run_ns = run_ns;
    look->disk_count = now->disks_count;
    look->disks = xreallocarray(look->disks, now->disks_count + 1, sizeof(*look->disks));
    for (size_t i = 0; i < now->disks_count; i++) {
        snprintf(look->disks[i].device, sizeof(look->disks[i].device), "%s", now->disks[i].device);
        look->disks[i].io = io_of(&now->disks[i]);
    }
}

/* With one processor the states of all are those of that one; what several do at the same moment is not
 * counted by the host's kernel. */
static void add_runstates(struct samples *s, const struct domain_stats *now)
{
    if (now->vcpus_count != 1)
        return;
    double busy = seconds(now->vcpus[0].busy_ns), wait = seconds(now->vcpus[0].wait_ns);
    samples_add(s, false, RRD_DERIVE, 1, busy, "runstate_fullrun");
    samples_add(s, false, RRD_DERIVE, 1, wait, "runstate_full_contention");
    samples_add(s, false, RRD_DERIVE, 1, (double)now->time_us / 1e6 - busy - wait, "runstate_blocked");
    samples_add(s, false, RRD_DERIVE, 1, wait, "runnable_any");
}

static int64_t add_vcpus(struct samples *s, const struct domain_stats *now)
{
    int64_t busy_ns = 0, wait_ns = 0;
    for (size_t i = 0; i < now->vcpus_count; i++) {
        samples_add(s, true, RRD_DERIVE, 1, seconds(now->vcpus[i].busy_ns), "cpu%zu", i);
        busy_ns += now->vcpus[i].busy_ns;
        wait_ns += now->vcpus[i].wait_ns;
    }
    if (now->vcpus_count)
        samples_add(s, true, RRD_DERIVE, 1, seconds(busy_ns) / (double)now->vcpus_count, "cpu_usage");
    add_runstates(s, now);
    return busy_ns + wait_ns;
}

static void add_nics(struct samples *s, const struct domain_stats *now)
{
    for (size_t i = 0; i < now->nics_count; i++) {
        const struct nic_stats *nic = &now->nics[i];
        int n = (int)nic->index;
        samples_add(s, true, RRD_DERIVE, INFINITY, (double)nic->rx_bytes, "vif_%d_rx", n);
        samples_add(s, true, RRD_DERIVE, INFINITY, (double)nic->tx_bytes, "vif_%d_tx", n);
        samples_add(s, false, RRD_DERIVE, INFINITY, (double)nic->rx_errors, "vif_%d_rx_errors", n);
        samples_add(s, false, RRD_DERIVE, INFINITY, (double)nic->tx_errors, "vif_%d_tx_errors", n);
    }
}

void samples_of_domain(struct samples *s, const struct domain_stats *now, struct domain_look *before,
                       struct io_count *moved, int64_t *run_ns)
{
    bool again = before->valid && before->domid == now->domid && now->time_us > before->time_us;
    double interval_s = again ? (double)(now->time_us - before->time_us) / 1e6 : 0;
    int64_t run = add_vcpus(s, now);
    gauge(s, "memory", (double)now->guest_memory_bytes);
    gauge(s, "memory_target", (double)now->guest_memory_bytes);
    if (now->guest_free_bytes >= 0)
        gauge(s, "memory_internal_free", (double)now->guest_free_bytes / 1024);
    add_nics(s, now);
    for (size_t i = 0; i < now->disks_count; i++) {
        const struct io_count *known = again ? disk_before(before, now->disks[i].device) : NULL;
        struct io_count io = io_of(&now->disks[i]);
        moved[i] = known ? io_between(known, &io) : (struct io_count){0};
        add_disk(s, &now->disks[i], &moved[i], interval_s);
    }
    *run_ns = again ? grown(before->run_ns, run) : 0;
    remember(before, now, run);
}

/* ---- hosts ---- */

void host_look_done(struct host_look *look)
{
    free(look->srs);
    *look = (struct host_look){0};
}

struct sr_look *host_look_sr(struct host_look *look, const char *uuid)
{
    for (size_t i = 0; i < look->sr_count; i++)
        if (streq(look->srs[i].uuid, uuid))
            return &look->srs[i];
    look->srs = xreallocarray(look->srs, look->sr_count + 1, sizeof(*look->srs));
    struct sr_look *sr = &look->srs[look->sr_count++];
    *sr = (struct sr_look){0};
    snprintf(sr->uuid, sizeof(sr->uuid), "%s", uuid);
    return sr;
}

static void add_sr(struct samples *s, struct sr_look *sr, double interval_s)
{
    const struct io_count *io = &sr->io, moved = io_between(&sr->before, io);
    int64_t ops = moved.read_ops + moved.write_ops, ns = moved.read_ns + moved.write_ns;
    const struct {
        const char *name;
        enum rrd_kind kind;
        double value, max;
    } all[] = {
        {"io_throughput_read", RRD_DERIVE, (double)io->read_bytes / MIB, INFINITY},
        {"io_throughput_write", RRD_DERIVE, (double)io->written_bytes / MIB, INFINITY},
        {"io_throughput_total", RRD_DERIVE, (double)(io->read_bytes + io->written_bytes) / MIB, INFINITY},
        {"iops_read", RRD_DERIVE, (double)io->read_ops, INFINITY},
        {"iops_write", RRD_DERIVE, (double)io->write_ops, INFINITY},
        {"iops_total", RRD_DERIVE, (double)(io->read_ops + io->write_ops), INFINITY},
        {"iowait", RRD_GAUGE, busy_part(&moved, interval_s), 1},
        {"latency", RRD_GAUGE, mean_ns(ns, ops) / 1e6, INFINITY},
        {"read_latency", RRD_GAUGE, mean_ns(moved.read_ns, moved.read_ops) / 1e6, INFINITY},
        {"write_latency", RRD_GAUGE, mean_ns(moved.write_ns, moved.write_ops) / 1e6, INFINITY},
        {"avgqu_sz", RRD_DERIVE, seconds(io->read_ns + io->write_ns), INFINITY},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        samples_add(s, true, all[i].kind, all[i].max, all[i].value, "%s_%.8s", all[i].name, sr->uuid);
    sr->before = sr->io;
}

static void add_pifs(struct samples *s, const struct host_stats *now)
{
    int64_t rx = 0, tx = 0;
    for (size_t i = 0; i < now->pifs_count; i++) {
        const struct pif_stats *pif = &now->pifs[i];
        samples_add(s, true, RRD_DERIVE, INFINITY, (double)pif->rx_bytes, "pif_%s_rx", pif->device);
        samples_add(s, true, RRD_DERIVE, INFINITY, (double)pif->tx_bytes, "pif_%s_tx", pif->device);
        samples_add(s, false, RRD_DERIVE, INFINITY, (double)pif->rx_errors, "pif_%s_rx_errors", pif->device);
        samples_add(s, false, RRD_DERIVE, INFINITY, (double)pif->tx_errors, "pif_%s_tx_errors", pif->device);
        rx += pif->rx_bytes;
        tx += pif->tx_bytes;
    }
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)rx, "pif_aggr_rx");
    samples_add(s, true, RRD_DERIVE, INFINITY, (double)tx, "pif_aggr_tx");
}

void samples_of_host(struct samples *s, const struct host_stats *now, struct host_look *look)
{
    double interval_s = look->time_us ? (double)(now->time_us - look->time_us) / 1e6 : 0;
    double cpus = now->cpus_count ? (double)now->cpus_count : 1;
    int64_t vcpus = 0;
    for (size_t i = 0; i < now->domains_count; i++)
        vcpus += (int64_t)now->domains[i].vcpus_count;
    for (size_t i = 0; i < now->cpus_count; i++)
        samples_add(s, true, RRD_DERIVE, 1, seconds(now->cpus[i].busy_ns), "cpu%zu", i);
    samples_add(s, true, RRD_DERIVE, 1, seconds(now->cpu_busy_ns) / cpus, "cpu_avg");
    gauge(s, "loadavg", now->load_average);
    gauge(s, "memory_total_kib", (double)now->memory_total_bytes / 1024);
    gauge(s, "memory_free_kib", (double)now->memory_free_bytes / 1024);
    gauge(s, "memory_reclaimed", 0);
    gauge(s, "memory_reclaimed_max", 0);
    add_pifs(s, now);
    samples_add(s, true, RRD_DERIVE, INFINITY, seconds(look->run_ns) / cpus, "hostload");
    gauge(s, "running_vcpus", (double)vcpus);
    gauge(s, "running_domains", (double)now->domains_count);
    for (size_t i = 0; i < look->sr_count; i++)
        add_sr(s, &look->srs[i], interval_s);
    look->time_us = now->time_us;
}
