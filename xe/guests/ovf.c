/* An OVF 1.x envelope with one virtual system. Prefixes of names differ from writer to writer and are passed
 * over. Every item of hardware is taken over, known not to be wanted, or told. */
#include "guests.h"
#include "tree.h"
#include <base/mem.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>

/* Numbers of CIM_ResourceAllocationSettingData. */
enum resource {
    RES_PROCESSOR = 3,
    RES_MEMORY = 4,
    RES_IDE = 5,
    RES_SCSI = 6,
    RES_ETHERNET = 10,
    RES_CD = 15,
    RES_DVD = 16,
    RES_DISK = 17,
    RES_SATA = 20,
    RES_DISPLAY = 24,
};

struct ovf {
    json_t *guest;
    const struct node *root;
    char **problem;
    int disks, nics; /* so far */
};

static const char *local(const char *name)
{
    const char *colon = strchr(name, ':');
    return colon ? colon + 1 : name;
}

static const struct node *next_named(const struct node *n, const char *name)
{
    while (n && !streq(local(n->name), name))
        n = n->next;
    return n;
}

static const struct node *find(const struct node *n, const char *name)
{
    return n ? next_named(n->first, name) : NULL;
}

static const char *text(const struct node *n, const char *name)
{
    const struct node *c = find(n, name);
    return c ? c->text : "";
}

static const char *attribute(const struct node *n, const char *name)
{
    for (char **a = n->attributes; *a; a += 2)
        if (streq(local(a[0]), name))
            return a[1];
    return "";
}

static int fail(struct ovf *o, const char *what, const char *why)
{
    guest_problem(o->problem, "%.100s: %s", what, why);
    return -1;
}

/* ---- numbers with units ---- */

/* "byte * 2^30", "MegaBytes", "" (bytes). 0: no such unit. */
static int64_t unit_of(const char *unit)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } old[] = {{"", 1},
               {"byte", 1},
               {"Bytes", 1},
               {"KiloBytes", 1 << 10},
               {"MegaBytes", 1 << 20},
               {"GigaBytes", 1 << 30}};
    int power;
    char rest;
    for (size_t i = 0; i < ARRAY_LEN(old); i++)
        if (strcasecmp(unit, old[i].name) == 0)
            return old[i].bytes;
    if ((sscanf(unit, "byte * 2^%d%c", &power, &rest) == 1 ||
         sscanf(unit, "byte*2^%d%c", &power, &rest) == 1) &&
        power >= 0 && power <= 50)
        return INT64_C(1) << power;
    return 0;
}

static bool number(const char *value, int64_t unit, int64_t *out)
{
    char *end;
    if (*value < '0' || *value > '9' || unit <= 0)
        return false;
    long long n = strtoll(value, &end, 10);
    if (*end || n == LLONG_MAX || n > INT64_MAX / unit)
        return false;
    *out = n * unit;
    return true;
}

/* ---- disks ---- */

static const struct node *by_attribute(const struct node *section, const char *element, const char *name,
                                       const char *value)
{
    for (const struct node *c = find(section, element); c; c = next_named(c->next, element))
        if (streq(attribute(c, name), value))
            return c;
    return NULL;
}

/* A file beside the envelope, by a bare name. */
static bool name_ok(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') && strlen(name) <= 255;
}

static int take_file(struct ovf *o, const struct node *disk, json_t *out)
{
    const char *format = attribute(disk, "format"), *id = attribute(disk, "fileRef");
    const struct node *file = by_attribute(find(o->root, "References"), "File", "id", id);
    if (*attribute(disk, "parentRef"))
        return fail(o, attribute(disk, "diskId"), "it is a difference to another disk");
    if (!*id)
        return 0; /* empty, of that size */
    if (!file || !name_ok(attribute(file, "href")))
        return fail(o, id, "there is no file of that id beside the description");
    if (*attribute(file, "compression") && !streq(attribute(file, "compression"), "identity"))
        return fail(o, attribute(file, "href"), "it is compressed as a whole, which is not read here");
    if (!strstr(format, "vmdk") && *format)
        return fail(o, attribute(file, "href"), "its format is not VMDK");
    json_object_set_new(out, "path", json_string(attribute(file, "href")));
    return 0;
}

static int take_disk(struct ovf *o, const struct node *item)
{
    const char *host = text(item, "HostResource"), *slash = strrchr(host, '/');
    const struct node *disk =
        by_attribute(find(o->root, "DiskSection"), "Disk", "diskId", slash ? slash + 1 : host);
    int64_t size;
    if (!disk)
        return fail(o, host, "there is no such disk in the description");
    const char *units = attribute(disk, "capacityAllocationUnits");
    if (!number(attribute(disk, "capacity"), unit_of(units), &size) || size < 1 || size > INT64_C(1) << 46)
        return fail(o, attribute(disk, "diskId"), "its capacity is no number of bytes up to 64 TiB");
    char name[8];
    snprintf(name, sizeof(name), "xvd%c", 'a' + o->disks);
    json_t *out = json_pack("{s:s, s:i, s:s, s:s, s:b, s:b, s:I}", "device", name, "number", o->disks, "path",
                            "", "format", "vmdk", "cdrom", 0, "readonly", 0, "size", (json_int_t)size);
    json_array_append_new(json_object_get(o->guest, "disks"), out);
    o->disks++;
    return take_file(o, disk, out);
}

static int take_drive(struct ovf *o)
{
    char name[8];
    snprintf(name, sizeof(name), "xvd%c", 'a' + o->disks);
    json_array_append_new(json_object_get(o->guest, "disks"),
                          json_pack("{s:s, s:i, s:s, s:s, s:b, s:b}", "device", name, "number", o->disks++,
                                    "path", "", "format", "raw", "cdrom", 1, "readonly", 1));
    return 0;
}

/* ---- hardware ---- */

static int take_nic(struct ovf *o, const struct node *item)
{
    json_array_append_new(json_object_get(o->guest, "nics"),
                          json_pack("{s:i, s:s, s:s, s:s, s:i, s:i}", "number", o->nics, "mac",
                                    text(item, "Address"), "bridge", "", "network", text(item, "Connection"),
                                    "mtu", 0, "kbps", 0));
    o->nics++;
    return 0;
}

static int take_quantity(struct ovf *o, const struct node *item, const char *member, int64_t unit)
{
    int64_t n;
    if (!number(text(item, "VirtualQuantity"), unit, &n) || n < 1)
        return fail(o, text(item, "ElementName"), "its quantity is no number");
    json_object_set_new(o->guest, member, json_integer(n));
    return 0;
}

static int take_item(struct ovf *o, const struct node *item)
{
    const char *kind = text(item, "ResourceType"), *units = text(item, "AllocationUnits");
    if (o->disks >= 26 || o->nics >= 16)
        return fail(o, text(item, "ElementName"), "there are too many disks or network cards");
    switch (atoi(kind)) {
    case RES_PROCESSOR:
        return take_quantity(o, item, "vcpus", 1);
    case RES_MEMORY:
        return take_quantity(o, item, "memory", *units ? unit_of(units) : 1 << 20);
    case RES_ETHERNET:
        return take_nic(o, item);
    case RES_DISK:
        return take_disk(o, item);
    case RES_CD:
    case RES_DVD:
        return take_drive(o);
    case RES_IDE:
    case RES_SCSI:
    case RES_SATA:
    case RES_DISPLAY:
        return 0; /* made as the devices need them */
    }
    guest_note(o->guest, *text(item, "ElementName") ? text(item, "ElementName") : "Item",
               text(item, "ResourceSubType"), "no such device exists here");
    return 0;
}

static int take_hardware(struct ovf *o, const struct node *hardware)
{
    static const char *const kinds[] = {"Item", "StorageItem", "EthernetPortItem"};
    for (const struct node *c = hardware->first; c; c = c->next) {
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
            if (streq(local(c->name), kinds[i]) && take_item(o, c) < 0)
                return -1;
        if (streq(local(c->name), "Config") && streq(attribute(c, "key"), "firmware"))
            json_object_set_new(o->guest, "firmware",
                                json_string(streq(attribute(c, "value"), "efi") ? "uefi" : "bios"));
    }
    return 0;
}

static int take_system(struct ovf *o, const struct node *system)
{
    static const char *const known[] = {"Info", "Name", "VirtualHardwareSection", "OperatingSystemSection",
                                        "AnnotationSection"};
    const struct node *hardware = find(system, "VirtualHardwareSection");
    const char *name = text(system, "Name");
    json_object_set_new(o->guest, "name", json_string(*name ? name : attribute(system, "id")));
    json_object_set_new(o->guest, "description",
                        json_string(text(find(system, "AnnotationSection"), "Annotation")));
    for (const struct node *c = system->first; c; c = c->next) {
        size_t i = 0;
        while (i < ARRAY_LEN(known) && !streq(known[i], local(c->name)))
            i++;
        if (i == ARRAY_LEN(known))
            guest_note(o->guest, local(c->name), "", "nothing here takes it");
    }
    if (!hardware)
        return fail(o, "VirtualSystem", "it has no hardware");
    return take_hardware(o, hardware);
}

static int take_envelope(struct ovf *o)
{
    const struct node *system = find(o->root, "VirtualSystem");
    if (!streq(local(o->root->name), "Envelope"))
        return fail(o, o->root->name, "it is no OVF envelope");
    if (!system || find(o->root, "VirtualSystemCollection") || next_named(system->next, "VirtualSystem"))
        return fail(o, "Envelope", "it does not describe one machine, but none or several");
    return take_system(o, system);
}

json_t *guest_from_ovf(const char *bytes, size_t len, char **problem)
{
    *problem = NULL;
    struct node *root = tree_parse(bytes, len, problem);
    if (!root)
        return NULL;
    json_t *guest = json_pack("{s:{}, s:{}, s:[], s:[], s:[], s:s}", "platform", "vcpus_params", "disks",
                              "nics", "notes", "type", "hvm");
    struct ovf o = {.guest = guest, .root = root, .problem = problem};
    int rc = take_envelope(&o);
    if (rc == 0 && !*json_string_value(json_object_get(guest, "name")))
        rc = fail(&o, "VirtualSystem", "it has no name");
    tree_free(root);
    if (rc == 0)
        return guest;
    json_decref(guest);
    return NULL;
}
