/* Doors of the server that are not messages of the API: each answers one kind of HTTP request. */
#pragma once
#include <base/http_server.h>
#include <jansson.h>
#include <model/http_actions.h>

struct server;
struct worker_pool;
struct session;
struct api_err;

/* Around everything that a network thread does with a request: false, after a 503, when the server is
 * stopping. */
bool doors_enter(struct server *server, struct http_request *req);
/* The same for others that use the server's parts, without an answer. */
bool doors_try_enter(struct server *server);
void doors_leave(struct server *server);
/* First step of a stop. When it returns no network thread uses the server's parts, and none will. */
void doors_close(struct server *server);

/* Who asks, and the task that the request brings along: copied where the request came in, so that it is there
 * when the body arrives meanwhile. In this order: the machine's root over the local socket; `session_id` as
 * cookie or query parameter, or `Authorization: Bearer <session>` (there also an API token); the cookie
 * pool_secret; Basic user:password; a TLS client certificate that the pool knows. Release it with
 * door_claim_done. */
struct door_claim {
    bool local_root, known_client;
    char *session, *token, *secret, *basic; /* one of them, or none */
    char *task;                             /* task_id of cookie or query; NULL: none */
    char peer[48];
};
void door_claim_copy(struct http_request *req, struct door_claim *claim);
void door_claim_done(struct door_claim *claim);
/* Whether who claims to be somebody may do this (`action` NULL: anything): a counted session, or NULL after
 * answering 401 (not logged in), 403 (not the role) or 503. After a refusal the task of the claim has failed
 * too, unless it runs already. Whoever has no session gets a temporary one: *temporary tells, close it with
 * session_close. A password costs a hash, so this blocks: for a worker. */
struct session *door_admit_claim(struct server *server, struct http_request *req,
                                 const struct door_claim *claim, const struct http_action *action,
                                 bool *temporary);
/* The same for a request whose head is still there. */
struct session *door_admit(struct server *server, struct http_request *req, const struct http_action *action,
                           bool *temporary);
/* The first half alone, without an answer: NULL with *err. Sets *temporary only to true. */
struct session *door_find_session(struct server *server, const struct door_claim *claim, bool *temporary,
                                  struct api_err *err);
/* Without a role: the door judges by itself, perhaps not at all. */
static inline struct session *door_authenticate_claim(struct server *server, struct http_request *req,
                                                      const struct door_claim *claim, bool *temporary)
{
    return door_admit_claim(server, req, claim, NULL, temporary);
}
static inline struct session *door_authenticate(struct server *server, struct http_request *req,
                                                bool *temporary)
{
    return door_admit(server, req, NULL, temporary);
}
/* The second half alone, for who has a session already: true, or false after answering 403. */
bool door_allow(struct server *server, struct http_request *req, const struct session *session,
                const struct http_action *action);
/* A request on its way to a worker: doors block (passwords, agents), network threads must not. */
struct door_job {
    struct server *server;
    struct http_request *req; /* counted */
    json_t *body;             /* NULL: none was read */
};
/* Runs `run(job)` on a worker, which ends with door_job_free; answers 503 when all are busy. */
void door_submit(struct worker_pool *pool, struct server *server, struct http_request *req, json_t *body,
                 void (*run)(void *job));
/* What a door does with a JSON body. Static. */
struct door_body {
    void (*run)(void *job);
    size_t max;
    bool login; /* on the login workers: it hashes passwords or makes keys */
};
/* Reads the body, then door_submit; answers 400 when it is no JSON. */
void door_submit_json(struct server *server, struct http_request *req, const struct door_body *door);
void door_job_free(struct door_job *job);
/* {"error": code, "params": [...], "message": sentence} */
void door_fail(struct http_request *req, unsigned status, const struct api_err *err);

void door_join_tokens(struct server *server, struct http_request *req);    /* hosts/join.c */
void door_join(struct server *server, struct http_request *req);           /* hosts/join.c */
void door_why(struct server *server, struct http_request *req);            /* http/why.c */
void door_metrics(struct server *server, struct http_request *req);        /* http/prometheus.c */
void door_healthz(struct server *server, struct http_request *req);        /* http/prometheus.c */
void door_readyz(struct server *server, struct http_request *req);         /* http/prometheus.c */
void door_pool_copy(struct server *server, struct http_request *req);      /* members/copy.c */
void door_pool_members(struct server *server, struct http_request *req);   /* members/talk.c */
void door_pool_secret(struct server *server, struct http_request *req);    /* members/talk.c */
void door_audit_log(struct server *server, struct http_request *req);      /* http/audit_log.c */
void door_console_tokens(struct server *server, struct http_request *req); /* http/console.c */
void door_console(struct server *server, struct http_request *req);        /* http/console.c */
void door_console_tunnel(struct server *server, struct http_request *req); /* http/console.c */
void door_vncsnapshot(struct server *server, struct http_request *req);    /* http/vncsnapshot.c */
void door_get_blob(struct server *server, struct http_request *req);       /* http/blob.c */
void door_put_blob(struct server *server, struct http_request *req);       /* http/blob.c */
void door_import_raw_vdi(struct server *server, struct http_request *req); /* http/raw_vdi.c */
void door_export_raw_vdi(struct server *server, struct http_request *req); /* http/raw_vdi.c */
void door_cli(struct server *server, struct http_request *req);            /* cli/door.c */
void door_rrd_updates(struct server *server, struct http_request *req);    /* http/rrds.c */
void door_vm_rrd(struct server *server, struct http_request *req);         /* http/rrds.c */
void door_host_rrd(struct server *server, struct http_request *req);       /* http/rrds.c */
void door_sr_rrd(struct server *server, struct http_request *req);         /* http/rrds.c */
void door_put_rrd(struct server *server, struct http_request *req);        /* http/rrds.c */
/* Moving VMs: http/export.c and http/import.c. */
void door_export(struct server *server, struct http_request *req);
void door_export_metadata(struct server *server, struct http_request *req);
void door_import(struct server *server, struct http_request *req);
void door_import_metadata(struct server *server, struct http_request *req);
/* The database as XML: http/dump.c and http/restore.c. What is known, but not done: http/unbuilt.c. */
void door_dump(struct server *server, struct http_request *req);
void door_restore(struct server *server, struct http_request *req);
void door_system_status(struct server *server, struct http_request *req); /* http/system_status.c */
void door_host_logs(struct server *server, struct http_request *req);
void door_unbuilt(struct server *server, struct http_request *req);
