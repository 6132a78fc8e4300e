/* What the server itself fetches from addresses that clients name (VM.import): from where it may, how much,
 * how long. Without a rule only public addresses are reached: neither this machine, nor private and
 * link-local networks, nor what else has a special meaning; so nobody reaches by the server what he could not
 * reach. */
#pragma once
#include "server.h"
#include <base/http_fetch.h>

#define FETCH_SIZE_MAX (INT64_C(16) << 40)     /* bytes */
#define FETCH_TIME_MAX_MS (24LL * 3600 * 1000) /* of one fetch */

struct fetch_rules;
/* `allow`: networks that may be reached besides, "10.0.0.0/8,fd00::/8"; NULL: none. NULL with a sentence in
 * `error` when it is no such list. */
struct fetch_rules *fetch_rules_new(const char *allow, char error[static 160]);
void fetch_rules_free(struct fetch_rules *rules);
/* May this address be reached? Any thread; `rules` NULL: public ones. */
bool fetch_allowed(const struct fetch_rules *rules, const struct sockaddr *to);

/* For a client that sends: "192.0.2.1:443" or "[2001:db8::1]:443", the first address of the name that may be
 * reached. What was looked at is what is to be connected to (http_client_config.connect_to). The caller
 * frees; NULL: none. Blocks. */
char *fetch_resolve(const struct fetch_rules *rules, const char *host, int port);
/* A file without a name with the certificates that the pool trusts, for http_client_config.ca_file as long as
 * it is open; -1: it trusts none of its own. */
int fetch_trusted_file(const struct snapshot *snap, char path[static 32]);

/* Opens a fetch under the server's rules and with the certificates that the pool trusts. */
int fetch_open(struct server *server, const char *url, const _Atomic bool *cancel, struct http_fetch **out,
               struct http_error *error);
