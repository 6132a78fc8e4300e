/* How long a start takes through the agent, until the guest runs, beside the same QEMU started by hand: the
 * same arguments with paths in place of descriptors, until it answers query-status. Prints one line of JSON.
 */
#include "agent_fixture.h"
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define ROUNDS 15

static int by_time(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

static int connect_to(const char *path, const struct proc *qemu)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof(name.sun_path), "%s", path);
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&name, sizeof(name)) == 0)
            return fd;
        close(fd);
        struct proc copy = *qemu;
        cr_assert(copy.pid > 0);
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
}

static int64_t by_hand(const struct fixture *f)
{
    char *qmp AUTO_FREE = xasprintf("%s/qmp", f->dir),
              *disk AUTO_FREE = xasprintf("%s/" DISK ".raw", f->storage);
    char *qmp_arg AUTO_FREE = xasprintf("socket,id=qmp0,path=%s,server=on,wait=off", qmp);
    char *disk_arg AUTO_FREE =
        xasprintf("{\"driver\":\"file\",\"node-name\":\"f\",\"filename\":\"%s\"}", disk);
    const char *const argv[] = {QEMU_BINARY,
                                "-no-user-config",
                                "-nodefaults",
                                "-sandbox",
                                "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
                                "-machine",
                                "pc-q35-7.2,usb=off,vmport=off,smm=off,dump-guest-core=off",
                                "-accel",
                                "tcg,thread=multi",
                                "-cpu",
                                "max,la57=off",
                                "-smp",
                                "cpus=1",
                                "-m",
                                "size=32M",
                                "-display",
                                "none",
                                "-vnc",
                                "none",
                                "-device",
                                "VGA,id=video0,vgamem_mb=16",
                                "-device",
                                "qemu-xhci,id=usb0",
                                "-device",
                                "usb-tablet,bus=usb0.0",
                                "-device",
                                "pvpanic",
                                "-object",
                                "rng-builtin,id=rng0",
                                "-device",
                                "virtio-rng-pci,rng=rng0",
                                "-device",
                                "virtio-serial-pci",
                                "-serial",
                                "null",
                                "-blockdev",
                                disk_arg,
                                "-blockdev",
                                "{\"driver\":\"raw\",\"node-name\":\"d\",\"file\":\"f\"}",
                                "-device",
                                "virtio-blk-pci,drive=d",
                                "-device",
                                "ide-cd,bus=ide.0",
                                "-netdev",
                                "user,id=n",
                                "-device",
                                "virtio-net-pci,netdev=n,romfile=",
                                "-chardev",
                                qmp_arg,
                                "-mon",
                                "chardev=qmp0,mode=control",
                                NULL};
    struct proc_spec spec = {.argv = argv, .new_session = true};
    struct proc qemu;
    int64_t start = clock_mono_us();
    cr_assert_eq(proc_start(&spec, &qemu), 0);
    int fd = connect_to(qmp, &qemu);
    static const char commands[] = "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n";
    cr_assert_eq(write(fd, commands, sizeof(commands) - 1), (ssize_t)sizeof(commands) - 1);
    char text[8192] = "";
    for (size_t n = 0; !strstr(text, "\"running\": true");) {
        ssize_t got = read(fd, text + n, sizeof(text) - 1 - n);
        cr_assert_gt(got, 0);
        n += (size_t)got;
    }
    int64_t took = clock_mono_us() - start;
    close(fd);
    proc_kill(&qemu);
    unlink(qmp);
    return took;
}

Test(bench, start, .timeout = 250)
{
    struct fixture f;
    int64_t agent[ROUNDS], hand[ROUNDS];
    fixture_start(&f, "qemu");
    fixture_storage(&f);
    struct domain_config config;
    small_domain(&config);
    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = clock_mono_us();
        struct domain_info info = must_start(&f, &config);
        agent[i] = clock_mono_us() - start;
        domain_info_done(&info);
        must_call(&f, HV_CALL_DOMAIN_HARD_SHUTDOWN, VM);
        hand[i] = by_hand(&f);
    }
    domain_config_done(&config);
    fixture_stop(&f);
    qsort(agent, ROUNDS, sizeof(agent[0]), by_time);
    qsort(hand, ROUNDS, sizeof(hand[0]), by_time);
    double ratio = (double)agent[ROUNDS / 2] / (double)hand[ROUNDS / 2];
    printf("{\"agent_start_ms\":%.1f,\"qemu_by_hand_ms\":%.1f,\"ratio\":%.2f}\n",
           (double)agent[ROUNDS / 2] / 1000, (double)hand[ROUNDS / 2] / 1000, ratio);
}
