/* Escaping: runs that need none are copied whole. */
#include <base/xml.h>
#include <stdbool.h>

static const char *escape_of(unsigned char c)
{
    switch (c) {
    case '\t':
        return "&#9;";
    case '\n':
        return "&#10;";
    case '\r':
        return "&#13;";
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    default:
        return "";
    }
}

static bool stands_as_it_is(unsigned char c, bool attribute)
{
    if (c < 0x20)
        return !attribute && (c == '\t' || c == '\n' || c == '\r');
    return c != '&' && c != '<' && c != '>' && c != '"' && c != 0xef;
}

/* U+FFFE and U+FFFF: no characters of XML, and a reader refuses the whole document. */
static bool is_no_character(const char *text)
{
    return memcmp(text, "\xef\xbf", 2) == 0 && ((unsigned char)text[2] & 0xfe) == 0xbe;
}

static void write_escaped(struct buf *b, const char *text, bool attribute)
{
    const char *run = text;
    for (;; text++) {
        if (stands_as_it_is((unsigned char)*text, attribute))
            continue;
        if ((unsigned char)*text == 0xef && (!text[1] || !is_no_character(text)))
            continue;
        buf_add(b, run, (size_t)(text - run));
        if (*text == '\0')
            return;
        buf_add_str(b, escape_of((unsigned char)*text));
        if ((unsigned char)*text == 0xef)
            text += 2;
        run = text + 1;
    }
}

void xml_write_text(struct buf *b, const char *text)
{
    write_escaped(b, text, false);
}

void xml_write_attribute(struct buf *b, const char *text)
{
    write_escaped(b, text, true);
}
