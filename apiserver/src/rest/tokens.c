/* API tokens: /tokens and /tokens/{uuid}. */
#include "internal.h"

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

void rest_token_make(struct rest *r)
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
    rest_done(r);
}

void rest_token_revoke(struct rest *r)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    int rc = api_token_revoke(r->server, r->session, r->target.uuid, &err);
    trail_door(r->server->trail, http_request_peer(r->req), r->session, "api_token.revoke",
               rc < 0 ? &err : NULL);
    if (rc < 0)
        rest_fail(r, &err);
    else
        http_answer(r->req, 204, NULL, "", 0, HTTP_STATIC);
    rest_done(r);
}
