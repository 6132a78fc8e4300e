/* Joining a pool, once: with the token the agent gets its certificate and the pool's CA. The server is
 * trusted on this first contact only if its chain ends in the root whose fingerprint is in the token.
 *
 * STATE/pki/ then has: ca.pem, host.pem (leaf, then CA), host.key (0600), host-uuid, listen (ADDRESS:PORT).
 * A test that has a CA of its own may put these five files there instead of joining. */
#include "agent.h"
#include <arpa/inet.h>
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

static int write_file(struct agent *agent, const char *name, const char *text, struct hv_err *err)
{
    char *path AUTO_FREE = agent_path(agent, name);
    if (file_write_atomic(path, text, strlen(text), 0600) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "%s cannot be written: %s", name, strerror(errno));
    return 0;
}

/* The request's body; the caller frees. */
static char *request_body(struct agent *agent, const char *token, const char *csr)
{
    struct buf body = BUF_INIT;
    buf_add_str(&body, "{\"token\":");
    json_write_string(&body, token);
    buf_add_str(&body, ",\"csr\":");
    json_write_string(&body, csr);
    buf_add_str(&body, ",\"address\":");
    json_write_string(&body, agent->address);
    buf_printf(&body, ",\"port\":%d,\"facts\":", agent->port);
    wire_encode(&host_facts_desc, &agent->facts, &body);
    buf_add_char(&body, '}');
    return buf_take(&body);
}

static int ask(struct agent *agent, const char *fingerprint, const char *body, struct http_reply *reply,
               struct hv_err *err)
{
    size_t len = strlen(agent->options.join_url);
    while (len > 0 && agent->options.join_url[len - 1] == '/')
        len--;
    char *url AUTO_FREE = xstrndup(agent->options.join_url, len);
    struct http_client_config config = {.url = url, .root_sha256 = fingerprint};
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
        return hv_fail(err, HV_ERR_KIND_UNREACHABLE, "The pool's server at %s cannot be used: %s (%s)", url,
                       http_failure_name(error.kind), error.text);
    if (reply->status == 200)
        return 0;
    struct json_error bad;
    const char *text = NULL;
    json_t *json AUTO_JSON = reply->body.len ? json_parse(reply->body.data, reply->body.len, &bad) : NULL;
    json_get_string(json, "error", &text);
    return hv_fail(err, HV_ERR_KIND_DENIED, "The pool did not accept the host (%u): %s", reply->status,
                   text ? text : "no reason was given");
}

static int take_answer(struct agent *agent, const struct http_reply *reply, struct hv_err *err)
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
    char *key AUTO_FREE = agent_path(agent, "pki/host.key");
    if (pki_check(certificate, ca, PKI_SERVER, name, &error) < 0)
        return hv_fail(err, HV_ERR_KIND_DENIED, "The certificate from the pool is not right: %s", error.text);
    if (!pki_key_matches(certificate, key))
        return hv_fail(err, HV_ERR_KIND_DENIED, "The certificate from the pool is for another key.");
    char *chain AUTO_FREE =
        strstr(certificate, ca) ? xstrdup(certificate) : xasprintf("%s\n%s", certificate, ca);
    char *listen AUTO_FREE =
        xasprintf(strchr(agent->address, ':') ? "[%s]:%d\n" : "%s:%d\n", agent->address, agent->port);
    char *line AUTO_FREE = xasprintf("%s\n", uuid_text);
    /* host-uuid last: with it, everything is there. */
    if (write_file(agent, "pki/ca.pem", ca, err) < 0 || write_file(agent, "pki/host.pem", chain, err) < 0 ||
        write_file(agent, "pki/listen", listen, err) < 0 || write_file(agent, "pki/host-uuid", line, err) < 0)
        return -1;
    log_info("join", "the host joined a pool", "host", uuid_text, "server", agent->options.join_url);
    return 0;
}

static int join_now(struct agent *agent, struct hv_err *err)
{
    char *folder AUTO_FREE = agent_path(agent, "pki"), *key AUTO_FREE = agent_path(agent, "pki/host.key");
    char *token AUTO_SECRET = file_read(agent->options.token_file, TOKEN_MAX, NULL);
    struct pki_error error;
    if (!token)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The token file cannot be read: %s", strerror(errno));
    token[strcspn(token, " \r\n")] = '\0';
    const char *dot = strrchr(token, '.');
    if (!dot || strlen(dot + 1) != SHA256_TEXT_SIZE - 1)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "The token file holds no join token.");
    if (set_listen(agent, agent->options.listen, err) < 0)
        return -1;
    if (agent->port == 0 && free_port(agent->address, &agent->port) < 0)
        return hv_fail(err, HV_ERR_KIND_BAD_ARGUMENT, "There is no port to listen on at %s: %s",
                       agent->address, strerror(errno));
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return hv_fail(err, HV_ERR_KIND_IO, "The folder of keys cannot be made: %s", strerror(errno));
    char *csr AUTO_FREE = NULL;
    if (pki_create_request("corral host", key, &csr, &error) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "A key cannot be made: %s", error.text);
    char *body AUTO_SECRET = request_body(agent, token, csr);
    struct http_reply reply AUTO_HTTP_REPLY = HTTP_REPLY_INIT;
    if (ask(agent, dot + 1, body, &reply, err) < 0)
        return -1;
    return take_answer(agent, &reply, err);
}

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
