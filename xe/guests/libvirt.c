/* A libvirt <domain>. The document becomes a small tree first; every element of it then is taken over, known
 * not to be wanted (with a reason), or told to be unknown. Attributes that an element's reader does not ask
 * for are told too. */
#include "guests.h"
#include "tree.h"
#include <base/buf.h>
#include <base/json.h>
#include <base/mem.h>
#include <ctype.h>
#include <stdio.h>

enum { SHOWN = 200 };

static bool is(const struct node *n, const char *name, const char *value)
{
    const char *v = tree_attribute(n, name);
    return v && streq(v, value);
}

/* ---- notes ---- */

/* "devices/sound", as a person looks for it. */
static char *path_of(const struct node *n)
{
    if (!n->parent || !n->parent->parent)
        return xstrdup(n->name);
    AUTO_FREE char *above = path_of(n->parent);
    return xasprintf("%s/%s", above, n->name);
}

static void note(json_t *guest, const struct node *n, const char *why)
{
    AUTO_FREE char *path = path_of(n);
    AUTO_BUF struct buf b = BUF_INIT;
    for (char **a = n->attributes; a && *a; a += 2)
        buf_printf(&b, "%s%s=%s", b.len ? " " : "", a[0], streq(a[0], "passwd") ? "..." : a[1]);
    if (n->text && *n->text)
        buf_printf(&b, "%s%.*s", b.len ? " " : "", SHOWN, n->text);
    json_t *value = json_string(b.len ? b.data : "");
    guest_note(guest, path, value ? json_string_value(value) : "", why);
    json_decref(value);
}

/* ---- elements ---- */

typedef bool take_fn(json_t *guest, const struct node *n, char **problem);

static bool problem_at(const struct node *n, char **problem, const char *what)
{
    AUTO_FREE char *path = path_of(n);
    guest_problem(problem, "%s: %s", path, what);
    return false;
}

static bool take_name(json_t *guest, const struct node *n, char **problem)
{
    (void)problem;
    json_object_set_new(guest, "name", json_string(n->text));
    return true;
}
static bool take_description(json_t *guest, const struct node *n, char **problem)
{
    (void)problem;
    json_object_set_new(guest, "description", json_string(n->text));
    return true;
}

static bool take_memory(json_t *guest, const struct node *n, char **problem)
{
    static const struct {
        const char *unit;
        int64_t bytes;
    } units[] = {{"b", 1},           {"bytes", 1},      {"KB", 1000},     {"k", 1 << 10},
                 {"KiB", 1 << 10},   {"MB", 1000000},   {"M", 1 << 20},   {"MiB", 1 << 20},
                 {"GB", 1000000000}, {"G", 1 << 30},    {"GiB", 1 << 30}, {"TB", 1000000000000},
                 {"T", 1LL << 40},   {"TiB", 1LL << 40}};
    const char *unit = tree_attribute(n, "unit") ? tree_attribute(n, "unit") : "KiB";
    char *end;
    long long value = strtoll(n->text, &end, 10);
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

static bool take_vcpu(json_t *guest, const struct node *n, char **problem)
{
    long most = strtol(n->text, NULL, 10);
    const char *now = tree_attribute(n, "current");
    if (most < 1 || most > 4096)
        return problem_at(n, problem, "it is no number of processors");
    json_object_set_new(guest, "vcpus_max", json_integer(most));
    long current = now ? strtol(now, NULL, 10) : most;
    json_object_set_new(guest, "vcpus", json_integer(current >= 1 && current <= most ? current : most));
    if (tree_attribute(n, "cpuset"))
        json_object_set_new(json_object_get(guest, "vcpus_params"), "mask",
                            json_string(tree_attribute(n, "cpuset")));
    return true;
}

static bool take_os(json_t *guest, const struct node *n, char **problem)
{
    char order[4] = "";
    (void)problem;
    if (is(n, "firmware", "efi"))
        json_object_set_new(guest, "firmware", json_string("uefi"));
    for (const struct node *c = n->first; c; c = c->next) {
        const char *dev = tree_attribute(c, "dev");
        char letter = !streq(c->name, "boot") || !dev ? 0
                      : streq(dev, "hd")              ? 'c'
                      : streq(dev, "cdrom")           ? 'd'
                      : streq(dev, "network")         ? 'n'
                                                      : 0;
        if (letter) {
            if (!strchr(order, letter))
                order[strlen(order)] = letter;
        } else if (streq(c->name, "type")) {
            json_object_set_new(guest, "type",
                                json_string(streq(c->text, "hvm")      ? "hvm"
                                            : streq(c->text, "xenpvh") ? "pvh"
                                                                       : "pv"));
        } else if (streq(c->name, "kernel")) {
            json_object_set_new(guest, "kernel", json_string(c->text));
        } else if (streq(c->name, "initrd")) {
            json_object_set_new(guest, "ramdisk", json_string(c->text));
        } else if (streq(c->name, "cmdline") || streq(c->name, "root")) {
            json_object_set_new(guest, "args", json_string(c->text));
        } else if (streq(c->name, "loader") && (is(c, "type", "pflash") || strstr(c->text, "OVMF"))) {
            json_object_set_new(guest, "firmware", json_string("uefi"));
            note(guest, c, "the pool's own firmware is used");
        } else {
            note(guest, c,
                 streq(c->name, "loader")  ? "the pool's own firmware is used"
                 : streq(c->name, "nvram") ? "the VM begins with fresh variables"
                                           : "it has no place here");
        }
    }
    if (*order)
        json_object_set_new(guest, "boot", json_string(order));
    return true;
}

static bool take_bootloader(json_t *guest, const struct node *n, char **problem)
{
    (void)problem;
    if (strstr(n->text, "pygrub"))
        json_object_set_new(guest, "bootloader", json_string("pygrub"));
    else
        note(guest, n, "no program of the old host is run; pygrub is the one that exists here");
    return true;
}

static bool take_features(json_t *guest, const struct node *n, char **problem)
{
    json_t *platform = json_object_get(guest, "platform");
    (void)problem;
    json_object_set_new(platform, "acpi", json_string(tree_child(n, "acpi") ? "true" : "false"));
    for (const struct node *c = n->first; c; c = c->next) {
        bool on = !is(c, "state", "off");
        if (streq(c->name, "pae"))
            json_object_set_new(platform, "pae", json_string("true"));
        else if (streq(c->name, "hyperv"))
            json_object_set_new(platform, "viridian", json_string(on ? "true" : "false"));
        else if (streq(c->name, "smm") && on)
            note(guest, c, "Secure Boot is set with platform:secureboot");
        else if (!streq(c->name, "acpi") && !streq(c->name, "apic"))
            note(guest, c, "the machine's features are the pool's affair");
    }
    return true;
}

static bool take_clock(json_t *guest, const struct node *n, char **problem)
{
    (void)problem;
    if (tree_attribute(n, "adjustment") &&
        strspn(tree_attribute(n, "adjustment"), "-0123456789") == strlen(tree_attribute(n, "adjustment")))
        json_object_set_new(json_object_get(guest, "platform"), "timeoffset",
                            json_string(tree_attribute(n, "adjustment")));
    else if (!is(n, "offset", "utc"))
        note(guest, n, "the clock is UTC; set platform:timeoffset to the zone's seconds");
    for (const struct node *c = n->first; c; c = c->next) {
        if (is(c, "name", "hpet") && tree_attribute(c, "present"))
            json_object_set_new(json_object_get(guest, "platform"), "hpet",
                                json_string(is(c, "present", "yes") ? "true" : "false"));
        else
            note(guest, c, "timers are the pool's affair");
    }
    return true;
}

static bool take_action(json_t *guest, const struct node *n, char **problem)
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
            json_object_set_new(guest, n->name, json_string(to));
            return true;
        }
    }
    note(guest, n, "no such action exists here");
    return true;
}

/* ---- devices ---- */

/* Elements of a device that are of no use anywhere else. */
static void note_rest(json_t *guest, const struct node *n, const char *const *taken)
{
    for (const struct node *c = n->first; c; c = c->next) {
        bool known = streq(c->name, "address") || streq(c->name, "alias");
        for (const char *const *t = taken; *t && !known; t++)
            known = streq(*t, c->name);
        if (!known)
            note(guest, c, "this part of a device has no place here");
    }
}

static bool take_disk(json_t *guest, const struct node *n, char **problem)
{
    static const char *const taken[] = {"driver", "source", "target", "readonly", "boot", NULL};
    const struct node *source = tree_child(n, "source"), *driver = tree_child(n, "driver");
    const char *device = tree_attribute(n, "device") ? tree_attribute(n, "device") : "disk";
    const char *dev = tree_attribute(tree_child(n, "target"), "dev"), *type = tree_attribute(n, "type");
    const char *path =
        tree_attribute(source, "file") ? tree_attribute(source, "file") : tree_attribute(source, "dev");
    const char *format = tree_attribute(driver, "type");
    bool cdrom = streq(device, "cdrom");
    if (!streq(device, "disk") && !cdrom) {
        note(guest, n, "only disks and CD drives are taken over");
        return true;
    }
    int number = dev ? guest_device_number(dev) : -1;
    if (number < 0)
        return problem_at(n, problem, "the target has no name like vda, sdb, hdc or xvdd");
    if (type && !streq(type, "file") && !streq(type, "block") && (source || !cdrom)) {
        note(guest, n, "only files and block devices are taken over: attach the disk by hand");
        return true;
    }
    if (!path)
        path = "";
    if (*path && *path != '/')
        return problem_at(n, problem, "the source needs its whole path, from /");
    if (tree_child(n, "boot"))
        note(guest, tree_child(n, "boot"), "disks boot in the order of their devices");
    json_array_append_new(json_object_get(guest, "disks"),
                          json_pack("{s:s, s:i, s:s, s:s, s:b, s:b}", "device", dev, "number", number, "path",
                                    path, "format", format && !streq(format, "aio") ? format : "raw", "cdrom",
                                    cdrom, "readonly", cdrom || tree_child(n, "readonly")));
    note_rest(guest, n, taken);
    return true;
}

static bool take_interface(json_t *guest, const struct node *n, char **problem)
{
    static const char *const taken[] = {"mac", "source", "model", "mtu", "target", "boot", NULL};
    const char *mac = tree_attribute(tree_child(n, "mac"), "address"),
               *model = tree_attribute(tree_child(n, "model"), "type");
    const char *bridge = tree_attribute(tree_child(n, "source"), "bridge"),
               *network = tree_attribute(tree_child(n, "source"), "network");
    const char *mtu = tree_attribute(tree_child(n, "mtu"), "size");
    long bytes = mtu ? strtol(mtu, NULL, 10) : 0;
    (void)problem;
    if (!is(n, "type", "bridge") && !is(n, "type", "network") && !is(n, "type", "user"))
        note(guest, n, "the card is connected to one of the pool's networks instead");
    if (model && (streq(model, "e1000") || streq(model, "rtl8139")))
        json_object_set_new(json_object_get(guest, "platform"), "nic_type", json_string(model));
    else if (model && !streq(model, "virtio") && !streq(model, "netfront"))
        note(guest, tree_child(n, "model"), "the models are virtio, e1000 and rtl8139");
    json_array_append_new(json_object_get(guest, "nics"),
                          json_pack("{s:i, s:s, s:s, s:s, s:i, s:i}", "number",
                                    (int)json_array_size(json_object_get(guest, "nics")), "mac",
                                    mac ? mac : "", "bridge", bridge ? bridge : "", "network",
                                    network ? network : "", "mtu",
                                    (int)(bytes >= 68 && bytes <= 65535 ? bytes : 0), "kbps", 0));
    note_rest(guest, n, taken);
    return true;
}

static bool take_video(json_t *guest, const struct node *n, char **problem)
{
    const struct node *model = tree_child(n, "model");
    const char *type = tree_attribute(model, "type");
    (void)problem;
    if (type && (streq(type, "cirrus") || streq(type, "vga")))
        json_object_set_new(json_object_get(guest, "platform"), "vga",
                            json_string(streq(type, "vga") ? "std" : "cirrus"));
    else if (model)
        note(guest, model, "the cards are std and cirrus");
    return true;
}

static bool take_devices(json_t *guest, const struct node *n, char **problem);

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

static bool take_all(json_t *guest, const struct node *n, const struct element *table, size_t count,
                     char **problem)
{
    for (const struct node *c = n->first; c; c = c->next) {
        const struct element *found = NULL;
        for (size_t i = 0; i < count && !found; i++)
            if (streq(table[i].name, c->name))
                found = &table[i];
        if (!found)
            note(guest, c, "it is no documented element");
        else if (!found->take)
            note(guest, c, found->why);
        else if (!found->take(guest, c, problem))
            return false;
    }
    return true;
}

static bool take_devices(json_t *guest, const struct node *n, char **problem)
{
    return take_all(guest, n, devices, ARRAY_LEN(devices), problem);
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
    good = good && take_all(guest, root, top, ARRAY_LEN(top), problem);
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
