/* POST /api/v1/pool/members: what servers of one pool say to each other. {"action": ..., ...}, with the
 * pool's secret. standing: who are you? add: this joining host has a server, and brings these rows. cancel:
 * it does not join after all. follow: that server leads now. */
#include "../gate/session.h"
#include "../handlers/host_rows.h"
#include "../hosts/hosts.h"
#include "../http/doors.h"
#include "members.h"
#include <base/file.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <model/errors.h>

#define BODY_MAX ((size_t)64 << 20)

static json_t *say_standing(struct server *server, const json_t *body, struct api_err *err)
{
    AUTO_JSON json_t *standing = standing_get(server->members->standing);
    (void)body;
    (void)err;
    return json_pack("{sbsIsOsO}", "member", server->members->member, "term",
                     (json_int_t)members_term(server), "leader", json_object_get(standing, "leader"), "host",
                     json_object_get(standing, "host"));
}

static json_t *add(struct server *server, const json_t *body, struct api_err *err)
{
    const char *uuid = "";
    int64_t port = 0;
    json_get_string(body, "host", &uuid);
    json_get_int(body, "server_port", &port);
    struct tx *tx = store_begin(server->store);
    const struct row *host = tx_by_uuid(tx, CLASS_host, uuid);
    if (!host || port < 1 || port > 65535) {
        tx_abort(tx);
        err_host_unknown_to_master(err, uuid);
        return NULL;
    }
    host_row_mut(tx_edit(tx, CLASS_host, host->ref))->server_port = port;
    if (rows_make(tx, json_object_get(body, "rows"), err) < 0) {
        tx_abort(tx);
        return NULL;
    }
    return server_commit(tx, err) == 0 ? json_object() : NULL;
}

/* A host that has never answered goes with what it has brought; one that is alive stays. */
static json_t *cancel(struct server *server, const json_t *body, struct api_err *err)
{
    const char *uuid = "";
    json_get_string(body, "host", &uuid);
    struct tx *tx = store_begin(server->store);
    const struct row *host = tx_by_uuid(tx, CLASS_host, uuid);
    const struct host_metrics_row *metrics =
        host ? host_metrics_row(tx_get(tx, CLASS_host_metrics, host_row(host)->metrics)) : NULL;
    if (metrics && metrics->live) {
        tx_abort(tx);
        err_host_is_live(err, REF_TEXT(host->ref));
        return NULL;
    }
    rows_unmake(tx, json_object_get(body, "rows"));
    if (host)
        host_rows_delete(tx, host_row(host));
    log_info("members", "a host does not join after all", "host", uuid);
    return server_commit(tx, err) == 0 ? json_object() : NULL;
}

static json_t *follow(struct server *server, const json_t *body, struct api_err *err)
{
    struct members *m = server->members;
    struct peer leader;
    int64_t term = 0;
    json_get_int(body, "term", &term);
    if (!peer_read(json_object_get(body, "leader"), &leader) || term < m->term ||
        (!m->member && term == m->term)) {
        err_operation_not_allowed(err, "This server knows of a later term.");
        return NULL;
    }
    AUTO_JSON json_t *standing = standing_get(m->standing);
    json_object_set_new(standing, "member", json_true());
    json_object_set_new(standing, "term", json_integer(term));
    json_object_set_new(standing, "leader", peer_json(&leader));
    json_object_set_new(standing, "yield", json_string(""));
    if (!m->member) {
        struct peer self;
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
        members_self(server, snap, &self);
        json_object_set_new(standing, "host", json_string(self.uuid));
        json_object_set_new(standing, "peers", members_peers(snap, self.uuid));
    }
    if (!m->member)
        return members_become(m, standing, err) == 0 ? json_object() : NULL;
    if (standing_set(m->standing, standing) < 0) {
        fail_internal(err, "The coordinator's place could not be noted.");
        return NULL;
    }
    m->term = term;
    return json_object();
}

static const struct {
    const char *name;
    bool coordinator; /* only there */
    json_t *(*run)(struct server *server, const json_t *body, struct api_err *err);
} actions[] = {{"standing", false, say_standing},
               {"add", true, add},
               {"cancel", true, cancel},
               {"follow", false, follow}};

static json_t *act(struct server *server, const json_t *body, struct api_err *err)
{
    const char *name = "";
    json_get_string(body, "action", &name);
    for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
        if (!streq(actions[i].name, name))
            continue;
        if (actions[i].coordinator && members_is_member(server)) {
            members_refuse(server, err);
            return NULL;
        }
        return actions[i].run(server, body, err);
    }
    fail_internal(err, "There is no such action between members.");
    return NULL;
}

static void run_members(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_SESSION struct session *session =
        door_admit(job->server, job->req, ACTION_post_pool_members, &temporary);
    if (session) {
        if (temporary)
            session_close(job->server, session);
        AUTO_JSON json_t *answer = act(job->server, job->body, &err);
        if (answer) {
            struct buf out = BUF_INIT;
            json_write(&out, answer);
            size_t len = out.len;
            http_answer_json(job->req, 200, buf_take(&out), len);
        } else {
            door_fail(job->req, 400, &err);
        }
    }
    door_job_free(job);
}

/* What a server needs to join this pool as a member: who has it can do everything. */
static void run_secret(void *arg)
{
    struct door_job *job = arg;
    bool temporary;
    AUTO_SESSION struct session *session =
        door_admit(job->server, job->req, ACTION_get_pool_secret, &temporary);
    if (session) {
        if (temporary)
            session_close(job->server, session);
        AUTO_FREE char *path = xasprintf("%s/pool-secret", job->server->state_dir);
        AUTO_SECRET char *secret = file_read(path, 4096, NULL);
        if (secret && !members_is_member(job->server)) {
            struct buf out = BUF_INIT;
            secret[strcspn(secret, "\r\n")] = '\0';
            buf_add_str(&out, "{\"secret\":");
            json_write_string(&out, secret);
            buf_add_char(&out, '}');
            size_t len = out.len;
            http_answer_json(job->req, 200, buf_take(&out), len);
        } else {
            http_answer_error(job->req, 500, "the pool's secret cannot be read");
        }
    }
    door_job_free(job);
}

void door_pool_secret(struct server *server, struct http_request *req)
{
    door_submit(server->workers, server, req, NULL, run_secret);
}

void door_pool_members(struct server *server, struct http_request *req)
{
    static const struct door_body door = {.run = run_members, .max = BODY_MAX};
    door_submit_json(server, req, &door);
}
