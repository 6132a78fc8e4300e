/* How a network leaves a host: from rows. Pure. */
#pragma once
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

#define UPLINK_PEERS 128
struct uplink {
    const struct pif_row *pif; /* the host's interface on the network; NULL: none */
    const char *device;        /* borrowed from rows; "": guests of the host only */
    int vlan;                  /* -1: none */
    /* The interface is the inner end of a tunnel; NULL: it is none. Addresses without prefix length, of this
     * host and of the others that the tunnel's network reaches. */
    const struct tunnel_row *tunnel;
    unsigned tunnel_key;
    char tunnel_local[64];
    char (*tunnel_peers)[64]; /* heap; see uplink_done */
    size_t tunnel_peer_count;
};
void uplink_done(struct uplink *uplink);
#define AUTO_UPLINK __attribute__((cleanup(uplink_done)))
/* 1 to 2^24 - 1: follows from the network's uuid, so it is the same on every host. */
unsigned plan_tunnel_key(const struct network_row *network);
/* The address that tunnels over the interface go from; false: it has none. */
bool plan_tunnel_address(const struct pif_row *transport, char out[static 64]);
/* A network with interfaces on other hosts alone is not on this one: false. End it with uplink_done. */
bool plan_uplink(const struct snapshot *snap, const struct network_row *network, struct ref host,
                 struct uplink *out);
/* Addresses with prefix length that the pool has given the interface, into `out`; how many. */
#define UPLINK_ADDRESSES 17
struct uplink_addresses {
    char text[UPLINK_ADDRESSES][64];
    size_t count;
};
void plan_addresses(const struct pif_row *pif, struct uplink_addresses *out);
/* "255.255.255.0" -> 24; -1: it is no netmask. */
int netmask_length(const char *netmask);
/* 24 -> "255.255.255.0". */
void netmask_text(int length, char out[static 16]);
