/* The messages that follow from fields: each one of each class is called and has to do what its name says, on
 * rows that are made behind the gate's back, also of classes that nothing else here makes rows of.
 *
 * What succeeds is noted for `./corral coverage` when CORRAL_CALL_LOGS names a folder. */
#include "trial.h"

#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/call_log.h>
#include <gate/generic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct trial_server trial;

static void start(void)
{
    const char *folder = getenv("CORRAL_CALL_LOGS");
    trial_start(&trial);
    if (!folder)
        return;
    AUTO_FREE char *path = xasprintf("%s/gate_generic", folder);
    mkdir(folder, 0755);
    trial.server.call_log = call_log_open(path);
}

static void stop(void)
{
    trial_stop(&trial);
    call_log_close(trial.server.call_log);
}

TestSuite(generic, .init = start, .fini = stop, .timeout = 240);

static struct ref make_row(const struct class_desc *cls)
{
    struct tx *tx = store_begin(trial.server.store);
    struct row *row = tx_create(tx, cls);
    struct ref ref = row->ref;
    if (cls->name_label)
        str_assign(row_slot(row, cls->name_label), "a name");
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
    return ref;
}

/* ---- values ---- */

static json_t *sample(const struct type *type);

static json_t *sample_key(const struct type *type)
{
    return type->kind == TYPE_INT ? json_string("12") : sample(type);
}

/* A value of the type that is not the initial one. */
static json_t *sample(const struct type *type)
{
    switch (type->kind) {
    case TYPE_STRING:
        return json_string("\"n\u00e9w\"\n<&>");
    case TYPE_INT:
        return json_integer(4611686018427387905);
    case TYPE_FLOAT:
        return json_real(0.25);
    case TYPE_BOOL:
        return json_true();
    case TYPE_DATETIME:
        return json_string("20240229T12:34:56Z");
    case TYPE_ENUM:
        return json_string(type->en->values[type->en->count - 1]);
    case TYPE_REF:
        return json_string(REF_TEXT(make_row(type->cls)));
    case TYPE_SET:
        return json_pack("[o]", sample(type->item));
    case TYPE_MAP: {
        AUTO_JSON json_t *key = sample_key(type->key);
        json_t *map = json_object();
        json_object_set_new(map, json_string_value(key), sample(type->item));
        return map;
    }
    case TYPE_OPTION:
    case TYPE_RECORD:
    case TYPE_VOID:
        break;
    }
    return json_null();
}

/* ---- calls ---- */

/* The answer of a call that has to succeed. `params` are moved. */
static json_t *call(const char *method, json_t *params)
{
    struct trial_answer answer;
    trial_call(&trial, trial.root, method, params, &answer);
    cr_assert_not(answer.failed, "%s: %s %s %s", method, answer.code,
                  answer.param_count > 0 ? answer.params[0] : "",
                  answer.param_count > 1 ? answer.params[1] : "");
    json_t *value = json_loads(answer.json, JSON_DECODE_ANY, NULL);
    cr_assert_not_null(value, "%s answers no JSON: %s", method, answer.json);
    trial_answer_done(&answer);
    return value;
}

static void fails_with(const char *code, const char *method, json_t *params)
{
    struct trial_answer answer;
    trial_call(&trial, trial.root, method, params, &answer);
    cr_assert(answer.failed && streq(answer.code, code), "%s: %s instead of %s", method, answer.code, code);
    trial_answer_done(&answer);
}

static json_t *self_of(struct ref ref)
{
    return json_pack("[s]", REF_TEXT(ref));
}

static json_t *get(const struct method_desc *m, struct ref ref)
{
    char name[128];
    snprintf(name, sizeof(name), "%s.get_%s", m->cls->name, m->field->name);
    return call(name, self_of(ref));
}

static bool has_text(const json_t *array, const char *text)
{
    size_t i;
    json_t *item;
    json_array_foreach(array, i,
                       item) if (json_is_string(item) && streq(json_string_value(item), text)) return true;
    return false;
}

/* ---- what each kind has to do ---- */

static void try_read(const struct method_desc *m, struct ref ref)
{
    AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
    const struct row *row = snapshot_get(snap, m->cls, ref);
    AUTO_JSON json_t *record = json_loads(row_json(row)->text, 0, NULL);
    AUTO_JSON json_t *got = NULL;
    const char *text = REF_TEXT(ref);
    switch (m->kind) {
    case METHOD_GETTER:
        got = call(m->name, self_of(ref));
        cr_assert(json_equal(got, json_object_get(record, m->field->name)), "%s", m->name);
        fails_with("HANDLE_INVALID", m->name, self_of(REF_NULL));
        break;
    case METHOD_GET_RECORD:
        got = call(m->name, self_of(ref));
        cr_assert(json_equal(got, record), "%s", m->name);
        break;
    case METHOD_GET_BY_UUID:
        got = call(m->name, json_pack("[O]", json_object_get(record, "uuid")));
        cr_assert_str_eq(json_string_value(got), text, "%s", m->name);
        break;
    case METHOD_GET_BY_NAME_LABEL:
        got = call(m->name, json_pack("[O]", json_object_get(record, "name_label")));
        cr_assert(has_text(got, text), "%s", m->name);
        break;
    case METHOD_GET_ALL:
        got = call(m->name, json_array());
        cr_assert(has_text(got, text), "%s", m->name);
        break;
    case METHOD_GET_ALL_WHERE:
        got = call(m->name, json_pack("[s]", "true"));
        cr_assert(has_text(got, text), "%s", m->name);
        break;
    case METHOD_GET_ALL_RECORDS:
        got = call(m->name, json_array());
        cr_assert(json_equal(json_object_get(got, text), record), "%s", m->name);
        break;
    case METHOD_GET_ALL_RECORDS_WHERE:
        got = call(m->name, json_pack("[s]", "not false"));
        cr_assert(json_equal(json_object_get(got, text), record), "%s", m->name);
        break;
    default:
        break;
    }
}

static void try_setter(const struct method_desc *m, struct ref ref)
{
    AUTO_JSON json_t *value = sample(m->field->type);
    json_decref(call(m->name, json_pack("[sO]", REF_TEXT(ref), value)));
    AUTO_JSON json_t *got = get(m, ref);
    cr_assert(json_equal(got, value), "%s", m->name);
    fails_with("HANDLE_INVALID", m->name, json_pack("[sO]", REF_NULL_TEXT, value));
}

/* Empties the field. */
static void clear(const struct method_desc *m, struct ref ref)
{
    struct tx *tx = store_begin(trial.server.store);
    union cell *cell = row_cell_mut(tx_edit(tx, m->cls, ref), m->field);
    cell_done(m->field->type, cell);
    cell_init(m->field->type, cell);
    struct store_err cause;
    cr_assert_eq(tx_commit(tx, NULL, &cause), 0);
}

static void try_add_or_remove(const struct method_desc *m, struct ref ref)
{
    const struct type *type = m->field->type;
    bool map = type->kind == TYPE_MAP, add = m->kind == METHOD_ADD;
    char other[128];
    snprintf(other, sizeof(other), "%s.%s%s", m->cls->name,
             add ? (map ? "remove_from_" : "remove_") : (map ? "add_to_" : "add_"), m->field->name);
    clear(m, ref);
    AUTO_JSON json_t *key = map ? sample_key(type->key) : sample(type->item);
    AUTO_JSON json_t *value = map ? sample(type->item) : json_null();
    AUTO_JSON json_t *wanted = map ? json_object() : json_pack("[O]", key);
    if (map)
        json_object_set(wanted, json_string_value(key), value);
    const char *adding = add ? m->name : other, *removing = add ? other : m->name;
    json_decref(call(adding, map ? json_pack("[sOO]", REF_TEXT(ref), key, value)
                                 : json_pack("[sO]", REF_TEXT(ref), key)));
    AUTO_JSON json_t *with = get(m, ref);
    cr_assert(json_equal(with, wanted), "%s", adding);
    if (map)
        fails_with("MAP_DUPLICATE_KEY", adding, json_pack("[sOO]", REF_TEXT(ref), key, value));
    json_decref(call(removing, json_pack("[sO]", REF_TEXT(ref), key)));
    AUTO_JSON json_t *without = get(m, ref);
    cr_assert(json_object_size(without) == 0 && json_array_size(without) == 0, "%s", removing);
}

static void try_create(const struct method_desc *m)
{
    AUTO_JSON json_t *record = json_object();
    for (size_t i = 0; i < m->cls->field_count; i++) {
        const struct field_desc *field = &m->cls->fields[i];
        if (field->qualifier != FIELD_DYNAMIC_RO && !(field->flags & (FIELD_INTERNAL | FIELD_DERIVED)))
            json_object_set_new(record, field->name, sample(field->type));
    }
    AUTO_JSON json_t *ref = call(m->name, json_pack("[O]", record));
    char name[128];
    snprintf(name, sizeof(name), "%s.get_record", m->cls->name);
    AUTO_JSON json_t *made = call(name, json_pack("[O]", ref));
    const char *key;
    json_t *value;
    json_object_foreach(record, key, value)
    {
        AUTO_FREE char *got = json_dumps(json_object_get(made, key), JSON_ENCODE_ANY);
        cr_assert(json_equal(json_object_get(made, key), value), "%s: %s is %s", m->name, key, got);
    }
}

static void try_method(const struct method_desc *m, struct ref ref)
{
    switch (m->kind) {
    case METHOD_SETTER:
        try_setter(m, ref);
        break;
    case METHOD_ADD:
    case METHOD_REMOVE:
        try_add_or_remove(m, ref);
        break;
    case METHOD_CREATE:
        try_create(m);
        break;
    case METHOD_DESTROY: {
        struct ref doomed = make_row(m->cls);
        json_decref(call(m->name, self_of(doomed)));
        AUTO_SNAPSHOT struct snapshot *snap = store_snapshot(trial.server.store);
        cr_assert_null(snapshot_get(snap, m->cls, doomed), "%s", m->name);
        break;
    }
    default:
        try_read(m, ref);
    }
}

Test(generic, every_message_of_every_class)
{
    struct store_err fault;
    size_t tried = 0;
    for (size_t c = 0; c < model_class_count; c++) {
        const struct class_desc *cls = &model_classes[c];
        struct ref ref = cls->row_size ? make_row(cls) : REF_NULL;
        for (size_t i = 0; i < model_method_count; i++) {
            const struct method_desc *m = &model_methods[i];
            if (m->cls != cls || !generic_serves(m) || (m->flags & (METHOD_HANDLER | METHOD_POOL_INTERNAL)))
                continue;
            if (m->flags & METHOD_REMOVED) {
                json_t *params = json_array();
                for (size_t n = 0; n < m->param_count; n++)
                    json_array_append_new(params, sample(m->params[n].type));
                fails_with("MESSAGE_REMOVED", m->name, params);
                continue;
            }
            try_method(m, ref);
            tried++;
        }
    }
    cr_assert_gt(tried, 1500, "only %zu", tried);
    cr_assert_eq(store_check(trial.server.store, &fault), 0, "%s", fault.text);
}
