/* What the files of hv/network share: links as the kernel has them, by libnl. */
#pragma once
#include <hv/network.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>

/* Always -1. */
int network_fail(struct network_error *error, enum network_failure kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* By libnl's negative code. */
int network_fail_netlink(struct network_error *error, int code, const char *what, const char *name);
/* 1 to 15 characters that the kernel takes as a name. */
int network_check_name(const char *name, struct network_error *error);

/* NULL: *error is set. */
struct nl_sock *netlink_open(struct network_error *error);
void netlink_close_cleanup(struct nl_sock **sock);
#define AUTO_NETLINK __attribute__((cleanup(netlink_close_cleanup)))
void link_put_cleanup(struct rtnl_link **link);
#define AUTO_LINK __attribute__((cleanup(link_put_cleanup)))
/* The link of this name: 1 with *out; 0: none; -1: *error. */
int link_find(struct nl_sock *sock, const char *name, struct rtnl_link **out, struct network_error *error);
/* How many addresses of the host the link has (link-local ones do not count) besides those listed. -1:
 * *error.
 */
int link_strange_addresses(struct nl_sock *sock, int ifindex, const char *const *known, size_t known_count,
                           struct network_error *error);
/* The host's addresses and the routes over `from` go to `to`. */
int link_move_addresses(struct nl_sock *sock, int from, int to, struct network_error *error);
/* True if we made the link (for this owner; NULL: for whomever). */
bool link_is_ours(struct rtnl_link *link, const char *owner);
/* Adds `link` with the note of its owner; it is found anew as *out. */
int link_add(struct nl_sock *sock, struct rtnl_link *link, const char *owner, struct rtnl_link **out,
             struct network_error *error);
int link_delete(struct nl_sock *sock, int ifindex, const char *what, struct network_error *error);
/* "corral:" and the owner: the note on what we made. */
#define ALIAS_SIZE 64
void link_alias(const char *owner, char out[static ALIAS_SIZE]);
/* Sets what differs: up, `mtu` (0: as it is), `master` (0: as it is). */
int link_settle(struct nl_sock *sock, struct rtnl_link *link, int64_t mtu, int master,
                struct network_error *error);
