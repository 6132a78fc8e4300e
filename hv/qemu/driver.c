/* The QEMU driver's entry in the table: opening, closing, lists. Read next: start.c, domain.c, ending.c,
 * adopt.c, ops.c. */
#include "internal.h"
#include <base/clock.h>
#include <base/confine.h>
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <hv/network.h>
#include <io/images.h>
#include <io/kept.h>
#include <stdio.h>

#define HOUSEKEEPING_MS 60000
#define QEMU_LOG_MAX (1024 * 1024)
#define QEMU_LOG_KEEP (64 * 1024)

static char *copy(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

static int64_t read_domid(const char *state_dir)
{
    char *path AUTO_FREE = xasprintf("%s/domid", state_dir);
    char *text AUTO_FREE = file_read(path, 64, NULL);
    long long n = text ? strtoll(text, NULL, 10) : 1;
    return n > 0 ? n : 1;
}

static void free_state(struct hv_driver_state *state)
{
    loop_free(state->loop);
    for (size_t i = 0; i < state->count; i++)
        domain_unref(state->domains[i]);
    free(state->domains);
    pthread_mutex_destroy(&state->lock);
    free(state->state_dir);
    free(state->launcher);
    free(state->qemu_binary);
    free(state->ovmf_code);
    free(state->ovmf_vars);
    free(state->ovmf_secure_code);
    free(state->ovmf_secure_vars);
    free(state->swtpm);
    free(state);
}

/* Logs that a guest can make grow are kept short. Loop thread. */
static void housekeeping(void *arg)
{
    struct hv_driver_state *state = arg;
    pthread_mutex_lock(&state->lock);
    for (size_t i = 0; i < state->count; i++) {
        struct qemu_domain *d = state->domains[i];
        pthread_mutex_lock(&d->lock);
        if (!d->dead && !d->starting && d->dir.fd >= 0)
            rundir_trim(&d->dir, "qemu.log", QEMU_LOG_MAX, QEMU_LOG_KEEP);
        pthread_mutex_unlock(&d->lock);
    }
    pthread_mutex_unlock(&state->lock);
    loop_timer_set(state->loop, &state->housekeeping, clock_mono_ms() + HOUSEKEEPING_MS);
}

static void begin_housekeeping(void *arg)
{
    struct hv_driver_state *state = arg;
    state->housekeeping = (struct loop_timer){.fire = housekeeping, .arg = state};
    housekeeping(state);
}

static int qemu_open(const struct hv_driver_env *env, struct hv_driver_state **out, struct hv_err *err)
{
    char reason[256];
    if (access(env->launcher, X_OK) < 0)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The launcher %s cannot be run: %s", env->launcher,
                       strerror(errno));
    if (rundir_prepare(env->state_dir, err) < 0)
        return -1;
    struct hv_driver_state *state = xcalloc(1, sizeof(*state));
    state->env = *env;
    state->state_dir = copy(env->state_dir);
    state->launcher = copy(env->launcher);
    state->qemu_binary = copy(env->qemu_binary);
    state->ovmf_code = copy(env->ovmf_code);
    state->ovmf_vars = copy(env->ovmf_vars);
    state->ovmf_secure_code = copy(env->ovmf_secure_code);
    state->ovmf_secure_vars = copy(env->ovmf_secure_vars);
    state->swtpm = copy(env->swtpm);
    state->cgroup_fd = scheduling_open(env->cgroup);
    state->accelerator = qemu_choose_accelerator(reason, sizeof(reason));
    state->may_nest = qemu_may_nest(state->accelerator);
    state->confines = confine_version() > 0;
    if (!state->confines)
        log_info(
            "qemu",
            "this kernel has no Landlock: users and missing paths alone keep guests' programs from files");
    struct network_error why;
    state->may_bridge = network_allowed(&why);
    if (!state->may_bridge)
        log_info("qemu", "nics on bridges are not possible here", "why", why.text);
    state->domid_next = state->domid_reserved = read_domid(env->state_dir);
    host_boot_id(state->boot_id);
    pthread_mutex_init(&state->lock, NULL);
    state->loop = loop_new("qemu");
    if (!state->loop) {
        hv_fail(err, HV_ERR_KIND_INTERNAL, "The driver's thread cannot be started: %s", strerror(errno));
        free_state(state);
        return -1;
    }
    if (qemu_adopt_all(state, err) < 0) {
        hv_qemu_driver.close(state);
        return -1;
    }
    loop_call(state->loop, begin_housekeeping, state);
    *out = state;
    return 0;
}

/* Lets go of one domain, which runs on. */
static void detach(void *arg)
{
    struct qemu_domain *d = arg;
    loop_remove(TAKE_PTR(d->process_source));
    loop_timer_cancel(d->driver->loop, &d->reconnect);
    loop_timer_cancel(d->driver->loop, &d->kill_timer);
    loop_timer_cancel(d->driver->loop, &d->rearm_timer);
    loop_timer_cancel(d->driver->loop, &d->watch_timer);
    loop_timer_cancel(d->driver->loop, &d->anew_timer);
    serial_close(d);
    qga_free(TAKE_PTR(d->qga));
    domain_data_close(d);
    pthread_mutex_lock(&d->lock);
    struct qmp *qmp = TAKE_PTR(d->qmp);
    bool attached = d->proc.pidfd >= 0;
    if (attached)
        proc_forget(&d->proc);
    pthread_mutex_unlock(&d->lock);
    qmp_close(qmp);
    if (attached)
        domain_unref(d);
}

static void qemu_close(struct hv_driver_state *state)
{
    if (!state)
        return;
    for (size_t i = 0; i < state->count; i++)
        loop_call(state->loop, detach, state->domains[i]);
    free_state(state);
}

static unsigned qemu_capabilities(const struct hv_driver_state *state)
{
    unsigned can = DRIVER_CAN_START | DRIVER_CAN_PAUSE | DRIVER_CAN_VNC | DRIVER_CAN_SERIAL |
                   DRIVER_CAN_GUEST_AGENT | DRIVER_CAN_CD_CHANGE | DRIVER_CAN_USER_NET |
                   DRIVER_CAN_DISK_CLONE | DRIVER_CAN_SNAPSHOT | DRIVER_CAN_CHECKPOINT | DRIVER_CAN_SUSPEND |
                   DRIVER_CAN_DISK_PLUG | DRIVER_CAN_NIC_PLUG | DRIVER_CAN_SET_VCPUS | DRIVER_CAN_SET_MEMORY |
                   DRIVER_CAN_MIGRATE | DRIVER_CAN_DISK_MOVE | DRIVER_CAN_CPU_MASK | DRIVER_CAN_GUEST_DATA;
    if (state->cgroup_fd >= 0)
        can |= DRIVER_CAN_CPU_WEIGHT;
    if (state->may_bridge)
        can |= DRIVER_CAN_BRIDGE;
    if (state->env.images_fd >= 0)
        can |= DRIVER_CAN_KERNEL;
    if (state->ovmf_code && state->ovmf_vars && access(state->ovmf_code, R_OK) == 0 &&
        access(state->ovmf_vars, R_OK) == 0)
        can |= DRIVER_CAN_UEFI;
    if ((can & DRIVER_CAN_UEFI) && state->ovmf_secure_code && state->ovmf_secure_vars &&
        access(state->ovmf_secure_code, R_OK) == 0 && access(state->ovmf_secure_vars, R_OK) == 0)
        can |= DRIVER_CAN_SECURE_BOOT;
    if (state->swtpm && access(state->swtpm, X_OK) == 0)
        can |= DRIVER_CAN_TPM;
    if (guest_kernel_possible(state))
        can |= DRIVER_CAN_GUEST_KERNEL;
    if (state->may_nest)
        can |= DRIVER_CAN_NESTED;
    return can;
}

static int qemu_check(const struct hv_driver_state *state, const struct domain_config *config,
                      struct hv_err *err)
{
    unsigned can = qemu_capabilities(state);
    if (config->firmware == FIRMWARE_UEFI && !(can & DRIVER_CAN_UEFI))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The host has no UEFI firmware (package ovmf).");
    if (config->firmware == FIRMWARE_KERNEL && !(can & DRIVER_CAN_KERNEL))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The host has no folder of kernels.");
    if (images_check(state->env.images_fd, config, err) < 0)
        return -1;
    if (config->secure_boot == SECURE_BOOT_ON && !(can & DRIVER_CAN_SECURE_BOOT))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host has no UEFI firmware with Secure Boot (package ovmf).");
    if (config->firmware == FIRMWARE_GUEST_KERNEL && !(can & DRIVER_CAN_GUEST_KERNEL))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host cannot read kernels out of disks (package grub-common).");
    if (config->tpm && !(can & DRIVER_CAN_TPM))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The host has no virtual TPM (package swtpm).");
    if (config->nested && !(can & DRIVER_CAN_NESTED))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host cannot let guests run guests: it has no KVM with nested virtualization.");
    for (size_t i = 0; i < config->nics_count; i++)
        if (config->nics[i].kind == NIC_KIND_BRIDGE && !(can & DRIVER_CAN_BRIDGE))
            return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The agent may not change the host's network.");
    return qemu_plan_check(config, err);
}

static int qemu_forget(struct hv_driver_state *state, const char *uuid, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, NULL);
    if (!d)
        return 0;
    pthread_mutex_lock(&d->lock);
    bool dead = d->dead;
    pthread_mutex_unlock(&d->lock);
    if (!dead)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain is not gone.");
    ended_remove(state->state_dir, uuid);
    domain_table_remove(state, d);
    return 0;
}

static int qemu_purge(struct hv_driver_state *state, const char *uuid, struct hv_err *err)
{
    if (qemu_forget(state, uuid, err) < 0)
        return -1;
    serial_purge(state, uuid);
    return kept_remove(state->state_dir, uuid, err);
}

static int by_domid(const void *a, const void *b)
{
    const struct domain_info *x = a, *y = b;
    return x->domid < y->domid ? -1 : x->domid > y->domid;
}

static int qemu_list(struct hv_driver_state *state, struct domain_info **out, size_t *count,
                     struct hv_err *err)
{
    (void)err;
    pthread_mutex_lock(&state->lock);
    struct domain_info *infos = xcalloc(state->count + 1, sizeof(*infos));
    size_t n = 0;
    for (size_t i = 0; i < state->count; i++) {
        struct qemu_domain *d = state->domains[i];
        pthread_mutex_lock(&d->lock);
        if (!d->starting)
            domain_info_copy(&infos[n++], &d->info);
        pthread_mutex_unlock(&d->lock);
    }
    pthread_mutex_unlock(&state->lock);
    qsort(infos, n, sizeof(*infos), by_domid);
    *out = infos;
    *count = n;
    return 0;
}

static int qemu_info(struct hv_driver_state *state, const char *uuid, struct domain_info *info,
                     struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool listed = !d->starting;
    if (listed)
        domain_info_copy(info, &d->info);
    pthread_mutex_unlock(&d->lock);
    return listed ? 0 : hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host yet.");
}

static int qemu_config(struct hv_driver_state *state, const char *uuid, struct domain_config *config,
                       struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool live = !d->dead;
    if (live)
        domain_config_copy(config, &d->record.config);
    pthread_mutex_unlock(&d->lock);
    return live ? 0 : hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain does not run.");
}

const struct hv_driver hv_qemu_driver = {
    .name = "qemu",
    .probe = qemu_probe,
    .open = qemu_open,
    .close = qemu_close,
    .capabilities = qemu_capabilities,
    .check = qemu_check,
    .start = qemu_start,
    .pause = qemu_pause,
    .unpause = qemu_unpause,
    .trigger = qemu_trigger,
    .shutdown = qemu_shutdown,
    .reboot = qemu_reboot,
    .destroy = qemu_destroy,
    .reset = qemu_reset,
    .anew = qemu_anew,
    .forget = qemu_forget,
    .purge = qemu_purge,
    .list = qemu_list,
    .info = qemu_info,
    .config = qemu_config,
    .stats = qemu_stats,
    .guest_refresh = qemu_guest_refresh,
    .cd_change = qemu_cd_change,
    .snapshot = qemu_snapshot,
    .suspend = qemu_suspend,
    .resume = qemu_resume,
    .disk_limit = qemu_disk_limit,
    .disk_merge = qemu_disk_merge,
    .disk_merge_end = qemu_disk_merge_end,
    .disk_plug = qemu_disk_plug,
    .disk_unplug = qemu_disk_unplug,
    .nic_plug = qemu_nic_plug,
    .nic_unplug = qemu_nic_unplug,
    .usb_unplug = qemu_usb_unplug,
    .nic_update = qemu_nic_update,
    .set_vcpus = qemu_set_vcpus,
    .set_memory = qemu_set_memory,
    .describe = qemu_describe,
    .send = qemu_send,
    .offered = qemu_offered,
    .settle = qemu_settle,
    .receive = qemu_receive,
    .receive_disk = qemu_receive_disk,
    .receive_memory = qemu_receive_memory,
    .receive_run = qemu_receive_run,
    .receive_drop = qemu_receive_drop,
    .disk_move = qemu_disk_move,
    .set_scheduling = qemu_set_scheduling,
    .freeze = qemu_freeze,
    .thaw = qemu_thaw,
    .data = qemu_data,
    .data_set = qemu_data_set,
    .console_open = qemu_console_open,
};
