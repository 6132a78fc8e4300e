/* What the handlers of interfaces, VLANs and bonds share. */
#pragma once
#include "../hosts/hosts.h"
#include "../hosts/interfaces.h"
#include "../hosts/networks.h"
#include "../server.h"

/* A row of the call's snapshot, or NULL with HANDLE_INVALID. */
const struct pif_row *pif_find(struct call *call, struct ref pif, struct api_err *err);
const struct network_row *pif_find_network(struct call *call, struct ref network, struct api_err *err);
/* It was made for a tunnel: what runs over it goes through that. */
bool pif_is_tunnel_access(const struct pif_row *pif);
/* 0, or -1 with the error that says what the interface is. */
int pif_check_not_management(const struct pif_row *pif, struct api_err *err);
int pif_check_managed(const struct pif_row *pif, struct api_err *err);
int pif_check_not_member(const struct pif_row *pif, struct api_err *err);
int pif_check_no_tunnels(const struct pif_row *pif, struct api_err *err);
/* Where rows are read: a snapshot, or else a transaction, in which nothing can change any more. */
struct pif_source {
    const struct snapshot *snap;
    struct tx *tx;
};
const struct row *pif_get(const struct pif_source *from, const struct class_desc *cls, struct ref ref);
/* NETWORK_ALREADY_CONNECTED: the host has an interface on the network. */
int pif_check_network_free(const struct pif_source *from, const struct network_row *network, struct ref host,
                           struct api_err *err);
/* VIF_IN_USE: a running VM of the host has a card on the network. */
int pif_check_no_guests(const struct snapshot *snap, struct ref network, struct ref host,
                        struct api_err *err);

/* Brings an interface up as its row says: its network's bridge, its addresses. Blocks. */
int pif_bring_up(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                 struct api_err *err);
/* Takes the bridge of the interface's network from its host; one that does not answer is passed over. Blocks.
 */
int pif_remove_bridge(struct call *call, const struct snapshot *snap, const struct pif_row *pif,
                      struct api_err *err);
/* Its row and metrics (metrics of a VLAN belong to the interface below). */
void pif_delete(struct tx *tx, const struct pif_row *pif);

/* VLAN.create and VLAN.destroy. */
int vlan_make(struct call *call, struct ref tagged, int64_t tag, struct ref network, struct ref *vlan,
              struct ref *untagged, struct api_err *err);
int vlan_unmake(struct call *call, struct ref vlan, struct api_err *err);
