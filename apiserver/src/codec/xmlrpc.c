/* One request in, one call, one answer out. What a request may look like is xml_request.c's. */
#include "xmlrpc.h"

#include "../gate/gate.h"
#include "../http/doors.h"
#include "rpc.h"
#include "xml_request.h"
#include <base/mem.h>
#include <base/xml.h>

#define ANSWER_OPEN "<?xml version=\"1.0\"?><methodResponse><params><param>"
#define ANSWER_CLOSE "</param></params></methodResponse>"
#define STATUS(status, second)                                                                               \
    "<value><struct><member><name>Status</name><value>" status "</value></member><member><name>" second      \
    "</name>"
#define STATUS_CLOSE "</member></struct></value>"

static void write_text(struct buf *out, const char *text)
{
    buf_add_str(out, "<value>");
    xml_write_text(out, text);
    buf_add_str(out, "</value>");
}

static void write_failure(struct buf *out, const struct api_err *err)
{
    buf_add_str(out, ANSWER_OPEN STATUS("Failure", "ErrorDescription") "<value><array><data>");
    write_text(out, err->code);
    for (size_t i = 0; i < err->param_count; i++)
        write_text(out, err->params[i]);
    buf_add_str(out, "</data></array></value>" STATUS_CLOSE ANSWER_CLOSE);
}

static void write_success(struct buf *out, struct call *call)
{
    buf_add_str(out, ANSWER_OPEN);
    if (!call->bare)
        buf_add_str(out, STATUS("Success", "Value"));
    if (call->raw)
        rpc_write_raw(out, call);
    else if (call->result_type)
        cell_write_xml(call->result_type, &call->result, out);
    else
        buf_add_str(out, "<value></value>");
    if (!call->bare)
        buf_add_str(out, STATUS_CLOSE);
    buf_add_str(out, ANSWER_CLOSE);
}

static void complete(struct call *call)
{
    struct buf out AUTO_BUF = BUF_INIT;
    if (call->reply) {
        buf_reserve(&out, call->raw_len + 256);
        if (call->failed)
            write_failure(&out, &call->err);
        else
            write_success(&out, call);
    }
    rpc_complete(call, &out);
}

static void refuse_damaged(struct http_request *req, const struct xml_request *request)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct buf out = BUF_INIT;
    rpc_fail_damaged(request->params, &err);
    write_failure(&out, &err);
    rpc_send(req, ANSWER_XML, &out);
}

static void take_request(struct server *server, struct http_request *req, const char *data, size_t len)
{
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request request;
    if (xml_request_parse(data, len, &request, error) < 0) {
        http_answer_error(req, 500, error);
        return;
    }
    struct call *call = NULL;
    if (request.damaged)
        refuse_damaged(req, &request);
    else
        call = rpc_call(server, req, request.method, TAKE_PTR(request.params), ANSWER_XML, complete, NULL);
    xml_request_done(&request);
    if (call)
        gate_run(call);
}

void xmlrpc_request(struct http_request *req, char *data, size_t len, void *arg)
{
    if (!doors_enter(arg, req))
        return;
    take_request(arg, req, data, len);
    doors_leave(arg);
}
