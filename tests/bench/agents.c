/* Simulates the agents of many hosts in one process: one TLS port with the pool's certificates, to which the
 * server connects by each host's own name. It says what hosts are and how they are doing, keeps waits for
 * events waiting, and answers everything else with nothing (no domains, no operations, no storage). Hosts
 * that nothing happens on, but that are connected to and asked as real ones are.
 *
 * Usage: bench_agents CA CERTIFICATE KEY PORT_FILE; the certificate is for *.host.corral.internal. Each
 * SIGUSR1 prints a line of JSON about what has been since the one before: hosts that were asked how they are
 * doing, how often, and milliseconds between two such questions to one host. */
#include <base/clock.h>
#include <base/http_server.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/ref.h>
#include <hv/calls.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS_MAX 16384 /* a power of two */
#define GAPS_MAX 1000000
#define PROCESSORS 16
#define GIB (INT64_C(1) << 30)
#define BODY_MAX (1u << 20)

static const char calls_path[] = "/v1/call/";

static _Noreturn void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_agents: %s: %s\n", what, why);
    exit(1);
}

/* ---- what is counted ---- */

static struct {
    pthread_mutex_t lock; /* guards what follows */
    struct {
        struct ref uuid;
        int64_t asked_us;
        bool asked; /* since the last line */
    } hosts[HOSTS_MAX];
    size_t known;
    double gaps_ms[GAPS_MAX];
    size_t gaps;
    unsigned long long asks, calls;
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void note_ask(struct ref uuid)
{
    int64_t now = clock_mono_us();
    size_t at = (uuid.lo ^ uuid.hi) % HOSTS_MAX;
    pthread_mutex_lock(&seen.lock);
    while (seen.hosts[at].asked_us && !ref_eq(seen.hosts[at].uuid, uuid))
        at = (at + 1) % HOSTS_MAX;
    if (!seen.hosts[at].asked_us && ++seen.known == HOSTS_MAX)
        give_up("hosts", "too many");
    if (seen.hosts[at].asked_us && seen.gaps < GAPS_MAX)
        seen.gaps_ms[seen.gaps++] = (double)(now - seen.hosts[at].asked_us) / 1000;
    seen.hosts[at].uuid = uuid;
    seen.hosts[at].asked_us = now;
    seen.hosts[at].asked = true;
    seen.asks++;
    pthread_mutex_unlock(&seen.lock);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double share(double part)
{
    return seen.gaps ? seen.gaps_ms[(size_t)(part * (double)(seen.gaps - 1))] : 0;
}

static void print_line(void)
{
    size_t asked = 0;
    pthread_mutex_lock(&seen.lock);
    for (size_t i = 0; i < HOSTS_MAX; i++) {
        asked += seen.hosts[i].asked;
        seen.hosts[i].asked = false;
    }
    qsort(seen.gaps_ms, seen.gaps, sizeof(*seen.gaps_ms), by_size);
    printf("{\"hosts\": %zu, \"asks\": %llu, \"calls\": %llu, \"half_ms\": %.1f, \"p99_ms\": %.1f, "
           "\"most_ms\": %.1f}\n",
           asked, seen.asks, seen.calls, share(0.5), share(0.99), share(1));
    fflush(stdout);
    seen.gaps = 0;
    seen.asks = seen.calls = 0;
    pthread_mutex_unlock(&seen.lock);
}

/* ---- answers ---- */

static void answer(struct http_request *req, const struct hv_call_desc *call, const void *result)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "{\"result\":");
    wire_encode(call->result, result, &text);
    buf_add_char(&text, '}');
    size_t len = text.len;
    http_answer_json(req, 200, buf_take(&text), len);
}

static void fill_facts(struct host_facts *facts, const char *uuid)
{
    AUTO_FREE char *name = xasprintf("simulated-%.8s", uuid);
    str_assign(&facts->hostname, name);
    str_assign(&facts->agent_version, "bench");
    str_assign(&facts->driver, "sim");
    str_assign(&facts->cpu_vendor, "GenuineIntel");
    str_assign(&facts->cpu_model_name, "simulated");
    str_assign(&facts->boot_id, uuid);
    facts->cpu_count = PROCESSORS;
    facts->cpu_sockets = 2;
    facts->memory_total_bytes = 64 * GIB;
    facts->memory_free_bytes = 60 * GIB;
    facts->boot_time = facts->agent_start_time = 1700000000;
}

static void fill_stats(struct host_stats *stats)
{
    int64_t now = clock_unix_us();
    stats->time = now / 1000000;
    stats->time_us = now;
    stats->cpu_busy_ns = now * 100;
    stats->cpu_idle_ns = now * 900;
    for (int i = 0; i < PROCESSORS; i++) {
        struct cpu_stats *cpu = wire_list_add(&cpu_stats_desc, (void **)&stats->cpus, &stats->cpus_count);
        cpu->busy_ns = now * 100;
        cpu->idle_ns = now * 900;
    }
    stats->load_average = 0.5;
    stats->memory_total_bytes = 64 * GIB;
    stats->memory_free_bytes = 60 * GIB;
}

/* ---- waits for events: nothing ever happens ---- */

struct wait {
    struct wait *next;
    struct http_request *req;
    int64_t due_ms;
};

static struct {
    pthread_mutex_t lock;
    struct wait *first; /* by due_ms; guarded by lock */
} waits = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void answer_wait(struct http_request *req)
{
    struct hv_events_wait_result result;
    hv_events_wait_result_init(&result);
    str_assign(&result.cursor, "0");
    answer(req, &hv_calls[HV_CALL_EVENTS_WAIT], &result);
    hv_events_wait_result_done(&result);
}

static void park(struct http_request *req, int64_t wait_ms)
{
    struct wait *wait = xcalloc(1, sizeof(*wait));
    wait->req = http_request_ref(req);
    wait->due_ms = clock_mono_ms() + wait_ms;
    pthread_mutex_lock(&waits.lock);
    struct wait **at = &waits.first;
    while (*at && (*at)->due_ms <= wait->due_ms)
        at = &(*at)->next;
    wait->next = *at;
    *at = wait;
    pthread_mutex_unlock(&waits.lock);
}

static struct wait *take_due(void)
{
    pthread_mutex_lock(&waits.lock);
    struct wait *wait = waits.first;
    if (wait && wait->due_ms <= clock_mono_ms())
        waits.first = wait->next;
    else
        wait = NULL;
    pthread_mutex_unlock(&waits.lock);
    return wait;
}

static __attribute__((noreturn)) void *end_waits(void *arg)
{
    const struct timespec tick = {.tv_nsec = 10000000};
    (void)arg;
    for (;;) {
        for (struct wait *wait = take_due(); wait; wait = take_due()) {
            answer_wait(wait->req);
            http_request_unref(wait->req);
            free(wait);
        }
        nanosleep(&tick, NULL);
    }
}

/* ---- requests ---- */

/* A host's name begins with its uuid. */
static void uuid_of(const struct http_request *req, char out[static UUID_TEXT_SIZE])
{
    const char *host = http_request_header(req, "Host");
    snprintf(out, UUID_TEXT_SIZE, "%s", host ? host : "");
}

static void run_wait(struct http_request *req, const json_t *args)
{
    int64_t wait_ms = 0;
    json_get_int(args, "wait_ms", &wait_ms);
    if (wait_ms > 0)
        park(req, wait_ms);
    else
        answer_wait(req);
}

static void run(struct http_request *req, const struct hv_call_desc *call, const json_t *args)
{
    char uuid[UUID_TEXT_SIZE];
    struct ref ref = REF_NULL;
    if (call == &hv_calls[HV_CALL_EVENTS_WAIT]) {
        run_wait(req, args);
        return;
    }
    uuid_of(req, uuid);
    void *result = xcalloc(1, call->result->size);
    wire_init(call->result, result);
    if (call == &hv_calls[HV_CALL_HOST_FACTS])
        fill_facts(&((struct hv_host_facts_result *)result)->facts, uuid);
    if (call == &hv_calls[HV_CALL_HOST_STATS]) {
        fill_stats(&((struct hv_host_stats_result *)result)->stats);
        if (uuid_parse(uuid, &ref))
            note_ask(ref);
    }
    answer(req, call, result);
    wire_done(call->result, result);
    free(result);
}

static void body_read(struct http_request *req, char *data, size_t len, void *arg)
{
    struct json_error error;
    AUTO_JSON json_t *body = json_parse(data, len, &error);
    (void)arg;
    run(req, hv_call_find(http_request_path(req) + sizeof(calls_path) - 1), json_object_get(body, "args"));
}

static void on_request(struct http_request *req, void *context)
{
    const char *path = http_request_path(req);
    (void)context;
    pthread_mutex_lock(&seen.lock);
    seen.calls++;
    pthread_mutex_unlock(&seen.lock);
    if (strncmp(path, calls_path, sizeof(calls_path) - 1) == 0 && hv_call_find(path + sizeof(calls_path) - 1))
        http_read_body(req, BODY_MAX, body_read, NULL);
    else
        http_answer_error(req, 404, "simulated agents have no such resource");
}

static struct http_server *serve(char **files)
{
    const struct http_server_config config = {.address = "127.0.0.1",
                                              .client_ca_file = files[0],
                                              .certificate_file = files[1],
                                              .key_file = files[2],
                                              .client_name = "poold.corral.internal",
                                              .connections_max = 60000,
                                              .threads = 1,
                                              .on_request = on_request};
    struct http_server_error error;
    struct http_server *server;
    if (http_server_start(&config, &server, &error) < 0)
        give_up("listen", error.text);
    return server;
}

int main(int argc, char **argv)
{
    sigset_t signals;
    pthread_t thread;
    int signal;
    if (argc != 5) {
        fprintf(stderr, "usage: bench_agents CA CERTIFICATE KEY PORT_FILE\n");
        return 2;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct http_server *server = serve(argv + 1);
    if (pthread_create(&thread, NULL, end_waits, NULL) != 0)
        give_up("thread", "none can be started");
    FILE *file = fopen(argv[4], "we");
    if (!file || fprintf(file, "%u\n", http_server_port(server)) < 0 || fclose(file) != 0)
        give_up(argv[4], "it cannot be written");
    while (sigwait(&signals, &signal) == 0 && signal == SIGUSR1)
        print_line();
    return 0;
}
