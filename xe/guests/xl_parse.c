/* The language of xl and xm configuration files: assignments of strings, numbers and lists. Old files of xm
 * are Python; what only running them would tell is kept as the text of an expression, and statements are
 * named. */
#include "guests.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

enum { DEPTH_MAX = 16, ITEMS_MAX = 4096, EXPRESSION_SHOWN = 200 };

struct reader {
    const char *start, *at, *end;
    unsigned line;
    size_t items;
    json_t *notes;
    char **problem;
};

static int peek(const struct reader *r, size_t ahead)
{
    return (size_t)(r->end - r->at) > ahead ? (unsigned char)r->at[ahead] : -1;
}

static void step(struct reader *r)
{
    if (*r->at++ == '\n')
        r->line++;
}

static json_t *refuse(struct reader *r, const char *what)
{
    if (!*r->problem)
        guest_problem(r->problem, "line %u: %s", r->line, what);
    return NULL;
}

/* Spaces, comments and continued lines; ends of lines too when `lines`. */
static void skip(struct reader *r, bool lines)
{
    for (int c; (c = peek(r, 0)) >= 0;) {
        if (c == '#')
            while (peek(r, 0) >= 0 && peek(r, 0) != '\n')
                step(r);
        else if (c == '\\' && (peek(r, 1) == '\n' || (peek(r, 1) == '\r' && peek(r, 2) == '\n')))
            while (*r->at++ != '\n' || (r->line++, false))
                ;
        else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || (lines && c == '\n'))
            step(r);
        else
            return;
    }
}

static bool name_char(int c)
{
    return c >= 0 && (isalnum(c) || c == '_');
}

/* ---- strings ---- */

static void add_utf8(struct buf *b, unsigned code)
{
    if (code < 0x80) {
        buf_add_char(b, (char)code);
    } else { /* \xHH: Latin-1, so that the text stays text */
        buf_add_char(b, (char)(0xc0 | code >> 6));
        buf_add_char(b, (char)(0x80 | (code & 0x3f)));
    }
}

static int digit(int c, int base)
{
    int d = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : 99;
    return d < base ? d : -1;
}

/* Behind the backslash. */
static bool escape(struct reader *r, struct buf *b)
{
    static const char from[] = "abfnrtv", to[] = "\a\b\f\n\r\t\v";
    int c = peek(r, 0), base = c == 'x' ? 16 : 8, most = c == 'x' ? 2 : 3;
    unsigned code = 0;
    const char *known = c > 0 ? strchr(from, c) : NULL;
    if (c == '\n') {
        step(r);
        return true;
    }
    if (c == 'x' || digit(c, 8) >= 0) {
        if (c == 'x')
            step(r);
        for (int i = 0; i < most && peek(r, 0) >= 0 && digit(peek(r, 0), base) >= 0; i++) {
            code = code * (unsigned)base + (unsigned)digit(peek(r, 0), base);
            step(r);
        }
        if (!code || code > 0xff)
            return false;
        add_utf8(b, code);
        return true;
    }
    if (c < 0)
        return false;
    if (known) {
        buf_add_char(b, to[known - from]);
    } else {
        if (c != '\'' && c != '"' && c != '\\')
            buf_add_char(b, '\\');
        buf_add_char(b, (char)c);
    }
    step(r);
    return true;
}

/* One literal, from its quote; appended. */
static bool literal(struct reader *r, bool raw, struct buf *b)
{
    int quote = peek(r, 0);
    bool triple = peek(r, 1) == quote && peek(r, 2) == quote;
    for (int i = 0; i < (triple ? 3 : 1); i++)
        step(r);
    for (int c; (c = peek(r, 0)) >= 0;) {
        if (c == quote && (!triple || (peek(r, 1) == quote && peek(r, 2) == quote))) {
            for (int i = 0; i < (triple ? 3 : 1); i++)
                step(r);
            return true;
        }
        if (c == '\n' && !triple)
            break;
        step(r);
        if (c == 0)
            return refuse(r, "a text must not hold NUL") != NULL;
        if (c != '\\' || raw)
            buf_add_char(b, (char)c);
        else if (!escape(r, b))
            return refuse(r, "this escape is none of xl's") != NULL;
    }
    return refuse(r, "a text has no closing quote") != NULL;
}

static bool at_string(const struct reader *r, bool *raw)
{
    int c = peek(r, 0), next = peek(r, 1);
    *raw = c == 'r' || c == 'R';
    return c == '"' || c == '\'' || ((*raw || c == 'u' || c == 'b') && (next == '"' || next == '\''));
}

/* Literals side by side, or joined by +, are one. */
static json_t *string(struct reader *r, bool lines)
{
    AUTO_BUF struct buf b = BUF_INIT;
    bool raw;
    buf_add(&b, "", 0);
    while (at_string(r, &raw)) {
        if (peek(r, 0) != '"' && peek(r, 0) != '\'')
            step(r);
        if (!literal(r, raw, &b))
            return NULL;
        struct reader before = *r;
        skip(r, lines);
        if (peek(r, 0) == '+') {
            step(r);
            skip(r, lines);
        }
        if (!at_string(r, &raw)) {
            *r = before;
            break;
        }
    }
    json_t *s = json_stringn(b.data ? b.data : "", b.len);
    return s ? s : refuse(r, "a text must be UTF-8");
}

/* ---- values ---- */

static json_t *value(struct reader *r, bool lines, int depth);

static json_t *list(struct reader *r, char close, int depth)
{
    AUTO_JSON json_t *items = json_array();
    if (depth == DEPTH_MAX)
        return refuse(r, "lists are nested too deep");
    step(r);
    for (;;) {
        skip(r, true);
        if (peek(r, 0) == close) {
            step(r);
            return TAKE_PTR(items);
        }
        if (peek(r, 0) < 0)
            return refuse(r, "a list is not closed");
        json_t *item = value(r, true, depth + 1);
        if (!item)
            return NULL;
        json_array_append_new(items, item);
        if (++r->items > ITEMS_MAX)
            return refuse(r, "there are too many items");
        skip(r, true);
        if (peek(r, 0) == ',')
            step(r);
        else if (peek(r, 0) >= 0 && peek(r, 0) != close)
            return refuse(r, "a comma or the end of the list belongs here");
    }
}

/* Everything up to the end of the value, brackets and quotes kept together. */
static json_t *expression(struct reader *r, const char *from, bool lines)
{
    int depth = 0;
    bool raw;
    for (int c; (c = peek(r, 0)) >= 0;) {
        if (at_string(r, &raw)) {
            AUTO_BUF struct buf ignored = BUF_INIT;
            if (c != '"' && c != '\'')
                step(r);
            if (!literal(r, true, &ignored))
                return NULL;
            continue;
        }
        if (c == '[' || c == '(' || c == '{') {
            depth++;
        } else if (c == ']' || c == ')' || c == '}') {
            if (depth-- == 0)
                break;
        } else if (depth == 0 && (c == '\n' || c == ';' || c == '#' || (lines && c == ','))) {
            break;
        }
        step(r);
    }
    size_t len = (size_t)(r->at - from);
    while (len && isspace((unsigned char)from[len - 1]))
        len--;
    json_t *text = json_stringn(from, len < EXPRESSION_SHOWN ? len : EXPRESSION_SHOWN);
    return json_pack("{s:o}", "expression", text ? text : json_string("..."));
}

static json_t *number(struct reader *r)
{
    char digits[32], *end;
    size_t n = 0;
    if (peek(r, 0) == '-')
        digits[n++] = '-', step(r);
    while (name_char(peek(r, 0)) && n < sizeof(digits) - 1) {
        digits[n++] = *r->at;
        step(r);
    }
    digits[n] = '\0';
    errno = 0;
    long long v = strtoll(digits, &end, 0);
    if (errno || *end)
        return NULL; /* an expression, perhaps */
    return json_integer(v);
}

static json_t *word(struct reader *r)
{
    static const struct {
        const char *word;
        int value;
    } words[] = {{"True", 1}, {"False", 0}, {"true", 1}, {"false", 0}, {"None", -1}};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        size_t len = strlen(words[i].word);
        if ((size_t)(r->end - r->at) < len || memcmp(r->at, words[i].word, len) != 0 ||
            name_char(peek(r, len)))
            continue;
        r->at += len;
        return words[i].value < 0 ? json_null() : json_integer(words[i].value);
    }
    return NULL;
}

/* `lines`: within a list, where values go on over ends of lines. */
static json_t *value(struct reader *r, bool lines, int depth)
{
    struct reader before = *r;
    bool raw;
    int c = peek(r, 0);
    json_t *v;
    if (at_string(r, &raw))
        v = string(r, lines);
    else if (c == '[' || c == '(')
        v = list(r, c == '[' ? ']' : ')', depth);
    else if (c == '-' || isdigit(c))
        v = number(r);
    else
        v = word(r);
    if (*r->problem) {
        json_decref(v);
        return NULL;
    }
    struct reader behind = *r;
    skip(r, lines);
    int next = peek(r, 0);
    if (v && (next < 0 || next == '\n' || next == ';' || next == '#' ||
              (depth > 0 && (next == ',' || next == ']' || next == ')')))) {
        *r = behind;
        /* Brackets around one value are no list. */
        if (c == '(' && json_array_size(v) == 1) {
            json_t *only = json_incref(json_array_get(v, 0));
            json_decref(v);
            v = only;
        }
        return v;
    }
    json_decref(v);
    if (!v && (next < 0 || next == '\n' || next == ';' || next == ','))
        return refuse(r, "a value is missing");
    *r = before;
    return expression(r, before.at, lines);
}

/* ---- lines ---- */

static void note_statement(struct reader *r, const char *from, unsigned line)
{
    size_t len = (size_t)(r->at - from);
    while (len && isspace((unsigned char)from[len - 1]))
        len--;
    AUTO_FREE char *key = xasprintf("line %u", line);
    json_t *text = json_stringn(from, len < EXPRESSION_SHOWN ? len : EXPRESSION_SHOWN);
    json_array_append_new(r->notes,
                          json_pack("{s:s, s:o, s:s}", "key", key, "value", text ? text : json_string("..."),
                                    "why", "a statement of Python: files are read here, not run"));
}

/* The rest of the line; with what is indented below when it opens a block. */
static void skip_statement(struct reader *r)
{
    const char *from = r->at;
    unsigned line = r->line;
    int last = 0;
    while (peek(r, 0) >= 0 && peek(r, 0) != '\n') {
        if (!isspace(peek(r, 0)))
            last = peek(r, 0);
        step(r);
    }
    note_statement(r, from, line);
    while (last == ':' && peek(r, 0) == '\n') {
        struct reader next = *r;
        step(&next);
        int c = peek(&next, 0);
        if (c != ' ' && c != '\t' && c != '\n')
            return;
        *r = next;
        while (peek(r, 0) >= 0 && peek(r, 0) != '\n')
            step(r);
    }
}

static void append(json_t *all, const char *key, json_t *v, unsigned line)
{
    size_t i;
    json_t *entry;
    json_array_foreach(all, i, entry)
    {
        json_t *now = json_array_get(entry, 1);
        if (!streq(json_string_value(json_array_get(entry, 0)), key))
            continue;
        if (json_is_array(now) && json_is_array(v))
            json_array_extend(now, v);
        else if (json_is_string(now) && json_is_string(v))
            json_array_set_new(entry, 1, json_sprintf("%s%s", json_string_value(now), json_string_value(v)));
        else
            json_array_set_new(entry, 1, json_pack("{s:s}", "expression", "+="));
        json_decref(v);
        return;
    }
    json_array_append_new(all, json_pack("[s, o, i]", key, v, (int)line));
}

static void assign(json_t *all, const char *key, json_t *v, unsigned line)
{
    size_t i;
    json_t *entry;
    json_array_foreach(all, i, entry) if (streq(json_string_value(json_array_get(entry, 0)), key))
    {
        json_array_set_new(entry, 1, v); /* said again: the last counts */
        json_array_set_new(entry, 2, json_integer(line));
        return;
    }
    json_array_append_new(all, json_pack("[s, o, i]", key, v, (int)line));
}

static bool one(struct reader *r, json_t *all)
{
    char key[64];
    size_t n = 0;
    struct reader before = *r;
    unsigned line = r->line;
    while (name_char(peek(r, 0)) && n < sizeof(key) - 1) {
        key[n++] = *r->at;
        step(r);
    }
    key[n] = '\0';
    skip(r, false);
    bool adds = peek(r, 0) == '+' && peek(r, 1) == '=';
    if (!n || isdigit((unsigned char)key[0]) || name_char(peek(r, 0)) ||
        (!adds && (peek(r, 0) != '=' || peek(r, 1) == '='))) {
        *r = before;
        if (!n && !strchr("@'\"(", peek(r, 0)))
            return refuse(r, "an assignment like name = value belongs here") != NULL;
        skip_statement(r);
        return true;
    }
    step(r);
    if (adds)
        step(r);
    skip(r, false);
    json_t *v = value(r, false, 0);
    if (!v)
        return refuse(r, "the value cannot be read") != NULL;
    if (++r->items > ITEMS_MAX) {
        json_decref(v);
        return refuse(r, "there are too many lines") != NULL;
    }
    if (adds)
        append(all, key, v, line);
    else
        assign(all, key, v, line);
    return true;
}

json_t *xl_parse(const char *text, size_t len, json_t *notes, char **problem)
{
    struct reader r = {
        .start = text, .at = text, .end = text + len, .line = 1, .notes = notes, .problem = problem};
    AUTO_JSON json_t *all = json_array();
    *problem = NULL;
    for (;;) {
        while (skip(&r, true), peek(&r, 0) == ';')
            step(&r);
        if (peek(&r, 0) < 0)
            return TAKE_PTR(all);
        if (!one(&r, all))
            return NULL;
        skip(&r, false);
        if (peek(&r, 0) >= 0 && peek(&r, 0) != '\n' && peek(&r, 0) != ';')
            return refuse(&r, "a new line belongs behind a value");
    }
}
