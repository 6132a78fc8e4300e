/* API tokens: what programs show instead of a password (Authorization: Bearer corral-...). A token is a row
 * with the hash of its secret; whoever shows it acts as its maker, with the token's role at most, by a
 * session that is opened at the first use and shared by all requests with that token. Any thread. */
#pragma once
#include "../server.h"

#define API_TOKEN_DAYS_DEFAULT 90
#define API_TOKEN_DAYS_MAX 3650

struct api_tokens;
struct api_tokens *api_tokens_new(void);
void api_tokens_free(struct api_tokens *tokens);

/* True if the text looks like one, so that it is none of a session. */
bool api_token_is(const char *text);
/* The session of a token that is in use, counted; NULL: none is open, or the token is not (any more) good. */
struct session *api_token_session_open(struct server *server, const char *text);
/* The same, opened if need be: NULL with SESSION_AUTHENTICATION_FAILED, or what session_open says. Blocks. */
struct session *api_token_session(struct server *server, const char *text, struct api_err *err);

/* What is to be made. */
struct api_token_wish {
    const char *name; /* 1 to 64 printable characters */
    const char *role; /* its name; NULL: the session's */
    int64_t days;     /* 1 to API_TOKEN_DAYS_MAX */
};
/* Makes one for the session's user: 0 with {"token": its text, ...what the list shows}, which is the only
 * time that the text is told; -1 with INVALID_VALUE, RBAC_PERMISSION_DENIED (a stronger role than the
 * session's) or OPERATION_NOT_ALLOWED (a session of a token, a certificate or another server; too many
 * tokens). Blocks. */
int api_token_make(struct server *server, const struct session *session, const struct api_token_wish *wish,
                   json_t **out, struct api_err *err);
/* All that keeps it from being made, one by one. */
void api_token_refusals(struct server *server, const struct session *session,
                        const struct api_token_wish *wish, void (*each)(void *arg, const struct api_err *err),
                        void *arg);
/* Of one that the session may revoke (the caller's); NULL with UUID_INVALID. */
char *api_token_name(struct server *server, const struct session *session, const char *uuid,
                     struct api_err *err);
/* The session's own ones, a pool-admin's all (a weaker token's none): a new array of {"uuid", "name", "role",
 * "user", "created", "expires", "last_used"}, dates as in RFC 3339, last_used null when never. */
json_t *api_tokens_list(struct server *server, const struct session *session);
/* Ends the token and its session: one's own, as a pool-admin any. 0, or -1 with UUID_INVALID. Blocks. */
int api_token_revoke(struct server *server, const struct session *session, const char *uuid,
                     struct api_err *err);
/* Ends sessions of tokens that have expired, removes those that did so 30 days ago, and notes when they were
 * used last. Blocks. */
void api_tokens_sweep(struct server *server);
