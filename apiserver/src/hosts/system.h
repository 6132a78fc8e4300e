/* What the pool sets of a host's own system, through its agent. Blocks: for handlers on their worker, with no
 * transaction open. */
#pragma once
#include <base/ref.h>
#include <hv/client.h>
#include <model/error.h>
#include <model/rows.h>

struct call;
struct server;

/* Sets one part; the members of `wanted` that belong to it count. 0 with *now, to be finished by the caller;
 * -1 with *cause, or with *err when there is no such host or it does not answer (cause->kind is NONE then).
 */
int system_ask(struct call *call, struct ref host, enum system_part part,
               const struct system_settings *wanted, struct system_settings *now, struct hv_err *cause,
               struct api_err *err);
/* What the words of an agent mean for the API, when they mean nothing special to the message. Returns -1. */
int system_fail(struct api_err *err, struct ref host, const char *field, const char *value,
                const struct hv_err *cause);

/* The agent answers again: what applies to all hosts of the pool is put in place there. On the host's thread.
 */
void system_connected(struct server *server, struct ref host, struct hv_host *agent,
                      const struct system_settings *settings);
