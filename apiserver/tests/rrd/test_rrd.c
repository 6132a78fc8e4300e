/* The archives alone: consolidation against rrdtool's own on the same samples, growth, files, text. */
#include <base/mem.h>
#include <base/proc.h>
#include <criterion/criterion.h>
#include <math.h>
#include <rrd/rrd_file.h>
#include <rrd/rrd_write.h>
#include <stdio.h>

#define START 1700000000 /* a multiple of 5 */

static struct rrd_sample gauge(const char *name, double value)
{
    return (struct rrd_sample){name, RRD_GAUGE, -INFINITY, INFINITY, value, true};
}

static double value_at(const struct rrd *rrd, const char *name, unsigned archive, enum rrd_cf cf,
                       int64_t time)
{
    const struct rrd_source *source = rrd_find(rrd, name);
    cr_assert_not_null(source, "%s", name);
    return rrd_value(rrd, source, archive, cf, time);
}

static void text(const struct rrd *rrd, struct buf *out)
{
    buf_clear(out);
    rrd_write_xml(rrd, true, out);
}

/* A small generator of numbers, the same in every run. */
static uint32_t seed;
static double random_part(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / (1 << 24);
}

/* ---- against rrdtool ---- */

#define SOURCES 4

/* rrdtool 1.7 rounds unknown time to whole seconds, and the time of a sample too if that ends several steps
 * at once: where such things happen times are whole seconds. */
struct plan {
    const char *name;
    double grain;              /* of times, in seconds */
    double step_min, step_max; /* seconds between samples */
    double gap_part, gap_s;    /* how often, and how long, nothing comes */
    double unknown_part;
    int count;
};
static const struct plan plans[] = {
    {"steady", 1, 5, 5, 0, 0, 0, 400},
    {"fractions", 0.001, 1.1, 4.9, 0, 0, 0, 900},
    {"uneven", 1, 2, 9, 0, 0, 0, 600},
    {"some are unknown", 1, 3, 9, 0, 0, 0.2, 600},
    {"gaps", 1, 4, 7, 0.02, 350, 0.05, 800},
    {"slow", 1, 40, 290, 0.01, 4000, 0.02, 1500},
    {"days", 1, 200, 299, 0.002, 200000, 0.01, 2500},
};

/* A command's words, each on the heap. */
struct words {
    char **list;
    size_t count;
};

static void word(struct words *w, char *moved)
{
    w->list = xreallocarray(w->list, w->count + 2, sizeof(*w->list));
    w->list[w->count++] = moved;
    w->list[w->count] = NULL;
}

static void run(struct words *w, struct proc_result *result)
{
    const struct proc_spec spec = {.argv = (const char *const *)w->list};
    const struct proc_run_options options = {.timeout_ms = 60000, .capture_max = 32 << 20};
    cr_assert_eq(proc_run(&spec, &options, result), 0);
    cr_assert(proc_ok(result), "rrdtool: %s", result->err.data ? result->err.data : "");
    for (size_t i = 0; i < w->count; i++)
        free(w->list[i]);
    free(w->list);
    *w = (struct words){0};
}

static void rrdtool(struct words *w)
{
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    run(w, &result);
}

static bool have_rrdtool(void)
{
    return access("/usr/bin/rrdtool", X_OK) == 0;
}

static void create(const char *file)
{
    struct words w = {0};
    static const char *const sources[SOURCES] = {"DS:gauge:GAUGE:300:U:U", "DS:each:ABSOLUTE:300:U:U",
                                                 "DS:counter:DERIVE:300:0:U", "DS:limited:GAUGE:300:0:50"};
    word(&w, xstrdup("rrdtool"));
    word(&w, xstrdup("create"));
    word(&w, xstrdup(file));
    word(&w, xasprintf("--start=%d", START));
    word(&w, xstrdup("--step=5"));
    for (size_t i = 0; i < SOURCES; i++)
        word(&w, xstrdup(sources[i]));
    for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
        for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++)
            word(&w, xasprintf("RRA:%s:0.5:%u:%u", rrd_cf_name(cf), rrd_shapes[a].pdp_per_row,
                               rrd_shapes[a].rows));
    rrdtool(&w);
}

static void add_value(struct buf *line, double value)
{
    if (isnan(value))
        buf_add_str(line, ":U");
    else
        buf_printf(line, ":%.10g", value);
}

/* One moment's samples, to ours and as a word for theirs. */
static char *sample(struct rrd *rrd, const struct plan *plan, double time, double *counter)
{
    *counter = random_part() < 0.01 ? 0 : floor(*counter + random_part() * 1e6);
    struct rrd_sample samples[SOURCES] = {
        gauge("gauge", random_part() * 100 - 50),
        {"each", RRD_ABSOLUTE, -INFINITY, INFINITY, random_part() * 1000, true},
        {"counter", RRD_DERIVE, 0, INFINITY, *counter, true},
        {"limited", RRD_GAUGE, 0, 50, random_part() * 60, true},
    };
    struct buf line = BUF_INIT;
    buf_printf(&line, "%.3f", time);
    for (size_t i = 0; i < SOURCES; i++) {
        if (random_part() < plan->unknown_part)
            samples[i].value = NAN;
        char digits[32];
        snprintf(digits, sizeof(digits), "%.10g", samples[i].value);
        if (!isnan(samples[i].value))
            samples[i].value = strtod(digits, NULL);
        add_value(&line, samples[i].value);
    }
    rrd_update(rrd, time, samples, SOURCES);
    return buf_take(&line);
}

static struct rrd *feed(const struct plan *plan, const char *file)
{
    const struct rrd_sample none[SOURCES] = {
        gauge("gauge", NAN),
        {"each", RRD_ABSOLUTE, -INFINITY, INFINITY, NAN, true},
        {"counter", RRD_DERIVE, 0, INFINITY, NAN, true},
        {"limited", RRD_GAUGE, 0, 50, NAN, true},
    };
    struct rrd *rrd = rrd_new(START);
    struct words w = {0};
    double time = START, counter = 0;
    rrd_update(rrd, START, none, SOURCES);
    for (int i = 0; i < plan->count; i++) {
        bool gap = random_part() < plan->gap_part;
        time += gap ? plan->gap_s * (1 + random_part())
                    : plan->step_min + random_part() * (plan->step_max - plan->step_min);
        time = floor(time / plan->grain) * plan->grain;
        if (w.count == 0) {
            word(&w, xstrdup("rrdtool"));
            word(&w, xstrdup("update"));
            word(&w, xstrdup(file));
        }
        word(&w, sample(rrd, plan, time, &counter));
        if (w.count > 500 || i == plan->count - 1)
            rrdtool(&w);
    }
    return rrd;
}

static void same(double ours, double theirs, const char *plan, const char *what, int64_t time)
{
    if (isnan(ours) || isnan(theirs))
        cr_assert_eq(isnan(ours), isnan(theirs), "%s: %s at %lld: ours %g, theirs %g", plan, what,
                     (long long)time, ours, theirs);
    else
        cr_assert_float_eq(ours, theirs, 1e-5 * (fabs(theirs) + 1), "%s: %s at %lld: ours %g, theirs %g",
                           plan, what, (long long)time, ours, theirs);
}

/* Every row of one archive. Returns how many values were known. */
static int compare(const struct rrd *rrd, const struct plan *plan, const char *file, unsigned a,
                   enum rrd_cf cf)
{
    struct words w = {0};
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    int64_t step = rrd_shapes[a].pdp_per_row * RRD_STEP_S, last = rrd_last_time(rrd, a);
    static const char *const names[SOURCES] = {"gauge", "each", "counter", "limited"};
    int known = 0, rows = 0;
    word(&w, xstrdup("rrdtool"));
    word(&w, xstrdup("fetch"));
    word(&w, xstrdup(file));
    word(&w, xstrdup(rrd_cf_name(cf)));
    word(&w, xasprintf("--resolution=%lld", (long long)step));
    word(&w, xasprintf("--start=%lld", (long long)(last - step * rrd_shapes[a].rows)));
    word(&w, xasprintf("--end=%lld", (long long)(last - step)));
    run(&w, &result);
    for (char *line = strtok(result.out.data, "\n"); line; line = strtok(NULL, "\n")) {
        long long time;
        double v[SOURCES];
        if (sscanf(line, "%lld: %lf %lf %lf %lf", &time, &v[0], &v[1], &v[2], &v[3]) != 5 || time > last ||
            time <= last - step * rrd_shapes[a].rows)
            continue;
        rows++;
        for (size_t i = 0; i < (plan->grain < 1 ? 2 : SOURCES); i++) { /* the others have unknown times */
            char what[64];
            snprintf(what, sizeof(what), "%s %s of %llds", rrd_cf_name(cf), names[i], (long long)step);
            same(value_at(rrd, names[i], a, cf, time), v[i], plan->name, what, time);
            known += !isnan(v[i]);
        }
    }
    cr_assert_geq(rows, (int)rrd_shapes[a].rows - 1);
    return known;
}

Test(rrd, consolidates_as_rrdtool_does)
{
    if (!have_rrdtool())
        cr_skip_test("rrdtool is not installed");
    for (size_t p = 0; p < ARRAY_LEN(plans); p++) {
        char file[] = "/tmp/corral-rrd-XXXXXX";
        int fd = mkstemp(file), known[RRD_ARCHIVE_COUNT] = {0};
        cr_assert_geq(fd, 0);
        close(fd);
        unlink(file);
        seed = 7;
        create(file);
        struct rrd *rrd = feed(&plans[p], file);
        for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++)
            for (unsigned cf = 0; cf < RRD_CF_COUNT; cf++)
                known[a] += compare(rrd, &plans[p], file, a, cf);
        cr_assert_gt(known[0] + known[1] + known[2], 100, "%s compared next to nothing", plans[p].name);
        rrd_free(rrd);
        unlink(file);
    }
}

/* ---- by themselves ---- */

Test(rrd, a_counter_that_falls_is_unknown_and_a_little_too_much_is_the_maximum)
{
    struct rrd *rrd = rrd_new(START);
    const double counter[] = {0, 5, 10.2, 1, 2, 12};
    const double rate[] = {NAN, 1, 1, NAN, 0.2, NAN};
    for (size_t i = 0; i < ARRAY_LEN(counter); i++) {
        struct rrd_sample one = {"cpu0", RRD_DERIVE, 0, 1, counter[i], true};
        rrd_update(rrd, START + 5.0 * (double)i, &one, 1);
        if (i > 0)
            same(rrd_latest(rrd, rrd_find(rrd, "cpu0")), rate[i], "counter", "rate", (int64_t)i);
    }
    rrd_free(rrd);
}

Test(rrd, sources_come_and_go)
{
    struct rrd *rrd = rrd_new(START);
    struct rrd_sample both[] = {gauge("a", 1), gauge("b", 2)}, errors = gauge("errors", 3);
    errors.standard = false;
    for (int i = 1; i <= 30; i++)
        rrd_update(rrd, START + 5 * i, both, i <= 20 ? 1 : 2);
    cr_assert_eq(rrd->count, 2);
    cr_assert(isnan(value_at(rrd, "b", 0, RRD_AVERAGE, START + 100)));
    cr_assert_eq(value_at(rrd, "b", 0, RRD_AVERAGE, START + 110), 2);
    cr_assert_eq(value_at(rrd, "a", 1, RRD_MAX, START / 60 * 60 + 60), 1);
    /* One that is not standard is kept only when asked for. */
    struct rrd_sample three[] = {both[0], errors, both[1]};
    rrd_update(rrd, START + 155, three, 3);
    cr_assert_null(rrd_find(rrd, "errors"));
    cr_assert(rrd_record(rrd, &errors));
    cr_assert(rrd_record(rrd, &errors));
    rrd_update(rrd, START + 160, three, 3);
    cr_assert_eq(rrd_latest(rrd, rrd_find(rrd, "errors")), 3);
    /* Without a sample: unknown, and the history stays. */
    rrd_update(rrd, START + 165, three, 1);
    cr_assert(isnan(rrd_latest(rrd, rrd_find(rrd, "b"))));
    cr_assert_eq(value_at(rrd, "b", 0, RRD_AVERAGE, START + 160), 2);
    cr_assert(rrd_forget(rrd, "a"));
    cr_assert_not(rrd_forget(rrd, "a"));
    rrd_update(rrd, START + 170, three, 3);
    cr_assert_eq(rrd_latest(rrd, rrd_find(rrd, "a")), 1);
    cr_assert(isnan(value_at(rrd, "a", 0, RRD_AVERAGE, START + 160)), "what was forgotten is back");
    rrd_free(rrd);
}

Test(rrd, a_clock_that_was_put_back_does_not_stop_it)
{
    struct rrd *rrd = rrd_new(START);
    struct rrd_sample one = gauge("a", 1);
    for (int i = 0; i < 10; i++)
        rrd_update(rrd, START + 5 * i, &one, 1);
    rrd_update(rrd, START + 42, &one, 1); /* a little late: nothing happens */
    cr_assert_eq(rrd_last_time(rrd, 0), START + 45);
    rrd_update(rrd, START - 7200, &one, 1);
    one.value = 2;
    rrd_update(rrd, START - 7190, &one, 1);
    cr_assert_eq(rrd_last_time(rrd, 0), START - 7190);
    cr_assert_eq(rrd_latest(rrd, rrd_find(rrd, "a")), 2);
    rrd_free(rrd);
}

/* Rows take memory as they come; a whole year is bounded. */
Test(rrd, a_year)
{
    struct rrd *rrd = rrd_new(START);
    struct rrd_sample one = gauge("a", 7);
    for (int64_t i = 1; i <= 400LL * 24 * 12; i++)
        rrd_update(rrd, (double)(START + 300 * i), &one, 1);
    for (unsigned a = 0; a < RRD_ARCHIVE_COUNT; a++) {
        int64_t step = rrd_shapes[a].pdp_per_row * RRD_STEP_S, last = rrd_last_time(rrd, a);
        cr_assert_eq(value_at(rrd, "a", a, RRD_MIN, last), 7);
        cr_assert_eq(value_at(rrd, "a", a, RRD_MIN, last - step * (rrd_shapes[a].rows - 1)), 7);
        cr_assert(isnan(value_at(rrd, "a", a, RRD_MIN, last - step * rrd_shapes[a].rows)));
        cr_assert(isnan(value_at(rrd, "a", a, RRD_MIN, last + step)));
        cr_assert_eq(rrd->rings[a].cap, rrd_shapes[a].rows);
    }
    rrd_free(rrd);
}

Test(rrd, the_archive_of_a_query)
{
    struct rrd *rrd = rrd_new(START);
    struct rrd_sample one = gauge("a", 7);
    rrd_update(rrd, START + 5, &one, 1);
    const struct {
        int64_t back, interval;
        unsigned archive;
    } table[] = {{10, 0, 0},      {10, 5, 0},      {599, 5, 0},    {600, 5, 1},           {10, 6, 0},
                 {10, 60, 1},     {7199, 60, 1},   {7200, 60, 2},  {7200, 0, 2},          {10, 3600, 2},
                 {604000, 60, 2}, {604800, 60, 3}, {10, 86400, 3}, {86400LL * 900, 0, 3}, {10, 1 << 30, 3}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        cr_assert_eq(rrd_choose(rrd, START + 5 - table[i].back, table[i].interval), table[i].archive, "%zu",
                     i);
    rrd_free(rrd);
}

static struct rrd *some(void)
{
    struct rrd *rrd = rrd_new(START);
    seed = 1;
    for (int i = 1; i < 700; i++) {
        struct rrd_sample two[] = {gauge("a", random_part()), gauge("<&b", i % 50 ? random_part() : NAN)};
        rrd_update(rrd, START + 5 * i + random_part(), two, 2);
    }
    return rrd;
}

Test(rrd, what_is_kept_comes_back_the_same)
{
    struct rrd *rrd = some();
    AUTO_BUF struct buf bytes = BUF_INIT, before = BUF_INIT, after = BUF_INIT;
    rrd_encode(rrd, &bytes);
    struct rrd *back = rrd_decode(bytes.data, bytes.len);
    cr_assert_not_null(back);
    cr_assert_eq(back->updated, rrd->updated);
    for (size_t i = 0; i < rrd->count; i++)
        rrd->sources[i].last = NAN; /* counters begin anew */
    text(rrd, &before);
    text(back, &after);
    cr_assert_str_eq(before.data, after.data);
    /* And goes on the same. */
    for (int i = 700; i < 2000; i++) {
        struct rrd_sample two[] = {gauge("a", i), gauge("<&b", -i)};
        rrd_update(rrd, START + 5 * i, two, 2);
        rrd_update(back, START + 5 * i, two, 2);
    }
    text(rrd, &before);
    text(back, &after);
    cr_assert_str_eq(before.data, after.data);
    rrd_free(rrd);
    rrd_free(back);
}

Test(rrd, damaged_bytes_are_refused)
{
    struct rrd *rrd = some();
    AUTO_BUF struct buf bytes = BUF_INIT;
    rrd_encode(rrd, &bytes);
    for (size_t len = 0; len < bytes.len; len += len < 200 ? 1 : 997)
        cr_assert_null(rrd_decode(bytes.data, len));
    for (size_t at = 0; at < bytes.len; at += at < 200 ? 1 : 997) {
        bytes.data[at] ^= 0x10;
        cr_assert_null(rrd_decode(bytes.data, bytes.len), "byte %zu", at);
        bytes.data[at] ^= 0x10;
    }
    rrd_free(rrd);
}

/* ---- text ---- */

Test(rrd, numbers)
{
    const struct {
        double value;
        const char *text;
    } table[] = {{0, "0.0"},
                 {-0.0, "0.0"},
                 {NAN, "NaN"},
                 {INFINITY, "Infinity"},
                 {-INFINITY, "-Infinity"},
                 {0.1, "0.1"},
                 {1, "1"},
                 {1e20, "1e+20"},
                 {268435456, "268435456"},
                 {1.0 / 3, "0.333333333333333"}};
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_BUF struct buf out = BUF_INIT;
        rrd_write_number(table[i].value, &out);
        cr_assert_str_eq(out.data, table[i].text);
    }
}

static struct rrd *steady(double value)
{
    struct rrd *rrd = rrd_new(START);
    struct rrd_sample one = gauge("cpu0", value);
    for (int i = 0; i <= 4; i++)
        rrd_update(rrd, START + 5 * i, &one, 1);
    return rrd;
}

Test(rrd, updates_in_both_forms)
{
    struct rrd *one = steady(0.5), *two = steady(0.25);
    const struct rrd_export items[] = {{"vm:x:", one}, {"host:y:", two}};
    struct rrd_query query = {.start = START + 12, .interval_s = 5, .cfs = 1 << RRD_AVERAGE};
    AUTO_BUF struct buf out = BUF_INIT;
    rrd_write_updates(items, 2, &query, &out);
    cr_assert_str_eq(out.data, "<xport><meta><start>1700000015</start><step>5</step><end>1700000020</end>"
                               "<rows>2</rows><columns>2</columns><legend><entry>AVERAGE:vm:x:cpu0</entry>"
                               "<entry>AVERAGE:host:y:cpu0</entry></legend></meta><data>"
                               "<row><t>1700000020</t><v>0.5</v><v>0.25</v></row>"
                               "<row><t>1700000015</t><v>0.5</v><v>0.25</v></row></data></xport>");
    buf_clear(&out);
    query =
        (struct rrd_query){.start = -5, .interval_s = 0, .cfs = 1 << RRD_MIN | 1 << RRD_MAX, .json = true};
    rrd_write_updates(items, 1, &query, &out);
    cr_assert_str_eq(out.data, "{\"meta\":{\"start\":\"1700000020\",\"step\":\"5\",\"end\":\"1700000020\","
                               "\"rows\":\"2\",\"columns\":\"2\",\"legend\":[\"MIN:vm:x:cpu0\","
                               "\"MAX:vm:x:cpu0\"]},\"data\":[{\"t\":\"1700000020\",\"values\":[\"0.5\","
                               "\"0.5\"]},{\"t\":\"1700000015\",\"values\":[\"0.5\",\"0.5\"]}]}");
    buf_clear(&out);
    query.cfs = 7;
    rrd_write_updates(NULL, 0, &query, &out);
    cr_assert(strstr(out.data, "\"rows\":\"0\",\"columns\":\"0\",\"legend\":[]},\"data\":[]}"));
    rrd_free(one);
    rrd_free(two);
}

/* What is unknown in one object does not shift the other's columns. */
Test(rrd, updates_of_objects_that_were_not_updated_at_once)
{
    struct rrd *one = steady(0.5), *two = steady(0.25);
    struct rrd_sample more = gauge("cpu0", 1);
    rrd_update(one, START + 25, &more, 1);
    const struct rrd_export items[] = {{"vm:x:", one}, {"vm:y:", two}};
    const struct rrd_query query = {.start = START + 19, .cfs = 1 << RRD_AVERAGE};
    AUTO_BUF struct buf out = BUF_INIT;
    rrd_write_updates(items, 2, &query, &out);
    cr_assert(strstr(out.data, "<row><t>1700000025</t><v>1</v><v>NaN</v></row>"
                               "<row><t>1700000020</t><v>0.5</v><v>0.25</v></row>"),
              "%s", out.data);
    rrd_free(one);
    rrd_free(two);
}

/* rrdtool restores the dump and finds the same numbers in it. */
Test(rrd, rrdtool_restores_the_dump)
{
    if (!have_rrdtool())
        cr_skip_test("rrdtool is not installed");
    struct rrd *rrd = rrd_new(START);
    struct rrd_sample three[] = {gauge("memory_internal_free", 1), gauge("vbd_xvda_iops_total", 0),
                                 gauge("cpu0", 2)};
    for (int i = 1; i <= 300; i++) {
        three[1].value = i;
        rrd_update(rrd, START + 5 * i, three, 3);
    }
    char dump[] = "/tmp/corral-rrd-XXXXXX";
    AUTO_CLOSE int fd = mkstemp(dump);
    AUTO_BUF struct buf out = BUF_INIT;
    AUTO_FREE char *file = xasprintf("%s.rrd", dump);
    rrd_write_xml(rrd, true, &out);
    cr_assert(strstr(out.data, "<name>memory_internal_free</name>"));
    buf_clear(&out);
    rrd_write_xml(rrd, false, &out);
    cr_assert_eq(write(fd, out.data, out.len), (ssize_t)out.len);
    struct words w = {0};
    word(&w, xstrdup("rrdtool"));
    word(&w, xstrdup("restore"));
    word(&w, xstrdup(dump));
    word(&w, xstrdup(file));
    rrdtool(&w);
    struct proc_result result AUTO_PROC_RESULT = PROC_RESULT_INIT;
    word(&w, xstrdup("rrdtool"));
    word(&w, xstrdup("fetch"));
    word(&w, xstrdup(file));
    word(&w, xstrdup("AVERAGE"));
    word(&w, xasprintf("--start=%d", START + 1400));
    word(&w, xasprintf("--end=%d", START + 1499));
    run(&w, &result);
    int rows = 0;
    for (char *line = strtok(result.out.data, "\n"); line; line = strtok(NULL, "\n")) {
        long long time;
        double a, b;
        if (sscanf(line, "%lld: %lf %lf", &time, &a, &b) == 3 && time <= START + 1500) {
            cr_assert_eq(a, (double)(time - START) / 5);
            cr_assert_eq(b, 2);
            rows++;
        }
    }
    cr_assert_geq(rows, 19);
    rrd_free(rrd);
    unlink(dump);
    unlink(file);
}
