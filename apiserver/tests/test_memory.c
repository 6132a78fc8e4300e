/* Each allocation of a request's way to typed arguments and of an answer's way back failing in turn: words,
 * or the end of the process; never half of a value. */
#include <alloc_faults.h>
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <codec/xml_request.h>
#include <criterion/criterion.h>
#include <gate/decode.h>
#include <model/args.h>
#include <model/errors.h>
#include <model/rows.h>

static const struct {
    const char *method, *json, *xml; /* parameters without the session */
} requests[] = {
    {"pool.set_other_config", "[\"OpaqueRef:NULL\",{\"b\":\"2\",\"a\":\"\\u00e4\"}]",
     "<param><value>OpaqueRef:NULL</value></param><param><value><struct>"
     "<member><name>b</name><value>2</value></member><member><name>a</name><value>&#228;</value></member>"
     "</struct></value></param>"},
    {"pool.set_tags", "[\"OpaqueRef:NULL\",[\"x\",\"y\"]]",
     "<param><value>OpaqueRef:NULL</value></param><param><value><array><data>"
     "<value>x</value><value><string>y</string></value></data></array></value></param>"},
    {"network.create", "[{\"name_label\":\"n\",\"other_config\":{},\"MTU\":1500,\"tags\":[\"t\"]}]",
     "<param><value><struct><member><name>name_label</name><value>n</value></member>"
     "<member><name>other_config</name><value><struct></struct></value></member>"
     "<member><name>MTU</name><value><int>1500</int></value></member>"
     "<member><name>tags</name><value><array><data><value>t</value></data></array></value></member>"
     "</struct></value></param>"},
};

/* 0: typed arguments that hold what was sent, or the words of a refusal. */
static int decode(const struct method_desc *method, const json_t *params)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    void *args;
    if (decode_args(method, params, DECODE_LENIENT, &args, &err) < 0)
        return -1;
    int rc = 0;
    if (method->kind == METHOD_CREATE) {
        const struct row *row = ((struct args_create *)args)->record;
        AUTO_BUF struct buf xml = BUF_INIT;
        buf_add_str(&xml, row_xml(row)->text);
        rc = strstr(row_json(row)->text, "\"name_label\":\"n\"") && strstr(xml.data, "<value>n</value>") &&
                     network_row(row)->MTU == 1500
                 ? 0
                 : -1;
    } else {
        const struct param_desc *param = &method->params[1];
        const union cell *value = (const union cell *)((const char *)args + param->offset);
        AUTO_BUF struct buf text = BUF_INIT;
        cell_write_json(param->type, value, &text);
        rc = streq(text.data,
                   param->type->kind == TYPE_MAP ? "{\"a\":\"\xc3\xa4\",\"b\":\"2\"}" : "[\"x\",\"y\"]")
                 ? 0
                 : -1;
    }
    args_free(method, args);
    return rc;
}

static int by_json(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct json_error error;
        AUTO_JSON json_t *params = json_parse(requests[i].json, strlen(requests[i].json), &error);
        if (!params || decode(method_find(requests[i].method, strlen(requests[i].method)), params) < 0)
            return -1;
    }
    return 0;
}

static int by_xml(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        char error[XML_REQUEST_ERROR_SIZE] = "";
        struct xml_request request;
        AUTO_FREE char *text = xasprintf(
            "<?xml version=\"1.0\"?><methodCall><methodName>%s</methodName><params>%s</params></methodCall>",
            requests[i].method, requests[i].xml);
        if (xml_request_parse(text, strlen(text), &request, error) < 0)
            return *error ? 0 : -1; /* libxml2's */
        int rc = streq(request.method, requests[i].method) && !request.damaged
                     ? decode(method_find(request.method, strlen(request.method)), request.params)
                     : -1;
        xml_request_done(&request);
        if (rc < 0)
            return -1;
    }
    return 0;
}

static void each(int (*scenario)(void *arg))
{
    size_t told, ended;
    cr_assert_eq(scenario(NULL), 0);
    cr_assert(alloc_faults_each(scenario, NULL, NULL, &told, &ended));
    cr_assert_gt(told + ended, 20, "%zu told, %zu ended", told, ended);
}

Test(memory, json_rpc, .timeout = 600)
{
    each(by_json);
}

Test(memory, xml_rpc, .timeout = 600)
{
    each(by_xml);
}
