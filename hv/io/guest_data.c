/* Requests of a guest about the data that it shares with the pool (guest_data.h). */
#include "guest_data.h"
#include <base/json.h>
#include <base/mem.h>

#define PROTOCOL 1

static void begin(struct buf *reply, const json_t *id)
{
    buf_add_str(reply, "{\"id\":");
    json_write(reply, json_is_integer(id) ? id : NULL);
}

static void refuse(struct buf *reply, const char *error, const char *text)
{
    buf_printf(reply, ",\"error\":\"%s\",\"text\":\"%s\"", error, text);
}

static bool read_key(struct buf *reply, const json_t *request, const char **key)
{
    if (json_get_string(request, "key", key) && domain_data_key_ok(*key))
        return true;
    refuse(reply, "bad_key", "keys are vm-data/... of letters, digits and -_@.:/");
    return false;
}

static bool has_prefix(const char *key, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(key, prefix, len) == 0 && (!key[len] || !len || prefix[len - 1] == '/' || key[len] == '/');
}

static void answer_read(const struct str_map *data, const json_t *request, struct buf *reply)
{
    const char *key;
    if (!read_key(reply, request, &key))
        return;
    const char *value = str_map_get(data, key);
    if (!value) {
        refuse(reply, "not_found", "there is no such key");
        return;
    }
    buf_add_str(reply, ",\"value\":");
    json_write_string(reply, value);
}

static bool answer_write(const struct str_map **data, const json_t *request, struct buf *reply)
{
    const char *key, *value;
    if (!read_key(reply, request, &key))
        return false;
    if (!json_get_string(request, "value", &value) || !domain_data_value_ok(value)) {
        refuse(reply, "bad_value", "a value is text of at most 4096 bytes");
        return false;
    }
    const char *now = str_map_get(*data, key);
    if (now && streq(now, value))
        return false;
    AUTO_STR_MAP const struct str_map *with = str_map_with(*data, key, value);
    if (!domain_data_fits(with)) {
        refuse(reply, "quota", "the data of this guest would be too large");
        return false;
    }
    str_map_assign(data, TAKE_PTR(with));
    return true;
}

/* The key, and all below it. */
static bool answer_remove(const struct str_map **data, const json_t *request, struct buf *reply)
{
    const char *key;
    int removed = 0;
    if (!read_key(reply, request, &key))
        return false;
    AUTO_STR_MAP const struct str_map *all = str_map_ref(*data);
    for (uint32_t i = 0; all && i < all->count; i++)
        if (has_prefix(all->pairs[i].key, key)) {
            str_map_del(data, all->pairs[i].key);
            removed++;
        }
    buf_printf(reply, ",\"removed\":%d", removed);
    return removed > 0;
}

static void answer_list(const struct str_map *data, int64_t version, const json_t *request, struct buf *reply)
{
    const char *prefix = "", *between = "";
    json_get_string(request, "prefix", &prefix);
    buf_printf(reply, ",\"version\":%lld,\"data\":{", (long long)version);
    for (uint32_t i = 0; data && i < data->count; i++) {
        if (!has_prefix(data->pairs[i].key, prefix))
            continue;
        buf_add_str(reply, between);
        json_write_string(reply, data->pairs[i].key);
        buf_add_char(reply, ':');
        json_write_string(reply, data->pairs[i].value);
        between = ",";
    }
    buf_add_char(reply, '}');
}

static bool answer(const struct str_map **data, int64_t version, const json_t *request, struct buf *reply)
{
    const char *op;
    if (!json_get_string(request, "op", &op))
        refuse(reply, "bad_request", "a request is an object with id and op");
    else if (streq(op, "read"))
        answer_read(*data, request, reply);
    else if (streq(op, "write"))
        return answer_write(data, request, reply);
    else if (streq(op, "remove"))
        return answer_remove(data, request, reply);
    else if (streq(op, "list"))
        answer_list(*data, version, request, reply);
    else if (streq(op, "version"))
        buf_printf(reply, ",\"version\":%lld,\"protocol\":%d", (long long)version, PROTOCOL);
    else
        refuse(reply, "bad_request", "op is read, write, remove, list or version");
    return false;
}

bool guest_data_answer(const struct str_map **data, int64_t version, const char *line, size_t len,
                       struct buf *reply)
{
    struct json_error error;
    json_t *request AUTO_JSON = json_parse(line, len, &error);
    begin(reply, json_object_get(request, "id"));
    bool changed = answer(data, version, request, reply);
    buf_add_str(reply, "}\n");
    return changed;
}

void guest_data_not_kept(const char *line, size_t len, struct buf *reply)
{
    struct json_error error;
    json_t *request AUTO_JSON = json_parse(line, len, &error);
    begin(reply, json_object_get(request, "id"));
    refuse(reply, "io", "the host cannot keep it");
    buf_add_str(reply, "}\n");
}

void guest_data_too_long(struct buf *reply)
{
    begin(reply, NULL);
    refuse(reply, "bad_request", "the line is too long");
    buf_add_str(reply, "}\n");
}

int guest_data_change(const struct str_map **data, bool replace, const struct str_map *set,
                      const char *const *remove, size_t remove_count, struct hv_err *err)
{
    AUTO_STR_MAP const struct str_map *next = replace ? NULL : str_map_ref(*data);
    for (size_t i = 0; i < remove_count; i++)
        str_map_del(&next, remove[i]);
    for (uint32_t i = 0; set && i < set->count; i++)
        str_map_put(&next, set->pairs[i].key, set->pairs[i].value);
    if (domain_data_check(next, err) < 0)
        return -1;
    str_map_assign(data, TAKE_PTR(next));
    return 0;
}
