/* Networks of guests on this host: bridges, and taps that join a guest's nic with one, by netlink. Needs the
 * right to change the host's network (CAP_NET_ADMIN). No state is kept: what is asked for is compared with
 * what the kernel has, so repeating does no harm and a reboot is nothing special. Any thread; nothing waits
 * for long.
 *
 * A bridge that this made carries a note (its alias) of whom it belongs to; others are used, never changed.
 * The host takes no address on bridges and taps of ours, so guests do not reach it through them. int
 * functions give 0, or -1 with *error set. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETWORK_NAME_SIZE 16 /* of an interface, with its NUL (IFNAMSIZ) */

enum network_failure {
    NETWORK_NOT_ALLOWED, /* the agent may not change the host's network */
    NETWORK_NO_DEVICE,   /* a bridge or interface that must be there is not */
    NETWORK_CONFLICT,    /* it is something else, or another's, or carries the host's own addresses */
    NETWORK_BAD_NAME,
    NETWORK_SYSTEM, /* anything else that the kernel refused */
};
struct network_error {
    enum network_failure kind;
    char text[240]; /* for a person */
};

struct network_bridge {
    const char *name;
    const char *owner;  /* uuid of the network: noted on a bridge that is made */
    bool managed;       /* false: the host's own; it has to be there and stays as it is */
    int64_t mtu;        /* managed */
    const char *uplink; /* managed: interface through which it reaches outside; "": none */
    int vlan;           /* managed, with uplink: tag of its frames there; -1: untagged */
};
/* Makes it, or what of it is missing. An uplink without a tag must not carry addresses of the host, which
 * would cut the host off: then its own configuration has to make the bridge. */
int network_bridge_ensure(const struct network_bridge *bridge, struct network_error *error);
/* Removes a bridge that was made for `owner`, with its tagged uplink. Nothing to remove is success;
 * NETWORK_CONFLICT while guests are on it. */
int network_bridge_remove(const char *name, const char *owner, struct network_error *error);

/* A tap on the bridge, up, for a device model: frames with virtio headers. It vanishes when the last copy of
 * the descriptor (close-on-exec, the caller's) is closed. */
int network_tap_open(const char *bridge, int *fd, struct network_error *error);

struct network_interface {
    char name[NETWORK_NAME_SIZE];
    char mac[18];
    int64_t mtu;
    bool physical;    /* hardware, not made by software */
    bool carrier;     /* a cable with somebody at the other end */
    char address[48]; /* its first IPv4 address with prefix length, "192.0.2.5/24"; "": none */
};
/* All interfaces but loopback, by name. *out is a heap array. */
int network_interfaces(struct network_interface **out, size_t *count, struct network_error *error);
/* False, with a sentence: this agent may not change the host's network. */
bool network_allowed(struct network_error *why);
