/* VDI.pool_introduce, db_introduce, db_forget: rows of disks as a storage layer of its own would make them,
 * without a look at the storage. VDI.force_unlock, which is no more. */
#include "storage.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

static int check_new(struct tx *tx, const struct vdi_db_introduce_args *args, const char *uuid,
                     struct api_err *err)
{
    const struct sr_row *sr = sr_row(tx_get(tx, CLASS_SR, args->SR));
    if (!sr)
        return fail_handle(err, CLASS_SR, args->SR);
    if (tx_by_uuid(tx, CLASS_VDI, uuid))
        return err_uuid_invalid(err, "VDI", uuid);
    if (!ref_is_null(args->snapshot_of) && !tx_get(tx, CLASS_VDI, args->snapshot_of))
        return fail_handle(err, CLASS_VDI, args->snapshot_of);
    if (args->virtual_size < 0 || args->physical_utilisation < 0)
        return err_invalid_value(err, "virtual_size", "it is less than 0");
    for (size_t i = 0; sr->VDIs && i < sr->VDIs->count; i++) {
        const struct vdi_row *vdi = vdi_row(tx_get(tx, CLASS_VDI, sr->VDIs->items[i]));
        if (vdi && *args->location && streq(vdi->location, args->location))
            return err_location_not_unique(err, REF_TEXT(args->SR), args->location);
    }
    return 0;
}

static int introduce(struct call *call, const struct vdi_db_introduce_args *args, struct ref *result,
                     struct api_err *err)
{
    struct ref given = ref_new();
    char uuid[UUID_TEXT_SIZE];
    if (*args->uuid && !uuid_parse(args->uuid, &given))
        return err_uuid_invalid(err, "VDI", args->uuid);
    uuid_format(given, uuid);
    struct tx *tx = store_begin(call->server->store);
    if (check_new(tx, args, uuid, err) < 0) {
        tx_abort(tx);
        return -1;
    }
    const struct disk_info info = {.uuid = "",
                                   .name = args->location,
                                   .virtual_size_bytes = args->virtual_size,
                                   .physical_bytes = args->physical_utilisation,
                                   .read_only = args->read_only};
    struct vdi_row *vdi = storage_add_vdi(tx, args->SR, uuid, &info, NULL);
    str_assign(&vdi->name_label, args->name_label);
    str_assign(&vdi->name_description, args->name_description);
    vdi->type = args->type;
    vdi->sharable = args->sharable;
    vdi->managed = args->managed;
    str_map_assign(&vdi->other_config, str_map_ref(args->other_config));
    str_map_assign(&vdi->xenstore_data, str_map_ref(args->xenstore_data));
    str_map_assign(&vdi->sm_config, str_map_ref(args->sm_config));
    vdi->metadata_of_pool = args->metadata_of_pool;
    vdi->is_a_snapshot = args->is_a_snapshot;
    vdi->snapshot_time = args->snapshot_time;
    vdi->snapshot_of = args->snapshot_of;
    vdi->cbt_enabled = args->cbt_enabled;
    *result = vdi->row.ref;
    return server_commit(tx, err);
}

int handle_vdi_db_introduce(struct call *call, const struct vdi_db_introduce_args *args, struct ref *result,
                            struct api_err *err)
{
    return introduce(call, args, result, err);
}

int handle_vdi_pool_introduce(struct call *call, const struct vdi_pool_introduce_args *args,
                              struct ref *result, struct api_err *err)
{
    const struct vdi_db_introduce_args same = {
        .uuid = args->uuid,
        .name_label = args->name_label,
        .name_description = args->name_description,
        .SR = args->SR,
        .type = args->type,
        .sharable = args->sharable,
        .read_only = args->read_only,
        .other_config = args->other_config,
        .location = args->location,
        .xenstore_data = args->xenstore_data,
        .sm_config = args->sm_config,
        .managed = args->managed,
        .virtual_size = args->virtual_size,
        .physical_utilisation = args->physical_utilisation,
        .metadata_of_pool = args->metadata_of_pool,
        .is_a_snapshot = args->is_a_snapshot,
        .snapshot_time = args->snapshot_time,
        .snapshot_of = args->snapshot_of,
        .cbt_enabled = args->cbt_enabled,
    };
    return introduce(call, &same, result, err);
}

int handle_vdi_db_forget(struct call *call, const struct vdi_db_forget_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_VDI, args->vdi)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_VDI, args->vdi);
    }
    storage_remove_vdi(tx, args->vdi);
    return server_commit(tx, err);
}

int handle_vdi_force_unlock(struct call *call, const struct vdi_force_unlock_args *args, struct api_err *err)
{
    if (!snapshot_get(call->snapshot, CLASS_VDI, args->vdi))
        return fail_handle(err, CLASS_VDI, args->vdi);
    return err_message_deprecated(err);
}
