/* Fuzz target (libFuzzer): YAML, and that what was read is written as something that reads the same. */
#include <base/mem.h>
#include <base/yaml.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct json_error error;
    AUTO_BUF struct buf text = BUF_INIT;
    AUTO_JSON json_t *value = yaml_parse((const char *)data, len, &error);
    if (!value && !*error.text)
        abort();
    if (!value || !json_is_object(value) || len > 4096)
        return 0;
    yaml_write(&text, value);
    AUTO_JSON json_t *again = yaml_parse(text.data, text.len, &error);
    if (!again || !json_equal(value, again))
        abort();
    return 0;
}
