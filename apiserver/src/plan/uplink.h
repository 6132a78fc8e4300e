/* How a network leaves a host: from rows. Pure. */
#pragma once
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

struct uplink {
    const struct pif_row *pif; /* the host's interface on the network; NULL: none */
    const char *device;        /* borrowed from rows; "": guests of the host only */
    int vlan;                  /* -1: none */
};
/* A network with interfaces on other hosts alone is not on this one: false. */
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
