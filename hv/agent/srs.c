/* Storage repositories that are attached on this host, and the way from <hv/storage.h> to the agent's
 * types. Which ones are attached is written down (STATE/srs/<uuid>.json) and restored at the start. */
#include "merger.h"
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

const struct storage_table storage_real = {
    .sr_create = storage_sr_create,
    .sr_attach = storage_sr_attach,
    .disk_create = storage_disk_create,
    .disk_copy = storage_disk_copy,
    .disk_clone = storage_disk_clone,
    .layer_begin = storage_layer_begin,
};

int storage_to_hv(struct hv_err *err, const struct storage_error *error)
{
    enum hv_err_kind kind = HV_ERR_KIND_IO;
    switch (error->kind) {
    case STORAGE_NOT_SUPPORTED:
        kind = HV_ERR_KIND_UNSUPPORTED;
        break;
    case STORAGE_BAD_CONFIG:
    case STORAGE_BAD_NAME:
    case STORAGE_BAD_SIZE:
        kind = HV_ERR_KIND_BAD_ARGUMENT;
        break;
    case STORAGE_NO_DISK:
        kind = HV_ERR_KIND_NOT_FOUND;
        break;
    case STORAGE_EXISTS:
        kind = HV_ERR_KIND_EXISTS;
        break;
    case STORAGE_FULL:
        kind = HV_ERR_KIND_NO_SPACE;
        break;
    case STORAGE_BAD_IMAGE:
    case STORAGE_DATA_SHORT:
    case STORAGE_DATA_LONG:
        kind = HV_ERR_KIND_FORMAT;
        break;
    case STORAGE_UNRELATED:
        kind = HV_ERR_KIND_BAD_STATE;
        break;
    case STORAGE_TOO_DEEP:
        kind = HV_ERR_KIND_TOO_DEEP;
        break;
    case STORAGE_CANCELLED:
        kind = HV_ERR_KIND_CANCELLED;
        break;
    case STORAGE_UNAVAILABLE:
    case STORAGE_READ_ONLY:
    case STORAGE_IO:
        kind = HV_ERR_KIND_IO;
        break;
    }
    return hv_fail(err, kind, "%s", error->text);
}

/* With srs_lock held. */
static struct sr *find(struct agent *agent, const char *uuid)
{
    for (size_t i = 0; i < agent->sr_count; i++)
        if (streq(agent->srs[i]->uuid, uuid))
            return agent->srs[i];
    return NULL;
}

static void unref(struct sr *sr)
{
    if (--sr->refs > 0)
        return;
    storage_sr_detach(sr->storage);
    str_unref(sr->type);
    str_map_unref(sr->config);
    free(sr);
}

struct sr *srs_get(struct agent *agent, const char *uuid, struct hv_err *err)
{
    pthread_mutex_lock(&agent->srs_lock);
    struct sr *sr = find(agent, uuid);
    if (sr)
        sr->refs++;
    pthread_mutex_unlock(&agent->srs_lock);
    if (!sr)
        hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The storage repository is not attached on this host.");
    return sr;
}

struct sr **srs_all(struct agent *agent, size_t *count)
{
    pthread_mutex_lock(&agent->srs_lock);
    struct sr **all = xcalloc(agent->sr_count + 1, sizeof(struct sr *));
    for (size_t i = 0; i < agent->sr_count; i++) {
        all[i] = agent->srs[i];
        all[i]->refs++;
    }
    *count = agent->sr_count;
    pthread_mutex_unlock(&agent->srs_lock);
    return all;
}

void srs_put(struct agent *agent, struct sr *sr)
{
    if (!sr)
        return;
    pthread_mutex_lock(&agent->srs_lock);
    unref(sr);
    pthread_mutex_unlock(&agent->srs_lock);
}

/* The record has the shape of sr_attach's arguments. */
static int write_record(struct agent *agent, const struct sr *sr, struct hv_err *err)
{
    struct hv_sr_attach_args args = {.sr = sr->uuid, .type = sr->type, .config = sr->config};
    struct buf text AUTO_BUF = BUF_INIT;
    wire_encode(&hv_sr_attach_args_desc, &args, &text);
    char *name AUTO_FREE = xasprintf("srs/%s.json", sr->uuid), *path AUTO_FREE = agent_path(agent, name);
    if (file_write_atomic(path, text.data, text.len, 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The host cannot write down that the repository is attached: %s",
                       strerror(errno));
    return 0;
}

static void drop_record(struct agent *agent, const char *uuid)
{
    char *name AUTO_FREE = xasprintf("srs/%s.json", uuid), *path AUTO_FREE = agent_path(agent, name);
    unlink(path);
}

static bool same(const struct sr *sr, const char *type, const struct str_map *config)
{
    struct hv_sr_attach_args a = {.sr = sr->uuid, .type = sr->type, .config = sr->config};
    struct hv_sr_attach_args b = {.sr = sr->uuid, .type = type, .config = config};
    return wire_equal(&hv_sr_attach_args_desc, &a, &b);
}

bool srs_attached_at(struct agent *agent, const char *uuid, const char *type, const struct str_map *config)
{
    bool found = false;
    pthread_mutex_lock(&agent->srs_lock);
    for (size_t i = 0; i < agent->sr_count && !found; i++)
        found = !streq(agent->srs[i]->uuid, uuid) && same(agent->srs[i], type, config);
    pthread_mutex_unlock(&agent->srs_lock);
    return found;
}

int srs_attach(struct agent *agent, const char *uuid, const char *type, const struct str_map *config,
               struct hv_err *err)
{
    pthread_mutex_lock(&agent->srs_lock);
    struct sr *old = find(agent, uuid);
    int outcome =
        !old || same(old, type, config)
            ? 0
            : hv_fail(err, HV_ERR_KIND_IN_USE, "The repository is attached in another way; detach it first.");
    pthread_mutex_unlock(&agent->srs_lock);
    if (old)
        return outcome;
    struct storage_error error;
    struct storage_sr *storage;
    if (agent->storage->sr_attach(type, config, &storage, &error) < 0)
        return storage_to_hv(err, &error);
    if (storage_sr_claim(storage, uuid, false, &error) < 0) {
        storage_sr_detach(storage);
        return storage_to_hv(err, &error);
    }
    struct sr *sr = xcalloc(1, sizeof(*sr));
    snprintf(sr->uuid, sizeof(sr->uuid), "%s", uuid);
    sr->type = str_new(type);
    sr->config = str_map_ref(config);
    sr->storage = storage;
    sr->refs = 1;
    outcome = write_record(agent, sr, err);
    pthread_mutex_lock(&agent->srs_lock);
    if (outcome == 0) {
        agent->srs = xreallocarray(agent->srs, agent->sr_count + 1, sizeof(struct sr *));
        agent->srs[agent->sr_count++] = sr;
    } else {
        unref(sr);
    }
    pthread_mutex_unlock(&agent->srs_lock);
    if (outcome == 0)
        events_publish(agent, EVENT_KIND_SR_CHANGED, uuid);
    return outcome;
}

int srs_detach(struct agent *agent, const char *uuid, struct hv_err *err)
{
    merger_yield_disk(agent->merger, uuid, NULL);
    if (disks_sr_in_use(agent, uuid))
        return hv_fail(err, HV_ERR_KIND_IN_USE, "A disk of the repository is in use on this host.");
    pthread_mutex_lock(&agent->srs_lock);
    bool found = false;
    for (size_t i = 0; i < agent->sr_count; i++)
        if (streq(agent->srs[i]->uuid, uuid)) {
            unref(agent->srs[i]);
            agent->srs[i] = agent->srs[--agent->sr_count];
            found = true;
            break;
        }
    pthread_mutex_unlock(&agent->srs_lock);
    drop_record(agent, uuid);
    if (found)
        events_publish(agent, EVENT_KIND_SR_CHANGED, uuid);
    return 0;
}

static void restore(struct agent *agent, const char *file)
{
    char *name AUTO_FREE = xasprintf("srs/%s", file), *path AUTO_FREE = agent_path(agent, name);
    size_t len;
    char *text AUTO_FREE = file_read(path, 1 << 20, &len);
    struct json_error bad;
    json_t *json AUTO_JSON = text ? json_parse(text, len, &bad) : NULL;
    char complaint[WIRE_COMPLAINT_SIZE];
    struct hv_sr_attach_args args;
    struct hv_err err = {0};
    if (!json || wire_decode(&hv_sr_attach_args_desc, json, &args, complaint) < 0) {
        log_warn("srs", "the record of a repository cannot be read", "file", file);
        return;
    }
    /* A repository that is away now stays away: the pool sees it and attaches it again. */
    if (srs_attach(agent, args.sr, args.type, args.config, &err) < 0)
        log_warn("srs", "a repository cannot be attached again", "sr", args.sr, "error", err.text);
    hv_sr_attach_args_done(&args);
}

int srs_open(struct agent *agent, struct hv_err *err)
{
    char *folder AUTO_FREE = agent_path(agent, "srs");
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The folder of repositories cannot be made: %s", strerror(errno));
    DIR *list = opendir(folder);
    if (!list)
        return hv_fail(err, HV_ERR_KIND_IO, "The folder of repositories cannot be read: %s", strerror(errno));
    for (struct dirent *e; (e = readdir(list));)
        if (e->d_name[0] != '.' && strlen(e->d_name) == UUID_TEXT_SIZE - 1 + 5)
            restore(agent, e->d_name);
    closedir(list);
    return 0;
}

struct sr_stats srs_stats_of(const struct storage_stats *stats)
{
    return (struct sr_stats){.physical_size_bytes = stats->physical_size_bytes,
                             .physical_used_bytes = stats->physical_used_bytes,
                             .physical_free_bytes = stats->physical_size_bytes - stats->physical_used_bytes};
}

int srs_stats(struct sr *sr, struct sr_stats *stats, struct hv_err *err)
{
    struct storage_stats got;
    struct storage_error error;
    if (storage_sr_stats(sr->storage, &got, &error) < 0)
        return storage_to_hv(err, &error);
    *stats = srs_stats_of(&got);
    return 0;
}

int srs_disk_info(struct agent *agent, struct sr *sr, const char *location, struct disk_info *info,
                  struct hv_err *err)
{
    struct storage_disk disk;
    struct storage_error error;
    if (storage_disk_stat(sr->storage, location, &disk, &error) < 0)
        return storage_to_hv(err, &error);
    struct ref uuid;
    str_assign(&info->uuid, uuid_parse(disk.location, &uuid) ? disk.location : "");
    str_assign(&info->name, disk.location);
    info->format = disk.format == DISK_QCOW2 ? IMAGE_FORMAT_QCOW2 : IMAGE_FORMAT_RAW;
    info->virtual_size_bytes = disk.virtual_size_bytes;
    info->physical_bytes = disk.physical_bytes;
    info->read_only = disk.read_only;
    str_assign(&info->parent, disk.parent);
    str_assign(&info->version, disk.version);
    info->in_use = disks_in_use(agent, sr->uuid, disk.location);
    storage_disk_done(&disk);
    return 0;
}
