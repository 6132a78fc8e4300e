/* What the calls about domains mean: check, take the disks, ask the driver. The prototypes are generated from
 * openapi/agent/domain.toml. */
#include "agent.h"
#include <base/clock.h>
#include <base/mem.h>
#include <base/ref.h>
#include <io/kept.h>

int domain_check_memory(struct agent *agent, const struct domain_config *config, struct hv_err *err)
{
    if (agent->driver == &hv_sim_driver)
        return 0;
    int64_t wanted = config->memory_target_bytes > 0 ? config->memory_target_bytes : config->memory_bytes;
    int64_t most = config->vcpus_max > config->vcpus ? config->vcpus_max : config->vcpus;
    int64_t need = wanted + domain_overhead(config->memory_bytes, most), free_bytes = facts_memory_free();
    if (need <= free_bytes)
        return 0;
    return hv_fail(err, HV_ERR_KIND_NO_MEMORY,
                   "The domain needs %lld MiB with its device model; the host has %lld MiB free.",
                   (long long)(need >> 20), (long long)(free_bytes >> 20));
}

int domain_open_chains(struct agent *agent, const struct domain_config *config, struct disk_chain *chains,
                       struct hv_err *err)
{
    for (size_t i = 0; i < config->disks_count; i++)
        if (disks_open(agent, &config->disks[i], &chains[i], err) < 0) {
            while (i-- > 0)
                disk_chain_done(&chains[i]);
            return -1;
        }
    return 0;
}

int domain_check_absent(struct agent *agent, const char *uuid, struct hv_err *err)
{
    struct domain_info existing;
    if (agent->driver->info(agent->state, uuid, &existing, NULL) < 0)
        return 0;
    bool live = domain_state_is_live(existing.state);
    domain_info_done(&existing);
    return live ? hv_fail(err, HV_ERR_KIND_EXISTS, "The domain runs on this host already.") : 0;
}

int domain_limit_disks(struct agent *agent, struct agent_op *op, const struct domain_config *config,
                       struct hv_err *err)
{
    for (size_t i = 0; i < config->disks_count; i++) {
        const struct domain_disk *disk = &config->disks[i];
        if ((disk->max_iops || disk->max_kbytes) &&
            agent->driver->disk_limit(agent->state, config->uuid, disk->device, disk->max_iops,
                                      disk->max_kbytes, &op->deadline, err) < 0) {
            agent->driver->destroy(agent->state, config->uuid, &op->deadline, NULL);
            return -1;
        }
    }
    return 0;
}

int agent_domain_start(struct agent *agent, struct agent_op *op, const struct hv_domain_start_args *args,
                       struct hv_domain_start_result *result, struct hv_err *err)
{
    const struct domain_config *config = &args->config;
    if (ha_check_start(agent, err) < 0 || domain_check_absent(agent, config->uuid, err) < 0 ||
        domain_config_check(config, err) < 0 || agent->driver->check(agent->state, config, err) < 0 ||
        domain_check_memory(agent, config, err) < 0 || devices_prepare(agent, config, err) < 0)
        return -1;
    struct disk_chain *chains AUTO_FREE = xcalloc(config->disks_count + 1, sizeof(*chains));
    if (disks_take_domain(agent, config, err) < 0)
        return -1;
    int outcome = domain_open_chains(agent, config, chains, err);
    if (outcome == 0) {
        domain_info_done(&result->info);
        outcome = agent->driver->start(agent->state, config, chains, &op->deadline, &result->info, err);
        if (outcome == 0)
            outcome = domain_limit_disks(agent, op, config, err);
    }
    /* From here on the running domain itself is what has the disks. */
    disks_release_domain(agent, config);
    return outcome;
}

int agent_domain_pause(struct agent *agent, struct agent_op *op, const struct hv_domain_pause_args *args,
                       struct hv_domain_pause_result *result, struct hv_err *err)
{
    (void)result;
    return agent->driver->pause(agent->state, args->domain, &op->deadline, err);
}

int agent_domain_unpause(struct agent *agent, struct agent_op *op, const struct hv_domain_unpause_args *args,
                         struct hv_domain_unpause_result *result, struct hv_err *err)
{
    (void)result;
    return agent->driver->unpause(agent->state, args->domain, &op->deadline, err);
}

int agent_domain_trigger(struct agent *agent, struct agent_op *op, const struct hv_domain_trigger_args *args,
                         struct hv_domain_trigger_result *result, struct hv_err *err)
{
    (void)result;
    char key = args->key[0];
    bool good = (key >= 'a' && key <= 'z') || (key >= '0' && key <= '9');
    if (args->signal == DOMAIN_SIGNAL_SYSRQ && !good)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "A SysRq key is a small letter or a digit.");
    return agent->driver->trigger(agent->state, args->domain, args->signal, key, &op->deadline, err);
}

int agent_domain_shutdown(struct agent *agent, struct agent_op *op,
                          const struct hv_domain_shutdown_args *args,
                          struct hv_domain_shutdown_result *result, struct hv_err *err)
{
    (void)result;
    int outcome = agent->driver->shutdown(agent->state, args->domain, &op->deadline, err);
    agent_sweep_rules(agent);
    return outcome;
}

int agent_domain_reboot(struct agent *agent, struct agent_op *op, const struct hv_domain_reboot_args *args,
                        struct hv_domain_reboot_result *result, struct hv_err *err)
{
    (void)result;
    return agent->driver->reboot(agent->state, args->domain, &op->deadline, err);
}

int agent_domain_hard_shutdown(struct agent *agent, struct agent_op *op,
                               const struct hv_domain_hard_shutdown_args *args,
                               struct hv_domain_hard_shutdown_result *result, struct hv_err *err)
{
    (void)result;
    int outcome = agent->driver->destroy(agent->state, args->domain, &op->deadline, err);
    agent_sweep_rules(agent);
    return outcome;
}

int agent_domain_hard_reboot(struct agent *agent, struct agent_op *op,
                             const struct hv_domain_hard_reboot_args *args,
                             struct hv_domain_hard_reboot_result *result, struct hv_err *err)
{
    (void)result;
    return agent->driver->reset(agent->state, args->domain, &op->deadline, err);
}

/* A host that may start no domain ends this one: its device model waits in vain. */
int agent_domain_anew(struct agent *agent, struct agent_op *op, const struct hv_domain_anew_args *args,
                      struct hv_domain_anew_result *result, struct hv_err *err)
{
    (void)result;
    if (!agent->driver->anew)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "Guests of this driver reboot by themselves.");
    if (ha_check_start(agent, err) < 0) {
        agent->driver->destroy(agent->state, args->domain, &op->deadline, NULL);
        return -1;
    }
    return agent->driver->anew(agent->state, args->domain, &op->deadline, err);
}

int domain_reboot_later(struct agent *agent, const char *uuid)
{
    struct hv_domain_anew_args *args = xcalloc(1, sizeof(*args));
    char id[UUID_TEXT_SIZE];
    struct agent_op *op;
    struct hv_err err;
    if (!atomic_load(&agent->ready)) {
        free(args);
        return -1;
    }
    hv_domain_anew_args_init(args);
    str_assign(&args->domain, uuid);
    if (ops_submit(agent, uuid_format(ref_new(), id), &hv_calls[HV_CALL_DOMAIN_ANEW], args, 0, &op, &err) < 0)
        return -1;
    agent_op_unref(op);
    return 0;
}

int agent_domain_forget(struct agent *agent, struct agent_op *op, const struct hv_domain_forget_args *args,
                        struct hv_domain_forget_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    return agent->driver->forget(agent->state, args->domain, err);
}

int agent_domain_purge(struct agent *agent, struct agent_op *op, const struct hv_domain_purge_args *args,
                       struct hv_domain_purge_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    if (agent->driver->purge(agent->state, args->domain, err) < 0)
        return -1;
    return kept_remove(agent->options.state_dir, args->domain, err);
}

int agent_domain_list(struct agent *agent, struct agent_op *op, const struct hv_domain_list_args *args,
                      struct hv_domain_list_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    return agent->driver->list(agent->state, &result->domains, &result->domains_count, err);
}

int agent_domain_info(struct agent *agent, struct agent_op *op, const struct hv_domain_info_args *args,
                      struct hv_domain_info_result *result, struct hv_err *err)
{
    (void)op;
    domain_info_done(&result->info);
    return agent->driver->info(agent->state, args->domain, &result->info, err);
}

int agent_guest_refresh(struct agent *agent, struct agent_op *op, const struct hv_guest_refresh_args *args,
                        struct hv_guest_refresh_result *result, struct hv_err *err)
{
    (void)op;
    struct hv_deadline deadline = {.mono_ms = clock_mono_ms() + 8000};
    guest_info_done(&result->guest);
    return agent->driver->guest_refresh(agent->state, args->domain, &deadline, &result->guest, err);
}

int agent_cd_insert(struct agent *agent, struct agent_op *op, const struct hv_cd_insert_args *args,
                    struct hv_cd_insert_result *result, struct hv_err *err)
{
    (void)result;
    bool is_disk = args->disk && *args->disk;
    if (is_disk == (args->iso && *args->iso))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "Either a disk or a file is to be named.");
    struct domain_disk drive = {.device = args->device,
                                .cdrom = true,
                                .source = is_disk ? DISK_SOURCE_DISK : DISK_SOURCE_ISO,
                                .sr = args->sr,
                                .disk = args->disk,
                                .iso = args->iso};
    if (is_disk && disks_take(agent, args->sr, args->disk, false, err) < 0)
        return -1;
    struct disk_chain chain;
    int outcome = disks_open(agent, &drive, &chain, err);
    if (outcome == 0)
        outcome = agent->driver->cd_change(agent->state, args->domain, &drive, &chain, &op->deadline, err);
    if (is_disk)
        disks_release(agent, args->sr, args->disk, false);
    return outcome;
}

int agent_cd_eject(struct agent *agent, struct agent_op *op, const struct hv_cd_eject_args *args,
                   struct hv_cd_eject_result *result, struct hv_err *err)
{
    (void)result;
    struct domain_disk drive = {.device = args->device, .cdrom = true, .source = DISK_SOURCE_EMPTY};
    struct disk_chain none = DISK_CHAIN_INIT;
    return agent->driver->cd_change(agent->state, args->domain, &drive, &none, &op->deadline, err);
}
