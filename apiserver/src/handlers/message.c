/* message.*: alerts. Rows of the store like others, but with messages of their own: no setters, and answers
 * that are maps of whole records. */
#include "../gate/answer.h"
#include "alert.h"
#include <base/clock.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define KEEP_MAX 10000

struct oldest {
    struct ref ref;
    int64_t timestamp;
};

static bool find_oldest(const struct row *row, void *arg)
{
    struct oldest *oldest = arg;
    if (message_row(row)->timestamp < oldest->timestamp)
        *oldest = (struct oldest){row->ref, message_row(row)->timestamp};
    return true;
}

void alert_add(struct tx *tx, const char *name, int64_t priority, enum cls cls, const char *obj_uuid,
               const char *body)
{
    if (tx_count(tx, CLASS_message) >= KEEP_MAX) {
        struct oldest oldest = {.timestamp = INT64_MAX};
        tx_each(tx, CLASS_message, find_oldest, &oldest);
        tx_delete(tx, CLASS_message, oldest.ref);
    }
    struct message_row *message = message_row_mut(tx_create(tx, CLASS_message));
    str_assign(&message->name, name);
    message->priority = priority;
    message->cls = cls;
    str_assign(&message->obj_uuid, obj_uuid);
    message->timestamp = clock_unix_seconds();
    str_assign(&message->body, body);
}

static const struct class_desc *class_of(enum cls cls)
{
    switch (cls) {
    case CLS_VM:
        return CLASS_VM;
    case CLS_HOST:
        return CLASS_host;
    case CLS_SR:
        return CLASS_SR;
    case CLS_POOL:
        return CLASS_pool;
    case CLS_VMPP:
        return CLASS_VMPP;
    case CLS_VMSS:
        return CLASS_VMSS;
    case CLS_PVS_PROXY:
        return CLASS_PVS_proxy;
    case CLS_VDI:
        return CLASS_VDI;
    case CLS_CERTIFICATE:
        return CLASS_Certificate;
    }
    return NULL;
}

int handle_message_create(struct call *call, const struct message_create_args *args, struct ref *result,
                          struct api_err *err)
{
    if (!snapshot_by_uuid(call->snapshot, class_of(args->cls), args->obj_uuid))
        return err_uuid_invalid(err, model_enum_cls.values[args->cls], args->obj_uuid);
    struct tx *tx = store_begin(call->server->store);
    struct message_row *message = message_row_mut(tx_create(tx, CLASS_message));
    str_assign(&message->name, args->name);
    message->priority = args->priority;
    message->cls = args->cls;
    str_assign(&message->obj_uuid, args->obj_uuid);
    message->timestamp = clock_unix_seconds();
    str_assign(&message->body, args->body);
    *result = message->row.ref;
    return server_commit(tx, err);
}

int handle_message_destroy(struct call *call, const struct message_destroy_args *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    if (!tx_get(tx, CLASS_message, args->self)) {
        tx_abort(tx);
        return fail_handle(err, CLASS_message, args->self);
    }
    tx_delete(tx, CLASS_message, args->self);
    return server_commit(tx, err);
}

/* ---- reads ---- */

struct choice {
    bool by_object, records;
    enum cls cls;
    const char *obj_uuid;
    int64_t since;
    struct answer out;
};

static bool add_chosen(const struct row *row, void *arg)
{
    struct choice *choice = arg;
    const struct message_row *message = message_row(row);
    if (message->timestamp < choice->since)
        return true;
    if (choice->by_object && (message->cls != choice->cls || !streq(message->obj_uuid, choice->obj_uuid)))
        return true;
    if (choice->records) {
        answer_key(&choice->out, REF_TEXT(row->ref));
        answer_record(&choice->out, row);
    } else {
        answer_ref(&choice->out, row->ref);
    }
    return true;
}

static int answer_chosen(struct call *call, struct choice choice)
{
    choice.out = answer_begin(call->form);
    answer_open(&choice.out, choice.records ? ANSWER_MAP : ANSWER_LIST);
    snapshot_each(call->snapshot, CLASS_message, add_chosen, &choice);
    answer_close(&choice.out);
    answer_give(&choice.out, call);
    return 0;
}

int handle_message_get(struct call *call, const struct message_get_args *args, json_t **result,
                       struct api_err *err)
{
    (void)result;
    (void)err;
    return answer_chosen(call, (struct choice){.by_object = true,
                                               .records = true,
                                               .cls = args->cls,
                                               .obj_uuid = args->obj_uuid,
                                               .since = args->since});
}

int handle_message_get_since(struct call *call, const struct message_get_since_args *args, json_t **result,
                             struct api_err *err)
{
    (void)result;
    (void)err;
    return answer_chosen(call, (struct choice){.records = true, .since = args->since});
}

int handle_message_get_all_records(struct call *call, json_t **result, struct api_err *err)
{
    (void)result;
    (void)err;
    return answer_chosen(call, (struct choice){.records = true});
}

int handle_message_get_all(struct call *call, const struct ref_set **result, struct api_err *err)
{
    (void)result;
    (void)err;
    return answer_chosen(call, (struct choice){.records = false});
}

int handle_message_get_record(struct call *call, const struct message_get_record_args *args, json_t **result,
                              struct api_err *err)
{
    (void)result;
    const struct row *row = snapshot_get(call->snapshot, CLASS_message, args->self);
    if (!row)
        return fail_handle(err, CLASS_message, args->self);
    struct answer out = answer_begin(call->form);
    answer_record(&out, row);
    answer_give(&out, call);
    return 0;
}

int handle_message_get_by_uuid(struct call *call, const struct message_get_by_uuid_args *args,
                               struct ref *result, struct api_err *err)
{
    const struct row *row = snapshot_by_uuid(call->snapshot, CLASS_message, args->uuid);
    if (!row)
        return err_uuid_invalid(err, "message", args->uuid);
    *result = row->ref;
    return 0;
}
