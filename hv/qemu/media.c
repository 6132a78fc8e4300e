/* Changing the medium of a CD drive of a running domain: out with the old block nodes and their descriptor,
 * in with the new ones. */
#include "internal.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>

struct change {
    struct qemu_domain *d;
    const struct hv_deadline *deadline;
    char id[QEMU_DEVICE_ID_SIZE];
    struct hv_err *err;
};

static int command(const struct change *c, const char *name, json_t *moved)
{
    return domain_command(c->d, name, moved, c->deadline, NULL, c->err);
}

bool qemu_qdev_is(const char *qdev, const char *id)
{
    const char *at = strstr(qdev, id);
    return at && (at[strlen(id)] == '\0' || at[strlen(id)] == '/') && (at == qdev || at[-1] == '/');
}

/* Name of the node that is in the drive; empty: none. */
static int current_node(const struct change *c, char *node, size_t size)
{
    json_t *blocks AUTO_JSON = NULL, *block;
    size_t i;
    const char *qdev, *name;
    if (domain_command(c->d, "query-block", NULL, c->deadline, &blocks, c->err) < 0)
        return -1;
    node[0] = '\0';
    json_array_foreach(blocks, i,
                       block) if (json_get_string(block, "qdev", &qdev) && qemu_qdev_is(qdev, c->id) &&
                                  json_get_string(json_object_get(block, "inserted"), "node-name", &name))
        snprintf(node, size, "%s", name);
    return 0;
}

/* The set whose descriptor was added for that node; -1: none. */
static long long fdset_of(const struct change *c, const char *owner)
{
    json_t *sets AUTO_JSON = NULL, *set, *one;
    size_t i, k;
    const char *opaque;
    int64_t id;
    if (domain_command(c->d, "query-fdsets", NULL, c->deadline, &sets, NULL) < 0)
        return -1;
    json_array_foreach(sets, i, set)
    {
        json_t *fds = json_object_get(set, "fds");
        json_array_foreach(fds, k, one) if (json_get_string(one, "opaque", &opaque) && streq(opaque, owner) &&
                                            json_get_int(set, "fdset-id", &id)) return id;
    }
    return -1;
}

/* What is left of a medium that is out of the drive. Failures leave an unused node, nothing worse. */
static void drop_nodes(const struct change *c, const char *node)
{
    char file[72];
    snprintf(file, sizeof(file), "%s-file", node);
    struct change quiet = *c;
    quiet.err = NULL;
    command(&quiet, "blockdev-del", json_pack("{s:s}", "node-name", node));
    command(&quiet, "blockdev-del", json_pack("{s:s}", "node-name", file));
    long long set = fdset_of(&quiet, file);
    if (set >= 0)
        command(&quiet, "remove-fd", json_pack("{s:I}", "fdset-id", (json_int_t)set));
}

/* Opens the tray also when the guest locked it, and takes the medium out. */
static int take_out(const struct change *c)
{
    char node[64];
    if (current_node(c, node, sizeof(node)) < 0 ||
        command(c, "blockdev-open-tray", json_pack("{s:s, s:b}", "id", c->id, "force", 1)) < 0 ||
        command(c, "blockdev-remove-medium", json_pack("{s:s}", "id", c->id)) < 0)
        return -1;
    if (node[0])
        drop_nodes(c, node);
    return 0;
}

static int add_descriptor(const struct change *c, const char *owner, int fd, int64_t *set)
{
    json_t *result AUTO_JSON = NULL, *arguments AUTO_JSON = json_pack("{s:s}", "opaque", owner);
    struct qmp *qmp = domain_qmp(c->d, c->err);
    if (!qmp)
        return -1;
    int outcome = qmp_execute(qmp, "add-fd", arguments, fd, c->deadline, &result, c->err);
    qmp_unref(qmp);
    if (outcome == 0 && !json_get_int(result, "fdset-id", set))
        outcome = hv_fail(c->err, HV_ERR_KIND_DEVICE_MODEL, "The device model did not take the medium.");
    return outcome;
}

static int put_in(const struct change *c, const struct domain_disk *drive, const struct disk_node *image)
{
    char node[32], file[40];
    int64_t set;
    snprintf(node, sizeof(node), "drive%d-m%09lld", (int)drive->index,
             (long long)(clock_mono_us() % 1000000000));
    snprintf(file, sizeof(file), "%s-file", node);
    if (add_descriptor(c, file, image->fd, &set) < 0)
        return -1;
    if (command(c, "blockdev-add", qemu_file_node(file, set, true)) == 0 &&
        command(c, "blockdev-add", qemu_format_node(node, file, image->format, true, NULL)) == 0 &&
        command(c, "blockdev-insert-medium", json_pack("{s:s, s:s}", "id", c->id, "node-name", node)) == 0)
        return 0;
    drop_nodes(c, node);
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
    struct change c = {.d = d, .deadline = deadline, .err = err};
    int outcome = d ? find_drive(d, drive->device, &wanted.index, err) : -1;
    if (outcome == 0) {
        qemu_device_id(drive->device, c.id);
        outcome = take_out(&c);
    }
    if (outcome == 0)
        outcome = write_down(d, &out, err);
    if (outcome == 0 && chain->count > 0) {
        outcome = put_in(&c, &wanted, &chain->nodes[0]);
        if (outcome == 0)
            outcome = write_down(d, &wanted, err);
    }
    if (d && outcome == 0)
        outcome = command(&c, "blockdev-close-tray", json_pack("{s:s}", "id", c.id));
    disk_chain_done(chain);
    return outcome;
}
