/* Images that snapshots left behind are merged while the guest runs and after it, through hostd with QEMU:
 * the guest and its snapshots hold what they held, and the folder has fewer files, also when hostd dies at
 * it. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>

#define SNAP "33333333-3333-4333-8333-44444444000%d"

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

/* The guest's next letter goes to its disk, and that into a snapshot. */
static void write_and_snapshot(struct stream *console, char letter, int number)
{
    char name[40];
    snprintf(name, sizeof(name), SNAP, number % 10);
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct snapshot_disk disk = {.sr = SR, .disk = DISK, .new_disk = name};
    struct hv_domain_snapshot_args args = {.domain = VM, .disks = &disk, .disks_count = 1};
    struct hv_domain_snapshot_result result;
    tells(console, '1', letter);
    tells(console, '3', letter);
    cr_assert_eq(hv_domain_snapshot(f.host, &op, &args, &result, &err), 0, "%s", err.text);
    hv_domain_snapshot_result_done(&result);
}

static void destroy(int number)
{
    char name[40];
    snprintf(name, sizeof(name), SNAP, number % 10);
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct hv_disk_destroy_args args = {.sr = SR, .disk = name};
    struct hv_disk_destroy_result result;
    cr_assert_eq(hv_disk_destroy(f.host, &op, &args, &result, &err), 0, "%s", err.text);
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
    destroy(1);
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
