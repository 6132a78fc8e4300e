/* Commits that hold no thread: while some thread is writing, a change joins the next batch and its call comes
 * back when that is on disk. One thread finishes such calls, many at a time. */
#pragma once
#include "../server.h"

struct commits;

/* NULL: no thread could be started. */
struct commits *commits_new(void);
/* From now on every commit is waited for; returns when all calls that were away are finished. */
void commits_close(struct commits *commits);
/* After commits_close. */
void commits_free(struct commits *commits);

/* As server_commit, for the change of a call: 0 or -1, and `finish` is not called. 1: the call is away, and
 * `finish` will be called with 0 or -1 and call->err, on the thread of `commits`. */
int commits_add(struct commits *commits, struct tx *tx, struct call *call,
                void (*finish)(struct call *call, int rc));
