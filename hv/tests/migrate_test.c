/* Domains that go from one hostd to another: what the guest has in memory and on its disk goes with it, and
 * whoever dies at whatever moment leaves one running guest. On QEMU and on the simulator. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

#define SR_2 "22222222-2222-4222-8222-222222222229"
#define DISK_2 "33333333-3333-4333-8333-333333333339"
#define DISK_SIZE (1 << 20)

static struct fixture a, b;

static void start(const char *driver)
{
    fixture_start(&a, driver);
    fixture_start_second(&b, &a);
    fixture_storage(&a);
}

static void start_qemu(void)
{
    start("qemu");
}

static void start_sim(void)
{
    start("sim");
}

static void stop(void)
{
    fixture_stop(&b);
    fixture_stop(&a);
}

TestSuite(migrate, .init = start_qemu, .fini = stop, .timeout = 400);
TestSuite(migrate_sim, .init = start_sim, .fini = stop, .timeout = 400);

/* ---- one migration, both calls at once ---- */

struct trip {
    struct fixture *from, *to;
    struct domain_config config; /* for the destination */
    const char *mirror[2];
    size_t mirror_count;
    struct hv_op receive_op, send_op;
    char receive_id[UUID_TEXT_SIZE], send_id[UUID_TEXT_SIZE];
    _Atomic bool cancel;
    int received, sent;
    struct hv_err receive_err, send_err;
    int64_t stopped_us, downtime_us;
    pthread_t receiver, sender;
};

static void *receive(void *arg)
{
    struct trip *t = arg;
    struct hv_domain_receive_args args = {
        .config = t->config, .from = t->from->uuid, .mirror = t->mirror, .mirror_count = t->mirror_count};
    struct hv_domain_receive_result result;
    t->received = hv_domain_receive(t->to->host, &t->receive_op, &args, &result, &t->receive_err);
    if (t->received == 0)
        hv_domain_receive_result_done(&result);
    return NULL;
}

static void *send(void *arg)
{
    struct trip *t = arg;
    struct hv_domain_send_args args = {.domain = VM,
                                       .ticket = t->receive_id,
                                       .to = t->to->uuid,
                                       .address = "127.0.0.1",
                                       .port = t->to->port,
                                       .mirror = t->mirror,
                                       .mirror_count = t->mirror_count};
    struct hv_domain_send_result result;
    t->sent = hv_domain_send(t->from->host, &t->send_op, &args, &result, &t->send_err);
    if (t->sent == 0) {
        t->stopped_us = result.stopped_us;
        t->downtime_us = result.downtime_us;
        hv_domain_send_result_done(&result);
    }
    return NULL;
}

static void trip_begin(struct trip *t, struct fixture *from, struct fixture *to)
{
    t->from = from;
    t->to = to;
    uuid_format(ref_new(), t->receive_id);
    uuid_format(ref_new(), t->send_id);
    t->receive_op = (struct hv_op){.id = t->receive_id, .timeout_ms = 120000};
    t->send_op = (struct hv_op){.id = t->send_id, .timeout_ms = 120000, .cancel = &t->cancel};
    pthread_create(&t->receiver, NULL, receive, t);
    pthread_create(&t->sender, NULL, send, t);
}

static void trip_end(struct trip *t)
{
    pthread_join(t->sender, NULL);
    pthread_join(t->receiver, NULL);
}

static void must_go(struct trip *t, struct fixture *from, struct fixture *to)
{
    trip_begin(t, from, to);
    trip_end(t);
    cr_assert_eq(t->sent, 0, "send: %s: %s (receive: %s)", hv_err_kind_name(t->send_err.kind),
                 t->send_err.text, t->received < 0 ? t->receive_err.text : "done");
    cr_assert_eq(t->received, 0, "receive: %s", t->receive_err.text);
}

/* ---- what is true ---- */

static enum domain_state state_at(struct fixture *f)
{
    struct hv_domain_info_args args = {.domain = VM};
    struct hv_domain_info_result result;
    struct hv_err err;
    if (hv_domain_info(f->host, NULL, &args, &result, &err) < 0) {
        cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND, "%s", err.text);
        return DOMAIN_STATE_GONE;
    }
    enum domain_state state = result.info.state;
    hv_domain_info_result_done(&result);
    return state;
}

static char letter(struct fixture *f, char digit)
{
    struct stream *console = must_console(f, "serial");
    char told = must_tell(console, digit);
    stream_close(console);
    return told;
}

static void boot(struct fixture *f, struct domain_config *config)
{
    small_domain(config);
    struct domain_info info = must_start(f, config);
    domain_info_done(&info);
    struct stream *console = must_console(f, "serial");
    must_see(console, "guest is up");
    stream_close(console);
}

static int count_links(pid_t pid, const char *what)
{
    char *path AUTO_FREE = xasprintf("/proc/%d/fd", (int)pid);
    DIR *list = opendir(path);
    int count = 0;
    for (struct dirent *e; list && (e = readdir(list));) {
        char target[512] = "";
        if (readlinkat(dirfd(list), e->d_name, target, sizeof(target) - 1) > 0)
            count += strstr(target, what) != NULL;
    }
    if (list)
        closedir(list);
    return count;
}

/* ---- it goes ---- */

Test(migrate, a_guest_goes_there_and_back_with_its_memory_on_a_shared_disk)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    boot(&a, &t.config);
    char in_memory = letter(&a, '1');
    char on_disk = letter(&a, '3');
    int sockets = count_links(a.hostd.pid, "socket:");
    for (int round = 0; round < 3; round++) {
        bool out = round % 2 == 0;
        struct fixture *from = out ? &a : &b, *to = out ? &b : &a;
        must_go(&t, from, to);
        cr_assert_eq(state_at(to), DOMAIN_STATE_RUNNING);
        cr_assert_eq(state_at(from), DOMAIN_STATE_GONE);
        cr_assert_eq(fixture_count(from, "run"), 0, "something is left at the source");
        cr_assert_eq(letter(to, '2'), in_memory, "the guest's memory is another");
        cr_assert_eq(letter(to, '4'), on_disk, "the guest's disk is another");
        cr_assert_gt(t.stopped_us, 0);
        fprintf(stderr, "stood still %lld us, of them %lld QEMU's\n", (long long)t.stopped_us,
                (long long)t.downtime_us);
        in_memory = letter(to, '1');
        on_disk = letter(to, '3');
        must_call(from, HV_CALL_DOMAIN_FORGET, VM);
    }
    cr_assert_leq(count_links(a.hostd.pid, "socket:"), sockets + 8, "sockets are left open");
    domain_config_done(&t.config);
}

/* The contents of its TPM; the caller's. */
static const char *tpm_at(struct fixture *f)
{
    struct hv_domain_kept_args args = {.domain = VM};
    struct hv_domain_kept_result kept;
    struct hv_err err = {0};
    cr_assert_eq(hv_domain_kept(f->host, NULL, &args, &kept, &err), 0, "%s", err.text);
    const char *contents = str_ref(kept.tpm);
    hv_domain_kept_result_done(&kept);
    return contents;
}

/* Processes that work in the folder of this host's TPM. */
static int count_tpms(const struct fixture *f)
{
    char *folder AUTO_FREE = xasprintf("%s/nvram/" VM ".tpm", f->state);
    int count = 0;
    DIR *list = opendir("/proc");
    for (struct dirent *e; list && (e = readdir(list));) {
        char *path AUTO_FREE = xasprintf("/proc/%s/cwd", e->d_name);
        char at[4096] = "";
        count += readlink(path, at, sizeof(at) - 1) > 0 && streq(at, folder);
    }
    if (list)
        closedir(list);
    return count;
}

Test(migrate, a_tpm_goes_along_with_its_contents)
{
    struct trip t = {.cancel = false};
    if (access("/usr/bin/swtpm", X_OK) < 0)
        cr_skip_test("swtpm is not installed");
    fixture_attach(&b, SR, a.storage, false);
    small_domain(&t.config);
    t.config.tpm = true;
    struct domain_info info = must_start(&a, &t.config);
    domain_info_done(&info);
    struct stream *console = must_console(&a, "serial");
    must_see(console, "guest is up");
    stream_close(console);
    char in_memory = letter(&a, '1');
    const char *contents = tpm_at(&a);
    cr_assert_neq(*contents, '\0');
    for (int round = 0; round < 2; round++) {
        struct fixture *from = round == 0 ? &a : &b, *to = round == 0 ? &b : &a;
        must_go(&t, from, to);
        const char *there = tpm_at(to);
        cr_expect_str_eq(there, contents, "the TPM is another");
        str_unref(there);
        cr_expect_eq(letter(to, '2'), in_memory);
        cr_expect_eq(count_tpms(from), 0, "the process of the TPM is left at the source");
        cr_expect_eq(count_tpms(to), 1);
        must_call(from, HV_CALL_DOMAIN_PURGE, VM);
    }
    str_unref(contents);
    domain_config_done(&t.config);
}

static void mirror_to_second(struct trip *t)
{
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    fixture_attach(&b, SR_2, b.storage, true);
    struct hv_disk_create_args create = {
        .sr = SR_2, .disk = DISK_2, .format = IMAGE_FORMAT_QCOW2, .virtual_size_bytes = DISK_SIZE};
    struct hv_disk_create_result made;
    cr_assert_eq(hv_disk_create(b.host, &op, &create, &made, &err), 0, "%s", err.text);
    hv_disk_create_result_done(&made);
    str_assign(&t->config.disks[0].sr, SR_2);
    str_assign(&t->config.disks[0].disk, DISK_2);
    t->mirror[0] = "xvda";
    t->mirror_count = 1;
}

Test(migrate, a_guest_goes_with_its_local_disk)
{
    struct trip t = {.cancel = false};
    boot(&a, &t.config);
    char on_disk = letter(&a, '1');
    cr_assert_eq(letter(&a, '3'), on_disk);
    mirror_to_second(&t);
    must_go(&t, &a, &b);
    cr_assert_eq(letter(&b, '4'), on_disk, "the guest's disk is another");
    cr_assert_eq(letter(&b, '2'), on_disk, "the guest's memory is another");
    on_disk = letter(&b, '1');
    cr_assert_eq(letter(&b, '3'), on_disk);
    must_call(&b, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    struct domain_info info = must_start(&b, &t.config);
    domain_info_done(&info);
    struct stream *console = must_console(&b, "serial");
    must_see(console, "guest is up");
    cr_assert_eq(must_tell(console, '4'), on_disk, "what was written after the move is lost");
    stream_close(console);
    domain_config_done(&t.config);
}

Test(migrate, a_paused_guest_stays_paused)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    boot(&a, &t.config);
    char in_memory = letter(&a, '1');
    must_call(&a, HV_CALL_DOMAIN_PAUSE, VM);
    must_go(&t, &a, &b);
    cr_assert_eq(state_at(&b), DOMAIN_STATE_PAUSED);
    must_call(&b, HV_CALL_DOMAIN_UNPAUSE, VM);
    cr_assert_eq(letter(&b, '2'), in_memory);
    domain_config_done(&t.config);
}

Test(migrate, a_disk_moves_to_another_repository_under_the_guest)
{
    struct trip t = {.cancel = false};
    boot(&a, &t.config);
    char on_disk = letter(&a, '1');
    cr_assert_eq(letter(&a, '3'), on_disk);
    struct hv_op op = fresh_op();
    struct hv_err err = {0};
    fixture_attach(&a, SR_2, b.storage, true);
    struct hv_disk_create_args create = {
        .sr = SR_2, .disk = DISK_2, .format = IMAGE_FORMAT_QCOW2, .virtual_size_bytes = DISK_SIZE};
    struct hv_disk_create_result made;
    cr_assert_eq(hv_disk_create(a.host, &op, &create, &made, &err), 0, "%s", err.text);
    hv_disk_create_result_done(&made);
    struct hv_disk_move_args args = {.domain = VM, .device = "xvda", .new_sr = SR_2, .new_disk = DISK_2};
    struct hv_disk_move_result moved;
    op = fresh_op();
    cr_assert_eq(hv_disk_move(a.host, &op, &args, &moved, &err), 0, "%s", err.text);
    cr_assert_eq(letter(&a, '4'), on_disk);
    on_disk = letter(&a, '1');
    cr_assert_eq(letter(&a, '3'), on_disk);
    /* Nobody has the old one any more. */
    struct hv_disk_destroy_args destroy = {.sr = SR, .disk = DISK};
    struct hv_disk_destroy_result destroyed;
    op = fresh_op();
    cr_assert_eq(hv_disk_destroy(a.host, &op, &destroy, &destroyed, &err), 0, "%s", err.text);
    must_call(&a, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    str_assign(&t.config.disks[0].sr, SR_2);
    str_assign(&t.config.disks[0].disk, DISK_2);
    struct domain_info info = must_start(&a, &t.config);
    domain_info_done(&info);
    struct stream *console = must_console(&a, "serial");
    must_see(console, "guest is up");
    cr_assert_eq(must_tell(console, '4'), on_disk);
    stream_close(console);
    domain_config_done(&t.config);
}

/* ---- it does not go ---- */

static void must_stay(struct trip *t, char in_memory)
{
    cr_assert_eq(t->sent, -1, "it was sent");
    cr_assert_eq(t->received, -1, "it was received");
    cr_assert_eq(state_at(&a), DOMAIN_STATE_RUNNING);
    cr_assert_eq(state_at(&b), DOMAIN_STATE_GONE);
    cr_assert_eq(fixture_count(&b, "run"), 0, "something is left at the destination");
    if (in_memory)
        cr_assert_eq(letter(&a, '2'), in_memory);
}

Test(migrate, another_layout_is_refused_and_the_guest_goes_on)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    boot(&a, &t.config);
    char in_memory = letter(&a, '1');
    t.config.memory_bytes *= 2;
    trip_begin(&t, &a, &b);
    trip_end(&t);
    must_stay(&t, in_memory);
    cr_assert_eq(t.send_err.kind, HV_ERR_KIND_FORMAT, "%s", t.send_err.text);
    t.config.memory_bytes /= 2;
    must_go(&t, &a, &b);
    cr_assert_eq(letter(&b, '2'), in_memory);
    domain_config_done(&t.config);
}

Test(migrate, only_the_host_that_was_named_may_send)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    boot(&a, &t.config);
    struct fixture stranger = a;
    stranger.uuid = "44444444-4444-4444-8444-444444444446";
    t.from = &stranger;
    t.to = &b;
    uuid_format(ref_new(), t.receive_id);
    uuid_format(ref_new(), t.send_id);
    t.receive_op = (struct hv_op){.id = t.receive_id, .timeout_ms = 120000, .cancel = &t.cancel};
    t.send_op = (struct hv_op){.id = t.send_id, .timeout_ms = 120000};
    pthread_create(&t.receiver, NULL, receive, &t);
    send(&t);
    cr_assert_eq(t.sent, -1);
    cr_assert_eq(t.send_err.kind, HV_ERR_KIND_NOT_FOUND, "%s: %s", hv_err_kind_name(t.send_err.kind),
                 t.send_err.text);
    atomic_store(&t.cancel, true);
    pthread_join(t.receiver, NULL);
    must_stay(&t, 0);
    domain_config_done(&t.config);
}

/* ---- kill -9 ---- */

static int64_t final_state(struct fixture *f, const char *id)
{
    int64_t end = clock_mono_ms() + 90000;
    for (;;) {
        struct hv_operation_get_args args = {.id = id, .wait_ms = 5000};
        struct hv_operation_get_result result;
        struct hv_op op = {.timeout_ms = 20000};
        struct hv_err err = {0};
        cr_assert_eq(hv_operation_get(f->host, &op, &args, &result, &err), 0, "%s", err.text);
        enum operation_state state = result.status.state;
        hv_operation_get_result_done(&result);
        if (state != OPERATION_STATE_QUEUED && state != OPERATION_STATE_RUNNING)
            return state;
        cr_assert_lt(clock_mono_ms(), end, "the operation does not end");
    }
}

/* Exactly one runs it, the operations say which, and the guest has lost nothing. */
static void one_runs(struct trip *t, const char *what, char in_memory)
{
    bool sent = final_state(&a, t->send_id) == OPERATION_STATE_DONE;
    bool received = final_state(&b, t->receive_id) == OPERATION_STATE_DONE;
    cr_assert_eq(sent, received, "%s: sent %d, received %d", what, sent, received);
    struct fixture *here = sent ? &b : &a, *there = sent ? &a : &b;
    cr_assert_eq(state_at(here), DOMAIN_STATE_RUNNING, "%s: %s", what, domain_state_name(state_at(here)));
    cr_assert_eq(state_at(there), DOMAIN_STATE_GONE, "%s", what);
    cr_assert_eq(fixture_count(there, "run"), 0, "%s: something is left", what);
    if (in_memory)
        cr_assert_eq(letter(here, '2'), in_memory, "%s: the guest's memory is another", what);
}

/* Starts hostd again so that it dies there. */
static void arm(struct fixture *f, const char *place)
{
    fixture_kill(f);
    f->failpoint = place;
    fixture_launch(f);
    f->failpoint = NULL;
}

static void dies_at(struct trip *t, struct fixture *victim, const char *place, char in_memory)
{
    fprintf(stderr, "%s\n", place);
    arm(victim, place);
    struct hv_host *others = victim->host;
    trip_begin(t, &a, &b);
    int status;
    cr_assert_eq(proc_wait(&victim->hostd, 60000, &status), 1, "%s: nobody comes by there", place);
    hv_host_interrupt(others);
    struct hv_host *kept = victim->host;
    victim->host = NULL;
    fixture_launch(victim);
    trip_end(t);
    hv_host_close(kept);
    one_runs(t, place, in_memory);
}

static void each_death(const char *const (*places)[2], size_t count, bool qemu, struct trip *t)
{
    for (size_t i = 0; i < count; i++) {
        char in_memory = qemu ? letter(&a, '1') : 0;
        dies_at(t, streq(places[i][0], "source") ? &a : &b, places[i][1], in_memory);
        if (state_at(&b) != DOMAIN_STATE_RUNNING)
            continue;
        must_call(&a, HV_CALL_DOMAIN_FORGET, VM);
        must_go(t, &b, &a);
        must_call(&b, HV_CALL_DOMAIN_FORGET, VM);
    }
}

/* Of a domain that is in no list yet. */
static pid_t device_model_of(const struct fixture *f)
{
    char *path AUTO_FREE = xasprintf("%s/run/%s/pid", f->state, VM);
    char *text AUTO_FREE = file_read(path, 64, NULL);
    return text ? atoi(text) : 0;
}

Test(migrate, the_destinations_device_model_dies)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    boot(&a, &t.config);
    for (int round = 0; round < 4; round++) {
        char in_memory = letter(&a, '1');
        pid_t pid = 0;
        trip_begin(&t, &a, &b);
        for (int64_t end = clock_mono_ms() + 60000; (pid = device_model_of(&b)) <= 0;)
            cr_assert_lt(clock_mono_ms(), end, "there is no device model at the destination");
        struct timespec pause = {.tv_nsec = round * 80000000};
        nanosleep(&pause, NULL);
        kill(pid, SIGKILL);
        trip_end(&t);
        cr_assert_eq(t.sent, t.received, "sent %d, received %d: %s", t.sent, t.received, t.send_err.text);
        if (t.sent < 0) {
            cr_assert_eq(state_at(&a), DOMAIN_STATE_RUNNING, "round %d", round);
            cr_assert_eq(letter(&a, '2'), in_memory, "round %d: the guest's memory is another", round);
        } else { /* it was killed when it had taken over, and with it the guest */
            cr_assert_eq(state_at(&a), DOMAIN_STATE_GONE, "round %d", round);
            must_call(&b, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
            must_call(&a, HV_CALL_DOMAIN_FORGET, VM);
            domain_config_done(&t.config);
            boot(&a, &t.config);
        }
    }
    domain_config_done(&t.config);
}

Test(migrate, the_sources_device_model_dies)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    for (int round = 0; round < 4; round++) {
        boot(&a, &t.config);
        pid_t pid = device_model_of(&a);
        trip_begin(&t, &a, &b);
        struct timespec pause = {.tv_sec = round / 2, .tv_nsec = round % 2 * 500000000};
        nanosleep(&pause, NULL);
        kill(pid, SIGKILL);
        trip_end(&t);
        /* It has the guest, or nobody: never both, and never half of it. */
        cr_assert_neq(state_at(&a), DOMAIN_STATE_RUNNING, "round %d", round);
        cr_assert_eq(state_at(&b) == DOMAIN_STATE_RUNNING, t.received == 0, "round %d: %s", round,
                     t.receive_err.text);
        must_call(&b, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
        must_call(&a, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
        cr_assert_eq(fixture_count(&b, "run") + fixture_count(&a, "run"), 0, "round %d: something is left",
                     round);
        domain_config_done(&t.config);
    }
}

static const char *const places[][2] = {
    {"source", "migrate-source:connected"},       {"source", "migrate-source:ready"},
    {"source", "migrate-source:mirrored"},        {"source", "migrate-source:stopped"},
    {"source", "migrate-source:offered"},         {"source", "migrate-source:taken"},
    {"destination", "migrate-destination:ready"}, {"destination", "migrate-destination:loaded"},
    {"destination", "migrate-destination:ours"},  {"destination", "migrate-destination:running"},
};

Test(migrate, whoever_dies_wherever_one_guest_runs)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    boot(&a, &t.config);
    each_death(places, ARRAY_LEN(places), true, &t);
    domain_config_done(&t.config);
}

Test(migrate_sim, whoever_dies_wherever_one_guest_runs)
{
    struct trip t = {.cancel = false};
    fixture_attach(&b, SR, a.storage, false);
    small_domain(&t.config);
    struct domain_info info = must_start(&a, &t.config);
    domain_info_done(&info);
    each_death(places, ARRAY_LEN(places), false, &t);
    domain_config_done(&t.config);
}
