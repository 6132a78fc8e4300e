/* GET /api/v1/events: what changes, as server-sent events.
 *
 *     id: <token>
 *     event: change
 *     data: {"class":"vms","operation":"mod","uuid":"...","object":{...}}
 *
 * Each batch is an answer of event.from, so nothing is kept for a subscriber and nothing can be lost: the
 * token is the id, and a client that comes back with Last-Event-ID goes on where it was, over restarts of the
 * server too. The next batch is asked for only when the last one was sent, so a slow reader costs a batch of
 * memory. */
#include "internal.h"

#include "../gate/filter.h"
#include "../gate/gate.h"
#include "../gate/session.h"
#include "../http/doors.h"
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

/* An idle stream says so, for proxies between. */
#define IDLE_S 15

/* Owned by the stream and by the call under way. */
struct feed {
    _Atomic int refs;
    struct server *server;
    struct http_request *req; /* counted */
    struct session *session;  /* counted */
    json_t *classes;
    char peer[48];
    pthread_mutex_t lock; /* guards what follows */
    struct buf pending;
    char token[EVENT_TOKEN_SIZE];
    bool asking, over;
};

static void feed_unref(struct feed *f)
{
    if (atomic_fetch_sub(&f->refs, 1) > 1)
        return;
    session_unref(f->session);
    json_decref(f->classes);
    buf_done(&f->pending);
    http_request_unref(f->req);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

static const struct class_desc *class_of_event(const char *lower)
{
    for (size_t i = 0; i < model_class_count; i++)
        if (model_classes[i].collection && streq(model_classes[i].lower_name, lower))
            return &model_classes[i];
    return NULL;
}

static void write_event(const struct snapshot *snap, const json_t *event, struct buf *out)
{
    const char *lower = json_string_value(json_object_get(event, "class"));
    const char *operation = json_string_value(json_object_get(event, "operation"));
    const char *ref = json_string_value(json_object_get(event, "ref"));
    const json_t *record = json_object_get(event, "snapshot");
    const struct class_desc *cls = lower ? class_of_event(lower) : NULL;
    if (!cls || !operation || !ref)
        return;
    const struct type type = {.kind = TYPE_RECORD, .rep = REP_JSON, .name = cls->name, .cls = cls};
    buf_printf(out, "event: change\ndata: {\"class\":\"%s\",\"operation\":\"%s\",\"ref\":", cls->collection,
               operation);
    json_write_string(out, ref);
    if (record) {
        buf_add_str(out, ",\"uuid\":");
        json_write(out, json_object_get(record, "uuid"));
        buf_add_str(out, ",\"object\":");
        rest_value_write_wire(snap, &type, record, out);
    }
    buf_add_str(out, "}\n\n");
}

/* The token stands behind the batch: who has read it has read all before. */
static void write_batch(struct feed *f, const json_t *answer)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(f->server->store);
    const json_t *events = json_object_get(answer, "events");
    const char *token = json_string_value(json_object_get(answer, "token"));
    size_t i;
    json_t *event;
    json_array_foreach(events, i, event) write_event(snap, event, &f->pending);
    snprintf(f->token, sizeof(f->token), "%s", token ? token : "");
    if (json_array_size(events))
        buf_printf(&f->pending, "id: %s\nevent: token\ndata: {}\n\n", f->token);
    else
        buf_add_str(&f->pending, ": nothing new\n\n");
}

static void write_end(struct feed *f, const struct api_err *err)
{
    bool lost = err->desc == ERROR_EVENTS_LOST;
    buf_printf(&f->pending, "event: %s\ndata: {\"code\":\"%s\"}\n\n", lost ? "lost" : "error", err->code);
    f->over = true;
}

static void asked(struct call *call)
{
    struct feed *f = call->reply;
    struct json_error error;
    pthread_mutex_lock(&f->lock);
    f->asking = false;
    if (call->failed) {
        write_end(f, &call->err);
    } else {
        AUTO_JSON json_t *answer = json_parse(call->raw, call->raw_len, &error);
        write_batch(f, answer);
    }
    pthread_mutex_unlock(&f->lock);
    call_free(call);
    http_producer_wake(f->req);
    feed_unref(f);
}

/* With the lock held, which asked() takes too, perhaps on this very thread: so it is let go of. */
static void ask(struct feed *f)
{
    if (!doors_try_enter(f->server)) {
        f->over = true;
        return;
    }
    AUTO_JSON json_t *params =
        json_pack("[sOsf]", REF_TEXT(f->session->token), f->classes, f->token, (double)IDLE_S);
    struct call *call = call_new(f->server, "event.from", params, false, f->peer, asked);
    f->asking = true;
    atomic_fetch_add(&f->refs, 1);
    call->reply = f;
    json_decref(TAKE_PTR(params));
    pthread_mutex_unlock(&f->lock);
    gate_run(call);
    doors_leave(f->server);
    pthread_mutex_lock(&f->lock);
}

static ssize_t produce(void *arg, char *to, size_t max)
{
    struct feed *f = arg;
    pthread_mutex_lock(&f->lock);
    if (!f->pending.len && !f->over && !f->asking)
        ask(f);
    size_t n = f->pending.len < max ? f->pending.len : max;
    if (n) {
        memcpy(to, f->pending.data, n);
        buf_consume(&f->pending, n);
    }
    ssize_t given = n ? (ssize_t)n : f->over ? HTTP_PRODUCER_END : 0;
    pthread_mutex_unlock(&f->lock);
    return given;
}

static void produced(void *arg)
{
    struct feed *f = arg;
    pthread_mutex_lock(&f->lock);
    f->over = true;
    pthread_mutex_unlock(&f->lock);
    feed_unref(f);
}

/* "?classes=vms,tasks": class names of event.from; NULL after answering. */
static json_t *read_classes(struct rest *r)
{
    const char *text = http_request_query(r->req, "classes");
    AUTO_JSON json_t *classes = json_array();
    for (const char *at = text ? text : ""; *at; at += *at == ',') {
        size_t len = strcspn(at, ",");
        const struct class_desc *cls = class_of_collection(at, len);
        if (!cls) {
            rest_problem(r->req, 400, "Bad Request",
                         "Query parameter classes: names of lists, such as vms,tasks.");
            return NULL;
        }
        json_array_append_new(classes, json_string(cls->name));
        at += len;
    }
    if (!json_array_size(classes))
        json_array_append_new(classes, json_string("*"));
    return TAKE_PTR(classes);
}

/* Where the stream begins: behind Last-Event-ID, now, or ("?from=start") with everything that there is. */
static bool read_start(struct rest *r, char token[static EVENT_TOKEN_SIZE])
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const char *last = http_request_header(r->req, "Last-Event-ID");
    const char *from = http_request_query(r->req, "from");
    uint64_t generation;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    event_token_format(snapshot_generation(snap), token);
    if (last && event_token_parse(last, &generation, &err) < 0) {
        rest_fail(r, &err);
        return false;
    }
    if (last)
        event_token_format(generation, token);
    else if (from && streq(from, "start"))
        token[0] = '\0';
    else if (from && !streq(from, "now")) {
        rest_problem(r->req, 400, "Bad Request", "Query parameter from: now or start.");
        return false;
    }
    return true;
}

void rest_events(struct rest *r)
{
    static const struct http_producer producer = {produce, produced};
    static const struct http_header headers[] = {{"Content-Type", "text/event-stream"},
                                                 {"Cache-Control", "no-store"},
                                                 {"X-Accel-Buffering", "no"},
                                                 {NULL, NULL}};
    char token[EVENT_TOKEN_SIZE];
    json_t *classes = r->temporary ? NULL : read_classes(r);
    if (r->temporary)
        rest_problem(
            r->req, 401, "Unauthorized",
            "A stream of events needs a session: POST /api/v1/sessions, then Authorization: Bearer <token>.");
    if (!classes || !read_start(r, token)) {
        json_decref(classes);
        rest_done(r);
        return;
    }
    struct feed *f = xcalloc(1, sizeof(*f));
    *f = (struct feed){.refs = 1,
                       .server = r->server,
                       .req = http_request_ref(r->req),
                       .session = session_ref(r->session),
                       .classes = classes};
    snprintf(f->peer, sizeof(f->peer), "%s", http_request_peer(r->req));
    snprintf(f->token, sizeof(f->token), "%s", token);
    pthread_mutex_init(&f->lock, NULL);
    buf_add_str(&f->pending, "retry: 2000\n\n");
    http_answer_stream(r->req, 200, headers, -1, &producer, f);
    rest_done(r);
}
