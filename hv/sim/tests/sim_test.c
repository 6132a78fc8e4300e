/* The simulator through the driver table. */
#include "fixture.h"
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

TestSuite(sim, .init = setup, .fini = teardown);

static enum domain_state state_now(void)
{
    struct domain_info info;
    struct hv_err err;
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0);
    enum domain_state state = info.state;
    domain_info_done(&info);
    return state;
}

Test(sim, a_guest_boots_and_tells_its_address)
{
    struct domain_info info;
    struct hv_err err;
    start("", false);
    wait_for(is_booted);
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0);
    cr_assert_eq(info.guest.addresses_count, 1);
    cr_assert_str_eq(info.guest.addresses[0].address, "10.0.2.15");
    cr_assert_gt(info.domid, 0);
    domain_info_done(&info);
}

static void count(struct domain_stats *stats)
{
    struct hv_err err;
    cr_assert_eq(drv->stats(w.state, VM, stats, &err), 0, "%s", err.text);
}

/* A look that is at least so much later. */
static void count_later(const struct domain_stats *before, int64_t us, struct domain_stats *after)
{
    for (count(after); after->time_us < before->time_us + us; count(after))
        domain_stats_done(after);
}

/* What is counted grows at the promised rate, and stands still while the domain does. */
Test(sim, counters_grow_while_it_runs)
{
    struct domain_stats before, after;
    struct hv_err err;
    struct hv_deadline deadline = within(WAIT_MS);
    start("sim.cpu_percent=80", false);
    wait_for(is_booted);
    count(&before);
    cr_assert_eq(before.vcpus_count, 1);
    cr_assert_eq(before.nics_count, 1);
    cr_assert_eq(before.guest_free_bytes, 32 << 20);
    count_later(&before, 20000, &after);
    double seconds = (double)(after.time_us - before.time_us) / 1e6;
    double busy = (double)(after.vcpus[0].busy_ns - before.vcpus[0].busy_ns) / 1e9;
    cr_assert_float_eq(busy / seconds, 0.8, 0.01);
    cr_assert_gt(after.nics[0].rx_bytes, before.nics[0].rx_bytes);
    domain_stats_done(&before);
    domain_stats_done(&after);
    cr_assert_eq(drv->pause(w.state, VM, &deadline, &err), 0);
    count(&before);
    count_later(&before, 20000, &after);
    cr_assert_eq(after.vcpus[0].busy_ns, before.vcpus[0].busy_ns);
    domain_stats_done(&before);
    domain_stats_done(&after);
}

Test(sim, pause_and_unpause)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = within(WAIT_MS);
    start("", true);
    cr_assert_eq(state_now(), DOMAIN_STATE_PAUSED);
    cr_assert_eq(drv->unpause(w.state, VM, &deadline, &err), 0, "%s", err.text);
    wait_for(is_booted);
    cr_assert_eq(drv->pause(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(state_now(), DOMAIN_STATE_PAUSED);
    cr_assert_lt(drv->shutdown(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_STATE);
}

Test(sim, a_clean_shutdown_leaves_no_record)
{
    struct hv_err err = {0};
    struct domain_info info;
    struct hv_deadline deadline = within(WAIT_MS);
    start("", false);
    cr_assert_eq(drv->shutdown(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_lt(drv->info(w.state, VM, &info, &err), 0);
    cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND);
}

Test(sim, reboot_and_reset_are_counted)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = within(WAIT_MS);
    start("", false);
    cr_assert_eq(drv->reboot(w.state, VM, &deadline, &err), 0, "%s", err.text);
    wait_for(has_rebooted);
    cr_assert_eq(drv->reset(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
}

Test(sim, a_deaf_guest_runs_on_until_it_is_destroyed)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = within(50);
    start("sim.ignore_shutdown", false);
    cr_assert_lt(drv->shutdown(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(err.kind, HV_ERR_KIND_GUEST);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
    deadline = within(WAIT_MS);
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0);
}

static void *destroy_it(void *arg)
{
    struct hv_err err;
    struct hv_deadline deadline = within(WAIT_MS);
    (void)arg;
    drv->destroy(w.state, VM, &deadline, &err);
    return NULL;
}

Test(sim, destroy_overtakes_a_waiting_shutdown)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = within(WAIT_MS);
    pthread_t thread;
    start("sim.ignore_shutdown", false);
    cr_assert_eq(pthread_create(&thread, NULL, destroy_it, NULL), 0);
    int64_t began = clock_mono_ms();
    drv->shutdown(w.state, VM, &deadline, &err);
    cr_assert_lt(clock_mono_ms() - began, WAIT_MS / 2);
    pthread_join(thread, NULL);
}

Test(sim, a_crash_is_told_with_its_reason)
{
    struct domain_info info;
    struct hv_err err;
    start("sim.crash_ms=10", false);
    wait_for(is_gone);
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0);
    cr_assert_eq(info.end_reason, END_REASON_GUEST_CRASH);
    domain_info_done(&info);
    cr_assert_eq(drv->forget(w.state, VM, &err), 0);
    cr_assert_lt(drv->info(w.state, VM, &info, &err), 0);
}

Test(sim, an_end_is_told_by_the_next_driver_too)
{
    struct domain_info info;
    struct hv_err err = {0};
    start("sim.crash_ms=10", false);
    wait_for(is_gone);
    drv->close(w.state);
    open_driver();
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.state, DOMAIN_STATE_GONE);
    cr_assert_eq(info.end_reason, END_REASON_GUEST_CRASH);
    cr_assert_str_eq(info.name, "one");
    domain_info_done(&info);
    cr_assert_eq(drv->forget(w.state, VM, &err), 0);
}

Test(sim, a_guest_reboots_by_itself)
{
    start("sim.reboot_ms=10", false);
    wait_for(has_rebooted);
}

Test(sim, domains_outlive_the_driver)
{
    struct domain_info info;
    struct hv_err err;
    start("", false);
    wait_for(is_booted);
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0);
    int64_t domid = info.domid;
    domain_info_done(&info);
    drv->close(w.state);
    open_driver();
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0);
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    cr_assert_eq(info.domid, domid);
    domain_info_done(&info);
}

/* Reads from a console until the text came. */
static void expect(int fd, const char *text)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char seen[8192] = "";
    size_t len = 0;
    while (!strstr(seen, text)) {
        cr_assert_eq(poll(&p, 1, WAIT_MS), 1, "'%s' did not come", text);
        ssize_t n = read(fd, seen + len, sizeof(seen) - 1 - len);
        cr_assert(n > 0 || (n < 0 && errno == EAGAIN), "the console ended before '%s'", text);
        len += n > 0 ? (size_t)n : 0;
        seen[len] = '\0';
    }
}

Test(sim, the_serial_console_shows_the_login)
{
    struct hv_err err = {0};
    int fd;
    start("", false);
    cr_assert_eq(drv->console_open(w.state, VM, CONSOLE_SERIAL, &fd, &err), 0, "%s", err.text);
    expect(fd, "guest login: ");
    cr_assert_eq(write(fd, "root\r", 5), 5);
    expect(fd, "root");
    close(fd);
}

Test(sim, viewers_of_its_screen_see_the_end)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = within(WAIT_MS);
    int fd;
    char text[64];
    start("", false);
    cr_assert_eq(drv->console_open(w.state, VM, CONSOLE_VNC, &fd, &err), 0, "%s", err.text);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    cr_assert_eq(poll(&p, 1, WAIT_MS), 1);
    cr_assert_eq(read(fd, text, sizeof(text)), 12);
    cr_assert_eq(memcmp(text, "RFB 003.008\n", 12), 0);
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(poll(&p, 1, WAIT_MS), 1);
    cr_assert_eq(read(fd, text, sizeof(text)), 0);
    close(fd);
}
