/* Blobs: bytes that programs keep with an object. */
#include "run.h"
#include "xe_handlers.h"

int xe_cmd_blob_create(struct xe_run_state *x, const struct xe_command *cmd)
{
    static const struct {
        const char *param, *cls;
    } owners[] = {{"vm-uuid", "VM"},
                  {"pool-uuid", "pool"},
                  {"sr-uuid", "SR"},
                  {"host-uuid", "host"},
                  {"network-uuid", "network"}};
    const char *name, *type = xe_arg(x, "mime-type");
    bool public = false;
    (void)cmd;
    if (xe_arg_required(x, "name", &name) < 0 || xe_arg_bool(x, "public", &public) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(owners); i++) {
        const char *uuid = xe_arg(x, owners[i].param);
        AUTO_FREE char *owner = NULL, *blob = NULL;
        AUTO_FREE char *method = xasprintf("%s.create_new_blob", owners[i].cls);
        if (!uuid)
            continue;
        if (xe_ref_by_uuid(x, owners[i].cls, uuid, &owner) < 0 ||
            xe_call_string(x, method, &blob, "[sssb]", owner, name, type ? type : "", (int)public) < 0)
            return -1;
        return xe_print_uuid(x, "blob", blob);
    }
    return xe_fail(x, XE_ERR_CLI, "Need one of: vm-uuid, host-uuid, network-uuid, sr-uuid or pool-uuid");
}

static int move(struct xe_run_state *x, xe_transfer_fn *how, const char *label, const char *done)
{
    const char *uuid, *filename;
    AUTO_FREE char *blob = NULL;
    if (xe_arg_required(x, "uuid", &uuid) < 0 || xe_arg_required(x, "filename", &filename) < 0 ||
        xe_ref_by_uuid(x, "blob", uuid, &blob) < 0)
        return -1;
    AUTO_FREE char *route = xasprintf("/blob?ref=%s", blob);
    if (xe_transfer(x, how, label, route, NULL) < 0)
        return -1;
    if (!streq(filename, "-"))
        xe_out_item(x, done);
    return 0;
}

int xe_cmd_blob_get(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return move(x, x->api->download, "Obtaining a blob", "Blob get succeeded");
}

int xe_cmd_blob_put(struct xe_run_state *x, const struct xe_command *cmd)
{
    (void)cmd;
    return move(x, x->api->upload, "Storing a blob", "Blob put succeeded");
}
