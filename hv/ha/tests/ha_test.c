/* The heartbeat disk, and the watchdog as a process: what keeps guests running and what ends them. A guest is
 * a process that STATE/run names. */
#include <base/clock.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ha/watchdog.h>
#include <io/rundir.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define GENERATION "11111111-1111-4111-8111-111111111111"
#define HOST_A "22222222-2222-4222-8222-22222222222a"
#define HOST_B "22222222-2222-4222-8222-22222222222b"
#define GUEST "33333333-3333-4333-8333-333333333333"
#define LIMIT_MS 60000

static char folder[64], disk[96], away[96];
static pid_t watchdog, guest;

static struct statefile_entry entry(size_t sector, enum statefile_state state, uint64_t sequence,
                                    const char *host)
{
    struct statefile_entry e = {.index = (uint32_t)sector, .state = state, .sequence = sequence};
    snprintf(e.generation, sizeof(e.generation), "%s", GENERATION);
    snprintf(e.host, sizeof(e.host), "%s", host);
    return e;
}

Test(statefile, sectors_say_what_was_written)
{
    uint8_t sector[STATEFILE_SECTOR];
    struct statefile_entry e = entry(statefile_slot(5), STATEFILE_FENCED, UINT64_C(0x1234567890), HOST_A),
                           got;
    statefile_encode(&e, sector);
    cr_assert(statefile_decode(sector, &got));
    cr_assert_eq(got.index, 11);
    cr_assert_eq(got.state, STATEFILE_FENCED);
    cr_assert_eq(got.sequence, UINT64_C(0x1234567890));
    cr_assert_str_eq(got.host, HOST_A);
    cr_assert_str_eq(got.generation, GENERATION);
    for (size_t i = 0; i < 72; i++) { /* every bit that counts */
        sector[i] ^= 0x10;
        cr_expect_not(statefile_decode(sector, &got), "byte %zu", i);
        sector[i] ^= 0x10;
    }
}

/* ---- the process ---- */

static void make_guest(void)
{
    char path[160], text[64];
    guest = fork();
    if (guest == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    snprintf(path, sizeof(path), "%s/run/%s", folder, GUEST);
    cr_assert_eq(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/run/%s/pid", folder, GUEST);
    int fd AUTO_CLOSE = open(path, O_WRONLY | O_CREAT, 0600);
    int len = snprintf(text, sizeof(text), "%d %llu\n", guest, process_start_ticks(guest));
    cr_assert_eq(write(fd, text, (size_t)len), len);
}

/* A program of its own: a process with threads that forks may hold locks that nobody gives back. */
static void start_watchdog(const struct watchdog_start *start)
{
    char lease[24];
    snprintf(lease, sizeof(lease), "%lld", (long long)start->lease_until_ms);
    const char *const argv[] = {
        HOSTD, "--watchdog", folder, start->simulated ? "sim" : "qemu", start->anew ? "anew" : lease, NULL};
    const struct proc_spec spec = {.argv = argv,
                                   .env = (const char *const *)(uintptr_t)environ, /* failpoints */
                                   .stderr_fd = 2,
                                   .ends_with_caller = true};
    struct proc proc;
    cr_assert_eq(proc_start(&spec, &proc), 0);
    watchdog = proc.pid;
    proc_forget(&proc);
}

static void begin(int64_t lease_ms, int64_t agent_ms)
{
    char path[96];
    char hosts[2][UUID_TEXT_SIZE] = {HOST_A, HOST_B};
    struct watchdog_config config = {.path = disk,
                                     .hosts = hosts,
                                     .host_count = 2,
                                     .own = 1,
                                     .interval_ms = 50,
                                     .lease_ms = lease_ms,
                                     .agent_ms = agent_ms};
    const struct watchdog_start start = {.anew = true};
    snprintf(config.generation, sizeof(config.generation), "%s", GENERATION);
    snprintf(folder, sizeof(folder), "/tmp/corral-ha-XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/run", folder);
    mkdir(path, 0700);
    snprintf(disk, sizeof(disk), "%s/statefile", folder);
    snprintf(away, sizeof(away), "%s/away", folder);
    int fd AUTO_CLOSE = open(disk, O_RDWR | O_CREAT, 0600);
    cr_assert_eq(ftruncate(fd, STATEFILE_BYTES), 0);
    cr_assert_eq(watchdog_config_write(folder, &config), 0);
    make_guest();
    start_watchdog(&start);
}

static void end(void)
{
    char command[128];
    if (watchdog > 0) {
        kill(watchdog, SIGKILL);
        waitpid(watchdog, NULL, 0);
    }
    kill(guest, SIGKILL);
    waitpid(guest, NULL, 0);
    snprintf(command, sizeof(command), "rm -r %s", folder);
    cr_expect_eq(system(command), 0);
}

static bool guest_lives(void)
{
    return waitpid(guest, NULL, WNOHANG) == 0;
}

/* Also hostd's sign of life. */
static struct watchdog_status ask(enum watchdog_request request, int64_t value)
{
    struct watchdog_status status = {0};
    watchdog_ask(folder, request, value, LIMIT_MS, &status); /* at once when it is not there */
    return status;
}

static struct statefile_entry slot(void)
{
    struct statefile_entry got = {0};
    struct statefile_error error;
    statefile_read(disk, statefile_slot(1), GENERATION, &got, &error);
    return got;
}

static void wait_written(void)
{
    for (int64_t until = clock_mono_ms() + LIMIT_MS; ask(WATCHDOG_STATUS, 0).written_ms == 0; usleep(5000))
        cr_assert_lt(clock_mono_ms(), until, "it never wrote");
}

static void wait_dead(bool ask_meanwhile)
{
    for (int64_t until = clock_mono_ms() + LIMIT_MS; guest_lives(); usleep(5000)) {
        cr_assert_lt(clock_mono_ms(), until, "the guest runs on");
        if (ask_meanwhile)
            ask(WATCHDOG_STATUS, 0);
    }
}

static void wait_slot(enum statefile_state state)
{
    for (int64_t until = clock_mono_ms() + LIMIT_MS; slot().state != state; usleep(5000)) {
        ask(WATCHDOG_STATUS, 0);
        cr_assert_lt(clock_mono_ms(), until, "the slot does not become %d", state);
    }
}

static void wait_watchdog_gone(void)
{
    for (int64_t until = clock_mono_ms() + LIMIT_MS; waitpid(watchdog, NULL, WNOHANG) == 0; usleep(5000))
        cr_assert_lt(clock_mono_ms(), until, "the watchdog does not end");
    watchdog = 0;
}

Test(watchdog, storage_is_lost_then_signs_of_life_hold_the_lease_then_nothing_does)
{
    begin(3000, LIMIT_MS);
    wait_written();
    cr_assert_eq(rename(disk, away), 0);
    int64_t lost = watchdog_now_ms();
    /* Longer than the lease, by acknowledged signs alone. */
    while (watchdog_now_ms() < lost + 4500) {
        ask(WATCHDOG_RENEW, watchdog_now_ms());
        usleep(20000);
    }
    cr_assert(guest_lives());
    cr_assert(*ask(WATCHDOG_STATUS, 0).error);
    int64_t last = ask(WATCHDOG_STATUS, 0).lease_until_ms;
    wait_dead(true);
    cr_assert_geq(watchdog_now_ms(), last, "before the lease was over");
    /* The guests end first: the mark is on storage, which may be slow. */
    for (int64_t until = clock_mono_ms() + LIMIT_MS; !watchdog_was_fenced(folder); usleep(5000))
        cr_assert_lt(clock_mono_ms(), until, "it left no mark");
    cr_assert_eq(rename(away, disk), 0);
    wait_slot(STATEFILE_FENCED); /* told as soon as the storage is back, and not taken back */
    ask(WATCHDOG_RENEW, watchdog_now_ms());
    cr_assert(ask(WATCHDOG_STATUS, 0).fenced);
    cr_assert(ask(WATCHDOG_STATUS, 0).all_gone);
    end();
}

Test(watchdog, the_agent_falls_silent)
{
    begin(LIMIT_MS, 1000);
    wait_written();
    wait_dead(false);
    wait_slot(STATEFILE_FENCED);
    end();
}

Test(watchdog, the_pool_counts_the_host_as_failed)
{
    begin(LIMIT_MS, LIMIT_MS);
    wait_written();
    struct statefile_error error;
    struct statefile_entry old = entry(statefile_verdict(1), STATEFILE_OUT, 0, HOST_B),
                           other = entry(statefile_verdict(0), STATEFILE_OUT, 1 << 20, HOST_A),
                           out = entry(statefile_verdict(1), STATEFILE_OUT, slot().sequence, HOST_B);
    /* About another host, and about this one before it was armed. */
    cr_assert_eq(statefile_write(disk, &other, &error), 0);
    cr_assert_eq(statefile_write(disk, &old, &error), 0);
    uint64_t seen = slot().sequence;
    for (int64_t until = clock_mono_ms() + LIMIT_MS; slot().sequence < seen + 3; usleep(5000))
        cr_assert_lt(clock_mono_ms(), until);
    cr_assert(guest_lives());
    cr_assert_eq(statefile_write(disk, &out, &error), 0);
    wait_dead(true);
    wait_slot(STATEFILE_FENCED);
    end();
}

/* The machine, or the watchdog alone, stood still for longer than the lease. */
Test(watchdog, it_was_stopped_itself)
{
    begin(1500, LIMIT_MS);
    wait_written();
    kill(watchdog, SIGSTOP);
    usleep(2000000);
    kill(watchdog, SIGCONT);
    wait_dead(false);
    end();
}

static void wait_status(bool (*there)(const struct watchdog_status *, int64_t), int64_t than,
                        const char *what)
{
    for (int64_t until = clock_mono_ms() + LIMIT_MS;; usleep(5000)) {
        struct watchdog_status status = ask(WATCHDOG_STATUS, 0);
        if (there(&status, than))
            return;
        cr_assert_lt(clock_mono_ms(), until, "%s", what);
    }
}

static bool lease_is_over(const struct watchdog_status *status, int64_t than)
{
    (void)than;
    return status->now_ms > status->lease_until_ms;
}

static bool has_read_since(const struct watchdog_status *status, int64_t than)
{
    return status->written_ms > than && status->read_ms > than;
}

/* Holds the thread that looks at the time; the others go on. */
static void hold_the_look(const char *points)
{
    char path[96], order[96];
    snprintf(path, sizeof(path), "%s/armed", points);
    snprintf(order, sizeof(order), "%s/new", points);
    int fd AUTO_CLOSE = open(order, O_WRONLY | O_CREAT, 0600);
    cr_assert_eq(write(fd, "hold watchdog:looks", 19), 19);
    cr_assert_eq(rename(order, path), 0);
    snprintf(path, sizeof(path), "%s/held", points);
    for (int64_t until = clock_mono_ms() + LIMIT_MS; access(path, F_OK) < 0; usleep(5000))
        cr_assert_lt(clock_mono_ms(), until, "nothing is held");
}

/* Whoever is heard of first after a lease was over: the disk or the pool's server. Another host may run the
 * guests. */
Test(watchdog, a_lease_that_is_over_stays_so)
{
    char points[] = "/tmp/corral-ha-points-XXXXXX", path[96];
    cr_assert(mkdtemp(points));
    setenv("CORRAL_FAILPOINTS", points, 1);
    begin(1500, LIMIT_MS);
    unsetenv("CORRAL_FAILPOINTS");
    wait_written();
    hold_the_look(points);
    cr_assert_eq(rename(disk, away), 0);
    wait_status(lease_is_over, 0, "the lease is renewed without a disk");
    int64_t over = ask(WATCHDOG_STATUS, 0).lease_until_ms, back = watchdog_now_ms();
    cr_assert_eq(rename(away, disk), 0);
    wait_status(has_read_since, back, "the disk is not used again");
    /* What was read then has been counted when the next reading has begun. */
    wait_status(has_read_since, watchdog_now_ms(), "the disk is not used any more");
    cr_expect_eq(ask(WATCHDOG_STATUS, 0).lease_until_ms, over, "renewed by the disk");
    cr_expect_eq(ask(WATCHDOG_RENEW, watchdog_now_ms()).lease_until_ms, over, "renewed by the pool's server");
    cr_expect(guest_lives());
    snprintf(path, sizeof(path), "%s/held", points);
    cr_assert_eq(unlink(path), 0);
    wait_dead(true);
    wait_slot(STATEFILE_FENCED);
    end();
    snprintf(path, sizeof(path), "rm -r %s", points);
    cr_expect_eq(system(path), 0);
}

/* The one that takes its place goes on with its lease, and with what the pool said of the host meanwhile. */
Test(watchdog, it_died_and_another_takes_its_place)
{
    const struct watchdog_start known = {.lease_until_ms = 1}, unknown = {.anew = false};
    begin(LIMIT_MS, LIMIT_MS);
    wait_written();
    kill(watchdog, SIGKILL);
    waitpid(watchdog, NULL, 0);
    struct statefile_error error;
    struct statefile_entry out = entry(statefile_verdict(1), STATEFILE_OUT, slot().sequence, HOST_B);
    cr_assert_eq(statefile_write(disk, &out, &error), 0);
    start_watchdog(&unknown);
    wait_dead(true);
    end();

    begin(LIMIT_MS, LIMIT_MS);
    wait_written();
    kill(watchdog, SIGKILL);
    waitpid(watchdog, NULL, 0);
    start_watchdog(&known);
    wait_dead(true);
    end();
}

Test(watchdog, ways_to_end_it_that_leave_guests_alone)
{
    struct statefile_error error;
    struct statefile_entry header = entry(0, STATEFILE_OFF, 0, "");
    char path[96];
    for (int way = 0; way < 3; way++) {
        begin(LIMIT_MS, LIMIT_MS);
        wait_written();
        kill(watchdog, SIGTERM); /* is not one */
        if (way == 0) {
            ask(WATCHDOG_DISARM, 0);
        } else if (way == 1) {
            cr_assert_eq(statefile_write(disk, &header, &error), 0);
        } else {
            watchdog_config_remove(folder);
        }
        wait_watchdog_gone();
        cr_assert(guest_lives(), "%d", way);
        cr_assert(way == 2 || slot().state == STATEFILE_OFF);
        snprintf(path, sizeof(path), "%s/ha/fenced", folder);
        cr_assert(access(path, F_OK) < 0);
        end();
    }
}

/* Simulated guests are hostd's: all are gone when it says so. */
Test(watchdog, simulated_guests)
{
    const struct watchdog_start start = {.simulated = true, .lease_until_ms = 1};
    begin(LIMIT_MS, LIMIT_MS);
    wait_written();
    kill(watchdog, SIGKILL);
    waitpid(watchdog, NULL, 0);
    start_watchdog(&start);
    for (int64_t until = clock_mono_ms() + LIMIT_MS; !ask(WATCHDOG_STATUS, 0).fenced; usleep(5000))
        cr_assert_lt(clock_mono_ms(), until);
    cr_assert_not(ask(WATCHDOG_STATUS, 0).all_gone);
    ask(WATCHDOG_GONE, 0);
    cr_assert(ask(WATCHDOG_STATUS, 0).all_gone);
    wait_slot(STATEFILE_FENCED);
    end();
}
