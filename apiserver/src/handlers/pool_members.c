/* pool.*: who leads the pool, and who leaves it. */
#include "../gate/gate.h"
#include "../gate/session.h"
#include "../hosts/hosts.h"
#include "../members/members.h"
#include "../members/remote.h"
#include "../server.h"
#include "checks.h"
#include "host_rows.h"
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

#define TALK_MS 10000

static const struct host_row *find_host(struct call *call, struct ref ref, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, CLASS_host, ref);
    if (!row)
        fail_handle(err, CLASS_host, ref);
    return host_row(row);
}

static const struct pool_row *the_pool(struct call *call)
{
    return pool_row(snapshot_get(call->snapshot, CLASS_pool, call->server->pool_ref));
}

/* On a member the question is about itself, whatever host is named: it knows no others. */
int handle_pool_is_slave(struct call *call, const struct pool_is_slave_args *args, bool *result,
                         struct api_err *err)
{
    *result = members_is_member(call->server);
    if (*result || ref_is_null(args->host)) /* no host named: the one that answers */
        return 0;
    if (!find_host(call, args->host, err))
        return -1;
    *result = !ref_eq(the_pool(call)->master, args->host);
    return 0;
}

/* ---- leaving ---- */

int check_pool_eject(struct call *call, struct tx *tx, const void *args, const struct refusals *all,
                     struct api_err *err)
{
    const struct host_row *host = find_host(call, ((const struct pool_eject_args *)args)->host, err);
    (void)tx;
    if (!host)
        return -1;
    if (ref_eq(the_pool(call)->master, host->row.ref) &&
        refused(
            all,
            fail_internal(err, "The coordinator cannot be ejected: make another host the coordinator first."),
            err))
        return -1;
    if (the_pool(call)->ha_enabled && refused(all, err_ha_is_enabled(err), err))
        return -1;
    for (size_t i = 0; host->resident_VMs && i < host->resident_VMs->count; i++)
        if (!ref_eq(host->resident_VMs->items[i], host->control_domain))
            return err_operation_not_allowed(err, "VMs run on the host: shut them down or move them first.");
    return 0;
}

static int unplug_all(struct call *call, const struct host_row *host, struct api_err *err)
{
    for (size_t i = 0; host->PBDs && i < host->PBDs->count; i++) {
        const struct pbd_row *pbd = pbd_row(snapshot_get(call->snapshot, CLASS_PBD, host->PBDs->items[i]));
        AUTO_JSON json_t *params = json_pack("[s]", REF_TEXT(host->PBDs->items[i]));
        if (pbd && pbd->currently_attached && gate_call_within(call, "PBD.unplug", params, err) < 0)
            return -1;
    }
    return 0;
}

/* A host without a server of its own belongs to no pool from then on. What cannot be told to it does no harm:
 * the pool does not call it any more. */
static void release_agent(struct call *call, struct hv_host *agent)
{
    struct hv_pool_leave_args args;
    struct hv_pool_leave_result result;
    struct hv_err cause;
    struct hosts_op op;
    hosts_op_init(&op, call, TALK_MS);
    hv_pool_leave_args_init(&args);
    if (hv_pool_leave(agent, &op.op, &args, &result, &cause) == 0)
        hv_pool_leave_result_done(&result);
    else
        log_warn("pool", "an ejected host's agent was not told", "cause", cause.text);
    hv_pool_leave_args_done(&args);
}

static int delete_host(struct call *call, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct host_row *host = host_row(tx_get(tx, CLASS_host, ref));
    if (!host) {
        tx_abort(tx);
        return fail_handle(err, CLASS_host, ref);
    }
    host_rows_delete_storage(tx, host);
    host_rows_delete(tx, host_row(tx_get(tx, CLASS_host, ref)));
    return server_commit(tx, err);
}

int handle_pool_eject(struct call *call, const struct pool_eject_args *args, struct api_err *err)
{
    if (check_pool_eject(call, NULL, args, NULL, err) < 0)
        return -1;
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, args->host));
    struct hv_host *agent = hosts_get(call->server->hosts, args->host, err);
    if (!agent)
        return -1;
    int rc = unplug_all(call, host, err);
    failpoint("eject-step:unplugged");
    if (rc == 0)
        rc = delete_host(call, args->host, err);
    failpoint("eject-step:deleted");
    if (rc == 0) {
        log_info("pool", "a host was ejected", "host", host->uuid, "user", call->session->user);
        if (!host->server_port)
            release_agent(call, agent);
    }
    hosts_put(call->server->hosts, agent);
    return rc;
}

/* ---- who leads ---- */

static struct peer peer_of(const struct host_row *host)
{
    struct peer peer = {.port = (int)host->server_port};
    snprintf(peer.uuid, sizeof(peer.uuid), "%s", host->uuid);
    snprintf(peer.address, sizeof(peer.address), "%s", host->address);
    return peer;
}

static int check_heir(struct call *call, const struct host_row *host, struct api_err *err)
{
    struct members *m = call->server->members;
    struct peer peer = peer_of(host);
    bool member = false;
    int64_t term = 0;
    AUTO_REMOTE struct remote *remote = remote_member(m->data_dir, &peer);
    AUTO_JSON json_t *answer = remote ? remote_tell(remote, "standing", json_object(), TALK_MS, NULL) : NULL;
    if (!answer)
        return err_cannot_contact_host(err, REF_TEXT(host->row.ref));
    if (!json_get_bool(answer, "member", &member) || !member || !json_get_int(answer, "term", &term) ||
        term > m->term)
        return err_operation_not_allowed(err, "The host's server is no member of this pool now.");
    return 0;
}

/* Without asking the heir. */
int check_pool_designate_new_master(struct call *call, struct tx *tx, const void *args,
                                    const struct refusals *all, struct api_err *err)
{
    const struct host_row *host =
        find_host(call, ((const struct pool_designate_new_master_args *)args)->host, err);
    (void)tx;
    if (!host)
        return -1;
    if (ref_eq(the_pool(call)->master, host->row.ref))
        return 0;
    if (!call->server->members &&
        refused(all, fail_internal(err, "This server is no process of its own."), err))
        return -1;
    if (the_pool(call)->ha_enabled && refused(all, err_ha_is_enabled(err), err))
        return -1;
    return host->server_port ? 0
                             : err_operation_not_allowed(
                                   err, "The host has no server of its own that could lead the pool.");
}

/* Steps back: whatever is acknowledged until this process ends is in the database that the heir is given
 * then. */
int handle_pool_designate_new_master(struct call *call, const struct pool_designate_new_master_args *args,
                                     struct api_err *err)
{
    struct members *m = call->server->members;
    struct peer self;
    if (check_pool_designate_new_master(call, NULL, args, NULL, err) < 0)
        return -1;
    if (ref_eq(the_pool(call)->master, args->host))
        return 0;
    const struct host_row *host = host_row(snapshot_get(call->snapshot, CLASS_host, args->host));
    if (check_heir(call, host, err) < 0)
        return -1;
    const struct peer heir = peer_of(host);
    members_self(call->server, call->snapshot, &self);
    AUTO_JSON json_t *standing = standing_get(m->standing);
    json_object_set_new(standing, "member", json_true());
    json_object_set_new(standing, "term", json_integer(m->term + 1));
    json_object_set_new(standing, "leader", peer_json(&heir));
    json_object_set_new(standing, "yield", json_string(heir.uuid));
    json_object_set_new(standing, "host", json_string(self.uuid));
    json_object_set_new(standing, "peers", members_peers(call->snapshot, self.uuid));
    log_info("pool", "steps back for another coordinator", "host", heir.uuid, "user", call->session->user);
    return members_become(m, standing, err);
}

/* Without the coordinator: what it acknowledged after the last copy is not known here. */
int handle_pool_emergency_transition_to_master(struct call *call, struct api_err *err)
{
    struct members *m = call->server->members;
    if (!members_is_member(call->server))
        return 0;
    AUTO_FREE char *database = xasprintf("%s/pool.db", m->data_dir);
    if (access(database, R_OK) < 0)
        return err_operation_not_allowed(err, "This member has no copy of the pool's database.");
    AUTO_JSON json_t *standing = standing_get(m->standing);
    json_object_set_new(standing, "member", json_false());
    json_object_set_new(standing, "term", json_integer(m->term + 1));
    json_object_set_new(standing, "leader", json_object());
    json_object_set_new(standing, "yield", json_string(""));
    log_warn("pool", "takes over the pool", "term", LOG_INT(m->term + 1), "user", call->session->user);
    return members_become(m, standing, err);
}

int handle_pool_emergency_reset_master(struct call *call, const struct pool_emergency_reset_master_args *args,
                                       struct api_err *err)
{
    struct members *m = call->server->members;
    struct peer leader;
    if (!members_is_member(call->server))
        return err_operation_not_allowed(err, "This server is the coordinator of its pool.");
    if (members_read_address(args->master_address, call->server->port, &leader, err) < 0)
        return -1;
    AUTO_JSON json_t *standing = standing_get(m->standing);
    json_object_set_new(standing, "leader", peer_json(&leader));
    if (standing_set(m->standing, standing) < 0)
        return fail_internal(err, "The coordinator's place could not be noted: %s", strerror(errno));
    return 0;
}

/* ---- telling the others ---- */

struct telling {
    struct members *m;
    struct peer self;
    struct ref *told;
    size_t count, cap;
};

static bool tell(const struct row *row, void *arg)
{
    struct telling *t = arg;
    const struct host_row *host = host_row(row);
    if (!host->server_port || streq(host->uuid, t->self.uuid))
        return true;
    const struct peer peer = peer_of(host);
    AUTO_REMOTE struct remote *remote = remote_member(t->m->data_dir, &peer);
    AUTO_JSON json_t *answer =
        remote
            ? remote_tell(remote, "follow",
                          json_pack("{sIso}", "term", (json_int_t)t->m->term, "leader", peer_json(&t->self)),
                          TALK_MS, NULL)
            : NULL;
    if (!answer)
        return true;
    if (t->count == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 8;
        t->told = xreallocarray(t->told, t->cap, sizeof(*t->told));
    }
    t->told[t->count++] = row->ref;
    return true;
}

int handle_pool_recover_slaves(struct call *call, const struct ref_set **result, struct api_err *err)
{
    struct telling t = {.m = call->server->members};
    (void)err;
    if (t.m) {
        members_self(call->server, call->snapshot, &t.self);
        snapshot_each(call->snapshot, CLASS_host, tell, &t);
    }
    *result = ref_set_new(t.told, t.count);
    free(t.told);
    return 0;
}
