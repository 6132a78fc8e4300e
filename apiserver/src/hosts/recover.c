/* A list of what was interrupted. Each host's thread works on its own entries; the lock is for the list and
 * for who asks about disks meanwhile. */
#include "recover.h"

#include "../gate/task.h"
#include "../handlers/alert.h"
#include "../handlers/storage.h"
#include "../handlers/vm_migrate.h"
#include "../handlers/vm_record.h"
#include "../handlers/vm_state.h"
#include "../rules/operations.h"
#include "../rules/vbd_device.h"
#include "../server.h"
#include "hosts.h"
#include "networks.h"
#include <base/buf.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdio.h>

struct interrupted {
    struct ref task, host, object;
    const char *message, *mode, *call, *key, *agent_id, *value; /* rc strings */
    const struct class_desc *cls; /* with object and operation: the mark; NULL: none */
    int operation;
    const _Atomic bool *cancel;
    bool owns_disk; /* `key` is a disk that may still be in the making */
    bool over;      /* the agent's operation, as follows: */
    enum operation_state state;
    struct hv_err failure; /* OPERATION_STATE_FAILED */
    const char *result;    /* rc string: what the call was to do is recorded; NULL: it is not */
    struct interrupted *next;
};

struct recovery {
    pthread_mutex_t lock; /* guards the links and owns_disk */
    struct interrupted *first;
};

/* Calls that consist of one operation of an agent: when it ended well, so did they. All others are given up
 * in the middle. */
static const struct {
    const char *message, *call;
} single_steps[] = {
    {"VM.start", "domain_start"},
    {"VM.start_on", "domain_start"},
    {"VM.pause", "domain_pause"},
    {"VM.unpause", "domain_unpause"},
    {"VM.clean_shutdown", "domain_shutdown"},
    {"VM.hard_shutdown", "domain_hard_shutdown"},
    {"VM.shutdown", "domain_shutdown"},
    {"VM.shutdown", "domain_hard_shutdown"},
    {"VM.clean_reboot", "domain_reboot"},
    {"VM.hard_reboot", "domain_hard_reboot"},
    {"VM.suspend", "domain_suspend"},
    {"VM.resume", "domain_resume"},
    {"VM.resume_on", "domain_resume"},
    {"VM.pool_migrate", "domain_send"},
    {"VM.migrate_send", "domain_send"},
    {"VDI.pool_migrate", "disk_move"},
    {"VDI.copy", "disk_copy"},
    {"VDI.clone", "disk_copy"},
    {"VDI.destroy", "disk_destroy"},
    {"VDI.resize", "disk_resize"},
    {"VBD.plug", "disk_plug"},
    {"VBD.unplug", "disk_unplug"},
    {"VBD.unplug_force", "disk_unplug"},
    {"VBD.insert", "cd_insert"},
    {"VBD.eject", "cd_eject"},
    {"VIF.plug", "nic_plug"},
    {"VIF.unplug", "nic_unplug"},
    {"VIF.unplug_force", "nic_unplug"},
    {"VM.set_VCPUs_number_live", "domain_set_vcpus"},
};

static bool is_single_step(const struct interrupted *e)
{
    for (size_t i = 0; i < ARRAY_LEN(single_steps); i++)
        if (streq(single_steps[i].message, e->message) && streq(single_steps[i].call, e->call))
            return true;
    return false;
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Operations that make disks before anything has a row of them: the SR's list names them. */
static bool makes_disks(const char *call)
{
    static const char *const calls[] = {"disk_create", "disk_clone", "disk_copy", "disk_import",
                                        "domain_snapshot"};
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        if (streq(call, calls[i]))
            return true;
    return false;
}

/* Calls whose key is a domain, though their name says disk. */
static bool is_of_domain(const char *call)
{
    return streq(call, "disk_plug") || streq(call, "disk_unplug");
}

static bool is(const struct interrupted *e, const char *message, const char *call)
{
    return streq(e->message, message) && streq(e->call, call);
}

static void interrupted_free(struct interrupted *e)
{
    str_unref(e->message);
    str_unref(e->mode);
    str_unref(e->call);
    str_unref(e->key);
    str_unref(e->agent_id);
    str_unref(e->value);
    str_unref(e->result);
    free(e);
}

/* ---- the end of a task ---- */

struct verdict {
    struct ref task;
    const char *mode, *result;
    const struct api_err *err; /* NULL: success */
};

static void end_task(struct tx *tx, void *arg)
{
    const struct verdict *verdict = arg;
    if (!streq(verdict->mode, TASK_MODE_CALL))
        task_complete(tx, verdict->task, verdict->result, verdict->err);
    else if (tx_get(tx, CLASS_task, verdict->task)) /* its caller is gone, and it goes too */
        tx_delete(tx, CLASS_task, verdict->task);
}

static void log_verdict(const char *message, const struct verdict *verdict)
{
    log_info("recover", "a task that a restart interrupted is put right", "task", REF_TEXT(verdict->task),
             "message", message, "error", verdict->err ? verdict->err->code : "", "why",
             verdict->err && verdict->err->param_count ? verdict->err->params[0] : "");
}

/* ---- before the hosts ---- */

static const char *word(const struct str_map *work, const char *key)
{
    const char *value = str_map_get(work, key);
    return value ? value : "";
}

static struct interrupted *interrupted_new(struct tx *tx, const struct task_row *task)
{
    struct interrupted *e = xcalloc(1, sizeof(*e));
    e->task = task->row.ref;
    e->message = str_new(word(task->work, TASK_WORK_MESSAGE));
    e->mode = str_new(word(task->work, TASK_WORK_MODE));
    e->call = str_new(word(task->work, TASK_WORK_CALL));
    e->key = str_new(word(task->work, TASK_WORK_KEY));
    e->agent_id = str_new(word(task->work, TASK_WORK_AGENT));
    e->value = str_new(word(task->work, TASK_WORK_VALUE));
    e->owns_disk = starts_with(e->call, "disk_") && !is_of_domain(e->call);
    const struct class_desc *cls = class_find(word(task->work, TASK_WORK_CLASS));
    if (!ref_parse(word(task->work, TASK_WORK_HOST), &e->host))
        e->host = REF_NULL;
    if (cls && cls->row_size && ref_parse(word(task->work, TASK_WORK_OBJECT), &e->object) &&
        tx_get(tx, cls, e->object)) {
        e->operation = operation_find(cls, word(task->work, TASK_WORK_OPERATION));
        e->cls = e->operation >= 0 ? cls : NULL;
    }
    return e;
}

/* Its agent has to be asked: until then everything looks as it did, so that nobody touches the object. */
static void keep(struct recovery *r, struct server *server, struct tx *tx, const struct task_row *task)
{
    struct interrupted *e = interrupted_new(tx, task);
    task_row_mut(tx_edit(tx, CLASS_task, e->task))->allowed_operations = (uint64_t)1
                                                                         << TASK_ALLOWED_OPERATIONS_CANCEL;
    if (e->cls)
        operation_mark(tx, e->cls, e->object, e->task, e->operation);
    e->cancel = task_running(server->tasks, e->task);
    e->next = r->first;
    r->first = e;
}

static bool has_made(const struct str_map *work)
{
    for (size_t i = 0; work && i < work->count; i++)
        if (starts_with(work->pairs[i].key, TASK_WORK_MADE))
            return true;
    return false;
}

/* What stays in another pool, in words for its owner. False: nothing was made there. */
static bool left_away(const struct str_map *work, struct buf *text)
{
    const char *url = NULL, *before = ": ";
    for (size_t i = 0; work && i < work->count; i++)
        if (starts_with(work->pairs[i].key, TASK_WORK_AWAY))
            url = work->pairs[i].value;
    if (!url)
        return false;
    buf_printf(text, "What it had made in the pool at %s stays there", url);
    for (size_t i = 0; i < work->count; i++) {
        const char *what = work->pairs[i].key + strlen(TASK_WORK_AWAY);
        if (!starts_with(work->pairs[i].key, TASK_WORK_AWAY) || !*what)
            continue;
        buf_printf(text, "%s%s", before, what);
        before = ", ";
    }
    if (streq(before, ": "))
        buf_add_str(text, ", if it came to that: a disk named as here, that no VM uses");
    buf_add_str(text, ". Remove it there before you ask again.");
    return true;
}

static void settle_without_agent(struct tx *tx, const struct task_row *task)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    AUTO_STR const char *message = str_new(word(task->work, TASK_WORK_MESSAGE));
    AUTO_STR const char *mode = str_new(word(task->work, TASK_WORK_MODE));
    AUTO_STR const char *done = str_new(word(task->work, TASK_WORK_DONE));
    struct verdict verdict = {.task = task->row.ref, .mode = mode, .result = done};
    AUTO_BUF struct buf away = BUF_INIT;
    if (!*done && left_away(task->work, &away)) {
        AUTO_FREE char *text =
            xasprintf("%s was interrupted by a restart of the server. %s", message, away.data);
        err_internal_error(&err, text);
        verdict.err = &err;
    } else if (!*done) {
        bool transfer = streq(mode, TASK_MODE_HTTP);
        fail_internal(&err, "%s was interrupted by a restart of the server%s: ask for it again.",
                      *message ? message : task->name_label, transfer ? "" : " before anything was done");
        verdict.err = &err;
    }
    log_verdict(message, &verdict);
    end_task(tx, &verdict);
}

struct begin {
    struct recovery *recovery;
    struct server *server;
    struct tx *tx;
};

static bool begin_row(const struct row *row, void *arg)
{
    const struct begin *b = arg;
    const struct task_row *task = task_row(row);
    struct ref host;
    if (!task_is_pending(task)) {
        task_row_mut(tx_edit(b->tx, CLASS_task, row->ref))->progress = 1.0;
        return true;
    }
    if (!*word(task->work, TASK_WORK_MODE))
        return true; /* a client's: it goes on with it */
    bool asked = *word(task->work, TASK_WORK_AGENT) && ref_parse(word(task->work, TASK_WORK_HOST), &host) &&
                 tx_get(b->tx, CLASS_host, host);
    /* A transfer ended with its connection; the disk that was made for it goes. */
    bool over = *word(task->work, TASK_WORK_DONE) ||
                (streq(word(task->work, TASK_WORK_MODE), TASK_MODE_HTTP) && !has_made(task->work));
    if (asked && !over)
        keep(b->recovery, b->server, b->tx, task);
    else
        settle_without_agent(b->tx, task);
    return true;
}

int recovery_begin(struct server *server, struct recovery **out, struct api_err *err)
{
    struct recovery *r = xcalloc(1, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    struct begin begin = {.recovery = r, .server = server, .tx = store_begin(server->store)};
    tx_each(begin.tx, CLASS_task, begin_row, &begin);
    if (server_commit(begin.tx, err) < 0) {
        recovery_free(r);
        return -1;
    }
    *out = r;
    return 0;
}

void recovery_free(struct recovery *r)
{
    if (!r)
        return;
    while (r->first) {
        struct interrupted *gone = r->first;
        r->first = gone->next;
        interrupted_free(gone);
    }
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- what the agent says ---- */

static void cancel(struct hv_host *agent, const struct interrupted *e)
{
    struct hv_operation_cancel_args args;
    struct hv_operation_cancel_result result;
    struct hv_err cause;
    hv_operation_cancel_args_init(&args);
    str_assign(&args.id, e->agent_id);
    if (hv_operation_cancel(agent, NULL, &args, &result, &cause) == 0)
        hv_operation_cancel_result_done(&result);
    hv_operation_cancel_args_done(&args);
}

/* The request of the server before may still be on its way: what is told as not begun must not begin later.
 */
static int ask(struct hv_host *agent, const struct interrupted *e, struct hv_operation_get_result *result)
{
    struct hv_operation_get_args args;
    struct hv_err cause;
    const struct hv_op op = {.timeout_ms = 10000};
    hv_operation_get_args_init(&args);
    str_assign(&args.id, e->agent_id);
    args.bar = true;
    int rc = hv_operation_get(agent, &op, &args, result, &cause);
    hv_operation_get_args_done(&args);
    return rc;
}

/* ---- disks ---- */

struct sr_search {
    const char *disk;
    const struct sr_row *found;
};

static bool has_unfinished(const struct row *row, void *arg)
{
    struct sr_search *search = arg;
    if (str_map_get(sr_row(row)->unfinished_disks, search->disk))
        search->found = sr_row(row);
    return !search->found;
}

static int read_disk(struct hv_host *agent, const char *sr, const char *disk, struct disk_info *info)
{
    struct hv_disk_info_args args;
    struct hv_disk_info_result result;
    struct hv_err cause;
    hv_disk_info_args_init(&args);
    str_assign(&args.sr, sr);
    str_assign(&args.disk, disk);
    int rc = hv_disk_info(agent, NULL, &args, &result, &cause);
    hv_disk_info_args_done(&args);
    if (rc < 0)
        log_warn("recover", "a disk cannot be looked at", "disk", disk, "cause", cause.text);
    else
        *info = result.info;
    return rc;
}

/* What an ended operation has left, for the transaction that records it. */
struct record {
    struct interrupted *e;
    struct ref sr;
    struct disk_info info; /* of the new disk, or of the one that was changed */
    bool have_info;
};

/* A VM's power as its handler would have recorded it. What the next look at the host finds by itself
 * (residence, numbers, a VM that runs) is left to that; what it cannot know is said here: that it was asked
 * for. */
static void record_power(struct tx *tx, const struct interrupted *e)
{
    const struct vm_row *vm = e->cls == CLASS_VM ? vm_row(tx_get(tx, CLASS_VM, e->object)) : NULL;
    if (!vm)
        return;
    enum vm_power_state state = vm->power_state;
    AUTO_FREE char *body = NULL;
    if (streq(e->call, "domain_start") && state == VM_POWER_STATE_HALTED) {
        AUTO_STR const char *booted = vm_record_text(vm);
        str_assign(&vm_row_mut(tx_edit(tx, CLASS_VM, e->object))->last_booted_record, booted);
        body = xasprintf("VM '%s' started", vm->name_label);
        alert_add(tx, ALERT_VM_STARTED, CLS_VM, vm->uuid, body);
    } else if (streq(e->call, "domain_resume") && state == VM_POWER_STATE_SUSPENDED) {
        body = xasprintf("VM '%s' resumed", vm->name_label);
        alert_add(tx, ALERT_VM_RESUMED, CLS_VM, vm->uuid, body);
    } else if ((streq(e->call, "domain_shutdown") || streq(e->call, "domain_hard_shutdown")) &&
               (state == VM_POWER_STATE_RUNNING || state == VM_POWER_STATE_PAUSED)) {
        body = xasprintf("VM '%s' shut down", vm->name_label);
        vm_state_halted(tx, e->object);
        vm_state_unwanted(tx, e->object);
        alert_add(tx, ALERT_VM_SHUTDOWN, CLS_VM, vm->uuid, body);
    } else if (streq(e->call, "domain_pause") && state == VM_POWER_STATE_RUNNING) {
        body = xasprintf("VM '%s' paused", vm->name_label);
        vm_state_paused(tx, e->object, true);
        alert_add(tx, ALERT_VM_PAUSED, CLS_VM, vm->uuid, body);
    } else if (streq(e->call, "domain_unpause") && state == VM_POWER_STATE_PAUSED) {
        body = xasprintf("VM '%s' unpaused", vm->name_label);
        vm_state_paused(tx, e->object, false);
        alert_add(tx, ALERT_VM_UNPAUSED, CLS_VM, vm->uuid, body);
    }
}

/* Devices as their handlers would have recorded them. A VM that does not run any more has none attached, and
 * what its processors are is seen by the next look. */
static void record_devices(struct tx *tx, const struct interrupted *e)
{
    const struct row *row = e->cls ? tx_get(tx, e->cls, e->object) : NULL;
    bool plugged = streq(e->call, "disk_plug") || streq(e->call, "nic_plug");
    bool unplugged = streq(e->call, "disk_unplug") || streq(e->call, "nic_unplug");
    bool medium = streq(e->call, "cd_insert") || streq(e->call, "cd_eject");
    struct ref vdi = REF_NULL;
    int number;
    char name[VBD_DEVICE_NAME_SIZE];
    if (!row)
        return;
    const struct row *vm = tx_by_uuid(tx, CLASS_VM, e->key);
    bool live = vm && !ref_is_null(vm_row(vm)->resident_on);
    if (e->cls == CLASS_VIF && (unplugged || (plugged && live))) {
        vif_row_mut(tx_edit(tx, CLASS_VIF, e->object))->currently_attached = plugged;
    } else if (e->cls == CLASS_VBD && (unplugged || (plugged && live))) {
        struct vbd_row *vbd = vbd_row_mut(tx_edit(tx, CLASS_VBD, e->object));
        vbd->currently_attached = plugged;
        if (plugged && vbd_device_parse(vbd->userdevice, &number))
            str_assign(&vbd->device, vbd_device_name(number, name));
    } else if (e->cls == CLASS_VBD && medium) {
        if (streq(e->call, "cd_insert") && (!ref_parse(e->value, &vdi) || !tx_get(tx, CLASS_VDI, vdi)))
            vdi = REF_NULL;
        struct vbd_row *vbd = vbd_row_mut(tx_edit(tx, CLASS_VBD, e->object));
        vbd->VDI = vdi;
        vbd->empty = ref_is_null(vdi);
    } else if (e->cls == CLASS_VM && streq(e->call, "domain_set_vcpus")) {
        vm_row_mut(tx_edit(tx, CLASS_VM, e->object))->VCPUs_at_startup = strtoll(e->value, NULL, 10);
    }
}

/* Disks that went with their VM, or under it. Where a VM went is seen by reconcile_host, which changes over
 * its disks too. */
static struct ref record_moves(struct tx *tx, const struct interrupted *e, bool done)
{
    struct ref vm = e->object;
    if (e->cls == CLASS_VDI) {
        const struct row *row = tx_by_uuid(tx, CLASS_VM, e->key);
        vm = row ? row->ref : REF_NULL;
    }
    bool unknown = e->state == OPERATION_STATE_FAILED && e->failure.kind == HV_ERR_KIND_UNREACHABLE;
    if (!done && !unknown)
        vm_migrate_drop_disks(tx, vm);
    else if (done && streq(e->call, "disk_move"))
        return vm_migrate_take_disks(tx, vm, e->object);
    return done && streq(e->message, "VM.migrate_send") ? vm : REF_NULL;
}

/* Takes the mark off, and records what the operation did. */
static void record(struct tx *tx, void *arg)
{
    struct record *rec = arg;
    struct interrupted *e = rec->e;
    struct ref result = REF_NULL;
    const struct vdi_row *vdi = e->cls == CLASS_VDI ? vdi_row(tx_get(tx, CLASS_VDI, e->object)) : NULL;
    bool done = e->state == OPERATION_STATE_DONE && is_single_step(e);
    if (e->cls)
        operation_unmark(tx, e->cls, e->object, e->task);
    if (done) {
        record_power(tx, e);
        record_devices(tx, e);
    }
    if (done && streq(e->call, "disk_copy")) {
        done = rec->have_info && vdi && !ref_is_null(rec->sr);
        if (done) {
            storage_settle_disk(tx, rec->sr, e->key);
            result = storage_add_vdi(tx, rec->sr, e->key, &rec->info, vdi)->row.ref;
        }
    } else if (done && is(e, "VDI.destroy", "disk_destroy")) {
        storage_remove_vdi(tx, e->object);
    } else if (done && is(e, "VDI.resize", "disk_resize") && rec->have_info) {
        storage_update_vdi(tx, e->object, &rec->info);
    }
    if (streq(e->call, "domain_send") || streq(e->call, "disk_move"))
        result = record_moves(tx, e, done);
    str_unref(e->result);
    e->result = NULL;
    if (done)
        e->result = str_newf("<value>%s</value>", ref_is_null(result) ? "" : REF_TEXT(result));
}

static void settle(struct server *server, struct hv_host *agent, struct interrupted *e)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    struct sr_search search = {.disk = e->key};
    struct record rec = {.e = e};
    const struct sr_row *sr = NULL;
    const struct vdi_row *vdi =
        e->cls == CLASS_VDI ? vdi_row(snapshot_get(snap, CLASS_VDI, e->object)) : NULL;
    if (e->owns_disk) {
        snapshot_each(snap, CLASS_SR, has_unfinished, &search);
        if (search.found)
            rec.sr = search.found->row.ref;
        sr = search.found ? search.found : vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    }
    const char *disk = search.found ? e->key : vdi ? vdi->uuid : "";
    if (sr && e->state == OPERATION_STATE_DONE && is_single_step(e) && !streq(e->call, "disk_destroy"))
        rec.have_info = read_disk(agent, sr->uuid, disk, &rec.info) == 0;
    server_insist(server, record, &rec);
    if (streq(e->call, "domain_send") || streq(e->call, "disk_move")) {
        const struct row *vm = snapshot_by_uuid(snap, CLASS_VM, e->key);
        if (vm)
            vm_migrate_sweep(server, snap, vm->ref);
    }
    if (streq(e->call, "nic_update"))
        vif_renew(server, agent, e->host, e->key);
    if (rec.have_info)
        disk_info_done(&rec.info);
    pthread_mutex_lock(&server->recovery->lock);
    e->owns_disk = false;
    pthread_mutex_unlock(&server->recovery->lock);
    if (!e->result && !ref_is_null(rec.sr))
        storage_sweep_disks(server, rec.sr, agent);
}

/* ---- the two steps ---- */

/* The host's next entry that is (not) over, after `last`. Only the host's own thread removes entries of it.
 */
static struct interrupted *next_of(struct recovery *r, struct ref host, bool over, struct interrupted *last)
{
    if (!r)
        return NULL; /* a test's server, which interrupts nothing */
    pthread_mutex_lock(&r->lock);
    struct interrupted *e = last ? last->next : r->first;
    while (e && !(ref_eq(e->host, host) && e->over == over))
        e = e->next;
    pthread_mutex_unlock(&r->lock);
    return e;
}

int recovery_look(struct server *server, struct ref host, struct hv_host *agent)
{
    int running = 0;
    struct interrupted *next;
    for (struct interrupted *e = next_of(server->recovery, host, false, NULL); e; e = next) {
        struct hv_operation_get_result got;
        next = next_of(server->recovery, host, false, e);
        if (ask(agent, e, &got) < 0)
            return -1;
        e->state = got.status.state;
        if (e->state == OPERATION_STATE_QUEUED || e->state == OPERATION_STATE_RUNNING) {
            running++;
            task_progress(server, e->task, got.status.progress);
            if (*e->cancel || !is_single_step(e))
                cancel(agent, e);
        } else {
            e->over = true;
            if (e->state == OPERATION_STATE_FAILED)
                hv_fail(&e->failure, got.status.error, "%s", got.status.error_text);
            settle(server, agent, e);
        }
        hv_operation_get_result_done(&got);
    }
    return running;
}

static void remove_entry(struct recovery *r, struct interrupted *e)
{
    pthread_mutex_lock(&r->lock);
    struct interrupted **at = &r->first;
    while (*at != e)
        at = &(*at)->next;
    *at = e->next;
    pthread_mutex_unlock(&r->lock);
    interrupted_free(e);
}

static void conclude(struct server *server, struct interrupted *e, const struct api_err *err)
{
    struct verdict verdict = {.task = e->task, .mode = e->mode, .result = e->result, .err = err};
    log_verdict(e->message, &verdict);
    server_insist(server, end_task, &verdict);
    task_ended(server->tasks, e->task);
    remove_entry(server->recovery, e);
}

/* Disks that were made on the way to something that was not reached. 0: none is left. */
static int destroy_made(struct server *server, const struct interrupted *e)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct task_row *task = task_row(snapshot_get(snap, CLASS_task, e->task));
    const struct str_map *work = task ? task->work : NULL;
    int rc = 0;
    for (size_t i = 0; work && i < work->count; i++) {
        if (!starts_with(work->pairs[i].key, TASK_WORK_MADE))
            continue;
        const struct row *vdi =
            snapshot_by_uuid(snap, CLASS_VDI, work->pairs[i].key + strlen(TASK_WORK_MADE));
        if (vdi && storage_destroy_unused(server, snap, vdi->ref) < 0)
            rc = -1;
    }
    return rc;
}

/* As the handlers of power say it. */
static void fail_domain(const struct interrupted *e, struct ref vm, struct api_err *err)
{
    bool reboot = streq(e->call, "domain_reboot"), waits = reboot || streq(e->call, "domain_shutdown");
    if (waits && (e->failure.kind == HV_ERR_KIND_GUEST || e->failure.kind == HV_ERR_KIND_DEADLINE))
        err_vm_failed_shutdown_acknowledgment(err, REF_TEXT(vm));
    else if (reboot && e->failure.kind == HV_ERR_KIND_UNSUPPORTED)
        err_vm_lacks_feature(err, REF_TEXT(vm));
    else
        hosts_fail_vm(err, vm, e->host, &e->failure);
}

/* A call of several steps, given up between them. */
static void fail_midway(const struct interrupted *e, const struct str_map *work, struct api_err *err)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_printf(&text, "%s was interrupted by a restart of the server. ", e->message);
    if (has_made(work) || makes_disks(e->call))
        buf_add_str(&text, "Disks that it had made were removed. ");
    if (left_away(work, &text))
        buf_add_char(&text, ' ');
    buf_printf(&text, "Its last step on the host was %s, which %s.", e->call,
               e->state == OPERATION_STATE_DONE     ? "was done"
               : e->state == OPERATION_STATE_FAILED ? "failed or was cancelled"
                                                    : "was not begun");
    err_internal_error(err, text.data);
}

static void fail(struct server *server, const struct interrupted *e, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct row *vm = snapshot_by_uuid(snap, CLASS_VM, e->key);
    bool cancelled = *e->cancel || e->failure.kind == HV_ERR_KIND_CANCELLED;
    bool ended = e->state == OPERATION_STATE_FAILED &&
                 (e->failure.kind == HV_ERR_KIND_CRASHED || e->failure.kind == HV_ERR_KIND_HALTED);
    if (cancelled && *e->cancel) {
        err_task_cancelled(err, REF_TEXT(e->task));
    } else if (vm && ended) {
        hosts_fail_vm(err, vm->ref, e->host, &e->failure);
    } else if (e->state == OPERATION_STATE_FAILED && is_single_step(e) && !cancelled) {
        if (e->owns_disk || e->cls == CLASS_VDI)
            storage_fail(err, e->host, REF_NULL, e->object, "", &e->failure);
        else if (vm)
            fail_domain(e, vm->ref, err);
        else
            hosts_fail(err, e->host, &e->failure);
    } else if (streq(e->call, "nic_update")) {
        fail_internal(
            err, "%s was interrupted by a restart of the server; the card is as it was: ask for it again.",
            e->message);
    } else if (e->state == OPERATION_STATE_UNKNOWN && is_single_step(e)) {
        fail_internal(
            err, "%s was interrupted by a restart of the server before anything was done: ask for it again.",
            e->message);
    } else {
        const struct task_row *task = task_row(snapshot_get(snap, CLASS_task, e->task));
        fail_midway(e, task ? task->work : NULL, err);
    }
}

int recovery_finish(struct server *server, struct ref host)
{
    int waiting = 0;
    struct interrupted *next;
    for (struct interrupted *e = next_of(server->recovery, host, true, NULL); e; e = next) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        next = next_of(server->recovery, host, true, e);
        if (e->result) {
            conclude(server, e, NULL);
        } else if (destroy_made(server, e) < 0) {
            waiting++;
        } else {
            fail(server, e, &err);
            conclude(server, e, &err);
        }
    }
    return waiting;
}

static void unmark(struct tx *tx, void *arg)
{
    const struct interrupted *e = arg;
    if (e->cls)
        operation_unmark(tx, e->cls, e->object, e->task);
}

void recovery_unreachable(struct server *server, struct ref host)
{
    struct interrupted *next;
    for (struct interrupted *e = next_of(server->recovery, host, false, NULL); e; e = next) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        next = next_of(server->recovery, host, false, e);
        if (!*e->cancel)
            continue;
        server_insist(server, unmark, e);
        err_task_cancelled(&err, REF_TEXT(e->task));
        conclude(server, e, &err);
    }
}

bool recovery_owns_disk(struct server *server, const char *uuid)
{
    struct recovery *r = server->recovery;
    bool found = false;
    if (!r)
        return false;
    pthread_mutex_lock(&r->lock);
    for (const struct interrupted *e = r->first; e && !found; e = e->next)
        found = e->owns_disk && streq(e->key, uuid);
    pthread_mutex_unlock(&r->lock);
    return found;
}
