/* Escaping: runs that need none are copied whole. */
#include <base/xml.h>
#include <stdbool.h>

static const char *escape_of(unsigned char c)
{
    switch (c) {
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

static bool stands_as_it_is(unsigned char c)
{
    if (c < 0x20)
        return c == '\t' || c == '\n' || c == '\r';
    return c != '&' && c != '<' && c != '>' && c != '"';
}

void xml_write_text(struct buf *b, const char *text)
{
    const char *run = text;
    for (;; text++) {
        if (stands_as_it_is((unsigned char)*text))
            continue;
        buf_add(b, run, (size_t)(text - run));
        if (*text == '\0')
            return;
        buf_add_str(b, escape_of((unsigned char)*text));
        run = text + 1;
    }
}
