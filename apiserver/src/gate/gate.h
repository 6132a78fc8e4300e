/* The one door of all calls: finds the message, the session and the role, decodes the arguments, marks
 * the operation, runs the handler where it may block or not, records the task, unmarks.
 * Codecs make a call and give it to gate_run; the answer comes through call->complete, on any thread. */
#pragma once
#include "../server.h"

/* `name` as on the wire ("VM.start", "VM_start", "Async.VM.start"), `params` with the session first where
 * the message has one; a count of it is taken. The call is freed by call->complete (see call_free). */
struct call *call_new(struct server *server, const char *name, json_t *params, bool lenient, const char *peer,
                      void (*complete)(struct call *));
void call_free(struct call *call);
/* Before a long wait: lets go of the call's snapshot, which would hold back the memory of every row that
 * changes meanwhile, and keeps this one row of it until the call ends. */
void call_keep_row(struct call *call, const struct row *row);

/* Runs the call; call->complete is called once, perhaps before this returns. Network thread or any other. */
void gate_run(struct call *call);

/* Looks up a session by its reference as text: a count, or NULL with SESSION_INVALID. */
struct session *gate_session(struct server *server, const char *text, struct api_err *err);

/* What the call reads, as of now: the pool's rows, or those of the database that its session was opened on.
 */
struct snapshot *gate_snapshot(const struct call *call);

/* A failure (rc < 0) without an error becomes INTERNAL_ERROR, so that whoever ends the call can rely on one;
 * where assertions are on the process ends. */
void call_check_error(struct call *call, int rc);

/* Answers, after the delay that the call asks for. The gate's own last step. */
void call_finish(struct call *call, int rc);

/* The task of an HTTP handler, and the flag that tells when it is cancelled: the client's own, which becomes
 * the carrier of progress and result, when claim->adopt is not null (its own, or with the role of
 * pool-operator), else a new one. End it with gate_task_end. */
int gate_task_open(struct server *server, struct session *session, const char *label,
                   const struct task_claim *claim, struct ref *task, const _Atomic bool **cancel,
                   struct api_err *err);
/* The same without a parent and headers. */
int gate_task_begin(struct server *server, struct session *session, const char *label, struct ref adopt,
                    struct ref *task, const _Atomic bool **cancel, struct api_err *err);
void gate_task_end(struct server *server, struct ref task, const char *result_xml, const struct api_err *err);
/* The request that was to run for a client's task was turned away at the door: a pending task fails. */
void gate_task_refuse(struct server *server, struct ref task, const struct api_err *err);

/* Another message as a part of this one: by the same session, with a task of its own and all that goes with a
 * call, done when this returns. `params` without the session; a count stays with the caller. The result is
 * dropped. Blocks. */
int gate_call_within(struct call *parent, const char *name, json_t *params, struct api_err *err);
/* Runs a call to its end, on this thread as far as it goes. The result is dropped and the call freed; its
 * `complete` and `reply` are this function's. Blocks. */
int gate_call_blocking(struct call *call, struct api_err *err);
/* All verdicts of the gate on a call before it runs: message, parameters, session, role. It is not run. */
int gate_prepare(struct call *call, struct api_err *err);
