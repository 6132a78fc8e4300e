/* Values read from the form that cell_write_db writes. */
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <model/model.h>

/* An atom in quotes: *at goes behind it. A new rc string, or NULL. */
static const char *read_atom(const char **at)
{
    AUTO_BUF struct buf text = BUF_INIT;
    const char *p = *at;
    if (*p++ != '\'')
        return NULL;
    for (; *p && *p != '\''; p++) {
        if (*p == '\\' && *++p == '\0')
            return NULL;
        buf_add_char(&text, *p);
    }
    if (!*p)
        return NULL;
    *at = p + 1;
    return str_new_len(text.len ? text.data : "", text.len);
}

static bool is_scalar(const struct type *type, const char *text)
{
    union cell cell;
    if (type->rep == REP_STRING)
        return true;
    if (!cell_read_text(type, text, &cell))
        return false;
    cell_done(type, &cell);
    return true;
}

static bool skip(const char **at, char c)
{
    bool there = **at == c;
    *at += there;
    return there;
}

struct atoms {
    const char **items; /* counted */
    size_t count, cap;
};

static void atoms_done(struct atoms *atoms)
{
    for (size_t i = 0; i < atoms->count; i++)
        str_unref(atoms->items[i]);
    free(atoms->items);
}

static bool add_atom(struct atoms *atoms, const struct type *type, const char **at)
{
    AUTO_STR const char *text = read_atom(at);
    if (!text || !is_scalar(type, text))
        return false;
    if (atoms->count == atoms->cap) {
        atoms->cap = atoms->cap ? 2 * atoms->cap : 8;
        atoms->items = xreallocarray(atoms->items, atoms->cap, sizeof(atoms->items[0]));
    }
    atoms->items[atoms->count++] = TAKE_PTR(text);
    return true;
}

/* All between the outer parentheses; of a map keys and values in turn. */
static bool read_atoms(const struct type *type, const char *at, struct atoms *atoms)
{
    bool map = type->rep == REP_STR_MAP;
    if (!skip(&at, '('))
        return false;
    while (*at != ')') {
        if (atoms->count && !skip(&at, ' '))
            return false;
        bool good = map ? skip(&at, '(') && add_atom(atoms, type->key, &at) && skip(&at, ' ') &&
                              add_atom(atoms, type->item, &at) && skip(&at, ')')
                        : add_atom(atoms, type->item, &at);
        if (!good)
            return false;
    }
    return at[1] == '\0';
}

static const struct str_map *map_of(const struct atoms *atoms)
{
    size_t count = atoms->count / 2;
    AUTO_FREE struct str_pair *pairs = xreallocarray(NULL, count, sizeof(*pairs));
    for (size_t i = 0; i < count; i++)
        pairs[i] = (struct str_pair){atoms->items[2 * i], atoms->items[2 * i + 1]};
    return str_map_new(pairs, count);
}

static const struct ref_set *refs_of(const struct atoms *atoms)
{
    AUTO_FREE struct ref *refs = xreallocarray(NULL, atoms->count, sizeof(*refs));
    size_t count = 0;
    for (size_t i = 0; i < atoms->count; i++)
        if (ref_parse(atoms->items[i], &refs[count]) && !ref_is_null(refs[count]))
            count++;
    return ref_set_new(refs, count);
}

static uint64_t enums_of(const struct atoms *atoms, const struct enum_desc *en)
{
    uint64_t set = 0;
    for (size_t i = 0; i < atoms->count; i++)
        set |= UINT64_C(1) << enum_find(en, atoms->items[i]);
    return set;
}

static bool read_json(const struct type *type, const char *text, union cell *out)
{
    struct json_error bad;
    char complaint[CELL_ERROR_SIZE];
    AUTO_JSON json_t *json = json_parse(text, strlen(text), &bad);
    return json && cell_read_json(type, json, out, complaint);
}

bool cell_read_db(const struct type *type, const char *text, union cell *out)
{
    switch (type->rep) {
    case REP_VOID:
    case REP_BOOL:
    case REP_INT:
    case REP_FLOAT:
    case REP_ENUM:
    case REP_STRING:
    case REP_REF:
        return cell_read_text(type, text, out);
    case REP_JSON:
        return read_json(type, text, out);
    case REP_STR_SET:
    case REP_REF_SET:
    case REP_ENUM_SET:
    case REP_STR_MAP:
        break;
    }
    struct atoms atoms = {0};
    bool good = read_atoms(type, text, &atoms);
    if (good && type->rep == REP_STR_SET)
        out->str_set = str_set_new(atoms.items, atoms.count);
    else if (good && type->rep == REP_REF_SET)
        out->ref_set = refs_of(&atoms);
    else if (good && type->rep == REP_ENUM_SET)
        out->enum_set = enums_of(&atoms, type->item->en);
    else if (good)
        out->str_map = map_of(&atoms);
    atoms_done(&atoms);
    return good;
}
