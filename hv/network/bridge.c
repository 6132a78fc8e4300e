/* Bridges, and what leads from one to the outside. */
#include "netlink.h"
#include <base/mem.h>
#include <linux/if.h>
#include <netlink/errno.h>
#include <netlink/route/link/bridge.h>
#include <netlink/route/link/inet6.h>
#include <netlink/route/link/vlan.h>
#include <stdio.h>

#define ALIAS_SIZE 64
#define VLAN_MAX 4094
#define ADDRESSES_NONE 1 /* IN6_ADDR_GEN_MODE_NONE */

static void alias_of(const char *owner, char out[static ALIAS_SIZE])
{
    snprintf(out, ALIAS_SIZE, "corral:%s", owner);
}

static bool is_ours(struct rtnl_link *link, const char *owner)
{
    char alias[ALIAS_SIZE];
    const char *now = rtnl_link_get_ifalias(link);
    alias_of(owner, alias);
    return now && streq(now, alias);
}

/* Adds `link` with the note of its owner; it is found anew as *out. */
static int add_link(struct nl_sock *sock, struct rtnl_link *link, const char *owner, struct rtnl_link **out,
                    struct network_error *error)
{
    char alias[ALIAS_SIZE];
    const char *name = rtnl_link_get_name(link);
    AUTO_FREE char *kept = xstrdup(name);
    alias_of(owner, alias);
    int rc = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
    if (rc < 0 && rc != -NLE_EXIST)
        return network_fail_netlink(error, rc, "make", kept);
    AUTO_LINK struct rtnl_link *made = NULL, *change = rtnl_link_alloc();
    if (link_find(sock, kept, &made, error) != 1)
        return network_fail(error, NETWORK_SYSTEM, "%s vanished as soon as it was made.", kept);
    /* The kernel takes the alias only in a change, and no address of its own before it is up. */
    rtnl_link_set_ifalias(change, alias);
    rtnl_link_inet6_set_addr_gen_mode(change, ADDRESSES_NONE);
    rc = rtnl_link_change(sock, made, change, 0);
    if (rc < 0) {
        rtnl_link_delete(sock, made);
        return network_fail_netlink(error, rc, "change", kept);
    }
    *out = TAKE_PTR(made);
    return 0;
}

static int make_bridge(struct nl_sock *sock, const struct network_bridge *bridge, struct rtnl_link **out,
                       struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = rtnl_link_bridge_alloc();
    rtnl_link_set_name(link, bridge->name);
    return add_link(sock, link, bridge->owner, out, error);
}

static int check_bridge(struct rtnl_link *link, const struct network_bridge *bridge,
                        struct network_error *error)
{
    const char *type = rtnl_link_get_type(link);
    if (!type || !streq(type, "bridge"))
        return network_fail(error, NETWORK_CONFLICT, "%s is there and is no bridge.", bridge->name);
    if (bridge->managed && !is_ours(link, bridge->owner))
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
    return add_link(sock, vlan, bridge->owner, out, error);
}

static int check_port(struct nl_sock *sock, struct rtnl_link *port, struct rtnl_link *link,
                      struct network_error *error)
{
    const char *name = rtnl_link_get_name(port);
    int master = rtnl_link_get_master(port), has = link_has_address(sock, rtnl_link_get_ifindex(port), error);
    if (has < 0)
        return -1;
    if (master > 0 && master != rtnl_link_get_ifindex(link))
        return network_fail(error, NETWORK_CONFLICT, "%s belongs to another bridge or bond.", name);
    if (has)
        return network_fail(
            error, NETWORK_CONFLICT,
            "%s carries addresses of the host: make a bridge of it in the host's own configuration, "
            "and a network with that bridge and managed=false.",
            name);
    return 0;
}

static int ensure_uplink(struct nl_sock *sock, const struct network_bridge *bridge, struct rtnl_link *link,
                         struct network_error *error)
{
    AUTO_LINK struct rtnl_link *uplink = NULL, *vlan = NULL;
    int found = link_find(sock, bridge->uplink, &uplink, error);
    if (found < 0)
        return -1;
    if (!found)
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", bridge->uplink);
    if (bridge->vlan >= 0 && ensure_vlan(sock, uplink, bridge, &vlan, error) < 0)
        return -1;
    struct rtnl_link *port = vlan ? vlan : uplink;
    if (check_port(sock, port, link, error) < 0)
        return -1;
    if (vlan && link_settle(sock, uplink, 0, 0, error) < 0)
        return -1;
    return link_settle(sock, port, 0, rtnl_link_get_ifindex(link), error);
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
    if (*bridge->uplink && ensure_uplink(sock, bridge, link, error) < 0)
        return -1;
    return link_settle(sock, link, bridge->mtu, 0, error);
}

/* ---- removing ---- */

struct ports {
    struct nl_sock *sock;
    int bridge;
    const char *owner;
    bool guests;
    int vlan; /* ifindex of the tagged uplink that was made; 0: none */
};

static void look_at_port(struct rtnl_link *link, struct ports *ports)
{
    if (rtnl_link_get_master(link) != ports->bridge)
        return;
    if (rtnl_link_is_vlan(link) && is_ours(link, ports->owner))
        ports->vlan = rtnl_link_get_ifindex(link);
    else if (rtnl_link_get_type(link) && streq(rtnl_link_get_type(link), "tun"))
        ports->guests = true;
}

static int delete_link(struct nl_sock *sock, int ifindex, const char *what, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = rtnl_link_alloc();
    rtnl_link_set_ifindex(link, ifindex);
    int rc = rtnl_link_delete(sock, link);
    return rc < 0 && rc != -NLE_NODEV && rc != -NLE_OBJ_NOTFOUND
               ? network_fail_netlink(error, rc, "remove", what)
               : 0;
}

int network_bridge_remove(const char *name, const char *owner, struct network_error *error)
{
    struct nl_cache *links;
    if (network_check_name(name, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *link = NULL;
    int found = sock ? link_find(sock, name, &link, error) : -1;
    if (found <= 0 || !is_ours(link, owner))
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
    if (ports.vlan && delete_link(sock, ports.vlan, "the tagged uplink of the bridge", error) < 0)
        return -1;
    return delete_link(sock, ports.bridge, name, error);
}
