/* What the files of ha.h share. */
#pragma once
#include "ha.h"

#include <pthread.h>
#include <stdatomic.h>

/* One host of the live set, as its signs show it. Under ha->lock but for what is said. */
struct ha_peer {
    struct ha *ha;
    struct ref host;
    char uuid[UUID_TEXT_SIZE];
    pthread_t thread; /* of its beats */
    _Atomic bool stop;
    int64_t since_ms;     /* clock_mono_ms: what was asked before counts for nothing */
    int64_t last_sign_ms; /* of life, of either kind */
    bool seen;            /* its slot was read */
    int64_t sequence;     /* of its slot */
    char instance[UUID_TEXT_SIZE];
    int64_t stamp; /* to acknowledge; 0: nothing */
    enum ha_state state;
    bool answers; /* its agent did the last time */
    bool off;     /* its slot says that it takes no part: silence means nothing */
    bool ended;   /* its slot or its agent says that its guests were ended */
    bool silent;  /* for longer than lease and margin, as `silent_by` has read */
    struct ref silent_by;
    bool late;      /* nothing has been heard of it for half a lease, and that was told */
    bool disk_lost; /* its agent does not reach the heartbeat disk, and that was told */
    /* Of the main thread alone. */
    bool failed, recorded;
    const struct ref_set *best_effort; /* ran there when it was last well */
};

struct ha_attempt {
    struct ref vm;
    int failures;
    int64_t next_ms;    /* not before */
    int64_t started_ms; /* when it was last seen to run; 0: never since */
    bool told;
};

struct ha {
    struct server *server;
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    bool stop;
    struct ha_settings settings;
    struct ha_peer **peers; /* changed by the main thread alone */
    size_t peer_count;
    int64_t prevent_until_ms;
    bool enabling, disabling;
    bool restarting; /* a sequence is under way */
    struct session *session;
    /* Of the main thread alone. */
    struct ha_attempt *attempts;
    size_t attempt_count;
    struct ref *best_effort; /* to be tried once */
    size_t best_effort_count;
    uint64_t planned; /* generation of the store for which the plan was computed */
};

/* ha_peers.c. Threads of hosts: begun for those of the disk that are armed, ended for the others. */
void ha_peers_follow(struct ha *ha, const struct snapshot *snap, const struct ha_disk *disk);
void ha_peers_end(struct ha *ha);

/* ha_failed.c: what becomes of hosts that have failed, and of those that come back. */
void ha_judge(struct ha_peer *peer);

/* ha_restart.c: protected VMs that do not run, and `best_effort`. */
void ha_restart(struct ha *ha);
void ha_restart_end(struct ha *ha);
bool ha_stopping(struct ha *ha);
