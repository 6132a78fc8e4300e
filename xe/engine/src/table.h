/* The command tables that the generator writes from openapi/xe/: classes with their fields,
 * commands, and the words in which values and errors are shown. All constant. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum xe_type {
    XE_STRING,
    XE_INT,
    XE_FLOAT,
    XE_BOOL,
    XE_DATETIME,
    XE_ENUM,
    XE_REF,
    XE_VOID,
    XE_RECORD,
    XE_BYTES
};
enum xe_shape { XE_ONE, XE_SET, XE_MAP };

/* A wire value and how xe shows it. */
struct xe_text {
    const char *wire, *shown;
};
struct xe_texts {
    const struct xe_text *rows;
    uint16_t count;
};

/* A step from an object to others: the reference field `field`, which leads to class `cls`. */
struct xe_hop {
    const char *field, *cls;
};

enum xe_field_flag {
    XE_EXPENSIVE = 1 << 0, /* lists show "<expensive field>" */
    XE_HIDDEN = 1 << 1,    /* never listed, only param-get */
    XE_DEPRECATED = 1 << 2,
    XE_ANY_CASE = 1 << 3,   /* filters ignore case */
    XE_ACCESS_SET = 1 << 4, /* tags SRO, SRW */
    XE_ACCESS_MAP = 1 << 5, /* tags MRO, MRW */
    XE_KIB = 1 << 6,        /* a source in bytes, shown in KiB */
    XE_WHOLE = 1 << 7,      /* a source shown without decimals */
};

enum xe_special {
    XE_PLAIN,
    XE_SR_HOST,
    XE_VDI_NAME,
    XE_RESOLUTION,
    XE_DUPLEX,
    XE_VCPU_USE,
    XE_ATTACHABLE,
    XE_VARIANT_ACTIVE,
    XE_WITHHELD, /* never shown */
};

struct xe_field {
    const char *name;
    const char *tag; /* " ( RO)", with " [DEPRECATED]" when it is */
    uint16_t flags;
    uint8_t type, shape, special, hop_count; /* enum xe_type, xe_shape, xe_special */
    const struct xe_hop *hops;
    const char *from;   /* the record member read after the hops; NULL: none */
    const char *cls;    /* XE_REF: of which class */
    const char *joined; /* between members */
    const struct xe_texts *texts;
    const char *call;   /* asked for the value instead of a record */
    bool call_self;     /* that call takes the object */
    const char *source; /* a data source, {member} replaced; `on` is its owner's reference field */
    const char *on, *on_cls;
    /* Messages that change it; NULL: cannot. `put` sets one key of a map, `whole` the whole set or map. */
    const char *set, *add, *remove, *put, *whole;
    uint8_t set_type; /* of the value that `set` takes, when it is not `type` */
};

struct xe_class {
    const char *name, *api, *one, *many;
    const struct xe_field *fields;
    uint16_t field_count;
    const uint16_t *columns; /* indexes into fields, in field order */
    uint16_t column_count;
    const struct xe_text *filters; /* implicit: field name and value */
    uint16_t filter_count;
    bool has_get_all_where;
};

enum xe_arg_source { XE_ARG_PARAM, XE_ARG_SELECTED, XE_ARG_POOL, XE_ARG_COORDINATOR, XE_ARG_CONST };
struct xe_arg {
    const char *member; /* of the record parameter; NULL: a positional argument */
    uint8_t source, type, shape;
    bool or_coordinator; /* absent: the pool's coordinator host */
    bool optional;       /* a trailing one with a default: left out when absent */
    const char *cls;     /* XE_REF */
    const char *param;
    const char *json; /* XE_ARG_CONST; and the value of an absent parameter */
    const struct xe_texts *texts;
};

enum xe_command_flag {
    XE_STANDARD = 1 << 0,
    XE_CMD_HIDDEN = 1 << 1,
    XE_ASYNC = 1 << 2,
    XE_TEMPLATES = 1 << 3,
    XE_LOCAL = 1 << 4, /* asked of the server that answers, in a session of its own: no coordinator needed */
    XE_ANY = 1 << 5,   /* takes parameters of any name */
    XE_MESSAGE = 1 << 6, /* the result is a message: --minimal drops it */
    XE_UPLOAD = 1 << 7   /* `move` takes the file to the server */
};
enum xe_generated {
    XE_NOT_GENERATED,
    XE_LIST,
    XE_PARAM_LIST,
    XE_PARAM_GET,
    XE_PARAM_SET,
    XE_PARAM_ADD,
    XE_PARAM_REMOVE,
    XE_PARAM_CLEAR
};

struct xe_run_state;
struct xe_command {
    const char *name, *help, *example;
    const char *const *required, *const *optional; /* NULL at the end; "x:" takes x:key=value */
    uint8_t flags, generated;
    const struct xe_class *cls;      /* generated */
    const struct xe_class *selector; /* vm, host or sr */
    int (*handler)(struct xe_run_state *x, const struct xe_command *cmd);
    /* A command that is one call. */
    const char *call;
    const struct xe_arg *args;
    uint8_t arg_count;
    const char *switch_param, *switch_call; /* that parameter true: this call instead */
    uint8_t result_type, result_shape;
    const char *result_cls;
    struct xe_hop member;         /* of the new object: this reference's uuid is printed in its place */
    const struct xe_texts *shown; /* how the result is shown; NULL: as it is */
    const char *forced;           /* refused without force=true, with this sentence; NULL: never */
    const char *says;             /* printed after success, {param} replaced; NULL: nothing */
    /* A command that moves one file: the path on the server, and the parameter that names the file. */
    const char *move, *file;
};

struct xe_error_text {
    const char *code, *sentence;
    const char *const *params;
};

extern const struct xe_class *const xe_classes[];
extern const size_t xe_class_count;
extern const struct xe_command xe_commands[]; /* sorted by name */
extern const size_t xe_command_count;
extern const struct xe_error_text xe_error_texts[]; /* sorted by code */
extern const size_t xe_error_text_count;
/* Classes of the API that have a name_label: their references can be shown by name. */
extern const char *const xe_named_api_classes[];
