/* VLAN.*, and pool.create_VLAN and its like: a VLAN is a PIF of its own over a tagged one. The host is asked
 * before anything is recorded, so a kernel that knows no tags refuses at once. */
#include "checks.h"
#include "pif.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define TAG_MAX 4094

static const struct pif_row *existing(const struct pif_source *from, const struct pif_row *tagged,
                                      int64_t tag)
{
    for (size_t i = 0; tagged->VLAN_slave_of && i < tagged->VLAN_slave_of->count; i++) {
        const struct vlan_row *vlan = vlan_row(pif_get(from, CLASS_VLAN, tagged->VLAN_slave_of->items[i]));
        if (vlan && vlan->tag == tag)
            return pif_row(pif_get(from, CLASS_PIF, vlan->untagged_PIF));
    }
    return NULL;
}

static int check_tag(int64_t tag, struct api_err *err)
{
    char text[24];
    snprintf(text, sizeof(text), "%lld", (long long)tag);
    return tag < 0 || tag > TAG_MAX ? err_vlan_tag_invalid(err, text) : 0;
}

/* What the interface is that is to carry the VLAN. */
static int check_tagged(const struct pif_row *tagged, const struct refusals *all, struct api_err *err)
{
    if (!ref_is_null(tagged->bond_slave_of) &&
        refused(all, err_cannot_add_vlan_to_bond_slave(err, REF_TEXT(tagged->row.ref)), err))
        return -1;
    return pif_is_tunnel_access(tagged) ? err_is_tunnel_access_pif(err, REF_TEXT(tagged->row.ref)) : 0;
}

static int check(const struct pif_source *from, const struct pif_row *tagged, int64_t tag,
                 const struct network_row *network, const struct refusals *all, struct api_err *err)
{
    if (!network->managed && refused(all, err_network_unmanaged(err, REF_TEXT(network->row.ref)), err))
        return -1;
    if (tagged->VLAN >= 0 && refused(all, err_pif_is_vlan(err, REF_TEXT(tagged->row.ref)), err))
        return -1;
    if (refused(all, check_tag(tag, err), err) || refused(all, check_tagged(tagged, all, err), err))
        return -1;
    const struct pif_row *same = existing(from, tagged, tag);
    if (same && refused(all, err_pif_vlan_exists(err, REF_TEXT(same->row.ref)), err))
        return -1;
    return pif_check_network_free(from, network, tagged->host, err);
}

int check_vlan_create(struct call *call, struct tx *tx, const void *arguments, const struct refusals *all,
                      struct api_err *err)
{
    const struct vlan_create_args *args = arguments;
    const struct pif_source from = {.snap = call->snapshot};
    const struct pif_row *tagged = pif_find(call, args->tagged_PIF, err);
    const struct network_row *network = tagged ? pif_find_network(call, args->network, err) : NULL;
    (void)tx;
    return network ? check(&from, tagged, args->tag, network, all, err) : -1;
}

static void add_rows(struct tx *tx, const struct pif_row *tagged, int64_t tag,
                     const struct network_row *network, struct ref *vlan_out, struct ref *untagged)
{
    struct vlan_row *vlan = vlan_row_mut(tx_create(tx, CLASS_VLAN));
    struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
    str_assign(&pif->device, tagged->device);
    str_assign(&pif->device_name, tagged->device);
    pif->network = network->row.ref;
    pif->host = tagged->host;
    str_assign(&pif->MAC, tagged->MAC);
    pif->MTU = network->MTU;
    pif->VLAN = tag;
    pif->physical = false;
    pif->metrics = tagged->metrics;
    pif->currently_attached = tagged->currently_attached;
    pif->managed = true;
    pif->VLAN_master_of = vlan->row.ref;
    vlan->tagged_PIF = tagged->row.ref;
    vlan->untagged_PIF = pif->row.ref;
    vlan->tag = tag;
    *vlan_out = vlan->row.ref;
    *untagged = pif->row.ref;
}

/* What was checked may have changed while the host was asked. */
static int record(struct call *call, const struct pif_row *seen, int64_t tag, struct ref network,
                  struct ref *vlan, struct ref *untagged, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pif_source from = {.tx = tx};
    const struct pif_row *tagged = pif_row(tx_get(tx, CLASS_PIF, seen->row.ref));
    const struct network_row *net = network_row(tx_get(tx, CLASS_network, network));
    int rc = !tagged ? fail_handle(err, CLASS_PIF, seen->row.ref)
             : !net  ? fail_handle(err, CLASS_network, network)
                     : check(&from, tagged, tag, net, NULL, err);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    add_rows(tx, tagged, tag, net, vlan, untagged);
    return server_commit(tx, err);
}

int vlan_make(struct call *call, struct ref tagged_ref, int64_t tag, struct ref network_ref, struct ref *vlan,
              struct ref *untagged, struct api_err *err)
{
    const struct pif_row *tagged = pif_find(call, tagged_ref, err);
    const struct network_row *network = tagged ? pif_find_network(call, network_ref, err) : NULL;
    const struct pif_source from = {.snap = call->snapshot};
    struct hv_err cause;
    if (!network || check(&from, tagged, tag, network, NULL, err) < 0)
        return -1;
    struct hv_host *agent = hosts_get(call->server->hosts, tagged->host, err);
    if (!agent)
        return -1;
    const struct uplink uplink = {.device = tagged->device, .vlan = (int)tag};
    int rc = network_ensure(agent, network, &uplink, &cause);
    if (rc < 0)
        interfaces_fail(err, tagged->host, tagged_ref, &cause);
    else if ((rc = record(call, tagged, tag, network_ref, vlan, untagged, err)) < 0 &&
             network_remove(agent, network, &cause) < 0)
        log_warn("network", "a bridge of a VLAN that was not recorded stays", "bridge", network->bridge);
    hosts_put(call->server->hosts, agent);
    return rc;
}

int vlan_unmake(struct call *call, struct ref ref, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *now = store_snapshot(call->server->store);
    const struct vlan_row *vlan = vlan_row(snapshot_get(now, CLASS_VLAN, ref));
    const struct pif_row *pif = vlan ? pif_row(snapshot_get(now, CLASS_PIF, vlan->untagged_PIF)) : NULL;
    if (!vlan)
        return fail_handle(err, CLASS_VLAN, ref);
    if (pif && (pif_check_not_management(pif, err) < 0 || pif_check_no_tunnels(pif, err) < 0 ||
                pif_check_no_guests(now, pif->network, pif->host, err) < 0 ||
                pif_remove_bridge(call, now, pif, err) < 0))
        return -1;
    struct tx *tx = store_begin(call->server->store);
    if (tx_get(tx, CLASS_VLAN, ref))
        tx_delete(tx, CLASS_VLAN, ref);
    if (pif && tx_get(tx, CLASS_PIF, pif->row.ref))
        tx_delete(tx, CLASS_PIF, pif->row.ref);
    return server_commit(tx, err);
}

int handle_vlan_create(struct call *call, const struct vlan_create_args *args, struct ref *result,
                       struct api_err *err)
{
    struct ref untagged;
    return vlan_make(call, args->tagged_PIF, args->tag, args->network, result, &untagged, err);
}

int handle_vlan_destroy(struct call *call, const struct vlan_destroy_args *args, struct api_err *err)
{
    return vlan_unmake(call, args->self, err);
}

/* The record alone, of two interfaces that are there. */
int handle_vlan_pool_introduce(struct call *call, const struct vlan_pool_introduce_args *args,
                               struct ref *result, struct api_err *err)
{
    char text[24];
    if (!pif_find(call, args->tagged_PIF, err) || !pif_find(call, args->untagged_PIF, err))
        return -1;
    if (args->tag < 0 || args->tag > TAG_MAX) {
        snprintf(text, sizeof(text), "%lld", (long long)args->tag);
        return err_vlan_tag_invalid(err, text);
    }
    struct tx *tx = store_begin(call->server->store);
    struct vlan_row *vlan = vlan_row_mut(tx_create(tx, CLASS_VLAN));
    vlan->tagged_PIF = args->tagged_PIF;
    vlan->untagged_PIF = args->untagged_PIF;
    vlan->tag = args->tag;
    str_map_assign(&vlan->other_config, str_map_ref(args->other_config));
    if (tx_get(tx, CLASS_PIF, args->untagged_PIF))
        pif_row_mut(tx_edit(tx, CLASS_PIF, args->untagged_PIF))->VLAN_master_of = vlan->row.ref;
    *result = vlan->row.ref;
    return server_commit(tx, err);
}

/* ---- on every host ---- */

struct hosts_pifs {
    const struct snapshot *snap;
    struct ref network; /* the PIF's; null: by device */
    const char *device;
    const struct ref_set *found; /* one a host that is alive */
};

static bool is_live(const struct snapshot *snap, struct ref ref)
{
    const struct host_row *host = host_row(snapshot_get(snap, CLASS_host, ref));
    const struct host_metrics_row *metrics =
        host ? host_metrics_row(snapshot_get(snap, CLASS_host_metrics, host->metrics)) : NULL;
    return metrics && metrics->live;
}

static bool collect(const struct row *row, void *arg)
{
    struct hosts_pifs *h = arg;
    const struct pif_row *pif = pif_row(row);
    bool fits = ref_is_null(h->network) ? pif->VLAN < 0 && streq(pif->device, h->device)
                                        : ref_eq(pif->network, h->network);
    if (fits && is_live(h->snap, pif->host))
        ref_set_assign(&h->found, ref_set_with(h->found, row->ref));
    return true;
}

/* All or none. */
static int make_everywhere(struct call *call, const struct hosts_pifs *on, struct ref network, int64_t tag,
                           const struct ref_set **result, struct api_err *err)
{
    const struct ref_set *pifs = NULL, *vlans = NULL;
    int rc = 0;
    for (size_t i = 0; on->found && i < on->found->count && rc == 0; i++) {
        struct ref vlan, untagged;
        rc = vlan_make(call, on->found->items[i], tag, network, &vlan, &untagged, err);
        if (rc < 0)
            break;
        ref_set_assign(&vlans, ref_set_with(vlans, vlan));
        ref_set_assign(&pifs, ref_set_with(pifs, untagged));
    }
    for (size_t i = 0; rc < 0 && vlans && i < vlans->count; i++) {
        AUTO_API_ERR struct api_err why = API_ERR_INIT;
        if (vlan_unmake(call, vlans->items[i], &why) < 0)
            log_warn("network", "a VLAN stays of those that were to be on every host", "vlan",
                     OBJECT_TEXT(call->server, CLASS_VLAN, vlans->items[i]));
    }
    ref_set_unref(vlans);
    if (rc < 0) {
        ref_set_unref(pifs);
        return -1;
    }
    *result = pifs;
    return 0;
}

int handle_pool_create_VLAN(struct call *call, const struct pool_create_VLAN_args *args,
                            const struct ref_set **result, struct api_err *err)
{
    struct hosts_pifs on = {.snap = call->snapshot, .network = REF_NULL, .device = args->device};
    if (!pif_find_network(call, args->network, err))
        return -1;
    snapshot_each(call->snapshot, CLASS_PIF, collect, &on);
    int rc = on.found ? make_everywhere(call, &on, args->network, args->VLAN, result, err)
                      : err_pif_device_not_found(err);
    ref_set_unref(on.found);
    return rc;
}

int handle_pool_create_VLAN_from_PIF(struct call *call, const struct pool_create_VLAN_from_PIF_args *args,
                                     const struct ref_set **result, struct api_err *err)
{
    const struct pif_row *pif = pif_find(call, args->pif, err);
    const struct network_row *network = pif ? pif_find_network(call, args->network, err) : NULL;
    const struct pif_source from = {.snap = call->snapshot};
    if (!network || check(&from, pif, args->VLAN, network, NULL, err) < 0)
        return -1;
    struct hosts_pifs on = {.snap = call->snapshot, .network = pif->network};
    snapshot_each(call->snapshot, CLASS_PIF, collect, &on);
    int rc = make_everywhere(call, &on, args->network, args->VLAN, result, err);
    ref_set_unref(on.found);
    return rc;
}
