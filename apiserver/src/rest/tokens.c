/* API tokens: /tokens and /tokens/{uuid}. */
#include "plan.h"

#include "../gate/api_tokens.h"
#include "../gate/session.h"
#include "../gate/trail.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>

static void send_json(struct rest *r, unsigned status, const char *location, const json_t *value)
{
    struct buf out = BUF_INIT;
    json_write(&out, value);
    rest_send(r->req, status, location, NULL, &out);
}

void rest_tokens_list(struct rest *r)
{
    AUTO_JSON json_t *answer = json_pack("{so}", "items", api_tokens_list(r->server, r->session));
    send_json(r, 200, NULL, answer);
    rest_done(r);
}

/* {"name": ..., "role": ..., "days": ...} */
static int read_wish(const json_t *body, struct api_token_wish *wish, struct api_err *err)
{
    static const char *const known[] = {"name", "role", "days"};
    const char *key;
    json_t *value;
    *wish = (struct api_token_wish){.days = API_TOKEN_DAYS_DEFAULT};
    json_object_foreach((json_t *)(uintptr_t)body, key, value)
    {
        bool good = false;
        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            good = good || streq(known[i], key);
        if (!good)
            return err_invalid_value(err, key, "There is no such member: name, role and days.");
    }
    if (!json_get_string(body, "name", &wish->name))
        return err_invalid_value(err, "name", "A token has a name that tells what uses it.");
    if (json_object_get(body, "role") && !json_get_string(body, "role", &wish->role))
        return err_invalid_value(err, "role", "It is the name of a role.");
    if (json_object_get(body, "days") && !json_get_int(body, "days", &wish->days))
        return err_invalid_value(err, "days", "It is a number of days.");
    return 0;
}

static void refuse(void *arg, const struct api_err *err)
{
    plan_refused(arg, NULL, err);
}

static void fill_make(struct plan *p, void *arg)
{
    const struct api_token_wish *wish = arg;
    const struct session *session = p->rest->session;
    api_token_refusals(p->server, session, wish, refuse, p);
    plan_step(p, NULL, "Makes token '%s' with the role %s, good for %lld days.", wish->name,
              wish->role ? wish->role : role_name(session->role), (long long)wish->days);
}

static void fill_revoke(struct plan *p, void *arg)
{
    plan_step(p, NULL, "Ends token '%s', and what runs in its session.", (const char *)arg);
}

static void make_token(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *made = NULL;
    struct api_token_wish wish;
    const char *uuid = "";
    int rc = read_wish(r->body, &wish, &err);
    if (rc == 0)
        rc = api_token_make(r->server, r->session, &wish, &made, &err);
    trail_door(r->server->trail, http_request_peer(r->req), r->session, "api_token.make",
               rc < 0 ? &err : NULL);
    if (rc < 0) {
        rest_fail(r, &err);
    } else {
        json_get_string(made, "uuid", &uuid);
        AUTO_FREE char *location = xasprintf("/api/v1/tokens/%s", uuid);
        send_json(r, 201, location, made);
    }
}

void rest_token_make(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct api_token_wish wish;
    bool planned, good = plan_wanted(r, &planned);
    if (good && !planned)
        make_token(r);
    else if (good && read_wish(r->body, &wish, &err) < 0)
        rest_fail(r, &err);
    else if (good)
        plan_request(r, "POST token", fill_make, &wish);
    rest_done(r);
}

static void revoke_token(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    int rc = api_token_revoke(r->server, r->session, r->target.uuid, &err);
    trail_door(r->server->trail, http_request_peer(r->req), r->session, "api_token.revoke",
               rc < 0 ? &err : NULL);
    if (rc < 0)
        rest_fail(r, &err);
    else
        http_answer(r->req, 204, NULL, "", 0, HTTP_STATIC);
}

void rest_token_revoke(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    bool planned, good = plan_wanted(r, &planned);
    AUTO_FREE char *name =
        good && planned ? api_token_name(r->server, r->session, r->target.uuid, &err) : NULL;
    if (good && !planned)
        revoke_token(r);
    else if (good && name)
        plan_request(r, "DELETE token", fill_revoke, name);
    else if (good)
        rest_fail(r, &err);
    rest_done(r);
}
