/* blob.*, and create_new_blob of the classes that own some. Bytes come and go through http/blob.c. */
#include "../blobs.h"
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

/* Every class that has a map of blobs. */
static const struct field_desc *blobs_field(const struct class_desc *cls)
{
    const struct field_desc *field = cls->row_size ? field_find(cls, "blobs") : NULL;
    return field && field->type->rep == REP_STR_MAP && field->type->item->cls == CLASS_blob ? field : NULL;
}

static int create_owned(struct call *call, const struct class_desc *cls, struct ref owner, const char *name,
                        const char *mime_type, bool is_public, struct ref *result, struct api_err *err)
{
    const struct field_desc *field = blobs_field(cls);
    struct tx *tx = store_begin(call->server->store);
    const struct row *row = tx_get(tx, cls, owner);
    int rc = 0;
    if (!row)
        rc = fail_handle(err, cls, owner);
    else if (str_map_get(row_cell(row, field)->str_map, name))
        rc = err_map_duplicate_key(err, cls->name, "blobs", REF_TEXT(owner), name);
    if (rc < 0) {
        tx_abort(tx);
        return -1;
    }
    struct ref blob = blob_create(tx, mime_type, is_public);
    str_map_put(row_slot(tx_edit(tx, cls, owner), field), name, REF_TEXT(blob));
    if (server_commit(tx, err) < 0)
        return -1;
    *result = blob;
    return 0;
}

int handle_pool_create_new_blob(struct call *call, const struct pool_create_new_blob_args *args,
                                struct ref *result, struct api_err *err)
{
    return create_owned(call, CLASS_pool, args->pool, args->name, args->mime_type, args->public, result, err);
}

int handle_vm_create_new_blob(struct call *call, const struct vm_create_new_blob_args *args,
                              struct ref *result, struct api_err *err)
{
    return create_owned(call, CLASS_VM, args->vm, args->name, args->mime_type, args->public, result, err);
}

int handle_host_create_new_blob(struct call *call, const struct host_create_new_blob_args *args,
                                struct ref *result, struct api_err *err)
{
    return create_owned(call, CLASS_host, args->host, args->name, args->mime_type, args->public, result, err);
}

int handle_network_create_new_blob(struct call *call, const struct network_create_new_blob_args *args,
                                   struct ref *result, struct api_err *err)
{
    return create_owned(call, CLASS_network, args->network, args->name, args->mime_type, args->public, result,
                        err);
}

int handle_sr_create_new_blob(struct call *call, const struct sr_create_new_blob_args *args,
                              struct ref *result, struct api_err *err)
{
    return create_owned(call, CLASS_SR, args->sr, args->name, args->mime_type, args->public, result, err);
}

int handle_blob_create(struct call *call, const struct blob_create_args *args, struct ref *result,
                       struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    struct ref blob = blob_create(tx, args->mime_type, args->public);
    if (server_commit(tx, err) < 0)
        return -1;
    *result = blob;
    return 0;
}

/* ---- destroy ---- */

struct leaving {
    struct tx *tx;
    const struct field_desc *field;
    const char *blob; /* reference as text */
};

static bool leave_owner(const struct row *row, void *arg)
{
    const struct leaving *leaving = arg;
    AUTO_STR_MAP const struct str_map *blobs = str_map_ref(row_cell(row, leaving->field)->str_map);
    for (size_t i = 0; blobs && i < blobs->count; i++)
        if (streq(blobs->pairs[i].value, leaving->blob))
            str_map_del(row_slot(tx_edit(leaving->tx, row->cls, row->ref), leaving->field),
                        blobs->pairs[i].key);
    return true;
}

int handle_blob_destroy(struct call *call, const struct blob_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    const struct blob_row *blob = blob_row(tx_get(tx, CLASS_blob, args->self));
    if (!blob) {
        tx_abort(tx);
        return fail_handle(err, CLASS_blob, args->self);
    }
    AUTO_STR const char *uuid = str_ref(blob->uuid);
    struct leaving leaving = {.tx = tx, .blob = REF_TEXT(args->self)};
    for (size_t i = 0; i < model_class_count; i++)
        if ((leaving.field = blobs_field(&model_classes[i])))
            tx_each(tx, &model_classes[i], leave_owner, &leaving);
    tx_delete(tx, CLASS_blob, args->self);
    if (server_commit(tx, err) < 0)
        return -1;
    blob_forget(call->server, uuid);
    return 0;
}
