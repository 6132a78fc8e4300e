/* What the calls about repositories and disks mean. The prototypes are generated from
 * openapi/agent/storage.toml; the work is done by hv/storage. */
#include "agent.h"
#include <base/mem.h>

/* How a disk is to be kept. */
static int to_storage(enum image_format format, enum disk_format *out, struct hv_err *err)
{
    if (format == IMAGE_FORMAT_VHD || format == IMAGE_FORMAT_VMDK)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "Disks are kept as raw or as qcow2.");
    *out = format == IMAGE_FORMAT_QCOW2 ? DISK_QCOW2 : DISK_RAW;
    return 0;
}

int agent_sr_create(struct agent *agent, struct agent_op *op, const struct hv_sr_create_args *args,
                    struct hv_sr_create_result *result, struct hv_err *err)
{
    (void)op;
    struct storage_error error;
    struct storage_sr *sr;
    struct storage_stats stats;
    if (srs_attached_at(agent, args->sr, args->type, args->config))
        return hv_fail(err, HV_ERR_KIND_EXISTS, "Another repository of this host is at that place.");
    if (agent->storage->sr_create(args->type, args->config, &error) < 0 ||
        agent->storage->sr_attach(args->type, args->config, &sr, &error) < 0)
        return storage_to_hv(err, &error);
    int outcome =
        storage_sr_claim(sr, args->sr, true, &error) < 0 ? -1 : storage_sr_stats(sr, &stats, &error);
    storage_sr_detach(sr);
    if (outcome < 0)
        return storage_to_hv(err, &error);
    result->stats = srs_stats_of(&stats);
    return 0;
}

int agent_sr_probe(struct agent *agent, struct agent_op *op, const struct hv_sr_probe_args *args,
                   struct hv_sr_probe_result *result, struct hv_err *err)
{
    (void)agent;
    (void)op;
    struct storage_error error;
    struct storage_probe probe;
    if (storage_sr_probe(args->type, args->config, &probe, &error) < 0)
        return storage_to_hv(err, &error);
    str_assign(&result->found.sr, probe.uuid);
    result->found.stats = srs_stats_of(&probe.stats);
    result->found.disks = (int64_t)probe.disk_count;
    return 0;
}

int agent_sr_attach(struct agent *agent, struct agent_op *op, const struct hv_sr_attach_args *args,
                    struct hv_sr_attach_result *result, struct hv_err *err)
{
    (void)op;
    if (srs_attach(agent, args->sr, args->type, args->config, err) < 0)
        return -1;
    struct sr *sr = srs_get(agent, args->sr, err);
    int outcome = sr ? srs_stats(sr, &result->stats, err) : -1;
    srs_put(agent, sr);
    return outcome;
}

int agent_sr_forget(struct agent *agent, struct agent_op *op, const struct hv_sr_forget_args *args,
                    struct hv_sr_forget_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    return srs_detach(agent, args->sr, err);
}

int agent_sr_destroy(struct agent *agent, struct agent_op *op, const struct hv_sr_destroy_args *args,
                     struct hv_sr_destroy_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    struct storage_error error;
    struct sr *sr = srs_get(agent, args->sr, NULL);
    if (sr) {
        srs_put(agent, sr);
        return hv_fail(err, HV_ERR_KIND_IN_USE, "The storage repository is attached on this host.");
    }
    return storage_sr_destroy(args->type, args->config, &error) < 0 ? storage_to_hv(err, &error) : 0;
}

int agent_sr_stats(struct agent *agent, struct agent_op *op, const struct hv_sr_stats_args *args,
                   struct hv_sr_stats_result *result, struct hv_err *err)
{
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    int outcome = sr ? srs_stats(sr, &result->stats, err) : -1;
    srs_put(agent, sr);
    return outcome;
}

int agent_sr_scan(struct agent *agent, struct agent_op *op, const struct hv_sr_scan_args *args,
                  struct hv_sr_scan_result *result, struct hv_err *err)
{
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    if (!sr)
        return -1;
    struct storage_disks disks AUTO_STORAGE_DISKS = {0};
    struct storage_error error;
    int outcome = storage_sr_scan(sr->storage, &disks, &error);
    if (outcome < 0)
        storage_to_hv(err, &error);
    else
        outcome = srs_stats(sr, &result->stats, err);
    for (size_t i = 0; outcome == 0 && i < disks.count; i++) {
        struct ref uuid;
        struct disk_info *info = hv_sr_scan_result_add_disks(result);
        str_assign(&info->uuid, uuid_parse(disks.items[i].location, &uuid) ? disks.items[i].location : "");
        str_assign(&info->name, disks.items[i].location);
        info->format = disks.items[i].format == DISK_QCOW2 ? IMAGE_FORMAT_QCOW2 : IMAGE_FORMAT_RAW;
        info->virtual_size_bytes = disks.items[i].virtual_size_bytes;
        info->physical_bytes = disks.items[i].physical_bytes;
        info->read_only = disks.items[i].read_only;
        str_assign(&info->parent, disks.items[i].parent);
        info->in_use = disks_in_use(agent, sr->uuid, disks.items[i].location);
    }
    srs_put(agent, sr);
    return outcome;
}

int agent_disk_create(struct agent *agent, struct agent_op *op, const struct hv_disk_create_args *args,
                      struct hv_disk_create_result *result, struct hv_err *err)
{
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    struct storage_error error;
    enum disk_format format = DISK_RAW;
    int64_t size;
    if (!sr)
        return -1;
    int outcome = to_storage(args->format, &format, err);
    if (outcome == 0)
        outcome = agent->storage->disk_create(sr->storage, args->disk, args->virtual_size_bytes, format,
                                              &size, &error) < 0
                      ? storage_to_hv(err, &error)
                      : srs_disk_info(agent, sr, args->disk, &result->info, err);
    srs_put(agent, sr);
    return outcome;
}

int agent_disk_destroy(struct agent *agent, struct agent_op *op, const struct hv_disk_destroy_args *args,
                       struct hv_disk_destroy_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    struct sr *sr = srs_get(agent, args->sr, err);
    struct storage_error error;
    if (!sr)
        return -1;
    int outcome = disks_take(agent, args->sr, args->disk, true, err);
    if (outcome == 0) {
        outcome = storage_disk_destroy(sr->storage, args->disk, &error) < 0 ? storage_to_hv(err, &error) : 0;
        disks_release(agent, args->sr, args->disk, true);
    }
    srs_put(agent, sr);
    return outcome;
}

int agent_disk_resize(struct agent *agent, struct agent_op *op, const struct hv_disk_resize_args *args,
                      struct hv_disk_resize_result *result, struct hv_err *err)
{
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    struct storage_error error;
    int64_t size;
    if (!sr)
        return -1;
    int outcome = disks_take(agent, args->sr, args->disk, true, err);
    if (outcome == 0) {
        outcome = storage_disk_resize(sr->storage, args->disk, args->virtual_size_bytes, &size, &error) < 0
                      ? storage_to_hv(err, &error)
                      : srs_disk_info(agent, sr, args->disk, &result->info, err);
        disks_release(agent, args->sr, args->disk, true);
    }
    srs_put(agent, sr);
    return outcome;
}

static void job_progress(void *arg, double fraction)
{
    const struct op_job *job = arg;
    agent_op_progress(job->agent, job->op, fraction);
}

void op_job_init(struct op_job *job, struct agent *agent, struct agent_op *op)
{
    *job = (struct op_job){
        .agent = agent, .op = op, .job = {.progress = job_progress, .arg = job, .cancel = &op->cancel}};
}

int agent_disk_copy(struct agent *agent, struct agent_op *op, const struct hv_disk_copy_args *args,
                    struct hv_disk_copy_result *result, struct hv_err *err)
{
    struct op_job job;
    struct storage_error error;
    enum disk_format format = DISK_RAW;
    op_job_init(&job, agent, op);
    struct sr *from = to_storage(args->format, &format, err) == 0 ? srs_get(agent, args->sr, err) : NULL;
    struct sr *to = from ? srs_get(agent, args->new_sr, err) : NULL;
    int outcome = to ? disks_take(agent, args->sr, args->disk, false, err) : -1;
    if (outcome == 0) {
        outcome = agent->storage->disk_copy(from->storage, args->disk, to->storage, args->new_disk, format,
                                            &job.job, &error) < 0
                      ? storage_to_hv(err, &error)
                      : srs_disk_info(agent, to, args->new_disk, &result->info, err);
        disks_release(agent, args->sr, args->disk, false);
    }
    srs_put(agent, from);
    srs_put(agent, to);
    return outcome;
}

int agent_disk_clone(struct agent *agent, struct agent_op *op, const struct hv_disk_clone_args *args,
                     struct hv_disk_clone_result *result, struct hv_err *err)
{
    struct op_job job;
    struct sr *sr = srs_get(agent, args->sr, err);
    struct storage_error error;
    if (!sr)
        return -1;
    op_job_init(&job, agent, op);
    /* Whoever reads it keeps what it has open, which is the base now. */
    int outcome = disks_take(agent, args->sr, args->disk, false, err);
    if (outcome == 0) {
        outcome = agent->storage->disk_clone(sr->storage, args->disk, args->new_disk, args->track, &job.job,
                                             &error) < 0
                      ? storage_to_hv(err, &error)
                      : srs_disk_info(agent, sr, args->new_disk, &result->info, err);
        disks_release(agent, args->sr, args->disk, false);
    }
    srs_put(agent, sr);
    return outcome;
}

int agent_upload_look(struct agent *agent, struct agent_op *op, const struct hv_upload_look_args *args,
                      struct hv_upload_look_result *result, struct hv_err *err)
{
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    struct storage_upload upload = {.uuid = args->upload, .length = args->length};
    struct storage_error error;
    if (!sr)
        return -1;
    int outcome = storage_upload_look(sr->storage, &upload, &result->offset, &error) < 0
                      ? storage_to_hv(err, &error)
                      : 0;
    srs_put(agent, sr);
    return outcome;
}

static int finish_upload(struct agent *agent, struct agent_op *op, struct sr *sr,
                         const struct hv_upload_finish_args *args, struct disk_info *info, struct hv_err *err)
{
    struct op_job job;
    struct storage_upload upload = {.uuid = args->upload, .length = args->length};
    struct storage_error error;
    op_job_init(&job, agent, op);
    if (storage_upload_finish(sr->storage, &upload, args->disk, stream_format(args->format),
                              args->sha256 ? args->sha256 : "", &job.job, &error) < 0)
        return storage_to_hv(err, &error);
    return srs_disk_info(agent, sr, args->disk, info, err);
}

int agent_upload_finish(struct agent *agent, struct agent_op *op, const struct hv_upload_finish_args *args,
                        struct hv_upload_finish_result *result, struct hv_err *err)
{
    struct sr *sr = srs_get(agent, args->sr, err);
    int outcome = sr ? disks_take(agent, args->sr, args->upload, true, err) : -1;
    if (outcome == 0) {
        outcome = disks_take(agent, args->sr, args->disk, true, err);
        if (outcome == 0) {
            outcome = finish_upload(agent, op, sr, args, &result->info, err);
            disks_release(agent, args->sr, args->disk, true);
        }
        disks_release(agent, args->sr, args->upload, true);
    }
    srs_put(agent, sr);
    return outcome;
}

int agent_disk_info(struct agent *agent, struct agent_op *op, const struct hv_disk_info_args *args,
                    struct hv_disk_info_result *result, struct hv_err *err)
{
    (void)op;
    struct sr *sr = srs_get(agent, args->sr, err);
    const char *location = args->disk && *args->disk ? args->disk : args->iso;
    int outcome = sr ? srs_disk_info(agent, sr, location, &result->info, err) : -1;
    srs_put(agent, sr);
    return outcome;
}
