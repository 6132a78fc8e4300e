/* See rrd_write.h. Two writers share one walk over the archives: the forms differ in brackets alone. */
#include "rrd_write.h"

#include "rrd_internal.h"
#include <base/json.h>
#include <base/mem.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

void rrd_write_number(double value, struct buf *out)
{
    if (isnan(value))
        buf_add_str(out, "NaN");
    else if (isinf(value))
        buf_add_str(out, value > 0 ? "Infinity" : "-Infinity");
    else if (value == 0)
        buf_add_str(out, "0.0");
    else
        buf_advance(out, (size_t)snprintf(buf_reserve(out, 32), 32, "%0.15g", value));
}

static double unknown_as_zero(double value)
{
    return isnan(value) ? 0 : value;
}

static int64_t step_of(unsigned archive)
{
    return (int64_t)rrd_shapes[archive].pdp_per_row * RRD_STEP_S;
}

static void write_xml_text(struct buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        switch (*p) {
        case '&':
            buf_add_str(out, "&amp;");
            break;
        case '<':
            buf_add_str(out, "&lt;");
            break;
        case '>':
            buf_add_str(out, "&gt;");
            break;
        default:
            buf_add_char(out, *p);
        }
    }
}

static void xml_number(struct buf *out, const char *tag, double value)
{
    buf_printf(out, "<%s>", tag);
    rrd_write_number(value, out);
    buf_printf(out, "</%s>", tag);
}

/* `more` for every member but the last. */
static void json_number(struct buf *out, const char *key, double value, bool more)
{
    buf_printf(out, "\"%s\":\"", key);
    rrd_write_number(value, out);
    buf_add_str(out, more ? "\"," : "\"");
}

/* ---- one object, XML ---- */

#define RRDTOOL_NAME_MAX 19

/* The sources of a dump: borrowed pointers into `rrd`. */
struct dump {
    const struct rrd *rrd;
    const struct rrd_source **sources;
    size_t count;
};

static void xml_source(const struct rrd_source *source, struct buf *out)
{
    buf_add_str(out, "<ds><name>");
    write_xml_text(out, source->name);
    buf_printf(out, "</name><type>%s</type><minimal_heartbeat>%.4f</minimal_heartbeat>",
               rrd_kind_name(source->kind), (double)RRD_HEARTBEAT_S);
    xml_number(out, "min", source->min);
    xml_number(out, "max", source->max);
    xml_number(out, "last_ds", unknown_as_zero(source->last));
    xml_number(out, "value", unknown_as_zero(source->value));
    buf_printf(out, "<unknown_sec>%.0f</unknown_sec></ds>", source->unknown_sec);
}

static void xml_archive(const struct dump *dump, unsigned a, enum rrd_cf cf, struct buf *out)
{
    int64_t step = step_of(a), last = rrd_last_time(dump->rrd, a);
    buf_printf(out, "<rra><cf>%s</cf><pdp_per_row>%u</pdp_per_row><params><xff>%g</xff></params><cdp_prep>",
               rrd_cf_name(cf), rrd_shapes[a].pdp_per_row, RRD_XFF);
    for (size_t i = 0; i < dump->count; i++) {
        const struct rrd_cdp *cdp = &dump->sources[i]->cdp[a];
        buf_add_str(out,
                    "<ds><primary_value>0.0</primary_value><secondary_value>0.0</secondary_value><value>");
        rrd_write_number(unknown_as_zero(cdp->value[cf]), out);
        buf_printf(out, "</value><unknown_datapoints>%u</unknown_datapoints></ds>", cdp->unknown);
    }
    buf_add_str(out, "</cdp_prep><database>");
    for (unsigned row = rrd_shapes[a].rows; row-- > 0;) {
        buf_add_str(out, "<row>");
        for (size_t i = 0; i < dump->count; i++) {
            buf_add_str(out, "<v>");
            rrd_write_number(rrd_value(dump->rrd, dump->sources[i], a, cf, last - step * row), out);
            buf_add_str(out, "</v>");
        }
        buf_add_str(out, "</row>");
    }
    buf_add_str(out, "</database></rra>");
}

void rrd_write_xml(const struct rrd *rrd, bool all, struct buf *out)
{
    AUTO_FREE const struct rrd_source **sources = xcalloc(rrd->count + 1, sizeof(struct rrd_source *));
    struct dump dump = {.rrd = rrd, .sources = sources};
    for (size_t i = 0; i < rrd->count; i++)
        if (all || strlen(rrd->sources[i].name) <= RRDTOOL_NAME_MAX)
            sources[dump.count++] = &rrd->sources[i];
    buf_printf(out,
               "<?xml version=\"1.0\"?><rrd><version>0003</version><step>%d</step><lastupdate>%" PRId64
               "</lastupdate>",
               RRD_STEP_S, (int64_t)floor(rrd->updated));
    for (size_t i = 0; i < dump.count; i++)
        xml_source(dump.sources[i], out);
    for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
        for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++)
            xml_archive(&dump, a, cf, out);
    buf_add_str(out, "</rrd>");
}

/* ---- one object, JSON ---- */

static void json_source(const struct rrd_source *source, struct buf *out)
{
    buf_add_str(out, "{\"name\":");
    json_write_string(out, source->name);
    buf_printf(out, ",\"type\":\"%s\",", rrd_kind_name(source->kind));
    buf_printf(out, "\"minimal_heartbeat\":\"%.4f\",", (double)RRD_HEARTBEAT_S);
    json_number(out, "min", source->min, true);
    json_number(out, "max", source->max, true);
    json_number(out, "last_ds", unknown_as_zero(source->last), true);
    json_number(out, "value", unknown_as_zero(source->value), true);
    json_number(out, "unknown_sec", source->unknown_sec, false);
    buf_add_char(out, '}');
}

static void json_archive(const struct rrd *rrd, unsigned a, enum rrd_cf cf, struct buf *out)
{
    int64_t step = step_of(a), last = rrd_last_time(rrd, a);
    buf_printf(out,
               "{\"cf\":\"%s\",\"pdp_per_row\":\"%u\",\"params\":{\"xff\":\"%g\"},\"cdp_prep\":{\"ds\":[",
               rrd_cf_name(cf), rrd_shapes[a].pdp_per_row, RRD_XFF);
    for (size_t i = 0; i < rrd->count; i++) {
        buf_add_str(out, i ? ",{" : "{");
        json_number(out, "primary_value", 0, true);
        json_number(out, "secondary_value", 0, true);
        json_number(out, "value", unknown_as_zero(rrd->sources[i].cdp[a].value[cf]), true);
        buf_printf(out, "\"unknown_datapoints\":\"%u\"}", rrd->sources[i].cdp[a].unknown);
    }
    buf_add_str(out, "]},\"database\":[");
    for (unsigned row = rrd_shapes[a].rows; row-- > 0;) {
        buf_add_char(out, '[');
        for (size_t i = 0; i < rrd->count; i++) {
            buf_add_str(out, i ? ",\"" : "\"");
            rrd_write_number(rrd_value(rrd, &rrd->sources[i], a, cf, last - step * row), out);
            buf_add_char(out, '"');
        }
        buf_add_str(out, row ? "]," : "]");
    }
    buf_add_str(out, "]}");
}

void rrd_write_json(const struct rrd *rrd, struct buf *out)
{
    buf_printf(out, "{\"version\":\"0003\",\"step\":\"%d\",", RRD_STEP_S);
    json_number(out, "lastupdate", rrd->updated, true);
    buf_add_str(out, "\"ds\":[");
    for (size_t i = 0; i < rrd->count; i++) {
        if (i)
            buf_add_char(out, ',');
        json_source(&rrd->sources[i], out);
    }
    buf_add_str(out, "],\"rra\":[");
    for (unsigned i = 0; i < RRD_CF_COUNT * RRD_ARCHIVE_COUNT; i++) {
        if (i)
            buf_add_char(out, ',');
        json_archive(rrd, i % RRD_ARCHIVE_COUNT, i / RRD_ARCHIVE_COUNT, out);
    }
    buf_add_str(out, "]}");
}

/* ---- many objects ---- */

/* What a query comes to. */
struct extract {
    const struct rrd_export *items;
    size_t count, columns;
    unsigned archive, cfs;
    int64_t step, start, first, last; /* rows end between start and last; `first` is what meta says */
    int64_t rows;
};

static void plan(const struct rrd_export *items, size_t count, const struct rrd_query *query,
                 struct extract *x)
{
    int64_t start = query->start, updated = 0;
    *x = (struct extract){.items = items, .count = count, .cfs = query->cfs};
    unsigned wanted = (unsigned)__builtin_popcount(x->cfs);
    for (size_t i = 0; i < count; i++) {
        x->columns += wanted * items[i].rrd->count;
        if (updated < (int64_t)floor(items[i].rrd->updated))
            updated = (int64_t)floor(items[i].rrd->updated);
    }
    if (start < 0)
        start = updated + start > 0 ? updated + start : 0;
    if (count)
        x->archive = rrd_choose(items[0].rrd, start, query->interval_s);
    x->step = step_of(x->archive);
    x->start = start;
    x->first = start / x->step * x->step + x->step;
    x->last = updated / x->step * x->step;
    if (count && x->last >= start)
        x->rows = (x->last - start) / x->step + 1;
    if (x->rows > rrd_shapes[x->archive].rows)
        x->rows = rrd_shapes[x->archive].rows;
}

static void each_column(const struct extract *x,
                        void (*fn)(const struct rrd_export *item, const struct rrd_source *source,
                                   enum rrd_cf cf, bool first, void *arg),
                        void *arg)
{
    bool first = true;
    for (size_t i = 0; i < x->count; i++)
        for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
            for (size_t k = 0; x->cfs & 1u << cf && k < x->items[i].rrd->count; k++) {
                fn(&x->items[i], &x->items[i].rrd->sources[k], cf, first, arg);
                first = false;
            }
}

struct cell_writer {
    const struct extract *x;
    struct buf *out;
    int64_t time;
};

static void xml_entry(const struct rrd_export *item, const struct rrd_source *source, enum rrd_cf cf,
                      bool first, void *arg)
{
    struct cell_writer *w = arg;
    (void)first;
    buf_printf(w->out, "<entry>%s:%s", rrd_cf_name(cf), item->prefix);
    write_xml_text(w->out, source->name);
    buf_add_str(w->out, "</entry>");
}

static void xml_value(const struct rrd_export *item, const struct rrd_source *source, enum rrd_cf cf,
                      bool first, void *arg)
{
    struct cell_writer *w = arg;
    (void)first;
    buf_add_str(w->out, "<v>");
    rrd_write_number(rrd_value(item->rrd, source, w->x->archive, cf, w->time), w->out);
    buf_add_str(w->out, "</v>");
}

static void write_xml_updates(const struct extract *x, struct buf *out)
{
    struct cell_writer w = {.x = x, .out = out};
    buf_printf(out,
               "<xport><meta><start>%" PRId64 "</start><step>%" PRId64 "</step><end>%" PRId64
               "</end><rows>%" PRId64 "</rows><columns>%zu</columns><legend>",
               x->first, x->step, x->last, x->rows, x->columns);
    each_column(x, xml_entry, &w);
    buf_add_str(out, "</legend></meta><data>");
    for (int64_t row = 0; row < x->rows; row++) {
        w.time = x->last - row * x->step;
        buf_printf(out, "<row><t>%" PRId64 "</t>", w.time);
        each_column(x, xml_value, &w);
        buf_add_str(out, "</row>");
    }
    buf_add_str(out, "</data></xport>");
}

static void json_entry(const struct rrd_export *item, const struct rrd_source *source, enum rrd_cf cf,
                       bool first, void *arg)
{
    struct cell_writer *w = arg;
    struct buf name = BUF_INIT;
    buf_printf(&name, "%s:%s%s", rrd_cf_name(cf), item->prefix, source->name);
    if (!first)
        buf_add_char(w->out, ',');
    json_write_string_len(w->out, name.data, name.len);
    buf_done(&name);
}

static void json_value(const struct rrd_export *item, const struct rrd_source *source, enum rrd_cf cf,
                       bool first, void *arg)
{
    struct cell_writer *w = arg;
    buf_add_str(w->out, first ? "\"" : ",\"");
    rrd_write_number(rrd_value(item->rrd, source, w->x->archive, cf, w->time), w->out);
    buf_add_char(w->out, '"');
}

static void write_json_updates(const struct extract *x, struct buf *out)
{
    struct cell_writer w = {.x = x, .out = out};
    buf_printf(out,
               "{\"meta\":{\"start\":\"%" PRId64 "\",\"step\":\"%" PRId64 "\",\"end\":\"%" PRId64
               "\",\"rows\":\"%" PRId64 "\",\"columns\":\"%zu\",\"legend\":[",
               x->first, x->step, x->last, x->rows, x->columns);
    each_column(x, json_entry, &w);
    buf_add_str(out, "]},\"data\":[");
    for (int64_t row = 0; row < x->rows; row++) {
        w.time = x->last - row * x->step;
        buf_printf(out, "%s{\"t\":\"%" PRId64 "\",\"values\":[", row ? "," : "", w.time);
        each_column(x, json_value, &w);
        buf_add_str(out, "]}");
    }
    buf_add_str(out, "]}");
}

void rrd_write_updates(const struct rrd_export *items, size_t count, const struct rrd_query *query,
                       struct buf *out)
{
    struct extract x;
    plan(items, count, query, &x);
    if (query->json)
        write_json_updates(&x, out);
    else
        write_xml_updates(&x, out);
}
