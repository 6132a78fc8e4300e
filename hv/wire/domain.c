/* Checks of a domain's configuration that need no host (hv/domain.h). The server runs them to refuse early,
 * the agent because it trusts nobody's checks. */
#include <arpa/inet.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <hv/domain.h>
#include <hv/seed.h>

#define BAD HV_ERR_KIND_BAD_ARGUMENT
#define MIB (INT64_C(1) << 20)
#define OVERHEAD_MIB 64
#define OVERHEAD_VCPUS_MOST 256 /* more than a machine of QEMU has */

bool hv_file_name_ok(const char *name)
{
    if (!name || !*name || *name == '.' || *name == '-' || strlen(name) > 255)
        return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-+", *p))
            return false;
    return true;
}

bool hv_mac_ok(const char *mac)
{
    if (!mac || strlen(mac) != 17)
        return false;
    bool any = false;
    for (int i = 0; i < 17; i++) {
        if (i % 3 == 2) {
            if (mac[i] != ':')
                return false;
        } else {
            if (!isdigit((unsigned char)mac[i]) && !(mac[i] >= 'a' && mac[i] <= 'f'))
                return false;
            any = any || mac[i] != '0';
        }
    }
    /* The lowest bit of the first byte says multicast. */
    return any && strchr("02468ace", mac[1]);
}

bool domain_state_is_live(enum domain_state state)
{
    return state != DOMAIN_STATE_GONE;
}

static bool blank(const char *s)
{
    return !s || !*s;
}

static bool has_control(const char *s)
{
    for (; s && *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return true;
    return false;
}

static bool device_name_ok(const char *name)
{
    if (blank(name) || strlen(name) > 31 || !isalpha((unsigned char)name[0]))
        return false;
    for (const char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p) && *p != '-')
            return false;
    return true;
}

/* The name of a file of an ISO SR may hold blanks and the like, but never leads anywhere else. */
static bool iso_name_ok(const char *name)
{
    return !blank(name) && name[0] != '.' && !strchr(name, '/') && strlen(name) <= 255 && !has_control(name);
}

static int check_disk(const struct domain_config *config, size_t i, struct hv_err *err)
{
    const struct domain_disk *disk = &config->disks[i];
    if (!device_name_ok(disk->device))
        return hv_fail(err, BAD, "Disk %zu has no usable device name (letters, digits and dashes).", i);
    for (size_t k = 0; k < i; k++)
        if (streq(config->disks[k].device, disk->device) || config->disks[k].index == disk->index)
            return hv_fail(err, BAD, "Two disks have the device name or position of %s.", disk->device);
    struct ref uuid;
    switch (disk->source) {
    case DISK_SOURCE_EMPTY:
        if (!disk->cdrom)
            return hv_fail(err, BAD, "Disk %s is empty; only a CD drive can be.", disk->device);
        return 0;
    case DISK_SOURCE_DISK:
        if (blank(disk->sr) || !uuid_parse(disk->sr, &uuid) || blank(disk->disk) ||
            !uuid_parse(disk->disk, &uuid))
            return hv_fail(err, BAD, "Disk %s does not say which disk of which SR it is.", disk->device);
        return 0;
    case DISK_SOURCE_ISO:
        if (!disk->cdrom)
            return hv_fail(err, BAD, "Disk %s is a file of an ISO repository; only a CD drive can be.",
                           disk->device);
        if (blank(disk->sr) || !uuid_parse(disk->sr, &uuid) || !iso_name_ok(disk->iso))
            return hv_fail(err, BAD, "CD drive %s does not name a file of an ISO repository.", disk->device);
        return 0;
    case DISK_SOURCE_SEED:
        if (!disk->read_only)
            return hv_fail(err, BAD, "Disk %s is a seed; such a disk is only read.", disk->device);
        if (!seed_ok(disk->seed))
            return hv_fail(err, BAD, "Disk %s has no usable files: up to %d of %d bytes together.",
                           disk->device, SEED_FILES, SEED_BYTES);
        return 0;
    }
    return hv_fail(err, BAD, "Disk %s has an unknown source.", disk->device);
}

static int check_allowed(int family, const char *const *list, size_t count)
{
    unsigned char bytes[16];
    for (size_t i = 0; i < count; i++)
        if (inet_pton(family, list[i], bytes) != 1)
            return -1;
    return 0;
}

static int check_nic(const struct domain_config *config, size_t i, struct hv_err *err)
{
    const struct domain_nic *nic = &config->nics[i];
    if (!hv_mac_ok(nic->mac))
        return hv_fail(err, BAD, "Nic %d has no usable MAC address (aa:bb:cc:dd:ee:ff, unicast, lower case).",
                       (int)nic->index);
    if (blank(nic->bridge) != (nic->kind != NIC_KIND_BRIDGE))
        return hv_fail(err, BAD, "Nic %d names a bridge if, and only if, that is where it leads.",
                       (int)nic->index);
    if (check_allowed(AF_INET, nic->ipv4_allowed, nic->ipv4_allowed_count) < 0 ||
        check_allowed(AF_INET6, nic->ipv6_allowed, nic->ipv6_allowed_count) < 0)
        return hv_fail(err, BAD, "An address that nic %d may use is none.", (int)nic->index);
    for (size_t k = 0; k < i; k++)
        if (streq(config->nics[k].mac, nic->mac) || config->nics[k].index == nic->index)
            return hv_fail(err, BAD, "Two nics have the MAC address or position of nic %d.", (int)nic->index);
    return 0;
}

/* ---- devices of the host ---- */

bool hv_pci_bus_ok(const char *bus)
{
    static const char form[] = "xxxx:xx:xx.x";
    for (size_t i = 0; i < sizeof(form); i++)
        if (form[i] == 'x' ? !bus[i] || !strchr("0123456789abcdef", bus[i]) : bus[i] != form[i])
            return false;
    return true;
}

bool hv_usb_path_ok(const char *path)
{
    static const char digits[] = "0123456789";
    size_t len = strlen(path), bus = strspn(path, digits);
    return bus > 0 && bus < 5 && path[bus] == '-' && len < 32 && path[bus + 1] >= '0' &&
           path[bus + 1] <= '9' && path[len - 1] >= '0' && path[len - 1] <= '9' &&
           strspn(path + bus + 1, "0123456789.") == len - bus - 1;
}

static bool is_id(const char *text)
{
    return strlen(text) == 4 && strspn(text, "0123456789abcdef") == 4;
}

static int check_host_devices(const struct domain_config *config, struct hv_err *err)
{
    for (size_t i = 0; i < config->pci_count; i++)
        if (!hv_pci_bus_ok(config->pci[i]))
            return hv_fail(err, BAD, "The place of a PCI device has the form 0000:00:02.0.");
    for (size_t i = 0; i < config->usb_count; i++) {
        const struct domain_usb *usb = &config->usb[i];
        if (!hv_usb_path_ok(usb->path) || !is_id(usb->vendor_id) || !is_id(usb->product_id))
            return hv_fail(err, BAD, "A USB device has a place like 1-2.4 and numbers of four digits.");
    }
    for (size_t i = 1; i < config->pci_count; i++)
        for (size_t k = 0; k < i; k++)
            if (streq(config->pci[i], config->pci[k]))
                return hv_fail(err, BAD, "The PCI device %s is there twice.", config->pci[i]);
    return 0;
}

bool domain_config_drop_usb(struct domain_config *config, const char *path)
{
    for (size_t i = 0; i < config->usb_count; i++) {
        if (!streq(config->usb[i].path, path))
            continue;
        domain_usb_done(&config->usb[i]);
        memmove(&config->usb[i], &config->usb[i + 1], (--config->usb_count - i) * sizeof(*config->usb));
        return true;
    }
    return false;
}

static int check_boot(const struct domain_config *config, struct hv_err *err)
{
    for (const char *p = config->boot_order; p && *p; p++)
        if (!strchr("cdn", *p) || strchr(p + 1, *p))
            return hv_fail(err, BAD, "The boot order is not made of c, d and n, each at most once.");
    bool direct = config->firmware == FIRMWARE_KERNEL;
    if (direct && !hv_file_name_ok(config->kernel))
        return hv_fail(err, BAD, "The kernel is not the name of a file in the host's images folder.");
    if (!blank(config->ramdisk) && !hv_file_name_ok(config->ramdisk))
        return hv_fail(err, BAD, "The ramdisk is not the name of a file in the host's images folder.");
    bool guest = config->firmware == FIRMWARE_GUEST_KERNEL;
    if (guest && (!blank(config->kernel) || !blank(config->ramdisk)))
        return hv_fail(err, BAD, "A kernel or ramdisk is given, but the guest's own is asked for.");
    if (!direct && !guest && (!blank(config->kernel) || !blank(config->ramdisk) || !blank(config->cmdline)))
        return hv_fail(err, BAD,
                       "A kernel, ramdisk or arguments are given, but the firmware does not use them.");
    if (has_control(config->cmdline) || has_control(config->kernel_title))
        return hv_fail(err, BAD, "The kernel's arguments contain a control character.");
    return 0;
}

static int check_hardware(const struct domain_config *config, struct hv_err *err)
{
    int64_t most = config->vcpus_max > config->vcpus ? config->vcpus_max : config->vcpus;
    if (config->secure_boot == SECURE_BOOT_ON && config->firmware != FIRMWARE_UEFI)
        return hv_fail(err, BAD, "Secure Boot is a matter of UEFI.");
    if (config->cores_per_socket > 0 && most % config->cores_per_socket != 0)
        return hv_fail(err, BAD, "%d processors cannot be put into sockets of %d cores.", (int)most,
                       (int)config->cores_per_socket);
    if (config->video_mib < 1 || config->video_mib > 256 || (config->video_mib & (config->video_mib - 1)))
        return hv_fail(err, BAD, "The screen's memory is a power of two, 1 to 256 MiB.");
    return 0;
}

bool hv_cpu_mask_parse(const char *text, bool *processors, int count)
{
    bool found[HV_CPUS_MAX] = {false}, any = blank(text);
    if (any)
        memset(found, true, sizeof(found));
    for (const char *p = any ? "" : text; *p;) {
        char *end;
        if (!isdigit((unsigned char)*p))
            return false;
        long first = strtol(p, &end, 10), last = first;
        if (*end == '-') {
            if (!isdigit((unsigned char)end[1]))
                return false;
            last = strtol(end + 1, &end, 10);
        }
        if (first >= HV_CPUS_MAX || last >= HV_CPUS_MAX || last < first || (*end && *end != ',') ||
            (*end == ',' && !end[1]))
            return false;
        for (long i = first; i <= last; i++)
            found[i] = true;
        any |= first < count;
        p = end + (*end == ',');
    }
    for (int i = 0; any && i < count; i++)
        processors[i] = i < HV_CPUS_MAX && found[i];
    return any;
}

bool domain_data_key_ok(const char *key)
{
    const char *part = key + strlen(DOMAIN_DATA_PREFIX);
    if (strncmp(key, DOMAIN_DATA_PREFIX, strlen(DOMAIN_DATA_PREFIX)) != 0 || strlen(key) > DOMAIN_DATA_KEY)
        return false;
    for (const char *p = part; *p; p++)
        if (*p == '/' ? p[-1] == '/' : !isalnum((unsigned char)*p) && !strchr("-_@.:", *p))
            return false;
    return *part && key[strlen(key) - 1] != '/';
}

bool domain_data_value_ok(const char *value)
{
    for (const char *p = value; *p; p++)
        if (((unsigned char)*p < 0x20 && *p != '\n' && *p != '\t') || *p == 0x7f)
            return false;
    size_t len = strlen(value);
    return len <= DOMAIN_DATA_VALUE && utf8_valid(value, len);
}

bool domain_data_fits(const struct str_map *data)
{
    size_t bytes = 0;
    for (uint32_t i = 0; data && i < data->count; i++)
        bytes += strlen(data->pairs[i].key) + strlen(data->pairs[i].value);
    return !data || (data->count <= DOMAIN_DATA_KEYS && bytes <= DOMAIN_DATA_BYTES);
}

int domain_data_check(const struct str_map *data, struct hv_err *err)
{
    for (uint32_t i = 0; data && i < data->count; i++) {
        if (!domain_data_key_ok(data->pairs[i].key))
            return hv_fail(err, BAD,
                           "A key of the guest's data is not vm-data/... of letters, digits and -_@.:/");
        if (!domain_data_value_ok(data->pairs[i].value))
            return hv_fail(err, BAD, "The value of %s is longer than %d bytes, or not text.",
                           data->pairs[i].key, DOMAIN_DATA_VALUE);
    }
    if (!domain_data_fits(data))
        return hv_fail(err, BAD, "The guest's data has more than %d keys or %d bytes.", DOMAIN_DATA_KEYS,
                       DOMAIN_DATA_BYTES);
    return 0;
}

int64_t domain_overhead(int64_t memory_bytes, int64_t vcpus_max)
{
    int64_t tables = memory_bytes > 0 ? memory_bytes / 256 / MIB : 0;
    int64_t vcpus = vcpus_max < 0 ? 0 : vcpus_max > OVERHEAD_VCPUS_MOST ? OVERHEAD_VCPUS_MOST : vcpus_max;
    return (OVERHEAD_MIB + vcpus + tables) * MIB;
}

int domain_config_check(const struct domain_config *config, struct hv_err *err)
{
    struct ref uuid;
    if (blank(config->uuid) || !uuid_parse(config->uuid, &uuid) || ref_is_null(uuid))
        return hv_fail(err, BAD, "The domain has no uuid.");
    if (has_control(config->name))
        return hv_fail(err, BAD, "The domain's name contains a control character.");
    if (config->memory_bytes < 1 << 20)
        return hv_fail(err, BAD, "The domain has less than 1 MiB of memory.");
    if (config->vcpus < 1 || config->vcpus > 255)
        return hv_fail(err, BAD, "The domain has %d processors; 1 to 255 are possible.", (int)config->vcpus);
    if (config->vcpus_max != 0 && config->vcpus_max < config->vcpus)
        return hv_fail(err, BAD, "The domain has more processors (%d) than it may have (%d).",
                       (int)config->vcpus, (int)config->vcpus_max);
    bool processors[HV_CPUS_MAX];
    if (!hv_cpu_mask_parse(config->cpu_mask, processors, HV_CPUS_MAX))
        return hv_fail(err, BAD, "The processor mask is not a list like 0,2-5 of numbers below %d.",
                       HV_CPUS_MAX);
    if (config->memory_target_bytes > config->memory_bytes)
        return hv_fail(err, BAD, "The domain is to keep more memory than it has.");
    if (check_boot(config, err) < 0 || domain_data_check(config->data, err) < 0 ||
        check_hardware(config, err) < 0 || check_host_devices(config, err) < 0)
        return -1;
    for (size_t i = 0; i < config->disks_count; i++)
        if (check_disk(config, i, err) < 0)
            return -1;
    for (size_t i = 0; i < config->nics_count; i++)
        if (check_nic(config, i, err) < 0)
            return -1;
    return 0;
}
