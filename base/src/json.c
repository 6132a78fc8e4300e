/* JSON beside jansson: a depth check before its recursive parser runs, errors that do not echo the
 * input, and a writer that appends to a buffer. */
#include <base/json.h>
#include <base/mem.h>
#include <math.h>
#include <stdio.h>

/* The deepest nesting of brackets outside strings, or SIZE_MAX as soon as it exceeds the limit.
 * Malformed text is jansson's business: only a bound on its recursion is owed here. */
static bool depth_is_fine(const char *text, size_t len)
{
    const char *p = text, *end = text + len;
    size_t depth = 0;
    while (p < end) {
        switch (*p++) {
        case '"':
            for (; p < end && *p != '"'; p++)
                if (*p == '\\')
                    p++;
            p++;
            break;
        case '[':
        case '{':
            if (++depth > JSON_MAX_DEPTH)
                return false;
            break;
        case ']':
        case '}':
            if (depth > 0)
                depth--;
            break;
        default:
            break;
        }
    }
    return true;
}

/* Jansson never sees an allocation fail: its parser (2.14) reads through NULL then, and a value that was put
 * together without looking would be written without what is missing. */
__attribute__((constructor)) static void use_own_memory(void)
{
    json_set_alloc_funcs(xmalloc, free);
}

static const char *error_sentence(enum json_error_code code)
{
    switch (code) {
    case json_error_invalid_utf8:
        return "the text is not valid UTF-8";
    case json_error_premature_end_of_input:
        return "the text ends before the value is complete";
    case json_error_end_of_input_expected:
        return "there is more text behind the value";
    case json_error_invalid_syntax:
        return "the text is not JSON";
    case json_error_null_character:
    case json_error_null_byte_in_key:
        return "a string contains a NUL character";
    case json_error_duplicate_key:
        return "an object has the same key twice";
    case json_error_numeric_overflow:
        return "a number is out of range";
    case json_error_stack_overflow:
        return "the value is nested too deeply";
    default:
        return "the text cannot be read as JSON";
    }
}

json_t *json_parse(const char *text, size_t len, struct json_error *error)
{
    if (!depth_is_fine(text, len)) {
        *error = (struct json_error){.line = 1};
        snprintf(error->text, sizeof(error->text), "the value is nested deeper than %d levels",
                 JSON_MAX_DEPTH);
        return NULL;
    }
    json_error_t cause;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &cause);
    if (value)
        return value;
    *error = (struct json_error){.line = cause.line, .column = cause.column};
    snprintf(error->text, sizeof(error->text), "%s", error_sentence(json_error_code(&cause)));
    return NULL;
}

/* 0: the byte stands for itself; 'u': six characters; else the letter behind the backslash. */
static const char escape_of[256] = {
    [0] = 'u',  [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',   [5] = 'u',     [6] = 'u',
    [7] = 'u',  ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [11] = 'u',  ['\f'] = 'f',  ['\r'] = 'r',
    [14] = 'u', [15] = 'u',   [16] = 'u',   [17] = 'u',   [18] = 'u',  [19] = 'u',    [20] = 'u',
    [21] = 'u', [22] = 'u',   [23] = 'u',   [24] = 'u',   [25] = 'u',  [26] = 'u',    [27] = 'u',
    [28] = 'u', [29] = 'u',   [30] = 'u',   [31] = 'u',   ['"'] = '"', ['\\'] = '\\',
};

/* True if one of the eight bytes is a control character, a quote or a backslash (or, harmlessly,
 * when a byte with the top bit set makes the subtraction borrow). */
static bool may_need_escape(const char *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t w;
    memcpy(&w, p, sizeof(w));
    uint64_t quote = w ^ (ones * '"'), slash = w ^ (ones * '\\');
    uint64_t hit = ((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);
    return (hit & tops) != 0;
}

void json_write_string_len(struct buf *b, const char *s, size_t len)
{
    const char *p = s, *end = s + len;
    /* Room for the common case, no escapes at all, with the quotes. */
    buf_reserve(b, len + 2);
    buf_add_char(b, '"');
    while (p < end) {
        const char *run = p;
        while (end - p >= 8 && !may_need_escape(p))
            p += 8;
        while (p < end && !escape_of[(unsigned char)*p])
            p++;
        buf_add(b, run, (size_t)(p - run));
        if (p == end)
            break;
        unsigned char c = (unsigned char)*p++;
        char text[6] = {'\\', escape_of[c], '0', '0', (char)('0' + (c >> 4)), "0123456789abcdef"[c & 15]};
        buf_add(b, text, escape_of[c] == 'u' ? 6 : 2);
    }
    buf_add_char(b, '"');
}

void json_write_string(struct buf *b, const char *s)
{
    json_write_string_len(b, s, strlen(s));
}

void json_write_real(struct buf *b, double value)
{
    if (!isfinite(value)) {
        buf_add_str(b, isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
        return;
    }
    char text[40];
    snprintf(text, sizeof(text), "%.16g", value);
    if (strtod(text, NULL) != value)
        snprintf(text, sizeof(text), "%.17g", value);
    for (char *p = text; *p; p++)
        if (*p == ',') /* a locale's decimal sign */
            *p = '.';
    buf_add_str(b, text);
    if (!strpbrk(text, ".e"))
        buf_add_str(b, ".0");
}

static void write_array(struct buf *b, const json_t *array)
{
    size_t count = json_array_size(array);
    buf_add_char(b, '[');
    for (size_t i = 0; i < count; i++) {
        if (i)
            buf_add_char(b, ',');
        json_write(b, json_array_get(array, i));
    }
    buf_add_char(b, ']');
}

static void write_object(struct buf *b, const json_t *object)
{
    /* jansson's iteration takes a non-const object but does not change it. */
    json_t *walked = (json_t *)(uintptr_t)object;
    buf_add_char(b, '{');
    bool first = true;
    for (void *at = json_object_iter(walked); at; at = json_object_iter_next(walked, at)) {
        if (!first)
            buf_add_char(b, ',');
        first = false;
        json_write_string(b, json_object_iter_key(at));
        buf_add_char(b, ':');
        json_write(b, json_object_iter_value(at));
    }
    buf_add_char(b, '}');
}

void json_write(struct buf *b, const json_t *value)
{
    if (!value) {
        buf_add_str(b, "null");
        return;
    }
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(b, value);
        break;
    case JSON_ARRAY:
        write_array(b, value);
        break;
    case JSON_STRING:
        json_write_string_len(b, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        buf_add_int(b, json_integer_value(value));
        break;
    case JSON_REAL:
        json_write_real(b, json_real_value(value));
        break;
    case JSON_TRUE:
        buf_add_str(b, "true");
        break;
    case JSON_FALSE:
        buf_add_str(b, "false");
        break;
    case JSON_NULL:
        buf_add_str(b, "null");
        break;
    }
}

bool json_get_string(const json_t *object, const char *key, const char **out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value))
        return false;
    *out = json_string_value(value);
    return true;
}

bool json_get_int(const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        return false;
    *out = json_integer_value(value);
    return true;
}

bool json_get_bool(const json_t *object, const char *key, bool *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        return false;
    *out = json_is_true(value);
    return true;
}

void json_decref_cleanup(json_t **value)
{
    json_decref(*value);
}

/* Bytes that must follow a lead byte; -1: not a lead byte. Overlong forms and surrogates are
 * excluded by the range of the second byte. */
static int sequence_len(const unsigned char *p, size_t room)
{
    unsigned char low = 0x80, high = 0xbf;
    int more;
    if (*p < 0x80)
        return 0;
    if (*p < 0xc2)
        return -1;
    if (*p < 0xe0) {
        more = 1;
    } else if (*p < 0xf0) {
        more = 2;
        low = *p == 0xe0 ? 0xa0 : 0x80;
        high = *p == 0xed ? 0x9f : 0xbf;
    } else if (*p < 0xf5) {
        more = 3;
        low = *p == 0xf0 ? 0x90 : 0x80;
        high = *p == 0xf4 ? 0x8f : 0xbf;
    } else {
        return -1;
    }
    if ((size_t)more > room || p[1] < low || p[1] > high)
        return -1;
    for (int i = 2; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80)
            return -1;
    return more;
}

bool utf8_valid(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s, *end = p + len;
    while (p < end) {
        uint64_t w;
        if (end - p >= 8 && (memcpy(&w, p, 8), (w & UINT64_C(0x8080808080808080)) == 0)) {
            p += 8;
            continue;
        }
        int more = sequence_len(p, (size_t)(end - p) - 1);
        if (more < 0)
            return false;
        p += more + 1;
    }
    return true;
}

char *utf8_repaired(const char *s, size_t len, size_t *out_len)
{
    const unsigned char *p = (const unsigned char *)s, *end = p + len;
    struct buf out = BUF_INIT;
    while (p < end) {
        int more = sequence_len(p, (size_t)(end - p) - 1);
        if (more < 0)
            buf_add_str(&out, "\xef\xbf\xbd");
        else
            buf_add(&out, p, (size_t)more + 1);
        p += more < 0 ? 1 : more + 1;
    }
    *out_len = out.len;
    return buf_take(&out);
}
