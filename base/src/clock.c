/* Clocks, and dates without the C library's time zones. */
#include <base/clock.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

int64_t clock_unix_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_unix_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec;
}

int64_t clock_mono_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

/* Days since 1970-01-01 of a date of the proleptic Gregorian calendar (years counted from March). */
static int64_t days_from_civil(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719468;
}

#define SECONDS_MIN INT64_C(-62167219200) /* 0000-01-01 */
#define SECONDS_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59 */

static void put_digits(char *to, int width, int64_t n)
{
    while (width-- > 0) {
        to[width] = (char)('0' + n % 10);
        n /= 10;
    }
}

char *datetime_format(int64_t seconds, char out[static DATETIME_TEXT_SIZE])
{
    seconds = seconds < SECONDS_MIN ? SECONDS_MIN : seconds > SECONDS_MAX ? SECONDS_MAX : seconds;
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    int64_t month = mp + (mp < 10 ? 3 : -9);
    put_digits(out, 4, yoe + era * 400 + (month <= 2));
    put_digits(out + 4, 2, month);
    put_digits(out + 6, 2, doy - (153 * mp + 2) / 5 + 1);
    out[8] = 'T';
    put_digits(out + 9, 2, rest / 3600);
    out[11] = ':';
    put_digits(out + 12, 2, rest / 60 % 60);
    out[14] = ':';
    put_digits(out + 15, 2, rest % 60);
    out[17] = 'Z';
    out[18] = '\0';
    return out;
}

char *rfc3339_format(int64_t unix_seconds, char out[static RFC3339_SIZE])
{
    char text[DATETIME_TEXT_SIZE];
    datetime_format(unix_seconds, text); /* YYYYMMDDTHH:MM:SSZ */
    snprintf(out, RFC3339_SIZE, "%.4s-%.2s-%.12s", text, text + 4, text + 6);
    return out;
}

/* Reads exactly `width` digits at *p and steps over them. */
static bool take_digits(const char **p, int width, int *out)
{
    int n = 0;
    for (int i = 0; i < width; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        n = n * 10 + (**p - '0');
    }
    *out = n;
    return true;
}

static bool take_char(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

/* "", "Z", "+HH", "+HHMM" or "+HH:MM" up to the end. */
static bool take_zone(const char *p, int *offset_seconds)
{
    int hours = 0, minutes = 0;
    *offset_seconds = 0;
    if (*p == '\0' || ((*p == 'Z' || *p == 'z') && p[1] == '\0'))
        return true;
    if (*p != '+' && *p != '-')
        return false;
    int sign = *p++ == '-' ? -1 : 1;
    if (!take_digits(&p, 2, &hours))
        return false;
    if (*p != '\0') {
        take_char(&p, ':');
        if (!take_digits(&p, 2, &minutes) || *p != '\0')
            return false;
    }
    if (hours > 23 || minutes > 59)
        return false;
    *offset_seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

bool datetime_parse(const char *text, int64_t *unix_seconds)
{
    const char *p = text;
    int year, month, day, hour, minute, second, offset;
    if (!take_digits(&p, 4, &year))
        return false;
    bool dashed = take_char(&p, '-');
    if (!take_digits(&p, 2, &month) || (dashed && !take_char(&p, '-')) || !take_digits(&p, 2, &day))
        return false;
    if (!take_char(&p, 'T') || !take_digits(&p, 2, &hour) || !take_char(&p, ':') ||
        !take_digits(&p, 2, &minute) || !take_char(&p, ':') || !take_digits(&p, 2, &second) ||
        !take_zone(p, &offset))
        return false;
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 60)
        return false;
    *unix_seconds = days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset;
    return true;
}
