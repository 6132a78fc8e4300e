/* A host's devices from a made-up /sys. */
#include <base/mem.h>
#include <criterion/criterion.h>
#include <devices/devices.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/corral-devices-XXXXXX";
static struct hv_err err;

static void folders(const char *path)
{
    AUTO_FREE char *copy = xstrdup(path);
    for (char *slash = strchr(copy + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        cr_assert(mkdir(copy, 0755) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

static void put(const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", root, name);
    folders(path);
    FILE *file = fopen(path, "w");
    cr_assert(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

static void point(const char *name, const char *target)
{
    AUTO_FREE char *path = xasprintf("%s/%s", root, name);
    folders(path);
    cr_assert_eq(symlink(target, path), 0);
}

static char *get(const char *name)
{
    static char text[256];
    AUTO_FREE char *path = xasprintf("%s/%s", root, name);
    FILE *file = fopen(path, "r");
    size_t len = file ? fread(text, 1, sizeof(text) - 1, file) : 0;
    text[len] = '\0';
    if (file)
        fclose(file);
    return text;
}

#define PCI "sys/bus/pci/devices/"
#define USB "sys/bus/usb/devices/"

struct entry {
    const char *file, *text;
};

static void put_all(const char *folder, const struct entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        AUTO_FREE char *name = xasprintf("%s/%s", folder, entries[i].file);
        put(name, entries[i].text);
    }
}

static void card(const char *bus, const char *vendor, const char *device, const char *cls, const char *driver)
{
    const struct entry files[] = {{"vendor", vendor},
                                  {"device", device},
                                  {"class", cls},
                                  {"subsystem_vendor", "0x1af4\n"},
                                  {"subsystem_device", "0x1100\n"}};
    AUTO_FREE char *folder = xasprintf(PCI "%s", bus), *link = xasprintf(PCI "%s/driver", bus),
                   *to = xasprintf("../../../bus/pci/drivers/%s", driver);
    put_all(folder, files, ARRAY_LEN(files));
    if (*driver)
        point(link, to);
}

static void plug(const char *path, const char *vendor, const char *product, const char *cls, const char *sub,
                 const char *prot)
{
    const struct entry device[] = {{"idVendor", vendor},      {"idProduct", product},
                                   {"bcdDevice", "0100\n"},   {"bDeviceClass", "00"},
                                   {"bDeviceSubClass", "00"}, {"bDeviceProtocol", "00"},
                                   {"version", " 2.00\n"},    {"speed", "480\n"},
                                   {"serial", "S1\x01,=x\n"}, {"product", "Thing\n"},
                                   {"busnum", "1\n"},         {"devnum", "7\n"}},
                       interface[] = {{"bInterfaceClass", cls},
                                      {"bInterfaceSubClass", sub},
                                      {"bInterfaceProtocol", prot}};
    AUTO_FREE char *folder = xasprintf(USB "%s", path), *part = xasprintf(USB "%s:1.0", path);
    put_all(folder, device, ARRAY_LEN(device));
    put_all(part, interface, ARRAY_LEN(interface));
}

static void start(void)
{
    cr_assert_not_null(mkdtemp(root));
    card("0000:00:02.0", "0x1234\n", "0x1111\n", "0x030000\n", "bochs-drm");
    put(PCI "0000:00:02.0/boot_vga", "1\n");
    card("0000:01:00.0", "0x10de\n", "0x1eb8\n", "0x030200\n", "");
    card("0000:01:00.1", "0x10de\n", "0x10f8\n", "0x040300\n", "");
    point(PCI "0000:01:00.0/iommu_group", "../../../../kernel/iommu_groups/12");
    put("sys/kernel/iommu_groups/12/type", "DMA\n");
    card("0000:02:00.0", "0x8086\n", "0x1572\n", "0x020000\n", "i40e");
    put(PCI "0000:02:00.0/sriov_totalvfs", "64\n");
    card("0000:02:02.0", "0x8086\n", "0x154c\n", "0x020000\n", "iavf");
    point(PCI "0000:02:02.0/physfn", "../0000:02:00.0");
    put(PCI "not a place/vendor", "0x1\n");
    put("sys/bus/pci/drivers_probe", "");
    put("usr/share/misc/pci.ids",
        "# words\n10de  NVIDIA Corporation\n\t1eb8  TU104GL [Tesla T4]\n\t\t10de 12a2  T4\n"
        "8086  Intel Corporation\n\t1572  X710\nC 03  Display controller\n"
        "\t00  VGA compatible controller\n\t02  3D controller\n");
    plug("1-1", "0781", "5567", "08", "06", "50");
    plug("1-1.4", "046d", "c31c", "03", "01", "01");
    plug("usb1", "1d6b", "0002", "09", "00", "00");
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void stop(void)
{
    nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

Test(devices, pci, .init = start, .fini = stop)
{
    struct host_pci *all;
    size_t count;
    pci_list(root, "0000:00:02.0\n0000:01:00.0\n", &all, &count);
    cr_assert_eq(count, 5);
    const struct host_pci *screen = &all[0], *gpu = &all[1], *port = &all[3], *function = &all[4];
    cr_expect_str_eq(screen->class_id, "0300");
    cr_expect_str_eq(screen->class_name, "VGA compatible controller");
    cr_expect(screen->boot_display && !screen->isolated);
    cr_expect_str_eq(screen->driver, "bochs-drm");
    cr_expect_eq(screen->access, HOST_ACCESS_DISABLE_ON_REBOOT);
    cr_expect_str_eq(gpu->vendor_name, "NVIDIA Corporation");
    cr_expect_str_eq(gpu->device_name, "TU104GL [Tesla T4]");
    cr_expect_str_eq(gpu->class_name, "3D controller");
    cr_expect_str_eq(gpu->subsystem_vendor_id, "1af4");
    cr_expect_eq(gpu->access, HOST_ACCESS_DISABLED);
    cr_expect(gpu->isolated);
    cr_assert_eq(gpu->companions_count, 1);
    cr_expect_str_eq(gpu->companions[0], "0000:01:00.1");
    cr_expect_eq(port->virtual_functions, 64);
    cr_expect_eq(port->access, HOST_ACCESS_ENABLED);
    cr_expect_str_eq(function->physical_function, "0000:02:00.0");
    for (size_t i = 0; i < count; i++)
        host_pci_done(&all[i]);
    free(all);
    cr_expect(pci_has_iommu(root));
    cr_expect_eq(pci_group(root, "0000:01:00.0"), 12);
    cr_expect_eq(pci_group(root, "0000:00:02.0"), -1);
    pci_list("/nowhere", "", &all, &count);
    cr_expect_eq(count, 0);
    free(all);
    cr_expect_not(pci_has_iommu("/nowhere"));
}

Test(devices, pci_changes_hands, .init = start, .fini = stop)
{
    put(PCI "0000:01:00.0/driver_override", "");
    cr_expect_lt(pci_bind(root, "0000:00:02.0", true, false, &err), 0);
    cr_expect_eq(err.kind, HV_ERR_KIND_IN_USE, "%s", err.text);
    cr_expect_lt(pci_bind(root, "0000:01:00.0", true, false, &err), 0); /* this kernel binds nothing */
    cr_expect_eq(err.kind, HV_ERR_KIND_UNSUPPORTED, "%s", err.text);
    cr_expect_str_eq(get(PCI "0000:01:00.0/driver_override"), "vfio-pci");
    cr_expect_str_eq(get("sys/bus/pci/drivers_probe"), "0000:01:00.0");
    point(PCI "0000:01:00.0/driver", "../../../bus/pci/drivers/vfio-pci");
    cr_expect_eq(pci_bind(root, "0000:01:00.0", true, false, &err), 0);
    cr_expect_eq(pci_bind(root, "0000:02:00.0", false, false, &err), 0); /* it is the host's */
    cr_expect_lt(pci_bind(root, "0000:09:00.0", true, false, &err), 0);
    cr_expect_eq(err.kind, HV_ERR_KIND_IO);
}

Test(devices, usb, .init = start, .fini = stop)
{
    struct usb_policy policy;
    struct host_usb *all;
    size_t count;
    cr_assert_eq(usb_policy_parse(NULL, &policy, &err), 0, "%s", err.text);
    usb_list(root, &policy, &all, &count);
    cr_assert_eq(count, 1); /* no keyboard, no hub */
    cr_expect_str_eq(all[0].path, "1-1");
    cr_expect_str_eq(all[0].vendor_id, "0781");
    cr_expect_str_eq(all[0].product_id, "5567");
    cr_expect_str_eq(all[0].product_desc, "Thing");
    cr_expect_str_eq(all[0].serial, "S1?,=x");
    cr_expect_str_eq(all[0].version, "2.00");
    cr_expect_float_eq(all[0].speed_mbit, 480, 0.01);
    host_usb_done(&all[0]);
    free(all);
    struct domain_usb usb;
    int bus, address;
    domain_usb_init(&usb);
    str_assign(&usb.path, "1-1");
    str_assign(&usb.vendor_id, "0781");
    str_assign(&usb.product_id, "5567");
    cr_assert_eq(usb_address(root, &usb, &bus, &address, &err), 0, "%s", err.text);
    cr_expect(bus == 1 && address == 7);
    str_assign(&usb.product_id, "5568");
    cr_expect_lt(usb_address(root, &usb, &bus, &address, &err), 0);
    cr_expect_eq(err.kind, HV_ERR_KIND_NOT_FOUND);
    domain_usb_done(&usb);
}

Test(devices, policy)
{
    static const struct {
        const char *text;
        bool good, stick, keyboard;
    } rows[] = {
        {NULL, true, true, false},
        {"", true, false, false},
        {"# nothing\n\n  ALLOW: vid=0781\n", true, true, false},
        {"ALLOW: pid=5567 vid=0781 rel=0100 # this one\r\n", true, true, false},
        {"ALLOW: vid=0781 rel=0200\n", true, false, false},
        {"DENY: class=08 subclass=06\nALLOW:\n", true, false, true},
        {"ALLOW: class=03 prot=01\nDENY:\n", true, false, true},
        {"ALLOW: class=3 prot=2\n", true, false, false},
        {"PERMIT: vid=1\n", false, false, false},
        {"ALLOW: vid\n", false, false, false},
        {"ALLOW: vid=\n", false, false, false},
        {"ALLOW: vid=12345\n", false, false, false},
        {"ALLOW: vid=-1\n", false, false, false},
        {"ALLOW: colour=1\n", false, false, false},
    };
    const struct usb_identity stick = {0x0781, 0x5567, 0x100, {{0, 0, 0}, {8, 6, 0x50}}, 2},
                              keyboard = {0x046d, 0xc31c, 0x100, {{0, 0, 0}, {3, 1, 1}}, 2};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct usb_policy policy;
        bool good = usb_policy_parse(rows[i].text, &policy, &err) == 0;
        cr_expect_eq(good, rows[i].good, "%zu", i);
        if (!good)
            continue;
        cr_expect_eq(usb_policy_allows(&policy, &stick), rows[i].stick, "%zu", i);
        cr_expect_eq(usb_policy_allows(&policy, &keyboard), rows[i].keyboard, "%zu", i);
    }
}

Test(devices, forms)
{
    static const char *const good[] = {"0000:00:02.0", "00ff:01:00.7"},
                             *const bad[] = {"", "0000:00:02", "0000:00:02.0,x=y", "0000:00:02.G",
                                             "0000:00:0A.0"},
                             *const paths[] = {"1-1", "12-1.4.2"}, *const no_paths[] = {"",     "1",
                                                                                        "-1",   "1-",
                                                                                        "1-1.", "1-1,id=x",
                                                                                        "usb1", "12345-1"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        cr_expect(hv_pci_bus_ok(good[i]) && hv_usb_path_ok(paths[i]));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect_not(hv_pci_bus_ok(bad[i]), "%s", bad[i]);
    for (size_t i = 0; i < ARRAY_LEN(no_paths); i++)
        cr_expect_not(hv_usb_path_ok(no_paths[i]), "%s", no_paths[i]);
}
