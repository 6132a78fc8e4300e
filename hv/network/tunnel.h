/* Tunnels between hosts as uplinks of bridges. */
#pragma once
#include "netlink.h"

/* Makes bridge->uplink, or puts its other ends right. NETWORK_NOT_ALLOWED: this kernel, or this program,
 * makes none of the kind; NETWORK_CONFLICT: the name is something else's. */
int tunnel_ensure(struct nl_sock *sock, const struct network_bridge *bridge, struct network_error *error);
