/* Changing the medium of a CD drive of a running domain: out with the old block nodes and their descriptor,
 * in with the new ones. */
#include "block.h"
#include <base/failpoint.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

bool qemu_qdev_is(const char *qdev, const char *id)
{
    const char *at = strstr(qdev, id);
    return at && (at[strlen(id)] == '\0' || at[strlen(id)] == '/') && (at == qdev || at[-1] == '/');
}

/* Opens the tray also when the guest locked it, and takes the medium out. */
static int take_out(const struct block *b, const char *id, int64_t index)
{
    if (block_command(b, "blockdev-open-tray", json_pack("{s:s, s:b}", "id", id, "force", 1)) < 0 ||
        block_command(b, "blockdev-remove-medium", json_pack("{s:s}", "id", id)) < 0)
        return -1;
    block_drop(b, index);
    return 0;
}

static int put_in(const struct block *b, const char *id, int64_t index, const struct disk_chain *chain)
{
    char node[QEMU_NODE_SIZE];
    snprintf(node, sizeof(node), "drive%d", (int)index);
    if (block_add_chain(b, node, chain) == 0 &&
        block_command(b, "blockdev-insert-medium", json_pack("{s:s, s:s}", "id", id, "node-name", node)) == 0)
        return 0;
    block_drop(b, index);
    return -1;
}

/* The configuration says from now on what is in the drive. */
static int write_down(struct qemu_domain *d, const struct domain_disk *drive, struct hv_err *err)
{
    int outcome = 0;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++) {
        struct domain_disk *disk = &d->record.config.disks[i];
        if (!streq(disk->device, drive->device))
            continue;
        disk->source = drive->source;
        str_assign(&disk->sr, drive->sr ? drive->sr : "");
        str_assign(&disk->disk, drive->disk ? drive->disk : "");
        str_assign(&disk->iso, drive->iso ? drive->iso : "");
    }
    if (!d->dead)
        outcome = rundir_write_record(&d->dir, &d->record, err);
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

static int find_drive(struct qemu_domain *d, const char *device, int64_t *index, struct hv_err *err)
{
    int outcome = hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no CD drive %s.", device);
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++)
        if (d->record.config.disks[i].cdrom && streq(d->record.config.disks[i].device, device)) {
            *index = d->record.config.disks[i].index;
            outcome = 0;
        }
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

int qemu_cd_change(struct hv_driver_state *state, const char *uuid, const struct domain_disk *drive,
                   struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find(state, uuid, err);
    struct domain_disk wanted = *drive; /* borrowed strings */
    struct domain_disk out = {.device = drive->device, .source = DISK_SOURCE_EMPTY};
    struct block b = {.d = d, .deadline = deadline, .err = err};
    char id[QEMU_DEVICE_ID_SIZE];
    qemu_device_id(drive->device, id);
    int outcome = d ? find_drive(d, drive->device, &wanted.index, err) : -1;
    if (outcome == 0)
        outcome = take_out(&b, id, wanted.index);
    failpoint("medium:out");
    if (outcome == 0)
        outcome = write_down(d, &out, err);
    if (outcome == 0 && chain->count > 0) {
        outcome = put_in(&b, id, wanted.index, chain);
        failpoint("medium:in");
        if (outcome == 0)
            outcome = write_down(d, &wanted, err);
    }
    if (d && outcome == 0)
        outcome = block_command(&b, "blockdev-close-tray", json_pack("{s:s}", "id", id));
    disk_chain_done(chain);
    return outcome;
}
