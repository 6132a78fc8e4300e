/* The XML fragment in which a task keeps its result, read as JSON. */
#pragma once
#include <jansson.h>

/* "<value>...</value>": scalars become strings (booleans true and false), arrays arrays, structs
 * objects; text that is not such a fragment becomes a string as it is. The caller's. */
json_t *xe_xml_value(const char *text);
