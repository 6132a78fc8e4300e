/* What can happen to a domain while it lives, through hostd: snapshots, suspend and resume, devices, sizes.
 * With the simulator and with QEMU; there the guest says what is in its memory and on its disk. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <stdio.h>

#define COPY "33333333-3333-4333-8333-444444444444"
#define OTHER "33333333-3333-4333-8333-555555555555"
#define SPARE "33333333-3333-4333-8333-888888888888"
#define STATE "33333333-3333-4333-8333-666666666666"
#define PAUSED_COPY "33333333-3333-4333-8333-777777777777"
#define SECOND_PAUSED_COPY "33333333-3333-4333-8333-999999999999"

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
TestSuite(qemu, .init = start_qemu, .fini = stop, .timeout = 240);

static bool real(void)
{
    return streq(f.driver, "qemu");
}

static void run(const struct domain_config *config)
{
    struct domain_info info = must_start(&f, config);
    domain_info_done(&info);
}

/* Waits until the guest answers; with the simulator until it is up. */
static struct stream *greeted(void)
{
    struct stream *console = must_console(&f, "serial");
    must_see(console, real() ? "guest is up" : "guest login: ");
    return console;
}

static void tells(struct stream *console, char digit, char letter)
{
    if (!real())
        return;
    char told = must_tell(console, digit);
    cr_assert_eq(told, letter, "%c is answered with %c, not %c", digit, told, letter);
}

static int snapshot(const char *new_disk, const char *memory, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct snapshot_disk disk = {.sr = SR, .disk = DISK, .new_disk = new_disk};
    struct hv_domain_snapshot_args args = {.domain = VM,
                                           .disks = &disk,
                                           .disks_count = 1,
                                           .memory_sr = memory ? SR : "",
                                           .memory_disk = memory ? memory : ""};
    struct hv_domain_snapshot_result result;
    if (hv_domain_snapshot(f.host, &op, &args, &result, err) < 0)
        return -1;
    cr_assert_eq(result.infos_count, 1);
    cr_assert_str_eq(result.infos[0].uuid, new_disk);
    cr_assert_eq(strlen(result.infos[0].parent), real() ? 36 : 0);
    cr_assert(!memory || result.state_bytes > 0);
    hv_domain_snapshot_result_done(&result);
    return 0;
}

static int suspend(struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_domain_suspend_args args = {.domain = VM, .sr = SR, .disk = STATE};
    struct hv_domain_suspend_result result;
    if (hv_domain_suspend(f.host, &op, &args, &result, err) < 0)
        return -1;
    cr_assert_gt(result.state_bytes, 0);
    return 0;
}

static int resume(const struct domain_config *config, const char *disk, bool paused, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_domain_resume_args args = {.config = *config, .sr = SR, .disk = disk, .start_paused = paused};
    struct hv_domain_resume_result result;
    if (hv_domain_resume(f.host, &op, &args, &result, err) < 0)
        return -1;
    cr_assert_eq(result.info.state, paused ? DOMAIN_STATE_PAUSED : DOMAIN_STATE_RUNNING);
    hv_domain_resume_result_done(&result);
    return 0;
}

static void must_suspend(void)
{
    struct hv_err err = {0};
    cr_assert_eq(suspend(&err), 0, "%s", err.text);
}

static void must_resume(const struct domain_config *config)
{
    struct hv_err err = {0};
    cr_assert_eq(resume(config, STATE, false, &err), 0, "%s", err.text);
}

static void must_refuse(const struct domain_config *config, const char *disk, enum hv_err_kind kind)
{
    struct hv_err err = {0};
    cr_assert_eq(resume(config, disk, false, &err), -1);
    cr_assert_eq(err.kind, kind, "%s: %s", hv_err_kind_name(err.kind), err.text);
    cr_assert_eq(fixture_count(&f, "run"), 0, "something of a domain is left: %s", err.text);
}

static size_t count_disks(void)
{
    struct hv_sr_scan_args args = {.sr = SR};
    struct hv_sr_scan_result scan;
    struct hv_err err = {0};
    cr_assert_eq(hv_sr_scan(f.host, NULL, &args, &scan, &err), 0, "%s", err.text);
    size_t count = scan.disks_count;
    hv_sr_scan_result_done(&scan);
    return count;
}

static int plug_disk(const char *device, int64_t index, const char *uuid, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_disk_plug_args args = {.domain = VM,
                                     .disk = {.device = device,
                                              .index = index,
                                              .bus = DISK_BUS_VIRTIO,
                                              .source = DISK_SOURCE_DISK,
                                              .sr = SR,
                                              .disk = uuid}};
    struct hv_disk_plug_result result;
    return hv_disk_plug(f.host, &op, &args, &result, err);
}

static int unplug_disk(const char *device, bool force, int64_t timeout_ms, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_disk_unplug_args args = {.domain = VM, .device = device, .force = force};
    struct hv_disk_unplug_result result;
    op.timeout_ms = timeout_ms;
    return hv_disk_unplug(f.host, &op, &args, &result, err);
}

static int plug_nic(int64_t index, const char *mac, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_nic_plug_args args = {.domain = VM, .nic = {.index = index, .mac = mac, .kind = NIC_KIND_USER}};
    struct hv_nic_plug_result result;
    return hv_nic_plug(f.host, &op, &args, &result, err);
}

static int unplug_nic(int64_t index, bool force, int64_t timeout_ms, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_nic_unplug_args args = {.domain = VM, .index = index, .force = force};
    struct hv_nic_unplug_result result;
    op.timeout_ms = timeout_ms;
    return hv_nic_unplug(f.host, &op, &args, &result, err);
}

static bool in_use(const char *disk)
{
    struct hv_disk_info_args args = {.sr = SR, .disk = disk};
    struct hv_disk_info_result result;
    struct hv_err err = {0};
    cr_assert_eq(hv_disk_info(f.host, NULL, &args, &result, &err), 0, "%s", err.text);
    bool used = result.info.in_use;
    hv_disk_info_result_done(&result);
    return used;
}

/* ---- suspend and resume ---- */

static void suspend_and_resume(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    tells(console, '3', 'b');
    tells(console, '1', 'c');
    must_create_state(&f, STATE);
    must_suspend();
    stream_close(console);
    must_fail(&f, HV_CALL_DOMAIN_INFO, VM, HV_ERR_KIND_NOT_FOUND);
    cr_assert_eq(fixture_count(&f, "run"), 0);
    cr_assert_eq(fixture_count(&f, "ended"), 0);
    cr_assert_not(in_use(DISK));
    cr_assert_not(in_use(STATE));
    must_resume(&config);
    console = must_console(&f, "serial");
    tells(console, '2', 'c');
    tells(console, '4', 'b');
    stream_close(console);
    /* The state stays, and can be resumed once more. */
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    cr_assert_eq(resume(&config, STATE, true, &err), 0, "%s", err.text);
    must_call(&f, HV_CALL_DOMAIN_UNPAUSE, VM);
    console = must_console(&f, "serial");
    tells(console, '2', 'c');
    stream_close(console);
}

Test(sim, suspend_and_resume)
{
    suspend_and_resume();
}

Test(qemu, suspend_and_resume)
{
    suspend_and_resume();
}

static void what_does_not_fit_is_refused(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    stream_close(greeted());
    must_create(&f, STATE, 1 << 20);
    cr_assert_eq(suspend(&err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    struct hv_op op = fresh_op();
    struct hv_disk_destroy_args destroy = {.sr = SR, .disk = STATE};
    struct hv_disk_destroy_result destroyed;
    cr_assert_eq(hv_disk_destroy(f.host, &op, &destroy, &destroyed, &err), 0, "%s", err.text);
    must_create_state(&f, STATE);
    must_suspend();
    must_refuse(&config, DISK, HV_ERR_KIND_FORMAT); /* its own disk */
    must_create(&f, OTHER, 1 << 20);
    must_refuse(&config, OTHER, HV_ERR_KIND_FORMAT); /* nothing of ours in it */
    config.memory_bytes += 1 << 20;
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
    config.memory_bytes -= 1 << 20;
    str_assign(&config.nics[0].mac, "52:54:00:12:34:57");
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
    str_assign(&config.nics[0].mac, "52:54:00:12:34:56");
    str_assign(&config.disks[0].device, "xvdb");
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
    str_assign(&config.disks[0].device, "xvda");
    str_assign(&config.disks[0].disk, COPY);
    must_refuse(&config, STATE, HV_ERR_KIND_NOT_FOUND); /* no such disk */
    str_assign(&config.disks[0].disk, DISK);
    config.nics[0].kind = NIC_KIND_NONE;
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
    config.nics[0].kind = NIC_KIND_USER;
    config.nics[0].restricted = true; /* what it may reach can change */
    must_resume(&config);
}

Test(sim, what_does_not_fit_is_not_resumed)
{
    what_does_not_fit_is_refused();
}

Test(qemu, what_does_not_fit_is_not_resumed)
{
    what_does_not_fit_is_refused();
}

/* Its firmware's variables are a file that both runs have open. */
Test(qemu, a_uefi_domain_is_suspended_too)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    if (access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) < 0)
        cr_skip_test("OVMF is not installed");
    fixture_storage(&f);
    small_domain(&config);
    config.firmware = FIRMWARE_UEFI;
    config.memory_bytes = 64 << 20;
    run(&config);
    must_create_state(&f, STATE);
    must_suspend();
    cr_assert_eq(fixture_count(&f, "run"), 0);
    must_resume(&config);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    must_call(&f, HV_CALL_DOMAIN_PURGE, VM);
}

/* A header that is right over a state that is not. */
Test(qemu, a_damaged_state_is_refused)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    stream_close(greeted());
    must_create_state(&f, STATE);
    must_suspend();
    char *path AUTO_FREE = xasprintf("%s/%s.raw", f.storage, STATE);
    FILE *file = fopen(path, "r+");
    cr_assert(file && fseek(file, 256 << 10, SEEK_SET) == 0);
    cr_assert_eq(fwrite("nonsense", 1, 8, file), 8);
    fclose(file);
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
}

Test(sim, a_suspend_can_be_cancelled_and_overtaken)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    struct hv_domain_suspend_result result;
    static _Atomic bool cancel = true;
    fixture_storage(&f);
    small_domain(&config);
    config.firmware = FIRMWARE_KERNEL;
    str_assign(&config.kernel, "vmlinuz");
    str_assign(&config.cmdline, "sim.suspend_ms=60000");
    run(&config);
    must_create_state(&f, STATE);
    struct hv_op op = fresh_op();
    struct hv_domain_suspend_args args = {.domain = VM, .sr = SR, .disk = STATE};
    op.cancel = &cancel;
    cr_assert_eq(hv_domain_suspend(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_CANCELLED, "%s", err.text);
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    cr_assert_not(in_use(STATE));
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
}

/* ---- snapshots ---- */

static void start_from(const char *disk, char letter)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    small_domain(&config);
    str_assign(&config.disks[0].disk, disk);
    run(&config);
    struct stream *console = greeted();
    tells(console, '4', letter);
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
}

/* While the domain runs on, its snapshot is a disk like any: read, attached, copied thinly. */
static void use_snapshot(void)
{
    struct hv_err err = {0};
    struct hv_op op = fresh_op();
    struct hv_disk_copy_args copy = {
        .sr = SR, .disk = COPY, .new_sr = SR, .new_disk = SPARE, .format = IMAGE_FORMAT_QCOW2};
    struct hv_disk_copy_result copied;
    cr_assert_eq(hv_disk_copy(f.host, &op, &copy, &copied, &err), 0, "%s", err.text);
    cr_assert_eq(copied.info.virtual_size_bytes, 1 << 20);
    hv_disk_copy_result_done(&copied);
    op = fresh_op();
    struct hv_disk_destroy_args destroy = {.sr = SR, .disk = SPARE};
    struct hv_disk_destroy_result destroyed;
    cr_assert_eq(hv_disk_destroy(f.host, &op, &destroy, &destroyed, &err), 0, "%s", err.text);
    op = fresh_op();
    struct hv_disk_clone_args clone = {.sr = SR, .disk = COPY, .new_disk = SPARE};
    struct hv_disk_clone_result cloned;
    cr_assert_eq(hv_disk_clone(f.host, &op, &clone, &cloned, &err), 0, "%s", err.text);
    hv_disk_clone_result_done(&cloned);
    cr_assert_eq(plug_disk("xvdb", 1, SPARE, &err), 0, "%s", err.text);
    cr_assert(in_use(SPARE));
}

static void snapshot_of_a_running_domain(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    tells(console, '3', 'b');
    cr_assert_eq(snapshot(COPY, NULL, &err), 0, "%s", err.text);
    tells(console, '4', 'b');
    tells(console, '1', 'c');
    tells(console, '3', 'c');
    cr_assert_eq(count_disks(), 2);
    cr_assert_not(in_use(COPY));
    cr_assert_eq(snapshot(COPY, NULL, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_EXISTS, "%s", err.text);
    must_call(&f, HV_CALL_DOMAIN_PAUSE, VM);
    cr_assert_eq(snapshot(OTHER, NULL, &err), 0, "%s", err.text);
    use_snapshot();
    must_call(&f, HV_CALL_DOMAIN_UNPAUSE, VM);
    tells(console, '1', 'd');
    tells(console, '3', 'd');
    tells(console, '4', 'd');
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    start_from(COPY, 'b');
    start_from(OTHER, 'c');
    start_from(DISK, 'd');
}

Test(sim, snapshot_of_a_running_domain)
{
    snapshot_of_a_running_domain();
}

Test(qemu, snapshot_of_a_running_domain)
{
    snapshot_of_a_running_domain();
}

static void checkpoint(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    tells(console, '3', 'b');
    must_create_state(&f, STATE);
    char *cursor AUTO_FREE = cursor_now(&f);
    cr_assert_eq(snapshot(COPY, STATE, &err), 0, "%s", err.text);
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    tells(console, '1', 'c');
    tells(console, '3', 'c');
    stream_close(console);
    /* A paused one stays so. */
    must_create_state(&f, OTHER);
    must_create_state(&f, SPARE);
    must_call(&f, HV_CALL_DOMAIN_PAUSE, VM);
    must_become(&f, cursor, DOMAIN_STATE_PAUSED, END_REASON_NONE, 20000);
    cr_assert_eq(snapshot(PAUSED_COPY, OTHER, &err), 0, "%s", err.text);
    struct domain_info after AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(after.state, DOMAIN_STATE_PAUSED);
    if (real()) { /* QEMU does it once */
        cr_assert_eq(snapshot(SECOND_PAUSED_COPY, SPARE, &err), -1);
        cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED, "%s", err.text);
        cr_assert(strstr(err.text, "unpause it first"), "%s", err.text);
        must_call(&f, HV_CALL_DOMAIN_UNPAUSE, VM);
        cr_assert_eq(snapshot(SECOND_PAUSED_COPY, SPARE, &err), 0, "%s", err.text);
    }
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    str_assign(&config.disks[0].disk, PAUSED_COPY);
    cr_assert_eq(resume(&config, OTHER, false, &err), 0, "%s", err.text);
    console = must_console(&f, "serial");
    tells(console, '2', 'c');
    tells(console, '4', 'c');
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    str_assign(&config.disks[0].disk, COPY);
    must_resume(&config);
    console = must_console(&f, "serial");
    tells(console, '2', 'b');
    tells(console, '4', 'b');
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    start_from(DISK, 'c');
}

Test(sim, checkpoint)
{
    checkpoint();
}

Test(qemu, checkpoint)
{
    checkpoint();
}

static void odd_snapshots(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    struct hv_domain_snapshot_result result;
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    struct snapshot_disk twice[] = {{.sr = SR, .disk = DISK, .new_disk = COPY},
                                    {.sr = SR, .disk = DISK, .new_disk = OTHER}};
    struct hv_domain_snapshot_args args = {.domain = VM, .disks = twice, .disks_count = 2};
    struct hv_op op = fresh_op();
    cr_assert_eq(hv_domain_snapshot(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    args.disks_count = 0;
    op = fresh_op();
    cr_assert_eq(hv_domain_snapshot(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    twice[0].disk = OTHER; /* not the domain's */
    args.disks_count = 1;
    op = fresh_op();
    cr_assert_eq(hv_domain_snapshot(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    cr_assert_eq(count_disks(), 1);
}

Test(sim, odd_snapshots_are_refused)
{
    odd_snapshots();
}

static void clone_at_rest(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    struct hv_disk_clone_args args = {.sr = SR, .disk = DISK, .new_disk = COPY};
    struct hv_disk_clone_result result;
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    tells(console, '3', 'b');
    struct hv_op op = fresh_op();
    cr_assert_eq(hv_disk_clone(f.host, &op, &args, &result, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_IN_USE, "%s", err.text);
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
    op = fresh_op();
    cr_assert_eq(hv_disk_clone(f.host, &op, &args, &result, &err), 0, "%s", err.text);
    cr_assert_str_eq(result.info.uuid, COPY);
    hv_disk_clone_result_done(&result);
    start_from(COPY, 'b');
    start_from(DISK, 'b');
}

Test(sim, clone_at_rest)
{
    clone_at_rest();
}

Test(qemu, clone_at_rest)
{
    clone_at_rest();
}

/* ---- devices ---- */

static void devices_come_and_stay(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    must_create(&f, OTHER, 1 << 20);
    small_domain(&config);
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    cr_assert_eq(plug_disk("xvdb", 1, OTHER, &err), 0, "%s", err.text);
    cr_assert_eq(plug_disk("xvdb", 1, OTHER, &err), 0, "the same again: %s", err.text);
    cr_assert(in_use(OTHER));
    cr_assert_eq(plug_disk("xvdb", 2, DISK, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_EXISTS, "%s", err.text);
    cr_assert_eq(plug_disk("xvdc", 2, OTHER, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_IN_USE, "%s", err.text);
    cr_assert_eq(plug_disk("xvdc", 2, COPY, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND, "%s", err.text);
    cr_assert_eq(plug_nic(1, "52:54:00:12:34:57", &err), 0, "%s", err.text);
    cr_assert_eq(plug_nic(2, "52:54:00:12:34:57", &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_EXISTS, "%s", err.text);
    cr_assert_eq(unplug_disk("xvdz", false, 5000, &err), 0, "%s", err.text);
    cr_assert_eq(unplug_disk("hdc", false, 5000, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED, "%s", err.text);
    stream_close(console);
    /* They are there after the agent's death, and after a suspend. */
    fixture_kill(&f);
    fixture_launch(&f);
    cr_assert(in_use(OTHER));
    must_create_state(&f, STATE);
    must_suspend();
    must_refuse(&config, STATE, HV_ERR_KIND_FORMAT);
    struct domain_disk *disk = domain_config_add_disks(&config);
    str_assign(&disk->device, "xvdb");
    disk->index = 1;
    disk->source = DISK_SOURCE_DISK;
    str_assign(&disk->sr, SR);
    str_assign(&disk->disk, OTHER);
    struct domain_nic *nic = domain_config_add_nics(&config);
    str_assign(&nic->mac, "52:54:00:12:34:57");
    nic->index = 1;
    must_resume(&config);
    console = must_console(&f, "serial");
    tells(console, '2', 'b');
    stream_close(console);
    cr_assert(in_use(OTHER));
}

Test(sim, devices_come_and_stay)
{
    devices_come_and_stay();
}

Test(qemu, devices_come_and_stay)
{
    devices_come_and_stay();
}

Test(sim, devices_go)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    run(&config);
    stream_close(greeted());
    cr_assert_eq(unplug_disk("xvda", false, 5000, &err), 0, "%s", err.text);
    cr_assert_not(in_use(DISK));
    cr_assert_eq(unplug_nic(0, false, 5000, &err), 0, "%s", err.text);
    cr_assert_eq(unplug_nic(0, false, 5000, &err), 0, "%s", err.text);
}

/* This guest knows nothing of devices that go. */
Test(qemu, a_guest_that_keeps_its_devices)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    must_create(&f, OTHER, 1 << 20);
    small_domain(&config);
    run(&config);
    struct stream *console = greeted();
    cr_assert_eq(plug_disk("xvdb", 1, OTHER, &err), 0, "%s", err.text);
    cr_assert_eq(unplug_disk("xvdb", false, 4000, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_GUEST, "%s", err.text);
    cr_assert(in_use(OTHER));
    must_create_state(&f, STATE);
    cr_assert_eq(unplug_disk("xvdb", true, 4000, &err), 0, "%s", err.text);
    cr_assert_not(in_use(OTHER));
    cr_assert_eq(unplug_nic(0, true, 4000, &err), 0, "%s", err.text);
    cr_assert_eq(plug_disk("xvdb", 1, OTHER, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_STATE, "%s", err.text);
    cr_assert_eq(suspend(&err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED, "%s", err.text);
    tells(console, '1', 'b'); /* it runs on */
    /* The disk that it boots from fails from now on, and the guest says so. */
    cr_assert_eq(unplug_disk("xvda", true, 4000, &err), 0, "%s", err.text);
    cr_assert_eq(stream_write_all(console, "3", 1, 5000), 0);
    must_see(console, "!");
    /* With a reset it lets go of them. */
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_REBOOT, VM);
    int64_t end = clock_mono_ms() + 20000;
    while (plug_disk("xvdb", 1, OTHER, &err) < 0) {
        cr_assert_eq(err.kind, HV_ERR_KIND_BAD_STATE, "%s", err.text);
        cr_assert_lt(clock_mono_ms(), end, "%s", err.text);
    }
}

static int limit_disk(const char *device, int64_t iops, int64_t kbytes, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_disk_limit_args args = {.domain = VM, .device = device, .max_iops = iops, .max_kbytes = kbytes};
    struct hv_disk_limit_result result;
    return hv_disk_limit(f.host, &op, &args, &result, err);
}

static void disks_are_limited(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    config.disks[0].max_iops = 2000;
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    tells(console, '3', 'b');
    cr_assert_eq(limit_disk(config.disks[0].device, 1000, 4096, &err), 0, "%s", err.text);
    tells(console, '4', 'b');
    cr_assert_eq(limit_disk("xvdz", 1, 1, &err), 0, "it has no such disk: %s", err.text);
    /* They outlive the agent, and go when they are taken away. */
    fixture_kill(&f);
    fixture_launch(&f);
    cr_assert_eq(limit_disk(config.disks[0].device, 0, 0, &err), 0, "%s", err.text);
    stream_close(console);
    must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
}

Test(sim, disks_are_limited)
{
    disks_are_limited();
}

Test(qemu, disks_are_limited)
{
    disks_are_limited();
}

/* ---- sizes ---- */

static int set_vcpus(int64_t vcpus, int64_t timeout_ms, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_domain_set_vcpus_args args = {.domain = VM, .vcpus = vcpus};
    struct hv_domain_set_vcpus_result result;
    op.timeout_ms = timeout_ms;
    return hv_domain_set_vcpus(f.host, &op, &args, &result, err);
}

static int set_memory(int64_t bytes, struct hv_err *err)
{
    struct hv_op op = fresh_op();
    struct hv_domain_set_memory_args args = {.domain = VM, .memory_bytes = bytes};
    struct hv_domain_set_memory_result result;
    return hv_domain_set_memory(f.host, &op, &args, &result, err);
}

static void sizes_change(void)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct hv_err err = {0};
    fixture_storage(&f);
    small_domain(&config);
    config.vcpus_max = 3;
    run(&config);
    struct stream *console = greeted();
    tells(console, '1', 'b');
    cr_assert_eq(set_vcpus(4, 5000, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    cr_assert_eq(set_vcpus(3, 20000, &err), 0, "%s", err.text);
    cr_assert_eq(set_memory(64 << 20, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT, "%s", err.text);
    cr_assert_eq(set_memory(16 << 20, &err), 0, "%s", err.text);
    stream_close(console);
    fixture_kill(&f);
    fixture_launch(&f);
    struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
    cr_assert_eq(info.vcpus, 3);
    cr_assert_eq(info.memory_bytes, 32 << 20);
    cr_assert_eq(info.memory_target_bytes, 16 << 20);
    cr_assert_eq(info.memory_actual_bytes, real() ? 32 << 20 : 16 << 20); /* a boot sector has no balloon */
    if (real()) {
        /* By the guest, or by software emulation. */
        cr_assert_eq(set_vcpus(2, 1500, &err), -1);
        cr_assert(err.kind == HV_ERR_KIND_GUEST || err.kind == HV_ERR_KIND_UNSUPPORTED, "%s", err.text);
    }
    /* What was plugged in is resumed. */
    must_create_state(&f, STATE);
    must_suspend();
    must_resume(&config);
    domain_info_done(&info);
    info = must_info(&f);
    cr_assert_eq(info.vcpus, 3);
    cr_assert_eq(info.memory_target_bytes, 16 << 20);
    console = must_console(&f, "serial");
    tells(console, '2', 'b');
    stream_close(console);
}

Test(sim, sizes_change)
{
    sizes_change();
}

Test(qemu, sizes_change)
{
    sizes_change();
}
