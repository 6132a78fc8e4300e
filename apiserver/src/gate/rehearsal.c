#include "rehearsal.h"

#include "../handlers/storage.h"
#include "../hosts/claims.h"
#include "../hosts/hosts.h"
#include "answer.h"
#include "task.h"
#include "work.h"
#include <base/log.h>
#include <base/mem.h>

struct rehearsal {
    struct server *real;
    struct server server; /* what the calls see: the real one, but for what they change */
    struct snapshot *snap;
    struct ref asks;
    _Atomic bool over;
};

/* The server knows that some agents are away: then the handler hears so, as it would. */
static void asked(void *arg, const char *host_uuid)
{
    struct rehearsal *r = arg;
    const struct row *host = snapshot_by_uuid(r->snap, CLASS_host, host_uuid);
    if (!host || !storage_host_is_live(r->snap, host->ref) || r->over)
        return;
    r->asks = host->ref;
    r->over = true;
}

struct rehearsal *rehearsal_new(struct server *server, struct snapshot *snap)
{
    struct rehearsal *r = xcalloc(1, sizeof(*r));
    r->real = server;
    r->snap = snapshot_ref(snap);
    /* Parts that are not here are of no use to the messages that are rehearsed, or would tell others. */
    r->server = (struct server){.store = store_fork(snap),
                                .hosts = hosts_stand_in(server->hosts, asked, r),
                                .claims = claims_new(),
                                .tasks = tasks_new(),
                                .rehearsal = r,
                                .sessions = server->sessions,
                                .recovery = server->recovery,
                                .ha = server->ha,
                                .schedules = server->schedules,
                                .rates = server->rates,
                                .members = server->members,
                                .state_dir = server->state_dir,
                                .listen = server->listen,
                                .web_dir = server->web_dir,
                                .auth = server->auth,
                                .metrics = server->metrics,
                                .front = server->front,
                                .fetch_rules = server->fetch_rules,
                                .pam_dir = server->pam_dir,
                                .nbd = server->nbd,
                                .port = server->port,
                                .upload_keep_s = server->upload_keep_s,
                                .pool_ref = server->pool_ref};
    return r;
}

void rehearsal_free(struct rehearsal *r)
{
    if (!r)
        return;
    hosts_free(r->server.hosts);
    claims_free(r->server.claims);
    tasks_free(r->server.tasks);
    store_close(r->server.store);
    snapshot_unref(r->snap);
    free(r);
}

/* What it holds of the fork goes before that. */
static void forget_answer(struct call *call)
{
    if (call->result_type)
        cell_done(call->result_type, &call->result);
    call->result_type = NULL;
    answer_pieces_free(call->pieces);
    call->pieces = NULL;
    if (call->kept_row)
        row_unref(call->kept_row);
    call->kept_row = NULL;
    snapshot_unref(call->snapshot);
    call->snapshot = NULL;
    call->cancel = NULL;
    call->task = REF_NULL;
}

enum rehearsed rehearsal_run(struct rehearsal *r, struct call *call)
{
    const struct method_desc *m = call->method;
    if (r->over || (m->flags & METHOD_HANDLER && !(m->flags & METHOD_REHEARSED)))
        return REHEARSED_OPEN;
    bool quiet = log_quiet(true);
    call->server = &r->server;
    int rc = work_rehearse(call);
    forget_answer(call);
    call->server = r->real;
    log_quiet(quiet);
    if (r->over) {
        api_err_done(&call->err);
        return REHEARSED_OPEN;
    }
    return rc < 0 ? REHEARSED_REFUSED : REHEARSED_DONE;
}

struct snapshot *rehearsal_snapshot(struct rehearsal *r)
{
    return store_snapshot(r->server.store);
}

struct ref rehearsal_asks(const struct rehearsal *r)
{
    return r->asks;
}

const _Atomic bool *rehearsal_cancel(const struct rehearsal *r)
{
    return &r->over;
}

int rehearsal_leave(struct rehearsal *r, struct api_err *err)
{
    r->over = true;
    return fail_internal(err, "A rehearsal goes no further.");
}
