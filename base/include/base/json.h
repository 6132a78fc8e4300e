/* JSON beside jansson: bounded parsing, and writing straight into a buffer. */
#pragma once
#include <base/buf.h>
#include <jansson.h>
#include <stdbool.h>

/* Deepest nesting accepted from anyone; jansson's own limit (2,048) is too deep for small stacks. */
#define JSON_MAX_DEPTH 64

struct json_error {
    char text[160]; /* what was wrong, for a person; no input echoed */
    int line, column;
};
/* Parses `len` bytes of one JSON value. Depth is checked before jansson sees the text, duplicate
 * keys and invalid UTF-8 are refused, a NUL inside a string is refused. NULL: error is set. The caller
 * decrefs. */
json_t *json_parse(const char *text, size_t len, struct json_error *error);

/* Appends `s` quoted and escaped (RFC 8259, section 7). */
void json_write_string(struct buf *b, const char *s);
void json_write_string_len(struct buf *b, const char *s, size_t len);
/* Appends the compact text of `value` (NULL: null). Recursive: for values of bounded depth. */
void json_write(struct buf *b, const json_t *value);

/* Appends a number that reads back as the same double, always with a point or an exponent. What JSON
 * has no form for is written as NaN, Infinity or -Infinity. */
void json_write_real(struct buf *b, double value);

/* Typed look-ups in an object. False when absent or of another type; *out untouched. */
bool json_get_string(const json_t *object, const char *key, const char **out);
bool json_get_int(const json_t *object, const char *key, int64_t *out);
bool json_get_bool(const json_t *object, const char *key, bool *out);

void json_decref_cleanup(json_t **value);
#define AUTO_JSON __attribute__((cleanup(json_decref_cleanup)))

/* True if the bytes are well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates). */
bool utf8_valid(const char *s, size_t len);
/* A copy with U+FFFD in place of every byte that is none; the caller frees. */
char *utf8_repaired(const char *s, size_t len, size_t *out_len);
