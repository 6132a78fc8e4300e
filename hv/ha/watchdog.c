/* Three threads: one writes and reads the heartbeat disk, one answers hostd, and the first watches the time
 * and ends guests; it touches nothing but the host's own processes and its state folder. */
#include "watchdog.h"

#include "internal.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 100  /* how often the time is looked at, at least */
#define SWEEP_MS 500 /* how often a fenced host is looked over for guests */
#define LOCK_WAIT_MS 3000
#define EXIT_BUSY 3
#define DISARM_MS 2000 /* how long the farewell on the disk may take */

struct watchdog {
    const char *state_dir;
    bool simulated;
    struct watchdog_config config;
    char instance[UUID_TEXT_SIZE];
    bool anew;           /* the host was just armed: what was said of it before does not count */
    bool counting;       /* of the disk's thread alone, as the next two */
    uint64_t sequence;   /* of the last write */
    uint64_t out_before; /* verdicts up to lower numbers do not count */
    _Atomic int64_t lease_until, heard, written, read;
    _Atomic bool fenced, all_gone, excluded, leaving, left;
    pthread_mutex_t lock; /* guards what follows */
    char error[160];
    struct statefile_entry entries[STATEFILE_SECTORS];
};

/* ---- the disk ---- */

static void note_error(struct watchdog *w, const char *text)
{
    pthread_mutex_lock(&w->lock);
    bool news = !*w->error != !*text;
    snprintf(w->error, sizeof(w->error), "%s", text);
    pthread_mutex_unlock(&w->lock);
    if (news && *text)
        log_warn("ha", "the heartbeat disk is not reached", "cause", text);
    else if (news)
        log_info("ha", "the heartbeat disk is reached again");
}

/* Never backwards, and never once it is over: then another host may run the guests, whoever is heard of next.
 */
static void renew(struct watchdog *w, int64_t until)
{
    int64_t now = atomic_load(&w->lease_until);
    while (now < until && watchdog_now_ms() < now &&
           !atomic_compare_exchange_weak(&w->lease_until, &now, until))
        ;
}

/* A host that is armed anew counts on above whatever stands in its slot and in the verdict, so that an old
 * verdict does not count for it. A process that takes the place of one that died goes on where that was. */
static int begin_sequence(struct watchdog *w, struct statefile_error *error)
{
    struct statefile_entry slot, verdict;
    if (statefile_read(w->config.path, statefile_slot(w->config.own), w->config.generation, &slot, error) <
            0 ||
        statefile_read(w->config.path, statefile_verdict(w->config.own), w->config.generation, &verdict,
                       error) < 0)
        return -1;
    w->sequence = slot.sequence > verdict.sequence ? slot.sequence : verdict.sequence;
    w->out_before = w->anew ? w->sequence + 1 : slot.sequence;
    w->counting = true;
    return 0;
}

static void look_at_others(struct watchdog *w)
{
    static struct statefile_entry entries[STATEFILE_SECTORS]; /* of this thread alone */
    struct statefile_error error;
    int64_t begun = watchdog_now_ms();
    if (statefile_read_all(w->config.path, w->config.host_count, w->config.generation, entries, &error) < 0) {
        note_error(w, error.text);
        return;
    }
    const struct statefile_entry *verdict = &entries[statefile_verdict(w->config.own)];
    if (verdict->state == STATEFILE_OUT && verdict->sequence >= w->out_before)
        atomic_store(&w->excluded, true);
    if (entries[0].state == STATEFILE_OFF) {
        log_info("ha", "high availability was switched off in the pool");
        atomic_store(&w->leaving, true);
    }
    pthread_mutex_lock(&w->lock);
    memcpy(w->entries, entries, sizeof(entries));
    pthread_mutex_unlock(&w->lock);
    atomic_store(&w->read, begun);
}

static enum statefile_state own_state(struct watchdog *w)
{
    if (!atomic_load(&w->fenced))
        return STATEFILE_ALIVE;
    return atomic_load(&w->all_gone) ? STATEFILE_FENCED : STATEFILE_NOTHING;
}

/* The order matters: who excludes this host writes the verdict first and then reads this slot. */
static void beat(struct watchdog *w)
{
    struct statefile_error error;
    int64_t begun = watchdog_now_ms();
    enum statefile_state state = own_state(w);
    if (!w->counting && begin_sequence(w, &error) < 0) {
        note_error(w, error.text);
        return;
    }
    struct statefile_entry slot = {
        .index = (uint32_t)statefile_slot(w->config.own), .state = state, .sequence = w->sequence + 1};
    snprintf(slot.generation, sizeof(slot.generation), "%s", w->config.generation);
    snprintf(slot.host, sizeof(slot.host), "%s", w->config.hosts[w->config.own]);
    if (state != STATEFILE_NOTHING) { /* while guests are still being ended nothing is said */
        if (statefile_write(w->config.path, &slot, &error) < 0) {
            note_error(w, error.text);
            return;
        }
        w->sequence++;
        atomic_store(&w->written, begun);
    }
    note_error(w, "");
    int64_t seen = atomic_load(&w->read);
    look_at_others(w);
    if (state == STATEFILE_ALIVE && atomic_load(&w->read) != seen && !atomic_load(&w->excluded))
        renew(w, begun + w->config.lease_ms);
}

static void farewell(struct watchdog *w)
{
    struct statefile_error error;
    struct statefile_entry slot = {.index = (uint32_t)statefile_slot(w->config.own),
                                   .state = STATEFILE_OFF,
                                   .sequence = w->sequence + 1};
    snprintf(slot.generation, sizeof(slot.generation), "%s", w->config.generation);
    snprintf(slot.host, sizeof(slot.host), "%s", w->config.hosts[w->config.own]);
    if (statefile_write(w->config.path, &slot, &error) < 0)
        log_warn("ha", "that the host takes no part any more could not be written", "cause", error.text);
    atomic_store(&w->left, true);
}

static void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static void *disk_run(void *arg)
{
    struct watchdog *w = arg;
    while (!atomic_load(&w->leaving)) {
        int64_t next = watchdog_now_ms() + w->config.interval_ms;
        bool was_gone = atomic_load(&w->all_gone);
        beat(w);
        /* That all guests are gone is told at once. */
        while (watchdog_now_ms() < next && !atomic_load(&w->leaving) && atomic_load(&w->all_gone) == was_gone)
            sleep_ms(w->config.interval_ms < 20 ? w->config.interval_ms : 20);
    }
    farewell(w);
    return NULL;
}

/* ---- hostd ---- */

static void fill_status(struct watchdog *w, struct watchdog_status *s)
{
    *s = (struct watchdog_status){.now_ms = watchdog_now_ms(),
                                  .lease_until_ms = atomic_load(&w->lease_until),
                                  .written_ms = atomic_load(&w->written),
                                  .read_ms = atomic_load(&w->read),
                                  .pid = getpid(),
                                  .fenced = atomic_load(&w->fenced),
                                  .all_gone = atomic_load(&w->all_gone)};
    snprintf(s->instance, sizeof(s->instance), "%s", w->instance);
    pthread_mutex_lock(&w->lock);
    snprintf(s->error, sizeof(s->error), "%s", w->error);
    for (size_t i = 0; i < w->config.host_count; i++) {
        s->slots[i].sequence = w->entries[statefile_slot(i)].sequence;
        s->slots[i].state = w->entries[statefile_slot(i)].state;
    }
    pthread_mutex_unlock(&w->lock);
}

static void answer(struct watchdog *w, int fd)
{
    struct link_request request;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 1000) != 1 || recv(fd, &request, sizeof(request), 0) != sizeof(request))
        return;
    int64_t now = watchdog_now_ms();
    atomic_store(&w->heard, now);
    if (request.what == WATCHDOG_RENEW && request.value <= now && !atomic_load(&w->excluded))
        renew(w, request.value + w->config.lease_ms);
    if (request.what == WATCHDOG_GONE && atomic_load(&w->fenced))
        atomic_store(&w->all_gone, true);
    if (request.what == WATCHDOG_DISARM)
        atomic_store(&w->leaving, true);
    struct watchdog_status status;
    fill_status(w, &status);
    if (send(fd, &status, sizeof(status), MSG_NOSIGNAL) < 0)
        log_debug("ha", "the agent did not wait for an answer");
}

static void *link_run(void *arg)
{
    struct watchdog *w = arg;
    int listener AUTO_CLOSE = link_listen(w->state_dir);
    if (listener < 0)
        log_error("ha", "the agent cannot be listened to", "cause", strerror(errno));
    while (listener >= 0) {
        int fd AUTO_CLOSE = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            answer(w, fd);
        else
            sleep_ms(LOOK_MS);
    }
    return NULL;
}

/* ---- the guests ---- */

/* The folder is gone: there is nothing left to watch over. */
static bool orphaned(const struct watchdog *w)
{
    AUTO_FREE char *path = xasprintf("%s/ha/config.json", w->state_dir);
    struct stat st;
    return stat(path, &st) < 0 && errno == ENOENT;
}

static void mark_fenced(const struct watchdog *w, const char *why)
{
    AUTO_FREE char *path = xasprintf("%s/ha/fenced", w->state_dir);
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, why, strlen(why)) < 0)
        log_error("ha", "that the guests were ended could not be noted", "cause", strerror(errno));
}

/* NULL: they may run on. */
static const char *over(struct watchdog *w)
{
    int64_t now = watchdog_now_ms();
    if (atomic_load(&w->excluded))
        return "the pool counts this host as failed";
    if (now >= atomic_load(&w->lease_until))
        return "neither the heartbeat disk nor the pool's server was reached in time";
    if (now >= atomic_load(&w->heard) + w->config.agent_ms)
        return "the host's agent does not work";
    return NULL;
}

/* Simulated guests end with hostd, or by its hand. */
static bool hostd_works(struct watchdog *w)
{
    return watchdog_now_ms() < atomic_load(&w->heard) + w->config.agent_ms;
}

static void watch(struct watchdog *w)
{
    int64_t swept = 0;
    while (!atomic_load(&w->leaving)) {
        failpoint("watchdog:looks");
        const char *why = over(w);
        if (why && !atomic_load(&w->fenced)) {
            atomic_store(&w->fenced, true);
            size_t ended = guests_end(w->state_dir);
            mark_fenced(w, why);
            log_error("ha", "the guests of this host were ended", "why", why, "guests", LOG_INT(ended));
        }
        if (atomic_load(&w->fenced) && watchdog_now_ms() >= swept + SWEEP_MS) {
            guests_end(w->state_dir);
            swept = watchdog_now_ms();
            if (guests_gone(w->state_dir) && (!w->simulated || !hostd_works(w)))
                atomic_store(&w->all_gone, true);
        }
        if (orphaned(w))
            return;
        int64_t left = atomic_load(&w->lease_until) - watchdog_now_ms();
        sleep_ms(left > LOOK_MS || left <= 0 ? LOOK_MS : left);
    }
    for (int64_t end = watchdog_now_ms() + DISARM_MS; !atomic_load(&w->left) && watchdog_now_ms() < end;)
        sleep_ms(10);
}

/* ---- the process ---- */

/* It has to work when the machine is short of everything. What the machine does not grant is done without. */
static void become_urgent(void)
{
    int fd AUTO_CLOSE = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "-1000", 5) < 0)
        log_debug("ha", "the watchdog may be ended when memory is short");
    if (setpriority(PRIO_PROCESS, 0, -20) < 0)
        log_debug("ha", "the watchdog has no priority");
    prctl(PR_SET_NAME, "corral-watchdog");
}

static int take_lock(const char *state_dir)
{
    AUTO_FREE char *path = xasprintf("%s/ha/lock", state_dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (int64_t end = watchdog_now_ms() + LOCK_WAIT_MS; fd >= 0;) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return fd;
        if (watchdog_now_ms() >= end)
            break;
        sleep_ms(20);
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

int watchdog_run(const char *state_dir, const struct watchdog_start *start)
{
    static struct watchdog w;
    pthread_t disk, link;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* it goes when the host is disarmed, not when services are stopped */
    int lock AUTO_CLOSE = take_lock(state_dir);
    if (lock < 0)
        return EXIT_BUSY;
    w.state_dir = state_dir;
    w.simulated = start->simulated;
    w.anew = start->anew;
    if (!watchdog_config_read(state_dir, &w.config)) {
        log_error("ha", "the watchdog's settings cannot be read");
        return 1;
    }
    become_urgent();
    uuid_format(ref_new(), w.instance);
    pthread_mutex_init(&w.lock, NULL);
    int64_t now = watchdog_now_ms();
    int64_t grace =
        w.config.lease_ms < 2 * w.config.interval_ms ? w.config.lease_ms : 2 * w.config.interval_ms;
    atomic_store(&w.lease_until, start->anew             ? now + w.config.lease_ms
                                 : start->lease_until_ms ? start->lease_until_ms
                                                         : now + grace);
    atomic_store(&w.heard, now);
    /* An earlier process may have ended guests: until the host is armed anew it stays so. */
    atomic_store(&w.fenced, watchdog_was_fenced(state_dir));
    if (pthread_create(&disk, NULL, disk_run, &w) != 0 || pthread_create(&link, NULL, link_run, &w) != 0)
        return 1;
    log_info("ha", "the watchdog is at work", "lease_ms", LOG_INT(w.config.lease_ms), "instance", w.instance);
    watch(&w);
    log_info("ha", "the watchdog ends");
    /* A thread may hang on storage: nothing is torn down under it. */
    _exit(0);
}
