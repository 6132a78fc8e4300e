/* Commits that hold no thread: a change joins the next batch and its call comes back when that is on disk.
 * One thread finishes such calls, many at a time. */
#pragma once
#include "../server.h"

struct commits;

/* `finish` is given calls whose change is on disk or was refused (call->failed, call->err), on the thread of
 * `commits`. NULL: no thread could be started. */
struct commits *commits_new(void (*finish)(struct call *const calls[], size_t count));
/* From now on every commit is waited for; returns when all calls that were away are finished. */
void commits_close(struct commits *commits);
/* After commits_close. */
void commits_free(struct commits *commits);

/* As server_commit, for the change of a call, when nobody else writes: 0 or -1, and it is not finished here.
 * 1: the call is away. */
int commits_add(struct commits *commits, struct tx *tx, struct call *call);
/* The same for a thread that must not wait for the disk: nearly always 1. */
int commits_queue(struct commits *commits, struct tx *tx, struct call *call);
