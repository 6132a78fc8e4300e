/* A rehearsal runs a call's own handler to hear what it would say, with nothing to come of it: on a fork of
 * the store (db/store.h) that is thrown away, with stand-ins for the agents, and with no claim, task or note
 * in the log that others could see. So a plan refuses for the very reasons of the call, and there is no
 * second copy of its checks.
 *
 * Only messages that the model lists as `rehearsed` are run (openapi/README.md): their handlers reach nothing
 * but rows and agents. Where a handler asks an agent that is up, the rehearsal ends: what comes then depends
 * on the answer. Nobody waits for a rehearsal, and it waits for nobody. */
#pragma once
#include "../server.h"

struct rehearsal;

enum rehearsed {
    REHEARSED_DONE,    /* to its end: it would be done */
    REHEARSED_REFUSED, /* with call->err */
    REHEARSED_OPEN,    /* not known: an agent would be asked, or the message is not one to be rehearsed */
};

/* Of the pool as the snapshot shows it. For one thread. */
struct rehearsal *rehearsal_new(struct server *server, struct snapshot *snap);
void rehearsal_free(struct rehearsal *r);
/* Runs a call that gate_prepare has passed, on what the calls before it have left. It belongs to the server
 * again afterwards, without a result. */
enum rehearsed rehearsal_run(struct rehearsal *r, struct call *call);
/* The rows as they would be; counted. */
struct snapshot *rehearsal_snapshot(struct rehearsal *r);
/* The host whose agent would be asked next; null: none was got to. */
struct ref rehearsal_asks(const struct rehearsal *r);

/* ---- for what runs in it ---- */

/* The flag that says that it is over: whoever would wait gives up. */
const _Atomic bool *rehearsal_cancel(const struct rehearsal *r);
/* Something beyond rows and agents is about to be done: it is not, and the rehearsal ends. -1 with *err. */
int rehearsal_leave(struct rehearsal *r, struct api_err *err);
