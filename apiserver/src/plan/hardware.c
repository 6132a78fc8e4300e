/* How a VM boots (domain_type, PV_*, HVM_boot_params) and its hardware (platform). In Xen's words: an hvm VM
 * is started by its firmware, BIOS or UEFI; pv, pvh and pv_in_pvh ones by a kernel, which is a file of the
 * host (PV_kernel) or the guest's own (PV_bootloader = pygrub or eliloader). A VM whose type is unspecified
 * is what its fields say. Keys of platform that nobody here can honour are listed in docs/hardware.md. */
#include "hardware.h"

#include "../server.h"
#include <base/mem.h>
#include <errno.h>
#include <model/errors.h>
#include <stdio.h>

static int refuse(struct api_err *err, const char *field, const char *value, const char *reason)
{
    return err_value_not_supported(err, field, value, reason);
}

/* ---- booting ---- */

static int plan_firmware(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    const char *firmware = str_map_get(vm->HVM_boot_params, "firmware");
    const char *secure = str_map_get(vm->platform, "secureboot");
    const char *order = str_map_get(vm->HVM_boot_params, "order");
    if (!firmware || !*firmware || streq(firmware, "bios"))
        config->firmware = FIRMWARE_BIOS;
    else if (streq(firmware, "uefi"))
        config->firmware = FIRMWARE_UEFI;
    else
        return refuse(err, "HVM_boot_params:firmware", firmware, "it is bios or uefi");
    if (order && *order)
        str_assign(&config->boot_order, order);
    if (config->firmware != FIRMWARE_UEFI || !secure || !*secure || streq(secure, "false"))
        return 0;
    if (streq(secure, "true"))
        config->secure_boot = SECURE_BOOT_ON;
    else if (streq(secure, "auto"))
        config->secure_boot = SECURE_BOOT_AUTO;
    else
        return refuse(err, "platform:secureboot", secure, "it is true, false or auto");
    return 0;
}

/* x86 Linux takes no more; what else is in them is the guest's affair. */
#define KERNEL_ARGUMENTS_MAX 2047

static int plan_arguments(const char *field, const char *arguments, struct domain_config *config,
                          struct api_err *err)
{
    if (strlen(arguments) > KERNEL_ARGUMENTS_MAX)
        return refuse(err, field, arguments, "a kernel takes arguments of 2047 characters at most");
    for (const char *p = arguments; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return refuse(err, field, arguments, "a kernel's arguments hold no control characters");
    str_assign(&config->cmdline, arguments);
    return 0;
}

static int plan_guest_kernel(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    if (!streq(vm->PV_bootloader, "pygrub") && !streq(vm->PV_bootloader, "eliloader"))
        return err_unknown_bootloader(err, REF_TEXT(vm->row.ref), vm->PV_bootloader);
    if (strlen(vm->PV_bootloader_args) > 255)
        return refuse(err, "PV_bootloader_args", vm->PV_bootloader_args,
                      "it is the number or title of a menu entry, up to 255 characters");
    config->firmware = FIRMWARE_GUEST_KERNEL;
    str_assign(&config->kernel_title, vm->PV_bootloader_args);
    return plan_arguments("PV_args", vm->PV_args, config, err);
}

/* A kernel out of the host's folder of images, and what the fields are called that say so. */
struct host_kernel {
    const char *kernel, *ramdisk, *arguments;
    const char *fields[3];
};

static int plan_host_kernel(const struct host_kernel *from, struct domain_config *config, struct api_err *err)
{
    static const char *const reason =
        "it is the name of a file in the host's folder of images, without a path; a kernel on a disk of the "
        "VM is started with PV_bootloader pygrub";
    if (!hv_file_name_ok(from->kernel))
        return refuse(err, from->fields[0], from->kernel, reason);
    if (*from->ramdisk && !hv_file_name_ok(from->ramdisk))
        return refuse(err, from->fields[1], from->ramdisk, reason);
    config->firmware = FIRMWARE_KERNEL;
    str_assign(&config->kernel, from->kernel);
    str_assign(&config->ramdisk, from->ramdisk);
    return plan_arguments(from->fields[2], from->arguments, config, err);
}

static const char *other_config(const struct vm_row *vm, const char *key)
{
    const char *value = str_map_get(vm->other_config, key);
    return value ? value : "";
}

static bool installs(const struct vm_row *vm)
{
    return *other_config(vm, PLAN_INSTALL_KERNEL);
}

static struct host_kernel host_kernel(const struct vm_row *vm)
{
    if (!installs(vm))
        return (struct host_kernel){
            vm->PV_kernel, vm->PV_ramdisk, vm->PV_args, {"PV_kernel", "PV_ramdisk", "PV_args"}};
    return (struct host_kernel){
        other_config(vm, PLAN_INSTALL_KERNEL),
        other_config(vm, PLAN_INSTALL_RAMDISK),
        other_config(vm, PLAN_INSTALL_ARGUMENTS),
        {"other_config:" PLAN_INSTALL_KERNEL, "other_config:" PLAN_INSTALL_RAMDISK,
         "other_config:" PLAN_INSTALL_ARGUMENTS},
    };
}

/* The reboot at an installer's end would start its kernel again: the VM is halted then, and the next start is
 * from its disk. */
static int plan_installer(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    config->on_reboot = END_ACTION_DESTROY;
    const struct host_kernel from = host_kernel(vm);
    return plan_host_kernel(&from, config, err);
}

int plan_boot(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    if (installs(vm))
        return plan_installer(vm, config, err);
    /* A bootloader comes first, as with Xen: PV_kernel then is a leftover of an installation. */
    if (*vm->PV_bootloader)
        return plan_guest_kernel(vm, config, err);
    if (*vm->PV_kernel) {
        const struct host_kernel from = host_kernel(vm);
        return plan_host_kernel(&from, config, err);
    }
    switch (vm->domain_type) {
    case DOMAIN_TYPE_PV:
    case DOMAIN_TYPE_PVH:
    case DOMAIN_TYPE_PV_IN_PVH:
        return refuse(err, "domain_type", model_enum_domain_type.values[vm->domain_type],
                      "such a VM is started by a kernel: set PV_kernel, or PV_bootloader to pygrub");
    case DOMAIN_TYPE_HVM:
    case DOMAIN_TYPE_UNSPECIFIED:
        break;
    }
    return plan_firmware(vm, config, err);
}

#define NO_SUCH_IMAGE                                                                                        \
    "the host has no such file in its folder of images (hostd --images); put it there, or name one that is"

int plan_kernel_missing(const struct vm_row *vm, struct api_err *err)
{
    const struct host_kernel from = host_kernel(vm);
    return refuse(err, from.fields[0], from.kernel, NO_SUCH_IMAGE);
}

int plan_ramdisk_missing(const struct vm_row *vm, struct api_err *err)
{
    const struct host_kernel from = host_kernel(vm);
    return refuse(err, from.fields[1], from.ramdisk, NO_SUCH_IMAGE);
}

/* ---- platform ---- */

static int take_bool(const struct vm_row *vm, const char *key, bool *out, struct api_err *err)
{
    const char *word = str_map_get(vm->platform, key);
    if (!word || !*word)
        return 0;
    if (streq(word, "true") || streq(word, "1"))
        *out = true;
    else if (streq(word, "false") || streq(word, "0"))
        *out = false;
    else {
        AUTO_FREE char *field = xasprintf("platform:%s", key);
        return refuse(err, field, word, "it is true or false");
    }
    return 0;
}

/* *out stays as it is when there is no such key. */
static int take_number(const struct vm_row *vm, const char *key, int64_t min, int64_t max, int64_t *out,
                       struct api_err *err)
{
    const char *word = str_map_get(vm->platform, key);
    if (!word || !*word)
        return 0;
    char *end;
    errno = 0;
    long long n = strtoll(word, &end, 10);
    if (!errno && !*end && n >= min && n <= max) {
        *out = n;
        return 0;
    }
    AUTO_FREE char *field = xasprintf("platform:%s", key);
    AUTO_FREE char *reason = xasprintf("it is a number from %lld to %lld", (long long)min, (long long)max);
    return refuse(err, field, word, reason);
}

static int plan_screen(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    const char *card = str_map_get(vm->platform, "vga");
    if (!card || !*card || streq(card, "std"))
        config->video = VIDEO_CARD_STD;
    else if (streq(card, "cirrus"))
        config->video = VIDEO_CARD_CIRRUS;
    else
        return refuse(err, "platform:vga", card, "it is std or cirrus");
    int64_t asked = config->video_mib;
    if (take_number(vm, "videoram", 1, 256, &asked, err) < 0)
        return -1;
    int64_t mib = config->video == VIDEO_CARD_CIRRUS ? 4 : 1;
    int64_t most = config->video == VIDEO_CARD_CIRRUS ? 16 : 256;
    while (mib < asked && mib < most)
        mib *= 2; /* cards have a power of two */
    config->video_mib = mib;
    return 0;
}

static int plan_sockets(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    if (take_number(vm, "cores-per-socket", 0, 255, &config->cores_per_socket, err) < 0)
        return -1;
    if (config->cores_per_socket > 0 && vm->VCPUs_max % config->cores_per_socket != 0) {
        char most[24];
        snprintf(most, sizeof(most), "%lld", (long long)vm->VCPUs_max);
        return err_vcpu_max_not_cores_per_socket_multiple(err, most,
                                                          str_map_get(vm->platform, "cores-per-socket"));
    }
    return 0;
}

int plan_hardware(const struct vm_row *vm, struct domain_config *config, struct api_err *err)
{
    const struct {
        const char *key;
        bool *value;
    } switches[] = {
        {"acpi", &config->acpi},         {"pae", &config->pae},           {"nx", &config->nx},
        {"hpet", &config->hpet},         {"viridian", &config->viridian}, {"usb", &config->tablet},
        {"nested-virt", &config->nested}};
    bool apic = true, tablet = true;
    const char *serial = str_map_get(vm->platform, "serial");
    char generation[UUID_TEXT_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(switches); i++)
        if (take_bool(vm, switches[i].key, switches[i].value, err) < 0)
            return -1;
    if (take_bool(vm, "apic", &apic, err) < 0 || take_bool(vm, "usb_tablet", &tablet, err) < 0)
        return -1;
    if (!apic)
        return refuse(err, "platform:apic", "false", "the machine has PCI Express, which needs the APIC");
    if (config->firmware == FIRMWARE_UEFI && (!config->acpi || !config->pae))
        return refuse(err, config->acpi ? "platform:pae" : "platform:acpi", "false", "UEFI needs it");
    config->tablet = config->tablet && tablet;
    config->serial = !serial || !streq(serial, "none");
    config->tpm = vm->VTPMs && vm->VTPMs->count;
    if (plan_generation(vm->generation_id, generation))
        str_assign(&config->generation, generation);
    int64_t limit = (int64_t)100 * 366 * 86400;
    if (take_number(vm, "timeoffset", -limit, limit, &config->rtc_offset_seconds, err) < 0)
        return -1;
    return plan_screen(vm, config, err) < 0 ? -1 : plan_sockets(vm, config, err);
}

int plan_bus(const struct vm_row *vm, enum disk_bus *bus, struct api_err *err)
{
    const char *word = str_map_get(vm->platform, "disk_type");
    *bus = DISK_BUS_VIRTIO;
    if (!word || !*word || streq(word, "virtio"))
        return 0;
    if (!streq(word, "sata"))
        return refuse(err, "platform:disk_type", word, "it is virtio or sata");
    *bus = DISK_BUS_SATA;
    return 0;
}

int plan_nic_model(const struct vm_row *vm, enum nic_model *model, struct api_err *err)
{
    const char *word = str_map_get(vm->platform, "nic_type");
    *model = NIC_MODEL_VIRTIO;
    if (!word || !*word || streq(word, "virtio"))
        return 0;
    if (streq(word, "e1000"))
        *model = NIC_MODEL_E1000;
    else if (streq(word, "rtl8139"))
        *model = NIC_MODEL_RTL8139;
    else
        return refuse(err, "platform:nic_type", word, "it is virtio, e1000 or rtl8139");
    return 0;
}

/* ---- generation id ---- */

/* Numbers may be signed or not; both are the same 64 bits. */
static bool take_half(const char **at, uint64_t *out)
{
    char *end;
    errno = 0;
    bool negative = **at == '-';
    *out = negative ? (uint64_t)strtoll(*at, &end, 10) : strtoull(*at, &end, 10);
    if (errno || end == *at)
        return false;
    *at = end;
    return true;
}

bool plan_generation(const char *id, char out[static UUID_TEXT_SIZE])
{
    uint64_t first, second;
    if (!id || !take_half(&id, &first) || *id++ != ':' || !take_half(&id, &second) || *id ||
        (first == 0 && second == 0))
        return false;
    /* In the guest's memory both are little-endian, one behind the other; the text is that of a GUID. */
    snprintf(out, UUID_TEXT_SIZE, "%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x", (unsigned)first,
             (unsigned)(first >> 32) & 0xffff, (unsigned)(first >> 48), (unsigned)second & 0xff,
             (unsigned)(second >> 8) & 0xff, (unsigned)(second >> 16) & 0xff, (unsigned)(second >> 24) & 0xff,
             (unsigned)(second >> 32) & 0xff, (unsigned)(second >> 40) & 0xff,
             (unsigned)(second >> 48) & 0xff, (unsigned)(second >> 56));
    return true;
}
