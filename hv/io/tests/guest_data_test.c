/* What a guest may say about its data, and what becomes of it. */
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <io/guest_data.h>

static const struct str_map *sample(void)
{
    static const struct str_pair pairs[] = {
        {"vm-data/a", "1"}, {"vm-data/a/b", "2"}, {"vm-data/ab", "3"}, {"vm-data/q", "a \"quoted\"\nline"}};
    return str_map_new(pairs, ARRAY_LEN(pairs));
}

/* The answer of the sample data (or what it became), without its end. */
static char *say(const struct str_map **data, const char *line, bool *changed)
{
    struct buf reply = BUF_INIT;
    *changed = guest_data_answer(data, 7, line, strlen(line), &reply);
    cr_assert(reply.len > 0 && reply.data[reply.len - 1] == '\n', "%s", line);
    reply.data[--reply.len] = '\0';
    return buf_take(&reply);
}

Test(guest_data, each_request_has_its_answer)
{
    static const struct {
        const char *line, *answer;
        bool changes;
    } cases[] = {
        {"{\"id\":1,\"op\":\"read\",\"key\":\"vm-data/a\"}", "{\"id\":1,\"value\":\"1\"}", false},
        {"{\"id\":1,\"op\":\"read\",\"key\":\"vm-data/q\"}",
         "{\"id\":1,\"value\":\"a \\\"quoted\\\"\\nline\"}", false},
        {"{\"id\":2,\"op\":\"read\",\"key\":\"vm-data/none\"}",
         "{\"id\":2,\"error\":\"not_found\",\"text\":\"there is no such key\"}", false},
        {"{\"id\":3,\"op\":\"write\",\"key\":\"vm-data/a\",\"value\":\"new\"}", "{\"id\":3}", true},
        {"{\"id\":3,\"op\":\"write\",\"key\":\"vm-data/a\",\"value\":\"1\"}", "{\"id\":3}", false},
        {"{\"id\":4,\"op\":\"remove\",\"key\":\"vm-data/a\"}", "{\"id\":4,\"removed\":2}", true},
        {"{\"id\":4,\"op\":\"remove\",\"key\":\"vm-data/none\"}", "{\"id\":4,\"removed\":0}", false},
        {"{\"id\":5,\"op\":\"list\",\"prefix\":\"vm-data/a\"}",
         "{\"id\":5,\"version\":7,\"data\":{\"vm-data/a\":\"1\",\"vm-data/a/b\":\"2\"}}", false},
        {"{\"id\":6,\"op\":\"version\"}", "{\"id\":6,\"version\":7,\"protocol\":1}", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_STR_MAP const struct str_map *data = sample();
        bool changed;
        char *answer AUTO_FREE = say(&data, cases[i].line, &changed);
        cr_expect_str_eq(answer, cases[i].answer, "%s: %s", cases[i].line, answer);
        cr_expect_eq(changed, cases[i].changes, "%s", cases[i].line);
    }
}

Test(guest_data, what_is_no_request_changes_nothing)
{
    static const struct {
        const char *line, *error;
    } cases[] = {
        {"", "bad_request"},
        {"nonsense", "bad_request"},
        {"[1]", "bad_request"},
        {"{\"id\":\"text\",\"op\":\"format\"}", "bad_request"},
        {"{\"op\":\"write\",\"key\":\"vm-data/x\"}", "bad_value"},
        {"{\"op\":\"write\",\"key\":\"vm-data/x\",\"value\":5}", "bad_value"},
        {"{\"op\":\"write\",\"key\":\"vm-data/x\",\"value\":\"a\\u0001b\"}", "bad_value"},
        {"{\"op\":\"write\",\"key\":\"vm-data/\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"vm-data\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"vm-data//x\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"vm-data/x/\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"vm-data/x y\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"other/x\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"FIST/x\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"write\",\"key\":\"vm-data/\\u00e4\",\"value\":\"\"}", "bad_key"},
        {"{\"op\":\"remove\",\"key\":\"\"}", "bad_key"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        AUTO_STR_MAP const struct str_map *data = sample();
        const struct str_map *before = data;
        bool changed;
        char *answer AUTO_FREE = say(&data, cases[i].line, &changed);
        struct json_error error;
        json_t *json AUTO_JSON = json_parse(answer, strlen(answer), &error);
        const char *word = "";
        cr_expect(json_get_string(json, "error", &word) && streq(word, cases[i].error), "%s: %s",
                  cases[i].line, answer);
        cr_expect(!changed && data == before, "%s", cases[i].line);
    }
}

/* Writes keys k0, k1, ... until that is refused; how many there are then. */
static int fill(size_t value_bytes)
{
    AUTO_STR_MAP const struct str_map *data = NULL;
    char *value AUTO_FREE = xmalloc(value_bytes + 1);
    memset(value, 'v', value_bytes);
    value[value_bytes] = '\0';
    for (int n = 0;; n++) {
        char *line AUTO_FREE =
            xasprintf("{\"op\":\"write\",\"key\":\"vm-data/k%d\",\"value\":\"%s\"}", n, value);
        bool changed;
        char *answer AUTO_FREE = say(&data, line, &changed);
        if (!changed) {
            cr_expect(strstr(answer, "\"quota\"") || strstr(answer, "\"bad_value\""), "%s", answer);
            cr_expect(domain_data_fits(data));
            return n;
        }
        cr_assert_lt(n, 1000);
    }
}

Test(guest_data, a_guest_keeps_a_bounded_amount)
{
    cr_expect_eq(fill(1), DOMAIN_DATA_KEYS);
    cr_expect_eq(fill(DOMAIN_DATA_VALUE), DOMAIN_DATA_BYTES / (DOMAIN_DATA_VALUE + 10));
    cr_expect_eq(fill(DOMAIN_DATA_VALUE + 1), 0);
}

Test(guest_data, the_pool_changes_all_or_nothing)
{
    static const char *const gone[] = {"vm-data/a", "vm-data/none"};
    static const struct str_pair good[] = {{"vm-data/new", "x"}},
                                 bad[] = {{"vm-data/y", "y"}, {"odd key", ""}};
    struct hv_err err;
    AUTO_STR_MAP const struct str_map *data = sample();
    AUTO_STR_MAP const struct str_map *set = str_map_new(good, 1);
    AUTO_STR_MAP const struct str_map *wrong = str_map_new(bad, 2);
    cr_assert_eq(guest_data_change(&data, false, set, gone, 2, &err), 0);
    cr_assert(data->count == 4 && !str_map_get(data, "vm-data/a") && str_map_get(data, "vm-data/a/b"));
    cr_assert_eq(guest_data_change(&data, false, wrong, gone, 2, &err), -1);
    cr_assert_eq(err.kind, HV_ERR_KIND_BAD_ARGUMENT);
    cr_assert_eq(data->count, 4);
    cr_assert_eq(guest_data_change(&data, true, set, NULL, 0, &err), 0);
    cr_assert_eq(data->count, 1);
}
