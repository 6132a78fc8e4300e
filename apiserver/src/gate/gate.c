/* The gate. A call goes through it in this order, and the first refusal wins:
 *   message known -> number of parameters -> session -> types -> role -> [task] -> operation mark -> run ->
 * unmark (from the task on in work.c). Reads and other messages that never block run where they arrive; all
 * else goes to the workers. */
#include "gate.h"

#include "../dr/database.h"
#include "../members/members.h"

#include "call_log.h"

#include "../plan/overhead.h"
#include "../rules/operations.h"
#include "../timers.h"
#include "answer.h"
#include "auth.h"
#include "decode.h"
#include "generic.h"
#include "rehearsal.h"
#include "roles.h"
#include "session.h"
#include "system.h"
#include "trail.h"
#include "work.h"
#include <assert.h>
#include <base/log.h>
#include <base/mem.h>
#include <inttypes.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#define INSIST_PAUSE_MAX_NS 200000000

int fail_internal(struct api_err *err, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return err_internal_error(err, text);
}

int fail_handle(struct api_err *err, const struct class_desc *cls, struct ref ref)
{
    return err_handle_invalid(err, cls->name, REF_TEXT(ref));
}

int fail_store(struct api_err *err, const struct store_err *cause)
{
    log_error("store", "a change could not be made durable; nothing of it was applied", "cause", cause->text);
    if (cause->code == STORE_E_DISK_FULL)
        return fail_internal(
            err, "The server's disk is full: nothing was changed. Free some space and try again.");
    return fail_internal(err, "The server's database could not be written: nothing was changed.");
}

void server_refresh(struct tx *tx)
{
    tx_each_touched(tx, overhead_refresh, NULL);
    tx_each_touched(tx, operations_refresh_touched, NULL);
}

int server_commit(struct tx *tx, struct api_err *err)
{
    struct store_err cause;
    server_refresh(tx);
    if (tx_commit(tx, NULL, &cause) < 0)
        return fail_store(err, &cause);
    return 0;
}

const char *server_object_text(const struct server *server, const struct class_desc *cls, struct ref ref,
                               char out[static OBJECT_TEXT_SIZE])
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct row *row = snapshot_get(snap, cls, ref);
    const char *uuid = row && cls->uuid ? row_cell(row, cls->uuid)->str : NULL;
    const char *label = uuid && cls->name_label ? row_cell(row, cls->name_label)->str : "";
    snprintf(out, OBJECT_TEXT_SIZE, *label ? "%s (%s)" : "%s", uuid ? uuid : REF_TEXT(ref), label);
    return out;
}

void server_insist(struct server *server, void (*edit)(struct tx *tx, void *arg), void *arg)
{
    struct timespec pause = {.tv_nsec = 1000000};
    for (;;) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct tx *tx = store_begin(server->store);
        edit(tx, arg);
        if (server_commit(tx, &err) == 0)
            return;
        if (server->closing && pause.tv_nsec > INSIST_PAUSE_MAX_NS)
            return; /* what is in memory only ends with it */
        nanosleep(&pause, NULL);
        if (pause.tv_nsec <= INSIST_PAUSE_MAX_NS)
            pause.tv_nsec *= 2;
    }
}

/* ---- life of a call ---- */

struct call *call_new(struct server *server, const char *name, json_t *params, bool lenient, const char *peer,
                      void (*complete)(struct call *))
{
    struct call *call = xcalloc(1, sizeof(*call));
    call->server = server;
    call->name = xstrdup(name);
    call->params = json_incref(params);
    call->lenient = lenient;
    snprintf(call->peer, sizeof(call->peer), "%s", peer);
    call->complete = complete;
    return call;
}

void call_free(struct call *call)
{
    if (!call->failed && call->method && call->server->call_log)
        call_log_note(call->server->call_log, call->method);
    args_free(call->method, call->args);
    if (call->result_type)
        cell_done(call->result_type, &call->result);
    free(call->raw);
    answer_pieces_free(call->pieces);
    api_err_done(&call->err);
    task_claim_done(&call->claim);
    if (call->kept_row)
        row_unref(call->kept_row);
    snapshot_unref(call->snapshot);
    session_unref(call->session); /* the last one closes the database that it reads from */
    json_decref(call->params);
    free(call->name);
    free(call);
}

void call_keep_row(struct call *call, const struct row *row)
{
    const struct row *old = call->kept_row;
    call->kept_row = row_ref(row);
    if (old)
        row_unref(old);
    snapshot_unref(call->snapshot);
    call->snapshot = NULL;
}

static void complete_late(void *arg)
{
    struct call *call = arg;
    call->complete(call);
}

void call_check_error(struct call *call, int rc)
{
    if (rc == 0 || call->err.code)
        return;
    log_error("gate", "a defect: a message failed without saying why", "message", call->name);
    fail_internal(&call->err, "%s failed, and the server does not know why: a defect of its.", call->name);
    assert(!"a message failed without an error");
}

void call_finish(struct call *call, int rc)
{
    call_check_error(call, rc);
    call->failed = rc < 0;
    if (call->delay_ms > 0)
        timers_after(call->server->timers, call->delay_ms, complete_late, call);
    else
        call->complete(call);
}

/* ---- before the run ---- */

struct session *gate_session(struct server *server, const char *text, struct api_err *err)
{
    struct ref ref;
    struct session *session = NULL;
    if (ref_parse(text, &ref) && !ref_is_null(ref))
        session = session_find(server->sessions, ref);
    if (!session)
        err_session_invalid(err, text);
    return session;
}

/* A message whose last parameters may be left out takes any number of further ones: clients of newer versions
 * know more of them. */
static int check_count(const struct call *call, struct api_err *err)
{
    const struct method_desc *m = call->method;
    int given = (int)json_array_size(call->params) - (m->flags & METHOD_NO_SESSION ? 0 : 1);
    if (given == m->required_count || (given > m->required_count && m->required_count < m->param_count))
        return 0;
    char expected[16], received[16];
    snprintf(expected, sizeof(expected), "%u", m->required_count);
    snprintf(received, sizeof(received), "%d", given);
    return err_message_parameter_count_mismatch(err, call->message, expected, received);
}

static int take_session(struct call *call, struct api_err *err)
{
    const json_t *first = json_array_get(call->params, 0); /* the count is right */
    if (json_typeof(first) != JSON_STRING)
        return err_session_invalid(err, "not a string");
    if (!call->session) /* a part of longer work has that of the work, which may be closed by now */
        call->session = gate_session(call->server, json_string_value(first), err);
    if (!call->session)
        return -1;
    json_array_remove(call->params, 0);
    return 0;
}

/* Whoever asks for what there is not has to have a session, if anything is given at all. */
static int refuse_unknown(struct call *call, struct api_err *err)
{
    if (json_array_size(call->params) > 0 && take_session(call, err) < 0)
        return -1;
    return err_message_method_unknown(err, call->message);
}

static int find_method(struct call *call, struct api_err *err)
{
    static const char *const prefixes[] = {"Async.", "InternalAsync."};
    call->message = call->name;
    for (size_t i = 0; i < ARRAY_LEN(prefixes) && !call->async; i++)
        if (strncmp(call->name, prefixes[i], strlen(prefixes[i])) == 0) {
            call->async = true;
            call->completes = i == 1; /* also a task that the caller gave */
            call->message += strlen(prefixes[i]);
        }
    const struct method_desc *method = method_find(call->message, strlen(call->message));
    if (!method || (method->flags & METHOD_POOL_INTERNAL))
        return refuse_unknown(call, err);
    if (call->async && !streq(method->name, call->message)) /* VM_start */
        return refuse_unknown(call, err);
    call->method = method;
    return 0;
}

static int refuse_async(const struct call *call, struct api_err *err)
{
    AUTO_FREE char *text = xasprintf("No async mode for this operation (rpc: %s)", call->message);
    const char *params[] = {text};
    return api_err_set_code(err, "Fault", params, 1);
}

static bool is_built(const struct method_desc *method)
{
    return (method->flags & METHOD_HANDLER) || generic_serves(method);
}

/* Who may not call it hears just that. */
static int refuse_unbuilt(const struct call *call, struct api_err *err)
{
    if (roles_check(call, err) < 0) {
        trail_call(call, err);
        return -1;
    }
    return err_not_implemented(err, call->method->name);
}

/* What a member of a pool does by itself; everything else is the coordinator's. */
static bool is_for_members(const struct call *call)
{
    static const char *const names[] = {"session.slave_local_login",
                                        "session.slave_local_login_with_password",
                                        "session.local_logout",
                                        "session.logout",
                                        "pool.emergency_transition_to_master",
                                        "pool.emergency_reset_master",
                                        "pool.is_slave",
                                        "host.is_in_emergency_mode",
                                        "host.list_methods",
                                        "host.shutdown_agent"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (streq(call->method->name, names[i]))
            return true;
    return false;
}

struct snapshot *gate_snapshot(const struct call *call)
{
    return call->session && call->session->database ? database_snapshot(call->session->database)
                                                    : store_snapshot(call->server->store);
}

static int check_database(const struct call *call, struct api_err *err)
{
    if (!call->session || !call->session->database || database_serves(call->method))
        return 0;
    return err_operation_not_allowed(
        err, "This session reads from a saved database, where nothing can be changed.");
}

static bool is_inline(const struct call *call)
{
    const struct method_desc *m = call->method;
    return m->flags & METHOD_INLINE || !(m->flags & METHOD_HANDLER || generic_writes(m));
}

/* What would be lost with the database that is about to go. Reading goes on, so that whoever replaced it
 * hears how that went. */
static int refuse_change(const struct call *call, struct api_err *err)
{
    const char *name = call->method->name;
    if (is_inline(call) || strncmp(name, "session.", 8) == 0 || strncmp(name, "task.", 5) == 0)
        return 0;
    return err_host_still_booting(err);
}

static int prepare(struct call *call, struct api_err *err)
{
    if (find_method(call, err) < 0 || check_count(call, err) < 0)
        return -1;
    if (members_is_member(call->server) && !is_for_members(call))
        return members_refuse(call->server, err);
    if (!(call->method->flags & METHOD_NO_SESSION) && take_session(call, err) < 0)
        return -1;
    if (call->method->flags & METHOD_REMOVED && !(call->method->flags & METHOD_HANDLER))
        return err_message_removed(err);
    if (call->async && !(call->method->flags & METHOD_ASYNC))
        return refuse_async(call, err);
    if (call->method->param_count) {
        enum decode_mode mode = call->lenient ? DECODE_LENIENT : DECODE_STRICT;
        if (decode_args(call->method, call->params, mode, &call->args, err) < 0)
            return -1;
        if (call->session)
            session_translate(call->session, call->method, call->args);
    }
    if (check_database(call, err) < 0 ||
        (atomic_load(&call->server->replaced) && refuse_change(call, err) < 0))
        return -1;
    call->snapshot = gate_snapshot(call);
    return is_built(call->method) ? 0 : refuse_unbuilt(call, err);
}

/* ---- where it runs ---- */

static void queue_full(struct call *call)
{
    log_warn("gate", "refused a call: all workers are busy and the queue is full", "message",
             call->method->name);
    fail_internal(&call->err, "The server is too busy now: try again in a moment.");
    call_finish(call, -1);
}

void gate_run(struct call *call)
{
    if (system_serves(call->name)) {
        call_finish(call, system_run(call, &call->err));
        return;
    }
    if (prepare(call, &call->err) < 0) {
        call_finish(call, -1);
        return;
    }
    if (call->method->flags & METHOD_NO_SESSION) {
        auth_schedule(call, work_call);
        return;
    }
    if (!call->async && roles_check(call, &call->err) < 0) {
        work_log_outcome(call, -1);
        call_finish(call, -1);
        return;
    }
    if (!call->async && is_inline(call)) {
        int rc = work_run_message(call);
        if (rc == 0 && call->take_over)
            call->take_over(call, call->take_over_arg);
        else
            call_finish(call, rc);
        return;
    }
    if (work_at_once(call))
        return;
    if (worker_submit(call->server->workers, call->async ? work_call_async : work_call, call) < 0)
        queue_full(call);
}

/* ---- a call within a call ---- */

/* It may be parked, and go on on another worker. */
struct within {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done, failed;
    struct api_err *err;
};

static void within_done(struct call *call)
{
    struct within *within = call->reply;
    bool failed = call->failed;
    if (failed)
        api_err_copy(within->err, &call->err);
    call_free(call);
    pthread_mutex_lock(&within->lock);
    within->failed = failed;
    within->done = true;
    pthread_cond_signal(&within->ended);
    pthread_mutex_unlock(&within->lock);
}

int gate_call_within(struct call *parent, const char *name, json_t *params, struct api_err *err)
{
    json_t *all = json_array();
    json_array_append_new(all, json_string(REF_TEXT(parent->session->token)));
    json_array_extend(all, params);
    struct call *call = call_new(parent->server, name, all, false, parent->peer, within_done);
    json_decref(all);
    call->claim.parent = parent->task;
    return gate_call_blocking(call, err);
}

int gate_prepare(struct call *call, struct api_err *err)
{
    if (prepare(call, err) < 0)
        return -1;
    if (roles_check(call, err) == 0)
        return 0;
    trail_call(call, err);
    return -1;
}

int gate_call_blocking(struct call *call, struct api_err *err)
{
    struct within within = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER, .err = err};
    call->reply = &within;
    call->complete = within_done;
    if (call->server->rehearsal)
        call_finish(call, rehearsal_leave(call->server->rehearsal, &call->err));
    else if (prepare(call, &call->err) < 0 || roles_check(call, &call->err) < 0)
        call_finish(call, -1);
    else
        work_call(call);
    pthread_mutex_lock(&within.lock);
    while (!within.done)
        pthread_cond_wait(&within.ended, &within.lock);
    pthread_mutex_unlock(&within.lock);
    pthread_mutex_destroy(&within.lock);
    pthread_cond_destroy(&within.ended);
    return within.failed ? -1 : 0;
}
