/* GET /rrd_updates, /vm_rrd, /host_rrd, /sr_rrd and their plural forms: what was measured, as text. The
 * answers can be large, so they are written by few threads, and what is on its way to slow clients is
 * bounded. PUT /rrd, by which members of a classic pool handed over archives, is refused: the server has them
 * all. */
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../metrics/metrics.h"
#include "../rrd/rrd_write.h"
#include "../server.h"
#include "doors.h"
#include <base/mem.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

#define OUTSTANDING_MAX (512ll << 20)
#define FILTERS_MAX 4096

static _Atomic long long outstanding; /* bytes of answers that are not sent yet */

struct sent {
    char *text;
    size_t len;
};

static void sent_done(void *arg)
{
    struct sent *sent = arg;
    atomic_fetch_sub(&outstanding, (long long)sent->len);
    free(sent->text);
    free(sent);
}

static void answer(struct http_request *req, bool json, struct buf *text)
{
    const struct http_header headers[] = {{"Content-Type", json ? "application/json" : "text/xml"},
                                          {"Access-Control-Allow-Origin", "*"},
                                          {"Cache-Control", "no-cache, no-store"},
                                          {"Connection", "close"},
                                          {NULL, NULL}};
    struct sent *sent = xcalloc(1, sizeof(*sent));
    sent->len = text->len;
    sent->text = buf_take(text);
    atomic_fetch_add(&outstanding, (long long)sent->len);
    http_answer_release(req, 200, headers, sent->text, sent->len, sent_done, sent);
}

/* ---- what a request asks for ---- */

static bool flag(struct http_request *req, const char *name)
{
    const char *text = http_request_query(req, name);
    return text && (strcasecmp(text, "true") == 0 || streq(text, "1"));
}

static bool wants_json(struct http_request *req)
{
    const char *accept = http_request_header(req, "Accept");
    return flag(req, "json") || (accept && strcasestr(accept, "application/json"));
}

static bool parse_int(const char *text, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || (*end && *end != '.')) /* a fraction of a second is dropped */
        return false;
    *out = value;
    return true;
}

/* Objects named in the query: their order and doubles do not matter. */
struct filter {
    const char *name, *other_name;
    const char **uuids;
    size_t count;
};

static bool add_uuid(void *arg, const char *name, const char *value)
{
    struct filter *f = arg;
    if (f->count >= FILTERS_MAX)
        return false;
    if (streq(name, f->name) || (f->other_name && streq(name, f->other_name))) {
        f->uuids = xreallocarray(f->uuids, f->count + 1, sizeof(*f->uuids));
        f->uuids[f->count++] = value;
    }
    return true;
}

static bool has(const struct filter *f, const char *uuid)
{
    for (size_t i = 0; i < f->count; i++)
        if (streq(f->uuids[i], uuid))
            return true;
    return false;
}

/* A session that may read; NULL after answering. */
static struct session *admit(struct door_job *job, const struct http_action *action, bool *temporary)
{
    struct session *session = door_admit(job->server, job->req, action, temporary);
    if (!session || atomic_load(&outstanding) <= OUTSTANDING_MAX)
        return session;
    http_answer_error(job->req, 503, "too many measurements are on their way to slow clients");
    if (*temporary)
        session_close(job->server, session);
    session_unref(session);
    return NULL;
}

static void leave(struct door_job *job, struct session *session, bool temporary)
{
    if (temporary)
        session_close(job->server, session);
    session_unref(session);
    door_job_free(job);
}

/* ---- /rrd_updates ---- */

struct selection {
    const struct snapshot *snap;
    const struct filter *vms, *srs;
    bool host;
    struct rrd_export *items;
    size_t count;
};

/* Running VMs, unless some are named; of hosts all that the server measures, when asked for. */
static bool is_chosen(const struct selection *s, const struct meter *meter)
{
    const struct vm_row *vm;
    switch (meter->kind) {
    case METER_VM:
        vm = vm_row(snapshot_by_uuid(s->snap, CLASS_VM, meter->uuid));
        return vm && !ref_is_null(vm->resident_on) && (s->vms->count == 0 || has(s->vms, meter->uuid));
    case METER_HOST:
        return s->host;
    case METER_SR:
        return has(s->srs, meter->uuid);
    }
    return false;
}

static void select_meter(struct meter *meter, void *arg)
{
    struct selection *s = arg;
    if (!is_chosen(s, meter))
        return;
    s->items = xreallocarray(s->items, s->count + 1, sizeof(*s->items));
    s->items[s->count++] = (struct rrd_export){
        .prefix = xasprintf("%s:%s:", meter_kind_name(meter->kind), meter->uuid), .rrd = meter->rrd};
}

/* The host first, as clients see it from a classic server, then by uuid. */
static int by_prefix(const void *a, const void *b)
{
    const struct rrd_export *x = a, *y = b;
    int kinds = strncmp(x->prefix, y->prefix, 2);
    return kinds ? kinds : strcmp(x->prefix, y->prefix);
}

static bool read_query(struct http_request *req, struct rrd_query *query, const char **complaint)
{
    const char *start = http_request_query(req, "start"), *interval = http_request_query(req, "interval");
    const char *cf = http_request_query(req, "cf");
    *query = (struct rrd_query){.json = wants_json(req)};
    *complaint = "start is missing: unix seconds, or below 0 for so many seconds before the last update";
    if (!start || !parse_int(start, &query->start))
        return false;
    *complaint = "interval is not a number of seconds";
    if (interval && (!parse_int(interval, &query->interval_s) || query->interval_s < 0))
        return false;
    for (unsigned i = 0; i < RRD_CF_COUNT; i++)
        if (!cf || strcasecmp(cf, rrd_cf_name(i)) == 0)
            query->cfs |= 1u << i;
    *complaint = "cf is one of AVERAGE, MIN, MAX";
    return query->cfs != 0;
}

static void write_updates(struct server *server, struct http_request *req, const struct rrd_query *query,
                          struct buf *text)
{
    struct meters *meters = metrics_meters(server->metrics);
    struct filter vms = {.name = "vm_uuid", .other_name = "uuid"}, srs = {.name = "sr_uuid"};
    http_request_each_query(req, add_uuid, &vms);
    http_request_each_query(req, add_uuid, &srs);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct selection s = {.snap = snap, .vms = &vms, .srs = &srs, .host = flag(req, "host")};
    meters_read_lock(meters);
    meters_each(meters, select_meter, &s);
    if (s.count)
        qsort(s.items, s.count, sizeof(*s.items), by_prefix);
    rrd_write_updates(s.items, s.count, query, text);
    meters_unlock(meters);
    for (size_t i = 0; i < s.count; i++)
        free((char *)(uintptr_t)s.items[i].prefix);
    free(s.items);
    free(vms.uuids);
    free(srs.uuids);
}

static void run_updates(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    struct rrd_query query;
    const char *complaint;
    struct session *session = admit(job, ACTION_rrd_updates, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    if (!read_query(job->req, &query, &complaint)) {
        http_answer_error(job->req, 400, complaint);
    } else {
        struct buf text = BUF_INIT;
        write_updates(job->server, job->req, &query, &text);
        answer(job->req, query.json, &text);
    }
    leave(job, session, temporary);
}

/* ---- the archives of one object ---- */

/* What differs between the doors. */
struct dump_door {
    enum meter_kind kind;
    const struct http_action *action;
};

static const struct class_desc *class_of(enum meter_kind kind)
{
    return kind == METER_VM ? CLASS_VM : kind == METER_HOST ? CLASS_host : CLASS_SR;
}

/* The uuid of the query; for hosts, without one, that of the pool's coordinator. */
static const char *asked_uuid(const struct dump_door *door, struct server *server, struct http_request *req,
                              const struct snapshot *snap)
{
    const char *uuid = http_request_query(req, "uuid");
    if (uuid || door->kind != METER_HOST)
        return uuid;
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    const struct host_row *host = pool ? host_row(snapshot_get(snap, CLASS_host, pool->master)) : NULL;
    return host ? host->uuid : NULL;
}

static void write_dump(const struct rrd *rrd, bool json, bool all, struct buf *text)
{
    if (json)
        rrd_write_json(rrd, text);
    else
        rrd_write_xml(rrd, all, text);
}

/* From memory, else from its file. False: nothing was ever measured. */
static bool dump(struct meters *meters, enum meter_kind kind, const char *uuid, bool json, bool all,
                 struct buf *text)
{
    meters_read_lock(meters);
    const struct meter *meter = meters_find(meters, kind, uuid);
    if (meter)
        write_dump(meter->rrd, json, all, text);
    meters_unlock(meters);
    if (meter)
        return true;
    struct rrd *rrd = meters_load(meters, kind, uuid);
    if (rrd)
        write_dump(rrd, json, all, text);
    rrd_free(rrd);
    return rrd != NULL;
}

static void run_dump(struct door_job *job, const struct dump_door *door)
{
    bool temporary, json = wants_json(job->req);
    struct buf text = BUF_INIT;
    struct session *session = admit(job, door->action, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->server->store);
    const char *uuid = asked_uuid(door, job->server, job->req, snap);
    if (!uuid)
        http_answer_error(job->req, door->kind == METER_HOST ? 404 : 400, "uuid is missing");
    else if (!snapshot_by_uuid(snap, class_of(door->kind), uuid))
        http_answer_error(job->req, 404, "there is no such object");
    else if (!dump(metrics_meters(job->server->metrics), door->kind, uuid, json, flag(job->req, "all"),
                   &text))
        http_answer_error(job->req, 404, "nothing was measured of it yet");
    else
        answer(job->req, json, &text);
    leave(job, session, temporary);
}

static void run_vm(void *arg)
{
    static const struct dump_door door = {METER_VM, ACTION_vm_rrd};
    run_dump(arg, &door);
}

static void run_host(void *arg)
{
    static const struct dump_door door = {METER_HOST, ACTION_host_rrd};
    run_dump(arg, &door);
}

static void run_sr(void *arg)
{
    static const struct dump_door door = {METER_SR, ACTION_sr_rrd};
    run_dump(arg, &door);
}

static void run_put(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    struct session *session = admit(job, ACTION_rrd, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    http_answer_error(job->req, 501,
                      "this server measures all hosts itself: archives are not taken from others");
    leave(job, session, temporary);
}

/* ---- doors ---- */

static void submit(struct server *server, struct http_request *req, void (*run)(void *job))
{
    struct door_job *job = xcalloc(1, sizeof(*job));
    *job = (struct door_job){server, http_request_ref(req), NULL};
    if (metrics_submit(server->metrics, run, job) == 0)
        return;
    http_answer_error(req, 503, "the server is too busy now: try again in a moment");
    door_job_free(job);
}

void door_rrd_updates(struct server *server, struct http_request *req)
{
    submit(server, req, run_updates);
}

void door_vm_rrd(struct server *server, struct http_request *req)
{
    submit(server, req, run_vm);
}

void door_host_rrd(struct server *server, struct http_request *req)
{
    submit(server, req, run_host);
}

void door_sr_rrd(struct server *server, struct http_request *req)
{
    submit(server, req, run_sr);
}

void door_put_rrd(struct server *server, struct http_request *req)
{
    submit(server, req, run_put);
}
