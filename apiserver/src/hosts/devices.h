/* The PCI and USB devices of a host as rows: PCI, PGPU with its group, PUSB with its group. */
#pragma once
#include "../server.h"
#include <hv/client.h>

/* Asks the agent what there is and puts the rows right. -1: the agent did not say, with *err. Blocks. */
int devices_look(struct server *server, struct ref host, struct hv_host *agent, struct api_err *err);
/* After the agent connects: a look; what fails is logged. Blocks. */
void devices_connected(struct server *server, struct ref host, struct hv_host *agent);

/* Sets the types that a graphics processor serves or could serve, on both sides of the relation, and what
 * follows for its group. */
void pgpu_set_types(struct tx *tx, struct ref pgpu, const struct ref_set *supported,
                    const struct ref_set *enabled);
/* Works out anew what a group serves, and of what kind its processors are. */
void gpu_group_refresh(struct tx *tx, struct ref group);
/* "1234/5678": maker and model. */
void pci_kind(const struct pci_row *pci, char out[static 16]);
