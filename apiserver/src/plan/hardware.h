/* How a VM boots and what hardware it has, from its row. Pure. Errors are VALUE_NOT_SUPPORTED with the field
 * and key, or UNKNOWN_BOOTLOADER. docs/hardware.md is the list of keys for operators. */
#pragma once
#include <hv/domain.h>
#include <model/error.h>
#include <model/rows.h>

/* Keys of other_config: a kernel of the host that boots once, to install the VM's system, and what it gets.
 * The start that is recorded takes them away. */
#define PLAN_INSTALL_KERNEL "corral:install-kernel"
#define PLAN_INSTALL_RAMDISK "corral:install-ramdisk"
#define PLAN_INSTALL_ARGUMENTS "corral:install-arguments"

int plan_boot(const struct vm_row *vm, struct domain_config *config, struct api_err *err);
/* -1: the VM starts by a kernel (with a ramdisk) of the host, which has none of that name. */
int plan_kernel_missing(const struct vm_row *vm, struct api_err *err);
int plan_ramdisk_missing(const struct vm_row *vm, struct api_err *err);
int plan_hardware(const struct vm_row *vm, struct domain_config *config, struct api_err *err);
/* How all its disks are attached, and what all its nics look like. */
int plan_bus(const struct vm_row *vm, enum disk_bus *bus, struct api_err *err);
int plan_nic_model(const struct vm_row *vm, enum nic_model *model, struct api_err *err);
/* The id that a guest reads, of a VM's generation_id ("<number>:<number>", 64 bits each); false: it has none.
 */
bool plan_generation(const char *generation_id, char out[static UUID_TEXT_SIZE]);
