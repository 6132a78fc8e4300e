/* Logging in: passwords, and what slows down guessing. */
#pragma once
#include "../server.h"

/* Loads the superuser's password from DIR/admin-password, making a random one on the first start. 0, or -1
 * after logging why. */
int auth_init(struct server *server);

struct auth;
/* Runs a message without a session on the login workers: at once, or later when this source has given wrong
 * passwords for this user. No thread waits meanwhile. */
void auth_schedule(struct call *call, void (*work)(void *call));

/* 0 with the role of the user, or -1 with SESSION_AUTHENTICATION_FAILED. Costs a password hash: for a login
 * worker. A failure makes this source wait before its next attempt for this user; *delay_ms (may be NULL) is
 * how long the answer should be held back. */
int auth_check(struct server *server, const char *peer, const char *user, const char *password,
               enum role *role, bool *superuser, int64_t *delay_ms, struct api_err *err);
/* The same for HTTP Basic, where nothing can wait: refused unseen while this source has to wait, or when
 * others are being checked already. For any worker. */
int auth_check_directly(struct server *server, const char *peer, const char *user, const char *password,
                        enum role *role, bool *superuser, struct api_err *err);
int auth_change_password(struct server *server, const char *old_password, const char *new_password,
                         struct api_err *err);
void auth_free(struct auth *auth);
