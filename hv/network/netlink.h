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
/* True if the link has an address of the host (link-local ones do not count). -1: *error. */
int link_has_address(struct nl_sock *sock, int ifindex, struct network_error *error);
/* Sets what differs: up, `mtu` (0: as it is), `master` (0: as it is). */
int link_settle(struct nl_sock *sock, struct rtnl_link *link, int64_t mtu, int master,
                struct network_error *error);
