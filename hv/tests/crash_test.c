/* kill -9 of hostd at many moments of a start: afterwards the operation says what is true, and nothing is
 * left of what is not there. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static struct fixture f;

static void start_qemu(void)
{
    fixture_start(&f, "qemu");
}

static void stop(void)
{
    fixture_stop(&f);
}

TestSuite(crash, .init = start_qemu, .fini = stop, .timeout = 280);

struct starting {
    struct hv_host *host;
    struct hv_op op;
    struct domain_config *config;
    pthread_t thread;
};

static void *run_start(void *arg)
{
    struct starting *s = arg;
    struct hv_domain_start_args args = {.config = *s->config};
    struct hv_domain_start_result result;
    struct hv_err err;
    if (hv_domain_start(s->host, &s->op, &args, &result, &err) == 0)
        hv_domain_start_result_done(&result);
    return NULL;
}

static struct operation_status status_of(const char *id)
{
    struct hv_operation_get_args args = {.id = id, .wait_ms = 20000};
    struct hv_operation_get_result result;
    struct hv_op op = {.timeout_ms = 30000};
    struct hv_err err = {0};
    cr_assert_eq(hv_operation_get(f.host, &op, &args, &result, &err), 0, "%s", err.text);
    return result.status;
}

/* QEMU processes of the test's domain, by their arguments. */
static int count_processes(void)
{
    int n = 0;
    DIR *list = opendir("/proc");
    for (struct dirent *e; (e = readdir(list));) {
        char path[300], text[4096];
        snprintf(path, sizeof(path), "/proc/%s/cmdline", e->d_name);
        FILE *file = e->d_name[0] >= '0' && e->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        size_t len = fread(text, 1, sizeof(text), file);
        fclose(file);
        bool qemu =
            len > 20 && memmem(text, len, "qemu-system", 11) && memmem(text, len, f.tag, strlen(f.tag));
        n += qemu;
    }
    closedir(list);
    return n;
}

static bool is_live(void)
{
    struct hv_domain_info_args args = {.domain = VM};
    struct hv_domain_info_result result;
    if (hv_domain_info(f.host, NULL, &args, &result, NULL) < 0)
        return false;
    bool live = domain_state_is_live(result.info.state);
    hv_domain_info_result_done(&result);
    return live;
}

static void one_round(struct domain_config *config, int64_t after_us, int *done)
{
    struct starting s = {.host = f.host, .op = fresh_op(), .config = config};
    pthread_create(&s.thread, NULL, run_start, &s);
    struct timespec pause = {.tv_nsec = after_us * 1000};
    nanosleep(&pause, NULL);
    f.host = NULL;
    proc_kill(&f.hostd);
    hv_host_interrupt(s.host);
    pthread_join(s.thread, NULL);
    hv_host_close(s.host);
    fixture_launch(&f);
    struct operation_status status = status_of(s.op.id);
    bool live = is_live();
    cr_assert(status.state == OPERATION_STATE_DONE || status.state == OPERATION_STATE_FAILED ||
                  status.state == OPERATION_STATE_UNKNOWN,
              "after %lld us it is %s", (long long)after_us, operation_state_name(status.state));
    cr_assert_eq(live, status.state == OPERATION_STATE_DONE, "after %lld us: %s, %s", (long long)after_us,
                 operation_state_name(status.state), live ? "it runs" : "it does not run");
    *done += live;
    operation_status_done(&status);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    cr_assert_eq(fixture_count(&f, "run"), 0);
    /* One that got no further than its first instructions may take a moment to see that nobody wants it. */
    int64_t end = clock_mono_ms() + 10000;
    while (count_processes() > 0)
        cr_assert_lt(clock_mono_ms(), end, "after %lld us a device model is left", (long long)after_us);
}

Test(crash, kill_9_in_the_middle_of_a_start)
{
    fixture_storage(&f);
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    str_assign(&config.name, f.tag);
    int done = 0;
    for (int round = 0; round < 24; round++)
        one_round(&config, round * 9000, &done);
    /* The last rounds are long enough for a start, the first ones too short: both ends were seen. */
    cr_assert_gt(done, 0);
    cr_assert_lt(done, 24);
}
