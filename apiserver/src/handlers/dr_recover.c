/* VDI.open_database, and what a session on such a database is for: VM.recover and VM_appliance.recover. A
 * VM's rows leave the database as the text of an export of metadata and enter the pool of the other session
 * the way of PUT /import_metadata with restore; its disks have to be there by their uuids. */
#include "../dr/database.h"
#include "../gate/gate.h"
#include "../gate/roles.h"
#include "../gate/session.h"
#include "../http/export.h"
#include "../http/import.h"
#include "storage.h"
#include <base/file.h>
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>
#include <stdio.h>

/* ---- databases ---- */

static int check_not_own(struct call *call, struct ref vdi, const char *pool_uuid, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(call->server->store);
    const struct pool_row *pool = pool_row(snapshot_get(snap, CLASS_pool, call->server->pool_ref));
    if (!streq(pool->uuid, pool_uuid))
        return 0;
    return err_vdi_contains_metadata_of_this_pool(err, REF_TEXT(vdi), REF_TEXT(pool->row.ref));
}

int handle_vdi_open_database(struct call *call, const struct vdi_open_database_args *args, struct ref *result,
                             struct api_err *err)
{
    struct database *db;
    if (database_open(call->server, args->self, call->cancel, &db, err) < 0)
        return -1;
    int rc = check_not_own(call, args->self, database_pool(db), err);
    if (rc == 0)
        rc = database_session(call, db, result, err);
    database_unref(db);
    return rc;
}

int handle_vdi_read_database_pool_uuid(struct call *call, const struct vdi_read_database_pool_uuid_args *args,
                                       const char **result, struct api_err *err)
{
    struct pool_copy_head head;
    int there = database_peek(call->server, args->self, &head, err);
    if (there >= 0)
        *result = str_new(there ? head.pool : "");
    return there < 0 ? -1 : 0;
}

/* A file with what such a disk holds. Only for this machine's root, who may read any file. */
int handle_session_create_from_db_file(struct call *call, const struct session_create_from_db_file_args *args,
                                       struct ref *result, struct api_err *err)
{
    struct database *db;
    size_t len;
    AUTO_FREE char *data = file_read(args->filename, (size_t)POOL_COPY_DISK_BYTES, &len);
    if (!data)
        return err_could_not_import_database(err, "the file cannot be read by the server, or is too large");
    if (database_open_bytes(data, len, &db, err) < 0)
        return -1;
    int rc = database_session(call, db, result, err);
    database_unref(db);
    return rc;
}

/* ---- what a VM needs ---- */

struct needs {
    const struct snapshot *from; /* the database */
    struct ref *srs;
    size_t count;
};

static void need_disk(struct needs *n, struct ref ref)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(n->from, CLASS_VDI, ref));
    const struct sr_row *sr = vdi ? sr_row(snapshot_get(n->from, CLASS_SR, vdi->SR)) : NULL;
    if (!sr || storage_sr_is_iso(sr))
        return;
    for (size_t i = 0; i < n->count; i++)
        if (ref_eq(n->srs[i], vdi->SR))
            return;
    n->srs = xreallocarray(n->srs, n->count + 1, sizeof(*n->srs));
    n->srs[n->count++] = vdi->SR;
}

static void need_vm(struct needs *n, const struct vm_row *vm)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(n->from, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && vbd->type == VBD_TYPE_DISK)
            need_disk(n, vbd->VDI);
    }
    for (size_t i = 0; !vm->is_a_snapshot && vm->snapshots && i < vm->snapshots->count; i++) {
        const struct vm_row *snapshot = vm_row(snapshot_get(n->from, CLASS_VM, vm->snapshots->items[i]));
        if (snapshot)
            need_vm(n, snapshot);
    }
}

/* Keeps those that the pool has not, or not plugged. */
static void drop_available(struct needs *n, const struct snapshot *pool)
{
    size_t kept = 0;
    for (size_t i = 0; i < n->count; i++) {
        const struct sr_row *told = sr_row(snapshot_get(n->from, CLASS_SR, n->srs[i]));
        const struct sr_row *here = sr_row(snapshot_by_uuid(pool, CLASS_SR, told->uuid));
        bool plugged = false;
        for (size_t p = 0; here && here->PBDs && p < here->PBDs->count; p++) {
            const struct pbd_row *pbd = pbd_row(snapshot_get(pool, CLASS_PBD, here->PBDs->items[p]));
            plugged = plugged || (pbd && pbd->currently_attached);
        }
        if (!plugged)
            n->srs[kept++] = n->srs[i];
    }
    n->count = kept;
}

/* ---- who recovers what ---- */

struct recovering {
    struct call *call;
    const struct snapshot *from;
    struct session *to; /* counted */
    struct ref *vms;
    size_t count;
    const struct vm_appliance_row *appliance; /* of `from`; NULL: VMs alone */
    struct needs missing;
    struct buf archive;
    size_t given;
};

static void recovering_done(struct recovering *r)
{
    session_unref(r->to);
    free(r->vms);
    free(r->missing.srs);
    buf_done(&r->archive);
}
#define AUTO_RECOVERING __attribute__((cleanup(recovering_done)))

static int find_session(struct recovering *r, struct ref token, struct api_err *err)
{
    struct call *call = r->call;
    r->to = ref_eq(token, call->session->ref) ? session_ref(call->session)
                                              : session_find(call->server->sessions, token);
    if (!r->to)
        return err_session_invalid(err, REF_NULL_TEXT);
    if (r->to->database)
        return err_operation_not_allowed(
            err, "session_to reads from a saved database: it has to be one of a pool.");
    return 0;
}

static int begin(struct recovering *r, struct ref token, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *pool = store_snapshot(r->call->server->store);
    r->from = r->missing.from = r->call->snapshot;
    if (find_session(r, token, err) < 0)
        return -1;
    for (size_t i = 0; i < r->count; i++)
        need_vm(&r->missing, vm_row(snapshot_get(r->from, CLASS_VM, r->vms[i])));
    drop_available(&r->missing, pool);
    return 0;
}

static int begin_vm(struct recovering *r, struct ref vm, struct ref token, struct api_err *err)
{
    if (!snapshot_get(r->call->snapshot, CLASS_VM, vm))
        return fail_handle(err, CLASS_VM, vm);
    r->vms = xcalloc(1, sizeof(*r->vms));
    r->vms[r->count++] = vm;
    return begin(r, token, err);
}

static int begin_appliance(struct recovering *r, struct ref ref, struct ref token, struct api_err *err)
{
    r->appliance = vm_appliance_row(snapshot_get(r->call->snapshot, CLASS_VM_appliance, ref));
    if (!r->appliance)
        return fail_handle(err, CLASS_VM_appliance, ref);
    const struct ref_set *vms = r->appliance->VMs;
    r->vms = xcalloc((vms ? vms->count : 0) + 1, sizeof(*r->vms));
    for (size_t i = 0; vms && i < vms->count; i++)
        if (snapshot_get(r->call->snapshot, CLASS_VM, vms->items[i]))
            r->vms[r->count++] = vms->items[i];
    return begin(r, token, err);
}

static int check(const struct recovering *r, struct api_err *err)
{
    const struct vm_row *vm = r->count ? vm_row(snapshot_get(r->from, CLASS_VM, r->vms[0])) : NULL;
    if (!r->appliance && vm && !ref_is_null(vm->appliance))
        return err_vm_is_part_of_an_appliance(err, REF_TEXT(r->vms[0]), REF_TEXT(vm->appliance));
    if (r->missing.count == 0)
        return 0;
    return err_vm_requires_sr(err, vm ? REF_TEXT(r->vms[0]) : REF_NULL_TEXT, REF_TEXT(r->missing.srs[0]));
}

/* ---- recovering ---- */

static int destroy(struct recovering *r, struct ref vm, struct api_err *err)
{
    AUTO_JSON json_t *params = json_pack("[ss]", REF_TEXT(r->to->token), REF_TEXT(vm));
    return gate_call_blocking(call_new(r->call->server, "VM.destroy", params, false, r->call->peer, NULL),
                              err);
}

/* The snapshots that come along may be here, with the VM or without it. */
static int replace_snapshots(struct recovering *r, const struct vm_row *vm, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *pool = store_snapshot(r->call->server->store);
    for (size_t i = 0; vm->snapshots && i < vm->snapshots->count; i++) {
        const struct vm_row *told = vm_row(snapshot_get(r->from, CLASS_VM, vm->snapshots->items[i]));
        const struct row *here = told ? snapshot_by_uuid(pool, CLASS_VM, told->uuid) : NULL;
        if (here && vm_row(here)->is_a_snapshot && destroy(r, here->ref, err) < 0)
            return -1;
    }
    return 0;
}

/* The pool has it already: an older one, or (force) any, makes room if it rests. */
static int replace(struct recovering *r, const struct vm_row *vm, bool force, struct api_err *err)
{
    AUTO_SNAPSHOT struct snapshot *pool = store_snapshot(r->call->server->store);
    const struct vm_row *here = vm_row(snapshot_by_uuid(pool, CLASS_VM, vm->uuid));
    char old[24], fresh[24];
    if (!here)
        return replace_snapshots(r, vm, err);
    snprintf(old, sizeof(old), "%lld", (long long)here->version);
    snprintf(fresh, sizeof(fresh), "%lld", (long long)vm->version);
    if (!force && vm->version <= here->version)
        return err_vm_to_import_is_not_newer_version(err, REF_TEXT(here->row.ref), old, fresh);
    if (here->power_state != VM_POWER_STATE_HALTED)
        return err_vm_bad_power_state(err, REF_TEXT(here->row.ref), "halted",
                                      model_enum_vm_power_state.values[here->power_state]);
    return destroy(r, here->row.ref, err) < 0 ? -1 : replace_snapshots(r, vm, err);
}

static ssize_t give(void *arg, void *to, size_t max)
{
    struct recovering *r = arg;
    size_t left = r->archive.len - r->given, n = left < max ? left : max;
    memcpy(to, r->archive.data + r->given, n);
    r->given += n;
    return (ssize_t)n;
}

static int bring_in(struct recovering *r, bool force, struct api_err *err)
{
    static const _Atomic bool never;
    static const struct transfer_kind kind = {.label = "VM.recover", .word = "VM recovery", .uploads = true};
    AUTO_REF_SET const struct ref_set *made = NULL;
    struct call *call = r->call;
    struct transfer t = {.server = call->server,
                         .kind = &kind,
                         .session = r->to,
                         .task = call->task,
                         .cancel = call->cancel ? call->cancel : &never,
                         .pull = give,
                         .pull_arg = r};
    t.length = -1;
    if (export_metadata(call->server, r->from, r->vms, r->count, &r->archive, err) < 0)
        return -1;
    const struct import_wish wish = {.metadata = true, .restore = true, .force = force};
    int rc = import_pulled(&t, &wish, &made, err);
    free(t.object);
    return rc;
}

/* ---- after ---- */

static struct ref make_appliance(struct tx *tx, const struct vm_appliance_row *told)
{
    const struct row *there = tx_by_uuid(tx, CLASS_VM_appliance, told->uuid);
    if (there)
        return there->ref;
    struct vm_appliance_row *made = vm_appliance_row_mut(tx_create(tx, CLASS_VM_appliance));
    str_assign(&made->uuid, told->uuid);
    str_assign(&made->name_label, told->name_label);
    str_assign(&made->name_description, told->name_description);
    return made->row.ref;
}

/* A scan found the disks by their uuids alone: what people called them is in the database. */
static void name_disk(struct tx *tx, const struct vdi_row *told)
{
    const struct vdi_row *here = told ? vdi_row(tx_by_uuid(tx, CLASS_VDI, told->uuid)) : NULL;
    if (!here || *here->name_label)
        return;
    struct vdi_row *vdi = vdi_row_mut(tx_edit(tx, CLASS_VDI, here->row.ref));
    str_assign(&vdi->name_label, told->name_label);
    str_assign(&vdi->name_description, told->name_description);
    vdi->type = told->type;
    vdi->is_a_snapshot = told->is_a_snapshot;
    vdi->snapshot_time = told->snapshot_time;
}

static void name_disks(struct tx *tx, const struct snapshot *from, const struct vm_row *vm)
{
    for (size_t i = 0; vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(from, CLASS_VBD, vm->VBDs->items[i]));
        if (vbd && vbd->type == VBD_TYPE_DISK)
            name_disk(tx, vdi_row(snapshot_get(from, CLASS_VDI, vbd->VDI)));
    }
}

static int settle(struct recovering *r, struct api_err *err)
{
    struct tx *tx = store_begin(r->call->server->store);
    struct ref appliance = r->appliance ? make_appliance(tx, r->appliance) : REF_NULL;
    for (size_t i = 0; i < r->count; i++) {
        const struct vm_row *told = vm_row(snapshot_get(r->from, CLASS_VM, r->vms[i]));
        const struct row *here = tx_by_uuid(tx, CLASS_VM, told->uuid);
        name_disks(tx, r->from, told);
        if (!here)
            continue;
        struct vm_row *vm = vm_row_mut(tx_edit(tx, CLASS_VM, here->ref));
        vm->version = told->version + 1;
        vm->appliance = appliance;
    }
    return server_commit(tx, err);
}

static int recover(struct recovering *r, bool force, struct api_err *err)
{
    if (!r->call->session->database)
        return err_operation_not_allowed(err,
                                         "Only a session of VDI.open_database recovers from its database.");
    if (check(r, err) < 0 || roles_allow(r->to, ACTION_put_import_metadata->permission, err) < 0)
        return -1;
    for (size_t i = 0; i < r->count; i++)
        if (replace(r, vm_row(snapshot_get(r->from, CLASS_VM, r->vms[i])), force, err) < 0)
            return -1;
    return (r->count > 0 && bring_in(r, force, err) < 0) ? -1 : settle(r, err);
}

static const struct ref_set *missing_of(const struct recovering *r)
{
    return ref_set_new(r->missing.srs, r->missing.count);
}

/* ---- messages ---- */

int handle_vm_recover(struct call *call, const struct vm_recover_args *args, struct api_err *err)
{
    AUTO_RECOVERING struct recovering r = {.call = call};
    return begin_vm(&r, args->self, args->session_to, err) < 0 ? -1 : recover(&r, args->force, err);
}

int handle_vm_assert_can_be_recovered(struct call *call, const struct vm_assert_can_be_recovered_args *args,
                                      struct api_err *err)
{
    AUTO_RECOVERING struct recovering r = {.call = call};
    return begin_vm(&r, args->self, args->session_to, err) < 0 ? -1 : check(&r, err);
}

int handle_vm_get_SRs_required_for_recovery(struct call *call,
                                            const struct vm_get_SRs_required_for_recovery_args *args,
                                            const struct ref_set **result, struct api_err *err)
{
    AUTO_RECOVERING struct recovering r = {.call = call};
    if (begin_vm(&r, args->self, args->session_to, err) < 0)
        return -1;
    *result = missing_of(&r);
    return 0;
}

int handle_vm_appliance_recover(struct call *call, const struct vm_appliance_recover_args *args,
                                struct api_err *err)
{
    AUTO_RECOVERING struct recovering r = {.call = call};
    return begin_appliance(&r, args->self, args->session_to, err) < 0 ? -1 : recover(&r, args->force, err);
}

int handle_vm_appliance_assert_can_be_recovered(struct call *call,
                                                const struct vm_appliance_assert_can_be_recovered_args *args,
                                                struct api_err *err)
{
    AUTO_RECOVERING struct recovering r = {.call = call};
    return begin_appliance(&r, args->self, args->session_to, err) < 0 ? -1 : check(&r, err);
}

int handle_vm_appliance_get_SRs_required_for_recovery(
    struct call *call, const struct vm_appliance_get_SRs_required_for_recovery_args *args,
    const struct ref_set **result, struct api_err *err)
{
    AUTO_RECOVERING struct recovering r = {.call = call};
    if (begin_appliance(&r, args->self, args->session_to, err) < 0)
        return -1;
    *result = missing_of(&r);
    return 0;
}
