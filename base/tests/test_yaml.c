/* YAML as JSON. */
#include <base/mem.h>
#include <base/yaml.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

Test(yaml, reads_as_json)
{
    static const char *const table[][2] = {
        {"a: 1", "{\"a\":1}"},
        {"a: -0.5\nb: 1e3", "{\"a\":-0.5,\"b\":1000.0}"},
        {"a: \"1\"\nb: '2'", "{\"a\":\"1\",\"b\":\"2\"}"},
        {"a: true\nb: null\nc:\nd: ~\ne: yes", "{\"a\":true,\"b\":null,\"c\":null,\"d\":null,\"e\":\"yes\"}"},
        {"- 1\n- [x, 1.2.3, 007, 2026-01-01]", "[1,[\"x\",\"1.2.3\",\"007\",\"2026-01-01\"]]"},
        {"a: |\n  x\n  y\n", "{\"a\":\"x\\ny\\n\"}"},
        {"{\"a\": [{}, []]}", "{\"a\":[{},[]]}"},
        {"1: x\n99999999999999999999: y", "{\"1\":\"x\",\"99999999999999999999\":\"y\"}"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct json_error error;
        AUTO_BUF struct buf text = BUF_INIT;
        AUTO_JSON json_t *value = yaml_parse(table[i][0], strlen(table[i][0]), &error);
        cr_assert(value != NULL, "%s: %s", table[i][0], error.text);
        json_write(&text, value);
        cr_expect_str_eq(text.data, table[i][1]);
    }
}

Test(yaml, refuses)
{
    static const char *const table[][2] = {
        {"a: &x 1", "Anchors"},    {"a: *x", ""},
        {"a: !!str 1", "Anchors"}, {"a: 1\na: 2", "twice"},
        {"? [a]\n: 1", "A key"},   {"a: [", ""},
        {"", "nothing"},           {"a: 1\n---\nb: 2", "more than one"},
        {"a: \"\\0\"", "no NUL"},  {"a: \xff", "UTF-8"},
        {"a: 1e999", "no value"},  {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "deeply"}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct json_error error;
        json_t *value = yaml_parse(table[i][0], strlen(table[i][0]), &error);
        cr_expect(value == NULL, "%s", table[i][0]);
        cr_expect(error.text[0] && strstr(error.text, table[i][1]), "%s: %s", table[i][0], error.text);
        json_decref(value);
    }
}

Test(yaml, size)
{
    struct json_error error;
    AUTO_FREE char *large = xmalloc(YAML_BYTES_MAX + 1);
    memset(large, 'x', YAML_BYTES_MAX + 1);
    cr_expect(yaml_parse(large, YAML_BYTES_MAX + 1, &error) == NULL);
    cr_expect_not_null(strstr(error.text, "1 MiB"));
}

Test(yaml, writes_what_it_reads)
{
    const char *text =
        "{\"a\":{\"b\":[1,{\"c\":\"x: y\\n#\",\"d\":[]},[\"no\",null]],\"e\":{}},\"~\":\"null\"}";
    struct json_error error;
    AUTO_BUF struct buf out = BUF_INIT;
    AUTO_JSON json_t *value = json_parse(text, strlen(text), &error);
    yaml_write(&out, value);
    AUTO_JSON json_t *again = yaml_parse(out.data, out.len, &error);
    cr_assert(again != NULL, "%s\n%s", error.text, out.data);
    cr_expect(json_equal(value, again), "%s", out.data);
}

Test(yaml, keys_of_any_length)
{
    const size_t lens[] = {1, 1021, 1022, 1023, 1024, 5000};
    for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
        struct json_error error;
        AUTO_BUF struct buf out = BUF_INIT;
        AUTO_FREE char *key = xcalloc(lens[i] + 1, 1);
        memset(key, 'k', lens[i]);
        AUTO_JSON json_t *value = json_pack("{s{s[{si}]sn}}", "of", key, key, 1, "x");
        yaml_write(&out, value);
        AUTO_JSON json_t *again = yaml_parse(out.data, out.len, &error);
        cr_expect(again && json_equal(value, again), "%zu: %s", lens[i],
                  again ? "another value" : error.text);
    }
}
