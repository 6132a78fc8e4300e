/* Fuzz target (libFuzzer): parsers of text from anywhere: JSON (also written back and read again),
 * references, dates, base64, UTF-8. */
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/ref.h>
#include <base/secret.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_json(const char *text, size_t len)
{
    struct json_error error;
    AUTO_JSON json_t *value = json_parse(text, len, &error);
    if (!value)
        return;
    AUTO_BUF struct buf written = BUF_INIT;
    json_write(&written, value);
    AUTO_JSON json_t *again = json_parse(written.data, written.len, &error);
    if (!again || !json_equal(value, again) || !utf8_valid(written.data, written.len))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    AUTO_FREE char *text = xmalloc(len + 1);
    memcpy(text, data, len);
    text[len] = '\0';
    AUTO_FREE char *exact = xmalloc(len);
    memcpy(exact, data, len);
    check_json(exact, len);
    struct ref ref;
    if (ref_parse(text, &ref) && *text && strcasecmp(REF_TEXT(ref), text) != 0)
        abort();
    int64_t seconds;
    if (datetime_parse(text, &seconds)) {
        char back[DATETIME_TEXT_SIZE];
        datetime_format(seconds, back);
    }
    size_t decoded_len;
    AUTO_FREE char *decoded = base64_decode(exact, len, &decoded_len);
    if (decoded) {
        AUTO_FREE char *encoded = base64_encode(decoded, decoded_len);
        if (strncmp(encoded, text, strcspn(text, "=")) != 0)
            abort();
    }
    return 0;
}
