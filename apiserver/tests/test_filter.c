/* Subscriptions and tokens of event.from. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/filter.h>
#include <model/rows.h>

static const struct ref some = {1, 2}, another = {3, 4};

/* A filter of up to three words; NULL: refused. */
static struct event_filter *filter_of(const char *a, const char *b, const char *c)
{
    const char *words[] = {a, b, c};
    size_t count = 0;
    while (count < 3 && words[count])
        count++;
    AUTO_STR_SET const struct str_set *set = str_list_new(words, count);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct event_filter *filter = NULL;
    if (event_filter_parse(set, &filter, &err) < 0) {
        cr_assert_str_eq(err.code, "EVENT_SUBSCRIPTION_PARSE_FAILURE");
        return NULL;
    }
    return filter;
}

Test(filter, what_is_heard)
{
    static const char one[] = "vm/OpaqueRef:00000000-0000-0001-0000-000000000002";
    static const struct {
        const char *words[3];
        bool vm_some, vm_another, pool, session;
    } table[] = {
        {{NULL}, false, false, false, false},
        {{"*"}, true, true, true, false},
        {{"VM"}, true, true, false, false},
        {{"vm"}, true, true, false, false},
        {{"Vm", "POOL"}, true, true, true, false},
        {{"session"}, false, false, false, false},
        {{"nosuch"}, false, false, false, false},
        {{"nosuch/x", "pool"}, false, false, true, false},
        {{one}, true, false, false, false},
        {{one, "pool"}, true, false, true, false},
        {{one, "vm"}, true, true, false, false},
        {{"vm/x"}, false, false, false, false},
        {{"vm/OpaqueRef:NULL"}, false, false, false, false},
        {{"vmx"}, false, false, false, false},
        {{"v"}, false, false, false, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct event_filter *f = filter_of(table[i].words[0], table[i].words[1], table[i].words[2]);
        cr_assert_not_null(f, "row %zu", i);
        cr_assert_eq(event_filter_has(f, CLASS_VM, some), table[i].vm_some, "row %zu", i);
        cr_assert_eq(event_filter_has(f, CLASS_VM, another), table[i].vm_another, "row %zu", i);
        cr_assert_eq(event_filter_has(f, CLASS_pool, some), table[i].pool, "row %zu", i);
        cr_assert_eq(event_filter_has(f, CLASS_session, some), table[i].session, "row %zu", i);
        event_filter_free(f);
    }
}

Test(filter, what_is_refused)
{
    static const char *const bad[] = {"", "/", "/x", "vm/", "vm//", "vm/a/b", "*/", "a/b/"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_null(filter_of(bad[i], NULL, NULL), "'%s'", bad[i]);
        cr_assert_null(filter_of("vm", bad[i], NULL), "'%s' behind a good one", bad[i]);
    }
}

Test(token, there_and_back)
{
    static const uint64_t table[] = {1, 42, UINT32_MAX, UINT64_MAX};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        char text[EVENT_TOKEN_SIZE];
        uint64_t back = 0;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        event_token_format(table[i], text);
        cr_assert_eq(strlen(text), 41);
        cr_assert_eq(event_token_parse(text, &back, &err), 0);
        cr_assert_eq(back, table[i]);
    }
}

Test(token, refusals)
{
    static const char *const bad[] = {
        "x",
        "1",
        "0",
        "1,1",
        "00000000000000000001",
        "00000000000000000001,",
        "00000000000000000001,0000000000000000001",
        "00000000000000000001,000000000000000000011",
        "00000000000000000001;00000000000000000001",
        "-0000000000000000001,00000000000000000001",
        " 0000000000000000001,00000000000000000001",
        "+0000000000000000001,00000000000000000001",
        "0x000000000000000001,00000000000000000001",
        "99999999999999999999,00000000000000000001",
        "00000000000000000001,0000000000000000000x",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        uint64_t generation = 77;
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        cr_assert_eq(event_token_parse(bad[i], &generation, &err), -1, "'%s'", bad[i]);
        cr_assert_str_eq(err.code, "EVENT_FROM_TOKEN_PARSE_FAILURE");
        cr_assert_str_eq(err.params[0], bad[i]);
        cr_assert_eq(generation, 77);
    }
    uint64_t generation = 77;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    cr_assert_eq(event_token_parse("", &generation, &err), 0);
    cr_assert_eq(generation, 0);
}

Test(filter, one_object_among_thousands)
{
    enum { COUNT = 3000 };
    const char *words[COUNT];
    for (uint64_t i = 0; i < COUNT; i++)
        words[i] = xasprintf("vm/%s", REF_TEXT(((struct ref){1, i * 7919 % 3001 + 1})));
    AUTO_STR_SET const struct str_set *set = str_list_new(words, COUNT);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct event_filter *filter;
    cr_assert_eq(event_filter_parse(set, &filter, &err), 0);
    struct event_filter *copy = event_filter_copy(filter);
    event_filter_free(filter);
    for (uint64_t i = 0; i < COUNT; i++)
        cr_assert(event_filter_has(copy, CLASS_VM, (struct ref){1, i * 7919 % 3001 + 1}));
    cr_assert_not(event_filter_has(copy, CLASS_VM, (struct ref){1, 0}));
    cr_assert_not(event_filter_has(copy, CLASS_VM, (struct ref){2, 1}));
    cr_assert_not(event_filter_has(copy, CLASS_VIF, (struct ref){1, 1}));
    event_filter_free(copy);
    for (size_t i = 0; i < COUNT; i++)
        free((char *)words[i]);
}

Test(filter, only_one_class)
{
    static const struct {
        const char *words[3];
        bool only;
    } table[] = {
        {{"task"}, true},
        {{"task", "TASK"}, true},
        {{"task/OpaqueRef:00000000-0000-0001-0000-000000000002"}, true},
        {{"task", "nosuch"}, true},
        {{"task", "vm"}, false},
        {{"vm"}, false},
        {{"*"}, false},
        {{NULL}, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct event_filter *f = filter_of(table[i].words[0], table[i].words[1], table[i].words[2]);
        cr_assert_eq(event_filter_only(f, CLASS_task), table[i].only, "row %zu", i);
        event_filter_free(f);
    }
}
