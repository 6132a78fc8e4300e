/* PCI and USB devices of the host, as /sys shows them, and which of them guests may have. Reads (and in
 * pci_bind writes) below `root`, which tests replace. Any thread. */
#pragma once
#include <hv/domain.h>
#include <hv/err.h>
#include <hv/types.h>

/* Heap arrays in order of places, whose items are initialised; a host without such a bus has none. `hidden`:
 * lines of places that are set aside for guests. */
void pci_list(const char *root, const char *hidden, struct host_pci **out, size_t *count);
/* Only what the policy allows. */
struct usb_policy;
void usb_list(const char *root, const struct usb_policy *policy, struct host_usb **out, size_t *count);
bool pci_has_iommu(const char *root);
/* `text` has this line. */
bool pci_is_hidden(const char *text, const char *bus);
enum host_access pci_access_of(bool hidden, const char *driver);

/* Gives the device to the driver vfio-pci, or back to the host's own. `take`: also from another driver, which
 * is IN_USE else. */
int pci_bind(const char *root, const char *bus, bool guest, bool take, struct hv_err *err);
/* Number of its IOMMU group; -1: it has none. */
int pci_group(const char *root, const char *bus);
/* Numbers of the device at this path, if it is still this model: 0, or -1 with NOT_FOUND. */
int usb_address(const char *root, const struct domain_usb *usb, int *bus, int *address, struct hv_err *err);

/* ---- policy of USB devices ----
 * Lines "ALLOW: vid=046d pid=c31c class=08 # words" or "DENY: ...", numbers hexadecimal; each condition may
 * be left out. The first line that fits the device or one of its interfaces decides; no line: denied. */
#define USB_POLICY_RULES 256
struct usb_policy {
    struct usb_rule {
        bool allow;
        int vendor, product, release, cls, subclass, protocol; /* -1: any */
    } rules[USB_POLICY_RULES];
    size_t count;
};
/* NULL text: the policy without a file. -1: BAD_ARGUMENT with the number of the bad line. */
int usb_policy_parse(const char *text, struct usb_policy *out, struct hv_err *err);
struct usb_identity {
    int vendor, product, release;
    struct usb_interface {
        int cls, subclass, protocol;
    } interfaces[16];
    size_t count;
};
bool usb_policy_allows(const struct usb_policy *policy, const struct usb_identity *device);

/* ---- names of makers and models ---- */

/* Line of pci.ids or usb.ids for a maker, or a model of it (device not empty), or with `cls` of a class and
 * subclass; "" when the text does not say. The caller frees. */
char *ids_name(const char *text, const char *vendor, const char *device, bool cls);
