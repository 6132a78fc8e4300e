/* Values read from JSON and from text, by type. Nothing is kept of a value that is refused. */
#include <base/buf.h>
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <errno.h>
#include <math.h>
#include <model/model.h>
#include <stdio.h>

/* How much of a refused value the error shows. */
#define SHOWN_MAX 48

/* Says what was expected; always false. */
static bool refuse(const struct type *type, const json_t *json, char error[static CELL_ERROR_SIZE])
{
    AUTO_BUF struct buf text = BUF_INIT;
    if (json_is_string(json))
        buf_add_str(&text, json_string_value(json));
    else if (json_is_object(json) || json_is_array(json))
        buf_add_str(&text, json_is_object(json) ? "{...}" : "[...]");
    else
        json_write(&text, json);
    size_t len = text.len < SHOWN_MAX ? text.len : SHOWN_MAX;
    while (len > 0 && !utf8_valid(text.data, len)) /* do not cut a character in two */
        len--;
    snprintf(error, CELL_ERROR_SIZE, "Expected %.60s, got '%.*s%s'", type->name, (int)len,
             text.data ? text.data : "", len < text.len ? "..." : "");
    return false;
}

static bool int_from_text(const char *text, int64_t *out)
{
    if (!((*text >= '0' && *text <= '9') || ((*text == '-' || *text == '+') && text[1])))
        return false;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (*end || errno)
        return false;
    *out = value;
    return true;
}

static bool float_from_text(const char *text, double *out)
{
    char *end;
    if (*text == '\0' || *text == ' ')
        return false;
    double value = strtod(text, &end);
    if (*end)
        return false;
    *out = value;
    return true;
}

bool cell_read_text(const struct type *type, const char *text, union cell *out)
{
    int64_t i;
    double d;
    struct ref ref;
    int e;
    switch (type->rep) {
    case REP_BOOL:
        if (!streq(text, "true") && !streq(text, "false"))
            return false;
        out->b = *text == 't';
        return true;
    case REP_INT:
        if (type->kind == TYPE_DATETIME ? !datetime_parse(text, &i) : !int_from_text(text, &i))
            return false;
        out->i = i;
        return true;
    case REP_FLOAT:
        if (!float_from_text(text, &d))
            return false;
        out->d = d;
        return true;
    case REP_ENUM:
        if ((e = enum_find(type->en, text)) < 0)
            return false;
        out->e = e;
        return true;
    case REP_STRING:
        out->str = str_new(text);
        return true;
    case REP_REF:
        if (!ref_parse(text, &ref))
            return false;
        out->ref = ref;
        return true;
    case REP_VOID:
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
    case REP_JSON:
        break;
    }
    return false;
}

/* A number where the type takes one; every other scalar is text. */
static bool scalar_from_json(const struct type *type, const json_t *json, union cell *out)
{
    switch (json_typeof(json)) {
    case JSON_STRING:
        /* A boolean in quotes is refused, as XenAPI does. */
        return type->kind != TYPE_BOOL && cell_read_text(type, json_string_value(json), out);
    case JSON_TRUE:
    case JSON_FALSE:
        if (type->kind != TYPE_BOOL)
            return false;
        out->b = json_is_true(json);
        return true;
    case JSON_INTEGER:
        if (type->kind == TYPE_INT)
            out->i = json_integer_value(json);
        else if (type->kind == TYPE_FLOAT)
            out->d = (double)json_integer_value(json);
        else
            return false;
        return true;
    case JSON_REAL: {
        double value = json_real_value(json);
        if (type->kind == TYPE_FLOAT)
            out->d = value;
        else if (type->kind == TYPE_INT && value == trunc(value) && fabs(value) < 9007199254740992.0)
            out->i = (int64_t)value;
        else
            return false;
        return true;
    }
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_NULL:
        break;
    }
    return false;
}

/* The canonical text of a scalar as a new rc string, or NULL. */
static const char *canonical(const struct type *type, const json_t *json)
{
    if (type->rep == REP_STRING)
        return json_is_string(json) ? str_new_len(json_string_value(json), json_string_length(json)) : NULL;
    union cell cell;
    if (!scalar_from_json(type, json, &cell))
        return NULL;
    AUTO_BUF struct buf text = BUF_INIT;
    cell_write_text(type, &cell, &text);
    cell_done(type, &cell);
    return str_new_len(text.data ? text.data : "", text.len);
}

/* A key of an object: text, whatever its type. */
static const char *canonical_key(const struct type *type, const char *key)
{
    if (type->rep == REP_STRING)
        return str_new(key);
    union cell cell;
    if (!cell_read_text(type, key, &cell))
        return NULL;
    AUTO_BUF struct buf text = BUF_INIT;
    cell_write_text(type, &cell, &text);
    cell_done(type, &cell);
    return str_new_len(text.data ? text.data : "", text.len);
}

static bool read_str_set(const struct type *type, const json_t *json, union cell *out,
                         char error[static CELL_ERROR_SIZE])
{
    size_t count = json_array_size(json);
    AUTO_FREE const char **items = xreallocarray(NULL, count, sizeof(*items));
    for (size_t i = 0; i < count; i++) {
        items[i] = canonical(type->item, json_array_get(json, i));
        if (!items[i]) {
            refuse(type->item, json_array_get(json, i), error);
            while (i > 0)
                str_unref(items[--i]);
            return false;
        }
    }
    out->str_set = str_set_new_moved(items, count);
    return true;
}

static bool read_ref_set(const struct type *type, const json_t *json, union cell *out,
                         char error[static CELL_ERROR_SIZE])
{
    size_t count = json_array_size(json), kept = 0;
    AUTO_FREE struct ref *items = xreallocarray(NULL, count, sizeof(*items));
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(json, i));
        if (!text || !ref_parse(text, &items[kept]))
            return refuse(type->item, json_array_get(json, i), error);
        kept += !ref_is_null(items[kept]);
    }
    out->ref_set = ref_set_new(items, kept);
    return true;
}

static bool read_enum_set(const struct type *type, const json_t *json, union cell *out,
                          char error[static CELL_ERROR_SIZE])
{
    uint64_t set = 0;
    size_t count = json_array_size(json);
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(json, i));
        int e = text ? enum_find(type->item->en, text) : -1;
        if (e < 0)
            return refuse(type->item, json_array_get(json, i), error);
        set |= UINT64_C(1) << e;
    }
    out->enum_set = set;
    return true;
}

static bool read_str_map(const struct type *type, json_t *json, union cell *out,
                         char error[static CELL_ERROR_SIZE])
{
    size_t count = 0;
    bool good = true;
    AUTO_FREE struct str_pair *pairs = xreallocarray(NULL, json_object_size(json), sizeof(*pairs));
    for (void *at = json_object_iter(json); at && good; at = json_object_iter_next(json, at)) {
        const char *name = json_object_iter_key(at);
        struct str_pair pair = {canonical_key(type->key, name), NULL};
        if (!pair.key) {
            snprintf(error, CELL_ERROR_SIZE, "Expected %.60s as a key, got '%.*s'", type->key->name,
                     utf8_valid(name, strnlen(name, SHOWN_MAX)) ? SHOWN_MAX : 0, name);
            good = false;
            break;
        }
        pair.value = canonical(type->item, json_object_iter_value(at));
        if (!pair.value) {
            str_unref(pair.key);
            good = refuse(type->item, json_object_iter_value(at), error);
            break;
        }
        pairs[count++] = pair;
    }
    if (good) {
        out->str_map = str_map_new_moved(pairs, count);
        return true;
    }
    for (size_t i = 0; i < count; i++) {
        str_unref(pairs[i].key);
        str_unref(pairs[i].value);
    }
    return false;
}

/* A checked, canonical copy of any value as JSON, or NULL. Depth is bounded by the type. */
static json_t *read_any(const struct type *type, json_t *json, char error[static CELL_ERROR_SIZE]);

static json_t *read_array(const struct type *item, const json_t *json, char error[static CELL_ERROR_SIZE])
{
    AUTO_JSON json_t *copy = json_array();
    size_t count = json_array_size(json);
    for (size_t i = 0; i < count; i++) {
        json_t *value = read_any(item, json_array_get(json, i), error);
        if (!value)
            return NULL;
        json_array_append_new(copy, value);
    }
    return TAKE_PTR(copy);
}

static json_t *read_map(const struct type *type, json_t *json, char error[static CELL_ERROR_SIZE])
{
    AUTO_JSON json_t *copy = json_object();
    for (void *at = json_object_iter(json); at; at = json_object_iter_next(json, at)) {
        AUTO_STR const char *key = canonical_key(type->key, json_object_iter_key(at));
        if (!key) {
            snprintf(error, CELL_ERROR_SIZE, "Expected %.60s as a key", type->key->name);
            return NULL;
        }
        json_t *value = read_any(type->item, json_object_iter_value(at), error);
        if (!value)
            return NULL;
        json_object_set_new(copy, key, value);
    }
    return TAKE_PTR(copy);
}

/* Unknown members are left out; missing ones stay missing. */
static json_t *read_record(const struct type *type, json_t *json, char error[static CELL_ERROR_SIZE])
{
    AUTO_JSON json_t *copy = json_object();
    for (uint16_t i = 0; i < type->cls->field_count; i++) {
        const struct field_desc *field = &type->cls->fields[i];
        json_t *member = json_object_get(json, field->name);
        if (!member || (field->flags & FIELD_INTERNAL))
            continue;
        const struct type *of = field->type->kind == TYPE_OPTION ? field->type->item : field->type;
        json_t *value = read_any(of, member, error);
        if (!value)
            return NULL;
        json_object_set_new(copy, field->name, value);
    }
    return TAKE_PTR(copy);
}

static json_t *scalar_to_json(const struct type *type, const union cell *cell)
{
    if (type->kind == TYPE_BOOL)
        return json_boolean(cell->b);
    if (type->kind == TYPE_INT)
        return json_integer(cell->i);
    if (type->kind == TYPE_FLOAT && isfinite(cell->d))
        return json_real(cell->d);
    AUTO_BUF struct buf text = BUF_INIT;
    cell_write_text(type, cell, &text);
    return json_stringn(text.data ? text.data : "", text.len);
}

static json_t *read_any(const struct type *type, json_t *json, char error[static CELL_ERROR_SIZE])
{
    bool object = type->kind == TYPE_MAP || type->kind == TYPE_RECORD;
    bool array = type->kind == TYPE_SET || type->kind == TYPE_OPTION;
    if ((object && !json_is_object(json)) || (array && !json_is_array(json)) ||
        (type->kind == TYPE_OPTION && json_array_size(json) > 1)) {
        refuse(type, json, error);
        return NULL;
    }
    if (type->kind == TYPE_RECORD)
        return read_record(type, json, error);
    if (type->kind == TYPE_MAP)
        return read_map(type, json, error);
    if (array)
        return read_array(type->item, json, error);
    union cell cell;
    if (!scalar_from_json(type, json, &cell)) {
        refuse(type, json, error);
        return NULL;
    }
    json_t *copy = scalar_to_json(type, &cell);
    cell_done(type, &cell);
    return copy;
}

bool cell_read_json(const struct type *type, const struct json_t *json, union cell *out,
                    char error[static CELL_ERROR_SIZE])
{
    json_t *walked = (json_t *)(uintptr_t)json; /* iteration does not change it */
    switch (type->rep) {
    case REP_VOID:
        return true;
    case REP_BOOL:
    case REP_INT:
    case REP_FLOAT:
    case REP_ENUM:
    case REP_STRING:
    case REP_REF:
        return scalar_from_json(type, json, out) || refuse(type, json, error);
    case REP_STR_SET:
        return json_is_array(json) ? read_str_set(type, json, out, error) : refuse(type, json, error);
    case REP_REF_SET:
        return json_is_array(json) ? read_ref_set(type, json, out, error) : refuse(type, json, error);
    case REP_ENUM_SET:
        return json_is_array(json) ? read_enum_set(type, json, out, error) : refuse(type, json, error);
    case REP_STR_MAP:
        return json_is_object(json) ? read_str_map(type, walked, out, error) : refuse(type, json, error);
    case REP_JSON: {
        json_t *copy = read_any(type, walked, error);
        if (!copy)
            return false;
        out->json = copy;
        return true;
    }
    }
    __builtin_unreachable();
}
