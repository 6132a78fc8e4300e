/* Events of libyaml, read by recursive descent of bounded depth. */
#include <base/yaml.h>

#include <base/mem.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    struct json_error *error;
};

static json_t *fail(struct reader *r, const yaml_mark_t *mark, const char *text)
{
    snprintf(r->error->text, sizeof(r->error->text), "%s", text);
    r->error->line = (int)mark->line + 1;
    r->error->column = (int)mark->column + 1;
    return NULL;
}

static bool next(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return true;
    fail(r, &r->parser.problem_mark, r->parser.problem ? r->parser.problem : "This is no YAML.");
    return false;
}

/* -?(0|[1-9][0-9]*), which also JSON has. */
static bool is_integer(const char *text)
{
    const char *digits = text + (*text == '-');
    size_t len = strlen(digits);
    return len > 0 && len <= 18 && strspn(digits, "0123456789") == len && (*digits != '0' || len == 1);
}

/* As in JSON: with a point or an exponent, and no other letters. */
static bool is_real(const char *text)
{
    char *end;
    if (strspn(text, "0123456789+-.eE") != strlen(text) || !strpbrk(text, ".eE") || strlen(text) > 40)
        return false;
    strtod(text, &end);
    return *end == '\0' && strpbrk(text, "0123456789");
}

static json_t *plain(const char *text)
{
    if (strcmp(text, "") == 0 || strcmp(text, "null") == 0 || strcmp(text, "~") == 0)
        return json_null();
    if (strcmp(text, "true") == 0)
        return json_true();
    if (strcmp(text, "false") == 0)
        return json_false();
    if (is_integer(text))
        return json_integer(strtoll(text, NULL, 10));
    if (is_real(text))
        return json_real(strtod(text, NULL)); /* NULL when it is too large */
    return json_string(text);
}

static json_t *scalar(struct reader *r, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length)
        return fail(r, &event->start_mark, "A text has no NUL.");
    json_t *value = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? plain(text) : json_string(text);
    return value ? value : fail(r, &event->start_mark, "This is no value.");
}

static json_t *value_of(struct reader *r, yaml_event_t *event, int depth);

static json_t *sequence(struct reader *r, int depth)
{
    AUTO_JSON json_t *list = json_array();
    for (;;) {
        yaml_event_t event;
        if (!next(r, &event))
            return NULL;
        if (event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return TAKE_PTR(list);
        }
        json_t *item = value_of(r, &event, depth);
        if (!item)
            return NULL;
        json_array_append_new(list, item);
    }
}

/* The key that the event is; NULL: failed. A heap string. */
static char *key_of(struct reader *r, yaml_event_t *event, const json_t *map)
{
    const char *text = event->type == YAML_SCALAR_EVENT ? (const char *)event->data.scalar.value : NULL;
    if (!text || strlen(text) != event->data.scalar.length || event->data.scalar.anchor ||
        event->data.scalar.tag)
        fail(r, &event->start_mark, "A key is a text.");
    else if (json_object_get(map, text))
        fail(r, &event->start_mark, "The key is there twice.");
    else
        return xstrdup(text);
    return NULL;
}

static json_t *mapping(struct reader *r, int depth)
{
    AUTO_JSON json_t *map = json_object();
    for (;;) {
        yaml_event_t event;
        if (!next(r, &event))
            return NULL;
        if (event.type == YAML_MAPPING_END_EVENT) {
            yaml_event_delete(&event);
            return TAKE_PTR(map);
        }
        AUTO_FREE char *key = key_of(r, &event, map);
        yaml_event_delete(&event);
        if (!key || !next(r, &event))
            return NULL;
        json_t *item = value_of(r, &event, depth);
        if (!item)
            return NULL;
        json_object_set_new(map, key, item);
    }
}

/* Takes the event. */
static json_t *value_of(struct reader *r, yaml_event_t *event, int depth)
{
    yaml_event_t own = *event;
    json_t *value = NULL;
    const bool named = (own.type == YAML_SCALAR_EVENT && (own.data.scalar.anchor || own.data.scalar.tag)) ||
                       (own.type == YAML_SEQUENCE_START_EVENT &&
                        (own.data.sequence_start.anchor || own.data.sequence_start.tag)) ||
                       (own.type == YAML_MAPPING_START_EVENT &&
                        (own.data.mapping_start.anchor || own.data.mapping_start.tag));
    if (depth == YAML_DEPTH_MAX)
        fail(r, &own.start_mark, "This is nested too deeply.");
    else if (named || own.type == YAML_ALIAS_EVENT)
        fail(r, &own.start_mark, "Anchors, aliases and tags are not taken.");
    else if (own.type == YAML_SCALAR_EVENT)
        value = scalar(r, &own);
    else if (own.type == YAML_SEQUENCE_START_EVENT)
        value = sequence(r, depth + 1);
    else if (own.type == YAML_MAPPING_START_EVENT)
        value = mapping(r, depth + 1);
    else
        fail(r, &own.start_mark, "A value is missing.");
    yaml_event_delete(&own);
    return value;
}

/* True if the next event is of this type; it is dropped. */
static bool expect(struct reader *r, yaml_event_type_t type, const char *otherwise)
{
    yaml_event_t event;
    if (!next(r, &event))
        return false;
    bool good = event.type == type;
    if (!good)
        fail(r, &event.start_mark, otherwise);
    yaml_event_delete(&event);
    return good;
}

static json_t *document(struct reader *r)
{
    yaml_event_t event;
    if (!expect(r, YAML_STREAM_START_EVENT, "This is no YAML.") ||
        !expect(r, YAML_DOCUMENT_START_EVENT, "There is nothing in it.") || !next(r, &event))
        return NULL;
    AUTO_JSON json_t *value = value_of(r, &event, 0);
    if (!value || !expect(r, YAML_DOCUMENT_END_EVENT, "This is no YAML.") ||
        !expect(r, YAML_STREAM_END_EVENT, "There is more than one document."))
        return NULL;
    return TAKE_PTR(value);
}

json_t *yaml_parse(const char *text, size_t len, struct json_error *error)
{
    struct reader r = {.error = error};
    *error = (struct json_error){0};
    if (len > YAML_BYTES_MAX) {
        snprintf(error->text, sizeof(error->text), "It is larger than 1 MiB.");
        return NULL;
    }
    if (!utf8_valid(text, len)) {
        snprintf(error->text, sizeof(error->text), "It is not UTF-8.");
        return NULL;
    }
    if (!yaml_parser_initialize(&r.parser)) {
        snprintf(error->text, sizeof(error->text), "There is no memory.");
        return NULL;
    }
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    json_t *value = document(&r);
    yaml_parser_delete(&r.parser);
    return value;
}

/* ---- writing: texts as in JSON, which YAML reads alike, but for what it takes for line breaks or not at all
 * ---- */

/* The length of such a character in UTF-8, and which it is: C1 controls, separators of lines and paragraphs,
 * the byte order mark and what is no character. 0: another one. */
static size_t odd_character(const char *p, unsigned *code)
{
    const unsigned char *c = (const unsigned char *)p;
    if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0) {
        *code = c[1];
        return 2;
    }
    bool separator = c[0] == 0xe2 && c[1] == 0x80 && (c[2] == 0xa8 || c[2] == 0xa9);
    bool mark = c[0] == 0xef && c[1] == 0xbb && c[2] == 0xbf;
    bool none = c[0] == 0xef && c[1] == 0xbf && c[2] >= 0xbe;
    *code = (c[0] & 15U) << 12 | (separator || mark || none ? (c[1] & 63U) << 6 | (c[2] & 63U) : 0);
    return separator || mark || none ? 3 : 0;
}

static void write_text(struct buf *out, const char *text)
{
    AUTO_BUF struct buf json = BUF_INIT;
    unsigned code;
    json_write_string(&json, text);
    for (const char *p = json.data; *p;) {
        size_t len = odd_character(p, &code);
        if (len > 0)
            buf_printf(out, "\\u%04x", code);
        else
            buf_add_char(out, *p);
        p += len ? len : 1;
    }
}

static void write_value(struct buf *out, const json_t *value, int indent);

static void write_line(struct buf *out, int indent)
{
    for (int i = 0; i < indent; i++)
        buf_add_str(out, "  ");
}

/* An implicit key of YAML has at most so many characters; a longer one is announced. */
#define KEY_MAX 1024

static void write_member(struct buf *out, const char *key, const json_t *value, int indent)
{
    AUTO_BUF struct buf text = BUF_INIT;
    write_text(&text, key);
    bool announced = text.len > KEY_MAX;
    buf_printf(out, "%s%s", announced ? "? " : "", text.data);
    if (announced) {
        buf_add_char(out, '\n');
        write_line(out, indent);
    }
    buf_add_char(out, ':');
    write_value(out, value, indent + 1);
}

static void write_object(struct buf *out, const json_t *object, int indent)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        write_line(out, indent);
        write_member(out, key, value, indent);
    }
}

/* Behind "key:" or "-". */
static void write_value(struct buf *out, const json_t *value, int indent)
{
    size_t i;
    json_t *item;
    if (json_is_object(value) && json_object_size(value)) {
        buf_add_char(out, '\n');
        write_object(out, value, indent);
        return;
    }
    if (json_is_array(value) && json_array_size(value)) {
        buf_add_char(out, '\n');
        json_array_foreach(value, i, item)
        {
            write_line(out, indent);
            buf_add_char(out, '-');
            write_value(out, item, indent + 1);
        }
        return;
    }
    buf_add_char(out, ' ');
    if (json_is_string(value))
        write_text(out, json_string_value(value));
    else
        json_write(out, value);
    buf_add_char(out, '\n');
}

void yaml_write(struct buf *out, const json_t *value)
{
    if (json_object_size(value))
        write_object(out, value, 0);
    else
        buf_add_str(out, "{}\n");
}
