/* Bounded parsing, the writer against jansson's own, UTF-8. */
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <math.h>

static json_t *parse(const char *text)
{
    struct json_error error;
    return json_parse(text, strlen(text), &error);
}

static char *nested(size_t depth)
{
    char *text = xcalloc(2 * depth + 1, 1);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    return text;
}

Test(json, depth_is_bounded_before_parsing)
{
    AUTO_FREE char *fine = nested(JSON_MAX_DEPTH), *deep = nested(JSON_MAX_DEPTH + 1),
                   *bomb = nested(1000000);
    AUTO_JSON json_t *value = parse(fine);
    cr_assert(value != NULL);
    struct json_error error;
    cr_assert(json_parse(deep, strlen(deep), &error) == NULL);
    cr_assert(strstr(error.text, "64 levels") != NULL);
    cr_assert(json_parse(bomb, strlen(bomb), &error) == NULL);
    cr_assert(json_parse(bomb, 1000000, &error) == NULL);
}

Test(json, brackets_inside_strings_do_not_count)
{
    AUTO_BUF struct buf b = BUF_INIT;
    buf_add_str(&b, "[\"");
    for (int i = 0; i < 200; i++)
        buf_add_str(&b, "[{\\\"\\\\");
    buf_add_str(&b, "\"]");
    struct json_error error;
    AUTO_JSON json_t *value = json_parse(b.data, b.len, &error);
    cr_assert(value != NULL, "%s", error.text);
}

Test(json, a_string_that_hides_brackets_badly_is_still_bounded)
{
    /* The quote is escaped, so the string goes on: nothing here may be taken as depth 0 again. */
    AUTO_FREE char *deep = nested(5000);
    AUTO_FREE char *text = xasprintf("[\"a\\\\\",%s]", deep);
    struct json_error error;
    cr_assert(json_parse(text, strlen(text), &error) == NULL);
    cr_assert(strstr(error.text, "levels") != NULL);
}

Test(json, refusals_say_why_and_do_not_echo)
{
    static const struct {
        const char *text;
        size_t len;
        const char *says;
    } cases[] = {
        {"", 0, "ends before"},
        {"{\"secretword\":", 14, "ends before"},
        {"{\"a\":1,\"a\":2}", 13, "same key twice"},
        {"[\"\xff\"]", 5, "UTF-8"},
        {"[\"\xed\xa0\x80\"]", 7, "UTF-8"},
        {"[\"a\\u0000b\"]", 12, "NUL"},
        {"{\"a\\u0000b\":1}", 14, "NUL"},
        {"[secretword]", 12, "not JSON"},
        {"[1] x", 5, "more text"},
        {"[1]\0", 4, "more text"},
        {"[12345678901234567890]", 22, "out of range"},
        {"[1e999]", 7, "out of range"},
        {"\"", 1, ""},
        {"\"\\", 2, ""},
        {"[\"a\nb\"]", 7, "not JSON"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct json_error error;
        AUTO_FREE char *copy = xmalloc(cases[i].len); /* exactly as long: reading beyond is seen */
        memcpy(copy, cases[i].text, cases[i].len);
        cr_assert(json_parse(copy, cases[i].len, &error) == NULL, "case %zu was accepted", i);
        cr_assert(strstr(error.text, cases[i].says) != NULL, "case %zu: %s", i, error.text);
        cr_assert(strstr(error.text, "secretword") == NULL);
    }
}

Test(json, any_value_may_stand_alone)
{
    static const char *const texts[] = {"1", "\"x\"", "null", "true", "[]", "{}", "1.5"};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        AUTO_JSON json_t *value = parse(texts[i]);
        cr_assert(value != NULL);
        AUTO_BUF struct buf b = BUF_INIT;
        json_write(&b, value);
        cr_assert_str_eq(b.data, texts[i]);
    }
}

Test(json, strings_are_escaped_where_they_must_be)
{
    /* Each byte at each place of a word, so that the wide scan is tried at all offsets. */
    for (int c = 1; c < 0x80; c++) {
        for (size_t at = 0; at < 20; at++) {
            char s[24];
            memset(s, 'x', 21);
            s[21] = '\0';
            s[at] = (char)c;
            AUTO_BUF struct buf b = BUF_INIT;
            json_write_string(&b, s);
            struct json_error error;
            AUTO_JSON json_t *back = json_parse(b.data, b.len, &error);
            cr_assert(back != NULL, "0x%02x at %zu: %s", c, at, error.text);
            cr_assert_str_eq(json_string_value(back), s);
            cr_assert_eq(b.len, 23 + (c >= 0x20 ? (c == '"' || c == '\\') : strchr("\b\t\n\f\r", c) ? 1 : 5));
        }
    }
    AUTO_BUF struct buf b = BUF_INIT;
    json_write_string(&b, "a\"\\/\b\f\n\r\t\x01\x1f\x7f \xc3\xa9\xf0\x9f\x98\x80");
    cr_assert_str_eq(b.data, "\"a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001f\x7f \xc3\xa9\xf0\x9f\x98\x80\"");
    buf_clear(&b);
    json_write_string_len(&b, "a\0b", 3);
    cr_assert_str_eq(b.data, "\"a\\u0000b\"");
    buf_clear(&b);
    json_write_string(&b, "");
    cr_assert_str_eq(b.data, "\"\"");
}

Test(json, writes_what_jansson_writes)
{
    static const char text[] = "{\"a\":[1,-2,9223372036854775807,-9223372036854775808,[],{}],"
                               "\"b\":{\"c\":null,\"d\":true,\"e\":false},\"f\":\"\\u00e9\\n\",\"\":\"\"}";
    AUTO_JSON json_t *value = parse(text);
    AUTO_BUF struct buf b = BUF_INIT;
    json_write(&b, value);
    AUTO_FREE char *expected = json_dumps(value, JSON_COMPACT);
    cr_assert_str_eq(b.data, expected);
}

Test(json, reals_read_back_the_same)
{
    static const double numbers[] = {0.1, 1.0, -0.0, 1e300, 5e-324, 1.0 / 3, 123456789.123456789, 1e22, 100};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        AUTO_BUF struct buf b = BUF_INIT;
        json_write_real(&b, numbers[i]);
        cr_assert(strtod(b.data, NULL) == numbers[i]);
        cr_assert(strpbrk(b.data, ".e") != NULL);
    }
    AUTO_BUF struct buf b = BUF_INIT;
    json_write_real(&b, 0.1);
    json_write_real(&b, NAN);
    json_write_real(&b, -INFINITY);
    cr_assert_str_eq(b.data, "0.1NaN-Infinity");
}

Test(json, typed_lookups)
{
    AUTO_JSON json_t *o = parse("{\"s\":\"x\",\"i\":7,\"b\":true,\"r\":1.5,\"n\":null}");
    const char *s = "kept";
    int64_t i = -1;
    bool b = false;
    cr_assert(json_get_string(o, "s", &s) && streq(s, "x"));
    cr_assert(json_get_int(o, "i", &i) && i == 7);
    cr_assert(json_get_bool(o, "b", &b) && b);
    cr_assert(!json_get_string(o, "i", &s) && !json_get_int(o, "r", &i) && !json_get_bool(o, "n", &b));
    cr_assert(!json_get_string(o, "none", &s) && !json_get_string(NULL, "s", &s));
    cr_assert(streq(s, "x") && i == 7);
}

Test(json, utf8)
{
    static const struct {
        const char *text;
        bool valid;
    } cases[] = {
        {"", true},
        {"plain ascii that is longer than a word", true},
        {"\xc3\xa9", true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x98\x80", true},
        {"\xef\xbf\xbe", true}, /* U+FFFE is a noncharacter, but well-formed */
        {"\xf4\x8f\xbf\xbf", true},
        {"\xc3", false},
        {"12345678\xe2\x82", false},
        {"\xc0\x80", false},
        {"\xc1\xbf", false},
        {"\xe0\x9f\xbf", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x8f\xbf\xbf", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\x80", false},
        {"\xff", false},
        {"\xe2\x28\xa1", false},
        {"\xe2\x82\x28", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = strlen(cases[i].text);
        AUTO_FREE char *copy = xmalloc(len);
        memcpy(copy, cases[i].text, len);
        cr_assert(utf8_valid(copy, len) == cases[i].valid, "case %zu", i);
    }
}
