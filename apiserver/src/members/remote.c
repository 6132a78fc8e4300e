/* One HTTPS client to another server. */
#include "remote.h"

#include "../server.h"
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/errors.h>
#include <stdio.h>

#define ANSWER_MAX ((size_t)64 << 20)
#define COPY_MAX ((size_t)1 << 30)
#define CALL_TIMEOUT_MS 60000
#define CONNECT_MS 15000 /* to a server that may be busy: a person waits for this once */
#define STALL_MS 600000  /* the other side may have to make room first */

struct remote {
    struct http_client *http;
    char *secret;  /* of the pool; NULL: none */
    char *session; /* NULL: not logged in */
    char *host;    /* of another pool, for errors; NULL: of one that is, or becomes, this pool */
    bool lost;     /* the last call had no answer */
    const _Atomic bool *cancel;
};

/* `text` NULL: nothing any more. */
static void keep(char **slot, const char *text)
{
    secret_free_cleanup(slot);
    *slot = text ? xstrdup(text) : NULL;
}

static struct remote *make(const struct http_client_config *config)
{
    struct remote *remote = xcalloc(1, sizeof(*remote));
    remote->http = http_client_new(config);
    return remote;
}

static char *where_is(const struct peer *peer)
{
    return xasprintf(strchr(peer->address, ':') ? "[%s]:%d" : "%s:%d", peer->address, peer->port);
}

struct remote *remote_member(const char *data_dir, const struct peer *peer)
{
    AUTO_FREE char *ca = xasprintf("%s/pki/ca.pem", data_dir);
    AUTO_FREE char *secret_path = xasprintf("%s/pool-secret", data_dir);
    AUTO_FREE char *url = xasprintf("https://server.corral.internal:%d", peer->port);
    AUTO_FREE char *where = where_is(peer);
    AUTO_SECRET char *secret = file_read(secret_path, 4096, NULL);
    if (!secret) {
        log_error("members", "the pool's secret cannot be read", "file", secret_path);
        return NULL;
    }
    secret[strcspn(secret, "\r\n")] = '\0';
    const struct http_client_config config = {
        .url = url, .connect_to = where, .ca_file = ca, .connect_timeout_ms = 3000};
    struct remote *remote = make(&config);
    remote_set_secret(remote, secret);
    return remote;
}

struct remote *remote_stranger(const struct peer *peer, const char *fingerprint,
                               char root[static SHA256_TEXT_SIZE], struct api_err *err)
{
    AUTO_FREE char *where = where_is(peer);
    AUTO_FREE char *url = xasprintf("https://%s", where);
    struct http_error error;
    if (fingerprint) {
        snprintf(root, SHA256_TEXT_SIZE, "%s", fingerprint);
    } else if (http_probe_root(url, where, CONNECT_MS, root, &error) < 0) {
        log_warn("members", "the other pool does not answer", "at", where, "cause", error.text);
        err_joining_host_connection_failed(err);
        return NULL;
    }
    const struct http_client_config config = {.url = url,
                                              .connect_to = where,
                                              .root_sha256 = root,
                                              .no_name_check = true,
                                              .connect_timeout_ms = CONNECT_MS};
    return make(&config);
}

struct remote *remote_pool(const char *url, const char *leaf_sha256, const char *ca_file, const char *host,
                           const char *session, struct api_err *err)
{
    static const char scheme[] = "https://";
    const char *authority = url + sizeof(scheme) - 1;
    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0 || strcspn(authority, "/?#@ \\") == 0) {
        err_invalid_value(err, "dest", url);
        return NULL;
    }
    AUTO_FREE char *base = xstrndup(url, sizeof(scheme) - 1 + strcspn(authority, "/?#@ \\"));
    const struct http_client_config config = {.url = base, .ca_file = ca_file, .leaf_sha256 = leaf_sha256};
    struct remote *remote = make(&config);
    remote->host = xstrdup(host);
    keep(&remote->session, session);
    return remote;
}

bool remote_is_lost(const struct remote *remote)
{
    return remote->lost;
}

/* Makes a call of the API; `what` is for the log. 0, or -1 with *err: there was no answer. */
static int call_api(struct remote *remote, const char *what, const struct http_call *call,
                    struct http_reply *reply, struct api_err *err)
{
    struct http_error error;
    remote->lost = http_client_call(remote->http, call, reply, &error) < 0;
    if (!remote->lost)
        return 0;
    log_warn("members", "another server does not answer", "call", what, "cause", error.text);
    return remote->host ? err_cannot_contact_host(err, remote->host)
                        : err_joining_host_connection_failed(err);
}

void remote_free(struct remote *remote)
{
    if (!remote)
        return;
    http_client_free(remote->http);
    secret_free_cleanup(&remote->secret);
    secret_free_cleanup(&remote->session);
    free(remote->host);
    free(remote);
}

void remote_free_cleanup(struct remote **remote)
{
    remote_free(*remote);
}

void remote_set_cancel(struct remote *remote, const _Atomic bool *cancel)
{
    remote->cancel = cancel;
}

void remote_set_secret(struct remote *remote, const char *secret)
{
    keep(&remote->secret, secret);
}

/* ---- the API ---- */

static json_t *take_error(const json_t *error, struct api_err *err)
{
    const char *code, *params[API_ERR_MAX_PARAMS];
    size_t count = 0;
    const json_t *data = json_object_get(error, "data");
    if (!json_get_string(error, "message", &code)) {
        err_joining_host_service_failed(err);
        return NULL;
    }
    for (; count < json_array_size(data) && count < API_ERR_MAX_PARAMS; count++) {
        const char *text = json_string_value(json_array_get(data, count));
        params[count] = text ? text : "";
    }
    const struct error_desc *desc = error_find(code);
    if (desc && desc->param_count == count)
        api_err_set(err, desc, params, count);
    else
        api_err_set_code(err, code, params, count);
    return NULL;
}

/* One message of the API by JSON-RPC; `params` moves. The result (decref), or NULL with the error that the
 * other side gave, or that there was no answer. */
static json_t *remote_call(struct remote *remote, const char *name, json_t *params, struct api_err *err)
{
    AUTO_JSON json_t *request =
        json_pack("{sssssosi}", "jsonrpc", "2.0", "method", name, "params", params, "id", 1);
    AUTO_BUF struct buf body = BUF_INIT;
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct json_error bad;
    json_write(&body, request);
    const struct http_call call = {.path = "/jsonrpc",
                                   .body = body.data,
                                   .body_len = body.len,
                                   .timeout_ms = CALL_TIMEOUT_MS,
                                   .body_max = ANSWER_MAX};
    int rc = call_api(remote, name, &call, &reply, err);
    secret_wipe(body.data, body.len);
    if (rc < 0)
        return NULL;
    AUTO_JSON json_t *answer = reply.body.len ? json_parse(reply.body.data, reply.body.len, &bad) : NULL;
    json_t *result = json_object_get(answer, "result");
    if (!result || json_object_get(answer, "error"))
        return take_error(json_object_get(answer, "error"), err);
    return json_incref(result);
}

int remote_login(struct remote *remote, const char *user, const char *password, struct api_err *err)
{
    AUTO_JSON json_t *session = remote_call(remote, "session.login_with_password",
                                            json_pack("[ssss]", user, password, "1.0", "pool-join"), err);
    if (!session)
        return -1;
    if (!json_is_string(session))
        return err_joining_host_service_failed(err);
    keep(&remote->session, json_string_value(session));
    return 0;
}

json_t *remote_ask(struct remote *remote, const char *name, json_t *params, struct api_err *err)
{
    json_array_insert_new(params, 0, json_string(remote->session ? remote->session : ""));
    return remote_call(remote, name, params, err);
}

void remote_logout(struct remote *remote)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (!remote || !remote->session)
        return;
    json_decref(remote_ask(remote, "session.logout", json_array(), &err));
    keep(&remote->session, NULL);
}

/* ---- between members ---- */

static char *cookie_of(const struct remote *remote)
{
    return xasprintf("pool_secret=%s", remote->secret ? remote->secret : "");
}

json_t *remote_tell(struct remote *remote, const char *action, json_t *body, int64_t timeout_ms,
                    unsigned *status)
{
    AUTO_JSON json_t *request = body;
    AUTO_BUF struct buf text = BUF_INIT;
    AUTO_SECRET char *cookie = cookie_of(remote);
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct http_error error;
    struct json_error bad;
    json_object_set_new(request, "action", json_string(action));
    json_write(&text, request);
    const struct http_header headers[] = {{"Cookie", cookie}, {NULL, NULL}};
    const struct http_call call = {.path = "/api/v1/pool/members",
                                   .headers = headers,
                                   .body = text.data,
                                   .body_len = text.len,
                                   .timeout_ms = timeout_ms,
                                   .body_max = ANSWER_MAX,
                                   .cancel = remote->cancel};
    if (status)
        *status = 0;
    if (http_client_call(remote->http, &call, &reply, &error) < 0) {
        log_debug("members", "another server does not answer", "action", action, "cause", error.text);
        return NULL;
    }
    if (status)
        *status = reply.status;
    if (reply.status != 200) {
        log_warn("members", "another server has refused", "action", action, "status", LOG_INT(reply.status),
                 "answer", reply.body.len ? reply.body.data : "");
        return NULL;
    }
    return reply.body.len ? json_parse(reply.body.data, reply.body.len, &bad) : NULL;
}

int remote_get(struct remote *remote, const char *path, int64_t timeout_ms, struct http_reply *reply,
               struct http_error *error)
{
    AUTO_SECRET char *cookie = cookie_of(remote);
    const struct http_header headers[] = {{"Cookie", cookie}, {NULL, NULL}};
    const struct http_call call = {.path = path,
                                   .headers = headers,
                                   .timeout_ms = timeout_ms,
                                   .body_max = COPY_MAX,
                                   .cancel = remote->cancel};
    return http_client_call(remote->http, &call, reply, error);
}

static char *bearer_of(const struct remote *remote)
{
    return xasprintf("Bearer %s", remote->session ? remote->session : "");
}

/* {"error": code, "params": [...]} of a door. */
static void take_refusal(const struct http_reply *reply, struct api_err *err)
{
    struct json_error bad;
    const char *code;
    AUTO_JSON json_t *answer = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    if (!json_get_string(answer, "error", &code)) {
        err_joining_host_service_failed(err);
        return;
    }
    AUTO_JSON json_t *error =
        json_pack("{ssso*}", "message", code, "data", json_deep_copy(json_object_get(answer, "params")));
    take_error(error, err);
}

char *remote_pool_secret(struct remote *remote, struct api_err *err)
{
    AUTO_SECRET char *bearer = bearer_of(remote);
    const struct http_header headers[] = {{"Authorization", bearer}, {NULL, NULL}};
    const struct http_call call = {
        .path = "/api/v1/pool/secret", .headers = headers, .timeout_ms = CALL_TIMEOUT_MS};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct json_error bad;
    const char *secret;
    if (call_api(remote, call.path, &call, &reply, err) < 0)
        return NULL;
    AUTO_JSON json_t *answer =
        reply.status == 200 && reply.body.len ? json_parse(reply.body.data, reply.body.len, &bad) : NULL;
    char *result = json_get_string(answer, "secret", &secret) ? xstrdup(secret) : NULL;
    if (!result)
        take_refusal(&reply, err);
    if (reply.body.len)
        secret_wipe(reply.body.data, reply.body.len);
    return result;
}

int remote_put(struct remote *remote, const char *path, ssize_t (*source)(void *arg, char *to, size_t max),
               int64_t len, void *arg, const _Atomic bool *cancel, struct api_err *err)
{
    AUTO_SECRET char *cookie = xasprintf("session_id=%s", remote->session ? remote->session : "");
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    const struct http_header headers[] = {{"Cookie", cookie}, {NULL, NULL}};
    const struct http_call call = {.method = "PUT",
                                   .path = path,
                                   .headers = headers,
                                   .content_type = "application/octet-stream",
                                   .source = source,
                                   .source_len = len,
                                   .arg = arg,
                                   .timeout_ms = -1,
                                   .stall_ms = STALL_MS,
                                   .cancel = cancel};
    if (call_api(remote, call.path, &call, &reply, err) < 0)
        return -1;
    if (reply.status == 200)
        return 0;
    take_refusal(&reply, err);
    return -1;
}

char *remote_join_token(struct remote *remote, struct api_err *err)
{
    AUTO_SECRET char *bearer = bearer_of(remote);
    const struct http_header headers[] = {{"Authorization", bearer}, {NULL, NULL}};
    const struct http_call call = {.path = "/api/v1/join-tokens",
                                   .method = "POST",
                                   .headers = headers,
                                   .body = "",
                                   .timeout_ms = CALL_TIMEOUT_MS};
    AUTO_HTTP_REPLY struct http_reply reply = HTTP_REPLY_INIT;
    struct json_error bad;
    const char *token;
    if (call_api(remote, call.path, &call, &reply, err) < 0)
        return NULL;
    AUTO_JSON json_t *answer = reply.body.len ? json_parse(reply.body.data, reply.body.len, &bad) : NULL;
    if (reply.status != 201 || !json_get_string(answer, "token", &token)) {
        take_refusal(&reply, err);
        return NULL;
    }
    return xstrdup(token);
}
