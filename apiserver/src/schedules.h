/* Schedules of snapshots (class VMSS): one thread looks now and then which are due, takes the snapshots one
 * VM after another, and removes those beyond the number that is kept. The calls go through the gate with a
 * session of the server's own, so marks, tasks and refusals are those of any client. */
#pragma once
#include <base/ref.h>

struct call;
struct schedules;
struct server;

struct schedules *schedules_new(struct server *server);
/* Ends the thread; who waits for schedules_run is refused. Before the parts that calls need are gone. */
void schedules_stop(struct schedules *schedules);
/* Once no call can come any more. */
void schedules_free(struct schedules *schedules);
/* Takes over a call of VMSS.snapshot_now and answers it when the snapshots are taken. Any thread. */
void schedules_run(struct schedules *schedules, struct call *call, struct ref vmss);
