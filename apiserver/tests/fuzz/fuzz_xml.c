/* From the bytes of an XML-RPC request to typed arguments; and what was read, written as the answers are, has
 * to be a document that can be read again. */
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <codec/rpc.h>
#include <codec/xml_request.h>
#include <gate/decode.h>
#include <libxml/parser.h>
#include <model/method.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Also in builds without assertions. */
static void must(bool so)
{
    if (!so)
        abort();
}

static void decode(const char *name, const json_t *params)
{
    const struct method_desc *m = method_find(name, strlen(name));
    if (!m || !m->param_count || json_array_size(params) < m->required_count)
        return;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    void *args;
    if (decode_args(m, params, DECODE_LENIENT, &args, &err) == 0)
        args_free(m, args);
}

static void write_and_read(json_t *params)
{
    static const struct type any = {.kind = TYPE_RECORD, .rep = REP_JSON, .name = "any"};
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request again;
    AUTO_BUF struct buf out = BUF_INIT;
    buf_add_str(&out, "<methodCall><methodName>x</methodName><params>");
    for (size_t i = 0; i < json_array_size(params); i++) {
        union cell cell = {.json = json_array_get(params, i)};
        buf_add_str(&out, "<param>");
        cell_write_xml(&any, &cell, &out);
        buf_add_str(&out, "</param>");
    }
    buf_add_str(&out, "</params></methodCall>");
    must(xml_request_parse(out.data, out.len, &again, error) == 0);
    must(!again.damaged && json_array_size(again.params) == json_array_size(params));
    xml_request_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request request;
    xmlInitParser();
    if (xml_request_parse((const char *)data, size, &request, error) < 0) {
        must(utf8_valid(error, strlen(error)));
        return 0;
    }
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    rpc_fail_damaged(request.params, &err);
    decode(request.method, request.params);
    write_and_read(request.params);
    xml_request_done(&request);
    return 0;
}
