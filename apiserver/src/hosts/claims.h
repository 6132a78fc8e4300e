/* Memory of hosts that VMs under way to them have claimed: two starts at the same time must not both count on
 * the same memory. In memory only; a claim lives as long as the call that starts the VM. Any thread. */
#pragma once
#include <base/ref.h>
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>

struct claims;
struct server;
struct claims *claims_new(void);
void claims_free(struct claims *claims);

/* Where a VM shall go. Zeroed: anywhere. */
struct claims_wish {
    struct ref host;         /* this one; null: the best one... */
    const struct ref *avoid; /* ...but none of these, which have just failed */
    size_t avoid_count;
    bool force;              /* as in struct placement */
    const struct vm_row *as; /* judged as this copy of its row says; NULL: as its row does */
    bool restart;            /* by high availability itself: the restart plan is not asked */
};
/* Chooses the host where the VM is going to run and claims the least that it needs there. -1: nothing is
 * claimed. */
int claims_take(struct server *server, struct ref vm, const struct claims_wish *wish, struct ref *host,
                struct api_err *err);
/* The host that claims_take would choose now; nothing is claimed. */
int claims_look(struct server *server, struct ref vm, const struct claims_wish *wish, struct ref *host,
                struct api_err *err);
/* Makes a claim this large, if its host has that without taking memory from anybody. */
bool claims_raise(struct server *server, struct ref vm, int64_t bytes);
/* How much others are asked to make room for, and what all that are on their way to the host want. */
void claims_want(struct claims *claims, struct ref vm, int64_t bytes);
int64_t claims_wanted(struct claims *claims, const struct snapshot *snap, struct ref host);
/* What VMs on their way to the host have claimed, but for this one. */
int64_t claims_of_others(struct claims *claims, const struct snapshot *snap, struct ref host, struct ref vm);
/* The VM runs there according to its row, or does not start after all. */
void claims_drop(struct claims *claims, struct ref vm);
