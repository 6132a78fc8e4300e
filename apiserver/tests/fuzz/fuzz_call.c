/* From the bytes of a request to typed arguments: {"method": ..., "params": [...]}, as the codec and the gate
 * do it, for every message of the model; and event subscriptions, tokens and provision texts by the same
 * bytes. */
#include <base/json.h>
#include <base/mem.h>
#include <gate/decode.h>
#include <gate/filter.h>
#include <model/args.h>
#include <plan/provision.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const json_t *request)
{
    const char *name;
    const json_t *params = json_object_get(request, "params");
    const struct method_desc *m =
        json_get_string(request, "method", &name) ? method_find(name, strlen(name)) : NULL;
    if (!m || !json_is_array(params) || json_array_size(params) < m->required_count ||
        json_array_size(params) > m->param_count)
        return;
    for (enum decode_mode mode = DECODE_STRICT; mode <= DECODE_LENIENT; mode++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        void *args;
        if (m->param_count && decode_args(m, params, mode, &args, &err) == 0)
            args_free(m, args);
    }
}

static void read_texts(const char *text)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_STR_SET const struct str_set *words = str_list_new(&text, 1);
    struct event_filter *filter;
    uint64_t generation;
    struct provision provision;
    if (event_filter_parse(words, &filter, &err) == 0)
        event_filter_free(filter);
    event_token_parse(text, &generation, &err);
    if (provision_parse(text, &provision, &err) == 0)
        provision_done(&provision);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_error error;
    AUTO_JSON json_t *request = json_parse((const char *)data, size, &error);
    if (request)
        decode(request);
    AUTO_FREE char *text = xstrndup((const char *)data, size);
    read_texts(text);
    return 0;
}
