/* A network's interface on a host: a device or bond, a VLAN over one, or the inner end of a tunnel. */
#include "uplink.h"

#include <arpa/inet.h>
#include <base/mem.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- tunnels ---- */

void uplink_done(struct uplink *uplink)
{
    free(uplink->tunnel_peers);
    uplink->tunnel_peers = NULL;
    uplink->tunnel_peer_count = 0;
}

unsigned plan_tunnel_key(const struct network_row *network)
{
    unsigned key = 0;
    sscanf(network->uuid, "%6x", &key);
    return key ? key : 1;
}

bool plan_tunnel_address(const struct pif_row *transport, char out[static 64])
{
    const char *ip = transport->IP;
    if (!*ip && transport->IPv6 && transport->IPv6->count)
        ip = transport->IPv6->items[0];
    snprintf(out, 64, "%.*s", (int)strcspn(ip, "/"), ip);
    return *out != '\0';
}

static const struct tunnel_row *tunnel_of(const struct snapshot *snap, const struct pif_row *pif)
{
    const struct ref_set *tunnels = pif->tunnel_access_PIF_of;
    return tunnels && tunnels->count ? tunnel_row(snapshot_get(snap, CLASS_tunnel, tunnels->items[0])) : NULL;
}

static const struct pif_row *transport_of(const struct snapshot *snap, const struct tunnel_row *tunnel)
{
    return tunnel ? pif_row(snapshot_get(snap, CLASS_PIF, tunnel->transport_PIF)) : NULL;
}

static bool plan_tunnel(const struct snapshot *snap, const struct network_row *network, struct uplink *out)
{
    const struct pif_row *transport = transport_of(snap, out->tunnel);
    if (!transport || !plan_tunnel_address(transport, out->tunnel_local))
        return false;
    out->tunnel_key = plan_tunnel_key(network);
    out->tunnel_peers = xcalloc(UPLINK_PEERS, sizeof(*out->tunnel_peers));
    for (size_t i = 0; i < network->PIFs->count && out->tunnel_peer_count < UPLINK_PEERS; i++) {
        const struct pif_row *other = pif_row(snapshot_get(snap, CLASS_PIF, network->PIFs->items[i]));
        const struct tunnel_row *tunnel = other && other != out->pif ? tunnel_of(snap, other) : NULL;
        const struct pif_row *from = transport_of(snap, tunnel);
        if (from && tunnel->protocol == out->tunnel->protocol &&
            plan_tunnel_address(from, out->tunnel_peers[out->tunnel_peer_count]))
            out->tunnel_peer_count++;
    }
    return true;
}

/* ---- any interface ---- */

static bool uplink_of(const struct snapshot *snap, const struct network_row *network,
                      const struct pif_row *pif, struct uplink *out)
{
    *out = (struct uplink){.pif = pif, .device = pif->device, .vlan = -1, .tunnel = tunnel_of(snap, pif)};
    if (out->tunnel)
        return plan_tunnel(snap, network, out);
    if (pif->VLAN < 0)
        return true;
    const struct vlan_row *vlan = vlan_row(snapshot_get(snap, CLASS_VLAN, pif->VLAN_master_of));
    const struct pif_row *below = vlan ? pif_row(snapshot_get(snap, CLASS_PIF, vlan->tagged_PIF)) : NULL;
    if (!below)
        return false;
    out->device = below->device;
    out->vlan = (int)pif->VLAN;
    return true;
}

bool plan_uplink(const struct snapshot *snap, const struct network_row *network, struct ref host,
                 struct uplink *out)
{
    size_t elsewhere = 0;
    for (size_t i = 0; network->PIFs && i < network->PIFs->count; i++) {
        const struct pif_row *pif = pif_row(snapshot_get(snap, CLASS_PIF, network->PIFs->items[i]));
        if (pif && ref_eq(pif->host, host) && ref_is_null(pif->bond_slave_of))
            return uplink_of(snap, network, pif, out);
        elsewhere += pif != NULL;
    }
    *out = (struct uplink){.device = "", .vlan = -1};
    return elsewhere == 0;
}

int netmask_length(const char *netmask)
{
    struct in_addr address;
    if (inet_pton(AF_INET, netmask, &address) != 1)
        return -1;
    uint32_t bits = ntohl(address.s_addr), rest = ~bits;
    return (rest & (rest + 1)) == 0 ? __builtin_popcount(bits) : -1;
}

void netmask_text(int length, char out[static 16])
{
    struct in_addr address = {.s_addr = htonl(length > 0 ? UINT32_MAX << (32 - length) : 0)};
    inet_ntop(AF_INET, &address, out, 16);
}

void plan_addresses(const struct pif_row *pif, struct uplink_addresses *out)
{
    out->count = 0;
    if (!pif->configured)
        return;
    if (*pif->IP && netmask_length(pif->netmask) > 0)
        snprintf(out->text[out->count++], sizeof(out->text[0]), "%s/%d", pif->IP,
                 netmask_length(pif->netmask));
    for (size_t i = 0; pif->IPv6 && i < pif->IPv6->count && out->count < UPLINK_ADDRESSES; i++)
        snprintf(out->text[out->count++], sizeof(out->text[0]), "%s", pif->IPv6->items[i]);
}
