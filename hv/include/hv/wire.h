/* Descriptors of the structs of openapi/agent/ and what generic code does with them: initialise, free,
 * copy, write as JSON, read from JSON. The generated <hv/types.h> and <hv/calls.h> wrap these with types;
 * use those. Any thread, as long as nobody else changes the same value. */
#pragma once
#include <base/buf.h>
#include <base/json.h>
#include <base/rc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum wire_kind {
    WIRE_STRING,        /* const char *, rc string or NULL */
    WIRE_UUID,          /* the same, checked */
    WIRE_UUID_OPTIONAL, /* the same, or "" */
    WIRE_INT,           /* int64_t */
    WIRE_BOOL,          /* bool */
    WIRE_FLOAT,         /* double */
    WIRE_MAP,           /* const struct str_map * */
    WIRE_ENUM,          /* int */
    WIRE_STRUCT,        /* in place */
    WIRE_LIST,          /* struct x *, size_t count */
    WIRE_STRINGS,       /* const char **, size_t count */
};

struct wire_enum {
    const char *name;
    const char *const *words;
    int count;
};

struct wire_field {
    const char *name;
    uint32_t offset, count_offset;
    enum wire_kind kind;
    bool optional, text;
    int64_t min, max;
    const struct wire_enum *en;
    const struct wire_struct *st;
    struct {
        int64_t i;
        double d;
        const char *s;
    } initial;
};

struct wire_struct {
    const char *name;
    size_t size;
    const struct wire_field *fields;
    int field_count;
};

void wire_init(const struct wire_struct *desc, void *value);
void wire_done(const struct wire_struct *desc, void *value);
void wire_copy(const struct wire_struct *desc, void *to, const void *from);
bool wire_equal(const struct wire_struct *desc, const void *a, const void *b);
void *wire_list_add(const struct wire_struct *desc, void **items, size_t *count);
void wire_strings_add(const char ***items, size_t *count, const char *item);
const char *wire_enum_name(const struct wire_enum *en, int value);

/* Appends the JSON object of `value`. */
void wire_encode(const struct wire_struct *desc, const void *value, struct buf *out);

#define WIRE_COMPLAINT_SIZE 200
/* Reads a JSON object into `value`, uninitialised before and initialised only on success. -1: `complaint`
 * names the member and what it should have been, without the input. Unknown members are ignored. */
int wire_decode(const struct wire_struct *desc, const json_t *json, void *value,
                char complaint[static WIRE_COMPLAINT_SIZE]);
