/* JSON to typed values: each type in its strict and its lenient form, records of constructors, arguments. */
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/decode.h>
#include <model/args.h>
#include <model/errors.h>
#include <model/rows.h>
#include <stdio.h>

static const struct type *type_of(const char *method, size_t param)
{
    const struct method_desc *m = method_find(method, strlen(method));
    cr_assert_not_null(m, "%s", method);
    cr_assert_lt(param, m->param_count);
    return m->params[param].type;
}

static json_t *parse(const char *text)
{
    struct json_error error;
    json_t *value = json_parse(text, strlen(text), &error);
    cr_assert_not_null(value, "%s: %s", text, error.text);
    return value;
}

/* The decoded value as JSON again, or "!CODE first-parameter". The caller frees. */
static char *decoded(const struct type *type, const char *text, enum decode_mode mode)
{
    AUTO_JSON json_t *json = parse(text);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    union cell cell;
    if (decode_cell(type, json, mode, &cell, &err) < 0)
        return xasprintf("!%s %s", err.code, err.param_count ? err.params[0] : "");
    struct buf out = BUF_INIT;
    cell_write_json(type, &cell, &out);
    cell_done(type, &cell);
    return buf_take(&out);
}

Test(decode, each_type)
{
    static const struct {
        const char *method;
        size_t param;
        const char *text;
        const char *strict, *lenient; /* NULL: the same; "!": INTERNAL_ERROR */
    } table[] = {
        {"pool.set_name_label", 1, "\"x\"", "\"x\"", NULL},
        {"pool.set_name_label", 1, "\"\"", "\"\"", NULL},
        {"pool.set_name_label", 1, "1", "!", NULL},
        {"pool.set_name_label", 1, "null", "!", NULL},
        {"pool.set_name_label", 1, "[]", "!", NULL},
        {"network.set_MTU", 1, "1500", "1500", NULL},
        {"network.set_MTU", 1, "-9223372036854775808", "-9223372036854775808", NULL},
        {"network.set_MTU", 1, "1500.0", "1500", NULL},
        {"network.set_MTU", 1, "1e3", "1000", NULL},
        {"network.set_MTU", 1, "1500.5", "!", NULL},
        {"network.set_MTU", 1, "1e300", "!", NULL},
        {"network.set_MTU", 1, "9007199254740994.0", "!", NULL},
        {"network.set_MTU", 1, "\"1500\"", "!", "1500"},
        {"network.set_MTU", 1, "\"-5\"", "!", "-5"},
        {"network.set_MTU", 1, "\"\"", "!", NULL},
        {"network.set_MTU", 1, "\"1500 \"", "!", NULL},
        {"network.set_MTU", 1, "\"0x10\"", "!", NULL},
        {"network.set_MTU", 1, "\"99999999999999999999\"", "!", NULL},
        {"network.set_MTU", 1, "true", "!", NULL},
        {"task.set_progress", 1, "0.5", "0.5", NULL},
        {"task.set_progress", 1, "1", "1.0", NULL},
        {"task.set_progress", 1, "\"0.5\"", "!", "0.5"},
        {"task.set_progress", 1, "\"x\"", "!", NULL},
        {"task.set_progress", 1, "null", "!", NULL},
        {"VM.start", 1, "true", "true", NULL},
        {"VM.start", 1, "false", "false", NULL},
        {"VM.start", 1, "1", "!", NULL},
        {"VM.start", 1, "\"true\"", "!", NULL},
        {"message.get_since", 0, "\"20250319T04:16:24Z\"", "\"20250319T04:16:24Z\"", NULL},
        {"message.get_since", 0, "\"2025-03-19T04:16:24Z\"", "\"20250319T04:16:24Z\"", NULL},
        {"message.get_since", 0, "\"yesterday\"", "!", NULL},
        {"message.get_since", 0, "\"20251319T04:16:24Z\"", "!", NULL},
        {"message.get_since", 0, "5", "!", NULL},
        {"task.set_status", 1, "\"pending\"", "\"pending\"", NULL},
        {"task.set_status", 1, "\"PENDING\"", "\"pending\"", NULL},
        {"task.set_status", 1, "\"pend\"", "!", NULL},
        {"task.set_status", 1, "0", "!", NULL},
        {"VM.start", 0, "\"OpaqueRef:NULL\"", "\"OpaqueRef:NULL\"", NULL},
        {"VM.start", 0, "\"\"", "\"OpaqueRef:NULL\"", NULL},
        {"VM.start", 0, "\"OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000\"",
         "\"OpaqueRef:4e5e3a36-2a2d-4c6a-8b4e-000000000000\"", NULL},
        {"VM.start", 0, "\"x\"", "!HANDLE_INVALID VM", NULL},
        {"VM.start", 0, "5", "!", NULL},
        {"pool.set_tags", 1, "[\"b\",\"a\",\"b\"]", "[\"a\",\"b\"]", NULL},
        {"pool.set_tags", 1, "[]", "[]", NULL},
        {"pool.set_tags", 1, "{}", "!", NULL},
        {"pool.set_tags", 1, "[1]", "!", NULL},
        {"pool.set_tags", 1, "[\"a\",null]", "!", NULL},
        {"pool.set_tags", 1, "\"a\"", "!", NULL},
        {"message.destroy_many", 0, "[\"OpaqueRef:NULL\"]", "[\"OpaqueRef:NULL\"]", NULL},
        {"message.destroy_many", 0, "[\"x\"]", "!HANDLE_INVALID message", NULL},
        {"message.destroy_many", 0, "[[]]", "!", NULL},
        {"pool.set_other_config", 1, "{\"b\":\"2\",\"a\":\"1\"}", "{\"a\":\"1\",\"b\":\"2\"}", NULL},
        {"pool.set_other_config", 1, "{}", "{}", NULL},
        {"pool.set_other_config", 1, "[]", "!", NULL},
        {"pool.set_other_config", 1, "{\"a\":1}", "!", NULL},
        {"pool.set_other_config", 1, "{\"a\":null}", "!", NULL},
        {"VM.set_blocked_operations", 1, "{\"START\":\"no\"}", "{\"start\":\"no\"}", NULL},
        {"VM.set_blocked_operations", 1, "{\"x\":\"no\"}", "!", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct type *type = type_of(table[i].method, table[i].param);
        for (enum decode_mode mode = DECODE_STRICT; mode <= DECODE_LENIENT; mode++) {
            const char *wanted =
                mode == DECODE_LENIENT && table[i].lenient ? table[i].lenient : table[i].strict;
            AUTO_FREE char *got = decoded(type, table[i].text, mode);
            if (streq(wanted, "!"))
                cr_assert(strncmp(got, "!INTERNAL_ERROR Expected ", 25) == 0, "%s as %s, mode %d: %s",
                          table[i].text, type->name, mode, got);
            else
                cr_assert_str_eq(got, wanted, "%s as %s, mode %d: %s", table[i].text, type->name, mode, got);
        }
    }
}

/* Whatever is given for whatever is expected: a value that can be written again, or words. */
Test(decode, every_kind_of_value_for_every_type)
{
    static const char *const given[] = {"{}",
                                        "[]",
                                        "\"\"",
                                        "\"x\"",
                                        "\"2\"",
                                        "1",
                                        "1.5",
                                        "true",
                                        "false",
                                        "null",
                                        "[null]",
                                        "[[]]",
                                        "[\"x\",\"x\"]",
                                        "[2]",
                                        "{\"a\":{}}",
                                        "{\"a\":[]}",
                                        "{\"2\":\"b\"}",
                                        "{\"OpaqueRef:NULL\":\"b\"}",
                                        "[\"pending\",\"start\",\"copy\"]",
                                        "\"\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4"
                                        "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4"
                                        "\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4\u00e4"
                                        "\u00e4\u00e4\u00e4x\u00e4\u00e4\u00e4\""};
    const struct type *seen[512];
    size_t count = 0;
    for (size_t m = 0; m < model_method_count; m++)
        for (size_t p = 0; p < model_methods[m].param_count; p++) {
            const struct type *type = model_methods[m].params[p].type;
            size_t at = 0;
            while (at < count && seen[at] != type)
                at++;
            if (at == count && count < ARRAY_LEN(seen))
                seen[count++] = type;
        }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < ARRAY_LEN(given); k++)
            for (enum decode_mode mode = DECODE_STRICT; mode <= DECODE_LENIENT; mode++) {
                AUTO_FREE char *got = decoded(seen[i], given[k], mode);
                cr_assert(*got != '!' || strncmp(got, "!INTERNAL_ERROR Expected ", 25) == 0 ||
                              strncmp(got, "!HANDLE_INVALID ", 16) == 0,
                          "%s as %s: %s", given[k], seen[i]->name, got);
            }
}

/* A refusal shows no more than a little of what was given. */
Test(decode, refusals_are_short)
{
    char text[5000] = "\"";
    memset(text + 1, 'x', sizeof(text) - 3);
    text[sizeof(text) - 2] = '"';
    text[sizeof(text) - 1] = '\0';
    AUTO_FREE char *got = decoded(type_of("task.set_status", 1), text, DECODE_STRICT);
    cr_assert_lt(strlen(got), 200);
}

/* ---- constructors ---- */

static char *record_error(const struct class_desc *cls, const char *text)
{
    AUTO_JSON json_t *json = parse(text);
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct row *row;
    if (decode_record(cls, json, DECODE_STRICT, &row, &err) < 0)
        return xstrdup(err.params[0]);
    row_unref(row);
    return NULL;
}

Test(decode, records_need_what_has_no_default)
{
    AUTO_FREE char *missing = record_error(CLASS_network, "{\"other_config\":{}}");
    cr_assert_null(missing, "%s", missing);
    AUTO_FREE char *of_vm = record_error(CLASS_VM, "{\"name_label\":\"x\"}");
    cr_assert_not_null(of_vm);
    cr_assert(strstr(of_vm, "VM"));
    static const char *const wrong[] = {
        "[]", "null", "\"x\"", "1", "{\"name_label\":1,\"other_config\":{}}", "{\"other_config\":[]}"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        AUTO_FREE char *text = record_error(CLASS_network, wrong[i]);
        cr_assert_not_null(text, "%s is taken", wrong[i]);
    }
}

/* Each field of each constructor missing or null in turn: a refusal or its default, never a crash. */
Test(decode, each_member_missing_or_null)
{
    for (size_t c = 0; c < model_class_count; c++) {
        const struct class_desc *cls = &model_classes[c];
        if (!cls->row_size)
            continue;
        struct row *fresh = row_new(cls, REF_NULL);
        AUTO_JSON json_t *whole = parse(row_json(fresh)->text);
        row_unref(fresh);
        for (size_t f = 0; f < cls->field_count; f++) {
            AUTO_JSON json_t *record = json_deep_copy(whole);
            AUTO_API_ERR struct api_err err = API_ERR_INIT;
            struct row *row;
            json_object_set_new(record, cls->fields[f].name, json_null());
            if (decode_record(cls, record, DECODE_STRICT, &row, &err) == 0)
                row_unref(row);
            json_object_del(record, cls->fields[f].name);
            if (decode_record(cls, record, DECODE_STRICT, &row, &err) == 0)
                row_unref(row);
        }
    }
}

Test(decode, a_constructor_cannot_set_what_is_not_its_business)
{
    AUTO_JSON json_t *json =
        parse("{\"name_label\":\"n\",\"other_config\":{},\"uuid\":\"mine\",\"VIFs\":[\"junk\"],"
              "\"nonsense\":{\"deep\":[1]}}");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct row *row;
    cr_assert_eq(decode_record(CLASS_network, json, DECODE_STRICT, &row, &err), 0);
    cr_assert_str_eq(network_row(row)->name_label, "n");
    cr_assert_str_eq(network_row(row)->uuid, "");
    cr_assert_null(network_row(row)->VIFs);
    row_unref(row);
}

/* ---- arguments ---- */

Test(decode, arguments_and_their_defaults)
{
    const struct method_desc *m = method_find("session.login_with_password", 27);
    AUTO_JSON json_t *two = parse("[\"root\",\"secret\"]");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    void *args;
    cr_assert_eq(decode_args(m, two, DECODE_STRICT, &args, &err), 0);
    const struct session_login_with_password_args *login = args;
    cr_assert_str_eq(login->uname, "root");
    cr_assert_str_eq(login->pwd, "secret");
    cr_assert_str_eq(login->originator, "");
    args_free(m, args);
    for (size_t bad = 0; bad < m->param_count; bad++) {
        AUTO_JSON json_t *params = parse("[\"a\",\"b\",\"c\",\"d\"]");
        json_array_set_new(params, bad, json_integer(1));
        cr_assert_eq(decode_args(m, params, DECODE_STRICT, &args, &err), -1);
    }
}

Test(decode, words_for_handlers_keep_their_order)
{
    const struct method_desc *m = method_find("task.set_error_info", 19);
    AUTO_JSON json_t *params = parse("[\"OpaqueRef:NULL\",[\"Z\",\"A\",\"A\"]]");
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    void *args;
    cr_assert_eq(decode_args(m, params, DECODE_STRICT, &args, &err), 0);
    const struct str_set *words = ((const struct task_set_error_info_args *)args)->value;
    cr_assert_eq(words->count, 3);
    cr_assert_str_eq(words->items[0], "Z");
    cr_assert_str_eq(words->items[2], "A");
    args_free(m, args);
}

/* Every message takes a value of every JSON kind at every place without a crash or a leak. */
Test(decode, any_value_anywhere, .timeout = 120)
{
    static const char *const values[] = {"null",
                                         "true",
                                         "1",
                                         "1.5",
                                         "\"x\"",
                                         "\"\"",
                                         "[]",
                                         "[1]",
                                         "[\"x\"]",
                                         "[[]]",
                                         "{}",
                                         "{\"a\":1}",
                                         "{\"a\":\"b\"}",
                                         "[null]",
                                         "\"OpaqueRef:NULL\"",
                                         "-9223372036854775808"};
    for (size_t i = 0; i < model_method_count; i++) {
        const struct method_desc *m = &model_methods[i];
        for (size_t p = 0; p < m->param_count; p++)
            for (size_t v = 0; v < ARRAY_LEN(values); v++) {
                AUTO_JSON json_t *params = json_array();
                for (size_t n = 0; n < m->param_count; n++)
                    json_array_append_new(params, parse(n == p ? values[v] : "\"OpaqueRef:NULL\""));
                AUTO_API_ERR struct api_err err = API_ERR_INIT;
                void *args;
                if (decode_args(m, params, v % 2 ? DECODE_LENIENT : DECODE_STRICT, &args, &err) == 0)
                    args_free(m, args);
                else
                    cr_assert_gt(err.param_count, 0);
            }
    }
}
