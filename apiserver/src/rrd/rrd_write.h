/* Archives as text: the whole of one object in rrdtool's dump format (`rrdtool restore` takes it) or the same
 * as JSON, and the newest rows of many objects in the format of `rrdtool xport`. In JSON every number is
 * text, as clients of XenAPI expect it. */
#pragma once
#include "rrd.h"
#include <base/buf.h>

/* rrdtool takes names of at most 19 characters and refuses a dump that has a longer one, so sources with long
 * names are left out unless `all`. JSON has all of them. */
void rrd_write_xml(const struct rrd *rrd, bool all, struct buf *out);
void rrd_write_json(const struct rrd *rrd, struct buf *out);

/* One object among those exported together. */
struct rrd_export {
    const char *prefix; /* of its names in the legend: "vm:<uuid>:" */
    const struct rrd *rrd;
};
struct rrd_query {
    int64_t start;      /* unix seconds; below 0: before the last update */
    int64_t interval_s; /* rows of at least so many seconds */
    unsigned cfs;       /* bit of each wanted enum rrd_cf */
    bool json;
};
/* Rows that end at `start` or later, newest first, of one archive for all: the first object's query decides.
 * No object: no rows. */
void rrd_write_updates(const struct rrd_export *items, size_t count, const struct rrd_query *query,
                       struct buf *out);

/* "NaN", "Infinity", "-Infinity", "0.0", else %0.15g. */
void rrd_write_number(double value, struct buf *out);
