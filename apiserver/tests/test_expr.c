/* The filter language: what it reads, what it refuses, what matches. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/expr.h>
#include <model/rows.h>

static struct row *sample(void)
{
    static const char *const tags[] = {"b", "a"};
    static const struct str_pair config[] = {{"k", "v"}, {"a", ""}};
    struct row *row = row_new(CLASS_VM, (struct ref){1, 2});
    struct vm_row *vm = vm_row_mut(row);
    str_assign(&vm->name_label, "web 1");
    vm->is_a_template = false;
    vm->VCPUs_max = 4;
    vm->power_state = VM_POWER_STATE_RUNNING;
    vm->resident_on = (struct ref){3, 4};
    str_set_assign(&vm->tags, str_set_new(tags, ARRAY_LEN(tags)));
    str_map_assign(&vm->other_config, str_map_new(config, ARRAY_LEN(config)));
    return row;
}

Test(expr, matches)
{
    static const struct {
        const char *text;
        bool matches;
    } table[] = {
        {"true", true},
        {"false", false},
        {" \t\n true \r", true},
        {"not false", true},
        {"not not not true", false},
        {"not(true)", false},
        {"(true)", true},
        {"((true)and(true))", true},
        /* and, or: one precedence, from the left */
        {"true or true and false", false},
        {"false and true or true", true},
        {"true or (true and false)", true},
        {"not false and false", false},
        {"not (false and false)", true},
        {"field \"name_label\" = \"web 1\"", true},
        {"field \"name__label\" = \"web 1\"", true},
        {"field\"name__label\"=\"web 1\"", true},
        {"\"web 1\" = field \"name_label\"", true},
        {"field \"name_label\" = \"web\"", false},
        {"field \"name_label\" = \"WEB 1\"", false},
        {"field \"name_label\" = field \"name_label\"", true},
        {"field \"name_label\" = field \"uuid\"", false},
        {"\"\" = \"\"", true},
        {"\"and\" = \"and\"", true},
        {"field \"is_a_template\" = \"false\"", true},
        {"field \"VCPUs_max\" = \"4\"", true},
        {"field \"VCPUs__max\" = \"4\"", true},
        {"field \"VCPUs__max\" = \"04\"", false},
        {"field \"power_state\" = \"Running\"", true},
        {"field \"power_state\" = \"running\"", false},
        {"field \"_ref\" = \"OpaqueRef:00000000-0000-0001-0000-000000000002\"", true},
        {"field \"resident_on\" = \"OpaqueRef:00000000-0000-0003-0000-000000000004\"", true},
        {"field \"affinity\" = \"OpaqueRef:NULL\"", true},
        {"field \"tags\" = \"('a' 'b')\"", true},
        {"field \"VBDs\" = \"()\"", true},
        {"field \"other_config\" = \"(('a' '') ('k' 'v'))\"", true},
        {"field \"xenstore_data\" = \"()\"", true},
        {"field \"snapshot_time\" = \"19700101T00:00:00Z\"", true},
    };
    struct row *row = sample();
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct expr *e = expr_parse(table[i].text, CLASS_VM, &err);
        cr_assert_not_null(e, "%s: %s", table[i].text, err.param_count ? err.params[1] : "");
        cr_assert_eq(expr_matches(e, row), table[i].matches, "%s", table[i].text);
        expr_free(e);
    }
    row_unref(row);
}

Test(expr, refusals)
{
    static const char *const table[] = {
        "",
        " ",
        "x",
        "true true",
        "true and",
        "and true",
        "or",
        "not",
        "(",
        ")",
        "()",
        "(true",
        "true)",
        "field",
        "field \"name_label\"",
        "field name_label = \"x\"",
        "\"x\"",
        "\"x\" =",
        "= \"x\"",
        "\"x\" = \"y",
        "\"x\" == \"y\"",
        "'x' = 'x'",
        "field \"nonsense\" = \"x\"",
        "field \"\" = \"x\"",
        "fieldx \"uuid\" = \"x\"",
        "true andtrue",
        "trueand true",
        "TRUE",
        "nottrue",
        "field \"ref\" = \"x\"",
        "\"x\" = true",
        "true = true",
        "field \"_ref \" = \"x\"",
        "true;",
        "true -- comment",
        "field \"blobs\"",
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_API_ERR struct api_err err = API_ERR_INIT;
        struct expr *e = expr_parse(table[i], CLASS_VM, &err);
        cr_assert_null(e, "'%s' is taken", table[i]);
        cr_assert_str_eq(err.code, "INVALID_VALUE");
        cr_assert_eq(err.param_count, 2);
    }
}

static char *repeated(const char *piece, size_t count, const char *end)
{
    char *text = xmalloc(strlen(piece) * count + strlen(end) + 1), *at = text;
    for (size_t i = 0; i < count; i++)
        at = stpcpy(at, piece);
    strcpy(at, end);
    return text;
}

static bool parses(const char *text)
{
    AUTO_API_ERR struct api_err err = API_ERR_INIT;
    struct expr *e = expr_parse(text, CLASS_VM, &err);
    bool ok = e != NULL;
    if (e) {
        struct row *row = sample();
        expr_matches(e, row);
        row_unref(row);
    }
    expr_free(e);
    return ok;
}

Test(expr, depth_and_length_are_bounded)
{
    static const struct {
        const char *piece;
        size_t count;
        const char *end;
        bool ok;
    } table[] = {
        {"not ", 63, "true", true},        {"not ", 64, "true", false},
        {"not ", 16000, "true", false},    {"(", 100, "true", false},
        {"(", 65000, "", false},           {"true or ", 8000, "true", true},
        {"true or ", 9000, "true", false}, {"not true and ", 5000, "true", true},
        {"x", 65537, "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_FREE char *text = repeated(table[i].piece, table[i].count, table[i].end);
        cr_assert_eq(parses(text), table[i].ok, "%zu times '%s'", table[i].count, table[i].piece);
    }
    char nested[400] = "";
    for (int i = 0; i < 60; i++)
        strcat(nested, "(");
    strcat(nested, "true");
    for (int i = 0; i < 60; i++)
        strcat(nested, ")");
    cr_assert(parses(nested));
}

Test(expr, secrets_cannot_be_asked_for)
{
    for (size_t c = 0; c < model_class_count; c++)
        for (size_t f = 0; f < model_classes[c].field_count; f++) {
            const struct field_desc *field = &model_classes[c].fields[f];
            if (!(field->flags & (FIELD_SECRET | FIELD_INTERNAL)))
                continue;
            AUTO_FREE char *text = xasprintf("field \"%s\" = \"x\"", field->name);
            AUTO_API_ERR struct api_err err = API_ERR_INIT;
            cr_assert_null(expr_parse(text, &model_classes[c], &err), "%s.%s", model_classes[c].name,
                           field->name);
        }
}
