/* USB devices. */
#include "sysfs.h"
#include <base/mem.h>
#include <stdio.h>
#include <stdlib.h>

#define DEVICES_MAX 1024

static char *folder_of(const char *root)
{
    return xasprintf("%s/sys/bus/usb/devices", root);
}

/* Interfaces have names like "1-2.4:1.0" beside their device. */
static void identify(const char *root, const char *path, const char *folder, struct usb_identity *out)
{
    AUTO_FREE char *all = folder_of(root);
    size_t count, len = strlen(path);
    char **names = sys_names(all, &count);
    *out = (struct usb_identity){.vendor = sys_number(folder, "idVendor"),
                                 .product = sys_number(folder, "idProduct"),
                                 .release = sys_number(folder, "bcdDevice")};
    out->interfaces[out->count++] =
        (struct usb_interface){sys_number(folder, "bDeviceClass"), sys_number(folder, "bDeviceSubClass"),
                               sys_number(folder, "bDeviceProtocol")};
    for (size_t i = 0; i < count; i++) {
        bool own = strncmp(names[i], path, len) == 0 && names[i][len] == ':';
        if (own && out->count < ARRAY_LEN(out->interfaces)) {
            AUTO_FREE char *one = xasprintf("%s/%s", all, names[i]);
            out->interfaces[out->count++] = (struct usb_interface){sys_number(one, "bInterfaceClass"),
                                                                   sys_number(one, "bInterfaceSubClass"),
                                                                   sys_number(one, "bInterfaceProtocol")};
        }
        free(names[i]);
    }
    free(names);
}

static void take_text(const char **slot, const char *folder, const char *name)
{
    AUTO_FREE char *text = sys_read(folder, name);
    const char *from = text + strspn(text, " ");
    str_assign(slot, from);
}

static void take_desc(const char **slot, const char *folder, const char *name, const char *ids,
                      const char *vendor, const char *device)
{
    take_text(slot, folder, name);
    if (**slot)
        return;
    AUTO_FREE char *known = ids_name(ids, vendor, device, false);
    str_assign(slot, known);
}

static void take(const char *path, const char *folder, const struct usb_identity *is, const char *ids,
                 struct host_usb *out)
{
    char id[8];
    host_usb_init(out);
    str_assign(&out->path, path);
    snprintf(id, sizeof(id), "%04x", is->vendor & 0xffff);
    str_assign(&out->vendor_id, id);
    snprintf(id, sizeof(id), "%04x", is->product & 0xffff);
    str_assign(&out->product_id, id);
    take_desc(&out->vendor_desc, folder, "manufacturer", ids, out->vendor_id, "");
    take_desc(&out->product_desc, folder, "product", ids, out->vendor_id, out->product_id);
    take_text(&out->serial, folder, "serial");
    take_text(&out->version, folder, "version");
    if (strlen(out->version) > 15)
        str_assign(&out->version, "");
    AUTO_FREE char *speed = sys_read(folder, "speed");
    out->speed_mbit = *speed ? strtod(speed, NULL) : -1;
}

void usb_list(const char *root, const struct usb_policy *policy, struct host_usb **out, size_t *count)
{
    AUTO_FREE char *all = folder_of(root), *ids = sys_ids(root, "usb.ids");
    size_t found, kept = 0;
    char **names = sys_names(all, &found);
    struct host_usb *list = xcalloc(found + 1, sizeof(*list));
    for (size_t i = 0; i < found; i++) {
        AUTO_FREE char *name = names[i], *folder = xasprintf("%s/%s", all, name);
        struct usb_identity is;
        if (!hv_usb_path_ok(name) || kept == DEVICES_MAX)
            continue;
        identify(root, name, folder, &is);
        if (is.vendor >= 0 && is.product >= 0 && usb_policy_allows(policy, &is))
            take(name, folder, &is, ids, &list[kept++]);
    }
    free(names);
    *out = list;
    *count = kept;
}

int usb_address(const char *root, const struct domain_usb *usb, int *bus, int *address, struct hv_err *err)
{
    AUTO_FREE char *all = folder_of(root), *folder = xasprintf("%s/%s", all, usb->path);
    AUTO_FREE char *bus_text = sys_read(folder, "busnum"), *address_text = sys_read(folder, "devnum");
    bool same = sys_number(folder, "idVendor") == (int)strtol(usb->vendor_id, NULL, 16) &&
                sys_number(folder, "idProduct") == (int)strtol(usb->product_id, NULL, 16);
    if (!hv_usb_path_ok(usb->path) || !same || !*bus_text || !*address_text)
        return hv_fail(err, HV_ERR_KIND_NOT_FOUND, "The USB device %s:%s is not plugged in at %s any more.",
                       usb->vendor_id, usb->product_id, usb->path);
    *bus = atoi(bus_text);
    *address = atoi(address_text);
    return 0;
}
