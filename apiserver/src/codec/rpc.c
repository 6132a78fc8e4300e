/* Calls that come over HTTP, whatever their form. */
#include "rpc.h"

#include "../gate/gate.h"
#include "../http/task_claim.h"
#include <base/mem.h>
#include <model/errors.h>

static const struct http_header json_headers[] = {
    {"Content-Type", "application/json"}, /* exactly so: clients compare the whole text */
    {"Access-Control-Allow-Origin", "*"},    {"Access-Control-Allow-Headers", "X-Requested-With"},
    {"Cache-Control", "no-cache, no-store"}, {NULL, NULL},
};

static const struct http_header xml_headers[] = {
    {"Content-Type", "text/xml"},
    {"Access-Control-Allow-Origin", "*"},
    {"Access-Control-Allow-Headers", "X-Requested-With"},
    {"Cache-Control", "no-cache, no-store"},
    {NULL, NULL},
};

void rpc_send(struct http_request *req, enum answer_form form, struct buf *out)
{
    size_t len = out->len;
    http_answer(req, 200, form == ANSWER_XML ? xml_headers : json_headers, buf_take(out), len, HTTP_FREE);
}

struct call *rpc_call(struct server *server, struct http_request *req, const char *method, json_t *params,
                      enum answer_form form, void (*complete)(struct call *), void *own)
{
    struct rpc_reply *reply = xcalloc(1, sizeof(*reply));
    *reply = (struct rpc_reply){.req = http_request_ref(req), .own = own};
    struct call *call = call_new(server, method, params, true, http_request_peer(req), complete);
    call->form = form;
    call->local_root = http_request_is_local_root(req);
    call->known_client = http_request_is_known_client(req);
    task_claim_read(req, &call->claim);
    call->reply = reply;
    /* The call may go to another thread: from here on its parameters are its own alone. */
    json_decref(params);
    return call;
}

void rpc_complete(struct call *call, struct buf *out)
{
    struct rpc_reply *reply = call->reply;
    if (reply) {
        rpc_send(reply->req, call->form, out);
        http_request_unref(reply->req);
        free(reply->own);
        free(reply);
    }
    call_free(call);
}

/* The first text with U+FFFD in it; the depth of `json` is bounded. */
static const char *find_damage(const json_t *json)
{
    const char *found = NULL, *key;
    json_t *item;
    size_t i;
    if (json_is_string(json) && strstr(json_string_value(json), "\xef\xbf\xbd"))
        return json_string_value(json);
    if (json_is_array(json)) {
        json_array_foreach(json, i, item) if ((found = find_damage(item))) return found;
    } else if (json_is_object(json)) {
        json_object_foreach((json_t *)(uintptr_t)json, key, item)
        {
            if (strstr(key, "\xef\xbf\xbd"))
                return key;
            if ((found = find_damage(item)))
                return found;
        }
    }
    return NULL;
}

void rpc_fail_damaged(const json_t *params, struct api_err *err)
{
    const char *where = find_damage(params);
    err_invalid_value(err, "Invalid UTF-8 string in parameter", where ? where : "");
}
