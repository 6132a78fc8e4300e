/* A simulator of the test's own, for the files of this test program. */
#pragma once
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <ftw.h>
#include <hv/driver.h>
#include <poll.h>
#include <stdio.h>

#define VM "11111111-1111-4111-8111-111111111111"
#define WAIT_MS 10000

struct world {
    char dir[64];
    struct hv_driver_env env;
    struct hv_driver_state *state;
};
static struct world w;
static const struct hv_driver *const drv = &hv_sim_driver;

static inline void on_changed(void *ctx, const struct domain_info *info, bool guest_only)
{
    (void)ctx;
    (void)info;
    (void)guest_only;
}

static inline void open_driver(void)
{
    struct hv_err err = {0};
    cr_assert_eq(drv->open(&w.env, &w.state, &err), 0, "%s", err.text);
}

static inline void setup(void)
{
    log_init("test", LOG_ERROR_LEVEL);
    snprintf(w.dir, sizeof(w.dir), "/tmp/corral-sim-XXXXXX");
    cr_assert(mkdtemp(w.dir));
    w.env =
        (struct hv_driver_env){.state_dir = w.dir, .images_fd = -1, .sim_boot_ms = 20, .changed = on_changed};
    open_driver();
}

static inline int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st;
    (void)kind;
    (void)walk;
    return remove(path);
}

static inline void teardown(void)
{
    struct hv_err err;
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + WAIT_MS};
    drv->destroy(w.state, VM, &deadline, &err);
    drv->close(w.state);
    cr_assert_eq(nftw(w.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static inline struct hv_deadline within(int64_t ms)
{
    return (struct hv_deadline){.mono_ms = clock_mono_ms() + ms};
}

static inline void start(const char *cmdline, bool paused)
{
    struct domain_config config;
    struct domain_info info;
    struct hv_err err = {0};
    struct hv_deadline deadline = within(WAIT_MS);
    domain_config_init(&config);
    str_assign(&config.uuid, VM);
    str_assign(&config.name, "one");
    config.memory_bytes = 64 << 20;
    config.vcpus = 1;
    str_assign(&config.cmdline, cmdline);
    if (*cmdline) {
        config.firmware = FIRMWARE_KERNEL;
        str_assign(&config.kernel, "vmlinuz");
    }
    config.start_paused = paused;
    config.on_reboot = END_ACTION_RESTART;
    str_assign(&domain_config_add_nics(&config)->mac, "52:54:00:12:34:56");
    cr_assert_eq(drv->start(w.state, &config, NULL, &deadline, &info, &err), 0, "%s", err.text);
    cr_assert_eq(info.state, paused ? DOMAIN_STATE_PAUSED : DOMAIN_STATE_RUNNING);
    domain_info_done(&info);
    domain_config_done(&config);
}

/* Looks at the domain until `fits`, which sees a copy. */
static inline void wait_for(bool (*fits)(const struct domain_info *info))
{
    int64_t deadline = clock_mono_ms() + WAIT_MS;
    for (;;) {
        struct domain_info info;
        struct hv_err err;
        cr_assert_eq(drv->info(w.state, VM, &info, &err), 0, "%s", err.text);
        bool ok = fits(&info);
        domain_info_done(&info);
        if (ok)
            return;
        cr_assert_lt(clock_mono_ms(), deadline, "the domain never came to that");
        poll(NULL, 0, 5);
    }
}

static inline bool is_booted(const struct domain_info *info)
{
    return info->guest.live;
}

static inline bool is_gone(const struct domain_info *info)
{
    return info->state == DOMAIN_STATE_GONE;
}

static inline bool has_rebooted(const struct domain_info *info)
{
    return info->reboots > 0 && info->guest.live;
}
