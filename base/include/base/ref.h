/* Opaque references and uuids, kept as 16 bytes. On the wire a reference is the text
 * "OpaqueRef:" and a lower-case uuid; the null reference is "OpaqueRef:NULL". */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ref {
    uint64_t hi, lo; /* big-endian halves of the uuid; both 0: null */
};

#define REF_NULL ((struct ref){0, 0})
#define UUID_TEXT_SIZE 37 /* with the NUL */
#define REF_TEXT_SIZE 48
#define REF_NULL_TEXT "OpaqueRef:NULL"

/* A fresh random one; never null. */
struct ref ref_new(void);
/* False, *out untouched: not a reference. "OpaqueRef:NULL" and "" give the null reference. */
bool ref_parse(const char *text, struct ref *out);
/* Writes the NUL-terminated text (at most REF_TEXT_SIZE bytes) and returns `out`. */
char *ref_format(struct ref ref, char out[static REF_TEXT_SIZE]);
/* Text on the stack of the calling expression: for error parameters and logs. */
#define REF_TEXT(ref) ref_format((ref), (char[REF_TEXT_SIZE]){0})

/* The plain 36-character form; false if `text` is not exactly one. */
bool uuid_parse(const char *text, struct ref *out);
char *uuid_format(struct ref uuid, char out[static UUID_TEXT_SIZE]);
#define UUID_TEXT(uuid) uuid_format((uuid), (char[UUID_TEXT_SIZE]){0})

static inline bool ref_is_null(struct ref r)
{
    return r.hi == 0 && r.lo == 0;
}
static inline bool ref_eq(struct ref a, struct ref b)
{
    return a.hi == b.hi && a.lo == b.lo;
}
static inline int ref_cmp(struct ref a, struct ref b)
{
    if (a.hi != b.hi)
        return a.hi < b.hi ? -1 : 1;
    return a.lo < b.lo ? -1 : a.lo > b.lo;
}
