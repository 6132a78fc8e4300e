/* Addresses of the host on its interfaces, and the routes that go with them. */
#include "netlink.h"
#include <arpa/inet.h>
#include <base/mem.h>
#include <linux/if.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <stdio.h>

#define OUR_METRIC 20000 /* of default routes that we add: behind all that the host has of its own */

static bool counts(struct rtnl_addr *address, int ifindex)
{
    return rtnl_addr_get_ifindex(address) == ifindex && rtnl_addr_get_scope(address) != RT_SCOPE_LINK;
}

/* "192.0.2.5/24" in the one form that the kernel's addresses have as text. False: it is none. */
static bool normal_form(const char *text, char out[static NETWORK_ADDRESS_SIZE])
{
    struct nl_addr *address;
    if (!strchr(text, '/') || nl_addr_parse(text, AF_UNSPEC, &address) < 0)
        return false;
    int family = nl_addr_get_family(address);
    unsigned most = family == AF_INET ? 32 : 128;
    bool fits = nl_addr_get_prefixlen(address) > 0 && nl_addr_get_prefixlen(address) <= most;
    nl_addr2str(address, out, NETWORK_ADDRESS_SIZE);
    nl_addr_put(address);
    return fits && (family == AF_INET || family == AF_INET6);
}

static bool is_listed(struct rtnl_addr *address, const char *const *list, size_t count)
{
    char text[NETWORK_ADDRESS_SIZE], one[NETWORK_ADDRESS_SIZE];
    nl_addr2str(rtnl_addr_get_local(address), text, sizeof(text));
    for (size_t i = 0; i < count; i++)
        if (normal_form(list[i], one) && streq(one, text))
            return true;
    return false;
}

static void cache_free_cleanup(struct nl_cache **cache)
{
    nl_cache_free(*cache);
}
#define AUTO_CACHE __attribute__((cleanup(cache_free_cleanup)))

static int read_addresses(struct nl_sock *sock, struct nl_cache **out, struct network_error *error)
{
    int rc = rtnl_addr_alloc_cache(sock, out);
    return rc < 0 ? network_fail_netlink(error, rc, "list", "addresses") : 0;
}

int link_strange_addresses(struct nl_sock *sock, int ifindex, const char *const *known, size_t known_count,
                           struct network_error *error)
{
    AUTO_CACHE struct nl_cache *cache = NULL;
    int found = 0;
    if (read_addresses(sock, &cache, error) < 0)
        return -1;
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o))
        found +=
            counts((struct rtnl_addr *)o, ifindex) && !is_listed((struct rtnl_addr *)o, known, known_count);
    return found;
}

/* ---- moving ---- */

static int add_address(struct nl_sock *sock, int ifindex, struct nl_addr *local, struct network_error *error)
{
    char text[NETWORK_ADDRESS_SIZE];
    struct rtnl_addr *address = rtnl_addr_alloc();
    rtnl_addr_set_ifindex(address, ifindex);
    rtnl_addr_set_local(address, local);
    int rc = rtnl_addr_add(sock, address, 0);
    rtnl_addr_put(address);
    nl_addr2str(local, text, sizeof(text));
    return rc < 0 && rc != -NLE_EXIST ? network_fail_netlink(error, rc, "set", text) : 0;
}

static int delete_address(struct nl_sock *sock, struct rtnl_addr *address, struct network_error *error)
{
    char text[NETWORK_ADDRESS_SIZE];
    int rc = rtnl_addr_delete(sock, address, 0);
    nl_addr2str(rtnl_addr_get_local(address), text, sizeof(text));
    return rc < 0 && rc != -NLE_NOADDR && rc != -NLE_OBJ_NOTFOUND
               ? network_fail_netlink(error, rc, "remove", text)
               : 0;
}

/* One that an administrator or a program added, not one that follows from an address. */
static bool leads_over(struct rtnl_route *route, int ifindex)
{
    struct rtnl_nexthop *hop = rtnl_route_get_nnexthops(route) == 1 ? rtnl_route_nexthop_n(route, 0) : NULL;
    return hop && rtnl_route_nh_get_ifindex(hop) == ifindex &&
           rtnl_route_get_protocol(route) != RTPROT_KERNEL && rtnl_route_get_type(route) == RTN_UNICAST &&
           !(rtnl_route_get_flags(route) & RTM_F_CLONED);
}

static int add_routes(struct nl_sock *sock, struct nl_cache *routes, int from, int to,
                      struct network_error *error)
{
    for (struct nl_object *o = nl_cache_get_first(routes); o; o = nl_cache_get_next(o)) {
        struct rtnl_route *route = (struct rtnl_route *)o;
        if (!leads_over(route, from))
            continue;
        rtnl_route_delete(sock, route, 0); /* perhaps gone already, with its address */
        rtnl_route_nh_set_ifindex(rtnl_route_nexthop_n(route, 0), to);
        int rc = rtnl_route_add(sock, route, NLM_F_CREATE);
        if (rc < 0 && rc != -NLE_EXIST)
            return network_fail_netlink(error, rc, "set", "a route");
    }
    return 0;
}

int link_move_addresses(struct nl_sock *sock, int from, int to, struct network_error *error)
{
    AUTO_CACHE struct nl_cache *addresses = NULL, *routes = NULL;
    AUTO_LINK struct rtnl_link *target = NULL;
    int rc = rtnl_link_get_kernel(sock, to, NULL, &target);
    if (rc < 0)
        return network_fail_netlink(error, rc, "look at", "the bridge");
    /* Routes need a way that is up. */
    if (link_settle(sock, target, 0, 0, error) < 0 || read_addresses(sock, &addresses, error) < 0)
        return -1;
    rc = rtnl_route_alloc_cache(sock, AF_UNSPEC, 0, &routes);
    if (rc < 0)
        return network_fail_netlink(error, rc, "list", "routes");
    for (struct nl_object *o = nl_cache_get_first(addresses); o; o = nl_cache_get_next(o)) {
        struct rtnl_addr *address = (struct rtnl_addr *)o;
        if (counts(address, from) && (delete_address(sock, address, error) < 0 ||
                                      add_address(sock, to, rtnl_addr_get_local(address), error) < 0))
            return -1;
    }
    return add_routes(sock, routes, from, to, error);
}

/* ---- setting ---- */

static int check_texts(const struct network_addresses *a, struct network_error *error)
{
    char text[NETWORK_ADDRESS_SIZE];
    unsigned char bytes[16];
    for (size_t i = 0; i < a->wanted_count; i++)
        if (!normal_form(a->wanted[i], text))
            return network_fail(error, NETWORK_BAD_NAME, "An address has the form 192.0.2.5/24.");
    if ((*a->gateway && inet_pton(AF_INET, a->gateway, bytes) != 1) ||
        (*a->gateway6 && inet_pton(AF_INET6, a->gateway6, bytes) != 1))
        return network_fail(error, NETWORK_BAD_NAME, "A gateway has the form 192.0.2.1.");
    return 0;
}

static bool has(struct nl_cache *cache, int ifindex, const char *wanted)
{
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o))
        if (counts((struct rtnl_addr *)o, ifindex) && is_listed((struct rtnl_addr *)o, &wanted, 1))
            return true;
    return false;
}

static int put_addresses(struct nl_sock *sock, int ifindex, const struct network_addresses *a,
                         struct network_error *error)
{
    AUTO_CACHE struct nl_cache *cache = NULL;
    if (read_addresses(sock, &cache, error) < 0)
        return -1;
    for (struct nl_object *o = nl_cache_get_first(cache); o; o = nl_cache_get_next(o)) {
        struct rtnl_addr *address = (struct rtnl_addr *)o;
        if (counts(address, ifindex) && !is_listed(address, a->wanted, a->wanted_count) &&
            delete_address(sock, address, error) < 0)
            return -1;
    }
    for (size_t i = 0; i < a->wanted_count; i++) {
        struct nl_addr *local;
        if (has(cache, ifindex, a->wanted[i]))
            continue;
        if (nl_addr_parse(a->wanted[i], AF_UNSPEC, &local) < 0)
            return network_fail(error, NETWORK_BAD_NAME, "An address has the form 192.0.2.5/24.");
        int rc = add_address(sock, ifindex, local, error);
        nl_addr_put(local);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static struct rtnl_route *default_route(int family, int ifindex)
{
    struct nl_addr *everywhere;
    struct rtnl_route *route = rtnl_route_alloc();
    struct rtnl_nexthop *hop = rtnl_route_nh_alloc();
    rtnl_route_set_family(route, (uint8_t)family);
    rtnl_route_set_table(route, RT_TABLE_MAIN);
    rtnl_route_set_protocol(route, RTPROT_STATIC);
    rtnl_route_set_priority(route, OUR_METRIC + (uint32_t)ifindex);
    if (nl_addr_parse("default", family, &everywhere) == 0) {
        rtnl_route_set_dst(route, everywhere);
        nl_addr_put(everywhere);
    }
    rtnl_route_nh_set_ifindex(hop, ifindex);
    rtnl_route_add_nexthop(route, hop);
    return route;
}

static int put_gateway(struct nl_sock *sock, int family, int ifindex, const char *gateway,
                       struct network_error *error)
{
    struct nl_addr *through = NULL;
    struct rtnl_route *route = default_route(family, ifindex);
    int rc = rtnl_route_delete(sock, route, 0);
    rtnl_route_put(route);
    if (rc < 0 && rc != -NLE_OBJ_NOTFOUND && rc != -NLE_FAILURE)
        return network_fail_netlink(error, rc, "remove", "a default route");
    if (!*gateway)
        return 0;
    route = default_route(family, ifindex);
    if (nl_addr_parse(gateway, family, &through) == 0) {
        rtnl_route_nh_set_gateway(rtnl_route_nexthop_n(route, 0), through);
        nl_addr_put(through);
    }
    rc = rtnl_route_add(sock, route, NLM_F_CREATE);
    rtnl_route_put(route);
    return rc < 0 && rc != -NLE_EXIST ? network_fail_netlink(error, rc, "reach", gateway) : 0;
}

/* The interface, or the bridge of ours that it is a port of. */
static int find_carrier(struct nl_sock *sock, const char *device, struct rtnl_link **out,
                        struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = NULL, *master = NULL;
    if (network_check_name(device, error) < 0)
        return -1;
    int found = link_find(sock, device, &link, error);
    if (found <= 0)
        return found < 0 ? -1
                         : network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", device);
    if (rtnl_link_get_master(link) > 0) {
        if (rtnl_link_get_kernel(sock, rtnl_link_get_master(link), NULL, &master) < 0 ||
            !link_is_ours(master, NULL))
            return network_fail(error, NETWORK_CONFLICT,
                                "%s is a port of a bridge that the host has of its own.", device);
        *out = TAKE_PTR(master);
        return 0;
    }
    *out = TAKE_PTR(link);
    return 0;
}

int network_addresses_set(const char *device, const struct network_addresses *a, struct network_error *error)
{
    AUTO_NETLINK struct nl_sock *sock = check_texts(a, error) < 0 ? NULL : netlink_open(error);
    AUTO_LINK struct rtnl_link *carrier = NULL;
    if (!sock || find_carrier(sock, device, &carrier, error) < 0)
        return -1;
    int ifindex = rtnl_link_get_ifindex(carrier);
    size_t count = a->wanted_count + a->former_count;
    const char **known AUTO_FREE = xcalloc(count + 1, sizeof(*known));
    for (size_t i = 0; i < count; i++)
        known[i] = i < a->wanted_count ? a->wanted[i] : a->former[i - a->wanted_count];
    int strange = link_strange_addresses(sock, ifindex, known, count, error);
    if (strange < 0)
        return -1;
    if (strange)
        return network_fail(error, NETWORK_CONFLICT,
                            "%s carries addresses of the host's own configuration: change them there.",
                            device);
    if (link_settle(sock, carrier, 0, 0, error) < 0 || put_addresses(sock, ifindex, a, error) < 0 ||
        put_gateway(sock, AF_INET, ifindex, a->gateway, error) < 0)
        return -1;
    return put_gateway(sock, AF_INET6, ifindex, a->gateway6, error);
}

int network_link_set(const char *device, bool up, struct network_error *error)
{
    AUTO_NETLINK struct nl_sock *sock = network_check_name(device, error) < 0 ? NULL : netlink_open(error);
    AUTO_LINK struct rtnl_link *link = NULL, *change = rtnl_link_alloc();
    int found = sock ? link_find(sock, device, &link, error) : -1;
    if (found <= 0)
        return found < 0 ? -1
                         : network_fail(error, NETWORK_NO_DEVICE, "The host has no interface %s.", device);
    if (up)
        return link_settle(sock, link, 0, 0, error);
    int strange = link_strange_addresses(sock, rtnl_link_get_ifindex(link), NULL, 0, error);
    if (strange < 0)
        return -1;
    if (strange || rtnl_link_get_master(link) > 0)
        return network_fail(error, NETWORK_CONFLICT,
                            "%s carries addresses of the host or is in use: it stays on.", device);
    rtnl_link_unset_flags(change, IFF_UP);
    int rc = rtnl_link_change(sock, link, change, 0);
    return rc < 0 ? network_fail_netlink(error, rc, "switch off", device) : 0;
}
