/* Any texts as VM.other_config:cloud-init:*, each ended by the byte 0xff; the first byte says which keys
 * there are. What is taken becomes texts of which a guest reads just what was said: no value becomes another
 * key. */
#include <base/json.h>
#include <base/mem.h>
#include <hv/seed.h>
#include <model/rows.h>
#include <plan/cloud_init.h>
#include <stdlib.h>

#define ID "11111111-1111-4111-8111-111111111111"

static const char *const names[] = {"hostname", "user", "ssh-keys", "address", "user-data", "network-config"};

static char *next_text(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *stop = *at < end ? memchr(*at, 0xff, (size_t)(end - *at)) : NULL;
    size_t len = (size_t)((stop ? stop : end) - *at);
    char *text = xmalloc(len + 1);
    if (len)
        memcpy(text, *at, len);
    text[len] = '\0';
    *at += len + (stop != NULL);
    return text;
}

static const char *value(const struct vm_row *vm, const char *name)
{
    AUTO_FREE char *key = xasprintf(CLOUD_INIT_PREFIX "%s", name);
    return str_map_get(vm->other_config, key);
}

/* One object whose members are among those. */
static json_t *read_object(const char *text, const char *const *members, size_t count)
{
    struct json_error error;
    json_t *json = json_parse(text, strlen(text), &error), *member;
    const char *key;
    size_t seen = 0;
    if (!json_is_object(json))
        abort();
    for (size_t i = 0; i < count; i++)
        seen += json_object_get(json, members[i]) != NULL;
    if (seen != json_object_size(json))
        abort();
    json_object_foreach(json, key, member) if (strchr(key, '\n')) abort();
    return json;
}

static void expect(const json_t *json, const char *member, const char *wanted)
{
    const char *got;
    if (wanted && (!json_get_string(json, member, &got) || strcmp(got, wanted) != 0))
        abort();
}

static void check_seed(const struct vm_row *vm, const struct domain_disk *disk)
{
    static const char *const meta[] = {"instance-id", "local-hostname", "public-keys"},
                             *const user[] = {"disable_root", "users"}, *const net[] = {"version", "config"};
    const char *own = value(vm, "user-data"), *network = str_map_get(disk->seed, "network-config");
    const char *text = str_map_get(disk->seed, "user-data");
    if (!disk->read_only || !seed_ok(disk->seed))
        abort();
    AUTO_JSON json_t *data =
        read_object(str_map_get(disk->seed, "meta-data"), meta, sizeof(meta) / sizeof(*meta));
    expect(data, "instance-id", ID);
    expect(data, "local-hostname", value(vm, "hostname"));
    if (own ? strcmp(own, text) != 0 : strncmp(text, "#cloud-config\n", 14) != 0)
        abort();
    if (!own) {
        AUTO_JSON json_t *config = read_object(text + 14, user, sizeof(user) / sizeof(*user));
        const char *wanted = value(vm, "user");
        if (wanted && strcmp(wanted, "root") != 0)
            expect(json_array_get(json_object_get(config, "users"), 0), "name", wanted);
    }
    if (network && !value(vm, "network-config")) {
        AUTO_JSON json_t *config = read_object(network, net, sizeof(net) / sizeof(*net));
        if (json_array_size(json_object_get(config, "config")) != 1)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = data + size;
    unsigned which = size ? *data++ : 0;
    struct row *row = row_new(CLASS_VM, (struct ref){1, 2});
    struct vm_row *vm = (struct vm_row *)row;
    struct domain_config config AUTO_DOMAIN_CONFIG;
    struct api_err err = API_ERR_INIT;
    domain_config_init(&config);
    str_assign(&vm->uuid, ID);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (!(which >> i & 1))
            continue;
        AUTO_FREE char *text = next_text(&data, end), *key = xasprintf(CLOUD_INIT_PREFIX "%s", names[i]);
        str_map_put(&vm->other_config, key, text);
    }
    struct domain_nic *nic = domain_config_add_nics(&config);
    str_assign(&nic->mac, "02:00:00:00:00:01");
    int rc = plan_cloud_init(vm, DISK_BUS_VIRTIO, &config, &err);
    if (rc == 0 ? config.disks_count > 1 : !err.code)
        abort();
    if (config.disks_count == 1)
        check_seed(vm, &config.disks[0]);
    api_err_done(&err);
    row_unref(row);
    return 0;
}
