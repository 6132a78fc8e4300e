/* Clocks and the XenAPI date form. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

int64_t clock_unix_seconds(void);
int64_t clock_unix_us(void);
/* Monotonic; for deadlines and durations, unaffected by changes of the wall clock. */
int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);

#define DATETIME_TEXT_SIZE 24
/* "YYYYMMDDTHH:MM:SSZ" in UTC. Returns `out`. */
char *datetime_format(int64_t unix_seconds, char out[static DATETIME_TEXT_SIZE]);
/* "2026-01-31T12:00:00Z" (RFC 3339). Returns `out`. */
#define RFC3339_SIZE 24
char *rfc3339_format(int64_t unix_seconds, char out[static RFC3339_SIZE]);
/* Accepts the first form, dashed dates, an offset, or no zone (read as UTC). False: not a date. */
bool datetime_parse(const char *text, int64_t *unix_seconds);
