/* Headers of transfers: which bytes are asked for, and which digests announced. */
#include <criterion/criterion.h>
#include <http/digest.h>
#include <http/range.h>

Test(range, what_is_asked_for)
{
    static const struct {
        const char *text;
        int64_t size;
        enum range_verdict verdict;
        int64_t from, length;
    } rows[] = {
        {NULL, 100, RANGE_ALL, 0, 0},
        {"", 100, RANGE_ALL, 0, 0},
        {"bytes=0-0", 100, RANGE_PART, 0, 1},
        {"bytes=0-99", 100, RANGE_PART, 0, 100},
        {"bytes=0-100", 100, RANGE_PART, 0, 100},
        {"bytes=99-99", 100, RANGE_PART, 99, 1},
        {"Bytes=10-19", 100, RANGE_PART, 10, 10},
        {"bytes= 10-19 ", 100, RANGE_PART, 10, 10},
        {"bytes=10-", 100, RANGE_PART, 10, 90},
        {"bytes=-10", 100, RANGE_PART, 90, 10},
        {"bytes=-100", 100, RANGE_PART, 0, 100},
        {"bytes=-1000", 100, RANGE_PART, 0, 100},
        {"bytes=0-99999999999999999999999999", 100, RANGE_PART, 0, 100},
        {"bytes=-99999999999999999999999999", 100, RANGE_PART, 0, 100},
        {"bytes=0-9223372036854775807", INT64_MAX, RANGE_PART, 0, INT64_MAX},
        {"bytes=100-", 100, RANGE_NONE, 0, 0},
        {"bytes=100-200", 100, RANGE_NONE, 0, 0},
        {"bytes=99999999999999999999999999-", 100, RANGE_NONE, 0, 0},
        {"bytes=-0", 100, RANGE_NONE, 0, 0},
        {"bytes=0-", 0, RANGE_NONE, 0, 0},
        {"bytes=-5", 0, RANGE_NONE, 0, 0},
        {"bytes=20-10", 100, RANGE_ALL, 0, 0},
        {"bytes=-", 100, RANGE_ALL, 0, 0},
        {"bytes=", 100, RANGE_ALL, 0, 0},
        {"bytes", 100, RANGE_ALL, 0, 0},
        {"bytes=a-b", 100, RANGE_ALL, 0, 0},
        {"bytes=1-2x", 100, RANGE_ALL, 0, 0},
        {"bytes=+1-2", 100, RANGE_ALL, 0, 0},
        {"bytes=1--2", 100, RANGE_ALL, 0, 0},
        {"bytes=0-1,5-6", 100, RANGE_ALL, 0, 0},
        {"lines=0-1", 100, RANGE_ALL, 0, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct byte_range got = {-1, -1};
        cr_assert_eq(range_read(rows[i].text, rows[i].size, &got), rows[i].verdict, "%s", rows[i].text);
        if (rows[i].verdict == RANGE_PART)
            cr_assert(got.from == rows[i].from && got.length == rows[i].length, "%s: %lld+%lld", rows[i].text,
                      (long long)got.from, (long long)got.length);
    }
}

Test(range, only_of_the_version_that_is_meant)
{
    cr_assert(range_counts(NULL, "\"a\""));
    cr_assert(range_counts("\"a\"", "\"a\""));
    cr_assert_not(range_counts("\"b\"", "\"a\""));
    cr_assert_not(range_counts("W/\"a\"", "\"a\""));
    cr_assert_not(range_counts("Wed, 21 Oct 2026 07:28:00 GMT", "\"a\""));
}

/* Of "abc". */
#define SHA256_ABC "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
#define SHA1_ABC "qZk+NkcGgWq6PiVxeFDCbJzQ2J0="

Test(digest, what_is_announced)
{
    static const struct {
        const char *text;
        bool checksum, valid;
        enum digest_kind kind;
    } rows[] = {
        {"sha-256=:" SHA256_ABC ":", false, true, DIGEST_SHA256},
        {" sha-512=:AAAA:, sha-256=:" SHA256_ABC ": ", false, true, DIGEST_SHA256},
        {"sha-256=:" SHA256_ABC ":,md5=:AA==:", false, true, DIGEST_SHA256},
        {"md5=:AA==:", false, true, DIGEST_NONE},
        {"", false, false, DIGEST_NONE},
        {"sha-256", false, false, DIGEST_NONE},
        {"sha-256=" SHA256_ABC, false, false, DIGEST_NONE},
        {"sha-256=:" SHA256_ABC, false, false, DIGEST_NONE},
        {"sha-256=:" SHA1_ABC ":", false, false, DIGEST_NONE},
        {"sha-256=:!!!:", false, false, DIGEST_NONE},
        {"sha-256=:" SHA256_ABC ":,", false, false, DIGEST_NONE},
        {"=:AA==:", false, false, DIGEST_NONE},
        {"sha1 " SHA1_ABC, true, true, DIGEST_SHA1},
        {"sha256 " SHA256_ABC, true, true, DIGEST_SHA256},
        {"sha256 " SHA1_ABC, true, false, DIGEST_NONE},
        {"crc32 AAAA", true, false, DIGEST_NONE},
        {"sha1", true, false, DIGEST_NONE},
        {"", true, false, DIGEST_NONE},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct digest got = {DIGEST_NONE, {0}};
        bool valid =
            rows[i].checksum ? digest_read_checksum(rows[i].text, &got) : digest_read(rows[i].text, &got);
        cr_assert_eq(valid, rows[i].valid, "%s", rows[i].text);
        if (!valid || rows[i].kind == DIGEST_NONE)
            continue;
        cr_assert_eq(got.kind, rows[i].kind, "%s", rows[i].text);
        AUTO_DIGESTER struct digester *right = digester_new(got.kind), *wrong = digester_new(got.kind);
        digester_add(right, "a", 1);
        digester_add(right, "bc", 2);
        digester_add(wrong, "abd", 3);
        cr_assert(digest_fits(&got, right), "%s", rows[i].text);
        cr_assert_not(digest_fits(&got, wrong), "%s", rows[i].text);
    }
}
