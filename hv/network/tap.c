/* Taps. The kernel names them; nothing has to be remembered, for they vanish with their descriptor. */
#include "netlink.h"
#include <base/file.h>
#include <base/mem.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netlink/addr.h>
#include <netlink/route/link/inet6.h>
#include <sys/ioctl.h>

#define ADDRESSES_NONE 1
/* The highest there is: a bridge takes the lowest address of its ports for its own, and must not change it
 * when guests come and go. */
#define TAP_MAC "fe:ff:ff:ff:ff:ff"

static int join(struct nl_sock *sock, struct rtnl_link *bridge, const char *name, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *tap = NULL, *change = rtnl_link_alloc();
    struct nl_addr *mac = NULL;
    int found = link_find(sock, name, &tap, error);
    if (found <= 0)
        return found < 0 ? -1 : network_fail(error, NETWORK_SYSTEM, "The tap %s is not there.", name);
    if (nl_addr_parse(TAP_MAC, AF_LLC, &mac) < 0)
        return network_fail(error, NETWORK_SYSTEM, "The tap %s gets no address.", name);
    rtnl_link_set_addr(change, mac);
    nl_addr_put(mac);
    rtnl_link_set_ifalias(change, "corral");
    rtnl_link_inet6_set_addr_gen_mode(change, ADDRESSES_NONE);
    int rc = rtnl_link_change(sock, tap, change, 0);
    if (rc < 0)
        return network_fail_netlink(error, rc, "change", name);
    return link_settle(sock, tap, rtnl_link_get_mtu(bridge), rtnl_link_get_ifindex(bridge), error);
}

int network_tap_open(const char *bridge_name, int *fd, struct network_error *error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "ctap%d"};
    if (network_check_name(bridge_name, error) < 0)
        return -1;
    AUTO_NETLINK struct nl_sock *sock = netlink_open(error);
    AUTO_LINK struct rtnl_link *bridge = NULL;
    int found = sock ? link_find(sock, bridge_name, &bridge, error) : -1;
    if (found < 0)
        return -1;
    if (!found || !rtnl_link_get_type(bridge) || !streq(rtnl_link_get_type(bridge), "bridge"))
        return network_fail(error, NETWORK_NO_DEVICE, "The host has no bridge %s.", bridge_name);
    AUTO_CLOSE int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tap < 0)
        return network_fail(error, errno == EACCES ? NETWORK_NOT_ALLOWED : NETWORK_SYSTEM,
                            "The kernel's taps cannot be reached: %s.", strerror(errno));
    if (ioctl(tap, TUNSETIFF, &request) < 0)
        return network_fail(error, errno == EPERM ? NETWORK_NOT_ALLOWED : NETWORK_SYSTEM,
                            "A tap could not be made: %s.", strerror(errno));
    if (join(sock, bridge, request.ifr_name, error) < 0)
        return -1;
    *fd = TAKE_FD(tap);
    return 0;
}
