/* How two agents pass a running domain on. The one that sends connects to the other's port, with its host's
 * certificate, as often as it needs:
 *
 *   GET /v1/migrate?ticket=<uuid>&part=control|memory|disk&device=<device>   Upgrade: corral-migrate
 *   GET /v1/migrate?ticket=<uuid>&part=status   -> {"state":"<operation_state>"}
 *
 * The ticket is the id of the other's domain_receive, which names the host that may use it. `memory` and
 * `disk` carry what the device models say to each other. `control` carries one JSON object a line:
 *
 *   source       {"header":"<base64 of a saved domain's header>"}
 *   destination  {"ready":true}     its device model waits: disks and memory may come
 *   source       {"go":true}        all was sent, and is written down as offered
 *   destination  {"running":true}   written down as its own, and running
 *   either       {"error":{"kind":"...","text":"..."}}, or the end of the connection: it is off
 *
 * Until `go` the guest belongs to the source: a destination that loses the connection drops what it has. From
 * `go` on it belongs to whom the destination's operation says: done, or failed (or unknown). */
#pragma once
#include "agent.h"
#include <base/http_client.h>

#define MIGRATION_PROTOCOL "corral-migrate"
#define MIGRATION_HOST_SUFFIX ".host.corral.internal"

/* One end of the control connection. */
struct migration_talk {
    struct stream *stream; /* NULL: none */
    struct buf in;         /* read and not used yet */
};
void migration_talk_done(struct migration_talk *talk);
/* Sends a line; `moved` is decrefed. -1: UNREACHABLE. */
int migration_say(struct migration_talk *talk, json_t *moved, struct hv_err *err);
int migration_say_error(struct migration_talk *talk, const struct hv_err *why);
/* Waits for a line, whose object is *out. -1: UNREACHABLE when the connection ended, DEADLINE after
 * `wait_ms`, CANCELLED, or the error that the other side has sent, with *refused set. `deadline` may be NULL.
 */
int migration_hear(struct migration_talk *talk, int64_t wait_ms, const struct hv_deadline *deadline,
                   json_t **out, bool *refused, struct hv_err *err);
/* Has something arrived, or the connection ended. */
bool migration_has_news(struct migration_talk *talk);
