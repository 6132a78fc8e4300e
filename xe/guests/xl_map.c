/* What the keys of xl and xm configuration files become. Each documented key has a row: it is taken over, or
 * the row says why not; a key without a row is told to be unknown. */
#include "xl_map.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <strings.h>

bool xl_fail(struct mapping *m, const char *key, const char *what)
{
    if (!*m->problem)
        guest_problem(m->problem, "%s: %s", key, what);
    return false;
}

/* A value as one text (the caller's). */
char *xl_text(const json_t *v)
{
    if (json_is_string(v))
        return xstrdup(json_string_value(v));
    if (json_is_object(v))
        return xstrdup(json_string_value(json_object_get(v, "expression")));
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    return text ? text : xstrdup("");
}

bool xl_int(const json_t *v, int64_t *out)
{
    char *end;
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    if (!json_is_string(v) || !*json_string_value(v))
        return false;
    errno = 0;
    *out = strtoll(json_string_value(v), &end, 0);
    return !*end && !errno;
}

/* ---- kinds of values ---- */

static bool set_text(struct mapping *m, const char *name, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    if (json_is_null(v))
        return true;
    if (!json_is_string(v) && !json_is_integer(v))
        return xl_fail(m, key, "a text belongs there");
    json_object_set_new(m->guest, name, json_string(text));
    return true;
}

static bool map_name(struct mapping *m, const char *key, const json_t *v)
{
    return set_text(m, "name", key, v);
}
static bool map_kernel(struct mapping *m, const char *key, const json_t *v)
{
    /* xm's HVM guests named Xen's own loader here. */
    if (json_is_string(v) && strstr(json_string_value(v), "hvmloader")) {
        json_object_set_new(m->guest, "type", json_string("hvm"));
        return true;
    }
    return set_text(m, "kernel", key, v);
}
static bool map_ramdisk(struct mapping *m, const char *key, const json_t *v)
{
    return set_text(m, "ramdisk", key, v);
}
static bool map_description(struct mapping *m, const char *key, const json_t *v)
{
    return set_text(m, "description", key, v);
}

/* root=, extra= and cmdline= together are the kernel's arguments. */
static bool map_args(struct mapping *m, const char *key, const json_t *v)
{
    const char *now = json_string_value(json_object_get(m->guest, "args"));
    AUTO_FREE char *text = xl_text(v), *all = NULL;
    if (json_is_null(v))
        return true;
    all = xasprintf("%s%s%s%s", now ? now : "", now ? " " : "", streq(key, "root") ? "root=" : "", text);
    json_object_set_new(m->guest, "args", json_string(all));
    return true;
}

static bool map_bytes(struct mapping *m, const char *key, const json_t *v)
{
    int64_t mib;
    if (!xl_int(v, &mib) || mib < 1 || mib > (1 << 30))
        return xl_fail(m, key, "a number of MiB belongs there");
    json_object_set_new(m->guest, streq(key, "memory") ? "memory" : "memory_max", json_integer(mib << 20));
    return true;
}

static bool map_count(struct mapping *m, const char *key, const json_t *v)
{
    int64_t n;
    if (!xl_int(v, &n) || n < 1 || n > 4096)
        return xl_fail(m, key, "a number of processors belongs there");
    json_object_set_new(m->guest, streq(key, "vcpus") ? "vcpus" : "vcpus_max", json_integer(n));
    return true;
}

static bool map_type(struct mapping *m, const char *key, const json_t *v)
{
    const char *type = json_string_value(v);
    if (type && (streq(type, "linux") || streq(type, "generic")))
        type = "pv";
    if (!type || (!streq(type, "hvm") && !streq(type, "pv") && !streq(type, "pvh")))
        return xl_fail(m, key, "it is hvm, pv or pvh");
    json_object_set_new(m->guest, "type", json_string(type));
    return true;
}

static bool map_firmware(struct mapping *m, const char *key, const json_t *v)
{
    const char *word = json_string_value(v);
    if (word && (streq(word, "ovmf") || streq(word, "uefi")))
        json_object_set_new(m->guest, "firmware", json_string("uefi"));
    else if (word && (streq(word, "seabios") || streq(word, "rombios") || streq(word, "bios")))
        json_object_set_new(m->guest, "firmware", json_string("bios"));
    else
        guest_note(m->guest, key, word, "a firmware of the old host: choose bios or uefi");
    return true;
}

static bool map_boot(struct mapping *m, const char *key, const json_t *v)
{
    const char *order = json_string_value(v);
    char kept[4] = "";
    for (const char *c = order ? order : ""; *c; c++)
        if (strchr("cdn", *c) && !strchr(kept, *c) && strlen(kept) < 3)
            kept[strlen(kept)] = *c;
    if (*kept)
        json_object_set_new(m->guest, "boot", json_string(kept));
    if (!order || strspn(order, "cdn") != strlen(order))
        guest_note(m->guest, key, order, "only c (disk), d (CD) and n (network) are taken over");
    return true;
}

static bool map_bootloader(struct mapping *m, const char *key, const json_t *v)
{
    const char *path = json_string_value(v);
    if (path && strstr(path, "pygrub"))
        json_object_set_new(m->guest, "bootloader", json_string("pygrub"));
    else
        guest_note(m->guest, key, path,
                   "no program of the old host is run; pygrub is the one that exists here");
    return true;
}

static bool map_bootloader_args(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    guest_note(m->guest, key, text,
               "set PV_bootloader_args to the title or number of the boot entry instead");
    return true;
}

/* "destroy" for on_poweroff means that the VM is halted, which is what it means in VM.actions_after_shutdown.
 */
static bool map_action(struct mapping *m, const char *key, const json_t *v)
{
    static const struct {
        const char *word, *plain, *crash;
    } words[] = {
        {"destroy", "destroy", "destroy"},
        {"restart", "restart", "restart"},
        {"rename-restart", "restart", "rename_restart"},
        {"preserve", NULL, "preserve"},
        {"coredump-destroy", NULL, "coredump_and_destroy"},
        {"coredump-restart", NULL, "coredump_and_restart"},
        {"soft-reset", NULL, NULL},
    };
    AUTO_FREE char *word = xl_text(v);
    bool crash = streq(key, "on_crash");
    for (char *c = word; *c; c++)
        *c = *c == '_' ? '-' : *c;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const char *to = crash ? words[i].crash : words[i].plain;
        if (streq(words[i].word, word) && to) {
            json_object_set_new(m->guest, streq(key, "on_shutdown") ? "on_poweroff" : key, json_string(to));
            return true;
        }
    }
    guest_note(m->guest, key, word, "no such action exists here");
    return true;
}

static bool map_cpus(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    if (json_is_string(v) && *text && strspn(text, "0123456789,-") == strlen(text) && !strchr(text, '-'))
        json_object_set_new(json_object_get(m->guest, "vcpus_params"), "mask", json_string(text));
    else
        guest_note(m->guest, key, text, "only plain lists like 0,2 are taken over (VCPUs_params:mask)");
    return true;
}

static bool map_weight(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    int64_t n;
    if (!xl_int(v, &n) || n < 0)
        return xl_fail(m, key, "a number belongs there");
    json_object_set_new(json_object_get(m->guest, "vcpus_params"),
                        streq(key, "cpu_weight") ? "weight" : "cap", json_string(text));
    return true;
}

/* Switches of the machine: VM.platform has keys for them. */
static bool map_platform(struct mapping *m, const char *key, const json_t *v)
{
    static const struct {
        const char *key, *to;
    } names[] = {{"nestedhvm", "nested-virt"}, {"rtc_timeoffset", "timeoffset"}};
    json_t *platform = json_object_get(m->guest, "platform");
    AUTO_FREE char *text = xl_text(v);
    const char *to = key;
    int64_t n;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (streq(names[i].key, key))
            to = names[i].to;
    if (streq(key, "videoram") || streq(key, "rtc_timeoffset"))
        json_object_set_new(platform, to, json_string(text));
    else if (xl_int(v, &n))
        json_object_set_new(platform, to, json_string(n ? "true" : "false"));
    else
        guest_note(m->guest, key, text, "only on and off are taken over");
    return true;
}

static bool map_viridian(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    int64_t n;
    bool number = xl_int(v, &n), on = number ? n != 0 : json_array_size(v) > 0;
    if (number || json_is_array(v))
        json_object_set_new(json_object_get(m->guest, "platform"), "viridian",
                            json_string(on ? "true" : "false"));
    if (!number)
        guest_note(m->guest, key, text, "the enlightenments are on or off as a whole");
    return true;
}

static bool map_vga(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    int64_t n;
    const char *card = streq(key, "stdvga")    ? (!xl_int(v, &n) ? NULL
                                                  : n            ? "std"
                                                                 : "cirrus")
                       : streq(text, "stdvga") ? "std"
                       : streq(text, "cirrus") ? "cirrus"
                                               : NULL;
    if (card)
        json_object_set_new(json_object_get(m->guest, "platform"), "vga", json_string(card));
    else
        guest_note(m->guest, key, text, "the cards are std and cirrus");
    return true;
}

static bool map_serial(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    if (streq(text, "none"))
        json_object_set_new(json_object_get(m->guest, "platform"), "serial", json_string("none"));
    else if (!streq(text, "pty"))
        guest_note(m->guest, key, text, "the serial port is the VM's console");
    return true;
}

static bool map_nomigrate(struct mapping *m, const char *key, const json_t *v)
{
    AUTO_FREE char *text = xl_text(v);
    int64_t n;
    if (!xl_int(v, &n))
        guest_note(m->guest, key, text, "only on and off are taken over");
    else if (n)
        json_object_set_new(json_object_get(m->guest, "platform"), "nomigrate", json_string("true"));
    return true;
}

/* ---- all keys ---- */

static const char OLD_HOST[] = "it names something of the old host";
static const char XEN_ONLY[] = "it sets up Xen, which does not run this guest";
static const char DEVICE_MODEL[] = "the device model here is set up by the pool";
static const char SCREEN[] = "screens are reached through the pool, with its logins";
static const char PASSED[] = "devices of the old host: attach the new host's to the VM";
static const char EXTRA[] = "no such device exists here";
static const char NETWORK_BOOT[] =
    "addresses are the guest's own affair: set them in the guest or with cloud-init";
static const char OBSOLETE[] = "it had no effect any more";

#define NOT_TAKEN(reason) NULL, reason
static const struct key {
    const char *name;
    map_fn *map;
    const char *why; /* without `map` */
} keys[] = {
    {"name", map_name, NULL},
    {"description", map_description, NULL},
    {"memory", map_bytes, NULL},
    {"maxmem", map_bytes, NULL},
    {"vcpus", map_count, NULL},
    {"maxvcpus", map_count, NULL},
    {"type", map_type, NULL},
    {"builder", map_type, NULL},
    {"kernel", map_kernel, NULL},
    {"ramdisk", map_ramdisk, NULL},
    {"root", map_args, NULL},
    {"extra", map_args, NULL},
    {"cmdline", map_args, NULL},
    {"firmware", map_firmware, NULL},
    {"bios", map_firmware, NULL},
    {"boot", map_boot, NULL},
    {"bootloader", map_bootloader, NULL},
    {"bootloader_args", map_bootloader_args, NULL},
    {"bootargs", map_bootloader_args, NULL},
    {"bootentry", map_bootloader_args, NULL},
    {"on_poweroff", map_action, NULL},
    {"on_shutdown", map_action, NULL},
    {"on_reboot", map_action, NULL},
    {"on_crash", map_action, NULL},
    {"cpus", map_cpus, NULL},
    {"cpu", map_cpus, NULL},
    {"cpu_weight", map_weight, NULL},
    {"cap", map_weight, NULL},
    {"cpu_cap", map_weight, NULL},
    {"acpi", map_platform, NULL},
    {"apic", map_platform, NULL},
    {"pae", map_platform, NULL},
    {"nx", map_platform, NULL},
    {"hpet", map_platform, NULL},
    {"usb", map_platform, NULL},
    {"nestedhvm", map_platform, NULL},
    {"videoram", map_platform, NULL},
    {"rtc_timeoffset", map_platform, NULL},
    {"viridian", map_viridian, NULL},
    {"vga", map_vga, NULL},
    {"stdvga", map_vga, NULL},
    {"serial", map_serial, NULL},
    {"nomigrate", map_nomigrate, NULL},
    {"disk", xl_disks, NULL},
    {"vif", xl_vifs, NULL},
    {"nics", xl_nics, NULL},
    {"uuid", NOT_TAKEN("the VM gets an identity of its own")},
    {"pool", NOT_TAKEN("a pool of processors of the old host")},
    {"cpus_soft", NOT_TAKEN(OLD_HOST)},
    {"vnuma", NOT_TAKEN(XEN_ONLY)},
    {"seclabel", NOT_TAKEN(XEN_ONLY)},
    {"init_seclabel", NOT_TAKEN(XEN_ONLY)},
    {"device_model_stubdomain_seclabel", NOT_TAKEN(XEN_ONLY)},
    {"max_grant_version", NOT_TAKEN(XEN_ONLY)},
    {"max_grant_frames", NOT_TAKEN(XEN_ONLY)},
    {"max_maptrack_frames", NOT_TAKEN(XEN_ONLY)},
    {"max_event_channels", NOT_TAKEN(XEN_ONLY)},
    {"event_channels", NOT_TAKEN(XEN_ONLY)},
    {"driver_domain", NOT_TAKEN(XEN_ONLY)},
    {"device_tree", NOT_TAKEN(XEN_ONLY)},
    {"passthrough", NOT_TAKEN(XEN_ONLY)},
    {"xend_suspend_evtchn_compat", NOT_TAKEN(XEN_ONLY)},
    {"vmtrace_buf_kb", NOT_TAKEN(XEN_ONLY)},
    {"vpmu", NOT_TAKEN(XEN_ONLY)},
    {"e820_host", NOT_TAKEN(XEN_ONLY)},
    {"pvh", NOT_TAKEN("say type = \"pvh\"")},
    {"pvshim", NOT_TAKEN(XEN_ONLY)},
    {"pvshim_path", NOT_TAKEN(XEN_ONLY)},
    {"pvshim_cmdline", NOT_TAKEN(XEN_ONLY)},
    {"pvshim_extra", NOT_TAKEN(XEN_ONLY)},
    {"hap", NOT_TAKEN(XEN_ONLY)},
    {"oos", NOT_TAKEN(XEN_ONLY)},
    {"shadow_memory", NOT_TAKEN(XEN_ONLY)},
    {"altp2m", NOT_TAKEN(XEN_ONLY)},
    {"altp2mhvm", NOT_TAKEN(XEN_ONLY)},
    {"tsc_mode", NOT_TAKEN(XEN_ONLY)},
    {"timer_mode", NOT_TAKEN(XEN_ONLY)},
    {"vpt_align", NOT_TAKEN(XEN_ONLY)},
    {"vhpt", NOT_TAKEN(XEN_ONLY)},
    {"cpuid", NOT_TAKEN("processors show what the pool's hosts have in common")},
    {"cpuid_check", NOT_TAKEN("processors show what the pool's hosts have in common")},
    {"mca_caps", NOT_TAKEN(XEN_ONLY)},
    {"msr_relaxed", NOT_TAKEN(XEN_ONLY)},
    {"suppress_spurious_page_faults", NOT_TAKEN(XEN_ONLY)},
    {"assisted_xapic", NOT_TAKEN(XEN_ONLY)},
    {"assisted_x2apic", NOT_TAKEN(XEN_ONLY)},
    {"xen_platform_pci", NOT_TAKEN(XEN_ONLY)},
    {"vendor_device", NOT_TAKEN(XEN_ONLY)},
    {"mmio_hole", NOT_TAKEN(XEN_ONLY)},
    {"rdm_mem_boundary", NOT_TAKEN(PASSED)},
    {"acpi_s3", NOT_TAKEN(XEN_ONLY)},
    {"acpi_s4", NOT_TAKEN(XEN_ONLY)},
    {"acpi_laptop_slate", NOT_TAKEN(XEN_ONLY)},
    {"acpi_firmware", NOT_TAKEN(OLD_HOST)},
    {"smbios_firmware", NOT_TAKEN(OLD_HOST)},
    {"smbios", NOT_TAKEN("set the VM's BIOS strings (VM.set_bios_strings)")},
    {"bios_path_override", NOT_TAKEN(OLD_HOST)},
    {"ms_vm_genid", NOT_TAKEN("every VM has a generation id of its own")},
    {"localtime", NOT_TAKEN("the clock is UTC; set platform:timeoffset to the zone's seconds")},
    {"argo", NOT_TAKEN(XEN_ONLY)},
    {"xsm_policy", NOT_TAKEN(XEN_ONLY)},
    {"gic_version", NOT_TAKEN("it is for another kind of processor")},
    {"vuart", NOT_TAKEN("it is for another kind of processor")},
    {"sve", NOT_TAKEN("it is for another kind of processor")},
    {"tee", NOT_TAKEN("it is for another kind of processor")},
    {"nr_spis", NOT_TAKEN("it is for another kind of processor")},
    {"llc_colors", NOT_TAKEN(XEN_ONLY)},
    {"on_watchdog", NOT_TAKEN("no such action exists here")},
    {"on_soft_reset", NOT_TAKEN("no such action exists here")},
    {"vtpm", NOT_TAKEN("give the VM a TPM of its own: xe vtpm-create")},
    {"p9", NOT_TAKEN(EXTRA)},
    {"pvcalls", NOT_TAKEN(EXTRA)},
    {"vfb", NOT_TAKEN(SCREEN)},
    {"vkb", NOT_TAKEN(EXTRA)},
    {"vkb_device", NOT_TAKEN(EXTRA)},
    {"vdispl", NOT_TAKEN(EXTRA)},
    {"vsnd", NOT_TAKEN(EXTRA)},
    {"virtio", NOT_TAKEN(EXTRA)},
    {"channel", NOT_TAKEN(EXTRA)},
    {"vscsi", NOT_TAKEN(EXTRA)},
    {"blkif", NOT_TAKEN(XEN_ONLY)},
    {"netif", NOT_TAKEN(XEN_ONLY)},
    {"tpmif", NOT_TAKEN(XEN_ONLY)},
    {"hdtype", NOT_TAKEN("set platform:disk_type to sata or virtio")},
    {"rdm", NOT_TAKEN(PASSED)},
    {"pci", NOT_TAKEN(PASSED)},
    {"pci_permissive", NOT_TAKEN(PASSED)},
    {"pci_msitranslate", NOT_TAKEN(PASSED)},
    {"pci_seize", NOT_TAKEN(PASSED)},
    {"pci_power_mgmt", NOT_TAKEN(PASSED)},
    {"gfx_passthru", NOT_TAKEN(PASSED)},
    {"gfx_passthru_kind", NOT_TAKEN(PASSED)},
    {"dtdev", NOT_TAKEN(PASSED)},
    {"ioports", NOT_TAKEN(PASSED)},
    {"iomem", NOT_TAKEN(PASSED)},
    {"irqs", NOT_TAKEN(PASSED)},
    {"irq", NOT_TAKEN(PASSED)},
    {"usbctrl", NOT_TAKEN(PASSED)},
    {"usbdev", NOT_TAKEN(PASSED)},
    {"usbdevice", NOT_TAKEN("a tablet is there unless platform:usb_tablet is false")},
    {"usbversion", NOT_TAKEN(DEVICE_MODEL)},
    {"usbport", NOT_TAKEN(PASSED)},
    {"hostdev", NOT_TAKEN(PASSED)},
    {"vnc", NOT_TAKEN(SCREEN)},
    {"vnclisten", NOT_TAKEN(SCREEN)},
    {"vncdisplay", NOT_TAKEN(SCREEN)},
    {"vncunused", NOT_TAKEN(SCREEN)},
    {"vncpasswd", NOT_TAKEN(SCREEN)},
    {"vncviewer", NOT_TAKEN(SCREEN)},
    {"vncconsole", NOT_TAKEN(SCREEN)},
    {"sdl", NOT_TAKEN(SCREEN)},
    {"opengl", NOT_TAKEN(SCREEN)},
    {"nographic", NOT_TAKEN(SCREEN)},
    {"display", NOT_TAKEN(SCREEN)},
    {"xauthority", NOT_TAKEN(SCREEN)},
    {"keymap", NOT_TAKEN(SCREEN)},
    {"monitor", NOT_TAKEN(SCREEN)},
    {"spice", NOT_TAKEN(SCREEN)},
    {"spicehost", NOT_TAKEN(SCREEN)},
    {"spiceport", NOT_TAKEN(SCREEN)},
    {"spicetls_port", NOT_TAKEN(SCREEN)},
    {"spicedisable_ticketing", NOT_TAKEN(SCREEN)},
    {"spicepasswd", NOT_TAKEN(SCREEN)},
    {"spiceagent_mouse", NOT_TAKEN(SCREEN)},
    {"spicevdagent", NOT_TAKEN(SCREEN)},
    {"spice_clipboard_sharing", NOT_TAKEN(SCREEN)},
    {"spiceusbredirection", NOT_TAKEN(SCREEN)},
    {"spice_image_compression", NOT_TAKEN(SCREEN)},
    {"spice_streaming_video", NOT_TAKEN(SCREEN)},
    {"soundhw", NOT_TAKEN(EXTRA)},
    {"audio", NOT_TAKEN(EXTRA)},
    {"device_model", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_version", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_override", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_stubdomain_override", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_args", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_args_pv", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_args_hvm", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_machine", NOT_TAKEN(DEVICE_MODEL)},
    {"device_model_user", NOT_TAKEN(DEVICE_MODEL)},
    {"dm_restrict", NOT_TAKEN(DEVICE_MODEL)},
    {"stubdomain_kernel", NOT_TAKEN(DEVICE_MODEL)},
    {"stubdomain_ramdisk", NOT_TAKEN(DEVICE_MODEL)},
    {"stubdomain_cmdline", NOT_TAKEN(DEVICE_MODEL)},
    {"stubdomain_memory", NOT_TAKEN(DEVICE_MODEL)},
    {"loader", NOT_TAKEN(DEVICE_MODEL)},
    {"features", NOT_TAKEN(XEN_ONLY)},
    {"vcpu_avail", NOT_TAKEN("say how many processors run at the start with vcpus")},
    {"hostname", NOT_TAKEN(NETWORK_BOOT)},
    {"ip", NOT_TAKEN(NETWORK_BOOT)},
    {"netmask", NOT_TAKEN(NETWORK_BOOT)},
    {"gateway", NOT_TAKEN(NETWORK_BOOT)},
    {"dhcp", NOT_TAKEN(NETWORK_BOOT)},
    {"interface", NOT_TAKEN(NETWORK_BOOT)},
    {"nfs_server", NOT_TAKEN(NETWORK_BOOT)},
    {"nfs_root", NOT_TAKEN(NETWORK_BOOT)},
    {"on_xend_start", NOT_TAKEN("set other-config:auto_poweron instead")},
    {"on_xend_stop", NOT_TAKEN("see xe host-guests-down")},
    {"autostart", NOT_TAKEN("set other-config:auto_poweron instead")},
    {"access_control", NOT_TAKEN(XEN_ONLY)},
    {"machine_address_size", NOT_TAKEN(XEN_ONLY)},
    {"superpages", NOT_TAKEN(XEN_ONLY)},
    {"memory_sharing", NOT_TAKEN(XEN_ONLY)},
    {"fda", NOT_TAKEN(EXTRA)},
    {"fdb", NOT_TAKEN(EXTRA)},
    {"snapshot", NOT_TAKEN("take a snapshot of the VM instead")},
    {"isa", NOT_TAKEN(OBSOLETE)},
    {"ne2000", NOT_TAKEN(OBSOLETE)},
    {"guest_os_type", NOT_TAKEN(OBSOLETE)},
    {"paused", NOT_TAKEN("say paused=true when the VM is started")},
    {"vif_other_config", NOT_TAKEN(XEN_ONLY)},
    {"suspend_evtchn", NOT_TAKEN(XEN_ONLY)},
    {"suspend_evtchn_compat", NOT_TAKEN(XEN_ONLY)},
    {"xen_extended_power_mgmt", NOT_TAKEN(XEN_ONLY)},
    {"s3_integrity", NOT_TAKEN(XEN_ONLY)},
    {"vif2", NOT_TAKEN(OBSOLETE)},
    {"restart", NOT_TAKEN("say on_poweroff, on_reboot and on_crash")},
    {"firmware_override", NOT_TAKEN(OLD_HOST)},
};

/* Puts "..." in place of each password in a value like ["vnc=1,vncpasswd=x"]. The caller's. */
static char *without_passwords(const char *text)
{
    AUTO_BUF struct buf b = BUF_INIT;
    const char *at;
    while ((at = strstr(text, "passwd="))) {
        at += strlen("passwd=");
        buf_add(&b, text, (size_t)(at - text));
        buf_add_str(&b, "...");
        for (text = at; *text && *text != ',' && *text != '"'; text++)
            text += *text == '\\' && text[1]; /* an escape */
    }
    buf_add_str(&b, text);
    return xstrdup(b.data ? b.data : "");
}

static bool apply(struct mapping *m, const char *key, const json_t *v, int line)
{
    AUTO_FREE char *text = xl_text(v);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (!streq(keys[i].name, key))
            continue;
        if (keys[i].map && json_is_object(v)) {
            guest_problem(m->problem, "line %d: %s is computed (%s); write its value out", line, key, text);
            return false;
        }
        if (keys[i].map)
            return keys[i].map(m, key, v);
        AUTO_FREE char *shown = without_passwords(text);
        guest_note(m->guest, key, strstr(key, "passwd") ? "..." : shown, keys[i].why);
        return true;
    }
    guest_note(m->guest, key, text,
               json_is_object(v) ? "a variable of a Python file" : "it is no documented key of xl or xm");
    return true;
}

json_t *guest_from_xl(const char *text, size_t len, char **problem)
{
    AUTO_JSON json_t *guest =
        json_pack("{s:{}, s:{}, s:[], s:[], s:[]}", "platform", "vcpus_params", "disks", "nics", "notes");
    struct mapping m = {guest, problem};
    AUTO_JSON json_t *all = xl_parse(text, len, json_object_get(guest, "notes"), problem);
    size_t i;
    json_t *entry;
    if (!all)
        return NULL;
    json_array_foreach(
        all, i, entry) if (!apply(&m, json_string_value(json_array_get(entry, 0)), json_array_get(entry, 1),
                                  (int)json_integer_value(json_array_get(entry, 2)))) return NULL;
    if (!json_object_get(guest, "name"))
        return guest_problem(problem, "name is missing");
    /* As xl has it. */
    if (!json_object_get(guest, "type"))
        json_object_set_new(guest, "type", json_string("pv"));
    return TAKE_PTR(guest);
}
