/* Schedules of snapshots: what they may hold, and when they are due. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <plan/schedule.h>
#include <stdlib.h>
#include <time.h>

static const struct str_map *map_of(const char *min, const char *hour, const char *days)
{
    const struct str_map *map = NULL;
    if (min)
        str_map_put(&map, "min", min);
    if (hour)
        str_map_put(&map, "hour", hour);
    if (days)
        str_map_put(&map, "days", days);
    return map;
}

Test(schedule, values)
{
    static const struct {
        const char *key, *value;
        bool fine;
    } table[] = {
        {"min", "0", true},         {"min", "45", true},
        {"min", "7", false},        {"min", "", false},
        {"min", "60", false},       {"min", "-15", false},
        {"min", "15x", false},      {"hour", "0", true},
        {"hour", "23", true},       {"hour", "24", false},
        {"hour", "+1", false},      {"hour", " 1", false},
        {"days", "Monday", true},   {"days", "sunday, friday", true},
        {"days", "monday,", false}, {"days", "", false},
        {"days", "Mo", false},      {"second", "0", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        AUTO_STR_MAP const struct str_map *map = NULL;
        str_map_put(&map, table[i].key, table[i].value);
        cr_expect_eq(schedule_check(map, &err), table[i].fine ? 0 : -1, "%s=%s", table[i].key,
                     table[i].value);
        cr_expect(table[i].fine || strcmp(err.code, "INVALID_VALUE") == 0);
    }
}

Test(schedule, due)
{
    const int64_t noon = 1767614400; /* Monday, 2026-01-05 12:00 UTC */
    static const struct {
        enum vmss_frequency frequency;
        const char *min, *hour, *days, *zone;
        int64_t now, due; /* seconds after that noon */
    } table[] = {
        {VMSS_FREQUENCY_HOURLY, "0", NULL, NULL, "UTC", 0, 0},
        {VMSS_FREQUENCY_HOURLY, "0", NULL, NULL, "UTC", -1, -3600},
        {VMSS_FREQUENCY_HOURLY, "45", NULL, NULL, "UTC", 60, -900},
        {VMSS_FREQUENCY_DAILY, "15", "12", NULL, "UTC", 899, 900 - 86400},
        {VMSS_FREQUENCY_DAILY, "15", "12", NULL, "UTC", 900, 900},
        {VMSS_FREQUENCY_DAILY, "0", "12", NULL, "XXX-5:30", 0, -19800},
        {VMSS_FREQUENCY_WEEKLY, "0", "12", "monday,tuesday", "UTC", 86399, 0},
        {VMSS_FREQUENCY_WEEKLY, "0", "12", "monday", "UTC", -60, -7 * 86400},
        {VMSS_FREQUENCY_WEEKLY, "0", "0", "sunday", "UTC", 0, -36 * 3600},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_STR_MAP const struct str_map *map = map_of(table[i].min, table[i].hour, table[i].days);
        setenv("TZ", table[i].zone, 1);
        tzset();
        cr_expect_eq(schedule_last_due(table[i].frequency, map, noon + table[i].now) - noon, table[i].due,
                     "row %zu", i);
    }
}

Test(schedule, not_complete)
{
    AUTO_STR_MAP const struct str_map *minute = map_of("0", NULL, NULL), *hour = map_of(NULL, "1", NULL),
                                      *both = map_of("0", "1", NULL);
    cr_expect_eq(schedule_last_due(VMSS_FREQUENCY_HOURLY, NULL, 1767614400), 0);
    cr_expect_eq(schedule_last_due(VMSS_FREQUENCY_HOURLY, hour, 1767614400), 0);
    cr_expect_eq(schedule_last_due(VMSS_FREQUENCY_DAILY, minute, 1767614400), 0);
    cr_expect_eq(schedule_last_due(VMSS_FREQUENCY_WEEKLY, both, 1767614400), 0);
}
