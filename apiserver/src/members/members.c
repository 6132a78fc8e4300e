/* Who leads, and what a server that is a member does all day: fetch what is new, notice that it was ejected,
 * that the coordinator has stepped back for it, or that another one leads now. */
#include "members.h"

#include "../ending.h"
#include "../handlers/alert.h"
#include "../hosts/hosts.h"
#include "../hosts/join.h"
#include "remote.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <hv/client.h>
#include <model/errors.h>
#include <model/rows.h>
#include <stdio.h>
#include <time.h>

#define RETRY_MS 1000
#define ASK_PEERS_AFTER 3  /* failures */
#define EMERGENCY_MS 30000 /* without a word of the coordinator */
#define PEER_TIMEOUT_MS 3000
#define COPY_SHARE 10 /* copying takes at most a tenth of the time */

/* ---- the parts ---- */

struct members *members_open(struct server *server, const char *root_dir)
{
    struct standing *standing = standing_open(root_dir);
    if (!standing)
        return NULL;
    struct members *m = xcalloc(1, sizeof(*m));
    pthread_condattr_t attr;
    m->server = server;
    m->root_dir = xstrdup(root_dir);
    m->standing = standing;
    m->data_dir = standing_data_dir(standing);
    m->member = standing_is_member(standing);
    m->term = standing_term(standing);
    pthread_mutex_init(&m->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&m->changed, &attr);
    pthread_condattr_destroy(&attr);
    atomic_store(&m->heard_ms, clock_mono_ms());
    return m;
}

void members_free(struct members *m)
{
    if (!m)
        return;
    standing_free(m->standing);
    pthread_cond_destroy(&m->changed);
    pthread_mutex_destroy(&m->lock);
    free(m->data_dir);
    free(m->root_dir);
    free(m);
}

/* Sleeps so long, or until the end. True: go on. */
static bool members_pause(struct members *m, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms;
    const struct timespec when = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    pthread_mutex_lock(&m->lock);
    while (!m->stop && clock_mono_ms() < until)
        pthread_cond_timedwait(&m->changed, &m->lock, &when);
    bool stop = m->stop;
    pthread_mutex_unlock(&m->lock);
    return !stop;
}

bool members_is_member(const struct server *server)
{
    return server->members && server->members->member;
}

int64_t members_term(const struct server *server)
{
    return server->members ? server->members->term : 0;
}

int members_refuse(const struct server *server, struct api_err *err)
{
    struct peer leader;
    if (!standing_leader(server->members->standing, &leader))
        return err_host_is_slave(err, "");
    if (leader.port == server->port)
        return err_host_is_slave(err, leader.address);
    AUTO_FREE char *where =
        xasprintf(strchr(leader.address, ':') ? "[%s]:%d" : "%s:%d", leader.address, leader.port);
    return err_host_is_slave(err, where);
}

int members_read_address(const char *text, uint16_t own_port, struct peer *out, struct api_err *err)
{
    const char *colon = strrchr(text, ':');
    bool bracketed = text[0] == '[', bare_v6 = !bracketed && colon && strchr(text, ':') != colon;
    char *end = NULL;
    long port = own_port;
    size_t len = strlen(text);
    if (colon && !bare_v6 && (!bracketed || colon[-1] == ']')) {
        port = strtol(colon + 1, &end, 10);
        len = (size_t)(colon - text);
    }
    const char *from = bracketed ? text + 1 : text;
    size_t name = bracketed && len >= 2 ? len - 2 : len;
    if (name == 0 || name >= sizeof(out->address) || port < 1 || port > 65535 || (end && *end) ||
        strcspn(from, "/?#@ \t\r\n\\") < name)
        return err_invalid_value(err, "master_address", text);
    *out = (struct peer){.port = (int)port};
    memcpy(out->address, from, name);
    return 0;
}

bool members_in_emergency(const struct server *server)
{
    return members_is_member(server) &&
           clock_mono_ms() - atomic_load(&server->members->heard_ms) > EMERGENCY_MS;
}

int members_become(struct members *m, const json_t *standing, struct api_err *err)
{
    if (standing_set(m->standing, standing) < 0) {
        log_error("members", "the new standing could not be written down", "cause", strerror(errno));
        return fail_internal(err, "The server's new standing could not be written down.");
    }
    atomic_store(&m->leaving, true);
    failpoint_of("standing-decided", standing_is_member(m->standing) ? "member" : "coordinator");
    server_end(m->server, true);
    return 0;
}

/* ---- who is who ---- */

struct listing {
    json_t *list;
    const char *own;
};

static bool list_peer(const struct row *row, void *arg)
{
    struct listing *l = arg;
    const struct host_row *host = host_row(row);
    if (host->server_port && !streq(host->uuid, l->own)) {
        struct peer peer = {.port = (int)host->server_port};
        snprintf(peer.uuid, sizeof(peer.uuid), "%s", host->uuid);
        snprintf(peer.address, sizeof(peer.address), "%s", host->address);
        json_array_append_new(l->list, peer_json(&peer));
    }
    return true;
}

json_t *members_peers(const struct snapshot *snap, const char *own_uuid)
{
    struct listing l = {json_array(), own_uuid};
    snapshot_each(snap, CLASS_host, list_peer, &l);
    return l.list;
}

bool members_self(const struct server *server, const struct snapshot *snap, struct peer *out)
{
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, server->pool_ref));
    const struct host_row *host = pool ? host_row(snapshot_get(snap, CLASS_host, pool->master)) : NULL;
    *out = (struct peer){.port = server->port};
    snprintf(out->address, sizeof(out->address), "%s", host ? host->address : server->listen);
    if (host)
        snprintf(out->uuid, sizeof(out->uuid), "%s", host->uuid);
    return host != NULL;
}

/* A coordinator of at least this term among these servers: true. */
static bool find_leader(const char *data_dir, const json_t *peers, int64_t term, struct peer *out,
                        int64_t *its_term)
{
    for (size_t i = 0; i < json_array_size(peers); i++) {
        struct peer peer, told;
        bool member = true;
        int64_t found = 0;
        if (!peer_read(json_array_get(peers, i), &peer))
            continue;
        AUTO_REMOTE struct remote *remote = remote_member(data_dir, &peer);
        AUTO_JSON json_t *answer =
            remote ? remote_tell(remote, "standing", json_object(), PEER_TIMEOUT_MS, NULL) : NULL;
        if (!json_get_bool(answer, "member", &member) || !json_get_int(answer, "term", &found) ||
            found < term)
            continue;
        if (!member) {
            *out = peer;
            *its_term = found;
            return true;
        }
        if (found > term && peer_read(json_object_get(answer, "leader"), &told)) {
            *out = told; /* a member that knows more */
            *its_term = found;
            return true;
        }
    }
    return false;
}

static json_t *follow_standing(struct members *m, const struct peer *leader, int64_t term)
{
    json_t *standing = standing_get(m->standing);
    json_object_set_new(standing, "member", json_true());
    json_object_set_new(standing, "term", json_integer(term));
    json_object_set_new(standing, "leader", leader ? peer_json(leader) : json_object());
    json_object_set_new(standing, "yield", json_string(""));
    return standing;
}

bool members_superseded(struct server *server)
{
    struct members *m = server->members;
    struct peer self, leader;
    int64_t term;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    members_self(server, snap, &self);
    AUTO_JSON json_t *peers = members_peers(snap, self.uuid);
    if (m->member || !find_leader(m->data_dir, peers, m->term + 1, &leader, &term) ||
        streq(leader.uuid, self.uuid))
        return false;
    AUTO_JSON json_t *standing = follow_standing(m, &leader, term);
    json_object_set(standing, "peers", peers);
    json_object_set_new(standing, "host", json_string(self.uuid));
    log_warn("members", "another server has taken over the pool", "at", leader.address, "term",
             LOG_INT(term));
    if (standing_set(m->standing, standing) < 0)
        log_error("members", "the new standing could not be written down", "cause", strerror(errno));
    return true;
}

void members_step_down(struct server *server)
{
    struct members *m = server->members;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct peer self;
    if (!m || m->member || atomic_exchange(&m->leaving, true))
        return;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    members_self(server, snap, &self);
    AUTO_JSON json_t *standing = follow_standing(m, NULL, m->term);
    json_object_set_new(standing, "peers", members_peers(snap, self.uuid));
    json_object_set_new(standing, "host", json_string(self.uuid));
    log_warn("members", "another server has taken over the pool: this one becomes a member");
    members_become(m, standing, &err);
}

/* ---- a member's day ---- */

static bool fresh_enough(const json_t *header, const json_t *standing)
{
    return json_equal(json_object_get(header, "leader"), json_object_get(standing, "leader")) &&
           json_equal(json_object_get(header, "peers"), json_object_get(standing, "peers")) &&
           json_equal(json_object_get(header, "term"), json_object_get(standing, "term")) &&
           json_equal(json_object_get(header, "agent"), json_object_get(standing, "agent"));
}

/* What the coordinator says of the pool, into the standing when it is new. */
static void note_header(struct members *m, const json_t *header)
{
    static const char *const names[] = {"leader", "peers", "term", "agent"};
    AUTO_JSON json_t *standing = standing_get(m->standing);
    const char *heir = "";
    int64_t generation = 0;
    json_get_int(header, "generation", &generation);
    atomic_store(&m->generation, generation);
    json_get_string(standing, "yield", &heir);
    if (fresh_enough(header, standing) && !*heir)
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        json_object_set(standing, names[i], json_object_get(header, names[i]));
    json_object_set_new(standing, "yield", json_string(""));
    if (standing_set(m->standing, standing) < 0)
        log_error("members", "the pool's servers could not be noted", "cause", strerror(errno));
    int64_t term = m->term;
    json_get_int(standing, "term", &term);
    m->term = term;
}

static void take_over(struct members *m, const json_t *header)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *standing = standing_get(m->standing);
    json_object_set_new(standing, "member", json_false());
    json_object_set(standing, "term", json_object_get(header, "term"));
    json_object_set_new(standing, "leader", json_object());
    log_info("members", "the coordinator has stepped back for this server");
    failpoint("heir-has-copy:");
    members_become(m, standing, &err);
}

/* A folder for a pool that begins: STATE/pool-<random>. */
static char *new_folder_name(void)
{
    char uuid[UUID_TEXT_SIZE];
    return xasprintf("pool-%.8s", uuid_format(ref_new(), uuid));
}

/* A fresh pool in a folder of its own, whose first host is the one that this server's pool gives up. The
 * standing for members_become. `agent` {"address","port","uuid"}. */
static json_t *members_fresh_standing(struct members *m, json_t *agent)
{
    AUTO_FREE char *folder = new_folder_name();
    AUTO_JSON json_t *old = standing_get(m->standing);
    json_t *standing =
        json_pack("{sbsisssss{}s[]}", "member", 0, "term", 1, "data", folder, "host", "", "leader", "peers");
    json_object_set(agent, "creds", json_object_get(old, "data"));
    json_object_set_new(agent, "term", json_integer(m->term));
    json_object_set_new(agent, "adopt", json_true());
    json_object_set(standing, "move", agent);
    return standing;
}

static void was_ejected(struct members *m)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *old = standing_get(m->standing);
    AUTO_JSON json_t *agent = json_deep_copy(json_object_get(old, "agent"));
    if (!agent)
        agent = json_object();
    AUTO_JSON json_t *standing = members_fresh_standing(m, agent);
    log_warn("members", "the pool has ejected this host: it begins a pool of its own");
    members_become(m, standing, &err);
}

static void look_for_leader(struct members *m)
{
    struct peer leader;
    int64_t term;
    AUTO_JSON json_t *old = standing_get(m->standing);
    const char *own = "";
    json_get_string(old, "host", &own);
    if (!find_leader(m->data_dir, json_object_get(old, "peers"), m->term, &leader, &term) ||
        streq(leader.uuid, own))
        return;
    AUTO_JSON json_t *standing = follow_standing(m, &leader, term);
    json_object_set(standing, "yield", json_object_get(old, "yield"));
    if (json_equal(standing, old))
        return;
    log_info("members", "another server leads the pool", "at", leader.address, "term", LOG_INT(term));
    if (standing_set(m->standing, standing) < 0)
        log_error("members", "the coordinator's place could not be noted", "cause", strerror(errno));
    else
        m->term = term;
}

/* One question to the coordinator. */
static enum copy_outcome ask(struct members *m, json_t **header)
{
    struct peer leader;
    const char *own = "";
    AUTO_JSON json_t *standing = standing_get(m->standing);
    json_get_string(standing, "host", &own);
    if (!standing_leader(m->standing, &leader))
        return COPY_FAILED;
    AUTO_REMOTE struct remote *remote = remote_member(m->data_dir, &leader);
    if (!remote)
        return COPY_FAILED;
    remote_set_cancel(remote, &m->ending);
    return copy_fetch(remote, m->data_dir, own, m->server->port, atomic_load(&m->generation), m->term,
                      header);
}

static void member_day(struct members *m)
{
    unsigned failures = 0;
    while (members_pause(m, 0) && !atomic_load(&m->leaving)) {
        int64_t began = clock_mono_ms();
        AUTO_JSON json_t *header = NULL;
        enum copy_outcome outcome = ask(m, &header);
        if (outcome != COPY_FAILED) {
            failures = 0;
            atomic_store(&m->heard_ms, clock_mono_ms());
        }
        switch (outcome) {
        case COPY_FRESH:
            note_header(m, header);
            log_debug("members", "has a newer copy of the pool");
            members_pause(m, (clock_mono_ms() - began) * (COPY_SHARE - 1) < RETRY_MS / 4 ? RETRY_MS / 4 : 0);
            break;
        case COPY_SAME:
            note_header(m, header);
            break;
        case COPY_YIELDED:
            take_over(m, header);
            return;
        case COPY_GONE:
            was_ejected(m);
            return;
        case COPY_FAILED:
            if (++failures >= ASK_PEERS_AFTER)
                look_for_leader(m);
            members_pause(m, RETRY_MS);
            break;
        }
    }
}

/* ---- what is left of a change of pool ---- */

static struct hv_host *old_agent(struct members *m, const json_t *move)
{
    struct peer at;
    const char *creds = "";
    int64_t term = 0;
    struct hv_err err;
    struct hv_host *agent = NULL;
    json_get_string(move, "creds", &creds);
    json_get_int(move, "term", &term);
    if (!peer_read(move, &at))
        return NULL;
    AUTO_FREE char *dir = xasprintf("%s/%s%s", m->root_dir, creds, *creds ? "/pki" : "pki");
    AUTO_FREE char *ca = xasprintf("%s/ca.pem", dir), *cert = xasprintf("%s/poold.pem", dir);
    AUTO_FREE char *key = xasprintf("%s/poold.key", dir);
    const struct hv_host_address address = {.host_uuid = at.uuid,
                                            .address = at.address,
                                            .port = at.port,
                                            .ca_file = ca,
                                            .cert_file = cert,
                                            .key_file = key,
                                            .term = term};
    if (hv_host_open(&address, &agent, &err) < 0)
        log_error("members", "the host's agent cannot be called", "cause", err.text);
    return agent;
}

static int prepare_agent(struct members *m, struct hv_host *agent, struct hv_err *err)
{
    AUTO_API_ERR struct api_err cause = API_ERR_INIT;
    AUTO_SECRET char *token = join_token_new(m->server, &cause);
    struct hv_pool_prepare_args args;
    struct hv_pool_prepare_result result;
    if (!token)
        return hv_fail(err, HV_ERR_KIND_INTERNAL, "no join token could be made");
    hv_pool_prepare_args_init(&args);
    str_assign(&args.address, streq(m->server->listen, "0.0.0.0") ? "127.0.0.1" : m->server->listen);
    args.port = m->server->port;
    str_assign(&args.token, token);
    int rc = hv_pool_prepare(agent, NULL, &args, &result, err);
    hv_pool_prepare_args_done(&args);
    if (rc == 0)
        hv_pool_prepare_result_done(&result);
    return rc;
}

/* The host's agent still belongs to the pool of before: it is told to change. True: done, or it has changed.
 */
static bool move_agent(struct members *m, const json_t *move)
{
    struct hv_err err = {0};
    bool adopt = false, done;
    struct hv_pool_switch_args args;
    struct hv_pool_switch_result result;
    struct hv_host *agent = old_agent(m, move);
    if (!agent)
        return true; /* there is none that could be called */
    json_get_bool(move, "adopt", &adopt);
    hv_pool_switch_args_init(&args);
    done = (!adopt || prepare_agent(m, agent, &err) == 0) &&
           hv_pool_switch(agent, NULL, &args, &result, &err) == 0;
    if (done)
        hv_pool_switch_result_done(&result);
    hv_pool_switch_args_done(&args);
    hv_host_close(agent);
    if (done || err.kind == HV_ERR_KIND_DENIED)
        return true; /* denied: it does not know the pool of before any more */
    log_warn("members", "the host's agent has not changed its pool yet", "cause", err.text);
    return false;
}

/* A join that was cut short before it was decided: the other pool is told to forget the host. */
bool members_cancel_join(struct members *m, const json_t *joining)
{
    struct peer peer;
    const char *root, *uuid, *secret;
    char fingerprint[SHA256_TEXT_SIZE];
    unsigned status;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (!peer_read(joining, &peer) || !json_get_string(joining, "root", &root) ||
        strlen(root) >= SHA256_TEXT_SIZE || !json_get_string(joining, "uuid", &uuid) ||
        !json_get_string(joining, "secret", &secret))
        return true;
    AUTO_REMOTE struct remote *remote = remote_stranger(&peer, root, fingerprint, &err);
    if (!remote)
        return false;
    remote_set_secret(remote, secret);
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(m->server->store);
    const struct row *own = snapshot_by_uuid(snap, CLASS_host, uuid);
    json_t *rows = rows_collect(snap, own ? own->ref : REF_NULL, REF_NULL, NULL);
    AUTO_JSON json_t *answer =
        remote_tell(remote, "cancel", json_pack("{ssso}", "host", uuid, "rows", rows), 30000, &status);
    return answer || status >= 400;
}

static void finish(struct members *m, const char *name, bool (*step)(struct members *m, const json_t *what))
{
    for (;;) {
        AUTO_JSON json_t *standing = standing_get(m->standing);
        const json_t *what = json_object_get(standing, name);
        if (!what || !members_pause(m, 0) || atomic_load(&m->leaving))
            return;
        if (step(m, what)) {
            json_object_del(standing, name);
            if (standing_set(m->standing, standing) == 0)
                return;
        }
        members_pause(m, RETRY_MS);
    }
}

static void *run(void *arg)
{
    struct members *m = arg;
    finish(m, "move", move_agent);
    if (m->member)
        member_day(m);
    else
        finish(m, "joining", members_cancel_join);
    return NULL;
}

/* ---- start and end ---- */

/* After a change of coordinator the pool's rows say so. */
static int note_self(struct server *server, struct api_err *err)
{
    AUTO_JSON json_t *standing = standing_get(server->members->standing);
    const char *uuid = "";
    json_get_string(standing, "host", &uuid);
    struct tx *tx = store_begin(server->store);
    const struct row *own = *uuid ? tx_by_uuid(tx, CLASS_host, uuid) : NULL;
    const struct pool_row *pool = pool_row(tx_get(tx, CLASS_pool, server->pool_ref));
    if (own && !ref_eq(pool->master, own->ref)) {
        pool_row_mut(tx_edit(tx, CLASS_pool, server->pool_ref))->master = own->ref;
        AUTO_FREE char *body =
            xasprintf("Host '%s' is the pool's coordinator now", host_row(own)->name_label);
        alert_add(tx, ALERT_POOL_MASTER_TRANSITION, CLS_HOST, host_row(own)->uuid, body);
    }
    struct ref master = own ? own->ref : pool->master;
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, master));
    if (host && host->server_port != server->port)
        host_row_mut(tx_edit(tx, CLASS_host, master))->server_port = server->port;
    return server_commit(tx, err);
}

int members_start(struct server *server, struct api_err *err)
{
    struct members *m = server->members;
    if (!m->member && note_self(server, err) < 0)
        return -1;
    if (pthread_create(&m->thread, NULL, run, m) != 0)
        return fail_internal(err, "no thread for the pool's members");
    m->started = true;
    return 0;
}

void members_stop(struct members *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->stop = true;
    atomic_store(&m->ending, true);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (m->started)
        pthread_join(m->thread, NULL);
    m->started = false;
}
