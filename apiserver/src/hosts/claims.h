/* Memory of hosts that VMs under way to them have claimed: two starts at the same time must not both count on
 * the same memory. In memory only; a claim lives as long as the call that starts the VM. Any thread. */
#pragma once
#include <base/ref.h>
#include <model/error.h>

struct claims;
struct server;
struct claims *claims_new(void);
void claims_free(struct claims *claims);

/* Chooses the host where the VM is going to run (`wanted`, or the best one when that is null) and claims the
 * memory there. -1: nothing is claimed. */
int claims_take(struct server *server, struct ref vm, struct ref wanted, struct ref *host,
                struct api_err *err);
/* The VM runs there according to its row, or does not start after all. */
void claims_drop(struct claims *claims, struct ref vm);
