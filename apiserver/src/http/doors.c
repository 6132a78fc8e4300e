/* Who stands at a door, and how a refusal looks. */
#include "doors.h"

#include "../gate/api_tokens.h"
#include "../gate/auth.h"
#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/task.h"
#include "../gate/trail.h"
#include "../members/members.h"
#include <base/json.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/errors.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

void door_job_free(struct door_job *job)
{
    json_decref(job->body);
    http_request_unref(job->req);
    free(job);
}

void door_submit(struct worker_pool *pool, struct server *server, struct http_request *req, json_t *body,
                 void (*run)(void *job))
{
    struct door_job *job = xcalloc(1, sizeof(*job));
    *job = (struct door_job){server, http_request_ref(req), body};
    if (worker_submit(pool, run, job) == 0)
        return;
    http_answer_error(req, 503, "the server is too busy now: try again in a moment");
    door_job_free(job);
}

static void body_read(struct http_request *req, char *data, size_t len, void *arg)
{
    const struct door_body *door = arg;
    struct server *server = http_request_data(req);
    struct json_error error;
    if (!doors_enter(server, req))
        return;
    json_t *body = json_parse(data, len, &error);
    if (!body)
        http_answer_error(req, 400, error.text);
    else
        door_submit(door->login ? server->login_workers : server->workers, server, req, body, door->run);
    doors_leave(server);
}

void door_submit_json(struct server *server, struct http_request *req, const struct door_body *door)
{
    http_request_set_data(req, server);
    http_read_body(req, door->max, body_read, (void *)(uintptr_t)door);
}

static void write_error(struct buf *out, const struct api_err *err)
{
    buf_add_str(out, "{\"error\":");
    json_write_string(out, err->code);
    buf_add_str(out, ",\"params\":[");
    for (size_t i = 0; i < err->param_count; i++) {
        if (i)
            buf_add_char(out, ',');
        json_write_string(out, err->params[i]);
    }
    buf_add_str(out, "]}");
}

bool doors_try_enter(struct server *server)
{
    atomic_fetch_add(&server->inside, 1);
    if (!atomic_load(&server->closing))
        return true;
    doors_leave(server);
    return false;
}

bool doors_enter(struct server *server, struct http_request *req)
{
    if (doors_try_enter(server))
        return true;
    http_answer_error(req, 503, "the server is stopping");
    return false;
}

void doors_leave(struct server *server)
{
    atomic_fetch_sub(&server->inside, 1);
}

void doors_close(struct server *server)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    atomic_store(&server->closing, true);
    while (atomic_load(&server->inside) > 0) /* none of them blocks */
        nanosleep(&tick, NULL);
}

void door_fail(struct http_request *req, unsigned status, const struct api_err *err)
{
    struct buf out = BUF_INIT;
    write_error(&out, err);
    size_t len = out.len;
    http_answer_json(req, status, buf_take(&out), len);
}

/* ---- who asks ---- */

static const char *cookie_or_query(struct http_request *req, const char *name)
{
    const char *given = http_request_cookie(req, name);
    return given ? given : http_request_query(req, name);
}

void door_claim_copy(struct http_request *req, struct door_claim *claim)
{
    const char *header = http_request_header(req, "Authorization");
    const char *session = cookie_or_query(req, "session_id"),
               *secret = http_request_cookie(req, "pool_secret");
    const char *task = cookie_or_query(req, "task_id");
    *claim = (struct door_claim){.local_root = http_request_is_local_root(req),
                                 .known_client = http_request_is_known_client(req)};
    snprintf(claim->peer, sizeof(claim->peer), "%s", http_request_peer(req));
    const char *bearer = !session && header && strncasecmp(header, "Bearer ", 7) == 0 ? header + 7 : NULL;
    if (bearer && api_token_is(bearer))
        claim->token = xstrdup(bearer);
    else if (session || bearer)
        claim->session = xstrdup(session ? session : bearer);
    else if (secret)
        claim->secret = xstrdup(secret);
    else if (header && strncasecmp(header, "Basic ", 6) == 0)
        claim->basic = xstrdup(header + 6);
    if (task)
        claim->task = xstrdup(task);
}

void door_claim_done(struct door_claim *claim)
{
    secret_free_cleanup(&claim->session);
    secret_free_cleanup(&claim->token);
    secret_free_cleanup(&claim->secret);
    secret_free_cleanup(&claim->basic);
    free(claim->task);
    *claim = (struct door_claim){0};
}

/* "<base64 of user:password>" to a temporary session. */
static struct session *basic_session(struct server *server, const char *peer, const char *encoded,
                                     struct api_err *err)
{
    size_t len;
    AUTO_SECRET char *text = base64_decode(encoded, strlen(encoded), &len);
    char *colon = text ? strchr(text, ':') : NULL;
    struct identity who;
    struct session *session = NULL;
    if (!colon || strlen(text) != len) {
        err_session_authentication_failed(err, "", "The Authorization header is not Basic user:password.");
        return NULL;
    }
    *colon = '\0';
    if (auth_check_directly(server, peer, text, colon + 1, &who, err) < 0)
        return NULL;
    session_open(server, &who, "http", &session, err);
    identity_done(&who);
    return session;
}

static struct session *root_session(struct server *server, struct api_err *err)
{
    struct identity who = identity_of_root("root");
    struct session *session = NULL;
    session_open(server, &who, "http", &session, err);
    identity_done(&who);
    return session;
}

static struct session *certified_session(struct server *server, struct api_err *err)
{
    struct session *session = NULL;
    AUTO_IDENTITY struct identity who = {0};
    if (auth_check_certificate(server, &who, err) == 0)
        session_open(server, &who, "http", &session, err);
    return session;
}

struct session *door_find_session(struct server *server, const struct door_claim *claim, bool *temporary,
                                  struct api_err *err)
{
    struct session *session;
    /* A member's doors are for the pool's servers; calls of the API are told by the gate. */
    if (members_is_member(server) && !claim->secret) {
        members_refuse(server, err);
        return NULL;
    }
    if (claim->token)
        return api_token_session(server, claim->token, err);
    if (claim->session && (!claim->local_root || *claim->session))
        return gate_session(server, claim->session, err);
    if (claim->local_root || (claim->secret && auth_is_pool_secret(server, claim->secret)))
        session = root_session(server, err);
    else if (claim->basic)
        session = basic_session(server, claim->peer, claim->basic, err);
    else if (claim->known_client)
        session = certified_session(server, err);
    else {
        err_session_authentication_failed(err, "", "Say who you are: a session_id, or user and password.");
        return NULL;
    }
    *temporary = session != NULL;
    return session;
}

/* ---- refusals ---- */

static void refuse(struct http_request *req, const struct http_action *action, const struct api_err *err)
{
    AUTO_FREE char *challenge = xasprintf("Basic realm=\"%s\"", action ? action->name : "corral");
    const struct http_header headers[] = {
        {"WWW-Authenticate", challenge}, {"Content-Type", "application/json"}, {NULL, NULL}};
    struct buf out = BUF_INIT;
    write_error(&out, err);
    size_t len = out.len;
    http_answer(req, 401, headers, buf_take(&out), len, HTTP_FREE);
}

/* The client waits for its task. What runs already is not for a request that was turned away to end, nor is
 * what belongs to somebody else. `session` NULL: nobody knows who this one is. */
static void fail_task(struct server *server, const struct door_claim *claim, const struct session *session,
                      const struct api_err *err)
{
    struct ref ref;
    if (!claim->task || !ref_parse(claim->task, &ref) || task_is_running(server->tasks, ref))
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct task_row *task = task_row(snapshot_get(snap, CLASS_task, ref));
    if (task && (!session || task_is_own(task, session)))
        gate_task_refuse(server, ref, err);
}

struct session *door_admit_claim(struct server *server, struct http_request *req,
                                 const struct door_claim *claim, const struct http_action *action,
                                 bool *temporary)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    *temporary = false;
    struct session *session = door_find_session(server, claim, temporary, &err);
    if (session && (!action || roles_require(session, action->role, action->permission, &err) == 0))
        return session;
    trail_door(server->trail, claim->peer, session, action ? action->permission : "http", &err);
    if (session) {
        fail_task(server, claim, session, &err);
        door_fail(req, 403, &err);
        if (*temporary)
            session_close(server, session);
        *temporary = false;
        session_unref(session);
    } else if (err.desc == ERROR_INTERNAL_ERROR) {
        door_fail(req, 503, &err);
    } else if (err.desc == ERROR_HOST_IS_SLAVE) {
        door_fail(req, 403, &err);
    } else {
        AUTO_API_ERR struct api_err told = API_ERR_INIT;
        err_session_authentication_failed(&told, "", "The request did not say who it comes from.");
        fail_task(server, claim, NULL, err.desc == ERROR_SESSION_AUTHENTICATION_FAILED ? &err : &told);
        refuse(req, action, &err);
    }
    return NULL;
}

struct session *door_admit(struct server *server, struct http_request *req, const struct http_action *action,
                           bool *temporary)
{
    struct door_claim claim;
    door_claim_copy(req, &claim);
    struct session *session = door_admit_claim(server, req, &claim, action, temporary);
    door_claim_done(&claim);
    return session;
}

bool door_allow(struct server *server, struct http_request *req, const struct session *session,
                const struct http_action *action)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (roles_require(session, action->role, action->permission, &err) == 0)
        return true;
    trail_door(server->trail, http_request_peer(req), session, action->permission, &err);
    door_fail(req, 403, &err);
    return false;
}
