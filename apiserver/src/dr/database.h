/* Databases of pools that were read from a disk: VDI.open_database gives a session whose calls read there and
 * change nothing. Few are open at a time; one ends with the last session and call that uses it. Any thread.
 */
#pragma once
#include "../server.h"
#include "pool_copy.h"

struct database;
/* NULL is accepted. */
void database_unref(struct database *db);
/* Of the whole content; a count of its own. */
struct snapshot *database_snapshot(const struct database *db);
const char *database_pool(const struct database *db);
/* May a session that reads from a database call this? Getters, and what recovers from there. */
bool database_serves(const struct method_desc *method);

/* Reads the head of what the disk holds. 1: there is one; 0: this is no copy of a database; -1. Blocks. */
int database_peek(struct server *server, struct ref vdi, struct pool_copy_head *out, struct api_err *err);
/* Reads all of it. VDI_INCOMPATIBLE_TYPE when it holds no copy. Blocks. */
int database_open(struct server *server, struct ref vdi, const _Atomic bool *cancel, struct database **out,
                  struct api_err *err);
/* The same from the bytes of such a disk. */
int database_open_bytes(const char *data, size_t len, struct database **out, struct api_err *err);
/* A session of the same user that reads from `db`, which gets a count. */
int database_session(struct call *call, struct database *db, struct ref *token, struct api_err *err);
