/* Lists of retired objects, and how each kind is freed. */
#include "garbage.h"
#include "version.h"
#include <base/mem.h>
#include <model/model.h>

#define KIND_MASK ((uintptr_t)15) /* malloc aligns to 16 */

void garbage_add(struct garbage *list, enum garbage_kind kind, const void *object)
{
    if (list->count == list->cap) {
        list->cap = list->cap ? list->cap * 2 : 32;
        list->items = xreallocarray(list->items, list->cap, sizeof(list->items[0]));
    }
    list->items[list->count++] = (uintptr_t)object | kind;
}

static uint64_t birth_of(uintptr_t item)
{
    void *object = (void *)(item & ~KIND_MASK);
    switch ((enum garbage_kind)(item & KIND_MASK)) {
    case GARBAGE_NODE:
        return trie_node_birth(object);
    case GARBAGE_ROW:
        return ((const struct row *)object)->generation;
    case GARBAGE_TOMBSTONE:
        return ((const struct store_tombstone *)object)->deleted;
    case GARBAGE_ENTRY:
        return ((const struct entry *)object)->birth;
    case GARBAGE_EDGE:
        return ((const struct edge *)object)->birth;
    }
    __builtin_unreachable();
}

static void item_free(uintptr_t item)
{
    void *object = (void *)(item & ~KIND_MASK);
    switch ((enum garbage_kind)(item & KIND_MASK)) {
    case GARBAGE_NODE:
        trie_node_free(object);
        break;
    case GARBAGE_ROW:
        row_unref(object);
        break;
    case GARBAGE_TOMBSTONE:
    case GARBAGE_ENTRY:
    case GARBAGE_EDGE:
        free(object);
        break;
    }
}

void garbage_retire(const struct trie_edit *edit, enum garbage_kind kind, uint64_t birth, void *object)
{
    if (birth > edit->frozen)
        item_free((uintptr_t)object | kind);
    else
        garbage_add(edit->dead, kind, object);
}

void garbage_free_after(struct garbage *list, uint64_t generation, struct garbage *rest)
{
    for (size_t i = 0; i < list->count; i++) {
        if (birth_of(list->items[i]) > generation)
            item_free(list->items[i]);
        else if (rest)
            garbage_add(rest, (enum garbage_kind)(list->items[i] & KIND_MASK),
                        (void *)(list->items[i] & ~KIND_MASK));
    }
    free(list->items);
    *list = (struct garbage){0};
}

void garbage_append(struct garbage *to, struct garbage *from)
{
    if (to->count == 0) {
        free(to->items);
        *to = *from;
    } else {
        for (size_t i = 0; i < from->count; i++)
            garbage_add(to, (enum garbage_kind)(from->items[i] & KIND_MASK),
                        (void *)(from->items[i] & ~KIND_MASK));
        free(from->items);
    }
    *from = (struct garbage){0};
}
