/* Open addressing with linear probing. References are random, so their bits are the hash. */
#include "refmap.h"
#include <base/mem.h>

static size_t slot_of(const struct refmap *map, const struct class_desc *cls, struct ref ref)
{
    uint64_t hash = (ref.hi ^ ref.lo ^ cls->index) * UINT64_C(0x9e3779b97f4a7c15);
    return (size_t)(hash >> 32) & (map->cap - 1);
}

uint32_t refmap_get(const struct refmap *map, const struct class_desc *cls, struct ref ref)
{
    if (map->count == 0)
        return REFMAP_NONE;
    for (size_t at = slot_of(map, cls, ref); map->slots[at].cls; at = (at + 1) & (map->cap - 1))
        if (map->slots[at].cls == cls && ref_eq(map->slots[at].ref, ref))
            return map->slots[at].index;
    return REFMAP_NONE;
}

static void slot_put(struct refmap *map, struct refmap_slot slot)
{
    size_t at = slot_of(map, slot.cls, slot.ref);
    while (map->slots[at].cls)
        at = (at + 1) & (map->cap - 1);
    map->slots[at] = slot;
}

static void grow(struct refmap *map)
{
    struct refmap bigger = {.cap = map->cap ? map->cap * 2 : 32, .count = map->count};
    bigger.slots = xcalloc(bigger.cap, sizeof(bigger.slots[0]));
    for (size_t i = 0; i < map->cap; i++)
        if (map->slots[i].cls)
            slot_put(&bigger, map->slots[i]);
    free(map->slots);
    *map = bigger;
}

void refmap_add(struct refmap *map, const struct class_desc *cls, struct ref ref, uint32_t index)
{
    if (map->count * 2 >= map->cap)
        grow(map);
    slot_put(map, (struct refmap_slot){cls, ref, index});
    map->count++;
}

void refmap_clear(struct refmap *map)
{
    if (map->cap > 4096) {
        refmap_done(map);
    } else if (map->count) {
        memset(map->slots, 0, map->cap * sizeof(map->slots[0]));
        map->count = 0;
    }
}

void refmap_done(struct refmap *map)
{
    free(map->slots);
    *map = (struct refmap){0};
}
