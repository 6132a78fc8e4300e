/* See pick.h. One pass over the text: strings are skipped by their quotes, values by their brackets. */
#include "pick.h"
#include <base/json.h>
#include <stdint.h>
#include <string.h>

struct scan {
    const char *at, *end;
};

static void space(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
}

static bool take(struct scan *s, char c)
{
    space(s);
    if (s->at == s->end || *s->at != c)
        return false;
    s->at++;
    return true;
}

/* From the opening quote to behind the closing one. */
static bool skip_string(struct scan *s)
{
    if (!take(s, '"'))
        return false;
    while (s->at < s->end) {
        const char *quote = memchr(s->at, '"', (size_t)(s->end - s->at));
        if (!quote)
            return false;
        size_t slashes = 0;
        while (quote - slashes > s->at && quote[-1 - (ptrdiff_t)slashes] == '\\')
            slashes++;
        s->at = quote + 1;
        if (slashes % 2 == 0)
            return true;
    }
    return false;
}

static bool skip_value(struct scan *s)
{
    int depth = 0;
    uint64_t objects = 0; /* bit i: the bracket opened at depth i is one of an object */
    _Static_assert(JSON_MAX_DEPTH <= 64, "a bit for each depth");
    do {
        space(s);
        if (s->at == s->end)
            return false;
        switch (*s->at) {
        case '"':
            if (!skip_string(s))
                return false;
            break;
        case '{':
        case '[':
            if (depth == JSON_MAX_DEPTH)
                return false;
            objects = (objects & ~(1ULL << depth)) | (uint64_t)(*s->at == '{') << depth;
            depth++;
            s->at++;
            break;
        case '}':
        case ']':
            if (depth-- == 0 || (objects >> depth & 1) != (*s->at == '}'))
                return false;
            s->at++;
            break;
        case ',':
        case ':':
            if (depth == 0)
                return false;
            s->at++;
            break;
        default:
            while (s->at < s->end && !strchr(",:]}[{\" \n\r\t", *s->at))
                s->at++;
        }
    } while (depth > 0);
    return true;
}

static bool named(const char *const *keep, const char *name, size_t len)
{
    for (; *keep; keep++)
        if (strncmp(*keep, name, len) == 0 && !(*keep)[len])
            return true;
    return false;
}

typedef bool member_fn(struct scan *s, const char *name, size_t len, void *arg);

/* Calls `each` at every member's value; it must leave the scan behind the value. */
static bool members(struct scan *s, member_fn *each, void *arg)
{
    if (!take(s, '{'))
        return false;
    if (take(s, '}'))
        return true;
    do {
        space(s);
        const char *name = s->at + 1;
        if (!skip_string(s))
            return false;
        size_t len = (size_t)(s->at - 1 - name);
        if (!take(s, ':') || !each(s, name, len, arg))
            return false;
    } while (take(s, ','));
    return take(s, '}');
}

struct picking {
    const char *const *keep;
    struct buf *out;
    bool first, result_seen;
};

static void put_name(struct picking *p, const char *name, size_t len)
{
    buf_add_str(p->out, p->first ? "\"" : ",\"");
    buf_add(p->out, name, len);
    buf_add_str(p->out, "\":");
    p->first = false;
}

static bool copy_value(struct scan *s, struct picking *p)
{
    space(s);
    const char *start = s->at;
    if (!skip_value(s))
        return false;
    buf_add(p->out, start, (size_t)(s->at - start));
    return true;
}

static bool record_member(struct scan *s, const char *name, size_t len, void *arg)
{
    struct picking *p = arg;
    if (!named(p->keep, name, len))
        return skip_value(s);
    put_name(p, name, len);
    return copy_value(s, p);
}

static bool open_object(struct scan *s, struct picking *p, const char *name, size_t len, member_fn *each)
{
    put_name(p, name, len);
    buf_add_char(p->out, '{');
    p->first = true;
    bool good = members(s, each, p);
    buf_add_char(p->out, '}');
    p->first = false;
    return good;
}

static bool record(struct scan *s, const char *name, size_t len, void *arg)
{
    return open_object(s, arg, name, len, record_member);
}

static bool answer_member(struct scan *s, const char *name, size_t len, void *arg)
{
    struct picking *p = arg;
    if (len == 6 && memcmp(name, "result", 6) == 0 && !p->result_seen) {
        p->result_seen = true;
        return open_object(s, p, name, len, record);
    }
    put_name(p, name, len);
    return copy_value(s, p);
}

bool xe_pick(const char *text, size_t len, const char *const *keep, struct buf *out)
{
    struct scan s = {text, text + len};
    struct picking p = {.keep = keep, .out = out, .first = true};
    buf_add_char(out, '{');
    if (!members(&s, answer_member, &p))
        return false;
    buf_add_char(out, '}');
    space(&s);
    return s.at == s.end && p.result_seen;
}
