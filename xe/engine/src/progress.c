/* How far something long is: percent, a bar, the rate and the time that is left, on one line of stderr
 * that is drawn at most ten times a second and goes away at the end. On a terminal only. */
#include "run.h"
#include <base/clock.h>
#include <inttypes.h>
#include <stdio.h>

enum { EVERY_MS = 100, QUIET_MS = 1000, BAR = 24, WIDTH = 79 };

struct xe_meter xe_meter_init(struct xe_run_state *x, const char *label, bool quiet)
{
    return (struct xe_meter){.x = x, .label = label, .start_ms = clock_mono_ms(), .quiet = quiet};
}

/* Whether it is time for another line. The last one is always drawn. */
static bool due(struct xe_meter *m, bool last)
{
    int64_t now = clock_mono_ms();
    if (!m->x->api->progress_terminal || m->x->minimal || (m->quiet && now - m->start_ms < QUIET_MS) ||
        (m->drawn && !last && now - m->drawn_ms < EVERY_MS))
        return false;
    m->drawn = true;
    m->drawn_ms = now;
    return true;
}

static void add_left(struct buf *b, const struct xe_meter *m, double fraction)
{
    double passed = (double)(m->drawn_ms - m->start_ms) / 1000;
    if (fraction <= 0 || fraction >= 1 || passed < 0.5)
        return;
    int64_t left = (int64_t)(passed / fraction - passed + 0.5);
    if (left >= 3600)
        buf_printf(b, "  %" PRId64 ":%02" PRId64 ":%02" PRId64 " left", left / 3600, left / 60 % 60,
                   left % 60);
    else
        buf_printf(b, "  %" PRId64 ":%02" PRId64 " left", left / 60, left % 60);
}

static void show(struct xe_meter *m, struct buf *line)
{
    struct xe_run_state *x = m->x;
    AUTO_BUF struct buf b = BUF_INIT;
    buf_printf(&b, "\r%-*.*s", WIDTH, WIDTH, line->len ? line->data : "");
    x->api->print_error(x->api->ctx, b.data, b.len);
}

static void add_bar(struct buf *b, const char *label, double fraction)
{
    static const char full[] = "########################";
    fraction = fraction < 0 ? 0 : fraction > 1 ? 1 : fraction;
    buf_printf(b, "%.20s %3d%% [%-*.*s]", label, (int)(fraction * 100), BAR, (int)(fraction * BAR), full);
}

void xe_meter_fraction(struct xe_meter *m, double fraction)
{
    AUTO_BUF struct buf b = BUF_INIT;
    if (!due(m, fraction >= 1))
        return;
    add_bar(&b, m->label, fraction);
    add_left(&b, m, fraction);
    show(m, &b);
}

void xe_meter_bytes(struct xe_meter *m, uint64_t done, uint64_t total)
{
    AUTO_BUF struct buf b = BUF_INIT;
    if (!due(m, total && done >= total))
        return;
    double seconds = (double)(m->drawn_ms - m->start_ms) / 1000, mib = (double)done / (1 << 20);
    if (total)
        add_bar(&b, m->label, (double)done / (double)total);
    else
        buf_printf(&b, "%.20s %.1f MiB", m->label, mib);
    if (seconds >= 0.5)
        buf_printf(&b, "  %.1f MiB/s", mib / seconds);
    if (total)
        add_left(&b, m, (double)done / (double)total);
    show(m, &b);
}

void xe_meter_end(struct xe_meter *m)
{
    struct xe_run_state *x = m->x;
    AUTO_BUF struct buf empty = BUF_INIT;
    if (!m->drawn)
        return;
    show(m, &empty);
    x->api->print_error(x->api->ctx, "\r", 1);
    m->drawn = false;
}
