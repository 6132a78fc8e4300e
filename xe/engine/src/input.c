/* Text of the command line to a JSON value of an API type. */
#include "run.h"
#include <errno.h>
#include <inttypes.h>
#include <strings.h>

static json_t *bad(struct xe_run_state *x, const char *what, const char *text, const char *expected)
{
    xe_fail(x, XE_ERR_CLI, "%s must be %s, not '%s'", what, expected, text);
    return NULL;
}

static json_t *integer(struct xe_run_state *x, const char *what, const char *text)
{
    char *end;
    errno = 0;
    intmax_t n = strtoimax(text, &end, 10);
    if (end == text || *end || errno)
        return bad(x, what, text, "a whole number");
    return json_integer(n);
}

static json_t *reference(struct xe_run_state *x, const char *api_class, const char *text)
{
    if (!*text)
        return json_string("OpaqueRef:NULL");
    AUTO_FREE char *ref = NULL;
    if (xe_ref_by_uuid(x, api_class, text, &ref) < 0)
        return NULL;
    return json_string(ref);
}

/* Both the wire's word and the shown one are taken, in any case. */
static json_t *word(const struct xe_texts *texts, const char *text)
{
    for (size_t i = 0; texts && i < texts->count; i++)
        if (strcasecmp(texts->rows[i].shown, text) == 0)
            return json_string(texts->rows[i].wire);
    return json_string(text);
}

json_t *xe_input(struct xe_run_state *x, const char *what, int type, const char *api_class,
                 const struct xe_texts *texts, const char *text)
{
    bool b;
    int64_t bytes;
    char *end;
    switch ((enum xe_type)type) {
    case XE_BOOL:
        return xe_parse_bool(text, &b) ? json_boolean(b) : bad(x, what, text, "true or false");
    case XE_INT:
        return integer(x, what, text);
    case XE_BYTES:
        if (!xe_parse_bytes(text, &bytes))
            return bad(x, what, text, "a size like 1073741824, 512MiB or 10GiB");
        return json_integer(bytes);
    case XE_FLOAT: {
        double d = strtod(text, &end);
        return end == text || *end ? bad(x, what, text, "a number") : json_real(d);
    }
    case XE_REF:
        return reference(x, api_class, text);
    case XE_ENUM:
    case XE_STRING:
    case XE_DATETIME:
    case XE_VOID:
    case XE_RECORD:
        break;
    }
    json_t *s = word(texts, text);
    return s ? s : bad(x, what, "...", "text in UTF-8");
}
