/* What hosts are asked for is idempotent and remembered by nobody: it is asked for before each use. */
#include "networks.h"

#include "../plan/domain.h"
#include "hosts.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

#define PREPARE_MS 30000

static int fail(struct api_err *err, struct ref host, const struct network_row *network,
                const struct hv_err *cause)
{
    switch (cause->kind) {
    case HV_ERR_KIND_NOT_FOUND:
    case HV_ERR_KIND_IN_USE:
    case HV_ERR_KIND_BAD_ARGUMENT:
    case HV_ERR_KIND_UNSUPPORTED:
    case HV_ERR_KIND_IO:
        log_warn("network", "a host cannot attach a network", "host", REF_TEXT(host), "network",
                 network->uuid, "bridge", network->bridge, "cause", cause->text);
        return err_host_cannot_attach_network(err, REF_TEXT(host), REF_TEXT(network->row.ref));
    default:
        return hosts_fail(err, host, cause);
    }
}

/* What the interface of the network on this host adds. */
static void add_uplink(struct hv_network_ensure_args *args, const struct uplink *uplink)
{
    struct uplink_addresses addresses = {.count = 0};
    str_assign(&args->uplink, uplink->device);
    args->vlan = uplink->vlan;
    if (uplink->pif && uplink->vlan < 0)
        plan_addresses(uplink->pif, &addresses);
    for (size_t i = 0; i < addresses.count; i++)
        hv_network_ensure_args_add_addresses(args, addresses.text[i]);
    if (!uplink->tunnel)
        return;
    args->tunnel = uplink->tunnel->protocol == TUNNEL_PROTOCOL_VXLAN ? HOST_TUNNEL_VXLAN : HOST_TUNNEL_GRE;
    args->tunnel_key = uplink->tunnel_key;
    str_assign(&args->tunnel_local, uplink->tunnel_local);
    for (size_t i = 0; i < uplink->tunnel_peer_count; i++)
        hv_network_ensure_args_add_tunnel_peers(args, uplink->tunnel_peers[i]);
}

int network_ensure(struct hv_host *agent, const struct network_row *network, const struct uplink *uplink,
                   struct hv_err *cause)
{
    struct hv_network_ensure_args args;
    struct hv_network_ensure_result result;
    const struct hv_op op = {.timeout_ms = PREPARE_MS};
    hv_network_ensure_args_init(&args);
    str_assign(&args.network, network->uuid);
    str_assign(&args.bridge, network->bridge);
    args.managed = network->managed;
    args.mtu = network->MTU;
    if (network->managed)
        add_uplink(&args, uplink);
    int rc = hv_network_ensure(agent, &op, &args, &result, cause);
    hv_network_ensure_args_done(&args);
    if (rc == 0)
        hv_network_ensure_result_done(&result);
    return rc;
}

int network_prepare(struct hv_host *agent, struct ref host, const struct snapshot *snap,
                    const struct network_row *network, struct api_err *err)
{
    AUTO_UPLINK struct uplink uplink = {.device = ""};
    struct hv_err cause;
    if (plan_nic_kind(network) != NIC_KIND_BRIDGE)
        return 0;
    if (!plan_uplink(snap, network, host, &uplink)) {
        log_info("network", "a host has no interface on a network", "host", REF_TEXT(host), "network",
                 network->uuid);
        return err_host_cannot_attach_network(err, REF_TEXT(host), REF_TEXT(network->row.ref));
    }
    return network_ensure(agent, network, &uplink, &cause) < 0 ? fail(err, host, network, &cause) : 0;
}

/* The same of all networks that the VM has cards on. */
static int networks_prepare(struct hv_host *agent, struct ref host, const struct snapshot *snap,
                            const struct vm_row *vm, struct api_err *err)
{
    for (size_t i = 0; vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(snap, CLASS_VIF, vm->VIFs->items[i]));
        const struct network_row *network =
            vif ? network_row(snapshot_get(snap, CLASS_network, vif->network)) : NULL;
        if (network && network_prepare(agent, host, snap, network, err) < 0)
            return -1;
    }
    return 0;
}

struct hv_host *networks_host(struct server *server, struct ref host, const struct snapshot *snap,
                              const struct vm_row *vm, struct api_err *err)
{
    struct hv_host *agent = hosts_get(server->hosts, host, err);
    if (agent && networks_prepare(agent, host, snap, vm, err) < 0) {
        hosts_put(server->hosts, agent);
        agent = NULL;
    }
    return agent;
}

int network_remove(struct hv_host *agent, const struct network_row *network, struct hv_err *cause)
{
    struct hv_network_remove_args args;
    struct hv_network_remove_result result;
    const struct hv_op op = {.timeout_ms = PREPARE_MS};
    if (plan_nic_kind(network) != NIC_KIND_BRIDGE || !network->managed)
        return 0;
    hv_network_remove_args_init(&args);
    str_assign(&args.network, network->uuid);
    str_assign(&args.bridge, network->bridge);
    int rc = hv_network_remove(agent, &op, &args, &result, cause);
    hv_network_remove_args_done(&args);
    if (rc == 0)
        hv_network_remove_result_done(&result);
    return rc;
}

struct withdrawal {
    struct server *server;
    const struct network_row *network;
};

static bool withdraw_from(const struct row *row, void *arg)
{
    const struct withdrawal *w = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(w->server->hosts, row->ref, &err);
    if (!agent) {
        log_info("network", "the bridge of a network stays on a host that does not answer", "host",
                 OBJECT_TEXT(w->server, CLASS_host, row->ref), "bridge", w->network->bridge);
        return true;
    }
    if (network_remove(agent, w->network, &cause) < 0)
        log_warn("network", "the bridge of a network could not be removed", "host",
                 OBJECT_TEXT(w->server, CLASS_host, row->ref), "bridge", w->network->bridge, "cause",
                 cause.text);
    hosts_put(w->server->hosts, agent);
    return true;
}

void network_withdraw(struct server *server, const struct network_row *network)
{
    struct withdrawal w = {server, network};
    if (plan_nic_kind(network) != NIC_KIND_BRIDGE || !network->managed)
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    snapshot_each(snap, CLASS_host, withdraw_from, &w);
}
