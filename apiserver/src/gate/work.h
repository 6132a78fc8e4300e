/* What happens to a call on a worker: task, operation mark, run, unmark, end. gate.c comes before. */
#pragma once
#include "../server.h"

/* Runs the message, where the caller is. 0, or -1 with call->err. */
int work_run_message(struct call *call);
/* Runs a prepared call of a rehearsal where the caller is: with task and mark, which are gone afterwards, and
 * without waiting for anybody. 0, or -1 with call->err. */
int work_rehearse(struct call *call);
void work_log_outcome(const struct call *call, int rc);
/* Does a small change on the thread that it came in on. If nobody else waits for that thread it waits for the
 * disk, which spares two changes of threads; one at a time, so that others find threads that do not. False:
 * it is for a worker. */
bool work_at_once(struct call *call);
/* The end of calls whose small change is on disk, or was refused: for commits_new. */
void work_finish_changes(struct call *const calls[], size_t count);
/* Worker jobs; the argument is the call, which is completed or freed. */
void work_call(void *call);
void work_call_async(void *call);
/* Ends a call of a worker that its handler had taken over (call->take_over): its result or error is in it.
 * Any thread. */
void work_end_taken(struct call *call, int rc);
