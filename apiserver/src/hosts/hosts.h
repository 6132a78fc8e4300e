/* The agents of the pool's hosts: one connection object and one event thread each. Handlers ask here for a
 * host's `struct hv_host` and call it on their worker, with no lock and no transaction open. */
#pragma once
#include <base/ref.h>
#include <hv/client.h>
#include <model/error.h>
#include <stdbool.h>

struct call;
struct hosts;
struct server;

/* Connects to every host of the database and puts right what differs between rows and agents, before the
 * first request is served: waits up to `settle_ms` for hosts that do not answer, which stay "not live". */
struct hosts *hosts_new(struct server *server, int settle_ms);
/* Breaks off all calls to agents and ends the threads; handlers that still run get errors. */
void hosts_stop(struct hosts *hosts);
/* After hosts_stop, when no handler runs any more. */
void hosts_free(struct hosts *hosts);
/* A host has joined or has a new address. */
void hosts_refresh(struct hosts *hosts);

/* The same hosts with stand-ins for their agents, for a rehearsal: `asked` hears which one a call would have
 * asked. Freed with hosts_free; `real` lives longer. */
struct hosts *hosts_stand_in(struct hosts *real, void (*asked)(void *arg, const char *host_uuid), void *arg);

/* Counted; NULL with HOST_NOT_LIVE or HANDLE_INVALID in *err. Give back with hosts_put. */
struct hv_host *hosts_get(struct hosts *hosts, struct ref host, struct api_err *err);
void hosts_put(struct hosts *hosts, struct hv_host *agent);
/* The same over connections of its own, to the agent that shows the certificate with this sha256
 * ("AB:CD:...") and no other, whatever its dates. */
struct hv_host *hosts_get_pinned(struct hosts *hosts, struct ref host, const char *sha256,
                                 struct api_err *err);

/* The machine was asked to end: the host is not live until another agent than the present one answers. */
void hosts_leaving(struct hosts *hosts, struct ref host);

/* Calls of this host go to another address from now on, if its agent answers there: else HOST_OFFLINE or what
 * its certificate says, and nothing is changed. The row is the caller's to change. Blocks. */
int hosts_readdress(struct hosts *hosts, struct ref host, const char *address, struct api_err *err);

/* How a handler calls an agent: a fresh operation id, the cancel flag of the call's task, progress into its
 * task. `timeout_ms` 0: the call's own. Valid as long as the call. */
struct hosts_op {
    struct hv_op op;
    char id[UUID_TEXT_SIZE];
    struct call *call;
    double progress_from, progress_to; /* the part of the task's progress that this step fills */
};
void hosts_op_init(struct hosts_op *op, struct call *call, int64_t timeout_ms);
/* A further step of the same call needs an id of its own. */
void hosts_op_next(struct hosts_op *op);

/* Translates an agent's error into one of the API: the kinds that mean the same everywhere; what a kind means
 * for one message (VM_BAD_POWER_STATE, SR_FULL) is decided by its handler before calling this. Returns -1. */
int hosts_fail(struct api_err *err, struct ref host, const struct hv_err *cause);
/* The same for a call about the domain of a VM that should run: VM_CRASHED and VM_HALTED when it ended under
 * the call's hands, VM_BAD_POWER_STATE when it had ended before. */
int hosts_fail_vm(struct api_err *err, struct ref vm, struct ref host, const struct hv_err *cause);
