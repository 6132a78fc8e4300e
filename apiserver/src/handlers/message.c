/* message.*: alerts. Rows of the store like others, but with messages of their own: no setters, and answers
 * that are maps of whole records. */
#include "../gate/answer.h"
#include "../gate/expr.h"
#include "alert.h"
#include <base/clock.h>
#include <base/mem.h>
#include <handlers.h>
#include <model/errors.h>

#define KEEP_MAX 10000

static bool find_oldest(const struct row *row, void *arg)
{
    const struct row **oldest = arg;
    if (!*oldest || row->created < (*oldest)->created)
        *oldest = row;
    return true;
}

static struct ref add(struct tx *tx, const char *name, int64_t priority, enum cls cls, const char *obj_uuid,
                      const char *body)
{
    while (tx_count(tx, CLASS_message) >= KEEP_MAX) {
        const struct row *oldest = NULL;
        tx_each(tx, CLASS_message, find_oldest, &oldest);
        tx_delete(tx, CLASS_message, oldest->ref);
    }
    struct message_row *message = message_row_mut(tx_create(tx, CLASS_message));
    str_assign(&message->name, name);
    message->priority = priority;
    message->cls = cls;
    str_assign(&message->obj_uuid, obj_uuid);
    message->timestamp = clock_unix_seconds();
    str_assign(&message->body, body);
    return message->row.ref;
}

void alert_add(struct tx *tx, const char *name, int64_t priority, enum cls cls, const char *obj_uuid,
               const char *body)
{
    add(tx, name, priority, cls, obj_uuid, body);
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
    struct ref made = add(tx, args->name, args->priority, args->cls, args->obj_uuid, args->body);
    if (server_commit(tx, err) < 0)
        return -1;
    *result = made;
    return 0;
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

/* All or none. */
int handle_message_destroy_many(struct call *call, const struct message_destroy_many_args *args,
                                struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    for (size_t i = 0; args->messages && i < args->messages->count; i++) {
        struct ref ref = args->messages->items[i];
        if (!tx_get(tx, CLASS_message, ref)) {
            tx_abort(tx);
            return fail_handle(err, CLASS_message, ref);
        }
        tx_delete(tx, CLASS_message, ref);
    }
    return server_commit(tx, err);
}

/* What destroy_all chooses: all that lie between the times and have the priority, as far as these are given.
 */
struct doomed {
    bool has_before, has_after, has_priority;
    int64_t before, after, priority;
    struct ref *refs;
    size_t count;
};

static int read_number(const struct str_map *filters, const char *key, const struct field_desc *field,
                       bool *has, int64_t *number, struct api_err *err)
{
    const char *text = str_map_get(filters, key);
    union cell cell;
    if (!text)
        return 0;
    if (!cell_read_text(field->type, text, &cell))
        return err_invalid_value(err, key, text);
    *number = cell.i;
    *has = true;
    return 0;
}

static int read_filters(const struct str_map *filters, struct doomed *doomed, struct api_err *err)
{
    static const char *const known[] = {"after", "before", "priority"};
    for (size_t i = 0; filters && i < filters->count; i++) {
        bool found = false;
        for (size_t k = 0; k < ARRAY_LEN(known); k++)
            found = found || streq(filters->pairs[i].key, known[k]);
        if (!found)
            return err_invalid_value(err, "filters", filters->pairs[i].key);
    }
    if (read_number(filters, "before", FIELD_message_timestamp, &doomed->has_before, &doomed->before, err) <
            0 ||
        read_number(filters, "after", FIELD_message_timestamp, &doomed->has_after, &doomed->after, err) < 0)
        return -1;
    return read_number(filters, "priority", FIELD_message_priority, &doomed->has_priority, &doomed->priority,
                       err);
}

static bool doom(const struct row *row, void *arg)
{
    struct doomed *doomed = arg;
    const struct message_row *message = message_row(row);
    if ((doomed->has_before && message->timestamp >= doomed->before) ||
        (doomed->has_after && message->timestamp <= doomed->after) ||
        (doomed->has_priority && message->priority != doomed->priority))
        return true;
    doomed->refs[doomed->count++] = row->ref;
    return true;
}

int handle_message_destroy_all(struct call *call, const struct message_destroy_all_args *args,
                               struct api_err *err)
{
    struct doomed doomed = {0};
    if (read_filters(args->filters, &doomed, err) < 0)
        return -1;
    struct tx *tx = store_begin(call->server->store);
    AUTO_FREE struct ref *refs = xcalloc(tx_count(tx, CLASS_message) + 1, sizeof(*refs));
    doomed.refs = refs;
    tx_each(tx, CLASS_message, doom, &doomed);
    for (size_t i = 0; i < doomed.count; i++)
        tx_delete(tx, CLASS_message, refs[i]);
    return server_commit(tx, err);
}

/* ---- reads ---- */

struct choice {
    bool by_object, records;
    enum cls cls;
    const char *obj_uuid;
    int64_t since;
    const struct expr *expr; /* NULL: all */
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
    if (choice->expr && !expr_matches(choice->expr, row))
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
    return answer_chosen(call, (struct choice){.records = true, .since = INT64_MIN});
}

int handle_message_get_all_records_where(struct call *call,
                                         const struct message_get_all_records_where_args *args,
                                         json_t **result, struct api_err *err)
{
    (void)result;
    struct expr *expr = expr_parse(args->expr, CLASS_message, err);
    if (!expr)
        return -1;
    answer_chosen(call, (struct choice){.records = true, .since = INT64_MIN, .expr = expr});
    expr_free(expr);
    return 0;
}

int handle_message_get_all(struct call *call, const struct ref_set **result, struct api_err *err)
{
    (void)result;
    (void)err;
    return answer_chosen(call, (struct choice){.records = false, .since = INT64_MIN});
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
