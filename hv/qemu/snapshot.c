/* Snapshots of a live domain: storage has made an empty image for each disk; here they go on top of what the
 * domain writes to, all in one QMP transaction, so that what is below them is of one instant and never
 * written again. With memory the domain stands still from before that until it is saved; a paused one stays
 * so. */
#include "block.h"
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>

struct top {
    int64_t index;
    char device[QEMU_DEVICE_ID_SIZE];
    char old_node[64], new_node[QEMU_NODE_SIZE];
};

static int find_disk(struct qemu_domain *d, const struct hv_layer *layer, struct top *top, struct hv_err *err)
{
    int outcome =
        hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain does not write to the disk %s.", layer->disk);
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++) {
        const struct domain_disk *disk = &d->record.config.disks[i];
        if (disk->source != DISK_SOURCE_DISK || disk->cdrom || disk->read_only ||
            !streq(disk->sr, layer->sr) || !streq(disk->disk, layer->disk))
            continue;
        top->index = disk->index;
        qemu_device_id(disk->device, top->device);
        snprintf(top->new_node, sizeof(top->new_node), "drive%d-s%s", (int)disk->index, layer->token);
        outcome = 0;
    }
    pthread_mutex_unlock(&d->lock);
    return outcome;
}

static int add_top(const struct block *b, const struct hv_layer *layer, struct top *top)
{
    struct disk_node image = {.fd = layer->fd, .format = IMAGE_FORMAT_QCOW2};
    if (find_disk(b->d, layer, top, b->err) < 0 ||
        block_current(b, top->device, top->old_node, sizeof(top->old_node)) < 0)
        return -1;
    if (!top->old_node[0])
        return hv_fail(b->err, HV_ERR_KIND_DEVICE_MODEL, "The device model does not know the disk %s.",
                       layer->disk);
    return block_add_image(b, top->new_node, &image, NULL);
}

/* Did the disks change to their new images? Unknown is yes. */
static bool look(const struct block *b, const struct top *tops, size_t count)
{
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = b->d, .deadline = &soon};
    char node[64];
    return count > 0 &&
           (block_current(&quiet, tops[0].device, node, sizeof(node)) < 0 || streq(node, tops[0].new_node));
}

static int switch_over(const struct block *b, const struct top *tops, size_t count, bool *applied)
{
    json_t *actions = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(actions, json_pack("{s:s, s:{s:s, s:s}}", "type", "blockdev-snapshot", "data",
                                                 "node", tops[i].old_node, "overlay", tops[i].new_node));
    failpoint("snapshot:added");
    if (block_command(b, "transaction", json_pack("{s:o}", "actions", actions)) == 0) {
        failpoint("snapshot:switched");
        *applied = true;
        return 0;
    }
    *applied = look(b, tops, count);
    return -1;
}

static void drop_tops(const struct block *b, const struct top *tops, size_t count)
{
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = b->d, .deadline = &soon};
    for (size_t i = 0; i < count; i++)
        block_drop(&quiet, tops[i].index);
}

static int held(const struct block *b, const struct top *tops, size_t count, const struct hv_save *memory,
                bool *applied, int64_t *state_bytes)
{
    if (domain_hold(b->d, b->err) < 0)
        return -1;
    failpoint("snapshot:held");
    int outcome = count > 0 ? switch_over(b, tops, count, applied) : 0;
    if (outcome == 0)
        outcome = domain_save(b->d, memory, b->deadline, state_bytes, b->err);
    domain_release(b->d);
    return outcome;
}

int qemu_snapshot(struct hv_driver_state *state, const char *uuid, const struct hv_layer *layers,
                  size_t count, const struct hv_save *memory, const struct hv_deadline *deadline,
                  bool *applied, int64_t *state_bytes, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    *applied = false;
    if (!d)
        return -1;
    struct top *tops AUTO_FREE = xcalloc(count + 1, sizeof(*tops));
    struct block b = {.d = d, .deadline = deadline, .err = err};
    int outcome = 0;
    size_t made = 0;
    for (; outcome == 0 && made < count; made += outcome == 0)
        outcome = add_top(&b, &layers[made], &tops[made]);
    if (outcome == 0)
        outcome = memory ? held(&b, tops, count, memory, applied, state_bytes)
                         : switch_over(&b, tops, count, applied);
    if (outcome < 0 && !*applied)
        drop_tops(&b, tops, made);
    return outcome;
}
