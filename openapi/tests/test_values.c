/* Values by representation: reading, writing in each form, comparison; rows and their fragments; look-ups. */
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <math.h>
#include <model/rows.h>
#include <pthread.h>

static const char *const colour_values[] = {"red", "Dark-Green", "blue"};
static const struct enum_desc colours = {"colour", colour_values, 3};

static const struct type t_string = {.kind = TYPE_STRING, .rep = REP_STRING, .name = "string"};
static const struct type t_bool = {.kind = TYPE_BOOL, .rep = REP_BOOL, .name = "bool"};
static const struct type t_int = {.kind = TYPE_INT, .rep = REP_INT, .name = "int"};
static const struct type t_date = {.kind = TYPE_DATETIME, .rep = REP_INT, .name = "datetime"};
static const struct type t_float = {.kind = TYPE_FLOAT, .rep = REP_FLOAT, .name = "float"};
static const struct type t_void = {.kind = TYPE_VOID, .rep = REP_VOID, .name = "void"};
static const struct type t_enum = {.kind = TYPE_ENUM, .rep = REP_ENUM, .name = "enum colour", .en = &colours};
static const struct type t_ref = {.kind = TYPE_REF, .rep = REP_REF, .name = "VM ref", .cls = CLASS_VM};
static const struct type t_strings = {
    .kind = TYPE_SET, .rep = REP_STR_SET, .name = "string set", .item = &t_string};
static const struct type t_ints = {.kind = TYPE_SET, .rep = REP_STR_SET, .name = "int set", .item = &t_int};
static const struct type t_refs = {
    .kind = TYPE_SET, .rep = REP_REF_SET, .name = "VM ref set", .item = &t_ref};
static const struct type t_enums = {
    .kind = TYPE_SET, .rep = REP_ENUM_SET, .name = "enum colour set", .item = &t_enum};
#define MAP(key_, item_, rep_, name_)                                                                        \
    {                                                                                                        \
        .kind = TYPE_MAP, .rep = rep_, .name = name_, .key = &key_, .item = &item_                           \
    }
static const struct type t_map = MAP(t_string, t_string, REP_STR_MAP, "(string -> string) map");
static const struct type t_counts = MAP(t_int, t_float, REP_STR_MAP, "(int -> float) map");
static const struct type t_marks = MAP(t_string, t_enum, REP_STR_MAP, "(string -> enum colour) map");
static const struct type t_flags = MAP(t_ref, t_bool, REP_STR_MAP, "(VM ref -> bool) map");
static const struct type t_dates = MAP(t_string, t_date, REP_STR_MAP, "(string -> datetime) map");
static const struct type t_nested = MAP(t_int, t_strings, REP_JSON, "(int -> string set) map");
static const struct type t_record = {
    .kind = TYPE_RECORD, .rep = REP_JSON, .name = "VBD record", .cls = CLASS_VBD};
static const struct type t_records = {
    .kind = TYPE_SET, .rep = REP_JSON, .name = "VBD record set", .item = &t_record};
static const struct type t_option = {
    .kind = TYPE_OPTION, .rep = REP_JSON, .name = "int option", .item = &t_int};

#define REF_A "OpaqueRef:11111111-2222-4333-8444-555555555555"
#define UTF8 "\xc3\xa4\xe2\x82\xac"

/* What is read, and what is written from it. XML without the <value> tags around it. */
static const struct form {
    const struct type *type;
    const char *in, *json, *xml, *db;
} forms[] = {
    {&t_string, "\"a<&>\\\"'" UTF8 "\"", NULL, "a&lt;&amp;&gt;&quot;'" UTF8, "a<&>\"'" UTF8},
    {&t_string, "\"\"", NULL, "", ""},
    {&t_string, "\"a\\u0001\\tb\"", NULL, "a\tb", "a\x01\tb"},
    {&t_bool, "true", NULL, "<boolean>1</boolean>", "true"},
    {&t_bool, "false", NULL, "<boolean>0</boolean>", "false"},
    {&t_int, "-9223372036854775808", NULL, "-9223372036854775808", "-9223372036854775808"},
    {&t_int, "\"42\"", "42", "42", "42"},
    {&t_int, "3.0", "3", "3", "3"},
    {&t_date, "\"2025-03-19T05:16:24+01:00\"", "\"20250319T04:16:24Z\"",
     "<dateTime.iso8601>20250319T04:16:24Z</dateTime.iso8601>", "20250319T04:16:24Z"},
    {&t_float, "0.1", NULL, "<double>0.1</double>", "0.1"},
    {&t_float, "12", "12.0", "<double>12</double>", "12.0"},
    {&t_float, "\"1e300\"", "1e+300", "<double>1e+300</double>", "1e+300"},
    {&t_float, "\"nan\"", "NaN", "<double>nan</double>", "NaN"},
    {&t_float, "\"-inf\"", "-Infinity", "<double>-inf</double>", "-Infinity"},
    {&t_enum, "\"DARK-green\"", "\"Dark-Green\"", "Dark-Green", "Dark-Green"},
    {&t_ref, "\"" REF_A "\"", NULL, REF_A, REF_A},
    {&t_ref, "\"\"", "\"OpaqueRef:NULL\"", "OpaqueRef:NULL", "OpaqueRef:NULL"},
    {&t_strings, "[]", NULL, "<array><data></data></array>", "()"},
    {&t_strings, "[\"b\",\"a'\\\\\",\"b\"]", "[\"a'\\\\\",\"b\"]",
     "<array><data><value>a'\\</value><value>b</value></data></array>", "('a\\'\\\\' 'b')"},
    {&t_ints, "[2,\"1\"]", "[1,2]", "<array><data><value>1</value><value>2</value></data></array>",
     "('1' '2')"},
    {&t_refs, "[\"" REF_A "\",\"OpaqueRef:NULL\"]", "[\"" REF_A "\"]",
     "<array><data><value>" REF_A "</value></data></array>", "('" REF_A "')"},
    {&t_enums, "[\"blue\",\"RED\",\"blue\"]", "[\"red\",\"blue\"]",
     "<array><data><value>red</value><value>blue</value></data></array>", "('red' 'blue')"},
    {&t_map, "{\"k<\":\"v\",\"a\":\"\"}", "{\"a\":\"\",\"k<\":\"v\"}",
     "<struct><member><name>a</name><value></value></member><member><name>k&lt;</name><value>v</value>"
     "</member></struct>",
     "(('a' '') ('k<' 'v'))"},
    {&t_map, "{}", NULL, "<struct></struct>", "()"},
    {&t_counts, "{\"1\":0.5,\"2\":3}", "{\"1\":0.5,\"2\":3.0}",
     "<struct><member><name>1</name><value><double>0.5</double></value></member><member><name>2</name>"
     "<value><double>3</double></value></member></struct>",
     "(('1' '0.5') ('2' '3.0'))"},
    {&t_marks, "{\"x\":\"RED\"}", "{\"x\":\"red\"}",
     "<struct><member><name>x</name><value>red</value></member></struct>", "(('x' 'red'))"},
    {&t_flags, "{\"" REF_A "\":true}", NULL,
     "<struct><member><name>" REF_A "</name><value><boolean>1</boolean></value></member></struct>",
     "(('" REF_A "' 'true'))"},
    {&t_dates, "{\"t\":\"19700101T00:00:00Z\"}", NULL,
     "<struct><member><name>t</name><value><dateTime.iso8601>19700101T00:00:00Z</dateTime.iso8601></value>"
     "</member></struct>",
     "(('t' '19700101T00:00:00Z'))"},
    {&t_nested, "{\"1\":[\"x\",\"y\"]}", NULL,
     "<struct><member><name>1</name><value><array><data><value>x</value><value>y</value></data></array>"
     "</value></member></struct>",
     "{\"1\":[\"x\",\"y\"]}"},
    {&t_record, "{\"bootable\":false,\"unknown\":1,\"mode\":\"ro\",\"status_code\":\"7\",\"reserved\":true}",
     "{\"bootable\":false,\"mode\":\"RO\",\"status_code\":7}",
     "<struct><member><name>bootable</name><value><boolean>0</boolean></value></member><member>"
     "<name>mode</name><value>RO</value></member><member><name>status_code</name><value>7</value></member>"
     "</struct>",
     NULL},
    {&t_records, "[{\"device\":\"xvda\"}]", NULL,
     "<array><data><value><struct><member><name>device</name><value>xvda</value></member></struct></value>"
     "</data></array>",
     NULL},
    {&t_option, "[3]", NULL, "<array><data><value>3</value></data></array>", NULL},
    {&t_option, "[]", NULL, "<array><data></data></array>", NULL},
};

static json_t *parse(const char *text)
{
    struct json_error error;
    json_t *json = json_parse(text, strlen(text), &error);
    cr_assert_not_null(json, "%s: %s", text, error.text);
    return json;
}

Test(values, are_read_leniently_and_written_in_one_form)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        const struct form *form = &forms[i];
        AUTO_JSON json_t *json = parse(form->in);
        union cell cell, copy;
        char error[CELL_ERROR_SIZE];
        cr_assert(cell_read_json(form->type, json, &cell, error), "%s: %s", form->in, error);
        AUTO_BUF struct buf text = BUF_INIT;
        cell_write_json(form->type, &cell, &text);
        cr_assert_str_eq(text.data, form->json ? form->json : form->in);
        buf_clear(&text);
        cell_write_xml(form->type, &cell, &text);
        AUTO_FREE char *xml = xasprintf("<value>%s</value>", form->xml);
        cr_assert_str_eq(text.data, xml);
        if (form->db) {
            buf_clear(&text);
            buf_add_str(&text, "");
            cell_write_db(form->type, &cell, &text);
            cr_assert_str_eq(text.data ? text.data : "", form->db);
        }
        cell_copy(form->type, &copy, &cell);
        cr_assert(cell_equal(form->type, &cell, &copy));
        cell_done(form->type, &copy);
        cell_init(form->type, &copy);
        AUTO_BUF struct buf empty = BUF_INIT;
        cell_write_json(form->type, &copy, &empty);
        cell_write_xml(form->type, &copy, &empty);
        cell_done(form->type, &copy);
        cell_done(form->type, &cell);
    }
}

Test(values, written_as_json_are_read_back_equal)
{
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        if (strstr(forms[i].in, "nan") || strstr(forms[i].in, "inf"))
            continue; /* no JSON has them */
        AUTO_JSON json_t *json = parse(forms[i].in);
        union cell cell, again;
        char error[CELL_ERROR_SIZE];
        cr_assert(cell_read_json(forms[i].type, json, &cell, error));
        AUTO_BUF struct buf text = BUF_INIT;
        cell_write_json(forms[i].type, &cell, &text);
        AUTO_JSON json_t *written = parse(text.data);
        cr_assert(cell_read_json(forms[i].type, written, &again, error), "%s: %s", text.data, error);
        cr_assert(cell_equal(forms[i].type, &cell, &again), "%s", text.data);
        cell_done(forms[i].type, &cell);
        cell_done(forms[i].type, &again);
    }
}

static const struct refusal {
    const struct type *type;
    const char *in, *error;
} refusals[] = {
    {&t_bool, "\"true\"", "Expected bool, got 'true'"},
    {&t_bool, "1", "Expected bool, got '1'"},
    {&t_int, "\"12x\"", "Expected int, got '12x'"},
    {&t_int, "\"\"", "Expected int, got ''"},
    {&t_int, "\" 1\"", "Expected int, got ' 1'"},
    {&t_int, "\"9223372036854775808\"", "Expected int, got '9223372036854775808'"},
    {&t_int, "1.5", "Expected int, got '1.5'"},
    {&t_int, "true", "Expected int, got 'true'"},
    {&t_float, "\"\"", "Expected float, got ''"},
    {&t_string, "1", "Expected string, got '1'"},
    {&t_string, "null", "Expected string, got 'null'"},
    {&t_string, "{}", "Expected string, got '{...}'"},
    {&t_date, "\"yesterday\"", "Expected datetime, got 'yesterday'"},
    {&t_enum, "\"pink\"", "Expected enum colour, got 'pink'"},
    {&t_enum, "0", "Expected enum colour, got '0'"},
    {&t_ref, "\"x\"", "Expected VM ref, got 'x'"},
    {&t_strings, "{}", "Expected string set, got '{...}'"},
    {&t_strings, "[\"a\",1]", "Expected string, got '1'"},
    {&t_refs, "[\"" REF_A "\",\"x\"]", "Expected VM ref, got 'x'"},
    {&t_enums, "[\"red\",7]", "Expected enum colour, got '7'"},
    {&t_map, "[]", "Expected (string -> string) map, got '[...]'"},
    {&t_map, "{\"a\":\"b\",\"c\":1}", "Expected string, got '1'"},
    {&t_counts, "{\"x\":1}", "Expected int as a key, got 'x'"},
    {&t_nested, "{\"1\":[\"x\",{}]}", "Expected string, got '{...}'"},
    {&t_nested, "{\"1x\":[]}", "Expected int as a key"},
    {&t_record, "{\"mode\":\"sideways\"}", "Expected enum vbd_mode, got 'sideways'"},
    {&t_record, "[]", "Expected VBD record, got '[...]'"},
    {&t_option, "[1,2]", "Expected int option, got '[...]'"},
    {&t_enum, "\"12345678901234567890123456789012345678901234567" UTF8 "\"",
     "Expected enum colour, got '12345678901234567890123456789012345678901234567...'"},
};

Test(values, of_another_type_are_refused_with_a_reason)
{
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        AUTO_JSON json_t *json = parse(refusals[i].in);
        union cell cell;
        char error[CELL_ERROR_SIZE] = "";
        cr_assert(!cell_read_json(refusals[i].type, json, &cell, error), "%s", refusals[i].in);
        cr_assert_str_eq(error, refusals[i].error);
    }
}

Test(values, scalars_as_canonical_text)
{
    static const struct {
        const struct type *type;
        const char *in, *out; /* NULL: refused */
    } texts[] = {
        {&t_bool, "true", "true"},
        {&t_bool, "1", NULL},
        {&t_int, "+7", "7"},
        {&t_int, "0x1", NULL},
        {&t_float, "1e1", "10.0"},
        {&t_enum, "BLUE", "blue"},
        {&t_ref, "", "OpaqueRef:NULL"},
        {&t_string, "a b", "a b"},
        {&t_strings, "a", NULL},
        {&t_date, "20250319T04:16:24Z", "20250319T04:16:24Z"},
        {&t_void, "", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        union cell cell;
        cr_assert_eq(cell_read_text(texts[i].type, texts[i].in, &cell), texts[i].out != NULL);
        if (!texts[i].out)
            continue;
        AUTO_BUF struct buf text = BUF_INIT;
        cell_write_text(texts[i].type, &cell, &text);
        cr_assert_str_eq(text.data, texts[i].out);
        cell_done(texts[i].type, &cell);
    }
}

Test(values, void_is_an_empty_string)
{
    union cell cell;
    AUTO_BUF struct buf text = BUF_INIT;
    cell_init(&t_void, &cell);
    cell_write_json(&t_void, &cell, &text);
    cell_write_xml(&t_void, &cell, &text);
    cr_assert_str_eq(text.data, "\"\"<value></value>");
}

/* ---- rows ---- */

Test(rows, a_record_has_every_public_field_in_the_order_of_declaration)
{
    for (uint16_t i = 0; i < model_class_count; i++) {
        const struct class_desc *cls = &model_classes[i];
        if (!cls->row_size)
            continue;
        struct row *row = row_new(cls, ref_new());
        const struct fragment *text = row_json(row);
        cr_assert_eq(text, row_json(row), "made once");
        AUTO_JSON json_t *record = parse(text->text);
        void *at = json_object_iter(record);
        for (uint16_t f = 0; f < cls->field_count; f++) {
            if (cls->fields[f].flags & FIELD_INTERNAL)
                continue;
            cr_assert_str_eq(json_object_iter_key(at), cls->fields[f].name);
            at = json_object_iter_next(record, at);
        }
        cr_assert_null(at);
        cr_assert_eq(strncmp(row_xml(row)->text, "<value><struct>", 15), 0);
        row_unref(row);
    }
}

Test(rows, a_copy_is_apart_from_the_original)
{
    struct row *row = row_new(CLASS_VM, ref_new());
    struct vm_row *vm = vm_row_mut(row);
    str_assign(&vm->name_label, "one");
    str_map_put(&vm->other_config, "k", "v");
    row->generation = 5;
    row->created = 4;
    const struct fragment *before = row_json(row);
    struct row *copy = row_copy(row);
    str_assign(&vm_row_mut(copy)->name_label, "two");
    str_map_put(&vm_row_mut(copy)->other_config, "k", "w");
    cr_assert_str_eq(vm->name_label, "one");
    cr_assert_str_eq(str_map_get(vm->other_config, "k"), "v");
    cr_assert_eq(copy->generation, 5);
    cr_assert_eq(copy->created, 4);
    cr_assert(ref_eq(copy->ref, row->ref));
    cr_assert_neq(row_json(copy), before);
    row_unref(row);
    cr_assert_not_null(strstr(row_json(copy)->text, "\"name_label\":\"two\""));
    row_unref(copy);
}

static void *make_fragment(void *row)
{
    return (void *)(uintptr_t)row_json(row);
}

Test(rows, all_threads_get_the_same_fragment)
{
    for (int round = 0; round < 50; round++) {
        struct row *row = row_new(CLASS_VM, ref_new());
        pthread_t threads[4];
        void *made[4];
        for (int i = 0; i < 4; i++)
            pthread_create(&threads[i], NULL, make_fragment, row);
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], &made[i]);
        for (int i = 0; i < 4; i++)
            cr_assert_eq(made[i], row_json(row));
        row_unref(row);
    }
}

/* ---- look-ups ---- */

Test(find, every_class_and_field_and_nothing_else)
{
    for (uint16_t i = 0; i < model_class_count; i++) {
        cr_assert_eq(class_find(model_classes[i].name), &model_classes[i]);
        for (uint16_t f = 0; f < model_classes[i].field_count; f++)
            cr_assert_eq(field_find(&model_classes[i], model_classes[i].fields[f].name),
                         &model_classes[i].fields[f]);
    }
    cr_assert_null(class_find("vm"));
    cr_assert_null(class_find(""));
    cr_assert_null(field_find(CLASS_VM, "Name_label"));
    cr_assert_null(field_find(CLASS_VM, "virtual_size"));
    struct class_desc other = *CLASS_VM; /* a table that is not the model's */
    cr_assert_eq(field_find(&other, "name_label"), FIELD_VM_name_label);
    cr_assert_null(field_find(&other, "x"));
}

Test(find, enums_in_any_case)
{
    cr_assert_eq(enum_find(&colours, "RED"), 0);
    cr_assert_eq(enum_find(&colours, "dark-green"), 1);
    cr_assert_eq(enum_find(&colours, "blu"), -1);
    cr_assert_eq(enum_find(&colours, ""), -1);
}

Test(values, written_for_filters_are_read_back_equal)
{
    static const struct {
        const struct type *type;
        const char *text;
    } bad[] = {
        {&t_strings, ""},           {&t_strings, "('a'"},         {&t_strings, "('a)"},
        {&t_strings, "('a' 'b') "}, {&t_strings, "('a\\"},        {&t_strings, "(a)"},
        {&t_strings, "('a''b')"},   {&t_ints, "('x')"},           {&t_enums, "('green')"},
        {&t_map, "('a' 'b')"},      {&t_map, "(('a'))"},          {&t_marks, "(('a' 'x'))"},
        {&t_refs, "('nothing')"},   {&t_nested, "{\"1\":\"x\"}"}, {&t_nested, "{"},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        AUTO_JSON json_t *json = parse(forms[i].in);
        union cell cell, again;
        char error[CELL_ERROR_SIZE];
        AUTO_BUF struct buf text = BUF_INIT;
        if (!forms[i].db)
            continue;
        cr_assert(cell_read_json(forms[i].type, json, &cell, error));
        cell_write_db(forms[i].type, &cell, &text);
        cr_assert(cell_read_db(forms[i].type, text.len ? text.data : "", &again), "%s", text.data);
        cr_assert(strstr(forms[i].in, "nan") || cell_equal(forms[i].type, &cell, &again), "%s", text.data);
        cell_done(forms[i].type, &again);
        cell_done(forms[i].type, &cell);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        union cell cell;
        cr_expect_not(cell_read_db(bad[i].type, bad[i].text, &cell), "%s", bad[i].text);
    }
}
