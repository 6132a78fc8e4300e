/* PCI devices. */
#include "sysfs.h"
#include <base/mem.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICES_MAX 1024
#define GUEST_DRIVER "vfio-pci"

static char *folder_of(const char *root, const char *bus)
{
    return xasprintf("%s/sys/bus/pci/devices/%s", root, bus);
}

int pci_group(const char *root, const char *bus)
{
    AUTO_FREE char *folder = folder_of(root, bus), *group = sys_link(folder, "iommu_group");
    return isdigit((unsigned char)*group) ? atoi(group) : -1;
}

bool pci_has_iommu(const char *root)
{
    AUTO_FREE char *folder = xasprintf("%s/sys/kernel/iommu_groups", root);
    size_t count;
    char **names = sys_names(folder, &count);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return count > 0;
}

bool pci_is_hidden(const char *hidden, const char *bus)
{
    for (const char *at = hidden; at && (at = strstr(at, bus)); at++)
        if ((at == hidden || at[-1] == '\n') && (at[strlen(bus)] == '\n' || !at[strlen(bus)]))
            return true;
    return false;
}

enum host_access pci_access_of(bool hidden, const char *driver)
{
    bool guest = streq(driver, GUEST_DRIVER), none = !*driver;
    if (hidden)
        return guest || none ? HOST_ACCESS_DISABLED : HOST_ACCESS_DISABLE_ON_REBOOT;
    return guest ? HOST_ACCESS_ENABLE_ON_REBOOT : HOST_ACCESS_ENABLED;
}

static void take_hex(const char **slot, const char *folder, const char *name, int digits)
{
    char text[8] = "";
    int n = sys_number(folder, name);
    if (n >= 0)
        snprintf(text, sizeof(text), "%0*x", digits, n & 0xffff);
    str_assign(slot, text);
}

static void take_name(const char **slot, const char *ids, const char *vendor, const char *device, bool cls)
{
    AUTO_FREE char *name = ids_name(ids, vendor, device, cls);
    str_assign(slot, name);
}

static void take(const char *root, const char *bus, const char *hidden, const char *ids, struct host_pci *out)
{
    AUTO_FREE char *folder = folder_of(root, bus), *driver = sys_link(folder, "driver"),
                   *above = sys_link(folder, "physfn"), *vfs = sys_read(folder, "sriov_totalvfs");
    char cls[8] = "";
    int n = sys_number(folder, "class");
    host_pci_init(out);
    str_assign(&out->bus, bus);
    if (n >= 0)
        snprintf(cls, sizeof(cls), "%04x", n >> 8 & 0xffff);
    str_assign(&out->class_id, cls);
    take_hex(&out->vendor_id, folder, "vendor", 4);
    take_hex(&out->device_id, folder, "device", 4);
    take_hex(&out->subsystem_vendor_id, folder, "subsystem_vendor", 4);
    take_hex(&out->subsystem_device_id, folder, "subsystem_device", 4);
    take_name(&out->vendor_name, ids, out->vendor_id, "", false);
    take_name(&out->device_name, ids, out->vendor_id, out->device_id, false);
    char upper[3] = {cls[0], cls[0] ? cls[1] : '\0', '\0'};
    take_name(&out->class_name, ids, upper, strlen(cls) == 4 ? cls + 2 : "", true);
    str_assign(&out->driver, driver);
    out->boot_display = sys_number(folder, "boot_vga") == 1;
    out->isolated = pci_group(root, bus) >= 0;
    out->access = pci_access_of(pci_is_hidden(hidden, bus), driver);
    out->virtual_functions = strtol(vfs, NULL, 10);
    if (out->virtual_functions < 0 || out->virtual_functions > 65535)
        out->virtual_functions = 0;
    str_assign(&out->physical_function, hv_pci_bus_ok(above) ? above : "");
}

/* Other functions of the same device, and what shares its IOMMU group; bridges stay with the host. */
static void pair_up(const char *root, struct host_pci *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int group = pci_group(root, all[i].bus);
        for (size_t k = 0; k < count && all[i].companions_count < 64; k++) {
            bool same_slot = strncmp(all[i].bus, all[k].bus, 10) == 0 && !*all[i].physical_function &&
                             !*all[k].physical_function;
            bool same_group = group >= 0 && group == pci_group(root, all[k].bus);
            if (i != k && strncmp(all[k].class_id, "06", 2) != 0 && (same_slot || same_group))
                host_pci_add_companions(&all[i], all[k].bus);
        }
    }
}

void pci_list(const char *root, const char *hidden, struct host_pci **out, size_t *count)
{
    AUTO_FREE char *folder = xasprintf("%s/sys/bus/pci/devices", root), *ids = sys_ids(root, "pci.ids");
    size_t found, kept = 0;
    char **names = sys_names(folder, &found);
    struct host_pci *all = xcalloc(found + 1, sizeof(*all));
    for (size_t i = 0; i < found; i++) {
        if (hv_pci_bus_ok(names[i]) && kept < DEVICES_MAX)
            take(root, names[i], hidden, ids, &all[kept++]);
        free(names[i]);
    }
    free(names);
    pair_up(root, all, kept);
    *out = all;
    *count = kept;
}

int pci_bind(const char *root, const char *bus, bool guest, bool take, struct hv_err *err)
{
    AUTO_FREE char *folder = folder_of(root, bus), *driver = sys_link(folder, "driver"),
                   *all = xasprintf("%s/sys/bus/pci", root);
    bool has_it = streq(driver, GUEST_DRIVER);
    if (guest ? has_it : !has_it)
        return 0;
    if (guest && *driver && !take)
        return hv_fail(err, HV_ERR_KIND_IN_USE, "The host's driver %s has the device %s.", driver, bus);
    if (sys_write(folder, "driver_override", guest ? GUEST_DRIVER : "\n") < 0 ||
        (*driver && sys_write(folder, "driver/unbind", bus) < 0) || sys_write(all, "drivers_probe", bus) < 0)
        return hv_fail(err, HV_ERR_KIND_IO, "The device %s cannot be given to another driver: %s.", bus,
                       strerror(errno));
    AUTO_FREE char *now = sys_link(folder, "driver");
    if (guest && !streq(now, GUEST_DRIVER))
        return hv_fail(err, HV_ERR_KIND_UNSUPPORTED,
                       "The host's kernel has no driver vfio-pci for the device %s (modprobe vfio-pci).",
                       bus);
    return 0;
}
