/* Many subscribers of event.from in one process, over plain HTTP on loopback, and clients that change VMs at
 * a steady rate. Each subscriber waits for one VM of its own or for all of them. A change carries the time at
 * which it was asked for, so each delivery tells how long it took.
 *
 * Usage: bench_subscribe PORT SUBSCRIBERS CHANGES-A-SECOND SECONDS WRITERS own|all|idle
 * On standard input: lines "SESSION", one for each subscriber and one more for the writers, then lines "VM",
 * as many as subscribers. Prints JSON when it is over; with "idle", a line when all wait, and then it ends
 * with its input. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MARK "\"name_description\":\"at "
#define TOKEN "\"token\":\""
#define MAX_SAMPLES (1 << 22)
#define REF_SIZE 64
#define QUIET_US 2000000 /* what is on its way at the end may still come */

struct connection {
    int fd;
    bool writer, busy;
    char session[REF_SIZE], vm[REF_SIZE], token[64];
    int target;                        /* of a writer: whose VM it changes */
    int64_t answered_us, delivered_us; /* of a subscriber's VM: the last change; 0: not yet */
    char *in;
    size_t len, room;
};

static struct connection *connections;
static int count, subscribers, writers, poller;
static const char *kind;
static uint32_t *samples, *commit_samples, *after_samples;
static size_t sample_count, commit_count, after_count, deliveries, answers, bytes, changes, late;

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "bench_subscribe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void post(struct connection *c, const char *body)
{
    char text[2048];
    int len = snprintf(text, sizeof(text),
                       "POST /jsonrpc HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                       "Content-Length: %zu\r\n\r\n%s",
                       strlen(body), body);
    if (len >= (int)sizeof(text) || write(c->fd, text, (size_t)len) != len)
        give_up("send");
    c->busy = true;
}

static void subscribe(struct connection *c)
{
    char body[1024], what[REF_SIZE + 8];
    snprintf(what, sizeof(what), strcmp(kind, "all") == 0 ? "VM" : "VM/%s", c->vm);
    snprintf(
        body, sizeof(body),
        "{\"jsonrpc\":\"2.0\",\"method\":\"event.from\",\"params\":[\"%s\",[\"%s\"],\"%s\",600.0],\"id\":1}",
        c->session, what, c->token);
    post(c, body);
}

static void change(struct connection *c, int target)
{
    const char *vm = connections[target].vm;
    char body[1024];
    snprintf(body, sizeof(body),
             "{\"jsonrpc\":\"2.0\",\"method\":\"VM.set_name_description\",\"params\":[\"%s\",\"%s\",\"at "
             "%lld\"],\"id\":1}",
             c->session, vm, (long long)now_us());
    post(c, body);
    c->target = target;
    c->answered_us = now_us(); /* of a writer: when it asked */
    connections[target].answered_us = connections[target].delivered_us = 0;
    changes++;
}

static void keep(uint32_t *list, size_t *length, int64_t us)
{
    if (*length < MAX_SAMPLES)
        list[(*length)++] = us > 0 ? (uint32_t)us : 0;
}

/* A change has been acknowledged or delivered: with both, it is known how long after the commit it came. */
static void meet(struct connection *subscriber)
{
    if (!subscriber->answered_us || !subscriber->delivered_us)
        return;
    keep(after_samples, &after_count, subscriber->delivered_us - subscriber->answered_us);
    subscriber->answered_us = subscriber->delivered_us = 0;
}

/* The whole answer is in c->in. */
static void take_answer(struct connection *c, const char *body, bool warm)
{
    if (c->writer) {
        if (strstr(body, "\"error\""))
            give_up(body);
        keep(commit_samples, &commit_count, now_us() - c->answered_us);
        connections[c->target].answered_us = now_us();
        meet(&connections[c->target]);
        return;
    }
    const char *token = strstr(body, TOKEN);
    if (!token || sscanf(token + strlen(TOKEN), "%63[^\"]", c->token) != 1)
        give_up(body);
    int64_t now = now_us();
    answers++;
    for (const char *at = body; warm && (at = strstr(at, MARK)); at++) {
        deliveries++;
        keep(samples, &sample_count, now - strtoll(at + strlen(MARK), NULL, 10));
        c->delivered_us = now;
        meet(c);
    }
}

static void on_input(struct connection *c, bool warm)
{
    for (;;) {
        if (c->room - c->len < 65536)
            c->in = realloc(c->in, c->room = 2 * c->room + 65536);
        if (!c->in)
            give_up("memory");
        ssize_t n = read(c->fd, c->in + c->len, c->room - c->len - 1);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0)
            give_up("a connection ended");
        c->len += (size_t)n;
        bytes += (size_t)n;
        c->in[c->len] = '\0';
        char *body = strstr(c->in, "\r\n\r\n"), *length = strcasestr(c->in, "\r\ncontent-length: ");
        if (!body || !length || c->len < (size_t)(body + 4 - c->in) + strtoul(length + 18, NULL, 10))
            continue;
        c->busy = false;
        take_answer(c, body + 4, warm);
        c->len = 0;
        if (c->room > 1 << 20) /* a first answer may have been large */
            c->in = realloc(c->in, c->room = 65536 * 2);
        if (!c->writer)
            subscribe(c);
        return;
    }
}

static void open_connection(struct connection *c, int port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
        fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0 ||
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
        epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
        give_up("connect");
}

static void run_for(int64_t us, bool warm)
{
    struct epoll_event events[256];
    for (int64_t end = now_us() + us, left; (left = end - now_us()) > 0;) {
        int n = epoll_wait(poller, events, 256, (int)(left / 1000 + 1));
        for (int i = 0; i < n; i++)
            on_input(events[i].data.ptr, warm);
    }
}

/* Changes at their moments: one that no free writer can ask for in time is counted as late, not left out. */
static void change_steadily(double rate, double seconds)
{
    struct epoll_event events[256];
    int64_t begun = now_us(), end = begun + (int64_t)(seconds * 1e6);
    for (uint64_t next = 0;;) {
        int64_t now = now_us(), due = begun + (int64_t)((double)next * 1e6 / rate);
        if (now >= end)
            return;
        struct connection *writer = NULL;
        for (int i = subscribers; due <= now && i < count && !writer; i++)
            if (!connections[i].busy)
                writer = &connections[i];
        if (writer) {
            change(writer, (int)(next % (uint64_t)subscribers));
            late += now - due > 1000;
            next++;
            continue;
        }
        int n = epoll_wait(poller, events, 256, due <= now ? 5 : (int)((due - now) / 1000));
        for (int i = 0; i < n; i++)
            on_input(events[i].data.ptr, true);
    }
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static double ms_at(uint32_t *list, size_t length, double share)
{
    qsort(list, length, sizeof(*list), by_size);
    return length ? (double)list[(size_t)(share * (double)(length - 1))] / 1000 : NAN;
}

static void read_line(char *to)
{
    char line[256];
    if (!fgets(line, sizeof(line), stdin) || sscanf(line, "%63s", to) != 1)
        give_up("input");
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr,
                "usage: bench_subscribe PORT SUBSCRIBERS CHANGES-A-SECOND SECONDS WRITERS own|all|idle\n");
        return 2;
    }
    subscribers = atoi(argv[2]);
    writers = atoi(argv[5]);
    count = subscribers + writers;
    kind = argv[6];
    double rate = atof(argv[3]), seconds = atof(argv[4]);
    connections = calloc((size_t)count, sizeof(*connections));
    samples = calloc(MAX_SAMPLES, sizeof(*samples));
    commit_samples = calloc(MAX_SAMPLES, sizeof(*samples));
    after_samples = calloc(MAX_SAMPLES, sizeof(*samples));
    poller = epoll_create1(0);
    char last[REF_SIZE];
    for (int i = 0; i < subscribers; i++)
        read_line(connections[i].session);
    read_line(last);
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        if (i < subscribers)
            read_line(c->vm);
        else
            snprintf(c->session, sizeof(c->session), "%s", last);
        c->writer = i >= subscribers;
        open_connection(c, atoi(argv[1]));
        if (!c->writer)
            subscribe(c);
        if (i % 64 == 63)
            run_for(1000, false);
    }
    /* The first answer of each tells what there is; from the second on it waits. */
    for (int64_t end = now_us() + 60000000; answers < (size_t)subscribers;) {
        run_for(10000, false);
        if (now_us() > end)
            give_up("not all have their first answer");
    }
    run_for(200000, false);
    if (strcmp(kind, "idle") == 0) {
        printf("waiting\n");
        fflush(stdout);
        while (getchar() != EOF)
            run_for(100000, false);
        return 0;
    }
    bytes = answers = 0;
    double used = cpu_seconds(), begun = (double)now_us() / 1e6;
    change_steadily(rate, seconds);
    run_for(QUIET_US, true);
    used = cpu_seconds() - used;
    printf("{\"changes\":%zu,\"late\":%zu,\"deliveries\":%zu,\"answers\":%zu,\"bytes\":%zu,\"p50_ms\":%.3f,"
           "\"p99_ms\":%.3f,\"commit_p50_ms\":%.3f,\"commit_p99_ms\":%.3f,\"after_p50_ms\":%.3f,\"after_p99_"
           "ms\":%.3f,"
           "\"generator_cpu\":%.3f}\n",
           changes, late, deliveries, answers, bytes, ms_at(samples, sample_count, 0.5),
           ms_at(samples, sample_count, 0.99), ms_at(commit_samples, commit_count, 0.5),
           ms_at(commit_samples, commit_count, 0.99), ms_at(after_samples, after_count, 0.5),
           ms_at(after_samples, after_count, 0.99), used / ((double)now_us() / 1e6 - begun));
    return 0;
}
