/* Who uses which disk on this host: operations take disks here for as long as they run; domains are asked
 * what they have. A disk is written by one at a time, and while it is written nobody else has it. */
#include "merger.h"
#include <base/mem.h>
#include <errno.h>
#include <hv/seed.h>
#include <stdio.h>

/* What a drive uses; NULL: nothing that needs taking. ISO files are read by anybody at any time. */
static const char *disk_of(const struct domain_disk *disk)
{
    return disk->source == DISK_SOURCE_DISK ? disk->disk : NULL;
}

static bool writes(const struct domain_disk *disk)
{
    return !disk->read_only && !disk->cdrom;
}

/* 0: no domain has it; 1: for reading; 2: for writing. */
static int domain_use(struct agent *agent, const char *sr, const char *name)
{
    struct domain_info *infos;
    size_t count;
    int use = 0;
    if (agent->driver->list(agent->state, &infos, &count, NULL) < 0)
        return 2;
    for (size_t i = 0; i < count; i++) {
        struct domain_config config;
        if (domain_state_is_live(infos[i].state) &&
            agent->driver->config(agent->state, infos[i].uuid, &config, NULL) == 0) {
            for (size_t k = 0; k < config.disks_count; k++) {
                const struct domain_disk *disk = &config.disks[k];
                const char *location = disk->source == DISK_SOURCE_ISO ? disk->iso : disk_of(disk);
                if (location && streq(disk->sr, sr) && (!name || streq(location, name)) &&
                    use < 1 + writes(disk))
                    use = 1 + writes(disk);
            }
            domain_config_done(&config);
        }
        domain_info_done(&infos[i]);
    }
    free(infos);
    return use;
}

size_t disks_domain_of(struct agent *agent, const char *sr, const char *name,
                       char domain[static UUID_TEXT_SIZE])
{
    struct domain_info *infos;
    size_t count, users = 0;
    if (agent->driver->list(agent->state, &infos, &count, NULL) < 0)
        return 2;
    for (size_t i = 0; i < count; i++) {
        struct domain_config config;
        if (domain_state_is_live(infos[i].state) &&
            agent->driver->config(agent->state, infos[i].uuid, &config, NULL) == 0) {
            bool has = false;
            for (size_t k = 0; k < config.disks_count; k++)
                has = has || (disk_of(&config.disks[k]) && streq(config.disks[k].sr, sr) &&
                              streq(config.disks[k].disk, name));
            if (has) {
                snprintf(domain, UUID_TEXT_SIZE, "%s", infos[i].uuid);
                users++;
            }
            domain_config_done(&config);
        }
        domain_info_done(&infos[i]);
    }
    free(infos);
    return users;
}

/* With uses_lock held. */
static int operation_use(struct agent *agent, const char *sr, const char *name)
{
    int use = 0;
    for (struct disk_use *u = agent->uses; u; u = u->next)
        if (streq(u->sr, sr) && (!name || streq(u->name, name)) && use < 1 + u->write)
            use = 1 + u->write;
    return use;
}

static int take_locked(struct agent *agent, const char *sr, const char *name, bool write, struct hv_err *err)
{
    int by_operation = operation_use(agent, sr, name), by_domain = domain_use(agent, sr, name);
    if (by_operation == 2 || (write && by_operation))
        return hv_fail(err, HV_ERR_KIND_IN_USE, "Another operation has the disk.");
    if (by_domain == 2 || (write && by_domain))
        return hv_fail(err, HV_ERR_KIND_IN_USE, "A running domain has the disk.");
    struct disk_use *use = xcalloc(1, sizeof(*use));
    snprintf(use->sr, sizeof(use->sr), "%s", sr);
    snprintf(use->name, sizeof(use->name), "%s", name);
    use->write = write;
    use->next = agent->uses;
    agent->uses = use;
    return 0;
}

static void release_locked(struct agent *agent, const char *sr, const char *name, bool write)
{
    for (struct disk_use **at = &agent->uses; *at; at = &(*at)->next)
        if (streq((*at)->sr, sr) && streq((*at)->name, name) && (*at)->write == write) {
            struct disk_use *use = *at;
            *at = use->next;
            free(use);
            return;
        }
}

int disks_take(struct agent *agent, const char *sr, const char *name, bool write, struct hv_err *err)
{
    pthread_mutex_lock(&agent->uses_lock);
    int outcome = take_locked(agent, sr, name, write, err);
    pthread_mutex_unlock(&agent->uses_lock);
    /* A merge that began before the disk was taken ends; none begins now. */
    if (outcome == 0)
        merger_yield_disk(agent->merger, sr, name);
    return outcome;
}

void disks_release(struct agent *agent, const char *sr, const char *name, bool write)
{
    pthread_mutex_lock(&agent->uses_lock);
    release_locked(agent, sr, name, write);
    pthread_mutex_unlock(&agent->uses_lock);
}

bool disks_in_use(struct agent *agent, const char *sr, const char *name)
{
    pthread_mutex_lock(&agent->uses_lock);
    bool used = operation_use(agent, sr, name) || domain_use(agent, sr, name);
    pthread_mutex_unlock(&agent->uses_lock);
    return used;
}

bool disks_operated(struct agent *agent, const char *sr, const char *name)
{
    pthread_mutex_lock(&agent->uses_lock);
    bool used = operation_use(agent, sr, name) > 0;
    pthread_mutex_unlock(&agent->uses_lock);
    return used;
}

bool disks_sr_in_use(struct agent *agent, const char *sr)
{
    return disks_in_use(agent, sr, NULL);
}

int disks_take_domain(struct agent *agent, const struct domain_config *config, struct hv_err *err)
{
    int outcome = 0;
    size_t i = 0;
    pthread_mutex_lock(&agent->uses_lock);
    for (; outcome == 0 && i < config->disks_count; i++)
        if (disk_of(&config->disks[i]))
            outcome = take_locked(agent, config->disks[i].sr, config->disks[i].disk,
                                  writes(&config->disks[i]), err);
    if (outcome < 0)
        for (i--; i-- > 0;)
            if (disk_of(&config->disks[i]))
                release_locked(agent, config->disks[i].sr, config->disks[i].disk, writes(&config->disks[i]));
    pthread_mutex_unlock(&agent->uses_lock);
    for (i = 0; outcome == 0 && i < config->disks_count; i++)
        if (disk_of(&config->disks[i]))
            merger_yield_disk(agent->merger, config->disks[i].sr, config->disks[i].disk);
    return outcome;
}

void disks_release_domain(struct agent *agent, const struct domain_config *config)
{
    pthread_mutex_lock(&agent->uses_lock);
    for (size_t i = 0; i < config->disks_count; i++)
        if (disk_of(&config->disks[i]))
            release_locked(agent, config->disks[i].sr, config->disks[i].disk, writes(&config->disks[i]));
    pthread_mutex_unlock(&agent->uses_lock);
}

/* Texts of the configuration, for reading. */
static int open_seed(const struct domain_disk *disk, struct disk_chain *chain, struct hv_err *err)
{
    int fd = seed_open(disk->seed);
    if (fd < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The seed of the domain cannot be made: %s", strerror(errno));
    chain->nodes = xcalloc(1, sizeof(*chain->nodes));
    chain->nodes[chain->count++] =
        (struct disk_node){.fd = fd, .format = IMAGE_FORMAT_RAW, .read_only = true};
    return 0;
}

int disks_open(struct agent *agent, const struct domain_disk *disk, struct disk_chain *chain,
               struct hv_err *err)
{
    *chain = DISK_CHAIN_INIT;
    if (disk->source == DISK_SOURCE_EMPTY)
        return 0;
    if (disk->source == DISK_SOURCE_SEED)
        return open_seed(disk, chain, err);
    struct sr *sr = srs_get(agent, disk->sr, err);
    if (!sr)
        return -1;
    struct storage_error error;
    struct storage_images images;
    const char *location = disk->source == DISK_SOURCE_ISO ? disk->iso : disk->disk;
    int outcome = storage_disk_open_images(sr->storage, location, writes(disk), &images, &error);
    srs_put(agent, sr);
    if (outcome < 0)
        return storage_to_hv(err, &error);
    chain->nodes = xcalloc(images.count, sizeof(*chain->nodes));
    chain->count = images.count;
    for (size_t i = 0; i < images.count; i++)
        chain->nodes[i] = (struct disk_node){
            .fd = TAKE_FD(images.items[i].fd),
            .format = images.items[i].format == DISK_QCOW2 ? IMAGE_FORMAT_QCOW2 : IMAGE_FORMAT_RAW,
            .read_only = i > 0 || !writes(disk)};
    storage_images_done(&images);
    return 0;
}
