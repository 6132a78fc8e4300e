/* How often somebody may do something: a bucket of permits for each name (a user, a token, an address),
 * filled evenly. Memory is fixed: when too many names are in use at once, the one of its group that was seen
 * longest ago is forgotten, and begins with a full bucket when it comes back. Pure apart from its table: the
 * caller says what time it is (monotonic milliseconds). Any thread. */
#pragma once
#include <stdint.h>

struct rate_limit {
    double per_second; /* permits that come back; 0: no limit */
    double burst;      /* permits in a full bucket, at least 1 */
};

struct rates;
struct rates *rates_new(void);
void rates_free(struct rates *rates);

/* Takes `cost` permits (at most the burst is charged) from the bucket of `name`. 0: go on. Else nothing was
 * taken: in so many milliseconds there will be enough. */
int64_t rates_take(struct rates *rates, const char *name, const struct rate_limit *limit, double cost,
                   int64_t now_ms);
