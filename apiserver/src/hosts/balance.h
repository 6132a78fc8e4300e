/* Memory of a host is shared among its VMs between their least and their most (plan/squeeze.h): who starts
 * takes from the others, and what becomes free is given back. */
#pragma once
#include <hv/client.h>
#include <model/error.h>
#include <model/rows.h>

struct call;
struct server;

/* Before a start or resume on a host where the VM has its claim: asks the other VMs there for memory and
 * waits, for a bounded time and with progress, until the VM can have its part; its claim is then that. A
 * guest that gives nothing within some seconds is noted as one that keeps its memory, and nobody counts on it
 * any more. -1: HOST_NOT_ENOUGH_FREE_MEMORY or TASK_CANCELLED; what was taken is given back by the next
 * balance_host. */
int balance_make_room(struct call *call, const struct vm_row *vm, struct ref host, struct hv_host *agent,
                      int64_t *granted_bytes, struct api_err *err);
/* Asks each VM of the host for what it should have now. Does nothing when all is as it should be. On the
 * host's thread. */
void balance_host(struct server *server, struct ref host, struct hv_host *agent);
