/* The driver with a real QEMU and a guest of one boot sector. Skipped where QEMU is not installed. */
#include <base/clock.h>
#include <base/confine.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <hv/driver.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <tests/boot_sector.h>

#define QEMU "/usr/bin/qemu-system-x86_64"
#define VM "11111111-1111-4111-8111-111111111111"
#define SR "22222222-2222-4222-8222-222222222222"
#define DISK "33333333-3333-4333-8333-333333333333"
#define OTHER_VM "11111111-1111-4111-8111-111111111112"
#define THIRD_VM "11111111-1111-4111-8111-111111111113"
#define FIRST_UID 0x70000000

struct world {
    char dir[32], disk[96], iso[96];
    struct hv_driver_env env;
    struct hv_driver_state *state;
    pthread_mutex_t lock;
    pthread_cond_t news;
    struct domain_info last;
    int changes;
    uid_t given; /* to whom the last start gave the host's files */
    bool refuse; /* to give them */
};
static struct world w;
static const struct hv_driver *const drv = &hv_qemu_driver;

static void on_changed(void *ctx, const struct domain_info *info, bool guest_only)
{
    (void)ctx;
    if (guest_only)
        return;
    pthread_mutex_lock(&w.lock);
    domain_info_done(&w.last);
    domain_info_copy(&w.last, info);
    w.changes++;
    pthread_cond_broadcast(&w.news);
    pthread_mutex_unlock(&w.lock);
}

static int on_give(void *ctx, const struct domain_config *config, uid_t uid, gid_t gid, struct hv_err *err)
{
    (void)ctx;
    w.given = uid == gid && config->disks_count == 2 ? uid : 0;
    return w.refuse ? hv_fail(err, HV_ERR_KIND_IO, "The device is not given.") : 0;
}

static void open_driver(void)
{
    struct hv_err err = {0};
    cr_assert_eq(drv->open(&w.env, &w.state, &err), 0, "%s", err.text);
}

static void make_disk(void)
{
    static int number;
    snprintf(w.disk, sizeof(w.disk), "%s/disk%d.raw", w.dir, number++);
    unsigned char *disk AUTO_FREE = xmalloc(BOOT_DISK_SIZE);
    boot_disk_fill(disk);
    cr_assert_eq(file_write_atomic(w.disk, disk, BOOT_DISK_SIZE, 0600), 0);
}

static void setup(void)
{
    if (access(QEMU, X_OK) < 0)
        cr_skip_test("QEMU is not installed");
    log_init("test", LOG_ERROR_LEVEL);
    snprintf(w.dir, sizeof(w.dir), "/tmp/corral-qemu-XXXXXX");
    cr_assert(mkdtemp(w.dir));
    make_disk();
    snprintf(w.iso, sizeof(w.iso), "%s/cd.iso", w.dir);
    unsigned char *disk AUTO_FREE = xmalloc(BOOT_DISK_SIZE);
    boot_disk_fill(disk);
    cr_assert_eq(file_write_atomic(w.iso, disk, BOOT_DISK_SIZE, 0600), 0);
    pthread_mutex_init(&w.lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&w.news, &attr);
    w.env = (struct hv_driver_env){.state_dir = w.dir,
                                   .images_fd = -1,
                                   .launcher = LAUNCHER,
                                   .qemu_binary = QEMU,
                                   .ovmf_code = "/usr/share/OVMF/OVMF_CODE_4M.fd",
                                   .ovmf_vars = "/usr/share/OVMF/OVMF_VARS_4M.fd",
                                   .guest_first_uid = FIRST_UID,
                                   .guest_uid = 64055,
                                   .guest_gid = 64055,
                                   .changed = on_changed,
                                   .give = on_give};
    open_driver();
}

static struct hv_deadline in_s(int s)
{
    return (struct hv_deadline){.mono_ms = clock_mono_ms() + s * 1000};
}

static int count_entries(const char *folder)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", w.dir, folder);
    int n = 0;
    DIR *list = opendir(path);
    for (struct dirent *e; list && (e = readdir(list));)
        n += e->d_name[0] != '.';
    if (list)
        closedir(list);
    return n;
}

static void teardown(void)
{
    if (!w.state)
        return;
    struct hv_deadline deadline = in_s(20);
    static const char *const domains[] = {VM, OTHER_VM, THIRD_VM};
    for (size_t i = 0; i < ARRAY_LEN(domains); i++)
        drv->destroy(w.state, domains[i], &deadline, NULL);
    cr_expect_eq(count_entries("run"), 0, "something of a domain is left");
    drv->close(w.state);
    domain_info_done(&w.last);
    const char *const argv[] = {"rm", "-rf", w.dir, NULL};
    struct proc_spec spec = {.argv = argv};
    struct proc rm;
    cr_assert_eq(proc_start(&spec, &rm), 0);
    proc_wait(&rm, -1, NULL);
}

TestSuite(qemu, .init = setup, .fini = teardown, .timeout = 120);

static struct domain_info start(void (*change)(struct domain_config *))
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    domain_config_init(&config);
    str_assign(&config.uuid, VM);
    str_assign(&config.name, "test, = guest");
    config.memory_bytes = 32 << 20;
    config.vcpus = 1;
    struct domain_disk *disk = domain_config_add_disks(&config);
    str_assign(&disk->device, "xvda");
    disk->source = DISK_SOURCE_DISK;
    str_assign(&disk->sr, SR);
    str_assign(&disk->disk, DISK);
    disk = domain_config_add_disks(&config);
    str_assign(&disk->device, "hdc");
    disk->index = 1;
    disk->cdrom = true;
    struct domain_nic *nic = domain_config_add_nics(&config);
    str_assign(&nic->mac, "52:54:00:12:34:56");
    if (change)
        change(&config);
    struct disk_chain chains[2] = {{0}, {0}};
    chains[0].nodes = xcalloc(1, sizeof(struct disk_node));
    chains[0].nodes[0] =
        (struct disk_node){.fd = open(w.disk, O_RDWR | O_CLOEXEC), .format = IMAGE_FORMAT_RAW};
    chains[0].count = 1;
    struct hv_deadline deadline = in_s(60);
    struct domain_info info;
    struct hv_err err = {0};
    cr_assert_eq(domain_config_check(&config, &err), 0, "%s", err.text);
    cr_assert_eq(drv->start(w.state, &config, chains, &deadline, &info, &err), 0, "%s", err.text);
    return info;
}

static void started(void (*change)(struct domain_config *))
{
    struct domain_info info AUTO_DOMAIN_INFO = start(change);
    cr_assert_gt(info.pid, 0);
    cr_assert_gt(info.domid, 0);
}

static int open_serial(void)
{
    struct hv_err err = {0};
    int fd = -1;
    cr_assert_eq(drv->console_open(w.state, VM, CONSOLE_SERIAL, &fd, &err), 0, "%s", err.text);
    return fd;
}

/* Reads until `text` was seen. */
static void expect(int fd, const char *text)
{
    char seen[8192] = "";
    size_t n = 0;
    int64_t end = clock_mono_ms() + 20000;
    while (!strstr(seen, text)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        cr_assert(poll(&p, 1, (int)(end - clock_mono_ms())) == 1, "no \"%s\" in \"%s\"", text, seen);
        ssize_t got = read(fd, seen + n, sizeof(seen) - 1 - n);
        cr_assert_gt(got, 0, "the console ended; seen \"%s\"", seen);
        n += (size_t)got;
        seen[n] = '\0';
    }
}

static void type(int fd, const char *text)
{
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

/* Waits for an event that says so. */
static void expect_state(enum domain_state state, enum end_reason reason, int64_t within_ms)
{
    int64_t until = clock_mono_ms() + within_ms;
    bool late = false;
    pthread_mutex_lock(&w.lock);
    while (!late && (w.changes == 0 || w.last.state != state || w.last.end_reason != reason)) {
        struct timespec end = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        late = pthread_cond_timedwait(&w.news, &w.lock, &end) == ETIMEDOUT;
    }
    enum domain_state last = w.last.state;
    enum end_reason why = w.last.end_reason;
    pthread_mutex_unlock(&w.lock);
    cr_assert(last == state && why == reason, "the domain is %s (%s), not %s (%s)", domain_state_name(last),
              end_reason_name(why), domain_state_name(state), end_reason_name(reason));
}

static enum domain_state state_now(void)
{
    struct domain_info info AUTO_DOMAIN_INFO = {0};
    struct hv_err err = {0};
    if (drv->info(w.state, VM, &info, &err) < 0)
        return DOMAIN_STATE_GONE;
    return info.state;
}

Test(qemu, a_guest_runs_can_be_paused_and_destroyed)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(NULL);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "xyz");
    expect(fd, "xyz");
    cr_assert_eq(drv->pause(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(state_now(), DOMAIN_STATE_PAUSED);
    cr_assert_eq(drv->pause(w.state, VM, &deadline, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_STATE);
    cr_assert_eq(drv->unpause(w.state, VM, &deadline, &err), 0, "%s", err.text);
    type(fd, "again");
    expect(fd, "again");
    /* A second viewer sees what was. */
    int other = open_serial();
    expect(other, "xyzagain");
    struct domain_stats stats = {0};
    cr_assert_eq(drv->stats(w.state, VM, &stats, &err), 0);
    cr_assert_gt(stats.cpu_ns, 0);
    cr_assert_gt(stats.memory_bytes, 1 << 20);
    cr_assert_gt(stats.disks_count, 0);
    cr_assert_gt(stats.disks[0].read_bytes, 0);
    cr_assert_gt(stats.disks[0].read_ns, 0);
    cr_assert_eq(stats.vcpus_count, 1);
    cr_assert_gt(stats.vcpus[0].busy_ns, 0);
    cr_assert_leq(stats.vcpus[0].busy_ns, clock_mono_ms() * 1000000);
    cr_assert_gt(stats.guest_memory_bytes, 1 << 20);
    cr_assert_gt(stats.domid, 0);
    cr_assert_geq(stats.time_us / 1000000, clock_unix_seconds() - 60);
    domain_stats_done(&stats);
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(count_entries("run"), 0);
    cr_assert_eq(count_entries("ended"), 0);
    close(fd);
    close(other);
}

Test(qemu, the_power_button_shuts_a_guest_down)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(NULL);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    cr_assert_eq(drv->shutdown(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(drv->info(w.state, VM, &(struct domain_info){0}, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_NOT_FOUND);
    close(fd);
}

Test(qemu, a_clean_reboot_without_agent_is_refused)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(NULL);
    cr_assert_eq(drv->reboot(w.state, VM, &deadline, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_UNSUPPORTED);
}

Test(qemu, a_guest_that_powers_off_is_gone_with_the_reason)
{
    started(NULL);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "p");
    expect_state(DOMAIN_STATE_GONE, END_REASON_GUEST_SHUTDOWN, 20000);
    cr_assert_eq(count_entries("run"), 0);
    cr_assert_eq(count_entries("ended"), 1);
    struct hv_err err = {0};
    cr_assert_eq(drv->forget(w.state, VM, &err), 0);
    cr_assert_eq(count_entries("ended"), 0);
    close(fd);
}

Test(qemu, a_guest_that_reboots_goes_on)
{
    started(NULL);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "r");
    expect(fd, BOOT_SECTOR_GREETING);
    struct domain_info info AUTO_DOMAIN_INFO = {0};
    cr_assert_eq(drv->info(w.state, VM, &info, NULL), 0);
    cr_assert_eq(info.reboots, 1);
    close(fd);
}

static void end_on_reboot(struct domain_config *config)
{
    config->on_reboot = END_ACTION_DESTROY;
}

Test(qemu, a_reboot_ends_the_domain_when_the_configuration_says_so)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(end_on_reboot);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    /* The pool's own reset is no reboot of the guest. */
    cr_assert_eq(drv->reset(w.state, VM, &deadline, &err), 0, "%s", err.text);
    expect(fd, BOOT_SECTOR_GREETING);
    /* It keeps rebooting until that counts as its own again. */
    for (int64_t end = clock_mono_ms() + 20000;
         state_now() == DOMAIN_STATE_RUNNING && clock_mono_ms() < end;) {
        char seen[512];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (write(fd, "r", 1) == 1 && poll(&p, 1, 1000) == 1 && read(fd, seen, sizeof(seen)) <= 0)
            break;
    }
    expect_state(DOMAIN_STATE_GONE, END_REASON_GUEST_REBOOT, 20000);
    close(fd);
}

/* Talks to the device model itself, while no driver does, until it says that the guest has ended. */
static void end_guest_unseen(char key)
{
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    const char *const names[] = {"qmp", "serial"};
    int fds[2];
    for (size_t i = 0; i < 2; i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof(address.sun_path), "%s/run/" VM "/%s", w.dir, names[i]);
        fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        cr_assert_eq(connect(fds[i], (struct sockaddr *)&address, sizeof(address)), 0, "%s: %s", names[i],
                     strerror(errno));
    }
    cr_assert_eq(write(fds[0], hello, sizeof(hello) - 1), (ssize_t)sizeof(hello) - 1);
    expect(fds[0], "return");
    cr_assert_eq(write(fds[1], &key, 1), 1);
    expect(fds[0], "SHUTDOWN");
    close(fds[0]);
    close(fds[1]);
}

static void check_end_unseen(char key, enum end_reason reason)
{
    started(end_on_reboot);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    close(fd);
    drv->close(w.state);
    end_guest_unseen(key);
    open_driver();
    expect_state(DOMAIN_STATE_GONE, reason, 20000);
}

Test(qemu, a_reboot_that_no_driver_saw_is_one)
{
    check_end_unseen('r', END_REASON_GUEST_REBOOT);
}

Test(qemu, a_power_off_that_no_driver_saw_is_one)
{
    check_end_unseen('p', END_REASON_GUEST_SHUTDOWN);
}

Test(qemu, a_panic_is_a_crash)
{
    started(NULL);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "c");
    expect_state(DOMAIN_STATE_GONE, END_REASON_GUEST_CRASH, 20000);
    close(fd);
}

static void keep_crashed(struct domain_config *config)
{
    config->on_crash = END_ACTION_PRESERVE;
    config->on_shutdown = END_ACTION_RESTART;
}

Test(qemu, end_actions_preserve_and_restart)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(keep_crashed);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "p");
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "c");
    expect_state(DOMAIN_STATE_CRASHED, END_REASON_GUEST_CRASH, 20000);
    cr_assert_eq(drv->reset(w.state, VM, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
    expect(fd, BOOT_SECTOR_GREETING);
    close(fd);
}

Test(qemu, a_killed_device_model_is_noticed_within_a_second)
{
    struct domain_info info AUTO_DOMAIN_INFO = start(NULL);
    kill((pid_t)info.pid, SIGKILL);
    expect_state(DOMAIN_STATE_GONE, END_REASON_DEVICE_MODEL_DIED, 1000);
    struct domain_info after AUTO_DOMAIN_INFO = {0};
    cr_assert_eq(drv->info(w.state, VM, &after, NULL), 0);
    cr_assert(strstr(after.end_text, "KILL") && strstr(after.end_text, "host-dmesg"), "%s", after.end_text);
    cr_assert_eq(count_entries("run"), 0);
}

static void paused(struct domain_config *config)
{
    config->start_paused = true;
}

/* The numbers of one that hangs are those that the host's kernel knows; the others' come all the same. */
Test(qemu, a_hung_device_model_is_measured_from_outside)
{
    struct hv_err err = {0};
    struct hv_deadline deadline = in_s(60);
    struct domain_info info;
    started(NULL);
    cr_assert_eq(drv->info(w.state, VM, &info, &err), 0);
    cr_assert_eq(kill((pid_t)info.pid, SIGSTOP), 0);
    for (int look = 0; look < 2; look++) {
        struct domain_stats stats;
        cr_assert_eq(drv->stats(w.state, VM, &stats, &err), 0);
        cr_assert_gt(stats.cpu_ns, 0);
        cr_assert_gt(stats.memory_bytes, 1 << 20);
        cr_assert_eq(stats.vcpus_count + stats.disks_count, 0);
        domain_stats_done(&stats);
    }
    cr_assert_eq(kill((pid_t)info.pid, SIGCONT), 0);
    domain_info_done(&info);
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0, "%s", err.text);
}

Test(qemu, a_domain_can_be_started_paused)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(paused);
    cr_assert_eq(state_now(), DOMAIN_STATE_PAUSED);
    int fd = open_serial();
    cr_assert_eq(drv->unpause(w.state, VM, &deadline, &err), 0, "%s", err.text);
    expect(fd, BOOT_SECTOR_GREETING);
    close(fd);
}

Test(qemu, a_second_start_of_the_same_domain_is_refused)
{
    started(NULL);
    struct domain_config config AUTO_DOMAIN_CONFIG;
    domain_config_init(&config);
    str_assign(&config.uuid, VM);
    config.memory_bytes = 32 << 20;
    config.vcpus = 1;
    struct hv_deadline deadline = in_s(60);
    struct domain_info info;
    struct hv_err err = {0};
    cr_assert_eq(drv->start(w.state, &config, NULL, &deadline, &info, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_EXISTS);
    cr_assert_eq(state_now(), DOMAIN_STATE_RUNNING);
}

Test(qemu, a_failed_start_leaves_nothing_and_says_why)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    domain_config_init(&config);
    str_assign(&config.uuid, VM);
    config.memory_bytes = 32 << 20;
    config.vcpus = 1;
    struct domain_disk *disk = domain_config_add_disks(&config);
    str_assign(&disk->device, "xvda");
    disk->source = DISK_SOURCE_DISK;
    struct disk_chain chain = {.nodes = xcalloc(1, sizeof(struct disk_node)), .count = 1};
    /* A raw disk that is said to be qcow2. */
    chain.nodes[0] = (struct disk_node){.fd = open(w.disk, O_RDWR | O_CLOEXEC), .format = IMAGE_FORMAT_QCOW2};
    struct hv_deadline deadline = in_s(60);
    struct domain_info info;
    struct hv_err err = {0};
    cr_assert_eq(drv->start(w.state, &config, &chain, &deadline, &info, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_DEVICE_MODEL);
    cr_assert(strstr(err.text, "qcow2"), "%s", err.text);
    cr_assert_eq(count_entries("run"), 0);
    cr_assert_eq(count_entries("ended"), 0);
    cr_assert_eq(w.changes, 0);
}

Test(qemu, a_running_domain_is_adopted_with_its_console)
{
    struct domain_info before AUTO_DOMAIN_INFO = start(NULL), after AUTO_DOMAIN_INFO = {0};
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    close(fd);
    drv->close(w.state);
    open_driver();
    cr_assert_eq(drv->info(w.state, VM, &after, NULL), 0);
    cr_assert_eq(after.state, DOMAIN_STATE_RUNNING);
    cr_assert_eq(after.pid, before.pid);
    cr_assert_eq(after.domid, before.domid);
    cr_assert_str_eq(after.name, "test, = guest");
    fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    type(fd, "hello");
    expect(fd, "hello");
    type(fd, "p");
    expect_state(DOMAIN_STATE_GONE, END_REASON_GUEST_SHUTDOWN, 20000);
    close(fd);
}

Test(qemu, ends_while_nobody_looks_are_told_apart)
{
    started(NULL);
    int fd = open_serial();
    expect(fd, BOOT_SECTOR_GREETING);
    /* The key is on its way when the agent goes. */
    type(fd, "p");
    expect_state(DOMAIN_STATE_GONE, END_REASON_GUEST_SHUTDOWN, 20000);
    close(fd);
    struct domain_info info AUTO_DOMAIN_INFO = start(NULL);
    drv->close(w.state);
    kill((pid_t)info.pid, SIGKILL);
    waitpid((pid_t)info.pid, NULL, 0);
    open_driver();
    struct domain_info after AUTO_DOMAIN_INFO = {0};
    cr_assert_eq(drv->info(w.state, VM, &after, NULL), 0);
    cr_assert_eq(after.state, DOMAIN_STATE_GONE);
    cr_assert_eq(after.end_reason, END_REASON_DEVICE_MODEL_DIED);
    cr_assert_eq(count_entries("run"), 0);
}

static void with_uefi(struct domain_config *config)
{
    config->firmware = FIRMWARE_UEFI;
    config->memory_bytes = 128 << 20;
}

Test(qemu, uefi_starts_with_its_own_variables)
{
    if (access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) < 0) {
        teardown();
        w.state = NULL;
        cr_skip_test("OVMF is not installed");
    }
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(with_uefi);
    cr_assert_eq(count_entries("nvram"), 1);
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0);
    cr_assert_eq(drv->purge(w.state, VM, &err), 0);
    cr_assert_eq(count_entries("nvram"), 0);
}

Test(qemu, media_are_put_in_and_taken_out)
{
    struct hv_deadline deadline = in_s(60);
    struct hv_err err = {0};
    started(NULL);
    struct domain_disk drive = {
        .device = "hdc", .cdrom = true, .source = DISK_SOURCE_ISO, .sr = SR, .iso = "a b,c.iso"};
    for (int round = 0; round < 3; round++) {
        struct disk_chain chain = {.nodes = xcalloc(1, sizeof(struct disk_node)), .count = 1};
        chain.nodes[0] = (struct disk_node){
            .fd = open(w.iso, O_RDONLY | O_CLOEXEC), .format = IMAGE_FORMAT_RAW, .read_only = true};
        cr_assert_eq(drv->cd_change(w.state, VM, &drive, &chain, &deadline, &err), 0, "%s", err.text);
    }
    struct domain_config config AUTO_DOMAIN_CONFIG = {0};
    cr_assert_eq(drv->config(w.state, VM, &config, &err), 0);
    cr_assert_str_eq(config.disks[1].iso, "a b,c.iso");
    struct domain_disk empty = {.device = "hdc", .cdrom = true, .source = DISK_SOURCE_EMPTY};
    struct disk_chain none = {0};
    cr_assert_eq(drv->cd_change(w.state, VM, &empty, &none, &deadline, &err), 0, "%s", err.text);
    cr_assert_eq(drv->cd_change(w.state, VM, &empty, &none, &deadline, &err), 0, "%s", err.text);
    struct domain_disk wrong = {.device = "xvda", .source = DISK_SOURCE_EMPTY};
    cr_assert_eq(drv->cd_change(w.state, VM, &wrong, &none, &deadline, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT);
}

Test(qemu, many_viewers_see_the_screen)
{
    struct hv_err err = {0};
    started(NULL);
    for (int i = 0; i < 3; i++) {
        int fd = -1;
        char text[16] = "";
        cr_assert_eq(drv->console_open(w.state, VM, CONSOLE_VNC, &fd, &err), 0, "%s", err.text);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, 10000), 1);
        cr_assert_gt(read(fd, text, sizeof(text) - 1), 0);
        cr_assert_str_eq(text, "RFB 003.008\n");
        close(fd);
    }
}

/* No right and no descriptor that the plan did not give. */
Test(qemu, the_device_model_is_unprivileged)
{
    if (geteuid() != 0) {
        teardown();
        w.state = NULL;
        cr_skip_test("only root changes users");
    }
    struct domain_info info AUTO_DOMAIN_INFO = start(NULL);
    char path[64], *status AUTO_FREE = NULL;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)info.pid);
    status = file_read(path, 8192, NULL);
    uid_t own = (uid_t)(FIRST_UID + info.domid);
    char *ids AUTO_FREE =
        xasprintf("Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n", own, own, own, own, own, own, own, own);
    cr_assert(strstr(status, ids), "%s", status);
    cr_expect_eq(w.given, own);
    cr_assert(strstr(status, "CapEff:\t0000000000000000"));
    cr_assert(strstr(status, "CapPrm:\t0000000000000000"));
    cr_assert(strstr(status, "NoNewPrivs:\t1"));
    cr_assert(strstr(status, "Seccomp:\t2"));
    cr_assert(strstr(status, "Groups:\t \n"), "%s", status);
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)info.pid);
    DIR *list = opendir(path);
    for (struct dirent *e; list && (e = readdir(list));) {
        char target[256];
        ssize_t n = readlinkat(dirfd(list), e->d_name, target, sizeof(target) - 1);
        if (n < 0)
            continue;
        target[n] = '\0';
        bool known = strstr(target, "socket:") || strstr(target, "anon_inode") ||
                     strstr(target, "/dev/null") || strstr(target, "memfd") || strstr(target, w.disk) ||
                     strstr(target, "/qemu.log") || strstr(target, "/serial.log") ||
                     strstr(target, "/dev/urandom");
        cr_expect(known, "the device model has %s", target);
    }
    closedir(list);
}

static void call_it_other(struct domain_config *config)
{
    str_assign(&config->uuid, OTHER_VM);
}

static void call_it_third(struct domain_config *config)
{
    str_assign(&config->uuid, THIRD_VM);
}

static uid_t uid_of(const struct domain_info *info)
{
    char path[64];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d", (int)info->pid);
    cr_assert_eq(stat(path, &st), 0);
    return st.st_uid;
}

static void reopen_at(long long domid)
{
    char path[128], text[32];
    snprintf(path, sizeof(path), "%s/domid", w.dir);
    int len = snprintf(text, sizeof(text), "%lld\n", domid);
    drv->close(w.state);
    cr_assert_eq(file_write_atomic(path, text, (size_t)len, 0600), 0);
    open_driver();
}

/* Numbers begin anew after GUEST_USERS of them; one that a running domain has is passed over, also when
 * another agent gave it. */
Test(qemu, no_two_domains_have_one_user)
{
    if (geteuid() != 0) {
        teardown();
        w.state = NULL;
        cr_skip_test("only root changes users");
    }
    struct domain_info first AUTO_DOMAIN_INFO = start(NULL);
    uid_t uid = uid_of(&first);
    reopen_at(first.domid + GUEST_USERS);
    make_disk();
    struct domain_info second AUTO_DOMAIN_INFO = start(call_it_other);
    cr_expect_eq(uid_of(&first), uid, "an adopted domain runs on");
    cr_expect_eq(second.domid, first.domid + GUEST_USERS + 1);
    cr_expect_eq(uid_of(&second), uid + 1);
    /* Free again once it has ended. */
    struct hv_deadline deadline = in_s(20);
    struct hv_err err = {0};
    cr_assert_eq(drv->destroy(w.state, VM, &deadline, &err), 0, "%s", err.text);
    reopen_at(first.domid + GUEST_USERS * 2);
    make_disk();
    struct domain_info third AUTO_DOMAIN_INFO = start(call_it_third);
    cr_expect_eq(uid_of(&third), uid);
}

Test(qemu, a_start_that_is_not_given_a_device_leaves_nothing)
{
    if (geteuid() != 0) {
        teardown();
        w.state = NULL;
        cr_skip_test("only root changes users");
    }
    struct domain_config config AUTO_DOMAIN_CONFIG;
    domain_config_init(&config);
    str_assign(&config.uuid, VM);
    config.memory_bytes = 32 << 20;
    config.vcpus = 1;
    struct disk_chain none = DISK_CHAIN_INIT;
    struct hv_deadline deadline = in_s(20);
    struct domain_info info;
    struct hv_err err = {0};
    w.refuse = true;
    cr_assert_eq(drv->start(w.state, &config, &none, &deadline, &info, &err), -1);
    cr_expect_str_eq(err.text, "The device is not given.");
    cr_expect_eq(count_entries("run"), 0);
}

/* Says it to the device model, whose only other client has let go, and answers what follows the greeting. */
static void say(const char *command, char *answer, size_t size)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof(to.sun_path), "%s/run/" VM "/qmp", w.dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    size_t len = 0;
    static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
    cr_assert(write(fd, hello, strlen(hello)) > 0 && write(fd, command, strlen(command)) > 0);
    int64_t end = clock_mono_ms() + 20000;
    do {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        cr_assert_eq(poll(&p, 1, (int)(end - clock_mono_ms())), 1, "no answer");
        ssize_t n = read(fd, answer + len, size - 1 - len);
        cr_assert_gt(n, 0);
        len += (size_t)n;
        answer[len] = '\0';
    } while (!strstr(answer, "\"id\": 7"));
    close(fd);
}

/* A folder where all users may make files is closed to a device model, whoever speaks through it. */
Test(qemu, the_device_model_makes_no_file)
{
    char dir[] = "/tmp/corral-open-XXXXXX", answer[8192];
    cr_assert(mkdtemp(dir));
    bool confined = confine_version() > 0;
    started(NULL);
    drv->close(w.state);
    cr_assert_eq(chmod(dir, 0777), 0);
    char *file AUTO_FREE = xasprintf("%s/picture", dir);
    char *command AUTO_FREE =
        xasprintf("{\"execute\":\"screendump\",\"id\":7,\"arguments\":{\"filename\":\"%s\"}}\n", file);
    say(command, answer, sizeof(answer));
    cr_expect_eq(access(file, F_OK) < 0, confined);
    cr_expect_eq(strstr(answer, "Permission denied") != NULL, confined, "%s", answer);
    open_driver();
    unlink(file);
    rmdir(dir);
}
