/* Composite answers: the same calls, in JSON and as the inside of an XML-RPC answer. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <gate/answer.h>

static void write_sample(struct answer *a)
{
    struct answer items = answer_begin_items(a->form), none = answer_begin_items(a->form);
    answer_text(&items, "x<y");
    answer_ref(&items, REF_NULL);
    answer_open(a, ANSWER_MAP);
    answer_key(a, "empty");
    answer_open(a, ANSWER_LIST);
    answer_join(a, &none);
    answer_close(a);
    answer_key(a, "a \"&\" b");
    answer_open(a, ANSWER_LIST);
    answer_join(a, &none);
    answer_text(a, "first");
    answer_join(a, &items);
    answer_close(a);
    answer_key(a, "count");
    answer_i4(a, -7);
    answer_key(a, "none");
    answer_open(a, ANSWER_MAP);
    answer_close(a);
    answer_close(a);
    answer_done(&items);
    answer_done(&none);
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
