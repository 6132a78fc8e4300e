/* hostd as a whole: started as a program, commanded through the client, with the simulator and with a real
 * QEMU. What is the same for both drivers is written once. */
#include "../client/client_internal.h"
#include "agent_fixture.h"
#include "boot_sector.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/http_client.h>
#include <base/mem.h>
#include <base/pki.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct fixture f;

static void stop(void)
{
    fixture_stop(&f);
}

static void start_sim(void)
{
    fixture_start(&f, "sim");
}

static void start_qemu(void)
{
    fixture_start(&f, "qemu");
}

TestSuite(sim, .init = start_sim, .fini = stop, .timeout = 120);
TestSuite(qemu, .init = start_qemu, .fini = stop, .timeout = 180);

static void run(const struct domain_config *config)
{
    struct domain_info info = must_start(&f, config);
    domain_info_done(&info);
}

static void started(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    struct domain_info info AUTO_DOMAIN_INFO = must_start(&f, &config);
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    cr_assert_gt(info.domid, 0);
}

static const char *greeting(void)
{
    return streq(f.driver, "sim") ? "guest login: " : BOOT_SECTOR_GREETING;
}

static enum domain_state state_now(void)
{
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    return info.state;
}

static void whole_life(void)
{
    fixture_storage(&f);
    started();
    struct stream *console = must_console(&f, "serial");
    must_see(console, greeting());
    cr_assert_eq(stream_write_all(console, "xyz", 3, 5000), 0);
    must_see(console, "xyz");
    must_call(&f, HV_CALL_DOMAIN_PAUSE, VM);
    cr_assert_eq(state_now(), DOMAIN_STATE_PAUSED);
    must_fail(&f, HV_CALL_DOMAIN_PAUSE, VM, HV_ERR_KIND_BAD_STATE);
    must_call(&f, HV_CALL_DOMAIN_UNPAUSE, VM);
    must_call(&f, HV_CALL_DOMAIN_HARD_REBOOT, VM);
    must_see(console, greeting());
    must_call(&f, HV_CALL_DOMAIN_SHUTDOWN, VM);
    must_fail(&f, HV_CALL_DOMAIN_PAUSE, VM, HV_ERR_KIND_NOT_FOUND);
    cr_assert_eq(fixture_count(&f, "run"), 0);
    cr_assert_eq(fixture_count(&f, "ended"), 0);
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
}

Test(sim, whole_life)
{
    whole_life();
}

Test(qemu, whole_life)
{
    whole_life();
}

static void survives_the_agent(void)
{
    fixture_storage(&f);
    started();
    struct stream *console = must_console(&f, "serial");
    must_see(console, greeting());
    stream_close(console);
    struct domain_info before AUTO_DOMAIN_INFO = must_info(&f);
    fixture_kill(&f);
    if (before.pid > 0)
        cr_assert_eq(kill((pid_t)before.pid, 0), 0, "the device model died with the agent");
    fixture_launch(&f);
    struct domain_info after AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(after.state, DOMAIN_STATE_RUNNING);
    cr_assert_eq(after.pid, before.pid);
    cr_assert_eq(after.domid, before.domid);
    console = must_console(&f, "serial");
    must_see(console, greeting());
    cr_assert_eq(stream_write_all(console, "still", 5, 5000), 0);
    must_see(console, "still");
    stream_close(console);
    /* The repository is there again without being asked for. */
    struct hv_sr_scan_args args = {.sr = SR};
    struct hv_sr_scan_result scan;
    struct hv_err err = {0};
    cr_assert_eq(hv_sr_scan(f.host, NULL, &args, &scan, &err), 0, "%s", err.text);
    cr_assert_eq(scan.disks_count, 1);
    cr_assert(scan.disks[0].in_use);
    hv_sr_scan_result_done(&scan);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    cr_assert_eq(fixture_count(&f, "run"), 0);
    /* A zombie at most, until its new parent looks. */
    char *stat AUTO_FREE = xasprintf("/proc/%d/stat", (int)before.pid),
               *text AUTO_FREE = file_read(stat, 4096, NULL);
    cr_assert(before.pid == 0 || !text || strstr(text, ") Z"), "%s", text);
}

Test(sim, a_domain_survives_kill_9_of_the_agent)
{
    survives_the_agent();
}

Test(qemu, a_domain_survives_kill_9_of_the_agent)
{
    survives_the_agent();
}

static void repeats_are_harmless(void)
{
    fixture_storage(&f);
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct hv_domain_start_args args = {.config = config};
    struct hv_domain_start_result first, second, third;
    cr_assert_eq(hv_domain_start(f.host, &op, &args, &first, &err), 0, "%s", err.text);
    cr_assert_eq(hv_domain_start(f.host, &op, &args, &second, &err), 0, "%s", err.text);
    cr_assert_eq(first.info.domid, second.info.domid);
    fixture_kill(&f);
    fixture_launch(&f);
    cr_assert_eq(hv_domain_start(f.host, &op, &args, &third, &err), 0, "%s", err.text);
    cr_assert_eq(first.info.domid, third.info.domid);
    /* The same id for something else is a mistake; another id is another start. */
    struct hv_domain_pause_args other = {.domain = VM};
    struct hv_domain_pause_result result;
    cr_assert_eq(hv_domain_pause(f.host, &op, &other, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT);
    struct hv_op again = fresh_op();
    struct hv_domain_start_result none;
    cr_assert_eq(hv_domain_start(f.host, &again, &args, &none, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_EXISTS);
    hv_domain_start_result_done(&first);
    hv_domain_start_result_done(&second);
    hv_domain_start_result_done(&third);
}

Test(sim, an_operation_is_done_once_over_restarts)
{
    repeats_are_harmless();
}

Test(qemu, an_operation_is_done_once_over_restarts)
{
    repeats_are_harmless();
}

Test(qemu, a_killed_device_model_is_an_event)
{
    fixture_storage(&f);
    started();
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    char *cursor AUTO_FREE = cursor_now(&f);
    kill((pid_t)info.pid, SIGKILL);
    must_become(&f, cursor, DOMAIN_STATE_GONE, END_REASON_DEVICE_MODEL_DIED, 20000);
    struct domain_info after AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert(strstr(after.end_text, "KILL"), "%s", after.end_text);
    must_call(&f, HV_CALL_DOMAIN_FORGET, VM);
    must_fail(&f, HV_CALL_DOMAIN_PAUSE, VM, HV_ERR_KIND_NOT_FOUND);
}

Test(qemu, a_device_model_killed_while_the_agent_was_away_is_reported)
{
    fixture_storage(&f);
    started();
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    fixture_kill(&f);
    kill((pid_t)info.pid, SIGKILL);
    fixture_launch(&f);
    struct domain_info after AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(after.state, DOMAIN_STATE_GONE);
    cr_assert_eq(after.end_reason, END_REASON_DEVICE_MODEL_DIED);
    cr_assert_eq(fixture_count(&f, "run"), 0);
}

Test(qemu, a_guest_that_powers_off_while_the_agent_is_away_did_not_crash)
{
    fixture_storage(&f);
    started();
    struct stream *console = must_console(&f, "serial");
    must_see(console, BOOT_SECTOR_GREETING);
    /* Held still, so that the key waits in the socket until the agent is gone. */
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    kill((pid_t)info.pid, SIGSTOP);
    cr_assert_eq(stream_write_all(console, "p", 1, 5000), 0);
    /* A second viewer's arrival shows that the key has gone through. */
    struct stream *other = must_console(&f, "serial");
    must_see(other, BOOT_SECTOR_GREETING);
    stream_close(other);
    fixture_kill(&f);
    kill((pid_t)info.pid, SIGCONT);
    stream_close(console);
    char *cursor AUTO_FREE = NULL;
    fixture_launch(&f);
    cursor = cursor_now(&f);
    struct domain_info after AUTO_DOMAIN_INFO = must_info(&f);
    if (after.state != DOMAIN_STATE_GONE)
        must_become(&f, cursor, DOMAIN_STATE_GONE, END_REASON_GUEST_SHUTDOWN, 20000);
    struct domain_info last AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(last.end_reason, END_REASON_GUEST_SHUTDOWN, "%s", last.end_text);
}

/* A shutdown that the guest ignores, on its own thread. */
struct waiting {
    int outcome;
    _Atomic bool over;
    struct hv_err err;
    _Atomic bool cancel;
    pthread_t thread;
};

static void *run_shutdown(void *arg)
{
    struct waiting *waiting = arg;
    struct hv_op op = fresh_op();
    op.cancel = &waiting->cancel;
    struct hv_domain_shutdown_args args = {.domain = VM};
    struct hv_domain_shutdown_result result;
    waiting->outcome = hv_domain_shutdown(f.host, &op, &args, &result, &waiting->err);
    atomic_store(&waiting->over, true);
    return NULL;
}

static void start_stubborn(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    config.firmware = FIRMWARE_KERNEL;
    str_assign(&config.kernel, "vmlinuz");
    str_assign(&config.cmdline, "sim.ignore_shutdown");
    run(&config);
}

/* Waits until the agent has an operation of that call running. */
static void wait_running(enum hv_call_id call, struct waiting *waiting)
{
    for (int64_t end = clock_mono_ms() + 20000;;) {
        cr_assert(!waiting || !atomic_load(&waiting->over), "it ended at once: %s", waiting->err.text);
        cr_assert_lt(clock_mono_ms(), end, "the agent has no such operation");
        struct hv_operation_list_args args = {0};
        struct hv_operation_list_result result;
        struct hv_err err = {0};
        cr_assert_eq(hv_operation_list(f.host, NULL, &args, &result, &err), 0);
        bool found = false;
        for (size_t i = 0; i < result.operations_count; i++)
            found = found || (streq(result.operations[i].call, hv_calls[call].name) &&
                              result.operations[i].state == OPERATION_STATE_RUNNING);
        hv_operation_list_result_done(&result);
        if (found)
            return;
    }
}

Test(sim, a_hard_shutdown_overtakes_one_that_waits)
{
    fixture_storage(&f);
    start_stubborn();
    struct waiting waiting = {.outcome = 1};
    pthread_create(&waiting.thread, NULL, run_shutdown, &waiting);
    wait_running(HV_CALL_DOMAIN_SHUTDOWN, &waiting);
    int64_t before = clock_mono_ms();
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    cr_assert_lt(clock_mono_ms() - before, 5000);
    pthread_join(waiting.thread, NULL);
    cr_assert_eq(waiting.outcome, -1);
    cr_assert_eq(waiting.err.kind, HV_ERR_KIND_CANCELLED, "%s", waiting.err.text);
}

Test(sim, a_waiting_shutdown_can_be_cancelled)
{
    fixture_storage(&f);
    start_stubborn();
    struct waiting waiting = {.outcome = 1};
    pthread_create(&waiting.thread, NULL, run_shutdown, &waiting);
    wait_running(HV_CALL_DOMAIN_SHUTDOWN, &waiting);
    atomic_store(&waiting.cancel, true);
    pthread_join(waiting.thread, NULL);
    cr_assert_eq(waiting.outcome, -1);
    cr_assert_eq(waiting.err.kind, HV_ERR_KIND_CANCELLED, "%s", waiting.err.text);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
}

#define COPY "33333333-3333-4333-8333-555555555555"

static void *run_snapshot(void *arg)
{
    struct waiting *waiting = arg;
    struct hv_op op = fresh_op();
    op.cancel = &waiting->cancel;
    struct snapshot_disk disk = {.sr = SR, .disk = DISK, .new_disk = COPY};
    struct hv_domain_snapshot_args args = {.domain = VM, .disks = &disk, .disks_count = 1};
    struct hv_domain_snapshot_result result;
    waiting->outcome = hv_domain_snapshot(f.host, &op, &args, &result, &waiting->err);
    atomic_store(&waiting->over, true);
    return NULL;
}

Test(sim, an_operation_tells_which_disks_it_makes)
{
    fixture_storage(&f);
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    config.firmware = FIRMWARE_KERNEL;
    str_assign(&config.kernel, "vmlinuz");
    str_assign(&config.cmdline, "sim.snapshot_ms=60000");
    run(&config);
    struct waiting waiting = {.outcome = 1};
    pthread_create(&waiting.thread, NULL, run_snapshot, &waiting);
    wait_running(HV_CALL_DOMAIN_SNAPSHOT, &waiting);
    struct hv_operation_list_args args = {0};
    struct hv_operation_list_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_operation_list(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    cr_assert_eq(result.operations_count, 1);
    cr_assert_eq(result.operations[0].makes_count, 1);
    cr_assert_str_eq(result.operations[0].makes[0], COPY);
    hv_operation_list_result_done(&result);
    atomic_store(&waiting.cancel, true);
    pthread_join(waiting.thread, NULL);
    cr_assert_eq(waiting.err.kind, HV_ERR_KIND_CANCELLED, "%s", waiting.err.text);
}

Test(sim, a_deadline_ends_a_wait_and_the_guest_runs_on)
{
    fixture_storage(&f);
    start_stubborn();
    struct hv_op op = fresh_op();
    op.timeout_ms = 700;
    struct hv_domain_shutdown_args args = {.domain = VM};
    struct hv_domain_shutdown_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_domain_shutdown(f.host, &op, &args, &result, &err), -1);
    cr_assert(err.kind == HV_ERR_KIND_GUEST || err.kind == HV_ERR_KIND_DEADLINE, "%s", err.text);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
}

Test(sim, an_interrupted_shutdown_is_taken_up_again)
{
    fixture_storage(&f);
    start_stubborn();
    struct waiting waiting = {.outcome = 1};
    pthread_create(&waiting.thread, NULL, run_shutdown, &waiting);
    wait_running(HV_CALL_DOMAIN_SHUTDOWN, &waiting);
    struct hv_host *old = f.host;
    f.host = NULL;
    proc_kill(&f.hostd);
    hv_host_interrupt(old);
    pthread_join(waiting.thread, NULL);
    hv_host_close(old);
    cr_assert_eq(waiting.err.kind, HV_ERR_KIND_UNREACHABLE, "%s", waiting.err.text);
    fixture_launch(&f);
    wait_running(HV_CALL_DOMAIN_SHUTDOWN, NULL);
}

Test(sim, guests_have_addresses_and_can_be_asked)
{
    fixture_storage(&f);
    started();
    struct stream *console = must_console(&f, "serial");
    must_see(console, "guest login: ");
    stream_close(console);
    struct hv_guest_refresh_args args = {.domain = VM};
    struct hv_guest_refresh_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_guest_refresh(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    cr_assert(result.guest.live);
    cr_assert_eq(result.guest.addresses_count, 1);
    cr_assert_eq(result.guest.addresses[0].nic, 0);
    hv_guest_refresh_result_done(&result);
    must_call(&f, HV_CALL_DOMAIN_REBOOT, VM);
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(info.reboots, 1);
}

Test(sim, a_crash_is_an_event_and_a_record)
{
    fixture_storage(&f);
    char *cursor AUTO_FREE = cursor_now(&f);
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    config.firmware = FIRMWARE_KERNEL;
    str_assign(&config.kernel, "vmlinuz");
    str_assign(&config.cmdline, "sim.crash_ms=20");
    run(&config);
    must_become(&f, cursor, DOMAIN_STATE_GONE, END_REASON_GUEST_CRASH, 20000);
    cr_assert_eq(state_now(), DOMAIN_STATE_GONE);
    cr_assert_eq(fixture_count(&f, "ended"), 1);
    must_call(&f, HV_CALL_DOMAIN_FORGET, VM);
    cr_assert_eq(fixture_count(&f, "ended"), 0);
}

Test(sim, cursors_of_another_run_are_lost)
{
    char *cursor AUTO_FREE = cursor_now(&f);
    fixture_kill(&f);
    fixture_launch(&f);
    struct hv_events_wait_args args = {.cursor = cursor, .wait_ms = 10000};
    struct hv_events_wait_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_events_wait(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    cr_assert(result.lost);
    hv_events_wait_result_done(&result);
}

struct sink {
    int64_t announced;
    struct buf data;
};

static int begin(void *ctx, int64_t size)
{
    ((struct sink *)ctx)->announced = size;
    return 0;
}

static int take(void *ctx, const void *data, size_t len)
{
    buf_add(&((struct sink *)ctx)->data, data, len);
    return 0;
}

static void disks_go_in_and_out(void)
{
    fixture_storage(&f);
    struct hv_err err = {0};
    struct hv_op op = fresh_op();
    struct sink sink = {0};
    struct hv_disk_export_args args = {.sr = SR, .disk = DISK, .format = IMAGE_FORMAT_RAW, .length = -1};
    cr_assert_eq(hv_disk_export(f.host, &op, &args, begin, take, &sink, &err), 0, "%s", err.text);
    cr_assert_eq(sink.announced, BOOT_DISK_SIZE);
    unsigned char *disk AUTO_FREE = xmalloc(BOOT_DISK_SIZE);
    boot_disk_fill(disk);
    cr_assert_eq(sink.data.len, BOOT_DISK_SIZE);
    cr_assert_eq(memcmp(sink.data.data, disk, BOOT_DISK_SIZE), 0);
    buf_done(&sink.data);
    /* A copy, then the errors. */
    struct hv_disk_copy_args copy = {.sr = SR, .disk = DISK, .new_sr = SR, .new_disk = VM};
    struct hv_disk_copy_result copied;
    op = fresh_op();
    cr_assert_eq(hv_disk_copy(f.host, &op, &copy, &copied, &err), 0, "%s", err.text);
    cr_assert_eq(copied.info.virtual_size_bytes, BOOT_DISK_SIZE);
    hv_disk_copy_result_done(&copied);
    op = fresh_op();
    cr_assert_eq(hv_disk_copy(f.host, &op, &copy, &copied, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_EXISTS, "%s", err.text);
    args.disk = HOST;
    op = fresh_op();
    cr_assert_eq(hv_disk_export(f.host, &op, &args, begin, take, &sink, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND, "%s", err.text);
    /* A disk that a domain has is left alone. */
    started();
    struct hv_disk_destroy_args destroy = {.sr = SR, .disk = DISK};
    struct hv_disk_destroy_result destroyed;
    op = fresh_op();
    cr_assert_eq(hv_disk_destroy(f.host, &op, &destroy, &destroyed, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_IN_USE, "%s", err.text);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    op = fresh_op();
    cr_assert_eq(hv_disk_destroy(f.host, &op, &destroy, &destroyed, &err), 0, "%s", err.text);
    op = fresh_op();
    destroy.disk = VM;
    cr_assert_eq(hv_disk_destroy(f.host, &op, &destroy, &destroyed, &err), 0, "%s", err.text);
}

Test(sim, disks_go_in_and_out)
{
    disks_go_in_and_out();
}

Test(qemu, disks_go_in_and_out)
{
    disks_go_in_and_out();
}

static void media_change(void)
{
    char *path AUTO_FREE = xasprintf("%s/some disc.iso", f.isos);
    unsigned char *disk AUTO_FREE = xcalloc(1, BOOT_DISK_SIZE);
    cr_assert_eq(file_write_atomic(path, disk, BOOT_DISK_SIZE, 0644), 0);
    fixture_storage(&f);
    started();
    struct hv_err err = {0};
    struct hv_op op = fresh_op();
    struct hv_cd_insert_args insert = {.domain = VM, .device = "hdc", .sr = ISO_SR, .iso = "some disc.iso"};
    struct hv_cd_insert_result inserted;
    cr_assert_eq(hv_cd_insert(f.host, &op, &insert, &inserted, &err), 0, "%s", err.text);
    insert.iso = "no such disc.iso";
    op = fresh_op();
    cr_assert_eq(hv_cd_insert(f.host, &op, &insert, &inserted, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND, "%s", err.text);
    struct hv_cd_eject_args eject = {.domain = VM, .device = "hdc"};
    struct hv_cd_eject_result ejected;
    op = fresh_op();
    cr_assert_eq(hv_cd_eject(f.host, &op, &eject, &ejected, &err), 0, "%s", err.text);
}

Test(sim, media_change)
{
    media_change();
}

Test(qemu, media_change)
{
    media_change();
}

Test(qemu, two_domains_never_write_one_disk)
{
    fixture_storage(&f);
    started();
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    str_assign(&config.uuid, HOST);
    str_assign(&config.nics[0].mac, "52:54:00:12:34:57");
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct hv_domain_start_args args = {.config = config};
    struct hv_domain_start_result result;
    cr_assert_eq(hv_domain_start(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_IN_USE, "%s", err.text);
    cr_assert_eq(fixture_count(&f, "run"), 1);
}

static void screen_through_the_agent(void)
{
    fixture_storage(&f);
    started();
    struct stream *screen = must_console(&f, "vnc");
    must_see(screen, "RFB 003.008\n");
    /* Version, security type "none", shared: the name of the screen comes last. */
    cr_assert_eq(stream_write_all(screen, "RFB 003.008\n\1\1", 14, 5000), 0);
    struct buf seen AUTO_BUF = BUF_INIT;
    const char *name = streq(f.driver, "sim") ? "Simulated" : "QEMU";
    int64_t end = clock_mono_ms() + 20000;
    while (seen.len == 0 || !memmem(seen.data, seen.len, name, strlen(name))) {
        ssize_t n = stream_read(screen, buf_reserve(&seen, 4096), 4096);
        cr_assert(n > 0 || (n < 0 && errno == EAGAIN), "the screen ended");
        if (n > 0)
            buf_advance(&seen, (size_t)n);
        else
            cr_assert_eq(stream_wait_readable(screen, end - clock_mono_ms()), 1, "no screen");
    }
    stream_close(screen);
}

Test(sim, the_screen_goes_through_the_agent)
{
    screen_through_the_agent();
}

Test(qemu, the_screen_goes_through_the_agent)
{
    screen_through_the_agent();
}

Test(qemu, facts_are_plausible)
{
    struct hv_host_facts_args args = {0};
    struct hv_host_facts_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_host_facts(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    const struct host_facts *facts = &result.facts;
    cr_assert_str_eq(facts->driver, "qemu");
    cr_assert_gt(facts->cpu_count, 0);
    cr_assert_gt(facts->memory_total_bytes, 0);
    cr_assert_gt(strlen(facts->accelerator_reason), 20);
    cr_assert_gt(strlen(facts->qemu_version), 2);
    cr_assert_gt(facts->capabilities_count, 5);
    hv_host_facts_result_done(&result);
    struct hv_host_stats_args none = {0};
    struct hv_host_stats_result stats;
    cr_assert_eq(hv_host_stats(f.host, NULL, &none, &stats, &err), 0, "%s", err.text);
    cr_assert_gt(stats.stats.cpu_busy_ns, 0);
    cr_assert_eq((int64_t)stats.stats.cpus_count, sysconf(_SC_NPROCESSORS_ONLN));
    cr_assert_gt(stats.stats.cpus[0].busy_ns, 0);
    cr_assert_gt(stats.stats.cpus[0].idle_ns, 0);
    for (size_t i = 0; i < stats.stats.pifs_count; i++)
        cr_assert_neq(strcmp(stats.stats.pifs[i].device, "lo"), 0);
    cr_assert_gt(stats.stats.memory_total_bytes, stats.stats.memory_free_bytes);
    hv_host_stats_result_done(&stats);
}

/* Whoever is not the pool's server gets nowhere. */
Test(sim, strangers_are_refused)
{
    static const char *const names[] = {"someone.else.internal", HOST ".host.corral.internal"};
    struct hv_domain_list_args args = {0};
    struct hv_domain_list_result result;
    char *ca AUTO_FREE = xasprintf("%s/pki/ca.pem", f.state),
             *ca_key AUTO_FREE = xasprintf("%s/ca.key", f.dir);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct hv_err err = {0};
        char *cert AUTO_FREE = xasprintf("%s/other%zu.pem", f.dir, i),
                   *key AUTO_FREE = xasprintf("%s/other%zu.key", f.dir, i);
        const char *const dns[] = {names[i], NULL};
        struct pki_error error;
        struct pki_leaf leaf = {.common_name = "other", .dns = dns, .usage = PKI_CLIENT, .days = 5};
        cr_assert_eq(pki_issue_files(ca, ca_key, &leaf, cert, key, &error), 0, "%s", error.text);
        struct hv_host_address address = {.host_uuid = HOST,
                                          .address = "127.0.0.1",
                                          .port = f.port,
                                          .ca_file = ca,
                                          .cert_file = cert,
                                          .key_file = key};
        struct hv_host *stranger;
        cr_assert_eq(hv_host_open(&address, &stranger, &err), 0);
        cr_assert_eq(hv_domain_list(stranger, NULL, &args, &result, &err), -1);
        cr_assert(err.kind == HV_ERR_KIND_DENIED || err.kind == HV_ERR_KIND_UNREACHABLE, "%s", err.text);
        hv_host_close(stranger);
    }
    /* And an agent of another name is not talked to. */
    struct hv_err err = {0};
    char *cert AUTO_FREE = xasprintf("%s/client.pem", f.dir),
               *key AUTO_FREE = xasprintf("%s/client.key", f.dir);
    struct hv_host_address wrong = {.host_uuid = VM,
                                    .address = "127.0.0.1",
                                    .port = f.port,
                                    .ca_file = ca,
                                    .cert_file = cert,
                                    .key_file = key};
    struct hv_host *host;
    cr_assert_eq(hv_host_open(&wrong, &host, &err), 0);
    cr_assert_eq(hv_domain_list(host, NULL, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DENIED, "%s", err.text);
    hv_host_close(host);
}

/* A server that was replaced while it slept is told so, also by an agent that was started anew meanwhile. */
static struct hv_host *server_of_term(int64_t term)
{
    char *ca AUTO_FREE = xasprintf("%s/pki/ca.pem", f.state);
    char *cert AUTO_FREE = xasprintf("%s/client.pem", f.dir),
               *key AUTO_FREE = xasprintf("%s/client.key", f.dir);
    const struct hv_host_address address = {.host_uuid = HOST,
                                            .address = "127.0.0.1",
                                            .port = f.port,
                                            .ca_file = ca,
                                            .cert_file = cert,
                                            .key_file = key,
                                            .term = term};
    struct hv_host *host;
    struct hv_err err = {0};
    cr_assert_eq(hv_host_open(&address, &host, &err), 0, "%s", err.text);
    return host;
}

static enum hv_err_kind asked_by_term(int64_t term)
{
    struct hv_domain_list_args args = {0};
    struct hv_domain_list_result result;
    struct hv_err err = {0};
    struct hv_host *host = server_of_term(term);
    if (hv_domain_list(host, NULL, &args, &result, &err) == 0)
        hv_domain_list_result_done(&result);
    hv_host_close(host);
    return err.kind;
}

Test(sim, a_server_of_an_earlier_term_is_refused)
{
    struct stream *stream;
    struct hv_err err = {0};
    cr_assert_eq(asked_by_term(4), HV_ERR_KIND_NONE);
    cr_assert_eq(asked_by_term(3), HV_ERR_KIND_SUPERSEDED);
    cr_assert_eq(asked_by_term(6), HV_ERR_KIND_NONE);
    cr_assert_eq(asked_by_term(5), HV_ERR_KIND_SUPERSEDED);
    struct hv_host *old = server_of_term(5), *now = server_of_term(6);
    cr_assert_eq(hv_console_open(old, VM, "vnc", 5000, &stream, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_SUPERSEDED, "%s", err.text);
    cr_assert_eq(hv_console_open(now, VM, "vnc", 5000, &stream, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND, "%s", err.text);
    hv_host_close(old);
    hv_host_close(now);
    fixture_kill(&f);
    fixture_launch(&f);
    cr_assert_eq(asked_by_term(5), HV_ERR_KIND_SUPERSEDED);
    cr_assert_eq(asked_by_term(6), HV_ERR_KIND_NONE);
    fixture_kill(&f); /* the fixture itself has no term */
    char *term AUTO_FREE = xasprintf("%s/pki/term", f.state);
    cr_assert_eq(unlink(term), 0);
    fixture_launch(&f);
}

/* A device model that is held still answers nothing: calls end at their deadline, and it can still be ended.
 */
Test(qemu, a_device_model_that_hangs_can_be_ended)
{
    fixture_storage(&f);
    started();
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    kill((pid_t)info.pid, SIGSTOP);
    struct hv_op op = fresh_op();
    op.timeout_ms = 700;
    struct hv_domain_pause_args args = {.domain = VM};
    struct hv_domain_pause_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_domain_pause(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DEADLINE, "%s: %s", hv_err_kind_name(err.kind), err.text);
    int64_t before = clock_mono_ms();
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    cr_assert_lt(clock_mono_ms() - before, 10000);
    cr_assert_eq(fixture_count(&f, "run"), 0);
}

/* One that hangs while the agent starts does not keep the agent from serving the others. */
Test(qemu, an_agent_starts_beside_a_device_model_that_hangs)
{
    fixture_storage(&f);
    started();
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    kill((pid_t)info.pid, SIGSTOP);
    fixture_kill(&f);
    fixture_launch(&f);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
    kill((pid_t)info.pid, SIGCONT);
    must_call(&f, HV_CALL_DOMAIN_PAUSE, VM);
}

/* Two agents with one state would command the same domains. */
Test(sim, a_second_agent_with_the_same_state_ends_at_once)
{
    int status = 0;
    const char *const argv[] = {HOSTD, "--state", f.state, "--driver", "sim", "--log-level", "error", NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc second;
    cr_assert_eq(proc_start(&spec, &second), 0);
    cr_assert_eq(proc_wait(&second, 20000, &status), 1);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    struct hv_domain_list_args args = {0};
    struct hv_domain_list_result result;
    cr_assert_eq(hv_domain_list(f.host, NULL, &args, &result, NULL), 0);
    hv_domain_list_result_done(&result);
}

struct knock {
    const char *method, *path, *body;
    size_t fill; /* that many blanks behind the body */
    unsigned status;
    const char *says;
};

static void knock(struct http_client *client, const struct knock *k)
{
    struct buf body AUTO_BUF = BUF_INIT;
    buf_add_str(&body, k->body ? k->body : "");
    if (k->fill) {
        memset(buf_reserve(&body, k->fill), ' ', k->fill);
        buf_advance(&body, k->fill);
    }
    struct http_call call = {.method = k->method, .path = k->path, .body = body.data, .body_len = body.len};
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    struct http_error error;
    cr_assert_eq(http_client_call(client, &call, &reply, &error), 0, "%s: %s", k->path, error.text);
    cr_expect_eq(reply.status, k->status, "%s %s: %u", k->path, k->body, reply.status);
    cr_expect(strstr(reply.body.data ? reply.body.data : "", k->says), "%s: %s", k->path, reply.body.data);
}

/* As the pool's server. The caller frees. */
static struct http_client *pool_client(void)
{
    char *url AUTO_FREE = xasprintf("https://" HOST ".host.corral.internal:%d", f.port);
    char *to AUTO_FREE = xasprintf("127.0.0.1:%d", f.port),
             *ca AUTO_FREE = xasprintf("%s/pki/ca.pem", f.state);
    char *cert AUTO_FREE = xasprintf("%s/client.pem", f.dir),
               *key AUTO_FREE = xasprintf("%s/client.key", f.dir);
    struct http_client_config config = {
        .url = url, .connect_to = to, .ca_file = ca, .cert_file = cert, .key_file = key};
    return http_client_new(&config);
}

Test(sim, a_call_that_the_agent_does_not_know_is_told)
{
    struct http_client *client = pool_client();
    struct http_call call = {
        .method = "POST", .path = "/v1/call/of_a_later_version", .body = "{}", .body_len = 2};
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    struct http_error error;
    struct hv_err err;
    cr_assert_eq(http_client_call(client, &call, &reply, &error), 0, "%s", error.text);
    cr_expect_eq(hv_read_answer(&hv_calls[HV_CALL_DOMAIN_LIST], &reply, NULL, NULL, &err), -1);
    cr_expect_eq(err.kind, HV_ERR_KIND_UNSUPPORTED);
    cr_expect_not_null(strstr(err.text, "earlier version and does not know domain_list"), "%s", err.text);
    http_client_free(client);
}

Test(sim, odd_requests_are_refused)
{
    struct http_client *client = pool_client();
    char *deep AUTO_FREE = xmalloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = '\0';
    const struct knock knocks[] = {
        {"POST", "/v1/call/domain_list", "{\"args\":{}}", 0, 200, "\"result\""},
        {"POST", "/v1/call/domain_list", "not json", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_list", "[]", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_list", "{}", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_list", "{\"args\":7}", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_list", "\xff\xfe", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_list", deep, 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_list", "{\"args\":{}}", 2 << 20, 413, ""},
        {"POST", "/v1/call/domain_info", "{\"args\":{\"domain\":\"../../etc\"}}", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_pause", "{\"args\":{\"domain\":\"" VM "\"}}", 0, 200, "bad_argument"},
        {"POST", "/v1/call/domain_pause", "{\"op\":\"../x\",\"args\":{\"domain\":\"" VM "\"}}", 0, 200,
         "bad_argument"},
        {"POST", "/v1/call/domain_explode", "{}", 0, 404, ""},
        {"POST", "/v1/call/disk_import", "{}", 0, 404, ""},
        {"POST", "/v1/call/", "{}", 0, 404, ""},
        {"GET", "/v1/call/domain_list", NULL, 0, 404, ""},
        {"GET", "/v1/disk_export", NULL, 0, 422, "bad_argument"},
        {"GET", "/v1/disk_export?op=" VM "&args=%7B%7D", NULL, 0, 422, "bad_argument"},
        {"PUT", "/v1/disk_import?op=x", "data", 0, 200, "bad_argument"},
        {"GET", "/v1/console?domain=" VM "&kind=serial", NULL, 0, 400, "Upgrade"},
        {"GET", "/", NULL, 0, 404, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(knocks); i++)
        knock(client, &knocks[i]);
    http_client_free(client);
    cr_assert_eq(fixture_count(&f, "operations"), 0);
}

static void count_asked(void *arg, const char *host_uuid)
{
    cr_assert_str_eq(host_uuid, "00000000-0000-4000-8000-000000000001");
    ++*(int *)arg;
}

Test(stand_in, it_asks_nobody)
{
    int asked = 0;
    struct hv_host *host = hv_host_stand_in("00000000-0000-4000-8000-000000000001", count_asked, &asked);
    struct hv_err err;
    struct stream *stream;
    struct hv_domain_list_args args;
    struct hv_domain_list_result result;
    hv_domain_list_args_init(&args);
    cr_assert_eq(hv_domain_list(host, NULL, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNREACHABLE);
    hv_domain_list_args_done(&args);
    cr_assert_eq(hv_disk_serve(host, "sr", "disk", "", 1000, &stream, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNREACHABLE);
    cr_assert_eq(asked, 2);
    hv_host_close(host);
}
