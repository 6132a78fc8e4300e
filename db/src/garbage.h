/* Lists of objects that one version of the database used last. They are freed when no snapshot is left
 * that may see them (snapshot.c). */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Kept in the low bits of the pointers. */
enum garbage_kind { GARBAGE_NODE, GARBAGE_ROW, GARBAGE_TOMBSTONE, GARBAGE_ENTRY, GARBAGE_EDGE };

struct garbage {
    uintptr_t *items;
    size_t count, cap;
};

void garbage_add(struct garbage *list, enum garbage_kind kind, const void *object);
struct trie_edit;
/* An object leaves the version that is being changed: to the list of the edit, or, if no reader can know
 * it, freed at once. */
void garbage_retire(const struct trie_edit *edit, enum garbage_kind kind, uint64_t birth, void *object);
/* Frees the objects born after `generation`; the others go to `rest`, or are forgotten if that is NULL
 * (because a version still uses them). The list is empty afterwards and has no storage. */
void garbage_free_after(struct garbage *list, uint64_t generation, struct garbage *rest);
/* Moves all of `from` behind `to`. */
void garbage_append(struct garbage *to, struct garbage *from);
