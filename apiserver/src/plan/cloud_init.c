/* other_config:cloud-init:* -> meta-data, user-data and network-config of cloud-init's NoCloud source. What
 * is made here is JSON, which is YAML too: no value can become another key, whatever is in it. */
#include "cloud_init.h"

#include <arpa/inet.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <hv/seed.h>
#include <model/errors.h>
#include <stdio.h>

#define TEXT_MAX (64 * 1024)
#define KEYS_MAX 64
#define DEVICE "seed"
#define INDEX 255 /* behind all disks: userdevice is smaller */

/* ---- values ---- */

/* One line of text that YAML takes as it is between quotes. */
static bool is_line(const char *s, size_t len)
{
    if (!utf8_valid(s, len))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i], next = (unsigned char)s[i + 1];
        /* U+0080 to U+009F are control characters, too. */
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && next < 0xa0))
            return false;
    }
    return true;
}

static const char *check_hostname(const char *value)
{
    static const char why[] =
        "it is a name of letters, digits, dashes and dots, each part of 63 characters at most";
    size_t part = 0;
    if (strlen(value) > 253)
        return why;
    for (const char *p = value;; p++) {
        bool end = *p == '.' || *p == '\0';
        if (end ? part == 0 || part > 63 || p[-1] == '-'
                : !isascii(*p) || (!isalnum((unsigned char)*p) && (*p != '-' || part == 0)))
            return why;
        part = end ? 0 : part + 1;
        if (!*p)
            return NULL;
    }
}

static const char *check_user(const char *value)
{
    size_t len = strlen(value);
    bool ok = len >= 1 && len <= 32 && (islower((unsigned char)*value) || *value == '_');
    for (const char *p = value; ok && *p; p++)
        ok = islower((unsigned char)*p) || isdigit((unsigned char)*p) || *p == '_' || *p == '-';
    return ok ? NULL : "it is a name of small letters, digits, dashes and underscores";
}

static const char *check_keys(const char *value)
{
    size_t count = 0;
    for (const char *line = value; *line;) {
        size_t len = strcspn(line, "\n");
        if (!is_line(line, len) || *line == '-')
            return "it is public keys as in authorized_keys, one a line";
        count += len > 0;
        line += len + (line[len] == '\n');
    }
    return count <= KEYS_MAX ? NULL : "there are more than 64 keys";
}

/* ADDRESS/BITS[,GATEWAY[,DNS]], of one family. */
struct address {
    int family;
    char text[3][INET6_ADDRSTRLEN + 5]; /* address with bits, gateway, DNS; "": none */
};

static bool parse_address(const char *value, struct address *out)
{
    unsigned char bytes[16];
    *out = (struct address){0};
    for (int i = 0; i < 3; i++) {
        size_t len = strcspn(value, ",");
        if (len == 0 || len >= sizeof(out->text[i]))
            return false;
        memcpy(out->text[i], value, len);
        value += len;
        if (!*value)
            break;
        value++;
    }
    char *slash = strchr(out->text[0], '/'), *end;
    if (*value || value[-1] == ',' || !slash || !isdigit((unsigned char)slash[1]))
        return false;
    long bits = strtol(slash + 1, &end, 10);
    out->family = strchr(out->text[0], ':') ? AF_INET6 : AF_INET;
    *slash = '\0';
    bool ok = inet_pton(out->family, out->text[0], bytes) == 1;
    *slash = '/';
    for (int i = 1; i < 3; i++)
        ok = ok && (!*out->text[i] || inet_pton(out->family, out->text[i], bytes) == 1);
    return ok && !*end && bits >= 1 && bits <= (out->family == AF_INET ? 32 : 128);
}

static const char *check_address(const char *value)
{
    struct address address;
    return parse_address(value, &address) ? NULL : "it is ADDRESS/BITS[,GATEWAY[,DNS]]";
}

static const char *check_text(const char *value)
{
    return strlen(value) <= TEXT_MAX ? NULL : "it is longer than 64 KiB";
}

static const struct {
    const char *name;
    const char *(*check)(const char *value);
} keys[] = {{"hostname", check_hostname}, {"user", check_user},      {"ssh-keys", check_keys},
            {"address", check_address},   {"user-data", check_text}, {"network-config", check_text}};

bool cloud_init_ok(const char *key, const char *value, const char **why)
{
    const char *name = key + strlen(CLOUD_INIT_PREFIX);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (!streq(keys[i].name, name))
            continue;
        *why = strlen(value) > TEXT_MAX ? check_text(value) : keys[i].check(value);
        return !*why;
    }
    *why = "the keys are hostname, user, ssh-keys, address, user-data and network-config";
    return false;
}

/* ---- texts ---- */

static const char *get(const struct vm_row *vm, const char *name)
{
    AUTO_FREE char *key = xasprintf(CLOUD_INIT_PREFIX "%s", name);
    return str_map_get(vm->other_config, key);
}

static json_t *list_of_keys(const char *value)
{
    json_t *list = json_array();
    while (value && *value) {
        size_t len = strcspn(value, "\n");
        if (len)
            json_array_append_new(list, json_stringn(value, len));
        value += len + (value[len] == '\n');
    }
    return list;
}

/* `moved` behind a first line. */
static char *text_of(const char *first, json_t *moved)
{
    AUTO_BUF struct buf text = BUF_INIT;
    buf_add_str(&text, first);
    json_write(&text, moved);
    buf_add_char(&text, '\n');
    json_decref(moved);
    return buf_take(&text);
}

static char *meta_data(const struct vm_row *vm)
{
    const char *hostname = get(vm, "hostname"), *ssh = get(vm, "ssh-keys");
    json_t *data = json_pack("{s:s}", "instance-id", vm->uuid);
    if (hostname)
        json_object_set_new(data, "local-hostname", json_string(hostname));
    if (ssh)
        json_object_set_new(data, "public-keys", list_of_keys(ssh));
    return text_of("", data);
}

/* The image's own first user gets the keys unless another one is named. */
static char *user_data(const struct vm_row *vm)
{
    const char *user = get(vm, "user"), *own = get(vm, "user-data");
    if (own)
        return xstrdup(own);
    json_t *data = json_object();
    if (user && streq(user, "root"))
        json_object_set_new(data, "disable_root", json_false());
    else if (user)
        json_object_set_new(data, "users",
                            json_pack("[{s:s, s:s, s:s, s:b, s:o}]", "name", user, "shell", "/bin/bash",
                                      "sudo", "ALL=(ALL) NOPASSWD:ALL", "lock_passwd", 1,
                                      "ssh_authorized_keys", list_of_keys(get(vm, "ssh-keys"))));
    return text_of("#cloud-config\n", data);
}

static const struct domain_nic *first_nic(const struct domain_config *config)
{
    const struct domain_nic *first = NULL;
    for (size_t i = 0; i < config->nics_count; i++)
        if (!first || config->nics[i].index < first->index)
            first = &config->nics[i];
    return first;
}

/* NULL: the guest asks by DHCP, as it does by itself. */
static char *network_config(const struct vm_row *vm, const struct domain_config *config)
{
    const char *value = get(vm, "address"), *own = get(vm, "network-config");
    const struct domain_nic *nic = first_nic(config);
    struct address address;
    if (own)
        return xstrdup(own);
    if (!value || !nic || !parse_address(value, &address))
        return NULL;
    /* Version 1, whose gateway belongs to the address: cloud-init makes commands of net-tools, which few
     * guests have, of the routes of version 2 where a guest has ifupdown. */
    json_t *subnet = json_pack("{s:s, s:s}", "type", address.family == AF_INET ? "static" : "static6",
                               "address", address.text[0]);
    if (*address.text[1])
        json_object_set_new(subnet, "gateway", json_string(address.text[1]));
    if (*address.text[2])
        json_object_set_new(subnet, "dns_nameservers", json_pack("[s]", address.text[2]));
    json_t *card = json_pack("{s:s, s:s, s:s, s:[o]}", "type", "physical", "name", "eth0", "mac_address",
                             nic->mac, "subnets", subnet);
    return text_of("", json_pack("{s:i, s:[o]}", "version", 1, "config", card));
}

static int refuse(struct api_err *err, const char *key, const char *value, const char *why)
{
    AUTO_FREE char *field = xasprintf("other_config:%.60s", key), *shown = xasprintf("%.80s", value);
    return err_value_not_supported(err, field, shown, why);
}

/* 1: there are keys, and all are right. */
static int check(const struct vm_row *vm, struct api_err *err)
{
    const struct str_map *config = vm->other_config;
    int found = 0;
    for (size_t i = 0; config && i < config->count; i++) {
        const char *key = config->pairs[i].key, *value = config->pairs[i].value, *why;
        if (strncmp(key, CLOUD_INIT_PREFIX, strlen(CLOUD_INIT_PREFIX)) != 0)
            continue;
        if (!cloud_init_ok(key, value, &why))
            return refuse(err, key, value, why);
        found = 1;
    }
    static const char *const instead[][2] = {{"user-data", "user"}, {"network-config", "address"}};
    for (size_t i = 0; i < ARRAY_LEN(instead); i++)
        if (get(vm, instead[i][0]) && get(vm, instead[i][1])) {
            AUTO_FREE char *key = xasprintf(CLOUD_INIT_PREFIX "%s", instead[i][1]);
            AUTO_FREE char *why = xasprintf("%s says that, so it cannot be said besides", instead[i][0]);
            return refuse(err, key, get(vm, instead[i][1]), why);
        }
    return found;
}

int plan_cloud_init(const struct vm_row *vm, enum disk_bus bus, struct domain_config *config,
                    struct api_err *err)
{
    int found = check(vm, err);
    if (found <= 0)
        return found;
    AUTO_FREE char *meta = meta_data(vm), *user = user_data(vm), *network = network_config(vm, config);
    struct str_pair files[] = {{"meta-data", meta}, {"user-data", user}, {"network-config", network}};
    AUTO_STR_MAP const struct str_map *seed = str_map_new(files, network ? 3 : 2);
    if (!seed_ok(seed))
        return refuse(err, CLOUD_INIT_PREFIX "user-data", "", "all of it together is longer than 128 KiB");
    struct domain_disk *disk = domain_config_add_disks(config);
    str_assign(&disk->device, DEVICE);
    disk->index = INDEX;
    disk->bus = bus;
    disk->read_only = true;
    disk->source = DISK_SOURCE_SEED;
    str_map_assign(&disk->seed, str_map_ref(seed));
    return 0;
}
