/* Answers: whole ones, and bodies that a producer writes. */
#include "http_internal.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <sys/socket.h>

/* Hands a response to the server thread, which queues it. The claim was won. */
static void give(struct http_request *req, unsigned status, struct MHD_Response *response)
{
    /* Also to clients of HTTP/1.1, who may take it for granted: old ones look for it. */
    MHD_set_response_options(response, MHD_RF_SEND_KEEP_ALIVE_HEADER, MHD_RO_END);
    pthread_mutex_lock(&req->lock);
    bool late = req->completed, gone = atomic_load(&req->gone);
    if (gone)
        atomic_store(&req->cut, true);
    if (!late && !gone) {
        req->response = response;
        req->status = status;
        req->ready = true;
    }
    pthread_mutex_unlock(&req->lock);
    if (late || gone)
        MHD_destroy_response(response);
    if (!late)
        request_wake(req);
}

void response_drop(struct http_request *req)
{
    pthread_mutex_lock(&req->lock);
    struct MHD_Response *response = req->response;
    req->response = NULL;
    req->ready = false;
    pthread_mutex_unlock(&req->lock);
    if (response)
        MHD_destroy_response(response);
    if (req->upgraded) {
        req->upgraded(req->upgraded_arg, NULL, NULL, 0);
        req->upgraded = NULL;
    }
}

static void add_headers(struct MHD_Response *response, const struct http_header *headers)
{
    for (const struct http_header *h = headers; h && h->name; h++)
        if (MHD_add_response_header(response, h->name, h->value) != MHD_YES)
            log_error("http", "header not sent: it has characters that a header cannot have", "header",
                      h->name);
}

static struct MHD_Response *must(struct MHD_Response *response)
{
    if (!response)
        abort(); /* only memory can be missing */
    return response;
}

void http_answer(struct http_request *req, unsigned status, const struct http_header *headers,
                 const void *body, size_t len, enum http_ownership ownership)
{
    static const enum MHD_ResponseMemoryMode modes[] = {
        [HTTP_STATIC] = MHD_RESPMEM_PERSISTENT,
        [HTTP_COPY] = MHD_RESPMEM_MUST_COPY,
        [HTTP_FREE] = MHD_RESPMEM_MUST_FREE,
    };
    void *data = (void *)(uintptr_t)body;
    if (request_claim(req)) {
        struct MHD_Response *response = must(MHD_create_response_from_buffer(len, data, modes[ownership]));
        add_headers(response, headers);
        give(req, status, response);
    } else if (ownership == HTTP_FREE) {
        free(data);
    }
    http_request_unref(req);
}

void http_answer_release(struct http_request *req, unsigned status, const struct http_header *headers,
                         const void *body, size_t len, void (*release)(void *arg), void *arg)
{
    if (request_claim(req)) {
        struct MHD_Response *response = must(MHD_create_response_from_buffer_with_free_callback_cls(
            len, (void *)(uintptr_t)body, release, arg));
        add_headers(response, headers);
        give(req, status, response);
    } else {
        release(arg);
    }
    http_request_unref(req);
}

static const struct http_header json_headers[] = {{"Content-Type", "application/json"}, {NULL, NULL}};

void http_answer_json(struct http_request *req, unsigned status, char *body, size_t len)
{
    http_answer(req, status, json_headers, body, len, HTTP_FREE);
}

static void write_json_error(const char *text, struct buf *b)
{
    buf_clear(b);
    buf_add_str(b, "{\"error\":");
    json_write_string(b, text);
    buf_add_str(b, "}\n");
}

static struct MHD_Response *error_response(struct http_request *req, unsigned status, const char *text)
{
    struct buf b = BUF_INIT;
    const struct http_header *headers = json_headers;
    if (!req->server->error_page || !req->path || !req->server->error_page(req, status, text, &b, &headers))
        write_json_error(text, &b);
    size_t len = b.len;
    struct MHD_Response *response =
        must(MHD_create_response_from_buffer(len, buf_take(&b), MHD_RESPMEM_MUST_FREE));
    add_headers(response, headers);
    return response;
}

/* The caller has won the claim and keeps its count. */
void answer_error_claimed(struct http_request *req, unsigned status, const char *text)
{
    give(req, status, error_response(req, status, text));
}

void http_answer_error(struct http_request *req, unsigned status, const char *text)
{
    if (request_claim(req))
        give(req, status, error_response(req, status, text));
    http_request_unref(req);
}

/* ---- streamed answers ---- */

/* libmicrohttpd 0.9.75 keeps the connection of a failed answer of unknown length until it has been idle for
 * too long. With its socket shut, such an answer ends without looking whole. */
static ssize_t fail_answer(struct http_request *req)
{
    if (req->answer_sized)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (shutdown(req->socket->fd, SHUT_RDWR) < 0)
        log_debug("http", "the client of a failed answer is gone");
    return MHD_CONTENT_READER_END_OF_STREAM;
}

static ssize_t on_produce(void *context, uint64_t position, char *to, size_t max)
{
    (void)position;
    struct http_request *req = context;
    for (;;) {
        if (atomic_load_explicit(&req->cut, memory_order_relaxed))
            return fail_answer(req);
        ssize_t n = req->producer->produce(req->producer_arg, to, max);
        if (n > 0)
            return n;
        if (n == HTTP_PRODUCER_END)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (n != 0)
            return fail_answer(req);
        if (request_sleep(req, true))
            return 0;
    }
}

static void on_produced(void *context)
{
    struct http_request *req = context;
    if (req->producer->done)
        req->producer->done(req->producer_arg);
    http_request_unref(req);
}

void http_answer_stream(struct http_request *req, unsigned status, const struct http_header *headers,
                        int64_t length, const struct http_producer *producer, void *arg)
{
    if (request_claim(req)) {
        req->producer = producer;
        req->producer_arg = arg;
        req->answer_sized = length >= 0;
        uint64_t size = length < 0 ? MHD_SIZE_UNKNOWN : (uint64_t)length;
        /* The response keeps a count: it may be freed after the request is over. */
        struct MHD_Response *response = must(
            MHD_create_response_from_callback(size, 65536, on_produce, http_request_ref(req), on_produced));
        add_headers(response, headers);
        give(req, status, response);
    } else if (producer->done) {
        producer->done(arg);
    }
    http_request_unref(req);
}

void http_producer_wake(struct http_request *req)
{
    request_wake(req);
}
