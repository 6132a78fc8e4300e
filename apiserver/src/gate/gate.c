/* The gate. A call goes through it in this order, and the first refusal wins:
 *   message known -> number of parameters -> session -> types -> role -> [task] -> operation mark -> run ->
 * unmark. Reads and other messages that never block run where they arrive; all else goes to the workers. */
#include "gate.h"

#include "call_log.h"

#include "../rules/operations.h"
#include "../timers.h"
#include "auth.h"
#include "decode.h"
#include "generic.h"
#include "roles.h"
#include "session.h"
#include "system.h"
#include "task.h"
#include "trail.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <inttypes.h>
#include <model/errors.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* How long a call waits inside the server for another operation on its object to end. */
#define OPERATION_WAIT_MS (120 * 1000)
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

int server_commit(struct tx *tx, struct api_err *err)
{
    tx_each_touched(tx, operations_refresh_touched, NULL);
    struct store_err cause;
    if (tx_commit(tx, NULL, &cause) < 0)
        return fail_store(err, &cause);
    return 0;
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
    api_err_done(&call->err);
    session_unref(call->session);
    if (call->kept_row)
        row_unref(call->kept_row);
    snapshot_unref(call->snapshot);
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

static void finish(struct call *call, int rc)
{
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
    const json_t *first = json_array_get(call->params, 0);
    if (!json_is_string(first))
        return err_session_invalid(err, first ? "not a string" : "");
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

static int prepare(struct call *call, struct api_err *err)
{
    if (find_method(call, err) < 0 || check_count(call, err) < 0)
        return -1;
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
    call->snapshot = store_snapshot(call->server->store);
    return is_built(call->method) ? 0 : refuse_unbuilt(call, err);
}

/* ---- tasks and operations around the run ---- */

int gate_task_begin(struct server *server, struct session *session, const char *label, struct ref adopt,
                    struct ref *task, const _Atomic bool **cancel, struct api_err *err)
{
    if (!ref_is_null(adopt)) {
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
        if (!snapshot_get(snap, CLASS_task, adopt))
            return fail_handle(err, CLASS_task, adopt);
        *task = adopt;
        *cancel = task_running(server->tasks, adopt);
        return 0;
    }
    struct tx *tx = store_begin(server->store);
    struct ref ref = task_create(server, tx, label, "", session, REF_NULL, true);
    if (server_commit(tx, err) < 0)
        return -1;
    *task = ref;
    *cancel = task_running(server->tasks, ref);
    return 0;
}

struct ending {
    struct call *call; /* NULL: a task without a call */
    struct ref task;
    const char *result_xml;
    const struct api_err *err; /* NULL: success */
};

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

static void end_waiting_task(struct tx *tx, void *arg)
{
    const struct ending *ending = arg;
    const struct task_row *task = task_row(tx_get(tx, CLASS_task, ending->task));
    if (task && task->status == TASK_STATUS_TYPE_PENDING)
        end_task(tx, arg);
}

void gate_task_refuse(struct server *server, struct ref task, const struct api_err *err)
{
    struct ending ending = {.task = task, .err = err};
    server_insist(server, end_waiting_task, &ending);
}

static bool wants_task(const struct call *call)
{
    return (call->method->flags & METHOD_ASYNC) || call->method->operation_param >= 0;
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

/* Marks the operation, waiting as long as only another operation on the object is in the way. */
static int mark_operation(struct call *call, struct api_err *err)
{
    struct server *server = call->server;
    const struct class_desc *cls = operation_class(call);
    struct ref object = operation_object(call);
    int64_t deadline = clock_mono_ms() + OPERATION_WAIT_MS;
    for (;;) {
        struct tx *tx = store_begin(server->store);
        uint64_t seen = tx_generation(tx);
        int rc = operation_check(tx, cls, object, call->method->operation, err);
        if (rc == 0) {
            operation_mark(tx, cls, object, call->task, call->method->operation);
            if (server_commit(tx, err) < 0)
                return -1;
            operation_interrupt(server, cls, object, call->method->operation);
            return 0;
        }
        tx_abort(tx);
        bool busy = err->desc == ERROR_OTHER_OPERATION_IN_PROGRESS;
        if (!busy || clock_mono_ms() >= deadline)
            return -1;
        if (call->cancel && *call->cancel)
            return err_task_cancelled(err, REF_TEXT(call->task));
        if (server->closing)
            return fail_internal(err, "The server is stopping.");
        api_err_done(err);
        int64_t until = clock_mono_ms() + 1000; /* look at the cancel flag now and then */
        store_wait(server->store, seen - 1, until < deadline ? until : deadline);
    }
}

static void end_operation(struct tx *tx, void *arg)
{
    const struct ending *ending = arg;
    struct call *call = ending->call;
    if (call->method->operation_param >= 0)
        operation_unmark(tx, operation_class(call), operation_object(call), call->task);
    if (call->async)
        end_task(tx, arg);
    else if (tx_get(tx, CLASS_task, call->task))
        tx_delete(tx, CLASS_task, call->task);
}

static void unmark_and_end(struct call *call, int rc)
{
    AUTO_BUF struct buf xml = BUF_INIT;
    if (call->async && rc == 0 && call->result_type)
        cell_write_xml(call->result_type, &call->result, &xml);
    struct ending ending = {.call = call,
                            .task = call->task,
                            .result_xml = xml.len ? xml.data : "<value></value>",
                            .err = rc < 0 ? &call->err : NULL};
    server_insist(call->server, end_operation, &ending);
    task_ended(call->server->tasks, call->task);
}

static int run(struct call *call)
{
    const struct method_desc *m = call->method;
    if (m->flags & METHOD_HANDLER) {
        int rc = handler_table[m->index](call, call->args, &call->result, &call->err);
        if (rc == 0)
            call->result_type = m->result;
        return rc;
    }
    bool write = m->kind == METHOD_SETTER || m->kind == METHOD_ADD || m->kind == METHOD_REMOVE ||
                 m->kind == METHOD_CREATE || m->kind == METHOD_DESTROY;
    return write ? generic_write(call, call->args, &call->err) : generic_read(call, call->args, &call->err);
}

static int run_marked(struct call *call)
{
    if (call->method->operation_param < 0)
        return run(call);
    if (mark_operation(call, &call->err) < 0)
        return -1;
    /* What the object is now, with the mark: handlers decide on this. */
    snapshot_unref(call->snapshot);
    call->snapshot = store_snapshot(call->server->store);
    return run(call);
}

static void log_outcome(const struct call *call, int rc)
{
    if (call->method->flags & METHOD_NO_SESSION)
        return; /* logins tell of themselves */
    trail_call(call, rc < 0 ? &call->err : NULL);
    log_info("call", rc < 0 ? "refused or failed" : "done", "message", call->method->name, "user",
             call->session ? call->session->user : "", "from", call->peer, "error",
             rc < 0 ? call->err.code : "");
}

static int begin_task(struct call *call, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref task = task_create(call->server, tx, call->name, "", call->session, REF_NULL, call->async);
    if (server_commit(tx, err) < 0)
        return -1;
    call->task = task;
    call->cancel = task_running(call->server->tasks, task);
    return 0;
}

/* On a worker. */
static void work(void *arg)
{
    struct call *call = arg;
    if (!wants_task(call)) {
        int rc = run(call);
        if (call->method->kind != METHOD_GETTER)
            log_outcome(call, rc);
        finish(call, rc);
        return;
    }
    if (ref_is_null(call->task) && begin_task(call, &call->err) < 0) {
        finish(call, -1);
        return;
    }
    int rc = roles_check(call, &call->err);
    if (rc == 0)
        rc = run_marked(call);
    log_outcome(call, rc);
    unmark_and_end(call, rc);
    call->failed = rc < 0;
    if (call->async)
        call_free(call); /* the client has its answer, the task */
    else
        finish(call, rc);
}

static void queue_full(struct call *call)
{
    log_warn("gate", "refused a call: all workers are busy and the queue is full", "message",
             call->method->name);
    fail_internal(&call->err, "The server is too busy now: try again in a moment.");
    finish(call, -1);
}

static const struct type *task_ref_type(void)
{
    static const char name[] = "task.create";
    return method_find(name, sizeof(name) - 1)->result;
}

/* Answers an Async call with its task, then lets the work go on with a copy of what it needs. */
static void start_async(void *arg)
{
    struct call *call = arg;
    if (begin_task(call, &call->err) < 0) {
        finish(call, -1);
        return;
    }
    struct call *answer = call_new(call->server, call->name, NULL, false, call->peer, call->complete);
    answer->form = call->form;
    answer->reply = call->reply;
    call->reply = NULL;
    answer->result.ref = call->task;
    answer->result_type = task_ref_type();
    finish(answer, 0);
    work(call);
}

static bool is_inline(const struct call *call)
{
    const struct method_desc *m = call->method;
    if (m->flags & METHOD_INLINE)
        return true;
    return !(m->flags & METHOD_HANDLER) && m->kind != METHOD_SETTER && m->kind != METHOD_ADD &&
           m->kind != METHOD_REMOVE && m->kind != METHOD_CREATE && m->kind != METHOD_DESTROY;
}

void gate_run(struct call *call)
{
    if (system_serves(call->name)) {
        finish(call, system_run(call, &call->err));
        return;
    }
    if (prepare(call, &call->err) < 0) {
        finish(call, -1);
        return;
    }
    if (call->method->flags & METHOD_NO_SESSION) {
        auth_schedule(call, work);
        return;
    }
    if (!call->async && roles_check(call, &call->err) < 0) {
        log_outcome(call, -1);
        finish(call, -1);
        return;
    }
    if (is_inline(call)) {
        int rc = run(call);
        if (rc == 0 && call->take_over)
            call->take_over(call, call->take_over_arg);
        else
            finish(call, rc);
        return;
    }
    if (worker_submit(call->server->workers, call->async ? start_async : work, call) < 0)
        queue_full(call);
}
