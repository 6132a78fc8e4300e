/* Devices that come and go while the guest runs. Each has a root port of its own (plan.h: slots). The port is
 * written down before the device is made and the device before it is told, so that the same call again, after
 * a death at any point, brings it to its end.
 *
 * A device goes when the guest lets go of it, which may be long after it was asked, or never: until then the
 * domain has it. A forced disk is a device without data, of which only the slot is kept. */
#include "block.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <poll.h>
#include <stdio.h>

#define ASK_AGAIN_MS 5000
#define FORCE_MS 5000
#define INDEX_MS 5000
#define INDEX_LOOK_MS 20
#define TAP_NAME "tap"

/* ---- the record; on the loop with the lock held ---- */

struct slot {
    const char *id;
    int port;
};

static void take_slot(struct rundir_record *record, void *arg)
{
    struct slot *slot = arg;
    slot->port = record->layout ? qemu_layout_take(record->layout, slot->id) : -1;
}

static void free_slot(struct rundir_record *record, void *arg)
{
    const struct slot *slot = arg;
    qemu_layout_free(record->layout, slot->id);
}

static void add_disk(struct rundir_record *record, void *arg)
{
    struct domain_disk *added = domain_config_add_disks(&record->config);
    domain_disk_done(added);
    domain_disk_copy(added, arg);
}

static void add_nic(struct rundir_record *record, void *arg)
{
    struct domain_nic *added = domain_config_add_nics(&record->config);
    domain_nic_done(added);
    domain_nic_copy(added, arg);
}

struct removal {
    const char *id;
    bool keep_slot;
};

static void remove_disk_at(struct domain_config *config, size_t i)
{
    domain_disk_done(&config->disks[i]);
    memmove(&config->disks[i], &config->disks[i + 1], (--config->disks_count - i) * sizeof(*config->disks));
}

static void remove_nic_at(struct domain_config *config, size_t i)
{
    domain_nic_done(&config->nics[i]);
    memmove(&config->nics[i], &config->nics[i + 1], (--config->nics_count - i) * sizeof(*config->nics));
}

static void remove_device(struct rundir_record *record, void *arg)
{
    const struct removal *removal = arg;
    char id[QEMU_DEVICE_ID_SIZE];
    for (size_t i = record->config.disks_count; i-- > 0;)
        if (streq(qemu_device_id(record->config.disks[i].device, id), removal->id))
            remove_disk_at(&record->config, i);
    for (size_t i = record->config.nics_count; i-- > 0;)
        if (streq(qemu_nic_id(record->config.nics[i].index, id), removal->id))
            remove_nic_at(&record->config, i);
    if (!removal->keep_slot)
        qemu_layout_free(record->layout, removal->id);
}

/* ---- what the device model has ---- */

/* 1: the device is there; 0: it is not; -1: it does not say. */
static int has_device(struct qemu_domain *d, const char *id, struct hv_err *err)
{
    json_t *list AUTO_JSON = NULL, *one;
    struct hv_deadline soon = domain_soon();
    size_t i;
    const char *name;
    if (domain_command(d, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), &soon, &list, err) <
        0)
        return -1;
    json_array_foreach(list, i, one)
    {
        if (json_get_string(one, "name", &name) && streq(name, id))
            return 1;
    }
    return 0;
}

static void delete_netdev(struct qemu_domain *d, int64_t index)
{
    char name[16];
    struct hv_deadline soon = domain_soon();
    snprintf(name, sizeof(name), "net%d", (int)index);
    domain_command(d, "netdev_del", json_pack("{s:s}", "id", name), &soon, NULL, NULL);
}

/* ---- plugging in ---- */

static int reserve(struct qemu_domain *d, const char *id, int *port, struct hv_err *err)
{
    struct slot slot = {.id = id, .port = -1};
    if (domain_change(d, take_slot, &slot, err) < 0)
        return -1;
    if (slot.port < 0)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED, "The domain has no free slot for another device.");
    *port = slot.port;
    return 0;
}

/* A device that went keeps its place in the boot order until QEMU has freed it, which is a moment after it
 * says that it is gone. A cancellation cuts no command short: QEMU would make the device all the same. */
static int add_device(struct qemu_domain *d, json_t *moved, const struct hv_deadline *deadline,
                      struct hv_err *err)
{
    json_t *device AUTO_JSON = moved;
    for (int64_t end = clock_mono_ms() + INDEX_MS;;) {
        struct hv_deadline soon = domain_soon();
        if (domain_execute(d, "device_add", device, -1, &soon, NULL, err) == 0)
            return 0;
        bool taken = err->kind == HV_ERR_KIND_DEVICE_MODEL && strstr(err->text, "bootindex");
        if (!taken || clock_mono_ms() >= end || domain_give_up(deadline, err) < 0)
            return -1;
        poll(NULL, 0, INDEX_LOOK_MS);
    }
}

static int make_disk(const struct block *b, const struct domain_disk *disk, const struct disk_chain *chain,
                     int port)
{
    char node[QEMU_NODE_SIZE];
    snprintf(node, sizeof(node), "drive%d", (int)disk->index);
    /* The position is nobody else's: what has its name was left by a death. */
    block_drop(b, disk->index);
    if (block_add_chain(b, node, chain) == 0 &&
        add_device(b->d, qemu_disk_device(&b->d->record.config, disk, port, node), b->deadline, b->err) == 0)
        return 0;
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = b->d, .deadline = &soon};
    block_drop(&quiet, disk->index);
    return -1;
}

/* Is this the rest of one that the pool took away by force? */
static int check_ghost(struct qemu_domain *d, const char *id, int present, struct hv_err *err)
{
    pthread_mutex_lock(&d->lock);
    bool ghost = present > 0 && json_object_get(json_object_get(d->record.layout, "ghosts"), id);
    pthread_mutex_unlock(&d->lock);
    return ghost ? hv_fail(err, HV_ERR_KIND_BAD_STATE,
                           "The guest has not let go yet of the device that was taken away under that name.")
                 : 0;
}

int qemu_disk_plug(struct hv_driver_state *state, const char *uuid, const struct domain_disk *disk,
                   struct disk_chain *chain, const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    struct block b = {.d = d, .deadline = deadline, .err = err};
    char id[QEMU_DEVICE_ID_SIZE];
    struct slot slot = {.id = qemu_device_id(disk->device, id), .port = -1};
    int present = d ? has_device(d, id, err) : -1;
    int outcome = present < 0 || check_ghost(d, id, present, err) < 0 ? -1 : reserve(d, id, &slot.port, err);
    failpoint("plug-disk:slot");
    if (outcome == 0 && !present && (outcome = make_disk(&b, disk, chain, slot.port)) < 0)
        domain_change(d, free_slot, &slot, NULL);
    failpoint("plug-disk:made");
    if (outcome == 0)
        outcome = domain_change(d, add_disk, (void *)(uintptr_t)disk, err);
    disk_chain_done(chain);
    return outcome;
}

static void drop_tap(struct qemu_domain *d)
{
    struct hv_deadline soon = domain_soon();
    domain_command(d, "closefd", json_pack("{s:s}", "fdname", TAP_NAME), &soon, NULL, NULL);
}

/* A tap on the bridge, handed over under a name. */
static int pass_tap(struct qemu_domain *d, const struct domain_nic *nic, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    json_t *name AUTO_JSON = json_pack("{s:s}", "fdname", TAP_NAME);
    int tap AUTO_CLOSE = nic_open_tap(d->uuid, nic, err);
    return tap < 0 ? -1 : domain_execute(d, "getfd", name, tap, &soon, NULL, err);
}

static int make_nic(struct qemu_domain *d, const struct domain_nic *nic, int port,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    delete_netdev(d, nic->index); /* left by a death */
    if (nic->kind == NIC_KIND_BRIDGE && pass_tap(d, nic, err) < 0)
        return -1;
    json_t *netdev = qemu_nic_netdev(nic, TAP_NAME);
    if (netdev && domain_command(d, "netdev_add", netdev, deadline, NULL, err) < 0) {
        if (nic->kind == NIC_KIND_BRIDGE)
            drop_tap(d);
        return -1;
    }
    if (add_device(d, qemu_nic_device(&d->record.config, nic, port), deadline, err) == 0)
        return 0;
    delete_netdev(d, nic->index);
    return -1;
}

int qemu_nic_plug(struct hv_driver_state *state, const char *uuid, const struct domain_nic *nic,
                  const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    char id[QEMU_DEVICE_ID_SIZE];
    struct slot slot = {.id = qemu_nic_id(nic->index, id), .port = -1};
    int present = d ? has_device(d, id, err) : -1;
    if (present < 0 || check_ghost(d, id, present, err) < 0 || reserve(d, id, &slot.port, err) < 0)
        return -1;
    failpoint("plug-nic:slot");
    if (!present && make_nic(d, nic, slot.port, deadline, err) < 0) {
        domain_change(d, free_slot, &slot, NULL);
        return -1;
    }
    failpoint("plug-nic:made");
    return domain_change(d, add_nic, (void *)(uintptr_t)nic, err);
}

/* ---- taking away ---- */

void domain_device_event(struct qemu_domain *d, const char *name, const json_t *data)
{
    const char *id = NULL;
    /* Parts of a device that have no id are told too. */
    if (!json_get_string(data, "device", &id))
        return;
    pthread_mutex_lock(&d->lock);
    d->device_news++;
    if (streq(name, "DEVICE_UNPLUG_GUEST_ERROR"))
        snprintf(d->kept, sizeof(d->kept), "%s", id);
    bool expected = d->unplugging;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
    if (!expected && streq(name, "DEVICE_DELETED"))
        domain_devices_later(d);
}

static void set_unplugging(struct qemu_domain *d, bool unplugging)
{
    pthread_mutex_lock(&d->lock);
    d->unplugging = unplugging;
    d->kept[0] = '\0';
    pthread_mutex_unlock(&d->lock);
}

/* 0: it is gone; GUEST: the guest keeps it. */
static int ask_guest(struct qemu_domain *d, const char *id, int64_t until_ms,
                     const struct hv_deadline *deadline, struct hv_err *err)
{
    for (;;) {
        int present = has_device(d, id, err);
        if (present <= 0)
            return present;
        struct hv_deadline soon = domain_soon();
        struct hv_err refusal = {0};
        /* Asked already and not answered yet is refused: it is asked all the same. */
        if (domain_command(d, "device_del", json_pack("{s:s}", "id", id), &soon, NULL, &refusal) < 0)
            log_debug("qemu", "a device is not asked to go", "domain", d->uuid, "device", id, "why",
                      refusal.text);
        int64_t again = clock_mono_ms() + ASK_AGAIN_MS;
        struct hv_deadline slice = {.mono_ms = again < until_ms ? again : until_ms,
                                    .cancelled = deadline->cancelled};
        pthread_mutex_lock(&d->lock);
        int64_t before = d->device_news;
        struct hv_err why = {0};
        int waited = 0;
        while (waited == 0 && !d->dead && d->device_news == before && !streq(d->kept, id))
            waited = domain_wait(d, &slice, &why);
        bool kept = streq(d->kept, id);
        pthread_mutex_unlock(&d->lock);
        if (waited < 0 && why.kind == HV_ERR_KIND_CANCELLED)
            return hv_fail(err, HV_ERR_KIND_CANCELLED,
                           "It was cancelled; the guest may let go of the device yet.");
        if (kept)
            return hv_fail(err, HV_ERR_KIND_GUEST, "The guest refuses to let go of the device.");
        if (clock_mono_ms() >= until_ms)
            return has_device(d, id, NULL) == 0
                       ? 0
                       : hv_fail(err, HV_ERR_KIND_GUEST, "The guest did not let go of the device in time.");
    }
}

static void add_ghost(struct rundir_record *record, void *arg)
{
    json_t *ghosts = json_object_get(record->layout, "ghosts");
    if (!ghosts)
        json_object_set_new(record->layout, "ghosts", ghosts = json_object());
    json_object_set_new(ghosts, ((const struct removal *)arg)->id, json_true());
    remove_device(record, arg);
}

/* Puts a node in the disk's place that fails each request, and lets go of its files. */
static int cut_disk(struct qemu_domain *d, const char *id, int64_t index, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    struct block b = {.d = d, .deadline = &soon, .err = err};
    static _Atomic unsigned serial;
    char node[32];
    snprintf(node, sizeof(node), "lost%u-%u", (unsigned)(clock_unix_seconds() % 1000000),
             atomic_fetch_add(&serial, 1));
    json_t *rules = json_pack("[{s:s, s:s, s:i}, {s:s, s:s, s:i}, {s:s, s:s, s:i}]", "event", "none",
                              "iotype", "read", "errno", 5, "event", "none", "iotype", "write", "errno", 5,
                              "event", "none", "iotype", "flush", "errno", 5);
    json_t *lost =
        json_pack("{s:s, s:s, s:{s:s, s:I, s:b}, s:o}", "driver", "blkdebug", "node-name", node, "image",
                  "driver", "null-co", "size", (json_int_t)512, "read-zeroes", 1, "inject-error", rules);
    if (block_command(&b, "blockdev-add", lost) < 0)
        return -1;
    char *path AUTO_FREE = xasprintf("/machine/peripheral/%s", id);
    if (block_command(&b, "qom-set",
                      json_pack("{s:s, s:s, s:s}", "path", path, "property", "drive", "value", node)) < 0) {
        domain_command(d, "blockdev-del", json_pack("{s:s}", "node-name", node), &soon, NULL, NULL);
        return -1;
    }
    block_drop(&b, index);
    return 0;
}

/* Where a forced removal of a device that the guest keeps ends. */
static int cut(struct qemu_domain *d, const char *id, bool disk, int64_t index, struct hv_err *err)
{
    struct removal removal = {.id = id, .keep_slot = true};
    if (disk && cut_disk(d, id, index, err) < 0)
        return -1;
    if (!disk)
        delete_netdev(d, index);
    log_info("qemu", "a device was taken from a guest that keeps it", "domain", d->uuid, "device", id);
    return domain_change(d, add_ghost, &removal, err);
}

static int unplug(struct qemu_domain *d, const char *id, bool disk, int64_t index, bool force,
                  const struct hv_deadline *deadline, struct hv_err *err)
{
    int64_t until = domain_guest_limit(deadline), forced = clock_mono_ms() + FORCE_MS;
    struct hv_err why = {0};
    set_unplugging(d, true);
    int outcome = ask_guest(d, id, force && forced < until ? forced : until, deadline, &why);
    set_unplugging(d, false);
    if (outcome < 0 && force && why.kind == HV_ERR_KIND_GUEST)
        return cut(d, id, disk, index, err);
    if (outcome < 0) {
        if (err)
            *err = why;
        return -1;
    }
    struct hv_deadline soon = domain_soon();
    struct block quiet = {.d = d, .deadline = &soon};
    struct removal removal = {.id = id};
    failpoint("unplug:gone");
    if (disk)
        block_drop(&quiet, index);
    else
        delete_netdev(d, index);
    failpoint("unplug:dropped");
    return domain_change(d, remove_device, &removal, err);
}

int qemu_disk_unplug(struct hv_driver_state *state, const char *uuid, const char *device, bool force,
                     const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    char id[QEMU_DEVICE_ID_SIZE];
    int64_t index = -1;
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++)
        if (streq(d->record.config.disks[i].device, device))
            index = d->record.config.disks[i].index;
    bool placed = qemu_layout_port(d->record.layout, qemu_device_id(device, id)) >= 0;
    pthread_mutex_unlock(&d->lock);
    if (index < 0)
        return 0;
    if (!placed)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The domain was started by an older version, without slots.");
    return unplug(d, id, true, index, force, deadline, err);
}

int qemu_nic_unplug(struct hv_driver_state *state, const char *uuid, int64_t index, bool force,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    char id[QEMU_DEVICE_ID_SIZE];
    if (!d)
        return -1;
    pthread_mutex_lock(&d->lock);
    bool placed = qemu_layout_port(d->record.layout, qemu_nic_id(index, id)) >= 0;
    pthread_mutex_unlock(&d->lock);
    if (!placed)
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The domain was started by an older version, without slots.");
    return unplug(d, id, false, index, force, deadline, err);
}

static void drop_usb(struct rundir_record *record, void *arg)
{
    domain_config_drop_usb(&record->config, arg);
}

/* As when somebody pulls the plug: the guest is not asked. */
int qemu_usb_unplug(struct hv_driver_state *state, const char *uuid, const char *path,
                    const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = domain_find_active(state, uuid, err);
    char id[QEMU_DEVICE_ID_SIZE];
    if (!d)
        return -1;
    qemu_usb_id(path, id);
    int there = has_device(d, id, err);
    if (there < 0 ||
        (there && domain_command(d, "device_del", json_pack("{s:s}", "id", id), deadline, NULL, err) < 0))
        return -1;
    return domain_change(d, drop_usb, (void *)(uintptr_t)path, err);
}

/* ---- devices that went by themselves ---- */

/* Ids in the layout; the caller frees each and the array. */
static char **placed_devices(struct qemu_domain *d, size_t *count)
{
    char **ids = NULL;
    const char *id;
    json_t *at;
    *count = 0;
    pthread_mutex_lock(&d->lock);
    json_object_foreach(json_object_get(d->record.layout, "devices"), id, at)
    {
        ids = xreallocarray(ids, *count + 1, sizeof(*ids));
        ids[(*count)++] = xstrdup(id);
    }
    pthread_mutex_unlock(&d->lock);
    return ids;
}

static int64_t disk_index(struct qemu_domain *d, const char *id)
{
    char each[QEMU_DEVICE_ID_SIZE];
    int64_t index = -1;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->record.config.disks_count; i++)
        if (streq(qemu_device_id(d->record.config.disks[i].device, each), id))
            index = d->record.config.disks[i].index;
    pthread_mutex_unlock(&d->lock);
    return index;
}

static void gone(struct rundir_record *record, void *arg)
{
    const struct removal *removal = arg;
    json_object_del(json_object_get(record->layout, "ghosts"), removal->id);
    remove_device(record, arg);
}

void domain_reconcile_devices(struct qemu_domain *d)
{
    size_t count;
    char **ids = placed_devices(d, &count);
    for (size_t i = 0; i < count; i++) {
        struct removal removal = {.id = ids[i]};
        struct hv_deadline soon = domain_soon();
        struct block quiet = {.d = d, .deadline = &soon};
        int64_t index = disk_index(d, ids[i]);
        int nic;
        if (has_device(d, ids[i], NULL) != 0)
            continue;
        log_info("qemu", "a guest let go of a device", "domain", d->uuid, "device", ids[i]);
        if (index >= 0)
            block_drop(&quiet, index);
        else if (sscanf(ids[i], "nic%d", &nic) == 1)
            delete_netdev(d, nic);
        domain_change(d, gone, &removal, NULL);
    }
    for (size_t i = 0; i < count; i++)
        free(ids[i]);
    free(ids);
}
