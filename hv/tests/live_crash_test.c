/* kill -9 of hostd at many moments of a suspend, a snapshot and a copy: afterwards the operation says what is
 * true, the guest has lost nothing, and nothing is left of what is not there. And kill -9 of the device model
 * under operations: each says that. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define COPY "33333333-3333-4333-8333-444444444444"
#define STATE "33333333-3333-4333-8333-666666666666"
#define ROUNDS 10

static struct fixture f;

static void start_qemu(void)
{
    fixture_start(&f, "qemu");
}

static void stop(void)
{
    fixture_stop(&f);
}

TestSuite(live_crash, .init = start_qemu, .fini = stop, .timeout = 400);

struct asking {
    struct hv_host *host;
    struct hv_op op;
    enum hv_call_id call;
    const void *args;
    int outcome;
    struct hv_err err;
    pthread_t thread;
};

static void *ask(void *arg)
{
    struct asking *a = arg;
    const struct hv_call_desc *call = &hv_calls[a->call];
    void *result AUTO_FREE = xcalloc(1, call->result->size);
    a->outcome = hv_call(a->host, a->call, &a->op, a->args, result, &a->err);
    if (a->outcome == 0)
        wire_done(call->result, result);
    return NULL;
}

static bool done_after(const char *id, int64_t after_us)
{
    struct hv_operation_get_args args = {.id = id, .wait_ms = 30000};
    struct hv_operation_get_result result;
    struct hv_op op = {.timeout_ms = 60000};
    struct hv_err err = {0};
    cr_assert_eq(hv_operation_get(f.host, &op, &args, &result, &err), 0, "%s", err.text);
    enum operation_state state = result.status.state;
    hv_operation_get_result_done(&result);
    cr_assert(state == OPERATION_STATE_DONE || state == OPERATION_STATE_FAILED ||
                  state == OPERATION_STATE_UNKNOWN,
              "after %lld us it is %s", (long long)after_us, operation_state_name(state));
    return state == OPERATION_STATE_DONE;
}

/* Kills hostd that long after the call was made, and starts it again. True: the operation was done. */
static bool interrupted(enum hv_call_id call, const void *args, int64_t after_us)
{
    struct asking a = {.host = f.host, .op = fresh_op(), .call = call, .args = args};
    pthread_create(&a.thread, NULL, ask, &a);
    struct timespec pause = {.tv_nsec = after_us * 1000};
    nanosleep(&pause, NULL);
    f.host = NULL;
    proc_kill(&f.hostd);
    hv_host_interrupt(a.host);
    pthread_join(a.thread, NULL);
    hv_host_close(a.host);
    fixture_launch(&f);
    return done_after(a.op.id, after_us);
}

static bool is_live(void)
{
    struct hv_domain_info_args args = {.domain = VM};
    struct hv_domain_info_result result;
    if (hv_domain_info(f.host, NULL, &args, &result, NULL) < 0)
        return false;
    enum domain_state state = result.info.state;
    hv_domain_info_result_done(&result);
    cr_assert(state == DOMAIN_STATE_RUNNING || state == DOMAIN_STATE_GONE, "it is %s",
              domain_state_name(state));
    return state == DOMAIN_STATE_RUNNING;
}

static bool has_disk(const char *disk)
{
    struct hv_disk_info_args args = {.sr = SR, .disk = disk};
    struct hv_disk_info_result result;
    if (hv_disk_info(f.host, NULL, &args, &result, NULL) < 0)
        return false;
    hv_disk_info_result_done(&result);
    return true;
}

static void destroy(const char *disk)
{
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    struct hv_disk_destroy_args args = {.sr = SR, .disk = disk};
    struct hv_disk_destroy_result result;
    cr_assert_eq(hv_disk_destroy(f.host, &op, &args, &result, &err), 0, "%s", err.text);
}

static int count_temps(void)
{
    int count = 0;
    DIR *list = opendir(f.storage);
    for (struct dirent *e; (e = readdir(list));)
        count += strncmp(e->d_name, ".corral-tmp", 11) == 0;
    closedir(list);
    return count;
}

/* A temporary file that QEMU's helper still holds goes at the next look. */
static void no_leftovers(void)
{
    int64_t end = clock_mono_ms() + 20000;
    while (count_temps() > 0) {
        cr_assert_lt(clock_mono_ms(), end, "a temporary file is left");
        fixture_kill(&f);
        fixture_launch(&f);
    }
}

static char letter(char digit)
{
    struct stream *console = must_console(&f, "serial");
    char told = must_tell(console, digit);
    stream_close(console);
    return told;
}

static struct domain_config *begin(void)
{
    static struct domain_config config;
    fixture_storage(&f);
    small_domain(&config);
    struct domain_info info = must_start(&f, &config);
    domain_info_done(&info);
    struct stream *console = must_console(&f, "serial");
    must_see(console, "guest is up");
    stream_close(console);
    return &config;
}

Test(live_crash, kill_9_in_the_middle_of_a_suspend)
{
    struct domain_config *config = begin();
    struct hv_err err = {0};
    must_create_state(&f, STATE);
    int done = 0;
    for (int round = 0; round < ROUNDS; round++) {
        char before = letter('1');
        struct hv_domain_suspend_args args = {.domain = VM, .sr = SR, .disk = STATE};
        bool was_done = interrupted(HV_CALL_DOMAIN_SUSPEND, &args, round * 40000);
        cr_assert_eq(is_live(), !was_done, "round %d: %s", round, was_done ? "it runs still" : "it is gone");
        if (was_done) {
            cr_assert_eq(fixture_count(&f, "run"), 0);
            struct hv_op op = fresh_op();
            struct hv_domain_resume_args resume = {.config = *config, .sr = SR, .disk = STATE};
            struct hv_domain_resume_result resumed;
            cr_assert_eq(hv_domain_resume(f.host, &op, &resume, &resumed, &err), 0, "%s", err.text);
            hv_domain_resume_result_done(&resumed);
        }
        cr_assert_eq(letter('2'), before, "round %d: the guest's memory is another", round);
        done += was_done;
    }
    domain_config_done(config);
    cr_assert_lt(done, ROUNDS);
}

Test(live_crash, kill_9_in_the_middle_of_a_resume)
{
    struct domain_config *config = begin();
    struct hv_err err = {0};
    must_create_state(&f, STATE);
    char before = letter('1');
    struct hv_domain_suspend_args args = {.domain = VM, .sr = SR, .disk = STATE};
    struct hv_domain_suspend_result suspended;
    struct hv_op op = fresh_op();
    cr_assert_eq(hv_domain_suspend(f.host, &op, &args, &suspended, &err), 0, "%s", err.text);
    for (int round = 0; round < ROUNDS; round++) {
        struct hv_domain_resume_args resume = {.config = *config, .sr = SR, .disk = STATE};
        bool was_done = interrupted(HV_CALL_DOMAIN_RESUME, &resume, round * 60000);
        cr_assert_eq(is_live(), was_done, "round %d", round);
        if (was_done)
            cr_assert_eq(letter('2'), before, "round %d: the guest's memory is another", round);
        must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
        cr_assert_eq(fixture_count(&f, "run"), 0, "round %d: something of it is left", round);
    }
    domain_config_done(config);
}

Test(live_crash, kill_9_in_the_middle_of_a_snapshot)
{
    struct domain_config *config = begin();
    for (int round = 0; round < ROUNDS; round++) {
        char before = letter('1');
        cr_assert_eq(letter('3'), before);
        struct snapshot_disk disk = {.sr = SR, .disk = DISK, .new_disk = COPY};
        struct hv_domain_snapshot_args args = {.domain = VM, .disks = &disk, .disks_count = 1};
        bool was_done = interrupted(HV_CALL_DOMAIN_SNAPSHOT, &args, round * 25000);
        cr_assert(is_live());
        cr_assert_eq(has_disk(COPY), was_done, "round %d", round);
        cr_assert_eq(letter('4'), before, "round %d: the disk holds something else", round);
        no_leftovers();
        if (was_done)
            destroy(COPY);
    }
    /* What the guest wrote last is there when it is started anew. */
    char before = letter('1');
    letter('3');
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    struct domain_info info = must_start(&f, config);
    domain_info_done(&info);
    struct stream *console = must_console(&f, "serial");
    must_see(console, "guest is up");
    cr_assert_eq(must_tell(console, '4'), before);
    stream_close(console);
    domain_config_done(config);
}

Test(live_crash, kill_9_in_the_middle_of_a_copy)
{
    struct domain_config *config = begin();
    char before = letter('1');
    letter('3');
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    for (int round = 0; round < ROUNDS; round++) {
        struct hv_disk_clone_args args = {.sr = SR, .disk = DISK, .new_disk = COPY};
        /* One that was written down is taken up again. */
        bool was_done = interrupted(HV_CALL_DISK_CLONE, &args, round * 12000);
        cr_assert_eq(has_disk(COPY), was_done, "round %d: %s", round,
                     was_done ? "it is not there" : "it is there");
        no_leftovers();
        const char *const disks[] = {DISK, COPY};
        str_assign(&config->disks[0].disk, disks[was_done && round % 2]);
        struct domain_info info = must_start(&f, config);
        domain_info_done(&info);
        struct stream *console = must_console(&f, "serial");
        must_see(console, "guest is up");
        cr_assert_eq(must_tell(console, '4'), before, "round %d", round);
        stream_close(console);
        must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
        if (was_done)
            destroy(COPY);
    }
    domain_config_done(config);
}

/* ---- the device model ---- */

static enum operation_state state_of(const char *id)
{
    struct hv_operation_get_args args = {.id = id};
    struct hv_operation_get_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_operation_get(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    enum operation_state state = result.status.state;
    hv_operation_get_result_done(&result);
    return state;
}

Test(live_crash, the_device_model_dies_under_an_operation)
{
    struct domain_config config;
    fixture_storage(&f);
    small_domain(&config);
    must_create(&f, STATE, 512 << 20);
    must_create(&f, COPY, 1 << 20);
    struct snapshot_disk disk = {.sr = SR, .disk = DISK, .new_disk = "33333333-3333-4333-8333-777777777777"};
    const struct hv_domain_pause_args of = {.domain = VM};
    const struct hv_domain_snapshot_args snapshot = {.domain = VM, .disks = &disk, .disks_count = 1};
    const struct hv_domain_suspend_args suspend = {.domain = VM, .sr = SR, .disk = STATE};
    const struct hv_domain_set_memory_args memory = {.domain = VM, .memory_bytes = 24 << 20};
    const struct hv_disk_plug_args plug = {
        .domain = VM,
        .disk = {.device = "xvdb", .index = 1, .source = DISK_SOURCE_DISK, .sr = SR, .disk = COPY}};
    const struct hv_nic_unplug_args unplug = {.domain = VM, .index = 0};
    const struct {
        enum hv_call_id call;
        const void *args;
    } cases[] = {
        {HV_CALL_DOMAIN_PAUSE, &of},          {HV_CALL_DOMAIN_HARD_REBOOT, &of},
        {HV_CALL_DOMAIN_SNAPSHOT, &snapshot}, {HV_CALL_DOMAIN_SUSPEND, &suspend},
        {HV_CALL_DOMAIN_SET_MEMORY, &memory}, {HV_CALL_DISK_PLUG, &plug},
        {HV_CALL_NIC_UNPLUG, &unplug},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *name = hv_calls[cases[i].call].name;
        struct domain_info info = must_start(&f, &config);
        /* It stands still, so that the operation has to wait for it. */
        cr_assert_eq(kill((pid_t)info.pid, SIGSTOP), 0);
        struct asking a = {.host = f.host, .op = fresh_op(), .call = cases[i].call, .args = cases[i].args};
        pthread_create(&a.thread, NULL, ask, &a);
        int64_t end = clock_mono_ms() + 20000;
        for (enum operation_state state = OPERATION_STATE_UNKNOWN;
             state == OPERATION_STATE_UNKNOWN || state == OPERATION_STATE_QUEUED; state = state_of(a.op.id))
            cr_assert_lt(clock_mono_ms(), end, "%s does not begin", name);
        cr_assert_eq(kill((pid_t)info.pid, SIGKILL), 0);
        pthread_join(a.thread, NULL);
        cr_assert_eq(a.outcome, -1, "%s", name);
        cr_assert_eq(a.err.kind, HV_ERR_KIND_CRASHED, "%s: %s: %s", name, hv_err_kind_name(a.err.kind),
                     a.err.text);
        cr_assert(strstr(a.err.text, "signal 9"), "%s: %s", name, a.err.text);
        cr_assert_eq(fixture_count(&f, "run"), 0, "%s", name);
        must_fail(&f, HV_CALL_DOMAIN_PAUSE, VM, HV_ERR_KIND_NOT_FOUND); /* it had ended before */
        must_call(&f, HV_CALL_DOMAIN_FORGET, VM);
        domain_info_done(&info);
    }
    domain_config_done(&config);
}
