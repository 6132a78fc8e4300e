/* Only what dumps are made of is understood: tags with attributes, and white space between them. libxml2
 * would refuse a value of more than 10 MB, which a row may have, and without that limit takes the square of a
 * tag's length. */
#include "dump_read.h"

#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <model/errors.h>
#include <model/rows.h>
#include <stdarg.h>
#include <stdio.h>

#define TAG_MAX ((size_t)32 << 20)
#define ATTRIBUTES_MAX 256
#define ROWS_MAX 4000000
#define SHOWN_MAX 40

enum place { AT_START, IN_DATABASE, IN_MANIFEST, IN_TABLE, AT_END };

struct attribute {
    const char *name, *value;
};

/* A reference or a uuid that a row has for itself. */
struct identity {
    uint32_t kind; /* index of the class of a uuid; REFERENCES */
    struct ref value;
};
#define REFERENCES UINT32_MAX

struct dump_reader {
    struct tx *tx;
    const struct snapshot *own;
    enum place place;
    bool in_tag;
    char quote;     /* within a value; 0: not */
    struct buf tag; /* what stands between < and >, so far */
    struct attribute attributes[ATTRIBUTES_MAX];
    size_t attribute_count;
    const struct class_desc *cls; /* of the table; NULL: it is passed over */
    bool has_version;
    size_t rows, identity_count, identity_cap;
    struct identity *identities;
};

static int fail(struct api_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int fail(struct api_err *err, const char *format, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    return err_could_not_import_database(err, text);
}

/* ---- attributes ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static char *skip_space(char *at)
{
    while (is_space(*at))
        at++;
    return at;
}

static bool ends_name(char c)
{
    return c == '\0' || c == '=' || c == '/' || is_space(c);
}

/* As UTF-8. Returns how many bytes; 0: XML has no such character. */
static size_t write_character(uint32_t c, char *to)
{
    bool allowed = c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0xd800) ||
                   (c >= 0xe000 && c < 0xfffe) || (c >= 0x10000 && c < 0x110000);
    if (!allowed)
        return 0;
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    size_t more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    to[0] = (char)(lead[more] | c >> 6 * more);
    for (size_t i = 1; i <= more; i++)
        to[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3f));
    return more + 1;
}

/* &name; or &#10; or &#x0a; at *from, which goes behind it. A character takes no more room than its name did.
 */
static bool expand(const char **from, char **to)
{
    static const struct {
        const char *name;
        char c;
    } names[] = {{"amp;", '&'}, {"lt;", '<'}, {"gt;", '>'}, {"quot;", '"'}, {"apos;", '\''}};
    const char *at = *from + 1;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t len = strlen(names[i].name);
        if (strncmp(at, names[i].name, len) == 0) {
            *(*to)++ = names[i].c;
            *from = at + len;
            return true;
        }
    }
    if (*at++ != '#')
        return false;
    unsigned base = *at == 'x' ? 16 : 10;
    at += base == 16;
    uint32_t c = 0;
    const char *digits = at;
    for (; *at != ';'; at++) {
        int digit = *at >= '0' && *at <= '9'   ? *at - '0'
                    : *at >= 'a' && *at <= 'f' ? *at - 'a' + 10
                    : *at >= 'A' && *at <= 'F' ? *at - 'A' + 10
                                               : 16;
        if (digit >= (int)base || c > 0x110000)
            return false;
        c = c * base + (uint32_t)digit;
    }
    size_t len = at > digits ? write_character(c, *to) : 0;
    *to += len;
    *from = at + 1;
    return len > 0;
}

/* In place. */
static bool unescape(char *value)
{
    const char *from = value;
    char *to = value;
    while (*from)
        if (*from != '&')
            *to++ = *from++;
        else if (!expand(&from, &to))
            return false;
    *to = '\0';
    return utf8_valid(value, (size_t)(to - value));
}

/* All of a tag behind its name. */
static bool read_attributes(struct dump_reader *r, char *at)
{
    r->attribute_count = 0;
    while (*(at = skip_space(at))) {
        char *name = at;
        while (!ends_name(*at))
            at++;
        char *name_end = at;
        at = skip_space(at);
        if (name_end == name || *at != '=' || r->attribute_count == ATTRIBUTES_MAX)
            return false;
        at = skip_space(at + 1);
        char quote = *at;
        char *value = at + 1, *end = quote == '"' || quote == '\'' ? strchr(value, quote) : NULL;
        if (!end)
            return false;
        *name_end = *end = '\0';
        if (!unescape(value))
            return false;
        r->attributes[r->attribute_count++] = (struct attribute){name, value};
        at = end + 1;
    }
    return true;
}

static const char *attribute(const struct dump_reader *r, const char *name)
{
    for (size_t i = 0; i < r->attribute_count; i++)
        if (streq(r->attributes[i].name, name))
            return r->attributes[i].value;
    return NULL;
}

/* ---- rows ---- */

static void note_identity(struct dump_reader *r, uint32_t kind, struct ref value)
{
    if (r->identity_count == r->identity_cap) {
        r->identity_cap = r->identity_cap ? 2 * r->identity_cap : 1024;
        r->identities = xreallocarray(r->identities, r->identity_cap, sizeof(r->identities[0]));
    }
    r->identities[r->identity_count++] = (struct identity){kind, value};
}

static bool is_kept(const struct field_desc *field)
{
    return field->flags & FIELD_PERSIST && !(field->flags & FIELD_DERIVED);
}

/* Fields mostly come in their order: the search goes on behind the last one. */
static const struct field_desc *find_field(const struct class_desc *cls, const char *name, size_t *next)
{
    for (size_t i = 0; i < cls->field_count; i++) {
        const struct field_desc *field = &cls->fields[(*next + i) % cls->field_count];
        if (streq(field->db_name, name)) {
            *next = (*next + i + 1) % cls->field_count;
            return field;
        }
    }
    return NULL;
}

static int fill(struct dump_reader *r, struct row *row, struct api_err *err)
{
    size_t next = 0;
    for (size_t i = 0; i < r->attribute_count; i++) {
        const struct field_desc *field = find_field(row->cls, r->attributes[i].name, &next);
        union cell cell;
        if (!field || !is_kept(field) || field->flags & FIELD_SECRET)
            continue;
        if (!cell_read_db(field->type, r->attributes[i].value, &cell))
            return fail(err, "a field is not of its type: %s.%s of %s", row->cls->name, field->name,
                        REF_TEXT(row->ref));
        cell_done(field->type, row_cell_mut(row, field));
        cell_copy(field->type, row_cell_mut(row, field), &cell);
        cell_done(field->type, &cell);
    }
    return 0;
}

/* What dumps do not tell. */
static void fill_secrets(const struct dump_reader *r, struct row *row)
{
    const struct row *own = snapshot_get(r->own, row->cls, row->ref);
    for (size_t i = 0; own && i < row->cls->field_count; i++) {
        const struct field_desc *field = &row->cls->fields[i];
        if (!is_kept(field) || !(field->flags & FIELD_SECRET))
            continue;
        cell_done(field->type, row_cell_mut(row, field));
        cell_copy(field->type, row_cell_mut(row, field), row_cell(own, field));
    }
}

static int take_row(struct dump_reader *r, struct api_err *err)
{
    const char *text = attribute(r, "ref");
    struct ref ref, uuid;
    if (!r->cls)
        return 0;
    if (!text || !ref_parse(text, &ref) || ref_is_null(ref))
        return fail(err, "a row of %s has no reference", r->cls->name);
    if (tx_get(r->tx, r->cls, ref))
        return fail(err, "two rows of %s have one reference: %s", r->cls->name, REF_TEXT(ref));
    if (r->rows++ == ROWS_MAX)
        return fail(err, "there are more than %d rows", ROWS_MAX);
    struct row *row = tx_create_as(r->tx, r->cls, ref);
    note_identity(r, REFERENCES, ref);
    if (fill(r, row, err) < 0)
        return -1;
    fill_secrets(r, row);
    if (!r->cls->uuid)
        return 0;
    if (!attribute(r, "uuid") || !uuid_parse(row_cell(row, r->cls->uuid)->str, &uuid))
        return fail(err, "a row of %s has no valid uuid: %s", r->cls->name, REF_TEXT(ref));
    note_identity(r, r->cls->index, uuid);
    return 0;
}

/* ---- tags ---- */

/* Sessions and what is under way end with the old database; what is in memory only is not restored. */
static bool is_restored(const struct class_desc *cls)
{
    return cls->flags & CLASS_PERSIST && cls->row_size && cls != CLASS_session && cls != CLASS_task &&
           cls != CLASS_api_token && cls != CLASS_undo_note;
}

static int take_table(struct dump_reader *r, struct api_err *err)
{
    const char *name = attribute(r, "name");
    if (!name)
        return fail(err, "a table has no name");
    r->cls = class_find(name);
    if (r->cls && !is_restored(r->cls))
        r->cls = NULL;
    return 0;
}

static int take_pair(struct dump_reader *r, struct api_err *err)
{
    const char *key = attribute(r, "key"), *value = attribute(r, "value");
    long long version;
    if (!key || !value)
        return fail(err, "the manifest has a pair without key or value");
    if (!streq(key, "schema_major_vsn"))
        return 0;
    if (sscanf(value, "%18lld", &version) != 1)
        return fail(err, "the version in the manifest is no number");
    if (version > model_schema_version)
        return err_restore_incompatible_version(err);
    r->has_version = true;
    return 0;
}

static int take_end(struct dump_reader *r, struct api_err *err)
{
    return r->has_version ? 0 : fail(err, "the manifest does not say of which version the database is");
}

/* Where each tag may stand, and where one is behind it. */
static const struct {
    const char *tag;
    enum place from, to;
    int (*take)(struct dump_reader *r, struct api_err *err);
} grammar[] = {
    {"row", IN_TABLE, IN_TABLE, take_row},         {"/row", IN_TABLE, IN_TABLE, NULL},
    {"table", IN_DATABASE, IN_TABLE, take_table},  {"/table", IN_TABLE, IN_DATABASE, NULL},
    {"pair", IN_MANIFEST, IN_MANIFEST, take_pair}, {"/pair", IN_MANIFEST, IN_MANIFEST, NULL},
    {"manifest", IN_DATABASE, IN_MANIFEST, NULL},  {"/manifest", IN_MANIFEST, IN_DATABASE, take_end},
    {"database", AT_START, IN_DATABASE, NULL},     {"/database", IN_DATABASE, AT_END, NULL},
};

static int go(struct dump_reader *r, const char *tag, struct api_err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(grammar); i++)
        if (streq(grammar[i].tag, tag) && grammar[i].from == r->place) {
            r->place = grammar[i].to;
            return grammar[i].take ? grammar[i].take(r, err) : 0;
        }
    return fail(err, "this is no dump of a database: <%.*s> is not expected there", SHOWN_MAX,
                utf8_valid(tag, strnlen(tag, SHOWN_MAX)) ? tag : "?");
}

static int take_tag(struct dump_reader *r, struct api_err *err)
{
    size_t len = r->tag.len;
    char *text = buf_reserve(&r->tag, 0) - len;
    text[len] = '\0'; /* also of an empty tag */
    if (text[0] == '?' && r->place == AT_START)
        return 0;
    if (memchr(text, '\0', len))
        return fail(err, "a tag has a NUL in it");
    bool empty = len > 1 && text[len - 1] == '/';
    if (empty)
        text[len - 1] = '\0';
    char *name_end = text + (text[0] == '/');
    while (!ends_name(*name_end))
        name_end++;
    bool more = *name_end != '\0';
    *name_end = '\0';
    r->attribute_count = 0;
    if (more && !read_attributes(r, name_end + 1))
        return fail(err, "the attributes of a <%.*s> cannot be read", SHOWN_MAX,
                    utf8_valid(text, strnlen(text, SHOWN_MAX)) ? text : "?");
    if (go(r, text, err) < 0)
        return -1;
    if (!empty)
        return 0;
    AUTO_FREE char *end = xasprintf("/%s", text);
    return go(r, end, err);
}

/* How much of the text belongs to the tag; its end is noted. */
static size_t tag_part(struct dump_reader *r, const char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (r->quote) {
            if (c == r->quote)
                r->quote = 0;
        } else if (c == '"' || c == '\'') {
            r->quote = c;
        } else if (c == '>') {
            r->in_tag = false;
            return i;
        }
    }
    return len;
}

int dump_reader_feed(struct dump_reader *r, const char *data, size_t len, struct api_err *err)
{
    for (const char *end = data + len; data < end;) {
        if (!r->in_tag) {
            if (*data != '<' && !is_space(*data))
                return fail(err, "this is no dump of a database: there is text between its tags");
            r->in_tag = *data++ == '<';
            buf_clear(&r->tag);
            continue;
        }
        size_t part = tag_part(r, data, (size_t)(end - data));
        if (part > TAG_MAX - r->tag.len)
            return fail(err, "a tag is too long");
        buf_add(&r->tag, data, part);
        data += part;
        if (r->in_tag)
            continue;
        data++;
        if (take_tag(r, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- the whole ---- */

static int compare(const void *a, const void *b)
{
    const struct identity *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return ref_cmp(x->value, y->value);
}

static int check_identities(struct dump_reader *r, struct api_err *err)
{
    if (r->identity_count > 1)
        qsort(r->identities, r->identity_count, sizeof(r->identities[0]), compare);
    for (size_t i = 1; i < r->identity_count; i++)
        if (compare(&r->identities[i - 1], &r->identities[i]) == 0)
            return r->identities[i].kind == REFERENCES
                       ? fail(err, "two rows have one reference: %s", REF_TEXT(r->identities[i].value))
                       : fail(err, "two rows of %s have one uuid: %s",
                              model_classes[r->identities[i].kind].name, UUID_TEXT(r->identities[i].value));
    return 0;
}

int dump_reader_end(struct dump_reader *r, struct api_err *err)
{
    if (r->place != AT_END || r->in_tag)
        return fail(err, "the dump is cut off");
    if (!r->has_version)
        return fail(err, "the dump has no manifest");
    if (tx_count(r->tx, CLASS_pool) != 1)
        return fail(err, "the dump has %zu pools", tx_count(r->tx, CLASS_pool));
    return check_identities(r, err);
}

struct dump_reader *dump_reader_new(struct tx *tx, const struct snapshot *own)
{
    struct dump_reader *r = xcalloc(1, sizeof(*r));
    r->tx = tx;
    r->own = own;
    return r;
}

void dump_reader_free(struct dump_reader *r)
{
    if (!r)
        return;
    buf_done(&r->tag);
    free(r->identities);
    free(r);
}
