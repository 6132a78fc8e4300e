/* Shared sets and maps of strings (rc.h) as JSON. */
#pragma once
#include <base/rc.h>
#include <jansson.h>

/* An array of its strings, in order; NULL: an empty one. The caller's. */
json_t *str_set_json(const struct str_set *set);
/* An object of its pairs; NULL: an empty one. The caller's. */
json_t *str_map_json(const struct str_map *map);
