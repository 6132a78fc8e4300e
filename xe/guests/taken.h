/* What a reader of an XML document takes over, and what is left: a reader asks for elements, attributes and
 * texts here, which marks them; in the end everything without a mark is told, so that nothing is dropped
 * because a reader does not know it. Who asks answers for the value too: one that it cannot use it tells by
 * itself. */
#pragma once
#include "guests.h"
#include "tree.h"

/* The first child of that name, marked; NULL: none, or `n` is NULL. */
struct node *taken_child(struct node *n, const char *name);
/* An attribute, marked; NULL: none, or `n` is NULL. */
const char *taken_attribute(struct node *n, const char *name);
/* True, and marked, if the attribute has this value: another value stays to be told. */
bool taken_is(struct node *n, const char *name, const char *value);
/* The element's text, marked. */
const char *taken_text(struct node *n);

/* "devices/sound", as a person looks for it (the caller's). */
char *taken_path(const struct node *n);
/* Notes an element with everything in it, as "a=1 text child/b=2". Passwords are left out; texts of more than
 * 200 bytes, and what is larger than 16 KiB in all, end in "...". */
void tell(json_t *guest, struct node *n, const char *why);
/* Notes one attribute; nothing when it is missing, or `n` is NULL. */
void tell_attribute(json_t *guest, struct node *n, const char *name, const char *why);
/* Notes what nobody took or told, from `n` on. */
void tell_rest(json_t *guest, struct node *n, const char *why);
