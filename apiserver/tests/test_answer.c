/* Composite answers: the same calls, in JSON and as the inside of an XML-RPC answer. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/answer.h>
#include <model/rows.h>

static void write_sample(struct answer *a)
{
    answer_open(a, ANSWER_MAP);
    answer_key(a, "empty");
    answer_open(a, ANSWER_LIST);
    answer_close(a);
    answer_key(a, "a \"&\" b");
    answer_open(a, ANSWER_LIST);
    answer_text(a, "first");
    answer_text(a, "x<y");
    answer_ref(a, REF_NULL);
    answer_close(a);
    answer_key(a, "count");
    answer_i4(a, -7);
    answer_key(a, "none");
    answer_open(a, ANSWER_MAP);
    answer_close(a);
    answer_close(a);
}

static void expect(enum answer_form form, const char *text)
{
    struct call call = {.form = form};
    struct answer a = answer_begin(form);
    write_sample(&a);
    answer_give(&a, &call);
    cr_expect_str_eq(call.raw, text);
    cr_expect_eq(call.raw_len, strlen(text));
    free(call.raw);
}

Test(answer, json)
{
    expect(ANSWER_JSON, "{\"empty\":[],\"a \\\"&\\\" b\":[\"first\",\"x<y\",\"OpaqueRef:NULL\"],\"count\":-7,"
                        "\"none\":{}}");
}

Test(answer, xml)
{
    expect(ANSWER_XML, "<value><struct>"
                       "<member><name>empty</name><value><array><data></data></array></value></member>"
                       "<member><name>a &quot;&amp;&quot; b</name><value><array><data><value>first</value>"
                       "<value>x&lt;y</value><value>OpaqueRef:NULL</value></data></array></value></member>"
                       "<member><name>count</name><value><i4>-7</i4></value></member>"
                       "<member><name>none</name><value><struct></struct></value></member>"
                       "</struct></value>");
}

/* The same text as of an answer that was copied, when each record is put at its place. */
Test(answer, a_list_in_pieces_is_the_same_list)
{
    for (int form = ANSWER_JSON; form <= ANSWER_XML; form++) {
        struct row *rows[3];
        struct call whole = {.form = (enum answer_form)form}, parts = whole;
        struct answer a = answer_begin(whole.form), b = answer_begin(whole.form);
        AUTO_BUF struct buf joined = BUF_INIT;
        answer_in_pieces(&b);
        answer_open(&a, ANSWER_LIST);
        answer_open(&b, ANSWER_LIST);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            rows[i] = row_new(CLASS_VM, ref_new());
            answer_record(&a, rows[i]);
            answer_record(&b, rows[i]);
        }
        answer_close(&a);
        answer_close(&b);
        answer_give(&a, &whole);
        answer_give(&b, &parts);
        cr_assert_null(whole.pieces);
        cr_assert_eq(parts.pieces->count, ARRAY_LEN(rows));
        cr_expect_lt(parts.raw_len, whole.raw_len);
        cr_expect_eq(parts.raw_len + parts.pieces->bytes, whole.raw_len);
        size_t sent = 0;
        for (size_t i = 0; i < parts.pieces->count; i++) {
            const struct row *row = parts.pieces->items[i].row;
            const struct fragment *record = form == ANSWER_XML ? row_xml(row) : row_json(row);
            buf_add(&joined, parts.raw + sent, parts.pieces->items[i].at - sent);
            buf_add(&joined, record->text, record->len);
            sent = parts.pieces->items[i].at;
        }
        buf_add(&joined, parts.raw + sent, parts.raw_len - sent);
        cr_assert_eq(joined.len, whole.raw_len);
        cr_expect_eq(memcmp(joined.data, whole.raw, joined.len), 0);
        answer_pieces_free(parts.pieces);
        free(whole.raw);
        free(parts.raw);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
            row_unref(rows[i]);
    }
}

Test(answer, a_cell_is_written_in_both_forms)
{
    static const char *const wanted[] = {[ANSWER_JSON] = "[\"x\"]",
                                         [ANSWER_XML] =
                                             "<value><array><data><value>x</value></data></array></value>"};
    for (int form = ANSWER_JSON; form <= ANSWER_XML; form++) {
        AUTO_STR const char *text = str_new("x");
        struct call call = {.form = (enum answer_form)form};
        struct answer a = answer_begin(call.form);
        answer_open(&a, ANSWER_LIST);
        answer_cell(&a, field_find(CLASS_VM, "name_label")->type, &(const union cell){.str = text});
        answer_close(&a);
        answer_give(&a, &call);
        cr_expect_str_eq(call.raw, wanted[form]);
        free(call.raw);
    }
}
