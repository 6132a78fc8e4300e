/* Dates against the C library, and texts that are no dates. */
#include <base/clock.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <time.h>

Test(datetime, agrees_with_the_c_library)
{
    for (int64_t t = INT64_C(-5000000000); t < INT64_C(6000000000); t += 8638571) {
        char ours[DATETIME_TEXT_SIZE], theirs[32];
        time_t seconds = (time_t)t;
        struct tm tm;
        gmtime_r(&seconds, &tm);
        strftime(theirs, sizeof(theirs), "%Y%m%dT%H:%M:%SZ", &tm);
        cr_assert_str_eq(datetime_format(t, ours), theirs);
        int64_t back;
        cr_assert(datetime_parse(ours, &back) && back == t);
    }
}

Test(datetime, the_forms_that_are_read)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } cases[] = {
        {"19700101T00:00:00Z", 0},          {"1970-01-01T00:00:00Z", 0},          {"19700101T00:00:00", 0},
        {"19700101T01:00:00+01:00", 0},     {"19700101T01:30:00+0130", 0},        {"19691231T22:00:00-02", 0},
        {"20240229T12:34:56Z", 1709210096}, {"2024-02-29T12:34:56z", 1709210096},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        int64_t t = -1;
        cr_assert(datetime_parse(cases[i].text, &t), "%s", cases[i].text);
        cr_assert_eq(t, cases[i].seconds);
    }
}

Test(datetime, refuses_what_is_no_date)
{
    static const char *const bad[] = {
        "",
        "now",
        "1970",
        "19700101",
        "19700101T00:00",
        "19700101 00:00:00Z",
        "1970-0101T00:00:00Z",
        "197001-01T00:00:00Z",
        "19701301T00:00:00Z",
        "19700001T00:00:00Z",
        "19700132T00:00:00Z",
        "20230229T00:00:00Z",
        "19000229T00:00:00Z",
        "19700101T24:00:00Z",
        "19700101T00:60:00Z",
        "19700101T00:00:61Z",
        "19700101T00:00:00X",
        "19700101T00:00:00ZZ",
        "19700101T00:00:00+",
        "19700101T00:00:00+1",
        "19700101T00:00:00+24:00",
        "19700101T00:00:00+01:60",
        "19700101T00:00:00+01:00Z",
        "-9700101T00:00:00Z",
        "19700101T-1:00:00Z",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        int64_t t = 42;
        cr_assert_not(datetime_parse(bad[i], &t), "%s", bad[i]);
        cr_assert_eq(t, 42);
    }
}

Test(datetime, years_outside_four_digits_are_clamped)
{
    char text[DATETIME_TEXT_SIZE];
    cr_assert_str_eq(datetime_format(INT64_MAX, text), "99991231T23:59:59Z");
    cr_assert_str_eq(datetime_format(INT64_MIN, text), "00000101T00:00:00Z");
}

Test(monotonic_clock, goes_on)
{
    int64_t a = clock_mono_us(), b = clock_mono_us();
    cr_assert(b >= a && clock_mono_ms() >= a / 1000);
    cr_assert(clock_unix_seconds() > 1600000000);
}
