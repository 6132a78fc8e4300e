/* Logging in: passwords, whom they stand for, and what slows down guessing. */
#pragma once
#include "../server.h"
#include "session.h"

/* Loads the superuser's password from DIR/admin-password, making a random one on the first start. 0, or -1
 * after logging why. */
int auth_init(struct server *server);
void auth_free(struct auth *auth);

/* Runs a message without a session on the login workers: at once, or later when this source has given wrong
 * passwords for this user. No thread waits meanwhile. */
void auth_schedule(struct call *call, void (*work)(void *call));

/* 0 with who it is and what they may do (release it with identity_done), or -1:
 * SESSION_AUTHENTICATION_FAILED, SESSION_AUTHORIZATION_FAILED (not one of the users allowed in) or
 * RBAC_PERMISSION_DENIED (no role). Costs a password hash or a question to the directory: for a login worker.
 * A wrong password makes this source wait before its next attempt for this user; *delay_ms (may be NULL) is
 * how long the answer should be held back. */
int auth_check(struct server *server, const char *peer, const char *user, const char *password,
               struct identity *who, int64_t *delay_ms, struct api_err *err);
/* The same for HTTP Basic, where nothing can wait: refused unseen while this source has to wait, or when
 * others are being checked already. For any worker. */
int auth_check_directly(struct server *server, const char *peer, const char *user, const char *password,
                        struct identity *who, struct api_err *err);
/* The secret that members of the pool share (DIR/pool-secret). */
bool auth_is_pool_secret(struct server *server, const char *secret);
/* Who comes by a client certificate that the HTTPS port knows: 0, or -1 with SESSION_AUTHENTICATION_FAILED
 * when such logins were switched off meanwhile. */
int auth_check_certificate(struct server *server, struct identity *who, struct api_err *err);
int auth_rotate_pool_secret(struct server *server, struct api_err *err);
/* The same for a login: 0, or -1 with SESSION_AUTHENTICATION_FAILED and *delay_ms as above. */
int auth_check_secret(struct server *server, const char *peer, const char *secret, int64_t *delay_ms,
                      struct api_err *err);

/* Is this the password of the session's user, root or a local one? 0, or -1 with
 * SESSION_AUTHENTICATION_FAILED. Always costs a hash. */
int auth_check_own(struct server *server, const struct session *session, const char *password,
                   struct api_err *err);
int auth_set_root_password(struct server *server, const char *password, struct api_err *err);
/* What was remembered of the outside directory's answers is forgotten: settings of it have changed. */
void auth_forget_directory(struct server *server);
/* How many logins are checked at once, as the pool's settings say; settings at their defaults leave that to
 * the server. */
void auth_apply_threads(struct server *server);
