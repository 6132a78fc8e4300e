/* The PCI and USB devices of a simulated host: a card that shows the host's own console, a graphics processor
 * with its sound function that nobody uses, network cards; a stick, a dongle, a keyboard. */
#include "devices_sim.h"
#include <base/mem.h>
#include <stdio.h>

static const struct {
    const char *bus, *cls, *class_name, *vendor, *vendor_name, *device, *device_name, *driver, *companion;
    bool display;
} cards[] = {
    {"0000:00:02.0", "0300", "VGA compatible controller", "1234", "Simulated Works", "1111",
     "Console adapter", "simfb", "", true},
    {"0000:00:03.0", "0200", "Ethernet controller", "1234", "Simulated Works", "2222", "Network card",
     "simnet", "", false},
    {"0000:01:00.0", "0302", "3D controller", "1234", "Simulated Works", "3333", "Graphics processor", "",
     "0000:01:00.1", false},
    {"0000:01:00.1", "0403", "Audio device", "1234", "Simulated Works", "3334", "Sound of it", "",
     "0000:01:00.0", false},
};

void sim_pci(const char *hidden, struct host_pci **out, size_t *count)
{
    struct host_pci *all = xcalloc(ARRAY_LEN(cards), sizeof(*all));
    for (size_t i = 0; i < ARRAY_LEN(cards); i++) {
        host_pci_init(&all[i]);
        str_assign(&all[i].bus, cards[i].bus);
        str_assign(&all[i].class_id, cards[i].cls);
        str_assign(&all[i].class_name, cards[i].class_name);
        str_assign(&all[i].vendor_id, cards[i].vendor);
        str_assign(&all[i].vendor_name, cards[i].vendor_name);
        str_assign(&all[i].device_id, cards[i].device);
        str_assign(&all[i].device_name, cards[i].device_name);
        str_assign(&all[i].driver, cards[i].driver);
        all[i].boot_display = cards[i].display;
        all[i].isolated = true;
        all[i].access = pci_access_of(pci_is_hidden(hidden, cards[i].bus), cards[i].driver);
        if (*cards[i].companion)
            host_pci_add_companions(&all[i], cards[i].companion);
    }
    *out = all;
    *count = ARRAY_LEN(cards);
}

static const struct {
    const char *path, *vendor_desc, *product_desc;
    struct usb_identity is;
} plugged[] = {
    {"1-1", "Simulated Works", "Memory stick", {0x1234, 0x0001, 0x100, {{0, 0, 0}, {0x08, 0x06, 0x50}}, 2}},
    {"1-2", "Simulated Works", "Keyboard", {0x1234, 0x0002, 0x100, {{0, 0, 0}, {0x03, 0x01, 0x01}}, 2}},
    {"2-1.4", "Simulated Works", "Dongle", {0x1234, 0x0003, 0x100, {{0xff, 0, 0}}, 1}},
};

void sim_usb(const struct agent *agent, const struct usb_policy *policy, struct host_usb **out, size_t *count)
{
    struct host_usb *all = xcalloc(ARRAY_LEN(plugged), sizeof(*all));
    size_t kept = 0;
    for (size_t i = 0; i < ARRAY_LEN(plugged); i++) {
        char id[8];
        if (!usb_policy_allows(policy, &plugged[i].is))
            continue;
        struct host_usb *usb = &all[kept++];
        host_usb_init(usb);
        str_assign(&usb->path, plugged[i].path);
        snprintf(id, sizeof(id), "%04x", plugged[i].is.vendor);
        str_assign(&usb->vendor_id, id);
        snprintf(id, sizeof(id), "%04x", plugged[i].is.product);
        str_assign(&usb->product_id, id);
        str_assign(&usb->vendor_desc, plugged[i].vendor_desc);
        str_assign(&usb->product_desc, plugged[i].product_desc);
        AUTO_STR const char *serial = str_newf("%.8s-%zu", agent->host_uuid, i);
        str_assign(&usb->serial, serial);
        str_assign(&usb->version, "2.00");
        usb->speed_mbit = 480;
    }
    *out = all;
    *count = kept;
}
