/* What a guest's agent replied, cleaned into struct guest_info. A guest may send anything: each text is
 * cut to its limit and freed of control characters, each address must be one. */
#include "qga.h"
#include <arpa/inet.h>
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <stdio.h>

#define ADDRESSES_MAX 64
#define FILESYSTEMS_MAX 32

/* Assigns at most `max` bytes without control characters, cut between characters. */
static void assign_clean(const char **slot, const char *text, size_t max)
{
    struct buf clean AUTO_BUF = BUF_INIT;
    for (; *text && clean.len < max; text++)
        buf_add_char(&clean, (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text);
    while (clean.len > 0 && !utf8_valid(clean.data, clean.len))
        clean.data[--clean.len] = '\0';
    str_assign(slot, clean.len ? clean.data : "");
}

static void take(const json_t *object, const char *key, const char **slot, size_t max)
{
    const char *text;
    if (json_get_string(object, key, &text))
        assign_clean(slot, text, max);
}

void qga_read_osinfo(const json_t *reply, struct guest_info *info)
{
    take(reply, "id", &info->os_id, 128);
    take(reply, "pretty-name", &info->os_name, 256);
    take(reply, "version-id", &info->os_version, 128);
    take(reply, "kernel-release", &info->kernel, 256);
    take(reply, "host-name", &info->hostname, 256);
    take(reply, "version", &info->agent_version, 64);
}

static int64_t positive(const json_t *object, const char *key)
{
    int64_t n;
    return json_get_int(object, key, &n) && n >= 0 ? n : -1;
}

/* Its own view of what is mounted; an agent before version 3 gives no sizes. */
void qga_read_filesystems(const json_t *reply, struct guest_info *info)
{
    size_t i;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)reply, i, item)
    {
        const char *mountpoint;
        if (info->filesystems_count >= FILESYSTEMS_MAX)
            return;
        if (!json_get_string(item, "mountpoint", &mountpoint) || !*mountpoint)
            continue;
        struct guest_filesystem *fs = guest_info_add_filesystems(info);
        assign_clean(&fs->mountpoint, mountpoint, 256);
        take(item, "type", &fs->type, 32);
        take(item, "name", &fs->device, 64);
        fs->total_bytes = positive(item, "total-bytes");
        int64_t used = positive(item, "used-bytes");
        if (used >= 0 && fs->total_bytes > 0 && used <= fs->total_bytes)
            fs->used_percent = (int64_t)((double)used / (double)fs->total_bytes * 100);
    }
}

static bool address_ok(const char *text)
{
    unsigned char bytes[16];
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

static bool is_loopback(const char *text)
{
    return strncmp(text, "127.", 4) == 0 || streq(text, "::1");
}

static int64_t nic_with(const struct domain_config *config, const char *mac)
{
    for (size_t i = 0; i < config->nics_count; i++)
        if (strcasecmp(config->nics[i].mac, mac) == 0)
            return config->nics[i].index;
    return -1;
}

static void read_interface(const json_t *interface, const struct domain_config *config,
                           struct guest_info *info)
{
    const char *address;
    size_t i;
    json_t *item, *list = json_object_get(interface, "ip-addresses");
    json_array_foreach(list, i, item)
    {
        if (info->addresses_count >= ADDRESSES_MAX)
            return;
        if (!json_get_string(item, "ip-address", &address) || !address_ok(address) || is_loopback(address))
            continue;
        struct guest_address *a = guest_info_add_addresses(info);
        str_assign(&a->address, address);
        take(interface, "name", &a->device, 64);
        take(interface, "hardware-address", &a->mac, 64);
        a->nic = nic_with(config, a->mac);
    }
}

void qga_read_interfaces(const json_t *reply, const struct domain_config *config, struct guest_info *info)
{
    size_t i;
    json_t *interface;
    json_array_foreach((json_t *)(uintptr_t)reply, i, interface) read_interface(interface, config, info);
}
