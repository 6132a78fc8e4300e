/* A schedule is run when its moment has just passed. One that was missed (the server was down, or an earlier
 * schedule took that long) is told of and not made up for. */
#include "schedules.h"

#include "gate/gate.h"
#include "gate/local.h"
#include "gate/session.h"
#include "handlers/alert.h"
#include "plan/schedule.h"
#include "server.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>
#include <time.h>

#define PERIOD_MS 20000
#define LATE_SECONDS 300
#define WAITING_MAX 16

struct schedules {
    struct server *server;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct {
        struct call *call;
        struct ref vmss;
    } waiting[WAITING_MAX]; /* oldest first */
    size_t waiting_count;
    bool stop;
};

/* One schedule at work. */
struct round {
    struct server *server;
    struct session *session;
    struct ref vmss;
    size_t done, failed;
    struct buf report;
};

/* ---- calls ---- */

static int call_api(struct round *r, const char *name, json_t *params, json_t **result, struct api_err *err)
{
    AUTO_JSON json_t *own = params;
    json_array_insert_new(own, 0, json_string(REF_TEXT(r->session->token)));
    return local_call(r->server, "", name, own, result, err);
}

/* A call without a result that matters; a refusal is logged. */
static int call_quietly(struct round *r, const char *name, struct ref object)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_JSON json_t *nothing = NULL;
    if (call_api(r, name, json_pack("[s]", REF_TEXT(object)), &nothing, &err) == 0)
        return 0;
    log_warn("schedule", "an old snapshot could not be removed", "call", name, "object",
             OBJECT_TEXT(r->server, CLASS_VM, object), "error", err.code);
    return -1;
}

/* ---- old snapshots ---- */

struct old {
    struct ref ref;
    uint64_t created; /* generation: times are of whole seconds */
};

static int by_age(const void *a, const void *b)
{
    const struct old *x = a, *y = b;
    return x->created < y->created ? -1 : x->created > y->created;
}

/* The snapshot and its disks, which VM.destroy leaves. */
static void remove_snapshot(struct round *r, const struct snapshot *snap, struct ref ref)
{
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, ref));
    if (!vm || call_quietly(r, "VM.destroy", ref) < 0)
        return;
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && vbd->type == VBD_TYPE_DISK && !ref_is_null(vbd->VDI))
            call_quietly(r, "VDI.destroy", vbd->VDI);
    }
    if (!ref_is_null(vm->suspend_VDI))
        call_quietly(r, "VDI.destroy", vm->suspend_VDI);
}

static void prune(struct round *r, struct ref vm_ref, int64_t keep)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(r->server->store);
    const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, vm_ref));
    size_t count = 0, total = vm && vm->snapshots ? vm->snapshots->count : 0;
    AUTO_FREE struct old *old = xcalloc(total + 1, sizeof(*old));
    for (size_t i = 0; i < total; i++) {
        const struct vm_row *one = vm_row(snapshot_get(snap, CLASS_VM, vm->snapshots->items[i]));
        if (one && one->is_vmss_snapshot)
            old[count++] = (struct old){one->row.ref, one->row.created};
    }
    qsort(old, count, sizeof(*old), by_age);
    for (size_t i = 0; (int64_t)(count - i) > keep; i++)
        remove_snapshot(r, snap, old[i].ref);
}

/* ---- new ones ---- */

static int mark_scheduled(struct server *server, struct ref ref, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    if (!tx_get(tx, CLASS_VM, ref)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VM, ref);
    }
    vm_row_mut(tx_edit(tx, CLASS_VM, ref))->is_vmss_snapshot = true;
    return server_commit(tx, err);
}

static int take(struct round *r, const struct vmss_row *vmss, struct ref vm, struct api_err *err)
{
    char time[DATETIME_TEXT_SIZE];
    AUTO_FREE char *name = xasprintf("%s %s", vmss->name_label, datetime_format(clock_unix_seconds(), time));
    const char *call = vmss->type == VMSS_TYPE_CHECKPOINT ? "VM.checkpoint" : "VM.snapshot";
    AUTO_JSON json_t *result = NULL;
    struct ref ref;
    if (call_api(r, call, json_pack("[ss]", REF_TEXT(vm), name), &result, err) < 0)
        return -1;
    if (!ref_parse(json_string_value(result), &ref))
        return fail_internal(err, "%s gave no reference.", call);
    return mark_scheduled(r->server, ref, err);
}

static void take_one(struct round *r, const struct vmss_row *vmss, const struct vm_row *vm)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (take(r, vmss, vm->row.ref, &err) == 0) {
        r->done++;
        prune(r, vm->row.ref, vmss->retained_snapshots);
        return;
    }
    r->failed++;
    buf_printf(&r->report, "%s%s: %s", r->report.len ? "\n" : "", vm->uuid, err.code);
    log_warn("schedule", "a scheduled snapshot failed", "schedule", vmss->uuid, "vm", vm->uuid, "error",
             err.code);
}

static void tell(struct tx *tx, void *arg)
{
    const struct round *r = arg;
    const struct row *row = tx_get(tx, CLASS_VMSS, r->vmss);
    if (!row)
        return;
    vmss_row_mut(tx_edit(tx, CLASS_VMSS, r->vmss))->last_run_time = clock_unix_seconds();
    if (r->failed)
        alert_add(tx, ALERT_VMSS_SNAPSHOT_FAILED, CLS_VMSS, vmss_row(row)->uuid, r->report.data);
    else if (r->done)
        alert_add(tx, ALERT_VMSS_SNAPSHOT_SUCCEEDED, CLS_VMSS, vmss_row(row)->uuid, "");
}

/* 0 with the counts in *r, or -1: there is no such schedule, or no session for it. */
static int run_round(struct server *server, struct ref ref, struct round *r, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vmss_row *vmss = vmss_row(snapshot_get(snap, CLASS_VMSS, ref));
    if (!vmss)
        return fail_handle(err, CLASS_VMSS, ref);
    AUTO_SESSION struct session *session = NULL;
    AUTO_IDENTITY struct identity who = identity_of_root("schedule");
    if (session_open(server, &who, "schedule", &session, err) < 0)
        return -1;
    *r = (struct round){.server = server, .session = session, .vmss = ref};
    for (size_t i = 0; vmss->VMs && i < vmss->VMs->count && !server->closing; i++) {
        const struct vm_row *vm = vm_row(snapshot_get(snap, CLASS_VM, vmss->VMs->items[i]));
        if (vm)
            take_one(r, vmss, vm);
    }
    session_close(server, session);
    r->session = NULL;
    server_insist(server, tell, r);
    return 0;
}

/* ---- the clock ---- */

struct due {
    struct ref *refs;
    size_t count;
    int64_t now;
    struct server *server;
};

static void tell_missed(struct tx *tx, void *arg)
{
    const struct vmss_row *vmss = vmss_row(tx_get(tx, CLASS_VMSS, *(const struct ref *)arg));
    if (!vmss)
        return;
    alert_add(tx, ALERT_VMSS_SNAPSHOT_MISSED_EVENT, CLS_VMSS, vmss->uuid, "");
    vmss_row_mut(tx_edit(tx, CLASS_VMSS, vmss->row.ref))->last_run_time = clock_unix_seconds();
}

static bool look(const struct row *row, void *arg)
{
    struct due *due = arg;
    const struct vmss_row *vmss = vmss_row(row);
    int64_t at = vmss->enabled ? schedule_last_due(vmss->frequency, vmss->schedule, due->now) : 0;
    if (at <= vmss->last_run_time)
        return true;
    struct ref ref = row->ref;
    if (due->now - at <= LATE_SECONDS) {
        due->refs = xreallocarray(due->refs, due->count + 1, sizeof(*due->refs));
        due->refs[due->count++] = ref;
    } else if (vmss->last_run_time > 0) {
        log_warn("schedule", "a scheduled snapshot was missed", "schedule", vmss->uuid);
        server_insist(due->server, tell_missed, &ref);
    }
    return true;
}

static void run_due(struct schedules *s)
{
    struct due due = {.now = clock_unix_seconds(), .server = s->server};
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(s->server->store);
    snapshot_each(snap, CLASS_VMSS, look, &due);
    for (size_t i = 0; i < due.count; i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct round r = {0};
        if (run_round(s->server, due.refs[i], &r, &err) < 0)
            log_warn("schedule", "a schedule could not be run", "schedule",
                     OBJECT_TEXT(s->server, CLASS_VMSS, due.refs[i]), "error", err.code);
        buf_done(&r.report);
    }
    free(due.refs);
}

static void answer(struct schedules *s, struct call *call, struct ref vmss, bool stop)
{
    struct round r = {0};
    call->failed = stop ? fail_internal(&call->err, "The server is stopping.") < 0
                        : run_round(s->server, vmss, &r, &call->err) < 0;
    if (!call->failed) {
        call->result.str = str_newf("%zu snapshots taken, %zu failed%s%s", r.done, r.failed,
                                    r.failed ? ":\n" : "", r.failed ? r.report.data : "");
        call->result_type = call->method->result;
    }
    buf_done(&r.report);
    call->complete(call);
}

static void *schedules_main(void *arg)
{
    struct schedules *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop || s->waiting_count) {
        if (s->waiting_count) {
            struct call *call = s->waiting[0].call;
            struct ref vmss = s->waiting[0].vmss;
            bool stop = s->stop;
            memmove(s->waiting, s->waiting + 1, --s->waiting_count * sizeof(s->waiting[0]));
            pthread_mutex_unlock(&s->lock);
            answer(s, call, vmss, stop);
            pthread_mutex_lock(&s->lock);
            continue;
        }
        int64_t until = clock_mono_ms() + PERIOD_MS;
        struct timespec end = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
        pthread_cond_timedwait(&s->wake, &s->lock, &end);
        if (s->stop || s->waiting_count)
            continue;
        pthread_mutex_unlock(&s->lock);
        run_due(s);
        pthread_mutex_lock(&s->lock);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct schedules *schedules_new(struct server *server)
{
    struct schedules *s = xcalloc(1, sizeof(*s));
    pthread_condattr_t attr;
    s->server = server;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->wake, &attr);
    pthread_condattr_destroy(&attr);
    int rc = pthread_create(&s->thread, NULL, schedules_main, s);
    if (rc != 0) {
        log_error("schedule", "no thread for schedules could be started", "cause", strerror(rc));
        pthread_cond_destroy(&s->wake);
        pthread_mutex_destroy(&s->lock);
        free(s);
        return NULL;
    }
    return s;
}

void schedules_stop(struct schedules *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
}

void schedules_free(struct schedules *s)
{
    if (!s)
        return;
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void schedules_run(struct schedules *s, struct call *call, struct ref vmss)
{
    pthread_mutex_lock(&s->lock);
    bool room = !s->stop && s->waiting_count < WAITING_MAX;
    if (room) {
        s->waiting[s->waiting_count].call = call;
        s->waiting[s->waiting_count++].vmss = vmss;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (room)
        return;
    call->failed = fail_internal(&call->err, "Too many schedules wait to be run: try again later.") < 0;
    call->complete(call);
}
