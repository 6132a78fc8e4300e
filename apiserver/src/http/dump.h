/* The database as XML. */
#pragma once
#include "../server.h"

/* Writes the document by calling put until it returns -1. Rows of `without` (NULL: none) are left out, as are
 * sessions. 0, or -1 when put did. */
int dump_database(const struct snapshot *snap, const struct class_desc *without,
                  int (*put)(void *arg, const void *data, size_t len), void *arg);
