/* A hash table from a row's class and reference to a number: its place in an array of the caller's. */
#pragma once
#include <model/model.h>

struct refmap_slot {
    const struct class_desc *cls; /* NULL: empty */
    struct ref ref;
    uint32_t index;
};
struct refmap {
    struct refmap_slot *slots;
    size_t cap, count; /* cap: a power of two, or 0 */
};

#define REFMAP_NONE UINT32_MAX
uint32_t refmap_get(const struct refmap *map, const struct class_desc *cls, struct ref ref);
/* The key must not be in the map. */
void refmap_add(struct refmap *map, const struct class_desc *cls, struct ref ref, uint32_t index);
/* Empties it. A small table keeps its storage. */
void refmap_clear(struct refmap *map);
void refmap_done(struct refmap *map);
