/* What interfaces the host has. */
#include "netlink.h"
#include <base/mem.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <netinet/in.h>
#include <netlink/route/addr.h>
#include <stdio.h>
#include <stdlib.h>

/* Interfaces made by software say of what kind they are; those of hardware do not. */
static bool is_physical(struct rtnl_link *link)
{
    return rtnl_link_get_type(link) == NULL && rtnl_link_get_arptype(link) == ARPHRD_ETHER;
}

static void take_address(struct nl_cache *addresses, int ifindex, struct network_interface *out)
{
    for (struct nl_object *o = nl_cache_get_first(addresses); o; o = nl_cache_get_next(o)) {
        struct rtnl_addr *address = (struct rtnl_addr *)o;
        if (rtnl_addr_get_ifindex(address) != ifindex || rtnl_addr_get_family(address) != AF_INET)
            continue;
        nl_addr2str(rtnl_addr_get_local(address), out->address, sizeof(out->address));
        return;
    }
}

static void take_link(struct rtnl_link *link, struct nl_cache *addresses, struct network_interface *out)
{
    snprintf(out->name, sizeof(out->name), "%s", rtnl_link_get_name(link));
    if (rtnl_link_get_addr(link))
        nl_addr2str(rtnl_link_get_addr(link), out->mac, sizeof(out->mac));
    out->mtu = rtnl_link_get_mtu(link);
    out->physical = is_physical(link);
    out->carrier = rtnl_link_get_flags(link) & IFF_LOWER_UP;
    take_address(addresses, rtnl_link_get_ifindex(link), out);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct network_interface *)a)->name, ((const struct network_interface *)b)->name);
}

int network_interfaces(struct network_interface **out, size_t *count, struct network_error *error)
{
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    struct nl_cache *links, *addresses;
    int rc = sock ? rtnl_link_alloc_cache(sock, AF_UNSPEC, &links) : 0;
    if (!sock || rc < 0)
        return sock ? network_fail_netlink(error, rc, "list", "interfaces") : -1;
    rc = rtnl_addr_alloc_cache(sock, &addresses);
    if (rc < 0) {
        nl_cache_free(links);
        return network_fail_netlink(error, rc, "list", "addresses");
    }
    struct network_interface *items = xcalloc((size_t)nl_cache_nitems(links) + 1, sizeof(*items));
    size_t found = 0;
    for (struct nl_object *o = nl_cache_get_first(links); o; o = nl_cache_get_next(o))
        if (!(rtnl_link_get_flags((struct rtnl_link *)o) & IFF_LOOPBACK))
            take_link((struct rtnl_link *)o, addresses, &items[found++]);
    nl_cache_free(addresses);
    nl_cache_free(links);
    qsort(items, found, sizeof(*items), by_name);
    *out = items;
    *count = found;
    return 0;
}

bool network_allowed(struct network_error *why)
{
    AUTO_NETLINK struct nl_sock *sock = netlink_open(why);
    AUTO_LINK struct rtnl_link *lo = NULL, *change = rtnl_link_alloc();
    if (!sock || link_find(sock, "lo", &lo, why) != 1)
        return false;
    /* A change that changes nothing is refused as well to who may not. */
    rtnl_link_set_flags(change, rtnl_link_get_flags(lo) & IFF_UP);
    int rc = rtnl_link_change(sock, lo, change, 0);
    if (rc < 0)
        network_fail_netlink(why, rc, "change", "lo");
    return rc == 0;
}
