/* GET /export and /export_metadata: VMs with all that belongs to them as an XVA archive (xva/xva.h). A full
 * export holds one VM and the data of its disks; metadata alone may be of one VM or of all, and tells of
 * their snapshots. An operation is marked on the VM and on its disks meanwhile. */
#include "export.h"

#include "../handlers/storage.h"
#include "../rules/operations.h"
#include "../xva/ova.h"
#include "../xva/xva.h"
#include "transfer.h"
#include <base/log.h>
#include <base/mem.h>
#include <model/errors.h>

struct export
{
    struct transfer *t;
    bool full, snapshots, keep_power_state;
    bool without_vifs, without_vbds, without_vtpms;
    enum xva_compression compression;
    enum xva_checksum checksum;
    struct ref vm; /* null: all */
    struct snapshot *snap;
    struct ova_list list;
    const struct vdi_row **disks; /* whose data goes with it */
    size_t disk_count;
    int64_t total, done; /* bytes of the disks */
    struct xva_writer *writer;
    struct buf *into; /* metadata: the whole archive; NULL: to the client */
};

/* ---- what is exported ---- */

static void add(struct export *e, const struct class_desc *cls, struct ref ref)
{
    const struct row *row = ref_is_null(ref) ? NULL : snapshot_get(e->snap, cls, ref);
    if (row)
        ova_list_add(&e->list, row);
}

static void add_disk(struct export *e, struct ref ref)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(e->snap, CLASS_VDI, ref));
    for (size_t i = 0; vdi && i < e->disk_count; i++)
        if (e->disks[i] == vdi)
            return;
    if (!vdi)
        return;
    e->disks = xreallocarray(e->disks, e->disk_count + 1, sizeof(*e->disks));
    e->disks[e->disk_count++] = vdi;
    e->total += vdi->virtual_size;
}

static void add_vdi(struct export *e, struct ref ref, bool with_data)
{
    const struct vdi_row *vdi = vdi_row(snapshot_get(e->snap, CLASS_VDI, ref));
    if (!vdi)
        return;
    add(e, CLASS_VDI, ref);
    add(e, CLASS_SR, vdi->SR);
    if (with_data && e->full)
        add_disk(e, ref);
}

/* The VM as it is told: at rest, nothing running on it. */
static void add_vm_row(struct export *e, const struct vm_row *vm)
{
    struct row *copy = row_copy(&vm->row);
    struct vm_row *told = vm_row_mut(copy);
    bool suspended =
        vm->power_state == VM_POWER_STATE_SUSPENDED && (e->keep_power_state || vm->is_a_snapshot);
    str_map_assign(&told->current_operations, NULL);
    told->allowed_operations = 0;
    if (!suspended && (e->full || !e->keep_power_state)) {
        told->power_state = VM_POWER_STATE_HALTED;
        told->suspend_VDI = REF_NULL;
    }
    ova_list_add(&e->list, copy);
    row_unref(copy);
}

/* With what it holds, unless that is never copied. */
static void add_vtpm(struct export *e, const struct vtpm_row *tpm)
{
    const struct secret_row *secret =
        tpm ? secret_row(snapshot_get(e->snap, CLASS_secret, tpm->contents)) : NULL;
    if (tpm)
        ova_list_add_contents(&e->list, &tpm->row, secret && !tpm->is_unique ? secret->value : "");
}

static void add_vm(struct export *e, const struct vm_row *vm)
{
    add_vm_row(e, vm);
    for (size_t i = 0; !e->without_vbds && vm->VBDs && i < vm->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(snapshot_get(e->snap, CLASS_VBD, vm->VBDs->items[i]));
        if (!vbd)
            continue;
        add(e, CLASS_VBD, vbd->row.ref);
        add_vdi(e, vbd->VDI, vbd->type == VBD_TYPE_DISK);
    }
    for (size_t i = 0; !e->without_vifs && vm->VIFs && i < vm->VIFs->count; i++) {
        const struct vif_row *vif = vif_row(snapshot_get(e->snap, CLASS_VIF, vm->VIFs->items[i]));
        if (!vif)
            continue;
        add(e, CLASS_VIF, vif->row.ref);
        add(e, CLASS_network, vif->network);
    }
    for (size_t i = 0; !e->without_vtpms && vm->VTPMs && i < vm->VTPMs->count; i++)
        add_vtpm(e, vtpm_row(snapshot_get(e->snap, CLASS_VTPM, vm->VTPMs->items[i])));
    if (vm->power_state == VM_POWER_STATE_SUSPENDED && (e->keep_power_state || vm->is_a_snapshot))
        add_vdi(e, vm->suspend_VDI, true);
    add(e, CLASS_SR, vm->suspend_SR);
    add(e, CLASS_VM_metrics, vm->metrics);
    add(e, CLASS_VM_guest_metrics, vm->guest_metrics);
    add(e, CLASS_host, vm->affinity);
    add(e, CLASS_host, vm->resident_on);
}

static void add_with_snapshots(struct export *e, const struct vm_row *vm)
{
    add_vm(e, vm);
    for (size_t i = 0; e->snapshots && vm->snapshots && i < vm->snapshots->count; i++) {
        const struct vm_row *snapshot = vm_row(snapshot_get(e->snap, CLASS_VM, vm->snapshots->items[i]));
        if (snapshot)
            add_vm(e, snapshot);
    }
}

static bool add_one_of_all(const struct row *row, void *arg)
{
    struct export *e = arg;
    const struct vm_row *vm = vm_row(row);
    const char *dom0 = transfer_query(e->t, "include_dom0");
    bool wanted = !vm->is_default_template && !vm->is_a_snapshot &&
                  (!vm->is_control_domain || !dom0 || !streq(dom0, "false"));
    if (wanted)
        add_with_snapshots(e, vm);
    return true;
}

/* ---- marks ---- */

static enum vm_operations operation_of(const struct export *e)
{
    return e->full ? VM_OPERATIONS_EXPORT : VM_OPERATIONS_METADATA_EXPORT;
}

/* A running VM writes to it. One that is suspended keeps its disks attached, but rests. */
static bool is_written(struct tx *tx, const struct vdi_row *vdi)
{
    for (size_t i = 0; vdi->VBDs && i < vdi->VBDs->count; i++) {
        const struct vbd_row *vbd = vbd_row(tx_get(tx, CLASS_VBD, vdi->VBDs->items[i]));
        const struct vm_row *vm = vbd ? vm_row(tx_get(tx, CLASS_VM, vbd->VM)) : NULL;
        if (vm && vbd->currently_attached && vbd->mode == VBD_MODE_RW &&
            vm->power_state != VM_POWER_STATE_SUSPENDED)
            return true;
    }
    return false;
}

/* As the rules have it, but for disks that only resting VMs hold. */
static int check_disk(struct tx *tx, const struct vdi_row *vdi, struct api_err *err)
{
    const struct str_map *current = vdi->current_operations;
    if (!storage_vdi_attached(tx, vdi))
        return operation_check(tx, CLASS_VDI, vdi->row.ref, VDI_OPERATIONS_COPY, err);
    for (size_t i = 0; current && i < current->count; i++)
        if (!streq(current->pairs[i].value, model_enum_vdi_operations.values[VDI_OPERATIONS_COPY]))
            return err_other_operation_in_progress(err, "VDI", REF_TEXT(vdi->row.ref),
                                                   current->pairs[i].value, current->pairs[i].key);
    return 0;
}

static int check_disks(struct export *e, struct tx *tx, struct api_err *err)
{
    for (size_t i = 0; i < e->disk_count; i++) {
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, e->disks[i]->row.ref));
        if (!vdi)
            return fail_handle(err, CLASS_VDI, e->disks[i]->row.ref);
        if (is_written(tx, vdi))
            return err_vdi_in_use(err, REF_TEXT(vdi->row.ref), "export");
        if (check_disk(tx, vdi, err) < 0)
            return -1;
    }
    return 0;
}

/* 1: the VM is not any more what was looked at; collect anew. */
static int mark(struct export *e, struct api_err *err)
{
    struct tx *tx = store_begin(e->t->server->store);
    const struct row *now = tx_get(tx, CLASS_VM, e->vm);
    if (now && now != snapshot_get(e->snap, CLASS_VM, e->vm)) {
        tx_abort(tx);
        return 1;
    }
    if (operation_check(tx, CLASS_VM, e->vm, operation_of(e), err) < 0 ||
        (e->full && check_disks(e, tx, err) < 0)) {
        tx_abort(tx);
        return -1;
    }
    operation_mark(tx, CLASS_VM, e->vm, e->t->task, operation_of(e));
    for (size_t i = 0; e->full && i < e->disk_count; i++)
        operation_mark(tx, CLASS_VDI, e->disks[i]->row.ref, e->t->task, VDI_OPERATIONS_COPY);
    return server_commit(tx, err);
}

static void unmark(struct tx *tx, void *arg)
{
    struct export *e = arg;
    operation_unmark(tx, CLASS_VM, e->vm, e->t->task);
    for (size_t i = 0; e->full && i < e->disk_count; i++)
        operation_unmark(tx, CLASS_VDI, e->disks[i]->row.ref, e->t->task);
}

/* ---- bytes ---- */

static int write_out(void *arg, const void *data, size_t len)
{
    struct export *e = arg;
    if (e->into) {
        buf_add(e->into, data, len);
        return 0;
    }
    return transfer_write(e->t, data, len);
}

static int write_data(void *arg, const void *data, size_t len)
{
    struct export *e = arg;
    e->done += (int64_t)len;
    transfer_report(e->t, 0.99 * (double)e->done / (double)e->total);
    return xva_write_data(e->writer, data, len);
}

static int export_disk(struct export *e, const struct vdi_row *vdi, struct api_err *err)
{
    AUTO_STORAGE_AGENT struct storage_agent at = STORAGE_AGENT_NONE;
    const struct sr_row *sr = sr_row(snapshot_get(e->snap, CLASS_SR, vdi->SR));
    size_t number;
    if (!sr || !ova_list_find(&e->list, vdi->row.ref, &number))
        return fail_handle(err, CLASS_VDI, vdi->row.ref);
    if (storage_agent_get(e->t->server, e->snap, vdi->SR, REF_NULL, &at, err) < 0)
        return -1;
    AUTO_FREE char *id = xasprintf("Ref:%zu", number);
    struct hv_disk_export_args args;
    struct transfer_op keep;
    struct hv_op op = transfer_op(e->t, &keep);
    struct hv_err cause;
    const char *disk, *iso;
    storage_disk_name(sr, vdi, &disk, &iso);
    hv_disk_export_args_init(&args);
    str_assign(&args.sr, sr->uuid);
    str_assign(&args.disk, disk);
    str_assign(&args.iso, iso);
    args.format = IMAGE_FORMAT_RAW;
    xva_write_disk(e->writer, id, vdi->virtual_size);
    int rc = hv_disk_export(at.agent, &op, &args, NULL, write_data, e, &cause);
    hv_disk_export_args_done(&args);
    if (rc == 0)
        return 0;
    storage_end_operation(at.agent, op.id);
    return transfer_interrupted(e->t, err)
               ? -1
               : storage_fail(err, at.host, vdi->SR, vdi->row.ref, "export", &cause);
}

static const struct host_row *some_host(const struct export *e)
{
    const struct pool_row *pool = pool_row(snapshot_get(e->snap, CLASS_pool, e->t->server->pool_ref));
    return pool ? host_row(snapshot_get(e->snap, CLASS_host, pool->master)) : NULL;
}

static int write_archive(struct export *e, struct api_err *err)
{
    AUTO_BUF struct buf xml = BUF_INIT;
    const struct host_row *host = some_host(e);
    ova_write(&e->list, host ? host->software_version : NULL, host ? host->hostname : "", &xml);
    e->writer = xva_writer_new(e->compression, e->checksum, write_out, e);
    int rc = xva_write_ova(e->writer, xml.data, xml.len);
    buf_done(&xml);
    for (size_t i = 0; rc == 0 && e->full && i < e->disk_count; i++)
        if (export_disk(e, e->disks[i], err) < 0)
            return -1;
    if (rc == 0)
        rc = xva_write_end(e->writer);
    if (rc < 0 && !transfer_interrupted(e->t, err))
        fail_internal(err, "The archive could not be written.");
    return rc;
}

/* With the marks on. */
static int move(struct export *e, struct api_err *err)
{
    if (e->full) {
        transfer_answer(e->t, "application/octet-stream", "export.xva", -1);
        return write_archive(e, err);
    }
    AUTO_BUF struct buf whole = BUF_INIT;
    e->into = &whole;
    if (write_archive(e, err) < 0)
        return -1;
    transfer_answer(e->t, "application/octet-stream", "export.xva", (int64_t)whole.len);
    e->into = NULL;
    if (transfer_write(e->t, whole.data, whole.len) == 0)
        return 0;
    if (!transfer_interrupted(e->t, err))
        fail_internal(err, "The archive could not be sent.");
    return -1;
}

/* ---- the request ---- */

static int read_compression(struct export *e, struct api_err *err)
{
    const char *word = transfer_query(e->t, "use_compression"), *sum = transfer_query(e->t, "checksum");
    if (word && (streq(word, "true") || streq(word, "gzip")))
        e->compression = XVA_GZIP;
    else if (word && streq(word, "zstd"))
        e->compression = XVA_ZSTD;
    else if (word && !streq(word, "false") && *word)
        return err_value_not_supported(err, "use_compression", word, "it is true, gzip, zstd or false");
    if (sum && streq(sum, "sha1"))
        e->checksum = XVA_SHA1;
    else if (sum && !streq(sum, "xxhash"))
        return err_value_not_supported(err, "checksum", sum, "it is xxhash or sha1");
    return 0;
}

static bool names(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; at && (at = strstr(at, word)); at += len)
        if ((at == list || at[-1] == ',') && (at[len] == ',' || !at[len]))
            return true;
    return false;
}

static int find_vm(struct export *e, struct api_err *err)
{
    const char *text = transfer_query(e->t, "ref");
    if (!text)
        text = transfer_query(e->t, "uuid");
    struct ref ref;
    const struct row *row = NULL;
    e->t->object = xstrdup(text ? text : "");
    if (text && ref_parse(text, &ref))
        row = snapshot_get(e->snap, CLASS_VM, ref);
    else if (text)
        row = snapshot_by_uuid(e->snap, CLASS_VM, text);
    if (!row)
        return err_handle_invalid(err, "VM", text ? text : "");
    e->vm = row->ref;
    return 0;
}

static int run_all(struct export *e, struct api_err *err)
{
    e->t->object = xstrdup("all");
    snapshot_each(e->snap, CLASS_VM, add_one_of_all, e);
    return move(e, err);
}

static int run_one(struct export *e, struct api_err *err)
{
    if (find_vm(e, err) < 0)
        return -1;
    int rc;
    do {
        ova_list_done(&e->list);
        e->disk_count = 0;
        e->total = 0;
        snapshot_unref(e->snap);
        e->snap = store_snapshot(e->t->server->store);
        const struct row *vm = snapshot_get(e->snap, CLASS_VM, e->vm);
        if (!vm)
            return fail_handle(err, CLASS_VM, e->vm);
        add_with_snapshots(e, vm_row(vm));
        rc = mark(e, err);
    } while (rc == 1);
    if (rc < 0)
        return -1;
    rc = move(e, err);
    server_insist(e->t->server, unmark, e);
    return rc;
}

static int run(struct transfer *t, bool full, struct api_err *err)
{
    struct export e = {.t = t, .full = full, .list = OVA_LIST_INIT};
    const char *snapshots = transfer_query(t, "export_snapshots");
    const char *excluded = transfer_query(t, "excluded_device_types");
    e.keep_power_state = transfer_flag(t, "preserve_power_state");
    /* The data of snapshots is left out unless asked for, so they are, too: one without its disks would be a
     * trap. */
    e.snapshots = full ? snapshots && streq(snapshots, "true") : !snapshots || !streq(snapshots, "false");
    e.without_vifs = names(excluded, "vif");
    e.without_vbds = names(excluded, "vbd");
    e.without_vtpms = names(excluded, "vtpm");
    if (full && read_compression(&e, err) < 0)
        return -1;
    e.snap = store_snapshot(t->server->store);
    int rc = !full && transfer_flag(t, "all") ? run_all(&e, err) : run_one(&e, err);
    xva_writer_free(e.writer);
    ova_list_done(&e.list);
    free(e.disks);
    snapshot_unref(e.snap);
    return rc;
}

static int run_full(struct transfer *t, struct api_err *err)
{
    return run(t, true, err);
}

static int run_metadata(struct transfer *t, struct api_err *err)
{
    return run(t, false, err);
}

void door_export(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {
        .label = "VM.export", .action = ACTION_get_export, .word = "export", .run = run_full};
    transfer_begin(server, req, &kind);
}

void door_export_metadata(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {.label = "VM.export_metadata",
                                              .action = ACTION_get_export_metadata,
                                              .word = "metadata export",
                                              .run = run_metadata};
    transfer_begin(server, req, &kind);
}

static int write_rows(struct export *e, const struct ref *vms, size_t count, struct api_err *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct row *vm = snapshot_get(e->snap, CLASS_VM, vms[i]);
        if (vm)
            add_with_snapshots(e, vm_row(vm));
    }
    int rc = write_archive(e, err);
    xva_writer_free(e->writer);
    ova_list_done(&e->list);
    return rc;
}

int export_metadata(struct server *server, const struct snapshot *snap, const struct ref *vms, size_t count,
                    struct buf *out, struct api_err *err)
{
    static const _Atomic bool never;
    struct transfer t = {.server = server, .cancel = &never};
    struct export e = {.t = &t, .snapshots = true, .list = OVA_LIST_INIT, .into = out};
    e.snap = (struct snapshot *)snap;
    return write_rows(&e, vms, count, err);
}

int export_metadata_bare(struct server *server, const struct snapshot *snap, const struct vm_row *vm,
                         struct buf *out, struct api_err *err)
{
    static const _Atomic bool never;
    struct transfer t = {.server = server, .cancel = &never};
    struct export e = {.t = &t, .without_vifs = true, .list = OVA_LIST_INIT, .into = out};
    e.snap = (struct snapshot *)snap;
    return write_rows(&e, &vm->row.ref, 1, err);
}
