/* Who stands at a door, and how a refusal looks. */
#include "doors.h"

#include "../gate/auth.h"
#include "../gate/gate.h"
#include "../gate/session.h"
#include <base/json.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/errors.h>
#include <stdio.h>
#include <strings.h>

void door_fail(struct http_request *req, unsigned status, const struct api_err *err)
{
    struct buf out = BUF_INIT;
    buf_add_str(&out, "{\"error\":");
    json_write_string(&out, err->code);
    buf_add_str(&out, ",\"params\":[");
    for (size_t i = 0; i < err->param_count; i++) {
        if (i)
            buf_add_char(&out, ',');
        json_write_string(&out, err->params[i]);
    }
    buf_add_str(&out, "]}");
    size_t len = out.len;
    http_answer_json(req, status, buf_take(&out), len);
}

static void refuse(struct http_request *req, const struct api_err *err)
{
    static const struct http_header headers[] = {
        {"WWW-Authenticate", "Basic realm=\"corral\""}, {"Content-Type", "application/json"}, {NULL, NULL}};
    struct buf out = BUF_INIT;
    buf_add_str(&out, "{\"error\":");
    json_write_string(&out, err->code);
    buf_add_str(&out, ",\"params\":[");
    json_write_string(&out, err->param_count ? err->params[err->param_count - 1] : "");
    buf_add_str(&out, "]}");
    size_t len = out.len;
    http_answer(req, 401, headers, buf_take(&out), len, HTTP_FREE);
}

/* "Basic <base64 of user:password>" to a temporary session. */
static struct session *basic_session(struct server *server, const char *peer, const char *encoded,
                                     struct api_err *err)
{
    size_t len;
    AUTO_SECRET char *text = base64_decode(encoded, strlen(encoded), &len);
    char *colon = text ? strchr(text, ':') : NULL;
    enum role role;
    bool superuser;
    struct session *session = NULL;
    if (!colon || strlen(text) != len) {
        err_session_authentication_failed(err, "", "The Authorization header is not Basic user:password.");
        return NULL;
    }
    *colon = '\0';
    if (auth_check(server, peer, text, colon + 1, &role, &superuser, NULL, err) < 0)
        return NULL;
    if (session_open(server, text, role, superuser, REF_NULL, "http", &session, err) < 0)
        return NULL;
    return session;
}

void door_claim_copy(struct http_request *req, struct door_claim *claim)
{
    const char *header = http_request_header(req, "Authorization");
    const char *given = http_request_cookie(req, "session_id");
    *claim = (struct door_claim){0};
    snprintf(claim->peer, sizeof(claim->peer), "%s", http_request_peer(req));
    if (!given)
        given = http_request_query(req, "session_id");
    if (!given && header && strncasecmp(header, "Bearer ", 7) == 0)
        given = header + 7;
    if (given)
        claim->session = xstrdup(given);
    else if (header && strncasecmp(header, "Basic ", 6) == 0)
        claim->basic = xstrdup(header + 6);
}

void door_claim_done(struct door_claim *claim)
{
    secret_free_cleanup(&claim->session);
    secret_free_cleanup(&claim->basic);
    *claim = (struct door_claim){0};
}

struct session *door_authenticate_claim(struct server *server, struct http_request *req,
                                        const struct door_claim *claim, bool *temporary)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct session *session = NULL;
    *temporary = false;
    if (claim->session) {
        session = gate_session(server, claim->session, &err);
    } else if (claim->basic) {
        session = basic_session(server, claim->peer, claim->basic, &err);
        *temporary = session != NULL;
    } else {
        err_session_authentication_failed(&err, "", "Say who you are: a session_id, or user and password.");
    }
    if (!session)
        refuse(req, &err);
    return session;
}

struct session *door_authenticate(struct server *server, struct http_request *req, bool *temporary)
{
    struct door_claim claim;
    door_claim_copy(req, &claim);
    struct session *session = door_authenticate_claim(server, req, &claim, temporary);
    door_claim_done(&claim);
    return session;
}
