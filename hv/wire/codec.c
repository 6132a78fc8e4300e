/* Generic life cycle and JSON of the described structs (hv/wire.h). The limits of the description are
 * enforced when reading, so that whatever is behind a decoder may rely on them. */
#include <base/mem.h>
#include <hv/wire.h>
#include <math.h>
#include <stdio.h>

static void *at(const void *value, uint32_t offset)
{
    return (char *)(uintptr_t)value + offset;
}

static size_t *count_at(const struct wire_field *f, const void *value)
{
    return at(value, f->count_offset);
}

static void init_field(const struct wire_field *f, void *p)
{
    switch (f->kind) {
    case WIRE_STRING:
    case WIRE_UUID:
    case WIRE_UUID_OPTIONAL:
        *(const char **)p = str_new(f->initial.s ? f->initial.s : "");
        break;
    case WIRE_INT:
        *(int64_t *)p = f->initial.i;
        break;
    case WIRE_BOOL:
        *(bool *)p = f->initial.i != 0;
        break;
    case WIRE_FLOAT:
        *(double *)p = f->initial.d;
        break;
    case WIRE_ENUM:
        *(int *)p = (int)f->initial.i;
        break;
    case WIRE_STRUCT:
        wire_init(f->st, p);
        break;
    case WIRE_MAP:
    case WIRE_LIST:
    case WIRE_STRINGS:
        break; /* zero is empty */
    }
}

void wire_init(const struct wire_struct *desc, void *value)
{
    memset(value, 0, desc->size);
    for (int i = 0; i < desc->field_count; i++)
        init_field(&desc->fields[i], at(value, desc->fields[i].offset));
}

static void done_field(const struct wire_field *f, void *value)
{
    void *p = at(value, f->offset);
    switch (f->kind) {
    case WIRE_STRING:
    case WIRE_UUID:
    case WIRE_UUID_OPTIONAL:
        if (*(const char **)p)
            str_unref(*(const char **)p);
        break;
    case WIRE_MAP:
        str_map_unref(*(const struct str_map **)p);
        break;
    case WIRE_STRUCT:
        wire_done(f->st, p);
        break;
    case WIRE_LIST: {
        char *items = *(char **)p;
        for (size_t i = 0; i < *count_at(f, value); i++)
            wire_done(f->st, items + i * f->st->size);
        free(items);
        break;
    }
    case WIRE_STRINGS: {
        const char **items = *(const char ***)p;
        for (size_t i = 0; i < *count_at(f, value); i++)
            str_unref(items[i]);
        free(items);
        break;
    }
    case WIRE_INT:
    case WIRE_BOOL:
    case WIRE_FLOAT:
    case WIRE_ENUM:
        break;
    }
}

void wire_done(const struct wire_struct *desc, void *value)
{
    for (int i = 0; i < desc->field_count; i++)
        done_field(&desc->fields[i], value);
    memset(value, 0, desc->size);
}

static void copy_field(const struct wire_field *f, void *to, const void *from)
{
    void *p = at(to, f->offset);
    const void *q = at(from, f->offset);
    switch (f->kind) {
    case WIRE_STRING:
    case WIRE_UUID:
    case WIRE_UUID_OPTIONAL:
        *(const char **)p = *(const char *const *)q ? str_ref(*(const char *const *)q) : str_new("");
        break;
    case WIRE_INT:
        *(int64_t *)p = *(const int64_t *)q;
        break;
    case WIRE_BOOL:
        *(bool *)p = *(const bool *)q;
        break;
    case WIRE_FLOAT:
        *(double *)p = *(const double *)q;
        break;
    case WIRE_ENUM:
        *(int *)p = *(const int *)q;
        break;
    case WIRE_MAP:
        *(const struct str_map **)p = str_map_ref(*(const struct str_map *const *)q);
        break;
    case WIRE_STRUCT:
        wire_copy(f->st, p, q);
        break;
    case WIRE_LIST: {
        size_t n = *count_at(f, from);
        char *items = n ? xreallocarray(NULL, n, f->st->size) : NULL;
        for (size_t i = 0; i < n; i++)
            wire_copy(f->st, items + i * f->st->size, *(const char *const *)q + i * f->st->size);
        *(char **)p = items;
        *count_at(f, to) = n;
        break;
    }
    case WIRE_STRINGS: {
        size_t n = *count_at(f, from);
        const char **items = n ? xreallocarray(NULL, n, sizeof(*items)) : NULL;
        for (size_t i = 0; i < n; i++)
            items[i] = str_ref((*(const char **const *)q)[i]);
        *(const char ***)p = items;
        *count_at(f, to) = n;
        break;
    }
    }
}

void wire_copy(const struct wire_struct *desc, void *to, const void *from)
{
    memset(to, 0, desc->size);
    for (int i = 0; i < desc->field_count; i++)
        copy_field(&desc->fields[i], to, from);
}

bool wire_equal(const struct wire_struct *desc, const void *a, const void *b)
{
    struct buf left AUTO_BUF = BUF_INIT, right AUTO_BUF = BUF_INIT;
    wire_encode(desc, a, &left);
    wire_encode(desc, b, &right);
    return left.len == right.len && memcmp(left.data, right.data, left.len) == 0;
}

void *wire_list_add(const struct wire_struct *desc, void **items, size_t *count)
{
    *items = xreallocarray(*items, *count + 1, desc->size);
    void *item = (char *)*items + *count * desc->size;
    wire_init(desc, item);
    (*count)++;
    return item;
}

void wire_strings_add(const char ***items, size_t *count, const char *item)
{
    *items = xreallocarray(*items, *count + 1, sizeof(**items));
    (*items)[(*count)++] = str_new(item);
}

const char *wire_enum_name(const struct wire_enum *en, int value)
{
    return value >= 0 && value < en->count ? en->words[value] : "?";
}

static void encode_map(const struct str_map *map, struct buf *out)
{
    buf_add_char(out, '{');
    for (uint32_t i = 0; map && i < map->count; i++) {
        if (i > 0)
            buf_add_char(out, ',');
        json_write_string(out, map->pairs[i].key);
        buf_add_char(out, ':');
        json_write_string(out, map->pairs[i].value);
    }
    buf_add_char(out, '}');
}

static void encode_field(const struct wire_field *f, const void *value, struct buf *out)
{
    const void *p = at(value, f->offset);
    switch (f->kind) {
    case WIRE_STRING:
    case WIRE_UUID:
    case WIRE_UUID_OPTIONAL:
        json_write_string(out, *(const char *const *)p ? *(const char *const *)p : "");
        break;
    case WIRE_INT:
        buf_add_int(out, *(const int64_t *)p);
        break;
    case WIRE_BOOL:
        buf_add_str(out, *(const bool *)p ? "true" : "false");
        break;
    case WIRE_FLOAT: {
        double d = *(const double *)p;
        buf_printf(out, "%.17g", isfinite(d) ? d : 0.0);
        break;
    }
    case WIRE_ENUM:
        json_write_string(out, wire_enum_name(f->en, *(const int *)p));
        break;
    case WIRE_MAP:
        encode_map(*(const struct str_map *const *)p, out);
        break;
    case WIRE_STRUCT:
        wire_encode(f->st, p, out);
        break;
    case WIRE_LIST:
    case WIRE_STRINGS:
        buf_add_char(out, '[');
        for (size_t i = 0; i < *count_at(f, value); i++) {
            if (i > 0)
                buf_add_char(out, ',');
            if (f->kind == WIRE_LIST)
                wire_encode(f->st, *(const char *const *)p + i * f->st->size, out);
            else
                json_write_string(out, (*(const char **const *)p)[i]);
        }
        buf_add_char(out, ']');
        break;
    }
}

void wire_encode(const struct wire_struct *desc, const void *value, struct buf *out)
{
    buf_add_char(out, '{');
    for (int i = 0; i < desc->field_count; i++) {
        if (i > 0)
            buf_add_char(out, ',');
        json_write_string(out, desc->fields[i].name);
        buf_add_char(out, ':');
        encode_field(&desc->fields[i], value, out);
    }
    buf_add_char(out, '}');
}

static int complain(char *complaint, const struct wire_struct *desc, const struct wire_field *f,
                    const char *what)
{
    snprintf(complaint, WIRE_COMPLAINT_SIZE, "%s.%s %s", desc->name, f->name, what);
    return -1;
}

/* NULL: fine; else what is wrong with it. */
static const char *string_fault(const json_t *json, int64_t max, bool text)
{
    if (!json_is_string(json))
        return "is not a string";
    size_t len = json_string_length(json);
    const char *s = json_string_value(json);
    if (len > (size_t)max)
        return "is too long";
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 || c == 0x7f) && !(text && (c == '\n' || c == '\t')))
            return "contains a control character";
    }
    return NULL;
}

static const char *decode_string(const struct wire_field *f, const json_t *json, void *p)
{
    const char *fault = string_fault(json, f->max, f->text);
    if (fault)
        return fault;
    const char *s = json_string_value(json);
    struct ref uuid;
    if (f->kind == WIRE_UUID || (f->kind == WIRE_UUID_OPTIONAL && *s)) {
        char plain[UUID_TEXT_SIZE];
        if (!uuid_parse(s, &uuid) || !streq(uuid_format(uuid, plain), s))
            return "is not a uuid in lower case";
    }
    str_assign(p, s);
    return NULL;
}

static const char *decode_map(const json_t *json, bool text, const struct str_map **map)
{
    if (!json_is_object(json))
        return "is not an object";
    if (json_object_size(json) > 256)
        return "has too many members";
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)json, key, item)
    {
        const char *fault = string_fault(item, 4096, text);
        if (fault)
            return fault;
        str_map_put(map, key, json_string_value(item));
    }
    return NULL;
}

static const char *decode_scalar(const struct wire_field *f, const json_t *json, void *p)
{
    switch (f->kind) {
    case WIRE_INT: {
        if (!json_is_integer(json))
            return "is not a whole number";
        int64_t n = json_integer_value(json);
        if (n < f->min || n > f->max)
            return "is out of range";
        *(int64_t *)p = n;
        return NULL;
    }
    case WIRE_BOOL:
        if (!json_is_boolean(json))
            return "is not a boolean";
        *(bool *)p = json_is_true(json);
        return NULL;
    case WIRE_FLOAT:
        if (!json_is_number(json))
            return "is not a number";
        *(double *)p = json_number_value(json);
        return NULL;
    case WIRE_ENUM:
        if (!json_is_string(json))
            return "is not a string";
        for (int i = 0; i < f->en->count; i++)
            if (streq(f->en->words[i], json_string_value(json))) {
                *(int *)p = i;
                return NULL;
            }
        return "is not one of the allowed words";
    case WIRE_MAP:
        return decode_map(json, f->text, p);
    default:
        return decode_string(f, json, p);
    }
}

static int decode_list(const struct wire_struct *desc, const struct wire_field *f, const json_t *json,
                       void *value, char *complaint)
{
    if (!json_is_array(json))
        return complain(complaint, desc, f, "is not an array");
    size_t n = json_array_size(json);
    if (n > (size_t)f->max)
        return complain(complaint, desc, f, "has too many items");
    if (n == 0)
        return 0;
    size_t item_size = f->kind == WIRE_LIST ? f->st->size : sizeof(char *);
    char *items = xcalloc(n, item_size);
    *(char **)at(value, f->offset) = items;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(json, i);
        if (f->kind == WIRE_LIST) {
            if (wire_decode(f->st, item, items + i * item_size, complaint) < 0)
                return -1;
        } else {
            const char *fault = string_fault(item, 4096, false);
            if (fault)
                return complain(complaint, desc, f, fault);
            ((const char **)(void *)items)[i] = str_new(json_string_value(item));
        }
        *count_at(f, value) = i + 1;
    }
    return 0;
}

static int decode_field(const struct wire_struct *desc, const struct wire_field *f, const json_t *json,
                        void *value, char *complaint)
{
    const json_t *member = json_object_get(json, f->name);
    if (!member)
        return f->optional ? 0 : complain(complaint, desc, f, "is missing");
    if (f->kind == WIRE_LIST || f->kind == WIRE_STRINGS)
        return decode_list(desc, f, member, value, complaint);
    if (f->kind == WIRE_STRUCT) {
        void *p = at(value, f->offset);
        wire_done(f->st, p);
        return wire_decode(f->st, member, p, complaint);
    }
    const char *fault = decode_scalar(f, member, at(value, f->offset));
    return fault ? complain(complaint, desc, f, fault) : 0;
}

int wire_decode(const struct wire_struct *desc, const json_t *json, void *value,
                char complaint[static WIRE_COMPLAINT_SIZE])
{
    if (!json_is_object(json)) {
        snprintf(complaint, WIRE_COMPLAINT_SIZE, "%s is not an object", desc->name);
        return -1;
    }
    wire_init(desc, value);
    for (int i = 0; i < desc->field_count; i++)
        if (decode_field(desc, &desc->fields[i], json, value, complaint) < 0) {
            wire_done(desc, value);
            return -1;
        }
    return 0;
}
