/* Snapshots, suspend and resume, devices and sizes of a live simulated domain. */
#include "fixture.h"
#include <base/json.h>
#include <io/savefile.h>
#include <sys/mman.h>

TestSuite(live, .init = setup, .fini = teardown);

static struct domain_info info_now(void)
{
    struct domain_info info;
    struct hv_err err = {0};
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0, "%s", err.text);
    return info;
}

static struct hv_save a_file(void)
{
    struct hv_save save = {.fd = memfd_create("state", 0), .size_bytes = 1 << 30};
    cr_assert_geq(save.fd, 0);
    return save;
}

static int suspend(const struct hv_save *save, struct hv_err *err)
{
    int64_t used = 0;
    struct hv_deadline deadline = within(WAIT_MS);
    return drv->suspend(w.state, VM, save, &deadline, &used, err);
}

static int resume(const struct hv_save *save, struct hv_err *err)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct domain_info info;
    struct hv_deadline deadline = within(WAIT_MS);
    if (save_header_read(save->fd, &header, err) < 0 ||
        drv->resume(w.state, &header.config, &header, save, NULL, &deadline, &info, err) < 0)
        return -1;
    domain_info_done(&info);
    return 0;
}

static bool is_absent(void)
{
    struct domain_info info;
    if (drv->info(w.state, VM, &info, NULL) < 0)
        return true;
    domain_info_done(&info);
    return false;
}

Test(live, a_suspended_guest_goes_on_where_it_was)
{
    struct hv_err err = {0};
    struct hv_save save = a_file();
    struct hv_deadline deadline = within(WAIT_MS);
    start("", false);
    cr_assert_eq(drv->reboot(w.state, VM, &deadline, &err), 0, "%s", err.text);
    wait_for(is_booted);
    struct domain_info before AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(suspend(&save, &err), 0, "%s", err.text);
    cr_assert(is_absent());
    cr_assert_eq(resume(&save, &err), 0, "%s", err.text);
    wait_for(is_booted);
    struct domain_info after AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(before.reboots, 1);
    cr_assert_eq(after.reboots, 0, "a reboot before the suspension is told of again");
    cr_assert_eq(after.boot_time, before.boot_time);
    cr_assert_neq(after.domid, before.domid);
    /* The state is there for another time. */
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(resume(&save, &err), 0, "%s", err.text);
    close(save.fd);
}

static double last_progress;

static void note_progress(void *ctx, double fraction)
{
    (void)ctx;
    last_progress = fraction;
}

static _Atomic bool cancelled;

static void cancel_when_halfway(void *ctx, double fraction)
{
    (void)ctx;
    if (fraction > 0.3)
        cancelled = true;
}

Test(live, a_cancelled_suspend_lets_the_guest_run_on)
{
    struct hv_err err = {0};
    struct hv_save save = a_file();
    struct hv_deadline deadline = within(WAIT_MS);
    int64_t used;
    save.progress = cancel_when_halfway;
    deadline.cancelled = &cancelled;
    start("sim.suspend_ms=400", false);
    cr_assert_eq(drv->suspend(w.state, VM, &save, &deadline, &used, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_CANCELLED, "%s", err.text);
    struct domain_info info AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    wait_for(is_booted);
    cr_assert_eq(resume(&save, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_FORMAT, "half a state is taken for one: %s", err.text);
    close(save.fd);
}

Test(live, failures_are_told_and_leave_the_domain)
{
    struct hv_err err = {0};
    struct hv_save save = a_file();
    struct hv_deadline deadline = within(WAIT_MS);
    bool applied;
    int64_t used;
    start("sim.suspend_fails sim.snapshot_fails sim.refuse_plug sim.refuse_unplug sim.no_vcpu_plug "
          "sim.no_balloon",
          false);
    wait_for(is_booted);
    cr_assert_eq(suspend(&save, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DEVICE_MODEL);
    cr_assert_eq(drv->snapshot(w.state, VM, NULL, 0, NULL, &deadline, &applied, &used, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DEVICE_MODEL);
    struct domain_nic nic;
    domain_nic_init(&nic);
    nic.index = 5;
    cr_assert_eq(drv->nic_plug(w.state, VM, &nic, &deadline, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DEVICE_MODEL);
    domain_nic_done(&nic);
    cr_assert_eq(drv->nic_unplug(w.state, VM, 0, false, &deadline, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_GUEST);
    cr_assert_eq(drv->nic_unplug(w.state, VM, 0, true, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(drv->set_vcpus(w.state, VM, 1, &deadline, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED);
    cr_assert_eq(drv->set_memory(w.state, VM, 32 << 20, &deadline, &err), 0);
    struct domain_info info AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    cr_assert_eq(info.memory_target_bytes, 32 << 20);
    cr_assert_eq(info.memory_actual_bytes, 64 << 20);
    close(save.fd);
}

Test(live, a_checkpoint_leaves_the_domain_as_it_is_and_can_be_resumed)
{
    struct hv_err err = {0};
    struct hv_save save = a_file();
    struct hv_deadline deadline = within(WAIT_MS);
    bool applied;
    int64_t used = 0;
    save.progress = note_progress;
    start("sim.suspend_ms=60", false);
    wait_for(is_booted);
    cr_assert_eq(drv->pause(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(drv->snapshot(w.state, VM, NULL, 0, &save, &deadline, &applied, &used, &err), 0, "%s",
                 err.text);
    struct domain_info paused AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(paused.state, DOMAIN_STATE_PAUSED);
    cr_assert_eq(drv->unpause(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(drv->snapshot(w.state, VM, NULL, 0, &save, &deadline, &applied, &used, &err), 0, "%s",
                 err.text);
    cr_assert_gt(used, 0);
    cr_assert_gt(last_progress, 0);
    struct domain_info info AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(info.state, DOMAIN_STATE_RUNNING);
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(resume(&save, &err), 0, "%s", err.text);
    wait_for(is_booted);
    close(save.fd);
}

Test(live, devices_and_sizes_outlive_the_driver)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = within(WAIT_MS);
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct domain_disk disk;
    struct disk_chain chain = DISK_CHAIN_INIT;
    start("", false);
    wait_for(is_booted);
    domain_disk_init(&disk);
    str_assign(&disk.device, "xvdb");
    disk.index = 1;
    disk.source = DISK_SOURCE_DISK;
    cr_assert_eq(drv->disk_plug(w.state, VM, &disk, &chain, &deadline, &err), 0, "%s", err.text);
    domain_disk_done(&disk);
    cr_assert_eq(drv->nic_unplug(w.state, VM, 0, false, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(drv->set_memory(w.state, VM, 16 << 20, &deadline, &err), 0);
    drv->close(w.state);
    open_driver();
    cr_assert_eq(drv->config(w.state, VM, &config, &err), 0);
    cr_assert_eq(config.disks_count, 1);
    cr_assert_eq(config.nics_count, 0);
    struct domain_info info AUTO_DOMAIN_INFO = info_now();
    cr_assert_eq(info.memory_actual_bytes, 16 << 20);
    wait_for(is_booted);
    cr_assert_eq(drv->disk_unplug(w.state, VM, "xvdb", false, &deadline, &err), 0, "%s", err.text);
    domain_config_done(&config);
    cr_assert_eq(drv->config(w.state, VM, &config, &err), 0);
    cr_assert_eq(config.disks_count, 0);
}
