/* XML-RPC requests, read with libxml2's SAX interface: nothing is built but the values themselves.
 *
 * The open elements are a stack of frames. Text is collected since the last tag; an element that holds text
 * takes it when it ends, everywhere else it has to be white space. */
#include "xml_request.h"

#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <libxml/parser.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <strings.h>

enum element {
    AT_DOCUMENT,
    AT_CALL,
    AT_METHOD,
    AT_PARAMS,
    AT_PARAM,
    AT_VALUE,
    AT_STRING,
    AT_INT,
    AT_BOOLEAN,
    AT_DOUBLE,
    AT_DATE,
    AT_NIL,
    AT_ARRAY,
    AT_DATA,
    AT_STRUCT,
    AT_MEMBER,
    AT_NAME,
    ELEMENTS,
};

/* Where each tag may stand. The same tag inside several elements has a line for each. */
static const struct {
    const char *tag;
    enum element parent, element;
} grammar[] = {
    {"value", AT_PARAM, AT_VALUE},      {"value", AT_MEMBER, AT_VALUE},
    {"value", AT_DATA, AT_VALUE},       {"string", AT_VALUE, AT_STRING},
    {"int", AT_VALUE, AT_INT},          {"i4", AT_VALUE, AT_INT},
    {"i8", AT_VALUE, AT_INT},           {"boolean", AT_VALUE, AT_BOOLEAN},
    {"double", AT_VALUE, AT_DOUBLE},    {"dateTime.iso8601", AT_VALUE, AT_DATE},
    {"nil", AT_VALUE, AT_NIL},          {"array", AT_VALUE, AT_ARRAY},
    {"struct", AT_VALUE, AT_STRUCT},    {"data", AT_ARRAY, AT_DATA},
    {"member", AT_STRUCT, AT_MEMBER},   {"name", AT_MEMBER, AT_NAME},
    {"param", AT_PARAMS, AT_PARAM},     {"params", AT_CALL, AT_PARAMS},
    {"methodName", AT_CALL, AT_METHOD}, {"methodCall", AT_DOCUMENT, AT_CALL},
};

struct frame {
    enum element element;
    bool filled;   /* an element that holds one thing has it */
    char *name;    /* AT_MEMBER */
    json_t *value; /* the value, or the array or object under way */
};

/* Each level of values takes three elements at most. */
#define FRAMES_MAX (3 * JSON_MAX_DEPTH + 8)
#define TAG_MAX 1024

struct reader {
    xmlParserCtxt *parser;
    struct frame frames[FRAMES_MAX];
    size_t depth;
    struct buf text;
    struct xml_request *request;
    bool failed;
    char *error;
};

static void fail(struct reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fail(struct reader *r, const char *format, ...)
{
    if (r->failed)
        return;
    va_list ap;
    va_start(ap, format);
    vsnprintf(r->error, XML_REQUEST_ERROR_SIZE, format, ap);
    va_end(ap);
    r->failed = true;
    xmlStopParser(r->parser);
}

static struct frame *top(struct reader *r)
{
    return &r->frames[r->depth];
}

static void frame_done(struct frame *frame)
{
    free(frame->name);
    json_decref(frame->value);
    *frame = (struct frame){0};
}

/* ---- values ---- */

static const char *text_of(struct reader *r)
{
    return r->text.len ? r->text.data : "";
}

static bool is_blank(const char *text)
{
    return text[strspn(text, " \t\r\n")] == '\0';
}

/* Without the white space around it. */
static const char *trimmed(struct reader *r)
{
    if (!r->text.len)
        return "";
    while (r->text.len && isspace((unsigned char)r->text.data[r->text.len - 1]))
        r->text.data[--r->text.len] = '\0';
    return r->text.data + strspn(r->text.data, " \t\r\n");
}

static json_t *read_int(struct reader *r)
{
    const char *text = trimmed(r);
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (!*text || *end || errno) {
        fail(r, "an integer is decimal digits and fits into 64 bits");
        return NULL;
    }
    return json_integer(value);
}

static json_t *read_boolean(struct reader *r)
{
    const char *text = trimmed(r);
    if (streq(text, "1") || streq(text, "true"))
        return json_true();
    if (streq(text, "0") || streq(text, "false"))
        return json_false();
    fail(r, "a boolean is 0 or 1");
    return NULL;
}

static json_t *read_double(struct reader *r)
{
    const char *text = trimmed(r);
    char *end;
    double value = strtod(text, &end);
    if (!*text || *end) {
        fail(r, "a double is a decimal number");
        return NULL;
    }
    return isfinite(value) ? json_real(value) : json_string_nocheck(text);
}

static json_t *read_text(struct reader *r)
{
    return json_stringn_nocheck(text_of(r), r->text.len);
}

static json_t *read_scalar(struct reader *r, enum element element)
{
    switch (element) {
    case AT_INT:
        return read_int(r);
    case AT_BOOLEAN:
        return read_boolean(r);
    case AT_DOUBLE:
        return read_double(r);
    case AT_DATE:
        return json_string_nocheck(trimmed(r));
    default:
        return read_text(r);
    }
}

/* ---- the end of elements; `frame` is taken off the stack already ---- */

static void end_value(struct reader *r, struct frame *frame, struct frame *parent)
{
    json_t *value = frame->filled ? json_incref(frame->value) : read_text(r);
    if (parent->element == AT_DATA) {
        json_array_append_new(parent->value, value);
    } else {
        parent->value = value;
    }
}

static void end_member(struct reader *r, struct frame *frame, struct frame *parent)
{
    if (!frame->name || !frame->filled)
        fail(r, "a member of a struct has a name and a value");
    else if (!json_object_get(parent->value, frame->name))
        json_object_set_nocheck(parent->value, frame->name, frame->value);
}

static void end_element(struct reader *r, struct frame *frame)
{
    struct frame *parent = top(r);
    switch (frame->element) {
    case AT_METHOD:
        r->request->method = xstrdup(trimmed(r));
        break;
    case AT_NAME:
        if (parent->name)
            fail(r, "a member of a struct has one name");
        else
            parent->name = xstrdup(text_of(r));
        break;
    case AT_STRING:
    case AT_INT:
    case AT_BOOLEAN:
    case AT_DOUBLE:
    case AT_DATE:
        parent->value = read_scalar(r, frame->element);
        break;
    case AT_NIL:
        parent->value = json_null();
        break;
    case AT_DATA:
    case AT_ARRAY:
    case AT_STRUCT:
        json_decref(parent->value); /* an array's, made for the case that it has no data */
        parent->value = json_incref(frame->value);
        break;
    case AT_MEMBER:
        end_member(r, frame, parent);
        break;
    case AT_VALUE:
        end_value(r, frame, parent);
        break;
    case AT_PARAM:
        if (frame->filled)
            json_array_append(r->request->params, frame->value);
        else
            fail(r, "a param has a value");
        break;
    default:
        break;
    }
}

static bool holds_text(const struct frame *frame)
{
    switch (frame->element) {
    case AT_METHOD:
    case AT_NAME:
    case AT_STRING:
    case AT_INT:
    case AT_BOOLEAN:
    case AT_DOUBLE:
    case AT_DATE:
        return true;
    case AT_VALUE:
        return !frame->filled;
    default:
        return false;
    }
}

/* ---- libxml2's callbacks ---- */

static void begin_element(struct reader *r, enum element element)
{
    struct frame *parent = top(r);
    bool single = element != AT_NAME && (parent->element == AT_VALUE || parent->element == AT_ARRAY ||
                                         parent->element == AT_PARAM || parent->element == AT_MEMBER);
    if (single && parent->filled) {
        fail(r, "there are two values where one belongs");
        return;
    }
    if (element == AT_METHOD && r->request->method) {
        fail(r, "a call has one methodName");
        return;
    }
    parent->filled = parent->filled || single;
    if (r->depth + 1 == FRAMES_MAX) {
        fail(r, "values are nested deeper than %d", JSON_MAX_DEPTH);
        return;
    }
    r->depth++;
    *top(r) = (struct frame){.element = element};
    if (element == AT_ARRAY || element == AT_DATA)
        top(r)->value = json_array();
    else if (element == AT_STRUCT)
        top(r)->value = json_object();
}

static void on_start(void *context, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                     int namespaces, const xmlChar **namespace_list, int attributes, int defaulted,
                     const xmlChar **attribute_list)
{
    (void)prefix, (void)uri, (void)namespaces, (void)namespace_list, (void)attributes, (void)defaulted,
        (void)attribute_list;
    struct reader *r = context;
    if (r->failed)
        return;
    if (!is_blank(text_of(r))) {
        fail(r, "there is text where a tag belongs");
        return;
    }
    buf_clear(&r->text);
    for (size_t i = 0; i < ARRAY_LEN(grammar); i++)
        if (grammar[i].parent == top(r)->element && streq(grammar[i].tag, (const char *)name)) {
            begin_element(r, grammar[i].element);
            return;
        }
    fail(r, "a tag is unknown, or stands where it does not belong");
}

static void on_end(void *context, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri)
{
    (void)name, (void)prefix, (void)uri;
    struct reader *r = context;
    if (r->failed)
        return;
    struct frame frame = *top(r);
    if (!holds_text(&frame) && !is_blank(text_of(r))) {
        fail(r, "there is text where a tag belongs");
        return;
    }
    r->depth--;
    end_element(r, &frame);
    frame_done(&frame);
    buf_clear(&r->text);
}

static void on_text(void *context, const xmlChar *text, int len)
{
    struct reader *r = context;
    if (!r->failed)
        buf_add(&r->text, (const char *)text, (size_t)len);
}

static void on_doctype(void *context, const xmlChar *name, const xmlChar *id, const xmlChar *system)
{
    (void)name, (void)id, (void)system;
    fail(context, "a document type is not allowed");
}

static void on_error(void *context, xmlErrorPtr error)
{
    if (error->level == XML_ERR_FATAL)
        fail(context, "the text is not well-formed XML (line %d)", error->line);
}

/* ---- the text's encoding ---- */

/* The declared encoding is one of those that libxml2 reads by itself; *utf8: UTF-8 or a part of it. */
static bool encoding_allowed(const char *data, size_t len, bool *utf8)
{
    static const struct {
        const char *name;
        bool utf8;
    } known[] = {{"utf-8", true}, {"utf8", true}, {"us-ascii", true}, {"ascii", true}, {"iso-8859-1", false}};
    if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
        data += 3;
        len -= 3;
    }
    *utf8 = true;
    if (len < 6 || memcmp(data, "<?xml", 5) != 0)
        return len == 0 || ((unsigned char)data[0] < 0xfe && data[0] != '\0');
    const char *end = memchr(data, '>', len);
    const char *at = end ? memmem(data, (size_t)(end - data), "encoding", 8) : NULL;
    if (!at)
        return true;
    at += 8;
    while (at < end && (isspace((unsigned char)*at) || *at == '=' || *at == '"' || *at == '\''))
        at++;
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        size_t name_len = strlen(known[i].name);
        if ((size_t)(end - at) > name_len && strncasecmp(at, known[i].name, name_len) == 0 &&
            (at[name_len] == '"' || at[name_len] == '\'')) {
            *utf8 = known[i].utf8;
            return true;
        }
    }
    return false;
}

/* ---- the length of tags ---- */

/* Behind `end`, the closing mark of a comment and its like; `limit` when there is none. */
static const char *skip_past(const char *at, const char *limit, const char *end)
{
    size_t len = strlen(end);
    const char *found = memmem(at, (size_t)(limit - at), end, len);
    return found ? found + len : limit;
}

/* The '>' of the tag that begins at `at`, beyond quoted values; `limit`: none. */
static const char *tag_end(const char *at, const char *limit)
{
    for (char quote = '\0'; at < limit; at++) {
        if (quote)
            quote = *at == quote ? '\0' : quote;
        else if (*at == '"' || *at == '\'')
            quote = *at;
        else if (*at == '>')
            break;
    }
    return at;
}

static bool begins(const char *at, const char *limit, const char *word)
{
    size_t len = strlen(word);
    return (size_t)(limit - at) >= len && memcmp(at, word, len) == 0;
}

/* libxml2 compares each attribute of a tag with all before it: a long tag costs the square of its length.
 * Reads as far as the text is well-formed, which is as far as libxml2 will. */
static bool tags_are_short(const char *data, size_t len)
{
    const char *at = data, *limit = data + len;
    while ((at = memchr(at, '<', (size_t)(limit - at)))) {
        if (begins(at, limit, "<!--")) {
            at = skip_past(at + 4, limit, "-->");
        } else if (begins(at, limit, "<![CDATA[")) {
            at = skip_past(at + 9, limit, "]]>");
        } else if (begins(at, limit, "<?")) {
            at = skip_past(at + 2, limit, "?>");
        } else {
            const char *end = tag_end(at, limit);
            if (end - at > TAG_MAX)
                return false;
            at = end;
        }
    }
    return true;
}

/* ---- the whole ---- */

static void read_document(struct reader *r, const char *data, size_t len)
{
    xmlSAXHandler handler = {
        .initialized = XML_SAX2_MAGIC,
        .startElementNs = on_start,
        .endElementNs = on_end,
        .characters = on_text,
        .ignorableWhitespace = on_text,
        .cdataBlock = on_text,
        .internalSubset = on_doctype,
        .serror = on_error,
    };
    r->parser = xmlCreatePushParserCtxt(&handler, r, NULL, 0, NULL);
    if (!r->parser)
        abort(); /* only memory can be missing */
    xmlCtxtUseOptions(r->parser, XML_PARSE_NONET | XML_PARSE_NOWARNING);
    xmlParseChunk(r->parser, data, (int)len, 1);
    if (!r->parser->wellFormed)
        fail(r, "the text is not well-formed XML");
    else if (!r->request->method)
        fail(r, "the call has no methodName");
    xmlDoc *none = r->parser->myDoc;
    xmlFreeParserCtxt(r->parser);
    xmlFreeDoc(none);
}

int xml_request_parse(const char *data, size_t len, struct xml_request *out,
                      char error[static XML_REQUEST_ERROR_SIZE])
{
    struct xml_request request = {.params = json_array()};
    struct reader *r = xcalloc(1, sizeof(*r));
    AUTO_FREE char *repaired = NULL;
    bool utf8;
    r->request = &request;
    r->error = error;
    bool allowed = len <= INT32_MAX && encoding_allowed(data, len, &utf8);
    if (allowed && utf8 && !utf8_valid(data, len)) {
        request.damaged = true;
        data = repaired = utf8_repaired(data, len, &len);
    }
    const char *refusal = !allowed                     ? "the text's encoding is not UTF-8"
                          : !tags_are_short(data, len) ? "a tag is too long"
                                                       : NULL;
    if (refusal) {
        r->failed = true;
        snprintf(error, XML_REQUEST_ERROR_SIZE, "%s", refusal);
    } else {
        read_document(r, data, len);
    }
    bool failed = r->failed;
    for (size_t i = 0; i <= r->depth; i++)
        frame_done(&r->frames[i]);
    buf_done(&r->text);
    free(r);
    if (failed) {
        xml_request_done(&request);
        return -1;
    }
    *out = request;
    return 0;
}

void xml_request_done(struct xml_request *request)
{
    free(request->method);
    json_decref(request->params);
    *request = (struct xml_request){0};
}
