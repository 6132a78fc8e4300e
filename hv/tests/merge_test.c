/* Images that snapshots left behind are merged while the guest runs and after it, through hostd with QEMU:
 * the guest and its snapshots hold what they held, and the folder has fewer files, also when hostd dies at
 * it. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define SNAP "33333333-3333-4333-8333-44444444000%d"
#define MEMORY "33333333-3333-4333-8333-555555555555"

static struct fixture f;

static void start_qemu(void)
{
    fixture_start(&f, "qemu");
}

static void stop(void)
{
    fixture_stop(&f);
}

TestSuite(merge, .init = start_qemu, .fini = stop, .timeout = 400);

static int count_bases(const char *end)
{
    int count = 0;
    DIR *dir = opendir(f.storage);
    for (const struct dirent *e; (e = readdir(dir));) {
        size_t len = strlen(e->d_name);
        count += strncmp(e->d_name, "base-", 5) == 0 && streq(e->d_name + len - strlen(end), end);
    }
    closedir(dir);
    return count;
}

static void until_bases(int wanted)
{
    int64_t end = clock_mono_ms() + 90000;
    while (count_bases(".qcow2") != wanted) {
        cr_assert_lt(clock_mono_ms(), end, "there are %d bases, not %d", count_bases(".qcow2"), wanted);
        poll(NULL, 0, 50);
    }
}

static void run(const char *disk)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    str_assign(&config.disks[0].disk, disk);
    struct domain_info info = must_start(&f, &config);
    domain_info_done(&info);
}

static struct stream *greeted(void)
{
    struct stream *console = must_console(&f, "serial");
    must_see(console, "guest is up");
    return console;
}

static void tells(struct stream *console, char digit, char letter)
{
    char told = must_tell(console, digit);
    cr_assert_eq(told, letter, "%c is answered with %c, not %c", digit, told, letter);
}

static int checkpoint(int number, const char *memory, struct hv_err *err)
{
    char name[40];
    snprintf(name, sizeof(name), SNAP, number % 10);
    struct hv_op op = fresh_op();
    struct snapshot_disk disk = {.sr = SR, .disk = DISK, .new_disk = name};
    struct hv_domain_snapshot_args args = {.domain = VM,
                                           .disks = &disk,
                                           .disks_count = 1,
                                           .memory_sr = memory ? SR : "",
                                           .memory_disk = memory ? memory : ""};
    struct hv_domain_snapshot_result result;
    if (hv_domain_snapshot(f.host, &op, &args, &result, err) < 0)
        return -1;
    hv_domain_snapshot_result_done(&result);
    return 0;
}

static int snapshot(int number, struct hv_err *err)
{
    return checkpoint(number, NULL, err);
}

/* The guest's next letter goes to its disk, and that into a snapshot. */
static void write_and_snapshot(struct stream *console, char letter, int number)
{
    struct hv_err err = {0};
    tells(console, '1', letter);
    tells(console, '3', letter);
    cr_assert_eq(snapshot(number, &err), 0, "%s", err.text);
}

static int try_destroy(int number, struct hv_err *err)
{
    char name[40];
    snprintf(name, sizeof(name), SNAP, number % 10);
    struct hv_op op = fresh_op();
    struct hv_disk_destroy_args args = {.sr = SR, .disk = name};
    struct hv_disk_destroy_result result;
    return hv_disk_destroy(f.host, &op, &args, &result, err);
}

static void destroy(int number)
{
    struct hv_err err = {0};
    cr_assert_eq(try_destroy(number, &err), 0, "%s", err.text);
}

static void holds(const char *disk, char letter)
{
    run(disk);
    struct stream *console = greeted();
    tells(console, '4', letter);
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
}

/* The lowest image is the raw disk that the guest began with: it stays. */
Test(merge, while_the_guest_runs_and_after)
{
    fixture_storage(&f);
    run(DISK);
    struct stream *console = greeted();
    for (int i = 0; i < 5; i++)
        write_and_snapshot(console, (char)('b' + i), i);
    cr_assert_eq(count_bases(".qcow2"), 4);
    destroy(1);
    until_bases(3);
    tells(console, '4', 'f');
    tells(console, '1', 'g');
    tells(console, '3', 'g');
    destroy(3);
    destroy(4);
    until_bases(2); /* that of snapshot 2, and what the guest had written until 4 */
    write_and_snapshot(console, 'h', 5);
    tells(console, '4', 'h');
    stream_close(console);
    /* What is read while images are merged, and a domain that is taken from under a merge. */
    destroy(5);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    holds(DISK, 'h');
    holds("33333333-3333-4333-8333-444444440000", 'b');
    holds("33333333-3333-4333-8333-444444440002", 'd');
    destroy(0);
    destroy(2);
    until_bases(0);
    holds(DISK, 'h');
    cr_assert_eq(count_bases(".raw"), 1);
}

/* ---- an operation that finds a merge about to begin ---- */

static char points[96];

static void in_points(const char *name, char out[static 128])
{
    snprintf(out, 128, "%s/%s", points, name);
}

static void arm(const char *order)
{
    char path[128];
    in_points("armed", path);
    cr_assert_eq(file_write_atomic(path, order, strlen(order), 0600), 0);
}

static void until_reached(const char *place)
{
    char path[128];
    in_points("reached", path);
    for (int64_t end = clock_mono_ms() + 60000;;) {
        char *reached AUTO_FREE = file_read(path, 1 << 20, NULL);
        if (reached && strstr(reached, place))
            return;
        cr_assert_lt(clock_mono_ms(), end, "hostd does not come to %s", place);
        poll(NULL, 0, 20);
    }
}

static void until_stopped(pid_t pid)
{
    char path[40];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    for (int64_t end = clock_mono_ms() + 60000;;) {
        char *stat AUTO_FREE = file_read(path, 4096, NULL);
        const char *name_end = stat ? strrchr(stat, ')') : NULL;
        if (name_end && strncmp(name_end, ") T", 3) == 0)
            return;
        cr_assert_lt(clock_mono_ms(), end, "process %d does not stand still", (int)pid);
        poll(NULL, 0, 20);
    }
}

/* On a thread of its own: hostd may stand still before it answers. */
struct call {
    int (*run)(int number, struct hv_err *err);
    int number, outcome;
    struct hv_err err;
    pthread_t thread;
};

static void *call_thread(void *arg)
{
    struct call *call = arg;
    call->outcome = call->run(call->number, &call->err);
    return NULL;
}

static void begin(struct call *call)
{
    cr_assert_eq(pthread_create(&call->thread, NULL, call_thread, call), 0);
}

static void succeeds(struct call *call)
{
    pthread_join(call->thread, NULL);
    cr_assert_eq(call->outcome, 0, "%s", call->err.text);
}

/* The device model has the command that begins a merge and does not answer when a snapshot wants the disk: it
 * carries the command out all the same, so the merge has to await the answer and end what it began. */
Test(merge, makes_way_at_its_beginning)
{
    struct call removal = {.run = try_destroy, .number = 1}, next = {.run = snapshot, .number = 3};
    fixture_storage(&f);
    fixture_kill(&f);
    snprintf(points, sizeof(points), "%s/points", f.dir);
    cr_assert_eq(mkdir(points, 0700), 0);
    f.failpoints = points;
    fixture_launch(&f);
    run(DISK);
    struct stream *console = greeted();
    for (int i = 0; i < 3; i++)
        write_and_snapshot(console, (char)('b' + i), i);
    struct domain_info info = must_info(&f);
    pid_t qemu = (pid_t)info.pid;
    domain_info_done(&info);
    arm("stop merge-live:begins");
    begin(&removal);
    until_stopped(f.hostd.pid);
    kill(qemu, SIGSTOP);
    until_stopped(qemu);
    begin(&next);
    kill(f.hostd.pid, SIGCONT);
    until_reached("merge-live:cut");
    poll(NULL, 0, 600); /* one that gives up the command does so meanwhile */
    kill(qemu, SIGCONT);
    succeeds(&removal);
    succeeds(&next);
    until_bases(2); /* of the three there are then: the merge begins anew */
    tells(console, '4', 'd');
    stream_close(console);
}

/* hostd dies in a merge of a running guest, is started again, and everything goes on. */
static void dies_at(const char *failpoint)
{
    struct domain_info info;
    fixture_storage(&f);
    fixture_kill(&f);
    f.failpoint = failpoint;
    fixture_launch(&f);
    run(DISK);
    struct stream *console = greeted();
    for (int i = 0; i < 3; i++)
        write_and_snapshot(console, (char)('b' + i), i);
    struct hv_err err = {0}; /* hostd may die before it answers */
    cr_assert(try_destroy(1, &err) == 0 || err.kind == HV_ERR_KIND_UNREACHABLE, "%s", err.text);
    fixture_await_death(&f);
    stream_close(console);
    f.failpoint = NULL;
    fixture_launch(&f);
    info = must_info(&f);
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    domain_info_done(&info);
    console = must_console(&f, "serial");
    tells(console, '4', 'd');
    write_and_snapshot(console, 'e', 3);
    tells(console, '4', 'e');
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    holds("33333333-3333-4333-8333-444444440000", 'b');
    holds("33333333-3333-4333-8333-444444440002", 'd');
    holds("33333333-3333-4333-8333-444444440003", 'e');
    destroy(0);
    destroy(2);
    destroy(3);
    until_bases(0);
    holds(DISK, 'e');
}

Test(merge, a_death_before_it)
{
    dies_at("merge-begun:base");
}

Test(merge, a_death_before_the_new_name)
{
    dies_at("merge-written:base");
}

/* QEMU gives the disks of a paused guest away with its memory: the merge needs them there again, also when
 * the agent ends before it has taken them back. */
static void paused_with_its_memory_saved(const char *failpoint)
{
    struct hv_err err = {0};
    fixture_storage(&f);
    run(DISK);
    struct stream *console = greeted();
    for (int i = 0; i < 3; i++)
        write_and_snapshot(console, (char)('b' + i), i);
    stream_close(console);
    must_create_state(&f, MEMORY);
    must_call(&f, HV_CALL_DOMAIN_PAUSE, VM);
    if (failpoint) {
        fixture_kill(&f);
        f.failpoint = failpoint;
        fixture_launch(&f);
        cr_assert_eq(checkpoint(3, MEMORY, &err), -1);
        fixture_await_death(&f);
        f.failpoint = NULL;
        fixture_launch(&f);
    } else {
        cr_assert_eq(checkpoint(3, MEMORY, &err), 0, "%s", err.text);
    }
    int bases = count_bases(".qcow2");
    destroy(1);
    until_bases(bases - 1);
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(info.state, DOMAIN_STATE_PAUSED);
    must_call(&f, HV_CALL_DOMAIN_UNPAUSE, VM);
    console = must_console(&f, "serial");
    tells(console, '4', 'd');
    tells(console, '1', 'e');
    tells(console, '3', 'e');
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    holds(DISK, 'e');
}

Test(merge, while_a_guest_is_paused_whose_memory_was_saved)
{
    paused_with_its_memory_saved(NULL);
}

Test(merge, while_a_guest_is_paused_whose_memory_was_saved_by_an_agent_that_died)
{
    paused_with_its_memory_saved("save:written");
}
