/* Storage under the simulator: repositories and imports as they are, but every disk is a sparse raw file, and
 * copies are full ones, so that nothing of QEMU is needed. */
#include "agent.h"

static int create_raw(struct storage_sr *sr, const char *uuid, int64_t virtual_size_bytes,
                      enum disk_format format, int64_t *out, struct storage_error *error)
{
    (void)format;
    return storage_disk_create(sr, uuid, virtual_size_bytes, DISK_RAW, out, error);
}

static int copy_raw(struct storage_sr *sr, const char *location, struct storage_sr *to_sr,
                    const char *to_uuid, enum disk_format to_format, const struct storage_job *job,
                    struct storage_error *error)
{
    (void)to_format;
    return storage_disk_copy_plain(sr, location, to_sr, to_uuid, job, error);
}

static int clone_raw(struct storage_sr *sr, const char *location, const char *new_uuid, bool track,
                     const struct storage_job *job, struct storage_error *error)
{
    struct storage_layer *layer;
    (void)job;
    if (!track)
        return storage_disk_copy_plain(sr, location, sr, new_uuid, job, error);
    if (storage_layer_begin_plain(sr, location, new_uuid, &layer, error) < 0)
        return -1;
    storage_layer_track(layer, location, new_uuid);
    return storage_layer_commit(layer, error);
}

const struct storage_table storage_simulated = {
    .sr_create = storage_sr_create,
    .sr_attach = storage_sr_attach,
    .disk_create = create_raw,
    .disk_copy = copy_raw,
    .disk_clone = clone_raw,
    .layer_begin = storage_layer_begin_plain,
};
