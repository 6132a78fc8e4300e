/* libnl's objects, and its errors as ours. */
#include "netlink.h"
#include <base/mem.h>
#include <ctype.h>
#include <linux/if.h>
#include <netlink/errno.h>
#include <netlink/route/link/inet6.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ADDRESSES_NONE 1 /* IN6_ADDR_GEN_MODE_NONE */

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

void link_alias(const char *owner, char out[static ALIAS_SIZE])
{
    snprintf(out, ALIAS_SIZE, "corral:%s", owner);
}

bool link_is_ours(struct rtnl_link *link, const char *owner)
{
    char alias[ALIAS_SIZE];
    const char *now = rtnl_link_get_ifalias(link);
    if (!owner)
        return now && strncmp(now, "corral:", 7) == 0;
    link_alias(owner, alias);
    return now && streq(now, alias);
}

int link_add(struct nl_sock *sock, struct rtnl_link *link, const char *owner, struct rtnl_link **out,
             struct network_error *error)
{
    char alias[ALIAS_SIZE];
    AUTO_FREE char *kept = xstrdup(rtnl_link_get_name(link));
    link_alias(owner, alias);
    int rc = rtnl_link_add(sock, link, NLM_F_CREATE | NLM_F_EXCL);
    if (rc == -NLE_OPNOTSUPP)
        return network_fail(error, NETWORK_NOT_ALLOWED,
                            "The host's kernel has no interfaces of this kind (%s).",
                            rtnl_link_get_type(link));
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

int link_delete(struct nl_sock *sock, int ifindex, const char *what, struct network_error *error)
{
    AUTO_LINK struct rtnl_link *link = rtnl_link_alloc();
    rtnl_link_set_ifindex(link, ifindex);
    int rc = rtnl_link_delete(sock, link);
    return rc < 0 && rc != -NLE_NODEV && rc != -NLE_OBJ_NOTFOUND
               ? network_fail_netlink(error, rc, "remove", what)
               : 0;
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
