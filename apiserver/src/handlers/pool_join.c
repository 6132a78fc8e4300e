/* pool.join: this server and its one host become a member of another pool. What the other pool does for it
 * can be undone (members.c, cancel) until the standing is written down; from then on it is carried out.
 * docs/pools.md has the steps and what a sudden end after each of them leaves. */
#include "../gate/session.h"
#include "../hosts/hosts.h"
#include "../members/join_checks.h"
#include "../members/members.h"
#include "../server.h"
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/secret.h>
#include <errno.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

struct joining {
    struct call *call;
    struct members *m;
    struct peer there;
    char root[SHA256_TEXT_SIZE]; /* of the other pool's CA */
    struct remote *remote;
    char *token, *secret;
    const struct host_row *host; /* of the call's snapshot */
    struct ref host_there;
    char *folder; /* of the other pool's copy, in DIR */
    json_t *header;
};

static void joining_done(struct joining *j)
{
    remote_logout(j->remote);
    remote_free(j->remote);
    secret_free_cleanup(&j->token);
    secret_free_cleanup(&j->secret);
    json_decref(j->header);
    free(j->folder);
}

/* From here on the other pool may know of the host: written down, so that it can be told to forget it. */
static int note_joining(struct joining *j, struct api_err *err)
{
    AUTO_JSON json_t *standing = standing_get(j->m->standing);
    json_t *what = peer_json(&j->there);
    json_object_set_new(what, "root", json_string(j->root));
    json_object_set_new(what, "uuid", json_string(j->host->uuid));
    json_object_set_new(what, "secret", json_string(j->secret));
    json_object_set_new(standing, "joining", what);
    if (standing_set(j->m->standing, standing) < 0)
        return fail_internal(err, "The join could not be written down.");
    failpoint("join-step:noted");
    return 0;
}

static int prepare_agent(struct joining *j, struct api_err *err)
{
    struct hosts_op op;
    struct hv_pool_prepare_args args;
    struct hv_pool_prepare_result result;
    struct hv_err cause;
    struct hv_host *agent = hosts_get(j->call->server->hosts, j->host->row.ref, err);
    if (!agent)
        return -1;
    hosts_op_init(&op, j->call, 0);
    hv_pool_prepare_args_init(&args);
    str_assign(&args.address, j->there.address);
    args.port = j->there.port;
    str_assign(&args.token, j->token);
    int rc = hv_pool_prepare(agent, &op.op, &args, &result, &cause);
    hv_pool_prepare_args_done(&args);
    hosts_put(j->call->server->hosts, agent);
    if (rc < 0)
        return hosts_fail(err, j->host->row.ref, &cause);
    hv_pool_prepare_result_done(&result);
    failpoint("join-step:agent-prepared");
    return 0;
}

/* Networks that both pools have: the same bridge. What is here becomes what is there. */
struct matching {
    const json_t *theirs;
    json_t *map;
};

static bool match_network(const struct row *row, void *arg)
{
    struct matching *m = arg;
    const char *ref, *bridge;
    const json_t *record;
    json_object_foreach((json_t *)(uintptr_t)m->theirs, ref, record)
    {
        if (json_get_string(record, "bridge", &bridge) && streq(bridge, network_row(row)->bridge))
            json_object_set_new(m->map, REF_TEXT(row->ref), json_string(ref));
    }
    return true;
}

static int bring_rows(struct joining *j, struct api_err *err)
{
    AUTO_JSON json_t *networks = remote_ask(j->remote, "network.get_all_records", json_array(), err);
    AUTO_JSON json_t *host =
        networks ? remote_ask(j->remote, "host.get_by_uuid", json_pack("[s]", j->host->uuid), err) : NULL;
    if (!host)
        return -1;
    if (!json_is_string(host) || !ref_parse(json_string_value(host), &j->host_there))
        return err_joining_host_service_failed(err);
    AUTO_JSON json_t *map = json_object();
    struct matching matching = {networks, map};
    unsigned status;
    snapshot_each(j->call->snapshot, CLASS_network, match_network, &matching);
    json_t *rows = rows_collect(j->call->snapshot, j->host->row.ref, j->host_there, map);
    AUTO_JSON json_t *answer = remote_tell(
        j->remote, "add",
        json_pack("{sssiso}", "host", j->host->uuid, "server_port", (int)j->call->server->port, "rows", rows),
        120000, &status);
    if (!answer)
        return status ? err_joining_host_service_failed(err) : err_joining_host_connection_failed(err);
    failpoint("join-step:rows-brought");
    return 0;
}

static int fetch_pool(struct joining *j, struct api_err *err)
{
    char uuid[UUID_TEXT_SIZE];
    j->folder = xasprintf("pool-%.8s", uuid_format(ref_new(), uuid));
    AUTO_FREE char *dir = xasprintf("%s/%s", j->m->root_dir, j->folder);
    enum copy_outcome outcome =
        copy_fetch(j->remote, dir, j->host->uuid, j->call->server->port, 0, 0, &j->header);
    if (outcome != COPY_FRESH)
        return err_joining_host_service_failed(err);
    failpoint("join-step:copied");
    return 0;
}

/* The agent is told to change by the process that starts next; this one's pool and its keys stay in their
 * folder. */
static int decide(struct joining *j, struct api_err *err)
{
    static const char *const told[] = {"term", "peers", "agent", "leader"};
    AUTO_JSON json_t *standing = standing_get(j->m->standing);
    struct peer at = {.port = (int)j->host->agent_port};
    snprintf(at.uuid, sizeof(at.uuid), "%s", j->host->uuid);
    snprintf(at.address, sizeof(at.address), "%s", j->host->address);
    json_t *move = peer_json(&at);
    json_object_set(move, "creds", json_object_get(standing, "data"));
    json_object_set_new(move, "term", json_integer(j->m->term));
    json_object_set_new(standing, "move", move);
    json_object_del(standing, "joining");
    for (size_t i = 0; i < ARRAY_LEN(told); i++)
        json_object_set(standing, told[i], json_object_get(j->header, told[i]));
    struct peer leader;
    if (!peer_read(json_object_get(standing, "leader"), &leader))
        return err_joining_host_service_failed(err);
    /* It is known to be there: its own idea of its address may be one that only it can use. */
    snprintf(leader.address, sizeof(leader.address), "%s", j->there.address);
    json_object_set_new(standing, "leader", peer_json(&leader));
    json_object_set_new(standing, "member", json_true());
    json_object_set_new(standing, "data", json_string(j->folder));
    json_object_set_new(standing, "host", json_string(j->host->uuid));
    json_object_set_new(standing, "yield", json_string(""));
    return members_become(j->m, standing, err);
}

static void undo(struct joining *j)
{
    AUTO_JSON json_t *standing = standing_get(j->m->standing);
    if (!members_cancel_join(j->m, json_object_get(standing, "joining"))) {
        log_warn("pool",
                 "the other pool was not told yet that this host does not join: it will be when this server "
                 "starts again");
        return;
    }
    json_object_del(standing, "joining");
    if (standing_set(j->m->standing, standing) < 0)
        log_error("pool", "that a join was given up could not be written down", "cause", strerror(errno));
}

static int carry_out(struct joining *j, struct api_err *err)
{
    j->secret = remote_pool_secret(j->remote, err);
    j->token = j->secret ? remote_join_token(j->remote, err) : NULL;
    if (!j->token || note_joining(j, err) < 0)
        return -1;
    remote_set_secret(j->remote, j->secret);
    if (prepare_agent(j, err) == 0 && bring_rows(j, err) == 0 && fetch_pool(j, err) == 0 &&
        decide(j, err) == 0)
        return 0;
    undo(j);
    return -1;
}

static int join(struct call *call, const char *address, const char *user, const char *password, bool force,
                struct api_err *err)
{
    struct joining j = {.call = call, .m = call->server->members};
    if (!j.m)
        return fail_internal(err, "This server is no process of its own.");
    if (members_read_address(address, call->server->port, &j.there, err) < 0)
        return -1;
    j.remote = remote_stranger(&j.there, NULL, j.root, err);
    int rc = j.remote ? remote_login(j.remote, user, password, err) : -1;
    if (rc == 0)
        rc = join_check(call->snapshot, call->server->pool_ref, j.remote, force, err);
    if (rc == 0) {
        const struct pool_row *pool =
            pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
        j.host = host_row(snapshot_get(call->snapshot, CLASS_host, pool->master));
        log_info("pool", "joins another pool", "at", j.there.address, "ca", j.root, "user",
                 call->session->user);
        rc = carry_out(&j, err);
    }
    joining_done(&j);
    return rc;
}

int handle_pool_join(struct call *call, const struct pool_join_args *args, struct api_err *err)
{
    return join(call, args->master_address, args->master_username, args->master_password, false, err);
}

int handle_pool_join_force(struct call *call, const struct pool_join_force_args *args, struct api_err *err)
{
    return join(call, args->master_address, args->master_username, args->master_password, true, err);
}
