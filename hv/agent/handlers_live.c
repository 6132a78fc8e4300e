/* What the calls about the life of a running domain mean: snapshots, suspend and resume, devices that come
 * and go. The prototypes are generated from openapi/agent/domain.toml. */
#include "agent.h"
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <io/savefile.h>
#include <stdio.h>

static int refuse_unless(struct agent *agent, unsigned capability, const char *what, struct hv_err *err)
{
    if (agent->driver->capabilities(agent->state) & capability)
        return 0;
    return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "This host's driver (%s) cannot %s.", agent->driver->name,
                   what);
}

/* What a live domain has; NOT_FOUND when it is not live. */
static int live_config(struct agent *agent, const char *uuid, struct domain_config *config,
                       struct hv_err *err)
{
    if (agent->driver->config(agent->state, uuid, config, NULL) == 0)
        return 0;
    return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not run on this host.");
}

/* ---- the file of a saved domain ---- */

struct state_file {
    struct agent *agent;
    const char *sr, *disk;
    bool write, taken;
    struct op_job job;
    struct hv_save save;
};
#define STATE_FILE_INIT                                                                                      \
    {                                                                                                        \
        .save = {.fd = -1 }                                                                                  \
    }

static void state_file_progress(void *ctx, double fraction)
{
    const struct op_job *job = ctx;
    agent_op_progress(job->agent, job->op, fraction);
}

static void state_file_done(struct state_file *file)
{
    fd_close_cleanup(&file->save.fd);
    if (file->taken)
        disks_release(file->agent, file->sr, file->disk, file->write);
}

/* `config`: the domain that is to fit; NULL: it is read. */
static int state_file_open(struct agent *agent, struct agent_op *op, const char *sr_uuid, const char *disk,
                           const struct domain_config *config, struct state_file *file, struct hv_err *err)
{
    struct storage_error error;
    struct storage_disk about;
    enum disk_format format;
    struct sr *sr = srs_get(agent, sr_uuid, err);
    if (!sr)
        return -1;
    *file = (struct state_file){
        .agent = agent, .sr = sr_uuid, .disk = disk, .write = config != NULL, .save = {.fd = -1}};
    file->taken = disks_take(agent, sr_uuid, disk, file->write, err) == 0;
    int outcome = file->taken ? 0 : -1;
    if (outcome == 0 && (storage_disk_stat(sr->storage, disk, &about, &error) < 0))
        outcome = storage_to_hv(err, &error);
    if (outcome == 0) {
        file->save.size_bytes = about.virtual_size_bytes;
        if (about.format != DISK_RAW)
            outcome = hv_fail(err, config ? HV_ERR_KIND_BAD_ARGUMENT : HV_ERR_KIND_FORMAT,
                              "A domain's state is kept in a raw disk.");
        else if (config && about.virtual_size_bytes < hv_save_size(config))
            outcome = hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT,
                              "The disk is too small for the domain's state: %lld bytes are needed.",
                              (long long)hv_save_size(config));
        storage_disk_done(&about);
    }
    if (outcome == 0 &&
        storage_disk_open(sr->storage, disk, file->write, &file->save.fd, &format, &error) < 0)
        outcome = storage_to_hv(err, &error);
    srs_put(agent, sr);
    op_job_init(&file->job, agent, op);
    file->save.progress = state_file_progress;
    file->save.ctx = &file->job;
    return outcome;
}

/* ---- suspend and resume ---- */

int agent_domain_suspend_size(struct agent *agent, struct agent_op *op,
                              const struct hv_domain_suspend_size_args *args,
                              struct hv_domain_suspend_size_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)op;
    if (live_config(agent, args->domain, &config, err) < 0)
        return -1;
    result->virtual_size_bytes = hv_save_size(&config);
    domain_config_done(&config);
    return 0;
}

int agent_domain_suspend(struct agent *agent, struct agent_op *op, const struct hv_domain_suspend_args *args,
                         struct hv_domain_suspend_result *result, struct hv_err *err)
{
    struct domain_config config;
    CLEANUP(state_file_done) struct state_file file = STATE_FILE_INIT;
    if (refuse_unless(agent, DRIVER_CAN_SUSPEND, "suspend domains", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    int outcome = state_file_open(agent, op, args->sr, args->disk, &config, &file, err);
    domain_config_done(&config);
    if (outcome < 0)
        return -1;
    outcome = agent->driver->suspend(agent->state, args->domain, &file.save, &op->deadline,
                                     &result->state_bytes, err);
    agent_sweep_rules(agent);
    return outcome;
}

static int resume(struct agent *agent, struct agent_op *op, const struct domain_config *config,
                  const struct save_header *header, const struct hv_save *from, struct domain_info *info,
                  struct hv_err *err)
{
    if (domain_config_check(config, err) < 0 || agent->driver->check(agent->state, config, err) < 0 ||
        domain_check_memory(agent, config, err) < 0)
        return -1;
    struct disk_chain *chains AUTO_FREE = xcalloc(config->disks_count + 1, sizeof(*chains));
    if (disks_take_domain(agent, config, err) < 0)
        return -1;
    int outcome = domain_open_chains(agent, config, chains, err);
    if (outcome == 0) {
        domain_info_done(info);
        outcome = agent->driver->resume(agent->state, config, header, from, chains, &op->deadline, info, err);
        if (outcome == 0 && (outcome = domain_limit_disks(agent, op, config, err)) < 0)
            domain_info_done(info);
        if (outcome < 0)
            domain_info_init(info);
    }
    disks_release_domain(agent, config);
    return outcome;
}

int agent_domain_resume(struct agent *agent, struct agent_op *op, const struct hv_domain_resume_args *args,
                        struct hv_domain_resume_result *result, struct hv_err *err)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    struct domain_config config AUTO_DOMAIN_CONFIG;
    CLEANUP(state_file_done) struct state_file file = STATE_FILE_INIT;
    domain_config_init(&config);
    if (refuse_unless(agent, DRIVER_CAN_SUSPEND, "resume domains", err) < 0 ||
        ha_check_start(agent, err) < 0 || domain_check_absent(agent, args->config.uuid, err) < 0 ||
        domain_config_check(&args->config, err) < 0 ||
        state_file_open(agent, op, args->sr, args->disk, NULL, &file, err) < 0 ||
        save_header_read(file.save.fd, &header, err) < 0)
        return -1;
    if (!streq(header.driver, agent->driver->name))
        return hv_fail(err, HV_ERR_KIND_FORMAT,
                       "The domain was suspended by the driver %s; this host has %s.", header.driver,
                       agent->driver->name);
    if (header.state_bytes > file.save.size_bytes)
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The disk holds only a part of the suspended domain.");
    domain_config_done(&config);
    if (save_merge(&header.config, &args->config, args->start_paused, &config, err) < 0) {
        domain_config_init(&config);
        return -1;
    }
    return resume(agent, op, &config, &header, &file.save, &result->info, err);
}

/* ---- snapshots ---- */

struct layers {
    struct agent *agent;
    struct hv_layer *items;
    struct storage_layer **storage;
    size_t count;
};

static void layers_drop(struct layers *l, bool applied)
{
    for (size_t i = 0; i < l->count; i++)
        storage_layer_abort(l->storage[i], applied);
    l->count = 0;
}

static void layers_done(struct layers *l)
{
    layers_drop(l, false);
    free(l->items);
    free(l->storage);
}

static int check_snapshot_disk(const struct domain_config *config, const struct hv_domain_snapshot_args *args,
                               size_t i, struct hv_err *err)
{
    const struct snapshot_disk *wanted = &args->disks[i];
    for (size_t k = 0; k < i; k++)
        if (streq(args->disks[k].disk, wanted->disk) || streq(args->disks[k].new_disk, wanted->new_disk))
            return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "A disk is named twice.");
    for (size_t k = 0; k < config->disks_count; k++) {
        const struct domain_disk *disk = &config->disks[k];
        if (disk->source == DISK_SOURCE_DISK && streq(disk->sr, wanted->sr) &&
            streq(disk->disk, wanted->disk) && !disk->cdrom && !disk->read_only)
            return 0;
    }
    return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain does not write to the disk %s.", wanted->disk);
}

static int begin_layer(struct layers *l, const struct snapshot_disk *disk, struct hv_err *err)
{
    struct storage_error error;
    struct sr *sr = srs_get(l->agent, disk->sr, err);
    if (!sr)
        return -1;
    int outcome = l->agent->storage->layer_begin(sr->storage, disk->disk, disk->new_disk,
                                                 &l->storage[l->count], &error);
    srs_put(l->agent, sr); /* the domain's use of the disk keeps it attached */
    if (outcome < 0)
        return storage_to_hv(err, &error);
    if (disk->track)
        storage_layer_track(l->storage[l->count], disk->disk, disk->new_disk);
    struct hv_layer *layer = &l->items[l->count];
    *layer =
        (struct hv_layer){.sr = disk->sr, .disk = disk->disk, .fd = storage_layer_fd(l->storage[l->count])};
    snprintf(layer->token, sizeof(layer->token), "%s", storage_layer_token(l->storage[l->count]));
    l->count++;
    return 0;
}

static void destroy_disk(struct agent *agent, const char *sr_uuid, const char *disk)
{
    struct storage_error error;
    struct sr *sr = srs_get(agent, sr_uuid, NULL);
    if (sr && storage_disk_destroy(sr->storage, disk, &error) < 0)
        log_warn("snapshot", "a disk of a snapshot that failed cannot be removed", "disk", disk, "why",
                 error.text);
    srs_put(agent, sr);
}

void domain_snapshot_drop(struct agent *agent, const struct hv_domain_snapshot_args *args)
{
    for (size_t i = 0; i < args->disks_count; i++)
        destroy_disk(agent, args->disks[i].sr, args->disks[i].new_disk);
}

/* The copies get their names, all or none. */
static int commit_layers(struct layers *l, const struct hv_domain_snapshot_args *args, struct hv_err *err)
{
    struct storage_error error;
    int outcome = 0;
    size_t done = 0;
    for (size_t i = 0; i < l->count; i++) {
        if (outcome < 0)
            storage_layer_abort(l->storage[i], true);
        else if (storage_layer_commit(l->storage[i], &error) < 0)
            outcome = storage_to_hv(err, &error);
        else
            done++;
        failpoint("snapshot:named");
    }
    l->count = 0;
    for (size_t i = 0; outcome < 0 && i < done; i++)
        destroy_disk(l->agent, args->disks[i].sr, args->disks[i].new_disk);
    return outcome;
}

static int snapshot(struct agent *agent, struct agent_op *op, const struct hv_domain_snapshot_args *args,
                    const struct hv_save *memory, struct hv_domain_snapshot_result *result,
                    struct hv_err *err)
{
    CLEANUP(layers_done)
    struct layers l = {.agent = agent,
                       .items = xcalloc(args->disks_count + 1, sizeof(*l.items)),
                       .storage = xcalloc(args->disks_count + 1, sizeof(*l.storage))};
    for (size_t i = 0; i < args->disks_count; i++)
        if (begin_layer(&l, &args->disks[i], err) < 0)
            return -1;
    failpoint("snapshot:images");
    bool applied = false, frozen = false;
    if (args->quiesce && !memory &&
        agent->driver->freeze(agent->state, args->domain, &op->deadline, &frozen, err) < 0)
        return -1;
    int outcome = agent->driver->snapshot(agent->state, args->domain, l.items, l.count, memory, &op->deadline,
                                          &applied, &result->state_bytes, err);
    if (args->quiesce && !memory)
        result->quiesced = agent->driver->thaw(agent->state, args->domain) && frozen;
    if (outcome < 0) {
        layers_drop(&l, applied);
        return -1;
    }
    failpoint("snapshot:taken");
    return commit_layers(&l, args, err);
}

int domain_snapshot_infos(struct agent *agent, const struct hv_domain_snapshot_args *args,
                          struct hv_domain_snapshot_result *result, struct hv_err *err)
{
    for (size_t i = 0; i < args->disks_count; i++) {
        struct sr *sr = srs_get(agent, args->disks[i].sr, err);
        int outcome = sr ? srs_disk_info(agent, sr, args->disks[i].new_disk,
                                         hv_domain_snapshot_result_add_infos(result), err)
                         : -1;
        srs_put(agent, sr);
        if (outcome < 0)
            return -1;
    }
    return 0;
}

int agent_domain_snapshot(struct agent *agent, struct agent_op *op,
                          const struct hv_domain_snapshot_args *args,
                          struct hv_domain_snapshot_result *result, struct hv_err *err)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    CLEANUP(state_file_done) struct state_file file = STATE_FILE_INIT;
    bool memory = args->memory_disk && *args->memory_disk;
    domain_config_init(&config);
    if (refuse_unless(agent, memory ? DRIVER_CAN_CHECKPOINT : DRIVER_CAN_SNAPSHOT,
                      "make snapshots of running domains", err) < 0)
        return -1;
    if (args->disks_count == 0 && !memory)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "There is nothing to copy.");
    domain_config_done(&config);
    if (live_config(agent, args->domain, &config, err) < 0) {
        domain_config_init(&config);
        return -1;
    }
    for (size_t i = 0; i < args->disks_count; i++)
        if (check_snapshot_disk(&config, args, i, err) < 0)
            return -1;
    if (memory && state_file_open(agent, op, args->memory_sr, args->memory_disk, &config, &file, err) < 0)
        return -1;
    if (snapshot(agent, op, args, memory ? &file.save : NULL, result, err) < 0)
        return -1;
    return domain_snapshot_infos(agent, args, result, err);
}

/* ---- the guest's data ---- */

int agent_domain_data(struct agent *agent, struct agent_op *op, const struct hv_domain_data_args *args,
                      struct hv_domain_data_result *result, struct hv_err *err)
{
    (void)op;
    return agent->driver->data(agent->state, args->domain, &result->data, &result->version, err);
}

int agent_domain_data_set(struct agent *agent, struct agent_op *op,
                          const struct hv_domain_data_set_args *args,
                          struct hv_domain_data_set_result *result, struct hv_err *err)
{
    (void)op, (void)result;
    const struct hv_data_change change = {.replace = args->replace,
                                          .set = args->set,
                                          .remove = args->remove,
                                          .remove_count = args->remove_count};
    if (refuse_unless(agent, DRIVER_CAN_GUEST_DATA, "share data with domains", err) < 0)
        return -1;
    return agent->driver->data_set(agent->state, args->domain, &change, err);
}

/* ---- devices ---- */

int agent_disk_plug(struct agent *agent, struct agent_op *op, const struct hv_disk_plug_args *args,
                    struct hv_disk_plug_result *result, struct hv_err *err)
{
    const struct domain_disk *disk = &args->disk;
    struct domain_config config;
    struct disk_chain chain;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_DISK_PLUG, "plug disks in", err) < 0)
        return -1;
    if (disk->bus != DISK_BUS_VIRTIO || disk->cdrom)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "Only a virtio disk can be plugged into a running domain.");
    if (live_config(agent, args->domain, &config, err) < 0)
        return -1;
    int outcome = 0;
    bool there = false;
    for (size_t i = 0; i < config.disks_count && outcome == 0 && !there; i++) {
        there = wire_equal(&domain_disk_desc, &config.disks[i], disk);
        if (!there && (streq(config.disks[i].device, disk->device) || config.disks[i].index == disk->index))
            outcome = hv_fail(err, HV_ERR_KIND_EXISTS, "The domain has a disk %s or at position %d already.",
                              disk->device, (int)disk->index);
    }
    if (outcome == 0 && !there) {
        struct domain_disk *added = domain_config_add_disks(&config);
        domain_disk_done(added);
        domain_disk_copy(added, disk);
        outcome = domain_config_check(&config, err);
    }
    domain_config_done(&config);
    if (outcome < 0 || there)
        return outcome;
    if (disks_take(agent, disk->sr, disk->disk, !disk->read_only, err) < 0)
        return -1;
    outcome = disks_open(agent, disk, &chain, err);
    if (outcome == 0)
        outcome = agent->driver->disk_plug(agent->state, args->domain, disk, &chain, &op->deadline, err);
    if (outcome == 0 && (disk->max_iops || disk->max_kbytes))
        outcome = agent->driver->disk_limit(agent->state, args->domain, disk->device, disk->max_iops,
                                            disk->max_kbytes, &op->deadline, err);
    disks_release(agent, disk->sr, disk->disk, !disk->read_only);
    return outcome;
}

int agent_disk_limit(struct agent *agent, struct agent_op *op, const struct hv_disk_limit_args *args,
                     struct hv_disk_limit_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (live_config(agent, args->domain, &config, err) < 0)
        return -1;
    bool there = false;
    for (size_t i = 0; i < config.disks_count; i++)
        there = there || streq(config.disks[i].device, args->device);
    domain_config_done(&config);
    return there ? agent->driver->disk_limit(agent->state, args->domain, args->device, args->max_iops,
                                             args->max_kbytes, &op->deadline, err)
                 : 0;
}

int agent_disk_unplug(struct agent *agent, struct agent_op *op, const struct hv_disk_unplug_args *args,
                      struct hv_disk_unplug_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_DISK_PLUG, "unplug disks", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    bool there = false, fixed = false;
    for (size_t i = 0; i < config.disks_count; i++)
        if (streq(config.disks[i].device, args->device)) {
            there = true;
            fixed = config.disks[i].bus != DISK_BUS_VIRTIO || config.disks[i].cdrom;
        }
    domain_config_done(&config);
    if (fixed)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "Only a virtio disk can be taken out of a running domain.");
    return there ? agent->driver->disk_unplug(agent->state, args->domain, args->device, args->force,
                                              &op->deadline, err)
                 : 0;
}

int agent_nic_plug(struct agent *agent, struct agent_op *op, const struct hv_nic_plug_args *args,
                   struct hv_nic_plug_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_NIC_PLUG, "plug nics in", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    int outcome = 0;
    bool there = false;
    for (size_t i = 0; i < config.nics_count && outcome == 0 && !there; i++) {
        there = wire_equal(&domain_nic_desc, &config.nics[i], &args->nic);
        if (!there && (config.nics[i].index == args->nic.index || streq(config.nics[i].mac, args->nic.mac)))
            outcome =
                hv_fail(err, HV_ERR_KIND_EXISTS, "The domain has a nic %d or one with that address already.",
                        (int)args->nic.index);
    }
    if (outcome == 0 && !there) {
        struct domain_nic *added = domain_config_add_nics(&config);
        domain_nic_done(added);
        domain_nic_copy(added, &args->nic);
        outcome = domain_config_check(&config, err);
    }
    domain_config_done(&config);
    if (outcome < 0 || there)
        return outcome;
    return agent->driver->nic_plug(agent->state, args->domain, &args->nic, &op->deadline, err);
}

int agent_nic_unplug(struct agent *agent, struct agent_op *op, const struct hv_nic_unplug_args *args,
                     struct hv_nic_unplug_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_NIC_PLUG, "unplug nics", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    bool there = false;
    for (size_t i = 0; i < config.nics_count; i++)
        there = there || config.nics[i].index == args->index;
    domain_config_done(&config);
    int outcome = there ? agent->driver->nic_unplug(agent->state, args->domain, args->index, args->force,
                                                    &op->deadline, err)
                        : 0;
    agent_sweep_rules(agent);
    return outcome;
}

int agent_nic_update(struct agent *agent, struct agent_op *op, const struct hv_nic_update_args *args,
                     struct hv_nic_update_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_NIC_PLUG, "change nics", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    int outcome = hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no nic %d with that address.",
                          (int)args->nic.index);
    for (size_t i = 0; i < config.nics_count; i++) {
        struct domain_nic *nic = &config.nics[i];
        if (nic->index != args->nic.index || !streq(nic->mac, args->nic.mac))
            continue;
        outcome = 0;
        if (nic->kind != args->nic.kind)
            outcome = hv_fail(
                err, HV_ERR_KIND_UNSUPPORTED,
                "A nic that is plugged in stays on the kind of network that it is on (%s): unplug it, "
                "move it, plug it in again.",
                nic_kind_name(nic->kind));
        domain_nic_done(nic);
        domain_nic_copy(nic, &args->nic);
    }
    if (outcome == 0)
        outcome = domain_config_check(&config, err);
    domain_config_done(&config);
    return outcome < 0
               ? -1
               : agent->driver->nic_update(agent->state, args->domain, &args->nic, &op->deadline, err);
}

/* ---- processors and memory ---- */

int agent_domain_set_vcpus(struct agent *agent, struct agent_op *op,
                           const struct hv_domain_set_vcpus_args *args,
                           struct hv_domain_set_vcpus_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_SET_VCPUS, "change the number of processors", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    int64_t most = config.vcpus_max > config.vcpus ? config.vcpus_max : config.vcpus;
    domain_config_done(&config);
    if (args->vcpus > most)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain was started for %d processors at most.",
                       (int)most);
    return agent->driver->set_vcpus(agent->state, args->domain, args->vcpus, &op->deadline, err);
}

int agent_domain_set_memory(struct agent *agent, struct agent_op *op,
                            const struct hv_domain_set_memory_args *args,
                            struct hv_domain_set_memory_result *result, struct hv_err *err)
{
    struct domain_config config;
    (void)result;
    if (refuse_unless(agent, DRIVER_CAN_SET_MEMORY, "change the memory of a running domain", err) < 0 ||
        live_config(agent, args->domain, &config, err) < 0)
        return -1;
    int64_t most = config.memory_bytes;
    domain_config_done(&config);
    if (args->memory_bytes > most)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT,
                       "The domain was started with %lld bytes, and cannot get more.", (long long)most);
    return agent->driver->set_memory(agent->state, args->domain, args->memory_bytes, &op->deadline, err);
}

int agent_domain_set_scheduling(struct agent *agent, struct agent_op *op,
                                const struct hv_domain_set_scheduling_args *args,
                                struct hv_domain_set_scheduling_result *result, struct hv_err *err)
{
    struct domain_config config AUTO_DOMAIN_CONFIG;
    bool usual = (args->weight == 0 || args->weight == 256) && args->cap_percent == 0;
    (void)result;
    domain_config_init(&config);
    if (refuse_unless(agent, DRIVER_CAN_CPU_MASK, "say which processors a domain runs on", err) < 0 ||
        (!usual &&
         refuse_unless(
             agent, DRIVER_CAN_CPU_WEIGHT,
             "weigh or cap a domain's processors (its kernel offers no cpu controller of cgroup v2)",
             err) < 0))
        return -1;
    domain_config_done(&config);
    if (live_config(agent, args->domain, &config, err) < 0) {
        domain_config_init(&config);
        return -1;
    }
    config.cpu_weight = args->weight;
    config.cpu_cap_percent = args->cap_percent;
    str_assign(&config.cpu_mask, args->mask);
    if (domain_config_check(&config, err) < 0)
        return -1;
    return agent->driver->set_scheduling(agent->state, args->domain, &config, &op->deadline, err);
}
