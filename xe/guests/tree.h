/* Small XML documents as trees. Pure, any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct node {
    char *name, *text; /* its texts without blanks around them, joined by one; never NULL */
    char **attributes; /* name, value, ..., NULL */
    struct node *first, *last, *next, *parent;
    /* The marks of taken.h: on the element, on it with all that is in it, on its text, on each attribute by
     * its place. All false once parsed. */
    bool taken, told, text_taken, *attribute_taken;
};

/* At most 20,000 elements, 32 deep, with texts of 64 KiB. The caller's (tree_free); NULL: *problem is a
 * sentence (the caller's). */
struct node *tree_parse(const char *text, size_t len, char **problem);
void tree_free(struct node *n);
/* Of that name; NULL: none, or `n` is NULL. */
struct node *tree_child(const struct node *n, const char *name);
const char *tree_attribute(const struct node *n, const char *name);
