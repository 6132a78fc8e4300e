/* The XML fragment in which a task keeps its result, read as JSON. A small recursive reader of the
 * XML-RPC value grammar: no attributes, entities by the five names and numbers, depth bounded. */
#include "xmlvalue.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>

enum { MAX_DEPTH = 32 };

struct reader {
    const char *at;
};

static void space(struct reader *r)
{
    while (isspace((unsigned char)*r->at))
        r->at++;
}

static bool take(struct reader *r, const char *token)
{
    const char *before = r->at;
    space(r);
    size_t n = strlen(token);
    if (strncmp(r->at, token, n) != 0) {
        r->at = before;
        return false;
    }
    r->at += n;
    return true;
}

static void add_code_point(struct buf *out, unsigned long c)
{
    char b[4];
    size_t n = 0;
    if (c < 0x80) {
        b[n++] = (char)c;
    } else if (c < 0x800) {
        b[n++] = (char)(0xc0 | c >> 6);
        b[n++] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        b[n++] = (char)(0xe0 | c >> 12);
        b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        b[n++] = (char)(0x80 | (c & 0x3f));
    } else {
        b[n++] = (char)(0xf0 | c >> 18);
        b[n++] = (char)(0x80 | (c >> 12 & 0x3f));
        b[n++] = (char)(0x80 | (c >> 6 & 0x3f));
        b[n++] = (char)(0x80 | (c & 0x3f));
    }
    buf_add(out, b, n);
}

static bool entity(struct reader *r, struct buf *out)
{
    static const struct {
        const char *name;
        char c;
    } names[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}, {"&apos;", '\''}};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strncmp(r->at, names[i].name, strlen(names[i].name)) == 0) {
            buf_add_char(out, names[i].c);
            r->at += strlen(names[i].name);
            return true;
        }
    }
    if (strncmp(r->at, "&#", 2) != 0)
        return false;
    bool hex = r->at[2] == 'x';
    char *end;
    unsigned long c = strtoul(r->at + 2 + hex, &end, hex ? 16 : 10);
    if (*end != ';' || c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return false;
    add_code_point(out, c);
    r->at = end + 1;
    return true;
}

/* Character data up to the next tag. */
static json_t *text(struct reader *r)
{
    AUTO_BUF struct buf b = BUF_INIT;
    while (*r->at && *r->at != '<') {
        if (*r->at != '&')
            buf_add_char(&b, *r->at++);
        else if (!entity(r, &b))
            return NULL;
    }
    return json_stringn(b.data ? b.data : "", b.len);
}

static json_t *value(struct reader *r, int depth);

static json_t *array(struct reader *r, int depth)
{
    AUTO_JSON json_t *a = json_array();
    if (take(r, "<data/>"))
        return take(r, "</array>") ? TAKE_PTR(a) : NULL;
    if (!take(r, "<data>"))
        return NULL;
    while (!take(r, "</data>"))
        if (json_array_append_new(a, value(r, depth + 1)) < 0)
            return NULL;
    return take(r, "</array>") ? TAKE_PTR(a) : NULL;
}

static json_t *structure(struct reader *r, int depth)
{
    AUTO_JSON json_t *o = json_object();
    while (!take(r, "</struct>")) {
        if (!take(r, "<member>") || !take(r, "<name>"))
            return NULL;
        AUTO_JSON json_t *name = text(r);
        if (!name || !take(r, "</name>"))
            return NULL;
        if (json_object_set_new(o, json_string_value(name), value(r, depth + 1)) < 0 || !take(r, "</member>"))
            return NULL;
    }
    return TAKE_PTR(o);
}

static json_t *scalar(struct reader *r)
{
    static const char *const tags[] = {"string", "int", "i4", "i8", "double", "dateTime.iso8601", "boolean"};
    for (size_t i = 0; i < ARRAY_LEN(tags); i++) {
        AUTO_FREE char *open = xasprintf("<%s>", tags[i]), *empty = xasprintf("<%s/>", tags[i]),
                       *close = xasprintf("</%s>", tags[i]);
        if (take(r, empty))
            return json_string("");
        if (!take(r, open))
            continue;
        AUTO_JSON json_t *t = text(r);
        if (!t || !take(r, close))
            return NULL;
        if (streq(tags[i], "boolean"))
            return json_boolean(streq(json_string_value(t), "1"));
        return TAKE_PTR(t);
    }
    return NULL;
}

static json_t *content(struct reader *r, int depth)
{
    if (take(r, "<array>"))
        return array(r, depth);
    if (take(r, "<struct/>"))
        return json_object();
    if (take(r, "<struct>"))
        return structure(r, depth);
    if (take(r, "<nil/>"))
        return json_null();
    json_t *s = scalar(r);
    return s ? s : text(r);
}

static json_t *value(struct reader *r, int depth)
{
    if (depth > MAX_DEPTH)
        return NULL;
    if (take(r, "<value/>"))
        return json_string("");
    if (!take(r, "<value>"))
        return NULL;
    AUTO_JSON json_t *v = content(r, depth);
    return v && take(r, "</value>") ? TAKE_PTR(v) : NULL;
}

json_t *xe_xml_value(const char *source)
{
    struct reader r = {source};
    AUTO_JSON json_t *v = value(&r, 0);
    if (v) {
        space(&r);
        if (!*r.at)
            return TAKE_PTR(v);
    }
    return json_string(source);
}
