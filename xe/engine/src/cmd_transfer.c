/* What moves between a file and the server: the road that all transfers take, and VMs in and out. A transfer
 * has a task of its own on the server; Ctrl-C stops the bytes, cancels the task and waits for its end. */
#include "run.h"
#include "xe_handlers.h"
#include <strings.h>

static int draw(void *arg, uint64_t done, uint64_t total)
{
    xe_meter_bytes(arg, done, total);
    return 0;
}

/* After a transfer ended badly: the task's own reason is better than "connection closed". */
static void task_reason(struct xe_run_state *x, const char *task)
{
    struct xe_err first = x->err;
    AUTO_JSON json_t *record = NULL;
    x->err = (struct xe_err){0};
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (xe_call(x, "task.get_record", &record, "[s]", task) == 0) {
        const json_t *info = json_object_get(record, "error_info");
        AUTO_JSON json_t *params = json_array();
        for (size_t i = 1; i < json_array_size(info); i++)
            json_array_append(params, json_array_get(info, i));
        if (json_array_size(info) && (first.kind == XE_ERR_TRANSPORT || first.kind == XE_ERR_PLAIN))
            xe_err_set_api(&first, json_string_value(json_array_get(info, 0)), params);
    }
    xe_err_done(&x->err);
    x->err = first;
}

/* Cancels the task and waits until the server has cleaned up. */
static void cancel(struct xe_run_state *x, const char *label, const char *task)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    x->interrupted = true;
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (xe_call(x, "task.cancel", NULL, "[s]", task) == 0 && xe_task_wait(x, task, label, NULL) < 0 &&
        x->err.kind == XE_ERR_CANCELLED)
        xe_err_set(&first, XE_ERR_CANCELLED, "Cancelled.");
    xe_err_done(&x->err);
    x->err = first;
}

static void destroy_task(struct xe_run_state *x, const char *task)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (xe_call(x, "task.destroy", NULL, "[s]", task) < 0)
        xe_err_done(&x->err);
    x->err = first;
}

int xe_transfer(struct xe_run_state *x, xe_transfer_fn *move, const char *label, const char *route,
                json_t **result)
{
    return xe_transfer_file(x, move, label, xe_arg(x, "filename"), route, result);
}

int xe_transfer_file(struct xe_run_state *x, xe_transfer_fn *move, const char *label, const char *filename,
                     const char *route, json_t **result)
{
    AUTO_FREE char *task = NULL;
    if (xe_call_string(x, "task.create", &task, "[ss]", label, filename) < 0)
        return -1;
    AUTO_FREE char *path = xasprintf("%s%ctask_id=%s", route, strchr(route, '?') ? '&' : '?', task);
    struct xe_meter m = xe_meter_init(x, label, false);
    int rc = move(x->api->ctx, filename, path, draw, &m, &x->err);
    xe_meter_end(&m);
    if (rc == 0)
        return xe_task_wait(x, task, label, result);
    if (x->err.kind == XE_ERR_CANCELLED) {
        cancel(x, label, task);
    } else {
        task_reason(x, task);
        destroy_task(x, task);
    }
    return -1;
}

static int no_parts(struct xe_run_state *x)
{
    return xe_fail(x, XE_ERR_CLI, "only the xe program on your machine can resume a transfer");
}

int xe_upload_parts_of(struct xe_run_state *x, const char *filename, const char *uuid, const char *format,
                       bool anew)
{
    if (!x->api->upload_parts)
        return no_parts(x);
    AUTO_FREE char *path = xasprintf("/api/v1/vdis/%s/uploads", uuid);
    struct xe_meter m = xe_meter_init(x, "Importing", false);
    int rc = x->api->upload_parts(x->api->ctx, filename, path, format, anew, draw, &m, &x->err);
    xe_meter_end(&m);
    return rc;
}

int xe_download_parts_of(struct xe_run_state *x, const char *filename, const char *uuid, bool anew)
{
    if (!x->api->download_parts)
        return no_parts(x);
    AUTO_FREE char *path = xasprintf("/api/v1/vdis/%s/content", uuid);
    struct xe_meter m = xe_meter_init(x, "Exporting", false);
    int rc = x->api->download_parts(x->api->ctx, filename, path, anew, draw, &m, &x->err);
    xe_meter_end(&m);
    return rc;
}

/* ---- commands that are one file ---- */

static int move_for(struct xe_run_state *x, const struct xe_command *cmd, const char *host)
{
    AUTO_FREE char *route = host ? xasprintf("%s?host=%s", cmd->move, host) : xstrdup(cmd->move);
    const char *name = xe_arg(x, cmd->file);
    return xe_transfer_file(x, cmd->flags & XE_UPLOAD ? x->api->upload : x->api->download, cmd->name,
                            name ? name : "-", route, NULL);
}

int xe_run_move(struct xe_run_state *x, const struct xe_command *cmd)
{
    return cmd->selector ? xe_for_selected(x, cmd, move_for) : move_for(x, cmd, NULL);
}

/* ---- VMs out ---- */

/* Appends "&name=true" for a switch that is on. */
static int add_switch(struct xe_run_state *x, const char *param, const char *name, bool initial,
                      struct buf *route)
{
    bool on = initial;
    if (xe_arg_bool(x, param, &on) < 0)
        return -1;
    buf_printf(route, "&%s=%s", name, on ? "true" : "false");
    return 0;
}

static int add_compression(struct xe_run_state *x, struct buf *route)
{
    const char *word = xe_arg(x, "compress");
    bool on = false;
    if (!word)
        return 0;
    if (!streq(word, "gzip") && !streq(word, "zstd")) {
        if (!xe_parse_bool(word, &on))
            return xe_fail(x, XE_ERR_CLI, "compress must be true, false, gzip or zstd, not '%s'", word);
        word = on ? "true" : "false";
    }
    buf_printf(route, "&use_compression=%s", word);
    return 0;
}

static int export_one(struct xe_run_state *x, const char *ref)
{
    AUTO_BUF struct buf route = BUF_INIT;
    const char *excluded = xe_arg(x, "excluded-device-types");
    bool metadata = false;
    if (xe_arg_bool(x, "metadata", &metadata) < 0)
        return -1;
    buf_printf(&route, "%s?ref=%s", metadata ? "/export_metadata" : "/export", ref);
    if (add_switch(x, "preserve-power-state", "preserve_power_state", false, &route) < 0 ||
        (metadata && add_switch(x, "include-snapshots", "export_snapshots", true, &route) < 0) ||
        (!metadata && xe_arg(x, "include-snapshots") &&
         add_switch(x, "include-snapshots", "export_snapshots", false, &route) < 0) ||
        (!metadata && add_compression(x, &route) < 0))
        return -1;
    if (excluded && strspn(excluded, "abcdefghijklmnopqrstuvwxyz,") != strlen(excluded))
        return xe_fail(x, XE_ERR_CLI, "excluded-device-types is a list like vif,vbd");
    if (excluded)
        buf_printf(&route, "&excluded_device_types=%s", excluded);
    if (xe_transfer(x, x->api->download, "Exporting", route.data, NULL) < 0)
        return -1;
    if (!streq(xe_arg(x, "filename"), "-"))
        xe_out_message(x, "Export succeeded");
    return 0;
}

int xe_cmd_vm_export(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *filename;
    AUTO_REFS struct xe_refs vms = {0};
    if (xe_arg_required(x, "filename", &filename) < 0 || xe_select(x, cmd, &vms) < 0)
        return -1;
    if (vms.count != 1)
        return xe_fail(x, XE_ERR_CLI, "a file holds one VM: select one");
    const char *format = xe_arg(x, "format");
    if (format && !streq(format, "xva") && !streq(format, "ova"))
        return xe_fail(x, XE_ERR_CLI, "format must be xva or ova, not '%s'", format);
    return format && streq(format, "ova") ? xe_export_ova(x, vms.items[0]) : export_one(x, vms.items[0]);
}

static int export_by_uuid(struct xe_run_state *x, const char *param)
{
    const char *filename, *uuid;
    AUTO_FREE char *ref = NULL;
    if (xe_arg_required(x, "filename", &filename) < 0 || xe_arg_required(x, param, &uuid) < 0 ||
        xe_ref_by_uuid(x, "VM", uuid, &ref) < 0)
        return -1;
    return export_one(x, ref);
}

int xe_cmd_template_export(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return export_by_uuid(x, "template-uuid");
}

int xe_cmd_snapshot_export(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return export_by_uuid(x, "snapshot-uuid");
}

/* ---- VMs in ---- */

static int add_disks(struct xe_run_state *x, struct buf *route)
{
    AUTO_JSON json_t *map = xe_arg_map(x, "vdi");
    const char *from;
    json_t *to;
    json_object_foreach(map, from, to)
    {
        AUTO_FREE char *ref = NULL;
        if (strspn(from, "0123456789abcdefABCDEFRo:-") != strlen(from))
            return xe_fail(x, XE_ERR_CLI, "vdi:%s: the uuid of a disk belongs there", from);
        if (xe_ref_by_uuid(x, "VDI", json_string_value(to), &ref) < 0)
            return -1;
        buf_printf(route, "&vdi:%s=%s", from, ref);
    }
    return 0;
}

static int import_route(struct xe_run_state *x, struct buf *route)
{
    static const char *const unbuilt[] = {"type", "remote-config", "host-username", "host-password"};
    const char *sr_uuid = xe_arg(x, "sr-uuid");
    AUTO_FREE char *sr = NULL;
    bool metadata = false;
    for (size_t i = 0; i < ARRAY_LEN(unbuilt); i++)
        if (xe_arg(x, unbuilt[i]))
            return xe_fail(x, XE_ERR_CLI, "vm-import with %s is not built", unbuilt[i]);
    if (xe_arg_bool(x, "metadata", &metadata) < 0)
        return -1;
    buf_add_str(route, metadata ? "/import_metadata?" : "/import?");
    if (add_switch(x, "preserve", "restore", false, route) < 0 ||
        add_switch(x, "force", "force", false, route) < 0 ||
        (metadata && add_switch(x, "dry-run", "dry_run", false, route) < 0) || add_disks(x, route) < 0)
        return -1;
    if (sr_uuid && xe_ref_by_uuid(x, "SR", sr_uuid, &sr) < 0)
        return -1;
    if (sr)
        buf_printf(route, "&sr_id=%s", sr);
    return 0;
}

/* The server fetches the file itself. */
static int import_url(struct xe_run_state *x, const char *url, json_t **vms)
{
    const char *sr_uuid = xe_arg(x, "sr-uuid"), *pool;
    const json_t *record;
    bool preserve = false, force = false;
    AUTO_FREE char *sr = NULL;
    if (xe_arg(x, "filename") || xe_arg(x, "metadata"))
        return xe_fail(x, XE_ERR_CLI, "vm-import takes filename or url, and with url no metadata alone");
    if (xe_arg_bool(x, "preserve", &preserve) < 0 || xe_arg_bool(x, "force", &force) < 0 ||
        (sr_uuid && xe_ref_by_uuid(x, "SR", sr_uuid, &sr) < 0) || xe_pool(x, &pool, &record) < 0)
        return -1;
    return xe_call_task(x, "VM.import",
                        json_pack("[ssbb]", url, sr ? sr : xe_str(record, "default_SR"), preserve, force),
                        vms);
}

static int import_file(struct xe_run_state *x, json_t **vms)
{
    const char *filename;
    AUTO_BUF struct buf route = BUF_INIT;
    if (import_route(x, &route) < 0 || xe_arg_required(x, "filename", &filename) < 0)
        return -1;
    return xe_transfer(x, x->api->upload, "Importing", route.data, vms);
}

/* Other toolstacks' archives are told by what is in them. */
static int find_ova(struct xe_run_state *x, char **description, size_t *len)
{
    const char *filename = xe_arg(x, "filename");
    bool metadata = false;
    *description = NULL;
    if (!filename || !x->api->open_ova || xe_arg_bool(x, "metadata", &metadata) < 0 || metadata)
        return 0;
    return x->api->open_ova(x->api->ctx, filename, description, len, &x->err);
}

static int import_ova(struct xe_run_state *x, const char *filename)
{
    AUTO_FREE char *description = NULL;
    size_t len;
    if (x->api->open_ova(x->api->ctx, filename, &description, &len, &x->err) < 0)
        return -1;
    if (!description)
        return xe_fail(x, XE_ERR_CLI, "%s is no OVA archive", xe_arg(x, "url"));
    return xe_import_ova(x, filename, description, len);
}

/* The server takes archives of its own kind alone: this one is fetched here. */
static int import_ova_at(struct xe_run_state *x, const char *url)
{
    AUTO_FREE char *file = NULL;
    struct xe_meter m = xe_meter_init(x, "Fetching", false);
    int rc = x->api->fetch(x->api->ctx, url, draw, &m, &file, &x->err);
    xe_meter_end(&m);
    if (rc < 0)
        return -1;
    rc = import_ova(x, file);
    x->api->drop_disk(x->api->ctx, file);
    return rc;
}

static bool is_ova_address(const char *url)
{
    size_t len = strcspn(url, "?#");
    return len > 4 && strncasecmp(url + len - 4, ".ova", 4) == 0;
}

int xe_cmd_vm_import(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *url = xe_arg(x, "url");
    AUTO_JSON json_t *vms = NULL;
    AUTO_FREE char *ova = NULL;
    size_t len;
    (void)cmd;
    if (!url && find_ova(x, &ova, &len) < 0)
        return -1;
    if (ova)
        return xe_import_ova(x, xe_arg(x, "filename"), ova, len);
    if (url && x->api->fetch && is_ova_address(url))
        return import_ova_at(x, url);
    if ((url ? import_url(x, url, &vms) : import_file(x, &vms)) < 0)
        return -1;
    xe_record_forget(x, "VM");
    for (size_t i = 0; i < json_array_size(vms); i++)
        if (xe_print_uuid(x, "VM", json_string_value(json_array_get(vms, i))) < 0)
            return -1;
    return 0;
}
