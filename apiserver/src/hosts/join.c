/* A token is random, good for one join within an hour, and kept as its hash. It ends with the fingerprint of
 * the pool's CA, by which the joining host knows the server before it has any certificate. */
#include "join.h"

#include "../certificates.h"
#include "../gate/directory.h"
#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../gate/trail.h"
#include "../handlers/storage.h"
#include "../http/doors.h"
#include "../server.h"
#include "facts.h"
#include "hosts.h"
#include <base/clock.h>
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/pki.h>
#include <errno.h>
#include <hv/types.h>
#include <hv/wire.h>
#include <model/alerts.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

#define TOKEN_SECONDS 3600
#define TOKENS_MAX 1000
#define JOIN_BODY_MAX (64 * 1024)

struct token {
    char hash[SHA256_TEXT_SIZE];
    int64_t expires_ms;
};

struct joins {
    pthread_mutex_t lock; /* guards what follows */
    struct token tokens[TOKENS_MAX];
    size_t count;
};

struct joins *joins_new(void)
{
    struct joins *joins = xcalloc(1, sizeof(*joins));
    pthread_mutex_init(&joins->lock, NULL);
    return joins;
}

void joins_free(struct joins *joins)
{
    if (!joins)
        return;
    pthread_mutex_destroy(&joins->lock);
    free(joins);
}

static char *pki_path(const struct server *server, const char *name)
{
    return xasprintf("%s/pki/%s", server->state_dir, name);
}

/* ---- tokens ---- */

static void drop_expired(struct joins *joins)
{
    int64_t now = clock_mono_ms();
    for (size_t i = 0; i < joins->count;) {
        if (joins->tokens[i].expires_ms <= now)
            joins->tokens[i] = joins->tokens[--joins->count];
        else
            i++;
    }
}

static int token_add(struct joins *joins, const char *text)
{
    int rc = -1;
    pthread_mutex_lock(&joins->lock);
    drop_expired(joins);
    if (joins->count < TOKENS_MAX) {
        struct token *token = &joins->tokens[joins->count++];
        sha256_text(text, strlen(text), token->hash);
        token->expires_ms = clock_mono_ms() + TOKEN_SECONDS * 1000;
        rc = 0;
    }
    pthread_mutex_unlock(&joins->lock);
    return rc;
}

/* True once for a token that is good. */
static bool token_take(struct joins *joins, const char *text)
{
    char hash[SHA256_TEXT_SIZE];
    bool found = false;
    sha256_text(text, strlen(text), hash);
    pthread_mutex_lock(&joins->lock);
    drop_expired(joins);
    for (size_t i = 0; i < joins->count && !found; i++)
        if (secret_equal_text(joins->tokens[i].hash, hash)) {
            joins->tokens[i] = joins->tokens[--joins->count];
            found = true;
        }
    pthread_mutex_unlock(&joins->lock);
    return found;
}

char *join_token_new(struct server *server, struct api_err *err)
{
    AUTO_FREE char *ca_path = pki_path(server, "ca.pem");
    size_t len;
    AUTO_FREE char *ca = file_read(ca_path, 65536, &len);
    char fingerprint[SHA256_TEXT_SIZE];
    struct pki_error cause;
    if (!ca || pki_fingerprint(ca, len, fingerprint, &cause) < 0) {
        fail_internal(err, "The pool's certificate authority cannot be read.");
        return NULL;
    }
    AUTO_SECRET char *random = secret_token(24);
    char *token = xasprintf("%s.%s", random, fingerprint);
    if (token_add(server->joins, token) < 0) {
        secret_free_cleanup(&token);
        fail_internal(err, "Too many join tokens wait to be used: let some expire first.");
        return NULL;
    }
    return token;
}

json_t *join_token_make(struct server *server, const struct session *session, struct api_err *err)
{
    char expires[DATETIME_TEXT_SIZE];
    if (roles_allow(session, ACTION_post_join_tokens->permission, err) < 0)
        return NULL;
    AUTO_SECRET char *token = join_token_new(server, err);
    if (!token)
        return NULL;
    datetime_format(clock_unix_seconds() + TOKEN_SECONDS, expires);
    log_info("join", "made a join token", "user", session->user);
    return json_pack("{ssss}", "token", token, "expires", expires);
}

static void run_join_tokens(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SESSION struct session *session =
        door_admit(job->server, job->req, ACTION_post_join_tokens, &temporary);
    if (!session) {
        door_job_free(job);
        return;
    }
    AUTO_JSON json_t *token = join_token_make(job->server, session, &err);
    trail_door(job->server->trail, http_request_peer(job->req), session, ACTION_post_join_tokens->permission,
               token ? NULL : &err);
    if (!token) {
        door_fail(job->req, streq(err.code, "RBAC_PERMISSION_DENIED") ? 403 : 500, &err);
    } else {
        struct buf body = BUF_INIT;
        json_write(&body, token);
        buf_add_char(&body, '\n');
        size_t len = body.len;
        http_answer_json(job->req, 201, buf_take(&body), len);
    }
    if (temporary)
        session_close(job->server, session);
    door_job_free(job);
}

void door_join_tokens(struct server *server, struct http_request *req)
{
    door_submit(server->login_workers, server, req, NULL, run_join_tokens);
}

/* ---- joining ---- */

int join_issue_certificate(struct server *server, const char *uuid, const char *csr, char **cert, char **ca,
                           struct api_err *err)
{
    AUTO_FREE char *ca_path = pki_path(server, "ca.pem");
    AUTO_FREE char *key_path = pki_path(server, "ca.key");
    AUTO_FREE char *name = xasprintf("%s.host.corral.internal", uuid);
    const char *dns[] = {name, NULL};
    const struct pki_leaf leaf = {
        .common_name = uuid, .dns = dns, .usage = PKI_SERVER | PKI_CLIENT, .days = CERTIFICATE_DAYS};
    struct pki_error cause;
    if (pki_issue_from_request(ca_path, key_path, csr, strlen(csr), &leaf, cert, &cause) < 0) {
        log_warn("join", "a certificate request was refused", "cause", cause.text);
        return fail_internal(err, "The certificate request was refused: %s", cause.text);
    }
    *ca = file_read(ca_path, 65536, NULL);
    if (!*ca) {
        free(*cert);
        *cert = NULL;
        return fail_internal(err, "The pool's certificate authority cannot be read.");
    }
    return 0;
}

static int add_host(struct server *server, const char *uuid, const char *address, int port,
                    const struct host_facts *facts, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    bool first = tx_count(tx, CLASS_host) == 0;
    if (tx_by_uuid(tx, CLASS_host, uuid)) {
        tx_abort(tx);
        return fail_internal(err, "The pool has a host of this uuid already.");
    }
    struct ref host = host_rows_create(tx, uuid, address, port, facts);
    storage_host_joined(tx, host);
    directory_host_joined(server, tx, host);
    if (first) {
        pool_row_mut(tx_edit(tx, CLASS_pool, server->pool_ref))->master = host;
        host_row_mut(tx_edit(tx, CLASS_host, host))->server_port = server->port;
    }
    return server_commit(tx, err);
}

static void answer_joined(struct http_request *req, const char *uuid, const char *cert, const char *ca)
{
    struct buf out = BUF_INIT;
    buf_add_str(&out, "{\"host_uuid\":");
    json_write_string(&out, uuid);
    buf_add_str(&out, ",\"certificate\":");
    json_write_string(&out, cert);
    buf_add_str(&out, ",\"ca\":");
    json_write_string(&out, ca);
    buf_add_str(&out, "}\n");
    size_t len = out.len;
    http_answer_json(req, 200, buf_take(&out), len);
}

static int read_facts(const json_t *body, struct host_facts *facts, struct api_err *err)
{
    char complaint[WIRE_COMPLAINT_SIZE];
    const json_t *json = json_object_get(body, "facts");
    if (!json_is_object(json))
        return fail_internal(err, "The request has no facts of the host.");
    if (wire_decode(&host_facts_desc, json, facts, complaint) < 0)
        return fail_internal(err, "The facts of the host do not fit: %s", complaint);
    return 0;
}

static void run_join(void *arg)
{
    struct door_job *job = arg;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    const char *token, *csr, *address;
    int64_t port;
    if (!json_get_string(job->body, "token", &token) || !json_get_string(job->body, "csr", &csr) ||
        !json_get_string(job->body, "address", &address) || !json_get_int(job->body, "port", &port) ||
        port < 1 || port > 65535) {
        http_answer_error(job->req, 400, "a join has token, csr, address, port (1 to 65535) and facts");
        door_job_free(job);
        return;
    }
    struct host_facts facts;
    if (read_facts(job->body, &facts, &err) < 0) {
        door_fail(job->req, 400, &err);
        door_job_free(job);
        return;
    }
    AUTO_FREE char *cert = NULL, *ca = NULL;
    char uuid[UUID_TEXT_SIZE];
    const char *wanted;
    struct ref own = ref_new(); /* a host that comes from another pool keeps its uuid */
    if (json_get_string(job->body, "uuid", &wanted) && (!uuid_parse(wanted, &own) || ref_is_null(own))) {
        http_answer_error(job->req, 400, "the host's uuid is none");
        host_facts_done(&facts);
        door_job_free(job);
        return;
    }
    uuid_format(own, uuid);
    if (!token_take(job->server->joins, token)) {
        log_warn("join", "refused a join with a wrong, used or expired token", "from",
                 http_request_peer(job->req));
        http_answer_error(job->req, 403, "the join token is wrong, used or expired: make a new one");
    } else if (join_issue_certificate(job->server, uuid, csr, &cert, &ca, &err) < 0 ||
               add_host(job->server, uuid, address, (int)port, &facts, &err) < 0) {
        door_fail(job->req, 500, &err);
    } else {
        log_info("join", "a host joined", "host", uuid, "name", facts.hostname, "address", address);
        answer_joined(job->req, uuid, cert, ca);
        hosts_refresh(job->server->hosts);
    }
    host_facts_done(&facts);
    door_job_free(job);
}

void door_join(struct server *server, struct http_request *req)
{
    static const struct door_body door = {.run = run_join, .max = JOIN_BODY_MAX, .login = true};
    door_submit_json(server, req, &door);
}
