/* Hot plug, ballooning, processors and suspend as a Linux guest sees them: the tiny guest (guest/), asked
 * over its serial line. One boot for all, since it takes seconds. Needs CORRAL_TEST_IMAGES, the folder that
 * guest/build-tiny filled; skipped without it. */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>

#define OTHER "33333333-3333-4333-8333-555555555555"
#define STATE "33333333-3333-4333-8333-666666666666"
#define MIB (1LL << 20)
#define BOOT_MS 180000
#define SEE_MS 60000

static struct fixture f;

static void start(void)
{
    const char *images = getenv("CORRAL_TEST_IMAGES");
    char *kernel AUTO_FREE = xasprintf("%s/tiny.vmlinuz", images ? images : "");
    if (access(kernel, R_OK) < 0)
        cr_skip_test("there is no tiny guest");
    fixture_start(&f, "qemu");
    fixture_kill(&f);
    f.images = images;
    fixture_launch(&f);
}

static void stop(void)
{
    fixture_stop(&f);
}

TestSuite(linux_guest, .init = start, .fini = stop, .timeout = 600);

/* Reads until the text; the caller frees what came. */
static char *read_until(struct stream *console, const char *text, int64_t within_ms)
{
    size_t size = 256 << 10, n = 0;
    char *seen = xcalloc(1, size);
    int64_t end = clock_mono_ms() + within_ms;
    while (!strstr(seen, text)) {
        ssize_t got = stream_read(console, seen + n, size - 1 - n);
        cr_assert(got != 0, "the console ended");
        n += got > 0 ? (size_t)got : 0;
        if (got < 0)
            cr_assert_eq(stream_wait_readable(console, end - clock_mono_ms()), 1, "no \"%s\" in \"%s\"", text,
                         seen);
    }
    return seen;
}

/* What a command of the guest's shell says. The caller frees. */
static char *shell(struct stream *console, const char *command)
{
    /* The echo of what is typed does not hold the mark that its output does. */
    char *line AUTO_FREE = xasprintf("echo BE''GIN; %s; echo EN''D\n", command);
    cr_assert_eq(stream_write_all(console, line, strlen(line), 5000), 0);
    char *begin AUTO_FREE = read_until(console, "BEGIN\r\n", SEE_MS);
    char *rest = strstr(begin, "BEGIN\r\n") + 7;
    char *more AUTO_FREE = strstr(rest, "END\r\n") ? xstrdup("") : read_until(console, "END\r\n", SEE_MS);
    char *said = xasprintf("%s%s", rest, more);
    *strstr(said, "END\r\n") = '\0';
    return said;
}

/* Until the command's output has the text, or has it no more. */
static void shows(struct stream *console, const char *command, const char *text, bool there)
{
    int64_t end = clock_mono_ms() + SEE_MS;
    for (;;) {
        char *said AUTO_FREE = shell(console, command);
        if (!!strstr(said, text) == there)
            return;
        cr_assert_lt(clock_mono_ms(), end, "%s: \"%s\" is %s in \"%s\"", command, text,
                     there ? "not" : "still", said);
    }
}

#define CALL(name, ...)                                                                                      \
    do {                                                                                                     \
        struct hv_op op_ = fresh_op();                                                                       \
        struct hv_err err_ = {0};                                                                            \
        struct hv_##name##_args args_ = {__VA_ARGS__};                                                       \
        struct hv_##name##_result result_;                                                                   \
        cr_assert_eq(hv_##name(f.host, &op_, &args_, &result_, &err_), 0, #name ": %s", err_.text);          \
        hv_##name##_result_done(&result_);                                                                   \
    } while (0)

static void wait_memory(int64_t actual)
{
    int64_t end = clock_mono_ms() + SEE_MS;
    for (;;) {
        struct domain_info info AUTO_DOMAIN_INFO = must_info(&f);
        if (info.memory_actual_bytes == actual)
            return;
        cr_assert_lt(clock_mono_ms(), end, "it keeps %lld", (long long)info.memory_actual_bytes);
        poll(NULL, 0, 100);
    }
}

static struct stream *log_in(void)
{
    struct stream *console = must_console(&f, "serial");
    free(read_until(console, "login:", BOOT_MS));
    cr_assert_eq(stream_write_all(console, "root\n", 5, 5000), 0);
    free(read_until(console, "# ", SEE_MS));
    return console;
}

static void describe(struct domain_config *config)
{
    small_domain(config);
    config->memory_bytes = 256 * MIB;
    config->vcpus_max = 2;
    config->firmware = FIRMWARE_KERNEL;
    str_assign(&config->kernel, "tiny.vmlinuz");
    str_assign(&config->ramdisk, "tiny.initrd");
    str_assign(&config->cmdline, "console=ttyS0 quiet no_timer_check");
}

static const struct domain_disk plugged = {.device = "xvdb",
                                           .index = 1,
                                           .bus = DISK_BUS_VIRTIO,
                                           .source = DISK_SOURCE_DISK,
                                           .sr = SR,
                                           .disk = OTHER};
static const struct domain_nic second_nic = {.index = 1, .mac = "52:54:00:12:34:57", .kind = NIC_KIND_USER};

static void suspend_and_resume(const struct domain_config *config)
{
    must_create_state(&f, STATE);
    CALL(domain_suspend, .domain = VM, .sr = SR, .disk = STATE);
    struct domain_config now AUTO_DOMAIN_CONFIG;
    domain_config_copy(&now, config);
    struct domain_disk *disk = domain_config_add_disks(&now);
    str_assign(&disk->device, plugged.device);
    disk->index = plugged.index;
    disk->source = plugged.source;
    str_assign(&disk->sr, plugged.sr);
    str_assign(&disk->disk, plugged.disk);
    struct domain_nic *nic = domain_config_add_nics(&now);
    nic->index = second_nic.index;
    str_assign(&nic->mac, second_nic.mac);
    CALL(domain_resume, .config = now, .sr = SR, .disk = STATE);
}

Test(linux_guest, sees_what_comes_goes_and_changes)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    fixture_storage(&f);
    must_create(&f, OTHER, 8 * MIB);
    describe(&config);
    struct domain_info info = must_start(&f, &config);
    domain_info_done(&info);
    struct stream *console = log_in();

    CALL(disk_plug, .domain = VM, .disk = plugged);
    shows(console, "cat /proc/partitions", "vdb", true);
    CALL(nic_plug, .domain = VM, .nic = second_nic);
    shows(console, "ls /sys/class/net", "eth1", true);
    CALL(domain_trigger, .domain = VM, .signal = DOMAIN_SIGNAL_NMI);
    shows(console, "dmesg", "NMI", true);
    CALL(domain_set_vcpus, .domain = VM, .vcpus = 2);
    shows(console, "cat /sys/devices/system/cpu/present", "0-1", true);
    shows(console, "echo 1 >/sys/devices/system/cpu/cpu1/online; cat /sys/devices/system/cpu/online", "0-1",
          true);
    CALL(domain_set_memory, .domain = VM, .memory_bytes = 200 * MIB);
    wait_memory(200 * MIB);

    shows(console,
          "head -c 9000000 /dev/urandom >/tmp/noise; cp /tmp/noise /dev/vdb 2>/dev/null; sync; echo copied",
          "copied", true);
    char *before AUTO_FREE = shell(console, "md5sum </tmp/noise; md5sum </dev/vdb");
    stream_close(console);
    suspend_and_resume(&config);
    console = must_console(&f, "serial");
    char *after AUTO_FREE = shell(console, "md5sum </tmp/noise; md5sum </dev/vdb");
    cr_assert(strstr(before, "  -"));
    cr_assert_str_eq(after, before);
    shows(console, "cat /sys/devices/system/cpu/online", "0-1", true);
    shows(console, "ls /sys/class/net", "eth1", true);
    wait_memory(200 * MIB);

    CALL(disk_unplug, .domain = VM, .device = "xvdb");
    shows(console, "cat /proc/partitions", "vdb", false);
    CALL(nic_unplug, .domain = VM, .index = 1);
    shows(console, "ls /sys/class/net", "eth1", false);
    CALL(domain_set_memory, .domain = VM, .memory_bytes = 256 * MIB);
    wait_memory(256 * MIB);
    /* The disk is free again, and can come back. */
    CALL(disk_plug, .domain = VM, .disk = plugged);
    shows(console, "cat /proc/partitions", "vdb", true);
    char *again AUTO_FREE = shell(console, "md5sum </tmp/noise; md5sum </dev/vdb");
    cr_assert_str_eq(again, before);
    stream_close(console);
}
