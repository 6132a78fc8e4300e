/* Fuzz target (libFuzzer): the filter language, parsed and then asked of an object. */
#include <base/mem.h>
#include <base/query.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static enum query_field known(void *arg, const char *name)
{
    (void)arg;
    return streq(name, "map") ? QUERY_FIELD_MAP : strlen(name) < 8 ? QUERY_FIELD_PLAIN : QUERY_FIELD_NONE;
}

static void values(void *arg, const char *field, const char *key, struct query_sink *sink)
{
    (void)arg;
    if (sink->take(sink, field) && sink->take(sink, "12.5"))
        sink->take(sink, key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = xmalloc(len + 1);
    memcpy(text, data, len);
    text[len] = '\0';
    struct query_error error = {""};
    AUTO_QUERY struct query *query = query_parse(text, known, NULL, &error);
    if (!query && !*error.text)
        abort();
    if (query)
        query_matches(query, values, NULL);
    return 0;
}
