/* The filter language of lists, for people and programs:
 *
 *     power_state = Running and (name_label ~ "web*" or memory_static_max >= 1073741824)
 *     tags = production and not other_config.owner = ""
 *
 * A comparison is FIELD OP VALUE. FIELD is a name, or name.key for one key of a map (the key in double quotes
 * where it is not a plain word). OP is = != < <= > >= or ~ (a glob with * ? [...], ignoring case). VALUE is a
 * word or a text in double quotes, where \" and \\ stand for themselves; null is no value (an empty
 * reference). A field with several values (a set) fits when one of them does, and != when none is equal. Two
 * numbers are compared as numbers, all else byte by byte. `not` binds closer than `and`, that closer than
 * `or`.
 *
 * Knows nothing of what is filtered: the caller names the fields and hands out their values. A parsed query
 * is constant; any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

#define QUERY_TEXT_MAX 16384

struct query_error {
    char text[200]; /* a sentence: what was expected, and where */
};

/* Whether there is a field of this name, and whether it takes a key. */
enum query_field { QUERY_FIELD_NONE, QUERY_FIELD_PLAIN, QUERY_FIELD_MAP };
typedef enum query_field query_known_fn(void *arg, const char *name);

struct query;
/* NULL: *error is set. The caller frees it with query_free. */
struct query *query_parse(const char *text, query_known_fn *known, void *arg, struct query_error *error);
void query_free(struct query *query);
void query_free_cleanup(struct query **query);
#define AUTO_QUERY __attribute__((cleanup(query_free_cleanup)))

/* Hands every value of the field (of its key) to `take` until that returns false. NULL stands for null. */
struct query_sink {
    bool (*take)(struct query_sink *sink, const char *value);
};
typedef void query_values_fn(void *arg, const char *field, const char *key, struct query_sink *sink);
bool query_matches(const struct query *query, query_values_fn *values, void *arg);

/* The order that < and sort use: numbers as numbers when both are, NULL first, else by bytes. */
int query_compare(const char *a, const char *b);
