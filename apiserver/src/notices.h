/* Alerts that no call makes: certificates that end soon, logins that keep failing, clocks that are apart. */
#pragma once
#include "server.h"

struct notices;

/* Looks at certificates at once and then hourly, has those renewed that are the pool's own affair, and tells
 * hourly of logins that failed meanwhile. */
struct notices *notices_new(struct server *server);
/* Once timers and workers have ended. */
void notices_free(struct notices *notices);

/* A login with a wrong name or password; `peer` "": from this machine. `notices` may be NULL. Any thread. */
void notices_login_failed(struct notices *notices, const char *peer, const char *user);
/* Tells of those since the last time, if there are any. Blocks. */
void notices_tell_logins(struct notices *notices);

/* Brings the alerts about certificates to what is true at `now` (Unix seconds): 30, 14 and 7 days before one
 * ends, and when it has ended. Alerts that are out of date go. */
void notices_certificates(struct tx *tx, int64_t now);

/* A host's clock is that far from the server's: tells when it is too far, once, until it comes near again.
 * `*told` belongs to the host and is false at first. Blocks. */
void notices_clock(struct server *server, const char *host_uuid, int64_t apart_us, bool *told);
