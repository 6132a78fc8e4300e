/* The door of REST: what is asked for, who asks, and off to what answers it. */
#include "internal.h"

#include "../gate/api_tokens.h"
#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/trail.h"
#include "../http/doors.h"
#include "../http/task_claim.h"
#include "../http/transfer.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <model/openapi_json.h>
#include <stdio.h>

#define PREFIX "/api/v1"

/* ---- life ---- */

static void release(void *arg)
{
    struct rest *r = arg;
    session_unref(r->session);
    json_decref(r->body);
    json_decref(r->params);
    task_claim_done(&r->claim);
    free(r->key);
    free(r->digest);
    free(r);
}

static void closed(void *arg)
{
    ((struct rest *)arg)->gone = true;
}

struct ending {
    struct server *server;
    struct session *session; /* counted */
};

static void end_session(void *arg)
{
    struct ending *ending = arg;
    session_close(ending->server, ending->session);
    session_unref(ending->session);
    free(ending);
}

void rest_done(struct rest *r)
{
    if (r->temporary) {
        struct ending *ending = xmalloc(sizeof(*ending));
        *ending = (struct ending){r->server, session_ref(r->session)};
        if (worker_submit(r->server->workers, end_session, ending) < 0) {
            log_warn("rest", "a session for one request is left to its idle limit: all workers are busy");
            session_unref(ending->session);
            free(ending);
        }
    }
    if (r->reader)
        transfer_reader_close(r->reader);
    http_request_unref(r->req);
}

/* ---- who asks ---- */

static void dispatch(struct rest *r);

/* True: answered, for `who` has made too many requests. */
static bool is_too_often(struct rest *r, const char *kind, const char *who)
{
    const struct rate_limit *limit = &r->server->rest_rate;
    if (limit->per_second <= 0)
        return false;
    AUTO_FREE char *name = xasprintf("%s %s", kind, who);
    int64_t wait_ms = rates_take(r->server->rates, name, limit, 1, clock_mono_ms());
    if (wait_ms == 0)
        return false;
    rest_too_many(r->req, wait_ms);
    rest_done(r);
    return true;
}

/* A token has a session of its own, a person may have many. */
static bool asks_too_often(struct rest *r)
{
    if (r->session->token_name)
        return is_too_often(r, "token", REF_TEXT(r->session->ref));
    return is_too_often(r, "user", r->session->user);
}

static void unknown_caller(struct rest *r, const struct door_claim *claim, const struct api_err *err)
{
    trail_door(r->server->trail, claim->peer, NULL, "http", err);
    rest_fail(r, err);
    rest_done(r);
}

struct login {
    struct rest *rest;
    struct door_claim claim;
};

/* Costs a password hash, or opens the session of a token: on a login worker. */
static void log_in(void *arg)
{
    struct login *login = arg;
    struct rest *r = login->rest;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    r->session = door_find_session(r->server, &login->claim, &r->temporary, &err);
    if (r->session)
        dispatch(r);
    else
        unknown_caller(r, &login->claim, &err);
    door_claim_done(&login->claim);
    free(login);
}

static void identify(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct door_claim claim;
    if (r->target.kind == TARGET_SESSIONS) {
        if (!is_too_often(r, "address", http_request_peer(r->req)))
            dispatch(r);
        return;
    }
    door_claim_copy(r->req, &claim);
    r->session = claim.token ? api_token_session_open(r->server, claim.token) : NULL;
    if (r->session) {
        dispatch(r);
        door_claim_done(&claim);
        return;
    }
    if (claim.session ||
        (!claim.token && !claim.local_root && !claim.secret && !claim.basic && !claim.known_client)) {
        r->session = door_find_session(r->server, &claim, &r->temporary, &err);
        if (r->session)
            dispatch(r);
        else
            unknown_caller(r, &claim, &err);
        door_claim_done(&claim);
        return;
    }
    if (is_too_often(r, "address", claim.peer)) {
        door_claim_done(&claim);
        return;
    }
    struct login *login = xmalloc(sizeof(*login));
    *login = (struct login){r, claim};
    if (worker_submit(r->server->login_workers, log_in, login) == 0)
        return;
    door_claim_done(&login->claim);
    free(login);
    rest_busy(r->req);
    rest_done(r);
}

/* ---- what it does ---- */

static void on_worker(void *arg)
{
    struct rest *r = arg;
    r->run(r);
}

static const struct {
    enum target_kind target;
    enum http_method method;
    void (*run)(struct rest *r);
    bool blocks; /* on a worker */
} table[] = {
    {TARGET_COLLECTION, HTTP_GET, rest_list, false},
    {TARGET_COLLECTION, HTTP_POST, rest_create, false},
    {TARGET_OBJECT, HTTP_GET, rest_get, false},
    {TARGET_OBJECT, HTTP_PATCH, rest_patch, true},
    {TARGET_OBJECT, HTTP_DELETE, rest_destroy, false},
    {TARGET_ACTION, HTTP_POST, rest_action, false},
    {TARGET_SESSIONS, HTTP_POST, rest_log_in, false},
    {TARGET_SESSION, HTTP_GET, rest_whoami, false},
    {TARGET_SESSION, HTTP_DELETE, rest_log_out, false},
    {TARGET_TOKENS, HTTP_GET, rest_tokens_list, false},
    {TARGET_TOKENS, HTTP_POST, rest_token_make, true},
    {TARGET_TOKEN, HTTP_DELETE, rest_token_revoke, true},
    {TARGET_PLAN_APPLY, HTTP_POST, rest_plan_apply, false},
    {TARGET_APPLY, HTTP_POST, rest_apply, true},
    {TARGET_UNDO, HTTP_POST, rest_undo, true},
    {TARGET_STATE, HTTP_GET, rest_state, false},
    {TARGET_EVENTS, HTTP_GET, rest_events, false},
    {TARGET_CONTENT, HTTP_GET, rest_content, true},
    {TARGET_UPLOADS, HTTP_GET, rest_uploads_list, true},
    {TARGET_UPLOADS, HTTP_POST, rest_upload_make, true},
    {TARGET_UPLOAD, HTTP_GET, rest_upload_look, true},
    {TARGET_UPLOAD, HTTP_PATCH, rest_upload_write, true},
    {TARGET_UPLOAD, HTTP_DELETE, rest_upload_drop, true},
};

/* Index in the table; -1: not this method here. */
static int find_row(const struct target *target, enum http_method method)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].target == target->kind && table[i].method == (method == HTTP_HEAD ? HTTP_GET : method))
            return (int)i;
    return -1;
}

static void dispatch(struct rest *r)
{
    if (!r->session || !asks_too_often(r))
        rest_dispatch(r);
}

void rest_dispatch(struct rest *r)
{
    int row = find_row(&r->target, r->method);
    r->run = table[row].run;
    if (!table[row].blocks) {
        r->run(r);
    } else if (worker_submit(r->server->workers, on_worker, r) < 0) {
        rest_busy(r->req);
        rest_done(r);
    }
}

static void wrong_method(struct http_request *req, const struct target *target)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_add_str(&text, "Here it is one of");
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].target == target->kind)
            buf_printf(&text, " %s", http_method_name(table[i].method));
    buf_add_char(&text, '.');
    rest_problem(req, 405, "Method Not Allowed", text.data);
}

static void begin(struct rest *r)
{
    http_request_ref(r->req);
    task_claim_read(r->req, &r->claim);
    identify(r);
}

static void body_read(struct http_request *req, char *data, size_t len, void *arg)
{
    struct rest *r = arg;
    struct json_error error;
    if (!doors_enter(r->server, req))
        return;
    if (len)
        r->body = json_parse(data, len, &error);
    if (len && (!r->body || !json_is_object(r->body)))
        rest_problem(req, 400, "Bad Request", r->body ? "The body is a JSON object." : error.text);
    else
        begin(r);
    doors_leave(r->server);
}

/* For anybody: it tells nothing of this pool. */
static void serve_description(struct http_request *req)
{
    static const struct http_header headers[] = {{"Content-Type", "application/json"},
                                                 {"Cache-Control", "no-cache"},
                                                 {"Access-Control-Allow-Origin", "*"},
                                                 {NULL, NULL}};
    http_answer(req, 200, headers, model_openapi_json, (size_t)(model_openapi_json_end - model_openapi_json),
                HTTP_STATIC);
}

void rest_serve(struct server *server, struct http_request *req)
{
    struct target target;
    char why[TARGET_WHY_SIZE];
    enum http_method method = http_request_method(req);
    if (!target_parse(http_request_path(req) + strlen(PREFIX), &target, why)) {
        rest_problem(req, 404, "Not Found", why);
        return;
    }
    if (target.kind == TARGET_DESCRIPTION && method == HTTP_GET) {
        serve_description(req);
        return;
    }
    if (find_row(&target, method) < 0) {
        wrong_method(req, &target);
        return;
    }
    struct rest *r = xcalloc(1, sizeof(*r));
    *r = (struct rest){.server = server, .req = req, .method = method, .target = target};
    http_request_on_close(req, closed, r, release);
    if (target.kind == TARGET_UPLOAD && method == HTTP_PATCH) {
        r->reader = transfer_reader(req);
        if (r->reader)
            begin(r);
        else
            rest_busy(req);
    } else if (method == HTTP_POST || method == HTTP_PATCH || method == HTTP_DELETE)
        http_read_body(req, REST_BODY_MAX, body_read, r);
    else
        begin(r);
}
