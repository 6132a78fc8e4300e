/* When a schedule of snapshots (VMSS) is due. Pure, apart from the time zone of the process; any thread.
 *
 * A schedule holds min (0, 15, 30 or 45), hour (0 to 23) and days (names of weekdays, separated by commas):
 * hourly needs the first, daily the first two, weekly all. */
#pragma once
#include <model/error.h>
#include <model/rows.h>

/* INVALID_VALUE with the key or value that no schedule has. A schedule that is not complete yet is fine. */
int schedule_check(const struct str_map *schedule, struct api_err *err);
/* The last moment up to `now` (Unix seconds) at which the schedule was due, in local time; 0: none, for it is
 * not complete. */
int64_t schedule_last_due(enum vmss_frequency frequency, const struct str_map *schedule, int64_t now);
