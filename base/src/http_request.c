/* One request from its head to the moment when its answer is queued: libmicrohttpd's callbacks, the
 * body's ways. What handlers may ask about the request is in http_head.c. */
#include "http_internal.h"
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <stdio.h>
#include <sys/socket.h>

/* How much of an unwanted body is read and dropped, so that the client is not reset before it can read
 * the answer; beyond this the connection is closed. */
#define DISCARD_MAX (UINT64_C(16) << 20)

/* ---- life ---- */

static int64_t declared_length(struct MHD_Connection *connection)
{
    if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Transfer-Encoding"))
        return -1;
    const char *text = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");
    return text ? strtoll(text, NULL, 10) : 0; /* libmicrohttpd has refused anything but digits */
}

static struct http_request *request_new(struct http_server *server, struct MHD_Connection *connection)
{
    static _Atomic uint64_t last_id;
    struct http_request *req = xmalloc(sizeof(*req));
    *req = (struct http_request){
        .refs = 2, /* the connection's, and the owed answer's */
        .server = server,
        .connection = connection,
        .id = atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed) + 1,
        .content_length = declared_length(connection),
        .watched_fd = -1,
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    link_init(&req->sleeping);
    req->socket = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    req->client_known = tls_is_known(req->socket);
    atomic_fetch_add_explicit(&server->active, 1, memory_order_relaxed);
    return req;
}

struct http_request *http_request_ref(struct http_request *req)
{
    atomic_fetch_add_explicit(&req->refs, 1, memory_order_relaxed);
    return req;
}

/* On the server's threads: the request may outlive the server. */
static void body_free(struct http_request *req)
{
    free(req->body);
    atomic_fetch_sub_explicit(&req->server->bodies_bytes, req->body_cap, memory_order_relaxed);
    req->body = NULL;
    req->body_len = req->body_cap = 0;
}

void http_request_unref(struct http_request *req)
{
    if (atomic_fetch_sub_explicit(&req->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (req->closed_release)
        req->closed_release(req->closed_arg);
    pthread_mutex_destroy(&req->lock);
    buf_done(&req->upgrade_head);
    buf_done(&req->early_head);
    head_copy_free(req->copy);
    free(req->cookies);
    free(req);
}

/* ---- the callbacks' order ---- */

static bool has_body(const struct http_request *req)
{
    return req->content_length != 0;
}

static void set_clock(struct http_request *req, int64_t since)
{
    atomic_store_explicit(&req->socket->since_ms, since, memory_order_relaxed);
}

static void hand_to_handler(struct http_request *req)
{
    req->handed = true;
    req->server->on_request(req, req->server->context);
}

static bool is_ready(struct http_request *req)
{
    pthread_mutex_lock(&req->lock);
    bool ready = req->ready;
    pthread_mutex_unlock(&req->lock);
    return ready;
}

/* Queues the stored answer, or begins the upgrade. */
static enum MHD_Result queue_answer(struct http_request *req)
{
    if (req->upgraded) {
        upgrade_begin(req);
        return MHD_YES;
    }
    pthread_mutex_lock(&req->lock);
    struct MHD_Response *response = req->response;
    req->response = NULL;
    req->ready = false;
    req->woken = false;
    pthread_mutex_unlock(&req->lock);
    atomic_store_explicit(&req->socket->answering, true, memory_order_relaxed);
    enum MHD_Result result = MHD_queue_response(req->connection, req->status, response);
    MHD_destroy_response(response);
    return result;
}

/* The answer is there before the body was read. A client that waits for "100 Continue" gets it at once;
 * another one would be reset by unread bytes, so a body of reasonable size is read and dropped. */
static bool answer_at_head(struct http_request *req)
{
    return MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, "Expect") != NULL ||
           (req->content_length > 0 && (uint64_t)req->content_length > DISCARD_MAX);
}

/* True while the body belongs to a sink that was opened with an early answer; sends its head if `now`. */
static bool early_take(struct http_request *req, bool now)
{
    pthread_mutex_lock(&req->lock);
    bool asked = req->early == EARLY_ASKED, any = req->early != EARLY_NONE;
    if (asked && now)
        req->early = EARLY_SENT;
    pthread_mutex_unlock(&req->lock);
    if (asked && now && direct_send(req, req->early_head.data, req->early_head.len) < 0)
        atomic_store(&req->cut, true);
    if (any)
        set_clock(req, 0);
    return any;
}

/* A connection that waits for more of the body reads what is there, and then its end. */
static void stop_reading(struct http_request *req)
{
    shutdown(req->socket->fd, SHUT_RD);
}

/* Reading stops only once the head is sent and while the request is awake: a sleeper's end would be taken for
 * its client's, and libmicrohttpd ends a connection without a further call. */
static bool early_is_over(struct http_request *req)
{
    pthread_mutex_lock(&req->lock);
    bool over = req->early_over, sent = req->early == EARLY_SENT;
    pthread_mutex_unlock(&req->lock);
    if (over && sent)
        stop_reading(req);
    return over;
}

static enum MHD_Result at_head(struct http_request *req)
{
    if (!req->handed)
        hand_to_handler(req);
    for (;;) {
        if (atomic_load_explicit(&req->cut, memory_order_relaxed))
            return MHD_NO;
        /* libmicrohttpd's "100 Continue" has to come first: then the head goes with the first data. */
        if (early_take(req, MHD_lookup_connection_value(req->connection, MHD_HEADER_KIND, "Expect") == NULL))
            req->body_mode = BODY_SINK;
        early_is_over(req);
        if (is_ready(req)) {
            if (req->upgraded || answer_at_head(req))
                return queue_answer(req);
            req->body_mode = BODY_DISCARD;
        }
        if (req->body_mode != BODY_UNDECIDED) {
            req->past_head = true;
            return MHD_YES;
        }
        set_clock(req, 0); /* the peer owes nothing while we think */
        if (request_sleep(req, true))
            return MHD_YES;
    }
}

/* A collected body that turned out too long, or for which there is no memory: swallow the rest, then answer.
 */
static void turn_away(struct http_request *req, unsigned status, const char *text)
{
    body_free(req);
    req->body_mode = BODY_DISCARD;
    if (request_claim(req))
        answer_error_claimed(req, status, text);
    http_request_unref(req); /* the handler's callback will not run: it owes nothing */
}

static void body_too_long(struct http_request *req)
{
    char text[80];
    snprintf(text, sizeof(text), "the request's body is longer than %zu bytes", req->body_max);
    turn_away(req, 413, text);
}

static void deliver(struct http_request *req, char *data, size_t len)
{
    req->delivered = true;
    set_clock(req, 0);
    req->body_done(req, data, len, req->body_arg);
    body_free(req); /* also while others think about an answer */
}

/* By doubling with what arrived, never by what was declared. False: there is no memory, or others have it. */
static bool body_grow(struct http_request *req, size_t len)
{
    struct http_server *server = req->server;
    size_t cap = req->body_cap ? req->body_cap * 2 : 16384;
    while (cap - req->body_len < len)
        cap *= 2;
    size_t more = cap - req->body_cap;
    size_t before = atomic_fetch_add_explicit(&server->bodies_bytes, more, memory_order_relaxed);
    char *grown = before + more <= server->bodies_bytes_max ? realloc(req->body, cap) : NULL;
    if (!grown) {
        atomic_fetch_sub_explicit(&server->bodies_bytes, more, memory_order_relaxed);
        return false;
    }
    req->body = grown;
    req->body_cap = cap;
    return true;
}

static void collect(struct http_request *req, const char *data, size_t len)
{
    if (len > req->body_max - req->body_len) {
        body_too_long(req);
        return;
    }
    if (req->body_len == 0 && (int64_t)len == req->content_length) {
        /* The whole body at once: handed on from libmicrohttpd's own, writable buffer. */
        deliver(req, (char *)(uintptr_t)data, len);
        return;
    }
    if (len > req->body_cap - req->body_len && !body_grow(req, len)) {
        turn_away(req, 503, "the server has no memory for a body of this size now");
        return;
    }
    memcpy(req->body + req->body_len, data, len);
    req->body_len += len;
    if (req->content_length >= 0 && req->body_len == (uint64_t)req->content_length)
        deliver(req, req->body, req->body_len);
}

static void sink_end(struct http_request *req, bool ok)
{
    if (req->delivered)
        return;
    req->delivered = true;
    req->sink->end(req->body_arg, ok);
}

static enum MHD_Result on_data(struct http_request *req, const char *data, size_t *len)
{
    for (;;) {
        if (atomic_load_explicit(&req->cut, memory_order_relaxed))
            return MHD_NO;
        early_take(req, true);
        if (req->body_mode == BODY_SINK && (is_ready(req) || early_is_over(req))) {
            sink_end(req, false);
            req->body_mode = BODY_DISCARD;
        }
        switch (req->body_mode) {
        case BODY_UNDECIDED:
            break; /* cannot be: at_head has decided */
        case BODY_COLLECT:
            if (!req->delivered)
                collect(req, data, *len);
            *len = 0;
            return MHD_YES;
        case BODY_DISCARD:
            req->discarded += *len;
            *len = 0;
            return req->discarded <= DISCARD_MAX ? MHD_YES : MHD_NO;
        case BODY_SINK: {
            size_t taken = req->sink->take(req->body_arg, data, *len);
            *len -= taken;
            data += taken;
            if (*len > 0)
                break;
            /* What libmicrohttpd keeps while a connection sleeps is lost if that has ended meanwhile. */
            if (req->sink->full && req->sink->full(req->body_arg))
                request_sleep(req, false);
            return MHD_YES;
        }
        }
        if (request_sleep(req, false))
            return MHD_YES;
    }
}

/* The whole request is here. */
static enum MHD_Result at_end(struct http_request *req)
{
    char nothing = '\0';
    if (!req->handed)
        hand_to_handler(req);
    if (req->body_mode == BODY_COLLECT && !req->delivered)
        deliver(req, req->body ? req->body : &nothing, req->body_len);
    for (;;) {
        if (atomic_load_explicit(&req->cut, memory_order_relaxed))
            return MHD_NO;
        if (early_take(req, true))
            req->body_mode = BODY_SINK;
        if (req->body_mode == BODY_SINK)
            sink_end(req, true);
        if (early_is_over(req))
            return MHD_NO; /* the answer is complete: its end is the connection's */
        if (is_ready(req))
            return queue_answer(req);
        if (request_sleep(req, true))
            return MHD_YES;
    }
}

static struct http_request *begin(struct http_server *server, struct MHD_Connection *connection,
                                  const char *url, const char *method)
{
    struct http_request *req = request_new(server, connection);
    req->path = url;
    set_clock(req, has_body(req) ? -(clock_mono_ms() + server->body_timeout_ms) : 0);
    const char *refusal = NULL;
    unsigned status = 400;
    if (!http_method_parse(method, &req->method)) {
        status = 501;
        refusal = "the method is not known here";
    } else if (!url || url[0] != '/') {
        refusal = "the path must begin with a slash";
    }
    if (refusal) {
        req->handed = true;
        request_claim(req);
        answer_error_claimed(req, status, refusal);
        http_request_unref(req);
    }
    return req;
}

enum MHD_Result request_on_access(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *len,
                                  void **slot)
{
    (void)version;
    struct http_request *req = *slot;
    if (!req) {
        req = *slot = begin(context, connection, url, method);
        /* Without a body the next call follows at once, and only an answer queued there keeps the
         * connection alive. */
        req->past_head = !has_body(req);
        if (req->past_head)
            return MHD_YES;
    }
    bool was_at_head = !req->past_head;
    bool at_body = !was_at_head && *len > 0;
    enum MHD_Result result = was_at_head ? at_head(req) : at_body ? on_data(req, data, len) : at_end(req);
    /* At the end of the head the body begins; at the end of the body nothing more is owed. A sleeper is
     * left alone: its peer may have sent all and wait. */
    bool in_body = has_body(req) && req->past_head && (at_body ? *len == 0 : was_at_head);
    atomic_store_explicit(&req->socket->in_body, in_body, memory_order_relaxed);
    return result;
}

void request_on_completed(void *context, struct MHD_Connection *connection, void **slot,
                          enum MHD_RequestTerminationCode how)
{
    (void)connection, (void)how;
    struct http_server *server = context;
    struct http_request *req = *slot;
    if (!req)
        return;
    *slot = NULL;
    set_clock(req, clock_mono_ms());
    atomic_store_explicit(&req->socket->answering, false, memory_order_relaxed);
    atomic_store_explicit(&req->socket->served, true, memory_order_relaxed);
    atomic_store_explicit(&req->socket->in_body, false, memory_order_relaxed);
    if (request_claim(req))
        request_tell(req);
    bool nobody_owes = !req->handed || (req->body_mode == BODY_COLLECT && !req->delivered);
    pthread_mutex_lock(&req->lock);
    req->completed = true; /* from here on nobody gives it a sink */
    pthread_mutex_unlock(&req->lock);
    if (req->sink)
        sink_end(req, false);
    response_drop(req);
    body_free(req);
    if (nobody_owes)
        http_request_unref(req);
    http_request_unref(req);
    if (atomic_fetch_sub(&server->active, 1) == 1 && atomic_load(&server->stopping_now)) {
        pthread_mutex_lock(&server->lock);
        pthread_cond_signal(&server->quiet);
        pthread_mutex_unlock(&server->lock);
    }
}

/* ---- choosing the body's way ---- */

void http_read_body(struct http_request *req, size_t max,
                    void (*done)(struct http_request *req, char *data, size_t len, void *arg), void *arg)
{
    req->body_mode = BODY_COLLECT;
    req->body_max = max;
    req->body_done = done;
    req->body_arg = arg;
    if (req->content_length > 0 && (uint64_t)req->content_length > max)
        body_too_long(req);
}

void http_stream_body(struct http_request *req, const struct http_body_sink *sink, void *arg)
{
    req->body_mode = BODY_SINK;
    req->sink = sink;
    req->body_arg = arg;
    head_copy_take(req);
    set_clock(req, 0); /* as long as it moves, by libmicrohttpd's idle timeout */
}

bool http_stream_body_answered(struct http_request *req, const struct http_header *headers,
                               const struct http_body_sink *sink, void *arg)
{
    if (!request_claim(req))
        return false;
    head_copy_take(req);
    pthread_mutex_lock(&req->lock);
    bool late = req->completed || atomic_load(&req->gone);
    if (!late) {
        head_write(&req->early_head, "HTTP/1.1 200 OK\r\nConnection: close", headers);
        req->sink = sink;
        req->body_arg = arg;
        req->early = EARLY_ASKED;
    } else {
        atomic_store(&req->cut, true);
    }
    bool completed = req->completed;
    pthread_mutex_unlock(&req->lock);
    if (!completed)
        request_wake(req);
    return !late;
}

void http_body_finish(struct http_request *req)
{
    pthread_mutex_lock(&req->lock);
    bool over = req->early != EARLY_NONE && !req->completed;
    if (over) {
        req->early_over = true;
        if (!req->asleep && req->early == EARLY_SENT)
            stop_reading(req);
    }
    pthread_mutex_unlock(&req->lock);
    if (over)
        request_wake(req);
}

void http_body_wake(struct http_request *req)
{
    request_wake(req);
}
