/* What this server is in its pool: coordinator or member, under which term, and where the pool's folder is.
 * One file, DIR/standing.json, replaced whole: every change of a standing is decided by that one write, and
 * carried out by the process that starts next. Read docs/pools.md first. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Another server of the pool. */
struct peer {
    char uuid[40]; /* of its host; "": not known */
    char address[256];
    int port;
};

struct standing;
/* Reads the file, or takes what a first start is: coordinator, term 1, the folder itself. NULL after logging.
 */
struct standing *standing_open(const char *dir);
void standing_free(struct standing *standing);

/* A copy of the whole, for a change: what is not set stays. Decref. Members:
 *   "member" bool; "term" int; "data" string: folder in DIR, "" for DIR itself; "host" uuid of the own host
 * or ""; "leader" {"uuid","address","port"}; "yield" uuid of the host that takes over from here; "peers"
 * [like leader]; "move" and "joining": see members.c */
json_t *standing_get(struct standing *standing);
/* Makes it durable. 0, or -1 with errno; nothing is changed then. Any thread. */
int standing_set(struct standing *standing, const json_t *value);

bool standing_is_member(struct standing *standing);
int64_t standing_term(struct standing *standing);
/* The folder of the pool; the caller frees. */
char *standing_data_dir(struct standing *standing);
bool standing_leader(struct standing *standing, struct peer *out); /* false: not known */

bool peer_read(const json_t *json, struct peer *out);
json_t *peer_json(const struct peer *peer);
