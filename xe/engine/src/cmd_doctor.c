/* host-doctor: looks at hosts as the pool sees them and says what is wrong and what to do about it. Reads
 * only. */
#include "run.h"
#include "xe_handlers.h"
#include <base/clock.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

enum { CLOCK_SECONDS = 5, EXPIRY_DAYS = 30, FULL_PERCENT = 90, LOW_MEMORY_PERCENT = 5 };

struct doctor {
    struct xe_run_state *x;
    const char *host; /* whose turn it is */
    unsigned failures, warnings;
};

enum finding { FINE, WARNING, FAILURE };

__attribute__((format(printf, 4, 5))) static void tell(struct doctor *d, enum finding what, const char *check,
                                                       const char *format, ...)
{
    static const char *const words[] = {"ok", "warning", "failure"};
    static const enum xe_style styles[] = {XE_STYLE_GOOD, XE_STYLE_STRONG, XE_STYLE_BAD};
    struct xe_run_state *x = d->x;
    AUTO_FREE char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    d->failures += what == FAILURE;
    d->warnings += what == WARNING;
    if (x->minimal || x->view.format != XE_FORMAT_TEXT) {
        struct xe_cell cells[] = {
            {"host", "", d->host}, {"check", "", check}, {"status", "", words[what]}, {"finding", "", text}};
        if (!x->minimal)
            xe_out_block(x, cells, ARRAY_LEN(cells));
        else if (what != FINE)
            xe_out_item(x, check);
        return;
    }
    buf_add_str(&x->out, "  ");
    xe_out_style(x, styles[what]);
    buf_printf(&x->out, "%-8s", words[what]);
    xe_out_style(x, XE_STYLE_PLAIN);
    buf_printf(&x->out, "%-12s%s\n", check, text);
}

static int check_life(struct doctor *d, const json_t *host, bool *live)
{
    const json_t *metrics;
    if (xe_record(d->x, "host_metrics", xe_str(host, "metrics"), &metrics) < 0)
        return -1;
    *live = metrics && xe_true(metrics, "live");
    if (!*live) {
        tell(d, FAILURE, "agent", "the host does not answer: start hostd there and look at its log");
        return 0;
    }
    tell(d, FINE, "agent", "answers");
    if (xe_true(host, "enabled"))
        tell(d, FINE, "enabled", "VMs may start here");
    else
        tell(d, WARNING, "enabled", "no VM may start here: xe host-enable uuid=%s", xe_str(host, "uuid"));
    return 0;
}

static int check_memory(struct doctor *d, const char *ref, const json_t *host)
{
    const json_t *metrics;
    AUTO_JSON json_t *answer = NULL;
    if (xe_record(d->x, "host_metrics", xe_str(host, "metrics"), &metrics) < 0 ||
        xe_call(d->x, "host.compute_free_memory", &answer, "[s]", ref) < 0)
        return -1;
    double total = json_number_value(json_object_get(metrics, "memory_total"));
    double left =
        json_is_string(answer) ? strtod(json_string_value(answer), NULL) : json_number_value(answer);
    if (total > 0)
        tell(d, left * 100 < total * LOW_MEMORY_PERCENT ? WARNING : FINE, "memory",
             "%.0f of %.0f MiB are free", left / (1 << 20), total / (1 << 20));
    return 0;
}

static int check_storage(struct doctor *d, const json_t *host)
{
    const json_t *ref, *pbd, *sr;
    size_t i;
    json_array_foreach(json_object_get(host, "PBDs"), i, ref)
    {
        if (xe_record(d->x, "PBD", json_string_value(ref), &pbd) < 0 ||
            xe_record(d->x, "SR", xe_str(pbd, "SR"), &sr) < 0)
            return -1;
        if (!pbd || !sr)
            continue;
        const char *name = xe_str(sr, "name_label");
        double size = json_number_value(json_object_get(sr, "physical_size"));
        double used = json_number_value(json_object_get(sr, "physical_utilisation"));
        if (!xe_true(pbd, "currently_attached"))
            tell(d, FAILURE, "storage", "SR %s is not attached: xe pbd-plug uuid=%s", name,
                 xe_str(pbd, "uuid"));
        else if (size > 0 && used * 100 > size * FULL_PERCENT)
            tell(d, WARNING, "storage", "SR %s is %.0f%% full", name, used * 100 / size);
        else
            tell(d, FINE, "storage", "SR %s is attached", name);
    }
    return 0;
}

static int check_network(struct doctor *d, const json_t *host)
{
    const json_t *ref, *pif, *metrics;
    size_t i;
    json_array_foreach(json_object_get(host, "PIFs"), i, ref)
    {
        if (xe_record(d->x, "PIF", json_string_value(ref), &pif) < 0 ||
            xe_record(d->x, "PIF_metrics", xe_str(pif, "metrics"), &metrics) < 0)
            return -1;
        if (!pif)
            continue;
        const char *device = xe_str(pif, "device");
        if (!xe_true(pif, "currently_attached"))
            tell(d, WARNING, "network", "%s is not attached: xe pif-plug uuid=%s", device,
                 xe_str(pif, "uuid"));
        else if (metrics && !xe_true(metrics, "carrier"))
            tell(d, WARNING, "network", "%s has no carrier: look at its cable and switch", device);
        else
            tell(d, FINE, "network", "%s is attached", device);
    }
    return 0;
}

/* "20260131T12:00:00Z", with or without dashes, as seconds; 0: neither. */
static int64_t seconds_of(const char *text)
{
    struct tm tm = {0};
    const char *end = strptime(text, "%Y%m%dT%H:%M:%S", &tm);
    if (!end)
        end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    return end ? timegm(&tm) : 0;
}

static int check_clock(struct doctor *d, const char *ref)
{
    AUTO_FREE char *text = NULL;
    if (xe_call_string(d->x, "host.get_servertime", &text, "[s]", ref) < 0) {
        if (d->x->err.kind != XE_ERR_API)
            return -1;
        xe_err_done(&d->x->err);
        return 0;
    }
    int64_t off = seconds_of(text) - clock_unix_seconds();
    if (off > CLOCK_SECONDS || off < -CLOCK_SECONDS)
        tell(d, WARNING, "clock", "it is %lld seconds off the clock here: set up NTP", (long long)off);
    else
        tell(d, FINE, "clock", "agrees with the clock here");
    return 0;
}

static int check_certificates(struct doctor *d, const char *host)
{
    const json_t *all;
    const char *key;
    json_t *certificate;
    if (xe_records(d->x, "Certificate", &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, key, certificate)
    {
        int64_t end = seconds_of(xe_str(certificate, "not_after"));
        if (!streq(xe_str(certificate, "host"), host) || !end)
            continue;
        int64_t days = (end - clock_unix_seconds()) / 86400;
        if (days < 0)
            tell(d, FAILURE, "certificate", "%s has expired", xe_str(certificate, "type"));
        else
            tell(d, days < EXPIRY_DAYS ? WARNING : FINE, "certificate", "%s is good for %lld days",
                 xe_str(certificate, "type"), (long long)days);
    }
    return 0;
}

static int check_processor(struct doctor *d, const json_t *host)
{
    const json_t *info = json_object_get(host, "cpu_info");
    bool hardware = strstr(xe_str(info, "flags"), "vmx") || strstr(xe_str(info, "flags"), "svm");
    tell(d, hardware ? FINE : WARNING, "processor", "%s",
         hardware ? "has hardware virtualisation"
                  : "shows no hardware virtualisation: guests are emulated, and slow; look at the firmware's "
                    "setup");
    return 0;
}

static int check_host(struct doctor *d, const char *ref, const json_t *host)
{
    bool live = false;
    d->host = xe_str(host, "name_label");
    if (!d->x->minimal && d->x->view.format == XE_FORMAT_TEXT)
        buf_printf(&d->x->out, "%s (%s)\n", d->host, xe_str(host, "uuid"));
    if (check_life(d, host, &live) < 0 || check_storage(d, host) < 0 || check_network(d, host) < 0 ||
        check_certificates(d, ref) < 0)
        return -1;
    return live && (check_memory(d, ref, host) < 0 || check_clock(d, ref) < 0 || check_processor(d, host) < 0)
               ? -1
               : 0;
}

static int check_pool(struct doctor *d)
{
    const char *ref;
    const json_t *pool, *sr;
    if (xe_pool(d->x, &ref, &pool) < 0 || xe_record(d->x, "SR", xe_str(pool, "default_SR"), &sr) < 0)
        return -1;
    d->host = "";
    if (!d->x->minimal && d->x->view.format == XE_FORMAT_TEXT)
        buf_add_str(&d->x->out, "pool\n");
    if (sr)
        tell(d, FINE, "default SR", "%s", xe_str(sr, "name_label"));
    else
        tell(d, WARNING, "default SR", "there is none: xe pool-param-set uuid=%s default-SR=SR",
             xe_str(pool, "uuid"));
    return 0;
}

int xe_cmd_host_doctor(struct xe_run_state *x, const struct xe_command *cmd)
{
    struct doctor d = {.x = x};
    const char *name = xe_arg(x, "host"), *ref;
    AUTO_FREE char *only = NULL;
    const json_t *hosts;
    json_t *host;
    (void)cmd;
    if ((name && xe_ref_by_uuid(x, "host", name, &only) < 0) || xe_records(x, "host", &hosts) < 0)
        return -1;
    json_object_foreach((json_t *)hosts, ref, host)
    {
        if ((!only || streq(only, ref)) && check_host(&d, ref, host) < 0)
            return -1;
    }
    if (check_pool(&d) < 0)
        return -1;
    if (d.failures)
        return xe_fail(x, XE_ERR_CLI, "%u checks failed, %u gave warnings", d.failures, d.warnings);
    return 0;
}
