/* An HTTP/1.1 server on libmicrohttpd: epoll threads, TLS by GnuTLS, one callback per request. It knows no
 * method of the API and no session.
 *
 * Life of a request: `on_request` runs on a server thread as soon as the head was read, and must not
 * block. Before it returns it does one of:
 *   - http_answer and its kin: the answer leaves at once (the fast path; nothing is suspended);
 *   - http_read_body: collect the body, then call back;
 *   - http_stream_body: hand the body on piece by piece;
 *   - nothing: the connection sleeps (it costs memory, no thread) until some thread answers.
 * The same holds for the callback at the end of the body. Every request is answered exactly once; the
 * request pointer is valid until the answering call returns, and longer only with http_request_ref.
 * A client that went away does not free a request under its handler: answers to it are dropped.
 *
 * Threads: the answering and waking functions may be called from any thread; so may what reads the request
 * (path, headers, query, peer...), by whoever owes the answer and before giving it. Its strings are valid
 * that long, also when the client is gone. */
#pragma once
#include <base/http.h>
#include <base/stream.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct buf;
struct http_server;
struct http_request;

/* Connections that several servers of a process may have together, so that its descriptors suffice. */
struct http_budget {
    unsigned connections_max;
    _Atomic unsigned connections; /* that are open now, a few more at times */
};

struct http_server_config {
    const char *address; /* numeric, "127.0.0.1" or "::1" or "0.0.0.0"... */
    uint16_t port;       /* 0: a free one */
    /* Listen on this unix socket instead: plain HTTP for this machine, where http_request_is_local_root tells
     * who asks. One that a dead process left is replaced; removed by http_server_quiesce. NULL: by address.
     */
    const char *socket_path;
    /* PEM files; the certificate file holds the chain, leaf first. Both NULL: plain HTTP, which is refused
     * unless the address is a loopback one. */
    const char *certificate_file, *key_file;
    /* Require a client certificate that this CA signed for client use, with the DNS name `client_name` (NULL:
     * any name). The handshake fails otherwise. */
    const char *client_ca_file, *client_name;
    /* Beside client_name, also clients whose DNS name ends so, with something before it; the handler then
     * asks http_request_client_name who it is. NULL: none. */
    const char *client_suffix;
    unsigned threads;            /* 0: one a processor */
    unsigned connections_max;    /* 0: 10,000 */
    unsigned connections_per_ip; /* 0: no limit */
    /* Outlives the server; who comes when it is used up is closed at once. NULL: connections_max alone. */
    struct http_budget *budget;
    /* Memory of a connection for the head and for reading; zeroed for each request, so small is fast, and
     * larger is faster for bodies that are streamed. 0: 16 KiB. */
    unsigned head_bytes_max;
    unsigned idle_timeout_s; /* between requests, and from the first byte of a head to its last; 0: 60 */
    unsigned body_timeout_s; /* for a collected body to arrive whole; 0: 120 */
    /* Who does not take within that time what lies ready for him of an answer, or one KiB a second of it, is
     * cut off; streams of answers too. 0: 60. */
    unsigned reader_timeout_s;
    /* Memory of all collected bodies that have not arrived whole; who would need more is answered with 503.
     * What comes in one piece needs none. 0: 128 MiB. */
    size_t bodies_bytes_max;
    void (*on_request)(struct http_request *req, void *context);
    void *context;
    /* Writes what http_answer_error sends instead of {"error":"<text>"}: false leaves it at that. The headers
     * are static, ended by a NULL name. NULL: always JSON. Any thread; `req` may be asked for its path. */
    bool (*error_page)(const struct http_request *req, unsigned status, const char *text, struct buf *out,
                       const struct http_header **headers);
};

struct http_server_error {
    char text[200];
};
/* 0, or -1 with a sentence. Strings are copied, files are read now. */
int http_server_start(const struct http_server_config *config, struct http_server **out,
                      struct http_server_error *error);
uint16_t http_server_port(const struct http_server *server);
/* Another certificate and key (PEM: a chain, leaf first, and a key that may stand in the same text) for
 * connections that come from now on; those that are open keep theirs. With `trusted_pem` (NULL: not) clients
 * are asked for a certificate, which they need not have: who shows one that these CA certificates (or that
 * very certificate) vouch for, not revoked by `crl_pem` (may be NULL), in time, with the DNS name
 * `client_name`, is a known client. A server with client_ca_file goes on to ask for what it asked for, and
 * takes those that `trusted_pem` vouches for. 0, or -1 with a sentence, when nothing has changed. Any thread.
 */
int http_server_set_identity(struct http_server *server, const char *certificate_pem, const char *key_pem,
                             const char *trusted_pem, const char *crl_pem, const char *client_name,
                             struct http_server_error *error);
/* Closes the listening socket; what is under way may finish. Optional first step of a stop. */
void http_server_quiesce(struct http_server *server);
/* Runs `closed` of all requests that sleep (http_request_on_close), waits a second for their answers, then
 * answers 503 for those that are left; ends streams and upgraded connections (waiting until their users
 * closed them), joins the threads, frees. Stop the workers that hold requests first, or let none take longer
 * than that: they may still answer (harmlessly), but no longer read the request. Not from a callback. */
void http_server_stop(struct http_server *server);

/* ---- the request; all of this only before the answer ---- */
enum http_method http_request_method(const struct http_request *req);
/* Decoded once; an escape that is malformed or stands for NUL stays as it is. Begins with '/'. */
const char *http_request_path(const struct http_request *req);
/* Value of a header (names ignore case), first one; NULL: absent. */
const char *http_request_header(const struct http_request *req, const char *name);
/* Decoded value of the first query parameter of that name; NULL: absent. "?a" and "?a=" give "". */
const char *http_request_query(const struct http_request *req, const char *name);
/* Calls back for each query parameter in order; false from it ends the walk. */
void http_request_each_query(const struct http_request *req,
                             bool (*each)(void *arg, const char *name, const char *value), void *arg);
/* The first cookie of that name, from "a=b; c=d" or "a=b&c=d", as it stands; NULL: absent. */
const char *http_request_cookie(struct http_request *req, const char *name);
/* Declared length of the body; -1: none declared (chunked); 0: no body. */
int64_t http_request_content_length(const struct http_request *req);
bool http_request_is_tls(const struct http_request *req);
/* Numeric address of the peer ("127.0.0.1", "::1"), "local" over a unix socket, written into the request on
 * first use. */
const char *http_request_peer(struct http_request *req);
/* No other connection waits for this thread, and newcomers have others: what it does for the request may take
 * as long as a disk does. For `on_request` and what it calls on its thread. */
bool http_request_is_alone(const struct http_request *req);
/* The peer came over a unix socket and is the machine's root or the user that this process runs as. Asked of
 * the kernel when the head is there. */
bool http_request_is_local_root(struct http_request *req);
/* The client showed a certificate that http_server_set_identity knows, as it was set last. Any thread. */
bool http_request_is_known_client(const struct http_request *req);
/* DNS name that the client's certificate was checked for; NULL: no client certificate required, or any name
 * is good. */
const char *http_request_client_name(const struct http_request *req);
/* A pointer for the handler's own use. */
void http_request_set_data(struct http_request *req, void *data);
void *http_request_data(const struct http_request *req);
struct http_request *http_request_ref(struct http_request *req);
void http_request_unref(struct http_request *req);
/* `closed(arg)` runs at most once, if the connection is lost or the server stops before the answer was given;
 * on some thread of the server, and perhaps while another thread is answering. It lets waiting work stop; who
 * owes the answer still gives it (to a lost client it is dropped). A sleeping connection notices the loss
 * too. `release(arg)` (may be NULL) runs when the request is freed, after anything else. Once per request,
 * before the callback returns. */
void http_request_on_close(struct http_request *req, void (*closed)(void *arg), void *arg,
                           void (*release)(void *arg));

/* ---- the body ---- */
/* Collects a body of at most `max` bytes, then calls `done` on a server thread. The bytes are valid (and may
 * be changed in place) until `done` returns; they are not NUL-terminated. A longer body, declared or not, is
 * answered with 413 without `done` being called, and memory grows only with what arrived. If the client goes
 * away, `done` is never called and `on_close` runs. */
void http_read_body(struct http_request *req, size_t max,
                    void (*done)(struct http_request *req, char *data, size_t len, void *arg), void *arg);

struct http_body_sink {
    /* Takes up to `len` bytes, returns how many. Fewer: the connection sleeps until http_body_wake. Server
     * thread. */
    size_t (*take)(void *arg, const char *data, size_t len);
    /* Once: the body is complete (ok), or the connection was lost or the request answered before (not ok). No
     * call follows. */
    void (*end)(void *arg, bool ok);
    /* After all was taken: true lets the connection sleep until http_body_wake. NULL: never. */
    bool (*full)(void *arg);
};
/* The answer is owed from now on whatever happens; one given before the end of the body drops the rest of it.
 */
/* `sink` must live as long as the request. */
void http_stream_body(struct http_request *req, const struct http_body_sink *sink, void *arg);
/* The same from the thread that owes the answer, while the request sleeps at its head: 200 with these headers
 * (Connection: close is added) leaves before the body is read, as clients of some protocols expect, and is
 * the whole answer; it ends, with the connection, at http_body_finish. False: the client is gone or the
 * server stops; the sink is not used. Either way nothing more is owed, but keep a count until
 * http_body_finish. */
bool http_stream_body_answered(struct http_request *req, const struct http_header *headers,
                               const struct http_body_sink *sink, void *arg);
/* After http_stream_body_answered, once: what is still to come of the body is dropped. */
void http_body_finish(struct http_request *req);
/* The sink can take more. Any thread that holds a count; harmless at any time before the answer. */
void http_body_wake(struct http_request *req);

/* ---- the answer; any thread ---- */
enum http_ownership {
    HTTP_STATIC, /* the bytes stay valid for the life of the process */
    HTTP_COPY,   /* copied now */
    HTTP_FREE,   /* heap memory that is freed with free() when sent */
};
/* `headers` is ended by a NULL name; may be NULL. Content-Length and Date are added. A header value with a
 * line break is dropped and logged. */
void http_answer(struct http_request *req, unsigned status, const struct http_header *headers,
                 const void *body, size_t len, enum http_ownership ownership);
/* The same with `release(arg)` called once the bytes are no longer needed, on any thread. */
void http_answer_release(struct http_request *req, unsigned status, const struct http_header *headers,
                         const void *body, size_t len, void (*release)(void *arg), void *arg);
/* application/json, HTTP_FREE. */
void http_answer_json(struct http_request *req, unsigned status, char *body, size_t len);
/* {"error":"<text>"} with the status, or the server's error_page; closes the connection if the body was not
 * read. */
void http_answer_error(struct http_request *req, unsigned status, const char *text);

#define HTTP_PRODUCER_END (-1)  /* that was all */
#define HTTP_PRODUCER_FAIL (-2) /* cut the connection, so that the client sees a failure */
struct http_producer {
    /* Writes up to `max` bytes and returns how many; 0: nothing ready, the connection sleeps until
     * http_producer_wake; or one of the above. Server thread. */
    ssize_t (*produce)(void *arg, char *to, size_t max);
    /* Once, when sent or the client went away. NULL: nothing. */
    void (*done)(void *arg);
};
/* `length`: declared size of the body, -1: chunked. To wake it, keep a count of the request. */
void http_answer_stream(struct http_request *req, unsigned status, const struct http_header *headers,
                        int64_t length, const struct http_producer *producer, void *arg);
/* Any thread, any time while a count is held; harmless when nothing sleeps or all is over. */
void http_producer_wake(struct http_request *req);

/* Answers 101 with these headers (Upgrade and what else the protocol wants; Connection: Upgrade is added) and
 * then calls `upgraded` on a server thread with the stream, which is the callee's to close, on the thread
 * that uses it. The callback must not block: hand the stream to a thread. `stream` NULL: the connection was
 * lost before. `early` is for bytes that came behind the head: none at present; what a client sends before it
 * has seen the answer is lost (RFC 6455 forbids it). Closing the stream does not wait until the peer has all.
 */
void http_upgrade(struct http_request *req, const struct http_header *headers,
                  void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                  void *arg);
/* The same with "200 OK", for HTTP_CONNECT. */
void http_tunnel(struct http_request *req, const struct http_header *headers,
                 void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                 void *arg);
/* The same without any answer of HTTP: the connection goes on with these bytes, in a protocol of its own.
 * After the body, too. */
void http_take_over(struct http_request *req, const void *first, size_t len,
                    void (*upgraded)(void *arg, struct stream *stream, const char *early, size_t early_len),
                    void *arg);

/* ---- blocking ends, for worker threads ---- */
/* Reads a request's body from another thread: call http_reader_open in on_request instead of
 * http_stream_body, hand the reader to a worker. At most `window` bytes wait in memory. */
struct http_reader;
struct http_reader *http_reader_open(struct http_request *req, size_t window);
/* The same with http_stream_body_answered, from the worker. Closing the reader ends the answer. Never NULL:
 * when the client is gone it gives nothing but ECONNRESET. The request is answered, so it may only be named
 * with a count of one's own. */
struct http_reader *http_reader_open_answered(struct http_request *req, const struct http_header *headers,
                                              size_t window);
/* > 0 bytes; 0: complete; -1: lost (ECONNRESET), or nothing came for timeout_ms (ETIMEDOUT). */
ssize_t http_reader_read(struct http_reader *r, void *to, size_t max, int64_t timeout_ms);
/* Before or after the answer; the request stays answerable. */
void http_reader_close(struct http_reader *r);

/* Answers with a body that another thread writes. */
struct http_writer;
struct http_writer *http_writer_open(struct http_request *req, unsigned status,
                                     const struct http_header *headers, int64_t length, size_t window);
/* Takes what fits, waiting for room: how many of the `len` (at least 1) bytes, or -1 as below. For who has to
 * look at something else now and then. */
ssize_t http_writer_put(struct http_writer *w, const void *data, size_t len, int64_t timeout_ms);
/* 0 when all of it was taken, -1: the client is gone (EPIPE) or took nothing for timeout_ms (ETIMEDOUT). */
int http_writer_write(struct http_writer *w, const void *data, size_t len, int64_t timeout_ms);
/* `ok` false cuts the connection. Frees the writer. */
void http_writer_close(struct http_writer *w, bool ok);
