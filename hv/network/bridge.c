/* Bridges, and what leads from one to the outside. */
#include "netlink.h"
#include "tunnel.h"
#include <base/log.h>
#include <base/mem.h>
#include <linux/if.h>
#include <netlink/errno.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/vlan.h>
#include <netlink/route/link/vxlan.h>
#include <stdio.h>

#define VLAN_MAX 4094

static int make_bridge(struct nl_sock *sock, const struct network_bridge *bridge, struct rtnl_link **out,
                       struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = rtnl_link_bridge_alloc();
    rtnl_link_set_name(link, bridge->name);
    return link_add(sock, link, bridge->owner, out, error);
}

static int check_bridge(struct rtnl_link *link, const struct network_bridge *bridge,
                        struct network_error *error)
{
    const char *type = rtnl_link_get_type(link);
    if (!type || !streq(type, "bridge"))
        return network_fail(error, NETWORK_CONFLICT, "%s is there and is no bridge.", bridge->name);
    if (bridge->managed && !link_is_ours(link, bridge->owner))
        return network_fail(error, NETWORK_CONFLICT,
                            "The bridge %s is the host's own: use it with a network whose managed is false.",
                            bridge->name);
    return 0;
}

/* "eth0.5", or with the number of the interface if that is too long. */
static void vlan_name(struct rtnl_link *uplink, int vlan, char out[static NETWORK_NAME_SIZE])
{
    int len = snprintf(out, NETWORK_NAME_SIZE, "%.10s.%d", rtnl_link_get_name(uplink), vlan);
    if (len >= NETWORK_NAME_SIZE || strlen(rtnl_link_get_name(uplink)) > 10)
        snprintf(out, NETWORK_NAME_SIZE, "if%d.%d", rtnl_link_get_ifindex(uplink), vlan);
}

/* The interface that takes frames of this tag from the uplink. */
static int ensure_vlan(struct nl_sock *sock, struct rtnl_link *uplink, const struct network_bridge *bridge,
                       struct rtnl_link **out, struct network_error *error)
{
    char name[NETWORK_NAME_SIZE];
    vlan_name(uplink, bridge->vlan, name);
    AUTO_LINK struct rtnl_link *link = NULL;
    int found = link_find(sock, name, &link, error);
    if (found < 0)
        return -1;
    if (found) {
        if (!rtnl_link_is_vlan(link) || rtnl_link_vlan_get_id(link) != bridge->vlan ||
            rtnl_link_get_link(link) != rtnl_link_get_ifindex(uplink))
            return network_fail(error, NETWORK_CONFLICT, "%s is there and is something else.", name);
        *out = TAKE_PTR(link);
        return 0;
    }
    AUTO_LINK struct rtnl_link *vlan = rtnl_link_vlan_alloc();
    rtnl_link_set_name(vlan, name);
    rtnl_link_set_link(vlan, rtnl_link_get_ifindex(uplink));
    rtnl_link_vlan_set_id(vlan, (uint16_t)bridge->vlan);
    return link_add(sock, vlan, bridge->owner, out, error);
}

/* *moves: it carries addresses that go with it. */
static int check_port(struct nl_sock *sock, struct rtnl_link *port, struct rtnl_link *link,
                      const struct network_bridge *bridge, bool *moves, struct network_error *error)
{
    const char *name = rtnl_link_get_name(port);
    int ifindex = rtnl_link_get_ifindex(port), master = rtnl_link_get_master(port);
    int strange = link_strange_addresses(sock, ifindex, bridge->addresses, bridge->address_count, error);
    int all = link_strange_addresses(sock, ifindex, NULL, 0, error);
    if (strange < 0 || all < 0)
        return -1;
    if (master > 0 && master != rtnl_link_get_ifindex(link))
        return network_fail(error, NETWORK_CONFLICT, "%s belongs to another bridge or bond.", name);
    if (strange)
        return network_fail(
            error, NETWORK_CONFLICT,
            "%s carries addresses of the host: make a bridge of it in the host's own configuration, "
            "which the pool will then use.",
            name);
    *moves = all > 0;
    return 0;
}

static int ensure_uplink(struct nl_sock *sock, const struct network_bridge *bridge, struct rtnl_link *link,
                         struct network_error *error)
{
    AUTO_LINK struct rtnl_link *uplink = NULL, *vlan = NULL;
    if (bridge->tunnel.kind != NETWORK_NO_TUNNEL && tunnel_ensure(sock, bridge, error) < 0)
        return -1;
    int found = link_find(sock, bridge->uplink, &uplink, error);
    if (found < 0)
        return -1;
    if (!found)
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", bridge->uplink);
    if (bridge->vlan >= 0 && ensure_vlan(sock, uplink, bridge, &vlan, error) < 0)
        return -1;
    struct rtnl_link *port = vlan ? vlan : uplink;
    bool moves = false;
    if (check_port(sock, port, link, bridge, &moves, error) < 0)
        return -1;
    if (vlan && link_settle(sock, uplink, 0, 0, error) < 0)
        return -1;
    if (link_settle(sock, port, 0, rtnl_link_get_ifindex(link), error) < 0)
        return -1;
    return moves ? link_move_addresses(sock, rtnl_link_get_ifindex(port), rtnl_link_get_ifindex(link), error)
                 : 0;
}

/* A bridge that leads nowhere is of no use: it goes, and what was wrong is what is told. */
static void unmake_bridge(const struct network_bridge *bridge)
{
    struct network_error error;
    if (network_bridge_remove(bridge->name, bridge->owner, &error) < 0)
        log_warn("network", "a bridge that was made for nothing stays", "bridge", bridge->name, "cause",
                 error.text);
}

int network_bridge_ensure(const struct network_bridge *bridge, struct network_error *error)
{
    if (network_check_name(bridge->name, error) < 0)
        return -1;
    if (*bridge->uplink && network_check_name(bridge->uplink, error) < 0)
        return -1;
    if (bridge->vlan > VLAN_MAX)
        return network_fail(error, NETWORK_BAD_NAME, "A tag is from 0 to %d.", VLAN_MAX);
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *link = NULL;
    int found = sock ? link_find(sock, bridge->name, &link, error) : -1;
    if (found < 0 || (found && check_bridge(link, bridge, error) < 0))
        return -1;
    if (!found && !bridge->managed)
        return network_fail(error, NETWORK_NO_DEVICE,
                            "The host has no bridge %s; it is made in the host's own configuration.",
                            bridge->name);
    if (!bridge->managed)
        return 0;
    if (!found && make_bridge(sock, bridge, &link, error) < 0)
        return -1;
    if ((*bridge->uplink && ensure_uplink(sock, bridge, link, error) < 0) ||
        link_settle(sock, link, bridge->mtu, 0, error) < 0) {
        if (!found)
            unmake_bridge(bridge);
        return -1;
    }
    return 0;
}

/* ---- removing ---- */

struct ports {
    struct nl_sock *sock;
    int bridge;
    const char *owner;
    bool guests;
    int made; /* ifindex of the tagged uplink or tunnel that was made; 0: none */
};

static void look_at_port(struct rtnl_link *link, struct ports *ports)
{
    if (rtnl_link_get_master(link) != ports->bridge)
        return;
    if ((rtnl_link_is_vlan(link) || rtnl_link_is_vxlan(link)) && link_is_ours(link, ports->owner))
        ports->made = rtnl_link_get_ifindex(link);
    else if (rtnl_link_get_type(link) && streq(rtnl_link_get_type(link), "tun"))
        ports->guests = true;
}

int network_bridge_remove(const char *name, const char *owner, struct network_error *error)
{
    struct nl_cache *links;
    if (network_check_name(name, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *link = NULL;
    int found = sock ? link_find(sock, name, &link, error) : -1;
    if (found <= 0 || !link_is_ours(link, owner))
        return found < 0 ? -1 : 0;
    int rc = rtnl_link_alloc_cache(sock, AF_UNSPEC, &links);
    if (rc < 0)
        return network_fail_netlink(error, rc, "list", "interfaces");
    struct ports ports = {.sock = sock, .bridge = rtnl_link_get_ifindex(link), .owner = owner};
    for (struct nl_object *o = nl_cache_get_first(links); o; o = nl_cache_get_next(o))
        look_at_port((struct rtnl_link *)o, &ports);
    nl_cache_free(links);
    if (ports.guests)
        return network_fail(error, NETWORK_CONFLICT, "Guests are on the bridge %s.", name);
    if (ports.made && link_delete(sock, ports.made, "the uplink that was made for the bridge", error) < 0)
        return -1;
    return link_delete(sock, ports.bridge, name, error);
}
