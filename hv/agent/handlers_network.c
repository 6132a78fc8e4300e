/* What the calls about networks mean; the work is done by hv/network, or by network_sim.c. */
#include "network_sim.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <hv/network.h>
#include <hv/system.h>
#include <stdio.h>
#include <stdlib.h>

#define INTERFACES_MAX 1024

static int to_hv(struct hv_err *err, const struct network_error *error)
{
    enum hv_err_kind kind = HV_ERR_KIND_IO;
    switch (error->kind) {
    case NETWORK_NOT_ALLOWED:
        kind = HV_ERR_KIND_UNSUPPORTED;
        break;
    case NETWORK_NO_DEVICE:
        kind = HV_ERR_KIND_NOT_FOUND;
        break;
    case NETWORK_CONFLICT:
        kind = HV_ERR_KIND_IN_USE;
        break;
    case NETWORK_BAD_NAME:
        kind = HV_ERR_KIND_BAD_ARGUMENT;
        break;
    case NETWORK_SYSTEM:
        break;
    }
    return hv_fail(err, kind, "%s", error->text);
}

static void sweep(void *arg)
{
    (void)arg;
    network_filters_sweep();
}

void agent_sweep_rules(struct agent *agent)
{
    if (network_filters_used() && worker_submit(agent->workers, sweep, NULL) < 0)
        log_warn("network", "rules of taps that are gone stay until the next time");
}

static bool is_simulated(const struct agent *agent)
{
    return agent->driver == &hv_sim_driver;
}

int agent_network_ensure(struct agent *agent, struct agent_op *op, const struct hv_network_ensure_args *args,
                         struct hv_network_ensure_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    static const enum network_tunnel_kind tunnels[] = {[HOST_TUNNEL_NONE] = NETWORK_NO_TUNNEL,
                                                       [HOST_TUNNEL_GRE] = NETWORK_TUNNEL_GRE,
                                                       [HOST_TUNNEL_VXLAN] = NETWORK_TUNNEL_VXLAN};
    const struct network_bridge bridge = {.name = args->bridge,
                                          .owner = args->network,
                                          .managed = args->managed,
                                          .mtu = args->mtu,
                                          .uplink = args->uplink,
                                          .vlan = (int)args->vlan,
                                          .addresses = args->addresses,
                                          .address_count = args->addresses_count,
                                          .tunnel = {.kind = tunnels[args->tunnel],
                                                     .key = (uint32_t)args->tunnel_key,
                                                     .local = args->tunnel_local,
                                                     .peers = args->tunnel_peers,
                                                     .peer_count = args->tunnel_peers_count}};
    struct network_error error;
    if (is_simulated(agent) && args->tunnel != HOST_TUNNEL_NONE)
        return sim_network_tunnel(agent, args->tunnel_local, err);
    if (is_simulated(agent))
        return *args->uplink ? sim_network_uplink(agent, args->uplink, err) : 0;
    if (network_bridge_ensure(&bridge, &error) < 0)
        return to_hv(err, &error);
    if (args->managed)
        hv_system_bridge_made(agent->system, args->bridge);
    return 0;
}

int agent_network_remove(struct agent *agent, struct agent_op *op, const struct hv_network_remove_args *args,
                         struct hv_network_remove_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    struct network_error error;
    if (is_simulated(agent) || network_bridge_remove(args->bridge, args->network, &error) == 0)
        return 0;
    return to_hv(err, &error);
}

/* ---- interfaces ---- */

/* Name servers of resolv.conf(5), separated by commas. The caller frees. */
static char *name_servers(void)
{
    char *text AUTO_FREE = file_read("/etc/resolv.conf", 1 << 16, NULL);
    struct buf out = BUF_INIT;
    for (char *line, *rest = text; rest && (line = strsep(&rest, "\n"));) {
        char server[64];
        if (sscanf(line, " nameserver %63s", server) == 1 && out.len < 512)
            buf_printf(&out, "%s%s", out.len ? "," : "", server);
    }
    return buf_take(&out);
}

static void tell_interface(const struct network_interface *in, const char *dns, struct host_interface *out)
{
    str_assign(&out->device, in->name);
    str_assign(&out->mac, in->mac);
    out->mtu = in->mtu;
    out->physical = in->physical;
    out->up = in->up;
    out->carrier = in->carrier;
    str_assign(&out->master, in->master);
    out->own_bridge = in->master_is_bridge && !in->master_is_ours;
    out->speed_mbit = in->speed_mbit;
    out->full_duplex = in->full_duplex;
    str_assign(&out->bus, in->bus);
    str_assign(&out->vendor_id, in->vendor_id);
    str_assign(&out->device_id, in->device_id);
    str_assign(&out->address, in->address);
    out->leased = in->leased;
    str_assign(&out->gateway, in->gateway);
    str_assign(&out->dns, *in->gateway || *in->gateway6 ? dns : "");
    for (size_t i = 0; i < in->count6; i++)
        host_interface_add_addresses6(out, in->addresses6[i]);
    out->leased6 = in->leased6;
    str_assign(&out->gateway6, in->gateway6);
}

int agent_network_list(struct agent *agent, struct agent_op *op, const struct hv_network_list_args *args,
                       struct hv_network_list_result *result, struct hv_err *err)
{
    struct network_interface *all;
    struct network_error error;
    size_t count;
    (void)op;
    (void)args;
    if (is_simulated(agent)) {
        sim_network_list(agent, result);
        return 0;
    }
    if (network_interfaces(&all, &count, &error) < 0)
        return to_hv(err, &error);
    char *dns AUTO_FREE = name_servers();
    for (size_t i = 0; i < count; i++)
        if ((all[i].physical || all[i].bond) && result->interfaces_count < INTERFACES_MAX)
            tell_interface(&all[i], dns, hv_network_list_result_add_interfaces(result));
    free(all);
    return 0;
}

int agent_network_link(struct agent *agent, struct agent_op *op, const struct hv_network_link_args *args,
                       struct hv_network_link_result *result, struct hv_err *err)
{
    struct network_error error;
    (void)op;
    (void)result;
    if (is_simulated(agent))
        return sim_network_link(agent, args->device, args->up, err);
    return network_link_set(args->device, args->up, &error) < 0 ? to_hv(err, &error) : 0;
}

int agent_network_offload(struct agent *agent, struct agent_op *op,
                          const struct hv_network_offload_args *args,
                          struct hv_network_offload_result *result, struct hv_err *err)
{
    struct network_error error;
    (void)op;
    (void)result;
    if (is_simulated(agent))
        return sim_network_uplink(agent, args->device, err);
    return network_gro_set(args->device, args->gro, &error) < 0 ? to_hv(err, &error) : 0;
}

int agent_network_addresses(struct agent *agent, struct agent_op *op,
                            const struct hv_network_addresses_args *args,
                            struct hv_network_addresses_result *result, struct hv_err *err)
{
    const struct network_addresses addresses = {.wanted = args->addresses,
                                                .wanted_count = args->addresses_count,
                                                .former = args->former,
                                                .former_count = args->former_count,
                                                .gateway = args->gateway,
                                                .gateway6 = args->gateway6};
    struct network_error error;
    (void)op;
    (void)result;
    if (is_simulated(agent))
        return sim_network_addresses(agent, args, err);
    return network_addresses_set(args->device, &addresses, &error) < 0 ? to_hv(err, &error) : 0;
}

int agent_network_bond(struct agent *agent, struct agent_op *op, const struct hv_network_bond_args *args,
                       struct hv_network_bond_result *result, struct hv_err *err)
{
    static const enum network_bond_mode modes[] = {[HOST_BOND_MODE_BALANCE_SLB] = NETWORK_BOND_BALANCE_SLB,
                                                   [HOST_BOND_MODE_ACTIVE_BACKUP] =
                                                       NETWORK_BOND_ACTIVE_BACKUP,
                                                   [HOST_BOND_MODE_LACP] = NETWORK_BOND_LACP};
    const struct network_bond bond = {.name = args->device,
                                      .owner = args->owner,
                                      .members = args->members,
                                      .member_count = args->members_count,
                                      .mode = modes[args->mode],
                                      .properties = args->properties,
                                      .mac = args->mac};
    struct network_error error;
    (void)op;
    (void)result;
    if (!is_simulated(agent))
        return network_bond_ensure(&bond, &error) < 0 ? to_hv(err, &error) : 0;
    struct network_bond_options options;
    if (network_bond_options(&bond, &options, &error) < 0)
        return to_hv(err, &error);
    return sim_network_bond(agent, args, err);
}

int agent_network_unbond(struct agent *agent, struct agent_op *op, const struct hv_network_unbond_args *args,
                         struct hv_network_unbond_result *result, struct hv_err *err)
{
    struct network_error error;
    (void)op;
    (void)result;
    if (is_simulated(agent)) {
        sim_network_unbond(agent, args->device);
        return 0;
    }
    return network_bond_remove(args->device, args->owner, &error) < 0 ? to_hv(err, &error) : 0;
}
