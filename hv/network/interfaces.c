/* What interfaces the host has, with what a person wants to know of each. An interface that is a port of a
 * bridge has the addresses of that bridge: that is where the host's own traffic over it goes. */
#include "netlink.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

struct kernel {
    struct nl_cache *links, *addresses, *routes;
};

static void kernel_done(struct kernel *k)
{
    nl_cache_free(k->links);
    nl_cache_free(k->addresses);
    nl_cache_free(k->routes);
}

static int kernel_read(struct kernel *k, struct network_error *error)
{
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    *k = (struct kernel){0};
    if (!sock)
        return -1;
    int rc = rtnl_link_alloc_cache(sock, AF_UNSPEC, &k->links);
    if (rc == 0)
        rc = rtnl_addr_alloc_cache(sock, &k->addresses);
    if (rc == 0)
        rc = rtnl_route_alloc_cache(sock, AF_UNSPEC, 0, &k->routes);
    if (rc == 0)
        return 0;
    kernel_done(k);
    return network_fail_netlink(error, rc, "list", "interfaces");
}

/* The end of a pair whose other end is another namespace's, with the name of a device: what a container has
 * for a network card. The host's ends of such pairs have other names. */
static bool is_containers_card(struct rtnl_link *link)
{
    int32_t elsewhere;
    const char *type = rtnl_link_get_type(link), *name = rtnl_link_get_name(link);
    return type && streq(type, "veth") && rtnl_link_get_link_netnsid(link, &elsewhere) == 0 &&
           (strncmp(name, "eth", 3) == 0 || strncmp(name, "en", 2) == 0);
}

/* Interfaces made by software say of what kind they are; those of hardware do not. */
static bool is_physical(struct rtnl_link *link)
{
    if (rtnl_link_get_arptype(link) != ARPHRD_ETHER)
        return false;
    return rtnl_link_get_type(link) == NULL || is_containers_card(link);
}

static void take_master(struct rtnl_link *link, const struct kernel *k, struct network_interface *out)
{
    if (rtnl_link_get_master(link) <= 0)
        return;
    AUTO_LINK struct rtnl_link *master = rtnl_link_get(k->links, rtnl_link_get_master(link));
    if (!master)
        return;
    const char *type = rtnl_link_get_type(master), *alias = rtnl_link_get_ifalias(master);
    snprintf(out->master, sizeof(out->master), "%s", rtnl_link_get_name(master));
    out->master_is_bridge = type && streq(type, "bridge");
    out->master_is_ours = alias && strncmp(alias, "corral:", 7) == 0;
}

/* ---- addresses and routes ---- */

static bool is_carrier(int ifindex, struct rtnl_link *link, const struct network_interface *seen)
{
    return ifindex == rtnl_link_get_ifindex(link) ||
           (seen->master_is_bridge && ifindex == rtnl_link_get_master(link));
}

static void take_address(struct rtnl_addr *address, struct network_interface *out)
{
    char text[NETWORK_ADDRESS_SIZE];
    bool leased = !(rtnl_addr_get_flags(address) & IFA_F_PERMANENT);
    if (rtnl_addr_get_scope(address) == RT_SCOPE_LINK || rtnl_addr_get_scope(address) == RT_SCOPE_HOST)
        return;
    nl_addr2str(rtnl_addr_get_local(address), text, sizeof(text));
    if (rtnl_addr_get_family(address) == AF_INET && !*out->address) {
        snprintf(out->address, sizeof(out->address), "%s", text);
        out->leased = leased;
    } else if (rtnl_addr_get_family(address) == AF_INET6 && out->count6 < NETWORK_ADDRESSES6) {
        snprintf(out->addresses6[out->count6++], NETWORK_ADDRESS_SIZE, "%s", text);
        out->leased6 = out->leased6 || leased;
    }
}

static void take_addresses(struct rtnl_link *link, const struct kernel *k, struct network_interface *out)
{
    for (struct nl_object *o = nl_cache_get_first(k->addresses); o; o = nl_cache_get_next(o))
        if (is_carrier(rtnl_addr_get_ifindex((struct rtnl_addr *)o), link, out))
            take_address((struct rtnl_addr *)o, out);
}

static bool is_default_route(struct rtnl_route *route)
{
    struct nl_addr *to = rtnl_route_get_dst(route);
    return rtnl_route_get_table(route) == RT_TABLE_MAIN && rtnl_route_get_type(route) == RTN_UNICAST &&
           (!to || nl_addr_get_prefixlen(to) == 0) && rtnl_route_get_nnexthops(route) == 1;
}

static void take_gateways(struct rtnl_link *link, const struct kernel *k, struct network_interface *out)
{
    for (struct nl_object *o = nl_cache_get_first(k->routes); o; o = nl_cache_get_next(o)) {
        struct rtnl_route *route = (struct rtnl_route *)o;
        if (!is_default_route(route))
            continue;
        struct rtnl_nexthop *hop = rtnl_route_nexthop_n(route, 0);
        struct nl_addr *gateway = hop ? rtnl_route_nh_get_gateway(hop) : NULL;
        if (!gateway || !is_carrier(rtnl_route_nh_get_ifindex(hop), link, out))
            continue;
        char *slot = rtnl_route_get_family(route) == AF_INET ? out->gateway : out->gateway6;
        if (!*slot)
            nl_addr2str(gateway, slot, NETWORK_ADDRESS_SIZE);
    }
}

/* ---- hardware ---- */

static int ask_driver(int sock, const char *name, void *command)
{
    struct ifreq request = {.ifr_data = command};
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    return ioctl(sock, SIOCETHTOOL, &request);
}

int network_gro_set(const char *device, bool on, struct network_error *error)
{
    struct ethtool_value value = {.cmd = ETHTOOL_SGRO, .data = on};
    int sock AUTO_CLOSE = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (network_check_name(device, error) < 0)
        return -1;
    if (ask_driver(sock, device, &value) == 0)
        return 0;
    if (errno == ENODEV)
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", device);
    return network_fail(error, errno == EPERM || errno == EOPNOTSUPP ? NETWORK_NOT_ALLOWED : NETWORK_SYSTEM,
                        "The kernel refused to change %s: %s.", device, strerror(errno));
}

static void read_number(const char *bus, const char *what, char out[static 8])
{
    char path[128];
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", bus, what);
    char *text AUTO_FREE = file_read(path, 64, NULL);
    if (text && strncmp(text, "0x", 2) == 0)
        snprintf(out, 8, "%.6s", text);
}

static void take_hardware(int sock, struct network_interface *out)
{
    struct ethtool_cmd settings = {.cmd = ETHTOOL_GSET};
    struct ethtool_drvinfo driver = {.cmd = ETHTOOL_GDRVINFO};
    if (ask_driver(sock, out->name, &settings) == 0) {
        /* The header's own function shifts a signed number. */
        uint32_t speed = (uint32_t)settings.speed_hi << 16 | settings.speed;
        out->speed_mbit = speed == (uint32_t)SPEED_UNKNOWN || speed == UINT16_MAX ? 0 : speed;
        out->full_duplex = settings.duplex == DUPLEX_FULL;
    }
    if (!out->physical || ask_driver(sock, out->name, &driver) < 0)
        return;
    snprintf(out->bus, sizeof(out->bus), "%.31s", driver.bus_info);
    if (*out->bus && !strchr(out->bus, '/')) {
        read_number(out->bus, "vendor", out->vendor_id);
        read_number(out->bus, "device", out->device_id);
    }
}

/* ---- all ---- */

static void take_link(int sock, struct rtnl_link *link, const struct kernel *k, struct network_interface *out)
{
    const char *type = rtnl_link_get_type(link);
    snprintf(out->name, sizeof(out->name), "%s", rtnl_link_get_name(link));
    if (rtnl_link_get_addr(link))
        nl_addr2str(rtnl_link_get_addr(link), out->mac, sizeof(out->mac));
    out->mtu = rtnl_link_get_mtu(link);
    out->physical = is_physical(link);
    out->bond = type && streq(type, "bond");
    out->up = rtnl_link_get_flags(link) & IFF_UP;
    out->carrier = rtnl_link_get_flags(link) & IFF_LOWER_UP;
    take_master(link, k, out);
    take_addresses(link, k, out);
    take_gateways(link, k, out);
    if (out->physical || out->bond)
        take_hardware(sock, out);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct network_interface *)a)->name, ((const struct network_interface *)b)->name);
}

int network_interfaces(struct network_interface **out, size_t *count, struct network_error *error)
{
    struct kernel k;
    int sock AUTO_CLOSE = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (kernel_read(&k, error) < 0)
        return -1;
    struct network_interface *items = xcalloc((size_t)nl_cache_nitems(k.links) + 1, sizeof(*items));
    size_t found = 0;
    for (struct nl_object *o = nl_cache_get_first(k.links); o; o = nl_cache_get_next(o))
        if (!(rtnl_link_get_flags((struct rtnl_link *)o) & IFF_LOOPBACK))
            take_link(sock, (struct rtnl_link *)o, &k, &items[found++]);
    kernel_done(&k);
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
