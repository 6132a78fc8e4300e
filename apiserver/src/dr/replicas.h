/* Copies of the pool's database on its own storage, for the day when the pool is lost: on VDIs of type
 * metadata (SR.enable_database_replication) and redo_log (pool.enable_redo_log) whose metadata_of_pool is
 * this pool. One thread writes them anew soon after a change; the agent puts a new copy in place of the old
 * one by a rename, so there is a whole one at any moment. */
#pragma once
#include "../server.h"

struct replicas;
/* NULL: no thread could be started (logged). */
struct replicas *replicas_new(struct server *server);
/* The thread ends; NULL is accepted by both. */
void replicas_stop(struct replicas *r);
void replicas_free(struct replicas *r);
/* For a VDI that is committed to be none of them any more: returns when the thread is not at it. Blocks for
 * as long as a copy takes. NULL is accepted. */
void replicas_leave(struct replicas *r, struct ref vdi);
/* Writes the database of now to this VDI and returns when it is there. Blocks. */
int replicas_write(struct server *server, struct ref vdi, const _Atomic bool *cancel, struct api_err *err);
