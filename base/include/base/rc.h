/* Immutable, reference-counted values shared between row versions, arguments and results:
 * strings, sets of strings, sets of references, maps of string to string.
 *
 * An `rc string` is a plain `const char *` (UTF-8, NUL-terminated) whose header sits before the
 * bytes; the empty string needs no memory. Counts are atomic: any thread may take and release.
 * `*_new*` and `*_ref` give the caller one count; `*_unref` releases it and accepts NULL.
 * NULL is the empty set or map everywhere. Sets and maps are sorted and free of duplicates. */
#pragma once
#include <base/ref.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A count of RC_STATIC means that the value is never counted and never freed: constant tables hold
 * such values. Define them at file scope:
 *   STR_STATIC(hello, "hello");               then hello.text is an rc string
 *   STR_SET_STATIC(both, "", hello.text);     then &both is a set (the items in byte order, no doubles)
 *   REF_SET_STATIC(refs, {1, 2}, {3, 4});
 *   STR_MAP_STATIC(map, {hello.text, ""});    (in byte order of the keys)
 * Any pointer to an empty string is an rc string. All of these are constant expressions' addresses. */
#define RC_STATIC UINT32_MAX
struct str_header {
    uint32_t refs;
    uint32_t len;
};
#define STR_STATIC(name, literal)                                                                            \
    static const struct {                                                                                    \
        struct str_header header;                                                                            \
        char text[sizeof(literal)];                                                                          \
    } name = {{RC_STATIC, sizeof(literal) - 1}, literal}
#ifdef __clang__
/* The string of a _Pragma must not be cut in two. */
/* clang-format off */
#define RC_FLEXIBLE_BEGIN                                                                                    \
    _Pragma("clang diagnostic push")                                                                         \
    _Pragma("clang diagnostic ignored \"-Wgnu-flexible-array-initializer\"")
/* clang-format on */
#define RC_FLEXIBLE_END _Pragma("clang diagnostic pop")
#else
#define RC_FLEXIBLE_BEGIN
#define RC_FLEXIBLE_END
#endif
#define STR_SET_STATIC(name, ...)                                                                            \
    RC_FLEXIBLE_BEGIN static const struct str_set name = {                                                   \
        RC_STATIC, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *), {__VA_ARGS__}};        \
    RC_FLEXIBLE_END struct str_set
#define REF_SET_STATIC(name, ...)                                                                            \
    RC_FLEXIBLE_BEGIN static const struct ref_set name = {                                                   \
        RC_STATIC, sizeof((const struct ref[]){__VA_ARGS__}) / sizeof(struct ref), {__VA_ARGS__}};           \
    RC_FLEXIBLE_END struct ref_set
#define STR_MAP_STATIC(name, ...)                                                                            \
    RC_FLEXIBLE_BEGIN static const struct str_map name = {                                                   \
        RC_STATIC, sizeof((const struct str_pair[]){__VA_ARGS__}) / sizeof(struct str_pair), {__VA_ARGS__}}; \
    RC_FLEXIBLE_END struct str_map

/* Strings. */
const char *str_new(const char *s);
/* Cut at the first NUL byte among the `len`. Strings over 4 GiB end the process. */
const char *str_new_len(const char *s, size_t len);
const char *str_newf(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *str_ref(const char *s);
void str_unref(const char *s);
/* The kept length: no scan. */
size_t str_len(const char *s);
bool str_eq(const char *a, const char *b); /* both rc strings */
/* Replaces *slot (NULL or an rc string) by a copy of `s` (which may be the old value itself). */
void str_assign(const char **slot, const char *s);

/* Sets of strings, in byte order. */
struct str_set {
    uint32_t refs;
    uint32_t count;
    const char *items[];
};
/* Takes its own copies; sorts and drops duplicates. */
const struct str_set *str_set_new(const char *const *items, size_t count);
/* The same from rc strings whose counts move in. `items` itself stays the caller's, its order lost. */
const struct str_set *str_set_new_moved(const char **items, size_t count);
/* The items as they are, in their order and with doubles (the words of an error). Such a list may be read,
 * shared and released as a set; has, with and without must not be used on it. */
const struct str_set *str_list_new(const char *const *items, size_t count);
const struct str_set *str_set_ref(const struct str_set *s);
void str_set_unref(const struct str_set *s);
bool str_set_has(const struct str_set *s, const char *item);
/* with / without give a new count on a set (or map) that differs by one item, or on the same one. */
const struct str_set *str_set_with(const struct str_set *s, const char *item);
const struct str_set *str_set_without(const struct str_set *s, const char *item);

/* Sets of references, in ref_cmp order. */
struct ref_set {
    uint32_t refs;
    uint32_t count;
    struct ref items[];
};
const struct ref_set *ref_set_new(const struct ref *items, size_t count);
const struct ref_set *ref_set_ref(const struct ref_set *s);
void ref_set_unref(const struct ref_set *s);
bool ref_set_has(const struct ref_set *s, struct ref item);
const struct ref_set *ref_set_with(const struct ref_set *s, struct ref item);
const struct ref_set *ref_set_without(const struct ref_set *s, struct ref item);

/* Maps of string to string, in byte order of the keys. */
struct str_pair {
    const char *key, *value; /* rc strings */
};
struct str_map {
    uint32_t refs;
    uint32_t count;
    struct str_pair pairs[];
};
/* Strings in `pairs` need not be rc strings; they are copied; of equal keys the last one wins. */
const struct str_map *str_map_new(const struct str_pair *pairs, size_t count);
/* The same from rc strings whose counts move in. `pairs` itself stays the caller's, its order lost. */
const struct str_map *str_map_new_moved(struct str_pair *pairs, size_t count);
const struct str_map *str_map_ref(const struct str_map *m);
void str_map_unref(const struct str_map *m);
/* Borrowed (an rc string), NULL when absent. */
const char *str_map_get(const struct str_map *m, const char *key);
const struct str_map *str_map_with(const struct str_map *m, const char *key, const char *value);
const struct str_map *str_map_without(const struct str_map *m, const char *key);
bool str_map_equal(const struct str_map *a, const struct str_map *b);

/* Replace the value of a slot, releasing the old one. The `new` value's count moves in. */
void str_set_assign(const struct str_set **slot, const struct str_set *moved);
void ref_set_assign(const struct ref_set **slot, const struct ref_set *moved);
void str_map_assign(const struct str_map **slot, const struct str_map *moved);
/* In-place forms of with/without on a slot. */
void str_map_put(const struct str_map **slot, const char *key, const char *value);
void str_map_del(const struct str_map **slot, const char *key);

/* Cleanup attributes. */
void str_unref_cleanup(const char **s);
void str_set_unref_cleanup(const struct str_set **s);
void ref_set_unref_cleanup(const struct ref_set **s);
void str_map_unref_cleanup(const struct str_map **m);
#define AUTO_STR __attribute__((cleanup(str_unref_cleanup)))
#define AUTO_STR_SET __attribute__((cleanup(str_set_unref_cleanup)))
#define AUTO_REF_SET __attribute__((cleanup(ref_set_unref_cleanup)))
#define AUTO_STR_MAP __attribute__((cleanup(str_map_unref_cleanup)))
