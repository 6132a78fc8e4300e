/* How a host becomes part of the pool: one-time tokens, its certificate, its rows. */
#pragma once
#include <jansson.h>

struct server;
struct session;
struct api_err;
struct joins;
struct joins *joins_new(void);
void joins_free(struct joins *joins);
/* A certificate (PEM) of the pool's CA for the host of this uuid and the key in its request, and the CA's
 * own; the caller frees both. */
int join_issue_certificate(struct server *server, const char *uuid, const char *csr, char **cert, char **ca,
                           struct api_err *err);
/* {"token", "expires"}: lets one host join within an hour. NULL with *err. Reads a file: for a worker. */
json_t *join_token_make(struct server *server, const struct session *session, struct api_err *err);
/* The same token without its wrapping, for this server's own host; the caller frees (secret). */
char *join_token_new(struct server *server, struct api_err *err);
