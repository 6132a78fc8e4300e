/* Networks on hosts. A network is one of three kinds: user-mode (each VM behind its host), a bridge that the
 * agents make, joined to the host's interface on the network (PIF) or reaching only the guests of one host,
 * or a bridge that the hosts have of their own (managed false). */
#pragma once
#include "../plan/uplink.h"
#include "../server.h"
#include <hv/client.h>

/* Sees to it that the host has the network, joined to the host's interface on it: before a nic on it is made.
 * HOST_CANNOT_ATTACH_NETWORK, with the reason in the log. Blocks. */
int network_prepare(struct hv_host *agent, struct ref host, const struct snapshot *snap,
                    const struct network_row *network, struct api_err *err);
/* The agent's calls themselves: makes the bridge with this uplink; removes it (one that is not managed
 * stays). */
int network_ensure(struct hv_host *agent, const struct network_row *network, const struct uplink *uplink,
                   struct hv_err *cause);
int network_remove(struct hv_host *agent, const struct network_row *network, struct hv_err *cause);
/* The host's agent (counted, see hosts_get), once it has all networks that the VM's nics need. NULL with
 * *err. */
struct hv_host *networks_host(struct server *server, struct ref host, const struct snapshot *snap,
                              const struct vm_row *vm, struct api_err *err);
/* The cards of a running VM become what their rows say: after a change that was cut short. Blocks. */
void vif_renew(struct server *server, struct hv_host *agent, struct ref host, const char *vm_uuid);
/* The network is gone: hosts that answer remove what they made for it. What stays (a host was away) is
 * harmless and logged. Blocks. */
void network_withdraw(struct server *server, const struct network_row *network);
