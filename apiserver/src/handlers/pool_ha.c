/* pool.enable_ha, pool.disable_ha and what belongs to them. Enabling arms all hosts first and is true with
 * one transaction; disabling begins with one. A server that ends in between leaves the one or the other:
 * hosts that are armed for nothing are disarmed when they connect (hosts/ha_arm.c). */
#include "../gate/session.h"
#include "../hosts/ha.h"
#include "../hosts/hosts.h"
#include "../rules/operations.h"
#include "checks.h"
#include "disk_copies.h"
#include "storage.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <poll.h>
#include <stdlib.h>

#define DISK_BYTES (1 << 20)
#define STACK "xhad" /* the name that clients know */

/* All hosts of the pool, in the order of their slots. */
struct members {
    struct ref *refs;
    const char **uuids;
    size_t count;
};

static void members_done(struct members *m)
{
    free(m->refs);
    free(m->uuids);
}

static bool add_host(const struct row *row, void *arg)
{
    struct members *m = arg;
    m->refs = xreallocarray(m->refs, m->count + 1, sizeof(*m->refs));
    m->uuids = xreallocarray(m->uuids, m->count + 1, sizeof(*m->uuids));
    m->refs[m->count] = row->ref;
    m->uuids[m->count++] = host_row(row)->uuid;
    return true;
}

/* ---- where the heartbeat disk can be ---- */

static bool attached_on(const struct snapshot *snap, const struct sr_row *sr, struct ref host)
{
    for (size_t i = 0; sr->PBDs && i < sr->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(snap, CLASS_PBD, sr->PBDs->items[i]));
        if (pbd && pbd->currently_attached && ref_eq(pbd->host, host))
            return true;
    }
    return false;
}

static int check_sr(const struct snapshot *snap, struct ref ref, struct api_err *err)
{
    const struct sr_row *sr = sr_row(snapshot_get(snap, CLASS_SR, ref));
    struct members m = {0};
    if (!sr)
        return fail_handle(err, CLASS_SR, ref);
    if (!sr->shared || storage_sr_is_iso(sr))
        return err_sr_operation_not_supported(err, REF_TEXT(ref));
    snapshot_each(snap, CLASS_host, add_host, &m);
    bool everywhere = true;
    for (size_t i = 0; i < m.count; i++)
        everywhere &= attached_on(snap, sr, m.refs[i]);
    members_done(&m);
    if (!everywhere)
        return err_sr_has_no_pbds(err, REF_TEXT(ref));
    if (sr->physical_size > 0 && sr->physical_size - sr->physical_utilisation < DISK_BYTES)
        return err_sr_source_space_insufficient(err, REF_TEXT(ref));
    return 0;
}

int handle_sr_assert_can_host_ha_statefile(struct call *call,
                                           const struct sr_assert_can_host_ha_statefile_args *args,
                                           struct api_err *err)
{
    return check_sr(call->snapshot, args->sr, err);
}

struct choice {
    const struct snapshot *snap;
    struct ref sr;
};

static bool consider_sr(const struct row *row, void *arg)
{
    struct choice *choice = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (check_sr(choice->snap, row->ref, &err) < 0)
        return true;
    choice->sr = row->ref;
    return false;
}

/* The first that was named and will do; when none was named the pool's default, or any. */
static int choose_sr(const struct snapshot *snap, const struct pool_row *pool, const struct ref_set *named,
                     struct ref *sr, struct api_err *err)
{
    struct choice choice = {.snap = snap};
    AUTO_API_ERR struct api_err why = API_ERR_INIT;
    for (size_t i = 0; named && i < named->count; i++) {
        if (!snapshot_get(snap, CLASS_SR, named->items[i]))
            return fail_handle(err, CLASS_SR, named->items[i]);
        api_err_done(&why);
        if (check_sr(snap, named->items[i], &why) == 0) {
            *sr = named->items[i];
            return 0;
        }
    }
    if (named && named->count)
        return err_cannot_create_state_file(err);
    api_err_done(&why);
    if (check_sr(snap, pool->default_SR, &why) == 0)
        choice.sr = pool->default_SR;
    else
        snapshot_each(snap, CLASS_SR, consider_sr, &choice);
    if (ref_is_null(choice.sr))
        return err_cannot_create_state_file(err);
    *sr = choice.sr;
    return 0;
}

/* ---- enabling ---- */

struct enabling {
    struct call *call;
    struct members members;
    struct ha_settings settings;
    struct ha_disk disk;
    size_t armed; /* of members */
};

static int check_hosts(const struct snapshot *snap, const struct members *m, const struct refusals *all,
                       struct api_err *err)
{
    for (size_t i = 0; i < m->count; i++)
        if (!storage_host_is_live(snap, m->refs[i]) &&
            refused(all, err_host_offline(err, REF_TEXT(m->refs[i])), err))
            return -1;
    return m->count < 2 || m->count > 127 ? err_ha_too_few_hosts(err) : 0;
}

struct agility {
    const struct snapshot *snap;
    const struct refusals *all;
    struct api_err *err;
    bool refused;
};

static bool check_vm(const struct row *row, void *arg)
{
    struct agility *a = arg;
    const struct vm_row *vm = vm_row(row);
    a->refused = !vm->is_a_template && !vm->is_a_snapshot && streq(vm->ha_restart_priority, "restart") &&
                 refused(a->all, ha_check_agile(a->snap, vm, a->err), a->err);
    return !a->refused;
}

static int fail_host(struct enabling *e, size_t index, const struct hv_err *cause, struct api_err *err)
{
    log_warn("ha", "a host cannot take part", "host", e->members.uuids[index], "cause", cause->text);
    if (cause->kind == HV_ERR_KIND_IO || cause->kind == HV_ERR_KIND_NOT_FOUND ||
        cause->kind == HV_ERR_KIND_FORMAT)
        return err_ha_host_cannot_access_statefile(err);
    return hosts_fail(err, e->members.refs[index], cause);
}

static int arm_all(struct enabling *e, struct api_err *err)
{
    for (size_t i = 0; i < e->members.count; i++) {
        struct hv_err cause;
        struct hv_host *agent = hosts_get(e->call->server->hosts, e->members.refs[i], err);
        if (!agent)
            return -1;
        e->armed = i + 1; /* whatever it says: it is disarmed if this fails */
        int rc = ha_arm(agent, &e->disk, &e->settings, &cause);
        hosts_put(e->call->server->hosts, agent);
        if (rc < 0)
            return fail_host(e, i, &cause, err);
        if (e->call->cancel && *e->call->cancel)
            return err_task_cancelled(err, REF_TEXT(e->call->task));
    }
    return 0;
}

/* Which hosts this one sees alive; the caller's buffer has their references. All: 1. */
static int sees_all(struct enabling *e, size_t index, struct buf *seen, struct hv_err *cause)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    struct hv_ha_beat_args args;
    struct hv_ha_beat_result result;
    size_t count = 0;
    struct hv_host *agent = hosts_get(e->call->server->hosts, e->members.refs[index], &ignored);
    if (!agent)
        return hv_fail(cause, HV_ERR_KIND_UNREACHABLE, "The host is not known.");
    hv_ha_beat_args_init(&args);
    int rc = hv_ha_beat(agent, NULL, &args, &result, cause);
    hv_ha_beat_args_done(&args);
    hosts_put(e->call->server->hosts, agent);
    if (rc < 0)
        return -1;
    buf_clear(seen);
    for (size_t i = 0; result.reads && i < result.slots_count && i < e->members.count; i++)
        if (result.slots[i].state == HA_SLOT_STATE_ALIVE) {
            buf_printf(seen, "%s%s", count ? ";" : "", REF_TEXT(e->members.refs[i]));
            count++;
        }
    rc = count == e->members.count && result.state == HA_STATE_ARMED;
    hv_ha_beat_result_done(&result);
    return rc;
}

static int check_liveset(struct enabling *e, struct api_err *err)
{
    AUTO_BUF struct buf seen = BUF_INIT, all = BUF_INIT;
    int64_t until = clock_mono_ms() + e->settings.lease_ms + 5000;
    for (size_t i = 0; i < e->members.count; i++)
        buf_printf(&all, "%s%s", i ? ";" : "", REF_TEXT(e->members.refs[i]));
    for (size_t i = 0; i < e->members.count;) {
        struct hv_err cause;
        int rc = sees_all(e, i, &seen, &cause);
        if (rc < 0)
            return fail_host(e, i, &cause, err);
        i += rc > 0;
        if (rc == 0 && clock_mono_ms() > until)
            return err_ha_host_cannot_see_peers(err, REF_TEXT(e->members.refs[i]), all.data,
                                                seen.len ? seen.data : "");
        if (rc == 0)
            poll(NULL, 0, 50);
    }
    return 0;
}

static void disarm_all(struct enabling *e)
{
    for (size_t i = 0; i < e->armed; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct hv_err cause;
        struct hv_host *agent = hosts_get(e->call->server->hosts, e->members.refs[i], &err);
        if (agent && ha_disarm(agent, false, &cause) < 0)
            log_warn("ha", "a host stays armed until it is connected to again", "host", e->members.uuids[i],
                     "cause", cause.text);
        if (agent)
            hosts_put(e->call->server->hosts, agent);
    }
}

static int record_on(struct enabling *e, struct disk_copies *copies, size_t index,
                     const struct str_map *configuration, struct api_err *err)
{
    struct tx *tx = store_begin(e->call->server->store);
    struct vdi_row *vdi = disk_copies_record(copies, tx, index);
    if (!vdi) {
        tx_abort(tx);
        return err_cannot_create_state_file(err);
    }
    vdi->type = VDI_TYPE_HA_STATEFILE;
    vdi->sharable = true;
    str_assign(&vdi->name_label, "Statefile for HA");
    str_assign(&vdi->name_description, "Used for storage heartbeating");
    const char *name = REF_TEXT(vdi->row.ref);
    struct pool_row *pool = pool_row_mut(tx_edit(tx, CLASS_pool, e->call->server->pool_ref));
    pool->ha_enabled = true;
    pool->ha_overcommitted = false;
    pool->ha_plan_exists_for = 0;
    str_set_assign(&pool->ha_statefiles, str_set_new(&name, 1));
    str_map_assign(&pool->ha_configuration, str_map_ref(configuration));
    str_assign(&pool->ha_cluster_stack, STACK);
    for (size_t i = 0; i < e->members.count; i++) {
        if (!tx_get(tx, CLASS_host, e->members.refs[i]))
            continue;
        struct host_row *host = host_row_mut(tx_edit(tx, CLASS_host, e->members.refs[i]));
        str_set_assign(&host->ha_statefiles, str_set_new(&name, 1));
        str_set_assign(&host->ha_network_peers, str_set_new(e->members.uuids, e->members.count));
    }
    return server_commit(tx, err);
}

static int enable_with(struct enabling *e, struct ref sr, const struct str_map *configuration,
                       struct api_err *err)
{
    struct disk_copies copies;
    size_t index = 0;
    const struct sr_row *row = sr_row(snapshot_get(e->call->snapshot, CLASS_SR, sr));
    disk_copies_init(&copies, e->call);
    int rc = disk_copies_add_new(&copies, sr, REF_NULL, DISK_BYTES, IMAGE_FORMAT_RAW, &index, err);
    AUTO_STR_SET const struct str_set *order = str_set_new(e->members.uuids, e->members.count);
    if (rc == 0) {
        e->disk = (struct ha_disk){row->uuid, copies.items[index].uuid, order};
        rc = arm_all(e, err);
    }
    failpoint("ha-step:armed");
    if (rc == 0)
        rc = check_liveset(e, err);
    if (rc == 0)
        rc = record_on(e, &copies, index, configuration, err);
    failpoint("ha-step:recorded");
    if (rc < 0)
        disarm_all(e);
    disk_copies_done(&copies, rc == 0);
    return rc;
}

int check_pool_enable_ha(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                         struct api_err *err)
{
    const struct pool_enable_ha_args *asked = args;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct pool_row *pool = ha_pool(snap);
    struct agility agility = {.snap = snap, .all = all, .err = err};
    struct ha_settings settings;
    struct members members = {0};
    struct ref sr;
    (void)tx;
    if (!pool || pool->ha_enabled)
        return err_ha_is_enabled(err);
    if (refused(all, ha_settings_read(asked->configuration, &settings, err), err))
        return -1;
    snapshot_each(snap, CLASS_host, add_host, &members);
    bool stops = refused(all, check_hosts(snap, &members, all, err), err);
    members_done(&members);
    if (stops || refused(all, choose_sr(snap, pool, asked->heartbeat_srs, &sr, err), err))
        return -1;
    snapshot_each(snap, CLASS_VM, check_vm, &agility);
    return agility.refused ? -1 : 0;
}

static int enable(struct call *call, const struct pool_enable_ha_args *args, struct api_err *err)
{
    struct enabling e = {.call = call};
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    struct ref sr;
    if (check_pool_enable_ha(call, NULL, args, NULL, err) < 0 ||
        ha_settings_read(args->configuration, &e.settings, err) < 0 ||
        choose_sr(snap, ha_pool(snap), args->heartbeat_srs, &sr, err) < 0)
        return -1;
    snapshot_each(snap, CLASS_host, add_host, &e.members);
    int rc = enable_with(&e, sr, args->configuration, err);
    members_done(&e.members);
    return rc;
}

/* Clients see it in the pool's current_operations. */
static int mark(struct call *call, enum pool_allowed_operations operation, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!ref_is_null(call->task))
        operation_mark(tx, CLASS_pool, call->server->pool_ref, call->task, (int)operation);
    return server_commit(tx, err);
}

static void unmark(struct tx *tx, void *arg)
{
    const struct call *call = arg;
    operation_unmark(tx, CLASS_pool, call->server->pool_ref, call->task);
}

int handle_pool_enable_ha(struct call *call, const struct pool_enable_ha_args *args, struct api_err *err)
{
    if (ha_change_begin(call->server->ha, true, err) < 0)
        return -1;
    int rc = mark(call, POOL_ALLOWED_OPERATIONS_HA_ENABLE, err);
    if (rc == 0) {
        rc = enable(call, args, err);
        server_insist(call->server, unmark, call);
    }
    if (rc == 0) {
        ha_plan_update(call->server);
        log_info("ha", "high availability is on", "user", call->session->user);
    }
    ha_change_end(call->server->ha);
    return rc;
}

/* ---- disabling ---- */

int check_pool_disable_ha(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                          struct api_err *err)
{
    const struct pool_row *pool = ha_pool(call->snapshot);
    (void)tx, (void)args, (void)all;
    return pool && pool->ha_enabled ? 0 : err_ha_not_enabled(err);
}

static int record_off(struct call *call, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pool_row *now = pool_row(tx_get(tx, CLASS_pool, call->server->pool_ref));
    if (!now->ha_enabled) {
        tx_abort(tx);
        return err_ha_not_enabled(err);
    }
    ha_row_off(pool_row_mut(tx_edit(tx, CLASS_pool, call->server->pool_ref)));
    return server_commit(tx, err);
}

/* The heartbeat disk says it first: hosts that are not reached find it there. */
static void release_hosts(struct call *call)
{
    struct members m = {0};
    bool everywhere = true;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    snapshot_each(snap, CLASS_host, add_host, &m);
    for (size_t i = 0; i < m.count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, m.refs[i]));
        struct hv_err cause;
        if (!host->ha_statefiles || !host->ha_statefiles->count)
            continue;
        struct hv_host *agent = hosts_get(call->server->hosts, m.refs[i], &err);
        if (!agent)
            continue;
        if (everywhere && ha_disarm(agent, true, &cause) == 0)
            everywhere = false;
        ha_host_connected(call->server, m.refs[i], agent);
        hosts_put(call->server->hosts, agent);
    }
    members_done(&m);
    ha_clear_up(call->server);
}

int handle_pool_disable_ha(struct call *call, struct api_err *err)
{
    if (ha_change_begin(call->server->ha, false, err) < 0)
        return -1;
    int rc = mark(call, POOL_ALLOWED_OPERATIONS_HA_DISABLE, err);
    if (rc == 0) {
        rc = record_off(call, err);
        failpoint("ha-step:off");
        ha_wake(call->server->ha);
        if (rc == 0)
            release_hosts(call);
        server_insist(call->server, unmark, call);
    }
    if (rc == 0)
        log_info("ha", "high availability is off", "user", call->session->user);
    ha_change_end(call->server->ha);
    return rc;
}

/* ---- one host, by hand ---- */

/* On the coordinator, whose root asks: its own host takes no part until high availability is switched on
 * anew. */
int handle_host_emergency_ha_disable(struct call *call, const struct host_emergency_ha_disable_args *args,
                                     struct api_err *err)
{
    (void)args;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct pool_row *pool = ha_pool(snap);
    struct hv_err cause;
    if (!pool || !pool->ha_enabled)
        return err_ha_not_enabled(err);
    struct tx *tx = store_begin(call->server->store);
    if (tx_get(tx, CLASS_host, pool->master))
        str_set_assign(&host_row_mut(tx_edit(tx, CLASS_host, pool->master))->ha_statefiles, NULL);
    if (server_commit(tx, err) < 0)
        return -1;
    struct hv_host *agent = hosts_get(call->server->hosts, pool->master, err);
    if (!agent)
        return -1;
    int rc = ha_disarm(agent, false, &cause);
    hosts_put(call->server->hosts, agent);
    return rc < 0 ? hosts_fail(err, pool->master, &cause) : 0;
}

/* Who gets this answer has reached the server through all that a call goes through. */
int handle_host_ha_xapi_healthcheck(struct call *call, bool *result, struct api_err *err)
{
    (void)err;
    *result = !call->server->closing;
    return 0;
}
