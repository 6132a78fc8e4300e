/* From where the server may fetch: a table of addresses, with and without rules. */
#include <arpa/inet.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <fetch.h>
#include <netinet/in.h>

static bool allowed(const struct fetch_rules *rules, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return fetch_allowed(rules, (const struct sockaddr *)&v4);
    cr_assert_eq(inet_pton(AF_INET6, text, &v6.sin6_addr), 1, "%s", text);
    return fetch_allowed(rules, (const struct sockaddr *)&v6);
}

static const struct {
    const char *address;
    bool allowed, with_rules; /* the rules: 10.1.0.0/16, 127.0.0.1, fd00:1::/33 */
} table[] = {
    {"8.8.8.8", true, true},
    {"9.255.255.255", true, true},
    {"11.0.0.0", true, true},
    {"223.255.255.255", true, true},
    {"172.15.255.255", true, true},
    {"172.32.0.0", true, true},
    {"2606:4700::1111", true, true},
    {"2a00:1450::1", true, true},
    {"127.0.0.1", false, true},
    {"127.0.0.2", false, false},
    {"0.0.0.0", false, false},
    {"10.0.255.255", false, false},
    {"10.1.0.0", false, true},
    {"10.1.255.255", false, true},
    {"10.2.0.0", false, false},
    {"100.64.0.1", false, false},
    {"169.254.169.254", false, false},
    {"172.16.0.1", false, false},
    {"172.31.255.255", false, false},
    {"192.168.1.1", false, false},
    {"198.18.0.1", false, false},
    {"224.0.0.1", false, false},
    {"255.255.255.255", false, false},
    {"::", false, false},
    {"::1", false, false},
    {"fe80::1", false, false},
    {"fd00:1::1", false, true},
    {"fd00:1:7fff::1", false, true},
    {"fd00:1:8000::1", false, false},
    {"fd00:ec2::254", false, false},
    {"ff02::1", false, false},
    {"2001:db8::1", false, false},
    /* IPv4 inside IPv6 */
    {"::ffff:8.8.8.8", true, true},
    {"::ffff:127.0.0.1", false, true},
    {"::ffff:169.254.169.254", false, false},
    {"::8.8.8.8", false, false},
    {"64:ff9b::808:808", true, true},
    {"64:ff9b::a9fe:a9fe", false, false},
    {"64:ff9b::a01:1", false, true},
    {"2002:808:808::1", true, true},
    {"2002:7f00:2::1", false, false},
};

Test(fetch, special_addresses_need_a_rule)
{
    char error[160];
    struct fetch_rules *rules = fetch_rules_new("10.1.0.0/16,127.0.0.1, fd00:1::/33", error);
    cr_assert_not_null(rules);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        cr_expect_eq(allowed(NULL, table[i].address), table[i].allowed, "%s", table[i].address);
        cr_expect_eq(allowed(rules, table[i].address), table[i].with_rules, "%s with rules",
                     table[i].address);
    }
    fetch_rules_free(rules);
    cr_expect_not(fetch_allowed(NULL, &(struct sockaddr){.sa_family = AF_UNIX}));
}

Test(fetch, rules_that_are_none)
{
    static const char *const bad[] = {"10.0.0.0/33", "10.0.0.0/",   "10.0.0.0/8x", "10.0.0/8",
                                      "fd00::/129",  "example.org", "10.0.0.0/-1", "10.0.0.0/8;::/0"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        char error[160] = "";
        cr_expect_null(fetch_rules_new(bad[i], error), "%s", bad[i]);
        cr_expect(*error, "%s", bad[i]);
    }
    char error[160];
    struct fetch_rules *all = fetch_rules_new("0.0.0.0/0,::/0", error);
    cr_expect(allowed(all, "127.0.0.1") && allowed(all, "::1"));
    fetch_rules_free(all);
}
