/* A call on its way through the workers. One that may last (it has an async mode, or marks an operation) has
 * a task: made together with the mark, and for a synchronous call gone with it. While another operation is in
 * the way of the mark the call is parked, and comes back here when that has changed. */
#include "work.h"

#include "../rules/operations.h"
#include "commits.h"
#include "gate.h"
#include "generic.h"
#include "park.h"
#include "rehearsal.h"
#include "roles.h"
#include "session.h"
#include "task.h"
#include "trail.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <inttypes.h>
#include <model/errors.h>

/* A hard shutdown waits so long for what it has cancelled, then it goes on beside it. */
#define OVERRULE_WAIT_MS (60 * 1000)

/* ---- tasks of HTTP handlers ---- */

struct ending {
    struct call *call; /* NULL: a task without a call */
    struct ref task;
    const char *result_xml;
    const struct api_err *err; /* NULL: success */
};

/* A client's own task gets a runner. */
static int adopt_for_http(struct server *server, const struct session *session,
                          const struct task_claim *claim, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    const struct task_row *task = task_row(tx_get(tx, CLASS_task, claim->adopt));
    int rc = 0;
    if (!task)
        rc = fail_handle(err, CLASS_task, claim->adopt);
    else if (!task_is_own(task, session))
        rc = roles_allow(session, "task.adopt/any", err);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    if (!str_map_get(task->work, TASK_WORK_MODE)) {
        struct task_row *edit = task_row_mut(tx_edit(tx, CLASS_task, claim->adopt));
        str_map_put(&edit->work, TASK_WORK_MODE, TASK_MODE_HTTP);
        edit->allowed_operations = (uint64_t)1 << TASK_ALLOWED_OPERATIONS_CANCEL;
    }
    return server_commit(tx, err);
}

int gate_task_open(struct server *server, struct session *session, const char *label,
                   const struct task_claim *claim, struct ref *task, const _Atomic bool **cancel,
                   struct api_err *err)
{
    struct ref ref = claim->adopt;
    if (!ref_is_null(ref)) {
        if (adopt_for_http(server, session, claim, err) < 0)
            return -1;
    } else {
        const struct task_spec spec = {.label = label,
                                       .description = "",
                                       .owner = session,
                                       .parent = claim->parent,
                                       .other_config = claim->origin,
                                       .mode = TASK_MODE_HTTP,
                                       .message = label,
                                       .cancellable = true};
        struct tx *tx = store_begin(server->store);
        ref = task_create(tx, &spec);
        if (server_commit(tx, err) < 0)
            return -1;
    }
    *task = ref;
    *cancel = task_running(server->tasks, ref);
    return 0;
}

int gate_task_begin(struct server *server, struct session *session, const char *label, struct ref adopt,
                    struct ref *task, const _Atomic bool **cancel, struct api_err *err)
{
    const struct task_claim claim = {.adopt = adopt};
    return gate_task_open(server, session, label, &claim, task, cancel, err);
}

static void end_task(struct tx *tx, void *arg)
{
    const struct ending *ending = arg;
    task_complete(tx, ending->task, ending->result_xml, ending->err);
}

void gate_task_end(struct server *server, struct ref task, const char *result_xml, const struct api_err *err)
{
    struct ending ending = {.task = task, .result_xml = result_xml, .err = err};
    server_insist(server, end_task, &ending);
    task_ended(server->tasks, task);
}

void gate_task_refuse(struct server *server, struct ref task, const struct api_err *err)
{
    struct ending ending = {.task = task, .err = err};
    server_insist(server, end_task, &ending);
}

void task_claim_done(struct task_claim *claim)
{
    str_map_unref(claim->origin);
    *claim = (struct task_claim){0};
}

/* ---- the message itself ---- */

int work_run_message(struct call *call)
{
    const struct method_desc *m = call->method;
    if (m->flags & METHOD_HANDLER) {
        int rc = handler_table[m->index](call, call->args, &call->result, &call->err);
        if (rc == 0)
            call->result_type = m->result;
        return rc;
    }
    return generic_writes(m) ? generic_write(call, call->args, &call->err)
                             : generic_read(call, call->args, &call->err);
}

/* The first object that the call names, as it was when it began; NULL: it names none. */
static const struct row *first_object(const struct call *call)
{
    for (size_t i = 0; call->args && call->snapshot && i < call->method->param_count; i++) {
        const struct param_desc *param = &call->method->params[i];
        const union cell *cell = (const union cell *)((const char *)call->args + param->offset);
        const struct class_desc *cls = param->type->cls;
        if (param->type->kind == TYPE_REF && cls->row_size && cls->uuid && cls != CLASS_session)
            return snapshot_get(call->snapshot, cls, cell->ref);
    }
    return NULL;
}

/* The parameters of the error, but for those that may name a session or repeat a secret. */
static void add_details(struct buf *text, const struct call *call)
{
    const struct api_err *err = &call->err;
    bool of_session = strncmp(err->code, "SESSION_", strlen("SESSION_")) == 0 ||
                      (err->param_count && streq(err->params[0], "session"));
    if (of_session || call->method->flags & METHOD_SECRET_ARGS)
        return;
    for (size_t i = 0; i < err->param_count; i++)
        if (*err->params[i])
            buf_printf(text, "%s%s", text->len ? ", " : "", err->params[i]);
}

static void log_outcome(const struct call *call, int rc)
{
    AUTO_BUF struct buf details = BUF_INIT;
    if (!log_enabled(LOG_INFO_LEVEL))
        return;
    const struct row *row = first_object(call);
    const char *user = call->session ? call->session->user : "";
    const char *object = row ? "object" : NULL; /* no key: no pairs any more */
    const char *uuid = row ? row_cell(row, row->cls->uuid)->str : "";
    const char *named = row && row->cls->name_label ? "name" : NULL;
    const char *name = named ? row_cell(row, row->cls->name_label)->str : "";
    if (rc == 0) {
        log_info("call", "done", "message", call->method->name, "user", user, "from", call->peer, object,
                 uuid, named, name);
        return;
    }
    add_details(&details, call);
    log_info("call", "refused or failed", "message", call->method->name, "user", user, "from", call->peer,
             "error", call->err.code, "details", details.len ? details.data : "", object, uuid, named, name);
}

void work_log_outcome(const struct call *call, int rc)
{
    if (call->method->flags & METHOD_NO_SESSION)
        return; /* logins tell of themselves */
    trail_call(call, rc < 0 ? &call->err : NULL);
    log_outcome(call, rc);
}

/* ---- the end ---- */

static bool marks(const struct call *call)
{
    return call->method->operation_param >= 0;
}

static struct ref operation_object(const struct call *call)
{
    const struct param_desc *param = &call->method->params[call->method->operation_param];
    return ((const union cell *)((const char *)call->args + param->offset))->ref;
}

static const struct class_desc *operation_class(const struct call *call)
{
    return call->method->params[call->method->operation_param].type->cls;
}

static void end_call(struct tx *tx, void *arg)
{
    const struct ending *ending = arg;
    const struct call *call = ending->call;
    if (marks(call))
        operation_unmark(tx, operation_class(call), operation_object(call), call->task);
    if (call->adopted && !call->completes)
        return; /* whoever gave us the task says what becomes of it */
    if (call->async)
        end_task(tx, arg);
    else if (tx_get(tx, CLASS_task, call->task))
        tx_delete(tx, CLASS_task, call->task);
}

/* The value of the task's result, as an XML-RPC fragment. */
static void write_result(const struct call *call, struct buf *xml)
{
    if (call->raw)
        buf_add(xml, call->raw, call->raw_len);
    else if (call->result_type)
        cell_write_xml(call->result_type, &call->result, xml);
    if (xml->len == 0)
        buf_add_str(xml, "<value></value>");
}

/* An agent's word that it stopped on request does not know for whom. */
static void name_cancelled_task(struct call *call)
{
    if (streq(call->err.code, "TASK_CANCELLED"))
        err_task_cancelled(&call->err, REF_TEXT(call->task));
}

static void end(struct call *call, int rc)
{
    AUTO_BUF struct buf xml = BUF_INIT;
    call_check_error(call, rc);
    if (rc == 0)
        failpoint_of("handled", call->method->name);
    else
        name_cancelled_task(call);
    if (call->async && rc == 0)
        write_result(call, &xml);
    struct ending ending = {
        .call = call, .task = call->task, .result_xml = xml.data, .err = rc < 0 ? &call->err : NULL};
    work_log_outcome(call, rc);
    call->failed = rc < 0;
    server_insist(call->server, end_call, &ending);
    task_ended(call->server->tasks, call->task);
    if (call->async)
        call_free(call); /* the client has its answer, the task */
    else
        call_finish(call, rc);
}

/* ---- task and mark ---- */

static struct ref create_task(struct tx *tx, const struct call *call)
{
    const struct task_spec spec = {.label = call->async ? call->name : call->method->name,
                                   .description = "",
                                   .owner = call->session,
                                   .parent = call->claim.parent,
                                   .other_config = call->claim.origin,
                                   .mode = call->async ? TASK_MODE_ASYNC : TASK_MODE_CALL,
                                   .message = call->method->name,
                                   .cancellable = true};
    return task_create(tx, &spec);
}

/* The task that a header names: the client's own, or with the role that may touch those of others. */
static int adopt_task(struct call *call, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct task_row *task = task_row(snapshot_get(snap, CLASS_task, call->claim.adopt));
    if (!task)
        return fail_handle(err, CLASS_task, call->claim.adopt);
    if (!task_is_own(task, call->session) && roles_allow(call->session, "task.adopt/any", err) < 0)
        return -1;
    call->adopted = true;
    call->task = call->claim.adopt;
    call->cancel = task_running(call->server->tasks, call->task);
    return 0;
}

static int begin_task(struct call *call, struct api_err *err)
{
    if (!ref_is_null(call->claim.adopt))
        return adopt_task(call, err);
    struct tx *tx = store_begin(call->server->store);
    struct ref task = create_task(tx, call);
    if (server_commit(tx, err) < 0)
        return -1;
    call->task = task;
    call->cancel = task_running(call->server->tasks, task);
    return 0;
}

/* What a call that is cut short was to bring about can then be recorded when its host has done it. */
static void note_value(const struct str_map **work, const struct call *call)
{
    int at = call->method->operation_param + 1;
    if (at >= call->method->param_count)
        return;
    const struct param_desc *param = &call->method->params[at];
    const union cell *value = (const union cell *)((const char *)call->args + param->offset);
    AUTO_STR const char *number = param->type->kind == TYPE_INT ? str_newf("%" PRId64, value->i) : NULL;
    if (number || param->type->kind == TYPE_REF)
        str_map_put(work, TASK_WORK_VALUE, number ? number : REF_TEXT(value->ref));
}

static void note_mark(struct tx *tx, const struct call *call, struct ref task)
{
    const struct task_row *row = task_row(tx_get(tx, CLASS_task, task));
    if (!row || call->adopted)
        return;
    const struct class_desc *cls = operation_class(call);
    const struct str_map **work = &task_row_mut(tx_edit(tx, CLASS_task, task))->work;
    str_map_put(work, TASK_WORK_CLASS, cls->name);
    str_map_put(work, TASK_WORK_OBJECT, REF_TEXT(operation_object(call)));
    str_map_put(work, TASK_WORK_OPERATION, operation_name(cls, call->method->operation));
    note_value(work, call);
}

/* One try: the task if there is none yet, and the mark. 0: both are there. -1: not the mark; with
 * OTHER_OPERATION_IN_PROGRESS there is a task all the same. *seen: the version that was looked at. */
static int try_mark(struct call *call, uint64_t *seen, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    bool fresh = ref_is_null(call->task);
    *seen = tx_generation(tx) - 1;
    int rc = marks(call) ? operation_check(tx, operation_class(call), operation_object(call),
                                           call->method->operation, err)
                         : 0;
    bool busy = rc < 0 && err->desc == ERROR_OTHER_OPERATION_IN_PROGRESS;
    if (rc < 0 && !(busy && fresh)) {
        tx_abort(tx);
        return -1;
    }
    struct ref task = fresh ? create_task(tx, call) : call->task;
    if (rc == 0 && marks(call)) {
        operation_mark(tx, operation_class(call), operation_object(call), task, call->method->operation);
        note_mark(tx, call, task);
    }
    AUTO_API_ERR struct api_err failed = API_ERR_INIT;
    if (server_commit(tx, &failed) < 0) {
        api_err_done(err);
        api_err_copy(err, &failed);
        return -1;
    }
    if (fresh) {
        call->task = task;
        call->cancel = task_running(call->server->tasks, task);
    }
    return rc;
}

static void resume(void *arg);

/* Leaves the worker until the obstacle (its class and reference are the error's first parameters) has
 * changed. False: it may not wait, or not any more; then err says why. */
static bool park(struct call *call, uint64_t seen, int64_t until_ms, struct api_err *err)
{
    struct parked parked = {.call = call,
                            .resume = resume,
                            .cls = operation_class(call),
                            .object = operation_object(call),
                            .generation = seen,
                            .until_ms = until_ms};
    if (clock_mono_ms() >= until_ms)
        return false;
    if (*call->cancel) {
        err_task_cancelled(err, REF_TEXT(call->task));
        return false;
    }
    const struct class_desc *cls = err->param_count >= 2 ? class_find(err->params[0]) : NULL;
    struct ref object;
    if (cls && cls->row_size && ref_parse(err->params[1], &object)) {
        parked.cls = cls;
        parked.object = object;
    }
    /* Whoever waits holds back no old rows; and from the next line on the call may be another thread's. */
    snapshot_unref(TAKE_PTR(call->snapshot));
    api_err_done(err); /* told to nobody: the call waits */
    if (parking_add(call->server->parking, &parked))
        return true;
    fail_internal(err, "The server is stopping.");
    return false;
}

/* ---- the run ---- */

static void run_marked(struct call *call)
{
    failpoint_of("marked", call->method->name);
    /* What the object is now, with the mark: handlers decide on this. */
    snapshot_unref(call->snapshot);
    call->snapshot = gate_snapshot(call);
    int rc = work_run_message(call);
    if (rc < 0 || !call->take_over) {
        end(call, rc);
        return;
    }
    snapshot_unref(TAKE_PTR(call->snapshot)); /* it holds back no old rows while others work for it */
    call->take_over(call, call->take_over_arg);
}

static void end_taken(void *arg)
{
    struct call *call = arg;
    end(call, call->failed ? -1 : 0);
}

void work_end_taken(struct call *call, int rc)
{
    call->failed = rc < 0;
    /* The end waits for the store: not for the caller's thread, if there is another. */
    if (worker_submit(call->server->workers, end_taken, call) < 0)
        end_taken(call);
}

/* What the operation outranks has been asked to stop: the run begins when it has. */
static void wait_for_overruled(struct call *call)
{
    AUTO_API_ERR struct api_err none = API_ERR_INIT;
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    uint64_t seen = snapshot_generation(snap);
    if (operation_overrules(snap, operation_class(call), operation_object(call), call->method->operation) &&
        park(call, seen, call->overrule_until_ms, &none))
        return;
    run_marked(call);
}

static void mark_and_run(struct call *call)
{
    uint64_t seen;
    struct api_err *err = &call->err;
    if (try_mark(call, &seen, err) == 0) {
        call->marked = true;
        if (marks(call)) {
            call->overrule_until_ms = clock_mono_ms() + OVERRULE_WAIT_MS;
            operation_interrupt(call->server, operation_class(call), operation_object(call),
                                call->method->operation);
            wait_for_overruled(call);
        } else {
            run_marked(call);
        }
        return;
    }
    if (err->desc == ERROR_OTHER_OPERATION_IN_PROGRESS && park(call, seen, call->wait_until_ms, err))
        return;
    if (ref_is_null(call->task)) { /* a synchronous call that never began */
        work_log_outcome(call, -1);
        call_finish(call, -1);
        return;
    }
    end(call, -1);
}

static void resume(void *arg)
{
    struct call *call = arg;
    if (call->marked)
        wait_for_overruled(call);
    else
        mark_and_run(call);
}

static bool wants_task(const struct call *call)
{
    return (call->method->flags & METHOD_ASYNC) || marks(call);
}

static void finish_small(struct call *call, int rc)
{
    call_check_error(call, rc);
    if (call->method->kind != METHOD_GETTER)
        work_log_outcome(call, rc);
    call_finish(call, rc);
}

void work_finish_changes(struct call *const calls[], size_t count)
{
    trail_calls(calls, count);
    for (size_t i = 0; i < count; i++) {
        log_outcome(calls[i], calls[i]->failed ? -1 : 0);
        call_finish(calls[i], calls[i]->failed ? -1 : 0);
    }
}

/* The thread does not wait for the disk while others are at it. */
static int change_small(struct call *call)
{
    struct tx *tx = store_begin(call->server->store);
    return generic_edit(tx, call, call->args, &call->err) < 0 ? -1
                                                              : commits_add(call->server->commits, tx, call);
}

static void run_small(struct call *call)
{
    int rc = generic_writes(call->method) ? change_small(call) : work_run_message(call);
    if (rc <= 0)
        finish_small(call, rc);
}

/* False: it would wait for another transaction. */
static bool queue_small(struct call *call)
{
    struct tx *tx = store_begin_soon(call->server->store);
    if (!tx)
        return false;
    int rc = generic_edit(tx, call, call->args, &call->err);
    if (rc == 0)
        rc = commits_queue(call->server->commits, tx, call);
    if (rc <= 0)
        finish_small(call, rc);
    return true;
}

bool work_at_once(struct call *call)
{
    struct server *server = call->server;
    if (server->closing || call->async || wants_task(call) || !generic_writes(call->method))
        return false;
    if (!call->alone || atomic_exchange(&server->written_alone, true))
        return queue_small(call);
    run_small(call);
    atomic_store(&server->written_alone, false);
    return true;
}

void work_call(void *arg)
{
    struct call *call = arg;
    if (!wants_task(call)) {
        run_small(call);
        return;
    }
    if (!call->async && !ref_is_null(call->claim.adopt) && adopt_task(call, &call->err) < 0) {
        work_log_outcome(call, -1);
        call_finish(call, -1);
        return;
    }
    call->wait_until_ms = clock_mono_ms() + call->server->operation_wait_ms;
    if (roles_check(call, &call->err) < 0)
        end(call, -1);
    else
        mark_and_run(call);
}

static const struct type *task_ref_type(void)
{
    static const char name[] = "task.create";
    return method_find(name, sizeof(name) - 1)->result;
}

/* Answers an Async call with its task, then lets the work go on with a copy of what it needs. */
void work_call_async(void *arg)
{
    struct call *call = arg;
    if (begin_task(call, &call->err) < 0) {
        call_finish(call, -1);
        return;
    }
    struct call *answer = call_new(call->server, call->name, NULL, false, call->peer, call->complete);
    answer->form = call->form;
    answer->reply = call->reply;
    call->reply = NULL;
    call->form = ANSWER_XML; /* of the task's result */
    answer->result.ref = call->task;
    answer->result_type = task_ref_type();
    call_finish(answer, 0);
    work_call(call);
}

int work_rehearse(struct call *call)
{
    uint64_t seen;
    struct ending ending = {.call = call};
    bool tasked = wants_task(call);
    int rc = tasked ? try_mark(call, &seen, &call->err) : 0;
    snapshot_unref(call->snapshot);
    call->snapshot = store_snapshot(call->server->store);
    if (rc < 0)
        return -1;
    call->cancel = rehearsal_cancel(call->server->rehearsal);
    rc = work_run_message(call);
    if (tasked)
        server_insist(call->server, end_call, &ending);
    return rc;
}
