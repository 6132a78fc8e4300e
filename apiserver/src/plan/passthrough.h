/* Devices of a host that a VM is to have: virtual graphics cards that are whole ones, USB devices, and PCI
 * devices that other_config:pci names. */
#pragma once
#include <db/store.h>
#include <hv/domain.h>
#include <model/error.h>
#include <model/rows.h>

/* Where rows are read: a snapshot, or else a transaction. */
struct device_source {
    const struct snapshot *snap;
    struct tx *tx;
};
/* The VM is to have any. */
bool passthrough_wanted(const struct vm_row *vm);
/* Whether the host has them free: VM_REQUIRES_IOMMU, VM_REQUIRES_GPU, VM_REQUIRES_VUSB, and for
 * other_config:pci VALUE_NOT_SUPPORTED. With a configuration they are added to it, with `tx` they are noted
 * in their rows as the VM's from its start on. */
int plan_passthrough(const struct device_source *from, const struct vm_row *vm, struct ref host,
                     struct domain_config *config, struct api_err *err);
/* What was noted becomes so. */
void passthrough_attach(struct tx *tx, const struct vm_row *vm);
/* The VM has none of them any more, nor is about to. */
void passthrough_detach(struct tx *tx, const struct vm_row *vm);
/* No other VM has it or is about to. */
bool pgpu_is_free(const struct device_source *from, const struct pgpu_row *pgpu, struct ref vm);
