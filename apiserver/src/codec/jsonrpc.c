/* One request in, one call, one answer out. The id is kept as the JSON text to echo. */
#include "jsonrpc.h"

#include "../gate/gate.h"
#include "../http/doors.h"
#include "rpc.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

#define MAX_ID_TEXT 512

/* How to answer: the call's own. */
struct shape {
    bool v2;
    char id[]; /* JSON text */
};

/* INVALID_VALUE before there is a call: always in the shape of version 2, with a bare array and id 0. */
static void send_damaged(struct http_request *req, const json_t *params)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct buf out = BUF_INIT;
    rpc_fail_damaged(params, &err);
    buf_add_str(&out, "{\"jsonrpc\":\"2.0\",\"error\":[");
    json_write_string(&out, err.code);
    for (size_t i = 0; i < err.param_count; i++) {
        buf_add_char(&out, ',');
        json_write_string(&out, err.params[i]);
    }
    buf_add_str(&out, "],\"id\":0}");
    rpc_send(req, ANSWER_JSON, &out);
}

static void write_params(struct buf *out, const struct api_err *err)
{
    for (size_t i = 0; i < err->param_count; i++) {
        if (i)
            buf_add_char(out, ',');
        json_write_string(out, err->params[i]);
    }
}

static void write_error(struct buf *out, const struct call *call, const struct shape *shape)
{
    if (shape->v2) {
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

static void write_result(struct buf *out, struct call *call)
{
    if (call->raw)
        rpc_write_raw(out, call);
    else if (call->result_type && call->result_type->kind != TYPE_VOID)
        cell_write_json(call->result_type, &call->result, out);
    else
        buf_add_str(out, "\"\"");
}

static void complete(struct call *call)
{
    struct buf out AUTO_BUF = BUF_INIT;
    if (call->reply) {
        const struct shape *shape = ((const struct rpc_reply *)call->reply)->own;
        buf_reserve(&out, call->raw_len + 128);
        if (call->failed) {
            write_error(&out, call, shape);
        } else {
            buf_add_str(&out, shape->v2 ? "{\"jsonrpc\":\"2.0\",\"result\":" : "{\"result\":");
            write_result(&out, call);
            buf_add_str(&out, shape->v2 ? ",\"id\":" : ",\"error\":null,\"id\":");
        }
        buf_add_str(&out, shape->id);
        buf_add_char(&out, '}');
    }
    rpc_complete(call, &out);
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

static void take_request(struct server *server, struct http_request *req, const char *data, size_t len)
{
    struct json_error error;
    AUTO_FREE char *repaired = NULL;
    if (!utf8_valid(data, len))
        data = repaired = utf8_repaired(data, len, &len);
    AUTO_JSON json_t *request = json_parse(data, len, &error);
    if (!request || !json_is_object(request)) {
        http_answer_error(
            req, 500, request ? "a JSON-RPC request is an object; batches are not supported" : error.text);
        return;
    }
    if (repaired) {
        send_damaged(req, request);
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
    struct shape *shape = xmalloc(sizeof(*shape) + strlen(id) + 1);
    shape->v2 = v2;
    strcpy(shape->id, id);
    struct call *call = rpc_call(server, req, method, TAKE_PTR(params), ANSWER_JSON, complete, shape);
    /* The call may go to another thread: from here on nothing of the request is shared. */
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
