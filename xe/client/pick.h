/* Large answers, cut down before they are parsed: of get_all_records only the members that a list shows. */
#pragma once
#include <base/buf.h>
#include <stdbool.h>
#include <stddef.h>

/* Copies a JSON-RPC answer whose result is a map of records, leaving out record members that `keep`
 * (NULL at its end) does not name. What is copied is not checked, what is left out only as far as its
 * end must be found. False: the text has another shape, and *out is of no use. */
bool xe_pick(const char *text, size_t len, const char *const *keep, struct buf *out);
