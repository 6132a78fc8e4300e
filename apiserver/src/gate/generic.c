/* Generic messages. Reads come from the call's snapshot; a record is the fragment that its row
 * version keeps, so repeating a read costs no serialising. */
#include "generic.h"

#include "answer.h"
#include "expr.h"
#include <assert.h>
#include <base/mem.h>
#include <model/errors.h>

#define PIECES_MIN 32 /* rows: for a short list the copy costs less than its parts */

bool generic_serves(const struct method_desc *method)
{
    if (method->kind == METHOD_CUSTOM)
        return false;
    if (method->kind == METHOD_CREATE || method->kind == METHOD_DESTROY)
        return method->flags & METHOD_GENERIC;
    return true;
}

static const struct row *find_self(struct call *call, struct ref self, struct api_err *err)
{
    const struct row *row = snapshot_get(call->snapshot, call->method->cls, self);
    if (!row)
        fail_handle(err, call->method->cls, self);
    return row;
}

/* ---- lists ---- */

struct list {
    struct answer answer;
    const struct expr *expr; /* NULL: all */
    bool records;
};

static bool list_row(const struct row *row, void *arg)
{
    struct list *list = arg;
    char text[REF_TEXT_SIZE];
    if (list->expr && !expr_matches(list->expr, row))
        return true;
    if (list->records) {
        answer_key(&list->answer, ref_format(row->ref, text));
        answer_record(&list->answer, row);
    } else {
        answer_ref(&list->answer, row->ref);
    }
    return true;
}

static int read_list(struct call *call, const char *filter, bool records, struct api_err *err)
{
    struct expr *expr = NULL;
    if (filter && !(expr = expr_parse(filter, call->method->cls, err)))
        return -1;
    struct list list = {.answer = answer_begin(call->form), .expr = expr, .records = records};
    if (records && call->pieces_ok && !call->async &&
        snapshot_count(call->snapshot, call->method->cls) >= PIECES_MIN)
        answer_in_pieces(&list.answer);
    answer_open(&list.answer, records ? ANSWER_MAP : ANSWER_LIST);
    snapshot_each(call->snapshot, call->method->cls, list_row, &list);
    answer_close(&list.answer);
    expr_free(expr);
    answer_give(&list.answer, call);
    return 0;
}

static int read_by_name(struct call *call, const char *name)
{
    const struct row **rows;
    size_t count = snapshot_by_name(call->snapshot, call->method->cls, name, &rows);
    struct answer answer = answer_begin(call->form);
    answer_open(&answer, ANSWER_LIST);
    for (size_t i = 0; i < count; i++)
        answer_ref(&answer, rows[i]->ref);
    answer_close(&answer);
    free(rows);
    answer_give(&answer, call);
    return 0;
}

int generic_read(struct call *call, const void *args, struct api_err *err)
{
    const struct method_desc *method = call->method;
    const struct row *row;
    struct answer answer = answer_begin(call->form);
    switch (method->kind) {
    case METHOD_GETTER:
        row = find_self(call, ((const struct args_self *)args)->self, err);
        if (!row)
            return -1;
        cell_copy(method->field->type, &call->result, row_cell(row, method->field));
        call->result_type = method->field->type;
        return 0;
    case METHOD_GET_RECORD:
        row = find_self(call, ((const struct args_self *)args)->self, err);
        if (!row)
            return -1;
        answer_record(&answer, row);
        answer_give(&answer, call);
        return 0;
    case METHOD_GET_BY_UUID:
        row = snapshot_by_uuid(call->snapshot, method->cls, ((const struct args_text *)args)->text);
        if (!row)
            return err_uuid_invalid(err, method->cls->name, ((const struct args_text *)args)->text);
        call->result.ref = row->ref;
        call->result_type = method->result;
        return 0;
    case METHOD_GET_BY_NAME_LABEL:
        return read_by_name(call, ((const struct args_text *)args)->text);
    case METHOD_GET_ALL:
        return read_list(call, NULL, false, err);
    case METHOD_GET_ALL_RECORDS:
        return read_list(call, NULL, true, err);
    case METHOD_GET_ALL_WHERE:
        return read_list(call, ((const struct args_text *)args)->text, false, err);
    case METHOD_GET_ALL_RECORDS_WHERE:
        return read_list(call, ((const struct args_text *)args)->text, true, err);
    default:
        return fail_internal(err, "%s is not a read", method->name);
    }
}

/* ---- writes ---- */

static const char *scalar_text(const struct type *type, const union cell *cell, struct buf *out)
{
    if (type->rep == REP_STRING)
        return cell->str;
    buf_clear(out);
    cell_write_db(type, cell, out);
    assert(out->len > 0);
    return out->data;
}

static int add_to_map(const struct method_desc *method, const struct row *now, struct row *row,
                      const struct args_pair *args, struct api_err *err)
{
    AUTO_BUF struct buf key_buf = BUF_INIT, value_buf = BUF_INIT;
    const char *key = scalar_text(method->field->type->key, &args->key, &key_buf);
    const char *value = scalar_text(method->field->type->item, &args->value, &value_buf);
    if (str_map_get(row_cell(now, method->field)->str_map, key))
        return err_map_duplicate_key(err, method->cls->name, method->field->name, REF_TEXT(now->ref), key);
    str_map_put(&row_cell_mut(row, method->field)->str_map, key, value);
    return 0;
}

static void remove_from_map(const struct method_desc *method, struct row *row, const struct args_pair *args)
{
    AUTO_BUF struct buf key_buf = BUF_INIT;
    str_map_del(&row_cell_mut(row, method->field)->str_map,
                scalar_text(method->field->type->key, &args->key, &key_buf));
}

static int change_set(const struct method_desc *method, struct row *row, const struct args_pair *args,
                      bool add, struct api_err *err)
{
    union cell *cell = row_cell_mut(row, method->field);
    const struct type *item = method->field->type->item;
    uint64_t bit;
    AUTO_BUF struct buf text = BUF_INIT;
    switch (method->field->type->rep) {
    case REP_STR_SET: {
        const char *word = scalar_text(item, &args->key, &text);
        str_set_assign(&cell->str_set,
                       add ? str_set_with(cell->str_set, word) : str_set_without(cell->str_set, word));
        return 0;
    }
    case REP_REF_SET:
        ref_set_assign(&cell->ref_set, add ? ref_set_with(cell->ref_set, args->key.ref)
                                           : ref_set_without(cell->ref_set, args->key.ref));
        return 0;
    case REP_ENUM_SET:
        bit = (uint64_t)1 << args->key.e;
        cell->enum_set = add ? cell->enum_set | bit : cell->enum_set & ~bit;
        return 0;
    default:
        return fail_internal(err, "%s cannot be changed one by one", method->field->name);
    }
}

/* A reference that is about to be stored has to name something. */
static int check_target(struct tx *tx, const struct type *type, const union cell *cell, struct api_err *err)
{
    if (type->rep == REP_REF && !ref_is_null(cell->ref) && !tx_get(tx, type->cls, cell->ref))
        return fail_handle(err, type->cls, cell->ref);
    if (type->rep == REP_REF_SET && cell->ref_set)
        for (size_t i = 0; i < cell->ref_set->count; i++)
            if (!tx_get(tx, type->item->cls, cell->ref_set->items[i]))
                return fail_handle(err, type->item->cls, cell->ref_set->items[i]);
    return 0;
}

int generic_change(struct tx *tx, const struct method_desc *method, const void *args, struct api_err *err)
{
    struct ref self = ((const struct args_self *)args)->self;
    const struct row *now = tx_get(tx, method->cls, self);
    if (!now)
        return fail_handle(err, method->cls, self);
    const struct field_desc *field = method->field;
    switch (method->kind) {
    case METHOD_SETTER: {
        const struct args_value *set = args;
        if (check_target(tx, field->type, &set->value, err) < 0)
            return -1;
        if (cell_equal(field->type, row_cell(now, field), &set->value))
            return 0;
        union cell *cell = row_cell_mut(tx_edit(tx, method->cls, self), field);
        cell_done(field->type, cell);
        cell_copy(field->type, cell, &set->value);
        return 0;
    }
    case METHOD_ADD:
        if (field->type->kind == TYPE_MAP)
            return add_to_map(method, now, tx_edit(tx, method->cls, self), args, err);
        if (check_target(tx, field->type->item, &((const struct args_pair *)args)->key, err) < 0)
            return -1;
        return change_set(method, tx_edit(tx, method->cls, self), args, true, err);
    case METHOD_REMOVE:
        if (field->type->kind == TYPE_MAP)
            remove_from_map(method, tx_edit(tx, method->cls, self), args);
        else
            return change_set(method, tx_edit(tx, method->cls, self), args, false, err);
        return 0;
    case METHOD_DESTROY:
        tx_delete(tx, method->cls, self);
        return 0;
    default:
        return fail_internal(err, "%s is not a write", method->name);
    }
}

int generic_fill(struct tx *tx, struct row *row, const struct row *record, struct api_err *err)
{
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if (field->qualifier == FIELD_DYNAMIC_RO || (field->flags & (FIELD_INTERNAL | FIELD_DERIVED)))
            continue;
        const union cell *given = row_cell(record, field);
        if (check_target(tx, field->type, given, err) < 0)
            return -1;
        union cell *cell = row_cell_mut(row, field);
        cell_done(field->type, cell);
        cell_copy(field->type, cell, given);
    }
    return 0;
}

static int create(struct tx *tx, struct call *call, const struct args_create *args, struct api_err *err)
{
    struct row *row = tx_create(tx, call->method->cls);
    if (generic_fill(tx, row, args->record, err) < 0)
        return -1;
    call->result.ref = row->ref;
    call->result_type = call->method->result;
    return 0;
}

bool generic_writes(const struct method_desc *method)
{
    switch (method->kind) {
    case METHOD_SETTER:
    case METHOD_ADD:
    case METHOD_REMOVE:
    case METHOD_CREATE:
    case METHOD_DESTROY:
        return !(method->flags & METHOD_HANDLER);
    default:
        return false;
    }
}

int generic_edit(struct tx *tx, struct call *call, const void *args, struct api_err *err)
{
    int rc = call->method->kind == METHOD_CREATE ? create(tx, call, args, err)
                                                 : generic_change(tx, call->method, args, err);
    if (rc < 0)
        tx_abort(tx);
    return rc;
}

int generic_write(struct call *call, const void *args, struct api_err *err)
{
    struct tx *tx = store_begin(call->server->store);
    return generic_edit(tx, call, args, err) < 0 ? -1 : server_commit(tx, err);
}
