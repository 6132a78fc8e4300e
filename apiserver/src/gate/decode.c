/* JSON values to typed cells. Each type of the model has one decoder; the walk over arguments and
 * records is driven by the generated tables. */
#include "decode.h"

#include "../server.h"
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <errno.h>
#include <math.h>
#include <model/errors.h>
#include <stdio.h>

#define TEXT_SHOWN_MAX 64

/* A value is never NULL here: its place was looked at first. */
static bool is(const json_t *json, json_type type)
{
    return json_typeof(json) == type;
}

static const char *json_kind(const json_t *json)
{
    static const char *const kinds[] = {
        [JSON_OBJECT] = "a struct",    [JSON_ARRAY] = "an array", [JSON_STRING] = "",
        [JSON_INTEGER] = "an integer", [JSON_TRUE] = "true",      [JSON_REAL] = "a number with a fraction",
        [JSON_FALSE] = "false",        [JSON_NULL] = "null",
    };
    return is(json, JSON_STRING) ? json_string_value(json) : kinds[json_typeof(json)];
}

/* How much of a text an error shows: whole characters. */
static int shown_len(const char *text)
{
    size_t len = strlen(text);
    if (len <= TEXT_SHOWN_MAX)
        return (int)len;
    for (len = TEXT_SHOWN_MAX; ((unsigned char)text[len] & 0xc0) == 0x80; len--)
        continue; /* no character is that long */
    return (int)len;
}

static int expected(struct api_err *err, const struct type *type, const json_t *json)
{
    const char *got = json_kind(json);
    return fail_internal(err, "Expected %s, got '%.*s'", type->name, shown_len(got), got);
}

static int decode_int(const struct type *type, const json_t *json, enum decode_mode mode, int64_t *out,
                      struct api_err *err)
{
    if (is(json, JSON_INTEGER)) {
        *out = json_integer_value(json);
        return 0;
    }
    /* A JSON writer may print a whole number with a fraction part; 2^53 keeps it exact. */
    if (is(json, JSON_REAL) && json_real_value(json) == trunc(json_real_value(json)) &&
        fabs(json_real_value(json)) <= 9007199254740992.0) {
        *out = (int64_t)json_real_value(json);
        return 0;
    }
    if (mode == DECODE_LENIENT && is(json, JSON_STRING)) {
        const char *text = json_string_value(json);
        char *end;
        errno = 0;
        long long value = strtoll(text, &end, 10);
        if (*text && !*end && !errno) {
            *out = value;
            return 0;
        }
    }
    return expected(err, type, json);
}

static int decode_float(const struct type *type, const json_t *json, enum decode_mode mode, double *out,
                        struct api_err *err)
{
    if (is(json, JSON_INTEGER) || is(json, JSON_REAL)) {
        *out = json_number_value(json);
        return 0;
    }
    if (mode == DECODE_LENIENT && is(json, JSON_STRING)) {
        char *end;
        double value = strtod(json_string_value(json), &end);
        if (*json_string_value(json) && !*end) {
            *out = value;
            return 0;
        }
    }
    return expected(err, type, json);
}

static int decode_enum(const struct type *type, const json_t *json, int *out, struct api_err *err)
{
    if (!is(json, JSON_STRING))
        return expected(err, type, json);
    const char *text = json_string_value(json);
    int index = enum_find(type->en, text);
    if (index < 0)
        return fail_internal(err, "Expected one of %s, got '%.*s'", type->name, shown_len(text), text);
    *out = index;
    return 0;
}

static int decode_ref(const struct type *type, const json_t *json, struct ref *out, struct api_err *err)
{
    if (!is(json, JSON_STRING))
        return expected(err, type, json);
    if (!ref_parse(json_string_value(json), out))
        return err_handle_invalid(err, type->cls->name, json_string_value(json));
    return 0;
}

/* Canonical text of a scalar inside a map or a set of ints: the caller frees. */
static int decode_scalar_text(const struct type *type, const json_t *json, enum decode_mode mode, char **out,
                              struct api_err *err)
{
    union cell cell;
    if (type->kind > TYPE_REF)
        return fail_internal(err, "Expected a scalar, not %s", type->name);
    if (type->kind == TYPE_STRING) {
        if (!is(json, JSON_STRING))
            return expected(err, type, json);
        *out = xstrdup(json_string_value(json));
        return 0;
    }
    if (decode_cell(type, json, mode, &cell, err) < 0)
        return -1;
    struct buf text = BUF_INIT;
    cell_write_text(type, &cell, &text);
    cell_done(type, &cell);
    *out = text.len ? buf_take(&text) : xstrdup("");
    return 0;
}

/* Keys of a JSON object are text whatever the map's key type. */
static int decode_key_text(const struct type *type, const char *key, char **out, struct api_err *err)
{
    AUTO_JSON json_t *json = json_string_nocheck(key);
    return decode_scalar_text(type, json, DECODE_LENIENT, out, err);
}

static void free_texts(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

/* `list`: in the order given and with doubles, as the words of an error have to stay. */
static int decode_str_set(const struct type *type, const json_t *json, enum decode_mode mode, bool list,
                          const struct str_set **out, struct api_err *err)
{
    size_t count = json_array_size(json), done = 0;
    char **texts = xcalloc(count + 1, sizeof(*texts));
    int rc = 0;
    for (; done < count && rc == 0; done++)
        rc = decode_scalar_text(type->item, json_array_get(json, done), mode, &texts[done], err);
    if (rc == 0)
        *out = list ? str_list_new((const char *const *)texts, count)
                    : str_set_new((const char *const *)texts, count);
    free_texts(texts, done);
    return rc;
}

static int decode_ref_set(const struct type *type, const json_t *json, const struct ref_set **out,
                          struct api_err *err)
{
    size_t count = json_array_size(json);
    AUTO_FREE struct ref *refs = xcalloc(count + 1, sizeof(*refs));
    for (size_t i = 0; i < count; i++)
        if (decode_ref(type->item, json_array_get(json, i), &refs[i], err) < 0)
            return -1;
    *out = ref_set_new(refs, count);
    return 0;
}

static int decode_enum_set(const struct type *type, const json_t *json, uint64_t *out, struct api_err *err)
{
    uint64_t set = 0;
    for (size_t i = 0; i < json_array_size(json); i++) {
        int value = 0;
        if (decode_enum(type->item, json_array_get(json, i), &value, err) < 0)
            return -1;
        set |= (uint64_t)1 << value;
    }
    *out = set;
    return 0;
}

static int decode_str_map(const struct type *type, const json_t *json, enum decode_mode mode,
                          const struct str_map **out, struct api_err *err)
{
    if (!is(json, JSON_OBJECT))
        return expected(err, type, json);
    size_t size = json_object_size(json), count = 0;
    char **texts = xcalloc(2 * size + 1, sizeof(*texts));
    int rc = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)json, key, value)
    {
        rc = decode_key_text(type->key, key, &texts[count], err);
        if (rc < 0)
            break;
        count++;
        rc = decode_scalar_text(type->item, value, mode, &texts[count], err);
        if (rc < 0)
            break;
        count++;
    }
    if (rc == 0) {
        AUTO_FREE struct str_pair *pairs = xcalloc(size + 1, sizeof(*pairs));
        for (size_t i = 0; i < size; i++)
            pairs[i] = (struct str_pair){texts[2 * i], texts[2 * i + 1]};
        *out = str_map_new(pairs, size);
    }
    free_texts(texts, count);
    return rc;
}

int decode_cell(const struct type *type, const json_t *json, enum decode_mode mode, union cell *out,
                struct api_err *err)
{
    if (type->kind == TYPE_SET && !is(json, JSON_ARRAY))
        return expected(err, type, json);
    switch (type->rep) {
    case REP_VOID:
        return 0;
    case REP_BOOL:
        if (!is(json, JSON_TRUE) && !is(json, JSON_FALSE))
            return expected(err, type, json);
        out->b = is(json, JSON_TRUE);
        return 0;
    case REP_INT:
        if (type->kind == TYPE_INT)
            return decode_int(type, json, mode, &out->i, err);
        if (!is(json, JSON_STRING) || !datetime_parse(json_string_value(json), &out->i))
            return expected(err, type, json);
        return 0;
    case REP_FLOAT:
        return decode_float(type, json, mode, &out->d, err);
    case REP_ENUM:
        return decode_enum(type, json, &out->e, err);
    case REP_STRING:
        if (!is(json, JSON_STRING))
            return expected(err, type, json);
        out->str = str_new_len(json_string_value(json), json_string_length(json));
        return 0;
    case REP_REF:
        return decode_ref(type, json, &out->ref, err);
    case REP_STR_SET:
        return decode_str_set(type, json, mode, false, &out->str_set, err);
    case REP_REF_SET:
        return decode_ref_set(type, json, &out->ref_set, err);
    case REP_ENUM_SET:
        return decode_enum_set(type, json, &out->enum_set, err);
    case REP_STR_MAP:
        return decode_str_map(type, json, mode, &out->str_map, err);
    case REP_JSON:
        if (type->kind == TYPE_RECORD && !is(json, JSON_OBJECT))
            return expected(err, type, json);
        if (type->kind == TYPE_MAP && !is(json, JSON_OBJECT))
            return expected(err, type, json);
        out->json = json_incref((json_t *)json);
        return 0;
    }
    return expected(err, type, json);
}

int decode_record(const struct class_desc *cls, const json_t *record, enum decode_mode mode, struct row **out,
                  struct api_err *err)
{
    if (!is(record, JSON_OBJECT)) {
        const char *got = json_kind(record);
        return fail_internal(err, "Expected %s record, got '%.*s'", cls->name, shown_len(got), got);
    }
    struct row *row = row_new(cls, REF_NULL);
    for (size_t i = 0; i < cls->field_count; i++) {
        const struct field_desc *field = &cls->fields[i];
        if (field->qualifier == FIELD_DYNAMIC_RO || (field->flags & (FIELD_INTERNAL | FIELD_DERIVED)))
            continue;
        const json_t *value = json_object_get(record, field->name);
        union cell cell;
        if (!value && (field->flags & FIELD_HAS_DEFAULT))
            continue;
        if (!value) {
            row_unref(row);
            return fail_internal(err, "The record has no %s, which a new %s needs", field->name, cls->name);
        }
        if (decode_cell(field->type, value, mode, &cell, err) < 0) {
            row_unref(row);
            return -1;
        }
        union cell *slot = row_cell_mut(row, field);
        cell_done(field->type, slot);
        cell_copy(field->type, slot, &cell);
        cell_done(field->type, &cell);
    }
    *out = row;
    return 0;
}

static union cell *arg_slot(void *args, const struct param_desc *param)
{
    return (union cell *)((char *)args + param->offset);
}

static void args_done(const struct method_desc *method, void *args, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (method->kind == METHOD_CREATE)
            row_unref(((struct args_create *)args)->record);
        else
            cell_done(method->params[i].type, arg_slot(args, &method->params[i]));
    }
    free(args);
}

int decode_args(const struct method_desc *method, const json_t *params, enum decode_mode mode, void **out,
                struct api_err *err)
{
    /* One cell beyond the struct, so that a whole union fits at any member's place. */
    void *args = xcalloc(1, method->args_size + sizeof(union cell));
    for (size_t i = 0; i < method->param_count; i++) {
        const struct param_desc *param = &method->params[i];
        const json_t *json = json_array_get(params, i);
        int rc = 0;
        union cell cell;
        if (method->kind == METHOD_CREATE) {
            struct row *record = NULL;
            rc = decode_record(method->cls, json, mode, &record, err);
            ((struct args_create *)args)->record = record;
        } else if (json) {
            bool list =
                method->kind == METHOD_CUSTOM && param->type->rep == REP_STR_SET && is(json, JSON_ARRAY);
            rc = list ? decode_str_set(param->type, json, mode, true, &cell.str_set, err)
                      : decode_cell(param->type, json, mode, &cell, err);
            if (rc == 0) {
                cell_copy(param->type, arg_slot(args, param), &cell);
                cell_done(param->type, &cell);
            }
        } else {
            cell_copy(param->type, arg_slot(args, param), &param->initial);
        }
        if (rc < 0) {
            args_done(method, args, i);
            return -1;
        }
    }
    *out = args;
    return 0;
}

void args_free(const struct method_desc *method, void *args)
{
    if (args)
        args_done(method, args, method->param_count);
}
