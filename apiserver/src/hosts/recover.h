/* Tasks that the end of an earlier server has interrupted. What needs no agent is put right before the first
 * host is asked. A call that had given an operation to an agent keeps its mark and its task until that agent
 * says what became of it: still running, it is watched (progress, cancelling) to its end; over, what it did
 * is recorded or undone; then the task is completed or failed. See gate/task.h for what is known of a call.
 */
#pragma once
#include <base/ref.h>
#include <hv/client.h>
#include <model/error.h>
#include <stdbool.h>

struct server;
struct recovery;

/* Before any host is connected to and any request is served. */
int recovery_begin(struct server *server, struct recovery **out, struct api_err *err);
void recovery_free(struct recovery *recovery);

/* Asks the agent of this host for the operations that were left with it; the rows of those that are over are
 * put right and their marks taken off. Before reconcile_host. The number of those that still run, or -1: the
 * agent does not answer. */
int recovery_look(struct server *server, struct ref host, struct hv_host *agent);
/* Completes the tasks of those that are over. After reconcile_host, so that who waits for a task sees what is
 * true. The number of those that have to wait, because something cannot be undone yet. */
int recovery_finish(struct server *server, struct ref host);
/* The agent does not answer: gives up what clients have cancelled. */
void recovery_unreachable(struct server *server, struct ref host);
/* An operation that may still run makes this disk: it is not a leftover. */
bool recovery_owns_disk(struct server *server, const char *uuid);
