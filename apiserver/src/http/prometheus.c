/* GET /metrics: the present numbers of the pool in the text form of Prometheus (exposition format 0.0.4), and
 * GET /healthz and /readyz for what watches over the server. docs/measurements.md lists the names. */
#include "../gate/session.h"
#include "../metrics/metrics.h"
#include "../server.h"
#include "doors.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/mem.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>

#define NAME_SIZE 96
#define UNREADY_MS 60000

/* One line; lines of one metric have to stand together. */
struct line {
    char metric[NAME_SIZE];
    const char *type; /* gauge or counter */
    char *labels;     /* heap; "" or {...} */
    double value;
};
struct page {
    struct line *lines;
    size_t count, capacity;
    const struct snapshot *snap;
};

/* "a" -> \"a\" as a label's value. */
static void add_label(struct buf *labels, const char *name, const char *value)
{
    buf_printf(labels, "%s%s=\"", labels->len ? "," : "{", name);
    for (; *value; value++) {
        if (*value == '\n') {
            buf_add_str(labels, "\\n");
            continue;
        }
        if (*value == '"' || *value == '\\')
            buf_add_char(labels, '\\');
        buf_add_char(labels, *value);
    }
    buf_add_char(labels, '"');
}

/* Takes the labels over. */
static void add_line(struct page *page, const char *metric, const char *type, struct buf *labels,
                     double value)
{
    if (page->count == page->capacity) {
        page->capacity = page->capacity ? page->capacity * 2 : 256;
        page->lines = xreallocarray(page->lines, page->capacity, sizeof(*page->lines));
    }
    struct line *line = &page->lines[page->count++];
    if (labels && labels->len)
        buf_add_char(labels, '}');
    *line = (struct line){.type = type, .labels = labels ? buf_take(labels) : xstrdup(""), .value = value};
    snprintf(line->metric, sizeof(line->metric), "%s", metric);
}

static void add_plain(struct page *page, const char *metric, const char *type, double value)
{
    add_line(page, metric, type, NULL, value);
}

static struct buf object_labels(const char *uuid, const char *name)
{
    struct buf labels = BUF_INIT;
    add_label(&labels, "uuid", uuid);
    add_label(&labels, "name", name);
    return labels;
}

static void add_of_object(struct page *page, const char *metric, const char *uuid, const char *name,
                          double value)
{
    struct buf labels = object_labels(uuid, name);
    add_line(page, metric, "gauge", &labels, value);
}

/* ---- rows ---- */

static bool add_host(const struct row *row, void *arg)
{
    struct page *page = arg;
    const struct host_row *host = host_row(row);
    const struct host_metrics_row *metrics =
        host_metrics_row(snapshot_get(page->snap, CLASS_host_metrics, host->metrics));
    add_of_object(page, "corral_host_enabled", host->uuid, host->name_label, host->enabled);
    add_of_object(page, "corral_host_vms", host->uuid, host->name_label,
                  host->resident_VMs ? host->resident_VMs->count : 0);
    if (!metrics)
        return true;
    add_of_object(page, "corral_host_live", host->uuid, host->name_label, metrics->live);
    add_of_object(page, "corral_host_memory_bytes", host->uuid, host->name_label,
                  (double)metrics->memory_total);
    add_of_object(page, "corral_host_memory_available_bytes", host->uuid, host->name_label,
                  (double)metrics->memory_free);
    return true;
}

static bool add_vm(const struct row *row, void *arg)
{
    const struct vm_row *vm = vm_row(row);
    if (!vm->is_a_template && !vm->is_control_domain)
        add_of_object(arg, "corral_vm_running", vm->uuid, vm->name_label,
                      vm->power_state == VM_POWER_STATE_RUNNING);
    return true;
}

static bool add_sr(const struct row *row, void *arg)
{
    const struct sr_row *sr = sr_row(row);
    add_of_object(arg, "corral_sr_size_bytes", sr->uuid, sr->name_label, (double)sr->physical_size);
    add_of_object(arg, "corral_sr_used_bytes", sr->uuid, sr->name_label, (double)sr->physical_utilisation);
    add_of_object(arg, "corral_sr_allocated_bytes", sr->uuid, sr->name_label, (double)sr->virtual_allocation);
    return true;
}

static bool count_task(const struct row *row, void *arg)
{
    unsigned *counts = arg;
    counts[task_row(row)->status]++;
    return true;
}

static void add_tasks(struct page *page)
{
    const struct enum_desc *status = FIELD_task_status->type->en;
    unsigned *counts = xcalloc(status->count, sizeof(*counts));
    snapshot_each(page->snap, CLASS_task, count_task, counts);
    for (uint16_t i = 0; i < status->count; i++) {
        struct buf labels = BUF_INIT;
        add_label(&labels, "status", status->values[i]);
        add_line(page, "corral_tasks", "gauge", &labels, counts[i]);
    }
    free(counts);
}

static void add_store(struct page *page, struct server *server)
{
    struct store_stats stats;
    store_stats(server->store, &stats);
    add_plain(page, "corral_store_rows", "gauge", (double)stats.rows);
    add_plain(page, "corral_store_bytes", "gauge", (double)stats.disk_bytes);
    add_plain(page, "corral_store_queued_commits", "gauge", (double)stats.queued);
    add_plain(page, "corral_store_last_commit_seconds", "gauge", (double)stats.last_commit_us / 1e6);
    add_plain(page, "corral_store_commits_total", "counter", (double)stats.commits);
    add_plain(page, "corral_store_batches_total", "counter", (double)stats.batches);
    add_plain(page, "corral_store_failures_total", "counter", (double)stats.failures);
}

/* ---- what agents measure ---- */

/* "vbd_xvda_read" is metric vbd_read of device xvda, "cpu3" is cpu of device 3; all else has no device. */
static void split_source(const char *source, char metric[NAME_SIZE], char device[NAME_SIZE])
{
    static const char *const groups[] = {"vbd_", "vif_", "pif_", "sr_"};
    *device = '\0';
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        size_t len = strlen(groups[i]);
        const char *end = strncmp(source, groups[i], len) == 0 ? strchr(source + len, '_') : NULL;
        if (end) {
            snprintf(device, NAME_SIZE, "%.*s", (int)(end - source - (ptrdiff_t)len), source + len);
            snprintf(metric, NAME_SIZE, "%s%s", groups[i], end + 1);
            return;
        }
    }
    size_t digits = strspn(source + (strncmp(source, "cpu", 3) == 0 ? 3 : 0), "0123456789");
    if (digits && strncmp(source, "cpu", 3) == 0 && source[3 + digits] == '\0') {
        snprintf(device, NAME_SIZE, "%s", source + 3);
        snprintf(metric, NAME_SIZE, "cpu");
        return;
    }
    snprintf(metric, NAME_SIZE, "%s", source);
}

static const char *name_of(const struct page *page, const struct meter *meter)
{
    const struct class_desc *const classes[METER_KINDS] = {CLASS_VM, CLASS_host, CLASS_SR};
    const struct class_desc *cls = classes[meter->kind];
    const struct row *row = snapshot_by_uuid(page->snap, cls, meter->uuid);
    return row ? row_cell(row, cls->name_label)->str : "";
}

static void add_meter(struct meter *meter, void *arg)
{
    struct page *page = arg;
    const char *name = name_of(page, meter);
    for (size_t i = 0; i < meter->latest.count; i++) {
        const struct rrd_sample *sample = &meter->latest.items[i];
        char part[NAME_SIZE], device[NAME_SIZE], metric[NAME_SIZE];
        if (isnan(sample->value))
            continue;
        bool counter = sample->kind == RRD_DERIVE;
        split_source(sample->name, part, device);
        int len = snprintf(metric, sizeof(metric), "corral_%s_%.60s%s", meter_kind_name(meter->kind), part,
                           counter ? "_total" : "");
        for (int c = 0; c < len && c < NAME_SIZE - 1; c++)
            metric[c] = (char)(isalnum((unsigned char)metric[c]) ? tolower((unsigned char)metric[c]) : '_');
        struct buf labels = object_labels(meter->uuid, name);
        if (*device)
            add_label(&labels, "device", device);
        add_line(page, metric, counter ? "counter" : "gauge", &labels, sample->value);
    }
}

/* ---- the page ---- */

static int by_metric(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int order = strcmp(x->metric, y->metric);
    return order ? order : strcmp(x->labels, y->labels);
}

static void write_page(struct page *page, struct buf *out)
{
    if (page->count)
        qsort(page->lines, page->count, sizeof(*page->lines), by_metric);
    for (size_t i = 0; i < page->count; i++) {
        const struct line *line = &page->lines[i];
        if (i == 0 || !streq(line->metric, line[-1].metric))
            buf_printf(out, "# TYPE %s %s\n", line->metric, line->type);
        buf_printf(out, "%s%s %.17g\n", line->metric, line->labels, line->value);
    }
    for (size_t i = 0; i < page->count; i++)
        free(page->lines[i].labels);
    free(page->lines);
}

static void answer_metrics(struct door_job *job)
{
    static const struct http_header headers[] = {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"},
                                                 {"Cache-Control", "no-store"},
                                                 {NULL, NULL}};
    struct server *server = job->server;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct page page = {.snap = snap};
    struct meters *meters = metrics_meters(server->metrics);
    struct buf out = BUF_INIT;
    add_store(&page, server);
    add_tasks(&page);
    add_plain(&page, "corral_sessions", "gauge", (double)snapshot_count(snap, CLASS_session));
    snapshot_each(snap, CLASS_host, add_host, &page);
    snapshot_each(snap, CLASS_VM, add_vm, &page);
    snapshot_each(snap, CLASS_SR, add_sr, &page);
    meters_read_lock(meters);
    meters_each(meters, add_meter, &page);
    meters_unlock(meters);
    write_page(&page, &out);
    size_t len = out.len;
    http_answer(job->req, 200, headers, buf_take(&out), len, HTTP_FREE);
}

/* On a worker: a password may have to be checked. */
static void run(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_SESSION struct session *session = door_admit(job->server, job->req, ACTION_get_metrics, &temporary);
    if (session)
        answer_metrics(job);
    if (session && temporary)
        session_close(job->server, session);
    door_job_free(job);
}

void door_metrics(struct server *server, struct http_request *req)
{
    door_submit(server->login_workers, server, req, NULL, run);
}

/* ---- is it well? ---- */

void door_healthz(struct server *server, struct http_request *req)
{
    (void)server;
    http_answer_json(req, 200, xstrdup("{\"status\":\"ok\"}"), strlen("{\"status\":\"ok\"}"));
}

/* Not for a minute after a write has failed, unless one succeeded since. No longer than that: who is not
 * asked to change anything would never find out that the disk is back. */
void door_readyz(struct server *server, struct http_request *req)
{
    struct store_stats stats;
    store_stats(server->store, &stats);
    bool failing = stats.failed_ms && clock_mono_ms() - stats.failed_ms < UNREADY_MS;
    struct buf out = BUF_INIT;
    buf_printf(&out, "{\"status\":\"%s\"}", failing ? "the database cannot be written" : "ok");
    size_t len = out.len;
    http_answer_json(req, failing ? 503 : 200, buf_take(&out), len);
}
