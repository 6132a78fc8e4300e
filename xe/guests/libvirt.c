/* A libvirt <domain>. The document becomes a small tree first; every element of it then is taken over, known
 * not to be wanted (with a reason), or told to be unknown. What an element's reader does not ask for is told
 * too (taken.h). */
#include "taken.h"
#include <base/json.h>
#include <base/mem.h>

/* ---- elements ---- */

typedef bool take_fn(json_t *guest, struct node *n, char **problem);

static bool problem_at(struct node *n, char **problem, const char *what)
{
    AUTO_FREE char *path = taken_path(n);
    guest_problem(problem, "%s: %s", path, what);
    return false;
}

static bool take_name(json_t *guest, struct node *n, char **problem)
{
    (void)problem;
    json_object_set_new(guest, "name", json_string(taken_text(n)));
    return true;
}
static bool take_description(json_t *guest, struct node *n, char **problem)
{
    (void)problem;
    json_object_set_new(guest, "description", json_string(taken_text(n)));
    return true;
}

static bool take_memory(json_t *guest, struct node *n, char **problem)
{
    static const struct {
        const char *unit;
        int64_t bytes;
    } units[] = {{"b", 1},           {"bytes", 1},      {"KB", 1000},     {"k", 1 << 10},
                 {"KiB", 1 << 10},   {"MB", 1000000},   {"M", 1 << 20},   {"MiB", 1 << 20},
                 {"GB", 1000000000}, {"G", 1 << 30},    {"GiB", 1 << 30}, {"TB", 1000000000000},
                 {"T", 1LL << 40},   {"TiB", 1LL << 40}};
    const char *unit = taken_attribute(n, "unit");
    char *end;
    long long value = strtoll(taken_text(n), &end, 10);
    if (!unit)
        unit = "KiB";
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (!streq(units[i].unit, unit) || *end || end == n->text || value < 1 ||
            value > INT64_MAX / units[i].bytes)
            continue;
        int64_t mib = (value * units[i].bytes + (1 << 20) - 1) >> 20;
        json_object_set_new(guest, streq(n->name, "memory") ? "memory_max" : "memory",
                            json_integer(mib << 20));
        return true;
    }
    return problem_at(n, problem, "it is no amount of memory");
}

/* A whole number within bounds; -1: it is none. */
static long number(const char *text, long least, long most)
{
    char *end;
    long n = strtol(text, &end, 10);
    return *end || end == text || n < least || n > most ? -1 : n;
}

static bool take_vcpu(json_t *guest, struct node *n, char **problem)
{
    long most = number(taken_text(n), 1, 4096), current = most;
    const char *now = tree_attribute(n, "current"), *set = tree_attribute(n, "cpuset");
    if (most < 0)
        return problem_at(n, problem, "it is no number of processors");
    if (now && number(now, 1, most) > 0)
        current = number(taken_attribute(n, "current"), 1, most);
    json_object_set_new(guest, "vcpus_max", json_integer(most));
    json_object_set_new(guest, "vcpus", json_integer(current));
    if (set && strspn(set, "0123456789,-") == strlen(set))
        json_object_set_new(json_object_get(guest, "vcpus_params"), "mask",
                            json_string(taken_attribute(n, "cpuset")));
    taken_is(n, "placement", "static"); /* as here */
    return true;
}

static bool take_boot(struct node *n, char order[4])
{
    static const struct {
        const char *dev;
        char letter;
    } devices[] = {{"hd", 'c'}, {"cdrom", 'd'}, {"network", 'n'}};
    for (size_t i = 0; i < ARRAY_LEN(devices); i++) {
        if (!taken_is(n, "dev", devices[i].dev))
            continue;
        if (!strchr(order, devices[i].letter))
            order[strlen(order)] = devices[i].letter;
        return true;
    }
    return false;
}

/* The kind of machine that an <os><type> is; NULL: of another hypervisor. */
static const char *kind_of(const char *type)
{
    static const char *const kinds[][2] = {{"hvm", "hvm"}, {"xenpvh", "pvh"}, {"linux", "pv"}, {"xen", "pv"}};
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (streq(kinds[i][0], type))
            return kinds[i][1];
    return NULL;
}

static void take_os_part(json_t *guest, struct node *n, char order[4])
{
    const char *kind = streq(n->name, "type") ? kind_of(n->text) : NULL;
    n->taken = true;
    if (kind) {
        json_object_set_new(guest, "type", json_string(kind));
        taken_text(n);
        taken_is(n, "arch", "x86_64");
    } else if (streq(n->name, "kernel") || streq(n->name, "initrd")) {
        json_object_set_new(guest, streq(n->name, "kernel") ? "kernel" : "ramdisk",
                            json_string(taken_text(n)));
    } else if (streq(n->name, "cmdline") || streq(n->name, "root")) { /* both: together */
        const char *now = json_string_value(json_object_get(guest, "args"));
        AUTO_FREE char *all = xasprintf("%s%s%s%s", now ? now : "", now ? " " : "",
                                        streq(n->name, "root") ? "root=" : "", taken_text(n));
        json_object_set_new(guest, "args", json_string(all));
    } else if (streq(n->name, "loader")) {
        if (taken_is(n, "type", "pflash") || strstr(n->text, "OVMF"))
            json_object_set_new(guest, "firmware", json_string("uefi"));
        tell(guest, n, "the pool's own firmware is used");
    } else if (streq(n->name, "nvram")) {
        tell(guest, n, "the VM begins with fresh variables");
    } else {
        n->taken = streq(n->name, "boot") && take_boot(n, order);
    }
}

static bool take_os(json_t *guest, struct node *n, char **problem)
{
    char order[4] = "";
    (void)problem;
    if (taken_is(n, "firmware", "efi"))
        json_object_set_new(guest, "firmware", json_string("uefi"));
    else if (taken_is(n, "firmware", "bios"))
        json_object_set_new(guest, "firmware", json_string("bios"));
    for (struct node *c = n->first; c; c = c->next)
        take_os_part(guest, c, order);
    if (*order)
        json_object_set_new(guest, "boot", json_string(order));
    return true;
}

static bool take_bootloader(json_t *guest, struct node *n, char **problem)
{
    (void)problem;
    if (strstr(n->text, "pygrub")) {
        taken_text(n);
        json_object_set_new(guest, "bootloader", json_string("pygrub"));
    } else {
        tell(guest, n, "no program of the old host is run; pygrub is the one that exists here");
    }
    return true;
}

static bool take_features(json_t *guest, struct node *n, char **problem)
{
    json_t *platform = json_object_get(guest, "platform");
    (void)problem;
    json_object_set_new(platform, "acpi", json_string(taken_child(n, "acpi") ? "true" : "false"));
    for (struct node *c = n->first; c; c = c->next) {
        bool on = !taken_is(c, "state", "off") && (taken_is(c, "state", "on"), true);
        c->taken = true;
        if (streq(c->name, "pae"))
            json_object_set_new(platform, "pae", json_string("true"));
        else if (streq(c->name, "hyperv"))
            json_object_set_new(platform, "viridian", json_string(on ? "true" : "false"));
        else if (streq(c->name, "smm") && on)
            tell(guest, c, "Secure Boot is set with platform:secureboot");
        else if (!streq(c->name, "acpi") && !streq(c->name, "apic"))
            tell(guest, c, "the machine's features are the pool's affair");
    }
    return true;
}

static bool take_clock(json_t *guest, struct node *n, char **problem)
{
    json_t *platform = json_object_get(guest, "platform");
    const char *seconds = tree_attribute(n, "adjustment");
    (void)problem;
    if (seconds && strspn(seconds, "-0123456789") == strlen(seconds)) {
        json_object_set_new(platform, "timeoffset", json_string(taken_attribute(n, "adjustment")));
        taken_is(n, "offset", "variable");
    } else if (!taken_is(n, "offset", "utc")) {
        tell_attribute(guest, n, "offset", "the clock is UTC; set platform:timeoffset to the zone's seconds");
    }
    for (struct node *c = n->first; c; c = c->next) {
        c->taken = taken_is(c, "name", "hpet");
        if (c->taken && (taken_is(c, "present", "yes") || taken_is(c, "present", "no")))
            json_object_set_new(platform, "hpet",
                                json_string(taken_is(c, "present", "yes") ? "true" : "false"));
        else
            tell(guest, c, "timers are the pool's affair");
    }
    return true;
}

static bool take_action(json_t *guest, struct node *n, char **problem)
{
    static const char *const words[][3] = {{"destroy", "destroy", "destroy"},
                                           {"restart", "restart", "restart"},
                                           {"rename-restart", "restart", "rename_restart"},
                                           {"preserve", NULL, "preserve"},
                                           {"coredump-destroy", NULL, "coredump_and_destroy"},
                                           {"coredump-restart", NULL, "coredump_and_restart"}};
    (void)problem;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const char *to = words[i][streq(n->name, "on_crash") ? 2 : 1];
        if (streq(words[i][0], n->text) && to) {
            taken_text(n);
            json_object_set_new(guest, n->name, json_string(to));
            return true;
        }
    }
    tell(guest, n, "no such action exists here");
    return true;
}

/* ---- devices ---- */

/* The format of a disk's image in the words of a description. */
static const char *format_of(struct node *driver)
{
    const char *format = taken_attribute(driver, "type");
    taken_is(driver, "name", "qemu");
    return !format || streq(format, "aio") ? "raw" : streq(format, "vpc") ? "vhd" : format;
}

static bool take_disk(json_t *guest, struct node *n, char **problem)
{
    struct node *source = taken_child(n, "source"), *target = taken_child(n, "target"),
                *boot = taken_child(n, "boot");
    const char *dev = taken_attribute(target, "dev"), *path = taken_attribute(source, "file");
    bool cdrom = taken_is(n, "device", "cdrom");
    if (!cdrom && tree_attribute(n, "device") && !taken_is(n, "device", "disk")) {
        tell(guest, n, "only disks and CD drives are taken over");
        return true;
    }
    int number = dev ? guest_device_number(dev) : -1;
    if (number < 0)
        return problem_at(target ? target : n, problem, "the target has no name like vda, sdb, hdc or xvdd");
    if (tree_attribute(n, "type") && !taken_is(n, "type", "file") && !taken_is(n, "type", "block") &&
        (source || !cdrom)) {
        tell(guest, n, "only files and block devices are taken over: attach the disk by hand");
        return true;
    }
    if (!path)
        path = taken_attribute(source, "dev");
    if (!path)
        path = "";
    if (*path && *path != '/')
        return problem_at(source, problem, "the source needs its whole path, from /");
    if (boot)
        tell(guest, boot, "disks boot in the order of their devices");
    json_array_append_new(json_object_get(guest, "disks"),
                          json_pack("{s:s, s:i, s:s, s:s, s:b, s:b}", "device", dev, "number", number, "path",
                                    path, "format", format_of(taken_child(n, "driver")), "cdrom", cdrom,
                                    "readonly", taken_child(n, "readonly") || cdrom));
    return true;
}

static void take_nic_model(json_t *guest, struct node *model)
{
    const char *type = tree_attribute(model, "type");
    if (type && (streq(type, "e1000") || streq(type, "rtl8139")))
        json_object_set_new(json_object_get(guest, "platform"), "nic_type",
                            json_string(taken_attribute(model, "type")));
    else if (!taken_is(model, "type", "virtio") && !taken_is(model, "type", "netfront"))
        tell_attribute(guest, model, "type", "the models are virtio, e1000 and rtl8139");
}

static bool take_interface(json_t *guest, struct node *n, char **problem)
{
    struct node *source = taken_child(n, "source"), *mtu = taken_child(n, "mtu");
    const char *mac = taken_attribute(taken_child(n, "mac"), "address"),
               *bridge = taken_attribute(source, "bridge"), *network = taken_attribute(source, "network");
    long bytes = tree_attribute(mtu, "size") ? number(tree_attribute(mtu, "size"), 68, 65535) : 0;
    (void)problem;
    if (!taken_is(n, "type", "bridge") && !taken_is(n, "type", "network") && !taken_is(n, "type", "user"))
        tell_attribute(guest, n, "type", "the card is connected to one of the pool's networks instead");
    if (bytes < 0)
        tell_attribute(guest, mtu, "size", "it is no size of packets");
    else
        taken_attribute(mtu, "size");
    take_nic_model(guest, taken_child(n, "model"));
    json_array_append_new(json_object_get(guest, "nics"),
                          json_pack("{s:i, s:s, s:s, s:s, s:i, s:i}", "number",
                                    (int)json_array_size(json_object_get(guest, "nics")), "mac",
                                    mac ? mac : "", "bridge", bridge ? bridge : "", "network",
                                    network ? network : "", "mtu", bytes < 0 ? 0 : (int)bytes, "kbps", 0));
    return true;
}

static bool take_video(json_t *guest, struct node *n, char **problem)
{
    struct node *model = taken_child(n, "model");
    (void)problem;
    if (taken_is(model, "type", "cirrus"))
        json_object_set_new(json_object_get(guest, "platform"), "vga", json_string("cirrus"));
    else if (taken_is(model, "type", "vga"))
        json_object_set_new(json_object_get(guest, "platform"), "vga", json_string("std"));
    else if (model)
        tell(guest, model, "the cards are std and cirrus");
    return true;
}

static bool take_devices(json_t *guest, struct node *n, char **problem);

/* ---- all elements ---- */

static const struct element {
    const char *name;
    take_fn *take;
    const char *why; /* without `take` */
} top[] =
    {
        {"name", take_name, NULL},
        {"title", NULL, "the description holds what is said about the VM"},
        {"description", take_description, NULL},
        {"memory", take_memory, NULL},
        {"currentMemory", take_memory, NULL},
        {"vcpu", take_vcpu, NULL},
        {"os", take_os, NULL},
        {"bootloader", take_bootloader, NULL},
        {"bootloader_args", NULL, "set PV_bootloader_args to the title or number of the boot entry instead"},
        {"features", take_features, NULL},
        {"clock", take_clock, NULL},
        {"on_poweroff", take_action, NULL},
        {"on_reboot", take_action, NULL},
        {"on_crash", take_action, NULL},
        {"on_lockfailure", NULL, "no such action exists here"},
        {"devices", take_devices, NULL},
        {"uuid", NULL, "the VM gets an identity of its own"},
        {"genid", NULL, "every VM has a generation id of its own"},
        {"metadata", NULL, "it is other programs' own"},
        {"cpu", NULL, "processors show what the pool's hosts have in common"},
        {"vcpus", NULL, "processors are plugged in by number alone"},
        {"cputune", NULL, "set VCPUs_params (mask, weight, cap)"},
        {"numatune", NULL, "memory is placed by the host"},
        {"memtune", NULL, "set the VM's memory limits instead"},
        {"memoryBacking", NULL, "memory is the host's affair"},
        {"maxMemory", NULL, "memory_static_max is the most that a VM can have"},
        {"blkiotune", NULL, "limit the VBDs instead (qos_algorithm_type=throttle)"},
        {"iothreads", NULL, "the device model here is set up by the pool"},
        {"iothreadids", NULL, "the device model here is set up by the pool"},
        {"resource", NULL, "it names something of the old host"},
        {"sysinfo", NULL, "set the VM's BIOS strings (VM.set_bios_strings)"},
        {"seclabel", NULL, "confinement is the pool's own"},
        {"launchSecurity", NULL, "encrypted guests are not built"},
        {"pm", NULL, "sleep states are the machine's own"},
        {"perf", NULL, "measurements are the pool's own"},
        {"idmap", NULL, "it is for containers"},
        {"throttlegroups", NULL, "limit the VBDs instead (qos_algorithm_type=throttle)"},
        {"defaultiothread", NULL, "the device model here is set up by the pool"},
        {"qemu:commandline", NULL, "the device model here is set up by the pool"},
        {"qemu:capabilities", NULL, "the device model here is set up by the pool"},
        {"qemu:deprecation", NULL, "the device model here is set up by the pool"},
        {"qemu:override", NULL, "the device model here is set up by the pool"},
        {"xen:commandline", NULL, "it is for another hypervisor"},
        {"bhyve:commandline", NULL, "it is for another hypervisor"},
        {"vmware:datacenterpath", NULL, "it is for another hypervisor"},
        {"lxc:namespace", NULL, "it is for containers"},
        {"keywrap", NULL, "it is for another kind of processor"},
},
  devices[] = {
      {"disk", take_disk, NULL},
      {"interface", take_interface, NULL},
      {"video", take_video, NULL},
      {"emulator", NULL, "the device model here is set up by the pool"},
      {"controller", NULL, "controllers are made as the devices need them"},
      {"serial", NULL, "every VM has a serial port: its console"},
      {"parallel", NULL, "no such device exists here"},
      {"console", NULL, "every VM has a serial port: its console"},
      {"channel", NULL, "the guest tools have a channel of their own"},
      {"graphics", NULL, "screens are reached through the pool, with its logins"},
      {"input", NULL, "a tablet is there unless platform:usb_tablet is false"},
      {"sound", NULL, "no such device exists here"},
      {"audio", NULL, "no such device exists here"},
      {"memballoon", NULL, "every VM has one"},
      {"rng", NULL, "no such device exists here"},
      {"tpm", NULL, "give the VM a TPM of its own: xe vtpm-create"},
      {"watchdog", NULL, "no such device exists here"},
      {"panic", NULL, "a crash of the guest is seen without it"},
      {"vsock", NULL, "no such device exists here"},
      {"shmem", NULL, "no such device exists here"},
      {"memory", NULL, "memory is plugged in by amount alone"},
      {"iommu", NULL, "no such device exists here"},
      {"filesystem", NULL, "no such device exists here"},
      {"lease", NULL, "disks are locked by the pool"},
      {"smartcard", NULL, "no such device exists here"},
      {"hub", NULL, "no such device exists here"},
      {"nvram", NULL, "it is for another kind of processor"},
      {"crypto", NULL, "no such device exists here"},
      {"pstore", NULL, "no such device exists here"},
      {"hostdev", NULL, "devices of the old host: attach the new host's to the VM"},
      {"redirdev", NULL, "devices of the old host: attach the new host's to the VM"},
      {"redirfilter", NULL, "devices of the old host: attach the new host's to the VM"},
};

static bool said_before(const struct node *n)
{
    for (const struct node *c = n->parent->first; c != n; c = c->next)
        if (streq(c->name, n->name))
            return true;
    return false;
}

/* `once`: of elements that are taken over, the first of a name counts. */
static bool take_all(json_t *guest, struct node *n, const struct element *table, size_t count, bool once,
                     char **problem)
{
    for (struct node *c = n->first; c; c = c->next) {
        const struct element *found = NULL;
        for (size_t i = 0; i < count && !found; i++)
            if (streq(table[i].name, c->name))
                found = &table[i];
        c->taken = true;
        if (!found)
            tell(guest, c, "it is no documented element");
        else if (!found->take)
            tell(guest, c, found->why);
        else if (once && said_before(c))
            tell(guest, c, "it is said before");
        else if (!found->take(guest, c, problem))
            return false;
    }
    return true;
}

static bool take_devices(json_t *guest, struct node *n, char **problem)
{
    return take_all(guest, n, devices, ARRAY_LEN(devices), false, problem);
}

json_t *guest_from_libvirt(const char *text, size_t len, char **problem)
{
    *problem = NULL;
    struct node *root = tree_parse(text, len, problem);
    AUTO_JSON json_t *guest =
        json_pack("{s:{}, s:{}, s:[], s:[], s:[]}", "platform", "vcpus_params", "disks", "nics", "notes");
    if (!root)
        return NULL;
    bool good = streq(root->name, "domain");
    if (!good)
        guest_problem(problem, "it is a <%s>, not a <domain>", root->name);
    good = good && take_all(guest, root, top, ARRAY_LEN(top), true, problem);
    if (good) {
        root->taken = true;
        if (!taken_is(root, "type", "kvm"))
            taken_is(root, "type", "qemu");
        tell_rest(guest, root, "it has no place here");
    }
    tree_free(root);
    if (!good)
        return NULL;
    const char *name = json_string_value(json_object_get(guest, "name"));
    if (!name || !*name)
        return guest_problem(problem, "name is missing");
    if (!json_object_get(guest, "memory") && json_object_get(guest, "memory_max"))
        json_object_set(guest, "memory", json_object_get(guest, "memory_max"));
    if (!json_object_get(guest, "type"))
        json_object_set_new(guest, "type", json_string("hvm"));
    return TAKE_PTR(guest);
}
