/* Looks back over the minutes that a schedule can mean: at most eight days of quarters of an hour. */
#include "schedule.h"

#include <base/mem.h>
#include <model/errors.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#define QUARTER (15 * 60)
#define LOOK_BACK (8 * 24 * 3600)

static const char *const weekdays[] = {"sunday",   "monday", "tuesday", "wednesday",
                                       "thursday", "friday", "saturday"};

/* A decimal number from 0 to `max`; -1: something else. */
static int number(const char *text, int max)
{
    char *end;
    if (!text || !*text || strlen(text) > 2)
        return -1;
    long n = strtol(text, &end, 10);
    return *end || *text == '-' || *text == '+' || *text == ' ' || n > max ? -1 : (int)n;
}

/* Bit i: weekdays[i] is among the names. -1: a name that no day has. */
static int day_set(const char *text)
{
    int days = 0;
    AUTO_FREE char *copy = xstrdup(text);
    char *rest = copy, *word;
    while ((word = strsep(&rest, ","))) {
        size_t i = 0;
        word += strspn(word, " ");
        word[strcspn(word, " ")] = '\0';
        while (i < ARRAY_LEN(weekdays) && strcasecmp(word, weekdays[i]) != 0)
            i++;
        if (i == ARRAY_LEN(weekdays))
            return -1;
        days |= 1 << i;
    }
    return days;
}

static int minute_of(const char *text)
{
    int n = number(text, 45);
    return n >= 0 && n % 15 == 0 ? n : -1;
}

int schedule_check(const struct str_map *schedule, struct api_err *err)
{
    for (size_t i = 0; schedule && i < schedule->count; i++) {
        const char *key = schedule->pairs[i].key, *value = schedule->pairs[i].value;
        bool fine;
        if (streq(key, "min"))
            fine = minute_of(value) >= 0;
        else if (streq(key, "hour"))
            fine = number(value, 23) >= 0;
        else if (streq(key, "days"))
            fine = day_set(value) >= 0;
        else
            return err_invalid_value(err, "schedule", key);
        if (!fine)
            return err_invalid_value(err, key, value);
    }
    return 0;
}

static bool fits(enum vmss_frequency frequency, int minute, int hour, int days, const struct tm *at)
{
    if (at->tm_min != minute)
        return false;
    switch (frequency) {
    case VMSS_FREQUENCY_HOURLY:
        return true;
    case VMSS_FREQUENCY_DAILY:
        return at->tm_hour == hour;
    case VMSS_FREQUENCY_WEEKLY:
        return at->tm_hour == hour && days >> at->tm_wday & 1;
    }
    return false;
}

int64_t schedule_last_due(enum vmss_frequency frequency, const struct str_map *schedule, int64_t now)
{
    const char *names = schedule ? str_map_get(schedule, "days") : NULL;
    int minute = schedule ? minute_of(str_map_get(schedule, "min")) : -1;
    int hour = schedule ? number(str_map_get(schedule, "hour"), 23) : -1;
    int days = names ? day_set(names) : -1;
    if (minute < 0 || (frequency != VMSS_FREQUENCY_HOURLY && hour < 0) ||
        (frequency == VMSS_FREQUENCY_WEEKLY && days < 0))
        return 0;
    /* Zones are off by quarters of an hour from UTC, so local quarters are quarters here. */
    for (int64_t at = now - now % QUARTER; at > now - LOOK_BACK; at -= QUARTER) {
        time_t time = at;
        struct tm local;
        if (localtime_r(&time, &local) && fits(frequency, minute, hour, days, &local))
            return at;
    }
    return 0;
}
