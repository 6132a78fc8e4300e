/* Calls that come over HTTP, whatever their form. */
#include "rpc.h"

#include "../gate/answer.h"
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
    call->pieces_ok = true;
    call->local_root = http_request_is_local_root(req);
    call->known_client = http_request_is_known_client(req);
    call->alone = http_request_is_alone(req);
    task_claim_read(req, &call->claim);
    call->reply = reply;
    /* The call may go to another thread: from here on its parameters are its own alone. */
    json_decref(params);
    return call;
}

/* ---- answers in pieces ---- */

struct sender {
    enum answer_form form;
    struct answer_pieces *pieces;
    char *own; /* what is sent between the records */
    size_t own_len, own_sent;
    size_t next;        /* the first record that is not sent whole */
    size_t record_sent; /* of it */
};

static ssize_t produce(void *arg, char *to, size_t max)
{
    struct sender *s = arg;
    size_t done = 0;
    while (done < max) {
        bool more = s->next < s->pieces->count;
        const struct fragment *record = NULL;
        size_t left = (more ? s->pieces->items[s->next].at : s->own_len) - s->own_sent;
        const char *from = s->own + s->own_sent;
        if (left == 0 && more) {
            const struct row *row = s->pieces->items[s->next].row;
            record = s->form == ANSWER_XML ? row_xml(row) : row_json(row);
            from = record->text + s->record_sent;
            left = record->len - s->record_sent;
        }
        if (left == 0)
            break;
        size_t len = left < max - done ? left : max - done;
        memcpy(to + done, from, len);
        done += len;
        if (!record) {
            s->own_sent += len;
        } else if (len < left) {
            s->record_sent += len;
        } else {
            s->next++;
            s->record_sent = 0;
        }
    }
    return done ? (ssize_t)done : HTTP_PRODUCER_END;
}

static void sent(void *arg)
{
    struct sender *s = arg;
    answer_pieces_free(s->pieces);
    free(s->own);
    free(s);
}

static void send_pieces(struct http_request *req, struct call *call, struct buf *out)
{
    static const struct http_producer producer = {.produce = produce, .done = sent};
    struct sender *s = xcalloc(1, sizeof(*s));
    *s = (struct sender){.form = call->form, .pieces = call->pieces, .own_len = out->len};
    s->own = buf_take(out);
    call->pieces = NULL;
    http_answer_stream(req, 200, call->form == ANSWER_XML ? xml_headers : json_headers,
                       (int64_t)(s->own_len + s->pieces->bytes), &producer, s);
}

void rpc_write_raw(struct buf *out, struct call *call)
{
    for (size_t i = 0; call->pieces && i < call->pieces->count; i++)
        call->pieces->items[i].at += out->len;
    buf_add(out, call->raw, call->raw_len);
}

void rpc_complete(struct call *call, struct buf *out)
{
    struct rpc_reply *reply = call->reply;
    if (reply) {
        if (call->pieces && !call->failed)
            send_pieces(reply->req, call, out);
        else
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
