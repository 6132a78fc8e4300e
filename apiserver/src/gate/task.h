/* Tasks: progress objects of calls. The record is a row; what only the running call needs (its cancel
 * flag) is an entry here. Any thread. */
#pragma once
#include <base/ref.h>
#include <db/store.h>
#include <model/error.h>
#include <stdatomic.h>
#include <stdbool.h>

struct server;
struct session;
struct tasks;

struct tasks *tasks_new(void);
void tasks_free(struct tasks *tasks);

/* Makes a pending task in the transaction. `owner` may be NULL (the server's own work). Register its cancel
 * flag with task_running once the transaction is committed. */
struct ref task_create(struct server *server, struct tx *tx, const char *label, const char *description,
                       const struct session *owner, struct ref parent, bool cancellable);
/* The flag that task_cancel sets, valid until task_ended. */
const _Atomic bool *task_running(struct tasks *tasks, struct ref task);
void task_ended(struct tasks *tasks, struct ref task);
bool task_is_running(struct tasks *tasks, struct ref task);
/* Asks the running call to stop. False: no call of this task is running. */
bool task_request_cancel(struct tasks *tasks, struct ref task);

/* Completes a pending task in the transaction: `result_xml` on success; `err` otherwise (TASK_CANCELLED gives
 * status cancelled). Nothing happens to one that is finished or gone. */
void task_complete(struct tx *tx, struct ref task, const char *result_xml, const struct api_err *err);
/* Sets the progress, 0 to 1; at most ten times a second reaches the store. Never fails. */
void task_progress(struct server *server, struct ref task, double fraction);
/* Removes tasks finished more than 65 minutes ago, then the oldest finished beyond 200. */
void tasks_sweep(struct server *server);
