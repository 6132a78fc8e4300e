/* Sessions of REST are those of the XenAPI: what a log-in answers is a Bearer token here, and a session
 * there. */
#include "internal.h"

#include "../gate/gate.h"
#include "../gate/session.h"
#include <base/json.h>
#include <base/mem.h>

static void logged_in(struct call *call)
{
    struct rest *r = call->reply;
    struct buf out = BUF_INIT;
    if (call->failed) {
        rest_fail(r, &call->err);
    } else {
        buf_add_str(&out, "{\"token\":");
        json_write_string(&out, REF_TEXT(call->result.ref));
        buf_add_char(&out, '}');
        rest_send(r->req, 201, "/api/v1/session", NULL, &out);
    }
    call_free(call);
    rest_done(r);
}

void rest_log_in(struct rest *r)
{
    const char *user, *password, *originator = "REST";
    if (plan_absent(r)) {
        rest_done(r);
        return;
    }
    if (!json_get_string(r->body, "user", &user) || !json_get_string(r->body, "password", &password)) {
        rest_problem(
            r->req, 422, "Unprocessable Content",
            "Say {\"user\": ..., \"password\": ...}; perhaps \"originator\", the name of your program.");
        rest_done(r);
        return;
    }
    json_get_string(r->body, "originator", &originator);
    AUTO_JSON json_t *params = json_pack("[ssss]", user, password, "1.0", originator);
    struct call *call = call_new(r->server, "session.login_with_password", params, false,
                                 http_request_peer(r->req), logged_in);
    call->reply = r;
    call->local_root = http_request_is_local_root(r->req);
    json_decref(TAKE_PTR(params));
    gate_run(call);
}

static void logged_out(struct call *call)
{
    struct rest *r = call->reply;
    if (call->failed)
        rest_fail(r, &call->err);
    else
        http_answer(r->req, 204, NULL, "", 0, HTTP_STATIC);
    call_free(call);
    rest_done(r);
}

void rest_log_out(struct rest *r)
{
    if (plan_absent(r)) {
        rest_done(r);
        return;
    }
    AUTO_JSON json_t *params = json_pack("[s]", REF_TEXT(r->session->token));
    struct call *call =
        call_new(r->server, "session.logout", params, false, http_request_peer(r->req), logged_out);
    call->reply = r;
    json_decref(TAKE_PTR(params));
    gate_run(call);
}

void rest_whoami(struct rest *r)
{
    struct buf out = BUF_INIT;
    buf_add_str(&out, "{\"user\":");
    json_write_string(&out, r->session->user);
    buf_add_str(&out, ",\"role\":");
    json_write_string(&out, role_name((enum role)r->session->role));
    buf_printf(&out, ",\"is_superuser\":%s}", r->session->superuser ? "true" : "false");
    rest_send(r->req, 200, NULL, NULL, &out);
    rest_done(r);
}
