/* The network interfaces of a host as rows: PIF, PIF_metrics, and a network for each device. */
#pragma once
#include "../server.h"
#include <hv/client.h>

/* Asks the agent what interfaces there are and puts the rows right; with `all`, devices that have no row get
 * one. -1: the agent did not say, with *err. Blocks. */
int interfaces_look(struct server *server, struct ref host, struct hv_host *agent, bool all,
                    struct api_err *err);
/* After the agent connects: a look with `all`, and the addresses and bonds that the pool has given the host
 * are given again, for it may have been started anew. What fails is logged. Blocks. */
void interfaces_connected(struct server *server, struct ref host, struct hv_host *agent);

/* The row of one device, within a transaction, with its network and metrics. */
struct ref interfaces_add(struct tx *tx, struct ref host, const struct host_interface *seen, bool managed);
/* What the agent's error means for a PIF: PIF_CONFIGURATION_ERROR with its sentence, or the host's silence.
 * -1. */
int interfaces_fail(struct api_err *err, struct ref host, struct ref pif, const struct hv_err *cause);
/* Gives the interface the addresses of its row in place of those of `former` (NULL: none). Blocks. */
int interfaces_set_addresses(struct hv_host *agent, const struct snapshot *snap, const struct pif_row *pif,
                             const struct pif_row *former, struct api_err *err);
/* Makes the bond on the host as its row and the rows of its members say. Blocks. */
int interfaces_set_bond(struct hv_host *agent, const struct snapshot *snap, const struct bond_row *bond,
                        struct api_err *err);
