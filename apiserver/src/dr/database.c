#include "database.h"

#include "../gate/generic.h"
#include "../gate/session.h"
#include "../handlers/storage.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>
#include <unistd.h>

#define DATABASES_MAX 8
#define READ_MS (30LL * 60 * 1000)
#define BUSY_MS 30000 /* copies are written in less */
#define BUSY_LOOK_MS 50

struct database {
    _Atomic unsigned refs;
    struct store *store;
    struct snapshot *snap;
    char pool[UUID_TEXT_SIZE];
};

static _Atomic int database_count;

static struct database *database_ref(struct database *db)
{
    atomic_fetch_add(&db->refs, 1);
    return db;
}

void database_unref(struct database *db)
{
    if (!db || atomic_fetch_sub(&db->refs, 1) != 1)
        return;
    snapshot_unref(db->snap);
    store_close(db->store);
    free(db);
    atomic_fetch_sub(&database_count, 1);
}

struct snapshot *database_snapshot(const struct database *db)
{
    return snapshot_ref(db->snap);
}

const char *database_pool(const struct database *db)
{
    return db->pool;
}

bool database_serves(const struct method_desc *m)
{
    static const char *const names[] = {
        "session.logout",
        "VM.recover",
        "VM.assert_can_be_recovered",
        "VM.get_SRs_required_for_recovery",
        "VM_appliance.recover",
        "VM_appliance.assert_can_be_recovered",
        "VM_appliance.get_SRs_required_for_recovery",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (streq(m->name, names[i]))
            return true;
    return !(m->flags & METHOD_HANDLER) && generic_serves(m) && m->kind != METHOD_SETTER &&
           m->kind != METHOD_ADD && m->kind != METHOD_REMOVE && m->kind != METHOD_CREATE &&
           m->kind != METHOD_DESTROY;
}

/* ---- reading a disk ---- */

/* The head, then as many bytes as it says. */
struct reading {
    struct buf data;
    size_t wanted;
    bool head_only, whole, no_copy;
    struct pool_copy_head head;
};

/* What was wanted is there. True: now it is more. */
static bool want_rows(struct reading *r)
{
    if (r->wanted != POOL_COPY_HEAD)
        return false;
    r->no_copy = !pool_copy_read_head(r->data.data, &r->head);
    if (r->no_copy || r->head_only)
        return false;
    r->wanted += r->head.size;
    return r->head.size > 0;
}

/* -1 is how it says that it has enough. */
static int take(void *arg, const void *data, size_t len)
{
    struct reading *r = arg;
    const char *from = data;
    while (len > 0) {
        size_t room = r->wanted - r->data.len, n = len < room ? len : room;
        buf_add(&r->data, from, n);
        from += n;
        len -= n;
        if (r->data.len == r->wanted && !want_rows(r)) {
            r->whole = true;
            return -1;
        }
    }
    return 0;
}

/* A copy that the pool writes right now is read a moment later. */
static int export_when_free(const struct storage_agent *at, const struct hv_disk_export_args *args,
                            const _Atomic bool *cancel, struct reading *r, struct hv_err *cause)
{
    int64_t deadline = clock_mono_ms() + BUSY_MS;
    for (;;) {
        char id[UUID_TEXT_SIZE];
        struct hv_op op = {.id = uuid_format(ref_new(), id), .timeout_ms = READ_MS, .cancel = cancel};
        int rc = hv_disk_export(at->agent, &op, args, NULL, take, r, cause);
        if (rc == 0)
            return 0;
        storage_end_operation(at->agent, op.id);
        if (cause->kind != HV_ERR_KIND_IN_USE || clock_mono_ms() >= deadline || (cancel && *cancel))
            return -1;
        usleep(BUSY_LOOK_MS * 1000);
    }
}

/* 0: r->no_copy or r->whole. */
static int read_disk(struct server *server, struct ref ref, const _Atomic bool *cancel, struct reading *r,
                     struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(snap, CLASS_SR, vdi->SR)) : NULL;
    const char *disk, *iso;
    if (!sr)
        return fail_handle(err, CLASS_VDI, ref);
    r->wanted = POOL_COPY_HEAD;
    r->no_copy = storage_sr_is_iso(sr) || vdi->virtual_size < POOL_COPY_HEAD;
    if (r->no_copy)
        return 0;
    if (storage_agent_get(server, snap, vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    struct hv_disk_export_args args;
    struct hv_err cause;
    storage_disk_name(sr, vdi, &disk, &iso);
    hv_disk_export_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    args.format = IMAGE_FORMAT_RAW;
    int rc = export_when_free(&at, &args, cancel, r, &cause);
    hv_disk_export_args_done(&args);
    if (rc < 0 && !r->whole)
        return storage_fail(err, at.host, vdi->SR, ref, "open_database", &cause);
    r->no_copy = r->no_copy || !r->whole;
    return 0;
}

int database_peek(struct server *server, struct ref vdi, struct pool_copy_head *out, struct api_err *err)
{
    struct reading r = {.head_only = true};
    int rc = read_disk(server, vdi, NULL, &r, err);
    buf_done(&r.data);
    if (rc == 0 && !r.no_copy)
        *out = r.head;
    return rc < 0 ? -1 : !r.no_copy;
}

/* ---- opening ---- */

static int load(const struct pool_copy_head *head, const char *rows, struct database **out,
                struct api_err *err)
{
    char error[POOL_COPY_ERROR];
    struct store *store;
    if (atomic_fetch_add(&database_count, 1) >= DATABASES_MAX) {
        atomic_fetch_sub(&database_count, 1);
        return err_too_busy(err);
    }
    if (pool_copy_load(head, rows, &store, error) < 0) {
        atomic_fetch_sub(&database_count, 1);
        return err_could_not_import_database(err, error);
    }
    struct database *db = xcalloc(1, sizeof(*db));
    db->refs = 1;
    db->store = store;
    db->snap = store_snapshot(store);
    snprintf(db->pool, sizeof(db->pool), "%s", head->pool);
    *out = db;
    return 0;
}

int database_open_bytes(const char *data, size_t len, struct database **out, struct api_err *err)
{
    struct pool_copy_head head;
    if (len < POOL_COPY_HEAD || !pool_copy_read_head(data, &head) || head.size > len - POOL_COPY_HEAD)
        return err_could_not_import_database(err, "this is no copy of a pool's database");
    return load(&head, data + POOL_COPY_HEAD, out, err);
}

static int fail_type(struct server *server, struct ref ref, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(server->store);
    const struct vdi_row *vdi = vdi_row(snapshot_get(snap, CLASS_VDI, ref));
    return err_vdi_incompatible_type(err, REF_TEXT(ref), vdi ? model_enum_vdi_type.values[vdi->type] : "");
}

int database_open(struct server *server, struct ref vdi, const _Atomic bool *cancel, struct database **out,
                  struct api_err *err)
{
    struct reading r = {0};
    int rc = read_disk(server, vdi, cancel, &r, err);
    if (rc == 0 && r.no_copy)
        rc = fail_type(server, vdi, err);
    if (rc == 0)
        rc = load(&r.head, r.data.data + POOL_COPY_HEAD, out, err);
    buf_done(&r.data);
    return rc;
}

int database_session(struct call *call, struct database *db, struct ref *token, struct api_err *err)
{
    const struct session *own = call->session;
    AUTO_SESSION struct session *session = NULL;
    const struct identity who = {.user = own->user,
                                 .sid = own->sid,
                                 .sids = own->sids,
                                 .role = (enum role)own->role,
                                 .superuser = own->superuser,
                                 .certified = own->certified,
                                 .subject = own->subject,
                                 .limited = true, /* an API token lends no more here */
                                 .limit = own->limit};
    if (session_open(call->server, &who, own->originator, &session, err) < 0)
        return -1;
    session->database = database_ref(db); /* nobody knows it yet */
    *token = session->token;
    return 0;
}
