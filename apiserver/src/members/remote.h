/* Calls to the server of another host: as a client of the API before it is one pool, as a member after. */
#pragma once
#include "standing.h"
#include <base/buf.h>
#include <base/http_client.h>
#include <model/error.h>

struct remote;
/* Another server of this pool: its certificate is the pool's, and names server.corral.internal; `data_dir`
 * has the pool's CA and secret. NULL after logging. */
struct remote *remote_member(const char *data_dir, const struct peer *peer);
/* A server of a pool that is not ours yet. Trusts the CA with this fingerprint; NULL: the one it shows, which
 * *root then is. NULL with *err (POOL_JOINING... when it does not answer). */
struct remote *remote_stranger(const struct peer *peer, const char *fingerprint,
                               char root[static SHA256_TEXT_SIZE], struct api_err *err);
/* The server of a pool that stays another one, at this https URL, with a session there. Trusts the
 * certificate with this sha256; NULL: those that vouch for the name in the URL and are in `ca_file` (NULL:
 * the system's). NULL with INVALID_VALUE [dest]. When it does not answer, calls fail with CANNOT_CONTACT_HOST
 * [host]; those to other servers with JOINING_HOST_CONNECTION_FAILED. */
struct remote *remote_pool(const char *url, const char *leaf_sha256, const char *ca_file, const char *host,
                           const char *session, struct api_err *err);
/* True if the last call had no answer: what it did is not known. */
bool remote_is_lost(const struct remote *remote);
void remote_free(struct remote *remote);
void remote_free_cleanup(struct remote **remote);
#define AUTO_REMOTE __attribute__((cleanup(remote_free_cleanup)))
/* Requests under way end soon when this becomes true; the flag outlives the remote. */
void remote_set_cancel(struct remote *remote, const _Atomic bool *cancel);
/* Later requests carry this pool's secret. */
void remote_set_secret(struct remote *remote, const char *secret);

/* The same with the session that remote_login has made, first. */
int remote_login(struct remote *remote, const char *user, const char *password, struct api_err *err);
json_t *remote_ask(struct remote *remote, const char *name, json_t *params, struct api_err *err);
void remote_logout(struct remote *remote);

/* POST /api/v1/pool/members with {"action": action, ...body}; `body` moves. The answer (decref), or NULL: not
 * reached or refused, *status (may be NULL) is 0 or the HTTP status. */
json_t *remote_tell(struct remote *remote, const char *action, json_t *body, int64_t timeout_ms,
                    unsigned *status);
/* GET with the secret; see http_client_call. */
int remote_get(struct remote *remote, const char *path, int64_t timeout_ms, struct http_reply *reply,
               struct http_error *error);
/* PUT with the session, `len` bytes that `source` gives (see http_client_call), until `cancel` is set. The
 * answer's status is 200, or -1 with *err. */
int remote_put(struct remote *remote, const char *path, ssize_t (*source)(void *arg, char *to, size_t max),
               int64_t len, void *arg, const _Atomic bool *cancel, struct api_err *err);
/* A join token of the other pool; the caller frees. */
char *remote_join_token(struct remote *remote, struct api_err *err);
/* The secret of the other pool, for who may administer it; the caller frees. */
char *remote_pool_secret(struct remote *remote, struct api_err *err);
