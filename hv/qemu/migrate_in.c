/* A domain comes from another host (driver.h: receive). A device model is started for it that stands still
 * and is in no list; whoever dies meanwhile leaves something that adopt.c undoes. What makes it ours is the
 * record that says that it does not come any more. */
#include "internal.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define LOOK_MS 200

static struct qemu_domain *find_coming(struct hv_driver_state *state, const char *uuid, struct hv_err *err)
{
    struct qemu_domain *d = domain_find(state, uuid, NULL);
    bool coming = false;
    if (d) {
        pthread_mutex_lock(&d->lock);
        coming = d->record.incoming && !d->dead;
        pthread_mutex_unlock(&d->lock);
    }
    if (coming)
        return d;
    domain_unref(d);
    hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain does not come here, or its device model has ended.");
    return NULL;
}

static int64_t index_of(const struct domain_config *config, const char *device)
{
    for (size_t i = 0; i < config->disks_count; i++)
        if (streq(config->disks[i].device, device) && config->disks[i].source == DISK_SOURCE_DISK)
            return config->disks[i].index;
    return -1;
}

/* The disks that the other device model writes to until the guest comes. */
static int offer_disks(struct qemu_domain *d, const struct domain_config *config, const char *const *mirror,
                       size_t count, struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    int fd AUTO_CLOSE = count > 0 ? rundir_listen(&d->dir, "nbd", err) : -1;
    if (count == 0)
        return 0;
    pthread_mutex_lock(&d->lock);
    d->offers_disks = true;
    pthread_mutex_unlock(&d->lock);
    if (fd < 0 || domain_pass_fd(d, fd, "nbd", err) < 0 ||
        domain_command(d, "nbd-server-start",
                       json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "fd", "data", "str", "nbd"), &soon,
                       NULL, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        char node[QEMU_NODE_SIZE], id[80];
        int64_t index = index_of(config, mirror[i]);
        if (index < 0)
            return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The domain has no disk %s.", mirror[i]);
        snprintf(node, sizeof(node), "drive%d", (int)index);
        snprintf(id, sizeof(id), "export-%s", mirror[i]);
        if (domain_command(d, "block-export-add",
                           json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", id, "node-name", node,
                                     "name", mirror[i], "writable", 1),
                           &soon, NULL, err) < 0)
            return -1;
    }
    return 0;
}

static int prepare(struct qemu_domain *d, const struct domain_config *config,
                   const struct save_header *header, const char *const *mirror, size_t count,
                   struct hv_err *err)
{
    struct hv_deadline soon = domain_soon();
    if (domain_check_version(d, header, err) < 0)
        return -1;
    /* Images of a guest that is going to run are opened by its first step, which says so if that fails. */
    json_t *words = json_pack("{s:[{s:s, s:b}, {s:s, s:b}]}", "capabilities", "capability", "events", "state",
                              1, "capability", "late-block-activate", "state", !config->start_paused);
    if (domain_command(d, "migrate-set-capabilities", words, &soon, NULL, err) < 0)
        return -1;
    return offer_disks(d, config, mirror, count, err);
}

int qemu_receive(struct hv_driver_state *state, const struct domain_config *config,
                 const struct save_header *header, const char *const *mirror, size_t mirror_count,
                 struct disk_chain *chains, const struct hv_deadline *deadline, struct hv_err *err)
{
    if (domain_start_incoming(state, config, header, chains, deadline, err) < 0)
        return -1;
    struct qemu_domain *d AUTO_DOMAIN = find_coming(state, config->uuid, err);
    if (d && prepare(d, config, header, mirror, mirror_count, err) == 0) {
        int64_t target = 0;
        json_get_int(header->layout, "memory_target", &target);
        pthread_mutex_lock(&d->lock);
        if (target > 0 && target <= d->info.memory_bytes)
            d->record.memory_target_bytes = d->info.memory_target_bytes = target;
        pthread_mutex_unlock(&d->lock);
        return 0;
    }
    if (d)
        domain_kill(d);
    return -1;
}

int qemu_receive_disk(struct hv_driver_state *state, const char *uuid, const char *device, int *fd,
                      struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_coming(state, uuid, err);
    (void)device; /* the other device model says which one it wants */
    if (!d)
        return -1;
    int connected = rundir_connect(&d->dir, "nbd");
    if (connected < 0)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The domain's disks are not expected here.");
    *fd = connected;
    return 0;
}

static int wait_filled(struct qemu_domain *d, const struct hv_deadline *deadline, struct hv_err *err)
{
    char status[MIGRATION_STATUS_SIZE], why[160];
    double done;
    for (;;) {
        int64_t seen = domain_job_news(d);
        if (domain_migration_status(d, status, &done, why, sizeof(why), err) < 0)
            return domain_explain_death(d, err);
        if (streq(status, "completed"))
            return 0;
        if (streq(status, "failed"))
            return hv_fail(err, HV_ERR_KIND_FORMAT, "The device model cannot use the domain that comes: %s",
                           why);
        if (domain_give_up(deadline, err) < 0)
            return -1;
        domain_wait_jobs(d, seen, LOOK_MS);
    }
}

static void read_balloon(struct qemu_domain *d)
{
    json_t *balloon AUTO_JSON = NULL;
    struct hv_deadline soon = domain_soon();
    int64_t actual = 0;
    if (domain_command(d, "query-balloon", NULL, &soon, &balloon, NULL) < 0 ||
        !json_get_int(balloon, "actual", &actual) || actual <= 0)
        return;
    pthread_mutex_lock(&d->lock);
    d->info.memory_actual_bytes = actual;
    pthread_mutex_unlock(&d->lock);
}

int qemu_receive_memory(struct hv_driver_state *state, const char *uuid, int fd,
                        const struct hv_deadline *deadline, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_coming(state, uuid, err);
    struct hv_deadline soon = domain_soon();
    if (!d || domain_pass_fd(d, fd, "memory", err) < 0 ||
        domain_command(d, "migrate-incoming", json_pack("{s:s}", "uri", "fd:memory"), &soon, NULL, err) < 0)
        return -1;
    if (wait_filled(d, deadline, err) < 0 || domain_wait_machine(d, deadline, err) < 0)
        return -1;
    /* Nobody else writes to its disks from here on. */
    pthread_mutex_lock(&d->lock);
    bool offers_disks = d->offers_disks;
    pthread_mutex_unlock(&d->lock);
    if (offers_disks)
        domain_command(d, "nbd-server-stop", NULL, &soon, NULL, NULL);
    return 0;
}

static void set_ours(struct rundir_record *record, void *arg)
{
    record->incoming = false;
    record->held = *(const bool *)arg; /* an agent that finds it so lets it run */
}

static void set_coming(struct rundir_record *record, void *arg)
{
    (void)arg;
    record->incoming = true;
    record->held = false;
}

/* Certainly so: no guest code can have run. */
static bool stands_still(struct qemu_domain *d)
{
    struct hv_deadline soon = domain_soon();
    char status[DOMAIN_STATUS_SIZE];
    return domain_status(d, &soon, status, NULL) == 0 && *status && !streq(status, "running");
}

int qemu_receive_run(struct hv_driver_state *state, const char *uuid, void (*runs)(void *ctx), void *ctx,
                     struct domain_info *info, struct hv_err *err)
{
    struct qemu_domain *d AUTO_DOMAIN = find_coming(state, uuid, err);
    struct hv_deadline soon = domain_soon();
    if (!d)
        return -1;
    bool run = !d->record.config.start_paused, held = false;
    if (domain_change(d, set_ours, &run, err) < 0)
        return -1;
    failpoint("migrate-destination:ours");
    if (run && domain_command(d, "cont", NULL, &soon, NULL, err) < 0 && stands_still(d)) {
        domain_change(d, set_coming, NULL, NULL);
        domain_kill(d);
        return -1;
    }
    runs(ctx);
    if (run)
        domain_wait_state(d, DOMAIN_STATE_RUNNING, &soon, NULL);
    domain_change(d, set_ours, &held, NULL);
    read_balloon(d);
    pthread_mutex_lock(&d->lock);
    d->starting = false;
    domain_info_copy(info, &d->info); /* if it has died already, it has died here */
    pthread_mutex_unlock(&d->lock);
    domain_publish(d, false);
    return 0;
}

void qemu_receive_drop(struct hv_driver_state *state, const char *uuid)
{
    struct qemu_domain *d AUTO_DOMAIN = find_coming(state, uuid, NULL);
    if (d)
        domain_kill(d);
}
