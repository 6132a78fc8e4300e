#include <base/rc_json.h>

json_t *str_set_json(const struct str_set *set)
{
    json_t *array = json_array();
    for (size_t i = 0; set && i < set->count; i++)
        json_array_append_new(array, json_string(set->items[i]));
    return array;
}

json_t *str_map_json(const struct str_map *map)
{
    json_t *object = json_object();
    for (size_t i = 0; map && i < map->count; i++)
        json_object_set_new(object, map->pairs[i].key, json_string(map->pairs[i].value));
    return object;
}
