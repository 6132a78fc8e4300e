/* Changes of a live simulated domain: snapshot, suspend and resume, devices, processors, memory. What a guest
 * has in memory is how far it booted, since when, and how often; that is what a suspended one keeps. */
#include "sim.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

#define VERSION "1"
#define PLATFORM "simulator"
#define DEVICES_MAX 26 /* as with QEMU */

static bool runs(const struct sim_domain *d)
{
    return d->info.state == DOMAIN_STATE_RUNNING || d->info.state == DOMAIN_STATE_PAUSED;
}

struct sim_domain *sim_find_active(struct hv_driver_state *sim, const char *uuid, struct hv_err *err)
{
    struct sim_domain *d = sim_find_live(sim, uuid, err);
    if (!d || runs(d))
        return d;
    hv_fail(err, HV_ERR_KIND_BAD_STATE, "The domain is %s; it has to be running or paused.",
            domain_state_name(d->info.state));
    return NULL;
}

/* ---- standing still ---- */

void sim_hold(struct hv_driver_state *sim, const char *uuid, bool held)
{
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_live(sim, uuid, NULL);
    if (d && d->held != held) {
        d->held = held;
        if (!d->up && d->info.state == DOMAIN_STATE_RUNNING)
            d->up_at += held ? -clock_mono_ms() : clock_mono_ms();
    }
    pthread_mutex_unlock(&sim->lock);
    sim_rearm(sim, uuid);
}

int sim_take_time(struct hv_driver_state *sim, const char *uuid, int64_t ms, const struct hv_save *save,
                  const struct hv_deadline *deadline, struct hv_err *err)
{
    int64_t begin = clock_mono_ms(), now;
    int outcome = 0;
    while (outcome == 0 && (now = clock_mono_ms()) < begin + ms) {
        if (save && save->progress)
            save->progress(save->ctx, (double)(now - begin) / (double)ms);
        pthread_mutex_lock(&sim->lock);
        struct hv_deadline step = *deadline;
        outcome = sim_find_live(sim, uuid, err) ? sim_wait_change(sim, &step, err) : -1;
        pthread_mutex_unlock(&sim->lock);
    }
    if (outcome == 0 && save && save->progress)
        save->progress(save->ctx, 1);
    if (outcome < 0 && err->kind == HV_ERR_KIND_GUEST)
        hv_fail(err, HV_ERR_KIND_DEADLINE, "It was not done in time.");
    return outcome;
}

void sim_fill_header(const struct sim_domain *d, struct save_header *header)
{
    *header = (struct save_header){
        .driver = "sim", .driver_version = VERSION, .platform = PLATFORM, .state_bytes = SAVE_DATA_OFFSET};
    domain_config_copy(&header->config, &d->record.config);
    /* While it is held, up_at is what is left of the boot. */
    header->layout =
        json_pack("{s:I, s:I, s:I}", "boot_left_ms", (json_int_t)(d->up ? 0 : d->up_at), "boot_time",
                  (json_int_t)d->info.boot_time, "memory_target", (json_int_t)d->record.memory_target_bytes);
}

static int save(struct hv_driver_state *sim, const char *uuid, const struct hv_save *to,
                const struct hv_deadline *deadline, int64_t *state_bytes, struct hv_err *err)
{
    struct save_header header AUTO_SAVE_HEADER = {.state_bytes = 0};
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    int64_t ms = d ? sim_word(d, "sim.suspend_ms") : 0;
    bool fails = d && sim_word(d, "sim.suspend_fails") >= 0;
    if (d)
        sim_fill_header(d, &header);
    pthread_mutex_unlock(&sim->lock);
    if (!d || save_header_clear(to->fd, err) < 0 || sim_take_time(sim, uuid, ms, to, deadline, err) < 0)
        return -1;
    if (fails)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain could not be saved: its arguments say so.");
    if (save_header_write(to->fd, &header, err) < 0)
        return -1;
    *state_bytes = header.state_bytes;
    return 0;
}

int sim_suspend(struct hv_driver_state *sim, const char *uuid, const struct hv_save *to,
                const struct hv_deadline *deadline, int64_t *state_bytes, struct hv_err *err)
{
    pthread_mutex_lock(&sim->lock);
    bool there = sim_find_active(sim, uuid, err) != NULL;
    pthread_mutex_unlock(&sim->lock);
    if (!there)
        return -1;
    sim_hold(sim, uuid, true);
    failpoint("suspend:held");
    int outcome = save(sim, uuid, to, deadline, state_bytes, err);
    failpoint("suspend:saved");
    if (outcome < 0)
        sim_hold(sim, uuid, false);
    return outcome < 0 ? -1 : sim_destroy(sim, uuid, deadline, err);
}

int sim_snapshot(struct hv_driver_state *sim, const char *uuid, const struct hv_layer *layers, size_t count,
                 const struct hv_save *memory, const struct hv_deadline *deadline, bool *applied,
                 int64_t *state_bytes, struct hv_err *err)
{
    (void)layers, (void)count;
    *applied = false; /* the copies are what they are */
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    int64_t ms = d ? sim_word(d, "sim.snapshot_ms") : 0;
    bool fails = d && sim_word(d, "sim.snapshot_fails") >= 0;
    pthread_mutex_unlock(&sim->lock);
    if (!d)
        return -1;
    if (fails)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL,
                       "The snapshot could not be made: its arguments say so.");
    sim_hold(sim, uuid, true);
    failpoint("snapshot:held");
    int outcome = sim_take_time(sim, uuid, ms, memory, deadline, err);
    if (outcome == 0 && memory)
        outcome = save(sim, uuid, memory, deadline, state_bytes, err);
    sim_hold(sim, uuid, false);
    return outcome;
}

/* ---- resume ---- */

void sim_restore(struct sim_domain *d, const struct save_header *header)
{
    int64_t left = 0;
    json_get_int(header->layout, "boot_left_ms", &left);
    json_get_int(header->layout, "boot_time", &d->info.boot_time);
    json_get_int(header->layout, "memory_target", &d->record.memory_target_bytes);
    left = left < 0 ? 0 : left > 3600000 ? 3600000 : left;
    d->up_at = d->info.state == DOMAIN_STATE_PAUSED ? left : clock_mono_ms() + left;
    if (d->record.memory_target_bytes > 0)
        d->info.memory_target_bytes = d->info.memory_actual_bytes = d->record.memory_target_bytes;
}

int sim_resume(struct hv_driver_state *sim, const struct domain_config *config,
               const struct save_header *header, const struct hv_save *from, struct disk_chain *chains,
               const struct hv_deadline *deadline, struct domain_info *info, struct hv_err *err)
{
    for (size_t i = 0; i < config->disks_count; i++)
        disk_chain_done(&chains[i]);
    if (!streq(header->platform, PLATFORM))
        return hv_fail(err, HV_ERR_KIND_FORMAT, "The domain was suspended on \"%s\", not on the simulator.",
                       header->platform);
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_make(sim, config, true, err);
    int64_t ms = d ? sim_word(d, "sim.resume_ms") : 0;
    bool fails = d && sim_word(d, "sim.resume_fails") >= 0;
    if (d)
        d->starting = ms > 0;
    pthread_mutex_unlock(&sim->lock);
    if (!d)
        return -1;
    int outcome = 0;
    int64_t begin = clock_mono_ms();
    pthread_mutex_lock(&sim->lock);
    while (outcome == 0 && clock_mono_ms() < begin + ms) {
        outcome = sim_wait_change(sim, deadline, err);
        if (from->progress) {
            pthread_mutex_unlock(&sim->lock);
            from->progress(from->ctx, (double)(clock_mono_ms() - begin) / (double)ms);
            pthread_mutex_lock(&sim->lock);
        }
    }
    if (outcome < 0 && err->kind == HV_ERR_KIND_GUEST)
        hv_fail(err, HV_ERR_KIND_DEADLINE, "It was not done in time.");
    if (outcome == 0 && fails)
        outcome =
            hv_fail(err, HV_ERR_KIND_DEVICE_MODEL, "The domain could not be resumed: its arguments say so.");
    d->starting = false;
    if (outcome == 0) {
        sim_restore(d, header);
        d->record.incoming = false;
        outcome = sim_write_down(d, err);
    }
    if (outcome == 0)
        domain_info_copy(info, &d->info);
    pthread_mutex_unlock(&sim->lock);
    if (outcome < 0) {
        sim_destroy(sim, config->uuid, deadline, NULL);
        return -1;
    }
    sim_go_on(sim, config->uuid);
    if (sim->env.changed)
        sim->env.changed(sim->env.ctx, info, false);
    return 0;
}

/* ---- devices ---- */

/* With the lock held. */
static int check_room(struct sim_domain *d, struct hv_err *err)
{
    if (sim_word(d, "sim.refuse_plug") >= 0)
        return hv_fail(err, HV_ERR_KIND_DEVICE_MODEL,
                       "The device cannot be plugged in: the guest's arguments say so.");
    if (d->record.config.disks_count + d->record.config.nics_count >= DEVICES_MAX)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The domain has no free slot for another device.");
    return 0;
}

static int check_consent(const struct sim_domain *d, bool force, struct hv_err *err)
{
    if (force || (d->up && sim_word(d, "sim.refuse_unplug") < 0))
        return 0;
    return hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not let go of the device.");
}

int sim_disk_plug(struct hv_driver_state *sim, const char *uuid, const struct domain_disk *disk,
                  struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    disk_chain_done(chain);
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d && check_room(d, err) == 0) {
        struct domain_disk *added = domain_config_add_disks(&d->record.config);
        domain_disk_done(added);
        domain_disk_copy(added, disk);
        outcome = sim_write_down(d, err);
    }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_disk_limit(struct hv_driver_state *sim, const char *uuid, const char *device, int64_t max_iops,
                   int64_t max_kbytes, const struct hv_deadline *deadline, struct hv_err *err)
{
    int outcome = -1;
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    for (size_t i = 0; d && i < d->record.config.disks_count; i++) {
        struct domain_disk *disk = &d->record.config.disks[i];
        if (streq(disk->device, device)) {
            disk->max_iops = max_iops;
            disk->max_kbytes = max_kbytes;
        }
    }
    if (d)
        outcome = sim_write_down(d, err);
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_disk_unplug(struct hv_driver_state *sim, const char *uuid, const char *device, bool force,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d)
        outcome = check_consent(d, force, err);
    struct domain_config *config = d ? &d->record.config : NULL;
    for (size_t i = 0; outcome == 0 && i < config->disks_count; i++)
        if (streq(config->disks[i].device, device)) {
            domain_disk_done(&config->disks[i]);
            memmove(&config->disks[i], &config->disks[i + 1],
                    (--config->disks_count - i) * sizeof(*config->disks));
            outcome = sim_write_down(d, err);
            break;
        }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_nic_plug(struct hv_driver_state *sim, const char *uuid, const struct domain_nic *nic,
                 const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d && check_room(d, err) == 0) {
        struct domain_nic *added = domain_config_add_nics(&d->record.config);
        domain_nic_done(added);
        domain_nic_copy(added, nic);
        sim_guest_nics(d);
        outcome = sim_write_down(d, err);
        sim_changed(d, true);
    }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_nic_unplug(struct hv_driver_state *sim, const char *uuid, int64_t index, bool force,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d)
        outcome = check_consent(d, force, err);
    struct domain_config *config = d ? &d->record.config : NULL;
    for (size_t i = 0; outcome == 0 && i < config->nics_count; i++)
        if (config->nics[i].index == index) {
            domain_nic_done(&config->nics[i]);
            memmove(&config->nics[i], &config->nics[i + 1],
                    (--config->nics_count - i) * sizeof(*config->nics));
            sim_guest_nics(d);
            outcome = sim_write_down(d, err);
            sim_changed(d, true);
            break;
        }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_usb_unplug(struct hv_driver_state *sim, const char *uuid, const char *path,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d && domain_config_drop_usb(&d->record.config, path))
        outcome = sim_write_down(d, err);
    else if (d)
        outcome = 0;
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_nic_update(struct hv_driver_state *sim, const char *uuid, const struct domain_nic *nic,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    int outcome = -1;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    struct domain_config *config = d ? &d->record.config : NULL;
    for (size_t i = 0; config && i < config->nics_count; i++)
        if (config->nics[i].index == nic->index) {
            domain_nic_done(&config->nics[i]);
            domain_nic_copy(&config->nics[i], nic);
            outcome = sim_write_down(d, err);
        }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

/* ---- processors and memory ---- */

int sim_set_vcpus(struct hv_driver_state *sim, const char *uuid, int64_t vcpus,
                  const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    int outcome = 0;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (!d)
        outcome = -1;
    else if (sim_word(d, "sim.no_vcpu_plug") >= 0)
        outcome = hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The guest cannot change its number of processors.");
    else if (vcpus < d->info.vcpus && (!d->up || sim_word(d, "sim.refuse_vcpus") >= 0))
        outcome = hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not let go of its processors.");
    if (outcome == 0 && vcpus != d->info.vcpus) {
        d->record.config.vcpus = d->info.vcpus = vcpus;
        sim_changed(d, false);
    }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}

int sim_set_memory(struct hv_driver_state *sim, const char *uuid, int64_t memory_bytes,
                   const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    if (d) {
        d->record.memory_target_bytes = d->info.memory_target_bytes = memory_bytes;
        if (sim_word(d, "sim.no_balloon") < 0)
            d->info.memory_actual_bytes = memory_bytes;
        sim_changed(d, false);
    }
    pthread_mutex_unlock(&sim->lock);
    return d ? 0 : -1;
}

int sim_set_scheduling(struct hv_driver_state *sim, const char *uuid, const struct domain_config *wanted,
                       const struct hv_deadline *deadline, struct hv_err *err)
{
    (void)deadline;
    pthread_mutex_lock(&sim->lock);
    struct sim_domain *d = sim_find_active(sim, uuid, err);
    int outcome = d ? 0 : -1;
    if (d) {
        d->record.config.cpu_weight = wanted->cpu_weight;
        d->record.config.cpu_cap_percent = wanted->cpu_cap_percent;
        str_assign(&d->record.config.cpu_mask, wanted->cpu_mask);
        outcome = sim_write_down(d, err);
    }
    pthread_mutex_unlock(&sim->lock);
    return outcome;
}
