/* Sources, samples and consolidation. The names of the quantities are those of rrdtool's own documentation:
 * a PDP is a primary data point (5 s), a CDP a consolidated one (a row of an archive). Unlike there, unknown
 * time is not rounded to whole seconds. */
#include "rrd.h"

#include "rrd_internal.h"
#include <base/mem.h>
#include <math.h>

#define CLOCK_BACK_S 60 /* a moment so much before the last one: the clock was put back */
#define MAX_JITTER 1.1  /* a rate above its maximum by no more is a matter of measuring */
#define RING_ROWS_FIRST 8

const struct rrd_shape rrd_shapes[RRD_ARCHIVE_COUNT] = {{1, 120}, {12, 120}, {720, 168}, {17280, 366}};

const char *rrd_kind_name(enum rrd_kind kind)
{
    static const char *const names[] = {"GAUGE", "DERIVE", "ABSOLUTE"};
    return names[kind];
}

const char *rrd_cf_name(enum rrd_cf cf)
{
    static const char *const names[] = {"AVERAGE", "MIN", "MAX"};
    return names[cf];
}

struct rrd *rrd_new(double time)
{
    struct rrd *rrd = xcalloc(1, sizeof(*rrd));
    rrd->updated = time;
    return rrd;
}

static void source_done(struct rrd_source *source)
{
    free(source->name);
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++)
        free(source->rows[a]);
}

void rrd_free(struct rrd *rrd)
{
    if (!rrd)
        return;
    for (size_t i = 0; i < rrd->count; i++)
        source_done(&rrd->sources[i]);
    free(rrd->sources);
    free(rrd);
}

/* ---- sources ---- */

static struct rrd_source *find(const struct rrd *rrd, const char *name)
{
    for (size_t i = 0; i < rrd->count; i++)
        if (streq(rrd->sources[i].name, name))
            return &rrd->sources[i];
    return NULL;
}

const struct rrd_source *rrd_find(const struct rrd *rrd, const char *name)
{
    return find(rrd, name);
}

/* In the longest archives all rows are of one CF; in the first a row is one PDP, the same by every CF. */
unsigned rrd_cfs_kept(unsigned archive)
{
    return rrd_shapes[archive].pdp_per_row == 1 ? 1 : RRD_CF_COUNT;
}

static void fill_unknown(float *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        rows[i] = NAN;
}

struct rrd_source *rrd_source_add(struct rrd *rrd, const char *name, enum rrd_kind kind, double min,
                                  double max)
{
    if (rrd->count >= RRD_SOURCES_MAX || strlen(name) > RRD_NAME_MAX)
        return NULL;
    rrd->sources = xreallocarray(rrd->sources, rrd->count + 1, sizeof(*rrd->sources));
    struct rrd_source *source = &rrd->sources[rrd->count++];
    *source = (struct rrd_source){.name = xstrdup(name), .kind = kind, .min = min, .max = max, .last = NAN};
    /* What of the PDP and the CDPs under way is over already is unknown. */
    double into_pdp = fmod(rrd->updated, RRD_STEP_S);
    source->value = NAN;
    source->unknown_sec = into_pdp;
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++) {
        size_t rows = (size_t)rrd->rings[a].cap * rrd_cfs_kept(a);
        int64_t pdps = (int64_t)floor(rrd->updated / RRD_STEP_S);
        source->cdp[a].unknown = (unsigned)(pdps % rrd_shapes[a].pdp_per_row);
        for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
            source->cdp[a].value[cf] = NAN;
        source->rows[a] = rows ? xmalloc(rows * sizeof(float)) : NULL;
        fill_unknown(source->rows[a], rows);
    }
    return source;
}

bool rrd_record(struct rrd *rrd, const struct rrd_sample *what)
{
    return find(rrd, what->name) || rrd_source_add(rrd, what->name, what->kind, what->min, what->max);
}

bool rrd_forget(struct rrd *rrd, const char *name)
{
    struct rrd_source *source = find(rrd, name);
    if (!source)
        return false;
    source_done(source);
    size_t i = (size_t)(source - rrd->sources);
    memmove(source, source + 1, (--rrd->count - i) * sizeof(*source));
    return true;
}

/* ---- rows ---- */

static void reserve(struct rrd *rrd, unsigned a, unsigned more)
{
    struct rrd_ring *ring = &rrd->rings[a];
    unsigned rows = rrd_shapes[a].rows, need = ring->count + more < rows ? ring->count + more : rows;
    if (need <= ring->cap)
        return;
    unsigned cap = ring->cap * 2 > RING_ROWS_FIRST ? ring->cap * 2 : RING_ROWS_FIRST;
    cap = cap > need ? cap : need;
    cap = cap < rows ? cap : rows;
    /* Until all rows have memory the ring has not come round: the rows lie in order, `head` behind them. */
    for (size_t i = 0; i < rrd->count; i++) {
        size_t kept = rrd_cfs_kept(a), old = ring->cap * kept;
        rrd->sources[i].rows[a] = xreallocarray(rrd->sources[i].rows[a], cap * kept, sizeof(float));
        fill_unknown(rrd->sources[i].rows[a] + old, cap * kept - old);
    }
    ring->cap = cap;
}

static void put_row(struct rrd_source *source, unsigned a, unsigned row, const double value[RRD_CF_COUNT])
{
    unsigned kept = rrd_cfs_kept(a);
    for (unsigned cf = 0; cf < kept; cf++)
        source->rows[a][row * kept + cf] = (float)value[cf];
}

/* ---- consolidation ---- */

/* How far an update moves one archive. */
struct advance {
    int64_t pdps;    /* that ended */
    unsigned offset; /* PDPs from the last update's to the end of the row under way */
    int64_t rows;    /* that ended */
};

static double combine(enum rrd_cf cf, double gathered, double pdp, int64_t pdps)
{
    switch (cf) {
    case RRD_AVERAGE:
        return isnan(gathered) ? pdp * (double)pdps : gathered + pdp * (double)pdps;
    case RRD_MIN:
        return isnan(gathered) || pdp < gathered ? pdp : gathered;
    case RRD_MAX:
        return isnan(gathered) || pdp > gathered ? pdp : gathered;
    }
    return NAN;
}

/* The row under way gets the last of its PDPs. */
static double finish_row(enum rrd_cf cf, const struct rrd_cdp *cdp, double pdp, const struct advance *by,
                         unsigned pdp_per_row)
{
    if (cdp->unknown > pdp_per_row * RRD_XFF)
        return NAN;
    double all = isnan(pdp) ? cdp->value[cf] : combine(cf, cdp->value[cf], pdp, by->offset);
    return cf == RRD_AVERAGE ? all / (double)(pdp_per_row - cdp->unknown) : all;
}

static void consolidate(struct rrd_source *source, unsigned a, double pdp, const struct advance *by,
                        double first[RRD_CF_COUNT])
{
    struct rrd_cdp *cdp = &source->cdp[a];
    unsigned pdp_per_row = rrd_shapes[a].pdp_per_row;
    if (by->rows == 0) {
        if (isnan(pdp))
            cdp->unknown += (unsigned)by->pdps;
        for (unsigned cf = 0; !isnan(pdp) && cf < RRD_CF_COUNT; cf++)
            cdp->value[cf] = combine(cf, cdp->value[cf], pdp, by->pdps);
        return;
    }
    if (isnan(pdp))
        cdp->unknown += by->offset;
    unsigned into = (unsigned)((by->pdps - by->offset) % pdp_per_row);
    for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++) {
        first[cf] = finish_row(cf, cdp, pdp, by, pdp_per_row);
        cdp->value[cf] = into == 0 || isnan(pdp) ? NAN : combine(cf, NAN, pdp, into);
    }
    cdp->unknown = isnan(pdp) ? into : 0;
}

/* The rows that ended, one for each source: the first holds what was gathered, all others the new value. */
static void advance_archive(struct rrd *rrd, unsigned a, int64_t from_pdp, int64_t pdps, const double *values)
{
    unsigned pdp_per_row = rrd_shapes[a].pdp_per_row, rows = rrd_shapes[a].rows;
    struct advance by = {.pdps = pdps, .offset = pdp_per_row - (unsigned)(from_pdp % pdp_per_row)};
    struct rrd_ring *ring = &rrd->rings[a];
    by.rows = by.offset <= pdps ? (pdps - by.offset) / pdp_per_row + 1 : 0;
    unsigned put = by.rows < rows ? (unsigned)by.rows : rows;
    reserve(rrd, a, put);
    for (size_t i = 0; i < rrd->count; i++) {
        double first[RRD_CF_COUNT], later[RRD_CF_COUNT] = {values[i], values[i], values[i]};
        consolidate(&rrd->sources[i], a, values[i], &by, first);
        for (unsigned k = 0; k < put; k++)
            put_row(&rrd->sources[i], a, (ring->head + k) % ring->cap,
                    k == 0 && by.rows <= rows ? first : later);
    }
    ring->count = ring->count + put < rows ? ring->count + put : rows;
    ring->head = (ring->head + put) % rows;
}

/* ---- samples ---- */

/* What the source did in each second of the interval. */
static double rate_of(struct rrd_source *source, const struct rrd_sample *sample, double interval)
{
    double value = sample ? sample->value : NAN, rate = NAN;
    switch (source->kind) {
    case RRD_GAUGE:
        rate = value;
        break;
    case RRD_DERIVE:
        rate = (value - source->last) / interval;
        break;
    case RRD_ABSOLUTE:
        rate = value / interval;
        break;
    }
    source->last = value;
    if (isnan(rate) || interval > RRD_HEARTBEAT_S || rate < source->min)
        return NAN;
    if (rate > source->max)
        return source->kind == RRD_DERIVE && rate <= source->max * MAX_JITTER ? source->max : NAN;
    return rate;
}

/* Goes into the PDP under way. */
static void gather(struct rrd_source *source, double rate, double interval)
{
    if (isnan(rate))
        source->unknown_sec += interval;
    else
        source->value = (isnan(source->value) ? 0 : source->value) + rate * interval;
}

/* The PDP under way ends `before` seconds into an interval of that rate, and the time left begins the next.
 */
static double finish_pdp(struct rrd_source *source, double rate, double before)
{
    double unknown_before = 0, value = NAN;
    if (isnan(rate))
        unknown_before = before;
    else
        source->value = (isnan(source->value) ? 0 : source->value) + rate * before;
    if (source->unknown_sec <= RRD_STEP_S / 2.0)
        value = source->value / (RRD_STEP_S - source->unknown_sec - unknown_before);
    source->unknown_sec = 0;
    source->value = NAN;
    return value;
}

static const struct rrd_sample *sample_of(const struct rrd_sample *samples, size_t count, const char *name,
                                          size_t *hint)
{
    for (size_t k = 0; k < count; k++) {
        size_t i = (*hint + k) % count;
        if (streq(samples[i].name, name)) {
            *hint = i + 1;
            return &samples[i];
        }
    }
    return NULL;
}

static void add_new(struct rrd *rrd, const struct rrd_sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (samples[i].standard && (i >= rrd->count || !streq(rrd->sources[i].name, samples[i].name)) &&
            !find(rrd, samples[i].name))
            rrd_source_add(rrd, samples[i].name, samples[i].kind, samples[i].min, samples[i].max);
}

static void note_counters(struct rrd *rrd, const struct rrd_sample *samples, size_t count)
{
    size_t hint = 0;
    for (size_t i = 0; i < rrd->count; i++) {
        const struct rrd_sample *sample = sample_of(samples, count, rrd->sources[i].name, &hint);
        rrd->sources[i].last = sample ? sample->value : NAN;
    }
}

void rrd_update(struct rrd *rrd, double time, const struct rrd_sample *samples, size_t count)
{
    double interval = time - rrd->updated;
    if (interval < -CLOCK_BACK_S)
        rrd->updated = time;
    add_new(rrd, samples, count);
    if (interval <= 0) {
        note_counters(rrd, samples, count);
        return;
    }
    int64_t from = (int64_t)floor(rrd->updated / RRD_STEP_S), to = (int64_t)floor(time / RRD_STEP_S);
    double before = (double)(from + 1) * RRD_STEP_S - rrd->updated, after = time - (double)to * RRD_STEP_S;
    AUTO_FREE double *rates = xcalloc(rrd->count + 1, sizeof(*rates));
    AUTO_FREE double *first = xcalloc(rrd->count + 1, sizeof(*first));
    size_t hint = 0;
    for (size_t i = 0; i < rrd->count; i++) {
        struct rrd_source *source = &rrd->sources[i];
        rates[i] = rate_of(source, sample_of(samples, count, source->name, &hint), interval);
        if (from < to)
            first[i] = finish_pdp(source, rates[i], before);
        gather(source, rates[i], from < to ? after : interval);
    }
    /* The PDP under way, then those that lie in the interval as a whole. */
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++) {
        if (from < to)
            advance_archive(rrd, a, from, 1, first);
        if (from + 1 < to)
            advance_archive(rrd, a, from + 1, to - from - 1, rates);
    }
    rrd->updated = time;
}

/* ---- reading ---- */

static int64_t step_of(unsigned archive)
{
    return (int64_t)rrd_shapes[archive].pdp_per_row * RRD_STEP_S;
}

int64_t rrd_last_time(const struct rrd *rrd, unsigned archive)
{
    int64_t step = step_of(archive);
    return (int64_t)floor(rrd->updated) / step * step;
}

double rrd_value(const struct rrd *rrd, const struct rrd_source *source, unsigned archive, enum rrd_cf cf,
                 int64_t time)
{
    const struct rrd_ring *ring = &rrd->rings[archive];
    unsigned kept = rrd_cfs_kept(archive);
    int64_t step = step_of(archive), back = (rrd_last_time(rrd, archive) - time) / step;
    if (time % step != 0 || time > rrd_last_time(rrd, archive) || back >= ring->count)
        return NAN;
    unsigned rows = ring->count < rrd_shapes[archive].rows ? ring->count : rrd_shapes[archive].rows;
    unsigned newest = ring->head > 0 ? ring->head - 1 : rows - 1;
    unsigned row = (unsigned)(((int64_t)newest - back + rows) % rows);
    return source->rows[archive][row * kept + (kept > 1 ? cf : 0)];
}

unsigned rrd_choose(const struct rrd *rrd, int64_t start, int64_t interval_s)
{
    int64_t last = rrd_last_time(rrd, 0);
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++)
        if (rrd_shapes[a].pdp_per_row >= interval_s / RRD_STEP_S &&
            start > last - step_of(a) * rrd_shapes[a].rows)
            return a;
    return RRD_ARCHIVE_COUNT - 1;
}

double rrd_latest(const struct rrd *rrd, const struct rrd_source *source)
{
    return rrd_value(rrd, source, 0, RRD_AVERAGE, rrd_last_time(rrd, 0));
}
