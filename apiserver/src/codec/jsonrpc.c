/* One request in, one call, one answer out. The id is kept as the JSON text to echo. */
#include "jsonrpc.h"

#include "../gate/gate.h"
#include "../http/doors.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

#define MAX_ID_TEXT 512

struct reply {
    struct http_request *req; /* counted */
    bool v2;
    char *id; /* JSON text */
};

static const struct http_header answer_headers[] = {
    {"Content-Type", "application/json"},
    {"Access-Control-Allow-Origin", "*"},
    {"Access-Control-Allow-Headers", "X-Requested-With"},
    {"Cache-Control", "no-cache, no-store"},
    {NULL, NULL},
};

static void send_answer(struct http_request *req, struct buf *out)
{
    size_t len = out->len;
    http_answer(req, 200, answer_headers, buf_take(out), len, HTTP_FREE);
}

/* An error before there is a call: always in the shape of version 2, with a bare array and id 0. */
static void send_early(struct http_request *req, const char *code, const char *text)
{
    struct buf out = BUF_INIT;
    buf_add_str(&out, "{\"jsonrpc\":\"2.0\",\"error\":[");
    json_write_string(&out, code);
    buf_add_char(&out, ',');
    json_write_string(&out, text);
    buf_add_str(&out, "],\"id\":0}");
    send_answer(req, &out);
}

static void write_params(struct buf *out, const struct api_err *err)
{
    for (size_t i = 0; i < err->param_count; i++) {
        if (i)
            buf_add_char(out, ',');
        json_write_string(out, err->params[i]);
    }
}

static void write_error(struct buf *out, const struct call *call, const struct reply *reply)
{
    if (reply->v2) {
        buf_add_str(out, "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":");
        json_write_string(out, call->err.code);
        buf_add_str(out, ",\"data\":[");
        write_params(out, &call->err);
        buf_add_str(out, "]},\"id\":");
        return;
    }
    buf_add_str(out, "{\"result\":null,\"error\":[");
    json_write_string(out, call->err.code);
    if (call->err.param_count)
        buf_add_char(out, ',');
    write_params(out, &call->err);
    buf_add_str(out, "],\"id\":");
}

static void write_result(struct buf *out, const struct call *call)
{
    if (call->raw)
        buf_add(out, call->raw, call->raw_len);
    else if (call->result_type && call->result_type->kind != TYPE_VOID)
        cell_write_json(call->result_type, &call->result, out);
    else
        buf_add_str(out, "\"\"");
}

static void complete(struct call *call)
{
    struct reply *reply = call->reply;
    if (reply) {
        struct buf out = BUF_INIT;
        buf_reserve(&out, call->raw_len + 128);
        if (call->failed) {
            write_error(&out, call, reply);
        } else {
            buf_add_str(&out, reply->v2 ? "{\"jsonrpc\":\"2.0\",\"result\":" : "{\"result\":");
            write_result(&out, call);
            buf_add_str(&out, reply->v2 ? ",\"id\":" : ",\"error\":null,\"id\":");
        }
        buf_add_str(&out, reply->id);
        buf_add_char(&out, '}');
        send_answer(reply->req, &out);
        http_request_unref(reply->req);
        free(reply->id);
        free(reply);
    }
    call_free(call);
}

/* The id to echo: an integer or a string. NULL: neither. */
static char *id_text(const json_t *request)
{
    const json_t *id = json_object_get(request, "id");
    if (!json_is_integer(id) && !json_is_string(id))
        return NULL;
    struct buf out = BUF_INIT;
    json_write(&out, id);
    if (out.len > MAX_ID_TEXT) {
        buf_done(&out);
        return NULL;
    }
    return buf_take(&out);
}

/* Positional parameters as a new array: absent or null is none; in version 2 an object is one parameter.
 * NULL: something else. */
static json_t *params_of(const json_t *request, bool v2)
{
    json_t *params = json_object_get(request, "params");
    if (json_is_array(params))
        return json_incref(params);
    if (!v2)
        return NULL;
    json_t *array = json_array();
    if (params && json_is_object(params))
        json_array_append(array, params);
    else if (params && !json_is_null(params)) {
        json_decref(array);
        return NULL;
    }
    return array;
}

static bool is_v2(const json_t *request)
{
    const char *version;
    return json_get_string(request, "jsonrpc", &version) && streq(version, "2.0");
}

static void take_request(struct server *server, struct http_request *req, char *data, size_t len)
{
    struct json_error error;
    if (!utf8_valid(data, len)) {
        send_early(req, "INVALID_VALUE", "Invalid UTF-8 string in parameter");
        return;
    }
    AUTO_JSON json_t *request = json_parse(data, len, &error);
    if (!request || !json_is_object(request)) {
        http_answer_error(
            req, 500, request ? "a JSON-RPC request is an object; batches are not supported" : error.text);
        return;
    }
    bool v2 = is_v2(request);
    const char *method;
    AUTO_FREE char *id = id_text(request);
    if (!id) {
        http_answer_error(req, 500, "the request has no id; it is an integer or a string");
        return;
    }
    if (!json_get_string(request, "method", &method)) {
        http_answer_error(req, 500, "the request has no method; it is a string such as VM.get_all");
        return;
    }
    AUTO_JSON json_t *params = params_of(request, v2);
    if (!params) {
        http_answer_error(req, 500, "params is not an array");
        return;
    }
    struct reply *reply = xcalloc(1, sizeof(*reply));
    *reply = (struct reply){.req = http_request_ref(req), .v2 = v2, .id = TAKE_PTR(id)};
    struct call *call = call_new(server, method, params, true, http_request_peer(req), complete);
    call->reply = reply;
    /* The call may go to another thread: from here on its parameters are its own alone. */
    json_decref(TAKE_PTR(params));
    json_decref(TAKE_PTR(request));
    gate_run(call);
}

void jsonrpc_request(struct http_request *req, char *data, size_t len, void *arg)
{
    if (!doors_enter(arg, req))
        return;
    take_request(arg, req, data, len);
    doors_leave(arg);
}
