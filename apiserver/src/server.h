/* What the parts of the server share: one struct for the process, one for each call under way. */
#pragma once
#include "gate/rate.h"
#include <base/ref.h>
#include <base/worker.h>
#include <db/store.h>
#include <jansson.h>
#include <model/error.h>
#include <model/method.h>
#include <model/rows.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct sessions;
struct session;
struct tasks;
struct events;
struct timers;
struct parking;
struct commits;
struct recovery;
struct hosts;
struct ha;
struct claims;
struct joins;
struct console_tokens;
struct schedules;
struct replicas;
struct auth;
struct metrics;
struct call_log;
struct trail;
struct rest_keys;
struct plans;
struct rehearsal;
struct api_tokens;
struct front;
struct fetch_rules;
struct notices;
struct nbd;

/* Lives as long as the process serves. The parts have locks of their own; the pointers never change
 * once the server answers. */
struct server {
    struct store *store;
    struct worker_pool *workers;       /* calls that may block */
    struct worker_pool *login_workers; /* password hashes: few, so that guessing cannot take the processors */
    struct worker_pool *directory_workers; /* logins that an outside directory decides: it may hang */
    struct worker_pool *cli_workers;       /* conversations with thin command lines */
    struct timers *timers;
    struct sessions *sessions;
    struct tasks *tasks;
    struct parking *parking;    /* calls that wait for another operation */
    _Atomic bool written_alone; /* a call is at the disk on the thread that it came in on */
    struct commits *commits;    /* calls that wait for the disk; NULL in tests of parts */
    struct recovery *recovery;  /* tasks that a restart has interrupted */
    struct events *events;
    struct hosts *hosts;
    struct ha *ha; /* NULL in tests of parts */
    struct claims *claims;
    struct joins *joins;
    struct console_tokens *console_tokens;
    struct schedules *schedules;
    struct replicas *replicas; /* copies of the database on the pool's disks; NULL: none are kept */
    struct rest_keys *rest_keys;
    struct plans *plans;
    struct api_tokens *api_tokens;
    struct rates *rates;
    struct rate_limit rest_rate; /* requests of one user, token or address over REST */
    struct rate_limit call_rate; /* and of one address at all other doors */
    struct members *members;     /* NULL in tests of parts: the coordinator of a pool without others */
    const char *state_dir;       /* of the pool: its database, keys, passwords */
    const char *listen;          /* address of HTTPS */
    const char *names;           /* further ones in its certificate, separated by commas; NULL: none */
    const char *web_dir;
    struct auth *auth;
    struct metrics *metrics;
    struct notices *notices;   /* NULL in members and in tests of parts: nothing is told */
    struct call_log *call_log; /* NULL: none is kept */
    struct trail *trail;       /* NULL in tests of parts: nothing is noted */
    struct front *front;
    struct fetch_rules *fetch_rules; /* see fetch.h; NULL: public addresses only */
    const char *pam_dir;             /* folder of PAM's service files; NULL: the system's */
    struct nbd *nbd;                 /* NULL: disks are not served over NBD */
    uint16_t port;                   /* HTTPS */
    int64_t operation_wait_ms;       /* how long a call waits for another operation on its object */
    int64_t upload_keep_s;           /* how long an upload in parts is kept for whoever goes on with it */
    struct ref pool_ref;
    /* Network threads that are inside, and whether no more get in: see doors_close. */
    _Atomic unsigned inside;
    _Atomic bool closing;
    _Atomic bool replaced; /* another database takes this one's place soon: what would change it is refused */
    struct rehearsal *rehearsal; /* whose calls see this copy of the server; NULL: what is done is done */
    bool may_end;                /* it is a process of its own: false in tests of parts */
    _Atomic bool again;          /* after its end the process starts anew: see ending.h */
};

/* What a request says of the task that it is about to make: headers task-id and subtask-of, or cookies and
 * query parameters task_id and subtask_of. Read by http/task_claim.c. */
struct task_claim {
    struct ref adopt;             /* this one, which the client has made; null: a new one */
    struct ref parent;            /* null: none */
    const struct str_map *origin; /* counted: harmless headers, for the new task's other_config; NULL: none */
};
void task_claim_done(struct task_claim *claim);

/* How an answer is written: the codec's choice. */
enum answer_form { ANSWER_JSON, ANSWER_XML };

/* One call, from the decoded request to the encoded answer. Owned by the thread that runs it; handed
 * from the network thread to a worker and never back. */
struct call {
    struct server *server;
    const struct method_desc *method;
    struct session *session; /* counted; NULL for messages without one */
    struct ref task;         /* null: none */
    bool async;
    struct task_claim claim;
    struct ref pinned_host; /* where a VM that would go anywhere is to go: a plan said so; null: anywhere */
    bool local_root;   /* came over the local socket from the machine's root: its logins need no password */
    bool known_client; /* showed a TLS certificate that the pool knows */
    bool bare; /* XML-RPC: the result alone, without the struct with its Status (system.listMethods) */
    enum answer_form form;
    bool alone;                      /* nobody else waits for the thread that it came in on */
    bool pieces_ok;                  /* its answer may be one in pieces */
    char peer[48];                   /* numeric address of the client; "" when there is none */
    char *name;                      /* as asked: "Async.VM.start" */
    const char *message;             /* the same without "Async.": within `name` */
    struct snapshot *snapshot;       /* of the moment the call began; handlers may read from it */
    const struct row *kept_row;      /* see call_keep_row; NULL: none */
    const _Atomic bool *cancel;      /* set when the task is cancelled; NULL when there is none */
    void (*complete)(struct call *); /* set by the codec: encodes, answers and frees */
    void *reply;                     /* the codec's: where the answer goes */

    /* The answer. */
    union cell result;
    const struct type *result_type; /* type of `result`; NULL: `raw` holds it */
    char *raw;                      /* an answer that was written in `form` right away, see gate/answer.h */
    size_t raw_len;
    struct answer_pieces *pieces; /* what belongs into `raw` but is not copied there; NULL: nothing */
    struct api_err err;
    bool failed;

    /* The gate's own. */
    void *args;
    json_t *params; /* positional, without the session */
    bool lenient;   /* numbers may come as text */
    /* Set by a handler that answers later: called as the gate's last step with the call, which is the
     * callee's from then on: to complete, of a message that runs inline (event.from); to end by
     * work_end_taken, of one that runs on a worker, which is free again meanwhile. */
    void (*take_over)(struct call *call, void *arg);
    void *take_over_arg;
    int64_t delay_ms;                         /* the answer leaves this much later (a wrong password) */
    bool adopted;                             /* `task` was not made for this call */
    bool completes;                           /* InternalAsync: ends also a task that it adopted */
    bool marked;                              /* the operation */
    int64_t wait_until_ms, overrule_until_ms; /* clock_mono_ms: see work.c */
};

/* An internal defect or a state that no declared error names: INTERNAL_ERROR [text]. Returns -1. */
int fail_internal(struct api_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Translates a failed commit. Details are in the log. */
int fail_store(struct api_err *err, const struct store_err *cause);
/* HANDLE_INVALID for a reference of this class. */
int fail_handle(struct api_err *err, const struct class_desc *cls, struct ref ref);

/* What follows from the changed rows: fields that are computed. Part of every commit. */
void server_refresh(struct tx *tx);
/* Commits and translates the error: 0, or -1 with *err. */
int server_commit(struct tx *tx, struct api_err *err);
/* For logs: "UUID (label)" of the object as it is now, its reference when it is gone; `out`. */
#define OBJECT_TEXT_SIZE 160
const char *server_object_text(const struct server *server, const struct class_desc *cls, struct ref ref,
                               char out[static OBJECT_TEXT_SIZE]);
/* The same on the stack of the calling expression. */
#define OBJECT_TEXT(server, cls, ref) server_object_text((server), (cls), (ref), (char[OBJECT_TEXT_SIZE]){0})
/* For the end of what was begun in memory only (marks, tasks, sessions): makes the change in a transaction,
 * anew as long as that is dragged down by others that cannot be written. Blocks: for a worker. */
void server_insist(struct server *server, void (*edit)(struct tx *tx, void *arg), void *arg);
