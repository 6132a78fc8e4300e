/* Taps. Nothing has to be remembered of them: they vanish with their descriptor, and which card one belongs
 * to is noted on it. */
#include "filter.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netlink/addr.h>
#include <netlink/route/link/inet6.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/random.h>

#define ADDRESSES_NONE 1
/* The highest there is: a bridge takes the lowest address of its ports for its own, and must not change it
 * when guests come and go. */
#define TAP_MAC "fe:ff:ff:ff:ff:ff"

static void note_of(const struct network_card *card, char out[static ALIAS_SIZE])
{
    snprintf(out, ALIAS_SIZE, "corral:%s:%d", card->owner, card->index);
}

/* On this bridge from now on; nothing passes a closed one, for it is switched off. */
static int place(struct nl_sock *sock, struct rtnl_link *tap, struct rtnl_link *bridge,
                 const struct network_card *card, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *change = rtnl_link_alloc();
    bool closed = card->locking == NETWORK_CLOSED;
    if (!closed)
        return link_settle(sock, tap, rtnl_link_get_mtu(bridge), rtnl_link_get_ifindex(bridge), error);
    rtnl_link_set_mtu(change, rtnl_link_get_mtu(bridge));
    rtnl_link_set_master(change, rtnl_link_get_ifindex(bridge));
    rtnl_link_unset_flags(change, IFF_UP);
    int rc = rtnl_link_change(sock, tap, change, 0);
    return rc < 0 ? network_fail_netlink(error, rc, "change", rtnl_link_get_name(tap)) : 0;
}

static int join(struct nl_sock *sock, struct rtnl_link *bridge, const char *name,
                const struct network_card *card, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *tap = NULL, *change = rtnl_link_alloc();
    struct nl_addr *mac = NULL;
    char note[ALIAS_SIZE];
    int found = link_find(sock, name, &tap, error);
    if (found <= 0)
        return found < 0 ? -1 : network_fail(error, NETWORK_SYSTEM, "The tap %s is not there.", name);
    if (nl_addr_parse(TAP_MAC, AF_LLC, &mac) < 0)
        return network_fail(error, NETWORK_SYSTEM, "The tap %s gets no address.", name);
    note_of(card, note);
    rtnl_link_set_addr(change, mac);
    nl_addr_put(mac);
    rtnl_link_set_ifalias(change, note);
    rtnl_link_inet6_set_addr_gen_mode(change, ADDRESSES_NONE);
    int rc = rtnl_link_change(sock, tap, change, 0);
    if (rc < 0)
        return network_fail_netlink(error, rc, "change", name);
    if (filter_apply(name, card, true, error) < 0)
        return -1;
    return place(sock, tap, bridge, card, error);
}

static int find_bridge(struct nl_sock *sock, const char *name, struct rtnl_link **out,
                       struct network_error *error)
{
    AUTO_LINK struct rtnl_link *bridge = NULL;
    int found = link_find(sock, name, &bridge, error);
    if (found < 0)
        return -1;
    if (!found || !rtnl_link_get_type(bridge) || !streq(rtnl_link_get_type(bridge), "bridge"))
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no bridge %s.", name);
    *out = TAKE_PTR(bridge);
    return 0;
}

/* A name that no tap had before: what is left of one, anywhere, says nothing of another. */
static int choose_name(char out[static IFNAMSIZ], struct network_error *error)
{
    unsigned char digits[5];
    if (getrandom(digits, sizeof(digits), 0) != (ssize_t)sizeof(digits))
        return network_fail(error, NETWORK_SYSTEM, "A tap got no name: %s.", strerror(errno));
    snprintf(out, IFNAMSIZ, TAP_PREFIX "%02x%02x%02x%02x%02x", digits[0], digits[1], digits[2], digits[3],
             digits[4]);
    return 0;
}

int network_tap_open(const char *bridge_name, const struct network_card *card, int *fd,
                     struct network_error *error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    if (network_check_name(bridge_name, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *bridge = NULL;
    if (!sock || find_bridge(sock, bridge_name, &bridge, error) < 0 ||
        choose_name(request.ifr_name, error) < 0)
        return -1;
    AUTO_CLOSE int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tap < 0)
        return network_fail(error, errno == EACCES ? NETWORK_NOT_ALLOWED : NETWORK_SYSTEM,
                            "The kernel's taps cannot be reached: %s.", strerror(errno));
    if (ioctl(tap, TUNSETIFF, &request) < 0)
        return network_fail(error, errno == EPERM ? NETWORK_NOT_ALLOWED : NETWORK_SYSTEM,
                            "A tap could not be made: %s.", strerror(errno));
    if (join(sock, bridge, request.ifr_name, card, error) < 0)
        return -1;
    *fd = TAKE_FD(tap);
    return 0;
}

/* The tap with the card's note. */
static int find_tap(struct nl_sock *sock, const struct network_card *card, struct rtnl_link **out,
                    struct network_error *error)
{
    struct nl_cache *links;
    char note[ALIAS_SIZE];
    note_of(card, note);
    int rc = rtnl_link_alloc_cache(sock, AF_UNSPEC, &links);
    if (rc < 0)
        return network_fail_netlink(error, rc, "list", "interfaces");
    AUTO_LINK struct rtnl_link *found = NULL;
    for (struct nl_object *o = nl_cache_get_first(links); o && !found; o = nl_cache_get_next(o)) {
        struct rtnl_link *link = (struct rtnl_link *)o;
        const char *alias = rtnl_link_get_ifalias(link);
        if (alias && streq(alias, note)) {
            nl_object_get(o);
            found = link;
        }
    }
    nl_cache_free(links);
    if (!found)
        return network_fail(error, NETWORK_NO_DEVICE, "The card has no tap on the host.");
    *out = TAKE_PTR(found);
    return 0;
}

int network_tap_change(const char *bridge_name, const struct network_card *card, struct network_error *error)
{
    if (network_check_name(bridge_name, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *bridge = NULL, *tap = NULL;
    if (!sock || find_bridge(sock, bridge_name, &bridge, error) < 0 ||
        find_tap(sock, card, &tap, error) < 0 ||
        filter_apply(rtnl_link_get_name(tap), card, false, error) < 0)
        return -1;
    return place(sock, tap, bridge, card, error);
}
