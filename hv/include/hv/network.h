/* Networks of guests on this host: bridges, and taps that join a guest's nic with one, by netlink. Needs the
 * right to change the host's network (CAP_NET_ADMIN). No state is kept: what is asked for is compared with
 * what the kernel has, so repeating does no harm and a reboot is nothing special. Any thread; nothing waits
 * for long.
 *
 * A bridge that this made carries a note (its alias) of whom it belongs to; others are used, never changed.
 * The host takes no address on bridges and taps of ours, so guests do not reach it through them. int
 * functions give 0, or -1 with *error set. */
#pragma once
#include <base/rc.h>
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

enum network_tunnel_kind { NETWORK_NO_TUNNEL, NETWORK_TUNNEL_GRE, NETWORK_TUNNEL_VXLAN };
struct network_tunnel {
    enum network_tunnel_kind kind;
    uint32_t key;             /* below 2^24 */
    const char *local;        /* address of the host that it goes from */
    const char *const *peers; /* addresses of the other ends: each gets what all shall hear */
    size_t peer_count;
};

struct network_bridge {
    const char *name;
    const char *owner;  /* uuid of the network: noted on a bridge that is made */
    bool managed;       /* false: the host's own; it has to be there and stays as it is */
    int64_t mtu;        /* managed */
    const char *uplink; /* managed: interface through which it reaches outside; "": none */
    int vlan;           /* managed, with uplink: tag of its frames there; -1: untagged */
    /* managed, with uplink: addresses that network_addresses_set gave it ("192.0.2.5/24"); they and the
     * routes over it move to the bridge. */
    const char *const *addresses;
    size_t address_count;
    struct network_tunnel tunnel; /* managed, with uplink: the uplink is this, and is made */
};
/* Makes it, or what of it is missing. An uplink without a tag must not carry other addresses of the host,
 * which would cut the host off: then its own configuration has to make the bridge. */
int network_bridge_ensure(const struct network_bridge *bridge, struct network_error *error);
/* Removes a bridge that was made for `owner`, with its tagged uplink. Nothing to remove is success;
 * NETWORK_CONFLICT while guests are on it. */
int network_bridge_remove(const char *name, const char *owner, struct network_error *error);

/* ---- cards of guests ---- */

enum network_locking {
    NETWORK_OPEN,   /* the guest sends what it likes */
    NETWORK_LOCKED, /* only from its own hardware address and the addresses listed; and it may ask for DHCP */
    NETWORK_CLOSED, /* nothing passes, either way */
};
/* One guest's card on a bridge, and what it may send. */
struct network_card {
    const char *owner; /* uuid of the domain */
    int index;         /* of the card in it */
    const char *mac;
    enum network_locking locking;
    const char *const *ipv4; /* addresses, without prefix length */
    size_t ipv4_count;
    const char *const *ipv6;
    size_t ipv6_count;
    int64_t rate_kbytes; /* KiB in a second that the guest may send; 0: no limit */
    /* Tags of the frames that pass, either way, in decimal ("0": untagged); none: all pass. */
    const char *const *trunks;
    size_t trunk_count;
};
/* A tap on the bridge for a device model: frames with virtio headers. It vanishes when the last copy of the
 * descriptor (close-on-exec, the caller's) is closed. What the card may send is enforced, by nftables, before
 * the tap joins the bridge. */
int network_tap_open(const char *bridge, const struct network_card *card, int *fd,
                     struct network_error *error);
/* Moves the tap of a card to another bridge (or none: the same name) and sets what it may send, while the
 * guest runs. NETWORK_NO_DEVICE: it has no tap. */
int network_tap_change(const char *bridge, const struct network_card *card, struct network_error *error);
/* Removes rules of taps that are gone. They do no harm (no tap's name comes twice), only take room. */
void network_filters_sweep(void);
/* Whether this process has put rules in force since it began: else there is nothing to sweep. */
bool network_filters_used(void);
/* The rules of a tap, as nft(8) reads them; NULL: it needs none. Pure; the caller frees. -1: an address or
 * the rate is none. */
int network_filter_text(const char *tap, const struct network_card *card, char **out,
                        struct network_error *error);

/* ---- the host's own interfaces ---- */

/* Switches it on or off; off only while it carries no address of the host (NETWORK_CONFLICT). */
int network_link_set(const char *device, bool up, struct network_error *error);

/* Generic receive offload. */
int network_gro_set(const char *device, bool on, struct network_error *error);

struct network_addresses {
    const char *const *wanted; /* with prefix length, of both families */
    size_t wanted_count;
    const char *const *former; /* what this function gave it before */
    size_t former_count;
    const char *gateway, *gateway6; /* "": none; default routes behind all others */
};
/* The host's addresses on an interface, or on the bridge of ours that it is a port of. NETWORK_CONFLICT while
 * there are others: those are the host's own configuration. */
int network_addresses_set(const char *device, const struct network_addresses *addresses,
                          struct network_error *error);

enum network_bond_mode { NETWORK_BOND_BALANCE_SLB, NETWORK_BOND_ACTIVE_BACKUP, NETWORK_BOND_LACP };
struct network_bond {
    const char *name, *owner; /* uuid, noted on it */
    const char *const *members;
    size_t member_count;
    enum network_bond_mode mode;
    const struct str_map *properties; /* miimon, downdelay, updelay, use_carrier, hashing_algorithm */
    const char *mac;                  /* "": of the first member */
};
/* What the kernel is told of a bond (linux/if_link.h: IFLA_BOND_*). */
struct network_bond_options {
    uint8_t mode, hash_policy, use_carrier, lacp_fast;
    uint32_t miimon_ms, up_delay_ms, down_delay_ms;
};
/* Pure. NETWORK_BAD_NAME: a property is not known or its value is none. */
int network_bond_options(const struct network_bond *bond, struct network_bond_options *out,
                         struct network_error *error);
/* Makes it or puts it right. Members with addresses of the host are refused. NETWORK_NOT_ALLOWED: this kernel
 * has no bonds. */
int network_bond_ensure(const struct network_bond *bond, struct network_error *error);
int network_bond_remove(const char *name, const char *owner, struct network_error *error);

#define NETWORK_ADDRESS_SIZE 48 /* "2001:db8::5/64" with its NUL */
#define NETWORK_ADDRESSES6 8    /* how many of an interface are told */

struct network_interface {
    char name[NETWORK_NAME_SIZE];
    char mac[18];
    int64_t mtu;
    bool physical; /* hardware; in a container also its end of a pair that leads out */
    bool bond;
    bool up;
    bool carrier;                          /* a cable with somebody at the other end */
    char master[NETWORK_NAME_SIZE];        /* the bridge or bond that it is a port of; "": none */
    bool master_is_bridge, master_is_ours; /* a bridge; one that was made by network_bridge_ensure */
    int64_t speed_mbit;                    /* 0: not known */
    bool full_duplex;
    char bus[32], vendor_id[8], device_id[8]; /* "0000:00:03.0", "0x8086", "0x100e"; "": not known */
    /* Of itself, or of the bridge that it is a port of. */
    char address[NETWORK_ADDRESS_SIZE]; /* its first IPv4 address with prefix length, "192.0.2.5/24"; "": none
                                         */
    bool leased;                        /* that one is for a limited time: a DHCP client got it */
    char addresses6[NETWORK_ADDRESSES6][NETWORK_ADDRESS_SIZE]; /* without link-local ones */
    size_t count6;
    bool leased6; /* one of them is for a limited time */
    char gateway[NETWORK_ADDRESS_SIZE], gateway6[NETWORK_ADDRESS_SIZE]; /* of default routes over it */
};
/* All interfaces but loopback, by name. *out is a heap array. */
int network_interfaces(struct network_interface **out, size_t *count, struct network_error *error);
/* False, with a sentence: this agent may not change the host's network. */
bool network_allowed(struct network_error *why);
