/* The data model at run time: tables that the generator writes from the class files of openapi/.
 *
 * Every value of a XenAPI type has one C representation (enum rep), the same in a row, in the
 * arguments of a handler and in its result. Generic code walks descriptors; code that knows the
 * class uses the generated structs of <model/rows.h>. All tables are constant; any thread. */
#pragma once
#include <base/rc.h>
#include <base/ref.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum type_kind {
    TYPE_VOID,
    TYPE_STRING,
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_BOOL,
    TYPE_DATETIME,
    TYPE_ENUM,
    TYPE_REF,
    TYPE_SET,
    TYPE_MAP,
    TYPE_RECORD,
    TYPE_OPTION,
};

/* How a value is kept in memory. */
enum rep {
    REP_VOID,
    REP_BOOL,     /* bool */
    REP_INT,      /* int64_t; also datetime, as unix seconds */
    REP_FLOAT,    /* double */
    REP_ENUM,     /* int: index into enum_desc.values */
    REP_STRING,   /* const char *, an rc string, never NULL in a row */
    REP_REF,      /* struct ref */
    REP_STR_SET,  /* const struct str_set *: sets of strings and of ints (decimal text) */
    REP_REF_SET,  /* const struct ref_set * */
    REP_ENUM_SET, /* uint64_t: bit i is enum_desc.values[i] */
    REP_STR_MAP,  /* const struct str_map *: keys and scalar values as canonical text */
    REP_JSON,     /* json_t *, checked against the type: records, sets of records, nested maps, options;
                   * NULL is the empty one (or the absent one), and what a fresh row has */
};

struct enum_desc {
    const char *name;
    const char *const *values;
    uint16_t count;
};

struct class_desc;

struct type {
    enum type_kind kind;
    enum rep rep;
    const char *name;              /* as the description writes it: "VM ref set" */
    const struct enum_desc *en;    /* TYPE_ENUM */
    const struct class_desc *cls;  /* TYPE_REF, TYPE_RECORD */
    const struct type *key, *item; /* TYPE_MAP: both; TYPE_SET, TYPE_OPTION: item */
};

/* Packed, because a row holds its values at their own alignment, which is smaller than the union's. */
union __attribute__((packed)) cell {
    bool b;
    int64_t i;
    double d;
    int e;
    const char *str;
    struct ref ref;
    const struct str_set *str_set;
    const struct ref_set *ref_set;
    uint64_t enum_set;
    const struct str_map *str_map;
    void *json;
};

enum field_qualifier { FIELD_RW, FIELD_STATIC_RO, FIELD_DYNAMIC_RO };

enum field_flag {
    FIELD_PERSIST = 1 << 0,     /* has a column; the others are reset when the store is opened */
    FIELD_INTERNAL = 1 << 1,    /* in the database, never on the wire */
    FIELD_HAS_DEFAULT = 1 << 2, /* may be left out of a constructor's record */
    FIELD_DERIVED = 1 << 3,     /* the set side of a relation: kept by the store, no column, never edited */
    FIELD_CUSTOM_SET = 1 << 4,  /* its setter is a handler, not generic code */
    FIELD_REMOVED = 1 << 5,
    FIELD_DEPRECATED = 1 << 6,
    FIELD_SECRET = 1 << 7, /* never logged */
};

struct field_desc {
    const char *name;    /* "name_label": wire and SQL name */
    const char *db_name; /* "name__label": as filters write it */
    const char *doc;
    const struct type *type;
    uint32_t offset; /* of the value in the row struct */
    uint16_t flags;
    uint16_t index; /* in class_desc.fields */
    enum field_qualifier qualifier;
    union cell initial; /* value in a fresh row; strings, sets and maps here are static */
    /* A relation: the other side. For a reference (or a free set) `inverse` is the set on the target's
     * class that the store keeps; for a derived set it is the reference that fills it. NULL: none. */
    const struct field_desc *inverse;
    const struct class_desc *cls; /* the class that has this field */
};

enum class_flag {
    CLASS_PERSIST = 1 << 0, /* rows are on disk */
    CLASS_EVENTS = 1 << 1,  /* changes are reported by event.from */
    CLASS_GET_ALL = 1 << 2,
    CLASS_RUNTIME = 1 << 3, /* persistent, with at least one field that is not */
    CLASS_REMOVED = 1 << 4,
    CLASS_DEPRECATED = 1 << 5,
    CLASS_LAZY = 1 << 6, /* persistent, but changes of such rows alone do not wait for the disk */
};

struct class_desc {
    const char *name;       /* "VM" */
    const char *lower_name; /* "vm": in events */
    const char *collection; /* "vms": in paths of REST; NULL: not to be found there */
    const char *doc;
    uint16_t index; /* in model_classes */
    uint16_t flags;
    uint16_t field_count;
    const struct field_desc *fields; /* in declaration order, the order of records on the wire */
    uint32_t row_size;               /* sizeof(struct <class>_row); 0: not in the database */
    /* Well-known fields, NULL when the class has none. */
    const struct field_desc *uuid, *name_label;
};

extern const struct class_desc model_classes[];
extern const uint16_t model_class_count;
extern const int model_schema_version;

/* Case-sensitive, as on the wire. NULL: no such class or field. */
const struct class_desc *class_find(const char *name);
const struct field_desc *field_find(const struct class_desc *cls, const char *name);
/* Index of `text` in the enum, ignoring case; -1: none. */
int enum_find(const struct enum_desc *en, const char *text);

/* What every generated row struct begins with. A published row never changes, except that its
 * fragments appear; it is freed with its last count. */
struct row {
    const struct class_desc *cls;
    _Atomic uint32_t refs;
    struct ref ref;
    uint64_t generation;             /* of its last change */
    uint64_t created;                /* generation in which it appeared */
    _Atomic(struct fragment *) json; /* the record as JSON text, made on first use */
    _Atomic(struct fragment *) xml;
};

struct fragment {
    size_t len;
    char text[];
};

/* A new row with every field at its initial value, generation 0, one count. */
struct row *row_new(const struct class_desc *cls, struct ref ref);
/* A copy that may be changed, one count, without fragments. */
struct row *row_copy(const struct row *row);
const struct row *row_ref(const struct row *row);
void row_unref(const struct row *row);
/* Where a field's value is. */
static inline const union cell *row_cell(const struct row *row, const struct field_desc *field)
{
    return (const union cell *)((const char *)row + field->offset);
}
static inline union cell *row_cell_mut(struct row *row, const struct field_desc *field)
{
    return (union cell *)((char *)row + field->offset);
}
/* The same as a pointer to the member that the representation names, for str_assign, str_map_put and
 * their like: str_assign(row_slot(row, field), text). */
static inline void *row_slot(struct row *row, const struct field_desc *field)
{
    return (char *)row + field->offset;
}

/* Values by representation. A cell is only as large as its type: never copy a whole union out of a
 * row; these functions touch only the member that `type->rep` names. */
void cell_init(const struct type *type, union cell *cell);
void cell_done(const struct type *type, union cell *cell);
void cell_copy(const struct type *type, union cell *to,
               const union cell *from); /* takes counts; `to` is uninitialised */
bool cell_equal(const struct type *type, const union cell *a, const union cell *b);

struct buf;
/* Appends the value as JSON, or as the inside of an XML-RPC <value> element (with the <value> tags). */
void cell_write_json(const struct type *type, const union cell *cell, struct buf *out);
void cell_write_xml(const struct type *type, const union cell *cell, struct buf *out);
/* The form that filters compare: true, 12, OpaqueRef:..., ('a' 'b'), (('k' 'v')). */
void cell_write_db(const struct type *type, const union cell *cell, struct buf *out);
/* A scalar (neither set, map, record nor option) as the canonical text that str_set and str_map hold:
 * true, 12, 0.5, Halted, 20250319T04:16:24Z, OpaqueRef:... */
void cell_write_text(const struct type *type, const union cell *cell, struct buf *out);

struct json_t;
#define CELL_ERROR_SIZE 160
/* Reads a value as clients send it (or as cell_write_json wrote it) into an uninitialised cell; release
 * it with cell_done. Lenient where XenAPI is: enums in any case, ints and floats also as strings, "" as
 * the null reference. Strings must be free of NUL (json_parse sees to it). False: `error` has a sentence
 * like "Expected bool, got 'x'" (without secrets only if the value has none), *out is untouched. */
bool cell_read_json(const struct type *type, const struct json_t *json, union cell *out,
                    char error[static CELL_ERROR_SIZE]);
/* The same from text: the reverse of cell_write_text. False: not such a scalar. */
bool cell_read_text(const struct type *type, const char *text, union cell *out);
/* The same from the form that cell_write_db writes. */
bool cell_read_db(const struct type *type, const char *text, union cell *out);

/* The row's public record (every field but internal ones), from its fragment, made when missing.
 * Valid as long as the row. */
const struct fragment *row_json(const struct row *row);
const struct fragment *row_xml(const struct row *row);
