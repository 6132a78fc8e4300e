/* POST /cli: the door of the genuine `xe`. The body holds the words of the command line; the answer is no
 * HTTP but the conversation of frames.h. The command runs in the engine that our own `xe` is made of, so the
 * two cannot differ; what the engine needs of its surroundings is done by the client at the other end. */
#include "../gate/gate.h"
#include "../gate/local.h"
#include "../gate/session.h"
#include "../gate/trail.h"
#include "../hosts/join.h"
#include "../http/doors.h"
#include "../http/why.h"
#include "../members/members.h"
#include "../server.h"
#include "frames.h"
#include "thin.h"
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <stdio.h>
#include <xe/engine.h>

#define BODY_MAX (200 * 1024)
#define WORDS_MAX 10000
#define FILE_MAX (1024 * 1024)
#define LINE_MAX 4096

/* One command, from the words to the exit code. */
struct conversation {
    struct server *server;
    struct stream *stream;
    struct thin thin;
    char peer[48];
    bool local_root; /* over the unix socket: needs no password */
    char *text;      /* the body: the words point into it */
    size_t text_len;
    const char **words;
    size_t word_count;
    const char *user, *password;
    char *session;     /* reference as text; NULL: not logged in yet */
    const char *other; /* the session of calls instead; NULL: none */
    bool own_session;  /* made here */
    bool alone;        /* the session is of this server, not of its pool */
};

static void conversation_free(struct conversation *c)
{
    thin_done(&c->thin);
    stream_close(c->stream);
    secret_wipe(c->text, c->text_len);
    free(c->text);
    free(c->words);
    secret_free_cleanup(&c->session);
    free(c);
}

/* ---- the words ---- */

/* "name=value": the value; NULL: it is something else. */
static char *value_of(char *word, const char *name)
{
    size_t len = strlen(name);
    return strncmp(word, name, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

/* Who calls is said among the words; the rest is the command. */
static void take_word(struct conversation *c, char *word)
{
    char *value;
    if ((value = value_of(word, "username")))
        c->user = value;
    else if ((value = value_of(word, "password")))
        c->password = value;
    else if (c->word_count == 0 && !c->session && (value = value_of(word, "session_id")))
        c->session = xstrdup(value);
    else
        c->words[c->word_count++] = word;
}

/* One word a line. -1: too many. */
static int take_words(struct conversation *c)
{
    size_t lines = 1;
    for (const char *at = c->text; (at = strchr(at, '\n')); at++)
        lines++;
    if (lines > WORDS_MAX)
        return -1;
    c->words = xcalloc(lines + 1, sizeof(*c->words));
    char *rest = c->text, *word;
    while ((word = strsep(&rest, "\n"))) {
        size_t len = strlen(word);
        if (len > 0 && word[len - 1] == '\r')
            word[--len] = '\0';
        if (len > 0)
            take_word(c, word);
    }
    return 0;
}

/* ---- what the engine needs ---- */

static int failed(const struct api_err *cause, struct xe_err *err)
{
    AUTO_JSON json_t *params = json_array();
    for (size_t i = 0; i < cause->param_count; i++)
        json_array_append_new(params, json_string(cause->params[i]));
    xe_err_set_api(err, cause->code, params);
    return -1;
}

static int lost(struct xe_err *err)
{
    xe_err_set(err, XE_ERR_TRANSPORT, "The connection to the client was lost.");
    return -1;
}

static const char *login_method(const struct conversation *c)
{
    return c->alone ? "session.slave_local_login_with_password" : "session.login_with_password";
}

static int log_in_as_root(struct conversation *c, struct xe_err *err)
{
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    AUTO_IDENTITY struct identity who = identity_of_root(c->user);
    who.local = c->alone;
    AUTO_SESSION struct session *session = NULL;
    if (session_open(c->server, &who, "cli", &session, &cause) < 0)
        return failed(&cause, err);
    trail_session(c->server->trail, c->peer, login_method(c), c->user, session, NULL);
    c->session = xstrdup(REF_TEXT(session->token));
    c->own_session = true;
    return 0;
}

static int log_in(struct conversation *c, struct xe_err *err)
{
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    if (c->session)
        return 0;
    if (!c->alone && members_is_member(c->server)) {
        members_refuse(c->server, &cause);
        return failed(&cause, err);
    }
    if (c->local_root)
        return log_in_as_root(c, err);
    AUTO_JSON json_t *params = c->alone ? json_pack("[ss]", c->user, c->password)
                                        : json_pack("[ssss]", c->user, c->password, "2.21", "cli"),
                     *session = NULL;
    if (!params) {
        xe_err_set(err, XE_ERR_USAGE, "The user name and the password must be text in UTF-8.");
        return -1;
    }
    if (local_call(c->server, c->peer, login_method(c), params, &session, &cause) < 0)
        return failed(&cause, err);
    c->session = xstrdup(json_string_value(session));
    c->own_session = true;
    return 0;
}

static void log_out(struct conversation *c)
{
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    if (!c->own_session)
        return;
    AUTO_JSON json_t *params = json_pack("[s]", c->session), *nothing = NULL;
    const char *method = c->alone ? "session.local_logout" : "session.logout";
    if (local_call(c->server, c->peer, method, params, &nothing, &cause) < 0)
        log_info("cli", "a session could not be closed", "error", cause.code);
}

static int api_call(void *ctx, const char *method, json_t *params, const char *const *keep, json_t **result,
                    struct xe_err *err)
{
    struct conversation *c = ctx;
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    (void)keep;
    if (c->thin.broken)
        return lost(err);
    if (log_in(c, err) < 0)
        return -1;
    AUTO_JSON json_t *all = json_array();
    json_array_append_new(all, json_string(c->other ? c->other : c->session));
    json_array_extend(all, params);
    return local_call(c->server, c->peer, method, all, result, &cause) < 0 ? failed(&cause, err) : 0;
}

static const char *api_session(void *ctx, struct xe_err *err)
{
    struct conversation *c = ctx;
    return log_in(c, err) < 0 ? NULL : c->session;
}

static void api_log_in_locally(void *ctx)
{
    ((struct conversation *)ctx)->alone = true;
}

static void api_use_session(void *ctx, const char *session)
{
    ((struct conversation *)ctx)->other = session;
}

static void api_print(void *ctx, const char *text, size_t len)
{
    thin_print(&((struct conversation *)ctx)->thin, text, len);
}

static void api_print_error(void *ctx, const char *text, size_t len)
{
    thin_print_error(&((struct conversation *)ctx)->thin, text, len);
}

static int api_prompt(void *ctx, const char *question, char **answer, struct xe_err *err)
{
    struct conversation *c = ctx;
    return thin_prompt(&c->thin, question, LINE_MAX, answer) == THIN_DONE ? 0 : lost(err);
}

/* What came of something that the client was asked to do; `what` went wrong if it could not. */
static int outcome(enum thin_result result, const char *what, const char *name, struct xe_err *err)
{
    if (result == THIN_REFUSED) {
        xe_err_set(err, XE_ERR_CLI, "%s%s", what, name);
        return -1;
    }
    return result == THIN_BROKEN ? lost(err) : 0;
}

static int api_read_file(void *ctx, const char *name, char **data, size_t *len, struct xe_err *err)
{
    struct conversation *c = ctx;
    return outcome(thin_load(&c->thin, name, FILE_MAX, data, len), "the client cannot read the file ", name,
                   err);
}

/* The path with the session that the client shall use on its own connection. */
static char *with_session(const struct conversation *c, const char *path)
{
    return xasprintf("%s%csession_id=%s", path, strchr(path, '?') ? '&' : '?', c->session);
}

static int api_upload(void *ctx, const char *filename, const char *path, xe_progress_fn *progress, void *arg,
                      struct xe_err *err)
{
    struct conversation *c = ctx;
    (void)progress;
    (void)arg;
    if (log_in(c, err) < 0)
        return -1;
    AUTO_SECRET char *url = with_session(c, path);
    return outcome(thin_put(&c->thin, filename, url), "the upload failed: ", filename, err);
}

static int api_download(void *ctx, const char *filename, const char *path, xe_progress_fn *progress,
                        void *arg, struct xe_err *err)
{
    struct conversation *c = ctx;
    (void)progress;
    (void)arg;
    if (log_in(c, err) < 0)
        return -1;
    AUTO_SECRET char *url = with_session(c, path);
    return outcome(thin_get(&c->thin, filename, url), "the download failed: ", filename, err);
}

static int api_console(void *ctx, const char *path, struct xe_err *err)
{
    struct conversation *c = ctx;
    if (log_in(c, err) < 0)
        return -1;
    AUTO_SECRET char *url = with_session(c, path);
    return outcome(thin_connect(&c->thin, url), "the console could not be opened", "", err);
}

/* All of REST that is there for a classic client. */
static int api_rest(void *ctx, const char *method, const char *path, json_t *body, json_t **result,
                    struct xe_err *err)
{
    struct conversation *c = ctx;
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    bool token = streq(path, "/api/v1/join-tokens");
    if (!streq(method, "POST") || (!token && !streq(path, "/api/v1/why"))) {
        xe_err_set(err, XE_ERR_CLI, "this command needs Corral's own xe");
        return -1;
    }
    if (log_in(c, err) < 0)
        return -1;
    if (!doors_try_enter(c->server)) {
        xe_err_set(err, XE_ERR_TRANSPORT, "The server is stopping.");
        return -1;
    }
    AUTO_SESSION struct session *session = gate_session(c->server, c->session, &cause);
    json_t *answer = !session ? NULL
                     : token  ? join_token_make(c->server, session, &cause)
                              : why_answer(c->server, session, body, &cause);
    doors_leave(c->server);
    if (!answer)
        return failed(&cause, err);
    *result = answer;
    return 0;
}

/* ---- the command ---- */

static void converse(void *arg)
{
    struct conversation *c = arg;
    const struct xe_api api = {.ctx = c,
                               .call = api_call,
                               .session = api_session,
                               .log_in_locally = api_log_in_locally,
                               .use_session = api_use_session,
                               .print = api_print,
                               .print_error = api_print_error,
                               .prompt = api_prompt,
                               .read_file = api_read_file,
                               .upload = api_upload,
                               .download = api_download,
                               .console = api_console,
                               .rest = api_rest};
    if (thin_greet(&c->thin) == 0)
        thin_exit(&c->thin, xe_run(&api, (int)c->word_count, c->words));
    log_out(c);
    conversation_free(c);
}

/* Server thread. */
static void taken_over(void *arg, struct stream *stream, const char *early, size_t early_len)
{
    struct conversation *c = arg;
    struct server *server = c->server;
    c->stream = stream;
    bool inside = stream && doors_try_enter(server);
    if (!inside) {
        conversation_free(c);
        return;
    }
    c->thin = thin_init(stream, &server->closing);
    if (early_len)
        buf_add(&c->thin.in, early, early_len);
    if (worker_submit(server->cli_workers, converse, c) < 0) {
        log_warn("cli", "refused a command line: too many run at once", "from", c->peer);
        conversation_free(c);
    }
    /* From here on the conversation may be over. */
    doors_leave(server);
}

static void body_read(struct http_request *req, char *data, size_t len, void *arg)
{
    AUTO_BUF struct buf hello = BUF_INIT;
    struct conversation *c = xcalloc(1, sizeof(*c));
    c->server = arg;
    c->user = "root";
    c->password = "null";
    snprintf(c->peer, sizeof(c->peer), "%s", http_request_peer(req));
    c->local_root = http_request_is_local_root(req);
    c->text = xstrndup(data, len);
    c->text_len = strlen(c->text);
    if (c->text_len != len || take_words(c) < 0) {
        http_answer_error(req, 400, "the words of a command line, one a line, without NUL");
        conversation_free(c);
        return;
    }
    thin_write_hello(&hello);
    http_take_over(req, hello.data, hello.len, taken_over, c);
}

void door_cli(struct server *server, struct http_request *req)
{
    http_read_body(req, BODY_MAX, body_read, server);
}
