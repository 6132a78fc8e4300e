/* Text in XML. */
#include <base/mem.h>
#include <base/xml.h>
#include <criterion/criterion.h>

Test(xml, text_is_escaped)
{
    static const struct {
        const char *text, *xml;
    } table[] = {
        {"", ""},
        {"plain", "plain"},
        {"a&b<c>d\"e'f", "a&amp;b&lt;c&gt;d&quot;e'f"},
        {"\x01tab\tline\r\n\x1f\x7f", "tab\tline\r\n\x7f"},
        {"&", "&amp;"},
        {"h\xc3\xa4", "h\xc3\xa4"},
        {"a\xef\xbf\xbe\xef\xbf\xbf"
         "b\xef\xbf\xbd\xef\xbb\xbf",
         "ab\xef\xbf\xbd\xef\xbb\xbf"},
        {"\xef", "\xef"},
        {"\xef\xbf", "\xef\xbf"},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct buf out AUTO_BUF = BUF_INIT;
        buf_add_char(&out, '|');
        xml_write_text(&out, table[i].text);
        cr_expect_str_eq(out.data + 1, table[i].xml);
    }
}

Test(xml, white_space_of_an_attribute_is_escaped)
{
    struct buf out AUTO_BUF = BUF_INIT;
    xml_write_attribute(&out, "a\tb\r\n \x01<");
    cr_expect_str_eq(out.data, "a&#9;b&#13;&#10; &lt;");
}
