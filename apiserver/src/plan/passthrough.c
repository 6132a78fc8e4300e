/* The choice of a host's devices for a VM, and the rows that follow from it. */
#include "passthrough.h"

#include "../server.h"
#include <base/mem.h>
#include <model/errors.h>
#include <stdlib.h>

static const struct row *get(const struct device_source *from, const struct class_desc *cls, struct ref ref)
{
    return from->snap ? snapshot_get(from->snap, cls, ref) : tx_get(from->tx, cls, ref);
}

static bool is_empty(const struct ref_set *set)
{
    return !set || set->count == 0;
}

/* ---- PCI ---- */

static bool pci_is_free(const struct pci_row *pci, struct ref vm)
{
    bool own = ref_eq(pci->scheduled_to_be_attached_to, vm) || ref_is_null(pci->scheduled_to_be_attached_to);
    return own && (is_empty(pci->attached_VMs) || ref_set_has(pci->attached_VMs, vm));
}

static void use_pci(const struct device_source *from, const struct pci_row *pci, const struct vm_row *vm,
                    struct domain_config *config)
{
    for (size_t i = 0; config && i < config->pci_count; i++)
        if (streq(config->pci[i], pci->pci_id))
            return;
    if (config)
        domain_config_add_pci(config, pci->pci_id);
    if (from->tx)
        pci_row_mut(tx_edit(from->tx, CLASS_PCI, pci->row.ref))->scheduled_to_be_attached_to = vm->row.ref;
}

static int check_iommu(const struct device_source *from, struct ref ref, struct api_err *err)
{
    const struct host_row *host = host_row(get(from, CLASS_host, ref));
    const char *has = host ? str_map_get(host->chipset_info, "iommu") : NULL;
    return has && streq(has, "true") ? 0 : err_vm_requires_iommu(err, REF_TEXT(ref));
}

static const struct pci_row *find_pci(const struct device_source *from, struct ref ref, const char *bus)
{
    const struct host_row *host = host_row(get(from, CLASS_host, ref));
    for (size_t i = 0; host && host->PCIs && i < host->PCIs->count; i++) {
        const struct pci_row *pci = pci_row(get(from, CLASS_PCI, host->PCIs->items[i]));
        if (pci && streq(pci->pci_id, bus))
            return pci;
    }
    return NULL;
}

/* "0/0000:01:00.0,0/0000:01:00.1": the number in front is an order, which is that of the list here. */
static int plan_named(const struct device_source *from, const struct vm_row *vm, struct ref host,
                      struct domain_config *config, struct api_err *err)
{
    const char *words = str_map_get(vm->other_config, "pci");
    AUTO_FREE char *copy = xstrdup(words ? words : "");
    char *rest = copy, *word;
    if (!*copy)
        return 0;
    if (check_iommu(from, host, err) < 0)
        return -1;
    while ((word = strsep(&rest, ","))) {
        char *slash = strchr(word, '/');
        const char *bus = slash ? slash + 1 : word;
        const struct pci_row *pci = hv_pci_bus_ok(bus) ? find_pci(from, host, bus) : NULL;
        if (!pci)
            return err_value_not_supported(err, "other_config:pci", words,
                                           "the host has no such device; it is a list like 0/0000:01:00.0");
        if (!pci_is_free(pci, vm->row.ref))
            return err_value_not_supported(err, "other_config:pci", words, "another VM has one of them");
        use_pci(from, pci, vm, config);
    }
    return 0;
}

/* ---- graphics processors ---- */

bool pgpu_is_free(const struct device_source *from, const struct pgpu_row *pgpu, struct ref vm)
{
    const struct pci_row *pci = pci_row(get(from, CLASS_PCI, pgpu->PCI));
    if (!pci || !pci_is_free(pci, vm) || !is_empty(pgpu->resident_VGPUs))
        return false;
    for (size_t i = 0; pci->dependencies && i < pci->dependencies->count; i++) {
        const struct pci_row *with = pci_row(get(from, CLASS_PCI, pci->dependencies->items[i]));
        if (with && !pci_is_free(with, vm))
            return false;
    }
    return true;
}

static void use_pgpu(const struct device_source *from, const struct pgpu_row *pgpu,
                     const struct vgpu_row *vgpu, const struct vm_row *vm, struct domain_config *config)
{
    const struct pci_row *pci = pci_row(get(from, CLASS_PCI, pgpu->PCI));
    AUTO_REF_SET const struct ref_set *with = ref_set_ref(pci->dependencies);
    use_pci(from, pci, vm, config);
    for (size_t i = 0; with && i < with->count; i++) {
        const struct pci_row *other = pci_row(get(from, CLASS_PCI, with->items[i]));
        if (other)
            use_pci(from, other, vm, config);
    }
    if (from->tx)
        vgpu_row_mut(tx_edit(from->tx, CLASS_VGPU, vgpu->row.ref))->scheduled_to_be_resident_on =
            pgpu->row.ref;
}

/* `taken`: chosen for a card of the VM before this one. */
static const struct pgpu_row *choose(const struct device_source *from, const struct vgpu_row *vgpu,
                                     struct ref host, const struct ref_set *taken)
{
    const struct gpu_group_row *group = gpu_group_row(get(from, CLASS_GPU_group, vgpu->GPU_group));
    for (size_t i = 0; group && group->PGPUs && i < group->PGPUs->count; i++) {
        const struct pgpu_row *pgpu = pgpu_row(get(from, CLASS_PGPU, group->PGPUs->items[i]));
        if (pgpu && ref_eq(pgpu->host, host) && ref_set_has(pgpu->enabled_VGPU_types, vgpu->type) &&
            !ref_set_has(taken, pgpu->row.ref) && pgpu_is_free(from, pgpu, vgpu->VM))
            return pgpu;
    }
    return NULL;
}

static int plan_graphics(const struct device_source *from, const struct vm_row *vm, struct ref host,
                         struct domain_config *config, struct api_err *err)
{
    AUTO_REF_SET const struct ref_set *taken = NULL, *cards = ref_set_ref(vm->VGPUs);
    if (!is_empty(cards) && check_iommu(from, host, err) < 0)
        return -1;
    for (size_t i = 0; cards && i < cards->count; i++) {
        const struct vgpu_row *vgpu = vgpu_row(get(from, CLASS_VGPU, cards->items[i]));
        const struct pgpu_row *pgpu = vgpu ? choose(from, vgpu, host, taken) : NULL;
        if (!vgpu)
            continue;
        if (!pgpu)
            return err_vm_requires_gpu(err, REF_TEXT(vm->row.ref), REF_TEXT(vgpu->GPU_group));
        ref_set_assign(&taken, ref_set_with(taken, pgpu->row.ref));
        use_pgpu(from, pgpu, vgpu, vm, config);
    }
    return 0;
}

/* ---- USB ---- */

static const struct pusb_row *choose_usb(const struct device_source *from, const struct vusb_row *vusb,
                                         struct ref host)
{
    const struct usb_group_row *group = usb_group_row(get(from, CLASS_USB_group, vusb->USB_group));
    for (size_t i = 0; group && group->PUSBs && i < group->PUSBs->count; i++) {
        const struct pusb_row *pusb = pusb_row(get(from, CLASS_PUSB, group->PUSBs->items[i]));
        if (pusb && ref_eq(pusb->host, host) && pusb->passthrough_enabled)
            return pusb;
    }
    return NULL;
}

static int plan_usb(const struct device_source *from, const struct vm_row *vm, struct ref host,
                    struct domain_config *config, struct api_err *err)
{
    for (size_t i = 0; vm->VUSBs && i < vm->VUSBs->count; i++) {
        const struct vusb_row *vusb = vusb_row(get(from, CLASS_VUSB, vm->VUSBs->items[i]));
        const struct pusb_row *pusb = vusb ? choose_usb(from, vusb, host) : NULL;
        if (vusb && !pusb)
            return err_vm_requires_vusb(err, REF_TEXT(vm->row.ref), REF_TEXT(vusb->USB_group));
        if (!vusb || !config)
            continue;
        struct domain_usb *usb = domain_config_add_usb(config);
        str_assign(&usb->path, pusb->path);
        str_assign(&usb->vendor_id, pusb->vendor_id);
        str_assign(&usb->product_id, pusb->product_id);
    }
    return 0;
}

bool passthrough_wanted(const struct vm_row *vm)
{
    const char *pci = str_map_get(vm->other_config, "pci");
    return !is_empty(vm->VGPUs) || !is_empty(vm->VUSBs) || (pci && *pci);
}

int plan_passthrough(const struct device_source *from, const struct vm_row *vm, struct ref host,
                     struct domain_config *config, struct api_err *err)
{
    return plan_named(from, vm, host, config, err) < 0 || plan_graphics(from, vm, host, config, err) < 0
               ? -1
               : plan_usb(from, vm, host, config, err);
}

/* ---- rows ---- */

struct of_vm {
    struct tx *tx;
    struct ref vm;
    bool attach;
    const struct ref_set *pcis;
};

static bool collect_pci(const struct row *row, void *arg)
{
    struct of_vm *o = arg;
    if (ref_eq(pci_row(row)->scheduled_to_be_attached_to, o->vm) ||
        ref_set_has(pci_row(row)->attached_VMs, o->vm))
        ref_set_assign(&o->pcis, ref_set_with(o->pcis, row->ref));
    return true;
}

static void settle_pci(struct tx *tx, const struct vm_row *vm, bool attach)
{
    struct of_vm o = {.tx = tx, .vm = vm->row.ref};
    tx_each(tx, CLASS_PCI, collect_pci, &o);
    for (size_t i = 0; o.pcis && i < o.pcis->count; i++) {
        struct pci_row *pci = pci_row_mut(tx_edit(tx, CLASS_PCI, o.pcis->items[i]));
        pci->scheduled_to_be_attached_to = REF_NULL;
        ref_set_assign(&pci->attached_VMs, attach ? ref_set_with(pci->attached_VMs, o.vm)
                                                  : ref_set_without(pci->attached_VMs, o.vm));
    }
    if (o.pcis || !is_empty(vm->attached_PCIs))
        ref_set_assign(&vm_row_mut(tx_edit(tx, CLASS_VM, o.vm))->attached_PCIs,
                       attach ? ref_set_ref(o.pcis) : NULL);
    ref_set_unref(o.pcis);
}

static void settle_graphics(struct tx *tx, const struct vm_row *vm, bool attach)
{
    AUTO_REF_SET const struct ref_set *cards = ref_set_ref(vm->VGPUs);
    for (size_t i = 0; cards && i < cards->count; i++) {
        const struct vgpu_row *vgpu = vgpu_row(tx_get(tx, CLASS_VGPU, cards->items[i]));
        struct ref on = vgpu && attach ? vgpu->scheduled_to_be_resident_on : REF_NULL;
        const struct pgpu_row *pgpu = pgpu_row(tx_get(tx, CLASS_PGPU, on));
        if (!vgpu || (attach && !pgpu) ||
            (!attach && !vgpu->currently_attached && ref_is_null(vgpu->scheduled_to_be_resident_on)))
            continue;
        struct vgpu_row *edit = vgpu_row_mut(tx_edit(tx, CLASS_VGPU, cards->items[i]));
        edit->scheduled_to_be_resident_on = REF_NULL;
        edit->currently_attached = attach;
        edit->resident_on = on;
        edit->PCI = pgpu ? pgpu->PCI : REF_NULL;
    }
}

static void settle_usb(struct tx *tx, const struct vm_row *vm, bool attach)
{
    for (size_t i = 0; vm->VUSBs && i < vm->VUSBs->count; i++) {
        const struct vusb_row *vusb = vusb_row(tx_get(tx, CLASS_VUSB, vm->VUSBs->items[i]));
        if (!vusb || vusb->currently_attached == attach)
            continue;
        struct vusb_row *edit = vusb_row_mut(tx_edit(tx, CLASS_VUSB, vusb->row.ref));
        edit->currently_attached = attach;
        if (!attach)
            str_map_assign(&edit->current_operations, NULL);
    }
}

void passthrough_attach(struct tx *tx, const struct vm_row *vm)
{
    settle_graphics(tx, vm, true);
    settle_pci(tx, vm, true);
    settle_usb(tx, vm, true);
}

void passthrough_detach(struct tx *tx, const struct vm_row *vm)
{
    settle_graphics(tx, vm, false);
    settle_pci(tx, vm, false);
    settle_usb(tx, vm, false);
}
