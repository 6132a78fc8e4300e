/* Tasks: progress objects of calls. The record is a row, which survives a restart of the server; what only
 * the running call needs (its cancel flag) is an entry here. Any thread.
 *
 * A task's `work` says what the server is doing for it, so that the next start can put it right
 * (hosts/recover.c). It is empty for tasks that clients made. Its keys: */
#pragma once
#include <base/ref.h>
#include <db/store.h>
#include <model/error.h>
#include <model/rows.h>
#include <stdatomic.h>
#include <stdbool.h>

#define TASK_WORK_MODE "mode"           /* one of TASK_MODE_... */
#define TASK_WORK_MESSAGE "message"     /* VM.start */
#define TASK_WORK_CLASS "class"         /* with the next two: the mark in current_operations */
#define TASK_WORK_OBJECT "object"       /* reference */
#define TASK_WORK_OPERATION "operation" /* as the enum names it */
#define TASK_WORK_VALUE "value"         /* the argument behind the object: a reference or a number */
#define TASK_WORK_HOST "host"           /* with the next three: the last operation that an agent was given */
#define TASK_WORK_AGENT "agent"         /* its id */
#define TASK_WORK_CALL "call"           /* domain_start */
#define TASK_WORK_KEY "key"             /* uuid of the domain or disk that it is about */
#define TASK_WORK_DONE "done"           /* what the call was to do is recorded: its result as XML */
#define TASK_WORK_MADE "made:"          /* made:<uuid>: a VDI made on the way to something else */
#define TASK_WORK_AWAY "away:" /* away:VDI <uuid>: made in another pool, at the URL that is the value */

#define TASK_MODE_CALL "call"   /* of a synchronous call: goes with it */
#define TASK_MODE_ASYNC "async" /* of an Async call */
#define TASK_MODE_HTTP "http"   /* of an upload or download */

struct call;
struct server;
struct session;
struct tasks;

struct tasks *tasks_new(void);
void tasks_free(struct tasks *tasks);

/* A new task. Zeroed members are left out. */
struct task_spec {
    const char *label, *description; /* never NULL */
    const struct session *owner;     /* NULL: the server's own work */
    struct ref parent;
    const struct str_map *other_config; /* counted by the row too */
    const char *mode, *message;         /* NULL: a client's */
    bool cancellable;
};
/* Makes a pending task in the transaction. Register its cancel flag with task_running once the transaction
 * is committed. */
struct ref task_create(struct tx *tx, const struct task_spec *spec);
/* The session made it, or another session of the same subject or user. */
bool task_is_own(const struct task_row *task, const struct session *session);

/* The flag that task_cancel sets, valid until task_ended. */
const _Atomic bool *task_running(struct tasks *tasks, struct ref task);
void task_ended(struct tasks *tasks, struct ref task);
bool task_is_running(struct tasks *tasks, struct ref task);
bool task_is_pending(const struct task_row *task);
/* Asks what runs for the task to stop, and notes that in its current_operations. False: nothing runs. */
bool task_cancel(struct server *server, struct ref task);

/* Completes a pending task in the transaction: `result_xml` on success; `err` otherwise (TASK_CANCELLED gives
 * status cancelled). Nothing happens to one that is finished or gone; one that is to be destroyed goes. */
void task_complete(struct tx *tx, struct ref task, const char *result_xml, const struct api_err *err);
/* Sets the progress, 0 to 1; at most ten times a second, and in memory only. Never fails. */
void task_progress(struct server *server, struct ref task, double fraction);
/* Removes tasks finished more than 65 minutes ago, pending ones of clients after a day, then the oldest
 * finished beyond 200. What still runs stays. */
void tasks_sweep(struct server *server);

/* ---- what a restart has to know; all within a transaction ---- */

/* Notes the operation that an agent is about to be given. The commit waits for the disk. */
void task_note_agent(struct tx *tx, struct ref task, struct ref host, const char *id, const char *call,
                     const char *key);
/* Notes what was made in the pool at `url`, which this server cannot remove there after a restart ("VDI
 * <uuid>"); "": something may have been. The commit waits for the disk. */
void task_note_away(struct tx *tx, struct ref task, const char *url, const char *what);
/* What the call was to do is recorded in this very transaction; `result` null: it has none. */
void task_note_done(struct tx *tx, const struct call *call, struct ref result);
/* The same for a call of class VDI that was to make this one; else a VDI of this uuid was made on the way to
 * something else, and goes when that is not reached. */
void task_note_made(struct tx *tx, const struct call *call, struct ref vdi, const char *uuid);
