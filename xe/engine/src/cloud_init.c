/* Parameters cloud-init-* of a command that makes a VM: they become the keys of its other_config from which
 * the server makes the seed at each start. What is read from a file here is text. */
#include "run.h"

static const struct {
    const char *param, *key;
    bool file;
} keys[] = {
    {"cloud-init-hostname", "cloud-init:hostname", false},
    {"cloud-init-user", "cloud-init:user", false},
    {"cloud-init-ip", "cloud-init:address", false},
    {"cloud-init-ssh-key", "cloud-init:ssh-keys", true},
    {"cloud-init-user-data", "cloud-init:user-data", true},
    {"cloud-init-network-config", "cloud-init:network-config", true},
};

int xe_cloud_init_read(struct xe_run_state *x, json_t **out)
{
    AUTO_JSON json_t *map = json_object();
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *value = xe_arg(x, keys[i].param);
        AUTO_FREE char *data = NULL;
        size_t len;
        if (!value)
            continue;
        if (keys[i].file && x->api->read_file(x->api->ctx, value, &data, &len, &x->err) < 0)
            return -1;
        json_t *text = keys[i].file ? json_stringn(data, len) : json_string(value);
        if (!text || strlen(json_string_value(text)) != json_string_length(text)) {
            json_decref(text);
            return xe_fail(x, XE_ERR_CLI, "%s is not text in UTF-8", keys[i].file ? value : keys[i].param);
        }
        json_object_set_new(map, keys[i].key, text);
    }
    *out = json_incref(map);
    return 0;
}

int xe_cloud_init_set(struct xe_run_state *x, const char *vm, const json_t *map)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, key, value)
    {
        /* The template's own goes. */
        if (xe_call(x, "VM.remove_from_other_config", NULL, "[ss]", vm, key) < 0 ||
            xe_call(x, "VM.add_to_other_config", NULL, "[sss]", vm, key, json_string_value(value)) < 0)
            return -1;
    }
    return 0;
}
