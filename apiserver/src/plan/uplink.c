/* A network's interface on a host: a device or bond, or a VLAN over one. */
#include "uplink.h"

#include <arpa/inet.h>
#include <base/mem.h>
#include <stdio.h>

static bool uplink_of(const struct snapshot *snap, const struct pif_row *pif, struct uplink *out)
{
    *out = (struct uplink){.pif = pif, .device = pif->device, .vlan = -1};
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
            return uplink_of(snap, pif, out);
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
