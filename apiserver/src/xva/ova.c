/* Reading and writing ova.xml. */
#include "ova.h"

#include "../codec/xml_request.h"
#include <base/clock.h>
#include <base/json.h>
#include <base/mem.h>
#include <base/xml.h>
#include <ctype.h>
#include <model/errors.h>
#include <stdarg.h>

#define OBJECTS_MAX 100000
#define VERSION_KNOWN 2 /* export_vsn */

/* ---- reading ---- */

static int wrong(struct api_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int wrong(struct api_err *err, const char *format, ...)
{
    AUTO_BUF struct buf text = BUF_INIT;
    va_list ap;
    va_start(ap, format);
    buf_vprintf(&text, format, ap);
    va_end(ap);
    return err_import_error(err, text.data);
}

/* The document is one <value>: read as the only parameter of a call. */
static json_t *read_value(const char *text, size_t len, struct api_err *err)
{
    static const char before[] = "<methodCall><methodName>ova</methodName><params><param>",
                      after[] = "</param></params></methodCall>";
    AUTO_BUF struct buf whole = BUF_INIT;
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request request;
    while (len > 0 && isspace((unsigned char)*text)) {
        text++;
        len--;
    }
    if (len > 5 && memcmp(text, "<?xml", 5) == 0) {
        const char *end = memmem(text, len, "?>", 2);
        if (end) {
            len -= (size_t)(end + 2 - text);
            text = end + 2;
        }
    }
    buf_add(&whole, before, sizeof(before) - 1);
    buf_add(&whole, text, len);
    buf_add(&whole, after, sizeof(after) - 1);
    if (xml_request_parse(whole.data, whole.len, &request, error) < 0) {
        wrong(err, "ova.xml is not what it should be: %s", error);
        return NULL;
    }
    json_t *value = NULL;
    if (request.damaged || json_array_size(request.params) != 1)
        wrong(err, "ova.xml is not one XML-RPC value in UTF-8");
    else
        value = json_incref(json_array_get(request.params, 0));
    xml_request_done(&request);
    return value;
}

/* Numbers come as text or as numbers. */
static bool number_of(const json_t *json, long long *out)
{
    char *end;
    if (json_is_integer(json)) {
        *out = json_integer_value(json);
        return true;
    }
    const char *text = json_string_value(json);
    *out = text ? strtoll(text, &end, 10) : 0;
    return text && *text && !*end;
}

static int check_version(const json_t *document, struct api_err *err)
{
    const json_t *version = json_object_get(document, "version");
    long long number;
    if (!json_is_object(version))
        return wrong(err, "ova.xml does not tell its version");
    if (!number_of(json_object_get(version, "export_vsn"), &number))
        number = 0; /* the first one said nothing */
    return number > VERSION_KNOWN || number < 0 ? err_import_incompatible_version(err) : 0;
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp((*(const struct ova_object *const *)a)->id, (*(const struct ova_object *const *)b)->id);
}

static int read_objects(struct ova *ova, struct api_err *err)
{
    json_t *objects = json_object_get(ova->document, "objects");
    size_t count = json_array_size(objects);
    if (!json_is_array(objects))
        return wrong(err, "ova.xml has no objects");
    if (count > OBJECTS_MAX)
        return wrong(err, "ova.xml has more than %d objects", OBJECTS_MAX);
    ova->objects = xcalloc(count + 1, sizeof(*ova->objects));
    ova->by_id = xcalloc(count + 1, sizeof(*ova->by_id));
    for (; ova->count < count; ova->count++) {
        json_t *object = json_array_get(objects, ova->count);
        const char *id = json_string_value(json_object_get(object, "id"));
        const char *cls = json_string_value(json_object_get(object, "class"));
        json_t *record = json_object_get(object, "snapshot");
        if (!id || !*id || !cls || !json_is_object(record))
            return wrong(err, "object %zu of ova.xml lacks its class, id or snapshot", ova->count);
        ova->objects[ova->count] = (struct ova_object){id, class_find(cls), record};
        ova->by_id[ova->count] = &ova->objects[ova->count];
    }
    qsort(ova->by_id, count, sizeof(*ova->by_id), compare_ids);
    for (size_t i = 1; i < count; i++)
        if (streq(ova->by_id[i - 1]->id, ova->by_id[i]->id))
            return wrong(err, "ova.xml has two objects with the id %.60s", ova->by_id[i]->id);
    return 0;
}

int ova_parse(const char *text, size_t len, struct ova *out, struct api_err *err)
{
    struct ova ova = OVA_INIT;
    ova.document = read_value(text, len, err);
    if (!ova.document)
        return -1;
    if (check_version(ova.document, err) < 0 || read_objects(&ova, err) < 0) {
        ova_done(&ova);
        return -1;
    }
    *out = ova;
    return 0;
}

void ova_done(struct ova *ova)
{
    json_decref(ova->document);
    free(ova->objects);
    free(ova->by_id);
    *ova = OVA_INIT;
}

const struct ova_object *ova_find(const struct ova *ova, const char *id)
{
    const struct ova_object key = {.id = id}, *key_at = &key;
    const struct ova_object *const *found =
        ova->count ? bsearch(&key_at, ova->by_id, ova->count, sizeof(*ova->by_id), compare_ids) : NULL;
    return found ? *found : NULL;
}

const char *ova_text(const struct ova_object *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object->record, field));
    return text ? text : "";
}

bool ova_bool(const struct ova_object *object, const char *field)
{
    return json_is_true(json_object_get(object->record, field));
}

static bool holds_references(const struct type *type)
{
    if (type->rep == REP_REF || type->rep == REP_REF_SET)
        return true;
    return type->kind == TYPE_MAP && (type->key->kind == TYPE_REF || type->item->kind == TYPE_REF);
}

static bool is_taken(const struct field_desc *field, const char *const *more)
{
    if ((field->flags & (FIELD_INTERNAL | FIELD_DERIVED | FIELD_REMOVED)) || holds_references(field->type) ||
        field == field->cls->uuid)
        return false;
    for (size_t i = 0; more && more[i]; i++)
        if (streq(field->name, more[i]))
            return true;
    return field->qualifier != FIELD_DYNAMIC_RO;
}

int ova_fill(const struct ova_object *object, struct row *row, const char *const *more, struct api_err *err)
{
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        json_t *value = is_taken(field, more) ? json_object_get(object->record, field->name) : NULL;
        char error[CELL_ERROR_SIZE];
        union cell cell;
        if (!value)
            continue; /* a former version, or a later one, did not know it */
        if (!cell_read_json(field->type, value, &cell, error))
            return wrong(err, "%.60s: %s.%s: %s", object->id, row->cls->name, field->name, error);
        union cell *slot = row_cell_mut(row, field);
        cell_done(field->type, slot);
        cell_copy(field->type, slot, &cell);
        cell_done(field->type, &cell);
    }
    return 0;
}

/* ---- writing ---- */

static void item_done(struct ova_item *item)
{
    row_unref(item->row);
    str_unref(item->contents);
}

void ova_list_done(struct ova_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        item_done(&list->items[i]);
    free(list->items);
    *list = OVA_LIST_INIT;
}

static void add(struct ova_list *list, const struct row *row, const char *contents)
{
    if ((list->count & (list->count - 1)) == 0)
        list->items = xreallocarray(list->items, list->count ? list->count * 2 : 1, sizeof(*list->items));
    list->items[list->count] = (struct ova_item){row_ref(row), list->count, contents};
    list->count++;
}

void ova_list_add(struct ova_list *list, const struct row *row)
{
    add(list, row, NULL);
}

void ova_list_add_contents(struct ova_list *list, const struct row *row, const char *contents)
{
    add(list, row, str_new(contents));
}

static int compare_refs(const void *a, const void *b)
{
    const struct ova_item *x = a, *y = b;
    int order = ref_cmp(x->row->ref, y->row->ref);
    return order ? order : x->number < y->number ? -1 : x->number > y->number;
}
static int compare_numbers(const void *a, const void *b)
{
    size_t x = ((const struct ova_item *)a)->number, y = ((const struct ova_item *)b)->number;
    return x < y ? -1 : x > y;
}
static int compare_ref(const void *key, const void *item)
{
    return ref_cmp(*(const struct ref *)key, ((const struct ova_item *)item)->row->ref);
}

static void seal(struct ova_list *list)
{
    size_t kept = 0;
    if (list->sealed || list->count == 0)
        return;
    qsort(list->items, list->count, sizeof(*list->items), compare_refs);
    for (size_t i = 0; i < list->count; i++) {
        if (kept > 0 && ref_eq(list->items[i].row->ref, list->items[kept - 1].row->ref))
            item_done(&list->items[i]);
        else
            list->items[kept++] = list->items[i];
    }
    list->count = kept;
    qsort(list->items, list->count, sizeof(*list->items), compare_numbers);
    for (size_t i = 0; i < list->count; i++)
        list->items[i].number = i;
    qsort(list->items, list->count, sizeof(*list->items), compare_refs);
    list->sealed = true;
}

bool ova_list_find(struct ova_list *list, struct ref ref, size_t *number)
{
    seal(list);
    const struct ova_item *item =
        list->count ? bsearch(&ref, list->items, list->count, sizeof(*list->items), compare_ref) : NULL;
    if (item)
        *number = item->number;
    return item != NULL;
}

static void write_ref(struct ova_list *list, struct ref ref, struct buf *out)
{
    size_t number;
    if (ova_list_find(list, ref, &number))
        buf_printf(out, "<value>Ref:%zu</value>", number);
    else
        buf_add_str(out, "<value>" REF_NULL_TEXT "</value>");
}

static void write_ref_set(struct ova_list *list, const struct ref_set *set, struct buf *out)
{
    size_t number;
    buf_add_str(out, "<value><array><data>");
    for (size_t i = 0; set && i < set->count; i++)
        if (ova_list_find(list, set->items[i], &number))
            write_ref(list, set->items[i], out);
    buf_add_str(out, "</data></array></value>");
}

static void write_member(const char *name, struct buf *out)
{
    buf_add_str(out, "<member><name>");
    xml_write_text(out, name);
    buf_add_str(out, "</name>");
}

static void write_text(const char *name, const char *text, struct buf *out)
{
    write_member(name, out);
    buf_add_str(out, "<value>");
    xml_write_text(out, text);
    buf_add_str(out, "</value></member>");
}

static void write_row(struct ova_list *list, const struct ova_item *item, struct buf *out)
{
    const struct row *row = item->row;
    buf_add_str(out, "<value><struct>");
    for (size_t i = 0; i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        const union cell *cell = row_cell(row, field);
        if (field->flags & (FIELD_INTERNAL | FIELD_SECRET))
            continue;
        write_member(field->name, out);
        if (field->type->rep == REP_REF)
            write_ref(list, cell->ref, out);
        else if (field->type->rep == REP_REF_SET)
            write_ref_set(list, cell->ref_set, out);
        else if (holds_references(field->type))
            buf_add_str(out, "<value><struct></struct></value>");
        else
            cell_write_xml(field->type, cell, out);
        buf_add_str(out, "</member>");
    }
    if (item->contents)
        write_text("contents", item->contents, out);
    buf_add_str(out, "</struct></value>");
}

static void write_version(const struct str_map *software, const char *hostname, struct buf *out)
{
    static const char *const keys[] = {"product_version", "product_brand", "build_number"};
    char date[DATETIME_TEXT_SIZE];
    write_member("version", out);
    buf_add_str(out, "<value><struct>");
    write_text("hostname", hostname, out);
    write_text("date", datetime_format(clock_unix_seconds(), date), out);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *text = str_map_get(software, keys[i]);
        write_text(keys[i], text ? text : "", out);
    }
    write_text("xapi_major", "2", out);
    write_text("xapi_minor", "21", out);
    write_text("export_vsn", "2", out);
    buf_add_str(out, "</struct></value></member>");
}

void ova_write(struct ova_list *list, const struct str_map *software, const char *hostname, struct buf *out)
{
    seal(list);
    AUTO_FREE struct ova_item *order = xcalloc(list->count + 1, sizeof(*order));
    memcpy(order, list->items, list->count * sizeof(*order));
    qsort(order, list->count, sizeof(*order), compare_numbers);
    buf_add_str(out, "<value><struct>");
    write_version(software, hostname, out);
    write_member("objects", out);
    buf_add_str(out, "<value><array><data>");
    for (size_t i = 0; i < list->count; i++) {
        buf_add_str(out, "<value><struct>");
        write_text("class", order[i].row->cls->name, out);
        write_member("id", out);
        buf_printf(out, "<value>Ref:%zu</value></member>", order[i].number);
        write_member("snapshot", out);
        write_row(list, &order[i], out);
        buf_add_str(out, "</member></struct></value>");
    }
    buf_add_str(out, "</data></array></value></member></struct></value>");
}
