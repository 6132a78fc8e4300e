/* Updates, drivers and repositories from local files. */
#include "run.h"
#include "xe_handlers.h"

/* The disk that holds an update is called by its name. */
static int name_disk(struct xe_run_state *x, const char *update)
{
    const json_t *record;
    if (xe_record(x, "pool_update", update, &record) < 0)
        return -1;
    AUTO_FREE char *name = xasprintf("Update: %s", xe_str(record, "name_label"));
    return xe_call(x, "VDI.set_name_label", NULL, "[ss]", xe_str(record, "vdi"), name);
}

int xe_cmd_patch_upload(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name;
    const json_t *record;
    AUTO_FREE char *sr = NULL;
    AUTO_JSON json_t *patch = NULL;
    (void)cmd;
    if (xe_arg_required(x, "file-name", &name) < 0 || xe_making_sr(x, xe_arg(x, "sr-uuid"), &sr) < 0)
        return -1;
    AUTO_FREE char *route = xasprintf("/pool_patch_upload?sr_id=%s", sr);
    if (xe_transfer_file(x, x->api->upload, "Uploading a patch", name, route, &patch) < 0)
        return -1;
    const char *ref = json_string_value(patch);
    if (!ref)
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered without a reference.");
    if (xe_record(x, "pool_patch", ref, &record) < 0 || name_disk(x, xe_str(record, "pool_update")) < 0)
        return -1;
    return xe_print_uuid(x, "pool_patch", ref);
}

int xe_cmd_update_upload(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name;
    AUTO_FREE char *sr = NULL, *update = NULL;
    AUTO_JSON json_t *disk = NULL;
    (void)cmd;
    if (xe_arg_required(x, "file-name", &name) < 0 || xe_making_sr(x, xe_arg(x, "sr-uuid"), &sr) < 0)
        return -1;
    AUTO_FREE char *route = xasprintf("/import_raw_vdi?sr_id=%s", sr);
    if (xe_transfer_file(x, x->api->upload, "Uploading an update", name, route, &disk) < 0)
        return -1;
    const char *vdi = json_string_value(disk);
    if (!vdi)
        return xe_fail(x, XE_ERR_TRANSPORT, "The server answered without a disk.");
    if (xe_call_string(x, "pool_update.introduce", &update, "[s]", vdi) < 0) {
        xe_making_undo(x, NULL, &vdi, 1);
        return -1;
    }
    return name_disk(x, update) < 0 ? -1 : xe_print_uuid(x, "pool_update", update);
}

int xe_cmd_repository_introduce_remote_pool(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *name, *url, *file, *description = xe_arg(x, "name-description");
    size_t len;
    AUTO_FREE char *certificate = NULL, *ref = NULL;
    (void)cmd;
    if (xe_arg_required(x, "name-label", &name) < 0 || xe_arg_required(x, "binary-url", &url) < 0 ||
        xe_arg_required(x, "certificate-file", &file) < 0 ||
        x->api->read_file(x->api->ctx, file, &certificate, &len, &x->err) < 0 ||
        xe_call_string(x, "Repository.introduce_remote_pool", &ref, "[ssss]", name,
                       description ? description : "", url, certificate) < 0)
        return -1;
    return xe_print_uuid(x, "Repository", ref);
}

int xe_cmd_hostdriver_select(struct xe_run_state *x, const struct xe_command *cmd)
{
    const char *uuid, *name;
    const json_t *driver, *variant, *item;
    size_t i;
    AUTO_FREE char *ref = NULL;
    (void)cmd;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_arg_required(x, "variant-name", &name) < 0 ||
        xe_ref_by_uuid(x, "Host_driver", uuid, &ref) < 0 || xe_record(x, "Host_driver", ref, &driver) < 0)
        return -1;
    json_array_foreach(json_object_get(driver, "variants"), i, item)
    {
        if (xe_record(x, "Driver_variant", json_string_value(item), &variant) < 0)
            return -1;
        if (streq(xe_str(variant, "name"), name))
            return xe_call(x, "Host_driver.select", NULL, "[sO]", ref, item);
    }
    return xe_fail(x, XE_ERR_CLI, "%s does not identify a variant of this driver", name);
}
