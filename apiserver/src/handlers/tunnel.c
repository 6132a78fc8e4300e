/* tunnel.*: a network between hosts that another one carries. Each host with an inner end is told of the
 * others', whenever one comes or goes and before each use of the network. */
#include "../plan/mac.h"
#include "pif.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- create ---- */

static int check_transport(const struct pif_source *from, const struct pif_row *transport,
                           struct api_err *err)
{
    const char *self = REF_TEXT(transport->row.ref);
    char address[64];
    if (!ref_is_null(transport->bond_slave_of))
        return err_cannot_add_tunnel_to_bond_slave(err, self);
    if (pif_is_tunnel_access(transport))
        return err_is_tunnel_access_pif(err, self);
    if (transport->sriov_logical_PIF_of && transport->sriov_logical_PIF_of->count)
        return err_cannot_add_tunnel_to_sriov_logical(err, self);
    const struct vlan_row *vlan = vlan_row(pif_get(from, CLASS_VLAN, transport->VLAN_master_of));
    const struct pif_row *tagged = vlan ? pif_row(pif_get(from, CLASS_PIF, vlan->tagged_PIF)) : NULL;
    if (tagged && tagged->sriov_logical_PIF_of && tagged->sriov_logical_PIF_of->count)
        return err_cannot_add_tunnel_to_vlan_on_sriov_logical(err, self);
    return plan_tunnel_address(transport, address) ? 0 : err_transport_pif_not_configured(err, self);
}

/* Its other interfaces are inner ends of the same protocol, and no other network's key is its own. */
static int check_network(const struct pif_source *from, const struct network_row *network,
                         enum tunnel_protocol protocol, struct api_err *err)
{
    if (!network->managed)
        return err_network_unmanaged(err, REF_TEXT(network->row.ref));
    for (size_t i = 0; network->PIFs && i < network->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(pif_get(from, CLASS_PIF, network->PIFs->items[i]));
        const struct ref_set *tunnels = pif ? pif->tunnel_access_PIF_of : NULL;
        const struct tunnel_row *tunnel =
            tunnels && tunnels->count ? tunnel_row(pif_get(from, CLASS_tunnel, tunnels->items[0])) : NULL;
        if (pif && (!tunnel || tunnel->protocol != protocol))
            return err_network_incompatible_with_tunnel(err, REF_TEXT(network->row.ref));
    }
    return 0;
}

struct same_key {
    struct tx *tx;
    const struct network_row *network;
    bool taken;
};

static bool compare_key(const struct row *row, void *arg)
{
    struct same_key *s = arg;
    const struct pif_row *access = pif_row(tx_get(s->tx, CLASS_PIF, tunnel_row(row)->access_PIF));
    const struct network_row *other =
        access ? network_row(tx_get(s->tx, CLASS_network, access->network)) : NULL;
    s->taken = other && !ref_eq(other->row.ref, s->network->row.ref) &&
               plan_tunnel_key(other) == plan_tunnel_key(s->network);
    return !s->taken;
}

static bool compare_device(const struct row *row, void *arg)
{
    int number, *next = arg;
    if (sscanf(pif_row(row)->device, "tunnel%d", &number) == 1 && number >= *next)
        *next = number + 1;
    return true;
}

static void add_rows(struct tx *tx, const struct pif_row *transport, const struct network_row *network,
                     enum tunnel_protocol protocol, struct ref *out)
{
    int number = 0;
    char mac[MAC_TEXT_SIZE];
    tx_each(tx, CLASS_PIF, compare_device, &number);
    struct tunnel_row *tunnel = tunnel_row_mut(tx_create(tx, CLASS_tunnel));
    struct pif_row *pif = pif_row_mut(tx_create(tx, CLASS_PIF));
    AUTO_STR const char *device = str_newf("tunnel%d", number);
    mac_from_seed(pif->uuid, "0", mac);
    str_assign(&pif->device, device);
    str_assign(&pif->device_name, device);
    str_assign(&pif->MAC, mac);
    pif->network = network->row.ref;
    pif->host = transport->host;
    pif->MTU = network->MTU;
    pif->VLAN = -1;
    pif->physical = false;
    pif->managed = true;
    pif->currently_attached = false;
    pif->metrics = transport->metrics;
    tunnel->access_PIF = pif->row.ref;
    tunnel->transport_PIF = transport->row.ref;
    tunnel->protocol = protocol;
    str_map_put(&tunnel->status, "active", "false");
    *out = tunnel->row.ref;
}

static int record(struct call *call, const struct tunnel_create_args *args, struct ref *out,
                  struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct pif_source from = {.tx = tx};
    const struct pif_row *transport = pif_row(tx_get(tx, CLASS_PIF, args->transport_PIF));
    const struct network_row *network = network_row(tx_get(tx, CLASS_network, args->network));
    struct same_key same = {.tx = tx, .network = network};
    int rc = !transport ? fail_handle(err, CLASS_PIF, args->transport_PIF)
             : !network ? fail_handle(err, CLASS_network, args->network)
                        : check_transport(&from, transport, err);
    if (rc == 0)
        rc = pif_check_network_free(&from, network, transport->host, err);
    if (rc == 0)
        rc = check_network(&from, network, args->protocol, err);
    if (rc == 0) {
        tx_each(tx, CLASS_tunnel, compare_key, &same);
        rc = same.taken ? err_network_incompatible_with_tunnel(err, REF_TEXT(args->network)) : 0;
    }
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    add_rows(tx, transport, network, args->protocol, out);
    return server_commit(tx, err);
}

/* ---- on hosts ---- */

static int bring_up(struct server *server, const struct snapshot *snap, const struct pif_row *access,
                    struct api_err *err)
{
    struct hv_host *agent = hosts_get(server->hosts, access->host, err);
    int rc = agent ? pif_bring_up(agent, snap, access, err) : -1;
    if (agent)
        hosts_put(server->hosts, agent);
    return rc;
}

/* Hosts that have the network hear of an end that came or went; those that are away will before they use it.
 */
static void tell_others(struct server *server, struct ref network_ref, struct ref host)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct network_row *network = network_row(snapshot_get(snap, CLASS_network, network_ref));
    for (size_t i = 0; network && network->PIFs && i < network->PIFs->count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, network->PIFs->items[i]));
        if (pif && !ref_eq(pif->host, host) && pif->currently_attached &&
            bring_up(server, snap, pif, &err) < 0)
            log_warn("network", "a host did not hear of the other end of a tunnel", "host",
                     OBJECT_TEXT(server, CLASS_host, pif->host), "network", network->uuid, "cause", err.code);
    }
}

static int record_active(struct server *server, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct tunnel_row *tunnel = tunnel_row(tx_get(tx, CLASS_tunnel, ref));
    if (!tunnel) {
        tx_abort(tx);
        return fail_handle(err, CLASS_tunnel, ref);
    }
    const struct pif_row *pif = pif_row(tx_get(tx, CLASS_PIF, tunnel->access_PIF));
    const struct network_row *network = network_row(tx_get(tx, CLASS_network, pif ? pif->network : REF_NULL));
    AUTO_STR const char *key = str_newf("%u", network ? plan_tunnel_key(network) : 0);
    struct tunnel_row *edit = tunnel_row_mut(tx_edit(tx, CLASS_tunnel, ref));
    str_map_put(&edit->status, "active", "true");
    str_map_put(&edit->status, "key", key);
    if (pif)
        pif_row_mut(tx_edit(tx, CLASS_PIF, pif->row.ref))->currently_attached = true;
    return server_commit(tx, err);
}

static int remove_rows(struct server *server, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct tunnel_row *tunnel = tunnel_row(tx_get(tx, CLASS_tunnel, ref));
    struct ref access = tunnel ? tunnel->access_PIF : REF_NULL;
    if (tunnel)
        tx_delete(tx, CLASS_tunnel, ref);
    if (tx_get(tx, CLASS_PIF, access))
        tx_delete(tx, CLASS_PIF, access); /* the metrics are those of the interface below */
    return server_commit(tx, err);
}

int handle_tunnel_create(struct call *call, const struct tunnel_create_args *args, struct ref *result,
                         struct api_err *err)
{
    struct ref made;
    if (!pif_find(call, args->transport_PIF, err) || !pif_find_network(call, args->network, err) ||
        record(call, args, &made, err) < 0)
        return -1;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct tunnel_row *tunnel = tunnel_row(snapshot_get(snap, CLASS_tunnel, made));
    const struct pif_row *access = tunnel ? pif_row(snapshot_get(snap, CLASS_PIF, tunnel->access_PIF)) : NULL;
    int rc = access ? bring_up(call->server, snap, access, err) : fail_handle(err, CLASS_tunnel, made);
    if (rc == 0)
        rc = record_active(call->server, made, err);
    if (rc < 0) {
        AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
        if (remove_rows(call->server, made, &ignored) < 0)
            log_warn("network", "the record of a tunnel that was not made stays", "tunnel",
                     OBJECT_TEXT(call->server, CLASS_tunnel, made));
        return -1;
    }
    tell_others(call->server, access->network, access->host);
    *result = made;
    return 0;
}

/* ---- destroy ---- */

int handle_tunnel_destroy(struct call *call, const struct tunnel_destroy_args *args, struct api_err *err)
{
    const struct snapshot *snap = call->snapshot;
    const struct tunnel_row *tunnel = tunnel_row(snapshot_get(snap, CLASS_tunnel, args->self));
    const struct pif_row *access = tunnel ? pif_row(snapshot_get(snap, CLASS_PIF, tunnel->access_PIF)) : NULL;
    if (!tunnel)
        return fail_handle(err, CLASS_tunnel, args->self);
    if (access && (pif_check_not_management(access, err) < 0 ||
                   pif_check_no_guests(snap, access->network, access->host, err) < 0 ||
                   pif_remove_bridge(call, snap, access, err) < 0))
        return -1;
    if (remove_rows(call->server, args->self, err) < 0)
        return -1;
    if (access)
        tell_others(call->server, access->network, access->host);
    return 0;
}
