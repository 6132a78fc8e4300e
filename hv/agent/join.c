/* Joining a pool, once: with the token the agent gets its certificate and the pool's CA. The server is
 * trusted on this first contact only if its chain ends in the root whose fingerprint is in the token.
 *
 * STATE/pki/ then has: ca.pem, host.pem (leaf, then CA), host.key (0600), host-uuid, listen (ADDRESS:PORT).
 * A test that has a CA of its own may put these five files there instead of joining. */
#include "agent.h"
#include <arpa/inet.h>
#include <base/failpoint.h>
#include <base/file.h>
#include <base/http_client.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>

#define TOKEN_MAX 512
#define FOLDER "pki"
#define FOLDER_NEXT "pki.new" /* of the pool that the host is about to belong to */
#define FOLDER_LAST "pki.old" /* of the pool that it has left */
/* Whatever names its certificate has for people, this one is in it for the pool's own parts. */
#define SERVER_URL "https://server.corral.internal:"

/* One joining: where to, and what it is to leave in which folder. */
struct joining {
    const char *folder;
    const char *url;
    const char *connect_to; /* host and port */
    const char *token;
    const char *uuid; /* the host keeps it; NULL: it has none yet */
};

char *agent_path(const struct agent *agent, const char *name)
{
    return xasprintf("%s/%s", agent->options.state_dir, name);
}

static char *read_line(const struct agent *agent, const char *name)
{
    char *path AUTO_FREE = agent_path(agent, name);
    char *text = file_read(path, 4096, NULL);
    if (text)
        text[strcspn(text, "\r\n")] = '\0';
    return text;
}

/* "ADDRESS:PORT" or "[ADDRESS]:PORT" into the agent. */
static int set_listen(struct agent *agent, const char *text, struct hv_err *err)
{
    const char *colon = strrchr(text, ':');
    char *end;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || end == colon + 1 || *end || port < 0 || port > 65535)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "--listen is not ADDRESS:PORT.");
    size_t len = (size_t)(colon - text);
    bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
    free(agent->address);
    agent->address = bracketed ? xstrndup(text + 1, len - 2) : xstrndup(text, len);
    agent->port = (int)port;
    return 0;
}

bool join_done(struct agent *agent)
{
    static const char *const needed[] = {"pki/ca.pem", "pki/host.pem", "pki/host.key", "pki/host-uuid"};
    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        char *path AUTO_FREE = agent_path(agent, needed[i]);
        if (access(path, R_OK) < 0)
            return false;
    }
    return true;
}

/* A port that is free now: the pool has to be told one before there is a certificate to serve with. */
static int free_port(const char *address, int *port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    bool is_v6 = inet_pton(AF_INET6, address, &v6.sin6_addr) == 1;
    if (!is_v6 && inet_pton(AF_INET, address, &v4.sin_addr) != 1) {
        errno = EINVAL;
        return -1;
    }
    struct sockaddr *name = is_v6 ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t len = is_v6 ? sizeof(v6) : sizeof(v4);
    int fd AUTO_CLOSE = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, name, len) < 0 || getsockname(fd, name, &len) < 0)
        return -1;
    *port = ntohs(is_v6 ? v6.sin6_port : v4.sin_port);
    return 0;
}

static int load_identity(struct agent *agent, struct hv_err *err)
{
    struct ref uuid;
    free(agent->host_uuid);
    agent->host_uuid = read_line(agent, "pki/host-uuid");
    char *listen AUTO_FREE = read_line(agent, "pki/listen");
    if (!agent->host_uuid || !uuid_parse(agent->host_uuid, &uuid))
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The state folder has no usable identity (pki/host-uuid).");
    /* The pool knows the agent by the address it joined with. */
    if (set_listen(agent, agent->options.listen, err) < 0)
        return -1;
    if (agent->port == 0 && listen && set_listen(agent, listen, err) < 0)
        return -1;
    return 0;
}

static char *path_in(const struct agent *agent, const char *folder, const char *name)
{
    return xasprintf("%s/%s/%s", agent->options.state_dir, folder, name);
}

static int write_file(struct agent *agent, const struct joining *j, const char *name, const char *text,
                      struct hv_err *err)
{
    char *path AUTO_FREE = path_in(agent, j->folder, name);
    if (file_write_atomic(path, text, strlen(text), 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "%s cannot be written: %s", name, strerror(errno));
    return 0;
}

/* The request's body; the caller frees. */
static char *request_body(struct agent *agent, const struct joining *j, const char *csr)
{
    struct buf body = BUF_INIT;
    buf_add_str(&body, "{\"token\":");
    json_write_string(&body, j->token);
    if (j->uuid) {
        buf_add_str(&body, ",\"uuid\":");
        json_write_string(&body, j->uuid);
    }
    buf_add_str(&body, ",\"csr\":");
    json_write_string(&body, csr);
    buf_add_str(&body, ",\"address\":");
    json_write_string(&body, agent->address);
    buf_printf(&body, ",\"port\":%d,\"facts\":", agent->port);
    pthread_mutex_lock(&agent->facts_lock);
    wire_encode(&host_facts_desc, &agent->facts, &body);
    pthread_mutex_unlock(&agent->facts_lock);
    buf_add_char(&body, '}');
    return buf_take(&body);
}

static int ask(const struct joining *j, const char *fingerprint, const char *body, struct http_reply *reply,
               struct hv_err *err)
{
    struct http_client_config config = {
        .url = j->url, .connect_to = j->connect_to, .root_sha256 = fingerprint, .connect_timeout_ms = 30000};
    struct http_client *client = http_client_new(&config);
    struct http_call call = {.path = "/api/v1/hosts/join",
                             .body = body,
                             .body_len = strlen(body),
                             .timeout_ms = 60000,
                             .body_max = 1 << 20};
    struct http_error error;
    int outcome = http_client_call(client, &call, reply, &error);
    http_client_free(client);
    if (outcome < 0)
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The pool's server at %s cannot be used: %s (%s)",
                       j->connect_to, http_failure_name(error.kind), error.text);
    if (reply->status == 200)
        return 0;
    struct json_error bad;
    const char *text = NULL;
    json_t *json AUTO_JSON = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    json_get_string(json, "error", &text);
    /* Not "denied": that would say that who asks the agent may not. */
    return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The pool did not accept the host (%u): %s", reply->status,
                   text ? text : "no reason was given");
}

static int take_answer(struct agent *agent, const struct joining *j, const struct http_reply *reply,
                       struct hv_err *err)
{
    struct json_error bad;
    const char *uuid_text, *certificate, *ca;
    struct ref uuid;
    struct pki_error error;
    json_t *json AUTO_JSON = json_parse(reply->body.data ? reply->body.data : "", reply->body.len, &bad);
    if (!json || !json_get_string(json, "host_uuid", &uuid_text) || !uuid_parse(uuid_text, &uuid) ||
        !json_get_string(json, "certificate", &certificate) || !json_get_string(json, "ca", &ca))
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "The pool's answer to the join cannot be used.");
    char *name AUTO_FREE = xasprintf("%s.host.corral.internal", uuid_text);
    char *key AUTO_FREE = path_in(agent, j->folder, "host.key");
    if (pki_check(certificate, ca, PKI_SERVER, name, &error) < 0)
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The certificate from the pool is not right: %s",
                       error.text);
    if (!pki_key_matches(certificate, key))
        return hv_fail(err, HV_ERR_KIND_BAD_STATE, "The certificate from the pool is for another key.");
    char *chain AUTO_FREE =
        strstr(certificate, ca) ? xstrdup(certificate) : xasprintf("%s\n%s", certificate, ca);
    char *listen AUTO_FREE =
        xasprintf(strchr(agent->address, ':') ? "[%s]:%d\n" : "%s:%d\n", agent->address, agent->port);
    char *line AUTO_FREE = xasprintf("%s\n", uuid_text);
    /* host-uuid last: with it, everything is there. */
    if (write_file(agent, j, "ca.pem", ca, err) < 0 || write_file(agent, j, "host.pem", chain, err) < 0 ||
        write_file(agent, j, "listen", listen, err) < 0 || write_file(agent, j, "host-uuid", line, err) < 0)
        return -1;
    log_info("join", "a pool has accepted the host", "host", uuid_text, "server", j->connect_to);
    return 0;
}

/* With a port to listen on that is settled. */
static int join(struct agent *agent, const struct joining *j, struct hv_err *err)
{
    char *folder AUTO_FREE = agent_path(agent, j->folder),
                 *key AUTO_FREE = path_in(agent, j->folder, "host.key");
    struct pki_error error;
    const char *dot = strrchr(j->token, '.');
    if (!dot || strlen(dot + 1) != SHA256_TEXT_SIZE - 1)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "That is no join token.");
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The folder of keys cannot be made: %s", strerror(errno));
    char *csr AUTO_FREE = NULL;
    if (pki_create_request("corral host", key, &csr, &error) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "A key cannot be made: %s", error.text);
    char *body AUTO_SECRET = request_body(agent, j, csr);
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    if (ask(j, dot + 1, body, &reply, err) < 0)
        return -1;
    return take_answer(agent, j, &reply, err);
}

static bool is_port(const char *text, size_t len)
{
    char digits[8] = "";
    if (len == 0 || len >= sizeof(digits) || strspn(text, "0123456789") < len)
        return false;
    memcpy(digits, text, len);
    return atoi(digits) > 0 && atoi(digits) < 65536;
}

/* "https://host:port" as host and port, each the caller's. */
static int read_url(const char *text, char **host, char **port, struct hv_err *err)
{
    static const char scheme[] = "https://";
    const char *at = strncmp(text, scheme, sizeof(scheme) - 1) == 0 ? text + sizeof(scheme) - 1 : "";
    size_t len = strcspn(at, "/"), host_len = *at == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":/");
    bool has_port = host_len < len && at[host_len] == ':';
    if (host_len == 0 || host_len > len || at[len + strspn(at + len, "/")] ||
        (has_port ? !is_port(at + host_len + 1, len - host_len - 1) : host_len != len))
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT,
                       "A pool's server is named as https://192.168.1.10:8443, not as '%s'.", text);
    *host = xstrndup(at, host_len);
    *port = has_port ? xstrndup(at + host_len + 1, len - host_len - 1) : xstrdup("443");
    return 0;
}

static int join_now(struct agent *agent, struct hv_err *err)
{
    char *host AUTO_FREE = NULL, *port AUTO_FREE = NULL;
    if (read_url(agent->options.join_url, &host, &port, err) < 0)
        return -1;
    char *token AUTO_SECRET = file_read(agent->options.token_file, TOKEN_MAX, NULL);
    if (!token)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The token file cannot be read: %s", strerror(errno));
    token[strcspn(token, " \r\n")] = '\0';
    if (set_listen(agent, agent->options.listen, err) < 0)
        return -1;
    if (agent->port == 0 && free_port(agent->address, &agent->port) < 0)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "There is no port to listen on at %s: %s",
                       agent->address, strerror(errno));
    char *url AUTO_FREE = xasprintf(SERVER_URL "%s", port), *where AUTO_FREE = xasprintf("%s:%s", host, port);
    const struct joining j = {.folder = FOLDER, .url = url, .connect_to = where, .token = token};
    return join(agent, &j, err);
}

/* ---- further pools ---- */

/* The few files of a folder of keys, and the folder. Nothing there is fine. */
static int remove_folder(struct agent *agent, const char *folder, struct hv_err *err)
{
    static const char *const names[] = {"host-uuid", "ca.pem",   "host.pem", "host.key",
                                        "next.pem",  "next.key", "listen",   "term"};
    char *path AUTO_FREE = agent_path(agent, folder);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *file AUTO_FREE = path_in(agent, folder, names[i]);
        if (unlink(file) < 0 && errno != ENOENT && errno != ENOTDIR)
            return hv_fail(err, HV_ERR_KIND_IO, "An old key cannot be removed: %s", strerror(errno));
    }
    if (rmdir(path) < 0 && errno != ENOENT)
        return hv_fail(err, HV_ERR_KIND_IO, "A folder of old keys cannot be removed: %s", strerror(errno));
    return 0;
}

static int move_folder(struct agent *agent, const char *from, const char *to, struct hv_err *err)
{
    char *a AUTO_FREE = agent_path(agent, from), *b AUTO_FREE = agent_path(agent, to);
    if (rename(a, b) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "A folder of keys cannot be renamed: %s", strerror(errno));
    return 0;
}

static bool is_prepared(struct agent *agent)
{
    char *uuid AUTO_FREE = path_in(agent, FOLDER_NEXT, "host-uuid");
    return access(uuid, R_OK) == 0;
}

int join_prepare(struct agent *agent, const char *address, int port, const char *token, struct hv_err *err)
{
    char *url AUTO_FREE = xasprintf(SERVER_URL "%d", port);
    char *where AUTO_FREE = xasprintf(strchr(address, ':') ? "[%s]:%d" : "%s:%d", address, port);
    const struct joining j = {
        .folder = FOLDER_NEXT, .url = url, .connect_to = where, .token = token, .uuid = agent->host_uuid};
    if (remove_folder(agent, FOLDER_NEXT, err) < 0)
        return -1;
    return join(agent, &j, err);
}

int join_switch(struct agent *agent, bool to_none, struct hv_err *err)
{
    if (!to_none && !is_prepared(agent))
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "No other pool was prepared.");
    if (remove_folder(agent, FOLDER_LAST, err) < 0)
        return -1;
    if (to_none && remove_folder(agent, FOLDER_NEXT, err) < 0)
        return -1;
    if (move_folder(agent, FOLDER, FOLDER_LAST, err) < 0)
        return -1;
    failpoint_of("agent-left-pool", to_none ? "none" : "next");
    return to_none ? 0 : move_folder(agent, FOLDER_NEXT, FOLDER, err);
}

void join_repair(struct agent *agent)
{
    char *now AUTO_FREE = agent_path(agent, FOLDER);
    struct hv_err err;
    if (access(now, F_OK) < 0 && is_prepared(agent) && move_folder(agent, FOLDER_NEXT, FOLDER, &err) < 0)
        log_error("join", "the change to another pool cannot be ended", "reason", err.text);
}

int agent_pool_prepare(struct agent *agent, struct agent_op *op, const struct hv_pool_prepare_args *args,
                       struct hv_pool_prepare_result *result, struct hv_err *err)
{
    (void)op;
    (void)result;
    return join_prepare(agent, args->address, (int)args->port, args->token, err);
}

int agent_pool_switch(struct agent *agent, struct agent_op *op, const struct hv_pool_switch_args *args,
                      struct hv_pool_switch_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    (void)result;
    return join_switch(agent, false, err) < 0 ? -1 : agent_end_soon(agent, true, err);
}

int agent_pool_leave(struct agent *agent, struct agent_op *op, const struct hv_pool_leave_args *args,
                     struct hv_pool_leave_result *result, struct hv_err *err)
{
    (void)op;
    (void)args;
    (void)result;
    return join_switch(agent, true, err) < 0 ? -1 : agent_end_soon(agent, false, err);
}

/* ---- at the start ---- */

int join_pool(struct agent *agent, struct hv_err *err)
{
    if (!join_done(agent)) {
        if (!agent->options.join_url || !agent->options.token_file)
            return hv_fail(
                err, HV_ERR_KIND_BAD_ARGUMENT,
                "The host belongs to no pool yet: start it with --join URL and --token-file FILE.");
        if (join_now(agent, err) < 0)
            return -1;
    }
    return load_identity(agent, err);
}
