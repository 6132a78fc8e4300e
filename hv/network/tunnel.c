/* A VXLAN: one interface a network, with a list of the hosts at its other ends. It learns which guest is
 * behind which host; frames for all, or for one that it does not know yet, go to each. Hosts never pass on
 * what came from another one, so there are no loops. */
#include "tunnel.h"
#include <base/mem.h>
#include <linux/if_ether.h>
#include <linux/neighbour.h>
#include <netlink/route/link/vxlan.h>
#include <netlink/route/neighbour.h>

#define VXLAN_PORT 4789 /* as registered for it */

static int parse(const char *text, struct nl_addr **out, struct network_error *error)
{
    int rc = nl_addr_parse(text, AF_UNSPEC, out);
    if (rc < 0 || (nl_addr_get_family(*out) != AF_INET && nl_addr_get_family(*out) != AF_INET6)) {
        if (rc >= 0)
            nl_addr_put(*out);
        return network_fail(error, NETWORK_BAD_NAME, "An end of a tunnel has an address like 192.0.2.5.");
    }
    return 0;
}

static int make(struct nl_sock *sock, const struct network_bridge *bridge, struct rtnl_link **out,
                struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = rtnl_link_vxlan_alloc();
    struct nl_addr *local;
    if (parse(bridge->tunnel.local, &local, error) < 0)
        return -1;
    rtnl_link_set_name(link, bridge->uplink);
    rtnl_link_vxlan_set_id(link, bridge->tunnel.key);
    rtnl_link_vxlan_set_local(link, local);
    rtnl_link_vxlan_set_port(link, VXLAN_PORT);
    nl_addr_put(local);
    return link_add(sock, link, bridge->owner, out, error);
}

/* The entry for frames that go to all. */
static struct rtnl_neigh *entry(int ifindex, struct nl_addr *peer)
{
    static const unsigned char all[ETH_ALEN];
    struct nl_addr *address = nl_addr_build(AF_LLC, all, sizeof(all));
    struct rtnl_neigh *neigh = rtnl_neigh_alloc();
    rtnl_neigh_set_dst(neigh, peer); /* sets the family, too: so it comes first */
    rtnl_neigh_set_family(neigh, AF_BRIDGE);
    rtnl_neigh_set_ifindex(neigh, ifindex);
    rtnl_neigh_set_lladdr(neigh, address);
    rtnl_neigh_set_state(neigh, NUD_PERMANENT | NUD_NOARP);
    rtnl_neigh_set_flags(neigh, NTF_SELF);
    nl_addr_put(address);
    return neigh;
}

static bool is_peer(const struct network_tunnel *tunnel, struct nl_addr *address)
{
    char text[NETWORK_ADDRESS_SIZE];
    nl_addr2str(address, text, sizeof(text));
    for (size_t i = 0; i < tunnel->peer_count; i++)
        if (streq(tunnel->peers[i], text))
            return true;
    return false;
}

static int drop_strangers(struct nl_sock *sock, int ifindex, const struct network_tunnel *tunnel,
                          struct network_error *error)
{
    struct nl_cache *all;
    int rc = rtnl_neigh_alloc_cache_flags(sock, &all, NL_CACHE_AF_ITER);
    if (rc < 0)
        return network_fail_netlink(error, rc, "list", "the ends of a tunnel");
    for (struct nl_object *o = nl_cache_get_first(all); o; o = nl_cache_get_next(o)) {
        struct rtnl_neigh *seen = (struct rtnl_neigh *)o;
        struct nl_addr *mac = rtnl_neigh_get_lladdr(seen), *to = rtnl_neigh_get_dst(seen);
        if (rtnl_neigh_get_family(seen) != AF_BRIDGE || rtnl_neigh_get_ifindex(seen) != ifindex || !mac ||
            !nl_addr_iszero(mac) || !to || is_peer(tunnel, to))
            continue;
        struct rtnl_neigh *gone = entry(ifindex, to);
        rc = rtnl_neigh_delete(sock, gone, 0);
        rtnl_neigh_put(gone);
        if (rc < 0 && rc != -NLE_OBJ_NOTFOUND)
            break;
        rc = 0;
    }
    nl_cache_free(all);
    return rc < 0 ? network_fail_netlink(error, rc, "change", "the ends of a tunnel") : 0;
}

static int add_peer(struct nl_sock *sock, int ifindex, const char *text, struct network_error *error)
{
    struct nl_addr *peer;
    if (parse(text, &peer, error) < 0)
        return -1;
    struct rtnl_neigh *neigh = entry(ifindex, peer);
    int rc = rtnl_neigh_add(sock, neigh, NLM_F_CREATE | NLM_F_APPEND);
    rtnl_neigh_put(neigh);
    nl_addr_put(peer);
    return rc < 0 && rc != -NLE_EXIST ? network_fail_netlink(error, rc, "change", "the ends of a tunnel") : 0;
}

int tunnel_ensure(struct nl_sock *sock, const struct network_bridge *bridge, struct network_error *error)
{
    const struct network_tunnel *tunnel = &bridge->tunnel;
    AUTO_LINK struct rtnl_link *link = NULL;
    uint32_t key = 0;
    if (tunnel->kind != NETWORK_TUNNEL_VXLAN)
        return network_fail(
            error, NETWORK_NOT_ALLOWED,
            "This host carries networks over VXLAN, not over GRE: choose the protocol vxlan.");
    int found = link_find(sock, bridge->uplink, &link, error);
    if (found < 0)
        return -1;
    if (found && (!rtnl_link_is_vxlan(link) || !link_is_ours(link, bridge->owner) ||
                  rtnl_link_vxlan_get_id(link, &key) < 0 || key != tunnel->key))
        return network_fail(error, NETWORK_CONFLICT, "%s is there and is something else.", bridge->uplink);
    if (!found && make(sock, bridge, &link, error) < 0)
        return -1;
    int ifindex = rtnl_link_get_ifindex(link);
    int rc = drop_strangers(sock, ifindex, tunnel, error);
    for (size_t i = 0; i < tunnel->peer_count && rc == 0; i++)
        rc = add_peer(sock, ifindex, tunnel->peers[i], error);
    return rc;
}
