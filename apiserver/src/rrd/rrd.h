/* Round-robin archives of one object's data sources, with the arithmetic of rrdtool (rrdtool(1),
 * rrdcreate(1)): samples of any time become values of 5 s (primary data points), which are consolidated into
 * four archives: 120 rows of 5 s, 120 of a minute, 168 of an hour, 366 of a day, each as AVERAGE, MIN and
 * MAX. Unknown is NaN.
 *
 * Pure and in memory: no clock, no file, no lock (one thread at a time, or many readers). Rows take memory as
 * they come, as floats: a source costs 0.3 KiB when new, 6 KiB after a week, at most 8.5 KiB. A VM with one
 * processor, disk and nic has about 20 sources, so a thousand of them cost 120 MiB after a week. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RRD_STEP_S 5
#define RRD_HEARTBEAT_S 300 /* without a sample for longer, the time between is unknown */
#define RRD_XFF 0.5         /* a row is unknown when more than this part of it is */
#define RRD_SOURCES_MAX 4096
#define RRD_NAME_MAX 127

enum rrd_kind {
    RRD_GAUGE,    /* the value itself */
    RRD_DERIVE,   /* a counter; kept is its growth in a second */
    RRD_ABSOLUTE, /* counted since the sample before; kept is so much a second */
};
const char *rrd_kind_name(enum rrd_kind kind);

enum rrd_cf { RRD_AVERAGE, RRD_MIN, RRD_MAX };
#define RRD_CF_COUNT 3
const char *rrd_cf_name(enum rrd_cf cf);

#define RRD_ARCHIVE_COUNT 4
struct rrd_shape {
    unsigned pdp_per_row, rows;
};
extern const struct rrd_shape rrd_shapes[RRD_ARCHIVE_COUNT];

/* What is known of one source at a moment. */
struct rrd_sample {
    const char *name;
    enum rrd_kind kind;
    double min, max; /* of what is kept; outside is unknown. -INFINITY and INFINITY: no limit */
    double value;    /* NaN: unknown */
    bool standard;   /* false: kept only after rrd_record named it */
};

/* State of one source, for writers; rows are read with rrd_value. */
struct rrd_source {
    char *name;
    enum rrd_kind kind;
    double min, max;
    double last;        /* the sample before; NaN: none */
    double value;       /* gathered in the primary data point under way */
    double unknown_sec; /* of it */
    struct rrd_cdp {
        double value[RRD_CF_COUNT];
        unsigned unknown;
    } cdp[RRD_ARCHIVE_COUNT];
    float *rows[RRD_ARCHIVE_COUNT]; /* private */
};

struct rrd {
    double updated; /* unix seconds of the last sample */
    struct rrd_source *sources;
    size_t count;
    struct rrd_ring {
        unsigned head, count, cap; /* next row, rows that are there, rows with memory */
    } rings[RRD_ARCHIVE_COUNT];    /* private */
};

/* Empty archives that begin at `time`. */
struct rrd *rrd_new(double time);
void rrd_free(struct rrd *rrd); /* NULL is accepted */

/* Takes the samples of one moment. Sources that are new appear (standard ones by themselves); those without a
 * sample are unknown for the time since the last update. A moment that is not after the last one only
 * sets counters; one that is far before it (the clock was put back) goes on from there. */
void rrd_update(struct rrd *rrd, double time, const struct rrd_sample *samples, size_t count);
/* Begins to keep a source; its history is unknown. One that is kept stays as it is. False: too many. */
bool rrd_record(struct rrd *rrd, const struct rrd_sample *what);
/* Drops a source with its history. False: there is none. */
bool rrd_forget(struct rrd *rrd, const char *name);
const struct rrd_source *rrd_find(const struct rrd *rrd, const char *name);

/* Unix time at which the newest row of an archive ends: a multiple of its step. */
int64_t rrd_last_time(const struct rrd *rrd, unsigned archive);
/* The row that ends at `time`; NaN when it is not there. */
double rrd_value(const struct rrd *rrd, const struct rrd_source *source, unsigned archive, enum rrd_cf cf,
                 int64_t time);
/* The first archive whose step is at least `interval_s` and that still reaches back to `start`; else the
 * longest. */
unsigned rrd_choose(const struct rrd *rrd, int64_t start, int64_t interval_s);
/* Latest value of 5 s. */
double rrd_latest(const struct rrd *rrd, const struct rrd_source *source);
