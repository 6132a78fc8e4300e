/* GET /console as a web socket, joined with the agent's console stream by a thread of its own.
 *
 * A page must not put its session into an address, so it asks for a token first: random, kept as a hash, good
 * for one use within half a minute, and only with the session and from the Origin that asked for it. When the
 * session ends, so do its open consoles. */
#include "console.h"

#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../hosts/hosts.h"
#include "../server.h"
#include "doors.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <base/websocket.h>
#include <errno.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>
#include <sys/eventfd.h>

#define TOKEN_MS 30000
#define TOKENS_MAX 1000
#define OPEN_MAX 500
#define IDLE_MS 120000
#define BODY_MAX 4096
#define CONNECT_MS 5000

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

static bool viewer_add(struct console_tokens *t, struct viewer *v)
{
    pthread_mutex_lock(&t->lock);
    bool ok = !t->stop && t->viewer_count < OPEN_MAX && !v->session->gone;
    if (ok) {
        v->next = t->viewers;
        t->viewers = v;
        t->viewer_count++;
    }
    pthread_mutex_unlock(&t->lock);
    return ok;
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

static void *viewer_run(void *arg)
{
    struct viewer *v = arg;
    const struct ws_pump_options options = {.stop_fd = v->stop_fd, .idle_ms = IDLE_MS, .text = true};
    ws_pump(v->peer, v->raw, v->early, v->early_len, &options);
    if (v->temporary)
        session_close(v->server, v->session);
    viewer_remove(v->server->console_tokens, v);
    return NULL;
}

/* Server thread: the socket is upgraded; a thread takes over. */
static void upgraded(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct viewer *v = arg;
    pthread_t thread;
    pthread_attr_t attr;
    v->peer = stream;
    if (!stream || !viewer_add(v->server->console_tokens, v)) {
        viewer_free(v);
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

static const struct console_row *first_console(const struct snapshot *snap, const struct vm_row *vm)
{
    const struct console_row *found = NULL;
    for (size_t i = 0; vm && vm->consoles && i < vm->consoles->count; i++) {
        const struct console_row *console =
            console_row(snapshot_get(snap, CLASS_console, vm->consoles->items[i]));
        if (console && (!found || console->protocol == CONSOLE_PROTOCOL_RFB))
            found = console;
    }
    return found;
}

/* uuid= or ref= of a console, or of a VM for its screen. */
static const struct console_row *asked_console(const struct snapshot *snap, struct http_request *req)
{
    const char *uuid = http_request_query(req, "uuid"), *text = http_request_query(req, "ref");
    struct ref ref;
    const struct row *row = NULL;
    if (uuid) {
        row = snapshot_by_uuid(snap, CLASS_console, uuid);
        return row ? console_row(row) : first_console(snap, vm_row(snapshot_by_uuid(snap, CLASS_VM, uuid)));
    }
    if (text && ref_parse(text, &ref)) {
        row = snapshot_get(snap, CLASS_console, ref);
        return row ? console_row(row) : first_console(snap, vm_row(snapshot_get(snap, CLASS_VM, ref)));
    }
    return NULL;
}

/* The session and the console that the request is for; NULL after answering. *temporary: the caller closes
 * the session at the end. */
static struct session *admit(struct server *server, struct http_request *req, const struct snapshot *snap,
                             const struct console_row **console, bool *temporary)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const char *token = http_request_query(req, "token");
    struct session *session;
    *temporary = false;
    if (token) {
        struct ref ref;
        session = token_take(server->console_tokens, token, origin_of(req), &ref);
        if (!session) {
            http_answer_error(req, 403, "the console token is wrong, used or expired: ask for a new one");
            return NULL;
        }
        *console = console_row(snapshot_get(snap, CLASS_console, ref));
    } else {
        session = door_authenticate(server, req, temporary);
        if (!session)
            return NULL;
        *console = asked_console(snap, req);
    }
    if (!door_allow(server, req, session, ACTION_connect_console_ws)) {
        /* answered */
    } else if (!*console) {
        http_answer_error(req, 404, "there is no such console: is the VM running?");
    } else {
        return session;
    }
    if (*temporary)
        session_close(server, session);
    session_unref(session);
    return NULL;
}

static int open_stream(struct server *server, const struct snapshot *snap, const struct console_row *console,
                       struct stream **stream, struct api_err *err)
{
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, console->VM));
    const char *kind = console->protocol == CONSOLE_PROTOCOL_RFB ? "vnc" : "serial";
    struct hv_err cause;
    struct hv_host *agent = vm ? hosts_get(server->hosts, vm->resident_on, err) : NULL;
    if (!agent)
        return vm ? -1 : fail_handle(err, CLASS_VM, console->VM);
    int rc = hv_console_open(agent, vm->uuid, kind, CONNECT_MS, stream, &cause);
    hosts_put(server->hosts, agent);
    return rc < 0 ? hosts_fail(err, vm->resident_on, &cause) : 0;
}

static bool is_websocket(struct http_request *req, char accept[static WS_ACCEPT_SIZE])
{
    const char *upgrade = http_request_header(req, "Upgrade"),
               *key = http_request_header(req, "Sec-WebSocket-Key");
    const char *version = http_request_header(req, "Sec-WebSocket-Version");
    return upgrade && strcasecmp(upgrade, "websocket") == 0 && key && version && streq(version, "13") &&
           ws_accept(key, accept);
}

static void run_console(void *arg)
{
    struct door_job *job = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(job->server->store);
    const struct console_row *console = NULL;
    char accept[WS_ACCEPT_SIZE];
    struct stream *stream;
    if (!is_websocket(job->req, accept)) {
        http_answer_error(job->req, 426, "a console is opened as a web socket (version 13)");
        door_job_free(job);
        return;
    }
    bool temporary;
    AUTO_SESSION struct session *session = admit(job->server, job->req, snap, &console, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    if (open_stream(job->server, snap, console, &stream, &err) < 0) {
        door_fail(job->req, 500, &err);
        if (temporary)
            session_close(job->server, session);
        door_job_free(job);
        return;
    }
    struct viewer *v = xcalloc(1, sizeof(*v));
    *v = (struct viewer){.server = job->server,
                         .session = session_ref(session),
                         .temporary = temporary,
                         .raw = stream,
                         .stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    const struct http_header headers[] = {{"Upgrade", "websocket"},
                                          {"Sec-WebSocket-Accept", accept},
                                          {"Sec-WebSocket-Protocol", "binary"},
                                          {NULL, NULL}};
    http_upgrade(job->req, headers, upgraded, v);
    door_job_free(job);
}

void door_console(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run_console);
}
