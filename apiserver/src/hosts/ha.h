/* High availability, the server's side: signs of life of the hosts, what becomes of a host that has failed,
 * and starting protected VMs again. The host's side is hv/ha/watchdog.h, the design docs/ha.md.
 *
 * A host counts as failed, and its guests as ended, when its slot of the heartbeat disk says so, or when for
 * a whole lease and a margin neither its slot has changed, as another host reads it, nor an answer of it has
 * arrived. Times are counted from arrivals here, so always longer than the host itself counts. */
#pragma once
#include "../plan/failover.h"
#include "../server.h"
#include <hv/client.h>

struct ha;
struct session;

/* Its threads do nothing as long as the pool's row says that high availability is off. */
struct ha *ha_new(struct server *server);
/* Ends the threads; calls to agents were interrupted before (hosts_stop). */
void ha_stop(struct ha *ha);
void ha_free(struct ha *ha);
/* Something was switched: look now. */
void ha_wake(struct ha *ha);
/* No VM is started again for so long; 0: from now on again. */
void ha_prevent(struct ha *ha, int64_t seconds);
/* The calls of restarts come by it. */
bool ha_is_own(const struct ha *ha, const struct session *session);
/* One enables or disables at a time: HA_ENABLE_IN_PROGRESS, HA_DISABLE_IN_PROGRESS. */
int ha_change_begin(struct ha *ha, bool enabling, struct api_err *err);
void ha_change_end(struct ha *ha);
/* What the pool's row says while it is off. */
void ha_row_off(struct pool_row *pool);

/* ---- settings: pool.ha_configuration ---- */
struct ha_settings {
    int64_t interval_ms, lease_ms, margin_ms, agent_ms, restart_ms;
};
/* Keys: timeout (seconds, the lease), lease_ms, interval_ms, margin_ms, agent_ms, restart_ms; what is not
 * said follows from the lease. INVALID_VALUE. Unknown keys are left alone. */
int ha_settings_read(const struct str_map *configuration, struct ha_settings *settings, struct api_err *err);

/* ---- one host: ha_arm.c ---- */
struct ha_disk {
    const char *sr, *disk;       /* uuids; the disk's is also the generation */
    const struct str_set *hosts; /* uuids, in the order of their slots */
};
/* What the rows say, in *disk (borrowed from the snapshot). False: there is none. */
bool ha_disk_of(const struct snapshot *snap, const struct server *server, struct ha_disk *disk);
int ha_arm(struct hv_host *agent, const struct ha_disk *disk, const struct ha_settings *settings,
           struct hv_err *cause);
int ha_disarm(struct hv_host *agent, bool everywhere, struct hv_err *cause);
/* The agent answers (again), before its storage is looked at: a host that is armed though high availability
 * is off in the pool is disarmed. Blocks. */
void ha_host_connected(struct server *server, struct ref host, struct hv_host *agent);
/* After a switching-off: hosts that were not reached are done when they connect, and the heartbeat disk goes
 * with the last. Blocks. */
void ha_clear_up(struct server *server);

/* ---- the plan: ha_plan.c ---- */

/* HA_OPERATION_WOULD_BREAK_FAILOVER_PLAN when high availability is on, there is a plan for as many failures
 * as the pool is to tolerate, and after the change there would be none; unless overcommitting is allowed. */
int ha_check_change(const struct snapshot *snap, const struct failover_change *change, struct api_err *err);
/* HA_CONSTRAINT_VIOLATION_SR_NOT_SHARED, _NETWORK_NOT_SHARED and their like: it cannot run on every host. */
int ha_check_agile(const struct snapshot *snap, const struct vm_row *vm, struct api_err *err);
/* The same of one disk or network (the other one null) that a VM is about to get, which is protected while
 * high availability is on; else 0. */
int ha_check_device(const struct snapshot *snap, struct ref vm, struct ref vdi, struct ref network,
                    struct api_err *err);
/* Both for a VM that is about to run on `host`; with high availability off 0. */
int ha_check_place(const struct snapshot *snap, const struct vm_row *vm, const struct vm_row *as,
                   struct ref host, struct api_err *err);
/* How many failures there is a plan for into the pool's row, with alerts of changes for the worse. Blocks. */
void ha_plan_update(struct server *server);
/* The pool's row. */
const struct pool_row *ha_pool(const struct snapshot *snap);
