/* XenAPI calls from within the server: they go through the gate like any other, and the caller waits. */
#pragma once
#include "../server.h"

/* Runs a call with these parameters (the session first where the message has one) and waits for its answer.
 * 0 with a result of the caller's, or -1 with *err. `peer` as in call_new. Blocks, on any thread but a
 * network or worker thread of the gate. */
int local_call(struct server *server, const char *peer, const char *name, json_t *params, json_t **result,
               struct api_err *err);
