/* What a disk may do in a second: the device model's own throttle, on the device, so that it stays when
 * images come and go below. */
#include "block.h"
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

struct limit {
    const char *device;
    int64_t max_iops, max_kbytes;
};

static void note(struct rundir_record *record, void *arg)
{
    const struct limit *limit = arg;
    for (size_t i = 0; i < record->config.disks_count; i++) {
        struct domain_disk *disk = &record->config.disks[i];
        if (streq(disk->device, limit->device)) {
            disk->max_iops = limit->max_iops;
            disk->max_kbytes = limit->max_kbytes;
        }
    }
}

static bool on_sata(struct qemu_domain *d, const char *device)
{
    bool sata = false;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++)
        if (streq(d->record.config.disks[i].device, device))
            sata = qemu_disk_on_sata(&d->record.config.disks[i]);
    pthread_mutex_unlock(&d->lock);
    return sata;
}

int qemu_disk_limit(struct hv_driver_state *state, const char *uuid, const char *device, int64_t max_iops,
                    int64_t max_kbytes, const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    struct limit limit = {.device = device, .max_iops = max_iops, .max_kbytes = max_kbytes};
    char id[QEMU_DEVICE_ID_SIZE];
    if (!d)
        return -1;
    /* The throttle is the back end's, which a virtio disk has below itself. */
    char *path AUTO_FREE = xasprintf("/machine/peripheral/%s%s", qemu_device_id(device, id),
                                     on_sata(d, device) ? "" : "/virtio-backend");
    json_t *arguments =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "id", path, "bps", (json_int_t)max_kbytes * 1024,
                  "bps_rd", (json_int_t)0, "bps_wr", (json_int_t)0, "iops", (json_int_t)max_iops, "iops_rd",
                  (json_int_t)0, "iops_wr", (json_int_t)0);
    if (domain_command(d, "block_set_io_throttle", arguments, deadline, NULL, err) < 0)
        return -1;
    return domain_change(d, note, &limit, err);
}
