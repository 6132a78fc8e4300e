/* The audit log: one line for each login, each change and each refusal. Lines look as clients of GET
 * /audit_log know them; docs/users.md describes them. Never a secret: parameters are told by reference, name,
 * number or map key, not by free text. On disk each ends with a sum that chains it to those before
 * (trail_chain.h). Any thread. */
#pragma once
#include "../server.h"

struct trail;
/* DIR/audit.log and its older parts. Never NULL; what cannot be written goes to the log instead. */
struct trail *trail_open(const char *state_dir);
void trail_close(struct trail *trail);

/* How a call through the gate ended: it changed something, or was refused. `err` NULL: success. Reads that
 * were allowed leave no line. */
void trail_call(const struct call *call, const struct api_err *err);
/* The same of several, whose outcome is in them (call->failed, call->err): written at once. */
void trail_calls(struct call *const calls[], size_t count);
/* A login or its end (`message`: "session.logout"): `user` as given, `session` when there is one. */
void trail_session(struct trail *trail, const char *peer, const char *message, const char *user,
                   const struct session *session, const struct api_err *err);
/* A request at an HTTP door, when it ended or was refused; `session` NULL: nobody known. */
void trail_door(struct trail *trail, const char *peer, const struct session *session, const char *permission,
                const struct api_err *err);

/* Writes the lines that are not older than `since` (compared as text with their stamp; "": all), oldest
 * first, with their sums or as clients know them, by calling put until it returns -1. 0, or -1 when put did
 * or a file could not be read. */
int trail_read(struct trail *trail, const char *since, bool sums,
               int (*put)(void *arg, const char *data, size_t len), void *arg);
