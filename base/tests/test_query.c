/* The filter language: what fits, what is refused and with which words. */
#include <base/buf.h>
#include <base/mem.h>
#include <base/query.h>
#include <criterion/criterion.h>

static enum query_field known(void *arg, const char *name)
{
    (void)arg;
    if (streq(name, "other_config"))
        return QUERY_FIELD_MAP;
    return streq(name, "name") || streq(name, "memory") || streq(name, "tags") || streq(name, "host")
               ? QUERY_FIELD_PLAIN
               : QUERY_FIELD_NONE;
}

/* name=web1 memory=2048 tags={prod, eu} host=null other_config={owner: ann, "a b": 1} */
static void values(void *arg, const char *field, const char *key, struct query_sink *sink)
{
    (void)arg;
    if (streq(field, "name"))
        sink->take(sink, "web1");
    else if (streq(field, "memory"))
        sink->take(sink, "2048");
    else if (streq(field, "tags"))
        (void)(sink->take(sink, "prod") && sink->take(sink, "eu"));
    else if (streq(field, "host"))
        sink->take(sink, NULL);
    else if (streq(key, "owner"))
        sink->take(sink, "ann");
    else if (streq(key, "a b"))
        sink->take(sink, "1");
}

Test(query, fits)
{
    static const struct {
        const char *text;
        bool fits;
    } cases[] = {
        {"name = web1", true},
        {"name=web1", true},
        {"name = \"web1\"", true},
        {"name = Web1", false},
        {"name ~ WEB*", true},
        {"name ~ \"we?2\"", false},
        {"name != web1", false},
        {"memory > 300", true},
        {"memory >= 2048 and memory <= 2048.0", true},
        {"memory < 300", false},
        {"name > 300", true}, /* no number: by bytes */
        {"tags = prod", true},
        {"tags = eu", true},
        {"tags != us", true},
        {"tags != eu", false},
        {"host = null", true},
        {"host != NULL", false},
        {"host = \"null\"", false},
        {"other_config.owner = ann", true},
        {"other_config.\"a b\" = 1", true},
        {"other_config.none = ann", false},
        {"other_config.none != ann", true},
        {"not name = web1", false},
        {"not (name = web1 and tags = us)", true},
        {"name = x or name = web1 and tags = eu", true},
        {"(name = web1 or name = x) and tags = us", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct query_error error;
        AUTO_QUERY struct query *q = query_parse(cases[i].text, known, NULL, &error);
        cr_assert_not_null(q, "%s: %s", cases[i].text, error.text);
        cr_assert_eq(query_matches(q, values, NULL), cases[i].fits, "%s", cases[i].text);
    }
}

Test(query, refusals)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "the name of a field at character 1"}, {"colour = red", "no field colour"},
        {"name", "one of = != < <= > >= ~"},        {"name = ", "a value at character 8"},
        {"name = \"web", "a closing double quote"}, {"name = a b", "and, or, or the end at character 10"},
        {"(name = a", "a closing parenthesis"},     {"name.key = 1", "is no map"},
        {"other_config = 1", "say which key"},      {"other_config. = 1", "a key of the map"},
        {"name = a and", "the name of a field"},    {"not", "the name of a field"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct query_error error;
        cr_assert_null(query_parse(cases[i].text, known, NULL, &error), "%s", cases[i].text);
        cr_assert_not_null(strstr(error.text, cases[i].says), "%s: %s", cases[i].text, error.text);
    }
}

Test(query, bounds)
{
    AUTO_BUF struct buf deep = BUF_INIT;
    struct query_error error;
    for (size_t i = 0; i < 10000; i++)
        buf_add_char(&deep, '(');
    cr_assert_null(query_parse(deep.data, known, NULL, &error));
    cr_assert_not_null(strstr(error.text, "less nesting"), "%s", error.text);
    for (size_t i = 0; i < 10000; i++)
        buf_add_char(&deep, '(');
    cr_assert_null(query_parse(deep.data, known, NULL, &error));
    cr_assert_not_null(strstr(error.text, "at most"), "%s", error.text);
}

Test(query, order)
{
    cr_assert_lt(query_compare("9", "10"), 0);
    cr_assert_gt(query_compare("9x", "10"), 0);
    cr_assert_eq(query_compare("1.0", "1"), 0);
    cr_assert_lt(query_compare("9007199254740992", "9007199254740993"), 0);
    cr_assert_lt(query_compare(NULL, ""), 0);
}
