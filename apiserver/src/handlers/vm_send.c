/* See vm_send.h. A disk goes from its agent to the other server through a socket pair: a thread takes it from
 * the agent, the caller uploads it; no more than the socket holds is in memory. */
#include "vm_send.h"

#include "../fetch.h"
#include "../gate/task.h"
#include "../hosts/hosts.h"
#include "../http/export.h"
#include "../members/remote.h"
#include "../rules/vm.h"
#include "storage.h"
#include "vm_state.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/json.h>
#include <base/log.h>
#include <base/mem.h>
#include <base/rc_json.h>
#include <errno.h>
#include <model/errors.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define POLL_MIN_MS 20
#define POLL_MAX_MS 1000
#define LOST_MS 10000 /* so long the other side may take to notice that an upload broke off */

struct sent_disk {
    const struct vdi_row *vdi;
    const char *sr; /* there */
    char *made;     /* VDI there; NULL: not yet */
};

struct sending {
    struct call *call;
    const struct vm_send *what;
    struct remote *remote;
    int trusted; /* open as long as the remote: what it trusts */
    struct sent_disk *disks;
    size_t count;
    char *vm; /* there; NULL: not yet */
};

static void sending_done(struct sending *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->disks[i].made);
    free(s->disks);
    free(s->vm);
    remote_free(s->remote);
    if (s->trusted >= 0)
        close(s->trusted);
}
#define AUTO_SENDING __attribute__((cleanup(sending_done)))

/* ---- the other pool ---- */

/* A message there with the session first; decref the answer. NULL with *err. */
static json_t *ask(struct sending *s, const char *name, json_t *params, struct api_err *err)
{
    return remote_ask(s->remote, name, params, err);
}

/* The same where the answer does not matter. */
static int tell(struct sending *s, const char *name, json_t *params, struct api_err *err)
{
    AUTO_JSON json_t *answer = ask(s, name, params, err);
    return answer ? 0 : -1;
}

/* The same with a reference for an answer; the caller's. */
static char *ask_ref(struct sending *s, const char *name, json_t *params, struct api_err *err)
{
    AUTO_JSON json_t *answer = ask(s, name, params, err);
    if (json_is_string(answer))
        return xstrdup(json_string_value(answer));
    if (answer)
        fail_internal(err, "The other pool answered %s with something else than a reference.", name);
    return NULL;
}

/* The error of a task there, under its own name. */
static int take_task_error(const json_t *record, struct api_err *err)
{
    const json_t *info = json_object_get(record, "error_info");
    const char *params[API_ERR_MAX_PARAMS], *code = json_string_value(json_array_get(info, 0));
    size_t count = 0;
    for (; code && count + 1 < json_array_size(info) && count < API_ERR_MAX_PARAMS; count++) {
        const char *text = json_string_value(json_array_get(info, count + 1));
        params[count] = text ? text : "";
    }
    if (!code)
        return fail_internal(err, "A task of the other pool has failed.");
    return api_err_set_code(err, code, params, count);
}

/* Until the task has ended: its result (the caller's), or NULL with *err. `patience_ms` -1: however long it
 * takes; else CANNOT_CONTACT_HOST when it is over. */
static char *await_task(struct sending *s, const char *task, int64_t patience_ms, struct api_err *err)
{
    int64_t end = patience_ms < 0 ? INT64_MAX : clock_mono_ms() + patience_ms;
    for (int64_t ms = POLL_MIN_MS;; ms = 2 * ms < POLL_MAX_MS ? 2 * ms : POLL_MAX_MS) {
        const char *status = "", *result = "";
        AUTO_JSON json_t *record = ask(s, "task.get_record", json_pack("[s]", task), err);
        if (!record)
            return NULL;
        json_get_string(record, "status", &status);
        json_get_string(record, "result", &result);
        if (streq(status, "success"))
            return xstrdup(result);
        if (!streq(status, "pending") && !streq(status, "cancelling")) {
            take_task_error(record, err);
            return NULL;
        }
        if ((s->call->cancel && *s->call->cancel) || atomic_load(&s->call->server->closing)) {
            err_task_cancelled(err, REF_TEXT(s->call->task));
            return NULL;
        }
        if (clock_mono_ms() > end) {
            err_cannot_contact_host(err, str_map_get(s->what->dest, "host"));
            return NULL;
        }
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
    }
}

/* A restart of this server has no session there any more: it can only tell what stays. */
static int note_there(struct sending *s, const char *cls, const char *uuid, struct api_err *err)
{
    AUTO_FREE char *what = xasprintf("%s%s%s", cls, *cls ? " " : "", uuid);
    struct tx *tx = store_begin(s->call->server->store);
    task_note_away(tx, s->call->task, str_map_get(s->what->dest, "master"), what);
    return server_commit(tx, err);
}

static int note_made_there(struct sending *s, const char *cls, const char *ref, struct api_err *err)
{
    AUTO_FREE char *message = xasprintf("%s.get_uuid", cls);
    AUTO_JSON json_t *uuid = ask(s, message, json_pack("[s]", ref), err);
    if (!uuid)
        return -1;
    return note_there(s, cls, json_is_string(uuid) ? json_string_value(uuid) : ref, err);
}

typedef ssize_t source_fn(void *arg, char *to, size_t max);

/* PUT `path` with a task of its own; the result of that (the caller's), or NULL with *err. */
static char *upload(struct sending *s, const char *path, source_fn *source, int64_t len, void *arg,
                    struct api_err *err)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    AUTO_FREE char *task =
        ask_ref(s, "task.create", json_pack("[ss]", "VM.migrate_send", s->what->vm->name_label), err);
    if (!task)
        return NULL;
    AUTO_FREE char *whole = xasprintf("%s&task_id=%s", path, task);
    int rc = remote_put(s->remote, whole, source, len, arg, s->call->cancel, err);
    char *result = NULL;
    if (rc == 0) {
        result = await_task(s, task, -1, err);
    } else if (remote_is_lost(s->remote)) {
        /* The other side closes the connection when it has all, which may look like a loss: its task knows.
         */
        api_err_done(err);
        result = await_task(s, task, LOST_MS, err);
    }
    if (tell(s, "task.destroy", json_pack("[s]", task), &ignored) < 0)
        log_info("migrate", "a task of the other pool stays", "task", task, "error", ignored.code);
    return result;
}

/* ---- one disk ---- */

struct relay {
    struct sending *sending;
    const struct vdi_row *vdi;
    const struct sr_row *sr;
    struct hv_host *agent;
    struct hosts_op op;
    int in, out;          /* the agent's thread writes `in` */
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    int64_t size; /* -1: not known yet */
    bool ended;
    int rc;
    struct hv_err cause;
};

static int relay_begin(void *ctx, int64_t size)
{
    struct relay *r = ctx;
    pthread_mutex_lock(&r->lock);
    r->size = size;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return size < 0 ? -1 : 0;
}

static int relay_write(void *ctx, const void *data, size_t len)
{
    const struct relay *r = ctx;
    const char *from = data;
    while (len > 0) {
        ssize_t n = send(r->in, from, len, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR)
            return -1; /* the upload has ended */
        from += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static void *relay_run(void *arg)
{
    struct relay *r = arg;
    struct hv_disk_export_args args;
    const char *disk, *iso;
    storage_disk_name(r->sr, r->vdi, &disk, &iso);
    hv_disk_export_args_init(&args);
    str_assign(&args.sr, r->sr->uuid);
    str_assign(&args.disk, disk);
    args.format = IMAGE_FORMAT_VHD; /* what every server of this API takes, and without the zeros */
    int rc = hv_disk_export(r->agent, &r->op.op, &args, relay_begin, relay_write, r, &r->cause);
    hv_disk_export_args_done(&args);
    shutdown(r->in, SHUT_WR);
    pthread_mutex_lock(&r->lock);
    r->rc = rc;
    r->ended = true;
    pthread_cond_signal(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static ssize_t relay_read(void *arg, char *to, size_t max)
{
    const struct relay *r = arg;
    ssize_t n;
    do
        n = recv(r->out, to, max, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* How many bytes come; -1: none. */
static int64_t relay_length(struct relay *r)
{
    pthread_mutex_lock(&r->lock);
    while (r->size < 0 && !r->ended)
        pthread_cond_wait(&r->changed, &r->lock);
    int64_t size = r->size;
    pthread_mutex_unlock(&r->lock);
    return size;
}

/* With the socket pair open and the agent held. */
static int relay_all(struct relay *r, const struct sent_disk *disk, struct api_err *err)
{
    pthread_t thread;
    int rc = 0;
    if (pthread_create(&thread, NULL, relay_run, r) != 0)
        return fail_internal(err, "There is no thread for a disk.");
    int64_t size = relay_length(r);
    if (size >= 0) {
        AUTO_FREE char *path = xasprintf("/import_raw_vdi?vdi=%s&format=vhd", disk->made);
        AUTO_FREE char *result = upload(r->sending, path, relay_read, size, r, err);
        rc = result ? 0 : -1;
    }
    shutdown(r->out, SHUT_RDWR); /* whoever still writes gives up */
    pthread_join(thread, NULL);
    if (rc == 0 && r->rc < 0)
        rc = storage_fail(err, REF_NULL, r->vdi->SR, r->vdi->row.ref, "copy", &r->cause);
    return rc;
}

static int send_content(struct sending *s, const struct sent_disk *disk, double from, double to,
                        struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    const struct snapshot *snap = s->call->snapshot;
    struct relay r = {.sending = s,
                      .vdi = disk->vdi,
                      .sr = sr_row(snapshot_get(snap, CLASS_SR, disk->vdi->SR)),
                      .size = -1};
    int pair[2];
    if (!r.sr)
        return fail_handle(err, CLASS_SR, disk->vdi->SR);
    if (storage_agent_get(s->call->server, snap, disk->vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return fail_internal(err, "There is no socket for a disk.");
    r.agent = at.agent;
    r.in = pair[0];
    r.out = pair[1];
    hosts_op_init(&r.op, s->call, 0);
    r.op.progress_from = from;
    r.op.progress_to = to;
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.changed, NULL);
    int rc = relay_all(&r, disk, err);
    pthread_cond_destroy(&r.changed);
    pthread_mutex_destroy(&r.lock);
    close(r.in);
    close(r.out);
    return rc;
}

static int send_disk(struct sending *s, size_t index, struct api_err *err)
{
    struct sent_disk *disk = &s->disks[index];
    const struct vdi_row *vdi = disk->vdi;
    json_t *record = json_pack(
        "{ss, ss, ss, sI, ss, sb, sb, so, so, so, so}", "name_label", vdi->name_label, "name_description",
        vdi->name_description, "SR", disk->sr, "virtual_size", (json_int_t)vdi->virtual_size, "type",
        model_enum_vdi_type.values[vdi->type], "sharable", vdi->sharable, "read_only", false, "other_config",
        str_map_json(vdi->other_config), "xenstore_data", str_map_json(vdi->xenstore_data), "sm_config",
        json_object(), "tags", str_set_json(vdi->tags));
    disk->made = ask_ref(s, "VDI.create", json_pack("[o]", record), err);
    if (!disk->made || note_made_there(s, "VDI", disk->made, err) < 0)
        return -1;
    failpoint("send-away:disk");
    return send_content(s, disk, (double)index / (double)(s->count + 1),
                        (double)(index + 1) / (double)(s->count + 1), err);
}

/* ---- the VM ---- */

struct text {
    const char *at;
    size_t left;
};

static ssize_t read_text(void *arg, char *to, size_t max)
{
    struct text *text = arg;
    size_t n = max < text->left ? max : text->left;
    memcpy(to, text->at, n);
    text->at += n;
    text->left -= n;
    return (ssize_t)n;
}

/* The first reference in the result of an import. */
static char *first_ref(const char *result)
{
    const char *at = strstr(result, "OpaqueRef:");
    return at ? xstrndup(at, strcspn(at, "<")) : NULL;
}

static int send_rows(struct sending *s, struct api_err *err)
{
    AUTO_BUF struct buf archive = BUF_INIT, path = BUF_INIT;
    if (export_metadata_bare(s->call->server, s->call->snapshot, s->what->vm, &archive, err) < 0 ||
        (!s->what->copy && note_there(s, "VM", s->what->vm->uuid, err) < 0))
        return -1;
    buf_printf(&path, "/import_metadata?restore=%s", s->what->copy ? "false" : "true");
    for (size_t i = 0; i < s->count; i++)
        buf_printf(&path, "&vdi:%s=%s", s->disks[i].vdi->uuid, s->disks[i].made);
    struct text text = {archive.data, archive.len};
    AUTO_FREE char *result = upload(s, path.data, read_text, (int64_t)archive.len, &text, err);
    if (!result)
        return -1;
    s->vm = first_ref(result);
    if (!s->vm)
        return fail_internal(err, "The other pool does not say which VM it has made.");
    return s->what->copy ? note_made_there(s, "VM", s->vm, err) : 0;
}

/* With its address, unless there are two of it from now on. */
static int send_card(struct sending *s, const struct vif_row *vif, struct api_err *err)
{
    json_t *record =
        json_pack("{ss, ss, ss, ss, sI, so, ss, so, ss, so, so}", "VM", s->vm, "network",
                  str_map_get(s->what->nics, REF_TEXT(vif->row.ref)), "device", vif->device, "MAC",
                  s->what->copy ? "" : vif->MAC, "MTU", (json_int_t)vif->MTU, "other_config",
                  str_map_json(vif->other_config), "qos_algorithm_type", vif->qos_algorithm_type,
                  "qos_algorithm_params", str_map_json(vif->qos_algorithm_params), "locking_mode",
                  model_enum_vif_locking_mode.values[vif->locking_mode], "ipv4_allowed",
                  str_set_json(vif->ipv4_allowed), "ipv6_allowed", str_set_json(vif->ipv6_allowed));
    return tell(s, "VIF.create", json_pack("[o]", record), err);
}

static int send_cards(struct sending *s, struct api_err *err)
{
    const struct ref_set *vifs = s->what->vm->VIFs;
    for (size_t i = 0; vifs && i < vifs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(s->call->snapshot, CLASS_VIF, vifs->items[i]));
        if (vif && send_card(s, vif, err) < 0)
            return -1;
    }
    return tell(s, "VM.set_affinity", json_pack("[ss]", s->vm, str_map_get(s->what->dest, "host")), err);
}

/* What was made there goes again. What cannot be undone is logged: its owner is told of the failure anyway.
 */
static void undo_one(struct sending *s, const char *name, const char *ref)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    if (ref && tell(s, name, json_pack("[s]", ref), &err) < 0)
        log_warn("migrate", "what was made in the other pool stays there", "call", name, "object", ref,
                 "error", err.code);
}

static void undo(struct sending *s)
{
    undo_one(s, "VM.destroy", s->vm);
    for (size_t i = 0; i < s->count; i++)
        undo_one(s, "VDI.destroy", s->disks[i].made);
}

/* VDI_IN_USE: somebody has given a disk to another VM meanwhile. */
static int check_alone(struct tx *tx, const struct sending *s, struct api_err *err)
{
    if (!tx_get(tx, CLASS_VM, s->what->vm->row.ref))
        return fail_handle(err, CLASS_VM, s->what->vm->row.ref);
    for (size_t i = 0; i < s->count; i++) {
        const struct ref ref = s->disks[i].vdi->row.ref;
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
        if (vdi && vdi->VBDs && vdi->VBDs->count > 1)
            return err_vdi_in_use(err, REF_TEXT(ref), "mirror");
    }
    return 0;
}

/* The other pool has it: it goes here, with its disks. */
static int leave(struct sending *s, struct ref result, struct api_err *err)
{
    struct tx *tx = store_begin(s->call->server->store);
    if (!s->what->copy) {
        if (check_alone(tx, s, err) < 0) {
            tx_abort(tx);
            return -1;
        }
        vm_delete(tx, s->what->vm->row.ref);
        for (size_t i = 0; i < s->count; i++)
            storage_discard_vdi(tx, s->disks[i].vdi->row.ref);
    }
    task_note_done(tx, s->call, result);
    if (server_commit(tx, err) < 0)
        return -1;
    for (size_t i = 0; !s->what->copy && i < s->count; i++)
        storage_sweep(s->call->server, s->disks[i].vdi->SR);
    return 0;
}

/* ---- what can be known before ---- */

static int open_remote(struct sending *s, struct api_err *err)
{
    char trusted[32];
    const char *url = str_map_get(s->what->dest, "master"),
               *session = str_map_get(s->what->dest, "session_id");
    if (!url || !session) /* that there is a host, has been looked at */
        return err_invalid_value(err, "dest", url ? "session_id is missing" : "master is missing");
    s->trusted = fetch_trusted_file(s->call->snapshot, trusted);
    s->remote = remote_pool(url, str_map_get(s->what->dest, VM_SEND_PIN), s->trusted >= 0 ? trusted : NULL,
                            str_map_get(s->what->dest, "host"), session, err);
    if (!s->remote)
        return -1;
    return tell(s, "host.get_uuid", json_pack("[s]", str_map_get(s->what->dest, "host")), err);
}

static int find_disks(struct sending *s, struct api_err *err)
{
    const struct snapshot *snap = s->call->snapshot;
    const struct ref_set *vbds = s->what->vm->VBDs;
    s->disks = xcalloc((vbds ? vbds->count : 0) + 1, sizeof(*s->disks));
    for (size_t i = 0; vbds && i < vbds->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(snap, CLASS_VBD, vbds->items[i]));
        const struct vdi_row *vdi =
            vbd && !vbd->empty ? vdi_row(snapshot_get(snap, CLASS_VDI, vbd->VDI)) : NULL;
        if (!vdi || vbd->type == VBD_TYPE_CD)
            continue;
        const char *sr = str_map_get(s->what->disks, REF_TEXT(vdi->row.ref));
        if (!sr)
            return err_vdi_not_in_map(err, REF_TEXT(vdi->row.ref));
        if (!s->what->copy && vdi->VBDs->count > 1)
            return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "mirror");
        if (tell(s, "SR.get_uuid", json_pack("[s]", sr), err) < 0)
            return -1;
        s->disks[s->count++] = (struct sent_disk){.vdi = vdi, .sr = sr};
    }
    return 0;
}

static int check_cards(struct sending *s, struct api_err *err)
{
    const struct ref_set *vifs = s->what->vm->VIFs;
    for (size_t i = 0; vifs && i < vifs->count; i++) {
        const char *network = str_map_get(s->what->nics, REF_TEXT(vifs->items[i]));
        if (!network)
            return err_vif_not_in_map(err, REF_TEXT(vifs->items[i]));
        if (tell(s, "network.get_uuid", json_pack("[s]", network), err) < 0)
            return -1;
    }
    return 0;
}

static int prepare(struct sending *s, struct api_err *err)
{
    const struct vm_row *vm = s->what->vm;
    if (vm->power_state != VM_POWER_STATE_HALTED)
        return vm_bad_state(err, vm, "halted");
    return open_remote(s, err) < 0 || find_disks(s, err) < 0 ? -1 : check_cards(s, err);
}

/* ---- all of it ---- */

int vm_send_check(struct call *call, const struct vm_send *send, struct api_err *err)
{
    AUTO_SENDING struct sending s = {.call = call, .what = send, .trusted = -1};
    return prepare(&s, err);
}

int vm_send(struct call *call, const struct vm_send *send, struct ref *result, struct api_err *err)
{
    AUTO_SENDING struct sending s = {.call = call, .what = send, .trusted = -1};
    int rc = prepare(&s, err) < 0 ? -1 : note_there(&s, "", "", err);
    for (size_t i = 0; rc == 0 && i < s.count; i++)
        rc = send_disk(&s, i, err);
    if (rc == 0)
        rc = send_rows(&s, err);
    if (rc == 0)
        rc = send_cards(&s, err);
    if (rc == 0 && !ref_parse(s.vm, result))
        rc = fail_internal(err, "The other pool answered with something else than a reference.");
    if (rc == 0)
        failpoint("send-away:there");
    if (rc == 0)
        rc = leave(&s, *result, err);
    if (rc < 0)
        undo(&s);
    else
        log_info("migrate", "a VM went to another pool", "vm", send->vm->uuid, "copy",
                 send->copy ? "true" : "false");
    return rc;
}
