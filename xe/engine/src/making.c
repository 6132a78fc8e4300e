/* Steps that commands share which make a whole VM: where its disk goes, its disks and network cards, and
 * taking everything back. */
#include "run.h"

int xe_making_sr(struct xe_run_state *x, const char *given, char **ref)
{
    const char *pool;
    const json_t *record;
    if (given)
        return xe_ref_by_uuid(x, "SR", given, ref);
    if (xe_pool(x, &pool, &record) < 0)
        return -1;
    if (xe_ref_null(xe_str(record, "default_SR")))
        return xe_fail(x, XE_ERR_CLI, "the pool has no default SR; say sr=");
    *ref = xstrdup(xe_str(record, "default_SR"));
    return 0;
}

int xe_making_network(struct xe_run_state *x, const char *given, char **ref)
{
    const json_t *all;
    const char *key;
    json_t *network;
    if (given)
        return xe_ref_by_uuid(x, "network", given, ref);
    if (xe_records(x, "network", &all) < 0)
        return -1;
    json_object_foreach((json_t *)all, key, network)
    {
        if (!streq(xe_str(json_object_get(network, "other_config"), "corral:kind"), "user"))
            continue;
        *ref = xstrdup(key);
        break;
    }
    return 0;
}

int xe_making_blank(struct xe_run_state *x, const char *name, const char *sr, int64_t size, char **vdi)
{
    return xe_call_string(
        x, "VDI.create", vdi, "[{s:s, s:s, s:s, s:I, s:s, s:b, s:b, s:{}, s:{}, s:{}, s:[]}]", "name_label",
        name, "name_description", "", "SR", sr, "virtual_size", (json_int_t)size, "type", "system",
        "sharable", 0, "read_only", 0, "other_config", "xenstore_data", "sm_config", "tags");
}

int xe_making_disk(struct xe_run_state *x, const char *name, const char *sr, int64_t size, const char *file,
                   const char *format, char **vdi)
{
    if (xe_making_blank(x, name, sr, size, vdi) < 0)
        return -1;
    AUTO_FREE char *route = xasprintf("/import_raw_vdi?vdi=%s&format=%s", *vdi, format);
    return xe_transfer_file(x, x->api->upload, "Sending", file, route, NULL);
}

int xe_making_vbd(struct xe_run_state *x, const char *vm, const char *vdi, const struct xe_new_vbd *how)
{
    AUTO_FREE char *number = xasprintf("%u", how->number);
    return xe_call(x, "VBD.create", NULL, "[{s:s, s:s, s:s, s:b, s:s, s:s, s:b, s:b, s:{}, s:s, s:{}}]", "VM",
                   vm, "VDI", vdi ? vdi : "OpaqueRef:NULL", "userdevice", number, "bootable", how->bootable,
                   "mode", how->readonly ? "RO" : "RW", "type", how->cdrom ? "CD" : "Disk", "unpluggable", 1,
                   "empty", vdi == NULL, "other_config", "qos_algorithm_type", "", "qos_algorithm_params");
}

int xe_making_vif(struct xe_run_state *x, const char *vm, const char *network, const struct xe_new_vif *how)
{
    AUTO_FREE char *number = xasprintf("%u", how->number), *kbps = xasprintf("%lld", (long long)how->kbps);
    json_t *params = how->kbps ? json_pack("{s:s}", "kbps", kbps) : json_object();
    return xe_call(x, "VIF.create", NULL, "[{s:s, s:s, s:s, s:s, s:i, s:{}, s:s, s:o}]", "device", number,
                   "network", network, "VM", vm, "MAC", how->mac ? how->mac : "", "MTU", how->mtu,
                   "other_config", "qos_algorithm_type", how->kbps ? "ratelimit" : "", "qos_algorithm_params",
                   params);
}

void xe_making_undo(struct xe_run_state *x, const char *vm, const char *const *vdis, size_t count)
{
    struct xe_err first = x->err;
    x->err = (struct xe_err){0};
    if (x->api->resume)
        x->api->resume(x->api->ctx);
    if (vm && xe_call(x, "VM.destroy", NULL, "[s]", vm) < 0)
        xe_note(x, "The half-made VM %s could not be destroyed.", vm);
    xe_err_done(&x->err);
    for (size_t i = 0; i < count; i++) {
        if (xe_call(x, "VDI.destroy", NULL, "[s]", vdis[i]) < 0)
            xe_note(x, "The disk %s could not be destroyed.", vdis[i]);
        xe_err_done(&x->err);
    }
    x->err = first;
}
