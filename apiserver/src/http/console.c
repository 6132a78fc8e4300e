/* GET /console as a web socket, and CONNECT /console as bytes, joined with the agent's console stream by a
 * thread of its own.
 *
 * A page must not put its session into an address, so it asks for a token first: random, kept as a hash, good
 * for one use within half a minute, and only with the session and from the Origin that asked for it. When the
 * session ends, so do its open consoles. */
#include "console.h"

#include "../gate/gate.h"
#include "../gate/session.h"
#include "../server.h"
#include "console_find.h"
#include "doors.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <base/websocket.h>
#include <errno.h>
#include <model/errors.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define TOKEN_MS 30000
#define TOKENS_MAX 1000
#define OPEN_MAX 500
#define IDLE_MS 120000
#define BODY_MAX 4096

struct console_token {
    char hash[SHA256_TEXT_SIZE];
    char origin[128];
    struct ref console;
    struct session *session; /* counted */
    int64_t expires_ms;
};

/* One open console. */
struct viewer {
    struct server *server;
    struct session *session; /* counted */
    bool temporary;          /* made for this console alone */
    bool websocket;          /* else bare bytes */
    struct ref console;
    struct stream *peer, *raw;
    char *early;
    size_t early_len;
    int stop_fd;
    struct viewer *next;
};

struct console_tokens {
    struct server *server;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended;
    struct console_token *tokens;
    size_t count;
    struct viewer *viewers;
    size_t viewer_count;
    bool stop;
};

struct console_tokens *console_tokens_new(struct server *server)
{
    struct console_tokens *t = xcalloc(1, sizeof(*t));
    t->server = server;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->ended, NULL);
    return t;
}

static void wake(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof(one)) < 0)
        log_warn("console", "a console could not be told to end", "cause", strerror(errno));
}

void console_tokens_stop(struct console_tokens *t)
{
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    for (struct viewer *v = t->viewers; v; v = v->next)
        wake(v->stop_fd);
    while (t->viewer_count)
        pthread_cond_wait(&t->ended, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void console_tokens_free(struct console_tokens *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->count; i++)
        session_unref(t->tokens[i].session);
    free(t->tokens);
    pthread_cond_destroy(&t->ended);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

void consoles_session_gone(struct console_tokens *t, const struct session *session)
{
    pthread_mutex_lock(&t->lock);
    for (struct viewer *v = t->viewers; v; v = v->next)
        if (v->session == session)
            wake(v->stop_fd);
    pthread_mutex_unlock(&t->lock);
}

/* ---- tokens ---- */

static void drop_token(struct console_tokens *t, size_t i)
{
    session_unref(t->tokens[i].session);
    t->tokens[i] = t->tokens[--t->count];
}

static void drop_expired(struct console_tokens *t)
{
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < t->count;) {
        if (t->tokens[i].expires_ms <= now || t->tokens[i].session->gone)
            drop_token(t, i);
        else
            i++;
    }
}

static int token_add(struct console_tokens *t, const char *text, const char *origin, struct ref console,
                     struct session *session)
{
    int rc = -1;
    pthread_mutex_lock(&t->lock);
    drop_expired(t);
    if (t->count < TOKENS_MAX) {
        t->tokens = xreallocarray(t->tokens, t->count + 1, sizeof(*t->tokens));
        struct console_token *token = &t->tokens[t->count++];
        *token = (struct console_token){
            .console = console, .session = session_ref(session), .expires_ms = clock_mono_ms() + TOKEN_MS};
        sha256_text(text, strlen(text), token->hash);
        snprintf(token->origin, sizeof(token->origin), "%s", origin);
        rc = 0;
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

/* A counted session and the console, once; NULL: the token is not good here. */
static struct session *token_take(struct console_tokens *t, const char *text, const char *origin,
                                  struct ref *console)
{
    char hash[SHA256_TEXT_SIZE];
    struct session *session = NULL;
    sha256_text(text, strlen(text), hash);
    pthread_mutex_lock(&t->lock);
    drop_expired(t);
    for (size_t i = 0; i < t->count; i++) {
        if (!secret_equal_text(t->tokens[i].hash, hash))
            continue;
        if (streq(t->tokens[i].origin, origin)) {
            session = session_ref(t->tokens[i].session);
            *console = t->tokens[i].console;
        }
        drop_token(t, i); /* used up either way */
        break;
    }
    pthread_mutex_unlock(&t->lock);
    return session;
}

/* ---- making a token ---- */

static const char *origin_of(struct http_request *req)
{
    const char *origin = http_request_header(req, "Origin");
    return origin ? origin : "";
}

static void run_token(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SESSION struct session *session =
        door_admit(job->server, job->req, ACTION_post_console_tokens, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->server->store);
    const char *text = "";
    struct ref console;
    json_get_string(job->body, "console", &text);
    if (!ref_parse(text, &console) || !snapshot_get(snap, CLASS_console, console)) {
        err_handle_invalid(&err, "console", text);
        door_fail(job->req, 404, &err);
    } else {
        AUTO_SECRET char *token = secret_token(24);
        char expires[DATETIME_TEXT_SIZE];
        datetime_format(clock_unix_seconds() + TOKEN_MS / 1000, expires);
        if (token_add(job->server->console_tokens, token, origin_of(job->req), console, session) < 0) {
            http_answer_error(job->req, 503, "too many console tokens wait to be used");
        } else {
            char *body = xasprintf("{\"token\":\"%s\",\"expires\":\"%s\"}\n", token, expires);
            http_answer_json(job->req, 201, body, strlen(body));
        }
    }
    if (temporary)
        session_close(job->server, session);
    door_job_free(job);
}

void door_console_tokens(struct server *server, struct http_request *req)
{
    static const struct door_body door = {.run = run_token, .max = BODY_MAX};
    door_submit_json(server, req, &door);
}

/* ---- opening a console ---- */

static void viewer_free(struct viewer *v)
{
    stream_close(v->peer);
    stream_close(v->raw);
    session_unref(v->session);
    if (v->stop_fd >= 0)
        close(v->stop_fd);
    free(v->early);
    free(v);
}

/* NULL, or why not: a sentence, with the status of the answer. */
static const char *viewer_add(struct console_tokens *t, struct viewer *v, bool alone, unsigned *status)
{
    const char *complaint = NULL;
    pthread_mutex_lock(&t->lock);
    *status = 503;
    if (t->stop || t->viewer_count >= OPEN_MAX)
        complaint = "too many consoles are open";
    for (const struct viewer *other = t->viewers; alone && other; other = other->next)
        if (ref_eq(other->console, v->console))
            complaint = "somebody else is connected to this console, and the pool allows one at a time";
    if (v->session->gone) {
        *status = 401;
        complaint = "the session has ended";
    }
    if (!complaint) {
        v->next = t->viewers;
        t->viewers = v;
        t->viewer_count++;
    }
    pthread_mutex_unlock(&t->lock);
    return complaint;
}

static void viewer_remove(struct console_tokens *t, struct viewer *v)
{
    pthread_mutex_lock(&t->lock);
    for (struct viewer **at = &t->viewers; *at; at = &(*at)->next)
        if (*at == v) {
            *at = v->next;
            break;
        }
    pthread_mutex_unlock(&t->lock);
    viewer_free(v);
    pthread_mutex_lock(&t->lock);
    t->viewer_count--;
    pthread_cond_broadcast(&t->ended);
    pthread_mutex_unlock(&t->lock);
}

/* A terminal may be silent for hours; a peer that is gone is noticed all the same. */
static void keep_alive(int fd)
{
    const int on = 1, idle_s = 60, tries = 3;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &tries, sizeof(tries)) < 0)
        log_debug("console", "a connection is not kept alive", "cause", strerror(errno));
}

static void *viewer_run(void *arg)
{
    struct viewer *v = arg;
    const struct ws_pump_options options = {.stop_fd = v->stop_fd, .idle_ms = IDLE_MS, .text = true};
    if (v->websocket) {
        ws_pump(v->peer, v->raw, v->early, v->early_len, &options);
    } else {
        keep_alive(v->peer->fd);
        stream_pump(v->peer, v->raw, v->stop_fd, -1);
    }
    if (v->temporary)
        session_close(v->server, v->session);
    viewer_remove(v->server->console_tokens, v);
    return NULL;
}

/* Server thread: the connection is ours; a thread takes over. */
static void upgraded(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct viewer *v = arg;
    pthread_t thread;
    pthread_attr_t attr;
    v->peer = stream;
    if (!stream) {
        viewer_remove(v->server->console_tokens, v);
        return;
    }
    if (early_len) {
        v->early = xmalloc(early_len);
        memcpy(v->early, early, early_len);
        v->early_len = early_len;
    }
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int rc = pthread_create(&thread, &attr, viewer_run, v);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        log_error("console", "no thread for a console could be started", "cause", strerror(rc));
        viewer_remove(v->server->console_tokens, v);
    }
}

/* The session and the console that the request is for; NULL after answering. *temporary: the caller closes
 * the session at the end. */
static struct session *admit(struct server *server, struct http_request *req, const struct snapshot *snap,
                             const struct console_actions *actions, struct console_target *target,
                             bool *temporary)
{
    const char *token = http_request_query(req, "token");
    struct session *session;
    *temporary = false;
    *target = (struct console_target){0};
    if (token) {
        struct ref ref;
        session = token_take(server->console_tokens, token, origin_of(req), &ref);
        if (!session) {
            http_answer_error(req, 403, "the console token is wrong, used or expired: ask for a new one");
            return NULL;
        }
        target->console = console_row(snapshot_get(snap, CLASS_console, ref));
        if (target->console)
            target->vm = vm_row(snapshot_get(snap, CLASS_VM, target->console->VM));
    } else {
        session = door_authenticate(server, req, temporary);
        if (!session)
            return NULL;
        *target = console_asked(snap, req);
    }
    if (!console_allow(server, req, session, target, actions)) {
        /* answered */
    } else if (!target->console) {
        http_answer_error(req, 404, "there is no such console: is the VM running?");
    } else {
        return session;
    }
    if (*temporary)
        session_close(server, session);
    session_unref(session);
    return NULL;
}

static bool is_websocket(struct http_request *req, char accept[static WS_ACCEPT_SIZE])
{
    const char *upgrade = http_request_header(req, "Upgrade"),
               *key = http_request_header(req, "Sec-WebSocket-Key");
    const char *version = http_request_header(req, "Sec-WebSocket-Version");
    return upgrade && strcasecmp(upgrade, "websocket") == 0 && key && version && streq(version, "13") &&
           ws_accept(key, accept);
}

static bool one_at_a_time(struct server *server, const struct snapshot *snap)
{
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    return pool && pool->limit_console_sessions;
}

/* A viewer with its console's stream, which counts from now on; NULL after answering. The session moves in.
 */
static struct viewer *viewer_new(struct door_job *job, const struct snapshot *snap,
                                 const struct console_target *target, struct session *moved, bool temporary)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct viewer *v = xcalloc(1, sizeof(*v));
    unsigned status;
    *v = (struct viewer){.server = job->server,
                         .session = moved,
                         .temporary = temporary,
                         .console = target->console->row.ref,
                         .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    const char *complaint =
        viewer_add(job->server->console_tokens, v, one_at_a_time(job->server, snap), &status);
    if (complaint) {
        http_answer_error(job->req, status, complaint);
        if (temporary)
            session_close(job->server, moved);
        viewer_free(v);
        return NULL;
    }
    if (console_open(job->server, target, &v->raw, &err) == 0)
        return v;
    door_fail(job->req, 502, &err); /* the agent's side */
    if (temporary)
        session_close(job->server, moved);
    viewer_remove(job->server->console_tokens, v);
    return NULL;
}

static void run_websocket(void *arg)
{
    const struct console_actions actions = {ACTION_connect_console_ws,
                                            ACTION_connect_console_ws_host_console_ws};
    struct door_job *job = arg;
    struct console_target target;
    char accept[WS_ACCEPT_SIZE];
    bool temporary;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->server->store);
    struct session *session = NULL;
    if (is_websocket(job->req, accept))
        session = admit(job->server, job->req, snap, &actions, &target, &temporary);
    else
        http_answer_error(job->req, 426, "a console is opened as a web socket (version 13)");
    struct viewer *v = session ? viewer_new(job, snap, &target, session, temporary) : NULL;
    if (v) {
        const struct http_header headers[] = {{"Upgrade", "websocket"},
                                              {"Sec-WebSocket-Accept", accept},
                                              {"Sec-WebSocket-Protocol", "binary"},
                                              {NULL, NULL}};
        v->websocket = true;
        http_upgrade(job->req, headers, upgraded, v);
    }
    door_job_free(job);
}

static void run_tunnel(void *arg)
{
    const struct console_actions actions = {ACTION_connect_console, ACTION_connect_console_host_console};
    static const struct http_header headers[] = {
        {"Connection", "keep-alive"}, {"Cache-Control", "no-cache, no-store"}, {NULL, NULL}};
    struct door_job *job = arg;
    struct console_target target;
    bool temporary;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->server->store);
    struct session *session = admit(job->server, job->req, snap, &actions, &target, &temporary);
    struct viewer *v = session ? viewer_new(job, snap, &target, session, temporary) : NULL;
    if (v)
        http_tunnel(job->req, headers, upgraded, v);
    door_job_free(job);
}

void door_console(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run_websocket);
}

void door_console_tunnel(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run_tunnel);
}
