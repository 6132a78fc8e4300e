/* Small XML documents as trees. Pure, any thread. */
#pragma once
#include <stddef.h>

struct node {
    char *name, *text; /* the text behind its last child, without blanks around it; never NULL once parsed */
    char **attributes; /* name, value, ..., NULL */
    struct node *first, *last, *next, *parent;
};

/* At most 20,000 elements, 32 deep, with texts of 64 KiB. The caller's (tree_free); NULL: *problem is a
 * sentence (the caller's). */
struct node *tree_parse(const char *text, size_t len, char **problem);
void tree_free(struct node *n);
/* Of that name; NULL: none, or `n` is NULL. */
const struct node *tree_child(const struct node *n, const char *name);
const char *tree_attribute(const struct node *n, const char *name);
