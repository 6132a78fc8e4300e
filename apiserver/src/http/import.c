/* PUT /import and /import_metadata: VMs from an XVA archive (xva/xva.h). First ova.xml is read and everything
 * that it names is found or refused; then the VMs' rows are made, with the operation marked, so that clients
 * see what is coming; then the disks are filled; one transaction records disks, drives and cards. Until then
 * VM.importing and SR.unfinished_disks tell what is to be removed if the server dies. import_plan.c finds,
 * import_rows.c records. */
#include "import.h"

#include "../rules/operations.h"
#include <base/log.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* ---- bytes ---- */

/* An archive of another product: what converts it is xe, which is where the file is. */
static bool is_ovf(const char *member)
{
    size_t len = strlen(member);
    return len > 4 && strcasecmp(member + len - 4, ".ovf") == 0;
}

static int fail_archive(struct import *im, struct api_err *err)
{
    const struct xva_error *cause = &im->xva_error;
    if (transfer_interrupted(im->t, err))
        return -1;
    switch (cause->kind) {
    case XVA_SHORT:
    case XVA_SOURCE:
        return err_import_error_premature_eof(err);
    case XVA_UNEXPECTED:
        if (is_ovf(cause->found) && streq(cause->expected, "ova.xml"))
            return err_import_error(err,
                                    "This is an OVA, which the server does not read: use 'xe vm-import' of "
                                    "Corral's own xe, with filename= or url=, which converts it.");
        return err_import_error_unexpected_file(err, cause->expected, cause->found);
    case XVA_CHECKSUM:
        return err_import_error_some_checksums_failed(err);
    case XVA_BAD:
    case XVA_OK:
        break;
    }
    return err_import_error(err, cause->text);
}

static ssize_t read_disk(void *arg, void *data, size_t len)
{
    struct import *im = arg;
    ssize_t n = xva_read_data(im->reader, data, len, &im->xva_error);
    if (n > 0)
        im->done += n;
    if (im->t->open_ended && im->total > 0)
        transfer_report(im->t, 0.99 * (double)im->done / (double)im->total);
    return n;
}

static int create_disk(struct import *im, const struct import_disk *disk, struct api_err *err)
{
    struct hv_disk_create_args args;
    struct hv_disk_create_result made;
    struct transfer_op keep;
    struct hv_op op = transfer_op(im->t, &keep);
    struct hv_err cause;
    op.timeout_ms = 0;
    hv_disk_create_args_init(&args);
    str_assign(&args.sr, im->sr->uuid);
    str_assign(&args.disk, disk->uuid);
    args.format = IMAGE_FORMAT_QCOW2;
    args.virtual_size_bytes = disk->size;
    int rc = hv_disk_create(im->at.agent, &op, &args, &made, &cause);
    hv_disk_create_args_done(&args);
    if (rc < 0)
        return transfer_interrupted(im->t, err)
                   ? -1
                   : storage_fail(err, im->at.host, im->sr->row.ref, REF_NULL, "", &cause);
    hv_disk_create_result_done(&made);
    return 0;
}

static int fill_disk(struct import *im, struct import_disk *disk, struct api_err *err)
{
    struct hv_disk_import_args args;
    struct hv_disk_import_result result;
    struct transfer_op keep;
    struct hv_op op = transfer_op(im->t, &keep);
    struct hv_err cause;
    hv_disk_import_args_init(&args);
    str_assign(&args.sr, im->sr->uuid);
    str_assign(&args.disk, disk->uuid);
    args.format = IMAGE_FORMAT_RAW;
    args.size_bytes = -1;
    xva_expect_size(im->reader, disk->size);
    int rc = hv_disk_import(im->at.agent, &op, &args, read_disk, im, &result, &cause);
    hv_disk_import_args_done(&args);
    if (rc == 0) {
        disk->info = result.info;
        disk->filled = true;
        return 0;
    }
    storage_end_operation(im->at.agent, op.id);
    if (im->xva_error.kind != XVA_OK || transfer_interrupted(im->t, err))
        return fail_archive(im, err);
    return storage_fail(err, im->at.host, im->sr->row.ref, REF_NULL, "import", &cause);
}

static int take_disk(struct import *im, const char *id, struct api_err *err)
{
    struct import_disk *disk = import_disk_find(im, id);
    AUTO_FREE char *found = xasprintf("%s/00000000", id);
    if (!disk || disk->filled)
        return err_import_error_unexpected_file(err, "the data of a disk of the VM", found);
    uuid_format(ref_new(), disk->uuid);
    if (storage_announce_disk(im->t->server, im->sr->row.ref, disk->uuid, err) < 0)
        return -1;
    disk->announced = true;
    return create_disk(im, disk, err) < 0 || fill_disk(im, disk, err) < 0 ? -1 : 0;
}

static int take_disks(struct import *im, struct api_err *err)
{
    char id[XVA_NAME_SIZE];
    int rc;
    while ((rc = xva_read_disk(im->reader, id, &im->xva_error)) > 0)
        if (take_disk(im, id, err) < 0)
            return -1;
    if (rc < 0)
        return fail_archive(im, err);
    for (size_t i = 0; i < im->disk_count; i++)
        if (!im->disks[i].filled)
            return err_import_error_attached_disks_not_found(err);
    return 0;
}

static void undo_disks(struct import *im)
{
    for (size_t i = 0; i < im->disk_count; i++)
        if (im->disks[i].announced)
            storage_undo_disk(&im->at, im->sr, im->disks[i].uuid, DISK_MADE);
}

/* ---- the whole ---- */

static ssize_t read_body(void *arg, void *to, size_t max)
{
    return transfer_read(((struct import *)arg)->t, to, max);
}

static int read_ova(struct import *im, struct api_err *err)
{
    AUTO_BUF struct buf xml = BUF_INIT;
    if (xva_read_ova(im->reader, &xml, &im->xva_error) < 0)
        return fail_archive(im, err);
    return ova_parse(xml.data ? xml.data : "", xml.len, &im->ova, err);
}

static int import_all(struct import *im, struct api_err *err)
{
    if (import_begin_rows(im, err) < 0)
        return -1;
    int rc = im->metadata ? 0 : take_disks(im, err);
    if (rc == 0)
        rc = import_finish_rows(im, err);
    if (rc < 0) {
        undo_disks(im);
        import_undo_rows(im);
    }
    return rc;
}

/* What task.result names: the VMs, and snapshots only when there is nothing else. */
static const struct ref_set *result_of(const struct import *im)
{
    bool all_snapshots = true;
    size_t count = 0;
    struct ref *refs = xcalloc(im->vm_count + 1, sizeof(*refs));
    for (size_t i = 0; i < im->vm_count; i++)
        all_snapshots = all_snapshots && im->vms[i].is_snapshot;
    for (size_t i = 0; i < im->vm_count; i++)
        if (!im->vms[i].is_snapshot || all_snapshots)
            refs[count++] = im->vms[i].ref;
    const struct ref_set *set = ref_set_new(refs, count);
    free(refs);
    return set;
}

static void write_result(struct import *im)
{
    struct buf xml = BUF_INIT;
    AUTO_REF_SET const struct ref_set *vms = result_of(im);
    buf_add_str(&xml, "<value><array><data>");
    for (size_t i = 0; vms && i < vms->count; i++)
        buf_printf(&xml, "<value>%s</value>", REF_TEXT(vms->items[i]));
    buf_add_str(&xml, "</data></array></value>");
    im->t->result = buf_take(&xml);
}

static int read_request(struct import *im, struct api_err *err)
{
    im->restore = transfer_flag(im->t, "restore");
    im->force = transfer_flag(im->t, "force");
    im->dry_run = im->metadata && transfer_flag(im->t, "dry_run");
    im->t->object = xstrdup("");
    im->sr_text = transfer_query(im->t, "sr_id");
    if (!im->sr_text)
        im->sr_text = transfer_query(im->t, "sr_uuid");
    int rc = im->metadata ? 0 : import_find_sr(im, err);
    im->sr_text = NULL; /* valid until the answer begins */
    return rc;
}

static int import(struct import *im, struct api_err *err)
{
    im->reader = xva_reader_new(read_body, im, im->force);
    if (read_ova(im, err) < 0 || import_plan(im, err) < 0)
        return -1;
    return im->dry_run ? 0 : import_all(im, err);
}

static int import_request(struct import *im, struct api_err *err)
{
    if (read_request(im, err) < 0 || transfer_accept(im->t, err) < 0 || import(im, err) < 0)
        return -1;
    transfer_drain(im->t);
    write_result(im);
    return 0;
}

static void import_done(struct import *im)
{
    xva_reader_free(im->reader);
    for (size_t i = 0; i < im->disk_count; i++)
        if (im->disks[i].filled)
            disk_info_done(&im->disks[i].info);
    for (size_t i = 0; i < im->vm_count; i++)
        row_unref(im->vms[i].record);
    json_decref(im->known);
    free(im->disks);
    free(im->vms);
    free(im->links);
    free(im->networks);
    storage_agent_put(&im->at);
    ova_done(&im->ova);
    snapshot_unref(im->snap);
}

static int run(struct transfer *t, bool metadata, struct api_err *err)
{
    struct import im = {.t = t, .metadata = metadata, .snap = store_snapshot(t->server->store)};
    int rc = import_request(&im, err);
    import_done(&im);
    return rc;
}

static int run_full(struct transfer *t, struct api_err *err)
{
    return run(t, false, err);
}

static int run_metadata(struct transfer *t, struct api_err *err)
{
    return run(t, true, err);
}

void door_import(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {.label = "VM.import",
                                              .action = ACTION_put_import,
                                              .word = "VM import",
                                              .uploads = true,
                                              .chunked_status = 403,
                                              .run = run_full};
    transfer_begin(server, req, &kind);
}

void door_import_metadata(struct server *server, struct http_request *req)
{
    static const struct transfer_kind kind = {.label = "VM.metadata_import",
                                              .action = ACTION_put_import_metadata,
                                              .word = "metadata import",
                                              .uploads = true,
                                              .chunked_status = 403,
                                              .run = run_metadata};
    transfer_begin(server, req, &kind);
}

int import_pulled(struct transfer *t, const struct import_wish *wish, const struct ref_set **vms,
                  struct api_err *err)
{
    struct import im = {.t = t,
                        .metadata = wish->metadata,
                        .restore = wish->restore,
                        .force = wish->force,
                        .snap = store_snapshot(t->server->store)};
    im.sr_text = REF_TEXT(wish->sr);
    t->object = xstrdup("");
    int rc = wish->metadata ? 0 : import_find_sr(&im, err);
    if (rc == 0)
        rc = import(&im, err);
    if (rc == 0)
        *vms = result_of(&im);
    import_done(&im);
    return rc;
}
