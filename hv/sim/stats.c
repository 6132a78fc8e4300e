/* What a simulated domain has used: all of it grows evenly while the domain runs, so that a test can say what
 * the rates have to be. sim.h names the word that changes the load. */
#include "sim.h"
#include <base/clock.h>
#include <base/mem.h>

#define CPU_PERCENT 5
#define READ_BYTES_S 409600
#define WRITE_BYTES_S 204800
#define READ_OPS_S 100
#define WRITE_OPS_S 50
#define READ_US 200
#define WRITE_US 500
#define RX_BYTES_S 30000
#define TX_BYTES_S 15000
#define FRAME_BYTES 1000

/* What has come together of so much a second. */
static int64_t grown(int64_t run_us, int64_t per_second)
{
    return (int64_t)((double)run_us / 1e6 * (double)per_second);
}

static void count_disk(const struct domain_disk *config, int64_t run_us, struct disk_stats *disk)
{
    str_assign(&disk->device, config->device);
    str_assign(&disk->sr, config->sr);
    if (config->source == DISK_SOURCE_EMPTY)
        return;
    disk->read_bytes = grown(run_us, READ_BYTES_S);
    disk->read_ops = grown(run_us, READ_OPS_S);
    disk->read_ns = disk->read_ops * READ_US * 1000;
    if (config->read_only || config->cdrom)
        return;
    disk->written_bytes = grown(run_us, WRITE_BYTES_S);
    disk->write_ops = grown(run_us, WRITE_OPS_S);
    disk->write_ns = disk->write_ops * WRITE_US * 1000;
}

static void count_nic(const struct domain_nic *config, int64_t run_us, struct nic_stats *nic)
{
    nic->index = config->index;
    nic->rx_bytes = grown(run_us, RX_BYTES_S);
    nic->tx_bytes = grown(run_us, TX_BYTES_S);
    nic->rx_packets = nic->rx_bytes / FRAME_BYTES;
    nic->tx_packets = nic->tx_bytes / FRAME_BYTES;
}

void sim_count(const struct sim_domain *d, struct domain_stats *stats)
{
    const struct domain_config *config = &d->record.config;
    int64_t now_us = clock_unix_us(), percent = sim_word(d, "sim.cpu_percent");
    int64_t run_us = (d->info.state == DOMAIN_STATE_RUNNING ? now_us : d->paused_at_us) -
                     d->info.start_time * 1000000 - d->paused_us;
    domain_stats_init(stats);
    str_assign(&stats->uuid, d->info.uuid);
    stats->time_us = now_us;
    stats->domid = d->info.domid;
    stats->memory_bytes = stats->guest_memory_bytes = d->info.memory_bytes;
    if (run_us < 0)
        run_us = 0;
    if (percent < 0 || percent > 100)
        percent = CPU_PERCENT;
    if (d->info.guest.live)
        stats->guest_free_bytes = d->info.memory_bytes / 2;
    for (int64_t i = 0; i < d->info.vcpus; i++) {
        struct vcpu_stats *vcpu = domain_stats_add_vcpus(stats);
        vcpu->busy_ns = run_us * 1000 / 100 * percent;
        stats->cpu_ns += vcpu->busy_ns;
    }
    for (size_t i = 0; i < config->disks_count; i++)
        count_disk(&config->disks[i], run_us, domain_stats_add_disks(stats));
    for (size_t i = 0; i < config->nics_count; i++)
        count_nic(&config->nics[i], run_us, domain_stats_add_nics(stats));
}
