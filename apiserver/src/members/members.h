/* A pool of several servers: one coordinator, which does everything, and members, which keep a copy of its
 * database, tell clients where it is, and can take over. docs/pools.md is the operator's side and the design.
 */
#pragma once
#include "../server.h"
#include "standing.h"
#include <pthread.h>

struct members {
    struct server *server;
    char *root_dir; /* DIR: ports, socket, standing.json */
    char *data_dir; /* server->state_dir: the folder of the pool */
    struct standing *standing;
    bool member; /* what this process is until its end; the file says what the next one will be */
    _Atomic int64_t term;
    pthread_t thread;
    bool started;
    pthread_mutex_t lock; /* guards stop */
    pthread_cond_t changed;
    bool stop;
    _Atomic int64_t heard_ms;   /* clock_mono_ms of the last word of the coordinator; 0: none yet */
    _Atomic int64_t generation; /* of the copy that is here; 0: of unknown age */
    _Atomic bool ending;        /* requests under way are given up */
    _Atomic bool leaving;       /* the standing has changed: this process ends soon */
};

/* Reads the standing. NULL after logging. */
struct members *members_open(struct server *server, const char *root_dir);
void members_free(struct members *members);
/* Before anything is served: another server has taken over from this one while it was away, and *file says so
 * now. */
bool members_superseded(struct server *server);
/* A coordinator notes itself in the pool's rows; then the thread starts: a member's copy, or what is left of
 * a join or an eject. */
int members_start(struct server *server, struct api_err *err);
void members_stop(struct members *members);

/* All of these also work without members (tests of parts). */
bool members_is_member(const struct server *server);
int64_t members_term(const struct server *server);
/* HOST_IS_SLAVE with the coordinator's address (and its port, where that is not ours too). Returns -1. */
int members_refuse(const struct server *server, struct api_err *err);
/* "name", "name:port", "[v6]:port"; without a port: `own_port`. INVALID_VALUE. */
int members_read_address(const char *text, uint16_t own_port, struct peer *out, struct api_err *err);
/* A member that has not heard of its coordinator for a while. */
bool members_in_emergency(const struct server *server);
/* An agent has heard of a later term: this server is not the coordinator any more. Any thread. */
void members_step_down(struct server *server);

/* ---- between the files of this folder ---- */
/* Makes the standing durable and starts anew as that. 0, or -1 with *err. */
/* The call's answer leaves before the process ends. */
int members_become(struct members *members, const json_t *standing, struct api_err *err);
/* Servers of the pool's other hosts. {"uuid","address","port"} each; decref. */
json_t *members_peers(const struct snapshot *snap, const char *own_uuid);
/* uuid, address and port of the coordinator's own host. False: the pool has none yet. */
bool members_self(const struct server *server, const struct snapshot *snap, struct peer *out);

/* True when the pool that was to be joined has forgotten the host, or never will. */
bool members_cancel_join(struct members *members, const json_t *joining);

/* ---- copy.c ---- */
enum copy_outcome {
    COPY_FRESH,   /* a newer one was installed */
    COPY_SAME,    /* nothing has changed */
    COPY_YIELDED, /* that server has stepped back for this host: what is here now is all that there was */
    COPY_GONE,    /* the pool does not know this host any more */
    COPY_FAILED,  /* not reached, or refused */
};
struct remote;
/* Asks for what is newer than `since`, waiting some seconds for it, and installs it in data_dir. *header (may
 * be NULL; decref) is what came along. */
enum copy_outcome copy_fetch(struct remote *remote, const char *data_dir, const char *host, int port,
                             int64_t since, int64_t term, json_t **header);

/* ---- rows.c ---- */
/* What the pool of a joining host brings along, as JSON; decref. The host's own reference becomes `there`,
 * those that are keys of `networks` (may be NULL) their values; rows of the latter stay. */
json_t *rows_collect(const struct snapshot *snap, struct ref own_host, struct ref there,
                     const json_t *networks);
/* Makes them, with their references. Within a transaction. 0, or -1 with *err. */
int rows_make(struct tx *tx, const json_t *rows, struct api_err *err);
/* Those that are there go again. */
void rows_unmake(struct tx *tx, const json_t *rows);
