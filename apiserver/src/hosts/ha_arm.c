/* Arming and disarming one host, and what the rows say of that: pool.ha_statefiles names the heartbeat disk,
 * host.ha_statefiles does on every host that is armed, host.ha_network_peers has the hosts in the order of
 * their slots. */
#include "ha.h"

#include "../handlers/storage.h"
#include "../rules/pool.h"
#include "hosts.h"
#include <base/log.h>
#include <base/mem.h>

#define ARM_MS 30000

static bool first_pool(const struct row *row, void *arg)
{
    *(const struct row **)arg = row;
    return false;
}

const struct pool_row *ha_pool(const struct snapshot *snap)
{
    const struct row *row = NULL;
    snapshot_each(snap, CLASS_pool, first_pool, &row);
    return row ? pool_row(row) : NULL;
}

static bool find_hosts(const struct row *row, void *arg)
{
    const struct str_set **hosts = arg;
    if (host_row(row)->ha_network_peers && host_row(row)->ha_network_peers->count)
        *hosts = host_row(row)->ha_network_peers;
    return !*hosts;
}

bool ha_disk_of(const struct snapshot *snap, const struct server *server, struct ha_disk *disk)
{
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    const struct str_set *hosts = NULL;
    struct ref ref;
    if (!pool || !pool->ha_statefiles || !pool->ha_statefiles->count ||
        !ref_parse(pool->ha_statefiles->items[0], &ref))
        return false;
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    snapshot_each(snap, CLASS_host, find_hosts, &hosts);
    if (!sr || !hosts)
        return false;
    *disk = (struct ha_disk){sr->uuid, vdi->uuid, hosts};
    return true;
}

int ha_arm(struct hv_host *agent, const struct ha_disk *disk, const struct ha_settings *settings,
           struct hv_err *cause)
{
    struct hv_ha_arm_args args;
    struct hv_ha_arm_result result;
    hv_ha_arm_args_init(&args);
    str_assign(&args.generation, disk->disk);
    str_assign(&args.sr, disk->sr);
    str_assign(&args.disk, disk->disk);
    for (size_t i = 0; i < disk->hosts->count; i++)
        hv_ha_arm_args_add_hosts(&args, disk->hosts->items[i]);
    args.interval_ms = settings->interval_ms;
    args.lease_ms = settings->lease_ms;
    args.agent_ms = settings->agent_ms;
    const struct hv_op op = {.timeout_ms = ARM_MS};
    int rc = hv_ha_arm(agent, &op, &args, &result, cause);
    hv_ha_arm_args_done(&args);
    if (rc == 0)
        hv_ha_arm_result_done(&result);
    return rc;
}

int ha_disarm(struct hv_host *agent, bool everywhere, struct hv_err *cause)
{
    struct hv_ha_disarm_args args;
    struct hv_ha_disarm_result result;
    hv_ha_disarm_args_init(&args);
    args.everywhere = everywhere;
    int rc = hv_ha_disarm(agent, NULL, &args, &result, cause);
    hv_ha_disarm_args_done(&args);
    if (rc == 0)
        hv_ha_disarm_result_done(&result);
    return rc;
}

/* ---- what a switching-off, or one that was cut short, has left ---- */

static void forget_armed(struct tx *tx, void *arg)
{
    const struct ref *host = arg;
    if (!tx_get(tx, CLASS_host, *host))
        return;
    struct host_row *edit = host_row_mut(tx_edit(tx, CLASS_host, *host));
    str_set_assign(&edit->ha_statefiles, NULL);
    str_set_assign(&edit->ha_network_peers, NULL);
}

void ha_host_connected(struct server *server, struct ref host, struct hv_host *agent)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct pool_row *pool = ha_pool(snap);
    const struct host_row *row = host_row(snapshot_get(snap, CLASS_host, host));
    struct hv_ha_beat_args args;
    struct hv_ha_beat_result result;
    struct hv_err cause;
    if (!pool || !row || pool->ha_enabled)
        return;
    hv_ha_beat_args_init(&args);
    int rc = hv_ha_beat(agent, NULL, &args, &result, &cause);
    hv_ha_beat_args_done(&args);
    if (rc < 0)
        return;
    bool armed = result.state != HA_STATE_OFF;
    hv_ha_beat_result_done(&result);
    if (armed && ha_disarm(agent, false, &cause) < 0) {
        log_warn("ha", "a host stays armed", "host", row->uuid, "cause", cause.text);
        return;
    }
    if (armed)
        log_info("ha", "a host that was still armed was disarmed", "host", row->uuid);
    if (row->ha_statefiles && row->ha_statefiles->count) {
        server_insist(server, forget_armed, &host);
        ha_clear_up(server);
    }
}

static bool is_armed(const struct row *row, void *arg)
{
    bool *any = arg;
    *any |= host_row(row)->ha_statefiles && host_row(row)->ha_statefiles->count;
    return !*any;
}

struct leftovers {
    struct tx *tx;
    struct ref vdi, sr;
};

static bool find_statefile(const struct row *row, void *arg)
{
    struct leftovers *l = arg;
    if (vdi_row(row)->type != VDI_TYPE_HA_STATEFILE)
        return true;
    l->vdi = row->ref;
    l->sr = vdi_row(row)->SR;
    return false;
}

/* Of one disk a time. */
static void discard(struct tx *tx, void *arg)
{
    struct leftovers *l = arg;
    const struct pool_row *pool = pool_in(tx);
    bool armed = false;
    l->vdi = REF_NULL;
    tx_each(tx, CLASS_host, is_armed, &armed);
    if (!pool || pool->ha_enabled || armed)
        return;
    tx_each(tx, CLASS_VDI, find_statefile, l);
    if (!ref_is_null(l->vdi))
        storage_discard_vdi(tx, l->vdi);
}

void ha_clear_up(struct server *server)
{
    struct leftovers l = {0};
    do {
        server_insist(server, discard, &l);
        if (!ref_is_null(l.vdi))
            storage_sweep(server, l.sr);
    } while (!ref_is_null(l.vdi));
}
