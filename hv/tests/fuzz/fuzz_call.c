/* Any bytes as the body of any call: they are decoded or refused, and what was decoded can be written, read
 * again and is the same. */
#include <base/mem.h>
#include <hv/calls.h>
#include <hv/domain.h>
#include <stdlib.h>

static void round_trip(const struct wire_struct *desc, const void *value)
{
    struct buf text AUTO_BUF = BUF_INIT;
    struct json_error error;
    char complaint[WIRE_COMPLAINT_SIZE];
    wire_encode(desc, value, &text);
    json_t *json AUTO_JSON = json_parse(text.data, text.len, &error);
    void *again AUTO_FREE = xcalloc(1, desc->size);
    if (!json || wire_decode(desc, json, again, complaint) < 0 || !wire_equal(desc, value, again))
        abort();
    wire_done(desc, again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_error error;
    char complaint[WIRE_COMPLAINT_SIZE];
    struct hv_err err;
    if (size == 0)
        return 0;
    const struct hv_call_desc *call = &hv_calls[data[0] % HV_CALL_COUNT];
    json_t *json AUTO_JSON = json_parse((const char *)data + 1, size - 1, &error);
    const struct wire_struct *descs[] = {call->args, call->result};
    for (size_t i = 0; json && i < ARRAY_LEN(descs); i++) {
        void *value AUTO_FREE = xcalloc(1, descs[i]->size);
        if (wire_decode(descs[i], json, value, complaint) < 0)
            continue;
        round_trip(descs[i], value);
        if (i == 0 && call == &hv_calls[HV_CALL_DOMAIN_START])
            domain_config_check(&((struct hv_domain_start_args *)value)->config, &err);
        wire_done(descs[i], value);
    }
    return 0;
}
