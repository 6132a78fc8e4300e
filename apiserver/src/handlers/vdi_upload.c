/* What of an upload in parts is in the database, and its end. */
#include "vdi_upload.h"

#include "../gate/task.h"
#include "../http/raw_vdi.h"
#include "../rules/device.h"
#include "../rules/operations.h"
#include <base/clock.h>
#include <base/failpoint.h>
#include <base/log.h>
#include <base/mem.h>
#include <errno.h>
#include <hv/image.h>
#include <model/errors.h>
#include <stdio.h>
#include <unistd.h>

#define VALUE_PREFIX "upload "
#define INTERRUPT_WAIT_MS 10000
#define INTERRUPT_LOOK_MS 50

/* ---- the row ---- */

static const char *text_of(const struct str_map *map, const char *key)
{
    const char *text = str_map_get(map, key);
    return text ? text : "";
}

bool upload_of(const struct vdi_row *vdi, struct upload *out)
{
    const char *id = vdi ? str_map_get(vdi->upload, "id") : NULL;
    if (!id)
        return false;
    *out = (struct upload){.length = strtoll(text_of(vdi->upload, "length"), NULL, 10),
                           .until = strtoll(text_of(vdi->upload, "until"), NULL, 10),
                           .open = vdi_upload_is_open(vdi),
                           .finishing = streq(text_of(vdi->upload, "state"), "finishing"),
                           .sha256 = text_of(vdi->upload, "sha256"),
                           .metadata = text_of(vdi->upload, "metadata")};
    snprintf(out->id, sizeof(out->id), "%s", id);
    raw_format_parse(text_of(vdi->upload, "format"), true, &out->format);
    return true;
}

static void put_number(const struct str_map **map, const char *key, int64_t n)
{
    AUTO_FREE char *text = xasprintf("%lld", (long long)n);
    str_map_put(map, key, text);
}

/* Returns until when. */
static int64_t keep_longer(const struct server *server, struct vdi_row *vdi)
{
    int64_t until = clock_unix_seconds() + server->upload_keep_s;
    put_number(&vdi->upload, "until", until);
    return until;
}

static const struct str_pair *running_on(const struct vdi_row *vdi)
{
    return vdi->current_operations && vdi->current_operations->count ? vdi->current_operations->pairs : NULL;
}

/* The upload as it is in this transaction; false with *err. */
static bool find(struct tx *tx, struct ref ref, const char *id, struct upload *out, struct api_err *err)
{
    if (upload_of(vdi_row(tx_get(tx, CLASS_VDI, ref)), out) && streq(out->id, id))
        return true;
    err_handle_invalid(err, "upload", id);
    return false;
}

/* ---- begin, take, release ---- */

/* What is checked before one begins. */
struct beginning {
    struct tx *tx;
    const struct vdi_row *vdi;
    const struct sr_row *sr;
    const struct upload *wish;
};

static int check_disk(const struct beginning *b, struct api_err *err)
{
    if (storage_sr_is_iso(b->sr))
        return err_sr_operation_not_supported(err, REF_TEXT(b->vdi->SR));
    return b->vdi->read_only ? err_vdi_readonly(err, REF_TEXT(b->vdi->row.ref)) : 0;
}

static int check_users(const struct beginning *b, struct api_err *err)
{
    return storage_vdi_attached(b->tx, b->vdi) ? err_vdi_in_use(err, REF_TEXT(b->vdi->row.ref), "import") : 0;
}

static int check_length(const struct beginning *b, struct api_err *err)
{
    int64_t size = b->vdi->virtual_size, length = b->wish->length;
    int64_t most = b->wish->format == IMAGE_FORMAT_RAW ? size : image_bytes_max(size);
    if (length >= 1 && length <= most)
        return 0;
    AUTO_FREE char *said = xasprintf("%lld", (long long)length);
    AUTO_FREE char *why = xasprintf("the disk takes 1 to %lld bytes", (long long)most);
    return err_value_not_supported(err, "Upload-Length", said, why);
}

static int check_operation(const struct beginning *b, struct api_err *err)
{
    return operation_check(b->tx, CLASS_VDI, b->vdi->row.ref, VDI_OPERATIONS_BLOCKED, err);
}

static int (*const checks[])(const struct beginning *b,
                             struct api_err *err) = {check_disk, check_users, check_length, check_operation};

static int begin_checks(struct tx *tx, struct ref ref, const struct upload *wish, struct beginning *b,
                        struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    const struct sr_row *sr = vdi ? sr_row(tx_get(tx, CLASS_SR, vdi->SR)) : NULL;
    *b = (struct beginning){tx, vdi, sr, wish};
    return sr ? 0 : fail_handle(err, CLASS_VDI, ref);
}

static int check_begin(struct tx *tx, struct ref ref, const struct upload *wish, struct api_err *err)
{
    struct beginning b;
    int rc = begin_checks(tx, ref, wish, &b, err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(checks); i++)
        rc = checks[i](&b, err);
    return rc;
}

void upload_refusals(struct server *server, struct ref vdi, const struct upload *wish,
                     void (*each)(void *arg, const struct api_err *err), void *arg)
{
    struct beginning b;
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct tx *tx = store_begin(server->store);
    int rc = begin_checks(tx, vdi, wish, &b, &err);
    if (rc < 0)
        each(arg, &err);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(checks); i++)
        if (checks[i](&b, &err) < 0)
            each(arg, &err);
    tx_abort(tx);
}

int upload_begin(struct server *server, struct ref ref, struct upload *upload, struct api_err *err)
{
    struct tx *tx = store_begin(server->store);
    if (check_begin(tx, ref, upload, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    uuid_format(ref_new(), upload->id);
    struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, ref));
    AUTO_FREE char *value = xasprintf(VALUE_PREFIX "%s", REF_TEXT(ref));
    str_map_assign(&vdi->upload, NULL);
    str_map_put(&vdi->upload, "id", upload->id);
    str_map_put(&vdi->upload, "state", "open");
    str_map_put(&vdi->upload, "sha256", upload->sha256);
    str_map_put(&vdi->upload, "metadata", upload->metadata);
    put_number(&vdi->upload, "length", upload->length);
    str_map_put(&vdi->upload, "format", image_format_name(upload->format));
    upload->until = keep_longer(server, vdi);
    upload->open = true;
    str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, vdi->SR))->unfinished_disks, upload->id, value);
    return server_commit(tx, err);
}

/* The open upload is nobody's now, in a transaction that is the caller's to end. 1: `holder` has it. Not 0:
 * there is none, and *err is set. */
static int begin_alone(struct server *server, struct ref ref, const char *id, struct tx **out,
                       struct ref *holder, struct api_err *err)
{
    struct upload u;
    struct tx *tx = store_begin(server->store);
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    if (!find(tx, ref, id, &u, err)) {
        tx_abort(tx);
        return -1;
    }
    const struct str_pair *running = u.open ? running_on(vdi) : NULL;
    if (!running) {
        *out = tx;
        return 0;
    }
    *holder = REF_NULL;
    ref_parse(running->key, holder);
    operation_in_the_way(err, &vdi->row, running);
    tx_abort(tx);
    return 1;
}

/* The same; who has it is told to stop. */
static int wait_alone(struct server *server, struct ref ref, const char *id, struct tx **out,
                      struct api_err *err)
{
    int64_t deadline = clock_mono_ms() + INTERRUPT_WAIT_MS;
    struct ref holder;
    for (;;) {
        int rc = begin_alone(server, ref, id, out, &holder, err);
        if (rc <= 0)
            return rc;
        if (!task_cancel(server, holder) || clock_mono_ms() >= deadline)
            return -1;
        api_err_done(err);
        *err = API_ERR_INIT;
        usleep(INTERRUPT_LOOK_MS * 1000);
    }
}

int upload_take(struct server *server, struct ref ref, const char *id, struct ref task, struct api_err *err)
{
    struct tx *tx;
    if (wait_alone(server, ref, id, &tx, err) < 0)
        return -1;
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    if (!vdi_upload_is_open(vdi)) {
        tx_abort(tx);
        return err_handle_invalid(err, "upload", id);
    }
    keep_longer(server, vdi_row_mut(tx_edit(tx, CLASS_VDI, ref)));
    operation_mark(tx, CLASS_VDI, ref, task, VDI_OPERATIONS_BLOCKED);
    return server_commit(tx, err);
}

struct release {
    struct ref vdi, task;
};

static void release(struct tx *tx, void *arg)
{
    const struct release *r = arg;
    if (tx_get(tx, CLASS_VDI, r->vdi))
        operation_unmark(tx, CLASS_VDI, r->vdi, r->task);
}

void upload_release(struct server *server, struct ref vdi, struct ref task)
{
    struct release r = {vdi, task};
    server_insist(server, release, &r);
}

/* ---- what the agent has ---- */

struct site {
    struct server *server;
    struct snapshot *snap;
    const struct vdi_row *vdi;
    const struct sr_row *sr;
    struct upload upload;
    struct storage_agent at;
};
static void site_done(struct site *s)
{
    storage_agent_put(&s->at);
    snapshot_unref(s->snap);
}
#define AUTO_SITE __attribute__((cleanup(site_done)))

static int site_find(struct server *server, struct ref ref, const char *id, struct site *s,
                     struct api_err *err)
{
    s->server = server;
    s->snap = store_snapshot(server->store);
    s->vdi = vdi_row(snapshot_get(s->snap, CLASS_VDI, ref));
    s->sr = s->vdi ? sr_row(snapshot_get(s->snap, CLASS_SR, s->vdi->SR)) : NULL;
    if (!s->sr || !upload_of(s->vdi, &s->upload) || !streq(s->upload.id, id))
        return err_handle_invalid(err, "upload", id);
    return 0;
}

static int site_open(struct site *s, struct api_err *err)
{
    return storage_agent_get(s->server, s->snap, s->vdi->SR, REF_NULL, &s->at, err);
}

static int site_fail(const struct site *s, const struct hv_err *cause, struct api_err *err)
{
    return storage_fail(err, s->at.host, s->vdi->SR, s->vdi->row.ref, "import", cause);
}

static int ask_offset(const struct site *s, int64_t *offset, struct hv_err *cause)
{
    struct hv_upload_look_args args;
    struct hv_upload_look_result result;
    hv_upload_look_args_init(&args);
    str_assign(&args.sr, s->sr->uuid);
    str_assign(&args.upload, s->upload.id);
    args.length = s->upload.length;
    int rc = hv_upload_look(s->at.agent, NULL, &args, &result, cause);
    hv_upload_look_args_done(&args);
    if (rc < 0)
        return -1;
    *offset = result.offset;
    hv_upload_look_result_done(&result);
    return 0;
}

/* The bytes are the disk's content now. */
static int record_done(const struct site *s, struct disk_info *info, struct api_err *err)
{
    struct sr_stats stats;
    struct upload now;
    bool have_stats = storage_read_stats(s->at.agent, s->sr->uuid, &stats);
    struct tx *tx = store_begin(s->server->store);
    if (!find(tx, s->vdi->row.ref, s->upload.id, &now, err)) {
        tx_abort(tx);
        return -1;
    }
    if (now.open)
        str_map_put(&vdi_row_mut(tx_edit(tx, CLASS_VDI, s->vdi->row.ref))->upload, "state", "done");
    storage_settle_disk(tx, s->vdi->SR, s->upload.id);
    storage_update_vdi(tx, s->vdi->row.ref, info);
    if (have_stats)
        storage_apply_stats(tx, s->vdi->SR, &stats);
    return server_commit(tx, err);
}

/* The server died, or lost the agent, after it had asked for the end; that was reached. */
static int catch_up(const struct site *s, struct api_err *err)
{
    struct disk_info info;
    struct hv_err cause;
    if (storage_read_info(&s->at, s->sr, s->vdi->uuid, "", &info, &cause) < 0)
        return site_fail(s, &cause, err);
    int rc = record_done(s, &info, err);
    disk_info_done(&info);
    return rc;
}

int upload_offset(struct server *server, struct ref ref, const char *id, int64_t *offset, bool *all_there,
                  struct api_err *err)
{
    AUTO_SITE struct site s = {0};
    struct hv_err cause;
    bool ignored;
    all_there = all_there ? all_there : &ignored;
    *all_there = false;
    if (site_find(server, ref, id, &s, err) < 0)
        return -1;
    *offset = s.upload.length;
    if (!s.upload.open)
        return 0;
    if (site_open(&s, err) < 0)
        return -1;
    if (ask_offset(&s, offset, &cause) < 0) {
        if (cause.kind != HV_ERR_KIND_NOT_FOUND)
            return site_fail(&s, &cause, err);
        *offset = s.upload.finishing ? s.upload.length : 0;
        return s.upload.finishing ? catch_up(&s, err) : 0;
    }
    *all_there = *offset == s.upload.length;
    if (*all_there)
        (*offset)--; /* the last one counts when the disk is whole */
    return 0;
}

/* ---- the end ---- */

static int note_state(struct server *server, struct ref ref, const char *id, const char *state,
                      struct api_err *err)
{
    struct upload u;
    struct tx *tx = store_begin(server->store);
    if (!find(tx, ref, id, &u, err)) {
        tx_abort(tx);
        return -1;
    }
    str_map_put(&vdi_row_mut(tx_edit(tx, CLASS_VDI, ref))->upload, "state", state);
    return server_commit(tx, err);
}

static int ask_finish(const struct site *s, const struct hv_op *op, struct disk_info *info,
                      struct hv_err *cause)
{
    struct hv_upload_finish_args args;
    struct hv_upload_finish_result result;
    hv_upload_finish_args_init(&args);
    str_assign(&args.sr, s->sr->uuid);
    str_assign(&args.disk, s->vdi->uuid);
    str_assign(&args.upload, s->upload.id);
    str_assign(&args.sha256, s->upload.sha256);
    args.length = s->upload.length;
    args.format = s->upload.format;
    int rc = hv_upload_finish(s->at.agent, op, &args, &result, cause);
    hv_upload_finish_args_done(&args);
    if (rc == 0)
        *info = result.info;
    return rc;
}

/* Takes it off the rows; the bytes go with the next sweep of the SR. */
static void forget(struct tx *tx, const struct vdi_row *vdi, const struct upload *u)
{
    struct ref sr = vdi->SR;
    if (u->open && tx_get(tx, CLASS_SR, sr))
        str_map_put(&sr_row_mut(tx_edit(tx, CLASS_SR, sr))->unfinished_disks, u->id, "");
    str_map_assign(&vdi_row_mut(tx_edit(tx, CLASS_VDI, vdi->row.ref))->upload, NULL);
}

/* Ends the transaction, in which there is an upload. */
static int drop(struct server *server, struct tx *tx, struct ref ref, struct api_err *err)
{
    const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, ref));
    struct ref sr = vdi->SR;
    struct upload u;
    upload_of(vdi, &u);
    forget(tx, vdi, &u);
    if (server_commit(tx, err) < 0)
        return -1;
    storage_sweep(server, sr);
    return 0;
}

/* Data that is wrong does not get right by waiting: then the upload ends. After anything else it can be
 * finished later, and while nobody knows what became of it (the agent is silent) it stays `finishing`. */
static int finish_failed(const struct site *s, const struct hv_err *cause, struct api_err *err)
{
    AUTO_API_ERR struct api_err ignored = API_ERR_INIT;
    if (cause->kind == HV_ERR_KIND_FORMAT || cause->kind == HV_ERR_KIND_BAD_ARGUMENT) {
        struct upload u;
        struct tx *tx = store_begin(s->server->store);
        if (!find(tx, s->vdi->row.ref, s->upload.id, &u, &ignored))
            tx_abort(tx);
        else if (drop(s->server, tx, s->vdi->row.ref, &ignored) < 0)
            log_error("upload", "a refused upload could not be ended", "upload", s->upload.id);
        return err_import_error(err, cause->text);
    }
    if (cause->kind == HV_ERR_KIND_NO_SPACE || cause->kind == HV_ERR_KIND_CANCELLED)
        note_state(s->server, s->vdi->row.ref, s->upload.id, "open", &ignored);
    return site_fail(s, cause, err);
}

int upload_finish(struct server *server, struct ref ref, const char *id, const struct hv_op *op,
                  struct api_err *err)
{
    AUTO_SITE struct site s = {0};
    struct disk_info info;
    struct hv_err cause;
    if (site_find(server, ref, id, &s, err) < 0)
        return -1;
    if (!s.upload.open)
        return 0;
    if (site_open(&s, err) < 0 || note_state(server, ref, id, "finishing", err) < 0)
        return -1;
    failpoint("upload-finishing");
    if (ask_finish(&s, op, &info, &cause) < 0)
        return finish_failed(&s, &cause, err);
    failpoint("upload-finished");
    int rc = record_done(&s, &info, err);
    disk_info_done(&info);
    return rc;
}

int upload_end(struct server *server, struct ref ref, const char *id, struct api_err *err)
{
    struct tx *tx;
    return wait_alone(server, ref, id, &tx, err) < 0 ? -1 : drop(server, tx, ref, err);
}

/* ---- sweeping ---- */

bool upload_is_value(const char *value)
{
    return strncmp(value, VALUE_PREFIX, sizeof(VALUE_PREFIX) - 1) == 0;
}

bool upload_may_go(struct server *server, const char *id, const char *value)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct upload u;
    struct ref ref;
    struct tx *tx = store_begin(server->store);
    const struct vdi_row *vdi =
        ref_parse(value + sizeof(VALUE_PREFIX) - 1, &ref) ? vdi_row(tx_get(tx, CLASS_VDI, ref)) : NULL;
    bool wanted = upload_of(vdi, &u) && streq(u.id, id) && u.open;
    if (!wanted || running_on(vdi) || u.until > clock_unix_seconds()) {
        tx_abort(tx);
        return !wanted;
    }
    log_info("upload", "an upload that nobody went on with is ended", "vdi", vdi->uuid, "upload", id);
    forget(tx, vdi, &u);
    return server_commit(tx, &err) == 0;
}
