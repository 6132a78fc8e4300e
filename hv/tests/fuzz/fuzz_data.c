/* Any bytes from a guest's data port, line by line: the data stays within its limits, each line has one
 * answer, which is JSON. */
#include <base/json.h>
#include <base/mem.h>
#include <io/guest_data.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    AUTO_STR_MAP const struct str_map *data = NULL;
    const char *text = (const char *)bytes, *end = text + size;
    while (text < end) {
        struct buf answer AUTO_BUF = BUF_INIT;
        struct json_error error;
        struct hv_err err;
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t len = (size_t)((stop ? stop : end) - text);
        guest_data_answer(&data, 1, text, len, &answer);
        json_t *json AUTO_JSON = json_parse(answer.data, answer.len, &error);
        if (!json || !json_object_get(json, "id") || domain_data_check(data, &err) < 0)
            abort();
        text += len + 1;
    }
    return 0;
}
