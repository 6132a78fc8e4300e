/* High availability on one host with a real device model: what ends it, and that nothing starts until the
 * host is armed anew. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#define HEARTBEAT "33333333-3333-4333-8333-333333333334"
#define LIMIT_MS 120000

static struct fixture f;

static void start_qemu(void)
{
    fixture_start(&f, "qemu");
}

static void stop(void)
{
    fixture_stop(&f);
}

TestSuite(fence, .init = start_qemu, .fini = stop, .timeout = 280);

static int arm(const char *generation, int64_t lease_ms, int64_t agent_ms, struct hv_err *err)
{
    struct hv_ha_arm_args args;
    struct hv_ha_arm_result result;
    hv_ha_arm_args_init(&args);
    str_assign(&args.generation, generation);
    str_assign(&args.sr, SR);
    str_assign(&args.disk, HEARTBEAT);
    hv_ha_arm_args_add_hosts(&args, HOST_2);
    hv_ha_arm_args_add_hosts(&args, HOST);
    args.interval_ms = 100;
    args.lease_ms = lease_ms;
    args.agent_ms = agent_ms;
    int rc = hv_ha_arm(f.host, NULL, &args, &result, err);
    hv_ha_arm_args_done(&args);
    return rc;
}

static void must_arm(int64_t lease_ms, int64_t agent_ms)
{
    struct hv_err err = {0};
    char generation[UUID_TEXT_SIZE];
    uuid_format(ref_new(), generation);
    cr_assert_eq(arm(generation, lease_ms, agent_ms, &err), 0, "%s", err.text);
}

static void disarm(void)
{
    struct hv_ha_disarm_args args;
    struct hv_ha_disarm_result result;
    struct hv_err err = {0};
    hv_ha_disarm_args_init(&args);
    cr_assert_eq(hv_ha_disarm(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
}

static enum ha_state state(bool *gone)
{
    struct hv_ha_beat_args args;
    struct hv_ha_beat_result result;
    struct hv_err err = {0};
    hv_ha_beat_args_init(&args);
    cr_assert_eq(hv_ha_beat(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    enum ha_state now = result.state;
    *gone = result.gone;
    hv_ha_beat_result_done(&result);
    return now;
}

/* Whose parent is gone, or stands still, may stay behind as a number. */
static bool lives(pid_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file && fscanf(file, "%*d %*[^)]) %c", &state) != 1)
        state = 'Z';
    if (file)
        fclose(file);
    return state != 'Z' && state != 'X';
}

static void wait_ended(pid_t pid)
{
    for (int64_t until = clock_mono_ms() + LIMIT_MS; lives(pid); usleep(10000))
        cr_assert_lt(clock_mono_ms(), until, "the device model runs on");
}

static void wait_fenced(void)
{
    bool gone = false;
    for (int64_t until = clock_mono_ms() + LIMIT_MS; state(&gone) != HA_STATE_FENCED || !gone; usleep(10000))
        cr_assert_lt(clock_mono_ms(), until, "the host does not become fenced");
}

static void must_not_start(const struct domain_config *config)
{
    struct hv_domain_start_args args = {.config = *config};
    struct hv_domain_start_result result;
    struct hv_err err = {0};
    struct hv_op op = fresh_op();
    cr_assert_lt(hv_domain_start(f.host, &op, &args, &result, &err), 0);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_STATE, "%s", err.text);
}

Test(fence, the_agent_is_killed_then_stands_still_then_storage_is_lost)
{
    struct domain_config config;
    char away[128];
    bool gone;
    struct hv_err err = {0};
    small_domain(&config);
    fixture_storage(&f);
    cr_assert_lt(arm(HOST, 6000, 3000, &err), 0, "without the disk");
    must_create(&f, HEARTBEAT, 1 << 20);
    cr_assert_eq(state(&gone), HA_STATE_OFF);

    must_arm(60000, 3000);
    cr_assert_eq(state(&gone), HA_STATE_ARMED);
    pid_t pid = (pid_t)must_start(&f, &config).pid;
    cr_assert_gt(pid, 0);
    cr_assert(lives(pid));
    fixture_kill(&f);
    wait_ended(pid);
    fixture_launch(&f);
    wait_fenced();
    must_not_start(&config);

    must_arm(60000, 3000);
    pid = (pid_t)must_start(&f, &config).pid;
    proc_signal(&f.hostd, SIGSTOP);
    wait_ended(pid);
    proc_signal(&f.hostd, SIGCONT);
    wait_fenced();

    must_arm(3000, LIMIT_MS);
    pid = (pid_t)must_start(&f, &config).pid;
    snprintf(away, sizeof(away), "%s-away", f.storage);
    cr_assert_eq(rename(f.storage, away), 0);
    wait_ended(pid);
    cr_assert_eq(rename(away, f.storage), 0);
    wait_fenced();

    disarm();
    cr_assert_eq(state(&gone), HA_STATE_OFF);
    must_start(&f, &config);
    domain_config_done(&config);
}
