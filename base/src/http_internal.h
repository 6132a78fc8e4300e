/* Shared by the files of the HTTP server.
 *
 * Sleeping: a connection without anything to do is suspended in libmicrohttpd, which then forgets about
 * it until it is resumed. `asleep` and `woken` under req->lock make a wake-up that comes before the
 * sleep count. While a request is asleep its connection cannot go away, so the waker may touch it.
 *
 * Answering: `claimed` decides who answers: a handler, the end of the connection or the stop of the
 * server. Only the winner touches the request's connection or the server; so a late answer is harmless
 * even after the server was freed.
 *
 * Strings: path, headers and query are libmicrohttpd's and live as long as the connection works on the
 * request. A request that sleeps keeps its connection until it is answered, also when the client is gone
 * (`gone`); one whose body is streamed has copies, because there the connection may end at any moment.
 *
 * Lock order: request->lock, then server->lock. */
#pragma once
#include <base/buf.h>
#include <base/http_server.h>
#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

struct connection;

/* A doubly linked ring; an element that points to itself is in no list. */
struct link {
    struct link *next, *prev;
};

static inline void link_init(struct link *l)
{
    l->next = l->prev = l;
}
static inline void link_add(struct link *head, struct link *l)
{
    l->next = head;
    l->prev = head->prev;
    head->prev->next = l;
    head->prev = l;
}
static inline void link_remove(struct link *l)
{
    l->next->prev = l->prev;
    l->prev->next = l->next;
    link_init(l);
}
#define LINK_OF(type, member, l) ((type *)(void *)((char *)(l)-offsetof(type, member)))

struct http_server {
    struct MHD_Daemon *daemon;
    void (*on_request)(struct http_request *req, void *context);
    void *context;
    bool (*error_page)(const struct http_request *req, unsigned status, const char *text, struct buf *out,
                       const struct http_header **headers);
    unsigned threads;
    struct http_budget *budget; /* shared with other servers; NULL: none */
    char *socket_path;          /* NULL: by address */
    char *client_name;          /* required of clients; NULL: any name */
    char *client_suffix;        /* or a name that ends so; NULL: no other */
    bool tls, client_certificates;
    _Atomic int64_t refusals_quiet_until_ms; /* monotonic: no refused client is told of before */
    /* Of the thread that stops the server. The listener is shut at once and closed with the rest:
     * libmicrohttpd's threads may still name it, and another file could have its number. */
    bool quiesced;
    int listener; /* -1: libmicrohttpd has it */
    uint16_t port;
    int64_t idle_timeout_ms, body_timeout_ms, reader_timeout_ms;
    size_t bodies_bytes_max;
    _Atomic size_t bodies_bytes; /* room of all collected bodies */
    char *cert_pem, *key_pem, *trust_pem;
    struct tls_identity *identity; /* for new connections; NULL: as at the start; guarded by lock */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t quiet; /* while stopping: something in the lists or counts below became less */
    struct link connections;
    struct link sleeping;
    struct link upgraded;
    struct http_request **watched; /* by descriptor: sleeping requests whose client is watched */
    size_t watched_size;
    bool ending;   /* http_server_stop was called: waiters for `quiet` want to know */
    bool stopping; /* nobody falls asleep any more */

    _Atomic uint32_t active; /* requests that are not completed */
    _Atomic bool stopping_now;
    int watch_epoll, watch_stop; /* the watcher's descriptors */
    pthread_t watcher;
};

/* One accepted connection: for the sweeper, which ends slow ones. */
struct connection {
    struct http_server *server;
    struct link link;
    int fd;
    struct tls_identity *identity; /* counted; NULL: the server's first */
    bool known;                    /* its certificate has the name that is let in */
    /* Monotonic ms: since when the peer owes us a head (or since its last request). 0: a request is
     * being worked on. Negative: minus the time by which a body must be complete. */
    _Atomic int64_t since_ms;
    _Atomic bool served;    /* a request was answered on it */
    _Atomic bool in_body;   /* a body is being read, and the request does not sleep */
    _Atomic bool answering; /* an answer is on its way */
    /* Of the sweeper: since when the reader of answers is behind (0: it is not), and how many bytes it has to
     * have taken for another span. */
    int64_t behind_since_ms;
    uint64_t behind_goal;
    char client[128]; /* name in the client's certificate; set within the handshake */
};

/* The head of a request, copied. */
struct head_copy {
    char *path;
    struct head_value {
        enum MHD_ValueKind kind;
        char *name, *value;
    } * values;
    size_t count;
};

enum body_mode {
    BODY_UNDECIDED, /* on_request has not chosen */
    BODY_COLLECT,
    BODY_SINK,
    BODY_DISCARD, /* answered already, or too large: the rest is read and dropped */
};

/* An answer whose head leaves before the body is read (http_reader_open_answered). */
enum early {
    EARLY_NONE,
    EARLY_ASKED, /* the head waits in early_head */
    EARLY_SENT,
};

struct http_request {
    _Atomic uint32_t refs;
    _Atomic bool claimed; /* somebody answers or has answered */
    _Atomic bool cut;     /* end the connection without an answer */
    _Atomic bool gone;    /* the client is; the answer will be dropped */
    _Atomic bool told;    /* `closed` was called */
    struct http_server *server;
    struct MHD_Connection *connection;
    struct connection *socket;
    const char *path;
    struct head_copy *copy; /* NULL: ask libmicrohttpd */
    char *cookies;          /* the header in pieces, each ended by NUL; NULL: not cut yet */
    size_t cookies_len;
    uint64_t id;
    int64_t content_length; /* -1: chunked */
    enum http_method method;

    /* Of the server thread alone. */
    bool handed;    /* on_request was called */
    bool past_head; /* libmicrohttpd goes on to the body, or there is none */
    bool delivered; /* the callback at the end of the body was called */
    enum body_mode body_mode;
    size_t body_max;
    char *body;
    size_t body_len, body_cap;
    uint64_t discarded;
    void (*body_done)(struct http_request *req, char *data, size_t len, void *arg);
    const struct http_body_sink *sink;
    void *body_arg;
    char peer[48];
    bool local_root, local_root_known;
    bool client_known; /* see http_request_is_known_client */

    pthread_mutex_t lock; /* guards what follows */
    bool asleep, woken;
    bool completed; /* the connection is no longer this request's */
    enum early early;
    bool early_over; /* nobody wants more of the body: the connection ends */
    struct buf early_head;
    bool ready; /* response and status are set and not queued yet, or an upgrade is asked for */
    struct MHD_Response *response;
    unsigned status;
    struct link sleeping; /* server->lock */
    int watched_fd;       /* server->lock; -1: not watched */
    bool watch;           /* server->lock: to be watched, if it sleeps for longer */

    void *data;
    void (*closed)(void *arg);
    void (*closed_release)(void *arg);
    void *closed_arg;
    const struct http_producer *producer;
    void *producer_arg;
    bool answer_sized; /* its length is known */
    void (*upgraded)(void *arg, struct stream *stream, const char *early,
                     size_t early_len); /* asked for: set until it was called */
    struct buf upgrade_head;
    void *upgraded_arg;
};

/* http_request.c */
enum MHD_Result request_on_access(void *context, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *len,
                                  void **slot);
void request_on_completed(void *context, struct MHD_Connection *connection, void **slot,
                          enum MHD_RequestTerminationCode how);

/* http_head.c */
/* False: not a method that is known here. */
bool http_method_parse(const char *text, enum http_method *out);
void head_copy_take(struct http_request *req);
void head_copy_free(struct head_copy *copy);

/* http_sleep.c */
/* False: a wake-up came before, look again. True: suspended (or the server stops and the request was cut). */
bool request_sleep(struct http_request *req, bool watch);
void request_wake(struct http_request *req);
/* True for one caller only: the one that answers. */
bool request_claim(struct http_request *req);
void request_tell(struct http_request *req);
void *watcher_main(void *server);
/* Asks sleepers to answer, waits a moment, answers for the others. */
void sleepers_end(struct http_server *server);

/* http_answer.c */
void response_drop(struct http_request *req);
void answer_error_claimed(struct http_request *req, unsigned status, const char *text);

/* http_upgrade.c */
/* On the server thread, instead of queueing an answer. */
void upgrade_begin(struct http_request *req);
void upgraded_end_all(struct http_server *server);
/* Writes the head of an answer: the status line and what belongs to it, the headers, an empty line. */
void head_write(struct buf *b, const char *status_line, const struct http_header *headers);
/* Sends a few bytes past libmicrohttpd, on the server thread, where nothing else was sent before: -1 if the
 * socket did not take all. */
int direct_send(struct http_request *req, const void *from, size_t len);

/* http_tls.c */
void tls_prepare(struct http_server *server, struct connection *c, struct MHD_Connection *connection);
void tls_identity_unref(struct tls_identity *identity);
/* Its client is a known one, by the identity that the server has now. */
bool tls_is_known(struct connection *c);
