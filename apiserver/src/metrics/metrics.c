/* The rounds of measuring, one every 5 seconds, in slices: a timer hands a slice to a worker, which hands
 * each host whose turn it is, that is live and not still being asked, to another. So a host that does not
 * answer delays nobody, and thousands of hosts are asked evenly, not all at once. Values are placed at the
 * moment at which the agent read them, by its own clock, unless that is far from ours. */
#include "metrics.h"

#include "../hosts/hosts.h"
#include "../notices.h"
#include "../server.h"
#include "../timers.h"
#include "alarms.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/worker.h>
#include <dirent.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#define PERIOD_MS 5000
#define SLICE_MS 250
#define AT_ONCE 32 /* hosts that are asked when a round begins; the others follow in its slices */
#define GROUP 4    /* hosts of a slice that are asked together */
#define ANSWER_MS 4500
#define CLOCKS_APART_US 2000000
#define SWEEP_ROUNDS 12
#define THREADS_MAX 32
#define QUEUE_MAX 16384 /* one job a host, and some more */
#define SAMPLER_BUCKETS 1024
#define READERS_MAX 2
#define READERS_QUEUE 256

/* A host that is asked. Entries stay as long as the server. */
struct sampler {
    struct metrics *metrics;
    struct sampler *next; /* in its bucket */
    struct ref host;
    char uuid[UUID_TEXT_SIZE];
    _Atomic bool busy;
    int64_t offset_us; /* from its clock to ours */
    bool clock_told;   /* that it is far from ours */
};

struct metrics {
    struct server *server;
    struct meters *meters;
    struct alarms *alarms;
    struct worker_pool *workers, *readers;
    _Atomic bool slice_runs, stopping;
    /* What follows belongs to the slice that runs. */
    struct sampler *samplers[SAMPLER_BUCKETS];
    struct sampler **due; /* of this round */
    size_t due_count, due_cap, asked;
    int64_t round_ms; /* when it began; 0: none did */
    unsigned rounds;
};

struct meters *metrics_meters(struct metrics *metrics)
{
    return metrics->meters;
}

static double now_s(void)
{
    return (double)clock_unix_us() / 1e6;
}

/* ---- one host ---- */

/* What the answer's moment is by our clock. */
static double our_time(struct sampler *s, int64_t their_us)
{
    int64_t apart = clock_unix_us() - (their_us + s->offset_us);
    if (apart > CLOCKS_APART_US || apart < -CLOCKS_APART_US)
        s->offset_us += apart;
    return (double)(their_us + s->offset_us) / 1e6;
}

/* The answer and where it goes. */
struct intake {
    struct sampler *sampler;
    const struct snapshot *snap;
    const struct host_stats *stats;
    struct meter *host;
};

static void take_domain(struct intake *in, const struct domain_stats *domain)
{
    const struct vm_row *vm = vm_row(snapshot_by_uuid(in->snap, CLASS_VM, domain->uuid));
    if (!vm || !ref_eq(vm->resident_on, in->sampler->host))
        return;
    double time = our_time(in->sampler, domain->time_us);
    struct meter *meter = meters_get(in->sampler->metrics->meters, METER_VM, domain->uuid, time);
    AUTO_FREE struct io_count *moved = xcalloc(domain->disks_count + 1, sizeof(*moved));
    struct samples samples = {0};
    int64_t run_ns;
    samples_of_domain(&samples, domain, &meter->domain, moved, &run_ns);
    meter_sample(meter, time, &samples);
    in->host->host.run_ns += run_ns;
    for (size_t i = 0; i < domain->disks_count; i++)
        if (*domain->disks[i].sr)
            io_add(&host_look_sr(&in->host->host, domain->disks[i].sr)->io, &moved[i]);
}

/* SRs that the host is connected to are listed also while nobody uses them. */
static void note_srs(struct intake *in, const struct host_row *host)
{
    for (size_t i = 0; host->PBDs && i < host->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(in->snap, CLASS_PBD, host->PBDs->items[i]));
        const struct sr_row *sr = pbd ? sr_row(snapshot_get(in->snap, CLASS_SR, pbd->SR)) : NULL;
        if (sr && pbd->currently_attached)
            host_look_sr(&in->host->host, sr->uuid);
    }
}

static double status_kib(const char *name)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    long long value = -1;
    while (file && value < 0 && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), ": %lld", &value);
    if (file)
        fclose(file);
    return value < 0 ? NAN : (double)value;
}

static double open_files(void)
{
    DIR *list = opendir("/proc/self/fd");
    double count = list ? -3 : NAN; /* ".", ".." and the folder itself */
    while (list && readdir(list))
        count++;
    if (list)
        closedir(list);
    return count;
}

/* The server's own numbers go with the host that coordinates the pool. */
static void add_server(struct samples *samples, const struct snapshot *snap)
{
    const struct mallinfo2 memory = mallinfo2();
    const struct {
        const char *name;
        double value;
    } all[] = {
        {"pool_session_count", (double)snapshot_count(snap, CLASS_session)},
        {"pool_task_count", (double)snapshot_count(snap, CLASS_task)},
        {"xapi_memory_usage_kib", status_kib("VmRSS")},
        {"xapi_free_memory_kib", (double)memory.fordblks / 1024},
        {"xapi_live_memory_kib", (double)(memory.uordblks + memory.hblkhd) / 1024},
        {"xapi_open_fds", open_files()},
    };
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        samples_add(samples, true, RRD_GAUGE, INFINITY, all[i].value, "%s", all[i].name);
}

static void take_host(struct intake *in, const struct host_row *host)
{
    const struct pool_row *pool =
        pool_row(snapshot_get(in->snap, CLASS_pool, in->sampler->metrics->server->pool_ref));
    struct samples samples = {0};
    note_srs(in, host);
    samples_of_host(&samples, in->stats, &in->host->host);
    if (pool && ref_eq(pool->master, host->row.ref))
        add_server(&samples, in->snap);
    meter_sample(in->host, our_time(in->sampler, in->stats->time_us), &samples);
}

static void take(struct sampler *s, const struct host_stats *stats)
{
    struct meters *meters = s->metrics->meters;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(s->metrics->server->store);
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, s->host));
    struct intake in = {.sampler = s, .snap = snap, .stats = stats};
    if (!host)
        return;
    meters_write_lock(meters);
    in.host = meters_get(meters, METER_HOST, s->uuid, our_time(s, stats->time_us));
    for (size_t i = 0; i < stats->domains_count; i++)
        take_domain(&in, &stats->domains[i]);
    take_host(&in, host);
    meters_unlock(meters);
    notices_clock(s->metrics->server, s->uuid, s->offset_us, &s->clock_told);
}

static void ask_host(void *arg)
{
    struct sampler *s = arg;
    struct hosts *hosts = s->metrics->server->hosts;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct hv_host *agent = atomic_load(&s->metrics->stopping) ? NULL : hosts_get(hosts, s->host, &err);
    struct hv_host_stats_args args;
    struct hv_host_stats_result result;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = ANSWER_MS};
    if (agent) {
        hv_host_stats_args_init(&args);
        int rc = hv_host_stats(agent, &op, &args, &result, &cause);
        hosts_put(hosts, agent);
        if (rc == 0) {
            take(s, &result.stats);
            hv_host_stats_result_done(&result);
        } else {
            log_debug("metrics", "a host did not say how it is doing", "host", s->uuid, "cause", cause.text);
        }
    }
    atomic_store(&s->busy, false);
}

/* ---- a round ---- */

static struct sampler *sampler_of(struct metrics *m, const struct host_row *host)
{
    struct sampler **bucket = &m->samplers[host->row.ref.lo % SAMPLER_BUCKETS], *s = *bucket;
    while (s && !ref_eq(s->host, host->row.ref))
        s = s->next;
    if (s)
        return s;
    s = xcalloc(1, sizeof(*s));
    s->metrics = m;
    s->host = host->row.ref;
    snprintf(s->uuid, sizeof(s->uuid), "%s", host->uuid);
    s->next = *bucket;
    *bucket = s;
    return s;
}

struct round {
    struct metrics *metrics;
    const struct snapshot *snap;
};

static bool visit_host(const struct row *row, void *arg)
{
    struct round *round = arg;
    const struct host_row *host = host_row(row);
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(round->snap, CLASS_host_metrics, host->metrics));
    if (!metrics || !metrics->live)
        return true;
    struct metrics *m = round->metrics;
    if (m->due_count == m->due_cap) {
        m->due_cap = m->due_cap ? 2 * m->due_cap : AT_ONCE;
        m->due = xreallocarray(m->due, m->due_cap, sizeof(*m->due));
    }
    m->due[m->due_count++] = sampler_of(m, host);
    return true;
}

/* Until so many of this round were. */
static void ask_hosts(struct metrics *m, size_t count)
{
    for (; m->asked < count && m->asked < m->due_count; m->asked++) {
        struct sampler *s = m->due[m->asked];
        if (!atomic_exchange(&s->busy, true) && worker_submit(m->workers, ask_host, s) < 0)
            atomic_store(&s->busy, false);
    }
}

/* The same over most of the time of a slice, a group after the other: a hundred at once would have the
 * processors for so long that every call meanwhile is late. */
static void ask_hosts_evenly(struct metrics *m, size_t count)
{
    count = count < m->due_count ? count : m->due_count;
    size_t groups = count > m->asked ? (count - m->asked + GROUP - 1) / GROUP : 0;
    const struct timespec pause = {.tv_nsec = groups ? SLICE_MS * 800000L / (long)groups : 0};
    while (m->asked < count && !atomic_load(&m->stopping)) {
        ask_hosts(m, m->asked + GROUP < count ? m->asked + GROUP : count);
        if (m->asked < count)
            nanosleep(&pause, NULL);
    }
}

static bool visit_sr(const struct row *row, void *arg)
{
    struct round *round = arg;
    const struct sr_row *sr = sr_row(row);
    double now = now_s();
    struct samples samples = {0};
    samples_add(&samples, true, RRD_GAUGE, INFINITY, (double)sr->physical_utilisation,
                "physical_utilisation");
    samples_add(&samples, true, RRD_GAUGE, INFINITY, (double)sr->physical_size, "size");
    meters_write_lock(round->metrics->meters);
    meter_sample(meters_get(round->metrics->meters, METER_SR, sr->uuid, now), now, &samples);
    meters_unlock(round->metrics->meters);
    return true;
}

static bool object_exists(enum meter_kind kind, const char *uuid, void *arg)
{
    const struct class_desc *const classes[METER_KINDS] = {CLASS_VM, CLASS_host, CLASS_SR};
    struct server *server = arg;
    /* A fresh look each time: what was measured just now may be just as new. */
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    return snapshot_by_uuid(snap, classes[kind], uuid) != NULL;
}

static void run_round(struct metrics *m)
{
    struct snapshot *snap = store_snapshot(m->server->store);
    struct round round = {.metrics = m, .snap = snap};
    m->asked = m->due_count = 0;
    snapshot_each(snap, CLASS_host, visit_host, &round);
    ask_hosts(m, AT_ONCE);
    snapshot_each(snap, CLASS_SR, visit_sr, &round);
    snapshot_unref(snap);
    alarms_round(m->alarms, m->server, m->meters, now_s());
    meters_save(m->meters, now_s(), false);
    if (m->rounds++ % SWEEP_ROUNDS == 0)
        meters_sweep(m->meters, object_exists, m->server);
}

static void run_slice(void *arg)
{
    struct metrics *m = arg;
    int64_t passed = clock_mono_ms() - m->round_ms;
    if (m->round_ms == 0 || passed >= PERIOD_MS - SLICE_MS / 2) {
        ask_hosts(m, m->due_count);
        /* By the clock, so that rounds neither drift nor catch up. */
        m->round_ms = m->round_ms && passed < 2 * PERIOD_MS ? m->round_ms + PERIOD_MS : clock_mono_ms();
        run_round(m);
    } else {
        ask_hosts_evenly(m, AT_ONCE + m->due_count * (size_t)(passed + SLICE_MS) / PERIOD_MS);
    }
    atomic_store(&m->slice_runs, false);
}

static void begin_slice(void *arg)
{
    struct metrics *m = arg;
    if (!atomic_exchange(&m->slice_runs, true) && worker_submit(m->workers, run_slice, m) < 0)
        atomic_store(&m->slice_runs, false);
}

/* ---- saving on request ---- */

static void run_save(void *arg)
{
    struct metrics *m = arg;
    meters_save(m->meters, now_s(), true);
}

static void submit_save(void *arg)
{
    struct metrics *m = arg;
    if (worker_submit(m->workers, run_save, m) < 0)
        log_warn("metrics", "measurements are saved later: the server is busy or stopping");
}

void metrics_save_later(struct metrics *m, double delay_s)
{
    timers_after(m->server->timers, (int64_t)(delay_s * 1000), submit_save, m);
}

/* ---- life ---- */

int metrics_submit(struct metrics *m, void (*run)(void *arg), void *arg)
{
    return worker_submit(m->readers, run, arg);
}

struct metrics *metrics_new(struct server *server)
{
    struct metrics *m = xcalloc(1, sizeof(*m));
    const struct worker_config workers = {
        .name = "metrics", .threads_min = 1, .threads_max = THREADS_MAX, .queue_max = QUEUE_MAX};
    const struct worker_config readers = {
        .name = "rrd", .threads_min = 1, .threads_max = READERS_MAX, .queue_max = READERS_QUEUE};
    AUTO_FREE char *dir = xasprintf("%s/rrd", server->state_dir);
    m->server = server;
    m->workers = worker_pool_new(&workers);
    m->readers = worker_pool_new(&readers);
    if (!m->workers || !m->readers)
        abort();
    m->meters = meters_new(dir);
    m->alarms = alarms_new();
    begin_slice(m);
    timers_every(server->timers, SLICE_MS, begin_slice, m);
    return m;
}

void metrics_stop(struct metrics *m)
{
    if (!m)
        return;
    atomic_store(&m->stopping, true);
    worker_pool_stop(m->readers);
    worker_pool_stop(m->workers);
    meters_save(m->meters, now_s(), true);
}

void metrics_free(struct metrics *m)
{
    if (!m)
        return;
    for (size_t b = 0; b < SAMPLER_BUCKETS; b++)
        while (m->samplers[b]) {
            struct sampler *s = m->samplers[b];
            m->samplers[b] = s->next;
            free(s);
        }
    free(m->due);
    meters_free(m->meters);
    alarms_free(m->alarms);
    free(m);
}
