/* JSON-RPC 2.0 on POST /jsonrpc, the session, and REST. Neither passwords nor session
 * references reach the debug output: only method names, sizes and times do. */
#include "client.h"
#include "pick.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>

/* A call may wait as long as the server works on it. */
enum { STALL_MS = 24 * 3600 * 1000 };
static const size_t ANSWER_MAX = (size_t)1 << 30;

static int bad_answer(const struct xe_client *c, const char *method, const char *what, struct xe_err *err)
{
    xe_err_set(err, XE_ERR_TRANSPORT, "xe: %s port %d did not answer %s as a XenAPI server does: %s",
               c->options->server, c->options->port, method, what);
    return -1;
}

/* {"code":1,"message":"CODE","data":[...]}, or the bare array of JSON-RPC 1.0. */
static int api_error(const struct xe_client *c, const char *method, const json_t *error, struct xe_err *err)
{
    const char *code = NULL;
    if (json_is_array(error) && json_string_value(json_array_get(error, 0))) {
        AUTO_JSON json_t *params = json_copy((json_t *)error);
        json_array_remove(params, 0);
        xe_err_set_api(err, json_string_value(json_array_get(error, 0)), params);
        return -1;
    }
    if (!json_get_string(error, "message", &code))
        return bad_answer(c, method, "an error without a code", err);
    xe_err_set_api(err, code, json_object_get(error, "data"));
    return -1;
}

static int post(struct xe_client *c, const struct http_call *call, struct http_reply *reply,
                struct xe_err *err)
{
    struct http_error error;
    if (xe_stop) {
        xe_err_set(err, XE_ERR_CANCELLED, "Interrupted.");
        return -1;
    }
    if (http_client_call(c->http, call, reply, &error) < 0) {
        xe_http_failed(c, &error, err);
        return -1;
    }
    return 0;
}

/* The answer, without the record members that the caller will not look at. */
static json_t *parse(const struct buf *body, const char *const *keep, struct json_error *bad)
{
    AUTO_BUF struct buf cut = BUF_INIT;
    if (keep && body->len && xe_pick(body->data, body->len, keep, &cut))
        return json_parse(cut.data, cut.len, bad);
    return json_parse(body->data ? body->data : "", body->len, bad);
}

static int exchange(struct xe_client *c, const char *method, const struct buf *request,
                    const char *const *keep, json_t **result, struct xe_err *err)
{
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_call call = {.method = "POST",
                             .path = "/jsonrpc",
                             .body = request->data,
                             .body_len = request->len,
                             .timeout_ms = -1,
                             .stall_ms = STALL_MS,
                             .body_max = ANSWER_MAX,
                             .cancel = &xe_stop};
    int64_t start = clock_mono_us();
    if (post(c, &call, &reply, err) < 0)
        return -1;
    xe_debug(c, "%s: status %u, %zu bytes in %lld us", method, reply.status, reply.body.len,
             (long long)(clock_mono_us() - start));
    if (reply.status != 200) {
        AUTO_FREE char *what = xasprintf("HTTP status %u", reply.status);
        return bad_answer(c, method, what, err);
    }
    struct json_error bad;
    AUTO_JSON json_t *answer = parse(&reply.body, keep, &bad);
    if (!answer)
        return bad_answer(c, method, bad.text, err);
    json_t *error = json_object_get(answer, "error"), *value = json_object_get(answer, "result");
    if (error && !json_is_null(error))
        return api_error(c, method, error, err);
    if (!value)
        return bad_answer(c, method, "neither a result nor an error", err);
    *result = json_incref(value);
    return 0;
}

/* Writes the request: the session, when there is one, goes before the parameters. */
static void write_request(struct xe_client *c, struct buf *b, const char *method, const json_t *params)
{
    size_t i;
    const json_t *p;
    buf_add_str(b, "{\"jsonrpc\":\"2.0\",\"method\":");
    json_write_string(b, method);
    buf_add_str(b, ",\"params\":[");
    if (c->session)
        json_write_string(b, c->other ? c->other : c->session);
    json_array_foreach(params, i, p)
    {
        if (i || c->session)
            buf_add_char(b, ',');
        json_write(b, p);
    }
    buf_printf(b, "],\"id\":%u}", ++c->last_id);
}

int xe_rpc_login(struct xe_client *c, struct xe_err *err)
{
    char *problem = NULL;
    if (c->session)
        return 0;
    if (xe_connect(c, err) < 0)
        return -1;
    if (xe_options_password(c->options, &problem) < 0) {
        xe_err_set(err, XE_ERR_PLAIN, "xe: %s", problem);
        free(problem);
        return -1;
    }
    const char *method = c->alone ? "session.slave_local_login_with_password" : "session.login_with_password";
    const char *user = c->options->user, *password = c->options->password;
    AUTO_JSON json_t *params = c->alone ? json_pack("[ss]", user, password)
                                        : json_pack("[ssss]", user, password, "2.21", "xe"),
                     *session = NULL;
    if (!params) {
        xe_err_set(err, XE_ERR_PLAIN, "xe: the user name and the password must be text in UTF-8");
        return -1;
    }
    struct buf request = BUF_INIT;
    write_request(c, &request, method, params);
    int rc = exchange(c, method, &request, NULL, &session, err);
    secret_wipe(request.data, request.len);
    buf_done(&request);
    if (rc < 0)
        return -1;
    if (!json_is_string(session))
        return bad_answer(c, method, "no session", err);
    c->session = xstrdup(json_string_value(session));
    c->cookie = xasprintf("session_id=%s", c->session);
    return 0;
}

int xe_rpc_call(void *ctx, const char *method, json_t *params, const char *const *keep, json_t **result,
                struct xe_err *err)
{
    struct xe_client *c = ctx;
    if (xe_rpc_login(c, err) < 0)
        return -1;
    AUTO_BUF struct buf request = BUF_INIT;
    write_request(c, &request, method, params);
    int rc = exchange(c, method, &request, keep, result, err);
    secret_wipe(request.data, request.len);
    return rc;
}

const char *xe_rpc_session(void *ctx, struct xe_err *err)
{
    struct xe_client *c = ctx;
    return xe_rpc_login(c, err) < 0 ? NULL : c->session;
}

void xe_rpc_use_session(void *ctx, const char *session)
{
    ((struct xe_client *)ctx)->other = session;
}

void xe_rpc_log_in_locally(void *ctx)
{
    ((struct xe_client *)ctx)->alone = true;
}

void xe_rpc_logout(struct xe_client *c)
{
    const char *method = c->alone ? "session.local_logout" : "session.logout";
    struct xe_err err = {0};
    json_t *ignored = NULL;
    if (!c->session)
        return;
    AUTO_BUF struct buf request = BUF_INIT;
    AUTO_JSON json_t *none = json_array();
    xe_stop = false;
    write_request(c, &request, method, none);
    /* A session that could not be closed expires on the server. */
    if (exchange(c, method, &request, NULL, &ignored, &err) < 0)
        xe_debug(c, "the session was not closed");
    json_decref(ignored);
    xe_err_done(&err);
    secret_free_cleanup(&c->session);
    secret_free_cleanup(&c->cookie);
    c->session = c->cookie = NULL;
}

int xe_rest_refused(const struct http_reply *reply, const char *what, struct xe_err *err)
{
    struct json_error bad;
    const char *code = NULL, *detail = "";
    AUTO_JSON json_t *problem = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    if (problem && json_get_string(problem, "code", &code)) {
        xe_err_set_api(err, code, json_object_get(problem, "params"));
        return -1;
    }
    if (problem && !json_get_string(problem, "detail", &detail))
        json_get_string(problem, "title", &detail);
    xe_err_set(err, XE_ERR_CLI, "the server refused %s with HTTP status %u%s%s", what, reply->status,
               *detail ? ": " : "", detail);
    return -1;
}

int xe_rpc_rest(void *ctx, const char *method, const char *path, json_t *body, json_t **result,
                struct xe_err *err)
{
    struct xe_client *c = ctx;
    if (xe_rpc_login(c, err) < 0)
        return -1;
    AUTO_BUF struct buf request = BUF_INIT;
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    AUTO_SECRET char *bearer = xasprintf("Bearer %s", c->session);
    const struct http_header headers[] = {{"Authorization", bearer}, {NULL, NULL}};
    if (body)
        json_write(&request, body);
    struct http_call call = {.method = method,
                             .path = path,
                             .headers = headers,
                             .body = request.data,
                             .body_len = request.len,
                             .timeout_ms = -1,
                             .stall_ms = STALL_MS,
                             .body_max = ANSWER_MAX,
                             .cancel = &xe_stop};
    if (post(c, &call, &reply, err) < 0)
        return -1;
    if (reply.status < 200 || reply.status > 299)
        return xe_rest_refused(&reply, path, err);
    struct json_error bad;
    bool none = reply.status == 204;
    AUTO_JSON json_t *answer =
        none ? json_null() : json_parse(reply.body.data ? reply.body.data : "", reply.body.len, &bad);
    if (!answer)
        return bad_answer(c, path, bad.text, err);
    *result = TAKE_PTR(answer);
    return 0;
}
