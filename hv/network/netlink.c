/* libnl's objects, and its errors as ours. */
#include "netlink.h"
#include <base/mem.h>
#include <ctype.h>
#include <linux/if.h>
#include <netinet/in.h>
#include <netlink/errno.h>
#include <netlink/route/addr.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int network_fail(struct network_error *error, enum network_failure kind, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    error->kind = kind;
    vsnprintf(error->text, sizeof(error->text), format, ap);
    va_end(ap);
    return -1;
}

int network_fail_netlink(struct network_error *error, int code, const char *what, const char *name)
{
    if (code == -NLE_PERM || code == -NLE_NOACCESS)
        return network_fail(error, NETWORK_NOT_ALLOWED,
                            "The agent may not change the host's network (%s %s).", what, name);
    return network_fail(error, NETWORK_SYSTEM, "The kernel refused to %s %s: %s.", what, name,
                        nl_geterror(code));
}

int network_check_name(const char *name, struct network_error *error)
{
    size_t len = strlen(name);
    bool fine = len > 0 && len < NETWORK_NAME_SIZE && !streq(name, ".") && !streq(name, "..");
    for (size_t i = 0; i < len; i++)
        fine = fine && isgraph((unsigned char)name[i]) && !strchr("/:%\"\\", name[i]);
    if (fine)
        return 0;
    return network_fail(error, NETWORK_BAD_NAME,
                        "An interface's name has 1 to 15 letters, digits, '-', '_' or '.'.");
}

struct nl_sock *netlink_open(struct network_error *error)
{
    struct nl_sock *sock = nl_socket_alloc();
    int rc = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
    if (rc == 0)
        return sock;
    nl_socket_free(sock);
    network_fail(error, NETWORK_SYSTEM, "The kernel's network cannot be asked: %s.", nl_geterror(rc));
    return NULL;
}

void netlink_close_cleanup(struct nl_sock **sock)
{
    nl_socket_free(*sock);
}

void link_put_cleanup(struct rtnl_link **link)
{
    if (*link)
        rtnl_link_put(*link);
}

int link_find(struct nl_sock *sock, const char *name, struct rtnl_link **out, struct network_error *error)
{
    int rc = rtnl_link_get_kernel(sock, 0, name, out);
    if (rc == 0)
        return 1;
    if (rc == -NLE_NODEV || rc == -NLE_OBJ_NOTFOUND)
        return 0;
    return network_fail_netlink(error, rc, "look at", name);
}

static bool counts(struct rtnl_addr *address, int ifindex)
{
    return rtnl_addr_get_ifindex(address) == ifindex && rtnl_addr_get_scope(address) != RT_SCOPE_LINK;
}

int link_has_address(struct nl_sock *sock, int ifindex, struct network_error *error)
{
    struct nl_cache *cache;
    int found = 0, rc = rtnl_addr_alloc_cache(sock, &cache);
    if (rc < 0)
        return network_fail_netlink(error, rc, "list", "addresses");
    for (struct nl_object *o = nl_cache_get_first(cache); o && !found; o = nl_cache_get_next(o))
        found = counts((struct rtnl_addr *)o, ifindex);
    nl_cache_free(cache);
    return found;
}

int link_settle(struct nl_sock *sock, struct rtnl_link *link, int64_t mtu, int master,
                struct network_error *error)
{
    bool up = rtnl_link_get_flags(link) & IFF_UP;
    bool sized = mtu == 0 || (int64_t)rtnl_link_get_mtu(link) == mtu;
    bool joined = master == 0 || rtnl_link_get_master(link) == master;
    if (up && sized && joined)
        return 0;
    AUTO_LINK struct rtnl_link *change = rtnl_link_alloc();
    if (!sized)
        rtnl_link_set_mtu(change, (unsigned)mtu);
    if (!joined)
        rtnl_link_set_master(change, master);
    rtnl_link_set_flags(change, IFF_UP);
    int rc = rtnl_link_change(sock, link, change, 0);
    return rc < 0 ? network_fail_netlink(error, rc, "change", rtnl_link_get_name(link)) : 0;
}
