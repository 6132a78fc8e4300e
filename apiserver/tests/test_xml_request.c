/* XML-RPC requests: what is read, and what is refused. */
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <codec/xml_request.h>
#include <criterion/criterion.h>
#include <libxml/parser.h>

/* The parameters as JSON, or "!" and the sentence. */
static char *parse(const char *data, size_t len)
{
    char error[XML_REQUEST_ERROR_SIZE] = "";
    struct xml_request request;
    struct buf out = BUF_INIT;
    xmlInitParser();
    if (xml_request_parse(data, len, &request, error) < 0) {
        buf_printf(&out, "!%s", error);
        return buf_take(&out);
    }
    cr_assert_str_eq(request.method, "a.b");
    if (request.damaged)
        buf_add_str(&out, "damaged ");
    json_write(&out, request.params);
    xml_request_done(&request);
    return buf_take(&out);
}

static char *parse_value(const char *value)
{
    AUTO_FREE char *text = xasprintf("<?xml version=\"1.0\"?><methodCall><methodName>a.b</methodName><params>"
                                     "<param>%s</param></params></methodCall>",
                                     value);
    return parse(text, strlen(text));
}

Test(xml_request, values)
{
    static const struct {
        const char *xml, *json;
    } table[] = {
        {"<value>text</value>", "[\"text\"]"},
        {"<value><string>text</string></value>", "[\"text\"]"},
        {"<value/>", "[\"\"]"},
        {"<value></value>", "[\"\"]"},
        {"<value><string/></value>", "[\"\"]"},
        {"<value> a\n b </value>", "[\" a\\n b \"]"},
        {"<value>  </value>", "[\"  \"]"},
        {"<value>&lt;&amp;&gt;&quot;&apos;&#65;&#x42;&#xe4;</value>", "[\"<&>\\\"'AB\u00e4\"]"},
        {"<value><![CDATA[<a>&b;]]></value>", "[\"<a>&b;\"]"},
        {"<value>a<!-- b -->c</value>", "[\"ac\"]"},
        {"<value><int>5</int></value>", "[5]"},
        {"<value><i4>-5</i4></value>", "[-5]"},
        {"<value><i8>9223372036854775807</i8></value>", "[9223372036854775807]"},
        {"<value><int> 7\n</int></value>", "[7]"},
        {"<value>\n <int>5</int>\n </value>", "[5]"},
        {"<value><boolean>1</boolean></value>", "[true]"},
        {"<value><boolean>0</boolean></value>", "[false]"},
        {"<value><boolean>true</boolean></value>", "[true]"},
        {"<value><double>1.5</double></value>", "[1.5]"},
        {"<value><double>-2e3</double></value>", "[-2000.0]"},
        {"<value><double>nan</double></value>", "[\"nan\"]"},
        {"<value><double>-inf</double></value>", "[\"-inf\"]"},
        {"<value><dateTime.iso8601>20250319T04:16:24Z</dateTime.iso8601></value>",
         "[\"20250319T04:16:24Z\"]"},
        {"<value><nil/></value>", "[null]"},
        {"<value><array><data/></array></value>", "[[]]"},
        {"<value><array/></value>", "[[]]"},
        {"<value><array><data><value>a</value> <value><int>1</int></value></data></array></value>",
         "[[\"a\",1]]"},
        {"<value><struct/></value>", "[{}]"},
        {"<value><struct><member><name>k</name><value>v</value></member></struct></value>",
         "[{\"k\":\"v\"}]"},
        {"<value><struct><member><value>v</value><name>k</name></member></struct></value>",
         "[{\"k\":\"v\"}]"},
        {"<value><struct><member><name></name><value/></member></struct></value>", "[{\"\":\"\"}]"},
        {"<value><struct><member><name>k</name><value>1</value></member><member><name>k</name><value>2</"
         "value>"
         "</member></struct></value>",
         "[{\"k\":\"1\"}]"},
        {"<value><struct><member><name>a</name><value><array><data><value><struct><member><name>b</"
         "name><value>"
         "<nil/></value></member></struct></value></data></array></value></member></struct></value>",
         "[{\"a\":[{\"b\":null}]}]"},
        {"<value><x:nil xmlns:x=\"urn:y\"/></value>", "[null]"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_FREE char *got = parse_value(table[i].xml);
        cr_expect_str_eq(got, table[i].json, "%s: %s", table[i].xml, got);
    }
}

Test(xml_request, refused_values)
{
    static const struct {
        const char *xml, *sentence;
    } table[] = {
        {"", "!a param has a value"},
        {"text", "!there is text where a tag belongs"},
        {"<string>x</string>", "!a tag is unknown"},
        {"<value><base64>AA==</base64></value>", "!a tag is unknown"},
        {"<value>a<int>5</int></value>", "!there is text"},
        {"<value><int>5</int>a</value>", "!there is text"},
        {"<value><int>5</int><int>6</int></value>", "!there are two values"},
        {"<value/><value/>", "!there are two values"},
        {"<value><int/></value>", "!an integer"},
        {"<value><int>x</int></value>", "!an integer"},
        {"<value><int>1.5</int></value>", "!an integer"},
        {"<value><i8>9223372036854775808</i8></value>", "!an integer"},
        {"<value><boolean>2</boolean></value>", "!a boolean"},
        {"<value><boolean/></value>", "!a boolean"},
        {"<value><double>x</double></value>", "!a double"},
        {"<value><double/></value>", "!a double"},
        {"<value><nil>x</nil></value>", "!there is text"},
        {"<value><string><b/></string></value>", "!a tag is unknown"},
        {"<value><array><value/></array></value>", "!a tag is unknown"},
        {"<value><array><data/><data/></array></value>", "!there are two values"},
        {"<value><struct><member><name>k</name></member></struct></value>", "!a member"},
        {"<value><struct><member><value/></member></struct></value>", "!a member"},
        {"<value><struct><member><name>k</name><name>l</name><value/></member></struct></value>",
         "!a member"},
        {"<value><struct><member><name>k</name><value/><value/></member></struct></value>", "!there are two"},
        {"<value>&nosuch;</value>", "!the text is not well-formed XML (line 1)"},
        {"<value>&#0;</value>", "!the text is not well-formed"},
        {"<value>&#1;</value>", "!the text is not well-formed"},
        {"<value>\x01</value>", "!the text is not well-formed"},
        {"<value>&#xfffe;</value>", "!the text is not well-formed"},
        {"<value>\xef\xbf\xbe</value>", "!the text is not well-formed"},
        {"<value>a & b</value>", "!the text is not well-formed"},
        {"<value><string>x</value>", "!the text is not well-formed"},
        {"<value a=1/>", "!the text is not well-formed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_FREE char *got = parse_value(table[i].xml);
        cr_expect(strncmp(got, table[i].sentence, strlen(table[i].sentence)) == 0, "%s: %s", table[i].xml,
                  got);
    }
}

#define CALL(text) "<methodCall><methodName>a.b</methodName>" text "</methodCall>"
#define BOMB                                                                                                 \
    "<!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\"><!ENTITY c "             \
    "\"&b;&b;&b;&b;&b;&b;&b;&b;\">]>"

Test(xml_request, documents)
{
    static const struct {
        const char *text, *result;
    } table[] = {
        {CALL(""), "[]"},
        {CALL("<params/>"), "[]"},
        {CALL("<params></params>"), "[]"},
        {"\xef\xbb\xbf" CALL(""), "[]"},
        {"<?xml version='1.0' encoding='utf-8'?>" CALL(""), "[]"},
        {"<?xml version=\"1.0\" encoding=\"US-ASCII\" ?>" CALL(""), "[]"},
        {"<?xml version='1.0' encoding='iso-8859-1'?>" CALL(
             "<params><param><value>\xe4</value></param></params>"),
         "[\"\u00e4\"]"},
        {"<?xml version='1.0'?>\n<!-- c -->\n<?pi x?>" CALL("") "\n", "[]"},
        {CALL("<params><param><value>\xff</value></param></params>"), "damaged [\"\ufffd\"]"},
        {CALL("<params><param><value>\xed\xa0\x80</value></param></params>"),
         "damaged [\"\ufffd\ufffd\ufffd\"]"},
        {"", "!the text is not well-formed XML"},
        {" ", "!the text is not well-formed XML"},
        {"<?xml version='1.0' encoding='utf-7'?>" CALL(""), "!the text's encoding"},
        {"<?xml version='1.0' encoding='IBM037'?>" CALL(""), "!the text's encoding"},
        {"<?xml version='1.0' encoding='utf-8-x'?>" CALL(""), "!the text's encoding"},
        {"\xfe\xff", "!the text's encoding"},
        {"\xff\xfe<", "!the text's encoding"},
        {"<!DOCTYPE methodCall>" CALL(""), "!a document type is not allowed"},
        {"<!DOCTYPE x SYSTEM \"file:///etc/passwd\">" CALL(""), "!a document type is not allowed"},
        {BOMB CALL("<params><param><value>&c;</value></param></params>"), "!a document type is not allowed"},
        {"<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]>" CALL(
             "<params><param><value>&a;</value></param></params>"),
         "!a document type is not allowed"},
        {"<methodCall/>", "!the call has no methodName"},
        {"<methodCall><params/></methodCall>", "!the call has no methodName"},
        {"<methodCall><methodName>a.b</methodName><methodName>c</methodName></methodCall>",
         "!a call has one methodName"},
        {"<methodResponse/>", "!a tag is unknown"},
        {"<methodCall>x</methodCall>", "!there is text"},
        {CALL("") CALL(""), "!the text is not well-formed"},
        {CALL("<params><param>"), "!the text is not well-formed"},
        {"<methodCall><methodName>a.b", "!the text is not well-formed"},
        {"{\"method\":1}", "!the text is not well-formed"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        AUTO_FREE char *got = parse(table[i].text, strlen(table[i].text));
        cr_expect(strncmp(got, table[i].result, strlen(table[i].result)) == 0, "%s: %s", table[i].text, got);
    }
}

static char *nested(unsigned depth, const char *open, const char *close)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "<methodCall><methodName>a.b</methodName><params><param>");
    for (unsigned i = 0; i < depth; i++)
        buf_add_str(&text, open);
    buf_add_str(&text, "<value>x</value>");
    for (unsigned i = 0; i < depth; i++)
        buf_add_str(&text, close);
    buf_add_str(&text, "</param></params></methodCall>");
    AUTO_FREE char *whole = buf_take(&text);
    return parse(whole, strlen(whole));
}

Test(xml_request, depth_is_bounded)
{
    static const struct {
        const char *open, *close;
    } forms[] = {
        {"<value><array><data>", "</data></array></value>"},
        {"<value><struct><member><name>k</name>", "</member></struct></value>"},
    };
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        AUTO_FREE char *fine = nested(JSON_MAX_DEPTH - 2, forms[i].open, forms[i].close);
        AUTO_FREE char *deep = nested(JSON_MAX_DEPTH + 3, forms[i].open, forms[i].close);
        AUTO_FREE char *absurd = nested(100000, forms[i].open, forms[i].close);
        cr_expect_eq(fine[0], '[', "%s", fine);
        cr_expect_str_eq(deep, "!values are nested deeper than 64");
        cr_expect_str_eq(absurd, "!values are nested deeper than 64");
    }
}

/* A tag with n attributes, behind what else may hold a '<' or a quote. */
static char *attributed(unsigned count)
{
    struct buf text = BUF_INIT;
    buf_add_str(&text, "<?p <\" ?><!-- <' --><methodCall x='>'");
    for (unsigned i = 0; i < count; i++)
        buf_printf(&text, " a%x='>'", i);
    buf_add_str(&text,
                "><methodName>a.b</methodName><params><param><value><![CDATA[<\"]]>'\"&gt;</value></param>"
                "</params></methodCall>");
    AUTO_FREE char *whole = buf_take(&text);
    return parse(whole, strlen(whole));
}

Test(xml_request, tags_are_short)
{
    AUTO_FREE char *few = attributed(50), *many = attributed(200), *absurd = attributed(30000);
    cr_expect_str_eq(few, "[\"<\\\"'\\\">\"]", "%s", few);
    cr_expect_str_eq(many, "!a tag is too long");
    cr_expect_str_eq(absurd, "!a tag is too long");
}

/* Every prefix and every byte changed: no crash, and nothing is read past the end. */
Test(xml_request, cut_and_changed)
{
    static const char text[] =
        "<?xml version=\"1.0\"?><methodCall><methodName>a.b</methodName><params><param><value>"
        "<struct><member><name>k</name><value><i4>1</i4></value></member></struct></value>"
        "</param></params></methodCall>";
    char error[XML_REQUEST_ERROR_SIZE];
    struct xml_request request;
    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        AUTO_FREE char *copy = xmalloc(len + 1);
        memcpy(copy, text, len);
        cr_expect_eq(xml_request_parse(copy, len, &request, error), -1);
    }
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        AUTO_FREE char *copy = xmalloc(sizeof(text) - 1);
        memcpy(copy, text, sizeof(text) - 1);
        copy[at] = (char)(copy[at] ^ 0x81);
        if (xml_request_parse(copy, sizeof(text) - 1, &request, error) == 0)
            xml_request_done(&request);
    }
}
